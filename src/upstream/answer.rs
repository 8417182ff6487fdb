//! Reading one HTTP response: a JSON body, or an event stream up to the answer of our request.

use std::{borrow::Cow, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};

use super::{
    asks::Request,
    call::Event,
    client::failure,
    incoming::{self, Outcome, is_for, is_type},
    lost,
    patience::Patience,
    post::{self, challenge, late},
    said::{self, Said},
};
use crate::credential::{Signature, oauth};
use crate::error::{Code, Error, RpcFault};
use crate::limit::load;
use crate::mcp::{Message, sse};

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
    /// The session that the request belongs to.
    pub(crate) session: Held,
    /// Whether no credential was sent.
    pub(crate) unsigned: bool,
    pub(crate) events: Option<&'a mpsc::Sender<Event>>,
    /// Moves the deadline of a call that may ask its caller.
    pub(crate) patience: Option<&'a Patience>,
}

/// Whether a request was made in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    /// It stands alone, or opens one.
    None,
    /// One without an id: there is nothing that the provider could have forgotten but that it was opened.
    Nameless,
    Named,
}

impl Reading<'_> {
    /// Of a request that stands alone and whose caller hears nothing but its answer.
    pub(crate) fn alone(id: u64, deadline: Instant, signature: &Signature) -> Self {
        Self {
            id,
            token: id,
            deadline,
            session: Held::None,
            unsigned: signature.is_empty(),
            events: None,
            patience: None,
        }
    }

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
        return Box::pin(refused(response, reading)).await;
    }
    if let Some(coding) = incoming::coding(response.headers()) {
        return Err(Failure::Final(coded(&coding)));
    }
    if is_type(response.headers(), "application/json") {
        let body = whole(response, LARGEST, reading.deadline).await?;
        return answer(&body, reading.id).map_err(Failure::Final);
    }
    if is_type(response.headers(), "text/event-stream") {
        return stream(response, reading, asked).await;
    }
    let (status, headers) = (response.status(), response.headers().clone());
    let body = Box::pin(beginning(response, reading.deadline)).await;
    let said = Said::of(status, &headers, &body);
    let message = format!(
        "the provider answered with something that is not MCP ({})",
        said.sort()
    );
    Err(Failure::Final(foreign(message).because(said)))
}

/// A body in a coding that was not asked for.
pub(crate) fn coded(coding: &str) -> Error {
    foreign(format!(
        "the provider's answer is compressed (`{coding}`), although `Accept-Encoding: identity` asks for none"
    ))
}

fn answer(body: &[u8], id: u64) -> Result<Outcome, Error> {
    match incoming::read(body) {
        Ok(Message::Response { id: found, outcome }) if is_for(&found, id) => Ok(outcome),
        Ok(_) => Err(foreign("the provider's answer belongs to another request")),
        Err(unread) => match incoming::fault(body) {
            Some((fault, _)) => Ok(Err(fault)),
            None => Err(foreign("the provider's answer is not valid JSON-RPC").because(unread.why)),
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
                after = post::event(&id);
            }
            if let Some(outcome) = event(&frame.data, reading, &asked) {
                drain(response);
                return outcome.map_err(Failure::Final);
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

fn event(data: &str, reading: &Reading<'_>, asked: &impl Fn(Request)) -> Option<Result<Outcome, Error>> {
    if data.is_empty() {
        return None;
    }
    match incoming::read(data.as_bytes()) {
        Ok(Message::Response { id, outcome }) if is_for(&id, reading.id) => return Some(Ok(outcome)),
        Ok(Message::Response { .. }) => tracing::debug!("an answer to no request of this stream"),
        Ok(Message::Notification { method, params }) => {
            incoming::notify(reading.events, reading.token, method, params);
        }
        Ok(Message::Request { id, method, params }) => asked(Request { id, method, params }),
        Err(unread) => match incoming::fault(data.as_bytes()) {
            // A refusal without an id on our request's own stream can only be about our request.
            Some((fault, None)) => return Some(Ok(Err(fault))),
            Some((fault, Some(id))) if id == reading.id => return Some(Ok(Err(fault))),
            _ if unread.ids.contains(&reading.id) => {
                let message = "the provider's answer is not valid JSON-RPC";
                return Some(Err(foreign(message).because(unread.why)));
            }
            _ => tracing::debug!(why = unread.why, "an event that is not JSON-RPC"),
        },
    }
    None
}

/// A status other than 200: often still a JSON-RPC error, and sometimes the end of a session.
pub(crate) async fn refused(response: reqwest::Response, reading: &Reading<'_>) -> Result<Outcome, Failure> {
    let (status, headers) = (response.status(), response.headers().clone());
    if status.is_redirection() {
        return Err(Failure::Final(redirected(status, &headers, response.url())));
    }
    if let Some(coding) = incoming::coding(&headers) {
        let error = judged(status, &headers, b"", reading).map_or_else(|error| error, |_| coded(&coding));
        return Err(Failure::Final(error));
    }
    // A refusal whose body cannot be read is still that refusal.
    let body = beginning(response, reading.deadline).await;
    let judged = judged(status, &headers, &body, reading);
    let fault = judged.as_ref().ok().and_then(|outcome| outcome.as_ref().err());
    if is_lost(status, &headers, &body, fault, reading.session) {
        return Err(Failure::SessionGone(match judged {
            // Should another session be refused alike, it is the credential.
            Err(error) if error.code == Code::UpstreamAuth => error,
            _ => gone().because(Said::of(status, &headers, &body)),
        }));
    }
    judged.map_err(Failure::Final)
}

/// Looks whether a 401 is about the session, before a credential is renewed for it. What was read of the
/// response is put back.
pub(crate) async fn peeked(response: reqwest::Response, deadline: Instant) -> (reqwest::Response, bool) {
    let (status, version) = (response.status(), response.version());
    let headers = response.headers().clone();
    let body = beginning(response, deadline).await;
    let fault = incoming::fault(&body).map(|(fault, _)| fault);
    let is_lost = is_lost(status, &headers, &body, fault.as_ref(), Held::Named);
    let mut whole = http::Response::new(reqwest::Body::from(body));
    (*whole.status_mut(), *whole.version_mut()) = (status, version);
    *whole.headers_mut() = headers;
    (whole.into(), is_lost)
}

/// The session is none any more, and nothing was run in it.
pub(crate) fn gone() -> Error {
    foreign("the provider does not know our session any more")
}

/// Whether a refusal is about the session. Words of a challenge are about the credential.
pub(crate) fn is_lost(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    fault: Option<&RpcFault>,
    session: Held,
) -> bool {
    let kind = said::kind(headers);
    let challenged = challenge(headers).is_some_and(|text| text.contains("error="));
    match session {
        Held::None => false,
        _ if challenged => false,
        // The path may be a wrong one.
        Held::Nameless => {
            let unknown = fault.is_some_and(|fault| !lost::is_named(fault));
            !unknown && lost::says(&kind, body)
        }
        Held::Named => lost::ends_session(status, &kind, body, fault),
    }
}

fn redirected(status: StatusCode, headers: &HeaderMap, from: &url::Url) -> Error {
    let message = format!(
        "the provider answered with a redirect (status {}), which is never followed; put the final address in \
         `upstream.url`",
        status.as_u16()
    );
    let mut error = foreign(message).because(Said::redirect(status, headers, from));
    // These ask for the same request at another place: nothing was run here (RFC 9110, 15.4).
    let elsewhere = [StatusCode::TEMPORARY_REDIRECT, StatusCode::PERMANENT_REDIRECT];
    error.sent = !elsewhere.contains(&status);
    error
}

/// What a refusal is, by status and words.
fn judged(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    reading: &Reading<'_>,
) -> Result<Outcome, Error> {
    let fault = incoming::fault(body).map(|(fault, _)| fault);
    let said = Said::of(status, headers, body);
    let challenge = challenge(headers);
    if oauth::challenge(status.as_u16(), challenge.as_deref()).is_refusal() {
        if status == StatusCode::FORBIDDEN && challenge.is_none() {
            match fault {
                Some(fault) if reading.unsigned => return Ok(Err(fault)),
                _ if said.is_page() => return Err(walled(said)),
                _ => {}
            }
        }
        return Err(unwelcome(status, challenge, said, reading.unsigned));
    }
    if let Some(fault) = fault {
        return Ok(Err(fault));
    }
    if status.is_success()
        && let Ok(Message::Response { id, outcome }) = incoming::read(body)
        && is_for(&id, reading.id)
    {
        return Ok(outcome);
    }
    let mut error = match status {
        StatusCode::TOO_MANY_REQUESTS => busy("the provider limits our requests; try again later".to_owned()),
        _ if status.is_server_error() => busy(format!(
            "the provider is failing ({}); try again later",
            said.sort()
        )),
        _ if status.is_success() => foreign(format!("the provider gave no answer ({})", said.sort())),
        _ => {
            // What a provider refuses a request for is for whoever made it.
            let words = said::told(body).map_or_else(String::new, |words| format!(": {words}"));
            foreign(format!(
                "the provider refused the request ({}){words}",
                said.sort()
            ))
        }
    };
    error.retry_after = incoming::retry_after(headers);
    Err(error.because(said))
}

/// A page for people where a credential would be refused in MCP.
fn walled(said: Said) -> Error {
    let message = format!(
        "a page came in place of the provider's answer ({}), as firewalls and proxies show it",
        said.sort()
    );
    foreign(message).because(said)
}

fn unwelcome(status: StatusCode, challenge: Option<String>, said: Said, unsigned: bool) -> Error {
    let message = match (unsigned, status) {
        (false, _) => "the provider refused the credential, or wants one",
        (true, StatusCode::UNAUTHORIZED) => "the provider wants a credential",
        (true, _) => "the provider forbids this, or wants a credential",
    };
    let mut error = Error::new(Code::UpstreamAuth, message).sent();
    error.refusal = Some(Box::new((status.as_u16(), challenge)));
    error.because(said)
}

/// The beginning of a body that is no answer; as much of it as comes soon.
pub(crate) async fn beginning(mut response: reqwest::Response, deadline: Instant) -> Bytes {
    let mut body = BytesMut::new();
    let read = async {
        while body.len() < REFUSAL
            && let Ok(Some(chunk)) = response.chunk().await
        {
            let room = REFUSAL - body.len();
            body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
        }
    };
    let soon = deadline.min(Instant::now() + LINGER);
    if timeout_at(soon, read).await.is_err() {
        tracing::trace!("the body of a refusal is slow to come");
    }
    body.freeze()
}

/// A whole body; one that comes in a single piece is not copied.
pub(crate) async fn whole(
    mut response: reqwest::Response,
    limit: usize,
    deadline: Instant,
) -> Result<Bytes, Failure> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    // Room for all of it at once, where its length is told: of many that come together some are refused,
    // not all when each is half there.
    let announced = usize::try_from(response.content_length().unwrap_or(0)).unwrap_or(usize::MAX);
    let mut room = announced.min(limit);
    load::came(room).map_err(|_full| Failure::Final(crowded()))?;
    loop {
        let chunk = match timeout_at(deadline, response.chunk()).await {
            Err(_) => return Err(Failure::Final(late())),
            Ok(Err(error)) => return Err(failure(error).into()),
            Ok(Ok(chunk)) => chunk,
        };
        let Some(chunk) = chunk else { break };
        let seen = first.len().max(rest.len()) + chunk.len();
        if seen > limit {
            return Err(Failure::Final(foreign("the provider's answer is too large")));
        }
        load::came(seen.saturating_sub(room)).map_err(|_full| Failure::Final(crowded()))?;
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

pub(crate) fn foreign(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(Code::UpstreamProtocol, message).sent()
}

fn busy(message: String) -> Error {
    Error::new(Code::UpstreamUnreachable, message).sent()
}
