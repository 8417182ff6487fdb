//! The beginning of a flow: the server, the client, the scopes, and what the answer will need.

use std::sync::Arc;

use super::pending::PendingConnection;
use super::status::ConnectionOutcome;
use super::{
    Broker, BrowserRedirect, ConnectError, ConnectErrorKind, LinkPayload, hashed, now, random, short,
};
use crate::Connection;
use crate::access::Principal;
use crate::connection::GrantType;
use crate::key::{AccountKey, AccountOwner};
use crate::oauth::{self, AuthServer, Challenge, OAuthError, OAuthErrorKind, Redirects};
use pleiades_core::trust;

/// Where the answer is to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedirectTarget {
    /// To the public listener, in the browser that began.
    Gateway,
    /// To where the public listener is or would be, from whatever browser of this machine: begun by a
    /// command, where `public_url` is on loopback, so that nobody elsewhere can be sent there.
    Terminal,
    /// To the listener of the very process that began, at this origin on loopback.
    Listener(String),
}

impl Broker {
    /// Begins a flow for a person who has proven to be the link's principal.
    ///
    /// # Errors
    /// [`Refusal`]; nothing is stored then.
    pub async fn begin(
        &self,
        opened: &LinkPayload,
        back: RedirectTarget,
    ) -> Result<BrowserRedirect, ConnectError> {
        let begun = self.try_begin(opened, back).await;
        if let Err(refusal) = &begun
            && refusal.kind == ConnectErrorKind::Provider
        {
            let provider = &opened.request.provider;
            self.failures
                .note(&opened.principal, provider, refusal.for_callers());
        }
        begun
    }

    /// Why the last attempt of a caller to connect failed in this process, not long ago: a sentence without its
    /// full stop that names no address.
    #[must_use]
    pub fn last_failure(&self, principal: &Principal, provider: &str) -> Option<String> {
        self.failures.of(principal, provider)
    }

    async fn try_begin(
        &self,
        opened: &LinkPayload,
        back: RedirectTarget,
    ) -> Result<BrowserRedirect, ConnectError> {
        let connection = self.connection(&opened.request.provider);
        let connection = connection.filter(|it| it.grant == GrantType::AuthorizationCode);
        let connection = connection.ok_or_else(not_offered)?;
        if let Some(url) = &connection.connect_url {
            return Ok(BrowserRedirect {
                url: url.clone(),
                cookie: None,
            });
        }
        let (now, ttl) = (now(), self.config.pending_ttl.as_secs());
        self.pending_limit
            .count(&opened.principal, &opened.id, (now, now.saturating_add(ttl)))?;
        let challenge = self.config.prober.challenge(&connection.provider).await;
        let web = &**self.config.manager.web();
        let server = oauth::discover(web, &connection, challenge.as_ref()).await;
        let server = server.map_err(|trouble| provider_error(&connection, "cannot begin", &trouble))?;
        let redirects = self.redirects(&connection, &server, &back);
        let chosen = self
            .choose_client(&connection, &server, &redirects, &back)
            .await?;
        let mut scopes = self
            .scopes(opened, &connection, &server, challenge.as_ref())
            .await?;
        if chosen.unscoped && self.declared_scopes(&connection).is_none() {
            let listed = server.scopes.clone().unwrap_or_default();
            scopes.retain(|scope| listed.contains(scope) || opened.request.scopes.contains(scope));
        }
        let authorization = oauth::authorize(&connection, &server, &chosen.client, &redirects.used, &scopes)
            .map_err(|trouble| provider_error(&connection, "cannot begin", &trouble))?;
        let cookie = random()?;
        let state = authorization.state.expose();
        let flow = PendingConnection {
            tenant: opened.principal.tenant.to_string(),
            user: opened.principal.user.to_string(),
            id: opened.id.clone(),
            wish: opened.request.clone(),
            cookie: hashed(cookie.expose()),
            anywhere: back == RedirectTarget::Terminal,
            verifier: authorization.verifier,
            nonce: authorization.nonce,
            issuer: server.issuer.clone(),
            iss_supported: server.iss_supported,
            userinfo: server.userinfo_endpoint.clone(),
            source: oauth::source(&connection, &server, chosen.client),
            redirect: redirects.used,
            scopes,
            client: chosen.kept,
        };
        let kept = self.store_pending(state, flow).await;
        kept.map_err(|fault| ConnectError::store(&fault))?;
        self.set_outcome(&opened.id, ConnectionOutcome::Begun).await;
        Ok(BrowserRedirect {
            cookie: Some((cookie_name(state), cookie)),
            url: authorization.url,
        })
    }

    /// Where the answer comes, and what else is registered with it. An issuer that does not name
    /// itself in its answers gets a path of the provider's own, so that nobody else's answer is taken
    /// for its (RFC 9700 section 4.4.2).
    pub(super) fn redirects(
        &self,
        connection: &Connection,
        server: &AuthServer,
        back: &RedirectTarget,
    ) -> Redirects {
        if let RedirectTarget::Listener(origin) = back {
            let own = format!("{origin}/oauth/callback");
            return Redirects {
                used: own.clone(),
                registered: vec![own],
                document: None,
            };
        }
        let common = self.at("/oauth/callback");
        let mut registered = vec![common.clone()];
        let mut used = common;
        if !server.iss_supported {
            used = self.provider_redirect_uri(&connection.provider);
            registered.push(used.clone());
        }
        Redirects {
            used,
            registered,
            document: self.metadata_document(),
        }
    }

    /// Every redirect URI that a flow of this connection may use, the one of browsers first: what is to be
    /// registered with a client of one's own.
    #[must_use]
    pub fn callbacks(&self, connection: &Connection, server: &AuthServer) -> Vec<String> {
        let used = self.redirects(connection, server, &RedirectTarget::Gateway).used;
        let mut all = vec![used];
        if !self.is_on_loopback() {
            // A command takes the answer itself, where it begins the flow.
            all.push("http://127.0.0.1:PORT/oauth/callback".to_owned());
        }
        all
    }

    /// Whether `public_url`, or the listener without one, is on loopback.
    #[must_use]
    pub fn is_on_loopback(&self) -> bool {
        trust::is_loopback(&self.config.base)
    }

    /// The callback path of an issuer that does not name itself.
    #[must_use]
    pub fn provider_redirect_uri(&self, provider: &str) -> String {
        self.at(&format!("/oauth/callback/{provider}"))
    }

    /// The URI that an answer at a path of the public listener was sent to.
    #[must_use]
    pub fn redirect_uri(&self, provider: Option<&str>) -> String {
        provider.map_or_else(|| self.at("/oauth/callback"), |it| self.provider_redirect_uri(it))
    }

    /// What is asked for: what the descriptors name, else what the provider's challenge or metadata
    /// does; beside it what this call needs and what the account asked for before.
    async fn scopes(
        &self,
        opened: &LinkPayload,
        connection: &Connection,
        server: &AuthServer,
        challenge: Option<&Challenge>,
    ) -> Result<Vec<String>, ConnectError> {
        let declared = self.declared_scopes(connection);
        let mut before = Vec::new();
        if let Some(account) = &opened.request.account {
            let record = self
                .config
                .manager
                .record(&key(opened, connection, account))
                .await;
            let record = record.map_err(|fault| ConnectError::store(&fault))?;
            before = record.map(|it| it.requested).unwrap_or_default();
        }
        let wanted = &opened.request.scopes;
        Ok(oauth::scopes(
            declared.as_deref(),
            challenge,
            server,
            wanted,
            &before,
        ))
    }
}

/// Both lists in order, each scope once.
pub(super) fn united(one: &[String], other: &[String]) -> Vec<String> {
    let mut united: Vec<String> = Vec::with_capacity(one.len() + other.len());
    for scope in one.iter().chain(other) {
        if !united.contains(scope) {
            united.push(scope.clone());
        }
    }
    united
}

fn key(opened: &LinkPayload, connection: &Connection, account: &str) -> AccountKey {
    AccountKey {
        owner: AccountOwner {
            tenant: Arc::clone(&opened.principal.tenant),
            user: Arc::clone(&opened.principal.user),
            connection: Arc::clone(&connection.name),
        },
        account: account.into(),
    }
}

/// The name of the cookie that an answer with this state must bring.
pub(super) fn cookie_name(state: &str) -> String {
    format!("pleiades_flow_{}", short(state))
}

/// Whether the answer comes from where the flow began.
///
/// # Errors
/// [`Ground::Unproven`].
pub(super) fn check_cookie(flow: &PendingConnection, cookie: Option<&str>) -> Result<(), ConnectError> {
    if flow.anywhere || cookie.is_some_and(|cookie| hashed(cookie) == flow.cookie) {
        return Ok(());
    }
    tracing::warn!(
        provider = flow.wish.provider,
        "a connection failed: its answer came from another browser than the one that began"
    );
    Err(ConnectError::new(
        ConnectErrorKind::Unproven,
        "This answer did not come from the browser in which the connection was begun.",
        "Open the connect link yourself, in one browser, with cookies allowed. If somebody sent you the \
         address that brought you here, do not go on: it would connect your account for them.",
    ))
}

fn not_offered() -> ConnectError {
    ConnectError::new(
        ConnectErrorKind::Unknown,
        "What this link connects is no longer offered here.",
        "Ask whoever runs the gateway.",
    )
}

/// What a provider did wrong, for people.
pub(super) fn provider_error(connection: &Connection, what: &str, trouble: &OAuthError) -> ConnectError {
    tracing::warn!(
        provider = &*connection.provider,
        error = trouble.error.as_deref(),
        %trouble,
        cure = trouble.cure.as_deref(),
        "a connection failed"
    );
    let why = format!("The sign-in of {} {what}: {trouble}.", connection.title);
    let usual = match trouble.kind {
        OAuthErrorKind::Transient => "Try the link again in a minute.",
        OAuthErrorKind::Grant => "Open the connect link again and begin anew.",
        OAuthErrorKind::Client | OAuthErrorKind::Metadata => {
            "Ask whoever runs the gateway: the provider's descriptor needs a change."
        }
    };
    let cure = trouble
        .cure
        .as_ref()
        .map_or_else(|| usual.to_owned(), |cure| advice(cure));
    let brief = format!(
        "The sign-in of {} {what}: {}.",
        connection.title,
        trouble.for_callers()
    );
    ConnectError {
        brief: Some(brief),
        ..ConnectError::new(ConnectErrorKind::Provider, why, cure)
    }
}

/// For whoever opened a link and has no descriptor to write.
pub(super) const OPERATORS: &str = "Whoever runs this gateway can mend that.";

/// A cure for a page: as a sentence, and who can follow it.
pub(super) fn advice(cure: &str) -> String {
    let is_operators = cure.contains("descriptor") || cure.contains("`upstream.");
    match is_operators {
        true => format!("{} {OPERATORS}", sentence(cure)),
        false => sentence(cure),
    }
}

/// A cure as a sentence.
fn sentence(cure: &str) -> String {
    format!("{}.", capital(cure.trim_end_matches('.')))
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
