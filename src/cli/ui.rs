//! How the command line speaks: results to stdout, words about them to stderr, colour for people.

use std::fmt::Display;
use std::io::{IsTerminal, Write};

use anstyle::{AnsiColor, Style};

pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const GREEN: Style = AnsiColor::Green.on_default();
pub(crate) const YELLOW: Style = AnsiColor::Yellow.on_default();
pub(crate) const RED: Style = AnsiColor::Red.on_default();

/// A line of the result. A reader that went away is no fault of ours.
pub(crate) fn out(line: impl Display) {
    writeln!(anstream::stdout(), "{line}").ok();
}

/// A line about the result.
pub(crate) fn err(line: impl Display) {
    writeln!(anstream::stderr(), "{line}").ok();
}

/// A failure, in the one form they all have.
pub(crate) fn fail(line: impl Display) {
    err(format_args!("{RED}error:{RED:#} {line}"));
}

/// Whether a person reads stderr.
pub(crate) fn is_person() -> bool {
    std::io::stderr().is_terminal()
}

/// The one line that is written over by the next; an empty one is gone.
pub(crate) fn progress(line: impl Display) {
    let mut stderr = anstream::stderr();
    write!(stderr, "\r\x1b[2K{line}").ok();
    stderr.flush().ok();
}

/// Rows as columns; the last column keeps its length.
pub(crate) fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| {
        rows.iter()
            .filter_map(|row| row.get(at))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..columns).map(|at| width(at).unwrap_or(0)).collect();
    rows.iter()
        .map(|row| {
            let last = row.len().saturating_sub(1);
            let cells = row.iter().zip(&widths).enumerate().map(|(at, (cell, width))| {
                if at == last {
                    cell.clone()
                } else {
                    format!("{cell:<width$}  ")
                }
            });
            cells.collect::<String>()
        })
        .collect()
}
