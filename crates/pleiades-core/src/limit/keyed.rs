//! How many of a kind are open for each key: streams of a caller, flows of a link.

use std::{borrow::Borrow, collections::HashMap, fmt, hash::Hash, sync::Arc};

use parking_lot::Mutex;

/// A limit for each key. It has as many entries as keys with something open.
pub struct KeyedLimit<K: Eq + Hash> {
    most: usize,
    counts: Arc<Mutex<HashMap<K, usize>>>,
}

/// One that is open; counted until it is dropped.
pub struct KeyedPermit<K: Eq + Hash> {
    key: K,
    counts: Arc<Mutex<HashMap<K, usize>>>,
}

impl<K: Eq + Hash + Clone> KeyedLimit<K> {
    /// So many for each key.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            most,
            counts: Arc::default(),
        }
    }

    /// Counts one more of this key; `None` when it has as many as it may.
    #[must_use]
    pub fn acquire(&self, key: &K) -> Option<KeyedPermit<K>> {
        let mut counts = self.counts.lock();
        let taken = counts.entry(key.clone()).or_default();
        if *taken >= self.most {
            return None;
        }
        *taken += 1;
        drop(counts);
        Some(KeyedPermit {
            key: key.clone(),
            counts: Arc::clone(&self.counts),
        })
    }

    /// How many of this key are open.
    #[must_use]
    pub fn taken<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
    {
        self.counts.lock().get(key).copied().unwrap_or(0)
    }
}

impl<K: Eq + Hash> Drop for KeyedPermit<K> {
    fn drop(&mut self) {
        let mut counts = self.counts.lock();
        if let Some(taken) = counts.get_mut(&self.key) {
            *taken -= 1;
            if *taken == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

impl<K: Eq + Hash> fmt::Debug for KeyedLimit<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Places")
            .field("most", &self.most)
            .finish_non_exhaustive()
    }
}

impl<K: Eq + Hash> fmt::Debug for KeyedPermit<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_places_of_its_own_and_gets_them_back() {
        let places: KeyedLimit<&str> = KeyedLimit::new(2);
        let (one, two) = (places.acquire(&"ann"), places.acquire(&"ann"));
        assert!(one.is_some() && two.is_some());
        assert!(places.acquire(&"ann").is_none());
        let other = places.acquire(&"bob");
        assert!(other.is_some());
        drop(one);
        assert_eq!(places.taken("ann"), 1);
        assert!(places.acquire(&"ann").is_some());
        drop((two, other));
        assert!(places.counts.lock().is_empty());
    }
}
