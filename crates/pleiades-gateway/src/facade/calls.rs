//! A plan: several calls in one (`options.calls`), checked whole before any of them is sent.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value, json, value::RawValue};

use super::answer::{AnswerStatus, MetaAnswer};
use super::envelope::{self, NamedTool, ToolIndex, printable};
use super::explain::invalid;
use super::faults::{self, ArgumentFault};
use super::options::CallOptions;
use super::reference::{self, Reference, ReferenceFault};
use super::repairs::{Repair, Repairs};
use super::schedule::CallOrder;
use super::shape::declared;
use super::{coerce, duplicate_keys, exact, name, signature};
use crate::catalog::{HiddenTarget, Provider, Tool};
use pleiades_mcp::{Raw, RawObject, raw};

/// Longest id of a call (bytes).
const MAX_ID: usize = 64;
/// Faults that are told; more would not be read.
const MAX_FAULTS: usize = 12;
/// Names that are suggested for one that does not exist.
const NEAREST: usize = 3;
/// Notes of one plan.
const MAX_NOTES: usize = 24;
/// Members of the meta tool that belong to the whole plan.
const OF_THE_PLAN: [&str; 4] = ["accountId", "options", "prompt", "provider"];

/// Calls that are made as one, in the order they were given.
#[derive(Debug)]
pub struct PlannedCalls {
    /// At least one, at most ten.
    pub calls: Vec<PlannedCall>,
    /// What was repaired, in words.
    pub notes: Vec<String>,
    /// The same by kind.
    pub repairs: Vec<Repair>,
    /// `full`, `fresh` and `dry_run` hold for all of them.
    pub options: CallOptions,
}

/// One call of a plan.
#[derive(Debug, Clone)]
pub struct PlannedCall {
    /// What others refer to it by; unique in its plan.
    pub id: Box<str>,
    /// The operation.
    pub tool: Arc<Tool>,
    /// Whether it may change something.
    pub writes: bool,
    /// Positions of the calls whose results it reads; all stand before it.
    pub needs: Vec<usize>,
    /// An object, references unresolved.
    pub arguments: Value,
    /// The same as text, where it holds numbers of more digits than values do.
    pub exact: Option<Raw>,
}

/// Arguments of a planned call once what they refer to is known.
#[derive(Debug)]
pub(crate) struct ReadyArguments {
    pub(crate) arguments: Raw,
    pub(crate) notes: Vec<String>,
    pub(crate) repairs: Vec<Repair>,
}

impl PlannedCall {
    /// What its turn depends on.
    pub(crate) fn order(&self) -> CallOrder {
        CallOrder {
            writes: self.writes,
            needs: self.needs.clone(),
        }
    }

    /// The arguments to send: `result_of` is asked for what a call of this id gave. Checked against the
    /// schema once more where they refer to something, and repaired as those of a single call.
    ///
    /// # Errors
    /// The answer to the call, which is not sent.
    pub(crate) fn ready<'a>(
        &self,
        result_of: &dyn Fn(&str) -> Option<&'a RawValue>,
    ) -> Result<ReadyArguments, Box<MetaAnswer>> {
        let mut repairs = Repairs::default();
        if self.needs.is_empty() {
            let exact = self.exact.clone();
            return Ok(ready(exact.unwrap_or_else(|| raw::raw(&self.arguments)), repairs));
        }
        let text = reference::resolved(&self.arguments, result_of)
            .map_err(|unresolved| Box::new(self.unresolved(&unresolved)))?;
        let Ok(Value::Object(mut arguments)) = duplicate_keys::parse(&text) else {
            let why =
                "what its references read makes no arguments: an object is expected, each name in it once";
            return Err(Box::new(self.refused(why)));
        };
        let schema = declared(&self.tool);
        let faults = fit(&self.tool, &schema, &mut arguments, !self.writes, &mut repairs);
        if !faults.is_empty() {
            return Err(Box::new(invalid(
                (&self.tool, &schema),
                Some(&arguments),
                &faults,
                repairs.notes,
            )));
        }
        let text = RawValue::from_string(text)
            .ok()
            .filter(|_| repairs.kinds.is_empty());
        Ok(ready(text.unwrap_or_else(|| raw::raw(&arguments)), repairs))
    }

    /// Keeps every digit of its numbers, as they stand in what was given.
    ///
    /// # Errors
    /// A sentence when that fails: then another number would be sent.
    pub(super) fn keep_digits(&mut self, given: &RawObject) -> Result<(), String> {
        let Value::Object(arguments) = &self.arguments else {
            return Ok(());
        };
        let exact = exact::written(given, arguments)?;
        if exact.get() == raw::raw(arguments).get() {
            return Ok(());
        }
        if !self.needs.is_empty() {
            return Err(
                "a number of its arguments has more digits than are kept beside a reference: give the \
                        value in place of `$from`"
                    .to_owned(),
            );
        }
        self.exact = Some(exact);
        Ok(())
    }

    fn unresolved(&self, unresolved: &ReferenceFault) -> MetaAnswer {
        match unresolved {
            ReferenceFault::Missing { from, path } => self.refused(&format!(
                "`{}` gave nothing at `{}`; look at its result and refer to what is there",
                printable(from),
                printable(path)
            )),
            ReferenceFault::TooLarge => {
                self.refused("its references read too much: refer to smaller parts, all of them below 1 MiB")
            }
        }
    }

    fn refused(&self, why: &str) -> MetaAnswer {
        let text = format!("`{}` was not run: {why}.", self.tool.short);
        let mut answer = MetaAnswer::new(AnswerStatus::InvalidArguments, text);
        answer.tool = Some((&*self.tool.name).into());
        answer.cause = Some("a reference of a plan gave no arguments".to_owned());
        answer
    }
}

fn ready(arguments: Raw, repairs: Repairs) -> ReadyArguments {
    ReadyArguments {
        arguments,
        notes: repairs.notes,
        repairs: repairs.kinds,
    }
}

/// What does not fit, after values were read in the only way their schema allows.
fn fit(
    tool: &Tool,
    schema: &Value,
    arguments: &mut Map<String, Value>,
    reads: bool,
    repairs: &mut Repairs,
) -> Vec<ArgumentFault> {
    if faults::faults(tool, schema, arguments).is_empty() {
        return Vec::new();
    }
    coerce::coerce(schema, arguments, reads, repairs);
    faults::faults(tool, schema, arguments)
}

/// Checks a plan as it was written.
///
/// # Errors
/// The answer that names everything that is wrong with it; nothing was run.
pub(super) fn checked(
    provider: &Provider,
    index: ToolIndex<'_>,
    written: &[Value],
    options: CallOptions,
    repairs: Repairs,
) -> Result<PlannedCalls, Box<MetaAnswer>> {
    let mut reading = PlanReader {
        provider,
        index,
        positions: HashMap::new(),
        faults: Vec::new(),
        signatures: Vec::new(),
        unknown: false,
        repairs,
    };
    let ids: Vec<Option<String>> = written
        .iter()
        .enumerate()
        .map(|(at, call)| reading.id(at, call))
        .collect();
    let mut calls = Vec::new();
    for (at, (call, id)) in written.iter().zip(&ids).enumerate() {
        let subject = id
            .as_ref()
            .map_or_else(|| format!("calls.{at}"), |id| format!("`{id}`"));
        if let Some(call) = reading.call(at, &subject, call) {
            let id = id.as_deref().unwrap_or_default().into();
            calls.push(PlannedCall { id, ..call });
        }
        if reading.faults.len() >= MAX_FAULTS {
            break;
        }
    }
    if !reading.faults.is_empty() {
        return Err(Box::new(reading.answer()));
    }
    reading.repairs.notes.truncate(MAX_NOTES);
    Ok(PlannedCalls {
        calls,
        notes: reading.repairs.notes,
        repairs: reading.repairs.kinds,
        options,
    })
}

struct PlanReader<'a> {
    provider: &'a Provider,
    index: ToolIndex<'a>,
    /// Where the call of an id stands.
    positions: HashMap<String, usize>,
    faults: Vec<ArgumentFault>,
    /// Of the operations whose arguments do not fit.
    signatures: Vec<String>,
    /// Whether an operation does not exist.
    unknown: bool,
    repairs: Repairs,
}

impl PlanReader<'_> {
    fn fault(&mut self, subject: &str, why: &str) {
        let text = format!("{subject}: {why}");
        let brief = text.clone();
        self.faults.push(ArgumentFault {
            text,
            brief,
            pointer: None,
        });
    }

    fn not_of_a_call(&mut self, subject: &str, name: &str) {
        let why = format!("`{name}` belongs to the whole plan and not to one of its calls");
        self.fault(subject, &why);
    }

    /// The id of a call, when it is one and no other call has it.
    fn id(&mut self, at: usize, call: &Value) -> Option<String> {
        let subject = format!("calls.{at}");
        let given = call.get("id");
        let id = match given {
            Some(Value::String(id)) => id.clone(),
            Some(Value::Number(id)) if !id.is_f64() => id.to_string(),
            _ if !call.is_object() => return None,
            _ => {
                self.fault(
                    &subject,
                    "needs an `id`, a short text that the other calls can refer to",
                );
                return None;
            }
        };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if id.is_empty() || id.len() > MAX_ID || !id.bytes().all(is_plain) {
            self.fault(
                &subject,
                "`id` must be 1 to 64 of the letters A-Z, a-z, digits, `_`, `-` and `.`",
            );
            return None;
        }
        if let Some(first) = self.positions.get(&id) {
            let why = format!("has the id `{id}`, which calls.{first} has already: give each call its own");
            self.fault(&subject, &why);
            return None;
        }
        self.positions.insert(id.clone(), at);
        Some(id)
    }

    /// One call without its id; `None` when something is wrong with it.
    fn call(&mut self, at: usize, subject: &str, written: &Value) -> Option<PlannedCall> {
        let Value::Object(members) = written else {
            self.fault(subject, "expected an object `{\"id\", \"tool\", \"arguments\"}`");
            return None;
        };
        let mut members = members.clone();
        members.shift_remove("id");
        if let Some(other) = OF_THE_PLAN.into_iter().find(|name| members.contains_key(*name)) {
            self.not_of_a_call(subject, other);
            return None;
        }
        let (tool, mut arguments) = self.operation(subject, members)?;
        let references = self.references(at, subject, &arguments)?;
        let faults = self.open_faults(&tool, subject, &mut arguments, &references);
        if !faults.is_empty() {
            let named = faults.iter().map(|fault| ArgumentFault {
                text: format!("{subject}: {}", fault.text),
                brief: format!("{subject}: {}", fault.brief),
                pointer: None,
            });
            self.faults.extend(named);
            self.signatures.push(signature::line(&tool));
            return None;
        }
        let sent = raw::raw(&arguments);
        match self.provider.rules.refused(&tool, Some(&sent)) {
            None => {}
            Some(HiddenTarget::Named(name)) => {
                self.unknown_operation(subject, &name);
                return None;
            }
            Some(HiddenTarget::Untold(argument)) => {
                self.fault(
                    subject,
                    &format!("`{argument}` must be the plain name of one operation"),
                );
                return None;
            }
        }
        let writes = !self.provider.is_read_call(self.index.catalogue, &tool, &sent);
        let mut needs: Vec<usize> = references
            .iter()
            .filter_map(|reference| self.positions.get(&reference.from).copied())
            .collect();
        needs.sort_unstable();
        needs.dedup();
        Some(PlannedCall {
            id: Box::default(),
            tool,
            writes,
            needs,
            arguments,
            exact: None,
        })
    }

    /// The operation and its arguments, taken out of their wrapping as those of a single call.
    fn operation(&mut self, subject: &str, members: Map<String, Value>) -> Option<(Arc<Tool>, Value)> {
        let given = RawObject::open(&raw::raw(&members)).unwrap_or_default();
        let call = match envelope::read(self.index, &given) {
            Ok(call) => call,
            Err(unreadable) => {
                self.fault(subject, &unreadable.why);
                return None;
            }
        };
        // What was wrapped, or stood beside `options`, asks for it in vain: `dryRun` would run.
        let of_the_plan = [
            ("options", call.options.is_some_and(|options| !options.is_null())),
            ("accountId", call.names_account),
        ];
        if let Some((other, _)) = of_the_plan.into_iter().find(|(_, is_given)| *is_given) {
            self.not_of_a_call(subject, other);
            return None;
        }
        let notes = call.repairs.notes.into_iter();
        self.repairs
            .notes
            .extend(notes.map(|note| format!("{subject}: {note}")));
        call.repairs
            .kinds
            .into_iter()
            .for_each(|kind| self.repairs.count(kind));
        match call.named {
            NamedTool::Operation(tool) => Some((tool, Value::Object(call.arguments.unwrap_or_default()))),
            NamedTool::Nothing => {
                self.fault(subject, "names no operation: say which in `tool`");
                None
            }
            NamedTool::Unknown(name) => {
                self.unknown_operation(subject, &name);
                None
            }
        }
    }

    fn unknown_operation(&mut self, subject: &str, name: &str) {
        self.unknown = true;
        let near = name::nearest(self.index.catalogue, name, NEAREST);
        let names: Vec<String> = near.iter().map(|tool| format!("`{}`", tool.short)).collect();
        self.signatures
            .extend(near.first().map(|tool| signature::line(tool)));
        let text = format!(
            "{subject}: {} has no operation `{}`; the nearest are {}",
            self.provider.title,
            printable(name),
            names.join(", ")
        );
        let brief = format!("{subject}: no such operation");
        self.faults.push(ArgumentFault {
            text,
            brief,
            pointer: None,
        });
    }

    /// The references of a call, when all lead to calls that stand before it.
    fn references(&mut self, at: usize, subject: &str, arguments: &Value) -> Option<Vec<Reference>> {
        let references = match reference::references(arguments) {
            Ok(references) => references,
            Err(why) => {
                self.fault(subject, &why);
                return None;
            }
        };
        let mut sound = true;
        for reference in &references {
            let place = printable(&reference.place);
            let from = printable(&reference.from);
            let why = match self.positions.get(&reference.from) {
                Some(other) if *other < at => continue,
                Some(other) if *other == at => format!("arguments{place} refers to the call itself"),
                Some(_) => {
                    format!("arguments{place} refers to `{from}`, which stands after it: put that call first")
                }
                None => format!("arguments{place} refers to `{from}`, and no call of the plan has this id"),
            };
            sound = false;
            self.fault(subject, &why);
        }
        sound.then_some(references)
    }

    /// What is wrong with arguments as far as that is known before their references are; values are
    /// read in the only way their schema allows.
    fn open_faults(
        &mut self,
        tool: &Tool,
        subject: &str,
        arguments: &mut Value,
        references: &[Reference],
    ) -> Vec<ArgumentFault> {
        let reads = self.provider.is_read(tool);
        let schema = declared(tool);
        let mut repairs = Repairs::default();
        let Value::Object(members) = arguments else {
            return Vec::new();
        };
        let faults = if references.is_empty() {
            fit(tool, &schema, members, reads, &mut repairs)
        } else {
            let open: Vec<&str> = references
                .iter()
                .map(|reference| reference.place.as_str())
                .collect();
            let faults = faults::known_faults(tool, &schema, members, &open);
            match faults.is_empty() {
                true => faults,
                false => {
                    coerce_around(&schema, members, &open, reads, &mut repairs);
                    faults::known_faults(tool, &schema, members, &open)
                }
            }
        };
        let notes = repairs.notes.into_iter();
        self.repairs
            .notes
            .extend(notes.map(|note| format!("{subject}: {note}")));
        repairs
            .kinds
            .into_iter()
            .for_each(|kind| self.repairs.count(kind));
        faults
    }

    /// The answer that names the faults.
    fn answer(self) -> MetaAnswer {
        let texts: Vec<&str> = self.faults.iter().map(|fault| &*fault.text).collect();
        let status = match self.unknown {
            true => AnswerStatus::UnknownTool,
            false => AnswerStatus::InvalidArguments,
        };
        let mut text = format!(
            "Nothing was run: the plan does not fit.\n- {}",
            texts.join("\n- ")
        );
        let mut signatures = self.signatures;
        signatures.dedup();
        for line in signatures {
            text.push('\n');
            text.push_str(&line);
        }
        text.push_str(
            "\nA plan: {\"options\":{\"calls\":[{\"id\":\"a\",\"tool\":\"…\",\"arguments\":{…}},\
             {\"id\":\"b\",\"tool\":\"…\",\"arguments\":{\"x\":{\"$from\":\"a\",\"path\":\"/0/id\"}}}]}}",
        );
        let mut answer = MetaAnswer::new(status, text);
        answer.data = Some(raw::raw(&json!({ "code": answer.outcome(), "faults": texts })));
        let briefs: Vec<&str> = self.faults.iter().map(|fault| &*fault.brief).collect();
        answer.cause = Some(briefs.join("; "));
        answer
    }
}

/// Coerces arguments around their references, which stand for anything and stay as they are.
fn coerce_around(
    schema: &Value,
    arguments: &mut Map<String, Value>,
    open: &[&str],
    reads: bool,
    repairs: &mut Repairs,
) {
    let mut without = Value::Object(arguments.clone());
    let mut taken: Vec<(&str, &str, Value)> = Vec::new();
    for place in open {
        let Some((parent, last)) = place.rsplit_once('/') else {
            return;
        };
        let reference = match without.pointer_mut(parent) {
            Some(Value::Object(members)) => members.shift_remove(&unescaped(last)),
            Some(Value::Array(items)) => last
                .parse::<usize>()
                .ok()
                .and_then(|at| items.get_mut(at))
                .map(Value::take),
            _ => None,
        };
        let Some(reference) = reference else { return };
        taken.push((parent, last, reference));
    }
    let Value::Object(members) = &mut without else {
        return;
    };
    coerce::coerce(schema, members, reads, repairs);
    for (parent, last, reference) in taken {
        match without.pointer_mut(parent) {
            Some(Value::Object(members)) => {
                members.insert(unescaped(last), reference);
            }
            Some(Value::Array(items)) => match last.parse::<usize>().ok().and_then(|at| items.get_mut(at)) {
                Some(slot) => *slot = reference,
                None => return,
            },
            _ => return,
        }
    }
    if let Value::Object(members) = without {
        *arguments = members;
    }
}

fn unescaped(segment: &str) -> String {
    segment.replace("~1", "/").replace("~0", "~")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facade::tests::{catalogue, provider};

    fn planned(calls: &[Value]) -> Result<PlannedCalls, String> {
        let catalogue = catalogue([
            json!({ "name": "list", "annotations": { "readOnlyHint": true }, "inputSchema": { "type": "object" } }),
            json!({ "name": "set", "inputSchema": { "type": "object", "required": ["n"], "additionalProperties": false,
                "properties": {
                    "n": { "type": "integer", "maximum": 9 }, "note": { "type": "string" },
                    "list": { "type": "array", "maxItems": 2, "items": { "type": "integer" } },
                    "one": { "oneOf": [{ "type": "object", "required": ["a"] }, { "type": "string" }] } },
                "if": { "properties": { "n": { "const": 1 } }, "required": ["n"] }, "then": { "required": ["note"] } } }),
        ]);
        let index = ToolIndex {
            id: "x",
            called: "use_x",
            catalogue: &catalogue,
        };
        checked(
            &provider("x"),
            index,
            calls,
            CallOptions::default(),
            Repairs::default(),
        )
        .map_err(|answer| answer.text)
    }

    fn call(id: &str, tool: &str, arguments: Value) -> Value {
        json!({ "id": id, "tool": tool, "arguments": arguments })
    }

    fn with(arguments: Value) -> Result<PlannedCalls, String> {
        planned(&[call("a", "list", json!({})), call("b", "set", arguments)])
    }

    fn from(path: &str) -> Value {
        json!({ "$from": "a", "path": path })
    }

    #[test]
    fn a_reference_stands_for_anything_and_all_that_does_not_depend_on_it_is_checked() {
        for arguments in [
            json!({ "n": from("") }),
            json!({ "n": 1, "note": from("/x") }),
            json!({ "n": 2, "list": [from("/0"), 3] }),
            json!({ "n": 2, "one": { "a": from("/0") } }),
            json!({ "n": 2, "one": from("/0") }),
            json!({ "$from": "a", "path": "" }),
        ] {
            assert!(
                with(arguments.clone()).is_ok(),
                "{arguments}: {:?}",
                with(arguments.clone())
            );
        }
        for (arguments, fault) in [
            (json!({ "note": from("") }), "arguments.n: missing"),
            (json!({ "n": from(""), "nte": 1 }), "arguments.nte"),
            (json!({ "n": from(""), "note": 7.5 }), "arguments.note"),
            (json!({ "n": 2, "list": [from("/0"), "x"] }), "arguments.list.1"),
            (json!({ "n": 2, "list": [from("/0"), 1, 2] }), "arguments.list"),
            (json!({ "n": 12, "note": from("/0") }), "arguments.n"),
        ] {
            let text = with(arguments.clone()).expect_err("a fault");
            assert!(
                text.starts_with("Nothing was run") && text.contains(fault),
                "{arguments}: {text}"
            );
        }
    }

    #[test]
    fn values_around_references_are_read_as_those_of_a_single_call() {
        let planned = with(json!({ "n": "5", "list": [from("/0"), "3"], "note": from("/x") })).unwrap();
        let expected = json!({ "n": 5, "list": [from("/0"), 3], "note": from("/x") });
        assert_eq!(planned.calls[1].arguments, expected);
        assert_eq!(
            (planned.notes.len(), planned.calls[1].needs.as_slice()),
            (2, &[0][..])
        );
        assert!(planned.calls[1].writes && !planned.calls[0].writes);
    }

    #[test]
    fn resolved_arguments_are_checked_again_and_repaired_without_loss() {
        let planned = with(json!({ "n": from("/n"), "note": from("/t") })).unwrap();
        let ready = |result: &str| {
            let result: Raw = serde_json::from_str(result).unwrap();
            planned.calls[1].ready(&|id| (id == "a").then_some(&*result))
        };
        assert_eq!(
            ready(r#"{"n":7,"t":"x"}"#).unwrap().arguments.get(),
            r#"{"n":7,"note":"x"}"#
        );
        let repaired = ready(r#"{"n":"7","t":"x"}"#).unwrap();
        assert_eq!(
            (repaired.arguments.get(), repaired.notes.len()),
            (r#"{"n":7,"note":"x"}"#, 1)
        );
        for (result, fault) in [
            (r#"{"n":10,"t":"x"}"#, "arguments.n"),
            (r#"{"n":1e400,"t":"x"}"#, "makes no arguments"),
            (r#"{"n":7}"#, "`a` gave nothing at `/t`"),
        ] {
            let answer = ready(result).expect_err("a fault");
            assert_eq!(answer.status, AnswerStatus::InvalidArguments);
            assert!(answer.text.contains(fault), "{}", answer.text);
        }
    }

    #[test]
    fn a_call_asks_for_no_account_or_option_of_its_own_however_it_is_wrapped() {
        let wrapped = |beside: Value| {
            let mut inner = json!({ "tool": "set", "arguments": { "n": 2 } });
            let members = inner.as_object_mut().unwrap();
            members.extend(beside.as_object().unwrap().clone());
            [
                json!({ "id": "a", "tool": "use_x", "arguments": inner }),
                json!({ "id": "a", "arguments": inner }),
                json!({ "id": "a", "tool": "use_x", "arguments": inner.to_string() }),
            ]
        };
        for call in wrapped(json!({})) {
            assert!(planned(std::slice::from_ref(&call)).is_ok(), "{call}");
        }
        let beside = [
            (json!({ "options": { "dryRun": true } }), "`options` belongs"),
            (json!({ "dryRun": true }), "`options` belongs"),
            (json!({ "accountId": "work" }), "`accountId` belongs"),
        ];
        for (beside, why) in beside {
            for call in wrapped(beside) {
                let text = planned(std::slice::from_ref(&call)).expect_err("a fault");
                assert!(text.contains(why), "{call}: {text}");
            }
        }
    }

    #[test]
    fn ids_may_be_numbers_and_calls_may_be_wrapped_as_single_ones_may() {
        let calls = [
            json!({ "id": 1, "tool": "list" }),
            json!({ "id": "b", "name": "set", "args": "{\"n\":{\"$from\":1}}" }),
        ];
        let planned = planned(&calls).unwrap();
        assert_eq!(
            (&*planned.calls[0].id, planned.calls[1].needs.as_slice()),
            ("1", &[0][..])
        );
    }
}
