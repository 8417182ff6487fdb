//! What is known of an HTTP request before it is worked on.

use std::{net::IpAddr, sync::Arc, time::Instant};

use http::StatusCode;

use crate::exchange::Scope;
use pleiades_core::error::Code;
use pleiades_core::telemetry::{Metrics, events::RequestDone};
use pleiades_credential::access::Caller;

/// One request: its id, and who sent it from where.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) request_id: String,
    /// When its head had arrived.
    pub(super) started: Instant,
    /// The caller's origin, when it is an allowed one.
    pub(super) origin: Option<String>,
    pub(super) peer: Option<IpAddr>,
    /// Its sender, once identified.
    pub(super) caller: Option<Caller>,
}

impl Context {
    pub(super) fn new(request_id: String) -> Self {
        Self {
            request_id,
            started: Instant::now(),
            origin: None,
            peer: None,
            caller: None,
        }
    }

    /// Adds the sender to the event of a request.
    pub(super) fn describe(&self, done: &mut RequestDone) {
        done.peer = self.peer;
        if let Some(Caller { principal, key }) = &self.caller {
            done.tenant = Some(Arc::clone(&principal.tenant));
            done.user = Some(Arc::clone(&principal.user));
            done.key.clone_from(key);
        }
    }

    /// Emits the event of a request that was refused before it was one; it counts as no call.
    pub(super) fn report_refusal(&self, metrics: &Metrics, scope: &Scope, code: Code, status: StatusCode) {
        let mut done = RequestDone::new(self.request_id.clone(), "http");
        self.describe(&mut done);
        done.provider.clone_from(&scope.provider);
        done.outcome = code.as_str();
        done.duration = self.started.elapsed();
        done.status = status.as_u16();
        done.emit(metrics);
    }
}
