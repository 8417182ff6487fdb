//! `pleiades explain`: what `docs/ERRORS.md` has on an error code, status, number or exit code.
//!
//! The document is the one source; a test holds that every code, status and number has its section.

use serde_json::{Map, Value, json};

use super::exit;
use super::ui::{self, BOLD, DIM};
use pleiades_core::error::{Code, Error};
use pleiades_core::text::head;
use pleiades_descriptor::reader::near;
use pleiades_gateway::exchange::rpc_fault;
use pleiades_gateway::facade::answer::AnswerStatus;
use pleiades_mcp::Revision;

const DOCUMENT: &str = include_str!("../../docs/ERRORS.md");

/// Kinds of codes by the titles of the document's parts.
const KINDS: [(&str, &str); 8] = [
    ("Errors of requests", "error"),
    ("Statuses of answers", "status"),
    ("Outcomes in log and metrics", "outcome"),
    ("States and reasons", "state"),
    ("Names in metrics", "label"),
    ("Numbers of JSON-RPC errors", "jsonrpc"),
    ("Other statuses of HTTP", "http"),
    ("Exit codes", "exit"),
];

/// Who is at fault, as the document says it, and the stable name of that.
const AT_FAULT: [(&str, &str); 5] = [
    ("the caller.", "caller"),
    ("whoever runs the gateway.", "operator"),
    ("the provider, or the way to it.", "provider"),
    ("the gateway.", "gateway"),
    ("nobody.", "nobody"),
];

/// A section of the document.
#[derive(Debug)]
pub struct Explanation {
    /// The code it is about.
    pub name: &'static str,
    /// What kind of code that is.
    pub kind: &'static str,
    /// Of what the word is said, such as `of a renewal`: one word can have several meanings.
    pub context: &'static str,
    /// Its lines, each with its head; the first says what happened.
    lines: Vec<(&'static str, &'static str)>,
}

/// Every section, in the order of the document.
#[must_use]
pub fn pages() -> Vec<Explanation> {
    let parts = DOCUMENT.split("\n## ").filter_map(|part| {
        let (title, sections) = part.split_once('\n')?;
        let (_, kind) = KINDS.iter().find(|(known, _)| *known == title)?;
        Some((*kind, sections))
    });
    let pages = parts.flat_map(|(kind, sections)| {
        let sections = sections.split("\n### `").skip(1);
        sections.filter_map(|section| Explanation::read(kind, section))
    });
    pages.collect()
}

/// The numbers a code is answered with, of the newest revision first.
#[must_use]
pub fn numbers_of(code: Code) -> Vec<(Revision, i64)> {
    let numbers =
        Revision::SERVED.map(|revision| (revision, rpc_fault(&Error::new(code, ""), revision).code));
    let mut found: Vec<(Revision, i64)> = Vec::new();
    for (revision, number) in numbers {
        if !found.iter().any(|(_, known)| *known == number) {
            found.push((revision, number));
        }
    }
    found
}

impl Explanation {
    /// Reads a section, given from behind the backtick of its heading.
    fn read(kind: &'static str, section: &'static str) -> Option<Self> {
        let (name, body) = section.split_once('`')?;
        let (context, body) = body.split_once('\n')?;
        let context = match (context.trim(), kind) {
            ("", "error") => "of a request",
            ("", "status") => "of an answer",
            (context, _) => context,
        };
        let lines = body
            .lines()
            .filter_map(|line| line.strip_prefix("**")?.split_once(":** "));
        let lines = lines.collect();
        Some(Self {
            name,
            kind,
            context,
            lines,
        })
    }

    /// The line with this head.
    #[must_use]
    pub fn line(&self, head: &str) -> Option<&'static str> {
        let mut lines = self.lines.iter();
        lines.find(|(known, _)| *known == head).map(|(_, line)| *line)
    }

    /// The names in the line with this head.
    fn names(&self, head: &str) -> Value {
        let line = self.line(head).unwrap_or_default();
        line.split('`').skip(1).step_by(2).collect()
    }

    /// Stable: fields are added, never changed.
    fn json(&self) -> Value {
        let fault = AT_FAULT
            .iter()
            .find(|(words, _)| self.line("At fault") == Some(words));
        let mut page = Map::new();
        let mut put = |key: &str, value: Value| drop(page.insert(key.to_owned(), value));
        put("code", json!(self.name));
        put("kind", json!(self.kind));
        if !self.context.is_empty() {
            put("context", json!(self.context));
        }
        put("means", json!(self.line("Means")));
        put("fault", json!(fault.map(|(_, name)| name)));
        put("do", json!(self.line("Do")));
        match self.kind {
            "error" => {
                let code = Code::ALL.into_iter().find(|code| code.as_str() == self.name);
                let numbers = code.into_iter().flat_map(numbers_of).map(|(_, number)| number);
                put(
                    "http",
                    json!(self.line("HTTP").map(|line| line.trim_end_matches('.'))),
                );
                put("jsonrpc", numbers.collect());
                put(
                    "status",
                    json!(code.and_then(AnswerStatus::of).map(AnswerStatus::as_str)),
                );
            }
            "status" => put("is_error", json!(self.line("`isError`") == Some("true."))),
            "jsonrpc" | "http" => put("codes", self.names("Codes")),
            _ => {}
        }
        if self.line("Carries").is_some() {
            put("carries", self.names("Carries"));
        }
        Value::Object(page)
    }

    /// The same with the other meanings of the word in `also`.
    fn json_with(&self, others: &[&Self]) -> Value {
        let mut page = self.json();
        if let Value::Object(page) = &mut page
            && !others.is_empty()
        {
            page.insert(
                "also".to_owned(),
                others.iter().map(|other| other.json()).collect(),
            );
        }
        page
    }

    /// Prints it; as one of several meanings with its context.
    fn print(&self, is_one_of_several: bool) {
        for (head, line) in &self.lines {
            match *head {
                "Means" if is_one_of_several => {
                    ui::out(format_args!("\n{BOLD}{}:{BOLD:#} {line}", self.context));
                }
                "Means" => ui::out(format_args!("\n{line}")),
                head => ui::out(format_args!("\n{BOLD}{}{BOLD:#}: {line}", head.trim_matches('`'))),
            }
        }
    }
}

pub(super) fn run(json: bool, code: Option<&str>) -> u8 {
    let Some(asked) = code else {
        list(json);
        return exit::OK;
    };
    let name = asked.trim().to_ascii_lowercase();
    let name = match name.strip_prefix('-') {
        Some(_) => name,
        None => name.replace('-', "_"),
    };
    // A shell's user leaves the minus out; no other number is that large.
    let negative = format!("-{name}");
    let pages = pages();
    let is_asked = |page: &&Explanation| page.name == name || (name.len() == 5 && page.name == negative);
    let asked_for: Vec<&Explanation> = pages.iter().filter(is_asked).collect();
    let Some((first, others)) = asked_for.split_first() else {
        let names = near(&name, pages.iter().map(|page| page.name));
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        ui::fail(format_args!(
            "no code `{}`; {}`pleiades explain` lists all",
            head(asked, 64).escape_debug(),
            if names.is_empty() {
                String::new()
            } else {
                format!("did you mean {}; ", names.join(" or "))
            }
        ));
        return exit::USAGE;
    };
    if json {
        ui::out(first.json_with(others));
        return exit::OK;
    }
    ui::out(format_args!(
        "{BOLD}{}{BOLD:#}  {DIM}{}{DIM:#}",
        first.name, first.kind
    ));
    for page in &asked_for {
        page.print(!others.is_empty());
    }
    exit::OK
}

fn list(json: bool) {
    let pages = pages();
    if json {
        ui::out(pages.iter().map(Explanation::json).collect::<Value>());
        return;
    }
    let row = |page: &Explanation| {
        let of = match page.context {
            "" => page.kind.to_owned(),
            context => format!("{} {context}", page.kind),
        };
        let means = page.line("Means").unwrap_or_default();
        vec![page.name.to_owned(), of, means.to_owned()]
    };
    let rows: Vec<Vec<String>> = pages.iter().map(row).collect();
    for line in ui::table(&rows) {
        ui::out(line);
    }
}
