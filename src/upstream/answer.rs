//! Reading one HTTP response: a JSON body, or an event stream up to the answer of our request.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http::{HeaderValue, StatusCode};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};

use super::{
    asks::Request,
    call::Event,
    client::failure,
    incoming::{self, Outcome, is_for, is_type},
    patience::Patience,
    post::{challenge, late},
};
use crate::error::{Code, Error};
use crate::limit::load;
use crate::mcp::{Message, message, sse};

/// The largest JSON body or single event that is read.
pub(crate) const LARGEST: usize = 32 * 1024 * 1024;
/// The largest body of a refusal that is looked into.
const REFUSAL: usize = 64 * 1024;
/// How long a stream may take to end after its answer.
const LINGER: Duration = Duration::from_secs(1);

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nothing more can be done.
    Final(Error),
    /// The connection could not be made or broke: another one may do.
    Broken(Error),
    /// The session is not known any more.
    SessionGone(Error),
    /// The stream ended before the answer, and may be continued after this event.
    Paused(Pause),
}

/// Where a stream ended.
#[derive(Debug)]
pub(crate) struct Pause {
    pub(crate) after: HeaderValue,
    pub(crate) retry: Option<Duration>,
}

/// What to look for in a response, and where the rest of it goes.
#[derive(Debug)]
pub(crate) struct Reading<'a> {
    pub(crate) id: u64,
    /// Under what its progress is told.
    pub(crate) token: u64,
    pub(crate) deadline: Instant,
    /// Whether a session id was sent along.
    pub(crate) in_session: bool,
    pub(crate) events: Option<&'a mpsc::Sender<Event>>,
    /// Moves the deadline of a call that may ask its caller.
    pub(crate) patience: Option<&'a Patience>,
}

impl Reading<'_> {
    /// Waits for a piece of the answer, `None` when it is too late for it.
    pub(crate) async fn wait<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        match self.patience {
            Some(patience) => patience.bear(future).await,
            None => timeout_at(self.deadline, future).await.ok(),
        }
    }

    /// When to give up, as things stand.
    pub(crate) fn deadline(&self) -> Instant {
        self.patience.map_or(self.deadline, Patience::deadline)
    }
}

impl From<Error> for Failure {
    /// Errors of the connection carry their cause; those of the protocol do not.
    fn from(error: Error) -> Self {
        if error.code == Code::UpstreamUnreachable && error.source.is_some() {
            return Self::Broken(error);
        }
        Self::Final(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Final(error) | Failure::Broken(error) | Failure::SessionGone(error) => error,
            Failure::Paused(_) => cut(),
        }
    }
}

/// Reads a response to its end or to the answer, whichever comes first. Requests of the provider
/// on the stream go to `asked`.
pub(crate) async fn read(
    response: reqwest::Response,
    reading: &Reading<'_>,
    asked: impl Fn(Request),
) -> Result<Outcome, Failure> {
    if response.status() != StatusCode::OK {
        return refused(response, reading).await;
    }
    if is_type(response.headers(), "application/json") {
        let body = whole(response, LARGEST, reading.deadline).await?;
        return answer(&body, reading.id).map_err(Failure::Final);
    }
    if is_type(response.headers(), "text/event-stream") {
        return stream(response, reading, asked).await;
    }
    Err(Failure::Final(foreign(
        "the provider answered with something that is not MCP",
    )))
}

fn answer(body: &[u8], id: u64) -> Result<Outcome, Error> {
    match message::decode(body) {
        Ok(Message::Response { id: found, outcome }) if is_for(&found, id) => Ok(outcome),
        Ok(_) => Err(foreign("the provider's answer belongs to another request")),
        Err(error) => match incoming::fault(body) {
            Some((fault, _)) => Ok(Err(fault)),
            None => Err(foreign("the provider's answer is not valid JSON-RPC").because(error)),
        },
    }
}

async fn stream(
    mut response: reqwest::Response,
    reading: &Reading<'_>,
    asked: impl Fn(Request),
) -> Result<Outcome, Failure> {
    let mut parser = sse::Parser::new(LARGEST);
    let (mut after, mut retry) = (None, None);
    let mut most = 0;
    let broken = loop {
        while let Some(frame) = parser.next() {
            retry = frame.retry.or(retry);
            if let Some(id) = frame.id.filter(|id| !id.is_empty()) {
                after = HeaderValue::from_str(&id).ok();
            }
            if let Some(outcome) = event(&frame.data, reading, &asked) {
                drain(response);
                return Ok(outcome);
            }
        }
        match reading.wait(response.chunk()).await {
            None => return Err(Failure::Final(late())),
            Some(Ok(Some(bytes))) => {
                parser.push(&bytes).map_err(|error| {
                    Failure::Final(foreign("the provider's event stream is malformed").because(error))
                })?;
                let more = parser.buffered().saturating_sub(most);
                load::came(more).map_err(|_full| Failure::Final(crowded()))?;
                most += more;
                load::step_aside().await;
            }
            Some(Ok(None)) => break None,
            Some(Err(error)) => break Some(error),
        }
    };
    match (after, broken) {
        (Some(after), _) => Err(Failure::Paused(Pause { after, retry })),
        (None, Some(error)) => Err(failure(error).into()),
        (None, None) => Err(Failure::Broken(cut())),
    }
}

/// Reads a stream to the end that follows its answer, so that the connection can be used again;
/// dropped before it, the connection would be closed after every call.
fn drain(mut response: reqwest::Response) {
    if let Some(Ok(None) | Err(_)) = response.chunk().now_or_never() {
        return;
    }
    tokio::spawn(async move {
        let rest = async { while let Ok(Some(_)) = response.chunk().await {} };
        if timeout(LINGER, rest).await.is_err() {
            tracing::trace!("a stream stays open after its answer");
        }
    });
}

fn event(data: &str, reading: &Reading<'_>, asked: &impl Fn(Request)) -> Option<Outcome> {
    if data.is_empty() {
        return None;
    }
    match message::decode(data.as_bytes()) {
        Ok(Message::Response { id, outcome }) if is_for(&id, reading.id) => return Some(outcome),
        Ok(Message::Response { .. }) => tracing::debug!("an answer to no request of this stream"),
        Ok(Message::Notification { method, params }) => {
            incoming::notify(reading.events, reading.token, method, params);
        }
        Ok(Message::Request { id, method, params }) => asked(Request { id, method, params }),
        Err(error) => match incoming::fault(data.as_bytes()) {
            // A refusal without an id on our request's own stream can only be about our request.
            Some((fault, None)) => return Some(Err(fault)),
            _ => tracing::debug!(%error, "an event that is not JSON-RPC"),
        },
    }
    None
}

/// A status other than 200: often still a JSON-RPC error, and sometimes the end of a session.
pub(crate) async fn refused(response: reqwest::Response, reading: &Reading<'_>) -> Result<Outcome, Failure> {
    let status = response.status();
    let retry_after = incoming::retry_after(response.headers());
    if status.is_redirection() {
        let message = "the provider answered with a redirect, which is not followed; \
                       put the final address in `upstream.url`";
        return Err(Failure::Final(foreign(message)));
    }
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        let message = "the provider refused the credential, or wants one";
        let mut error = Error::new(Code::UpstreamAuth, message).sent();
        error.refusal = Some(Box::new((status.as_u16(), challenge(response.headers()))));
        return Err(Failure::Final(error));
    }
    // A refusal whose body cannot be read is still that refusal.
    let body = whole(response, REFUSAL, reading.deadline)
        .await
        .unwrap_or_default();
    let fault = incoming::fault(&body);
    // An unknown method is the one thing a known session may be answered 404 for.
    let unknown_method = fault
        .as_ref()
        .is_some_and(|(fault, _)| fault.code == METHOD_NOT_FOUND);
    if reading.in_session && !unknown_method && ends_session(status, &body) {
        let message = "the provider does not know our session any more";
        return Err(Failure::SessionGone(
            Error::new(Code::UpstreamProtocol, message).sent(),
        ));
    }
    if let Some((fault, _)) = fault {
        return Ok(Err(fault));
    }
    let mut error = match status {
        StatusCode::TOO_MANY_REQUESTS => busy("the provider limits our requests; try again later"),
        _ if status.is_server_error() => busy("the provider is failing; try again later"),
        _ => foreign("the provider refused the request without saying why"),
    };
    error.retry_after = retry_after;
    Err(Failure::Final(error.because(format!("status {status}"))))
}

const METHOD_NOT_FOUND: i64 = -32601;

/// 404 by the specification; some servers answer 400 and name the session in words.
fn ends_session(status: StatusCode, body: &[u8]) -> bool {
    status == StatusCode::NOT_FOUND
        || status == StatusCode::BAD_REQUEST
            && String::from_utf8_lossy(body)
                .to_ascii_lowercase()
                .contains("session")
}

/// A whole body; one that comes in a single piece is not copied.
pub(crate) async fn whole(
    mut response: reqwest::Response,
    limit: usize,
    deadline: Instant,
) -> Result<Bytes, Failure> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    loop {
        let chunk = match timeout_at(deadline, response.chunk()).await {
            Err(_) => return Err(Failure::Final(late())),
            Ok(Err(error)) => return Err(failure(error).into()),
            Ok(Ok(chunk)) => chunk,
        };
        let Some(chunk) = chunk else { break };
        if first.len().max(rest.len()) + chunk.len() > limit {
            return Err(Failure::Final(foreign("the provider's answer is too large")));
        }
        load::came(chunk.len()).map_err(|_full| Failure::Final(crowded()))?;
        if first.is_empty() {
            first = chunk;
            continue;
        }
        if rest.is_empty() {
            rest.extend_from_slice(&first);
        }
        rest.extend_from_slice(&chunk);
    }
    load::step_aside().await;
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

/// The stream ended without the answer.
pub(crate) fn cut() -> Error {
    Error::new(
        Code::UpstreamUnreachable,
        "the provider's stream ended before its answer",
    )
    .sent()
}

/// There is no room for the answer.
pub(crate) fn crowded() -> Error {
    let message = "the gateway holds as many answers as it may, for all callers or for this one, and dropped \
                   this one; the call may have been carried out: look before you make it again";
    Error::new(Code::Busy, message)
        .sent()
        .retry_after(Duration::from_secs(1))
        .data(serde_json::json!({ "code": Code::Busy.as_str(), "rule": "memory", "retry_after": 1 }))
}

pub(crate) fn foreign(message: &'static str) -> Error {
    Error::new(Code::UpstreamProtocol, message).sent()
}

fn busy(message: &'static str) -> Error {
    Error::new(Code::UpstreamUnreachable, message).sent()
}
