//! A bounded pool of things that outlive a request: sessions and processes.
//!
//! Each is made once however many ask for it, ended once when idle, evicted or retired, and never
//! while a request uses it.

use std::{
    collections::HashMap,
    future::Future,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::OnceCell, time::Instant};

use super::endpoint::{Endpoint, Identity, SessionSharing};
use pleiades_core::error::{Code, Error};
use pleiades_mcp::{ClientCapabilities, Revision};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    endpoint: [u8; 32],
    tenant: Option<Arc<str>>,
    user: Option<Arc<str>>,
    account: Option<[u8; 32]>,
    revision: Option<Revision>,
    abilities: ClientCapabilities,
}

impl PoolKey {
    /// Tenant and user, where it is not shared by several.
    pub(crate) fn principal(&self) -> (Option<&str>, Option<&str>) {
        (self.tenant.as_deref(), self.user.as_deref())
    }

    /// `revision` is `None` for wires, which settle on one themselves.
    /// `abilities` are what was declared: a session knows them from its first message on.
    pub(crate) fn of(
        endpoint: &Endpoint,
        identity: &Identity,
        revision: Option<Revision>,
        abilities: ClientCapabilities,
    ) -> Self {
        let abilities = revision.map_or(abilities, |revision| abilities.between(revision, revision));
        let (tenant, user) = match endpoint.share {
            SessionSharing::User => (Some(&identity.tenant), Some(&identity.user)),
            SessionSharing::Tenant => (Some(&identity.tenant), None),
            SessionSharing::All => (None, None),
        };
        Self {
            endpoint: endpoint.digest,
            tenant: tenant.map(Arc::clone),
            user: user.map(Arc::clone),
            account: identity.signature.account,
            revision,
            abilities,
        }
    }

    /// Whether more than one user is behind it.
    pub(crate) fn is_shared(&self) -> bool {
        self.user.is_none()
    }

    fn same_holder(&self, other: &Self) -> bool {
        self.endpoint == other.endpoint && self.tenant == other.tenant && self.user == other.user
    }
}

pub(crate) trait Pooled: Send + Sync {
    /// Lets go of it without waiting; called once its last user is done, perhaps twice.
    fn end(self: &Arc<Self>);
    fn is_alive(&self) -> bool;
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolLimits {
    pub(crate) total: usize,
    /// For one holder at one endpoint: a caller that changes its key on every request would else
    /// fill the pool.
    pub(crate) holder: usize,
}

pub(crate) struct Pool<T: Pooled> {
    slots: Mutex<HashMap<PoolKey, Arc<PoolSlot<T>>>>,
    bounds: PoolLimits,
}

struct PoolSlot<T: Pooled> {
    key: PoolKey,
    cell: OnceCell<Arc<T>>,
    users: AtomicUsize,
    retired: AtomicBool,
    touched: Mutex<Instant>,
    idle: Duration,
}

/// The right to use a member; while one exists the member is not ended.
pub(crate) struct PoolLease<T: Pooled> {
    value: Arc<T>,
    hold: Hold<T>,
}

struct Hold<T: Pooled>(Arc<PoolSlot<T>>);

impl<T: Pooled> Pool<T> {
    pub(crate) fn new(bounds: PoolLimits) -> Self {
        Self {
            slots: Mutex::default(),
            bounds,
        }
    }

    /// The member of a key when it is there and alive.
    pub(crate) fn ready(&self, key: &PoolKey) -> Option<PoolLease<T>> {
        let slots = self.slots.lock();
        let slot = slots.get(key)?;
        let value = Arc::clone(slot.cell.get().filter(|value| value.is_alive())?);
        Some(PoolLease {
            value,
            hold: hold(slot),
        })
    }

    /// The member of a key, made when there is none. Of many that ask at once one makes it.
    /// Errors: `Busy` when the pool is full of members in use, else what `make` says.
    pub(crate) async fn lease<F>(&self, key: &PoolKey, idle: Duration, make: F) -> Result<PoolLease<T>, Error>
    where
        F: Future<Output = Result<Arc<T>, Error>>,
    {
        let hold = self.slot(key, idle)?;
        match hold.0.cell.get_or_try_init(|| make).await {
            Ok(value) => Ok(PoolLease {
                value: Arc::clone(value),
                hold,
            }),
            Err(error) => {
                self.drop_empty(key, &hold.0);
                Err(error)
            }
        }
    }

    fn slot(&self, key: &PoolKey, idle: Duration) -> Result<Hold<T>, Error> {
        let mut evicted = None;
        let mut slots = self.slots.lock();
        let found = slots.get(key).and_then(|slot| slot.cell.get());
        if found.is_some_and(|value| !value.is_alive()) {
            slots.remove(key);
        }
        if !slots.contains_key(key) {
            evicted = self.make_room(&mut slots, key)?;
        }
        let slot = slots.entry(key.clone()).or_insert_with(|| {
            Arc::new(PoolSlot {
                key: key.clone(),
                cell: OnceCell::new(),
                users: AtomicUsize::new(0),
                retired: AtomicBool::new(false),
                touched: Mutex::new(Instant::now()),
                idle,
            })
        });
        let taken = hold(slot);
        drop(slots);
        if let Some(evicted) = evicted {
            evicted.retire();
        }
        Ok(taken)
    }

    /// Takes out the unused member that was used longest ago when a bound is reached.
    fn make_room(
        &self,
        slots: &mut HashMap<PoolKey, Arc<PoolSlot<T>>>,
        key: &PoolKey,
    ) -> Result<Option<Arc<PoolSlot<T>>>, Error> {
        let owned = slots.keys().filter(|other| other.same_holder(key)).count();
        let crowded = owned >= self.bounds.holder;
        if !crowded && slots.len() < self.bounds.total {
            return Ok(None);
        }
        let oldest = slots
            .iter()
            .filter(|(other, slot)| !slot.in_use() && (!crowded || other.same_holder(key)))
            .min_by_key(|(_, slot)| *slot.touched.lock())
            .map(|(key, _)| key.clone());
        let Some(oldest) = oldest else {
            let message = "too many sessions with the provider are in use at once; try again later";
            return Err(Error::new(Code::Busy, message).retry_after(Duration::from_secs(1)));
        };
        Ok(slots.remove(&oldest))
    }

    /// A failed start leaves nothing behind, unless somebody else is still starting.
    fn drop_empty(&self, key: &PoolKey, slot: &Arc<PoolSlot<T>>) {
        let mut slots = self.slots.lock();
        let ours = slots.get(key).is_some_and(|found| Arc::ptr_eq(found, slot));
        if ours && slot.cell.get().is_none() && slot.users.load(Ordering::Acquire) <= 1 {
            slots.remove(key);
        }
    }

    /// Takes a member that turned out useless out of the pool; a newer one under the same key stays.
    pub(crate) fn discard(&self, key: &PoolKey, member: &Arc<T>) {
        let mut slots = self.slots.lock();
        let is_it = |slot: &Arc<PoolSlot<T>>| slot.cell.get().is_some_and(|value| Arc::ptr_eq(value, member));
        if slots.get(key).is_some_and(is_it) {
            slots.remove(key);
        }
    }

    /// Ends what has not been used for its idle time, or has died.
    pub(crate) fn reap(&self, now: Instant) {
        self.take(|_, slot| {
            let dead = slot.cell.get().is_some_and(|value| !value.is_alive());
            dead || (!slot.in_use() && now.duration_since(*slot.touched.lock()) >= slot.idle)
        });
    }

    /// Ends everything of an endpoint once its calls are done.
    pub(crate) fn retire(&self, digest: &[u8; 32]) {
        self.take(|key, _| key.endpoint == *digest);
    }

    /// Takes everything out at once, for the end of the process.
    pub(crate) fn drain(&self) -> Vec<Arc<T>> {
        let slots = std::mem::take(&mut *self.slots.lock());
        let members = slots.into_values().filter_map(|slot| slot.cell.get().cloned());
        members.collect()
    }

    fn take(&self, which: impl Fn(&PoolKey, &PoolSlot<T>) -> bool) {
        let mut slots = self.slots.lock();
        let taken: Vec<_> = slots.extract_if(|key, slot| which(key, slot)).collect();
        drop(slots);
        for (_, slot) in taken {
            slot.retire();
        }
    }

    pub(crate) fn len(&self) -> usize {
        let slots = self.slots.lock();
        slots.values().filter(|slot| slot.cell.get().is_some()).count()
    }
}

fn hold<T: Pooled>(slot: &Arc<PoolSlot<T>>) -> Hold<T> {
    slot.users.fetch_add(1, Ordering::AcqRel);
    Hold(Arc::clone(slot))
}

impl<T: Pooled> PoolSlot<T> {
    fn in_use(&self) -> bool {
        self.users.load(Ordering::Acquire) > 0
    }

    fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        if !self.in_use() {
            self.end();
        }
    }

    fn end(&self) {
        if let Some(value) = self.cell.get() {
            value.end();
        }
    }
}

impl<T: Pooled> Drop for Hold<T> {
    fn drop(&mut self) {
        *self.0.touched.lock() = Instant::now();
        let last = self.0.users.fetch_sub(1, Ordering::AcqRel) == 1;
        if last && self.0.retired.load(Ordering::Acquire) {
            self.0.end();
        }
    }
}

impl<T: Pooled> PoolLease<T> {
    pub(crate) fn key(&self) -> &PoolKey {
        &self.hold.0.key
    }
}

impl<T: Pooled> Deref for PoolLease<T> {
    type Target = Arc<T>;

    fn deref(&self) -> &Arc<T> {
        &self.value
    }
}

#[cfg(test)]
pub(crate) mod tests;
