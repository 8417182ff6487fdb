//! Relayed requests that break, and whether they may be sent again.

use std::error::Error as StdError;

use pingora_core::{Error as ProxyError, ErrorSource, ErrorType};
use pingora_proxy::Session;

use super::state::RelayState;
use pleiades_core::error::{Code, Error};

const MAX_ATTEMPTS: usize = 2;

/// Another address may do better; no byte of the request was written.
pub(in crate::proxy) fn retry_connect(relay: &RelayState, mut error: Box<ProxyError>) -> Box<ProxyError> {
    error.set_retry(relay.attempts < MAX_ATTEMPTS);
    error
}

/// A kept connection that the upstream had closed: the request is sent again only when it was
/// replayable and never began to be answered. One whose credential was renewed goes again.
pub(in crate::proxy) fn retry_broken(
    relay: &mut RelayState,
    session: &Session,
    mut error: Box<ProxyError>,
    client_reused: bool,
) -> Box<ProxyError> {
    if std::mem::take(&mut relay.is_retried) {
        error.set_retry(true);
        return error;
    }
    let may_repeat = relay.attempts < MAX_ATTEMPTS && !may_be_call(&relay.method);
    let is_whole = !session.as_ref().retry_buffer_truncated();
    error.retry.decide_reuse(client_reused && may_repeat && is_whole);
    error
}

/// A tool may have run, and running it again could do harm.
fn may_be_call(method: &str) -> bool {
    method == "tools/call" || method.is_empty()
}

/// `place`: host and port of the provider, for the operator.
pub(super) fn to_error(error: &ProxyError, place: &str) -> Error {
    let late = |which: &str| {
        let error = Error::new(Code::UpstreamTimeout, "the provider did not answer in time");
        error.because(format!("{place}: {which}"))
    };
    match error.etype() {
        ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => {
            late("no connection within `upstream.timeouts.connect`")
        }
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => {
            late("no answer within `upstream.timeouts.call`").sent()
        }
        _ if is_malformed(error) => Error::new(Code::BadFraming, "the body is malformed or ended early"),
        ErrorType::HTTPStatus(413) => Error::new(Code::TooLarge, "the body is larger than `max_body`"),
        kind => {
            let cause = format!("{place}: {}", innermost(error));
            let mut error = Error::new(Code::UpstreamUnreachable, "the provider cannot be reached");
            error.sent = !is_of_connecting(kind);
            error.because(cause)
        }
    }
}

/// The innermost words of an error. Pingora keeps some causes as text alone, in the context of the error around
/// them, and puts the local address where such a cause would be (`connectors::tls::rustls`, 0.9).
fn innermost(error: &ProxyError) -> String {
    let mut words = error.context.as_ref().map(|context| context.as_str().to_owned());
    let mut next = error
        .cause
        .as_deref()
        .map(|cause| cause as &(dyn StdError + 'static));
    while let Some(cause) = next {
        if let Some(inner) = cause.downcast_ref::<Box<ProxyError>>() {
            words = inner
                .context
                .as_ref()
                .map(|context| context.as_str().to_owned())
                .or(words);
            next = inner
                .cause
                .as_deref()
                .map(|cause| cause as &(dyn StdError + 'static));
            continue;
        }
        next = cause.source();
        let text = cause.to_string();
        if next.is_none() && !text.is_empty() && !text.starts_with(LOCAL) {
            words = Some(text);
        }
    }
    let words = words.unwrap_or_else(|| error.etype.as_str().to_owned());
    let words = words.split_once(NAME).map_or(words.as_str(), |(words, _)| words);
    words
        .split_once(CAUSE)
        .map_or(words, |(_, cause)| cause)
        .to_owned()
}

/// How Pingora begins the words of a cause that it does not have.
const LOCAL: &str = "local address ";
/// What stands in a context before the words of its cause, and before the name that was asked for.
const CAUSE: &str = " cause: ";
const NAME: &str = ", SNI: ";

/// Whether no byte of a request can have been sent.
const fn is_of_connecting(kind: &ErrorType) -> bool {
    matches!(
        kind,
        ErrorType::ConnectRefused
            | ErrorType::ConnectNoRoute
            | ErrorType::ConnectError
            | ErrorType::TLSHandshakeFailure
            | ErrorType::InvalidCert
    )
}

/// Whether the client's body is malformed or ends early, as opposed to the client being gone while
/// it is answered.
pub(super) fn is_malformed(error: &ProxyError) -> bool {
    // Pingora's own name and words for it, which it does not export.
    let cut =
        || *error.etype() == ErrorType::ConnectionClosed && error.to_string().contains("prematurely closed");
    *error.esource() == ErrorSource::Downstream && (error.etype.as_str() == "InvalidChunk" || cut())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_broke_is_the_providers_or_the_clients() {
        let to_error = |error: &ProxyError| to_error(error, "a.example:443");
        let code = |kind: ErrorType| to_error(&ProxyError::new_up(kind)).code;
        assert_eq!(code(ErrorType::ReadTimedout), Code::UpstreamTimeout);
        assert_eq!(code(ErrorType::TLSHandshakeTimedout), Code::UpstreamTimeout);
        assert_eq!(code(ErrorType::HTTPStatus(413)), Code::TooLarge);
        assert_eq!(code(ErrorType::ConnectRefused), Code::UpstreamUnreachable);
        let cut = ProxyError::explain(ErrorType::ConnectionClosed, "prematurely closed");
        assert_eq!(to_error(&cut).code, Code::UpstreamUnreachable);
        let io = std::io::Error::from_raw_os_error(111);
        let refused = ProxyError::because(ErrorType::ConnectRefused, "to an address", io);
        assert_eq!(
            to_error(&refused).cause(),
            "a.example:443: Connection refused (os error 111)"
        );
        let mut cut = cut;
        cut.as_down();
        assert_eq!(to_error(&cut).code, Code::BadFraming);
    }

    #[test]
    fn a_handshake_that_failed_says_why_and_no_address_of_this_side() {
        let shaking = ProxyError::because(
            ErrorType::TLSHandshakeFailure,
            "tls connect error",
            std::io::Error::other("invalid peer certificate: UnknownIssuer"),
        );
        let context = format!("TLS connect() failed: {shaking}, SNI: localhost");
        let mut failed = ProxyError::explain(ErrorType::TLSHandshakeFailure, context);
        failed.set_cause("local address 127.0.0.1:38696");
        assert_eq!(
            to_error(&failed, "localhost:443").cause(),
            "localhost:443: invalid peer certificate: UnknownIssuer"
        );
        let bare = ProxyError::new_up(ErrorType::ConnectError);
        assert_eq!(
            to_error(&bare, "a.example:1").cause(),
            "a.example:1: ConnectError"
        );
    }

    #[test]
    fn a_call_is_never_repeated_and_a_method_that_is_not_named_may_be_one() {
        assert!(may_be_call("tools/call") && may_be_call(""));
        assert!(!may_be_call("tools/list"));
    }
}
