//! Which headers pass on the relay: out by an allow-list, then the descriptor's, then the
//! credential; back by another.

use http::{HeaderName, HeaderValue, header};
use pingora_core::Result;
use pingora_http::{RequestHeader, ResponseHeader};

use super::{peer::internal_error, state::RelayState};
use crate::exchange::ACCOUNT_HEADER;
use crate::proxy::respond::SESSION;
use pleiades_mcp::seal::Sealer;
use pleiades_upstream::Transport;

/// Request headers that go upstream beside `mcp-*`: what negotiates content, resumes a stream or traces.
const FORWARDED: [&str; 11] = [
    "accept",
    "accept-encoding",
    "content-type",
    "content-length",
    "transfer-encoding",
    "last-event-id",
    "traceparent",
    "tracestate",
    "baggage",
    "host",
    "connection",
];
/// Response headers that come down beside `mcp-*`: what describes the message, nothing of the server.
const RETURNED: [&str; 14] = [
    "content-type",
    "content-length",
    "content-encoding",
    "content-language",
    "transfer-encoding",
    "connection",
    "cache-control",
    "date",
    "etag",
    "expires",
    "last-modified",
    "retry-after",
    "trailer",
    "x-accel-buffering",
];

/// Turns a client's head into the one that goes upstream: the allow-list, then the descriptor's, then the
/// credential. Errors: for a provider without a URL, which is never relayed.
pub(in crate::proxy) fn filter_request(request: &mut RequestHeader, relay: &RelayState) -> Result<()> {
    let Transport::Http { url, headers, .. } = &relay.provider.endpoint.target else {
        return Err(internal_error("the relay needs an HTTP provider"));
    };
    let dropped: Vec<HeaderName> = request
        .headers
        .keys()
        .filter(|name| !is_forwarded(name))
        .cloned()
        .collect();
    for name in dropped {
        request.remove_header(&name);
    }
    // Without one any coding would do (RFC 9110, 12.5.3): a client that asks for none decodes none.
    if !request.headers.contains_key(header::ACCEPT_ENCODING) {
        request.insert_header(header::ACCEPT_ENCODING, "identity")?;
    }
    request.remove_header(&SESSION);
    if let Some(session) = &relay.session {
        request.insert_header(SESSION, session.as_str())?;
    }
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let Ok(target) = target.parse() else {
        return Err(internal_error("the URL has no path"));
    };
    request.set_uri(target);
    let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
    request.insert_header(header::HOST, authority)?;
    for (name, value) in headers.iter().chain(&relay.credential.signed.headers) {
        request.insert_header(name.clone(), value.clone())?;
    }
    Ok(())
}

/// Turns an upstream's head into the one that comes down: what describes the message, the session's sealed
/// id, the account that was used. Errors: when a header cannot be written.
pub(super) fn filter_response(
    response: &mut ResponseHeader,
    relay: &RelayState,
    sealer: &Sealer,
) -> Result<()> {
    let dropped: Vec<HeaderName> = response
        .headers
        .keys()
        .filter(|name| !is_returned(name))
        .cloned()
        .collect();
    for name in dropped {
        response.remove_header(&name);
    }
    let session = response.headers.get(SESSION);
    if let Some(id) = session.and_then(|value| value.to_str().ok()) {
        let session = relay.credential.session(id);
        let sealed = session.seal(sealer, &relay.provider, &relay.principal);
        response.insert_header(SESSION, sealed)?;
    }
    let account = relay.credential.account.as_deref();
    if let Some(Ok(account)) = account.map(|it| HeaderValue::from_bytes(it.as_bytes())) {
        response.insert_header(ACCOUNT_HEADER, account)?;
    }
    Ok(())
}

fn is_forwarded(name: &HeaderName) -> bool {
    FORWARDED.contains(&name.as_str()) || name.as_str().starts_with("mcp-")
}

fn is_returned(name: &HeaderName) -> bool {
    RETURNED.contains(&name.as_str()) || name.as_str().starts_with("mcp-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_headers_come_down() {
        for name in [
            "content-type",
            "mcp-session-id",
            "retry-after",
            "transfer-encoding",
        ] {
            assert!(is_returned(&HeaderName::from_static(name)), "{name}");
        }
        for name in [
            "set-cookie",
            "www-authenticate",
            "location",
            "server",
            "via",
            "x-powered-by",
            "access-control-allow-origin",
            "x-upstream",
        ] {
            assert!(!is_returned(&HeaderName::from_static(name)), "{name}");
        }
    }

    #[test]
    fn only_listed_headers_go_upstream() {
        for name in [
            "accept",
            "accept-encoding",
            "mcp-method",
            "mcp-param-region",
            "traceparent",
            "last-event-id",
        ] {
            assert!(is_forwarded(&HeaderName::from_static(name)), "{name}");
        }
        for name in [
            "authorization",
            "x-api-key",
            "cookie",
            "x-openai-key",
            "forwarded",
            "x-forwarded-for",
            "origin",
        ] {
            assert!(!is_forwarded(&HeaderName::from_static(name)), "{name}");
        }
    }
}
