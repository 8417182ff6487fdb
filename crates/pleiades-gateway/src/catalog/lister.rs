//! What the catalogue needs of the upstream side; a trait, so that discovery is tested without one.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;

use pleiades_core::error::Error;
use pleiades_mcp::Raw;
use pleiades_upstream::{Call, Endpoint, Identity, Profile, ProviderChange, Upstreams};

/// Reaches providers.
#[async_trait]
pub trait Lister: Send + Sync {
    /// Detects revisions and capabilities.
    async fn probe(&self, endpoint: &Arc<Endpoint>, identity: &Identity) -> Result<Profile, Error>;

    /// The profile with all generations in it, where detection left a question open; `None` when there
    /// was none, or no answer.
    async fn older(
        &self,
        endpoint: &Arc<Endpoint>,
        identity: &Identity,
        profile: &Profile,
    ) -> Option<Profile>;

    /// One request, its result unparsed.
    async fn request(&self, endpoint: &Arc<Endpoint>, identity: &Identity, call: Call) -> Result<Raw, Error>;

    /// Listens for changes of lists until the receiver is dropped; closed at once when there is
    /// nothing to listen to.
    fn listen(
        &self,
        endpoint: &Arc<Endpoint>,
        identity: &Identity,
        profile: &Profile,
    ) -> mpsc::Receiver<ProviderChange>;

    /// Ends sessions and processes of an endpoint once their calls are done.
    fn retire(&self, digest: &[u8; 32]);
}

#[async_trait]
impl Lister for Arc<Upstreams> {
    async fn probe(&self, endpoint: &Arc<Endpoint>, identity: &Identity) -> Result<Profile, Error> {
        Upstreams::probe(self, endpoint, identity).await
    }

    async fn older(
        &self,
        endpoint: &Arc<Endpoint>,
        identity: &Identity,
        profile: &Profile,
    ) -> Option<Profile> {
        Upstreams::probe_legacy(self, endpoint, identity, profile).await
    }

    async fn request(&self, endpoint: &Arc<Endpoint>, identity: &Identity, call: Call) -> Result<Raw, Error> {
        Upstreams::request(self, endpoint, identity, call).await
    }

    fn listen(
        &self,
        endpoint: &Arc<Endpoint>,
        identity: &Identity,
        profile: &Profile,
    ) -> mpsc::Receiver<ProviderChange> {
        Upstreams::watch_lists(self, endpoint, identity, profile)
    }

    fn retire(&self, digest: &[u8; 32]) {
        Upstreams::retire(self, digest);
    }
}
