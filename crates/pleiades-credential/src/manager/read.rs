//! Reads owners' accounts from the vault into memory: one reading for all who wait for it.

use std::sync::Arc;

use super::default::{DefaultAccount, default_account};
use super::{Account, AccountEventKind, CredentialManager};
use crate::key::{AccountKey, AccountOwner};
use crate::vault::{Fault, Kind, Path};
use crate::{cache::OwnerAccounts, record::AccountRecord, slot::AccountSlot};

/// What is known serves lists for that long, in milliseconds.
const MOMENT: u64 = 1_000;

impl CredentialManager {
    /// The accounts of a user at one connection, ordered by id; read anew when what is known is older
    /// than a moment.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn accounts(&self, owner: &AccountOwner) -> Result<Vec<Account>, Fault> {
        let now = self.clock.monotonic_ms();
        let entry = self.cache.entry(owner, now);
        if entry.age(now).is_none_or(|age| age >= MOMENT) {
            self.reread(&entry, entry.readings()).await?;
        }
        Ok(self.describe(&entry))
    }

    /// Reads the accounts of a user at one connection again, however young what is known is: another process
    /// has changed them in the store. Who listens here hears of what has become different.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn changed_in_store(&self, owner: &AccountOwner) -> Result<(), Fault> {
        // What nobody has asked for here is read when somebody does.
        let Some(entry) = self.cache.get(owner) else {
            return Ok(());
        };
        let before = self.describe(&entry);
        self.reread(&entry, entry.readings()).await?;
        let key = |account: &Arc<str>| AccountKey {
            owner: owner.clone(),
            account: Arc::clone(account),
        };
        for (account, kind) in differences(&before, &self.describe(&entry)) {
            if kind == AccountEventKind::Revoked {
                self.schedule.remove(&key(&account));
            }
            self.events.happened_elsewhere(&key(&account), kind);
        }
        Ok(())
    }

    /// The accounts of a user at one connection as far as they are in memory: no I/O.
    #[must_use]
    pub fn cached_accounts(&self, owner: &AccountOwner) -> Vec<Account> {
        self.cache
            .get(owner)
            .map_or_else(Vec::new, |entry| self.describe(&entry))
    }

    /// The same for a listing of everybody's: what is not in memory is not put there, where it would push out
    /// what requests use.
    pub(crate) async fn stored_accounts(&self, owner: &AccountOwner) -> Result<Vec<Account>, Fault> {
        if self.cache.get(owner).is_some() {
            return self.accounts(owner).await;
        }
        let entry = OwnerAccounts::new(owner.clone(), 0);
        let read = self.records.read_owner(owner).await?;
        entry.apply_reading(entry.begin_reading(), 0, read);
        Ok(self.describe(&entry))
    }

    /// Whether several accounts of a user at one connection are in memory: no I/O.
    #[must_use]
    pub fn knows_several(&self, owner: &AccountOwner) -> bool {
        let entry = self.cache.get(owner);
        entry.is_some_and(|entry| entry.with(|slots| slots.len() > 1))
    }

    /// The names in a folder of the store.
    pub(crate) async fn names_in(&self, folder: &Path) -> Result<Vec<String>, Fault> {
        self.records.list(folder).await
    }

    /// All accounts of a user: connection and account.
    pub(crate) async fn all_accounts(
        &self,
        tenant: &Arc<str>,
        user: &Arc<str>,
    ) -> Result<Vec<(Arc<str>, Account)>, Fault> {
        let mut all = Vec::new();
        for connection in self.records.list(&Path::of(&["c", tenant, user])).await? {
            let connection: Arc<str> = connection.into();
            let owner = AccountOwner {
                tenant: Arc::clone(tenant),
                user: Arc::clone(user),
                connection: Arc::clone(&connection),
            };
            let accounts = self.accounts(&owner).await?;
            all.extend(accounts.into_iter().map(|it| (Arc::clone(&connection), it)));
        }
        Ok(all)
    }

    /// The record of an account.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn record(&self, key: &AccountKey) -> Result<Option<AccountRecord>, Fault> {
        Ok(self.records.read(key).await?.map(|(_, record)| record))
    }

    pub(super) fn describe(&self, entry: &OwnerAccounts) -> Vec<Account> {
        let unix_ms = self.clock.unix_ms();
        let slots = entry.slots();
        let default = match default_account(&slots, unix_ms) {
            DefaultAccount::Of(slot) => Some(Arc::clone(&slot.key.account)),
            DefaultAccount::Several | DefaultAccount::Missing => None,
        };
        let describe = |slot: &Arc<AccountSlot>| {
            let seen = slot.seen()?;
            let lead = self.lead(&entry.owner.connection, &seen.record.provider);
            let id = &slot.key.account;
            Some(Account::of(
                id,
                &seen,
                default.as_ref() == Some(id),
                unix_ms,
                lead,
            ))
        };
        slots.iter().filter_map(describe).collect()
    }

    /// Puts a record that was read or written alone into memory.
    pub(super) fn keep(&self, key: &AccountKey, version: u64, record: AccountRecord) -> Arc<AccountSlot> {
        let entry = self.cache.entry(&key.owner, self.clock.monotonic_ms());
        let slot = entry.put(version, record);
        self.plan_renewal(&slot);
        slot
    }

    pub(super) fn forget(&self, key: &AccountKey) {
        if let Some(entry) = self.cache.get(&key.owner) {
            entry.remove(&key.account);
        }
        self.schedule.remove(key);
    }

    pub(super) fn plan_renewal(&self, slot: &AccountSlot) {
        let lead = |provider: &str| self.lead(&slot.key.owner.connection, provider);
        self.schedule.plan(slot, lead, &self.clock);
    }

    /// Reads an owner's accounts, unless a reading that began after `since` has done so. Goes on when
    /// whoever asked is gone.
    pub(super) async fn reread(&self, entry: &Arc<OwnerAccounts>, since: u64) -> Result<(), Fault> {
        let Some(manager) = self.me.upgrade() else {
            return Err(ending());
        };
        let entry = Arc::clone(entry);
        let reading = async move { manager.read_once(&entry, since).await };
        let task = self.parts.control.spawn(reading);
        task.await.unwrap_or_else(|cause| Err(ending().because(cause)))
    }

    async fn read_once(&self, entry: &OwnerAccounts, since: u64) -> Result<(), Fault> {
        let _one = entry.reading.lock().await;
        if entry.is_read_since(since) {
            return Ok(());
        }
        if let Some(fault) = entry.failed_since(since) {
            return Err(fault);
        }
        let (reading, at) = (entry.begin_reading(), self.clock.monotonic_ms());
        match self.records.read_owner(&entry.owner).await {
            Ok(read) => {
                entry.apply_reading(reading, at, read);
                for slot in entry.slots() {
                    self.plan_renewal(&slot);
                }
                Ok(())
            }
            Err(fault) => {
                entry.apply_failure(reading, self.clock.monotonic_ms(), &fault);
                Err(fault)
            }
        }
    }
}

/// What happened between two readings of an owner's accounts.
fn differences(before: &[Account], now: &[Account]) -> Vec<(Arc<str>, AccountEventKind)> {
    let is_in = |list: &[Account], id: &Arc<str>| list.iter().any(|it| it.id == *id);
    let of = |list: &[Account], other: &[Account], kind| -> Vec<_> {
        let only = list.iter().filter(|it| !is_in(other, &it.id));
        only.map(|it| (Arc::clone(&it.id), kind)).collect()
    };
    let default = |list: &[Account]| list.iter().find(|it| it.is_default).map(|it| Arc::clone(&it.id));
    let mut happened = of(before, now, AccountEventKind::Revoked);
    happened.extend(of(now, before, AccountEventKind::Connected));
    let used = default(now);
    if default(before) != used
        && let Some(account) = used.or_else(|| now.first().map(|it| Arc::clone(&it.id)))
    {
        happened.push((account, AccountEventKind::Chosen));
    }
    happened
}

fn ending() -> Fault {
    Fault::new(Kind::Refused, "the process is about to end")
}
