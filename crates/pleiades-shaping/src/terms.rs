//! The words of a prompt that a row or line can share.

use std::collections::BTreeSet;

/// Words that are looked for; more would not tell rows apart.
const MOST: usize = 12;
/// Words that stand in most prompts and say nothing of what is wanted.
const COMMON: [&str; 34] = [
    "the", "and", "for", "with", "all", "are", "that", "this", "from", "show", "list", "get", "find",
    "which", "have", "has", "was", "were", "not", "can", "you", "any", "its", "our", "your", "what", "who",
    "how", "when", "where", "into", "about", "please", "give",
];

#[derive(Debug, Default)]
pub(super) struct Terms(Vec<String>);

impl Terms {
    pub(super) fn of(prompt: &str) -> Self {
        let lower = prompt.to_lowercase();
        let words = lower.split(|it: char| !it.is_alphanumeric());
        let words = words.filter(|word| {
            let is_wide = !word.is_ascii();
            (word.len() > 2 || is_wide || word.bytes().any(|it| it.is_ascii_digit()))
                && !word.is_empty()
                && !COMMON.contains(word)
        });
        let mut known = BTreeSet::new();
        let distinct = words.filter(|word| known.insert((*word).to_owned()));
        Self(distinct.take(MOST).map(stem).collect())
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many of the words a text holds.
    pub(super) fn score(&self, text: &str) -> usize {
        if self.0.is_empty() {
            return 0;
        }
        let lower = match text.is_ascii() {
            true => text.to_ascii_lowercase(),
            false => text.to_lowercase(),
        };
        self.0.iter().filter(|word| lower.contains(word.as_str())).count()
    }
}

/// Without the `s` of a plural, so that either number finds the other.
fn stem(word: &str) -> String {
    let is_plural = word.len() > 3 && word.ends_with('s') && !word.ends_with("ss");
    word.strip_suffix('s')
        .filter(|_| is_plural)
        .unwrap_or(word)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_scored_by_the_telling_words_of_the_prompt_that_it_holds() {
        let terms = Terms::of("Show me all the crashes in Safari 17, please");
        assert_eq!(terms.score("A crashe happened in SAFARI"), 2);
        assert_eq!(terms.score("version 17"), 1);
        assert_eq!(terms.score("show all please"), 0);
        assert!(Terms::of("show the list").is_empty());
        assert_eq!(Terms::of("错误 页面").score("一个错误"), 1);
    }
}
