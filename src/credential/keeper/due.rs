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

use super::Keeper;
use super::renew::spread;
use crate::credential::key::Key;
use crate::credential::refresh::Why;
use crate::credential::slot::Slot;

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
    plan: Mutex<Plan>,
    changed: Notify,
    most: usize,
}

#[derive(Debug, Default)]
struct Plan {
    times: HashMap<Key, u64>,
    order: BTreeSet<(u64, Key)>,
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
    pub(super) fn put(&self, key: &Key, at: u64) {
        let mut plan = self.plan.lock();
        if !plan.take(key) && plan.times.len() >= self.most {
            return;
        }
        plan.times.insert(key.clone(), at);
        plan.order.insert((at, key.clone()));
        self.changed.notify_one();
    }

    pub(super) fn remove(&self, key: &Key) {
        self.plan.lock().take(key);
    }

    /// Takes what is due at `now`, and says when the next is.
    fn due(&self, now: u64) -> (Vec<Key>, Option<u64>) {
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

impl Plan {
    fn take(&mut self, key: &Key) -> bool {
        let Some(at) = self.times.remove(key) else {
            return false;
        };
        self.order.remove(&(at, key.clone()))
    }
}

/// Starts both works of a keeper; they end with it.
pub(super) fn begin(keeper: &Arc<Keeper>) {
    let control = keeper.control().clone();
    control.spawn(renew(Arc::downgrade(keeper)));
    control.spawn(watch(Arc::downgrade(keeper)));
}

async fn renew(keeper: Weak<Keeper>) {
    while let Some(it) = keeper.upgrade().filter(|it| !it.is_closing()) {
        let now = it.grown();
        let (due, next) = it.schedule().due(now);
        for key in due {
            let keeper = Arc::clone(&it);
            it.control().spawn(async move { keeper.renew_alone(&key).await });
        }
        let pause = next.map_or(LONGEST, |at| Duration::from_millis(at.saturating_sub(now).max(1)));
        tokio::select! {
            () = sleep(pause.min(LONGEST)) => {}
            () = it.schedule().changed.notified() => {}
            () = it.closed() => return,
        }
    }
}

async fn watch(keeper: Weak<Keeper>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(it) = keeper.upgrade().filter(|it| !it.is_closing()) else {
            return;
        };
        it.look_again().await;
    }
}

impl Keeper {
    /// Plans the next renewal of an account in use.
    pub(super) fn plan(&self, slot: &Slot) {
        let Some(seen) = slot.seen() else {
            return self.schedule().remove(&slot.key);
        };
        let (record, now) = (&seen.record, self.grown());
        let used = slot.used.load(Relaxed);
        let idle = now.saturating_sub(used) > IN_USE;
        if record.ended.is_some() || record.tokens.refresh.is_none() || idle {
            return self.schedule().remove(&slot.key);
        }
        let lead = self.lead(&slot.key.owner.connection, &record.provider);
        let Some(due) = seen.lives().due(lead, jitter(&slot.key, record.seq)) else {
            return self.schedule().remove(&slot.key);
        };
        let left = due.saturating_sub(self.unix_ms());
        // Replicas a moment apart: the first renews it, the others find it done.
        let at = now.saturating_add(left).saturating_add(spread().min(left / 8));
        let after = slot.setback.lock().as_ref().map_or(0, |setback| setback.alone);
        self.schedule().put(&slot.key, at.max(after));
    }

    /// Renews an account for which nobody waits, some at a time.
    pub(in crate::credential) async fn renew_alone(&self, key: &Key) {
        let Ok(_turn) = self.background().acquire().await else {
            return;
        };
        let slot = self.cached(&key.owner).and_then(|entry| entry.slot(&key.account));
        let Some((slot, seen)) = slot.and_then(|slot| slot.seen().map(|seen| (slot, seen))) else {
            return;
        };
        let now = self.grown();
        if slot
            .setback
            .lock()
            .as_ref()
            .is_some_and(|setback| setback.alone > now)
        {
            return self.plan(&slot);
        }
        if let Some(connection) = self.connection_of(&key.owner.connection, &seen.record.provider) {
            self.pursue(&slot, &connection, Why::Due).await;
        }
    }

    /// Reads again what is known of owners in use.
    async fn look_again(&self) {
        let now = self.grown();
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
fn jitter(key: &Key, seq: u64) -> u64 {
    let digest = key.fingerprint(&seq.to_string());
    let (head, _) = digest.split_at(8);
    u64::from_le_bytes(head.try_into().unwrap_or_default()) % 1000
}
