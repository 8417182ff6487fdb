//! Definitions as the MCP schema of every revision takes them. What has one meaning is mended, what
//! only decorates is dropped where it is of the wrong shape, and an entry is refused when what it does or
//! takes cannot be told: strict clients give up a whole list for one entry that is not what it must be.
//!
//! Unknown members pass, as everywhere.

use serde_json::{json, value::RawValue};
use url::Url;

use super::lists::ListKind;
use pleiades_core::text::is_hidden;
use pleiades_mcp::raw::raw;
use pleiades_mcp::{Raw, RawObject};

/// Longest URI or template, in bytes (RFC 9110, section 4.1, recommends 8,000 at least).
pub const MAX_URI: usize = 8 * 1024;
/// Icons of one entry that are kept.
const ICONS: usize = 8;
/// Keys of `_meta` that are the gateway's own.
const OURS: &str = "pleiades/";

/// Mends an entry of a list.
///
/// # Errors
/// Why it has to be left out, in words that follow its name.
pub(super) fn repair_entry(list: ListKind, entry: &mut RawObject) -> Result<(), String> {
    strip_hidden(entry, "title");
    match list {
        ListKind::Tools => tool(entry)?,
        ListKind::Resources => {
            let uri = address(entry, "uri")?;
            if Url::parse(&uri).is_err() {
                return Err("its `uri` is none: a scheme is missing, or more".to_owned());
            }
            ensure_name(entry, &uri);
            drop_unless_integer(entry, "size");
            drop_unless_text(entry, &["mimeType", "mime_type"]);
            repair_member(entry, "annotations", resource_annotations);
        }
        ListKind::Templates => {
            let template = address(entry, "uriTemplate")?;
            ensure_name(entry, &template);
            drop_unless_text(entry, &["mimeType", "mime_type"]);
            repair_member(entry, "annotations", resource_annotations);
        }
        ListKind::Prompts => arguments(entry)?,
    }
    drop_unless_text(entry, &["description"]);
    icons(entry);
    repair_member(entry, "_meta", |meta| meta.retain(|key| !key.starts_with(OURS)));
    // One SDK takes this spelling for `_meta`.
    repair_member(entry, "meta", |_| {});
    Ok(())
}

/// What a JSON value is, by its first character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JsonType {
    Null,
    Bool(bool),
    Number,
    Text,
    Array { is_empty: bool },
    Object,
}

fn json_type(value: &RawValue) -> JsonType {
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

fn is_text(value: &RawValue) -> bool {
    json_type(value) == JsonType::Text
}

/// Drops members that must be text and are not.
fn drop_unless_text(of: &mut RawObject, keys: &[&str]) {
    drop_unless(of, keys, is_text);
}

fn drop_unless(of: &mut RawObject, keys: &[&str], is_right: impl Fn(&RawValue) -> bool) {
    for key in keys {
        if of.get(key).is_some_and(|value| !is_right(value)) {
            of.remove(key);
        }
    }
}

fn drop_unless_integer(of: &mut RawObject, key: &str) {
    drop_unless(of, &[key], |value| value.get().trim().parse::<i64>().is_ok());
}

/// A name that is only shown: text, without what cannot be seen.
fn strip_hidden(of: &mut RawObject, key: &str) {
    drop_unless_text(of, &[key]);
    if let Some(text) = of.text(key)
        && text.chars().any(is_hidden)
    {
        let shown: String = text.chars().filter(|it| !is_hidden(*it)).collect();
        of.put(key, &shown);
    }
}

/// A resource without a name is called by its title, else by its address.
fn ensure_name(of: &mut RawObject, address: &str) {
    strip_hidden(of, "name");
    if of.get("name").is_none() {
        let title = of.text("title").map(std::borrow::Cow::into_owned);
        of.put("name", title.as_deref().unwrap_or(address));
    }
}

/// An object member with its own members mended; anything else than an object is dropped. (PHP writes
/// an empty object as `[]`: it goes, too.)
fn repair_member(of: &mut RawObject, key: &str, mend: impl FnOnce(&mut RawObject)) {
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
    mend(&mut inner);
    let after = inner.close();
    if before.get() != after.get() {
        of.set(key, after);
    }
}

fn address(of: &RawObject, key: &str) -> Result<String, String> {
    let Some(address) = of.text(key) else {
        return Err(format!("it has no `{key}`"));
    };
    if address.is_empty() || address.len() > MAX_URI {
        return Err(format!("its `{key}` is empty or longer than {MAX_URI} bytes"));
    }
    if address.chars().any(is_hidden) {
        return Err(format!("its `{key}` holds characters that cannot be seen"));
    }
    Ok(address.into_owned())
}

fn tool(entry: &mut RawObject) -> Result<(), String> {
    if let Some(schema) = input_schema(entry.get("inputSchema"))? {
        entry.set("inputSchema", schema);
    }
    match entry.get("outputSchema").map(output_schema) {
        None | Some(Some(None)) => {}
        Some(Some(Some(schema))) => entry.set("outputSchema", schema),
        // What a result holds is seen when it comes.
        Some(None) => {
            entry.remove("outputSchema");
        }
    }
    // One SDK takes these spellings for its own.
    entry.retain(|key| !matches!(key, "input_schema" | "output_schema"));
    repair_member(entry, "annotations", tool_annotations);
    repair_member(entry, "execution", |execution| {
        drop_unless(execution, &["taskSupport", "task_support"], |value| {
            matches!(value.get(), r#""required""# | r#""optional""# | r#""forbidden""#)
        });
    });
    Ok(())
}

/// The schema of a tool's arguments, where it has to be another than it is.
fn input_schema(schema: Option<&RawValue>) -> Result<Option<Raw>, String> {
    let Some(schema) = schema else {
        return Ok(Some(anything()));
    };
    match json_type(schema) {
        JsonType::Null | JsonType::Bool(true) | JsonType::Array { is_empty: true } => Ok(Some(anything())),
        JsonType::Object => object_schema(schema, true).map_err(|why| format!("its `inputSchema` {why}")),
        JsonType::Bool(false) => Err("its `inputSchema` takes no arguments at all".to_owned()),
        JsonType::Number | JsonType::Text | JsonType::Array { .. } => {
            Err("its `inputSchema` is no schema".to_owned())
        }
    }
}

/// The schema of a tool's results: `None` when it is none; `Some(None)` when it stays.
fn output_schema(schema: &RawValue) -> Option<Option<Raw>> {
    match json_type(schema) {
        JsonType::Object => object_schema(schema, false).ok(),
        _ => None,
    }
}

fn anything() -> Raw {
    raw(&json!({ "type": "object" }))
}

/// Mends the schema of an object. `typed`: it describes one, whether it says so or not.
fn object_schema(schema: &RawValue, typed: bool) -> Result<Option<Raw>, String> {
    let mut schema = RawObject::open(schema).map_err(|_cause| "cannot be read".to_owned())?;
    let mut changed = schema.doubled().is_some();
    let nulls: Vec<String> = schema
        .iter()
        .filter(|(key, value)| value.get() == "null" && !matches!(*key, "default" | "const"))
        .map(|(key, _)| key.to_owned())
        .collect();
    changed |= !nulls.is_empty();
    schema.retain(|key| !nulls.iter().any(|null| null == key));
    if schema.get("$schema").is_some_and(|value| !is_text(value)) {
        schema.remove("$schema");
        changed = true;
    }
    if schema.remove("schema_").is_some() {
        changed = true;
    }
    let kind = declared_type(schema.get("type"))?;
    match kind {
        DeclaredType::Object => {}
        DeclaredType::Union => {
            schema.put("type", "object");
            changed = true;
        }
        DeclaredType::Absent if typed => {
            schema.put("type", "object");
            changed = true;
        }
        DeclaredType::Absent => {}
        // What a result is may be anything in newer revisions; older clients are not told of it.
        DeclaredType::Other if !typed => return Ok(changed.then(|| schema.close())),
        DeclaredType::Other => return Err("is not that of an object".to_owned()),
    }
    if let Some(properties) = properties(schema.get("properties"))? {
        schema.set("properties", properties);
        changed = true;
    }
    if let Some(required) = required(schema.get("required"))? {
        schema.set("required", required);
        changed = true;
    }
    Ok(changed.then(|| schema.close()))
}

/// What a schema says that it describes.
enum DeclaredType {
    Object,
    /// An object among others.
    Union,
    Absent,
    Other,
}

fn declared_type(kind: Option<&RawValue>) -> Result<DeclaredType, String> {
    let Some(kind) = kind else {
        return Ok(DeclaredType::Absent);
    };
    match json_type(kind) {
        JsonType::Text if kind.get() == r#""object""# => Ok(DeclaredType::Object),
        JsonType::Text => Ok(DeclaredType::Other),
        JsonType::Array { .. } => match serde_json::from_str::<Vec<String>>(kind.get()) {
            Ok(kinds) if kinds.iter().any(|kind| kind == "object") => Ok(DeclaredType::Union),
            Ok(_) => Ok(DeclaredType::Other),
            Err(_) => Err("has a `type` that is none".to_owned()),
        },
        JsonType::Null | JsonType::Bool(_) | JsonType::Number | JsonType::Object => {
            Err("has a `type` that is none".to_owned())
        }
    }
}

/// Properties, where they have to be others than they are: a schema may be `true` or `false`, for which
/// some clients want an object.
fn properties(properties: Option<&RawValue>) -> Result<Option<Raw>, String> {
    let Some(properties) = properties else {
        return Ok(None);
    };
    match json_type(properties) {
        JsonType::Object => {}
        JsonType::Array { is_empty: true } => return Ok(Some(raw(&json!({})))),
        _ => return Err("has `properties` that are no object".to_owned()),
    }
    let mut all =
        RawObject::open(properties).map_err(|_cause| "has `properties` that cannot be read".to_owned())?;
    let mut changed = all.doubled().is_some();
    let mut repaired: Vec<(String, Raw)> = Vec::new();
    for (name, schema) in all.iter() {
        match json_type(schema) {
            JsonType::Object => {}
            JsonType::Null | JsonType::Bool(true) | JsonType::Array { is_empty: true } => {
                repaired.push((name.to_owned(), raw(&json!({}))));
            }
            JsonType::Bool(false) => repaired.push((name.to_owned(), raw(&json!({ "not": {} })))),
            JsonType::Number | JsonType::Text | JsonType::Array { .. } => {
                return Err("has a property whose schema is none".to_owned());
            }
        }
    }
    changed |= !repaired.is_empty();
    for (name, schema) in repaired {
        all.set(&name, schema);
    }
    Ok(changed.then(|| all.close()))
}

/// The names of required properties, where they have to be others than they are.
fn required(required: Option<&RawValue>) -> Result<Option<Raw>, String> {
    let Some(required) = required else {
        return Ok(None);
    };
    let names: Vec<Option<String>> = serde_json::from_str(required.get())
        .map_err(|_cause| "has a `required` that is no list of names".to_owned())?;
    if names.iter().all(Option::is_some) {
        return Ok(None);
    }
    let names: Vec<String> = names.into_iter().flatten().collect();
    Ok(Some(raw(&names)))
}

fn tool_annotations(annotations: &mut RawObject) {
    strip_hidden(annotations, "title");
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

fn resource_annotations(annotations: &mut RawObject) {
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

/// Whether a text is a moment as every client reads it: `2025-01-12T15:00:58Z` (RFC 3339, section 5.6,
/// with `T` and `Z` in capitals).
fn is_moment(text: &str) -> bool {
    let Some((date, rest)) = text.split_once('T') else {
        return false;
    };
    let (time, zone) = match rest.strip_suffix('Z') {
        Some(time) => (time, None),
        None => match rest.find(['+', '-']) {
            Some(at) => (rest.get(..at).unwrap_or_default(), rest.get(at + 1..)),
            None => return false,
        },
    };
    is_date(date) && is_clock(time, true) && zone.is_none_or(|zone| is_clock(zone, false))
}

fn is_date(date: &str) -> bool {
    let Some([year, month, day]) = numbers(date, '-', &[4, 2, 2]) else {
        return false;
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return false,
    };
    (1..=days).contains(&day)
}

fn is_clock(clock: &str, seconds: bool) -> bool {
    let (clock, fraction) = match clock.split_once('.') {
        Some((clock, fraction)) => (clock, Some(fraction)),
        None => (clock, None),
    };
    if !seconds {
        return fraction.is_none()
            && numbers(clock, ':', &[2, 2]).is_some_and(|[hour, minute]| hour < 24 && minute < 60);
    }
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    fraction.is_none_or(digits)
        && numbers(clock, ':', &[2, 2, 2])
            .is_some_and(|[hour, minute, second]| hour < 24 && minute < 60 && second < 60)
}

/// Numbers of so many digits each, with this between them.
fn numbers<const N: usize>(text: &str, between: char, digits: &[usize; N]) -> Option<[u32; N]> {
    let mut found = [0; N];
    let mut parts = text.split(between);
    for (slot, digits) in found.iter_mut().zip(digits) {
        let part = parts.next()?;
        if part.len() != *digits || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *slot = part.parse().ok()?;
    }
    parts.next().is_none().then_some(found)
}

fn icons(entry: &mut RawObject) {
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

/// The arguments of a prompt: which there are decides what it is.
fn arguments(entry: &mut RawObject) -> Result<(), String> {
    let Some(given) = entry.get("arguments") else {
        return Ok(());
    };
    let given: Vec<Raw> = match json_type(given) {
        JsonType::Null => Vec::new(),
        JsonType::Object if RawObject::open(given).is_ok_and(|it| it.is_empty()) => Vec::new(),
        JsonType::Array { .. } => {
            serde_json::from_str(given.get()).map_err(|_cause| "its `arguments` cannot be read".to_owned())?
        }
        _ => return Err("its `arguments` are no list".to_owned()),
    };
    if given.is_empty() {
        entry.remove("arguments");
        return Ok(());
    }
    let mut arguments = Vec::with_capacity(given.len());
    for argument in &given {
        let mut argument = match json_type(argument) {
            JsonType::Null => continue,
            JsonType::Object => RawObject::open(argument).map_err(|_cause| nameless())?,
            _ => return Err(nameless()),
        };
        if !argument.get("name").is_some_and(is_text) {
            return Err(nameless());
        }
        strip_hidden(&mut argument, "title");
        drop_unless_text(&mut argument, &["description"]);
        drop_unless(&mut argument, &["required"], |value| {
            matches!(json_type(value), JsonType::Bool(_))
        });
        arguments.push(argument);
    }
    entry.put("arguments", &arguments);
    Ok(())
}

fn nameless() -> String {
    "one of its `arguments` has no name".to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn repaired(list: ListKind, entry: Value) -> Result<Value, String> {
        let mut object = RawObject::open(&raw(&entry)).unwrap();
        repair_entry(list, &mut object)?;
        Ok(serde_json::from_str(object.close().get()).unwrap())
    }

    fn schema(schema: Value) -> Result<Value, String> {
        let tool = repaired(ListKind::Tools, json!({ "name": "t", "inputSchema": schema }))?;
        Ok(tool["inputSchema"].clone())
    }

    #[test]
    fn schemas_with_one_meaning_are_repaired() {
        let anything = json!({ "type": "object" });
        for given in [
            json!(null),
            json!(true),
            json!({}),
            json!([]),
            json!({ "type": null }),
        ] {
            assert_eq!(schema(given.clone()).as_ref(), Ok(&anything), "{given}");
        }
        assert_eq!(
            repaired(ListKind::Tools, json!({ "name": "t" })).unwrap()["inputSchema"],
            anything
        );
        for (given, expected) in [
            (
                json!({ "type": "object", "properties": null, "required": null, "description": null }),
                anything.clone(),
            ),
            (
                json!({ "properties": { "a": { "type": "string" } } }),
                json!({ "properties": { "a": { "type": "string" } }, "type": "object" }),
            ),
            (json!({ "type": ["object", "null"] }), anything),
            (
                json!({ "type": "object", "properties": [] }),
                json!({ "type": "object", "properties": {} }),
            ),
            (
                json!({ "type": "object", "properties": { "a": true, "b": null, "c": false, "d": {} } }),
                json!({ "type": "object", "properties": { "a": {}, "b": {}, "c": { "not": {} }, "d": {} } }),
            ),
            (
                json!({ "type": "object", "required": ["a", null], "$schema": 7 }),
                json!({ "type": "object", "required": ["a"] }),
            ),
            (
                json!({ "anyOf": [{ "type": "object" }] }),
                json!({ "anyOf": [{ "type": "object" }], "type": "object" }),
            ),
        ] {
            assert_eq!(schema(given.clone()), Ok(expected), "{given}");
        }
    }

    #[test]
    fn a_sound_definition_keeps_its_bytes() {
        let text = r#"{"name":"t","title":"T","inputSchema":{ "properties":{"a":{"type":"string"}},"type":"object","default":null, "required":["a"]},"x-unknown":[ null ],"annotations":{"readOnlyHint":true},"_meta":{"a":1}}"#;
        let mut tool: RawObject = serde_json::from_str(text).unwrap();
        repair_entry(ListKind::Tools, &mut tool).unwrap();
        assert_eq!(tool.close().get(), text);
    }

    #[test]
    fn schemas_without_a_meaning_are_refused() {
        for given in [
            json!("text"),
            json!(5),
            json!(false),
            json!([1]),
            json!({ "type": "string" }),
            json!({ "type": 5 }),
            json!({ "type": {} }),
            json!({ "type": ["string"] }),
            json!({ "type": "object", "properties": "x" }),
            json!({ "type": "object", "properties": [1] }),
            json!({ "type": "object", "properties": { "a": "string" } }),
            json!({ "type": "object", "properties": { "a": [1] } }),
            json!({ "type": "object", "required": "a" }),
            json!({ "type": "object", "required": true }),
            json!({ "type": "object", "required": [1] }),
        ] {
            assert!(schema(given.clone()).is_err(), "{given}");
        }
    }

    #[test]
    fn what_only_decorates_is_dropped_where_it_is_of_another_shape() {
        let plain = json!({ "name": "t", "inputSchema": { "type": "object" } });
        for (member, value) in [
            ("title", json!(null)),
            ("title", json!(5)),
            ("description", json!(null)),
            ("description", json!(["a"])),
            ("annotations", json!(null)),
            ("annotations", json!([])),
            ("annotations", json!("x")),
            ("icons", json!(null)),
            ("icons", json!("x")),
            ("icons", json!([{ "src": 5 }, null])),
            ("_meta", json!(null)),
            ("_meta", json!([])),
            ("meta", json!("x")),
            ("outputSchema", json!(null)),
            ("outputSchema", json!(true)),
            (
                "outputSchema",
                json!({ "type": "object", "properties": { "a": 5 } }),
            ),
            ("execution", json!(null)),
            ("input_schema", json!(5)),
        ] {
            let mut tool = plain.clone();
            tool[member] = value.clone();
            assert_eq!(
                repaired(ListKind::Tools, tool),
                Ok(plain.clone()),
                "{member}: {value}"
            );
        }
    }

    #[test]
    fn members_of_decorations_follow_the_schema_too() {
        let tool = json!({
            "name": "t", "inputSchema": { "type": "object" },
            "annotations": { "readOnlyHint": "true", "title": null, "openWorldHint": true, "own": null },
            "icons": [{ "src": "a", "sizes": "48x48", "theme": "blue", "mimeType": 1 }],
            "_meta": { "pleiades/needs_auth": {}, "own": 1 },
            "outputSchema": { "type": "object", "properties": null },
        });
        let expected = json!({
            "name": "t", "inputSchema": { "type": "object" },
            "annotations": { "openWorldHint": true, "own": null },
            "icons": [{ "src": "a" }],
            "_meta": { "own": 1 },
            "outputSchema": { "type": "object" },
        });
        assert_eq!(repaired(ListKind::Tools, tool), Ok(expected));
    }

    #[test]
    fn resources_are_found_by_a_uri_and_called_by_some_name() {
        for uri in [
            json!(null),
            json!(5),
            json!(""),
            json!("relative/path"),
            json!("a://x\u{202e}y"),
        ] {
            let entry = json!({ "uri": uri, "name": "n" });
            assert!(repaired(ListKind::Resources, entry.clone()).is_err(), "{entry}");
        }
        let long = format!("a://{}", "x".repeat(MAX_URI));
        assert!(repaired(ListKind::Resources, json!({ "uri": long })).is_err());
        let bare = repaired(ListKind::Resources, json!({ "uri": "a://x", "name": null })).unwrap();
        assert_eq!(bare["name"], "a://x");
        let titled = json!({ "uri": "a://x", "title": "T\u{202e}", "size": 1.5, "mimeType": 5 });
        assert_eq!(
            repaired(ListKind::Resources, titled),
            Ok(json!({ "uri": "a://x", "name": "T", "title": "T" }))
        );
        assert!(repaired(ListKind::Templates, json!({ "uriTemplate": "/{x}" })).is_ok());
        assert!(repaired(ListKind::Templates, json!({ "name": "x" })).is_err());
    }

    #[test]
    fn annotations_of_resources_follow_the_schema() {
        let of = |annotations: Value| {
            let entry = json!({ "uri": "a://x", "name": "n", "annotations": annotations });
            repaired(ListKind::Resources, entry).unwrap()["annotations"].clone()
        };
        assert_eq!(
            of(json!({ "audience": ["user", "robot"], "priority": 2, "lastModified": "yesterday" })),
            json!({})
        );
        let good = json!({ "audience": ["user"], "priority": 0.5, "lastModified": "2025-01-12T15:00:58Z" });
        assert_eq!(of(good.clone()), good);
    }

    #[test]
    fn a_moment_is_one_that_every_client_reads() {
        for good in ["2024-02-29T00:00:00Z", "2025-01-12T15:00:58.123+02:00"] {
            assert!(is_moment(good), "{good}");
        }
        for bad in [
            "2025-02-29T00:00:00Z",
            "2025-01-12",
            "2025-01-12 15:00:58Z",
            "2025-01-12T15:00:58",
            "2025-13-01T00:00:00Z",
            "2025-01-12T25:00:00Z",
            "2025-01-12T15:00:58+2",
            "Sun, 12 Jan 2025",
        ] {
            assert!(!is_moment(bad), "{bad}");
        }
    }

    #[test]
    fn prompts_with_arguments_that_are_none_are_refused() {
        for given in [
            json!("x"),
            json!({ "a": 1 }),
            json!([{}]),
            json!(["a"]),
            json!([{ "name": 5 }]),
        ] {
            let entry = json!({ "name": "p", "arguments": given });
            assert!(repaired(ListKind::Prompts, entry.clone()).is_err(), "{entry}");
        }
        for given in [json!(null), json!({}), json!([])] {
            let entry = json!({ "name": "p", "arguments": given });
            assert_eq!(repaired(ListKind::Prompts, entry), Ok(json!({ "name": "p" })));
        }
        let entry = json!({ "name": "p", "arguments": [null, { "name": "a", "description": null, "required": "yes" }] });
        assert_eq!(
            repaired(ListKind::Prompts, entry),
            Ok(json!({ "name": "p", "arguments": [{ "name": "a" }] }))
        );
    }
}
