//! Text that others chose, where people and models read it.

/// Whether a character shows nothing of itself, or turns what stands around it.
///
/// Control characters, marks of direction (U+061C, U+200E, U+200F, U+202A to U+202E, U+2066 to U+2069),
/// and what has no width. Names hold none of them: two that look alike must be one.
#[must_use]
pub fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// The first `most` characters that can be seen.
#[must_use]
pub fn printable(text: &str, most: usize) -> String {
    text.chars().filter(|it| !is_hidden(*it)).take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn only_what_can_be_seen_is_shown_and_not_more_than_asked() {
        assert_eq!(printable("a\u{202e}b\nc", 2), "ab");
    }
}
