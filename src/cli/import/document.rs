//! A client's file, in JSON, TOML or YAML, as one tree that knows where everything stands.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::json::{self, Kind, Member, Node, Pos, Wrong, shown};
use crate::descriptor::reader::{Kind as Yaml, Node as YamlNode, tree};

/// What a file is written in, by the end of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Toml,
    Yaml,
}

impl Format {
    pub(super) fn of(path: &Path) -> Self {
        let end = path.extension().unwrap_or_default().to_ascii_lowercase();
        match end.to_str() {
            Some("toml") => Self::Toml,
            Some("yaml" | "yml") => Self::Yaml,
            _ => Self::Json,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Toml => "TOML",
            Self::Yaml => "YAML",
        }
    }

    /// Reads a whole file.
    ///
    /// # Errors
    /// The first fault of its syntax.
    pub(super) fn read(self, bytes: &[u8]) -> Result<Node, Wrong> {
        match self {
            Self::Json => json::parse(bytes),
            Self::Toml => toml(json::text(bytes)?),
            Self::Yaml => yaml(bytes),
        }
    }
}

fn toml(text: &str) -> Result<Node, Wrong> {
    let places = Places(text);
    let table = DeTable::parse(text).map_err(|error| Wrong {
        at: places.at(error.span().map_or(0, |span| span.start)),
        message: format!("not TOML: {}", shown(error.message())),
        cure: "correct the file where the client reads it",
    })?;
    let at = places.at(table.span().start);
    let kind = Kind::Map(members(table.get_ref(), &places));
    Ok(Node { at, kind })
}

fn members(table: &DeTable<'_>, places: &Places<'_>) -> Vec<Member> {
    let mut entries: Vec<_> = table.iter().collect();
    // As they stand in the file.
    entries.sort_by_key(|(key, _)| key.span().start);
    let member = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| Member {
        at: places.at(key.span().start),
        key: String::from(AsRef::<str>::as_ref(key.get_ref())),
        value: node(value, places),
    };
    entries.into_iter().map(member).collect()
}

fn node(value: &toml::Spanned<DeValue<'_>>, places: &Places<'_>) -> Node {
    let kind = match value.get_ref() {
        DeValue::String(text) => Kind::Text(text.clone().into_owned()),
        DeValue::Boolean(value) => Kind::Bool(*value),
        DeValue::Integer(number) => Kind::Number(number.as_str().to_owned()),
        DeValue::Float(number) => Kind::Number(number.as_str().to_owned()),
        DeValue::Datetime(moment) => Kind::Text(moment.to_string()),
        DeValue::Array(items) => Kind::List(items.iter().map(|item| node(item, places)).collect()),
        DeValue::Table(table) => Kind::Map(members(table, places)),
    };
    Node {
        at: places.at(value.span().start),
        kind,
    }
}

/// Lines and columns of a text.
struct Places<'a>(&'a str);

impl Places<'_> {
    fn at(&self, offset: usize) -> Pos {
        let before = self.0.get(..offset).unwrap_or_default();
        let line = before.rsplit('\n').next().unwrap_or_default();
        Pos {
            line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
            column: line.chars().count() + 1,
        }
    }
}

fn yaml(bytes: &[u8]) -> Result<Node, Wrong> {
    let wrong = |at: Pos, message: String, cure: Option<&'static str>| Wrong {
        at,
        message,
        cure: cure.unwrap_or("correct the file where the client reads it"),
    };
    let found = tree(bytes).map_err(|syntax| {
        let at = Pos {
            line: syntax.at.line,
            column: syntax.at.column,
        };
        wrong(at, format!("not YAML: {}", shown(&syntax.message)), syntax.cure)
    })?;
    let start = Pos { line: 1, column: 1 };
    found
        .map(from_yaml)
        .ok_or_else(|| wrong(start, "the file is empty".to_owned(), None))
}

fn from_yaml(node: YamlNode) -> Node {
    let place = |at: crate::descriptor::reader::Pos| Pos {
        line: at.line,
        column: at.column,
    };
    let kind = match node.kind {
        Yaml::Null => Kind::Null,
        Yaml::Bool(value) => Kind::Bool(value),
        Yaml::Number { float, integer } => {
            Kind::Number(integer.map_or_else(|| float.to_string(), |integer| integer.to_string()))
        }
        Yaml::Text(text) => Kind::Text(text.raw),
        Yaml::List(items) => Kind::List(items.into_iter().map(from_yaml).collect()),
        Yaml::Map(entries) => Kind::Map(
            entries
                .into_iter()
                .map(|entry| Member {
                    at: place(entry.at),
                    key: entry.key,
                    value: from_yaml(entry.value),
                })
                .collect(),
        ),
    };
    Node {
        at: place(node.at),
        kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_says_the_same() {
        let json = br#"{"mcp_servers": {"a": {"command": "x", "args": ["-y", 1], "on": true}}}"#;
        let toml = b"[mcp_servers.a]\ncommand = 'x'\nargs = ['-y', 1]\non = true\n";
        let yaml = b"mcp_servers:\n  a: { command: x, args: ['-y', 1], on: true }\n";
        let read = Format::Json.read(json).unwrap();
        assert_eq!(Format::Toml.read(toml).unwrap(), read);
        assert_eq!(Format::Yaml.read(yaml).unwrap(), read);
    }

    #[test]
    fn a_fault_is_named_by_its_place() {
        let at = |format: Format, text: &str| {
            let wrong = format.read(text.as_bytes()).unwrap_err();
            (wrong.at.line, wrong.at.column)
        };
        assert_eq!(at(Format::Toml, "a = 1\nb = \n"), (2, 5));
        assert_eq!(at(Format::Toml, "a = 1\na = 2\n").0, 2);
        assert_eq!(at(Format::Yaml, "a: 1\n b: 2\n").0, 2);
        assert_eq!(at(Format::Yaml, ""), (1, 1));
        assert!(Format::Toml.read(b"a = '\xff'").is_err());
    }
}
