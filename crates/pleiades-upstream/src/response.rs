//! Reading one HTTP response: a JSON body, or an event stream up to the answer of our request.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, StatusCode};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use super::{
    call::ProviderEvent,
    client::{ConnectionFault, connection_error, timed_out},
    deadline::Deadline,
    event_stream::{EventStream, StreamError},
    incoming::{self, LARGEST, RpcResult, content_coding, is_for, is_type, protocol_error},
    incoming_request::IncomingRequest,
    outgoing,
    refusal::{RefusedResponse, SessionKind},
};
use pleiades_core::error::{Code, Error};
use pleiades_core::{limit::load, signature::Signature};
use pleiades_mcp::Message;

#[derive(Debug)]
pub(crate) enum CallFailure {
    Final(Error),
    /// The connection could not be made or broke: another one may do.
    Broken(Error),
    SessionGone(Error),
    /// The stream ended before the answer, and may be continued after this event.
    Interrupted(ResumePoint),
}

#[derive(Debug)]
pub(crate) struct ResumePoint {
    pub(crate) after: HeaderValue,
    pub(crate) retry: Option<Duration>,
}

#[derive(Debug)]
pub(crate) struct Reading<'a> {
    pub(crate) id: u64,
    pub(crate) token: u64,
    pub(crate) deadline: Instant,
    pub(crate) session: SessionKind,
    /// Whether no credential was sent.
    pub(crate) unsigned: bool,
    pub(crate) events: Option<&'a mpsc::Sender<ProviderEvent>>,
    /// Moves the deadline of a call that may ask its caller.
    pub(crate) timer: Option<&'a Deadline>,
}

impl Reading<'_> {
    /// Of a request that stands alone and without events.
    pub(crate) fn alone(id: u64, deadline: Instant, signature: &Signature) -> Self {
        Self {
            id,
            token: id,
            deadline,
            session: SessionKind::None,
            unsigned: signature.is_empty(),
            events: None,
            timer: None,
        }
    }

    /// Waits for a piece of the answer, `None` when it is too late for it.
    pub(crate) async fn wait<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        match self.timer {
            Some(timer) => timer.run(future).await,
            None => timeout_at(self.deadline, future).await.ok(),
        }
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.timer.map_or(self.deadline, Deadline::at)
    }
}

impl From<Error> for CallFailure {
    /// Another connection may do after an error of one.
    fn from(error: Error) -> Self {
        let broken = |error: &Error| error.source.as_ref().is_some_and(|it| it.is::<ConnectionFault>());
        if error.code == Code::UpstreamUnreachable && broken(&error) {
            return Self::Broken(error);
        }
        Self::Final(error)
    }
}

impl From<CallFailure> for Error {
    fn from(failure: CallFailure) -> Self {
        match failure {
            CallFailure::Final(error) | CallFailure::Broken(error) | CallFailure::SessionGone(error) => error,
            CallFailure::Interrupted(_) => stream_ended(),
        }
    }
}

/// Reads a response to its end or to the answer, whichever comes first. Requests of the provider
/// on the stream go to `asked`.
pub(crate) async fn read(
    response: reqwest::Response,
    reading: &Reading<'_>,
    asked: impl Fn(IncomingRequest),
) -> Result<RpcResult, CallFailure> {
    if response.status() != StatusCode::OK {
        return Box::pin(read_refusal(response, reading)).await;
    }
    incoming::refuse_coding(response.headers()).map_err(CallFailure::Final)?;
    if is_type(response.headers(), "application/json") {
        let body = read_whole(response, LARGEST, reading.deadline).await?;
        return decode_answer(&body, reading.id).map_err(CallFailure::Final);
    }
    if is_type(response.headers(), "text/event-stream") {
        return stream(response, reading, asked).await;
    }
    let refused = Box::pin(RefusedResponse::read(response, reading.deadline)).await;
    let summary = refused.summary();
    let seen = summary.describe();
    let message = format!("the provider answered with something that is not MCP ({seen})");
    Err(CallFailure::Final(protocol_error(message).because(summary)))
}

fn decode_answer(body: &[u8], id: u64) -> Result<RpcResult, Error> {
    match incoming::decode(body) {
        Ok(Message::Response { id: found, outcome }) if is_for(&found, id) => Ok(outcome),
        Ok(_) => Err(protocol_error("the provider's answer belongs to another request")),
        Err(unread) => match incoming::read_fault(body) {
            Some((fault, _)) => Ok(Err(fault)),
            None => Err(protocol_error("the provider's answer is not valid JSON-RPC").because(unread.why)),
        },
    }
}

async fn stream(
    response: reqwest::Response,
    reading: &Reading<'_>,
    asked: impl Fn(IncomingRequest),
) -> Result<RpcResult, CallFailure> {
    let mut stream = EventStream::new(response);
    let (mut after, mut retry) = (None, None);
    let mut most = 0;
    let broken = loop {
        while let Some(frame) = stream.frame() {
            retry = frame.retry.or(retry);
            if let Some(id) = frame.id.filter(|id| !id.is_empty()) {
                after = outgoing::event_id(&id);
            }
            if let Some(outcome) = handle_event(&frame.data, reading, &asked) {
                stream.drain();
                return outcome.map_err(CallFailure::Final);
            }
        }
        match reading.wait(stream.fill()).await {
            None => return Err(CallFailure::Final(timed_out())),
            Some(Ok(true)) => {
                let more = stream.buffered().saturating_sub(most);
                charge(more)?;
                most += more;
                load::yield_if_large().await;
            }
            Some(Ok(false)) => break None,
            Some(Err(StreamError::Broken(error))) => break Some(error),
            Some(Err(StreamError::Malformed(error))) => {
                let malformed = protocol_error("the provider's event stream is malformed");
                return Err(CallFailure::Final(malformed.because(error)));
            }
        }
    };
    match (after, broken) {
        (Some(after), _) => Err(CallFailure::Interrupted(ResumePoint { after, retry })),
        (None, Some(error)) => Err(error.into()),
        (None, None) => Err(CallFailure::Broken(stream_ended())),
    }
}

fn handle_event(
    data: &str,
    reading: &Reading<'_>,
    asked: &impl Fn(IncomingRequest),
) -> Option<Result<RpcResult, Error>> {
    if data.is_empty() {
        return None;
    }
    match incoming::decode(data.as_bytes()) {
        Ok(Message::Response { id, outcome }) if is_for(&id, reading.id) => return Some(Ok(outcome)),
        Ok(Message::Response { .. }) => tracing::debug!("an answer to no request of this stream"),
        Ok(Message::Notification { method, params }) => {
            incoming::notify(reading.events, reading.token, method, params);
        }
        Ok(Message::Request { id, method, params }) => asked(IncomingRequest { id, method, params }),
        Err(unread) => match incoming::read_fault(data.as_bytes()) {
            // A refusal without an id on our request's own stream can only be about our request.
            Some((fault, id)) if id.is_none_or(|id| id == reading.id) => return Some(Ok(Err(fault))),
            _ if unread.ids.contains(&reading.id) => {
                let message = "the provider's answer is not valid JSON-RPC";
                return Some(Err(protocol_error(message).because(unread.why)));
            }
            _ => tracing::debug!(error = unread.why, "an event that is not JSON-RPC"),
        },
    }
    None
}

/// A status other than 200: often still a JSON-RPC error, and sometimes the end of a session.
pub(crate) async fn read_refusal(
    response: reqwest::Response,
    reading: &Reading<'_>,
) -> Result<RpcResult, CallFailure> {
    let is_read = !response.status().is_redirection() && content_coding(response.headers()).is_none();
    // A refusal whose body cannot be read is still that refusal.
    let refused = if is_read {
        RefusedResponse::read(response, reading.deadline).await
    } else {
        RefusedResponse::head(&response)
    };
    let outcome = refused.outcome(reading.id, reading.unsigned);
    let fault = outcome.as_ref().ok().and_then(|outcome| outcome.as_ref().err());
    if is_read && refused.ends_session(reading.session, fault) {
        return Err(CallFailure::SessionGone(match outcome {
            // Should another session be refused alike, it is the credential.
            Err(error) if error.code == Code::UpstreamAuth => error,
            // Nothing was run in it.
            _ => protocol_error("the provider does not know our session any more").because(refused.summary()),
        }));
    }
    outcome.map_err(CallFailure::Final)
}

/// Looks whether a 401 is about the session, before a credential is renewed for it. What was read of the
/// response is put back.
pub(crate) async fn peek_session_loss(
    response: reqwest::Response,
    deadline: Instant,
) -> (reqwest::Response, bool) {
    let refused = RefusedResponse::read(response, deadline).await;
    let is_lost = refused.ends_session(SessionKind::Named, refused.fault().as_ref());
    (refused.into_response(), is_lost)
}

/// A whole body; one that comes in a single piece is not copied.
pub(crate) async fn read_whole(
    mut response: reqwest::Response,
    limit: usize,
    deadline: Instant,
) -> Result<Bytes, CallFailure> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    // Room for all of it at once, where its length is known: of many that come together some are refused,
    // not all when each is half there.
    let announced = usize::try_from(response.content_length().unwrap_or(0)).unwrap_or(usize::MAX);
    let mut room = announced.min(limit);
    charge(room)?;
    loop {
        let chunk = match timeout_at(deadline, response.chunk()).await {
            Err(_) => return Err(CallFailure::Final(timed_out())),
            Ok(Err(error)) => {
                let error = error.with_url(response.url().clone());
                return Err(connection_error(error).into());
            }
            Ok(Ok(chunk)) => chunk,
        };
        let Some(chunk) = chunk else { break };
        let seen = first.len().max(rest.len()) + chunk.len();
        if seen > limit {
            let error = protocol_error("the provider's answer is too large");
            return Err(CallFailure::Final(error));
        }
        charge(seen.saturating_sub(room))?;
        room = room.max(seen);
        if first.is_empty() {
            first = chunk;
            continue;
        }
        if rest.is_empty() {
            rest.extend_from_slice(&first);
        }
        rest.extend_from_slice(&chunk);
    }
    load::yield_if_large().await;
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

pub(crate) fn stream_ended() -> Error {
    let message = "the provider's stream ended before its answer";
    Error::new(Code::UpstreamUnreachable, message).sent()
}

/// Counts bytes of an answer against what all answers may take.
pub(crate) fn charge(bytes: usize) -> Result<(), Error> {
    load::charge(bytes).map_err(|_full| {
        let message = "the gateway holds as many answers as it may, for all callers or for this one, and dropped \
                       this one; the call may have been carried out: look before you make it again";
        Error::new(Code::Busy, message)
            .sent()
            .retry_after(Duration::from_secs(1))
            .data(serde_json::json!({ "code": Code::Busy.as_str(), "rule": "memory", "retry_after": 1 }))
    })
}
