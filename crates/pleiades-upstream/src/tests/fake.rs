//! A provider over HTTP with answers of a test's own, which remembers what it was asked.

use std::net::SocketAddr;

use axum::{Router, body::Body, extract::ConnectInfo, response::Response};
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;
use url::Url;

use super::soon;

pub(super) struct FakeHttpProvider {
    pub(super) url: Url,
    seen: watch::Sender<Vec<RecordedRequest>>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Clone)]
pub(super) struct RecordedRequest {
    pub(super) verb: Method,
    /// Path and query.
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
    /// The port at the other end of its connection.
    pub(super) port: u16,
}

impl RecordedRequest {
    pub(super) fn method(&self) -> &str {
        self.body["method"].as_str().unwrap_or_default()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl FakeHttpProvider {
    /// Answers each request by a function of it and of how many like it came before.
    pub(super) async fn start(
        answer: impl Fn(&RecordedRequest, usize) -> Response + Clone + Send + Sync + 'static,
    ) -> Self {
        let (seen, _) = watch::channel(Vec::new());
        let noted = seen.clone();
        let router = Router::new().fallback(move |request: axum::extract::Request| {
            let (noted, answer) = (noted.clone(), answer.clone());
            async move {
                let (head, body) = request.into_parts();
                let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
                let body = serde_json::from_slice(&body).unwrap_or_default();
                let peer = head.extensions.get::<ConnectInfo<SocketAddr>>().unwrap().0;
                let (verb, headers) = (head.method, head.headers);
                let path = head.uri.to_string();
                let seen = RecordedRequest {
                    verb,
                    path,
                    headers,
                    body,
                    port: peer.port(),
                };
                let before = note(&noted, &seen);
                answer(&seen, before)
            }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap())
            .parse()
            .unwrap();
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let task = tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
        Self { url, seen, task }
    }

    pub(super) fn seen(&self) -> Vec<RecordedRequest> {
        self.seen.borrow().clone()
    }

    pub(super) fn methods(&self) -> Vec<String> {
        self.seen()
            .iter()
            .map(|seen| format!("{} {}", seen.verb, seen.method()))
            .collect()
    }

    pub(super) fn count(&self, method: &str) -> usize {
        self.seen().iter().filter(|seen| seen.method() == method).count()
    }

    /// Waits until a request of this kind has come.
    pub(super) async fn saw(&self, which: impl Fn(&RecordedRequest) -> bool) -> RecordedRequest {
        let mut all = self.seen.subscribe();
        let all = soon(all.wait_for(|all| all.iter().any(&which))).await.unwrap();
        all.iter().find(|seen| which(seen)).unwrap().clone()
    }
}

/// Remembers a request and says how many like it came before.
fn note(noted: &watch::Sender<Vec<RecordedRequest>>, seen: &RecordedRequest) -> usize {
    let mut before = 0;
    noted.send_modify(|all| {
        let alike = |other: &&RecordedRequest| other.verb == seen.verb && other.method() == seen.method();
        before = all.iter().filter(alike).count();
        all.push(seen.clone());
    });
    before
}

impl Drop for FakeHttpProvider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) fn json_body(status: u16, body: &Value) -> Response {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .unwrap()
}

pub(super) fn result(seen: &RecordedRequest, result: &Value) -> Response {
    json_body(
        200,
        &json!({"jsonrpc": "2.0", "id": seen.body["id"], "result": result}),
    )
}

pub(super) fn fault(seen: &RecordedRequest, status: u16, code: i64, data: &Value) -> Response {
    let error = json!({"code": code, "message": "no", "data": data});
    json_body(
        status,
        &json!({"jsonrpc": "2.0", "id": seen.body["id"], "error": error}),
    )
}

pub(super) fn status(status: StatusCode) -> Response {
    Response::builder().status(status).body(Body::empty()).unwrap()
}

/// A stream of these messages that then ends, or hangs.
pub(super) fn stream(messages: &[Value], hangs: bool) -> Response {
    use futures_util::StreamExt;
    let frames: String = messages
        .iter()
        .map(|message| format!("data: {message}\n\n"))
        .collect();
    let sent = futures_util::stream::iter([Ok::<_, std::io::Error>(frames)]);
    let body = if hangs {
        Body::from_stream(sent.chain(futures_util::stream::pending()))
    } else {
        Body::from_stream(sent)
    };
    Response::builder()
        .header("content-type", "text/event-stream")
        .body(body)
        .unwrap()
}

/// A server of 2025-11-25 with sessions `s0`, `s1`, …; `other` answers what is not the handshake.
pub(super) fn legacy(
    seen: &RecordedRequest,
    before: usize,
    other: impl Fn(&RecordedRequest) -> Response,
) -> Response {
    match seen.method() {
        "initialize" => {
            let asked = &seen.body["params"]["protocolVersion"];
            let mut response = result(
                seen,
                &json!({
                    "protocolVersion": asked,
                    "capabilities": {"tools": {"listChanged": true}},
                    "serverInfo": {"name": "fake"},
                }),
            );
            response
                .headers_mut()
                .insert("mcp-session-id", format!("s{before}").parse().unwrap());
            response
        }
        "server/discover" => fault(seen, 200, -32601, &Value::Null),
        method if method.starts_with("notifications/") => status(StatusCode::ACCEPTED),
        _ if seen.verb == Method::DELETE => status(StatusCode::OK),
        _ => other(seen),
    }
}

/// A server of 2026-07-28.
pub(super) fn modern(seen: &RecordedRequest, other: impl Fn(&RecordedRequest) -> Response) -> Response {
    match seen.method() {
        "server/discover" => result(
            seen,
            &json!({
                "resultType": "complete",
                "supportedVersions": ["2026-07-28"],
                "capabilities": {"tools": {"listChanged": true}},
                "instructions": "be kind",
                "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "fake"}},
            }),
        ),
        "initialize" => fault(seen, 400, -32022, &json!({"supported": ["2026-07-28"]})),
        _ => other(seen),
    }
}

/// A stream of nothing but an event that says where to go on, and when.
pub(super) fn pause(retry: u64) -> Response {
    let body = Body::from(format!("id: e1\nretry: {retry}\ndata: \n\n"));
    Response::builder()
        .header("content-type", "text/event-stream")
        .body(body)
        .unwrap()
}
