//! One server of a client's configuration, as a descriptor can say it.

use super::json::{Kind, Node, shown};
use super::secret::{is_random, is_secret, is_secret_name, is_uuid, looks_secret, password};
use super::words::{Place, Variable, Words, is_variable};
use crate::descriptor::reader::{forbidden_outward, is_secret_header};

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
        (Some(_), None) => entry.way = command(id, node, words)?,
        (None, Some((key, url))) => {
            (entry.way, entry.key) = remote(id, node, (key, &url), kind.as_deref(), words)?
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

fn command(id: &str, node: &Node, words: &mut Words<'_>) -> Result<Way, String> {
    let mut raw = match node.get("command").map(|command| &command.kind) {
        Some(Kind::Text(program)) => vec![program.clone()],
        Some(Kind::List(items)) => scalars(items, "command")?,
        _ => return Err("`command` is no text".to_owned()),
    };
    match node.get("args").map(|args| &args.kind) {
        None | Some(Kind::Null) => {}
        Some(Kind::List(items)) => raw.extend(scalars(items, "args")?),
        Some(_) => return Err("`args` is no list of texts".to_owned()),
    }
    if raw.first().is_none_or(|program| program.trim().is_empty()) {
        return Err("`command` names no program".to_owned());
    }
    let folder = match text(node, "cwd") {
        None => words.base.to_path_buf(),
        Some(cwd) => {
            words
                .notes
                .push("`cwd` was left out: a command runs in its descriptor's folder".to_owned());
            let place = Place {
                id,
                name: "CWD",
                field: "cwd",
            };
            words.base.join(words.plain(&cwd, place)?)
        }
    };
    let mut out: Vec<String> = Vec::with_capacity(raw.len());
    let mut flag: Option<String> = None;
    for (index, word) in raw.iter().enumerate() {
        let field = if index == 0 {
            "command".to_owned()
        } else {
            format!("args.{}", index - 1)
        };
        let word = argument(
            word,
            flag.as_deref(),
            Place {
                id,
                name: "ARG",
                field: &field,
            },
            words,
        )?;
        flag = raw
            .get(index)
            .filter(|word| word.starts_with("--") && !word.contains('='))
            .cloned();
        let is_path =
            word.contains('/') && !word.contains("://") && !word.starts_with(['-', '/', '$', '@', '~']);
        let there = folder.join(&word);
        out.push(if is_path && there.is_file() {
            there.display().to_string()
        } else {
            word
        });
    }
    Ok(Way::Command {
        words: out,
        env: env(id, node, words)?,
    })
}

/// One word of a command; what follows a flag that names a secret is one.
fn argument(
    word: &str,
    flag: Option<&str>,
    place: Place<'_>,
    words: &mut Words<'_>,
) -> Result<String, String> {
    if let Some(flag) = flag.filter(|flag| is_secret_name(flag) && !word.starts_with('-')) {
        let name = &own(place, flag);
        return words.guarded(word, Place { name, ..place }, |_| true);
    }
    if let Some((head, value)) = word.split_once(':').filter(|(head, _)| is_secret_header(head)) {
        let space = value.len() - value.trim_start().len();
        let (space, value) = value.split_at(space);
        let (scheme, value) = scheme(value);
        let name = &own(place, head);
        let value = words.guarded(value, Place { name, ..place }, |_| true)?;
        return Ok(format!("{head}:{space}{scheme}{value}"));
    }
    if let Some((head, value)) = word.split_once('=').filter(|(head, _)| !head.contains("://")) {
        let is_flag = head.starts_with('-');
        let name = head.trim_start_matches('-');
        if is_secret_name(name) || looks_secret(value) {
            // A flag speaks of this server; a variable handed on may be everybody's.
            let name = if is_flag {
                own(place, name)
            } else {
                name.to_owned()
            };
            let value = words.guarded(value, Place { name: &name, ..place }, |_| true)?;
            return Ok(format!("{head}={value}"));
        }
        if is_flag {
            return Ok(format!("{head}={}", argument(value, None, place, words)?));
        }
    }
    if word.contains("://") {
        return address(word, place, words);
    }
    let name = &own(place, "ARG");
    words.guarded(word, Place { name, ..place }, looks_secret)
}

/// A name of the server's own.
fn own(place: Place<'_>, name: &str) -> String {
    format!("{}_{}", place.id, name.trim_start_matches('-'))
}

/// A URL without password, secret parameters, and parts of its path that only the owner knows.
fn address(raw: &str, place: Place<'_>, words: &mut Words<'_>) -> Result<String, String> {
    if let Some((before, secret, after)) = password(raw) {
        let name = &own(place, "PASSWORD");
        let secret = words.guarded(secret, Place { name, ..place }, |_| true)?;
        return Ok(format!(
            "{}{secret}{}",
            words.plain(before, place)?,
            address(after, place, words)?
        ));
    }
    let (path, query) = raw
        .split_once('?')
        .map_or((raw, None), |(path, query)| (path, Some(query)));
    let mut parts = Vec::new();
    for (index, part) in split(path).into_iter().enumerate() {
        // Scheme and host are no secret.
        let is_own = |part: &str| index > 2 && (is_random(part, 20) || is_uuid(part));
        parts.push(words.guarded(
            part,
            Place {
                name: &own(place, "URL_PATH"),
                ..place
            },
            is_own,
        )?);
    }
    let mut url = parts.join("/");
    for (index, pair) in query.into_iter().flat_map(|query| query.split('&')).enumerate() {
        url.push(if index == 0 { '?' } else { '&' });
        let Some((name, value)) = pair.split_once('=') else {
            url.push_str(&words.guarded(pair, place, looks_secret)?);
            continue;
        };
        let is_own = |value: &str| is_secret_name(name) || looks_secret(value) || is_uuid(value);
        let own = &own(place, name);
        let value = words.guarded(value, Place { name: own, ..place }, is_own)?;
        url.push_str(&format!("{name}={value}"));
    }
    Ok(url)
}

/// Parts between slashes, but for those within a reference.
fn split(path: &str) -> Vec<&str> {
    let (mut parts, mut begin, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, char) in path.char_indices() {
        match char {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            '/' if depth == 0 => {
                parts.extend(path.get(begin..at));
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.extend(path.get(begin..));
    parts
}

fn env(id: &str, node: &Node, words: &mut Words<'_>) -> Result<Vec<(String, String)>, String> {
    let mut out = Vec::new();
    for key in ["env", "environment"] {
        for member in node.get(key).map(Node::members).unwrap_or_default() {
            let name = member.key.as_str();
            let field = format!("{key}.{}", shown(name));
            let Some(value) = member.value.scalar().filter(|_| is_variable(name)) else {
                words
                    .notes
                    .push(format!("`{field}` was left out: it is no variable with a text"));
                continue;
            };
            let place = Place {
                id,
                name,
                field: &field,
            };
            let value = words.guarded(&value, place, |value| is_secret(name, value))?;
            out.push((name.to_owned(), value));
        }
    }
    Ok(out)
}

fn remote(
    id: &str,
    node: &Node,
    (key, raw): (&str, &str),
    kind: Option<&str>,
    words: &mut Words<'_>,
) -> Result<(Way, Option<Key>), String> {
    if password(raw).is_some() {
        return Err(format!(
            "`{key}` holds credentials: take them out, and give them as a header"
        ));
    }
    let is_sse = match kind {
        Some("sse") => true,
        Some("http" | "streamable-http" | "streamable_http" | "streamablehttp" | "remote") => false,
        None => raw
            .split(['?', '#'])
            .next()
            .unwrap_or_default()
            .trim_end_matches('/')
            .ends_with("/sse"),
        Some(other) => return Err(format!("its type `{}` is not spoken here", shown(other))),
    };
    let url = address(
        raw,
        Place {
            id,
            name: "URL",
            field: key,
        },
        words,
    )?;
    let (headers, key) = headers(id, node, words)?;
    Ok((Way::Url { url, is_sse, headers }, key))
}

type Headers = Vec<(String, String)>;

/// `Authorization`, else the first header that is a secret, becomes the key; the others stay.
fn headers(id: &str, node: &Node, words: &mut Words<'_>) -> Result<(Headers, Option<Key>), String> {
    let members = node.get("headers").map(Node::members).unwrap_or_default();
    let is_key = |name: &str| name.eq_ignore_ascii_case("authorization");
    let carrier = members.iter().find(|member| is_key(&member.key)).or_else(|| {
        members
            .iter()
            .find(|member| is_secret_header(&member.key) || is_secret_name(&member.key))
    });
    let (mut headers, mut key) = (Vec::new(), None);
    for member in members {
        let name = member.key.as_str();
        let field = format!("headers.{}", shown(name));
        let lower = name.to_ascii_lowercase();
        if forbidden_outward(name).is_some() || lower == "accept" || lower == "content-type" {
            words
                .notes
                .push(format!("`{field}` was left out: the gateway makes it itself"));
            continue;
        }
        let Some(value) = member.value.scalar() else {
            words.notes.push(format!("`{field}` was left out: it is no text"));
            continue;
        };
        if carrier.is_some_and(|carrier| std::ptr::eq(carrier, member)) {
            key = Some(carried(id, name, &field, &value, words)?);
            continue;
        }
        let place = Place {
            id,
            name,
            field: &field,
        };
        let is_own = |value: &str| is_secret_header(name) || is_secret(name, value);
        headers.push((name.to_owned(), words.guarded(&value, place, is_own)?));
    }
    Ok((headers, key))
}

fn carried(id: &str, header: &str, field: &str, value: &str, words: &mut Words<'_>) -> Result<Key, String> {
    let is_authorization = header.eq_ignore_ascii_case("authorization");
    let (prefix, rest) = if is_authorization {
        scheme(value)
    } else {
        ("", value)
    };
    let name = header
        .strip_prefix(['x', 'X'])
        .and_then(|rest| rest.strip_prefix('-'))
        .unwrap_or(header);
    let own = format!("{id}_{}", if is_authorization { "TOKEN" } else { name });
    let value = words.guarded(
        rest.trim(),
        Place {
            id,
            name: &own,
            field,
        },
        |_| true,
    )?;
    Ok(Key {
        header: header.to_owned(),
        prefix: prefix.to_owned(),
        value,
    })
}

/// The scheme of a credential with the space behind it, and the credential.
fn scheme(value: &str) -> (&str, &str) {
    let end = value.find(' ').map_or(0, |at| at + 1);
    let (scheme, rest) = value.split_at(end);
    let is_scheme = scheme.len() > 1 && scheme.trim_end().bytes().all(|byte| byte.is_ascii_alphabetic());
    if is_scheme && looks_like_scheme(scheme.trim_end()) {
        (scheme, rest)
    } else {
        ("", value)
    }
}

fn looks_like_scheme(word: &str) -> bool {
    [
        "bearer", "basic", "token", "apikey", "key", "digest", "bot", "oauth",
    ]
    .iter()
    .any(|known| word.eq_ignore_ascii_case(known))
}

fn scalars(items: &[Node], field: &str) -> Result<Vec<String>, String> {
    let texts: Option<Vec<String>> = items.iter().map(Node::scalar).collect();
    texts.ok_or_else(|| format!("`{field}` is no list of texts"))
}

fn text(node: &Node, key: &str) -> Option<String> {
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
