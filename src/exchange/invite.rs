//! What is said to a caller whose account is missing, has ended or may not do something: why, and
//! where to connect (contracts section 7).

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use super::accounts::Reached;
use super::{Exchange, Step};
use crate::access::Principal;
use crate::catalog::Provider;
use crate::credential::broker::{Broker, Wish};
use crate::credential::keeper::{Granted, Reason, Refused};
use crate::credential::oauth::challenge;
use crate::credential::{Connection, Key, Need, Owner};
use crate::error::{Code, Error};

/// Authorizations that are asked for per account and operation.
const AUTHORIZATIONS: u8 = 3;
/// Operations whose authorizations are counted; then counting begins anew.
const MOST_TRIED: usize = 16_384;

/// The sentence for a reason, as an error names it.
pub(super) fn sentence(reason: &str) -> &'static str {
    let all = [
        Reason::NeverConnected,
        Reason::Revoked,
        Reason::Refused,
        Reason::Interrupted,
        Reason::Scopes,
    ];
    let known = all.into_iter().find(|it| it.as_str() == reason);
    Broker::sentence(known.unwrap_or(Reason::NeverConnected))
}

impl Exchange {
    /// The error for a caller without a usable account, with a way to connect where that helps.
    pub(crate) fn unconnected(
        &self,
        principal: &Principal,
        connection: &Connection,
        refused: &Refused,
        wanted: Option<&str>,
    ) -> Error {
        let mut error = refused.error(connection);
        if let Some(accounts) = error.data.as_mut().and_then(|data| data.get_mut("accounts")) {
            for account in accounts.as_array_mut().into_iter().flatten() {
                if let Some(account) = account.as_object_mut() {
                    account.insert("provider".to_owned(), json!(&*connection.provider));
                }
            }
        }
        match refused {
            Refused::NotConnected { .. } => self.invite(principal, connection, error, (wanted, &[])),
            Refused::Expired { account, .. } => {
                self.invite(principal, connection, error, (Some(account), &[]))
            }
            Refused::Ambiguous { .. } | Refused::Unavailable { .. } | Refused::Waiting { .. } => error,
        }
    }

    /// Adds a way to connect to an error: under which name, and with which scopes beside the usual.
    /// One that has a way already keeps it.
    pub(crate) fn invite(
        &self,
        principal: &Principal,
        connection: &Connection,
        mut error: Error,
        (account, scopes): (Option<&str>, &[String]),
    ) -> Error {
        let mut data = match error.data.take() {
            Some(Value::Object(data)) => data,
            _ => Map::new(),
        };
        if data.contains_key("connect_url") {
            error.data = Some(Value::Object(data));
            return error;
        }
        let reason = data.get("reason").and_then(Value::as_str);
        let reason = reason.unwrap_or(Reason::Refused.as_str()).to_owned();
        let link = self.accounts.broker.link(
            principal,
            &Wish {
                provider: connection.provider.to_string(),
                account: account.map(str::to_owned),
                scopes: scopes.to_vec(),
                reason: reason.clone(),
            },
        );
        let url = connection
            .connect_url
            .as_ref()
            .map_or(link.url, ToString::to_string);
        error.message = format!(
            "{}: {}. To connect {} to {}, open {url} and make the same call again; nothing was run",
            error.message,
            sentence(&reason),
            connection.title,
            self.name
        )
        .into();
        data.insert("provider_id".to_owned(), json!(&*connection.provider));
        data.insert("reason".to_owned(), json!(reason));
        data.insert("connect_url".to_owned(), json!(url));
        data.insert("connection_id".to_owned(), json!(link.id));
        if let Some(scopes) = link.scopes.filter(|scopes| !scopes.is_empty()) {
            data.insert("scopes".to_owned(), json!(scopes));
        }
        error.data = Some(Value::Object(data));
        error
    }

    /// What an upstream's refusal of an account means: it has ended (401), or may not do this (403,
    /// RFC 6750 section 3.1). Other errors, and those of other kinds of credentials, stay.
    pub(crate) async fn judged(
        &self,
        principal: &Principal,
        provider: &Provider,
        used: Used<'_>,
        error: Error,
    ) -> Error {
        let Need::OAuth(connection) = &provider.need else {
            return error;
        };
        match error.code {
            Code::NeedsAuth | Code::TokenExpired => {
                self.invite(principal, connection, error, (Some(used.account), &[]))
            }
            Code::UpstreamAuth => match error.refusal.as_deref() {
                Some((403, header)) => {
                    let challenge = challenge(403, header.as_deref());
                    let scopes = challenge.scopes.unwrap_or_default();
                    let mut incapable = incapable(connection, used.account, &scopes);
                    incapable.sent = error.sent;
                    let incapable = incapable.because(error);
                    self.step_up(principal, connection, used, (scopes, incapable))
                        .await
                }
                _ => self.ended(principal, connection, used.account, Some(error)),
            },
            _ => error,
        }
    }

    /// The provider refuses the account, and renewing it did not help.
    fn ended(
        &self,
        principal: &Principal,
        connection: &Connection,
        account: &str,
        cause: Option<Error>,
    ) -> Error {
        let title = &connection.title;
        let mut error = Error::new(
            Code::TokenExpired,
            format!("{title} does not take the connection of `{account}` any more"),
        )
        .data(json!({ "accountId": account, "reason": Reason::Refused.as_str() }));
        if let Some(cause) = cause {
            error = error.because(cause);
        }
        self.invite(principal, connection, error, (Some(account), &[]))
    }

    /// Asking for more rights helps only where they were not asked for before, and not without end.
    async fn step_up(
        &self,
        principal: &Principal,
        connection: &Connection,
        used: Used<'_>,
        (scopes, error): (Vec<String>, Error),
    ) -> Error {
        if scopes.is_empty() {
            return error;
        }
        let key = Key {
            owner: Owner {
                tenant: Arc::clone(&principal.tenant),
                user: Arc::clone(&principal.user),
                connection: Arc::clone(&connection.name),
            },
            account: Arc::clone(used.account),
        };
        match self.accounts.keeper.missing_scopes(&key, &scopes).await {
            Ok(true) if self.tries.again(&key, used) => {
                self.invite(principal, connection, error, (Some(used.account), &scopes))
            }
            Ok(_) => error,
            Err(fault) => {
                tracing::debug!(provider.name = %connection.provider, cause = %fault, "missing scopes could not be noted");
                error
            }
        }
    }
}

/// The provider refuses this to the account.
fn incapable(connection: &Connection, account: &str, scopes: &[String]) -> Error {
    let title = &connection.title;
    let rights = match scopes.is_empty() {
        true => String::new(),
        false => format!("; it wants the scopes {}", scopes.join(", ")),
    };
    Error::new(
        Code::CapabilityMiss,
        format!("{title} refuses this to the account `{account}`{rights}"),
    )
    .data(json!({
        "provider_id": &*connection.provider,
        "accountId": account,
        "reason": Reason::Scopes.as_str(),
        "missing_scopes": scopes,
    }))
}

/// What a refused request used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used<'a> {
    /// The account.
    pub(crate) account: &'a Arc<str>,
    /// Its fingerprint: another one after it was connected again.
    pub(crate) fingerprint: Option<[u8; 32]>,
    /// What was to be done.
    pub(crate) operation: &'a str,
}

/// Authorizations for one operation of one account that were asked for.
#[derive(Debug, Default)]
pub(super) struct Tries(Mutex<HashMap<(Key, Box<str>), Tried>>);

#[derive(Debug, Default)]
struct Tried {
    count: u8,
    /// The account as it was the last time.
    was: Option<[u8; 32]>,
}

impl Tries {
    /// Whether a person may be asked for more rights: not a fourth time for the same operation.
    fn again(&self, key: &Key, used: Used<'_>) -> bool {
        let mut tried = self.0.lock();
        if tried.len() >= MOST_TRIED {
            tried.clear();
        }
        let tried = tried.entry((key.clone(), used.operation.into())).or_default();
        if tried.count == 0 || tried.was != used.fingerprint {
            tried.count = tried.count.saturating_add(1);
            tried.was = used.fingerprint;
        }
        tried.count <= AUTHORIZATIONS
    }
}

impl Step<'_> {
    /// The error for this caller without a usable account.
    pub(super) fn unconnected(
        &self,
        connection: &Connection,
        refused: &Refused,
        wanted: Option<&str>,
    ) -> Error {
        let principal = &self.peer.principal;
        self.exchange.unconnected(principal, connection, refused, wanted)
    }

    /// What an upstream's refusal of the account means that a request used.
    pub(super) async fn judged(&self, provider: &Provider, reached: &Reached, error: Error) -> Error {
        let auth = matches!(
            error.code,
            Code::UpstreamAuth | Code::NeedsAuth | Code::TokenExpired
        );
        let Some(account) = reached.account.as_ref().filter(|_| auth) else {
            return error;
        };
        let fingerprint = reached.behalf.signature.account;
        if let Some(fingerprint) = fingerprint {
            self.insufficient.set(fingerprint).ok();
        }
        let used = Used {
            account,
            fingerprint,
            operation: self.record.tool.as_deref().unwrap_or(&self.record.method),
        };
        let principal = &self.peer.principal;
        self.exchange.judged(principal, provider, used, error).await
    }

    /// The error for an account that did not do and was not connected again.
    pub(super) fn unchanged(&self, connection: &Connection, granted: &Granted) -> Error {
        let (principal, account) = (&self.peer.principal, &granted.account);
        if let Some(fingerprint) = granted.signature.account {
            self.insufficient.set(fingerprint).ok();
        }
        let scopes = self.waiting.as_ref().map_or(&[][..], |waiting| &waiting.scopes);
        if scopes.is_empty() {
            return self.exchange.ended(principal, connection, account, None);
        }
        let error = incapable(connection, account, scopes);
        self.exchange
            .invite(principal, connection, error, (Some(account), scopes))
    }
}
