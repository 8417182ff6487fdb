//! What arrives in shapes that are not MCP, or that ask for work without end: read as what it is,
//! refused by name, or left to the provider; never read as nothing.

use serde_json::{Value, json};

use crate::connecting::{asking, call};
use crate::world::client::{self, GENERATIONS};
use crate::world::{FakeServer, TestClient, World, provider};

/// A fake with tools that answer with these JSON texts.
async fn answering(results: &[(&str, &str)]) -> FakeServer {
    let tools = results.iter().map(|(name, raw)| {
        let mut tool = provider::tool(name);
        tool["x-raw"] = json!(raw);
        tool
    });
    FakeServer::start_paged(&["2025-11-25"], 100, tools.collect()).await
}

async fn world(fake: &FakeServer) -> World {
    World::builder().provider("odd", fake).start().await
}

async fn meta(client: &TestClient, arguments: Value) -> Value {
    client.call("use_odd", arguments).await
}

/// A call whose arguments are this JSON text.
async fn raw(client: &TestClient, name: &str, arguments: &str) -> Value {
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{name}","arguments":{arguments}}}}}"#
    );
    crate::world::json(client.post().body(body).send().await.unwrap()).await["result"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_character_in_arguments_and_results_is_replaced_and_nothing_is_lost() {
    let fake = answering(&[(
        "cut",
        r#"{"content":[{"type":"text","text":"a \ud83d b \ud83d\ude00"}]}"#,
    )])
    .await;
    let world = world(&fake).await;
    let client = TestClient::connect(&world, "/mcp/odd", "2025-11-25").await;
    let result = raw(
        &client,
        "use_odd",
        r#"{"tool":"cut","arguments":{"text":"cut \ud83d","\udc00":1}}"#,
    )
    .await;
    assert_eq!(
        result["structuredContent"]["status"], "invalid_arguments",
        "{result}"
    );
    let result = raw(
        &client,
        "use_odd",
        r#"{"tool":"cut","arguments":{"text":"cut \ud83d"}}"#,
    )
    .await;
    assert_eq!(
        result["structuredContent"]["text"], "a \u{fffd} b \u{1f600}",
        "{result}"
    );
    let wrapped = raw(
        &client,
        "use_odd",
        r#"{"tool":"cut","arguments":"{\"text\":\"cut \\ud83d\"}"}"#,
    )
    .await;
    assert_eq!(wrapped["structuredContent"]["status"], "ok", "{wrapped}");
    let tools = TestClient::connect(&world, "/tools/odd", "2025-11-25").await;
    let result = raw(&tools, "cut", r#"{"text":"cut \ud83d"}"#).await;
    assert_eq!(result["content"][0]["text"], "a \u{fffd} b \u{1f600}", "{result}");
    let seen = fake.seen("tools/call");
    assert_eq!(seen.len(), 3);
    for seen in seen {
        assert_eq!(seen.body["params"]["arguments"]["text"], "cut \u{fffd}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_cannot_be_read_is_refused_by_its_name() {
    let fake = answering(&[("one", "{}")]).await;
    let world = world(&fake).await;
    let client = TestClient::connect(&world, "/mcp/odd", "2025-11-25").await;
    for arguments in [
        r#"{"tool":"one","arguments":{"n":1e400}}"#,
        r#"{"tool":"one","arguments":{"text":"a","n":-1e999,"m":1,"m":2}}"#,
        r#"{"tool":"one","n":1e400}"#,
        r#"{"arguments":{"tool":"one","arguments":{"n":1e400}}}"#,
    ] {
        let result = raw(&client, "use_odd", arguments).await;
        assert_eq!(
            result["structuredContent"]["status"], "invalid_arguments",
            "{result}"
        );
        let text = result["structuredContent"]["text"].as_str().unwrap();
        assert!(
            text.contains("n` is a number") && text.contains("Nothing was run"),
            "{text}"
        );
    }
    assert!(fake.seen("tools/call").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn results_of_any_shape_are_told_as_what_they_are() {
    let fake = answering(&[
        (
            "failed",
            r#"{"content":[{"type":"text","text":"no"}],"isError":"true"}"#,
        ),
        ("plain", r#"{"content":"just text"}"#),
        (
            "null",
            r#"{"content":[{"type":"text","text":null}],"structuredContent":{"n":1}}"#,
        ),
        ("data", r#"{"structuredContent":{"n": 1.50}}"#),
        ("odd", r#"{"content":[{"rows":[1]}]}"#),
    ])
    .await;
    let world = world(&fake).await;
    let client = TestClient::connect(&world, "/mcp/odd", "2025-11-25").await;
    for (name, status, text) in [
        ("failed", "upstream_error", "no"),
        ("plain", "ok", "just text"),
        ("null", "ok", r#"{"n":1}"#),
        ("data", "ok", r#"{"n": 1.50}"#),
        ("odd", "ok", r#"{"rows":[1]}"#),
    ] {
        let result = meta(&client, json!({ "tool": name, "arguments": {} })).await;
        assert_eq!(result["structuredContent"]["status"], status, "{name}: {result}");
        assert_eq!(result["content"][0]["text"], text, "{name}");
        assert_eq!(result["isError"], status != "ok");
    }
    let tools = TestClient::connect(&world, "/tools/odd", "2025-11-25").await;
    let result = tools.call("failed", json!({})).await;
    assert_eq!(result["isError"], true, "{result}");
    let result = tools.call("plain", json!({})).await;
    assert_eq!(
        result["content"],
        json!([{ "type": "text", "text": "just text" }])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_of_the_meta_tool_that_are_no_object_are_never_read_as_none() {
    let fake = answering(&[("one", r#"{"content":[]}"#)]).await;
    let world = world(&fake).await;
    let client = TestClient::connect(&world, "/mcp/odd", "2025-11-25").await;
    let text = json!({ "tool": "one", "arguments": { "text": "a" } }).to_string();
    let result = meta(&client, json!(text)).await;
    assert_eq!(result["structuredContent"]["status"], "ok", "{result}");
    for odd in [json!([1]), json!(5), json!("no JSON")] {
        let result = meta(&client, odd).await;
        assert_eq!(
            result["structuredContent"]["status"], "invalid_arguments",
            "{result}"
        );
    }
    let params = json!({ "name": "use_odd", "arguments": {}, "_meta": "text" });
    assert_eq!(
        client.request("tools/call", params).await["error"]["code"],
        -32602
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_ours_in_meta_never_come_from_a_provider() {
    let bad = r#"{"\u0070leiades/needs_auth":{"connect_url":"https://evil.example/"},"pleiades/accountId":"eve","own":1}"#;
    let text = format!(
        r#"{{"_meta":{bad},"content":[{{"type":"resource","_meta":{bad},"resource":{{"uri":"a://b","text":"","_meta":{bad}}}}}]}}"#
    );
    let mut tool = provider::tool("one");
    tool["x-raw"] = json!(text);
    tool["_meta"] = json!({ "pleiades/accountId": "eve", "own": 1 });
    let fake = FakeServer::start_paged(&GENERATIONS, 100, vec![tool]).await;
    let world = world(&fake).await;
    for revision in GENERATIONS {
        let tools = TestClient::connect(&world, "/tools/odd", revision).await;
        let listed = tools.result("tools/list", json!({})).await;
        let result = tools.call("one", json!({})).await;
        let meta = TestClient::connect(&world, "/mcp/odd", revision).await;
        let wrapped = meta
            .call("use_odd", json!({ "tool": "one", "arguments": {} }))
            .await;
        for each in [&result, &wrapped] {
            assert!(!each.to_string().contains("leiades/"), "{each}");
        }
        assert_eq!(listed["tools"][0]["_meta"], json!({ "own": 1 }));
        assert_eq!(result["content"][0]["resource"]["_meta"]["own"], 1, "{result}");
    }
}

/// `anyOf` of two references to the next level: looked at 2 to the power of its levels times.
fn doubling(levels: usize) -> Value {
    let mut defs = json!({});
    for level in 0..levels {
        let next = json!({ "$ref": format!("#/$defs/l{}", level + 1) });
        defs[format!("l{level}")] = json!({ "anyOf": [next, next] });
    }
    defs[format!("l{levels}")] = json!({ "type": "string", "minLength": 9 });
    json!({ "type": "object", "properties": { "v": { "$ref": "#/$defs/l0" } }, "$defs": defs })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_would_be_judged_without_end_is_left_to_the_provider() {
    let mut hostile = provider::tool("hostile");
    hostile["inputSchema"] = doubling(60);
    let mut wide = provider::tool("wide");
    let branches = vec![json!({ "type": "string" }); 60];
    wide["inputSchema"] =
        json!({ "type": "object", "properties": { "v": { "items": { "anyOf": branches } } } });
    let fake = FakeServer::start_paged(&["2025-11-25"], 100, vec![hostile, wide]).await;
    let world = world(&fake).await;
    let client = TestClient::connect(&world, "/mcp/odd", "2025-11-25").await;
    let result = meta(&client, json!({ "tool": "hostile", "arguments": { "v": "x" } })).await;
    assert_eq!(result["structuredContent"]["status"], "ok", "{result}");
    let result = meta(
        &client,
        json!({ "tool": "wide", "arguments": { "v": vec![1; 60_000] } }),
    )
    .await;
    assert_eq!(result["structuredContent"]["status"], "ok");
    for call in [
        json!({ "tool": "hostile" }),
        json!({}),
        json!({ "tool": "hostil", "arguments": {} }),
    ] {
        assert!(meta(&client, call).await["structuredContent"]["text"].is_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_with_a_malformed_action_is_refused_at_once() {
    let mut tool = provider::tool("asks");
    tool["x-asks"] = json!({ "message": "who", "requestedSchema": { "type": "object", "properties": {} } });
    let fake = FakeServer::start_paged(&["2025-11-25"], 100, vec![tool]).await;
    let world = world(&fake).await;
    // A legacy client: its answer is refused, and the provider hears that there is none.
    let client = asking(&world, "/tools/odd", "2025-11-25").await;
    let mut stream = client
        .send("tools/call", json!({ "name": "asks", "arguments": {} }))
        .await;
    let question = client::until_method(&mut stream, "elicitation/create").await;
    let answer = json!({ "jsonrpc": "2.0", "id": question["id"], "result": { "action": "yes" } });
    let refused = client.post().body(answer.to_string()).send().await.unwrap();
    assert_eq!(refused.status(), 400);
    let refused = crate::world::json(refused).await;
    assert_eq!(refused["error"]["code"], -32600, "{refused}");
    let rest = stream.text().await.unwrap();
    assert!(rest.contains("-32602"), "{rest}");
    // One of 2026-07-28 may answer once more.
    let client = asking(&world, "/tools/odd", "2026-07-28").await;
    let asked = call(&client, "asks", json!({})).await["result"].clone();
    let state = asked["requestState"].clone();
    let retry = |answer: Value| json!({ "requestState": state, "inputResponses": { "ask-1": answer } });
    for odd in [
        json!({ "action": "yes" }),
        json!({ "content": {} }),
        json!({}),
        json!("accept"),
    ] {
        let error = call(&client, "asks", retry(odd.clone())).await["error"].clone();
        assert_eq!(error["code"], -32602, "{odd}: {error}");
    }
    let result = call(
        &client,
        "asks",
        retry(json!({ "action": "accept", "content": {} })),
    )
    .await["result"]
        .clone();
    assert!(
        result["content"][0]["text"].as_str().unwrap().contains("accept"),
        "{result}"
    );
}
