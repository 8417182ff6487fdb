//! An entry in a client's TOML: a table at the end of the file, put in and taken out by whole lines.
//!
//! What is written says what the file was like before: a text without a last line ending gets an entry without one,
//! and a file that was made here ends with one.

use std::ops::Range;

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::edit::{FileChange, TextEdit, apply, newline, newline_before};
use super::json::EntryPlace;
use crate::cli::import::tree::{SyntaxFault, fault_at};

const BY_HAND: &str = "change it by hand: it is not set as a table of its own";

/// The entry that stands there.
pub(super) fn entry(text: &str, place: EntryPlace<'_>) -> Result<Option<Value>, SyntaxFault> {
    let root = parse(text)?;
    let Some(entry) = find(&root, place) else {
        return Ok(None);
    };
    Ok(Some(plain(entry.1.get_ref())))
}

/// The text with an entry that was not there.
pub(super) fn insert(text: &str, place: EntryPlace<'_>, entry: &Value) -> String {
    let newline = newline(text);
    let table = table(place, entry, newline);
    if text.is_empty() {
        table
    } else if text.ends_with('\n') {
        format!("{text}{newline}{table}{newline}")
    } else {
        format!("{text}{newline}{newline}{table}")
    }
}

/// A new file with nothing but the entry.
pub(super) fn new_file(place: EntryPlace<'_>, entry: &Value) -> String {
    table(place, entry, "\n") + "\n"
}

/// The text with members of the entry replaced or added; others that stand in it stay.
pub(super) fn update(
    text: &str,
    place: EntryPlace<'_>,
    wanted: &Map<String, Value>,
) -> Result<String, SyntaxFault> {
    let mut text = text.to_owned();
    for (key, value) in wanted {
        let edit = update_member(&text, place, (key, value))?;
        text = apply(&text, edit.as_slice());
    }
    Ok(text)
}

/// The text without one of several members of the entry, which stands on lines of its own.
pub(super) fn remove_key(text: &str, place: EntryPlace<'_>, key: &str) -> Result<String, SyntaxFault> {
    let root = parse(text)?;
    let Some((_, entry)) = find(&root, place) else {
        return Ok(text.to_owned());
    };
    let DeValue::Table(table) = entry.get_ref() else {
        return Ok(text.to_owned());
    };
    let Some((name, value)) = table.iter().find(|(name, _)| name.get_ref() == key) else {
        return Ok(text.to_owned());
    };
    let mut lines = whole_lines(text, name.span().start..value.span().end);
    if lines.end == text.len() && !text.ends_with('\n') {
        lines.start = newline_before(text, lines.start);
    }
    Ok(apply(text, &[TextEdit::delete(lines)]))
}

/// The text without the entry.
pub(super) fn remove(text: &str, place: EntryPlace<'_>) -> Result<FileChange, SyntaxFault> {
    let root = parse(text)?;
    let Some((key, value)) = find(&root, place) else {
        return Ok(FileChange::Unchanged);
    };
    let mut lines = vec![key.span()];
    ranges(value, &mut lines);
    let mut lines: Vec<Range<usize>> = lines.into_iter().map(|range| whole_lines(text, range)).collect();
    lines.sort_by_key(|range| range.start);
    let mut edits: Vec<TextEdit> = Vec::new();
    for range in lines {
        match edits.last_mut() {
            Some(last) if range.start <= last.range.end => {
                last.range.end = last.range.end.max(range.end);
            }
            _ => edits.push(TextEdit::delete(range)),
        }
    }
    // The empty line before the table came with it.
    if let Some(first) = edits.first_mut() {
        let is_unended = first.range.end == text.len() && !text.ends_with('\n');
        first.range.start = blank_line_before(text, first.range.start, is_unended);
    }
    let rest = apply(text, &edits);
    if rest.is_empty() && text.ends_with('\n') {
        return Ok(FileChange::Removed);
    }
    Ok(FileChange::Text(rest))
}

fn parse(text: &str) -> Result<Spanned<DeTable<'_>>, SyntaxFault> {
    DeTable::parse(text).map_err(|error| {
        let message = format!("not TOML: {}", crate::cli::import::tree::shown(error.message()));
        let at = error.span().map_or(0, |span| span.start);
        fault_at(text, at, message, "correct the file where the client reads it")
    })
}

type Member<'b, 'a> = (&'b Spanned<std::borrow::Cow<'a, str>>, &'b Spanned<DeValue<'a>>);

fn find<'b, 'a>(root: &'b Spanned<DeTable<'a>>, place: EntryPlace<'_>) -> Option<Member<'b, 'a>> {
    let container = root.get_ref().get(place.container)?.get_ref();
    let DeValue::Table(container) = container else {
        return None;
    };
    container.iter().find(|(key, _)| key.get_ref() == place.name)
}

/// Keys and values below a table; other values hold nothing that stands on lines of its own.
fn ranges(value: &Spanned<DeValue<'_>>, lines: &mut Vec<Range<usize>>) {
    let DeValue::Table(table) = value.get_ref() else {
        lines.push(value.span());
        return;
    };
    for (key, value) in table {
        lines.push(key.span());
        ranges(value, lines);
    }
}

/// The lines that a range touches, with the ending of the last.
fn whole_lines(text: &str, range: Range<usize>) -> Range<usize> {
    let head = text.get(..range.start).unwrap_or_default();
    let start = head.rfind('\n').map_or(0, |at| at + 1);
    let tail = text.get(range.end..).unwrap_or_default();
    let end = tail.find('\n').map_or(text.len(), |at| range.end + at + 1);
    start..end
}

/// Where the empty line before a table begins; before one at the end of a text without a last line ending, the
/// ending of the line above too.
fn blank_line_before(text: &str, at: usize, is_unended: bool) -> usize {
    let blank = newline_before(text, at);
    let line = newline_before(text, blank);
    match (line == blank, is_unended) {
        (true, _) => at,
        (false, true) => line,
        (false, false) => blank,
    }
}

fn update_member(
    text: &str,
    place: EntryPlace<'_>,
    (key, value): (&str, &Value),
) -> Result<Option<TextEdit>, SyntaxFault> {
    let root = parse(text)?;
    let Some((entry_key, entry)) = find(&root, place) else {
        return Ok(None);
    };
    let DeValue::Table(table) = entry.get_ref() else {
        return Err(fault_at(
            text,
            entry.span().start,
            "the entry is no table",
            BY_HAND,
        ));
    };
    if let Some((_, old)) = table.iter().find(|(name, _)| name.get_ref() == key) {
        let is_same = plain(old.get_ref()) == *value;
        return Ok((!is_same).then(|| TextEdit::replace(old.span(), inline(value))));
    }
    // Behind the header.
    let line = whole_lines(text, entry_key.span());
    let header = text.get(line.clone()).unwrap_or_default();
    if !header.trim_start().starts_with('[') {
        return Err(fault_at(
            text,
            line.start,
            "the entry is no table of its own",
            BY_HAND,
        ));
    }
    let newline = newline(text);
    let member = format!("{key} = {}", inline(value));
    let is_ended = header.ends_with('\n');
    Ok(Some(TextEdit::insert(
        line.end,
        if is_ended {
            format!("{member}{newline}")
        } else {
            format!("{newline}{member}")
        },
    )))
}

fn plain(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Boolean(flag) => Value::from(*flag),
        DeValue::Integer(number) => serde_json::from_str(number.as_str()).unwrap_or_default(),
        DeValue::Float(number) => serde_json::from_str(number.as_str()).unwrap_or_default(),
        DeValue::Datetime(moment) => Value::from(moment.to_string()),
        DeValue::Array(items) => items.iter().map(|item| plain(item.get_ref())).collect(),
        DeValue::Table(table) => {
            let members = table.iter();
            let members = members.map(|(key, value)| (key.get_ref().to_string(), plain(value.get_ref())));
            Value::Object(members.collect())
        }
    }
}

/// The table without its last line ending.
fn table(place: EntryPlace<'_>, entry: &Value, newline: &str) -> String {
    let mut lines = vec![format!("[{}.{}]", key(place.container), key(place.name))];
    for (name, value) in entry.as_object().into_iter().flatten() {
        lines.push(format!("{} = {}", key(name), inline(value)));
    }
    lines.join(newline)
}

fn inline(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members: Vec<String> = members
                .iter()
                .map(|(name, value)| format!("{} = {}", key(name), inline(value)))
                .collect();
            format!("{{ {} }}", members.join(", "))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(inline).collect();
            format!("[{}]", items.join(", "))
        }
        // A basic string of TOML takes the escapes of JSON.
        other => other.to_string(),
    }
}

fn key(name: &str) -> String {
    let is_bare = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-');
    if !name.is_empty() && name.chars().all(is_bare) {
        name.to_owned()
    } else {
        Value::from(name).to_string()
    }
}
