//! What is known of an HTTP request before it is worked on.

use std::{net::IpAddr, sync::Arc, time::Instant};

use http::StatusCode;

use crate::exchange::{Record, Scope};
use pleiades_core::telemetry::Metrics;
use pleiades_core::telemetry::events::RequestDone;
use pleiades_credential::access::Caller;

/// One request: its id, and who sent it from where.
#[derive(Debug)]
pub(super) struct Context {
    /// Its id in logs and answers.
    pub(super) request_id: String,
    /// When its head had arrived.
    pub(super) started: Instant,
    /// The caller's origin, when it is an allowed one.
    pub(super) origin: Option<String>,
    /// The address that it came from.
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

    /// Emits the event of a request that carried no message; it counts as no call.
    pub(super) fn report(&self, metrics: &Metrics, scope: &Scope, record: &Record, status: StatusCode) {
        let mut done = request_event(scope, record, (&self.request_id, self.started), status);
        self.describe(&mut done);
        done.emit(metrics);
    }
}

/// The event of a request for `scope` that came to `record`.
pub(super) fn request_event(
    scope: &Scope,
    record: &Record,
    (request_id, started): (&str, Instant),
    status: StatusCode,
) -> RequestDone {
    let mut done = RequestDone::new(request_id.to_owned(), record.method.clone());
    record.describe(&mut done);
    done.provider = done.provider.or_else(|| scope.provider.clone());
    done.duration = started.elapsed();
    done.status = status.as_u16();
    done
}
