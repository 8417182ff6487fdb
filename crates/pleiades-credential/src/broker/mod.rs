//! Connects accounts: links, flows, callbacks (design section 4, "Connecting is an attack surface").
//!
//! A link carries no rights and nothing is stored for one. Whoever opens it proves to be its
//! principal; that begins a flow, which is an entry of the vault so that any replica can take the
//! answer. The answer must come with the cookie of the browser that began.

mod callback;
mod client;
mod failures;
mod link;
mod login;
mod look;
mod pending;
mod pending_limit;
mod proof;
mod redeem;
mod start;
mod status;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use url::Url;

pub use callback::{Callback, CallbackResult};
pub use client::ForgottenClient;
pub use login::{LoginConfig, Tenant, proof_cookie};
pub use look::ClientChoice;
pub use proof::{Proof, ProofMethod};
pub use start::RedirectTarget;

use super::manager::CredentialManager;
use super::oauth::Challenge;
use super::vault::{Fault, Kind, Vault};
use crate::access::{Access, Principal};
use pleiades_core::secret::Secret;
use pleiades_core::time::unix_now as now;
use pleiades_mcp::seal::Sealer;

/// Asks an upstream without a credential what it wants: where discovery begins.
#[async_trait::async_trait]
pub trait Prober: Send + Sync + std::fmt::Debug {
    /// The challenge of a provider's endpoint; `None` when it gives none.
    async fn challenge(&self, provider: &str) -> Option<Challenge>;
}

/// What the broker is built from.
#[derive(Debug)]
pub struct Config {
    /// Keeps what is connected.
    pub manager: Arc<CredentialManager>,
    /// Seals links and ids of connections.
    pub sealer: Arc<Sealer>,
    /// Asks upstreams.
    pub prober: Arc<dyn Prober>,
    /// Knows who may call.
    pub access: Arc<Access>,
    /// Where people log in who open a link.
    pub login: Option<LoginConfig>,
    /// The runtime that owns code exchanges, whatever becomes of the request that asked for one.
    pub control: Handle,
    /// `public_url`, else the listener's address: where `/oauth/…` is reached, without a slash at
    /// the end.
    pub base: Url,
    /// Name of the gateway, for registration and pages.
    pub name: String,
    /// How long a link opens.
    pub link_ttl: Duration,
    /// How long a flow may take.
    pub pending_ttl: Duration,
}

/// What is to be connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionRequest {
    /// Provider id.
    pub provider: String,
    /// Under this name; `None`: as the provider names it.
    pub account: Option<String>,
    /// Scopes beside the usual ones, of a challenge.
    pub scopes: Vec<String>,
    /// Why.
    pub reason: String,
}

/// A way to connect, as a caller is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectLink {
    /// `connect_url`: carries no rights.
    pub url: String,
    /// `connection_id`, for `/v1/connections/{id}`.
    pub id: String,
    /// Scopes that will be asked for, as far as the descriptor and the wish say.
    pub scopes: Option<Vec<String>>,
}

/// What a link says, once opened.
#[derive(Debug, Clone)]
pub struct LinkPayload {
    /// Whose it is.
    pub principal: Principal,
    /// For what.
    pub request: ConnectionRequest,
    /// Of which connection: under what its standing is kept.
    pub id: String,
    /// Until when, in unix seconds.
    pub until: u64,
}

/// A flow that has begun.
#[derive(Debug)]
pub struct BrowserRedirect {
    /// Where to send the person: 303.
    pub url: Url,
    /// The cookie that the callback must bring, its name and value; `None` where the flow runs
    /// elsewhere.
    pub cookie: Option<(String, Secret)>,
}

/// How a connection fares (contracts section 2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionStatus {
    /// `pending`, `connected`, `failed`, `expired`.
    pub state: &'static str,
    /// For people, when it failed.
    pub message: Option<String>,
    /// Provider id.
    pub provider: String,
    /// Which account it became.
    pub account: Option<String>,
}

/// Why a page is refused: a sentence, and what to do. Names no person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectError {
    /// What kind; `proxy::respond` makes a status of it.
    pub kind: ConnectErrorKind,
    /// Why: a sentence for people.
    pub why: String,
    /// The same for callers, where `why` names servers by their addresses.
    pub brief: Option<String>,
    /// What to do: a sentence for people.
    pub cure: String,
}

/// Kinds of refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectErrorKind {
    /// Not of the form that it must have.
    Malformed,
    /// Neither known nor ever made here.
    Unknown,
    /// Over, or used already.
    Gone,
    /// Not proven to be whose it is.
    Unproven,
    /// Too many wrong proofs came from there, or too many flows were begun.
    Throttled,
    /// Another account would be replaced, or the person said no.
    Conflict,
    /// The provider, or its authorization server, did not do its part.
    Provider,
    /// The store cannot be reached.
    Store,
}

/// Connects accounts; one per process.
#[derive(Debug)]
pub struct Broker {
    config: Config,
    /// Grows with each standing that changes here.
    changes: watch::Sender<u64>,
    /// Redemptions under way.
    redeeming: TaskTracker,
    pending_limit: pending_limit::PendingLimit,
    failures: failures::FailedAttempts,
}

impl Broker {
    /// A broker.
    #[must_use]
    pub fn new(parts: Config) -> Arc<Self> {
        let broker = Arc::new(Self {
            config: parts,
            changes: watch::Sender::new(0),
            redeeming: TaskTracker::new(),
            pending_limit: pending_limit::PendingLimit::default(),
            failures: failures::FailedAttempts::default(),
        });
        broker.start_sweeper();
        broker
    }

    /// Where `/oauth/…` is reached.
    #[must_use]
    pub const fn base(&self) -> &Url {
        &self.config.base
    }

    /// What the gateway is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// How long a flow may take.
    #[must_use]
    pub const fn pending_ttl(&self) -> Duration {
        self.config.pending_ttl
    }

    /// Waits until every code that is being redeemed is stored: the end of the process.
    pub async fn drained(&self) {
        self.redeeming.close();
        self.redeeming.wait().await;
    }

    /// A path of ours as a URL.
    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.config.base.as_str().trim_end_matches('/'))
    }

    fn vault(&self) -> &dyn Vault {
        &**self.config.manager.vault()
    }
}

impl ConnectError {
    /// A refusal of a kind: why, and what to do.
    pub fn new(kind: ConnectErrorKind, why: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            kind,
            why: why.into(),
            brief: None,
            cure: cure.into(),
        }
    }

    /// Why, as callers may read it.
    #[must_use]
    pub fn for_callers(&self) -> &str {
        self.brief.as_deref().unwrap_or(&self.why)
    }

    /// The store cannot be reached or says no; its own words are for the log.
    fn store(fault: &Fault) -> Self {
        tracing::warn!(%fault, kind = fault.kind.as_str(), "connecting needs the credential store");
        if fault.kind.caller_message() != Kind::Unreachable.caller_message() {
            return Self::new(
                ConnectErrorKind::Store,
                "The credential store refuses the gateway, so nothing can be connected.",
                "Tell whoever runs the gateway: its log says what is refused.",
            );
        }
        Self::new(
            ConnectErrorKind::Store,
            "The credential store cannot be reached, so nothing can be connected just now.",
            "Try again in a minute.",
        )
    }
}

/// 256 bits that nobody can guess, as text.
///
/// # Errors
/// [`Refusal`] without randomness: nothing may begin then.
fn random() -> Result<Secret, ConnectError> {
    let mut bytes = [0_u8; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_unspecified| {
        ConnectError::new(
            ConnectErrorKind::Store,
            "The gateway has no randomness to begin with.",
            "Tell its operator.",
        )
    })?;
    Ok(Secret::new(URL_SAFE_NO_PAD.encode(bytes)))
}

/// What stands in the store, and in names, for something that must not.
fn hashed(text: &str) -> String {
    use std::fmt::Write as _;
    let mut hex = String::with_capacity(64);
    for byte in digest(&SHA256, text.as_bytes()).as_ref() {
        write!(hex, "{byte:02x}").ok();
    }
    hex
}

/// The beginning of a hash: enough for a name.
fn short(text: &str) -> String {
    let mut hash = hashed(text);
    hash.truncate(16);
    hash
}

#[cfg(test)]
mod tests;
