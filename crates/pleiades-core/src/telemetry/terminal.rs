//! Lines for a person at a terminal: what happened to whom, in one row; why and what to do below it.
//!
//! Times are local, as the machine or `TZ` says. Everything else that a line has stands in JSON, and here
//! when `debug` is asked for.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};
use std::{fmt::Write as _, io::Write as _};

use tracing::Level;

use super::events::RequestDone;
use super::fields::{FieldValue, clean};
use super::layer::LogLine;
use crate::text::{clipped, head};

/// Columns of a row, as wide as a terminal that nobody has widened much.
const COLUMNS: usize = 100;
/// Where the rows below the first begin: under its first word.
const INDENT: usize = 9;
/// The most that a name takes in a row.
const NAME: usize = 40;
/// The least that is left for provider and tool.
const SUBJECT: usize = 24;
/// Plain words that stand behind the message with their field's last part: `(file providers.d/a.yaml)`.
const SHOWN: [&str; 7] = [
    "providers.folder",
    "key.file",
    "server.listen",
    "server.admin",
    "tokens.expires_at",
    "tokens.retry_at",
    "process.line",
];

/// The local caller, of whom lines need not speak.
static LOCAL: OnceLock<(Arc<str>, Arc<str>)> = OnceLock::new();

/// Names the local caller: rows of a terminal name everybody else. The first call counts.
pub(super) fn set_local(tenant: Arc<str>, user: Arc<str>) {
    LOCAL.set((tenant, user)).unwrap_or_default();
}

/// How rows look.
#[derive(Debug, Clone, Copy)]
pub(super) struct TerminalForm {
    /// Whether they have colours.
    pub(super) has_colours: bool,
    /// Whether every field is shown.
    pub(super) is_detailed: bool,
    /// Whether what clients do to greet a server has rows too.
    pub(super) has_greetings: bool,
}

#[derive(Debug, Clone, Copy)]
enum Style {
    Plain,
    Dim,
    Bold,
    Good,
    Warning,
    Failure,
}

impl Style {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Dim => "\x1b[2m",
            Self::Bold => "\x1b[1m",
            Self::Good => "\x1b[32m",
            Self::Warning => "\x1b[33m",
            Self::Failure => "\x1b[31m",
        }
    }
}

/// A row that is being written, and how many columns it takes.
struct Row {
    text: String,
    columns: usize,
    has_colours: bool,
}

impl Row {
    fn new(has_colours: bool, at: SystemTime) -> Self {
        let mut row = Self {
            text: String::with_capacity(160),
            columns: 0,
            has_colours,
        };
        let time = chrono::DateTime::<chrono::Local>::from(at).format("%H:%M:%S");
        row.put(Style::Dim, &time.to_string());
        row
    }

    fn put(&mut self, style: Style, text: &str) {
        self.columns += text.chars().count();
        if self.has_colours && !style.code().is_empty() {
            // Writing to memory cannot fail.
            write!(self.text, "{}{text}\x1b[0m", style.code()).ok();
        } else {
            self.text.push_str(text);
        }
    }

    fn word(&mut self, style: Style, text: &str) {
        self.put(Style::Plain, " ");
        self.put(style, text);
    }
}

impl TerminalForm {
    /// An event: who, what happened, how many; below it why, and what to do.
    pub(super) fn event(self, line: &LogLine<'_>, out: &mut Vec<u8>) {
        let fields = &line.fields;
        let mut row = Row::new(self.has_colours, line.at);
        if let Some((style, word)) = level_word(line.level) {
            row.word(style, word);
        }
        if let Some(provider) = fields.text("provider.name") {
            let tool = fields.text("tool.name");
            row.word(Style::Bold, &subject(Some(provider), tool, provider, NAME));
            row.put(Style::Plain, ":");
        }
        row.word(Style::Plain, &fields.message);
        for (name, value) in &fields.all {
            if let Some(words) = in_words(name, value) {
                row.put(Style::Plain, ", ");
                row.put(Style::Plain, &words);
            }
        }
        let person = [
            fields.text("principal.tenant"),
            fields.text("principal.user"),
            fields.text("account.id"),
        ];
        if let Some(who) = who(person) {
            row.word(Style::Dim, &format!("({who})"));
        }
        push_row(out, &row.text);
        let error = fields.text("error");
        let because = match (error, fields.text("description")) {
            (Some(error), Some(text)) if !text.contains(error) => Some(format!("{error}: {text}")),
            (_, Some(text)) | (Some(text), None) => Some(text.to_owned()),
            (None, None) => None,
        };
        for text in because.as_deref().into_iter().chain(fields.text("cure")) {
            wrapped(out, text);
        }
        if self.is_detailed {
            let all = fields.all.iter().map(|(name, value)| (*name, value.to_string()));
            self.details(out, Some(line.target), all);
        }
    }

    /// A request: what was called, what came of it, how long it took; below it why it failed.
    pub(super) fn request(self, done: &RequestDone, at: SystemTime, out: &mut Vec<u8>) {
        if !self.has_greetings && is_greeting(done) {
            return;
        }
        let mut tail = Row {
            text: String::with_capacity(80),
            columns: 0,
            has_colours: self.has_colours,
        };
        let is_fine = matches!(done.outcome, "ok" | "menu" | "schema" | "input_required");
        let style = match done.outcome {
            _ if is_fine => Style::Good,
            "internal" => Style::Failure,
            _ => Style::Warning,
        };
        tail.word(style, done.outcome);
        if !matches!(done.status, 0 | 200 | 202 | 204) {
            tail.word(Style::Plain, &done.status.to_string());
        }
        tail.word(Style::Plain, &format!("{} ms", millis(done.duration)));
        if let Some(upstream) = done.upstream {
            tail.word(Style::Dim, &format!("({} upstream)", millis(upstream)));
        }
        let person = [&done.tenant, &done.user, &done.account].map(|it| it.as_deref());
        let mut row = Row::new(self.has_colours, at);
        if let Some((style, word)) = level_word(done.level()) {
            row.word(style, word);
        }
        let room = COLUMNS.saturating_sub(row.columns + tail.columns + SUBJECT + 2);
        if let Some(who) = who(person).filter(|_| room > 1) {
            tail.word(Style::Dim, &clipped(&who, room));
        }
        let rest = COLUMNS.saturating_sub(row.columns + tail.columns + 1);
        let what = subject(
            done.provider.as_deref(),
            done.tool.as_deref(),
            done.method(),
            rest,
        );
        row.word(Style::Bold, &what);
        row.text.push_str(&tail.text);
        push_row(out, &row.text);
        if let Some(cause) = done.cause() {
            let cause = clean(&cause, COLUMNS * 10);
            push_row(
                out,
                &format!("{:INDENT$}{}", "", squeezed(&cause, COLUMNS - INDENT)),
            );
        }
        if self.is_detailed {
            self.request_details(done, out);
        }
    }

    fn request_details(self, done: &RequestDone, out: &mut Vec<u8>) {
        let mut line = Vec::new();
        done.write(&mut line);
        let all: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(&line).unwrap_or_default();
        let text = |value: &serde_json::Value| match value {
            serde_json::Value::String(text) => clean(text, COLUMNS * 10),
            other => other.to_string(),
        };
        let all = all
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "timestamp" | "level" | "message" | "target"))
            .map(|(name, value)| (name.as_str(), text(value)));
        self.details(out, None, all);
    }

    /// Every field, for whoever has asked for it.
    fn details<'a>(
        self,
        out: &mut Vec<u8>,
        target: Option<&str>,
        fields: impl Iterator<Item = (&'a str, String)>,
    ) {
        let mut text = format!("{:INDENT$}{}", "", target.unwrap_or_default());
        for (name, value) in fields {
            write!(text, " {name}={value}").ok();
        }
        let (on, off) = if self.has_colours {
            ("\x1b[2m", "\x1b[0m")
        } else {
            ("", "")
        };
        push_row(out, &format!("{on}{}{off}", text.trim_end()));
    }
}

/// Whether it says nothing of what is done: each client begins so, and each command that asks a gateway.
fn is_greeting(done: &RequestDone) -> bool {
    let method = done.method();
    done.outcome == "ok" && (method == "initialize" || method.starts_with("notifications/"))
}

const fn level_word(level: Level) -> Option<(Style, &'static str)> {
    match level {
        Level::ERROR => Some((Style::Failure, "error")),
        Level::WARN => Some((Style::Warning, "warn")),
        Level::INFO => None,
        Level::DEBUG => Some((Style::Dim, "debug")),
        Level::TRACE => Some((Style::Dim, "trace")),
    }
}

/// `provider/tool`, `provider method`, or the method alone, cut to its room.
fn subject(provider: Option<&str>, tool: Option<&str>, method: &str, room: usize) -> String {
    let whole = match (provider, tool) {
        (Some(provider), Some(tool)) => format!("{provider}/{tool}"),
        (Some(provider), None) if provider == method => provider.to_owned(),
        (Some(provider), None) => format!("{provider} {method}"),
        (None, _) => method.to_owned(),
    };
    clipped(&clean(&whole, 4 * COLUMNS), room)
}

/// Tenant and user, unless it is the local caller; and the account.
fn who([tenant, user, account]: [Option<&str>; 3]) -> Option<String> {
    let local = LOCAL.get().map(|(tenant, user)| (&**tenant, &**user));
    let is_local = tenant.zip(user).is_none_or(|both| Some(both) == local);
    let person = tenant.zip(user).filter(|_| !is_local);
    let person = person.map(|(tenant, user)| clipped(&clean(&format!("{tenant}/{user}"), NAME), NAME / 2));
    let account = account.map(|account| format!("as {}", clipped(&clean(account, NAME), NAME / 2)));
    match (person, account) {
        (Some(person), Some(account)) => Some(format!("{person} {account}")),
        (one, other) => one.or(other),
    }
}

/// The text itself when it fits, else its beginning and its end: what happened last often stands there.
fn squeezed(text: &str, most: usize) -> String {
    let length = text.chars().count();
    if length <= most {
        return text.to_owned();
    }
    let end: String = text.chars().skip(length - most / 2).collect();
    format!("{}…{end}", head(text, most - most / 2 - 1))
}

/// A number with its plural, and what [`SHOWN`] names.
fn in_words(name: &str, value: &FieldValue) -> Option<String> {
    let (_, last) = name.rsplit_once('.')?;
    match value {
        FieldValue::Unsigned(count) if last.ends_with('s') && !name.starts_with("http.") => {
            let last = if *count == 1 {
                last.trim_end_matches('s')
            } else {
                last
            };
            Some(format!("{count} {last}"))
        }
        FieldValue::Text(text) if SHOWN.contains(&name) => Some(format!("{} {text}", last.replace('_', " "))),
        _ => None,
    }
}

fn millis(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1000.0;
    match millis {
        millis if millis < 1.0 => format!("{millis:.2}"),
        millis if millis < 1000.0 => format!("{millis:.1}"),
        millis => format!("{millis:.0}"),
    }
}

/// Words under the first row, as many rows as they need.
fn wrapped(out: &mut Vec<u8>, text: &str) {
    let mut row = String::new();
    for word in text.split(' ') {
        let columns = row.chars().count() + 1 + word.chars().count();
        if !row.is_empty() && columns > COLUMNS - INDENT {
            push_row(out, &format!("{:INDENT$}{row}", ""));
            row.clear();
        }
        if !row.is_empty() {
            row.push(' ');
        }
        row.push_str(word);
    }
    push_row(out, &format!("{:INDENT$}{row}", ""));
}

fn push_row(out: &mut Vec<u8>, row: &str) {
    // Writing to memory cannot fail.
    writeln!(out, "{row}").ok();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::View;
    use crate::telemetry::fields::EventFields;

    const PLAIN: TerminalForm = TerminalForm {
        has_colours: false,
        is_detailed: false,
        has_greetings: false,
    };

    fn rows(form: TerminalForm, done: &RequestDone) -> Vec<String> {
        let mut out = Vec::new();
        form.request(done, SystemTime::UNIX_EPOCH, &mut out);
        // The hour is the machine's.
        let text = String::from_utf8(out).unwrap();
        text.lines().map(|row| row.chars().skip(9).collect()).collect()
    }

    fn done() -> RequestDone {
        RequestDone {
            view: Some(View::Tool),
            provider: Some("second".into()),
            tool: Some("echo".into()),
            status: 200,
            duration: Duration::from_micros(14_904),
            upstream: Some(Duration::from_micros(14_611)),
            tenant: Some("acme".into()),
            user: Some("ann".into()),
            ..RequestDone::new("1", "tools/call")
        }
    }

    fn event(level: Level, fields: &[(&'static str, &str)]) -> Vec<String> {
        let line = LogLine {
            at: SystemTime::UNIX_EPOCH,
            level,
            target: "here",
            fields: EventFields {
                message: "tokens could not be renewed".to_owned(),
                all: fields
                    .iter()
                    .map(|(name, value)| (*name, FieldValue::Text((*value).to_owned())))
                    .collect(),
            },
        };
        let mut out = Vec::new();
        PLAIN.event(&line, &mut out);
        let text = String::from_utf8(out).unwrap();
        text.lines().map(|row| row.chars().skip(9).collect()).collect()
    }

    #[test]
    fn a_request_is_one_row_and_a_failing_one_two() {
        assert_eq!(
            rows(PLAIN, &done()),
            ["second/echo ok 14.9 ms (14.6 upstream) acme/ann"]
        );
        let failed = RequestDone {
            outcome: "upstream_unreachable",
            status: 502,
            upstream: None,
            account: Some("work".into()),
            cause: Some("127.0.0.1:9: Connection refused (os error 111)".to_owned()),
            ..done()
        };
        assert_eq!(
            rows(PLAIN, &failed),
            [
                "second/echo upstream_unreachable 502 14.9 ms acme/ann as work",
                "127.0.0.1:9: Connection refused (os error 111)"
            ]
        );
    }

    #[test]
    fn what_every_client_begins_with_has_a_row_where_it_fails_or_is_asked_for() {
        let of = |form: TerminalForm, method: &'static str, outcome| {
            let done = RequestDone {
                outcome,
                ..RequestDone::new("1", method)
            };
            rows(form, &done).len()
        };
        let all = TerminalForm {
            has_greetings: true,
            ..PLAIN
        };
        for method in ["initialize", "notifications/initialized"] {
            assert_eq!(of(PLAIN, method, "ok"), 0);
            assert_eq!(of(PLAIN, method, "unsupported_revision"), 1);
            assert_eq!(of(all, method, "ok"), 1);
        }
        assert_eq!(of(PLAIN, "tools/list", "ok"), 1);
    }

    #[test]
    fn no_row_of_a_request_is_wider_than_100_columns_whatever_its_names_are() {
        let long = RequestDone {
            tool: Some("t".repeat(300).into()),
            tenant: Some("x".repeat(300).into()),
            account: Some("y".repeat(300).into()),
            cause: Some("because ".repeat(300)),
            outcome: "account_ambiguous",
            ..done()
        };
        let rows = rows(PLAIN, &long);
        assert_eq!(rows.len(), 2);
        assert!(
            rows.iter().all(|row| row.chars().count() <= COLUMNS - INDENT),
            "{rows:?}"
        );
    }

    #[test]
    fn a_long_cause_keeps_its_beginning_and_its_end() {
        assert_eq!(squeezed("abcdefghij", 10), "abcdefghij");
        assert_eq!(squeezed("abcdefghijk", 10), "abcd…ghijk");
    }

    #[test]
    fn nothing_of_others_steers_a_terminal() {
        let hostile = RequestDone {
            tool: Some("a\u{1b}[31m\nb\u{202e}".into()),
            cause: Some("x\u{1b}]0;title\u{7}\r\ny".to_owned()),
            ..done()
        };
        for detailed in [false, true] {
            let form = TerminalForm {
                is_detailed: detailed,
                ..PLAIN
            };
            let rows = rows(form, &hostile);
            assert_eq!(rows.len(), 2 + usize::from(detailed), "{rows:?}");
            let hidden = |character: char| crate::text::is_hidden(character);
            assert!(rows.iter().all(|row| !row.contains(hidden)), "{rows:?}");
        }
    }

    #[test]
    fn an_event_says_whom_it_is_about_and_below_it_why_and_what_to_do() {
        let fields = [
            ("provider.name", "mail"),
            ("principal.tenant", "acme"),
            ("principal.user", "ann"),
            ("account.id", "work"),
            ("outcome", "refused"),
            ("error", "invalid_grant"),
            ("description", "the token endpoint says that the grant is over"),
            ("cure", "connect the account again"),
        ];
        assert_eq!(
            event(Level::WARN, &fields),
            [
                "warn mail: tokens could not be renewed (acme/ann as work)",
                "invalid_grant: the token endpoint says that the grant is over",
                "connect the account again"
            ]
        );
    }

    #[test]
    fn colours_are_there_only_when_they_are_wanted() {
        let coloured = TerminalForm {
            has_colours: true,
            ..PLAIN
        };
        let both = [PLAIN, coloured].map(|form| {
            let mut out = Vec::new();
            form.request(&done(), SystemTime::UNIX_EPOCH, &mut out);
            out.contains(&0x1b)
        });
        assert_eq!(both, [false, true]);
    }
}
