//! Changes deep inside a message that leave every other byte as it came: a value is opened on the
//! way down and written again only where something below it changed.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Raw, RawObject, raw};

/// Changes the object that a member is; `change` says whether it did. Anything but an object, and
/// an object that stayed as it was, keeps its text.
pub(super) fn member(of: &mut RawObject, key: &str, change: impl FnOnce(&mut RawObject) -> bool) -> bool {
    let Some(mut inner) = of.get(key).and_then(|value| RawObject::open(value).ok()) else {
        return false;
    };
    let changed = change(&mut inner);
    if changed {
        of.set(key, inner.close());
    }
    changed
}

/// Changes the objects of a member that is an array of them; other elements stay.
pub(super) fn elements(
    of: &mut RawObject,
    key: &str,
    mut change: impl FnMut(&mut RawObject) -> bool,
) -> bool {
    rewrite(of, key, |value| {
        let mut inner = RawObject::open(value).ok()?;
        change(&mut inner).then(|| inner.close())
    })
}

/// Changes chosen objects of a member that is an array of them, or one alone. The others are not
/// opened: they may hold megabytes.
pub(super) fn chosen(
    of: &mut RawObject,
    key: &str,
    wanted: impl Fn(&RawValue) -> bool,
    mut change: impl FnMut(&mut RawObject) -> bool,
) -> bool {
    match of.get(key) {
        Some(alone) if is_object(alone) => wanted(alone) && member(of, key, change),
        Some(_) => rewrite(of, key, |value| {
            let mut inner = wanted(value).then(|| RawObject::open(value).ok()).flatten()?;
            change(&mut inner).then(|| inner.close())
        }),
        None => false,
    }
}

pub(super) fn kind(block: &RawValue) -> Option<Cow<'_, str>> {
    let block: BlockKind<'_> = serde_json::from_str(block.get()).ok()?;
    Some(block.kind)
}

#[derive(Deserialize)]
struct BlockKind<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
}

fn rewrite(of: &mut RawObject, key: &str, change: impl FnMut(&RawValue) -> Option<Raw>) -> bool {
    let changed = of
        .read::<Vec<&RawValue>>(key)
        .and_then(|values| rewritten(&values, change));
    match changed {
        Some(value) => {
            of.set(key, value);
            true
        }
        None => false,
    }
}

fn rewritten(values: &[&RawValue], mut change: impl FnMut(&RawValue) -> Option<Raw>) -> Option<Raw> {
    let changes: Vec<Option<Raw>> = values.iter().map(|value| change(value)).collect();
    if changes.iter().all(Option::is_none) {
        return None;
    }
    let merged: Vec<&RawValue> = values
        .iter()
        .zip(&changes)
        .map(|(old, new)| new.as_deref().unwrap_or(old))
        .collect();
    Some(raw::raw(&merged))
}

pub(super) fn remove(of: &mut RawObject, keys: &[&str]) -> bool {
    let before = of.len();
    of.retain(|key| !keys.contains(&key));
    of.len() != before
}

pub(super) fn is_object(value: &RawValue) -> bool {
    value.get().trim_start().starts_with('{')
}

pub(super) fn is_array(value: &RawValue) -> bool {
    value.get().trim_start().starts_with('[')
}

/// Takes from `_meta` what concerns one hop: keys of the protocol itself and the token of a
/// progress that is told here under another one. A `_meta` that held nothing else goes.
pub(super) fn strip_hop_meta(of: &mut RawObject) {
    let mut empty = false;
    let changed = member(of, "_meta", |meta| {
        let before = meta.len();
        meta.retain(|key| !key.starts_with(PROTOCOL) && key != "progressToken");
        empty = meta.is_empty();
        meta.len() != before
    });
    if changed && empty {
        of.remove("_meta");
    }
}

const PROTOCOL: &str = "io.modelcontextprotocol/";
