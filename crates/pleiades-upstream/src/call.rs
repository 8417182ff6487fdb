//! One request to a provider and what comes of it.

use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue};
use tokio::sync::{mpsc, oneshot};

use pleiades_core::error::RpcFault;
use pleiades_mcp::{DeclaredCapabilities, Id, Raw, RawObject, Revision};

/// One request to make.
#[derive(Debug)]
pub struct Call {
    /// Method.
    pub method: &'static str,
    /// Parameters as an object, without protocol metadata: `_meta` may hold the caller's own keys (trace
    /// context included); the upstream module adds what the revision demands and replaces `progressToken`.
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
    /// The progress token, instead of the request's own: a task goes on reporting progress under that
    /// of the call that made it ([`super::Upstreams::progress_token`]).
    pub token: Option<u64>,
    /// What the provider says and asks beside its answer goes here; `None`: dropped, refused.
    pub events: Option<mpsc::Sender<ProviderEvent>>,
}

impl Call {
    /// A request without progress that nobody hears of but by its answer, and that is not repeated.
    #[must_use]
    pub fn new(method: &'static str, params: RawObject, revision: Revision, deadline: Instant) -> Self {
        Self {
            method,
            params,
            revision,
            mirrored: Vec::new(),
            deadline,
            idempotent: false,
            declared: DeclaredCapabilities::default(),
            progress: false,
            token: None,
            events: None,
        }
    }
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
    /// A request of a legacy provider.
    Request(ProviderRequest),
    /// A provider of 2025-11-25 ended its stream before the answer.
    Pause(StreamPause),
}

/// A stream that its provider ended before the answer, to be asked for the rest (2025-11-25,
/// streamable HTTP, "Sending Messages to the Server").
#[derive(Debug)]
pub struct StreamPause {
    /// When the provider is asked, unless `resume` says sooner.
    pub retry: Duration,
    /// Asks the provider at once: for a caller that ended its own stream meanwhile and came back.
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

/// A list that changed, as a provider announces it outside of any request.
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
    pub(crate) fn from_method(method: &str) -> Option<Self> {
        match method {
            "notifications/tools/list_changed" => Some(Self::Tools),
            "notifications/resources/list_changed" => Some(Self::Resources),
            "notifications/prompts/list_changed" => Some(Self::Prompts),
            _ => None,
        }
    }
}
