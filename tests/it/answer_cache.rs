//! Answers of reads that are given again, and what empties them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::result_handles::long;
use super::world::authorization::Authority;
use super::world::browser::Browser;
use super::world::client::GENERATIONS;
use super::world::provider::tool;
use super::world::{FakeServer, TestClient, World};

const CACHE: &str = "auth: { none: {} }\nfacade: { cache: { ttl: 10m } }\n";

/// A tool that declares that it only reads.
fn read(name: &str) -> Value {
    let mut tool = tool(name);
    tool["annotations"] = json!({ "readOnlyHint": true });
    tool
}

async fn fake() -> FakeServer {
    let tools = vec![read("echo"), read("fail"), tool("region")];
    FakeServer::start_paged(&GENERATIONS, 1_000, tools).await
}

async fn meta(world: &World) -> TestClient {
    TestClient::connect(world, "/mcp/one", "2026-07-28").await
}

/// The answer, and whether it is from the cache.
async fn ask(client: &TestClient, tool: &str, text: &str, options: Value) -> (Value, bool) {
    let arguments = json!({ "tool": tool, "arguments": { "text": text }, "options": options });
    let result = client.call("use_one", arguments).await;
    let answer = result["structuredContent"].clone();
    let notes = answer["notes"].as_array().cloned().unwrap_or_default();
    let is_old = |note: &Value| {
        let note = note.as_str().unwrap();
        note.starts_with("from the cache, ") && note.ends_with(" s old")
    };
    (answer, notes.iter().any(is_old))
}

async fn is_cached(client: &TestClient, text: &str) -> bool {
    let (answer, is_cached) = ask(client, "echo", text, json!({})).await;
    assert_eq!(
        (&answer["status"], &answer["text"]),
        (&json!("ok"), &json!(format!("echo: {text}")))
    );
    is_cached
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_is_answered_again_without_the_provider_and_its_limits() {
    let fake = fake().await;
    let limits = "limits: { rate: [{ per: provider, requests: 3, every: 1h }] }\n";
    let rest = format!("{CACHE}{limits}");
    let world = World::builder().provider_with("one", &fake, &rest).start().await;
    let client = meta(&world).await;
    assert!(!is_cached(&client, "a").await);
    for _ in 0..5 {
        assert!(is_cached(&client, "a").await);
    }
    assert!(!is_cached(&client, "b").await);
    let (fresh, cached) = ask(&client, "echo", "a", json!({ "fresh": true })).await;
    assert!(fresh["status"] == "ok" && !cached, "{fresh}");
    assert_eq!(fake.seen("tools/call").len(), 3);
    let (refused, _) = ask(&client, "echo", "c", json!({})).await;
    assert_eq!(refused["status"], "rate_limited", "{refused}");
    let page = world.metrics().await;
    for (outcome, count) in [
        ("hit", 5),
        ("miss", 3),
        ("bypassed", 1),
        ("stored", 3),
        ("not_stored", 1),
    ] {
        let series = format!(r#"pleiades_cache_total{{outcome="{outcome}",provider="one"}} {count}"#);
        assert!(page.contains(&series), "{series}\n{page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_and_writes_are_never_given_again() {
    let fake = fake().await;
    let world = World::builder().provider_with("one", &fake, CACHE).start().await;
    let client = meta(&world).await;
    for _ in 0..2 {
        assert_eq!(
            ask(&client, "fail", "a", json!({})).await.0["status"],
            "upstream_error"
        );
        assert!(!ask(&client, "region", "a", json!({})).await.1);
    }
    assert_eq!(fake.seen("tools/call").len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_in_either_view_or_on_the_relay_empties_what_was_kept() {
    let fake = fake().await;
    let world = World::builder().provider_with("one", &fake, CACHE).start().await;
    let client = meta(&world).await;
    let tools = TestClient::connect(&world, "/tools/one", "2025-11-25").await;
    let modern = TestClient::connect(&world, "/relay/one", "2026-07-28").await;
    let legacy = TestClient::connect(&world, "/relay/one", "2025-11-25").await;
    let read = async || {
        is_cached(&client, "a").await;
        assert!(is_cached(&client, "a").await, "nothing was written");
    };
    read().await;
    ask(&client, "region", "a", json!({})).await;
    assert!(!is_cached(&client, "a").await, "the meta view");
    tools.call("region", json!({ "text": "a" })).await;
    assert!(!is_cached(&client, "a").await, "the tool view");
    tools.call("echo", json!({ "text": "a" })).await;
    modern.call("echo", json!({ "text": "a" })).await;
    modern.result("tools/list", json!({})).await;
    assert!(is_cached(&client, "a").await, "these only read");
    modern.call("region", json!({ "text": "a" })).await;
    assert!(!is_cached(&client, "a").await, "the relay, by what its head says");
    legacy.call("echo", json!({ "text": "a" })).await;
    assert!(
        !is_cached(&client, "a").await,
        "of a legacy body nothing is known"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_that_the_descriptor_names_are_cached_and_others_are_not() {
    let fake = FakeServer::start_paged(&GENERATIONS, 1_000, vec![tool("echo"), read("region")]).await;
    let rest = "auth: { none: {} }\nfacade: { cache: { ttl: 10m, tools: [\"ech*\"] } }\n";
    let world = World::builder().provider_with("one", &fake, rest).start().await;
    let client = meta(&world).await;
    assert!(!is_cached(&client, "a").await && is_cached(&client, "a").await);
    for _ in 0..2 {
        assert!(!ask(&client, "region", "a", json!({})).await.1);
    }
    assert!(is_cached(&client, "a").await, "a read empties nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_descriptor_has_other_answers_and_a_reload_of_others_changes_nothing() {
    let fake = fake().await;
    let world = World::builder().provider_with("one", &fake, CACHE).start().await;
    let client = meta(&world).await;
    assert!(!is_cached(&client, "a").await && is_cached(&client, "a").await);
    let folder = world.providers();
    let own = std::fs::read_to_string(folder.join("one.yaml")).unwrap();
    let other = own.replacen("id: one", "id: two", 1);
    std::fs::write(folder.join("two.yaml"), other).unwrap();
    world.until_state("two", "ready").await;
    assert!(is_cached(&client, "a").await);
    std::fs::write(
        folder.join("one.yaml"),
        format!("{own}limits: {{ concurrency: 3 }}\n"),
    )
    .unwrap();
    world
        .until("the other descriptor", || async {
            !is_cached(&client, "a").await
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_accounts_of_a_user_have_answers_of_their_own() {
    let authority = Authority::start(&GENERATIONS).await;
    let body = format!(
        "title: Tracker\nupstream: {{ url: \"{}\" }}\nauth: {{ oauth: {{}} }}\ntools: {{ reads: [echo] }}\nfacade: {{ cache: {{ ttl: 10m }} }}\n",
        authority.resource
    );
    let world = World::builder().descriptor("one", &body).start().await;
    let client = meta(&world).await;
    for (subject, account) in [("u-ada", "ada"), ("u-bob", "bob")] {
        authority.sign_in(subject, account, &format!("{account}@example.com"));
        let arguments = json!({ "tool": "echo", "arguments": { "text": "a" }, "accountId": account });
        let asked = client.call("use_one", arguments).await;
        let url = asked["structuredContent"]["data"]["connect_url"]
            .as_str()
            .unwrap()
            .to_owned();
        assert_eq!(Browser::default().connect(&url, &[]).await.status, 200);
    }
    let by = async |account: &str, tool: &str| {
        let arguments = json!({ "tool": tool, "arguments": { "text": "a" }, "accountId": account });
        let answer = client.call("use_one", arguments).await["structuredContent"].clone();
        assert_eq!(
            (&answer["status"], &answer["accountId"]),
            (&json!("ok"), &json!(account))
        );
        answer["notes"].as_array().is_some_and(|notes| !notes.is_empty())
    };
    for account in ["ada", "bob"] {
        assert!(
            !by(account, "echo").await && by(account, "echo").await,
            "{account}"
        );
    }
    by("ada", "region").await;
    assert!(
        !by("ada", "echo").await && by("bob", "echo").await,
        "a write is of its account alone"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_is_under_way_during_a_write_is_not_kept() {
    let fake = FakeServer::start_paged(&GENERATIONS, 1_000, vec![read("wait"), tool("region")]).await;
    let world = World::builder().provider_with("one", &fake, CACHE).start().await;
    let client = Arc::new(meta(&world).await);
    for writes in [true, false] {
        let (reader, before) = (Arc::clone(&client), fake.seen("tools/call").len());
        let reading = tokio::spawn(async move { ask(&reader, "wait", "a", json!({})).await });
        world
            .until("the read to arrive", || async {
                fake.seen("tools/call").len() > before
            })
            .await;
        world
            .until("the read to wait", || async {
                fake.knobs.waiting.load(Ordering::SeqCst) == 1
            })
            .await;
        if writes {
            ask(&client, "region", "a", json!({})).await;
        }
        fake.knobs.release.notify_one();
        assert!(!reading.await.unwrap().1);
    }
    assert!(
        ask(&client, "wait", "a", json!({})).await.1,
        "the one without a write is kept"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_callers_bring_have_answers_and_results_of_their_own() {
    let fake = FakeServer::start_paged(&GENERATIONS, 1_000, vec![read("echo"), long("list")]).await;
    let rest = "auth: { client_key: { headers: [x-own-key], forward_as: authorization } }\n\
                facade: { cache: { ttl: 10m } }\n";
    let world = World::builder().provider_with("one", &fake, rest).start().await;
    let with = async |key: &str| {
        TestClient::connect_with(&world, "/mcp/one", "2026-07-28", &[("x-own-key", key)]).await
    };
    let (one, other) = (with("key-one").await, with("key-other").await);
    assert!(!is_cached(&one, "a").await && is_cached(&one, "a").await);
    assert!(!is_cached(&other, "a").await && is_cached(&other, "a").await);
    let cut = ask(&one, "list", "a", json!({})).await.0["resultId"].clone();
    let read = async |client: &TestClient| {
        let arguments = json!({ "options": { "result": cut } });
        client.call("use_one", arguments).await["structuredContent"]["status"].clone()
    };
    assert_eq!(
        (read(&one).await, read(&other).await),
        (json!("ok"), json!("invalid_arguments"))
    );
}
