//! JSON as editors write it: comments, trailing commas, and a place for every value, so that a fault
//! can be named by line and column. Never quotes a text of the file: it may be a secret.

use std::collections::HashSet;
use std::str::Chars;

/// Deepest nesting.
const DEPTH: usize = 64;

/// Line and column, 1-based, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SourcePos {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// A value and where it stands.
#[derive(Debug)]
pub(super) struct DocumentNode {
    pub(super) at: SourcePos,
    pub(super) kind: Kind,
}

#[derive(Debug, PartialEq)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    /// As it is spelt.
    Number(String),
    Text(String),
    List(Vec<DocumentNode>),
    Map(Vec<DocumentMember>),
}

/// A member of an object.
#[derive(Debug)]
pub(super) struct DocumentMember {
    pub(super) at: SourcePos,
    pub(super) key: String,
    pub(super) value: DocumentNode,
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

/// What is wrong with a file, where, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SyntaxFault {
    pub(super) at: SourcePos,
    pub(super) message: String,
    pub(super) cure: &'static str,
}

impl DocumentNode {
    /// Members of an object; none for anything else.
    pub(super) fn members(&self) -> &[DocumentMember] {
        match &self.kind {
            Kind::Map(members) => members,
            _ => &[],
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.members()
            .iter()
            .find(|member| member.key == key)
            .map(|member| &member.value)
    }

    /// A scalar as text; `None` for null, lists and objects.
    pub(super) fn scalar(&self) -> Option<String> {
        match &self.kind {
            Kind::Text(text) | Kind::Number(text) => Some(text.clone()),
            Kind::Bool(value) => Some(value.to_string()),
            Kind::Null | Kind::List(_) | Kind::Map(_) => None,
        }
    }

    pub(super) fn is_map(&self) -> bool {
        matches!(self.kind, Kind::Map(_))
    }
}

/// A file as text, without the mark that some editors begin it with.
///
/// # Errors
/// Where it is not UTF-8.
pub(super) fn text(bytes: &[u8]) -> Result<&str, SyntaxFault> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let sound = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let mut reader = JsonReader::new(std::str::from_utf8(sound).unwrap_or_default());
        while reader.next().is_some() {}
        reader.wrong("not UTF-8 from here on", "save the file as UTF-8")
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Reads a whole file.
///
/// # Errors
/// The first fault of its syntax.
pub(super) fn parse(bytes: &[u8]) -> Result<DocumentNode, SyntaxFault> {
    let mut reader = JsonReader::new(text(bytes)?);
    reader.space()?;
    let root = reader.value(0)?;
    reader.space()?;
    match reader.peek() {
        None => Ok(root),
        Some(_) => Err(reader.wrong(
            "more follows after the end of the document",
            "keep one JSON object",
        )),
    }
}

struct JsonReader<'a> {
    rest: Chars<'a>,
    at: SourcePos,
}

impl<'a> JsonReader<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            rest: text.chars(),
            at: SourcePos { line: 1, column: 1 },
        }
    }

    fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.rest.next()?;
        if next == '\n' {
            self.at = SourcePos {
                line: self.at.line + 1,
                column: 1,
            };
        } else {
            self.at.column += 1;
        }
        Some(next)
    }

    fn wrong(&self, message: impl Into<String>, cure: &'static str) -> SyntaxFault {
        SyntaxFault {
            at: self.at,
            message: message.into(),
            cure,
        }
    }

    fn ended(&self) -> SyntaxFault {
        self.wrong(
            "the file ends within a value",
            "it is cut off: save it again as a whole",
        )
    }

    /// White space and comments.
    fn space(&mut self) -> Result<(), SyntaxFault> {
        loop {
            match self.peek() {
                Some(' ' | '\t' | '\r' | '\n') => {
                    self.next();
                }
                Some('/') => self.comment()?,
                _ => return Ok(()),
            }
        }
    }

    fn comment(&mut self) -> Result<(), SyntaxFault> {
        let begin = self.at;
        self.next();
        match self.next() {
            Some('/') => {
                while self.peek().is_some_and(|char| char != '\n') {
                    self.next();
                }
                Ok(())
            }
            Some('*') => {
                let mut last = ' ';
                while let Some(char) = self.next() {
                    if (last, char) == ('*', '/') {
                        return Ok(());
                    }
                    last = char;
                }
                Err(SyntaxFault {
                    at: begin,
                    message: "a comment without its end".to_owned(),
                    cure: "close it with `*/`",
                })
            }
            _ => Err(SyntaxFault {
                at: begin,
                message: "a value was expected".to_owned(),
                cure: "comments begin with `//` or `/*`; texts stand in double quotes",
            }),
        }
    }

    fn value(&mut self, depth: usize) -> Result<DocumentNode, SyntaxFault> {
        if depth > DEPTH {
            return Err(self.wrong(
                format!("nested deeper than {DEPTH}"),
                "this is no file of servers",
            ));
        }
        let at = self.at;
        let kind = match self.peek() {
            None => return Err(self.ended()),
            Some('{') => Kind::Map(self.map(depth)?),
            Some('[') => Kind::List(self.list(depth)?),
            Some('"') => Kind::Text(self.text()?),
            Some('\'') => {
                return Err(self.wrong("a text in single quotes", "texts stand in double quotes"));
            }
            Some('-' | '0'..='9') => self.number()?,
            Some('a'..='z' | 'A'..='Z') => self.word()?,
            Some(_) => return Err(self.wrong("a value was expected", "look for a missing or doubled comma")),
        };
        Ok(DocumentNode { at, kind })
    }

    fn map(&mut self, depth: usize) -> Result<Vec<DocumentMember>, SyntaxFault> {
        self.next();
        let (mut members, mut known) = (Vec::new(), HashSet::new());
        loop {
            self.space()?;
            let at = self.at;
            match self.peek() {
                None => return Err(self.ended()),
                Some('}') => {
                    self.next();
                    return Ok(members);
                }
                Some('"') => {}
                Some(_) => return Err(self.wrong("a key was expected", "keys stand in double quotes")),
            }
            let key = self.text()?;
            if !known.insert(key.clone()) {
                return Err(SyntaxFault {
                    at,
                    message: format!("`{}` stands twice", shown(&key)),
                    cure: "keep one of them",
                });
            }
            self.space()?;
            if self.peek() != Some(':') {
                return Err(self.missing("`:` was expected after a key"));
            }
            self.next();
            self.space()?;
            let value = self.value(depth + 1)?;
            members.push(DocumentMember { at, key, value });
            self.separated('}')?;
        }
    }

    fn list(&mut self, depth: usize) -> Result<Vec<DocumentNode>, SyntaxFault> {
        self.next();
        let mut items = Vec::new();
        loop {
            self.space()?;
            if self.peek() == Some(']') {
                self.next();
                return Ok(items);
            }
            items.push(self.value(depth + 1)?);
            self.separated(']')?;
        }
    }

    /// A comma, which the last item may have too.
    fn separated(&mut self, end: char) -> Result<(), SyntaxFault> {
        self.space()?;
        match self.peek() {
            Some(',') => {
                self.next();
                Ok(())
            }
            Some(char) if char == end => Ok(()),
            _ => Err(self.missing("`,` was expected")),
        }
    }

    fn missing(&self, what: &str) -> SyntaxFault {
        if self.peek().is_none() {
            return self.ended();
        }
        self.wrong(what, "look at the end of the line before")
    }

    fn text(&mut self) -> Result<String, SyntaxFault> {
        let begin = self.at;
        let mut raw = String::new();
        raw.extend(self.next());
        loop {
            match self.next() {
                None => return Err(self.ended()),
                Some('\n') => {
                    return Err(SyntaxFault {
                        at: begin,
                        message: "a text without its closing quote".to_owned(),
                        cure: "close it on the same line; a line break is written `\\n`",
                    });
                }
                Some('"') => break,
                Some('\\') => {
                    raw.push('\\');
                    raw.extend(self.next());
                }
                Some(char) => raw.push(char),
            }
        }
        raw.push('"');
        serde_json::from_str(&raw).map_err(|_error| SyntaxFault {
            at: begin,
            message: "a text with a wrong escape or a control character".to_owned(),
            cure: "a backslash is written `\\\\`",
        })
    }

    fn number(&mut self) -> Result<Kind, SyntaxFault> {
        let begin = self.at;
        let raw = self.run(|char| char.is_ascii_alphanumeric() || matches!(char, '+' | '-' | '.'));
        match serde_json::from_str::<serde_json::Number>(&raw) {
            Ok(_) => Ok(Kind::Number(raw)),
            Err(_) => Err(SyntaxFault {
                at: begin,
                message: "not a number of JSON".to_owned(),
                cure: "write a text in double quotes",
            }),
        }
    }

    fn word(&mut self) -> Result<Kind, SyntaxFault> {
        let begin = self.at;
        match &*self.run(|char| char.is_ascii_alphanumeric() || char == '_') {
            "null" => Ok(Kind::Null),
            "true" => Ok(Kind::Bool(true)),
            "false" => Ok(Kind::Bool(false)),
            _ => Err(SyntaxFault {
                at: begin,
                message: "a word without quotes".to_owned(),
                cure: "texts stand in double quotes",
            }),
        }
    }

    fn run(&mut self, is_part: impl Fn(char) -> bool) -> String {
        let mut run = String::new();
        while self.peek().is_some_and(&is_part) {
            run.extend(self.next());
        }
        run
    }
}

/// A key as it may be printed: bounded, one line.
pub(super) fn shown(key: &str) -> String {
    pleiades_core::text::printable(key, 80)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> (usize, usize) {
        let wrong = parse(text.as_bytes()).unwrap_err();
        assert!(!wrong.message.is_empty() && !wrong.cure.is_empty());
        (wrong.at.line, wrong.at.column)
    }

    #[test]
    fn comments_and_trailing_commas_are_read_over() {
        let text = "\u{feff}// one\n{ /* two */ \"a\": [1, 2,], // three\n\"b\": \"// no \\u00e9\", }\n";
        let root = parse(text.as_bytes()).unwrap();
        assert_eq!(
            root.get("b").and_then(DocumentNode::scalar).as_deref(),
            Some("// no é")
        );
        let strict = parse(br#"{"a":[1,2],"b":"// no \u00e9"}"#).unwrap();
        assert_eq!(root, strict);
    }

    #[test]
    fn a_fault_is_named_by_its_place() {
        assert_eq!(wrong("{\n  \"a\": 1\n  \"b\": 2\n}"), (3, 3));
        assert_eq!(wrong("{\n  'a': 1 }"), (2, 3));
        assert_eq!(wrong("{\"a\": {\"b\": 1"), (1, 14));
        assert_eq!(wrong("{\"a\": 1, \"a\": 2}"), (1, 10));
        assert_eq!(wrong("{\"a\": \"é\\x\"}"), (1, 7));
        assert_eq!(wrong("{\"a\": yes}"), (1, 7));
        assert_eq!(wrong("{} {}"), (1, 4));
        assert_eq!(wrong("{ /* "), (1, 3));
        assert_eq!(
            parse(b"{\n\"a\xff").unwrap_err().at,
            SourcePos { line: 2, column: 3 }
        );
        assert_eq!(wrong(""), (1, 1));
        assert_eq!(wrong(&"[".repeat(5000)), (1, 66));
    }

    #[test]
    fn no_bytes_make_it_panic_or_hang() {
        let seed =
            br#"{"mcpServers":{"a":{"command":"x","args":["-y",1e3],"env":{"K":"\ud83d\ude00"}}},/*c*/}"#;
        let mut state = 1_u64;
        for round in 0..10_000_usize {
            let mut bytes = seed.to_vec();
            for _ in 0..=round % 5 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = usize::try_from(state >> 33).unwrap() % bytes.len();
                bytes[at] = u8::try_from(state >> 56).unwrap();
            }
            bytes.truncate(seed.len() - round % seed.len());
            drop(parse(&bytes));
        }
    }
}
