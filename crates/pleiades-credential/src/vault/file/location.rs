//! Where a vault's file is: found, guarded, made, and noticed when it is replaced.

use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::{os::unix::fs::OpenOptionsExt, time::Instant};

use parking_lot::Mutex;
use rustix::fs::{Access, access};
use rustix::io::Errno;

use super::cipher::Cipher;
use super::key::{self, RootKey, check_private, folder, make_folder, sync_folder};
use super::table::{Inode, Table};
use super::trouble::{WRITABLE, rekeying, used};
use crate::vault::{Fault, Kind};
use pleiades_core::secret::{KEY_CURE, SHORT_KEY, Secret};

#[derive(Debug)]
pub(super) struct Location {
    path: Option<PathBuf>,
    pub(super) root: RootKey,
    /// The folder, locked: shared by all who use the vault, one alone puts it under another key.
    lock: Mutex<Option<(Inode, fs::File)>>,
}

impl Location {
    pub(super) fn new(path: Option<PathBuf>, root: RootKey) -> Self {
        Self {
            path,
            root,
            lock: Mutex::default(),
        }
    }

    pub(super) fn is_current(&self, open: Option<&Table>) -> Result<bool, Fault> {
        let Some(open) = open else { return Ok(false) };
        Ok(self.inode()?.is_some_and(|inode| inode == open.inode()))
    }

    /// Opens the file; `None` when there is none, or nothing was ever written to it, and none is to be made.
    pub(super) fn open(&self, make: bool, until: Instant) -> Result<Option<Table>, Fault> {
        let is_there = self.inode()?.is_some();
        if !is_there && !make {
            // Nobody is sent to connect an account that could not be kept.
            self.check_writable()?;
            return Ok(None);
        }
        let path = self.path()?;
        if !is_there {
            make_folder(path).map_err(|cause| unusable(path, cause))?;
        }
        // Before the key is read: nobody changes it from here on.
        self.lock_shared(path)?;
        let root = if make {
            self.root.read_or_make(path)
        } else {
            self.root.read()
        };
        let root = root.map_err(|cause| self.no_key(&cause))?;
        if !is_there {
            if root.is_short_key() {
                return Err(self.no_key(&io::Error::other(format!("{SHORT_KEY}: {KEY_CURE}"))));
            }
            create(path).map_err(|cause| unusable(path, cause))?;
        }
        check_private(path).map_err(|cause| unusable(path, cause))?;
        let Some(inode) = self.inode()? else {
            return Ok(None);
        };
        let make = make && !root.is_short_key();
        match Table::open(path, inode, cipher(&root)?, make, until) {
            Err(fault) if fault.kind == Kind::Unopened => match self.finish_rekey(path, inode, until) {
                Some(table) => Ok(Some(table)),
                None => Err(fault),
            },
            other => other,
        }
    }

    /// Whoever put the vault under another key may have been killed before that became the key file:
    /// this does it.
    fn finish_rekey(&self, path: &Path, inode: Inode, until: Instant) -> Option<Table> {
        let RootKey::KeyFile(file) = &self.root else {
            return None;
        };
        let opened = |key: &Path| {
            let root = key::read(key).ok()?;
            Table::open(path, inode, cipher(&root).ok()?, false, until).ok()?
        };
        let next = key::next(file);
        let Some(table) = opened(&next) else {
            // Another process may have been faster.
            return opened(file);
        };
        match key::install(&next, file) {
            Ok(()) => tracing::info!(key.file = %file.display(), "the key file is the vault's new key now"),
            Err(cause) if cause.kind() == ErrorKind::NotFound => {}
            Err(cause) => {
                tracing::warn!(error = %cause, key.file = %file.display(), "the vault's new key cannot be put in its place");
            }
        }
        Some(table)
    }

    /// Holds the folder together with all others who use the vault, for as long as this lives. Where
    /// the file system knows no locks, nobody can put the vault under another key either.
    fn lock_shared(&self, path: &Path) -> Result<(), Fault> {
        self.lock_folder(path, |folder| match folder.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Err(rekeying()),
            Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
        })
    }

    pub(super) fn lock_exclusive(&self) -> Result<&Path, Fault> {
        let path = self.path()?;
        self.lock_folder(path, |folder| match folder.try_lock() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => Err(used(path)),
            Err(TryLockError::Error(cause)) => {
                let message =
                    "the folder of the vault cannot be locked: move the vault to a local disk first";
                Err(Fault::new(Kind::Denied, message).because(cause))
            }
        })?;
        Ok(path)
    }

    fn lock_folder(
        &self,
        path: &Path,
        lock: impl FnOnce(&fs::File) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let open = || {
            let handle = fs::File::open(folder(path))?;
            Ok((Inode::from(handle.metadata()?), handle))
        };
        let (inode, handle) = open().map_err(|cause| unusable(path, cause))?;
        let mut claim = self.lock.lock();
        if claim.as_ref().is_none_or(|(locked, _)| *locked != inode) {
            lock(&handle)?;
            *claim = Some((inode, handle));
        }
        Ok(())
    }

    /// Only looked at, never opened: closing a file drops all locks that this process has on it.
    pub(super) fn inode(&self) -> Result<Option<Inode>, Fault> {
        let path = self.path()?;
        match fs::metadata(path) {
            Ok(inode) => Ok(Some(inode.into())),
            Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(unusable(path, cause)),
        }
    }

    pub(super) const fn has_path(&self) -> bool {
        self.path.is_some()
    }

    fn path(&self) -> Result<&Path, Fault> {
        let message = "there is no home folder for the vault: name its file as `vault.file.path`";
        self.path
            .as_deref()
            .ok_or_else(|| Fault::new(Kind::Refused, message))
    }

    pub(super) fn no_key(&self, cause: &io::Error) -> Fault {
        let what = match &self.root {
            RootKey::Given(_) => "`vault.file.key`".to_owned(),
            RootKey::KeyFile(file) => format!("the key file {}", file.display()),
        };
        let message = format!("the vault cannot be opened: {what} cannot be used: {cause}");
        let cure = match &self.root {
            RootKey::Given(_) => format!("{KEY_CURE}, and give it as `vault.file.key`"),
            RootKey::KeyFile(file) => key::private_cure(file).unwrap_or_else(|| match cause.kind() {
                ErrorKind::NotFound => format!(
                    "put the key file {} back, or give the vault's key as `vault.file.key`",
                    file.display()
                ),
                ErrorKind::PermissionDenied => WRITABLE.to_owned(),
                _ => {
                    "give the key that the vault is under, in its key file or as `vault.file.key`".to_owned()
                }
            }),
        };
        Fault::new(Kind::Unopened, message).cured(cure)
    }

    /// Refuses a place where nothing can be written: the file, where there is one, and its folder, or the one
    /// that this would be made in. Makes nothing.
    pub(super) fn check_writable(&self) -> Result<(), Fault> {
        let path = self.path()?;
        if self.inode()?.is_some() {
            access(path, Access::WRITE_OK).map_err(|cause| unwritable(path, cause.into()))?;
        }
        let mut above = folder(path);
        loop {
            match access(above, Access::WRITE_OK | Access::EXEC_OK) {
                Ok(()) => return Ok(()),
                Err(cause) if cause == Errno::NOENT && above != folder(above) => above = folder(above),
                Err(cause) => return Err(unwritable(path, cause.into())),
            }
        }
    }
}

pub(super) fn cipher(root: &Secret) -> Result<Cipher, Fault> {
    Cipher::new(root).ok_or_else(|| Fault::new(Kind::Failed, "no keys could be derived"))
}

/// An empty file of mode 0600; one that came to be meanwhile is taken.
fn create(path: &Path) -> io::Result<()> {
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match made {
        Ok(_) => sync_folder(path),
        Err(cause) if cause.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(cause) => Err(cause),
    }
}

fn unusable(path: &Path, cause: io::Error) -> Fault {
    let message = format!("the vault {} cannot be opened: {cause}", path.display());
    let cure = key::private_cure(path).unwrap_or_else(|| WRITABLE.to_owned());
    Fault::new(Kind::Unopened, message).cured(cure).because(cause)
}

fn unwritable(path: &Path, cause: io::Error) -> Fault {
    let message = format!("the vault {} cannot be written: {cause}", path.display());
    Fault::new(Kind::Unopened, message).cured(WRITABLE).because(cause)
}
