//! Who comes through the relay: open provider, sound head, session of its own, a generation that the
//! upstream speaks, credential, limits.

use std::sync::Arc;

use http::{HeaderMap, header};
use pingora_http::RequestHeader;

use super::context::RelayState;
use super::gateway::Gateway;
use super::intake;
use super::relay::revision_or_legacy;
use super::relay_credential::RelayCredential;
use super::respond::SESSION;
use crate::catalog::Provider;
use crate::exchange::{self, Scope};
use pleiades_core::error::{Code, Error};
use pleiades_credential::access::Principal;
use pleiades_mcp::{Revision, Revisions};
use pleiades_upstream::Profile;

impl Gateway {
    /// Whether a request may go its way, and what goes along.
    pub(super) async fn admit(
        &self,
        head: &RequestHeader,
        scope: &Scope,
        principal: &Principal,
    ) -> Result<RelayState, Error> {
        self.exchange.exists(scope, principal)?;
        let snapshot = self.exchange.catalog.snapshot();
        let provider = scope
            .provider
            .as_ref()
            .and_then(|id| snapshot.providers.get(id))
            .cloned();
        let provider =
            provider.ok_or_else(|| Error::new(Code::UnknownProvider, "no such provider is loaded"))?;
        exchange::relay_open(&provider)?;
        let revision = revision_or_legacy(&head.headers);
        match head.method {
            http::Method::POST => intake::check_media(&head.headers)?,
            http::Method::GET | http::Method::DELETE => {}
            _ => return Err(Error::new(Code::MethodNotAllowed, "POST, GET or DELETE")),
        }
        check_length(&head.headers, self.max_body)?;
        // 2026-07-28 has no sessions: one that is dragged along means nothing.
        let relay_session = if revision.is_modern() {
            None
        } else {
            self.relay_session(&provider, &head.headers, principal)?
        };
        if head.method == http::Method::GET && relay_session.is_none() {
            return Err(Error::new(
                Code::MethodNotAllowed,
                "a stream belongs to a session: initialize first",
            ));
        }
        let way = self
            .relay_credential(&provider, head, principal, relay_session.as_ref())
            .await?;
        self.check_revision(&provider, head, revision, (principal, &way))
            .await?;
        let session = relay_session.map(|relay_session| relay_session.session);
        self.enter_limits(provider, head, (revision, session), (principal, way))
    }

    /// Whether the upstream speaks the generation of a request. One that named modern revisions only is
    /// asked for older ones before the first client of them is let through or refused; while it does
    /// not answer that, it answers the client itself.
    async fn check_revision(
        &self,
        provider: &Arc<Provider>,
        head: &RequestHeader,
        revision: Revision,
        (principal, way): (&Principal, &RelayCredential),
    ) -> Result<(), Error> {
        let mut known = provider.live.shared.load_full();
        let requested = intake::requested_revision(&head.headers);
        let Some(profile) = &known.profile else {
            return Ok(());
        };
        let open = |profile: &Profile| !revision.is_modern() && profile.legacy.is_some();
        // What belongs to a session was let through already.
        if open(profile) && head.method == http::Method::POST && !head.headers.contains_key(SESSION) {
            let identity = way.identity(principal);
            known = self
                .exchange
                .catalog
                .shared_with_older(provider, &identity, known)
                .await;
        }
        let Some(profile) = &known.profile else {
            return Ok(());
        };
        // Whoever named a revision that nobody knows is told of all others.
        intake::stated_revision(&head.headers).map_err(|unknown| {
            exchange::unequal(offered_revisions(profile.revisions, head), requested).because(unknown)
        })?;
        if open(profile) {
            return Ok(());
        }
        exchange::equal(profile.revisions, revision, requested)
    }

    fn enter_limits(
        &self,
        provider: Arc<Provider>,
        head: &RequestHeader,
        (revision, session): (Revision, Option<String>),
        (principal, way): (&Principal, RelayCredential),
    ) -> Result<RelayState, Error> {
        let method = head
            .headers
            .get("mcp-method")
            .and_then(|it| it.to_str().ok())
            .unwrap_or("")
            .to_owned();
        let is_stream = head.method == http::Method::GET || method == "subscriptions/listen";
        let stream = is_stream.then(|| {
            self.limits
                .stream(principal, session.as_deref().map(Arc::from).as_ref())
        });
        let stream = stream.transpose()?;
        let pass = provider
            .gate
            .enter(
                &principal.binding(),
                &principal.tenant,
                way.signature.account.as_ref(),
                None,
            )
            .map_err(|refusal| {
                self.metrics.limited(&provider.id, refusal.rule.as_str());
                exchange::limited(&provider.title, &refusal)
            })?;
        Ok(RelayState {
            // The end of the process waits for calls, not for streams that never end.
            _guards: (
                self.metrics.inflight(&provider.id),
                (!is_stream).then(|| self.exchange.begin()),
            ),
            stream_slot: stream,
            provider,
            principal: principal.clone(),
            credential: way,
            revision,
            session,
            method,
            permit: Some(pass),
            received: 0,
            failure: None,
            attempts: 0,
            is_renewed: false,
            is_retried: false,
            sent: None,
            answered: None,
        })
    }
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

/// What is offered in place of a revision that nobody knows: to a client of the generation without
/// sessions (it names the method in its head) what a provider's own discovery would name at least.
fn offered_revisions(upstream: Revisions, head: &RequestHeader) -> Revisions {
    let modern: Revisions = upstream.iter().filter(|revision| revision.is_modern()).collect();
    if modern.is_empty() || !head.headers.contains_key("mcp-method") {
        return upstream;
    }
    modern
}
