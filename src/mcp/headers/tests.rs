use serde_json::json;

use super::*;
use crate::mcp::raw::raw;

fn object(value: serde_json::Value) -> RawObject {
    RawObject::open(&raw(&value)).expect("an object")
}

fn paths(schema: serde_json::Value) -> Result<Vec<MirrorPath>, String> {
    mirror_paths(&raw(&schema))
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        })
        .collect()
}

fn annotated() -> Vec<MirrorPath> {
    paths(json!({"type": "object", "properties": {
        "region": {"type": "string", "x-mcp-header": "Region"},
        "page": {"type": "object", "properties": {"size": {"type": "integer", "x-mcp-header": "Size"}}},
        "dry": {"type": "boolean", "x-mcp-header": "Dry"}}}))
    .expect("valid")
}

#[test]
fn annotations_are_found_through_properties_at_any_depth() {
    let found: Vec<String> = annotated()
        .iter()
        .map(|(path, name)| format!("{}={name}", path.join(".")))
        .collect();
    assert_eq!(found, ["region=Region", "page.size=Size", "dry=Dry"]);
    assert_eq!(paths(json!({"type": "object"})), Ok(Vec::new()));
}

#[test]
fn a_malformed_annotation_condemns_the_tool() {
    let property =
        |schema: serde_json::Value| paths(json!({"type": "object", "properties": {"a": schema}}));
    for schema in [
        json!({"type": "string", "x-mcp-header": ""}),
        json!({"type": "string", "x-mcp-header": "a b"}),
        json!({"type": "string", "x-mcp-header": "a:b"}),
        json!({"type": "string", "x-mcp-header": "é"}),
        json!({"type": "string", "x-mcp-header": "a\r\nb"}),
        json!({"type": "string", "x-mcp-header": 5}),
        json!({"type": "number", "x-mcp-header": "A"}),
        json!({"type": "object", "x-mcp-header": "A"}),
        json!({"type": "array", "x-mcp-header": "A"}),
        json!({"x-mcp-header": "A"}),
        json!({"type": "array", "items": {"type": "string", "x-mcp-header": "A"}}),
        json!({"oneOf": [{"type": "string", "x-mcp-header": "A"}]}),
        json!({"additionalProperties": {"type": "string", "x-mcp-header": "A"}}),
    ] {
        assert!(property(schema.clone()).is_err(), "{schema}");
    }
    let twice = json!({"type": "object", "properties": {
        "a": {"type": "string", "x-mcp-header": "Same"}, "b": {"type": "string", "x-mcp-header": "sAME"}}});
    assert!(paths(twice).is_err());
    assert!(paths(json!({"$defs": {"x": {"type": "string", "x-mcp-header": "A"}}})).is_err());
    assert!(paths(json!({"type": "object", "x-mcp-header": "A"})).is_err());
}

#[test]
fn the_keyword_as_a_property_name_or_a_value_is_no_annotation() {
    let schema = json!({"type": "object", "properties": {"x-mcp-header": {"type": "string", "default": {"x-mcp-header": ""}}}});
    assert_eq!(paths(schema), Ok(Vec::new()));
}

#[test]
fn present_arguments_become_headers() {
    let arguments = object(json!({"region": "süd", "page": {"size": 42.0}, "dry": true}));
    let made: Vec<(String, String)> = mirrored(&annotated(), &arguments)
        .into_iter()
        .map(|(name, value)| (name.to_string(), value.to_str().expect("ASCII").to_owned()))
        .collect();
    let expected = [
        ("mcp-param-region", "=?base64?c8O8ZA==?="),
        ("mcp-param-size", "42"),
        ("mcp-param-dry", "true"),
    ];
    assert_eq!(
        made,
        expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
    assert!(
        mirrored(
            &annotated(),
            &object(json!({"region": null, "page": {"size": [1]}}))
        )
        .is_empty()
    );
}

#[test]
fn any_text_survives_a_header() {
    for text in [
        "",
        "plain",
        "two words",
        " edge",
        "edge ",
        "tab\t",
        "line\nbreak",
        "日本",
        "=?base64?eA==?=",
        "=?base64?x",
    ] {
        let header = encode(text);
        assert!(header.to_str().is_ok(), "{text:?}");
        assert_eq!(decode(&header).expect("valid"), text);
    }
    assert_eq!(encode("two words"), "two words");
    assert_eq!(encode("=?base64?eA==?="), "=?base64?PT9iYXNlNjQ/ZUE9PT89?=");
}

#[test]
fn a_broken_wrapper_is_refused_and_half_a_wrapper_is_literal() {
    for text in ["=?base64?eA=?=", "=?base64?e*==?=", "=?base64?/w==?="] {
        assert_eq!(
            decode(&HeaderValue::from_static(text))
                .expect_err("refused")
                .code,
            Code::HeaderMismatch,
            "{text}"
        );
    }
    for text in ["eA==?=", "=?base64?eA==", "=?BASE64?eA==?="] {
        assert_eq!(
            decode(&HeaderValue::from_static(text)).expect("literal"),
            text
        );
    }
    let bytes = HeaderValue::from_bytes("é".as_bytes()).expect("a header");
    assert!(decode(&bytes).is_err());
}

#[test]
fn headers_must_say_what_the_body_says() {
    let params = object(json!({"_meta": {META_VERSION: "2026-07-28"}, "name": "echo"}));
    let outcome = |pairs: &[(&'static str, &'static str)]| {
        check(&headers(pairs), "tools/call", Some(&params)).map_err(|error| error.code)
    };
    let version = ("mcp-protocol-version", "2026-07-28");
    let method = ("mcp-method", "tools/call");
    assert_eq!(
        outcome(&[version, method, ("mcp-name", "=?base64?ZWNobw==?=")]),
        Ok(())
    );
    for pairs in [
        vec![method, ("mcp-name", "echo")],
        vec![
            ("mcp-protocol-version", "2025-11-25"),
            method,
            ("mcp-name", "echo"),
        ],
        vec![version, ("mcp-name", "echo")],
        vec![version, ("mcp-method", "Tools/Call"), ("mcp-name", "echo")],
        vec![version, method],
        vec![version, method, ("mcp-name", "Echo")],
    ] {
        assert_eq!(outcome(&pairs), Err(Code::HeaderMismatch), "{pairs:?}");
    }
    let mut twice = headers(&[version, method, ("mcp-name", "echo")]);
    twice.append(METHOD, HeaderValue::from_static("tools/list"));
    assert_eq!(
        check(&twice, "tools/call", Some(&params))
            .expect_err("twice")
            .code,
        Code::HeaderMismatch
    );
    let bare = check(&headers(&[version, method]), "tools/call", None).expect_err("no _meta");
    assert_eq!(bare.code, Code::MissingMeta);
}

#[test]
fn mirrored_headers_must_repeat_the_arguments() {
    let arguments = object(json!({"region": "eu", "page": {"size": 42}}));
    let outcome = |pairs: &[(&'static str, &'static str)]| {
        check_mirrored(&annotated(), &headers(pairs), &arguments).is_ok()
    };
    assert!(outcome(&[
        ("mcp-param-region", "eu"),
        ("mcp-param-size", "42.0")
    ]));
    assert!(!outcome(&[("mcp-param-region", "eu")]), "missing");
    assert!(
        !outcome(&[("mcp-param-region", "us"), ("mcp-param-size", "42")]),
        "different"
    );
    assert!(
        !outcome(&[
            ("mcp-param-region", "eu"),
            ("mcp-param-size", "42"),
            ("mcp-param-dry", "true")
        ]),
        "not in the body"
    );
    assert!(
        outcome(&[
            ("mcp-param-region", "eu"),
            ("mcp-param-size", "42"),
            ("mcp-param-other", "x")
        ]),
        "unknown ones pass"
    );
}

#[test]
fn the_name_of_a_request_depends_on_its_method() {
    let params = object(json!({"name": "a\"b", "uri": "file:///x", "taskId": "t"}));
    let name = |method| name_of(method, &params).map(Cow::into_owned);
    assert_eq!(name("tools/call").as_deref(), Some("a\"b"));
    assert_eq!(name("resources/read").as_deref(), Some("file:///x"));
    assert_eq!(name("tasks/get").as_deref(), Some("t"));
    assert_eq!(name("tools/list"), None);
}
