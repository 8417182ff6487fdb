//! One question that changes nothing: what the HTTP server at a provider's URL says at all.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode, Version, header};
use tokio::time::Instant;

use super::{
    Upstreams,
    endpoint::{Behalf, Endpoint},
    post::{self, Head},
};
use crate::error::Error;
use crate::mcp::{RawObject, message};

/// The head of an answer.
#[derive(Debug, Clone)]
pub struct Knock {
    /// Status.
    pub status: StatusCode,
    /// Version of HTTP that was agreed.
    pub version: Version,
    /// Type of the body, without parameters.
    pub content_type: String,
}

impl Upstreams {
    /// POSTs `ping`, or GETs where a provider of the old transport has its stream; the body is not
    /// read. Within the endpoint's `connect` and `call` together.
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
        let content_type = response
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split(';').next());
        Ok(Knock {
            status: response.status(),
            version: response.version(),
            content_type: content_type.unwrap_or_default().trim().to_ascii_lowercase(),
        })
    }
}
