//! A map in memory that holds so many bytes for each tenant and for all: the least recently used makes
//! room, and what has expired goes first.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

/// What an entry counts for beside its value, in bytes: so that many small ones are bounded too.
const OVERHEAD: usize = 512;

/// How much is held, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quota {
    pub(super) tenant: usize,
    pub(super) all: usize,
}

/// Digest that names an entry.
pub(super) type EntryKey = [u8; 32];

#[derive(Debug)]
pub(super) struct QuotaMap<V> {
    quota: Quota,
    entries: Mutex<Entries<V>>,
}

#[derive(Debug)]
struct Entries<V> {
    slots: HashMap<EntryKey, QuotaSlot<V>>,
    /// By when they were used last.
    order: BTreeMap<u64, EntryKey>,
    ends: BTreeSet<(Instant, EntryKey)>,
    tenants: HashMap<Arc<str>, TenantShare>,
    bytes: usize,
    uses: u64,
}

#[derive(Debug)]
struct QuotaSlot<V> {
    value: V,
    bytes: usize,
    tenant: Arc<str>,
    used: u64,
    until: Instant,
}

#[derive(Debug, Default)]
struct TenantShare {
    bytes: usize,
    order: BTreeMap<u64, EntryKey>,
}

impl<V: Clone> QuotaMap<V> {
    pub(super) fn new(quota: Quota) -> Self {
        let entries = Entries {
            slots: HashMap::new(),
            order: BTreeMap::new(),
            ends: BTreeSet::new(),
            tenants: HashMap::new(),
            bytes: 0,
            uses: 0,
        };
        Self {
            quota,
            entries: Mutex::new(entries),
        }
    }

    /// Whether a value of so many bytes may be kept at all.
    pub(super) const fn has_room_for(&self, bytes: usize) -> bool {
        bytes.saturating_add(OVERHEAD) <= self.quota.tenant
    }

    /// Keeps a value until then; `false` when it is larger than what a tenant may have.
    pub(super) fn insert(
        &self,
        key: EntryKey,
        (tenant, until): (&Arc<str>, Instant),
        (value, bytes): (V, usize),
    ) -> bool {
        if !self.has_room_for(bytes) {
            return false;
        }
        let bytes = bytes + OVERHEAD;
        let mut entries = self.entries.lock();
        entries.remove(&key);
        entries.forget_expired(Instant::now());
        let own = |entries: &Entries<V>| entries.tenants.get(tenant).map_or(0, |share| share.bytes);
        while own(&entries) + bytes > self.quota.tenant {
            let share = entries.tenants.get(tenant);
            let first = share.and_then(|share| share.order.values().next().copied());
            let Some(first) = first else { break };
            entries.remove(&first);
        }
        while entries.bytes + bytes > self.quota.all {
            let Some(first) = entries.order.values().next().copied() else {
                break;
            };
            entries.remove(&first);
        }
        let tenant = Arc::clone(tenant);
        let used = entries.next_use();
        entries.order.insert(used, key);
        entries.ends.insert((until, key));
        entries.bytes += bytes;
        let share = entries.tenants.entry(Arc::clone(&tenant)).or_default();
        share.bytes += bytes;
        share.order.insert(used, key);
        let slot = QuotaSlot {
            value,
            bytes,
            tenant,
            used,
            until,
        };
        entries.slots.insert(key, slot);
        true
    }

    /// A value that has not expired, which is in use by that, and until when.
    pub(super) fn get(&self, key: &EntryKey) -> Option<(V, Instant)> {
        let mut entries = self.entries.lock();
        let now = Instant::now();
        if entries.slots.get(key)?.until <= now {
            entries.remove(key);
            return None;
        }
        entries.touch(key);
        entries
            .slots
            .get(key)
            .map(|slot| (slot.value.clone(), slot.until))
    }

    /// Drops what has expired; how many are left, and when the first of them ends.
    pub(super) fn sweep(&self) -> (usize, Option<Instant>) {
        let mut entries = self.entries.lock();
        entries.forget_expired(Instant::now());
        (entries.slots.len(), entries.ends.first().map(|(until, _)| *until))
    }
}

impl<V> Entries<V> {
    const fn next_use(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }

    fn touch(&mut self, key: &EntryKey) {
        let used = self.next_use();
        let Some(slot) = self.slots.get_mut(key) else {
            return;
        };
        let before = std::mem::replace(&mut slot.used, used);
        self.order.remove(&before);
        self.order.insert(used, *key);
        if let Some(share) = self.tenants.get_mut(&slot.tenant) {
            share.order.remove(&before);
            share.order.insert(used, *key);
        }
    }

    fn remove(&mut self, key: &EntryKey) {
        let Some(slot) = self.slots.remove(key) else {
            return;
        };
        self.order.remove(&slot.used);
        self.ends.remove(&(slot.until, *key));
        self.bytes -= slot.bytes;
        if let Some(share) = self.tenants.get_mut(&slot.tenant) {
            share.bytes -= slot.bytes;
            share.order.remove(&slot.used);
            if share.order.is_empty() {
                self.tenants.remove(&slot.tenant);
            }
        }
    }

    fn forget_expired(&mut self, now: Instant) {
        while let Some((until, key)) = self.ends.first().copied()
            && until <= now
        {
            self.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const KIB: usize = 1024;

    fn key(number: u64) -> EntryKey {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_be_bytes());
        key
    }

    fn map() -> QuotaMap<u64> {
        QuotaMap::new(Quota {
            tenant: 8 * KIB,
            all: 16 * KIB,
        })
    }

    /// A value of nearly so many KiB, overhead included.
    fn insert(map: &QuotaMap<u64>, tenant: &str, number: u64, kib: usize) -> bool {
        let until = Instant::now() + Duration::from_secs(60);
        let bytes = kib * KIB - OVERHEAD;
        map.insert(key(number), (&tenant.into(), until), (number, bytes))
    }

    fn there(map: &QuotaMap<u64>, numbers: &[u64]) -> Vec<u64> {
        numbers
            .iter()
            .filter_map(|it| map.get(&key(*it)))
            .map(|(value, _)| value)
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenant_makes_room_for_itself_alone_by_what_it_used_least_recently() {
        let map = map();
        assert!(insert(&map, "globex", 9, 8));
        for number in 1..=4 {
            assert!(insert(&map, "acme", number, 2));
        }
        assert_eq!(there(&map, &[1]), [1]);
        assert!(insert(&map, "acme", 5, 4));
        assert_eq!(there(&map, &[1, 2, 3, 4, 5, 9]), [1, 4, 5, 9]);
    }

    #[tokio::test(start_paused = true)]
    async fn all_tenants_together_are_bounded() {
        let map = map();
        for (tenant, number) in [("a", 1), ("b", 2), ("c", 3)] {
            assert!(insert(&map, tenant, number, 6));
        }
        assert_eq!(there(&map, &[1, 2, 3]), [2, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_larger_than_a_quota_is_not_kept_and_takes_nothing_away() {
        let map = map();
        assert!(insert(&map, "acme", 1, 1));
        assert!(!insert(&map, "acme", 2, 9));
        assert!(!map.has_room_for(8 * KIB) && map.has_room_for(7 * KIB));
        assert_eq!(there(&map, &[1, 2]), [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_expired_is_gone_whether_it_is_looked_for_or_swept() {
        let map = map();
        assert!(insert(&map, "acme", 1, 1) && insert(&map, "acme", 2, 1));
        let first = Instant::now() + Duration::from_secs(60);
        assert_eq!(map.sweep(), (2, Some(first)));
        tokio::time::advance(Duration::from_secs(59)).await;
        assert_eq!(map.get(&key(1)), Some((1, first)), "use does not prolong it");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(map.get(&key(1)), None);
        assert_eq!(map.sweep(), (0, None));
        let entries = map.entries.lock();
        assert!(entries.bytes == 0 && entries.tenants.is_empty() && entries.order.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_in_the_place_of_another_counts_once() {
        let map = map();
        for _ in 0..100 {
            assert!(insert(&map, "acme", 1, 8));
        }
        assert_eq!(map.entries.lock().bytes, 8 * KIB);
    }
}
