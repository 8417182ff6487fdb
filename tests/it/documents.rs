//! What README and the pages of `docs` show is so: descriptors and settings pass `check`, JSON parses, and the
//! commands are there. `tests/real/documents.py` runs the commands.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::{fs, iter};

use serde_json::Value;

use super::source;

/// The widest line of a page, in characters.
const WIDTH: usize = 120;

/// A fenced block of a page.
struct Block {
    page: String,
    line: usize,
    language: String,
    text: String,
}

impl Block {
    fn place(&self) -> String {
        format!("{}:{}", self.page, self.line)
    }
}

fn read(page: &str) -> String {
    fs::read_to_string(source::root().join(page)).unwrap()
}

/// The pages that people read, by their paths in the repository.
fn pages() -> Vec<String> {
    let inside = |folder: &str| {
        let entries = fs::read_dir(source::root().join(folder)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let pages: Vec<String> = names.filter(|name| name.ends_with(".md")).collect();
        pages
    };
    let docs = inside("docs").into_iter().map(|name| format!("docs/{name}"));
    let mut pages: Vec<String> = inside(".")
        .into_iter()
        .filter(|name| name != "CHANGELOG.md")
        .chain(docs)
        .collect();
    pages.sort_unstable();
    assert!(pages.len() > 10, "{pages:?}");
    pages
}

fn blocks(page: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut is_inside = false;
    for (index, line) in read(page).lines().enumerate() {
        match line.strip_prefix("```") {
            Some(language) if !is_inside => found.push(Block {
                page: page.to_owned(),
                line: index + 1,
                language: language.to_owned(),
                text: String::new(),
            }),
            None if is_inside => {
                let block = found.last_mut().unwrap();
                block.text.push_str(line);
                block.text.push('\n');
            }
            _ => {}
        }
        is_inside ^= line.starts_with("```");
    }
    assert!(!is_inside, "{page}: a block has no end");
    found
}

fn blocks_of(language: &str) -> Vec<Block> {
    let all = pages().into_iter().flat_map(|page| blocks(&page));
    all.filter(|block| block.language == language).collect()
}

/// The code spans of a page outside of its blocks, each in one line, as a reader sees them.
fn spans(page: &str) -> Vec<String> {
    let text = read(page);
    let prose = text.split("```").step_by(2).collect::<Vec<_>>().join(" ");
    let spans = prose.split('`').skip(1).step_by(2);
    spans
        .map(|span| span.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

/// Commands that no test runs, by page.
fn not_run() -> Vec<(String, String)> {
    let text = read("tests/data/commands_not_run.txt");
    let mut lines = text.lines().filter(|line| !line.starts_with('#')).peekable();
    iter::from_fn(|| {
        let (page, command) = lines.next()?.split_once(": ").expect("`page: command`");
        let reason = lines.next_if(|line| line.starts_with("    "));
        assert!(reason.is_some(), "`{command}` has no reason");
        Some((page.to_owned(), command.to_owned()))
    })
    .collect()
}

#[test]
fn every_command_that_no_test_runs_stands_in_its_page() {
    for (page, command) in not_run() {
        let listed = blocks(&page).into_iter().filter(|block| block.language == "sh");
        let mut lines = listed.flat_map(|block| block.text.lines().map(str::to_owned).collect::<Vec<_>>());
        let is_line = lines.any(|line| {
            let line = line.split("  #").next().unwrap_or_default();
            line.trim() == command
        });
        assert!(
            is_line || spans(&page).contains(&command),
            "{page} has no `{command}`"
        );
    }
}

/// Rows of tables and values cannot be broken; `ERRORS.md` and `CELLS.md` have a fact a line.
#[test]
fn no_line_of_a_page_is_too_wide() {
    let generated = ["docs/CONFIGURATION.md", "docs/ERRORS.md", "docs/CELLS.md"];
    let decisions = fs::read_dir(source::root().join("docs/decisions")).unwrap();
    let decisions: Vec<String> = decisions
        .map(|entry| format!("docs/decisions/{}", entry.unwrap().file_name().to_str().unwrap()))
        .collect();
    assert!(decisions.len() > 20, "{decisions:?}");
    let read_by_people = pages().into_iter().chain(decisions);
    for page in read_by_people.filter(|page| !generated.contains(&page.as_str())) {
        let mut is_inside = false;
        for (index, line) in read(&page).lines().enumerate() {
            is_inside ^= line.starts_with("```");
            let width = line.chars().count();
            let fits = is_inside || line.starts_with('|') || width <= WIDTH;
            assert!(fits, "{page}:{}: {width} columns", index + 1);
        }
    }
}

#[test]
fn every_json_of_a_page_parses() {
    let blocks = blocks_of("json");
    assert!(blocks.len() > 8, "{} blocks", blocks.len());
    for block in blocks {
        let values = serde_json::Deserializer::from_str(&block.text).into_iter::<Value>();
        for value in values {
            assert!(value.is_ok(), "{}: {value:?}", block.place());
        }
    }
}

#[test]
fn every_yaml_of_a_page_passes_check() {
    let blocks = blocks_of("yaml");
    assert!(blocks.len() > 2, "{} blocks", blocks.len());
    for block in blocks {
        let done = checked(&block);
        let report = format!(
            "{}: {}{}",
            block.place(),
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr)
        );
        assert!(
            done.status.success() && report.contains("0 faults, 0 warnings"),
            "{report}"
        );
    }
}

/// A block as a file of an installation of its own, where the files and variables that it names are.
fn checked(block: &Block) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let providers = folder.path().join("providers.d");
    fs::create_dir(&providers).unwrap();
    let (path, text) = match is_descriptor(block) {
        true => (providers.join("shown.yaml"), completed(&block.text)),
        false => (folder.path().join("pleiades.yaml"), block.text.clone()),
    };
    fs::write(&path, with_files(&text, folder.path())).unwrap();
    Command::new(env!("CARGO_BIN_EXE_pleiades"))
        .arg("check")
        .current_dir(folder.path())
        .envs(variables(&text))
        .env("HOME", folder.path())
        .env("XDG_CONFIG_HOME", folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn top_keys(text: &str) -> BTreeSet<&str> {
    let keys = text.lines().filter_map(|line| line.split_once(':'));
    let keys = keys.map(|(key, _)| key);
    let is_key = |key: &&str| key.starts_with(|first: char| first.is_ascii_lowercase());
    keys.filter(is_key).collect()
}

/// Whether the keys are a descriptor's. What could be either is of the settings.
fn is_descriptor(block: &Block) -> bool {
    let fields = |schema: &str| {
        let schema: Value = serde_json::from_str(&read(schema)).unwrap();
        let fields = schema["properties"].as_object().unwrap().keys().cloned();
        fields.collect::<BTreeSet<String>>()
    };
    let keys = top_keys(&block.text);
    let are_in = |schema: &str| {
        let fields = fields(schema);
        keys.iter().all(|key| fields.contains(*key))
    };
    let (settings, provider) = (are_in("schemas/settings.json"), are_in("schemas/provider.json"));
    assert!(
        settings || provider,
        "{}: keys of both, or of neither",
        block.place()
    );
    provider && !settings
}

/// A piece of a descriptor, made whole.
fn completed(text: &str) -> String {
    let keys = top_keys(text);
    let needed = [
        ("id", "shown"),
        ("upstream", "{ url: https://mcp.example.com/mcp }"),
        ("auth", "{ none: {} }"),
    ];
    let missing = needed.into_iter().filter(|(key, _)| !keys.contains(key));
    let missing = missing.map(|(key, value)| format!("{key}: {value}\n"));
    missing.chain(iter::once(text.to_owned())).collect()
}

/// The certificates that a text names, as files that are there; a path of a system stands in the folder then.
fn with_files(text: &str, folder: &Path) -> String {
    let own = source::root().join("crates/pleiades-upstream/src/tests/tls");
    let mut changed = text.to_owned();
    for (field, file) in [
        ("ca_file", "first-ca.pem"),
        ("cert_file", "server.pem"),
        ("key_file", "server.key"),
    ] {
        for (_, rest) in text
            .match_indices(field)
            .map(|(at, _)| text.split_at(at + field.len()))
        {
            let Some(rest) = rest.strip_prefix(": ") else {
                continue;
            };
            let end = rest.find([',', ' ', '\n']).unwrap_or(rest.len());
            let named = PathBuf::from(&rest[..end]);
            let target = folder.join(named.file_name().unwrap());
            fs::copy(own.join(file), &target).unwrap();
            changed = changed.replace(&rest[..end], target.to_str().unwrap());
        }
    }
    changed
}

/// Every variable that a text refers to, with a value that will do for a key, or for an address.
fn variables(text: &str) -> BTreeMap<&str, &'static str> {
    let names = text.split("${").skip(1).filter_map(|rest| rest.split_once('}'));
    let names = names.map(|(name, _)| name).filter(|name| !name.contains(':'));
    let value = |name: &str| match name.ends_with("_URL") {
        true => "rediss://redis.example.com:6379",
        false => "c3VjaCBhIGtleSBpcyBuZXZlciB1c2VkIGJ5IGFueWJvZHk=",
    };
    names.map(|name| (name, value(name))).collect()
}

#[test]
fn every_command_that_a_page_names_is_one_that_there_is() {
    let mut helps = BTreeMap::new();
    let mut named = 0;
    for page in pages() {
        for span in spans(&page).iter().filter(|span| span.starts_with("pleiades ")) {
            if let Err(why) = judge(span, &mut helps) {
                panic!("{page}: `{span}`: {why}");
            }
            named += 1;
        }
    }
    assert!(named > 30, "{named} commands");
}

/// Commands for measuring, which `--help` does not list.
const HIDDEN: [&str; 2] = ["facade", "rank"];

/// Holds a usage as people write it (`pleiades accounts default PROVIDER ACCOUNT`) against `--help`.
fn judge(span: &str, helps: &mut BTreeMap<String, String>) -> Result<(), String> {
    let plain = span.replace(['[', ']'], "").replace("...", "").replace('…', "");
    let words: Vec<&str> = plain.split_whitespace().skip(1).collect();
    let mut path: Vec<&str> = Vec::new();
    let mut help = help_of(&path, helps);
    let mut rest = words.into_iter().peekable();
    let is_command = |help: &str, word: &str| {
        commands_of(help).any(|command| command == word)
            || (help.contains("doctor") && HIDDEN.contains(&word))
    };
    while let Some(word) = rest.next_if(|word| is_command(&help, word)) {
        path.push(word);
        help = help_of(&path, helps);
    }
    let usage = help
        .lines()
        .find(|line| line.starts_with("Usage: "))
        .unwrap_or_default()
        .to_owned();
    while let Some(word) = rest.next() {
        if word == "--" || (word == "COMMAND" && path.is_empty()) {
            continue;
        }
        if word.starts_with("--") {
            let option = word.split('=').next().unwrap_or_default();
            if !help
                .split(|one: char| one.is_whitespace() || one == ',')
                .any(|one| one == option)
            {
                return Err(format!("there is no option {option}"));
            }
            rest.next_if(|next| next.chars().all(|one| one.is_ascii_uppercase() || one == '_'));
            continue;
        }
        let is_placeholder = word.chars().all(|one| one.is_ascii_uppercase());
        let fits = match is_placeholder {
            true => ["<", "["]
                .iter()
                .any(|open| usage.contains(&format!("{open}{word}"))),
            false => usage
                .replace("[OPTIONS]", "")
                .replace("[COMMAND]", "")
                .contains(['<', '[']),
        };
        if !fits {
            return Err(format!("`{word}` does not fit: {usage}"));
        }
    }
    Ok(())
}

fn commands_of(help: &str) -> impl Iterator<Item = &str> {
    let listed = help.split_once("Commands:").map_or("", |(_, rest)| rest);
    let listed = listed.split_once("\n\n").map_or(listed, |(commands, _)| commands);
    listed.lines().filter_map(|line| line.split_whitespace().next())
}

fn help_of(path: &[&str], helps: &mut BTreeMap<String, String>) -> String {
    let entry = helps.entry(path.join(" "));
    let help = entry.or_insert_with(|| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pleiades"));
        let done = command.args(path).arg("--help").output().unwrap();
        assert!(done.status.success(), "{path:?}: {done:?}");
        String::from_utf8(done.stdout).unwrap()
    });
    help.clone()
}

#[test]
fn every_test_that_a_page_says_to_run_is_one_that_there_is() {
    let modules = read("tests/it/main.rs");
    let suites = read("tests/real/run.py");
    let mut named = 0;
    for block in blocks_of("sh") {
        for line in block.text.lines() {
            let line = line.split("  #").next().unwrap_or_default();
            let module = line.split_once("--test it -- ").map(|(_, names)| names);
            for name in module.into_iter().flat_map(str::split_whitespace) {
                let module = format!("mod {};", name.trim_end_matches("::"));
                assert!(modules.contains(&module), "{}: no tests `{name}`", block.place());
                named += 1;
            }
            let suite = line.strip_prefix("./scripts/test ");
            for name in suite.into_iter().flat_map(str::split_whitespace) {
                let suite = format!("\"{name}\"");
                assert!(suites.contains(&suite), "{}: no suite `{name}`", block.place());
                named += 1;
            }
        }
    }
    assert!(named > 8, "{named} names");
}
