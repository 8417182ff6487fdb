//! The lists of every provider in scope, whatever becomes of the others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::time::timeout;

use super::ListReader;
use super::late::{LateKey, late_key};
use crate::catalog::{Catalogue, Provider, State};
use crate::exchange::request::{Facts, Request};
use crate::exchange::union::Parts;
use pleiades_core::error::Error;

/// The longest that a union waits for its providers, all at once: an answer takes a second at most.
/// What comes later is told by `list_changed`.
const WAIT: Duration = Duration::from_millis(800);
/// The same for one that was late before: nobody's list takes longer for it each time.
const LATE_WAIT: Duration = Duration::from_millis(40);

impl ListReader {
    /// The lists of every provider in scope. In a union a provider that fails is left out; alone
    /// its failure is the answer, because an empty list is not success.
    pub(crate) async fn parts(self: &Arc<Self>, request: &Request<'_>) -> Result<Parts, Error> {
        if let Some(provider) = request.only()? {
            let lists = self.part(request, &provider).await?;
            return Ok(Parts::one(provider, lists));
        }
        let asked: Vec<Arc<Provider>> = request.in_scope().cloned().collect();
        let answers = join_all(asked.iter().map(|provider| self.union_part(request, provider))).await;
        Ok(Parts::of(asked.into_iter().zip(answers)))
    }

    /// Nobody waits for a provider that is known to be out of reach, nor longer than [`WAIT`], nor that long
    /// twice. `None`: it is left out.
    async fn union_part(
        self: &Arc<Self>,
        request: &Request<'_>,
        provider: &Arc<Provider>,
    ) -> Option<Option<Arc<Catalogue>>> {
        if provider.state().0 == State::Unreachable && self.known(request, provider).is_none() {
            return None;
        }
        let key = late_key(provider, request.principal());
        let wait = match self.late.has(&key) {
            true => LATE_WAIT,
            false => WAIT,
        };
        let asked = Instant::now();
        match timeout(wait, self.part(request, provider)).await {
            Ok(Ok(lists)) => {
                self.late.answered(&key);
                Some(lists)
            }
            Ok(Err(error)) => {
                tracing::debug!(provider.name = %provider.id, outcome = error.code.as_str(), error = error.in_full(), "left out of a union");
                if asked.elapsed() > LATE_WAIT {
                    self.late.failed(key);
                }
                None
            }
            Err(_elapsed) => {
                self.wait_beside(request, provider, key);
                // Its one tool can be shown; which operations there are is not known yet.
                Some(Some(Arc::new(Catalogue::default())))
            }
        }
    }

    /// Beside the request, within the provider's `connect` and `call`; then this caller's listeners are told.
    /// (Those of shared lists are told by the reading itself.)
    fn wait_beside(self: &Arc<Self>, request: &Request<'_>, provider: &Arc<Provider>, key: LateKey) {
        if !self.late.begins(key.clone()) {
            return;
        }
        let (lists, provider) = (Arc::clone(self), Arc::clone(provider));
        let (snapshot, account) = (Arc::clone(request.snapshot()), request.named_account().cloned());
        let (scope, peer) = (request.scope().clone(), request.peer().clone());
        tokio::spawn(async move {
            let answered = {
                let facts = Facts::default();
                let beside = Request::new(&snapshot, (&scope, &peer), "", &facts);
                let beside = beside.with_account(account);
                let part = Box::pin(lists.part(&beside, &provider));
                let part = lists.closing.run_until_cancelled(part).await;
                matches!(part, Some(Ok(_)))
            };
            lists.late.ends(&key, answered);
            if answered && key.1.is_some() {
                let principal = &peer.principal;
                lists
                    .catalog
                    .account_changed(&provider, &principal.tenant, &principal.user);
            }
        });
    }
}
