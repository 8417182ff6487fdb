//! An operation as it is indexed: its texts by field, each within bounds.

use serde_json::Value;

use crate::words::{self, Stems, is_stop_word};

/// Terms of a field; what is longer is read in part.
const MAX_NAME: usize = 64;
const MAX_SENTENCE: usize = 64;
const MAX_DESCRIPTION: usize = 512;
const MAX_PARAMETERS: usize = 256;
const MAX_PARAMETER_TEXTS: usize = 1_024;
const MAX_VALUES: usize = 256;
/// Bytes of a first sentence, and of any other text of a provider.
const MAX_FIRST: usize = 300;
const MAX_TEXT: usize = 16 * 1024;
/// Depth of nested schemas, subschemas, and values of one enum that are read.
const MAX_DEPTH: usize = 4;
const MAX_LOOKED_AT: usize = 512;
const MAX_ENUM: usize = 30;

/// Whether an operation changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolEffect {
    /// It changes nothing.
    Read,
    /// It changes something.
    Write,
}

/// An operation to be found.
#[derive(Debug, Clone, Copy)]
pub struct Document<'a> {
    /// What it is called.
    pub name: &'a str,
    /// A shorter form of it that callers see, empty when it has none.
    pub short: &'a str,
    /// Its title, empty when it has none.
    pub title: &'a str,
    /// What it does, empty when nothing says so.
    pub description: &'a str,
    /// Its input schema; `null` when it has none or none that may be read.
    pub schema: &'a Value,
    /// What is known of its effect; else its name tells.
    pub effect: Option<ToolEffect>,
}

/// Where a term of a document stands, and what it counts there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Name,
    Sentence,
    Description,
    Parameter,
    Value,
    ParameterText,
}

impl Field {
    pub(crate) const ALL: [Self; 6] = [
        Self::Name,
        Self::Sentence,
        Self::Description,
        Self::Parameter,
        Self::Value,
        Self::ParameterText,
    ];

    pub(crate) const fn weight(self) -> f32 {
        match self {
            Self::Name => 3.0,
            Self::Sentence => 1.5,
            Self::Description => 1.0,
            Self::Parameter | Self::Value => 0.8,
            Self::ParameterText => 0.3,
        }
    }

    /// How much a long field counts less than a short one (`b` of BM25).
    pub(crate) const fn slope(self) -> f32 {
        match self {
            Self::Description | Self::ParameterText => 0.75,
            _ => 0.3,
        }
    }

    pub(crate) const fn bit(self) -> u8 {
        1 << self as u8
    }

    const fn most(self) -> usize {
        match self {
            Self::Name => MAX_NAME,
            Self::Sentence => MAX_SENTENCE,
            Self::Description => MAX_DESCRIPTION,
            Self::Parameter => MAX_PARAMETERS,
            Self::Value => MAX_VALUES,
            Self::ParameterText => MAX_PARAMETER_TEXTS,
        }
    }
}

/// The stems of a field, in order.
pub(crate) fn terms(texts: &[&str], field: Field, stems: &Stems) -> Vec<String> {
    let mut terms = Vec::new();
    for text in texts {
        let left = field.most().saturating_sub(terms.len());
        if left == 0 {
            break;
        }
        let words = words::split(text, left);
        let telling = words.iter().filter(|word| !is_stop_word(word));
        terms.extend(telling.map(|word| stems.of(word).into_owned()));
    }
    terms
}

impl<'a> Document<'a> {
    /// What stands in its fields.
    pub(crate) fn fields(&self) -> [(Field, Vec<&'a str>); 6] {
        let schema = SchemaTexts::of(self.schema);
        let description = clipped(self.description.trim(), MAX_TEXT);
        [
            (
                Field::Name,
                vec![clipped(self.name, MAX_FIRST), clipped(self.title, MAX_FIRST)],
            ),
            (Field::Sentence, vec![first_sentence(description)]),
            (Field::Description, vec![description]),
            (Field::Parameter, schema.names),
            (Field::Value, schema.values),
            (Field::ParameterText, schema.texts),
        ]
    }

    /// The operation in a few words, for an embedding: its name, what it does, its parameters.
    #[cfg(feature = "semantic")]
    pub(crate) fn passage(&self) -> String {
        let name = words::split(self.name, MAX_NAME).join(" ");
        let description = clipped(self.description, 400);
        let schema = SchemaTexts::of(self.schema);
        let parameters: Vec<String> = schema
            .names
            .iter()
            .map(|name| words::split(name, 8).join(" "))
            .collect();
        format!("{name}. {description} {}", clipped(&parameters.join(" "), 200))
    }

    /// Whether it reads or writes: what is known, else what its name says.
    pub(crate) fn tendency(&self) -> Option<ToolEffect> {
        self.effect.or_else(|| {
            let words = words::split(self.name, MAX_NAME);
            let is = |list: &[&str], word: &String| list.contains(&word.as_str());
            let first = words
                .iter()
                .take(2)
                .find(|word| is(&READS, word) || is(&WRITES, word));
            let any = || words.iter().find(|word| is(&WRITES, word) || *word == "read");
            let word = first.or_else(any)?;
            Some(if is(&READS, word) {
                ToolEffect::Read
            } else {
                ToolEffect::Write
            })
        })
    }
}

const READS: [&str; 22] = [
    "get", "list", "search", "find", "read", "retrieve", "query", "describe", "show", "fetch", "who",
    "count", "my", "explain", "lookup", "view", "check", "browse", "is", "has", "analyze", "inspect",
];
const WRITES: [&str; 50] = [
    "create",
    "update",
    "delete",
    "add",
    "set",
    "remove",
    "write",
    "post",
    "merge",
    "push",
    "move",
    "assign",
    "archive",
    "edit",
    "close",
    "mark",
    "convert",
    "transfer",
    "approve",
    "resolve",
    "cancel",
    "retry",
    "stop",
    "install",
    "scale",
    "apply",
    "patch",
    "rotate",
    "publish",
    "subscribe",
    "send",
    "put",
    "insert",
    "upload",
    "start",
    "run",
    "modify",
    "reply",
    "forward",
    "share",
    "revoke",
    "enable",
    "disable",
    "restore",
    "replace",
    "rename",
    "drop",
    "trigger",
    "save",
    "import",
];

/// Texts of an input schema.
#[derive(Debug, Default)]
struct SchemaTexts<'a> {
    names: Vec<&'a str>,
    texts: Vec<&'a str>,
    values: Vec<&'a str>,
}

impl<'a> SchemaTexts<'a> {
    fn of(schema: &'a Value) -> Self {
        let mut found = Self::default();
        let mut left = vec![(schema, 0)];
        let mut looked_at = 0;
        while let Some((schema, depth)) = left.pop() {
            looked_at += 1;
            if looked_at > MAX_LOOKED_AT {
                break;
            }
            let values = schema.get("enum").and_then(Value::as_array);
            let values = values
                .into_iter()
                .flatten()
                .take(MAX_ENUM)
                .filter_map(Value::as_str);
            found.values.extend(values.map(|value| clipped(value, MAX_FIRST)));
            if depth >= MAX_DEPTH {
                continue;
            }
            for keyword in ["anyOf", "oneOf", "allOf"] {
                let branches = schema.get(keyword).and_then(Value::as_array);
                let branches = branches.into_iter().flatten().take(MAX_ENUM);
                left.extend(branches.map(|branch| (branch, depth + 1)));
            }
            left.extend(schema.get("items").map(|items| (items, depth + 1)));
            let members = schema.get("properties").and_then(Value::as_object);
            for (name, member) in members.into_iter().flatten().take(MAX_LOOKED_AT) {
                found.names.push(clipped(name, MAX_FIRST));
                let text = member.get("description").and_then(Value::as_str);
                found.texts.extend(text.map(|text| clipped(text, MAX_TEXT)));
                left.push((member, depth + 1));
            }
        }
        found
    }
}

/// The first bytes of a text, whole characters only.
pub(crate) fn clipped(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// Up to the first mark that ends a sentence, or the end of the line.
fn first_sentence(text: &str) -> &str {
    let text = clipped(text, MAX_FIRST);
    let mut end = text.len();
    let mut last = ' ';
    for (at, character) in text.char_indices() {
        if character == '\n' || (character.is_whitespace() && matches!(last, '.' | '!' | '?')) {
            end = at;
            break;
        }
        last = character;
        if matches!(character, '。' | '！' | '？') {
            end = at + character.len_utf8();
            break;
        }
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn named(name: &str) -> Document<'_> {
        Document {
            name,
            title: "",
            description: "",
            schema: &Value::Null,
            short: "",
            effect: None,
        }
    }

    #[test]
    fn a_first_sentence_ends_at_its_mark_or_its_line() {
        assert_eq!(
            first_sentence("Lists v1.2 things. And more."),
            "Lists v1.2 things."
        );
        assert_eq!(first_sentence("Lists\nthings."), "Lists");
        assert_eq!(first_sentence("查询天气。更多"), "查询天气。");
    }

    #[test]
    fn names_tell_reads_from_writes_unless_it_is_known() {
        assert_eq!(named("linear_getIssues").tendency(), Some(ToolEffect::Read));
        assert_eq!(named("API-post-page").tendency(), Some(ToolEffect::Write));
        assert_eq!(named("pull_request_read").tendency(), Some(ToolEffect::Read));
        assert_eq!(named("navigate").tendency(), None);
        let known = Document {
            effect: Some(ToolEffect::Read),
            ..named("create_report")
        };
        assert_eq!(known.tendency(), Some(ToolEffect::Read));
    }

    #[test]
    fn a_schema_gives_names_texts_and_values_of_all_its_levels() {
        let schema = json!({ "properties": {
            "state": { "enum": ["open", "closed"], "description": "Its state" },
            "list": { "type": "array", "items": { "properties": { "inner": { "anyOf": [{ "enum": ["x"] }] } } } } } });
        let texts = SchemaTexts::of(&schema);
        assert_eq!(texts.names, ["state", "list", "inner"]);
        assert_eq!(texts.texts, ["Its state"]);
        assert_eq!(texts.values.len(), 3);
    }

    #[test]
    fn a_schema_that_is_deep_or_wide_is_read_in_part() {
        let mut deep = json!({ "enum": ["bottom"] });
        for _ in 0..100 {
            deep = json!({ "properties": { "a": deep } });
        }
        assert_eq!(SchemaTexts::of(&deep).names.len(), MAX_DEPTH);
        let wide: serde_json::Map<String, Value> =
            (0..10_000).map(|at| (format!("p{at}"), json!({}))).collect();
        let wide = json!({ "properties": wide });
        assert!(SchemaTexts::of(&wide).names.len() <= MAX_LOOKED_AT);
    }
}
