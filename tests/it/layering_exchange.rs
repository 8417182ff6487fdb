//! Who may know whom within `exchange`, method calls counted.

use std::collections::{BTreeMap, BTreeSet};

use super::layering::cycle;
use super::source;

const FOLDER: &str = "crates/pleiades-gateway/src/exchange";

/// The rooms of `exchange`: what each may know beside `fault`, lowest first. Drawn in its head.
const ROOMS: &[(&str, &[&str])] = &[
    ("fault", &[]),
    ("workers", &[]),
    ("reply", &[]),
    ("request", &[]),
    ("union", &["request"]),
    ("session", &["request"]),
    ("client", &["request", "session"]),
    ("account", &["reply", "request", "session"]),
    ("lists", &["request", "union", "account"]),
    ("call", &["request", "session", "client", "account", "workers"]),
    (
        "services",
        &[
            "request", "session", "client", "account", "lists", "call", "workers",
        ],
    ),
    (
        "methods",
        &[
            "reply", "request", "union", "session", "client", "account", "lists", "call", "workers",
            "services",
        ],
    ),
];

#[test]
fn rooms_of_exchange_know_only_whom_their_table_allows() {
    let mut broken = Vec::new();
    for file in exchange() {
        let Some((_, allowed)) = ROOMS.iter().find(|(room, _)| *room == file.room) else {
            assert_eq!(file.room, "mod", "`{}` is in no room of the table", file.name);
            continue;
        };
        for (room, _) in &file.known {
            if *room != file.room && room != "fault" && !allowed.contains(&room.as_str()) {
                broken.push(format!("`{}` may not know `{room}`", file.name));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn no_cycle_exists_between_files_of_exchange_method_calls_counted() {
    let folders = ["src", "crates"];
    let others = source::files(&folders).into_iter();
    let others = others.filter(|file| !file.path.starts_with(FOLDER));
    let others = others
        .flat_map(|file| defined(&source::production(&file.code)))
        .collect();
    assert_eq!(cycle(&needs(&exchange(), &others)), None);
}

#[test]
fn a_planted_cycle_of_method_calls_is_found() {
    let file = |name: &str, code: &str| exchange_file(name.to_owned(), code.to_owned());
    let planted = [
        file("call/mod", "pub(crate) struct Calls; mod make; mod park;"),
        file(
            "call/make",
            "use super::Calls; impl Calls { fn make(&self) { self.park_it() } }",
        ),
        file(
            "call/park",
            "use super::Calls; impl Calls { fn park_it(&self) { self.make() } }",
        ),
    ];
    let needed = needs(&planted, &BTreeSet::new());
    assert!(needed["call/make"].contains("call/mod"), "{needed:?}");
    assert_eq!(cycle(&needed).unwrap(), ["call/make", "call/park", "call/make"]);
    let common = BTreeSet::from([".make(".to_owned()]);
    assert_eq!(
        cycle(&needs(&planted, &common)),
        None,
        "whose method it is cannot be told"
    );
}

#[test]
fn no_type_of_exchange_has_methods_in_more_than_five_files() {
    let mut homes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in exchange() {
        for of in implemented(&file.code) {
            homes.entry(of).or_default().insert(file.name.clone());
        }
    }
    let spread: Vec<_> = homes.iter().filter(|(_, files)| files.len() > 5).collect();
    assert!(spread.is_empty(), "{spread:?}");
    assert_eq!(homes["Exchange"].len(), 1);
    let calls: Vec<_> = homes["Calls"].iter().map(String::as_str).collect();
    assert_eq!(
        calls,
        ["call/make", "call/mod", "call/resume"],
        "found as they are"
    );
}

#[test]
fn a_request_has_one_outcome_and_one_snapshot() {
    let count = |folder: &str, what: &str| -> usize {
        let files = source::files(&[folder]).into_iter();
        files
            .map(|file| source::production(&file.code).matches(what).count())
            .sum()
    };
    assert_eq!(
        count(FOLDER, " outcome,\n            upstream"),
        1,
        "records made"
    );
    assert_eq!(count(FOLDER, "record.outcome ="), 0, "outcomes assigned");
    assert_eq!(
        count(FOLDER, "catalog.snapshot"),
        1,
        "snapshots taken in exchange"
    );
    // Others are no requests of MCP: a name is looked up for a page or the API.
    assert_eq!(
        count("crates/pleiades-gateway/src/proxy/relay", "catalog.snapshot"),
        0
    );
}

/// A file of `exchange`.
struct ExchangeFile {
    /// `room/file`, or `file`.
    name: String,
    room: String,
    /// Rooms, and names in them, that it mentions.
    known: Vec<(String, String)>,
    code: String,
}

fn exchange() -> Vec<ExchangeFile> {
    let files = source::files(&[FOLDER]).into_iter().filter_map(|file| {
        let name = file
            .path
            .strip_prefix(FOLDER)?
            .trim_start_matches('/')
            .strip_suffix(".rs")?
            .to_owned();
        (name != "tests").then(|| exchange_file(name, source::production(&file.code)))
    });
    let files: Vec<_> = files.collect();
    assert!(files.len() > 40, "the files of exchange are found");
    files
}

fn exchange_file(name: String, code: String) -> ExchangeFile {
    let room = name.split('/').next().unwrap().to_owned();
    let in_room = name.contains('/');
    let mut known = paths(&code, "crate::exchange::");
    let own = paths(&code, "super::");
    known.extend(own.into_iter().map(|(first, rest)| match in_room {
        true if rest.is_empty() => (room.clone(), first),
        true => (room.clone(), format!("{first}::{rest}")),
        false => (first, rest),
    }));
    known.extend(paths(&code, "self::").into_iter().filter(|_| room == "mod"));
    ExchangeFile {
        name,
        room,
        known,
        code,
    }
}

/// What stands behind a prefix: the first name, and each name after it.
fn paths(code: &str, prefix: &str) -> Vec<(String, String)> {
    let word = |text: &str| -> String {
        text.chars()
            .take_while(|one| *one == '_' || one.is_alphanumeric())
            .collect()
    };
    let mut found = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|one| one == ':' || one == '_' || one.is_alphanumeric()) {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        let (firsts, rest) = match rest.strip_prefix('{') {
            Some(list) => (list.split('}').next().unwrap_or_default(), ""),
            None => (&rest[..word(rest).len()], &rest[word(rest).len()..]),
        };
        let names = rest.strip_prefix("::").unwrap_or_default();
        let names = match names.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap_or_default().to_owned(),
            None => word(names),
        };
        for first in firsts
            .split(',')
            .map(|first| word(first.trim()))
            .filter(|it| !it.is_empty())
        {
            let mut any = false;
            for name in names
                .split(',')
                .map(|name| word(name.trim()))
                .filter(|it| !it.is_empty())
            {
                found.push((first.clone(), name));
                any = true;
            }
            if !any {
                found.push((first, String::new()));
            }
        }
    }
    found
}

/// Types that have methods in a file.
fn implemented(code: &str) -> BTreeSet<String> {
    let heads = code.match_indices("\nimpl").map(|(at, _)| &code[at + 1..]);
    let of = heads.filter_map(|head| {
        let head = head.split('{').next()?;
        let head = head.rsplit(" for ").next()?.trim_start_matches("impl");
        let head = match head.strip_prefix('<') {
            Some(generics) => generics.split_once('>')?.1,
            None => head,
        };
        let name = head
            .trim()
            .chars()
            .take_while(|one| *one == '_' || one.is_alphanumeric());
        Some(name.collect::<String>()).filter(|name| !name.is_empty())
    });
    of.collect()
}

/// Names that a file defines: items, and methods as `.name(`.
fn defined(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for kind in ["struct ", "enum ", "type ", "const ", "fn "] {
        for (at, _) in code.match_indices(kind) {
            let rest = &code[at + kind.len()..];
            let name: String = rest
                .chars()
                .take_while(|one| *one == '_' || one.is_alphanumeric())
                .collect();
            let after = rest[name.len()..].trim_start();
            let is_method = kind == "fn " && after.split(')').next().is_some_and(|it| it.contains("self"));
            names.insert(if is_method { format!(".{name}(") } else { name });
        }
    }
    names
}

/// The files that each file needs: for the names it mentions, and for the methods it calls whose name
/// only one file has, and none of the others. The head of a room stands for what is defined in it, not
/// for what it re-exports.
fn needs(files: &[ExchangeFile], others: &BTreeSet<String>) -> BTreeMap<String, BTreeSet<String>> {
    /// Methods that types of other crates have too.
    const COMMON: [&str; 2] = [".take(", ".next("];
    let homes: Vec<(&str, BTreeSet<String>)> = files
        .iter()
        .map(|file| (file.name.as_str(), defined(&file.code)))
        .collect();
    let methods = homes.iter().flat_map(|(_, names)| names);
    let methods: BTreeSet<&String> = methods
        .filter(|name| name.starts_with('.') && !COMMON.contains(&name.as_str()) && !others.contains(*name))
        .collect();
    let needed = |file: &ExchangeFile| {
        let mut needed = BTreeSet::new();
        for (room, path) in &file.known {
            let (module, item) = path.split_once("::").unwrap_or(("", path));
            for (name, names) in &homes {
                let is_module = *name == format!("{room}/{module}") || *name == format!("{room}/{item}");
                let is_in_room = *name == *room || name.starts_with(&format!("{room}/"));
                if is_module || module.is_empty() && is_in_room && names.contains(item) {
                    needed.insert((*name).to_owned());
                }
            }
        }
        for method in methods
            .iter()
            .filter(|method| file.code.contains(method.as_str()))
        {
            let mut having = homes.iter().filter(|(_, names)| names.contains(*method));
            if let (Some((home, _)), None) = (having.next(), having.next()) {
                needed.insert((*home).to_owned());
            }
        }
        needed.remove(&file.name);
        needed
    };
    files
        .iter()
        .map(|file| (file.name.clone(), needed(file)))
        .collect()
}
