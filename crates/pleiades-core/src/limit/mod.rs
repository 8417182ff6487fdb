//! Rate, concurrency and breaker of one provider; memory and slots that callers share. Knows a clock
//! and nothing else.
//!
//! A call is let in by all three or by none: a refusal by one charges nothing to the others.

mod breaker;
mod budget;
mod clock;
mod keyed;
pub mod load;
mod rate;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::{num::NonZeroU32, time::Duration};

use self::breaker::{Admission, Breaker};
pub use self::budget::{Budget, BudgetOwner, Full, Reservation};
pub use self::keyed::{KeyedLimit, KeyedPermit};
use self::rate::Limiter;
pub use self::{breaker::BreakerState, clock::MonotonicClock};

/// Which calls share a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Per {
    /// One bucket per principal.
    Caller,
    /// One per tenant.
    Tenant,
    /// One per account at the provider.
    Account,
    /// One for the provider.
    Provider,
    /// One per tool.
    Tool,
}

/// A rate rule: `requests` every `every`, at most `burst` at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rate {
    /// Which calls share a bucket.
    pub per: Per,
    /// Requests per period.
    pub requests: NonZeroU32,
    /// The period.
    pub every: Duration,
    /// Bucket size.
    pub burst: NonZeroU32,
}

/// When a provider is left alone for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerRule {
    /// Failures that open it,
    pub failures: u32,
    /// within this time;
    pub within: Duration,
    /// how long it stays open before one call may try.
    pub open_for: Duration,
}

/// Everything `limits:` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Rate rules, all of which must agree.
    pub rate: Vec<Rate>,
    /// Calls at once.
    pub concurrency: Option<u32>,
    /// The breaker.
    pub breaker: Option<BreakerRule>,
}

/// The rule that refused a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// A rate rule per caller.
    RateCaller,
    /// A rate rule per tenant.
    RateTenant,
    /// A rate rule per account.
    RateAccount,
    /// A rate rule of the provider.
    RateProvider,
    /// A rate rule per tool.
    RateTool,
    /// Too many calls at once.
    Concurrency,
    /// The breaker is open.
    Breaker,
}

impl Rule {
    /// Every rule, for tables of labels. A test compares it with [`Rule::as_str`].
    pub const ALL: [Self; 7] = [
        Self::RateCaller,
        Self::RateTenant,
        Self::RateAccount,
        Self::RateProvider,
        Self::RateTool,
        Self::Concurrency,
        Self::Breaker,
    ];

    /// The stable name, as answers and metrics say it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RateCaller => "rate_caller",
            Self::RateTenant => "rate_tenant",
            Self::RateAccount => "rate_account",
            Self::RateProvider => "rate_provider",
            Self::RateTool => "rate_tool",
            Self::Concurrency => "concurrency",
            Self::Breaker => "breaker",
        }
    }
}

/// A call that was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitRefusal {
    /// By which rule; of several rate rules the one that takes longest.
    pub rule: Rule,
    /// When a try can succeed: exact for rate rules and an open breaker, a guess of at most a
    /// second where it depends on when a running call ends. Never zero.
    pub retry_after: Duration,
}

/// A call by every key that a rule may go by.
#[derive(Debug, Clone, Copy)]
struct CallKeys<'a> {
    caller: &'a str,
    tenant: &'a str,
    account: Option<&'a [u8; 32]>,
    tool: Option<&'a str>,
}

/// The wait where it depends on calls of others.
const SOON: Duration = Duration::from_secs(1);

/// The limits of one provider; lives as long as its descriptor version.
#[derive(Debug)]
pub struct Gate {
    rates: Vec<Limiter>,
    breaker: Option<Breaker>,
    concurrency: Option<u32>,
    running: AtomicU32,
    clock: MonotonicClock,
}

impl Gate {
    /// The gate of these rules.
    #[must_use]
    pub fn new(rules: &Rules) -> Self {
        Self::with_clock(rules, MonotonicClock::monotonic())
    }

    /// The same with another clock.
    #[must_use]
    pub(crate) fn with_clock(rules: &Rules, clock: MonotonicClock) -> Self {
        Self {
            rates: rules.rate.iter().map(|rate| Limiter::new(rate, &clock)).collect(),
            breaker: rules.breaker.clone().map(Breaker::new),
            concurrency: rules.concurrency,
            running: AtomicU32::new(0),
            clock,
        }
    }

    /// Lets a call in, asking the rate rules, then the breaker, then the concurrency limit.
    ///
    /// `caller` and `tenant` are bucket keys: two callers that must not share a bucket need
    /// different ones (name the tenant in both). `account` is the fingerprint of the credential;
    /// `None` is the one that all callers share. Rules per tool ignore a call without `tool`.
    /// Keys are hashed and forgotten when their bucket is full again.
    ///
    /// # Errors
    /// The rule that refuses and when to try again. Nothing was charged then.
    pub fn enter(
        self: &Arc<Self>,
        caller: &str,
        tenant: &str,
        account: Option<&[u8; 32]>,
        tool: Option<&str>,
    ) -> Result<CallPermit, LimitRefusal> {
        let who = CallKeys {
            caller,
            tenant,
            account,
            tool,
        };
        self.ask_rates(who)?;
        // From here on a refusal drops `pass`, which gives back what it holds.
        let mut pass = CallPermit {
            gate: Arc::clone(self),
            slot: false,
            ticket: None,
        };
        if let Some(breaker) = &self.breaker {
            let ticket = breaker.enter(|| self.clock.now());
            pass.ticket = Some(ticket.map_err(|left| LimitRefusal {
                rule: Rule::Breaker,
                retry_after: left,
            })?);
        }
        if let Some(most) = self.concurrency {
            self.take_slot(most)?;
            pass.slot = true;
        }
        self.take_rates(who)?;
        Ok(pass)
    }

    /// Every rule that a call of a tool has to pass, in the order in which they are asked.
    #[must_use]
    pub fn rules(&self) -> Vec<Rule> {
        let mut rules: Vec<Rule> = self.rates.iter().map(Limiter::rule).collect();
        rules.extend(self.breaker.as_ref().map(|_| Rule::Breaker));
        rules.extend(self.concurrency.map(|_| Rule::Concurrency));
        rules
    }

    /// How many calls may run at once; `None` without such a limit.
    #[must_use]
    pub const fn concurrency(&self) -> Option<u32> {
        self.concurrency
    }

    /// The breaker's state; closed when there is none.
    #[must_use]
    pub fn breaker(&self) -> BreakerState {
        self.breaker
            .as_ref()
            .map_or(BreakerState::Closed, |breaker| breaker.state(|| self.clock.now()))
    }

    fn ask_rates(&self, who: CallKeys<'_>) -> Result<(), LimitRefusal> {
        let mut longest: Option<LimitRefusal> = None;
        for rate in &self.rates {
            let Some(wait) = rate.key(who).and_then(|key| rate.wait(key)) else {
                continue;
            };
            if longest.is_none_or(|refusal| refusal.retry_after < wait) {
                longest = Some(LimitRefusal {
                    rule: rate.rule(),
                    retry_after: wait,
                });
            }
        }
        longest.map_or(Ok(()), Err)
    }

    /// Takes what was just asked for. Refused only when another call came between; what other
    /// rules were charged by then is lost, never gained.
    fn take_rates(&self, who: CallKeys<'_>) -> Result<(), LimitRefusal> {
        for rate in &self.rates {
            if let Some(wait) = rate.key(who).and_then(|key| rate.take(key)) {
                return Err(LimitRefusal {
                    rule: rate.rule(),
                    retry_after: wait,
                });
            }
        }
        Ok(())
    }

    fn take_slot(&self, most: u32) -> Result<(), LimitRefusal> {
        self.running
            .fetch_update(AcqRel, Acquire, |running| (running < most).then_some(running + 1))
            .map(|_| ())
            .map_err(|_running| LimitRefusal {
                rule: Rule::Concurrency,
                retry_after: SOON,
            })
    }
}

/// Lives while the call runs; drop releases the concurrency slot.
///
/// A plain drop gives no verdict: right for calls that the caller cancelled.
#[derive(Debug)]
#[must_use = "dropping it ends the call"]
pub struct CallPermit {
    gate: Arc<Gate>,
    slot: bool,
    ticket: Option<Admission>,
}

impl CallPermit {
    /// The provider answered, with an error of its own or not.
    pub fn succeeded(mut self) {
        if let (Some(breaker), Some(ticket)) = (&self.gate.breaker, self.ticket.take()) {
            breaker.succeeded(ticket);
        }
    }

    /// The provider could not be reached, or did not answer in time, or not sensibly.
    pub fn failed(mut self) {
        if let (Some(breaker), Some(ticket)) = (&self.gate.breaker, self.ticket.take()) {
            breaker.failed(ticket, self.gate.clock.now());
        }
    }
}

impl Drop for CallPermit {
    fn drop(&mut self) {
        if let (Some(breaker), Some(ticket)) = (&self.gate.breaker, self.ticket.take()) {
            breaker.abandoned(ticket);
        }
        if self.slot {
            self.gate.running.fetch_sub(1, AcqRel);
        }
    }
}
