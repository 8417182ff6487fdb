//! One operation explained: its schema, or why arguments do not fit it, and the call to make next.

use serde_json::{Map, Value, json};

use super::answer::{AnswerStatus, MetaAnswer};
use super::faults::ArgumentFault;
use super::shape::declared;
use super::{
    example::{self, NO_TEXT},
    signature,
};
use crate::catalog::{Effort, Tool};
use pleiades_mcp::{RawObject, raw};

/// Arguments of the caller that are tried in an example.
const MAX_TRIED: usize = 32;
/// Longest value that stands as an example beside a fault, in characters.
const MAX_SHOWN: usize = 60;

/// `given`: what the caller gave, as far as it could be read.
pub(super) fn invalid(
    (tool, schema): (&Tool, &Value),
    given: Option<&Map<String, Value>>,
    found: &[ArgumentFault],
    notes: Vec<String>,
) -> MetaAnswer {
    let example = fitting(tool, schema, given);
    let faults: Vec<String> = found.iter().map(|fault| line(fault, example.as_ref())).collect();
    let (next, shown) = next(tool, example);
    let text = format!(
        "Nothing was run: the arguments of `{}` do not fit.\n- {}\n{}{shown}",
        tool.short,
        faults.join("\n- "),
        signature::line(tool)
    );
    let mut answer = MetaAnswer::new(AnswerStatus::InvalidArguments, text);
    answer.data = Some(raw::raw(
        &json!({ "code": answer.outcome(), "tool": &*tool.short, "faults": faults }),
    ));
    answer.next = Some(raw::raw(&next));
    answer.notes = notes;
    answer.tool = Some((&*tool.name).into());
    let briefs: Vec<&str> = found.iter().map(|fault| &*fault.brief).collect();
    answer.cause = Some(briefs.join("; "));
    answer
}

/// A fault, with what would fit in its place where that says more than the type.
fn line(fault: &ArgumentFault, example: Option<&Value>) -> String {
    let value = fault
        .pointer
        .as_deref()
        .and_then(|pointer| example?.pointer(pointer));
    let shown = value.filter(|value| *value != NO_TEXT).map(Value::to_string);
    match shown.filter(|shown| shown.chars().count() <= MAX_SHOWN) {
        Some(shown) => format!("{}, for example {shown}", fault.text),
        None => fault.text.clone(),
    }
}

/// Arguments that were put to the test, with those values of the caller that fit.
fn fitting(tool: &Tool, schema: &Value, given: Option<&Map<String, Value>>) -> Option<Value> {
    let checks = tool.checks();
    let is_read = schema.is_object();
    let mut example = is_read.then(|| example::example(schema, checks.as_deref()))??;
    let Some(checks) = checks else {
        return Some(example);
    };
    for (name, value) in given.into_iter().flatten().take(MAX_TRIED) {
        let mut tried = example.clone();
        tried.as_object_mut()?.insert(name.clone(), value.clone());
        if example::is_short(&tried) && checks.fits(&tried, Effort::AMPLE) == Some(true) {
            example = tried;
        }
    }
    Some(example)
}

/// The call to make next, and the line that shows it: with such arguments, else the one that asks for the
/// schema.
fn next(tool: &Tool, example: Option<Value>) -> (Value, String) {
    match example {
        Some(arguments) => {
            let next = json!({ "tool": &*tool.short, "arguments": arguments });
            let shown = format!("\nFor example: {next}");
            (next, shown)
        }
        None => (json!({ "tool": &*tool.short }), String::new()),
    }
}

/// A call of an operation that may have been meant, with what fits of these arguments.
pub(super) fn instead(tool: &Tool, given: Option<&Map<String, Value>>) -> Value {
    next(tool, fitting(tool, &declared(tool), given)).0
}

/// The answer to a wrong call that was made and answered before: shorter, and with the call to make.
pub(super) fn repeated(mut first: MetaAnswer) -> MetaAnswer {
    const ANY: &str = "{\"tool\":\"…\",\"arguments\":{…}}";
    let next = first.next.as_ref().map_or(ANY, |next| next.get());
    let fault = first
        .text
        .lines()
        .find(|line| line.starts_with("- "))
        .unwrap_or_default();
    let with =
        |fault: &str| format!("Nothing was run: the same wrong call. Do not repeat it.{fault}\nCall: {next}");
    let longer = with(&format!("\n{fault}"));
    let text = match !fault.is_empty() && longer.len() < first.text.len() {
        true => longer,
        false => with(""),
    };
    let data = json!({ "code": first.outcome(), "repeated": true });
    first.text = text;
    first.data = Some(raw::raw(&data));
    first.notes = Vec::new();
    first
}

pub(super) fn schema(tool: &Tool, notes: Vec<String>) -> MetaAnswer {
    let (next, shown) = next(tool, fitting(tool, &declared(tool), None));
    let text = format!(
        "Nothing was run. {}\nIts schema: {}{shown}",
        signature::line(tool),
        tool.schema.get()
    );
    let mut answer = MetaAnswer::new(AnswerStatus::Schema, text);
    let mut data = RawObject::new();
    data.put("tool", &*tool.short);
    data.set("inputSchema", tool.schema.clone());
    answer.data = Some(data.close());
    // Without an example the call that asks for the schema would come next, and that is this one.
    answer.next = (!shown.is_empty()).then(|| raw::raw(&next));
    answer.notes = notes;
    answer.tool = Some((&*tool.name).into());
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facade::tests::catalogue;

    fn answer(given: &Value) -> MetaAnswer {
        let schema = json!({ "type": "object", "required": ["city", "days"], "properties": {
            "city": { "type": "string" }, "days": { "type": "integer", "minimum": 3 }, "unit": { "enum": ["c", "f"] } } });
        let catalogue = catalogue([json!({ "name": "forecast", "inputSchema": schema })]);
        let tool = catalogue.tool("forecast").expect("a tool");
        let given = given.as_object().expect("an object");
        let faults = crate::facade::faults::faults(tool, &schema, given);
        invalid((tool, &schema), Some(given), &faults, Vec::new())
    }

    #[test]
    fn the_example_keeps_what_fits_of_the_caller_and_shows_what_would_fit_elsewhere() {
        let answer = answer(&json!({ "city": "Bern", "unit": "c", "days": "soon", "more": 1 }));
        let next: Value = serde_json::from_str(answer.next.expect("next").get()).expect("JSON");
        assert_eq!(
            next["arguments"],
            json!({ "city": "Bern", "days": 3, "unit": "c" })
        );
        for part in [
            "arguments.days: got \"soon\", expected integer",
            "for example 3",
            "arguments.more: no such parameter",
            "For example: {",
        ] {
            assert!(answer.text.contains(part), "{part}: {}", answer.text);
        }
    }

    #[test]
    fn a_repeated_wrong_call_is_answered_shorter_with_one_complete_call() {
        for given in [
            json!({}),
            json!({ "days": 1 }),
            json!({ "city": 1, "days": 2, "x": 3 }),
        ] {
            let first = answer(&given);
            let (long, next) = (first.text.clone(), first.next.clone().expect("next"));
            let second = repeated(first);
            assert_eq!(second.status, AnswerStatus::InvalidArguments);
            assert!(second.text.len() < long.len(), "{}", second.text);
            assert!(second.text.contains("Do not repeat it") && second.text.contains(next.get()));
            assert!(second.text.contains("Nothing was run"));
        }
    }
}
