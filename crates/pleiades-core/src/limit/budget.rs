//! Memory that all callers share: bytes of bodies that are read, and of answers on their way. Nobody has
//! all of it, so that one who reads slowly keeps out nobody else.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;

/// What is smaller is counted in all, but not for its owner: it takes thousands of them to hurt.
const SMALL: usize = 64 * 1024;

/// Whom bytes are counted for: a tenant and a user.
pub type BudgetOwner = (Arc<str>, Arc<str>);

/// Bytes that may be reserved at once.
#[derive(Debug)]
pub struct Budget {
    most: usize,
    used: AtomicUsize,
    /// Bytes of large reservations by owner; as many entries as there are such reservations at most.
    large: Mutex<HashMap<BudgetOwner, usize>>,
}

/// Bytes that are reserved; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    owner: Option<BudgetOwner>,
    bytes: usize,
    /// Whether they are counted for the owner.
    is_large: bool,
}

/// There is no room for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Budget {
    /// Room for so many bytes, three quarters of them for one owner at most.
    #[must_use]
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            used: AtomicUsize::new(0),
            large: Mutex::default(),
        })
    }

    /// Whether so much is reserved that nothing new should begin: what runs already has an eighth to end in.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.used.load(Relaxed) >= self.most - self.most / 8
    }

    /// An empty reservation. Without an owner it is the process's own.
    #[must_use]
    pub const fn reserve(self: Arc<Self>, owner: Option<BudgetOwner>) -> Reservation {
        Reservation {
            budget: self,
            owner,
            bytes: 0,
            is_large: false,
        }
    }

    fn enter(&self, owner: &BudgetOwner, bytes: usize) -> Result<(), Full> {
        let mut large = self.large.lock();
        let reserved = large.entry(owner.clone()).or_default();
        if *reserved + bytes > self.most - self.most / 4 {
            if *reserved == 0 {
                large.remove(owner);
            }
            return Err(Full);
        }
        *reserved += bytes;
        Ok(())
    }

    fn leave(&self, owner: &BudgetOwner, bytes: usize) {
        let mut large = self.large.lock();
        if let Some(reserved) = large.get_mut(owner) {
            *reserved = reserved.saturating_sub(bytes);
            if *reserved == 0 {
                large.remove(owner);
            }
        }
    }
}

impl Reservation {
    /// How many bytes these are.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Reserves more bytes.
    ///
    /// # Errors
    /// [`Full`]; what was reserved before still is.
    pub fn grow(&mut self, more: usize) -> Result<(), Full> {
        let budget = &self.budget;
        let fits = |used: usize| used.checked_add(more).filter(|sum| *sum <= budget.most);
        budget
            .used
            .fetch_update(Relaxed, Relaxed, fits)
            .map_err(|_used| Full)?;
        let bytes = self.bytes + more;
        if let Some(owner) = self.owner.as_ref().filter(|_| bytes > SMALL) {
            let new = if self.is_large { more } else { bytes };
            if let Err(full) = budget.enter(owner, new) {
                budget.used.fetch_sub(more, Relaxed);
                return Err(full);
            }
            self.is_large = true;
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Reserves so many bytes from now on, more or fewer.
    ///
    /// # Errors
    /// [`Full`]; what was reserved before still is.
    pub(crate) fn resize(&mut self, bytes: usize) -> Result<(), Full> {
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.grow(more),
            None => {
                let fewer = self.bytes - bytes;
                self.budget.used.fetch_sub(fewer, Relaxed);
                if let Some(owner) = self.owner.as_ref().filter(|_| self.is_large) {
                    self.budget.leave(owner, fewer);
                }
                self.bytes = bytes;
                Ok(())
            }
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Relaxed);
        if let Some(owner) = self.owner.as_ref().filter(|_| self.is_large) {
            self.budget.leave(owner, self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn owner(name: &str) -> Option<BudgetOwner> {
        Some(("acme".into(), name.into()))
    }

    #[test]
    fn no_more_is_reserved_than_there_is_room_for() {
        let budget = Budget::new(4 * MIB);
        let mut all: Vec<Reservation> = (0..4)
            .map(|n| Arc::clone(&budget).reserve(owner(&n.to_string())))
            .collect();
        for reserved in &mut all {
            reserved.grow(MIB).unwrap();
        }
        let mut late = Arc::clone(&budget).reserve(None);
        assert_eq!(late.grow(1), Err(Full));
        all.pop();
        late.grow(MIB).unwrap();
        drop((all, late));
        assert_eq!(budget.used.load(Relaxed), 0);
        assert!(budget.large.lock().is_empty());
    }

    #[test]
    fn nobody_holds_more_than_three_quarters() {
        let budget = Budget::new(4 * MIB);
        let mut mine = Arc::clone(&budget).reserve(owner("ann"));
        mine.grow(SMALL).unwrap();
        mine.grow(3 * MIB - SMALL).unwrap();
        assert_eq!(mine.grow(1), Err(Full));
        let mut more = Arc::clone(&budget).reserve(owner("ann"));
        assert_eq!(more.grow(SMALL + 1), Err(Full));
        more.grow(SMALL).unwrap();
        let mut others = Arc::clone(&budget).reserve(owner("bob"));
        others.grow(MIB - SMALL).unwrap();
        drop((mine, more, others));
        assert_eq!(budget.used.load(Relaxed), 0);
        assert!(budget.large.lock().is_empty());
    }

    #[test]
    fn what_shrinks_gives_back() {
        let budget = Budget::new(4 * MIB);
        let mut mine = Arc::clone(&budget).reserve(owner("ann"));
        mine.resize(MIB).unwrap();
        mine.resize(10).unwrap();
        assert_eq!(budget.used.load(Relaxed), 10);
        mine.resize(MIB).unwrap();
        drop(mine);
        assert!(budget.large.lock().is_empty());
    }

    #[test]
    fn nothing_new_begins_in_the_last_eighth() {
        let budget = Budget::new(4 * MIB);
        let mut reserved = Arc::clone(&budget).reserve(None);
        reserved.grow(4 * MIB - MIB / 2 - 1).unwrap();
        assert!(!budget.is_crowded());
        reserved.grow(1).unwrap();
        assert!(budget.is_crowded());
    }
}
