//! What every vault promises, as claims that are tried on it. The tests of each run it, and so does
//! `tests/peers/vault_teller.rs`, which includes this file.

use futures_util::future::join_all;

use pleiades_core::secret::Secret;
use pleiades_credential::vault::{Fault, Hint, Path, Vault, Wrote};

/// Segments that a store must tell apart, keep, and never take for a way to another path.
const ODD: [&str; 20] = [
    "",
    ".",
    "..",
    "/",
    "a/b",
    "../x",
    "%2e%2e",
    "%2F",
    "%",
    "+",
    " ",
    "a b",
    "UPPER",
    "upper",
    "é",
    "日本",
    "ann@example.com",
    "a:b?c#d",
    "\\",
    "\"\u{1}",
];

/// How many write at once.
const RACERS: usize = 8;

/// A claim that does not hold, in words.
type BrokenClaim = String;

/// Tries every claim in the folder `under`, which must be empty and is left so.
///
/// # Errors
/// The first claim that does not hold.
pub(crate) async fn check(vault: &dyn Vault, under: &Path) -> Result<(), String> {
    nothing_is_there(vault, &under.child("nothing")).await?;
    versions_decide(vault, &under.child("versions")).await?;
    hints_are_kept(vault, &under.child("hints")).await?;
    folders_list_their_children(vault, &under.child("folders")).await?;
    segments_are_any_text(vault, &under.child("segments")).await?;
    what_is_removed_is_gone(vault, &under.child("removed")).await?;
    of_many_one_writes(vault, &under.child("many")).await?;
    large_values_come_back(vault, &under.child("large")).await?;
    let left = no_fault(vault.list(under).await)?;
    claim(left.is_empty(), || format!("nothing is left behind: {left:?}"))
}

async fn nothing_is_there(vault: &dyn Vault, path: &Path) -> Result<(), BrokenClaim> {
    claim(
        no_fault(vault.read(path).await)?.is_none(),
        || "what was never written is not there",
    )?;
    claim(
        no_fault(vault.hint(path).await)?.is_none(),
        || "nothing has no hint",
    )?;
    claim(
        no_fault(vault.list(path).await)?.is_empty(),
        || "a folder that is not there lists nothing",
    )?;
    no_fault(vault.remove(path).await)?;
    let wrote = no_fault(vault.write(path, 3, &value("x"), None).await)?;
    claim(
        wrote == Wrote::Conflict,
        || "what expects an entry finds none and conflicts",
    )?;
    claim(
        no_fault(vault.read(path).await)?.is_none(),
        || "a conflict writes nothing",
    )
}

async fn versions_decide(vault: &dyn Vault, path: &Path) -> Result<(), BrokenClaim> {
    let first = write(vault, path, 0, "one").await?;
    claim(first > 0, || "versions begin at 1 or later")?;
    holds(vault, path, first, "one").await?;
    conflicts(vault, path, 0, "made twice").await?;
    holds(vault, path, first, "one").await?;
    let second = write(vault, path, first, "two").await?;
    claim(second > first, || "versions grow")?;
    conflicts(vault, path, first, "stale").await?;
    conflicts(vault, path, second + 1, "ahead").await?;
    holds(vault, path, second, "two").await?;
    no_fault(vault.remove(path).await)
}

async fn hints_are_kept(vault: &dyn Vault, path: &Path) -> Result<(), BrokenClaim> {
    let mut hint = Hint {
        seq: 7,
        state: "ok".to_owned(),
        expiry: Some(1_900_000_000),
    };
    let wrote = no_fault(vault.write(path, 0, &value("one"), Some(&hint)).await)?;
    let Wrote::Done(version) = wrote else {
        return Err("an entry with a hint is written".to_owned());
    };
    claim(
        no_fault(vault.hint(path).await)?.as_ref() == Some(&hint),
        || "a hint comes back",
    )?;
    (hint.seq, hint.expiry) = (8, None);
    no_fault(vault.write(path, version, &value("two"), Some(&hint)).await)?;
    claim(
        no_fault(vault.hint(path).await)? == Some(hint),
        || "a hint is replaced, its absent parts too",
    )?;
    no_fault(vault.remove(path).await)?;
    claim(
        no_fault(vault.hint(path).await)?.is_none(),
        || "a hint goes with its entry",
    )
}

async fn folders_list_their_children(vault: &dyn Vault, under: &Path) -> Result<(), BrokenClaim> {
    let deep = under.child("b").child("x").child("y");
    let paths = [
        under.child("b"),
        under.child("a"),
        deep.clone(),
        under.child("b").child("w"),
        under.child("ab").child("z"),
    ];
    for path in &paths {
        write(vault, path, 0, "x").await?;
    }
    lists(vault, under, &["a", "ab", "b"]).await?;
    lists(vault, &under.child("b"), &["w", "x"]).await?;
    lists(vault, &under.child("b").child("x"), &["y"]).await?;
    lists(vault, &under.child("a"), &[]).await?;
    no_fault(vault.remove(&deep).await)?;
    lists(vault, &under.child("b"), &["w"]).await?;
    for path in &paths {
        no_fault(vault.remove(path).await)?;
    }
    lists(vault, under, &[]).await
}

async fn segments_are_any_text(vault: &dyn Vault, under: &Path) -> Result<(), BrokenClaim> {
    let long = "x".repeat(200);
    let mut odd: Vec<&str> = ODD.into_iter().chain([&*long]).collect();
    odd.sort_unstable();
    for name in &odd {
        // Within a path and at its end; either may be taken for something else.
        write(vault, &under.child(name).child("in"), 0, name).await?;
        write(vault, &under.child("at").child(name), 0, name).await?;
    }
    for name in &odd {
        for path in [under.child(name).child("in"), under.child("at").child(name)] {
            let found = no_fault(vault.read(&path).await)?;
            claim(found.is_some_and(|found| found.value.expose() == *name), || {
                format!("{:?} has its own place", path.segments())
            })?;
        }
    }
    lists(vault, &under.child("at"), &odd).await?;
    for name in &odd {
        no_fault(vault.remove(&under.child(name).child("in")).await)?;
        no_fault(vault.remove(&under.child("at").child(name)).await)?;
    }
    lists(vault, under, &[]).await
}

async fn what_is_removed_is_gone(vault: &dyn Vault, under: &Path) -> Result<(), BrokenClaim> {
    let (gone, stays) = (under.child("gone"), under.child("stays"));
    let first = write(vault, &gone, 0, "one").await?;
    let version = write(vault, &gone, first, "two").await?;
    let other = write(vault, &stays, 0, "other").await?;
    no_fault(vault.remove(&gone).await)?;
    claim(
        no_fault(vault.read(&gone).await)?.is_none(),
        || "what was removed is not there",
    )?;
    conflicts(vault, &gone, version, "late").await?;
    lists(vault, under, &["stays"]).await?;
    holds(vault, &stays, other, "other").await?;
    write(vault, &gone, 0, "again").await?;
    no_fault(vault.remove(&gone).await)?;
    no_fault(vault.remove(&stays).await)
}

async fn of_many_one_writes(vault: &dyn Vault, path: &Path) -> Result<(), BrokenClaim> {
    let mut expected = 0;
    for round in 0..3 {
        let values: Vec<Secret> = (0..RACERS).map(|one| value(&format!("{round} {one}"))).collect();
        let wrote = join_all(
            values
                .iter()
                .map(|value| vault.write(path, expected, value, None)),
        )
        .await;
        let mut won = Vec::new();
        for (one, value) in wrote.into_iter().zip(&values) {
            if let Wrote::Done(version) = no_fault(one)? {
                won.push((version, value));
            }
        }
        let [(version, value)] = &*won else {
            return Err(format!("{} of {RACERS} wrote the same version", won.len()));
        };
        holds(vault, path, *version, value.expose()).await?;
        expected = *version;
    }
    no_fault(vault.remove(path).await)
}

async fn large_values_come_back(vault: &dyn Vault, path: &Path) -> Result<(), BrokenClaim> {
    let text = serde_json::Value::from("é\n\"日\u{1}".repeat(10_000)).to_string();
    let version = write(vault, path, 0, &text).await?;
    holds(vault, path, version, &text).await?;
    no_fault(vault.remove(path).await)
}

async fn write(vault: &dyn Vault, path: &Path, expected: u64, text: &str) -> Result<u64, BrokenClaim> {
    match no_fault(vault.write(path, expected, &value(text), None).await)? {
        Wrote::Done(version) => Ok(version),
        Wrote::Conflict => Err(format!(
            "{:?} is written over version {expected}",
            path.segments()
        )),
    }
}

async fn conflicts(vault: &dyn Vault, path: &Path, expected: u64, text: &str) -> Result<(), BrokenClaim> {
    let wrote = no_fault(vault.write(path, expected, &value(text), None).await)?;
    claim(wrote == Wrote::Conflict, || {
        format!("a write over version {expected} that is {text} conflicts")
    })
}

async fn holds(vault: &dyn Vault, path: &Path, version: u64, text: &str) -> Result<(), BrokenClaim> {
    let found = no_fault(vault.read(path).await)?;
    let as_written = found.is_some_and(|found| found.version == version && found.value.expose() == text);
    claim(as_written, || {
        format!("{:?} is version {version}, as written", path.segments())
    })
}

async fn lists(vault: &dyn Vault, folder: &Path, expected: &[&str]) -> Result<(), BrokenClaim> {
    let names = no_fault(vault.list(folder).await)?;
    claim(names == expected, || {
        format!("{:?} lists {expected:?}, and not {names:?}", folder.segments())
    })
}

/// As all values are: JSON in production, here whatever text.
fn value(text: &str) -> Secret {
    Secret::new(text)
}

fn no_fault<T>(outcome: Result<T, Fault>) -> Result<T, BrokenClaim> {
    outcome.map_err(|fault| format!("{}: {fault}", fault.kind.as_str()))
}

fn claim<W: Into<String>>(holds: bool, words: impl FnOnce() -> W) -> Result<(), BrokenClaim> {
    if holds {
        Ok(())
    } else {
        Err(format!("does not hold: {}", words().into()))
    }
}
