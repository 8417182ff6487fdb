//! A vault in memory, for tests; those of other crates include this file.

use std::collections::BTreeMap;

use async_trait::async_trait;
use parking_lot::Mutex;

use pleiades_core::secret::Secret;
use pleiades_credential::vault::{Fault, Hint, Path, Stored, Vault, Wrote};

/// An entry and what may be known of it.
type Entry = (Stored, Option<Hint>);

/// A store in memory.
#[derive(Debug, Default)]
pub(crate) struct MemoryVault {
    entries: Mutex<BTreeMap<Vec<Box<str>>, Entry>>,
}

#[async_trait]
impl Vault for MemoryVault {
    async fn read(&self, path: &Path) -> Result<Option<Stored>, Fault> {
        Ok(self
            .entries
            .lock()
            .get(path.segments())
            .map(|(stored, _)| stored.clone()))
    }

    async fn write(
        &self,
        path: &Path,
        expected: u64,
        value: &Secret,
        hint: Option<&Hint>,
    ) -> Result<Wrote, Fault> {
        let mut entries = self.entries.lock();
        let version = entries
            .get(path.segments())
            .map_or(0, |(stored, _)| stored.version);
        if version != expected {
            return Ok(Wrote::Conflict);
        }
        let stored = Stored {
            version: version + 1,
            value: value.clone(),
        };
        entries.insert(path.segments().to_vec(), (stored, hint.cloned()));
        Ok(Wrote::Done(version + 1))
    }

    async fn remove(&self, path: &Path) -> Result<(), Fault> {
        self.entries.lock().remove(path.segments());
        Ok(())
    }

    async fn list(&self, folder: &Path) -> Result<Vec<String>, Fault> {
        let entries = self.entries.lock();
        let depth = folder.segments().len();
        let mut names: Vec<String> = entries
            .keys()
            .filter(|path| path.len() > depth && path.starts_with(folder.segments()))
            .filter_map(|path| path.get(depth).map(ToString::to_string))
            .collect();
        names.dedup();
        Ok(names)
    }

    async fn hint(&self, path: &Path) -> Result<Option<Hint>, Fault> {
        Ok(self
            .entries
            .lock()
            .get(path.segments())
            .and_then(|(_, hint)| hint.clone()))
    }
}
