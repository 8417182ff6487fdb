use serde_json::json;

use super::*;
use crate::vault::Hint;
use crate::vault::tests::memory::MemoryVault;
use pleiades_core::secret::Secret;

fn record(grant: &str, seq: u64, token: &str) -> Secret {
    let record = json!({
        "grant_id": grant, "seq": seq, "account": "ann", "label": null, "subject": null, "provider": "p",
        "source": {
            "issuer": null, "token_endpoint": "https://as.example/token",
            "client": { "id": "c", "auth": "none" },
        },
        "requested": [], "granted": null,
        "tokens": { "access": token, "expires_at": null, "obtained_at": 1 },
        "connected_at": 1,
    });
    Secret::new(record.to_string())
}

fn account(name: &str) -> Path {
    Path::of(&["c", "acme", "ann@example.com", "git/hub", name])
}

async fn put(vault: &MemoryVault, path: &Path, value: &Secret) {
    let expected = vault.read(path).await.unwrap().map_or(0, |found| found.version);
    vault.write(path, expected, value, None).await.unwrap();
}

async fn moved(from: &MemoryVault, to: &MemoryVault) -> Vec<(String, &'static str)> {
    let mut all = Vec::new();
    let report = |moved: &CopiedEntry| {
        let name = moved.path.segments().last().unwrap().to_string();
        all.push((name, moved.outcome.as_str()));
    };
    run(from, to, report).await.unwrap();
    all
}

#[tokio::test]
async fn accounts_and_clients_are_copied_and_a_second_time_changes_nothing() {
    let (from, to) = (MemoryVault::default(), MemoryVault::default());
    let hint = Hint {
        seq: 3,
        state: "ok".to_owned(),
        expiry: None,
    };
    from.write(&account("one"), 0, &record("g", 3, "t"), Some(&hint))
        .await
        .unwrap();
    put(&from, &account("two"), &record("h", 1, "u")).await;
    put(
        &from,
        &Path::gateway(&["clients", "as"]),
        &Secret::new("{\"id\":1}"),
    )
    .await;
    put(&from, &Path::gateway(&["pending", "s-1"]), &Secret::new("{}")).await;
    put(&from, &Path::gateway(&["seal"]), &Secret::new("{}")).await;
    let all = |outcome| ["one", "two", "as"].map(|name| (name.to_owned(), outcome));
    assert_eq!(moved(&from, &to).await, all("copied"));
    assert_eq!(moved(&from, &to).await, all("unchanged"));
    let there = to.read(&account("one")).await.unwrap().unwrap();
    assert_eq!((there.version, &there.value), (1, &record("g", 3, "t")));
    assert_eq!(to.hint(&account("one")).await.unwrap(), Some(hint));
    assert_eq!(to.list(&Path::gateway(&[])).await.unwrap(), ["clients"]);
    assert!(from.read(&account("one")).await.unwrap().is_some());
}

#[tokio::test]
async fn nothing_newer_is_written_over() {
    let there = [
        ("older", record("g", 1, "old"), "updated"),
        ("same", record("g", 2, "t"), "unchanged"),
        ("equal", record("g", 2, "other"), "newer"),
        ("newer", record("g", 3, "new"), "newer"),
        ("reconnected", record("h", 1, "new"), "another"),
        ("strange", Secret::new("{}"), "another"),
    ];
    for (name, value, outcome) in there {
        let (from, to) = (MemoryVault::default(), MemoryVault::default());
        let source = record("g", 2, "t");
        put(&from, &account(name), &source).await;
        put(&to, &account(name), &value).await;
        assert_eq!(moved(&from, &to).await, [(name.to_owned(), outcome)]);
        let left = to.read(&account(name)).await.unwrap().unwrap().value;
        assert!(
            left == if outcome == "updated" { source } else { value },
            "{name}"
        );
    }
}

#[tokio::test]
async fn an_order_of_members_is_no_difference() {
    let (from, to) = (MemoryVault::default(), MemoryVault::default());
    let path = Path::gateway(&["clients", "as"]);
    put(&from, &path, &Secret::new(r#"{"a":1,"b":2}"#)).await;
    put(&to, &path, &Secret::new(r#"{"b":2, "a":1}"#)).await;
    assert_eq!(moved(&from, &to).await, [("as".to_owned(), "unchanged")]);
}
