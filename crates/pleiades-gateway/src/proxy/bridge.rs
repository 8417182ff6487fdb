//! Between a Pingora session and our answers: bodies in, responses and event streams out, and whether
//! the client is gone.

use std::net::{IpAddr, SocketAddr};
use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{StatusCode, header};
use pingora_core::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::{context::Context, limits, respond::Response};
use pleiades_core::error::{Code, Error};
use pleiades_core::limit::{Budget, Reservation};
use pleiades_core::telemetry::Metrics;
use pleiades_credential::access::framing;
use pleiades_mcp::sse;

/// How long the rest of a body is waited for before an answer that does not need it.
const DRAIN_WITHIN: Duration = Duration::from_millis(50);
/// How long a client that still writes may take to notice its answer.
const LINGER: Duration = Duration::from_secs(1);
/// Between two signs of life on a quiet stream; below the idle limits of common proxies.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How long a body may take whatever its size, and what it has to bring each second after that.
const BODY_WITHIN: Duration = Duration::from_secs(30);
const BODY_RATE: u64 = 1024;
/// How much is written at once, and how long a client may take to read it: 2 KiB/s at least.
const PIECE: usize = 64 * 1024;
const PIECE_WITHIN: Duration = Duration::from_secs(30);

/// Bounds every wait for a client that does not read.
pub(super) fn set_timeouts(session: &mut Session) {
    session.as_downstream_mut().set_write_timeout(Some(PIECE_WITHIN));
}

/// Whether a request came with both lengths. Pingora drops `Content-Length` then (RFC 9112 section
/// 6.3), so only the bytes of the head still show it.
pub(super) fn has_two_lengths(session: &Session) -> bool {
    let headers = &session.req_header().headers;
    headers.contains_key(header::TRANSFER_ENCODING)
        && session
            .as_http1()
            .is_some_and(|plain| framing::has_content_length(&plain.get_headers_raw_bytes()))
}

pub(super) fn peer_address(session: &Session) -> Option<IpAddr> {
    session.client_addr()?.as_inet().map(SocketAddr::ip)
}

/// Reads a whole body, counted in `reservation` as it comes. Errors: [`Code::TooLarge`]; [`Code::BadFraming`]
/// when it is malformed or ends early; [`Code::BodyTooSlow`]; [`Code::Busy`].
pub(super) async fn read_body(
    session: &mut Session,
    limit: usize,
    reservation: &mut Reservation,
) -> Result<Bytes, Error> {
    let announced = session.req_header().headers.get(header::CONTENT_LENGTH);
    let announced = announced
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    send_continue(session).await?;
    let begun = Instant::now();
    let mut first: Option<Bytes> = None;
    let mut rest = BytesMut::new();
    loop {
        let late = begun + BODY_WITHIN + Duration::from_secs(reservation.bytes() as u64 / BODY_RATE);
        let chunk = match timeout_at(late, session.read_request_body()).await {
            Ok(chunk) => chunk.map_err(unreadable)?,
            Err(_elapsed) => return Err(too_slow()),
        };
        let Some(chunk) = chunk else { break };
        let seen = first.as_ref().map_or(0, Bytes::len).max(rest.len());
        if seen + chunk.len() > limit {
            return Err(too_large(limit));
        }
        reservation
            .grow(chunk.len())
            .map_err(|_full| limits::memory_full())?;
        match (&first, rest.is_empty()) {
            (None, true) => first = Some(chunk),
            (Some(one), true) => {
                rest.reserve(announced.unwrap_or(0).max(one.len() + chunk.len()));
                rest.extend_from_slice(one);
                rest.extend_from_slice(&chunk);
            }
            _ => rest.extend_from_slice(&chunk),
        }
    }
    Ok(if rest.is_empty() {
        first.unwrap_or_default()
    } else {
        rest.freeze()
    })
}

/// Reads a whole body that is too small to count. Errors: as [`read_body`].
pub(super) async fn read_small_body(session: &mut Session, limit: usize) -> Result<Bytes, Error> {
    let mut reservation = Budget::new(limit.saturating_mul(2)).reserve(None);
    read_body(session, limit, &mut reservation).await
}

fn too_slow() -> Error {
    Error::new(
        Code::BodyTooSlow,
        "the body came too slowly: after 30 s it has to bring 1 KiB a second",
    )
}

fn too_large(limit: usize) -> Error {
    Error::new(
        Code::TooLarge,
        format!("the body is larger than {limit} bytes (`max_body`)"),
    )
}

/// Where a body that cannot be read ends is unknown, so nothing after it on the connection is read.
fn unreadable(cause: Box<pingora_core::Error>) -> Error {
    Error::new(Code::BadFraming, "the body is malformed or ended early").because(cause)
}

/// Asks for the body of a client that waits for it (RFC 9110 section 10.1.1).
/// Errors: [`Code::BadFraming`] when the client cannot be reached.
pub(super) async fn send_continue(session: &mut Session) -> Result<(), Error> {
    if is_waiting(session) {
        session
            .as_downstream_mut()
            .write_continue_response()
            .await
            .map_err(unreadable)?;
    }
    Ok(())
}

/// Whether the client sends its body only when asked.
fn is_waiting(session: &Session) -> bool {
    let head = session.req_header();
    let expects = head
        .headers
        .get(header::EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    expects && head.version == http::Version::HTTP_11
}

pub(super) async fn respond(session: &mut Session, response: Response, ctx: &Context) -> Result<()> {
    let mut head = ResponseHeader::build(response.status, Some(8))?;
    for (name, value) in response.headers {
        head.append_header(name, value)?;
    }
    ctx.sign(&mut head)?;
    if response.status != StatusCode::NO_CONTENT {
        head.insert_header(header::CONTENT_LENGTH, response.body.len())?;
    }
    // A connection can be kept only when nothing of its request is left on it.
    let read = session.as_downstream_mut().is_body_done()
        || !response.close
            && !is_waiting(session)
            && within(DRAIN_WITHIN, session.drain_request_body()).await;
    if response.close || !read {
        session.set_keepalive(None);
    }
    let empty = response.body.is_empty();
    session.write_response_header(Box::new(head), empty).await?;
    if empty {
        session.write_response_body(None, true).await?;
    } else {
        write(session, response.body, true).await?;
    }
    if !read {
        // Closed on a client that still writes, the answer would be lost with the connection.
        within(LINGER, session.drain_request_body()).await;
    }
    Ok(())
}

/// Writes in pieces, so that a client has to read something now and then, not everything at once.
async fn write(session: &mut Session, mut bytes: Bytes, is_last: bool) -> Result<()> {
    while bytes.len() > PIECE {
        let piece = bytes.split_to(PIECE);
        session.write_response_body(Some(piece), false).await?;
    }
    session.write_response_body(Some(bytes), is_last).await
}

async fn within<T, E>(limit: Duration, work: impl Future<Output = std::result::Result<T, E>>) -> bool {
    matches!(tokio::time::timeout(limit, work).await, Ok(Ok(_)))
}

pub(super) async fn begin_stream(session: &mut Session, ctx: &Context) -> Result<()> {
    let mut head = ResponseHeader::build(StatusCode::OK, Some(8))?;
    head.insert_header(header::CONTENT_TYPE, "text/event-stream")?;
    head.insert_header(header::CACHE_CONTROL, "no-cache, no-transform")?;
    head.insert_header("x-accel-buffering", "no")?;
    if !session.is_http2() {
        head.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    }
    ctx.sign(&mut head)?;
    session.write_response_header(Box::new(head), false).await
}

/// Writes where a stream that breaks can be resumed, and when.
pub(super) async fn write_primer(session: &mut Session, id: &str, retry: Duration) -> Result<()> {
    session
        .write_response_body(Some(sse::primer(id, retry)), false)
        .await
}

pub(super) async fn write_event(session: &mut Session, message: &[u8]) -> Result<()> {
    write(session, sse::frame(message), false).await
}

/// Writes a sign of life on a stream.
pub(super) async fn write_comment(session: &mut Session) -> Result<()> {
    session
        .write_response_body(Some(Bytes::from_static(sse::COMMENT)), false)
        .await
}

pub(super) async fn end_stream(session: &mut Session) -> Result<()> {
    session.write_response_body(None, true).await
}

/// Writes messages as events until the source ends, the client is gone or `ended` says so.
pub(super) async fn pump(
    session: &mut Session,
    messages: &mut mpsc::Receiver<Vec<u8>>,
    ended: impl Future<Output = ()>,
    metrics: &Arc<Metrics>,
) -> Result<()> {
    let _open = OpenStream::begin(metrics);
    // Proxies and clients learn at once that the stream stands.
    write_comment(session).await?;
    tokio::pin!(ended);
    loop {
        let message = tokio::select! {
            message = messages.recv() => message,
            () = &mut ended => None,
            () = tokio::time::sleep(KEEP_ALIVE) => Some(Vec::new()),
            gone = session.read_body_or_idle(true) => return gone.map(|_| ()),
        };
        match message {
            None => return end_stream(session).await,
            Some(message) if message.is_empty() => write_comment(session).await?,
            Some(message) => write_event(session, &message).await?,
        }
    }
}

/// Counts a stream while it is open.
pub(super) struct OpenStream(Arc<Metrics>);

impl OpenStream {
    pub(super) fn begin(metrics: &Arc<Metrics>) -> Self {
        metrics.streams(1);
        Self(Arc::clone(metrics))
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.streams(-1);
    }
}

/// The answer to a preflight of an origin of ours.
pub(super) fn preflight(asked: Option<&http::HeaderValue>) -> Response {
    let response = Response::empty(StatusCode::NO_CONTENT)
        .header(
            header::ACCESS_CONTROL_ALLOW_METHODS,
            "GET, POST, PUT, DELETE, OPTIONS",
        )
        .header(header::ACCESS_CONTROL_MAX_AGE, "600");
    match asked.and_then(|value| value.to_str().ok()) {
        Some(headers) => response.header(header::ACCESS_CONTROL_ALLOW_HEADERS, headers),
        None => response,
    }
}
