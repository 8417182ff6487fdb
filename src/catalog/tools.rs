//! Tools as they came, and what is made of them once.

use std::{collections::HashSet, sync::Arc};

use serde_json::value::RawValue;

use super::Tool;
use super::checks::Slot;
use crate::mcp::headers;
use crate::mcp::raw::raw as text;
use crate::mcp::{Raw, RawObject};

/// Longest name of a tool, as MCP 2025-11-25 recommends.
const NAME: usize = 128;

/// Compiles the entries of `tools/list`. Each that callers could not use is left out with a warning.
/// `mirrors`: whether arguments go into headers, so that a faulty `x-mcp-header` matters.
pub(super) fn compile(raws: Vec<RawObject>, mirrors: bool, warnings: &mut Vec<String>) -> Vec<Arc<Tool>> {
    let mut seen = HashSet::new();
    let mut tools = Vec::with_capacity(raws.len());
    for raw in raws {
        match tool(raw, mirrors, &mut seen) {
            Ok(tool) => tools.push(Arc::new(tool)),
            Err(why) => warnings.push(why),
        }
    }
    tools
}

fn tool(raw: RawObject, mirrors: bool, seen: &mut HashSet<String>) -> Result<Tool, String> {
    let Some(name) = raw.read::<String>("name") else {
        return Err("a tool was left out: it has no name".to_owned());
    };
    if !is_name(&name) {
        let shown: String = name.chars().take(NAME).collect();
        return Err(format!(
            "tool `{}` was left out: its name is not 1 to 128 of `A-Z a-z 0-9 _ . - /`",
            shown.escape_debug()
        ));
    }
    let schema: Raw = raw
        .get("inputSchema")
        .map_or_else(no_arguments, RawValue::to_owned);
    let mirrored = match headers::mirror_paths(&schema) {
        Ok(paths) if mirrors => paths,
        Err(why) if mirrors => return Err(format!("tool `{name}` was left out: {why}")),
        _ => Vec::new(),
    };
    if !seen.insert(name.clone()) {
        return Err(format!(
            "tool `{name}` was left out: the provider names it twice, the first is kept"
        ));
    }
    Ok(Tool {
        name: name.into(),
        raw,
        schema,
        mirrored,
        checks: Slot::default(),
    })
}

fn is_name(name: &str) -> bool {
    (1..=NAME).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'/'))
}

fn no_arguments() -> Raw {
    text(&serde_json::json!({"type": "object"}))
}
