//! A server that is a program: its words, its environment.

use std::path::PathBuf;

use super::address::{address, own, scheme};
use super::pairs;
use super::rewrite::{FieldContext, Rewriter};
use super::secret::{is_secret, is_secret_name, looks_secret};
use super::transport::ServerTransport;
use super::tree::{DocumentNode, Kind, shown};
use pleiades_descriptor::reader::{is_secret_header, is_variable};

pub(super) fn read(
    id: &str,
    node: &DocumentNode,
    words: &mut Rewriter<'_>,
) -> Result<ServerTransport, String> {
    let raw = split(command_words(node)?, words);
    let folder = folder(id, node, words)?;
    let mut out: Vec<String> = Vec::with_capacity(raw.len());
    let mut flag: Option<&str> = None;
    for (index, word) in raw.iter().enumerate() {
        let field = match index.checked_sub(1) {
            None => "command".to_owned(),
            Some(index) => format!("args.{index}"),
        };
        let place = FieldContext::new(id, "ARG", &field);
        let text = argument(word, flag, place, words)?;
        flag = Some(word.as_str()).filter(|word| word.starts_with("--") && !word.contains('='));
        // The gateway starts programs in the descriptor's folder, the client did in another.
        let is_path =
            text.contains('/') && !text.contains("://") && !text.starts_with(['-', '/', '$', '@', '~']);
        let there = folder.join(&text);
        out.push(if is_path && there.is_file() {
            there.display().to_string()
        } else {
            text
        });
    }
    Ok(ServerTransport::Command {
        words: out,
        env: env(id, node, words)?,
    })
}

fn command_words(node: &DocumentNode) -> Result<Vec<String>, String> {
    let command = node.get("command");
    let path = command.and_then(|command| command.get("path"));
    let mut raw = match path.or(command).map(|command| &command.kind) {
        Some(Kind::Text(program)) => vec![program.clone()],
        Some(Kind::List(items)) => scalars(items, "command")?,
        _ => return Err("`command` is no text".to_owned()),
    };
    let inner = command.and_then(|command| command.get("args"));
    match node.get("args").or(inner).map(|args| &args.kind) {
        None | Some(Kind::Null) => {}
        Some(Kind::List(items)) => raw.extend(scalars(items, "args")?),
        Some(_) => return Err("`args` is no list of texts".to_owned()),
    }
    if raw.first().is_none_or(|program| program.trim().is_empty()) {
        return Err("`command` names no program".to_owned());
    }
    Ok(raw)
}

/// Some clients take a whole command line as the program.
fn split(raw: Vec<String>, words: &mut Rewriter<'_>) -> Vec<String> {
    let [line] = raw.as_slice() else { return raw };
    let is_line = line.contains(' ') && !line.contains(['"', '\'', '\\']) && !words.base.join(line).exists();
    if !is_line {
        return raw;
    }
    let note = "`command` was split at its spaces: a program has none in its name here";
    words.notes.push(note.to_owned());
    line.split(' ')
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The folder in which the client would start it.
fn folder(id: &str, node: &DocumentNode, words: &mut Rewriter<'_>) -> Result<PathBuf, String> {
    let Some(cwd) = node.text("cwd") else {
        return Ok(words.base.to_path_buf());
    };
    let note = "`cwd` was left out: a command runs in its descriptor's folder";
    words.notes.push(note.to_owned());
    let place = FieldContext::new(id, "CWD", "cwd");
    Ok(words.base.join(words.plain(&cwd, place)?))
}

/// One word of a command; what follows a flag that names a secret is one.
fn argument(
    word: &str,
    flag: Option<&str>,
    place: FieldContext<'_>,
    words: &mut Rewriter<'_>,
) -> Result<String, String> {
    if let Some(flag) = flag.filter(|flag| is_secret_name(flag) && !word.starts_with('-')) {
        let name = &own(place, flag);
        return words.guarded(word, FieldContext { name, ..place }, |_| true);
    }
    if let Some((head, value)) = word.split_once(':').filter(|(head, _)| is_secret_header(head)) {
        let space = value.len() - value.trim_start().len();
        let (space, value) = value.split_at(space);
        let (scheme, value) = scheme(value);
        let name = &own(place, head);
        let value = words.guarded(value, FieldContext { name, ..place }, |_| true)?;
        return Ok(format!("{head}:{space}{scheme}{value}"));
    }
    if let Some((head, value)) = word.split_once('=').filter(|(head, _)| !head.contains("://")) {
        let is_flag = head.starts_with('-');
        let name = head.trim_start_matches('-');
        if is_secret_name(name) || looks_secret(value) {
            // A flag speaks of this server; a variable handed on may be everybody's.
            let own = is_flag.then(|| own(place, name));
            let name = own.as_deref().unwrap_or(name);
            let value = words.guarded(value, FieldContext { name, ..place }, |_| true)?;
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
    words.guarded(word, FieldContext { name, ..place }, looks_secret)
}

fn env(id: &str, node: &DocumentNode, words: &mut Rewriter<'_>) -> Result<Vec<(String, String)>, String> {
    let mut out = Vec::new();
    let command = node.get("command");
    let places = [Some(node), command].into_iter().flatten();
    for (key, given) in places.flat_map(|place| ["env", "environment"].map(|key| (key, place.get(key)))) {
        let Some(given) = given else { continue };
        let Some(pairs) = pairs::read(given, '=') else {
            let lost = format!("`{key}` has a form that is not known here");
            words.lost.push(lost);
            continue;
        };
        for (name, value) in pairs {
            let field = format!("{key}.{}", shown(&name));
            let Some(value) = value.filter(|_| is_variable(&name)) else {
                words.lost.push(format!("`{field}` is no variable with a text"));
                continue;
            };
            let place = FieldContext::new(id, &name, &field);
            let value = words.guarded(&value, place, |value| is_secret(&name, value))?;
            out.push((name, value));
        }
    }
    out.extend(inherited_env(id, node, words)?);
    Ok(out)
}

/// Codex: variables of its own environment that the program gets.
fn inherited_env(
    id: &str,
    node: &DocumentNode,
    words: &mut Rewriter<'_>,
) -> Result<Vec<(String, String)>, String> {
    let Some(Kind::List(items)) = node.get("env_vars").map(|list| &list.kind) else {
        return Ok(Vec::new());
    };
    let mut out = Vec::new();
    for item in items {
        let name = item.scalar().or_else(|| item.get("name")?.scalar());
        let name = name.filter(|name| is_variable(name));
        let name = name.ok_or("`env_vars` is no list of names")?;
        let place = FieldContext::new(id, &name, "env_vars");
        out.push((name.clone(), words.plain(&format!("${{{name}}}"), place)?));
    }
    Ok(out)
}

fn scalars(items: &[DocumentNode], field: &str) -> Result<Vec<String>, String> {
    let texts: Option<Vec<String>> = items.iter().map(DocumentNode::scalar).collect();
    texts.ok_or_else(|| format!("`{field}` is no list of texts"))
}
