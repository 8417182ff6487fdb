//! How a relayed request can break, and whether it may be sent again.

use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error as ProxyError, ErrorSource, ErrorType};
use pingora_proxy::Session;

use super::context::Context;
use pleiades_core::error::{Code, Error};

const MAX_ATTEMPTS: usize = 2;

/// Another address may do better; no byte of the request was written.
pub(super) fn retry_connect(ctx: &mut Context, mut error: Box<ProxyError>) -> Box<ProxyError> {
    if let Some(passage) = ctx.relay.as_ref() {
        error.set_retry(passage.attempts < MAX_ATTEMPTS);
    }
    error
}

/// A kept connection that the upstream had closed: the request is sent again only when it was
/// replayable and never began to be answered. One whose credential was renewed goes again.
pub(super) fn retry_broken(
    _peer: &HttpPeer,
    session: &mut Session,
    mut error: Box<ProxyError>,
    ctx: &mut Context,
    client_reused: bool,
) -> Box<ProxyError> {
    if let Some(passage) = ctx.relay.as_mut().filter(|passage| passage.is_retried) {
        passage.is_retried = false;
        error.set_retry(true);
        return error;
    }
    let attempts = ctx
        .relay
        .as_ref()
        .map_or(MAX_ATTEMPTS, |passage| passage.attempts);
    let call = ctx
        .relay
        .as_ref()
        .is_some_and(|passage| passage.method == "tools/call" || passage.method.is_empty());
    let replayable = !session.as_ref().retry_buffer_truncated() && attempts < MAX_ATTEMPTS && !call;
    error.retry.decide_reuse(client_reused && replayable);
    error
}

pub(super) fn to_error(error: &ProxyError) -> Error {
    match error.etype() {
        ErrorType::ConnectTimedout
        | ErrorType::ReadTimedout
        | ErrorType::WriteTimedout
        | ErrorType::TLSHandshakeTimedout => {
            Error::new(Code::UpstreamTimeout, "the provider did not answer in time")
        }
        _ if is_malformed(error) => Error::new(Code::BadFraming, "the body is malformed or ended early"),
        ErrorType::HTTPStatus(413) => Error::new(Code::TooLarge, "the body is larger than `max_body`"),
        _ => {
            Error::new(Code::UpstreamUnreachable, "the provider cannot be reached").because(error.to_string())
        }
    }
}

/// Whether the client's body is malformed or ends early, as opposed to the client being gone while
/// it is answered.
pub(super) fn is_malformed(error: &ProxyError) -> bool {
    // Pingora's own name and words for it, which it does not export.
    let cut =
        || *error.etype() == ErrorType::ConnectionClosed && error.to_string().contains("prematurely closed");
    *error.esource() == ErrorSource::Downstream && (error.etype.as_str() == "InvalidChunk" || cut())
}
