//! Where a vault's file is: found, guarded, made, and noticed when it is replaced.

use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::cipher::Cipher;
use super::key::{Root, guarded, make_folder, sync_folder};
use super::table::Table;
use crate::credential::vault::{Fault, Kind};

/// A path and the key of what is there.
#[derive(Debug)]
pub(super) struct Place {
    path: Option<PathBuf>,
    root: Root,
}

/// Which file of the machine it is: another one may come to stand at the same path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Inode(u64, u64);

impl From<Metadata> for Inode {
    fn from(found: Metadata) -> Self {
        Self(found.dev(), found.ino())
    }
}

impl Place {
    pub(super) const fn new(path: Option<PathBuf>, root: Root) -> Self {
        Self { path, root }
    }

    /// Whether what is open is what stands there.
    pub(super) fn is_same(&self, open: Option<&Table>) -> Result<bool, Fault> {
        let Some(open) = open else { return Ok(false) };
        Ok(self.found()?.is_some_and(|found| found == open.inode()))
    }

    /// Opens the file; `None` when there is none, or nothing was ever written to it, and none is to
    /// be made.
    pub(super) fn open(&self, make: bool, until: Instant) -> Result<Option<Table>, Fault> {
        let is_there = self.found()?.is_some();
        if !is_there && !make {
            return Ok(None);
        }
        let path = self.path()?;
        let root = if make {
            self.root.read_or_make(path)
        } else {
            self.root.read()
        };
        let root = root.map_err(|cause| self.no_key(&cause))?;
        let cipher =
            Cipher::new(&root).ok_or_else(|| Fault::new(Kind::Failed, "no keys could be derived"))?;
        if !is_there {
            create(path).map_err(|cause| unusable(path, cause))?;
        }
        guarded(path).map_err(|cause| unusable(path, cause))?;
        let Some(inode) = self.found()? else {
            return Ok(None);
        };
        Table::open(path, inode, cipher, make, until)
    }

    /// Only looked at, never opened: closing a file drops all locks that this process has on it.
    fn found(&self) -> Result<Option<Inode>, Fault> {
        let path = self.path()?;
        match fs::metadata(path) {
            Ok(found) => Ok(Some(found.into())),
            Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(unusable(path, cause)),
        }
    }

    fn path(&self) -> Result<&Path, Fault> {
        self.path.as_deref().ok_or_else(|| {
            Fault::new(
                Kind::Refused,
                "there is no home folder for the vault: name its file as `vault.file.path`",
            )
        })
    }

    fn no_key(&self, cause: &io::Error) -> Fault {
        let what = match &self.root {
            Root::Given(_) => "`vault.file.key`".to_owned(),
            Root::KeyFile(file) => format!("the key file {}", file.display()),
        };
        Fault::new(Kind::Denied, format!("{what} cannot be used: {cause}"))
    }
}

/// An empty file of mode 0600; one that came to be meanwhile is taken.
fn create(path: &Path) -> io::Result<()> {
    make_folder(path)?;
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
    let said = format!("the vault {} cannot be used: {cause}", path.display());
    Fault::new(Kind::Denied, said).because(cause)
}
