//! The key that a file vault is encrypted with: the settings', or a file of mode 0600 that is made
//! once beside it. The seal of session ids is derived from the same root.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use rustix::process::geteuid;

use pleiades_core::random;
use pleiades_core::secret::{KEY_CURE, SHORT_KEY, Secret};
use pleiades_core::text::shell_word;

/// Length of a key that is made, in bytes.
const KEY_BYTES: usize = 32;
/// Largest key file, in bytes.
const LARGEST: u64 = 64 << 10;

/// Where the root key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootKey {
    /// The settings name it.
    Given(Secret),
    /// A file holds it.
    KeyFile(PathBuf),
}

impl RootKey {
    /// The key file that belongs to a vault's file: beside it, ending in `.key`.
    #[must_use]
    pub fn beside(vault: &Path) -> Self {
        let file = vault.with_extension("key");
        if file != vault {
            return Self::KeyFile(file);
        }
        let mut name = vault.as_os_str().to_owned();
        name.push(".key");
        Self::KeyFile(name.into())
    }

    /// Whether it is a key that vaults were made with before 32 bytes were asked of all; key files
    /// never were shorter.
    #[must_use]
    pub fn is_short(&self) -> bool {
        matches!(self, Self::Given(key) if key.is_short_key())
    }

    pub(crate) fn read(&self) -> io::Result<Secret> {
        match self {
            Self::Given(key) => Ok(key.clone()),
            Self::KeyFile(file) => read(file),
        }
    }

    /// The key, made when there is none. Where the vault is there and its key is not, none is made:
    /// it would open nothing, and hide that the right one is lost.
    ///
    /// # Errors
    /// As [`read`](Self::read), and when it cannot be made.
    pub fn read_or_make(&self, vault: &Path) -> io::Result<Secret> {
        let Self::KeyFile(file) = self else {
            return self.read();
        };
        match read(file) {
            Err(cause) if cause.kind() == ErrorKind::NotFound => {}
            other => return other,
        }
        if !is_new(vault)? {
            // Another process may have made both meanwhile, the key first.
            return read(file).map_err(|cause| match cause.kind() {
                ErrorKind::NotFound => io::Error::new(
                    ErrorKind::NotFound,
                    format!(
                        "it is not there, but the vault {} is: put the key back, \
                         or move the vault away to begin with an empty one",
                        vault.display()
                    ),
                ),
                _ => cause,
            });
        }
        make(file)?;
        read(file)
    }
}

/// Whether nothing was ever written to a vault's file.
fn is_new(vault: &Path) -> io::Result<bool> {
    match fs::metadata(vault) {
        Ok(found) => Ok(found.len() == 0),
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(true),
        Err(cause) => Err(cause),
    }
}

/// Makes the folder of a file, for its owner alone; one that is there stays as it is.
pub(super) fn make_folder(file: &Path) -> io::Result<()> {
    match file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => DirBuilder::new().recursive(true).mode(0o700).create(folder),
        None => Ok(()),
    }
}

/// Refuses what is not ours alone: another user's, what others may read or write, and what is no file.
pub(super) fn check_private(file: &Path) -> io::Result<()> {
    let found = fs::metadata(file)?;
    if !found.is_file() {
        return Err(io::Error::other("it is no file: name another path"));
    }
    if !is_ours(found.uid(), geteuid().as_raw()) {
        return Err(io::Error::other(
            "it belongs to another user: give it to the one that the gateway runs as",
        ));
    }
    if found.permissions().mode() & 0o077 != 0 {
        return Err(io::Error::other("others may read it: set its mode to 0600"));
    }
    Ok(())
}

/// Refuses a key file that others may put another in the place of.
fn check_folder(file: &Path) -> io::Result<()> {
    // Who may write a folder may put a file of theirs in the place of ours; where the folder is sticky
    // they may not. Links lead into a folder that counts as well.
    for file in [file, &file.canonicalize()?] {
        let mode = fs::metadata(folder(file))?.permissions().mode();
        if mode & 0o1002 == 0o0002 {
            return Err(io::Error::other(
                "others may write its folder: take that right from them (`chmod o-w`)",
            ));
        }
    }
    Ok(())
}

/// What mends a file whose mode, owner or folder is the reason that it is refused.
pub(super) fn private_cure(file: &Path) -> Option<String> {
    let found = fs::metadata(file).ok()?;
    let name = |file: &Path| shell_word(&file.display().to_string());
    if !found.is_file() {
        return None;
    }
    if !is_ours(found.uid(), geteuid().as_raw()) {
        let (user, file) = (geteuid().as_raw(), name(file));
        return Some(format!("run `chown {user} {file}` as its owner or root"));
    }
    if found.permissions().mode() & 0o077 != 0 {
        return Some(format!("run `chmod 600 {}`", name(file)));
    }
    check_folder(file).err()?;
    Some(format!("run `chmod o-w {}`", name(folder(file))))
}

/// Whether a file of this owner was put there by whom we run as, or by root.
const fn is_ours(owner: u32, us: u32) -> bool {
    owner == us || owner == 0
}

pub(super) fn folder(file: &Path) -> &Path {
    file.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."))
}

/// Two processes that start together agree: the file is made whole beside and linked into place by
/// whoever is first.
fn make(file: &Path) -> io::Result<()> {
    make_folder(file)?;
    let mut draft = file.as_os_str().to_owned();
    draft.push(format!(".{}", random::token::<9>().map_err(io::Error::other)?));
    let draft = PathBuf::from(draft);
    let written = write(&draft, &fresh()?).and_then(|()| link(&draft, file));
    // A draft that cannot be removed holds a key that nothing is sealed with.
    fs::remove_file(&draft).ok();
    written
}

fn write(draft: &Path, key: &Secret) -> io::Result<()> {
    let mut handle = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(draft)?;
    handle.write_all(key.expose().as_bytes())?;
    handle.sync_all()
}

fn link(draft: &Path, file: &Path) -> io::Result<()> {
    match fs::hard_link(draft, file) {
        Err(cause) if cause.kind() == ErrorKind::AlreadyExists => Ok(()),
        // Some file systems know no links.
        Err(_) if file.symlink_metadata().is_err() => fs::rename(draft, file),
        other => other,
    }?;
    sync_folder(file)
}

/// A name is on the disk once its folder is.
pub(super) fn sync_folder(file: &Path) -> io::Result<()> {
    fs::File::open(folder(file))?.sync_all()
}

/// Where the next key of a vault waits while everything is put under it.
pub(super) fn next(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".next");
    PathBuf::from(name)
}

/// Writes the next key of a vault, in the place of one that was never used.
pub(super) fn write_next(file: &Path, key: &Secret) -> io::Result<PathBuf> {
    let next = next(file);
    match fs::remove_file(&next) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => return Err(cause),
        _ => write(&next, key)?,
    }
    sync_folder(&next)?;
    Ok(next)
}

/// Makes the next key of a vault its key.
pub(super) fn install(next: &Path, file: &Path) -> io::Result<()> {
    fs::rename(next, file)?;
    sync_folder(file)
}

/// The key in a file; one is made there when there is none.
///
/// # Errors
/// As [`RootKey::read`], and when it cannot be made.
pub fn read_or_make(file: &Path) -> io::Result<Secret> {
    match read(file) {
        Err(cause) if cause.kind() == ErrorKind::NotFound => make(file)?,
        other => return other,
    }
    read(file)
}

/// The key in a file.
///
/// # Errors
/// When there is none, others may read or replace it, or it is too short.
pub fn read(file: &Path) -> io::Result<Secret> {
    check_private(file)?;
    check_folder(file)?;
    if fs::metadata(file)?.len() > LARGEST {
        return Err(io::Error::other("it is larger than any key: name another file"));
    }
    let text = Secret::new(fs::read_to_string(file)?);
    let key = Secret::new(text.expose().trim());
    if key.is_short_key() {
        return Err(io::Error::other(format!(
            "{SHORT_KEY}: {KEY_CURE}, or, if nothing is kept yet, remove it to have a new one made"
        )));
    }
    Ok(key)
}

/// A new key.
///
/// # Errors
/// When there is no randomness.
pub fn fresh() -> io::Result<Secret> {
    let bytes = zeroize::Zeroizing::new(random::bytes::<KEY_BYTES>().map_err(io::Error::other)?);
    Ok(Secret::new(STANDARD_NO_PAD.encode(*bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_file_is_made_once_and_kept_to_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let vault = folder.path().join("data/vault");
        let root = RootKey::beside(&vault);
        let first = root.read_or_make(&vault).unwrap();
        assert_eq!(root.read_or_make(&vault).unwrap().expose(), first.expose());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder.path().join("data/vault.key")), 0o600);
        assert_eq!(mode(&folder.path().join("data")), 0o700);
        assert_eq!(
            fs::read_dir(folder.path().join("data")).unwrap().count(),
            1,
            "no draft is left"
        );
    }

    #[test]
    fn processes_that_start_together_agree_on_one_key() {
        let folder = tempfile::tempdir().unwrap();
        let vault = folder.path().join("vault");
        let keys: Vec<String> = std::thread::scope(|scope| {
            let made: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| RootKey::beside(&vault).read_or_make(&vault).unwrap()))
                .collect();
            made.into_iter()
                .map(|one| one.join().unwrap().expose().to_owned())
                .collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
    }

    #[test]
    fn a_key_file_that_others_may_read_is_refused_with_its_cure() {
        let folder = tempfile::tempdir().unwrap();
        let vault = folder.path().join("vault");
        let root = RootKey::beside(&vault);
        root.read_or_make(&vault).unwrap();
        let file = folder.path().join("vault.key");
        for mode in [0o644, 0o640, 0o604] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let message = root.read_or_make(&vault).unwrap_err().to_string();
            assert!(message.contains("0600"), "{message}");
        }
    }

    #[test]
    fn a_key_file_of_another_user_is_refused_with_its_cure() {
        assert!(is_ours(1000, 1000) && is_ours(0, 1000) && !is_ours(1001, 1000) && !is_ours(1001, 0));
        if !geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let vault = folder.path().join("vault");
        let root = RootKey::beside(&vault);
        root.read_or_make(&vault).unwrap();
        std::os::unix::fs::chown(folder.path().join("vault.key"), Some(65_534), None).unwrap();
        let message = root.read_or_make(&vault).unwrap_err().to_string();
        assert!(message.contains("another user"), "{message}");
    }

    #[test]
    fn a_key_file_in_a_folder_that_others_may_write_is_refused_unless_they_cannot_replace_it() {
        let folder = tempfile::tempdir().unwrap();
        let vault = folder.path().join("vault");
        let root = RootKey::beside(&vault);
        root.read_or_make(&vault).unwrap();
        for (mode, is_good) in [(0o777, false), (0o1777, true), (0o702, false), (0o775, true)] {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
            let read = root.read_or_make(&vault);
            assert_eq!(read.is_ok(), is_good, "{mode:o}: {:?}", read.err());
        }
    }

    #[test]
    fn a_key_file_of_fewer_than_32_bytes_is_refused_with_its_cure() {
        let folder = tempfile::tempdir().unwrap();
        let vault = folder.path().join("vault");
        let file = folder.path().join("vault.key");
        fs::write(&file, format!("{}\n", "k".repeat(31))).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let message = RootKey::beside(&vault)
            .read_or_make(&vault)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("at least 32 bytes") && message.contains("openssl"),
            "{message}"
        );
    }

    #[test]
    fn a_lost_key_is_not_replaced_while_its_vault_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let vault = folder.path().join("vault");
        fs::write(&vault, "something").unwrap();
        let message = RootKey::beside(&vault).read_or_make(&vault).unwrap_err();
        assert!(message.to_string().contains("put the key back"), "{message}");
        assert!(!folder.path().join("vault.key").exists());
    }

    #[test]
    fn a_key_never_stands_in_the_vaults_own_place() {
        assert_eq!(
            RootKey::beside(Path::new("/x/vault.key")),
            RootKey::KeyFile(PathBuf::from("/x/vault.key.key"))
        );
        assert_eq!(
            RootKey::beside(Path::new("/x/vault")),
            RootKey::KeyFile(PathBuf::from("/x/vault.key"))
        );
    }
}
