use axum::{body::Body, response::Response};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::fake::{Fake, fault, json_body, legacy, modern, result, status, stream};
use super::*;
use crate::error::Code;
use crate::secret::Secret;

const L: Revision = Revision::V2025_11_25;
const M: Revision = Revision::V2026_07_28;

fn tools() -> Value {
    json!({"tools": [{"name": "act"}], "unknown": [1.50, "ä"]})
}

#[tokio::test]
async fn a_legacy_list_runs_in_one_session_that_is_opened_once() {
    let fake = Fake::start(|seen, before| {
        legacy(seen, before, |seen| {
            assert_eq!(seen.header("mcp-session-id"), "s0");
            assert_eq!(seen.header("mcp-protocol-version"), "2025-11-25");
            result(seen, &tools())
        })
    })
    .await;
    let (upstreams, endpoint, behalf) =
        (upstreams(), Arc::new(endpoint(1, at(&fake.url))), behalf());
    let all = (0..10).map(|_| upstreams.request(&endpoint, &behalf, list(L)));
    for answer in futures_util::future::join_all(all).await {
        assert_eq!(value(&answer.unwrap()), tools());
    }
    assert_eq!(
        (
            fake.count("initialize"),
            fake.count("notifications/initialized")
        ),
        (1, 1)
    );
    assert_eq!(upstreams.sessions(), 1);
    upstreams.retire(&[1; 32]);
    let seen = fake.saw(|seen| seen.verb == Method::DELETE).await;
    assert_eq!(seen.header("mcp-session-id"), "s0");
}

#[tokio::test]
async fn a_modern_call_stands_alone_and_mirrors_itself_in_headers() {
    let fake =
        Fake::start(|seen, _| modern(seen, |seen| result(seen, &json!({"content": []})))).await;
    let target = Target::Http {
        url: fake.url.clone(),
        headers: vec![
            (
                HeaderName::from_static("x-org"),
                HeaderValue::from_static("acme"),
            ),
            (
                HeaderName::from_static("mcp-name"),
                HeaderValue::from_static("forged"),
            ),
            (
                HeaderName::from_static("host"),
                HeaderValue::from_static("forged"),
            ),
        ],
        tls: None,
        allow_private: false,
        allow_loopback: true,
    };
    let endpoint = Arc::new(endpoint(1, target));
    let signature = Signature::of_header(http::header::AUTHORIZATION, &Secret::new("Bearer k"));
    let mut call = tool(M);
    call.params.put(
        "_meta",
        &json!({"traceparent": "00-aa-bb-01", "progressToken": "theirs"}),
    );
    call.mirrored.push((
        HeaderName::from_static("mcp-param-region"),
        HeaderValue::from_static("eu"),
    ));
    let answer = upstreams()
        .request(&endpoint, &of(signature.unwrap()), call)
        .await
        .unwrap();
    assert_eq!(value(&answer), json!({"content": []}));
    let seen = &fake.seen()[0];
    let headers = [
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "act"),
        ("mcp-param-region", "eu"),
        ("x-org", "acme"),
        ("authorization", "Bearer k"),
        ("accept", "application/json, text/event-stream"),
        ("content-type", "application/json"),
        ("traceparent", "00-aa-bb-01"),
        ("host", fake.url.authority()),
        ("mcp-session-id", ""),
    ];
    for (name, expected) in headers {
        assert_eq!(seen.header(name), expected, "{name}");
    }
    let meta = &seen.body["params"]["_meta"];
    assert_eq!(
        meta["io.modelcontextprotocol/protocolVersion"],
        "2026-07-28"
    );
    assert_eq!(
        (&meta["traceparent"], &meta["progressToken"]),
        (&json!("00-aa-bb-01"), &Value::Null)
    );
}

#[tokio::test]
async fn a_session_that_is_gone_is_opened_again_once_and_the_call_answered() {
    for gone in [404, 400] {
        let fake = Fake::start(move |seen, before| {
            legacy(seen, before, |seen| match seen.header("mcp-session-id") {
                "s0" => json_body(gone, &json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32000, "message": "No valid session ID"}})),
                _ => result(seen, &tools()),
            })
        })
        .await;
        let endpoint = Arc::new(endpoint(1, at(&fake.url)));
        let answer = upstreams()
            .request(&endpoint, &behalf(), tool(L))
            .await
            .unwrap();
        assert_eq!(value(&answer), tools());
        assert_eq!((fake.count("initialize"), fake.count("tools/call")), (2, 2));
    }
}

#[tokio::test]
async fn a_provider_that_forgets_every_session_is_not_asked_for_ever() {
    let fake =
        Fake::start(|seen, before| legacy(seen, before, |_| status(StatusCode::NOT_FOUND))).await;
    let endpoint = Arc::new(endpoint(1, at(&fake.url)));
    let error = upstreams()
        .request(&endpoint, &behalf(), list(L))
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
        .request(&endpoint, &behalf(), tool(M))
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
        .request(&endpoint, &behalf(), list(M))
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
        .request(&endpoint, &behalf(), tool(M))
        .await
        .unwrap_err();
    assert_eq!((error.code, error.sent), (Code::UpstreamUnreachable, false));
    assert!(!error.message.contains("127"), "{}", error.message);
}

#[tokio::test]
async fn an_answer_on_a_stream_is_found_behind_progress_and_pings() {
    let fake = Fake::start(|seen, before| {
        legacy(seen, before, |seen| {
            if seen.method().is_empty() {
                return status(StatusCode::ACCEPTED);
            }
            let token = &seen.body["params"]["_meta"]["progressToken"];
            stream(
                &[
                    json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": 1}}),
                    json!({"jsonrpc": "2.0", "id": "p", "method": "ping"}),
                    json!({"jsonrpc": "2.0", "id": 9, "method": "sampling/createMessage", "params": {}}),
                    json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "x"}}),
                    json!({"jsonrpc": "2.0", "id": seen.body["id"], "result": tools()}),
                ],
                true,
            )
        })
    })
    .await;
    let endpoint = Arc::new(endpoint(1, at(&fake.url)));
    let (progress, mut events) = mpsc::channel(8);
    let call = Call {
        progress: Some(progress),
        ..tool(L)
    };
    let upstreams = upstreams();
    let answer = soon(upstreams.request(&endpoint, &behalf(), call))
        .await
        .unwrap();
    assert_eq!(value(&answer), tools());
    let Some(Event::Progress(params)) = events.recv().await else {
        panic!("no progress")
    };
    assert_eq!(value(&params.close()), json!({"progress": 1}));
    let Some(Event::Other { method, .. }) = events.recv().await else {
        panic!("no message")
    };
    assert_eq!(method, "notifications/message");
    let pong = fake.saw(|seen| seen.body["id"] == "p").await;
    assert_eq!(pong.body["result"], json!({}));
    let refusal = fake
        .saw(|seen| seen.body["id"] == 9 && seen.method().is_empty())
        .await;
    assert_eq!(refusal.body["error"]["code"], -32601);
}

#[tokio::test]
async fn a_paused_stream_is_resumed_after_its_last_event() {
    let fake = Fake::start(|seen, before| {
        legacy(seen, before, |seen| {
            if seen.verb == Method::GET {
                assert_eq!(seen.header("last-event-id"), "e1");
                return stream(
                    &[json!({"jsonrpc": "2.0", "id": 2, "result": tools()})],
                    false,
                );
            }
            assert_eq!(seen.body["id"], 2);
            Response::builder()
                .header("content-type", "text/event-stream")
                .body(Body::from("id: e1\nretry: 10\ndata: \n\n"))
                .unwrap()
        })
    })
    .await;
    let endpoint = Arc::new(endpoint(1, at(&fake.url)));
    // The handshake takes the first id of a fresh process, the call the second.
    let answer = upstreams()
        .request(&endpoint, &behalf(), tool(L))
        .await
        .unwrap();
    assert_eq!(value(&answer), tools());
}

#[tokio::test]
async fn dropping_a_legacy_call_tells_the_provider() {
    let fake = Fake::start(|seen, before| legacy(seen, before, |_| stream(&[], true))).await;
    let endpoint = Arc::new(endpoint(1, at(&fake.url)));
    let (upstreams, behalf) = (upstreams(), behalf());
    let asked = {
        let calling = upstreams.request(&endpoint, &behalf, tool(L));
        tokio::select! {
            _ = calling => panic!("nothing answers"),
            seen = fake.saw(|seen| seen.method() == "tools/call") => seen,
        }
    };
    let told = fake
        .saw(|seen| seen.method() == "notifications/cancelled")
        .await;
    assert_eq!(told.body["params"]["requestId"], asked.body["id"]);
    assert_eq!(told.header("mcp-session-id"), "s0");
}

#[tokio::test]
async fn a_deadline_is_kept_and_the_provider_told() {
    let fake = Fake::start(|seen, before| legacy(seen, before, |_| stream(&[], true))).await;
    let endpoint = Arc::new(endpoint(1, at(&fake.url)));
    let upstreams = upstreams();
    drop(upstreams.probe(&endpoint, &behalf()).await.unwrap());
    let call = Call {
        deadline: Instant::now() + Duration::from_millis(50),
        ..tool(L)
    };
    let error = upstreams
        .request(&endpoint, &behalf(), call)
        .await
        .unwrap_err();
    assert_eq!((error.code, error.sent), (Code::UpstreamTimeout, true));
    fake.saw(|seen| seen.method() == "notifications/cancelled")
        .await;
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Fake::start(|seen, _| result(seen, &tools())).await;
    let to = elsewhere.url.clone();
    let fake = Fake::start(move |_, _| {
        Response::builder()
            .status(307)
            .header("location", to.as_str())
            .body(Body::empty())
            .unwrap()
    })
    .await;
    let endpoint = Arc::new(endpoint(1, at(&fake.url)));
    let error = upstreams()
        .request(&endpoint, &behalf(), tool(M))
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::UpstreamProtocol);
    assert!(elsewhere.seen().is_empty());
}

#[tokio::test]
async fn an_address_without_permission_is_never_connected_to() {
    let fake = Fake::start(|seen, _| result(seen, &tools())).await;
    let port = fake.url.port().unwrap();
    for host in [
        "127.0.0.1",
        "localhost",
        "[::ffff:127.0.0.1]",
        "2130706433",
        "0.0.0.0",
    ] {
        let url: Url = format!("http://{host}:{port}/mcp").parse().unwrap();
        let target = Target::Http {
            url,
            headers: Vec::new(),
            tls: None,
            allow_private: false,
            allow_loopback: false,
        };
        let endpoint = Arc::new(endpoint(1, target));
        let error = upstreams()
            .request(&endpoint, &behalf(), tool(M))
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
async fn statuses_are_told_apart() {
    let cases = [
        (401, Code::UpstreamAuth, None),
        (403, Code::UpstreamAuth, None),
        (429, Code::UpstreamUnreachable, Some(7)),
        (503, Code::UpstreamUnreachable, Some(7)),
        (405, Code::UpstreamProtocol, Some(7)),
        (202, Code::UpstreamProtocol, Some(7)),
    ];
    for (status, code, after) in cases {
        let fake = Fake::start(move |_, _| {
            Response::builder()
                .status(status)
                .header("retry-after", "7")
                .body(Body::empty())
                .unwrap()
        })
        .await;
        let endpoint = Arc::new(endpoint(1, at(&fake.url)));
        let error = upstreams()
            .request(&endpoint, &behalf(), list(M))
            .await
            .unwrap_err();
        let found = (
            error.code,
            error.sent,
            error.retry_after.map(|after| after.as_secs()),
        );
        assert_eq!(found, (code, true, after), "{status}");
        assert_eq!(fake.count("tools/list"), 1, "{status}");
    }
}

#[tokio::test]
async fn an_error_object_is_read_whatever_the_status() {
    for status in [200, 400, 404, 500] {
        let fake = Fake::start(move |seen, _| fault(seen, status, -32602, &json!({"a": 1}))).await;
        let endpoint = Arc::new(endpoint(1, at(&fake.url)));
        let error = upstreams()
            .request(&endpoint, &behalf(), tool(M))
            .await
            .unwrap_err();
        let rpc = error.rpc.unwrap();
        assert_eq!(
            (error.code, rpc.code),
            (Code::UpstreamError, -32602),
            "{status}"
        );
        assert_eq!(value(&rpc.data.unwrap()), json!({"a": 1}));
    }
}

#[tokio::test]
async fn what_is_not_mcp_is_said_to_be_so() {
    let fake = Fake::start(|_, _| Response::new(Body::from("<html>hello"))).await;
    let endpoint = Arc::new(endpoint(1, at(&fake.url)));
    let error = upstreams()
        .request(&endpoint, &behalf(), tool(M))
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::UpstreamProtocol);
    assert!(!error.message.contains("hello"));
}

#[tokio::test]
async fn a_provider_that_lost_the_modern_revision_is_called_in_one_that_it_names() {
    let fake = Fake::start(|seen, before| {
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
        .request(&endpoint, &behalf(), tool(M))
        .await
        .unwrap();
    assert_eq!(value(&answer), tools());
    assert_eq!(fake.count("tools/call"), 2);
}

#[tokio::test]
async fn sessions_are_shared_as_the_endpoint_says_and_never_across_accounts() {
    for (share, expected) in [(Share::User, 4), (Share::Tenant, 3), (Share::All, 2)] {
        let fake =
            Fake::start(|seen, before| legacy(seen, before, |seen| result(seen, &tools()))).await;
        let endpoint = Arc::new(Endpoint {
            share,
            ..endpoint(1, at(&fake.url))
        });
        let upstreams = upstreams();
        let accounts = [
            ("acme", "ann", 1),
            ("acme", "bob", 1),
            ("other", "ann", 1),
            ("acme", "ann", 2),
        ];
        for (tenant, user, account) in accounts {
            let signature = Arc::new(Signature {
                headers: Vec::new(),
                account: Some([account; 32]),
            });
            let behalf = Behalf {
                tenant: tenant.into(),
                user: user.into(),
                signature,
            };
            upstreams
                .request(&endpoint, &behalf, list(L))
                .await
                .unwrap();
        }
        assert_eq!(upstreams.sessions(), expected, "{share:?}");
    }
}

#[tokio::test]
async fn a_connection_that_died_idle_does_not_fail_the_next_call() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Url = format!("http://{}/mcp", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let (closed, mut closing) = tokio::sync::mpsc::channel(4);
    tokio::spawn(async move {
        for id in 1.. {
            let Ok((mut stream, _)) = listener.accept().await else {
                return;
            };
            stream.read(&mut [0; 64 * 1024]).await.unwrap();
            let body = json!({"jsonrpc": "2.0", "id": id, "result": {}}).to_string();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            stream
                .write_all(format!("{head}{body}").as_bytes())
                .await
                .unwrap();
            drop(stream);
            closed.send(()).await.unwrap();
        }
    });
    let (upstreams, endpoint) = (upstreams(), Arc::new(endpoint(1, at(&url))));
    for _ in 0..3 {
        upstreams
            .request(&endpoint, &behalf(), tool(M))
            .await
            .unwrap();
        closing.recv().await.unwrap();
        // Lets the client's own task see the end of the connection.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_connection_is_used_again_after_an_answer_on_a_stream() {
    let fake = Fake::start(|seen, _| {
        stream(
            &[json!({"jsonrpc": "2.0", "id": seen.body["id"], "result": tools()})],
            false,
        )
    })
    .await;
    let (upstreams, endpoint) = (upstreams(), Arc::new(endpoint(1, at(&fake.url))));
    for _ in 0..20 {
        upstreams
            .request(&endpoint, &behalf(), tool(M))
            .await
            .unwrap();
        // Lets the end of the stream be read.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
    let ports: std::collections::BTreeSet<_> = fake.seen().iter().map(|seen| seen.port).collect();
    assert!(ports.len() < 10, "{} connections for 20 calls", ports.len());
}
