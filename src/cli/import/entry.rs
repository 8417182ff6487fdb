//! One server of a client's configuration, as a descriptor can say it.

use super::filter::{self, Filter};
use super::oauth::{self, OAuthMembers};
use super::rewrite::{Rewriter, Variable};
use super::secret::looks_secret;
use super::servers::ServerEntry;
use super::transport::{Key, ServerTransport};
use super::tree::{DocumentNode, Kind, shown};
use super::{command, remote};
use crate::cli::ui;

#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) title: Option<String>,
    pub(super) about: Option<String>,
    /// Why it has to wait although nothing is missing: the client had it off, or it would be more open than
    /// it was there.
    pub(super) waits: Vec<String>,
    pub(super) way: ServerTransport,
    pub(super) key: Option<Key>,
    pub(super) oauth: Option<OAuthMembers>,
    pub(super) filter: Filter,
    pub(super) variables: Vec<Variable>,
    pub(super) notes: Vec<String>,
}

/// Fields that are read here, beside the lists of tools; the others are named in a note.
const KNOWN: [&str; 31] = [
    "command",
    "args",
    "env",
    "environment",
    "env_vars",
    "cwd",
    "envFile",
    "url",
    "serverUrl",
    "httpUrl",
    "type",
    "transport",
    "transportType",
    "source",
    "headers",
    "http_headers",
    "env_http_headers",
    "bearer_token_env_var",
    "requestOptions",
    "disabled",
    "enabled",
    "description",
    "name",
    "oauth",
    "auth",
    "oauth_resource",
    "requiresOAuth",
    "scopes",
    "headersHelper",
    "inputs",
    "$schema",
];
/// Parts of names of unknown fields that seem to restrict something.
const RESTRICTS: [&str; 14] = [
    "allow",
    "deny",
    "disallow",
    "block",
    "exclude",
    "include",
    "restrict",
    "forbid",
    "permission",
    "scope",
    "sandbox",
    "filter",
    "readonly",
    "read_only",
];
/// Fields that spare a question, and keep nothing out.
const APPROVALS: [&str; 5] = [
    "alwaysAllow",
    "autoApprove",
    "autoAllow",
    "alwaysAllowedTools",
    "autoApproveTools",
];

pub(super) fn read(server: &ServerEntry<'_>, id: &str, words: &mut Rewriter<'_>) -> Result<Entry, String> {
    let (name, node) = (server.name.as_str(), server.node);
    if !node.is_map() {
        return Err("it is no object with `command` or `url`".to_owned());
    }
    words.begin();
    let mut entry = Entry {
        id: id.to_owned(),
        title: one_line(Some(name)).filter(|title| title != id),
        about: one_line(node.get("description").and_then(DocumentNode::scalar).as_deref()),
        filter: filter::read(node),
        ..Entry::default()
    };
    entry.filter.deny.extend(server.deny.iter().cloned());
    let off = is_off(node)
        .then_some("the client had it disabled")
        .or(server.off);
    entry.waits.extend(off.map(str::to_owned));
    let url = ["url", "serverUrl", "httpUrl"]
        .into_iter()
        .find_map(|key| Some((key, node.text(key)?)));
    let kind = ["type", "transport", "transportType"]
        .into_iter()
        .find_map(|key| node.text(key));
    let kind = kind.map(|kind| kind.to_ascii_lowercase());
    match (node.get("command"), url) {
        (Some(_), Some(_)) => return Err("it has both `command` and `url`: keep one".to_owned()),
        (None, None) if node.text("source").as_deref() == Some("extension") => {
            return Err("it is an extension of the editor, which alone can start it".to_owned());
        }
        (None, None) => return Err("it has neither `command` nor `url`".to_owned()),
        (Some(_), None) => entry.way = command::read(id, node, words)?,
        (None, Some((key, url))) => {
            (entry.way, entry.key) = remote::read(id, node, (key, &url), kind.as_deref(), words)?;
            entry.oauth = oauth::read(id, node, words)?;
        }
    }
    if entry.key.is_some() && entry.oauth.take().is_some() {
        let note = "`oauth` was left out: the key in its headers is used";
        words.notes.push(note.to_owned());
    }
    left_out(node, words);
    if let Some(project) = server.project {
        words.notes.push(format!("of the project `{}`", shown(project)));
    }
    entry.waits.append(&mut entry.filter.lost);
    entry.waits.append(&mut words.lost);
    entry.variables = std::mem::take(&mut words.wanted);
    entry.notes = std::mem::take(&mut words.notes);
    Ok(entry)
}

fn left_out(node: &DocumentNode, words: &mut Rewriter<'_>) {
    for (key, why) in [
        (
            "envFile",
            "set its variables where the gateway starts and name them in `upstream.env`",
        ),
        ("headersHelper", "headers that a program makes cannot be taken"),
    ] {
        if node.get(key).is_some() {
            words.notes.push(format!("`{key}` was left out: {why}"));
        }
    }
    let unknown = |key: &&str| !KNOWN.contains(key) && !filter::is_known(key);
    let others: Vec<&str> = node
        .members()
        .iter()
        .map(|member| member.key.as_str())
        .filter(unknown)
        .collect();
    for key in others.iter().filter(|key| restricts(key)) {
        let is_set = node.get(key).is_some_and(says_something);
        words.lost.extend(
            is_set.then(|| format!("`{}` may keep something out, and is not known here", shown(key))),
        );
    }
    let named: Vec<String> = others
        .iter()
        .take(8)
        .map(|key| format!("`{}`", shown(key)))
        .collect();
    if !named.is_empty() {
        let mut note = named.join(", ");
        if others.len() > named.len() {
            note += &format!(" and {} more", others.len() - named.len());
        }
        note += " left out: only the client knows what it means";
        words.notes.push(note);
    }
}

fn restricts(key: &str) -> bool {
    let lower = key.to_ascii_lowercase();
    !APPROVALS.contains(&key) && RESTRICTS.iter().any(|word| lower.contains(word))
}

fn says_something(node: &DocumentNode) -> bool {
    !matches!(&node.kind, Kind::Null | Kind::Bool(false))
}

/// Whether a server is disabled; values that are no boolean count as disabled.
fn is_off(node: &DocumentNode) -> bool {
    let says = |key: &str| {
        node.get(key)
            .filter(|one| one.kind != Kind::Null)
            .and_then(|one| {
                let text = one.scalar()?.to_ascii_lowercase();
                match text.as_str() {
                    "true" | "1" | "yes" | "on" => Some(true),
                    "false" | "0" | "no" | "off" => Some(false),
                    _ => None,
                }
            })
    };
    let is_there = |key: &str| node.get(key).is_some_and(|one| one.kind != Kind::Null);
    (is_there("disabled") && says("disabled") != Some(false))
        || (is_there("enabled") && says("enabled") != Some(true))
}

/// A text for people: one bounded line.
fn one_line(text: Option<&str>) -> Option<String> {
    let line = ui::line(text?, 80);
    (!line.is_empty() && !looks_secret(&line)).then_some(line)
}
