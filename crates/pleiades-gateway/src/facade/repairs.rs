//! What was repaired in a call before it ran: in words for its caller, by kind for the metric.

/// How a call was malformed; the names are those of `telemetry::names::REPAIRS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// `arguments` was the JSON text of an object.
    ArgumentsAsText,
    /// Arguments stood beside `tool`.
    ArgumentsHoisted,
    /// A boolean was text.
    BooleanAsText,
    /// The operation's name stood in its arguments.
    Envelope,
    /// A list or an object within the arguments was JSON text.
    JsonAsText,
    /// `tool` or `arguments` was called otherwise.
    KeyAlias,
    /// One value stood where a list of such is wanted.
    ListOfOne,
    /// The call was wrapped in another one.
    Nested,
    /// An optional argument of an operation that only reads was null.
    NullAsAbsent,
    /// A number was text.
    NumberAsText,
    /// A text was a whole number.
    TextAsNumber,
    /// The operation's name was spelled otherwise.
    ToolPrefix,
    /// `arguments` was a list of one object.
    Unwrapped,
    /// `options` was malformed, or part of it stood beside it.
    Other,
}

impl Repair {
    /// The label of the metric.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ArgumentsAsText => "arguments_as_text",
            Self::ArgumentsHoisted => "arguments_hoisted",
            Self::BooleanAsText => "boolean_as_text",
            Self::Envelope => "envelope",
            Self::JsonAsText => "json_as_text",
            Self::KeyAlias => "key_alias",
            Self::ListOfOne => "list_of_one",
            Self::Nested => "nested",
            Self::NullAsAbsent => "null_as_absent",
            Self::NumberAsText => "number_as_text",
            Self::TextAsNumber => "text_as_number",
            Self::ToolPrefix => "tool_prefix",
            Self::Unwrapped => "unwrapped",
            Self::Other => "other",
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Repairs {
    /// Sentences for the caller.
    pub(super) notes: Vec<String>,
    /// Each kind once.
    pub(super) kinds: Vec<Repair>,
}

impl Repairs {
    /// Notes a repair of which the caller is told.
    pub(super) fn note(&mut self, kind: Repair, note: impl Into<String>) {
        self.count(kind);
        self.notes.push(note.into());
    }

    /// Notes a repair without a word.
    pub(super) fn count(&mut self, kind: Repair) {
        if !self.kinds.contains(&kind) {
            self.kinds.push(kind);
        }
    }
}
