//! The only place that chooses a status code.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};

use super::limits;
use crate::exchange::{Reply, rpc_fault};
use pleiades_core::error::{Code, Error, whole_seconds};
use pleiades_core::limit::load::RequestLoad;
use pleiades_core::page::POLICY;
use pleiades_credential::broker::ConnectErrorKind;
use pleiades_mcp::{Id, Revision, message};

#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: StatusCode,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Bytes,
    /// Whether the connection must not be used again.
    pub(super) close: bool,
    /// Why a page is refused, as it says itself: for the log.
    pub(super) why: Option<String>,
    /// As what it is counted until it is written.
    pub(super) load: Option<Arc<RequestLoad>>,
}

impl Response {
    pub(super) fn empty(status: StatusCode) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Bytes::new(),
            close: false,
            why: None,
            load: None,
        }
    }

    pub(super) fn json(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self {
            headers: vec![(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))],
            body: body.into(),
            ..Self::empty(status)
        }
    }

    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }
}

/// The status of a failure. In-protocol errors are 200 but where 2026-07-28 or HTTP itself says
/// otherwise (streamable HTTP, "Error Codes").
pub(super) const fn status(code: Code, revision: Revision) -> StatusCode {
    match code {
        Code::Parse
        | Code::InvalidRequest
        | Code::MissingMeta
        | Code::HeaderMismatch
        | Code::MissingCapability
        | Code::UnsupportedRevision
        | Code::BadFraming
        | Code::UnknownQuestion => StatusCode::BAD_REQUEST,
        Code::MethodNotFound if revision.is_modern() => StatusCode::NOT_FOUND,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::HostRefused | Code::OriginRefused | Code::PolicyDenied => StatusCode::FORBIDDEN,
        Code::UnknownPath | Code::UnknownProvider | Code::UnknownSession => StatusCode::NOT_FOUND,
        Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Code::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
        Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
        Code::TargetTooLong => StatusCode::URI_TOO_LONG,
        Code::UnsupportedMedia => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Code::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Code::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Code::MethodNotFound
        | Code::InvalidParams
        | Code::ResourceNotFound
        | Code::RateLimited
        | Code::Busy
        | Code::BreakerOpen
        | Code::NeedsAuth
        | Code::TokenExpired
        | Code::CapabilityMiss
        | Code::AccountAmbiguous
        | Code::CredentialStore
        | Code::CredentialTimeout
        | Code::UpstreamUnreachable
        | Code::UpstreamTimeout
        | Code::UpstreamProtocol
        | Code::UpstreamError
        | Code::UpstreamAuth
        | Code::CallGone
        | Code::InputRequired
        | Code::Cancelled => StatusCode::OK,
    }
}

/// The status of a failure on the relay, where HTTP is all a client sees of us.
pub(super) const fn relay_status(code: Code, revision: Revision) -> StatusCode {
    match code {
        Code::RateLimited | Code::Busy | Code::BreakerOpen => StatusCode::TOO_MANY_REQUESTS,
        Code::NeedsAuth
        | Code::TokenExpired
        | Code::CapabilityMiss
        | Code::AccountAmbiguous
        | Code::UpstreamAuth => StatusCode::FORBIDDEN,
        Code::CredentialStore => StatusCode::SERVICE_UNAVAILABLE,
        Code::CredentialTimeout | Code::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
        Code::UpstreamUnreachable | Code::UpstreamProtocol | Code::UpstreamError => StatusCode::BAD_GATEWAY,
        other => status(other, revision),
    }
}

/// The status of a refusal of ours before anything was run: unlike an answer of the protocol, one for
/// want of room has its status in HTTP too, where proxies and load balancers read it.
pub(super) fn refusal_status(error: &Error, is_relay: bool, revision: Revision) -> StatusCode {
    let rule = error.data.as_ref().and_then(|data| data.get("rule"));
    match error.code {
        Code::Busy if rule.is_some_and(|rule| rule == limits::MEMORY) => StatusCode::SERVICE_UNAVAILABLE,
        code if is_relay || code == Code::Busy => relay_status(code, revision),
        code => status(code, revision),
    }
}

/// A refusal before or beside the protocol, with a JSON-RPC error body.
pub(super) fn refusal(status: StatusCode, error: &Error, id: Option<&Id>, revision: Revision) -> Response {
    let body = message::error(id, &rpc_fault(error, revision));
    let mut response = Response::json(status, body);
    // What is left of such a request is not worth reading, or cannot be trusted.
    response.close = matches!(
        error.code,
        Code::BadFraming | Code::HeadersTooLarge | Code::TooLarge | Code::BodyTooSlow
    );
    if error.code == Code::Unauthenticated {
        // RFC 6750 section 3.
        response = response.header(header::WWW_AUTHENTICATE, "Bearer");
    }
    if error.code == Code::MethodNotAllowed {
        response = response.header(header::ALLOW, "POST, GET, DELETE");
    }
    retry_after(response, error.retry_after)
}

/// Liveness, which is read.
pub(super) fn health(method: &Method) -> Response {
    if *method == Method::GET || *method == Method::HEAD {
        return Response::json(StatusCode::OK, r#"{"status":"ok"}"#);
    }
    let error = Error::new(Code::MethodNotAllowed, "GET or HEAD");
    let body = message::error(None, &rpc_fault(&error, Revision::NEWEST_LEGACY));
    Response::json(StatusCode::METHOD_NOT_ALLOWED, body).header(header::ALLOW, "GET, HEAD")
}

pub(super) const fn connect_status(kind: ConnectErrorKind) -> StatusCode {
    match kind {
        ConnectErrorKind::Malformed => StatusCode::BAD_REQUEST,
        ConnectErrorKind::Unproven => StatusCode::FORBIDDEN,
        ConnectErrorKind::Unknown => StatusCode::NOT_FOUND,
        ConnectErrorKind::Conflict | ConnectErrorKind::Denied => StatusCode::CONFLICT,
        ConnectErrorKind::Gone => StatusCode::GONE,
        ConnectErrorKind::Provider => StatusCode::FAILED_DEPENDENCY,
        ConnectErrorKind::Throttled => StatusCode::TOO_MANY_REQUESTS,
        ConnectErrorKind::Store => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// A page for a person: kept nowhere, shown in no frame, telling nobody where it leads.
pub(super) fn page(status: StatusCode, html: String) -> Response {
    let mut response = private(Response::empty(status))
        .header(header::CONTENT_TYPE, "text/html; charset=utf-8")
        .header(header::CONTENT_SECURITY_POLICY, &POLICY)
        .header(header::X_FRAME_OPTIONS, "DENY");
    response.body = html.into();
    response
}

/// On to another page, with GET.
pub(super) fn see_other(url: &str) -> Response {
    private(Response::empty(StatusCode::SEE_OTHER)).header(header::LOCATION, url)
}

/// JSON for one caller.
pub(super) fn private_json(value: &serde_json::Value) -> Response {
    Response::json(StatusCode::OK, value.to_string()).header(header::CACHE_CONTROL, "no-store")
}

/// JSON for everybody.
pub(super) fn public_json(value: &serde_json::Value) -> Response {
    Response::json(StatusCode::OK, value.to_string()).header(header::CACHE_CONTROL, "public, max-age=300")
}

fn private(response: Response) -> Response {
    response
        .header(header::CACHE_CONTROL, "no-store")
        .header(header::REFERRER_POLICY, "no-referrer")
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
}

pub(super) const fn reply_status(reply: &Reply, revision: Revision, is_relay: bool) -> StatusCode {
    match reply {
        Reply::Accepted => StatusCode::ACCEPTED,
        Reply::Answer { code: Some(code), .. } if is_relay => relay_status(*code, revision),
        Reply::Answer { code: Some(code), .. } => status(*code, revision),
        Reply::Answer { code: None, .. } | Reply::Stream(_) => StatusCode::OK,
    }
}

/// The answer of the exchange as HTTP; `None` for a stream.
pub(super) fn reply(reply: Reply, revision: Revision, is_relay: bool) -> Option<Response> {
    let status = reply_status(&reply, revision, is_relay);
    match reply {
        Reply::Accepted => Some(Response::empty(status)),
        Reply::Answer {
            body,
            retry_after: after,
            session,
            ..
        } => {
            let mut response = Response::json(status, body);
            if let Some(session) = session {
                response = response.header(SESSION, &session);
            }
            let after = after.filter(|_| status == StatusCode::TOO_MANY_REQUESTS);
            Some(retry_after(response, after))
        }
        Reply::Stream(_) => None,
    }
}

fn retry_after(response: Response, after: Option<std::time::Duration>) -> Response {
    match after {
        Some(after) => response.header(header::RETRY_AFTER, &whole_seconds(after).to_string()),
        None => response,
    }
}

pub(super) const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LEGACY: Revision = Revision::NEWEST_LEGACY;

    fn answer(code: Option<Code>) -> Reply {
        Reply::Answer {
            body: b"{}".to_vec(),
            code,
            retry_after: Some(Duration::from_millis(200)),
            session: Some("sealed".to_owned()),
        }
    }

    fn header_of(response: &Response, name: HeaderName) -> Option<&str> {
        let found = response.headers.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.to_str().unwrap())
    }

    #[test]
    fn an_error_of_the_protocol_has_a_status_on_the_relay_alone() {
        let failed = answer(Some(Code::NeedsAuth));
        assert_eq!(reply_status(&failed, LEGACY, false), StatusCode::OK);
        assert_eq!(reply_status(&failed, LEGACY, true), StatusCode::FORBIDDEN);
        assert_eq!(reply_status(&answer(None), LEGACY, true), StatusCode::OK);
        assert_eq!(
            reply_status(&Reply::Accepted, LEGACY, false),
            StatusCode::ACCEPTED
        );
    }

    #[test]
    fn an_unknown_method_is_404_where_the_revision_says_so() {
        let status = |revision| status(Code::MethodNotFound, revision);
        assert_eq!(status(LEGACY), StatusCode::OK);
        assert_eq!(status(Revision::V2026_07_28), StatusCode::NOT_FOUND);
    }

    #[test]
    fn want_of_memory_is_503_and_of_streams_429() {
        let memory = refusal_status(&limits::memory_full(), false, LEGACY);
        assert_eq!(memory, StatusCode::SERVICE_UNAVAILABLE);
        let streams = Error::new(Code::Busy, "too many streams");
        assert_eq!(
            refusal_status(&streams, false, LEGACY),
            StatusCode::TOO_MANY_REQUESTS
        );
    }

    #[test]
    fn an_answer_names_its_session_and_when_to_try_again_only_where_that_is_the_status() {
        let ok = reply(answer(Some(Code::RateLimited)), LEGACY, false).unwrap();
        assert_eq!(header_of(&ok, SESSION), Some("sealed"));
        assert_eq!(header_of(&ok, header::RETRY_AFTER), None);
        let limited = reply(answer(Some(Code::RateLimited)), LEGACY, true).unwrap();
        assert_eq!(limited.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(header_of(&limited, header::RETRY_AFTER), Some("1"));
    }

    #[test]
    fn a_connection_is_closed_where_the_rest_of_a_request_cannot_be_read() {
        let refused = |code| refusal(status(code, LEGACY), &Error::new(code, "no"), None, LEGACY);
        for code in [
            Code::BadFraming,
            Code::HeadersTooLarge,
            Code::TooLarge,
            Code::BodyTooSlow,
        ] {
            assert!(refused(code).close, "{}", code.as_str());
        }
        let unknown = refused(Code::Unauthenticated);
        assert!(!unknown.close);
        assert_eq!(header_of(&unknown, header::WWW_AUTHENTICATE), Some("Bearer"));
    }

    #[test]
    fn health_is_read_and_nothing_else() {
        assert_eq!(health(&Method::GET).status, StatusCode::OK);
        let refused = health(&Method::POST);
        assert_eq!(refused.status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(header_of(&refused, header::ALLOW), Some("GET, HEAD"));
    }
}
