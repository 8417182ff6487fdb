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

/// What an attempt was to connect.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Attempted {
    principal: Principal,
    provider: Box<str>,
    /// The account that it named: what became of one says nothing of another.
    account: Option<Box<str>>,
}

impl Attempted {
    pub(super) fn of(principal: &Principal, provider: &str, account: Option<&str>) -> Self {
        Self {
            principal: principal.clone(),
            provider: provider.into(),
            account: account.map(Into::into),
        }
    }
}

/// Why attempts failed.
#[derive(Debug)]
pub(super) struct FailedAttempts(Bounded<Attempted, (Instant, String)>);

impl Default for FailedAttempts {
    fn default() -> Self {
        Self(Bounded::new(MOST))
    }
}

impl FailedAttempts {
    pub(super) fn note(&self, attempted: Attempted, why: &str) {
        let failure = (Instant::now(), without_addresses(why));
        self.0.insert(attempted, failure);
    }

    /// One succeeded.
    pub(super) fn forget(&self, attempted: &Attempted) {
        self.0.remove(attempted);
    }

    /// Why the last one failed: a sentence without its full stop.
    pub(super) fn of(&self, attempted: &Attempted) -> Option<String> {
        let (at, why) = self.0.get(attempted)?;
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
        let of = |who: &Principal, account| Attempted::of(who, "mail", account);
        failed.note(
            of(&ada, None),
            "Mail refused with `invalid_scope`: see\nhttps://mail.example/help now.",
        );
        let reason = failed.of(&of(&ada, None));
        assert_eq!(
            reason.as_deref(),
            Some("Mail refused with `invalid_scope`: see … now")
        );
        let others = [
            of(&bob, None),
            of(&ada, Some("work")),
            Attempted::of(&ada, "tracker", None),
        ];
        assert!(others.iter().all(|it| failed.of(it).is_none()));
        failed.note(of(&bob, None), "no");
        tokio::time::advance(LASTS).await;
        assert!(failed.of(&of(&bob, None)).is_none());
        failed.note(of(&ada, Some("work")), "no");
        assert!(failed.of(&of(&ada, None)).is_none() && failed.of(&of(&ada, Some("work"))).is_some());
        failed.forget(&of(&ada, Some("work")));
        assert!(failed.of(&of(&ada, Some("work"))).is_none());
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded() {
        let (failed, ada) = (FailedAttempts::default(), Principal::new("acme", "ada"));
        for number in 0..=MOST {
            let attempted = Attempted::of(&ada, &number.to_string(), None);
            failed.note(attempted, &"no ".repeat(1_000));
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
