//! The last lines that child processes wrote to stderr, and the first that was no message where messages
//! belong, for a command that shows them.

use std::sync::{Arc, Mutex, PoisonError};
use std::{collections::VecDeque, fmt};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::{Layer, filter::FilterFn, layer::Context, registry::LookupSpan};

/// Lines kept.
const LINES: usize = 20;
/// Message of the event for such a line (`process/pipes.rs` of `pleiades-upstream`).
const SAYS: &str = "the provider's process says";
/// Message of the event for the first line that is no message (`wire/reader.rs` there).
const PRINTS: &str = "the provider prints what is not JSON-RPC";

/// The last lines. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tail(Arc<Mutex<Lines>>);

#[derive(Debug, Default)]
struct Lines {
    stderr: VecDeque<String>,
    junk: Option<String>,
}

impl Tail {
    /// The lines of stderr so far, oldest first.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.stderr.iter().cloned().collect()
    }

    /// The first line that was no message.
    #[must_use]
    pub fn junk(&self) -> Option<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.junk.clone()
    }

    pub(super) fn layer<S>(self) -> impl Layer<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let is_wanted = |event: &Metadata<'_>| {
            let target = event.target();
            let is_wire = target.starts_with("pleiades_upstream::process")
                || target.starts_with("pleiades_upstream::wire");
            is_wire && *event.level() <= Level::DEBUG
        };
        TailLayer(self).with_filter(FilterFn::new(is_wanted))
    }
}

struct TailLayer(Tail);

impl<S: Subscriber> Layer<S> for TailLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut visitor = LineVisitor::default();
        event.record(&mut visitor);
        let Some(line) = visitor.line else { return };
        let mut lines = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if visitor.is_junk {
            lines.junk.get_or_insert(line);
        } else if visitor.is_stderr {
            if lines.stderr.len() >= LINES {
                lines.stderr.pop_front();
            }
            lines.stderr.push_back(line);
        }
    }
}

#[derive(Default)]
struct LineVisitor {
    is_stderr: bool,
    is_junk: bool,
    line: Option<String>,
}

impl Visit for LineVisitor {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "process.line" {
            self.line = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let message = format!("{value:?}");
            self.is_stderr = message == SAYS;
            self.is_junk = message == PRINTS;
        }
    }
}
