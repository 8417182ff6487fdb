//! Puts everything in a vault under another key: in one transaction, so that whoever is killed leaves
//! a vault that opens with the old key or with the new one, and never a mixture.
//!
//! Where the key is a key file the order is: the next key is written beside it and is on the disk; the
//! transaction; the next key becomes the key file. A vault that its key file does not open is opened with
//! the next key, which then takes its place.

use std::{path::PathBuf, time::Instant};

use rusqlite::{OptionalExtension, Transaction, TransactionBehavior, params};

use super::cipher::{Cipher, Id, SealedKind as Sealed};
use super::key::{self, RootKey};
use super::location::{Location, cipher};
use super::table::{Table, check, seal};
use super::trouble::{damaged, fault};
use super::{BUSY_WITHIN, rows::number};
use crate::vault::{Fault, Kind};
use pleiades_core::secret::{KEY_CURE, SHORT_KEY, Secret};

/// The result of a rekey.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rekeyed {
    /// So many entries are under the new key now, and under no other.
    Done(u64),
    /// They were under it already.
    Already,
}

/// Both tables again, to be filled.
const TABLES: &str = "
    CREATE TABLE entries_next (id BLOB PRIMARY KEY, version INTEGER NOT NULL, value BLOB NOT NULL,
        hint BLOB) WITHOUT ROWID;
    CREATE TABLE links_next (parent BLOB NOT NULL, child BLOB NOT NULL, name BLOB NOT NULL,
        PRIMARY KEY (parent, child)) WITHOUT ROWID;
";
const SWITCH: &str = "
    DROP TABLE entries; ALTER TABLE entries_next RENAME TO entries;
    DROP TABLE links; ALTER TABLE links_next RENAME TO links;
";

/// Puts the vault at `path`, which `root` opens, under `new`; a key file becomes the new key. Refuses
/// while anybody else uses the vault: they would go on under the old key. Blocks.
///
/// # Errors
/// [`Fault`]; the vault is then as it was, or the next process that opens it finishes the change.
pub fn rekey(path: PathBuf, root: RootKey, new: &Secret) -> Result<Rekeyed, Fault> {
    if new.is_short_key() {
        let message = format!("the new key: {SHORT_KEY}: {KEY_CURE}");
        return Err(Fault::new(Kind::Refused, message));
    }
    if new.expose().trim() != new.expose() {
        let message =
            "the new key begins or ends with white space, which files of keys do not keep: remove it";
        return Err(Fault::new(Kind::Refused, message));
    }
    let location = Location::new(Some(path), root);
    if location.inode()?.is_none() {
        return Err(nothing());
    }
    let path = location.lock_exclusive()?;
    let until = Instant::now() + BUSY_WITHIN;
    let (with, next) = (cipher(new)?, cipher(new)?);
    let mut table = match location.open(false, until) {
        Ok(Some(table)) => table,
        Ok(None) => return Err(nothing()),
        Err(fault) if fault.kind == Kind::Unopened => {
            // Whoever did it may have been killed before they could say so.
            let inode = location.inode()?.ok_or_else(nothing)?;
            return match Table::open(path, inode, with, false, until) {
                Ok(Some(_)) => installed(&location.root, new).map(|()| Rekeyed::Already),
                _ => Err(fault),
            };
        }
        Err(fault) => return Err(fault),
    };
    if table.is_under(&with)? {
        return Ok(Rekeyed::Already);
    }
    if let RootKey::KeyFile(file) = &location.root {
        key::write_next(file, new).map_err(|cause| location.no_key(&cause))?;
    }
    let count = table.rekey(&next)?;
    if let RootKey::KeyFile(file) = &location.root {
        key::install(&key::next(file), file).map_err(|cause| location.no_key(&cause))?;
    }
    Ok(Rekeyed::Done(count))
}

/// Makes the key file the key that the vault is under.
fn installed(root: &RootKey, new: &Secret) -> Result<(), Fault> {
    let RootKey::KeyFile(file) = root else {
        return Ok(());
    };
    let done = key::write_next(file, new).and_then(|next| key::install(&next, file));
    done.map_err(|cause| {
        let message = format!("the key file {} cannot be written: {cause}", file.display());
        Fault::new(Kind::Denied, message).because(cause)
    })
}

fn nothing() -> Fault {
    Fault::new(
        Kind::Refused,
        "there is no vault yet, or nothing is in it: its first entry is written under the key of the settings",
    )
}

impl Table {
    /// Seals everything again, in one transaction; answers how many entries there are.
    fn rekey(&mut self, next: &Cipher) -> Result<u64, Fault> {
        let transaction =
            Transaction::new_unchecked(&self.connection, TransactionBehavior::Exclusive).map_err(fault)?;
        transaction.execute_batch(TABLES).map_err(fault)?;
        let mut folders: Vec<Vec<Box<str>>> = vec![Vec::new()];
        while let Some(mut path) = folders.pop() {
            let parent = next.id(&path);
            for name in self.list(&path)? {
                path.push(name.as_str().into());
                let child = next.id(&path);
                let sealed = seal(next, Sealed::Name, &child, 0, name.as_bytes())?;
                transaction
                    .prepare_cached("INSERT INTO links_next VALUES (?1, ?2, ?3)")
                    .and_then(|mut insert| insert.execute(params![parent, child, sealed]))
                    .map_err(fault)?;
                self.reseal(&transaction, (&self.cipher.id(&path), next, &child))?;
                folders.push(path.clone());
                path.pop();
            }
        }
        let count = |table: &str| {
            let query = format!("SELECT count(*) FROM {table}");
            transaction
                .query_row(&query, [], |row| row.get::<_, i64>(0))
                .map_err(fault)
        };
        let entries = count("entries_next")?;
        if entries != count("entries")? || count("links_next")? != count("links")? {
            return Err(damaged());
        }
        transaction.execute_batch(SWITCH).map_err(fault)?;
        transaction
            .execute(
                "UPDATE about SET value = ?1 WHERE name = 'check'",
                params![check(next)?],
            )
            .map_err(fault)?;
        transaction.commit().map_err(fault)?;
        number(entries)
    }

    fn reseal(
        &self,
        transaction: &Transaction<'_>,
        (old, next, new): (&Id, &Cipher, &Id),
    ) -> Result<(), Fault> {
        type EntryRow = (i64, Vec<u8>, Option<Vec<u8>>);
        let found: Option<EntryRow> = transaction
            .prepare_cached("SELECT version, value, hint FROM entries WHERE id = ?1")
            .and_then(|mut found| {
                found
                    .query_row(params![old], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                    .optional()
            })
            .map_err(fault)?;
        let Some((stored, value, hint)) = found else {
            return Ok(());
        };
        let version = number(stored)?;
        let again = |kind: Sealed, sealed: &[u8]| {
            let plain = self.opened(kind, old, version, sealed)?;
            seal(next, kind, new, version, &plain)
        };
        let value = again(Sealed::Value, &value)?;
        let hint = hint.map(|hint| again(Sealed::Hint, &hint)).transpose()?;
        transaction
            .prepare_cached("INSERT INTO entries_next VALUES (?1, ?2, ?3, ?4)")
            .and_then(|mut insert| insert.execute(params![new, stored, value, hint]))
            .map_err(fault)?;
        Ok(())
    }
}
