//! Keeps a stream open. It is opened again soon after one that was of use, ever later after those that ended at
//! once without a message, and never sooner than its provider asks.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use pleiades_core::{backoff::doubled, error::Error};

/// The pause after a stream that was of use.
const FIRST: Duration = Duration::from_secs(1);
/// The longest pause of our own.
const LAST: Duration = Duration::from_secs(60);
/// A stream that lived this long was of use although it brought no message.
const SOUND: Duration = Duration::from_secs(60);
/// The shortest and the longest pause that a provider may ask for.
const SOONEST: Duration = Duration::from_millis(10);
const LATEST: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamState {
    Opening,
    Open,
    Broken,
    /// The provider offers none.
    Never,
    /// What it belongs to is gone.
    Over,
}

pub(crate) trait Reconnect: Send {
    /// Opens it once and reads it to its end, which is `Broken`, `Never` or `Over`.
    fn run_once(&mut self, attempt: &mut Attempt) -> impl Future<Output = Result<StreamState, Error>> + Send;

    /// It ended so; `opened`: it was open before.
    fn ended(&mut self, state: StreamState, opened: bool) -> impl Future<Output = ()> + Send;
}

/// One opening of a stream, and the pauses between them.
#[derive(Debug, Default)]
pub(crate) struct Attempt {
    /// When it was opened; `None` while it is not.
    pub(crate) opened: Option<Instant>,
    pub(crate) spoke: bool,
    pub(crate) backoff: StreamBackoff,
}

pub(crate) async fn keep_open(mut stream: impl Reconnect, provider: &str) {
    let mut attempt = Attempt::default();
    loop {
        (attempt.opened, attempt.spoke) = (None, false);
        let state = stream.run_once(&mut attempt).await.unwrap_or_else(|error| {
            tracing::debug!(provider.name = provider, %error, "no stream of a provider");
            StreamState::Broken
        });
        stream.ended(state, attempt.opened.is_some()).await;
        if state != StreamState::Broken {
            return;
        }
        let lived = attempt.opened.map_or(Duration::ZERO, |opened| opened.elapsed());
        sleep(attempt.backoff.next(lived, attempt.spoke)).await;
    }
}
#[derive(Debug, Default)]
pub(crate) struct StreamBackoff {
    /// Streams in a row that were of no use.
    failures: u32,
    /// What the provider asked for last (`retry`).
    retry: Option<Duration>,
}

impl StreamBackoff {
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
        let pause = doubled(first, LAST.max(first), self.failures);
        self.failures = self.failures.saturating_add(1);
        pause
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use pleiades_core::error::Code;

    use super::*;

    const NONE: Duration = Duration::ZERO;

    /// A stream that ends in these ways one after another; where it could be opened it was open.
    struct Scripted {
        ends: VecDeque<Result<StreamState, Error>>,
        speaks: bool,
        begun: Instant,
        /// After how many seconds it ended, how, and whether it was open.
        seen: Vec<(u64, StreamState, bool)>,
    }

    impl Scripted {
        fn new(ends: impl IntoIterator<Item = Result<StreamState, Error>>, speaks: bool) -> Self {
            Self {
                ends: ends.into_iter().collect(),
                speaks,
                begun: Instant::now(),
                seen: Vec::new(),
            }
        }
    }

    impl Reconnect for &mut Scripted {
        async fn run_once(&mut self, attempt: &mut Attempt) -> Result<StreamState, Error> {
            let end = self.ends.pop_front().unwrap();
            if matches!(end, Ok(StreamState::Broken)) {
                (attempt.opened, attempt.spoke) = (Some(Instant::now()), self.speaks);
            }
            end
        }

        async fn ended(&mut self, state: StreamState, opened: bool) {
            let after = self.begun.elapsed().as_secs();
            self.seen.push((after, state, opened));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_opened_again_ever_later_until_there_is_none() {
        let failed = Err(Error::new(Code::UpstreamUnreachable, "no"));
        let ends = [failed, Ok(StreamState::Broken), Ok(StreamState::Never)];
        let mut stream = Scripted::new(ends, false);
        keep_open(&mut stream, "p").await;
        let seen = [
            (0, StreamState::Broken, false),
            (1, StreamState::Broken, true),
            (3, StreamState::Never, false),
        ];
        assert_eq!(stream.seen, seen);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_brought_a_message_is_opened_again_after_a_second() {
        let ends = [StreamState::Broken, StreamState::Broken, StreamState::Over];
        let mut stream = Scripted::new(ends.map(Ok), true);
        keep_open(&mut stream, "p").await;
        let after: Vec<u64> = stream.seen.iter().map(|(after, ..)| *after).collect();
        assert_eq!(after, [0, 1, 2]);
    }

    fn pauses(backoff: &mut StreamBackoff, spoke: bool) -> Vec<u128> {
        (0..8).map(|_| backoff.next(NONE, spoke).as_millis()).collect()
    }

    #[test]
    fn streams_that_end_at_once_are_opened_ever_later() {
        let seconds = [1, 2, 4, 8, 16, 32, 60, 60].map(|it| it * 1000);
        assert_eq!(pauses(&mut StreamBackoff::default(), false), seconds);
    }

    #[test]
    fn one_that_spoke_or_lived_a_minute_is_opened_soon() {
        let mut backoff = StreamBackoff::default();
        pauses(&mut backoff, false);
        assert_eq!(backoff.next(NONE, true), FIRST);
        pauses(&mut backoff, false);
        assert_eq!(backoff.next(SOUND, false), FIRST);
        assert_eq!(backoff.next(NONE, false), FIRST);
    }

    #[test]
    fn the_providers_wish_comes_first_within_bounds() {
        let mut backoff = StreamBackoff::default();
        backoff.set_retry(Duration::from_millis(500));
        assert_eq!(pauses(&mut backoff, false)[..4], [500, 1000, 2000, 4000]);
        backoff.set_retry(Duration::from_secs(300));
        assert_eq!(backoff.next(NONE, false), Duration::from_secs(300));
        backoff.set_retry(Duration::MAX);
        assert_eq!(backoff.next(NONE, true), LATEST);
        backoff.set_retry(NONE);
        assert_eq!(backoff.next(NONE, true), SOONEST);
    }
}
