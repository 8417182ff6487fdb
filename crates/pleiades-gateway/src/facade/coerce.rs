//! Values read in the only way their schema allows: `"5"` where only a number may stand is 5.
//! What is valid as it is, or has two readings, stays (reference: `facade.md` section 2.3).

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::repairs::{Repair, Repairs};
use super::{duplicate_keys, envelope::printable};

/// Nesting that is looked into.
const MAX_DEPTH: usize = 32;
/// Bytes of a name, and of a place, that are noted.
const MAX_PATH: usize = 128;
/// Changes that are noted one by one.
const MAX_NOTES: usize = 16;

/// Makes values of the type that the schema demands where that loses nothing; each change is noted. `reads`:
/// the operation changes nothing, so that null for an optional parameter can only mean its absence.
pub(super) fn coerce(schema: &Value, arguments: &mut Map<String, Value>, reads: bool, repairs: &mut Repairs) {
    let mut walk = Coercion {
        root: schema,
        reads,
        repairs,
    };
    walk.object(schema, arguments, "", 0);
}

struct Coercion<'a> {
    root: &'a Value,
    reads: bool,
    repairs: &'a mut Repairs,
}

impl<'a> Coercion<'a> {
    fn object(&mut self, schema: &'a Value, object: &mut Map<String, Value>, path: &str, depth: usize) {
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            return;
        };
        if self.reads {
            self.drop_nulls(schema, properties, object, path);
        }
        for (name, value) in object.iter_mut() {
            if let Some(property) = properties.get(name) {
                self.value(property, value, &below(path, name), depth + 1);
            }
        }
    }

    fn drop_nulls(
        &mut self,
        schema: &'a Value,
        properties: &'a Map<String, Value>,
        object: &mut Map<String, Value>,
        path: &str,
    ) {
        let required = schema.get("required").and_then(Value::as_array);
        let required: HashSet<&str> = required.into_iter().flatten().filter_map(Value::as_str).collect();
        let absent: Vec<String> = object
            .iter()
            .filter(|(name, value)| value.is_null() && !required.contains(name.as_str()))
            .filter(|(name, value)| {
                properties
                    .get(*name)
                    .is_some_and(|one| !admits(&kinds(self.resolved(one)), value))
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in absent {
            object.shift_remove(&name);
            self.note(
                Repair::Other,
                &below(path, &name),
                "was null and was read as absent",
            );
        }
    }

    fn value(&mut self, schema: &'a Value, value: &mut Value, path: &str, depth: usize) {
        if depth > MAX_DEPTH {
            return;
        }
        let schema = self.resolved(schema);
        let kinds = kinds(schema);
        if !admits(&kinds, value)
            && let Some(read) = only_reading(schema, &kinds, value)
        {
            let kind = match (&*value, &read) {
                (Value::String(_), Value::Number(_)) => Repair::NumberAsText,
                _ => Repair::Other,
            };
            self.note(kind, path, &format!("was read as {}", kind_of(&read)));
            *value = read;
        }
        match value {
            Value::Object(object) => self.object(schema, object, path, depth),
            Value::Array(items) => {
                let Some(schema) = schema.get("items") else { return };
                for (at, item) in items.iter_mut().enumerate() {
                    self.value(schema, item, &below(path, &at.to_string()), depth + 1);
                }
            }
            _ => {}
        }
    }

    fn note(&mut self, kind: Repair, path: &str, what: &str) {
        match self.repairs.notes.len() {
            0..MAX_NOTES => self.repairs.note(kind, format!("`{}` {what}", printable(path))),
            MAX_NOTES => self.repairs.note(kind, "more values were read so"),
            _ => self.repairs.count(kind),
        }
    }

    /// A schema, or the one in the same document that it refers to.
    fn resolved(&self, schema: &'a Value) -> &'a Value {
        let target = schema
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|target| target.strip_prefix('#'));
        target
            .and_then(|pointer| self.root.pointer(pointer))
            .unwrap_or(schema)
    }
}

/// The place of a member or an item; of a deep one, that of what it is in.
fn below(path: &str, name: &str) -> String {
    match (path.len(), name.len()) {
        (0, ..=MAX_PATH) => name.to_owned(),
        (1..=MAX_PATH, ..=MAX_PATH) => format!("{path}.{name}"),
        _ => path.to_owned(),
    }
}

/// The types a schema admits; empty when it does not say so in plain words.
fn kinds(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => {
            let union = schema.get("anyOf").or_else(|| schema.get("oneOf"));
            let branches = union.and_then(Value::as_array).into_iter().flatten();
            let named: Option<Vec<&str>> = branches.map(|branch| branch.get("type")?.as_str()).collect();
            named.unwrap_or_default()
        }
    }
}

/// Whether a value is of one of the types; of any, when none are named.
fn admits(kinds: &[&str], value: &Value) -> bool {
    let fits = |kind: &&str| match *kind {
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        kind => kind == kind_of(value),
    };
    kinds.is_empty() || kinds.iter().any(fits)
}

const fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn only_reading(schema: &Value, kinds: &[&str], value: &Value) -> Option<Value> {
    match value {
        Value::String(text) => {
            let mut readings: Vec<Value> = Vec::new();
            for reading in kinds.iter().filter_map(|kind| read(schema, kind, text)) {
                if !readings.contains(&reading) {
                    readings.push(reading);
                }
            }
            readings.pop().filter(|_| readings.is_empty())
        }
        // An integer has one text; a decimal has several, a boolean is no text at all.
        Value::Number(number) if kinds.contains(&"string") && !number.is_f64() => {
            Some(number.to_string().into())
        }
        _ => None,
    }
}

fn read(schema: &Value, kind: &str, text: &str) -> Option<Value> {
    match kind {
        "boolean" => match text {
            "true" | "True" | "TRUE" => Some(true.into()),
            "false" | "False" | "FALSE" => Some(false.into()),
            _ => None,
        },
        "integer" => text
            .parse::<i64>()
            .ok()
            .filter(|number| number.to_string() == text)
            .map(Value::from),
        "number" => number(text),
        "object" => duplicate_keys::parse(text).ok().filter(Value::is_object),
        "array" => duplicate_keys::parse(text)
            .ok()
            .filter(Value::is_array)
            .or_else(|| single(schema, text)),
        _ => None,
    }
}

/// A number that a double holds with every digit of its text.
fn number(text: &str) -> Option<Value> {
    const EXACT_DIGITS: usize = 15;
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let value: Value = serde_json::from_str(text).ok()?;
    let exact = value.is_i64() || value.is_u64() || (value.is_number() && digits <= EXACT_DIGITS);
    (exact && !text.starts_with(char::is_whitespace) && !text.ends_with(char::is_whitespace)).then_some(value)
}

/// A bare word where a list of texts is wanted can only be its single element.
fn single(schema: &Value, word: &str) -> Option<Value> {
    let texts = schema.get("items").is_none_or(|items| kinds(items) == ["string"]);
    let bare = !word.is_empty()
        && word
            .chars()
            .all(|char| char.is_alphanumeric() || matches!(char, '_' | '-' | '.' | '@' | '/' | ':' | '#'));
    (texts && bare).then(|| Value::Array(vec![word.into()]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn coerced(property: &Value, value: Value, reads: bool) -> (Value, usize) {
        let schema = json!({ "type": "object", "properties": { "v": property } });
        let mut arguments = Map::from_iter([("v".to_owned(), value)]);
        let mut repairs = Repairs::default();
        coerce(&schema, &mut arguments, reads, &mut repairs);
        (arguments.remove("v").unwrap_or_default(), repairs.notes.len())
    }

    #[test]
    fn text_becomes_the_one_type_that_is_wanted() {
        for (kind, text, read) in [
            ("integer", "5", json!(5)),
            ("integer", "-5", json!(-5)),
            ("number", "1.5", json!(1.5)),
            ("boolean", "True", json!(true)),
            ("array", "[1]", json!([1])),
            ("array", "word", json!(["word"])),
            ("object", "{\"a\":1}", json!({ "a": 1 })),
        ] {
            assert_eq!(
                coerced(&json!({ "type": kind }), text.into(), false),
                (read, 1),
                "{kind} {text}"
            );
        }
    }

    #[test]
    fn what_could_lose_something_stays() {
        for (kind, value) in [
            ("integer", json!("#5")),
            ("integer", json!("05")),
            ("integer", json!("5.5")),
            ("integer", json!(" 5")),
            ("integer", json!("99999999999999999999")),
            ("number", json!("0.1234567890123456789")),
            ("boolean", json!("yes")),
            ("boolean", json!(1)),
            ("string", json!(1.5)),
            ("string", json!({ "a": 1 })),
            ("string", json!(true)),
            ("array", json!("a, b")),
        ] {
            assert_eq!(
                coerced(&json!({ "type": kind }), value.clone(), false),
                (value, 0),
                "{kind}"
            );
        }
    }

    #[test]
    fn what_is_valid_in_one_branch_of_a_union_stays() {
        for union in [
            json!({ "type": ["string", "integer"] }),
            json!({ "anyOf": [{ "type": "string" }, { "type": "integer" }] }),
        ] {
            assert_eq!(coerced(&union, "5".into(), false), (json!("5"), 0));
        }
        assert_eq!(
            coerced(&json!({ "type": ["integer", "null"] }), "5".into(), false),
            (json!(5), 1)
        );
    }

    #[test]
    fn schemas_are_followed_into_lists_objects_and_references() {
        let items = json!({ "type": "array", "items": { "type": "object", "properties": { "n": { "type": "integer" } } } });
        assert_eq!(
            coerced(&items, json!([{ "n": "1", "m": "2" }]), false),
            (json!([{ "n": 1, "m": "2" }]), 1)
        );
        let schema = json!({ "$defs": { "n": { "type": "integer" } }, "properties": { "v": { "$ref": "#/$defs/n" } } });
        let mut arguments = Map::from_iter([("v".to_owned(), json!("7"))]);
        coerce(&schema, &mut arguments, false, &mut Repairs::default());
        assert_eq!(arguments.get("v"), Some(&json!(7)));
    }

    #[test]
    fn null_is_absent_only_where_nothing_is_changed() {
        let text = json!({ "type": "string" });
        assert_eq!(coerced(&text, Value::Null, true), (Value::Null, 1));
        assert_eq!(coerced(&text, Value::Null, false), (Value::Null, 0));
        assert_eq!(
            coerced(&json!({ "type": ["string", "null"] }), Value::Null, true).1,
            0
        );
    }
}
