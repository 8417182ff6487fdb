//! An operation in one line: what a model needs to call it, a fifth of its schema.

use serde_json::Value;

use super::shape::{SchemaDocument, declared};
use crate::catalog::Tool;
use pleiades_core::text::clipped;
use pleiades_mcp::raw;

const MAX_ABOUT: usize = 140;
const MAX_LINE: usize = 600;
/// Longest description that is read (bytes).
const MAX_READ: usize = 64 * 1024;

/// `name(required: type, optional?: type) — first sentence`.
pub(super) fn line(tool: &Tool) -> String {
    let schema = declared(tool);
    let about = tool
        .raw
        .get("description")
        .filter(|raw| raw.get().len() <= MAX_READ)
        .and_then(raw::text)
        .map(|text| first_sentence(&text))
        .unwrap_or_default();
    let mut line = format!("{}({})", tool.short, parameters(&schema));
    if !about.is_empty() {
        line.push_str(" — ");
        line.push_str(&about);
    }
    clipped(&line, MAX_LINE)
}

/// Parameters, those first that a call must have; as many as a line may show.
fn parameters(schema: &Value) -> String {
    let shape = SchemaDocument::of(schema);
    let members = shape.members(schema);
    let required = shape.required(schema);
    let is_required = |(name, _): &&(&str, &Value)| required.contains(name);
    let first = members.iter().filter(is_required).map(|member| (member, ""));
    let rest = members
        .iter()
        .filter(|member| !is_required(member))
        .map(|member| (member, "?"));
    let mut line = String::new();
    for ((name, property), mark) in first.chain(rest) {
        if line.len() > MAX_LINE * 4 {
            break;
        }
        if !line.is_empty() {
            line.push_str(", ");
        }
        line.push_str(&clipped(name, MAX_ABOUT));
        line.push_str(mark);
        line.push_str(": ");
        line.push_str(&shape.kind(property));
    }
    line
}

fn first_sentence(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    let ends = [
        line.find(". ").map(|at| at + 1),
        line.find('。').map(|at| at + '。'.len_utf8()),
    ];
    let end = ends.into_iter().flatten().min().unwrap_or(line.len());
    let sentence: String = line
        .get(..end)
        .unwrap_or(line)
        .chars()
        .filter(|char| !char.is_control())
        .collect();
    clipped(&sentence, MAX_ABOUT)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn required_parameters_come_first_and_enums_are_spelled_out() {
        let schema = json!({ "properties": {
            "b": { "type": "string" }, "a": { "enum": ["x", "y"] }, "list": { "type": "array", "items": { "type": "integer" } } },
            "required": ["a"] });
        assert_eq!(parameters(&schema), r#"a: "x"|"y", b?: string, list?: integer[]"#);
    }

    #[test]
    fn a_description_is_cut_to_its_first_sentence() {
        assert_eq!(
            first_sentence("Lists things. And more.\nAnd more."),
            "Lists things."
        );
        assert_eq!(first_sentence(&"x".repeat(300)).chars().count(), MAX_ABOUT);
    }
}
