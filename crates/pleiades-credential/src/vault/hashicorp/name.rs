//! Names as segments of a path in Vault: every text has one encoding, no two texts share one, and
//! none can form another path.
//!
//! Letters, digits, `_`, `-`, `@` and single dots within stand for themselves; every other byte of
//! the UTF-8 text is `~` and two hexadecimal digits; the empty text is `~`. Vault's storage bounds the
//! length of a segment, so a long encoding is a chain of folders: `~~` begins each part but the
//! last, `~=` the last.

/// Longest encoding that is one segment. Vault encrypts names of the KV engine, which makes them
/// half as long again, and file systems end at 255 bytes.
const MAX: usize = 96;
/// Begins a part that goes on in its folder.
const MORE: &str = "~~";
/// Begins the last part.
const LAST: &str = "~=";

/// The path of these segments, joined by `/`.
pub(super) fn path<'a>(segments: impl Iterator<Item = &'a str>) -> String {
    let mut path = String::new();
    for segment in segments {
        if !path.is_empty() {
            path.push('/');
        }
        append(&mut path, &encoded(segment));
    }
    path
}

fn append(path: &mut String, encoded: &str) {
    let mut rest = encoded;
    while let Some((head, tail)) = rest.split_at_checked(MAX).filter(|(_, tail)| !tail.is_empty()) {
        path.push_str(MORE);
        path.push_str(head);
        path.push('/');
        rest = tail;
    }
    if encoded.len() > MAX {
        path.push_str(LAST);
    }
    path.push_str(rest);
}

fn encoded(text: &str) -> String {
    if text.is_empty() {
        return "~".to_owned();
    }
    let mut encoded = String::with_capacity(text.len());
    let mut before = b'.';
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'@');
        // Neither `.` nor `..` nor a hidden file can come of a name.
        if plain || (byte == b'.' && before != b'.') {
            encoded.push(char::from(byte));
        } else {
            encoded.push('~');
            encoded.extend([byte >> 4, byte & 15].map(digit));
        }
        before = byte;
    }
    encoded
}

fn digit(value: u8) -> char {
    char::from_digit(u32::from(value), 16).unwrap_or_default()
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum ListedKey {
    Name(String),
    /// The beginning of long names, to be listed as well: the segment.
    More(String),
}

/// Reads one key of a listing below the parts `begun` of a long name. `None`: no name of ours.
pub(super) fn listed(key: &str, begun: &str) -> Option<ListedKey> {
    let key = key.strip_suffix('/').unwrap_or(key);
    if let Some(part) = key.strip_prefix(MORE) {
        return (part.len() == MAX).then(|| ListedKey::More(key.to_owned()));
    }
    let whole = match (key.strip_prefix(LAST), begun.is_empty()) {
        (Some(part), false) => format!("{begun}{part}"),
        (None, true) => key.to_owned(),
        _ => return None,
    };
    let name = decoded(&whole)?;
    // One encoding only: what somebody else put there under another spelling is not ours.
    (encoded(&name) == whole).then_some(ListedKey::Name(name))
}

/// The text of a part without its mark.
pub(super) fn part(segment: &str) -> &str {
    segment.strip_prefix(MORE).unwrap_or(segment)
}

fn decoded(encoded: &str) -> Option<String> {
    if encoded == "~" {
        return Some(String::new());
    }
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'~' {
            let mut hex = || char::from(rest.next()?).to_digit(16);
            let (high, low) = (hex()?, hex()?);
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a path of one name back, as listings of one folder after the other do.
    fn read_back(path: &str) -> Option<String> {
        let mut begun = String::new();
        let mut name = None;
        for segment in path.split('/') {
            assert_eq!(name, None, "{path} goes on after its name");
            match listed(segment, &begun)? {
                ListedKey::Name(found) => name = Some(found),
                ListedKey::More(segment) => begun.push_str(part(&segment)),
            }
        }
        name
    }

    fn hostile() -> Vec<String> {
        let mut names: Vec<String> = [
            "",
            ".",
            "..",
            "...",
            "a.b",
            "a..b",
            ".a",
            "a.",
            "/",
            "a/b",
            "../c",
            "a?b",
            "a#b",
            "a b",
            "%2e%2e",
            "~",
            "~~",
            "~=",
            "~2e",
            "ü",
            "日本",
            "\u{0}",
            "\n",
            "+",
            "*",
            "a\\b",
            "_gateway",
            "c",
            "A",
            "a",
            "alice@example.com",
            "data",
            "metadata",
        ]
        .map(str::to_owned)
        .into();
        for length in [95, 96, 97, 192, 193, 300, 1000] {
            names.push("x".repeat(length));
            names.push("/".repeat(length));
            names.push(format!("{}..", "x".repeat(length)));
        }
        names
    }

    #[test]
    fn every_name_is_read_back_from_its_path() {
        for name in hostile() {
            let path = path([name.as_str()].into_iter());
            assert_eq!(read_back(&path).as_deref(), Some(&*name), "{path}");
        }
    }

    #[test]
    fn no_two_names_share_a_path_and_no_segment_is_empty_long_or_made_of_dots() {
        let mut seen = std::collections::BTreeMap::new();
        for name in hostile() {
            let path = path([name.as_str()].into_iter());
            for segment in path.split('/') {
                assert!(!segment.is_empty() && segment.len() <= MAX + 2, "{path}");
                assert!(!segment.starts_with('.') && !segment.contains(".."), "{path}");
                assert!(
                    segment
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || b"_-@.~=".contains(&byte)),
                    "{path}"
                );
            }
            assert_eq!(seen.insert(path.clone(), name), None, "{path}");
        }
    }

    #[test]
    fn segments_never_run_into_one_another() {
        let one = path(["a", "b/c"].into_iter());
        let two = path(["a/b", "c"].into_iter());
        let long = "x".repeat(300);
        assert_ne!(one, two);
        assert_ne!(
            path([long.as_str(), "y"].into_iter()),
            path([format!("{long}y").as_str()].into_iter())
        );
    }

    #[test]
    fn another_spelling_of_a_name_is_no_name_of_ours() {
        for key in ["~61", "a/b", "..", "~2E", "~", "~~short", "~=x", "~zz", "~f"] {
            let name = listed(key, "");
            assert!(name.is_none() || key == "~", "{key}: {name:?}");
        }
    }
}
