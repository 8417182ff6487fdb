//! A file's text, and changes of it that leave every other byte alone.

use std::ops::Range;

/// One stretch of a text in place of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TextEdit {
    pub(super) range: Range<usize>,
    pub(super) text: String,
}

impl TextEdit {
    pub(super) fn insert(at: usize, text: impl Into<String>) -> Self {
        Self {
            range: at..at,
            text: text.into(),
        }
    }

    pub(super) fn delete(range: Range<usize>) -> Self {
        Self {
            range,
            text: String::new(),
        }
    }

    pub(super) fn replace(range: Range<usize>, text: impl Into<String>) -> Self {
        Self {
            range,
            text: text.into(),
        }
    }
}

/// The text with these changes, which are in its order and do not overlap.
pub(super) fn apply(text: &str, edits: &[TextEdit]) -> String {
    let mut changed =
        String::with_capacity(text.len() + edits.iter().map(|edit| edit.text.len()).sum::<usize>());
    let mut at = 0;
    for edit in edits {
        changed.push_str(text.get(at..edit.range.start).unwrap_or_default());
        changed.push_str(&edit.text);
        at = edit.range.end;
    }
    changed.push_str(text.get(at..).unwrap_or_default());
    changed
}

/// What a file is after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FileChange {
    /// It stays as it is.
    Unchanged,
    /// It has this text.
    Text(String),
    /// It held nothing but what is taken out, and was made for that.
    Removed,
}

/// The line ending of a text: that of its first line.
pub(super) fn newline(text: &str) -> &'static str {
    match text.find('\n') {
        Some(at) if text.get(..at).is_some_and(|line| line.ends_with('\r')) => "\r\n",
        _ => "\n",
    }
}

/// Where the spaces and tabs before an offset begin.
pub(super) fn blanks_before(text: &str, at: usize) -> usize {
    let before = text.get(..at).unwrap_or_default();
    before.trim_end_matches([' ', '\t']).len()
}

/// Where the line ending before an offset begins; the offset itself, if there is none.
pub(super) fn newline_before(text: &str, at: usize) -> usize {
    let before = text.get(..at).unwrap_or_default();
    let line = before
        .strip_suffix('\n')
        .map(|line| line.strip_suffix('\r').unwrap_or(line));
    line.map_or(at, str::len)
}

/// The line of an offset, from 1.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}
