//! Where replicas find what others keep.

use std::{fmt, sync::Arc};

use async_trait::async_trait;

use crate::shared_state::{EntriesAway, EntryAddress, EntryStamp, Retention, SharedState};

/// A store that the replicas of a gateway have in common. It keeps what it can: whoever asks goes on
/// without it.
#[async_trait]
pub(crate) trait SharedResults: fmt::Debug + Send + Sync {
    /// Whether there is one at all.
    fn is_configured(&self) -> bool;

    /// The value at an address.
    async fn entry(&self, address: EntryAddress<'_>) -> Result<Option<Vec<u8>>, EntriesAway>;

    /// What the changes of an owner are up to, and the value at an address of theirs, read together.
    async fn stamped_entry(
        &self,
        owner: &str,
        address: Option<EntryAddress<'_>>,
    ) -> Result<(EntryStamp, Option<Vec<u8>>), EntriesAway>;

    /// Notes a change for an owner. One that cannot be noted is one for everybody, later.
    async fn advance(&self, owner: &str);

    /// Stores a value, where there is room for it.
    async fn put(&self, address: EntryAddress<'_>, retention: Retention<'_>, value: Arc<[u8]>);
}

#[async_trait]
impl SharedResults for SharedState {
    fn is_configured(&self) -> bool {
        self.shares_entries()
    }

    async fn entry(&self, address: EntryAddress<'_>) -> Result<Option<Vec<u8>>, EntriesAway> {
        Self::entry(self, address).await
    }

    async fn stamped_entry(
        &self,
        owner: &str,
        address: Option<EntryAddress<'_>>,
    ) -> Result<(EntryStamp, Option<Vec<u8>>), EntriesAway> {
        Self::stamped_entry(self, owner, address).await
    }

    async fn advance(&self, owner: &str) {
        if Self::advance(self, owner).await.is_err() && self.shares_entries() {
            tracing::debug!("a write was not noted in Redis: its return counts as one for everybody");
        }
    }

    async fn put(&self, address: EntryAddress<'_>, retention: Retention<'_>, value: Arc<[u8]>) {
        self.put_entry(address, retention, value).await;
    }
}
