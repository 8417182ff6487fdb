use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path as FilePath;

use futures_util::future::join_all;
use rusqlite::Connection;

use super::*;
use crate::vault::tests::contract;

const KEY: &str = "a key of more than thirty-two characters";

fn given(path: &FilePath) -> File {
    File::new(Some(path.to_owned()), RootKey::Given(Secret::new(KEY)))
}

fn beside(path: &FilePath) -> File {
    File::new(Some(path.to_owned()), RootKey::beside(path))
}

fn account(name: &str) -> Path {
    Path::of(&["c", "acme", "ann@example.com", "github", name])
}

async fn put(vault: &File, path: &Path, text: &str) {
    let expected = vault.read(path).await.unwrap().map_or(0, |found| found.version);
    let wrote = vault
        .write(path, expected, &Secret::new(text), None)
        .await
        .unwrap();
    assert!(matches!(wrote, Wrote::Done(_)));
}

async fn text(vault: &File, path: &Path) -> Option<String> {
    let found = vault.read(path).await.unwrap();
    found.map(|found| found.value.expose().to_owned())
}

fn mode(path: &FilePath) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn fault<T: std::fmt::Debug>(outcome: Result<T, Fault>) -> (Kind, String) {
    let fault = outcome.unwrap_err();
    (fault.kind, fault.message)
}

#[tokio::test]
async fn a_file_keeps_the_contract_of_vaults() {
    let folder = tempfile::tempdir().unwrap();
    let vault = beside(&folder.path().join("vault"));
    contract::check(&vault, &Path::of(&["c", "meaning"]))
        .await
        .unwrap();
    let left: i64 = Connection::open(folder.path().join("vault"))
        .unwrap()
        .query_row(
            "SELECT (SELECT count(*) FROM entries) + (SELECT count(*) FROM links)",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(left, 0, "nothing is left in the tables");
}

#[tokio::test]
async fn nothing_is_made_before_something_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data/vault");
    let vault = beside(&path);
    assert_eq!(vault.read(&account("one")).await.unwrap(), None);
    assert!(vault.list(&Path::of(&["c"])).await.unwrap().is_empty());
    vault.remove(&account("one")).await.unwrap();
    assert!(!folder.path().join("data").exists());
    put(&vault, &account("one"), "{}").await;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(&folder.path().join("data/vault.key")), 0o600);
    assert_eq!(mode(&folder.path().join("data")), 0o700);
    let names = fs::read_dir(folder.path().join("data")).unwrap().count();
    assert_eq!(names, 2, "the vault and its key, and no file beside them");
}

#[tokio::test]
async fn what_was_kept_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    put(&beside(&path), &account("one"), "first").await;
    put(&beside(&path), &account("one"), "second").await;
    assert_eq!(
        text(&beside(&path), &account("one")).await.as_deref(),
        Some("second")
    );
}

#[tokio::test]
async fn the_file_alone_names_nobody_and_shows_nothing_that_was_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    let vault = given(&path);
    let hint = Hint {
        seq: 1,
        state: "needs_reauth".to_owned(),
        expiry: None,
    };
    let value = Secret::new("{\"access\":\"s3cret-token\"}");
    vault
        .write(&account("work"), 0, &value, Some(&hint))
        .await
        .unwrap();
    let before = fs::read(&path).unwrap();
    let shows = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|some| some == text.as_bytes());
    for name in [
        "acme",
        "ann@example.com",
        "github",
        "work",
        "s3cret-token",
        "needs_reauth",
    ] {
        assert!(!shows(&before, name), "{name}");
    }
    let sealed: Vec<u8> = Connection::open(&path)
        .unwrap()
        .query_row("SELECT value FROM entries", [], |row| row.get(0))
        .unwrap();
    vault.remove(&account("work")).await.unwrap();
    let after = fs::read(&path).unwrap();
    assert!(!after.windows(sealed.len()).any(|some| some == sealed));
}

#[tokio::test]
async fn another_key_opens_nothing_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    put(&given(&path), &account("one"), "kept").await;
    let before = fs::read(&path).unwrap();
    let other = File::new(
        Some(path.clone()),
        RootKey::Given(Secret::new("another key of as many characters")),
    );
    let answer = fault(other.read(&account("one")).await);
    assert!(
        answer.0 == Kind::Unopened && answer.1.contains("made with another key"),
        "{answer:?}"
    );
    let answer = fault(other.write(&account("two"), 0, &Secret::new("x"), None).await);
    assert_eq!(answer.0, Kind::Unopened);
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_lost_key_is_reported_and_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    put(&beside(&path), &account("one"), "kept").await;
    fs::remove_file(folder.path().join("vault.key")).unwrap();
    for answer in [
        fault(beside(&path).read(&account("one")).await),
        fault(
            beside(&path)
                .write(&account("two"), 0, &Secret::new("x"), None)
                .await,
        ),
    ] {
        assert!(
            answer.0 == Kind::Unopened && answer.1.contains("vault.key"),
            "{answer:?}"
        );
    }
    assert!(!folder.path().join("vault.key").exists());
}

#[tokio::test]
async fn what_others_may_read_is_refused_with_its_cure() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    put(&beside(&path), &account("one"), "kept").await;
    for file in ["vault", "vault.key"] {
        let file = folder.path().join(file);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let answer = fault(beside(&path).read(&account("one")).await);
        assert!(
            answer.0 == Kind::Unopened && answer.1.contains("0600"),
            "{answer:?}"
        );
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }
    assert_eq!(
        text(&beside(&path), &account("one")).await.as_deref(),
        Some("kept")
    );
}

#[tokio::test]
async fn a_place_that_cannot_be_used_is_a_fault_of_each_request_alone() {
    let folder = tempfile::tempdir().unwrap();
    let blocked = folder.path().join("blocked");
    fs::write(&blocked, "").unwrap();
    for vault in [
        given(&blocked.join("vault")),
        given(folder.path()),
        File::new(None, RootKey::Given(Secret::new(KEY))),
    ] {
        let answer = fault(vault.write(&account("one"), 0, &Secret::new("x"), None).await);
        assert!(matches!(answer.0, Kind::Unopened | Kind::Refused), "{answer:?}");
    }
}

#[tokio::test]
async fn a_link_to_nowhere_is_not_followed_when_the_file_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let (path, target) = (folder.path().join("vault"), folder.path().join("elsewhere"));
    std::os::unix::fs::symlink(&target, &path).unwrap();
    let answer = given(&path)
        .write(&account("one"), 0, &Secret::new("x"), None)
        .await;
    assert_eq!(fault(answer).0, Kind::Unopened);
    assert!(!target.exists());
}

#[tokio::test]
async fn files_of_something_else_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (text, database) = (folder.path().join("text"), folder.path().join("database"));
    fs::write(&text, "a".repeat(5_000)).unwrap();
    Connection::open(&database)
        .unwrap()
        .execute_batch("CREATE TABLE notes (text); INSERT INTO notes VALUES ('mine')")
        .unwrap();
    for (path, kind) in [(text, Kind::Unopened), (database, Kind::Unopened)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let before = fs::read(&path).unwrap();
        let answer = fault(
            given(&path)
                .write(&account("one"), 0, &Secret::new("x"), None)
                .await,
        );
        assert_eq!(answer.0, kind, "{answer:?}");
        assert_eq!(fs::read(&path).unwrap(), before);
    }
}

#[tokio::test]
async fn changed_moved_and_exchanged_entries_do_not_open() {
    for change in [
        "UPDATE entries SET value = substr(value, 1, 20) || x'00' || substr(value, 22)",
        "UPDATE entries SET value = x''",
        "UPDATE entries SET version = version + 1",
        "UPDATE entries SET value = (SELECT value FROM entries AS other WHERE other.id <> entries.id)",
        "UPDATE entries SET value = hint",
        "UPDATE entries SET (version, value) =
            (SELECT version, value FROM entries AS other WHERE other.id <> entries.id)",
        "UPDATE entries SET value = 'text'",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vault");
        let vault = given(&path);
        let hint = Hint::default();
        for name in ["one", "two"] {
            let value = Secret::new(format!("the value of {name}"));
            vault.write(&account(name), 0, &value, Some(&hint)).await.unwrap();
        }
        Connection::open(&path).unwrap().execute_batch(change).unwrap();
        let answer = fault(vault.read(&account("one")).await);
        assert_eq!(answer.0, Kind::Corrupt, "{change}");
    }
}

#[tokio::test]
async fn names_that_were_moved_to_another_folder_are_no_children_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    let vault = given(&path);
    put(&vault, &Path::of(&["c", "acme", "x"]), "1").await;
    put(&vault, &Path::of(&["c", "other", "y"]), "2").await;
    let change = "UPDATE links SET parent = (SELECT parent FROM links AS two WHERE two.child =
        (SELECT max(id) FROM entries)) WHERE child = (SELECT min(id) FROM entries)";
    Connection::open(&path).unwrap().execute_batch(change).unwrap();
    let (acme, other) = (
        vault.list(&Path::of(&["c", "acme"])).await,
        vault.list(&Path::of(&["c", "other"])).await,
    );
    assert!(acme.is_err() || other.is_err());
    assert!(acme.is_ok_and(|names| names.is_empty()) || other.is_ok_and(|names| names.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_handles_on_one_file_one_writes_each_version() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    let handles = [beside(&path), beside(&path)];
    let mut expected = 0;
    for round in 0..20 {
        let value = Secret::new(format!("{round}"));
        let key = account("one");
        let wrote = join_all(
            handles
                .iter()
                .chain(&handles)
                .map(|vault| vault.write(&key, expected, &value, None)),
        )
        .await;
        let won: Vec<u64> = wrote
            .into_iter()
            .filter_map(|one| match one.unwrap() {
                Wrote::Done(version) => Some(version),
                Wrote::Conflict => None,
            })
            .collect();
        let [version] = *won else {
            panic!("{} wrote round {round}", won.len())
        };
        expected = version;
    }
}

#[tokio::test]
async fn an_entry_made_again_has_a_version_that_nobody_has_seen() {
    let folder = tempfile::tempdir().unwrap();
    let vault = given(&folder.path().join("vault"));
    put(&vault, &account("one"), "old grant").await;
    let seen = vault.read(&account("one")).await.unwrap().unwrap().version;
    vault.remove(&account("one")).await.unwrap();
    put(&vault, &account("one"), "new grant").await;
    let late = vault
        .write(&account("one"), seen, &Secret::new("late"), None)
        .await;
    assert_eq!(late.unwrap(), Wrote::Conflict);
    assert_eq!(text(&vault, &account("one")).await.as_deref(), Some("new grant"));
}

#[tokio::test]
async fn a_transaction_that_was_cut_off_leaves_the_old_entry() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    let vault = given(&path);
    put(&vault, &account("one"), "old").await;
    let other = Connection::open(&path).unwrap();
    other
        .execute_batch("BEGIN IMMEDIATE; UPDATE entries SET value = x'00'; DELETE FROM links;")
        .unwrap();
    drop(other);
    assert_eq!(text(&vault, &account("one")).await.as_deref(), Some("old"));
    put(&vault, &account("one"), "new").await;
    assert_eq!(text(&vault, &account("one")).await.as_deref(), Some("new"));
}

#[tokio::test]
async fn between_operations_nothing_is_locked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    let vault = given(&path);
    put(&vault, &account("one"), "kept").await;
    let other = Connection::open(&path).unwrap();
    other.busy_timeout(Duration::ZERO).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE; COMMIT").unwrap();
    assert_eq!(text(&vault, &account("one")).await.as_deref(), Some("kept"));
}

#[tokio::test]
async fn a_file_that_was_put_in_its_place_is_the_one_that_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let (path, backup) = (folder.path().join("vault"), folder.path().join("backup"));
    let vault = given(&path);
    put(&vault, &account("one"), "of the backup").await;
    fs::copy(&path, &backup).unwrap();
    put(&vault, &account("one"), "later").await;
    fs::rename(&backup, &path).unwrap();
    assert_eq!(
        text(&vault, &account("one")).await.as_deref(),
        Some("of the backup")
    );
    fs::remove_file(&path).unwrap();
    assert_eq!(text(&vault, &account("one")).await, None);
    put(&vault, &account("one"), "anew").await;
    assert_eq!(
        text(&given(&path), &account("one")).await.as_deref(),
        Some("anew")
    );
}

/// What a writer writes as its number `n`: whole or not.
fn whole(n: u64) -> String {
    format!("{n} {}", format!("{n}.").repeat(5_000))
}

/// Not a test of its own: what the one below kills.
#[tokio::test]
#[ignore = "runs until it is killed, in a process of its own"]
#[expect(clippy::disallowed_methods, reason = "a process is told what to do")]
async fn writes_until_it_is_killed() {
    let Some(path) = std::env::var_os("PLEIADES_TEST_VAULT") else {
        return;
    };
    let vault = given(FilePath::new(&path));
    let key = account("one");
    let found = vault.read(&key).await.unwrap();
    let mut version = found.as_ref().map_or(0, |found| found.version);
    let before = found.map_or(0, |found| number_of(found.value.expose()));
    for n in before + 1.. {
        let wrote = vault
            .write(&key, version, &Secret::new(whole(n)), None)
            .await
            .unwrap();
        let Wrote::Done(new) = wrote else {
            panic!("nobody else writes")
        };
        version = new;
        println!("wrote {n} ");
    }
}

fn number_of(text: &str) -> u64 {
    text.split_once(' ').unwrap().0.parse().unwrap()
}

#[tokio::test]
async fn a_writer_that_is_killed_leaves_the_old_entry_or_the_new_one() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    let mut last = 0;
    for round in 0..8_usize {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "--nocapture"])
            .arg("vault::file::tests::writes_until_it_is_killed")
            .env("PLEIADES_TEST_VAULT", &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answer = BufReader::new(writer.stdout.take().unwrap());
        let mut heard = answer.lines().map_while(Result::ok).filter_map(|line| {
            let number = line.split_once("wrote ")?.1;
            number.trim().parse::<u64>().ok()
        });
        for _ in 0..=round * 3 {
            last = heard.next().unwrap();
        }
        writer.kill().unwrap();
        // What it had said before it died.
        last = heard.last().unwrap_or(last);
        writer.wait().unwrap();
        let found = text(&given(&path), &account("one")).await.unwrap();
        let number = number_of(&found);
        assert!(found == whole(number), "round {round}: the entry is whole");
        assert!(
            number == last || number == last + 1,
            "round {round}: {number} after {last} was said"
        );
    }
}

/// The old key of the tests below.
const SHORT: &str = "tiger";

/// Every account of a vault that opens, by what it holds.
async fn everything(vault: &File) -> Option<Vec<(String, String)>> {
    let folder = Path::of(&["c", "acme", "ann@example.com", "github"]);
    let mut all = Vec::new();
    for name in vault.list(&folder).await.ok()? {
        let kept = text(vault, &account(&name)).await.unwrap();
        let hint = vault.hint(&account(&name)).await.unwrap();
        assert_eq!(hint.map(|hint| hint.seq), Some(7), "{name}");
        all.push((name, kept));
    }
    Some(all)
}

/// A vault of some accounts, and what they hold.
async fn full(vault: &File, count: usize) -> Vec<(String, String)> {
    let hint = Hint {
        seq: 7,
        ..Hint::default()
    };
    let mut all = Vec::new();
    for number in 0..count {
        let (name, kept) = (
            format!("account {number:04}"),
            format!("{number} {}", "x".repeat(3_000)),
        );
        let wrote = vault
            .write(&account(&name), 0, &Secret::new(kept.clone()), Some(&hint))
            .await;
        assert!(matches!(wrote.unwrap(), Wrote::Done(_)));
        all.push((name, kept));
    }
    all
}

fn under(path: &FilePath, key: &str) -> File {
    File::new(Some(path.to_owned()), RootKey::Given(Secret::new(key)))
}

/// A vault made when keys of any length were taken.
fn made_under_a_short_key(path: &FilePath) {
    let old = cipher::Cipher::new(&Secret::new(SHORT)).unwrap();
    let file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .unwrap();
    file.set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
    let inode = file.metadata().unwrap().into();
    let until = Instant::now() + BUSY_WITHIN;
    Table::open(path, inode, old, true, until).unwrap().unwrap();
}

#[tokio::test]
async fn a_new_vault_is_not_made_under_a_short_key_and_an_old_one_opens_under_it() {
    let folder = tempfile::tempdir().unwrap();
    let (new, old, empty) = (
        folder.path().join("new"),
        folder.path().join("old"),
        folder.path().join("empty"),
    );
    fs::write(&empty, "").unwrap();
    fs::set_permissions(&empty, fs::Permissions::from_mode(0o600)).unwrap();
    for path in [&new, &empty] {
        let wrote = under(path, SHORT)
            .write(&account("one"), 0, &Secret::new("x"), None)
            .await;
        assert!(!matches!(wrote, Ok(Wrote::Done(_))), "{}", path.display());
    }
    assert!(!new.exists() && fs::read(&empty).unwrap().is_empty());
    made_under_a_short_key(&old);
    put(&under(&old, SHORT), &account("one"), "kept").await;
    assert_eq!(
        text(&under(&old, SHORT), &account("one")).await.as_deref(),
        Some("kept")
    );
    assert!(under(&old, SHORT).examine().unwrap());
    assert!(!under(&new, SHORT).examine().unwrap());
    assert_eq!(under(&old, KEY).examine().unwrap_err().kind, Kind::Unopened);
}

#[tokio::test]
async fn a_vault_under_another_key_holds_what_it_held_and_the_old_key_opens_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    made_under_a_short_key(&path);
    let before = full(&under(&path, SHORT), 20).await;
    put(
        &under(&path, SHORT),
        &Path::gateway(&["clients", "one"]),
        "client",
    )
    .await;
    let version = under(&path, SHORT)
        .read(&account("account 0003"))
        .await
        .unwrap()
        .unwrap()
        .version;
    let old = || RootKey::Given(Secret::new(SHORT));
    let new = Secret::new(KEY);
    assert_eq!(rekey(path.clone(), old(), &new).unwrap(), Rekeyed::Done(21));
    assert_eq!(everything(&given(&path)).await.unwrap(), before);
    assert_eq!(everything(&under(&path, SHORT)).await, None);
    let client = text(&given(&path), &Path::gateway(&["clients", "one"])).await;
    assert_eq!(client.as_deref(), Some("client"));
    let again = given(&path)
        .read(&account("account 0003"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(again.version, version, "whoever read it before may write it");
    given(&path).remove(&account("account 0000")).await.unwrap();
    assert_eq!(everything(&given(&path)).await.unwrap(), before[1..]);
    // Who did not hear that it was done asks again, and is told.
    assert_eq!(rekey(path, old(), &new).unwrap(), Rekeyed::Already);
}

#[tokio::test]
async fn a_key_file_becomes_the_new_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    let before = full(&beside(&path), 5).await;
    assert_eq!(
        rekey(path.clone(), RootKey::beside(&path), &Secret::new(KEY)).unwrap(),
        Rekeyed::Done(5)
    );
    assert_eq!(everything(&beside(&path)).await.unwrap(), before);
    assert_eq!(fs::read_to_string(folder.path().join("vault.key")).unwrap(), KEY);
    assert_eq!(mode(&folder.path().join("vault.key")), 0o600);
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        2,
        "nothing is left beside them"
    );
}

#[tokio::test]
async fn whenever_it_was_killed_the_key_file_opens_the_vault() {
    for is_switched in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vault");
        let before = full(&beside(&path), 5).await;
        let file = folder.path().join("vault.key");
        let old = fs::read_to_string(&file).unwrap();
        // Killed before the transaction, and between it and the renaming.
        key::write_next(&file, &Secret::new(KEY)).unwrap();
        if is_switched {
            let root = RootKey::Given(Secret::new(old.clone()));
            assert_eq!(
                rekey(path.clone(), root, &Secret::new(KEY)).unwrap(),
                Rekeyed::Done(5)
            );
        }
        assert_eq!(everything(&beside(&path)).await.unwrap(), before);
        let now = fs::read_to_string(&file).unwrap();
        assert_eq!(now, if is_switched { KEY.to_owned() } else { old });
        assert_eq!(everything(&beside(&path)).await.unwrap(), before);
        let newest = Secret::new("a third key, of at least thirty-two bytes");
        assert_eq!(
            rekey(path.clone(), RootKey::beside(&path), &newest).unwrap(),
            Rekeyed::Done(5)
        );
        assert_eq!(everything(&beside(&path)).await.unwrap(), before);
    }
}

#[tokio::test]
async fn nobody_puts_a_vault_under_another_key_while_somebody_uses_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    let vault = beside(&path);
    put(&vault, &account("one"), "kept").await;
    let new = Secret::new(KEY);
    let refused = rekey(path.clone(), RootKey::beside(&path), &new).unwrap_err();
    assert!(
        refused.message.contains("a gateway or a command uses"),
        "{refused}"
    );
    drop(vault);
    // And nobody begins to use it meanwhile.
    let location = Location::new(Some(path.clone()), RootKey::beside(&path));
    location.lock_exclusive().unwrap();
    assert_eq!(
        fault(beside(&path).read(&account("one")).await).0,
        Kind::Unreachable
    );
    drop(location);
    rekey(path.clone(), RootKey::beside(&path), &new).unwrap();
    assert_eq!(
        text(&beside(&path), &account("one")).await.as_deref(),
        Some("kept")
    );
}

#[tokio::test]
async fn what_cannot_be_put_under_another_key_is_refused_and_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    put(&given(&path), &account("one"), "kept").await;
    let root = || RootKey::Given(Secret::new(KEY));
    let spaced = format!("{KEY} ");
    for wrong in ["tiger", &*spaced] {
        let refused = rekey(path.clone(), root(), &Secret::new(wrong)).unwrap_err();
        assert_eq!(refused.kind, Kind::Refused, "{refused}");
    }
    let another = Secret::new("a third key, of at least thirty-two bytes");
    let stranger = RootKey::Given(another.clone());
    let refused = rekey(path.clone(), stranger, &Secret::new("k".repeat(40))).unwrap_err();
    assert_eq!(refused.kind, Kind::Unopened);
    let nowhere = rekey(folder.path().join("none"), root(), &another).unwrap_err();
    assert_eq!(nowhere.kind, Kind::Refused);
    // An entry that no folder names would be left behind.
    Connection::open(&path)
        .unwrap()
        .execute_batch("DELETE FROM links")
        .unwrap();
    let refused = rekey(path.clone(), root(), &another).unwrap_err();
    assert_eq!(refused.kind, Kind::Corrupt);
    assert_eq!(
        text(&given(&path), &account("one")).await.as_deref(),
        Some("kept")
    );
}

#[tokio::test]
async fn a_file_that_others_hold_is_unreachable_after_a_while_and_not_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    let vault = given(&path);
    put(&vault, &account("one"), "kept").await;
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let key = account("one");
    for answer in join_all((0..3).map(|_| vault.read(&key))).await {
        assert_eq!(fault(answer).0, Kind::Unreachable);
    }
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(text(&vault, &account("one")).await.as_deref(), Some("kept"));
}
