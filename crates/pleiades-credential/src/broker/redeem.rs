//! From a code to a stored account.

use std::{sync::Arc, time::Duration};

use super::failures::Attempted;
use super::pending::{PendingChoice, PendingConnection};
use super::sealed_fields::NameDigest;
use super::{Broker, CallbackResult, ConnectError, ConnectErrorKind, ConnectedAccount};
use super::{account_key, now, status::ConnectionOutcome};
use crate::manager::{Account, DefaultQuestion};
use crate::oauth::{self, AccountProfile, OAuthError, OAuthErrorKind, TokenResponse};
use crate::record::{AccountRecord, TokenSet};
use crate::{
    AccountKey, Connection, connection::unite, pinned, user_accounts::is_account_name, vault::Fault,
};
use pleiades_core::{random, secret::Secret};

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
    /// Redeems a code, names the account and stores it; asks first where that may replace another person's.
    pub(super) async fn redeem(
        &self,
        state: &str,
        pending: PendingConnection,
        code: &Secret,
    ) -> Result<CallbackResult, ConnectError> {
        let connection = self
            .connection(&pending.request.provider)
            .ok_or_else(|| ConnectError::not_offered("What this connects is no longer offered here."))?;
        let issued = self.exchange_code(&connection, &pending, code).await?;
        let profile = oauth::identify(
            &**self.manager.web(),
            &connection,
            &pending.server(),
            (&pending.source.client.id, pending.nonce.as_deref()),
            &issued,
        )
        .await;
        // Without PKCE the nonce is all that binds a code to its sign-in (RFC 9700 section 4.5.3.2): a wrong
        // one means a code that somebody slipped in. With PKCE the server has checked that already.
        if profile.is_foreign && pending.verifier.is_none() {
            tracing::warn!(
                outcome = ConnectErrorKind::Provider.as_str(),
                error = "without PKCE, its ID token carries the nonce of another sign-in",
                "a connection failed"
            );
            return Err(ConnectError::begin_anew(
                ConnectErrorKind::Provider,
                format!("The answer of {} belongs to another sign-in.", connection.title),
            ));
        }
        let wished = self.wished_name(&pending, &connection, &profile).await;
        let wished = wished.as_deref();
        let name = account_name(wished, &profile);
        let is_named = wished.is_some() || profile.account.is_some();
        let key = account_key(&pending.principal(), &connection.name, &name);
        let before = self.manager.record(&key).await?;
        let record = record(&pending, name, issued, &profile, before.as_ref())?;
        if before.is_some_and(|before| is_doubtful(&before, &record, is_named)) {
            let asked = self.confirmation(&pending, state.to_owned(), &record).await;
            self.pending.await_confirmation(state, pending, record).await?;
            return Ok(asked);
        }
        self.store_account(state, &pending, record).await
    }

    /// The name that the caller gave. Of one that its link had no room for there is a digest alone: it is that
    /// of an account that is there, or of what the provider calls this one.
    async fn wished_name(
        &self,
        pending: &PendingConnection,
        connection: &Connection,
        profile: &AccountProfile,
    ) -> Option<String> {
        if pending.request.account.is_some() {
            return pending.request.account.clone();
        }
        let digest = NameDigest::parse(pending.account_digest.as_deref()?)?;
        let key = account_key(&pending.principal(), &connection.name, "");
        let there = self.accounts_of(&key).await;
        let there = there.iter().map(|account| &*account.id);
        let of_provider = [&profile.account, &profile.label, &profile.subject];
        let mut names = there.chain(of_provider.into_iter().filter_map(Option::as_deref));
        names
            .find(|name| NameDigest::of(name) == digest)
            .map(str::to_owned)
    }

    async fn exchange_code(
        &self,
        connection: &Connection,
        pending: &PendingConnection,
        code: &Secret,
    ) -> Result<TokenResponse, ConnectError> {
        let source = &pending.source;
        let destination = (source.issuer.as_deref(), source.token_endpoint.as_str());
        if source.client.declared {
            self.clients.check_secret_issuer(connection, destination).await?;
        }
        let web = &**self.manager.web();
        let verifier = pending.verifier.as_ref();
        let redeem = || oauth::exchange(web, connection, source, code, verifier, &pending.redirect);
        let mut issued = redeem().await;
        if matches!(&issued, Err(trouble) if trouble.kind == OAuthErrorKind::Transient && !trouble.sent) {
            issued = redeem().await;
        }
        issued = match (issued, &pending.client) {
            (Err(trouble), Some(name)) if trouble.error.as_deref().is_some_and(oauth::is_unknown_client) => {
                self.clients.forget_refused(name, &source.client).await;
                Err(OAuthError {
                    cure: Some(oauth::MADE_ANEW.to_owned()),
                    ..trouble
                })
            }
            (issued, _) => issued,
        };
        if issued.is_ok()
            && source.client.declared
            && let Err(fault) = pinned::keep(&**self.manager.vault(), connection, destination).await
        {
            tracing::warn!(
                outcome = fault.kind.as_str(),
                error = &fault as &dyn std::error::Error,
                "where the secret of a client goes was not kept"
            );
        }
        issued.map_err(|trouble| ConnectError::of_provider(connection, "did not finish", &trouble))
    }

    /// Stores an account and notifies everybody who waits.
    pub(super) async fn store_account(
        &self,
        state: &str,
        pending: &PendingConnection,
        record: AccountRecord,
    ) -> Result<CallbackResult, ConnectError> {
        let (provider, principal) = (&pending.request.provider, pending.principal());
        let connection = self
            .connection(provider)
            .map_or_else(|| provider.as_str().into(), |it| Arc::clone(&it.name));
        let key = account_key(&principal, &connection, &record.account);
        let before = self.accounts_of(&key).await;
        if let Err(fault) = self.store_with_retries(&key, &record).await {
            self.revoke_tokens(pending, &record.tokens).await;
            return Err(fault.into());
        }
        tracing::info!(account.id = record.account, "an account was connected");
        for account in [None, pending.request.account.as_deref(), Some(&record.account)] {
            self.failures
                .forget(&Attempted::of(&principal, provider, account));
        }
        let account = record.account.clone();
        self.statuses
            .set(&pending.id, ConnectionOutcome::Connected(record.account))
            .await;
        let now = self.accounts_of(&key).await;
        let used = now.iter().find(|it| it.is_default).map(|it| it.id.to_string());
        let mut connected = ConnectedAccount {
            title: self.title(provider),
            account,
            label: record.label,
            used,
            question: None,
            is_repeated: false,
        };
        // A command asks itself: its answer comes back without a cookie, so nothing would bind a page's question.
        let is_asked = !pending.anywhere && DefaultQuestion::after(&before, &now, &key.account).is_some();
        if is_asked {
            self.ask_default(state, pending, &key, &mut connected).await;
        }
        Ok(CallbackResult::Connected(connected))
    }

    /// The accounts of an owner, none where they cannot be read: what hangs on them is a question that
    /// nobody has to answer.
    async fn accounts_of(&self, key: &AccountKey) -> Vec<Account> {
        self.manager.accounts(&key.owner).await.unwrap_or_else(|fault| {
            tracing::debug!(
                outcome = fault.kind.as_str(),
                error = &fault as &dyn std::error::Error,
                "the accounts of a user who connects one could not be read"
            );
            Vec::new()
        })
    }

    /// Keeps the question which account calls use that name none.
    async fn ask_default(
        &self,
        state: &str,
        pending: &PendingConnection,
        key: &AccountKey,
        connected: &mut ConnectedAccount,
    ) {
        let choice = PendingChoice {
            tenant: pending.tenant.clone(),
            user: pending.user.clone(),
            provider: pending.request.provider.clone(),
            connection: key.owner.connection.to_string(),
            account: connected.account.clone(),
            label: connected.label.clone(),
            used: connected.used.clone(),
            cookie: pending.cookie.clone(),
        };
        match self.pending.await_choice(state, choice).await {
            Ok(()) => connected.question = Some(state.to_owned()),
            Err(fault) => tracing::warn!(
                outcome = fault.kind.as_str(),
                error = &fault as &dyn std::error::Error,
                "the question for the default account was not kept"
            ),
        }
    }

    async fn store_with_retries(&self, key: &AccountKey, record: &AccountRecord) -> Result<(), Fault> {
        let mut waits = STORE_AGAIN.iter();
        loop {
            match (self.manager.connect(key, record.clone()).await, waits.next()) {
                (Ok(()), _) => return Ok(()),
                (Err(fault), None) => return Err(fault),
                (Err(fault), Some(wait)) => {
                    tracing::warn!(
                        outcome = fault.kind.as_str(),
                        error = &fault as &dyn std::error::Error,
                        "a new account is not stored yet"
                    );
                    tokio::time::sleep(*wait).await;
                }
            }
        }
    }

    /// Tokens that will not be used are revoked, as far as the provider lets.
    pub(super) async fn revoke_tokens(&self, pending: &PendingConnection, tokens: &TokenSet) {
        let Some(connection) = self.connection(&pending.request.provider) else {
            return;
        };
        let token = tokens.refresh.as_ref().unwrap_or(&tokens.access);
        let web = &**self.manager.web();
        if let Err(trouble) = oauth::revoke(web, &connection, &pending.source, token).await {
            tracing::warn!(provider.name = &*connection.provider, error = trouble.innermost(), description = %trouble, "unused tokens were not revoked");
        }
    }
}

/// The caller's name for it wins, then the provider's.
fn account_name(wished: Option<&str>, profile: &AccountProfile) -> String {
    [wished, profile.account.as_deref(), profile.subject.as_deref()]
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

fn record(
    pending: &PendingConnection,
    account: String,
    issued: TokenResponse,
    profile: &AccountProfile,
    before: Option<&AccountRecord>,
) -> Result<AccountRecord, ConnectError> {
    let now = now();
    let asked = before.map(|it| it.requested.as_slice()).unwrap_or_default();
    Ok(AccountRecord {
        grant_id: random::token::<32>()?,
        seq: 1,
        account,
        label: profile.label.clone(),
        subject: profile.subject.clone(),
        provider: pending.request.provider.clone(),
        source: pending.source.clone(),
        requested: unite(asked.iter().chain(&pending.scopes)),
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
        chosen: 0,
        none_chosen: 0,
        since: 0,
        connected_at: now,
        unanswered: false,
        refusal: None,
        missed: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_call_wins_then_the_providers_then_none() {
        let profile = AccountProfile {
            account: Some("ada".to_owned()),
            subject: Some("u-1".to_owned()),
            ..AccountProfile::default()
        };
        assert_eq!(account_name(Some("work"), &profile), "work");
        assert_eq!(account_name(Some("  "), &profile), "ada");
        assert_eq!(account_name(None, &AccountProfile::default()), UNNAMED);
        let odd = AccountProfile {
            account: Some("a\nb".to_owned()),
            ..profile
        };
        assert_eq!(account_name(None, &odd), "u-1");
    }
}
