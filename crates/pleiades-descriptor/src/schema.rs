//! JSON Schemas from the types, in two forms: the reader's, with our own keywords, and the one that
//! is published for editors.

use std::sync::LazyLock;

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value};

use super::Descriptor;

static DESCRIPTOR: LazyLock<Value> = LazyLock::new(internal::<Descriptor>);

pub(crate) fn descriptor() -> &'static Value {
    &DESCRIPTOR
}

/// The published schema of a descriptor.
#[must_use]
pub fn published() -> Value {
    publish(&DESCRIPTOR, "provider.json")
}

/// The reader's schema of a type: absent values are absent, never `null`.
pub(crate) fn internal<T: JsonSchema>() -> Value {
    let mut schema = SchemaSettings::draft07()
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value();
    drop_nulls(&mut schema);
    schema
}

/// The schema for editors: without our own keywords.
pub(crate) fn publish(schema: &Value, name: &str) -> Value {
    let mut schema = schema.clone();
    strip(&mut schema);
    if let Value::Object(map) = &mut schema {
        map.insert("$id".to_owned(), Value::String(name.to_owned()));
    }
    schema
}

/// YAML's empty value stands for nothing here; an optional field is left out instead.
fn drop_nulls(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            if let Some(Value::String(text)) = map.get_mut("description") {
                *text = text
                    .replace("\n\n", "\u{0}")
                    .replace('\n', " ")
                    .replace('\u{0}', "\n\n");
            }
            if let Some(Value::Array(types)) = map.get_mut("type") {
                types.retain(|kind| kind != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    map.insert("type".to_owned(), only);
                }
            }
            unwrap_nullable(map);
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// `anyOf: [X, null]` is X.
fn unwrap_nullable(map: &mut Map<String, Value>) {
    let Some(Value::Array(options)) = map.get("anyOf") else {
        return;
    };
    let mut options = options
        .iter()
        .filter(|option| option.get("type").is_none_or(|kind| kind != "null"));
    if let (Some(Value::Object(only)), None) = (options.next().cloned(), options.next()) {
        map.remove("anyOf");
        if only.contains_key("$ref") {
            // A `$ref` of draft 7 hides what stands beside it.
            map.insert("allOf".to_owned(), Value::Array(vec![Value::Object(only)]));
            return;
        }
        for (key, value) in only {
            map.entry(key).or_insert(value);
        }
    }
}

fn strip(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.retain(|key, _| !key.starts_with("x-"));
            map.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}
