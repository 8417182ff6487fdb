//! Wrong calls that were made before: a model that gets the same answer twice makes the same call a third
//! time.

use std::time::{Duration, Instant};

use ring::digest::{Context, SHA256};

use crate::exchange::request::Request;
use pleiades_core::bounded::Bounded;
use pleiades_mcp::RawObject;

/// Calls that are remembered, of everybody (40 bytes each), and for how long.
const REMEMBERED: usize = 8_192;
const FOR: Duration = Duration::from_secs(600);
/// Arguments up to here tell one call from another (bytes).
const COMPARED: usize = 64 * 1024;

type CallDigest = [u8; 32];

#[derive(Debug)]
pub(crate) struct RepeatedCalls(Bounded<CallDigest, Instant>);

impl Default for RepeatedCalls {
    fn default() -> Self {
        Self(Bounded::new(REMEMBERED))
    }
}

impl RepeatedCalls {
    /// Whether the same caller made the same wrong call of this provider before, in the same session where
    /// there is one.
    pub(crate) fn repeats(&self, request: &Request<'_>, (provider, params): (&str, &RawObject)) -> bool {
        let session = request.session().map_or("", |session| session);
        let arguments = params.get("arguments").map_or("", |raw| raw.get());
        let call = digest([&request.holder(), session, provider, arguments]);
        self.is_again(call, Instant::now())
    }

    fn is_again(&self, call: CallDigest, now: Instant) -> bool {
        let before = self.0.insert(call, now);
        before.is_some_and(|before| now.saturating_duration_since(before) < FOR)
    }
}

/// Parts with their lengths, so that none runs into another one.
fn digest(parts: [&str; 4]) -> CallDigest {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&part.len().to_be_bytes());
        context.update(part.as_bytes().get(..COMPARED).unwrap_or(part.as_bytes()));
    }
    let mut digest = CallDigest::default();
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_the_same_for_one_caller_session_and_provider_and_for_a_time() {
        let calls = RepeatedCalls::default();
        let now = Instant::now();
        let call = ["ann", "s", "github", "{}"];
        assert!(!calls.is_again(digest(call), now));
        assert!(calls.is_again(digest(call), now + FOR / 2));
        for other in [
            ["bob", "s", "github", "{}"],
            ["ann", "t", "github", "{}"],
            ["ann", "s", "gitlab", "{}"],
            ["ann", "s", "github", "{ }"],
            ["anns", "", "github", "{}"],
        ] {
            assert!(!calls.is_again(digest(other), now), "{other:?}");
        }
        assert!(!calls.is_again(digest(call), now + FOR * 2), "long ago");
    }

    #[test]
    fn calls_are_remembered_up_to_a_bound_and_compared_up_to_one() {
        let calls = RepeatedCalls::default();
        for at in 0..REMEMBERED * 2 {
            calls.is_again(digest(["", "", "", &at.to_string()]), Instant::now());
        }
        assert_eq!(calls.0.lock().len(), REMEMBERED);
        let long = "x".repeat(COMPARED);
        let of = |arguments: &str| digest(["", "", "", arguments]);
        assert_eq!(of(&format!("{long}a")), of(&format!("{long}b")));
        assert_ne!(of(&long), of(&format!("{long}b")));
    }
}
