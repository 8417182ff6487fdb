//! One account's lists of one provider, and the attempts to read them: one at a time.

use std::{sync::Arc, time::Duration};

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};

use super::{Catalogue, Tool, ToolRules, bounds::LeftOut, failure::ListFailure, lists::Cost, pins::Pins};
use pleiades_core::{error::Code, random};
use pleiades_upstream::Profile;

/// Lists are read again after this long; a `ttlMs` of their provider shortens it.
const TTL: Duration = Duration::from_secs(300);
/// The shortest that a provider may say: whoever asks more often than that gets what is known.
const TTL_LEAST: Duration = Duration::from_secs(5);
/// The least between two readings that nobody asks for.
const UNASKED_LEAST: Duration = Duration::from_secs(60);

/// One account's lists of one provider.
#[derive(Debug)]
pub struct CachedLists {
    catalogue: ArcSwap<Catalogue>,
    state: Mutex<ReadState>,
    /// Counts attempts that ended.
    ended: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct ReadState {
    running: bool,
    last: Option<LastAttempt>,
    /// Tools before the descriptor's rules, so that other rules need no new attempt.
    offered: Arc<[Arc<Tool>]>,
    left_out: LeftOut,
}

#[derive(Debug, Clone)]
struct LastAttempt {
    at: Instant,
    /// Old from then on.
    until: Instant,
    failure: Option<ListFailure>,
}

#[derive(Debug)]
pub(super) enum Freshness {
    /// No attempt has ended yet.
    Unread,
    Fresh,
    Stale,
    /// The last attempt failed so long ago.
    Failed(ListFailure, Duration),
}

#[derive(Debug)]
pub(super) struct Discovery {
    pub(super) catalogue: Catalogue,
    /// Tools before the descriptor's rules.
    pub(super) offered: Arc<[Arc<Tool>]>,
    pub(super) left_out: LeftOut,
    /// Why a list is incomplete.
    pub(super) failing: Option<(Code, String)>,
    /// Why it offers nothing, where its own declaration says so.
    pub(super) idle: Option<&'static str>,
}

impl Default for CachedLists {
    fn default() -> Self {
        Self::new(Catalogue::default())
    }
}

impl CachedLists {
    /// A cache of these lists; nothing has been read yet.
    #[must_use]
    pub fn new(catalogue: Catalogue) -> Self {
        Self {
            catalogue: ArcSwap::from_pointee(catalogue),
            state: Mutex::default(),
            ended: watch::Sender::new(0),
        }
    }

    /// The lists as they are.
    #[must_use]
    pub fn load(&self) -> Guard<Arc<Catalogue>> {
        self.catalogue.load()
    }

    /// The lists as they are, to keep.
    #[must_use]
    pub fn load_full(&self) -> Arc<Catalogue> {
        self.catalogue.load_full()
    }

    pub(super) fn with_rules(&self, rules: &ToolRules, pins: &Pins) -> Self {
        let state = self.state.lock();
        let mut catalogue = Catalogue::clone(&self.catalogue.load());
        catalogue.set_tools(pins.admitted(rules, &state.offered));
        let successor = Self::new(catalogue);
        *successor.state.lock() = ReadState {
            running: false,
            last: state.last.clone(),
            offered: Arc::clone(&state.offered),
            left_out: state.left_out.clone(),
        };
        successor
    }

    /// Shows the tools that callers may have by now; whether these are others.
    pub(super) fn readmit(&self, rules: &ToolRules, pins: &Pins) -> bool {
        // While the state is locked no attempt stores what it chose before.
        let state = self.state.lock();
        let current = self.catalogue.load();
        let tools = pins.admitted(rules, &state.offered);
        let is_same = tools.len() == current.tools.len()
            && tools
                .iter()
                .zip(&current.tools)
                .all(|(new, old)| Arc::ptr_eq(new, old));
        if is_same {
            return false;
        }
        let mut catalogue = Catalogue::clone(&current);
        catalogue.set_tools(tools);
        let is_of_store = |failure: &ListFailure| failure.code == Code::CredentialStore;
        catalogue.tools_failure = catalogue.tools_failure.filter(|failure| !is_of_store(failure));
        self.catalogue.store(Arc::new(catalogue));
        drop(state);
        true
    }

    pub(super) fn freshness(&self) -> Freshness {
        let state = self.state.lock();
        let now = Instant::now();
        match &state.last {
            None => Freshness::Unread,
            Some(LastAttempt {
                at,
                failure: Some(failure),
                ..
            }) => Freshness::Failed(failure.clone(), now - *at),
            Some(last) if now < last.until => Freshness::Fresh,
            Some(_) => Freshness::Stale,
        }
    }

    /// How long ago the last attempt ended.
    pub(super) fn age(&self) -> Option<Duration> {
        self.state.lock().last.as_ref().map(|last| last.at.elapsed())
    }

    /// When they are read again although nobody asks for them.
    pub(super) fn due(&self) -> Option<Instant> {
        let least = match self.catalogue.load().complete {
            true => UNASKED_LEAST,
            false => Duration::ZERO,
        };
        let state = self.state.lock();
        state.last.as_ref().map(|last| last.until.max(last.at + least))
    }

    /// Which tools are here and what they take, and what all else takes, in bytes.
    pub(super) fn cost(&self) -> (*const Arc<Tool>, Cost) {
        (self.state.lock().offered.as_ptr(), self.catalogue.load().cost)
    }

    pub(super) fn offered(&self) -> Arc<[Arc<Tool>]> {
        Arc::clone(&self.state.lock().offered)
    }

    /// Notes what the provider answered to the question that detection left open.
    pub(super) fn settle_older(&self) {
        // While the lists are locked no attempt stores what it knew before.
        let state = self.state.lock();
        let current = self.catalogue.load();
        if let Some(settled) = current.profile.as_ref().and_then(Profile::settled) {
            let mut catalogue = Catalogue::clone(&current);
            catalogue.profile = Some(settled);
            self.catalogue.store(Arc::new(catalogue));
        }
        drop(state);
    }

    /// Watches for the end of attempts; take it before looking where the lists stand.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.ended.subscribe()
    }

    /// The right to make an attempt; `None` while another runs.
    pub(super) fn claim(self: &Arc<Self>) -> Option<AttemptClaim> {
        let mut state = self.state.lock();
        if state.running {
            return None;
        }
        state.running = true;
        Some(AttemptClaim {
            cached: Arc::clone(self),
        })
    }

    pub(super) fn fail(&self, failure: ListFailure) {
        let now = Instant::now();
        self.state.lock().last = Some(LastAttempt {
            at: now,
            until: now,
            failure: Some(failure),
        });
    }
}

/// A running attempt; ends when dropped, whatever became of it.
#[derive(Debug)]
pub(super) struct AttemptClaim {
    cached: Arc<CachedLists>,
}

impl AttemptClaim {
    pub(super) fn cached(&self) -> &Arc<CachedLists> {
        &self.cached
    }

    /// Says whether the attempt before had failed, and what was left out for the first time.
    pub(super) fn succeed(&self, mut discovery: Discovery) -> (bool, Vec<String>) {
        let mut state = self.cached.state.lock();
        // It may have been learnt while the lists were read.
        if let Some(settled) = discovery.catalogue.profile.as_ref().and_then(Profile::settled) {
            discovery.catalogue.profile = Some(settled);
        }
        let failed = state.last.as_ref().is_some_and(|last| last.failure.is_some());
        let new = discovery.left_out.not_in(&state.left_out).cloned().collect();
        let now = Instant::now();
        let until = now + lifetime(&discovery.catalogue);
        discovery.catalogue.read_at = Some(now);
        state.last = Some(LastAttempt {
            at: now,
            until,
            failure: None,
        });
        state.offered = discovery.offered;
        state.left_out = discovery.left_out;
        self.cached.catalogue.store(Arc::new(discovery.catalogue));
        (failed, new)
    }

    pub(super) fn fail(&self, failure: ListFailure) {
        self.cached.fail(failure);
    }
}

impl Drop for AttemptClaim {
    fn drop(&mut self) {
        self.cached.state.lock().running = false;
        self.cached.ended.send_modify(|ended| *ended += 1);
    }
}

/// How long lists are valid. An incomplete one is tried again soon.
fn lifetime(catalogue: &Catalogue) -> Duration {
    if !catalogue.complete {
        return random::between(UNASKED_LEAST / 2, UNASKED_LEAST);
    }
    let own = random::between(TTL / 2, TTL);
    match catalogue.ttl_ms {
        None => own,
        Some(given) => Duration::from_millis(given).clamp(TTL_LEAST, own),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists(complete: bool, ttl_ms: Option<u64>) -> Catalogue {
        Catalogue {
            complete,
            ttl_ms,
            ..Catalogue::default()
        }
    }

    #[test]
    fn what_a_provider_says_shortens_how_long_lists_live_and_never_lengthens_it() {
        for (ttl_ms, least, most) in [
            (None, TTL / 2, TTL),
            (Some(0), TTL_LEAST, TTL_LEAST),
            (Some(20_000), Duration::from_secs(20), Duration::from_secs(20)),
            (Some(u64::MAX), TTL / 2, TTL),
        ] {
            let lives = lifetime(&lists(true, ttl_ms));
            assert!((least..=most).contains(&lives), "{ttl_ms:?} {lives:?}");
        }
        assert!(lifetime(&lists(false, Some(u64::MAX))) <= UNASKED_LEAST);
    }

    #[tokio::test(start_paused = true)]
    async fn lists_that_live_shortly_are_read_again_when_asked_for_and_otherwise_seldom() {
        let cached = Arc::new(CachedLists::default());
        let claim = cached.claim().unwrap();
        claim.succeed(Discovery {
            catalogue: lists(true, Some(10_000)),
            offered: Arc::default(),
            left_out: LeftOut::default(),
            failing: None,
            idle: None,
        });
        let read = Instant::now();
        assert_eq!(cached.due(), Some(read + UNASKED_LEAST));
        tokio::time::advance(Duration::from_secs(9)).await;
        assert!(matches!(cached.freshness(), Freshness::Fresh));
        assert_eq!(
            cached.load().ttl_left_ms(),
            1_000,
            "clients may keep them as long as we"
        );
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(matches!(cached.freshness(), Freshness::Stale));
        assert_eq!(cached.load().ttl_left_ms(), 0);
    }
}
