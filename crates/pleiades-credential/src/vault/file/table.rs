//! The tables of a vault's file: opened, made, recognised.
//!
//! `entries` holds values under the ids of their paths; `links` holds, for each folder, the sealed
//! names of its children. Neither says a name to a reader without the key.

use std::{fs::Metadata, os::unix::fs::MetadataExt, path::Path, time::Instant};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params};

use super::cipher::{Cipher, Id, SealContext, SealedKind as Sealed};
use super::trouble::fault;
use crate::vault::{Fault, Kind};

/// "PLEI": what kind of file it is, for `file` and for us.
const APPLICATION: i64 = 0x504c_4549;
const FORMAT: i64 = 1;
const CHECK: &[u8] = b"pleiades vault";
const NOWHERE: Id = [0; 32];
const AS_CHECK: SealContext<'_> = SealContext {
    kind: Sealed::Check,
    id: &NOWHERE,
    version: 0,
};

const TABLES: &str = "
    CREATE TABLE about (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
    CREATE TABLE entries (id BLOB PRIMARY KEY, version INTEGER NOT NULL, value BLOB NOT NULL, hint BLOB)
        WITHOUT ROWID;
    CREATE TABLE links (parent BLOB NOT NULL, child BLOB NOT NULL, name BLOB NOT NULL,
        PRIMARY KEY (parent, child)) WITHOUT ROWID;
    INSERT INTO about VALUES ('version', 0);
";

/// Which file of the machine it is: another one may come to stand at the same path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Inode(u64, u64);

impl From<Metadata> for Inode {
    fn from(found: Metadata) -> Self {
        Self(found.dev(), found.ino())
    }
}

#[derive(Debug)]
pub(super) struct Table {
    pub(super) connection: Connection,
    pub(super) cipher: Cipher,
    inode: Inode,
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
        table.set_busy_timeout(until)?;
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
    pub(super) fn set_busy_timeout(&self, until: Instant) -> Result<(), Fault> {
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
            (APPLICATION, newer) => {
                let message = format!(
                    "the vault file has format {newer}, which only a newer release reads: update this one"
                );
                let cure = "run the newer release: this gateway is older than its vault";
                Err(Fault::new(Kind::Unopened, message).cured(cure))
            }
            _ => {
                let message =
                    "the vault file is a database of something else: name another as `vault.file.path`";
                let cure = "name another file as `vault.file.path`";
                Err(Fault::new(Kind::Unopened, message).cured(cure))
            }
        }
    }

    fn make(&mut self) -> Result<(), Fault> {
        let check = check(&self.cipher)?;
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
        if self.is_under(&self.cipher)? {
            return Ok(());
        }
        Err(Fault::new(
            Kind::Unopened,
            format!(
                "the vault {} cannot be opened: it was made with another key: give the key it was made with, \
                 the new one after `pleiades vault rekey`, or move the file away to begin with an empty one",
                path.display()
            ),
        )
        .cured(
            "give the key that the vault is under, as `vault.file.key` or in its key file; the new one after \
             `pleiades vault rekey`",
        ))
    }

    pub(super) fn is_under(&self, cipher: &Cipher) -> Result<bool, Fault> {
        let query = "SELECT value FROM about WHERE name = 'check'";
        let check = self.connection.query_row(query, [], |row| row.get(0));
        let check: Option<Vec<u8>> = check.optional().map_err(fault)?;
        let opened = check.and_then(|check| cipher.open(AS_CHECK, &check));
        Ok(opened.is_some_and(|text| **text == *CHECK))
    }
}

/// The text by which a file knows its key.
pub(super) fn check(cipher: &Cipher) -> Result<Vec<u8>, Fault> {
    seal(cipher, Sealed::Check, &NOWHERE, 0, CHECK)
}

/// The right to write, had before anything is read: what was read holds until the commit.
pub(super) fn immediate(connection: &mut Connection) -> Result<Transaction<'_>, Fault> {
    connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(fault)
}

pub(super) fn seal(
    cipher: &Cipher,
    kind: Sealed,
    id: &Id,
    version: u64,
    plain: &[u8],
) -> Result<Vec<u8>, Fault> {
    cipher
        .seal(SealContext { kind, id, version }, plain)
        .ok_or_else(|| Fault::new(Kind::Failed, "no randomness to be had"))
}
