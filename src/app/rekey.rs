//! `pleiades vault rekey`: puts the embedded store of the settings under a new key.

use std::path::{Path, PathBuf};

use super::credentials::{key_of, vault_file};
use pleiades_core::secret::Secret;
use pleiades_credential::vault;
use pleiades_credential::vault::file::{self, Rekeyed, RootKey, key};
use pleiades_descriptor::settings::{Settings, VaultSettings};

#[derive(Debug)]
pub(crate) struct RekeyReport {
    pub(crate) vault: PathBuf,
    /// Whether entries were written anew.
    pub(crate) outcome: Rekeyed,
    pub(crate) key: NewKey,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NewKey {
    /// In the key file, from which it is read: nothing is left to be done.
    KeyFile(PathBuf),
    /// In the file that was named: the settings have to name it.
    File(PathBuf),
    /// In the environment: the settings have to name it.
    Environment,
}

/// Why the store is unchanged.
#[derive(Debug)]
pub(crate) enum RekeyError {
    /// The arguments contradict each other or the settings.
    Usage(String),
    /// The store or a file of a key.
    Store(vault::Fault),
}

/// Puts the embedded store of the settings under the key in `to`, made there when there is none, or under
/// `given`; without either, and where a key file opens it, under a fresh one. Blocks.
pub(crate) fn rekey(
    settings: &Settings,
    to: Option<&Path>,
    given: Option<Secret>,
) -> Result<RekeyReport, RekeyError> {
    let usage = |message: &str| RekeyError::Usage(message.to_owned());
    let VaultSettings::File(settings) = &settings.vault else {
        return Err(usage(
            "the settings keep credentials in HashiCorp Vault, which has keys of its own: see `transit_key` in docs/VAULT.md",
        ));
    };
    let vault = vault_file(settings)
        .ok_or_else(|| usage("there is no home folder for the vault: name its file as `vault.file.path`"))?;
    let root = key_of(settings);
    if vault.is_file() {
        // Before a key is asked for or made: while a gateway runs there is no use for one.
        file::File::new(Some(vault.clone()), root.clone())
            .claim()
            .map_err(RekeyError::Store)?;
    }
    let unread = |file: &Path, cause: std::io::Error| {
        let message = format!("the key file {} cannot be used: {cause}", file.display());
        RekeyError::Store(vault::Fault::new(vault::Kind::Denied, message).because(cause))
    };
    let (new, place) = match (to, given) {
        (Some(_), Some(_)) => {
            return Err(usage(
                "two new keys: give either `--to FILE` or `PLEIADES_NEW_KEY`",
            ));
        }
        (Some(file), None) => {
            let new = key::read_or_make(file).map_err(|cause| unread(file, cause))?;
            (
                new,
                NewKey::File(std::path::absolute(file).unwrap_or_else(|_| file.to_path_buf())),
            )
        }
        (None, Some(new)) => (new, NewKey::Environment),
        (None, None) if matches!(root, RootKey::Given(_)) => {
            return Err(usage(
                "say the new key: `--to FILE` (one is made there when there is no such file), or the variable `PLEIADES_NEW_KEY`",
            ));
        }
        (None, None) => {
            let new = key::fresh().map_err(|cause| unread(&vault, cause))?;
            (new, NewKey::Environment)
        }
    };
    let key = match &root {
        RootKey::KeyFile(file) => NewKey::KeyFile(file.clone()),
        RootKey::Given(_) => place,
    };
    let outcome = file::rekey(vault.clone(), root, &new).map_err(RekeyError::Store)?;
    Ok(RekeyReport { vault, outcome, key })
}
