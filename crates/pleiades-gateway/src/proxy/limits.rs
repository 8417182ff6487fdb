//! What all callers share and nobody may have all of: memory of bodies and answers, open streams.

use std::{sync::Arc, time::Duration};

use serde_json::json;

use pleiades_core::error::{Code, Error};
use pleiades_core::limit::{Budget, BudgetOwner, KeyedLimit, KeyedPermit};
use pleiades_credential::access::Principal;

/// Bytes of all bodies that are read or worked on, and of all answers on their way.
const BODIES: usize = 256 << 20;
const ANSWERS: usize = 256 << 20;
/// Streams that one caller has open, of all kinds: each costs some 70 KiB.
const STREAMS: usize = 2_048;
/// Streams of one session: clients need one, and one more when they come back before the first is
/// known to be gone.
const OF_SESSION: usize = 16;
/// Streams that connect a server, of one caller: each waits for a person.
const CONNECTS: usize = 32;
/// Questions for connections, of one caller at once: each asks the store.
const QUESTIONS: usize = 32;
/// When memory is worth another try, and when a stream.
const SOON: Duration = Duration::from_secs(1);
const LATER: Duration = Duration::from_secs(5);
/// `data.rule` of a refusal for want of memory.
pub(super) const MEMORY: &str = "memory";

#[derive(Debug)]
pub(super) struct CallerLimits {
    /// Bodies of requests, until they are answered.
    pub(super) bodies: Arc<Budget>,
    /// Answers, from their first byte here to their last byte gone.
    pub(super) answers: Arc<Budget>,
    streams: KeyedLimit<BudgetOwner>,
    sessions: KeyedLimit<Arc<str>>,
    connects: KeyedLimit<BudgetOwner>,
    questions: KeyedLimit<BudgetOwner>,
}

/// Counts a stream among those of its caller, and of its session, while it is open.
#[derive(Debug)]
pub(super) struct StreamSlot(
    #[expect(dead_code, reason = "dropped at its end")] KeyedPermit<BudgetOwner>,
    #[expect(dead_code, reason = "dropped at its end")] Option<KeyedPermit<Arc<str>>>,
);

impl Default for CallerLimits {
    fn default() -> Self {
        Self {
            bodies: Budget::new(BODIES),
            answers: Budget::new(ANSWERS),
            streams: KeyedLimit::new(STREAMS),
            sessions: KeyedLimit::new(OF_SESSION),
            connects: KeyedLimit::new(CONNECTS),
            questions: KeyedLimit::new(QUESTIONS),
        }
    }
}

impl CallerLimits {
    /// Counts one more stream of a caller. Errors: [`Code::Busy`].
    pub(super) fn stream(
        &self,
        principal: &Principal,
        session: Option<&Arc<str>>,
    ) -> Result<StreamSlot, Error> {
        let own = session.map(|session| {
            let permit = self.sessions.acquire(session);
            permit.ok_or_else(|| too_many("this session has 16 streams open; close some"))
        });
        let own = own.transpose()?;
        let permit = self.streams.acquire(&budget_owner(principal));
        let permit =
            permit.ok_or_else(|| too_many("as many streams as a caller may have are open; close some"))?;
        Ok(StreamSlot(permit, own))
    }

    /// Counts one more stream that connects a server. Errors: [`Code::Busy`].
    pub(super) fn connect(&self, principal: &Principal) -> Result<KeyedPermit<BudgetOwner>, Error> {
        let permit = self.connects.acquire(&budget_owner(principal));
        permit.ok_or_else(|| too_many("32 servers are being connected for this caller; finish or close some"))
    }

    /// Counts one more question for a connection. Errors: [`Code::Busy`].
    pub(super) fn question(&self, principal: &Principal) -> Result<KeyedPermit<BudgetOwner>, Error> {
        let permit = self.questions.acquire(&budget_owner(principal));
        permit
            .ok_or_else(|| too_many("32 questions for connections of this caller are open; ask again later"))
    }
}

/// Whom a caller's share is counted for.
pub(super) fn budget_owner(principal: &Principal) -> BudgetOwner {
    (Arc::clone(&principal.tenant), Arc::clone(&principal.user))
}

/// The refusal for want of memory, before anything was run.
pub(super) fn memory_full() -> Error {
    Error::new(
        Code::Busy,
        "the gateway holds as much for its callers, or for this one, as it may; nothing was run, try again",
    )
    .retry_after(SOON)
    .data(json!({ "code": Code::Busy.as_str(), "rule": MEMORY }))
}

/// The refusal in place of an answer that could not be held.
pub(super) fn answer_dropped() -> Error {
    Error::new(
        Code::Busy,
        "the gateway holds as many answers as it may and dropped this one; the call may have been carried \
         out: look before you make it again",
    )
    .retry_after(SOON)
    .data(json!({ "code": Code::Busy.as_str(), "rule": MEMORY }))
}

fn too_many(message: &'static str) -> Error {
    Error::new(Code::Busy, message)
        .retry_after(LATER)
        .data(json!({ "code": Code::Busy.as_str(), "rule": "streams" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_bounded_by_session_and_by_caller() {
        let bounds = CallerLimits::default();
        let (ann, bob) = (Principal::new("acme", "ann"), Principal::new("acme", "bob"));
        let session: Arc<str> = "one".into();
        let mut open: Vec<StreamSlot> = (0..OF_SESSION)
            .map(|_| bounds.stream(&ann, Some(&session)).unwrap())
            .collect();
        assert_eq!(bounds.stream(&ann, Some(&session)).unwrap_err().code, Code::Busy);
        open.extend((OF_SESSION..STREAMS).map(|_| bounds.stream(&ann, None).unwrap()));
        let refused = bounds.stream(&ann, Some(&"two".into())).unwrap_err();
        assert_eq!((refused.code, refused.retry_after), (Code::Busy, Some(LATER)));
        assert!(bounds.stream(&bob, None).is_ok());
        open.clear();
        assert!(bounds.stream(&ann, Some(&session)).is_ok());
    }

    #[test]
    fn questions_for_connections_are_bounded_by_caller() {
        let bounds = CallerLimits::default();
        let (ann, bob) = (Principal::new("acme", "ann"), Principal::new("acme", "bob"));
        let mut open: Vec<_> = (0..QUESTIONS).map(|_| bounds.question(&ann).unwrap()).collect();
        let refused = bounds.question(&ann).unwrap_err();
        assert_eq!((refused.code, refused.retry_after), (Code::Busy, Some(LATER)));
        assert!(bounds.question(&bob).is_ok());
        open.pop();
        assert!(bounds.question(&ann).is_ok());
    }
}
