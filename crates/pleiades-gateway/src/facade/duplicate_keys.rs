//! Duplicate keys of objects, and numbers that no value holds: readers differ in which of the values
//! counts, so that nothing is run on them.

use std::{borrow::Cow, collections::HashSet, fmt};

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Value, value::RawValue};

use super::envelope::printable;
use pleiades_mcp::raw;

/// Members among which a double is searched one by one.
const SEARCHED: usize = 16;

/// What makes a JSON text one that is not run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum JsonDefect {
    DuplicateKey(String),
    /// A number is beyond all floats (`1e400`), so that no value holds it; the names and positions
    /// that lead there.
    HugeNumber(Vec<String>),
}

/// The first odd thing in a JSON text, at any depth.
pub(super) fn defect(raw: &RawValue) -> Option<JsonDefect> {
    let mut found = DefectPath::default();
    let mut reader = serde_json::Deserializer::from_str(raw.get());
    let read = DefectVisitor(&mut found).deserialize(&mut reader);
    match (found.doubled, read) {
        (Some(name), _) => Some(JsonDefect::DuplicateKey(name)),
        (None, Err(_)) => Some(JsonDefect::HugeNumber(found.path.into_iter().rev().collect())),
        (None, Ok(())) => None,
    }
}

/// A JSON text as a value; the error says how it fails, in words that follow its name.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let text = &*raw::repair_surrogates(text);
    let no_json = |cause: serde_json::Error| format!("is text that is no JSON ({cause})");
    let raw: &RawValue = serde_json::from_str(text).map_err(no_json)?;
    match defect(raw) {
        Some(JsonDefect::DuplicateKey(name)) => Err(format!("names `{}` twice", printable(&name))),
        Some(JsonDefect::HugeNumber(_)) => {
            Err("holds a number that is too large, or is nested too deeply".to_owned())
        }
        None => serde_json::from_str(text).map_err(no_json),
    }
}

#[derive(Default)]
struct DefectPath {
    doubled: Option<String>,
    /// The path to it, innermost first.
    path: Vec<String>,
}

struct DefectVisitor<'a>(&'a mut DefectPath);

impl<'de> DeserializeSeed<'de> for DefectVisitor<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for DefectVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut at = 0;
        loop {
            match items.next_element_seed(DefectVisitor(self.0)) {
                Ok(Some(())) => at += 1,
                Ok(None) => return Ok(()),
                Err(error) => {
                    self.0.path.push(at.to_string());
                    return Err(error);
                }
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut names = SeenKeys::default();
        while let Some(Key(name)) = map.next_key::<Key<'de>>()? {
            if !names.insert(name.clone()) {
                self.0.doubled.get_or_insert(name.into_owned());
                return Err(A::Error::custom("found"));
            }
            if let Err(error) = map.next_value_seed(DefectVisitor(self.0)) {
                self.0.path.push(name.into_owned());
                return Err(error);
            }
        }
        Ok(())
    }
}

/// A key, borrowed unless it holds escapes.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// Keys seen so far in one object: a list while they are few.
#[derive(Default)]
struct SeenKeys<'a> {
    few: Vec<Cow<'a, str>>,
    many: HashSet<Cow<'a, str>>,
}

impl<'a> SeenKeys<'a> {
    fn insert(&mut self, key: Cow<'a, str>) -> bool {
        if self.few.contains(&key) {
            return false;
        }
        if self.few.len() < SEARCHED {
            self.few.push(key);
            return true;
        }
        self.many.insert(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<String> {
        match defect(serde_json::from_str(text).expect("JSON")) {
            Some(JsonDefect::DuplicateKey(name)) => Some(name),
            _ => None,
        }
    }

    #[test]
    fn a_duplicate_key_is_found_at_any_depth_and_in_any_spelling() {
        assert_eq!(found(r#"{"a":1,"a":1}"#).as_deref(), Some("a"));
        assert_eq!(
            found(r#"{"a":[0,{"b":{"c":1,"d":null,"\u0063":2.5}}]}"#).as_deref(),
            Some("c")
        );
        let many: Vec<String> = (0..40).map(|at| format!("\"k{at}\":true")).collect();
        assert_eq!(
            found(&format!("{{{},\"k39\":1}}", many.join(","))).as_deref(),
            Some("k39")
        );
    }

    #[test]
    fn a_number_that_no_value_holds_is_found_by_its_names() {
        let found = |text: &str| match defect(serde_json::from_str(text).expect("JSON")) {
            Some(JsonDefect::HugeNumber(path)) => Some(path.join(".")),
            _ => None,
        };
        assert_eq!(found(r#"{"a":[1,{"b":1e400}]}"#).as_deref(), Some("a.1.b"));
        assert_eq!(found("-1e999").as_deref(), Some(""));
        assert_eq!(found(r#"{"a":1e300,"b":123456789012345678901234567890}"#), None);
    }

    #[test]
    fn equal_names_of_different_objects_are_none() {
        assert_eq!(found(r#"{"a":{"a":[{"a":1},{"a":"a"}]},"b":-1}"#), None);
        assert_eq!(found("[1,\"a\",\"a\"]"), None);
        assert!(parse(r#"{"a":1}"#).is_ok() && parse(r#"{"a":1,"a":1}"#).is_err() && parse("{").is_err());
    }
}
