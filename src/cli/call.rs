//! `pleiades tools` and `pleiades call`: a provider's tools from a terminal, as `access.local`.

use std::{io::Read, sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::ui::{self, BOLD, DIM};
use super::{Global, exit};
use crate::app::App;
use pleiades_core::telemetry::View;
use pleiades_gateway::exchange::{Arrived, ConnectCommand, Keys, Peer, Reply, Scope};
use pleiades_gateway::facade::definition::CONNECT_MARK;
use pleiades_mcp::{ClientCapabilities, Id, Message, Revision, raw};

const FAREWELL: Duration = Duration::from_secs(2);
/// The number of `Code::Cancelled`.
const CANCELLED: i64 = 499;
/// JSON-RPC: what was asked for is wrong.
const INVALID_PARAMS: i64 = -32602;

pub(super) fn tools(global: &Global, provider: &str) -> Result<u8, u8> {
    with_app(global, provider, |app| {
        match ask(app, provider, "tools/list", json!({})) {
            Ok(result) => {
                let tools = result.get("tools").cloned().unwrap_or_else(|| json!([]));
                if let Some(connect) = connect_tool(&tools) {
                    return report_unconnected(app, provider, connect);
                }
                if global.json {
                    ui::out(&tools);
                } else {
                    print_tools(&tools);
                }
                exit::OK
            }
            Err(error) => report_error(&error),
        }
    })
}

pub(super) fn call(global: &Global, provider: &str, tool: &str, arguments: Option<&str>) -> Result<u8, u8> {
    let arguments = read_arguments(arguments).map_err(|what| {
        ui::fail(what);
        exit::USAGE
    })?;
    let params = json!({ "name": tool, "arguments": arguments });
    with_app(global, provider, |app| {
        match ask(app, provider, "tools/call", params) {
            Ok(result) => {
                if global.json {
                    ui::out(&result);
                } else {
                    print_result(&result);
                }
                code_of(&result)
            }
            Err(error) => report_error(&error),
        }
    })
}

/// The gateway's own tool, which is all that a provider shows before an account is connected.
fn connect_tool(tools: &Value) -> Option<&str> {
    let [tool] = tools.as_array()?.as_slice() else {
        return None;
    };
    let is_ours = tool.get("_meta")?.get(CONNECT_MARK)?.as_bool()?;
    tool.get("name")?.as_str().filter(|_| is_ours)
}

/// Says how the account is connected that the tools are for.
fn report_unconnected(app: &App, provider: &str, connect: &str) -> u8 {
    match ask(
        app,
        provider,
        "tools/call",
        json!({ "name": connect, "arguments": {} }),
    ) {
        Ok(result) => {
            let text = result.pointer("/content/0/text").and_then(Value::as_str);
            ui::fail(text.unwrap_or("it is not connected"));
            exit::UNAVAILABLE
        }
        Err(error) => report_error(&error),
    }
}

fn with_app(global: &Global, provider: &str, run: impl FnOnce(&App) -> u8) -> Result<u8, u8> {
    let app = super::open(global, &global.overrides(), Some(provider))?;
    app.services().exchange.accounts.connect_by(ConnectCommand {
        program: super::invocation::as_typed(global),
        names_page: false,
    });
    let code = run(&app);
    app.stop(FAREWELL);
    Ok(code)
}

/// One request in the tool view of a provider.
fn ask(app: &App, provider: &str, method: &str, params: Value) -> Result<Value, Value> {
    let services = app.services();
    let scope = Scope::new(View::Tool, Some(Arc::from(provider)));
    let snapshot = services.exchange.snapshot(&scope, &services.principal);
    if scope.provider_in(&snapshot).is_err() {
        return Err(missing(app, provider));
    }
    let peer = Peer {
        principal: services.principal.clone(),
        revision: Revision::NEWEST_LEGACY,
        // As lists are read, so that both use one session; what is asked is declined.
        abilities: ClientCapabilities::ALL,
        capabilities: None,
        session: None,
        keys: Keys::Environment(pleiades_descriptor::settings::environment()),
        trace: None,
        request_id: services.ids.next(),
    };
    let message = Message::Request {
        id: Id(raw::raw(&1)),
        method: method.to_owned(),
        params: Some(raw::raw(&params)),
    };
    let arrived = Arrived::open(message);
    let (exchange, from) = (&services.exchange, (&scope, &peer));
    let handling = exchange.handle(&snapshot, from, arrived, None);
    let Some((reply, _)) = super::until_signal(app, handling) else {
        return Err(json!({ "code": CANCELLED, "message": "interrupted" }));
    };
    let Reply::Answer { body, .. } = reply else {
        return Err(json!({ "message": "no answer" }));
    };
    let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
    match answer.get("result") {
        Some(result) => Ok(result.clone()),
        None => Err(answer.get("error").cloned().unwrap_or_default()),
    }
}

/// Why a provider is not there: disabled, broken, or not named anywhere.
fn missing(app: &App, id: &str) -> Value {
    let snapshot = app.services().catalog.snapshot();
    let is_known = snapshot.entries.contains_key(id);
    let message = match snapshot.entries.get(id) {
        Some(entry) if entry.disabled => format!(
            "`{id}` is disabled: set `enabled: true` in {}",
            entry.file.display()
        ),
        Some(entry) => format!("`{id}` is broken: run `pleiades check {}`", entry.file.display()),
        None => format!(
            "no descriptor in {} has the id `{id}`",
            app.settings().providers.display()
        ),
    };
    // A name that nobody has is a mistake in the command, as `doctor` says too.
    json!({ "message": message, "code": if is_known { 0 } else { INVALID_PARAMS } })
}

fn report_error(error: &Value) -> u8 {
    let message = error.get("message").and_then(Value::as_str);
    ui::fail(message.unwrap_or("no answer"));
    let url = error.pointer("/data/connect_url").and_then(Value::as_str);
    if let Some(url) = url {
        ui::err(format_args!("open {url} and run this again"));
    }
    match error.get("code").and_then(Value::as_i64) {
        // What was asked for is wrong: a tool that is not there, arguments that do not fit.
        Some(-32602..=-32600) => exit::USAGE,
        Some(429 | CANCELLED | 503 | 504) => exit::TEMPORARY,
        _ => exit::UNAVAILABLE,
    }
}

fn read_arguments(given: Option<&str>) -> Result<Value, String> {
    let text = match given {
        None => return Ok(json!({})),
        Some("-") => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|cause| format!("stdin: {cause}"))?;
            text
        }
        Some(text) => text.to_owned(),
    };
    match serde_json::from_str::<Value>(&text) {
        Ok(arguments) if arguments.is_object() => Ok(arguments),
        Ok(_) => Err("the arguments must be one JSON object, for example '{\"message\":\"hi\"}'".to_owned()),
        Err(cause) => Err(format!(
            "the arguments are not JSON ({cause}), for example '{{\"message\":\"hi\"}}'"
        )),
    }
}

fn print_tools(tools: &Value) {
    let Some(tools) = tools.as_array() else { return };
    for tool in tools {
        let name = tool.get("name").and_then(Value::as_str).unwrap_or_default();
        let about = tool.get("description").and_then(Value::as_str);
        let first = about.unwrap_or_default().lines().next().unwrap_or_default();
        ui::out(format_args!("{BOLD}{name}{BOLD:#}  {DIM}{first}{DIM:#}"));
    }
}

fn print_result(result: &Value) {
    let content = result.get("content").and_then(Value::as_array);
    for block in content.into_iter().flatten() {
        match block.get("text").and_then(Value::as_str) {
            Some(text) => ui::out(text),
            None => ui::out(format_args!("{block:#}")),
        }
    }
}

/// Exit code of a result: failures that may pass are temporary.
fn code_of(result: &Value) -> u8 {
    if result.get("isError").and_then(Value::as_bool) != Some(true) {
        return exit::OK;
    }
    let status = result.pointer("/structuredContent/status");
    match status.and_then(Value::as_str) {
        Some("rate_limited" | "timeout") => exit::TEMPORARY,
        Some("invalid_arguments" | "unknown_tool") => exit::USAGE,
        _ => exit::UNAVAILABLE,
    }
}
