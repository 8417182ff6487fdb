//! Request headers of 2026-07-28: what a request's body says again in headers, so that things on
//! the way can route without reading it (SEP-2243, streamable HTTP transport, "Headers").
//!
//! We read bodies, so what comes in is checked here and what goes out is made anew.

mod schema;

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

pub use self::schema::mirror_paths;
use super::raw::{self, RawObject};
use crate::error::{Code, Error};

/// `MCP-Protocol-Version`.
pub const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// `Mcp-Method`.
pub const METHOD: HeaderName = HeaderName::from_static("mcp-method");
/// `Mcp-Name`.
pub const NAME: HeaderName = HeaderName::from_static("mcp-name");
/// The `_meta` key of a request's revision.
pub const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";

/// Put before an argument's header suffix.
const PARAM_PREFIX: &str = "mcp-param-";
const ENCODED_HEAD: &str = "=?base64?";
const ENCODED_TAIL: &str = "?=";

/// An argument's way from the root, and the suffix of the header that repeats it.
pub type MirrorPath = (Vec<Box<str>>, Box<str>);

/// The headers `Mcp-Param-*` for a call with these arguments. Absent and null arguments have
/// none, nor have values of a type the schema forbids: the provider refuses those itself.
#[must_use]
pub fn mirrored(paths: &[MirrorPath], arguments: &RawObject) -> Vec<(HeaderName, HeaderValue)> {
    paths
        .iter()
        .filter_map(|(path, suffix)| {
            let value = argument(path, arguments)?;
            Some((param_name(suffix)?, encode(&header_text(&value)?)))
        })
        .collect()
}

fn param_name(suffix: &str) -> Option<HeaderName> {
    HeaderName::try_from(format!("{PARAM_PREFIX}{suffix}")).ok()
}

/// The value at a path; null counts as absent.
fn argument(path: &[Box<str>], arguments: &RawObject) -> Option<Value> {
    let (first, rest) = path.split_first()?;
    let root: Value = arguments.read(first)?;
    let value = rest
        .iter()
        .try_fold(&root, |value, key| value.get(&**key))?;
    (!value.is_null()).then(|| value.clone())
}

fn header_text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Bool(flag) => Some(Cow::Borrowed(if *flag { "true" } else { "false" })),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            // 42.0 is an integer to JSON Schema; written without its fraction.
            Some(float) if float.fract() == 0.0 => Some(Cow::Owned(format!("{float:.0}"))),
            Some(_) => None,
            None => Some(Cow::Owned(number.to_string())),
        },
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A header value for any text: visible ASCII as it is, everything else (edge spaces, other
/// characters, text that looks encoded) as `=?base64?…?=`.
#[must_use]
pub fn encode(value: &str) -> HeaderValue {
    let looks_encoded = value.starts_with(ENCODED_HEAD) && value.ends_with(ENCODED_TAIL);
    let visible =
        value.bytes().all(|byte| matches!(byte, b' '..=b'~')) && value.trim_matches(' ') == value;
    let text = if visible && !looks_encoded {
        Cow::Borrowed(value)
    } else {
        Cow::Owned(format!(
            "{ENCODED_HEAD}{}{ENCODED_TAIL}",
            STANDARD.encode(value)
        ))
    };
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}

/// The text of a header value. A value without both halves of the wrapper is literal.
///
/// # Errors
/// [`Code::HeaderMismatch`] for bad base64, bytes that are not UTF-8, or literal bytes outside
/// of visible ASCII.
pub fn decode(value: &HeaderValue) -> Result<Cow<'_, str>, Error> {
    let text = value
        .to_str()
        .map_err(|cause| malformed().because(cause))?
        .trim_matches([' ', '\t']);
    let Some(encoded) = text
        .strip_prefix(ENCODED_HEAD)
        .and_then(|rest| rest.strip_suffix(ENCODED_TAIL))
    else {
        return Ok(Cow::Borrowed(text));
    };
    let bytes = STANDARD
        .decode(encoded)
        .map_err(|cause| malformed().because(cause))?;
    String::from_utf8(bytes)
        .map(Cow::Owned)
        .map_err(|cause| malformed().because(cause))
}

fn malformed() -> Error {
    Error::new(
        Code::HeaderMismatch,
        "a mirrored header is neither visible ASCII nor valid `=?base64?…?=`",
    )
}

/// Compares `MCP-Protocol-Version`, `Mcp-Method` and `Mcp-Name` of a request of 2026-07-28 with
/// its body. Whether the revision is known is not looked at.
///
/// # Errors
/// [`Code::HeaderMismatch`] when one is missing, comes twice or differs; [`Code::MissingMeta`]
/// when the body names no revision.
pub fn check(headers: &HeaderMap, method: &str, params: Option<&RawObject>) -> Result<(), Error> {
    let version = required(headers, &PROTOCOL_VERSION, "MCP-Protocol-Version")?;
    let meta: Option<RawObject> = params.and_then(|params| params.read("_meta"));
    let Some(named) = meta.as_ref().and_then(|meta| meta.text(META_VERSION)) else {
        return Err(Error::new(
            Code::MissingMeta,
            format!("`_meta` lacks `{META_VERSION}`"),
        ));
    };
    equal("MCP-Protocol-Version", &version, &named)?;
    equal(
        "Mcp-Method",
        &required(headers, &METHOD, "Mcp-Method")?,
        method,
    )?;
    match params.and_then(|params| name_of(method, params)) {
        Some(name) => equal("Mcp-Name", &required(headers, &NAME, "Mcp-Name")?, &name),
        None => Ok(()),
    }
}

/// Compares `Mcp-Param-*` headers with the arguments they repeat.
///
/// # Errors
/// [`Code::HeaderMismatch`] when one is missing though the argument is there, is there though
/// the argument is missing, or differs. Integers are compared as numbers.
pub fn check_mirrored(
    paths: &[MirrorPath],
    headers: &HeaderMap,
    arguments: &RawObject,
) -> Result<(), Error> {
    for (path, suffix) in paths {
        let Some(name) = param_name(suffix) else {
            continue;
        };
        let shown = format!("Mcp-Param-{suffix}");
        let value = argument(path, arguments);
        match value.as_ref().and_then(header_text) {
            Some(text) => {
                let sent = required(headers, &name, &shown)?;
                if !(value.as_ref().is_some_and(Value::is_number) && same_number(&sent, &text)) {
                    equal(&shown, &sent, &text)?;
                }
            }
            None if headers.contains_key(&name) && value.is_none() => {
                return Err(Error::new(
                    Code::HeaderMismatch,
                    format!("`{shown}` repeats an argument that the body lacks"),
                ));
            }
            None => {}
        }
    }
    Ok(())
}

fn same_number(left: &str, right: &str) -> bool {
    // Digits alone decide where both are integers: a double would blur large ones.
    match (left.parse::<i128>(), right.parse::<i128>()) {
        (Ok(left), Ok(right)) => left == right,
        _ => {
            matches!((left.parse::<f64>(), right.parse::<f64>()), (Ok(left), Ok(right)) if left == right)
        }
    }
}

/// The text of a header that must come exactly once.
fn required<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    shown: &str,
) -> Result<Cow<'a, str>, Error> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => decode(value),
        (Some(_), Some(_)) => Err(Error::new(
            Code::HeaderMismatch,
            format!("the header `{shown}` comes twice"),
        )),
        (None, _) => Err(Error::new(
            Code::HeaderMismatch,
            format!("the header `{shown}` is missing"),
        )),
    }
}

fn equal(shown: &str, header: &str, body: &str) -> Result<(), Error> {
    if header == body {
        return Ok(());
    }
    Err(Error::new(
        Code::HeaderMismatch,
        format!("the header `{shown}` differs from the body"),
    ))
}

/// The value of `Mcp-Name` for a request: the name, URI or task id it is about, by method.
#[must_use]
pub fn name_of<'a>(method: &str, params: &'a RawObject) -> Option<Cow<'a, str>> {
    let key = match method {
        "tools/call" | "prompts/get" => "name",
        "resources/read" => "uri",
        "tasks/get" | "tasks/update" | "tasks/cancel" => "taskId",
        _ => return None,
    };
    params.get(key).and_then(raw::text)
}

#[cfg(test)]
mod tests;
