use axum::{body::Body, response::Response};
use http::StatusCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::fake::{FakeHttpProvider, fault, json_body, legacy, result, status};
use super::*;
use pleiades_core::error::Code;

const L: Revision = Revision::V2025_11_25;
const M: Revision = Revision::V2026_07_28;

fn tools() -> Value {
    json!({"tools": [{"name": "act"}], "unknown": [1.50, "ä"]})
}

#[tokio::test]
async fn a_session_that_is_gone_is_opened_again_once_and_the_call_answered() {
    for gone in [404, 400] {
        let fake = FakeHttpProvider::start(move |seen, before| {
            legacy(seen, before, |seen| match seen.header("mcp-session-id") {
                "s0" => json_body(gone, &json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32000, "message": "No valid session ID"}})),
                _ => result(seen, &tools()),
            })
        })
        .await;
        let endpoint = Arc::new(endpoint(1, at(&fake.url)));
        let answer = upstreams()
            .request(&endpoint, &identity(), tool(L))
            .await
            .unwrap();
        assert_eq!(value(&answer), tools());
        assert_eq!((fake.count("initialize"), fake.count("tools/call")), (2, 2));
    }
}

#[tokio::test]
async fn a_provider_that_forgets_every_session_is_not_asked_for_ever() {
    let fake =
        FakeHttpProvider::start(|seen, before| legacy(seen, before, |_| status(StatusCode::NOT_FOUND))).await;
    let endpoint = Arc::new(endpoint(1, at(&fake.url)));
    let error = upstreams()
        .request(&endpoint, &identity(), list(L))
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::UpstreamProtocol);
    assert_eq!((fake.count("initialize"), fake.count("tools/list")), (2, 2));
}

/// Reads one request on each connection and closes it without an answer.
async fn dropper() -> (Url, tokio::sync::watch::Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let (count, counted) = tokio::sync::watch::channel(0);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let read = stream.read(&mut [0; 64 * 1024]).await;
            count.send_modify(|count| *count += usize::from(read.is_ok_and(|length| length > 0)));
        }
    });
    (url, counted)
}

#[tokio::test]
async fn a_tool_call_is_not_repeated_after_bytes_were_written() {
    let (url, counted) = dropper().await;
    let endpoint = Arc::new(endpoint(1, at(&url)));
    let error = upstreams()
        .request(&endpoint, &identity(), tool(M))
        .await
        .unwrap_err();
    assert_eq!((error.code, error.sent), (Code::UpstreamUnreachable, true));
    assert_eq!(*counted.borrow(), 1);
}

#[tokio::test]
async fn a_list_is_repeated_once_when_its_connection_broke() {
    let (url, counted) = dropper().await;
    let endpoint = Arc::new(endpoint(1, at(&url)));
    let error = upstreams()
        .request(&endpoint, &identity(), list(M))
        .await
        .unwrap_err();
    assert_eq!((error.code, error.sent), (Code::UpstreamUnreachable, true));
    assert_eq!(*counted.borrow(), 2);
}

#[tokio::test]
async fn a_refused_connection_is_known_not_to_have_sent_anything() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Url = format!("http://{}/mcp", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    drop(listener);
    let endpoint = Arc::new(endpoint(1, at(&url)));
    let error = upstreams()
        .request(&endpoint, &identity(), tool(M))
        .await
        .unwrap_err();
    assert_eq!((error.code, error.sent), (Code::UpstreamUnreachable, false));
    assert!(!error.message.contains("127"), "{}", error.message);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = FakeHttpProvider::start(|seen, _| result(seen, &tools())).await;
    let to = elsewhere.url.clone();
    let fake = FakeHttpProvider::start(move |_, _| {
        Response::builder()
            .status(307)
            .header("location", to.as_str())
            .body(Body::empty())
            .unwrap()
    })
    .await;
    let endpoint = Arc::new(endpoint(1, at(&fake.url)));
    let error = upstreams()
        .request(&endpoint, &identity(), tool(M))
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::UpstreamProtocol);
    assert!(elsewhere.seen().is_empty());
}

#[tokio::test]
async fn an_address_without_permission_is_never_connected_to() {
    let fake = FakeHttpProvider::start(|seen, _| result(seen, &tools())).await;
    let port = fake.url.port().unwrap();
    for host in [
        "127.0.0.1",
        "localhost",
        "[::ffff:127.0.0.1]",
        "2130706433",
        "0.0.0.0",
    ] {
        let url: Url = format!("http://{host}:{port}/mcp").parse().unwrap();
        let target = Transport::Http {
            url,
            headers: Vec::new(),
            tls: None,
            allow_private: false,
            allow_loopback: false,
            sse: false,
        };
        let endpoint = Arc::new(endpoint(1, target));
        let error = upstreams()
            .request(&endpoint, &identity(), tool(M))
            .await
            .unwrap_err();
        assert_eq!(
            (error.code, error.sent),
            (Code::UpstreamUnreachable, false),
            "{host}"
        );
        assert!(
            error.message.contains("allow_private"),
            "{host}: {}",
            error.message
        );
    }
    assert!(fake.seen().is_empty());
}

#[tokio::test]
async fn statuses_are_distinguished() {
    let cases = [
        (401, Code::UpstreamAuth, None),
        (403, Code::UpstreamAuth, None),
        (429, Code::UpstreamUnreachable, Some(7)),
        (503, Code::UpstreamUnreachable, Some(7)),
        (405, Code::UpstreamProtocol, Some(7)),
        (202, Code::UpstreamProtocol, Some(7)),
    ];
    for (status, code, after) in cases {
        let fake = FakeHttpProvider::start(move |_, _| {
            Response::builder()
                .status(status)
                .header("retry-after", "7")
                .body(Body::empty())
                .unwrap()
        })
        .await;
        let endpoint = Arc::new(endpoint(1, at(&fake.url)));
        let error = upstreams()
            .request(&endpoint, &identity(), list(M))
            .await
            .unwrap_err();
        let found = (
            error.code,
            error.sent,
            error.retry_after.map(|after| after.as_secs()),
        );
        // Whom a provider's limit turns away has not been looked into.
        assert_eq!(found, (code, status != 429, after), "{status}");
        let is_forbidden = error
            .message
            .starts_with("the provider forbids this (status 403)");
        assert_eq!(
            is_forbidden,
            status == 403,
            "no credential was sent: {}",
            error.message
        );
        assert_eq!(fake.count("tools/list"), 1, "{status}");
    }
}

#[tokio::test]
async fn an_error_object_is_read_whatever_the_status() {
    for status in [200, 400, 404, 500] {
        let fake =
            FakeHttpProvider::start(move |seen, _| fault(seen, status, -32602, &json!({"a": 1}))).await;
        let endpoint = Arc::new(endpoint(1, at(&fake.url)));
        let error = upstreams()
            .request(&endpoint, &identity(), tool(M))
            .await
            .unwrap_err();
        let rpc = error.rpc.unwrap();
        assert_eq!((error.code, rpc.code), (Code::UpstreamError, -32602), "{status}");
        assert_eq!(value(&rpc.data.unwrap()), json!({"a": 1}));
    }
}

#[tokio::test]
async fn what_is_not_mcp_is_reported_as_such() {
    let fake = FakeHttpProvider::start(|_, _| Response::new(Body::from("<html>hello"))).await;
    let endpoint = Arc::new(endpoint(1, at(&fake.url)));
    let error = upstreams()
        .request(&endpoint, &identity(), tool(M))
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::UpstreamProtocol);
    assert!(!error.message.contains("hello"));
}

#[tokio::test]
async fn a_provider_that_lost_the_modern_revision_is_called_in_one_that_it_names() {
    let fake = FakeHttpProvider::start(|seen, before| {
        if seen.header("mcp-protocol-version") == "2026-07-28" {
            return fault(
                seen,
                400,
                -32022,
                &json!({"supported": ["2025-06-18", "2025-11-25"]}),
            );
        }
        legacy(seen, before, |seen| result(seen, &tools()))
    })
    .await;
    let endpoint = Arc::new(endpoint(1, at(&fake.url)));
    let answer = upstreams()
        .request(&endpoint, &identity(), tool(M))
        .await
        .unwrap();
    assert_eq!(value(&answer), tools());
    assert_eq!(fake.count("tools/call"), 2);
}

/// Answers one request on each connection and closes it.
async fn closer(listener: TcpListener, closed: mpsc::Sender<()>) {
    for id in 1.. {
        let Ok((mut stream, _)) = listener.accept().await else {
            return;
        };
        assert!(stream.read(&mut [0; 64 * 1024]).await.unwrap() > 0);
        let body = json!({"jsonrpc": "2.0", "id": id, "result": {}}).to_string();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length";
        let answer = format!("{head}: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
        drop(stream);
        closed.send(()).await.unwrap();
    }
}

#[tokio::test]
async fn a_connection_that_died_idle_does_not_fail_the_next_call() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Url = format!("http://{}/mcp", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let (closed, mut closing) = tokio::sync::mpsc::channel(4);
    tokio::spawn(closer(listener, closed));
    let (upstreams, endpoint) = (upstreams(), Arc::new(endpoint(1, at(&url))));
    for _ in 0..3 {
        upstreams.request(&endpoint, &identity(), tool(M)).await.unwrap();
        closing.recv().await.unwrap();
        // Lets the client's own task see the end of the connection.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn every_request_asks_for_no_compression_and_what_is_compressed_all_the_same_is_named() {
    let fake = FakeHttpProvider::start(|seen, before| {
        assert_eq!(seen.header("accept-encoding"), "identity");
        let mut response = legacy(seen, before, |seen| result(seen, &tools()));
        if seen.method() == "tools/call" {
            let coding = http::HeaderValue::from_static("gzip");
            response.headers_mut().insert("content-encoding", coding);
        }
        response
    })
    .await;
    let (upstreams, endpoint) = (upstreams(), Arc::new(endpoint(1, at(&fake.url))));
    upstreams.request(&endpoint, &identity(), list(L)).await.unwrap();
    let error = upstreams
        .request(&endpoint, &identity(), tool(L))
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::UpstreamProtocol);
    assert!(error.message.contains("`gzip`"), "{error}");
}

const PAGE: &str = "<html><head><title>Access denied | edge.example</title></head>";

/// Status, type and body of a refusal; what it is, and what is shown of it.
type RefusalCase = (u16, &'static str, &'static str, Code, &'static [&'static str]);

const REFUSED: [RefusalCase; 6] = [
    (
        410,
        "text/plain",
        "Gone: moved away",
        Code::UpstreamProtocol,
        &["410", "Gone: moved away"],
    ),
    (
        201,
        "text/plain",
        "made",
        Code::UpstreamProtocol,
        &["201", "made"],
    ),
    (
        200,
        "text/html",
        PAGE,
        Code::UpstreamProtocol,
        &["200", "text/html", "edge.example"],
    ),
    (
        403,
        "text/html",
        PAGE,
        Code::UpstreamProtocol,
        &["403", "firewalls", "edge.example"],
    ),
    (
        503,
        "text/plain",
        "no healthy upstream",
        Code::UpstreamUnreachable,
        &["503", "no healthy upstream"],
    ),
    (
        308,
        "text/plain",
        "",
        Code::UpstreamProtocol,
        &["308", "https://edge.example/mcp/"],
    ),
];

#[tokio::test]
async fn a_refusal_carries_what_was_seen_and_answers_name_no_address() {
    for (status, kind, body, code, shown) in REFUSED {
        let fake = FakeHttpProvider::start(move |_, _| {
            Response::builder()
                .status(status)
                .header("content-type", kind)
                .header("location", "https://edge.example/mcp/?key=secret")
                .body(Body::from(body))
                .unwrap()
        })
        .await;
        let endpoint = Arc::new(endpoint(1, at(&fake.url)));
        let error = upstreams()
            .request(&endpoint, &identity(), tool(M))
            .await
            .unwrap_err();
        let full = error.in_full();
        assert_eq!(error.code, code, "{full}");
        assert!(shown.iter().all(|word| full.contains(word)), "{full}");
        assert!(
            !error.message.contains("edge.example") && !full.contains("secret"),
            "{full}"
        );
        assert_eq!(error.sent, status != 308, "{full}");
    }
}

#[tokio::test]
async fn what_a_provider_makes_us_remember_is_bounded() {
    let long = "x".repeat(5_000);
    let fake = FakeHttpProvider::start({
        let long = long.clone();
        move |seen, before| {
            let mut response = legacy(seen, before, |seen| result(seen, &tools()));
            if seen.method() == "initialize" {
                let id = http::HeaderValue::from_str(&long).unwrap();
                response.headers_mut().insert("mcp-session-id", id);
            }
            response
        }
    })
    .await;
    let endpoint_ = Arc::new(endpoint(1, at(&fake.url)));
    let error = upstreams()
        .request(&endpoint_, &identity(), list(L))
        .await
        .unwrap_err();
    assert!(error.message.contains("session id"), "{error}");
    let fake = FakeHttpProvider::start(move |seen, _| match seen.method() {
        "initialize" => {
            let words = "x".repeat(300_000);
            let greeting =
                json!({"protocolVersion": "2025-11-25", "capabilities": {}, "instructions": words});
            result(seen, &greeting)
        }
        _ => status(StatusCode::ACCEPTED),
    })
    .await;
    let endpoint = Arc::new(endpoint(2, at(&fake.url)));
    let error = upstreams()
        .request(&endpoint, &identity(), list(L))
        .await
        .unwrap_err();
    assert!(error.message.contains("256 KiB"), "{error}");
}

#[tokio::test]
async fn odd_answers_with_one_meaning_are_taken() {
    for form in ["text", "null", "array", "created"] {
        let fake = FakeHttpProvider::start(move |seen, _| {
            let id = &seen.body["id"];
            let body = match form {
                "text" => json!({"jsonrpc": "2.0", "id": id.to_string(), "result": tools()}),
                "null" => json!({"jsonrpc": "2.0", "id": id, "result": tools(), "error": null}),
                "array" => json!([{"jsonrpc": "2.0", "id": id, "result": tools()}]),
                _ => json!({"jsonrpc": "2.0", "id": id, "result": tools()}),
            };
            json_body(if form == "created" { 201 } else { 200 }, &body)
        })
        .await;
        let endpoint = Arc::new(endpoint(1, at(&fake.url)));
        let answer = upstreams()
            .request(&endpoint, &identity(), tool(M))
            .await
            .unwrap();
        assert_eq!(value(&answer), tools(), "{form}");
    }
}

/// Reads one request of a connection; its body, null where there is none.
async fn request(stream: &mut tokio::net::TcpStream) -> Option<Value> {
    let mut read = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let length = stream.read(&mut piece).await.ok().filter(|length| *length > 0)?;
        read.extend_from_slice(&piece[..length]);
        let text = String::from_utf8_lossy(&read);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let head = head.to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
            return Some(serde_json::from_str(body).unwrap_or_default());
        }
    }
}

/// What a server without sessions and streams says to it.
fn plain_answer(asked: &Value) -> String {
    let (status, result) = match asked["method"].as_str() {
        Some("initialize") => (200, json!({"protocolVersion": "2025-11-25", "capabilities": {}})),
        None => (405, Value::Null),
        Some(method) if method.starts_with("notifications/") => (202, Value::Null),
        Some(_) => (200, tools()),
    };
    let body = match status {
        200 => json!({"jsonrpc": "2.0", "id": asked["id"], "result": result}).to_string(),
        _ => String::new(),
    };
    let head = format!("HTTP/1.1 {status} X\r\ncontent-type: application/json");
    format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Answers the first request of each connection, and closes it when the second comes.
async fn racer(listener: TcpListener, seen: mpsc::Sender<String>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let seen = seen.clone();
        tokio::spawn(async move {
            for turn in 0..2 {
                let Some(asked) = request(&mut stream).await else {
                    return;
                };
                let method = asked["method"].as_str().unwrap_or("GET");
                seen.send(method.to_owned()).await.unwrap();
                if turn == 0 {
                    stream.write_all(plain_answer(&asked).as_bytes()).await.unwrap();
                }
            }
        });
    }
}

#[tokio::test]
async fn a_handshake_that_meets_a_dying_connection_is_made_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Url = format!("http://{}/mcp", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let (seen, mut methods) = tokio::sync::mpsc::channel(64);
    tokio::spawn(racer(listener, seen));
    let endpoint = Arc::new(endpoint(1, at(&url)));
    let upstreams = upstreams();
    for _ in 0..4 {
        upstreams.request(&endpoint, &identity(), list(L)).await.unwrap();
        // Each session is opened over a connection that was used before.
        upstreams.retire(&[1; 32]);
    }
    let mut twice = 0;
    while let Ok(method) = methods.try_recv() {
        twice += usize::from(method == "initialize");
    }
    assert!(twice > 4, "{twice}: none met a dying connection");
}
