//! One rate rule: governor's arithmetic over a bounded store that can be asked without taking.

use std::collections::{HashMap, hash_map::RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::{hash::BuildHasher, time::Duration};

use governor::state::{StateStore, keyed::ShrinkableKeyedStateStore};
use governor::{Quota, RateLimiter, middleware::NoOpMiddleware, nanos::Nanos};
use parking_lot::Mutex;

use super::{CallKeys, Per, Rate, Rule, clock::MonotonicClock};

/// Locks per rule: enough that callers with different keys rarely meet.
const SHARDS: usize = 16;
/// Requests between two looks for dead keys, at least.
const SWEEP_FROM: usize = 1024;
/// Keys of a rule that have buckets of their own. Beyond, callers share [`COARSE`] buckets until some die,
/// so that memory is bounded and limits still hold.
const EXACT: usize = 1 << 17;
/// Buckets shared by all keys when there are more than [`EXACT`]; a power of two.
const COARSE: u64 = 1 << 14;
/// Longest supply a bucket can hold, in nanoseconds (146 years): keeps the arithmetic in 64 bits.
const LONGEST: u128 = 1 << 62;

/// A bucket, and whether a request is taken from it or only asked about.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct BucketCheck {
    key: u64,
    take: bool,
}

pub(super) struct Limiter {
    per: Per,
    hasher: RandomState,
    limiter: RateLimiter<BucketCheck, BucketStore, MonotonicClock, NoOpMiddleware<Duration>>,
    keys: Arc<BucketCounts>,
    clock: MonotonicClock,
}

impl Limiter {
    pub(super) fn new(rate: &Rate, clock: &MonotonicClock) -> Self {
        let keys = Arc::new(BucketCounts::default());
        let store = BucketStore {
            shards: Default::default(),
            keys: Arc::clone(&keys),
        };
        Self {
            per: rate.per,
            hasher: RandomState::new(),
            limiter: RateLimiter::new(quota(rate), store, clock.clone()),
            keys,
            clock: clock.clone(),
        }
    }

    pub(super) fn rule(&self) -> Rule {
        match self.per {
            Per::Caller => Rule::RateCaller,
            Per::Tenant => Rule::RateTenant,
            Per::Account => Rule::RateAccount,
            Per::Provider => Rule::RateProvider,
            Per::Tool => Rule::RateTool,
        }
    }

    /// The bucket of a call; `None` when the rule does not concern it.
    pub(super) fn key(&self, who: CallKeys<'_>) -> Option<u64> {
        let key = match self.per {
            Per::Caller => self.hasher.hash_one(who.caller),
            Per::Tenant => self.hasher.hash_one(who.tenant),
            Per::Account => who.account.map_or(0, |account| self.hasher.hash_one(account)),
            Per::Provider => 0,
            // Neither a list nor a resource is of a tool; the relay, which does not know the tool, is
            // closed by such a rule (`RateScope::is_known_to_relay`).
            Per::Tool => match who.tool {
                Some(tool) => self.hasher.hash_one(tool),
                None => return None,
            },
        };
        let crowded = self.keys.live.load(Relaxed) >= EXACT;
        Some(if crowded { key % COARSE } else { key })
    }

    /// How long until the bucket has a request to give; `None` when it has one now.
    pub(super) fn wait(&self, key: u64) -> Option<Duration> {
        self.check(BucketCheck { key, take: false })
    }

    /// Takes a request from the bucket, or says how long until there is one.
    pub(super) fn take(&self, key: u64) -> Option<Duration> {
        if self.keys.taken.fetch_add(1, Relaxed) >= self.keys.kept.load(Relaxed).max(SWEEP_FROM) {
            self.sweep();
        }
        self.check(BucketCheck { key, take: true })
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.limiter.len()
    }

    fn check(&self, ask: BucketCheck) -> Option<Duration> {
        let refused = self.limiter.check_key(&ask).err()?;
        // Zero would say "now" to whoever was just refused.
        Some(
            refused
                .wait_time_from(self.clock.now())
                .max(Duration::from_nanos(1)),
        )
    }

    /// Forgets buckets that are full again. Due after as many requests as the last sweep left
    /// keys, so that the cost per request stays constant and dead keys at most double the store.
    fn sweep(&self) {
        self.keys.taken.store(0, Relaxed);
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
        self.keys.kept.store(self.keys.live.load(Relaxed), Relaxed);
    }
}

impl std::fmt::Debug for Limiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limiter")
            .field("per", &self.per)
            .finish_non_exhaustive()
    }
}

/// One request each `every / requests`, rounded down to a nanosecond.
fn quota(rate: &Rate) -> Quota {
    let each = (rate.every.as_nanos() / u128::from(rate.requests.get())).max(1);
    let most = u32::try_from(LONGEST / each).unwrap_or(u32::MAX).max(1);
    let burst = rate
        .burst
        .min(std::num::NonZeroU32::new(most).unwrap_or(rate.burst));
    let each = Duration::from_nanos(u64::try_from(each).unwrap_or(u64::MAX));
    Quota::with_period(each)
        .unwrap_or(Quota::per_second(burst))
        .allow_burst(burst)
}

#[derive(Debug, Default)]
struct BucketCounts {
    live: AtomicUsize,
    /// What the last sweep left.
    kept: AtomicUsize,
    /// Requests taken since the last sweep.
    taken: AtomicUsize,
}

/// Theoretical arrival times by key. Not one of governor's own stores, because those cannot be
/// asked without taking, and several rules must agree before any of them is charged.
#[derive(Debug)]
struct BucketStore {
    shards: [Mutex<HashMap<u64, Nanos>>; SHARDS],
    keys: Arc<BucketCounts>,
}

impl BucketStore {
    fn shard(&self, key: u64) -> &Mutex<HashMap<u64, Nanos>> {
        let [first, ..] = &self.shards;
        let at = usize::try_from(key % SHARDS as u64).unwrap_or(0);
        self.shards.get(at).unwrap_or(first)
    }
}

impl StateStore for BucketStore {
    type Key = BucketCheck;

    fn measure_and_replace<T, F, E>(&self, ask: &BucketCheck, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut shard = self.shard(ask.key).lock();
        let (verdict, next) = decide(shard.get(&ask.key).copied())?;
        if ask.take && shard.insert(ask.key, next).is_none() {
            self.keys.live.fetch_add(1, Relaxed);
        }
        Ok(verdict)
    }
}

impl ShrinkableKeyedStateStore<BucketCheck> for BucketStore {
    fn retain_recent(&self, drop_below: Nanos) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            let before = shard.len();
            shard.retain(|_, next| *next > drop_below);
            self.keys.live.fetch_sub(before - shard.len(), Relaxed);
        }
    }

    fn shrink_to_fit(&self) {
        for shard in &self.shards {
            shard.lock().shrink_to_fit();
        }
    }

    fn len(&self) -> usize {
        self.keys.live.load(Relaxed)
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
