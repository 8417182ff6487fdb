//! The clocks that tokens are kept by.

use std::time::Duration;

use pleiades_core::time::since_epoch;
use tokio::time::Instant;

/// Two clocks of this process: a monotonic one, and unix time that never goes back.
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

    /// Milliseconds since the process began, whatever happens to the machine's clock.
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

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
