//! When accounts in use are renewed, derived from their records.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::Mutex;
use pleiades_core::random;
use tokio::sync::Notify;

use crate::{clock::TokenClock, key::AccountKey, slot::AccountSlot};

/// An account that signed nothing for so long is left to the sweeper, in milliseconds.
const IN_USE: u64 = 7 * 24 * 3_600 * 1_000;
/// Accounts by when they are due, in milliseconds of the monotonic clock. Bounded: what does not fit is
/// left to the sweeper.
#[derive(Debug)]
pub(super) struct Schedule {
    times: Mutex<DueTimes>,
    pub(super) changed: Notify,
    most: usize,
}

#[derive(Debug, Default)]
struct DueTimes {
    of_key: HashMap<AccountKey, u64>,
    order: BTreeSet<(u64, AccountKey)>,
}

impl Schedule {
    pub(super) fn new(most: usize) -> Self {
        Self {
            times: Mutex::default(),
            changed: Notify::new(),
            most,
        }
    }

    fn put(&self, key: &AccountKey, at: u64) {
        let mut times = self.times.lock();
        if !times.take(key) && times.of_key.len() >= self.most {
            return;
        }
        times.of_key.insert(key.clone(), at);
        times.order.insert((at, key.clone()));
        self.changed.notify_one();
    }

    pub(super) fn remove(&self, key: &AccountKey) {
        self.times.lock().take(key);
    }

    /// Plans the next renewal of an account in use; `lead` is that of a provider, in seconds.
    pub(super) fn plan(&self, slot: &AccountSlot, lead: impl FnOnce(&str) -> u64, clock: &TokenClock) {
        let Some(seen) = slot.seen() else {
            return self.remove(&slot.key);
        };
        let (record, now) = (&seen.record, clock.monotonic_ms());
        let used = slot.used.load(Relaxed);
        let idle = now.saturating_sub(used) > IN_USE;
        if record.ended.is_some() || record.tokens.refresh.is_none() || idle {
            return self.remove(&slot.key);
        }
        let lead = lead(&record.provider);
        let Some(due) = seen.lifetime().due(lead, jitter(&slot.key, record.seq)) else {
            return self.remove(&slot.key);
        };
        let left = due.saturating_sub(clock.unix_ms());
        // Replicas a moment apart: the first renews it, the others find it done.
        let apart = u64::from(random::below(1_000)).min(left / 8);
        let at = now.saturating_add(left).saturating_add(apart);
        self.put(&slot.key, at.max(slot.resumes_at()));
    }

    /// Takes what is due at `now`; and when the next is.
    pub(super) fn due(&self, now: u64) -> (Vec<AccountKey>, Option<u64>) {
        let mut times = self.times.lock();
        let mut due = Vec::new();
        while let Some((at, key)) = times.order.first().cloned() {
            if at > now {
                return (due, Some(at));
            }
            times.take(&key);
            due.push(key);
        }
        (due, None)
    }
}

impl DueTimes {
    fn take(&mut self, key: &AccountKey) -> bool {
        let Some(at) = self.of_key.remove(key) else {
            return false;
        };
        self.order.remove(&(at, key.clone()))
    }
}

/// Of 1000: the same for one token set at every replica, so that the one that is first is first for
/// all, and different for those that expire together.
fn jitter(key: &AccountKey, seq: u64) -> u64 {
    let digest = key.fingerprint(&seq.to_string());
    let (head, _) = digest.split_at(8);
    u64::from_le_bytes(head.try_into().unwrap_or_default()) % 1000
}
