//! Work beside requests: accounts in use are renewed ahead of their end, and read again now and then,
//! so that what happens elsewhere is seen.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::CredentialManager;
use crate::{key::AccountKey, refresh::RefreshTrigger};

/// An owner that asked for nothing for so long is read again with its next call, in milliseconds.
const WATCHED: u64 = 120_000;
/// Accounts of owners in use are read again when they are that old in memory, in milliseconds.
const STALE: u64 = 20_000;
/// How often stale owners are looked for.
const TICK: Duration = Duration::from_secs(2);
/// Owners that are read again at a time.
const AT_ONCE: usize = 16;
/// The longest sleep between two renewals.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Starts both tasks of a manager; they end with it.
pub(super) fn begin(manager: &Arc<CredentialManager>) {
    manager.parts.control.spawn(renew_due(Arc::downgrade(manager)));
    manager.parts.control.spawn(reread_stale(Arc::downgrade(manager)));
}

async fn renew_due(manager: Weak<CredentialManager>) {
    while let Some(it) = manager.upgrade().filter(|it| !it.closing.is_cancelled()) {
        let now = it.clock.monotonic_ms();
        let (due, next) = it.schedule.due(now);
        for key in due {
            spawn_renewal(&it, key);
        }
        let pause = next.map_or(LONGEST, |at| Duration::from_millis(at.saturating_sub(now).max(1)));
        tokio::select! {
            () = sleep(pause.min(LONGEST)) => {}
            () = it.schedule.changed.notified() => {}
            () = it.closing.cancelled() => return,
        }
    }
}

/// Renews an account for which nobody waits, in a task of its own.
pub(super) fn spawn_renewal(manager: &Arc<CredentialManager>, key: AccountKey) {
    let it = Arc::clone(manager);
    manager.parts.control.spawn(async move { renew(&it, &key).await });
}

async fn renew(manager: &CredentialManager, key: &AccountKey) {
    let Ok(_turn) = manager.background.acquire().await else {
        return;
    };
    let entry = manager.cache.get(&key.owner);
    let slot = entry.and_then(|entry| entry.slot(&key.account));
    let Some((slot, seen)) = slot.and_then(|slot| slot.seen().map(|seen| (slot, seen))) else {
        return;
    };
    if slot.resumes_at() > manager.clock.monotonic_ms() {
        return manager.plan_renewal(&slot);
    }
    if let Some(connection) = manager.connection_of(&key.owner.connection, &seen.record.provider) {
        manager
            .refresh_or_join(&slot, &connection, RefreshTrigger::Due)
            .await;
    }
}

async fn reread_stale(manager: Weak<CredentialManager>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(it) = manager.upgrade().filter(|it| !it.closing.is_cancelled()) else {
            return;
        };
        let now = it.clock.monotonic_ms();
        let mut stale = it.cache.all();
        stale.retain(|entry| {
            let used = now.saturating_sub(entry.used()) < WATCHED;
            used && !entry.is_quiet(now) && entry.age(now).is_some_and(|age| age >= STALE)
        });
        for some in stale.chunks(AT_ONCE) {
            let read = some.iter().map(|entry| it.reread(entry, entry.readings()));
            // A fault is noted in the entry; what is in memory serves on.
            drop(join_all(read).await);
        }
    }
}
