//! What is wrong with arguments, one line a place: what came, what is expected.

use jsonschema::{ValidationError, error::ValidationErrorKind};
use serde_json::{Map, Value};

use super::envelope::printable;
use super::{name, signature};
use crate::catalog::Tool;

/// Lines; more would not be read.
const MAX_FAULTS: usize = 8;
/// Characters of a value or message that are repeated.
const MAX_SHOWN: usize = 120;

/// Where arguments do not fit an operation; empty when they do, or when its schema cannot be
/// compiled: then the provider judges.
pub(super) fn faults(tool: &Tool, schema: &Value, arguments: &Map<String, Value>) -> Vec<String> {
    let Some(validator) = tool.validator() else {
        return Vec::new();
    };
    let value = Value::Object(arguments.clone());
    let mut lines: Vec<String> = validator
        .iter_errors(&value)
        .take(MAX_FAULTS)
        .flat_map(|error| lines(schema, &error))
        .collect();
    lines.truncate(MAX_FAULTS);
    lines
}

fn lines(schema: &Value, error: &ValidationError<'_>) -> Vec<String> {
    let path = error.instance_path().to_string();
    let place = format!("arguments{}", path.replace('/', "."));
    let here = along(schema, &path);
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            let expected = here
                .and_then(|schema| schema.get("properties")?.get(name))
                .map_or_else(String::new, expectation);
            vec![format!("{place}.{name}: missing{expected}")]
        }
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => unexpected
            .iter()
            .take(MAX_FAULTS)
            .map(|name| unknown(&place, name, here))
            .collect(),
        ValidationErrorKind::Enum { options } => {
            vec![format!(
                "{place}: got {}, expected one of {}",
                shown(error.instance()),
                choices(error.instance(), options)
            )]
        }
        _ => {
            let expected = here.map_or_else(String::new, expectation);
            let why = clipped(&error.masked_with("it").to_string());
            vec![format!(
                "{place}: got {}{expected}: {why}",
                shown(error.instance())
            )]
        }
    }
}

fn unknown(place: &str, name: &str, schema: Option<&Value>) -> String {
    let known = schema
        .and_then(|schema| schema.get("properties"))
        .and_then(Value::as_object);
    let near = known.and_then(|known| name::closest(name, known.keys().map(String::as_str)));
    let name = printable(name);
    match near {
        Some(near) => format!("{place}.{name}: no such parameter, did you mean `{near}`"),
        None => format!("{place}.{name}: no such parameter; the provider would ignore it"),
    }
}

/// The schema of a place, as far as `properties` and `items` lead.
fn along<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('/').skip(1).try_fold(schema, |schema, step| {
        let property = schema
            .get("properties")
            .and_then(|properties| properties.get(step));
        property.or_else(|| {
            schema
                .get("items")
                .filter(|_| step.bytes().all(|byte| byte.is_ascii_digit()))
        })
    })
}

fn expectation(schema: &Value) -> String {
    format!(", expected {}", signature::kind(schema))
}

/// The allowed values, the nearest ones first.
fn choices(value: &Value, options: &Value) -> String {
    let Some(options) = options.as_array() else {
        return shown(options);
    };
    let near = value
        .as_str()
        .and_then(|text| name::closest(text, options.iter().filter_map(Value::as_str)));
    let mut sorted: Vec<&Value> = options.iter().collect();
    sorted.sort_by_key(|option| near.is_none() || option.as_str() != near);
    let listed: Vec<String> = sorted
        .iter()
        .take(MAX_FAULTS)
        .map(|option| shown(option))
        .collect();
    let more = if options.len() > MAX_FAULTS { ", …" } else { "" };
    format!("{}{more}", listed.join(", "))
}

/// A value, short enough to be repeated.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(members) => format!("an object with {} members", members.len()),
        Value::String(text) => Value::String(clipped(text)).to_string(),
        other => other.to_string(),
    }
}

fn clipped(text: &str) -> String {
    let mut chars = text.chars();
    let head: String = chars.by_ref().take(MAX_SHOWN).collect();
    if chars.next().is_some() {
        format!("{head}…")
    } else {
        head
    }
}
