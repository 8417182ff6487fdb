//! Lists: whole, stable, live, and never taken down by one provider.

use serde_json::json;
use std::sync::atomic::Ordering;

use super::world::client::{GENERATIONS, until_method};
use super::world::provider::tool;
use super::world::{FakeServer, TestClient, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_read_to_its_last_page() {
    let tools = (0..57).map(|at| tool(&format!("tool_{at}"))).collect();
    let fake = FakeServer::start_paged(&["2025-11-25"], 10, tools).await;
    let world = World::builder().provider("pages", &fake).start().await;
    world.until_state("pages", "ready").await;
    for revision in GENERATIONS {
        let peer = TestClient::connect(&world, "/tools/pages", revision).await;
        assert_eq!(peer.tools().await.len(), 57);
        let meta = TestClient::connect(&world, "/mcp/pages", revision).await;
        let list = meta.result("tools/list", json!({})).await;
        assert_eq!(
            list["tools"][0]["inputSchema"]["properties"]["tool"]["enum"]
                .as_array()
                .unwrap()
                .len(),
            57
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_byte_stable_for_equal_inputs() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder()
        .provider("one", &fake)
        .provider("two", &fake)
        .start()
        .await;
    world.until_state("one", "ready").await;
    world.until_state("two", "ready").await;
    for path in ["/mcp", "/tools"] {
        let peer = TestClient::connect(&world, path, "2026-07-28").await;
        let text = async || {
            peer.send_as(json!(1), "tools/list", json!({}))
                .await
                .text()
                .await
                .unwrap()
        };
        assert_eq!(text().await, text().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_and_a_hanging_provider_leave_the_rest_of_a_list_alone() {
    let (good, hanging) = (
        FakeServer::start(&["2025-11-25"]).await,
        FakeServer::start(&["2025-11-25"]).await,
    );
    hanging.knobs.hangs.store(true, Ordering::Relaxed);
    let dead = "upstream: { url: \"http://127.0.0.1:9/mcp\" }\nauth: { none: {} }\n";
    let short = "upstream: { url: \"URL\", timeouts: { connect: 200ms, call: 500ms } }\nauth: { none: {} }\n";
    let world = World::builder()
        .provider("good", &good)
        .descriptor("dead", dead)
        .descriptor("hanging", &short.replace("URL", &hanging.url))
        .start()
        .await;
    for revision in GENERATIONS {
        let peer = TestClient::connect(&world, "/tools", revision).await;
        let list = peer.result("tools/list", json!({})).await;
        let names: Vec<&str> = list["tools"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["name"].as_str().unwrap())
            .collect();
        assert!(names.contains(&"good__echo"), "{revision}");
        assert!(
            names.iter().all(|name| name.starts_with("good__")),
            "{revision}: {names:?}"
        );
        if peer.is_modern() {
            assert_eq!(list["ttlMs"], 0, "an incomplete list must not be kept");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_union_prefixes_tools_and_prompts_and_namespaces_colliding_uris() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder()
        .provider("one", &fake)
        .provider("two", &fake)
        .start()
        .await;
    world.until_state("one", "ready").await;
    world.until_state("two", "ready").await;
    let peer = TestClient::connect(&world, "/tools", "2025-11-25").await;
    assert!(peer.tools().await.contains(&"two__echo".to_owned()));
    assert_eq!(
        peer.call("two__echo", json!({ "text": "x" })).await["content"][0]["text"],
        "echo: x"
    );
    assert_eq!(
        peer.names("prompts/list", "prompts", "name").await,
        ["one__greet", "two__greet"]
    );
    peer.result(
        "prompts/get",
        json!({ "name": "two__greet", "arguments": { "who": "x" } }),
    )
    .await;
    let uris = peer.names("resources/list", "resources", "uri").await;
    assert_eq!(uris.len(), 2);
    assert_ne!(uris[0], uris[1]);
    for uri in uris {
        let read = peer.result("resources/read", json!({ "uri": uri })).await;
        assert_eq!(read["contents"][0]["text"], "text of fake://text");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_provider_is_still_prefixed_in_the_union_and_never_on_its_own_path() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder().provider("one", &fake).start().await;
    world.until_state("one", "ready").await;
    let union = TestClient::connect(&world, "/tools", "2025-11-25").await;
    assert!(union.tools().await.iter().all(|name| name.starts_with("one__")));
    let own = TestClient::connect(&world, "/tools/one", "2025-11-25").await;
    assert!(own.tools().await.contains(&"echo".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn denied_tools_exist_nowhere() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let rest = "auth: { none: {} }\ntools: { deny: [\"fa*\"] }\n";
    let world = World::builder().provider_with("one", &fake, rest).start().await;
    world.until_state("one", "ready").await;
    let peer = TestClient::connect(&world, "/tools/one", "2025-11-25").await;
    assert!(!peer.tools().await.contains(&"fail".to_owned()));
    let answer = peer
        .request("tools/call", json!({ "name": "fail", "arguments": {} }))
        .await;
    assert_eq!(answer["error"]["code"], -32602);
    let meta = TestClient::connect(&world, "/mcp/one", "2025-11-25").await;
    let answer = meta
        .call("use_one", json!({ "tool": "fail", "arguments": {} }))
        .await;
    assert_eq!(answer["structuredContent"]["status"], "unknown_tool");
    assert!(fake.seen("tools/call").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstreams_list_change_reaches_sessions_and_subscriptions_of_every_generation() {
    for upstream in GENERATIONS {
        let fake = FakeServer::start(&[upstream]).await;
        let world = World::builder().provider("one", &fake).start().await;
        world.until_state("one", "ready").await;
        world
            .until("the gateway to listen", || async {
                !fake.seen("GET").is_empty() || !fake.seen("subscriptions/listen").is_empty()
            })
            .await;
        let legacy = TestClient::connect(&world, "/tools/one", "2025-11-25").await;
        let modern = TestClient::connect(&world, "/mcp", "2026-07-28").await;
        let mut stream = legacy.stream().await;
        let wanted = json!({ "notifications": { "toolsListChanged": true } });
        let mut subscription = modern.send_as(json!("sub"), "subscriptions/listen", wanted).await;
        let ack = until_method(&mut subscription, "notifications/subscriptions/acknowledged").await;
        assert_eq!(
            ack["params"]["notifications"],
            json!({ "toolsListChanged": true })
        );
        fake.grow("grown");
        until_method(&mut stream, "notifications/tools/list_changed").await;
        let notice = until_method(&mut subscription, "notifications/tools/list_changed").await;
        assert_eq!(
            notice["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"],
            "sub"
        );
        assert!(legacy.tools().await.contains(&"grown".to_owned()), "{upstream}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_announced_is_told_on_although_no_entry_differs() {
    for upstream in GENERATIONS {
        let fake = FakeServer::start(&[upstream]).await;
        let world = World::builder().provider("one", &fake).start().await;
        world.until_state("one", "ready").await;
        world
            .until("the gateway to listen", || async {
                !fake.seen("GET").is_empty() || !fake.seen("subscriptions/listen").is_empty()
            })
            .await;
        let peer = TestClient::connect(&world, "/tools/one", "2025-11-25").await;
        let mut stream = peer.stream().await;
        fake.cry();
        until_method(&mut stream, "notifications/tools/list_changed").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_reaches_live_sessions() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder().provider("one", &fake).start().await;
    world.until_state("one", "ready").await;
    let peer = TestClient::connect(&world, "/tools", "2025-11-25").await;
    let mut stream = peer.stream().await;
    let text = format!(
        "id: two\nupstream: {{ url: \"{}\" }}\nauth: {{ none: {{}} }}\n",
        fake.url
    );
    std::fs::write(world.providers().join("two.yaml"), text).unwrap();
    until_method(&mut stream, "notifications/tools/list_changed").await;
    world.until_state("two", "ready").await;
    assert!(peer.tools().await.contains(&"two__echo".to_owned()));
    std::fs::remove_file(world.providers().join("two.yaml")).unwrap();
    world
        .until("two to be gone", || async { world.status("two").await.is_null() })
        .await;
    assert!(!peer.tools().await.contains(&"two__echo".to_owned()));
    let gone = world
        .http
        .post(format!("{}/tools/two", world.base))
        .body("{}")
        .send()
        .await
        .unwrap();
    assert_eq!(gone.status(), 404);
}
