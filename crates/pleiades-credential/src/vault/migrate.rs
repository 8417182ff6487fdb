//! Copies accounts and registered clients from one store to another, as often as one likes: nothing
//! newer is written over, and nothing is removed from the source.

use super::{Fault, Kind, Path, Stored, Vault, Wrote};
use crate::record::AccountRecord;

/// Levels of folders between `c` and an account: tenant, user, connection.
const ABOVE_ACCOUNTS: usize = 3;
/// Tries of one entry that others write at the same time.
const TRIES: usize = 3;

/// What became of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyOutcome {
    /// It was not there, and is now.
    Copied,
    /// An older one of the same grant was there.
    Updated,
    /// It was there as it is.
    Unchanged,
    /// What is there is as new or newer; it stays.
    Newer,
    /// What is there belongs to another connection of the account; it stays.
    Another,
    /// It could not be copied: a sentence.
    Failed(String),
}

/// One entry, as it is reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopiedEntry {
    /// Where it is, in both stores.
    pub path: Path,
    /// What became of it.
    pub outcome: CopyOutcome,
}

impl CopyOutcome {
    /// The stable name.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Copied => "copied",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
            Self::Newer => "newer",
            Self::Another => "another",
            Self::Failed(_) => "failed",
        }
    }
}

/// Copies all accounts and registered clients, and reports each.
///
/// # Errors
/// [`Fault`] when a store cannot be used at all; a fault of one entry is reported and the next is tried.
pub async fn run(
    from: &dyn Vault,
    to: &dyn Vault,
    mut report: impl FnMut(&CopiedEntry),
) -> Result<(), Fault> {
    let mut paths = below(from, Path::of(&["c"]), ABOVE_ACCOUNTS).await?;
    paths.extend(below(from, Path::gateway(&["clients"]), 0).await?);
    for path in paths {
        let outcome = match copy(from, to, &path).await {
            Ok(Some(outcome)) => outcome,
            // Removed since it was listed.
            Ok(None) => continue,
            Err(fault) if is_of_the_entry(fault.kind) => CopyOutcome::Failed(fault.message),
            Err(fault) => return Err(fault),
        };
        report(&CopiedEntry { path, outcome });
    }
    Ok(())
}

/// Whether the next entry may fare better.
const fn is_of_the_entry(kind: Kind) -> bool {
    matches!(kind, Kind::Corrupt | Kind::Refused)
}

/// Paths of the entries this many folders below.
async fn below(vault: &dyn Vault, folder: Path, levels: usize) -> Result<Vec<Path>, Fault> {
    let mut folders = vec![folder];
    for _ in 0..=levels {
        let mut children = Vec::new();
        for folder in &folders {
            let names = vault.list(folder).await?;
            children.extend(names.iter().map(|name| folder.child(name)));
        }
        folders = children;
    }
    Ok(folders)
}

async fn copy(from: &dyn Vault, to: &dyn Vault, path: &Path) -> Result<Option<CopyOutcome>, Fault> {
    let Some(source) = from.read(path).await? else {
        return Ok(None);
    };
    let hint = from.hint(path).await?;
    for _ in 0..TRIES {
        let there = to.read(path).await?;
        let outcome = judge(&source, there.as_ref());
        if !matches!(outcome, CopyOutcome::Copied | CopyOutcome::Updated) {
            return Ok(Some(outcome));
        }
        let expected = there.map_or(0, |there| there.version);
        if to.write(path, expected, &source.value, hint.as_ref()).await? == Wrote::Conflict {
            continue;
        }
        let back = to.read(path).await?;
        let is_same = back.is_some_and(|back| is_same(&source, &back));
        return Ok(Some(if is_same {
            outcome
        } else {
            CopyOutcome::Failed("it reads back otherwise than it was written".to_owned())
        }));
    }
    Ok(Some(CopyOutcome::Failed(
        "others write it at the same time: try again".to_owned(),
    )))
}

fn judge(source: &Stored, there: Option<&Stored>) -> CopyOutcome {
    let Some(there) = there else {
        return CopyOutcome::Copied;
    };
    if is_same(source, there) {
        return CopyOutcome::Unchanged;
    }
    let record = |stored: &Stored| serde_json::from_str::<AccountRecord>(stored.value.expose()).ok();
    match (record(source), record(there)) {
        (Some(source), Some(there)) if source.grant_id != there.grant_id => CopyOutcome::Another,
        (Some(source), Some(there)) if there.seq < source.seq => CopyOutcome::Updated,
        (Some(_), Some(_)) => CopyOutcome::Newer,
        // A client that is registered there already has accounts of its own.
        _ => CopyOutcome::Another,
    }
}

/// The same text, or the same JSON.
fn is_same(one: &Stored, other: &Stored) -> bool {
    let json = |stored: &Stored| serde_json::from_str::<serde_json::Value>(stored.value.expose()).ok();
    one.value == other.value || matches!((json(one), json(other)), (Some(one), Some(other)) if one == other)
}

#[cfg(test)]
mod tests;
