//! Maps that hold so many entries and no more: the least recently used one makes room.
//!
//! Only for what can be had again. What must not be forgotten (an open session, a question that
//! waits for its answer) is refused when there is no room.

use std::{borrow::Borrow, collections::hash_map::RandomState, fmt, hash::Hash, num::NonZeroUsize};

use lru::LruCache;
use parking_lot::{Mutex, MutexGuard};

/// The map under the lock. Its hasher withstands keys that others choose.
pub type LruMap<K, V> = LruCache<K, V, RandomState>;

/// A bounded map with a lock of its own.
pub struct Bounded<K, V>(Mutex<LruMap<K, V>>);

impl<K: Hash + Eq, V> Bounded<K, V> {
    /// A map of at most `most` entries; nothing is allocated before they come.
    #[must_use]
    pub fn new(most: usize) -> Self {
        let mut map = LruCache::unbounded_with_hasher(RandomState::new());
        map.resize(NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN));
        Self(Mutex::new(map))
    }

    /// A value, which is in use by that.
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        V: Clone,
    {
        self.0.lock().get(key).cloned()
    }

    /// Whether there is such a key, which is in use by that.
    pub fn contains<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.0.lock().get(key).is_some()
    }

    /// Sets a value; the one before it.
    pub fn insert(&self, key: K, value: V) -> Option<V> {
        self.0.lock().put(key, value)
    }

    /// Removes a value.
    pub fn remove<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.0.lock().pop(key)
    }

    /// A value, made under the lock when there is none.
    pub fn get_or_insert_with(&self, key: K, make: impl FnOnce() -> V) -> V
    where
        V: Clone,
    {
        self.0.lock().get_or_insert(key, make).clone()
    }

    /// A value, made under the lock when there is none.
    ///
    /// # Errors
    /// What `make` fails with; nothing is kept then.
    pub fn get_or_try_insert_with<E>(&self, key: K, make: impl FnOnce() -> Result<V, E>) -> Result<V, E>
    where
        V: Clone,
    {
        self.0.lock().try_get_or_insert(key, make).cloned()
    }

    /// The map itself, for changes in place.
    pub fn lock(&self) -> MutexGuard<'_, LruMap<K, V>> {
        self.0.lock()
    }
}

impl<K: Hash + Eq, V> fmt::Debug for Bounded<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys and values may be anybody's.
        f.debug_struct("Bounded")
            .field("len", &self.0.lock().len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_entry_makes_room() {
        let map = Bounded::new(2);
        map.insert("a", 1);
        map.insert("b", 2);
        assert_eq!(map.get("a"), Some(1));
        assert_eq!(map.get_or_insert_with("c", || 3), 3);
        assert!(map.contains("a") && !map.contains("b"));
        assert_eq!((map.remove("a"), map.lock().len()), (Some(1), 1));
    }

    #[test]
    fn what_cannot_be_made_is_not_kept() {
        let map: Bounded<&str, u8> = Bounded::new(2);
        assert_eq!(map.get_or_try_insert_with("a", || Err("no")), Err("no"));
        assert_eq!(map.get_or_try_insert_with("a", || Ok::<_, &str>(1)), Ok(1));
        assert_eq!(map.get_or_try_insert_with("a", || Err("no")), Ok(1));
    }
}
