//! Which requests come through the relay: of an open provider, with a sound head, a session of their
//! own, a revision that the upstream speaks, a credential, within the limits.

use std::sync::Arc;

use http::{HeaderMap, Method, header};
use pingora_http::RequestHeader;

use super::credential::{CredentialLookup, RelayCredential};
use super::{session::RelaySession, state::RelayState};
use crate::catalog::{Provider, Snapshot};
use crate::exchange::{self, Exchange, Scope, WriteGuard};
use crate::proxy::{intake, respond::SESSION, services::GatewayServices};
use pleiades_core::error::{Code, Error};
use pleiades_credential::access::Principal;
use pleiades_mcp::Revisions;
use pleiades_upstream::Profile;

/// Admits a request: its provider, session, credential and permits.
/// Errors: why it may not. Nothing was charged then.
pub(super) async fn admit(
    services: &GatewayServices,
    head: &RequestHeader,
    (scope, snapshot): (&Scope, &Snapshot),
    principal: &Principal,
) -> Result<RelayState, Error> {
    let exchange = &services.exchange;
    let provider = scope.provider_in(snapshot)?.cloned();
    let provider = provider.ok_or_else(|| Error::new(Code::UnknownProvider, "no such provider is loaded"))?;
    exchange::relay_open(&provider)?;
    let revision = intake::revision_or_legacy(&head.headers);
    match head.method {
        Method::POST => intake::check_media(&head.headers)?,
        Method::GET | Method::DELETE => {}
        _ => return Err(Error::new(Code::MethodNotAllowed, "POST, GET or DELETE")),
    }
    check_length(&head.headers, services.max_body)?;
    // 2026-07-28 has no sessions: one that is dragged along means nothing.
    let session = if revision.is_modern() {
        None
    } else {
        RelaySession::open(&services.sealer, &provider, &head.headers, principal)?
    };
    if head.method == Method::GET && session.is_none() {
        return Err(Error::new(
            Code::MethodNotAllowed,
            "a stream belongs to a session: initialize first",
        ));
    }
    let lookup = CredentialLookup {
        exchange,
        provider: &provider,
        principal,
    };
    let credential = lookup.find(&head.headers, session.as_ref()).await?;
    check_revision(exchange, &provider, head, (principal, &credential)).await?;
    let session = session.map(|session| session.id);
    let mut state = enter_limits(services, provider, head, (principal, credential, session))?;
    state._write = begin_write(exchange, head, &state).await;
    Ok(state)
}

/// Of a body that is not looked into, the head of a client of 2026-07-28 alone says what it is; any other
/// may be a write.
async fn begin_write(exchange: &Exchange, head: &RequestHeader, state: &RelayState) -> Option<WriteGuard> {
    let is_modern = state.revision.is_modern();
    let is_call = !is_modern || state.method == "tools/call" || state.method.starts_with("tasks/");
    if head.method != Method::POST || !is_call {
        return None;
    }
    let named = head
        .headers
        .get("mcp-name")
        .filter(|_| state.method == "tools/call");
    let tool = named.and_then(|name| name.to_str().ok()).filter(|_| is_modern);
    let account = state.credential.signature.account;
    exchange.begin_write(&state.provider, tool, account).await
}

/// Checks that the upstream speaks the generation of a request. One that named modern revisions only is
/// asked for older ones before the first client of them is let through or refused; while it does
/// not answer that, it answers the client itself.
async fn check_revision(
    exchange: &Exchange,
    provider: &Arc<Provider>,
    head: &RequestHeader,
    (principal, credential): (&Principal, &RelayCredential),
) -> Result<(), Error> {
    let revision = intake::revision_or_legacy(&head.headers);
    let mut known = provider.live.shared.load_full();
    let requested = intake::requested_revision(&head.headers);
    let Some(profile) = &known.profile else {
        return Ok(());
    };
    let open = |profile: &Profile| !revision.is_modern() && profile.legacy.is_some();
    // What belongs to a session was let through already.
    if open(profile) && head.method == Method::POST && !head.headers.contains_key(SESSION) {
        let identity = credential.identity(principal);
        known = exchange
            .catalog
            .shared_with_older(provider, &identity, known)
            .await;
    }
    let Some(profile) = &known.profile else {
        return Ok(());
    };
    // The refusal of a revision that nobody knows lists all others.
    intake::stated_revision(&head.headers).map_err(|unknown| {
        exchange::unequal(offered_revisions(profile.revisions, &head.headers), requested).because(unknown)
    })?;
    if open(profile) {
        return Ok(());
    }
    exchange::equal(profile.revisions, revision, requested)
}

/// Takes a stream's slot, where the answer is one, and the provider's permit.
fn enter_limits(
    services: &GatewayServices,
    provider: Arc<Provider>,
    head: &RequestHeader,
    (principal, credential, session): (&Principal, RelayCredential, Option<String>),
) -> Result<RelayState, Error> {
    let method = head.headers.get("mcp-method");
    let method = method.and_then(|it| it.to_str().ok()).unwrap_or_default();
    let is_stream = head.method == Method::GET || method == "subscriptions/listen";
    let stream_slot = is_stream.then(|| {
        services
            .limits
            .stream(principal, session.as_deref().map(Arc::from).as_ref())
    });
    let stream_slot = stream_slot.transpose()?;
    let account = credential.signature.account.as_ref();
    let permit = provider
        .gate
        .enter(&principal.binding(), &principal.tenant, account, None)
        .map_err(|refusal| {
            services.metrics.limited(&provider.id, refusal.rule.as_str());
            exchange::limited(&provider.title, &refusal)
        })?;
    Ok(RelayState {
        // The end of the process waits for calls, not for streams that never end.
        _guards: (
            services.metrics.inflight(&provider.id),
            (!is_stream).then(|| services.exchange.begin()),
        ),
        stream_slot,
        provider,
        principal: principal.clone(),
        credential,
        revision: intake::revision_or_legacy(&head.headers),
        session,
        method: method.to_owned(),
        permit,
        _write: None,
        received: 0,
        failure: None,
        attempts: 0,
        is_renewed: false,
        is_retried: false,
        sent: None,
        answered: None,
    })
}

fn check_length(headers: &HeaderMap, limit: usize) -> Result<(), Error> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    match announced.and_then(|text| text.parse::<usize>().ok()) {
        Some(length) if length > limit => {
            Err(Error::new(Code::TooLarge, "the body is larger than `max_body`"))
        }
        _ => Ok(()),
    }
}

/// The revisions that are offered in place of one that nobody knows: to a client of the generation without
/// sessions (it names the method in its head) what a provider's own discovery would name at least.
fn offered_revisions(upstream: Revisions, headers: &HeaderMap) -> Revisions {
    let modern: Revisions = upstream.iter().filter(|revision| revision.is_modern()).collect();
    if modern.is_empty() || !headers.contains_key("mcp-method") {
        return upstream;
    }
    modern
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use pleiades_mcp::Revision;

    use super::*;

    #[test]
    fn an_announced_length_is_bounded_and_a_hidden_one_is_left_to_the_body() {
        let mut headers = HeaderMap::new();
        assert!(check_length(&headers, 10).is_ok());
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("10"));
        assert!(check_length(&headers, 10).is_ok());
        assert_eq!(check_length(&headers, 9).unwrap_err().code, Code::TooLarge);
    }

    #[test]
    fn a_modern_client_is_offered_modern_revisions_where_there_are_some() {
        let both = Revisions::from_iter([Revision::V2025_06_18, Revision::V2026_07_28]);
        let legacy = Revisions::from_iter([Revision::V2025_06_18]);
        let mut headers = HeaderMap::new();
        assert_eq!(offered_revisions(both, &headers), both);
        headers.insert("mcp-method", HeaderValue::from_static("tools/list"));
        assert_eq!(
            offered_revisions(both, &headers),
            Revisions::from_iter([Revision::V2026_07_28])
        );
        assert_eq!(offered_revisions(legacy, &headers), legacy);
    }
}
