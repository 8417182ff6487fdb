//! The admin listener: health, readiness, metrics and the state of providers.
//!
//! Knows its answers only by the closures that `app` hands in; serves on Pingora's `ServeHttp`,
//! because every answer is short and whole.

mod accounts;
#[cfg(test)]
mod tests;

use std::{fmt, net::IpAddr, sync::Arc};

use async_trait::async_trait;
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{
        ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HOST, ORIGIN, RETRY_AFTER, TRANSFER_ENCODING,
        WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
    },
};
use pingora_core::{apps::http_app::ServeHttp, protocols::http::ServerSession};
use serde_json::{Value, json};

use pleiades_core::error::{Code, Error};
use pleiades_core::telemetry::{Metrics, REQUEST_ID, RequestIds, events::RequestDone};
use pleiades_credential::access::{Access, framing};

const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";

pub use accounts::{AccountAdmin, AccountOutcome, AccountPath, ListedAccounts};

/// A condition: met, or a sentence for the operator that says why not.
pub type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The admin listener's application.
#[derive(Clone)]
pub struct Admin {
    /// The metrics that `/metrics` renders.
    pub metrics: Arc<Metrics>,
    /// Sets gauges that are read rather than counted (providers by state, breakers, sessions);
    /// called before each rendering, so it must neither block nor wait.
    pub collect: Arc<dyn Fn(&Metrics) + Send + Sync>,
    /// The document of `/providers`.
    pub report: Arc<dyn Fn() -> Value + Send + Sync>,
    /// Both listeners accept.
    pub health: Check,
    /// Every descriptor was read, and the process does not drain.
    pub ready: Check,
    /// Whether a `Host` header (name and port as sent) is one of ours.
    pub host_allowed: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    /// Whether an `Origin` header is one of ours: a page of another site reads nothing here.
    pub origin_allowed: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    /// Decides who may read providers and accounts.
    pub access: Arc<Access>,
    /// Everybody's accounts, for operators.
    pub accounts: Arc<dyn AccountAdmin>,
    /// Ids of requests.
    pub ids: Arc<RequestIds>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin")
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

/// The parts of a request that decide whether it is answered.
#[derive(Debug, Clone, Copy)]
pub struct AdminRequest<'a> {
    /// The host that is asked; `None` when the request names none or several.
    pub host: Option<&'a str>,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// The address that it came from.
    pub peer: Option<IpAddr>,
}

impl Admin {
    /// The answer to a request. `path` is without query; a final slash names the same.
    #[must_use]
    pub fn answer(&self, method: &Method, path: &str, asker: AdminRequest<'_>) -> Response<Vec<u8>> {
        let mut response = self.route(method, framing::without_final_slash(path), asker);
        if *method == Method::HEAD {
            response.body_mut().clear();
        }
        response
    }

    fn route(&self, method: &Method, path: &str, asker: AdminRequest<'_>) -> Response<Vec<u8>> {
        if !asker.host.is_some_and(|host| (self.host_allowed)(host)) {
            return foreign_host();
        }
        if !matches!(path, "/metrics" | "/health" | "/ready" | "/providers") {
            let message = "unknown path: the admin listener has /metrics, /health, /ready, /providers and \
                           /v1/accounts/{tenant}/{user}/{provider}/{account}";
            return refusal(StatusCode::NOT_FOUND, Code::UnknownPath, message);
        }
        if *method != Method::GET && *method != Method::HEAD {
            let message = "this path is read with GET or HEAD";
            let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, Code::MethodNotAllowed, message);
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            "/metrics" => {
                (self.collect)(&self.metrics);
                response(StatusCode::OK, PROMETHEUS, self.metrics.render().into_bytes())
            }
            "/health" => health_response(&self.health),
            "/ready" => health_response(&self.ready),
            _ => match self.access.identify_operator(asker.headers, asker.peer) {
                Ok(_operator) => document(StatusCode::OK, &(self.report)()),
                Err(error) => unauthorized(&error),
            },
        }
    }

    /// Whether a request comes from no page, or from one of ours.
    fn is_own_origin(&self, headers: &HeaderMap) -> bool {
        headers
            .get_all(ORIGIN)
            .iter()
            .all(|origin| origin.to_str().is_ok_and(|origin| (self.origin_allowed)(origin)))
    }
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let id = self.ids.next();
        let mut response = self.respond(session, &id).await;
        if let Ok(id) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        self.report_refusal(session, id, &response);
        response
    }
}

impl Admin {
    /// Emits the event of a request that was refused; it counts in no metric.
    fn report_refusal(&self, session: &ServerSession, id: String, response: &Response<Vec<u8>>) {
        let Some(Refused(code, why)) = response.extensions().get() else {
            return;
        };
        let mut done = RequestDone::new(id, "admin");
        done.outcome = code.as_str();
        done.cause = Some(why.clone());
        done.status = response.status().as_u16();
        let peer = session.client_addr().and_then(|peer| peer.as_inet());
        done.peer = peer.map(std::net::SocketAddr::ip);
        done.emit(&self.metrics);
    }

    async fn respond(&self, session: &mut ServerSession, id: &str) -> Response<Vec<u8>> {
        if let Err(error) = check_framing(session) {
            session.set_keepalive(None);
            return refusal(StatusCode::BAD_REQUEST, error.code, &error.message);
        }
        let request = session.req_header();
        if !self.is_own_origin(&request.headers) {
            return refusal(
                StatusCode::FORBIDDEN,
                Code::OriginRefused,
                "this `Origin` is not served here",
            );
        }
        let host = host(
            &request.headers,
            request.uri.authority().map(http::uri::Authority::as_str),
        );
        let peer = session.client_addr().and_then(|peer| peer.as_inet());
        let asker = AdminRequest {
            host,
            headers: &request.headers,
            peer: peer.map(std::net::SocketAddr::ip),
        };
        if !accounts::is_account_path(request.uri.path()) {
            return self.answer(&request.method, request.uri.path(), asker);
        }
        if !host.is_some_and(|host| (self.host_allowed)(host)) {
            return foreign_host();
        }
        match self.access.identify_operator(asker.headers, asker.peer) {
            Ok(operator) => accounts::answer(&*self.accounts, session, (&operator, id)).await,
            Err(error) => unauthorized(&error),
        }
    }
}

/// Whether a head can be read in one way only, as on the public listener.
fn check_framing(session: &ServerSession) -> Result<(), Error> {
    let head = session.req_header();
    let two_lengths = head.headers.contains_key(TRANSFER_ENCODING)
        && session
            .as_http1()
            .is_some_and(|plain| framing::has_content_length(&plain.get_headers_raw_bytes()));
    framing::check(two_lengths, &head.uri, &head.headers)
}

fn foreign_host() -> Response<Vec<u8>> {
    let message = "this `Host` is not served here: use the listener's address or `localhost`, or add the \
                   name to `hosts` in the settings";
    refusal(StatusCode::FORBIDDEN, Code::HostRefused, message)
}

/// The host a request names: `Host`, or the authority of HTTP/2; `None` when there are several.
fn host<'a>(headers: &'a HeaderMap, authority: Option<&'a str>) -> Option<&'a str> {
    let mut hosts = headers.get_all(HOST).iter();
    let named = match (hosts.next(), hosts.next()) {
        (None, _) => return authority,
        (Some(one), None) => one.to_str().ok()?,
        (Some(_), Some(_)) => return None,
    };
    authority
        .is_none_or(|authority| authority.eq_ignore_ascii_case(named))
        .then_some(named)
}

fn health_response(check: &Check) -> Response<Vec<u8>> {
    match check() {
        Ok(()) => document(StatusCode::OK, &json!({"status": "ok"})),
        Err(reason) => {
            let waiting = json!({"status": "unavailable", "reason": reason});
            document(StatusCode::SERVICE_UNAVAILABLE, &waiting)
        }
    }
}

/// Why a request was refused, beside its answer.
#[derive(Debug, Clone)]
struct Refused(Code, String);

fn refusal(status: StatusCode, code: Code, message: &str) -> Response<Vec<u8>> {
    let mut response = document(
        status,
        &json!({"error": {"code": code.as_str(), "message": message}}),
    );
    response
        .extensions_mut()
        .insert(Refused(code, message.to_owned()));
    response
}

fn unauthorized(error: &Error) -> Response<Vec<u8>> {
    let status = match error.code {
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::FORBIDDEN,
    };
    let mut response = refusal(status, error.code, &error.message);
    let headers = response.headers_mut();
    if error.code == Code::Unauthenticated {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(after) = error.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    response
}

fn document(status: StatusCode, value: &Value) -> Response<Vec<u8>> {
    let mut body = value.to_string().into_bytes();
    body.push(b'\n');
    response(status, JSON, body)
}

fn response(status: StatusCode, media: &'static str, body: Vec<u8>) -> Response<Vec<u8>> {
    let length = HeaderValue::from(body.len());
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(CONTENT_LENGTH, length);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
