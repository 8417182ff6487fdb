//! How soon a process or stream that died may be started again.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::pool::PoolKey;
use pleiades_core::text::one_line;

const FIRST: Duration = Duration::from_millis(100);
const LAST: Duration = Duration::from_secs(30);
/// Keys remembered.
const REMEMBERED: usize = 4096;
/// Longest reason that is remembered, in characters.
const LONGEST: usize = 400;

/// Deaths and failed starts, by whose process it was.
#[derive(Debug, Default)]
pub(crate) struct Restarts(Mutex<HashMap<PoolKey, FailedStart>>);

#[derive(Debug)]
struct FailedStart {
    failures: u32,
    until: Instant,
    why: String,
}

impl Restarts {
    /// How long to wait before the next start.
    pub(crate) fn delay(&self, key: &PoolKey, now: Instant) -> Duration {
        let failed = self.0.lock();
        let until = failed.get(key).map(|record| record.until);
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    /// Why it ended, or did not start, the last time.
    pub(crate) fn why(&self, key: &PoolKey) -> Option<String> {
        self.0.lock().get(key).map(|record| record.why.clone())
    }

    /// Records a death, or a start that failed, and why; a sound life forgives earlier ones.
    pub(crate) fn record_failure(&self, key: &PoolKey, sound: bool, now: Instant, why: &str) {
        let mut failed = self.0.lock();
        if failed.len() >= REMEMBERED {
            failed.retain(|_, record| record.until > now);
        }
        if failed.len() >= REMEMBERED {
            failed.clear();
        }
        let record = failed.entry(key.clone()).or_insert(FailedStart {
            failures: 0,
            until: now,
            why: String::new(),
        });
        record.why = one_line(why, LONGEST);
        record.failures = if sound {
            1
        } else {
            record.failures.saturating_add(1)
        };
        let delay = FIRST.saturating_mul(1_u32 << u32::min(record.failures - 1, 16));
        record.until = now + delay.min(LAST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::tests::key;

    #[test]
    fn each_early_death_doubles_the_wait_up_to_its_bound() {
        let (restarts, now) = (Restarts::default(), Instant::now());
        assert_eq!(restarts.delay(&key(1), now), Duration::ZERO);
        let mut waits = Vec::new();
        for _ in 0..12 {
            restarts.record_failure(&key(1), false, now, "x");
            waits.push(restarts.delay(&key(1), now).as_millis());
        }
        assert_eq!(waits[..4], [100, 200, 400, 800]);
        assert_eq!(waits[11], LAST.as_millis());
        assert_eq!(restarts.delay(&key(1), now + LAST), Duration::ZERO);
        assert_eq!(restarts.delay(&key(2), now), Duration::ZERO);
    }

    #[test]
    fn a_sound_life_forgives_earlier_deaths() {
        let (restarts, now) = (Restarts::default(), Instant::now());
        for _ in 0..5 {
            restarts.record_failure(&key(1), false, now, "x");
        }
        restarts.record_failure(&key(1), true, now, "x");
        assert_eq!(restarts.delay(&key(1), now), FIRST);
    }
}
