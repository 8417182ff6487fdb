//! One operation explained: its schema, or why arguments do not fit it, and the call to make next.

use serde_json::{Value, json};

use super::answer::{AnswerStatus, MetaAnswer};
use super::faults::ArgumentFault;
use super::shape::declared;
use super::{example, signature};
use crate::catalog::Tool;
use pleiades_mcp::{RawObject, raw};

pub(super) fn invalid(
    tool: &Tool,
    schema: &Value,
    found: &[ArgumentFault],
    notes: Vec<String>,
) -> MetaAnswer {
    let faults: Vec<&str> = found.iter().map(|fault| &*fault.text).collect();
    let (next, shown) = next(tool, schema);
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

/// The call to make next, and the line that shows it: with arguments that were put to the test, else
/// the one that asks for the schema.
pub(super) fn next(tool: &Tool, schema: &Value) -> (Value, String) {
    let checks = tool.checks();
    let example = schema
        .is_object()
        .then(|| example::example(schema, checks.as_deref()))
        .flatten();
    match example {
        Some(arguments) => {
            let next = json!({ "tool": &*tool.short, "arguments": arguments });
            let shown = format!("\nFor example: {next}");
            (next, shown)
        }
        None => (json!({ "tool": &*tool.short }), String::new()),
    }
}

pub(super) fn schema(tool: &Tool, notes: Vec<String>) -> MetaAnswer {
    let (next, shown) = next(tool, &declared(tool));
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
