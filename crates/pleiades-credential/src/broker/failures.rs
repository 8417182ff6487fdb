//! What became of the last attempt to connect, for the answer that asks to connect again: of this replica alone,
//! and for an hour.

use std::time::Duration;

use tokio::time::Instant;

use crate::access::Principal;
use pleiades_core::{bounded::Bounded, text::head};

/// Attempts that are remembered.
const MOST: usize = 4_096;
/// So long after it failed an attempt says something about the next one.
const LASTS: Duration = Duration::from_secs(3_600);
/// Longest sentence, in characters.
const LONGEST: usize = 300;

/// Why attempts failed, by caller and provider.
#[derive(Debug)]
pub(super) struct FailedAttempts(Bounded<(Principal, Box<str>), (Instant, String)>);

impl Default for FailedAttempts {
    fn default() -> Self {
        Self(Bounded::new(MOST))
    }
}

impl FailedAttempts {
    pub(super) fn note(&self, principal: &Principal, provider: &str, why: &str) {
        let failure = (Instant::now(), without_addresses(why));
        self.0.insert((principal.clone(), provider.into()), failure);
    }

    /// One succeeded.
    pub(super) fn forget(&self, principal: &Principal, provider: &str) {
        self.0.remove(&(principal.clone(), provider.into()));
    }

    /// Why the last one failed: a sentence without its full stop.
    pub(super) fn of(&self, principal: &Principal, provider: &str) -> Option<String> {
        let (at, why) = self.0.get(&(principal.clone(), provider.into()))?;
        (at.elapsed() < LASTS).then_some(why)
    }
}

/// On one line, bounded, and without the addresses that a provider may have put into its words.
fn without_addresses(why: &str) -> String {
    let words = why.split_whitespace().map(|word| match word.contains("://") {
        true => "…",
        false => word,
    });
    let line = words.collect::<Vec<_>>().join(" ");
    head(&line, LONGEST).trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_shown_to_its_caller_for_an_hour_or_until_a_success() {
        let (failed, ada, bob) = (
            FailedAttempts::default(),
            Principal::new("acme", "ada"),
            Principal::new("acme", "bob"),
        );
        failed.note(
            &ada,
            "mail",
            "Mail refused with `invalid_scope`: see\nhttps://mail.example/help now.",
        );
        let reason = failed.of(&ada, "mail");
        assert_eq!(
            reason.as_deref(),
            Some("Mail refused with `invalid_scope`: see … now")
        );
        assert!(failed.of(&bob, "mail").is_none() && failed.of(&ada, "tracker").is_none());
        failed.note(&bob, "mail", "no");
        tokio::time::advance(LASTS).await;
        assert!(failed.of(&bob, "mail").is_none());
        failed.note(&ada, "mail", "no");
        failed.forget(&ada, "mail");
        assert!(failed.of(&ada, "mail").is_none());
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded() {
        let (failed, ada) = (FailedAttempts::default(), Principal::new("acme", "ada"));
        for number in 0..=MOST {
            failed.note(&ada, &number.to_string(), &"no ".repeat(1_000));
        }
        let attempts = failed.0.lock();
        assert_eq!(attempts.len(), MOST);
        assert!(
            attempts
                .iter()
                .all(|(_, (_, why))| why.chars().count() <= LONGEST)
        );
    }
}
