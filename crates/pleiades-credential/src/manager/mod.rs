//! Hands out accounts' signatures: from memory while they are valid, else from the vault, renewed
//! once by whoever holds the lease.

mod account;
mod background;
mod change;
mod client_token;
mod default;
mod events;
mod grant;
mod grant_error;
mod quirks;
mod read;
mod records;
mod refresh_task;
mod renewal;
mod schedule;
mod signer;
mod state;
mod sweep;
#[cfg(test)]
pub(super) mod tests;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SetOnce, broadcast};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use account::Account;
pub use change::MissingScopes;
pub use default::DefaultQuestion;
use events::AccountEvents;
pub use events::{AccountEvent, AccountEventKind, Replicas};
pub use grant_error::{GrantError, Reason};
use records::RecordStore;
use schedule::Schedule;

use super::cache::{AccountCache, OWNERS};
use super::connection::{Connection, Connections};
use super::{clock::TokenClock, key::AccountOwner, record::AccountState, vault::Vault};
use pleiades_core::web::{HttpClient, Prober};
use pleiades_core::{signature::Signature, telemetry::Metrics};

/// Renewals that nobody waits for, at a time.
const IN_BACKGROUND: usize = 16;

/// Which account a call asks for.
#[derive(Debug, Clone, Copy)]
pub struct AccountQuery<'a> {
    /// The caller's tenant.
    pub tenant: &'a Arc<str>,
    /// The caller.
    pub user: &'a Arc<str>,
    /// The connection whose accounts are meant.
    pub connection: &'a Arc<Connection>,
    /// The account that the call names.
    pub account: Option<&'a str>,
    /// The account that its session used last.
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
    /// Its id.
    pub account: Arc<str>,
}

/// The result of one refresh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refreshed {
    /// What became of it.
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
    /// Its user has to connect it again.
    NeedsReauth,
    /// It failed for reasons that may pass.
    Unhealthy,
}

/// What the manager is built from.
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

/// Knows the accounts of every user and hands out their signatures; one per process.
#[derive(Debug)]
pub struct CredentialManager {
    /// For work that goes on when whoever asked for it is gone.
    me: Weak<Self>,
    parts: ManagerParts,
    records: RecordStore,
    loaded: OnceLock<Arc<dyn Connections>>,
    prober: SetOnce<Arc<dyn Prober>>,
    events: AccountEvents,
    clock: TokenClock,
    cache: AccountCache,
    schedule: Schedule,
    client_tokens: client_token::ClientTokenCache,
    quirks: quirks::RenewalQuirks,
    /// Renewals that nobody waits for, so many at a time.
    background: Semaphore,
    /// Work that must not be cut: redemptions, changes.
    work: TaskTracker,
    closing: CancellationToken,
    /// Whether accounts are looked at alone: nothing is renewed unless it is forced.
    reports_only: AtomicBool,
}

impl CredentialManager {
    /// A manager that has read nothing yet.
    #[must_use]
    pub fn new(parts: ManagerParts) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            records: RecordStore {
                vault: Arc::clone(&parts.vault),
            },
            parts,
            loaded: OnceLock::new(),
            prober: SetOnce::new(),
            events: AccountEvents::new(),
            clock: TokenClock::new(),
            cache: AccountCache::new(OWNERS),
            schedule: Schedule::new(OWNERS),
            client_tokens: client_token::ClientTokenCache::default(),
            quirks: quirks::RenewalQuirks::default(),
            background: Semaphore::new(IN_BACKGROUND),
            work: TaskTracker::new(),
            closing: CancellationToken::new(),
            reports_only: AtomicBool::new(false),
        })
    }

    /// Sets what is loaded, and starts the work beside requests: the schedule and the sweeper.
    pub fn begin(self: &Arc<Self>, loaded: Arc<dyn Connections>) {
        if self.loaded.set(loaded).is_ok() {
            background::begin(self);
            sweep::begin(self);
        }
    }

    /// Sets who asks upstreams for the challenge that discovery for client credentials begins with.
    pub fn probe_through(&self, prober: Arc<dyn Prober>) {
        self.prober.set(prober).ok();
    }

    /// What happens to accounts from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<AccountEvent> {
        self.events.sender.subscribe()
    }

    /// Waits until every redeemed token is stored: the end of the process. Begins no further refresh.
    pub async fn shut_down(&self) {
        self.closing.cancel();
        self.work.close();
        self.work.wait().await;
    }

    /// From now on accounts are looked at alone: none is renewed because it is due or refused, and no attempt
    /// is counted. A forced [`refresh`](Self::refresh) renews one all the same.
    pub fn report_only(&self) {
        self.reports_only.store(true, Relaxed);
    }

    fn only_reports(&self) -> bool {
        self.reports_only.load(Relaxed)
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

    /// Sets who tells the other replicas what happens here; once.
    pub fn notify_through(&self, replicas: Arc<dyn Replicas>) {
        self.events.replicas.set(replicas).ok();
    }

    pub(crate) fn states(&self) -> Vec<(Arc<str>, AccountState, usize)> {
        state::count(self)
    }

    /// Sets the gauges that are read rather than counted.
    pub fn publish(&self) {
        state::publish(self);
    }

    /// A loaded provider's part that can renew an account: the one it was connected through, else any
    /// of the connection.
    fn connection_of(&self, connection: &str, provider: &str) -> Option<Arc<Connection>> {
        let loaded = self.loaded.get()?;
        let own = loaded.provider(provider).filter(|it| *it.name == *connection);
        own.or_else(|| loaded.of(connection).into_iter().next())
    }

    /// How long ahead of expiry the accounts of a connection are renewed, in seconds.
    fn lead(&self, connection: &str, provider: &str) -> u64 {
        self.connection_of(connection, provider)
            .map_or(DEFAULT_LEAD, |it| it.lead)
            .as_secs()
    }
}

/// For accounts of providers that are not loaded.
const DEFAULT_LEAD: Duration = Duration::from_secs(600);
