//! `options.dryRun`: what would be called, as it would be sent, and nothing runs.

use serde_json::{Value, json, value::RawValue};

use super::answer::{AnswerStatus, MetaAnswer};
use super::calls::PlannedCall;
use crate::catalog::{Catalogue, Provider, Tool};
use pleiades_core::text::clipped;
use pleiades_mcp::raw;

/// The id of a call that is no plan's.
const SINGLE: &str = "call";
/// Arguments of one call that are shown in the text (bytes); `data` has all of them.
const MAX_SHOWN: usize = 2 * 1024;

/// The answer to a single call that is not to run.
pub(super) fn single(
    (provider, catalogue): (&Provider, &Catalogue),
    tool: &Tool,
    arguments: &RawValue,
    notes: Vec<String>,
) -> MetaAnswer {
    let writes = !provider.is_read_call(catalogue, tool, arguments);
    let arguments = serde_json::from_str(arguments.get()).unwrap_or(Value::Null);
    answer(provider, &[(SINGLE, tool, &arguments, writes)], notes)
}

/// The answer to a plan that is not to run; references stand in its arguments as they were written.
pub(super) fn plan(provider: &Provider, calls: &[PlannedCall], notes: Vec<String>) -> MetaAnswer {
    let calls: Vec<(&str, &Tool, &Value, bool)> = calls
        .iter()
        .map(|call| (&*call.id, &*call.tool, &call.arguments, call.writes))
        .collect();
    answer(provider, &calls, notes)
}

fn answer(provider: &Provider, calls: &[(&str, &Tool, &Value, bool)], notes: Vec<String>) -> MetaAnswer {
    let rules: Vec<&str> = provider
        .gate
        .rules()
        .into_iter()
        .map(|rule| rule.as_str())
        .collect();
    let mut text =
        "Nothing was run: this is a dry run. These calls fit and would be made, in this order:".to_owned();
    let mut listed = Vec::new();
    for (id, tool, arguments, writes) in calls {
        let kind = if *writes { "write" } else { "read" };
        let shown = clipped(&arguments.to_string(), MAX_SHOWN);
        text.push_str(&format!("\n`{id}` ({kind}): {} {shown}", tool.short));
        listed.push(json!({
            "id": id, "tool": &*tool.short, "arguments": arguments, "write": writes, "rules": rules,
        }));
    }
    text.push_str(&match rules.is_empty() {
        true => "\nNo limit of the gateway applies.".to_owned(),
        false => format!(
            "\nEach has to pass these limits of the gateway: {}.",
            rules.join(", ")
        ),
    });
    let mut answer = MetaAnswer::new(AnswerStatus::Ok, text);
    answer.data = Some(raw::raw(&json!({ "dry_run": true, "calls": listed })));
    answer.notes = notes;
    if let [(_, tool, ..)] = calls {
        answer.tool = Some((&*tool.name).into());
    }
    answer
}
