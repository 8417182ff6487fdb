//! Why a call gets no signature, and the error that its caller gets.

use std::{sync::Arc, time::Duration};

use serde_json::json;

use super::account::Account;
use crate::{connection::Connection, vault::Kind};
use pleiades_core::error::{Code, Error};

/// Why a call gets no signature.
#[derive(Debug)]
pub enum GrantError {
    /// Never connected under this name, or to be connected again.
    NotConnected {
        /// The reason.
        reason: Reason,
        /// The name that the call gave.
        wanted: Option<String>,
        /// The accounts that are connected.
        accounts: Vec<Account>,
    },
    /// Was connected; refresh failed for good.
    Expired {
        /// Its id.
        account: Arc<str>,
        /// The reason.
        reason: Reason,
        /// The message of the authorization server, in a sentence without a full stop.
        cause: Option<String>,
        /// The account as it is: another one after it was connected again.
        fingerprint: Option<[u8; 32]>,
    },
    /// Several and no default.
    Ambiguous {
        /// Its id.
        accounts: Vec<Account>,
    },
    /// The store cannot be reached or says no, and nothing valid is in memory.
    Unavailable {
        /// The kind of fault.
        store: Kind,
        /// When to try again.
        retry_after: Duration,
        /// What the store says, for the operator.
        cause: Option<String>,
    },
    /// A refresh is under way elsewhere, or its server cannot be reached.
    Waiting {
        /// When to try again.
        retry_after: Duration,
        /// Why the last attempt failed, where one did.
        cause: Option<Arc<str>>,
    },
}

/// Why an account has to be connected, each with a sentence; several are the same `reason` of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Never connected.
    NeverConnected,
    /// Revoked.
    Revoked,
    /// Refused by the provider.
    Refused,
    /// Its renewal is refused, and nobody knows whether for good.
    Unrenewed,
    /// Its access token ended, and the provider gave nothing to renew it with.
    NoRefresh,
    /// The provider does not take the tokens that were just given.
    Unaccepted,
    /// A renewal was interrupted.
    Interrupted,
    /// More rights are needed.
    Scopes,
}

impl Reason {
    /// All of them; of those with one name the usual one first.
    pub const ALL: [Self; 8] = [
        Self::NeverConnected,
        Self::Revoked,
        Self::Refused,
        Self::Unrenewed,
        Self::NoRefresh,
        Self::Unaccepted,
        Self::Interrupted,
        Self::Scopes,
    ];

    /// The stable name: `reason` of answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NeverConnected => "never_connected",
            Self::Revoked => "revoked",
            Self::Refused | Self::Unrenewed | Self::NoRefresh | Self::Unaccepted => "refused",
            Self::Interrupted => "interrupted",
            Self::Scopes => "scopes",
        }
    }

    /// The sentence: lowercase, no full stop.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            // Also after the last account was revoked: nothing is kept of it.
            Self::NeverConnected => "no account of yours is connected",
            Self::Revoked => "the connection was revoked",
            Self::Refused => "the provider ended the connection",
            Self::Unrenewed => "the connection cannot be renewed",
            Self::NoRefresh => {
                "the access token has ended, and the provider gave no refresh token to renew it with"
            }
            Self::Unaccepted => {
                "the provider does not take the tokens that were just given for it: they may be for another \
                 audience (`resource` and `audience` in the descriptor)"
            }
            Self::Interrupted => "renewing the connection was interrupted",
            Self::Scopes => "more rights are needed",
        }
    }
}

impl GrantError {
    /// Whether it says nothing of the account, only that nothing newer is to be had now.
    pub(crate) const fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Waiting { .. })
    }

    /// The error for a caller, without the link that the exchange adds.
    #[must_use]
    pub fn error(&self, connection: &Connection) -> Error {
        let (title, id) = (&connection.title, &connection.provider);
        let listed = |accounts: &[Account]| accounts.iter().map(Account::to_json).collect::<Vec<_>>();
        match self {
            Self::NotConnected { reason, wanted, accounts } => {
                let name = wanted.as_deref().map_or_else(String::new, |it| format!(" under the name `{it}`"));
                let mut data = json!({ "provider_id": &**id, "reason": reason.as_str() });
                if let (Some(data), false) = (data.as_object_mut(), accounts.is_empty()) {
                    data.insert("accounts".to_owned(), json!(listed(accounts)));
                    if *reason == Reason::NeverConnected {
                        data.insert("detail".to_owned(), json!("no account of yours has this name"));
                    }
                }
                Error::new(Code::NeedsAuth, format!("{title} is not connected{name}")).data(data)
            }
            Self::Expired { account, reason, cause, .. } => {
                let mut detail = reason.sentence().to_owned();
                if let Some(cause) = cause {
                    detail = format!("{detail}: {cause}");
                }
                Error::new(
                    Code::TokenExpired,
                    format!("the connection of `{account}` to {title} has ended; connect it again"),
                )
                .data(json!({ "provider_id": &**id, "accountId": &**account, "reason": reason.as_str(), "detail": detail }))
            }
            Self::Ambiguous { accounts } => Error::new(
                Code::AccountAmbiguous,
                format!("several accounts of {title} are connected and none is the default: name one as `accountId`"),
            )
            .data(json!({ "provider_id": &**id, "accounts": listed(accounts) })),
            Self::Unavailable { store, retry_after, cause } => Error::new(
                Code::CredentialStore,
                format!("{}; nothing was run", store.caller_message()),
            )
            .retry_after(*retry_after)
            .because(cause.clone().unwrap_or_else(|| format!("the credential store is {}", store.as_str()))),
            Self::Waiting { retry_after, cause } => {
                let message = match cause {
                    Some(cause) => format!(
                        "the credential of {title} could not be renewed just now, and it is tried again: {cause}; nothing was run"
                    ),
                    None => format!("the credential of {title} is being renewed; nothing was run"),
                };
                Error::new(Code::CredentialTimeout, message).retry_after(*retry_after)
            }
        }
    }
}
