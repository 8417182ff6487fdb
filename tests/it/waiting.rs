//! Calls that take long, and paths with a final slash.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::world::client::{GENERATIONS, events};
use super::world::{FakeServer, TestClient, World};

/// A call of `wait` on its way: what its head was, once it came.
fn call(client: TestClient, name: &'static str, arguments: Value) -> JoinHandle<reqwest::Response> {
    tokio::spawn(async move {
        let params = json!({ "name": name, "arguments": arguments });
        client.send("tools/call", params).await
    })
}

const VIEWS: [(&str, &str, bool); 2] = [("/tools/one", "wait", false), ("/mcp/one", "use_one", true)];

fn arguments(is_meta: bool) -> Value {
    if is_meta {
        json!({ "tool": "wait", "arguments": {} })
    } else {
        json!({})
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_call_opens_its_stream_where_the_client_takes_one() {
    let fake = FakeServer::start(&GENERATIONS).await;
    let world = World::builder().provider("one", &fake).start().await;
    world.until_state("one", "ready").await;
    let (mut streams, mut plain) = (Vec::new(), Vec::new());
    for (path, name, is_meta) in VIEWS {
        for revision in GENERATIONS {
            let client = TestClient::connect(&world, path, revision).await;
            streams.push(call(client, name, arguments(is_meta)));
            let mut without = TestClient::connect(&world, path, revision).await;
            without.session = None;
            streams.push(call(without, name, arguments(is_meta)));
        }
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": { "name": name, "arguments": arguments(is_meta) } });
        for accept in [
            "application/json",
            "application/json, text/event-stream;q=0",
            "*/*",
        ] {
            let request = world
                .http
                .post(format!("{}{path}", world.base))
                .header("content-type", "application/json")
                .header("accept", accept)
                .body(body.to_string());
            plain.push(tokio::spawn(async move { request.send().await.unwrap() }));
        }
    }
    let all = streams.len() + plain.len();
    world
        .until("the calls to arrive", || async {
            fake.knobs.waiting.load(Ordering::SeqCst) == all
        })
        .await;
    // The provider answers when it is told to, so that what comes before it is not an answer.
    let mut opened = Vec::new();
    for stream in streams {
        let mut response = stream.await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        let mut text = String::new();
        while !text.contains("\n:\n") && !text.starts_with(":\n") {
            let chunk = response.chunk().await.unwrap().expect("the stream stands");
            text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        opened.push(response);
    }
    assert_eq!(fake.knobs.waiting.load(Ordering::SeqCst), all);
    assert!(plain.iter().all(|waiting| !waiting.is_finished()));
    fake.knobs.release.notify_waiters();
    for response in opened {
        let last = events(&response.text().await.unwrap()).pop().unwrap();
        assert!(
            last["result"]["content"][0]["text"]
                .as_str()
                .unwrap()
                .contains("wait"),
            "{last}"
        );
    }
    for waiting in plain {
        let response = waiting.await.unwrap();
        assert_eq!(response.headers()["content-type"], "application/json");
        assert!(response.text().await.unwrap().contains("\"result\""));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_final_slash_names_the_same_path() {
    let fake = FakeServer::start(&GENERATIONS).await;
    let world = World::builder().provider("one", &fake).start().await;
    world.until_state("one", "ready").await;
    for path in ["/mcp", "/mcp/one", "/tools", "/tools/one", "/relay/one"] {
        for revision in GENERATIONS {
            let client = TestClient::connect(&world, path, revision).await;
            let mut slashed = TestClient::connect(&world, &format!("{path}/"), revision).await;
            assert_eq!(client.initialized, slashed.initialized, "{path}");
            assert_eq!(client.tools().await, slashed.tools().await, "{path}");
            // A session is that of the path, however it is written.
            slashed.session.clone_from(&client.session);
            slashed.result("tools/list", json!({})).await;
        }
    }
    for (path, status) in [
        ("/mcp//", 400),
        ("//mcp", 400),
        ("/mcp/one//", 400),
        ("/mcp/none/", 404),
        ("/relay/one/x/", 404),
    ] {
        let answer = world
            .http
            .get(format!("{}{path}", world.base))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), status, "{path}");
    }
    let health = world
        .http
        .get(format!("{}/health/", world.base))
        .send()
        .await
        .unwrap();
    assert_eq!(health.status(), 200);
}
