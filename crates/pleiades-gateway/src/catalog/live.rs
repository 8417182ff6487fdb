//! The changing part of a provider: its lists, how it fares, whose attempt is running.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{CachedLists, Catalogue, State, Tool, ToolRules, bounds::MemoryBounds};
use pleiades_upstream::Identity;

/// Accounts whose lists are kept per provider; the one unused for longest goes first.
const ACCOUNTS: usize = 256;

/// Different lists of tools that new ones are compared with.
const COMPARED: usize = 4;

/// Tenants whose last lists are kept per provider, for `facade.exposure: soft`; beyond it one goes.
const TENANTS: usize = 256;

/// The changing part of a provider.
///
/// It outlives versions of a descriptor that share endpoint, credential and rules on tools.
#[derive(Debug)]
pub struct Live {
    /// Lists for callers signed alike (`none`, `api_key`, a fallback key); empty before discovery.
    pub shared: Arc<CachedLists>,
    accounts: Mutex<HashMap<[u8; 32], AccountLists>>,
    /// What an account of each tenant saw last.
    templates: Mutex<HashMap<Arc<str>, Arc<Catalogue>>>,
    /// How much is kept.
    pub(super) bounds: MemoryBounds,
    health: Mutex<Health>,
    stale: Mutex<Option<Stale>>,
    /// Wakes the provider's task: something failed that it should look into.
    pub(super) wake: Notify,
    /// Ends the provider's task.
    pub(super) end: CancellationToken,
}

#[derive(Debug)]
struct AccountLists {
    cached: Arc<CachedLists>,
    /// Grows with each use of any account of the provider.
    used: u64,
    /// Tenant and user whose account it is.
    owner: (Arc<str>, Arc<str>),
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
        Self::within(MemoryBounds::NAMED, shared)
    }

    /// The same, with as much room as a server has that a caller connected.
    pub(super) fn of_guest() -> Self {
        Self::within(MemoryBounds::GUEST, Catalogue::default())
    }

    fn within(bounds: MemoryBounds, shared: Catalogue) -> Self {
        Self::with(
            bounds,
            CachedLists::new(shared),
            Health {
                state: State::Starting,
                reason: None,
                since: SystemTime::now(),
            },
        )
    }

    fn with(bounds: MemoryBounds, shared: CachedLists, health: Health) -> Self {
        Self {
            bounds,
            shared: Arc::new(shared),
            accounts: Mutex::default(),
            templates: Mutex::default(),
            health: Mutex::new(health),
            stale: Mutex::default(),
            wake: Notify::new(),
            end: CancellationToken::new(),
        }
    }

    /// The same provider under other rules on tools: what is known stays known.
    pub(super) fn with_rules(&self, rules: &ToolRules) -> Self {
        let heir = Self::with(self.bounds, self.shared.with_rules(rules), self.health());
        let accounts = self.accounts.lock();
        let entry = accounts.iter().map(|(account, entry)| {
            (
                *account,
                AccountLists {
                    cached: Arc::new(entry.cached.with_rules(rules)),
                    used: entry.used,
                    owner: entry.owner.clone(),
                },
            )
        });
        *heir.accounts.lock() = entry.collect();
        drop(accounts);
        heir.inherit(&self.templates.lock(), rules);
        heir
    }

    /// What is left of templates under other rules on tools.
    fn inherit(&self, templates: &HashMap<Arc<str>, Arc<Catalogue>>, rules: &ToolRules) {
        let admitted = templates.iter().map(|(tenant, old)| {
            let mut catalogue = Catalogue::clone(old);
            let tools = old.tools.iter().filter(|tool| rules.admits_tool(tool));
            catalogue.set_tools(tools.cloned().collect());
            (Arc::clone(tenant), Arc::new(catalogue))
        });
        *self.templates.lock() = admitted.collect();
    }

    /// The lists of the account that a caller uses, made on its first use; those of everybody where
    /// all are signed alike.
    pub(super) fn cached(&self, identity: &Identity) -> Arc<CachedLists> {
        let Some(account) = identity.signature.account.as_ref() else {
            return Arc::clone(&self.shared);
        };
        let mut accounts = self.accounts.lock();
        let now = accounts.values().map(|entry| entry.used).max().unwrap_or(0) + 1;
        if !accounts.contains_key(account) && accounts.len() >= ACCOUNTS {
            let oldest = accounts
                .iter()
                .min_by_key(|(_, entry)| entry.used)
                .map(|(account, _)| *account);
            oldest.map(|oldest| accounts.remove(&oldest));
        }
        let entry = accounts.entry(*account).or_insert_with(|| AccountLists {
            cached: Arc::new(CachedLists::default()),
            used: now,
            owner: (Arc::clone(&identity.tenant), Arc::clone(&identity.user)),
        });
        entry.used = now;
        Arc::clone(&entry.cached)
    }

    /// The lists of an account if there are any, without making room for it.
    pub(super) fn cached_if_any(&self, account: Option<&[u8; 32]>) -> Option<Arc<CachedLists>> {
        match account {
            None => Some(Arc::clone(&self.shared)),
            Some(account) => self
                .accounts
                .lock()
                .get(account)
                .map(|entry| Arc::clone(&entry.cached)),
        }
    }

    /// Takes the tools of another account in place of new ones that are the same: most accounts of a
    /// provider see the same.
    pub(super) fn share_equal_tools(
        &self,
        catalogue: &mut Catalogue,
        offered: &mut Arc<[Arc<Tool>]>,
        rules: &ToolRules,
    ) {
        let others: Vec<Arc<CachedLists>> = self
            .accounts
            .lock()
            .values()
            .map(|entry| Arc::clone(&entry.cached))
            .collect();
        let mut tried = HashSet::new();
        for other in others {
            let theirs = other.offered();
            // Many accounts have few different lists.
            if theirs.is_empty() || !tried.insert(theirs.as_ptr()) {
                continue;
            }
            if Tool::are_same(&theirs, offered) {
                catalogue.set_tools(
                    theirs
                        .iter()
                        .filter(|it| rules.admits_tool(it))
                        .cloned()
                        .collect(),
                );
                *offered = theirs;
                return;
            }
            if tried.len() >= COMPARED {
                return;
            }
        }
    }

    /// Forgets the accounts unused for longest, until what all of them take is within bounds.
    pub(super) fn trim(&self) {
        let mut accounts = self.accounts.lock();
        let mut order: Vec<([u8; 32], u64)> = accounts.iter().map(|(id, entry)| (*id, entry.used)).collect();
        order.sort_unstable_by_key(|(_, used)| std::cmp::Reverse(*used));
        let (mut tools, mut total) = (HashSet::new(), 0);
        for (at, (account, _)) in order.iter().enumerate() {
            let Some(entry) = accounts.get(account) else {
                continue;
            };
            let (list, cost) = entry.cached.cost();
            total += cost.others;
            if tools.insert(list) {
                total += cost.tools;
            }
            if at > 0 && total > self.bounds.accounts {
                accounts.remove(account);
            }
        }
        drop(accounts);
        let mut templates = self.templates.lock();
        while templates.len() > 1
            && templates
                .values()
                .map(|it| it.cost.tools + it.cost.others)
                .sum::<usize>()
                > self.bounds.accounts
        {
            let any = templates.keys().next().cloned();
            any.map(|any| templates.remove(&any));
        }
    }

    /// Forgets the lists of every account of a user.
    pub(super) fn forget(&self, tenant: &str, user: &str) {
        let of_user = |entry: &AccountLists| *entry.owner.0 == *tenant && *entry.owner.1 == *user;
        self.accounts.lock().retain(|_, entry| !of_user(entry));
    }

    /// Notes what an account of a tenant saw.
    pub(super) fn remember_template(&self, tenant: &Arc<str>, catalogue: Arc<Catalogue>) {
        let mut templates = self.templates.lock();
        if !templates.contains_key(tenant) && templates.len() >= TENANTS {
            let any = templates.keys().next().cloned();
            any.map(|any| templates.remove(&any));
        }
        templates.insert(Arc::clone(tenant), catalogue);
    }

    /// What an account of this tenant saw last; nothing of other tenants.
    pub(super) fn template(&self, tenant: &str) -> Option<Arc<Catalogue>> {
        self.templates.lock().get(tenant).cloned()
    }

    /// What any account saw last, for those who operate the gateway.
    pub(super) fn any_template(&self) -> Option<Arc<Catalogue>> {
        let templates = self.templates.lock();
        templates.values().max_by_key(|it| it.tools.len()).cloned()
    }

    pub(super) fn health(&self) -> Health {
        self.health.lock().clone()
    }

    pub(super) fn state(&self) -> State {
        self.health.lock().state
    }

    /// Notes how the provider fares; says whether that is another state than before.
    pub(super) fn set_health(&self, state: State, reason: Option<String>) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;
    use pleiades_mcp::RawObject;

    fn offered(names: &[&str]) -> Arc<[Arc<Tool>]> {
        let tool = |name: &&str| {
            let mut raw = RawObject::new();
            raw.put("name", name);
            Arc::new(Tool::new(name, (*name).to_owned(), raw))
        };
        names.iter().map(tool).collect()
    }

    #[test]
    fn accounts_that_see_the_same_tools_share_them() {
        let (live, rules) = (Live::default(), ToolRules::default());
        let first = offered(&["a", "b"]);
        let known = Arc::new(CachedLists::default());
        let claim = known.claim().expect("nobody reads");
        claim.succeed(super::super::discover::Discovery {
            catalogue: Catalogue::of(first.to_vec()),
            offered: Arc::clone(&first),
            left_out: super::super::bounds::LeftOut::default(),
            failing: None,
            idle: None,
        });
        let entry = AccountLists {
            cached: known,
            used: 1,
            owner: ("t".into(), "u".into()),
        };
        live.accounts.lock().insert([0; 32], entry);
        for (names, shares) in [(&["a", "b"][..], true), (&["a", "c"][..], false)] {
            let mut own = offered(names);
            let mut catalogue = Catalogue::of(own.to_vec());
            live.share_equal_tools(&mut catalogue, &mut own, &rules);
            assert_eq!(Arc::ptr_eq(&own, &first), shares, "{names:?}");
            assert_eq!(Arc::ptr_eq(&catalogue.tools[0], &first[0]), shares);
        }
    }
}
