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
pub(crate) struct RememberedSessions {
    sessions: Mutex<SessionTable>,
    /// How many those are: where it is none, nothing is locked.
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct SessionTable {
    sessions: HashMap<Arc<str>, RememberedSession>,
    /// Grows with each use.
    clock: u64,
}

#[derive(Debug, Default)]
struct RememberedSession {
    used: u64,
    accounts: Vec<(Arc<str>, Arc<str>)>,
    open: Vec<(AccountOwner, Box<str>)>,
}

impl RememberedSessions {
    /// From now on a session uses this account of a connection.
    pub(crate) fn choose(&self, session: &Arc<str>, connection: &Arc<str>, account: &Arc<str>) {
        self.with(session, |table| {
            table.accounts.retain(|(known, _)| known != connection);
            if table.accounts.len() >= ACCOUNTS {
                table.accounts.remove(0);
            }
            table.accounts.push((Arc::clone(connection), Arc::clone(account)));
        });
    }

    /// The account that a session used last, if it named one.
    pub(crate) fn chosen(&self, session: &Arc<str>, connection: &str) -> Option<Arc<str>> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut table = self.sessions.lock();
        table.clock += 1;
        let now = table.clock;
        let session = table.sessions.get_mut(session)?;
        session.used = now;
        let found = session.accounts.iter().find(|(known, _)| **known == *connection);
        found.map(|(_, account)| Arc::clone(account))
    }

    /// A session's client was asked to open an address, so that an account of this owner exists.
    pub(crate) fn asked(&self, session: &Arc<str>, owner: AccountOwner, elicitation: &str) {
        self.with(session, |table| {
            if table.open.len() >= OPEN {
                table.open.remove(0);
            }
            table.open.push((owner, elicitation.into()));
        });
    }

    /// Takes out the addresses that are done with, by session: an account of this owner exists.
    pub(crate) fn done(&self, owner: &AccountOwner) -> Vec<(Arc<str>, Box<str>)> {
        let mut done = Vec::new();
        for (session, table) in &mut self.sessions.lock().sessions {
            let over = table.open.extract_if(.., |(of, _)| of == owner);
            done.extend(over.map(|(_, elicitation)| (Arc::clone(session), elicitation)));
        }
        done
    }

    /// Forgets an ended session.
    pub(crate) fn end(&self, session: &str) {
        let mut table = self.sessions.lock();
        table.sessions.remove(session);
        self.count.store(table.sessions.len(), Ordering::Relaxed);
    }

    fn with(&self, session: &Arc<str>, change: impl FnOnce(&mut RememberedSession)) {
        let mut table = self.sessions.lock();
        if !table.sessions.contains_key(session) && table.sessions.len() >= MOST {
            table.thin();
        }
        table.clock += 1;
        let now = table.clock;
        let entry = table.sessions.entry(Arc::clone(session)).or_default();
        entry.used = now;
        change(entry);
        self.count.store(table.sessions.len(), Ordering::Relaxed);
    }
}

impl SessionTable {
    /// Lets go of the quarter that was of no use for longest.
    fn thin(&mut self) {
        let mut used: Vec<u64> = self.sessions.values().map(|session| session.used).collect();
        let at = used.len() / 4;
        let (_, bound, _) = used.select_nth_unstable(at);
        let bound = *bound;
        self.sessions.retain(|_, session| session.used > bound);
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
        let sessions = RememberedSessions::default();
        let (mine, other, conn) = (text("mine"), text("other"), text("c"));
        assert_eq!(sessions.chosen(&mine, "c"), None);
        sessions.choose(&mine, &conn, &text("a"));
        sessions.choose(&mine, &conn, &text("b"));
        assert_eq!(sessions.chosen(&mine, "c").as_deref(), Some("b"));
        assert_eq!(sessions.chosen(&mine, "d"), None);
        assert_eq!(sessions.chosen(&other, "c"), None);
        sessions.end("mine");
        assert_eq!(sessions.chosen(&mine, "c"), None);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_latest_stays() {
        let sessions = RememberedSessions::default();
        let (conn, account) = (text("c"), text("a"));
        for number in 0..MOST + 10 {
            sessions.choose(&text(number.to_string()), &conn, &account);
        }
        assert!(sessions.sessions.lock().sessions.len() <= MOST);
        assert_eq!(sessions.chosen(&text("0"), "c"), None);
        assert!(sessions.chosen(&text((MOST + 9).to_string()), "c").is_some());
        let one = text("one");
        for number in 0..ACCOUNTS * 2 {
            sessions.choose(&one, &text(number.to_string()), &account);
        }
        assert_eq!(sessions.sessions.lock().sessions[&one].accounts.len(), ACCOUNTS);
    }

    #[test]
    fn addresses_are_done_with_once_and_only_for_their_owner() {
        let sessions = RememberedSessions::default();
        let owner = |user: &str| AccountOwner {
            tenant: text("t"),
            user: text(user),
            connection: text("c"),
        };
        sessions.asked(&text("one"), owner("alice"), "e-1");
        sessions.asked(&text("two"), owner("bob"), "e-2");
        let done = sessions.done(&owner("alice"));
        assert_eq!(done, [(text("one"), Box::from("e-1"))]);
        assert!(sessions.done(&owner("alice")).is_empty());
    }
}
