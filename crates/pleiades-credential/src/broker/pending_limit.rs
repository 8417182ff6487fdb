//! Bounds the sign-ins that are pending: each costs three requests to others and an entry of the vault, and a
//! link alone begins them (OWASP API4:2023).

use std::collections::HashMap;

use parking_lot::Mutex;

use super::{ConnectError, ConnectErrorKind};
use crate::access::Principal;

/// Sign-ins of one link, and of one person, until they expire. People begin again when something
/// went wrong, and connect several providers in a row.
const OF_LINK: usize = 16;
const OF_PERSON: usize = 64;

/// The sign-ins that were begun here, by person: when each expires, and of which link it is.
#[derive(Debug, Default)]
pub(super) struct PendingLimit(Mutex<HashMap<Principal, Vec<Expiry>>>);

/// When a sign-in expires, in unix seconds, and its link.
type Expiry = (u64, Box<str>);

impl PendingLimit {
    /// Counts one more, at a time in unix seconds.
    /// Errors: [`ConnectErrorKind::Throttled`].
    pub(super) fn count(
        &self,
        principal: &Principal,
        link: &str,
        (now, until): (u64, u64),
    ) -> Result<(), ConnectError> {
        let mut pending = self.0.lock();
        let flows = pending.entry(principal.clone()).or_default();
        flows.retain(|(until, _)| *until > now);
        let of_link = flows.iter().filter(|(_, of)| **of == *link).count();
        if of_link >= OF_LINK || flows.len() >= OF_PERSON {
            return Err(ConnectError::new(
                ConnectErrorKind::Throttled,
                "Too many sign-ins were begun and not finished.",
                "Finish one of them, or open the link again in some minutes.",
            ));
        }
        flows.push((until, link.into()));
        Ok(())
    }

    pub(super) fn forget_expired(&self, now: u64) {
        self.0.lock().retain(|_, flows| {
            flows.retain(|(until, _)| *until > now);
            !flows.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_are_bounded_by_link_and_by_person_until_they_are_over() {
        let limit = PendingLimit::default();
        let (ann, bob) = (Principal::new("acme", "ann"), Principal::new("acme", "bob"));
        for _ in 0..OF_LINK {
            limit.count(&ann, "one", (0, 10)).unwrap();
        }
        let refused = limit.count(&ann, "one", (9, 19)).unwrap_err();
        assert_eq!(refused.kind, ConnectErrorKind::Throttled);
        limit.count(&bob, "two", (0, 10)).unwrap();
        for more in OF_LINK..OF_PERSON {
            limit.count(&ann, &more.to_string(), (0, 10)).unwrap();
        }
        assert!(limit.count(&ann, "last", (9, 19)).is_err());
        limit.count(&ann, "one", (10, 20)).unwrap();
        limit.forget_expired(20);
        assert!(limit.0.lock().is_empty());
    }
}
