//! Definitions of others under our own name: mended or left out, bounded, and never everybody's time.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::world::client::{GENERATIONS, until_method};
use super::world::provider::tool;
use super::world::{FakeServer, TestClient, World};

async fn paged(page: usize, tools: Vec<Value>) -> FakeServer {
    FakeServer::start_paged(&["2025-11-25"], page, tools).await
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_with_one_meaning_are_mended_and_others_left_out_with_a_reason() {
    let of = |name: &str, schema: Value| json!({ "name": name, "inputSchema": schema });
    let bad = paged(
        1_000,
        vec![
            tool("good"),
            json!({ "name": "missing" }),
            of("null", Value::Null),
            of("empty", json!({})),
            of("true", json!(true)),
            of("properties", json!({ "type": "object", "properties": null, "required": null })),
            of("union", json!({ "anyOf": [{ "type": "object" }] })),
            json!({ "name": "described", "description": null, "annotations": null, "inputSchema": { "type": "object" } }),
            of("text", json!("text")),
            of("number", json!({ "type": "number" })),
            of("list", json!({ "type": "object", "properties": ["a"] })),
            json!({ "inputSchema": { "type": "object" } }),
            json!("no object"),
        ],
    )
    .await;
    let world = World::builder().provider("bad", &bad).start().await;
    world.until_state("bad", "degraded").await;
    let reason = world.status("bad").await["reason"].to_string();
    for name in ["`text`", "`number`", "`list`"] {
        assert!(reason.contains(name), "{reason}");
    }
    for revision in GENERATIONS {
        for path in ["/tools", "/tools/bad"] {
            let peer = TestClient::connect(&world, path, revision).await;
            let list = peer.result("tools/list", json!({})).await;
            let tools = list["tools"].as_array().expect("tools");
            assert_eq!(tools.len(), 8, "{path}: {list}");
            for tool in tools {
                assert_eq!(tool["inputSchema"]["type"], "object", "{tool}");
                assert!(
                    tool["inputSchema"].get("properties").is_none_or(Value::is_object),
                    "{tool}"
                );
                assert!(
                    tool.as_object()
                        .expect("an object")
                        .values()
                        .all(|it| !it.is_null()),
                    "{tool}"
                );
            }
        }
        let relay = TestClient::connect(&world, "/relay/bad", "2025-11-25").await;
        let list = relay.result("tools/list", json!({})).await;
        assert_eq!(
            list["tools"].as_array().expect("tools").len(),
            13,
            "the relay is untouched"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_of_a_provider_is_bounded_in_bytes() {
    let large = |name: &str, bytes: usize| {
        let mut tool = tool(name);
        tool["description"] = json!("x".repeat(bytes));
        tool
    };
    let flood: Vec<Value> = (0..400).map(|at| large(&format!("t{at}"), 100_000)).collect();
    let flood = paged(20, flood).await;
    let huge = paged(1_000, vec![tool("echo"), large("huge", 2_000_000)]).await;
    let world = World::builder()
        .provider("flood", &flood)
        .provider("huge", &huge)
        .start()
        .await;
    world.until_state("flood", "degraded").await;
    world.until_state("huge", "degraded").await;
    for id in ["flood", "huge"] {
        assert!(world.status(id).await["reason"].to_string().contains("left out"));
    }
    let peer = TestClient::connect(&world, "/tools", "2025-11-25").await;
    let names = peer.tools().await;
    assert!(names.contains(&"huge__echo".to_owned()) && !names.contains(&"huge__huge".to_owned()));
    let kept = names.iter().filter(|name| name.starts_with("flood__")).count();
    assert!((1..=42).contains(&kept), "{kept} tools of 100 kB each");
    assert!(
        flood.seen("tools/list").len() < 20,
        "nothing is read that is not kept"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_provider_keeps_no_union_waiting_and_is_told_of_when_it_comes() {
    let (good, hanging) = (
        paged(1_000, vec![tool("echo")]).await,
        paged(1_000, vec![tool("late")]).await,
    );
    hanging.knobs.hangs.store(true, Ordering::Relaxed);
    let world = World::builder()
        .provider("good", &good)
        .provider("hanging", &hanging)
        .start()
        .await;
    world.until_state("good", "ready").await;
    // The provider answers nothing before its list was given: had anybody waited for it, this would
    // hang until the provider is given up, and the list would not be the same.
    let peer = TestClient::connect(&world, "/tools", "2025-11-25").await;
    assert_eq!(peer.tools().await, ["good__echo"]);
    let meta = TestClient::connect(&world, "/mcp", "2025-11-25").await;
    let list = meta.result("tools/list", json!({})).await;
    let names: Vec<&str> = list["tools"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|it| it["name"].as_str())
        .collect();
    assert_eq!(names, ["use_good", "use_hanging"]);
    assert!(
        list["tools"][1]["inputSchema"]["properties"]["tool"]
            .get("enum")
            .is_none()
    );
    assert_eq!(world.status("hanging").await["state"], "starting");
    for method in ["resources/list", "resources/templates/list", "prompts/list"] {
        peer.result(method, json!({})).await;
    }
    assert_eq!(
        peer.call("good__echo", json!({ "text": "x" })).await["content"][0]["text"],
        "echo: x"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_late_is_told_by_list_changed() {
    let (good, late) = (
        paged(1_000, vec![tool("echo")]).await,
        paged(1_000, vec![tool("late")]).await,
    );
    late.knobs.fails.store(true, Ordering::Relaxed);
    let world = World::builder()
        .provider("good", &good)
        .provider("late", &late)
        .start()
        .await;
    world.until_state("late", "unreachable").await;
    let peer = TestClient::connect(&world, "/tools", "2025-11-25").await;
    let mut stream = peer.stream().await;
    assert_eq!(peer.tools().await, ["good__echo"]);
    late.knobs.fails.store(false, Ordering::Relaxed);
    until_method(&mut stream, "notifications/tools/list_changed").await;
    world.until_state("late", "ready").await;
    assert_eq!(peer.tools().await, ["good__echo", "late__late"]);
}
