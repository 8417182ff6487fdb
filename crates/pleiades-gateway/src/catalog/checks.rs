//! Arguments against the schema of their operation, in work whose amount is known before it is done.
//!
//! A provider writes the schema and a caller the arguments, and a few lines of both can ask for work
//! without end: `anyOf` of two references, 30 levels deep, is looked at 2^30 times. So a schema is
//! measured before it is compiled, and what is too big is not compiled; and before arguments are
//! judged the steps that it takes are counted ([`weight`]), each pair of a subschema and a value
//! once. Where they are too many, nobody judges but the provider (OWASP API4:2023, CWE-407).

mod cache;
mod weight;

use std::fmt;

use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::{Value, value::RawValue};

pub use cache::ValidatorSlot;
pub use weight::Effort;
use weight::Weight;

/// Largest schema that is compiled (bytes); the largest of 700 tools of known servers has 12 KiB.
const MAX_SCHEMA: usize = 128 * 1024;
/// Largest program and largest cache of one pattern (bytes). The engine is linear in the text.
const MAX_PATTERN: usize = 32 * 1024;
/// Keywords under which a schema that admits more means one that admits less.
const TURNING: [&str; 5] = ["not", "oneOf", "if", "contains", "maxContains"];

/// What checks the arguments of an operation.
pub struct ArgumentValidator {
    validator: Validator,
    weight: Weight,
}

impl fmt::Debug for ArgumentValidator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checks").finish_non_exhaustive()
    }
}

impl ArgumentValidator {
    /// Compiles a schema; `None` when it is none, or too big, or refers to other documents, which
    /// are never fetched.
    ///
    /// A schema that lists parameters and says nothing of others is read as if it refused them:
    /// providers drop unknown ones in silence, and a write would not be the one asked for.
    #[must_use]
    pub(crate) fn compile(schema: &RawValue) -> Option<Self> {
        if schema.get().len() > MAX_SCHEMA {
            return None;
        }
        let mut schema: Value = serde_json::from_str(schema.get()).ok()?;
        refuse_unlisted(&mut schema);
        let weight = Weight::of(&schema)?;
        let validator = build_validator(&schema).or_else(|| {
            drop_unknown_patterns(&mut schema)?;
            build_validator(&schema)
        })?;
        Some(Self { validator, weight })
    }

    /// Memory (bytes, estimated): measured on known servers' schemas, patterns at their limits.
    fn bytes(&self, schema: &RawValue) -> usize {
        const LEAST: usize = 2 * 1024;
        const EACH: usize = 24;
        LEAST + schema.get().len().saturating_mul(EACH) + self.weight.patterns * 2 * MAX_PATTERN
    }

    /// Whether arguments fit; `None` when finding out takes more than the effort.
    #[must_use]
    pub fn fits(&self, arguments: &Value, effort: Effort) -> Option<bool> {
        self.weight
            .allows(arguments, effort)
            .then(|| self.validator.is_valid(arguments))
    }

    /// What does not fit; `None` when listing it takes more than [`Effort::TELLING`]. The errors of
    /// one value hold those of each branch it was tried against, which is memory.
    #[must_use]
    pub fn errors<'i>(&'i self, arguments: &'i Value) -> Option<impl Iterator<Item = ValidationError<'i>>> {
        self.weight
            .allows(arguments, Effort::TELLING)
            .then(|| self.validator.iter_errors(arguments))
    }
}

fn build_validator(schema: &Value) -> Option<Validator> {
    let patterns = PatternOptions::regex()
        .size_limit(MAX_PATTERN)
        .dfa_size_limit(MAX_PATTERN);
    jsonschema::options()
        .with_pattern_options(patterns)
        .build(schema)
        .ok()
}

/// Refuses parameters that a schema does not list, unless it says where others may come from.
fn refuse_unlisted(schema: &mut Value) {
    const OTHERS: [&str; 9] = [
        "$ref",
        "additionalProperties",
        "allOf",
        "anyOf",
        "dependentSchemas",
        "if",
        "oneOf",
        "patternProperties",
        "unevaluatedProperties",
    ];
    let Some(schema) = schema.as_object_mut() else {
        return;
    };
    let lists = schema
        .get("properties")
        .and_then(Value::as_object)
        .is_some_and(|all| !all.is_empty());
    if lists && !OTHERS.iter().any(|keyword| schema.contains_key(*keyword)) {
        schema.insert("additionalProperties".to_owned(), false.into());
    }
}

/// Takes out patterns that the linear engine does not know (look-around, back-references, too large
/// ones), where the schema admits only more without them: those are the provider's to judge.
fn drop_unknown_patterns(schema: &mut Value) -> Option<()> {
    let unknown = |pattern: &str| build_validator(&serde_json::json!({ "pattern": pattern })).is_none();
    let mut left = vec![schema];
    while let Some(value) = left.pop() {
        match value {
            Value::Array(items) => left.extend(items),
            Value::Object(members) => {
                if TURNING.iter().any(|keyword| members.contains_key(*keyword)) {
                    return None;
                }
                if members
                    .get("pattern")
                    .and_then(Value::as_str)
                    .is_some_and(unknown)
                {
                    members.remove("pattern");
                }
                let schemas = members
                    .iter_mut()
                    .filter(|(key, _)| !matches!(key.as_str(), "const" | "enum" | "default" | "examples"));
                left.extend(schemas.map(|(_, value)| value));
            }
            _ => {}
        }
    }
    Some(())
}

#[cfg(test)]
mod tests;
