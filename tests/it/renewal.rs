//! The relay with credentials that are renewed, and without one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response, Uri};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::world::{self, TestClient, World};

/// A provider that takes one token, and beside it the server that issues `token-1`, `token-2`, ….
#[derive(Default)]
struct Guard {
    taken: AtomicUsize,
    issued: AtomicUsize,
    /// Authorization and size of each `tools/call`.
    calls: Mutex<Vec<(String, usize)>>,
    /// What a taken token is refused with instead of an answer.
    lacks: Mutex<Option<&'static str>>,
}

impl Guard {
    async fn start() -> (Arc<Self>, String) {
        let guard = Arc::new(Self::default());
        guard.taken.store(1, SeqCst);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(serve).with_state(Arc::clone(&guard));
        tokio::spawn(async move { axum::serve(listener, app).await });
        (guard, base)
    }

    /// From now on only the token that is issued next is taken.
    fn revoke(&self) {
        self.taken.store(self.issued.load(SeqCst) + 1, SeqCst);
        self.calls.lock().clear();
    }
}

async fn serve(
    State(guard): State<Arc<Guard>>,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response<Body> {
    let answer = |status: u16| {
        Response::builder()
            .status(status)
            .header("content-type", "application/json")
    };
    if uri.path() == "/token" {
        let token = format!("token-{}", guard.issued.fetch_add(1, SeqCst) + 1);
        let issued = json!({ "access_token": token, "token_type": "Bearer", "expires_in": 3600 });
        return answer(200).body(Body::from(issued.to_string())).unwrap();
    }
    let message: Value = serde_json::from_str(&body).unwrap_or_default();
    let token = headers
        .get("authorization")
        .map_or("", |it| it.to_str().unwrap())
        .to_owned();
    if message["method"] == "tools/call" {
        guard.calls.lock().push((token.clone(), body.len()));
    }
    let refused = |status, challenge| {
        let refused = answer(status)
            .header("www-authenticate", challenge)
            .header("set-cookie", "a=b");
        refused.body(Body::from("upstream words")).unwrap()
    };
    if token != format!("Bearer token-{}", guard.taken.load(SeqCst)) {
        return refused(401, "Bearer error=\"invalid_token\"");
    }
    if let (Some(challenge), "tools/call") = (*guard.lacks.lock(), message["method"].as_str().unwrap_or("")) {
        return refused(403, challenge);
    }
    let result = json!({
        "resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {},
        "serverInfo": { "name": "guard", "version": "1" }, "ttlMs": 60_000, "cacheScope": "public",
    });
    let reply = json!({ "jsonrpc": "2.0", "id": message["id"], "result": result });
    answer(200).body(Body::from(reply.to_string())).unwrap()
}

async fn guarded() -> (World, Arc<Guard>, TestClient) {
    let (guard, base) = Guard::start().await;
    let descriptor = format!(
        "upstream: {{ url: \"{base}/mcp\" }}\nauth:\n  client_credentials:\n    client_id: us\n    \
         client_secret: ${{SECRET}}\n    token_endpoint: \"{base}/token\"\n    token_auth: basic\n    resource: off\n"
    );
    let world = World::builder()
        .descriptor("one", &descriptor)
        .env("SECRET", "secret")
        .start()
        .await;
    world.until_state("one", "ready").await;
    let client = TestClient::connect(&world, "/relay/one", "2026-07-28").await;
    (world, guard, client)
}

fn call(size: usize) -> Value {
    json!({ "name": "act", "arguments": { "text": "x".repeat(size) } })
}

/// Nothing of what the provider said with a refusal comes down.
fn clean(answer: &reqwest::Response) {
    for name in ["www-authenticate", "set-cookie"] {
        assert!(!answer.headers().contains_key(name), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relayed_request_is_sent_once_more_with_a_newer_token() {
    let (_world, guard, client) = guarded().await;
    for size in [10, 30_000] {
        guard.revoke();
        let answer = client.send("tools/call", call(size)).await;
        assert_eq!(answer.status(), 200, "{size}");
        let calls = guard.calls.lock().clone();
        assert_eq!(calls.len(), 2, "{size}: {calls:?}");
        assert_ne!(calls[0].0, calls[1].0);
        assert_eq!(calls[0].1, calls[1].1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_again_is_asked_for_again_and_passes_then() {
    let (_world, guard, client) = guarded().await;
    guard.revoke();
    let answer = client.send("tools/call", call(1_000_000)).await;
    assert_eq!(answer.status(), 504);
    clean(&answer);
    let body = world::json(answer).await;
    assert!(
        body["error"]["message"]
            .as_str()
            .unwrap()
            .contains("send the request again"),
        "{body}"
    );
    assert_eq!(client.send("tools/call", call(1_000_000)).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_is_refused_twice_is_a_403_with_the_requests_id() {
    let (_world, guard, client) = guarded().await;
    guard.revoke();
    guard.taken.store(usize::MAX, SeqCst);
    let answer = client.send_as(json!("mine"), "tools/call", call(10)).await;
    assert_eq!(answer.status(), 403);
    clean(&answer);
    let body = world::json(answer).await;
    assert_eq!(body["id"], "mine");
    assert!(!body.to_string().contains("upstream words"), "{body}");
    assert_eq!(guard.calls.lock().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_lack_are_not_asked_for_by_renewing() {
    let (_world, guard, client) = guarded().await;
    *guard.lacks.lock() = Some("Bearer error=\"insufficient_scope\", scope=\"more\"");
    let answer = client.send("tools/call", call(10)).await;
    assert_eq!(answer.status(), 403);
    clean(&answer);
    assert_eq!((guard.calls.lock().len(), guard.issued.load(SeqCst)), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_account_the_relay_answers_403_and_says_where_to_connect() {
    let (guard, base) = Guard::start().await;
    let descriptor = format!(
        "upstream: {{ url: \"{base}/mcp\" }}\nauth:\n  oauth:\n    client_id: us\n    \
         authorization_endpoint: \"{base}/authorize\"\n    token_endpoint: \"{base}/token\"\n    token_auth: none\n"
    );
    let world = World::builder().descriptor("one", &descriptor).start().await;
    for revision in ["2025-11-25", "2026-07-28"] {
        let client = TestClient {
            http: world.http.clone(),
            url: format!("{}/relay/one", world.base),
            revision,
            session: None,
            headers: vec![("pleiades-account".to_owned(), "ännchen".to_owned())],
            initialized: Value::Null,
            next: 1.into(),
        };
        let method = if revision == "2025-11-25" {
            "initialize"
        } else {
            "tools/list"
        };
        let answer = client
            .send_as(json!("mine"), method, json!({ "protocolVersion": revision }))
            .await;
        assert_eq!(answer.status(), 403, "{revision}");
        clean(&answer);
        let body = world::json(answer).await;
        assert_eq!(body["id"], "mine", "{body}");
        let data = &body["error"]["data"];
        assert_eq!(
            (&data["provider_id"], &data["reason"]),
            (&json!("one"), &json!("never_connected"))
        );
        let url = data["connect_url"].as_str().unwrap();
        assert!(
            url.starts_with(&format!("{}/oauth/connect/", world.base)),
            "{url}"
        );
        assert!(data["connection_id"].is_string());
    }
    assert!(guard.calls.lock().is_empty());
}
