//! Writes events to the sink, each with what the spans around it and the request that caused it say.

use std::time::SystemTime;

use tracing::{Event, Metadata, Subscriber, span};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use super::fields::{EventFields, FieldValue};
use super::{line::JsonLine, request_scope, sink::Sink, terminal::TerminalForm};

/// The form of the lines.
#[derive(Debug, Clone, Copy)]
pub(super) enum LineForm {
    Json,
    Terminal(TerminalForm),
}

/// A line before it has a form.
#[derive(Debug)]
pub(super) struct LogLine<'a> {
    pub(super) at: SystemTime,
    pub(super) level: tracing::Level,
    pub(super) target: &'a str,
    pub(super) fields: EventFields,
}

/// The layer that writes to the process's sink.
#[derive(Debug)]
pub(super) struct LogLayer {
    pub(super) sink: &'static Sink,
    pub(super) form: LineForm,
}

/// What a span says, kept with it.
struct SpanFields(EventFields);

impl<S: Subscriber + for<'span> LookupSpan<'span>> Layer<S> for LogLayer {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let mut fields = EventFields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(SpanFields(fields));
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(SpanFields(fields)) = span.extensions_mut().get_mut()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = EventFields::default();
        event.record(&mut fields);
        // From the innermost span outwards: who is nearest knows best.
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(SpanFields(outer)) = span.extensions().get() {
                for (name, value) in &outer.all {
                    fields.complete(name, || value.clone());
                }
            }
        }
        if let Some(id) = request_scope::current() {
            fields.complete("request.id", || FieldValue::Text(id.as_ref().to_owned()));
        }
        let foreign = take_foreign_target(event.metadata(), &mut fields);
        let line = LogLine {
            at: SystemTime::now(),
            level: *event.metadata().level(),
            target: foreign.as_deref().unwrap_or_else(|| event.metadata().target()),
            fields,
        };
        let mut out = Vec::with_capacity(256);
        match self.form {
            LineForm::Json => json(&line, &mut out),
            LineForm::Terminal(form) => form.event(&line, &mut out),
        }
        self.sink.append(&out);
    }
}

/// The target of an event that came through the `log` crate, which carries it as a field.
fn take_foreign_target(metadata: &Metadata<'_>, fields: &mut EventFields) -> Option<String> {
    if metadata.target() != "log" {
        return None;
    }
    let target = fields.text("log.target").map(str::to_owned);
    fields.all.retain(|(name, _)| !name.starts_with("log."));
    target
}

fn json(line: &LogLine<'_>, out: &mut Vec<u8>) {
    let mut json = JsonLine::begin(
        out,
        line.at,
        line.level.as_str(),
        line.target,
        &line.fields.message,
    );
    for (name, value) in &line.fields.all {
        json.value(name, value);
    }
    json.end();
}
