//! What is remembered of legacy sessions beside their ids: which account each uses at a provider, and
//! which addresses its client was asked to open. In this process alone, and bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pleiades_core::bounded::Bounded;
use pleiades_credential::AccountOwner;

/// Sessions that anything is remembered of.
const MOST: usize = 16_384;
/// Connections of one session whose account is remembered.
const ACCOUNTS: usize = 64;
/// Addresses of one session that wait to be opened.
const OPEN: usize = 16;

/// What is remembered of sessions, by their ids.
#[derive(Debug)]
pub(crate) struct RememberedSessions {
    sessions: Bounded<Arc<str>, RememberedSession>,
    /// How many those are: where it is none, nothing is locked.
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct RememberedSession {
    accounts: Vec<(Arc<str>, Arc<str>)>,
    open: Vec<(AccountOwner, Box<str>)>,
}

impl Default for RememberedSessions {
    fn default() -> Self {
        Self {
            sessions: Bounded::new(MOST),
            count: AtomicUsize::default(),
        }
    }
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
        let mut sessions = self.sessions.lock();
        let session = sessions.get(session)?;
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
        for (session, remembered) in &mut *self.sessions.lock() {
            let over = remembered.open.extract_if(.., |(of, _)| of == owner);
            done.extend(over.map(|(_, elicitation)| (Arc::clone(session), elicitation)));
        }
        done
    }

    /// Forgets an ended session.
    pub(crate) fn end(&self, session: &str) {
        let mut sessions = self.sessions.lock();
        sessions.pop(session);
        self.count.store(sessions.len(), Ordering::Relaxed);
    }

    fn with(&self, session: &Arc<str>, change: impl FnOnce(&mut RememberedSession)) {
        let mut sessions = self.sessions.lock();
        change(sessions.get_or_insert_mut(Arc::clone(session), RememberedSession::default));
        self.count.store(sessions.len(), Ordering::Relaxed);
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
        assert!(sessions.sessions.lock().len() <= MOST);
        assert_eq!(sessions.chosen(&text("0"), "c"), None);
        assert!(sessions.chosen(&text((MOST + 9).to_string()), "c").is_some());
        let one = text("one");
        for number in 0..ACCOUNTS * 2 {
            sessions.choose(&one, &text(number.to_string()), &account);
        }
        assert_eq!(
            sessions.sessions.lock().get(&one).unwrap().accounts.len(),
            ACCOUNTS
        );
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
