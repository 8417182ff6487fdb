//! Accounts in memory: what the way of a request finds without I/O. Bounded; the least recently
//! used owners make room.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};

use super::key::Owner;
use super::record::Record;
use super::slot::Slot;
use super::vault::{Fault, Kind};

/// Locks that owners are spread over.
const SHARDS: usize = 16;
/// Owners in memory at most.
pub(super) const OWNERS: usize = 65_536;
/// How old what is known of an owner may be, in milliseconds: bounds how long a revocation elsewhere
/// goes unseen.
const FRESH: u64 = 30_000;
/// After a store did not answer, it is left alone that long, in milliseconds.
const QUIET: u64 = 5_000;

/// Owners in memory.
#[derive(Debug)]
pub(super) struct Cache {
    shards: Vec<RwLock<HashMap<Owner, Arc<Entry>>>>,
    hasher: RandomState,
    most: usize,
}

impl Cache {
    /// For at most `most` owners.
    pub(super) fn new(most: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            hasher: RandomState::new(),
            most: (most / SHARDS).max(1),
        }
    }

    /// What is known of an owner.
    pub(super) fn get(&self, owner: &Owner) -> Option<Arc<Entry>> {
        self.shard(owner)?.read().get(owner).cloned()
    }

    /// The entry of an owner, made when there is none.
    pub(super) fn entry(&self, owner: &Owner, now: u64) -> Arc<Entry> {
        if let Some(found) = self.get(owner) {
            return found;
        }
        let made = Arc::new(Entry::new(owner.clone(), now));
        let Some(shard) = self.shard(owner) else {
            return made;
        };
        let mut shard = shard.write();
        if let Some(found) = shard.get(owner) {
            return Arc::clone(found);
        }
        if shard.len() >= self.most {
            evict(&mut shard);
        }
        shard.insert(owner.clone(), Arc::clone(&made));
        made
    }

    /// Every entry, in no order.
    pub(super) fn all(&self) -> Vec<Arc<Entry>> {
        let shards = self.shards.iter();
        shards
            .flat_map(|it| it.read().values().cloned().collect::<Vec<_>>())
            .collect()
    }

    fn shard(&self, owner: &Owner) -> Option<&RwLock<HashMap<Owner, Arc<Entry>>>> {
        let hash = usize::try_from(self.hasher.hash_one(owner) >> 32).unwrap_or_default();
        self.shards.get(hash % SHARDS)
    }
}

/// Drops the eighth that was used least recently, so that making room is seldom.
fn evict(shard: &mut HashMap<Owner, Arc<Entry>>) {
    let mut used: Vec<u64> = shard.values().map(|entry| entry.used()).collect();
    let mut left = (used.len() / 8).max(1);
    if left > used.len() {
        return;
    }
    let (_, limit, _) = used.select_nth_unstable(left - 1);
    let limit = *limit;
    shard.retain(|_, entry| {
        let goes = left > 0 && entry.used() <= limit;
        left -= usize::from(goes);
        !goes
    });
}

/// What is known of one owner.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) owner: Owner,
    /// Held while its accounts are read: one reading serves all who wait.
    pub(super) reading: tokio::sync::Mutex<()>,
    used: AtomicU64,
    /// Readings that have begun.
    begun: AtomicU64,
    known: ArcSwap<Known>,
    changing: Mutex<()>,
}

/// What a reading found.
#[derive(Debug, Default)]
struct Known {
    accounts: Vec<Arc<Slot>>,
    /// The reading that found them; 0 for none.
    reading: u64,
    /// When it was begun.
    at: Option<u64>,
    /// The reading that failed last, when, and how.
    failed: Option<(u64, u64, Kind, String)>,
    /// Accounts removed here, and the last reading that may still have seen them.
    removed: Vec<(Arc<str>, u64)>,
}

/// What came of one reading.
pub(super) type Read = Vec<(u64, Record)>;

impl Entry {
    fn new(owner: Owner, now: u64) -> Self {
        Self {
            owner,
            reading: tokio::sync::Mutex::new(()),
            used: AtomicU64::new(now),
            begun: AtomicU64::new(0),
            known: ArcSwap::default(),
            changing: Mutex::new(()),
        }
    }

    /// When it was used last, in milliseconds of the growing clock.
    pub(super) fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    pub(super) fn touch(&self, now: u64) {
        self.used.store(now, Relaxed);
    }

    /// Its accounts, ordered by id.
    pub(super) fn with<T>(&self, look: impl FnOnce(&[Arc<Slot>]) -> T) -> T {
        look(&self.known.load().accounts)
    }

    pub(super) fn slots(&self) -> Vec<Arc<Slot>> {
        self.known.load().accounts.clone()
    }

    pub(super) fn slot(&self, account: &str) -> Option<Arc<Slot>> {
        self.with(|slots| slots.iter().find(|slot| *slot.key.account == *account).cloned())
    }

    /// The number of the readings so far: one with a higher number began later.
    pub(super) fn readings(&self) -> u64 {
        self.begun.load(Relaxed)
    }

    /// Begins a reading.
    pub(super) fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Relaxed) + 1
    }

    /// Whether a reading that began after `since` has found what is known.
    pub(super) fn is_read_since(&self, since: u64) -> bool {
        self.known.load().reading > since
    }

    /// How a reading that began after `since` failed.
    pub(super) fn failed_since(&self, since: u64) -> Option<Fault> {
        let known = self.known.load();
        let (reading, _, kind, message) = known.failed.as_ref()?;
        (*reading > since).then(|| Fault::new(*kind, message.clone()))
    }

    /// Whether what is known may be used without asking the store: it is young, or the store was
    /// asked a moment ago and did not answer.
    pub(super) fn is_fresh(&self, now: u64) -> bool {
        let known = self.known.load();
        // Single accounts that were put in say nothing of the others.
        known
            .at
            .is_some_and(|at| now.saturating_sub(at) < FRESH || is_quiet(&known, now))
    }

    /// How old what is known is; `None` when nothing is.
    pub(super) fn age(&self, now: u64) -> Option<u64> {
        let known = self.known.load();
        known.at.map(|at| now.saturating_sub(at))
    }

    /// Whether the store failed a moment ago.
    pub(super) fn is_quiet(&self, now: u64) -> bool {
        is_quiet(&self.known.load(), now)
    }

    /// Takes what a reading found. What was written here after the reading began stays.
    pub(super) fn found(&self, reading: u64, at: u64, read: Read) {
        let _changing = self.changing.lock();
        let before = self.known.load();
        let mut accounts: Vec<Arc<Slot>> = Vec::with_capacity(read.len());
        let mut removed = before.removed.clone();
        removed.retain(|(_, until)| *until >= reading);
        for (version, record) in read {
            if removed.iter().any(|(account, _)| **account == *record.account) {
                continue;
            }
            let slot = before
                .accounts
                .iter()
                .find(|slot| *slot.key.account == *record.account);
            let slot = slot.map_or_else(|| Slot::new(&self.owner, &record.account), Arc::clone);
            slot.read(version, record, reading);
            accounts.push(slot);
        }
        for slot in &before.accounts {
            if accounts.iter().any(|it| Arc::ptr_eq(it, slot)) {
                continue;
            }
            if slot.written.load(Relaxed) >= reading {
                accounts.push(Arc::clone(slot));
            } else {
                slot.gone();
            }
        }
        accounts.sort_by(|one, other| one.key.account.cmp(&other.key.account));
        self.known.store(Arc::new(Known {
            accounts,
            reading,
            at: Some(at),
            failed: None,
            removed,
        }));
    }

    /// Notes that a reading failed; what was known stays.
    pub(super) fn failed(&self, reading: u64, at: u64, fault: &Fault) {
        let _changing = self.changing.lock();
        let before = self.known.load();
        self.known.store(Arc::new(Known {
            accounts: before.accounts.clone(),
            reading: before.reading,
            at: before.at,
            failed: Some((reading, at, fault.kind, fault.message.clone())),
            removed: before.removed.clone(),
        }));
    }

    /// Takes a record that was read or written alone.
    pub(super) fn put(&self, version: u64, record: Record) -> Arc<Slot> {
        let _changing = self.changing.lock();
        let before = self.known.load();
        let found = before
            .accounts
            .iter()
            .find(|slot| *slot.key.account == *record.account);
        if let Some(slot) = found {
            slot.write(version, record, self.readings());
            return Arc::clone(slot);
        }
        let slot = Slot::new(&self.owner, &record.account);
        slot.write(version, record, self.readings());
        let mut accounts = before.accounts.clone();
        accounts.push(Arc::clone(&slot));
        accounts.sort_by(|one, other| one.key.account.cmp(&other.key.account));
        let mut known = before.with(accounts);
        known.removed.retain(|(removed, _)| *removed != slot.key.account);
        self.known.store(Arc::new(known));
        slot
    }

    /// Forgets an account that is no more.
    pub(super) fn remove(&self, account: &str) {
        let _changing = self.changing.lock();
        let before = self.known.load();
        let (gone, accounts) = before
            .accounts
            .iter()
            .cloned()
            .partition::<Vec<_>, _>(|slot| *slot.key.account == *account);
        for slot in gone {
            slot.gone();
        }
        // A reading that is under way may have seen it: what it finds is not taken for new.
        let mut known = before.with(accounts);
        known.removed.push((account.into(), self.readings()));
        self.known.store(Arc::new(known));
    }
}

impl Known {
    fn with(&self, accounts: Vec<Arc<Slot>>) -> Self {
        Self {
            accounts,
            reading: self.reading,
            at: self.at,
            failed: self.failed.clone(),
            removed: self.removed.clone(),
        }
    }
}

fn is_quiet(known: &Known, now: u64) -> bool {
    known
        .failed
        .as_ref()
        .is_some_and(|(_, at, ..)| now.saturating_sub(*at) < QUIET)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::keeper::tests::world::record;

    fn owner(name: &str) -> Owner {
        Owner {
            tenant: "acme".into(),
            user: name.into(),
            connection: "mail".into(),
        }
    }

    #[test]
    fn it_never_holds_more_than_its_bound_and_the_least_used_go_first() {
        let cache = Cache::new(160);
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
        let entry = Entry::new(owner("ann"), 0);
        let reading = entry.begin();
        let mut newer = record("work", "refresh", 0);
        newer.grant_id = "two".to_owned();
        entry.put(2, newer);
        entry.remove("home");
        let mut older = record("work", "refresh", 0);
        older.grant_id = "one".to_owned();
        entry.found(reading, 0, vec![(1, older), (1, record("home", "refresh", 0))]);
        let slots = entry.slots();
        assert_eq!(slots.len(), 1);
        assert_eq!(&*slots[0].seen().unwrap().grant, "two");
        entry.found(entry.begin(), 0, Vec::new());
        assert!(entry.slots().is_empty());
    }
}
