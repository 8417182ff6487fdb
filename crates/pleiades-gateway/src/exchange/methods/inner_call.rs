//! The event of a call that is part of a plan: its line in the log, and what is counted of its tool.

use std::sync::Arc;
use std::time::Instant;

use crate::catalog::Provider;
use crate::exchange::request::{Facts, Peer, Request};
use crate::exchange::services::MethodServices;
use pleiades_core::error::Code;
use pleiades_core::telemetry::{Metrics, View, events::RequestDone};

/// Written when it ends; dropped before, the call was cancelled with its request.
pub(super) struct InnerCallEvent<'a> {
    metrics: &'a Metrics,
    peer: &'a Peer,
    provider: &'a Arc<Provider>,
    view: View,
    id: &'a str,
    started: Instant,
    facts: Facts,
    outcome: &'static str,
}

impl<'a> InnerCallEvent<'a> {
    /// The event of a call that begins now.
    pub(super) fn begin(
        services: &'a MethodServices,
        request: &'a Request<'_>,
        provider: &'a Arc<Provider>,
        id: &'a str,
    ) -> Self {
        Self {
            metrics: &services.metrics,
            peer: request.peer(),
            provider,
            view: request.view(),
            id,
            started: Instant::now(),
            facts: Facts::default(),
            outcome: Code::Cancelled.as_str(),
        }
    }

    /// What is noted of the call.
    pub(super) const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The call came to this outcome.
    pub(super) fn end(mut self, outcome: &'static str) {
        self.outcome = outcome;
    }
}

impl Drop for InnerCallEvent<'_> {
    fn drop(&mut self) {
        let facts = std::mem::take(&mut self.facts);
        let record = facts.record("tools/call".to_owned(), self.outcome);
        let record = record.judged(Some(&self.provider.need));
        let mut done = RequestDone::new(self.peer.request_id.clone(), "tools/call");
        self.peer.describe(&mut done);
        record.describe(&mut done);
        done.part = Some(self.id.to_owned().into());
        done.view = Some(self.view);
        done.duration = self.started.elapsed();
        done.emit(self.metrics);
    }
}
