//! What became of connections, for all who wait.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::link::{ConnectionRef, Links};
use super::pending::{TRIES, serialized};
use super::{account_key, hashed, now};
use crate::vault::{Fault, Kind, Path, Wrote};
use crate::{access::Principal, manager::CredentialManager};

/// How often the store is asked for somebody who waits: other replicas tell nobody here.
const POLL: Duration = Duration::from_secs(1);
/// How long an outcome is stored, in seconds.
const STORED: u64 = 24 * 3600;

/// The status of a connection.
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

#[derive(Debug, Serialize, Deserialize)]
struct StoredOutcome {
    /// When it may be removed, in unix seconds; a pending sign-in has expired then.
    until: u64,
    outcome: ConnectionOutcome,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ConnectionOutcome {
    Begun,
    /// It became this account.
    Connected(String),
    Failed(String),
}

/// Stores outcomes and says when one changes.
#[derive(Debug)]
pub struct Statuses {
    manager: Arc<CredentialManager>,
    links: Arc<Links>,
    pending_ttl: Duration,
    /// Counts the outcomes that changed here.
    changes: watch::Sender<u64>,
}

impl Statuses {
    pub(super) fn new(manager: Arc<CredentialManager>, links: Arc<Links>, pending_ttl: Duration) -> Self {
        Self {
            manager,
            links,
            pending_ttl,
            changes: watch::Sender::new(0),
        }
    }

    /// The status of a connection of this caller; `None` for anybody else's.
    ///
    /// # Errors
    /// When the store cannot be reached.
    pub async fn get(&self, principal: &Principal, id: &str) -> Result<Option<ConnectionStatus>, Fault> {
        let Some(connection) = self.links.open_id(principal, id) else {
            return Ok(None);
        };
        let stored = self.read(&connection.handle).await?;
        let (until, outcome) = match stored {
            Some((_, stored)) => (stored.until, Some(stored.outcome)),
            None => (0, self.external_outcome(principal, &connection).await?),
        };
        let (state, message, account) = match outcome {
            Some(ConnectionOutcome::Connected(account)) => ("connected", None, Some(account)),
            Some(ConnectionOutcome::Failed(why)) => ("failed", Some(why), None),
            Some(ConnectionOutcome::Begun) if until > now() => ("pending", None, None),
            _ if connection.until > now() => ("pending", None, None),
            _ => ("expired", None, None),
        };
        Ok(Some(ConnectionStatus {
            state,
            message,
            provider: connection.provider,
            account,
        }))
    }

    /// Waits until a connection of this caller is no longer pending, at most so long; then as
    /// [`get`](Self::get). A failed one may still succeed: a link starts several sign-ins.
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
        let mut changes = self.changes.subscribe();
        loop {
            changes.mark_unchanged();
            let status = self.get(principal, id).await?;
            let settled = status.as_ref().is_none_or(|it| it.state != "pending");
            if settled || Instant::now() >= end {
                return Ok(status);
            }
            // Changed here, or time to look whether another replica wrote.
            let poll = end.min(Instant::now() + POLL);
            drop(timeout_at(poll, changes.changed()).await);
        }
    }

    /// The outcome of a flow that runs elsewhere: the account that was put in since its link was made.
    async fn external_outcome(
        &self,
        principal: &Principal,
        asked: &ConnectionRef,
    ) -> Result<Option<ConnectionOutcome>, Fault> {
        let loaded = self.manager.loaded();
        let connection = loaded.and_then(|loaded| loaded.provider(&asked.provider));
        let Some(connection) = connection.filter(|it| it.connect_url.is_some()) else {
            return Ok(None);
        };
        let since = asked.until.saturating_sub(self.links.ttl.as_secs());
        let owner = account_key(principal, &connection.name, "").owner;
        for account in self.manager.accounts(&owner).await? {
            if !asked.may_be(&account.id) {
                continue;
            }
            let key = account_key(principal, &connection.name, &account.id);
            let record = self.manager.record(&key).await?;
            if let Some(record) = record.filter(|it| it.connected_at >= since) {
                return Ok(Some(ConnectionOutcome::Connected(record.account)));
            }
        }
        Ok(None)
    }

    /// Changes whenever an outcome changed in this process.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    async fn read(&self, handle: &str) -> Result<Option<(u64, StoredOutcome)>, Fault> {
        let stored = self.manager.vault().read(&path(handle)).await?;
        Ok(stored.and_then(|stored| {
            let outcome = serde_json::from_str(stored.value.expose()).ok()?;
            Some((stored.version, outcome))
        }))
    }

    /// Stores the outcome of a connection. What is connected stays so.
    pub(super) async fn set(&self, handle: &str, outcome: ConnectionOutcome) {
        if let Err(fault) = self.write(handle, outcome).await {
            tracing::warn!(
                outcome = fault.kind.as_str(),
                error = &fault as &dyn std::error::Error,
                "what became of a connection could not be stored"
            );
        }
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    async fn write(&self, handle: &str, outcome: ConnectionOutcome) -> Result<(), Fault> {
        let lasts = match outcome {
            ConnectionOutcome::Begun => self.pending_ttl.as_secs(),
            ConnectionOutcome::Connected(_) | ConnectionOutcome::Failed(_) => STORED,
        };
        let stored = StoredOutcome {
            until: now().saturating_add(lasts),
            outcome,
        };
        let (path, value) = (path(handle), serialized(&stored)?);
        let is_connected = |it: &StoredOutcome| matches!(it.outcome, ConnectionOutcome::Connected(_));
        for _ in 0..TRIES {
            let before = self.read(handle).await?;
            let version = before.as_ref().map_or(0, |(version, _)| *version);
            if before.is_some_and(|(_, it)| is_connected(&it)) && !is_connected(&stored) {
                return Ok(());
            }
            if let Wrote::Done(_) = self.manager.vault().write(&path, version, &value, None).await? {
                return Ok(());
            }
        }
        Err(Fault::new(Kind::Refused, "others keep writing an outcome"))
    }
}

fn path(handle: &str) -> Path {
    Path::gateway(&["pending", &format!("c-{}", hashed(handle))])
}
