//! From a code to a stored account.

use std::sync::Arc;
use std::time::Duration;

use super::pending::PendingConnection;
use super::start::{provider_error, united};
use super::status::ConnectionOutcome;
use super::{Broker, CallbackResult, ConnectError, ConnectErrorKind, now, random};
use crate::key::{AccountKey, AccountOwner};
use crate::oauth::{self, AccountProfile, OAuthError, OAuthErrorKind, TokenResponse};
use crate::record::{AccountRecord, TokenSet};
use crate::user_accounts::is_account_name;
use crate::vault::Fault;
use crate::{Connection, pinned};
use pleiades_core::secret::Secret;

/// Waits between tries to store what was redeemed: a code is good for once, so that giving up loses
/// what the person has just done.
const STORE_AGAIN: [Duration; 4] = [
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(6),
];
/// Name of an account where the provider says nothing of it and the caller named none.
const UNNAMED: &str = "default";

impl Broker {
    /// Redeems a code, finds out whose account it is, and stores it; or asks first.
    pub(super) async fn redeem(
        &self,
        state: &str,
        flow: PendingConnection,
        code: &Secret,
    ) -> Result<CallbackResult, ConnectError> {
        let connection = self.connection(&flow.wish.provider).ok_or_else(|| {
            ConnectError::new(
                ConnectErrorKind::Unknown,
                "What this connects is no longer offered here.",
                "Ask whoever runs the gateway.",
            )
        })?;
        let issued = self.exchange_code(&connection, &flow, code).await?;
        let web = &**self.config.manager.web();
        let expected = (flow.source.client.id.as_str(), flow.nonce.as_deref());
        let identity = oauth::identify(web, &connection, &flow.server(), expected, &issued).await;
        // Without PKCE the nonce is all that binds a code to its flow (RFC 9700 section 4.5.3.2): a wrong
        // one means a code that somebody slipped in. With PKCE the server has checked that already.
        if identity.is_foreign && flow.verifier.is_none() {
            tracing::warn!(
                provider = flow.wish.provider,
                "a connection failed: without PKCE, its ID token carries the nonce of another sign-in"
            );
            return Err(ConnectError::new(
                ConnectErrorKind::Provider,
                format!("The answer of {} belongs to another sign-in.", connection.title),
                "Open the connect link again and begin anew.",
            ));
        }
        let name = account(flow.wish.account.as_deref(), &identity);
        let key = key(&flow, &connection, &name);
        let before = self.config.manager.record(&key).await;
        let before = before.map_err(|fault| ConnectError::store(&fault))?;
        let record = record(&flow, name, issued, &identity, before.as_ref())?;
        let named = flow.wish.account.is_some() || identity.account.is_some();
        if before.is_some_and(|before| is_doubtful(&before, &record, named)) {
            let asked = self.confirmation(&flow, state.to_owned(), record.subject.is_some());
            let pending = self.await_confirmation(state, flow, record).await;
            return pending
                .map(|()| asked)
                .map_err(|fault| ConnectError::store(&fault));
        }
        self.store_account(&flow, record).await
    }

    async fn exchange_code(
        &self,
        connection: &Connection,
        flow: &PendingConnection,
        code: &Secret,
    ) -> Result<TokenResponse, ConnectError> {
        let source = &flow.source;
        if source.client.declared {
            let place = (source.issuer.as_deref(), source.token_endpoint.as_str());
            self.check_secret_issuer(connection, place).await?;
        }
        let web = &**self.config.manager.web();
        let verifier = flow.verifier.as_ref();
        let redeem = || oauth::exchange(web, connection, &flow.source, code, verifier, &flow.redirect);
        let mut issued = redeem().await;
        if matches!(&issued, Err(trouble) if trouble.kind == OAuthErrorKind::Transient && !trouble.sent) {
            issued = redeem().await;
        }
        issued = match (issued, &flow.client) {
            (Err(trouble), Some(name)) if trouble.error.as_deref().is_some_and(oauth::is_unknown_client) => {
                self.drop_client(name, &source.client).await;
                Err(OAuthError {
                    cure: Some(oauth::MADE_ANEW.to_owned()),
                    ..trouble
                })
            }
            (issued, _) => issued,
        };
        if issued.is_ok() && source.client.declared {
            let place = (source.issuer.as_deref(), source.token_endpoint.as_str());
            if let Err(fault) = pinned::keep(self.vault(), connection, place).await {
                tracing::warn!(%fault, "where the secret of a client goes was not kept");
            }
        }
        issued.map_err(|trouble| provider_error(connection, "did not finish", &trouble))
    }

    /// Stores an account and tells everybody who waits.
    pub(super) async fn store_account(
        &self,
        flow: &PendingConnection,
        record: AccountRecord,
    ) -> Result<CallbackResult, ConnectError> {
        let connection = self.connection(&flow.wish.provider);
        let (title, name) = connection.map_or_else(
            || (flow.wish.provider.clone(), flow.wish.provider.as_str().into()),
            |it| (it.title.clone(), Arc::clone(&it.name)),
        );
        let key = AccountKey {
            owner: AccountOwner {
                tenant: flow.tenant.as_str().into(),
                user: flow.user.as_str().into(),
                connection: name,
            },
            account: record.account.as_str().into(),
        };
        let finished = CallbackResult::Connected {
            title,
            account: record.account.clone(),
            label: record.label.clone(),
        };
        if let Err(fault) = self.store_with_retries(&key, &record).await {
            self.revoke_tokens(flow, &record.tokens).await;
            return Err(ConnectError::store(&fault));
        }
        tracing::info!(provider = flow.wish.provider, "an account was connected");
        self.failures.forget(&flow.principal(), &flow.wish.provider);
        self.set_outcome(&flow.id, ConnectionOutcome::Connected(record.account))
            .await;
        Ok(finished)
    }

    async fn store_with_retries(&self, key: &AccountKey, record: &AccountRecord) -> Result<(), Fault> {
        let mut waits = STORE_AGAIN.iter();
        loop {
            match (
                self.config.manager.connect(key, record.clone()).await,
                waits.next(),
            ) {
                (Ok(()), _) => return Ok(()),
                (Err(fault), None) => return Err(fault),
                (Err(fault), Some(wait)) => {
                    tracing::warn!(%fault, "a new account is not stored yet");
                    tokio::time::sleep(*wait).await;
                }
            }
        }
    }

    /// Tokens that will not be used are revoked, as far as the provider lets.
    pub(super) async fn revoke_tokens(&self, flow: &PendingConnection, tokens: &TokenSet) {
        let Some(connection) = self.connection(&flow.wish.provider) else {
            return;
        };
        let token = tokens.refresh.as_ref().unwrap_or(&tokens.access);
        let web = &**self.config.manager.web();
        if let Err(trouble) = oauth::revoke(web, &connection, &flow.source, token).await {
            tracing::info!(provider = &*connection.provider, %trouble, "unused tokens were not revoked");
        }
    }
}

/// The caller's name for it wins, then the provider's.
fn account(wished: Option<&str>, identity: &AccountProfile) -> String {
    [wished, identity.account.as_deref(), identity.subject.as_deref()]
        .into_iter()
        .flatten()
        .map(str::trim)
        .find(|name| is_account_name(name))
        .unwrap_or(UNNAMED)
        .to_owned()
}

/// Whether `record` may be another person's than the one that it would replace. Where the provider names
/// nobody, an account that works is not given up because of a name that it only has for want of one.
fn is_doubtful(before: &AccountRecord, record: &AccountRecord, named: bool) -> bool {
    match &before.subject {
        Some(_) => before.subject != record.subject,
        None => !named && before.ended.is_none(),
    }
}

fn key(flow: &PendingConnection, connection: &Connection, account: &str) -> AccountKey {
    AccountKey {
        owner: AccountOwner {
            tenant: flow.tenant.as_str().into(),
            user: flow.user.as_str().into(),
            connection: Arc::clone(&connection.name),
        },
        account: account.into(),
    }
}

fn record(
    flow: &PendingConnection,
    account: String,
    issued: TokenResponse,
    identity: &AccountProfile,
    before: Option<&AccountRecord>,
) -> Result<AccountRecord, ConnectError> {
    let now = now();
    let asked = before.map(|it| it.requested.as_slice()).unwrap_or_default();
    Ok(AccountRecord {
        grant_id: random()?.expose().to_owned(),
        seq: 1,
        account,
        label: identity.label.clone(),
        subject: identity.subject.clone(),
        provider: flow.wish.provider.clone(),
        source: flow.source.clone(),
        requested: united(asked, &flow.scopes),
        granted: issued.scopes,
        tokens: TokenSet {
            access: issued.access,
            refresh: issued.refresh,
            expires_at: issued.expires_in.map(|lasts| now.saturating_add(lasts)),
            obtained_at: now,
        },
        lease: None,
        failures: 0,
        ended: None,
        chosen: before.map_or(0, |it| it.chosen),
        connected_at: now,
        unanswered: false,
        refusal: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_call_wins_then_the_providers_then_none() {
        let identity = AccountProfile {
            account: Some("ada".to_owned()),
            subject: Some("u-1".to_owned()),
            ..AccountProfile::default()
        };
        assert_eq!(account(Some("work"), &identity), "work");
        assert_eq!(account(Some("  "), &identity), "ada");
        assert_eq!(account(None, &AccountProfile::default()), UNNAMED);
        let odd = AccountProfile {
            account: Some("a\nb".to_owned()),
            ..identity
        };
        assert_eq!(account(None, &odd), "u-1");
    }
}
