//! Collects the faults of one file.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use pleiades_core::text::{head, is_hidden};

use super::{
    fault::{Fault, Severity},
    yaml::Pos,
};

#[derive(Debug)]
pub(crate) struct Report {
    file: PathBuf,
    /// Whether what depends on features or surroundings is a fault or, for what does not run, a
    /// warning.
    strict: bool,
    faults: Vec<Fault>,
    known: BTreeSet<(Pos, String, String)>,
    /// What references were resolved to: never printed, whatever a sentence quotes.
    hidden: BTreeSet<String>,
}

#[derive(Debug)]
pub(crate) struct Finding {
    message: String,
    cure: Option<String>,
}

pub(crate) fn say(message: impl Into<String>) -> Finding {
    Finding {
        message: message.into(),
        cure: None,
    }
}

impl Finding {
    pub(crate) fn cure(mut self, cure: impl Into<String>) -> Self {
        self.cure = Some(cure.into());
        self
    }
}

impl Report {
    pub(crate) fn new(file: &Path) -> Self {
        Self {
            file: file.to_path_buf(),
            strict: true,
            faults: Vec::new(),
            known: BTreeSet::new(),
            hidden: BTreeSet::new(),
        }
    }

    /// The file's provider does not run.
    pub(crate) fn relax(&mut self) {
        self.strict = false;
    }

    pub(crate) fn fault(&mut self, at: Pos, field: &str, finding: Finding) {
        self.add(Severity::Fault, at, field, finding);
    }

    /// A fault that does no harm while the provider is disabled.
    pub(crate) fn lenient(&mut self, at: Pos, field: &str, finding: Finding) {
        let severity = if self.strict {
            Severity::Fault
        } else {
            Severity::Warning
        };
        self.add(severity, at, field, finding);
    }

    pub(crate) fn warning(&mut self, at: Pos, field: &str, finding: Finding) {
        self.add(Severity::Warning, at, field, finding);
    }

    pub(crate) fn note(&mut self, at: Pos, field: &str, finding: Finding) {
        self.add(Severity::Note, at, field, finding);
    }

    /// What one person on one machine may have, and no installation that several share.
    pub(crate) fn private(&mut self, at: Pos, field: &str, finding: Finding) {
        self.add(Severity::Private, at, field, finding);
    }

    fn add(&mut self, severity: Severity, at: Pos, field: &str, finding: Finding) {
        // What is wrong with the file as a whole has no field.
        let field = if field.is_empty() { "syntax" } else { field };
        let (field, message) = (printable(field), printable(&self.redacted(&finding.message)));
        if self.known.insert((at, field.clone(), message.clone())) {
            let (file, cure) = (self.file.clone(), finding.cure.as_deref().map(printable));
            self.faults.push(Fault {
                file,
                line: at.line,
                column: at.column,
                field,
                message,
                cure,
                severity,
            });
        }
    }

    /// Keeps a text out of all sentences to come. Short ones are left: they are no secrets, and words
    /// of ours.
    pub(crate) fn hide(&mut self, text: &str) {
        if text.len() >= MIN_HIDDEN {
            self.hidden.insert(text.to_owned());
        }
    }

    fn redacted(&self, message: &str) -> String {
        let veil = |message: String, text: &String| message.replace(text.as_str(), "…");
        self.hidden.iter().fold(message.to_owned(), veil)
    }

    pub(crate) fn has_fatal(&self) -> bool {
        self.faults.iter().any(Fault::is_fatal)
    }

    /// The faults by position.
    pub(crate) fn finish(mut self) -> Vec<Fault> {
        self.faults.sort_by_key(|fault| (fault.line, fault.column));
        self.faults
    }
}

/// Shortest text that is kept out of sentences, in bytes.
const MIN_HIDDEN: usize = 8;
/// Longest field or sentence.
const MAX_CHARS: usize = 400;

/// One line without hidden characters and credentials in URLs: keys are the file's own and may
/// hold anything.
fn printable(text: &str) -> String {
    let text = without_userinfo(text);
    let shown = head(&text, MAX_CHARS);
    let mut line = String::with_capacity(shown.len());
    for character in shown.chars() {
        if is_hidden(character) {
            line.extend(character.escape_unicode());
        } else {
            line.push(character);
        }
    }
    if shown.len() < text.len() {
        line.push('…');
    }
    line
}

/// A text without what stands before the `@` of its URLs.
fn without_userinfo(text: &str) -> String {
    let mut parts = text.split("://");
    let mut clean = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(['/', '?', '#', ' ', '`']).unwrap_or(part.len());
        let (authority, rest) = part.split_at(end);
        let host = authority.rsplit_once('@').map(|(_, host)| host);
        clean.push_str("://");
        clean.push_str(if host.is_some() { "…@" } else { "" });
        clean.push_str(host.unwrap_or(authority));
        clean.push_str(rest);
    }
    clean
}
