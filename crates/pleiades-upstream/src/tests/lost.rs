//! Sessions that a provider lost, or that fail for good.

use axum::{body::Body, response::Response};
use http::{Method, StatusCode};

use super::fake::{FakeHttpProvider, RecordedRequest, json_body, legacy, result, status};
use super::*;
use pleiades_core::error::Code;

const L: Revision = Revision::V2025_11_25;

fn text(status: u16, body: &'static str, kind: &str) -> Response {
    Response::builder()
        .status(status)
        .header("content-type", kind)
        .body(Body::from(body))
        .unwrap()
}

fn tools() -> Value {
    json!({"tools": []})
}

/// Answers the first session with a refusal, whatever is asked in it, and the next as it should.
async fn losing(
    refusal: impl Fn(&RecordedRequest) -> Response + Clone + Send + Sync + 'static,
) -> FakeHttpProvider {
    FakeHttpProvider::start(move |seen, before| {
        legacy(seen, before, |seen| match seen.header("mcp-session-id") {
            "s0" if seen.verb != Method::GET => refusal(seen),
            _ if seen.verb == Method::GET => status(StatusCode::METHOD_NOT_ALLOWED),
            _ => result(seen, &tools()),
        })
    })
    .await
}

async fn answered_anew(
    refusal: impl Fn(&RecordedRequest) -> Response + Clone + Send + Sync + 'static,
    what: &str,
) {
    for make in [tool, list] {
        let fake = losing(refusal.clone()).await;
        let endpoint = Arc::new(endpoint(1, at(&fake.url)));
        let call = make(L);
        let method = call.method;
        let answer = upstreams().request(&endpoint, &identity(), call).await;
        assert_eq!(value(&answer.unwrap()), tools(), "{what}");
        assert_eq!((fake.count("initialize"), fake.count(method)), (2, 2), "{what}");
    }
}

#[tokio::test]
async fn a_session_that_is_lost_in_the_words_of_any_sdk_is_opened_again() {
    let json = "application/json";
    for (code, body, kind) in [
        (
            400,
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: Server not initialized"}}"#,
            json,
        ),
        (
            400,
            r#"{"jsonrpc":"2.0","error":{"code":-32600,"message":"SERVER NOT INITIALIZED"}}"#,
            json,
        ),
        (401, "Unauthorized: Session not found", "text/plain"),
        (401, r#"{"error":"Invalid session ID"}"#, json),
        (
            403,
            "Forbidden: the user does not match the user who initiated the session",
            "text/plain",
        ),
        (404, "<!doctype html><title>Error</title>Cannot POST", "text/html"),
        (410, "", "text/plain"),
        (422, "Unexpected message, expect initialize request", "text/plain"),
        (
            500,
            r#"{"jsonrpc":"2.0","id":9,"error":{"code":-32603,"message":"Session not found: 12"}}"#,
            json,
        ),
        (503, "session expired", "text/plain"),
        (503, "<html><title>Session does not exist</title>", "text/html"),
    ] {
        answered_anew(move |_| text(code, body, kind), body).await;
    }
}

#[tokio::test]
async fn an_error_object_that_says_so_counts_when_ping_fails_too() {
    for (code, words) in [
        (-32001, "Session not found"),
        (-32000, "Bad Request: Server not initialized"),
        (-32603, "session has been terminated"),
        (-32600, "Invalid Request: unknown session"),
    ] {
        let refusal = move |seen: &RecordedRequest| {
            let error = json!({"code": code, "message": words});
            json_body(
                200,
                &json!({"jsonrpc": "2.0", "id": seen.body["id"], "error": error}),
            )
        };
        answered_anew(refusal, words).await;
    }
}

#[tokio::test]
async fn a_tool_that_speaks_of_sessions_of_its_own_is_not_called_twice() {
    let fake = losing(|seen| match seen.method() {
        "ping" => result(seen, &json!({})),
        _ => {
            let error = json!({"code": -32001, "message": "Session not found"});
            json_body(
                200,
                &json!({"jsonrpc": "2.0", "id": seen.body["id"], "error": error}),
            )
        }
    })
    .await;
    let (upstreams, endpoint) = (upstreams(), Arc::new(endpoint(1, at(&fake.url))));
    for _ in 0..3 {
        let error = upstreams
            .request(&endpoint, &identity(), tool(L))
            .await
            .unwrap_err();
        assert_eq!(error.code, Code::UpstreamError);
    }
    assert_eq!((fake.count("initialize"), fake.count("tools/call")), (1, 3));
}

#[tokio::test]
async fn a_credential_that_is_refused_in_every_session_is_refused() {
    let fake = FakeHttpProvider::start(|seen, before| {
        legacy(seen, before, |_| {
            text(401, "your session has expired, log in again", "text/plain")
        })
    })
    .await;
    let endpoint = Arc::new(endpoint(1, at(&fake.url)));
    let error = upstreams()
        .request(&endpoint, &identity(), tool(L))
        .await
        .unwrap_err();
    assert_eq!((error.code, error.refusal.unwrap().0), (Code::UpstreamAuth, 401));
    assert_eq!((fake.count("initialize"), fake.count("tools/call")), (2, 2));
}

#[tokio::test]
async fn a_session_that_is_refused_twice_alike_is_dropped_when_ping_fails_too() {
    for (code, body) in [(500, "boom"), (418, "teapot"), (403, "no"), (400, "nope")] {
        let fake = losing(move |_| text(code, body, "text/plain")).await;
        let (upstreams, endpoint) = (upstreams(), Arc::new(endpoint(1, at(&fake.url))));
        for _ in 0..2 {
            upstreams
                .request(&endpoint, &identity(), tool(L))
                .await
                .unwrap_err();
        }
        let answer = upstreams.request(&endpoint, &identity(), tool(L)).await.unwrap();
        assert_eq!(value(&answer), tools(), "{code}");
        let counts = ["initialize", "tools/call", "ping"].map(|method| fake.count(method));
        assert_eq!(counts, [2, 3, 1], "{code}: no write is repeated");
    }
}

#[tokio::test]
async fn a_session_that_answers_ping_is_kept_however_often_a_call_fails() {
    let fake = losing(|seen| match seen.method() {
        "ping" => result(seen, &json!({})),
        _ => text(500, "boom", "text/plain"),
    })
    .await;
    let (upstreams, endpoint) = (upstreams(), Arc::new(endpoint(1, at(&fake.url))));
    for _ in 0..5 {
        upstreams
            .request(&endpoint, &identity(), tool(L))
            .await
            .unwrap_err();
    }
    assert_eq!(fake.count("initialize"), 1);
}

#[tokio::test]
async fn the_errors_of_tools_never_count() {
    let failed = json!({"content": [{"type": "text", "text": "Session not found"}], "isError": true});
    let fake = losing(move |seen| match seen.method() {
        "ping" => text(500, "boom", "text/plain"),
        _ => result(seen, &failed),
    })
    .await;
    let (upstreams, endpoint) = (upstreams(), Arc::new(endpoint(1, at(&fake.url))));
    for _ in 0..5 {
        upstreams.request(&endpoint, &identity(), tool(L)).await.unwrap();
    }
    let counts = ["initialize", "tools/call", "ping"].map(|method| fake.count(method));
    assert_eq!(counts, [1, 5, 0]);
}

#[tokio::test]
async fn a_limit_is_no_reason_to_open_another_session() {
    let fake = losing(|_| {
        text(
            429,
            "too many requests in this session: expired quota",
            "text/plain",
        )
    })
    .await;
    let (upstreams, endpoint) = (upstreams(), Arc::new(endpoint(1, at(&fake.url))));
    for _ in 0..3 {
        upstreams
            .request(&endpoint, &identity(), tool(L))
            .await
            .unwrap_err();
    }
    assert_eq!((fake.count("initialize"), fake.count("ping")), (1, 0));
}

#[tokio::test]
async fn a_server_without_a_route_for_get_keeps_its_session() {
    let fake = FakeHttpProvider::start(|seen, before| {
        legacy(seen, before, |seen| match seen.verb {
            Method::GET => text(404, "<html>Cannot GET /mcp</html>", "text/html"),
            _ => result(seen, &tools()),
        })
    })
    .await;
    let (upstreams, endpoint) = (upstreams(), Arc::new(endpoint(1, at(&fake.url))));
    for _ in 0..3 {
        upstreams.request(&endpoint, &identity(), tool(L)).await.unwrap();
    }
    assert_eq!(fake.count("initialize"), 1);
}
