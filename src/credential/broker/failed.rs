//! What became of the last attempt to connect, for the answer that asks to connect again: of this replica alone,
//! and for an hour.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::access::Principal;

/// Attempts that are remembered; then remembering begins anew.
const MOST: usize = 4_096;
/// So long after it failed an attempt says something about the next one.
const LASTS: Duration = Duration::from_secs(3_600);
/// Longest sentence, in characters.
const LONGEST: usize = 300;

/// Why attempts failed, by whose they were and of which provider.
#[derive(Debug, Default)]
pub(super) struct Failed(Mutex<HashMap<Whose, (Instant, String)>>);

/// Tenant, user and provider.
type Whose = (Arc<str>, Arc<str>, Box<str>);

impl Failed {
    /// Remembers why one failed.
    pub(super) fn note(&self, whose: &Principal, provider: &str, why: &str) {
        let mut held = self.0.lock();
        if held.len() >= MOST {
            held.clear();
        }
        held.insert(key(whose, provider), (Instant::now(), spare(why)));
    }

    /// One came right.
    pub(super) fn forget(&self, whose: &Principal, provider: &str) {
        self.0.lock().remove(&key(whose, provider));
    }

    /// Why the last one failed: a sentence without its full stop.
    pub(super) fn of(&self, whose: &Principal, provider: &str) -> Option<String> {
        let held = self.0.lock();
        if held.is_empty() {
            return None;
        }
        let (at, why) = held.get(&key(whose, provider))?;
        (at.elapsed() < LASTS).then(|| why.clone())
    }
}

fn key(whose: &Principal, provider: &str) -> Whose {
    (
        Arc::clone(&whose.tenant),
        Arc::clone(&whose.user),
        provider.into(),
    )
}

/// On one line, bounded, and without the addresses that a provider may have put into its words.
fn spare(why: &str) -> String {
    let words = why.split_whitespace().map(|word| match word.contains("://") {
        true => "…",
        false => word,
    });
    let line = words.collect::<Vec<_>>().join(" ");
    let cut: String = line.chars().take(LONGEST).collect();
    cut.trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_failed_is_told_to_whom_it_happened_for_an_hour_and_until_it_comes_right() {
        let (failed, ada, bob) = (
            Failed::default(),
            Principal::new("acme", "ada"),
            Principal::new("acme", "bob"),
        );
        failed.note(
            &ada,
            "mail",
            "Mail refused with `invalid_scope`: see\nhttps://mail.example/help now.",
        );
        let said = failed.of(&ada, "mail");
        assert_eq!(
            said.as_deref(),
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
        let (failed, ada) = (Failed::default(), Principal::new("acme", "ada"));
        for number in 0..=MOST {
            failed.note(&ada, &number.to_string(), &"no ".repeat(1_000));
        }
        let held = failed.0.lock();
        assert_eq!(held.len(), 1);
        assert!(held.values().all(|(_, why)| why.chars().count() <= LONGEST));
    }
}
