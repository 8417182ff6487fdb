//! The way to a provider: sessions and processes, one request out, its answer and the
//! notifications of that request back.
//!
//! Knows nothing of descriptors, views or limits. Bodies of `tools/call` pass as raw JSON.

use std::{sync::Arc, time::{Duration, Instant}};

use http::{HeaderName, HeaderValue};
use tokio::sync::mpsc;
use url::Url;

use crate::{credential::Signature, mcp::{Raw, Revision, Revisions}, secret::Secret};

/// Where a provider is and how to speak to it. Immutable; a changed descriptor makes a new one.
#[derive(Debug)]
pub struct Endpoint {
    /// Provider id, for logs and metrics.
    pub provider: Arc<str>,
    /// Digest of everything below: part of each pool key, so that nothing is reused across a
    /// change of address, CA, client certificate or headers.
    pub identity: [u8; 32],
    /// HTTP or a child process.
    pub target: Target,
    /// Pinned revision; `None` detects.
    pub revision: Option<Revision>,
    /// Who may share a session or process.
    pub share: Share,
    /// Connecting (DNS, TCP, TLS together).
    pub connect: Duration,
    /// One call, from its first byte to its last.
    pub call: Duration,
    /// An idle session, stream or process.
    pub idle: Duration,
}

/// What is at the other end.
#[derive(Debug)]
pub enum Target {
    /// Streamable HTTP.
    Http {
        /// The endpoint.
        url: Url,
        /// The descriptor's own headers.
        headers: Vec<(HeaderName, HeaderValue)>,
        /// Private CA and client certificate.
        tls: Option<Arc<Tls>>,
        /// Whether private and link-local addresses may be connected to.
        allow_private: bool,
        /// Whether loopback addresses may (the gateway itself listens on loopback, or `allow_private`).
        allow_loopback: bool,
    },
    /// A child process.
    Stdio {
        /// Program and arguments.
        command: Vec<String>,
        /// Its environment beside the minimal one (PATH, HOME, LANG, TMPDIR, …).
        env: Vec<(String, Secret)>,
        /// Working folder: the descriptor's.
        folder: std::path::PathBuf,
    },
}

/// PEM material, already checked at load.
#[derive(Debug)]
pub struct Tls {
    /// Replaces the system's roots.
    pub ca: Option<Vec<u8>>,
    /// Client certificate chain and key.
    pub client: Option<(Vec<u8>, Secret)>,
}

/// Who may share an upstream session or child process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Share {
    /// One per user.
    User,
    /// One per tenant.
    Tenant,
    /// One for all.
    All,
}

/// On whose behalf a request is made: with the endpoint's `share`, the key of the session pool.
#[derive(Debug, Clone)]
pub struct Behalf {
    /// Tenant.
    pub tenant: Arc<str>,
    /// User.
    pub user: Arc<str>,
    /// Credential headers and account fingerprint.
    pub signature: Arc<Signature>,
}

/// One request to make.
#[derive(Debug)]
pub struct Call {
    /// Method.
    pub method: &'static str,
    /// Parameters as an object, without protocol metadata: `_meta` may hold the caller's own keys
    /// (trace context included); the upstream module adds what the revision demands and replaces
    /// `progressToken`.
    pub params: crate::mcp::RawObject,
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
    Progress(crate::mcp::RawObject),
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

// SEAM (to be implemented in this module; signatures fixed):
//
// /// All sessions, processes and HTTP clients of this process.
// pub struct Upstreams
// impl Upstreams {
//     /// `control` is the runtime that owns child processes, GET streams and reapers.
//     pub fn new(control: tokio::runtime::Handle) -> Arc<Upstreams>;
//     /// Detects revisions and capabilities. Errors: Unreachable, Timeout, UpstreamAuth (401/403), UpstreamProtocol.
//     pub async fn probe(&self, endpoint: &Arc<Endpoint>, behalf: &Behalf) -> Result<Profile, Error>;
//     /// One request, its result unparsed. A JSON-RPC error is Error::rpc(..). Dropping the future of a
//     /// modern call cancels it upstream; for a legacy call sends `notifications/cancelled`.
//     pub async fn request(&self, endpoint: &Arc<Endpoint>, behalf: &Behalf, call: Call) -> Result<Raw, Error>;
//     /// Listens for list changes until the receiver is dropped (GET stream, `subscriptions/listen`, or the
//     /// process's own notifications). `None` when the provider offers none. Reconnects with back-off.
//     pub fn listen(self: &Arc<Self>, endpoint: &Arc<Endpoint>, behalf: &Behalf, profile: &Profile) -> mpsc::Receiver<Change>;
//     /// Ends sessions and processes of an endpoint (descriptor changed or removed) once their calls are done.
//     pub fn retire(&self, identity: &[u8; 32]);
//     /// Ends everything; children and their process groups are gone when it returns.
//     pub async fn shutdown(&self, within: Duration);
//     /// Number of live sessions and processes.
//     pub fn sessions(&self) -> usize;
//     /// The resolver shared by everything that connects outward (the relay takes its peers from it).
//     pub fn resolver(&self) -> &Arc<resolve::Resolver>;
// }
// pub mod resolve { pub struct Resolver; impl Resolver {
//     /// Addresses of host:port that may be connected to under the endpoint's permissions; cached ~30 s,
//     /// the last good answer kept when DNS fails; bounded map; never blocks the caller beyond `within`.
//     pub async fn resolve(&self, host: &url::Host<&str>, port: u16, permit: Permit, within: Duration) -> Result<Arc<[SocketAddr]>, Error>;
// } pub struct Permit { pub private: bool, pub loopback: bool } }
