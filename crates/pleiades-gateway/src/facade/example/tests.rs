use serde_json::json;

use super::*;
use pleiades_mcp::raw::raw;

/// The example of a schema, which fits it.
fn made(schema: &Value) -> Option<Value> {
    let checks = ArgumentValidator::compile(&raw(schema)).expect("a schema that is judged");
    let example = example(schema, Some(&checks))?;
    assert_eq!(checks.fits(&example, Effort::AMPLE), Some(true));
    Some(example)
}

#[test]
fn an_example_has_what_is_required_and_no_more() {
    let schema = json!({ "properties": { "n": { "type": "integer", "minimum": 5 }, "s": { "type": "string" } },
        "required": ["n"] });
    assert_eq!(made(&schema), Some(json!({ "n": 5 })));
}

#[test]
fn references_unions_and_wholes_made_of_parts_are_followed() {
    let node = json!({ "type": "object", "required": ["name", "mode"], "properties": {
        "name": { "type": "string" }, "mode": { "$ref": "#/$defs/mode" }, "next": { "$ref": "#/$defs/node" } } });
    let defs = json!({ "node": node, "mode": { "enum": ["fast", "slow"] } });
    let with = |mut schema: Value| {
        schema["$defs"] = defs.clone();
        made(&schema)
    };
    let filled = json!({ "name": "…", "mode": "fast" });
    for property in [
        json!({ "$ref": "#/$defs/node" }),
        json!({ "anyOf": [{ "type": "null" }, { "$ref": "#/$defs/node" }] }),
        json!({ "allOf": [{ "$ref": "#/$defs/node" }], "description": "a node" }),
        json!({ "oneOf": [{ "$ref": "#/$defs/node" }, { "type": "integer" }] }),
    ] {
        let schema = json!({ "type": "object", "properties": { "node": property }, "required": ["node"] });
        assert_eq!(with(schema), Some(json!({ "node": filled })), "{property}");
    }
    for top in [
        json!({ "$ref": "#/$defs/node" }),
        json!({ "allOf": [{ "$ref": "#/$defs/node" }] }),
        json!({ "type": "object", "anyOf": [{ "$ref": "#/$defs/node" }, { "required": ["x"] }] }),
        json!({ "oneOf": [{ "$ref": "#/$defs/node" }] }),
    ] {
        assert_eq!(with(top.clone()), Some(filled.clone()), "{top}");
    }
}

/// Each property has an example that fits, this one if it is named.
fn are_met(bounds: &[(Value, Option<Value>)]) {
    for (property, expected) in bounds {
        let schema = json!({ "type": "object", "properties": { "v": property }, "required": ["v"] });
        let example = made(&schema).unwrap_or_else(|| panic!("{property} has an example"));
        if let Some(expected) = expected {
            assert_eq!(example["v"], *expected, "{property}");
        }
    }
}

#[test]
fn texts_and_numbers_are_within_every_bound_of_the_schema() {
    are_met(&[
        (json!({ "const": { "a": 1 } }), Some(json!({ "a": 1 }))),
        (
            json!({ "type": "string", "default": "given" }),
            Some(json!("given")),
        ),
        (json!({ "type": "string", "default": 5 }), Some(json!("…"))),
        (json!({ "type": "string", "minLength": 3 }), Some(json!("………"))),
        (json!({ "type": "string", "maxLength": 0 }), Some(json!(""))),
        (
            json!({ "type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}(a|b)?$" }),
            None,
        ),
        (json!({ "type": "string", "pattern": "^https?://.+" }), None),
        (
            json!({ "type": ["null", "integer"], "exclusiveMinimum": 3 }),
            Some(json!(4)),
        ),
        (json!({ "type": "integer", "maximum": -2 }), Some(json!(-2))),
        (
            json!({ "type": "integer", "minimum": 7, "multipleOf": 5 }),
            Some(json!(10)),
        ),
        (
            json!({ "type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1 }),
            Some(json!(0.5)),
        ),
    ]);
}

#[test]
fn lists_and_objects_are_within_every_bound_of_the_schema() {
    are_met(&[
        (
            json!({ "type": "array", "items": { "enum": ["a", "b", "c"] }, "minItems": 2, "uniqueItems": true }),
            Some(json!(["a", "b"])),
        ),
        (
            json!({ "type": "array", "items": { "type": "string" }, "minItems": 3, "uniqueItems": true }),
            None,
        ),
        (
            json!({ "type": "array", "items": { "type": "integer" }, "maxItems": 0 }),
            Some(json!([])),
        ),
        (
            json!({ "type": "array", "prefixItems": [{ "type": "integer" }, { "type": "boolean" }], "minItems": 2 }),
            None,
        ),
        (
            json!({ "type": "array", "contains": { "const": 7 } }),
            Some(json!([7])),
        ),
        (
            json!({ "type": "object", "minProperties": 1, "properties": { "a": { "type": "integer" } } }),
            Some(json!({ "a": 1 })),
        ),
        (
            json!({ "type": "object", "required": ["x"], "additionalProperties": { "type": "integer" } }),
            Some(json!({ "x": 1 })),
        ),
        (json!({ "type": "null" }), Some(Value::Null)),
        (
            json!({ "oneOf": [{ "type": "string" }, { "type": "string", "minLength": 1 }, { "type": "integer" }] }),
            Some(json!(1)),
        ),
    ]);
}

#[test]
fn formats_are_followed_where_they_are_checked() {
    for (format, _) in FORMATS {
        let schema = json!({ "$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "required": ["v"],
            "properties": { "v": { "type": "string", "format": format } } });
        assert!(made(&schema).is_some(), "{format}");
    }
}

#[test]
fn what_nothing_fits_or_is_without_end_has_no_example() {
    for schema in [
        json!({ "type": "object", "properties": { "v": { "type": "integer", "minimum": 5, "maximum": 4 } }, "required": ["v"] }),
        json!({ "type": "object", "properties": { "v": { "$ref": "#" } }, "required": ["v"] }),
        json!({ "type": "object", "properties": { "v": { "type": "string", "pattern": "^(){9999}(x{999}){999}$" } }, "required": ["v"] }),
        json!({ "type": "object", "not": {} }),
    ] {
        if let Some(checks) = ArgumentValidator::compile(&raw(&schema)) {
            assert_eq!(example(&schema, Some(&checks)), None, "{schema}");
        }
    }
}

/// The tools of known servers.
#[test]
fn no_known_tool_is_offered_an_example_that_its_schema_refuses() {
    let (mut tools, mut without) = (0, Vec::new());
    for line in include_str!("../../../../../tests/data/meta_tools.jsonl").lines() {
        let tool: Value = serde_json::from_str(line).expect("JSON");
        tools += 1;
        if made(&tool["inputSchema"]).is_none() {
            without.push(tool["name"].to_string());
        }
    }
    assert!(tools > 40 && without.is_empty(), "of {tools}: {without:?}");
}
