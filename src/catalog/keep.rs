//! The task of a provider: discovers it, listens to it, reads its lists again, never gives up.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};

use super::{
    Live, Provider,
    lists::Which,
    live::jittered,
    shelf::Standing,
    work::{self, Work},
};
use crate::mcp::Revision;
use crate::upstream::{Behalf, Change};

/// First pause after a failed attempt; doubles.
const FIRST: Duration = Duration::from_secs(1);
/// Longest pause.
const LONGEST: Duration = Duration::from_secs(60);
/// Changes within this time are answered by one reading.
const GATHER: Duration = Duration::from_millis(100);
/// The least between two attempts that were asked for by failing calls or lost streams.
const CALM: Duration = Duration::from_secs(1);

/// Runs until the provider is removed or replaced.
pub(super) async fn keep(work: Arc<Work>, id: Arc<str>, live: Arc<Live>, behalf: Behalf) {
    let end = live.end.clone();
    let keeper = Keeper {
        work,
        id,
        live,
        behalf,
        failures: 0,
        pause: FIRST,
        ears: None,
        deaf: None,
    };
    end.run_until_cancelled(keeper.run()).await.unwrap_or_default();
}

struct Keeper {
    work: Arc<Work>,
    id: Arc<str>,
    live: Arc<Live>,
    behalf: Behalf,
    failures: u32,
    pause: Duration,
    /// What is listened to, and in which revision.
    ears: Option<(Revision, mpsc::Receiver<Change>)>,
    /// The revision in which there is nothing to listen to.
    deaf: Option<Revision>,
}

/// Why to look again.
enum Cause {
    Time,
    Word(Option<Change>),
    Elsewhere,
    Failing,
}

impl Keeper {
    async fn run(mut self) {
        let shelf = Arc::clone(&self.live.shared);
        let mut ended = shelf.watch();
        loop {
            // Before looking where the lists stand, so that no attempt of others is missed.
            ended.borrow_and_update();
            let due = match shelf.standing() {
                Standing::Never => Instant::now(),
                Standing::Fresh | Standing::Old => shelf.until().unwrap_or_else(Instant::now),
                Standing::Failed(_, ago) => Instant::now() + self.pause.saturating_sub(ago),
            };
            if due <= Instant::now() {
                if !self.attempt(work::Cause::Ours(Some(Which::ALL))).await {
                    return;
                }
                continue;
            }
            self.listen();
            let cause = tokio::select! {
                () = sleep_until(due) => Cause::Time,
                word = hear(&mut self.ears) => Cause::Word(word),
                _ = ended.changed() => Cause::Elsewhere,
                () = self.live.wake.notified() => Cause::Failing,
            };
            if !self.answer(cause).await {
                return;
            }
        }
    }

    async fn answer(&mut self, cause: Cause) -> bool {
        match cause {
            Cause::Time | Cause::Elsewhere => true,
            Cause::Word(None) => {
                self.deaf = self.ears.take().map(|(revision, _)| revision);
                true
            }
            Cause::Word(Some(first)) => {
                let which = self.gather(first).await;
                if which.is_none() {
                    self.calm().await;
                }
                let cause = which.map_or(work::Cause::Ours(None), work::Cause::Announced);
                self.attempt(cause).await
            }
            Cause::Failing => {
                self.calm().await;
                self.attempt(work::Cause::Ours(None)).await
            }
        }
    }

    /// Makes an attempt; false when the provider is not ours any more.
    async fn attempt(&mut self, cause: work::Cause) -> bool {
        let Some(provider) = self.work.current(&self.id, &self.live) else {
            return false;
        };
        // Boxed: the attempt is large, and this task mostly sleeps.
        Box::pin(self.work.attempt_in_turn(&provider, &self.behalf, cause)).await;
        if matches!(self.live.shared.standing(), Standing::Failed(..)) {
            let whole = FIRST.saturating_mul(1 << self.failures.min(6)).min(LONGEST);
            self.pause = if self.failures == 0 {
                FIRST
            } else {
                jittered(whole)
            };
            self.failures += 1;
        } else {
            self.failures = 0;
            self.pause = FIRST;
        }
        true
    }

    /// Lists that changed within a moment; `None` when the stream was lost and nothing is sure.
    async fn gather(&mut self, first: Change) -> Option<Which> {
        sleep(GATHER).await;
        let mut which = Some(Which::default());
        let mut word = Some(first);
        while let Some(change) = word {
            match (change, &mut which) {
                (Change::Lost, _) => which = None,
                (Change::Tools, Some(which)) => which.tools = true,
                (Change::Resources, Some(which)) => which.resources = true,
                (Change::Prompts, Some(which)) => which.prompts = true,
                (_, None) => {}
            }
            word = self.ears.as_mut().and_then(|(_, ears)| ears.try_recv().ok());
        }
        which
    }

    /// Waits until the last attempt lies back a while.
    async fn calm(&self) {
        if let Some(age) = self.live.shared.age() {
            sleep(CALM.saturating_sub(age)).await;
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
        if self.ears.as_ref().is_some_and(|(revision, _)| *revision == now) || self.deaf == Some(now) {
            return;
        }
        let Some(provider) = self.work.current(&self.id, &self.live) else {
            return;
        };
        let ears = self.work.lister.listen(&provider.endpoint, &self.behalf, profile);
        self.ears = Some((now, ears));
    }
}

async fn hear(ears: &mut Option<(Revision, mpsc::Receiver<Change>)>) -> Option<Change> {
    match ears {
        Some((_, ears)) => ears.recv().await,
        None => std::future::pending().await,
    }
}

/// Starts the task of a provider that the gateway itself holds a credential for; lists of others
/// are read when a caller brings one.
pub(super) fn begin(work: &Arc<Work>, provider: &Provider) {
    let Some(behalf) = work.behalf(&provider.need) else {
        return;
    };
    let task = keep(
        Arc::clone(work),
        Arc::clone(&provider.id),
        Arc::clone(&provider.live),
        behalf,
    );
    work.control.spawn(task);
}
