//! Keys of `_meta` that are ours: `pleiades/…` means trust (where to connect, whose account it was), so
//! no provider may write one (MCP, "General fields", `_meta`: reserved prefixes; CWE-345).

use std::{borrow::Cow, ops::Range};

use serde_json::value::RawValue;

use super::{Raw, RawObject, raw};

/// Prefix of our keys.
pub const PREFIX: &str = "pleiades/";
const META: &str = "_meta";
/// Members whose values are data of their provider or schemas, in which `_meta` is a name like any other.
const DATA: [&str; 6] = [
    "structuredContent",
    "arguments",
    "inputSchema",
    "outputSchema",
    "requestedSchema",
    "metadata",
];

/// A provider's value without keys of ours in any `_meta`; every other byte stays.
#[must_use]
pub fn strip(value: Raw) -> Raw {
    match stripped(value.get()) {
        Some(text) => RawValue::from_string(text).unwrap_or_else(|_| raw::null()),
        None => value,
    }
}

/// [`strip`] for parameters that are opened already.
pub fn strip_params(params: &mut RawObject) {
    if params.iter().any(|(_, value)| is_suspect(value.get())) {
        let clean = strip(params.close());
        *params = RawObject::open(&clean).unwrap_or_default();
    }
}

/// Whether a text may hold one of our keys, in any spelling of its letters.
fn is_suspect(json: &str) -> bool {
    json.contains(PREFIX) || json.contains("pleiades\\/") || escapes_letters(json)
}

/// Whether a letter of our keys or of `_meta`, or their slash, is escaped, which nobody does who writes
/// JSON: others than letters are, and `<` and `&`.
fn escapes_letters(json: &str) -> bool {
    const ESCAPE: &str = "\\u00";
    let spells = |code: &str| matches!(code.as_bytes(), [b'2' | b'5', b'f' | b'F'] | [b'6' | b'7', _]);
    json.match_indices(ESCAPE)
        .filter_map(|(at, _)| json.get(at + ESCAPE.len()..at + ESCAPE.len() + 2))
        .any(spells)
}

/// The text without our keys; `None` when it holds none.
fn stripped(json: &str) -> Option<String> {
    if !is_suspect(json) {
        return None;
    }
    let mut scan = MetaScan {
        json,
        at: 0,
        changes: Vec::new(),
    };
    scan.value(Within::Message)?;
    if scan.changes.is_empty() {
        return None;
    }
    let mut text = String::with_capacity(json.len());
    let mut kept = 0;
    for (range, change) in &scan.changes {
        text.push_str(json.get(kept..range.start)?);
        text.push_str(change);
        kept = range.end;
    }
    text.push_str(json.get(kept..)?);
    Some(text)
}

/// Where in a message a value stands, which decides whether `_meta` below it is one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    Message,
    Meta,
    Data,
}

/// One pass over a text that is JSON.
struct MetaScan<'a> {
    json: &'a str,
    at: usize,
    changes: Vec<(Range<usize>, String)>,
}

impl<'a> MetaScan<'a> {
    fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.json.as_bytes().get(self.at)?;
            if !byte.is_ascii_whitespace() {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    fn value(&mut self, within: Within) -> Option<()> {
        match self.peek()? {
            b'{' => self.object(within),
            b'[' => {
                self.at += 1;
                while self.peek()? != b']' {
                    match self.peek()? {
                        b',' => self.at += 1,
                        _ => self.value(within)?,
                    }
                }
                self.at += 1;
                Some(())
            }
            b'"' => self.string().map(drop),
            _ => {
                let rest = self.json.as_bytes().get(self.at..)?;
                let ends = |byte: &u8| matches!(byte, b',' | b']' | b'}') || byte.is_ascii_whitespace();
                self.at += rest.iter().position(ends).unwrap_or(rest.len());
                Some(())
            }
        }
    }

    fn object(&mut self, within: Within) -> Option<()> {
        let start = self.at;
        self.at += 1;
        let (mut kept, mut taken) = (Vec::new(), false);
        loop {
            match self.peek()? {
                b'}' => break,
                b',' => self.at += 1,
                _ => {
                    let member = self.at;
                    let key = key_of(self.string()?);
                    self.peek().filter(|byte| *byte == b':')?;
                    self.at += 1;
                    self.value(below(within, &key))?;
                    match within == Within::Meta && key.starts_with(PREFIX) {
                        true => taken = true,
                        false => kept.push(self.json.get(member..self.at)?),
                    }
                }
            }
        }
        self.at += 1;
        if taken {
            // Nothing within `_meta` is changed by itself, so that this change holds no other.
            self.changes
                .push((start..self.at, format!("{{{}}}", kept.join(","))));
        }
        Some(())
    }

    /// Passes a string; its text with the quotes.
    fn string(&mut self) -> Option<&'a str> {
        let start = self.at;
        self.at += 1;
        loop {
            let rest = self.json.get(self.at..)?;
            let next = rest.find(['"', '\\'])?;
            self.at += next + 1;
            if rest.as_bytes().get(next) == Some(&b'"') {
                return self.json.get(start..self.at);
            }
            self.at += 1;
        }
    }
}

fn below(within: Within, key: &str) -> Within {
    match within {
        Within::Message if key == META => Within::Meta,
        Within::Message if !DATA.contains(&key) => Within::Message,
        _ => Within::Data,
    }
}

fn key_of(quoted: &str) -> Cow<'_, str> {
    let read: Option<&RawValue> = serde_json::from_str(quoted).ok();
    read.and_then(raw::text).unwrap_or(Cow::Borrowed(quoted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> String {
        strip(RawValue::from_string(json.to_owned()).expect("JSON"))
            .get()
            .to_owned()
    }

    #[test]
    fn our_keys_are_taken_out_wherever_a_meta_stands_and_every_other_byte_stays() {
        for (given, expected) in [
            (
                r#"{"_meta":{"pleiades/needs_auth":{"connect_url":"x"},"own": 1.0}, "a":[ ]}"#,
                r#"{"_meta":{"own": 1.0}, "a":[ ]}"#,
            ),
            (
                r#"{"content":[{"type":"text","_meta":{"pleiades/a":1}},{"resource":{"_meta":{"b":2,"pleiades/a":[{}]}}}]}"#,
                r#"{"content":[{"type":"text","_meta":{}},{"resource":{"_meta":{"b":2}}}]}"#,
            ),
            (
                r#"{"inputRequests":{"k":{"params":{"_meta":{"pleiades/a":"}"}}}}}"#,
                r#"{"inputRequests":{"k":{"params":{"_meta":{}}}}}"#,
            ),
            (
                r#"{"_meta":{"\u0070leiades/a":1,"pleiades\/b":2,"x":"\"pleiades/"}}"#,
                r#"{"_meta":{"x":"\"pleiades/"}}"#,
            ),
            (r#"{"\u005fmeta":{"pleiades/a":1}}"#, r#"{"\u005fmeta":{}}"#),
            (r#"{"\u005fmeta":{"pleiades\/a":1}}"#, r#"{"\u005fmeta":{}}"#),
            (r#"{"_meta":{"pleiade\u0073\u002Fa":1}}"#, r#"{"_meta":{}}"#),
            (
                r#"[{"_meta" : { "pleiades/a" : 1 , "b" : [ ] } }]"#,
                r#"[{"_meta" : {"b" : [ ]} }]"#,
            ),
        ] {
            assert_eq!(of(given), expected);
        }
    }

    #[test]
    fn what_is_no_key_of_ours_or_no_meta_stays() {
        for json in [
            r#"{"_meta":{"Pleiades/a":1,"xpleiades/a":2,"pleiades.dev/a":3,"a":{"pleiades/b":1}}}"#,
            r#"{"structuredContent":{"_meta":{"pleiades/a":1}},"pleiades/a":2,"content":"pleiades/"}"#,
            r#"{"inputSchema":{"properties":{"_meta":{"pleiades/a":{}}}}}"#,
            r#"{"text":"\u00e4 _meta \\","n":-1.5e3,"t":true,"z":null}"#,
            "5",
        ] {
            assert_eq!(of(json), json);
        }
        let mut params: RawObject = serde_json::from_str(r#"{"_meta":{"pleiades/a":1},"p":0.50}"#).unwrap();
        strip_params(&mut params);
        assert_eq!(params.close().get(), r#"{"_meta":{},"p":0.50}"#);
    }
}
