//! When a stream that ended is opened again: soon after one that was of use, ever later after those that ended
//! at once without a word, and never sooner than its provider asks.

use std::time::Duration;

/// The pause after a stream that was of use.
const FIRST: Duration = Duration::from_secs(1);
/// The longest pause of our own.
const LAST: Duration = Duration::from_secs(60);
/// A stream that lived this long was of use although it said nothing.
const SOUND: Duration = Duration::from_secs(60);
/// The shortest and the longest pause that a provider may ask for.
const SOONEST: Duration = Duration::from_millis(10);
const LATEST: Duration = Duration::from_secs(3600);

/// The pace of one stream.
#[derive(Debug, Default)]
pub(crate) struct StreamBackoff {
    /// Streams in a row that were of no use.
    failures: u32,
    /// What the provider asked for last (`retry`).
    retry: Option<Duration>,
}

impl StreamBackoff {
    /// Notes the pause that the provider asks for.
    pub(crate) fn set_retry(&mut self, retry: Duration) {
        self.retry = Some(retry.clamp(SOONEST, LATEST));
    }

    /// The pause after a stream that lived so long, or could not be opened; `spoke`: it brought a message.
    pub(crate) fn next(&mut self, lived: Duration, spoke: bool) -> Duration {
        let first = self.retry.unwrap_or(FIRST);
        if spoke || lived >= SOUND {
            self.failures = 0;
            return first;
        }
        let doubled = first.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        doubled.min(LAST.max(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Duration = Duration::ZERO;

    fn pauses(pace: &mut StreamBackoff, spoke: bool) -> Vec<u128> {
        (0..8).map(|_| pace.next(NONE, spoke).as_millis()).collect()
    }

    #[test]
    fn streams_that_end_at_once_are_opened_ever_later() {
        let seconds = [1, 2, 4, 8, 16, 32, 60, 60].map(|it| it * 1000);
        assert_eq!(pauses(&mut StreamBackoff::default(), false), seconds);
    }

    #[test]
    fn one_that_spoke_or_lived_a_minute_is_opened_soon() {
        let mut pace = StreamBackoff::default();
        pauses(&mut pace, false);
        assert_eq!(pace.next(NONE, true), FIRST);
        pauses(&mut pace, false);
        assert_eq!(pace.next(SOUND, false), FIRST);
        assert_eq!(pace.next(NONE, false), FIRST);
    }

    #[test]
    fn the_providers_wish_comes_first_within_bounds() {
        let mut pace = StreamBackoff::default();
        pace.set_retry(Duration::from_millis(500));
        assert_eq!(pauses(&mut pace, false)[..4], [500, 1000, 2000, 4000]);
        pace.set_retry(Duration::from_secs(300));
        assert_eq!(pace.next(NONE, false), Duration::from_secs(300));
        pace.set_retry(Duration::MAX);
        assert_eq!(pace.next(NONE, true), LATEST);
        pace.set_retry(NONE);
        assert_eq!(pace.next(NONE, true), SOONEST);
    }
}
