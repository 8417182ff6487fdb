//! What the demo's tools are called, take and say of themselves.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::call::{LONGEST_PAUSE, MOST_STEPS};
use super::stars;

/// Every tool, in the order in which they are listed.
pub(super) fn declared() -> Vec<Value> {
    [plain(), catalogue(), showing()].concat()
}

/// The text of the resource: a line for each tool.
pub(super) fn about() -> String {
    let mut text = String::from("# Demo\n\nA server to try a gateway with. The stars are invented.\n\n");
    for tool in declared() {
        let word = |key: &str| {
            tool.get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        writeln!(text, "- `{}`: {}", word("name"), word("description")).ok();
    }
    text
}

fn plain() -> Vec<Value> {
    let number = |about: &str| json!({"type": "number", "description": about});
    vec![
        tool(
            "echo",
            "Returns the message unchanged. Use it to see that a call arrives.",
            &json!({"message": {"type": "string", "description": "Any text, for example `hi`."}}),
            &["message"],
        ),
        with_output(
            tool(
                "add",
                "Adds two numbers and returns their sum.",
                &json!({"a": number("First term, for example 2."), "b": number("Second term, for example 3.5.")}),
                &["a", "b"],
            ),
            &json!({"type": "object", "properties": {"sum": {"type": "number"}}, "required": ["sum"]}),
        ),
    ]
}

fn catalogue() -> Vec<Value> {
    let name = json!({"type": "string", "description": "Letter and genitive, for example `Alpha Lyrae`."});
    vec![
        tool(
            "list_stars",
            "Lists stars of an invented catalogue: 384 rows when nothing narrows it, which is long on purpose. \
             Narrow it by constellation or brightness, or page with `limit` and `offset`; `next` is the next offset.",
            &json!({
                "constellation": {"type": "string", "enum": stars::constellations(),
                    "description": "Only stars of this constellation."},
                "brighter_than": {"type": "number",
                    "description": "Only stars of a smaller magnitude than this, for example 1.5."},
                "limit": {"type": "integer", "minimum": 1, "maximum": 384, "description": "At most so many rows."},
                "offset": {"type": "integer", "minimum": 0, "description": "Rows to leave out at the beginning."},
            }),
            &[],
        ),
        tool(
            "find_star",
            "Looks one star of the invented catalogue up by its name. A name that is not there is an error that \
             names similar ones.",
            &json!({"name": name}),
            &["name"],
        ),
    ]
}

fn showing() -> Vec<Value> {
    vec![
        tool(
            "greet",
            "Greets somebody. Without `name` it asks the user for one through the client (elicitation), and says \
             what happened when the user declines or the client cannot ask.",
            &json!({"name": {"type": "string", "description": "Whom to greet; leave it out to have the user asked."}}),
            &[],
        ),
        tool(
            "count",
            "Counts slowly and reports progress at each step. It can be cancelled. It takes `steps` times \
             `pause_ms`, at most 20 seconds.",
            &json!({
                "steps": {"type": "integer", "minimum": 1, "maximum": MOST_STEPS, "default": 5,
                    "description": "How far to count."},
                "pause_ms": {"type": "integer", "minimum": 0, "maximum": LONGEST_PAUSE, "default": 200,
                    "description": "Milliseconds before each step."},
            }),
            &[],
        ),
        tool(
            "fail",
            "Always fails, with the given reason: shows how a tool's own error arrives. Calling it again does not help.",
            &json!({"reason": {"type": "string", "description": "The error's text."}}),
            &[],
        ),
    ]
}

fn tool(name: &str, description: &str, properties: &Value, required: &[&str]) -> Value {
    json!({
        "name": name, "description": description,
        "inputSchema": {"type": "object", "properties": properties, "required": required,
                        "additionalProperties": false},
        "annotations": {"readOnlyHint": true, "openWorldHint": false},
    })
}

fn with_output(mut tool: Value, schema: &Value) -> Value {
    if let Some(members) = tool.as_object_mut() {
        members.insert("outputSchema".to_owned(), schema.clone());
    }
    tool
}
