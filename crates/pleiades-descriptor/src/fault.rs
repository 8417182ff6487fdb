//! One thing wrong with a file: where, what, and what to do.

use std::{fmt, path::PathBuf};

/// How bad a fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The file is refused.
    Fault,
    /// The file is taken, but something should change.
    Warning,
    /// The file is taken; fine for one person on one machine, and a fault where several share it
    /// (`check --strict`). Printed as a note.
    Private,
    /// The file is taken; a consequence worth knowing.
    Note,
}

/// One thing wrong with a file. `Display` prints what `check` prints:
/// `file:line:column: field: message`, cures on indented lines below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Path as given.
    pub file: PathBuf,
    /// Line, 1-based.
    pub line: usize,
    /// Column, 1-based, in characters.
    pub column: usize,
    /// Dotted path of the field; `syntax` for a file that does not parse.
    pub field: String,
    /// What is wrong: lowercase, no full stop, never a secret.
    pub message: String,
    /// What to do about it; one cure a line.
    pub cure: Option<String>,
    /// How bad it is.
    pub severity: Severity,
}

impl Fault {
    /// Whether the file is refused because of it.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        self.severity == Severity::Fault
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = match self.severity {
            Severity::Fault => "",
            Severity::Warning => "warning: ",
            Severity::Private | Severity::Note => "note: ",
        };
        let Self {
            line,
            column,
            field,
            message,
            ..
        } = self;
        write!(
            f,
            "{}:{line}:{column}: {field}: {head}{message}",
            self.file.display()
        )?;
        for cure in self.cure.iter().flat_map(|cure| cure.lines()) {
            write!(f, "\n    {cure}")?;
        }
        Ok(())
    }
}
