//! JSON that is passed on as it came: values kept as text, objects opened one level.

use std::{borrow::Cow, collections::HashMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
    ser::SerializeMap,
};
use serde_json::value::RawValue;

/// A JSON value kept as the text it came in.
pub type Raw = Box<RawValue>;

/// A JSON object opened one level: members in their order, values untouched, so that unknown
/// fields survive a change of one of them. A key that occurs twice keeps its last value.
#[derive(Debug, Clone, Default)]
pub struct RawObject(Vec<(Box<str>, Raw)>, Option<Box<str>>);

impl RawObject {
    /// An empty object.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new(), None)
    }

    /// Opens an object; anything else is an error.
    ///
    /// # Errors
    /// When the text is not a JSON object.
    pub fn open(raw: &RawValue) -> serde_json::Result<Self> {
        serde_json::from_str(raw.get())
    }

    /// A name that occurred twice in the text that was opened.
    #[must_use]
    pub fn doubled(&self) -> Option<&str> {
        self.1.as_deref()
    }

    /// A member's value.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&RawValue> {
        self.0
            .iter()
            .find(|(name, _)| &**name == key)
            .map(|(_, value)| &**value)
    }

    /// A member read as a type; absent or of another shape is `None`.
    #[must_use]
    pub fn read<'a, T: Deserialize<'a>>(&'a self, key: &str) -> Option<T> {
        self.get(key).and_then(|raw| serde_json::from_str(raw.get()).ok())
    }

    /// A member that is a string; borrowed when it holds no escapes.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<Cow<'_, str>> {
        self.get(key).and_then(text)
    }

    /// Sets a member in its place, or appends it.
    pub fn set(&mut self, key: &str, value: Raw) {
        match self.0.iter_mut().find(|(name, _)| &**name == key) {
            Some((_, slot)) => *slot = value,
            None => self.0.push((key.into(), value)),
        }
    }

    /// Sets a member from anything that serialises; a value that cannot be written is left out.
    pub fn put<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) {
        if let Ok(raw) = serde_json::value::to_raw_value(value) {
            self.set(key, raw);
        }
    }

    /// Removes a member and hands it out.
    pub fn remove(&mut self, key: &str) -> Option<Raw> {
        let at = self.0.iter().position(|(name, _)| &**name == key)?;
        Some(self.0.remove(at).1)
    }

    /// An object of members whose names are known to differ, such as those of another object.
    #[must_use]
    pub(super) fn of_distinct(members: Vec<(Box<str>, Raw)>) -> Self {
        Self(members, None)
    }

    /// Keeps the members whose names are wanted.
    pub fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        self.0.retain(|(name, _)| wanted(name));
    }

    /// Members in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Number of members.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The object as one raw value.
    #[must_use]
    pub fn close(&self) -> Raw {
        serde_json::value::to_raw_value(self).unwrap_or_else(|_| null())
    }
}

/// The JSON value `null`.
#[must_use]
pub fn null() -> Raw {
    RawValue::NULL.to_owned()
}

/// A raw value from anything that serialises; what cannot be written becomes `null`.
pub fn raw<T: Serialize + ?Sized>(value: &T) -> Raw {
    serde_json::value::to_raw_value(value).unwrap_or_else(|_| null())
}

/// The string that a raw value is; borrowed when it holds no escapes.
#[must_use]
pub fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        return serde_json::from_str(raw.get()).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inner))
}

/// JSON text in which every escape of half a character is that of U+FFFD.
///
/// Such a lone surrogate, as a text has that was cut within an emoji, is grammar, but no text can hold
/// it (RFC 8259, section 8.2). Borrowed when there is none, which a look at the backslashes tells.
#[must_use]
pub fn repair_surrogates(json: &str) -> Cow<'_, str> {
    let mut repaired = String::new();
    let (mut kept, mut at) = (0, 0);
    while let Some(next) = json.get(at..).and_then(|rest| rest.find('\\')) {
        let escape = at + next;
        at = match half(json, escape) {
            None => escape + 2,
            Some(Half::High) if half(json, escape + 6) == Some(Half::Low) => escape + 12,
            Some(_) => {
                repaired.push_str(json.get(kept..escape).unwrap_or_default());
                repaired.push_str("\\ufffd");
                kept = escape + 6;
                kept
            }
        };
    }
    if kept == 0 {
        return Cow::Borrowed(json);
    }
    repaired.push_str(json.get(kept..).unwrap_or_default());
    Cow::Owned(repaired)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    High,
    Low,
}

/// The half of a surrogate pair whose escape (`\ud83d`) begins at `at`.
fn half(json: &str, at: usize) -> Option<Half> {
    let digits = json.get(at..at + 6)?.strip_prefix("\\u")?;
    match u16::from_str_radix(digits, 16).ok()? {
        0xd800..=0xdbff => Some(Half::High),
        0xdc00..=0xdfff => Some(Half::Low),
        _ => None,
    }
}

impl Serialize for RawObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for RawObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

/// Members among which a double is searched one by one; beyond them an index is kept, so that an
/// object of a million members costs no more than its length.
const SEARCHED: usize = 32;

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = RawObject;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawObject, A::Error> {
        let mut object = RawObject(Vec::with_capacity(map.size_hint().unwrap_or(8)), None);
        let mut index: HashMap<Box<str>, usize> = HashMap::new();
        while let Some((key, value)) = map.next_entry::<Box<str>, Raw>()? {
            if object.len() == SEARCHED && index.is_empty() {
                index = object
                    .0
                    .iter()
                    .enumerate()
                    .map(|(at, (key, _))| (key.clone(), at))
                    .collect();
            }
            let at = match object.len() < SEARCHED {
                true => object.0.iter().position(|(name, _)| *name == key),
                false => index.get(&key).copied(),
            };
            if let Some((_, slot)) = at.and_then(|at| object.0.get_mut(at)) {
                *slot = value;
                object.1.get_or_insert(key);
                continue;
            }
            if object.len() >= SEARCHED {
                index.insert(key.clone(), object.len());
            }
            object.0.push((key, value));
        }
        Ok(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &str) -> RawObject {
        serde_json::from_str(text).expect("an object")
    }

    #[test]
    fn members_stay_in_order_and_as_they_came() {
        let mut object = open(r#"{"b": 1.0,"a":[ 1 ],"c":"x\u0041"}"#);
        object.put("a", &2);
        assert_eq!(object.close().get(), r#"{"b":1.0,"a":2,"c":"x\u0041"}"#);
        assert_eq!(object.text("c").as_deref(), Some("xA"));
    }

    #[test]
    fn half_a_character_becomes_the_replacement_character_and_every_other_byte_stays() {
        for (json, expected) in [
            (r#"{"a":"cut \ud83d"}"#, r#"{"a":"cut \ufffd"}"#),
            (
                r#"["\uDE00x\ud83d\ud83d\ude00"]"#,
                r#"["\ufffdx\ufffd\ud83d\ude00"]"#,
            ),
            (r#"{"\udfff":"\ud83d\n\ud83"}"#, r#"{"\ufffd":"\ufffd\n\ud83"}"#),
            (r#""\\ud83d \\\ud83d""#, r#""\\ud83d \\\ufffd""#),
        ] {
            assert_eq!(repair_surrogates(json), expected);
        }
        for whole in [r#""\ud83d\ude00 \u00e4 é \"q\" \\""#, "[1.50]", ""] {
            assert!(
                matches!(repair_surrogates(whole), Cow::Borrowed(text) if text == whole),
                "{whole}"
            );
        }
    }

    #[test]
    fn the_last_of_two_equal_keys_counts_in_small_and_in_large_objects() {
        assert_eq!(open(r#"{"a":1,"b":2,"a":3}"#).close().get(), r#"{"a":3,"b":2}"#);
        let many: Vec<String> = (0..200_000).map(|n| format!("\"k{n}\":{n}")).collect();
        let object = open(&format!("{{{},\"k5\":0,\"k199999\":0}}", many.join(",")));
        assert_eq!(object.len(), 200_000);
        assert_eq!((object.read("k5"), object.read("k199999")), (Some(0), Some(0)));
    }
}
