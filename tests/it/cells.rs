//! Clients of J, L and M in front of upstreams of J, L and M: every feature of this stage in all
//! nine cells of the meta and the tool view.

use serde_json::json;

use super::world::client::GENERATIONS;
use super::world::{FakeServer, TestClient, World};

async fn three() -> (World, Vec<FakeServer>) {
    let mut builder = World::builder();
    let mut fakes = Vec::new();
    for revision in GENERATIONS {
        let fake = FakeServer::start(&[revision]).await;
        builder = builder.provider(&id(revision), &fake);
        fakes.push(fake);
    }
    let world = builder.start().await;
    for revision in GENERATIONS {
        world.until_state(&id(revision), "ready").await;
    }
    (world, fakes)
}

fn id(revision: &str) -> String {
    format!("p{revision}")
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_are_listed_and_called_in_all_nine_cells_of_the_tool_view() {
    let (world, _fakes) = three().await;
    for client in GENERATIONS {
        for upstream in GENERATIONS {
            let peer = TestClient::connect(&world, &format!("/tools/{}", id(upstream)), client).await;
            assert!(
                peer.tools().await.contains(&"echo".to_owned()),
                "{client} -> {upstream}"
            );
            let result = peer.call("echo", json!({ "text": "hi" })).await;
            assert_eq!(result["content"][0]["text"], "echo: hi", "{client} -> {upstream}");
            assert_eq!(
                result.get("resultType").is_some(),
                peer.is_modern(),
                "{client} -> {upstream}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_meta_tool_runs_operations_in_all_nine_cells() {
    let (world, _fakes) = three().await;
    for client in GENERATIONS {
        for upstream in GENERATIONS {
            let peer = TestClient::connect(&world, &format!("/mcp/{}", id(upstream)), client).await;
            let name = format!("use_{}", id(upstream));
            assert_eq!(
                peer.tools().await,
                std::slice::from_ref(&name),
                "{client} -> {upstream}"
            );
            let result = peer
                .call(&name, json!({ "tool": "echo", "arguments": { "text": "hi" } }))
                .await;
            assert_eq!(
                result["structuredContent"]["status"], "ok",
                "{client} -> {upstream}: {result}"
            );
            assert_eq!(result["content"][0]["text"], "echo: hi", "{client} -> {upstream}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_templates_prompts_and_completion_work_in_all_nine_cells_of_both_views() {
    let (world, _fakes) = three().await;
    for view in ["mcp", "tools"] {
        for client in GENERATIONS {
            for upstream in GENERATIONS {
                let cell = format!("/{view}/ {client} -> {upstream}");
                let peer = TestClient::connect(&world, &format!("/{view}/{}", id(upstream)), client).await;
                assert_eq!(
                    peer.names("resources/list", "resources", "uri").await,
                    ["fake://text"],
                    "{cell}"
                );
                let templates = peer
                    .names("resources/templates/list", "resourceTemplates", "uriTemplate")
                    .await;
                assert_eq!(templates, ["fake://item/{id}"], "{cell}");
                assert_eq!(
                    peer.names("prompts/list", "prompts", "name").await,
                    ["greet"],
                    "{cell}"
                );
                let read = peer
                    .result("resources/read", json!({ "uri": "fake://item/7" }))
                    .await;
                assert_eq!(read["contents"][0]["text"], "text of fake://item/7", "{cell}");
                let prompt = json!({ "name": "greet", "arguments": { "who": "you" } });
                let prompt = peer.result("prompts/get", prompt).await;
                assert_eq!(
                    prompt["messages"][0]["content"]["text"], "hello \"you\"",
                    "{cell}"
                );
                let reference = json!({ "type": "ref/prompt", "name": "greet" });
                let asked = json!({ "ref": reference, "argument": { "name": "who", "value": "o" } });
                let completed = peer.result("completion/complete", asked).await;
                assert_eq!(completed["completion"]["values"], json!(["one", "two"]), "{cell}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_fields_of_results_and_entries_survive_every_cell() {
    let (world, _fakes) = three().await;
    for client in GENERATIONS {
        for upstream in GENERATIONS {
            let peer = TestClient::connect(&world, &format!("/tools/{}", id(upstream)), client).await;
            let list = peer.result("tools/list", json!({})).await;
            assert_eq!(
                list["tools"][0]["x-unknown"],
                json!({ "kept": [1, 2] }),
                "{client} -> {upstream}"
            );
            let result = peer.call("echo", json!({ "text": "" })).await;
            assert_eq!(
                result["x-unknown"],
                json!({ "deep": [null] }),
                "{client} -> {upstream}"
            );
            assert_eq!(
                result["content"][0]["x-unknown"], "kept",
                "{client} -> {upstream}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_resource_has_the_code_of_the_clients_revision() {
    let (world, _fakes) = three().await;
    for client in GENERATIONS {
        for upstream in GENERATIONS {
            let peer = TestClient::connect(&world, &format!("/tools/{}", id(upstream)), client).await;
            let answer = peer
                .request("resources/read", json!({ "uri": "fake://none" }))
                .await;
            let code = answer["error"]["code"].as_i64().unwrap();
            if peer.is_modern() {
                assert_eq!(code, -32602, "{client} -> {upstream}");
            } else {
                assert_eq!(code, -32002, "{client} -> {upstream}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_of_equal_eras_reaches_the_caller_under_its_own_token() {
    let (world, _fakes) = three().await;
    for revision in GENERATIONS {
        let peer = TestClient::connect(&world, &format!("/tools/{}", id(revision)), revision).await;
        let params = json!({ "name": "progress", "arguments": {}, "_meta": { "progressToken": "mine" } });
        let messages = peer.streamed("tools/call", params).await;
        let steps: Vec<i64> = messages
            .iter()
            .filter(|message| message["method"] == "notifications/progress")
            .inspect(|message| assert_eq!(message["params"]["progressToken"], "mine"))
            .map(|message| message["params"]["progress"].as_i64().unwrap())
            .collect();
        assert_eq!(steps, [1, 2, 3], "{revision}");
        assert!(messages.last().unwrap()["result"].is_object(), "{revision}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_negotiates_with_us_alone() {
    let (world, _fakes) = three().await;
    for (client, upstream) in [("2025-06-18", "2026-07-28"), ("2025-11-25", "2025-06-18")] {
        let peer = TestClient::connect(&world, &format!("/tools/{}", id(upstream)), client).await;
        assert_eq!(peer.initialized["protocolVersion"], client);
    }
    let peer = TestClient::connect(&world, "/mcp", "2026-07-28").await;
    assert_eq!(
        peer.initialized["supportedVersions"],
        json!(["2026-07-28", "2025-11-25", "2025-06-18"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_era_is_spoken_upstream_when_the_upstream_has_it() {
    let fake = FakeServer::start(&GENERATIONS).await;
    let world = World::builder().provider("all", &fake).start().await;
    world.until_state("all", "ready").await;
    for revision in GENERATIONS {
        fake.knobs.seen.lock().clear();
        let peer = TestClient::connect(&world, "/tools/all", revision).await;
        peer.call("echo", json!({ "text": revision })).await;
        let call = &fake.seen("tools/call")[0];
        assert_eq!(call.headers["mcp-protocol-version"], revision);
        let modern = call.body["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"].is_string();
        assert_eq!(modern, peer.is_modern());
    }
}
