//! The keys that seal session ids: the settings', else derived from the file vault's, else from a
//! key file of mode 0600 that is made on the first start.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};

use super::Fault;
use crate::secret::Secret;
use crate::settings::{Settings, Vault};

const KEY_BYTES: usize = 32;

/// The keys, first the one that seals.
///
/// # Errors
/// [`Fault::Machine`] when there is no randomness; a folder that cannot be written is only warned
/// of, and the key then lives as long as the process.
pub(super) fn keys(settings: &Settings) -> Result<Vec<Secret>, Fault> {
    if !settings.seal.keys.is_empty() {
        return Ok(settings.seal.keys.clone());
    }
    let Vault::File(vault) = &settings.vault else {
        return Err(Fault::Settings("`vault`: only `file` is built yet".to_owned()));
    };
    if let Some(key) = &vault.key {
        return Ok(vec![key.clone()]);
    }
    let Some(file) = key_file(vault.path.as_deref()) else {
        tracing::warn!("no home folder for the key file: sessions end with this process");
        return Ok(vec![fresh()?]);
    };
    match read_or_make(&file) {
        Ok(key) => Ok(vec![key]),
        Err(cause) => {
            tracing::warn!(key.file = %file.display(), %cause, "the key file cannot be used: sessions end with this process");
            Ok(vec![fresh()?])
        }
    }
}

/// Beside the vault's file, or in the XDG data folder.
fn key_file(vault: Option<&Path>) -> Option<PathBuf> {
    match vault {
        Some(path) => Some(path.with_extension("key")),
        None => Some(crate::settings::data_folder()?.join("vault.key")),
    }
}

/// Two processes that start together agree: the file is made whole beside and linked into place by
/// whoever is first.
fn read_or_make(file: &Path) -> std::io::Result<Secret> {
    match read(file) {
        Err(cause) if cause.kind() == ErrorKind::NotFound => {}
        other => return other,
    }
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let key = fresh().map_err(std::io::Error::other)?;
    let draft = file.with_extension(format!("key.{}", std::process::id()));
    let mut handle = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)?;
    handle.write_all(key.expose().as_bytes())?;
    handle.sync_all()?;
    let linked = fs::hard_link(&draft, file);
    fs::remove_file(&draft)?;
    match linked {
        Err(cause) if cause.kind() != ErrorKind::AlreadyExists => Err(cause),
        _ => read(file),
    }
}

fn read(file: &Path) -> std::io::Result<Secret> {
    let text = fs::read_to_string(file)?;
    if fs::metadata(file)?.permissions().mode() & 0o077 != 0 {
        return Err(std::io::Error::other("others may read it: set its mode to 0600"));
    }
    let key = text.trim();
    if key.len() < KEY_BYTES {
        return Err(std::io::Error::other(
            "it is shorter than a key: remove it to have a new one made",
        ));
    }
    Ok(Secret::new(key))
}

fn fresh() -> Result<Secret, Fault> {
    let mut bytes = [0_u8; KEY_BYTES];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|cause| Fault::Machine(format!("no randomness to be had: {cause}")))?;
    Ok(Secret::new(STANDARD_NO_PAD.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_file_is_made_once_and_kept_to_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("data/vault.key");
        let first = read_or_make(&file).unwrap();
        assert_eq!(read_or_make(&file).unwrap().expose(), first.expose());
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_key_file_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("vault.key");
        read_or_make(&file).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read_or_make(&file).is_err());
    }
}
