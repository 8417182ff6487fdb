//! Tasks: made and looked after by the gateway where a client knows none, passed under sealed ids
//! where it does.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, broadcast};

use super::world::client::{GENERATIONS, until_method};
use super::world::{TestClient, World};

const EXTENSION: &str = "io.modelcontextprotocol/tasks";
const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

/// A provider of tasks. `echo` is none; the others are tasks alone and end as they are called.
struct TaskPeer {
    revisions: Vec<&'static str>,
    seen: Mutex<Vec<Value>>,
    tasks: Mutex<HashMap<String, String>>,
    notices: broadcast::Sender<Value>,
    next: AtomicUsize,
    /// The answer to the making of a `held` task waits for it.
    release: Semaphore,
}

impl TaskPeer {
    async fn start(revisions: &[&'static str]) -> (Arc<Self>, String) {
        let peer = Arc::new(Self {
            revisions: revisions.to_vec(),
            seen: Mutex::default(),
            tasks: Mutex::default(),
            notices: broadcast::channel(8).0,
            next: AtomicUsize::new(1),
            release: Semaphore::new(0),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let app = Router::new().fallback(serve).with_state(Arc::clone(&peer));
        tokio::spawn(async move { axum::serve(listener, app).await });
        (peer, url)
    }

    fn calls(&self) -> Vec<Value> {
        let seen = self.seen.lock();
        seen.iter()
            .filter(|it| it["method"] == "tools/call")
            .cloned()
            .collect()
    }

    /// Names that requests of a method gave.
    fn named(&self, method: &str) -> Vec<String> {
        let seen = self.seen.lock();
        let of = seen.iter().filter(|it| it["method"] == method);
        of.map(|it| it["params"]["taskId"].as_str().unwrap().to_owned())
            .collect()
    }

    fn answer(&self, method: &str, params: &Value) -> Result<Value, Value> {
        let modern = params["_meta"][VERSION].is_string();
        if modern && !self.revisions.contains(&"2026-07-28") {
            return Err(json!({ "code": -32000, "message": "no session" }));
        }
        match method {
            "server/discover" => Ok(
                json!({ "resultType": "complete", "supportedVersions": ["2026-07-28"],
                "capabilities": { "tools": {}, "extensions": { EXTENSION: {} } }, "ttlMs": 0, "cacheScope": "private" }),
            ),
            "initialize" => {
                let wanted = params["protocolVersion"].as_str().unwrap();
                let revision = self.revisions.iter().find(|it| **it == wanted);
                let Some(revision) = revision.or_else(|| self.revisions.iter().rfind(|it| **it < "2026"))
                else {
                    return Err(
                        json!({ "code": -32022, "message": "no", "data": { "supported": self.revisions } }),
                    );
                };
                Ok(
                    json!({ "protocolVersion": revision, "serverInfo": { "name": "tasks", "version": "1" },
                    "capabilities": { "tools": {}, "tasks": { "requests": { "tools": { "call": {} } } } } }),
                )
            }
            "tools/list" => {
                let named = |name: &str| json!({ "name": name, "inputSchema": { "type": "object" } });
                let mut tools: Vec<Value> = ["echo", "ends", "fails", "gives-up", "held"].map(named).into();
                for tool in &mut tools[1..] {
                    if !modern {
                        tool["execution"] = json!({ "taskSupport": "required" });
                    }
                }
                Ok(json!({ "resultType": "complete", "tools": tools }))
            }
            "tools/call" => self.call(params, modern),
            "tasks/get" | "tasks/result" | "tasks/cancel" => self.task(method, params, modern),
            _ => Err(json!({ "code": -32601, "message": "no such method" })),
        }
    }

    fn call(&self, params: &Value, modern: bool) -> Result<Value, Value> {
        let name = params["name"].as_str().unwrap();
        if name == "echo" {
            assert!(params.get("task").is_none());
            return Ok(json!({ "resultType": "complete", "content": [] }));
        }
        let declared = &params["_meta"][CAPABILITIES]["extensions"][EXTENSION];
        if modern && declared.is_null() {
            let required = json!({ "requiredCapabilities": { "extensions": { EXTENSION: {} } } });
            return Err(json!({ "code": -32021, "message": "only as a task", "data": required }));
        }
        if !modern && params.get("task").is_none() {
            return Err(json!({ "code": -32601, "message": "only as a task" }));
        }
        let id = format!("task-{}", self.next.fetch_add(1, Ordering::SeqCst));
        self.tasks.lock().insert(id.clone(), name.to_owned());
        Ok(match modern {
            true => {
                json!({ "resultType": "task", "taskId": id, "status": "working", "createdAt": "2026-01-01T00:00:00Z",
                "lastUpdatedAt": "2026-01-01T00:00:00Z", "ttlMs": null, "pollIntervalMs": 100 })
            }
            false => {
                json!({ "task": { "taskId": id, "status": "working", "ttl": 60_000, "pollInterval": 100 } })
            }
        })
    }

    fn task(&self, method: &str, params: &Value, modern: bool) -> Result<Value, Value> {
        let id = params["taskId"].as_str().unwrap();
        let name = self.tasks.lock().get(id).cloned();
        let name = name.ok_or_else(|| json!({ "code": -32602, "message": "no such task" }))?;
        let (result, error) = (
            json!({ "content": [{ "type": "text", "text": "done" }] }),
            json!({ "code": -32000, "message": "broke" }),
        );
        if method == "tasks/result" {
            return if name == "fails" { Err(error) } else { Ok(result) };
        }
        let mut task = json!({ "resultType": "complete", "taskId": id });
        match name.as_str() {
            "ends" => task["status"] = json!("completed"),
            "fails" => task["status"] = json!("failed"),
            "held" => task["status"] = json!("working"),
            _ => task["status"] = json!("cancelled"),
        }
        match name.as_str() {
            "ends" if modern => task["result"] = result,
            "fails" if modern => task["error"] = error,
            _ => {}
        }
        Ok(task)
    }

    /// What it says of tasks to whoever listens.
    fn stream(&self, asked: &Value) -> Response<Body> {
        let tag = json!({ "io.modelcontextprotocol/subscriptionId": asked["id"] });
        let first = json!({ "method": "notifications/subscriptions/acknowledged",
            "params": { "notifications": asked["params"]["notifications"], "_meta": tag } });
        let events = futures_util::stream::unfold(
            (self.notices.subscribe(), Some(first)),
            move |(mut notices, first)| {
                let tag = tag.clone();
                async move {
                    let mut message = match first {
                        Some(first) => first,
                        None => notices.recv().await.ok()?,
                    };
                    message["jsonrpc"] = json!("2.0");
                    message["params"]["_meta"] = tag;
                    let event = format!("event: message\ndata: {message}\n\n");
                    Some((Ok::<_, std::io::Error>(event), (notices, None)))
                }
            },
        );
        let stream = Response::builder().header("content-type", "text/event-stream");
        stream.body(Body::from_stream(events)).unwrap()
    }
}

async fn serve(
    State(peer): State<Arc<TaskPeer>>,
    method: Method,
    headers: HeaderMap,
    body: String,
) -> Response<Body> {
    let plain = |status: u16| Response::builder().status(status).body(Body::empty()).unwrap();
    if method != Method::POST {
        return plain(405);
    }
    let asked: Value = serde_json::from_str(&body).unwrap();
    let Some(id) = asked.get("id").cloned() else {
        return plain(202);
    };
    peer.seen.lock().push(asked.clone());
    let name = asked["method"].as_str().unwrap_or_default();
    if name == "subscriptions/listen" {
        return peer.stream(&asked);
    }
    if name.starts_with("tasks/") && peer.revisions == ["2026-07-28"] {
        assert_eq!(headers["mcp-name"], asked["params"]["taskId"].as_str().unwrap());
    }
    let answered = peer.answer(name, &asked["params"]);
    if name == "tools/call" && answered.is_ok() && asked["params"]["name"] == "held" {
        peer.release.acquire().await.unwrap().forget();
    }
    let message = match answered {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(error) => json!({ "jsonrpc": "2.0", "id": id, "error": error }),
    };
    let status = if message["error"]["code"] == -32000 && name == "server/discover" {
        400
    } else {
        200
    };
    let answer = Response::builder()
        .status(status)
        .header("content-type", "application/json");
    answer.body(Body::from(message.to_string())).unwrap()
}

async fn world(revisions: &[&'static str]) -> (World, Arc<TaskPeer>) {
    let (peer, url) = TaskPeer::start(revisions).await;
    let descriptor = format!("upstream: {{ url: \"{url}\" }}\nauth: {{ none: {{}} }}\n");
    let world = World::builder().descriptor("one", &descriptor).start().await;
    world.until_state("one", "ready").await;
    (world, peer)
}

/// Parameters of a client that looks after its tasks itself.
fn tending(mut params: Value) -> Value {
    params["_meta"][CAPABILITIES] = json!({ "extensions": { EXTENSION: {} } });
    params
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_needs_tasks_is_refused_once_and_the_others_stay_calls() {
    let (world, peer) = world(&["2026-07-28"]).await;
    let client = TestClient::connect(&world, "/tools/one", "2025-11-25").await;
    for refused in [1, 0] {
        let before = peer.calls().len();
        let result = client.call("ends", json!({})).await;
        assert_eq!(result["content"][0]["text"], "done");
        assert_eq!(peer.calls().len(), before + 1 + refused);
    }
    client.call("echo", json!({})).await;
    let echo = peer.calls().pop().unwrap();
    assert!(echo["params"]["_meta"][CAPABILITIES].get("extensions").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_an_older_revision_than_tasks_is_served_in_the_revision_that_has_them() {
    let (world, peer) = world(&["2025-06-18", "2025-11-25"]).await;
    let client = TestClient::connect(&world, "/tools/one", "2025-06-18").await;
    let result = client.call("ends", json!({})).await;
    assert_eq!(result["content"][0]["text"], "done");
    assert_eq!(peer.calls().len(), 1);
    assert!(peer.calls()[0]["params"]["task"]["ttl"].is_u64());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_own_wish_for_a_task_is_not_passed_on() {
    let (world, _peer) = world(&["2025-11-25"]).await;
    for revision in GENERATIONS {
        let client = TestClient::connect(&world, "/tools/one", revision).await;
        let params = json!({ "name": "echo", "arguments": {}, "task": { "ttl": 1 } });
        assert_eq!(client.result("tools/call", params).await["content"], json!([]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_fails_or_is_given_up_ends_its_call() {
    for upstream in [["2025-11-25"], ["2026-07-28"]] {
        let (world, peer) = world(&upstream).await;
        for revision in GENERATIONS {
            let client = TestClient::connect(&world, "/mcp/one", revision).await;
            for (tool, words) in [("fails", "broke"), ("gives-up", "gave its task up")] {
                let result = client
                    .call("use_one", json!({ "tool": tool, "arguments": {} }))
                    .await;
                assert_eq!(result["isError"], true, "{revision} {upstream:?}: {result}");
                let text = result["content"][0]["text"].as_str().unwrap();
                assert!(text.contains(words), "{revision} {upstream:?}: {text}");
            }
        }
        let seen = peer.seen.lock();
        assert!(seen.iter().all(|it| it["method"] != "tasks/cancel"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_of_a_task_comes_under_the_id_its_client_knows() {
    let (world, peer) = world(&["2026-07-28"]).await;
    for path in ["/tools/one", "/tools"] {
        let client = TestClient::connect(&world, path, "2026-07-28").await;
        assert_eq!(
            client.initialized["capabilities"]["extensions"][EXTENSION],
            json!({})
        );
        let name = if path == "/tools" { "one__ends" } else { "ends" };
        let made = client
            .result("tools/call", tending(json!({ "name": name, "arguments": {} })))
            .await;
        let id = made["taskId"].as_str().unwrap();
        let inner = peer.tasks.lock().keys().max().cloned().unwrap();
        assert!(!id.contains(&inner));
        let wanted = json!({ "notifications": { "taskIds": [id, "made-up"] } });
        let mut stream = client.send("subscriptions/listen", tending(wanted)).await;
        let honoured = until_method(&mut stream, "notifications/subscriptions/acknowledged").await;
        assert_eq!(honoured["params"]["notifications"], json!({ "taskIds": [id] }));
        world
            .until("the provider to be listened to", || async {
                peer.notices.receiver_count() > 0
            })
            .await;
        let link = json!({ "content": [{ "type": "resource_link", "uri": "a://b", "name": "b" }] });
        let state = json!({ "taskId": inner, "status": "completed", "result": link });
        peer.notices
            .send(json!({ "method": "notifications/tasks", "params": state }))
            .unwrap();
        let notice = until_method(&mut stream, "notifications/tasks").await;
        assert_eq!(notice["params"]["taskId"], id);
        let uri = notice["params"]["result"]["content"][0]["uri"].as_str().unwrap();
        assert_eq!(
            uri,
            if path == "/tools" {
                "pleiades://one/a://b"
            } else {
                "a://b"
            }
        );
        let tag = &notice["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"];
        assert_eq!(
            tag,
            &honoured["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"]
        );
        drop(stream);
        world
            .until("nobody to listen any more", || async {
                peer.notices.receiver_count() == 0
            })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_its_own_users() {
    let (_peer, url) = TaskPeer::start(&["2026-07-28"]).await;
    let descriptor = format!("upstream: {{ url: \"{url}\" }}\nauth: {{ none: {{}} }}\n");
    let keys = "access:\n  api_keys:
    - { name: ann, tenant: acme, user: ann, sha256: \"a43e0ad598a444b1933e3535025c95ba2340322d8adb1bf40e03824376e4b7d2\" }
    - { name: bob, tenant: acme, user: bob, sha256: \"08781b8f42b3d48a3db9e503494ab9f634534849e83ef9f845b3faf398fd9952\" }\n";
    let world = World::builder()
        .descriptor("one", &descriptor)
        .settings(keys)
        .start()
        .await;
    world.until_state("one", "ready").await;
    let connect = |key| TestClient::connect_with(&world, "/tools/one", "2026-07-28", key);
    let ann = connect(&[("x-api-key", "ann-key-000000")]).await;
    let bob = connect(&[("x-api-key", "bob-key-000000")]).await;
    let made = tending(json!({ "name": "ends", "arguments": {} }));
    let made = ann.result("tools/call", made).await;
    let id = &made["taskId"];
    let unknown = bob
        .request("tasks/get", tending(json!({ "taskId": "made-up" })))
        .await;
    for method in ["tasks/get", "tasks/cancel"] {
        let foreign = bob.request(method, tending(json!({ "taskId": id }))).await;
        assert_eq!(foreign["error"]["code"], unknown["error"]["code"], "{foreign}");
        assert_eq!(
            foreign["error"]["message"], unknown["error"]["message"],
            "{foreign}"
        );
    }
    ann.result("tasks/get", tending(json!({ "taskId": id }))).await;
}

/// Cancels a call whose task the provider has made and not named yet; then the provider names it.
async fn cancelled_unheard(world: &World, peer: &Arc<TaskPeer>, client: TestClient, params: Value) {
    let made = peer.tasks.lock().len();
    let client = Arc::new(client);
    let calling = {
        let client = Arc::clone(&client);
        tokio::spawn(async move { client.send_as(json!("mine"), "tools/call", params).await })
    };
    world
        .until("the task to be made", || async { peer.tasks.lock().len() > made })
        .await;
    if client.is_modern() {
        calling.abort();
        drop(calling.await);
        // The connection is closed by a task of the client's own: released earlier, the task would be heard of
        // by a gateway whose client is still there.
        world
            .until("the gateway to see that its client left", || async {
                world
                    .metrics()
                    .await
                    .contains("pleiades_inflight{provider=\"one\"} 0")
            })
            .await;
    } else {
        client
            .notify("notifications/cancelled", json!({ "requestId": "mine" }))
            .await;
        calling.await.unwrap();
    }
    assert!(peer.named("tasks/cancel").is_empty(), "nobody knows the task yet");
    peer.release.add_permits(1);
    let task = format!("task-{}", made + 1);
    world
        .until("the task to be cancelled", || async {
            peer.named("tasks/cancel").contains(&task)
        })
        .await;
    assert_eq!(peer.named("tasks/cancel"), [task]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_cancelled_before_its_task_is_named_cancels_the_task() {
    for upstream in [["2025-11-25"], ["2026-07-28"]] {
        for revision in GENERATIONS {
            for (path, name) in [("/mcp/one", "use_one"), ("/tools/one", "held")] {
                let (world, peer) = world(&upstream).await;
                let client = TestClient::connect(&world, path, revision).await;
                let mut params = json!({ "name": name, "arguments": {} });
                if name == "use_one" {
                    params["arguments"] = json!({ "tool": "held", "arguments": {} });
                }
                if client.is_modern() && upstream == ["2026-07-28"] && name == "held" {
                    // It looks after its tasks itself, and was not told of this one.
                    params = tending(params);
                }
                cancelled_unheard(&world, &peer, client, params).await;
            }
        }
    }
}
