//! Server-sent events: an incremental, bounded parser and the frames we write.
//!
//! Follows the event stream format of the HTML standard, except that a frame without data is
//! handed out when it carries an id or a retry time: streams of 2025-11-25 begin with one.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

use pleiades_core::error::{Code, Error};

/// A keep-alive comment.
pub const COMMENT: &[u8] = b":\n\n";

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame {
    /// `event`; absent means `message`.
    pub event: Option<String>,
    /// `data` lines joined by newlines; empty for a frame that only sets an id or a retry time.
    pub data: String,
    /// `id`.
    pub id: Option<String>,
    /// `retry`.
    pub retry: Option<Duration>,
}

/// Turns bytes as they arrive into frames.
#[derive(Debug)]
pub struct Parser {
    max_event_bytes: usize,
    /// The beginning of a line whose end has not arrived.
    line: Vec<u8>,
    frame: Frame,
    has_data: bool,
    size: usize,
    /// A CR was the last byte: an LF that follows belongs to it.
    after_cr: bool,
    /// The first line is still to come; a byte order mark may stand before it.
    fresh: bool,
    ready: VecDeque<Frame>,
}

impl Parser {
    /// A parser that refuses an event (or a line) of more than `max_event_bytes` bytes.
    #[must_use]
    pub fn new(max_event_bytes: usize) -> Self {
        Self {
            max_event_bytes,
            line: Vec::new(),
            frame: Frame::default(),
            has_data: false,
            size: 0,
            after_cr: false,
            fresh: true,
            ready: VecDeque::new(),
        }
    }

    /// Takes the bytes that arrived; frames completed by them wait in [`Parser::next`].
    ///
    /// # Errors
    /// [`Code::UpstreamProtocol`] when an event is too large or not UTF-8; the stream is then
    /// of no further use.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let mut rest = bytes;
        if self.after_cr && !rest.is_empty() {
            self.after_cr = false;
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let (line, tail) = rest.split_at(at);
            rest = match tail {
                [b'\r', b'\n', after @ ..] | [_, after @ ..] => after,
                [] => tail,
            };
            self.after_cr = tail == b"\r";
            self.bounded(line.len())?;
            if self.line.is_empty() {
                self.end_line(line)?;
            } else {
                let mut whole = std::mem::take(&mut self.line);
                whole.extend_from_slice(line);
                self.end_line(&whole)?;
                whole.clear();
                self.line = whole;
            }
        }
        self.bounded(rest.len())?;
        self.line.extend_from_slice(rest);
        Ok(())
    }

    /// Bytes of events that are not handed out yet.
    #[must_use]
    pub fn buffered(&self) -> usize {
        let ready: usize = self.ready.iter().map(|frame| frame.data.len()).sum();
        ready + self.size + self.line.len()
    }

    /// The oldest complete frame.
    #[expect(clippy::should_implement_trait, reason = "an iterator would promise an end")]
    pub fn next(&mut self) -> Option<Frame> {
        self.ready.pop_front()
    }

    fn bounded(&self, more: usize) -> Result<(), Error> {
        if self.size + self.line.len() + more > self.max_event_bytes {
            let limit = self.max_event_bytes;
            return Err(Error::new(
                Code::UpstreamProtocol,
                format!("the provider sent an event of more than {limit} bytes"),
            ));
        }
        Ok(())
    }

    fn end_line(&mut self, line: &[u8]) -> Result<(), Error> {
        let line = if std::mem::take(&mut self.fresh) {
            line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line)
        } else {
            line
        };
        if line.is_empty() {
            self.end_frame();
            return Ok(());
        }
        if line.starts_with(b":") {
            return Ok(());
        }
        let line = std::str::from_utf8(line).map_err(|cause| {
            Error::new(Code::UpstreamProtocol, "the provider's event stream is not UTF-8").because(cause)
        })?;
        self.size += line.len();
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        self.field(name, value.strip_prefix(' ').unwrap_or(value));
        Ok(())
    }

    fn field(&mut self, name: &str, value: &str) {
        match name {
            "data" => {
                if self.has_data {
                    self.frame.data.push('\n');
                }
                self.has_data = true;
                self.frame.data.push_str(value);
            }
            "event" => self.frame.event = Some(value.to_owned()),
            "id" if !value.contains('\0') => self.frame.id = Some(value.to_owned()),
            "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => {
                let read = value.parse().ok().map(Duration::from_millis);
                // One that says nothing takes nothing back.
                self.frame.retry = read.or(self.frame.retry);
            }
            _ => {}
        }
    }

    fn end_frame(&mut self) {
        self.size = 0;
        let has_data = std::mem::take(&mut self.has_data);
        let frame = std::mem::take(&mut self.frame);
        if has_data || frame.id.is_some() || frame.retry.is_some() {
            self.ready.push_back(frame);
        }
    }
}

/// One `event: message` frame. Newlines of the data become further data lines: in JSON they are
/// whitespace between tokens, so that the text read back means the same.
#[must_use]
pub fn frame(data: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(data.len() + 32);
    out.extend_from_slice(b"event: message\n");
    for line in data.split(|byte| matches!(byte, b'\n' | b'\r')) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.push(b'\n');
    Bytes::from(out)
}

/// A frame without data that names the place to resume at, and when to.
#[must_use]
pub fn primer(id: &str, retry: Duration) -> Bytes {
    Bytes::from(format!("id: {id}\nretry: {}\ndata: \n\n", retry.as_millis()))
}

#[cfg(test)]
mod tests;
