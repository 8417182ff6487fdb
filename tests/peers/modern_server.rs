//! A real MCP server for the tests, made with the official Rust SDK: revision 2026-07-28 and every
//! older one, or only the revisions asked for.
//!
//! `modern_server ADDR [--only-modern | --only-legacy REVISION] [--tools N] [--page K]` serves
//! streamable HTTP at `http://ADDR/mcp` and prints that URL; `modern_server --stdio …` speaks on
//! stdin and stdout. Results carry fields that no specification names, so that a test can see
//! whether they survive the way through the gateway.
#![expect(
    clippy::indexing_slicing,
    reason = "JSON values answer null for what they do not have"
)]

use std::borrow::Cow;
use std::error::Error;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, CompleteRequestParams, CompleteResult,
    GetPromptRequestParams, GetPromptResponse, GetPromptResult, ListPromptsResult,
    ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, PaginatedRequestParams,
    ProgressNotificationParam, ProtocolVersion, ReadResourceRequestParams, ReadResourceResponse,
    ReadResourceResult, ServerConfig, SubscriptionFilter, Tool,
};
use rmcp::service::{NotificationContext, RequestContext, SubscriptionContext};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, Peer, RoleServer, ServerHandler, ServiceExt};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

type ModernResult<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// What the command line asked for.
#[derive(Debug, Clone, Default)]
struct ModernOptions {
    address: Option<String>,
    stdio: bool,
    revisions: Option<Vec<ProtocolVersion>>,
    /// Tools beside the named ones, called `many_0` and up.
    many: usize,
    /// Tools to a page; 0 is one page for all.
    page: usize,
}

fn main() -> ModernResult<()> {
    let options = options(std::env::args().skip(1))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let server = ModernServer::new(&options);
        if options.stdio {
            let running = server.serve(rmcp::transport::stdio()).await?;
            running.waiting().await?;
            return Ok(());
        }
        serve_http(server, options.address.as_deref().unwrap_or("127.0.0.1:0")).await
    })
}

fn options(mut words: impl Iterator<Item = String>) -> ModernResult<ModernOptions> {
    let mut options = ModernOptions::default();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("`{word}` needs a value"));
        match word.as_str() {
            "--stdio" => options.stdio = true,
            "--only-modern" => options.revisions = Some(vec![ProtocolVersion::V_2026_07_28]),
            "--only-legacy" => options.revisions = Some(vec![typed(json!(value()?))?]),
            "--tools" => options.many = value()?.parse()?,
            "--page" => options.page = value()?.parse()?,
            flag if flag.starts_with("--") => return Err(format!("unknown flag `{flag}`").into()),
            _ => options.address = Some(word),
        }
    }
    Ok(options)
}

async fn serve_http(server: ModernServer, address: &str) -> ModernResult<()> {
    let service: StreamableHttpService<ModernServer, LocalSessionManager> = StreamableHttpService::new(
        move || Ok(server.clone()),
        Arc::default(),
        StreamableHttpServerConfig::default().with_json_response(true),
    );
    let router = axum::Router::new()
        .nest_service("/mcp", service)
        .layer(from_fn(add_vendor_fields));
    let listener = tokio::net::TcpListener::bind(address).await?;
    writeln!(std::io::stdout(), "http://{}/mcp", listener.local_addr()?)?;
    std::io::stdout().flush()?;
    axum::serve(listener, router).await?;
    Ok(())
}

#[derive(Clone)]
struct ModernServer {
    many: usize,
    page: usize,
    revisions: Option<Vec<ProtocolVersion>>,
    /// How many calls of `slow` were cancelled.
    cancelled: Arc<AtomicUsize>,
    /// How many tools `grow` has added; those who listen are told of each change.
    grown: Arc<watch::Sender<usize>>,
}

impl ModernServer {
    fn new(options: &ModernOptions) -> Self {
        Self {
            many: options.many,
            page: options.page,
            revisions: options.revisions.clone(),
            cancelled: Arc::default(),
            grown: Arc::new(watch::Sender::new(0)),
        }
    }

    fn tools(&self) -> Vec<Value> {
        let declared = json!([
            ["echo", "Returns the message.", {"message": {"type": "string"}}, ["message"]],
            ["add", "Adds two numbers.", {"a": {"type": "number"}, "b": {"type": "number"}}, ["a", "b"]],
            ["slow", "Reports progress in steps.", {"steps": {"type": "integer"}}, []],
            ["cancelled", "Counts the calls of `slow` that were cancelled.", {}, []],
            ["fail", "Always fails.", {}, []],
            ["list_value", "Returns an array as its structured content.", {}, []],
            ["vendor", "Returns fields that no specification names.", {}, []],
            ["headers", "Returns the HTTP headers of this request.", {}, []],
            ["grow", "Adds a tool and says that the list changed.", {}, []],
            ["region", "Has an argument that is mirrored into a header.",
                {"region": {"type": "string", "x-mcp-header": "Region"}}, ["region"]],
        ]);
        let named = declared.as_array().into_iter().flatten().map(tool);
        let message = json!({"message": {"type": "string"}});
        let numbered =
            |prefix: &str, n: usize| tool(&json!([format!("{prefix}_{n}"), "One of many.", message, []]));
        named
            .chain((0..*self.grown.borrow()).map(|n| numbered("grown", n)))
            .chain((0..self.many).map(|n| numbered("many", n)))
            .collect()
    }

    async fn call(
        &self,
        request: CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<Value, ErrorData> {
        let arguments = request.arguments.unwrap_or_default();
        let message = arguments.get("message").and_then(Value::as_str).unwrap_or("");
        let name = request.name.as_ref();
        match name {
            "echo" => Ok(text_result(message)),
            "add" => add(&arguments),
            "slow" => self.slow(&arguments, context).await,
            "cancelled" => Ok(structured(
                json!({"count": self.cancelled.load(Ordering::SeqCst)}),
            )),
            "fail" => Ok(json!({"content": [{"type": "text", "text": "it failed"}], "isError": true})),
            "list_value" => Ok(structured(json!([1, 2, 3]))),
            "vendor" => Ok(text_result("vendor")),
            "headers" => Ok(structured(headers(context))),
            "region" => Ok(structured(json!({"region": arguments.get("region")}))),
            "grow" => {
                self.grown.send_modify(|n| *n += 1);
                Ok(text_result("grown"))
            }
            _ if self.tools().iter().any(|tool| tool["name"] == name) => Ok(text_result(name)),
            _ => Err(ErrorData::invalid_params(format!("unknown tool `{name}`"), None)),
        }
    }

    async fn slow(
        &self,
        arguments: &Map<String, Value>,
        context: &RequestContext<RoleServer>,
    ) -> Result<Value, ErrorData> {
        let steps = arguments.get("steps").and_then(Value::as_u64).unwrap_or(3);
        let token = context.meta.get_progress_token();
        for step in 1..=steps {
            tokio::select! {
                () = context.ct.cancelled() => {
                    self.cancelled.fetch_add(1, Ordering::SeqCst);
                    return Ok(text_result("cancelled"));
                }
                () = tokio::time::sleep(std::time::Duration::from_millis(50)) => {}
            }
            let Some(token) = &token else { continue };
            let progress: ProgressNotificationParam =
                typed(json!({"progressToken": token, "progress": step, "total": steps}))?;
            if context.peer.notify_progress(progress).await.is_err() {
                break;
            }
        }
        Ok(text_result("done"))
    }
}

impl ServerHandler for ModernServer {
    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        match &self.revisions {
            Some(revisions) => Cow::Owned(revisions.clone()),
            None => Cow::Borrowed(ProtocolVersion::KNOWN_VERSIONS),
        }
    }

    fn get_info(&self) -> ServerConfig {
        let newest = self.supported_protocol_versions().last().cloned();
        typed(json!({
            "protocolVersion": newest,
            "serverInfo": {"name": "modern-server", "title": "Modern server", "version": "1.0.0"},
            "instructions": "A peer for tests.",
            "capabilities": {
                "tools": {"listChanged": true}, "prompts": {}, "resources": {}, "completions": {},
            },
        }))
        .unwrap_or_default()
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tools = self.tools();
        let cursor = request.and_then(|params| params.cursor);
        let start = match &cursor {
            None => 0,
            Some(cursor) => cursor
                .strip_prefix("from:")
                .and_then(|start| start.parse::<usize>().ok())
                .filter(|start| *start < tools.len())
                .ok_or_else(|| ErrorData::invalid_params("unknown cursor", None))?,
        };
        let end = if self.page == 0 {
            tools.len()
        } else {
            tools.len().min(start + self.page)
        };
        let next = (end < tools.len()).then(|| format!("from:{end}"));
        typed(json!({"tools": tools.get(start..end), "nextCursor": next, "resultType": "complete"}))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        let tool = self.tools().into_iter().find(|tool| tool["name"] == name)?;
        serde_json::from_value(tool).ok()
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let mut result = self.call(request, &context).await?;
        result["resultType"] = json!("complete");
        result["_meta"] = json!({"vendor.example/trace": "kept"});
        Ok(typed::<CallToolResult>(result)?.into())
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        typed(json!({"resultType": "complete", "resources": [
            {"uri": "memo://greeting", "name": "greeting", "mimeType": "text/plain"},
            {"uri": "memo://farewell", "name": "farewell", "mimeType": "text/plain"},
        ]}))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        typed(json!({"resultType": "complete", "resourceTemplates": [
            {"uriTemplate": "memo://page/{number}", "name": "page", "mimeType": "text/plain"},
        ]}))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let uri = request.uri;
        if !uri.starts_with("memo://") {
            return Err(ErrorData::resource_not_found(
                format!("no resource `{uri}`"),
                None,
            ));
        }
        let contents = json!([{"uri": uri, "mimeType": "text/plain", "text": format!("memo of {uri}")}]);
        let result: ReadResourceResult = typed(json!({"resultType": "complete", "contents": contents}))?;
        Ok(result.into())
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        typed(json!({"resultType": "complete", "prompts": [
            {"name": "greet", "description": "A greeting.",
             "arguments": [{"name": "who", "required": true}]},
        ]}))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        if request.name != "greet" {
            let text = format!("unknown prompt `{}`", request.name);
            return Err(ErrorData::invalid_params(text, None));
        }
        let arguments = request.arguments.unwrap_or_default();
        let who = arguments.get("who").and_then(Value::as_str).unwrap_or("you");
        let text = json!({"type": "text", "text": format!("Say hello to {who}.")});
        let result: GetPromptResult = typed(json!({
            "resultType": "complete", "messages": [{"role": "user", "content": text}],
        }))?;
        Ok(result.into())
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let begun = request.argument.value;
        let values: Vec<_> = ["ada", "alan", "grace"]
            .into_iter()
            .filter(|name| name.starts_with(&begun))
            .collect();
        typed(json!({"resultType": "complete", "completion": {"values": values, "hasMore": false}}))
    }

    /// A session of an older revision hears of changes on its own stream.
    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        tokio::spawn(tell(context.peer, self.grown.subscribe()));
    }

    fn accepted_subscription_filter(&self, asked: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(asked.clone())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let mut grown = self.grown.subscribe();
        loop {
            tokio::select! {
                () = context.cancelled() => return Ok(()),
                changed = grown.changed() => {
                    if changed.is_err() || context.sink().notify_tool_list_changed().await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// Tells a session of each change until it is gone.
async fn tell(peer: Peer<RoleServer>, mut grown: watch::Receiver<usize>) {
    while grown.changed().await.is_ok() && peer.notify_tool_list_changed().await.is_ok() {}
}

fn tool(declared: &Value) -> Value {
    json!({
        "name": declared[0], "description": declared[1],
        "inputSchema": {"type": "object", "properties": declared[2], "required": declared[3]},
        "_meta": {"vendor.example/tool": declared[0]},
    })
}

fn text_result(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}], "isError": false})
}

fn structured(value: Value) -> Value {
    json!({"content": [{"type": "text", "text": value.to_string()}], "structuredContent": value})
}

fn add(arguments: &Map<String, Value>) -> Result<Value, ErrorData> {
    let term = |name: &str| {
        arguments
            .get(name)
            .and_then(Value::as_f64)
            .ok_or_else(|| ErrorData::invalid_params(format!("`{name}` must be a number"), None))
    };
    Ok(structured(json!({"sum": term("a")? + term("b")?})))
}

fn headers(context: &RequestContext<RoleServer>) -> Value {
    let Some(parts) = context.extensions.get::<http::request::Parts>() else {
        return json!({});
    };
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    parts
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), json!(text(value))))
        .collect()
}

/// Builds a type of the SDK from the JSON that the specification shows.
fn typed<T: DeserializeOwned>(value: Value) -> Result<T, ErrorData> {
    serde_json::from_value(value).map_err(|fault| ErrorData::internal_error(fault.to_string(), None))
}

/// Adds unknown fields to lists of tools and to the answer of `vendor`, which the SDK's types
/// cannot hold.
async fn add_vendor_fields(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 4 << 20).await.unwrap_or_default();
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    let edits: &[(&str, &str)] = match message["method"].as_str() {
        Some("tools/list") => &[(r#""name":"echo""#, r#""name":"echo","vendorField":{"kept":true}"#)],
        Some("tools/call") if message["params"]["name"] == "vendor" => &[
            (
                r#""content":["#,
                r#""vendorResult":{"kept":[1,2.50,"x"]},"content":["#,
            ),
            (r#""text":"vendor""#, r#""text":"vendor","vendorBlock":7"#),
        ],
        _ => &[],
    };
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    if edits.is_empty() {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let answer = axum::body::to_bytes(body, 4 << 20).await.unwrap_or_default();
    let mut text = String::from_utf8_lossy(&answer).into_owned();
    for (old, new) in edits {
        text = text.replace(old, new);
    }
    parts.headers.remove(http::header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(text))
}
