//! One question that changes nothing: what the HTTP server at a provider's URL says at all.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode, Version};
use tokio::time::Instant;

use super::{
    Upstreams,
    endpoint::{Endpoint, Identity},
    post::{self, RequestHead},
    refusal::RefusedResponse,
    summary,
};
use pleiades_core::{error::Error, text::one_line};
use pleiades_mcp::{RawObject, message};

/// Longest words of a refusal, in characters.
const WORDS: usize = 160;

/// The head of an answer.
#[derive(Debug, Clone)]
pub struct HttpProbe {
    /// Status.
    pub status: StatusCode,
    /// Version of HTTP that was agreed.
    pub version: Version,
    /// Type of the body, without parameters.
    pub content_type: String,
    /// The first words of a refusal, cleaned.
    pub words: String,
    /// Where a redirect leads, without its query.
    pub location: Option<String>,
}

impl Upstreams {
    /// POSTs `ping`, or GETs where a provider of the old transport has its stream; of the body the
    /// first words of a refusal are read. Within the endpoint's `connect` and `call` together.
    ///
    /// # Errors
    /// `UpstreamUnreachable`, `UpstreamTimeout`; any status is an answer.
    pub async fn probe_http(
        &self,
        endpoint: &Arc<Endpoint>,
        identity: &Identity,
        get: bool,
    ) -> Result<HttpProbe, Error> {
        let route = self.shared.clients.route(endpoint)?;
        let deadline = Instant::now() + endpoint.start_timeout();
        let head = RequestHead::default();
        let response = if get {
            post::send_bodyless(&route, &identity.signature, Method::GET, head, deadline).await?
        } else {
            let body = Bytes::from(message::request(0, "ping", &RawObject::new()));
            post::post(&route, &identity.signature, head, body, deadline).await?
        };
        let (status, version) = (response.status(), response.version());
        let location = summary::redirect_target(response.headers(), response.url());
        let content_type = summary::content_type(response.headers());
        let words = if status.is_success() {
            String::new()
        } else {
            one_line(&RefusedResponse::read(response, deadline).await.words(), WORDS)
        };
        Ok(HttpProbe {
            status,
            version,
            content_type,
            words,
            location: location.filter(|_| status.is_redirection()),
        })
    }
}
