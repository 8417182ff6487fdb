//! Who may know whom within a crate; between crates their manifests say it.
//!
//! rustc allows cycles between the modules of a crate; this does not. Reads the production code of
//! every file and takes each `crate::NAME` of it.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{self, SourceFile};

/// A crate's source folder, and what each of its rooms may know.
type Rooms = (&'static str, &'static [(&'static str, &'static [&'static str])]);

/// The crates with several rooms. A new folder has to be entered here.
const ROOMS: &[Rooms] = &[
    ("src", &[("app", &[]), ("cli", &["app"])]),
    (
        "crates/pleiades-gateway/src",
        &[
            ("admin", &["catalog"]),
            ("catalog", &[]),
            ("exchange", &["catalog", "facade", "result_store", "shared_state"]),
            ("facade", &["catalog"]),
            ("proxy", &["catalog", "exchange", "facade"]),
            ("result_store", &["shared_state"]),
            ("shared_state", &[]),
        ],
    ),
];

/// Single modules that know none of their crate, so that all of it may know them.
const LEAVES: &[(&str, &[&str])] = &[
    (
        "crates/pleiades-core/src",
        &[
            "backoff", "bounded", "limit", "random", "secret", "text", "time", "tokens", "trust", "tokens",
        ],
    ),
    ("crates/pleiades-credential/src", &["access"]),
    ("crates/pleiades-mcp/src", &["raw", "revision", "seal", "sse"]),
];

/// Libraries that a crate must not reach, however indirectly: crate, library, why.
const UNREACHED: &[(&str, &str, &str)] = &[
    (
        "pleiades-credential",
        "pingora-core",
        "tokens are renewed without a proxy",
    ),
    (
        "pleiades-credential",
        "pleiades-upstream",
        "credentials know no provider",
    ),
    ("pleiades-mcp", "reqwest", "the protocol does no I/O"),
    (
        "pleiades-descriptor",
        "reqwest",
        "descriptors are read without I/O",
    ),
];

#[test]
fn rooms_know_only_whom_the_table_allows() {
    let mut faults = Vec::new();
    for (folder, table) in ROOMS {
        for file in sources(folder) {
            let Some((_, allowed)) = table.iter().find(|(name, _)| *name == file.module) else {
                continue;
            };
            for other in mentioned(&file.code) {
                let is_room = table.iter().any(|(name, _)| *name == other);
                if is_room && other != file.module && !allowed.contains(&other.as_str()) {
                    faults.push(format!("{}: `{}` may not know `{other}`", file.path, file.module));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_folder_of_a_crate_with_rooms_is_in_the_table() {
    for (folder, table) in ROOMS {
        let entered: BTreeSet<&str> = table.iter().map(|(name, _)| *name).collect();
        let files = sources(folder);
        let modules = files.iter().map(|file| file.module.as_str());
        let there: BTreeSet<&str> = modules.filter(|name| !["lib", "main"].contains(name)).collect();
        assert_eq!(there, entered, "left: {folder}, right: the table");
    }
}

#[test]
fn leaves_know_none_of_their_crate() {
    let mut faults = Vec::new();
    for (folder, leaves) in LEAVES {
        for file in sources(folder)
            .iter()
            .filter(|file| leaves.contains(&file.module.as_str()))
        {
            for other in mentioned(&file.code)
                .into_iter()
                .filter(|other| *other != file.module)
            {
                faults.push(format!(
                    "{}: `{}` is a leaf and knows `{other}`",
                    file.path, file.module
                ));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn no_cycle_exists_between_the_rooms_of_a_crate() {
    for (folder, table) in ROOMS {
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for file in sources(folder) {
            let others = mentioned(&file.code).into_iter();
            let others = others.filter(|other| *other != file.module);
            edges.entry(file.module.clone()).or_default().extend(others);
        }
        assert_eq!(cycle(&edges), None, "{folder}");
        let declared = table.iter().map(|(name, allowed)| {
            let allowed = allowed.iter().map(|one| (*one).to_owned());
            ((*name).to_owned(), allowed.collect())
        });
        assert_eq!(cycle(&declared.collect()), None, "the table of {folder}");
    }
}

#[test]
fn crates_do_not_reach_what_they_are_kept_from() {
    let lock = std::fs::read_to_string(source::root().join("Cargo.lock")).unwrap();
    let edges = dependencies(&lock);
    for (name, library, why) in UNREACHED {
        assert!(edges.contains_key(*name), "{name} is in the lock file");
        let mut reached = BTreeSet::from([(*name).to_owned()]);
        let mut next = vec![(*name).to_owned()];
        while let Some(one) = next.pop() {
            for other in edges.get(&one).into_iter().flatten() {
                if reached.insert(other.clone()) {
                    next.push(other.clone());
                }
            }
        }
        assert!(!reached.contains(*library), "{name} reaches {library}: {why}");
    }
}

#[test]
fn imports_stay_greppable() {
    let mut faults = Vec::new();
    for folder in ["src", "crates"] {
        for file in sources(folder) {
            for (pattern, why) in [
                ("crate::*", "name what is used"),
                ("super::super::", "write the path from `crate::`"),
            ] {
                if file.code.contains(pattern) {
                    faults.push(format!("{}: `{pattern}`: {why}", file.path));
                }
            }
        }
    }
    for (folder, _) in ROOMS {
        for file in sources(folder) {
            if file.code.contains("crate::{") {
                faults.push(format!(
                    "{}: `crate::{{`: write one `use crate::NAME::…` a line and module",
                    file.path
                ));
            }
            if file.is_top && without_inline_modules(&file.code).contains("super::") {
                faults.push(format!(
                    "{}: `super::` reaches the crate root: write `crate::`",
                    file.path
                ));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_reader_sees_code_and_neither_comments_nor_strings_nor_tests() {
    let code = source::production(&source::blank(
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
    ));
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

struct CrateFile {
    path: String,
    /// Top-level module of the crate that the file belongs to.
    module: String,
    /// Whether it is the top of that module, so that `super` is the crate root.
    is_top: bool,
    /// Production code without comments and strings.
    code: String,
}

/// The files of a crate that are not tests.
fn sources(folder: &str) -> Vec<CrateFile> {
    let files = source::files(&[folder]).into_iter();
    let read = |file: SourceFile| {
        let inner = file.path.strip_prefix(folder)?.trim_start_matches('/').to_owned();
        let parts: Vec<&str> = inner.split('/').collect();
        if parts.iter().any(|part| *part == "tests" || *part == "tests.rs") {
            return None;
        }
        Some(CrateFile {
            module: parts.first()?.trim_end_matches(".rs").to_owned(),
            is_top: parts.len() == 1 || (parts.len() == 2 && parts.last() == Some(&"mod.rs")),
            code: source::production(&file.code),
            path: file.path,
        })
    };
    files.filter_map(read).collect()
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

/// What each package of a lock file depends on; versions of one package count as one.
fn dependencies(lock: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut package = String::new();
    for line in lock.lines() {
        if let Some(name) = line.strip_prefix("name = ") {
            package = name.trim_matches('"').to_owned();
            edges.entry(package.clone()).or_default();
        } else if let Some(dependency) = line.strip_prefix(" \"") {
            let name = dependency.trim_end_matches(',').trim_matches('"');
            let name = name.split(' ').next().unwrap_or(name).to_owned();
            edges.entry(package.clone()).or_default().insert(name);
        }
    }
    edges
}

/// A path from a module back to itself.
pub fn cycle(edges: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn search(
        at: &str,
        path: &mut Vec<String>,
        edges: &BTreeMap<String, BTreeSet<String>>,
    ) -> Option<Vec<String>> {
        if let Some(start) = path.iter().position(|one| one == at) {
            let mut cycle = path[start..].to_vec();
            cycle.push(at.to_owned());
            return Some(cycle);
        }
        path.push(at.to_owned());
        let others = edges.get(at).into_iter().flatten();
        let cycle = others.into_iter().find_map(|next| search(next, path, edges));
        path.pop();
        cycle
    }
    edges
        .keys()
        .find_map(|start| search(start, &mut Vec::new(), edges))
}

/// A code without its modules that stand within the file.
fn without_inline_modules(code: &str) -> String {
    let mut code = code.to_owned();
    let mut from = 0;
    while let Some(at) = code[from..].find("mod ").map(|at| from + at) {
        let end = source::item_end(&code, at);
        if code[at..end].contains('{') {
            code.replace_range(at..end, "");
        }
        from = at + 1;
    }
    code
}
