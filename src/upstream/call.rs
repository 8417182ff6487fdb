//! One request to a provider and what comes of it.

use std::time::Instant;

use http::{HeaderName, HeaderValue};
use tokio::sync::mpsc;

use crate::mcp::{Raw, RawObject, Revision, Revisions};

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
    /// Notifications of this request (`progress`, with the token removed) go here; `None`: dropped.
    /// Whether a token is sent upstream depends on it.
    pub progress: Option<mpsc::Sender<Event>>,
}

/// What arrives beside an answer.
#[derive(Debug, Clone)]
pub enum Event {
    /// `notifications/progress` parameters without their token.
    Progress(RawObject),
    /// Any other notification of the request's stream.
    Other {
        /// Method.
        method: String,
        /// Parameters.
        params: Option<Raw>,
    },
}

/// What a provider turned out to be.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Revisions it speaks.
    pub revisions: Revisions,
    /// Its capabilities object (of the newest revision).
    pub capabilities: Raw,
    /// `serverInfo`.
    pub server_info: Option<Raw>,
    /// `instructions`.
    pub instructions: Option<String>,
}

/// An unsolicited word from a provider, outside of any request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// `notifications/tools/list_changed`.
    Tools,
    /// Resources (and templates).
    Resources,
    /// Prompts.
    Prompts,
    /// The stream or process ended; what was known may be old.
    Lost,
}

impl Change {
    /// The change that a notification announces.
    pub(crate) fn of(method: &str) -> Option<Self> {
        match method {
            "notifications/tools/list_changed" => Some(Self::Tools),
            "notifications/resources/list_changed" => Some(Self::Resources),
            "notifications/prompts/list_changed" => Some(Self::Prompts),
            _ => None,
        }
    }
}
