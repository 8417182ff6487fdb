//! The embedded store: one encrypted file of `SQLite`.
//!
//! Nothing is opened, made or needed before the first entry is written; a lock lasts as long as one
//! operation, so that commands work beside a running server.

mod cipher;
pub mod key;
mod location;
mod rekey;
mod rows;
mod table;
mod trouble;

use std::time::{Duration, Instant};
use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use tokio::{sync::Mutex, time::timeout};

use super::{Fault, Hint, Kind, Path, Stored, Vault, Wrote};
pub use key::RootKey;
use location::Location;
use pleiades_core::secret::Secret;
pub use rekey::{Rekeyed, rekey};
use table::Table;
use trouble::busy;

/// How long an operation waits for others, in this process and in others.
const BUSY_WITHIN: Duration = Duration::from_secs(5);

/// An encrypted file.
#[derive(Debug)]
pub struct File {
    location: Arc<Location>,
    /// Between operations it holds no lock of the file's.
    open: Arc<Mutex<Option<Table>>>,
}

/// Whether an operation makes the file when there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Absent {
    Make,
    Leave,
}

impl File {
    /// The store in a file; `None` is the place of one where there is no home folder, which refuses
    /// with a sentence. Touches nothing.
    #[must_use]
    pub fn new(path: Option<PathBuf>, root: RootKey) -> Self {
        Self {
            location: Arc::new(Location::new(path, root)),
            open: Arc::default(),
        }
    }

    /// Opens the file if there is one, and says whether its key is one that new vaults are not made
    /// with. Finishes what a killed `rekey` left. Blocks, for at most five seconds.
    ///
    /// # Errors
    /// [`Fault`] when there is a file and it does not open.
    pub fn examine(&self) -> Result<bool, Fault> {
        let table = match self.location.has_path() {
            true => self.location.open(false, Instant::now() + BUSY_WITHIN)?,
            false => None,
        };
        Ok(table.is_some() && self.location.root.is_short())
    }

    /// Whether an account could be kept: the file, or the folder that it would be made in, can be written.
    /// Makes nothing.
    ///
    /// # Errors
    /// [`Fault`] when it cannot.
    pub fn check_writable(&self) -> Result<(), Fault> {
        match self.location.has_path() {
            true => self.location.check_writable(),
            false => Ok(()),
        }
    }

    /// Takes the vault for this one alone, for as long as it lives.
    ///
    /// # Errors
    /// [`Fault`] of the kind [`Kind::Unreachable`] while anybody else uses it.
    pub fn claim(&self) -> Result<(), Fault> {
        match self.location.lock_exclusive() {
            Err(fault) if fault.kind == Kind::Unreachable => Err(fault),
            // Where the file system knows no locks nobody can be asked.
            _ => Ok(()),
        }
    }

    /// Runs one operation on a thread that may block, one at a time; `None` when there is no file
    /// and none is to be made.
    async fn run<T: Send + 'static>(
        &self,
        absent: Absent,
        work: impl FnOnce(&mut Table) -> Result<T, Fault> + Send + 'static,
    ) -> Result<Option<T>, Fault> {
        let until = Instant::now() + BUSY_WITHIN;
        let Ok(mut open) = timeout(BUSY_WITHIN, Arc::clone(&self.open).lock_owned()).await else {
            return Err(busy());
        };
        let location = Arc::clone(&self.location);
        // Once begun it runs to its end even when its caller went away: a record is whole.
        let done = tokio::task::spawn_blocking(move || {
            if !location.is_current(open.as_ref())? {
                *open = location.open(absent == Absent::Make, until)?;
            }
            let Some(table) = open.as_mut() else {
                return Ok(None);
            };
            let done = table.set_busy_timeout(until).and_then(|()| work(table));
            if done.is_err() {
                // Whatever state it is in, the next operation begins anew.
                *open = None;
            }
            done.map(Some)
        });
        done.await
            .map_err(|cause| Fault::new(Kind::Failed, "the vault's thread ended early").because(cause))?
    }
}

#[async_trait]
impl Vault for File {
    async fn read(&self, path: &Path) -> Result<Option<Stored>, Fault> {
        let path = path.clone();
        let found = self.run(Absent::Leave, move |table| table.read(path.segments()));
        Ok(found.await?.flatten())
    }

    async fn write(
        &self,
        path: &Path,
        expected: u64,
        value: &Secret,
        hint: Option<&Hint>,
    ) -> Result<Wrote, Fault> {
        // What expects an entry finds none where there is no file, which is then not made for it.
        let absent = if expected == 0 {
            Absent::Make
        } else {
            Absent::Leave
        };
        let (path, value, hint) = (path.clone(), value.clone(), hint.cloned());
        let wrote = self.run(absent, move |table| {
            table.write(path.segments(), expected, &value, hint.as_ref())
        });
        Ok(wrote.await?.unwrap_or(Wrote::Conflict))
    }

    async fn remove(&self, path: &Path) -> Result<(), Fault> {
        let path = path.clone();
        let removed = self.run(Absent::Leave, move |table| table.remove(path.segments()));
        removed.await.map(Option::unwrap_or_default)
    }

    async fn list(&self, folder: &Path) -> Result<Vec<String>, Fault> {
        let folder = folder.clone();
        let location = Arc::clone(&self.location);
        let names = self.run(Absent::Leave, move |table| {
            let names = table.list(folder.segments())?;
            if names.is_empty() {
                // Nobody is sent to connect an account that could not be kept.
                location.check_writable()?;
            }
            Ok(names)
        });
        names.await.map(Option::unwrap_or_default)
    }

    async fn hint(&self, path: &Path) -> Result<Option<Hint>, Fault> {
        let path = path.clone();
        let hint = self.run(Absent::Leave, move |table| table.hint(path.segments()));
        Ok(hint.await?.flatten())
    }
}

#[cfg(test)]
mod tests;
