//! One HTTP request to a provider, from its headers to its response head.
//!
//! Headers go out by construction: the descriptor's, ours, then the credential's. Nothing of the
//! caller's request is copied.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::{
    client::{Route, failure, may_be_set},
    outgoing::Trace,
};
use crate::credential::Signature;
use crate::error::{Code, Error};
use crate::mcp::Revision;

pub(crate) const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");
const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACE_STATE: HeaderName = HeaderName::from_static("tracestate");

/// What the headers of one request are made of.
#[derive(Debug, Default)]
pub(crate) struct Head<'a> {
    /// Where to, when not to the endpoint's own URL.
    pub(crate) to: Option<Url>,
    /// `None` for `initialize`, which negotiates it.
    pub(crate) revision: Option<Revision>,
    pub(crate) session: Option<&'a HeaderValue>,
    /// `Mcp-Method` and `Mcp-Name`, modern requests only.
    pub(crate) method: Option<&'static str>,
    pub(crate) name: Option<HeaderValue>,
    pub(crate) mirrored: &'a [(HeaderName, HeaderValue)],
    pub(crate) trace: Trace,
    pub(crate) last_event: Option<HeaderValue>,
}

impl Head<'_> {
    fn write(self, route: &Route, signature: &Signature) -> HeaderMap {
        let mut headers = route.headers.clone();
        if let Some(revision) = self.revision {
            headers.insert(VERSION, HeaderValue::from_static(revision.as_str()));
        }
        if let Some(method) = self.method {
            headers.insert(METHOD, HeaderValue::from_static(method));
        }
        let session = self.session.cloned();
        let ours = [
            (NAME, self.name),
            (SESSION, session),
            (TRACE_PARENT, self.trace.parent),
            (TRACE_STATE, self.trace.state),
            (LAST_EVENT, self.last_event),
        ];
        for (name, value) in ours {
            if let Some(value) = value {
                headers.insert(name, value);
            }
        }
        for (name, value) in self.mirrored {
            headers.insert(name.clone(), value.clone());
        }
        for (name, value) in signature
            .now()
            .headers
            .iter()
            .filter(|(name, _)| may_be_set(name))
        {
            headers.insert(name.clone(), value.clone());
        }
        headers
    }
}

/// Sends a message and waits for the head of the response.
pub(crate) async fn post(
    route: &Route,
    signature: &Signature,
    mut head: Head<'_>,
    body: Bytes,
    deadline: Instant,
) -> Result<reqwest::Response, Error> {
    let to = head.to.take().unwrap_or_else(|| route.url.clone());
    let mut request = reqwest::Request::new(Method::POST, to);
    *request.headers_mut() = head.write(route, signature);
    *request.body_mut() = Some(body.into());
    send(route, request, deadline).await
}

/// Opens a stream (GET) or ends a session (DELETE).
pub(crate) async fn bare(
    route: &Route,
    signature: &Signature,
    method: Method,
    head: Head<'_>,
    deadline: Instant,
) -> Result<reqwest::Response, Error> {
    let mut headers = head.write(route, signature);
    headers.remove(header::CONTENT_TYPE);
    if method == Method::GET {
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
    }
    let mut request = reqwest::Request::new(method, route.url.clone());
    *request.headers_mut() = headers;
    send(route, request, deadline).await
}

async fn send(
    route: &Route,
    request: reqwest::Request,
    deadline: Instant,
) -> Result<reqwest::Response, Error> {
    match timeout_at(deadline, route.client.execute(request)).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) => Err(failure(error)),
        Err(_) => Err(late()),
    }
}

/// The deadline passed after the request may have gone out.
pub(crate) fn late() -> Error {
    Error::new(Code::UpstreamTimeout, "the provider did not answer in time").sent()
}
