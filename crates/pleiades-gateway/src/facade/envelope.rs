//! Calls of the meta tool as they arrive in practice (reference: `facade.md` section 2.3): taken
//! out of whatever they were wrapped in. Only the envelope is changed here, never a value.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::duplicate_keys;
use super::name::{NameMatch, find};
use super::options;
use super::repairs::{Repair, Repairs};
use crate::catalog::{Catalogue, Tool};
use pleiades_mcp::RawObject;

type Object = Map<String, Value>;

/// Envelopes within envelopes, and texts within texts, that are unwrapped.
const MAX_NESTED: usize = 2;
/// The meta tool's own parameters; every other key beside them belongs to the operation.
const OWN: [&str; 5] = ["tool", "arguments", "prompt", "accountId", "options"];
const TOOL_WORDS: [&str; 3] = ["tool", "tool_name", "name"];
const ARGUMENT_WORDS: [&str; 4] = ["params", "parameters", "args", "input"];

#[derive(Debug, Clone, Copy)]
pub(super) struct ToolIndex<'a> {
    pub(super) id: &'a str,
    pub(super) catalogue: &'a Catalogue,
}

#[derive(Debug)]
pub(super) enum NamedTool {
    /// None, or the meta tool itself.
    Nothing,
    Operation(Arc<Tool>),
    Unknown(String),
}

#[derive(Debug)]
pub(super) struct MetaCall {
    pub(super) named: NamedTool,
    /// Its arguments; `None` when there was nothing that could be meant as some.
    pub(super) arguments: Option<Object>,
    /// Whether there is a goal in words.
    pub(super) prompted: bool,
    /// What stood in `options`, unread.
    pub(super) options: Option<Value>,
    pub(super) repairs: Repairs,
}

/// What cannot be read, in a sentence for the caller, and the operation when it is known.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub(super) why: String,
    pub(super) tool: Option<Arc<Tool>>,
}

/// An error when the call's parts contradict each other or `arguments` is no object in any reading.
pub(super) fn read(index: ToolIndex<'_>, given: &RawObject) -> Result<MetaCall, Unreadable> {
    let mut repairs = Repairs::default();
    let given = object_of(given).map_err(|why| Unreadable { why, tool: None })?;
    let mut outer = unwrapped(index, given, &mut repairs);
    let prompted = outer
        .get("prompt")
        .and_then(Value::as_str)
        .is_some_and(|prompt| !prompt.trim().is_empty());
    let (named, word) = index.named(&outer);
    let options = options_of(&named, &mut outer, &mut repairs);
    let NamedTool::Operation(tool) = &named else {
        return Ok(MetaCall {
            named,
            arguments: None,
            prompted,
            options,
            repairs,
        });
    };
    let tool = Arc::clone(tool);
    let unreadable = |why| Unreadable {
        why,
        tool: Some(Arc::clone(&tool)),
    };
    if let Some(spelling) = word
        .and_then(|word| text(&outer, word))
        .filter(|name| !tool.is_called(name))
    {
        let note = format!("`{}` was read as `{}`", printable(spelling), tool.short);
        repairs.note(Repair::ToolPrefix, note);
    }
    let arguments = arguments(index, &tool, outer, word, &mut repairs).map_err(unreadable)?;
    Ok(MetaCall {
        named,
        arguments,
        prompted,
        options,
        repairs,
    })
}

/// `options`, and those of them that stood beside it.
fn options_of(named: &NamedTool, outer: &mut Object, repairs: &mut Repairs) -> Option<Value> {
    let tool = match named {
        NamedTool::Operation(tool) => Some(tool),
        NamedTool::Nothing | NamedTool::Unknown(_) => None,
    };
    let is_parameter = |name: &str| tool.is_some_and(|tool| parameters(tool).get(name).is_some());
    let names_operation = !matches!(named, NamedTool::Nothing);
    options::gather(outer, names_operation, is_parameter, repairs);
    outer.remove("options")
}

/// The members of a call as values; the error is a sentence that names what cannot be one.
fn object_of(given: &RawObject) -> Result<Object, String> {
    given
        .iter()
        .filter(|(key, value)| !(OWN.contains(key) && value.get() == "null"))
        .map(|(key, value)| match serde_json::from_str(value.get()) {
            Ok(read) => Ok((key.to_owned(), read)),
            Err(_) => Err(format!("`{}` cannot be read", printable(key))),
        })
        .collect()
}

impl ToolIndex<'_> {
    /// What a call names, and under which word.
    fn named(self, call: &Object) -> (NamedTool, Option<&'static str>) {
        for word in TOOL_WORDS {
            let Some(name) = text(call, word) else { continue };
            match find(name, self.id, self.catalogue) {
                NameMatch::Operation(tool) => return (NamedTool::Operation(Arc::clone(tool)), Some(word)),
                NameMatch::Own => return (NamedTool::Nothing, Some(word)),
                // `name` is a common parameter: unknown values of it name nothing.
                NameMatch::Unknown if word == "name" => {}
                NameMatch::Unknown => return (NamedTool::Unknown(name.to_owned()), Some(word)),
            }
        }
        (NamedTool::Nothing, None)
    }

    fn is_call(self, inner: &Object) -> bool {
        let goal = inner.contains_key("prompt") && inner.keys().all(|key| OWN.contains(&key.as_str()));
        goal || inner.contains_key("tool") || self.named(inner).1.is_some()
    }

    /// The call inside a call, if there is one.
    fn inner(self, outer: &Object) -> Option<Object> {
        match self.named(outer).0 {
            NamedTool::Operation(tool) => self.repeated(&tool, outer),
            NamedTool::Unknown(_) => None,
            NamedTool::Nothing => {
                let around = ["arguments", "params", "input"]
                    .into_iter()
                    .find_map(|word| outer.get(word));
                let single = outer.values().next().filter(|_| outer.len() == 1);
                around
                    .or(single)
                    .and_then(as_object)
                    .filter(|inner| self.is_call(inner))
            }
        }
    }

    /// `arguments` that hold nothing but the envelope of the same operation once more.
    fn repeated(self, tool: &Tool, outer: &Object) -> Option<Object> {
        let mut inner = outer.get("arguments").and_then(as_object)?;
        let alike = |(key, value): (&String, &Value)| match key.as_str() {
            "arguments" => as_object(value).is_some(),
            word if TOOL_WORDS.contains(&word) => value.as_str().is_some_and(|name| self.means(name, tool)),
            _ => false,
        };
        let parameters = parameters(tool);
        let declared = inner.keys().any(|key| parameters.get(key).is_some());
        if declared || !inner.contains_key("arguments") || !inner.iter().all(alike) {
            return None;
        }
        inner.retain(|key, _| key == "arguments");
        inner.insert("tool".to_owned(), tool.name.as_ref().into());
        let beside = outer
            .iter()
            .filter(|(key, _)| !matches!(key.as_str(), "tool" | "arguments"));
        inner.extend(beside.map(|(key, value)| (key.clone(), value.clone())));
        Some(inner)
    }

    fn means(self, name: &str, tool: &Tool) -> bool {
        tool.is_called(name)
            || matches!(find(name, self.id, self.catalogue), NameMatch::Operation(other) if other.name == tool.name)
    }
}

fn unwrapped(index: ToolIndex<'_>, mut outer: Object, repairs: &mut Repairs) -> Object {
    for _ in 0..MAX_NESTED {
        let Some(mut inner) = index.inner(&outer) else {
            break;
        };
        for word in ["prompt", "accountId", "options"] {
            if let (false, Some(value)) = (inner.contains_key(word), outer.remove(word)) {
                inner.insert(word.to_owned(), value);
            }
        }
        inner.retain(|key, value| !(OWN.contains(&key.as_str()) && value.is_null()));
        repairs.note(
            Repair::Nested,
            "the call was wrapped in another one and was unwrapped",
        );
        outer = inner;
    }
    outer
}

/// An object in the only way a value can be one: itself or the JSON text of it.
fn as_object(value: &Value) -> Option<Object> {
    let mut text = match value {
        Value::Object(object) => return Some(object.clone()),
        Value::String(text) => text.clone(),
        _ => return None,
    };
    for _ in 0..MAX_NESTED {
        match duplicate_keys::value(text.trim())? {
            Value::Object(object) => return Some(object),
            Value::String(inner) => text = inner,
            _ => return None,
        }
    }
    None
}

/// The operation's arguments, gathered from where they stand.
fn arguments(
    index: ToolIndex<'_>,
    tool: &Tool,
    mut outer: Object,
    word: Option<&str>,
    repairs: &mut Repairs,
) -> Result<Option<Object>, String> {
    let parameters = parameters(tool);
    let given = outer.remove("arguments").or_else(|| {
        let alias = ARGUMENT_WORDS.into_iter().find(|alias| {
            parameters.get(alias).is_none()
                && outer.get(*alias).is_some_and(|value| as_object(value).is_some())
        })?;
        repairs.count(Repair::KeyAlias);
        outer.remove(alias)
    });
    let arguments = given.map_or(Ok(None), |given| plain(given, repairs))?;
    if let Some(word) = word {
        if word != "tool" {
            repairs.count(Repair::KeyAlias);
        }
        outer.remove(word);
    }
    outer.retain(|key, _| !OWN.contains(&key.as_str()));
    let mut all = match (arguments, outer.is_empty()) {
        (None, true) => return Ok(None),
        (arguments, true) => arguments.unwrap_or_default(),
        (arguments, false) => merged(arguments.unwrap_or_default(), outer, repairs)?,
    };
    drop_own_name(index, (tool, &parameters), &mut all, repairs)?;
    Ok(Some(all))
}

fn plain(given: Value, repairs: &mut Repairs) -> Result<Option<Object>, String> {
    match given {
        Value::Null => Ok(None),
        Value::Object(arguments) => Ok(Some(arguments)),
        Value::String(text) if text.trim().is_empty() => Ok(None),
        Value::String(_) => {
            let object = as_object(&given).ok_or(
                "`arguments` is text that is not the JSON of an object, or names something in it twice",
            )?;
            repairs.note(
                Repair::ArgumentsAsText,
                "`arguments` was text and was read as the JSON object in it",
            );
            Ok(Some(object))
        }
        Value::Array(mut items) => match (items.pop(), items.is_empty()) {
            (Some(Value::Object(arguments)), true) => {
                repairs.note(
                    Repair::Unwrapped,
                    "`arguments` was a list of one object and was read as that object",
                );
                Ok(Some(arguments))
            }
            _ => Err("`arguments` is a list: values without names are not assigned to parameters".to_owned()),
        },
        _ => Err("`arguments` must be a JSON object".to_owned()),
    }
}

/// Arguments that stood beside `tool`, moved to the others.
fn merged(mut all: Object, beside: Object, repairs: &mut Repairs) -> Result<Object, String> {
    for (key, value) in beside {
        if all.get(&key).is_some_and(|other| *other != value) {
            return Err(format!(
                "`{}` is given twice with different values, beside `arguments` and in it",
                printable(&key)
            ));
        }
        all.insert(key, value);
    }
    repairs.note(
        Repair::ArgumentsHoisted,
        "arguments stood beside `tool` and were moved into `arguments`",
    );
    Ok(all)
}

fn drop_own_name(
    index: ToolIndex<'_>,
    (tool, parameters): (&Tool, &RawObject),
    all: &mut Object,
    repairs: &mut Repairs,
) -> Result<(), String> {
    for word in TOOL_WORDS {
        let Some(name) = text(all, word).filter(|_| parameters.get(word).is_none()) else {
            continue;
        };
        if index.means(name, tool) {
            let note = format!("the operation's name stood in `arguments.{word}`");
            repairs.note(Repair::Envelope, note);
            all.remove(word);
        } else if word != "name" {
            let (outer, inner) = (&tool.short, printable(name));
            return Err(format!(
                "`tool` is `{outer}` outside of `arguments` and `{inner}` in it; which one is meant"
            ));
        }
    }
    Ok(())
}

fn parameters(tool: &Tool) -> RawObject {
    RawObject::open(&tool.schema)
        .ok()
        .and_then(|schema| schema.read("properties"))
        .unwrap_or_default()
}

fn text<'a>(object: &'a Object, key: &str) -> Option<&'a str> {
    object
        .get(key)
        .and_then(Value::as_str)
        .filter(|text| !text.trim().is_empty())
}

/// A caller's text as it may be repeated.
pub(super) fn printable(text: &str) -> String {
    pleiades_core::text::printable(text, 128)
}
