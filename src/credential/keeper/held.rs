//! Keeps the headers of one account's grant up to date, for whoever holds its signature.

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{Keeper, Reason, Refused};
use crate::credential::connection::Connection;
use crate::credential::refresh::Why;
use crate::credential::signature::{Holder, Signed};
use crate::credential::slot::{Seen, Slot};
use crate::error::{Code, Error};

/// How long a request waits for its token to be renewed; its own deadline may be nearer.
const PATIENCE: Duration = Duration::from_secs(30);
/// A provider that refuses a token which was renewed for its sake is not believed for that long, in
/// milliseconds.
const MENDED: u64 = 60_000;
/// Looks at one account: it changes under a request no more often than that.
const TURNS: u32 = 4;

/// One account under one grant.
#[derive(Debug)]
pub(super) struct Held {
    keeper: Weak<Keeper>,
    slot: Arc<Slot>,
    connection: Arc<Connection>,
    grant: Arc<str>,
    subject: Option<String>,
}

impl Held {
    pub(super) fn new(
        keeper: &Weak<Keeper>,
        slot: &Arc<Slot>,
        connection: &Arc<Connection>,
        seen: &Seen,
    ) -> Self {
        Self {
            keeper: Weak::clone(keeper),
            slot: Arc::clone(slot),
            connection: Arc::clone(connection),
            grant: Arc::clone(&seen.grant),
            subject: seen.record.subject.clone(),
        }
    }

    fn keeper(&self) -> Result<Arc<Keeper>, Error> {
        self.keeper
            .upgrade()
            .ok_or_else(|| Error::new(Code::ShuttingDown, "the process is about to end"))
    }

    /// What is there, if it is still the account that this signature stands for. What an upstream
    /// session holds belongs to one person: a later grant of somebody else must not go on with it.
    fn seen(&self) -> Result<Arc<Seen>, Error> {
        let Some(seen) = self.slot.seen() else {
            let refused = Refused::NotConnected {
                reason: Reason::Revoked,
                wanted: None,
                accounts: Vec::new(),
            };
            return Err(refused.error(&self.connection));
        };
        let same = self.subject.is_some() && seen.record.subject == self.subject;
        if seen.grant != self.grant && !same {
            let refused = Refused::Waiting {
                retry_after: Duration::from_secs(1),
                said: None,
            };
            return Err(refused.error(&self.connection));
        }
        Ok(seen)
    }

    /// Whether the store has something newer than this set: another replica may have renewed it.
    async fn newer(&self, keeper: &Arc<Keeper>, seq: u64) -> bool {
        let entry = keeper.cache.entry(&self.slot.key.owner, keeper.clock.grown());
        if let Err(fault) = keeper.reread(&entry, entry.readings()).await {
            tracing::debug!(%fault, "what another replica may have renewed could not be read");
        }
        self.seen()
            .is_ok_and(|seen| seen.record.seq > seq || seen.grant != self.grant)
    }

    async fn wait(&self, mut why: Why) -> Result<Arc<Signed>, Error> {
        let keeper = self.keeper()?;
        let deadline = Instant::now() + PATIENCE;
        for _ in 0..TURNS {
            let hurried = keeper.hurried(&*self.seen()?, deadline);
            let renewed = keeper.renewed(&self.slot, &self.connection, why, hurried).await;
            let seen = self.seen()?;
            let unix_ms = keeper.clock.unix_ms();
            if seen.serves(unix_ms) {
                return Ok(Arc::clone(&seen.signed));
            }
            if let Some(ended) = seen.ended(unix_ms) {
                let entry = keeper.cache.entry(&self.slot.key.owner, keeper.clock.grown());
                return Err(keeper.over(&entry, &self.slot, ended).error(&self.connection));
            }
            if let Err(refused) = renewed {
                if refused.is_passing() && keeper.lasts(&seen) {
                    return Ok(Arc::clone(&seen.signed));
                }
                // It ended while it was hurried for: now there is all the time that the request has.
                if !(refused.is_passing() && hurried < deadline) {
                    return Err(refused.error(&self.connection));
                }
            }
            why = seen.why();
        }
        let refused = Refused::Waiting {
            retry_after: Duration::from_secs(5),
            said: None,
        };
        Err(refused.error(&self.connection))
    }
}

#[async_trait]
impl Holder for Held {
    fn now(&self) -> Arc<Signed> {
        self.seen()
            .map_or_else(|_| Arc::default(), |seen| Arc::clone(&seen.signed))
    }

    async fn ready(&self) -> Result<Arc<Signed>, Error> {
        let seen = self.seen()?;
        if seen.serves(self.keeper()?.clock.unix_ms()) {
            return Ok(Arc::clone(&seen.signed));
        }
        self.wait(seen.why()).await
    }

    async fn refused(&self, seq: u64) -> Result<Arc<Signed>, Error> {
        let keeper = self.keeper()?;
        let seen = self.seen()?;
        let now = keeper.clock.grown();
        if seen.record.seq > seq || seen.grant != self.grant {
            return self.ready().await;
        }
        let mended = self.slot.mended.lock().clone();
        if let Some((grant, mended, at)) = mended
            && (&grant, mended) == (&seen.grant, seq)
            && now.saturating_sub(at) < MENDED
        {
            if self.newer(&keeper, seq).await {
                return self.ready().await;
            }
            let said = "the provider refuses a credential that was renewed a moment ago";
            return Err(Error::new(Code::UpstreamAuth, said));
        }
        seen.refuse();
        let why = seen.why();
        let signed = self.wait(why).await?;
        *self.slot.mended.lock() = Some((Arc::clone(&self.grant), signed.seq, now));
        Ok(signed)
    }

    fn taken(&self, seq: u64) {
        if let Some(seen) = self.slot.seen().filter(|seen| seen.record.seq == seq) {
            seen.take();
        }
    }

    fn is_stale(&self, scopes: &[String]) -> bool {
        let (Ok(seen), Ok(keeper)) = (self.seen(), self.keeper()) else {
            return false;
        };
        let record = &seen.record;
        let granted = record.granted.as_deref().unwrap_or_default();
        let due = seen
            .lives()
            .is_within_lead(keeper.clock.unix(), self.connection.lead.as_secs());
        !scopes.is_empty()
            && scopes.iter().all(|scope| granted.contains(scope))
            && (due || record.tokens.expires_at.is_none())
            && record.tokens.refresh.is_some()
    }

    fn accepted(&self, seq: u64) {
        let mut mended = self.slot.mended.lock();
        if matches!(&*mended, Some((grant, at, _)) if *grant == self.grant && *at == seq) {
            *mended = None;
        }
    }
}
