//! A YAML 1.2 file as a tree that knows where every key and value stands.
//!
//! Typed reading would stop at the first fault; the tree lets shape and meaning of the whole file be
//! reported together.

mod build;
mod scalar;
#[cfg(test)]
mod tests;

pub use build::parse;

use serde_json::Value;

pub(crate) const MAX_BYTES: usize = 1 << 20;
/// Deepest nesting, aliases expanded.
const MAX_DEPTH: usize = 64;
/// Most values of a file, before aliases.
const MAX_NODES: usize = 50_000;
/// Most values that aliases may add.
const MAX_ALIASED: usize = 10_000;

/// Line and column, 1-based, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pos {
    pub line: usize,
    pub column: usize,
}

impl Pos {
    pub const START: Self = Self { line: 1, column: 1 };
}

/// A file that does not parse: where and why.
#[derive(Debug)]
pub struct Syntax {
    pub at: Pos,
    pub message: String,
    pub cure: Option<&'static str>,
}

/// A value.
#[derive(Debug, Clone)]
pub struct Node {
    pub at: Pos,
    pub kind: Kind,
    /// A tag that is not of the core schema.
    pub(crate) tag: Option<String>,
    /// Nothing is written: there is no place of its own.
    pub(crate) is_absent: bool,
    /// Set by the shape check: meaning leaves it alone.
    pub(crate) is_bad: bool,
}

/// What a value is under the core schema of YAML 1.2, but that only `true` and `false` are booleans.
#[derive(Debug, Clone)]
pub enum Kind {
    Null,
    Bool(bool),
    /// A number; the integer when it is one.
    Number {
        float: f64,
        integer: Option<i128>,
    },
    Text(Text),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A text, before and after its references were resolved.
#[derive(Debug, Clone)]
pub struct Text {
    pub raw: String,
    /// With every reference replaced; `None` when one could not be.
    pub resolved: Option<String>,
    pub has_references: bool,
}

/// A key and its value.
#[derive(Debug, Clone)]
pub struct Entry {
    pub at: Pos,
    pub key: String,
    /// What the key is when it is not text.
    pub(crate) odd: Option<&'static str>,
    pub value: Node,
}

impl Entry {
    /// Whether its key is text that means itself; the shape check refuses all others.
    pub(crate) fn is_named(&self) -> bool {
        self.odd.is_none() && self.key != "<<"
    }
}

impl Node {
    pub(crate) fn new(at: Pos, kind: Kind) -> Self {
        Self {
            at,
            kind,
            tag: None,
            is_absent: false,
            is_bad: false,
        }
    }

    pub(crate) fn describe(&self) -> &'static str {
        match &self.kind {
            Kind::Null => "nothing",
            Kind::Bool(_) => "a boolean",
            Kind::Number { integer: Some(_), .. } => "an integer",
            Kind::Number { .. } => "a number",
            Kind::Text(_) => "text",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
        }
    }

    /// Entries, when it is a sound mapping.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.kind {
            Kind::Map(entries) if !self.is_bad => entries,
            _ => &[],
        }
    }

    /// Items, when it is a sound list.
    pub(crate) fn items(&self) -> &[Node] {
        match &self.kind {
            Kind::List(items) if !self.is_bad => items,
            _ => &[],
        }
    }

    /// The first entry of that key, sound or not.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The sound value at a path of keys.
    pub(crate) fn at_path(&self, path: &[&str]) -> Option<&Self> {
        let found = path
            .iter()
            .try_fold(self, |node, key| node.entry(key).map(|entry| &entry.value));
        found.filter(|node| !node.is_bad)
    }

    /// The resolved text, when it is a sound one.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) if !self.is_bad => text.resolved.as_deref(),
            _ => None,
        }
    }

    /// The resolved text at a path of keys.
    pub(crate) fn text_at(&self, path: &[&str]) -> Option<&str> {
        self.at_path(path).and_then(Self::text)
    }

    /// Whether it is text with a reference in it.
    pub(crate) fn has_references(&self) -> bool {
        matches!(&self.kind, Kind::Text(text) if text.has_references)
    }

    /// Whether a text in it has a reference that could not be resolved.
    pub(crate) fn is_unresolved(&self) -> bool {
        match &self.kind {
            Kind::Text(text) => text.resolved.is_none(),
            Kind::List(items) => items.iter().any(Self::is_unresolved),
            Kind::Map(entries) => entries.iter().any(|entry| entry.value.is_unresolved()),
            _ => false,
        }
    }

    /// The boolean, when it is a sound one.
    pub(crate) fn boolean(&self) -> Option<bool> {
        match self.kind {
            Kind::Bool(value) if !self.is_bad => Some(value),
            _ => None,
        }
    }

    /// Where a fault about something missing in it is reported: its first key, else itself.
    pub(crate) fn first_key(&self) -> Pos {
        self.entries().first().map_or(self.at, |entry| entry.at)
    }

    /// As JSON, references resolved; the first of duplicate keys.
    pub(crate) fn to_json(&self) -> Value {
        match &self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(value) => Value::Bool(*value),
            Kind::Number { float, integer } => number(*float, *integer),
            Kind::Text(text) => Value::String(text.resolved.as_ref().unwrap_or(&text.raw).clone()),
            Kind::List(items) => items.iter().map(Self::to_json).collect(),
            Kind::Map(entries) => {
                let pairs = entries.iter().rev();
                Value::Object(
                    pairs
                        .map(|entry| (entry.key.clone(), entry.value.to_json()))
                        .collect(),
                )
            }
        }
    }
}

fn number(float: f64, integer: Option<i128>) -> Value {
    let small = integer
        .and_then(|value| i64::try_from(value).ok())
        .map(Value::from);
    let large = || {
        integer
            .and_then(|value| u64::try_from(value).ok())
            .map(Value::from)
    };
    small.or_else(large).unwrap_or_else(|| Value::from(float))
}
