//! What the rooms of the public listener share: made once, never changed.

use std::sync::Arc;

use super::{limits::CallerLimits, resume::AnswerStore};
use crate::exchange::Exchange;
use pleiades_core::telemetry::Metrics;
use pleiades_credential::access::Access;
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
