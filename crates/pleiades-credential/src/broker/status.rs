//! What became of a connection, and word of it to all who wait.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::link::ConnectionRef;
use super::pending::{TRIES, serialized};
use super::{Broker, ConnectionStatus, hashed, now};
use crate::access::Principal;
use crate::key::{AccountKey, AccountOwner};
use crate::vault::{Fault, Kind, Path, Wrote};

/// How often the store is asked for somebody who waits: other replicas tell nobody here.
const LOOK: Duration = Duration::from_secs(1);
/// How long an outcome is kept, in seconds.
const KEPT: u64 = 24 * 3600;

/// An outcome as the store keeps it.
#[derive(Debug, Serialize, Deserialize)]
struct StoredOutcome {
    /// When it may be removed, in unix seconds; a pending flow is over then.
    until: u64,
    outcome: ConnectionOutcome,
}

/// How far a connection came.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ConnectionOutcome {
    /// Somebody is at the provider.
    Begun,
    /// It became this account.
    Connected(String),
    /// For this reason it did not.
    Failed(String),
}

fn path(id: &str) -> Path {
    Path::gateway(&["pending", &format!("c-{}", hashed(id))])
}

impl Broker {
    /// How a connection of this caller fares; `None` for what is not the caller's.
    ///
    /// # Errors
    /// When the store cannot be reached.
    pub async fn status(&self, principal: &Principal, id: &str) -> Result<Option<ConnectionStatus>, Fault> {
        let Some(known) = self.open_connection_id(principal, id) else {
            return Ok(None);
        };
        let mut kept = self
            .read_outcome(&known.handle)
            .await?
            .map(|(_, kept)| (kept.until, kept.outcome));
        if kept.is_none() {
            kept = self
                .external_outcome(principal, &known)
                .await?
                .map(|outcome| (0, outcome));
        }
        let (state, message, account) = match kept {
            Some((_, ConnectionOutcome::Connected(account))) => ("connected", None, Some(account)),
            Some((_, ConnectionOutcome::Failed(why))) => ("failed", Some(why), None),
            Some((until, ConnectionOutcome::Begun)) if until > now() => ("pending", None, None),
            _ if known.until > now() => ("pending", None, None),
            _ => ("expired", None, None),
        };
        Ok(Some(ConnectionStatus {
            state,
            message,
            provider: known.wish.provider,
            account,
        }))
    }

    /// Waits until a connection of this caller is no longer pending, at most so long; then as
    /// [`standing`](Self::standing). A failed one may still come right: a link starts several flows.
    ///
    /// # Errors
    /// When the store cannot be reached.
    pub async fn wait(
        &self,
        principal: &Principal,
        id: &str,
        within: Duration,
    ) -> Result<Option<ConnectionStatus>, Fault> {
        let end = Instant::now() + within;
        let mut news = self.changes.subscribe();
        loop {
            news.mark_unchanged();
            let status = self.status(principal, id).await?;
            let settled = status.as_ref().is_none_or(|it| it.state != "pending");
            if settled || Instant::now() >= end {
                return Ok(status);
            }
            // Told here, or time to look whether another replica wrote.
            let look = end.min(Instant::now() + LOOK);
            drop(timeout_at(look, news.changed()).await);
        }
    }

    /// What became of a flow that runs elsewhere: the account that was put in since its link was made.
    async fn external_outcome(
        &self,
        principal: &Principal,
        known: &ConnectionRef,
    ) -> Result<Option<ConnectionOutcome>, Fault> {
        let connection = self.connection(&known.wish.provider);
        let Some(connection) = connection.filter(|it| it.connect_url.is_some()) else {
            return Ok(None);
        };
        let owner = AccountOwner {
            tenant: Arc::clone(&principal.tenant),
            user: Arc::clone(&principal.user),
            connection: Arc::clone(&connection.name),
        };
        let since = known.until.saturating_sub(self.config.link_ttl.as_secs());
        for account in self.config.manager.accounts(&owner).await? {
            let wanted = known.wish.account.as_deref();
            if wanted.is_some_and(|wanted| *wanted != *account.id) {
                continue;
            }
            let key = AccountKey {
                owner: owner.clone(),
                account: account.id,
            };
            let record = self.config.manager.record(&key).await?;
            if let Some(record) = record.filter(|it| it.connected_at >= since) {
                return Ok(Some(ConnectionOutcome::Connected(record.account)));
            }
        }
        Ok(None)
    }

    /// Changes whenever something became of a connection in this process.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    async fn read_outcome(&self, id: &str) -> Result<Option<(u64, StoredOutcome)>, Fault> {
        let stored = self.vault().read(&path(id)).await?;
        Ok(stored.and_then(|stored| {
            let kept = serde_json::from_str(stored.value.expose()).ok()?;
            Some((stored.version, kept))
        }))
    }

    /// Says what became of a connection. What is connected stays so.
    pub(super) async fn set_outcome(&self, id: &str, outcome: ConnectionOutcome) {
        if let Err(fault) = self.write_outcome(id, outcome).await {
            tracing::warn!(%fault, "what became of a connection could not be stored");
        }
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    async fn write_outcome(&self, id: &str, outcome: ConnectionOutcome) -> Result<(), Fault> {
        let lasts = match outcome {
            ConnectionOutcome::Begun => self.config.pending_ttl.as_secs(),
            ConnectionOutcome::Connected(_) | ConnectionOutcome::Failed(_) => KEPT,
        };
        let kept = StoredOutcome {
            until: now().saturating_add(lasts),
            outcome,
        };
        let value = serialized(&kept)?;
        for _ in 0..TRIES {
            let before = self.read_outcome(id).await?;
            let version = before.as_ref().map_or(0, |(version, _)| *version);
            let done = before.is_some_and(|(_, it)| matches!(it.outcome, ConnectionOutcome::Connected(_)));
            if done && !matches!(kept.outcome, ConnectionOutcome::Connected(_)) {
                return Ok(());
            }
            if let Wrote::Done(_) = self.vault().write(&path(id), version, &value, None).await? {
                return Ok(());
            }
        }
        Err(Fault::new(Kind::Refused, "others keep writing an outcome"))
    }
}
