//! Providers that show their own tools in the meta view (`facade.mode`), beside those that show one.

use serde_json::{Value, json};

use super::world::authorization::Authority;
use super::world::client::GENERATIONS;
use super::world::{FakeServer, TestClient, World, provider};

const DIRECT: &str = "auth: { none: {} }\nfacade: { mode: direct }\n";
const AUTO: &str = "auth: { none: {} }\nfacade: { mode: auto }\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_provider_s_tools_stand_in_the_meta_view_as_in_the_tool_view() {
    for revision in GENERATIONS {
        let (own, other) = (
            FakeServer::start(&[revision]).await,
            FakeServer::start(&[revision]).await,
        );
        let world = World::builder()
            .provider_with("own", &own, DIRECT)
            .provider("other", &other)
            .start()
            .await;
        world.until_state("own", "ready").await;
        world.until_state("other", "ready").await;
        let all = TestClient::connect(&world, "/mcp", revision).await;
        let names = all.tools().await;
        assert!(
            names.contains(&"use_other".to_owned()) && names.contains(&"own__echo".to_owned()),
            "{names:?}"
        );
        assert!(
            !names
                .iter()
                .any(|it| it == "use_own" || it.starts_with("other__")),
            "{names:?}"
        );
        let in_tool_view = TestClient::connect(&world, "/tools", revision)
            .await
            .tools()
            .await;
        let direct = names.iter().filter(|it| it.starts_with("own__"));
        assert!(direct.clone().count() > 0 && direct.clone().all(|it| in_tool_view.contains(it)));
        let result = all.call("own__echo", json!({ "text": "hi" })).await;
        assert!(!result["isError"].as_bool().unwrap_or(false), "{result}");
        assert!(result["structuredContent"].get("status").is_none(), "{result}");
        let refused = all
            .request("tools/call", json!({ "name": "other__echo", "arguments": {} }))
            .await;
        assert!(refused["error"].is_object(), "{refused}");
        let alone = TestClient::connect(&world, "/mcp/own", revision).await;
        assert!(alone.tools().await.contains(&"echo".to_owned()));
        let result = alone.call("echo", json!({ "text": "hi" })).await;
        assert!(result["content"].to_string().contains("hi"), "{result}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_provider_stands_beside_the_one_tool_for_all() {
    let (own, other) = (
        FakeServer::start(&["2025-11-25"]).await,
        FakeServer::start(&["2025-11-25"]).await,
    );
    let world = World::builder()
        .settings("facade: { single: true }\n")
        .provider_with("own", &own, DIRECT)
        .provider("other", &other)
        .start()
        .await;
    world.until_state("own", "ready").await;
    world.until_state("other", "ready").await;
    let client = TestClient::connect(&world, "/mcp", "2025-11-25").await;
    let listed = client.result("tools/list", json!({})).await;
    let tools = listed["tools"].as_array().expect("tools");
    let single = tools
        .iter()
        .find(|it| it["name"] == "use_pleiades")
        .expect("the one tool");
    assert_eq!(
        single["inputSchema"]["properties"]["provider"]["enum"],
        json!(["other"])
    );
    assert!(tools.iter().any(|it| it["name"] == "own__echo"), "{listed}");
    let result = client.call("own__echo", json!({ "text": "hi" })).await;
    assert!(result["content"].to_string().contains("hi"), "{result}");
    let call = json!({ "provider": "other", "tool": "echo", "arguments": { "text": "hi" } });
    let result = client.call("use_pleiades", call).await;
    assert_eq!(result["structuredContent"]["status"], "ok", "{result}");
}

#[tokio::test(flavor = "multi_thread")]
async fn by_size_few_tools_stand_for_themselves_and_many_behind_one() {
    let tools = |count: usize| -> Vec<Value> {
        let tool = |at: usize| {
            let mut tool = provider::tool(&format!("list_things_{at}"));
            tool["description"] = json!("What things there are, by kind, owner and age. ".repeat(4));
            tool
        };
        (0..count).map(tool).collect()
    };
    let few = FakeServer::start_paged(&["2025-11-25"], 50, tools(10)).await;
    let many = FakeServer::start_paged(&["2025-11-25"], 50, tools(40)).await;
    let world = World::builder()
        .provider_with("few", &few, AUTO)
        .provider_with("many", &many, AUTO)
        .start()
        .await;
    world.until_state("few", "ready").await;
    world.until_state("many", "ready").await;
    let names = TestClient::connect(&world, "/mcp", "2025-11-25")
        .await
        .tools()
        .await;
    assert!(
        names.contains(&"use_many".to_owned()) && names.contains(&"few__list_things_3".to_owned()),
        "{names:?}"
    );
    assert_eq!(names.len(), 11, "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_provider_that_is_not_connected_shows_the_tool_that_connects_it() {
    let authority = Authority::start(&["2025-11-25"]).await;
    let body = format!(
        "upstream: {{ url: \"{}\" }}\nauth: {{ oauth: {{}} }}\nfacade: {{ mode: direct }}\n",
        authority.resource
    );
    let world = World::builder().descriptor("tracker", &body).start().await;
    for (path, name) in [("/mcp", "tracker__connect"), ("/mcp/tracker", "connect")] {
        let client = TestClient::connect(&world, path, "2025-11-25").await;
        assert_eq!(client.tools().await, [name]);
        let result = client.call(name, json!({})).await;
        assert_eq!(result["structuredContent"]["status"], "needs_auth", "{result}");
    }
}
