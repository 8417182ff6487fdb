//! Providers that were late for a union's list: nobody waits for one again until it has answered, and
//! whoever listens is told when it has.

use crate::catalog::Provider;
use pleiades_core::bounded::Bounded;
use pleiades_credential::access::Principal;

/// Late providers that are remembered; one that is forgotten is waited for once more.
const MOST: usize = 4_096;

/// Which lists: those of an endpoint, and of one caller where they are not everybody's.
pub(super) type LateKey = ([u8; 32], Option<String>);

/// Who was late, and whether its answer is still waited for beside.
#[derive(Debug)]
pub(super) struct LateProviders(Bounded<LateKey, bool>);

impl Default for LateProviders {
    fn default() -> Self {
        Self(Bounded::new(MOST))
    }
}

impl LateProviders {
    /// Whether it was late, or failed, last time.
    pub(super) fn has(&self, key: &LateKey) -> bool {
        self.0.contains(key)
    }

    pub(super) fn failed(&self, key: LateKey) {
        self.note(key, false);
    }

    /// Notes that its answer is waited for; false when it is already.
    pub(super) fn begins(&self, key: LateKey) -> bool {
        self.note(key, true)
    }

    fn note(&self, key: LateKey, waits: bool) -> bool {
        let mut all = self.0.lock();
        let waited = all.get_or_insert_mut(key, || false);
        let is_new = waits && !*waited;
        *waited |= waits;
        is_new
    }

    pub(super) fn answered(&self, key: &LateKey) {
        self.0.remove(key);
    }

    pub(super) fn ends(&self, key: &LateKey, answered: bool) {
        let mut all = self.0.lock();
        if answered {
            all.pop(key);
        } else if let Some(waited) = all.get_mut(key) {
            *waited = false;
        }
    }
}

pub(super) fn late_key(provider: &Provider, principal: &Principal) -> LateKey {
    let own = (!provider.need.is_shared()).then(|| principal.binding());
    (provider.endpoint.digest, own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> LateKey {
        ([0; 32], Some(number.to_string()))
    }

    #[test]
    fn who_was_late_is_late_until_it_came_and_is_waited_for_once() {
        let late = LateProviders::default();
        assert!(!late.has(&key(1)));
        assert!(late.begins(key(1)) && !late.begins(key(1)) && late.has(&key(1)));
        late.ends(&key(1), false);
        assert!(late.has(&key(1)) && late.begins(key(1)));
        late.ends(&key(1), true);
        assert!(!late.has(&key(1)));
        late.failed(key(1));
        assert!(late.has(&key(1)) && late.begins(key(1)));
        late.answered(&key(1));
        assert!(!late.has(&key(1)));
    }

    #[test]
    fn no_more_are_remembered_than_allowed() {
        let late = LateProviders::default();
        for number in 0..=MOST {
            late.failed(key(number));
        }
        assert!(late.0.lock().len() <= MOST && late.has(&key(MOST)));
    }
}
