//! The task of a provider: discovers it, listens to it, reads its lists again, never gives up.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};

use super::{
    Live, Provider,
    cached::Freshness,
    lists::ListSet,
    service::{DiscoveryService, ReadReason},
};
use pleiades_core::{backoff::Backoff, random};
use pleiades_mcp::Revision;
use pleiades_upstream::{Identity, ProviderChange};

/// First pause after a failed attempt.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// Changes within this time are answered by one reading.
const COLLECT: Duration = Duration::from_millis(100);
/// The least between two attempts that were asked for by failing calls or lost streams.
const SPACING: Duration = Duration::from_secs(1);

/// Runs until the provider is removed or replaced.
pub(super) async fn run(work: Arc<DiscoveryService>, id: Arc<str>, live: Arc<Live>, identity: Identity) {
    let end = live.end.clone();
    let task = DiscoveryTask {
        work,
        id,
        live,
        identity,
        backoff: Backoff::new(FIRST, LONGEST),
        pause: FIRST,
        changes: None,
        unsupported: None,
    };
    end.run_until_cancelled(task.run()).await.unwrap_or_default();
}

struct DiscoveryTask {
    work: Arc<DiscoveryService>,
    id: Arc<str>,
    live: Arc<Live>,
    identity: Identity,
    backoff: Backoff,
    pause: Duration,
    /// What is listened to, and in which revision.
    changes: Option<(Revision, mpsc::Receiver<ProviderChange>)>,
    /// The revision in which there is nothing to listen to.
    unsupported: Option<Revision>,
}

enum Wakeup {
    Due,
    Notified(Option<ProviderChange>),
    AttemptEnded,
    CallFailed,
}

impl DiscoveryTask {
    async fn run(mut self) {
        let cached = Arc::clone(&self.live.shared);
        let mut ended = cached.watch();
        loop {
            // Before looking where the lists stand, so that no attempt of others is missed.
            ended.borrow_and_update();
            let due = match cached.freshness() {
                Freshness::Unread => Instant::now(),
                Freshness::Fresh | Freshness::Stale => cached.due().unwrap_or_else(Instant::now),
                Freshness::Failed(_, ago) => Instant::now() + self.pause.saturating_sub(ago),
            };
            if due <= Instant::now() {
                if !self.attempt(ReadReason::Internal(Some(ListSet::ALL))).await {
                    return;
                }
                continue;
            }
            self.listen();
            let cause = tokio::select! {
                () = sleep_until(due) => Wakeup::Due,
                next = next_change(&mut self.changes) => Wakeup::Notified(next),
                _ = ended.changed() => Wakeup::AttemptEnded,
                () = self.live.wake.notified() => Wakeup::CallFailed,
            };
            if !self.handle(cause).await {
                return;
            }
        }
    }

    async fn handle(&mut self, cause: Wakeup) -> bool {
        match cause {
            Wakeup::Due | Wakeup::AttemptEnded => true,
            Wakeup::Notified(None) => {
                self.unsupported = self.changes.take().map(|(revision, _)| revision);
                true
            }
            Wakeup::Notified(Some(first)) => {
                let which = self.collect(first).await;
                if which.is_none() {
                    self.space_out().await;
                }
                let cause = which.map_or(ReadReason::Internal(None), ReadReason::Announced);
                self.attempt(cause).await
            }
            Wakeup::CallFailed => {
                self.space_out().await;
                self.attempt(ReadReason::Internal(None)).await
            }
        }
    }

    /// Makes an attempt; false when the provider is not ours any more.
    async fn attempt(&mut self, cause: ReadReason) -> bool {
        let Some(provider) = self.work.current(&self.id, &self.live) else {
            return false;
        };
        // Boxed: the attempt is large, and this task mostly sleeps.
        Box::pin(self.work.attempt_in_turn(&provider, &self.identity, cause)).await;
        if matches!(self.live.shared.freshness(), Freshness::Failed(..)) {
            let pause = self.backoff.pause();
            // One failure is answered at once by the same pause everywhere; after more, providers
            // must not all be asked at the same moment.
            self.pause = match self.backoff.failures() {
                1 => pause,
                _ => random::between(pause / 2, pause),
            };
        } else {
            self.backoff.reset();
            self.pause = FIRST;
        }
        true
    }

    /// Lists that changed within a moment; `None` when the stream was lost and nothing is sure.
    async fn collect(&mut self, first: ProviderChange) -> Option<ListSet> {
        sleep(COLLECT).await;
        let mut which = Some(ListSet::default());
        let mut next = Some(first);
        while let Some(change) = next {
            match (change, &mut which) {
                (ProviderChange::Lost, _) => which = None,
                (ProviderChange::Tools, Some(which)) => which.tools = true,
                (ProviderChange::Resources, Some(which)) => which.resources = true,
                (ProviderChange::Prompts, Some(which)) => which.prompts = true,
                (_, None) => {}
            }
            let changes = self.changes.as_mut();
            next = changes.and_then(|(_, changes)| changes.try_recv().ok());
        }
        which
    }

    async fn space_out(&self) {
        if let Some(age) = self.live.shared.age() {
            sleep(SPACING.saturating_sub(age)).await;
        }
    }

    /// Begins to listen, once per revision: it is the newest that is listened to.
    fn listen(&mut self) {
        let catalogue = self.live.shared.load();
        let Some(profile) = &catalogue.profile else {
            return;
        };
        let Some(now) = profile.revisions.newest() else {
            return;
        };
        let heard = self.changes.as_ref().map(|(revision, _)| *revision);
        if heard == Some(now) || self.unsupported == Some(now) {
            return;
        }
        let Some(provider) = self.work.current(&self.id, &self.live) else {
            return;
        };
        let changes = self
            .work
            .lister
            .listen(&provider.endpoint, &self.identity, profile);
        self.changes = Some((now, changes));
    }
}

async fn next_change(
    changes: &mut Option<(Revision, mpsc::Receiver<ProviderChange>)>,
) -> Option<ProviderChange> {
    match changes {
        Some((_, changes)) => changes.recv().await,
        None => std::future::pending().await,
    }
}

/// Where the gateway itself holds a credential; lists of others are read when a caller brings one.
pub(super) fn spawn(work: &Arc<DiscoveryService>, provider: &Provider) {
    let Some(identity) = work.identity(&provider.need) else {
        return;
    };
    let task = run(
        Arc::clone(work),
        Arc::clone(&provider.id),
        Arc::clone(&provider.live),
        identity,
    );
    work.control.spawn(task);
}
