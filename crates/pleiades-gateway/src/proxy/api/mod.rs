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

pub use servers::ConnectAllowlist;

use super::context::Context;
use super::gateway::Gateway;
use super::respond::{self, Response};
use super::{bridge, intake};
use pleiades_core::error::{Code, Error};
use pleiades_core::secret::Secret;
use pleiades_core::telemetry::events::RequestDone;
use pleiades_credential::access::Principal;
use pleiades_credential::vault::Fault;
use pleiades_mcp::Revision;

/// Largest body, in bytes: names and a token at most.
const MAX_BODY: usize = 64 * 1024;

/// What a path of these names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ApiRoute {
    /// `/v1/accounts`.
    Accounts,
    /// `/v1/accounts/{provider}/{account}`; the account as it was written, still encoded.
    Account(Arc<str>, String),
    /// `/oauth/refresh/{provider}`.
    Refresh(Arc<str>),
    /// `/v1/tools/mcp/servers/connect`.
    Connect,
}

impl ApiRoute {
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
pub(super) fn parse_route(path: &str) -> Option<ApiRoute> {
    if path == "/v1/tools/mcp/servers/connect" {
        return Some(ApiRoute::Connect);
    }
    if path == "/v1/accounts" {
        return Some(ApiRoute::Accounts);
    }
    if let Some(provider) = path.strip_prefix("/oauth/refresh/") {
        return is_id(provider).then(|| ApiRoute::Refresh(Arc::from(provider)));
    }
    let rest = path.strip_prefix("/v1/accounts/")?;
    let (provider, account) = rest.split_once('/').unwrap_or((rest, ""));
    is_id(provider).then(|| ApiRoute::Account(Arc::from(provider), account.to_owned()))
}

/// The form of a provider id, and of a connection's name.
fn is_id(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
    !text.is_empty() && text.len() <= 63 && text.bytes().all(word)
}

/// What these paths need of the settings.
#[derive(Debug, Default)]
pub struct ApiConfig {
    /// `signing.inbound_keys`.
    pub inbound_keys: Vec<Secret>,
    /// `connect_api.allow`, and what reaching such a server may do.
    pub allowed: ConnectAllowlist,
}

impl Gateway {
    /// Answers one request of these paths.
    pub(super) async fn serve_api(
        &self,
        session: &mut Session,
        ctx: &Context,
        place: ApiRoute,
    ) -> Result<()> {
        let (response, principal) = match &place {
            ApiRoute::Refresh(provider) => (self.refresh(session, provider).await, None),
            ApiRoute::Accounts | ApiRoute::Account(..) | ApiRoute::Connect => match self.identify(session) {
                Err(error) => (Err(error), None),
                Ok(principal) => {
                    let answered = match &place {
                        ApiRoute::Account(provider, account) => {
                            self.change_account(session, &principal, provider, account).await
                        }
                        ApiRoute::Connect => {
                            match Box::pin(self.connect_server(session, ctx, &principal)).await? {
                                Ok(()) => {
                                    return self.report_api(
                                        ctx,
                                        &place,
                                        Some(&principal),
                                        ("ok", StatusCode::OK),
                                    );
                                }
                                Err(error) => Err(error),
                            }
                        }
                        ApiRoute::Accounts | ApiRoute::Refresh(_) => {
                            self.list_accounts(session, &principal).await
                        }
                    };
                    (answered, Some(principal))
                }
            },
        };
        let outcome = response.as_ref().err().map_or("ok", |error| error.code.as_str());
        let response = response.unwrap_or_else(|error| refusal(&error, &place));
        self.report_api(ctx, &place, principal.as_ref(), (outcome, response.status))?;
        bridge::respond(session, response, ctx.origin.as_deref()).await
    }

    /// Who is calling.
    fn identify(&self, session: &Session) -> Result<Principal, Error> {
        let caller = self
            .access
            .identify(&session.req_header().headers, bridge::peer_address(session))?;
        Ok(caller.principal)
    }

    #[expect(clippy::unnecessary_wraps, reason = "the last thing of an answered request")]
    fn report_api(
        &self,
        ctx: &Context,
        place: &ApiRoute,
        principal: Option<&Principal>,
        (outcome, status): (&'static str, StatusCode),
    ) -> Result<()> {
        let mut done = RequestDone::new(ctx.request_id.clone(), place.name());
        done.tenant = principal.map(|it| Arc::clone(&it.tenant));
        done.user = principal.map(|it| Arc::clone(&it.user));
        done.outcome = outcome;
        done.status = status.as_u16();
        done.duration = ctx.started.elapsed();
        if let ApiRoute::Account(provider, _) | ApiRoute::Refresh(provider) = place {
            let loaded = self.exchange.catalog.snapshot().providers.contains_key(provider);
            done.provider = loaded.then(|| Arc::clone(provider));
        }
        done.emit(&self.metrics);
        Ok(())
    }
}

/// Reads a bounded body of JSON.
async fn read_body(session: &mut Session) -> Result<Bytes, Error> {
    bridge::read_small_body(session, MAX_BODY)
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
async fn read_json(session: &mut Session) -> Result<Bytes, Error> {
    intake::check_media(&session.req_header().headers)?;
    read_body(session).await
}

fn json_answer(value: &Value) -> Response {
    Response::json(StatusCode::OK, value.to_string()).header(header::CACHE_CONTROL, "no-store")
}

fn refusal(error: &Error, place: &ApiRoute) -> Response {
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

const fn allow(place: &ApiRoute) -> &'static str {
    match place {
        ApiRoute::Accounts => "GET, HEAD",
        ApiRoute::Account(..) => "PUT, DELETE",
        ApiRoute::Refresh(_) | ApiRoute::Connect => "POST",
    }
}

fn wrong_method(place: &ApiRoute) -> Error {
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
        format!("{}; nothing was changed", fault.kind.caller_message()),
    )
    .retry_after(after)
    .because(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_routes_and_nothing_else() {
        assert_eq!(parse_route("/v1/accounts"), Some(ApiRoute::Accounts));
        assert_eq!(
            parse_route("/v1/tools/mcp/servers/connect"),
            Some(ApiRoute::Connect)
        );
        assert_eq!(
            parse_route("/oauth/refresh/a-b"),
            Some(ApiRoute::Refresh("a-b".into()))
        );
        assert_eq!(
            parse_route("/v1/accounts/p/me%40x"),
            Some(ApiRoute::Account("p".into(), "me%40x".to_owned()))
        );
        for path in [
            "/v1",
            "/v1/accountsx",
            "/v1/accounts/",
            "/oauth/refresh/",
            "/oauth/refresh/a/b",
            "/v1/accounts/P/x",
        ] {
            assert_eq!(parse_route(path), None, "{path}");
        }
    }

    #[test]
    fn a_slash_belongs_to_the_name_of_the_account() {
        assert_eq!(
            parse_route("/v1/accounts/p/team/me"),
            Some(ApiRoute::Account("p".into(), "team/me".to_owned()))
        );
    }
}
