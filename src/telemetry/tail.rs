//! The last lines that child processes wrote to stderr, for a command that shows them.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, filter::FilterFn, layer::Context, registry::LookupSpan};

/// Lines kept.
const LINES: usize = 20;
/// What the event of such a line says (`upstream/process/pipes.rs`).
const SAYS: &str = "the provider's process says";

/// The last lines. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    /// The lines so far, oldest first.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().cloned().collect()
    }

    /// What fills it.
    pub(super) fn layer<S>(self) -> impl Layer<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let is_wanted = |event: &Metadata<'_>| {
            event.target().starts_with("pleiades::upstream::process") && *event.level() <= Level::DEBUG
        };
        Listener(self).with_filter(FilterFn::new(is_wanted))
    }
}

struct Listener(Tail);

impl<S: Subscriber> Layer<S> for Listener {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut said = Said::default();
        event.record(&mut said);
        if let (true, Some(line)) = (said.is_stderr, said.line) {
            let mut lines = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() >= LINES {
                lines.pop_front();
            }
            lines.push_back(line);
        }
    }
}

#[derive(Default)]
struct Said {
    is_stderr: bool,
    line: Option<String>,
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "line" {
            self.line = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.is_stderr = format!("{value:?}") == SAYS;
        }
    }
}
