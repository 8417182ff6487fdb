//! What is said to a caller whose account is missing, has ended or may not do something: why, and
//! where to connect (contracts section 7).

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::accounts::Reached;
use super::{Exchange, Step};
use crate::catalog::Provider;
use pleiades_core::error::{Code, Error};
use pleiades_credential::access::Principal;
use pleiades_credential::broker::ConnectionRequest;
use pleiades_credential::manager::{GrantError, GrantedAccount, MissingScopes, Reason};
use pleiades_credential::oauth::{self, RefusalCause, challenge};
use pleiades_credential::{AccountKey, AccountOwner, Connection, ProviderAuth};

/// Said where no further authorization is asked for.
const SPENT: &str = "it was connected again for this, which did not help, so no further link is given: whoever \
                     runs the gateway has to compare `resource`, `audience` and `scopes` of the descriptor with what \
                     the provider expects";

/// The sentence for why an account has to be connected: what is known exactly, else the one of the
/// reason.
pub(super) fn sentence<'a>(detail: Option<&'a str>, reason: &str) -> &'a str {
    let known = || Reason::ALL.into_iter().find(|it| it.as_str() == reason);
    detail.unwrap_or_else(|| known().unwrap_or(Reason::NeverConnected).sentence())
}

/// A provider's words without those that are as long as tokens are: it may repeat the one that it was sent.
fn spare(text: &str) -> String {
    /// Longer words are few, and codes rather.
    const WORD: usize = 24;
    let words = text.split(' ').map(|word| match word.chars().count() > WORD {
        true => "…",
        false => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

impl Exchange {
    /// The error for a caller without a usable account, with a way to connect where that helps.
    pub(crate) fn unconnected(
        &self,
        principal: &Principal,
        connection: &Connection,
        refused: &GrantError,
        (wanted, operation): (Option<&str>, &str),
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
            GrantError::NotConnected { .. } => self.invite(principal, connection, error, (wanted, &[])),
            GrantError::Expired {
                account, fingerprint, ..
            } => {
                let used = Used {
                    account,
                    fingerprint: *fingerprint,
                    operation,
                };
                self.asked(principal, connection, used, error)
            }
            GrantError::Ambiguous { .. } | GrantError::Unavailable { .. } | GrantError::Waiting { .. } => {
                error
            }
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
            &ConnectionRequest {
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
        let detail = data.get("detail").and_then(Value::as_str);
        let failed = self
            .accounts
            .broker
            .last_failure(principal, &connection.provider)
            .map_or_else(String::new, |why| format!(". The last attempt failed: {why}"));
        error.message = format!(
            "{}: {}{failed}. To connect {} to {}, open {url} and make the same call again; nothing was run",
            error.message,
            sentence(detail, &reason),
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

    /// What an upstream's refusal of an account means: its token is not taken, or may not do this; the
    /// challenge's word decides (RFC 6750 section 3.1), then the status. Other errors, and those of other
    /// kinds of credentials, stay.
    pub(crate) async fn judged(
        &self,
        principal: &Principal,
        provider: &Provider,
        used: Used<'_>,
        error: Error,
    ) -> Error {
        let ProviderAuth::OAuth(connection) = &provider.need else {
            return error;
        };
        self.note_refused(principal, connection, used, &error);
        match error.code {
            Code::NeedsAuth | Code::TokenExpired => self.asked(principal, connection, used, error),
            Code::UpstreamAuth => {
                let said = error.refusal.as_deref();
                let said =
                    said.map_or_else(Default::default, |(status, it)| challenge(*status, it.as_deref()));
                match said.cause() {
                    // Without a status it is the keeper that knows of a refusal.
                    RefusalCause::Other if said.status != 0 => {
                        let mut incapable = incapable(connection, used.account, &[], &[]);
                        incapable.sent = error.sent;
                        incapable.because(error)
                    }
                    RefusalCause::Scope => {
                        let scopes = said.scopes.unwrap_or_default();
                        self.step_up(principal, connection, used, (scopes, error)).await
                    }
                    RefusalCause::Token | RefusalCause::Other => {
                        let ended = ended(connection, used.account).because(error);
                        self.asked(principal, connection, used, ended)
                    }
                }
            }
            _ => error,
        }
    }

    /// Says to the operator, once for each token and operation, what an upstream said to a token that its
    /// authorization server had given: the caller's link alone does not mend that.
    fn note_refused(&self, principal: &Principal, connection: &Connection, used: Used<'_>, error: &Error) {
        let Some((status, header)) = error.refusal.as_deref() else {
            return;
        };
        let said = challenge(*status, header.as_deref());
        let is_known = self
            .tries
            .is_counted(&key(principal, connection, used.account), used);
        if said.cause() != RefusalCause::Token || is_known {
            return;
        }
        tracing::warn!(
            provider.name = &*connection.provider,
            principal.tenant = &*principal.tenant,
            principal.user = &*principal.user,
            account.id = &**used.account,
            http.status = said.status,
            error = said.error.as_deref().and_then(oauth::plain),
            description = said
                .description
                .as_deref()
                .and_then(oauth::plain)
                .as_deref()
                .map(spare),
            cure = "if it goes on with new tokens, compare `resource`, `audience` and `scopes` with what the provider expects",
            "the provider refuses the token of an account"
        );
    }

    /// Counts that an account did not do, and adds a way to connect it again unless that was done often
    /// enough.
    fn asked(&self, principal: &Principal, connection: &Connection, used: Used<'_>, error: Error) -> Error {
        let key = key(principal, connection, used.account);
        match self.tries.refused(&key, used) {
            true => self.invite(principal, connection, error, (Some(used.account), &[])),
            false => spent(error),
        }
    }

    /// Asking for more rights helps only where they were not asked for before, and not without end.
    async fn step_up(
        &self,
        principal: &Principal,
        connection: &Connection,
        used: Used<'_>,
        (scopes, error): (Vec<String>, Error),
    ) -> Error {
        let key = key(principal, connection, used.account);
        let missing = match self.accounts.manager.missing_scopes(&key, &scopes).await {
            Ok(missing) => missing,
            Err(fault) => {
                tracing::debug!(provider.name = %connection.provider, cause = %fault, "missing scopes could not be looked up");
                MissingScopes {
                    scopes: scopes.clone(),
                    is_new: false,
                }
            }
        };
        let mut incapable = incapable(connection, used.account, &scopes, &missing.scopes);
        incapable.sent = error.sent;
        let mut incapable = incapable.because(error);
        let may_ask = self.tries.refused(&key, used);
        match (missing.is_new, may_ask) {
            (true, true) => {
                let scopes = (Some(&**used.account), &*missing.scopes);
                return self.invite(principal, connection, incapable, scopes);
            }
            (true, false) => return spent(incapable),
            (false, _) if !missing.scopes.is_empty() => {
                incapable.message = format!(
                    "{}; they were asked for before and the provider did not grant them",
                    incapable.message
                )
                .into();
            }
            (false, _) => {}
        }
        incapable
    }

    /// An operation of an account succeeded.
    pub(crate) fn took(&self, principal: &Principal, provider: &Provider, used: Used<'_>) {
        if self.tries.is_empty() {
            return;
        }
        if let ProviderAuth::OAuth(connection) = &provider.need {
            let key = key(principal, connection, used.account);
            self.tries.succeeded(&key, used.operation);
        }
    }
}

fn key(principal: &Principal, connection: &Connection, account: &Arc<str>) -> AccountKey {
    AccountKey {
        owner: AccountOwner {
            tenant: Arc::clone(&principal.tenant),
            user: Arc::clone(&principal.user),
            connection: Arc::clone(&connection.name),
        },
        account: Arc::clone(account),
    }
}

/// An error as it is where connecting again did not help: why, and no link.
fn spent(mut error: Error) -> Error {
    let detail = error
        .data
        .as_ref()
        .and_then(|data| data.get("detail"))
        .and_then(Value::as_str);
    let detail = detail.map_or_else(String::new, |detail| format!("{detail}; "));
    error.message = format!("{}: {detail}{SPENT}", error.message).into();
    error
}

/// The provider refuses the tokens of an account, also those that were had for that.
fn ended(connection: &Connection, account: &str) -> Error {
    let title = &connection.title;
    let reason = Reason::Unaccepted;
    Error::new(
        Code::TokenExpired,
        format!("{title} does not take the connection of `{account}`"),
    )
    .data(json!({
        "provider_id": &*connection.provider,
        "accountId": account,
        "reason": reason.as_str(),
        "detail": reason.sentence(),
    }))
}

/// The provider refuses this to the account: `wanted` are the scopes that it names, `missing` those of
/// them that the account lacks.
fn incapable(connection: &Connection, account: &str, wanted: &[String], missing: &[String]) -> Error {
    let title = &connection.title;
    let rights = match (wanted, missing) {
        ([], _) => String::new(),
        (_, []) => format!(
            "; it names the scopes {}, which the account has",
            wanted.join(", ")
        ),
        _ => format!("; it wants the scopes {}", missing.join(", ")),
    };
    Error::new(
        Code::CapabilityMiss,
        format!("{title} refuses this to the account `{account}`{rights}"),
    )
    .data(json!({
        "provider_id": &*connection.provider,
        "accountId": account,
        "reason": Reason::Scopes.as_str(),
        "missing_scopes": missing,
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

impl Step<'_> {
    /// The error for this caller without a usable account.
    pub(super) fn unconnected(
        &self,
        connection: &Connection,
        refused: &GrantError,
        wanted: Option<&str>,
    ) -> Error {
        let principal = &self.peer.principal;
        let operation = self.operation();
        self.exchange
            .unconnected(principal, connection, refused, (wanted, operation))
    }

    /// What is to be done, as far as it is known yet.
    fn operation(&self) -> &str {
        self.record.tool.as_deref().unwrap_or(&self.record.method)
    }

    /// What an account was used for succeeded.
    pub(super) fn took(&self, provider: &Provider, reached: &Reached) {
        let Some(account) = reached
            .account
            .as_ref()
            .filter(|_| !self.exchange.tries.is_empty())
        else {
            return;
        };
        // Its lists were read on the way, under the method's name.
        for operation in [self.operation(), &self.record.method] {
            let used = Used {
                account,
                fingerprint: reached.behalf.signature.account,
                operation,
            };
            self.exchange.took(&self.peer.principal, provider, used);
        }
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
            operation: self.operation(),
        };
        let principal = &self.peer.principal;
        self.exchange.judged(principal, provider, used, error).await
    }

    /// The error for an account that did not do and was not connected again.
    pub(super) fn unchanged(&self, connection: &Connection, granted: &GrantedAccount) -> Error {
        let (principal, account) = (&self.peer.principal, &granted.account);
        if let Some(fingerprint) = granted.signature.account {
            self.insufficient.set(fingerprint).ok();
        }
        let scopes = self.waiting.as_ref().map_or(&[][..], |waiting| &waiting.scopes);
        let error = match scopes.is_empty() {
            true => ended(connection, account),
            false => incapable(connection, account, scopes, scopes),
        };
        let key = key(principal, connection, account);
        if self.exchange.tries.is_spent(&key, self.operation()) {
            return spent(error);
        }
        self.exchange
            .invite(principal, connection, error, (Some(account), scopes))
    }
}
