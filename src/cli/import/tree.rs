//! A client's file as a tree that knows where everything stands, whatever the file is written in.

use pleiades_descriptor::reader::Pos;

/// A value and where it stands.
#[derive(Debug)]
pub(in crate::cli) struct DocumentNode {
    pub(in crate::cli) at: Pos,
    pub(in crate::cli) kind: Kind,
}

#[derive(Debug, PartialEq)]
pub(in crate::cli) enum Kind {
    Null,
    Bool(bool),
    /// As it is spelt.
    Number(String),
    Text(String),
    List(Vec<DocumentNode>),
    Map(Vec<DocumentMember>),
}

#[derive(Debug)]
pub(in crate::cli) struct DocumentMember {
    pub(in crate::cli) at: Pos,
    pub(in crate::cli) key: String,
    pub(in crate::cli) value: DocumentNode,
}

impl PartialEq for DocumentNode {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

impl PartialEq for DocumentMember {
    fn eq(&self, other: &Self) -> bool {
        (&self.key, &self.value) == (&other.key, &other.value)
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) struct SyntaxFault {
    pub(in crate::cli) at: Pos,
    pub(in crate::cli) message: String,
    pub(in crate::cli) cure: &'static str,
}

impl DocumentNode {
    /// Members of an object; none for anything else.
    pub(in crate::cli) fn members(&self) -> &[DocumentMember] {
        match &self.kind {
            Kind::Map(members) => members,
            _ => &[],
        }
    }

    pub(in crate::cli) fn get(&self, key: &str) -> Option<&Self> {
        self.members()
            .iter()
            .find(|member| member.key == key)
            .map(|member| &member.value)
    }

    /// A scalar as text; `None` for null, lists and objects.
    pub(in crate::cli) fn scalar(&self) -> Option<String> {
        match &self.kind {
            Kind::Text(text) | Kind::Number(text) => Some(text.clone()),
            Kind::Bool(value) => Some(value.to_string()),
            Kind::Null | Kind::List(_) | Kind::Map(_) => None,
        }
    }

    /// A member that is text; `None` for anything else.
    pub(in crate::cli) fn text(&self, key: &str) -> Option<String> {
        match &self.get(key)?.kind {
            Kind::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    pub(in crate::cli) fn is_map(&self) -> bool {
        matches!(self.kind, Kind::Map(_))
    }
}

/// Counts the lines and columns of offsets: fast as long as they grow, as in a walk through a tree.
pub(in crate::cli) struct Positions<'a> {
    text: &'a str,
    offset: usize,
    at: Pos,
}

impl<'a> Positions<'a> {
    pub(in crate::cli) const fn new(text: &'a str) -> Self {
        Self {
            text,
            offset: 0,
            at: Pos::START,
        }
    }

    pub(in crate::cli) fn at(&mut self, offset: usize) -> Pos {
        if offset < self.offset {
            *self = Self::new(self.text);
        }
        for char in self.text.get(self.offset..offset).unwrap_or_default().chars() {
            self.at = match char {
                '\n' => Pos {
                    line: self.at.line + 1,
                    column: 1,
                },
                _ => Pos {
                    column: self.at.column + 1,
                    ..self.at
                },
            };
        }
        self.offset = offset;
        self.at
    }
}

/// A fault at an offset of a text.
pub(in crate::cli) fn fault_at(
    text: &str,
    offset: usize,
    message: impl Into<String>,
    cure: &'static str,
) -> SyntaxFault {
    SyntaxFault {
        at: Positions::new(text).at(offset),
        message: message.into(),
        cure,
    }
}

/// A file as text, without the mark that some editors begin it with; fails where it is not UTF-8.
pub(in crate::cli) fn text(bytes: &[u8]) -> Result<&str, SyntaxFault> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let sound = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let sound = std::str::from_utf8(sound).unwrap_or_default();
        fault_at(
            sound,
            sound.len(),
            "not UTF-8 from here on",
            "save the file as UTF-8",
        )
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// A key as it may be printed: bounded, one line.
pub(in crate::cli) fn shown(key: &str) -> String {
    pleiades_core::text::printable(key, 80)
}
