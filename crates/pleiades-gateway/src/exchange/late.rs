//! Providers that were late for a union's list: nobody waits for one again until it has answered, and
//! whoever listens is told when it has.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use super::Step;
use crate::catalog::Provider;

/// Late providers that are remembered; beyond it all are forgotten, and waited for once more.
const MOST: usize = 4_096;

/// Which lists: those of an endpoint, and of one caller where they are not everybody's.
type Key = ([u8; 32], Option<String>);

/// Who was late, and whether its answer is still waited for beside.
#[derive(Debug, Default)]
pub(super) struct Late(Mutex<HashMap<Key, bool>>);

impl Late {
    /// Whether it was late, or failed, last time.
    pub(super) fn has(&self, key: &Key) -> bool {
        self.0.lock().contains_key(key)
    }

    /// Notes that it failed.
    pub(super) fn failed(&self, key: Key) {
        self.note(key, false);
    }

    /// Notes that its answer is waited for; false when it is already.
    fn begins(&self, key: Key) -> bool {
        self.note(key, true)
    }

    fn note(&self, key: Key, waits: bool) -> bool {
        let mut all = self.0.lock();
        if all.len() >= MOST && !all.contains_key(&key) {
            all.clear();
        }
        let waited = all.entry(key).or_insert(false);
        let is_new = waits && !*waited;
        *waited |= waits;
        is_new
    }

    /// Notes that it answered.
    pub(super) fn came(&self, key: &Key) {
        self.0.lock().remove(key);
    }

    /// Notes that its answer is waited for no more.
    fn ends(&self, key: &Key, came: bool) {
        let mut all = self.0.lock();
        if came {
            all.remove(key);
        } else if let Some(waited) = all.get_mut(key) {
            *waited = false;
        }
    }
}

impl Step<'_> {
    pub(super) fn late_key(&self, provider: &Provider) -> Key {
        let own = (!provider.need.is_shared()).then(|| self.peer.principal.binding());
        (provider.endpoint.digest, own)
    }

    /// Goes on waiting for a provider's lists beside the request, within `connect` and `call` of the
    /// provider, and tells this caller's listeners when they are there. (Those of shared lists are
    /// told by the reading itself.)
    pub(super) fn wait_beside(&self, provider: &Arc<Provider>, key: Key) {
        let Some(exchange) = self.exchange.me.upgrade() else {
            return;
        };
        if !exchange.late.begins(key.clone()) {
            return;
        }
        let (scope, peer, wanted) = (self.scope.clone(), self.peer.clone(), self.wanted.clone());
        let provider = Arc::clone(provider);
        tokio::spawn(async move {
            let came = {
                let mut step = exchange.step(&scope, &peer);
                step.wanted = wanted;
                let part = Box::pin(step.part(&provider));
                let part = exchange.closing.run_until_cancelled(part).await;
                matches!(part, Some(Ok(_)))
            };
            exchange.late.ends(&key, came);
            if came && key.1.is_some() {
                let who = &peer.principal;
                exchange
                    .catalog
                    .account_changed(&provider, &who.tenant, &who.user);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Key {
        ([0; 32], Some(number.to_string()))
    }

    #[test]
    fn who_was_late_is_late_until_it_came_and_is_waited_for_once() {
        let late = Late::default();
        assert!(!late.has(&key(1)));
        assert!(late.begins(key(1)) && !late.begins(key(1)) && late.has(&key(1)));
        late.ends(&key(1), false);
        assert!(late.has(&key(1)) && late.begins(key(1)));
        late.ends(&key(1), true);
        assert!(!late.has(&key(1)));
        late.failed(key(1));
        assert!(late.has(&key(1)) && late.begins(key(1)));
        late.came(&key(1));
        assert!(!late.has(&key(1)));
    }

    #[test]
    fn no_more_are_remembered_than_allowed() {
        let late = Late::default();
        for number in 0..=MOST {
            late.failed(key(number));
        }
        assert!(late.0.lock().len() <= MOST && late.has(&key(MOST)));
    }
}
