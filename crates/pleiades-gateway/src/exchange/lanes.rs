//! What is remembered of legacy sessions beside their ids: which account each uses at a provider, and
//! which addresses its client was asked to open. In this process alone, and bounded.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use pleiades_credential::AccountOwner;

/// Sessions that anything is remembered of; beyond it a quarter goes, those first that were of no use
/// for longest.
const MOST: usize = 16_384;
/// Connections of one session whose account is remembered.
const ACCOUNTS: usize = 64;
/// Addresses of one session that wait to be opened.
const OPEN: usize = 16;

/// What is remembered of sessions, by their ids.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: Mutex<Held>,
    /// How many those are: where it is none, nothing is locked.
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Held {
    lanes: HashMap<Arc<str>, Lane>,
    /// Grows with each use.
    clock: u64,
}

#[derive(Debug, Default)]
struct Lane {
    used: u64,
    accounts: Vec<(Arc<str>, Arc<str>)>,
    open: Vec<(AccountOwner, Box<str>)>,
}

impl Lanes {
    /// From now on a session uses this account of a connection.
    pub(super) fn choose(&self, lane: &Arc<str>, connection: &Arc<str>, account: &Arc<str>) {
        self.with(lane, |held| {
            held.accounts.retain(|(known, _)| known != connection);
            if held.accounts.len() >= ACCOUNTS {
                held.accounts.remove(0);
            }
            held.accounts.push((Arc::clone(connection), Arc::clone(account)));
        });
    }

    /// The account that a session used last, if it named one.
    pub(super) fn chosen(&self, lane: &Arc<str>, connection: &str) -> Option<Arc<str>> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut held = self.lanes.lock();
        held.clock += 1;
        let now = held.clock;
        let lane = held.lanes.get_mut(lane)?;
        lane.used = now;
        let found = lane.accounts.iter().find(|(known, _)| **known == *connection);
        found.map(|(_, account)| Arc::clone(account))
    }

    /// A session's client was asked to open an address, so that an account of this owner exists.
    pub(super) fn asked(&self, lane: &Arc<str>, owner: AccountOwner, elicitation: &str) {
        self.with(lane, |held| {
            if held.open.len() >= OPEN {
                held.open.remove(0);
            }
            held.open.push((owner, elicitation.into()));
        });
    }

    /// Takes out the addresses that are done with, by session: an account of this owner exists.
    pub(super) fn done(&self, owner: &AccountOwner) -> Vec<(Arc<str>, Box<str>)> {
        let mut done = Vec::new();
        for (lane, held) in &mut self.lanes.lock().lanes {
            let over = held.open.extract_if(.., |(of, _)| of == owner);
            done.extend(over.map(|(_, elicitation)| (Arc::clone(lane), elicitation)));
        }
        done
    }

    /// Forgets an ended session.
    pub(super) fn end(&self, lane: &str) {
        let mut held = self.lanes.lock();
        held.lanes.remove(lane);
        self.count.store(held.lanes.len(), Ordering::Relaxed);
    }

    fn with(&self, lane: &Arc<str>, change: impl FnOnce(&mut Lane)) {
        let mut held = self.lanes.lock();
        if !held.lanes.contains_key(lane) && held.lanes.len() >= MOST {
            held.thin();
        }
        held.clock += 1;
        let now = held.clock;
        let entry = held.lanes.entry(Arc::clone(lane)).or_default();
        entry.used = now;
        change(entry);
        self.count.store(held.lanes.len(), Ordering::Relaxed);
    }
}

impl Held {
    /// Lets go of the quarter that was of no use for longest.
    fn thin(&mut self) {
        let mut used: Vec<u64> = self.lanes.values().map(|lane| lane.used).collect();
        let at = used.len() / 4;
        let (_, bound, _) = used.select_nth_unstable(at);
        let bound = *bound;
        self.lanes.retain(|_, lane| lane.used > bound);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: impl Into<String>) -> Arc<str> {
        text.into().into()
    }

    #[test]
    fn a_session_remembers_its_last_account_and_no_others() {
        let lanes = Lanes::default();
        let (mine, other, conn) = (text("mine"), text("other"), text("c"));
        assert_eq!(lanes.chosen(&mine, "c"), None);
        lanes.choose(&mine, &conn, &text("a"));
        lanes.choose(&mine, &conn, &text("b"));
        assert_eq!(lanes.chosen(&mine, "c").as_deref(), Some("b"));
        assert_eq!(lanes.chosen(&mine, "d"), None);
        assert_eq!(lanes.chosen(&other, "c"), None);
        lanes.end("mine");
        assert_eq!(lanes.chosen(&mine, "c"), None);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_latest_stays() {
        let lanes = Lanes::default();
        let (conn, account) = (text("c"), text("a"));
        for number in 0..MOST + 10 {
            lanes.choose(&text(number.to_string()), &conn, &account);
        }
        assert!(lanes.lanes.lock().lanes.len() <= MOST);
        assert_eq!(lanes.chosen(&text("0"), "c"), None);
        assert!(lanes.chosen(&text((MOST + 9).to_string()), "c").is_some());
        let one = text("one");
        for number in 0..ACCOUNTS * 2 {
            lanes.choose(&one, &text(number.to_string()), &account);
        }
        assert_eq!(lanes.lanes.lock().lanes[&one].accounts.len(), ACCOUNTS);
    }

    #[test]
    fn addresses_are_done_with_once_and_only_for_their_owner() {
        let lanes = Lanes::default();
        let owner = |user: &str| AccountOwner {
            tenant: text("t"),
            user: text(user),
            connection: text("c"),
        };
        lanes.asked(&text("one"), owner("alice"), "e-1");
        lanes.asked(&text("two"), owner("bob"), "e-2");
        let done = lanes.done(&owner("alice"));
        assert_eq!(done, [(text("one"), Box::from("e-1"))]);
        assert!(lanes.done(&owner("alice")).is_empty());
    }
}
