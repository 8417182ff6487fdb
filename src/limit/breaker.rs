//! Leaves a provider alone for a while after too many failures.
//!
//! Closed, it counts failures in a sliding window; open, it refuses; then one call, the probe,
//! decides whether it closes or opens again. A probe that ends without a verdict is given back.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU8, Ordering::Relaxed},
    time::Duration,
};

use parking_lot::Mutex;

use super::BreakerRule;

/// What is said to callers while the probe runs: its end cannot be foreseen.
const WHILE_PROBED: Duration = Duration::from_secs(1);

/// State of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// Calls pass.
    Closed,
    /// One call may try.
    HalfOpen,
    /// Calls are refused.
    Open,
}

impl BreakerState {
    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }

    /// Value of the metric `breaker_state`: 0, 1, 2.
    #[must_use]
    pub const fn gauge(self) -> i64 {
        match self {
            Self::Closed => 0,
            Self::HalfOpen => 1,
            Self::Open => 2,
        }
    }
}

/// How a call was let in; its verdict is weighed accordingly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ticket {
    Ordinary,
    Probe,
}

#[derive(Debug)]
enum Phase {
    Closed,
    Open {
        since: Duration,
    },
    Probing,
    /// The last probe ended without a verdict.
    Waiting,
}

/// The breaker of one provider.
#[derive(Debug)]
pub(super) struct Breaker {
    rule: BreakerRule,
    /// 1 while `Phase::Closed`: the usual call takes no lock.
    closed: AtomicU8,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    phase: Phase,
    /// When the last failures happened, oldest first; never more than `failures`.
    failures: VecDeque<Duration>,
}

impl Breaker {
    pub(super) fn new(rule: BreakerRule) -> Self {
        let inner = Inner {
            phase: Phase::Closed,
            failures: VecDeque::new(),
        };
        Self {
            rule,
            closed: AtomicU8::new(1),
            inner: Mutex::new(inner),
        }
    }

    /// Lets a call in, or says how long it should wait.
    pub(super) fn enter(&self, now: impl FnOnce() -> Duration) -> Result<Ticket, Duration> {
        if self.closed.load(Relaxed) == 1 {
            return Ok(Ticket::Ordinary);
        }
        let mut inner = self.inner.lock();
        match inner.phase {
            Phase::Closed => Ok(Ticket::Ordinary),
            Phase::Probing => Err(WHILE_PROBED.min(self.rule.open_for)),
            Phase::Waiting => {
                inner.phase = Phase::Probing;
                Ok(Ticket::Probe)
            }
            Phase::Open { since } => {
                let left = (since + self.rule.open_for).saturating_sub(now());
                if !left.is_zero() {
                    return Err(left);
                }
                inner.phase = Phase::Probing;
                Ok(Ticket::Probe)
            }
        }
    }

    /// The call went well. Only the probe's success matters: failures leave the window by age.
    pub(super) fn succeeded(&self, ticket: Ticket) {
        if ticket == Ticket::Ordinary {
            return;
        }
        let mut inner = self.inner.lock();
        inner.phase = Phase::Closed;
        inner.failures.clear();
        self.closed.store(1, Relaxed);
    }

    /// The call failed. One that was let in before the breaker opened says nothing about now.
    pub(super) fn failed(&self, ticket: Ticket, now: Duration) {
        let mut inner = self.inner.lock();
        match (&inner.phase, ticket) {
            (_, Ticket::Probe) => self.open(&mut inner, now),
            (Phase::Closed, Ticket::Ordinary) => {
                let oldest = now.saturating_sub(self.rule.within);
                while inner.failures.front().is_some_and(|at| *at < oldest) {
                    inner.failures.pop_front();
                }
                inner.failures.push_back(now);
                if inner.failures.len() >= self.rule.failures as usize {
                    self.open(&mut inner, now);
                }
            }
            (Phase::Open { .. } | Phase::Probing | Phase::Waiting, Ticket::Ordinary) => {}
        }
    }

    /// The call ended without a verdict.
    pub(super) fn abandoned(&self, ticket: Ticket) {
        if ticket == Ticket::Probe {
            self.inner.lock().phase = Phase::Waiting;
        }
    }

    /// Where it stands.
    pub(super) fn state(&self, now: impl FnOnce() -> Duration) -> BreakerState {
        match self.inner.lock().phase {
            Phase::Closed => BreakerState::Closed,
            Phase::Probing | Phase::Waiting => BreakerState::HalfOpen,
            Phase::Open { since } if now() >= since + self.rule.open_for => BreakerState::HalfOpen,
            Phase::Open { .. } => BreakerState::Open,
        }
    }

    fn open(&self, inner: &mut Inner, now: Duration) {
        inner.phase = Phase::Open { since: now };
        inner.failures.clear();
        self.closed.store(0, Relaxed);
    }
}
