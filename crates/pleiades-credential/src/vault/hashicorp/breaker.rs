//! A circuit breaker: a Vault that cannot answer is not asked at the rate of requests. For a moment,
//! longer each time, callers get the last fault at once.

use std::time::Duration;

use parking_lot::Mutex;
use pleiades_core::{backoff::doubled, random};
use tokio::time::Instant;

use crate::vault::{Fault, Kind};

/// The first pause.
const FIRST: Duration = Duration::from_millis(250);
/// The longest pause: how long recovery may go unnoticed.
const LONGEST: Duration = Duration::from_secs(4);

#[derive(Debug, Default)]
pub(super) struct VaultBreaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    trips: u64,
    /// Pauses since Vault last answered.
    streak: u32,
    pause: Option<BreakerPause>,
}

#[derive(Debug)]
struct BreakerPause {
    until: Instant,
    kind: Kind,
    message: String,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct BreakerPass(u64);

impl VaultBreaker {
    /// Lets a caller ask. After a pause one is let through, and the others wait for what it finds.
    pub(super) fn enter(&self) -> Result<BreakerPass, Fault> {
        let mut state = self.0.lock();
        let (trips, now) = (state.trips, Instant::now());
        let length = length(state.streak);
        if let Some(pause) = &mut state.pause {
            if now < pause.until {
                return Err(pause.fault(now));
            }
            pause.until = now + length;
        }
        Ok(BreakerPass(trips))
    }

    /// Whether nobody else has found Vault dead since `pass` was given: for those who had to queue.
    pub(super) fn recheck(&self, pass: BreakerPass) -> Result<(), Fault> {
        let state = self.0.lock();
        match &state.pause {
            Some(pause) if state.trips != pass.0 => Err(pause.fault(Instant::now())),
            _ => Ok(()),
        }
    }

    /// Vault answered.
    pub(super) fn worked(&self) {
        let mut state = self.0.lock();
        if state.pause.take().is_some() {
            tracing::info!("vault answers again");
        }
        state.streak = 0;
    }

    /// What became of a request: only a Vault that cannot serve anybody is left alone.
    pub(super) fn failed(&self, fault: &Fault) {
        let pause = match fault.kind {
            Kind::Unreachable | Kind::Sealed => Duration::ZERO,
            Kind::Throttled => fault.retry_after.unwrap_or_default(),
            Kind::Failed
            | Kind::Redirected
            | Kind::Denied
            | Kind::Unopened
            | Kind::Corrupt
            | Kind::Refused => return,
        };
        let mut state = self.0.lock();
        if state.pause.is_none() {
            tracing::warn!(
                outcome = fault.kind.as_str(),
                error = fault as &dyn std::error::Error,
                "vault does not serve: what is in memory serves on"
            );
        }
        let length = pause.clamp(length(state.streak), LONGEST);
        state.trips += 1;
        state.streak = state.streak.saturating_add(1);
        state.pause = Some(BreakerPause {
            until: Instant::now() + jittered(length),
            kind: fault.kind,
            message: fault.message.clone(),
        });
    }
}

impl BreakerPause {
    fn fault(&self, now: Instant) -> Fault {
        Fault {
            retry_after: Some(self.until.saturating_duration_since(now).max(FIRST)),
            ..Fault::new(self.kind, self.message.clone())
        }
    }
}

fn length(streak: u32) -> Duration {
    doubled(FIRST, LONGEST, streak)
}

/// Between three quarters of a span and the whole, so that replicas do not ask in step.
pub(super) fn jittered(span: Duration) -> Duration {
    random::between(span / 4 * 3, span)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn dead() -> Fault {
        Fault::new(Kind::Unreachable, "it is dead")
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_vault_is_asked_by_one_at_a_time_and_ever_more_seldom() {
        let breaker = VaultBreaker::default();
        let mut asked = 0;
        for _ in 0..10_000 {
            if breaker.enter().is_ok() {
                asked += 1;
                breaker.failed(&dead());
            }
            advance(Duration::from_millis(10)).await;
        }
        // 100 seconds: 250 ms doubled up to 4 s, a quarter shorter at most.
        assert!((25..=40).contains(&asked), "{asked}");
        let fault = breaker.enter().err();
        assert!(fault.is_none_or(|fault| fault.kind == Kind::Unreachable && fault.retry_after.is_some()));
    }

    #[tokio::test(start_paused = true)]
    async fn one_prober_is_let_through_and_its_success_lets_everybody_in() {
        let breaker = VaultBreaker::default();
        breaker.enter().unwrap();
        breaker.failed(&dead());
        advance(LONGEST).await;
        breaker.enter().unwrap();
        assert!(breaker.enter().is_err());
        breaker.worked();
        assert!(breaker.enter().is_ok() && breaker.enter().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_queued_get_what_the_first_found() {
        let breaker = VaultBreaker::default();
        let (first, second) = (breaker.enter().unwrap(), breaker.enter().unwrap());
        assert!(breaker.recheck(first).is_ok());
        breaker.failed(&dead());
        assert!(breaker.recheck(second).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_stops_nobody() {
        let breaker = VaultBreaker::default();
        breaker.failed(&Fault::new(Kind::Denied, "no"));
        breaker.failed(&Fault::new(Kind::Failed, "no"));
        assert!(breaker.enter().is_ok());
    }
}
