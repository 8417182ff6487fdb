//! Connects, chooses and revokes accounts. What is begun is finished, also when its caller is gone.

use std::{sync::Arc, time::Duration};

use pleiades_core::telemetry::request_scope;
use tokio::time::timeout;

use super::default::since;
use super::{AccountEventKind, CredentialManager, refresh_task::nonce};
use crate::cache::OwnerAccounts;
use crate::key::AccountOwner;
use crate::vault::{Fault, Kind, Path, Wrote};
use crate::{key::AccountKey, oauth, record::AccountRecord, slot::AccountSlot};

/// How often a write is tried again after others wrote first.
const TRIES: u32 = 16;
const REVOKED_WITHIN: Duration = Duration::from_secs(10);

/// Scopes that an account lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingScopes {
    /// Scopes that were not granted, or not as far as is known.
    pub scopes: Vec<String>,
    /// Whether some were not asked for before: asking the user for them may help.
    pub is_new: bool,
}

impl CredentialManager {
    /// Stores a new connection in the place of an older one; what its user chose stays.
    pub(crate) async fn connect(&self, key: &AccountKey, record: AccountRecord) -> Result<(), Fault> {
        let key = key.clone();
        self.detached(|manager| async move { manager.connect_now(&key, record).await })
            .await
    }

    /// Makes an account its user's default; `false` when there is none of that name.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn choose(&self, key: &AccountKey) -> Result<bool, Fault> {
        let key = key.clone();
        self.detached(|manager| async move { manager.choose_now(&key).await })
            .await
    }

    /// Makes none of a user's accounts the default: while several work, each call has to name one. `false`
    /// where there are fewer than two, so that nothing is to be chosen.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn choose_none(&self, owner: &AccountOwner) -> Result<bool, Fault> {
        let owner = owner.clone();
        self.detached(|manager| async move { manager.choose_none_now(&owner).await })
            .await
    }

    /// Revokes at the provider as far as possible, and removes the record whatever the provider says;
    /// `false` when there is none.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn revoke(&self, key: &AccountKey) -> Result<bool, Fault> {
        let key = key.clone();
        self.detached(|manager| async move { manager.revoke_now(&key).await })
            .await
    }

    /// Which of these scopes an account lacks.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn missing_scopes(&self, key: &AccountKey, scopes: &[String]) -> Result<MissingScopes, Fault> {
        let record = self.record(key).await?;
        let (granted, requested) = record.map_or((None, Vec::new()), |it| (it.granted, it.requested));
        let granted = granted.unwrap_or_default();
        let lacks = |scope: &&String| !granted.contains(scope);
        let scopes: Vec<String> = scopes.iter().filter(lacks).cloned().collect();
        Ok(MissingScopes {
            is_new: scopes.iter().any(|scope| !requested.contains(scope)),
            scopes,
        })
    }

    /// Another replica changed an account: its owner's accounts are read again. A credential that
    /// was revoked there is dropped even when the vault cannot be read.
    pub async fn changed_elsewhere(&self, key: &AccountKey, kind: AccountEventKind) {
        if let Some(entry) = self.cache.get(&key.owner) {
            if kind == AccountEventKind::Revoked {
                self.forget(key);
            }
            if let Err(fault) = self.reread(&entry, entry.readings()).await {
                tracing::debug!(
                    error = &fault as &dyn std::error::Error,
                    "what another replica changed could not be read yet"
                );
            }
        }
        self.events.happened_elsewhere(key, kind);
    }

    async fn detached<T: Send + 'static, F>(&self, work: impl FnOnce(Arc<Self>) -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>> + Send + 'static,
    {
        let Some(manager) = self.me.upgrade() else {
            return Err(Fault::new(Kind::Refused, "the process is about to end"));
        };
        let task = self
            .work
            .spawn_on(request_scope::inherited(work(manager)), &self.parts.control);
        task.await.unwrap_or_else(|cause| {
            Err(Fault::new(Kind::Refused, "the process is about to end").because(cause))
        })
    }

    async fn connect_now(&self, key: &AccountKey, mut record: AccountRecord) -> Result<(), Fault> {
        (*key.account).clone_into(&mut record.account);
        record.seq = record.seq.max(1);
        record.lease = None;
        record.failures = 0;
        let entry = self.cache.entry(&key.owner, self.clock.monotonic_ms());
        if let Err(fault) = self.reread(&entry, entry.readings()).await {
            tracing::debug!(
                outcome = fault.kind.as_str(),
                error = &fault as &dyn std::error::Error,
                "the other accounts of a user who connects one could not be read"
            );
        }
        record.since = self.since_of(&entry, key);
        for _ in 0..TRIES {
            let before = self.records.read_any(key).await?;
            let expected = before.as_ref().map_or(0, |(version, _)| *version);
            let new = replacing(&record, before.as_ref().and_then(|(_, record)| record.as_ref()));
            if let Wrote::Done(version) = self.records.write(key, expected, &new).await? {
                self.keep(key, version, new);
                self.events.happened_here(key, AccountEventKind::Connected);
                return Ok(());
            }
        }
        Err(contended())
    }

    async fn choose_now(&self, key: &AccountKey) -> Result<bool, Fault> {
        for _ in 0..TRIES {
            let entry = self.cache.entry(&key.owner, self.clock.monotonic_ms());
            self.reread(&entry, entry.readings()).await?;
            let now = self.next_choice(&entry);
            let Some((version, mut record)) = self.records.read(key).await? else {
                return Ok(false);
            };
            record.chosen = now;
            if let Wrote::Done(version) = self.records.write(key, version, &record).await? {
                self.keep(key, version, record);
                self.events.happened_here(key, AccountEventKind::Chosen);
                return Ok(true);
            }
        }
        Err(contended())
    }

    async fn choose_none_now(&self, owner: &AccountOwner) -> Result<bool, Fault> {
        let entry = self.cache.entry(owner, self.clock.monotonic_ms());
        self.reread(&entry, entry.readings()).await?;
        let (slots, now) = (entry.slots(), self.next_choice(&entry));
        if slots.len() < 2 {
            return Ok(false);
        }
        for slot in &slots {
            self.note_none_chosen(&slot.key, now).await?;
        }
        // One tells of all: whoever hears of it reads the owner's accounts.
        if let Some(slot) = slots.first() {
            self.events.happened_here(&slot.key, AccountEventKind::Chosen);
        }
        Ok(true)
    }

    async fn note_none_chosen(&self, key: &AccountKey, now: u64) -> Result<(), Fault> {
        for _ in 0..TRIES {
            let Some((version, mut record)) = self.records.read(key).await? else {
                return Ok(());
            };
            record.none_chosen = now;
            if let Wrote::Done(version) = self.records.write(key, version, &record).await? {
                self.keep(key, version, record);
                return Ok(());
            }
        }
        Err(contended())
    }

    /// A time for a choice, in unix milliseconds: later than all that were made before, whatever clock they
    /// were made by.
    fn next_choice(&self, entry: &OwnerAccounts) -> u64 {
        let made = |slot: &Arc<AccountSlot>| {
            slot.seen()
                .map_or(0, |seen| seen.record.chosen.max(seen.record.none_chosen))
        };
        let latest = entry.slots().iter().map(made).max().unwrap_or(0);
        self.clock.unix_ms().max(latest + 1)
    }

    /// Since when an account counts as connected that is connected now: one that worked keeps its place,
    /// any other comes after all that are there, so that it takes the default from none of them.
    fn since_of(&self, entry: &OwnerAccounts, key: &AccountKey) -> u64 {
        let now = self.clock.unix_ms();
        let (mut latest, mut own) = (0, None);
        for slot in entry.slots() {
            let Some(seen) = slot.seen() else { continue };
            if slot.key.account != key.account {
                latest = latest.max(since(&seen.record));
            } else if seen.ended(now).is_none() {
                own = Some(since(&seen.record));
            }
        }
        own.unwrap_or_else(|| now.max(latest.saturating_add(1)))
    }

    async fn revoke_now(&self, key: &AccountKey) -> Result<bool, Fault> {
        let Some((_, record)) = self.records.read_any(key).await? else {
            return Ok(false);
        };
        if let Some(record) = &record {
            self.revoke_at_provider(key, record).await;
        }
        self.records.remove(&Path::account(key)).await?;
        self.forget(key);
        tracing::info!(
            provider.name = record
                .as_ref()
                .map_or(&*key.owner.connection, |record| &record.provider),
            principal.tenant = &*key.owner.tenant,
            principal.user = &*key.owner.user,
            account.id = &*key.account,
            "an account was revoked"
        );
        self.events.happened_here(key, AccountEventKind::Revoked);
        Ok(true)
    }

    /// Best effort: what the provider does not revoke ends by itself, and is gone here.
    async fn revoke_at_provider(&self, key: &AccountKey, record: &AccountRecord) {
        let Some(connection) = self.connection_of(&key.owner.connection, &record.provider) else {
            tracing::warn!(
                provider.name = record.provider,
                principal.tenant = &*key.owner.tenant,
                principal.user = &*key.owner.user,
                account.id = &*key.account,
                "the provider is not loaded: its tokens are removed here, but not revoked there"
            );
            return;
        };
        for token in record.tokens.refresh.iter().chain([&record.tokens.access]) {
            let asked = oauth::revoke(&*self.parts.web, &connection, &record.source, token);
            let why = match timeout(REVOKED_WITHIN, asked).await {
                Ok(Ok(())) => continue,
                Ok(Err(trouble)) => trouble.to_string(),
                Err(_) => "it did not answer in time".to_owned(),
            };
            tracing::warn!(
                provider.name = record.provider,
                principal.tenant = &*key.owner.tenant,
                principal.user = &*key.owner.user,
                account.id = &*key.account,
                error = why,
                "the provider did not revoke a token; it is removed here"
            );
        }
    }
}

fn replacing(record: &AccountRecord, before: Option<&AccountRecord>) -> AccountRecord {
    let mut new = record.clone();
    if new.grant_id.is_empty() || before.is_some_and(|before| before.grant_id == new.grant_id) {
        new.grant_id = nonce();
    }
    let Some(before) = before else { return new };
    if new.tokens.refresh.is_none() && is_same_consent(&new, before) {
        // For a second consent many servers give none (RFC 6749 section 5.1): the first one's still renews it.
        new.tokens.refresh.clone_from(&before.tokens.refresh);
        new.lease.clone_from(&before.lease);
        new.unanswered = before.unanswered;
    }
    new.chosen = new.chosen.max(before.chosen);
    new.none_chosen = new.none_chosen.max(before.none_chosen);
    new.connected_at = new.connected_at.max(before.connected_at);
    // What was asked for before counts as asked for: asking again would not help.
    for scope in before.requested.iter().filter(|_| new.subject == before.subject) {
        if !new.requested.contains(scope) {
            new.requested.push(scope.clone());
        }
    }
    new
}

/// Whether both are of the same person and client, so that the refresh token of the one renews the other;
/// that of an ended account renews nothing.
fn is_same_consent(new: &AccountRecord, before: &AccountRecord) -> bool {
    let (one, other) = (&new.source, &before.source);
    let person = new.subject.is_some() && new.subject == before.subject;
    let client = one.client.id == other.client.id && one.token_endpoint == other.token_endpoint;
    person && client && before.ended.is_none()
}

fn contended() -> Fault {
    let message = "the record is written by others all the time; try again";
    Fault::new(Kind::Failed, message)
}
