use serde_json::{Value, json};

use super::*;
use pleiades_mcp::raw::raw;

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
    let entry =
        json!({ "name": "p", "arguments": [null, { "name": "a", "description": null, "required": "yes" }] });
    assert_eq!(
        repaired(ListKind::Prompts, entry),
        Ok(json!({ "name": "p", "arguments": [{ "name": "a" }] }))
    );
}
