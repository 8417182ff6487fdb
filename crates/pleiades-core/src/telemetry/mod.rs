//! Names of every metric, the events that move them, and the log.
//!
//! The only module that touches `prometheus`; it knows none of ours.

pub mod events;
pub mod log;
pub mod names;

mod fields;
mod layer;
mod line;
mod metrics;
mod provider;
mod redact;
mod request;
mod request_id;
pub mod request_scope;
mod sink;
pub mod tail;
mod terminal;
#[cfg(test)]
mod tests;

pub use self::metrics::Metrics;
pub use self::provider::{InflightGuard, ProviderMetrics};
pub use self::request_id::{REQUEST_ID, RequestIds};

/// The view that a request used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum View {
    /// One tool per provider.
    Meta,
    /// The real tools.
    Tool,
    /// The provider's own endpoint.
    Relay,
}

impl View {
    /// Every view, in the order of their discriminants.
    pub const ALL: [Self; 3] = [Self::Meta, Self::Tool, Self::Relay];

    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Tool => "tool",
            Self::Relay => "relay",
        }
    }
}
