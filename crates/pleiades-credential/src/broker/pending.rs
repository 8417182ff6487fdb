//! What a flow leaves in the vault, so that any replica can take its answer.

use std::sync::Arc;
use std::time::Duration;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::{Broker, ConnectError, ConnectErrorKind, ConnectionRequest, hashed, now};
use crate::access::Principal;
use crate::oauth::AuthServer;
use crate::record::{AccountRecord, TokenSource, exposed_option};
use crate::vault::{Fault, Kind, Path, Stored, Wrote};
use pleiades_core::secret::Secret;

/// Tries of a write that others keep coming before.
pub(super) const TRIES: usize = 8;
/// How long a used state is remembered, in seconds, so that its replay is told apart.
const REMEMBERED: u64 = 3600;
/// The same of a flow that nobody finished, which is larger.
const LATE: u64 = 300;

/// One authorization on its way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PendingConnection {
    pub(super) tenant: String,
    pub(super) user: String,
    /// Of which connection.
    pub(super) id: String,
    pub(super) wish: ConnectionRequest,
    /// Hash of the cookie that the answer must bring.
    pub(super) cookie: String,
    /// Whether the answer may come from any browser: of a command on this machine.
    #[serde(default)]
    pub(super) anywhere: bool,
    #[serde(default, with = "exposed_option")]
    pub(super) verifier: Option<Secret>,
    pub(super) nonce: Option<String>,
    pub(super) issuer: Option<String>,
    pub(super) iss_supported: bool,
    pub(super) userinfo: Option<String>,
    pub(super) source: TokenSource,
    pub(super) redirect: String,
    pub(super) scopes: Vec<String>,
    /// Under which name the registered client is kept, should it turn out to be refused.
    pub(super) client: Option<String>,
}

/// An entry: until when, and how far it is.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PendingEntry {
    pub(super) until: u64,
    pub(super) stage: PendingState,
}

/// How far a flow is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PendingState {
    /// The person is at the provider.
    Begun(Box<PendingConnection>),
    /// Tokens are had, of another account than the one that would be replaced: the person is asked.
    Asked(Box<PendingConnection>, Box<AccountRecord>),
    /// The answer was taken.
    Used,
}

impl PendingConnection {
    /// Whose flow it is.
    pub(super) fn principal(&self) -> Principal {
        Principal::new(self.tenant.as_str(), self.user.as_str())
    }

    /// As much of the server as naming the account needs.
    pub(super) fn server(&self) -> AuthServer {
        AuthServer {
            issuer: self.issuer.clone(),
            iss_supported: self.iss_supported,
            userinfo_endpoint: self.userinfo.clone(),
            token_endpoint: self.source.token_endpoint.clone(),
            ..AuthServer::default()
        }
    }
}

fn path(state: &str) -> Path {
    Path::gateway(&["pending", &format!("s-{}", hashed(state))])
}

/// A value as the vault keeps it.
///
/// # Errors
/// [`Kind::Corrupt`], which is a bug.
pub(super) fn serialized<T: Serialize>(value: &T) -> Result<Secret, Fault> {
    serde_json::to_string(value)
        .map(Secret::new)
        .map_err(|cause| Fault::new(Kind::Corrupt, "an entry of the broker cannot be written").because(cause))
}

impl Broker {
    /// Stores a flow under its state.
    ///
    /// # Errors
    /// [`Fault`].
    pub(super) async fn store_pending(&self, state: &str, flow: PendingConnection) -> Result<(), Fault> {
        let entry = PendingEntry {
            until: now().saturating_add(self.config.pending_ttl.as_secs()),
            stage: PendingState::Begun(Box::new(flow)),
        };
        match self
            .vault()
            .write(&path(state), 0, &serialized(&entry)?, None)
            .await?
        {
            Wrote::Done(_) => Ok(()),
            Wrote::Conflict => Err(Fault::new(Kind::Refused, "a state was made twice")),
        }
    }

    /// The entry of a state, with the version that a write needs.
    ///
    /// # Errors
    /// [`Refusal`] when there is none, it is over, or it was used.
    pub(super) async fn read_pending(&self, state: &str) -> Result<(u64, PendingEntry), ConnectError> {
        let stored = self.vault().read(&path(state)).await;
        let stored = stored.map_err(|fault| ConnectError::store(&fault))?;
        let Some((version, entry)) = stored.as_ref().and_then(parse) else {
            return Err(ConnectError::new(
                ConnectErrorKind::Unknown,
                "This answer belongs to no connection that was begun here.",
                "Open the connect link again and begin anew.",
            ));
        };
        if matches!(entry.stage, PendingState::Used) {
            return Err(used());
        }
        if entry.until <= now() {
            return Err(ConnectError::new(
                ConnectErrorKind::Gone,
                "This connection was begun too long ago.",
                "Open the connect link again; if that has expired too, make the call again.",
            ));
        }
        Ok((version, entry))
    }

    /// Takes an entry for good: of two who try, one succeeds.
    ///
    /// # Errors
    /// [`Refusal`].
    pub(super) async fn consume_pending(&self, state: &str, version: u64) -> Result<(), ConnectError> {
        let entry = PendingEntry {
            until: now(),
            stage: PendingState::Used,
        };
        let write = async {
            let value = serialized(&entry)?;
            self.vault().write(&path(state), version, &value, None).await
        };
        match write.await {
            Ok(Wrote::Done(_)) => Ok(()),
            Ok(Wrote::Conflict) => Err(used()),
            Err(fault) => Err(ConnectError::store(&fault)),
        }
    }

    /// Puts tokens aside until the person has said whether they may replace others.
    ///
    /// # Errors
    /// [`Fault`].
    pub(super) async fn await_confirmation(
        &self,
        state: &str,
        flow: PendingConnection,
        record: AccountRecord,
    ) -> Result<(), Fault> {
        let entry = PendingEntry {
            until: now().saturating_add(self.config.pending_ttl.as_secs()),
            stage: PendingState::Asked(Box::new(flow), Box::new(record)),
        };
        let (path, value) = (path(state), serialized(&entry)?);
        for _ in 0..TRIES {
            let version = self.vault().read(&path).await?.map_or(0, |it| it.version);
            if let Wrote::Done(_) = self.vault().write(&path, version, &value, None).await? {
                return Ok(());
            }
        }
        Err(Fault::new(Kind::Refused, "others keep writing a pending entry"))
    }

    /// Removes what is over, now and then. Each replica does; what two remove is removed once.
    pub(super) fn start_sweeper(self: &Arc<Self>) {
        let every = self.config.pending_ttl.max(Duration::from_secs(60));
        let broker = Arc::downgrade(self);
        self.config.control.spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                let Some(broker) = broker.upgrade() else { return };
                if let Err(fault) = broker.sweep().await {
                    tracing::debug!(%fault, "pending connections were not tidied up");
                }
            }
        });
    }

    /// Removes what was over some time ago.
    ///
    /// # Errors
    /// [`Fault`].
    pub(super) async fn sweep(&self) -> Result<(), Fault> {
        /// As much of an entry as says how long it is kept; none of its secrets.
        #[derive(Deserialize)]
        struct EntryAge {
            until: u64,
            stage: Option<EntryStage>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum EntryStage {
            Begun(IgnoredAny),
            Asked(IgnoredAny, IgnoredAny),
            Used,
        }
        self.pending_limit.forget_expired(now());
        let folder = Path::gateway(&["pending"]);
        for name in self.vault().list(&folder).await? {
            let path = folder.child(&name);
            let Some(stored) = self.vault().read(&path).await? else {
                continue;
            };
            let dated = serde_json::from_str::<EntryAge>(stored.value.expose());
            let is_over = |it: EntryAge| {
                let unfinished = matches!(it.stage, Some(EntryStage::Begun(_)));
                let remembered = if unfinished { LATE } else { REMEMBERED };
                it.until.saturating_add(remembered) <= now()
            };
            if dated.map_or(true, is_over) {
                self.revoke_unconfirmed(&stored).await;
                self.vault().remove(&path).await?;
            }
        }
        Ok(())
    }

    /// Tokens that nobody confirmed are given back.
    async fn revoke_unconfirmed(&self, stored: &Stored) {
        if let Some((_, entry)) = parse(stored)
            && let PendingState::Asked(flow, record) = entry.stage
        {
            self.revoke_tokens(&flow, &record.tokens).await;
        }
    }
}

fn parse(stored: &Stored) -> Option<(u64, PendingEntry)> {
    let entry = serde_json::from_str(stored.value.expose()).ok()?;
    Some((stored.version, entry))
}

fn used() -> ConnectError {
    ConnectError::new(
        ConnectErrorKind::Gone,
        "This answer was used already.",
        "If the account is not connected, open the connect link again and begin anew.",
    )
}
