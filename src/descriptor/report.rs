//! Collects the faults of one file.

use std::path::{Path, PathBuf};

use super::{
    fault::{Fault, Severity},
    yaml::Pos,
};

/// The faults of one file so far.
#[derive(Debug)]
pub(crate) struct Report {
    file: PathBuf,
    /// Whether what depends on features or surroundings is a fault or, for what does not run, a
    /// warning.
    strict: bool,
    faults: Vec<Fault>,
}

/// What to say about a place.
#[derive(Debug)]
pub(crate) struct Said {
    message: String,
    cure: Option<String>,
}

/// A sentence without a cure.
pub(crate) fn say(message: impl Into<String>) -> Said {
    Said {
        message: message.into(),
        cure: None,
    }
}

impl Said {
    /// What to do about it.
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
        }
    }

    /// The file's provider does not run.
    pub(crate) fn relax(&mut self) {
        self.strict = false;
    }

    pub(crate) fn fault(&mut self, at: Pos, field: &str, said: Said) {
        self.add(Severity::Fault, at, field, said);
    }

    /// A fault that does no harm while the provider is disabled.
    pub(crate) fn lenient(&mut self, at: Pos, field: &str, said: Said) {
        let severity = if self.strict {
            Severity::Fault
        } else {
            Severity::Warning
        };
        self.add(severity, at, field, said);
    }

    pub(crate) fn warning(&mut self, at: Pos, field: &str, said: Said) {
        self.add(Severity::Warning, at, field, said);
    }

    pub(crate) fn note(&mut self, at: Pos, field: &str, said: Said) {
        self.add(Severity::Note, at, field, said);
    }

    fn add(&mut self, severity: Severity, at: Pos, field: &str, said: Said) {
        let Said { message, cure } = said;
        let known = self.faults.iter().any(|fault| {
            (fault.line, fault.column, fault.field.as_str()) == (at.line, at.column, field)
                && fault.message == message
        });
        if known {
            return;
        }
        let (file, field) = (self.file.clone(), field.to_owned());
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

    pub(crate) fn has_fatal(&self) -> bool {
        self.faults.iter().any(Fault::is_fatal)
    }

    /// The faults by position.
    pub(crate) fn finish(mut self) -> Vec<Fault> {
        self.faults.sort_by_key(|fault| (fault.line, fault.column));
        self.faults
    }
}
