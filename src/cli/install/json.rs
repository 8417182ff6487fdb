//! An entry in a client's JSON: put in and taken out by stretches of text, so that comments, trailing commas, order
//! and indentation of all else are what they were.
//!
//! Nothing remembers what a file was like before. What is written says it: an object that was there, and empty, has
//! its first key right behind the brace, while one that is made here has space before it; and an entry is followed
//! by a comma where the object had a trailing one. So taking out gives back the bytes that were there.

use std::ops::Range;

use jsonc_parser::ast::{Object, ObjectProp, Value as Ast};
use jsonc_parser::common::Ranged as _;
use serde_json::{Map, Value};

use super::edit::{FileChange, TextEdit, apply, blanks_before, newline, newline_before};
use crate::cli::import::json as reader;
use crate::cli::import::tree::{SyntaxFault, fault_at};

/// Where an entry stands: in this object of the root, under this name.
#[derive(Debug, Clone, Copy)]
pub(super) struct EntryPlace<'a> {
    pub(super) container: &'a str,
    pub(super) name: &'a str,
}

/// How the members of an object are set.
#[derive(Debug, Clone)]
enum Setting {
    /// On the line of their object.
    Inline,
    /// Each on a line of its own.
    Lines {
        newline: &'static str,
        indent: String,
        unit: String,
    },
}

/// The entry that stands there.
pub(super) fn entry(text: &str, place: EntryPlace<'_>) -> Result<Option<Value>, SyntaxFault> {
    let Some(root) = root(text)? else { return Ok(None) };
    let Some(container) = object_in(text, &root, place.container)? else {
        return Ok(None);
    };
    let prop = property(text, container, place.name)?;
    Ok(prop.map(|prop| plain(&prop.value)))
}

/// The text with an entry that was not there.
pub(super) fn insert(text: &str, place: EntryPlace<'_>, entry: &Value) -> Result<String, SyntaxFault> {
    let members = Value::Object(Map::from_iter([(place.name.to_owned(), entry.clone())]));
    let Some(root) = root(text)? else {
        return Ok(into_blank(text, place.container, &members));
    };
    let edits = match object_in(text, &root, place.container)? {
        Some(container) => insert_member(text, container, (place.name, entry)),
        None => insert_member(text, &root, (place.container, &members)),
    };
    Ok(apply(text, &edits))
}

/// A new file with nothing but the entry.
pub(super) fn new_file(place: EntryPlace<'_>, entry: &Value) -> String {
    let members = Value::Object(Map::from_iter([(place.name.to_owned(), entry.clone())]));
    whole(place.container, &members) + "\n"
}

/// The text with members of the entry replaced or added; others that stand in it stay.
pub(super) fn update(
    text: &str,
    place: EntryPlace<'_>,
    wanted: &Map<String, Value>,
) -> Result<String, SyntaxFault> {
    let mut text = text.to_owned();
    for (key, value) in wanted {
        let edits = update_member(&text, place, (key, value))?;
        text = apply(&text, &edits);
    }
    Ok(text)
}

/// The text without one of several members of the entry.
pub(super) fn remove_key(text: &str, place: EntryPlace<'_>, key: &str) -> Result<String, SyntaxFault> {
    let Some(root) = root(text)? else {
        return Ok(text.to_owned());
    };
    let Some(container) = object_in(text, &root, place.container)? else {
        return Ok(text.to_owned());
    };
    let Some(entry) = object_in(text, container, place.name)? else {
        return Ok(text.to_owned());
    };
    let prop = property(text, entry, key)?;
    Ok(prop.map_or_else(
        || text.to_owned(),
        |prop| apply(text, &remove_member(text, entry, prop)),
    ))
}

/// The text with another value in place of the entry.
pub(super) fn overwrite(text: &str, place: EntryPlace<'_>, entry: &Value) -> Result<String, SyntaxFault> {
    let Some(root) = root(text)? else {
        return Ok(text.to_owned());
    };
    let Some(container) = object_in(text, &root, place.container)? else {
        return Ok(text.to_owned());
    };
    let Some(prop) = property(text, container, place.name)? else {
        return Ok(text.to_owned());
    };
    let setting = setting_of(text, container);
    let edit = TextEdit::replace(range(&prop.value), render(entry, &setting));
    Ok(apply(text, &[edit]))
}

/// The text without the entry.
pub(super) fn remove(text: &str, place: EntryPlace<'_>) -> Result<FileChange, SyntaxFault> {
    let Some(root) = root(text)? else {
        return Ok(FileChange::Unchanged);
    };
    let Some(container) = object_in(text, &root, place.container)? else {
        return Ok(FileChange::Unchanged);
    };
    let Some(prop) = property(text, container, place.name)? else {
        return Ok(FileChange::Unchanged);
    };
    if !is_made_for(text, container, prop) {
        let edits = remove_member(text, container, prop);
        return Ok(FileChange::Text(apply(text, &edits)));
    }
    let Some(prop) = property(text, &root, place.container)? else {
        return Ok(FileChange::Unchanged);
    };
    if !is_made_for(text, &root, prop) {
        let edits = remove_member(text, &root, prop);
        return Ok(FileChange::Text(apply(text, &edits)));
    }
    let around = [
        text.get(..root.range.start).unwrap_or_default(),
        text.get(root.range.end..).unwrap_or_default(),
    ];
    Ok(match around {
        ["", "\n"] => FileChange::Removed,
        around => FileChange::Text(around.concat()),
    })
}

/// The object that a file is; `None` of one without a value.
fn root(text: &str) -> Result<Option<Object<'_>>, SyntaxFault> {
    if skip_trivia(text, 0) == text.len() {
        return Ok(None);
    }
    match reader::ast(text)? {
        Ast::Object(root) => Ok(Some(root)),
        other => Err(no_object(text, range(&other).start, "the document")),
    }
}

fn object_in<'a, 'b>(
    text: &str,
    root: &'b Object<'a>,
    key: &str,
) -> Result<Option<&'b Object<'a>>, SyntaxFault> {
    match property(text, root, key)? {
        None => Ok(None),
        Some(prop) => match &prop.value {
            Ast::Object(object) => Ok(Some(object)),
            other => Err(no_object(text, range(other).start, &format!("`{key}`"))),
        },
    }
}

fn no_object(text: &str, at: usize, what: &str) -> SyntaxFault {
    fault_at(
        text,
        at,
        format!("{what} is no object"),
        "make it `{}`, as the client writes it",
    )
}

/// A member; a key that stands there twice means what each reader makes of it, so it is refused.
fn property<'a, 'b>(
    text: &str,
    object: &'b Object<'a>,
    key: &str,
) -> Result<Option<&'b ObjectProp<'a>>, SyntaxFault> {
    let mut named = object.properties.iter().filter(|prop| prop.name.as_str() == key);
    let first = named.next();
    match named.next() {
        None => Ok(first),
        Some(second) => {
            let message = format!("`{key}` stands here a second time");
            Err(fault_at(text, second.range.start, message, "keep one of them"))
        }
    }
}

fn range(value: &Ast<'_>) -> Range<usize> {
    let range = value.range();
    range.start..range.end
}

fn plain(value: &Ast<'_>) -> Value {
    match value {
        Ast::StringLit(text) => Value::from(text.value.as_ref()),
        Ast::NumberLit(number) => serde_json::from_str(number.value).unwrap_or_default(),
        Ast::BooleanLit(flag) => Value::from(flag.value),
        Ast::NullKeyword(_) => Value::Null,
        Ast::Array(items) => items.elements.iter().map(plain).collect(),
        Ast::Object(object) => {
            let members = object.properties.iter();
            let members = members.map(|prop| (prop.name.as_str().to_owned(), plain(&prop.value)));
            Value::Object(members.collect())
        }
    }
}

/// A file without a value: comments and space stay around what is put in.
fn into_blank(text: &str, container: &str, members: &Value) -> String {
    let document = whole(container, members);
    match text {
        // A lone line ending behind it would say that the file was made here.
        "\n" => format!("{text}{document}"),
        text => document + text,
    }
}

fn whole(container: &str, members: &Value) -> String {
    let setting = Setting::Lines {
        newline: "\n",
        indent: String::new(),
        unit: "  ".to_owned(),
    };
    let root = Value::Object(Map::from_iter([(container.to_owned(), members.clone())]));
    render(&root, &setting)
}

fn update_member(
    text: &str,
    place: EntryPlace<'_>,
    (key, value): (&str, &Value),
) -> Result<Vec<TextEdit>, SyntaxFault> {
    let Some(root) = root(text)? else {
        return Ok(Vec::new());
    };
    let Some(container) = object_in(text, &root, place.container)? else {
        return Ok(Vec::new());
    };
    let Some(entry) = object_in(text, container, place.name)? else {
        return Ok(Vec::new());
    };
    Ok(match property(text, entry, key)? {
        Some(prop) if plain(&prop.value) == *value => Vec::new(),
        Some(prop) => {
            let setting = setting_of(text, entry);
            vec![TextEdit::replace(range(&prop.value), render(value, &setting))]
        }
        None => insert_member(text, entry, (key, value)),
    })
}

fn insert_member(text: &str, object: &Object<'_>, (key, value): (&str, &Value)) -> Vec<TextEdit> {
    let setting = setting_of(text, object);
    let member = format!("{}: {}", Value::from(key), render(value, &setting));
    let Some(last) = object.properties.last() else {
        return vec![TextEdit::insert(object.range.start + 1, member)];
    };
    let end = last.range.end;
    let next = skip_trivia(text, end);
    let has_comma = text.get(next..).is_some_and(|rest| rest.starts_with(','));
    let (anchor, is_in_comment) = line_end(text, if has_comma { next + 1 } else { end });
    let gap = match &setting {
        Setting::Lines { newline, indent, .. } => format!("{newline}{indent}"),
        Setting::Inline if is_in_comment => newline(text).to_owned(),
        Setting::Inline => " ".to_owned(),
    };
    let comma = if has_comma { "," } else { "" };
    let member = TextEdit::insert(anchor, format!("{gap}{member}{comma}"));
    if has_comma {
        vec![member]
    } else {
        vec![TextEdit::insert(end, ","), member]
    }
}

/// Whether an object holds this member alone and was made for it.
fn is_made_for(text: &str, object: &Object<'_>, prop: &ObjectProp<'_>) -> bool {
    let before = text
        .get(object.range.start + 1..prop.range.start)
        .unwrap_or_default();
    let after = text.get(prop.range.end..object.range.end - 1).unwrap_or_default();
    let is_blank = |part: &str| part.trim_ascii().is_empty();
    let after = after.trim_ascii_start();
    object.properties.len() == 1
        && !before.is_empty()
        && is_blank(before)
        && is_blank(after.strip_prefix(',').unwrap_or(after))
}

fn remove_member(text: &str, object: &Object<'_>, prop: &ObjectProp<'_>) -> Vec<TextEdit> {
    let (key, end) = (prop.range.start, prop.range.end);
    let after = skip_trivia(text, end);
    let has_comma = text.get(after..).is_some_and(|rest| rest.starts_with(','));
    let index = object.properties.iter().position(|one| one.range.start == key);
    let before = index.and_then(|index| index.checked_sub(1));
    let before = before.and_then(|index| object.properties.get(index));
    let open = object.range.start + 1;
    let blank = blanks_before(text, key).max(open);
    let line = newline_before(text, blank).max(open);
    // What follows on the line would become a part of the comment that ends the line before.
    let ends_comment = is_line_comment_end(text, before.map_or(open, |prop| prop.range.end), line);
    let last = if has_comma && after == end { end + 1 } else { end };
    let rest = text
        .get(last..)
        .unwrap_or_default()
        .trim_start_matches([' ', '\t']);
    let goes_on = !rest.starts_with(['\n', '\r']) && !rest.is_empty();
    let start = if ends_comment && goes_on { key } else { line };
    match before {
        _ if has_comma && after == end => vec![TextEdit::delete(start..end + 1)],
        _ if has_comma => vec![TextEdit::delete(start..end), TextEdit::delete(after..after + 1)],
        Some(before) => {
            let comma = skip_trivia(text, before.range.end);
            vec![TextEdit::delete(comma..comma + 1), TextEdit::delete(start..end)]
        }
        None => vec![TextEdit::delete(start..end)],
    }
}

/// Where space and comments end.
fn skip_trivia(text: &str, mut at: usize) -> usize {
    loop {
        let rest = text.get(at..).unwrap_or_default();
        let trimmed = rest.trim_ascii_start();
        let start = at + rest.len() - trimmed.len();
        at = match comment(trimmed) {
            Some(length) => start + length,
            None => return start,
        };
    }
}

/// Whether a comment to the end of its line, behind the token that ends at `from`, ends at an offset.
fn is_line_comment_end(text: &str, from: usize, end: usize) -> bool {
    let mut at = from;
    while at < end {
        let rest = text.get(at..end).unwrap_or_default();
        let trimmed = rest.trim_start_matches(|char: char| char == ',' || char.is_ascii_whitespace());
        let start = at + rest.len() - trimmed.len();
        match comment(text.get(start..).unwrap_or_default()) {
            Some(length) if start + length >= end => return trimmed.starts_with("//"),
            Some(length) => at = start + length,
            None => return false,
        }
    }
    false
}

/// The length of the comment that a text begins with; one to the end of its line is without that end.
fn comment(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        let line = text.split('\n').next().unwrap_or_default();
        return Some(line.trim_end_matches('\r').len());
    }
    let body = text.strip_prefix("/*")?;
    Some(body.find("*/").map_or(text.len(), |at| at + 4))
}

/// Where the comments end that stand behind something on its line, and whether the last of them goes on to the
/// end of the line.
fn line_end(text: &str, mut at: usize) -> (usize, bool) {
    loop {
        let rest = text.get(at..).unwrap_or_default();
        let trimmed = rest.trim_start_matches([' ', '\t']);
        let start = at + rest.len() - trimmed.len();
        match comment(trimmed) {
            Some(length) if trimmed.starts_with("//") => return (start + length, true),
            Some(length) if !trimmed.get(..length).unwrap_or("\n").contains('\n') => at = start + length,
            _ => return (at, false),
        }
    }
}

/// How an object's members are set, as its last one is.
fn setting_of(text: &str, object: &Object<'_>) -> Setting {
    let indent_at = |at: usize| {
        let line = text.get(..at).unwrap_or_default();
        let line = line.rsplit('\n').next().unwrap_or_default();
        line.trim_ascii().is_empty().then(|| line.to_owned())
    };
    let Some(last) = object.properties.last() else {
        return Setting::Inline;
    };
    let Some(indent) = indent_at(last.range.start).filter(|_| {
        text.get(..last.range.start)
            .is_some_and(|head| head.contains('\n'))
    }) else {
        return Setting::Inline;
    };
    let parent = indent_at(object.range.end - 1).unwrap_or_default();
    let unit = indent.strip_prefix(&parent).filter(|unit| !unit.is_empty());
    let usual = if indent.contains('\t') { "\t" } else { "  " };
    Setting::Lines {
        newline: newline(text),
        unit: unit.unwrap_or(usual).to_owned(),
        indent,
    }
}

/// A value as it stands behind a key of an object that is set so.
fn render(value: &Value, setting: &Setting) -> String {
    let Value::Object(members) = value else {
        return match value {
            Value::Array(items) => {
                let items: Vec<String> = items.iter().map(Value::to_string).collect();
                format!("[{}]", items.join(", "))
            }
            other => other.to_string(),
        };
    };
    let inner = match setting {
        Setting::Inline => Setting::Inline,
        Setting::Lines {
            newline,
            indent,
            unit,
        } => Setting::Lines {
            newline,
            indent: format!("{indent}{unit}"),
            unit: unit.clone(),
        },
    };
    let members: Vec<String> = members
        .iter()
        .map(|(key, value)| format!("{}: {}", Value::from(key.as_str()), render(value, &inner)))
        .collect();
    match (setting, &inner) {
        (Setting::Lines { newline, indent, .. }, Setting::Lines { indent: deeper, .. }) => {
            let separator = format!(",{newline}{deeper}");
            format!(
                "{{{newline}{deeper}{}{newline}{indent}}}",
                members.join(&separator)
            )
        }
        _ => format!("{{ {} }}", members.join(", ")),
    }
}
