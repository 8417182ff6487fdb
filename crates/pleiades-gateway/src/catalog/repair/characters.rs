//! Definitions without what models read and people do not see: every text of an entry that is shown, at any
//! depth. Names by which things are asked for stay as they are, or the entry goes.

use std::borrow::Cow;

use serde_json::{Map, Value, value::RawValue};

use crate::catalog::lists::ListKind;
use pleiades_core::text::{LineBreaks, is_hidden, legible};
use pleiades_mcp::{Raw, RawObject, raw::raw};

/// Values of a tool's arguments that are shown otherwise than the provider spells them. What a caller gives is
/// put back before it goes up.
#[derive(Debug, Clone, Default)]
pub(crate) struct RespelledValues(Vec<RespelledValue>);

#[derive(Debug, Clone)]
struct RespelledValue {
    /// The property that takes it; `None` where the schema does not say it by its place.
    property: Option<Box<str>>,
    shown: Box<str>,
    own: Box<str>,
}

impl RespelledValues {
    /// Whether there are none, which is the rule.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Arguments with the provider's own spelling; `None` where they hold no such value.
    pub(crate) fn restored(&self, arguments: &RawValue) -> Option<Raw> {
        let mut value: Value = serde_json::from_str(arguments.get()).ok()?;
        self.restore(&mut value, None).then(|| raw(&value))
    }

    fn restore(&self, value: &mut Value, property: Option<&str>) -> bool {
        match value {
            Value::String(text) => {
                let is_meant = |it: &&RespelledValue| {
                    *it.shown == **text && it.property.as_deref().is_none_or(|own| property == Some(own))
                };
                let Some(found) = self.0.iter().find(is_meant) else {
                    return false;
                };
                *text = found.own.to_string();
                true
            }
            Value::Array(items) => {
                let restored = items.iter_mut().map(|item| self.restore(item, property));
                restored.fold(false, |any, one| any | one)
            }
            Value::Object(members) => {
                let members = members.iter_mut();
                let restored = members.map(|(name, value)| self.restore(value, Some(name)));
                restored.fold(false, |any, one| any | one)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }
}

/// The error: why the entry has to be left out, in words that follow its name.
pub(super) fn clean(list: ListKind, entry: &mut RawObject) -> Result<RespelledValues, String> {
    let (_, identity) = list.keys();
    let mut respelled = RespelledValues::default();
    entry.retain(is_legible);
    let is_broken = |key: &str, json: &str| lines_of(key) == LineBreaks::Joined && json.contains('\\');
    let suspects = entry
        .iter()
        .filter(|(key, value)| *key != identity && (is_suspect(value.get()) || is_broken(key, value.get())));
    let suspects: Vec<String> = suspects.map(|(key, _)| key.to_owned()).collect();
    for key in suspects {
        let Some(Ok(mut value)) = entry.get(&key).map(|value| serde_json::from_str(value.get())) else {
            return Err(format!("its `{key}` cannot be read"));
        };
        let is_changed = match (list, &*key) {
            (ListKind::Tools, "inputSchema") => {
                let mut cleaner = SchemaCleaner::default();
                cleaner
                    .schema(&mut value, None)
                    .map_err(|why| format!("its `{key}` {why}"))?;
                respelled.0 = cleaner.values;
                cleaner.is_changed
            }
            // Results are not changed: a schema that says otherwise would be wrong.
            (ListKind::Tools, "outputSchema") => {
                let mut cleaner = SchemaCleaner::default();
                if cleaner.schema(&mut value, None).is_err() || !cleaner.values.is_empty() {
                    entry.remove(&key);
                    continue;
                }
                cleaner.is_changed
            }
            (ListKind::Prompts, "arguments") if has_hidden_names(&value) => {
                return Err("a name of its `arguments` holds characters that cannot be seen".to_owned());
            }
            _ => texts(&mut value, lines_of(&key)),
        };
        if is_changed {
            entry.set(&key, raw(&value));
        }
    }
    Ok(respelled)
}

/// Whether JSON text could hold what cannot be seen: most do not, which a look at the bytes tells.
fn is_suspect(json: &str) -> bool {
    let escapes = json.match_indices('\\').any(|(at, _)| {
        let next = json.as_bytes().get(at + 1);
        matches!(next, Some(b'u' | b'b' | b'f' | b'r'))
    });
    escapes
        || !json.is_ascii()
            && json
                .chars()
                .any(|it| is_hidden(it) || matches!(it, '\u{fe00}'..='\u{fe0f}'))
}

fn is_legible(name: &str) -> bool {
    legible(name, LineBreaks::Joined) == name
}

/// Names and titles are one line; all else may have several.
fn lines_of(key: &str) -> LineBreaks {
    match key {
        "name" | "title" => LineBreaks::Joined,
        _ => LineBreaks::Kept,
    }
}

fn has_hidden_names(arguments: &Value) -> bool {
    let arguments = arguments.as_array().into_iter().flatten();
    let mut names = arguments.filter_map(|argument| argument.get("name")?.as_str());
    names.any(|name| !is_legible(name))
}

/// Every text within a value; a member goes whose name cannot be seen whole.
fn texts(value: &mut Value, lines: LineBreaks) -> bool {
    match value {
        Value::String(text) => text_of(text, lines),
        Value::Array(items) => items.iter_mut().fold(false, |any, item| any | texts(item, lines)),
        Value::Object(members) => {
            let count = members.len();
            members.retain(|name, _| is_legible(name));
            let is_less = members.len() != count;
            let members = members.iter_mut();
            members.fold(is_less, |any, (name, value)| any | texts(value, lines_of(name)))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn text_of(text: &mut String, lines: LineBreaks) -> bool {
    let Cow::Owned(shown) = legible(text, lines) else {
        return false;
    };
    let is_other = shown != *text;
    *text = shown;
    is_other
}

#[derive(Default)]
struct SchemaCleaner {
    is_changed: bool,
    values: Vec<RespelledValue>,
}

impl SchemaCleaner {
    /// Cleans a schema whose values the property takes.
    fn schema(&mut self, schema: &mut Value, property: Option<&str>) -> Result<(), String> {
        match schema {
            Value::Object(members) => members
                .iter_mut()
                .try_for_each(|(key, value)| self.keyword(key, value, property)),
            Value::Array(items) => items.iter_mut().try_for_each(|item| self.schema(item, property)),
            Value::String(_) => {
                self.is_changed |= texts(schema, LineBreaks::Kept);
                Ok(())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
        }
    }

    fn keyword(&mut self, key: &str, value: &mut Value, property: Option<&str>) -> Result<(), String> {
        if !is_legible(key) {
            return Err(unseen());
        }
        match (key, value) {
            ("enum", Value::Array(values)) => self.choices(values, property),
            ("const", Value::String(value)) => self.choice(value, property),
            ("pattern", Value::String(pattern)) => self.pattern(pattern),
            ("properties", Value::Object(properties)) => return self.properties(properties),
            ("title", value @ Value::String(_)) => self.is_changed |= texts(value, LineBreaks::Joined),
            ("default" | "examples", value) => self.is_changed |= texts(value, LineBreaks::Joined),
            // Of names that the schema does not say.
            ("additionalProperties" | "patternProperties" | "unevaluatedProperties", value) => {
                return self.schema(value, None);
            }
            (_, value) => return self.schema(value, property),
        }
        Ok(())
    }

    fn properties(&mut self, properties: &mut Map<String, Value>) -> Result<(), String> {
        properties.iter_mut().try_for_each(|(name, schema)| {
            is_legible(name).then_some(()).ok_or_else(unseen)?;
            self.schema(schema, Some(name))
        })
    }

    /// Of two that would be shown alike the first stays: nobody could tell which is meant.
    fn choices(&mut self, values: &mut Vec<Value>, property: Option<&str>) {
        for value in values.iter_mut() {
            match value {
                Value::String(text) => self.choice(text, property),
                other => self.is_changed |= texts(other, LineBreaks::Joined),
            }
        }
        if self.is_changed {
            let mut seen = Vec::with_capacity(values.len());
            values.retain(|value| {
                let is_new = !seen.contains(value);
                if is_new && value.is_string() {
                    seen.push(value.clone());
                }
                is_new
            });
        }
    }

    fn choice(&mut self, value: &mut String, property: Option<&str>) {
        let own = value.clone();
        if !text_of(value, LineBreaks::Joined) {
            return;
        }
        self.is_changed = true;
        self.values.push(RespelledValue {
            property: property.map(Into::into),
            shown: value.as_str().into(),
            own: own.into(),
        });
    }

    /// What a pattern means stays: a character that cannot be seen stands there by its number.
    fn pattern(&mut self, pattern: &mut String) {
        if is_legible(pattern) {
            return;
        }
        let mut shown = String::with_capacity(pattern.len());
        for character in pattern.chars() {
            match u32::from(character) {
                number if is_hidden(character) && number <= 0xffff => {
                    shown.push_str(&format!("\\u{number:04x}"));
                }
                number if is_hidden(character) => shown.push_str(&format!("\\u{{{number:x}}}")),
                _ => shown.push(character),
            }
        }
        self.is_changed |= shown != *pattern;
        *pattern = shown;
    }
}

fn unseen() -> String {
    "has a name that holds characters that cannot be seen".to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cleaned(list: ListKind, entry: &Value) -> Result<(Value, RespelledValues), String> {
        let mut object = RawObject::open(&raw(entry)).unwrap();
        let respelled = clean(list, &mut object)?;
        Ok((serde_json::from_str(object.close().get()).unwrap(), respelled))
    }

    #[test]
    fn no_text_of_a_definition_holds_what_cannot_be_seen_at_any_depth() {
        let bad = "a\u{200b}\u{202e}\u{e0041}\u{1b}b";
        let tool = json!({
            "name": "t", "title": bad, "description": format!("one\n{bad}"),
            "annotations": { "title": bad },
            "inputSchema": { "type": "object", "description": bad, "properties": {
                "mode": { "title": bad, "description": bad, "enum": [bad, "c"], "default": bad, "examples": [bad] },
                "list": { "type": "array", "items": { "anyOf": [{ "const": bad }, { "description": bad }] } },
                "enum": { "description": bad }
            }, "$defs": { "x": { "description": bad } }, "x-note": [bad] },
            "outputSchema": { "type": "object", "properties": { "y": { "description": bad } } },
            "_meta": { "note": bad, "a\u{200b}": 1 }, "z\u{200b}": 1
        });
        let (shown, respelled) = cleaned(ListKind::Tools, &tool).unwrap();
        let text = shown.to_string();
        assert!(!text.chars().any(is_hidden) && !text.contains("\\u"), "{text}");
        assert_eq!(shown["description"], "one\nab");
        assert_eq!(
            shown["inputSchema"]["properties"]["mode"]["enum"],
            json!(["ab", "c"])
        );
        assert_eq!(respelled.0.len(), 2);
        for (list, identity) in [
            (ListKind::Resources, "uri"),
            (ListKind::Templates, "uriTemplate"),
            (ListKind::Prompts, "name"),
        ] {
            let mut entry = json!({ "title": bad, "description": bad, "arguments": [{ "name": "x", "description": bad }] });
            entry[identity] = "file:///x".into();
            let (shown, _) = cleaned(list, &entry).unwrap();
            assert!(!shown.to_string().contains("\\u"), "{shown}");
        }
    }

    #[test]
    fn a_value_that_is_shown_otherwise_goes_up_as_its_provider_spells_it() {
        let tool = json!({ "name": "t", "inputSchema": { "type": "object", "properties": {
            "mode": { "enum": ["fa\u{200b}st", "slow"] },
            "tags": { "type": "array", "items": { "enum": ["re\u{feff}d"] } },
            "by": { "additionalProperties": { "const": "o\u{2060}n" } }
        } } });
        let (_, respelled) = cleaned(ListKind::Tools, &tool).unwrap();
        let given =
            raw(&json!({ "mode": "fast", "tags": ["red", "x"], "by": { "k": "on" }, "text": "fast" }));
        let sent: Value = serde_json::from_str(respelled.restored(&given).unwrap().get()).unwrap();
        let own = json!({ "mode": "fa\u{200b}st", "tags": ["re\u{feff}d", "x"], "by": { "k": "o\u{2060}n" }, "text": "fast" });
        assert_eq!(sent, own);
        assert!(respelled.restored(&raw(&json!({ "mode": "slow" }))).is_none());
    }

    #[test]
    fn what_has_a_name_that_cannot_be_seen_whole_is_left_out_and_patterns_keep_their_meaning() {
        let tool = json!({ "name": "t", "inputSchema": { "properties": { "a\u{200b}": {} } } });
        assert!(cleaned(ListKind::Tools, &tool).is_err());
        let prompt = json!({ "name": "p", "arguments": [{ "name": "a\u{202e}" }] });
        assert!(cleaned(ListKind::Prompts, &prompt).is_err());
        let output = json!({ "name": "t", "outputSchema": { "properties": { "a\u{200b}": {} } } });
        assert_eq!(
            cleaned(ListKind::Tools, &output).unwrap().0,
            json!({ "name": "t" })
        );
        let pattern =
            json!({ "name": "t", "inputSchema": { "properties": { "a": { "pattern": "^\u{200b}+$" } } } });
        let (shown, _) = cleaned(ListKind::Tools, &pattern).unwrap();
        assert_eq!(shown["inputSchema"]["properties"]["a"]["pattern"], r"^\u200b+$");
    }

    #[test]
    fn a_definition_that_is_well_stays_byte_by_byte() {
        let text = r#"{"name":"t","description":"One.\nTwo — “three”\ttab 👩‍💻","inputSchema":{"type":"object","x":1.0}}"#;
        let mut object: RawObject = serde_json::from_str(text).unwrap();
        assert!(clean(ListKind::Tools, &mut object).unwrap().is_empty());
        assert_eq!(object.close().get(), text);
    }
}
