//! JSON as editors write it, with comments and trailing commas. Its faults never quote a text of the file: it may
//! be a secret.

use std::collections::HashSet;

use jsonc_parser::{
    CollectOptions, ParseOptions, ParseStringErrorKind, Scanner, ScannerOptions, ast::Value,
    common::Ranged as _, errors::ParseErrorKind, parse_to_ast, tokens::Token,
};

use super::tree::{self, DocumentMember, DocumentNode, Kind, Positions, SyntaxFault, fault_at, shown};

const DEPTH: usize = 64;
/// Where a text has no end on its line.
const UNCLOSED: (&str, &str) = (
    "a text without its closing quote",
    "close it on the same line; a line break is written `\\n`",
);
const WRONG_ESCAPE: (&str, &str) = (
    "a text with a wrong escape or a control character",
    "a backslash is written `\\\\`",
);
/// Tokens of JSON, and comments.
const STRICT: ScannerOptions = ScannerOptions {
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};
const WRONG_NUMBER: (&str, &str) = ("not a number of JSON", "write a text in double quotes");

/// Reads a whole file; fails with the first fault of its syntax.
pub(super) fn parse(bytes: &[u8]) -> Result<DocumentNode, SyntaxFault> {
    let text = tree::text(bytes)?;
    let root = ast(text)?;
    let mut reader = Reader {
        text,
        positions: Positions::new(text),
    };
    reader.node(root, 0)
}

/// Reads a whole text; every value knows its range of it. Keys may stand twice.
pub(in crate::cli) fn ast(text: &str) -> Result<Value<'_>, SyntaxFault> {
    check_tokens(text)?;
    let options = ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    let parsed = parse_to_ast(text, &CollectOptions::default(), &options)
        .map_err(|error| fault(text, error.range().start, error.kind()))?;
    parsed.value.ok_or_else(|| ended(text))
}

/// Refuses what the parser accepts: line breaks in texts, and numbers that letters follow.
fn check_tokens(text: &str) -> Result<(), SyntaxFault> {
    let mut scanner = Scanner::new(text, &STRICT);
    loop {
        let token = scanner.scan();
        let (start, end) = (scanner.token_start(), scanner.token_end());
        let raw = text.get(start..end).unwrap_or_default();
        let (message, cure) = match token {
            Ok(None) => return Ok(()),
            Err(error) => return Err(fault(text, start, error.kind())),
            Ok(Some(Token::String(_))) if raw.contains('\n') => UNCLOSED,
            Ok(Some(Token::String(_))) if raw.contains(|char| char < ' ') => WRONG_ESCAPE,
            Ok(Some(Token::Number(_))) if text.get(end..).is_some_and(|rest| rest.starts_with(goes_on)) => {
                WRONG_NUMBER
            }
            Ok(Some(_)) => continue,
        };
        return Err(fault_at(text, start, message, cure));
    }
}

/// Whether a character behind a number makes it none.
fn goes_on(char: char) -> bool {
    char.is_ascii_alphanumeric() || matches!(char, '+' | '-' | '.')
}

/// Where the last token before an offset ends, comments left out: where something is missing, it is missing there.
fn written_before(text: &str, offset: usize) -> usize {
    let mut scanner = Scanner::new(text, &STRICT);
    let mut end = 0;
    while let Ok(Some(token)) = scanner.scan() {
        if scanner.token_start() >= offset {
            break;
        }
        if !matches!(token, Token::CommentLine(_) | Token::CommentBlock(_)) {
            end = scanner.token_end();
        }
    }
    end
}

fn ended(text: &str) -> SyntaxFault {
    let cure = "it is cut off: save it again as a whole";
    fault_at(text, text.len(), "the file ends within a value", cure)
}

/// A fault of the syntax in our words.
fn fault(text: &str, start: usize, kind: &ParseErrorKind) -> SyntaxFault {
    use ParseErrorKind as E;
    let rest = text.get(start..).unwrap_or_default().trim_start();
    let (message, cure) = match kind {
        E::UnterminatedObject | E::UnterminatedArray => return ended(text),
        E::String(ParseStringErrorKind::UnterminatedStringLiteral) => return ended(text),
        E::UnterminatedCommentBlock => ("a comment without its end", "close it with `*/`"),
        _ if rest.is_empty() => return ended(text),
        E::String(_) => WRONG_ESCAPE,
        E::SingleQuotedStringsNotAllowed => ("a text in single quotes", "texts stand in double quotes"),
        E::UnexpectedTokenInObject | E::ExpectedStringObjectProperty => {
            ("a key was expected", "keys stand in double quotes")
        }
        E::ExpectedColonAfterObjectKey => {
            let message = "`:` is missing after a key";
            return fault_at(text, written_before(text, start), message, "write it here");
        }
        E::ExpectedComma => {
            let message = "`,` is missing between two values";
            return fault_at(text, written_before(text, start), message, "write it here");
        }
        E::MultipleRootJsonValues => (
            "more follows after the end of the document",
            "keep one JSON object",
        ),
        E::NestingDepthExceeded => return nested(text, start),
        E::UnexpectedWord | E::UnexpectedToken if rest.starts_with(|char: char| char.is_alphabetic()) => {
            ("a word without quotes", "texts stand in double quotes")
        }
        E::UnexpectedToken if rest.starts_with('/') => (
            "a value was expected",
            "comments begin with `//` or `/*`; texts stand in double quotes",
        ),
        E::UnexpectedToken
        | E::UnexpectedWord
        | E::UnexpectedComma
        | E::UnexpectedColon
        | E::UnexpectedCloseBrace
        | E::UnexpectedCloseBracket => ("a value was expected", "look for a missing or doubled comma"),
        _ => WRONG_NUMBER,
    };
    fault_at(text, text.len() - rest.len(), message, cure)
}

fn nested(text: &str, offset: usize) -> SyntaxFault {
    fault_at(
        text,
        offset,
        format!("nested deeper than {DEPTH}"),
        "this is no file of servers",
    )
}

/// Takes the parser's tree over, with a position for every value.
struct Reader<'a> {
    text: &'a str,
    positions: Positions<'a>,
}

impl Reader<'_> {
    fn node(&mut self, value: Value<'_>, depth: usize) -> Result<DocumentNode, SyntaxFault> {
        let start = value.range().start;
        if depth > DEPTH {
            return Err(nested(self.text, start));
        }
        let at = self.positions.at(start);
        let kind = match value {
            Value::NullKeyword(_) => Kind::Null,
            Value::BooleanLit(literal) => Kind::Bool(literal.value),
            Value::NumberLit(literal) => Kind::Number(literal.value.to_owned()),
            Value::StringLit(literal) => Kind::Text(literal.value.into_owned()),
            Value::Array(array) => {
                let items = array.elements.into_iter().map(|item| self.node(item, depth + 1));
                Kind::List(items.collect::<Result<_, _>>()?)
            }
            Value::Object(object) => {
                let (mut members, mut keys) = (Vec::new(), HashSet::new());
                for member in object.properties {
                    let at = self.positions.at(member.range.start);
                    let key = member.name.into_string();
                    if !keys.insert(key.clone()) {
                        let message = format!("`{}` stands twice", shown(&key));
                        return Err(SyntaxFault {
                            at,
                            message,
                            cure: "keep one of them",
                        });
                    }
                    let value = self.node(member.value, depth + 1)?;
                    members.push(DocumentMember { at, key, value });
                }
                Kind::Map(members)
            }
        };
        Ok(DocumentNode { at, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pleiades_descriptor::reader::Pos;

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
        assert_eq!(wrong("{\n  'a': 1 }"), (2, 3));
        assert_eq!(wrong("{\"a\": {\"b\": 1"), (1, 14));
        assert_eq!(wrong("{\"a\": 1, \"a\": 2}"), (1, 10));
        assert_eq!(wrong("{\"a\": \"é\\x\"}"), (1, 7));
        assert_eq!(wrong("{\"a\": yes}"), (1, 7));
        assert_eq!(wrong("{} {}"), (1, 4));
        assert_eq!(wrong("{ /* "), (1, 3));
        assert_eq!(parse(b"{\n\"a\xff").unwrap_err().at, Pos { line: 2, column: 3 });
        assert_eq!(wrong(""), (1, 1));
        assert_eq!(wrong(&"[".repeat(5000)), (1, 513));
    }

    #[test]
    fn what_is_missing_is_named_where_it_is_missing() {
        assert_eq!(wrong("{\n  \"a\": 1\n  \"b\": 2\n}"), (2, 9));
        assert_eq!(wrong("{\"a\": 1 \"b\": 2}"), (1, 8));
        assert_eq!(wrong("{\"a\": [\"é\" \"y\"]}"), (1, 11));
        assert_eq!(wrong("{\"a\": {} // note, with a comma\n \"b\": 2}"), (1, 9));
        assert_eq!(wrong("{\"a\" 1}"), (1, 5));
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
