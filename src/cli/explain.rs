//! `pleiades explain`: a page for every error code, status, JSON-RPC number and exit code.
//!
//! The tables here are the one source; `docs/ERRORS.md` is [`document`], held equal by a test.

mod codes;
mod numbers;
mod statuses;

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::exit;
use super::ui::{self, BOLD, DIM};
use pleiades_core::error::{Code, Error};
use pleiades_descriptor::reader::near;
use pleiades_gateway::exchange::rpc_fault;
use pleiades_mcp::Revision;

/// What there is to say of one code.
#[derive(Debug)]
pub struct Explanation {
    /// As it is asked for.
    pub name: &'static str,
    /// What kind of code it is.
    pub kind: Kind,
    /// What happened.
    pub means: &'static str,
    /// Who can change it.
    pub whose: AtFault,
    /// What to do next.
    pub next: &'static str,
}

/// What kind of code a page is about.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A failed request.
    Error {
        /// The code.
        code: Code,
        /// The HTTP status it is answered with.
        http: &'static str,
    },
    /// A status in an answer of the one tool.
    Status {
        /// Whether the result says `isError`.
        is_error: bool,
    },
    /// An outcome in log and metrics alone.
    Outcome,
    /// A number in a JSON-RPC error.
    JsonRpc,
    /// A status of HTTP.
    Http,
    /// An exit code of the program.
    Exit,
}

/// Who is at fault, so far as the code alone says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtFault {
    /// Who sent the request.
    Caller,
    /// Who runs the gateway and writes descriptors and settings.
    Operator,
    /// The server behind the gateway, or the way to it.
    Provider,
    /// The gateway itself.
    Gateway,
    /// No fault, or nobody's.
    Nobody,
}

impl Kind {
    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error { .. } => "error",
            Self::Status { .. } => "status",
            Self::Outcome => "outcome",
            Self::JsonRpc => "jsonrpc",
            Self::Http => "http",
            Self::Exit => "exit",
        }
    }
}

impl AtFault {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Operator => "operator",
            Self::Provider => "provider",
            Self::Gateway => "gateway",
            Self::Nobody => "nobody",
        }
    }

    const fn sentence(self) -> &'static str {
        match self {
            Self::Caller => "the caller",
            Self::Operator => "whoever runs the gateway",
            Self::Provider => "the provider, or the way to it",
            Self::Gateway => "the gateway",
            Self::Nobody => "nobody",
        }
    }
}

/// Every page, in the order of the document.
pub fn pages() -> impl Iterator<Item = &'static Explanation> {
    static ALL: [&[Explanation]; 6] = [
        &codes::PAGES,
        &statuses::PAGES,
        &statuses::OUTCOMES,
        &numbers::JSON_RPC,
        &numbers::HTTP,
        &numbers::EXITS,
    ];
    ALL.into_iter().flatten()
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
    /// Codes that are answered with this page's number.
    fn codes(&self) -> Vec<&'static str> {
        let number: Option<i64> = self.name.parse().ok();
        let is_answered = |page: &Explanation| match (self.kind, page.kind) {
            (Kind::JsonRpc, Kind::Error { code, .. }) => {
                numbers_of(code).iter().any(|(_, of)| Some(*of) == number)
            }
            (Kind::Http, Kind::Error { http, .. }) => http.contains(self.name),
            _ => false,
        };
        codes::PAGES
            .iter()
            .filter(|page| is_answered(page))
            .map(|page| page.name)
            .collect()
    }

    /// The lines below the meaning, each with its head.
    fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = vec![
            ("At fault", self.whose.sentence().to_owned()),
            ("Do", self.next.trim_end_matches('.').to_owned()),
        ];
        match self.kind {
            Kind::Error { code, http } => {
                facts.push(("HTTP", http.to_owned()));
                facts.push(("JSON-RPC", describe_numbers(code)));
                if statuses::SHARED.contains(&self.name) {
                    facts.push((
                        "Also",
                        "a status of the one tool's answers, with `isError`".to_owned(),
                    ));
                }
            }
            Kind::Status { is_error } => facts.push(("`isError`", is_error.to_string())),
            Kind::JsonRpc | Kind::Http => {
                let codes: Vec<String> = self.codes().iter().map(|code| format!("`{code}`")).collect();
                if !codes.is_empty() {
                    facts.push(("Codes", codes.join(", ")));
                }
            }
            Kind::Outcome | Kind::Exit => {}
        }
        facts
    }

    /// Stable: fields are added, never changed.
    fn json(&self) -> Value {
        let mut page = Map::new();
        let mut put = |key: &str, value: Value| drop(page.insert(key.to_owned(), value));
        put("code", json!(self.name));
        put("kind", json!(self.kind.as_str()));
        put("means", json!(self.means));
        put("fault", json!(self.whose.as_str()));
        put("do", json!(self.next));
        match self.kind {
            Kind::Error { code, http } => {
                let numbers: Vec<i64> = numbers_of(code).into_iter().map(|(_, number)| number).collect();
                put("http", json!(http));
                put("jsonrpc", json!(numbers));
            }
            Kind::Status { is_error } => put("is_error", json!(is_error)),
            Kind::JsonRpc | Kind::Http => put("codes", json!(self.codes())),
            Kind::Outcome | Kind::Exit => {}
        }
        Value::Object(page)
    }
}

fn describe_numbers(code: Code) -> String {
    if code == Code::UpstreamError {
        return "the provider's".to_owned();
    }
    match numbers_of(code).as_slice() {
        [(newest, modern), (_, older)] => format!("{older}, {modern} for {newest}"),
        numbers => numbers
            .iter()
            .map(|(_, number)| number.to_string())
            .collect::<Vec<_>>()
            .join(", "),
    }
}

/// `docs/ERRORS.md`.
#[must_use]
pub fn document() -> String {
    let mut text = String::from(HEAD);
    for (kind, title) in [
        ("error", "Errors of requests"),
        ("status", "Statuses of answers"),
        ("outcome", "Outcomes in log and metrics"),
        ("jsonrpc", "Numbers of JSON-RPC errors"),
        ("http", "Other statuses of HTTP"),
        ("exit", "Exit codes"),
    ] {
        writeln!(text, "\n## {title}").ok();
        for page in pages().filter(|page| page.kind.as_str() == kind) {
            writeln!(text, "\n### `{}`\n\n**Means:** {}", page.name, page.means).ok();
            for (head, fact) in page.facts() {
                writeln!(text, "\n**{head}:** {fact}.").ok();
            }
        }
    }
    text
}

const HEAD: &str = "\
# Errors

Every failure that a caller can meet has a stable code. It stands in the answer, in the log (field
`outcome`), in the label `outcome` of `pleiades_calls_total`, and `pleiades explain CODE` prints its
section. In the meta and tool views a failed call is a result with `isError`, so that the model reads
it and HTTP stays 200; the relay answers with a status. This page is written from the tables below
`src/cli/explain/` by `PLEIADES_GOLDEN=rewrite cargo test --test it docs`; a test holds it equal.
";

/// Prints the page of a code, or the list.
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
    let Some(page) = pages().find(|page| page.name == name || (name.len() == 5 && page.name == negative))
    else {
        let names = near(&name, pages().map(|page| page.name));
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        let shown: String = asked.chars().take(64).collect();
        ui::fail(format_args!(
            "no code `{}`; {}`pleiades explain` lists all",
            shown.escape_debug(),
            if names.is_empty() {
                String::new()
            } else {
                format!("did you mean {}; ", names.join(" or "))
            }
        ));
        return exit::USAGE;
    };
    if json {
        ui::out(page.json());
        return exit::OK;
    }
    ui::out(format_args!(
        "{BOLD}{}{BOLD:#}  {DIM}{}{DIM:#}\n",
        page.name,
        page.kind.as_str()
    ));
    ui::out(page.means);
    for (head, fact) in page.facts() {
        ui::out(format_args!(
            "\n{BOLD}{}{BOLD:#}: {fact}.",
            head.trim_matches('`')
        ));
    }
    exit::OK
}

fn list(json: bool) {
    if json {
        ui::out(Value::Array(pages().map(Explanation::json).collect()));
        return;
    }
    let rows: Vec<Vec<String>> = pages()
        .map(|page| {
            vec![
                page.name.to_owned(),
                page.kind.as_str().to_owned(),
                page.means.to_owned(),
            ]
        })
        .collect();
    for line in ui::table(&rows) {
        ui::out(line);
    }
}
