//! What the rooms of the public listener share: made once, never changed.

use std::sync::Arc;

use super::{limits::CallerLimits, resume::AnswerStore};
use crate::exchange::{Exchange, Scope};
use pleiades_core::error::{Code, Error};
use pleiades_core::telemetry::Metrics;
use pleiades_credential::access::{Access, Principal};
use pleiades_mcp::seal::Sealer;

#[derive(Debug)]
pub(super) struct GatewayServices {
    pub(super) exchange: Arc<Exchange>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) sealer: Arc<Sealer>,
    pub(super) access: Arc<Access>,
    pub(super) limits: CallerLimits,
    pub(super) answers: AnswerStore,
    /// Largest request body, in bytes.
    pub(super) max_body: usize,
}

impl GatewayServices {
    /// A refusal in words for its caller: why the provider of a path does not run, where the caller may
    /// know.
    pub(super) fn explained(&self, error: Error, scope: &Scope, principal: &Principal) -> Error {
        match (&scope.provider, error.code) {
            (Some(id), Code::UnknownProvider) => self.exchange.catalog.explain_absence(error, id, principal),
            _ => error,
        }
    }
}
