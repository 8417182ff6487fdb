//! Ids of tasks as clients of 2026-07-28 know them (SEP-2663): sealed, so that they say whose they are.

use serde::{Deserialize, Serialize};

use crate::exchange::session::Tokens;
use pleiades_mcp::task::Task;

/// How long an id is good at least (seconds), and at most; between them as long as its task is kept.
/// A provider may keep a task longer than it said first, and knows best when it is gone.
const SHORTEST: u64 = 86_400;
const LONGEST: u64 = 30 * 86_400;
const PURPOSE: &str = "task";

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TaskClaims {
    #[serde(rename = "p")]
    pub(crate) provider: String,
    #[serde(rename = "a")]
    pub(crate) fingerprint: Option<[u8; 32]>,
    #[serde(rename = "n", default)]
    pub(crate) account: Option<String>,
    /// What its provider calls it.
    #[serde(rename = "t")]
    pub(crate) id: String,
}

impl TaskClaims {
    pub(super) fn seal(&self, tokens: &Tokens, holder: &str, task: &Task) -> String {
        tokens.seal(PURPOSE, holder, lifetime(task.ttl_ms), self)
    }

    /// What an id says; `None` when it was changed, has expired or is another principal's.
    pub(crate) fn open(tokens: &Tokens, holder: &str, id: &str) -> Option<Self> {
        tokens.open(PURPOSE, holder, id)
    }
}

fn lifetime(ttl_ms: Option<u64>) -> u64 {
    ttl_ms
        .map_or(SHORTEST, |millis| millis / 1_000)
        .clamp(SHORTEST, LONGEST)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::exchange::tests::tokens;
    use pleiades_mcp::task::TaskStatus;

    #[test]
    fn an_id_says_whose_task_it_is_to_its_own_principal_alone() {
        let tokens = tokens();
        let claims = TaskClaims {
            provider: "one".to_owned(),
            fingerprint: Some([7; 32]),
            account: Some("ann@example.com".to_owned()),
            id: "t-1".to_owned(),
        };
        let task = Task {
            id: "t-1".to_owned(),
            status: TaskStatus::Working,
            poll: Duration::from_secs(1),
            ttl_ms: None,
            message: None,
        };
        let id = claims.seal(&tokens, "ann", &task);
        assert_eq!(TaskClaims::open(&tokens, "ann", &id), Some(claims));
        assert_eq!(TaskClaims::open(&tokens, "bob", &id), None);
    }

    #[test]
    fn an_id_is_good_for_as_long_as_its_task_is_kept_between_a_day_and_a_month() {
        assert_eq!(lifetime(None), SHORTEST);
        assert_eq!(lifetime(Some(1_000)), SHORTEST);
        assert_eq!(lifetime(Some(2 * 86_400_000)), 2 * 86_400);
        assert_eq!(lifetime(Some(u64::MAX)), LONGEST);
    }
}
