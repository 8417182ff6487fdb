//! Arguments of a planned call that another call's result gives: `{"$from": "id", "path": "/0/number"}`.

use std::collections::HashMap;

use serde_json::{Map, Value, value::RawValue};

use super::envelope::printable;
use super::options::pointer_defect;
use pleiades_mcp::{Raw, RawObject, raw};

const FROM: &str = "$from";
const PATH: &str = "path";
/// References of one call; more are no plan that somebody wrote.
const MAX_REFERENCES: usize = 64;
/// Largest arguments that references may make (bytes): a few of them can repeat a large result.
const MAX_ARGUMENTS: usize = 1024 * 1024;
/// Text that the references of one call look through, each segment of each path anew (bytes).
const MAX_READ: usize = 256 * 1024 * 1024;

/// A reference as it stands in arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    /// Where it stands: a JSON pointer into the arguments.
    pub(super) place: String,
    /// The call whose result it reads.
    pub(super) from: String,
}

/// Why references give no arguments.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReferenceFault {
    /// Nothing stands at this path of that call's result.
    Missing { from: String, path: String },
    /// The arguments would be too large, or too much would have to be looked through.
    TooLarge,
}

/// All references in arguments; the error says which is none and why.
pub(super) fn references(arguments: &Value) -> Result<Vec<Reference>, String> {
    let mut found = Vec::new();
    collect(arguments, &mut String::new(), &mut found)?;
    Ok(found)
}

fn collect(value: &Value, place: &mut String, found: &mut Vec<Reference>) -> Result<(), String> {
    let length = place.len();
    match value {
        Value::Object(members) if members.contains_key(FROM) => {
            let (from, _) = parts(members).map_err(|why| format!("arguments{}: {why}", printable(place)))?;
            if found.len() >= MAX_REFERENCES {
                return Err(format!("arguments: more than {MAX_REFERENCES} references"));
            }
            found.push(Reference {
                place: place.clone(),
                from: from.into_owned(),
            });
        }
        Value::Object(members) => {
            for (name, member) in members {
                place.push('/');
                place.push_str(&name.replace('~', "~0").replace('/', "~1"));
                collect(member, place, found)?;
                place.truncate(length);
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                place.push('/');
                place.push_str(&at.to_string());
                collect(item, place, found)?;
                place.truncate(length);
            }
        }
        _ => {}
    }
    Ok(())
}

/// The call and the path of a reference; an id may have been written as a number.
fn parts(members: &Map<String, Value>) -> Result<(std::borrow::Cow<'_, str>, &str), String> {
    let from = match members.get(FROM) {
        Some(Value::String(from)) => from.into(),
        Some(Value::Number(from)) => from.to_string().into(),
        _ => return Err("`$from` must be the id of an earlier call".to_owned()),
    };
    if let Some(other) = members.keys().find(|name| *name != FROM && *name != PATH) {
        let other = printable(other);
        return Err(format!(
            "a reference holds `$from` and `path` alone, not `{other}`"
        ));
    }
    let path = match members.get(PATH) {
        None | Some(Value::Null) => "",
        Some(Value::String(path)) => path,
        Some(_) => return Err("`path` must be a JSON pointer such as `/0/number`".to_owned()),
    };
    match pointer_defect(path) {
        Some(why) => Err(format!("`path` {why}")),
        None => Ok((from, path)),
    }
}

/// Arguments with every reference replaced by what it reads, in the very text of the provider.
pub(super) fn resolved<'a>(
    arguments: &Value,
    result_of: &dyn Fn(&str) -> Option<&'a RawValue>,
) -> Result<String, ReferenceFault> {
    let mut text = String::new();
    write(arguments, result_of, (&mut text, &mut 0))?;
    Ok(text)
}

fn write<'a>(
    value: &Value,
    result_of: &dyn Fn(&str) -> Option<&'a RawValue>,
    (out, looked): (&mut String, &mut usize),
) -> Result<(), ReferenceFault> {
    match value {
        Value::Object(members) if members.contains_key(FROM) => {
            let (from, path) = parts(members).unwrap_or_default();
            let missing = || ReferenceFault::Missing {
                from: from.to_string(),
                path: path.to_owned(),
            };
            let read = result_of(&from)
                .and_then(|result| at(result, path, looked))
                .ok_or_else(missing)?;
            if *looked > MAX_READ || out.len() + read.get().len() > MAX_ARGUMENTS {
                return Err(ReferenceFault::TooLarge);
            }
            out.push_str(read.get());
        }
        Value::Object(members) => {
            for (at, (name, member)) in members.iter().enumerate() {
                out.push(if at == 0 { '{' } else { ',' });
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                write(member, result_of, (out, looked))?;
            }
            out.push_str(if members.is_empty() { "{}" } else { "}" });
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                out.push(if at == 0 { '[' } else { ',' });
                write(item, result_of, (out, looked))?;
            }
            out.push_str(if items.is_empty() { "[]" } else { "]" });
        }
        plain => out.push_str(&plain.to_string()),
    }
    Ok(())
}

/// What stands at a JSON pointer (RFC 6901 section 4) of a text. Adds the bytes that were looked through, and
/// stops where these are too many.
fn at<'a>(whole: &'a RawValue, pointer: &str, looked: &mut usize) -> Option<&'a RawValue> {
    pointer.split('/').skip(1).try_fold(whole, |value, segment| {
        *looked += value.get().len();
        if *looked > MAX_READ {
            return Some(value);
        }
        let segment = segment.replace("~1", "/").replace("~0", "~");
        match value.get().as_bytes().first()? {
            b'{' => {
                let mut members: HashMap<String, &RawValue> = serde_json::from_str(value.get()).ok()?;
                members.remove(&segment)
            }
            b'[' => {
                let is_index = segment == "0" || !segment.starts_with(['0', '+']);
                let index: usize = segment.parse().ok().filter(|_| is_index)?;
                let items: Vec<&RawValue> = serde_json::from_str(value.get()).ok()?;
                items.get(index).copied()
            }
            _ => None,
        }
    })
}

/// What references read of a provider's `CallToolResult`: its structured content, else the JSON of its
/// text, else the text.
pub(crate) fn readable(result: &RawObject, text: &str) -> Raw {
    let structured = result
        .get("structuredContent")
        .filter(|data| data.get() != "null");
    match structured {
        Some(data) => data.to_owned(),
        None => serde_json::from_str(text).unwrap_or_else(|_| raw::raw(text)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn resolve(arguments: &Value, result: &str) -> Result<String, ReferenceFault> {
        let result: Raw = serde_json::from_str(result).expect("JSON");
        resolved(arguments, &|from| (from == "a").then_some(&*result))
    }

    #[test]
    fn references_are_found_at_every_depth_with_their_places() {
        let arguments =
            json!({ "x/y": [{ "$from": "a" }, 1, { "z": { "$from": "b", "path": "/0" } }], "w": {} });
        let found: Vec<(String, String)> = references(&arguments)
            .unwrap()
            .into_iter()
            .map(|reference| (reference.place, reference.from))
            .collect();
        let expected =
            [("/x~1y/0", "a"), ("/x~1y/2/z", "b")].map(|(place, from)| (place.to_owned(), from.to_owned()));
        assert_eq!(found, expected);
        let whole = references(&json!({ "$from": 1, "path": "" })).unwrap();
        assert_eq!((whole[0].place.as_str(), whole[0].from.as_str()), ("", "1"));
    }

    #[test]
    fn what_only_looks_like_a_reference_is_named() {
        for (reference, why) in [
            (json!({ "$from": null }), "must be the id"),
            (json!({ "$from": "a", "at": "/0" }), "not `at`"),
            (json!({ "$from": "a", "path": 0 }), "must be a JSON pointer"),
            (json!({ "$from": "a", "path": "0" }), "begin with `/`"),
            (json!({ "$from": "a", "path": "/~" }), "written `~0`"),
        ] {
            let fault = references(&json!({ "n": [reference] })).unwrap_err();
            assert!(
                fault.starts_with("arguments/n/0: ") && fault.contains(why),
                "{fault}"
            );
        }
        let many = json!(vec![json!({ "$from": "a" }); 65]);
        assert!(references(&many).unwrap_err().contains("more than 64"));
    }

    #[test]
    fn a_reference_becomes_the_very_text_of_what_it_reads() {
        let result = r#"{"items":[{"number":12345678901234567890123,"a/b":{"~":1.50}}],"none":null}"#;
        for (path, read) in [
            ("/items/0/number", "12345678901234567890123"),
            ("/items/0/a~1b/~0", "1.50"),
            ("/none", "null"),
            ("", result),
        ] {
            let arguments = json!({ "v": [{ "$from": "a", "path": path }], "k": {}, "l": [], "t": "\"" });
            let resolved = resolve(&arguments, result).unwrap();
            assert_eq!(resolved, format!(r#"{{"v":[{read}],"k":{{}},"l":[],"t":"\""}}"#));
        }
    }

    #[test]
    fn a_path_that_leads_nowhere_is_missing() {
        for path in [
            "/x",
            "/items/1",
            "/items/-",
            "/items/00",
            "/items/+0",
            "/items/0/n/x",
            "/",
        ] {
            let unresolved = resolve(&json!({ "$from": "a", "path": path }), r#"{"items":[{"n":1}]}"#);
            let expected = ReferenceFault::Missing {
                from: "a".to_owned(),
                path: path.to_owned(),
            };
            assert_eq!(unresolved, Err(expected), "{path}");
        }
        let unknown = resolve(&json!({ "$from": "b", "path": "" }), "{}");
        assert!(matches!(unknown, Err(ReferenceFault::Missing { .. })));
    }

    #[test]
    fn a_large_result_is_not_repeated_without_end() {
        let large = Value::from("x".repeat(MAX_ARGUMENTS / 2)).to_string();
        let twice = json!([{ "$from": "a" }, { "$from": "a" }]);
        assert_eq!(resolve(&twice, &large), Err(ReferenceFault::TooLarge));
    }

    #[test]
    fn references_look_through_so_much_of_results_and_no_more() {
        let result = format!(r#"{{"a":{{"b":1}},"large":"{}"}}"#, "x".repeat(MAX_READ / 8));
        let read = |times: usize| {
            let references = vec![json!({ "$from": "a", "path": "/a/b" }); times];
            resolve(&Value::from(references), &result)
        };
        assert_eq!(read(2).as_deref(), Ok("[1,1]"));
        assert_eq!(read(9), Err(ReferenceFault::TooLarge));
    }

    #[test]
    fn references_read_structured_content_else_the_json_of_the_text_else_the_text() {
        let result = |text: &str| serde_json::from_str::<RawObject>(text).unwrap();
        let structured = result(r#"{"structuredContent":{"n":1}}"#);
        assert_eq!(readable(&structured, "7").get(), r#"{"n":1}"#);
        let plain = result(r#"{"structuredContent":null}"#);
        assert_eq!(readable(&plain, "[1.50]").get(), "[1.50]");
        assert_eq!(readable(&plain, "a \"b\"").get(), r#""a \"b\"""#);
    }
}
