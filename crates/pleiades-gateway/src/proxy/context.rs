//! What one HTTP request carries from phase to phase.

use std::{net::IpAddr, sync::Arc, time::Instant};

use super::limits::StreamSlot;
use super::relay_credential::RelayCredential;
use crate::catalog::Provider;
use crate::exchange::Busy;
use pleiades_core::error::Error;
use pleiades_core::limit::CallPermit;
use pleiades_core::telemetry::InflightGuard;
use pleiades_core::telemetry::events::RequestDone;
use pleiades_credential::access::{Caller, Principal};
use pleiades_mcp::Revision;

/// State of one request.
#[derive(Debug)]
pub struct Context {
    /// Its id in logs and answers.
    pub(super) request_id: String,
    /// When its head had arrived.
    pub(super) started: Instant,
    /// The caller's origin, when it is one of ours.
    pub(super) origin: Option<String>,
    /// Where the request came from.
    pub(super) peer: Option<IpAddr>,
    /// Who sent it, once that is known.
    pub(super) caller: Option<Caller>,
    /// Set when the request goes on through Pingora to an upstream.
    pub(super) relay: Option<RelayState>,
}

/// A request on the relay.
#[derive(Debug)]
pub(super) struct RelayState {
    pub(super) provider: Arc<Provider>,
    pub(super) principal: Principal,
    pub(super) credential: RelayCredential,
    pub(super) revision: Revision,
    /// The upstream's own session id, unsealed.
    pub(super) session: Option<String>,
    pub(super) method: String,
    pub(super) permit: Option<CallPermit>,
    /// Held while it lasts: the provider's gauge, and the process's count for its end.
    pub(super) _guards: (InflightGuard, Option<Busy>),
    /// Its place, when it may be silent for long: it tells of changes and answers nothing.
    pub(super) stream_slot: Option<StreamSlot>,
    /// Bytes of the request body so far.
    pub(super) received: usize,
    /// Why it failed, when it did.
    pub(super) failure: Option<Error>,
    /// Connection attempts so far.
    pub(super) attempts: usize,
    /// Whether its credential was renewed after a 401: once.
    pub(super) is_renewed: bool,
    /// Whether it is sent again for that, whatever it is: nothing was run.
    pub(super) is_retried: bool,
    pub(super) sent: Option<Instant>,
    pub(super) answered: Option<std::time::Duration>,
}

impl Context {
    /// What the event of a request says of its sender.
    pub(super) fn describe(&self, done: &mut RequestDone) {
        done.peer = self.peer;
        if let Some(Caller { principal, key }) = &self.caller {
            done.tenant = Some(Arc::clone(&principal.tenant));
            done.user = Some(Arc::clone(&principal.user));
            done.key.clone_from(key);
        }
    }

    pub(super) fn new(request_id: String) -> Self {
        Self {
            request_id,
            started: Instant::now(),
            origin: None,
            peer: None,
            caller: None,
            relay: None,
        }
    }
}
