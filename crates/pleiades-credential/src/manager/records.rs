//! Accounts' records as the vault has them, each question within a bound.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use pleiades_core::secret::Secret;
use tokio::time::timeout;

use crate::key::{AccountKey, AccountOwner};
use crate::record::{AccountRecord, EndReason};
use crate::vault::{Fault, Hint, Kind, Path, Stored, Vault, Wrote};
use crate::{cache::VersionedRecords, refresh::UNHEALTHY};

pub(super) const STORE_WITHIN: Duration = Duration::from_secs(10);
/// Accounts of an owner that are read at a time, and at most.
const AT_ONCE: usize = 8;
const ACCOUNTS: usize = 4_096;

#[derive(Debug)]
pub(super) struct RecordStore {
    pub(super) vault: Arc<dyn Vault>,
}

impl RecordStore {
    pub(super) async fn read(&self, key: &AccountKey) -> Result<Option<(u64, AccountRecord)>, Fault> {
        let stored = within(self.vault.read(&Path::account(key))).await?;
        stored.map(|stored| parse(key, &stored)).transpose()
    }

    /// The same for whoever replaces or removes it: one that cannot be read has a version all the same.
    pub(super) async fn read_any(
        &self,
        key: &AccountKey,
    ) -> Result<Option<(u64, Option<AccountRecord>)>, Fault> {
        let stored = within(self.vault.read(&Path::account(key))).await?;
        Ok(stored.map(|stored| (stored.version, parse(key, &stored).ok().map(|(_, it)| it))))
    }

    pub(super) async fn read_owner(&self, owner: &AccountOwner) -> Result<VersionedRecords, Fault> {
        let mut names = self.list(&Path::accounts(owner)).await?;
        if names.len() > ACCOUNTS {
            tracing::warn!(
                provider.name = &*owner.connection,
                principal.tenant = &*owner.tenant,
                principal.user = &*owner.user,
                user.accounts = names.len(),
                "a user has more accounts than are read; the first {ACCOUNTS} are used"
            );
            names.truncate(ACCOUNTS);
        }
        let key = |name: String| AccountKey {
            owner: owner.clone(),
            account: name.into(),
        };
        let keys: Vec<AccountKey> = names.into_iter().map(key).collect();
        let mut records = Vec::with_capacity(keys.len());
        for some in keys.chunks(AT_ONCE) {
            for read in join_all(some.iter().map(|key| self.read(key))).await {
                records.extend(read?);
            }
        }
        Ok(records)
    }

    /// Writes a record if its version is still `expected`, and what may be known of it without reading.
    pub(super) async fn write(
        &self,
        key: &AccountKey,
        expected: u64,
        record: &AccountRecord,
    ) -> Result<Wrote, Fault> {
        let value = serde_json::to_string(record)
            .map(Secret::new)
            .map_err(|cause| Fault::new(Kind::Corrupt, "a record cannot be written").because(cause))?;
        let path = Path::account(key);
        within(self.vault.write(&path, expected, &value, Some(&hint(record)))).await
    }

    pub(super) async fn remove(&self, path: &Path) -> Result<(), Fault> {
        within(self.vault.remove(path)).await
    }

    pub(super) async fn list(&self, folder: &Path) -> Result<Vec<String>, Fault> {
        within(self.vault.list(folder)).await
    }
}

pub(super) async fn within<T>(answer: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    timeout(STORE_WITHIN, answer).await.unwrap_or_else(|cause| {
        Err(Fault::new(Kind::Unreachable, "the credential store did not answer in time").because(cause))
    })
}

fn parse(key: &AccountKey, stored: &Stored) -> Result<(u64, AccountRecord), Fault> {
    match serde_json::from_str::<AccountRecord>(stored.value.expose()) {
        Ok(mut record) => {
            // A record's name is that of its path.
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

fn hint(record: &AccountRecord) -> Hint {
    let state = match record.ended {
        Some(EndReason::Revoked) => "revoked",
        Some(_) => "needs_reauth",
        // The sweeper looks at it again: an unexplained refusal may pass.
        None if record.failures >= UNHEALTHY || record.refusal.is_some() => "unhealthy",
        None => "ok",
    };
    Hint {
        seq: record.seq,
        state: state.to_owned(),
        expiry: record.tokens.expires_at,
    }
}
