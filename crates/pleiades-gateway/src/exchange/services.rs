//! What methods work with: one service for each room below them.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::request::{Names, Request};
use super::session::{Mailboxes, RepeatedCalls, Sessions};
use super::{account::Accounts, call::Calls, client::Questions, lists::ListReader, workers::Workers};
use crate::catalog::Catalog;
use crate::facade::form::AnswerForms;
use crate::result_store::ResultStores;
use pleiades_core::telemetry::Metrics;
use pleiades_upstream::Upstreams;

/// What the gateway is called, and whether it shows one tool for all.
#[derive(Debug)]
pub struct Shown {
    /// `name` of the settings.
    pub name: String,
    /// `facade.single`.
    pub single: bool,
    /// `tool_names`.
    pub names: Names,
    /// `facade.structured` and `facade.structured_clients`.
    pub forms: AnswerForms,
}

#[derive(Debug)]
pub(crate) struct MethodServices {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) upstreams: Arc<Upstreams>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) mailboxes: Arc<Mailboxes>,
    pub(crate) questions: Arc<Questions>,
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) lists: Arc<ListReader>,
    pub(crate) calls: Arc<Calls>,
    pub(crate) workers: Arc<Workers>,
    pub(crate) results: Arc<ResultStores>,
    pub(crate) wrong_calls: RepeatedCalls,
    pub(crate) shown: Shown,
    pub(crate) closing: CancellationToken,
}

impl MethodServices {
    pub(crate) fn names(&self, request: &Request<'_>) -> Names {
        request.scope().names.unwrap_or(self.shown.names)
    }

    pub(crate) const fn is_single(&self, request: &Request<'_>) -> bool {
        self.shown.single && request.is_union()
    }
}
