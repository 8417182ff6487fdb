//! Hands out accounts' signatures: from memory while they are valid, else from the vault, renewed
//! once by whoever holds the lease.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::broadcast;

use super::connection::{Connection, Connections};
use super::key::{Key, Owner};
use super::record::{AccountState, Record};
use super::signature::{Holder, Machines, Signature, Signed};
use super::vault::{Fault, Vault};
use super::web::Web;
use crate::error::{Code, Error};
use crate::telemetry::Metrics;

/// What a call wants.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
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

/// An account that may be used.
#[derive(Debug, Clone)]
pub struct Granted {
    /// Signs its requests, and keeps up with its tokens.
    pub signature: Arc<Signature>,
    /// Which one it is.
    pub account: Arc<str>,
}

/// An account as its user is told of it (contracts section 2, "Accounts").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// `accountId`.
    pub id: Arc<str>,
    /// Email or name.
    pub label: Option<String>,
    /// State.
    pub state: AccountState,
    /// Why, when it is not `ok`.
    pub reason: Option<String>,
    /// Whether it is the user's default.
    pub is_default: bool,
    /// When its access token ends, in unix seconds.
    pub expires_at: Option<u64>,
    /// Scopes asked for so far.
    pub requested: Vec<String>,
    /// Scopes granted, as far as known.
    pub granted: Option<Vec<String>>,
}

/// What happened to an account, told to whoever waits for it.
#[derive(Debug, Clone)]
pub struct Happened {
    /// Which.
    pub key: Key,
    /// What.
    pub what: What,
}

/// Kinds of what happens to accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Connected, or connected again.
    Connected,
    /// A new token set of the same grant is stored.
    Renewed,
    /// Revoked or removed.
    Revoked,
    /// Its user made it the default.
    Chosen,
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
pub struct Parts {
    /// Where records are.
    pub vault: Arc<dyn Vault>,
    /// The way to authorization servers.
    pub web: Arc<dyn Web>,
    /// Metrics of the process.
    pub metrics: Arc<Metrics>,
    /// The runtime that owns refreshes.
    pub control: Handle,
}

/// Keeps accounts; one per process.
#[derive(Debug)]
pub struct Keeper {
    parts: Parts,
    loaded: OnceLock<Arc<dyn Connections>>,
    happened: broadcast::Sender<Happened>,
}

impl Keeper {
    /// A keeper that knows nothing yet.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            parts,
            loaded: OnceLock::new(),
            happened: broadcast::Sender::new(256),
        })
    }

    /// Says what is loaded, and starts the work beside requests: the schedule and the sweeper.
    pub fn begin(self: &Arc<Self>, loaded: Arc<dyn Connections>) {
        self.loaded.set(loaded).ok();
    }

    /// The signature of an account when it is in memory and valid: no I/O.
    #[must_use]
    pub fn at_hand(&self, _ask: &Ask<'_>) -> Option<Granted> {
        None
    }

    /// The signature of an account, read and renewed where needed, within a bound.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn grant(&self, _ask: &Ask<'_>, _within: Duration) -> Result<Granted, Refused> {
        Err(Refused::NotConnected {
            reason: Reason::NeverConnected,
            wanted: None,
            accounts: Vec::new(),
        })
    }

    /// The accounts of a user at one connection, ordered by id; read anew when what is known is older
    /// than a moment.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn accounts(&self, _owner: &Owner) -> Result<Vec<Account>, Fault> {
        Ok(Vec::new())
    }

    /// The accounts of a user at one connection as far as they are in memory: no I/O.
    #[must_use]
    pub fn known(&self, _owner: &Owner) -> Vec<Account> {
        Vec::new()
    }

    /// All accounts of a user: connection and account.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn all(&self, _tenant: &Arc<str>, _user: &Arc<str>) -> Result<Vec<(Arc<str>, Account)>, Fault> {
        Ok(Vec::new())
    }

    /// The record of an account.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn record(&self, _key: &Key) -> Result<Option<Record>, Fault> {
        Ok(None)
    }

    /// Stores a new connection; it wins over whatever was there but for what its user chose.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn connect(&self, _key: &Key, _record: Record) -> Result<(), Fault> {
        Ok(())
    }

    /// Makes an account its user's default; `false` when there is none of that name.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn choose(&self, _key: &Key) -> Result<bool, Fault> {
        Ok(false)
    }

    /// Revokes at the provider as far as it lets, and removes the record whatever the provider says;
    /// `false` when there is none.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn revoke(&self, _key: &Key) -> Result<bool, Fault> {
        Ok(false)
    }

    /// Refreshes now if it is due; `None` when there is no such account.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn refresh(&self, _key: &Key, _force: bool) -> Result<Option<Refreshed>, Fault> {
        Ok(None)
    }

    /// Notes that an account was refused a request for want of scopes: the next authorization asks
    /// for these too. Says whether asking may help: they were not asked for before.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn missing_scopes(&self, _key: &Key, _scopes: &[String]) -> Result<bool, Fault> {
        Ok(true)
    }

    /// What happens from now on.
    #[must_use]
    pub fn watch(&self) -> broadcast::Receiver<Happened> {
        self.happened.subscribe()
    }

    /// Accounts in memory by connection and state, for `/providers` and the metrics.
    #[must_use]
    pub fn states(&self) -> Vec<(Arc<str>, AccountState, usize)> {
        Vec::new()
    }

    /// Waits until every redeemed token is stored: the end of the process.
    pub async fn settled(&self) {}

    /// Where records are.
    #[must_use]
    pub fn vault(&self) -> &Arc<dyn Vault> {
        &self.parts.vault
    }

    /// The way to authorization servers.
    #[must_use]
    pub fn web(&self) -> &Arc<dyn Web> {
        &self.parts.web
    }

    /// What is loaded.
    #[must_use]
    pub fn loaded(&self) -> Option<&Arc<dyn Connections>> {
        self.loaded.get()
    }
}

/// Tokens of client credentials are in memory alone.
impl Machines for Arc<Keeper> {
    fn machine(&self, _connection: &Arc<Connection>) -> Arc<Signature> {
        Arc::new(Signature::held(Arc::new(Unbuilt), None))
    }

    fn accounts(&self, connection: &str) -> Vec<(AccountState, usize)> {
        let states = self.states().into_iter();
        let own = states.filter(|(name, ..)| **name == *connection);
        own.map(|(_, state, count)| (state, count)).collect()
    }
}

#[derive(Debug)]
struct Unbuilt;

#[async_trait]
impl Holder for Unbuilt {
    fn now(&self) -> Arc<Signed> {
        Arc::default()
    }
    async fn ready(&self) -> Result<Arc<Signed>, Error> {
        Ok(Arc::default())
    }
    async fn refused(&self, _seq: u64) -> Result<Arc<Signed>, Error> {
        Ok(Arc::default())
    }
}

/// Why there is no signature.
#[derive(Debug)]
pub enum Refused {
    /// Never connected under this name, or to be connected again.
    NotConnected {
        /// Why.
        reason: Reason,
        /// The name that the call gave.
        wanted: Option<String>,
        /// What there is.
        accounts: Vec<Account>,
    },
    /// Was connected; refresh failed for good.
    Expired {
        /// Which.
        account: Arc<str>,
        /// Why.
        reason: Reason,
    },
    /// Several and no default.
    Ambiguous {
        /// Which.
        accounts: Vec<Account>,
    },
    /// The store cannot be reached, and nothing valid is in memory.
    Unavailable {
        /// When to try again.
        retry_after: Duration,
    },
    /// Somebody else redeems just now, or the provider cannot be reached: come back.
    Waiting {
        /// When to try again.
        retry_after: Duration,
    },
}

/// `reason` of answers, each with a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Never connected.
    NeverConnected,
    /// Revoked.
    Revoked,
    /// Refused by the provider.
    Refused,
    /// A renewal was interrupted.
    Interrupted,
    /// More rights are needed.
    Scopes,
}

impl Reason {
    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NeverConnected => "never_connected",
            Self::Revoked => "revoked",
            Self::Refused => "refused",
            Self::Interrupted => "interrupted",
            Self::Scopes => "scopes",
        }
    }
}

impl Account {
    /// As answers and `/v1/accounts` say it, without `provider`.
    #[must_use]
    pub fn told(&self) -> serde_json::Value {
        let mut told = json!({
            "accountId": &*self.id,
            "label": self.label.as_deref().unwrap_or(&self.id),
            "state": self.state.as_str(),
            "default": self.is_default,
        });
        if let Some(object) = told.as_object_mut() {
            if let Some(reason) = &self.reason {
                object.insert("reason".to_owned(), json!(reason));
            }
            if let Some(at) = self.expires_at {
                object.insert("expiresAt".to_owned(), json!(crate::telemetry::time::rfc3339(at)));
            }
        }
        told
    }
}

impl Refused {
    /// The error for a caller, without the link that the exchange adds.
    #[must_use]
    pub fn error(&self, connection: &Connection) -> Error {
        let (title, id) = (&connection.title, &connection.provider);
        let told = |accounts: &[Account]| accounts.iter().map(Account::told).collect::<Vec<_>>();
        match self {
            Self::NotConnected { reason, wanted, accounts } => {
                let name = wanted.as_deref().map_or_else(String::new, |it| format!(" under the name `{it}`"));
                let mut data = json!({ "provider_id": &**id, "reason": reason.as_str() });
                if let (Some(data), false) = (data.as_object_mut(), accounts.is_empty()) {
                    data.insert("accounts".to_owned(), json!(told(accounts)));
                }
                Error::new(Code::NeedsAuth, format!("{title} is not connected{name}")).data(data)
            }
            Self::Expired { account, reason } => Error::new(
                Code::TokenExpired,
                format!("the connection of `{account}` to {title} has ended; connect it again"),
            )
            .data(json!({ "provider_id": &**id, "accountId": &**account, "reason": reason.as_str() })),
            Self::Ambiguous { accounts } => Error::new(
                Code::AccountAmbiguous,
                format!("several accounts of {title} are connected and none is the default: name one as `accountId`"),
            )
            .data(json!({ "provider_id": &**id, "accounts": told(accounts) })),
            Self::Unavailable { retry_after } => Error::new(
                Code::CredentialStore,
                "the credential store cannot be reached; nothing was run",
            )
            .retry_after(*retry_after),
            Self::Waiting { retry_after } => Error::new(
                Code::CredentialTimeout,
                format!("the credential of {title} is being renewed; nothing was run"),
            )
            .retry_after(*retry_after),
        }
    }
}
