//! JSON text walked as it is written, without a tree: where values lie, and texts without blanks.
//!
//! Works on text whose grammar was checked before; on any other it ends early and never panics.

use std::{borrow::Cow, ops::Range};

use serde_json::value::RawValue;

/// Deeper JSON is read as text. What walks values calls itself for each level, and text within a message has
/// not the limit of the message.
const MAX_DEPTH: usize = 128;

/// The text when it is one JSON object or array of at most [`MAX_DEPTH`] levels, without blanks around it.
pub(super) fn container(text: &str) -> Option<&str> {
    let text = text.trim_matches([' ', '\n', '\r', '\t', '\u{feff}']);
    let is_container =
        text.starts_with('{') && text.ends_with('}') || text.starts_with('[') && text.ends_with(']');
    let is_read = is_container && !is_deep(text) && serde_json::from_str::<&RawValue>(text).is_ok();
    is_read.then_some(text)
}

/// Whether a text nests deeper than [`MAX_DEPTH`].
fn is_deep(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = string_end(bytes, at);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return true;
        }
        at += 1;
    }
    false
}

/// Without blanks between tokens; every value as it is written.
pub(super) fn compact(text: &str) -> Cow<'_, str> {
    let mut compact = String::new();
    let (mut kept, mut at) = (0, 0);
    let bytes = text.as_bytes();
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = string_end(bytes, at),
            b' ' | b'\n' | b'\r' | b'\t' => {
                compact.push_str(text.get(kept..at).unwrap_or_default());
                at += 1;
                kept = at;
            }
            _ => at += 1,
        }
    }
    if kept == 0 {
        return Cow::Borrowed(text);
    }
    compact.push_str(text.get(kept..).unwrap_or_default());
    Cow::Owned(compact)
}

/// Behind the string that begins here.
pub(super) fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    loop {
        match bytes.get(at) {
            Some(b'"') => return at + 1,
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
            None => return bytes.len(),
        }
    }
}

/// Behind the value that begins here.
pub(super) fn value_end(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = start;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = string_end(bytes, at),
            b'{' | b'[' => {
                depth += 1;
                at += 1;
                continue;
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                at += 1;
            }
            b',' | b':' => at += 1,
            _ => at = scalar_end(bytes, at),
        }
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

/// Behind the number or word that begins here.
pub(super) fn scalar_end(bytes: &[u8], start: usize) -> usize {
    let rest = bytes.get(start..).unwrap_or_default();
    let length = rest
        .iter()
        .position(|byte| matches!(byte, b',' | b'}' | b']' | b':'));
    start + length.unwrap_or(rest.len()).max(1)
}

/// A member of an object, or an element of an array.
#[derive(Debug, Clone, Copy)]
pub(super) struct Child<'a> {
    /// The key as it is written, with its quotes; none of an element.
    pub(super) key: Option<&'a str>,
    pub(super) value: &'a str,
}

/// What is directly within a container, of text without blanks; nothing within any other value.
pub(super) fn children(container: &str) -> Children<'_> {
    let is_object = container.starts_with('{');
    let is_open = is_object || container.starts_with('[');
    Children {
        text: container,
        at: if is_open { 1 } else { container.len() },
        is_object,
    }
}

#[derive(Debug, Clone)]
pub(super) struct Children<'a> {
    text: &'a str,
    at: usize,
    is_object: bool,
}

impl<'a> Children<'a> {
    fn piece(&self, range: Range<usize>) -> &'a str {
        self.text.get(range).unwrap_or_default()
    }
}

impl<'a> Iterator for Children<'a> {
    type Item = Child<'a>;

    fn next(&mut self) -> Option<Child<'a>> {
        let bytes = self.text.as_bytes();
        if matches!(bytes.get(self.at), None | Some(b'}' | b']')) {
            return None;
        }
        let key = self.is_object.then(|| {
            let end = string_end(bytes, self.at);
            let key = self.piece(self.at..end);
            self.at = end + 1;
            key
        });
        let end = value_end(bytes, self.at);
        let value = self.piece(self.at..end);
        self.at = end + usize::from(bytes.get(end) == Some(&b','));
        Some(Child { key, value })
    }
}

/// What a string means; one that no text can hold stays as it is written.
pub(super) fn decoded(string: &str) -> Cow<'_, str> {
    let inner = string.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let Some(inner) = inner else {
        return Cow::Borrowed(string);
    };
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    serde_json::from_str(string).map_or(Cow::Borrowed(inner), Cow::Owned)
}

/// Whether two JSON texts without blanks mean the same, whatever their strings escape.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    let (a, b) = (one.as_bytes(), other.as_bytes());
    let (mut x, mut y) = (0, 0);
    loop {
        match (a.get(x), b.get(y)) {
            (None, None) => return true,
            (Some(b'"'), Some(b'"')) => {
                let (x_end, y_end) = (string_end(a, x), string_end(b, y));
                let (left, right) = (one.get(x..x_end), other.get(y..y_end));
                if left != right && left.map(decoded) != right.map(decoded) {
                    return false;
                }
                (x, y) = (x_end, y_end);
            }
            (Some(left), Some(right)) if left == right => (x, y) = (x + 1, y + 1),
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_go_and_values_stay_as_they_are_written() {
        let text = "{ \"a b\" : [ 1e400 ,\t9007199254740993, 1.10 ],\n \"c\\\" \" : \" d \" }";
        assert_eq!(
            compact(text),
            r#"{"a b":[1e400,9007199254740993,1.10],"c\" ":" d "}"#
        );
        assert!(matches!(compact("[1]"), Cow::Borrowed(_)));
    }

    #[test]
    fn json_is_a_container_up_to_so_many_levels() {
        let nested = |levels: usize| format!("{}\"[{{\"{}", "[".repeat(levels), "]".repeat(levels));
        assert!(container(&nested(MAX_DEPTH)).is_some());
        assert_eq!(container(&nested(MAX_DEPTH + 1)), None);
    }

    #[test]
    fn children_are_walked_in_their_order_with_equal_keys() {
        let object = r#"{"a":[1,{"b":"]"}],"a":"x\"}","c":-1.5e3}"#;
        let walked: Vec<_> = children(object).map(|it| (it.key.unwrap(), it.value)).collect();
        assert_eq!(
            walked,
            [
                (r#""a""#, r#"[1,{"b":"]"}]"#),
                (r#""a""#, r#""x\"}""#),
                (r#""c""#, "-1.5e3")
            ]
        );
        assert_eq!(
            children("[]").count() + children("{}").count() + children("7").count(),
            0
        );
        for broken in ["[1,", "{\"a", "{\"a\":", "[\"\\", "[[", "{,", "[,]", "{\"a\"}"] {
            assert!(children(broken).count() < 3, "{broken}");
        }
    }

    #[test]
    fn equal_values_are_the_same_whatever_they_escape() {
        assert!(is_same(r#"{"a":"\u00e4\n"}"#, "{\"a\":\"ä\\n\"}"));
        assert!(!is_same(r#"{"a":1}"#, r#"{"a":10}"#));
        assert!(!is_same(r#"["a"]"#, r#"["b"]"#));
    }
}
