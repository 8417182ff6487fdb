//! Output of the command line: results on stdout, messages on stderr, colour on terminals.
//!
//! Much of what is printed are words of others: results, descriptions, errors of servers. A terminal obeys
//! control characters (CWE-150), so it gets none of theirs: styles are marks that only the writers here turn
//! into sequences, and every control character becomes a picture of itself. A pipe gets what there is.

use std::fmt::{self, Display};
use std::io::{IsTerminal, Write};

use anstream::{AutoStream, ColorChoice, stream::RawStream};
use anstyle::{AnsiColor, Style};
use pleiades_core::text::{head, one_line};

/// A style within a line: `{BOLD}` begins it, `{BOLD:#}` ends every style.
///
/// Each is one of the code points that Unicode reserves for use inside of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Paint(char);

pub(crate) const BOLD: Paint = Paint('\u{fdd1}');
pub(crate) const DIM: Paint = Paint('\u{fdd2}');
pub(crate) const GREEN: Paint = Paint('\u{fdd3}');
pub(crate) const YELLOW: Paint = Paint('\u{fdd4}');
pub(crate) const RED: Paint = Paint('\u{fdd5}');
const PLAIN: Paint = Paint('\u{fdd0}');

impl Display for Paint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", if out.alternate() { PLAIN.0 } else { self.0 })
    }
}

impl Paint {
    fn of(mark: char) -> Option<Style> {
        match Self(mark) {
            PLAIN => Some(Style::new()),
            BOLD => Some(Style::new().bold()),
            DIM => Some(Style::new().dimmed()),
            GREEN => Some(AnsiColor::Green.on_default()),
            YELLOW => Some(AnsiColor::Yellow.on_default()),
            RED => Some(AnsiColor::Red.on_default()),
            _ => None,
        }
    }
}

/// A line of the result. A reader that went away is no fault of ours.
pub(crate) fn out(line: impl Display) {
    print(&mut std::io::stdout(), format_args!("{line}\n"));
}

/// A line about the result.
pub(crate) fn err(line: impl Display) {
    print(&mut std::io::stderr(), format_args!("{line}\n"));
}

/// A failure, in the one form they all have.
pub(crate) fn fail(line: impl Display) {
    err(format_args!("{RED}error:{RED:#} {line}"));
}

/// A question; the answer is typed behind it.
pub(crate) fn ask(question: impl Display) {
    print(&mut std::io::stderr(), question);
}

/// Whether a person reads stderr.
pub(crate) fn is_person() -> bool {
    std::io::stderr().is_terminal()
}

/// The one line that is written over by the next; an empty one is gone.
pub(crate) fn progress(line: impl Display) {
    let mut stderr = std::io::stderr();
    stderr.write_all(b"\r\x1b[2K").ok();
    print(&mut stderr, line);
}

fn print(stream: &mut impl RawStream, text: impl Display) {
    let has_colour = AutoStream::choice(stream) != ColorChoice::Never;
    let text = finished(&text.to_string(), stream.is_terminal(), has_colour);
    stream.write_all(text.as_bytes()).ok();
    stream.flush().ok();
}

/// A text as a stream gets it: marks become colours or nothing; for a terminal nothing else controls it.
fn finished(text: &str, is_terminal: bool, has_colour: bool) -> String {
    let mut done = String::with_capacity(text.len());
    for char in text.chars() {
        match Paint::of(char) {
            Some(_) if !has_colour => {}
            // No style at all prints as nothing: its reset is what ends the others.
            Some(style) if style == Style::new() => done.push_str(&anstyle::Reset.to_string()),
            Some(style) => done.push_str(&style.to_string()),
            None if is_terminal => done.push(visible(char)),
            None => done.push(char),
        }
    }
    done
}

/// A character that a terminal shows and does not obey.
fn visible(char: char) -> char {
    match char {
        '\n' | '\t' => char,
        '\u{0}'..='\u{1f}' => char::from_u32(0x2400 + u32::from(char)).unwrap_or(char::REPLACEMENT_CHARACTER),
        '\u{7f}' => '\u{2421}',
        _ if is_unseen(char) => char::REPLACEMENT_CHARACTER,
        _ => char,
    }
}

/// Characters that control what is around them: C1, and those that turn the direction of text.
fn is_unseen(char: char) -> bool {
    char.is_control()
        || matches!(
            char,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}'
        )
        || matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Somebody's words as a part of a line: without control characters, at most `most` characters.
pub(crate) fn line(words: &str, most: usize) -> String {
    head(&one_line(words, usize::MAX), most).trim_end().to_owned()
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

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\x1b[31mb\x1b]0;title\x07c\r\u{9b}2Jd\u{7f}\u{202e}e\n\tf";

    #[test]
    fn a_terminal_gets_no_control_character_of_others() {
        for has_colour in [false, true] {
            let shown = finished(HOSTILE, true, has_colour);
            assert!(
                shown
                    .chars()
                    .all(|char| matches!(char, '\n' | '\t') || !is_unseen(char)),
                "{shown:?}"
            );
            assert!(
                shown.contains("\u{241b}[31mb") && shown.ends_with("e\n\tf"),
                "{shown}"
            );
        }
    }

    #[test]
    fn a_pipe_gets_what_there_is() {
        assert_eq!(finished(HOSTILE, false, false), HOSTILE);
    }

    #[test]
    fn styles_are_ours_alone_and_end() {
        let line = format!("{RED}error:{RED:#} x");
        assert_eq!(finished(&line, true, true), "\x1b[31merror:\x1b[0m x");
        assert_eq!(finished(&line, true, false), "error: x");
        assert_eq!(finished(&line, false, false), "error: x");
    }

    #[test]
    fn words_become_one_bounded_line() {
        assert_eq!(line(" a\n b\tc \u{1b}[1m\u{202e}d", 80), "a b c [1md");
        assert_eq!(line("one two three", 9), "one two t");
        assert_eq!(line("one two three", 7), "one two");
        assert_eq!(line(&"é".repeat(100), 80).chars().count(), 80);
    }
}
