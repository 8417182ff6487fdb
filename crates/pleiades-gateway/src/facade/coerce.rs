//! Values read in the only way their schema allows: `"5"` where only a number may stand is 5. What is
//! valid as it is, or has two readings, stays.

use serde_json::{Map, Value};

use super::duplicate_keys;
use super::envelope::printable;
use super::kinds::{Demand, Demands, Kinds};
use super::repairs::{Repair, Repairs};

/// Nesting that is looked into.
const MAX_DEPTH: usize = 32;
/// Bytes of a name, and of a place, that are noted.
const MAX_PATH: usize = 128;
/// Changes that are noted one by one.
const MAX_NOTES: usize = 16;
/// Words that stand for nothing in one language or another, and so are no element of a list.
const NOTHING: [&str; 4] = ["null", "none", "nil", "undefined"];

/// Makes values of the type that the schema demands where that loses nothing; each change is noted. `reads`:
/// the operation changes nothing, so that null for an optional parameter can only mean its absence.
pub(super) fn coerce(schema: &Value, arguments: &mut Map<String, Value>, reads: bool, repairs: &mut Repairs) {
    let mut walk = Coercion {
        demands: Demands::of(schema),
        reads,
        repairs,
    };
    walk.object(&Demand::Schema(schema), arguments, "", 0);
}

struct Coercion<'a, 'r> {
    demands: Demands<'a>,
    reads: bool,
    repairs: &'r mut Repairs,
}

impl<'a> Coercion<'a, '_> {
    fn object(&mut self, demand: &Demand<'a>, object: &mut Map<String, Value>, path: &str, depth: usize) {
        if self.reads {
            self.drop_nulls(demand, object, path);
        }
        for (name, value) in object.iter_mut() {
            let member = self.demands.member(demand, name);
            self.value(&member, value, &below(path, name), depth + 1);
        }
    }

    fn drop_nulls(&mut self, demand: &Demand<'a>, object: &mut Map<String, Value>, path: &str) {
        if !object.values().any(Value::is_null) {
            return;
        }
        let required = self.demands.required(demand);
        let nulls: Vec<String> = object
            .iter()
            .filter(|(name, value)| value.is_null() && !required.contains(name.as_str()))
            .map(|(name, _)| name.clone())
            .collect();
        for name in nulls {
            let member = self.demands.member(demand, &name);
            if self.demands.kinds(&member).admits(&Value::Null) {
                continue;
            }
            object.shift_remove(&name);
            self.note(
                Repair::NullAsAbsent,
                &below(path, &name),
                "was null and was read as absent",
            );
        }
    }

    fn value(&mut self, demand: &Demand<'a>, value: &mut Value, path: &str, depth: usize) {
        if depth > MAX_DEPTH {
            return;
        }
        let kinds = self.demands.kinds(demand);
        if !kinds.admits(value)
            && let Some((kind, read)) = self.only_reading(demand, kinds, value)
        {
            self.note(kind, path, &format!("was read as {}", name_of(&read)));
            *value = read;
        }
        match value {
            Value::Object(object) => self.object(demand, object, path, depth),
            Value::Array(items) => {
                for (at, item) in items.iter_mut().enumerate() {
                    let demand = self.demands.item(demand, at);
                    self.value(&demand, item, &below(path, &at.to_string()), depth + 1);
                }
            }
            _ => {}
        }
    }

    /// The one value of the right type that a value of a wrong one can stand for.
    fn only_reading(&mut self, demand: &Demand<'a>, kinds: Kinds, value: &Value) -> Option<(Repair, Value)> {
        let mut readings: Vec<(Repair, Value)> = match value {
            Value::String(text) => readings(kinds, text),
            // A whole number has one text; a decimal has several, a boolean is no text at all.
            Value::Number(number) if kinds.has(Kinds::STRING) && !number.is_f64() => {
                vec![(Repair::TextAsNumber, number.to_string().into())]
            }
            _ => Vec::new(),
        };
        readings.retain(|(_, reading)| self.is_whole(demand, reading));
        let is_list = readings.iter().any(|(_, reading)| reading.is_array());
        if kinds.has(Kinds::ARRAY)
            && !is_list
            && let Some(item) = self.only_item(demand, value)
        {
            readings.push((Repair::ListOfOne, Value::Array(vec![item])));
        }
        readings.pop().filter(|_| readings.is_empty())
    }

    /// Whether a list that a text holds is no text that is an element itself: `[1]` may be either where texts
    /// are wanted.
    fn is_whole(&mut self, demand: &Demand<'a>, reading: &Value) -> bool {
        let Value::Array(items) = reading else {
            return true;
        };
        let item = self.demands.item(demand, 0);
        let kinds = self.demands.kinds(&item);
        !kinds.has(Kinds::STRING) || items.iter().all(|item| kinds.admits(item))
    }

    /// What a value is as the only element of a list that it should have been.
    fn only_item(&mut self, demand: &Demand<'a>, value: &Value) -> Option<Value> {
        let item = self.demands.item(demand, 0);
        let kinds = self.demands.kinds(&item);
        match value {
            Value::Null | Value::Array(_) => None,
            // A text with blanks or commas may be several.
            Value::String(text) if kinds.has(Kinds::STRING) => is_word(text).then(|| value.clone()),
            Value::String(text) => {
                let mut items = readings(kinds, text);
                items.pop().filter(|_| items.is_empty()).map(|(_, item)| item)
            }
            value => kinds.admits(value).then(|| value.clone()),
        }
    }

    fn note(&mut self, kind: Repair, path: &str, what: &str) {
        match self.repairs.notes.len() {
            0..MAX_NOTES => self.repairs.note(kind, format!("`{}` {what}", printable(path))),
            MAX_NOTES => self.repairs.note(kind, "more values were read so"),
            _ => self.repairs.count(kind),
        }
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

const fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The values of these kinds that a text is the text of.
fn readings(kinds: Kinds, text: &str) -> Vec<(Repair, Value)> {
    let mut readings = Vec::new();
    if kinds.has(Kinds::BOOLEAN)
        && let Some(read) = boolean(text)
    {
        readings.push((Repair::BooleanAsText, read.into()));
    }
    if kinds.has(Kinds::INTEGER)
        && let Some(read) = number(text).filter(|read| kinds.has(Kinds::FRACTION) || !read.is_f64())
    {
        readings.push((Repair::NumberAsText, read));
    }
    let is_json = |kind, open| kinds.has(kind) && text.trim_start().starts_with(open);
    if is_json(Kinds::OBJECT, '{') || is_json(Kinds::ARRAY, '[') {
        let read = duplicate_keys::parse(text).ok();
        readings.extend(read.map(|read| (Repair::JsonAsText, read)));
    }
    readings
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// A number that is held with every digit of its text.
fn number(text: &str) -> Option<Value> {
    const EXACT_DIGITS: usize = 15;
    if text.starts_with(char::is_whitespace) || text.ends_with(char::is_whitespace) {
        return None;
    }
    let value: Value = serde_json::from_str(text).ok().filter(Value::is_number)?;
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    (value.is_i64() || value.is_u64() || digits <= EXACT_DIGITS).then_some(value)
}

/// A bare word, which where a list of texts is wanted can only be its single element.
fn is_word(text: &str) -> bool {
    let is_part =
        |char: char| char.is_alphanumeric() || matches!(char, '_' | '-' | '.' | '@' | '/' | ':' | '#');
    !text.is_empty()
        && text.chars().all(is_part)
        && !NOTHING.iter().any(|nothing| text.eq_ignore_ascii_case(nothing))
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
            ("integer", "18446744073709551615", json!(u64::MAX)),
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
            ("array", json!("None")),
            ("array", Value::Null),
            ("integer", json!("5.5")),
            ("integer", json!([5])),
            ("object", json!([{ "a": 1 }])),
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
    fn one_value_where_a_list_of_such_is_wanted_is_its_only_element() {
        let of = |kind: &str| json!({ "type": "array", "items": { "type": kind } });
        for (kind, value, read) in [
            ("integer", json!(5), json!([5])),
            ("integer", json!("5"), json!([5])),
            ("boolean", json!("true"), json!([true])),
            ("object", json!({ "a": 1 }), json!([{ "a": 1 }])),
            ("object", json!("{\"a\":1}"), json!([{ "a": 1 }])),
            ("string", json!("true"), json!(["true"])),
        ] {
            assert_eq!(
                coerced(&of(kind), value.clone(), false),
                (read, 1),
                "{kind} {value}"
            );
        }
        for (kind, value) in [
            ("integer", json!("5,6")),
            ("integer", json!("word")),
            ("string", json!(5)),
            ("string", json!(true)),
            ("string", json!("a b")),
            ("string", json!("[1]")),
            ("object", json!("{a}")),
        ] {
            assert_eq!(coerced(&of(kind), value.clone(), false), (value, 0), "{kind}");
        }
    }

    #[test]
    fn what_may_be_valid_in_any_branch_stays_and_what_no_branch_admits_is_read() {
        let with = |schema: Value, value: Value| {
            let mut arguments = Map::from_iter([("v".to_owned(), value)]);
            coerce(&schema, &mut arguments, false, &mut Repairs::default());
            arguments.remove("v").unwrap_or_default()
        };
        let number = json!({ "properties": { "v": { "type": "integer" } } });
        let text = json!({ "properties": { "v": { "type": "string" } } });
        let other = json!({ "properties": { "w": {} } });
        for (schema, read) in [
            (json!({ "anyOf": [number, text] }), json!("5")),
            (json!({ "anyOf": [number, other] }), json!("5")),
            (json!({ "oneOf": [number, number] }), json!(5)),
            (json!({ "allOf": [number, other] }), json!(5)),
            (json!({ "$ref": "#/$defs/n", "$defs": { "n": number } }), json!(5)),
            (json!({ "additionalProperties": { "type": "integer" } }), json!(5)),
            (json!({ "properties": { "v": { "enum": [1, 5] } } }), json!(5)),
            (
                json!({ "properties": { "v": { "enum": ["1", "5"] } } }),
                json!("5"),
            ),
            (
                json!({ "patternProperties": { "^v$": { "type": "integer" } } }),
                json!("5"),
            ),
        ] {
            assert_eq!(with(schema.clone(), json!("5")), read, "{schema}");
        }
    }

    #[test]
    fn a_schema_that_branches_without_end_is_left_alone() {
        let mut schema = json!({ "properties": { "v": { "type": "integer" } } });
        for _ in 0..30 {
            schema = json!({ "anyOf": [schema.clone(), { "$ref": "#" }] });
        }
        let mut arguments = Map::from_iter([("v".to_owned(), json!("5"))]);
        coerce(&schema, &mut arguments, false, &mut Repairs::default());
        assert_eq!(arguments.get("v"), Some(&json!("5")));
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
