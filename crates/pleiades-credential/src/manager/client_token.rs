//! Tokens of client credentials (RFC 6749 section 4.4): in memory alone, one for all callers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::{collections::HashMap, time::Duration};

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use http::header::AUTHORIZATION;
use parking_lot::Mutex;
use ring::digest::{Context, SHA256};
use tokio::{sync::watch, time::timeout};
use zeroize::Zeroizing;

use super::{CredentialManager, records::STORE_WITHIN, renewal::upgrade};
use crate::connection::{Connection, ResourceParameter};
use crate::oauth::{self, OAuthError, OAuthErrorKind, TokenResponse};
use crate::signature::ClientCredentialsTokens;
use crate::{clock::millis, pinned, record::AccountState, refresh::back_off, vault::Kind};
use pleiades_core::error::{Code, Error};
use pleiades_core::secret::Secret;
use pleiades_core::signature::{CredentialSource, Signature, SignedHeaders, sensitive};
use pleiades_core::telemetry::{events::TokenRefreshed, request_scope};

/// Connections whose tokens are in memory; each belongs to a descriptor, of now or of before a reload.
const MAX_CONNECTIONS: usize = 4_096;
const TOKEN_WITHIN: Duration = Duration::from_secs(30);
/// A rejected token is replaced once; a further rejection within that time, in milliseconds, is an
/// error of the provider.
const PAUSE: u64 = 60_000;
/// Between attempts that failed, first and longest, in milliseconds.
const FAILED: (u64, u64) = (1_000, 60_000);

#[derive(Debug, Default)]
pub(super) struct ClientTokenCache(Mutex<HashMap<[u8; 32], Arc<ClientToken>>>);

#[derive(Debug)]
struct ClientToken {
    manager: Weak<CredentialManager>,
    connection: Arc<Connection>,
    token: ArcSwapOption<AccessToken>,
    in_flight: Mutex<Option<watch::Receiver<bool>>>,
    recent: Mutex<RecentFailures>,
    /// Whether the vault has stored which server the secret goes to.
    pinned: AtomicBool,
}

#[derive(Debug)]
struct AccessToken {
    signed: Arc<SignedHeaders>,
    /// In unix milliseconds: when the next is requested, and until when this one is sent.
    due: u64,
    until: u64,
}

/// Recent failures; times of the monotonic clock.
#[derive(Debug, Default)]
struct RecentFailures {
    failures: u32,
    again: u64,
    last_error: Option<(OAuthErrorKind, String)>,
    /// The token that replaced a rejected one, and when.
    replacement: Option<(u64, u64)>,
    /// Tokens that were rejected: up to this one.
    rejected: u64,
}

impl ClientCredentialsTokens for Arc<CredentialManager> {
    fn signature(&self, connection: &Arc<Connection>) -> Arc<Signature> {
        let mut tokens = self.client_tokens.0.lock();
        if tokens.len() >= MAX_CONNECTIONS {
            tokens.retain(|_, token| Arc::strong_count(token) > 1);
        }
        let made = || {
            Arc::new(ClientToken {
                manager: Arc::downgrade(self),
                connection: Arc::clone(connection),
                token: ArcSwapOption::empty(),
                in_flight: Mutex::default(),
                recent: Mutex::default(),
                pinned: AtomicBool::default(),
            })
        };
        // A reload that changes nothing of the connection keeps its token.
        let token = tokens.entry(fingerprint(connection)).or_insert_with(made);
        let source = ClientTokenSource(Arc::clone(token));
        Arc::new(Signature::renewed(Arc::new(source), None))
    }

    fn store_trouble(&self) -> Option<Kind> {
        self.parts.vault.trouble()
    }

    fn accounts(&self, connection: &str) -> Vec<(AccountState, usize)> {
        let states = self.states().into_iter();
        let own = states.filter(|(name, ..)| **name == *connection);
        own.map(|(_, state, count)| (state, count)).collect()
    }
}

#[derive(Debug)]
struct ClientTokenSource(Arc<ClientToken>);

#[async_trait]
impl CredentialSource for ClientTokenSource {
    fn now(&self) -> Arc<SignedHeaders> {
        self.0
            .token
            .load_full()
            .map_or_else(Arc::default, |token| Arc::clone(&token.signed))
    }

    async fn ready(&self) -> Result<Arc<SignedHeaders>, Error> {
        let manager = upgrade(&self.0.manager)?;
        let unix_ms = manager.clock.unix_ms();
        let rejected = self.0.recent.lock().rejected;
        if let Some(token) = self.0.token.load_full()
            && unix_ms < token.until
            && token.signed.seq > rejected
        {
            if unix_ms >= token.due && manager.clock.monotonic_ms() >= self.0.recent.lock().again {
                // Ahead of its end the next one is requested beside the calls.
                drop(self.0.join_or_start(&manager));
            }
            return Ok(Arc::clone(&token.signed));
        }
        self.0.renewed(&manager, rejected).await
    }

    async fn refused(&self, seq: u64) -> Result<Arc<SignedHeaders>, Error> {
        let manager = upgrade(&self.0.manager)?;
        let now = manager.clock.monotonic_ms();
        {
            let mut recent = self.0.recent.lock();
            if recent
                .replacement
                .is_some_and(|(replaced, at)| replaced == seq && now.saturating_sub(at) < PAUSE)
            {
                let message = "the provider refuses a credential that was had a moment ago";
                return Err(Error::new(Code::UpstreamAuth, message));
            }
            recent.rejected = recent.rejected.max(seq);
        }
        let signed = self.ready().await?;
        self.0.recent.lock().replacement = Some((signed.seq, now));
        Ok(signed)
    }

    fn accepted(&self, seq: u64) {
        let mut recent = self.0.recent.lock();
        if recent.replacement.is_some_and(|(replaced, _)| replaced == seq) {
            recent.replacement = None;
        }
    }
}

impl ClientToken {
    /// Waits for a token newer than the rejected ones.
    async fn renewed(
        self: &Arc<Self>,
        manager: &Arc<CredentialManager>,
        rejected: u64,
    ) -> Result<Arc<SignedHeaders>, Error> {
        let again = || self.recent.lock().again;
        let left = || again().saturating_sub(manager.clock.monotonic_ms());
        let pause = left();
        if pause > 0 {
            return Err(self.error(Duration::from_millis(pause)));
        }
        let mut in_flight = self.join_or_start(manager);
        if timeout(TOKEN_WITHIN, in_flight.wait_for(|done| *done))
            .await
            .is_err()
        {
            return Err(self.error(Duration::from_secs(5)));
        }
        let token = self.token.load_full();
        let token = token.filter(|it| it.signed.seq > rejected && manager.clock.unix_ms() < it.until);
        token
            .map(|it| Arc::clone(&it.signed))
            .ok_or_else(|| self.error(Duration::from_millis(left().max(1_000))))
    }

    /// Requests a new token, once for all who wait.
    fn join_or_start(self: &Arc<Self>, manager: &Arc<CredentialManager>) -> watch::Receiver<bool> {
        let mut in_flight = self.in_flight.lock();
        if let Some(under_way) = &*in_flight
            && !*under_way.borrow()
            && under_way.has_changed().is_ok()
        {
            return under_way.clone();
        }
        let (done, receiver) = watch::channel(false);
        *in_flight = Some(receiver.clone());
        let (token, owner) = (Arc::clone(self), Arc::clone(manager));
        manager.parts.control.spawn(request_scope::inherited(async move {
            token.obtain(&owner).await;
            done.send_replace(true);
        }));
        receiver
    }

    async fn obtain(&self, manager: &Arc<CredentialManager>) {
        let asked = manager.clock.unix();
        let seq = self.token.load().as_ref().map_or(0, |token| token.signed.seq) + 1;
        let had = self.request(manager).await;
        let had = had.and_then(|issued| token(&self.connection, &issued, seq, asked));
        let mut is_repeated = false;
        let (outcome, error) = match had {
            Ok(token) => {
                self.token.store(Some(Arc::new(token)));
                let mut recent = self.recent.lock();
                (recent.failures, recent.again, recent.last_error) = (0, 0, None);
                ("refreshed", None)
            }
            Err(trouble) => {
                let known = self.recent.lock().last_error.clone();
                is_repeated = known.is_some_and(|known| known == (trouble.kind, trouble.message.clone()));
                let outcome = match trouble.kind {
                    OAuthErrorKind::Transient => "transient",
                    OAuthErrorKind::Grant | OAuthErrorKind::Client | OAuthErrorKind::Metadata => "refused",
                };
                self.note_failure(manager.clock.monotonic_ms(), &trouble);
                (outcome, Some(trouble))
            }
        };
        let description = error.as_ref().map(ToString::to_string);
        let innermost = error.as_ref().map(OAuthError::innermost);
        let left = self
            .recent
            .lock()
            .again
            .saturating_sub(manager.clock.monotonic_ms());
        let token = self.token.load_full();
        let event = TokenRefreshed {
            provider: &self.connection.provider,
            outcome,
            account: None,
            seq: Some(seq),
            expires_at: token
                .filter(|token| token.until != u64::MAX)
                .map(|token| token.until / 1000),
            retry_at: (outcome == "transient").then(|| manager.clock.unix() + left.div_ceil(1000)),
            is_repeated,
            error: innermost.as_deref(),
            description: description.as_deref(),
            cure: error
                .as_ref()
                .and_then(|trouble| trouble.cure.as_deref())
                .map(without_person),
        };
        event.emit(&manager.parts.metrics);
    }

    async fn request(&self, manager: &CredentialManager) -> Result<TokenResponse, OAuthError> {
        let (web, connection) = (&*manager.parts.web, &*self.connection);
        let challenge = if connection.token_endpoint.is_none() {
            // Without a challenge, as before the first probe, the secret might go to a guessed server.
            let prober = timeout(TOKEN_WITHIN, manager.prober.wait()).await;
            let prober = prober.map_err(|_elapsed| {
                let message = "the process has only begun, and asks nobody yet";
                OAuthError::new(OAuthErrorKind::Transient, message)
            })?;
            prober.challenge(&connection.provider).await
        } else {
            None
        };
        let server = oauth::discover(web, connection, challenge.as_ref()).await?;
        let wanted = connection.scopes.clone();
        let wanted = wanted.or_else(|| challenge.and_then(|it| it.scopes));
        let wanted = wanted.or_else(|| server.resource_scopes.clone());
        let destination = (server.issuer.as_deref(), server.token_endpoint.as_str());
        self.check_destination(manager, destination).await?;
        let issued = oauth::client_credentials(web, connection, &server, wanted.as_deref()).await?;
        if !self.pinned.load(Ordering::Relaxed) {
            match pinned::keep(&*manager.parts.vault, connection, destination).await {
                Ok(()) => self.pinned.store(true, Ordering::Relaxed),
                Err(fault) => tracing::warn!(
                    outcome = fault.kind.as_str(),
                    error = &fault as &dyn std::error::Error,
                    "where the secret of a client goes was not kept"
                ),
            }
        }
        Ok(issued)
    }

    /// Whether the descriptor's secret may go to this server: the store is asked only where the
    /// descriptor does not say.
    async fn check_destination(
        &self,
        manager: &CredentialManager,
        destination: (Option<&str>, &str),
    ) -> Result<(), OAuthError> {
        let asked = pinned::conflict(&*manager.parts.vault, &self.connection, destination);
        match timeout(STORE_WITHIN, asked).await {
            Ok(Ok(None)) => Ok(()),
            Ok(Ok(Some(pinned))) => {
                let issuer = destination.0.unwrap_or(destination.1);
                let (message, cure) = pinned::refusal(&self.connection, &pinned, issuer);
                let mut trouble = OAuthError::new(OAuthErrorKind::Metadata, message);
                trouble.cure = Some(cure);
                Err(trouble)
            }
            Ok(Err(_)) | Err(_) => {
                let message = "the store does not say where the client's secret may go";
                let mut trouble = OAuthError::new(OAuthErrorKind::Transient, message);
                trouble.cure = Some("write `issuer` into the descriptor, which needs no store".to_owned());
                Err(trouble)
            }
        }
    }

    fn note_failure(&self, now: u64, trouble: &OAuthError) {
        let mut recent = self.recent.lock();
        let after = trouble.retry_after.map_or(0, millis);
        let pause = back_off(recent.failures, FAILED.0, FAILED.1).max(after.min(FAILED.1));
        recent.failures = recent.failures.saturating_add(1);
        recent.again = now.saturating_add(pause);
        recent.last_error = Some((trouble.kind, trouble.message.clone()));
    }

    fn error(&self, after: Duration) -> Error {
        let recent = self.recent.lock();
        let title = &self.connection.title;
        let error = match &recent.last_error {
            // The descriptor's client is refused: no user can connect this, the operator has to fix it.
            Some((OAuthErrorKind::Client | OAuthErrorKind::Grant | OAuthErrorKind::Metadata, why)) => {
                let message =
                    format!("the credential of {title} is refused; its operator has to mend the descriptor");
                Error::new(Code::UpstreamAuth, message).because(why.clone())
            }
            Some((OAuthErrorKind::Transient, why)) => {
                let message = format!("no credential for {title} could be had just now; nothing was run");
                Error::new(Code::CredentialTimeout, message).because(why.clone())
            }
            None => {
                let message = format!("the credential of {title} is being renewed; nothing was run");
                Error::new(Code::CredentialTimeout, message)
            }
        };
        error.retry_after(after)
    }
}

/// A cure without what only a person with an account can do: a client has none.
fn without_person(cure: &str) -> &str {
    match cure.split_once(": connecting again") {
        Some((cure, _)) => cure,
        None if cure == "connect the account again" => {
            "check `client_id`, `client_secret` and `scopes` in the descriptor against the provider's settings"
        }
        None => cure,
    }
}

fn token(
    connection: &Connection,
    issued: &TokenResponse,
    seq: u64,
    asked: u64,
) -> Result<AccessToken, OAuthError> {
    let value = Zeroizing::new(format!("Bearer {}", issued.access.expose()));
    let value = sensitive(&value).map_err(|_cause| {
        let message = "the token that was issued cannot be put into a header";
        let mut trouble = OAuthError::new(OAuthErrorKind::Client, message);
        trouble.sent = true;
        trouble
    })?;
    let life = issued.expires_in.map(|life| life.saturating_mul(1000));
    let asked = asked.saturating_mul(1000);
    let lead = millis(connection.lead);
    Ok(AccessToken {
        signed: Arc::new(SignedHeaders {
            headers: vec![(AUTHORIZATION, value)],
            seq,
        }),
        due: life.map_or(u64::MAX, |life| asked + life - lead.min(life / 2)),
        until: life.map_or(u64::MAX, |life| asked + life - (life / 10).min(5_000)),
    })
}

/// A digest of everything that decides which token a connection gets.
fn fingerprint(connection: &Connection) -> [u8; 32] {
    let scopes = connection.scopes.as_ref().map(|scopes| scopes.join(" "));
    let (auth, reach) = (&connection.token_auth, &connection.reach);
    let (lead, attempts) = (connection.lead, connection.attempts);
    let settings = format!("{auth:?} {reach:?} {lead:?} {attempts}");
    let resource = match &connection.resource {
        ResourceParameter::Auto => Some("auto"),
        ResourceParameter::Off => None,
        ResourceParameter::Url(url) => Some(&**url),
    };
    let mut context = Context::new(&SHA256);
    for part in [
        Some(&*connection.provider),
        Some(&*connection.name),
        Some(connection.upstream.as_str()),
        connection.client_id.as_deref(),
        connection.client_secret.as_ref().map(Secret::expose),
        connection.private_key.as_ref().map(Secret::expose),
        scopes.as_deref(),
        connection.token_endpoint.as_ref().map(url::Url::as_str),
        connection.issuer.as_deref(),
        connection.audience.as_deref(),
        Some(&*settings),
        resource,
    ] {
        context.update(&[u8::from(part.is_some())]);
        let part = part.unwrap_or_default();
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part.as_bytes());
    }
    context.finish().as_ref().try_into().unwrap_or_default()
}
