//! JSON text of a definition that every client can read: the first fault in one entry would cost
//! strict clients the whole list.

use std::borrow::Cow;

/// Deepest nesting of one entry. Parsers of clients give up at 100 to 1,000 levels, those of the list
/// around it included.
const DEEPEST: usize = 96;
/// Longest number, in bytes; beyond some thousand digits Python refuses it.
const LONGEST_NUMBER: usize = 400;
/// U+FFFD, for what is no character.
const REPLACED: &str = "\\ufffd";

/// The text of a JSON value with halves of surrogate pairs replaced: RFC 8259 (section 8.2) lets them
/// pass, several parsers do not. The error: what cannot be repaired, in words that follow the entry's name.
pub(super) fn sanitize(text: &str) -> Result<Cow<'_, str>, &'static str> {
    let mut scan = JsonScan {
        bytes: text.as_bytes(),
        at: 0,
        depth: 0,
        halves: Vec::new(),
    };
    scan.run()?;
    if scan.halves.is_empty() {
        return Ok(Cow::Borrowed(text));
    }
    let mut repaired = String::with_capacity(text.len());
    let mut from = 0;
    for at in scan.halves {
        repaired.push_str(text.get(from..at).unwrap_or_default());
        repaired.push_str(REPLACED);
        from = at + REPLACED.len();
    }
    repaired.push_str(text.get(from..).unwrap_or_default());
    Ok(Cow::Owned(repaired))
}

struct JsonScan<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    halves: Vec<usize>,
}

impl JsonScan<'_> {
    fn run(&mut self) -> Result<(), &'static str> {
        while let Some(byte) = self.bytes.get(self.at) {
            match byte {
                b'"' => self.string(),
                b'{' | b'[' => {
                    self.depth += 1;
                    if self.depth > DEEPEST {
                        return Err("it is nested deeper than 96 levels");
                    }
                    self.at += 1;
                }
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.at += 1;
                }
                b'0'..=b'9' | b'-' => self.number()?,
                _ => self.at += 1,
            }
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), &'static str> {
        let of = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E');
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest.iter().take_while(|byte| of(byte)).count();
        if length > LONGEST_NUMBER {
            return Err("it holds a number of more than 400 digits");
        }
        self.at += length;
        Ok(())
    }

    fn string(&mut self) {
        self.at += 1;
        while let Some(byte) = self.bytes.get(self.at) {
            match byte {
                b'"' => {
                    self.at += 1;
                    return;
                }
                b'\\' => match self.unit() {
                    None => self.at += 2,
                    Some(0xd800..=0xdbff) => self.pair(),
                    Some(0xdc00..=0xdfff) => self.half(),
                    Some(_) => self.at += 6,
                },
                _ => self.at += 1,
            }
        }
    }

    /// The first half of a pair; whole only with the second behind it.
    fn pair(&mut self) {
        let first = self.at;
        self.at += 6;
        match self.unit() {
            Some(0xdc00..=0xdfff) => self.at += 6,
            _ => self.halves.push(first),
        }
    }

    fn half(&mut self) {
        self.halves.push(self.at);
        self.at += 6;
    }

    /// The `\u` escape that stands here.
    fn unit(&self) -> Option<u16> {
        let escape = self.bytes.get(self.at..self.at + 6)?;
        let digits = escape.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_pairs_are_replaced_and_whole_ones_stay() {
        for (text, expected) in [
            (r#""cut \ud83d""#, r#""cut \ufffd""#),
            (
                r#""\udc00\ud83d\ude00\ud83d\ud83d\ude00""#,
                r#""\ufffd\ud83d\ude00\ufffd\ud83d\ude00""#,
            ),
            (
                r#"{"\ud83d":["\\ud83d","\"\ud83d"]}"#,
                r#"{"\ufffd":["\\ud83d","\"\ufffd"]}"#,
            ),
            (r#""\uD83Dx""#, r#""\ufffdx""#),
        ] {
            let sound = sanitize(text).unwrap();
            assert_eq!(sound, expected);
            serde_json::from_str::<serde_json::Value>(&sound).unwrap();
        }
        assert!(matches!(sanitize(r#"{"a":"\u00e4"}"#), Ok(Cow::Borrowed(_))));
    }

    #[test]
    fn what_parsers_of_clients_give_up_at_is_refused() {
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(sanitize(&deep(DEEPEST)).is_ok());
        assert!(sanitize(&deep(DEEPEST + 1)).is_err());
        assert!(
            sanitize(&format!("{{\"a\":\"{}\"}}", deep(200))).is_ok(),
            "in a text it is no nesting"
        );
        assert!(sanitize(&"9".repeat(LONGEST_NUMBER + 1)).is_err());
        assert!(sanitize("[-1.5e+10]").is_ok());
    }
}
