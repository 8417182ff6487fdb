//! Calls of the meta tool as they arrive in practice (reference: `facade.md` section 2.3). A
//! repair may move or unwrap the envelope and read a scalar in its only possible way; it never
//! changes a value.

use serde_json::{Map, Value};

use crate::catalog::{Catalogue, Provider, Tool};
use crate::mcp::RawObject;

/// Envelopes within envelopes that are unwrapped.
const MAX_NESTED: usize = 2;
/// The meta tool's own parameters; every other key beside them belongs to the operation.
const OWN: [&str; 5] = ["tool", "arguments", "prompt", "accountId", "options"];
/// Other words for `tool` that models use.
const TOOL_WORDS: [&str; 3] = ["tool", "tool_name", "name"];

/// A call in its plain form.
#[derive(Debug, Default)]
pub(super) struct Envelope {
    /// The operation, as named.
    pub(super) tool: Option<String>,
    /// Its arguments; `None` when there was nothing that could be meant as some.
    pub(super) arguments: Option<Map<String, Value>>,
    /// Whether there is a goal in words.
    pub(super) prompt: Option<String>,
    /// What was repaired.
    pub(super) notes: Vec<String>,
}

/// Reads a call. The error says what could not be read.
///
/// # Errors
/// A sentence for the caller.
pub(super) fn read(provider: &Provider, catalogue: &Catalogue, given: &RawObject) -> Result<Envelope, String> {
    let mut outer = Map::new();
    for (key, value) in given.iter() {
        outer.insert(key.to_owned(), serde_json::from_str(value.get()).unwrap_or_default());
    }
    let mut envelope = Envelope::default();
    for _ in 0..MAX_NESTED {
        match nested(provider, &outer) {
            Some(inner) => {
                envelope.notes.push("the call was wrapped in another one and was unwrapped".to_owned());
                outer = inner;
            }
            None => break,
        }
    }
    envelope.prompt = text(&outer, "prompt");
    envelope.tool = text(&outer, "tool");
    let mut arguments = object(outer.get("arguments"), &mut envelope.notes)?;
    lift(&mut envelope, arguments.as_mut(), catalogue);
    let beside: Map<String, Value> =
        outer.into_iter().filter(|(key, _)| !OWN.contains(&key.as_str())).collect();
    gather(&mut envelope, arguments, beside)?;
    Ok(envelope)
}

/// The call inside a call: in `arguments` under its own words, or as text.
fn nested(provider: &Provider, outer: &Map<String, Value>) -> Option<Map<String, Value>> {
    let own = format!("use_{}", provider.id);
    let named_self = text(outer, "tool").is_none_or(|name| plain(&name) == own);
    if !named_self || outer.contains_key("prompt") {
        return None;
    }
    let inner = match outer.get("arguments").or_else(|| outer.get("input"))? {
        Value::Object(inner) => inner.clone(),
        Value::String(text) => serde_json::from_str(text).ok()?,
        _ => return None,
    };
    let is_call = inner.contains_key("tool") || (inner.contains_key("prompt") && inner.len() == 1);
    is_call.then_some(inner)
}

fn text(map: &Map<String, Value>, key: &str) -> Option<String> {
    map.get(key).and_then(Value::as_str).map(str::to_owned).filter(|text| !text.is_empty())
}

fn object(given: Option<&Value>, notes: &mut Vec<String>) -> Result<Option<Map<String, Value>>, String> {
    match given {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(arguments)) => Ok(Some(arguments.clone())),
        Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
        Some(Value::String(text)) => match serde_json::from_str(text) {
            Ok(Value::Object(arguments)) => {
                notes.push("`arguments` was a string and was read as the JSON object in it".to_owned());
                Ok(Some(arguments))
            }
            _ => Err("`arguments` is a string that is not a JSON object".to_owned()),
        },
        Some(_) => Err("`arguments` must be a JSON object".to_owned()),
    }
}

/// The operation's name inside `arguments`, when it is missing outside or the same.
fn lift(envelope: &mut Envelope, arguments: Option<&mut Map<String, Value>>, catalogue: &Catalogue) {
    let Some(arguments) = arguments else { return };
    for word in TOOL_WORDS {
        let Some(name) = text(arguments, word) else { continue };
        let known = resolve(&name, catalogue).is_ok();
        let same = envelope.tool.as_deref() == Some(name.as_str());
        let takes = envelope.tool.as_deref().and_then(|tool| catalogue.tool(tool)).is_some_and(|tool| has(tool, word));
        if known && !takes && (envelope.tool.is_none() || same) {
            arguments.remove(word);
            envelope.tool = Some(name);
            envelope.notes.push(format!("the operation's name stood in `arguments.{word}`"));
            return;
        }
    }
}

/// Keys beside `tool` are arguments that were not put into `arguments`.
fn gather(
    envelope: &mut Envelope,
    arguments: Option<Map<String, Value>>,
    mut beside: Map<String, Value>,
) -> Result<(), String> {
    if envelope.tool.is_none() {
        for word in ["tool_name", "name"] {
            if let Some(name) = text(&beside, word) {
                beside.remove(word);
                envelope.tool = Some(name);
                break;
            }
        }
    }
    if beside.is_empty() {
        envelope.arguments = arguments;
        return Ok(());
    }
    let mut all = arguments.unwrap_or_default();
    for (key, value) in beside {
        match all.get(&key) {
            Some(other) if *other != value => {
                return Err(format!("`{key}` is given twice with different values, beside `arguments` and in it"));
            }
            _ => all.insert(key, value),
        };
    }
    envelope.notes.push("arguments stood beside `tool` and were moved into `arguments`".to_owned());
    envelope.arguments = Some(all);
    Ok(())
}

fn has(tool: &Tool, property: &str) -> bool {
    properties(tool).is_some_and(|properties| properties.contains_key(property))
}

fn properties(tool: &Tool) -> Option<Map<String, Value>> {
    let schema: Map<String, Value> = serde_json::from_str(tool.schema.get()).ok()?;
    schema.get("properties").and_then(Value::as_object).cloned()
}

/// A name without what hosts put before it: `mcp__gateway__use_x` is `use_x`.
fn plain(name: &str) -> &str {
    name.strip_prefix("mcp__").and_then(|rest| rest.split_once("__")).map_or(name, |(_, own)| own)
}

/// The operation that a name means: exactly, else the only one that it can be a spelling of.
///
/// # Errors
/// The nearest names.
pub(super) fn resolve<'a>(name: &str, catalogue: &'a Catalogue) -> Result<&'a std::sync::Arc<Tool>, ()> {
    if let Some(tool) = catalogue.tool(name) {
        return Ok(tool);
    }
    let name = plain(name);
    if let Some(tool) = catalogue.tool(name) {
        return Ok(tool);
    }
    let wanted = words(name);
    let mut same = catalogue.tools.iter().filter(|tool| words(&tool.name) == wanted);
    if let (Some(tool), None) = (same.next(), same.next()) {
        return Ok(tool);
    }
    // A prefix that all names share may be missing, or that of the provider be too many.
    let ends = |long: &[String], short: &[String]| !short.is_empty() && long.len() > short.len() && long.ends_with(short);
    let mut near = catalogue.tools.iter().filter(|tool| {
        let own = words(&tool.name);
        (ends(&own, &wanted) && own.len() - wanted.len() == 1) || (ends(&wanted, &own) && wanted.len() - own.len() == 1)
    });
    match (near.next(), near.next()) {
        (Some(tool), None) => Ok(tool),
        _ => Err(()),
    }
}

/// A name in words: `list_issues`, `list-issues` and `listIssues` are the same ones.
pub(super) fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut last_lower = false;
    for char in name.chars() {
        if !char.is_alphanumeric() {
            words.push(String::new());
            last_lower = false;
            continue;
        }
        if char.is_uppercase() && last_lower {
            words.push(String::new());
        }
        last_lower = char.is_lowercase() || char.is_numeric();
        if words.is_empty() {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.extend(char.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Reads scalars in the only way the schema allows: `"5"` where an integer is wanted is 5.
pub(super) fn coerce(tool: &Tool, arguments: &mut Map<String, Value>, notes: &mut Vec<String>) {
    let Some(properties) = properties(tool) else { return };
    for (name, value) in arguments.iter_mut() {
        let Some(kind) = properties.get(name).and_then(|property| property.get("type")).and_then(Value::as_str) else {
            continue;
        };
        if let Some(read) = only_reading(value, kind) {
            notes.push(format!("`{name}` was read as {kind}"));
            *value = read;
        }
    }
}

fn only_reading(value: &Value, kind: &str) -> Option<Value> {
    let text = value.as_str()?;
    let fits = |value: &Value| match kind {
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    };
    serde_json::from_str(text.trim()).ok().filter(fits)
}
