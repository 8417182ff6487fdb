//! Lines of a wire that are no message: counted, the first one kept, and recognised where they are an answer
//! after all, in a form that the transport does not have.

use crate::scan::AnswerScan;
use pleiades_core::text::one_line;

/// Longest first line that is kept, in characters.
const LONGEST: usize = 200;
/// The header by which language servers frame messages.
const FRAME: &str = "content-length:";

#[derive(Debug, Default)]
pub(crate) struct Noise {
    lines: u64,
    first: Option<String>,
    /// JSON that goes over several lines, as far as it has come.
    document: Option<AnswerScan>,
    heard: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoiseKind {
    /// Something to pass over; whether it is the first.
    Noise { first: bool },
    /// The end of answers that stand over several lines.
    Answers(Vec<u64>),
    /// Nothing on this wire can ever be read.
    Framed,
}

impl Noise {
    pub(crate) fn record_message(&mut self) {
        self.heard = true;
        self.document = None;
    }

    pub(crate) const fn lines(&self) -> u64 {
        self.lines
    }

    pub(crate) fn first(&self) -> Option<&str> {
        self.first.as_deref()
    }

    /// Takes a line that is no message; `veiled` takes out of it what may not be shown.
    pub(crate) fn line(&mut self, line: &[u8], veiled: impl Fn(&str) -> String) -> NoiseKind {
        self.lines = self.lines.saturating_add(1);
        let first = self.first.is_none();
        if first {
            let beginning = line.get(..4 * LONGEST).unwrap_or(line);
            let shown = veiled(&String::from_utf8_lossy(beginning));
            self.first = Some(one_line(&shown, LONGEST));
        }
        if !self.heard && is_framed(line) {
            return NoiseKind::Framed;
        }
        let line = line.trim_ascii();
        if self.document.is_none() && matches!(line.first(), Some(b'{' | b'[')) {
            self.document = Some(AnswerScan::default());
        }
        if let Some(mut document) = self.document.take() {
            document.feed(line);
            document.feed(b"\n");
            if document.is_open() {
                self.document = Some(document);
            } else {
                let answers = document.end();
                if !answers.is_empty() {
                    return NoiseKind::Answers(answers);
                }
            }
        }
        NoiseKind::Noise { first }
    }
}

/// Whether a line holds the header of a language server's frame; a body before it has no end of its own.
fn is_framed(line: &[u8]) -> bool {
    let text = String::from_utf8_lossy(line).to_ascii_lowercase();
    let header = text.rsplit_once('}').map_or(text.as_str(), |(_, header)| header);
    let length = header.trim().strip_prefix(FRAME).map(str::trim);
    length.is_some_and(|length| !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(junk: &mut Noise, line: &str) -> NoiseKind {
        junk.line(line.as_bytes(), |line| line.replace("hunter2", "…"))
    }

    fn lines(junk: &mut Noise, text: &str) -> Vec<NoiseKind> {
        text.lines().map(|text| line(junk, text)).collect()
    }

    #[test]
    fn noise_is_counted_and_its_first_line_kept_clean() {
        let mut junk = Noise::default();
        let found = lines(&mut junk, "\u{1b}[32mlistening with hunter2\n{ not json\nmore");
        assert_eq!(found[0], NoiseKind::Noise { first: true });
        assert_eq!(found[2], NoiseKind::Noise { first: false });
        assert_eq!((junk.lines(), junk.first()), (3, Some("[32mlistening with …")));
    }

    #[test]
    fn an_answer_over_several_lines_is_known_at_its_end() {
        let mut junk = Noise::default();
        let found = lines(
            &mut junk,
            "banner\n{\n \"jsonrpc\": \"2.0\",\n \"id\": 5,\n \"result\": {\n  \"a\": 1\n }\n}",
        );
        assert_eq!(found.last(), Some(&NoiseKind::Answers(vec![5])));
        let asks = lines(&mut junk, "{\n \"id\": 5,\n \"method\": \"ping\"\n}");
        assert_eq!(asks.last(), Some(&NoiseKind::Noise { first: false }));
    }

    #[test]
    fn frames_of_language_servers_are_named_while_nothing_was_read() {
        for text in [
            "Content-Length: 52\r",
            "content-length:7",
            "{\"a\":{}}Content-Length: 9",
        ] {
            assert_eq!(line(&mut Noise::default(), text), NoiseKind::Framed, "{text}");
        }
        let mut junk = Noise::default();
        junk.record_message();
        assert_eq!(
            line(&mut junk, "Content-Length: 52"),
            NoiseKind::Noise { first: true }
        );
        assert_eq!(
            line(&mut Noise::default(), "Content-Length: many"),
            NoiseKind::Noise { first: true }
        );
    }
}
