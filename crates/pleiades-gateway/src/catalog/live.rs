//! The changing part of a provider: its lists, its health, the attempt that is running.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::{collections::HashSet, sync::Arc, time::SystemTime};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{CachedLists, Catalogue, State, Tool, ToolRules, bounds::MemoryBounds, pins::Pins};
use pleiades_core::{bounded::Bounded, error::Code};
use pleiades_upstream::Identity;

/// Accounts whose lists are kept per provider.
const ACCOUNTS: usize = 256;

/// Different lists of tools that new ones are compared with.
const COMPARED: usize = 4;

/// Tenants whose last lists are kept per provider, for `facade.exposure: soft`.
const TENANTS: usize = 256;

/// The changing part of a provider.
///
/// It outlives versions of a descriptor that share endpoint, credential and rules on tools.
#[derive(Debug)]
pub struct Live {
    /// Lists for callers signed alike (`none`, `api_key`, a fallback key); empty before discovery.
    pub shared: Arc<CachedLists>,
    accounts: Bounded<[u8; 32], AccountLists>,
    /// What an account of each tenant saw last.
    templates: Bounded<Arc<str>, Arc<Catalogue>>,
    pub(super) bounds: MemoryBounds,
    /// What is known of the approved definitions of its tools.
    pub(super) pins: Arc<Pins>,
    health: Mutex<Health>,
    stale: Mutex<Option<Stale>>,
    /// Whether the log says that the breaker is open.
    is_broken: AtomicBool,
    /// Wakes the provider's task: something failed that it should look into.
    pub(super) wake: Notify,
    /// Ends the provider's task.
    pub(super) end: CancellationToken,
}

#[derive(Debug)]
struct AccountLists {
    cached: Arc<CachedLists>,
    /// Tenant and user whose account it is.
    owner: (Arc<str>, Arc<str>),
}

#[derive(Debug, Clone)]
pub(super) struct Health {
    pub(super) state: State,
    pub(super) reason: Option<String>,
    /// What it came from, where it came from an error.
    cause: Option<HealthCause>,
    pub(super) since: SystemTime,
}

/// What a state came from: the code and the innermost words of an error.
#[derive(Debug, Clone)]
pub(super) struct HealthCause {
    pub(super) code: Code,
    pub(super) root: String,
}

impl HealthCause {
    /// Which deadline passed depends on the moment: one provider that is slow is one cause.
    fn is_same(&self, other: &Self) -> bool {
        self.code == other.code && (self.code == Code::UpstreamTimeout || are_alike(&self.root, &other.root))
    }
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

    pub(super) fn of_guest() -> Self {
        Self::within(MemoryBounds::GUEST, Catalogue::default())
    }

    fn within(bounds: MemoryBounds, shared: Catalogue) -> Self {
        let health = Health {
            state: State::Starting,
            reason: None,
            cause: None,
            since: SystemTime::now(),
        };
        Self::with(bounds, CachedLists::new(shared), health)
    }

    fn with(bounds: MemoryBounds, shared: CachedLists, health: Health) -> Self {
        Self {
            bounds,
            shared: Arc::new(shared),
            accounts: Bounded::new(ACCOUNTS),
            templates: Bounded::new(TENANTS),
            pins: Arc::default(),
            health: Mutex::new(health),
            stale: Mutex::default(),
            is_broken: AtomicBool::new(false),
            wake: Notify::new(),
            end: CancellationToken::new(),
        }
    }

    pub(super) fn with_rules(&self, rules: &ToolRules) -> Self {
        let pins = &self.pins;
        let successor = Self {
            pins: Arc::clone(pins),
            ..Self::with(self.bounds, self.shared.with_rules(rules, pins), self.health())
        };
        let mut accounts = successor.accounts.lock();
        // The one unused for longest goes in first.
        for (account, entry) in self.accounts.lock().iter().rev() {
            let entry = AccountLists {
                cached: Arc::new(entry.cached.with_rules(rules, pins)),
                owner: entry.owner.clone(),
            };
            accounts.put(*account, entry);
        }
        drop(accounts);
        let mut templates = successor.templates.lock();
        for (tenant, old) in self.templates.lock().iter().rev() {
            let mut catalogue = Catalogue::clone(old);
            catalogue.set_tools(pins.admitted(rules, &old.tools));
            templates.put(Arc::clone(tenant), Arc::new(catalogue));
        }
        drop(templates);
        pins.review(rules, &successor.all_offered());
        pins.outdate();
        successor
    }

    /// The tools that callers may have.
    pub(super) fn admitted(&self, rules: &ToolRules, tools: &[Arc<Tool>]) -> Vec<Arc<Tool>> {
        self.pins.admitted(rules, tools)
    }

    /// Shows callers of all accounts the tools that they may have by now; whether these are others for somebody.
    pub(super) fn readmit(&self, rules: &ToolRules) -> bool {
        let readmitted = self.all_cached().into_iter();
        readmitted.fold(false, |any, cached| any | cached.readmit(rules, &self.pins))
    }

    fn all_cached(&self) -> Vec<Arc<CachedLists>> {
        let accounts = self.accounts.lock();
        let own = accounts.iter().map(|(_, entry)| Arc::clone(&entry.cached));
        std::iter::once(Arc::clone(&self.shared)).chain(own).collect()
    }

    /// The tools of all lists before any rule; what accounts share is there once.
    pub(super) fn all_offered(&self) -> Vec<Arc<[Arc<Tool>]>> {
        let (mut seen, mut all) = (HashSet::new(), Vec::new());
        for cached in self.all_cached() {
            let offered = cached.offered();
            if !offered.is_empty() && seen.insert(offered.as_ptr()) {
                all.push(offered);
            }
        }
        all
    }

    /// The lists of the account that a caller uses, made on its first use; those of everybody where
    /// all are signed alike.
    pub(super) fn cached(&self, identity: &Identity) -> Arc<CachedLists> {
        let Some(account) = identity.signature.account.as_ref() else {
            return Arc::clone(&self.shared);
        };
        let mut accounts = self.accounts.lock();
        let entry = accounts.get_or_insert(*account, || AccountLists {
            cached: Arc::default(),
            owner: (Arc::clone(&identity.tenant), Arc::clone(&identity.user)),
        });
        Arc::clone(&entry.cached)
    }

    /// The lists of an account if there are any; it is not in use by that.
    pub(super) fn cached_if_any(&self, account: Option<&[u8; 32]>) -> Option<Arc<CachedLists>> {
        let Some(account) = account else {
            return Some(Arc::clone(&self.shared));
        };
        let accounts = self.accounts.lock();
        accounts.peek(account).map(|entry| Arc::clone(&entry.cached))
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
            .iter()
            .map(|(_, entry)| Arc::clone(&entry.cached))
            .collect();
        let mut tried = HashSet::new();
        for other in others {
            let theirs = other.offered();
            // Many accounts have few different lists.
            if theirs.is_empty() || !tried.insert(theirs.as_ptr()) {
                continue;
            }
            if Tool::are_same(&theirs, offered) {
                catalogue.set_tools(self.admitted(rules, &theirs));
                catalogue.share_index(&other.load());
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
        let (mut tools, mut total, mut surplus) = (HashSet::new(), 0, Vec::new());
        for (at, (account, entry)) in accounts.iter().enumerate() {
            let (list, cost) = entry.cached.cost();
            total += cost.others;
            if tools.insert(list) {
                total += cost.tools;
            }
            if at > 0 && total > self.bounds.accounts {
                surplus.push(*account);
            }
        }
        for account in surplus {
            accounts.pop(&account);
        }
        drop(accounts);
        let mut templates = self.templates.lock();
        let cost = |catalogue: &Arc<Catalogue>| catalogue.cost.tools + catalogue.cost.others;
        let mut total: usize = templates.iter().map(|(_, catalogue)| cost(catalogue)).sum();
        while templates.len() > 1 && total > self.bounds.accounts {
            total -= templates.pop_lru().map_or(0, |(_, catalogue)| cost(&catalogue));
        }
    }

    pub(super) fn forget(&self, tenant: &str, user: &str) {
        let mut accounts = self.accounts.lock();
        let of_user = |entry: &AccountLists| *entry.owner.0 == *tenant && *entry.owner.1 == *user;
        let all = accounts.iter().filter(|(_, entry)| of_user(entry));
        for account in all.map(|(account, _)| *account).collect::<Vec<_>>() {
            accounts.pop(&account);
        }
    }

    pub(super) fn remember_template(&self, tenant: &Arc<str>, catalogue: Arc<Catalogue>) {
        self.templates.insert(Arc::clone(tenant), catalogue);
    }

    /// What an account of this tenant saw last; nothing of other tenants.
    pub(super) fn template(&self, tenant: &str) -> Option<Arc<Catalogue>> {
        self.templates.get(tenant)
    }

    /// What any account saw last, for those who operate the gateway.
    pub(super) fn any_template(&self) -> Option<Arc<Catalogue>> {
        let templates = self.templates.lock();
        let all = templates.iter().map(|(_, catalogue)| catalogue);
        all.max_by_key(|it| it.tools.len()).cloned()
    }

    /// How many tools this process knows: of everybody's lists, else of what any account saw last.
    pub(super) fn known_tools(&self) -> usize {
        let shared = self.shared.load().tools.len();
        self.any_template()
            .map_or(shared, |it| shared.max(it.tools.len()))
    }

    pub(super) fn health(&self) -> Health {
        self.health.lock().clone()
    }

    pub(super) fn state(&self) -> State {
        self.health.lock().state
    }

    /// Sets the health; returns whether state or cause are others than before. Figures do not make another
    /// cause: many texts count attempts, seconds or ports.
    pub(super) fn set_health(
        &self,
        state: State,
        reason: Option<String>,
        cause: Option<HealthCause>,
    ) -> bool {
        let mut health = self.health.lock();
        let is_same = match (&health.cause, &cause) {
            (Some(before), Some(now)) => before.is_same(now),
            _ => is_same_reason(health.reason.as_deref(), reason.as_deref()),
        };
        let is_new = health.state != state || !is_same;
        if health.state != state {
            health.since = SystemTime::now();
        }
        health.state = state;
        health.reason = reason;
        health.cause = cause;
        is_new
    }

    /// Notes that the log says that the breaker is open, or is not; returns whether that is new.
    pub(super) fn note_breaker(&self, is_open: bool) -> bool {
        self.is_broken.load(Relaxed) != is_open && self.is_broken.swap(is_open, Relaxed) != is_open
    }

    pub(super) fn stale(&self) -> Option<Stale> {
        self.stale.lock().clone()
    }

    /// Notes that the newest file cannot be used, or that it can again; returns whether that is new.
    pub(super) fn set_stale(&self, reason: Option<String>) -> bool {
        let mut stale = self.stale.lock();
        let is_new = stale.is_some() != reason.is_some();
        let since = stale.as_ref().map_or_else(SystemTime::now, |stale| stale.since);
        *stale = reason.map(|reason| Stale { reason, since });
        is_new
    }
}

/// Whether two texts name the same cause: figures aside, and where one only says more around the other.
fn is_same_reason(one: Option<&str>, other: Option<&str>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => are_alike(one, other),
        (one, other) => one == other,
    }
}

/// Whether one text is the other but for figures, or holds it.
fn are_alike(one: &str, other: &str) -> bool {
    let words = |text: &str| -> String { text.chars().filter(|each| !each.is_ascii_digit()).collect() };
    let (one, other) = (words(one), words(other));
    one.contains(&other) || other.contains(&one)
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
    fn one_fault_in_other_words_is_no_news() {
        let live = Live::default();
        let set = |code, reason: &str, root: &str| {
            let root = root.to_owned();
            live.set_health(
                State::Unreachable,
                Some(reason.to_owned()),
                Some(HealthCause { code, root }),
            )
        };
        let (down, late) = (Code::UpstreamUnreachable, Code::UpstreamTimeout);
        assert!(set(down, "it cannot be connected to", "a:1: Connection refused"));
        assert!(!set(down, "it cannot be reached", "a:1: Connection refused"));
        assert!(set(down, "it cannot be reached", "a:1: No route to host"));
        assert!(set(late, "it did not answer in time", "no answer within `call`"));
        assert!(!set(
            late,
            "it was not ready in time",
            "not ready within `connect`"
        ));
        assert!(set(down, "it ended", "exit status: 1"));
    }

    #[test]
    fn accounts_that_see_the_same_tools_share_them() {
        let (live, rules) = (Live::default(), ToolRules::default());
        let first = offered(&["a", "b"]);
        let cached = Arc::new(CachedLists::default());
        let claim = cached.claim().expect("nobody reads");
        claim.succeed(super::super::cached::Discovery {
            catalogue: Catalogue::of(first.to_vec()),
            offered: Arc::clone(&first),
            left_out: super::super::bounds::LeftOut::default(),
            failing: None,
            idle: None,
        });
        let entry = AccountLists {
            cached,
            owner: ("t".into(), "u".into()),
        };
        live.accounts.insert([0; 32], entry);
        for (names, shares) in [(&["a", "b"][..], true), (&["a", "c"][..], false)] {
            let mut own = offered(names);
            let mut catalogue = Catalogue::of(own.to_vec());
            live.share_equal_tools(&mut catalogue, &mut own, &rules);
            assert_eq!(Arc::ptr_eq(&own, &first), shares, "{names:?}");
            assert_eq!(Arc::ptr_eq(&catalogue.tools[0], &first[0]), shares);
        }
    }
}
