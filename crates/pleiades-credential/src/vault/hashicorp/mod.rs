//! `HashiCorp` Vault: entries of the KV engine, version 2, under one prefix, optionally in envelopes of
//! the transit engine.
//!
//! What Vault is asked to allow, and what the gateway does when it cannot: `docs/VAULT.md`.

mod breaker;
mod envelope;
mod failure;
mod kv;
mod login;
mod lookup;
mod name;
mod refusals;
mod session;
mod transport;

use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use rustify::endpoint::Endpoint;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use breaker::{VaultBreaker, jittered};
use failure::RequestFailure;
pub use login::LoginMethod;
pub use lookup::FieldLookup;
use refusals::Refusals;
pub use session::LoginState;
use session::VaultSession;
use transport::{VaultReply, VaultTransport};

use super::{Fault, Hint, Kind, Path, Stored, Vault, Wrote};
use pleiades_core::secret::Secret;

/// Longest wait for the answer to a read.
const READ: Duration = Duration::from_secs(6);
/// Longest wait for the answer to a write: its tokens may exist nowhere else.
const WRITE: Duration = Duration::from_secs(10);
const ATTEMPTS: u32 = 3;
/// The pause before the second; twice that before the third.
const PAUSE: Duration = Duration::from_millis(60);

/// Where Vault is and how it is used.
#[derive(Debug, Clone)]
pub struct Config {
    /// Scheme, host and port.
    pub address: String,
    /// Mount of the KV engine, version 2.
    pub mount: String,
    /// Path under which everything of ours is kept.
    pub prefix: String,
    /// Namespace.
    pub namespace: Option<String>,
    /// PEM file of certificates that are trusted instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Key of the transit engine that wraps records: `NAME` at the mount `transit`, or `MOUNT/NAME`.
    pub transit_key: Option<String>,
    /// How we log in.
    pub auth: LoginMethod,
}

/// A Vault.
#[derive(Debug)]
pub struct HashicorpVault {
    transport: Arc<VaultTransport>,
    session: Arc<VaultSession>,
    breaker: Arc<VaultBreaker>,
    refusals: Arc<Refusals>,
    mount: String,
    prefix: String,
    transit: Option<Transit>,
}

#[derive(Debug)]
struct Transit {
    mount: String,
    key: String,
}

/// Whether a request may be sent again when nobody knows whether it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// It changes nothing, or the same whenever it is done.
    Repeatable,
    Once,
}

/// Opens a Vault. Reads `ca_file`, asks nobody: the first login happens beside, on `control`.
///
/// # Errors
/// [`Kind::Refused`] when the configuration cannot be meant.
pub fn open(config: Config, control: &Handle) -> Result<Arc<HashicorpVault>, Fault> {
    let ca = match &config.ca_file {
        None => None,
        Some(file) => Some(std::fs::read(file).map_err(|cause| {
            let message = format!("`vault.hashicorp.ca_file`: `{}` cannot be read", file.display());
            Fault::new(Kind::Refused, message).because(cause)
        })?),
    };
    let wire = Arc::new(VaultTransport::open(
        &config.address,
        config.namespace.as_deref(),
        ca.as_deref(),
    )?);
    let breaker = Arc::<VaultBreaker>::default();
    let refusals = Arc::<Refusals>::default();
    let transit = config
        .transit_key
        .map(|key| {
            let (mount, key) = key.rsplit_once('/').unwrap_or(("transit", &key));
            Ok(Transit {
                mount: plain(mount, "transit_key")?,
                key: plain(key, "transit_key")?,
            })
        })
        .transpose()?;
    Ok(Arc::new(HashicorpVault {
        session: VaultSession::begin(
            Arc::clone(&wire),
            config.auth,
            (Arc::clone(&breaker), Arc::clone(&refusals)),
            control,
        ),
        transport: wire,
        breaker,
        refusals,
        mount: plain(&config.mount, "mount")?,
        prefix: plain(&config.prefix, "prefix")?,
        transit,
    }))
}

/// A plain path: no empty segment, no dots, nothing that a URL would change.
fn plain(path: &str, field: &str) -> Result<String, Fault> {
    let path = path.trim_matches('/');
    let is_plain = path.split('/').all(|segment| {
        !matches!(segment, "" | "." | "..")
            && segment.bytes().all(|byte| {
                byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'@' | b'~' | b'=')
            })
    });
    if is_plain {
        return Ok(path.to_owned());
    }
    let message = format!(
        "`vault.hashicorp.{field}` must be segments of letters, digits, `_`, `-` and `.` between single slashes"
    );
    Err(Fault::new(Kind::Refused, message))
}

impl HashicorpVault {
    /// The state of our own token, without asking Vault.
    #[must_use]
    pub fn login_state(&self) -> LoginState {
        self.session.state()
    }

    /// Logs in if need be.
    ///
    /// # Errors
    /// [`Fault`], with the cure.
    pub async fn log_in(&self) -> Result<LoginState, Fault> {
        let pass = self.breaker.enter()?;
        let had = self.session.token(pass).await;
        self.note_fault(had.map(drop))?;
        Ok(self.session.state())
    }

    pub(crate) fn mount(&self) -> &str {
        &self.mount
    }

    async fn ask<E: Endpoint, T: DeserializeOwned>(
        &self,
        what: &str,
        make: impl Fn() -> Option<E>,
    ) -> Result<T, KvError> {
        let reply = self
            .repeat(what, Repeat::Repeatable, |token| {
                let request = make();
                async move {
                    let request = request.ok_or_else(RequestFailure::unsendable)?;
                    self.transport.ask::<T>(request, Some(&token), READ).await
                }
            })
            .await?;
        let VaultReply { data: Some(data), .. } = reply else {
            return Err(KvError::Fault(
                RequestFailure::unreadable().fault(self.transport.base(), what),
            ));
        };
        Ok(data)
    }

    /// Sends until it is done, refused, or not to be repeated.
    async fn repeat<R, F: Future<Output = Result<R, RequestFailure>> + Send>(
        &self,
        what: &str,
        sort: Repeat,
        send: impl Fn(Secret) -> F,
    ) -> Result<R, KvError> {
        let end = Instant::now() + if sort == Repeat::Once { WRITE } else { READ };
        let pass = self.breaker.enter()?;
        let mut token = self.note_fault(self.session.token(pass).await)?;
        let (mut attempt, mut again) = (1, true);
        loop {
            let trouble = match send(token.grant.token.clone()).await {
                Ok(done) => {
                    self.breaker.worked();
                    return Ok(done);
                }
                Err(trouble) => trouble,
            };
            if trouble.is_denied() && again {
                again = false;
                if let Some(other) = self.note_fault(self.session.another(&token, pass).await)? {
                    token = other;
                    continue;
                }
            }
            let may = trouble.is_passing() && (trouble.undone || sort == Repeat::Repeatable);
            let pause = jittered(PAUSE * attempt);
            if !may || attempt == ATTEMPTS || Instant::now() + pause >= end {
                return Err(self.gave_up(trouble, what));
            }
            attempt += 1;
            sleep(pause).await;
        }
    }

    fn gave_up(&self, trouble: RequestFailure, what: &str) -> KvError {
        if trouble.is_absent() {
            self.breaker.worked();
            return KvError::Absent(trouble.deleted);
        }
        if trouble.is_conflict() {
            self.breaker.worked();
            return KvError::Conflict;
        }
        let fault = trouble.fault(self.transport.base(), what);
        self.breaker.failed(&fault);
        KvError::Fault(fault)
    }

    fn note_fault<T>(&self, result: Result<T, Fault>) -> Result<T, Fault> {
        if let Err(fault) = &result {
            self.breaker.failed(fault);
        }
        result
    }
}

#[derive(Debug)]
enum KvError {
    /// There is no entry; the version that was deleted, if it was.
    Absent(Option<u64>),
    Conflict,
    Fault(Fault),
}

impl From<Fault> for KvError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl KvError {
    /// The fault, where a lost race cannot be.
    fn fault(self) -> Fault {
        match self {
            Self::Fault(fault) => fault,
            Self::Absent(_) => Fault::new(Kind::Refused, "vault does not know what it was asked"),
            Self::Conflict => Fault::new(Kind::Refused, "vault found another version than it was told"),
        }
    }
}

#[async_trait]
impl Vault for HashicorpVault {
    async fn read(&self, path: &Path) -> Result<Option<Stored>, Fault> {
        let read = self.read_entry(&self.path(path)).await;
        self.refusals.note("read", path, &read);
        read
    }

    async fn write(
        &self,
        path: &Path,
        expected: u64,
        value: &Secret,
        hint: Option<&Hint>,
    ) -> Result<Wrote, Fault> {
        let wrote = self.write_entry(&self.path(path), expected, value, hint).await;
        self.refusals.note("write", path, &wrote);
        wrote
    }

    async fn remove(&self, path: &Path) -> Result<(), Fault> {
        let removed = self.remove_entry(&self.path(path)).await;
        self.refusals.note("remove", path, &removed);
        removed
    }

    async fn list(&self, folder: &Path) -> Result<Vec<String>, Fault> {
        let listed = self.list_names(&self.path(folder)).await;
        self.refusals.note("list", folder, &listed);
        listed
    }

    async fn hint(&self, path: &Path) -> Result<Option<Hint>, Fault> {
        let read = self.read_hint(&self.path(path)).await;
        self.refusals.note("hint", path, &read);
        read
    }
}

#[cfg(test)]
mod tests;
