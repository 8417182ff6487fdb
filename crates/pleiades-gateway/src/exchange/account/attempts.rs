//! Authorizations that did not help, counted so that nobody is asked to connect without end: at most
//! three for each account and operation, whatever they were refused for.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use pleiades_credential::AccountKey;

/// Authorizations for one operation of one account.
const AUTHORIZATIONS: u8 = 3;
/// Operations whose authorizations are counted; then counting begins anew.
const MOST: usize = 16_384;
/// After so long without another that did not help, what stood in the way may have been mended.
const FORGOTTEN: Duration = Duration::from_secs(3_600);

/// What a refused request used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UsedAccount<'a> {
    /// The account.
    pub(crate) account: &'a Arc<str>,
    /// Its fingerprint: another one after it was connected again.
    pub(crate) fingerprint: Option<[u8; 32]>,
    /// What was to be done.
    pub(crate) operation: &'a str,
}

/// Refused authorizations by account and operation, until the operation succeeds.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    tried: Mutex<HashMap<AccountKey, HashMap<Box<str>, AuthorizationCount>>>,
    /// Operations in it: successes look here first.
    count: AtomicUsize,
}

#[derive(Debug)]
struct AuthorizationCount {
    count: u8,
    /// The account as it was the last time: another one after it was connected again.
    was: Option<[u8; 32]>,
    at: Instant,
}

impl AuthorizationCount {
    fn is_spent(&self) -> bool {
        self.count >= AUTHORIZATIONS && self.at.elapsed() < FORGOTTEN
    }
}

impl Attempts {
    /// Counts an authorization that was refused, once however often it is; whether a person may be
    /// asked for another.
    pub(super) fn refused(&self, key: &AccountKey, used: UsedAccount<'_>) -> bool {
        let mut tried = self.tried.lock();
        if self.count.load(Relaxed) >= MOST {
            tried.clear();
            self.count.store(0, Relaxed);
        }
        let of_key = tried.entry(key.clone()).or_default();
        let now = Instant::now();
        let tried = of_key.entry(used.operation.into()).or_insert_with(|| {
            self.count.fetch_add(1, Relaxed);
            AuthorizationCount {
                count: 0,
                was: None,
                at: now,
            }
        });
        if tried.at.elapsed() >= FORGOTTEN {
            tried.count = 0;
        }
        if tried.count == 0 || tried.was != used.fingerprint {
            tried.count = tried.count.saturating_add(1);
            tried.was = used.fingerprint;
            tried.at = now;
        }
        !tried.is_spent()
    }

    /// Whether nobody is asked for another authorization of an account, for this operation.
    pub(super) fn is_spent(&self, key: &AccountKey, operation: &str) -> bool {
        if self.is_empty() {
            return false;
        }
        let tried = self.tried.lock();
        let of_key = tried.get(key);
        of_key
            .and_then(|of_key| of_key.get(operation))
            .is_some_and(AuthorizationCount::is_spent)
    }

    /// Whether this very authorization was counted for this operation.
    pub(super) fn is_counted(&self, key: &AccountKey, used: UsedAccount<'_>) -> bool {
        let tried = self.tried.lock();
        let of_key = tried.get(key).and_then(|it| it.get(used.operation));
        of_key.is_some_and(|it| it.was == used.fingerprint)
    }

    /// Whether nothing is counted at all.
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Relaxed) == 0
    }

    /// An operation succeeded: what was counted for it is forgotten.
    pub(super) fn succeeded(&self, key: &AccountKey, operation: &str) {
        let mut tried = self.tried.lock();
        let Some(of_key) = tried.get_mut(key) else { return };
        if of_key.remove(operation).is_some() {
            self.count.fetch_sub(1, Relaxed);
        }
        if of_key.is_empty() {
            tried.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pleiades_credential::AccountOwner;

    fn key(account: &str) -> AccountKey {
        AccountKey {
            owner: AccountOwner {
                tenant: "acme".into(),
                user: "ada".into(),
                connection: "mail".into(),
            },
            account: account.into(),
        }
    }

    fn refused(attempts: &Attempts, key: &AccountKey, print: u8, operation: &str) -> bool {
        let used = UsedAccount {
            account: &Arc::clone(&key.account),
            fingerprint: Some([print; 32]),
            operation,
        };
        attempts.refused(key, used)
    }

    #[tokio::test(start_paused = true)]
    async fn three_authorizations_of_an_account_for_an_operation_and_none_more() {
        let (attempts, ada) = (Attempts::default(), key("ada"));
        for (print, asks) in [(1, true), (1, true), (2, true), (2, true), (3, false), (4, false)] {
            assert_eq!(refused(&attempts, &ada, print, "read"), asks, "{print}");
        }
        assert!(attempts.is_spent(&ada, "read"));
        assert!(!attempts.is_spent(&ada, "write") && !attempts.is_spent(&key("bob"), "read"));
        assert!(refused(&attempts, &ada, 4, "write") && refused(&attempts, &key("bob"), 4, "read"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_begins_anew_and_so_does_an_hour() {
        let (attempts, ada) = (Attempts::default(), key("ada"));
        let spend = || {
            (1..=3)
                .map(|print| refused(&attempts, &ada, print, "read"))
                .collect::<Vec<_>>()
        };
        assert_eq!(spend(), [true, true, false]);
        attempts.succeeded(&ada, "read");
        assert!(attempts.is_empty() && !attempts.is_spent(&ada, "read"));
        assert_eq!(spend(), [true, true, false]);
        tokio::time::advance(FORGOTTEN).await;
        assert!(!attempts.is_spent(&ada, "read"));
        assert!(refused(&attempts, &ada, 3, "read"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_counted_is_bounded() {
        let (attempts, ada) = (Attempts::default(), key("ada"));
        for at in 0..=MOST {
            refused(&attempts, &ada, 1, &format!("tool-{at}"));
        }
        assert_eq!(attempts.count.load(Relaxed), 1);
        assert_eq!(attempts.tried.lock().values().map(HashMap::len).sum::<usize>(), 1);
    }
}
