//! What a JSON text is, found out by other means than those under test.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Names of the members of the outermost object, as often as they occur; `None` when it is none.
pub fn members(text: &[u8]) -> Option<Vec<String>> {
    struct MemberNames(Vec<String>);
    struct NamesVisitor;
    impl<'de> Visitor<'de> for NamesVisitor {
        type Value = MemberNames;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<MemberNames, A::Error> {
            let mut names = Vec::new();
            while let Some((name, IgnoredAny)) = map.next_entry()? {
                names.push(name);
            }
            Ok(MemberNames(names))
        }
    }
    impl<'de> Deserialize<'de> for MemberNames {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_map(NamesVisitor)
        }
    }
    serde_json::from_slice::<MemberNames>(text)
        .ok()
        .map(|names| names.0)
}

/// Whether one of the names occurs twice.
pub fn is_doubled(names: &[String]) -> bool {
    names
        .iter()
        .enumerate()
        .any(|(at, name)| names[..at].contains(name))
}

/// Whether an object at any depth has a name twice. For texts that are JSON.
pub fn has_doubles(text: &str) -> bool {
    struct Doubles(bool);
    struct DoublesVisitor;
    impl<'de> Visitor<'de> for DoublesVisitor {
        type Value = Doubles;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("JSON")
        }
        fn visit_unit<E>(self) -> Result<Doubles, E> {
            Ok(Doubles(false))
        }
        fn visit_bool<E>(self, _: bool) -> Result<Doubles, E> {
            Ok(Doubles(false))
        }
        fn visit_i64<E>(self, _: i64) -> Result<Doubles, E> {
            Ok(Doubles(false))
        }
        fn visit_u64<E>(self, _: u64) -> Result<Doubles, E> {
            Ok(Doubles(false))
        }
        fn visit_f64<E>(self, _: f64) -> Result<Doubles, E> {
            Ok(Doubles(false))
        }
        fn visit_str<E>(self, _: &str) -> Result<Doubles, E> {
            Ok(Doubles(false))
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Doubles, A::Error> {
            let mut any = false;
            while let Some(Doubles(found)) = items.next_element()? {
                any |= found;
            }
            Ok(Doubles(any))
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Doubles, A::Error> {
            let (mut names, mut any) = (Vec::new(), false);
            while let Some((name, Doubles(found))) = map.next_entry::<String, Doubles>()? {
                any |= found || names.contains(&name);
                names.push(name);
            }
            Ok(Doubles(any))
        }
    }
    impl<'de> Deserialize<'de> for Doubles {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(DoublesVisitor)
        }
    }
    serde_json::from_str::<Doubles>(text).is_ok_and(|found| found.0)
}

/// Deepest nesting of a text that is JSON.
pub fn depth(text: &[u8]) -> usize {
    let (mut depth, mut deepest, mut at) = (0_usize, 0, 0);
    while at < text.len() {
        match text[at] {
            b'"' => {
                at += 1;
                while at < text.len() && text[at] != b'"' {
                    at += if text[at] == b'\\' { 2 } else { 1 };
                }
            }
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    deepest
}
