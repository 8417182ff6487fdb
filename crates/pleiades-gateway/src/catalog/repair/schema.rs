//! Schemas of tools: an object is described, whatever a provider leaves unsaid.

use serde_json::{json, value::RawValue};

use super::member::{JsonType, is_text, json_type};
use pleiades_mcp::{Raw, RawObject, raw::raw};

/// The schema of a tool's arguments, where it has to be another than it is.
pub(super) fn input_schema(schema: Option<&RawValue>) -> Result<Option<Raw>, String> {
    let Some(schema) = schema else {
        return Ok(Some(anything()));
    };
    match json_type(schema) {
        JsonType::Null | JsonType::Bool(true) | JsonType::Array { is_empty: true } => Ok(Some(anything())),
        JsonType::Object => object_schema(schema, true).map_err(|why| format!("its `inputSchema` {why}")),
        JsonType::Bool(false) => Err("its `inputSchema` takes no arguments at all".to_owned()),
        JsonType::Number | JsonType::Text | JsonType::Array { .. } => {
            Err("its `inputSchema` is no schema".to_owned())
        }
    }
}

/// The schema of a tool's results: `None` when it is none; `Some(None)` when it stays.
pub(super) fn output_schema(schema: &RawValue) -> Option<Option<Raw>> {
    match json_type(schema) {
        JsonType::Object => object_schema(schema, false).ok(),
        _ => None,
    }
}

fn anything() -> Raw {
    raw(&json!({ "type": "object" }))
}

/// Repairs the schema of an object. `typed`: it describes one, whether it says so or not.
fn object_schema(schema: &RawValue, typed: bool) -> Result<Option<Raw>, String> {
    let mut schema = RawObject::open(schema).map_err(|_cause| "cannot be read".to_owned())?;
    let mut changed = schema.doubled().is_some();
    let nulls: Vec<String> = schema
        .iter()
        .filter(|(key, value)| value.get() == "null" && !matches!(*key, "default" | "const"))
        .map(|(key, _)| key.to_owned())
        .collect();
    changed |= !nulls.is_empty();
    schema.retain(|key| !nulls.iter().any(|null| null == key));
    if schema.get("$schema").is_some_and(|value| !is_text(value)) {
        schema.remove("$schema");
        changed = true;
    }
    changed |= schema.remove("schema_").is_some();
    match declared_type(schema.get("type"))? {
        DeclaredType::Object => {}
        DeclaredType::Absent if !typed => {}
        DeclaredType::Union | DeclaredType::Absent => {
            schema.put("type", "object");
            changed = true;
        }
        // What a result is may be anything in newer revisions; older clients are not told of it.
        DeclaredType::Other if !typed => return Ok(changed.then(|| schema.close())),
        DeclaredType::Other => return Err("is not that of an object".to_owned()),
    }
    if let Some(properties) = properties(schema.get("properties"))? {
        schema.set("properties", properties);
        changed = true;
    }
    if let Some(required) = required(schema.get("required"))? {
        schema.set("required", required);
        changed = true;
    }
    Ok(changed.then(|| schema.close()))
}

enum DeclaredType {
    Object,
    /// An object among others.
    Union,
    Absent,
    Other,
}

fn declared_type(kind: Option<&RawValue>) -> Result<DeclaredType, String> {
    let Some(kind) = kind else {
        return Ok(DeclaredType::Absent);
    };
    match json_type(kind) {
        JsonType::Text if kind.get() == r#""object""# => Ok(DeclaredType::Object),
        JsonType::Text => Ok(DeclaredType::Other),
        JsonType::Array { .. } => match serde_json::from_str::<Vec<String>>(kind.get()) {
            Ok(kinds) if kinds.iter().any(|kind| kind == "object") => Ok(DeclaredType::Union),
            Ok(_) => Ok(DeclaredType::Other),
            Err(_) => Err("has a `type` that is none".to_owned()),
        },
        JsonType::Null | JsonType::Bool(_) | JsonType::Number | JsonType::Object => {
            Err("has a `type` that is none".to_owned())
        }
    }
}

/// Properties, where they have to be others than they are: a schema may be `true` or `false`, for which
/// some clients want an object.
fn properties(properties: Option<&RawValue>) -> Result<Option<Raw>, String> {
    let Some(properties) = properties else {
        return Ok(None);
    };
    match json_type(properties) {
        JsonType::Object => {}
        JsonType::Array { is_empty: true } => return Ok(Some(raw(&json!({})))),
        _ => return Err("has `properties` that are no object".to_owned()),
    }
    let mut all =
        RawObject::open(properties).map_err(|_cause| "has `properties` that cannot be read".to_owned())?;
    let mut changed = all.doubled().is_some();
    let mut repaired: Vec<(String, Raw)> = Vec::new();
    for (name, schema) in all.iter() {
        match json_type(schema) {
            JsonType::Object => {}
            JsonType::Null | JsonType::Bool(true) | JsonType::Array { is_empty: true } => {
                repaired.push((name.to_owned(), raw(&json!({}))));
            }
            JsonType::Bool(false) => repaired.push((name.to_owned(), raw(&json!({ "not": {} })))),
            JsonType::Number | JsonType::Text | JsonType::Array { .. } => {
                return Err("has a property whose schema is none".to_owned());
            }
        }
    }
    changed |= !repaired.is_empty();
    for (name, schema) in repaired {
        all.set(&name, schema);
    }
    Ok(changed.then(|| all.close()))
}

/// The names of required properties, where they have to be others than they are.
fn required(required: Option<&RawValue>) -> Result<Option<Raw>, String> {
    let Some(required) = required else {
        return Ok(None);
    };
    let names: Vec<Option<String>> = serde_json::from_str(required.get())
        .map_err(|_cause| "has a `required` that is no list of names".to_owned())?;
    if names.iter().all(Option::is_some) {
        return Ok(None);
    }
    let names: Vec<String> = names.into_iter().flatten().collect();
    Ok(Some(raw(&names)))
}
