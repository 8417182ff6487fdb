//! What a call of the meta tool means: an answer at once, or one operation to run.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::answer::{Answer, Status};
use super::{envelope, signature};
use crate::catalog::{Catalogue, Provider, Tool};
use crate::mcp::{Raw, RawObject, raw};

/// A menu is read by a model each time; about four bytes make a token.
const MENU_BYTES: usize = 800 * 4;
const MAX_NAMES_BYTES: usize = 4 * 1024;
const NEAREST: usize = 3;
const MAX_FAULTS: usize = 8;
/// Arguments larger than this are left to the provider to judge.
const MAX_CHECKED: usize = 256 * 1024;

/// What to do.
#[derive(Debug)]
pub enum Plan {
    /// Nothing runs.
    Answer(Answer),
    /// One operation runs.
    Run {
        /// The operation.
        tool: Arc<Tool>,
        /// Its arguments, an object.
        arguments: Raw,
        /// What was repaired.
        notes: Vec<String>,
    },
}

/// What a call of a provider's meta tool means; `arguments` are the meta tool's own.
#[must_use]
pub fn plan(provider: &Provider, catalogue: &Catalogue, arguments: &RawObject) -> Plan {
    match straight(catalogue, arguments) {
        Some(plan) => plan,
        None => Plan::Answer(match considered(provider, catalogue, arguments) {
            Ok(plan) => return plan,
            Err(answer) => *answer,
        }),
    }
}

/// For the single tool: whose operation it is, by `provider` or by `tool` as `provider.operation`.
#[must_use]
pub fn provider_of(arguments: &RawObject) -> Option<String> {
    if let Some(id) = arguments.text("provider") {
        return Some(id.into_owned());
    }
    let tool = arguments.text("tool")?;
    tool.split_once('.').map(|(id, _)| id.to_owned())
}

/// The well-formed call, without taking anything apart: an exact name, an object, a schema that
/// it fits.
fn straight(catalogue: &Catalogue, given: &RawObject) -> Option<Plan> {
    let known = |(key, _): (&str, _)| matches!(key, "tool" | "arguments" | "prompt" | "accountId" | "options");
    if !given.iter().all(known) {
        return None;
    }
    let tool = catalogue.tool(&given.text("tool")?)?;
    let arguments = given.get("arguments").filter(|raw| raw.get().starts_with('{'))?;
    if arguments.get().len() <= MAX_CHECKED
        && let Some(validator) = tool.validator()
    {
        let value: Value = serde_json::from_str(arguments.get()).ok()?;
        if !validator.is_valid(&value) {
            return None;
        }
    }
    Some(Plan::Run { tool: Arc::clone(tool), arguments: arguments.to_owned(), notes: Vec::new() })
}

fn considered(provider: &Provider, catalogue: &Catalogue, given: &RawObject) -> Result<Plan, Box<Answer>> {
    let mut call = envelope::read(provider, catalogue, given).map_err(|what| {
        let text = format!("{what}. Nothing was run. Call like this: {{\"tool\":\"…\",\"arguments\":{{…}}}}");
        Box::new(Answer::new(Status::InvalidArguments, text))
    })?;
    let Some(name) = call.tool.take() else {
        return Ok(Plan::Answer(menu(catalogue, call.prompt.as_deref())));
    };
    let own = name.split_once('.').filter(|(id, _)| *id == &*provider.id).map_or(name.as_str(), |(_, rest)| rest);
    let tool = envelope::resolve(own, catalogue).map_err(|()| Box::new(unknown(provider, catalogue, &name)))?;
    if *tool.name != name {
        call.notes.push(format!("`{}` was read as `{}`", printable(&name), tool.name));
    }
    let Some(mut arguments) = call.arguments else {
        return Ok(Plan::Answer(schema(tool, call.notes)));
    };
    if let Some(faults) = faults(tool, &arguments) {
        let mut notes = Vec::new();
        envelope::coerce(tool, &mut arguments, &mut notes);
        if notes.is_empty() || self::faults(tool, &arguments).is_some() {
            return Err(Box::new(invalid(tool, &faults, call.notes)));
        }
        call.notes.extend(notes);
    }
    Ok(Plan::Run { tool: Arc::clone(tool), arguments: raw::raw(&arguments), notes: call.notes })
}

/// Where arguments do not fit, one line a place; `None` when they do.
fn faults(tool: &Tool, arguments: &Map<String, Value>) -> Option<Vec<String>> {
    let validator = tool.validator()?;
    let value = Value::Object(arguments.clone());
    if validator.is_valid(&value) {
        return None;
    }
    let line = |error: jsonschema::ValidationError<'_>| {
        let path = error.instance_path().to_string();
        let place = if path.is_empty() { "arguments".to_owned() } else { format!("arguments{path}") };
        format!("{}: {}", place.replace('/', "."), clipped(&error.to_string(), 300))
    };
    Some(validator.iter_errors(&value).take(MAX_FAULTS).map(line).collect())
}

fn invalid(tool: &Tool, faults: &[String], notes: Vec<String>) -> Answer {
    let schema: Value = serde_json::from_str(tool.schema.get()).unwrap_or_default();
    let next = json!({ "tool": &*tool.name, "arguments": signature::example(&schema) });
    let text = format!(
        "Nothing was run: the arguments of `{}` do not fit.\n- {}\n{}\nFor example: {next}",
        tool.name,
        faults.join("\n- "),
        signature::line(tool)
    );
    let mut answer = Answer::new(Status::InvalidArguments, text);
    answer.data = Some(raw::raw(&json!({ "tool": &*tool.name, "faults": faults })));
    answer.next = Some(raw::raw(&next));
    answer.notes = notes;
    answer
}

fn schema(tool: &Tool, notes: Vec<String>) -> Answer {
    let schema: Value = serde_json::from_str(tool.schema.get()).unwrap_or_default();
    let next = json!({ "tool": &*tool.name, "arguments": signature::example(&schema) });
    let text = format!(
        "Nothing was run. {}\nIts schema: {}\nFor example: {next}",
        signature::line(tool),
        tool.schema.get()
    );
    let mut answer = Answer::new(Status::Schema, text);
    let mut data = RawObject::new();
    data.put("tool", &*tool.name);
    data.set("inputSchema", tool.schema.clone());
    answer.data = Some(data.close());
    answer.next = Some(raw::raw(&next));
    answer.notes = notes;
    answer
}

/// The operations with signatures as far as they fit, then the names of the rest.
fn menu(catalogue: &Catalogue, prompt: Option<&str>) -> Answer {
    let mut text = match prompt {
        Some(_) => "Nothing was run. Choose the operation yourself; these exist:".to_owned(),
        None => "Nothing was run. These operations exist:".to_owned(),
    };
    let mut left = MENU_BYTES;
    let mut shown = 0;
    for tool in &catalogue.tools {
        let line = signature::line(tool);
        if line.len() > left {
            break;
        }
        left -= line.len();
        shown += 1;
        text.push('\n');
        text.push_str(&line);
    }
    let rest: Vec<&str> = catalogue.tools.iter().skip(shown).map(|tool| &*tool.name).collect();
    if !rest.is_empty() {
        text.push_str("\nOther operations: ");
        text.push_str(&clipped(&rest.join(", "), MAX_NAMES_BYTES));
    }
    text.push_str("\nNext: {\"tool\":\"…\",\"arguments\":{…}}; {\"tool\":\"…\"} alone returns its schema.");
    Answer::new(Status::Menu, text)
}

fn unknown(provider: &Provider, catalogue: &Catalogue, name: &str) -> Answer {
    let near = nearest(catalogue, name);
    let lines: Vec<String> = near.iter().map(|tool| signature::line(tool)).collect();
    let names: Vec<&str> = near.iter().map(|tool| &*tool.name).collect();
    let text = if lines.is_empty() {
        format!("Nothing was run: {} has no operation `{}`.", provider.title, printable(name))
    } else {
        format!(
            "Nothing was run: {} has no operation `{}`. The nearest are:\n{}",
            provider.title,
            printable(name),
            lines.join("\n")
        )
    };
    let mut answer = Answer::new(Status::UnknownTool, text);
    answer.data = Some(raw::raw(&json!({ "nearest": names })));
    answer
}

/// The names that share most words with the one that does not exist, then most letters.
fn nearest<'a>(catalogue: &'a Catalogue, name: &str) -> Vec<&'a Arc<Tool>> {
    let wanted = envelope::words(name);
    let mut scored: Vec<(usize, usize, &Arc<Tool>)> = catalogue
        .tools
        .iter()
        .map(|tool| {
            let own = envelope::words(&tool.name);
            let shared = own.iter().filter(|word| wanted.contains(word)).count();
            let prefix = tool.name.chars().zip(name.chars()).take_while(|(one, other)| one.eq_ignore_ascii_case(other)).count();
            (shared, prefix, tool)
        })
        .collect();
    scored.sort_by(|one, other| (other.0, other.1).cmp(&(one.0, one.1)).then_with(|| one.2.name.cmp(&other.2.name)));
    scored.into_iter().take(NEAREST).map(|(_, _, tool)| tool).collect()
}

fn clipped(text: &str, chars: usize) -> String {
    if text.chars().count() <= chars { text.to_owned() } else { text.chars().take(chars - 1).chain(['…']).collect() }
}

fn printable(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(128).collect()
}
