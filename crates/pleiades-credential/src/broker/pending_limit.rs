//! How many flows are under way: each costs three requests to others and an entry of the vault, and a
//! link alone begins them (OWASP API4:2023).

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{ConnectError, ConnectErrorKind};
use crate::access::Principal;

/// Flows of one link, and of one person, until their time is over. People begin again when something
/// went wrong, and connect several providers in a row.
const OF_LINK: usize = 16;
const OF_PERSON: usize = 64;

/// The flows that were begun here, by whose they are: until when each lasts, and of which link.
#[derive(Debug, Default)]
pub(super) struct PendingLimit(Mutex<HashMap<PersonKey, Vec<Expiry>>>);

/// Tenant and user.
type PersonKey = (Arc<str>, Arc<str>);
/// When a flow is over, and its link.
type Expiry = (u64, Box<str>);

impl PendingLimit {
    /// Counts one more, at a time in unix seconds.
    ///
    /// # Errors
    /// [`Ground::Throttled`].
    pub(super) fn count(
        &self,
        principal: &Principal,
        link: &str,
        (now, until): (u64, u64),
    ) -> Result<(), ConnectError> {
        let mut pending = self.0.lock();
        let key = (Arc::clone(&principal.tenant), Arc::clone(&principal.user));
        let flows = pending.entry(key).or_default();
        flows.retain(|(until, _)| *until > now);
        let of_link = flows.iter().filter(|(_, of)| **of == *link).count();
        if of_link >= OF_LINK || flows.len() >= OF_PERSON {
            return Err(ConnectError::new(
                ConnectErrorKind::Throttled,
                "Too many connections were begun and not finished.",
                "Finish one of them, or wait some minutes until they are over, and begin anew.",
            ));
        }
        flows.push((until, link.into()));
        Ok(())
    }

    /// Forgets what is over.
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
        let under_way = PendingLimit::default();
        let (ann, bob) = (Principal::new("acme", "ann"), Principal::new("acme", "bob"));
        for _ in 0..OF_LINK {
            under_way.count(&ann, "one", (0, 10)).unwrap();
        }
        let refused = under_way.count(&ann, "one", (9, 19)).unwrap_err();
        assert_eq!(refused.kind, ConnectErrorKind::Throttled);
        under_way.count(&bob, "two", (0, 10)).unwrap();
        for more in OF_LINK..OF_PERSON {
            under_way.count(&ann, &more.to_string(), (0, 10)).unwrap();
        }
        assert!(under_way.count(&ann, "last", (9, 19)).is_err());
        under_way.count(&ann, "one", (10, 20)).unwrap();
        under_way.forget_expired(20);
        assert!(under_way.0.lock().is_empty());
    }
}
