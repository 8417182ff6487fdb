//! Accounts in memory, which requests find without I/O. Bounded: the least recently used owners make
//! room.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pleiades_core::bounded::Bounded;

use super::vault::{Fault, Kind};
use super::{key::AccountOwner, record::AccountRecord, slot::AccountSlot};

/// Locks that owners are spread over.
const SHARDS: usize = 16;
/// Owners in memory at most.
pub(super) const OWNERS: usize = 65_536;
/// How old the accounts of an owner may be, in milliseconds: bounds how long a revocation elsewhere goes
/// unseen.
const FRESH: u64 = 30_000;
/// After a store did not answer, it is left alone that long, in milliseconds.
const QUIET: u64 = 5_000;

#[derive(Debug)]
pub(super) struct AccountCache {
    shards: Vec<Bounded<AccountOwner, Arc<OwnerAccounts>>>,
    hasher: RandomState,
}

impl AccountCache {
    pub(super) fn new(most: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Bounded::new(most / SHARDS)).collect(),
            hasher: RandomState::new(),
        }
    }

    pub(super) fn get(&self, owner: &AccountOwner) -> Option<Arc<OwnerAccounts>> {
        self.shard(owner)?.get(owner)
    }

    /// The accounts of an owner, none of them read yet where there was no entry.
    pub(super) fn entry(&self, owner: &AccountOwner, now: u64) -> Arc<OwnerAccounts> {
        let make = || Arc::new(OwnerAccounts::new(owner.clone(), now));
        match self.shard(owner) {
            Some(shard) => shard.get_or_insert_with(owner.clone(), make),
            None => make(),
        }
    }

    /// Every entry, in no order.
    pub(super) fn all(&self) -> Vec<Arc<OwnerAccounts>> {
        let entries = |shard: &Bounded<_, Arc<OwnerAccounts>>| -> Vec<_> {
            shard.lock().iter().map(|(_, entry)| Arc::clone(entry)).collect()
        };
        self.shards.iter().flat_map(entries).collect()
    }

    fn shard(&self, owner: &AccountOwner) -> Option<&Bounded<AccountOwner, Arc<OwnerAccounts>>> {
        let hash = usize::try_from(self.hasher.hash_one(owner) >> 32).unwrap_or_default();
        self.shards.get(hash % SHARDS)
    }
}

#[derive(Debug)]
pub(super) struct OwnerAccounts {
    pub(super) owner: AccountOwner,
    /// Held while its accounts are read: one reading serves all who wait.
    pub(super) reading: tokio::sync::Mutex<()>,
    used: AtomicU64,
    /// Readings that have begun.
    begun: AtomicU64,
    state: ArcSwap<OwnerState>,
    changing: Mutex<()>,
}

#[derive(Debug, Default)]
struct OwnerState {
    accounts: Vec<Arc<AccountSlot>>,
    /// The reading that found them; 0 for none.
    reading: u64,
    /// When it was begun.
    at: Option<u64>,
    /// The reading that failed last, when, and how.
    failed: Option<(u64, u64, Kind, String)>,
    /// Accounts removed here, and the last reading that may still have seen them.
    removed: Vec<(Arc<str>, u64)>,
    /// The account that was here and is gone, of several the last: revoked or removed, here or elsewhere.
    lost: Option<Arc<str>>,
}

pub(super) type VersionedRecords = Vec<(u64, AccountRecord)>;

impl OwnerAccounts {
    pub(super) fn new(owner: AccountOwner, now: u64) -> Self {
        Self {
            owner,
            reading: tokio::sync::Mutex::new(()),
            used: AtomicU64::new(now),
            begun: AtomicU64::new(0),
            state: ArcSwap::default(),
            changing: Mutex::new(()),
        }
    }

    /// When it was used last, in milliseconds of the monotonic clock.
    pub(super) fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    pub(super) fn touch(&self, now: u64) {
        self.used.store(now, Relaxed);
    }

    /// Its accounts, ordered by id.
    pub(super) fn with<T>(&self, look: impl FnOnce(&[Arc<AccountSlot>]) -> T) -> T {
        look(&self.state.load().accounts)
    }

    pub(super) fn slots(&self) -> Vec<Arc<AccountSlot>> {
        self.state.load().accounts.clone()
    }

    pub(super) fn slot(&self, account: &str) -> Option<Arc<AccountSlot>> {
        self.with(|slots| slots.iter().find(|slot| *slot.key.account == *account).cloned())
    }

    /// Whether the account of this name, or the last one where none is named, was here and is gone.
    pub(super) fn has_lost(&self, account: Option<&str>) -> bool {
        let state = self.state.load();
        let is_meant = |lost: &Arc<str>| account.is_none_or(|account| **lost == *account);
        state.lost.as_ref().is_some_and(is_meant)
    }

    /// The number of the readings so far: one with a higher number began later.
    pub(super) fn readings(&self) -> u64 {
        self.begun.load(Relaxed)
    }

    pub(super) fn begin_reading(&self) -> u64 {
        self.begun.fetch_add(1, Relaxed) + 1
    }

    /// Whether a reading that began after `since` has been applied.
    pub(super) fn is_read_since(&self, since: u64) -> bool {
        self.state.load().reading > since
    }

    pub(super) fn failed_since(&self, since: u64) -> Option<Fault> {
        let state = self.state.load();
        let (reading, _, kind, message) = state.failed.as_ref()?;
        (*reading > since).then(|| Fault::new(*kind, message.clone()))
    }

    /// Whether the accounts may be used without asking the store: they are young, or the store was asked
    /// a moment ago and did not answer.
    pub(super) fn is_fresh(&self, now: u64) -> bool {
        let state = self.state.load();
        // Single accounts that were put in say nothing of the others.
        state
            .at
            .is_some_and(|at| now.saturating_sub(at) < FRESH || is_quiet(&state, now))
    }

    /// How old the last reading is; `None` before the first.
    pub(super) fn age(&self, now: u64) -> Option<u64> {
        let state = self.state.load();
        state.at.map(|at| now.saturating_sub(at))
    }

    /// Whether the store failed a moment ago.
    pub(super) fn is_quiet(&self, now: u64) -> bool {
        is_quiet(&self.state.load(), now)
    }

    /// Applies a reading. What was written here after it began stays.
    pub(super) fn apply_reading(&self, reading: u64, at: u64, read: VersionedRecords) {
        let _changing = self.changing.lock();
        let before = self.state.load();
        let mut accounts: Vec<Arc<AccountSlot>> = Vec::with_capacity(read.len());
        let mut removed = before.removed.clone();
        removed.retain(|(_, until)| *until >= reading);
        for (version, record) in read {
            if removed.iter().any(|(account, _)| **account == *record.account) {
                continue;
            }
            let is_same = |slot: &&Arc<AccountSlot>| *slot.key.account == *record.account;
            let slot = before.accounts.iter().find(is_same);
            let slot = slot.map_or_else(|| AccountSlot::new(&self.owner, &record.account), Arc::clone);
            slot.take_read(version, record, reading);
            accounts.push(slot);
        }
        let mut lost = before.lost.clone();
        for slot in &before.accounts {
            if accounts.iter().any(|it| Arc::ptr_eq(it, slot)) {
                continue;
            }
            if slot.written.load(Relaxed) >= reading {
                accounts.push(Arc::clone(slot));
            } else {
                slot.clear();
                lost = Some(Arc::clone(&slot.key.account));
            }
        }
        accounts.sort_by(|one, other| one.key.account.cmp(&other.key.account));
        self.state.store(Arc::new(OwnerState {
            accounts,
            reading,
            at: Some(at),
            failed: None,
            removed,
            lost,
        }));
    }

    /// Notes that a reading failed; the accounts stay.
    pub(super) fn apply_failure(&self, reading: u64, at: u64, fault: &Fault) {
        let _changing = self.changing.lock();
        let before = self.state.load();
        let mut state = before.with(before.accounts.clone());
        state.failed = Some((reading, at, fault.kind, fault.message.clone()));
        self.state.store(Arc::new(state));
    }

    /// Applies a record that was read or written alone.
    pub(super) fn put(&self, version: u64, record: AccountRecord) -> Arc<AccountSlot> {
        let _changing = self.changing.lock();
        let before = self.state.load();
        let is_same = |slot: &&Arc<AccountSlot>| *slot.key.account == *record.account;
        let found = before.accounts.iter().find(is_same);
        let slot = found.map_or_else(|| AccountSlot::new(&self.owner, &record.account), Arc::clone);
        slot.take_written(version, record, self.readings());
        if found.is_some() {
            return slot;
        }
        let mut accounts = before.accounts.clone();
        accounts.push(Arc::clone(&slot));
        accounts.sort_by(|one, other| one.key.account.cmp(&other.key.account));
        let mut state = before.with(accounts);
        state.removed.retain(|(removed, _)| *removed != slot.key.account);
        self.state.store(Arc::new(state));
        slot
    }

    pub(super) fn remove(&self, account: &str) {
        let _changing = self.changing.lock();
        let before = self.state.load();
        let (gone, accounts) = before
            .accounts
            .iter()
            .cloned()
            .partition::<Vec<_>, _>(|slot| *slot.key.account == *account);
        let lost = gone.last().map(|slot| Arc::clone(&slot.key.account));
        for slot in gone {
            slot.clear();
        }
        // A reading that is under way may have seen it: what it finds is not taken for new.
        let mut state = before.with(accounts);
        state.removed.push((account.into(), self.readings()));
        state.lost = lost.or(state.lost);
        self.state.store(Arc::new(state));
    }
}

impl OwnerState {
    fn with(&self, accounts: Vec<Arc<AccountSlot>>) -> Self {
        Self {
            accounts,
            reading: self.reading,
            at: self.at,
            failed: self.failed.clone(),
            removed: self.removed.clone(),
            lost: self.lost.clone(),
        }
    }
}

fn is_quiet(state: &OwnerState, now: u64) -> bool {
    state
        .failed
        .as_ref()
        .is_some_and(|(_, at, ..)| now.saturating_sub(*at) < QUIET)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manager::tests::world::record;

    fn owner(name: &str) -> AccountOwner {
        AccountOwner {
            tenant: "acme".into(),
            user: name.into(),
            connection: "mail".into(),
        }
    }

    #[test]
    fn it_never_holds_more_than_its_bound_and_the_least_used_go_first() {
        let cache = AccountCache::new(160);
        for at in 0..2_000 {
            cache.entry(&owner(&format!("user{at}")), at);
        }
        let all = cache.all();
        assert!(all.len() <= 160, "{}", all.len());
        assert!(cache.get(&owner("user1999")).is_some());
        assert!(cache.get(&owner("user0")).is_none());
    }

    #[test]
    fn a_late_reading_brings_back_nothing_that_was_removed_or_replaced() {
        let entry = OwnerAccounts::new(owner("ann"), 0);
        let reading = entry.begin_reading();
        let mut newer = record("work", "refresh", 0);
        newer.grant_id = "two".to_owned();
        entry.put(2, newer);
        entry.remove("home");
        let mut older = record("work", "refresh", 0);
        older.grant_id = "one".to_owned();
        entry.apply_reading(reading, 0, vec![(1, older), (1, record("home", "refresh", 0))]);
        let slots = entry.slots();
        assert_eq!(slots.len(), 1);
        assert_eq!(&*slots[0].seen().unwrap().grant, "two");
        entry.apply_reading(entry.begin_reading(), 0, Vec::new());
        assert!(entry.slots().is_empty());
    }
}
