//! The meta and tool views, and the relay of a process: POST carries a message, GET a session's
//! stream, DELETE ends it.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode, header};
use pingora_core::Result;
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::intake::{self, ViewContext};
use super::limits::{self, StreamSlot};
use super::respond::{self, Response};
use super::waiting::{RunningWork, StreamOpening, WaitOutcome, wait};
use super::{bridge, context::Context, resume::TicketCell, services::GatewayServices};
use crate::catalog::Snapshot;
use crate::exchange::{Arrived, Outlet, Peer, Reply, Scope};
use pleiades_core::error::{Code, Error};
use pleiades_core::limit::Reservation;
use pleiades_core::limit::load::{self, RequestLoad};
use pleiades_core::telemetry::{View, events::RequestDone};
use pleiades_credential::access::Principal;
use pleiades_mcp::{Id, Revision, message};

/// A refusal to be answered: the reason, the request's id, the revision.
struct RefusedRequest(Error, Option<Id>, Revision);

impl From<Error> for RefusedRequest {
    fn from(error: Error) -> Self {
        Self(error, None, Revision::NEWEST_LEGACY)
    }
}

/// A message that was read, and what it takes of what callers share.
struct ReadPost {
    peer: Peer,
    message: Arrived,
    /// Whether its answer is a stream even if nothing precedes it.
    only_stream: bool,
    body: Reservation,
    slot: Option<StreamSlot>,
}

struct AnswerPlan {
    id: Option<Id>,
    revision: Revision,
    is_relay: bool,
    only_stream: bool,
    load: Arc<RequestLoad>,
}

impl AnswerPlan {
    /// The answer in one piece, counted until it is written.
    fn into_response(self, reply: Reply) -> Result<Option<Response>, RefusedRequest> {
        if let Reply::Answer { body, .. } = &reply
            && self.load.settle(body.len()).is_err()
        {
            return Err(RefusedRequest(limits::answer_dropped(), self.id, self.revision));
        }
        let response = respond::reply(reply, self.revision, self.is_relay);
        Ok(response.map(|mut response| {
            response.load = Some(self.load);
            if self.only_stream {
                as_stream(response)
            } else {
                response
            }
        }))
    }
}

struct PostWork {
    peer: Peer,
    message: Arrived,
    outlet: Option<Outlet>,
    ticket: Option<TicketCell>,
    load: Arc<RequestLoad>,
    body: Reservation,
}

/// Answers one request of a view. Errors: when the client is gone.
pub(super) async fn serve(
    services: &GatewayServices,
    session: &mut Session,
    ctx: &Context,
    (scope, snapshot, principal): (&Scope, &Arc<Snapshot>, &Principal),
) -> Result<()> {
    let to = ViewContext {
        services,
        ctx,
        principal,
        scope,
        snapshot,
    };
    let method = session.req_header().method.clone();
    let served = match method {
        Method::POST => post(session, to).await,
        Method::GET => get(session, to).await,
        Method::DELETE => Ok(delete(session, to).await.map(Some)),
        _ => Ok(Err(method_not_allowed())),
    };
    let response = match served? {
        Ok(Some(response)) => response,
        Ok(None) => return Ok(()),
        Err(refused) => refuse(to, refused),
    };
    bridge::respond(session, response, ctx).await
}

async fn delete(session: &mut Session, to: ViewContext<'_>) -> Result<Response, RefusedRequest> {
    let known = intake::find_session(to, &session.req_header().headers)?;
    let known = known.ok_or_else(method_not_allowed)?;
    if let Some(id) = known.session {
        to.services.exchange.end_session(&id).await;
    }
    Ok(Response::empty(StatusCode::NO_CONTENT))
}

fn refuse(to: ViewContext<'_>, RefusedRequest(error, id, revision): RefusedRequest) -> Response {
    let (id, revision) = (&id, &revision);
    let error = &to.services.explained(error, to.scope, to.principal);
    let status = respond::refusal_status(error, to.scope.view == View::Relay, *revision);
    to.ctx.report_refusal(to.services, Some(to.scope), error, status);
    respond::refusal(status, error, id.as_ref(), *revision)
}

/// Answers a message. The outer error is the connection's, the inner one is answered.
async fn post(
    session: &mut Session,
    to: ViewContext<'_>,
) -> Result<Result<Option<Response>, RefusedRequest>> {
    let ViewContext { services, ctx, .. } = to;
    let ReadPost {
        peer,
        message,
        only_stream,
        body,
        slot: _slot,
    } = match read_post(session, to).await {
        Ok(read) => read,
        Err(refused) => return Ok(Err(refused)),
    };
    let owner = limits::budget_owner(to.principal);
    let answers = Arc::clone(&services.limits.answers).reserve(Some(owner));
    let plan = AnswerPlan {
        id: message.id().cloned(),
        revision: peer.revision,
        is_relay: to.scope.view == View::Relay,
        only_stream,
        load: RequestLoad::new(answers, body.bytes()),
    };
    let head = session.req_header();
    let takes_stream = intake::check_accept(&head.headers, &["text/event-stream"]).is_ok();
    let in_time = may_open_in_time(head, &message, to.scope);
    let opened = takes_stream.then(|| Outlet::open(&message)).flatten();
    let (outlet, notices) = opened.unzip();
    let session_id = resumable_session(&peer, &message).filter(|_| takes_stream);
    let ticket = session_id.is_some().then(TicketCell::default);
    let opening = StreamOpening {
        context: ctx,
        at_once: only_stream && ticket.is_some(),
        in_time,
        resumes: session_id.as_ref().zip(ticket.as_ref()),
        answers: &services.answers,
        metrics: &services.metrics,
    };
    let work = PostWork {
        peer,
        message,
        outlet,
        ticket: ticket.clone(),
        load: Arc::clone(&plan.load),
        body,
    };
    let running = start(to, work);
    match wait(session, opening, running, notices).await? {
        WaitOutcome::Streamed => Ok(Ok(None)),
        WaitOutcome::Done(Reply::Stream(mut messages)) => {
            bridge::begin_stream(session, ctx).await?;
            bridge::pump(session, &mut messages, std::future::pending(), &services.metrics).await?;
            Ok(Ok(None))
        }
        WaitOutcome::Done(reply) => Ok(plan.into_response(reply)),
    }
}

/// Reads head and body of a POST as a message and its sender.
async fn read_post(session: &mut Session, to: ViewContext<'_>) -> Result<ReadPost, RefusedRequest> {
    let shared = &to.services.limits;
    to.scope.provider_in(to.snapshot)?;
    intake::check_media(&session.req_header().headers)?;
    let owner = limits::budget_owner(to.principal);
    let mut reservation = Arc::clone(&shared.bodies).reserve(Some(owner));
    let body = bridge::read_body(session, to.services.max_body, &mut reservation).await?;
    let decode = || message::decode(&body).map(Arrived::open);
    let message = load::run_sized(body.len(), decode).map_err(|error| {
        let (error, id) = message::split_id(error);
        RefusedRequest(error, id, Revision::NEWEST_LEGACY)
    })?;
    let head = &session.req_header().headers;
    let peer = intake::peer(to, head, &message)
        .map_err(|error| RefusedRequest(error, message.id().cloned(), Revision::V2026_07_28))?;
    let refused = |error| RefusedRequest(error, message.id().cloned(), peer.revision);
    // What is no request asks for no answer, and may well make room.
    if message.id().is_some() && shared.answers.is_crowded() {
        return Err(refused(limits::memory_full()));
    }
    let is_stream = peer.revision.is_modern() && message.method == "subscriptions/listen";
    let slot = is_stream.then(|| shared.stream(to.principal, None));
    let slot = slot.transpose().map_err(refused)?;
    Ok(ReadPost {
        only_stream: intake::wants_stream(head),
        peer,
        message,
        body: reservation,
        slot,
    })
}

/// Starts the work on a message, its event included.
fn start(to: ViewContext<'_>, work: PostWork) -> RunningWork {
    let PostWork {
        peer,
        message,
        outlet,
        ticket,
        load,
        body,
    } = work;
    let exchange = Arc::clone(&to.services.exchange);
    let metrics = Arc::clone(&to.services.metrics);
    let (scope, snapshot) = (to.scope.clone(), Arc::clone(to.snapshot));
    let (started, address) = (to.ctx.started, to.ctx.peer);
    let key = to.ctx.caller.as_ref().and_then(|caller| caller.key.clone());
    let is_modern = peer.revision.is_modern();
    let work = async move {
        // What it was read from is gone by now; what was made of it goes with the work.
        let _body = body;
        let (reply, mut record) = exchange
            .handle(&snapshot, (&scope, &peer), message, outlet.as_ref())
            .await;
        let status = respond::reply_status(&reply, peer.revision, scope.view == View::Relay);
        let mut peer = peer;
        let id = std::mem::take(&mut peer.request_id);
        let mut done = RequestDone::new(id, std::mem::take(&mut record.method));
        peer.describe(&mut done);
        record.describe(&mut done);
        done.provider = done.provider.or(scope.provider);
        done.duration = started.elapsed();
        done.status = status.as_u16();
        (done.peer, done.key) = (address, key);
        done.view = Some(scope.view);
        done.emit(&metrics);
        let ticket = ticket.as_ref().and_then(|ticket| ticket.get());
        if let (Some(ticket), Reply::Answer { body, .. }) = (ticket, &reply) {
            ticket.answer(body);
        }
        reply
    };
    RunningWork {
        work: Some(Box::pin(Arc::clone(&load).carry(work))),
        outlives: !is_modern,
        load: Some(load),
    }
}

/// Opens the stream of a session. The outer error is the connection's, the inner one is answered.
async fn get(session: &mut Session, to: ViewContext<'_>) -> Result<Result<Option<Response>, RefusedRequest>> {
    let exchange = &to.services.exchange;
    let head = &session.req_header().headers;
    let opened = to.scope.provider_in(to.snapshot).and_then(|_| {
        let known = intake::find_session(to, head)?;
        let known = known.ok_or_else(|| {
            Error::new(
                Code::MethodNotAllowed,
                "a stream belongs to a session: initialize first",
            )
        })?;
        intake::check_accept(head, &["text/event-stream"])?;
        let peer = intake::build_peer(to, head, known);
        let slot = to.services.limits.stream(to.principal, peer.session.as_ref())?;
        Ok((peer, slot))
    });
    let (peer, _slot) = match opened {
        Ok(opened) => opened,
        Err(error) => return Ok(Err(error.into())),
    };
    let id = peer.session.clone().unwrap_or_default();
    let resumed = head
        .get("last-event-id")
        .and_then(|value| value.to_str().ok())
        .and_then(|event| to.services.answers.resume(&id, event));
    let mut messages = resumed.unwrap_or_else(|| exchange.session_stream(to.snapshot, to.scope, &peer));
    bridge::begin_stream(session, to.ctx).await?;
    let ended = exchange.sessions.ended(&id);
    bridge::pump(session, &mut messages, ended, &to.services.metrics).await?;
    Ok(Ok(None))
}

/// The session of a request whose client may come back for the answer, once that is a stream.
fn resumable_session(peer: &Peer, message: &Arrived) -> Option<Arc<str>> {
    let resumes = peer.revision == Revision::V2025_11_25 && message.id().is_some();
    peer.session.clone().filter(|_| resumes)
}

/// Whether the answer may begin before it is known: not that of `initialize`, whose head names the
/// session, nor the relay's, where a status tells what went wrong.
fn may_open_in_time(head: &RequestHeader, message: &Arrived, scope: &Scope) -> bool {
    scope.view != View::Relay
        && message.id().is_some()
        && message.method != "initialize"
        && head.version >= http::Version::HTTP_11
        && intake::names_type(&head.headers, "text/event-stream")
}

fn method_not_allowed() -> RefusedRequest {
    Error::new(
        Code::MethodNotAllowed,
        "POST a message, GET a session's stream, DELETE the session",
    )
    .into()
}

/// A JSON answer for a client that accepts only streams.
fn as_stream(mut response: Response) -> Response {
    let json = response
        .headers
        .iter_mut()
        .find(|(name, _)| *name == header::CONTENT_TYPE);
    if let Some((_, kind)) = json {
        *kind = http::HeaderValue::from_static("text/event-stream");
        let body: Bytes = std::mem::take(&mut response.body);
        response.body = pleiades_mcp::sse::frame(&body);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: &[u8] = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"act"}}"#;
    const INITIALIZE: &[u8] = br#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#;
    const NOTICE: &[u8] = br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

    fn message(body: &[u8]) -> Arrived {
        Arrived::open(message::decode(body).unwrap())
    }

    fn head(accept: &str) -> RequestHeader {
        let mut head = RequestHeader::build(Method::POST, b"/mcp", None).unwrap();
        head.insert_header(header::ACCEPT, accept).unwrap();
        head
    }

    #[test]
    fn a_long_answer_becomes_a_stream_for_clients_that_name_streams() {
        let both = head("application/json, text/event-stream");
        let scope = |view| Scope::new(view, None);
        assert!(may_open_in_time(&both, &message(CALL), &scope(View::Meta)));
        assert!(!may_open_in_time(&both, &message(INITIALIZE), &scope(View::Meta)));
        assert!(!may_open_in_time(&both, &message(NOTICE), &scope(View::Meta)));
        assert!(!may_open_in_time(&both, &message(CALL), &scope(View::Relay)));
        assert!(!may_open_in_time(
            &head("*/*"),
            &message(CALL),
            &scope(View::Meta)
        ));
        let mut old = both;
        old.set_version(http::Version::HTTP_10);
        assert!(!may_open_in_time(&old, &message(CALL), &scope(View::Meta)));
    }

    #[test]
    fn a_json_answer_is_framed_for_a_client_that_takes_only_streams() {
        let response = as_stream(Response::json(StatusCode::OK, "{}"));
        assert_eq!(response.headers[0].1, "text/event-stream");
        assert!(response.body.starts_with(b"data: {}") || response.body.ends_with(b"data: {}\n\n"));
        let empty = as_stream(Response::empty(StatusCode::ACCEPTED));
        assert!(empty.headers.is_empty() && empty.body.is_empty());
    }
}
