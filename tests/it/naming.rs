//! Names of tools and prompts: those that every model takes, unless the settings or the URL say
//! otherwise; calls take every form.

use serde_json::{Value, json};

use super::world::client::GENERATIONS;
use super::world::provider::tool;
use super::world::{FakeServer, TestClient, World};

/// What every model takes.
fn fits(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|it| it.is_ascii_alphanumeric() || matches!(it, b'_' | b'-'))
}

/// Names that were legal before 2025-11-25, or never.
fn odd() -> Vec<String> {
    [
        "echo",
        "issues.list",
        "issues_list",
        "Create Share",
        "ns:tool",
        "查询天气",
        "rtl\u{202e}txt",
        "line\nbreak",
        "many__parts__here",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain(["long".repeat(40), format!("{}.x", "y".repeat(61))])
    .collect()
}

async fn provider(names: &[String]) -> FakeServer {
    let tools = names.iter().map(|name| tool(name)).collect();
    FakeServer::start_paged(&["2025-11-25"], 1_000, tools).await
}

/// The name under which the last call reached the provider.
fn called(fake: &FakeServer) -> String {
    let seen = fake.seen("tools/call");
    let params = &seen.last().expect("a call").body["params"];
    params["name"].as_str().expect("a name").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_tool_is_shown_by_a_name_that_models_take_and_called_by_its_own() {
    let odd = odd();
    let fake = provider(&odd).await;
    let world = World::builder().provider("one", &fake).start().await;
    world.until_state("one", "ready").await;
    for revision in GENERATIONS {
        for path in ["/tools", "/tools/one"] {
            let peer = TestClient::connect(&world, path, revision).await;
            let names = peer.tools().await;
            assert_eq!(names.len(), odd.len(), "{path}");
            for (name, own) in names.iter().zip(&odd) {
                assert!(fits(name), "{path}: {name}");
                peer.call(name, json!({ "text": "x" })).await;
                assert_eq!(called(&fake), *own, "{path}: {name}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_take_both_forms_and_the_exact_name() {
    let fake = provider(&odd()).await;
    let world = World::builder().provider("one", &fake).start().await;
    world.until_state("one", "ready").await;
    let union = TestClient::connect(&world, "/tools", "2025-11-25").await;
    for (name, own) in [
        ("one.echo", "echo"),
        ("one__echo", "echo"),
        ("one.issues.list", "issues.list"),
        ("one__issues.list", "issues.list"),
        ("one__issues_list", "issues_list"),
        ("one.Create Share", "Create Share"),
        ("one.查询天气", "查询天气"),
        ("one__many__parts__here", "many__parts__here"),
    ] {
        union.call(name, json!({ "text": "x" })).await;
        assert_eq!(called(&fake), own, "{name}");
    }
    let own = TestClient::connect(&world, "/tools/one", "2025-11-25").await;
    for name in odd().iter().filter(|name| !name.contains('\n')) {
        own.call(name, json!({ "text": "x" })).await;
        assert_eq!(called(&fake), *name);
    }
    let meta = TestClient::connect(&world, "/mcp/one", "2025-11-25").await;
    let shown =
        &meta.result("tools/list", json!({})).await["tools"][0]["inputSchema"]["properties"]["tool"]["enum"];
    for name in shown.as_array().expect("names").iter().filter_map(Value::as_str) {
        let answer = meta
            .call("use_one", json!({ "tool": name, "arguments": { "text": "x" } }))
            .await;
        assert_eq!(answer["structuredContent"]["status"], "ok", "{name}: {answer}");
    }
    for name in [
        "one",
        "one__",
        "one.",
        "two__echo",
        "__echo",
        "one__nothing",
        "one_echo",
    ] {
        let answer = union
            .request("tools/call", json!({ "name": name, "arguments": {} }))
            .await;
        assert_eq!(answer["error"]["code"], -32602, "{name}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_settings_and_the_url_show_dotted_names() {
    let names = ["echo", "issues.list", "Create Share"].map(str::to_owned);
    let fake = provider(&names).await;
    let dotted = World::builder()
        .provider("one", &fake)
        .settings("tool_names: dotted\n")
        .start()
        .await;
    let safe = World::builder().provider("one", &fake).start().await;
    dotted.until_state("one", "ready").await;
    safe.until_state("one", "ready").await;
    for (world, path, expected) in [
        (
            &dotted,
            "/tools",
            ["one.echo", "one.issues.list", "one.Create_Share"],
        ),
        (
            &safe,
            "/tools?names=dotted",
            ["one.echo", "one.issues.list", "one.Create_Share"],
        ),
        (
            &dotted,
            "/tools?names=safe",
            ["one__echo", "one__issues_list", "one__Create_Share"],
        ),
        (&dotted, "/tools/one", ["echo", "issues.list", "Create_Share"]),
        (&safe, "/tools/one", ["echo", "issues_list", "Create_Share"]),
    ] {
        let peer = TestClient::connect(world, path, "2025-11-25").await;
        assert_eq!(peer.tools().await, expected, "{path}");
        for name in expected {
            peer.call(name, json!({ "text": "x" })).await;
        }
        assert_eq!(called(&fake), "Create Share");
    }
    for (path, expected) in [("/tools", "one__greet"), ("/tools?names=dotted", "one.greet")] {
        let peer = TestClient::connect(&safe, path, "2025-11-25").await;
        assert_eq!(peer.names("prompts/list", "prompts", "name").await, [expected]);
        for name in ["one__greet", "one.greet"] {
            peer.result(
                "prompts/get",
                json!({ "name": name, "arguments": { "who": "x" } }),
            )
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn providers_whose_names_run_together_are_told_apart() {
    let one = provider(&["b__c".to_owned(), "plain".to_owned()]).await;
    let two = provider(&["c".to_owned(), "plain".to_owned()]).await;
    let long = provider(&["echo".to_owned(), "other".to_owned()]).await;
    let id = "x".repeat(63);
    let world = World::builder()
        .provider("a", &one)
        .provider("a__b", &two)
        .provider(&id, &long)
        .start()
        .await;
    for id in ["a", "a__b", &id] {
        world.until_state(id, "ready").await;
    }
    let peer = TestClient::connect(&world, "/tools", "2025-11-25").await;
    let names = peer.tools().await;
    assert!(names.iter().all(|name| fits(name)), "{names:?}");
    let owners = [
        (&one, "b__c"),
        (&one, "plain"),
        (&two, "c"),
        (&two, "plain"),
        (&long, "echo"),
        (&long, "other"),
    ];
    for (name, (fake, own)) in names.iter().zip(owners) {
        let before = fake.seen("tools/call").len();
        peer.call(name, json!({ "text": "x" })).await;
        assert_eq!(fake.seen("tools/call").len(), before + 1, "{name}");
        assert_eq!(called(fake), own, "{name}");
    }
    let answer = peer
        .request("tools/call", json!({ "name": "a__b__c", "arguments": {} }))
        .await;
    assert_eq!(answer["error"]["code"], -32602, "it may be either's: {answer}");
    peer.call("a.b__c", json!({ "text": "x" })).await;
    assert_eq!(called(&one), "b__c");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_on_tools_hold_for_every_name_of_a_tool() {
    let fake = provider(&[
        "echo".to_owned(),
        "delete all".to_owned(),
        "delete.one".to_owned(),
    ])
    .await;
    let rest = "auth: { none: {} }\ntools: { deny: [\"delete_*\"] }\n";
    let world = World::builder().provider_with("one", &fake, rest).start().await;
    world.until_state("one", "ready").await;
    let peer = TestClient::connect(&world, "/tools/one", "2025-11-25").await;
    assert_eq!(peer.tools().await, ["echo"]);
    for name in ["delete all", "delete_all", "delete.one", "delete_one"] {
        let answer = peer
            .request("tools/call", json!({ "name": name, "arguments": {} }))
            .await;
        assert_eq!(answer["error"]["code"], -32602, "{name}: {answer}");
    }
}
