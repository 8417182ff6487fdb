//! Cuts a text into the pieces of the vocabulary, as BERT's uncased models do: lower case, accents stripped, marks and
//! ideographs words of their own, then the longest known piece first (`WordPiece`).

use icu_normalizer::DecomposingNormalizerBorrowed;
use unicode_general_category::{GeneralCategory as Category, get_general_category};

use super::table;

/// Words with more characters have no pieces, as in the model's own tokenizer.
const MAX_WORD: usize = 100;
/// Stands before a piece that continues a word.
const CONTINUES: &str = "##";

/// The rows of the pieces of a text. A word that cannot be cut whole has none: the model leaves unknown words out.
pub(super) fn rows(text: &str) -> Vec<usize> {
    let text = plain(text);
    let mut rows = Vec::new();
    for part in text.split(char::is_whitespace) {
        for word in part.split_inclusive(stands_alone) {
            // The last character alone may be one that ends the word before it.
            let last = word.chars().next_back().filter(|last| stands_alone(*last));
            let (head, tail) = word.split_at(word.len() - last.map_or(0, char::len_utf8));
            push_word(head, &mut rows);
            push_word(tail, &mut rows);
        }
    }
    rows
}

/// Adds the rows of a word, or none.
fn push_word(word: &str, rows: &mut Vec<usize>) {
    let before = rows.len();
    if word.chars().nth(MAX_WORD).is_some() || !push_pieces(word, rows) {
        rows.truncate(before);
    }
}

fn push_pieces(word: &str, rows: &mut Vec<usize>) -> bool {
    let mut marked = String::with_capacity(CONTINUES.len() + word.len());
    let mut rest = word;
    while !rest.is_empty() {
        marked.clear();
        if rest.len() < word.len() {
            marked.push_str(CONTINUES);
        }
        let mark = marked.len();
        marked.push_str(rest);
        let found = table::longest_prefix(marked.as_bytes()).filter(|(_, length)| *length > mark);
        let Some((row, length)) = found else {
            return false;
        };
        rows.push(row);
        rest = rest.get(length - mark..).unwrap_or_default();
    }
    true
}

/// In lower case, without accents, control characters and characters that show nothing.
fn plain(text: &str) -> String {
    if text.is_ascii() {
        return text
            .chars()
            .filter(|character| !is_control(*character))
            .map(|ascii| ascii.to_ascii_lowercase())
            .collect();
    }
    let shown = text.chars().filter(|character| !is_control(*character));
    DecomposingNormalizerBorrowed::new_nfd()
        .normalize_iter(shown)
        .filter(|character| get_general_category(*character) != Category::NonspacingMark)
        .flat_map(char::to_lowercase)
        .collect()
}

fn is_control(character: char) -> bool {
    if character.is_ascii() {
        return character.is_ascii_control() && !character.is_ascii_whitespace();
    }
    let category = get_general_category(character);
    character == char::REPLACEMENT_CHARACTER
        || matches!(
            category,
            Category::Control | Category::Format | Category::PrivateUse | Category::Unassigned
        )
}

/// Whether a character is a word of its own.
fn stands_alone(character: char) -> bool {
    if character.is_ascii() {
        return character.is_ascii_punctuation();
    }
    is_ideograph(character)
        || matches!(
            get_general_category(character),
            Category::ConnectorPunctuation
                | Category::DashPunctuation
                | Category::OpenPunctuation
                | Category::ClosePunctuation
                | Category::InitialPunctuation
                | Category::FinalPunctuation
                | Category::OtherPunctuation
        )
}

/// The blocks of Chinese characters that the model's tokenizer knows; kana and Hangul are cut like letters.
fn is_ideograph(character: char) -> bool {
    matches!(character,
        '\u{4E00}'..='\u{9FFF}' | '\u{3400}'..='\u{4DBF}' | '\u{20000}'..='\u{2A6DF}' | '\u{2A700}'..='\u{2B73F}'
        | '\u{2B740}'..='\u{2B81F}' | '\u{2B920}'..='\u{2CEAF}' | '\u{F900}'..='\u{FAFF}' | '\u{2F800}'..='\u{2FA1F}')
}
