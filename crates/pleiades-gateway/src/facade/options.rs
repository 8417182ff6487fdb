//! `options` of a meta tool's call: what is asked for beside the operation.
//!
//! All of it is checked before anything runs: an option that does not exist, has another type or
//! contradicts the rest of the call is an answer that names it and what to write instead.

use std::num::NonZeroU32;

use serde_json::{Map, Value, json, value::RawValue};

use super::answer::{AnswerStatus, MetaAnswer};
use super::envelope::printable;
use super::faults::ArgumentFault;
use super::repairs::{Repair, Repairs};
use super::{duplicate_keys, name};
use pleiades_mcp::raw;

/// Every option and what it does, in a line for a model.
const OPTIONS: [(&str, &str); 8] = [
    (
        "result",
        "the `resultId` of an earlier answer, to read more of it",
    ),
    (
        "select",
        "a JSON pointer to the part that is wanted (`/items/*/title`)",
    ),
    ("page", "which page of `result`, from 1"),
    ("full", "true: the result is not shortened"),
    ("fresh", "true: nothing is answered from the cache"),
    ("dryRun", "true: says what would be called and runs nothing"),
    (
        "calls",
        "a plan of at most 10 `{\"id\", \"tool\", \"arguments\"}`",
    ),
    ("conversation", "the `c_…` of an earlier answer of the agent"),
];
/// Spellings of `dryRun` that stand beside `tool`: there they would become arguments of a call that was
/// to run nothing.
const DRY_RUNS: [&str; 3] = ["dryRun", "dry_run", "dryrun"];

/// Calls of one plan.
pub(super) const MAX_CALLS: usize = 10;
/// Longest id of a result or a conversation that is looked up (bytes).
const MAX_ID: usize = 128;
/// Longest pointer (bytes), and its deepest (segments).
const MAX_POINTER: usize = 1_024;
const MAX_SEGMENTS: usize = 64;
/// Faults that are reported; more would not be read.
const MAX_FAULTS: usize = 8;

/// What a call asks for beside its operation. Each is of the right type and within its bounds, and none
/// contradicts another.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CallOptions {
    /// The earlier result that is to be read; whether there is one, and for this caller, is not known yet.
    pub result: Option<Box<str>>,
    /// The part that is wanted of a result: a JSON pointer (RFC 6901) in which `*` stands for every element.
    pub select: Option<Box<str>>,
    /// Which page of an earlier result.
    pub page: Option<NonZeroU32>,
    /// The result is not cut.
    pub full: bool,
    /// The cache does not answer.
    pub fresh: bool,
    /// Nothing runs; what would run is answered.
    pub dry_run: bool,
    /// The calls of a plan as they are written, at most [`MAX_CALLS`].
    pub calls: Option<Vec<Value>>,
}

/// What is to be read of an earlier result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultRequest {
    /// Its id as the caller gave it.
    pub id: Box<str>,
    /// The part that is wanted: a JSON pointer in which `*` stands for every element; `None`: all of it.
    pub select: Option<Box<str>>,
    /// Which page, from 1; `None`: the first.
    pub page: Option<NonZeroU32>,
    /// Without a cut.
    pub full: bool,
}

impl CallOptions {
    /// Options as they arrived in a call without faults otherwise; `None` when they have some, or had to be
    /// repaired.
    pub(super) fn well_formed(given: Option<&RawValue>) -> Option<Self> {
        let Some(given) = given.filter(|raw| raw.get() != "null") else {
            return Some(Self::default());
        };
        let value: Value = serde_json::from_str(given.get()).ok()?;
        let mut repairs = Repairs::default();
        let options = Self::read(&value, &mut repairs).ok()?;
        repairs.kinds.is_empty().then_some(options)
    }

    /// Options in any reading that loses nothing; the error is what to change.
    pub(super) fn read(given: &Value, repairs: &mut Repairs) -> Result<Self, Vec<ArgumentFault>> {
        let parsed;
        let members = match given {
            Value::Null => return Ok(Self::default()),
            Value::Object(members) => members,
            Value::String(text) if text.trim().is_empty() => return Ok(Self::default()),
            Value::String(text) => match duplicate_keys::parse(text.trim()) {
                Ok(Value::Object(members)) => {
                    let note = "`options` was text and was read as the JSON object in it";
                    repairs.note(Repair::Other, note);
                    parsed = members;
                    &parsed
                }
                _ => return Err(vec![no_object()]),
            },
            _ => return Err(vec![no_object()]),
        };
        let mut reader = OptionReader {
            options: Self::default(),
            faults: Vec::new(),
            repairs,
        };
        for (name, value) in members.iter().filter(|(_, value)| !value.is_null()) {
            if reader.faults.len() >= MAX_FAULTS {
                break;
            }
            reader.option(name, value);
        }
        match reader.faults.is_empty() {
            true => Ok(reader.options),
            false => Err(reader.faults),
        }
    }

    /// What is wrong with them beside the rest of the call; `tool`: whether it names an operation.
    pub(super) fn contradiction(&self, tool: bool) -> Option<ArgumentFault> {
        let earlier = self.result.is_some();
        let (name, why) = match () {
            () if tool && self.calls.is_some() => (
                "calls",
                "is the whole call: leave `tool` and `arguments` out, or make the operation one of the calls",
            ),
            () if tool && earlier => (
                "result",
                "reads an earlier result and runs nothing: leave `tool` and `arguments` out, or leave it out",
            ),
            () if earlier && self.calls.is_some() => (
                "calls",
                "runs calls and `result` reads an earlier result: make two calls of it",
            ),
            () if self.page.is_some() && !earlier => (
                "page",
                "is a page of an earlier result: say which by `result`, the `resultId` of its answer",
            ),
            () if self.page.is_some() && self.full => (
                "page",
                "is one page and `full` is all of them: leave one of the two out",
            ),
            () if earlier && self.fresh => (
                "fresh",
                "does not go with `result`, which reads what was kept: make the call itself again with `fresh`",
            ),
            () if earlier && self.dry_run => (
                "dryRun",
                "does not go with `result`, which runs nothing: leave it out",
            ),
            () if self.select.is_some() && self.calls.is_some() => (
                "select",
                "takes a part of one result and not of a plan: read a result of the plan by its `resultId`",
            ),
            () => return None,
        };
        Some(fault(name, why))
    }

    /// The reading of an earlier result that they are.
    pub(super) fn into_reading(self) -> Option<ResultRequest> {
        Some(ResultRequest {
            id: self.result?,
            select: self.select,
            page: self.page,
            full: self.full,
        })
    }
}

/// Moves options that stand beside `tool` to the others. `is_parameter`: whether the operation has a
/// parameter of this name, which then means that.
pub(super) fn gather(
    outer: &mut Map<String, Value>,
    names_operation: bool,
    is_parameter: impl Fn(&str) -> bool,
    repairs: &mut Repairs,
) {
    let is_reading = !names_operation && ["result", "calls"].iter().any(|name| outer.contains_key(*name));
    let is_beside = |name: &str| match is_reading {
        true => OPTIONS.iter().any(|(option, _)| *option == name) || DRY_RUNS.contains(&name),
        false => DRY_RUNS.contains(&name) && !is_parameter(name),
    };
    let names: Vec<String> = outer.keys().filter(|name| is_beside(name)).cloned().collect();
    if names.is_empty()
        || outer
            .get("options")
            .is_some_and(|options| !options.is_object() && !options.is_null())
    {
        return;
    }
    let mut options = match outer.remove("options") {
        Some(Value::Object(options)) => options,
        _ => Map::new(),
    };
    for name in names {
        if let Some(value) = outer.remove(&name) {
            repairs.note(
                Repair::Other,
                format!("`{name}` stood beside `options` and was moved into it"),
            );
            options.entry(name).or_insert(value);
        }
    }
    outer.insert("options".to_owned(), Value::Object(options));
}

/// The answer to options that do not fit.
pub(super) fn refused(faults: &[ArgumentFault]) -> MetaAnswer {
    let texts: Vec<&str> = faults.iter().map(|fault| &*fault.text).collect();
    let all: Vec<String> = OPTIONS
        .iter()
        .map(|(name, does)| format!("{name}: {does}"))
        .collect();
    let text = format!(
        "Nothing was run: the options do not fit.\n- {}\nOptions: {}.",
        texts.join("\n- "),
        all.join("; ")
    );
    let mut answer = MetaAnswer::new(AnswerStatus::InvalidArguments, text);
    answer.data = Some(raw::raw(&json!({ "code": answer.outcome(), "faults": texts })));
    let briefs: Vec<&str> = faults.iter().map(|fault| &*fault.brief).collect();
    answer.cause = Some(briefs.join("; "));
    answer
}

struct OptionReader<'a> {
    options: CallOptions,
    faults: Vec<ArgumentFault>,
    repairs: &'a mut Repairs,
}

impl OptionReader<'_> {
    fn option(&mut self, name: &str, value: &Value) {
        match name {
            "result" => match value.as_str().filter(|id| is_id(id, "r_")) {
                Some(id) => self.options.result = Some(id.into()),
                None => self.wrong(name, value, "the `resultId` of an earlier answer (`r_…`)"),
            },
            "select" => match value.as_str().map(pointer_defect) {
                Some(None) => self.options.select = value.as_str().map(Into::into),
                Some(Some(why)) => self.faults.push(fault(name, why)),
                None => self.wrong(name, value, "a JSON pointer such as `/items/*/title`"),
            },
            "page" => match self.number(name, value).and_then(NonZeroU32::new) {
                Some(page) => self.options.page = Some(page),
                None => self.wrong(name, value, "a whole number from 1"),
            },
            "full" => self.options.full = self.boolean(name, value),
            "fresh" => self.options.fresh = self.boolean(name, value),
            "dryRun" => self.options.dry_run = self.boolean(name, value),
            "calls" => self.calls(value),
            "conversation" => self.faults.push(fault(
                name,
                "continues a conversation with an agent, which this gateway has not: leave it out and say the \
                 whole goal in `prompt`",
            )),
            _ => self.faults.push(unknown(name)),
        }
    }

    fn boolean(&mut self, name: &str, value: &Value) -> bool {
        let read = match value {
            Value::Bool(given) => return *given,
            Value::String(text) if text.eq_ignore_ascii_case("true") => true,
            Value::String(text) if text.eq_ignore_ascii_case("false") => false,
            _ => {
                self.wrong(name, value, "true or false");
                return false;
            }
        };
        self.repaired(name, "a boolean");
        read
    }

    fn number(&mut self, name: &str, value: &Value) -> Option<u32> {
        match value {
            Value::Number(number) => {
                let whole = number.as_f64().filter(|number| number.fract() == 0.0)?;
                // `2.0` is 2 in every reader of JSON (RFC 8259 section 6).
                format!("{whole:.0}").parse().ok()
            }
            Value::String(text) => {
                let read = text
                    .parse::<u32>()
                    .ok()
                    .filter(|read| read.to_string() == *text)?;
                self.repaired(name, "a number");
                Some(read)
            }
            _ => None,
        }
    }

    fn calls(&mut self, value: &Value) {
        let parsed = value
            .as_str()
            .and_then(|text| duplicate_keys::parse(text.trim()).ok());
        if parsed.as_ref().is_some_and(Value::is_array) {
            self.repaired("calls", "a list");
        }
        match parsed.as_ref().unwrap_or(value) {
            Value::Array(calls) if calls.is_empty() => {
                self.faults.push(fault("calls", "is empty: say what to call"))
            }
            Value::Array(calls) if calls.len() > MAX_CALLS => {
                let why = format!(
                    "holds {} calls, at most {MAX_CALLS} are allowed: make several plans of it",
                    calls.len()
                );
                self.faults.push(fault("calls", &why));
            }
            Value::Array(calls) => self.options.calls = Some(calls.clone()),
            _ => self.wrong("calls", value, "a list of `{\"id\", \"tool\", \"arguments\"}`"),
        }
    }

    fn repaired(&mut self, name: &str, what: &str) {
        let note = format!("`options.{name}` was text and was read as {what}");
        self.repairs.note(Repair::Other, note);
    }

    fn wrong(&mut self, name: &str, value: &Value, expected: &str) {
        self.faults.push(fault(
            name,
            &format!("is {}, expected {expected}", kind_of(value)),
        ));
    }
}

const fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "another number",
        Value::String(_) => "another text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn is_id(id: &str, prefix: &str) -> bool {
    id.len() <= MAX_ID && id.starts_with(prefix)
}

/// Why a text is no JSON pointer (RFC 6901 section 3), or none that is followed.
pub(super) fn pointer_defect(pointer: &str) -> Option<&'static str> {
    let is_escaped = || {
        pointer
            .split('~')
            .skip(1)
            .all(|rest| rest.starts_with(['0', '1']))
    };
    match () {
        () if pointer.len() > MAX_POINTER || pointer.matches('/').count() > MAX_SEGMENTS => {
            Some("is too long for a JSON pointer: at most 1,024 bytes and 64 segments")
        }
        () if !pointer.is_empty() && !pointer.starts_with('/') => {
            Some("is no JSON pointer: begin with `/`, as in `/items/*/title`; the empty text is the whole")
        }
        () if !is_escaped() => Some("is no JSON pointer: `~` is written `~0` in it, and `/` in a name `~1`"),
        () => None,
    }
}

fn no_object() -> ArgumentFault {
    let text = "options: expected a JSON object such as {\"dryRun\": true}".to_owned();
    ArgumentFault {
        brief: "options: no object".to_owned(),
        text,
        pointer: None,
    }
}

fn unknown(name: &str) -> ArgumentFault {
    let options = || OPTIONS.iter().map(|(option, _)| *option);
    let exchanged = || options().find(|option| letters(option) == letters(name));
    let near = name::closest(name, options()).or_else(exchanged);
    let name = printable(name);
    let text = match near {
        Some(near) => format!("options.{name}: no such option, did you mean `{near}`"),
        None => format!("options.{name}: no such option; arguments of the operation belong in `arguments`"),
    };
    let brief = format!("options.{name}: no such option");
    ArgumentFault {
        text,
        brief,
        pointer: None,
    }
}

/// The letters of a short name in order: two letters exchanged are two changes of a word of four.
fn letters(name: &str) -> Vec<char> {
    let mut letters: Vec<char> = name.chars().take(MAX_ID).collect();
    letters.sort_unstable();
    letters
}

/// `why` is about a name of ours and repeats no value.
fn fault(name: &str, why: &str) -> ArgumentFault {
    let text = format!("options.{name} {why}");
    ArgumentFault {
        brief: text.clone(),
        text,
        pointer: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(given: &Value) -> Result<CallOptions, Vec<String>> {
        let texts = |faults: Vec<ArgumentFault>| faults.into_iter().map(|fault| fault.text).collect();
        CallOptions::read(given, &mut Repairs::default()).map_err(texts)
    }

    fn fault_of(given: &Value) -> String {
        read(given).expect_err("a fault").join("\n")
    }

    #[test]
    fn every_option_is_read_by_its_type() {
        let given =
            json!({ "result": "r_x", "select": "/items/*/a~1b", "page": 2, "full": false, "fresh": null });
        let options = read(&given).unwrap();
        assert_eq!(options.result.as_deref(), Some("r_x"));
        assert_eq!(options.select.as_deref(), Some("/items/*/a~1b"));
        assert_eq!(options.page, NonZeroU32::new(2));
        assert!(!options.full && !options.fresh && !options.dry_run);
        let plan = read(&json!({ "dryRun": true, "calls": [{}], "full": true })).unwrap();
        assert!(plan.dry_run && plan.full && plan.calls == Some(vec![json!({})]));
        for none in [Value::Null, json!({}), json!(""), json!("  "), json!("{}")] {
            assert_eq!(read(&none).unwrap(), CallOptions::default(), "{none}");
        }
    }

    #[test]
    fn text_is_read_in_the_one_way_that_loses_nothing_and_that_is_noted() {
        let mut repairs = Repairs::default();
        let given = json!(r#"{"page":"2","result":"r_x","full":"True","calls":"[{}]"}"#);
        let options = CallOptions::read(&given, &mut repairs).unwrap();
        assert_eq!((options.page, options.full), (NonZeroU32::new(2), true));
        assert_eq!(options.calls.map(|calls| calls.len()), Some(1));
        assert_eq!(repairs.notes.len(), 4, "{:?}", repairs.notes);
        let raw = raw::raw(&given);
        assert!(
            CallOptions::well_formed(Some(&raw)).is_none(),
            "what is repaired takes the long way"
        );
        assert!(CallOptions::well_formed(None) == Some(CallOptions::default()));
    }

    #[test]
    fn an_unknown_option_is_named_with_the_nearest_one() {
        let fault = fault_of(&json!({ "pgae": 2, "dry_run": true, "owner": "x" }));
        assert!(
            fault.contains("options.pgae: no such option, did you mean `page`"),
            "{fault}"
        );
        assert!(
            fault.contains("options.dry_run: no such option, did you mean `dryRun`"),
            "{fault}"
        );
        assert!(
            fault.contains("options.owner: no such option; arguments"),
            "{fault}"
        );
    }

    #[test]
    fn a_wrong_type_or_value_is_named_with_what_is_expected() {
        for (given, expected) in [
            (
                json!({ "page": 0 }),
                "options.page is another number, expected a whole number from 1",
            ),
            (json!({ "page": -1 }), "whole number from 1"),
            (json!({ "page": 1.5 }), "whole number from 1"),
            (json!({ "page": 1e30 }), "whole number from 1"),
            (json!({ "page": "two" }), "whole number from 1"),
            (
                json!({ "full": 1 }),
                "options.full is another number, expected true or false",
            ),
            (json!({ "fresh": "yes" }), "expected true or false"),
            (
                json!({ "dryRun": [] }),
                "options.dryRun is a list, expected true or false",
            ),
            (json!({ "result": 7 }), "`resultId` of an earlier answer"),
            (json!({ "result": "x" }), "`resultId` of an earlier answer"),
            (
                json!({ "result": format!("r_{}", "x".repeat(200)) }),
                "`resultId` of an earlier answer",
            ),
            (json!({ "select": 7 }), "a JSON pointer such as"),
            (json!({ "select": "items" }), "begin with `/`"),
            (json!({ "select": "/a~2" }), "`~` is written `~0`"),
            (json!({ "select": "/a".repeat(65) }), "too long"),
            (
                json!({ "calls": {} }),
                "options.calls is an object, expected a list",
            ),
            (json!({ "calls": [] }), "options.calls is empty"),
            (
                json!({ "calls": vec![json!({}); 11] }),
                "holds 11 calls, at most 10",
            ),
            (json!({ "conversation": "c_x" }), "options.conversation continues"),
            (json!([]), "expected a JSON object"),
            (json!(7), "expected a JSON object"),
            (json!("{\"page\":1,\"page\":2}"), "expected a JSON object"),
        ] {
            let fault = fault_of(&given);
            assert!(fault.contains(expected), "{given}: {fault}");
        }
    }

    #[test]
    fn a_thousand_wrong_options_are_answered_in_a_few_lines() {
        let many: Map<String, Value> = (0..1_000).map(|at| (format!("o{at}"), json!(1))).collect();
        assert_eq!(read(&many.into()).unwrap_err().len(), MAX_FAULTS);
    }

    #[test]
    fn options_that_contradict_each_other_or_the_call_are_refused() {
        for (given, tool, name) in [
            (json!({ "calls": [{}] }), true, Some("calls")),
            (json!({ "result": "r_x" }), true, Some("result")),
            (json!({ "result": "r_x", "calls": [{}] }), false, Some("calls")),
            (json!({ "page": 1 }), true, Some("page")),
            (
                json!({ "page": 1, "result": "r_x", "full": true }),
                false,
                Some("page"),
            ),
            (json!({ "result": "r_x", "fresh": true }), false, Some("fresh")),
            (json!({ "result": "r_x", "dryRun": true }), false, Some("dryRun")),
            (json!({ "select": "/a", "calls": [{}] }), false, Some("select")),
            (json!({ "result": "r_x", "page": 2, "select": "" }), false, None),
            (
                json!({ "dryRun": true, "fresh": true, "select": "/a" }),
                true,
                None,
            ),
            (
                json!({ "calls": [{}], "dryRun": true, "full": true, "fresh": true }),
                false,
                None,
            ),
        ] {
            let fault = read(&given).unwrap().contradiction(tool);
            let found = fault.map(|fault| fault.text);
            let expected = name.map(|name| format!("options.{name} "));
            assert!(
                match (&found, &expected) {
                    (Some(found), Some(expected)) => found.starts_with(expected),
                    (found, expected) => found.is_none() && expected.is_none(),
                },
                "{given}: {found:?}"
            );
        }
    }

    #[test]
    fn options_beside_the_call_are_gathered_where_they_can_mean_nothing_else() {
        let gathered = |call: Value, tool: bool, parameter: &str| {
            let Value::Object(mut outer) = call else {
                panic!("an object")
            };
            gather(
                &mut outer,
                tool,
                |name| name == parameter,
                &mut Repairs::default(),
            );
            Value::Object(outer)
        };
        assert_eq!(
            gathered(json!({ "result": "r_x", "page": 2 }), false, ""),
            json!({ "options": { "result": "r_x", "page": 2 } })
        );
        assert_eq!(
            gathered(json!({ "tool": "t", "arguments": {}, "dryRun": true }), true, ""),
            json!({ "tool": "t", "arguments": {}, "options": { "dryRun": true } })
        );
        for kept in [
            (json!({ "tool": "t", "page": 2 }), true, ""),
            (json!({ "tool": "t", "dryRun": true }), true, "dryRun"),
            (json!({ "prompt": "p", "page": 2 }), false, ""),
        ] {
            assert_eq!(gathered(kept.0.clone(), kept.1, kept.2), kept.0);
        }
    }
}
