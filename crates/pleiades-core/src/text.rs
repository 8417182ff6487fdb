//! Text that others chose, where people and models read it.

use std::borrow::Cow;

/// Whether a character shows nothing of itself, or turns what stands around it.
///
/// Control characters, marks of direction (U+061C, U+200E, U+200F, U+202A to U+202E, U+2066 to U+2069),
/// and what has no width: Unicode's `Default_Ignorable_Code_Point` and line separators, without the
/// selectors U+FE00 to U+FE0F. Names hold none of them: two that look alike must be one.
#[must_use]
pub fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'
                | '\u{1160}'
                | '\u{17b4}'
                | '\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Whether a text may be shown to people and models as several lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineBreaks {
    /// Line breaks and tabs stay.
    Kept,
    /// Each becomes a blank.
    Joined,
}

/// The text without what cannot be seen, as models would read it and people would not.
///
/// What is written stays as it is written: a joiner (U+200C, U+200D) after a letter of a script that joins, or
/// between parts of an emoji, and the selector of an emoji's form (U+FE0E, U+FE0F) behind one. Of others
/// neither is left. Borrowed where nothing has to go.
#[must_use]
pub fn legible(text: &str, lines: LineBreaks) -> Cow<'_, str> {
    let may_stay = |it: char| match it {
        '\n' | '\t' => lines == LineBreaks::Kept,
        _ => !is_hidden(it) && !is_selector(it),
    };
    if text.chars().all(may_stay) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let next = characters.peek().copied();
        match character {
            // One break, however it is written.
            '\r' if next == Some('\n') => {}
            '\n' | '\t' if lines == LineBreaks::Kept => shown.push(character),
            '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' if lines == LineBreaks::Kept => shown.push('\n'),
            '\n' | '\r' | '\t' | '\u{85}' | '\u{2028}' | '\u{2029}' => shown.push(' '),
            '\u{200c}' | '\u{200d}' if joins(shown.chars().next_back(), character, next) => {
                shown.push(character);
            }
            '\u{fe0e}' | '\u{fe0f}' if shown.chars().next_back().is_some_and(is_pictorial) => {
                shown.push(character);
            }
            _ if is_hidden(character) || is_selector(character) => {}
            _ => shown.push(character),
        }
    }
    Cow::Owned(shown)
}

/// Selectors of another form of the character before.
const fn is_selector(character: char) -> bool {
    matches!(character, '\u{fe00}'..='\u{fe0f}')
}

/// Whether a joiner means something where it stands.
fn joins(before: Option<char>, joiner: char, after: Option<char>) -> bool {
    let Some(before) = before else { return false };
    let is_part = |it: char| is_pictorial(it) || is_selector(it);
    let emoji = joiner == '\u{200d}' && is_part(before) && after.is_some_and(is_pictorial);
    emoji || is_joining(before)
}

/// Letters of scripts that are written with joiners: Arabic, Syriac, N'Ko, Mandaic, those of India and their kin,
/// Mongolian.
const fn is_joining(character: char) -> bool {
    matches!(
        character,
        '\u{620}'..='\u{8ff}'
            | '\u{900}'..='\u{dff}'
            | '\u{1000}'..='\u{109f}'
            | '\u{1780}'..='\u{17ff}'
            | '\u{1820}'..='\u{18af}'
            | '\u{a8e0}'..='\u{a8ff}'
            | '\u{11000}'..='\u{11fff}'
    )
}

/// What emoji are made of, near enough: symbols and pictures, and digits that become keys.
const fn is_pictorial(character: char) -> bool {
    matches!(
        character,
        '#' | '*' | '0'..='9' | '©' | '®'
            | '\u{203c}'..='\u{2bff}'
            | '\u{3030}' | '\u{303d}' | '\u{3297}' | '\u{3299}'
            | '\u{1f000}'..='\u{1faff}'
    )
}

/// The first `most` characters that can be seen.
#[must_use]
pub fn printable(text: &str, most: usize) -> String {
    text.chars().filter(|it| !is_hidden(*it)).take(most).collect()
}

/// The text with its C0 controls as escapes (`\\u001b`), but for tabs and ends of lines: they may move a
/// cursor or hide what stands before them. Borrowed when there is none.
#[must_use]
pub fn with_controls_shown(text: &str) -> Cow<'_, str> {
    let is_control = |byte: u8| byte < b' ' && !matches!(byte, b'\n' | b'\t');
    if !text.bytes().any(is_control) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        let is_line_end = character == '\r' && rest.peek() == Some(&'\n');
        match u8::try_from(character) {
            Ok(byte) if is_control(byte) && !is_line_end => {
                shown.push_str(&format!("\\u{byte:04x}"));
            }
            _ => shown.push(character),
        }
    }
    Cow::Owned(shown)
}

/// The text as one line: runs of blanks and control characters are one blank, hidden characters are
/// left out, and what is longer than `most` characters ends in `…`.
#[must_use]
pub fn one_line(text: &str, most: usize) -> String {
    let mut line = String::new();
    let mut length = 0;
    let mut is_apart = false;
    for character in text.chars() {
        if character.is_whitespace() || character.is_control() {
            is_apart = !line.is_empty();
            continue;
        }
        if is_hidden(character) {
            continue;
        }
        if length >= most {
            line.push('…');
            break;
        }
        if std::mem::take(&mut is_apart) {
            line.push(' ');
            length += 1;
        }
        line.push(character);
        length += 1;
    }
    line
}

/// The text as one word of a POSIX shell: as it is where no character of it means anything there, else in
/// single quotes.
#[must_use]
pub fn shell_word(text: &str) -> String {
    let is_plain = |it: char| it.is_ascii_alphanumeric() || "_-./:@%+=,".contains(it);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// The words of others without those that may be credentials, each of which becomes `…`: what follows
/// `Bearer` or `Basic`, what is named `…key=`, `…token=` and the like, and what looks as tokens do.
#[must_use]
pub fn without_tokens(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut is_announced = false;
    for (at, word) in text.split(' ').enumerate() {
        if at > 0 {
            shown.push(' ');
        }
        let bare = word.trim_matches(PUNCTUATION);
        if is_announced && !bare.is_empty() || is_token(bare) {
            shown.push_str(&word.replacen(bare, "…", 1));
        } else if let Some((name, _)) = word.split_once('=').filter(|(name, _)| names_secret(name)) {
            shown.push_str(name);
            shown.push_str("=…");
        } else {
            shown.push_str(word);
        }
        is_announced = ["bearer", "basic"]
            .iter()
            .any(|scheme| bare.eq_ignore_ascii_case(scheme));
    }
    shown
}

/// The words of others as [`one_line`] makes a line of them, without those that may be credentials.
///
/// They are left out before the line is cut: the beginning of one may look like any word.
#[must_use]
pub fn line_without_tokens(text: &str, most: usize) -> String {
    /// How much more is looked at, in lines.
    const BEFORE: usize = 8;
    one_line(
        &without_tokens(&one_line(text, most.saturating_mul(BEFORE))),
        most,
    )
}

const PUNCTUATION: &[char] = &[
    '"', '\'', '`', '(', ')', '[', ']', '{', '}', '<', '>', ',', ';', ':', '.', '!', '?',
];

/// How tokens of well-known services begin.
pub const TOKEN_HEADS: [&str; 27] = [
    "sk-",
    "sk_",
    "pk_",
    "rk_",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "xox",
    "xapp-",
    "AKIA",
    "ASIA",
    "AIza",
    "ya29.",
    "eyJ",
    "hf_",
    "npm_",
    "lin_api_",
    "ntn_",
    "secret_",
    "SG.",
    "shpat_",
    "ATATT",
    "figd_",
    "tvly-",
];

/// Whether a word looks like a token: it begins as one, or holds 16 characters without a break that
/// are letters and digits, or 32 of any kind that tokens are made of.
fn is_token(word: &str) -> bool {
    if word.len() > 8 && TOKEN_HEADS.iter().any(|head| word.starts_with(head)) {
        return true;
    }
    let is_break = |it: char| !(it.is_ascii_alphanumeric() || matches!(it, '_' | '-' | '+' | '~' | '='));
    word.split(is_break).any(|run| {
        let has_both =
            run.bytes().any(|it| it.is_ascii_digit()) && run.bytes().any(|it| it.is_ascii_alphabetic());
        run.len() >= 32 || run.len() >= 16 && has_both
    })
}

fn names_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    [
        "key",
        "token",
        "secret",
        "password",
        "authorization",
        "signature",
        "code",
    ]
    .iter()
    .any(|end| name.ends_with(end))
}

/// The text itself when it has at most `most` characters, else its beginning, ending in `…`.
#[must_use]
pub fn clipped(text: &str, most: usize) -> String {
    if head(text, most).len() == text.len() {
        return text.to_owned();
    }
    format!("{}…", head(text, most.saturating_sub(1)))
}

/// The first `most` characters.
#[must_use]
pub fn head(text: &str, most: usize) -> &str {
    text.char_indices()
        .nth(most)
        .and_then(|(end, _)| text.get(..end))
        .unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_text_holds_it_is_one_word_of_a_shell() {
        assert_eq!(shell_word("/usr/bin/pleiades"), "/usr/bin/pleiades");
        assert_eq!(shell_word("/a b/it's"), r"'/a b/it'\''s'");
        for text in ["", "a;b", "$(x)", "`x`", "~", "a\nb", "*"] {
            assert_eq!(shell_word(text), format!("'{text}'"));
        }
    }

    #[test]
    fn what_cannot_be_seen_is_hidden_and_letters_of_all_scripts_are_not() {
        let hidden = [
            '\0', '\n', '\u{7f}', '\u{85}', '\u{61c}', '\u{200b}', '\u{200e}', '\u{200f}', '\u{202a}',
            '\u{202e}', '\u{2066}', '\u{2069}', '\u{2060}', '\u{feff}',
        ];
        assert!(hidden.into_iter().all(is_hidden));
        assert!(!"aä查א😀 -".chars().any(is_hidden));
    }

    #[test]
    fn controls_are_shown_as_escapes_and_ends_of_lines_stay() {
        assert_eq!(
            with_controls_shown("a\u{1b}[2Jb\0\rc"),
            "a\\u001b[2Jb\\u0000\\u000dc"
        );
        assert!(matches!(with_controls_shown("a\tb\nä\u{85}"), Cow::Borrowed(_)));
        assert_eq!(with_controls_shown("a\r\n\u{7}"), "a\r\n\\u0007");
    }

    #[test]
    fn a_text_is_left_without_what_only_models_read() {
        for hidden in [
            "\u{200b}",
            "\u{200c}",
            "\u{200d}",
            "\u{200e}",
            "\u{202e}",
            "\u{2066}",
            "\u{2060}",
            "\u{feff}",
            "\u{ad}",
            "\u{0}",
            "\u{8}",
            "\u{1b}",
            "\u{7f}",
            "\u{9b}",
            "\u{e0041}",
            "\u{e0100}",
            "\u{fe00}",
            "\u{fe0f}",
            "\u{34f}",
            "\u{115f}",
            "\u{3164}",
            "\u{ffa0}",
            "\u{180e}",
            "\u{2062}",
            "\u{206a}",
        ] {
            let text = format!("{hidden}List{hidden} the{hidden}{hidden} issues{hidden}");
            for lines in [LineBreaks::Kept, LineBreaks::Joined] {
                assert_eq!(legible(&text, lines), "List the issues", "{hidden:?}");
            }
        }
        let smuggled: String = "hi"
            .chars()
            .chain(('a'..='z').filter_map(|it| char::from_u32(0xe0000 + it as u32)))
            .collect();
        assert_eq!(legible(&smuggled, LineBreaks::Kept), "hi");
        assert_eq!(
            legible("👍\u{fe0f}\u{fe0f}\u{fe01}\u{e0150}", LineBreaks::Kept),
            "👍\u{fe0f}"
        );
    }

    #[test]
    fn a_text_of_any_script_stays_as_it_is_written() {
        for text in [
            "می\u{200c}خواهم",
            "क्\u{200d}ष",
            "ශ්\u{200d}රී",
            "👩\u{200d}💻 👨\u{200d}👩\u{200d}👧 ❤\u{fe0f}\u{200d}🔥 1\u{fe0f}\u{20e3} 👋🏽",
            "查詢 äöü א\u{5b0} ไทย 한국어",
            "one\n\ttwo",
        ] {
            assert_eq!(legible(text, LineBreaks::Kept), text);
        }
        assert_eq!(legible("a\r\nb\rc\u{2028}d", LineBreaks::Kept), "a\nb\nc\nd");
        assert_eq!(legible("a\r\nb\tc", LineBreaks::Joined), "a b c");
    }

    #[test]
    fn only_what_can_be_seen_is_shown_and_not_more_than_asked() {
        assert_eq!(printable("a\u{202e}b\nc", 2), "ab");
    }

    #[test]
    fn a_text_of_others_becomes_one_bounded_line() {
        assert_eq!(one_line("  a\r\n\tb\u{202e}c\u{0} ", 80), "a bc");
        assert_eq!(one_line("abcdef", 3), "abc…");
    }

    #[test]
    fn words_that_may_be_credentials_are_left_out_and_others_stay() {
        for (text, shown) in [
            ("bad key sk-live-abcdefgh", "bad key …"),
            ("Authorization: Bearer short, no", "Authorization: Bearer …, no"),
            (
                "token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx is over",
                "token … is over",
            ),
            ("GET /x?api_key=hunter2 failed", "GET /x?api_key=… failed"),
            ("`0123456789abcdef0123456789abcdef`", "`…`"),
            (
                "Cannot find module '/app/v2/dist/server.js'",
                "Cannot find module '/app/v2/dist/server.js'",
            ),
            (
                "connect ECONNREFUSED db-0.internal.example.com:5432 (os error 111)",
                "connect ECONNREFUSED db-0.internal.example.com:5432 (os error 111)",
            ),
            (
                "self-signed-certificate is refused",
                "self-signed-certificate is refused",
            ),
        ] {
            assert_eq!(without_tokens(text), shown);
        }
    }

    #[test]
    fn a_credential_at_the_end_of_a_line_is_left_out_and_not_cut() {
        let text = "the key is wrong:\nabcdefgh12345678";
        assert_eq!(line_without_tokens(text, 26), "the key is wrong: …");
        assert_eq!(line_without_tokens(text, 5), "the k…");
        assert_eq!(line_without_tokens("plain words", 80), "plain words");
    }

    #[test]
    fn a_long_text_is_cut_between_characters_and_says_so() {
        assert_eq!(
            [clipped("äöü", 3), clipped("äöü", 2), clipped("ä", 0)],
            ["äöü", "ä…", "…"]
        );
        assert_eq!((head("äöü", 2), head("äöü", 9), head("ä", 0)), ("äö", "äöü", ""));
    }
}
