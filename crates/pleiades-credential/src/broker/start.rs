//! The beginning of a sign-in: the server, the client, the scopes, and what the answer will need.

use super::{
    Broker, BrowserRedirect, ConnectError, ConnectErrorKind, LinkPayload, account_key, hashed, now,
    pending::PendingConnection, short, status::ConnectionOutcome,
};
use tracing::Instrument as _;

use super::failures::Attempted;
use crate::oauth::{self, AuthServer, Challenge};
use crate::{Connection, access::Principal, connection::GrantType};
use pleiades_core::{random, secret::Secret};

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

impl RedirectTarget {
    /// Until when the link opens that began a sign-in; 0 where a command did.
    fn link_until(&self, opened: &LinkPayload) -> u64 {
        if *self == Self::Gateway { opened.until } else { 0 }
    }
}

impl Broker {
    /// Begins a sign-in for a person who has proven to be the link's principal.
    ///
    /// # Errors
    /// [`ConnectError`]; nothing is stored then.
    pub async fn begin(
        &self,
        opened: &LinkPayload,
        target: RedirectTarget,
    ) -> Result<BrowserRedirect, ConnectError> {
        let span = tracing::error_span!(
            "connection",
            provider.name = opened.request.provider,
            principal.tenant = &*opened.principal.tenant,
            principal.user = &*opened.principal.user,
            account.id = opened.request.account,
        );
        let begun = self.try_begin(opened, target).instrument(span).await;
        if let Err(refusal) = &begun
            && refusal.kind == ConnectErrorKind::Provider
        {
            let attempted = opened.attempted();
            self.failures.note(attempted, refusal.for_callers());
        }
        begun
    }

    /// Why the last attempt of a caller to connect this account, or one that was not named, failed in this process, not long ago: a sentence without its
    /// full stop that names no address.
    #[must_use]
    pub fn last_failure(
        &self,
        principal: &Principal,
        provider: &str,
        account: Option<&str>,
    ) -> Option<String> {
        self.failures.of(&Attempted::of(principal, provider, account))
    }

    fn count_begun(&self, opened: &LinkPayload) -> Result<(), ConnectError> {
        let (now, ttl) = (now(), self.pending.ttl.as_secs());
        self.pending_limit
            .count(&opened.principal, &opened.id, (now, now.saturating_add(ttl)))
    }

    async fn try_begin(
        &self,
        opened: &LinkPayload,
        target: RedirectTarget,
    ) -> Result<BrowserRedirect, ConnectError> {
        let connection = self
            .connection(&opened.request.provider)
            .filter(|it| it.grant == GrantType::AuthorizationCode)
            .ok_or_else(|| ConnectError::not_offered("What this link connects is no longer offered here."))?;
        if let Some(url) = &connection.connect_url {
            return Ok(BrowserRedirect {
                url: url.clone(),
                cookie: None,
            });
        }
        self.count_begun(opened)?;
        let challenge = self.prober.challenge(&connection.provider).await;
        let web = &**self.manager.web();
        let cannot = |trouble| ConnectError::of_provider(&connection, "cannot begin", &trouble);
        let server = oauth::discover(web, &connection, challenge.as_ref())
            .await
            .map_err(cannot)?;
        let redirects = self.endpoints.redirects(&connection, &server, &target);
        let chosen = self
            .clients
            .choose(&connection, &server, &redirects, &target)
            .await?;
        let mut scopes = self
            .scopes(opened, &connection, &server, challenge.as_ref())
            .await?;
        if chosen.unscoped {
            self.leave_out_unlisted(&mut scopes, (opened, &connection), &server);
        }
        let authorization = oauth::authorize(&connection, &server, &chosen.client, &redirects.used, &scopes)
            .map_err(cannot)?;
        let cookie = Secret::new(random::token::<32>()?);
        let state = authorization.state.expose();
        let pending = PendingConnection {
            tenant: opened.principal.tenant.to_string(),
            user: opened.principal.user.to_string(),
            id: opened.id.clone(),
            request: opened.request.clone(),
            account_digest: opened.account_digest.clone(),
            cookie: hashed(cookie.expose()),
            anywhere: target == RedirectTarget::Terminal,
            verifier: authorization.verifier,
            nonce: authorization.nonce,
            issuer: server.issuer.clone(),
            iss_supported: server.iss_supported,
            userinfo: server.userinfo_endpoint.clone(),
            source: oauth::source(&connection, &server, chosen.client),
            redirect: redirects.used,
            scopes,
            client: chosen.stored,
            link_until: target.link_until(opened),
        };
        self.pending.begin(state, pending).await?;
        self.statuses.set(&opened.id, ConnectionOutcome::Begun).await;
        Ok(BrowserRedirect {
            cookie: Some((cookie_name(state), cookie)),
            url: authorization.url,
        })
    }

    /// Leaves out what a server does not list itself that took our registration only without scopes, unless
    /// a descriptor or this call names it.
    fn leave_out_unlisted(
        &self,
        scopes: &mut Vec<String>,
        (opened, connection): (&LinkPayload, &Connection),
        server: &AuthServer,
    ) {
        if self.clients.declared_scopes(connection).is_none() {
            let listed = server.scopes.as_deref().unwrap_or_default();
            scopes.retain(|scope| listed.contains(scope) || opened.request.scopes.contains(scope));
        }
    }

    /// What is asked for: what the descriptors name, else what the provider's challenge or metadata
    /// does; beside it what this call needs and what the account asked for before.
    pub(super) async fn scopes(
        &self,
        opened: &LinkPayload,
        connection: &Connection,
        server: &AuthServer,
        challenge: Option<&Challenge>,
    ) -> Result<Vec<String>, ConnectError> {
        let declared = self.clients.declared_scopes(connection);
        let mut before = Vec::new();
        if let Some(account) = &opened.request.account {
            let key = account_key(&opened.principal, &connection.name, account);
            let record = self.manager.record(&key).await?;
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

/// The name of the cookie that an answer with this state must bring.
pub(super) fn cookie_name(state: &str) -> String {
    format!("pleiades_flow_{}", short(state))
}
