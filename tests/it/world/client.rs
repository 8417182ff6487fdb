//! A client of one revision, as plain HTTP: what an SDK would send and nothing else.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::World;

/// The three generations of `docs/CELLS.md`: J, L, M.
pub const GENERATIONS: [&str; 3] = ["2025-06-18", "2025-11-25", "2026-07-28"];

/// A connected client.
pub struct TestClient {
    pub http: reqwest::Client,
    pub url: String,
    pub revision: &'static str,
    pub session: Option<String>,
    pub headers: Vec<(String, String)>,
    pub initialized: Value,
    pub next: AtomicU64,
}

impl TestClient {
    /// Connects in a revision: `initialize`, or nothing at all for 2026-07-28.
    pub async fn connect(world: &World, path: &str, revision: &'static str) -> Self {
        Self::connect_with(world, path, revision, &[]).await
    }

    /// The same with headers on each request.
    pub async fn connect_with(
        world: &World,
        path: &str,
        revision: &'static str,
        headers: &[(&str, &str)],
    ) -> Self {
        let mut client = Self {
            http: super::http(),
            url: format!("{}{path}", world.base),
            revision,
            session: None,
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            initialized: Value::Null,
            next: AtomicU64::new(1),
        };
        if client.is_modern() {
            client.initialized = client.request("server/discover", json!({})).await["result"].clone();
        } else {
            let params = json!({
                "protocolVersion": revision, "capabilities": {}, "clientInfo": { "name": "test", "version": "0" }
            });
            let response = client.send("initialize", params).await;
            client.session = response
                .headers()
                .get("mcp-session-id")
                .map(|value| value.to_str().unwrap().to_owned());
            client.initialized = super::json(response).await["result"].clone();
            client.notify("notifications/initialized", json!({})).await;
        }
        client
    }

    pub fn is_modern(&self) -> bool {
        self.revision == "2026-07-28"
    }

    /// One request's whole answer.
    pub async fn request(&self, method: &str, params: Value) -> Value {
        super::json(self.send(method, params).await).await
    }

    /// One request's result; an error fails the test.
    pub async fn result(&self, method: &str, params: Value) -> Value {
        let answer = self.request(method, params).await;
        assert!(
            answer.get("result").is_some(),
            "{method} at {} in {}: {answer}",
            self.url,
            self.revision
        );
        answer["result"].clone()
    }

    /// Calls a tool.
    pub async fn call(&self, name: &str, arguments: Value) -> Value {
        self.result("tools/call", json!({ "name": name, "arguments": arguments }))
            .await
    }

    /// Names of a list's entries.
    pub async fn names(&self, method: &str, list: &str, key: &str) -> Vec<String> {
        let result = self.result(method, json!({})).await;
        assert!(result.get("nextCursor").is_none());
        result[list]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry[key].as_str().unwrap().to_owned())
            .collect()
    }

    pub async fn tools(&self) -> Vec<String> {
        self.names("tools/list", "tools", "name").await
    }

    /// All messages of one request's event stream.
    pub async fn streamed(&self, method: &str, params: Value) -> Vec<Value> {
        events(&self.send(method, params).await.text().await.unwrap())
    }

    /// Sends one request.
    pub async fn send(&self, method: &str, params: Value) -> reqwest::Response {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.send_as(json!(id), method, params).await
    }

    /// Sends one request with an id of the caller's.
    pub async fn send_as(&self, id: Value, method: &str, mut params: Value) -> reqwest::Response {
        if self.is_modern() {
            if params.get("_meta").is_none() {
                params["_meta"] = json!({});
            }
            params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!(self.revision);
            let declared = &mut params["_meta"]["io.modelcontextprotocol/clientCapabilities"];
            if declared.is_null() {
                *declared = json!({});
            }
        }
        let mut request = self.post();
        if self.is_modern() {
            request = request.header("mcp-method", method);
            let name = match method {
                "tools/call" | "prompts/get" => params["name"].as_str(),
                "resources/read" => params["uri"].as_str(),
                "tasks/get" | "tasks/update" | "tasks/cancel" => params["taskId"].as_str(),
                _ => None,
            };
            if let Some(name) = name {
                request = request.header("mcp-name", name);
            }
        }
        let body = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        request.body(body.to_string()).send().await.unwrap()
    }

    /// Sends a notification.
    pub async fn notify(&self, method: &str, params: Value) {
        let body = json!({ "jsonrpc": "2.0", "method": method, "params": params });
        let answer = self.post().body(body.to_string()).send().await.unwrap();
        assert_eq!(answer.status(), 202);
    }

    /// A POST with the headers of this revision.
    pub fn post(&self) -> reqwest::RequestBuilder {
        let request = self
            .http
            .post(&self.url)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", self.revision);
        self.with_own(request)
    }

    /// The GET stream of a session.
    pub async fn stream(&self) -> reqwest::Response {
        let request = self.http.get(&self.url).header("accept", "text/event-stream");
        self.with_own(request).send().await.unwrap()
    }

    /// Ends the session.
    pub async fn delete(&self) -> reqwest::Response {
        self.with_own(self.http.delete(&self.url)).send().await.unwrap()
    }

    fn with_own(&self, mut request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        if let Some(session) = &self.session {
            request = request.header("mcp-session-id", session);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request
    }
}

/// The messages of an event stream.
pub fn events(text: &str) -> Vec<Value> {
    text.replace("\r\n", "\n")
        .split("\n\n")
        .filter_map(|event| {
            let data: Vec<&str> = event
                .lines()
                .filter_map(|line| line.strip_prefix("data:"))
                .collect();
            serde_json::from_str(&data.join("\n")).ok()
        })
        .collect()
}

/// Reads a stream until a message of a method has come.
pub async fn until_method(response: &mut reqwest::Response, method: &str) -> Value {
    let mut text = String::new();
    let found = async {
        loop {
            let chunk = response
                .chunk()
                .await
                .unwrap()
                .unwrap_or_else(|| panic!("the stream ended without {method}: {text}"));
            text.push_str(std::str::from_utf8(&chunk).unwrap());
            if let Some(message) = events(&text)
                .into_iter()
                .find(|message| message["method"] == method)
            {
                return message;
            }
        }
    };
    tokio::time::timeout(super::GUARD, found)
        .await
        .unwrap_or_else(|_| panic!("no {method} came"))
}
