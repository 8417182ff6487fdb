//! The relay of an HTTP provider: bodies untouched, streamed by Pingora; only headers are ours.
//!
//! One file for each phase, in their order: `admission` (by `session` and `credential`), `peer` (by
//! `tls`), `headers` on the way up, `response` on the way down, `retry` when it breaks. They share
//! `state` and do not call one another otherwise.

mod admission;
mod credential;
pub(super) mod headers;
pub(super) mod peer;
pub(super) mod response;
pub(super) mod retry;
mod session;
mod state;
mod tls;

use std::sync::Arc;

use pingora_core::{Error as ProxyError, ErrorSource, ErrorType, Result};
use pingora_proxy::{FailToProxy, Session};

pub(super) use self::state::RelayState;
pub(super) use self::tls::TlsCache;
use super::{bridge, context::Context, intake, respond, services::GatewayServices};
use crate::catalog::Snapshot;
use crate::exchange::{self, Scope};
use pleiades_core::error::{Code, Error};
use pleiades_core::telemetry::{View, events::RequestDone, names};
use pleiades_core::text::one_line;
use pleiades_credential::access::Principal;
use pleiades_mcp::{Id, Message, message};

/// Admits a request to the relay, or answers it: `None`. Errors: when the client is gone.
pub(super) async fn begin(
    services: &GatewayServices,
    session: &mut Session,
    ctx: &Context,
    (scope, snapshot, principal): (&Scope, &Snapshot, &Principal),
) -> Result<Option<RelayState>> {
    let admitted = match admission::admit(services, session.req_header(), (scope, snapshot), principal).await
    {
        Ok(relay) => bridge::send_continue(session).await.map(|()| relay),
        refused => refused,
    };
    let error = match admitted {
        Ok(relay) => return Ok(Some(relay)),
        Err(error) => services.explained(error, scope, principal),
    };
    // The id is in the body, which is only worth reading to refuse it by name.
    let id = refused_id(services, session).await;
    let revision = intake::revision_or_legacy(&session.req_header().headers);
    let status = respond::relay_status(error.code, revision);
    let response = respond::refusal(status, &error, id.as_ref(), revision);
    ctx.report_refusal(services, Some(scope), &error, status);
    bridge::respond(session, response, ctx).await?;
    Ok(None)
}

/// Bounds a body whose length was not announced. Errors: when it is larger than `limit`.
pub(super) fn count_body(relay: &mut RelayState, bytes: usize, limit: usize) -> Result<()> {
    relay.received += bytes;
    if relay.received > limit {
        relay.failure = Some(Error::new(Code::TooLarge, "the body is larger than `max_body`"));
        return Err(ProxyError::new_down(ErrorType::HTTPStatus(413)));
    }
    Ok(())
}

/// Answers a request that failed, unless its answer has begun or the client is gone.
pub(super) async fn answer_failure(
    services: &GatewayServices,
    session: &mut Session,
    error: &ProxyError,
    (ctx, relay): (&Context, &mut RelayState),
) -> FailToProxy {
    let is_downstream = *error.esource() == ErrorSource::Downstream;
    if is_downstream && !retry::is_malformed(error) && relay.failure.is_none() {
        return FailToProxy {
            error_code: 0,
            can_reuse_downstream: false,
        };
    }
    let failure = relay.failure.take();
    let failure = failure.unwrap_or_else(|| retry::to_error(error, &relay.place()));
    let failure = exchange::paced(failure);
    let status = respond::relay_status(failure.code, relay.revision);
    let written = session.response_written();
    if written.is_none_or(|head| head.status.is_informational()) {
        let id = failed_id(services, session, relay).await;
        let mut response = respond::refusal(status, &failure, id.as_ref(), relay.revision);
        response.close = true;
        bridge::respond(session, response, ctx).await.ok();
    }
    relay.failure = Some(failure);
    FailToProxy {
        error_code: status.as_u16(),
        can_reuse_downstream: false,
    }
}

/// Emits the one event of a relayed request, and gives its verdict to the breaker.
pub(super) fn finish(
    services: &GatewayServices,
    session: &Session,
    ctx: &mut Context,
    mut relay: RelayState,
) {
    let status = session.response_written().map(|head| head.status.as_u16());
    let is_broken =
        relay.failure.as_ref().is_some_and(exchange::is_breakage) || status.is_some_and(|it| it >= 500);
    if relay.sent.is_some() {
        let seen = relay.failure.as_ref().map_or(Ok(()), Err);
        services.exchange.catalog.report_call(&relay.provider, seen);
    }
    let method = if relay.method.is_empty() {
        session.req_header().method.to_string()
    } else {
        std::mem::take(&mut relay.method)
    };
    let mut done = RequestDone::new(std::mem::take(&mut ctx.request_id), method);
    done.view = Some(View::Relay);
    done.provider = Some(Arc::clone(&relay.provider.id));
    done.outcome = outcome(relay.failure.as_ref(), status);
    if done.outcome != "ok" {
        explain(&mut done, session, &relay);
    }
    done.duration = ctx.started.elapsed();
    done.upstream = relay.answered;
    ctx.describe(&mut done);
    done.account = relay.credential.account;
    done.revision = Some(relay.revision.as_str());
    done.status = status.unwrap_or(0);
    if is_broken {
        relay.permit.failed();
    } else {
        relay.permit.succeeded();
    }
    done.emit(&services.metrics);
}

/// Adds why a request failed, and whether that is for the operator to mend.
fn explain(done: &mut RequestDone, session: &Session, relay: &RelayState) {
    let cause = match (&relay.failure, session.response_written()) {
        (Some(failure), _) => failure.cause(),
        (None, Some(head)) => {
            let kind = head.headers.get(http::header::CONTENT_TYPE);
            let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or("no type");
            format!("status {}, {}", head.status.as_u16(), one_line(kind, 64))
        }
        (None, None) => "the client went away".to_owned(),
    };
    done.cause = Some(relay.credential.signature.redacted(cause));
    let is_refused = done.outcome == Code::UpstreamAuth.as_str();
    done.is_operators = is_refused && exchange::own_signature(&relay.provider.need).is_some();
}

/// The outcome of a relayed request, as the log and metrics name it.
fn outcome(failure: Option<&Error>, status: Option<u16>) -> &'static str {
    match (failure, status) {
        (Some(failure), _) => failure.code.as_str(),
        (None, Some(status)) if status < 400 => "ok",
        (None, Some(status)) if status < 500 => names::HTTP_4XX,
        (None, Some(_)) => names::HTTP_5XX,
        (None, None) => Code::Cancelled.as_str(),
    }
}

async fn refused_id(services: &GatewayServices, session: &mut Session) -> Option<Id> {
    if session.req_header().method != http::Method::POST {
        return None;
    }
    let mut reservation = Arc::clone(&services.limits.bodies).reserve(None);
    let body = bridge::read_body(session, services.max_body, &mut reservation).await;
    request_id(&body.ok()?)
}

/// The id of a request that failed on its way: its body was not read yet, or is still at hand.
async fn failed_id(services: &GatewayServices, session: &mut Session, relay: &RelayState) -> Option<Id> {
    if relay.received == 0 {
        return refused_id(services, session).await;
    }
    let downstream = session.as_downstream_mut();
    let is_whole = downstream.is_body_done() && !downstream.retry_buffer_truncated();
    downstream
        .get_retry_buffer()
        .filter(|_| is_whole)
        .and_then(|body| request_id(&body))
}

fn request_id(body: &[u8]) -> Option<Id> {
    match message::decode(body).ok()? {
        Message::Request { id, .. } => Some(id),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_the_failure_else_the_status_else_that_the_client_left() {
        let failure = Error::new(Code::UpstreamTimeout, "late");
        assert_eq!(outcome(Some(&failure), Some(200)), Code::UpstreamTimeout.as_str());
        assert_eq!(outcome(None, Some(204)), "ok");
        assert_eq!(outcome(None, Some(404)), "http_4xx");
        assert_eq!(outcome(None, Some(500)), "http_5xx");
        assert_eq!(outcome(None, None), Code::Cancelled.as_str());
    }

    #[test]
    fn a_refused_body_is_answered_by_the_id_of_its_request() {
        let id = |body: &str| request_id(body.as_bytes()).map(|id| id.0.get().to_owned());
        assert_eq!(
            id(r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#).as_deref(),
            Some("7")
        );
        assert_eq!(id(r#"{"jsonrpc":"2.0","method":"notifications/x"}"#), None);
        assert_eq!(id("not JSON"), None);
    }
}
