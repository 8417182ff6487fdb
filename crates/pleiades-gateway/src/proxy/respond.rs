//! The only place that chooses a status code.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};

use super::{limits, pages};
use crate::exchange::{Reply, rpc_fault};
use pleiades_core::error::{Code, Error};
use pleiades_core::limit::load::RequestLoad;
use pleiades_credential::broker::ConnectErrorKind;
use pleiades_mcp::{Id, Revision, message};

/// A whole answer.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: StatusCode,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Bytes,
    /// Whether the connection must not be used again.
    pub(super) close: bool,
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
            load: None,
        }
    }

    pub(super) fn json(status: StatusCode, body: impl Into<Bytes>) -> Self {
        let headers = vec![(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        Self {
            status,
            headers,
            body: body.into(),
            close: false,
            load: None,
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
/// otherwise (streamable HTTP, "Error Codes"; contracts section 2).
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
        Code::CredentialTimeout => StatusCode::GATEWAY_TIMEOUT,
        Code::UpstreamUnreachable | Code::UpstreamProtocol | Code::UpstreamError => StatusCode::BAD_GATEWAY,
        Code::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
        other => status(other, revision),
    }
}

/// The status of a refusal of ours before anything was run: unlike an answer of the protocol, one for
/// want of room is said in HTTP too, where proxies and load balancers hear it.
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

/// The status of a page that is refused.
pub(super) const fn ground_status(ground: ConnectErrorKind) -> StatusCode {
    match ground {
        ConnectErrorKind::Malformed => StatusCode::BAD_REQUEST,
        ConnectErrorKind::Unproven => StatusCode::FORBIDDEN,
        ConnectErrorKind::Unknown => StatusCode::NOT_FOUND,
        ConnectErrorKind::Conflict => StatusCode::CONFLICT,
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
        .header(header::CONTENT_SECURITY_POLICY, &pages::POLICY)
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

/// The answer of the exchange as HTTP.
pub(super) fn reply(reply: Reply, revision: Revision, relay: bool) -> Option<Response> {
    match reply {
        Reply::Accepted => Some(Response::empty(StatusCode::ACCEPTED)),
        Reply::Answer {
            body,
            code,
            retry_after: after,
            session,
        } => {
            let status = match code {
                None => StatusCode::OK,
                Some(code) if relay => relay_status(code, revision),
                Some(code) => status(code, revision),
            };
            let mut response = Response::json(status, body);
            if let Some(session) = session {
                response = response.header(SESSION, &session);
            }
            Some(retry_after(
                response,
                after.filter(|_| status == StatusCode::TOO_MANY_REQUESTS),
            ))
        }
        Reply::Stream(_) => None,
    }
}

fn retry_after(response: Response, after: Option<std::time::Duration>) -> Response {
    match after {
        Some(after) => response.header(header::RETRY_AFTER, &after.as_secs().max(1).to_string()),
        None => response,
    }
}

/// `Mcp-Session-Id`.
pub(super) const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
