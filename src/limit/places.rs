//! How much of a kind each holder has open: streams of a caller, flows of a link.

use std::{borrow::Borrow, collections::HashMap, fmt, hash::Hash, sync::Arc};

use parking_lot::Mutex;

/// Places, so many for each key. As many entries as keys that hold one.
pub struct Places<K: Eq + Hash> {
    most: usize,
    held: Arc<Mutex<HashMap<K, usize>>>,
}

/// A place; given up when dropped.
pub struct Place<K: Eq + Hash> {
    key: K,
    held: Arc<Mutex<HashMap<K, usize>>>,
}

impl<K: Eq + Hash + Clone> Places<K> {
    /// So many places for each key.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            most,
            held: Arc::default(),
        }
    }

    /// A place of this key; `None` when all are taken.
    #[must_use]
    pub fn take(&self, key: &K) -> Option<Place<K>> {
        let mut held = self.held.lock();
        let taken = held.entry(key.clone()).or_default();
        if *taken >= self.most {
            return None;
        }
        *taken += 1;
        drop(held);
        Some(Place {
            key: key.clone(),
            held: Arc::clone(&self.held),
        })
    }

    /// How many of this key are taken.
    #[must_use]
    pub fn taken<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
    {
        self.held.lock().get(key).copied().unwrap_or(0)
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut held = self.held.lock();
        if let Some(taken) = held.get_mut(&self.key) {
            *taken -= 1;
            if *taken == 0 {
                held.remove(&self.key);
            }
        }
    }
}

impl<K: Eq + Hash> fmt::Debug for Places<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Places")
            .field("most", &self.most)
            .finish_non_exhaustive()
    }
}

impl<K: Eq + Hash> fmt::Debug for Place<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_places_of_its_own_and_gets_them_back() {
        let places: Places<&str> = Places::new(2);
        let (one, two) = (places.take(&"ann"), places.take(&"ann"));
        assert!(one.is_some() && two.is_some());
        assert!(places.take(&"ann").is_none());
        let other = places.take(&"bob");
        assert!(other.is_some());
        drop(one);
        assert_eq!(places.taken("ann"), 1);
        assert!(places.take(&"ann").is_some());
        drop((two, other));
        assert!(places.held.lock().is_empty());
    }
}
