//! Entries and the names above them: one transaction for each operation.

use rusqlite::{OptionalExtension, Transaction, params, types::FromSql};
use zeroize::Zeroizing;

use super::cipher::{Cipher, Id, SealContext, SealedKind as Sealed};
use super::table::{Table, immediate, seal};
use super::trouble::{damaged, fault};
use crate::vault::{Fault, Hint, Kind, Stored, Wrote};
use pleiades_core::secret::Secret;

impl Table {
    pub(super) fn read(&self, segments: &[Box<str>]) -> Result<Option<Stored>, Fault> {
        let id = self.cipher.id(segments);
        let Some((version, value)) =
            self.row::<Vec<u8>>("SELECT version, value FROM entries WHERE id = ?1", &id)?
        else {
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
        let Some((version, Some(hint))) =
            self.row::<Option<Vec<u8>>>("SELECT version, hint FROM entries WHERE id = ?1", &id)?
        else {
            return Ok(None);
        };
        let hint = self.opened(Sealed::Hint, &id, number(version)?, &hint)?;
        serde_json::from_slice(&hint)
            .map(Some)
            .map_err(|_unsaid| damaged())
    }

    /// The version of an entry, and what a query selects beside it.
    fn row<T: FromSql>(&self, query: &str, id: &Id) -> Result<Option<(i64, T)>, Fault> {
        let mut entry = self.connection.prepare_cached(query).map_err(fault)?;
        let row = entry.query_row(params![id], |row| Ok((row.get(0)?, row.get(1)?)));
        row.optional().map_err(fault)
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
                let plain = serde_json::to_vec(hint).map_err(|cause| {
                    Fault::new(Kind::Refused, "the hint cannot be written").because(cause)
                })?;
                seal(cipher, Sealed::Hint, &id, version, &plain)
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
        let removed = transaction.execute("DELETE FROM entries WHERE id = ?1", params![id]);
        if removed.map_err(fault)? > 0 {
            unlink(&transaction, &self.cipher, segments)?;
        }
        transaction.commit().map_err(fault)
    }

    pub(super) fn opened(
        &self,
        kind: Sealed,
        id: &Id,
        version: u64,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let context = SealContext { kind, id, version };
        self.cipher.open(context, sealed).ok_or_else(damaged)
    }
}

fn version_of(transaction: &Transaction<'_>, id: &Id) -> Result<u64, Fault> {
    let query = "SELECT version FROM entries WHERE id = ?1";
    let version = transaction.query_row(query, params![id], |row| row.get(0));
    version.optional().map_err(fault)?.map_or(Ok(0), number)
}

/// One count for the whole file: a version never comes back, not even with an entry that was
/// removed and made again, so that nobody writes over what they have not seen.
fn next_version(transaction: &Transaction<'_>) -> Result<u64, Fault> {
    let query = "UPDATE about SET value = value + 1 WHERE name = 'version' RETURNING value";
    let version = transaction.query_row(query, [], |row| row.get(0));
    number(version.optional().map_err(fault)?.ok_or_else(damaged)?)
}

/// Enters a path in all folders above it.
fn link(transaction: &Transaction<'_>, cipher: &Cipher, segments: &[Box<str>]) -> Result<(), Fault> {
    let mut above = segments;
    while let Some((name, folder)) = above.split_last() {
        let (parent, child) = (cipher.id(folder), cipher.id(above));
        let name = seal(cipher, Sealed::Name, &child, 0, name.as_bytes())?;
        let query = "INSERT OR IGNORE INTO links VALUES (?1, ?2, ?3)";
        let made = transaction
            .execute(query, params![parent, child, name])
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
        let query = "DELETE FROM links WHERE parent = ?1 AND child = ?2";
        transaction
            .execute(query, params![cipher.id(folder), child])
            .map_err(fault)?;
        above = folder;
    }
    Ok(())
}

pub(super) fn number(version: i64) -> Result<u64, Fault> {
    u64::try_from(version).map_err(|_negative| damaged())
}

fn stored(version: u64) -> Result<i64, Fault> {
    i64::try_from(version).map_err(|_huge| damaged())
}

/// Moves the bytes, so that they are wiped where they end.
fn text(mut bytes: Zeroizing<Vec<u8>>) -> Result<String, Fault> {
    String::from_utf8(std::mem::take(&mut *bytes)).map_err(|_unsaid| damaged())
}
