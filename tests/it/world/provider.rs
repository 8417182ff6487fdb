//! A fake MCP server over streamable HTTP: any set of revisions, pages, sessions, and the faults
//! that real ones will not produce on demand.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{Barrier, Notify, broadcast};

/// A request as the fake saw it.
#[derive(Debug, Clone)]
pub struct SeenRequest {
    pub method: String,
    pub headers: HeaderMap,
    pub body: Value,
}

/// What the fake does; changed while it runs.
pub struct Knobs {
    pub revisions: Vec<&'static str>,
    pub page: usize,
    pub tools: Mutex<Vec<Value>>,
    pub sessions: Mutex<HashSet<String>>,
    pub seen: Mutex<Vec<SeenRequest>>,
    /// Answers by event streams instead of JSON.
    pub streams: AtomicBool,
    /// Answers nothing at all.
    pub hangs: AtomicBool,
    /// Answers 500.
    pub fails: AtomicBool,
    /// Answers 401 with a challenge and a cookie.
    pub refuses: AtomicBool,
    /// Says of its lists that they are one caller's alone.
    pub is_private: AtomicBool,
    /// `tools/call` of `wait` returns when told.
    pub release: Notify,
    pub waiting: AtomicUsize,
    pub cancelled: AtomicUsize,
    /// Calls as they began (`+tool text`) and ended (`-tool text`).
    pub marks: Mutex<Vec<String>>,
    /// A call of a tool with `x-meets` goes on when another one waits here as well.
    meeting: Barrier,
    changes: broadcast::Sender<()>,
    /// Answers to its questions.
    answers: broadcast::Sender<Value>,
    next: AtomicU64,
}

/// A running fake; it ends with the test's runtime.
pub struct FakeServer {
    pub url: String,
    pub knobs: Arc<Knobs>,
}

impl FakeServer {
    /// A server of these revisions with the usual tools.
    pub async fn start(revisions: &[&'static str]) -> Self {
        Self::start_paged(revisions, 1_000, usual_tools()).await
    }

    /// The same with tools of the caller's, so many a page.
    pub async fn start_paged(revisions: &[&'static str], page: usize, tools: Vec<Value>) -> Self {
        let knobs = Arc::new(Knobs {
            revisions: revisions.to_vec(),
            page,
            tools: Mutex::new(tools),
            sessions: Mutex::default(),
            seen: Mutex::default(),
            streams: AtomicBool::new(false),
            hangs: AtomicBool::new(false),
            fails: AtomicBool::new(false),
            refuses: AtomicBool::new(false),
            is_private: AtomicBool::new(false),
            release: Notify::new(),
            waiting: AtomicUsize::new(0),
            cancelled: AtomicUsize::new(0),
            marks: Mutex::default(),
            meeting: Barrier::new(2),
            changes: broadcast::channel(16).0,
            answers: broadcast::channel(16).0,
            next: AtomicU64::new(1),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let app = Router::new().fallback(serve).with_state(Arc::clone(&knobs));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, knobs }
    }

    /// Forgets all sessions, as a restart would.
    pub fn expire_sessions(&self) {
        self.knobs.sessions.lock().clear();
    }

    /// Adds a tool and tells those who listen.
    pub fn grow(&self, name: &str) {
        self.knobs.tools.lock().push(tool(name));
        self.knobs.changes.send(()).ok();
    }

    /// Says that its tools changed, although they did not.
    pub fn cry(&self) {
        self.knobs.changes.send(()).ok();
    }

    /// Requests of a JSON-RPC method so far.
    pub fn seen(&self, method: &str) -> Vec<SeenRequest> {
        self.knobs
            .seen
            .lock()
            .iter()
            .filter(|seen| seen.method == method)
            .cloned()
            .collect()
    }
}

pub fn tool(name: &str) -> Value {
    json!({
        "name": name,
        "description": format!("The tool {name}."),
        "inputSchema": { "type": "object", "properties": { "text": { "type": "string" } } },
        "x-unknown": { "kept": [1, 2] },
    })
}

fn usual_tools() -> Vec<Value> {
    let mut echo = tool("echo");
    echo["inputSchema"]["required"] = json!(["text"]);
    let mut region = tool("region");
    region["inputSchema"]["properties"]["region"] = json!({ "type": "string", "x-mcp-header": "Region" });
    vec![
        echo,
        tool("wait"),
        tool("fail"),
        tool("progress"),
        tool("structured"),
        region,
    ]
}

struct RpcCall {
    id: Value,
    params: Value,
    modern: bool,
    revision: String,
}

pub(super) async fn serve(
    State(knobs): State<Arc<Knobs>>,
    method: Method,
    headers: HeaderMap,
    body: String,
) -> Response<Body> {
    if knobs.hangs.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
    if knobs.fails.load(Ordering::Relaxed) {
        return plain(500);
    }
    if knobs.refuses.load(Ordering::Relaxed) {
        return Response::builder()
            .status(401)
            .header("www-authenticate", "Bearer realm=\"upstream\"")
            .header("set-cookie", "upstream=1")
            .body(Body::empty())
            .unwrap();
    }
    match method {
        Method::POST => post(&knobs, &headers, &body).await,
        Method::GET => {
            knobs.seen.lock().push(SeenRequest {
                method: "GET".to_owned(),
                headers: headers.clone(),
                body: Value::Null,
            });
            if has_session(&knobs, &headers) {
                changes(&knobs, None)
            } else {
                plain(405)
            }
        }
        Method::DELETE => {
            let id = header(&headers, "mcp-session-id");
            knobs.sessions.lock().remove(&id);
            plain(204)
        }
        _ => plain(405),
    }
}

async fn post(knobs: &Arc<Knobs>, headers: &HeaderMap, body: &str) -> Response<Body> {
    let Ok(message @ Value::Object(_)) = serde_json::from_str(body) else {
        return answer(
            400,
            json!({ "jsonrpc": "2.0", "id": null, "error": { "code": -32700, "message": "no message" } }),
        );
    };
    let method = message["method"].as_str().unwrap_or("response").to_owned();
    knobs.seen.lock().push(SeenRequest {
        method: method.clone(),
        headers: headers.clone(),
        body: message.clone(),
    });
    let claimed = message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"].as_str();
    let modern = claimed.is_some();
    if modern && !knobs.revisions.contains(&"2026-07-28") {
        // What servers of before 2026-07-28 say to a request without a session.
        return answer(
            400,
            json!({ "jsonrpc": "2.0", "id": null, "error": { "code": -32000, "message": "Bad Request: no session" } }),
        );
    }
    if message.get("id").is_none() {
        if method == "notifications/cancelled" {
            knobs.cancelled.fetch_add(1, Ordering::Relaxed);
        }
        return plain(202);
    }
    if message.get("method").is_none() {
        knobs.answers.send(message).ok();
        return plain(202);
    }
    let asked = RpcCall {
        id: message["id"].clone(),
        params: message["params"].clone(),
        modern,
        revision: claimed.unwrap_or_default().to_owned(),
    };
    if method == "initialize" {
        return initialize(knobs, &asked);
    }
    if !modern && !has_session(knobs, headers) {
        return answer(
            404,
            json!({ "jsonrpc": "2.0", "id": asked.id, "error": { "code": -32001, "message": "Session not found" } }),
        );
    }
    if method == "subscriptions/listen" && modern {
        return changes(knobs, Some(asked.id));
    }
    respond(knobs, &asked, &method).await
}

fn initialize(knobs: &Knobs, asked: &RpcCall) -> Response<Body> {
    let legacy: Vec<&str> = knobs
        .revisions
        .iter()
        .copied()
        .filter(|it| *it != "2026-07-28")
        .collect();
    let Some(newest) = legacy.last() else {
        let data = json!({ "supported": knobs.revisions, "requested": asked.params["protocolVersion"] });
        return answer(
            400,
            json!({ "jsonrpc": "2.0", "id": asked.id, "error": { "code": -32022, "message": "unsupported", "data": data } }),
        );
    };
    let wanted = asked.params["protocolVersion"].as_str().unwrap_or_default();
    let revision = legacy.iter().find(|it| **it == wanted).unwrap_or(newest);
    let session = format!("session-{}", knobs.next.fetch_add(1, Ordering::Relaxed));
    knobs.sessions.lock().insert(session.clone());
    let mut result = identity();
    result["protocolVersion"] = json!(revision);
    // 2026-07-28 has no word for it.
    result["capabilities"]["logging"] = json!({});
    let mut response = answer(200, json!({ "jsonrpc": "2.0", "id": asked.id, "result": result }));
    response
        .headers_mut()
        .insert("mcp-session-id", session.parse().unwrap());
    response
}

fn identity() -> Value {
    json!({
        "capabilities": { "tools": { "listChanged": true }, "resources": {}, "prompts": {}, "completions": {} },
        "serverInfo": { "name": "fake", "title": "Fake", "version": "1" },
        "instructions": "Be kind.",
    })
}

async fn respond(knobs: &Arc<Knobs>, asked: &RpcCall, method: &str) -> Response<Body> {
    let outcome = match method {
        "server/discover" => {
            let mut result = identity();
            result["supportedVersions"] = json!(
                knobs
                    .revisions
                    .iter()
                    .filter(|it| **it == "2026-07-28")
                    .collect::<Vec<_>>()
            );
            Ok(result)
        }
        "ping" => Ok(json!({})),
        "tools/list" => Ok(page(knobs, &asked.params)),
        "resources/list" => {
            Ok(json!({ "resources": [{ "uri": "fake://text", "name": "text", "x-unknown": 1 }] }))
        }
        "resources/templates/list" => {
            Ok(json!({ "resourceTemplates": [{ "uriTemplate": "fake://item/{id}", "name": "item" }] }))
        }
        "prompts/list" => Ok(json!({ "prompts": [{ "name": "greet", "arguments": [{ "name": "who" }] }] })),
        "resources/read" => read(asked),
        "prompts/get" => Ok(
            json!({ "messages": [{ "role": "user", "content": { "type": "text", "text": format!("hello {}", asked.params["arguments"]["who"]) } },
                { "role": "user", "content": { "type": "resource", "resource": { "uri": "fake://text", "text": "" } } }] }),
        ),
        "completion/complete" => Ok(json!({ "completion": { "values": ["one", "two"], "hasMore": false } })),
        "tools/call" => return call(knobs, asked).await,
        _ => Err((-32601, "no such method")),
    };
    let mut message = json!({ "jsonrpc": "2.0", "id": asked.id });
    match outcome {
        Ok(mut result) => {
            if asked.modern {
                result["resultType"] = json!("complete");
                if method.ends_with("/list") || method == "server/discover" || method == "resources/read" {
                    result["ttlMs"] = json!(60_000);
                    let is_private = knobs.is_private.load(Ordering::Relaxed);
                    result["cacheScope"] = json!(if is_private { "private" } else { "public" });
                }
            }
            message["result"] = result;
        }
        Err((code, text)) => message["error"] = json!({ "code": code, "message": text }),
    }
    reply(knobs, vec![message])
}

fn page(knobs: &Knobs, params: &Value) -> Value {
    let tools = knobs.tools.lock();
    let from: usize = params["cursor"]
        .as_str()
        .map_or(0, |cursor| cursor.parse().unwrap_or_default());
    let to = (from + knobs.page).min(tools.len());
    let mut result = json!({ "tools": tools[from..to], "x-unknown": true });
    if to < tools.len() {
        result["nextCursor"] = json!(to.to_string());
    }
    result
}

fn read(asked: &RpcCall) -> Result<Value, (i64, &'static str)> {
    let uri = asked.params["uri"].as_str().unwrap_or_default();
    if (uri.starts_with("fake://") || uri.starts_with("ui://")) && uri != "fake://none" {
        return Ok(json!({ "contents": [{ "uri": uri, "text": format!("text of {uri}") }] }));
    }
    Err(if asked.modern {
        (-32602, "Resource not found")
    } else {
        (-32002, "Resource not found")
    })
}

async fn call(knobs: &Arc<Knobs>, asked: &RpcCall) -> Response<Body> {
    let name = asked.params["name"].as_str().unwrap_or_default();
    let text = asked.params["arguments"]["text"].as_str().unwrap_or_default();
    let meets = |tool: &Value| tool["name"] == name && tool["x-meets"] == true;
    let mark = |edge: char| knobs.marks.lock().push(format!("{edge}{name} {text}"));
    mark('+');
    if knobs.tools.lock().iter().any(meets) {
        knobs.meeting.wait().await;
    }
    let response = answer_call(knobs, asked).await;
    mark('-');
    response
}

async fn answer_call(knobs: &Arc<Knobs>, asked: &RpcCall) -> Response<Body> {
    let name = asked.params["name"].as_str().unwrap_or_default();
    let text = asked.params["arguments"]["text"].as_str().unwrap_or_default();
    let known = knobs
        .tools
        .lock()
        .iter()
        .find(|tool| tool["name"] == name)
        .cloned();
    if let Some(raw) = known.as_ref().and_then(|tool| tool["x-raw"].as_str()) {
        let text = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{raw}}}"#, asked.id);
        let mut response = answer(200, Value::Null);
        *response.body_mut() = Body::from(text);
        return response;
    }
    if let Some(question) = known.map(|tool| tool["x-asks"].clone()).filter(Value::is_object) {
        return ask(knobs, asked, &question);
    }
    let mut before = Vec::new();
    let mut result = json!({ "content": [{ "type": "text", "text": format!("{name}: {text}"), "x-unknown": "kept" }], "x-unknown": { "deep": [null] } });
    match name {
        "wait" => {
            let _waiting = WaitingGuard::begin(knobs);
            knobs.release.notified().await;
        }
        "fail" => result["isError"] = json!(true),
        "structured" => result["structuredContent"] = json!({ "sum": 3 }),
        "link" => {
            result["content"] = json!([{ "type": "resource_link", "uri": text, "name": "link", "x-unknown": 1 },
                { "type": "resource", "resource": { "uri": text, "text": "embedded" } }]);
            result["_meta"] = json!({ "ui": { "resourceUri": "ui://app/page" }, "own": 1 });
        }
        "progress" => {
            let token = asked.params["_meta"]["progressToken"].clone();
            before = (1..=3)
                .map(|at| json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": { "progressToken": token, "progress": at, "total": 3 } }))
                .collect();
        }
        "echo" | "region" => {}
        known if knobs.tools.lock().iter().any(|tool| tool["name"] == known) => {}
        _ => {
            let error = json!({ "jsonrpc": "2.0", "id": asked.id, "error": { "code": -32602, "message": format!("Unknown tool: {name}") } });
            return reply(knobs, vec![error]);
        }
    }
    if asked.modern {
        result["resultType"] = json!("complete");
    }
    let _ = &asked.revision;
    before.push(json!({ "jsonrpc": "2.0", "id": asked.id, "result": result }));
    reply(knobs, before)
}

/// Asks in the middle of a call; its result is the answer in text.
fn ask(knobs: &Knobs, asked: &RpcCall, params: &Value) -> Response<Body> {
    let own = json!(format!("ask-{}", knobs.next.fetch_add(1, Ordering::Relaxed)));
    let question = json!({ "jsonrpc": "2.0", "id": own, "method": "elicitation/create", "params": params });
    let (mut answers, id) = (knobs.answers.subscribe(), asked.id.clone());
    let reply = async move {
        let mut answer = Value::Null;
        while answer["id"] != own {
            answer = answers.recv().await.unwrap_or_else(|_| json!({ "id": own }));
        }
        let content = json!([{ "type": "text", "text": answer.to_string() }]);
        json!({ "jsonrpc": "2.0", "id": id, "result": { "content": content } })
    };
    let event = |message: Value| Ok::<_, std::io::Error>(format!("event: message\ndata: {message}\n\n"));
    let first = futures_util::stream::once(async move { event(question) });
    let then = futures_util::stream::once(async move { event(reply.await) });
    Response::builder()
        .header("content-type", "text/event-stream")
        .body(Body::from_stream(futures_util::StreamExt::chain(first, then)))
        .unwrap()
}

/// Counts a waiting call, and one whose caller left.
struct WaitingGuard(Arc<Knobs>);

impl WaitingGuard {
    fn begin(knobs: &Arc<Knobs>) -> Self {
        knobs.waiting.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(knobs))
    }
}

impl Drop for WaitingGuard {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

fn reply(knobs: &Knobs, messages: Vec<Value>) -> Response<Body> {
    if messages.len() == 1 && !knobs.streams.load(Ordering::Relaxed) {
        return answer(200, messages.into_iter().next().unwrap());
    }
    let text: String = messages
        .iter()
        .map(|message| format!("event: message\ndata: {message}\n\n"))
        .collect();
    Response::builder()
        .header("content-type", "text/event-stream")
        .body(Body::from(text))
        .unwrap()
}

/// A stream of list changes: a session's, or that of a `subscriptions/listen`.
fn changes(knobs: &Knobs, listen: Option<Value>) -> Response<Body> {
    let tag = listen.map(|id| json!({ "io.modelcontextprotocol/subscriptionId": id }));
    let mut first = String::from(": open\n\n");
    if let Some(tag) = &tag {
        let ack = json!({ "jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged",
            "params": { "notifications": { "toolsListChanged": true }, "_meta": tag } });
        first = format!("event: message\ndata: {ack}\n\n");
    }
    let changed = match &tag {
        Some(tag) => {
            json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": { "_meta": tag } })
        }
        None => json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed" }),
    };
    let receiver = knobs.changes.subscribe();
    let stream = futures_util::stream::unfold((receiver, Some(first)), move |(mut receiver, first)| {
        let event = format!("event: message\ndata: {changed}\n\n");
        async move {
            if let Some(first) = first {
                return Some((Ok::<_, std::io::Error>(first), (receiver, None)));
            }
            loop {
                match receiver.recv().await {
                    Ok(()) | Err(broadcast::error::RecvError::Lagged(_)) => {
                        return Some((Ok(event), (receiver, None)));
                    }
                    Err(broadcast::error::RecvError::Closed) => {
                        tokio::time::sleep(Duration::from_secs(3_600)).await
                    }
                }
            }
        }
    });
    Response::builder()
        .header("content-type", "text/event-stream")
        .body(Body::from_stream(stream))
        .unwrap()
}

fn has_session(knobs: &Knobs, headers: &HeaderMap) -> bool {
    knobs.sessions.lock().contains(&header(headers, "mcp-session-id"))
}

fn header(headers: &HeaderMap, name: &str) -> String {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned()
}

fn plain(status: u16) -> Response<Body> {
    Response::builder()
        .status(StatusCode::from_u16(status).unwrap())
        .body(Body::empty())
        .unwrap()
}

fn answer(status: u16, message: Value) -> Response<Body> {
    let mut response = plain(status);
    response
        .headers_mut()
        .insert("content-type", "application/json".parse().unwrap());
    *response.body_mut() = Body::from(message.to_string());
    response
}
