//! URIs of resources in the unions: every one that a client is given can be read there, and reaches
//! the provider it came from.

use serde_json::{Value, json};

use super::world::client::GENERATIONS;
use super::world::provider::tool;
use super::world::{FakeServer, TestClient, World};

/// Two providers of the same resources, each of its own revision.
async fn twins(revision: &'static str) -> (World, FakeServer, FakeServer) {
    let mut shown = tool("link");
    shown["_meta"] = json!({ "ui": { "resourceUri": "ui://app/page", "csp": {} }, "own": 1 });
    let one = FakeServer::start_paged(&[revision], 100, vec![shown.clone()]).await;
    let two = FakeServer::start_paged(&["2025-11-25"], 100, vec![shown]).await;
    let world = World::builder()
        .provider("one", &one)
        .provider("two", &two)
        .start()
        .await;
    world.until_state("one", "ready").await;
    world.until_state("two", "ready").await;
    (world, one, two)
}

/// Reads a URI, sees that it comes back as asked, and that `two` was asked for its own.
async fn reads_from_two(peer: &TestClient, uri: &str, inner: &str, one: &FakeServer, two: &FakeServer) {
    two.knobs.seen.lock().clear();
    let read = peer.result("resources/read", json!({ "uri": uri })).await;
    assert_eq!(read["contents"][0]["uri"], uri);
    assert_eq!(two.seen("resources/read")[0].body["params"]["uri"], inner);
    assert!(one.seen("resources/read").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_in_a_tools_result_is_read_through_the_union_from_the_provider_that_gave_it() {
    for revision in GENERATIONS {
        let (world, one, two) = twins(revision).await;
        for client in GENERATIONS {
            for (path, name) in [("/tools", "two__link"), ("/mcp", "use_two")] {
                let peer = TestClient::connect(&world, path, client).await;
                for inner in ["fake://text", "fake://item/7", "fake://unlisted"] {
                    let arguments = match path {
                        "/mcp" => json!({ "tool": "link", "arguments": { "text": inner } }),
                        _ => json!({ "text": inner }),
                    };
                    let result = peer.call(name, arguments).await;
                    let blocks: &Vec<Value> = result["content"].as_array().unwrap();
                    let at = blocks
                        .iter()
                        .position(|it| it["type"] == "resource_link")
                        .unwrap();
                    let link = blocks[at]["uri"].as_str().unwrap();
                    assert_eq!(blocks[at + 1]["resource"]["uri"], link);
                    assert_eq!(blocks[at]["x-unknown"], 1);
                    reads_from_two(&peer, link, inner, &one, &two).await;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prompts_templates_and_apps_of_a_union_lead_to_their_provider() {
    let (world, one, two) = twins("2026-07-28").await;
    for client in GENERATIONS {
        let peer = TestClient::connect(&world, "/tools", client).await;
        let prompt = json!({ "name": "two__greet", "arguments": { "who": "x" } });
        let prompt = peer.result("prompts/get", prompt).await;
        let embedded = prompt["messages"][1]["content"]["resource"]["uri"]
            .as_str()
            .unwrap()
            .to_owned();
        reads_from_two(&peer, &embedded, "fake://text", &one, &two).await;

        let templates = peer
            .names("resources/templates/list", "resourceTemplates", "uriTemplate")
            .await;
        let template = templates.iter().find(|it| it.contains("two")).unwrap();
        reads_from_two(&peer, &template.replace("{id}", "9"), "fake://item/9", &one, &two).await;
        let asked = json!({ "ref": { "type": "ref/resource", "uri": template }, "argument": { "name": "id", "value": "" } });
        peer.result("completion/complete", asked).await;
        let completed = &two.seen("completion/complete")[0].body;
        assert_eq!(completed["params"]["ref"]["uri"], "fake://item/{id}");
        assert!(one.seen("completion/complete").is_empty());

        let list = peer.result("tools/list", json!({})).await;
        let mut tools = list["tools"].as_array().unwrap().iter();
        let meta = &tools.find(|it| it["name"] == "two__link").unwrap()["_meta"];
        let page = meta["ui"]["resourceUri"].as_str().unwrap();
        assert!(page.starts_with("ui://"), "hosts of apps take no other scheme");
        assert_eq!((&meta["own"], &meta["ui"]["csp"]), (&json!(1), &json!({})));
        let result = peer.call("two__link", json!({ "text": "fake://text" })).await;
        assert_eq!(result["_meta"]["ui"]["resourceUri"], page);
        reads_from_two(&peer, page, "ui://app/page", &one, &two).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_provider_alone_keeps_its_uris_and_so_does_a_union_without_doubt() {
    let (world, _one, _two) = twins("2025-06-18").await;
    let single = World::builder().provider("one", &_one).start().await;
    single.until_state("one", "ready").await;
    for client in GENERATIONS {
        for (world, path, name) in [
            (&world, "/tools/two", "link"),
            (&single, "/tools", "one__link"),
            (&single, "/tools/one", "link"),
        ] {
            let peer = TestClient::connect(world, path, client).await;
            let result = peer.call(name, json!({ "text": "fake://item/7" })).await;
            assert_eq!(result["content"][0]["uri"], "fake://item/7", "{path}");
            let read = peer
                .result("resources/read", json!({ "uri": "fake://item/7" }))
                .await;
            assert_eq!(read["contents"][0]["uri"], "fake://item/7", "{path}");
            assert_eq!(
                peer.names("resources/list", "resources", "uri").await,
                ["fake://text"]
            );
        }
        let own = TestClient::connect(&world, "/tools/two", client).await;
        let list = own.result("tools/list", json!({})).await;
        assert_eq!(list["tools"][0]["_meta"]["ui"]["resourceUri"], "ui://app/page");
    }
}
