//! `pleiades demo`: a small MCP server over stdin and stdout, for the first call and the documents.
//!
//! Made with the official SDK, so that what the gateway meets first is not its own idea of a server. It
//! opens no file and no connection, writes nothing but protocol to stdout, and ends with its input.

mod call;
mod stars;
mod tools;

use std::io::IsTerminal as _;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, GetPromptRequestParams, GetPromptResponse, GetPromptResult,
    ListPromptsResult, ListResourcesResult, ListToolsResult, PaginatedRequestParams,
    ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult, ServerConfig, Tool,
};
use rmcp::service::{RequestContext, ServerInitializeError};
use rmcp::{ErrorData, RoleServer, ServerHandler, ServiceExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{exit, ui};

/// Tools to a page: fewer than there are, so that the list is read by its cursor.
const PAGE: usize = 4;
/// The one resource.
const ABOUT: &str = "demo://about";
/// The one prompt.
const PROMPT: &str = "describe_star";

/// Serves until stdin ends.
pub(super) fn run() -> Result<u8, u8> {
    if std::io::stdin().is_terminal() {
        ui::err("An MCP server over stdin and stdout: a client sends it lines of JSON-RPC. Ctrl+D ends it.");
        ui::err("Through the gateway: `pleiades call demo echo '{\"message\":\"hi\"}'`");
    }
    let served = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| runtime.block_on(serve()));
    served.map(|()| exit::OK).map_err(|cause| {
        ui::fail(format_args!("stdin or stdout broke: {cause}"));
        exit::UNAVAILABLE
    })
}

async fn serve() -> std::io::Result<()> {
    let running = match DemoServer.serve(rmcp::transport::stdio()).await {
        Ok(running) => running,
        // Its input ended before anything was asked.
        Err(ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
        Err(cause) => return Err(std::io::Error::other(cause)),
    };
    running.waiting().await.map(drop).map_err(std::io::Error::other)
}

/// The server; it keeps nothing between calls.
#[derive(Debug)]
struct DemoServer;

impl ServerHandler for DemoServer {
    fn get_info(&self) -> ServerConfig {
        let newest = self.supported_protocol_versions().last().cloned();
        typed(json!({
            "protocolVersion": newest,
            "serverInfo": {"name": "pleiades-demo", "title": "Demo", "version": env!("CARGO_PKG_VERSION")},
            "instructions": "Tools to try a gateway with. Nothing here reaches a network or a file.",
            "capabilities": {"tools": {}, "prompts": {}, "resources": {}},
        }))
        .unwrap_or_default()
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tools = tools::declared();
        let start = match request.and_then(|params| params.cursor) {
            None => 0,
            Some(cursor) => cursor
                .parse()
                .ok()
                .filter(|start| *start < tools.len())
                .ok_or_else(|| ErrorData::invalid_params("unknown cursor", None))?,
        };
        let end = tools.len().min(start + PAGE);
        let next = (end < tools.len()).then(|| end.to_string());
        typed(json!({"resultType": "complete", "tools": tools.get(start..end), "nextCursor": next}))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        let mut tools = tools::declared().into_iter();
        let tool = tools.find(|tool| tool.get("name").and_then(Value::as_str) == Some(name))?;
        typed(tool).ok()
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        call::run(request, &context).await
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        typed(json!({"resultType": "complete", "resources": [{
            "uri": ABOUT, "name": "about", "title": "About the demo", "mimeType": "text/markdown",
            "description": "What each tool of this server shows.",
        }]}))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        if request.uri != ABOUT {
            let text = format!("no resource `{}`; there is `{ABOUT}`", request.uri);
            return Err(ErrorData::resource_not_found(text, None));
        }
        let contents = json!([{"uri": ABOUT, "mimeType": "text/markdown", "text": tools::about()}]);
        let result: ReadResourceResult = typed(json!({"resultType": "complete", "contents": contents}))?;
        Ok(result.into())
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        typed(json!({"resultType": "complete", "prompts": [{
            "name": PROMPT, "title": "Describe a star",
            "description": "Asks for a few sentences about a star of the demo's catalogue.",
            "arguments": [{"name": "star", "required": true, "description": "Its name, for example `Alpha Lyrae`."}],
        }]}))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        if request.name != PROMPT {
            let text = format!("no prompt `{}`; there is `{PROMPT}`", request.name);
            return Err(ErrorData::invalid_params(text, None));
        }
        let arguments = request.arguments.unwrap_or_default();
        let Some(star) = arguments.get("star").and_then(Value::as_str) else {
            return Err(ErrorData::invalid_params("`star` is missing", None));
        };
        let text = format!("Look {star} up with `find_star`, and describe it in three sentences.");
        let message = json!({"role": "user", "content": {"type": "text", "text": text}});
        let result: GetPromptResult = typed(json!({"resultType": "complete", "messages": [message]}))?;
        Ok(result.into())
    }
}

/// Builds a type of the SDK from the JSON that the specification shows.
fn typed<T: DeserializeOwned>(value: Value) -> Result<T, ErrorData> {
    serde_json::from_value(value).map_err(|fault| ErrorData::internal_error(fault.to_string(), None))
}
