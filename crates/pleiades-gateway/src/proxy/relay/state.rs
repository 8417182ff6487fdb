//! A request on its way through the relay.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::credential::RelayCredential;
use crate::catalog::Provider;
use crate::exchange::{Busy, WriteGuard};
use crate::proxy::limits::StreamSlot;
use pleiades_core::{error::Error, limit::CallPermit, telemetry::InflightGuard};
use pleiades_credential::access::Principal;
use pleiades_mcp::Revision;
use pleiades_upstream::{Transport, place};

impl RelayState {
    /// Host and port of the provider, for the operator.
    pub(super) fn place(&self) -> String {
        let url = match &self.provider.endpoint.target {
            Transport::Http { url, .. } => place(url),
            Transport::Stdio { .. } => None,
        };
        url.unwrap_or_default()
    }
}

#[derive(Debug)]
pub(in crate::proxy) struct RelayState {
    pub(super) provider: Arc<Provider>,
    pub(super) principal: Principal,
    pub(super) credential: RelayCredential,
    pub(super) revision: Revision,
    /// The upstream's own session id, unsealed.
    pub(super) session: Option<String>,
    /// `Mcp-Method`; empty where the head does not name it.
    pub(super) method: String,
    pub(super) permit: CallPermit,
    /// The provider's gauge, and the process's count of what its end waits for.
    pub(super) _guards: (InflightGuard, Option<Busy>),
    /// Set when the answer is a stream: it may be silent for long.
    pub(super) stream_slot: Option<StreamSlot>,
    /// Set where it may change what cached answers say. They are empty when this is dropped.
    pub(super) _write: Option<WriteGuard>,
    /// Bytes of the request body so far.
    pub(super) received: usize,
    pub(super) failure: Option<Error>,
    pub(super) attempts: usize,
    /// Whether its credential was renewed after a 401: once.
    pub(super) is_renewed: bool,
    /// Whether it is sent again with that, whatever its method: the upstream ran nothing.
    pub(super) is_retried: bool,
    /// When the last attempt began.
    pub(super) sent: Option<Instant>,
    /// How long the upstream took to answer.
    pub(super) answered: Option<Duration>,
}
