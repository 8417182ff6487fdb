use serde_json::json;

use super::*;
use pleiades_mcp::raw::raw;

fn checks(schema: &Value) -> Option<ArgumentValidator> {
    ArgumentValidator::compile(&raw(schema))
}

fn ample(schema: &Value, arguments: &Value) -> Option<bool> {
    checks(schema).and_then(|checks| checks.fits(arguments, Effort::AMPLE))
}

/// `keyword` of two references to the next level, `levels` deep.
fn doubling(keyword: &str, levels: usize) -> Value {
    let mut defs = serde_json::Map::new();
    for level in 0..levels {
        let next = json!({ "$ref": format!("#/$defs/l{}", level + 1) });
        defs.insert(format!("l{level}"), json!({ keyword: [next, next] }));
    }
    defs.insert(format!("l{levels}"), json!({ "type": "string", "minLength": 9 }));
    json!({ "type": "object", "properties": { "v": { "$ref": "#/$defs/l0" } }, "$defs": defs })
}

#[test]
fn a_schema_that_doubles_its_work_at_each_level_is_given_up_and_a_small_one_is_judged() {
    for keyword in ["anyOf", "oneOf", "allOf"] {
        let small = doubling(keyword, 3);
        assert_eq!(ample(&small, &json!({ "v": "x" })), Some(false), "{keyword}");
        for levels in [20, 60, 400] {
            assert_eq!(
                ample(&doubling(keyword, levels), &json!({ "v": "x" })),
                None,
                "{keyword} {levels}"
            );
            assert_eq!(
                ample(&doubling(keyword, levels), &json!({ "v": [[1]] })),
                None,
                "{keyword} {levels}"
            );
        }
    }
}

#[test]
fn work_that_grows_through_members_and_items_is_counted_too() {
    for wrap in [
        |next: Value| json!({ "properties": { "a": next.clone() }, "additionalProperties": next }),
        |next: Value| json!({ "items": next.clone(), "contains": next }),
        |next: Value| json!({ "if": next.clone(), "then": next.clone(), "else": next }),
        |next: Value| json!({ "not": next.clone(), "dependentSchemas": { "a": next } }),
        |next: Value| json!({ "propertyNames": next.clone(), "patternProperties": { ".": next } }),
    ] {
        let mut defs = serde_json::Map::new();
        for level in 0..22 {
            let next = json!({ "$ref": format!("#/$defs/l{}", level + 1) });
            defs.insert(
                format!("l{level}"),
                json!({ "anyOf": [wrap(next.clone()), wrap(next)] }),
            );
        }
        defs.insert("l22".to_owned(), json!({ "type": "string" }));
        let schema = json!({ "$ref": "#/$defs/l0", "$defs": defs });
        let mut object = json!({ "a": 1 });
        let mut list = json!([1]);
        for _ in 0..30 {
            object = json!({ "a": object });
            list = json!([list]);
        }
        for value in [object, list] {
            // Given up, or done: what matters is that it ends.
            ample(&schema, &value);
        }
    }
}

#[test]
fn many_values_against_many_branches_are_not_listed_one_by_one() {
    let branches: Vec<Value> = (0..60).map(|_| json!({ "type": "string" })).collect();
    let schema = json!({ "type": "object", "properties": { "v": { "type": "array", "items": { "anyOf": branches } } } });
    let checks = checks(&schema).unwrap();
    let of = |count: usize| json!({ "v": vec![1; count] });
    assert_eq!(checks.fits(&of(10), Effort::AMPLE), Some(false));
    assert!(
        checks
            .errors(&of(10))
            .is_some_and(|mut errors| errors.next().is_some())
    );
    assert!(checks.errors(&of(65_000)).is_none());
}

#[test]
fn what_is_too_big_or_leads_elsewhere_is_not_compiled() {
    let nested = |levels: usize| (0..levels).fold(json!({}), |schema, _| json!({ "items": schema }));
    let chain = |levels: usize| {
        let defs: serde_json::Map<String, Value> = (0..levels)
            .map(|at| {
                let next = json!({ "$ref": format!("#/$defs/l{}", (at + 1).min(levels - 1)) });
                (format!("l{at}"), json!({ "properties": { "a": next } }))
            })
            .collect();
        json!({ "$ref": "#/$defs/l0", "$defs": defs })
    };
    let wide: serde_json::Map<String, Value> = (0..5_000).map(|at| (format!("p{at}"), json!({}))).collect();
    let patterns: Vec<Value> = (0..100)
        .map(|at| json!({ "pattern": format!("^{at}") }))
        .collect();
    let lists: Vec<Value> = (0..20_000).map(|at| json!([at])).collect();
    for (name, schema) in [
        ("text", json!({ "description": "x".repeat(MAX_SCHEMA) })),
        ("depth", nested(80)),
        ("a chain of references", chain(200)),
        ("places", json!({ "properties": wide })),
        ("patterns", json!({ "anyOf": patterns })),
        (
            "a pattern that grows",
            json!({ "not": { "pattern": "((a{99}){99}){99}" } }),
        ),
        ("enum", json!({ "enum": lists })),
        (
            "another document",
            json!({ "$ref": "https://example.com/schema.json" }),
        ),
        (
            "an anchor",
            json!({ "$ref": "#a", "$defs": { "a": { "$anchor": "a" } } }),
        ),
        ("a dynamic reference", json!({ "$dynamicRef": "#a" })),
        ("a circle in place", json!({ "allOf": [{ "$ref": "#" }] })),
        ("nowhere", json!({ "$ref": "#/$defs/none" })),
        ("no schema", json!("text")),
    ] {
        assert!(checks(&schema).is_none(), "{name}");
    }
    assert!(checks(&nested(40)).is_some() && checks(&chain(20)).is_some());
}

#[test]
fn a_recursive_schema_is_judged_down_to_a_depth() {
    let tree = json!({ "$ref": "#/$defs/node", "$defs": { "node": { "type": "object", "required": ["n"],
        "properties": { "n": { "type": "integer" }, "children": { "type": "array", "items": { "$ref": "#/$defs/node" } } } } } });
    let leaf = |n: Value| json!({ "n": n });
    assert_eq!(
        ample(
            &tree,
            &json!({ "n": 1, "children": [leaf(json!(2)), leaf(json!(3))] })
        ),
        Some(true)
    );
    assert_eq!(
        ample(&tree, &json!({ "n": 1, "children": [leaf(json!("2"))] })),
        Some(false)
    );
    let deep = (0..60).fold(leaf(json!(0)), |inner, _| json!({ "n": 1, "children": [inner] }));
    assert!(ample(&tree, &deep).is_none_or(|fits| fits));
}

#[test]
fn equal_hashes_long_texts_and_costly_patterns_are_counted() {
    let unique = json!({ "type": "object", "properties": { "v": { "type": "array", "uniqueItems": true } } });
    let lists: Vec<Value> = (0..8_000)
        .map(|at| Value::Array(vec![json!([]); at % 9]))
        .collect();
    assert_eq!(ample(&unique, &json!({ "v": lists })), None);
    assert_eq!(
        ample(&unique, &json!({ "v": (0..8_000).collect::<Vec<_>>() })),
        Some(true)
    );
    let pattern = |pattern: &str| json!({ "properties": { "v": { "type": "string", "pattern": pattern } } });
    let long = json!({ "v": "a".repeat(200_000) });
    assert_eq!(ample(&pattern("^[a-z]+$"), &long), Some(true));
    assert_eq!(ample(&pattern("(a|aa|aaa){40}(b|a){40}c$"), &long), None);
}

#[test]
fn a_pattern_that_no_linear_engine_knows_is_the_providers_to_judge() {
    let schema = json!({ "type": "object", "properties": { "v": { "type": "string", "pattern": "^(?!a).*$" }, "n": { "type": "integer" } } });
    assert_eq!(ample(&schema, &json!({ "v": "a" })), Some(true));
    assert_eq!(ample(&schema, &json!({ "v": "a", "n": "1" })), Some(false));
    let turned = json!({ "properties": { "v": { "not": { "pattern": "^(?!a).*$" } } } });
    assert!(
        checks(&turned).is_none(),
        "without the pattern it would refuse everything"
    );
}
