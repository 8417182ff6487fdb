//! Reads owners' accounts from the store: one reading for all who wait for it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::{Account, CredentialManager};
use crate::cache::{OwnerAccounts, VersionedRecords};
use crate::key::{AccountKey, AccountOwner};
use crate::record::AccountRecord;
use crate::slot::AccountSlot;
use crate::vault::{Fault, Kind, Path, Stored};
use pleiades_core::secret::Secret;

/// How long one question to a store may take.
pub(super) const STORE_WITHIN: Duration = Duration::from_secs(10);
/// Accounts of an owner that are read at a time, and at most.
const AT_ONCE: usize = 8;
const ACCOUNTS: usize = 4_096;
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

    /// The accounts of a user at one connection as far as they are in memory: no I/O.
    #[must_use]
    pub fn cached_accounts(&self, owner: &AccountOwner) -> Vec<Account> {
        self.cache
            .get(owner)
            .map_or_else(Vec::new, |entry| self.describe(&entry))
    }

    /// All accounts of a user: connection and account.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn all_accounts(
        &self,
        tenant: &Arc<str>,
        user: &Arc<str>,
    ) -> Result<Vec<(Arc<str>, Account)>, Fault> {
        let mut all = Vec::new();
        for connection in self.names(&Path::of(&["c", tenant, user])).await? {
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
        Ok(self.fetch(key).await?.map(|(_, record)| record))
    }

    /// What is known of an owner's accounts.
    pub(super) fn describe(&self, entry: &OwnerAccounts) -> Vec<Account> {
        let unix_ms = self.clock.unix_ms();
        let slots = entry.slots();
        let default = super::grant::default_account(&slots).map(|slot| Arc::clone(&slot.key.account));
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

    /// Reads an owner's accounts, unless a reading that began after `since` has done so. Goes on when
    /// whoever asked is gone.
    pub(crate) async fn reread(&self, entry: &Arc<OwnerAccounts>, since: u64) -> Result<(), Fault> {
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
        match self.read_owner(&entry.owner).await {
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

    async fn read_owner(&self, owner: &AccountOwner) -> Result<VersionedRecords, Fault> {
        let mut names = self.names(&Path::accounts(owner)).await?;
        if names.len() > ACCOUNTS {
            tracing::warn!(
                connection = &*owner.connection,
                accounts = names.len(),
                "a user has more accounts than are read; the first {ACCOUNTS} are used"
            );
            names.truncate(ACCOUNTS);
        }
        let keys: Vec<AccountKey> = names
            .into_iter()
            .map(|name| AccountKey {
                owner: owner.clone(),
                account: name.into(),
            })
            .collect();
        let mut found = Vec::with_capacity(keys.len());
        for some in keys.chunks(AT_ONCE) {
            for read in join_all(some.iter().map(|key| self.fetch(key))).await {
                found.extend(read?);
            }
        }
        Ok(found)
    }

    /// Reads one record.
    pub(crate) async fn fetch(&self, key: &AccountKey) -> Result<Option<(u64, AccountRecord)>, Fault> {
        let path = Path::account(key);
        let stored = within(self.parts.vault.read(&path)).await?;
        stored.map(|stored| parse(key, &stored)).transpose()
    }

    /// The children of a folder.
    pub(crate) async fn names(&self, folder: &Path) -> Result<Vec<String>, Fault> {
        within(self.parts.vault.list(folder)).await
    }
}

/// An answer of a store in time.
pub(crate) async fn within<T>(asked: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    match timeout(STORE_WITHIN, asked).await {
        Ok(answer) => answer,
        Err(cause) => {
            Err(Fault::new(Kind::Unreachable, "the credential store did not answer in time").because(cause))
        }
    }
}

fn parse(key: &AccountKey, stored: &Stored) -> Result<(u64, AccountRecord), Fault> {
    match serde_json::from_str::<AccountRecord>(stored.value.expose()) {
        Ok(mut record) => {
            // Its place is its name.
            (*key.account).clone_into(&mut record.account);
            Ok((stored.version, record))
        }
        // What serde says may quote the record.
        Err(cause) => Err(Fault::new(
            Kind::Corrupt,
            format!(
                "a record of connection `{}` cannot be read (line {}, column {}); remove it and connect again",
                key.owner.connection,
                cause.line(),
                cause.column()
            ),
        )),
    }
}

/// A record as the store keeps it.
pub(super) fn serialize(record: &AccountRecord) -> Result<Secret, Fault> {
    serde_json::to_string(record)
        .map(Secret::new)
        .map_err(|cause| Fault::new(Kind::Corrupt, "a record cannot be written").because(cause))
}

fn ending() -> Fault {
    Fault::new(Kind::Refused, "the process is about to end")
}
