//! Headers that mirror the body (2026-07-28, streamable HTTP; SEP-2243): written for upstreams,
//! compared for clients.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::value::RawValue;

use super::RawObject;
use pleiades_core::error::{Code, Error};

/// Path of property names to an argument, and the header suffix it is mirrored under.
pub type Mirror = (Vec<Box<str>>, Box<str>);

const METHOD: &str = "mcp-method";
const NAME: &str = "mcp-name";
const PREFIX: &str = "mcp-param-";
const OPEN: &str = "=?base64?";
const CLOSE: &str = "?=";
const MAX_DEPTH: usize = 16;

/// The arguments of a tool that are mirrored into headers. The error says why the tool must not
/// be offered over HTTP: an annotation that breaks the rules.
///
/// # Errors
/// The rule that is broken.
pub fn mirror_paths(schema: &RawValue) -> Result<Vec<Mirror>, String> {
    // Almost no schema is annotated, and a search is cheaper than a walk.
    if !schema.get().contains("x-mcp-header") {
        return Ok(Vec::new());
    }
    let schema: serde_json::Value = serde_json::from_str(schema.get()).map_err(|cause| cause.to_string())?;
    let mut walk = MirrorWalk {
        found: Vec::new(),
        path: Vec::new(),
    };
    walk.object(&schema)?;
    // An annotation that the walk along `properties` did not meet is somewhere it must not be.
    if annotations(&schema) != walk.found.len() {
        return Err("`x-mcp-header` stands where no chain of `properties` leads".to_owned());
    }
    let names = walk.found.iter().map(|(_, name)| name.to_ascii_lowercase());
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair.first() == pair.get(1)) {
        return Err("two arguments share one `x-mcp-header`".to_owned());
    }
    Ok(walk.found)
}

/// Arguments of one tool that are mirrored, and the longest path to one, in bytes.
const MAX_MIRRORED: usize = 64;
const MAX_PATH: usize = 1_024;

struct MirrorWalk {
    found: Vec<Mirror>,
    path: Vec<Box<str>>,
}

impl MirrorWalk {
    fn object(&mut self, schema: &serde_json::Value) -> Result<(), String> {
        if self.path.len() > MAX_DEPTH {
            return Err("`properties` are nested too deeply".to_owned());
        }
        let Some(properties) = schema.get("properties").and_then(serde_json::Value::as_object) else {
            return Ok(());
        };
        for (name, property) in properties {
            self.path.push(name.as_str().into());
            if let Some(header) = property.get("x-mcp-header") {
                let header = header_name(header, property.get("type"))?;
                let length: usize = self.path.iter().map(|name| name.len()).sum();
                if self.found.len() == MAX_MIRRORED || length > MAX_PATH {
                    return Err("`x-mcp-header` stands at too many places, or too far down".to_owned());
                }
                self.found.push((self.path.clone(), header.into()));
            }
            self.object(property)?;
            self.path.pop();
        }
        Ok(())
    }
}

fn header_name<'a>(
    header: &'a serde_json::Value,
    kind: Option<&serde_json::Value>,
) -> Result<&'a str, String> {
    let name = header.as_str().ok_or("`x-mcp-header` is not a string")?;
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return Err("`x-mcp-header` is not a header token".to_owned());
    }
    match kind.and_then(serde_json::Value::as_str) {
        Some("string" | "integer" | "boolean") => Ok(name),
        _ => Err("`x-mcp-header` stands on what is neither string, integer nor boolean".to_owned()),
    }
}

/// How many annotations a schema has anywhere. A property that is merely called so has an object
/// for a value and counts by what it holds.
fn annotations(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Object(members) => members
            .iter()
            .map(|(key, value)| usize::from(key == "x-mcp-header" && !value.is_object()) + annotations(value))
            .sum(),
        serde_json::Value::Array(items) => items.iter().map(annotations).sum(),
        _ => 0,
    }
}

/// The `Mcp-Param-*` headers for these arguments; absent and null ones have none.
#[must_use]
pub fn mirrored(paths: &[Mirror], arguments: &RawObject) -> Vec<(HeaderName, HeaderValue)> {
    let header = |(path, name): &Mirror| {
        let value = argument(path, arguments)?;
        let name = HeaderName::from_bytes(format!("{PREFIX}{name}").as_bytes()).ok()?;
        Some((name, encode(&value)))
    };
    paths.iter().filter_map(header).collect()
}

/// An argument as text; `None` when it is absent, null or no scalar.
fn argument(path: &[Box<str>], arguments: &RawObject) -> Option<String> {
    let (first, rest) = path.split_first()?;
    let value = arguments.get(first)?;
    if !rest.is_empty() {
        return argument(rest, &RawObject::open(value).ok()?);
    }
    match serde_json::from_str(value.get()).ok()? {
        serde_json::Value::String(text) => Some(text),
        serde_json::Value::Number(number) => Some(number.to_string()),
        serde_json::Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// A value as a header: plain where it is visible ASCII and unambiguous, else wrapped in base64.
#[must_use]
pub fn encode(value: &str) -> HeaderValue {
    let plain = value.bytes().all(|byte| (0x20..0x7f).contains(&byte))
        && value.trim() == value
        && !(value.starts_with(OPEN) && value.ends_with(CLOSE));
    if plain && let Ok(header) = HeaderValue::from_str(value) {
        return header;
    }
    let wrapped = format!("{OPEN}{}{CLOSE}", STANDARD.encode(value));
    HeaderValue::from_str(&wrapped).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// A header's value, unwrapped.
///
/// # Errors
/// [`Code::HeaderMismatch`] when it is wrapped but not base64 of UTF-8, or not ASCII.
pub fn decode(value: &HeaderValue) -> Result<Cow<'_, str>, Error> {
    let text = value
        .to_str()
        .map_err(|cause| mismatch("a mirrored header is not ASCII").because(cause))?
        .trim();
    let Some(inner) = text.strip_prefix(OPEN).and_then(|rest| rest.strip_suffix(CLOSE)) else {
        return Ok(Cow::Borrowed(text));
    };
    let bytes = STANDARD
        .decode(inner)
        .map_err(|cause| mismatch("a mirrored header is not valid base64").because(cause))?;
    String::from_utf8(bytes)
        .map(Cow::Owned)
        .map_err(|cause| mismatch("a mirrored header is not UTF-8").because(cause))
}

/// Compares `Mcp-Method` and `Mcp-Name` of a modern request with its body.
///
/// # Errors
/// [`Code::HeaderMismatch`].
pub fn check(headers: &HeaderMap, method: &str, params: Option<&RawObject>) -> Result<(), Error> {
    match only(headers, METHOD)? {
        Some(value) if decode(value)? == method => {}
        Some(_) => return Err(mismatch("`Mcp-Method` differs from the body's method")),
        None => return Err(mismatch("`Mcp-Method` is missing")),
    }
    let Some(name) = params.and_then(|params| name_of(method, params)) else {
        return Ok(());
    };
    match only(headers, NAME)? {
        Some(value) if decode(value)? == name => Ok(()),
        Some(_) => Err(mismatch("`Mcp-Name` differs from what the body names")),
        None => Err(mismatch("`Mcp-Name` is missing")),
    }
}

/// Compares the `Mcp-Param-*` of a modern `tools/call` with its arguments.
///
/// # Errors
/// [`Code::HeaderMismatch`].
pub fn check_mirrored(paths: &[Mirror], headers: &HeaderMap, arguments: &RawObject) -> Result<(), Error> {
    for (path, name) in paths {
        let header = only(headers, &format!("{PREFIX}{}", name.to_ascii_lowercase()))?
            .map(decode)
            .transpose()?;
        match (argument(path, arguments), header) {
            (None, None) => {}
            (Some(value), Some(header)) if same(&value, &header) => {}
            (Some(_), None) => {
                return Err(mismatch(
                    "a header `Mcp-Param-*` that the tool demands is missing",
                ));
            }
            _ => return Err(mismatch("a header `Mcp-Param-*` differs from its argument")),
        }
    }
    Ok(())
}

/// Integers are compared as numbers: `42.0` is `42`.
fn same(value: &str, header: &str) -> bool {
    if value == header {
        return true;
    }
    // Where both are written as integers their digits decide: a double would blur large ones.
    match (value.parse::<i128>(), header.parse::<i128>()) {
        (Ok(one), Ok(other)) => one == other,
        _ => match (value.parse::<f64>(), header.parse::<f64>()) {
            (Ok(one), Ok(other)) => one == other && one.fract() == 0.0,
            _ => false,
        },
    }
}

fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a HeaderValue>, Error> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(mismatch("a mirrored header occurs twice"));
    }
    Ok(first)
}

/// What `Mcp-Name` holds for a request: the name or URI it is about.
#[must_use]
pub fn name_of<'a>(method: &str, params: &'a RawObject) -> Option<Cow<'a, str>> {
    match method {
        "tools/call" | "prompts/get" => params.text("name"),
        "resources/read" => params.text("uri"),
        "tasks/get" | "tasks/update" | "tasks/cancel" => params.text("taskId"),
        _ => None,
    }
}

fn mismatch(what: &'static str) -> Error {
    Error::new(Code::HeaderMismatch, what)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::raw;

    fn object(value: &Value) -> RawObject {
        RawObject::open(&raw::raw(value)).unwrap()
    }

    fn annotated(property: &Value) -> Result<Vec<Mirror>, String> {
        mirror_paths(&raw::raw(
            &json!({ "type": "object", "properties": { "a": property } }),
        ))
    }

    #[test]
    fn annotations_are_found_along_properties() {
        let nested =
            json!({ "type": "object", "properties": { "b": { "type": "integer", "x-mcp-header": "B" } } });
        assert_eq!(
            annotated(&nested).unwrap(),
            [(vec!["a".into(), "b".into()], "B".into())]
        );
        assert!(annotated(&json!({ "type": "string" })).unwrap().is_empty());
    }

    #[test]
    fn annotations_that_break_the_rules_drop_the_tool() {
        for property in [
            json!({ "type": "number", "x-mcp-header": "A" }),
            json!({ "type": "object", "x-mcp-header": "A" }),
            json!({ "type": ["string"], "x-mcp-header": "A" }),
            json!({ "type": "string", "x-mcp-header": "" }),
            json!({ "type": "string", "x-mcp-header": "A B" }),
            json!({ "type": "string", "x-mcp-header": "A:" }),
            json!({ "type": "string", "x-mcp-header": 1 }),
            json!({ "type": "array", "items": { "type": "string", "x-mcp-header": "A" } }),
            json!({ "oneOf": [{ "type": "string", "x-mcp-header": "A" }] }),
        ] {
            assert!(annotated(&property).is_err(), "{property}");
        }
        let twice = json!({ "properties": {
            "a": { "type": "string", "x-mcp-header": "Same" }, "b": { "type": "string", "x-mcp-header": "same" } } });
        assert!(mirror_paths(&raw::raw(&twice)).is_err());
    }

    #[test]
    fn values_are_plain_or_wrapped_and_come_back() {
        assert_eq!(encode("us-west1"), "us-west1");
        for value in [
            "Zürich",
            " edge",
            "edge ",
            "line\nbreak",
            "=?base64?eA==?=",
            "日本",
        ] {
            let header = encode(value);
            assert!(header.to_str().unwrap().starts_with(OPEN), "{value}");
            assert_eq!(decode(&header).unwrap(), value);
        }
        assert_eq!(
            decode(&HeaderValue::from_static("=?base64?half")).unwrap(),
            "=?base64?half"
        );
        assert!(decode(&HeaderValue::from_static("=?base64?!!!?=")).is_err());
        assert!(decode(&HeaderValue::from_static("=?base64?eA=?=")).is_err());
    }

    #[test]
    fn booleans_and_numbers_are_mirrored_and_null_is_not() {
        let paths = [
            (vec!["a".into()], "A".into()),
            (vec!["b".into()], "B".into()),
            (vec!["c".into()], "C".into()),
        ];
        let headers = mirrored(&paths, &object(&json!({ "a": true, "b": 42, "c": null })));
        let pairs: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        assert_eq!(pairs, [("mcp-param-a", "true"), ("mcp-param-b", "42")]);
    }

    #[test]
    fn the_head_must_agree_with_the_body() {
        let params = object(&json!({ "name": "Echo" }));
        let head = |method: &'static str, name: &'static str| {
            HeaderMap::from_iter([
                (HeaderName::from_static(METHOD), HeaderValue::from_static(method)),
                (HeaderName::from_static(NAME), HeaderValue::from_static(name)),
            ])
        };
        assert!(check(&head("tools/call", "Echo"), "tools/call", Some(&params)).is_ok());
        assert!(check(&head("tools/call", "echo"), "tools/call", Some(&params)).is_err());
        assert!(check(&head("Tools/call", "Echo"), "tools/call", Some(&params)).is_err());
        assert!(check(&HeaderMap::new(), "tools/list", None).is_err());
    }

    #[test]
    fn mirrored_arguments_must_be_there_and_equal() {
        let paths = [(vec!["n".into()], "N".into())];
        let with = |value: &'static str| {
            HeaderMap::from_iter([(
                HeaderName::from_static("mcp-param-n"),
                HeaderValue::from_static(value),
            )])
        };
        let forty_two = object(&json!({ "n": 42 }));
        assert!(check_mirrored(&paths, &with("42"), &forty_two).is_ok());
        assert!(check_mirrored(&paths, &with("42.0"), &forty_two).is_ok());
        assert!(check_mirrored(&paths, &with("43"), &forty_two).is_err());
        let large = object(&json!({ "n": 9_007_199_254_740_993_u64 }));
        assert!(
            check_mirrored(&paths, &with("9007199254740992"), &large).is_err(),
            "equal only as doubles"
        );
        assert!(check_mirrored(&paths, &HeaderMap::new(), &forty_two).is_err());
        assert!(check_mirrored(&paths, &with("42"), &object(&json!({}))).is_err());
        assert!(check_mirrored(&paths, &HeaderMap::new(), &object(&json!({ "n": null }))).is_ok());
    }
}
