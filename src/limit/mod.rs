//! Rate, concurrency and breaker of one provider. Knows a clock and nothing else.

use std::{num::NonZeroU32, time::Duration};

/// Whose calls share a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Per {
    /// One bucket per principal.
    Caller,
    /// One per tenant.
    Tenant,
    /// One for the provider.
    Provider,
    /// One per tool.
    Tool,
}

/// A rate rule: `requests` every `every`, at most `burst` at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rate {
    /// Whose bucket.
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

// SEAM (to be implemented in this module; signatures fixed):
//
// pub struct Gate                      // one per provider, lives as long as its descriptor version
// impl Gate {
//     pub fn new(rules: &Rules) -> Gate;
//     /// In order: rate rules, breaker, concurrency. `caller` and `tenant` are bucket keys.
//     pub fn enter(self: &Arc<Self>, caller: &str, tenant: &str, tool: Option<&str>) -> Result<Pass, Refusal>;
//     pub fn breaker(&self) -> BreakerState;
// }
// pub struct Refusal { pub rule: Rule, pub retry_after: Duration }
// pub enum Rule { RateCaller, RateTenant, RateProvider, RateTool, Concurrency, Breaker }  // as_str(): "rate_caller", ...
// pub enum BreakerState { Closed, HalfOpen, Open }     // metric values 0, 1, 2
// /// Held while the call runs; drop releases the concurrency slot.
// pub struct Pass
// impl Pass { pub fn succeeded(self); pub fn failed(self); /* plain drop: neither */ }
