//! One HTTP request to a provider, from its headers to its response head. It is sent once more when
//! the provider refuses the credential and there may be a newer one: such an answer means that nothing
//! was run.
//!
//! Headers go out by construction: the descriptor's, ours, then the credential's. Nothing of the
//! caller's request is copied.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::{
    client::{HttpRoute, connection_error, may_be_set, timed_out},
    incoming::challenge,
    outgoing::TraceContext,
    response,
};
use pleiades_core::error::{Code, Error};
use pleiades_core::signature::{Signature, SignedHeaders};
use pleiades_core::www_authenticate::{self, Challenge};
use pleiades_mcp::Revision;

pub(crate) const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");
const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACE_STATE: HeaderName = HeaderName::from_static("tracestate");

#[derive(Debug, Default)]
pub(crate) struct RequestHead<'a> {
    /// Where to, when not to the endpoint's own URL.
    pub(crate) to: Option<Url>,
    /// `None` for `initialize`, which negotiates it.
    pub(crate) revision: Option<Revision>,
    pub(crate) session: Option<&'a HeaderValue>,
    /// `Mcp-Method` and `Mcp-Name`, modern requests only.
    pub(crate) method: Option<&'static str>,
    pub(crate) name: Option<HeaderValue>,
    pub(crate) mirrored: &'a [(HeaderName, HeaderValue)],
    pub(crate) trace: TraceContext,
    pub(crate) last_event: Option<HeaderValue>,
}

impl RequestHead<'_> {
    fn request(
        &self,
        route: &HttpRoute,
        signed: &SignedHeaders,
        method: &Method,
        body: Option<&Bytes>,
    ) -> reqwest::Request {
        let url = self.to.as_ref().unwrap_or(&route.url).clone();
        let mut request = reqwest::Request::new(method.clone(), url);
        *request.headers_mut() = self.headers(route, signed);
        if let Some(body) = body {
            *request.body_mut() = Some(body.clone().into());
            return request;
        }
        request.headers_mut().remove(header::CONTENT_TYPE);
        if *method == Method::GET {
            let accept = HeaderValue::from_static("text/event-stream");
            request.headers_mut().insert(header::ACCEPT, accept);
        }
        request
    }

    fn headers(&self, route: &HttpRoute, signed: &SignedHeaders) -> HeaderMap {
        let mut headers = route.headers.clone();
        if let Some(revision) = self.revision {
            headers.insert(VERSION, HeaderValue::from_static(revision.as_str()));
        }
        if let Some(method) = self.method {
            headers.insert(METHOD, HeaderValue::from_static(method));
        }
        let ours = [
            (NAME, self.name.as_ref()),
            (SESSION, self.session),
            (TRACE_PARENT, self.trace.parent.as_ref()),
            (TRACE_STATE, self.trace.state.as_ref()),
            (LAST_EVENT, self.last_event.as_ref()),
        ];
        for (name, value) in ours {
            if let Some(value) = value {
                headers.insert(name, value.clone());
            }
        }
        for (name, value) in self.mirrored {
            headers.insert(name.clone(), value.clone());
        }
        for (name, value) in signed.headers.iter().filter(|(name, _)| may_be_set(name)) {
            headers.insert(name.clone(), value.clone());
        }
        headers
    }
}

pub(crate) async fn post(
    route: &HttpRoute,
    signature: &Signature,
    head: RequestHead<'_>,
    body: Bytes,
    deadline: Instant,
) -> Result<reqwest::Response, Error> {
    send_signed(route, signature, &head, (Method::POST, Some(body)), deadline).await
}

/// Opens a stream (GET) or ends a session (DELETE).
pub(crate) async fn send_bodyless(
    route: &HttpRoute,
    signature: &Signature,
    method: Method,
    head: RequestHead<'_>,
    deadline: Instant,
) -> Result<reqwest::Response, Error> {
    send_signed(route, signature, &head, (method, None), deadline).await
}

/// Sends with the credential that is valid now, and once more with a newer one where that may help.
async fn send_signed(
    route: &HttpRoute,
    signature: &Signature,
    head: &RequestHead<'_>,
    (method, body): (Method, Option<Bytes>),
    deadline: Instant,
) -> Result<reqwest::Response, Error> {
    let request = |signed: &SignedHeaders| head.request(route, signed, &method, body.as_ref());
    if let Some(signed) = signature.settled() {
        return send(route, request(signed), deadline).await;
    }
    let first = credential_in_time(deadline, signature.ready()).await?;
    let mut response = send(route, request(&first), deadline).await?;
    let before = challenge_in(&response);
    if !signature.may_help(&before) {
        if response.status().is_success() {
            signature.taken(first.seq);
        }
        return Ok(response);
    }
    if head.session.is_some() {
        let (whole, is_lost) = Box::pin(response::peek_session_loss(response, deadline)).await;
        if is_lost {
            return Ok(whole);
        }
        response = whole;
    }
    let newer = credential_in_time(deadline, signature.refused(first.seq)).await;
    let newer = newer.map_err(|error| with_refusal(error, &response))?;
    let Some(newer) = newer else {
        return Ok(response);
    };
    drop(response);
    let response = send(route, request(&newer), deadline).await?;
    let after = challenge_in(&response);
    if !after.is_refusal() || after.cause() != before.cause() {
        signature.accepted(newer.seq);
    }
    if response.status().is_success() {
        signature.taken(newer.seq);
    }
    Ok(response)
}

fn challenge_in(response: &reqwest::Response) -> Challenge {
    let status = response.status();
    // Most answers say nothing of it.
    let header = status.is_client_error().then(|| challenge(response.headers()));
    www_authenticate::challenge(status.as_u16(), header.flatten().as_deref())
}

fn with_refusal(mut error: Error, response: &reqwest::Response) -> Error {
    let refusal = || Box::new((response.status().as_u16(), challenge(response.headers())));
    error.refusal.get_or_insert_with(refusal);
    error
}

async fn credential_in_time<T>(
    deadline: Instant,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    timeout_at(deadline, work).await.unwrap_or_else(|_elapsed| {
        let message = "the credential was not renewed in time; nothing was run";
        Err(Error::new(Code::CredentialTimeout, message))
    })
}

async fn send(
    route: &HttpRoute,
    request: reqwest::Request,
    deadline: Instant,
) -> Result<reqwest::Response, Error> {
    match timeout_at(deadline, route.client.execute(request)).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) => Err(connection_error(error)),
        Err(_) => Err(timed_out()),
    }
}
