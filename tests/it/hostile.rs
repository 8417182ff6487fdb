//! Clients that break the rules, or the connection: refused at once, by name, and nothing is left
//! behind.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use serde_json::{Value, json};

use super::world::{self, FakeServer, TestClient, World};

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

/// Sends bytes and reads until the gateway closes the connection.
fn until_closed(world: &World, request: &[u8], then: Option<Shutdown>) -> String {
    until_closed_at(&world.base, request, then)
}

fn until_closed_at(base: &str, request: &[u8], then: Option<Shutdown>) -> String {
    let mut stream = TcpStream::connect(base.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(world::GUARD)).unwrap();
    // The gateway may close before all is written.
    stream.write_all(request).ok();
    if let Some(how) = then {
        stream.shutdown(how).unwrap();
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    String::from_utf8_lossy(&answer).into_owned()
}

fn head(world: &World, path: &str, rest: &str) -> String {
    let host = world.base.trim_start_matches("http://");
    format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n{rest}\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_refused_before_it_ends() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder()
        .provider("one", &fake)
        .settings("max_body: 1MiB\n")
        .start()
        .await;
    world.until_state("one", "ready").await;
    for path in ["/mcp", "/relay/one"] {
        let announced = head(&world, path, "Content-Length: 100000000000") + "x";
        let mut chunked = head(&world, path, "Transfer-Encoding: chunked").into_bytes();
        let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x1_0000], b"\r\n"].concat();
        chunked.extend(chunk.repeat(17));
        for request in [announced.into_bytes(), chunked] {
            let answer = until_closed(&world, &request, None);
            assert!(
                answer.starts_with("HTTP/1.1 413") && answer.contains("\"code\":413"),
                "{path}: {answer}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_body_is_400_and_ends_the_connection() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder().provider("one", &fake).start().await;
    world.until_state("one", "ready").await;
    for path in ["/mcp", "/relay/one"] {
        let bad = head(&world, path, "Transfer-Encoding: chunked") + "zz\r\n{";
        let answer = until_closed(&world, bad.as_bytes(), None);
        assert!(
            answer.starts_with("HTTP/1.1 400") && answer.contains("-32600"),
            "{path}: {answer}"
        );
    }
    let short = head(&world, "/mcp", "Content-Length: 100") + "{";
    let answer = until_closed(&world, short.as_bytes(), Some(Shutdown::Write));
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let coded = head(&world, "/mcp", "Transfer-Encoding: gzip, chunked") + "0\r\n\r\n";
    assert!(until_closed(&world, coded.as_bytes(), None).starts_with("HTTP/1.1 400"));
    let twice = head(
        &world,
        "/mcp",
        "Mcp-Session-Id: a\r\nMcp-Session-Id: b\r\nContent-Length: 0",
    );
    assert!(until_closed(&world, twice.as_bytes(), None).starts_with("HTTP/1.1 400"));
}

#[tokio::test(flavor = "multi_thread")]
async fn both_listeners_refuse_heads_that_can_be_read_in_two_ways() {
    let world = World::builder().start().await;
    for base in [&world.base, &world.admin] {
        let host = base.trim_start_matches("http://");
        for rest in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked".to_owned(),
            "Transfer-Encoding: chunked\r\nContent-Length: 5".to_owned(),
            "Content-Length: 0\r\nContent-Length: 0".to_owned(),
            "Content-Length: 0, 0".to_owned(),
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked".to_owned(),
            "Transfer-Encoding: gzip, chunked".to_owned(),
            format!("Host: {host}"),
            "Host: other.example".to_owned(),
        ] {
            let body = if rest.contains("Transfer") {
                "0\r\n\r\n"
            } else {
                ""
            };
            let request = format!("GET /health HTTP/1.1\r\nHost: {host}\r\n{rest}\r\n\r\n{body}");
            // Nothing is taken for a second request of the connection.
            let answer = until_closed_at(base, request.as_bytes(), None);
            // What Pingora cannot read at all it answers on the public listener alone; it closes both.
            let is_closed = answer.is_empty() && *base == world.admin;
            assert!(
                answer.starts_with("HTTP/1.1 400") || is_closed,
                "{base} {rest}: {answer}"
            );
            assert!(answer.matches("HTTP/1.1").count() <= 1, "{base} {rest}: {answer}");
        }
        let elsewhere = format!("GET http://other.example/health HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let answer = until_closed_at(base, elsewhere.as_bytes(), None);
        let is_closed = answer.is_empty() && *base == world.admin;
        assert!(
            answer.starts_with("HTTP/1.1 400") || is_closed,
            "{base}: {answer}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_so_many_streams_and_no_more() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder().provider("one", &fake).start().await;
    world.until_state("one", "ready").await;
    for path in ["/tools/one", "/relay/one"] {
        let client = TestClient::connect(&world, path, "2025-11-25").await;
        let mut open = Vec::new();
        for _ in 0..16 {
            let stream = client.stream().await;
            assert_eq!(stream.status(), 200, "{path}");
            open.push(stream);
        }
        let refused = client.stream().await;
        assert_eq!(refused.status(), 429, "{path}");
        assert!(refused.headers().contains_key("retry-after"));
        let body: Value = serde_json::from_str(&refused.text().await.unwrap()).unwrap();
        assert_eq!(body["error"]["data"]["code"], "busy", "{path}");
        // Another session of the same caller has its own.
        let other = TestClient::connect(&world, path, "2025-11-25").await;
        assert_eq!(other.stream().await.status(), 200, "{path}");
        drop(open);
        world
            .until("a place to be free", || async {
                client.stream().await.status() == 200
            })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_one_caller_take_three_quarters_of_the_memory_at_most() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder()
        .provider("one", &fake)
        .settings("max_body: 64MiB\n")
        .start()
        .await;
    world.until_state("one", "ready").await;
    let size = 64 * 1024 * 1024;
    let most: Arc<[u8]> = vec![b' '; size - 1].into();
    let (answered, answers) = std::sync::mpsc::channel();
    let mut open = Vec::new();
    // Four bodies of 64 MiB, each short of its last byte: three of them are 192 MiB.
    for _ in 0..4 {
        let stream = TcpStream::connect(world.base.trim_start_matches("http://")).unwrap();
        stream.set_read_timeout(Some(world::GUARD)).unwrap();
        open.push(stream.try_clone().unwrap());
        let head = head(&world, "/mcp", &format!("Content-Length: {size}"));
        let (answered, most) = (answered.clone(), Arc::clone(&most));
        std::thread::spawn(move || {
            let mut stream = stream;
            stream.write_all(head.as_bytes()).ok();
            stream.write_all(&most).ok();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).ok();
            answered.send(String::from_utf8_lossy(&answer).into_owned()).ok();
        });
    }
    let first = answers.recv_timeout(world::GUARD).unwrap();
    assert!(first.starts_with("HTTP/1.1 503"), "{first}");
    assert!(first.to_ascii_lowercase().contains("retry-after: 1"), "{first}");
    assert!(
        first.contains("\"code\":\"busy\"") && first.contains("\"rule\":\"memory\""),
        "{first}"
    );
    // What is small has room all the while.
    let client = TestClient::connect(&world, "/tools/one", "2025-11-25").await;
    assert!(!client.tools().await.is_empty());
    for stream in open {
        stream.shutdown(Shutdown::Both).ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_to_be_asked_for_its_body_is_asked() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder().provider("one", &fake).start().await;
    world.until_state("one", "ready").await;
    for path in ["/mcp", "/relay/one"] {
        let mut stream = TcpStream::connect(world.base.trim_start_matches("http://")).unwrap();
        stream.set_read_timeout(Some(world::GUARD)).unwrap();
        let rest = format!(
            "Expect: 100-continue\r\nConnection: close\r\nContent-Length: {}",
            PING.len()
        );
        stream.write_all(head(&world, path, &rest).as_bytes()).unwrap();
        let mut asked = [0; 25];
        stream.read_exact(&mut asked).unwrap();
        assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n", "{path}");
        stream.write_all(PING.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 ") && answer.contains("\"jsonrpc\""),
            "{path}: {answer}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_unknown_at_every_path_but_its_own() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder()
        .provider("one", &fake)
        .provider("two", &fake)
        .start()
        .await;
    world.until_state("one", "ready").await;
    world.until_state("two", "ready").await;
    let paths = [
        "/mcp",
        "/mcp/one",
        "/mcp/two",
        "/tools",
        "/tools/one",
        "/relay/one",
        "/relay/two",
    ];
    for own in paths {
        let mut peer = TestClient::connect(&world, own, "2025-11-25").await;
        for path in paths {
            peer.url = format!("{}{path}", world.base);
            let status = peer.send("ping", json!({})).await.status();
            assert_eq!(status, if path == own { 200 } else { 404 }, "of {own} at {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sessions_stream_ends_with_it() {
    let world = World::builder().start().await;
    let peer = TestClient::connect(&world, "/mcp", "2025-11-25").await;
    let stream = peer.stream().await;
    assert_eq!(stream.status(), 200);
    assert_eq!(peer.delete().await.status(), 204);
    stream.text().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_that_does_not_apply_is_405_and_those_that_do_are_named() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder().provider("one", &fake).start().await;
    for (path, allowed) in [
        ("/mcp", "POST, GET, DELETE"),
        ("/relay/one", "POST, GET, DELETE"),
        ("/health", "GET, HEAD"),
    ] {
        let answer = world
            .http
            .patch(format!("{}{path}", world.base))
            .send()
            .await
            .unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["allow"]),
            (405, &allowed.parse().unwrap()),
            "{path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_tells_which_request_failed_and_nothing_of_the_upstreams_head() {
    let (modern, legacy) = (
        FakeServer::start(&["2026-07-28"]).await,
        FakeServer::start(&["2025-11-25"]).await,
    );
    let dead = "upstream: { url: \"http://127.0.0.1:9/mcp\" }\nauth: { none: {} }\n";
    let world = World::builder()
        .provider("one", &modern)
        .provider("old", &legacy)
        .descriptor("dead", dead)
        .start()
        .await;
    world.until_state("one", "ready").await;
    world.until_state("old", "ready").await;
    let mut peer = TestClient::connect(&world, "/relay/one", "2026-07-28").await;
    peer.session = Some("dragged along".to_owned());
    assert_eq!(
        peer.send("tools/list", json!({})).await.status(),
        200,
        "2026-07-28 has no sessions"
    );
    assert!(
        modern
            .seen("tools/list")
            .last()
            .unwrap()
            .headers
            .get("mcp-session-id")
            .is_none()
    );
    let refused = TestClient::connect(&world, "/relay/old", "2025-11-25").await;
    legacy
        .knobs
        .refuses
        .store(true, std::sync::atomic::Ordering::Relaxed);
    let answer = refused.send_as(json!("mine"), "tools/list", json!({})).await;
    assert_eq!(answer.status(), 403);
    assert!(
        answer.headers().get("www-authenticate").is_none() && answer.headers().get("set-cookie").is_none()
    );
    let error: Value = world::json(answer).await;
    assert_eq!(
        (&error["id"], &error["error"]["code"]),
        (&json!("mine"), &json!(403))
    );
    let gone = TestClient {
        url: format!("{}/relay/dead", world.base),
        session: None,
        ..refused
    };
    let answer = gone.send_as(json!(7), "tools/list", json!({})).await;
    assert_eq!(answer.status(), 502);
    assert_eq!(world::json(answer).await["id"], 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_refuses_a_revision_that_nobody_speaks() {
    let fake = FakeServer::start(&["2025-11-25", "2026-07-28"]).await;
    let world = World::builder().provider("one", &fake).start().await;
    world.until_state("one", "ready").await;
    let request = world
        .http
        .post(format!("{}/relay/one", world.base))
        .header("content-type", "application/json");
    let answer = request
        .header("mcp-protocol-version", "2099-01-01")
        .body(PING)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 400);
    let error = world::json(answer).await;
    assert_eq!(
        (&error["id"], &error["error"]["code"]),
        (&json!(1), &json!(-32022))
    );
    assert_eq!(
        error["error"]["data"]["supported"],
        json!(["2025-11-25", "2026-07-28"])
    );
}
