//! Limits, keys, and what the listener refuses.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::world::client::GENERATIONS;
use super::world::{self, FakeServer, TestClient, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_is_readable_in_the_views_and_429_on_the_relay() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let rest = "auth: { none: {} }\nlimits: { rate: [{ per: caller, requests: 1, every: 1h }] }\n";
    let world = World::builder().provider_with("one", &fake, rest).start().await;
    world.until_state("one", "ready").await;
    let tool = TestClient::connect(&world, "/tools/one", "2025-11-25").await;
    tool.call("echo", json!({ "text": "x" })).await;
    let refused = tool.call("echo", json!({ "text": "x" })).await;
    assert_eq!(refused["isError"], true);
    assert_eq!(refused["structuredContent"]["status"], "rate_limited");
    assert_eq!(refused["structuredContent"]["data"]["rule"], "rate_caller");
    let meta = TestClient::connect(&world, "/mcp/one", "2026-07-28").await;
    let refused = meta
        .call("use_one", json!({ "tool": "echo", "arguments": { "text": "x" } }))
        .await;
    assert_eq!(refused["structuredContent"]["status"], "rate_limited");
    let relay = TestClient::connect(&world, "/relay/one", "2025-11-25");
    drop(relay);
    let answer = world
        .http
        .post(format!("{}/relay/one", world.base))
        .header("content-type", "application/json")
        .body(r#"{"jsonrpc":"2.0","id":5,"method":"ping"}"#)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 429);
    assert!(
        answer.headers()["retry-after"]
            .to_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
            > 0
    );
    let body: Value = world::json(answer).await;
    assert_eq!(body["id"], 5);
    assert!(
        world
            .metrics()
            .await
            .contains("pleiades_limited_total{provider=\"one\",rule=\"rate_caller\"}")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_breaker_opens_after_failures_and_closes_when_the_provider_is_back() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let rest = "auth: { none: {} }\nlimits: { breaker: { failures: 2, within: 1m, open_for: 1s } }\n";
    let world = World::builder().provider_with("one", &fake, rest).start().await;
    world.until_state("one", "ready").await;
    let peer = TestClient::connect(&world, "/tools/one", "2025-11-25").await;
    peer.call("echo", json!({ "text": "x" })).await;
    fake.knobs.fails.store(true, Ordering::Relaxed);
    for _ in 0..2 {
        assert_eq!(
            peer.call("echo", json!({ "text": "x" })).await["structuredContent"]["status"],
            "upstream_error"
        );
    }
    let refused = peer.call("echo", json!({ "text": "x" })).await;
    assert_eq!(
        refused["structuredContent"]["data"]["rule"], "breaker",
        "{refused}"
    );
    assert!(
        world
            .metrics()
            .await
            .contains("pleiades_breaker_state{provider=\"one\"} 2")
    );
    fake.knobs.fails.store(false, Ordering::Relaxed);
    world
        .until("the breaker to close", || async {
            peer.call("echo", json!({ "text": "x" })).await["isError"] != true
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrency_is_bounded() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let rest = "auth: { none: {} }\nlimits: { concurrency: 1 }\n";
    let world = World::builder().provider_with("one", &fake, rest).start().await;
    world.until_state("one", "ready").await;
    let peer = std::sync::Arc::new(TestClient::connect(&world, "/tools/one", "2025-11-25").await);
    let first = std::sync::Arc::clone(&peer);
    let running = tokio::spawn(async move { first.call("wait", json!({})).await });
    world
        .until("the call to arrive", || async {
            fake.knobs.waiting.load(Ordering::SeqCst) == 1
        })
        .await;
    let refused = peer.call("echo", json!({ "text": "x" })).await;
    assert_eq!(refused["structuredContent"]["data"]["rule"], "concurrency");
    fake.knobs.release.notify_waiters();
    running.await.unwrap();
    assert_ne!(peer.call("echo", json!({ "text": "x" })).await["isError"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_key_is_asked_for_by_header_and_variable_then_passed_on_and_nowhere_else() {
    let (keyed, other) = (
        FakeServer::start(&["2025-11-25"]).await,
        FakeServer::start(&["2025-11-25"]).await,
    );
    let rest = "auth: { client_key: { headers: [x-openai-key], env: OPENAI_API_KEY, forward_as: Authorization, prefix: \"Bearer \", companions: { x-openai-org: OpenAI-Organization } } }\n";
    let world = World::builder()
        .provider_with("keyed", &keyed, rest)
        .provider("other", &other)
        .start()
        .await;
    world.until_state("other", "ready").await;
    for revision in GENERATIONS {
        let bare = TestClient::connect(&world, "/mcp/keyed", revision).await;
        let answer = bare
            .call(
                "use_keyed",
                json!({ "tool": "echo", "arguments": { "text": "x" } }),
            )
            .await;
        let envelope = &answer["structuredContent"];
        assert_eq!(envelope["status"], "needs_auth", "{answer}");
        let text = envelope["text"].as_str().unwrap();
        assert!(
            text.contains("x-openai-key") && text.contains("OPENAI_API_KEY"),
            "{text}"
        );
        let tools = TestClient::connect(&world, "/tools/keyed", revision).await;
        assert_eq!(tools.tools().await, ["connect"]);
        assert_eq!(
            tools.call("connect", json!({})).await["structuredContent"]["status"],
            "needs_auth"
        );
        let key = [("x-openai-key", "caller-key"), ("x-openai-org", "org-1")];
        let own = TestClient::connect_with(&world, "/tools", revision, &key).await;
        own.call("keyed__echo", json!({ "text": "x" })).await;
        own.call("other__echo", json!({ "text": "x" })).await;
        assert!(!own.tools().await.contains(&"keyed__connect".to_owned()));
    }
    let call = keyed.seen("tools/call").pop().unwrap();
    assert_eq!(call.headers["authorization"], "Bearer caller-key");
    assert_eq!(call.headers["openai-organization"], "org-1");
    assert!(call.headers.get("x-openai-key").is_none());
    for seen in other.knobs.seen.lock().iter() {
        assert!(!format!("{:?}", seen.headers).contains("caller-key"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_key_goes_upstream_and_is_told_to_nobody() {
    let fake = FakeServer::start(&["2026-07-28"]).await;
    let rest = "auth: { api_key: { header: X-Key, prefix: \"k \", value: \"${THE_KEY}\" } }\n";
    let world = World::builder()
        .provider_with("one", &fake, rest)
        .env("THE_KEY", "operator-key")
        .start()
        .await;
    world.until_state("one", "ready").await;
    TestClient::connect(&world, "/relay/one", "2026-07-28")
        .await
        .call("echo", json!({ "text": "x" }))
        .await;
    TestClient::connect(&world, "/tools/one", "2025-06-18")
        .await
        .call("echo", json!({ "text": "x" }))
        .await;
    for call in fake.seen("tools/call") {
        assert_eq!(call.headers["x-key"], "k operator-key");
    }
    let page = world
        .http
        .get(format!("{}/providers", world.admin))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(!page.contains("operator-key") && !world.metrics().await.contains("operator-key"));
}

/// Sends bytes and reads the status line and headers of the answer.
fn raw(world: &World, request: &str) -> String {
    let mut stream = TcpStream::connect(world.base.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(world::GUARD)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = [0; 4_096];
    let read = stream.read(&mut answer).unwrap_or(0);
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_hosts_and_origins_and_ambiguous_requests_are_refused() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder().provider("one", &fake).start().await;
    let host = world.base.trim_start_matches("http://").to_owned();
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let post = |path: &str, headers: &str| {
        let length = body.len();
        format!(
            "POST {path} HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{headers}\r\n\r\n{body}"
        )
    };
    let ours = format!("Host: {host}");
    let cases = [
        (post("/mcp", &ours), "200"),
        (post("/mcp", &format!("{ours}\r\nOrigin: http://{host}")), "200"),
        (post("/mcp", "Host: evil.example"), "403"),
        (
            post("/mcp", &format!("{ours}\r\nOrigin: http://evil.example")),
            "403",
        ),
        (
            post("/mcp", &format!("{ours}\r\nTransfer-Encoding: chunked")),
            "400",
        ),
        (post("/mcp", &format!("{ours}\r\n{ours}")), "400"),
        (post("http://evil.example/mcp", &ours), "400"),
        (post("/tools/../mcp", &ours), "400"),
        (post("/tools%2fone", &ours), "400"),
        (post("/nothing", &ours), "404"),
        (post("/mcp/none", &ours), "404"),
        (post(&format!("/mcp?{}", "x".repeat(9_000)), &ours), "414"),
        (
            post("/mcp", &format!("{ours}\r\nX-Big: {}", "x".repeat(70_000))),
            "431",
        ),
        (format!("GET /mcp HTTP/1.1\r\n{ours}\r\n\r\n"), "405"),
        (
            format!("PUT /mcp HTTP/1.1\r\n{ours}\r\nContent-Length: 0\r\n\r\n"),
            "405",
        ),
    ];
    for (request, status) in cases {
        let answer = raw(&world, &request);
        let head: String = request.chars().take(120).collect();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{head:?} -> {answer}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_none_are_refused_with_a_json_rpc_error() {
    let world = World::builder().start().await;
    let url = format!("{}/mcp", world.base);
    let cases = [
        ("application/json", "{", 400, -32700),
        ("application/json", "[]", 400, -32600),
        (
            "application/json",
            r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#,
            400,
            -32600,
        ),
        (
            "application/json",
            r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#,
            400,
            -32600,
        ),
        (
            "application/json",
            r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
            400,
            -32600,
        ),
        (
            "application/json",
            r#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#,
            400,
            -32600,
        ),
        (
            "application/json",
            r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#,
            400,
            -32600,
        ),
        ("text/plain", "{}", 415, 415),
    ];
    for (kind, body, status, code) in cases {
        let answer = world
            .http
            .post(&url)
            .header("content-type", kind)
            .body(body)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), status, "{body}");
        let error: Value = world::json(answer).await;
        assert_eq!(error["error"]["code"], code, "{body}: {error}");
    }
    let deep = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":{}{}}}",
        "{\"a\":".repeat(200),
        "1".to_owned() + &"}".repeat(200)
    );
    let answer = world
        .http
        .post(&url)
        .header("content-type", "application/json")
        .body(deep)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 400);
    let big = vec![b' '; 9 << 20];
    let answer = world
        .http
        .post(&url)
        .header("content-type", "application/json")
        .body(big)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 413);
    let picky = world
        .http
        .post(&url)
        .header("content-type", "application/json")
        .header("accept", "text/html");
    assert_eq!(
        picky
            .body(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#)
            .send()
            .await
            .unwrap()
            .status(),
        406
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn modern_requests_whose_headers_disagree_with_the_body_are_refused() {
    let fake = FakeServer::start(&["2026-07-28"]).await;
    let world = World::builder().provider("one", &fake).start().await;
    world.until_state("one", "ready").await;
    let peer = TestClient::connect(&world, "/tools/one", "2026-07-28").await;
    let meta = json!({ "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {} });
    let call = json!({ "jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": { "name": "region", "arguments": { "region": "eu" }, "_meta": meta } });
    let cases: [(&[(&str, &str)], i64); 5] = [
        (
            &[
                ("mcp-method", "tools/call"),
                ("mcp-name", "region"),
                ("mcp-param-region", "eu"),
            ],
            0,
        ),
        (&[("mcp-name", "region"), ("mcp-param-region", "eu")], -32020),
        (
            &[
                ("mcp-method", "tools/list"),
                ("mcp-name", "region"),
                ("mcp-param-region", "eu"),
            ],
            -32020,
        ),
        (
            &[
                ("mcp-method", "tools/call"),
                ("mcp-name", "other"),
                ("mcp-param-region", "eu"),
            ],
            -32020,
        ),
        (&[("mcp-method", "tools/call"), ("mcp-name", "region")], -32020),
    ];
    for (headers, code) in cases {
        let mut request = peer.post();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.body(call.to_string()).send().await.unwrap();
        assert_eq!(answer.status(), if code == 0 { 200 } else { 400 }, "{headers:?}");
        let body = world::json(answer).await;
        assert_eq!(body["error"]["code"].as_i64().unwrap_or(0), code, "{headers:?}");
        assert_eq!(body["id"], 9);
    }
    let region = fake.seen("tools/call").pop().unwrap();
    assert_eq!(region.headers["mcp-param-region"], "eu");
    let legacy = TestClient::connect(&world, "/tools/one", "2025-11-25").await;
    legacy.call("region", json!({ "region": "Zürich" })).await;
    let mirrored = fake.seen("tools/call").pop().unwrap().headers["mcp-param-region"].clone();
    assert!(mirrored.to_str().unwrap().starts_with("=?base64?"));
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_methods_and_revisions_are_refused_as_each_revision_wants() {
    let world = World::builder().start().await;
    let modern = TestClient::connect(&world, "/mcp", "2026-07-28").await;
    for method in ["initialize", "ping", "logging/setLevel", "no/such"] {
        let answer = modern.send(method, json!({})).await;
        assert_eq!(answer.status(), 404, "{method}");
        assert_eq!(world::json(answer).await["error"]["code"], -32601, "{method}");
    }
    let legacy = TestClient::connect(&world, "/mcp", "2025-11-25").await;
    let answer = legacy.send("no/such", json!({})).await;
    assert_eq!(answer.status(), 200);
    let unknown = world
        .http
        .post(format!("{}/mcp", world.base))
        .header("content-type", "application/json")
        .header("mcp-protocol-version", "2099-01-01")
        .body(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2099-01-01","io.modelcontextprotocol/clientCapabilities":{}}}}"#)
        .send()
        .await
        .unwrap();
    assert_eq!(unknown.status(), 400);
    let error = world::json(unknown).await;
    assert_eq!(error["error"]["code"], -32022);
    assert_eq!(error["error"]["data"]["supported"][0], "2026-07-28");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_end_on_delete_and_strangers_are_unknown() {
    let world = World::builder().start().await;
    let mut peer = TestClient::connect(&world, "/mcp", "2025-11-25").await;
    assert_eq!(peer.send("ping", json!({})).await.status(), 200);
    assert_eq!(peer.delete().await.status(), 204);
    assert_eq!(peer.send("ping", json!({})).await.status(), 404);
    peer.session = Some("made-up".to_owned());
    assert_eq!(peer.send("ping", json!({})).await.status(), 404);
    assert_eq!(peer.stream().await.status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preflight_is_answered_for_our_origins_only() {
    let world = World::builder()
        .settings("origins: [\"https://app.example\"]\n")
        .start()
        .await;
    let ask = |origin: &str| {
        world
            .http
            .request(reqwest::Method::OPTIONS, format!("{}/mcp", world.base))
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "mcp-session-id")
            .send()
    };
    let ours = ask("https://app.example").await.unwrap();
    assert_eq!(ours.status(), 204);
    assert_eq!(
        ours.headers()["access-control-allow-origin"],
        "https://app.example"
    );
    let foreign = ask("https://evil.example").await.unwrap();
    assert_eq!(foreign.status(), 403);
    assert!(
        foreign
            .headers()
            .keys()
            .all(|name| !name.as_str().starts_with("access-control"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn trace_context_of_header_or_meta_goes_on_upstream() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder().provider("one", &fake).start().await;
    world.until_state("one", "ready").await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let peer = TestClient::connect_with(&world, "/tools/one", "2025-11-25", &[("traceparent", trace)]).await;
    peer.call("echo", json!({ "text": "x" })).await;
    let other = "00-11111111111111111111111111111111-b7ad6b7169203331-01";
    let params = json!({ "name": "echo", "arguments": { "text": "x" }, "_meta": { "traceparent": other } });
    peer.result("tools/call", params).await;
    let traces: Vec<String> = fake
        .seen("tools/call")
        .iter()
        .map(|seen| seen.body["params"]["_meta"]["traceparent"].as_str().unwrap()[3..35].to_owned())
        .collect();
    assert_eq!(traces, [&trace[3..35], &other[3..35]]);
}
