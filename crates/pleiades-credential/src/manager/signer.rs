//! The signature of one account: headers that are renewed when they have to be.

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::grant_error::AS_ARGUMENT;
use super::renewal::{SOON, end_error, renew_within, upgrade, waiting};
use super::{CredentialManager, GrantError, Reason};
use crate::slot::{AccountSlot, SeenRecord};
use crate::{connection::Connection, refresh::RefreshTrigger};
use pleiades_core::error::{Code, Error};
use pleiades_core::signature::{CredentialSource, SignedHeaders};

/// How long a request waits for its token to be renewed; its own deadline may be nearer.
const RENEW_WITHIN: Duration = Duration::from_secs(30);
/// A provider that answers 401 to a token which was renewed after its 401 is not believed for that long,
/// in milliseconds.
const DISTRUST_401: u64 = 60_000;
/// How often the state of an account may change while one request waits for it.
const TURNS: u32 = 4;

#[derive(Debug)]
pub(super) struct AccountSigner {
    manager: Weak<CredentialManager>,
    slot: Arc<AccountSlot>,
    connection: Arc<Connection>,
    grant: Arc<str>,
    subject: Option<String>,
}

impl AccountSigner {
    pub(super) fn new(
        manager: &Weak<CredentialManager>,
        slot: &Arc<AccountSlot>,
        connection: &Arc<Connection>,
        seen: &SeenRecord,
    ) -> Self {
        Self {
            manager: Weak::clone(manager),
            slot: Arc::clone(slot),
            connection: Arc::clone(connection),
            grant: Arc::clone(&seen.grant),
            subject: seen.record.subject.clone(),
        }
    }

    /// The record, if it is still of the account that this signature stands for. An upstream session
    /// belongs to one person: a later grant of somebody else must not go on with it.
    fn seen(&self) -> Result<Arc<SeenRecord>, Error> {
        let Some(seen) = self.slot.seen() else {
            let refused = GrantError::NotConnected {
                reason: Reason::Revoked,
                wanted: None,
                accounts: Vec::new(),
            };
            return Err(refused.error(&self.connection, AS_ARGUMENT));
        };
        let same = self.subject.is_some() && seen.record.subject == self.subject;
        if seen.grant != self.grant && !same {
            return Err(waiting(Duration::from_secs(1), None).error(&self.connection, AS_ARGUMENT));
        }
        Ok(seen)
    }

    /// Whether the vault has newer tokens than these: another replica may have renewed them.
    async fn store_has_newer(&self, manager: &Arc<CredentialManager>, seq: u64) -> bool {
        let now = manager.clock.monotonic_ms();
        let entry = manager.cache.entry(&self.slot.key.owner, now);
        if let Err(fault) = manager.reread(&entry, entry.readings()).await {
            tracing::debug!(
                error = &fault as &dyn std::error::Error,
                "what another replica may have renewed could not be read"
            );
        }
        self.seen()
            .is_ok_and(|seen| seen.record.seq > seq || seen.grant != self.grant)
    }

    async fn wait(&self, mut trigger: RefreshTrigger) -> Result<Arc<SignedHeaders>, Error> {
        let manager = upgrade(&self.manager)?;
        let deadline = Instant::now() + RENEW_WITHIN;
        for _ in 0..TURNS {
            let hurried = self.seen()?.hurry(manager.clock.unix_ms(), deadline);
            let renewed = renew_within(&manager, &self.slot, &self.connection, trigger, hurried).await;
            let seen = self.seen()?;
            let unix_ms = manager.clock.unix_ms();
            if seen.serves(unix_ms) {
                return Ok(Arc::clone(&seen.signed));
            }
            if let Some(ended) = seen.ended(unix_ms) {
                let now = manager.clock.monotonic_ms();
                let entry = manager.cache.entry(&self.slot.key.owner, now);
                return Err(
                    end_error(&manager, &entry, &self.slot, ended).error(&self.connection, AS_ARGUMENT)
                );
            }
            if let Err(refused) = renewed {
                if refused.is_passing() && seen.time_left(manager.clock.unix_ms()).is_some() {
                    return Ok(Arc::clone(&seen.signed));
                }
                // The token ended while a newer one was hurried for: now the request's whole time may be used.
                if !(refused.is_passing() && hurried < deadline) {
                    return Err(refused.error(&self.connection, AS_ARGUMENT));
                }
            }
            trigger = seen.trigger();
        }
        Err(waiting(SOON, None).error(&self.connection, AS_ARGUMENT))
    }
}

#[async_trait]
impl CredentialSource for AccountSigner {
    fn now(&self) -> Arc<SignedHeaders> {
        self.seen()
            .map_or_else(|_| Arc::default(), |seen| Arc::clone(&seen.signed))
    }

    async fn ready(&self) -> Result<Arc<SignedHeaders>, Error> {
        let seen = self.seen()?;
        if seen.serves(upgrade(&self.manager)?.clock.unix_ms()) {
            return Ok(Arc::clone(&seen.signed));
        }
        self.wait(seen.trigger()).await
    }

    async fn refused(&self, seq: u64) -> Result<Arc<SignedHeaders>, Error> {
        let manager = upgrade(&self.manager)?;
        let seen = self.seen()?;
        let now = manager.clock.monotonic_ms();
        if seen.record.seq > seq || seen.grant != self.grant {
            return self.ready().await;
        }
        let replaced = self.slot.renewed_after_401.lock().clone();
        if let Some((grant, replaced, at)) = replaced
            && (&grant, replaced) == (&seen.grant, seq)
            && now.saturating_sub(at) < DISTRUST_401
        {
            if self.store_has_newer(&manager, seq).await {
                return self.ready().await;
            }
            let message = "the provider refuses a credential that was renewed a moment ago";
            return Err(Error::new(Code::UpstreamAuth, message));
        }
        if manager.only_reports() {
            let message = "the provider refuses the access token, and nothing is renewed here";
            return Err(Error::new(Code::UpstreamAuth, message));
        }
        seen.mark_refused();
        let signed = self.wait(seen.trigger()).await?;
        *self.slot.renewed_after_401.lock() = Some((Arc::clone(&self.grant), signed.seq, now));
        Ok(signed)
    }

    fn taken(&self, seq: u64) {
        if let Some(seen) = self.slot.seen().filter(|seen| seen.record.seq == seq) {
            seen.mark_accepted();
        }
    }

    fn is_stale(&self, scopes: &[String]) -> bool {
        let (Ok(seen), Ok(manager)) = (self.seen(), upgrade(&self.manager)) else {
            return false;
        };
        let record = &seen.record;
        let granted = record.granted.as_deref().unwrap_or_default();
        let due = seen
            .lifetime()
            .is_within_lead(manager.clock.unix(), self.connection.lead.as_secs());
        !scopes.is_empty()
            && scopes.iter().all(|scope| granted.contains(scope))
            && (due || record.tokens.expires_at.is_none())
            && record.tokens.refresh.is_some()
    }

    fn accepted(&self, seq: u64) {
        let mut replaced = self.slot.renewed_after_401.lock();
        if matches!(&*replaced, Some((grant, at, _)) if *grant == self.grant && *at == seq) {
            *replaced = None;
        }
    }
}
