//! Every field that a line of the log carries is dotted and stands in `docs/LOGGING.md`: read from the source.

use std::collections::BTreeSet;

use super::source;

const PAGE: &str = include_str!("../../docs/LOGGING.md");
/// Macros that write a line, or name what lines within them are about.
const MACROS: [&str; 7] = [
    "error!(",
    "warn!(",
    "info!(",
    "debug!(",
    "trace!(",
    "error_span!(",
    "$level!(",
];
/// Names that every log knows, and which need no dot.
const PLAIN: [&str; 4] = ["outcome", "error", "description", "cure"];

#[test]
fn every_field_of_a_line_is_dotted_and_stands_in_the_page() {
    let mut faults = BTreeSet::new();
    let mut known = 0;
    for file in source::files(&["src", "crates"]) {
        for field in fields(&source::production(&file.code)) {
            known += 1;
            if !field.contains('.') && !PLAIN.contains(&field.as_str()) && field != "method" {
                faults.insert(format!("{}: `{field}` has no dot", file.path));
            }
            if !PAGE.contains(&format!("`{field}`")) {
                faults.insert(format!("{}: `{field}` is not in docs/LOGGING.md", file.path));
            }
        }
    }
    assert!(known > 100, "only {known} fields were found");
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn fields_are_found_in_each_way_to_write_them() {
    let code = "tracing::warn!(provider.name = &*x(a, b), %error, outcome, cure = y == z,  ); a.warn(no = 1); info!( )";
    assert_eq!(fields(code), ["provider.name", "error", "outcome", "cure"]);
}

/// Names of the fields in a code without comments and literals.
fn fields(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for name in MACROS {
        for (at, _) in code.match_indices(name) {
            let is_longer = code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_');
            if !is_longer {
                found.extend(arguments(&code[at + name.len()..]).into_iter().filter_map(field));
            }
        }
    }
    found
}

/// The arguments up to the closing parenthesis.
fn arguments(code: &str) -> Vec<&str> {
    let (mut depth, mut from, mut all) = (0_usize, 0, Vec::new());
    for (at, one) in code.char_indices() {
        match one {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => {
                all.push(&code[from..at]);
                break;
            }
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                all.push(&code[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    all
}

/// The field that an argument names: `name = value`, or a variable of its name.
fn field(argument: &str) -> Option<String> {
    let argument = argument.trim();
    let (name, is_assigned) = match argument.split_once('=') {
        Some((name, value)) if !value.starts_with('=') => (name.trim(), true),
        Some(_) => return None,
        None => (argument.trim_start_matches(['%', '?']), false),
    };
    let is_name = |name: &str| {
        !name.is_empty()
            && name
                .chars()
                .all(|one| one.is_ascii_lowercase() || matches!(one, '.' | '_' | '0'..='9'))
    };
    (is_name(name) && (is_assigned || !name.ends_with('.'))).then(|| name.to_owned())
}
