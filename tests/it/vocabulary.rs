//! One word for one thing, and words of the field: no type name stands for two things, and none of the
//! words is used that only this code's authors would understand (`docs/GLOSSARY.md` has the others).

use std::collections::{BTreeMap, BTreeSet};

use super::source::{self, SourceFile};

/// Type names that several modules define, because the module says the rest: `vault::Error`.
const IDIOMS: &[&str] = &[
    "Builder", "Config", "Entry", "Error", "Fault", "Id", "Inner", "Key", "Kind", "Services", "State",
];

/// Words that no identifier holds, as a whole or as a part.
const BANNED_PARTS: &[&str] = &[
    "aside",
    "behalf",
    "book",
    "came",
    "considered",
    "course",
    "deaf",
    "desk",
    "door",
    "doors",
    "ear",
    "ears",
    "errand",
    "flight",
    "flying",
    "handed",
    "held",
    "keeper",
    "knock",
    "lane",
    "lanes",
    "leg",
    "legs",
    "letter",
    "machines",
    "mended",
    "mouth",
    "patience",
    "patient",
    "pursuit",
    "recess",
    "said",
    "setback",
    "shelf",
    "standing",
    "straight",
    "talk",
    "told",
    "twofold",
    "unmanned",
    "untaken",
    "waste",
    "whose",
    "witness",
];

/// Words that are plain in a sentence and say nothing as the name of a type.
const BANNED_TYPES: &[&str] = &[
    "Aside", "Course", "Found", "Handed", "Held", "Kept", "Known", "Looked", "Opened", "Place", "Read",
    "Round", "Walk", "Way", "Whose", "Wish",
];

#[test]
fn a_type_name_stands_for_one_thing() {
    let mut places: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for file in workspace() {
        for name in type_names(&file.code) {
            *counts.entry(name.clone()).or_default() += 1;
            places.entry(name).or_default().insert(file.path.clone());
        }
    }
    counts.retain(|_, count| *count > 1);
    let strangers: Vec<String> = counts
        .keys()
        .filter(|name| !IDIOMS.contains(&name.as_str()))
        .map(|name| format!("{name}: {:?}", places[name]))
        .collect();
    assert!(
        strangers.is_empty(),
        "defined more than once:\n{}",
        strangers.join("\n")
    );
}

#[test]
fn no_identifier_is_a_private_word() {
    let mut faults = Vec::new();
    for file in workspace() {
        let stem = file.path.replace(".rs", "").replace(['/', '-'], " ");
        let names = banned(&stem).into_iter().chain(banned(&file.code));
        let names: BTreeSet<String> = names.collect();
        if !names.is_empty() {
            faults.push(format!("{}: {names:?}", file.path));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn planted_violations_are_found_and_sentences_are_let_be() {
    let code = source::blank(
        r#"// lane
pub struct Held { in_flight: u8, told_apart: &'static str } // the type and one field
pub(in crate::a) enum Kind { TalkOpen }
type Walk = u8;
impl Iterator for X {
    type Item = Lines;
}
#[tokio::test(start_paused = true)]
async fn what_is_told_is_said() { let shelf = "said"; println!("{standing}"); }
fn knock() {}
"#,
    );
    assert_eq!(type_names(&code), ["Held", "Kind", "Walk"]);
    let found: Vec<String> = banned(&code).into_iter().collect();
    assert_eq!(
        found,
        ["Held", "TalkOpen", "Walk", "knock", "shelf", "told_apart"]
    );
}

fn workspace() -> Vec<SourceFile> {
    source::files(&["src", "crates", "tests", "benches", "fuzz/src"])
}

/// Names of all types that a code defines; associated types are their traits'.
fn type_names(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for line in code.lines() {
        let is_indented = line.starts_with([' ', '\t']);
        // Whatever the visibility, `pub(in crate::a)` as well.
        let item = match line.trim_start().strip_prefix("pub(") {
            Some(rest) => rest.split_once(") ").map_or(rest, |(_, item)| item),
            None => line.trim_start().trim_start_matches("pub "),
        };
        let mut words = identifiers(item).map(|(_, word)| word);
        match words.next() {
            Some("type") if is_indented => {}
            Some("struct" | "enum" | "trait" | "type") => {
                let name = words.next().filter(|name| name.starts_with(char::is_uppercase));
                names.extend(name.map(str::to_owned));
            }
            _ => {}
        }
    }
    names
}

/// Identifiers with a banned word. The name of a test is a sentence, not an identifier.
fn banned(code: &str) -> BTreeSet<String> {
    let sentences = sentences(code);
    let types = type_names(code);
    let is_banned_type = |name: &str| BANNED_TYPES.contains(&name) && types.iter().any(|one| one == name);
    identifiers(code)
        .filter(|(at, name)| !sentences.contains(at) && (has_banned_part(name) || is_banned_type(name)))
        .map(|(_, name)| name.to_owned())
        .collect()
}

/// Where the names of test functions stand.
fn sentences(code: &str) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    for marker in ["#[test]", "#[tokio::test"] {
        for (at, _) in code.match_indices(marker) {
            if let Some(name) = code[at..].find("fn ").map(|to| at + to + "fn ".len()) {
                found.insert(name);
            }
        }
    }
    found
}

fn has_banned_part(name: &str) -> bool {
    let parts = parts(name);
    parts.iter().enumerate().any(|(at, part)| {
        let is_in_flight = part == "flight" && at > 0 && parts[at - 1] == "in";
        BANNED_PARTS.contains(&part.as_str()) && !is_in_flight
    })
}

/// The words of a name in any case, in lower case: `told_apart`, `ToldApart` and `TOLD_APART` are two.
fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut was_lower = false;
    for one in name.chars() {
        if one == '_' || (one.is_uppercase() && was_lower) {
            parts.push(String::new());
        }
        was_lower = one.is_lowercase() || one.is_numeric();
        if one != '_'
            && let Some(part) = parts.last_mut()
        {
            part.extend(one.to_lowercase());
        }
    }
    parts
}

/// Every identifier and keyword of a code, and where it stands.
fn identifiers(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_part = |one: char| one == '_' || one.is_alphanumeric();
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            at += code.get(at..)?.find(is_part)?;
            let rest = &code[at..];
            let end = rest.find(|one| !is_part(one)).unwrap_or(rest.len());
            let (from, word) = (at, &rest[..end]);
            at += end;
            if !word.starts_with(|one: char| one.is_numeric()) {
                return Some((from, word));
            }
        }
    })
}
