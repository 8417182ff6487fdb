//! Names that an object says twice: readers differ in which of the values counts, so that nothing
//! is run on them.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// Members among which a double is searched one by one.
const SEARCHED: usize = 16;

/// The first name that an object in a JSON text has twice, at any depth.
pub(super) fn doubled(raw: &RawValue) -> Option<String> {
    let mut found = None;
    let mut reader = serde_json::Deserializer::from_str(raw.get());
    // Whether it is JSON is for others to say.
    Doubles(&mut found).deserialize(&mut reader).ok();
    found
}

/// A JSON text as a value; `None` when it is no JSON, or has a name twice.
pub(super) fn value(text: &str) -> Option<Value> {
    let raw: &RawValue = serde_json::from_str(text).ok()?;
    match doubled(raw) {
        Some(_) => None,
        None => serde_json::from_str(text).ok(),
    }
}

struct Doubles<'a>(&'a mut Option<String>);

impl<'de> DeserializeSeed<'de> for Doubles<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Doubles<'_> {
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
        while items.next_element_seed(Doubles(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut names = Names::default();
        while let Some(name) = map.next_key::<String>()? {
            if !names.insert(&name) {
                self.0.get_or_insert(name);
                return Err(A::Error::custom("found"));
            }
            map.next_value_seed(Doubles(self.0))?;
        }
        Ok(())
    }
}

/// Names seen so far in one object: a list while they are few.
#[derive(Default)]
struct Names {
    few: Vec<String>,
    many: HashSet<String>,
}

impl Names {
    /// Whether the name is new.
    fn insert(&mut self, name: &str) -> bool {
        if self.few.iter().any(|known| known == name) {
            return false;
        }
        if self.few.len() < SEARCHED {
            self.few.push(name.to_owned());
            return true;
        }
        self.many.insert(name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<String> {
        doubled(serde_json::from_str(text).expect("JSON"))
    }

    #[test]
    fn a_name_said_twice_is_found_at_any_depth_and_in_any_spelling() {
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
    fn equal_names_of_different_objects_are_none() {
        assert_eq!(found(r#"{"a":{"a":[{"a":1},{"a":"a"}]},"b":-1}"#), None);
        assert_eq!(found("[1,\"a\",\"a\"]"), None);
        assert!(value(r#"{"a":1}"#).is_some() && value(r#"{"a":1,"a":1}"#).is_none() && value("{").is_none());
    }
}
