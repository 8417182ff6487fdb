//! Who may know whom. rustc allows cycles between modules of a crate; this does not.
//!
//! Reads every file under `src/`, takes each `crate::NAME` of production code and compares it with
//! the table. A new top-level module has to be entered here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Known by everyone.
const LEAVES: &[&str] = &["error", "secret", "telemetry", "text", "trust"];

/// What each top-level module may know beside the leaves.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("secret", &[]),
    ("telemetry", &[]),
    ("text", &[]),
    ("trust", &[]),
    ("mcp", &[]),
    ("limit", &[]),
    ("descriptor", &[]),
    ("access", &[]),
    // Links are sealed to principals, and the seal is the protocol's.
    ("credential", &["access", "mcp"]),
    ("upstream", &["mcp", "credential", "limit"]),
    // What replicas tell each other is sealed, and the seal is the protocol's.
    ("shared_state", &["mcp"]),
    (
        "catalog",
        &["descriptor", "mcp", "limit", "credential", "upstream"],
    ),
    ("facade", &["catalog", "mcp"]),
    (
        "exchange",
        &[
            "access",
            "facade",
            "catalog",
            "limit",
            "credential",
            "upstream",
            "mcp",
            "shared_state",
        ],
    ),
    (
        "proxy",
        &[
            "exchange",
            "access",
            "facade",
            "catalog",
            "limit",
            "credential",
            "upstream",
            "mcp",
        ],
    ),
    ("admin", &["catalog", "access"]),
    ("settings", &["descriptor"]),
    (
        "app",
        &[
            "settings",
            "descriptor",
            "access",
            "mcp",
            "limit",
            "credential",
            "upstream",
            "shared_state",
            "catalog",
            "facade",
            "exchange",
            "proxy",
            "admin",
        ],
    ),
    (
        "cli",
        &[
            "app",
            "settings",
            "descriptor",
            "access",
            "mcp",
            "limit",
            "credential",
            "upstream",
            "shared_state",
            "catalog",
            "facade",
            "exchange",
            "proxy",
            "admin",
        ],
    ),
];

/// What leaves may know: of them only `telemetry` knows another.
const LEAF_MAY_KNOW: &[(&str, &str)] = &[("telemetry", "error")];

#[test]
fn modules_know_only_whom_the_table_allows() {
    let mut broken = Vec::new();
    for file in sources() {
        for known in mentioned(&file.code) {
            if known != file.module && !may_know(&file.module, &known) {
                broken.push(format!("{}: `{}` may not know `{known}`", file.path, file.module));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_top_level_module_is_in_the_table() {
    let entered: BTreeSet<String> = MAY_KNOW.iter().map(|(name, _)| (*name).to_owned()).collect();
    let there: BTreeSet<String> = sources()
        .into_iter()
        .map(|file| file.module)
        .filter(|name| name != "lib" && name != "main")
        .collect();
    assert_eq!(there, entered, "left: the folder, right: the table");
}

#[test]
fn no_cycle_exists_between_top_level_modules() {
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in sources() {
        let known = mentioned(&file.code)
            .into_iter()
            .filter(|known| *known != file.module);
        edges.entry(file.module.clone()).or_default().extend(known);
    }
    assert_eq!(cycle(&edges), None);
}

#[test]
fn the_table_itself_has_no_cycle() {
    let edges = MAY_KNOW
        .iter()
        .map(|(name, known)| {
            (
                (*name).to_owned(),
                known.iter().map(|one| (*one).to_owned()).collect(),
            )
        })
        .collect();
    assert_eq!(cycle(&edges), None);
}

#[test]
fn imports_stay_greppable() {
    let mut broken = Vec::new();
    for file in sources() {
        for (pattern, why) in [
            ("crate::{", "write one `use crate::NAME::…` a line and module"),
            ("crate::*", "name what is used"),
            ("super::super::", "write the path from `crate::`"),
        ] {
            if file.code.contains(pattern) {
                broken.push(format!("{}: `{pattern}`: {why}", file.path));
            }
        }
        if file.is_top && without_inline_modules(&file.code).contains("super::") {
            broken.push(format!(
                "{}: `super::` reaches the crate root: write `crate::`",
                file.path
            ));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_reader_sees_code_and_neither_comments_nor_strings_nor_tests() {
    let code = code_of(
        r##"//! [`crate::doc`]
use crate::seen::{A, B}; // crate::comment
/* crate::block /* crate::nested */ crate::block */
const S: &str = "crate::string \" crate::string";
const R: &str = r#"crate::raw " crate::raw"#;
const C: char = '"'; type T<'a> = &'a crate::also_seen::X;
#[cfg(test)]
mod tests { use crate::test; fn f() { "}"; } }
#[cfg(test)]
use crate::test_import;
#[cfg(all(test, unix))]
fn f() { crate::test_fn() }
fn g() { $crate::macro_made(); crate::last::g() }
"##,
    );
    let seen: Vec<String> = mentioned(&code).into_iter().collect();
    assert_eq!(seen, ["also_seen", "last", "seen"]);
}

#[test]
fn a_planted_cycle_is_found() {
    let edges = [
        ("a", vec!["b"]),
        ("b", vec!["c"]),
        ("c", vec!["a"]),
        ("d", vec!["a"]),
    ]
    .into_iter()
    .map(|(from, to)| (from.to_owned(), to.into_iter().map(str::to_owned).collect()))
    .collect();
    assert_eq!(
        cycle(&edges),
        Some(vec![
            "a".to_owned(),
            "b".to_owned(),
            "c".to_owned(),
            "a".to_owned()
        ])
    );
}

struct SourceFile {
    path: String,
    /// Top-level module the file belongs to.
    module: String,
    /// Whether it is the top of that module, so that `super` is the crate root.
    is_top: bool,
    /// Production code without comments and strings.
    code: String,
}

fn may_know(module: &str, known: &str) -> bool {
    match module {
        "lib" => return true,
        "main" => return known == "cli",
        _ => {}
    }
    if LEAVES.contains(&module) {
        return LEAF_MAY_KNOW.contains(&(module, known));
    }
    let allowed = MAY_KNOW
        .iter()
        .find(|(name, _)| *name == module)
        .map_or(&[][..], |(_, known)| known);
    LEAVES.contains(&known) || allowed.contains(&known)
}

fn sources() -> Vec<SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    paths.sort();
    let found: Vec<SourceFile> = paths.iter().filter_map(|path| source(&root, path)).collect();
    assert!(found.len() > 10, "{} holds the sources", root.display());
    found
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, into);
        } else if path.extension().is_some_and(|end| end == "rs") {
            into.push(path);
        }
    }
}

/// The file, unless it is a test's.
fn source(root: &Path, path: &Path) -> Option<SourceFile> {
    let inner = path.strip_prefix(root).unwrap();
    let parts: Vec<String> = inner
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if parts.iter().any(|part| part == "tests" || part == "tests.rs") {
        return None;
    }
    let module = parts.first().unwrap().trim_end_matches(".rs").to_owned();
    let is_top = parts.len() == 1 || (parts.len() == 2 && parts.last().unwrap() == "mod.rs");
    let code = code_of(&fs::read_to_string(path).unwrap());
    Some(SourceFile {
        path: format!("src/{}", parts.join("/")),
        module,
        is_top,
        code,
    })
}

/// First names of all `crate::` paths.
fn mentioned(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|one| one == '$' || one == '_' || one.is_alphanumeric()) {
            continue;
        }
        let after = &code[at + "crate::".len()..];
        let name: String = after
            .chars()
            .take_while(|one| *one == '_' || one.is_alphanumeric())
            .collect();
        if !name.is_empty() {
            names.insert(name);
        }
    }
    names
}

/// A way from a module back to itself.
fn cycle(edges: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn walk(
        at: &str,
        way: &mut Vec<String>,
        edges: &BTreeMap<String, BTreeSet<String>>,
    ) -> Option<Vec<String>> {
        if let Some(start) = way.iter().position(|one| one == at) {
            let mut round = way[start..].to_vec();
            round.push(at.to_owned());
            return Some(round);
        }
        way.push(at.to_owned());
        let found = edges
            .get(at)
            .into_iter()
            .flatten()
            .find_map(|next| walk(next, way, edges));
        way.pop();
        found
    }
    edges.keys().find_map(|start| walk(start, &mut Vec::new(), edges))
}

/// Production code alone: comments and strings blanked, items under `cfg(test)` cut.
fn code_of(text: &str) -> String {
    let mut code = blank(text);
    for marker in ["#[cfg(test)]", "#[cfg(all(test"] {
        while let Some(at) = code.find(marker) {
            let end = item_end(&code, at);
            code.replace_range(at..end, "");
        }
    }
    code
}

fn without_inline_modules(code: &str) -> String {
    let mut code = code.to_owned();
    let mut from = 0;
    while let Some(at) = code[from..].find("mod ").map(|at| from + at) {
        let end = item_end(&code, at);
        if code[at..end].contains('{') {
            code.replace_range(at..end, "");
        }
        from = at + 1;
    }
    code
}

/// End of the item that begins at `at`: its `;` or its closing brace.
fn item_end(code: &str, at: usize) -> usize {
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
fn blank(text: &str) -> String {
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
