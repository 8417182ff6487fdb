//! Beside the protocol: a caller's own accounts, refreshes that a scheduler asks for, and the stream
//! that connects a server (contracts sections 2, 5 and 6).

mod accounts;
mod events;
mod refresh;
mod servers;

use std::sync::Arc;

use bytes::Bytes;
use http::{StatusCode, header};
use pingora_core::Result;
use pingora_proxy::Session;
use serde_json::Value;

pub use servers::Allowed;

use super::context::Context;
use super::gateway::Gateway;
use super::respond::{self, Response};
use super::{bridge, intake};
use crate::access::Principal;
use crate::credential::vault::Fault;
use crate::error::{Code, Error};
use crate::mcp::Revision;
use crate::secret::Secret;
use crate::telemetry::events::RequestDone;

/// Largest body, in bytes: names and a token at most.
const MAX_BODY: usize = 64 * 1024;

/// What a path of these names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// `/v1/accounts`.
    Accounts,
    /// `/v1/accounts/{provider}/{account}`; the account as it was written, still encoded.
    Account(Arc<str>, String),
    /// `/oauth/refresh/{provider}`.
    Refresh(Arc<str>),
    /// `/v1/tools/mcp/servers/connect`.
    Connect,
}

impl Place {
    const fn name(&self) -> &'static str {
        match self {
            Self::Accounts => "accounts",
            Self::Account(..) => "account",
            Self::Refresh(_) => "refresh",
            Self::Connect => "connect",
        }
    }
}

/// Reads a path. An account's name may hold slashes: whatever follows the provider is its name.
pub(super) fn place(path: &str) -> Option<Place> {
    if path == "/v1/tools/mcp/servers/connect" {
        return Some(Place::Connect);
    }
    if path == "/v1/accounts" {
        return Some(Place::Accounts);
    }
    if let Some(provider) = path.strip_prefix("/oauth/refresh/") {
        return is_word(provider).then(|| Place::Refresh(Arc::from(provider)));
    }
    let rest = path.strip_prefix("/v1/accounts/")?;
    let (provider, account) = rest.split_once('/').unwrap_or((rest, ""));
    is_word(provider).then(|| Place::Account(Arc::from(provider), account.to_owned()))
}

/// The form of a provider id, and of a connection's name.
fn is_word(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
    !text.is_empty() && text.len() <= 63 && text.bytes().all(word)
}

/// What these paths need of the settings.
#[derive(Debug, Default)]
pub struct Desk {
    /// `signing.inbound_keys`.
    pub inbound_keys: Vec<Secret>,
    /// `connect_api.allow`, and what reaching such a server may do.
    pub allowed: Allowed,
}

impl Gateway {
    /// Answers one request of these paths.
    pub(super) async fn beside(&self, session: &mut Session, ctx: &Context, place: Place) -> Result<()> {
        let (response, principal) = match &place {
            Place::Refresh(provider) => (self.refresh_asked(session, provider).await, None),
            Place::Accounts | Place::Account(..) | Place::Connect => match self.caller(session) {
                Err(error) => (Err(error), None),
                Ok(principal) => {
                    let answered = match &place {
                        Place::Account(provider, account) => {
                            self.account(session, &principal, provider, account).await
                        }
                        Place::Connect => {
                            match Box::pin(self.connect_server(session, ctx, &principal)).await? {
                                Ok(()) => {
                                    return self.noted(ctx, &place, Some(&principal), ("ok", StatusCode::OK));
                                }
                                Err(error) => Err(error),
                            }
                        }
                        Place::Accounts | Place::Refresh(_) => self.accounts_of(session, &principal).await,
                    };
                    (answered, Some(principal))
                }
            },
        };
        let outcome = response.as_ref().err().map_or("ok", |error| error.code.as_str());
        let response = response.unwrap_or_else(|error| refusal(&error, &place));
        self.noted(ctx, &place, principal.as_ref(), (outcome, response.status))?;
        bridge::respond(session, response, ctx.origin.as_deref()).await
    }

    /// Who is calling.
    fn caller(&self, session: &Session) -> Result<Principal, Error> {
        let caller = self
            .access
            .identify(&session.req_header().headers, bridge::peer(session))?;
        Ok(caller.principal)
    }

    #[expect(clippy::unnecessary_wraps, reason = "the last thing of an answered request")]
    fn noted(
        &self,
        ctx: &Context,
        place: &Place,
        principal: Option<&Principal>,
        (outcome, status): (&'static str, StatusCode),
    ) -> Result<()> {
        let mut done = RequestDone::new(ctx.request_id.clone(), place.name());
        done.tenant = principal.map(|it| Arc::clone(&it.tenant));
        done.user = principal.map(|it| Arc::clone(&it.user));
        done.outcome = outcome;
        done.status = status.as_u16();
        done.duration = ctx.started.elapsed();
        if let Place::Account(provider, _) | Place::Refresh(provider) = place {
            let loaded = self.exchange.catalog.snapshot().providers.contains_key(provider);
            done.provider = loaded.then(|| Arc::clone(provider));
        }
        done.emit(&self.metrics);
        Ok(())
    }
}

/// Reads a bounded body of JSON.
async fn read(session: &mut Session) -> Result<Bytes, Error> {
    bridge::small_body(session, MAX_BODY)
        .await
        .map_err(|error| match error.code {
            Code::TooLarge => Error::new(
                Code::TooLarge,
                format!("the body is larger than {MAX_BODY} bytes"),
            ),
            _ => error,
        })
}

/// A body that must be JSON, its head looked at first.
async fn json(session: &mut Session) -> Result<Bytes, Error> {
    intake::media(&session.req_header().headers)?;
    read(session).await
}

fn answer(value: &Value) -> Response {
    Response::json(StatusCode::OK, value.to_string()).header(header::CACHE_CONTROL, "no-store")
}

fn refusal(error: &Error, place: &Place) -> Response {
    let status = respond::relay_status(error.code, Revision::NEWEST_LEGACY);
    let status = match error.code {
        Code::InvalidParams => StatusCode::BAD_REQUEST,
        _ => status,
    };
    let mut response = respond::refusal(status, error, None, Revision::NEWEST_LEGACY);
    if error.code == Code::MethodNotAllowed {
        response.headers.retain(|(name, _)| *name != header::ALLOW);
        response = response.header(header::ALLOW, allow(place));
    }
    response
}

const fn allow(place: &Place) -> &'static str {
    match place {
        Place::Accounts => "GET, HEAD",
        Place::Account(..) => "PUT, DELETE",
        Place::Refresh(_) | Place::Connect => "POST",
    }
}

fn only(place: &Place) -> Error {
    Error::new(Code::MethodNotAllowed, allow(place))
}

fn no_account() -> Error {
    Error::new(Code::UnknownPath, "no such account of yours")
}

/// A store that does not answer or says no, as callers are told of it; the operator reads the cause.
fn unavailable(fault: Fault) -> Error {
    let after = fault.retry_after.unwrap_or(std::time::Duration::from_secs(5));
    Error::new(
        Code::CredentialStore,
        format!("{}; nothing was changed", fault.kind.told()),
    )
    .retry_after(after)
    .because(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_places_and_nothing_else() {
        assert_eq!(place("/v1/accounts"), Some(Place::Accounts));
        assert_eq!(place("/v1/tools/mcp/servers/connect"), Some(Place::Connect));
        assert_eq!(place("/oauth/refresh/a-b"), Some(Place::Refresh("a-b".into())));
        assert_eq!(
            place("/v1/accounts/p/me%40x"),
            Some(Place::Account("p".into(), "me%40x".to_owned()))
        );
        for path in [
            "/v1",
            "/v1/accountsx",
            "/v1/accounts/",
            "/oauth/refresh/",
            "/oauth/refresh/a/b",
            "/v1/accounts/P/x",
        ] {
            assert_eq!(place(path), None, "{path}");
        }
    }

    #[test]
    fn a_slash_belongs_to_the_name_of_the_account() {
        assert_eq!(
            place("/v1/accounts/p/team/me"),
            Some(Place::Account("p".into(), "team/me".to_owned()))
        );
    }
}
