//! What time it is, for those who keep tokens.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Two clocks of this process: one that only grows, and unix time that never goes back.
#[derive(Debug)]
pub(super) struct TokenClock {
    start: Instant,
    unix: Duration,
}

impl TokenClock {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            unix: since_epoch(),
        }
    }

    /// Milliseconds since the process began; unmoved by whoever sets the machine's clock.
    pub(super) fn monotonic_ms(&self) -> u64 {
        millis(self.start.elapsed())
    }

    /// Unix milliseconds. The later of the machine's clock and of what has passed since the start:
    /// a clock that is set back makes no token young again, and a machine that slept, where only
    /// one of the two went on, sees what expired meanwhile.
    pub(super) fn unix_ms(&self) -> u64 {
        millis(since_epoch().max(self.unix.saturating_add(self.start.elapsed())))
    }

    /// Unix seconds.
    pub(super) fn unix(&self) -> u64 {
        self.unix_ms() / 1000
    }
}

fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
