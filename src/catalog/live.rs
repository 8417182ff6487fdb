//! The changing part of a provider: its lists, how it fares, whose attempt is running.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Catalogue, Shelf, State, ToolRules};

/// Accounts whose lists are kept per provider; the one unused for longest goes first.
const ACCOUNTS: usize = 256;

/// The changing part of a provider.
///
/// It outlives versions of a descriptor that share endpoint, credential and rules on tools.
#[derive(Debug)]
pub struct Live {
    /// Lists for callers signed alike (`none`, `api_key`, a fallback key); empty before discovery.
    pub shared: Arc<Shelf>,
    accounts: Mutex<HashMap<[u8; 32], Kept>>,
    health: Mutex<Health>,
    stale: Mutex<Option<Stale>>,
    /// Wakes the provider's task: something failed that it should look into.
    pub(super) wake: Notify,
    /// Ends the provider's task.
    pub(super) end: CancellationToken,
}

#[derive(Debug)]
struct Kept {
    shelf: Arc<Shelf>,
    /// Grows with each use of any account of the provider.
    used: u64,
}

/// How the provider itself fares.
#[derive(Debug, Clone)]
pub(super) struct Health {
    pub(super) state: State,
    pub(super) reason: Option<String>,
    pub(super) since: SystemTime,
}

/// A newer file is broken.
#[derive(Debug, Clone)]
pub(super) struct Stale {
    pub(super) reason: String,
    pub(super) since: SystemTime,
}

impl Default for Live {
    fn default() -> Self {
        Self::new(Catalogue::default())
    }
}

impl Live {
    /// A provider not reached yet; its shared lists are these until it is.
    #[must_use]
    pub fn new(shared: Catalogue) -> Self {
        Self::with(
            Shelf::new(shared),
            Health {
                state: State::Starting,
                reason: None,
                since: SystemTime::now(),
            },
        )
    }

    fn with(shared: Shelf, health: Health) -> Self {
        Self {
            shared: Arc::new(shared),
            accounts: Mutex::default(),
            health: Mutex::new(health),
            stale: Mutex::default(),
            wake: Notify::new(),
            end: CancellationToken::new(),
        }
    }

    /// The same provider under other rules on tools: what is known stays known.
    pub(super) fn under(&self, rules: &ToolRules) -> Self {
        let heir = Self::with(self.shared.under(rules), self.health());
        let accounts = self.accounts.lock();
        let kept = accounts.iter().map(|(account, kept)| {
            (
                *account,
                Kept {
                    shelf: Arc::new(kept.shelf.under(rules)),
                    used: kept.used,
                },
            )
        });
        *heir.accounts.lock() = kept.collect();
        drop(accounts);
        heir
    }

    /// The lists of an account, made on its first use; those of everybody for `None`.
    pub(super) fn shelf(&self, account: Option<&[u8; 32]>) -> Arc<Shelf> {
        let Some(account) = account else {
            return Arc::clone(&self.shared);
        };
        let mut accounts = self.accounts.lock();
        let now = accounts.values().map(|kept| kept.used).max().unwrap_or(0) + 1;
        if !accounts.contains_key(account) && accounts.len() >= ACCOUNTS {
            let oldest = accounts
                .iter()
                .min_by_key(|(_, kept)| kept.used)
                .map(|(account, _)| *account);
            oldest.map(|oldest| accounts.remove(&oldest));
        }
        let kept = accounts.entry(*account).or_insert_with(|| Kept {
            shelf: Arc::new(Shelf::default()),
            used: now,
        });
        kept.used = now;
        Arc::clone(&kept.shelf)
    }

    /// The lists of an account if there are any, without making room for it.
    pub(super) fn known(&self, account: Option<&[u8; 32]>) -> Option<Arc<Shelf>> {
        match account {
            None => Some(Arc::clone(&self.shared)),
            Some(account) => self
                .accounts
                .lock()
                .get(account)
                .map(|kept| Arc::clone(&kept.shelf)),
        }
    }

    pub(super) fn health(&self) -> Health {
        self.health.lock().clone()
    }

    pub(super) fn state(&self) -> State {
        self.health.lock().state
    }

    /// Notes how the provider fares; says whether that is another state than before.
    pub(super) fn fares(&self, state: State, reason: Option<String>) -> bool {
        let mut health = self.health.lock();
        let changed = health.state != state;
        if changed {
            health.since = SystemTime::now();
        }
        health.state = state;
        health.reason = reason;
        changed
    }

    pub(super) fn stale(&self) -> Option<Stale> {
        self.stale.lock().clone()
    }

    /// Notes that the newest file cannot be used, or that it can again; says whether that is new.
    pub(super) fn set_stale(&self, reason: Option<String>) -> bool {
        let mut stale = self.stale.lock();
        let is_new = stale.is_some() != reason.is_some();
        let since = stale.as_ref().map_or_else(SystemTime::now, |stale| stale.since);
        *stale = reason.map(|reason| Stale { reason, since });
        is_new
    }
}

/// A duration between half of it and the whole, so that many providers do not act in step.
pub(super) fn jittered(whole: Duration) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    // Each `RandomState` has keys of its own; no cryptography is asked for here.
    let chance = RandomState::new().hash_one(()) % 1024;
    let chance = u32::try_from(chance).unwrap_or(0);
    whole / 2 + whole / 2 * chance / 1024
}
