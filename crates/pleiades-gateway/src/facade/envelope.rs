//! Calls of the meta tool as they arrive in practice: taken out of whatever they were wrapped in. Only
//! the envelope is changed here, never a value; what has two readings is not read.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Map, Value, value::RawValue};

use super::duplicate_keys;
use super::name::{NameMatch, find};
use super::options;
use super::repairs::{Repair, Repairs};
use super::shape::{SchemaDocument, declared};
use crate::catalog::{Catalogue, Tool};
use pleiades_mcp::{RawObject, raw};

type Object = Map<String, Value>;

/// Envelopes within envelopes, and texts within texts, that are unwrapped.
const MAX_NESTED: usize = 2;
/// The meta tool's own parameters; every other key beside them belongs to the operation.
pub(super) const OWN: [&str; 5] = ["tool", "arguments", "prompt", "accountId", "options"];
const TOOL_WORDS: [&str; 4] = ["tool", "tool_name", "toolName", "name"];
/// Words that are common parameters too: read as the operation's name only where they hold one.
const ALSO_TOOL_WORDS: [&str; 6] = [
    "function",
    "function_name",
    "functionName",
    "operation",
    "operation_name",
    "action",
];
const ARGUMENT_WORDS: [&str; 11] = [
    "arguments",
    "params",
    "parameters",
    "args",
    "input",
    "tool_input",
    "toolInput",
    "tool_args",
    "arguments_json",
    "argumentsJson",
    "kwargs",
];
/// Words under which interfaces of models hold a whole call.
const CALL_WORDS: [&str; 9] = [
    "tool",
    "function",
    "function_call",
    "functionCall",
    "tool_call",
    "toolCall",
    "tool_use",
    "toolUse",
    "tool_calls",
];
/// What the same interfaces write beside a call, and the values of `type` that mark them.
const FRAME_TYPES: [&str; 4] = ["function", "function_call", "tool_call", "tool_use"];
const FRAME_WORDS: [&str; 5] = ["type", "id", "call_id", "tool_call_id", "index"];

#[derive(Debug, Clone, Copy)]
pub(super) struct ToolIndex<'a> {
    pub(super) id: &'a str,
    /// The meta tool that was called.
    pub(super) called: &'a str,
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
    /// Its arguments; `None` when there was nothing that could be meant as some. Of an unknown operation
    /// those that stand in `arguments`.
    pub(super) arguments: Option<Object>,
    /// The goal in words.
    pub(super) prompt: Option<String>,
    /// What stood in `options`, unread.
    pub(super) options: Option<Value>,
    /// Whether an `accountId` stood beside the operation, however the call was wrapped.
    pub(super) names_account: bool,
    pub(super) repairs: Repairs,
}

/// What cannot be read, in a sentence for the caller, and the operation when it is known.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub(super) why: String,
    pub(super) tool: Option<Arc<Tool>>,
}

impl From<String> for Unreadable {
    fn from(why: String) -> Self {
        Self { why, tool: None }
    }
}

/// An error when the call's parts contradict each other or `arguments` is no object in any reading.
pub(super) fn read(index: ToolIndex<'_>, given: &RawObject) -> Result<MetaCall, Unreadable> {
    let mut repairs = Repairs::default();
    let mut given = object_of(given)?;
    respell_own(&mut given, &mut repairs);
    let mut outer = unwrapped(index, given, &mut repairs)?;
    let prompt = text(&outer, "prompt").map(ToOwned::to_owned);
    let names_account = outer.get("accountId").is_some_and(|account| !account.is_null());
    let (named, word) = index.named(&outer);
    let options = options_of(&named, &mut outer, &mut repairs);
    let NamedTool::Operation(tool) = &named else {
        if let (NamedTool::Nothing, Some(why)) = (&named, unnameable(&outer)) {
            return Err(why.into());
        }
        let given = outer.get("arguments").and_then(one_object);
        return Ok(MetaCall {
            arguments: given.filter(|_| matches!(named, NamedTool::Unknown(_))),
            named,
            prompt,
            options,
            names_account,
            repairs,
        });
    };
    let tool = Arc::clone(tool);
    let unreadable = |why| Unreadable {
        why,
        tool: Some(Arc::clone(&tool)),
    };
    let spelling = word.and_then(|word| name_in(&outer, word)).unwrap_or_default();
    if !tool.is_called(spelling) {
        let note = format!("`{}` was read as `{}`", printable(spelling), tool.short);
        repairs.note(Repair::ToolPrefix, note);
    }
    let arguments = arguments(index, &tool, outer, word, &mut repairs).map_err(unreadable)?;
    Ok(MetaCall {
        named,
        arguments,
        prompt,
        options,
        names_account,
        repairs,
    })
}

/// `options`, and those of them that stood beside it.
fn options_of(named: &NamedTool, outer: &mut Object, repairs: &mut Repairs) -> Option<Value> {
    let tool = match named {
        NamedTool::Operation(tool) => Some(tool),
        NamedTool::Nothing | NamedTool::Unknown(_) => None,
    };
    let schema = tool.map(|tool| declared(tool)).unwrap_or_default();
    let is_parameter = |name: &str| names_of(&schema).contains(name);
    let names_operation = !matches!(named, NamedTool::Nothing);
    options::gather(outer, names_operation, is_parameter, repairs);
    outer.shift_remove("options")
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

/// The one object that a JSON text is: itself, in a list of one, or as text once more.
pub(super) fn opened(raw: &RawValue) -> Result<RawObject, String> {
    opened_text(raw.get(), 0)
}

fn opened_text(json: &str, level: usize) -> Result<RawObject, String> {
    let wrong = || {
        "the arguments of this tool must be one JSON object, {\"tool\":\"…\",\"arguments\":{…}}".to_owned()
    };
    let json = if level == 0 { json.trim() } else { unfenced(json) };
    match json.as_bytes().first() {
        Some(b'{') => serde_json::from_str(json).map_err(|cause| format!("{}: {cause}", wrong())),
        // With more than one item the rest is no object.
        Some(b'[') => json
            .strip_prefix('[')
            .and_then(|json| json.strip_suffix(']'))
            .and_then(|item| serde_json::from_str(item).ok())
            .ok_or_else(wrong),
        Some(b'"') if level < MAX_NESTED => {
            let text: String =
                serde_json::from_str(&raw::repair_surrogates(json)).map_err(|_cause| wrong())?;
            opened_text(&raw::repair_surrogates(&text), level + 1)
        }
        None if level > 0 => Ok(RawObject::new()),
        _ => Err(wrong()),
    }
}

/// The call inside a call that names no operation itself.
pub(super) fn inner_call(arguments: &RawObject) -> Option<RawObject> {
    if TOOL_WORDS.iter().any(|word| arguments.text(word).is_some()) {
        return None;
    }
    let value = ARGUMENT_WORDS.into_iter().find_map(|word| arguments.get(word))?;
    let inner = opened(value).ok()?;
    let is_call = ["tool", "tool_name", "toolName", "prompt"]
        .iter()
        .any(|word| inner.get(word).is_some());
    is_call.then_some(inner)
}

/// The `provider` that a call names which is wrapped in others.
pub(super) fn provider_within(arguments: &RawObject) -> Option<String> {
    let mut inner = inner_call(arguments)?;
    for _ in 1..MAX_NESTED {
        if inner.get("provider").is_some() {
            break;
        }
        inner = inner_call(&inner)?;
    }
    Some(inner.text("provider")?.into_owned())
}

/// The meta tool's own parameters in other cases (`Tool`, `Arguments`), where they do not stand beside.
fn respell_own(given: &mut Object, repairs: &mut Repairs) {
    for own in ["tool", "arguments", "prompt", "options"] {
        if given.contains_key(own) {
            continue;
        }
        let is_own = |key: &&String| key.eq_ignore_ascii_case(own);
        let Some(key) = given.keys().find(is_own).cloned() else {
            continue;
        };
        if let Some(value) = given.shift_remove(&key) {
            given.insert(own.to_owned(), value);
            repairs.count(Repair::KeyAlias);
        }
    }
}

/// Why nothing can be named by what stands in `tool`.
fn unnameable(call: &Object) -> Option<String> {
    let why = match call.get("tool")? {
        Value::String(_) | Value::Null => return None,
        Value::Array(_) => "`tool` is a list: one call runs one operation, and `tool` is its name as text",
        _ => "`tool` must be the name of one operation, as text",
    };
    Some(why.to_owned())
}

impl ToolIndex<'_> {
    fn find(&self, name: &str) -> NameMatch<'_> {
        match find(name, self.id, self.catalogue) {
            NameMatch::Unknown if name == self.called => NameMatch::Own,
            found => found,
        }
    }

    /// What a call names, and under which word.
    fn named(self, call: &Object) -> (NamedTool, Option<&'static str>) {
        let mut own = None;
        for word in TOOL_WORDS {
            let Some(name) = name_in(call, word) else { continue };
            match self.find(name) {
                NameMatch::Operation(tool) => return (NamedTool::Operation(Arc::clone(tool)), Some(word)),
                // A better name may stand beside it.
                NameMatch::Own => own = own.or(Some(word)),
                // `name` is a common parameter: unknown values of it name nothing, unless there are arguments.
                NameMatch::Unknown
                    if word == "name" && !ARGUMENT_WORDS.iter().any(|it| call.contains_key(*it)) => {}
                NameMatch::Unknown => return (NamedTool::Unknown(name.to_owned()), Some(word)),
            }
        }
        for word in ALSO_TOOL_WORDS {
            let found = name_in(call, word).map(|name| self.find(name));
            if let Some(NameMatch::Operation(tool)) = found {
                return (NamedTool::Operation(Arc::clone(tool)), Some(word));
            }
        }
        (NamedTool::Nothing, own)
    }

    fn is_call(self, inner: &Object) -> bool {
        let goal = ["prompt", "options"].iter().any(|word| inner.contains_key(*word))
            && inner.keys().all(|key| OWN.contains(&key.as_str()));
        goal || inner.contains_key("tool") || self.named(inner).1.is_some()
    }

    /// Whether an object is a call, or one stands in it.
    fn holds_call(self, inner: &Object) -> bool {
        let in_it = || {
            CALL_WORDS
                .iter()
                .chain(&ARGUMENT_WORDS)
                .find_map(|word| inner.get(*word))
        };
        self.is_call(inner)
            || in_it()
                .and_then(one_object)
                .is_some_and(|inner| self.is_call(&inner))
    }

    /// The call inside a call, if there is one, with all that stands beside it.
    fn inner(self, outer: &Object) -> Result<Option<Object>, String> {
        let (named, word) = self.named(outer);
        let inner = match named {
            NamedTool::Operation(tool) => self.repeated(&tool, outer),
            NamedTool::Unknown(_) => None,
            NamedTool::Nothing => self.by_name(outer).or_else(|| self.wrapped(outer)),
        };
        let Some((key, inner)) = inner else {
            return Ok(None);
        };
        let mut beside = outer.clone();
        beside.shift_remove(&key);
        if let Some(word) = word {
            beside.shift_remove(word);
        }
        drop_frame(&mut beside, &HashSet::new());
        joined(inner, beside).map(Some)
    }

    /// A call under the key of another one.
    fn wrapped(self, outer: &Object) -> Option<(String, Object)> {
        let words = CALL_WORDS.iter().chain(&ARGUMENT_WORDS).copied();
        let only = outer.keys().next().filter(|_| outer.len() == 1);
        let mut keys = words.chain(only.map(String::as_str));
        keys.find_map(|key| {
            let inner = one_object(outer.get(key)?)?;
            self.holds_call(&inner).then(|| (key.to_owned(), inner))
        })
    }

    /// Arguments under the name of their operation.
    fn by_name(self, outer: &Object) -> Option<(String, Object)> {
        let (name, arguments) = outer.iter().next().filter(|_| outer.len() == 1)?;
        let tool = self.catalogue.tool(name).filter(|_| arguments.is_object())?;
        let mut inner = Object::new();
        inner.insert("tool".to_owned(), (*tool.short).into());
        inner.insert("arguments".to_owned(), arguments.clone());
        Some((name.clone(), inner))
    }

    /// `arguments` that hold nothing but the envelope of the same operation once more.
    fn repeated(self, tool: &Tool, outer: &Object) -> Option<(String, Object)> {
        let (key, inner) = ARGUMENT_WORDS
            .into_iter()
            .find_map(|word| Some((word, one_object(outer.get(word)?)?)))?;
        let schema = declared(tool);
        let names = names_of(&schema);
        if names.contains(key) || inner.keys().any(|key| names.contains(key.as_str())) {
            return None;
        }
        let mut repeated = Object::new();
        for (key, value) in inner {
            let means = |name: &str| self.means(name, tool);
            let is_name = TOOL_WORDS.contains(&&*key) && value.as_str().is_some_and(means);
            let is_arguments = ARGUMENT_WORDS.contains(&&*key) || means(&key);
            if is_arguments && one_object(&value).is_some() && !repeated.contains_key("arguments") {
                repeated.insert("arguments".to_owned(), value);
            } else if !is_name {
                return None;
            }
        }
        repeated.contains_key("arguments").then(|| {
            repeated.insert("tool".to_owned(), (*tool.short).into());
            (key.to_owned(), repeated)
        })
    }

    fn means(self, name: &str, tool: &Tool) -> bool {
        tool.is_called(name)
            || matches!(self.find(name), NameMatch::Operation(other) if other.name == tool.name)
    }
}

fn unwrapped(index: ToolIndex<'_>, mut outer: Object, repairs: &mut Repairs) -> Result<Object, String> {
    for _ in 0..MAX_NESTED {
        let Some(mut inner) = index.inner(&outer)? else {
            break;
        };
        inner.retain(|key, value| !(OWN.contains(&key.as_str()) && value.is_null()));
        repairs.note(
            Repair::Nested,
            "the call was wrapped in another one and was unwrapped",
        );
        outer = inner;
    }
    Ok(outer)
}

/// A call with what stood beside its envelope; nothing that was given is lost, nor chosen from.
fn joined(mut inner: Object, beside: Object) -> Result<Object, String> {
    for (key, value) in beside {
        let is_nothing = value.is_null() && OWN.contains(&&*key);
        if is_nothing || (key == "arguments" && is_empty(&value)) {
            continue;
        }
        match inner.get(&key) {
            Some(other) if *other == value || key == "prompt" => {}
            Some(other) if !(key == "arguments" && is_empty(other)) => {
                return Err(format!(
                    "`{}` is given twice with different values, in a call and around it",
                    printable(&key)
                ));
            }
            _ => drop(inner.insert(key, value)),
        }
    }
    Ok(inner)
}

/// Takes out what interfaces of models, and JSON-RPC, write beside a call.
fn drop_frame(call: &mut Object, names: &HashSet<&str>) {
    let is = |call: &Object, key: &str, words: &[&str]| {
        !names.contains(key) && text(call, key).is_some_and(|value| words.contains(&value))
    };
    if is(call, "method", &["tools/call"]) {
        call.retain(|key, _| {
            names.contains(&**key) || !["jsonrpc", "id", "method", "_meta"].contains(&&**key)
        });
    }
    if is(call, "type", &FRAME_TYPES) {
        call.retain(|key, _| names.contains(&**key) || !FRAME_WORDS.contains(&&**key));
    }
    if is(call, "role", &["assistant"]) {
        call.retain(|key, value| key != "role" && !(key == "content" && is_empty(value)));
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The object that a value can only be: itself, the JSON text of it, or the one item of a list.
fn one_object(value: &Value) -> Option<Object> {
    match value {
        Value::Array(items) => match items.as_slice() {
            [Value::Object(only)] => Some(only.clone()),
            _ => None,
        },
        value => as_object(value).ok().flatten(),
    }
}

/// The object that a value is, itself or as JSON text; `None` when it is nothing at all. The error says
/// how it fails, in words that follow its name.
fn as_object(value: &Value) -> Result<Option<Object>, String> {
    let mut text = match value {
        Value::Object(object) => return Ok(Some(object.clone())),
        Value::Null => return Ok(None),
        Value::String(text) => text.clone(),
        _ => return Err("must be a JSON object".to_owned()),
    };
    for _ in 0..MAX_NESTED {
        let json = unfenced(&text);
        if json.is_empty() {
            return Ok(None);
        }
        match duplicate_keys::parse(json)? {
            Value::Object(object) => return Ok(Some(object)),
            Value::Null => return Ok(None),
            Value::String(inner) => text = inner,
            _ => break,
        }
    }
    Err("is text that is not the JSON of an object".to_owned())
}

/// A text without the fence of a block of code around it.
fn unfenced(text: &str) -> &str {
    let text = text.trim_start_matches('\u{feff}').trim();
    let inner = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    let Some(inner) = inner else { return text };
    let inner = inner.trim();
    ["json5", "jsonc", "json", "JSON"]
        .iter()
        .find_map(|language| inner.strip_prefix(language))
        .unwrap_or(inner)
        .trim()
}

/// The operation's arguments, gathered from where they stand.
fn arguments(
    index: ToolIndex<'_>,
    tool: &Tool,
    mut outer: Object,
    word: Option<&str>,
    repairs: &mut Repairs,
) -> Result<Option<Object>, String> {
    let schema = declared(tool);
    let names = names_of(&schema);
    if let Some(word) = word {
        if word != "tool" {
            repairs.count(Repair::KeyAlias);
        }
        outer.shift_remove(word);
    }
    drop_frame(&mut outer, &names);
    let given = given_under_words(&mut outer, &names, repairs)?;
    let ambiguous: Vec<&str> = OWN
        .into_iter()
        .filter(|own| names.contains(own) && outer.contains_key(*own))
        .collect();
    outer.retain(|key, _| !OWN.contains(&key.as_str()));
    if !names.contains("provider") && text(&outer, "provider") == Some(index.id) {
        outer.shift_remove("provider");
    }
    let mut all = match (given, outer.is_empty()) {
        (None, true) => return Ok(None),
        (given, true) => given.unwrap_or_default(),
        (given, false) => {
            if let Some(own) = ambiguous.first() {
                return Err(format!(
                    "`{own}` beside `tool` may be the meta tool's or the operation's: put the operation's into `arguments`"
                ));
            }
            merged(given.unwrap_or_default(), outer, "beside `arguments` and in it").inspect(|_| {
                repairs.note(
                    Repair::ArgumentsHoisted,
                    "arguments stood beside `tool` and were moved into `arguments`",
                );
            })?
        }
    };
    drop_own_name(index, (tool, &names), &mut all, repairs)?;
    Ok(Some(all))
}

/// `arguments`, and what stands under other words for it, which are no parameters of the operation.
fn given_under_words(
    outer: &mut Object,
    names: &HashSet<&str>,
    repairs: &mut Repairs,
) -> Result<Option<Object>, String> {
    let mut given: Option<Object> = None;
    for word in ARGUMENT_WORDS {
        let is_alias = |value: &Value| !names.contains(word) && as_object(value).is_ok();
        let Some(value) = outer
            .get(word)
            .filter(|value| word == "arguments" || is_alias(value))
        else {
            continue;
        };
        let object = plain(word, value, repairs)?;
        outer.shift_remove(word);
        let Some(object) = object else { continue };
        if word != "arguments" {
            repairs.count(Repair::KeyAlias);
        }
        given = Some(match given {
            None => object,
            Some(all) => merged(all, object, &format!("in `arguments` and in `{word}`"))?,
        });
    }
    Ok(given)
}

fn plain(word: &str, given: &Value, repairs: &mut Repairs) -> Result<Option<Object>, String> {
    match given {
        Value::Array(items) => match items.as_slice() {
            [Value::Object(only)] => {
                let note = format!("`{word}` was a list of one object and was read as that object");
                repairs.note(Repair::Unwrapped, note);
                Ok(Some(only.clone()))
            }
            [] => Err(format!("`{word}` is an empty list: send a JSON object")),
            _ => Err(format!(
                "`{word}` is a list: values without names are not assigned to parameters"
            )),
        },
        given => {
            let object = as_object(given).map_err(|how| format!("`{word}` {how}"))?;
            if object.is_some() && given.is_string() {
                let note = format!("`{word}` was text and was read as the JSON object in it");
                repairs.note(Repair::ArgumentsAsText, note);
            }
            Ok(object)
        }
    }
}

/// Arguments of two places together.
fn merged(mut all: Object, others: Object, places: &str) -> Result<Object, String> {
    for (key, value) in others {
        if all.get(&key).is_some_and(|other| *other != value) {
            return Err(format!(
                "`{}` is given twice with different values, {places}",
                printable(&key)
            ));
        }
        all.insert(key, value);
    }
    Ok(all)
}

fn drop_own_name(
    index: ToolIndex<'_>,
    (tool, names): (&Tool, &HashSet<&str>),
    all: &mut Object,
    repairs: &mut Repairs,
) -> Result<(), String> {
    for word in TOOL_WORDS {
        let Some(name) = text(all, word).filter(|_| !names.contains(word)) else {
            continue;
        };
        if index.means(name, tool) || (word != "name" && matches!(index.find(name), NameMatch::Own)) {
            let is_either = |it: &&str| names.contains(*it) && all.get(*it).and_then(one_object).is_some();
            if let Some(either) = ARGUMENT_WORDS.into_iter().find(is_either) {
                return Err(format!(
                    "`{either}` in `arguments` may be a parameter or all arguments once more: leave `{word}` out there"
                ));
            }
            let note = format!("the operation's name stood in `arguments.{word}`");
            repairs.note(Repair::Envelope, note);
            all.shift_remove(word);
        } else if word != "name" {
            let (outer, inner) = (&tool.short, printable(name));
            return Err(format!(
                "`tool` is `{outer}` outside of `arguments` and `{inner}` in it; which one is meant"
            ));
        }
    }
    Ok(())
}

/// The parameters of an operation.
fn names_of(schema: &Value) -> HashSet<&str> {
    let members = SchemaDocument::of(schema).members(schema);
    members.into_iter().map(|(name, _)| name).collect()
}

fn text<'a>(object: &'a Object, key: &str) -> Option<&'a str> {
    object
        .get(key)
        .and_then(Value::as_str)
        .filter(|text| !text.trim().is_empty())
}

/// A name: text, or a list of one.
fn name_in<'a>(object: &'a Object, key: &str) -> Option<&'a str> {
    let name = match object.get(key)? {
        Value::Array(items) => match items.as_slice() {
            [only] => only.as_str()?,
            _ => return None,
        },
        value => value.as_str()?,
    };
    Some(name.trim()).filter(|name| !name.is_empty())
}

/// A caller's text as it may be repeated.
pub(super) fn printable(text: &str) -> String {
    pleiades_core::text::printable(text, 128)
}
