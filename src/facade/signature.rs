//! An operation in one line: what a model needs to call it, a fifth of its schema.

use serde_json::{Map, Value};

use crate::catalog::Tool;

const MAX_ENUM: usize = 8;
const MAX_ABOUT: usize = 140;
const MAX_LINE: usize = 600;

/// `name(required: type, optional?: type) — first sentence`.
pub(super) fn line(tool: &Tool) -> String {
    let schema: Value = serde_json::from_str(tool.schema.get()).unwrap_or_default();
    let about = tool
        .raw
        .text("description")
        .map(|text| first_sentence(&text))
        .unwrap_or_default();
    let mut line = format!("{}({})", tool.name, parameters(&schema));
    if !about.is_empty() {
        line.push_str(" — ");
        line.push_str(&about);
    }
    clipped(&line, MAX_LINE)
}

fn parameters(schema: &Value) -> String {
    let empty = Map::new();
    let properties = schema
        .get("properties")
        .and_then(Value::as_object)
        .unwrap_or(&empty);
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let (first, rest): (Vec<_>, Vec<_>) = properties
        .iter()
        .partition(|(name, _)| required.contains(&name.as_str()));
    let one = |(name, property): &(&String, &Value), mark: &str| format!("{name}{mark}: {}", kind(property));
    let mut all: Vec<String> = first.iter().map(|it| one(it, "")).collect();
    all.extend(rest.iter().map(|it| one(it, "?")));
    all.join(", ")
}

/// What may stand for a parameter: its values when they are few, else its type.
pub(super) fn kind(property: &Value) -> String {
    if let Some(values) = property.get("enum").and_then(Value::as_array) {
        let shown: Vec<String> = values.iter().take(MAX_ENUM).map(Value::to_string).collect();
        let more = if values.len() > MAX_ENUM { "|…" } else { "" };
        return format!("{}{more}", shown.join("|"));
    }
    match property.get("type") {
        Some(Value::String(kind)) if kind == "array" => {
            format!(
                "{}[]",
                property.get("items").map_or_else(|| "any".to_owned(), kind_name)
            )
        }
        Some(Value::String(kind)) if kind == "object" => "{…}".to_owned(),
        _ => kind_name(property),
    }
}

fn kind_name(property: &Value) -> String {
    match property.get("type") {
        Some(Value::String(kind)) => kind.clone(),
        Some(Value::Array(kinds)) => kinds
            .iter()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join("|"),
        _ => "…".to_owned(),
    }
}

fn first_sentence(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    let end = line.find(". ").map_or(line.len(), |at| at + 1);
    let sentence: String = line
        .get(..end)
        .unwrap_or(line)
        .chars()
        .filter(|char| !char.is_control())
        .collect();
    clipped(&sentence, MAX_ABOUT)
}

fn clipped(text: &str, chars: usize) -> String {
    if text.chars().count() <= chars {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(chars.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// Arguments that fit a schema: required properties with a value of their type.
pub(super) fn example(schema: &Value) -> Value {
    let empty = Map::new();
    let properties = schema
        .get("properties")
        .and_then(Value::as_object)
        .unwrap_or(&empty);
    let required = schema.get("required").and_then(Value::as_array);
    let names = required
        .map(|names| names.iter().filter_map(Value::as_str).collect::<Vec<_>>())
        .unwrap_or_default();
    let mut arguments = Map::new();
    for name in names {
        let property = properties.get(name).cloned().unwrap_or_default();
        arguments.insert(name.to_owned(), sample(&property));
    }
    Value::Object(arguments)
}

fn sample(property: &Value) -> Value {
    let given = property
        .get("default")
        .or_else(|| property.get("enum").and_then(|values| values.get(0)));
    if let Some(value) = given {
        return value.clone();
    }
    match property.get("type").and_then(Value::as_str) {
        Some("integer" | "number") => property.get("minimum").cloned().unwrap_or_else(|| 1.into()),
        Some("boolean") => true.into(),
        Some("array") => Value::Array(property.get("items").map(sample).into_iter().collect()),
        Some("object") => example(property),
        _ => "…".into(),
    }
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
    fn an_example_has_what_is_required() {
        let schema = json!({ "properties": { "n": { "type": "integer", "minimum": 5 }, "s": { "type": "string" } },
            "required": ["n"] });
        assert_eq!(example(&schema), json!({ "n": 5 }));
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
