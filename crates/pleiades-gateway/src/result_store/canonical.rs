//! Arguments in one form, whatever the order of their members and the spelling of their texts.

use std::collections::BTreeMap;
use std::{borrow::Cow, fmt};

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use pleiades_mcp::raw;

/// Arguments larger than this are not brought into one form (bytes).
const MAX: usize = 16 << 10;
/// Deeper ones are not either.
const MAX_DEPTH: usize = 32;

/// The arguments with sorted members, numbers as they are written; `None` for what is too large, too
/// deep, or has a member twice.
pub(super) fn canonical(arguments: &RawValue) -> Option<String> {
    if arguments.get().len() > MAX {
        return None;
    }
    let mut text = String::with_capacity(arguments.get().len());
    write(arguments, MAX_DEPTH, &mut text)?;
    Some(text)
}

fn write(value: &RawValue, depth: usize, text: &mut String) -> Option<()> {
    let depth = depth.checked_sub(1)?;
    match value.get().as_bytes().first()? {
        b'{' => {
            let object: Members<'_> = serde_json::from_str(value.get()).ok()?;
            text.push('{');
            for (at, (key, member)) in object.0.iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                text.push_str(&serde_json::to_string(key).ok()?);
                text.push(':');
                write(member, depth, text)?;
            }
            text.push('}');
        }
        b'[' => {
            let elements: Vec<&RawValue> = serde_json::from_str(value.get()).ok()?;
            text.push('[');
            for (at, element) in elements.into_iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                write(element, depth, text)?;
            }
            text.push(']');
        }
        b'"' => match raw::text(value) {
            Some(decoded) => text.push_str(&serde_json::to_string(&decoded).ok()?),
            None => text.push_str(value.get()),
        },
        // Numbers are not read: two that differ beyond the digits of a float are two.
        _ => text.push_str(value.get()),
    }
    Some(())
}

/// The members of an object in the order of their names.
struct Members<'a>(BTreeMap<Cow<'a, str>, &'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MemberVisitor).map(Self)
    }
}

struct MemberVisitor;

impl<'de> Visitor<'de> for MemberVisitor {
    type Value = BTreeMap<Cow<'de, str>, &'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object without a member twice")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut members = BTreeMap::new();
        while let Some((key, value)) = map.next_entry::<ArgumentName<'de>, &'de RawValue>()? {
            if members.insert(key.0, value).is_some() {
                return Err(M::Error::custom("a member twice"));
            }
        }
        Ok(members)
    }
}

/// A name, borrowed where it is written without escapes.
#[derive(Deserialize)]
struct ArgumentName<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    fn form(json: &str) -> Option<String> {
        canonical(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn order_space_and_escapes_make_no_difference() {
        let one = form(r#"{ "b": [1, {"y":"\u00e9","x":null}], "a": "x" }"#);
        assert_eq!(
            one,
            form("{\"a\":\"\\u0078\",\"b\":[1,{\"x\":null,\"y\":\"é\"}]}")
        );
        assert!(one.is_some());
    }

    #[test]
    fn whatever_else_differs_makes_one() {
        let forms = [
            r#"{"a":12345678901234567890123}"#,
            r#"{"a":12345678901234567890124}"#,
            r#"{"a":"1"}"#,
            r#"{"a":1}"#,
            r#"{"a":1.0}"#,
            r#"{"a":[1,2]}"#,
            r#"{"a":[2,1]}"#,
            r#"{"a":null}"#,
            "{}",
            r#"{"A":1}"#,
            r#"{"a":{"b":1}}"#,
            r#"{"a":"{\"b\":1}"}"#,
        ];
        let distinct: std::collections::BTreeSet<_> = forms.iter().map(|json| form(json).unwrap()).collect();
        assert_eq!(distinct.len(), forms.len());
    }

    #[test]
    fn what_is_large_deep_or_of_two_meanings_has_no_form() {
        assert_eq!(form(r#"{"a":1,"\u0061":2}"#), None);
        assert_eq!(form(&format!(r#"{{"a":"{}"}}"#, "x".repeat(MAX))), None);
        assert_eq!(form(&format!("{}{}", "[".repeat(40), "]".repeat(40))), None);
        assert!(form(&format!("{}{}", "[".repeat(30), "]".repeat(30))).is_some());
    }
}
