//! The workspace's own sources, read as code: what the rules on names and layers look at.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// One source file.
pub struct SourceFile {
    /// Its path from the root of the workspace.
    pub path: String,
    /// Its text without comments and without the contents of literals.
    pub code: String,
}

/// The root of the workspace.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files of these folders that are there, in the order of their paths.
pub fn files(folders: &[&str]) -> Vec<SourceFile> {
    let root = root();
    let mut paths = Vec::new();
    for folder in folders {
        collect(&root.join(folder), &mut paths);
    }
    paths.sort();
    assert!(paths.len() > 5, "{folders:?} hold the sources");
    let read = |path: PathBuf| SourceFile {
        code: blank(&fs::read_to_string(&path).unwrap()),
        path: path.strip_prefix(root).unwrap().to_string_lossy().into_owned(),
    };
    paths.into_iter().map(read).collect()
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, into);
        } else if path.extension().is_some_and(|end| end == "rs") {
            into.push(path);
        }
    }
}

/// A code without its items under `cfg(test)`.
pub fn production(code: &str) -> String {
    let mut code = code.to_owned();
    for marker in ["#[cfg(test)]", "#[cfg(all(test"] {
        while let Some(at) = code.find(marker) {
            let end = item_end(&code, at);
            code.replace_range(at..end, "");
        }
    }
    code
}

/// End of the item that begins at `at`: its `;` or its closing brace.
pub fn item_end(code: &str, at: usize) -> usize {
    let mut depth = 0_usize;
    for (offset, one) in code[at..].char_indices() {
        match one {
            '{' => depth += 1,
            '}' if depth <= 1 => return at + offset + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return at + offset + 1,
            _ => {}
        }
    }
    code.len()
}

/// The text with comments removed and the contents of strings and characters removed.
pub fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = skip_comment(rest).or_else(|| skip_string(rest, out.chars().next_back()));
        if let Some(skipped) = skipped {
            out.push(' ');
            rest = &rest[skipped..];
            continue;
        }
        out.push(first);
        rest = &rest[first.len_utf8()..];
    }
    out
}

/// Length of the comment that the text begins with.
fn skip_comment(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if !text.starts_with("/*") {
        return None;
    }
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        let here = &text.as_bytes()[at..];
        if here.starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if here.starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    Some(at)
}

/// Length of the string or character literal that the text begins with.
fn skip_string(text: &str, before: Option<char>) -> Option<usize> {
    let in_word = before.is_some_and(|one| one == '_' || one.is_alphanumeric());
    if text.starts_with('r') && !in_word {
        let hashes = text[1..].chars().take_while(|one| *one == '#').count();
        if text[1 + hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let body = 2 + hashes;
            return text[body..].find(&end).map(|at| body + at + end.len());
        }
    }
    if text.starts_with('"') {
        return quoted(text, b'"');
    }
    // A lifetime is no literal: a character has its quote after one character or an escape.
    let is_char = text.starts_with("'\\") || text.starts_with('\'') && text.chars().nth(2) == Some('\'');
    if is_char { quoted(text, b'\'') } else { None }
}

fn quoted(text: &str, quote: u8) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            one if one == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
    None
}
