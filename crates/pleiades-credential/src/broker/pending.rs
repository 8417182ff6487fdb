//! Sign-ins on their way, stored so that any replica can take the answer.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{ConnectError, ConnectErrorKind, ConnectionRequest, failures::Attempted, hashed, now};
use crate::record::{AccountRecord, TokenSource, exposed_option};
use crate::vault::{Fault, Kind, Path, Stored, Vault, Wrote};
use crate::{access::Principal, manager::CredentialManager, oauth::AuthServer};
use pleiades_core::secret::Secret;

/// Attempts of a write that others keep overtaking.
pub(super) const TRIES: usize = 8;
/// How long a used state is remembered, in seconds, so that its replay is recognized.
const REMEMBERED: u64 = 3600;
/// The same of a sign-in that nobody finished, which is larger.
const LATE: u64 = 300;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PendingConnection {
    pub(super) tenant: String,
    pub(super) user: String,
    /// Handle of the connection.
    pub(super) id: String,
    #[serde(rename = "wish")]
    pub(super) request: ConnectionRequest,
    /// As in [`LinkPayload`](super::LinkPayload).
    #[serde(default)]
    pub(super) account_digest: Option<String>,
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
    /// The name that the registered client is stored under, should it turn out to be refused.
    pub(super) client: Option<String>,
    /// Until when the link opens that began it; 0 where a command did.
    #[serde(default)]
    pub(super) link_until: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PendingEntry {
    pub(super) until: u64,
    pub(super) stage: PendingState,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PendingState {
    Begun(Box<PendingConnection>),
    /// Tokens were issued, of another account than the one that would be replaced: the person is asked.
    Asked(Box<PendingConnection>, Box<AccountRecord>),
    /// It is connected; the person is asked which account calls use that name none.
    Choosing(Box<PendingChoice>),
    Used,
}

/// A question that nobody has to answer: without an answer everything stays as it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PendingChoice {
    pub(super) tenant: String,
    pub(super) user: String,
    pub(super) provider: String,
    pub(super) connection: String,
    /// The account that was connected, and its label.
    pub(super) account: String,
    pub(super) label: Option<String>,
    /// The one that is used so far.
    pub(super) used: Option<String>,
    /// As in [`PendingConnection`].
    pub(super) cookie: String,
}

impl PendingConnection {
    pub(super) fn principal(&self) -> Principal {
        Principal::new(self.tenant.as_str(), self.user.as_str())
    }

    pub(super) fn attempted(&self) -> Attempted {
        Attempted::of(
            &self.principal(),
            &self.request.provider,
            self.request.account.as_deref(),
        )
    }

    /// Who connects what, for the lines of the log.
    pub(super) fn span(&self) -> tracing::Span {
        tracing::error_span!(
            "connection",
            provider.name = self.request.provider,
            principal.tenant = self.tenant,
            principal.user = self.user,
            account.id = self.request.account,
        )
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

#[derive(Debug)]
pub(super) struct ExpiredEntry {
    pub(super) unconfirmed: Option<(Box<PendingConnection>, Box<AccountRecord>)>,
}

#[derive(Debug)]
pub(super) struct PendingStore {
    manager: Arc<CredentialManager>,
    pub(super) ttl: Duration,
}

impl PendingStore {
    pub(super) const fn new(manager: Arc<CredentialManager>, ttl: Duration) -> Self {
        Self { manager, ttl }
    }

    fn vault(&self) -> &dyn Vault {
        &**self.manager.vault()
    }

    fn entry(&self, stage: PendingState) -> Result<Secret, Fault> {
        let until = now().saturating_add(self.ttl.as_secs());
        serialized(&PendingEntry { until, stage })
    }

    pub(super) async fn begin(&self, state: &str, pending: PendingConnection) -> Result<(), Fault> {
        let value = self.entry(PendingState::Begun(Box::new(pending)))?;
        match self.vault().write(&path(state), 0, &value, None).await? {
            Wrote::Done(_) => Ok(()),
            Wrote::Conflict => Err(Fault::new(Kind::Refused, "a state was made twice")),
        }
    }

    /// The entry of a state, with the version that a write needs.
    /// Errors: [`ConnectError`] when there is none, it has expired, or it was used.
    pub(super) async fn read(&self, state: &str) -> Result<(u64, PendingEntry), ConnectError> {
        let stored = self.vault().read(&path(state)).await?;
        let Some((version, entry)) = stored.as_ref().and_then(parse) else {
            return Err(ConnectError::begin_anew(
                ConnectErrorKind::Unknown,
                "This answer belongs to no sign-in that was begun here.",
            ));
        };
        if matches!(entry.stage, PendingState::Used) {
            return Err(used());
        }
        if entry.until <= now() {
            return Err(ConnectError::new(
                ConnectErrorKind::Gone,
                "This sign-in was begun too long ago.",
                "Open the link again. If that has expired too, ask your agent: it gets a new one.",
            ));
        }
        Ok((version, entry))
    }

    /// Consumes an entry: of two who try, one succeeds.
    pub(super) async fn consume(&self, state: &str, version: u64) -> Result<(), ConnectError> {
        let value = serialized(&PendingEntry {
            until: now(),
            stage: PendingState::Used,
        })?;
        match self.vault().write(&path(state), version, &value, None).await? {
            Wrote::Done(_) => Ok(()),
            Wrote::Conflict => Err(used()),
        }
    }

    /// Stores tokens until the person has said whether they may replace others.
    pub(super) async fn await_confirmation(
        &self,
        state: &str,
        pending: PendingConnection,
        record: AccountRecord,
    ) -> Result<(), Fault> {
        self.ask(state, PendingState::Asked(Box::new(pending), Box::new(record)))
            .await
    }

    /// Stores the question which account calls use that name none.
    pub(super) async fn await_choice(&self, state: &str, choice: PendingChoice) -> Result<(), Fault> {
        self.ask(state, PendingState::Choosing(Box::new(choice))).await
    }

    async fn ask(&self, state: &str, stage: PendingState) -> Result<(), Fault> {
        let path = path(state);
        let value = self.entry(stage)?;
        for _ in 0..TRIES {
            let version = self.vault().read(&path).await?.map_or(0, |it| it.version);
            if let Wrote::Done(_) = self.vault().write(&path, version, &value, None).await? {
                return Ok(());
            }
        }
        Err(Fault::new(Kind::Refused, "others keep writing a pending entry"))
    }

    /// Every entry, outcomes of connections among them.
    pub(super) async fn paths(&self) -> Result<Vec<Path>, Fault> {
        let folder = Path::gateway(&["pending"]);
        let names = self.vault().list(&folder).await?;
        Ok(names.iter().map(|name| folder.child(name)).collect())
    }

    /// An entry, if it expired long enough ago to be removed. What cannot be read has.
    pub(super) async fn expired(&self, path: &Path) -> Result<Option<ExpiredEntry>, Fault> {
        #[derive(Deserialize)]
        struct EntryAge {
            until: u64,
        }
        let Some(stored) = self.vault().read(path).await? else {
            return Ok(None);
        };
        let age = serde_json::from_str::<EntryAge>(stored.value.expose());
        let stage = parse(&stored).map(|(_, entry)| entry.stage);
        let remembered = match stage {
            Some(PendingState::Begun(_)) => LATE,
            _ => REMEMBERED,
        };
        if age.is_ok_and(|age| age.until.saturating_add(remembered) > now()) {
            return Ok(None);
        }
        Ok(Some(ExpiredEntry {
            unconfirmed: match stage {
                Some(PendingState::Asked(pending, record)) => Some((pending, record)),
                _ => None,
            },
        }))
    }
}

fn path(state: &str) -> Path {
    Path::gateway(&["pending", &format!("s-{}", hashed(state))])
}

/// A value as the vault stores it.
/// Errors: [`Kind::Corrupt`], which is a bug.
pub(super) fn serialized<T: Serialize>(value: &T) -> Result<Secret, Fault> {
    serde_json::to_string(value)
        .map(Secret::new)
        .map_err(|cause| Fault::new(Kind::Corrupt, "an entry of the broker cannot be written").because(cause))
}

fn parse(stored: &Stored) -> Option<(u64, PendingEntry)> {
    let entry = serde_json::from_str(stored.value.expose()).ok()?;
    Some((stored.version, entry))
}

fn used() -> ConnectError {
    ConnectError::new(
        ConnectErrorKind::Gone,
        "This page was opened already, and each sign-in counts once.",
        "If the account is not connected, open the link again and start over.",
    )
}
