//! Leaves a provider alone for a while after too many failures.
//!
//! Closed, it counts failures in a sliding window; open, it refuses; then one call, the probe,
//! decides whether it closes or opens again. A probe that ends without a verdict is given back.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::{collections::VecDeque, time::Duration};

use parking_lot::Mutex;

use super::BreakerRule;

/// What callers should wait while the probe runs: its end cannot be foreseen.
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
pub(super) enum Admission {
    Ordinary,
    Probe,
}

#[derive(Debug)]
enum BreakerPhase {
    Closed,
    Open {
        since: Duration,
    },
    Probing,
    /// The last probe ended without a verdict.
    Waiting,
}

#[derive(Debug)]
pub(super) struct Breaker {
    rule: BreakerRule,
    /// 1 while `BreakerPhase::Closed`: the usual call takes no lock.
    closed: AtomicU8,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    phase: BreakerPhase,
    /// When the last failures happened, oldest first; never more than `failures`.
    failures: VecDeque<Duration>,
}

impl Breaker {
    pub(super) fn new(rule: BreakerRule) -> Self {
        let inner = Inner {
            phase: BreakerPhase::Closed,
            failures: VecDeque::new(),
        };
        Self {
            rule,
            closed: AtomicU8::new(1),
            inner: Mutex::new(inner),
        }
    }

    /// Lets a call in, or says how long it should wait.
    pub(super) fn enter(&self, now: impl FnOnce() -> Duration) -> Result<Admission, Duration> {
        if self.closed.load(Relaxed) == 1 {
            return Ok(Admission::Ordinary);
        }
        let mut inner = self.inner.lock();
        match inner.phase {
            BreakerPhase::Closed => Ok(Admission::Ordinary),
            BreakerPhase::Probing => Err(WHILE_PROBED.min(self.rule.open_for)),
            BreakerPhase::Waiting => {
                inner.phase = BreakerPhase::Probing;
                Ok(Admission::Probe)
            }
            BreakerPhase::Open { since } => {
                let left = (since + self.rule.open_for).saturating_sub(now());
                if !left.is_zero() {
                    return Err(left);
                }
                inner.phase = BreakerPhase::Probing;
                Ok(Admission::Probe)
            }
        }
    }

    /// The call went well. Only the probe's success matters: failures leave the window by age.
    pub(super) fn succeeded(&self, ticket: Admission) {
        if ticket == Admission::Ordinary {
            return;
        }
        let mut inner = self.inner.lock();
        inner.phase = BreakerPhase::Closed;
        inner.failures.clear();
        self.closed.store(1, Relaxed);
    }

    /// The call failed. One that was let in before the breaker opened says nothing about now.
    pub(super) fn failed(&self, ticket: Admission, now: Duration) {
        let mut inner = self.inner.lock();
        match (&inner.phase, ticket) {
            (_, Admission::Probe) => self.open(&mut inner, now),
            (BreakerPhase::Closed, Admission::Ordinary) => {
                let oldest = now.saturating_sub(self.rule.within);
                while inner.failures.front().is_some_and(|at| *at < oldest) {
                    inner.failures.pop_front();
                }
                inner.failures.push_back(now);
                if inner.failures.len() >= self.rule.failures as usize {
                    self.open(&mut inner, now);
                }
            }
            (
                BreakerPhase::Open { .. } | BreakerPhase::Probing | BreakerPhase::Waiting,
                Admission::Ordinary,
            ) => {}
        }
    }

    /// The call ended without a verdict.
    pub(super) fn abandoned(&self, ticket: Admission) {
        if ticket == Admission::Probe {
            self.inner.lock().phase = BreakerPhase::Waiting;
        }
    }

    pub(super) fn state(&self, now: impl FnOnce() -> Duration) -> BreakerState {
        match self.inner.lock().phase {
            BreakerPhase::Closed => BreakerState::Closed,
            BreakerPhase::Probing | BreakerPhase::Waiting => BreakerState::HalfOpen,
            BreakerPhase::Open { since } if now() >= since + self.rule.open_for => BreakerState::HalfOpen,
            BreakerPhase::Open { .. } => BreakerState::Open,
        }
    }

    fn open(&self, inner: &mut Inner, now: Duration) {
        inner.phase = BreakerPhase::Open { since: now };
        inner.failures.clear();
        self.closed.store(0, Relaxed);
    }
}
