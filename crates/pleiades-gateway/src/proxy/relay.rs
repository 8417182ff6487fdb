//! The relay of an HTTP provider: bodies untouched, streamed by Pingora; only headers are ours.

use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use http::HeaderMap;
use pingora_core::protocols::ALPN;
use pingora_core::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy, PeerOptions};
use pingora_core::{Error as ProxyError, ErrorSource, ErrorType, Result};
use pingora_proxy::{FailToProxy, Session};
use url::Url;

use super::context::{Context, RelayState};
use super::gateway::Gateway;
use super::{bridge, intake, relay_retry, respond};
use crate::catalog::Provider;
use crate::exchange::{self, Scope};
use pleiades_core::error::{Code, Error};
use pleiades_core::telemetry::View;
use pleiades_core::telemetry::events::RequestDone;
use pleiades_credential::access::Principal;
use pleiades_mcp::{Id, Message, Revision, message};
use pleiades_upstream::resolve::Permit;
use pleiades_upstream::{Endpoint, Transport};

const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

impl Gateway {
    /// Admits a request to the relay, or answers it. `false`: Pingora carries it on.
    pub(super) async fn begin_relay(
        &self,
        session: &mut Session,
        ctx: &mut Context,
        (scope, principal): (&Scope, Principal),
    ) -> Result<bool> {
        let admitted = match self.admit(session.req_header(), scope, &principal).await {
            Ok(passage) => bridge::send_continue(session).await.map(|()| passage),
            refused => refused,
        };
        match admitted {
            Ok(passage) => {
                ctx.relay = Some(passage);
                Ok(false)
            }
            Err(error) => {
                // The id is in the body, which is only worth reading to refuse it by name.
                let id = self.refused_id(session).await;
                let revision = revision_or_legacy(&session.req_header().headers);
                let status = respond::relay_status(error.code, revision);
                let response = respond::refusal(status, &error, id.as_ref(), revision);
                let record = exchange::Record {
                    method: "http".to_owned(),
                    provider: scope.provider.clone(),
                    outcome: error.code.as_str(),
                    ..exchange::Record::default()
                };
                self.report(ctx, scope, &record, status);
                bridge::respond(session, response, ctx.origin.as_deref()).await?;
                Ok(true)
            }
        }
    }

    async fn refused_id(&self, session: &mut Session) -> Option<Id> {
        if session.req_header().method != http::Method::POST {
            return None;
        }
        let mut reservation = Arc::clone(&self.limits.bodies).reserve(None);
        request_id(
            &bridge::read_body(session, self.max_body, &mut reservation)
                .await
                .ok()?,
        )
    }

    /// The id of a request that failed on its way: its body was not read yet, or is still at hand.
    async fn failed_id(&self, session: &mut Session, ctx: &Context) -> Option<Id> {
        if ctx.relay.as_ref().is_some_and(|passage| passage.received == 0) {
            return self.refused_id(session).await;
        }
        let downstream = session.as_downstream_mut();
        let whole = downstream.is_body_done() && !downstream.retry_buffer_truncated();
        downstream
            .get_retry_buffer()
            .filter(|_| whole)
            .and_then(|body| request_id(&body))
    }

    /// Where the request goes: an address that may be connected to, verified as the descriptor says.
    pub(super) async fn peer(&self, ctx: &mut Context) -> Result<Box<HttpPeer>> {
        let passage = relay_state(ctx)?;
        let endpoint = &passage.provider.endpoint;
        let Transport::Http {
            url,
            tls,
            allow_private,
            allow_loopback,
            ..
        } = &endpoint.target
        else {
            return Err(internal_error("the relay needs an HTTP provider"));
        };
        let permit = Permit {
            private: *allow_private,
            loopback: *allow_loopback,
        };
        let host = url.host().ok_or_else(|| internal_error("the URL has no host"))?;
        let port = url.port_or_known_default().unwrap_or(443);
        let found = self
            .exchange
            .upstreams
            .resolver()
            .resolve(&host, port, permit, endpoint.connect)
            .await;
        let addresses = match found {
            Ok(addresses) => addresses,
            Err(error) => {
                passage.failure = Some(error);
                return Err(ProxyError::new_up(ErrorType::ConnectError));
            }
        };
        let address = addresses.get(passage.attempts % addresses.len().max(1)).copied();
        let address = address.ok_or_else(|| internal_error("no address"))?;
        passage.attempts += 1;
        #[expect(
            clippy::disallowed_methods,
            reason = "a SocketAddr needs no name to be resolved"
        )]
        let mut peer = HttpPeer::new(address, url.scheme() == "https", server_name(url));
        peer.group_key = BuildHasherDefault::<DefaultHasher>::default().hash_one(endpoint.digest);
        set_timeouts(&mut peer.options, endpoint, passage.stream_slot.is_some());
        if let Some(tls) = tls {
            let material = self.tls.material(&endpoint.digest, tls);
            peer.options.ca = material.ca;
            peer.client_cert_key = material.client;
        }
        passage.sent = Some(Instant::now());
        Ok(Box::new(peer))
    }

    /// Tells the client what went wrong, when it can still be told.
    pub(super) async fn answer_failure(
        &self,
        session: &mut Session,
        error: &ProxyError,
        ctx: &mut Context,
    ) -> FailToProxy {
        let downstream = *error.esource() == ErrorSource::Downstream;
        let gone = downstream
            && !relay_retry::is_malformed(error)
            && ctx.relay.as_ref().is_none_or(|it| it.failure.is_none());
        let failure = ctx.relay.as_mut().map(|passage| {
            passage
                .failure
                .take()
                .unwrap_or_else(|| relay_retry::to_error(error))
        });
        let Some(failure) = failure.filter(|_| !gone) else {
            return FailToProxy {
                error_code: 0,
                can_reuse_downstream: false,
            };
        };
        let revision = ctx
            .relay
            .as_ref()
            .map_or(Revision::NEWEST_LEGACY, |passage| passage.revision);
        let status = respond::relay_status(failure.code, revision);
        if session
            .response_written()
            .is_none_or(|head| head.status.is_informational())
        {
            let id = self.failed_id(session, ctx).await;
            let mut response = respond::refusal(status, &failure, id.as_ref(), revision);
            response.close = true;
            bridge::respond(session, response, ctx.origin.as_deref())
                .await
                .ok();
        }
        if let Some(passage) = ctx.relay.as_mut() {
            passage.failure = Some(failure);
        }
        FailToProxy {
            error_code: status.as_u16(),
            can_reuse_downstream: false,
        }
    }

    /// The one event of a relayed request, and its verdict for the breaker.
    pub(super) fn finish_relay(&self, session: &Session, ctx: &mut Context) {
        let Some(passage) = ctx.relay.take() else { return };
        let status = session.response_written().map(|head| head.status.as_u16());
        let broken =
            passage.failure.as_ref().is_some_and(exchange::is_breakage) || status.is_some_and(|it| it >= 500);
        if let Some(pass) = passage.permit {
            if broken { pass.failed() } else { pass.succeeded() }
        }
        if passage.sent.is_some() {
            let seen = passage.failure.as_ref().map_or(Ok(()), Err);
            self.exchange.catalog.report_call(&passage.provider, seen);
        }
        let outcome = match (&passage.failure, status) {
            (Some(failure), _) => failure.code.as_str(),
            (None, Some(status)) if status < 400 => "ok",
            (None, Some(_)) => Code::UpstreamError.as_str(),
            (None, None) => Code::Cancelled.as_str(),
        };
        let method = if passage.method.is_empty() {
            session.req_header().method.to_string()
        } else {
            passage.method
        };
        let mut done = RequestDone::new(std::mem::take(&mut ctx.request_id), method);
        done.view = Some(View::Relay);
        done.provider = Some(Arc::clone(&passage.provider.id));
        done.outcome = outcome;
        done.duration = ctx.started.elapsed();
        done.upstream = passage.answered;
        ctx.describe(&mut done);
        done.account = passage.credential.account;
        done.revision = Some(passage.revision.as_str());
        done.status = status.unwrap_or(0);
        done.emit(&self.metrics);
    }
}

/// Bounds every wait for an upstream; Pingora's own defaults are none.
fn set_timeouts(options: &mut PeerOptions, endpoint: &Endpoint, is_stream: bool) {
    let silence = if is_stream {
        endpoint.idle.max(endpoint.call)
    } else {
        endpoint.call
    };
    options.connection_timeout = Some(endpoint.connect);
    options.total_connection_timeout = Some(endpoint.connect);
    options.read_timeout = Some(silence);
    options.write_timeout = Some(WRITE_TIMEOUT);
    options.idle_timeout = Some(Duration::from_secs(30));
    options.alpn = ALPN::H1;
    options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
}

/// Bounds a body whose length was not announced.
pub(super) fn count_body(ctx: &mut Context, bytes: usize, limit: usize) -> Result<()> {
    let Some(passage) = ctx.relay.as_mut() else {
        return Ok(());
    };
    passage.received += bytes;
    if passage.received > limit {
        passage.failure = Some(Error::new(Code::TooLarge, "the body is larger than `max_body`"));
        return Err(ProxyError::new_down(ErrorType::HTTPStatus(413)));
    }
    Ok(())
}

fn request_id(body: &[u8]) -> Option<Id> {
    match message::decode(body).ok()? {
        Message::Request { id, .. } => Some(id),
        _ => None,
    }
}

pub(super) fn relay_state(ctx: &mut Context) -> Result<&mut RelayState> {
    ctx.relay.as_mut().ok_or_else(|| internal_error("no passage"))
}

pub(super) fn internal_error(what: &'static str) -> Box<ProxyError> {
    ProxyError::explain(ErrorType::InternalError, what)
}

/// The revision a head speaks of; legacy unless it says 2026-07-28.
pub(super) fn revision_or_legacy(headers: &HeaderMap) -> Revision {
    intake::stated_revision(headers)
        .ok()
        .flatten()
        .unwrap_or(Revision::NEWEST_LEGACY)
}

pub(super) fn seal_purpose(provider: &Provider) -> String {
    format!("relay/{}", provider.id)
}

pub(super) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// What certificates are verified against: never empty, IP literals included.
fn server_name(url: &Url) -> String {
    url.host_str()
        .unwrap_or_default()
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned()
}
