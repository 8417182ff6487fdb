//! When accounts in use are renewed, derived from what is stored; and what is known of them looked
//! at again, so that what happens elsewhere is seen.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::CredentialManager;
use super::refresh_task::spread;
use crate::key::AccountKey;
use crate::refresh::RefreshTrigger;
use crate::slot::AccountSlot;

/// An account that signed nothing for so long is the sweeper's, in milliseconds.
const IN_USE: u64 = 7 * 24 * 3_600 * 1_000;
/// An owner that asked for nothing for so long is looked at again with its next call, in
/// milliseconds.
const WATCHED: u64 = 120_000;
/// What is known of owners in use is read again when it is that old, in milliseconds.
const STALE: u64 = 20_000;
/// How often is looked who is to be read again.
const TICK: Duration = Duration::from_secs(2);
/// Owners that are read again at a time.
const AT_ONCE: usize = 16;
/// The longest sleep of the schedule.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Accounts by when they are due, in milliseconds of the growing clock. Bounded: what does not fit is
/// the sweeper's.
#[derive(Debug)]
pub(super) struct Schedule {
    plan: Mutex<DueTimes>,
    changed: Notify,
    most: usize,
}

#[derive(Debug, Default)]
struct DueTimes {
    times: HashMap<AccountKey, u64>,
    order: BTreeSet<(u64, AccountKey)>,
}

impl Schedule {
    pub(super) fn new(most: usize) -> Self {
        Self {
            plan: Mutex::default(),
            changed: Notify::new(),
            most,
        }
    }

    /// Plans an account for `at`, in the place of what was planned for it.
    pub(super) fn put(&self, key: &AccountKey, at: u64) {
        let mut plan = self.plan.lock();
        if !plan.take(key) && plan.times.len() >= self.most {
            return;
        }
        plan.times.insert(key.clone(), at);
        plan.order.insert((at, key.clone()));
        self.changed.notify_one();
    }

    pub(super) fn remove(&self, key: &AccountKey) {
        self.plan.lock().take(key);
    }

    /// Takes what is due at `now`, and says when the next is.
    fn due(&self, now: u64) -> (Vec<AccountKey>, Option<u64>) {
        let mut plan = self.plan.lock();
        let mut due = Vec::new();
        while let Some((at, key)) = plan.order.first().cloned() {
            if at > now {
                return (due, Some(at));
            }
            plan.take(&key);
            due.push(key);
        }
        (due, None)
    }
}

impl DueTimes {
    fn take(&mut self, key: &AccountKey) -> bool {
        let Some(at) = self.times.remove(key) else {
            return false;
        };
        self.order.remove(&(at, key.clone()))
    }
}

/// Starts both works of a keeper; they end with it.
pub(super) fn begin(manager: &Arc<CredentialManager>) {
    let control = manager.control().clone();
    control.spawn(renew(Arc::downgrade(manager)));
    control.spawn(watch(Arc::downgrade(manager)));
}

async fn renew(manager: Weak<CredentialManager>) {
    while let Some(it) = manager.upgrade().filter(|it| !it.is_closing()) {
        let now = it.monotonic_ms();
        let (due, next) = it.schedule().due(now);
        for key in due {
            let manager = Arc::clone(&it);
            it.control()
                .spawn(async move { manager.renew_in_background(&key).await });
        }
        let pause = next.map_or(LONGEST, |at| Duration::from_millis(at.saturating_sub(now).max(1)));
        tokio::select! {
            () = sleep(pause.min(LONGEST)) => {}
            () = it.schedule().changed.notified() => {}
            () = it.closed() => return,
        }
    }
}

async fn watch(manager: Weak<CredentialManager>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(it) = manager.upgrade().filter(|it| !it.is_closing()) else {
            return;
        };
        it.reread_stale().await;
    }
}

impl CredentialManager {
    /// Plans the next renewal of an account in use.
    pub(super) fn plan_renewal(&self, slot: &AccountSlot) {
        let Some(seen) = slot.seen() else {
            return self.schedule().remove(&slot.key);
        };
        let (record, now) = (&seen.record, self.monotonic_ms());
        let used = slot.used.load(Relaxed);
        let idle = now.saturating_sub(used) > IN_USE;
        if record.ended.is_some() || record.tokens.refresh.is_none() || idle {
            return self.schedule().remove(&slot.key);
        }
        let lead = self.lead(&slot.key.owner.connection, &record.provider);
        let Some(due) = seen.lifetime().due(lead, jitter(&slot.key, record.seq)) else {
            return self.schedule().remove(&slot.key);
        };
        let left = due.saturating_sub(self.unix_ms());
        // Replicas a moment apart: the first renews it, the others find it done.
        let at = now.saturating_add(left).saturating_add(spread().min(left / 8));
        let after = slot
            .backoff
            .lock()
            .as_ref()
            .map_or(0, |backoff| backoff.in_background);
        self.schedule().put(&slot.key, at.max(after));
    }

    /// Renews an account for which nobody waits, some at a time.
    pub(crate) async fn renew_in_background(&self, key: &AccountKey) {
        let Ok(_turn) = self.background().acquire().await else {
            return;
        };
        let slot = self
            .cached_owner(&key.owner)
            .and_then(|entry| entry.slot(&key.account));
        let Some((slot, seen)) = slot.and_then(|slot| slot.seen().map(|seen| (slot, seen))) else {
            return;
        };
        let now = self.monotonic_ms();
        if slot
            .backoff
            .lock()
            .as_ref()
            .is_some_and(|backoff| backoff.in_background > now)
        {
            return self.plan_renewal(&slot);
        }
        if let Some(connection) = self.connection_of(&key.owner.connection, &seen.record.provider) {
            self.refresh_or_join(&slot, &connection, RefreshTrigger::Due)
                .await;
        }
    }

    /// Reads again what is known of owners in use.
    async fn reread_stale(&self) {
        let now = self.monotonic_ms();
        let mut stale = self.entries();
        stale.retain(|entry| {
            let used = now.saturating_sub(entry.used()) < WATCHED;
            used && !entry.is_quiet(now) && entry.age(now).is_some_and(|age| age >= STALE)
        });
        for some in stale.chunks(AT_ONCE) {
            let read = some.iter().map(|entry| self.reread(entry, entry.readings()));
            // A fault is remembered where it belongs; what is known serves on.
            drop(join_all(read).await);
        }
    }
}

/// Of 1000: the same for one token set at every replica, so that the one that is first is first for
/// all, and different for those that expire together.
fn jitter(key: &AccountKey, seq: u64) -> u64 {
    let digest = key.fingerprint(&seq.to_string());
    let (head, _) = digest.split_at(8);
    u64::from_le_bytes(head.try_into().unwrap_or_default()) % 1000
}
