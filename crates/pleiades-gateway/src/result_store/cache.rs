//! Answers of reads, given again for a while.
//!
//! An answer is stamped with what the writes of its account were up to before it was asked for, and given
//! only while that is still so. So no answer of before a write is given after it, however the two overlap: a
//! write counts when it begins, when it ends, and when it is given up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::Instant;

use super::canonical::canonical;
use super::owner::{AccountScope, ResultOwner, digest, hex};
use super::quota::{Quota, QuotaMap};
use super::record::{RecordTimes, StoredResult};
use super::{beside, shared::SharedResults};
use crate::shared_state::{EntryAddress, EntryStamp, MAX_ENTRY, Retention};
use pleiades_core::{telemetry::Metrics, time::unix_now};

/// What a tenant's answers may take, and those of all tenants, in bytes.
const QUOTA: Quota = Quota {
    tenant: 16 << 20,
    all: 64 << 20,
};
/// Counters of writes. Accounts that share one empty each other's entries, which costs a call.
const COUNTERS: usize = 4_096;
const PURPOSE: &str = "shared_state/cache";

/// What became of a call that the cache may answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CacheOutcome {
    /// Its answer was there.
    Hit,
    /// It was not.
    Miss,
    /// The caller asked for a fresh one.
    Bypassed,
    /// The Redis of the shared state is away, so that writes at other replicas are unknown.
    Away,
    /// The answer was kept.
    Stored,
    /// The answer was not kept: a failure, too large, or there was a write meanwhile.
    NotStored,
    /// A write emptied the entries of its account.
    Emptied,
}

impl CacheOutcome {
    /// Its word in the metrics.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Bypassed => "bypassed",
            Self::Away => "away",
            Self::Stored => "stored",
            Self::NotStored => "not_stored",
            Self::Emptied => "emptied",
        }
    }
}

/// Names an answer: whose it is, at which provider under which descriptor, of which operation with which
/// arguments.
#[derive(Debug, Clone)]
pub(crate) struct CacheKey {
    owner: ResultOwner,
    digest: [u8; 32],
}

impl CacheKey {
    /// `generation`: digest of what the descriptor says. `None` for arguments that have no one form.
    pub(crate) fn new(
        owner: ResultOwner,
        generation: &[u8; 32],
        tool: &str,
        arguments: &RawValue,
    ) -> Option<Self> {
        let arguments = canonical(arguments)?;
        let binding = owner.binding();
        let parts = [
            binding.as_bytes(),
            generation,
            tool.as_bytes(),
            arguments.as_bytes(),
        ];
        Some(Self {
            digest: digest(&parts),
            owner,
        })
    }
}

/// The right to store an answer: its key, and what the writes of its account were up to before it was asked
/// for.
#[derive(Debug)]
pub(crate) struct CacheTicket {
    key: CacheKey,
    stamp: CacheStamp,
}

/// What the writes of an account are up to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct CacheStamp {
    here: u64,
    /// Over all replicas, where they share state.
    everywhere: Option<EntryStamp>,
}

/// What a look into the cache brought.
#[derive(Debug)]
pub(crate) enum CacheLookup {
    /// The answer, and how old it is.
    Hit(Arc<StoredResult>, Duration),
    /// None; with a ticket what is answered may be kept.
    Miss(Option<CacheTicket>),
}

#[derive(Debug, Clone)]
struct CachedAnswer {
    result: Arc<StoredResult>,
    stamp: CacheStamp,
    at: Instant,
}

/// The answers that may be given again.
#[derive(Debug)]
pub(crate) struct AnswerCache {
    local: QuotaMap<CachedAnswer>,
    writes: Box<[AtomicU64]>,
    shared: Arc<dyn SharedResults>,
    metrics: Arc<Metrics>,
}

impl AnswerCache {
    pub(super) fn new(shared: Arc<dyn SharedResults>, metrics: Arc<Metrics>) -> Self {
        Self {
            local: QuotaMap::new(QUOTA),
            writes: (0..COUNTERS).map(|_| AtomicU64::new(0)).collect(),
            shared,
            metrics,
        }
    }

    /// Looks for an answer; `fresh`: whatever is there, a new one is wanted in its place.
    pub(crate) async fn look_up(&self, key: CacheKey, fresh: bool) -> CacheLookup {
        // Before anything is asked for: what is written from here on makes the answer an old one.
        let here = self.counter(&key.owner.scope).load(Ordering::SeqCst);
        let local = self
            .local
            .get(&key.digest)
            .filter(|_| !fresh)
            .map(|(answer, _)| answer);
        let (everywhere, remote) = match self.elsewhere(&key, local.is_none() && !fresh).await {
            Ok(found) => found,
            Err(outcome) => {
                self.count(&key.owner.scope, outcome);
                return CacheLookup::Miss(None);
            }
        };
        let stamp = CacheStamp { here, everywhere };
        let found = local.or(remote.map(|(result, at)| CachedAnswer {
            result,
            at,
            stamp: stamp.clone(),
        }));
        if let Some(found) = found.filter(|found| found.stamp == stamp) {
            self.count(&key.owner.scope, CacheOutcome::Hit);
            return CacheLookup::Hit(found.result, found.at.elapsed());
        }
        let outcome = if fresh {
            CacheOutcome::Bypassed
        } else {
            CacheOutcome::Miss
        };
        self.count(&key.owner.scope, outcome);
        CacheLookup::Miss(Some(CacheTicket { key, stamp }))
    }

    /// Keeps the answer to what a ticket was given for, unless there was a write meanwhile.
    pub(crate) async fn store(&self, ticket: CacheTicket, ttl: Duration, stored: Arc<StoredResult>) {
        let CacheTicket { key, stamp } = ticket;
        let bytes = stored.bytes();
        let is_current = self.counter(&key.owner.scope).load(Ordering::SeqCst) == stamp.here;
        if !is_current || !StoredResult::may_be_cached(&stored.result) {
            return self.count(&key.owner.scope, CacheOutcome::NotStored);
        }
        let answer = CachedAnswer {
            result: Arc::clone(&stored),
            stamp: stamp.clone(),
            at: Instant::now(),
        };
        let place = (key.owner.tenant(), Instant::now() + ttl);
        self.local.insert(key.digest, place, (answer, bytes));
        self.count(&key.owner.scope, CacheOutcome::Stored);
        if let Some(everywhere) = stamp.everywhere
            && bytes <= MAX_ENTRY
        {
            let at = unix_now();
            let until = at.saturating_add(ttl.as_secs());
            let times = RecordTimes { at, until };
            let written = beside(bytes, move || stored.to_bytes(times, everywhere.as_bytes()));
            let Some(record) = written.await else { return };
            let retention = Retention {
                tenant: key.owner.tenant(),
                share: QUOTA.tenant,
                ttl,
            };
            let (owner, id) = (key.owner.binding(), hex(&key.digest));
            self.shared
                .put(address(&owner, &id), retention, record.into())
                .await;
        }
    }

    /// An answer that is not to be kept.
    pub(crate) fn discard(&self, ticket: CacheTicket) {
        self.count(&ticket.key.owner.scope, CacheOutcome::NotStored);
    }

    /// Begins a write: the entries of its account are empty from here on, and again when the guard ends.
    pub(crate) async fn begin_write(self: &Arc<Self>, scope: AccountScope) -> WriteGuard {
        let guard = WriteGuard {
            cache: Arc::clone(self),
            scope: Some(scope),
        };
        guard.advance().await;
        guard
    }

    /// Frees what has expired.
    pub(super) fn sweep(&self) {
        self.local.sweep();
    }

    /// What other replicas have: their stamp, and the answer where it is wanted. The error: why nothing can be
    /// said.
    async fn elsewhere(
        &self,
        key: &CacheKey,
        wanted: bool,
    ) -> Result<(Option<EntryStamp>, Option<(Arc<StoredResult>, Instant)>), CacheOutcome> {
        if !self.shared.is_configured() {
            return Ok((None, None));
        }
        let (owner, id) = (key.owner.binding(), hex(&key.digest));
        let wanted = wanted.then(|| address(&owner, &id));
        let read = self.shared.stamped_entry(&key.owner.scope.word(), wanted).await;
        let (stamp, bytes) = read.map_err(|_away| CacheOutcome::Away)?;
        let found = match bytes {
            Some(bytes) => beside(bytes.len(), move || StoredResult::from_bytes(&bytes)).await,
            None => None,
        };
        let now = unix_now();
        let found = found
            .flatten()
            .filter(|(_, times, of)| *of == stamp.as_bytes() && times.until > now);
        let found = found.map(|(result, times, _)| {
            let age = Duration::from_secs(now.saturating_sub(times.at));
            let at = Instant::now();
            (Arc::new(result), at.checked_sub(age).unwrap_or(at))
        });
        Ok((Some(stamp), found))
    }

    fn counter(&self, scope: &AccountScope) -> &AtomicU64 {
        static NONE: AtomicU64 = AtomicU64::new(0);
        let [high, low, ..] = digest(&[scope.word().as_bytes()]);
        let at = usize::from(u16::from_be_bytes([high, low])) % COUNTERS;
        self.writes.get(at).unwrap_or(&NONE)
    }

    fn count(&self, scope: &AccountScope, outcome: CacheOutcome) {
        self.metrics.cached(&scope.provider, outcome.as_str());
    }
}

/// A write under way. When it ends, however that is, what was read before is no answer any more.
#[derive(Debug)]
#[must_use = "the write is over when this is dropped"]
pub(crate) struct WriteGuard {
    cache: Arc<AnswerCache>,
    /// `None` once it has ended.
    scope: Option<AccountScope>,
}

impl WriteGuard {
    /// The write is over; other replicas know when this returns, or will when Redis is back.
    pub(crate) async fn end(mut self) {
        self.advance().await;
        if let Some(scope) = self.scope.take() {
            self.cache.count(&scope, CacheOutcome::Emptied);
        }
    }

    async fn advance(&self) {
        let Some(scope) = &self.scope else { return };
        self.cache.counter(scope).fetch_add(1, Ordering::SeqCst);
        if self.cache.shared.is_configured() {
            self.cache.shared.advance(&scope.word()).await;
        }
    }
}

impl Drop for WriteGuard {
    fn drop(&mut self) {
        let Some(scope) = self.scope.take() else { return };
        self.cache.counter(&scope).fetch_add(1, Ordering::SeqCst);
        self.cache.count(&scope, CacheOutcome::Emptied);
        let shared = Arc::clone(&self.cache.shared);
        // Its caller is gone, so that nobody waits for others to know.
        if shared.is_configured()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move { shared.advance(&scope.word()).await });
        }
    }
}

fn address<'a>(owner: &'a str, id: &'a str) -> EntryAddress<'a> {
    EntryAddress {
        purpose: PURPOSE,
        owner,
        id,
    }
}
