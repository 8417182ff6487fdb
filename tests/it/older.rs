//! A provider that names 2026-07-28 alone may speak older revisions too. It is asked when a client of
//! one comes, and not before.

use serde_json::{Value, json};

use super::world::client::GENERATIONS;
use super::world::{self, FakeServer, TestClient, World};

const M: &str = "2026-07-28";

/// `both` speaks everything and names 2026-07-28 alone, as SDKs of two generations do; `modern` speaks
/// nothing else.
async fn two() -> (World, FakeServer, FakeServer) {
    let (both, modern) = (
        FakeServer::start(&GENERATIONS).await,
        FakeServer::start(&[M]).await,
    );
    let world = World::builder()
        .provider("both", &both)
        .provider("modern", &modern)
        .start()
        .await;
    world.until_state("both", "ready").await;
    world.until_state("modern", "ready").await;
    (world, both, modern)
}

/// The revision of the last call that a provider saw.
fn last_revision(fake: &FakeServer) -> String {
    let seen = fake.seen("tools/call").pop().unwrap();
    seen.headers["mcp-protocol-version"].to_str().unwrap().to_owned()
}

async fn echoes(peer: &TestClient, tool: &str) {
    let result = peer.call(tool, json!({ "text": "hi" })).await;
    assert_eq!(result["content"][0]["text"], "echo: hi", "{}", peer.url);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_2026_07_28_leave_a_provider_unasked_wherever_they_call() {
    let (world, both, modern) = two().await;
    for (path, tool) in [
        ("/tools/both", "echo"),
        ("/relay/both", "echo"),
        ("/tools", "both__echo"),
        ("/tools/modern", "echo"),
        ("/relay/modern", "echo"),
    ] {
        echoes(&TestClient::connect(&world, path, M).await, tool).await;
    }
    for fake in [both, modern] {
        assert!(fake.seen("initialize").is_empty());
    }
    assert_eq!(world.status("both").await["eras"], json!([M]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_legacy_client_has_its_own_generation_from_the_first_call_on() {
    for view in ["/tools/both", "/mcp/both"] {
        let (world, both, _modern) = two().await;
        let peer = TestClient::connect(&world, view, "2025-11-25").await;
        assert_eq!(peer.initialized["capabilities"]["logging"], json!({}), "{view}");
        let (name, arguments) = match view {
            "/tools/both" => ("echo", json!({ "text": "hi" })),
            _ => (
                "use_both",
                json!({ "tool": "echo", "arguments": { "text": "hi" } }),
            ),
        };
        peer.call(name, arguments).await;
        assert_eq!(last_revision(&both), "2025-11-25", "{view}");
        assert_eq!(world.status("both").await["eras"], json!(GENERATIONS));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_union_only_the_provider_that_is_called_is_asked() {
    let (world, both, modern) = two().await;
    let peer = TestClient::connect(&world, "/tools", "2025-06-18").await;
    peer.tools().await;
    assert!(both.seen("initialize").is_empty() && modern.seen("initialize").is_empty());
    echoes(&peer, "both__echo").await;
    assert_eq!(last_revision(&both), "2025-06-18");
    assert!(modern.seen("initialize").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_modern_only_is_asked_once_and_serves_legacy_clients_all_the_same() {
    let (world, _both, modern) = two().await;
    for revision in ["2025-06-18", "2025-11-25"] {
        let peer = TestClient::connect(&world, "/tools/modern", revision).await;
        assert!(peer.initialized["capabilities"].get("logging").is_none());
        echoes(&peer, "echo").await;
        assert_eq!(last_revision(&modern), M);
    }
    assert_eq!(modern.seen("initialize").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_asks_before_it_joins_a_legacy_client_or_refuses_it() {
    let (world, both, modern) = two().await;
    for revision in GENERATIONS {
        let peer = TestClient::connect(&world, "/relay/both", revision).await;
        echoes(&peer, "echo").await;
        assert_eq!(last_revision(&both), revision);
    }
    for _ in 0..2 {
        let refused = initialize(&world, "modern").await;
        assert_eq!(refused["error"]["code"], -32022, "{refused}");
        assert_eq!(refused["error"]["data"]["supported"], json!([M]));
        assert_eq!(refused["id"], 3);
    }
    assert_eq!(modern.seen("initialize").len(), 1);
}

async fn initialize(world: &World, provider: &str) -> Value {
    let client = json!({ "name": "t", "version": "0" });
    let params = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client });
    let body = json!({ "jsonrpc": "2.0", "id": 3, "method": "initialize", "params": params });
    let answer = world
        .http
        .post(format!("{}/relay/{provider}", world.base))
        .header("content-type", "application/json")
        .body(body.to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 400);
    world::json(answer).await
}
