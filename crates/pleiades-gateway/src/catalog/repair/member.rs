//! Members of an object that must be of one type.

use serde_json::value::RawValue;

use pleiades_mcp::RawObject;

/// What a JSON value is, by its first character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JsonType {
    Null,
    Bool(bool),
    Number,
    Text,
    Array { is_empty: bool },
    Object,
}

pub(super) fn json_type(value: &RawValue) -> JsonType {
    let text = value.get().trim();
    match text.as_bytes().first() {
        Some(b'{') => JsonType::Object,
        Some(b'[') => JsonType::Array {
            is_empty: text
                .strip_prefix('[')
                .is_some_and(|rest| rest.trim_start() == "]"),
        },
        Some(b'"') => JsonType::Text,
        Some(b't') => JsonType::Bool(true),
        Some(b'f') => JsonType::Bool(false),
        Some(b'n') | None => JsonType::Null,
        Some(_) => JsonType::Number,
    }
}

pub(super) fn is_text(value: &RawValue) -> bool {
    json_type(value) == JsonType::Text
}

pub(super) fn drop_unless_text(of: &mut RawObject, keys: &[&str]) {
    drop_unless(of, keys, is_text);
}

pub(super) fn drop_unless(of: &mut RawObject, keys: &[&str], is_right: impl Fn(&RawValue) -> bool) {
    for key in keys {
        if of.get(key).is_some_and(|value| !is_right(value)) {
            of.remove(key);
        }
    }
}

pub(super) fn drop_unless_integer(of: &mut RawObject, key: &str) {
    drop_unless(of, &[key], |value| value.get().trim().parse::<i64>().is_ok());
}

/// Repairs the members of a member that is an object; anything else than an object is dropped. (PHP
/// writes an empty object as `[]`: it goes, too.)
pub(super) fn repair_member(of: &mut RawObject, key: &str, repair: impl FnOnce(&mut RawObject)) {
    let Some(value) = of.get(key) else { return };
    let opened = match json_type(value) {
        JsonType::Object => RawObject::open(value).ok(),
        _ => None,
    };
    let Some(mut inner) = opened else {
        of.remove(key);
        return;
    };
    let before = inner.close();
    repair(&mut inner);
    let after = inner.close();
    if before.get() != after.get() {
        of.set(key, after);
    }
}
