//! From a code to a stored account.

use std::sync::Arc;
use std::time::Duration;

use super::flow::{refused, united};
use super::pending::Flow;
use super::standing::Outcome;
use super::{Broker, Finished, Ground, Refusal, now, random};
use crate::credential::key::{Key, Owner};
use crate::credential::oauth::{self, Expected, Identity, Issued, Trouble, TroubleKind};
use crate::credential::record::{Record, Tokens};
use crate::credential::told::is_name;
use crate::credential::vault::Fault;
use crate::credential::{Connection, pinned};
use crate::secret::Secret;

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
    pub(super) async fn redeem(&self, state: &str, flow: Flow, code: &Secret) -> Result<Finished, Refusal> {
        let connection = self.connection(&flow.wish.provider).ok_or_else(|| {
            Refusal::new(
                Ground::Unknown,
                "What this connects is no longer offered here.",
                "Ask whoever runs the gateway.",
            )
        })?;
        let issued = self.exchanged(&connection, &flow, code).await?;
        let identity = self.identified(&connection, &flow, &issued).await;
        // Without PKCE the nonce is all that binds a code to its flow (RFC 9700 section 4.5.3.2): a wrong
        // one means a code that somebody slipped in. With PKCE the server has checked that already.
        if identity.is_foreign && flow.verifier.is_none() {
            tracing::warn!(
                provider = flow.wish.provider,
                "a connection failed: without PKCE, its ID token carries the nonce of another sign-in"
            );
            return Err(Refusal::new(
                Ground::Provider,
                format!("The answer of {} belongs to another sign-in.", connection.title),
                "Open the connect link again and begin anew.",
            ));
        }
        let name = account(flow.wish.account.as_deref(), &identity);
        let key = key(&flow, &connection, &name);
        let before = self.parts.keeper.record(&key).await;
        let before = before.map_err(|fault| Refusal::store(&fault))?;
        let record = record(&flow, name, issued, &identity, before.as_ref())?;
        let named = flow.wish.account.is_some() || identity.account.is_some();
        if before.is_some_and(|before| is_doubtful(&before, &record, named)) {
            let asked = self.ask(&flow, state.to_owned(), record.subject.is_some());
            let aside = self.set_aside(state, flow, record).await;
            return aside.map(|()| asked).map_err(|fault| Refusal::store(&fault));
        }
        self.store(&flow, record).await
    }

    async fn exchanged(
        &self,
        connection: &Connection,
        flow: &Flow,
        code: &Secret,
    ) -> Result<Issued, Refusal> {
        let source = &flow.source;
        if source.client.declared {
            let place = (source.issuer.as_deref(), source.token_endpoint.as_str());
            self.is_its_secret(connection, place).await?;
        }
        let web = &**self.parts.keeper.web();
        let verifier = flow.verifier.as_ref();
        let redeem = || oauth::exchange(web, connection, &flow.source, code, verifier, &flow.redirect);
        let mut issued = redeem().await;
        if matches!(&issued, Err(trouble) if trouble.kind == TroubleKind::Transient && !trouble.sent) {
            issued = redeem().await;
        }
        issued = match (issued, &flow.client) {
            (Err(trouble), Some(name)) if trouble.error.as_deref().is_some_and(oauth::is_unknown_client) => {
                self.drop_client(name, &source.client).await;
                Err(Trouble {
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
        issued.map_err(|trouble| refused(connection, "did not finish", &trouble))
    }

    /// Whose account it is; nobody's in particular where the provider does not say.
    async fn identified(&self, connection: &Connection, flow: &Flow, issued: &Issued) -> Identity {
        let (web, server) = (&**self.parts.keeper.web(), flow.server());
        let expected = Expected {
            client: Some(&flow.source.client.id),
            nonce: flow.nonce.as_deref(),
        };
        oauth::identify_for(web, connection, &server, expected, issued).await
    }

    /// Stores an account and tells everybody who waits.
    pub(super) async fn store(&self, flow: &Flow, record: Record) -> Result<Finished, Refusal> {
        let connection = self.connection(&flow.wish.provider);
        let (title, name) = connection.map_or_else(
            || (flow.wish.provider.clone(), flow.wish.provider.as_str().into()),
            |it| (it.title.clone(), Arc::clone(&it.name)),
        );
        let key = Key {
            owner: Owner {
                tenant: flow.tenant.as_str().into(),
                user: flow.user.as_str().into(),
                connection: name,
            },
            account: record.account.as_str().into(),
        };
        let finished = Finished::Connected {
            title,
            account: record.account.clone(),
            label: record.label.clone(),
        };
        if let Err(fault) = self.stored(&key, &record).await {
            self.give_back(flow, &record.tokens).await;
            return Err(Refusal::store(&fault));
        }
        tracing::info!(provider = flow.wish.provider, "an account was connected");
        self.failed.forget(&flow.whose(), &flow.wish.provider);
        self.tell(&flow.id, Outcome::Connected(record.account)).await;
        Ok(finished)
    }

    async fn stored(&self, key: &Key, record: &Record) -> Result<(), Fault> {
        let mut waits = STORE_AGAIN.iter();
        loop {
            match (self.parts.keeper.connect(key, record.clone()).await, waits.next()) {
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
    pub(super) async fn give_back(&self, flow: &Flow, tokens: &Tokens) {
        let Some(connection) = self.connection(&flow.wish.provider) else {
            return;
        };
        let token = tokens.refresh.as_ref().unwrap_or(&tokens.access);
        let web = &**self.parts.keeper.web();
        if let Err(trouble) = oauth::revoke(web, &connection, &flow.source, token).await {
            tracing::info!(provider = &*connection.provider, %trouble, "unused tokens were not revoked");
        }
    }
}

/// The caller's name for it wins, then the provider's.
fn account(wished: Option<&str>, identity: &Identity) -> String {
    [wished, identity.account.as_deref(), identity.subject.as_deref()]
        .into_iter()
        .flatten()
        .map(str::trim)
        .find(|name| is_name(name))
        .unwrap_or(UNNAMED)
        .to_owned()
}

/// Whether `record` may be another person's than the one that it would replace. Where the provider names
/// nobody, an account that works is not given up because of a name that it only has for want of one.
fn is_doubtful(before: &Record, record: &Record, named: bool) -> bool {
    match &before.subject {
        Some(_) => before.subject != record.subject,
        None => !named && before.ended.is_none(),
    }
}

fn key(flow: &Flow, connection: &Connection, account: &str) -> Key {
    Key {
        owner: Owner {
            tenant: flow.tenant.as_str().into(),
            user: flow.user.as_str().into(),
            connection: Arc::clone(&connection.name),
        },
        account: account.into(),
    }
}

fn record(
    flow: &Flow,
    account: String,
    issued: Issued,
    identity: &Identity,
    before: Option<&Record>,
) -> Result<Record, Refusal> {
    let now = now();
    let asked = before.map(|it| it.requested.as_slice()).unwrap_or_default();
    Ok(Record {
        grant_id: random()?.expose().to_owned(),
        seq: 1,
        account,
        label: identity.label.clone(),
        subject: identity.subject.clone(),
        provider: flow.wish.provider.clone(),
        source: flow.source.clone(),
        requested: united(asked, &flow.scopes),
        granted: issued.scopes,
        tokens: Tokens {
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
        let identity = Identity {
            account: Some("ada".to_owned()),
            subject: Some("u-1".to_owned()),
            ..Identity::default()
        };
        assert_eq!(account(Some("work"), &identity), "work");
        assert_eq!(account(Some("  "), &identity), "ada");
        assert_eq!(account(None, &Identity::default()), UNNAMED);
        let odd = Identity {
            account: Some("a\nb".to_owned()),
            ..identity
        };
        assert_eq!(account(None, &odd), "u-1");
    }
}
