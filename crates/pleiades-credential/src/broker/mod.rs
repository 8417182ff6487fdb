//! Connects accounts: links, sign-ins, callbacks. Each is open to attack: `SECURITY.md`, "Connecting an account".
//!
//! A link carries no rights and nothing is stored for one. Whoever opens it proves to be its
//! principal; that begins a pending connection, which is an entry of the vault so that any replica can take the
//! answer. The answer must come with the cookie of the browser that began.
//!
//! | module | |
//! |---|---|
//! | `link`, `sealed_fields`, `endpoints` | sealed links and ids, and what they say; the gateway's own URLs |
//! | `proof`, `login` | whether the opener of a link is its principal |
//! | `preview` | where a sign-in will lead, for the page that asks |
//! | `start`, `callback`, `redeem` | from a link to a stored account |
//! | `clients`, `pending`, `status` | entries of the vault: registered clients, pending connections, outcomes |
//! | `failures`, `pending_limit` | what this process remembers |
//! | `error` | the sentences that people read |

mod callback;
mod clients;
mod endpoints;
mod error;
mod failures;
mod link;
mod login;
mod pending;
mod pending_limit;
mod preview;
mod proof;
mod redeem;
mod sealed_fields;
mod start;
mod status;

use std::{sync::Arc, time::Duration};

use http::{Method, Request, Response, StatusCode, header};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use url::Url;

pub use callback::{Callback, CallbackResult, ConnectedAccount, DefaultChoice, Replacement};
pub use clients::{ClientChoice, Clients, ForgottenClient};
pub use endpoints::Endpoints;
pub use error::{ConnectError, ConnectErrorKind};
pub use link::{ConnectLink, LinkPayload};
pub use login::{LoginConfig, Tenant, proof_cookie};
pub use preview::SignInPreview;
pub use proof::{Proof, ProofMethod};
pub use start::RedirectTarget;
pub use status::ConnectionStatus;

use super::connection::{Connection, unite};
use super::{AccountKey, key::AccountOwner, manager::CredentialManager, vault::Fault};
use crate::access::{Access, Principal};
use failures::FailedAttempts;
use link::Links;
use login::LoginFlow;
use pending::PendingStore;
use pending_limit::PendingLimit;
use pleiades_core::web::{AddressPolicy, Prober};
use pleiades_core::{secret::Secret, time::unix_now as now};
use pleiades_mcp::seal::Sealer;
use preview::Previews;
use status::Statuses;

/// How long the page of a connect link may take to be there: it asks its provider itself, and waits 3 s for that.
const PAGE_WITHIN: Duration = Duration::from_secs(5);

/// What the broker is built from.
#[derive(Debug)]
pub struct Config {
    /// Stores what is connected.
    pub manager: Arc<CredentialManager>,
    /// Seals links and ids of connections.
    pub sealer: Arc<Sealer>,
    /// Asks upstreams.
    pub prober: Arc<dyn Prober>,
    /// Knows who may call.
    pub access: Arc<Access>,
    /// Where people log in who open a link.
    pub login: Option<LoginConfig>,
    /// The runtime of code exchanges, which outlive the request that began one.
    pub control: Handle,
    /// `public_url`, else the listener's address: where `/oauth/…` is reached, without a slash at
    /// the end.
    pub base: Url,
    /// Name of the gateway, for registration and pages.
    pub name: String,
    /// How long a link opens.
    pub link_ttl: Duration,
    /// How long a sign-in may take.
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

/// Where a browser is sent, with a cookie to bring back.
#[derive(Debug)]
pub struct BrowserRedirect {
    /// Where to send the person: 303.
    pub url: Url,
    /// The cookie that the answer must bring, its name and value; `None` where the flow runs
    /// elsewhere.
    pub cookie: Option<(String, Secret)>,
}

/// Connects accounts; one per process.
#[derive(Debug)]
pub struct Broker {
    /// The gateway's own URLs.
    pub endpoints: Arc<Endpoints>,
    /// Links and ids of connections.
    pub links: Arc<Links>,
    /// OAuth clients that are registered for the gateway.
    pub clients: Clients,
    /// What became of connections.
    pub statuses: Statuses,
    manager: Arc<CredentialManager>,
    prober: Arc<dyn Prober>,
    access: Arc<Access>,
    login: Option<LoginFlow>,
    control: Handle,
    name: String,
    pending: PendingStore,
    pending_limit: PendingLimit,
    /// Of cancels, which need no proof: they use up nothing of what its person may begin.
    cancel_limit: PendingLimit,
    previews: Previews,
    failures: FailedAttempts,
    redeeming: TaskTracker,
}

impl Broker {
    /// A broker, whose sweeper runs for as long as it lives.
    #[must_use]
    pub fn new(config: Config) -> Arc<Self> {
        let Config {
            manager,
            sealer,
            prober,
            pending_ttl,
            ..
        } = config;
        let endpoints = Arc::new(Endpoints::new(config.base));
        let links = Arc::new(Links::new(
            Arc::clone(&sealer),
            Arc::clone(&config.access),
            config.link_ttl,
            &endpoints.connect_page(""),
        ));
        let broker = Arc::new(Self {
            clients: Clients::new(Arc::clone(&manager), Arc::clone(&prober), Arc::clone(&endpoints)),
            statuses: Statuses::new(Arc::clone(&manager), Arc::clone(&links), pending_ttl),
            pending: PendingStore::new(Arc::clone(&manager), pending_ttl),
            login: config.login.map(|login| LoginFlow {
                config: login,
                manager: Arc::clone(&manager),
                sealer,
                links: Arc::clone(&links),
                endpoints: Arc::clone(&endpoints),
                ttl: pending_ttl,
            }),
            endpoints,
            links,
            manager,
            prober,
            access: config.access,
            control: config.control,
            name: config.name,
            pending_limit: PendingLimit::default(),
            cancel_limit: PendingLimit::default(),
            previews: Previews::default(),
            failures: FailedAttempts::default(),
            redeeming: TaskTracker::new(),
        });
        broker.start_sweeper();
        broker
    }

    /// What the gateway is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How long a sign-in may take.
    #[must_use]
    pub const fn pending_ttl(&self) -> Duration {
        self.pending.ttl
    }

    /// Waits until every code that is being redeemed is stored: the end of the process.
    pub async fn drained(&self) {
        self.redeeming.close();
        self.redeeming.wait().await;
    }

    /// A link for a caller that is not connected. No I/O: nothing is stored before it is used.
    #[must_use]
    pub fn link(&self, principal: &Principal, request: &ConnectionRequest) -> ConnectLink {
        let payload = self.links.payload(principal, request);
        let elsewhere = self
            .connection(&request.provider)
            .and_then(|it| it.connect_url.clone());
        let url = match elsewhere {
            Some(url) => url.into(),
            None => self.endpoints.connect_page(&self.links.seal(&payload)),
        };
        ConnectLink {
            url,
            id: self.links.connection_id(&payload),
            scopes: self.requested_scopes(request),
        }
    }

    /// Whether a gateway serves the page of this link: then it runs with our keys and our store. Uses nothing
    /// up. Whatever else listens there sends no page with this policy.
    pub async fn is_served(&self, link: &str) -> bool {
        let request = Request::builder().method(Method::GET).uri(link);
        let request = request.header(header::ACCEPT, "text/html").body(Vec::new());
        let Ok(request) = request else { return false };
        let reach = AddressPolicy {
            private: true,
            loopback: true,
            ca: None,
        };
        let asked = tokio::time::timeout(PAGE_WITHIN, self.manager.web().send(&reach, request)).await;
        asked.is_ok_and(|answer| answer.is_ok_and(|it| is_connect_page(&it)))
    }

    /// Scopes that will be asked for, as far as that is known without asking anybody.
    #[must_use]
    pub fn requested_scopes(&self, request: &ConnectionRequest) -> Option<Vec<String>> {
        let declared = self
            .connection(&request.provider)
            .and_then(|connection| self.manager.loaded()?.scopes(&connection.name));
        let scopes = unite(declared.iter().flatten().chain(&request.scopes));
        (!scopes.is_empty()).then_some(scopes)
    }

    fn connection(&self, provider: &str) -> Option<Arc<Connection>> {
        self.manager.loaded()?.provider(provider)
    }

    /// The provider's title for people.
    #[must_use]
    pub fn title(&self, provider: &str) -> String {
        self.connection(provider)
            .map_or_else(|| provider.to_owned(), |it| it.title.clone())
    }

    /// Removes what has expired, now and then. Each replica does; what two remove is removed once.
    fn start_sweeper(self: &Arc<Self>) {
        let every = self.pending.ttl.max(Duration::from_secs(60));
        let broker = Arc::downgrade(self);
        self.control.spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                let Some(broker) = broker.upgrade() else { return };
                if let Err(fault) = broker.sweep().await {
                    tracing::debug!(
                        error = &fault as &dyn std::error::Error,
                        "pending connections were not tidied up"
                    );
                }
            }
        });
    }

    async fn sweep(&self) -> Result<(), Fault> {
        self.pending_limit.forget_expired(now());
        self.cancel_limit.forget_expired(now());
        for path in self.pending.paths().await? {
            let Some(expired) = self.pending.expired(&path).await? else {
                continue;
            };
            // Tokens that nobody confirmed.
            if let Some((pending, record)) = expired.unconfirmed {
                self.revoke_tokens(&pending, &record.tokens).await;
            }
            self.manager.vault().remove(&path).await?;
        }
        Ok(())
    }
}

fn is_connect_page<T>(answer: &Response<T>) -> bool {
    let policy = answer.headers().get(header::CONTENT_SECURITY_POLICY);
    let policy = policy.and_then(|value| value.to_str().ok()).unwrap_or_default();
    answer.status() == StatusCode::OK && policy.contains("frame-ancestors 'none'")
}

fn account_key(principal: &Principal, connection: &Arc<str>, account: &str) -> AccountKey {
    AccountKey {
        owner: AccountOwner {
            tenant: Arc::clone(&principal.tenant),
            user: Arc::clone(&principal.user),
            connection: Arc::clone(connection),
        },
        account: account.into(),
    }
}

/// What stands in the store, and in names, for something that must not.
fn hashed(text: &str) -> String {
    let hash = digest(&SHA256, text.as_bytes());
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The beginning of a hash: enough for a name.
fn short(text: &str) -> String {
    let mut hash = hashed(text);
    hash.truncate(16);
    hash
}

#[cfg(test)]
mod tests;
