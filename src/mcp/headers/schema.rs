//! The schema keyword `x-mcp-header`: where it may stand and what it may say.

use serde_json::{Map, Value, value::RawValue};

use super::MirrorPath;

/// The schema keyword that asks for a header.
const KEYWORD: &str = "x-mcp-header";

/// The arguments that a tool's input schema wants in headers.
///
/// # Errors
/// Says which rule of SEP-2243 is broken; the tool must then be left out of lists.
pub fn mirror_paths(schema: &RawValue) -> Result<Vec<MirrorPath>, String> {
    if !schema.get().contains(KEYWORD) {
        return Ok(Vec::new());
    }
    let schema: Value = serde_json::from_str(schema.get())
        .map_err(|cause| format!("the input schema is not JSON: {cause}"))?;
    let mut walk = Walk::default();
    walk.schema(&schema, true)?;
    Ok(walk.found)
}

#[derive(Default)]
struct Walk {
    path: Vec<Box<str>>,
    found: Vec<MirrorPath>,
}

impl Walk {
    /// `plain`: reached through `properties` keys alone.
    fn schema(&mut self, schema: &Value, plain: bool) -> Result<(), String> {
        let Value::Object(schema) = schema else {
            return Ok(());
        };
        if let Some(suffix) = schema.get(KEYWORD) {
            self.mark(schema, suffix, plain)?;
        }
        for (keyword, value) in schema {
            match keyword.as_str() {
                "properties" => self.properties(value, plain)?,
                "$defs" | "definitions" | "patternProperties" | "dependentSchemas" => {
                    self.map(value)?
                }
                "allOf"
                | "anyOf"
                | "oneOf"
                | "prefixItems"
                | "items"
                | "additionalItems"
                | "contains"
                | "not"
                | "if"
                | "then"
                | "else"
                | "additionalProperties"
                | "propertyNames"
                | "unevaluatedItems"
                | "unevaluatedProperties"
                | "contentSchema" => self.hidden(value)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn properties(&mut self, value: &Value, plain: bool) -> Result<(), String> {
        let Value::Object(properties) = value else {
            return Ok(());
        };
        for (name, schema) in properties {
            self.path.push(name.as_str().into());
            self.schema(schema, plain)?;
            self.path.pop();
        }
        Ok(())
    }

    fn map(&mut self, value: &Value) -> Result<(), String> {
        value
            .as_object()
            .into_iter()
            .flatten()
            .try_for_each(|(_, schema)| self.schema(schema, false))
    }

    fn hidden(&mut self, value: &Value) -> Result<(), String> {
        match value {
            Value::Array(schemas) => schemas
                .iter()
                .try_for_each(|schema| self.schema(schema, false)),
            schema => self.schema(schema, false),
        }
    }

    fn mark(
        &mut self,
        schema: &Map<String, Value>,
        suffix: &Value,
        plain: bool,
    ) -> Result<(), String> {
        let place = self.path.join(".");
        if !plain || self.path.is_empty() {
            return Err(format!(
                "`{KEYWORD}` at `{place}` is not reached through `properties` alone"
            ));
        }
        let suffix = suffix
            .as_str()
            .filter(|suffix| !suffix.is_empty() && suffix.bytes().all(is_token))
            .ok_or_else(|| {
                format!("`{KEYWORD}` of `{place}` is not a header name (RFC 9110 token)")
            })?;
        if !is_primitive(schema.get("type")) {
            return Err(format!(
                "`{KEYWORD}` of `{place}` needs the type integer, string or boolean"
            ));
        }
        if self
            .found
            .iter()
            .any(|(_, other)| other.eq_ignore_ascii_case(suffix))
        {
            return Err(format!("`{KEYWORD}` `{suffix}` occurs twice"));
        }
        self.found.push((self.path.clone(), suffix.into()));
        Ok(())
    }
}

const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// Whether a `type` is one of the three, or one of them and null.
fn is_primitive(kind: Option<&Value>) -> bool {
    let named = |kind: &Value| matches!(kind.as_str(), Some("integer" | "string" | "boolean"));
    match kind {
        Some(Value::Array(kinds)) => {
            kinds.iter().filter(|kind| named(kind)).count() == 1
                && kinds
                    .iter()
                    .all(|kind| named(kind) || kind.as_str() == Some("null"))
        }
        Some(kind) => named(kind),
        None => false,
    }
}
