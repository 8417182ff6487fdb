//! A response that is no answer: what its status, headers and the beginning of its body mean.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, Version};
use reqwest::Response;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::{
    incoming::{self, RpcResult, challenge, is_for, protocol_error},
    lost,
    summary::{self, ResponseSummary},
};
use pleiades_core::error::{Code, Error, RpcFault};
use pleiades_core::www_authenticate;
use pleiades_mcp::Message;

const LARGEST: usize = 64 * 1024;
/// How long a body is waited for.
const LINGER: Duration = Duration::from_secs(1);

/// Whether a request was made in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionKind {
    /// It stands alone, or opens one.
    None,
    /// One without an id: there is nothing that the provider could have forgotten but that it was opened.
    Nameless,
    Named,
}

#[derive(Debug)]
pub(crate) struct RefusedResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    version: Version,
    url: Url,
    body: Bytes,
}

impl RefusedResponse {
    pub(crate) fn head(response: &Response) -> Self {
        Self {
            status: response.status(),
            headers: response.headers().clone(),
            version: response.version(),
            url: response.url().clone(),
            body: Bytes::new(),
        }
    }

    /// With the beginning of its body; as much of it as comes soon.
    pub(crate) async fn read(mut response: Response, deadline: Instant) -> Self {
        let mut body = BytesMut::new();
        let read = async {
            while body.len() < LARGEST
                && let Ok(Some(chunk)) = response.chunk().await
            {
                let room = LARGEST - body.len();
                body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
            }
        };
        let soon = deadline.min(Instant::now() + LINGER);
        timeout_at(soon, read).await.ok();
        Self {
            body: body.freeze(),
            ..Self::head(&response)
        }
    }

    pub(crate) fn into_response(self) -> Response {
        let mut whole = http::Response::new(reqwest::Body::from(self.body));
        (*whole.status_mut(), *whole.version_mut()) = (self.status, self.version);
        *whole.headers_mut() = self.headers;
        whole.into()
    }

    pub(crate) fn summary(&self) -> ResponseSummary {
        ResponseSummary::of(self.status, &self.headers, &self.body)
    }

    pub(crate) fn words(&self) -> String {
        summary::first_words(&summary::content_type(&self.headers), &self.body)
    }

    pub(crate) fn fault(&self) -> Option<RpcFault> {
        incoming::read_fault(&self.body).map(|(fault, _)| fault)
    }

    pub(crate) fn says_lost(&self) -> bool {
        lost::says_lost(&summary::content_type(&self.headers), &self.body)
    }

    /// Whether it is about the session; `fault`: the JSON-RPC error in it. The words of a challenge are about the
    /// credential.
    pub(crate) fn ends_session(&self, session: SessionKind, fault: Option<&RpcFault>) -> bool {
        if challenge(&self.headers).is_some_and(|text| text.contains("error=")) {
            return false;
        }
        match session {
            SessionKind::None => false,
            // By its status it may be about a wrong path.
            SessionKind::Nameless => fault.is_none_or(lost::names_lost_session) && self.says_lost(),
            SessionKind::Named => {
                let kind = summary::content_type(&self.headers);
                lost::ends_session(self.status, &kind, &self.body, fault)
            }
        }
    }

    /// The outcome of the request of an id; `unsigned`: no credential was sent.
    pub(crate) fn outcome(&self, ours: u64, unsigned: bool) -> Result<RpcResult, Error> {
        let (status, fault) = (self.status, self.fault());
        if status.is_redirection() {
            return Err(self.redirect_error());
        }
        let challenge = challenge(&self.headers);
        if www_authenticate::challenge(status.as_u16(), challenge.as_deref()).is_refusal() {
            let is_bare = status == StatusCode::FORBIDDEN && challenge.is_none();
            return match fault {
                Some(fault) if is_bare && unsigned => Ok(Err(fault)),
                _ if is_bare && self.summary().is_page() => Err(self.page_error()),
                _ => Err(self.credential_error(challenge, unsigned)),
            };
        }
        if let Some(fault) = fault {
            return Ok(Err(fault));
        }
        if status.is_success()
            && let Ok(Message::Response { id, outcome }) = incoming::decode(&self.body)
            && is_for(&id, ours)
        {
            return Ok(outcome);
        }
        Err(self.status_error())
    }

    fn status_error(&self) -> Error {
        let summary = self.summary();
        let seen = summary.describe();
        let mut error = match self.status {
            StatusCode::TOO_MANY_REQUESTS => {
                // It was turned away before it was looked into (RFC 6585, section 4).
                let message = "the provider limits our requests; try again later";
                Error::new(Code::UpstreamUnreachable, message)
            }
            status if status.is_server_error() => {
                unavailable(format!("the provider is failing ({seen}); try again later"))
            }
            status if status.is_success() => protocol_error(format!("the provider gave no answer ({seen})")),
            _ => {
                // Why a provider refuses a request is for whoever made it.
                let words =
                    summary::reason(&self.body).map_or_else(String::new, |words| format!(": {words}"));
                protocol_error(format!("the provider refused the request ({seen}){words}"))
            }
        };
        error.retry_after = incoming::retry_after(&self.headers);
        error.because(summary)
    }

    fn redirect_error(&self) -> Error {
        let message = format!(
            "the provider answered with a redirect (status {}), which is never followed; put the final address in \
             `upstream.url`",
            self.status.as_u16()
        );
        let summary = ResponseSummary::redirect(self.status, &self.headers, &self.url);
        let mut error = protocol_error(message).because(summary);
        // These ask for the same request at another place: nothing was run here (RFC 9110, 15.4).
        let elsewhere = [StatusCode::TEMPORARY_REDIRECT, StatusCode::PERMANENT_REDIRECT];
        error.sent = !elsewhere.contains(&self.status);
        error
    }

    /// A page for people where a credential would be refused in MCP.
    fn page_error(&self) -> Error {
        let summary = self.summary();
        let message = format!(
            "a page came in place of the provider's answer ({}), as firewalls and proxies show it",
            summary.describe()
        );
        protocol_error(message).because(summary)
    }

    fn credential_error(&self, challenge: Option<String>, unsigned: bool) -> Error {
        let message = match (unsigned, self.status) {
            (false, _) => "the provider refused the credential, or wants one",
            (true, StatusCode::UNAUTHORIZED) => "the provider wants a credential",
            (true, _) => "the provider forbids this (status 403), and may want a credential",
        };
        let mut error = Error::new(Code::UpstreamAuth, message).sent();
        let status = self.status.as_u16();
        let read = www_authenticate::challenge(status, challenge.as_deref());
        error.refusal = Some(Box::new((status, challenge)));
        error.because(self.summary().challenged(&read))
    }
}

fn unavailable(message: String) -> Error {
    Error::new(Code::UpstreamUnreachable, message).sent()
}
