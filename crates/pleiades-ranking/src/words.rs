//! Texts as terms: identifiers split into their words, accents folded, English words cut to their
//! stems, scripts without blanks cut into characters and pairs of them.

use std::borrow::Cow;

use icu_normalizer::DecomposingNormalizerBorrowed;
use snowball_stemmers_rs::{Algorithm, Stemmer};

/// Longest word (bytes); what is longer is no word but a hash, a token or a blob.
const MAX_WORD: usize = 40;

/// What kind of character it is, as far as words end where kinds change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Lower,
    Upper,
    Digit,
    /// Chinese characters, also those of Japanese and Korean.
    Han,
    Katakana,
    /// Other scripts that write no blanks between words.
    Dense,
    /// Joins to what stands before it and shows nothing of itself in a term.
    Mark,
    Other,
}

impl Kind {
    fn of(character: char) -> Self {
        match character {
            'a'..='z' => Self::Lower,
            'A'..='Z' => Self::Upper,
            '0'..='9' => Self::Digit,
            '\0'..='\x7f' => Self::Other,
            '\u{300}'..='\u{36f}' => Self::Mark,
            '\u{3400}'..='\u{4dbf}'
            | '\u{4e00}'..='\u{9fff}'
            | '\u{f900}'..='\u{faff}'
            | '\u{20000}'..='\u{3ffff}' => Self::Han,
            '\u{30a1}'..='\u{30fa}' | '\u{30fc}' => Self::Katakana,
            '\u{3041}'..='\u{3096}'
            | '\u{ac00}'..='\u{d7a3}'
            | '\u{1100}'..='\u{11ff}'
            | '\u{e01}'..='\u{eff}'
            | '\u{1000}'..='\u{109f}'
            | '\u{1780}'..='\u{17ff}' => Self::Dense,
            it if it.is_uppercase() => Self::Upper,
            it if it.is_alphabetic() => Self::Lower,
            it if it.is_numeric() => Self::Digit,
            _ => Self::Other,
        }
    }

    const fn is_dense(self) -> bool {
        matches!(self, Self::Han | Self::Katakana | Self::Dense)
    }
}

/// The words of a text, lower-case, in order; at most `most`.
pub(crate) fn split(text: &str, most: usize) -> Vec<String> {
    let folded = folded(text);
    let mut words = Vec::new();
    let mut run = Run::default();
    for character in folded.chars() {
        if words.len() >= most {
            break;
        }
        match Kind::of(character) {
            Kind::Mark => {}
            Kind::Other => run.end(&mut words),
            kind => {
                if run.ends_before(kind) {
                    run.end(&mut words);
                }
                run.push(character, kind);
            }
        }
    }
    run.end(&mut words);
    words.truncate(most);
    words
}

/// Characters taken apart from their accents, as one form of each (NFKD).
fn folded(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    // NFKD takes Hangul syllables apart, and the accents off kana; neither would be found again.
    let has_dense = |it: char| matches!(it, '\u{ac00}'..='\u{d7a3}' | '\u{3041}'..='\u{30fc}');
    let normalized = match text.contains(has_dense) {
        true => Cow::Borrowed(text),
        false => DecomposingNormalizerBorrowed::new_nfkd().normalize(text),
    };
    if !normalized.contains(['ß', 'ø', 'Ø', 'ł', 'Ł', 'æ', 'œ', 'đ', 'ı']) {
        return normalized;
    }
    let mut plain = String::with_capacity(normalized.len());
    for character in normalized.chars() {
        match character {
            'ß' => plain.push_str("ss"),
            'ø' | 'Ø' => plain.push('o'),
            'ł' | 'Ł' => plain.push('l'),
            'æ' => plain.push_str("ae"),
            'œ' => plain.push_str("oe"),
            'đ' => plain.push('d'),
            'ı' => plain.push('i'),
            other => plain.push(other),
        }
    }
    Cow::Owned(plain)
}

/// Characters that belong together so far.
#[derive(Debug, Default)]
struct Run {
    text: String,
    kinds: Vec<Kind>,
}

impl Run {
    /// Whether letters and digits end where a character of this kind follows.
    fn ends_before(&self, next: Kind) -> bool {
        let Some(last) = self.kinds.last() else {
            return false;
        };
        last.is_dense() != next.is_dense() || (*last == Kind::Katakana) != (next == Kind::Katakana)
    }

    fn push(&mut self, character: char, kind: Kind) {
        self.text.push(character);
        self.kinds.push(kind);
    }

    fn end(&mut self, words: &mut Vec<String>) {
        if self.kinds.first().is_some_and(|kind| kind.is_dense()) {
            self.dense(words);
        } else {
            self.spelled(words);
        }
        self.text.clear();
        self.kinds.clear();
    }

    /// Single Chinese characters and all pairs; a run of katakana is mostly one word.
    fn dense(&self, words: &mut Vec<String>) {
        let characters: Vec<char> = self.text.chars().collect();
        let is_whole = self.kinds.first() == Some(&Kind::Katakana);
        if is_whole && self.text.len() <= MAX_WORD {
            words.push(self.text.clone());
        }
        for (at, (character, kind)) in characters.iter().zip(&self.kinds).enumerate() {
            if *kind == Kind::Han {
                words.push(character.to_string());
            }
            if let (Some(next), false) = (characters.get(at + 1), is_whole) {
                words.push([*character, *next].iter().collect());
            }
        }
    }

    /// `getHTTPUrl2` is `get http url 2`; a short word with digits in it (`s3`, `k8s`) is also whole.
    fn spelled(&self, words: &mut Vec<String>) {
        let mut parts: Vec<String> = Vec::new();
        let mut last = None;
        let following = self.kinds.iter().skip(1).map(Some).chain([None]);
        for ((character, kind), next) in self.text.chars().zip(&self.kinds).zip(following) {
            let is_new = match (last, kind) {
                (None, _) => true,
                (Some(Kind::Lower), Kind::Upper) => true,
                (Some(Kind::Upper), Kind::Upper) => next == Some(&Kind::Lower),
                (Some(before), _) => (before == Kind::Digit) != (*kind == Kind::Digit),
            };
            if is_new {
                parts.push(String::new());
            }
            if let Some(part) = parts.last_mut() {
                part.extend(character.to_lowercase());
            }
            last = Some(*kind);
        }
        let is_mixed = parts.len() > 1 && self.kinds.contains(&Kind::Digit) && self.kinds.len() <= 5;
        if is_mixed {
            words.push(self.text.to_lowercase());
            parts.retain(|part| part.len() > 1);
        }
        words.extend(parts.into_iter().filter(|part| part.len() <= MAX_WORD));
    }
}

/// Cuts English words to their stems (Porter 2).
pub(crate) struct Stems(Stemmer);

impl std::fmt::Debug for Stems {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Stems")
    }
}

impl Stems {
    pub(crate) fn new() -> Self {
        Self(Stemmer::create(Algorithm::English))
    }

    /// What a lower-case word is looked up by.
    pub(crate) fn of<'a>(&self, word: &'a str) -> Cow<'a, str> {
        match word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_lowercase()) {
            true => self.0.stem(word),
            false => Cow::Borrowed(word),
        }
    }
}

/// Words that say nothing about which operation is meant.
const STOP_WORDS: &str = "a about all allow allows also am an and any are as at be been but by can could currently did \
    do does doing for from give had has have having how i if in into is it its just let lets may me might my no not \
    now of on or our out please shall should so some such than that the their them then there these they this those \
    to too tool tools up us use used uses using very via want wants was we were what when where which will with \
    would you your yours yourself \
    der das dem den des ein eine einen einem einer und oder fur mit von vom zum zur ist sind im ich mir bitte alle \
    le la les un une du et ou pour avec dans sur est sont mon ma mes el los las del y o para con en una unos mi mis \
    il lo gli di da uno que qu je s t";

/// Whether a word says nothing about which operation is meant.
pub(crate) fn is_stop_word(word: &str) -> bool {
    use std::collections::HashSet;
    use std::sync::LazyLock;
    static WORDS: LazyLock<HashSet<&str>> = LazyLock::new(|| STOP_WORDS.split_whitespace().collect());
    WORDS.contains(word)
}

/// Frequent words of other languages that are none of English.
const OTHER_LANGUAGES: &str = "der das dem den des ein eine einen einem einer und oder fur mit vom zum zur ist sind \
    ich mir bitte alle zu aus nach wie die le la les une du et pour avec dans sur est el los las del para con en unos \
    mi il lo gli di una uno que";

/// Whether a word shows that a prompt is in another language.
pub(crate) fn is_of_other_language(word: &str) -> bool {
    use std::collections::HashSet;
    use std::sync::LazyLock;
    static WORDS: LazyLock<HashSet<&str>> = LazyLock::new(|| OTHER_LANGUAGES.split_whitespace().collect());
    WORDS.contains(word)
}

/// Days, times, numbers and the like: they stand in prompts of every kind.
const INCIDENTAL: &str = "monday tuesday wednesday thursday friday saturday sunday january february march april may june \
    july august september october november december today tomorrow yesterday tonight morning afternoon evening night \
    noon midnight am pm week weeks weekend month months year years day days hour hours minute minutes next last \
    current one two three four five six seven eight nine ten twelve twenty first second third new old good left right \
    anyone anybody nobody someone somebody everyone everybody anything nothing something everything people person \
    really only again here now later soon still already ever never more most less much many few other same own work \
    come make let need like keep looks yes ok thanks hello hi hey done over out off until away around about thing \
    things stuff way lot bit kind sort part rest much";

/// Whether a word says nothing about what a prompt is about.
pub(crate) fn is_incidental(word: &str) -> bool {
    use std::collections::HashSet;
    use std::sync::LazyLock;
    static WORDS: LazyLock<HashSet<&str>> = LazyLock::new(|| INCIDENTAL.split_whitespace().collect());
    WORDS.contains(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        split(text, 100)
    }

    #[test]
    fn identifiers_are_split_at_case_digits_and_signs() {
        for name in [
            "getPullRequest",
            "get_pull_request",
            "get-pull-request",
            "GET pull.request",
        ] {
            assert_eq!(words(name), ["get", "pull", "request"], "{name}");
        }
        assert_eq!(words("HTTPServerError404"), ["http", "server", "error", "404"]);
    }

    #[test]
    fn a_short_word_with_digits_is_also_whole() {
        assert_eq!(words("s3"), ["s3"]);
        assert_eq!(words("k8s"), ["k8s"]);
        assert_eq!(words("oauth2 mp3"), ["oauth", "2", "mp3", "mp"]);
    }

    #[test]
    fn accents_are_folded() {
        assert_eq!(words("Crée Straße Łódź ÉTÉ"), ["cree", "strasse", "lodz", "ete"]);
    }

    #[test]
    fn chinese_is_single_characters_and_pairs_and_katakana_a_word() {
        assert_eq!(
            words("创建任务"),
            ["创", "创建", "建", "建任", "任", "任务", "务"]
        );
        assert_eq!(words("パイプラインを"), ["パイプライン"]);
        assert_eq!(words("검색"), ["검색"]);
    }

    #[test]
    fn what_is_no_word_is_left_out_and_the_count_is_bounded() {
        assert!(words(&"x".repeat(1_000)).is_empty());
        assert_eq!(split(&"ab ".repeat(1_000), 10).len(), 10);
    }

    #[test]
    fn english_words_meet_in_their_stems() {
        let stems = Stems::new();
        assert_eq!(stems.of("issues"), stems.of("issue"));
        assert_eq!(stems.of("running"), "run");
        assert_eq!(stems.of("数据"), "数据");
    }
}
