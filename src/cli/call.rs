//! `pleiades tools` and `pleiades call`: a provider's tools from a terminal, as `access.local`.

use std::io::Read;

use serde_json::{Map, Value};

use super::provider_access::{CommandError, ProviderAccess, ProviderChoice};
use super::ui::{self, BOLD, DIM};
use super::{Global, exit};
use pleiades_descriptor::reader::near;
use pleiades_gateway::facade::definition::CONNECT_MARK;
use pleiades_gateway::facade::misfit::{Misfit, misfit};
use pleiades_mcp::{RawObject, raw};

/// The most text that is read as arguments, in bytes.
const MAX_ARGUMENTS: u64 = 64 << 20;

pub(super) fn tools(global: &Global, choice: &ProviderChoice) -> Result<u8, u8> {
    with_access(global, choice, |access| {
        let tools = connected(access)?;
        if global.json {
            ui::out(Value::from(tools));
        } else {
            print_tools(&tools);
        }
        Ok(exit::OK)
    })
}

pub(super) fn call(
    global: &Global,
    choice: &ProviderChoice,
    (tool, arguments): (&str, Option<&str>),
) -> Result<u8, u8> {
    let arguments = read_arguments(arguments);
    let arguments = arguments.map_err(|what| CommandError::usage(what).print_alone(global.json))?;
    with_access(global, choice, |access| {
        // Without a list the call itself says what is wrong.
        let tools = listed(access).unwrap_or_default();
        let definition = tools.iter().find(|it| name(it) == tool);
        if let Some(found) = definition.and_then(|it| misfit_of(it, &arguments)) {
            return Err(refused(&found, (&choice.provider, tool)));
        }
        let params = Map::from_iter([
            ("name".to_owned(), tool.into()),
            ("arguments".to_owned(), arguments.into()),
        ]);
        let result = access
            .ask("tools/call", params)
            .map_err(|error| match definition {
                None if error.exit == exit::USAGE => error.with_hint(nearest(&choice.provider, tool, &tools)),
                _ => error,
            })?;
        if let Some(error) = failure(&result) {
            return Err(error.with_result(&result));
        }
        if global.json {
            ui::out(&result);
        } else {
            print_result(&result);
        }
        Ok(code_of(&result))
    })
}

/// The tools of a provider whose account is connected, if it needs one.
pub(super) fn connected(access: &mut ProviderAccess) -> Result<Vec<Value>, CommandError> {
    let tools = listed(access)?;
    match connect_tool(&tools) {
        Some(connect) => Err(unconnected(access, connect)),
        None => Ok(tools),
    }
}

/// The gateway's own tool, which is all that a provider shows before an account is connected.
fn connect_tool(tools: &[Value]) -> Option<&str> {
    let [tool] = tools else { return None };
    let is_ours = tool.get("_meta")?.get(CONNECT_MARK)?.as_bool()?;
    Some(name(tool)).filter(|_| is_ours)
}

/// Why the tools are not there that an account is needed for, and how it is connected.
fn unconnected(access: &mut ProviderAccess, connect: &str) -> CommandError {
    let params = Map::from_iter([("name".to_owned(), connect.into())]);
    match access.ask("tools/call", params) {
        Ok(result) => {
            let text = result.pointer("/content/0/text").and_then(Value::as_str);
            CommandError::failed("needs_auth", text.unwrap_or("it is not connected")).with_result(&result)
        }
        Err(error) => error,
    }
}

fn with_access(
    global: &Global,
    choice: &ProviderChoice,
    run: impl FnOnce(&mut ProviderAccess) -> Result<u8, CommandError>,
) -> Result<u8, u8> {
    run_with(ProviderAccess::open(global, choice)?, run)
}

pub(super) fn run_with(
    mut access: ProviderAccess,
    run: impl FnOnce(&mut ProviderAccess) -> Result<u8, CommandError>,
) -> Result<u8, u8> {
    let code = run(&mut access).unwrap_or_else(|error| error.print(&access));
    access.stop();
    Ok(code)
}

fn listed(access: &mut ProviderAccess) -> Result<Vec<Value>, CommandError> {
    let mut result = access.ask("tools/list", Map::new())?;
    match result.get_mut("tools").map(Value::take) {
        Some(Value::Array(tools)) => Ok(tools),
        _ => Ok(Vec::new()),
    }
}

fn name(tool: &Value) -> &str {
    tool.get("name").and_then(Value::as_str).unwrap_or_default()
}

fn misfit_of(definition: &Value, arguments: &Map<String, Value>) -> Option<Misfit> {
    let definition = RawObject::open(&raw::raw(definition)).ok()?;
    misfit(definition, arguments)
}

/// What a person reads whose arguments do not fit.
fn refused(found: &Misfit, (provider, tool): (&str, &str)) -> CommandError {
    let mut text = format!("nothing was run: the arguments of `{tool}` do not fit");
    for fault in &found.faults {
        text.push_str("\n  ");
        text.push_str(fault);
    }
    text.push_str(&format!("\n{}", found.signature));
    if let Some(example) = &found.example {
        let example = example.to_string().replace('\'', "'\\''");
        text.push_str(&format!(
            "\nfor example: pleiades call {provider} {tool} '{example}'"
        ));
    }
    CommandError::usage(text).with_name("invalid_arguments")
}

/// The names that may have been meant, for a tool that is not there.
fn nearest(provider: &str, tool: &str, tools: &[Value]) -> String {
    let near: Vec<String> = near(tool, tools.iter().map(name))
        .iter()
        .map(|name| format!("`{name}`"))
        .collect();
    match near.as_slice() {
        [] => format!("`pleiades tools {provider}` lists what is there"),
        near => format!("did you mean {}", near.join(" or ")),
    }
}

fn read_arguments(given: Option<&str>) -> Result<Map<String, Value>, String> {
    let text = match given {
        None => return Ok(Map::new()),
        Some("-") => {
            let mut text = String::new();
            std::io::stdin()
                .take(MAX_ARGUMENTS)
                .read_to_string(&mut text)
                .map_err(|cause| format!("stdin: {cause}"))?;
            text
        }
        Some(text) => text.to_owned(),
    };
    match serde_json::from_str::<Value>(&text) {
        Ok(Value::Object(arguments)) => Ok(arguments),
        Ok(_) => Err("the arguments must be one JSON object, for example '{\"message\":\"hi\"}'".to_owned()),
        Err(cause) => Err(format!(
            "the arguments are not JSON ({cause}), for example '{{\"message\":\"hi\"}}'"
        )),
    }
}

fn print_tools(tools: &[Value]) {
    for tool in tools {
        let about = tool.get("description").and_then(Value::as_str);
        let first = about.unwrap_or_default().lines().next().unwrap_or_default();
        ui::out(format_args!("{BOLD}{}{BOLD:#}  {DIM}{first}{DIM:#}", name(tool)));
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

fn is_error(result: &Value) -> bool {
    result.get("isError").and_then(Value::as_bool) == Some(true)
}

/// The failure that a result of the gateway's own tells: by the code that it names, else by its status. Of a tool
/// whose results have a schema it stands beside them.
fn failure(result: &Value) -> Option<CommandError> {
    let beside = result.pointer("/_meta/pleiades~1answer");
    let answer = beside.or_else(|| result.get("structuredContent"));
    let answer = answer.filter(|_| is_error(result))?;
    // What a provider answers has none.
    answer.get("telemetryId")?;
    let status = answer.get("status")?.as_str()?;
    let name = answer
        .pointer("/data/code")
        .and_then(Value::as_str)
        .unwrap_or(status);
    let text = answer.get("text").and_then(Value::as_str).unwrap_or(status);
    Some(CommandError::failed(name, text))
}

/// A failure of the tool's own stands in its content.
fn code_of(result: &Value) -> u8 {
    if is_error(result) {
        exit::UNAVAILABLE
    } else {
        exit::OK
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_failed_result_ends_with_the_exit_code_of_its_cause() {
        let code = |status: &str, data: Value| {
            let answer = json!({ "status": status, "text": "x", "data": data, "telemetryId": "1" });
            failure(&json!({ "isError": true, "structuredContent": answer })).map(|error| error.exit)
        };
        assert_eq!(
            code("rate_limited", json!({ "code": "busy" })),
            Some(exit::TEMPORARY)
        );
        let unreachable = json!({ "code": "upstream_unreachable" });
        assert_eq!(code("upstream_error", unreachable), Some(exit::UNAVAILABLE));
        assert_eq!(code("timeout", Value::Null), Some(exit::TEMPORARY));
        assert_eq!(
            code("needs_auth", json!({ "reason": "never_connected" })),
            Some(exit::UNAVAILABLE)
        );
        assert_eq!(code("unknown_tool", json!({ "nearest": [] })), Some(exit::USAGE));
        let answer =
            json!({ "status": "rate_limited", "text": "x", "data": { "code": "busy" }, "telemetryId": "1" });
        let beside = json!({ "isError": true, "content": [], "_meta": { "pleiades/answer": answer } });
        assert_eq!(failure(&beside).map(|error| error.exit), Some(exit::TEMPORARY));
    }

    #[test]
    fn a_tools_own_failure_is_a_result_and_ends_as_unavailable() {
        let own = json!({ "isError": true, "structuredContent": { "status": "rate_limited" } });
        assert!(failure(&own).is_none());
        assert_eq!(code_of(&own), exit::UNAVAILABLE);
        assert_eq!(code_of(&json!({ "content": [] })), exit::OK);
    }
}
