//! Hands out accounts' signatures: from memory while they are valid, else from the vault, renewed
//! once by whoever holds the lease.

mod account;
mod change;
mod client_token;
mod grant;
mod grant_error;
mod quirks;
pub(super) mod read;
pub(super) mod refresh_task;
mod schedule;
mod signer;
mod state;
#[cfg(test)]
pub(super) mod tests;

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SetOnce, broadcast};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use account::Account;
pub use change::MissingScopes;
pub use grant_error::{GrantError, Reason};
use schedule::Schedule;

use super::broker::Prober;
use super::cache::{AccountCache, OWNERS, OwnerAccounts};
use super::clock::TokenClock;
use super::connection::{Connection, Connections};
use super::key::{AccountKey, AccountOwner};
use super::record::AccountRecord;
use super::slot::AccountSlot;
use super::vault::Vault;
use pleiades_core::signature::Signature;
use pleiades_core::telemetry::Metrics;
use pleiades_core::web::HttpClient;

/// Renewals that nobody waits for, at a time.
const IN_BACKGROUND: usize = 16;

/// What a call wants.
#[derive(Debug, Clone, Copy)]
pub struct AccountQuery<'a> {
    /// The caller's tenant.
    pub tenant: &'a Arc<str>,
    /// The caller.
    pub user: &'a Arc<str>,
    /// Of which connection.
    pub connection: &'a Arc<Connection>,
    /// The account that the call names.
    pub account: Option<&'a str>,
    /// The one that its session used last.
    pub remembered: Option<&'a str>,
}

impl AccountQuery<'_> {
    fn owner(&self) -> AccountOwner {
        AccountOwner {
            tenant: Arc::clone(self.tenant),
            user: Arc::clone(self.user),
            connection: Arc::clone(&self.connection.name),
        }
    }
}

/// An account that may be used.
#[derive(Debug, Clone)]
pub struct GrantedAccount {
    /// Signs its requests, and keeps up with its tokens.
    pub signature: Arc<Signature>,
    /// Which one it is.
    pub account: Arc<str>,
}

/// What happened to an account, told to whoever waits for it.
#[derive(Debug, Clone)]
pub struct AccountEvent {
    /// Which.
    pub key: AccountKey,
    /// What.
    pub kind: AccountEventKind,
    /// Whether another replica did it, which tells the scheduler and reads first lists.
    pub elsewhere: bool,
}

/// The other replicas.
pub trait Replicas: Send + Sync + std::fmt::Debug {
    /// Tells them what happened here.
    fn notify(&self, key: &AccountKey, kind: AccountEventKind);
}

/// Kinds of what happens to accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountEventKind {
    /// Connected, or connected again.
    Connected,
    /// A new token set of the same grant is stored.
    Renewed,
    /// Revoked or removed.
    Revoked,
    /// Its user made it the default.
    Chosen,
    /// It was found to have ended: only a person can mend it.
    Ended,
}

impl AccountEventKind {
    const ALL: [Self; 5] = [
        Self::Connected,
        Self::Renewed,
        Self::Revoked,
        Self::Chosen,
        Self::Ended,
    ];

    /// The stable name, as replicas tell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Renewed => "renewed",
            Self::Revoked => "revoked",
            Self::Chosen => "chosen",
            Self::Ended => "ended",
        }
    }

    /// What a replica told.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// What one refresh came to (contracts section 6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refreshed {
    /// What.
    pub outcome: RefreshOutcome,
    /// When the next one is due, in unix seconds.
    pub next_at: Option<u64>,
}

/// Outcomes of a refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshOutcome {
    /// A new token set is stored.
    Refreshed,
    /// It is not due.
    NotDue,
    /// Only a person can mend it.
    NeedsReauth,
    /// It failed for reasons that may pass.
    Unhealthy,
}

/// What the keeper is built from.
#[derive(Debug)]
pub struct ManagerParts {
    /// Where records are.
    pub vault: Arc<dyn Vault>,
    /// The way to authorization servers.
    pub web: Arc<dyn HttpClient>,
    /// Metrics of the process.
    pub metrics: Arc<Metrics>,
    /// The runtime that owns refreshes.
    pub control: Handle,
}

/// Keeps accounts; one per process.
#[derive(Debug)]
pub struct CredentialManager {
    /// For work that goes on when whoever asked for it is gone.
    me: Weak<Self>,
    parts: ManagerParts,
    loaded: OnceLock<Arc<dyn Connections>>,
    prober: SetOnce<Arc<dyn Prober>>,
    replicas: OnceLock<Arc<dyn Replicas>>,
    happened: broadcast::Sender<AccountEvent>,
    clock: TokenClock,
    cache: AccountCache,
    schedule: Schedule,
    client_tokens: client_token::ClientTokenCache,
    quirks: quirks::RenewalQuirks,
    background: Arc<Semaphore>,
    /// Work that must not be cut: redemptions, changes.
    work: TaskTracker,
    closing: CancellationToken,
}

impl CredentialManager {
    /// A keeper that knows nothing yet.
    #[must_use]
    pub fn new(parts: ManagerParts) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            parts,
            loaded: OnceLock::new(),
            prober: SetOnce::new(),
            replicas: OnceLock::new(),
            happened: broadcast::Sender::new(256),
            clock: TokenClock::new(),
            cache: AccountCache::new(OWNERS),
            schedule: Schedule::new(OWNERS),
            client_tokens: client_token::ClientTokenCache::default(),
            quirks: quirks::RenewalQuirks::default(),
            background: Arc::new(Semaphore::new(IN_BACKGROUND)),
            work: TaskTracker::new(),
            closing: CancellationToken::new(),
        })
    }

    /// Says what is loaded, and starts the work beside requests: the schedule and the sweeper.
    pub fn begin(self: &Arc<Self>, loaded: Arc<dyn Connections>) {
        if self.loaded.set(loaded).is_ok() {
            schedule::begin(self);
            super::sweep::begin(self);
        }
    }

    /// Says who asks upstreams for the challenge that discovery for client credentials begins with.
    pub fn probe_through(&self, prober: Arc<dyn Prober>) {
        self.prober.set(prober).ok();
    }

    /// What happens from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<AccountEvent> {
        self.happened.subscribe()
    }

    /// Waits until every redeemed token is stored: the end of the process. Begins no further refresh.
    pub async fn shut_down(&self) {
        self.closing.cancel();
        self.work.close();
        self.work.wait().await;
    }

    /// Where records are.
    #[must_use]
    pub fn vault(&self) -> &Arc<dyn Vault> {
        &self.parts.vault
    }

    /// The way to authorization servers.
    #[must_use]
    pub fn web(&self) -> &Arc<dyn HttpClient> {
        &self.parts.web
    }

    /// What is loaded.
    #[must_use]
    pub fn loaded(&self) -> Option<&Arc<dyn Connections>> {
        self.loaded.get()
    }

    /// Says whom to tell what happens here; once.
    pub fn notify_through(&self, replicas: Arc<dyn Replicas>) {
        self.replicas.set(replicas).ok();
    }

    /// What another replica did is seen here at once: what is known of the owner is read again. A
    /// credential that was revoked there is dropped even when the store cannot be read.
    pub async fn changed_elsewhere(&self, key: &AccountKey, kind: AccountEventKind) {
        if let Some(entry) = self.cache.get(&key.owner) {
            if kind == AccountEventKind::Revoked {
                entry.remove(&key.account);
                self.schedule.remove(key);
            }
            if let Err(fault) = self.reread(&entry, entry.readings()).await {
                tracing::debug!(%fault, "what another replica changed could not be read yet");
            }
        }
        self.emit(key, kind, true);
    }

    fn notify(&self, key: &AccountKey, kind: AccountEventKind) {
        if let Some(replicas) = self.replicas.get() {
            replicas.notify(key, kind);
        }
        self.emit(key, kind, false);
    }

    fn emit(&self, key: &AccountKey, kind: AccountEventKind, elsewhere: bool) {
        let happened = AccountEvent {
            key: key.clone(),
            kind,
            elsewhere,
        };
        // Nobody may be listening.
        self.happened.send(happened).ok();
    }

    /// A loaded provider's part that can renew an account: the one it was connected through, else any
    /// of the connection.
    pub(super) fn connection_of(&self, connection: &str, provider: &str) -> Option<Arc<Connection>> {
        let loaded = self.loaded.get()?;
        let own = loaded.provider(provider).filter(|it| *it.name == *connection);
        own.or_else(|| loaded.of(connection).into_iter().next())
    }

    /// How long ahead of expiry the accounts of a connection are renewed, in seconds.
    pub(super) fn lead(&self, connection: &str, provider: &str) -> u64 {
        self.connection_of(connection, provider)
            .map_or(DEFAULT_LEAD, |it| it.lead)
            .as_secs()
    }
}

/// For accounts whose provider is not loaded just now.
const DEFAULT_LEAD: Duration = Duration::from_secs(600);

/// What the schedule and the sweeper work with.
impl CredentialManager {
    pub(super) const fn control(&self) -> &Handle {
        &self.parts.control
    }

    const fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    pub(super) fn background(&self) -> &Semaphore {
        &self.background
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    pub(super) async fn closed(&self) {
        self.closing.cancelled().await;
    }

    pub(super) fn monotonic_ms(&self) -> u64 {
        self.clock.monotonic_ms()
    }

    pub(super) fn unix_ms(&self) -> u64 {
        self.clock.unix_ms()
    }

    pub(super) fn unix(&self) -> u64 {
        self.clock.unix()
    }

    pub(super) fn cached_owner(&self, owner: &AccountOwner) -> Option<Arc<OwnerAccounts>> {
        self.cache.get(owner)
    }

    pub(super) fn entries(&self) -> Vec<Arc<OwnerAccounts>> {
        self.cache.all()
    }

    /// Takes what a round read or wrote.
    fn remember(&self, slot: &AccountSlot, version: u64, record: &AccountRecord) {
        let readings = self
            .cache
            .get(&slot.key.owner)
            .map_or(0, |entry| entry.readings());
        slot.take_written(version, record.clone(), readings);
    }
}
