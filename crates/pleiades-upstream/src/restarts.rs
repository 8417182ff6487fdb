//! When a process or stream that ended may be started again.

use std::time::Duration;

use tokio::time::Instant;

use super::pool::PoolKey;
use pleiades_core::{backoff::doubled, bounded::Bounded, error::Error, text::one_line};

const FIRST: Duration = Duration::from_millis(100);
const LAST: Duration = Duration::from_secs(30);
const REMEMBERED: usize = 4096;
/// Longest reason that is remembered, in characters.
const LONGEST: usize = 400;

/// Deaths and failed starts, by the key of the process or stream.
#[derive(Debug)]
pub(crate) struct Restarts {
    failed: Bounded<PoolKey, FailedStart>,
    /// The first line that is no message, without its figures: they count times and processes.
    noise: Bounded<PoolKey, String>,
}

#[derive(Debug, Clone)]
struct FailedStart {
    failures: u32,
    until: Instant,
    why: StartFailure,
}

/// Why the last one ended or failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StartFailure {
    /// For callers.
    pub(crate) message: String,
    /// For the operator alone.
    pub(crate) cause: String,
}

impl StartFailure {
    fn of(error: &Error) -> Self {
        Self {
            message: one_line(&error.message, LONGEST),
            cause: error.cause(),
        }
    }
}

impl Default for Restarts {
    fn default() -> Self {
        Self {
            failed: Bounded::new(REMEMBERED),
            noise: Bounded::new(REMEMBERED),
        }
    }
}

impl Restarts {
    /// How long to wait before the next start, and why the last one ended or failed.
    pub(crate) fn delay(&self, key: &PoolKey, now: Instant) -> (Duration, StartFailure) {
        let last = self.failed.get(key);
        last.map_or_else(Default::default, |last| {
            (last.until.saturating_duration_since(now), last.why)
        })
    }

    /// Whether the last one ended or failed for this reason.
    pub(crate) fn is_known(&self, key: &PoolKey, why: &Error) -> bool {
        self.failed
            .get(key)
            .is_some_and(|last| last.why == StartFailure::of(why))
    }

    /// Notes the first line that is no message; whether it is another than before.
    pub(crate) fn note_noise(&self, key: &PoolKey, line: &str) -> bool {
        let line: String = line.chars().filter(|each| !each.is_ascii_digit()).collect();
        let mut noise = self.noise.lock();
        let is_new = noise.get(key) != Some(&line);
        noise.put(key.clone(), line);
        is_new
    }

    /// Records a death, or a start that failed, and why; a sound life forgives earlier ones.
    pub(crate) fn record_failure(&self, key: &PoolKey, sound: bool, now: Instant, why: &Error) {
        let mut starts = self.failed.lock();
        let earlier = starts.get(key).filter(|_| !sound).map_or(0, |last| last.failures);
        let failed = FailedStart {
            failures: earlier.saturating_add(1),
            until: now + doubled(FIRST, LAST, earlier),
            why: StartFailure::of(why),
        };
        starts.put(key.clone(), failed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::tests::key;
    use pleiades_core::error::Code;

    fn failure() -> Error {
        Error::new(Code::UpstreamUnreachable, "x")
    }

    #[test]
    fn each_early_death_doubles_the_wait_up_to_its_bound() {
        let (restarts, now) = (Restarts::default(), Instant::now());
        assert_eq!(restarts.delay(&key(1), now).0, Duration::ZERO);
        let mut waits = Vec::new();
        for _ in 0..12 {
            restarts.record_failure(&key(1), false, now, &failure());
            waits.push(restarts.delay(&key(1), now).0.as_millis());
        }
        assert_eq!(waits[..4], [100, 200, 400, 800]);
        assert_eq!(waits[11], LAST.as_millis());
        assert_eq!(restarts.delay(&key(1), now + LAST).0, Duration::ZERO);
        assert_eq!(restarts.delay(&key(2), now).0, Duration::ZERO);
    }

    #[test]
    fn a_line_that_is_no_message_is_news_once_for_each_key() {
        let restarts = Restarts::default();
        assert!(restarts.note_noise(&key(1), "listening, pid 12"));
        assert!(!restarts.note_noise(&key(1), "listening, pid 13"));
        assert!(restarts.note_noise(&key(2), "listening, pid 13"));
        assert!(restarts.note_noise(&key(1), "ready"));
    }

    #[test]
    fn a_sound_life_forgives_earlier_deaths() {
        let (restarts, now) = (Restarts::default(), Instant::now());
        for _ in 0..5 {
            restarts.record_failure(&key(1), false, now, &failure());
        }
        restarts.record_failure(&key(1), true, now, &failure());
        assert_eq!(restarts.delay(&key(1), now).0, FIRST);
    }
}
