//! One call of a provider: planned, let in, made in as many attempts as its provider asks for, parked
//! while its client answers, and looked after as a task where it becomes one.

mod extension;
mod make;
mod outcome;
mod parking;
mod plan;
mod replicas;
mod resume;
mod state;
mod task;
mod task_id;
mod task_mode;

use std::sync::Arc;

pub(crate) use outcome::{CallOutcome, is_breakage, limited};
pub(crate) use plan::{CallTarget, check_answers, declared, looks_after_tasks, revision_for};
pub(crate) use task_id::TaskClaims;
pub(crate) use task_mode::offers_tasks;

use super::session::{Mailboxes, Sessions, Tokens};
use super::{account::Accounts, client::Questions, workers::Workers};
use crate::catalog::Catalog;
use crate::result_store::AnswerCache;
use pleiades_core::telemetry::Metrics;
use pleiades_upstream::Upstreams;

#[derive(Debug)]
pub(crate) struct Calls {
    catalog: Arc<Catalog>,
    upstreams: Arc<Upstreams>,
    metrics: Arc<Metrics>,
    accounts: Arc<Accounts>,
    questions: Arc<Questions>,
    mailboxes: Arc<Mailboxes>,
    tokens: Tokens,
    workers: Arc<Workers>,
    cache: Arc<AnswerCache>,
    replicas: replicas::ReplicaCalls,
    parking: parking::Parking,
    needing: task_mode::NeedingTasks,
}

impl Calls {
    pub(crate) fn new(
        (catalog, upstreams, metrics): (Arc<Catalog>, Arc<Upstreams>, Arc<Metrics>),
        accounts: Arc<Accounts>,
        (questions, mailboxes): (Arc<Questions>, Arc<Mailboxes>),
        sessions: &Sessions,
        (workers, cache): (Arc<Workers>, Arc<AnswerCache>),
    ) -> Self {
        Self {
            catalog,
            upstreams,
            metrics,
            accounts,
            questions,
            mailboxes,
            tokens: sessions.tokens().clone(),
            workers,
            cache,
            replicas: replicas::ReplicaCalls::new(Arc::clone(sessions.shared())),
            parking: parking::Parking::default(),
            needing: task_mode::NeedingTasks::default(),
        }
    }
}
