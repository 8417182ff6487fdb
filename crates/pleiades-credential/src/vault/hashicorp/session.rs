//! Our own token: had by logging in, renewed at two thirds of its life, had again when it is
//! refused; by one task at a time, whoever waits for it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use pleiades_core::backoff::Backoff;
use tokio::sync::{Mutex, Notify};
use tokio::{runtime::Handle, time::Instant};

use super::breaker::{BreakerPass, VaultBreaker, jittered};
use super::login::{self, LoginMethod, VaultToken};
use super::{refusals::Refusals, transport::VaultTransport};
use crate::vault::{Fault, Kind, Path};

/// Pauses between logins because a token was refused: when the next one is refused as well, it is the
/// policy that says no. The last one ends the count.
const AGAIN: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
];
/// The file of a token is looked at that often at most.
const LOOK: Duration = Duration::from_secs(1);
/// Pauses after refused logins: Vault locks out who tries too often.
const REFUSED: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
];
/// Soonest renewal after the last: near its last end a token is granted ever less.
const SOONEST: Duration = Duration::from_millis(500);
/// Pauses of the renewal after a failure.
const RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(super) struct VaultSession {
    transport: Arc<VaultTransport>,
    auth: LoginMethod,
    breaker: Arc<VaultBreaker>,
    refusals: Arc<Refusals>,
    current: ArcSwapOption<SessionToken>,
    /// Held by who logs in; the outcome of the last login.
    login: Mutex<LoginHistory>,
    /// Notified when there is a new token, or the session is over.
    news: Arc<Notify>,
}

#[derive(Debug)]
pub(super) struct SessionToken {
    pub(super) grant: VaultToken,
    born: Instant,
    serial: u64,
    /// When to renew it; `None`: never.
    due: Option<Instant>,
}

#[derive(Debug, Default)]
struct LoginHistory {
    serial: u64,
    refusals: usize,
    /// The last refused login, until when nobody tries again.
    refused: Option<(Instant, String)>,
    /// When a refused token was replaced last, and how often in a row.
    replaced: Option<(Instant, usize)>,
    /// When the file of a token was looked at last.
    looked: Option<Instant>,
}

/// The state of our own token, for people.
#[derive(Debug, Clone)]
pub struct LoginState {
    /// How we log in, as the settings say it.
    pub method: &'static str,
    /// Whether there is a token.
    pub logged_in: bool,
    /// Whether Vault lets it be renewed.
    pub renewable: bool,
    /// How long it still holds; `None` for ever, or unknown.
    pub ends_in: Option<Duration>,
}

impl LoginHistory {
    /// Whether a refused token may be replaced now; counts that it was.
    fn may_replace(&mut self) -> bool {
        let [.., longest] = AGAIN;
        let row = match self.replaced {
            Some((at, row)) if at.elapsed() < longest => {
                if at.elapsed() < AGAIN.get(row).copied().unwrap_or(longest) {
                    return false;
                }
                row + 1
            }
            _ => 0,
        };
        self.replaced = Some((Instant::now(), row));
        true
    }
}

impl SessionToken {
    fn ends(&self) -> Option<Instant> {
        // Vault's clock began a moment before ours.
        self.grant.ttl.map(|ttl| self.born + ttl - ttl / 20)
    }

    fn is_over(&self, now: Instant) -> bool {
        self.ends().is_some_and(|end| now >= end)
    }
}

impl VaultSession {
    pub(super) fn begin(
        wire: Arc<VaultTransport>,
        auth: LoginMethod,
        (breaker, refusals): (Arc<VaultBreaker>, Arc<Refusals>),
        control: &Handle,
    ) -> Arc<Self> {
        let session = Arc::new(Self {
            transport: wire,
            auth,
            breaker,
            refusals,
            current: ArcSwapOption::empty(),
            login: Mutex::default(),
            news: Arc::default(),
        });
        control.spawn(keep(Arc::downgrade(&session), Arc::clone(&session.news)));
        session
    }

    /// The token; logs in if there is none that holds.
    pub(super) async fn token(&self, pass: BreakerPass) -> Result<Arc<SessionToken>, Fault> {
        let now = Instant::now();
        if let Some(current) = self.current.load_full().filter(|current| !current.is_over(now)) {
            if !matches!(self.auth, LoginMethod::TokenFile(_)) {
                return Ok(current);
            }
            return Ok(self.check_file(current).await);
        }
        let mut last = self.login.lock().await;
        let current = self.current.load_full();
        if let Some(current) = current.filter(|current| !current.is_over(Instant::now())) {
            return Ok(current);
        }
        self.breaker.recheck(pass)?;
        self.log_in(&mut last).await
    }

    /// Another token than one that was refused; `None` when there cannot be one.
    pub(super) async fn another(
        &self,
        refused: &SessionToken,
        pass: BreakerPass,
    ) -> Result<Option<Arc<SessionToken>>, Fault> {
        let mut last = self.login.lock().await;
        let now = self.current.load_full();
        if let Some(current) = now.filter(|current| current.serial != refused.serial) {
            return Ok(Some(current));
        }
        let is_hopeless = match &self.auth {
            LoginMethod::Token(_) => true,
            LoginMethod::TokenFile(file) => login::read(file).await? == refused.grant.token,
            _ => !last.may_replace(),
        };
        if is_hopeless {
            return Ok(None);
        }
        tracing::info!("vault refused our token: logging in again");
        self.breaker.recheck(pass)?;
        self.log_in(&mut last).await.map(Some)
    }

    pub(super) fn state(&self) -> LoginState {
        let current = self.current.load_full();
        LoginState {
            method: self.auth.name(),
            logged_in: current.as_ref().is_some_and(|it| !it.is_over(Instant::now())),
            renewable: current.as_ref().is_some_and(|current| current.grant.renewable),
            ends_in: current.and_then(|current| {
                let ends = current.born + current.grant.ttl?;
                Some(ends.saturating_duration_since(Instant::now()))
            }),
        }
    }

    async fn check_file(&self, current: Arc<SessionToken>) -> Arc<SessionToken> {
        let LoginMethod::TokenFile(file) = &self.auth else {
            return current;
        };
        // Who reads the file already installs its token for all.
        let Ok(mut last) = self.login.try_lock() else {
            return current;
        };
        if last.looked.is_some_and(|looked| looked.elapsed() < LOOK) {
            return current;
        }
        last.looked = Some(Instant::now());
        match login::read(file).await {
            Ok(token) if token != current.grant.token => {
                tracing::info!(key.file = %file.display(), "the token file of vault has changed");
                self.log_in(&mut last).await.unwrap_or(current)
            }
            // A file that is gone for a moment, as it is replaced, harms nothing.
            _ => current,
        }
    }

    async fn log_in(&self, last: &mut LoginHistory) -> Result<Arc<SessionToken>, Fault> {
        let now = Instant::now();
        if let Some((until, message)) = last.refused.as_ref().filter(|(until, _)| now < *until) {
            return Err(Fault {
                retry_after: Some(until.saturating_duration_since(now)),
                ..Fault::new(Kind::Denied, message.clone())
            });
        }
        let had = self.auth.log_in(&self.transport).await;
        self.refusals.note("login", &Path::of(&[]), &had);
        match had {
            Ok(grant) => {
                last.refusals = 0;
                last.refused = None;
                tracing::info!(
                    vault.login = self.auth.name(),
                    vault.ttl = grant.ttl.map(|ttl| ttl.as_secs()),
                    "logged in to vault"
                );
                Ok(self.install(last, grant))
            }
            Err(fault) => {
                if fault.kind == Kind::Denied && self.auth.can_log_in() {
                    let pause = REFUSED.get(last.refusals).or(REFUSED.last());
                    let pause = pause.copied().unwrap_or_default();
                    last.refusals += 1;
                    last.refused = Some((Instant::now() + pause, fault.message.clone()));
                }
                Err(fault)
            }
        }
    }

    fn install(&self, last: &mut LoginHistory, grant: VaultToken) -> Arc<SessionToken> {
        let now = Instant::now();
        last.serial += 1;
        last.looked = Some(now);
        let lasts = !grant.renewable && matches!(self.auth, LoginMethod::Token(_));
        let after = grant.renew_after().filter(|_| !lasts);
        let current = Arc::new(SessionToken {
            grant,
            born: now,
            serial: last.serial,
            due: after.map(|after| now + after.max(SOONEST)),
        });
        self.current.store(Some(Arc::clone(&current)));
        self.news.notify_waiters();
        current
    }

    /// Renews the token if it is time, or has another when that leads nowhere. Whether Vault was asked.
    async fn renew(&self) -> Result<bool, Fault> {
        let mut last = self.login.lock().await;
        let Some(current) = self.current.load_full() else {
            return self.log_in(&mut last).await.map(|_| true);
        };
        // Whoever needed a token may have been faster.
        if current.due.is_none_or(|due| Instant::now() < due) {
            return Ok(false);
        }
        if current.grant.renewable && !current.is_over(Instant::now()) {
            match VaultToken::renewed(&current.grant.token, &self.transport).await {
                Ok(mut grant) => {
                    // An end once known is not forgotten.
                    let left = |ttl: Duration| ttl.saturating_sub(current.born.elapsed());
                    grant.ttl = grant.ttl.or(current.grant.ttl.map(left));
                    grant.token = current.grant.token.clone();
                    // Vault grants less and less as the last end comes near.
                    let both = grant.ttl.zip(current.grant.ttl);
                    let worn = both.is_some_and(|(new, old)| new < old / 2);
                    if !(worn && self.auth.can_log_in()) {
                        tracing::debug!(
                            vault.ttl = grant.ttl.map(|ttl| ttl.as_secs()),
                            "our token of vault is renewed"
                        );
                        self.install(&mut last, grant);
                        return Ok(true);
                    }
                }
                Err(trouble) if !matches!(trouble.kind, Kind::Denied | Kind::Refused) => {
                    return Err(trouble.fault(self.transport.base(), "renew our own token"));
                }
                Err(_) => tracing::debug!("vault does not renew our token"),
            }
        }
        self.log_in(&mut last).await.map(|_| true)
    }
}

impl Drop for VaultSession {
    fn drop(&mut self) {
        self.news.notify_waiters();
    }
}

/// Renews the token for as long as there is a session. Logs in at the start, so that the first request
/// need not.
async fn keep(session: Weak<VaultSession>, news: Arc<Notify>) {
    let mut backoff = Backoff::new(RETRY, LONGEST_RETRY);
    let mut pause = Duration::ZERO;
    let mut warned = None;
    loop {
        let due = {
            let Some(session) = session.upgrade() else { return };
            // Listening begins before looking.
            let heard = news.notified();
            tokio::pin!(heard);
            heard.as_mut().enable();
            let current = session.current.load_full();
            let due = current.map_or_else(|| Some(Instant::now()), |current| current.due);
            let due = due.map(|due| due.max(Instant::now() + pause));
            drop(session);
            tokio::select! {
                () = until(due) => due,
                () = &mut heard => None,
            }
        };
        if due.is_none() {
            continue;
        }
        let Some(session) = session.upgrade() else { return };
        match session.renew().await {
            Ok(asked) => {
                backoff.reset();
                pause = Duration::ZERO;
                warned = None;
                if asked {
                    session.breaker.worked();
                }
            }
            Err(fault) => {
                pause = jittered(backoff.pause());
                // A refused login was logged where it happened.
                if fault.kind != Kind::Denied && warned != Some(fault.kind) {
                    let what = match session.current.load().is_some() {
                        true => "our token of vault was not renewed; trying on",
                        false => "vault was not logged in to; trying on",
                    };
                    tracing::warn!(
                        outcome = fault.kind.as_str(),
                        error = &fault as &dyn std::error::Error,
                        "{what}"
                    );
                }
                warned = Some(fault.kind);
            }
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
