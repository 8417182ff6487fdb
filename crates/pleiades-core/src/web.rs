//! Requests to authorization servers and upstreams, as the rest of the process makes them.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;

use crate::www_authenticate::Challenge;

/// What may be connected to beside public addresses.
#[derive(Debug, Clone, Default)]
pub struct AddressPolicy {
    /// Private and link-local addresses.
    pub private: bool,
    /// Loopback addresses, there also without TLS.
    pub loopback: bool,
    /// PEM certificates that are trusted beside the system's: the descriptor's `tls.ca_file`.
    pub ca: Option<Arc<Vec<u8>>>,
}

/// Sends requests outward: every address checked as it is connected to, no redirect followed, no
/// proxy variable believed.
#[async_trait]
pub trait HttpClient: Send + Sync + fmt::Debug {
    /// One request and its whole answer, of any status: at most 1 MiB, within 15 s.
    ///
    /// # Errors
    /// [`SendError`] when there is no whole answer. `https` is required but on loopback.
    async fn send(
        &self,
        reach: &AddressPolicy,
        request: http::Request<Vec<u8>>,
    ) -> Result<http::Response<Bytes>, SendError>;
}

/// Asks an upstream without a credential what it wants: where discovery begins.
#[async_trait]
pub trait Prober: Send + Sync + fmt::Debug {
    /// The challenge of a provider's endpoint; `None` when it gives none.
    async fn challenge(&self, provider: &str) -> Option<Challenge>;
}

/// There was no whole answer.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct SendError {
    /// One sentence: lowercase, no full stop, no secret, the host at most.
    pub message: String,
    /// Whether the request may have arrived.
    pub sent: bool,
    /// Whether trying again may help: false for a forbidden address or a URL that is none.
    pub transient: bool,
    /// What the operator can do, where it is known: of the same form as `message`.
    pub cure: Option<String>,
    /// The cause, for the log.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}
