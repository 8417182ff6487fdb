//! The fields of an event, cleaned and bounded, as both forms of the log write them.

use std::{error::Error, fmt};

use tracing::field::{Field, Visit};

use super::redact::without_queries;
use crate::text::one_line;

/// Longest text of a field, in characters.
const LONGEST: usize = 1_000;
/// Longest message, in characters.
const LONGEST_MESSAGE: usize = 2_000;

/// The value of a field.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum FieldValue {
    Text(String),
    Signed(i64),
    Unsigned(u64),
    /// Milliseconds and the like: written with three decimals.
    Decimal(f64),
    Flag(bool),
}

impl fmt::Display for FieldValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => formatter.write_str(text),
            Self::Signed(number) => number.fmt(formatter),
            Self::Unsigned(number) => number.fmt(formatter),
            Self::Decimal(number) => write!(formatter, "{number:.3}"),
            Self::Flag(flag) => flag.fmt(formatter),
        }
    }
}

/// What an event or a span says.
#[derive(Debug, Default)]
pub(super) struct EventFields {
    pub(super) message: String,
    /// In the order in which they were written; each name once.
    pub(super) all: Vec<(&'static str, FieldValue)>,
}

impl EventFields {
    pub(super) fn get(&self, name: &str) -> Option<&FieldValue> {
        self.all
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            FieldValue::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Adds what the event does not say itself.
    pub(super) fn complete(&mut self, name: &'static str, value: impl FnOnce() -> FieldValue) {
        if self.get(name).is_none() {
            self.all.push((name, value()));
        }
    }

    fn put(&mut self, name: &'static str, value: FieldValue) {
        match self.all.iter_mut().find(|(key, _)| *key == name) {
            Some(entry) => entry.1 = value,
            None => self.all.push((name, value)),
        }
    }

    fn put_text(&mut self, field: &Field, text: &str) {
        if field.name() == "message" {
            self.message = clean(text, LONGEST_MESSAGE);
        } else {
            self.put(field.name(), FieldValue::Text(clean(text, LONGEST)));
        }
    }
}

/// Text of anybody's as the log may carry it: one line, bounded, without what hides or steers, and without
/// the queries and credentials of URLs.
pub(super) fn clean(text: &str, most: usize) -> String {
    let line = one_line(text, most);
    match without_queries(&line) {
        std::borrow::Cow::Borrowed(_) => line,
        std::borrow::Cow::Owned(text) => text,
    }
}

impl Visit for EventFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put_text(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), FieldValue::Flag(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), FieldValue::Signed(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), FieldValue::Unsigned(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), FieldValue::Decimal(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.put_text(field, &with_root(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put_text(field, &format!("{value:?}"));
    }
}

/// An error and its innermost cause, where the error does not say that itself.
pub(super) fn with_root(error: &(dyn Error + 'static)) -> String {
    let (text, mut root) = (error.to_string(), error);
    while let Some(deeper) = root.source() {
        root = deeper;
    }
    let cause = root.to_string();
    match cause.is_empty() || text.contains(&cause) {
        true => text,
        false => format!("{text} ({cause})"),
    }
}
