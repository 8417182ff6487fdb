//! The meta and tool views, and the relay of a process: POST carries a message, GET a session's
//! stream, DELETE ends it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{Method, StatusCode, header};
use pingora_core::Result;
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::context::Context;
use super::gateway::Gateway;
use super::intake::ViewContext;
use super::limits::{self, StreamSlot};
use super::respond::{self, Response};
use super::resume::TicketCell;
use super::waiting::{OpenStream, RunningWork, StreamOpening, WaitOutcome, wait};
use super::{bridge, intake};
use crate::exchange::{Arrived, Outlet, Peer, Record, Reply, Scope};
use pleiades_core::error::{Code, Error};
use pleiades_core::limit::Reservation;
use pleiades_core::limit::load::{self, RequestLoad};
use pleiades_core::telemetry::View;
use pleiades_core::telemetry::events::RequestDone;
use pleiades_credential::access::Principal;
use pleiades_mcp::{Id, Revision, message};

/// A refusal on its way out: why, for which request, in which revision.
struct RefusedRequest(Error, Option<Id>, Revision);

impl From<Error> for RefusedRequest {
    fn from(error: Error) -> Self {
        Self(error, None, Revision::NEWEST_LEGACY)
    }
}

/// A message that was read, with what it holds of what all share.
struct ReadPost {
    peer: Peer,
    message: Arrived,
    /// Whether its answer is a stream even if nothing precedes it.
    only_stream: bool,
    body: Reservation,
    /// The place of a stream that it opens.
    slot: Option<StreamSlot>,
}

/// What a request's whole answer depends on.
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

/// A message on its way into the exchange.
struct PostWork {
    scope: Scope,
    peer: Peer,
    message: Arrived,
    outlet: Option<Outlet>,
    place: Option<TicketCell>,
    load: Arc<RequestLoad>,
    body: Reservation,
    started: Instant,
    from: (Option<IpAddr>, Option<Arc<str>>),
}

impl Gateway {
    /// Answers one request of a view.
    pub(super) async fn serve(
        &self,
        session: &mut Session,
        ctx: &mut Context,
        (scope, principal): (Scope, &Principal),
    ) -> Result<()> {
        let to = ViewContext {
            exchange: &self.exchange,
            principal,
            scope: &scope,
        };
        let method = session.req_header().method.clone();
        let served = match method {
            Method::POST => self.post(session, ctx, to).await,
            Method::GET => self.get(session, ctx, to).await,
            Method::DELETE => Ok(self.delete(session, to).await.map(Some)),
            _ => Ok(Err(method_not_allowed())),
        };
        let response = match served? {
            Ok(Some(response)) => response,
            Ok(None) => return Ok(()),
            Err(refused) => self.refuse(ctx, &scope, &refused),
        };
        bridge::respond(session, response, ctx.origin.as_deref()).await
    }

    async fn delete(&self, session: &mut Session, to: ViewContext<'_>) -> Result<Response, RefusedRequest> {
        let known = intake::find_session(to, &session.req_header().headers)?;
        let known = known.ok_or_else(method_not_allowed)?;
        to.exchange.end_session(&known.session).await;
        Ok(Response::empty(StatusCode::NO_CONTENT))
    }

    fn refuse(
        &self,
        ctx: &Context,
        scope: &Scope,
        RefusedRequest(error, id, revision): &RefusedRequest,
    ) -> Response {
        let status = respond::refusal_status(error, scope.view == View::Relay, *revision);
        let record = Record {
            method: "http".to_owned(),
            outcome: error.code.as_str(),
            ..Record::default()
        };
        self.report(ctx, scope, &record, status);
        respond::refusal(status, error, id.as_ref(), *revision)
    }

    async fn post(
        &self,
        session: &mut Session,
        ctx: &Context,
        to: ViewContext<'_>,
    ) -> Result<Result<Option<Response>, RefusedRequest>> {
        let read = self.read_post(session, ctx, to).await;
        let ReadPost {
            peer,
            message,
            only_stream,
            body,
            slot: _slot,
        } = match read {
            Ok(read) => read,
            Err(refused) => return Ok(Err(refused)),
        };
        let answers = Arc::clone(&self.limits.answers).reserve(Some(limits::budget_owner(to.principal)));
        let asked = AnswerPlan {
            id: message.id().cloned(),
            revision: peer.revision,
            is_relay: to.scope.view == View::Relay,
            only_stream,
            load: RequestLoad::new(answers, body.bytes()),
        };
        let head = session.req_header();
        let streams = intake::check_accept(&head.headers, &["text/event-stream"]).is_ok();
        let in_time = may_open_in_time(head, &message, to.scope);
        let opened = streams.then(|| Outlet::open(&message)).flatten();
        let (outlet, notices) = opened.unzip();
        let session_id = resumable_session(&peer, &message).filter(|_| streams);
        let place = session_id.is_some().then(TicketCell::default);
        let opening = StreamOpening {
            context: ctx,
            at_once: only_stream && place.is_some(),
            in_time,
            resumes: session_id.as_ref().zip(place.as_ref()),
            answers: &self.answers,
            metrics: &self.metrics,
        };
        let running = self.start(PostWork {
            scope: to.scope.clone(),
            peer,
            message,
            outlet,
            place: place.clone(),
            load: Arc::clone(&asked.load),
            body,
            started: ctx.started,
            from: (
                ctx.peer,
                ctx.caller.as_ref().and_then(|caller| caller.key.clone()),
            ),
        });
        match wait(session, opening, running, notices).await? {
            WaitOutcome::Streamed => Ok(Ok(None)),
            WaitOutcome::Done(Reply::Stream(mut messages)) => {
                let _open = OpenStream::begin(&self.metrics);
                bridge::begin_stream(session, ctx.origin.as_deref()).await?;
                bridge::pump(session, &mut messages, std::future::pending()).await?;
                Ok(Ok(None))
            }
            WaitOutcome::Done(reply) => Ok(asked.into_response(reply)),
        }
    }

    /// Head and body of a POST as a message and its sender.
    async fn read_post(
        &self,
        session: &mut Session,
        ctx: &Context,
        to: ViewContext<'_>,
    ) -> Result<ReadPost, RefusedRequest> {
        self.exchange.exists(to.scope, to.principal)?;
        intake::check_media(&session.req_header().headers)?;
        let mut reservation =
            Arc::clone(&self.limits.bodies).reserve(Some(limits::budget_owner(to.principal)));
        let body = bridge::read_body(session, self.max_body, &mut reservation).await?;
        let opened = || message::decode(&body).map(Arrived::open);
        let message = load::run_sized(body.len(), opened).map_err(|error| {
            let (error, id) = message::split_id(error);
            RefusedRequest(error, id, Revision::NEWEST_LEGACY)
        })?;
        let head = &session.req_header().headers;
        let peer = intake::peer(to, head, &message, &ctx.request_id)
            .map_err(|error| RefusedRequest(error, message.id().cloned(), Revision::V2026_07_28))?;
        let refused = |error| RefusedRequest(error, message.id().cloned(), peer.revision);
        // What is no request asks for no answer, and may well make room.
        if message.id().is_some() && self.limits.answers.is_crowded() {
            return Err(refused(limits::memory_full()));
        }
        let is_stream = peer.revision.is_modern() && message.method == "subscriptions/listen";
        let slot = is_stream.then(|| self.limits.stream(to.principal, None));
        let slot = slot.transpose().map_err(refused)?;
        Ok(ReadPost {
            only_stream: intake::wants_stream(head),
            peer,
            message,
            body: reservation,
            slot,
        })
    }

    /// The work on a message, its event included.
    fn start(&self, work: PostWork) -> RunningWork {
        let (exchange, metrics) = (Arc::clone(&self.exchange), Arc::clone(&self.metrics));
        let PostWork {
            scope,
            peer,
            message,
            outlet,
            place,
            load,
            body,
            started,
            from,
        } = work;
        let modern = peer.revision.is_modern();
        let work = async move {
            // What it was read from is gone by now; what was made of it goes with the work.
            let _body = body;
            let (reply, record) = exchange.handle(&scope, &peer, message, outlet.as_ref()).await;
            let status = match &reply {
                Reply::Answer { code: Some(code), .. } if scope.view == View::Relay => {
                    respond::relay_status(*code, peer.revision)
                }
                Reply::Answer { code: Some(code), .. } => respond::status(*code, peer.revision),
                Reply::Accepted => StatusCode::ACCEPTED,
                Reply::Answer { .. } | Reply::Stream(_) => StatusCode::OK,
            };
            let mut done = request_event(&scope, &record, &peer.request_id, started, status);
            peer.describe(&mut done);
            (done.peer, done.key) = from;
            done.view = Some(scope.view);
            done.emit(&metrics);
            let ticket = place.as_ref().and_then(|place| place.get());
            if let (Some(ticket), Reply::Answer { body, .. }) = (ticket, &reply) {
                ticket.answer(body);
            }
            reply
        };
        RunningWork {
            work: Some(Box::pin(Arc::clone(&load).carry(work))),
            outlives: !modern,
            load: Some(load),
        }
    }

    async fn get(
        &self,
        session: &mut Session,
        ctx: &Context,
        to: ViewContext<'_>,
    ) -> Result<Result<Option<Response>, RefusedRequest>> {
        let scope = to.scope;
        let head = &session.req_header().headers;
        let opened = self.exchange.exists(scope, to.principal).and_then(|()| {
            let known = intake::find_session(to, head)?;
            let known = known.ok_or_else(|| {
                Error::new(
                    Code::MethodNotAllowed,
                    "a stream belongs to a session: initialize first",
                )
            })?;
            intake::check_accept(head, &["text/event-stream"])?;
            Ok(intake::stream_peer(to, head, known, &ctx.request_id))
        });
        let opened = opened.and_then(|peer| {
            let place = self.limits.stream(to.principal, peer.lane.as_ref())?;
            Ok((peer, place))
        });
        let (peer, _place) = match opened {
            Ok(opened) => opened,
            Err(error) => return Ok(Err(error.into())),
        };
        let id = peer.lane.clone().unwrap_or_default();
        let resumed = head
            .get("last-event-id")
            .and_then(|value| value.to_str().ok())
            .and_then(|event| self.answers.resume(&id, event));
        let mut messages = resumed.unwrap_or_else(|| self.exchange.session_stream(scope, &peer));
        let _open = OpenStream::begin(&self.metrics);
        bridge::begin_stream(session, ctx.origin.as_deref()).await?;
        bridge::pump(session, &mut messages, self.exchange.sessions.ended(&id)).await?;
        Ok(Ok(None))
    }

    /// The event of a request that carried no message; it counts as no call.
    pub(super) fn report(&self, ctx: &Context, scope: &Scope, record: &Record, status: StatusCode) {
        let mut done = request_event(scope, record, &ctx.request_id, ctx.started, status);
        ctx.describe(&mut done);
        done.emit(&self.metrics);
    }
}

/// The session of a request whose client may come back for the answer, once that is a stream.
fn resumable_session(peer: &Peer, message: &Arrived) -> Option<Arc<str>> {
    let lane = peer.lane.as_ref()?;
    let resumes = peer.revision == Revision::V2025_11_25 && message.id().is_some();
    resumes.then(|| Arc::clone(lane))
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

fn request_event(
    scope: &Scope,
    record: &Record,
    request_id: &str,
    started: Instant,
    status: StatusCode,
) -> RequestDone {
    let mut done = RequestDone::new(request_id.to_owned(), record.method.clone());
    record.describe(&mut done);
    done.provider = done.provider.or_else(|| scope.provider.clone());
    done.duration = started.elapsed();
    done.status = status.as_u16();
    done
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
