//! The pages that stand beside code are complete: nothing registered is undocumented.

use std::{fs, path::Path};

use pleiades::cli::explain;
use pleiades_core::error::Code;
use pleiades_core::telemetry::names;
use pleiades_credential::broker::ConnectErrorKind;
use pleiades_credential::manager::Reason;
use pleiades_gateway::facade::answer::AnswerStatus;

use super::source;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The stable names of `error::Code`.
fn codes() -> Vec<String> {
    let found = names_of("crates/pleiades-core/src/error.rs");
    assert!(found.len() > 30, "the table of names was found");
    found
}

/// The names that `as_str` gives the variants of a file's first type with one, read from its source: what is
/// compiled cannot be listed.
fn names_of(path: &str) -> Vec<String> {
    let source = read(path);
    let table = source
        .split_once("fn as_str")
        .unwrap()
        .1
        .split_once("\n    }\n")
        .unwrap()
        .0;
    table
        .lines()
        .filter_map(|line| {
            line.trim()
                .strip_prefix("Self::")?
                .split('"')
                .nth(1)
                .map(str::to_owned)
        })
        .collect()
}

/// Numbers that only other generations or peers make us answer with; no code of ours has them alone.
const PASSED_ON: [&str; 1] = ["-32042"];

#[test]
fn every_error_code_is_listed_and_has_a_page() {
    let listed: Vec<&str> = Code::ALL.into_iter().map(Code::as_str).collect();
    assert_eq!(listed, codes(), "`Code::ALL` names every code");
    assert_eq!(pages("error"), listed);
}

/// The names of the pages of one kind.
fn pages(kind: &str) -> Vec<&'static str> {
    let pages = explain::pages().into_iter().filter(|page| page.kind == kind);
    pages.map(|page| page.name).collect()
}

#[test]
fn every_outcome_and_every_number_has_a_page() {
    let names: Vec<&str> = explain::pages().iter().map(|page| page.name).collect();
    for outcome in names::OUTCOMES {
        assert!(names.contains(&outcome), "`{outcome}` has no page");
    }
    let mut numbers: Vec<String> = Code::ALL
        .into_iter()
        .flat_map(explain::numbers_of)
        .map(|(_, number)| number.to_string())
        .chain(PASSED_ON.map(str::to_owned))
        .collect();
    let mut pages = pages("jsonrpc");
    numbers.sort_unstable();
    numbers.dedup();
    pages.sort_unstable();
    assert_eq!(pages, numbers);
}

/// The words that a field of the log, a label of a metric or a state can hold beside the codes of requests, with what
/// they are said of. Clients are names of programs.
fn words() -> Vec<(&'static str, &'static str)> {
    let mut words = Vec::new();
    let mut add = |context, of: &[&'static str]| words.extend(of.iter().map(|word| (*word, context)));
    add("of a renewal", &names::REFRESHES);
    add("of a reload", &names::RELOADS);
    add("of the credential store", &names::VAULT_OUTCOMES);
    add(
        "as an operation on the credential store",
        &names::VAULT_OPERATIONS,
    );
    add("of an account", &names::ACCOUNTS);
    add("of a provider", &names::STATES);
    add("of a limit", &names::RULES);
    add("of a repair", &names::REPAIRS);
    add(
        "of a connection",
        &ConnectErrorKind::ALL.map(ConnectErrorKind::as_str),
    );
    add("as a reason", &Reason::ALL.map(Reason::as_str));
    add("of a view", &["meta", "tool", "relay"]);
    add("of the shared state", &["unreachable"]);
    add("of the start", &["short_key"]);
    add("of a page", &[names::REFUSED]);
    words
}

#[test]
fn every_word_of_an_outcome_a_state_and_a_label_has_a_page_for_each_of_its_meanings() {
    let pages = explain::pages();
    for (word, context) in words() {
        let is_general = matches!(word, "ok" if context == "of the credential store") || word == names::OTHER;
        let is_it =
            |page: &&explain::Explanation| page.name == word && (is_general || page.context == context);
        assert!(
            pages.iter().any(|page| is_it(&page)),
            "`{word}` {context} has no page"
        );
    }
    let words = words();
    for page in pages.iter().filter(|page| matches!(page.kind, "state" | "label")) {
        assert!(
            words.contains(&(page.name, page.context)),
            "`{}` {} is written by nobody",
            page.name,
            page.context
        );
    }
}

#[test]
fn every_outcome_that_is_written_as_text_has_a_page() {
    let names: Vec<&str> = explain::pages().iter().map(|page| page.name).collect();
    let mut found = 0;
    for file in source::files(&["src", "crates"]) {
        let text = read(&file.path);
        let outcomes = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("outcome = \"")?.split('"').next());
        for outcome in outcomes {
            found += 1;
            assert!(
                names.contains(&outcome),
                "`{outcome}` of {} has no page",
                file.path
            );
        }
    }
    assert!(found > 0);
}

#[test]
fn no_two_pages_have_the_same_name_and_context() {
    let mut names: Vec<_> = explain::pages()
        .iter()
        .map(|page| (page.name, page.context))
        .collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn every_page_says_who_is_at_fault_and_what_to_do() {
    for page in explain::pages() {
        let mut heads = vec!["Means", "At fault", "Do"];
        match page.kind {
            "error" => heads.extend(["HTTP", "JSON-RPC"]),
            "status" => heads.push("`isError`"),
            _ => {}
        }
        for head in heads {
            assert!(page.line(head).is_some(), "`{}` has no line `{head}`", page.name);
        }
    }
}

#[test]
fn the_numbers_of_a_page_are_those_that_its_code_is_answered_with() {
    for page in explain::pages() {
        match page.kind {
            "error" if page.name != "upstream_error" => {
                let code = Code::ALL
                    .into_iter()
                    .find(|code| code.as_str() == page.name)
                    .unwrap();
                let expected = match &*explain::numbers_of(code) {
                    [(newest, modern), (_, older)] => format!("{older}, {modern} for {newest}."),
                    [(_, number)] => format!("{number}."),
                    numbers => panic!("`{}`: {numbers:?}", page.name),
                };
                assert_eq!(page.line("JSON-RPC"), Some(&*expected), "{}", page.name);
            }
            "jsonrpc" => {
                let number: i64 = page.name.parse().unwrap();
                let is_answered =
                    |code: &Code| explain::numbers_of(*code).iter().any(|(_, of)| *of == number);
                let codes = Code::ALL.into_iter().filter(is_answered);
                let codes: Vec<String> = codes.map(|code| format!("`{}`", code.as_str())).collect();
                let expected = (!codes.is_empty()).then(|| format!("{}.", codes.join(", ")));
                assert_eq!(page.line("Codes"), expected.as_deref(), "{}", page.name);
            }
            "http" => {
                let pages = explain::pages().into_iter();
                let codes =
                    pages.filter(|code| code.line("HTTP").is_some_and(|http| http.contains(page.name)));
                let codes: Vec<String> = codes.map(|code| format!("`{}`", code.name)).collect();
                assert_eq!(
                    page.line("Codes"),
                    Some(&*format!("{}.", codes.join(", "))),
                    "{}",
                    page.name
                );
            }
            _ => {}
        }
    }
}

/// Codes of answers that tell of no error of ours, with their status.
const ANSWERS: [(&str, &str); 5] = [
    ("tool_error", "upstream_error"),
    ("invalid_arguments", "invalid_arguments"),
    ("unknown_tool", "unknown_tool"),
    ("no_match", "no_match"),
    ("confirm_required", "confirm_required"),
];

#[test]
fn a_code_names_its_status_in_the_meta_view_and_a_status_all_its_codes() {
    let mut statuses: Vec<(&str, &str)> = Vec::new();
    for code in Code::ALL {
        let status = AnswerStatus::of(code).map(AnswerStatus::as_str);
        let expected = match status {
            Some(status) => format!("status `{status}`."),
            None => "none: it is a JSON-RPC error.".to_owned(),
        };
        let page = explain::pages()
            .into_iter()
            .find(|page| page.kind == "error" && page.name == code.as_str())
            .unwrap();
        assert_eq!(page.line("In the meta view"), Some(&*expected), "{}", page.name);
        statuses.extend(status.map(|status| (code.as_str(), status)));
    }
    statuses.extend(ANSWERS);
    for page in explain::pages()
        .into_iter()
        .filter(|page| matches!(page.kind, "error" | "status"))
    {
        let of = statuses.iter().filter(|(_, status)| *status == page.name);
        let codes: Vec<String> = of.map(|(code, _)| format!("`{code}`")).collect();
        let expected = (!codes.is_empty()).then(|| format!("{}.", codes.join(", ")));
        assert_eq!(page.line("Carries"), expected.as_deref(), "{}", page.name);
    }
}

#[test]
fn every_error_code_is_an_outcome_of_calls() {
    for code in codes() {
        assert!(
            names::OUTCOMES.contains(&&*code),
            "`{code}` is missing in `names::OUTCOMES`"
        );
    }
}

#[test]
fn every_metric_has_its_row_with_labels_and_help() {
    let page = read("docs/METRICS.md");
    let rows: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("| `pleiades_"))
        .collect();
    let expected: Vec<String> = names::ALL
        .iter()
        .map(|metric| {
            let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            format!(
                "| `{}` | {} | {} | {} |",
                metric.name,
                metric.kind.as_str(),
                labels.join(", "),
                metric.help
            )
        })
        .collect();
    assert_eq!(rows, expected);
}

#[test]
fn every_value_of_a_closed_label_is_documented() {
    let page = read("docs/METRICS.md");
    let sets = [
        &names::OUTCOMES[..],
        &names::RULES,
        &names::RELOADS,
        &names::REFRESHES,
        &names::ACCOUNTS,
        &names::STATES,
        &names::CLIENTS,
        &names::REPAIRS,
        &names::VAULT_OPERATIONS,
        &names::VAULT_OUTCOMES,
    ];
    for value in sets.into_iter().flatten() {
        assert!(
            page.contains(&format!("`{value}`")),
            "`{value}` is missing in docs/METRICS.md"
        );
    }
}

/// The labels of an expression with each of their values: `a=~"b|c"` is two.
fn asked_labels(expression: &str) -> Vec<String> {
    let Some((_, rest)) = expression.split_once('{') else {
        return Vec::new();
    };
    let labels = rest.split('}').next().unwrap().split(',');
    labels
        .flat_map(|label| {
            let (name, values) = label.split_once('=').unwrap();
            let values = values.trim_start_matches('~').trim_matches('"');
            values.split('|').map(move |value| format!("{name}=\"{value}\""))
        })
        .collect()
}

#[test]
fn every_alert_can_be_copied_and_what_it_watches_for_growth_is_there_at_0() {
    let page = read("docs/METRICS.md");
    let block = page.split("```promql\n").nth(1).unwrap();
    let block = block.split("```").next().unwrap();
    let metrics = pleiades_core::telemetry::Metrics::new();
    metrics.provider("mail").publish_renewals();
    let scrape = metrics.render();
    let mut count = 0;
    for line in block
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        count += 1;
        assert!(!line.contains('\\'), "{line}");
        let start = line.find("pleiades_").unwrap();
        let name = line[start..].split(['{', ' ', '[', ')']).next().unwrap();
        let metric = names::ALL.iter().find(|metric| metric.name == name);
        assert!(metric.is_some(), "{line}");
        for label in asked_labels(line) {
            let value = label.split('"').nth(1).unwrap();
            assert!(page.contains(&format!("`{value}`")), "{label}");
            let is_there = scrape
                .lines()
                .any(|it| it.starts_with(name) && it.contains(&label) && it.ends_with(" 0"));
            assert!(is_there || !line.starts_with("increase("), "{label} of {line}");
        }
    }
    assert!(count >= 10, "{count}");
}

#[test]
fn every_rule_of_limits_is_listed_and_a_label_value() {
    let listed = pleiades_core::limit::Rule::ALL.map(pleiades_core::limit::Rule::as_str);
    let named = names_of("crates/pleiades-core/src/limit/mod.rs");
    assert_eq!(named, listed, "`Rule::ALL` names every rule");
    for rule in listed {
        assert!(names::RULES.contains(&rule), "{rule}");
    }
}

#[test]
fn decisions_are_numbered_one_after_the_other_and_headed_alike() {
    let entries = fs::read_dir(source::root().join("docs/decisions")).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    for (at, name) in names.iter().enumerate() {
        let number = format!("{:04}", at + 1);
        assert!(
            name.starts_with(&format!("{number}-")),
            "{name} is decision {number}"
        );
        let page = read(&format!("docs/decisions/{name}"));
        assert!(page.starts_with(&format!("# {number}: ")), "{name}: its heading");
    }
}

#[test]
fn every_term_of_the_glossary_lives_where_it_says() {
    let mut defined = std::collections::BTreeSet::new();
    for file in source::files(&["src", "crates"]) {
        let stem = file.path.rsplit('/').next().unwrap().trim_end_matches(".rs");
        defined.extend([stem.to_owned()]);
        let folders = file.path.split('/').map(str::to_owned);
        defined.extend(folders);
        defined.extend(definitions(&file.code));
    }
    let page = read("docs/GLOSSARY.md");
    let mut terms = 0;
    for row in page.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [term, _, lives] = cells[..] else {
            panic!("three cells: {row}")
        };
        for name in lives.split(", ").filter(|_| term != "term") {
            let name = name.trim_matches('`');
            assert!(defined.contains(name), "`{name}` of `{term}` is nowhere defined");
            terms += 1;
        }
    }
    assert!(terms >= 40, "{terms} names");
}

#[test]
fn every_file_and_function_that_the_architecture_names_is_there() {
    let page = read("docs/ARCHITECTURE.md");
    let spans: Vec<&str> = page.split('`').skip(1).step_by(2).collect();
    let files: Vec<&str> = spans.into_iter().filter(|span| span.ends_with(".rs")).collect();
    assert!(files.len() > 50, "{files:?}");
    let recipes = read("CONTRIBUTING.md");
    let spans: Vec<&str> = recipes.split('`').skip(1).step_by(2).collect();
    let named = spans
        .into_iter()
        .filter(|span| span.ends_with(".rs") && !span.contains(' '));
    let files: Vec<&str> = files.into_iter().chain(named).collect();
    assert!(files.len() > 100, "{} files", files.len());
    let missing: Vec<&&str> = files.iter().filter(|file| find(file).is_none()).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let mut decisions = 0;
    for row in page.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        if let [_, file, name] = cells[..]
            && let Some(path) = find(file.trim_matches('`'))
        {
            let code = source::blank(&fs::read_to_string(path).unwrap());
            let name = name.trim_matches('`');
            assert!(
                definitions(&code).any(|one| one == name),
                "`{name}` is not in {file}"
            );
            decisions += 1;
        }
    }
    assert!(decisions >= 20, "{decisions} decisions");
}

/// A file by the short path that the architecture gives it.
fn find(short: &str) -> Option<std::path::PathBuf> {
    let (room, rest) = short.split_once('/')?;
    let paths = [
        format!("crates/pleiades-gateway/src/{short}"),
        format!("crates/pleiades-{room}/src/{rest}"),
        format!("src/{short}"),
        short.to_owned(),
    ];
    let mut paths = paths.into_iter().map(|path| source::root().join(path));
    paths.find(|path| path.is_file())
}

/// Names of the types and functions that a code defines.
fn definitions(code: &str) -> impl Iterator<Item = String> {
    let mut before = "";
    code.split(|one: char| one != '_' && !one.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .filter(move |word| {
            let defines = matches!(before, "fn" | "struct" | "enum" | "trait" | "type" | "mod");
            before = word;
            defines
        })
        .map(str::to_owned)
}

/// Comments, pages and scripts, as one line each, so that a citation may go over the end of a line.
fn everything_written() -> Vec<(String, String)> {
    let mut paths = Vec::new();
    for folder in [
        ".", "src", "crates", "tests", "docs", "scripts", "bench", "benches", "fuzz",
    ] {
        collect(&source::root().join(folder), folder != ".", &mut paths);
    }
    paths.retain(|path| !path.ends_with("tests/it/docs.rs"));
    let read = |path: std::path::PathBuf| {
        let text = fs::read_to_string(&path).ok()?;
        let words = text
            .split_whitespace()
            .filter(|word| !matches!(*word, "//!" | "///" | "//" | "#"));
        let name = path.strip_prefix(source::root()).unwrap().to_string_lossy();
        Some((name.into_owned(), words.collect::<Vec<_>>().join(" ")))
    };
    paths.into_iter().filter_map(read).collect()
}

fn collect(folder: &Path, is_deep: bool, into: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if is_deep && name != "target" && name != "node_modules" {
                collect(&path, is_deep, into);
            }
        } else if ["rs", "py", "md", "mjs", "cjs", "sh", "toml"]
            .iter()
            .any(|end| name.ends_with(end))
            || !name.contains('.')
        {
            into.push(path);
        }
    }
}

#[test]
fn nothing_cites_what_is_not_in_the_repository() {
    let files = everything_written();
    assert!(files.len() > 300, "{} files", files.len());
    let foreign = [
        "contracts section",
        "contracts, section",
        "contract section",
        "design section",
        "in the design,",
    ];
    for (path, text) in &files {
        for words in foreign {
            assert!(!text.contains(words), "{path} cites `{words}`");
        }
    }
}

#[test]
fn every_page_that_is_cited_is_there_with_the_section_that_is_named() {
    let mut cited = 0;
    for (path, text) in everything_written() {
        for (at, _) in text.match_indices(".md") {
            let (before, after) = (&text[..at + 3], &text[at + 3..]);
            let begin = before.rfind(|one: char| !(one.is_alphanumeric() || "/_.-".contains(one)));
            let page = &before[begin.map_or(0, |at| at + 1)..];
            if !page.starts_with("docs/") && page != "SECURITY.md" && page != "CONTRIBUTING.md" {
                continue;
            }
            assert!(source::root().join(page).is_file(), "{path} cites {page}");
            cited += 1;
            let section = after.strip_prefix("`, \"").and_then(|rest| rest.split_once('"'));
            if let Some((section, _)) = section {
                let text = read(page);
                let heads = text.lines().filter(|line| line.starts_with('#'));
                let is_there = heads.into_iter().any(|head| head.contains(section));
                assert!(is_there, "{path} cites \"{section}\" of {page}");
            }
        }
    }
    assert!(cited > 20, "{cited} citations");
}
