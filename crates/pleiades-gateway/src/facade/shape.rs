//! What a schema demands of its values, in plain words: references within the document followed, the
//! branches of `allOf`, `anyOf` and `oneOf` looked into, all of it within bounds.

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::catalog::Tool;
use pleiades_core::text::clipped;

/// References and branches within each other that are followed.
const MAX_DEPTH: usize = 8;
/// Subschemas that are looked at for one question.
const MAX_LOOKED_AT: usize = 256;
/// Values of an enum that are spelled out.
const MAX_ENUM: usize = 8;
/// Kinds of a union that are named.
const MAX_KINDS: usize = 4;
/// How deep an object may stand whose members are named: a parameter, or what a list of them holds.
const DEEPEST_OBJECT: usize = 1;
/// Characters of one value, and of a kind.
const MAX_VALUE: usize = 40;
const MAX_KIND: usize = 200;
/// Longest schema that is read for examples and signatures (bytes).
pub(super) const MAX_SCHEMA: usize = 128 * 1024;
const BRANCHES: [&str; 3] = ["allOf", "anyOf", "oneOf"];

/// What an operation takes; `null` when it is too long to be read.
pub(super) fn declared(tool: &Tool) -> Value {
    let text = Some(tool.schema.get()).filter(|text| text.len() <= MAX_SCHEMA);
    text.and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

#[derive(Debug, Clone, Copy)]
pub(super) struct SchemaDocument<'a>(&'a Value);

impl<'a> SchemaDocument<'a> {
    pub(super) const fn of(schema: &'a Value) -> Self {
        Self(schema)
    }

    pub(super) const fn root(self) -> &'a Value {
        self.0
    }

    /// A schema, or the one in the same document that it refers to.
    pub(super) fn resolved(self, mut schema: &'a Value) -> &'a Value {
        for _ in 0..MAX_DEPTH {
            let pointer = schema
                .get("$ref")
                .and_then(Value::as_str)
                .and_then(|reference| reference.strip_prefix('#'));
            match pointer.and_then(|pointer| self.0.pointer(pointer)) {
                Some(target) => schema = target,
                None => break,
            }
        }
        schema
    }

    /// All subschemas that apply to the same value: itself, what it refers to, its branches.
    pub(super) fn parts(self, schema: &'a Value) -> Vec<SchemaPart<'a>> {
        let mut parts = Vec::new();
        let mut left = vec![(schema, true, 0)];
        while let Some((schema, always, depth)) = left.pop() {
            parts.push(SchemaPart { schema, always });
            if parts.len() == MAX_LOOKED_AT {
                break;
            }
            if depth == MAX_DEPTH {
                continue;
            }
            let Some(keywords) = schema.as_object() else {
                continue;
            };
            for keyword in BRANCHES.iter().rev() {
                let branches = keywords.get(*keyword).and_then(Value::as_array);
                let branches = branches.map(Vec::as_slice).unwrap_or_default();
                let always = always && (*keyword == "allOf" || branches.len() == 1);
                left.extend(branches.iter().rev().map(|branch| (branch, always, depth + 1)));
            }
            if keywords.contains_key("$ref") {
                let target = self.resolved(schema);
                if !std::ptr::eq(target, schema) {
                    left.push((target, always, depth + 1));
                }
            }
        }
        parts
    }

    /// The members that an object may have, each with its first schema.
    pub(super) fn members(self, schema: &'a Value) -> Vec<(&'a str, &'a Value)> {
        let mut seen = HashSet::new();
        let parts = self.parts(schema);
        let members = parts
            .iter()
            .filter_map(|part| part.object("properties"))
            .flatten();
        members
            .map(|(name, schema)| (name.as_str(), schema))
            .filter(|(name, _)| seen.insert(*name))
            .collect()
    }

    pub(super) fn member(self, schema: &'a Value, name: &str) -> Option<&'a Value> {
        let parts = self.parts(schema);
        parts.iter().find_map(|part| part.object("properties")?.get(name))
    }

    /// The members that an object must have, whichever branch it is of.
    pub(super) fn required(self, schema: &'a Value) -> HashSet<&'a str> {
        let parts = self.parts(schema);
        let names = parts.iter().filter(|part| part.always).filter_map(|part| {
            let names = part.schema.get("required")?.as_array()?;
            Some(names.iter().filter_map(Value::as_str))
        });
        names.flatten().collect()
    }

    pub(super) fn item(self, schema: &'a Value, at: usize) -> Option<&'a Value> {
        let of = |part: &SchemaPart<'a>| {
            let first = part.schema.get("prefixItems").and_then(|items| items.get(at));
            first.or_else(|| match part.schema.get("items")? {
                Value::Array(items) => items.get(at),
                items => Some(items),
            })
        };
        self.parts(schema).iter().find_map(of)
    }

    /// What may stand for a value: its values when they are few, else its type.
    pub(super) fn kind(self, schema: &'a Value) -> String {
        clipped(&self.kind_within(schema, 0), MAX_KIND)
    }

    fn kind_within(self, schema: &'a Value, depth: usize) -> String {
        let schema = self.resolved(schema);
        if let Some(value) = schema.get("const") {
            return spelled(value);
        }
        if let Some(values) = schema.get("enum").and_then(Value::as_array) {
            let shown: Vec<String> = values.iter().take(MAX_ENUM).map(spelled).collect();
            let more = if values.len() > MAX_ENUM { "|…" } else { "" };
            return format!("{}{more}", shown.join("|"));
        }
        match schema.get("type") {
            Some(Value::String(kind)) => self.named(schema, kind, depth),
            Some(Value::Array(kinds)) => {
                let kinds: Vec<String> = kinds
                    .iter()
                    .filter_map(Value::as_str)
                    .take(MAX_ENUM)
                    .map(|kind| self.named(schema, kind, depth))
                    .collect();
                kinds.join("|")
            }
            _ if depth < MAX_KINDS => self.implied(schema, depth),
            _ => "…".to_owned(),
        }
    }

    fn named(self, schema: &'a Value, kind: &str, depth: usize) -> String {
        match kind {
            "array" => {
                let items = schema
                    .get("items")
                    .filter(|items| items.is_object() && depth < MAX_KINDS);
                let items =
                    items.map_or_else(|| "any".to_owned(), |items| self.kind_within(items, depth + 1));
                if items.contains('|') {
                    format!("({items})[]")
                } else {
                    format!("{items}[]")
                }
            }
            "object" => self.object(schema, depth),
            kind => kind.to_owned(),
        }
    }

    /// The members of an object, one level deep.
    fn object(self, schema: &'a Value, depth: usize) -> String {
        let members = self.members(schema);
        if depth > DEEPEST_OBJECT || members.is_empty() {
            return "{…}".to_owned();
        }
        let required = self.required(schema);
        let member = |(name, schema): &(&'a str, &'a Value)| {
            let mark = if required.contains(name) { "" } else { "?" };
            let kind = self.kind_within(schema, DEEPEST_OBJECT + 1);
            format!("{}{mark}: {kind}", clipped(name, MAX_VALUE))
        };
        let mut shown: Vec<String> = members.iter().take(MAX_ENUM).map(member).collect();
        if members.len() > MAX_ENUM {
            shown.push("…".to_owned());
        }
        format!("{{{}}}", shown.join(", "))
    }

    /// Of a schema that does not say its type.
    fn implied(self, schema: &'a Value, depth: usize) -> String {
        for keyword in ["anyOf", "oneOf"] {
            let Some(branches) = schema.get(keyword).and_then(Value::as_array) else {
                continue;
            };
            let mut kinds: Vec<String> = Vec::new();
            for branch in branches.iter().take(MAX_ENUM) {
                let kind = self.kind_within(branch, depth + 1);
                if !kinds.contains(&kind) {
                    kinds.push(kind);
                }
            }
            if branches.len() > MAX_ENUM {
                kinds.push("…".to_owned());
            }
            return kinds.join("|");
        }
        if let Some(all) = schema.get("allOf").and_then(Value::as_array) {
            let mut kinds = all
                .iter()
                .take(MAX_ENUM)
                .map(|one| self.kind_within(one, depth + 1));
            return kinds.find(|kind| kind != "…").unwrap_or_else(|| "…".to_owned());
        }
        let has = |keyword: &str| schema.get(keyword).is_some();
        match schema {
            _ if has("properties") || has("required") => self.object(schema, depth),
            _ if has("items") || has("prefixItems") => self.named(schema, "array", depth),
            _ => "…".to_owned(),
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct SchemaPart<'a> {
    pub(super) schema: &'a Value,
    /// Whether it holds for every value, or for those of a branch.
    pub(super) always: bool,
}

impl<'a> SchemaPart<'a> {
    fn object(&self, keyword: &str) -> Option<&'a Map<String, Value>> {
        self.schema.get(keyword)?.as_object()
    }
}

/// A value of an enum; one that is long is cut.
fn spelled(value: &Value) -> String {
    match value {
        Value::Array(_) => "[…]".to_owned(),
        Value::Object(_) => "{…}".to_owned(),
        Value::String(text) => Value::String(clipped(text, MAX_VALUE)).to_string(),
        plain => plain.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_parameter_is_named_by_what_it_refers_to() {
        let schema = json!({ "$defs": {
                "node": { "type": "object", "properties": { "next": { "$ref": "#/$defs/node" } } },
                "mode": { "enum": ["a", "b"] }, "loop": { "$ref": "#/$defs/loop" } } });
        let shape = SchemaDocument::of(&schema);
        let kind = |property: Value| {
            let property = Box::leak(Box::new(property));
            shape.kind(property)
        };
        for (property, expected) in [
            (json!({ "$ref": "#/$defs/node" }), "{next?: {…}}"),
            (
                json!({ "anyOf": [{ "$ref": "#/$defs/mode" }, { "type": "null" }] }),
                "\"a\"|\"b\"|null",
            ),
            (json!({ "allOf": [{ "$ref": "#/$defs/mode" }] }), "\"a\"|\"b\""),
            (
                json!({ "type": "array", "items": { "anyOf": [{ "type": "string" }, { "type": "integer" }] } }),
                "(string|integer)[]",
            ),
            (
                json!({ "type": ["array", "null"], "items": { "$ref": "#/$defs/mode" } }),
                "(\"a\"|\"b\")[]|null",
            ),
            (json!({ "const": 5 }), "5"),
            (json!({ "$ref": "#/$defs/loop" }), "…"),
            (json!({ "$ref": "https://example.com/x" }), "…"),
            (
                json!({ "enum": ["x".repeat(100_000)] }),
                &*format!("\"{}…\"", "x".repeat(MAX_VALUE - 1)),
            ),
        ] {
            assert_eq!(kind(property), expected);
        }
    }

    #[test]
    fn members_of_all_branches_are_known_and_those_of_every_one_required() {
        let schema = json!({ "required": ["a"], "properties": { "a": {} },
            "allOf": [{ "$ref": "#/$defs/b" }],
            "anyOf": [{ "properties": { "c": {} }, "required": ["c"] }, { "properties": { "d": {} } }],
            "$defs": { "b": { "properties": { "b": {} }, "required": ["b"] } } });
        let shape = SchemaDocument::of(&schema);
        let names: Vec<&str> = shape.members(&schema).iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["a", "b", "c", "d"]);
        assert_eq!(shape.required(&schema), HashSet::from(["a", "b"]));
    }

    #[test]
    fn a_schema_that_branches_without_end_is_looked_at_in_part() {
        let mut schema = json!({ "properties": { "x": {} } });
        for _ in 0..30 {
            schema = json!({ "anyOf": [schema.clone(), { "$ref": "#" }], "$defs": {} });
        }
        let shape = SchemaDocument::of(&schema);
        assert!(shape.parts(&schema).len() <= MAX_LOOKED_AT);
        assert!(shape.kind(&schema).chars().count() <= MAX_KIND);
    }
}
