//! The keys that seal session ids, links and what replicas tell each other: the settings', else
//! derived from the file vault's, else made once in Vault and read from there in the background.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::Fault;
use super::credentials::{key_of, vault_file};
use pleiades_core::backoff::Backoff;
use pleiades_core::secret::{Secret, is_short_key};
use pleiades_credential::vault::{self, Kind, Path as Entry, Wrote, file::key};
use pleiades_descriptor::settings::{Settings, VaultSettings};
use pleiades_mcp::seal::Sealer;

/// Pauses between tries to read the keys from Vault.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The keys as Vault keeps them: the first seals, all open.
#[derive(Serialize, Deserialize)]
struct StoredKeys {
    keys: Vec<String>,
}

/// The sealer; without keys yet when they are Vault's. Fails without randomness; a key file that cannot be
/// used is only warned of, and the key then lives as long as the process.
pub(super) fn sealer(settings: &Settings) -> Result<Arc<Sealer>, Fault> {
    if !settings.seal.keys.is_empty() {
        return Ok(Arc::new(Sealer::new(&settings.seal.keys)));
    }
    let VaultSettings::File(file) = &settings.vault else {
        return Ok(Arc::new(Sealer::without_keys()));
    };
    let fresh = || key::fresh().map_err(|cause| Fault::Machine(cause.to_string()));
    let root = key_of(file);
    if root.is_short() {
        // What is derived from it could be found from any session id: a key in the store cannot.
        return Ok(Arc::new(Sealer::without_keys()));
    }
    let key = match vault_file(file) {
        // A key that is given needs no place.
        path if file.key.is_some() => root.read_or_make(path.as_deref().unwrap_or(Path::new(""))),
        Some(path) => root.read_or_make(&path),
        None => {
            tracing::warn!("no home folder for the key file: sessions end with this process");
            return Ok(Arc::new(Sealer::new(&[fresh()?])));
        }
    };
    let key = match key {
        Ok(key) => key,
        Err(cause) => {
            let file = key_file(&root);
            tracing::warn!(key.file = %file.display(), error = %cause, "the key file cannot be used: sessions end with this process");
            fresh()?
        }
    };
    Ok(Arc::new(Sealer::new(&[key])))
}

fn key_file(root: &key::RootKey) -> PathBuf {
    match root {
        key::RootKey::KeyFile(file) => file.clone(),
        key::RootKey::Given(_) => PathBuf::new(),
    }
}

/// Reads the keys of a sealer that has none yet from the store, where they are made by whoever is
/// first; tries until it succeeds.
pub(super) async fn fetch(sealer: Arc<Sealer>, vault: Arc<dyn vault::Vault>) {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let mut last_kind = None;
    while !sealer.is_ready() {
        match keys(vault.as_ref()).await {
            Ok(keys) => {
                sealer.set_keys(&keys);
                tracing::info!("the seal key was read from the credential store");
                return;
            }
            Err(fault) => {
                if last_kind != Some(fault.kind) {
                    tracing::warn!(
                        outcome = fault.kind.as_str(),
                        error = &fault as &dyn std::error::Error,
                        "the seal key cannot be read from the credential store: not ready, trying on"
                    );
                }
                last_kind = Some(fault.kind);
                let asked = fault.retry_after.unwrap_or_default();
                sleep(asked.max(backoff.pause()).min(LONGEST_PAUSE)).await;
            }
        }
    }
}

/// The keys in the store; made when there are none, by one of all replicas.
async fn keys(vault: &dyn vault::Vault) -> Result<Vec<Secret>, vault::Fault> {
    let path = Entry::gateway(&["seal"]);
    if let Some(kept) = vault.read(&path).await? {
        return decode(&kept.value);
    }
    let unmade =
        |cause: String| vault::Fault::new(Kind::Failed, format!("no seal key could be made: {cause}"));
    let key = key::fresh().map_err(|cause| unmade(cause.to_string()))?;
    let kept = serde_json::to_string(&StoredKeys {
        keys: vec![key.expose().to_owned()],
    });
    let value = Secret::new(kept.map_err(|cause| unmade(cause.to_string()))?);
    match vault.write(&path, 0, &value, None).await? {
        Wrote::Done(_) => Ok(vec![key]),
        // Another replica was first; its key is everybody's.
        Wrote::Conflict => match vault.read(&path).await? {
            Some(kept) => decode(&kept.value),
            None => Err(unmade("it is there and cannot be read yet".to_owned())),
        },
    }
}

fn decode(value: &Secret) -> Result<Vec<Secret>, vault::Fault> {
    let kept: Option<StoredKeys> = serde_json::from_str(value.expose()).ok();
    match kept {
        Some(kept) if !kept.keys.is_empty() && !kept.keys.iter().any(|key| is_short_key(key)) => {
            Ok(kept.keys.into_iter().map(Secret::new).collect())
        }
        _ => Err(vault::Fault::new(
            Kind::Corrupt,
            "the entry `_gateway/seal` of the credential store holds no keys of at least 32 bytes: remove it \
             to have a new one made",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::memory_vault::MemoryVault;
    use pleiades_credential::vault::Vault as _;

    #[tokio::test]
    async fn the_seal_key_is_made_once_and_every_replica_reads_the_same() {
        let vault: Arc<dyn vault::Vault> = Arc::new(MemoryVault::default());
        let replicas = [Arc::new(Sealer::without_keys()), Arc::new(Sealer::without_keys())];
        for sealer in &replicas {
            assert!(!sealer.is_ready());
            fetch(Arc::clone(sealer), Arc::clone(&vault)).await;
        }
        let token = replicas[0].seal("session", "ann", 100, b"x");
        assert!(replicas[1].open("session", "ann", 0, &token).is_some());
        let kept = vault.read(&Entry::gateway(&["seal"])).await.unwrap().unwrap();
        assert_eq!(kept.version, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_comes_back_is_read_then_and_what_is_broken_is_not_written_over() {
        let vault = Arc::new(MemoryVault::default());
        let path = Entry::gateway(&["seal"]);
        vault.write(&path, 0, &Secret::new("{}"), None).await.unwrap();
        let sealer = Arc::new(Sealer::without_keys());
        let store: Arc<dyn vault::Vault> = Arc::clone(&vault) as _;
        let fetching = tokio::spawn(fetch(Arc::clone(&sealer), store));
        sleep(LONGEST_PAUSE * 3).await;
        assert!(!sealer.is_ready());
        assert_eq!(vault.read(&path).await.unwrap().unwrap().version, 1);
        vault.remove(&path).await.unwrap();
        sealer.ready().await;
        fetching.await.unwrap();
    }

    #[test]
    fn an_unusable_home_starts_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let blocked = folder.path().join("file");
        std::fs::write(&blocked, "").unwrap();
        let mut settings = Settings::default();
        settings.vault = VaultSettings::File(pleiades_descriptor::settings::FileVault {
            path: Some(blocked.join("below/vault")),
            key: None,
        });
        assert!(sealer(&settings).unwrap().is_ready());
    }
}
