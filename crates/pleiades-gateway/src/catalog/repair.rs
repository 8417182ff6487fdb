//! Repair of definitions to what the MCP schema of every revision takes. What has one meaning is put
//! right, what only decorates is dropped where it is of the wrong shape, and an entry is refused when what
//! it does or takes cannot be told: strict clients give up a whole list for one entry that is not what it
//! must be.
//!
//! Unknown members pass, as everywhere.

mod characters;
mod decoration;
mod member;
mod moment;
mod schema;
#[cfg(test)]
mod tests;

use url::Url;

use super::lists::ListKind;
pub(crate) use characters::RespelledValues;
use decoration::{icons, resource_annotations, tool_annotations};
use member::{
    JsonType, drop_unless, drop_unless_integer, drop_unless_text, is_text, json_type, repair_member,
};
use pleiades_core::text::is_hidden;
use pleiades_mcp::{Raw, RawObject};
use schema::{input_schema, output_schema};

/// Longest URI or template, in bytes (RFC 9110, section 4.1, recommends 8,000 at least).
pub const MAX_URI: usize = 8 * 1024;
/// Keys of `_meta` that are the gateway's own.
const OURS: &str = "pleiades/";

/// The error: why the entry has to be left out, in words that follow its name.
pub(super) fn repair_entry(list: ListKind, entry: &mut RawObject) -> Result<RespelledValues, String> {
    let respelled = characters::clean(list, entry)?;
    drop_unless_text(entry, &["title"]);
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
    Ok(respelled)
}

/// A resource without a name is called by its title, else by its address.
fn ensure_name(of: &mut RawObject, address: &str) {
    drop_unless_text(of, &["name"]);
    if of.get("name").is_none() {
        let title = of.text("title").map(std::borrow::Cow::into_owned);
        of.put("name", title.as_deref().unwrap_or(address));
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
        drop_unless_text(&mut argument, &["title", "description"]);
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
