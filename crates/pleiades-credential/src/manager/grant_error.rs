//! Why a call gets no signature, and the error that its caller gets.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::account::Account;
use crate::{connection::Connection, vault::Kind};
use pleiades_core::error::{Code, Error};
use pleiades_core::text::one_line;

/// Names of accounts in a sentence, and characters of each.
const NAMES: usize = 8;
const NAME: usize = 64;
/// Accounts that an answer lists.
const LISTED: usize = 100;
/// Where a call names an account, in the words of the meta tool.
pub(super) const AS_ARGUMENT: &str = "as `accountId`";

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
        /// Those that work, where the call names none and its user chose this one.
        others: Vec<Account>,
    },
    /// Several work, and none is the default.
    Ambiguous {
        /// All of them.
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
            // Also after the last account was revoked, where nobody here remembers it.
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

    /// The error for a caller, without the link that the exchange adds. `naming` says where a call names an
    /// account.
    #[must_use]
    pub fn error(&self, connection: &Connection, naming: &str) -> Error {
        let title = &connection.title;
        match self {
            Self::NotConnected {
                reason,
                wanted,
                accounts,
            } => not_connected(connection, *reason, wanted.as_deref(), accounts),
            Self::Expired {
                account,
                reason,
                cause,
                others,
                ..
            } => expired(connection, account, (*reason, cause.as_deref()), (others, naming)),
            Self::Ambiguous { accounts } => {
                let mut data = json!({ "provider_id": &*connection.provider });
                list(&mut data, accounts);
                let names = names(accounts);
                let message = format!(
                    "several accounts of {title} are connected and none is the default: name one {naming}: {names}"
                );
                Error::new(Code::AccountAmbiguous, message).data(data)
            }
            Self::Unavailable {
                store,
                retry_after,
                cause,
            } => {
                let message = format!("{}; nothing was run", store.caller_message());
                let cause = cause.clone();
                let cause = cause.unwrap_or_else(|| format!("the credential store is {}", store.as_str()));
                let error = Error::new(Code::CredentialStore, message).because(cause);
                error.retry_after(*retry_after)
            }
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

fn expired(
    connection: &Connection,
    account: &str,
    (reason, cause): (Reason, Option<&str>),
    (others, naming): (&[Account], &str),
) -> Error {
    let title = &connection.title;
    let mut detail = reason.sentence().to_owned();
    if let Some(cause) = cause {
        detail = format!("{detail}: {cause}");
    }
    let mut data = json!({
        "provider_id": &*connection.provider,
        "accountId": account,
        "reason": reason.as_str(),
        "detail": detail,
    });
    list(&mut data, others);
    let account = one_line(account, NAME);
    let message = match others {
        [] => format!("the connection of `{account}` to {title} has ended; connect it again"),
        others => format!(
            "the connection of `{account}` to {title} has ended, which is the account of calls that name none; \
                 connect it again, or name another {naming}: {}",
            names(others)
        ),
    };
    Error::new(Code::TokenExpired, message).data(data)
}

fn not_connected(
    connection: &Connection,
    reason: Reason,
    wanted: Option<&str>,
    accounts: &[Account],
) -> Error {
    let mut data = json!({ "provider_id": &*connection.provider, "reason": reason.as_str() });
    let wanted = wanted.map(|it| one_line(it, NAME));
    if wanted.is_some() && reason == Reason::NeverConnected && !accounts.is_empty() {
        let detail = format!(
            "there is no account of that name; connected are {}",
            names(accounts)
        );
        insert(&mut data, "detail", json!(detail));
    }
    list(&mut data, accounts);
    let title = &connection.title;
    let message = match wanted {
        Some(wanted) => format!("{title} is not connected under the name `{wanted}`"),
        None => format!("{title} is not connected"),
    };
    Error::new(Code::NeedsAuth, message).data(data)
}

/// Names of accounts in a sentence: those that work, so many at most, each so long at most.
fn names(accounts: &[Account]) -> String {
    let works: Vec<&Account> = accounts.iter().filter(|it| it.state.works()).collect();
    let shown = if works.is_empty() {
        accounts.iter().collect()
    } else {
        works
    };
    let mut text = shown
        .iter()
        .take(NAMES)
        .map(|it| format!("`{}`", one_line(&it.id, NAME)))
        .collect::<Vec<_>>()
        .join(", ");
    if let Some(more @ 1..) = shown.len().checked_sub(NAMES) {
        write!(text, " and {more} more").ok();
    }
    text
}

/// Puts accounts into the data of an error, where there are some: so many at most.
fn list(data: &mut Value, accounts: &[Account]) {
    let works = |it: &&Account| it.state.works();
    let ordered = accounts
        .iter()
        .filter(works)
        .chain(accounts.iter().filter(|it| !works(it)));
    let listed: Vec<Value> = ordered.take(LISTED).map(Account::to_json).collect();
    if !listed.is_empty() {
        insert(data, "accounts", json!(listed));
    }
}

fn insert(data: &mut Value, name: &str, value: Value) {
    if let Some(data) = data.as_object_mut() {
        data.insert(name.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::AccountState;

    fn account(id: &str, state: AccountState) -> Account {
        Account {
            id: id.into(),
            label: None,
            state,
            reason: None,
            is_default: false,
            expires_at: None,
            requested: Vec::new(),
            granted: None,
        }
    }

    #[test]
    fn a_sentence_names_the_accounts_that_work_so_many_and_so_long_at_most() {
        let two = [
            account("ann@example.com", AccountState::Ok),
            account("gone", AccountState::NeedsReauth),
            account("bob@example.com", AccountState::Expiring),
        ];
        assert_eq!(names(&two), "`ann@example.com`, `bob@example.com`");
        let many: Vec<Account> = (0..1_000)
            .map(|at| account(&format!("{at}{}", "x".repeat(500)), AccountState::Ok))
            .collect();
        let text = names(&many);
        assert!(
            text.chars().count() < 800 && text.ends_with(" and 992 more"),
            "{text}"
        );
        let mut data = json!({});
        list(&mut data, &many);
        assert_eq!(data["accounts"].as_array().unwrap().len(), LISTED);
    }
}
