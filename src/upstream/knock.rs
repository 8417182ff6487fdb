//! One question that changes nothing: what the HTTP server at a provider's URL says at all.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode, Version};
use tokio::time::Instant;

use super::{
    Upstreams, answer,
    endpoint::{Behalf, Endpoint},
    post::{self, Head},
    said,
};
use crate::error::{Error, one_line};
use crate::mcp::{RawObject, message};

/// Longest words of a refusal, in characters.
const WORDS: usize = 160;

/// The head of an answer.
#[derive(Debug, Clone)]
pub struct Knock {
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
    pub async fn knock(&self, endpoint: &Arc<Endpoint>, behalf: &Behalf, get: bool) -> Result<Knock, Error> {
        let route = self.shared.clients.route(endpoint)?;
        let deadline = Instant::now() + endpoint.patience();
        let head = Head::default();
        let response = if get {
            post::bare(&route, &behalf.signature, Method::GET, head, deadline).await?
        } else {
            let body = Bytes::from(message::request(0, "ping", &RawObject::new()));
            post::post(&route, &behalf.signature, head, body, deadline).await?
        };
        let (status, version) = (response.status(), response.version());
        let headers = response.headers().clone();
        let location = said::target(&headers, response.url()).filter(|_| status.is_redirection());
        let content_type = said::kind(&headers);
        let words = if status.is_success() {
            String::new()
        } else {
            let body = answer::beginning(response, deadline).await;
            one_line(&said::words(&content_type, &body), WORDS)
        };
        Ok(Knock {
            status,
            version,
            content_type,
            words,
            location,
        })
    }
}
