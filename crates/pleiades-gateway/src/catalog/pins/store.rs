//! Where approved definitions are kept; a trait, so that they can be kept elsewhere.

use std::{fmt, sync::Arc};

use async_trait::async_trait;

use super::PinRecord;
use pleiades_core::secret::Secret;
use pleiades_credential::vault::{Path, Vault, Wrote};

/// A record as it was read.
#[derive(Debug, Clone)]
pub struct StoredPins {
    /// Good for nothing but the next write; 0 where there is no record yet.
    pub version: u64,
    /// The record.
    pub record: PinRecord,
}

/// Keeps approved definitions, one record a provider.
#[async_trait]
pub trait PinStore: Send + Sync + fmt::Debug {
    /// Reads a provider's record; an empty one where there is none.
    ///
    /// # Errors
    /// Why it cannot be read, in one sentence. A record that is broken cannot be read.
    async fn read(&self, provider: &str) -> Result<StoredPins, String>;

    /// Writes a record if it is still the version that was read; the new version, `None` when somebody wrote
    /// before.
    ///
    /// # Errors
    /// Why it cannot be written, in one sentence.
    async fn write(&self, provider: &str, expected: u64, record: &PinRecord) -> Result<Option<u64>, String>;
}

/// Keeps nothing: every tool is seen for the first time.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPinStore;

#[async_trait]
impl PinStore for NoPinStore {
    async fn read(&self, _: &str) -> Result<StoredPins, String> {
        Ok(StoredPins {
            version: 0,
            record: PinRecord::default(),
        })
    }

    async fn write(&self, _: &str, expected: u64, _: &PinRecord) -> Result<Option<u64>, String> {
        Ok(Some(expected + 1))
    }
}

/// Keeps records in the credential store, at `_gateway/pins/{provider}`.
#[derive(Debug)]
pub struct VaultPins(pub Arc<dyn Vault>);

fn path(provider: &str) -> Path {
    Path::gateway(&["pins", provider])
}

#[async_trait]
impl PinStore for VaultPins {
    async fn read(&self, provider: &str) -> Result<StoredPins, String> {
        let stored = self
            .0
            .read(&path(provider))
            .await
            .map_err(|fault| fault.in_full())?;
        let Some(stored) = stored else {
            return NoPinStore.read(provider).await;
        };
        let record = PinRecord::read(stored.value.expose());
        let broken = |why| {
            format!(
                "the entry `_gateway/pins/{provider}` of the credential store is broken ({why}): remove it"
            )
        };
        Ok(StoredPins {
            version: stored.version,
            record: record.map_err(broken)?,
        })
    }

    async fn write(&self, provider: &str, expected: u64, record: &PinRecord) -> Result<Option<u64>, String> {
        let value = Secret::new(record.to_json());
        match self.0.write(&path(provider), expected, &value, None).await {
            Ok(Wrote::Done(version)) => Ok(Some(version)),
            Ok(Wrote::Conflict) => Ok(None),
            Err(fault) => Err(fault.in_full()),
        }
    }
}
