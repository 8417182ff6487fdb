use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::fake::{FakeHttpProvider, RecordedRequest, legacy, modern, pause, result, status, stream};
use super::*;
use pleiades_core::error::Code;
use pleiades_core::limit::Budget;
use pleiades_core::limit::load::RequestLoad;
use pleiades_core::secret::Secret;

const L: Revision = Revision::V2025_11_25;
const M: Revision = Revision::V2026_07_28;

fn tools() -> Value {
    json!({"tools": [{"name": "act"}], "unknown": [1.50, "ä"]})
}

#[tokio::test]
async fn a_legacy_list_runs_in_one_session_that_is_opened_once() {
    let fake = FakeHttpProvider::start(|seen, before| {
        legacy(seen, before, |seen| {
            assert_eq!(seen.header("mcp-session-id"), "s0");
            assert_eq!(seen.header("mcp-protocol-version"), "2025-11-25");
            result(seen, &tools())
        })
    })
    .await;
    let (upstreams, endpoint, identity) = (upstreams(), Arc::new(endpoint(1, at(&fake.url))), identity());
    let all = (0..10).map(|_| upstreams.request(&endpoint, &identity, list(L)));
    for answer in futures_util::future::join_all(all).await {
        assert_eq!(value(&answer.unwrap()), tools());
    }
    assert_eq!(
        (fake.count("initialize"), fake.count("notifications/initialized")),
        (1, 1)
    );
    assert_eq!(upstreams.sessions(), 1);
    upstreams.retire(&[1; 32]);
    let seen = fake.saw(|seen| seen.verb == Method::DELETE).await;
    assert_eq!(seen.header("mcp-session-id"), "s0");
}

#[tokio::test]
async fn an_answer_that_there_is_no_room_for_is_dropped_and_gives_its_room_back() {
    let big = json!({"content": [{"type": "text", "text": "x".repeat(100_000)}]});
    let fake =
        FakeHttpProvider::start(move |seen, before| legacy(seen, before, |seen| result(seen, &big))).await;
    let (upstreams, endpoint, identity) = (upstreams(), Arc::new(endpoint(1, at(&fake.url))), identity());
    let budget = Budget::new(150_000);
    let call = || {
        RequestLoad::new(Arc::clone(&budget).reserve(None), 0).carry(upstreams.request(
            &endpoint,
            &identity,
            tool(L),
        ))
    };
    let mut other = Arc::clone(&budget).reserve(None);
    other.grow(100_000).unwrap();
    let refused = call().await.unwrap_err();
    assert_eq!((refused.code, refused.sent), (Code::Busy, true));
    assert!(refused.retry_after.is_some());
    drop(other);
    call().await.unwrap();
    Arc::clone(&budget).reserve(None).grow(150_000).unwrap();
}

#[tokio::test]
async fn a_modern_call_stands_alone_and_mirrors_itself_in_headers() {
    let fake =
        FakeHttpProvider::start(|seen, _| modern(seen, |seen| result(seen, &json!({"content": []})))).await;
    let target = Transport::Http {
        url: fake.url.clone(),
        headers: vec![
            (HeaderName::from_static("x-org"), HeaderValue::from_static("acme")),
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
        sse: false,
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
        .request(&endpoint, &signed_by(signature.unwrap()), call)
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
    assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
    assert_eq!(
        (&meta["traceparent"], &meta["progressToken"]),
        (&json!("00-aa-bb-01"), &Value::Null)
    );
}

/// Talks a lot before it answers, and leaves the stream open.
fn chatty(seen: &RecordedRequest) -> axum::response::Response {
    if seen.verb == Method::GET {
        return status(StatusCode::METHOD_NOT_ALLOWED);
    }
    if seen.method().is_empty() {
        return status(StatusCode::ACCEPTED);
    }
    let token = &seen.body["params"]["_meta"]["progressToken"];
    let progress = json!({"progressToken": token, "progress": 1});
    let messages = [
        json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": progress}),
        json!({"jsonrpc": "2.0", "id": "p", "method": "ping"}),
        json!({"jsonrpc": "2.0", "id": 9, "method": "sampling/createMessage", "params": {}}),
        json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "x"}}),
        json!({"jsonrpc": "2.0", "id": seen.body["id"], "result": tools()}),
    ];
    stream(&messages, true)
}

#[tokio::test]
async fn an_answer_on_a_stream_is_found_behind_progress_pings_and_questions() {
    let fake = FakeHttpProvider::start(|seen, before| legacy(seen, before, chatty)).await;
    let endpoint = Arc::new(endpoint(1, at(&fake.url)));
    let (progress, mut events) = mpsc::channel(8);
    let call = Call {
        progress: true,
        token: None,
        events: Some(progress),
        ..tool(L)
    };
    let upstreams = upstreams();
    let answer = soon(upstreams.request(&endpoint, &identity(), call))
        .await
        .unwrap();
    assert_eq!(value(&answer), tools());
    let Some(ProviderEvent::Progress(params)) = events.recv().await else {
        panic!("no progress")
    };
    assert_eq!(value(&params.close()), json!({"progress": 1}));
    let Some(ProviderEvent::Request(ask)) = events.recv().await else {
        panic!("no question")
    };
    assert_eq!(ask.method, "sampling/createMessage");
    ask.answer.send(Ok(raw(&json!({"role": "assistant"})))).unwrap();
    let Some(ProviderEvent::Notification { method, .. }) = events.recv().await else {
        panic!("no message")
    };
    assert_eq!(method, "notifications/message");
    let pong = fake.saw(|seen| seen.body["id"] == "p").await;
    assert_eq!(pong.body["result"], json!({}));
    let answer = fake
        .saw(|seen| seen.body["id"] == 9 && seen.method().is_empty())
        .await;
    assert_eq!(answer.body["result"], json!({"role": "assistant"}));
}

/// Ends its stream early and answers on the one that continues it.
fn pausing(seen: &RecordedRequest) -> axum::response::Response {
    if seen.verb == Method::GET {
        assert_eq!(seen.header("last-event-id"), "e1");
        return stream(&[json!({"jsonrpc": "2.0", "id": 2, "result": tools()})], false);
    }
    assert_eq!(seen.body["id"], 2);
    pause(10)
}

#[tokio::test]
async fn a_paused_stream_is_resumed_after_its_last_event() {
    let fake = FakeHttpProvider::start(|seen, before| legacy(seen, before, pausing)).await;
    let endpoint = Arc::new(endpoint(1, at(&fake.url)));
    // The handshake takes the first id of a fresh process, the call the second.
    let answer = upstreams()
        .request(&endpoint, &identity(), tool(L))
        .await
        .unwrap();
    assert_eq!(value(&answer), tools());
}

#[tokio::test]
async fn a_caller_that_returns_from_a_pause_has_the_stream_resumed_at_once() {
    let fake = FakeHttpProvider::start(|seen, before| {
        legacy(seen, before, |seen| match seen.verb {
            Method::GET => pausing(seen),
            _ => pause(3_600_000),
        })
    })
    .await;
    let endpoint = Arc::new(endpoint(1, at(&fake.url)));
    let (notified, mut events) = mpsc::channel(8);
    let call = Call {
        events: Some(notified),
        ..tool(L)
    };
    let (upstreams, identity) = (upstreams(), identity());
    let returning = async {
        let Some(ProviderEvent::Pause(interrupted)) = events.recv().await else {
            panic!("no recess")
        };
        assert_eq!(interrupted.retry, Duration::from_secs(3600));
        assert_eq!(fake.seen().iter().filter(|seen| resumes(seen)).count(), 0);
        interrupted.resume.send(()).unwrap();
    };
    let asking = upstreams.request(&endpoint, &identity, call);
    let (answer, ()) = Box::pin(soon(async { tokio::join!(asking, returning) })).await;
    assert_eq!(value(&answer.unwrap()), tools());
}

fn resumes(seen: &RecordedRequest) -> bool {
    seen.headers.contains_key("last-event-id")
}

#[tokio::test]
async fn dropping_a_legacy_call_tells_the_provider() {
    let fake = FakeHttpProvider::start(|seen, before| legacy(seen, before, |_| stream(&[], true))).await;
    let endpoint = Arc::new(endpoint(1, at(&fake.url)));
    let (upstreams, identity) = (upstreams(), identity());
    let asked = {
        let calling = upstreams.request(&endpoint, &identity, tool(L));
        tokio::select! {
            _ = calling => panic!("nothing answers"),
            seen = fake.saw(|seen| seen.method() == "tools/call") => seen,
        }
    };
    let notified = fake.saw(|seen| seen.method() == "notifications/cancelled").await;
    assert_eq!(notified.body["params"]["requestId"], asked.body["id"]);
    assert_eq!(notified.header("mcp-session-id"), "s0");
}

#[tokio::test]
async fn a_deadline_is_kept_and_the_provider_notified() {
    let fake = FakeHttpProvider::start(|seen, before| legacy(seen, before, |_| stream(&[], true))).await;
    let endpoint = Arc::new(endpoint(1, at(&fake.url)));
    let upstreams = upstreams();
    drop(upstreams.probe(&endpoint, &identity()).await.unwrap());
    let call = Call {
        deadline: Instant::now() + Duration::from_millis(50),
        ..tool(L)
    };
    let error = upstreams.request(&endpoint, &identity(), call).await.unwrap_err();
    assert_eq!((error.code, error.sent), (Code::UpstreamTimeout, true));
    fake.saw(|seen| seen.method() == "notifications/cancelled").await;
}

#[tokio::test]
async fn sessions_are_shared_as_the_endpoint_says_and_never_across_accounts() {
    for (share, expected) in [
        (SessionSharing::User, 4),
        (SessionSharing::Tenant, 3),
        (SessionSharing::All, 2),
    ] {
        let fake =
            FakeHttpProvider::start(|seen, before| legacy(seen, before, |seen| result(seen, &tools()))).await;
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
            let signature = Arc::new(Signature::fixed(Vec::new(), Some([account; 32])));
            let identity = Identity {
                session: None,
                tenant: tenant.into(),
                user: user.into(),
                signature,
            };
            upstreams.request(&endpoint, &identity, list(L)).await.unwrap();
        }
        assert_eq!(upstreams.sessions(), expected, "{share:?}");
    }
}

#[tokio::test]
async fn a_connection_is_used_again_after_an_answer_on_a_stream() {
    let fake = FakeHttpProvider::start(|seen, _| {
        stream(
            &[json!({"jsonrpc": "2.0", "id": seen.body["id"], "result": tools()})],
            false,
        )
    })
    .await;
    let (upstreams, endpoint) = (upstreams(), Arc::new(endpoint(1, at(&fake.url))));
    for _ in 0..20 {
        upstreams.request(&endpoint, &identity(), tool(M)).await.unwrap();
        // Lets the end of the stream be read.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
    let ports: std::collections::BTreeSet<_> = fake.seen().iter().map(|seen| seen.port).collect();
    assert!(ports.len() < 10, "{} connections for 20 calls", ports.len());
}

#[tokio::test]
async fn changed_roots_are_announced_in_the_session_that_knows_them_and_nowhere_else() {
    let fake =
        FakeHttpProvider::start(|seen, before| legacy(seen, before, |seen| result(seen, &tools()))).await;
    let (upstreams, endpoint, identity) = (upstreams(), Arc::new(endpoint(1, at(&fake.url))), identity());
    upstreams.notify_roots_changed(&endpoint, &identity, L, &DeclaredCapabilities::all());
    soon(upstreams.request(&endpoint, &identity, list(L)))
        .await
        .unwrap();
    upstreams.notify_roots_changed(&endpoint, &identity, L, &DeclaredCapabilities::default());
    upstreams.notify_roots_changed(&endpoint, &identity, L, &DeclaredCapabilities::all());
    let notified = fake
        .saw(|seen| seen.method() == "notifications/roots/list_changed")
        .await;
    assert!(!notified.header("mcp-session-id").is_empty());
    assert_eq!(fake.count("notifications/roots/list_changed"), 1);
}
