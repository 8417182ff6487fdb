//! What a call of the meta tool means: an answer at once, or one operation to run.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::answer::{Answer, Status};
use super::envelope::{self, Book, Envelope, Named, Unreadable, printable};
use super::{coerce, faults, name, signature, twice};
use crate::catalog::{Catalogue, Provider, Tool};
use crate::error::{Code, Error};
use crate::mcp::{Raw, RawObject, raw};

/// A menu is read by a model each time; about four bytes make a token.
const MENU_BYTES: usize = 800 * 4;
const MAX_NAMES_BYTES: usize = 4 * 1024;
const NEAREST: usize = 3;
const ACCOUNT: &str = "accountId";
/// Calls within calls that are looked into.
const MAX_WRAPPED: usize = 2;
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
    plan_among(provider, catalogue, arguments, &|_| None)
}

/// The same where other providers are at hand: `elsewhere` is asked for an operation that this
/// one lacks and names the provider that has it, of those this caller may see.
#[must_use]
pub fn plan_among(
    provider: &Provider,
    catalogue: &Catalogue,
    arguments: &RawObject,
    elsewhere: &dyn Fn(&str) -> Option<String>,
) -> Plan {
    if let Some(name) = twofold(arguments) {
        let text = format!(
            "Nothing was run: `{}` is given twice. Say each name once.",
            printable(&name)
        );
        return Plan::Answer(Answer::new(Status::InvalidArguments, text));
    }
    straight(catalogue, arguments).unwrap_or_else(|| considered(provider, catalogue, arguments, elsewhere))
}

/// The first name that a call says twice, in itself or in what it carries.
fn twofold(given: &RawObject) -> Option<String> {
    let own = given.doubled().map(str::to_owned);
    own.or_else(|| given.iter().find_map(|(_, value)| twice::doubled(value)))
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

/// The account that a call names, wherever it stands: beside the operation, or in the call that was
/// wrapped in another one.
///
/// # Errors
/// [`Code::InvalidParams`] when it is no text.
pub fn account_of(arguments: &RawObject) -> Result<Option<String>, Error> {
    let mut inner = Vec::new();
    let mut given = arguments.get(ACCOUNT).map(ToOwned::to_owned);
    for _ in 0..MAX_WRAPPED {
        if given.is_some() {
            break;
        }
        let around = inner.last().unwrap_or(arguments);
        let Some(call) = wrapped(around) else { break };
        given = call.get(ACCOUNT).map(ToOwned::to_owned);
        inner.push(call);
    }
    match given.filter(|given| given.get() != "null") {
        None => Ok(None),
        Some(given) => match raw::text(&given) {
            Some(name) => Ok(Some(name.into_owned())),
            None => Err(Error::new(
                Code::InvalidParams,
                "`accountId` must be text, as an answer listed it",
            )),
        },
    }
}

/// The call inside a call, when it looks like one.
fn wrapped(arguments: &RawObject) -> Option<RawObject> {
    let words = ["arguments", "params", "input"];
    let value = words.into_iter().find_map(|word| arguments.get(word))?;
    let inner = match raw::text(value) {
        Some(text) => serde_json::from_str::<RawObject>(&text).ok()?,
        None => RawObject::open(value).ok()?,
    };
    let is_call = inner.get("tool").is_some() || inner.get("prompt").is_some();
    (is_call && arguments.get("tool").is_none()).then_some(inner)
}

/// The well-formed call, without taking anything apart: an exact name, an object, a schema that
/// it fits.
fn straight(catalogue: &Catalogue, given: &RawObject) -> Option<Plan> {
    let known =
        |(key, _): (&str, _)| matches!(key, "tool" | "arguments" | "prompt" | "accountId" | "options");
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
    Some(Plan::Run {
        tool: Arc::clone(tool),
        arguments: arguments.to_owned(),
        notes: Vec::new(),
    })
}

/// Any other call: taken out of its wrapping, its values read as the schema wants them.
fn considered(
    provider: &Provider,
    catalogue: &Catalogue,
    given: &RawObject,
    elsewhere: &dyn Fn(&str) -> Option<String>,
) -> Plan {
    let book = Book {
        id: &provider.id,
        catalogue,
    };
    let Envelope {
        named,
        arguments,
        prompted,
        mut notes,
    } = match envelope::read(book, given) {
        Ok(envelope) => envelope,
        Err(unreadable) => return Plan::Answer(unread(&unreadable)),
    };
    let tool = match named {
        Named::Nothing => return Plan::Answer(menu(catalogue, prompted)),
        Named::Unknown(name) => return Plan::Answer(unknown(provider, catalogue, &name, elsewhere(&name))),
        Named::Operation(tool) => tool,
    };
    let Some(mut arguments) = arguments else {
        return Plan::Answer(schema(&tool, notes));
    };
    let declared: Value = serde_json::from_str(tool.schema.get()).unwrap_or_default();
    let faulty = |arguments: &Map<String, Value>| faults::faults(&tool, &declared, arguments);
    if !faulty(&arguments).is_empty() {
        coerce::coerce(&declared, &mut arguments, tool.is_read_only(), &mut notes);
        let faults = faulty(&arguments);
        if !faults.is_empty() {
            return Plan::Answer(invalid(&tool, &declared, &faults, notes));
        }
    }
    Plan::Run {
        tool,
        arguments: raw::raw(&arguments),
        notes,
    }
}

/// A call whose parts contradict each other, or whose arguments are none.
fn unread(unreadable: &Unreadable) -> Answer {
    match &unreadable.tool {
        Some(tool) => {
            let schema: Value = serde_json::from_str(tool.schema.get()).unwrap_or_default();
            invalid(tool, &schema, std::slice::from_ref(&unreadable.why), Vec::new())
        }
        None => Answer::new(
            Status::InvalidArguments,
            format!("Nothing was run: {}.", unreadable.why),
        ),
    }
}

fn invalid(tool: &Tool, schema: &Value, faults: &[String], notes: Vec<String>) -> Answer {
    let next = json!({ "tool": &*tool.name, "arguments": signature::example(schema) });
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
fn menu(catalogue: &Catalogue, prompted: bool) -> Answer {
    let mut text = match prompted {
        true => "Nothing was run. Choose the operation yourself; these exist:".to_owned(),
        false => "Nothing was run. These operations exist:".to_owned(),
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
    let rest: Vec<&str> = catalogue
        .tools
        .iter()
        .skip(shown)
        .map(|tool| &*tool.name)
        .collect();
    if !rest.is_empty() {
        text.push_str("\nOther operations: ");
        text.push_str(&clipped(&rest.join(", "), MAX_NAMES_BYTES));
    }
    text.push_str("\nNext: {\"tool\":\"…\",\"arguments\":{…}}; {\"tool\":\"…\"} alone returns its schema.");
    Answer::new(Status::Menu, text)
}

fn unknown(provider: &Provider, catalogue: &Catalogue, name: &str, elsewhere: Option<String>) -> Answer {
    let near = name::nearest(catalogue, name, NEAREST);
    let lines: Vec<String> = near.iter().map(|tool| signature::line(tool)).collect();
    let names: Vec<&str> = near.iter().map(|tool| &*tool.name).collect();
    let mut text = format!(
        "Nothing was run: {} has no operation `{}`.",
        provider.title,
        printable(name)
    );
    if let Some(other) = elsewhere {
        text.push_str(&format!(" `use_{other}` has it."));
    } else if !lines.is_empty() {
        text.push_str(" The nearest are:\n");
        text.push_str(&lines.join("\n"));
    }
    let mut answer = Answer::new(Status::UnknownTool, text);
    answer.data = Some(raw::raw(&json!({ "nearest": names })));
    answer
}

fn clipped(text: &str, chars: usize) -> String {
    if text.chars().count() <= chars {
        text.to_owned()
    } else {
        text.chars().take(chars - 1).chain(['…']).collect()
    }
}

#[cfg(test)]
mod tests;
