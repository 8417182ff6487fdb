//! The relay: bodies untouched, equal eras, sealed sessions.

use std::sync::atomic::Ordering;

use serde_json::json;

use super::world::client::GENERATIONS;
use super::world::{self, FakeServer, TestClient, World};

#[tokio::test(flavor = "multi_thread")]
async fn equal_eras_are_joined_and_bodies_pass_untouched() {
    for revision in GENERATIONS {
        let fake = FakeServer::start(&[revision]).await;
        let world = World::builder().provider("one", &fake).start().await;
        world.until_state("one", "ready").await;
        let peer = TestClient::connect(&world, "/relay/one", revision).await;
        let list = peer.result("tools/list", json!({ "x-mine": 1 })).await;
        assert_eq!(list["x-unknown"], true, "{revision}");
        assert_eq!(
            peer.call("echo", json!({ "text": "hi" })).await["content"][0]["text"],
            "echo: hi"
        );
        let seen = fake.seen("tools/list").pop().unwrap();
        assert_eq!(seen.body["params"]["x-mine"], 1, "{revision}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unequal_eras_are_refused_with_the_upstreams_revisions() {
    let (legacy, modern) = (
        FakeServer::start(&["2025-06-18", "2025-11-25"]).await,
        FakeServer::start(&["2026-07-28"]).await,
    );
    let world = World::builder()
        .provider("legacy", &legacy)
        .provider("modern", &modern)
        .start()
        .await;
    world.until_state("legacy", "ready").await;
    world.until_state("modern", "ready").await;
    let peer = TestClient::connect(&world, "/relay/modern", "2026-07-28").await;
    let discover = TestClient {
        url: format!("{}/relay/legacy", world.base),
        ..peer
    };
    let answer = discover
        .send_as(json!("mine"), "server/discover", json!({}))
        .await;
    assert_eq!(answer.status(), 400);
    let error = world::json(answer).await;
    assert_eq!(error["error"]["code"], -32022);
    assert_eq!(error["id"], "mine");
    assert_eq!(
        error["error"]["data"]["supported"],
        json!(["2025-06-18", "2025-11-25"])
    );
    assert_eq!(error["error"]["data"]["requested"], "2026-07-28");
    let old = world
        .http
        .post(format!("{}/relay/modern", world.base))
        .header("content-type", "application/json")
        .body(r#"{"jsonrpc":"2.0","id":3,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"0"}}}"#)
        .send()
        .await
        .unwrap();
    assert_eq!(old.status(), 400);
    assert_eq!(
        world::json(old).await["error"]["data"]["supported"],
        json!(["2026-07-28"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_revision_is_refused_with_those_of_the_clients_generation() {
    let fake = FakeServer::start(&["2025-11-25", "2026-07-28"]).await;
    let world = World::builder().provider("both", &fake).start().await;
    world.until_state("both", "ready").await;
    let ask = |method: Option<&'static str>| {
        let post = world.http.post(format!("{}/relay/both", world.base));
        let post = post
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2999-01-01");
        let post = match method {
            Some(method) => post.header("mcp-method", method),
            None => post,
        };
        post.body(r#"{"jsonrpc":"2.0","id":3,"method":"server/discover"}"#)
    };
    for (method, offered) in [
        (Some("server/discover"), json!(["2026-07-28"])),
        (None, json!(["2025-11-25", "2026-07-28"])),
    ] {
        let answer = ask(method).send().await.unwrap();
        assert_eq!(answer.status(), 400);
        let error = world::json(answer).await;
        assert_eq!(
            (&error["id"], &error["error"]["code"]),
            (&json!(3), &json!(-32022))
        );
        assert_eq!(
            error["error"]["data"],
            json!({ "supported": offered, "requested": "2999-01-01", "code": "unsupported_revision" })
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_upstreams_session_is_sealed() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder()
        .provider("one", &fake)
        .provider("two", &fake)
        .start()
        .await;
    world.until_state("one", "ready").await;
    world.until_state("two", "ready").await;
    let mut peer = TestClient::connect(&world, "/relay/one", "2025-11-25").await;
    let sealed = peer.session.clone().unwrap();
    assert!(!sealed.contains("session-"));
    peer.tools().await;
    peer.url = format!("{}/relay/two", world.base);
    assert_eq!(
        peer.send("tools/list", json!({})).await.status(),
        404,
        "another provider's session"
    );
    peer.url = format!("{}/relay/one", world.base);
    let own = fake.knobs.sessions.lock().iter().next().unwrap().clone();
    peer.session = Some(own);
    assert_eq!(
        peer.send("tools/list", json!({})).await.status(),
        404,
        "an unsealed session"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_on_tools_close_the_relay_unless_it_is_unchecked() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let rules = "auth: { none: {} }\ntools: { deny: [fail] }\n";
    let world = World::builder()
        .provider_with("closed", &fake, rules)
        .provider_with("open", &fake, &format!("{rules}relay: unchecked\n"))
        .start()
        .await;
    world.until_state("open", "ready").await;
    let open = TestClient::connect(&world, "/relay/open", "2025-11-25").await;
    open.call("fail", json!({})).await;
    let closed = TestClient {
        url: format!("{}/relay/closed", world.base),
        session: None,
        ..open
    };
    let answer = closed.send("tools/list", json!({})).await;
    assert_eq!(answer.status(), 403);
    assert!(
        world::json(answer).await["error"]["message"]
            .as_str()
            .unwrap()
            .contains("/tools/closed")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_upstream_is_502_and_a_silent_one_504_with_a_json_rpc_error() {
    let silent = FakeServer::start(&["2025-11-25"]).await;
    let quick = "upstream: { url: \"URL\", timeouts: { connect: 300ms, call: 500ms, idle: 500ms } }\nauth: { none: {} }\n";
    let world = World::builder()
        .descriptor(
            "dead",
            "upstream: { url: \"http://127.0.0.1:9/mcp\" }\nauth: { none: {} }\n",
        )
        .descriptor("silent", &quick.replace("URL", &silent.url))
        .start()
        .await;
    world.until_state("silent", "ready").await;
    silent.knobs.hangs.store(true, Ordering::Relaxed);
    for (id, status) in [("dead", 502), ("silent", 504)] {
        let answer = world
            .http
            .post(format!("{}/relay/{id}", world.base))
            .header("content-type", "application/json")
            .body(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), status, "{id}");
        let body = answer.text().await.unwrap();
        assert!(
            body.contains("\"error\"") && !body.contains("127.0.0.1"),
            "{body}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_providers_own_path_is_relayed() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder().provider("one", &fake).start().await;
    for path in ["/relay", "/relay/one/more", "/relay/one/more/", "/relay/none"] {
        let answer = world
            .http
            .post(format!("{}{path}", world.base))
            .body("{}")
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clients_wish_for_compression_passes_and_its_absence_means_none() {
    let fake = FakeServer::start(&["2026-07-28"]).await;
    let world = World::builder().provider("one", &fake).start().await;
    world.until_state("one", "ready").await;
    let ask = |coding: Option<&'static str>| {
        let post = world.http.post(format!("{}/relay/one", world.base));
        let post = post
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", "tools/list");
        let post = match coding {
            Some(coding) => post.header("accept-encoding", coding),
            None => post,
        };
        post.body(r#"{"jsonrpc":"2.0","id":3,"method":"tools/list","params":{}}"#)
    };
    for (coding, expected) in [(None, "identity"), (Some("gzip, br;q=0.5"), "gzip, br;q=0.5")] {
        ask(coding).send().await.unwrap();
        let seen = fake.seen("tools/list").pop().unwrap();
        assert_eq!(seen.headers["accept-encoding"], expected);
    }
}

/// A server of TLS whose authority nobody here knows.
async fn private_server() -> World {
    World::builder()
        .settings("tls: { cert_file: server.pem, key_file: server.key }\n")
        .file(
            "server.pem",
            include_str!("../../crates/pleiades-upstream/src/tests/tls/server.pem"),
        )
        .file(
            "server.key",
            include_str!("../../crates/pleiades-upstream/src/tests/tls/server.key"),
        )
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_why_a_handshake_failed_and_where_a_redirect_leads() {
    let (private, plain) = (private_server().await, FakeServer::start(&["2025-11-25"]).await);
    let app = axum::Router::new().fallback(|| async {
        let to = [("location", "/elsewhere?token=hunter2")];
        (axum::http::StatusCode::FOUND, to, "")
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let moved = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let descriptor = |url: &str| format!("upstream: {{ url: \"{url}/mcp\" }}\nauth: {{ none: {{}} }}\n");
    let private = private.base.replace("http://127.0.0.1", "https://localhost");
    let plain = plain.url.replace("http://", "https://").replace("/mcp", "");
    let world = World::builder()
        .descriptor("private", &descriptor(&private))
        .descriptor("plain", &descriptor(&plain))
        .descriptor("moved", &descriptor(&format!("http://{moved}")))
        .logged()
        .start()
        .await;
    for (id, cause) in [
        ("private", "invalid peer certificate: UnknownIssuer".to_owned()),
        (
            "plain",
            "received corrupt message of type InvalidContentType".to_owned(),
        ),
        ("moved", format!("status 302, to http://{moved}/elsewhere")),
    ] {
        let answer = world
            .http
            .post(format!("{}/relay/{id}", world.base))
            .header("content-type", "application/json")
            .body(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#)
            .send()
            .await
            .unwrap();
        let request = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
        let line = world.line(&request).await;
        let error = line["error"].as_str().unwrap_or_default();
        assert!(
            error.ends_with(&cause) && !error.contains("local address"),
            "{line}"
        );
    }
}
