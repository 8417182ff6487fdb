//! The tables of a vault's file, and one transaction for each operation.
//!
//! `entries` holds values under the ids of their paths; `links` holds, for each folder, the sealed
//! names of its children. Neither says a name to a reader without the key.

use std::path::Path;
use std::time::Instant;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::busy;
use super::cipher::{Cipher, Id, Kind as Sealed, Place};
use super::place::Inode;
use crate::credential::vault::{Fault, Hint, Kind, Stored, Wrote};
use crate::secret::Secret;

/// "PLEI": what kind of file it is, for `file` and for us.
const APPLICATION: i64 = 0x504c_4549;
/// Version of the tables.
const FORMAT: i64 = 1;
const CHECK: &[u8] = b"pleiades vault";
const NOWHERE: Id = [0; 32];

const TABLES: &str = "
    CREATE TABLE about (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
    CREATE TABLE entries (id BLOB PRIMARY KEY, version INTEGER NOT NULL, value BLOB NOT NULL, hint BLOB)
        WITHOUT ROWID;
    CREATE TABLE links (parent BLOB NOT NULL, child BLOB NOT NULL, name BLOB NOT NULL,
        PRIMARY KEY (parent, child)) WITHOUT ROWID;
    INSERT INTO about VALUES ('version', 0);
";

/// An open file.
#[derive(Debug)]
pub(super) struct Table {
    connection: Connection,
    cipher: Cipher,
    inode: Inode,
}

/// A hint as it is sealed.
#[derive(Serialize, Deserialize)]
struct Known {
    seq: u64,
    state: String,
    expiry: Option<u64>,
}

impl Table {
    /// Opens a file; an empty one gets its tables when it is to be made, else it is `None`.
    pub(super) fn open(
        path: &Path,
        inode: Inode,
        cipher: Cipher,
        make: bool,
        until: Instant,
    ) -> Result<Option<Self>, Fault> {
        // No threads of its own to be safe from, no URIs, and never a file that was not made by us.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(fault)?;
        let mut table = Self {
            connection,
            cipher,
            inode,
        };
        table.patient(until)?;
        table.prepare().map_err(fault)?;
        if table.format()? == 0 {
            if !make {
                return Ok(None);
            }
            table.make()?;
        }
        table.recognise(path)?;
        Ok(Some(table))
    }

    pub(super) const fn inode(&self) -> Inode {
        self.inode
    }

    /// Waits for others no longer than until then.
    pub(super) fn patient(&self, until: Instant) -> Result<(), Fault> {
        let left = until.saturating_duration_since(Instant::now());
        self.connection.busy_timeout(left).map_err(fault)
    }

    /// What holds for a connection, not for the file. A rollback journal is gone with its
    /// transaction; the folder is synced too, because a redeemed token exists nowhere else.
    fn prepare(&self) -> rusqlite::Result<()> {
        self.connection.execute_batch(
            "PRAGMA journal_mode = DELETE; PRAGMA synchronous = EXTRA; PRAGMA secure_delete = ON;
             PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;",
        )
    }

    /// Version of the tables; 0 while there are none.
    fn format(&self) -> Result<i64, Fault> {
        let number = |pragma: &str| self.connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
        let format = number("PRAGMA user_version").map_err(fault)?;
        let application = number("PRAGMA application_id").map_err(fault)?;
        let tables = number("SELECT count(*) FROM sqlite_schema").map_err(fault)?;
        match (application, format) {
            (APPLICATION, FORMAT) => Ok(FORMAT),
            (0, 0) if tables == 0 => Ok(0),
            (APPLICATION, newer) => Err(Fault::new(
                Kind::Refused,
                format!(
                    "the vault file has format {newer}, which only a newer release reads: update this one"
                ),
            )),
            _ => Err(Fault::new(
                Kind::Refused,
                "the vault file is a database of something else: name another as `vault.file.path`",
            )),
        }
    }

    fn make(&mut self) -> Result<(), Fault> {
        let check = seal(&self.cipher, Sealed::Check, &NOWHERE, 0, CHECK)?;
        let transaction = immediate(&mut self.connection)?;
        let tables: i64 = transaction
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .map_err(fault)?;
        // Whoever else was about to make them was first.
        if tables > 0 {
            return Ok(());
        }
        transaction.execute_batch(TABLES).map_err(fault)?;
        transaction
            .execute("INSERT INTO about VALUES ('check', ?1)", params![check])
            .map_err(fault)?;
        transaction
            .pragma_update(None, "application_id", APPLICATION)
            .map_err(fault)?;
        transaction
            .pragma_update(None, "user_version", FORMAT)
            .map_err(fault)?;
        transaction.commit().map_err(fault)
    }

    /// Whether our key is the one it was made with.
    fn recognise(&self, path: &Path) -> Result<(), Fault> {
        let check: Option<Vec<u8>> = self
            .connection
            .query_row("SELECT value FROM about WHERE name = 'check'", [], |row| {
                row.get(0)
            })
            .optional()
            .map_err(fault)?;
        let opened = check.and_then(|check| {
            let place = Place {
                kind: Sealed::Check,
                id: &NOWHERE,
                version: 0,
            };
            self.cipher.open(place, &check)
        });
        if opened.is_some_and(|text| **text == *CHECK) {
            return Ok(());
        }
        Err(Fault::new(
            Kind::Corrupt,
            format!(
                "the vault {} was made with another key: give the key it was made with, \
                 or move the file away to begin with an empty one",
                path.display()
            ),
        ))
    }

    pub(super) fn read(&self, segments: &[Box<str>]) -> Result<Option<Stored>, Fault> {
        let id = self.cipher.id(segments);
        let row = self
            .connection
            .prepare_cached("SELECT version, value FROM entries WHERE id = ?1")
            .and_then(|mut found| {
                found
                    .query_row(params![id], |row| Ok((row.get(0)?, row.get(1)?)))
                    .optional()
            });
        let Some((version, value)): Option<(i64, Vec<u8>)> = row.map_err(fault)? else {
            return Ok(None);
        };
        let version = number(version)?;
        let value = self.opened(Sealed::Value, &id, version, &value)?;
        Ok(Some(Stored {
            version,
            value: Secret::new(text(value)?),
        }))
    }

    pub(super) fn hint(&self, segments: &[Box<str>]) -> Result<Option<Hint>, Fault> {
        let id = self.cipher.id(segments);
        let row = self
            .connection
            .prepare_cached("SELECT version, hint FROM entries WHERE id = ?1")
            .and_then(|mut found| {
                found
                    .query_row(params![id], |row| Ok((row.get(0)?, row.get(1)?)))
                    .optional()
            });
        let Some((version, Some(hint))): Option<(i64, Option<Vec<u8>>)> = row.map_err(fault)? else {
            return Ok(None);
        };
        let known = self.opened(Sealed::Hint, &id, number(version)?, &hint)?;
        let known: Known = serde_json::from_slice(&known).map_err(|_unsaid| damaged())?;
        Ok(Some(Hint {
            seq: known.seq,
            state: known.state,
            expiry: known.expiry,
        }))
    }

    pub(super) fn list(&self, folder: &[Box<str>]) -> Result<Vec<String>, Fault> {
        let parent = self.cipher.id(folder);
        let mut found = self
            .connection
            .prepare_cached("SELECT child, name FROM links WHERE parent = ?1")
            .map_err(fault)?;
        let rows = found
            .query_map(params![parent], |row| {
                Ok((row.get::<_, Id>(0)?, row.get::<_, Vec<u8>>(1)?))
            })
            .map_err(fault)?;
        let mut path = folder.to_vec();
        let mut names = Vec::new();
        for row in rows {
            let (child, name) = row.map_err(fault)?;
            let name = text(self.opened(Sealed::Name, &child, 0, &name)?)?;
            path.push(name.as_str().into());
            // A name that was moved to another folder is no child of that one.
            if self.cipher.id(&path) != child {
                return Err(damaged());
            }
            path.pop();
            names.push(name);
        }
        names.sort_unstable();
        Ok(names)
    }

    pub(super) fn write(
        &mut self,
        segments: &[Box<str>],
        expected: u64,
        value: &Secret,
        hint: Option<&Hint>,
    ) -> Result<Wrote, Fault> {
        let id = self.cipher.id(segments);
        let transaction = immediate(&mut self.connection)?;
        if version_of(&transaction, &id)? != expected {
            return Ok(Wrote::Conflict);
        }
        let version = next_version(&transaction)?;
        let cipher = &self.cipher;
        let value = seal(cipher, Sealed::Value, &id, version, value.expose().as_bytes())?;
        let hint = hint
            .map(|hint| {
                let known = serde_json::to_vec(&Known {
                    seq: hint.seq,
                    state: hint.state.clone(),
                    expiry: hint.expiry,
                });
                let known = known.map_err(|cause| {
                    Fault::new(Kind::Refused, "the hint cannot be written").because(cause)
                })?;
                seal(cipher, Sealed::Hint, &id, version, &known)
            })
            .transpose()?;
        transaction
            .execute(
                "INSERT OR REPLACE INTO entries VALUES (?1, ?2, ?3, ?4)",
                params![id, stored(version)?, value, hint],
            )
            .map_err(fault)?;
        if expected == 0 {
            link(&transaction, cipher, segments)?;
        }
        transaction.commit().map_err(fault)?;
        Ok(Wrote::Done(version))
    }

    pub(super) fn remove(&mut self, segments: &[Box<str>]) -> Result<(), Fault> {
        let id = self.cipher.id(segments);
        let transaction = immediate(&mut self.connection)?;
        let removed = transaction
            .execute("DELETE FROM entries WHERE id = ?1", params![id])
            .map_err(fault)?;
        if removed > 0 {
            unlink(&transaction, &self.cipher, segments)?;
        }
        transaction.commit().map_err(fault)
    }

    fn opened(
        &self,
        kind: Sealed,
        id: &Id,
        version: u64,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let place = Place { kind, id, version };
        self.cipher.open(place, sealed).ok_or_else(damaged)
    }
}

/// The right to write, had before anything is read: what was read holds until the commit.
fn immediate(connection: &mut Connection) -> Result<Transaction<'_>, Fault> {
    connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(fault)
}

fn seal(cipher: &Cipher, kind: Sealed, id: &Id, version: u64, plain: &[u8]) -> Result<Vec<u8>, Fault> {
    cipher
        .seal(Place { kind, id, version }, plain)
        .ok_or_else(|| Fault::new(Kind::Failed, "no randomness to be had"))
}

fn version_of(transaction: &Transaction<'_>, id: &Id) -> Result<u64, Fault> {
    let version: Option<i64> = transaction
        .query_row("SELECT version FROM entries WHERE id = ?1", params![id], |row| {
            row.get(0)
        })
        .optional()
        .map_err(fault)?;
    version.map_or(Ok(0), number)
}

/// One count for the whole file: a version never comes back, not even with an entry that was
/// removed and made again, so that nobody writes over what they have not seen.
fn next_version(transaction: &Transaction<'_>) -> Result<u64, Fault> {
    let version: Option<i64> = transaction
        .query_row(
            "UPDATE about SET value = value + 1 WHERE name = 'version' RETURNING value",
            [],
            |row| row.get(0),
        )
        .optional()
        .map_err(fault)?;
    number(version.ok_or_else(damaged)?)
}

/// Enters a path in all folders above it.
fn link(transaction: &Transaction<'_>, cipher: &Cipher, segments: &[Box<str>]) -> Result<(), Fault> {
    let mut above = segments;
    while let Some((name, folder)) = above.split_last() {
        let (parent, child) = (cipher.id(folder), cipher.id(above));
        let name = seal(cipher, Sealed::Name, &child, 0, name.as_bytes())?;
        let made = transaction
            .execute(
                "INSERT OR IGNORE INTO links VALUES (?1, ?2, ?3)",
                params![parent, child, name],
            )
            .map_err(fault)?;
        // What is above one that was there is there too.
        if made == 0 {
            break;
        }
        above = folder;
    }
    Ok(())
}

/// Takes a path out of its folder, and folders that are empty then out of theirs.
fn unlink(transaction: &Transaction<'_>, cipher: &Cipher, segments: &[Box<str>]) -> Result<(), Fault> {
    let mut above = segments;
    while let Some((_, folder)) = above.split_last() {
        let child = cipher.id(above);
        let is_used: bool = transaction
            .query_row(
                "SELECT EXISTS (SELECT 1 FROM entries WHERE id = ?1)
                     OR EXISTS (SELECT 1 FROM links WHERE parent = ?1)",
                params![child],
                |row| row.get(0),
            )
            .map_err(fault)?;
        if is_used {
            break;
        }
        transaction
            .execute(
                "DELETE FROM links WHERE parent = ?1 AND child = ?2",
                params![cipher.id(folder), child],
            )
            .map_err(fault)?;
        above = folder;
    }
    Ok(())
}

fn number(version: i64) -> Result<u64, Fault> {
    u64::try_from(version).map_err(|_negative| damaged())
}

fn stored(version: u64) -> Result<i64, Fault> {
    i64::try_from(version).map_err(|_huge| damaged())
}

/// Moves the bytes, so that they are wiped where they end.
fn text(mut bytes: Zeroizing<Vec<u8>>) -> Result<String, Fault> {
    String::from_utf8(std::mem::take(&mut *bytes)).map_err(|_unsaid| damaged())
}

fn damaged() -> Fault {
    Fault::new(
        Kind::Corrupt,
        "an entry of the vault file was changed or moved by others and does not open: restore a backup",
    )
}

/// What SQLite says, as a store says it; its text names no value and no path of an entry.
fn fault(cause: rusqlite::Error) -> Fault {
    use rusqlite::ErrorCode as Code;
    let (kind, said) = match cause.sqlite_error_code() {
        Some(Code::DatabaseBusy | Code::DatabaseLocked) => return busy().because(cause),
        Some(Code::DatabaseCorrupt | Code::NotADatabase) => (
            Kind::Corrupt,
            "the vault file is damaged or no vault: restore a backup",
        ),
        Some(
            Code::ReadOnly
            | Code::PermissionDenied
            | Code::CannotOpen
            | Code::AuthorizationForStatementDenied,
        ) => (
            Kind::Denied,
            "the vault file or its folder cannot be written: let the gateway's user write both",
        ),
        Some(Code::DiskFull) => (Kind::Failed, "the disk of the vault file is full: make room"),
        Some(Code::SystemIoFailure) => (Kind::Failed, "the disk of the vault file fails"),
        // A column that is not of its type was not written by us.
        None => return damaged().because(cause),
        Some(_) => (Kind::Failed, "the vault file cannot be used"),
    };
    Fault::new(kind, said).because(cause)
}
