//! What is said to a caller whose account is missing, has ended or may not do something: why, and
//! where to connect.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::Accounts;
use super::attempts::UsedAccount;
use crate::catalog::Provider;
use pleiades_core::error::{Code, Error};
use pleiades_core::telemetry::View;
use pleiades_core::text::without_tokens;
use pleiades_credential::access::Principal;
use pleiades_credential::broker::ConnectionRequest;
use pleiades_credential::manager::{GrantError, MissingScopes, Reason};
use pleiades_credential::oauth::{self, RefusalCause, challenge};
use pleiades_credential::{AccountKey, AccountOwner, Connection, MissingKey, ProviderAuth};

/// Where no further authorization is asked for.
const SPENT: &str = "it was connected again for this, which did not help, so no further link is given: whoever \
                     runs the gateway has to compare `resource`, `audience` and `scopes` of the descriptor with what \
                     the provider expects";

/// The sentence for why an account has to be connected: what is known exactly, else the one of the
/// reason.
pub(super) fn sentence<'a>(detail: Option<&'a str>, reason: &str) -> &'a str {
    let known = || Reason::ALL.into_iter().find(|it| it.as_str() == reason);
    detail.unwrap_or_else(|| known().unwrap_or(Reason::NeverConnected).sentence())
}

/// Where a caller of a tool view names an account: a command has an option for it.
pub const NAMED_IN_TOOL_VIEW: &str =
    "in the header `Pleiades-Account`, or as `pleiades/accountId` in the call's `_meta`";

/// Where a caller names an account, for a sentence with "name one".
const fn naming(view: View) -> &'static str {
    match view {
        View::Meta => "as `accountId`",
        View::Tool => NAMED_IN_TOOL_VIEW,
        View::Relay => "in the header `Pleiades-Account`",
    }
}

/// What a call wants an account for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AccountPurpose<'a> {
    /// The account that it names.
    pub(crate) wanted: Option<&'a str>,
    /// What is to be done.
    pub(crate) operation: &'a str,
    /// The view through which it came, which says how the next one names an account.
    pub(crate) view: View,
}

impl Accounts {
    /// The error for a caller without a usable account, with a way to connect where that helps.
    pub(crate) async fn unconnected(
        &self,
        principal: &Principal,
        connection: &Connection,
        refused: &GrantError,
        purpose: AccountPurpose<'_>,
    ) -> Error {
        let mut error = refused.error(connection, naming(purpose.view));
        if let Some(accounts) = error.data.as_mut().and_then(|data| data.get_mut("accounts")) {
            for account in accounts.as_array_mut().into_iter().flatten() {
                if let Some(account) = account.as_object_mut() {
                    account.insert("provider".to_owned(), json!(&*connection.provider));
                }
            }
        }
        match refused {
            GrantError::NotConnected { .. } => {
                self.invite(principal, connection, error, (purpose.wanted, &[]))
                    .await
            }
            GrantError::Expired {
                account, fingerprint, ..
            } => {
                let used = UsedAccount {
                    account,
                    fingerprint: *fingerprint,
                    operation: purpose.operation,
                };
                self.count_refused(principal, connection, used, error).await
            }
            GrantError::Ambiguous { .. } | GrantError::Unavailable { .. } | GrantError::Waiting { .. } => {
                error
            }
        }
    }

    /// Adds a way to connect to an error: under which name, and with which scopes beside the usual.
    /// One that has a way already keeps it.
    pub(crate) async fn invite(
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
        if data.contains_key("connect_url") || data.contains_key("connect_command") {
            error.data = Some(Value::Object(data));
            return error;
        }
        let reason = data.get("reason").and_then(Value::as_str);
        let reason = reason.unwrap_or(Reason::Refused.as_str()).to_owned();
        let request = ConnectionRequest {
            provider: connection.provider.to_string(),
            account: account.map(str::to_owned),
            scopes: scopes.to_vec(),
            reason: reason.clone(),
        };
        let link = self.broker.link(principal, &request);
        let command = match connection.connect_url {
            Some(_) => None,
            None => self.command_for(principal, &request, &link.url).await,
        };
        let how = match &command {
            Some(command) => format!("run `{command}` in a terminal"),
            None => format!("open {}", link.url),
        };
        let detail = data.get("detail").and_then(Value::as_str);
        let failed = self
            .broker
            .last_failure(principal, &connection.provider, account)
            .map_or_else(String::new, |why| format!(". The last attempt failed: {why}"));
        if error.source.is_none() {
            // The message has a link, which no log shows.
            let cause = format!("{}: {}{failed}", error.message, sentence(detail, &reason));
            error = error.because(cause);
        }
        error.message = format!(
            "{}: {}{failed}. To connect {} to {}, {how} and make the same call again; nothing was run",
            error.message,
            sentence(detail, &reason),
            connection.title,
            self.name
        )
        .into();
        data.insert("provider_id".to_owned(), json!(&*connection.provider));
        data.insert("reason".to_owned(), json!(reason));
        match command {
            Some(command) => data.insert("connect_command".to_owned(), json!(command)),
            None => data.insert("connect_url".to_owned(), json!(link.url)),
        };
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
        used: UsedAccount<'_>,
        error: Error,
    ) -> Error {
        let ProviderAuth::OAuth(connection) = &provider.need else {
            return error;
        };
        self.note_refused(principal, connection, used, &error);
        match error.code {
            Code::NeedsAuth | Code::TokenExpired => {
                self.count_refused(principal, connection, used, error).await
            }
            Code::UpstreamAuth => {
                let refusal = error.refusal.as_deref();
                let refusal = refusal.map(|(status, it)| challenge(*status, it.as_deref()));
                let refusal = refusal.unwrap_or_default();
                match refusal.cause() {
                    // Without a status it is the manager that knows of a refusal.
                    RefusalCause::Other if refusal.status != 0 => {
                        let mut incapable = incapable(connection, used.account, &[], &[]);
                        incapable.sent = error.sent;
                        incapable.because(error)
                    }
                    RefusalCause::Scope => {
                        let scopes = refusal.scopes.unwrap_or_default();
                        self.step_up(principal, connection, used, (scopes, error)).await
                    }
                    RefusalCause::Token | RefusalCause::Other => {
                        let ended = ended(connection, used.account).because(error);
                        self.count_refused(principal, connection, used, ended).await
                    }
                }
            }
            _ => error,
        }
    }

    /// Says to the operator, once for each token and operation, what an upstream said to a token that its
    /// authorization server had given: the caller's link alone does not mend that.
    fn note_refused(
        &self,
        principal: &Principal,
        connection: &Connection,
        used: UsedAccount<'_>,
        error: &Error,
    ) {
        let Some((status, header)) = error.refusal.as_deref() else {
            return;
        };
        let refusal = challenge(*status, header.as_deref());
        let is_known = self
            .attempts
            .is_counted(&key(principal, connection, used.account), used);
        if refusal.cause() != RefusalCause::Token || is_known {
            return;
        }
        tracing::warn!(
            provider.name = &*connection.provider,
            principal.tenant = &*principal.tenant,
            principal.user = &*principal.user,
            account.id = &**used.account,
            outcome = error.code.as_str(),
            http.status = refusal.status,
            error = refusal.error.as_deref().and_then(oauth::plain),
            description = refusal
                .description
                .as_deref()
                .and_then(oauth::plain)
                .as_deref()
                .map(without_tokens),
            cure = "if it goes on with new tokens, compare `resource`, `audience` and `scopes` with what the provider expects",
            "the provider refuses the token of an account"
        );
    }

    /// Counts that an account did not do, and adds a way to connect it again unless that was done often
    /// enough.
    async fn count_refused(
        &self,
        principal: &Principal,
        connection: &Connection,
        used: UsedAccount<'_>,
        error: Error,
    ) -> Error {
        let key = key(principal, connection, used.account);
        match self.attempts.refused(&key, used) {
            true => {
                let account = (Some(&**used.account), &[][..]);
                self.invite(principal, connection, error, account).await
            }
            false => spent(error),
        }
    }

    /// Asking for more rights helps only where they were not asked for before, and not without end.
    async fn step_up(
        &self,
        principal: &Principal,
        connection: &Connection,
        used: UsedAccount<'_>,
        (scopes, error): (Vec<String>, Error),
    ) -> Error {
        let key = key(principal, connection, used.account);
        let missing = match self.manager.missing_scopes(&key, &scopes).await {
            Ok(missing) => missing,
            Err(fault) => {
                tracing::debug!(provider.name = %connection.provider, error = %fault, "missing scopes could not be looked up");
                MissingScopes {
                    scopes: scopes.clone(),
                    is_new: false,
                }
            }
        };
        let mut incapable = incapable(connection, used.account, &scopes, &missing.scopes);
        incapable.sent = error.sent;
        let mut incapable = incapable.because(error);
        let may_ask = self.attempts.refused(&key, used);
        match (missing.is_new, may_ask) {
            (true, true) => {
                let scopes = (Some(&**used.account), &*missing.scopes);
                return self.invite(principal, connection, incapable, scopes).await;
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
    pub(crate) fn took(&self, principal: &Principal, provider: &Provider, used: UsedAccount<'_>) {
        if self.attempts.is_empty() {
            return;
        }
        if let ProviderAuth::OAuth(connection) = &provider.need {
            let key = key(principal, connection, used.account);
            self.attempts.succeeded(&key, used.operation);
        }
    }
}

/// The account of a caller, as it is kept.
pub(super) fn key(principal: &Principal, connection: &Connection, account: &Arc<str>) -> AccountKey {
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
pub(super) fn spent(mut error: Error) -> Error {
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
pub(super) fn ended(connection: &Connection, account: &str) -> Error {
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
pub(super) fn incapable(
    connection: &Connection,
    account: &str,
    wanted: &[String],
    missing: &[String],
) -> Error {
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

/// The error for a caller that brought no key.
pub(crate) fn needs_auth(provider: &Provider, missing: &MissingKey) -> Error {
    Error::new(Code::NeedsAuth, need_auth(provider, missing)).data(json!({
        "provider_id": &*provider.id,
        "reason": "never_connected",
        "headers": missing.headers,
        "env": missing.env,
    }))
}

/// One sentence that names where the caller puts its key.
fn need_auth(provider: &Provider, missing: &MissingKey) -> String {
    let headers: Vec<String> = missing.headers.iter().map(|name| format!("`{name}`")).collect();
    let variable = missing.env.as_ref().map_or_else(String::new, |name| {
        format!(", or set the environment variable `{name}` for `pleiades stdio`")
    });
    format!(
        "{} needs your own key: send it in the request header {}{variable}; it is passed on and never stored",
        provider.title,
        headers.join(" or ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_an_account_has_to_be_connected_is_what_is_known_exactly_else_its_reasons_sentence() {
        assert_eq!(sentence(Some("exactly this"), "expired"), "exactly this");
        let of_reason = Reason::Scopes.sentence();
        assert_eq!(sentence(None, Reason::Scopes.as_str()), of_reason);
        assert_eq!(sentence(None, "unheard of"), Reason::NeverConnected.sentence());
    }

    #[test]
    fn where_connecting_again_did_not_help_the_error_says_why_and_gives_no_link() {
        let error = Error::new(Code::TokenExpired, "it ended").data(json!({ "detail": "revoked" }));
        let error = spent(error);
        assert!(
            error
                .message
                .starts_with("it ended: revoked; it was connected again"),
            "{}",
            error.message
        );
        assert!(error.data.unwrap().get("connect_url").is_none());
    }
}
