//! How the meta tool is shown: the same bytes for the same catalogue, so
//! that clients' prompt caches hold.

use serde_json::{Value, json};

use crate::catalog::{Catalogue, Provider};
use pleiades_mcp::RawObject;

/// Longest description: some hosts cut tool descriptions, and every turn pays for them.
const MAX_DESCRIPTION: usize = 500;
/// Operation names of more bytes than this (some 300 names) are left to the menu.
const MAX_NAMES: usize = 8 * 1024;

/// The meta tool of a provider. Without a catalogue the caller is not connected: no operations are named.
#[must_use]
pub fn tool(provider: &Provider, catalogue: Option<&Catalogue>) -> RawObject {
    let mut properties = serde_json::Map::new();
    properties.insert("tool".to_owned(), operation(catalogue.map(names)));
    common(&mut properties);
    let description = match catalogue {
        Some(_) => describe(provider),
        None => cut(format!(
            "Work with {}. It has to be connected first: call this tool once and it says how.",
            subject(provider)
        )),
    };
    let hints = Hints {
        read_only: catalogue.is_some_and(|catalogue| provider.only_reads(catalogue)),
        search: subject(provider),
    };
    let name = format!("use_{}", provider.id);
    definition(&name, &provider.title, &description, properties, &hints)
}

/// The one meta tool for all providers of `facade.single`.
#[must_use]
pub fn single(name: &str, providers: &[(&Provider, Option<&Catalogue>)]) -> RawObject {
    let ids: Vec<&str> = providers.iter().map(|(provider, _)| &*provider.id).collect();
    let mut properties = serde_json::Map::new();
    let mut chosen = json!({ "type": "string", "description": "Whose operation it is." });
    if let (Some(object), false) = (chosen.as_object_mut(), ids.is_empty()) {
        object.insert("enum".to_owned(), json!(ids));
    }
    properties.insert("provider".to_owned(), chosen);
    properties.insert("tool".to_owned(), operation(None));
    common(&mut properties);
    let subjects: Vec<String> = providers.iter().map(|(provider, _)| subject(provider)).collect();
    let description = cut(format!(
        "Work with several services. {{\"provider\":\"…\"}} alone lists one's operations; with \"tool\" and \"arguments\" it runs one. They are: {}.",
        subjects.join("; ")
    ));
    let read_only = providers
        .iter()
        .all(|(provider, catalogue)| catalogue.is_some_and(|it| provider.only_reads(it)));
    let hints = Hints {
        read_only,
        search: subjects.join("; "),
    };
    definition(&format!("use_{name}"), name, &description, properties, &hints)
}

/// The key in `_meta` of the gateway's own tool that connects a provider.
pub const CONNECT_MARK: &str = "pleiades/connect";

/// The tool that an unconnected provider shows in the tool view.
#[must_use]
pub fn connect(name: &str, provider: &Provider) -> RawObject {
    let mut tool = RawObject::new();
    tool.put("name", name);
    tool.put("title", &format!("Connect {}", provider.title));
    tool.put(
        "description",
        &cut(format!(
            "{} is not connected. Call this to learn how to connect it.",
            provider.title
        )),
    );
    tool.put("inputSchema", &json!({ "type": "object", "properties": {} }));
    tool.put(
        "annotations",
        &json!({ "readOnlyHint": true, "destructiveHint": false, "openWorldHint": false }),
    );
    // Providers' own keys of this prefix are taken out, so it says that this tool is the gateway's.
    tool.put("_meta", &json!({ CONNECT_MARK: true }));
    tool
}

struct Hints {
    read_only: bool,
    search: String,
}

fn definition(
    name: &str,
    title: &str,
    description: &str,
    properties: serde_json::Map<String, Value>,
    hints: &Hints,
) -> RawObject {
    let mut tool = RawObject::new();
    tool.put("name", name);
    tool.put("title", title);
    tool.put("description", description);
    tool.put(
        "inputSchema",
        &json!({ "type": "object", "properties": properties }),
    );
    // The worst that any operation may do; hosts ask for consent by these.
    let annotations = json!({
        "readOnlyHint": hints.read_only, "destructiveHint": !hints.read_only, "openWorldHint": true
    });
    tool.put("annotations", &annotations);
    // A host that defers tools would hide the one tool that finds the others.
    tool.put(
        "_meta",
        &json!({ "anthropic/alwaysLoad": true, "anthropic/searchHint": hints.search }),
    );
    tool
}

/// `tool` comes first, because models fill properties in order and a named operation is best.
fn operation(names: Option<Vec<&str>>) -> Value {
    let mut property = json!({
        "type": "string",
        "description": "Exact operation. With arguments it runs at once; alone it returns that operation's schema."
    });
    if let (Some(names), Some(object)) = (names.filter(|names| !names.is_empty()), property.as_object_mut()) {
        object.insert("enum".to_owned(), json!(names));
    }
    property
}

/// The names for the enum; none when they are too many. A part of them would make the others
/// impossible to call for hosts that hold models to the schema.
fn names(catalogue: &Catalogue) -> Vec<&str> {
    let names: Vec<&str> = catalogue.tools.iter().map(|tool| &*tool.short).collect();
    if names.iter().map(|name| name.len() + 3).sum::<usize>() > MAX_NAMES {
        Vec::new()
    } else {
        names
    }
}

fn common(properties: &mut serde_json::Map<String, Value>) {
    let rest = json!({
        "arguments": { "type": "object", "additionalProperties": true,
            "description": "The arguments of `tool`, as a JSON object." },
        "prompt": { "type": "string",
            "description": "One goal in plain words with every id, name, date and filter you know. Use when no operation name fits." },
        "accountId": { "type": "string", "description": "Only after an answer listed several accounts." },
        "options": { "type": "object", "additionalProperties": true, "description": "Rarely needed." },
    });
    if let Value::Object(rest) = rest {
        properties.extend(rest);
    }
}

fn subject(provider: &Provider) -> String {
    match &provider.about {
        Some(about) => format!("{}: {about}", provider.title),
        None => provider.title.clone(),
    }
}

fn describe(provider: &Provider) -> String {
    const SHAPES: &str = "\n1. Known operation: {\"tool\":\"…\",\"arguments\":{…}} runs it.\n2. {\"tool\":\"…\"} alone returns its schema.\n3. Unsure: {\"prompt\":\"goal\"} lists operations with signatures and runs nothing.\nA wrong call runs nothing and says what to change.";
    let mut subject = format!("Work with {}.", subject(provider));
    let room = MAX_DESCRIPTION.saturating_sub(SHAPES.len());
    if subject.len() > room {
        subject = clip(&subject, room);
    }
    format!("{subject}{SHAPES}")
}

fn cut(text: String) -> String {
    if text.len() <= MAX_DESCRIPTION {
        text
    } else {
        clip(&text, MAX_DESCRIPTION)
    }
}

/// The first bytes of a text, whole characters only, marked as cut.
fn clip(text: &str, bytes: usize) -> String {
    let mut end = bytes.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests;
