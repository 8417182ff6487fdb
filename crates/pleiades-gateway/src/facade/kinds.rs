//! Which types a schema admits at a place, at most: what every branch of it allows, taken together.
//!
//! Where that cannot be told within bounds, anything is admitted.

use std::collections::HashSet;

use serde_json::Value;

use super::shape::SchemaDocument;

/// Schemas within each other that are looked at for one place.
const MAX_DEPTH: usize = 8;
/// Schemas that are looked at for one call.
const MAX_LOOKED_AT: usize = 50_000;

/// A set of JSON types. An integer is one of its own: a number without a fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kinds(u8);

impl Kinds {
    pub(super) const NULL: Self = Self(1);
    pub(super) const BOOLEAN: Self = Self(1 << 1);
    pub(super) const INTEGER: Self = Self(1 << 2);
    pub(super) const FRACTION: Self = Self(1 << 3);
    pub(super) const STRING: Self = Self(1 << 4);
    pub(super) const ARRAY: Self = Self(1 << 5);
    pub(super) const OBJECT: Self = Self(1 << 6);
    const ALL: Self = Self(0x7f);
    const NONE: Self = Self(0);

    const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether a value is of one of these types.
    pub(super) fn admits(self, value: &Value) -> bool {
        self.has(Self::of_value(value))
    }

    fn of_value(value: &Value) -> Self {
        match value {
            Value::Null => Self::NULL,
            Value::Bool(_) => Self::BOOLEAN,
            Value::Number(number) if number.as_f64().is_some_and(|number| number.fract() == 0.0) => {
                Self::INTEGER
            }
            Value::Number(_) => Self::FRACTION,
            Value::String(_) => Self::STRING,
            Value::Array(_) => Self::ARRAY,
            Value::Object(_) => Self::OBJECT,
        }
    }

    fn named(name: &Value) -> Self {
        match name.as_str() {
            Some("null") => Self::NULL,
            Some("boolean") => Self::BOOLEAN,
            Some("integer") => Self::INTEGER,
            Some("number") => Self::INTEGER.or(Self::FRACTION),
            Some("string") => Self::STRING,
            Some("array") => Self::ARRAY,
            Some("object") => Self::OBJECT,
            _ => Self::ALL,
        }
    }

    fn any_of(kinds: impl Iterator<Item = Self>) -> Self {
        kinds.fold(Self::NONE, Self::or)
    }
}

/// What a value at one place has to fit.
#[derive(Debug, Clone)]
pub(super) enum Demand<'a> {
    Anything,
    Schema(&'a Value),
    /// All of these.
    All(Vec<Self>),
    /// One of these.
    Any(Vec<Self>),
}

impl Demand<'_> {
    fn all(mut demands: Vec<Self>) -> Self {
        demands.retain(|demand| !matches!(demand, Self::Anything));
        match demands.len() {
            0 => Self::Anything,
            1 => demands.pop().unwrap_or(Self::Anything),
            _ => Self::All(demands),
        }
    }

    fn any(demands: Vec<Self>) -> Self {
        match demands.iter().any(|demand| matches!(demand, Self::Anything)) {
            true => Self::Anything,
            false => Self::Any(demands),
        }
    }
}

/// What the places of one schema demand.
#[derive(Debug)]
pub(super) struct Demands<'a> {
    document: SchemaDocument<'a>,
    /// Schemas that may still be looked at.
    left: usize,
}

impl<'a> Demands<'a> {
    pub(super) const fn of(schema: &'a Value) -> Self {
        Self {
            document: SchemaDocument::of(schema),
            left: MAX_LOOKED_AT,
        }
    }

    /// The types that a place admits.
    pub(super) fn kinds(&mut self, demand: &Demand<'a>) -> Kinds {
        self.kinds_within(demand, 0)
    }

    fn kinds_within(&mut self, demand: &Demand<'a>, depth: usize) -> Kinds {
        match demand {
            Demand::Anything => Kinds::ALL,
            Demand::All(demands) => demands
                .iter()
                .fold(Kinds::ALL, |kinds, one| kinds.and(self.kinds_within(one, depth))),
            Demand::Any(demands) => Kinds::any_of(demands.iter().map(|one| self.kinds_within(one, depth))),
            Demand::Schema(schema) => self.kinds_of(schema, depth),
        }
    }

    fn kinds_of(&mut self, schema: &'a Value, depth: usize) -> Kinds {
        if depth > MAX_DEPTH || !self.take() {
            return Kinds::ALL;
        }
        let Value::Object(keywords) = schema else {
            return Kinds::ALL;
        };
        let mut kinds = match keywords.get("type") {
            Some(Value::Array(names)) => Kinds::any_of(names.iter().map(Kinds::named)),
            Some(name) => Kinds::named(name),
            None => Kinds::ALL,
        };
        if let Some(value) = keywords.get("const") {
            kinds = kinds.and(Kinds::of_value(value));
        }
        if let Some(Value::Array(values)) = keywords.get("enum") {
            kinds = kinds.and(Kinds::any_of(values.iter().map(Kinds::of_value)));
        }
        for part in self.branches(schema) {
            kinds = kinds.and(self.kinds_within(&part, depth + 1));
        }
        kinds
    }

    /// What a member of an object at a place has to fit.
    pub(super) fn member(&mut self, demand: &Demand<'a>, name: &str) -> Demand<'a> {
        self.below(demand, 0, &|schema| {
            let property = schema.get("properties").and_then(|all| all.get(name));
            let others = || match schema.get("patternProperties") {
                Some(_) => None,
                None => schema.get("additionalProperties"),
            };
            property.or_else(others)
        })
    }

    /// What an item of a list at a place has to fit.
    pub(super) fn item(&mut self, demand: &Demand<'a>, at: usize) -> Demand<'a> {
        self.below(demand, 0, &|schema| {
            let first = schema.get("prefixItems").and_then(|items| items.get(at));
            first.or_else(|| match schema.get("items")? {
                Value::Array(items) => items.get(at),
                items => Some(items),
            })
        })
    }

    /// The same demand one step further in.
    fn below(
        &mut self,
        demand: &Demand<'a>,
        depth: usize,
        step: &dyn Fn(&'a Value) -> Option<&'a Value>,
    ) -> Demand<'a> {
        match demand {
            Demand::Anything => Demand::Anything,
            Demand::All(demands) => {
                Demand::all(demands.iter().map(|one| self.below(one, depth, step)).collect())
            }
            Demand::Any(demands) => {
                Demand::any(demands.iter().map(|one| self.below(one, depth, step)).collect())
            }
            Demand::Schema(schema) => {
                if depth > MAX_DEPTH || !self.take() {
                    return Demand::Anything;
                }
                let own = step(schema).filter(|schema| schema.is_object());
                let mut demands = vec![own.map_or(Demand::Anything, Demand::Schema)];
                for part in self.branches(schema) {
                    demands.push(self.below(&part, depth + 1, step));
                }
                Demand::all(demands)
            }
        }
    }

    /// The members that some branch of a place wants.
    pub(super) fn required(&mut self, demand: &Demand<'a>) -> HashSet<&'a str> {
        match demand {
            Demand::Anything => HashSet::new(),
            Demand::All(demands) | Demand::Any(demands) => {
                demands.iter().flat_map(|one| self.required(one)).collect()
            }
            Demand::Schema(schema) => {
                let parts = self.document.parts(schema);
                let required = parts
                    .iter()
                    .filter_map(|part| part.schema.get("required")?.as_array());
                required.flatten().filter_map(Value::as_str).collect()
            }
        }
    }

    /// What a schema refers to, and its branches.
    fn branches(&self, schema: &'a Value) -> Vec<Demand<'a>> {
        let mut branches = Vec::new();
        if schema.get("$ref").is_some() {
            let target = self.document.resolved(schema);
            branches.push(match std::ptr::eq(target, schema) {
                true => Demand::Anything,
                false => Demand::Schema(target),
            });
        }
        let of = |keyword: &str| {
            let schemas = schema.get(keyword).and_then(Value::as_array);
            schemas.map(|schemas| schemas.iter().map(Demand::Schema).collect::<Vec<_>>())
        };
        branches.extend(of("allOf").map(Demand::All));
        branches.extend(of("anyOf").map(Demand::Any));
        branches.extend(of("oneOf").map(Demand::Any));
        branches
    }

    const fn take(&mut self) -> bool {
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }
}
