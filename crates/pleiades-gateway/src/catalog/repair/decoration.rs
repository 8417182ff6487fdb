//! What only decorates an entry: dropped where it is of the wrong shape.

use super::member::{JsonType, drop_unless, drop_unless_text, is_text, json_type};
use super::moment::is_moment;
use pleiades_mcp::{Raw, RawObject, raw::raw};

/// Icons of one entry that are kept.
const ICONS: usize = 8;

pub(super) fn tool_annotations(annotations: &mut RawObject) {
    drop_unless_text(annotations, &["title"]);
    let switches = [
        "readOnlyHint",
        "destructiveHint",
        "idempotentHint",
        "openWorldHint",
        "read_only_hint",
        "destructive_hint",
        "idempotent_hint",
        "open_world_hint",
    ];
    drop_unless(annotations, &switches, |value| {
        matches!(json_type(value), JsonType::Bool(_))
    });
}

pub(super) fn resource_annotations(annotations: &mut RawObject) {
    drop_unless(annotations, &["audience"], |value| {
        let roles = serde_json::from_str::<Vec<String>>(value.get());
        roles.is_ok_and(|roles| roles.iter().all(|role| matches!(&**role, "user" | "assistant")))
    });
    drop_unless(annotations, &["priority"], |value| {
        let priority = value.get().trim().parse::<f64>();
        priority.is_ok_and(|priority| (0.0..=1.0).contains(&priority))
    });
    drop_unless(annotations, &["lastModified", "last_modified"], |value| {
        serde_json::from_str::<String>(value.get()).is_ok_and(|text| is_moment(&text))
    });
}

/// The first icons that name an image.
pub(super) fn icons(entry: &mut RawObject) {
    let Some(icons) = entry.get("icons") else { return };
    let all: Vec<Raw> = serde_json::from_str(icons.get()).unwrap_or_default();
    let valid: Vec<RawObject> = all
        .iter()
        .filter_map(|icon| RawObject::open(icon).ok())
        .filter(|icon| icon.get("src").is_some_and(is_text))
        .take(ICONS)
        .map(icon)
        .collect();
    if valid.is_empty() {
        entry.remove("icons");
        return;
    }
    let valid = raw(&valid);
    if valid.get() != icons.get() {
        entry.set("icons", valid);
    }
}

fn icon(mut icon: RawObject) -> RawObject {
    drop_unless_text(&mut icon, &["mimeType", "mime_type"]);
    drop_unless(&mut icon, &["sizes"], |sizes| {
        serde_json::from_str::<Vec<String>>(sizes.get()).is_ok()
    });
    drop_unless(&mut icon, &["theme"], |theme| {
        matches!(theme.get(), r#""light""# | r#""dark""#)
    });
    icon
}
