//! Callers without an account: how each generation of client is told to connect, and what nobody
//! sees before.

use serde_json::{Value, json};

use crate::world::client::GENERATIONS;
use crate::world::{FakeServer, TestClient, World};

const OAUTH: &str = "title: Tracker\nabout: issues\nauth: { oauth: {} }\n";
const URL: &str = "elicitation";

fn capabilities() -> Value {
    json!({ URL: { "form": {}, "url": {} } })
}

/// A client that can be asked to open an address.
pub async fn asking(world: &World, path: &str, revision: &'static str) -> TestClient {
    let mut client = TestClient::connect(world, path, revision).await;
    if !client.is_modern() {
        client.session = None;
        let params = json!({
            "protocolVersion": revision, "capabilities": capabilities(),
            "clientInfo": { "name": "test", "version": "0" }
        });
        let response = client.send("initialize", params).await;
        let session = response.headers().get("mcp-session-id");
        client.session = session.map(|value| value.to_str().unwrap().to_owned());
        client.notify("notifications/initialized", json!({})).await;
    }
    client
}

/// A call of a client that can be asked.
pub async fn call(client: &TestClient, name: &str, mut more: Value) -> Value {
    more["name"] = json!(name);
    if more.get("arguments").is_none() {
        more["arguments"] = json!({});
    }
    if client.is_modern() {
        more["_meta"] = json!({ "io.modelcontextprotocol/clientCapabilities": capabilities() });
    }
    client.request("tools/call", more).await
}

fn is_invitation(data: &Value) {
    let url = data["connect_url"].as_str().unwrap();
    assert!(url.contains("/oauth/connect/"), "{data}");
    assert!(data["connection_id"].is_string(), "{data}");
    assert_eq!(data["provider_id"], "tracker");
    assert_eq!(data["reason"], "never_connected");
}

async fn world(fake: &FakeServer) -> World {
    World::builder()
        .provider_with("tracker", fake, OAUTH)
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_cannot_be_asked_are_told_in_the_answer() {
    let fake = FakeServer::start(&GENERATIONS).await;
    let world = world(&fake).await;
    for revision in GENERATIONS {
        for (path, name) in [
            ("/mcp/tracker", "use_tracker"),
            ("/tools/tracker", "connect"),
            ("/tools", "tracker__connect"),
            ("/tools", "tracker__whatever"),
        ] {
            let client = TestClient::connect(&world, path, revision).await;
            let result = client.call(name, json!({})).await;
            assert_eq!(result["isError"], true, "{revision} {path}: {result}");
            let answer = &result["structuredContent"];
            assert_eq!(answer["status"], "needs_auth");
            is_invitation(&answer["data"]);
            let text = result["content"][0]["text"].as_str().unwrap();
            assert!(
                text.contains(answer["data"]["connect_url"].as_str().unwrap()),
                "{text}"
            );
            assert!(
                text.contains("Tracker") && text.contains("no account of yours is connected"),
                "{text}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_2025_11_25_that_declared_it_is_asked_by_an_error() {
    let fake = FakeServer::start(&GENERATIONS).await;
    let world = world(&fake).await;
    for (path, name) in [("/mcp/tracker", "use_tracker"), ("/tools/tracker", "connect")] {
        let client = asking(&world, path, "2025-11-25").await;
        let error = call(&client, name, json!({})).await["error"].clone();
        assert_eq!(error["code"], -32042, "{error}");
        is_invitation(&error["data"]);
        let asked = &error["data"]["elicitations"][0];
        assert_eq!(asked["mode"], "url");
        assert_eq!(asked["url"], error["data"]["connect_url"]);
        assert!(asked["elicitationId"].as_str().is_some_and(|id| !id.is_empty()));
        let message = asked["message"].as_str().unwrap();
        assert!(
            message.contains("Tracker") && message.contains("pleiades"),
            "{message}"
        );
        let error = client.request("prompts/get", json!({ "name": "x" })).await["error"].clone();
        assert_eq!(error["code"], -32042, "{error}");
    }
    // Its predecessor knows no addresses, whatever is declared.
    let client = asking(&world, "/tools/tracker", "2025-06-18").await;
    let result = call(&client, "connect", json!({})).await["result"].clone();
    assert_eq!(result["structuredContent"]["status"], "needs_auth");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_2026_07_28_that_declared_it_is_asked_by_a_result() {
    let fake = FakeServer::start(&GENERATIONS).await;
    let world = world(&fake).await;
    for (path, name) in [("/mcp/tracker", "use_tracker"), ("/tools/tracker", "connect")] {
        let client = asking(&world, path, "2026-07-28").await;
        let result = call(&client, name, json!({})).await["result"].clone();
        assert_eq!(result["resultType"], "input_required", "{result}");
        let asked = &result["inputRequests"]["connect"];
        assert_eq!(asked["method"], "elicitation/create");
        assert_eq!(asked["params"]["mode"], "url");
        assert!(asked["params"].get("elicitationId").is_none());
        is_invitation(&result["_meta"]["pleiades/needs_auth"]);
        let state = result["requestState"].clone();
        for action in [json!("yes"), json!(true), json!(null), json!({})] {
            let retry =
                json!({ "requestState": state, "inputResponses": { "connect": { "action": action } } });
            let error = call(&client, name, retry).await["error"].clone();
            assert_eq!(error["code"], -32602, "{action}: {error}");
            assert!(error["message"].as_str().unwrap().contains("decline"), "{error}");
        }
        for action in ["decline", "cancel"] {
            let responses = json!({ "connect": { "action": action } });
            let retry = json!({ "requestState": state, "inputResponses": responses });
            let result = call(&client, name, retry).await["result"].clone();
            assert_eq!(result["isError"], true, "{result}");
            assert_eq!(result["structuredContent"]["status"], "needs_auth");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_provider_shows_before_it_is_connected() {
    let fake = FakeServer::start(&GENERATIONS).await;
    let world = world(&fake).await;
    for revision in GENERATIONS {
        let meta = TestClient::connect(&world, "/mcp/tracker", revision).await;
        let tools = meta.result("tools/list", json!({})).await["tools"].clone();
        assert!(
            tools[0]["inputSchema"]["properties"]["tool"]
                .get("enum")
                .is_none(),
            "{tools}"
        );
        assert!(
            tools[0]["description"].as_str().unwrap().contains("connected"),
            "{tools}"
        );
        let alone = TestClient::connect(&world, "/tools/tracker", revision).await;
        assert_eq!(alone.tools().await, ["connect"]);
        assert!(alone.initialized.get("instructions").is_none());
        for (method, list) in [
            ("resources/list", "resources"),
            ("resources/templates/list", "resourceTemplates"),
            ("prompts/list", "prompts"),
        ] {
            let result = alone.result(method, json!({})).await;
            assert_eq!(result[list], json!([]), "{method}");
        }
        let union = TestClient::connect(&world, "/tools", revision).await;
        assert_eq!(union.tools().await, ["tracker__connect"]);
    }
    let status = world.status("tracker").await;
    assert_eq!(status["state"], "needs_auth");
    assert_eq!(status["tools"], 0);
    assert_eq!(status["eras"], json!([]));
    assert_eq!(status["accounts"], json!({}));
    assert_eq!(fake.seen("tools/list").len(), 0);
}
