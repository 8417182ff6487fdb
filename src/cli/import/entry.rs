//! One server of a client's configuration, as a descriptor can say it.

use super::json::{Kind, Node, shown};
use super::secret::looks_secret;
use super::words::{Variable, Words};
use super::{command, remote};

/// What is to be written.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) title: Option<String>,
    pub(super) about: Option<String>,
    pub(super) is_off: bool,
    pub(super) way: Way,
    pub(super) key: Option<Key>,
    /// `tools.allow`, `tools.deny`.
    pub(super) allow: Vec<String>,
    pub(super) deny: Vec<String>,
    pub(super) variables: Vec<Variable>,
    pub(super) notes: Vec<String>,
}

/// Where the server is.
#[derive(Debug)]
pub(super) enum Way {
    Command {
        words: Vec<String>,
        env: Vec<(String, String)>,
    },
    Url {
        url: String,
        is_sse: bool,
        headers: Vec<(String, String)>,
    },
}

impl Default for Way {
    fn default() -> Self {
        Self::Command {
            words: Vec::new(),
            env: Vec::new(),
        }
    }
}

/// A header that carries a credential.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) header: String,
    pub(super) prefix: String,
    pub(super) value: String,
}

/// Fields that are read here; the others are named in a note.
const KNOWN: [&str; 27] = [
    "command",
    "args",
    "env",
    "environment",
    "cwd",
    "envFile",
    "url",
    "serverUrl",
    "httpUrl",
    "type",
    "transport",
    "transportType",
    "headers",
    "disabled",
    "enabled",
    "description",
    "name",
    "includeTools",
    "enabledTools",
    "excludeTools",
    "disabledTools",
    "tools",
    "oauth",
    "auth",
    "headersHelper",
    "inputs",
    "$schema",
];

/// Reads a server.
///
/// # Errors
/// Why it cannot be taken.
pub(super) fn read(name: &str, id: &str, node: &Node, words: &mut Words<'_>) -> Result<Entry, String> {
    if !node.is_map() {
        return Err("it is no object with `command` or `url`".to_owned());
    }
    (words.wanted, words.notes) = (Vec::new(), Vec::new());
    let mut entry = Entry {
        id: id.to_owned(),
        title: said(Some(name)).filter(|title| title != id),
        about: said(node.get("description").and_then(Node::scalar).as_deref()),
        is_off: node.get("disabled").is_some_and(is_true) || node.get("enabled").is_some_and(is_false),
        allow: names(node, &["includeTools", "enabledTools"]),
        deny: names(node, &["excludeTools", "disabledTools"]),
        ..Entry::default()
    };
    let url = ["url", "serverUrl", "httpUrl"]
        .into_iter()
        .find_map(|key| Some((key, text(node, key)?)));
    let kind = ["type", "transport", "transportType"]
        .into_iter()
        .find_map(|key| text(node, key));
    let kind = kind.map(|kind| kind.to_ascii_lowercase());
    match (node.get("command"), url) {
        (Some(_), Some(_)) => return Err("it has both `command` and `url`: keep one".to_owned()),
        (None, None) => return Err("it has neither `command` nor `url`".to_owned()),
        (Some(_), None) => entry.way = command::read(id, node, words)?,
        (None, Some((key, url))) => {
            (entry.way, entry.key) = remote::read(id, node, (key, &url), kind.as_deref(), words)?
        }
    }
    left_out(node, words);
    (entry.variables, entry.notes) = (
        std::mem::take(&mut words.wanted),
        std::mem::take(&mut words.notes),
    );
    Ok(entry)
}

fn left_out(node: &Node, words: &mut Words<'_>) {
    for (key, why) in [
        (
            "envFile",
            "set its variables where the gateway starts and name them in `upstream.env`",
        ),
        ("oauth", "`pleiades doctor` says what the server wants"),
        ("auth", "write `auth:` of the descriptor by hand"),
        ("headersHelper", "headers that a program makes cannot be taken"),
    ] {
        if node.get(key).is_some() {
            words.notes.push(format!("`{key}` was left out: {why}"));
        }
    }
    let others: Vec<String> = node
        .members()
        .iter()
        .filter(|member| !KNOWN.contains(&member.key.as_str()))
        .map(|member| format!("`{}`", shown(&member.key)))
        .take(8)
        .collect();
    if !others.is_empty() {
        words.notes.push(format!(
            "{} left out: only the client knows what it means",
            others.join(", ")
        ));
    }
}

pub(super) fn text(node: &Node, key: &str) -> Option<String> {
    match &node.get(key)?.kind {
        Kind::Text(text) => Some(text.clone()),
        _ => None,
    }
}

/// A text for people: one bounded line, in which nothing is a reference.
fn said(text: Option<&str>) -> Option<String> {
    let line: String = shown(text?.trim());
    (!line.is_empty() && !line.contains("${") && !looks_secret(&line)).then_some(line)
}

fn names(node: &Node, keys: &[&str]) -> Vec<String> {
    let lists = keys.iter().filter_map(|key| node.get(key));
    let items = lists.flat_map(|list| match &list.kind {
        Kind::List(items) => items.as_slice(),
        _ => &[],
    });
    items.filter_map(Node::scalar).collect()
}

fn is_true(node: &Node) -> bool {
    node.kind == Kind::Bool(true)
}

fn is_false(node: &Node) -> bool {
    node.kind == Kind::Bool(false)
}
