//! Content blocks as an older revision knows them.

use std::mem;

use serde_json::{json, value::RawValue};

use crate::{RawObject, Revision, edit, raw};

/// Kinds of blocks and the revision that brought them.
const KINDS: [(&str, Revision); 5] = [
    ("text", Revision::V2024_11_05),
    ("image", Revision::V2024_11_05),
    ("resource", Revision::V2024_11_05),
    ("audio", Revision::V2025_03_26),
    ("resource_link", Revision::V2025_06_18),
];

/// Makes of the blocks of a newer result what a peer of `to` knows. A block of a kind that it does
/// not know becomes text that holds the block, so that nothing is lost and the rest can be read.
pub(super) fn downgrade(method: &str, result: &mut RawObject, to: Revision) {
    let knows = |kind: &str| KINDS.iter().any(|(known, since)| *known == kind && *since <= to);
    let wanted =
        |block: &RawValue| edit::kind(block).is_some_and(|kind| kind == "resource_link" || !knows(&kind));
    let change = |block: &mut RawObject| {
        if block.text("type").is_some_and(|kind| knows(&kind)) {
            return to < Revision::V2025_11_25 && block.remove("icons").is_some();
        }
        let original = mem::take(block).close();
        block.put("type", "text");
        block.put("text", original.get());
        true
    };
    match method {
        "tools/call" | "tasks/result" => {
            edit::chosen(result, "content", wanted, change);
        }
        "prompts/get" => {
            edit::elements(result, "messages", |it| {
                edit::chosen(it, "content", wanted, change)
            });
        }
        _ => {}
    }
}

/// Leaves of `structuredContent` what revisions before 2026-07-28 know, an object. Other values are
/// written as text when the result holds nothing else.
pub(super) fn structured_objects(result: &mut RawObject) {
    let other = result
        .get("structuredContent")
        .filter(|value| !edit::is_object(value))
        .map(|value| value.get().to_owned());
    let Some(value) = other else { return };
    result.remove("structuredContent");
    let says_more = result
        .read::<Vec<&RawValue>>("content")
        .is_some_and(|blocks| !blocks.is_empty());
    if !says_more {
        result.set("content", raw::raw(&json!([{ "type": "text", "text": value }])));
    }
}
