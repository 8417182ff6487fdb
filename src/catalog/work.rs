//! Attempts to learn what a provider offers, and who is told of the result.

use std::{pin::pin, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, broadcast},
    time::timeout,
};

use super::{
    Changed, Lister, Live, Provider, Shelf, Snapshot, State,
    discover::{Found, Known, discover, said},
    lists::Which,
    shelf::{Claim, Failure, Standing},
};
use crate::credential::{Brought, Need};
use crate::error::{Code, Error};
use crate::telemetry::Metrics;
use crate::upstream::Behalf;

/// Attempts of providers' tasks that begin at once.
const AT_ONCE: usize = 16;
/// How long an attempt keeps others from beginning: a hundred hanging providers must not keep a
/// thousand good ones waiting.
const TURN: Duration = Duration::from_secs(2);
/// Changes that a slow listener may fall behind; then everything counts as changed.
const CHANGES: usize = 256;

/// Why the lists of a provider are read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cause {
    /// For a reason of ours: these lists, or all and what the provider is. Listeners are told of what
    /// differs.
    Ours(Option<Which>),
    /// The provider said that these changed. Listeners are told so even where nothing differs: what is
    /// behind an entry may have changed.
    Announced(Which),
}

/// What attempts and tasks share.
pub(super) struct Work {
    pub(super) lister: Box<dyn Lister>,
    pub(super) snapshot: ArcSwap<Snapshot>,
    pub(super) changes: broadcast::Sender<Changed>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) control: Handle,
    tenant: Arc<str>,
    user: Arc<str>,
    turns: Semaphore,
}

impl Work {
    pub(super) fn new(
        lister: Box<dyn Lister>,
        metrics: Arc<Metrics>,
        control: Handle,
        (tenant, user): (Arc<str>, Arc<str>),
    ) -> Self {
        Self {
            lister,
            snapshot: ArcSwap::from_pointee(Snapshot::default()),
            changes: broadcast::Sender::new(CHANGES),
            metrics,
            control,
            tenant,
            user,
            turns: Semaphore::new(AT_ONCE),
        }
    }

    /// The provider that runs under this id, when it is still the one that `live` belongs to.
    pub(super) fn current(&self, id: &str, live: &Arc<Live>) -> Option<Arc<Provider>> {
        let snapshot = self.snapshot.load();
        snapshot
            .providers
            .get(id)
            .filter(|provider| Arc::ptr_eq(&provider.live, live))
            .cloned()
    }

    /// On whose behalf shared lists are read; `None` when only callers have a credential.
    pub(super) fn behalf(&self, need: &Need) -> Option<Behalf> {
        let signature = need.sign(&Brought::default()).ok()?;
        Some(Behalf {
            lane: None,
            tenant: Arc::clone(&self.tenant),
            user: Arc::clone(&self.user),
            signature,
        })
    }

    /// Begins an attempt unless one runs. Not ended by a reload: a request of the older snapshot
    /// may wait for it.
    pub(super) fn start(
        self: &Arc<Self>,
        provider: &Arc<Provider>,
        shelf: &Arc<Shelf>,
        behalf: &Behalf,
        which: Option<Which>,
    ) {
        let Some(claim) = shelf.claim() else { return };
        let (work, provider, behalf) = (Arc::clone(self), Arc::clone(provider), behalf.clone());
        self.control
            .spawn(async move { work.attempt(claim, &provider, &behalf, Cause::Ours(which)).await });
    }

    /// An attempt on the shared lists, when it is this provider's turn.
    pub(super) async fn attempt_in_turn(&self, provider: &Provider, behalf: &Behalf, cause: Cause) {
        let shelf = &provider.live.shared;
        let mut ended = shelf.watch();
        let Ok(turn) = self.turns.acquire().await else {
            return;
        };
        // Somebody who could not wait for our turn may have been here.
        if ended.has_changed().unwrap_or(false) && matches!(shelf.standing(), Standing::Fresh) {
            return;
        }
        let Some(claim) = shelf.claim() else {
            drop(turn);
            ended.changed().await.unwrap_or_default();
            return;
        };
        let mut attempt = pin!(self.attempt(claim, provider, behalf, cause));
        if timeout(TURN, &mut attempt).await.is_err() {
            drop(turn);
            attempt.await;
        }
    }

    async fn attempt(&self, claim: Claim, provider: &Provider, behalf: &Behalf, cause: Cause) {
        let shelf = claim.shelf();
        let listed = matches!(shelf.standing(), Standing::Fresh | Standing::Old);
        let known = Known {
            catalogue: shelf.load_full(),
            offered: shelf.offered(),
            listed,
        };
        // Only a list that was read just before says that what is known of the provider holds.
        let (which, announced) = match cause {
            Cause::Ours(which) => (which, Which::default()),
            Cause::Announced(which) => (Some(which), which),
        };
        let which = which.filter(|_| listed);
        let mut result = discover(&*self.lister, provider, behalf, &known, which).await;
        if which.is_some()
            && result
                .as_ref()
                .is_err_and(|error| error.code == Code::UnsupportedRevision)
        {
            // It was replaced by a newer or an older server: what it is has to be learnt again.
            result = discover(&*self.lister, provider, behalf, &known, None).await;
        }
        match result {
            Ok(found) => self.found(&claim, (provider, behalf), (&known, announced), found),
            Err(error) => self.failed(&claim, (provider, behalf), &error),
        }
    }

    fn found(
        &self,
        claim: &Claim,
        (provider, behalf): (&Provider, &Behalf),
        (known, announced): (&Known, Which),
        mut found: Found,
    ) {
        let shared = Arc::ptr_eq(claim.shelf(), &provider.live.shared);
        let (failing, idle) = (found.failing.clone().filter(|_| shared), found.idle);
        let reason = match (failing, found.left_out.reason()) {
            (Some(failing), Some(left_out)) => Some(format!("{failing}; {left_out}")),
            (failing, left_out) => failing.or(left_out),
        };
        if !shared {
            provider
                .live
                .share(&mut found.catalogue, &mut found.offered, &provider.rules);
        }
        let (failed_before, left_out) = claim.found(found);
        for why in left_out {
            tracing::warn!(provider.name = %provider.id, "{why}");
        }
        let catalogue = claim.shelf().load();
        let count = catalogue.tools.len();
        let mut differ = Which::between(&known.catalogue, &catalogue).or(announced);
        if failed_before {
            // Whoever asked meanwhile got a list without this provider.
            differ.tools |= count > 0;
            differ.resources |= !catalogue.resources.is_empty() || !catalogue.templates.is_empty();
            differ.prompts |= !catalogue.prompts.is_empty();
        }
        match reason {
            Some(reason) => self.fares(provider, State::Degraded, Some(reason)),
            None => self.fares(provider, State::Ready, idle.map(str::to_owned)),
        }
        if self.current(&provider.id, &provider.live).is_none() {
            return;
        }
        if shared {
            self.metrics.tools(&provider.id, count);
        } else {
            // Nothing that could be read is no news of what the provider offers.
            if count > 0 || catalogue.unread.is_none() {
                provider.live.seen(&behalf.tenant, Arc::clone(&catalogue));
            }
            provider.live.trim();
        }
        if differ.any() {
            let user = (!shared).then(|| (Arc::clone(&behalf.tenant), Arc::clone(&behalf.user)));
            self.tell_user(Some(&provider.id), user, differ);
        }
    }

    fn failed(&self, claim: &Claim, (provider, behalf): (&Provider, &Behalf), error: &Error) {
        let shared = Arc::ptr_eq(claim.shelf(), &provider.live.shared);
        tracing::debug!(
            provider.name = %provider.id, error.code = error.code.as_str(), cause = error.source.as_ref().map(tracing::field::display),
            "lists could not be read: {error}"
        );
        claim.failed(Failure::of(error, behalf));
        match error.code {
            // What one caller brought says nothing of the provider.
            _ if !shared && error.code.is_of_credentials() => {}
            Code::UpstreamAuth | Code::NeedsAuth => self.fares(provider, State::NeedsAuth, Some(said(error))),
            Code::UpstreamUnreachable | Code::UpstreamTimeout => {
                self.fares(provider, State::Unreachable, Some(said(error)))
            }
            _ if shared => self.fares(provider, State::Unreachable, Some(said(error))),
            _ => {}
        }
    }

    /// Notes how a provider fares, and says so in the log when that is new.
    pub(super) fn fares(&self, provider: &Provider, state: State, reason: Option<String>) {
        let told = reason.clone().unwrap_or_default();
        if !provider.live.fares(state, reason) {
            return;
        }
        let tools = provider.live.shared.load().tools.len();
        match state {
            State::Ready => {
                tracing::info!(provider.name = %provider.id, tools, "provider is ready")
            }
            State::NeedsAuth => {
                tracing::info!(provider.name = %provider.id, "provider needs a credential: {told}")
            }
            _ => tracing::warn!(provider.name = %provider.id, tools, "provider is {state}: {told}"),
        }
    }

    /// Tells listeners what changed.
    pub(super) fn tell(&self, provider: Option<&Arc<str>>, which: Which) {
        self.tell_user(provider, None, which);
    }

    /// Tells the listeners of one user, or of all.
    pub(super) fn tell_user(
        &self,
        provider: Option<&Arc<str>>,
        user: Option<(Arc<str>, Arc<str>)>,
        which: Which,
    ) {
        let Which {
            tools,
            resources,
            prompts,
        } = which;
        let changed = Changed {
            provider: provider.cloned(),
            user,
            tools,
            resources,
            prompts,
        };
        // Nobody listening is no fault.
        self.changes.send(changed).unwrap_or_default();
    }
}
