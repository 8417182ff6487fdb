//! One request to a provider and what comes of it.

use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue};
use tokio::sync::{mpsc, oneshot};

use super::legacy_probe::LegacyProbe;
use pleiades_core::error::RpcFault;
use pleiades_mcp::{DeclaredCapabilities, Id, Raw, RawObject, Revision, Revisions};

/// One request to make.
#[derive(Debug)]
pub struct Call {
    /// Method.
    pub method: &'static str,
    /// Parameters as an object, without protocol metadata: `_meta` may hold the caller's own keys
    /// (trace context included); the upstream module adds what the revision demands and replaces
    /// `progressToken`.
    pub params: RawObject,
    /// Speak this revision.
    pub revision: Revision,
    /// Headers `Mcp-Param-*` for a modern upstream, already encoded.
    pub mirrored: Vec<(HeaderName, HeaderValue)>,
    /// Give up then.
    pub deadline: Instant,
    /// Whether it may be sent twice when the connection broke after bytes were written (lists and
    /// reads; never `tools/call`).
    pub idempotent: bool,
    /// What the provider may ask the caller meanwhile. Part of the key of a legacy session.
    pub declared: DeclaredCapabilities,
    /// Whether progress is wanted; only then a token is sent.
    pub progress: bool,
    /// Progress is told under this token instead of the request's own: a task goes on telling it
    /// under that of the call that made it ([`super::Upstreams::token`]).
    pub token: Option<u64>,
    /// What the provider says and asks beside its answer goes here; `None`: dropped, refused.
    pub events: Option<mpsc::Sender<ProviderEvent>>,
}

/// What arrives beside an answer.
#[derive(Debug)]
pub enum ProviderEvent {
    /// `notifications/progress` parameters without their token.
    Progress(RawObject),
    /// Any other notification.
    Notification {
        /// Method.
        method: String,
        /// Parameters.
        params: Option<Raw>,
    },
    /// A legacy provider wants something of the caller.
    Request(ProviderRequest),
    /// A provider of 2025-11-25 ended its stream before the answer.
    Pause(StreamPause),
}

/// A stream that its provider ended before the answer, to be asked for the rest (2025-11-25,
/// streamable HTTP, "Sending Messages to the Server").
#[derive(Debug)]
pub struct StreamPause {
    /// When the provider is asked, unless `back` says sooner.
    pub retry: Duration,
    /// Asks the provider at once: for a caller that was told of the recess and is back from it.
    pub resume: oneshot::Sender<()>,
}

/// A request of a legacy provider to its caller. Dropped without an answer it is refused.
#[derive(Debug)]
pub struct ProviderRequest {
    /// The provider's own id of it, as `notifications/cancelled` names it.
    pub id: Id,
    /// Method.
    pub method: String,
    /// Parameters.
    pub params: Option<Raw>,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<Raw, RpcFault>>,
}

/// What a provider turned out to be.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Revisions it speaks, as far as is known: see `older`.
    pub revisions: Revisions,
    /// Its capabilities object: that of the newest revision, and what only an older one names.
    pub capabilities: Raw,
    /// `serverInfo`.
    pub server_info: Option<Raw>,
    /// `instructions`.
    pub instructions: Option<String>,
    /// It named modern revisions only, and was not asked for others ([`super::Upstreams::older`]).
    pub legacy: Option<LegacyProbe>,
}

impl Profile {
    /// The profile once it is known whether the provider speaks an older generation too; `None`
    /// while that is not, and when there was nothing to ask.
    #[must_use]
    pub fn settled(&self) -> Option<Self> {
        self.legacy.as_ref()?.apply(self)
    }
}

/// An unsolicited word from a provider, outside of any request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProviderChange {
    /// `notifications/tools/list_changed`.
    Tools,
    /// Resources (and templates).
    Resources,
    /// Prompts.
    Prompts,
    /// The stream or process ended; what was known may be old.
    Lost,
}

impl ProviderChange {
    /// The change that a notification announces.
    pub(crate) fn from_method(method: &str) -> Option<Self> {
        match method {
            "notifications/tools/list_changed" => Some(Self::Tools),
            "notifications/resources/list_changed" => Some(Self::Resources),
            "notifications/prompts/list_changed" => Some(Self::Prompts),
            _ => None,
        }
    }
}
