//! Connects accounts: links, flows, callbacks (design section 4, "Connecting is an attack surface").

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

use super::keeper::{Keeper, Reason};
use super::oauth::Challenge;
use crate::access::Principal;
use crate::mcp::seal::Sealer;
use crate::secret::Secret;

/// Asks an upstream without a credential what it wants: where discovery begins.
#[async_trait::async_trait]
pub trait Prober: Send + Sync + std::fmt::Debug {
    /// The challenge of a provider's endpoint; `None` when it gives none.
    async fn challenge(&self, provider: &str) -> Option<Challenge>;
}

/// What the broker is built from.
#[derive(Debug)]
pub struct Parts {
    /// Keeps what is connected.
    pub keeper: Arc<Keeper>,
    /// Seals links and ids of connections.
    pub sealer: Arc<Sealer>,
    /// Asks upstreams.
    pub prober: Arc<dyn Prober>,
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
pub struct Wish {
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
pub struct Link {
    /// `connect_url`: carries no rights.
    pub url: String,
    /// `connection_id`, for `/v1/connections/{id}`.
    pub id: String,
    /// Scopes that will be asked for, as far as the descriptor and the wish say.
    pub scopes: Option<Vec<String>>,
}

/// What a link says, once opened.
#[derive(Debug, Clone)]
pub struct Opened {
    /// Whose it is.
    pub principal: Principal,
    /// For what.
    pub wish: Wish,
    /// Of which connection.
    pub id: String,
}

/// A flow that has begun.
#[derive(Debug)]
pub struct Begun {
    /// Where to send the person: 303.
    pub url: Url,
    /// The cookie that the callback must bring.
    pub cookie: Secret,
}

/// How a connection fares (contracts section 2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// `pending`, `connected`, `failed`, `expired`.
    pub state: &'static str,
    /// For people, when it failed.
    pub message: Option<String>,
    /// Provider id.
    pub provider: String,
    /// Which account it became.
    pub account: Option<String>,
}

/// Why a page is refused: a sentence, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status, 4xx; 503 when the store cannot be reached.
    pub status: u16,
    /// Why.
    pub why: String,
    /// What to do.
    pub cure: String,
}

/// Connects accounts; one per process.
#[derive(Debug)]
pub struct Broker {
    parts: Parts,
}

impl Broker {
    /// A broker.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self { parts })
    }

    /// A link for a caller that is not connected. No I/O: nothing is stored before it is used.
    #[must_use]
    pub fn link(&self, _principal: &Principal, wish: &Wish) -> Link {
        Link {
            url: format!(
                "{}/oauth/connect/unbuilt",
                self.parts.base.as_str().trim_end_matches('/')
            ),
            id: String::new(),
            scopes: (!wish.scopes.is_empty()).then(|| wish.scopes.clone()),
        }
    }

    /// How a connection of this caller fares; `None` for what is not the caller's.
    ///
    /// # Errors
    /// When the store cannot be reached.
    pub async fn standing(
        &self,
        _principal: &Principal,
        _id: &str,
    ) -> Result<Option<Standing>, super::vault::Fault> {
        Ok(None)
    }

    /// The sentence for a reason.
    #[must_use]
    pub const fn sentence(reason: Reason) -> &'static str {
        match reason {
            Reason::NeverConnected => "this account was never connected",
            Reason::Revoked => "the connection was revoked",
            Reason::Refused => "the provider ended the connection",
            Reason::Interrupted => "renewing the connection was interrupted",
            Reason::Scopes => "more rights are needed",
        }
    }
}
