//! The steps of a check-up as they are printed, and what is kept out of them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::ui::{self, BOLD, DIM, GREEN, RED};
use pleiades_core::error::Code;

/// Longest sentence or line, in characters.
const LONGEST: usize = 400;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StepState {
    Ok,
    Failed,
    Skipped,
}

impl StepState {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct StepDetail {
    pub(super) detail: String,
    pub(super) lines: Vec<String>,
}

#[derive(Debug)]
pub(super) struct StepFailure {
    /// What answers and the log call it while this step fails; `None`: calls are answered all the same.
    pub(super) code: Option<Code>,
    pub(super) detail: String,
    pub(super) cure: String,
    pub(super) lines: Vec<String>,
}

impl From<String> for StepDetail {
    fn from(detail: String) -> Self {
        let lines = Vec::new();
        Self { detail, lines }
    }
}

impl StepFailure {
    pub(super) fn new(code: Code, detail: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            code: Some(code),
            detail: detail.into(),
            cure: cure.into(),
            lines: Vec::new(),
        }
    }
}

/// The steps so far; each is printed when it ends.
#[derive(Debug)]
pub(super) struct Steps {
    json: bool,
    done: Vec<Value>,
    failed: usize,
    redactor: Redactor,
}

impl Steps {
    pub(super) fn new(json: bool, redactor: Redactor) -> Self {
        Self {
            json,
            done: Vec::new(),
            failed: 0,
            redactor,
        }
    }

    /// Ends a step; answers whether it is well.
    pub(super) fn end(
        &mut self,
        name: &'static str,
        began: Instant,
        found: Result<StepDetail, StepFailure>,
    ) -> bool {
        match found {
            Ok(StepDetail { detail, lines }) => {
                let text = self.text(&detail, None, &lines);
                self.add(name, StepState::Ok, began.elapsed(), text);
                true
            }
            Err(failure) => {
                let mut text = self.text(&failure.detail, Some(&failure.cure), &failure.lines);
                text.code = failure.code;
                self.add(name, StepState::Failed, began.elapsed(), text);
                false
            }
        }
    }

    pub(super) fn skip(&mut self, name: &'static str, why: impl Into<String>) {
        self.skip_with(name, why, &[]);
    }

    /// Skips a step that has something to say without being made.
    pub(super) fn skip_with(&mut self, name: &'static str, why: impl Into<String>, lines: &[String]) {
        let text = self.text(&why.into(), None, lines);
        self.add(name, StepState::Skipped, Duration::ZERO, text);
    }

    /// What a step says, without what must not be printed.
    fn text(&self, detail: &str, cure: Option<&str>, lines: &[String]) -> StepText {
        let redact = |text: &str| self.redactor.redact(text);
        StepText {
            code: None,
            detail: redact(detail),
            cure: cure.map(redact),
            lines: lines.iter().map(|line| redact(line)).collect(),
        }
    }

    /// Skips steps that make no sense after one that failed.
    pub(super) fn skip_all(&mut self, names: &[&'static str], after: &str) {
        for name in names {
            self.skip(name, format!("`{after}` failed"));
        }
    }

    /// Whether a step of this name has ended well.
    pub(super) fn is_ok(&self, name: &str) -> bool {
        let is_it = |step: &Value| step["step"] == name && step["state"] == StepState::Ok.as_str();
        self.done.iter().any(is_it)
    }

    pub(super) fn is_well(&self) -> bool {
        self.failed == 0
    }

    fn add(&mut self, name: &'static str, state: StepState, took: Duration, text: StepText) {
        self.failed += usize::from(state == StepState::Failed);
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        if !self.json {
            print(name, state, millis, &text);
        }
        self.done.push(json!({
            "step": name,
            "state": state.as_str(),
            "code": text.code.map(Code::as_str),
            "detail": text.detail,
            "cure": text.cure,
            "lines": text.lines,
            "duration_ms": millis,
        }));
    }

    /// Stable: fields are added, never changed.
    pub(super) fn report(self, provider: &str, file: &str) -> Value {
        json!({ "provider": provider, "file": file, "ok": self.failed == 0, "steps": self.done })
    }
}

/// A step as it is printed.
#[derive(Debug)]
struct StepText {
    code: Option<Code>,
    detail: String,
    cure: Option<String>,
    lines: Vec<String>,
}

fn print(name: &str, state: StepState, millis: u64, text: &StepText) {
    let detail = &text.detail;
    let style = match state {
        StepState::Ok => GREEN,
        StepState::Failed => RED,
        StepState::Skipped => DIM,
    };
    let took = if state == StepState::Skipped {
        String::new()
    } else {
        format!(" {DIM}({millis} ms){DIM:#}")
    };
    let word = state.as_str();
    ui::out(format_args!(
        "{style}{word:<7}{style:#}  {BOLD}{name:<12}{BOLD:#}  {detail}{took}"
    ));
    for line in &text.lines {
        ui::out(format_args!("{:25}{DIM}{line}{DIM:#}", ""));
    }
    if let Some(cure) = &text.cure {
        ui::out(format_args!("{:23}→ {cure}", ""));
    }
    if let Some(code) = text.code {
        let code = code.as_str();
        ui::out(format_args!(
            "{:25}{DIM}`pleiades explain {code}` says more{DIM:#}",
            ""
        ));
    }
}

/// Redacts credentials and the values of references.
#[derive(Default)]
pub(super) struct Redactor(Vec<String>);

impl Redactor {
    /// Keeps a text out; one shorter than `least` bytes is no secret but a part of words.
    pub(super) fn hide(&mut self, text: &str, least: usize) {
        let text = text.trim();
        if text.len() >= least && !self.0.iter().any(|known| known == text) {
            self.0.push(text.to_owned());
            // The longest first: replacing a part of it would leave the rest.
            self.0.sort_by_key(|text| std::cmp::Reverse(text.len()));
        }
    }

    /// One bounded line that shows none of it, and no control character of whoever wrote it.
    fn redact(&self, text: &str) -> String {
        let clean = self
            .0
            .iter()
            .fold(text.to_owned(), |text, hidden| text.replace(hidden.as_str(), "…"));
        let clean = pleiades_core::text::printable(&clean, usize::MAX);
        let Some((end, _)) = clean.char_indices().nth(LONGEST) else {
            return clean;
        };
        // Between words: half a URL is another one.
        let cut = clean.get(..end).unwrap_or_default();
        let whole = cut.rsplit_once(' ').map_or(cut, |(whole, _)| whole);
        format!("{whole} …")
    }
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Redactor").field(&self.0.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_veil_leaves_nothing_of_a_secret_and_no_control_character() {
        let mut redactor = Redactor::default();
        redactor.hide("secret", 4);
        redactor.hide("secret-and-more", 4);
        redactor.hide("k", 3);
        assert_eq!(
            redactor.redact("a secret-and-more\u{1b}[31m, secret, k\n"),
            "a …[31m, …, k"
        );
    }

    #[test]
    fn a_line_is_cut_between_words_and_says_so() {
        let line = format!("{}https://as.example/path", "word ".repeat(LONGEST / 5 - 3));
        let cut = Redactor::default().redact(&line);
        assert!(
            cut.ends_with("word …") && cut.chars().count() <= LONGEST + 2,
            "{cut}"
        );
        assert_eq!(Redactor::default().redact("short"), "short");
    }
}
