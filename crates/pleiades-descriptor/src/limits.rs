//! `limits:` of a descriptor.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scalar::Span;

/// What a provider is protected by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Rate rules, all of which must agree to a call. Default: none.
    pub rate: Vec<RateConfig>,
    /// Calls to the provider that may run at once, 1 to 100000; more are refused. Default: no limit.
    #[schemars(range(min = 1, max = 100_000))]
    pub concurrency: Option<u32>,
    /// Leaves the provider alone for a while after failures. Default: none.
    pub breaker: Option<BreakerConfig>,
}

/// A rate rule: `requests` in each period `every`, up to `burst` at once.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Rate")]
pub struct RateConfig {
    /// Whose calls share one bucket.
    pub per: RateScope,
    /// Calls allowed in each period, 1 to 4294967295.
    #[schemars(range(min = 1, max = 4_294_967_295_u32))]
    pub requests: NonZeroU32,
    /// The period, 1s to 24h.
    #[schemars(extend("x-min" = "1s", "x-max" = "24h"))]
    pub every: Span,
    /// Calls allowed at once after a pause, 1 to 4294967295. Default: the value of `requests`.
    #[serde(default)]
    #[schemars(range(min = 1, max = 4_294_967_295_u32))]
    pub burst: Option<NonZeroU32>,
}

impl RateConfig {
    /// The bucket's size.
    #[must_use]
    pub fn burst(&self) -> NonZeroU32 {
        self.burst.unwrap_or(self.requests)
    }
}

/// Whose calls share a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Per")]
pub enum RateScope {
    /// One bucket for each caller.
    Caller,
    /// One for each tenant.
    Tenant,
    /// One for each account at the provider: each connected one, each key that callers bring, one for
    /// a key that all callers share.
    Account,
    /// One for the provider.
    Provider,
    /// One for each tool.
    Tool,
}

impl RateScope {
    /// Whether a request on the relay says which bucket is its own: the relay reads heads alone, never a body.
    /// Where it does not, the rule closes the relay, since it could not hold there.
    #[must_use]
    pub const fn is_known_to_relay(self) -> bool {
        match self {
            Self::Caller | Self::Tenant | Self::Account | Self::Provider => true,
            Self::Tool => false,
        }
    }
}

/// A circuit breaker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Breaker")]
pub struct BreakerConfig {
    /// Failed calls within `within` that open it, 1 to 4294967295.
    #[schemars(range(min = 1, max = 4_294_967_295_u32))]
    pub failures: u32,
    /// The time in which failures are counted, 1s to 24h.
    #[schemars(extend("x-min" = "1s", "x-max" = "24h"))]
    pub within: Span,
    /// How long it stays open before one call may try again, 1s to 24h.
    #[schemars(extend("x-min" = "1s", "x-max" = "24h"))]
    pub open_for: Span,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            failures: 5,
            within: Span::secs(30),
            open_for: Span::secs(15),
        }
    }
}
