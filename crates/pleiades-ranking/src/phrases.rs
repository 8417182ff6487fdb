//! What people call operations, as whoever runs the gateway wrote it down.

use std::collections::HashMap;

use crate::words::{self, Stems, is_stop_word};

/// Phrases of a provider, and words of one, that are kept.
const MAX_PHRASES: usize = 4_096;
const MAX_WORDS: usize = 16;
/// Less of a phrase than this says nothing.
const LEAST: f32 = 0.5;

/// The stems of a phrase, in order, stop words left out.
type Phrase = Box<[Box<str>]>;

/// Other names of one provider's operations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Phrases(HashMap<Box<str>, Vec<Phrase>>);

impl Phrases {
    /// Phrases by the name of their operation.
    #[must_use]
    pub fn of<'a>(phrases: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let stems = Stems::new();
        let mut by_name: HashMap<Box<str>, Vec<Phrase>> = HashMap::new();
        for (name, phrase) in phrases.into_iter().take(MAX_PHRASES) {
            let words = words::split(phrase, MAX_WORDS);
            let telling = words.iter().filter(|word| !is_stop_word(word));
            let stems: Phrase = telling.map(|word| stems.of(word).into()).collect();
            if !stems.is_empty() {
                by_name.entry(name.into()).or_default().push(stems);
            }
        }
        Self(by_name)
    }

    /// How much of a phrase of an operation a prompt has, of 0 to 1; 1 is a whole one in its order.
    /// `prompt`: its stems in order, stop words left out.
    pub(crate) fn share(&self, names: [&str; 2], prompt: &[String]) -> f32 {
        let phrases = names.iter().filter_map(|name| self.0.get(*name)).flatten();
        let share = |phrase: &[Box<str>]| {
            let is_here = |window: &[String]| window.iter().zip(phrase).all(|(one, other)| **one == **other);
            if prompt.windows(phrase.len()).any(is_here) {
                return 1.0;
            }
            let count = |of: &dyn Fn(&&Box<str>) -> bool| phrase.iter().filter(of).map(|_| 1.0).sum::<f32>();
            // All its words in another order are not the phrase.
            0.9 * count(&|word| prompt.iter().any(|stem| **stem == ***word)) / count(&|_| true)
        };
        let most = phrases.map(|phrase| share(phrase)).fold(0.0, f32::max);
        if most < LEAST { 0.0 } else { most }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(prompt: &str) -> f32 {
        let phrases = Phrases::of([("create_issue", "file a bug"), ("create_issue", "")]);
        let stems = Stems::new();
        let stems: Vec<String> = words::split(prompt, 20)
            .iter()
            .filter(|word| !is_stop_word(word))
            .map(|word| stems.of(word).into_owned())
            .collect();
        phrases.share(["create_issue", ""], &stems)
    }

    #[test]
    fn a_phrase_is_found_whole_in_part_or_not_at_all() {
        assert!(share("please file the bug about logins") >= 1.0);
        assert!((0.5..1.0).contains(&share("the bug that I want to file")));
        assert!(share("delete a bug") < f32::EPSILON);
        assert!(share("delete it") < f32::EPSILON);
    }
}
