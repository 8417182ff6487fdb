//! A client's file, in JSON, TOML or YAML, as one tree that knows where everything stands.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::json;
use super::tree::{self, DocumentMember, DocumentNode, Kind, Positions, SyntaxFault, fault_at, shown};
use pleiades_descriptor::reader::{Kind as Yaml, Node as YamlNode, Pos, tree as parse_yaml};

/// What a file is written in, by the end of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum FileFormat {
    Json,
    Toml,
    Yaml,
}

impl FileFormat {
    pub(in crate::cli) fn of(path: &Path) -> Self {
        let end = path.extension().unwrap_or_default().to_ascii_lowercase();
        match end.to_str() {
            Some("toml") => Self::Toml,
            Some("yaml" | "yml") => Self::Yaml,
            _ => Self::Json,
        }
    }

    pub(in crate::cli) fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Toml => "TOML",
            Self::Yaml => "YAML",
        }
    }

    /// Reads a whole file; fails with the first fault of its syntax.
    pub(in crate::cli) fn read(self, bytes: &[u8]) -> Result<DocumentNode, SyntaxFault> {
        match self {
            Self::Json => json::parse(bytes),
            Self::Toml => toml(tree::text(bytes)?),
            Self::Yaml => yaml(bytes),
        }
    }
}

/// The cure of faults that have no better one.
const CORRECT: &str = "correct the file where the client reads it";

fn toml(text: &str) -> Result<DocumentNode, SyntaxFault> {
    let table = DeTable::parse(text).map_err(|error| {
        let message = format!("not TOML: {}", shown(error.message()));
        fault_at(text, error.span().map_or(0, |span| span.start), message, CORRECT)
    })?;
    let mut positions = Positions::new(text);
    let at = positions.at(table.span().start);
    let kind = Kind::Map(members(table.get_ref(), &mut positions));
    Ok(DocumentNode { at, kind })
}

fn members(table: &DeTable<'_>, positions: &mut Positions<'_>) -> Vec<DocumentMember> {
    let mut entries: Vec<_> = table.iter().collect();
    // As they stand in the file.
    entries.sort_by_key(|(key, _)| key.span().start);
    let member = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| DocumentMember {
        at: positions.at(key.span().start),
        key: String::from(AsRef::<str>::as_ref(key.get_ref())),
        value: node(value, positions),
    };
    entries.into_iter().map(member).collect()
}

fn node(value: &toml::Spanned<DeValue<'_>>, positions: &mut Positions<'_>) -> DocumentNode {
    let at = positions.at(value.span().start);
    let kind = match value.get_ref() {
        DeValue::String(text) => Kind::Text(text.clone().into_owned()),
        DeValue::Boolean(value) => Kind::Bool(*value),
        DeValue::Integer(number) => Kind::Number(number.as_str().to_owned()),
        DeValue::Float(number) => Kind::Number(number.as_str().to_owned()),
        DeValue::Datetime(moment) => Kind::Text(moment.to_string()),
        DeValue::Array(items) => Kind::List(items.iter().map(|item| node(item, positions)).collect()),
        DeValue::Table(table) => Kind::Map(members(table, positions)),
    };
    DocumentNode { at, kind }
}

fn yaml(bytes: &[u8]) -> Result<DocumentNode, SyntaxFault> {
    let root = parse_yaml(bytes).map_err(|syntax| SyntaxFault {
        at: syntax.at,
        message: format!("not YAML: {}", shown(&syntax.message)),
        cure: syntax.cure.unwrap_or(CORRECT),
    })?;
    root.map(from_yaml).ok_or_else(|| SyntaxFault {
        at: Pos::START,
        message: "the file is empty".to_owned(),
        cure: CORRECT,
    })
}

fn from_yaml(node: YamlNode) -> DocumentNode {
    let kind = match node.kind {
        Yaml::Null => Kind::Null,
        Yaml::Bool(value) => Kind::Bool(value),
        Yaml::Number { float, integer } => {
            Kind::Number(integer.map_or_else(|| float.to_string(), |integer| integer.to_string()))
        }
        Yaml::Text(text) => Kind::Text(text.raw),
        Yaml::List(items) => Kind::List(items.into_iter().map(from_yaml).collect()),
        Yaml::Map(entries) => {
            let members = entries.into_iter().map(|entry| DocumentMember {
                at: entry.at,
                key: entry.key,
                value: from_yaml(entry.value),
            });
            Kind::Map(members.collect())
        }
    };
    DocumentNode { at: node.at, kind }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_says_the_same() {
        let json = br#"{"mcp_servers": {"a": {"command": "x", "args": ["-y", 1], "on": true}}}"#;
        let toml = b"[mcp_servers.a]\ncommand = 'x'\nargs = ['-y', 1]\non = true\n";
        let yaml = b"mcp_servers:\n  a: { command: x, args: ['-y', 1], on: true }\n";
        let read = FileFormat::Json.read(json).unwrap();
        assert_eq!(FileFormat::Toml.read(toml).unwrap(), read);
        assert_eq!(FileFormat::Yaml.read(yaml).unwrap(), read);
    }

    #[test]
    fn a_fault_is_named_by_its_place() {
        let at = |format: FileFormat, text: &str| {
            let wrong = format.read(text.as_bytes()).unwrap_err();
            (wrong.at.line, wrong.at.column)
        };
        assert_eq!(at(FileFormat::Toml, "a = 1\nb = \n"), (2, 5));
        assert_eq!(at(FileFormat::Toml, "a = 1\na = 2\n").0, 2);
        assert_eq!(at(FileFormat::Yaml, "a: 1\n b: 2\n").0, 2);
        assert_eq!(at(FileFormat::Yaml, ""), (1, 1));
        assert!(FileFormat::Toml.read(b"a = '\xff'").is_err());
    }
}
