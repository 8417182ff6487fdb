//! Descriptors that commands write: ids, scalars, and files that are whole or not there.

use std::io;
use std::path::{Path, PathBuf};

/// First line of every written descriptor: editors know its fields by it.
pub(super) const SCHEMA: &str = "# yaml-language-server: $schema=../schemas/provider.json\n";
/// Longest id, in characters.
const ID: usize = 63;

/// A legal id made of any text; characters that are no letters, digits or in `keep` become `_`.
pub(super) fn id(text: &str, keep: &[char]) -> String {
    let mut id = String::new();
    for char in text.chars().map(|char| char.to_ascii_lowercase()) {
        match char {
            'a'..='z' | '0'..='9' => id.push(char),
            _ if id.is_empty() => {}
            _ if keep.contains(&char) => id.push(char),
            _ if !id.ends_with('_') => id.push('_'),
            _ => {}
        }
    }
    let id: String = id.chars().take(ID).collect();
    legal(id.trim_end_matches(['_', '-']))
}

/// Prefixes ids that are reserved or empty.
pub(super) fn legal(id: &str) -> String {
    if id.is_empty() {
        return "p".to_owned();
    }
    if id.starts_with("s_") {
        return format!("p_{id}").chars().take(ID).collect();
    }
    id.to_owned()
}

/// The same id with a number behind it, still legal.
pub(super) fn numbered(id: &str, number: usize) -> String {
    let tail = format!("_{number}");
    let head: String = id.chars().take(ID.saturating_sub(tail.len())).collect();
    format!("{head}{tail}")
}

/// An id as a YAML scalar: bare where YAML reads it as text.
pub(super) fn bare(id: &str) -> String {
    let is_word = id.starts_with(|char: char| char.is_ascii_lowercase());
    let is_taken = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&id);
    if is_word && !is_taken {
        id.to_owned()
    } else {
        literal(id)
    }
}

/// A double-quoted YAML scalar of exactly this text, references in it included. JSON strings are such
/// scalars, but for the characters that JSON lets stand and YAML does not.
pub(super) fn scalar(text: &str) -> String {
    let mut scalar = String::with_capacity(text.len() + 2);
    for char in serde_json::Value::from(text).to_string().chars() {
        match u32::from(char) {
            0x7f..=0x9f | 0xfeff => scalar.push_str(&format!("\\u{:04x}", u32::from(char))),
            _ => scalar.push(char),
        }
    }
    scalar
}

/// The same of a text in which nothing is a reference: `${` is written as `$${`.
pub(super) fn literal(text: &str) -> String {
    scalar(&text.replace("${", "$${"))
}

/// Writes a file as a whole, in place of what is there.
pub(super) fn replace(folder: &Path, file: &Path, text: &str) -> io::Result<()> {
    let draft = draft(folder, file, text)?;
    std::fs::rename(&draft, file).inspect_err(|_error| gone(&draft))
}

/// Writes a file as a whole; one that is there stays as it is ([`io::ErrorKind::AlreadyExists`]).
pub(super) fn create(folder: &Path, file: &Path, text: &str) -> io::Result<()> {
    let draft = draft(folder, file, text)?;
    // A link is made whole or not at all, and never over another file, as renaming would be.
    let made = std::fs::hard_link(&draft, file).or_else(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Err(error),
        // Some file systems know no links.
        _ if file.symlink_metadata().is_ok() => Err(io::Error::from(io::ErrorKind::AlreadyExists)),
        _ => std::fs::rename(&draft, file),
    });
    gone(&draft);
    made
}

/// The text beside its place, under a name that no gateway reads.
fn draft(folder: &Path, file: &Path, text: &str) -> io::Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    let draft = file.with_extension(format!("yaml.{}", std::process::id()));
    std::fs::write(&draft, text).inspect_err(|_error| gone(&draft))?;
    Ok(draft)
}

/// A draft that cannot be removed harms nobody.
fn gone(draft: &Path) {
    std::fs::remove_file(draft).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_makes_a_legal_id() {
        let keep = ['-', '_'];
        assert_eq!(id("GitHub Copilot (beta)", &keep), "github_copilot_beta");
        assert_eq!(id("my-server_2", &keep), "my-server_2");
        assert_eq!(id("s_x", &keep), "p_s_x");
        assert_eq!(id("日本", &keep), "p");
        assert_eq!(id(&"a".repeat(100), &keep).len(), 63);
        assert_eq!(numbered(&"a".repeat(63), 12).len(), 63);
    }

    #[test]
    fn a_file_that_is_there_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        create(folder.path(), &file, "one").unwrap();
        let again = create(folder.path(), &file, "two").unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "one");
        replace(folder.path(), &file, "three").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "three");
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            1,
            "no draft is left"
        );
    }
}
