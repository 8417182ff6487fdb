//! Where credentials are kept: one trait, and two vaults that keep the same promises.

pub mod file;
pub mod hashicorp;
pub mod measured;
pub mod migrate;
#[cfg(test)]
pub(crate) mod tests;

use std::{fmt, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::key::{AccountKey, AccountOwner};
use pleiades_core::secret::Secret;

/// Where one entry is: segments of any text, encoded by each store so that none can form another path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path(Vec<Box<str>>);

impl Path {
    /// `c/{tenant}/{user}/{connection}/{account}`.
    pub(crate) fn account(key: &AccountKey) -> Self {
        let mut path = Self::accounts(&key.owner);
        path.0.push((*key.account).into());
        path
    }

    pub(crate) fn accounts(owner: &AccountOwner) -> Self {
        Self::of(&["c", &owner.tenant, &owner.user, &owner.connection])
    }

    /// A folder of the gateway's own: `_gateway/{segments}`.
    #[must_use]
    pub fn gateway(segments: &[&str]) -> Self {
        let mut path = Self::of(&["_gateway"]);
        path.0.extend(segments.iter().map(|segment| Box::from(*segment)));
        path
    }

    /// Any path, by its segments.
    #[must_use]
    pub fn of(segments: &[&str]) -> Self {
        Self(segments.iter().map(|segment| Box::from(*segment)).collect())
    }

    /// The path of a child.
    #[must_use]
    pub fn child(&self, segment: &str) -> Self {
        let mut path = self.clone();
        path.0.push(segment.into());
        path
    }

    /// Its segments, unencoded.
    #[must_use]
    pub fn segments(&self) -> &[Box<str>] {
        &self.0
    }
}

/// An entry as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its version, from 1; good for nothing but the next write.
    pub version: u64,
    /// Its text: JSON.
    pub value: Secret,
}

/// The outcome of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrote {
    /// It stands, under this version.
    Done(u64),
    /// Somebody wrote before: read again.
    Conflict,
}

/// What may be known of an entry without reading it. It never decides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hint {
    /// `seq` of the record.
    pub seq: u64,
    /// State of the account.
    pub state: String,
    /// When its access token ends, in unix seconds.
    pub expiry: Option<u64>,
}

/// A store of credentials.
#[async_trait]
pub trait Vault: Send + Sync + fmt::Debug {
    /// Reads an entry; `None` when there is none (never was, or removed).
    async fn read(&self, path: &Path) -> Result<Option<Stored>, Fault>;

    /// Writes an entry if its version is still `expected`; 0 means that there must be none.
    async fn write(
        &self,
        path: &Path,
        expected: u64,
        value: &Secret,
        hint: Option<&Hint>,
    ) -> Result<Wrote, Fault>;

    /// Removes an entry with all its versions and its metadata; one that is not there is no fault.
    async fn remove(&self, path: &Path) -> Result<(), Fault>;

    /// Names of the children of a folder (entries and folders), unencoded, sorted, each once; empty
    /// when there is no such folder.
    async fn list(&self, folder: &Path) -> Result<Vec<String>, Fault>;

    /// The hint of an entry.
    async fn hint(&self, path: &Path) -> Result<Option<Hint>, Fault>;

    /// Why the last request was not answered, where it was not and the store keeps that in mind.
    fn trouble(&self) -> Option<Kind> {
        None
    }
}

/// Why a vault failed to do something.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// The kind of fault.
    pub kind: Kind,
    /// One sentence for the operator: lowercase, no full stop, no secret.
    pub message: String,
    /// What mends it, where the store knows that; one imperative sentence, no full stop.
    pub cure: Option<String>,
    /// When trying again may help.
    pub retry_after: Option<Duration>,
    /// The cause, for the log.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// No connection, or no answer in time.
    Unreachable,
    /// Sealed, or a standby that cannot serve.
    Sealed,
    /// A standby that sends elsewhere, which is not followed.
    Redirected,
    /// Asked too often (429).
    Throttled,
    /// It failed (5xx).
    Failed,
    /// It does not let us (403).
    Denied,
    /// The store as a whole does not open: another key, or none.
    Unopened,
    /// What is stored cannot be opened or read.
    Corrupt,
    /// Anything else that it refused.
    Refused,
}

impl Kind {
    /// The stable name, as the metric says it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Sealed => "sealed",
            Self::Redirected => "redirected",
            Self::Throttled => "throttled",
            Self::Failed => "failed",
            Self::Denied => "denied",
            Self::Unopened => "unopened",
            Self::Corrupt => "corrupt",
            Self::Refused => "refused",
        }
    }

    /// When a caller may try again: soon where the fault may pass by itself, later where somebody has to
    /// mend the store first.
    #[must_use]
    pub const fn retry_after(self) -> Duration {
        match self {
            Self::Unreachable | Self::Sealed | Self::Throttled | Self::Failed => Duration::from_secs(5),
            Self::Redirected | Self::Denied | Self::Unopened | Self::Corrupt | Self::Refused => {
                Duration::from_secs(60)
            }
        }
    }

    /// The sentence for callers; the fault itself is for the operator, in the log.
    #[must_use]
    pub const fn caller_message(self) -> &'static str {
        match self {
            Self::Unreachable | Self::Sealed | Self::Throttled | Self::Failed => {
                "the credential store cannot be reached"
            }
            Self::Redirected | Self::Denied | Self::Refused => {
                "the credential store refused the gateway, which whoever runs it has to mend"
            }
            Self::Unopened | Self::Corrupt => {
                "the credential store cannot be opened, which whoever runs the gateway has to mend"
            }
        }
    }
}

impl Fault {
    /// A fault of a kind with a sentence.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            cure: None,
            retry_after: None,
            source: None,
        }
    }

    /// The sentence and the first cause, in one line.
    #[must_use]
    pub fn in_full(&self) -> String {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = None;
        let mut next = std::error::Error::source(self);
        while let Some(deeper) = next {
            (cause, next) = (Some(deeper), deeper.source());
        }
        match cause {
            Some(cause) => format!("{}: {cause}", self.message),
            None => self.message.clone(),
        }
    }

    /// Adds what mends it.
    #[must_use]
    pub fn cured(mut self, cure: impl Into<String>) -> Self {
        self.cure = Some(cure.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}
