//! Finds which requests a text answers although it cannot be read: not UTF-8, cut off, broken JSON.
//!
//! A scan of bytes that knows strings and nesting and nothing else.

/// Ids that one text may name.
const MOST: usize = 64;
/// Bytes of a name or number that are looked at.
const LONGEST: usize = 24;

/// A scan under way; pieces are fed as they come.
#[derive(Debug, Default)]
pub(crate) struct AnswerScan {
    depth: usize,
    /// The depth of the message's own members: 2 in an array of messages.
    base: usize,
    quoted: bool,
    escaped: bool,
    /// The beginning of the string or number under way.
    word: Vec<u8>,
    /// Whether a member's value stands here, not its name.
    valued: bool,
    is_id: bool,
    id: Option<u64>,
    answers: bool,
    asks: bool,
    found: Vec<u64>,
}

impl AnswerScan {
    /// The ids of the answers in a text, whole or cut off.
    pub(crate) fn answers(text: &[u8]) -> Vec<u64> {
        let mut scan = Self::default();
        scan.feed(text);
        scan.end()
    }

    pub(crate) fn feed(&mut self, text: &[u8]) {
        for byte in text {
            self.byte(*byte);
        }
    }

    /// Whether something is open that has to be closed.
    pub(crate) const fn is_open(&self) -> bool {
        self.depth > 0
    }

    /// The ids so far, also of an answer that is cut off.
    pub(crate) fn end(mut self) -> Vec<u64> {
        if self.depth >= self.base {
            self.close();
        }
        self.found
    }

    fn byte(&mut self, byte: u8) {
        if self.quoted {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.quoted = false,
                _ => self.push(byte),
            }
            return;
        }
        let own = self.depth == self.base;
        match byte {
            b'"' => {
                self.quoted = true;
                if own {
                    self.word.clear();
                }
            }
            b'{' | b'[' => self.open(byte),
            b'}' | b']' => {
                if own && byte == b'}' {
                    self.close();
                }
                self.depth = self.depth.saturating_sub(1);
            }
            b':' if own => self.named(),
            b',' if own => self.valued(),
            _ if own && self.valued && !byte.is_ascii_whitespace() => self.push(byte),
            _ => {}
        }
    }

    fn push(&mut self, byte: u8) {
        if self.depth == self.base && self.word.len() < LONGEST {
            self.word.push(byte);
        }
    }

    fn open(&mut self, byte: u8) {
        self.depth += 1;
        if self.base == 0 {
            self.base = if byte == b'{' { 1 } else { 2 };
        }
        if self.depth == self.base && byte == b'{' {
            (self.id, self.answers, self.asks, self.valued) = (None, false, false, false);
        }
    }

    fn named(&mut self) {
        if self.valued {
            return;
        }
        match self.word.as_slice() {
            b"result" | b"error" => self.answers = true,
            b"method" => self.asks = true,
            _ => {}
        }
        self.is_id = self.word == b"id";
        self.valued = true;
        self.word.clear();
    }

    fn valued(&mut self) {
        if self.valued && self.is_id {
            let text = std::str::from_utf8(&self.word).ok();
            self.id = text.and_then(|text| text.parse().ok()).or(self.id);
        }
        (self.valued, self.is_id) = (false, false);
        self.word.clear();
    }

    fn close(&mut self) {
        self.valued();
        if let Some(id) = self.id.take()
            && self.answers
            && !self.asks
            && self.found.len() < MOST
        {
            self.found.push(id);
        }
    }
}

/// The id at the end of an answer of which only the last bytes are at hand.
pub(crate) fn last(tail: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(tail);
    let (_, rest) = text.rsplit_once("\"id\"")?;
    let rest = rest.trim_start().strip_prefix(':')?.trim_start();
    let rest = rest.strip_prefix('"').unwrap_or(rest);
    let end = rest.find(|char: char| !char.is_ascii_digit());
    let (digits, after) = rest.split_at_checked(end.unwrap_or(rest.len()))?;
    let after = after.strip_prefix('"').unwrap_or(after).trim();
    if after == "}" { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_an_answer_is_found_wherever_it_stands() {
        for (text, ids) in [
            (r#"{"id":5,"result":{"#, vec![5]),
            (r#"{"result":{"id":9,"x":"}{\"id\":8"},"id" : "5" }"#, vec![5]),
            (r#"{"error":{"id":1},"id":5"#, vec![5]),
            (
                r#"[{"id":5,"result":1},{"id":6,"error":{}},{"id":7,"method":"ping"}]"#,
                vec![5, 6],
            ),
            (r#"{"id":5,"method":"ping"}"#, vec![]),
            (r#"{"id":null,"error":{}}"#, vec![]),
            (r#"{"id":"five","result":{}}"#, vec![]),
            ("listening on [::1]:80", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(AnswerScan::answers(text.as_bytes()), ids, "{text}");
        }
    }

    #[test]
    fn an_answer_over_several_pieces_ends_when_its_last_bracket_closes() {
        let mut scan = AnswerScan::default();
        for piece in [
            "{\n",
            " \"jsonrpc\": \"2.0\",\n",
            " \"id\": 5,\n",
            " \"result\": {\n }\n",
        ] {
            scan.feed(piece.as_bytes());
            assert!(scan.is_open(), "{piece}");
        }
        scan.feed(b"}\n");
        assert!(!scan.is_open());
        assert_eq!(scan.end(), [5]);
    }

    #[test]
    fn the_last_bytes_of_an_answer_may_name_it() {
        assert_eq!(last(br#"xxx"}]},"id":12}"#), Some(12));
        assert_eq!(last(br#"xxx"}]},"id": "12" } "#), Some(12));
        assert_eq!(last(br#""id":12,"result":"xxx"#), None);
        assert_eq!(last(b"nothing"), None);
    }
}
