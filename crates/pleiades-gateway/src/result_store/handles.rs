//! Results that were cut, kept whole under a handle for whoever got the cut.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::owner::{ResultOwner, digest};
use super::quota::{Quota, QuotaMap};
use super::record::{RecordTimes, StoredResult};
use super::{beside, shared::SharedResults};
use crate::shared_state::{EntryAddress, MAX_ENTRY, Retention};
use pleiades_core::{random, telemetry::Metrics, time::unix_now};

/// What a tenant's results may take, and those of all tenants, in bytes.
const QUOTA: Quota = Quota {
    tenant: 64 << 20,
    all: 256 << 20,
};
/// The 128 random bits of a handle.
const RANDOM: usize = 16;
/// The same as text.
const RANDOM_TEXT: usize = 22;
const PREFIX: &str = "r_";
const PURPOSE: &str = "shared_state/result";

/// The results that can be read on.
#[derive(Debug)]
pub(crate) struct ResultHandles {
    local: QuotaMap<Arc<StoredResult>>,
    shared: Arc<dyn SharedResults>,
    metrics: Arc<Metrics>,
}

impl ResultHandles {
    pub(super) fn new(shared: Arc<dyn SharedResults>, metrics: Arc<Metrics>) -> Self {
        Self {
            local: QuotaMap::new(QUOTA),
            shared,
            metrics,
        }
    }

    /// A handle for a result, under which nothing is kept yet. `None` when it is larger than what a tenant may
    /// have.
    pub(crate) fn reserve(&self, stored: &StoredResult) -> Option<String> {
        if !self.local.has_room_for(stored.bytes()) {
            return None;
        }
        // Without randomness there is no handle that others could not guess.
        let random = random::token::<RANDOM>().ok()?;
        Some(format!("{PREFIX}{random}"))
    }

    /// Keeps a result under a reserved handle for so long; other replicas have it when this returns, where
    /// there is room for it. `false`: it is larger than what a tenant may have.
    pub(crate) async fn keep(
        &self,
        owner: &ResultOwner,
        handle: &str,
        stored: &Arc<StoredResult>,
        keep_for: Duration,
    ) -> bool {
        let bytes = stored.bytes();
        let place = (owner.tenant(), Instant::now() + keep_for);
        let value = (Arc::clone(stored), bytes);
        if !self.local.insert(key(owner, handle), place, value) {
            return false;
        }
        self.sweep();
        if self.shared.is_configured() && bytes <= MAX_ENTRY {
            let at = unix_now();
            let until = at.saturating_add(keep_for.as_secs());
            let address = EntryAddress {
                purpose: PURPOSE,
                owner: &owner.caller(),
                id: handle,
            };
            let retention = Retention {
                tenant: owner.tenant(),
                share: QUOTA.tenant,
                ttl: keep_for,
            };
            let stored = Arc::clone(stored);
            let record = beside(bytes, move || stored.to_bytes(RecordTimes { at, until }, &[])).await;
            if let Some(record) = record {
                self.shared.put(address, retention, record.into()).await;
            }
        }
        true
    }

    /// The result that this caller reads under a handle at this provider, whichever account it is of, and how
    /// much longer it is kept. For handles of others, expired and made-up ones alike there is none, after
    /// the same work.
    pub(crate) async fn find(
        &self,
        owner: &ResultOwner,
        handle: &str,
    ) -> Option<(Arc<StoredResult>, Duration)> {
        if !is_handle(handle) {
            return None;
        }
        let key = key(owner, handle);
        if let Some((stored, until)) = self.local.get(&key) {
            return Some((stored, until.duration_since(Instant::now())));
        }
        if !self.shared.is_configured() {
            return None;
        }
        let address = EntryAddress {
            purpose: PURPOSE,
            owner: &owner.caller(),
            id: handle,
        };
        let bytes = self.shared.entry(address).await.ok().flatten()?;
        let read = beside(bytes.len(), move || StoredResult::from_bytes(&bytes));
        let (stored, times, _) = read.await??;
        let left = times.until.checked_sub(unix_now()).filter(|left| *left > 0)?;
        let (stored, left) = (Arc::new(stored), Duration::from_secs(left));
        let place = (owner.tenant(), Instant::now() + left);
        let value = (Arc::clone(&stored), stored.bytes());
        self.local.insert(key, place, value);
        Some((stored, left))
    }

    /// Frees what has expired.
    pub(super) fn sweep(&self) {
        self.metrics.result_handles(self.local.sweep().0);
    }
}

fn key(owner: &ResultOwner, handle: &str) -> [u8; 32] {
    digest(&[owner.caller().as_bytes(), handle.as_bytes()])
}

fn is_handle(text: &str) -> bool {
    let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    text.strip_prefix(PREFIX)
        .is_some_and(|random| random.len() == RANDOM_TEXT && random.bytes().all(is_safe))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_has_128_random_bits_and_nothing_else_is_one() {
        let token = random::token::<RANDOM>().unwrap();
        assert_eq!(token.len(), RANDOM_TEXT);
        assert!(is_handle(&format!("r_{token}")));
        for other in [
            "",
            "r_",
            &token,
            &format!("r_{token}A"),
            "r_AAAAAAAAAAAAAAAAAAAAA.",
            "c_AAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert!(!is_handle(other), "{other}");
        }
    }
}
