//! Our own token: had by logging in, renewed at two thirds of its life, had again when it is
//! refused; by one task at a time, whoever waits for it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

use super::login::{self, Auth, Grant};
use super::patience::{Pass, Patience, jittered};
use super::refusals::Refusals;
use super::wire::Wire;
use crate::credential::vault::{Fault, Kind, Path};

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

/// Our own token and the way to the next.
#[derive(Debug)]
pub(super) struct Session {
    wire: Arc<Wire>,
    auth: Auth,
    patience: Arc<Patience>,
    refusals: Arc<Refusals>,
    held: ArcSwapOption<Held>,
    /// Whoever logs in, and what came of it last.
    login: Mutex<Last>,
    /// A token was had, or the session is over.
    news: Arc<Notify>,
}

/// A token that holds, as far as we know.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) grant: Grant,
    born: Instant,
    serial: u64,
    /// When to renew it; `None`: never.
    due: Option<Instant>,
}

#[derive(Debug, Default)]
struct Last {
    serial: u64,
    refusals: usize,
    /// The last refused login, until when nobody tries again.
    refused: Option<(Instant, String)>,
    /// When a refused token was replaced last, and how often in a row.
    replaced: Option<(Instant, usize)>,
    /// When the file of a token was looked at last.
    looked: Option<Instant>,
}

/// What is known of our own token, for people.
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

impl Last {
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

impl Held {
    fn ends(&self) -> Option<Instant> {
        // Vault's clock began a moment before ours.
        self.grant.ttl.map(|ttl| self.born + ttl - ttl / 20)
    }

    fn is_over(&self, now: Instant) -> bool {
        self.ends().is_some_and(|end| now >= end)
    }
}

impl Session {
    pub(super) fn begin(
        wire: Arc<Wire>,
        auth: Auth,
        (patience, refusals): (Arc<Patience>, Arc<Refusals>),
        control: &Handle,
    ) -> Arc<Self> {
        let session = Arc::new(Self {
            wire,
            auth,
            patience,
            refusals,
            held: ArcSwapOption::empty(),
            login: Mutex::default(),
            news: Arc::default(),
        });
        control.spawn(keep(Arc::downgrade(&session), Arc::clone(&session.news)));
        session
    }

    /// The token, had if there is none that holds.
    pub(super) async fn token(&self, pass: Pass) -> Result<Arc<Held>, Fault> {
        let now = Instant::now();
        if let Some(held) = self.held.load_full().filter(|held| !held.is_over(now)) {
            if !matches!(self.auth, Auth::TokenFile(_)) {
                return Ok(held);
            }
            return Ok(self.look(held).await);
        }
        let mut last = self.login.lock().await;
        if let Some(held) = self.held.load_full().filter(|held| !held.is_over(Instant::now())) {
            return Ok(held);
        }
        self.patience.still(pass)?;
        self.log_in(&mut last).await
    }

    /// Another token than one that was refused; `None` when there is no hope of one.
    pub(super) async fn another(&self, refused: &Held, pass: Pass) -> Result<Option<Arc<Held>>, Fault> {
        let mut last = self.login.lock().await;
        let now = self.held.load_full();
        if let Some(held) = now.filter(|held| held.serial != refused.serial) {
            return Ok(Some(held));
        }
        let is_hopeless = match &self.auth {
            Auth::Token(_) => true,
            Auth::TokenFile(file) => login::read(file).await? == refused.grant.token,
            _ => !last.may_replace(),
        };
        if is_hopeless {
            return Ok(None);
        }
        tracing::info!("vault refused our token: logging in again");
        self.patience.still(pass)?;
        self.log_in(&mut last).await.map(Some)
    }

    /// What is known of our own token.
    pub(super) fn state(&self) -> LoginState {
        let held = self.held.load_full();
        LoginState {
            method: self.auth.name(),
            logged_in: held.as_ref().is_some_and(|held| !held.is_over(Instant::now())),
            renewable: held.as_ref().is_some_and(|held| held.grant.renewable),
            ends_in: held.and_then(|held| {
                let ends = held.born + held.grant.ttl?;
                Some(ends.saturating_duration_since(Instant::now()))
            }),
        }
    }

    /// The token of the file, if it has changed.
    async fn look(&self, held: Arc<Held>) -> Arc<Held> {
        let Auth::TokenFile(file) = &self.auth else {
            return held;
        };
        // Whoever is looking tells the others.
        let Ok(mut last) = self.login.try_lock() else {
            return held;
        };
        if last.looked.is_some_and(|looked| looked.elapsed() < LOOK) {
            return held;
        }
        last.looked = Some(Instant::now());
        match login::read(file).await {
            Ok(token) if token != held.grant.token => {
                tracing::info!(file = %file.display(), "the token file of vault has changed");
                self.log_in(&mut last).await.unwrap_or(held)
            }
            // A file that is gone for a moment, as it is replaced, harms nothing.
            _ => held,
        }
    }

    async fn log_in(&self, last: &mut Last) -> Result<Arc<Held>, Fault> {
        let now = Instant::now();
        if let Some((until, message)) = last.refused.as_ref().filter(|(until, _)| now < *until) {
            return Err(Fault {
                retry_after: Some(until.saturating_duration_since(now)),
                ..Fault::new(Kind::Denied, message.clone())
            });
        }
        let had = self.auth.log_in(&self.wire).await;
        self.refusals.note("login", &Path::of(&[]), &had);
        match had {
            Ok(grant) => {
                last.refusals = 0;
                last.refused = None;
                tracing::info!(method = self.auth.name(), ttl = ?grant.ttl, "logged in to vault");
                Ok(self.hold(last, grant))
            }
            Err(fault) => {
                if fault.kind == Kind::Denied && self.auth.can_log_in() {
                    let pause = REFUSED
                        .get(last.refusals)
                        .or(REFUSED.last())
                        .copied()
                        .unwrap_or_default();
                    last.refusals += 1;
                    last.refused = Some((Instant::now() + pause, fault.message.clone()));
                }
                Err(fault)
            }
        }
    }

    fn hold(&self, last: &mut Last, grant: Grant) -> Arc<Held> {
        let now = Instant::now();
        last.serial += 1;
        last.looked = Some(now);
        let lasts = !grant.renewable && matches!(self.auth, Auth::Token(_));
        let after = grant.renew_after().filter(|_| !lasts);
        let held = Arc::new(Held {
            grant,
            born: now,
            serial: last.serial,
            due: after.map(|after| now + after.max(SOONEST)),
        });
        self.held.store(Some(Arc::clone(&held)));
        self.news.notify_waiters();
        held
    }

    /// Renews the token if it is time, or has another when that leads nowhere. Whether Vault was asked.
    async fn renew(&self) -> Result<bool, Fault> {
        let mut last = self.login.lock().await;
        let Some(held) = self.held.load_full() else {
            return self.log_in(&mut last).await.map(|_| true);
        };
        // Whoever needed a token may have been faster.
        if held.due.is_none_or(|due| Instant::now() < due) {
            return Ok(false);
        }
        if held.grant.renewable && !held.is_over(Instant::now()) {
            match Grant::renewed(&held.grant.token, &self.wire).await {
                Ok(mut grant) => {
                    // An end once known is not forgotten.
                    let left = |ttl: Duration| ttl.saturating_sub(held.born.elapsed());
                    grant.ttl = grant.ttl.or(held.grant.ttl.map(left));
                    grant.token = held.grant.token.clone();
                    // Vault grants less and less as the last end comes near.
                    let both = grant.ttl.zip(held.grant.ttl);
                    let worn = both.is_some_and(|(new, old)| new < old / 2);
                    if !(worn && self.auth.can_log_in()) {
                        tracing::debug!(ttl = ?grant.ttl, "our token of vault is renewed");
                        self.hold(&mut last, grant);
                        return Ok(true);
                    }
                }
                Err(trouble) if !matches!(trouble.kind, Kind::Denied | Kind::Refused) => {
                    return Err(trouble.fault(self.wire.base(), "renew our own token"));
                }
                Err(_) => tracing::debug!("vault does not renew our token"),
            }
        }
        self.log_in(&mut last).await.map(|_| true)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.news.notify_waiters();
    }
}

/// Renews the token for as long as there is a session. Logs in at the start, so that the first request
/// need not.
async fn keep(session: Weak<Session>, news: Arc<Notify>) {
    let mut pause = Duration::ZERO;
    let mut told = None;
    loop {
        let due = {
            let Some(session) = session.upgrade() else { return };
            // Listening begins before looking.
            let heard = news.notified();
            tokio::pin!(heard);
            heard.as_mut().enable();
            let held = session.held.load_full();
            let due = held.map_or_else(|| Some(Instant::now()), |held| held.due);
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
                pause = Duration::ZERO;
                told = None;
                if asked {
                    session.patience.worked();
                }
            }
            Err(fault) => {
                pause = jittered((pause * 2).clamp(RETRY, LONGEST_RETRY));
                // What is refused was told by whoever logged in.
                if fault.kind != Kind::Denied && told != Some(fault.kind) {
                    tracing::warn!(
                        kind = fault.kind.as_str(),
                        "our token of vault: {}",
                        fault.message
                    );
                }
                told = Some(fault.kind);
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
