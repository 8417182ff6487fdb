//! JSON log lines written by hand.
//!
//! One line a request is the log's whole load; written directly it costs a fifth of what an event
//! through the subscriber costs.

use std::borrow::Cow;
use std::io::Write as _;
use std::time::{Duration, SystemTime};

use super::fields::FieldValue;
use crate::text::{is_hidden, printable};
use crate::time::write_rfc3339_micros;

/// An unfinished line.
#[derive(Debug)]
pub(super) struct JsonLine<'a>(&'a mut Vec<u8>);

impl<'a> JsonLine<'a> {
    /// Begins a line with what every line has.
    pub(super) fn begin(
        out: &'a mut Vec<u8>,
        now: SystemTime,
        level: &str,
        target: &str,
        message: &str,
    ) -> Self {
        out.extend_from_slice(b"{\"timestamp\":\"");
        write_rfc3339_micros(out, now);
        out.extend_from_slice(b"\",\"level\":\"");
        out.extend_from_slice(level.as_bytes());
        out.push(b'"');
        let mut line = Self(out);
        line.text("message", message);
        line.text("target", target);
        line
    }

    /// A string field; `name` needs no escape.
    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        // JSON escapes the control characters of ASCII alone. Others steer terminals, on which these lines are read too.
        let is_plain = value.is_ascii() || !value.contains(is_hidden);
        let value = match is_plain {
            true => Cow::Borrowed(value),
            false => Cow::Owned(printable(value, usize::MAX)),
        };
        // Writing a string to memory cannot fail.
        drop(serde_json::to_writer(&mut *self.0, &value));
    }

    pub(super) fn some(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    pub(super) fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        drop(write!(self.0, "{value}"));
    }

    /// A duration in milliseconds with three decimals.
    pub(super) fn millis(&mut self, name: &str, value: Duration) {
        self.name(name);
        let micros = value.as_micros();
        drop(write!(self.0, "{}.{:03}", micros / 1000, micros % 1000));
    }

    /// The value of a field of an event.
    pub(super) fn value(&mut self, name: &str, value: &FieldValue) {
        match value {
            FieldValue::Text(text) => self.text(name, text),
            // JSON has no number for it.
            FieldValue::Decimal(number) if !number.is_finite() => self.text(name, &number.to_string()),
            FieldValue::Unsigned(number) => self.number(name, *number),
            FieldValue::Signed(_) | FieldValue::Decimal(_) | FieldValue::Flag(_) => {
                self.name(name);
                drop(write!(self.0, "{value}"));
            }
        }
    }

    pub(super) fn end(self) {
        self.0.extend_from_slice(b"}\n");
    }

    fn name(&mut self, name: &str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }
}

/// The line that replaces those dropped because stderr was slow.
pub(super) fn dropped(out: &mut Vec<u8>, count: u64) {
    let message = format!("{count} log lines were dropped because stderr is slow");
    let mut line = JsonLine::begin(out, SystemTime::now(), "WARN", "pleiades::log", &message);
    line.number("log.dropped", count);
    line.end();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_json_object_whatever_its_values() {
        let mut out = Vec::new();
        let mut line = JsonLine::begin(&mut out, SystemTime::UNIX_EPOCH, "INFO", "here", "it's \"so\"");
        line.text("tool.name", "a\nb\u{1}\"\\");
        line.text("method", "tools/\u{9b}31mcäll\u{202e}");
        line.some("absent", None);
        line.number("http.status", 200);
        line.millis("duration_ms", Duration::from_micros(12_034));
        line.end();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["tool.name"], "a\nb\u{1}\"\\");
        assert_eq!(value["method"], "tools/31mcäll");
        assert_eq!(value["duration_ms"], 12.034);
        assert_eq!(value["message"], "it's \"so\"");
        assert!(value.get("absent").is_none());
    }
}
