//! A prompt as what it may mean: words with their alternatives, ids and addresses by their kind.

use std::collections::HashSet;

use crate::aliases::{Aliases, Alternative, LONGEST};
use crate::form::{self, WordForm};
use crate::index::joined;
use crate::words::{self, Stems, is_incidental, is_of_other_language, is_stop_word};

/// Of a prompt that is longer the rest is not read (bytes).
const MAX_PROMPT: usize = 4 * 1024;
/// Words that are looked at.
const MAX_WORDS: usize = 128;
/// A prompt of more words than this, with so many different words of doing, is a task of several goals.
const LONG: usize = 40;
const MANY_GOALS: usize = 3;
/// What words count that are a value and not the goal: quoted text, paths, addresses.
const VALUE: f32 = 0.3;
/// What the kind of an id counts.
const KIND: f32 = 0.6;
/// What the single words of an idiom still count.
const WITHIN_IDIOM: f32 = 0.3;

/// What a unit is to the question whether the prompt is about these operations at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// A thing: operations that are meant mention it.
    Topic,
    /// A thing of everyday life: unless operations mention it, others are meant.
    Everyday,
    /// A name, a day, a number: says nothing where nobody mentions it.
    Incidental,
    /// A word of doing.
    Verb,
    /// Several words with a meaning of their own.
    Phrase,
    /// What an id or an address is the id of.
    Kind,
    /// A value.
    Value,
}

/// What one word or phrase may mean.
#[derive(Debug)]
pub(crate) struct PromptUnit {
    /// The terms themselves; none for a phrase, or a word that says nothing but by its alternatives.
    pub(crate) own: Vec<String>,
    pub(crate) alternatives: &'static [Alternative],
    pub(crate) weight: f32,
    pub(crate) role: Role,
}

/// Whether something is asked for or to be done, as far as the words tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Asks,
    Does,
}

#[derive(Debug)]
pub(crate) struct Prompt {
    pub(crate) units: Vec<PromptUnit>,
    pub(crate) mood: Mood,
    /// The stems of its words, in order, stop words left out.
    pub(crate) stems: Vec<String>,
    /// Its words that may be names of operations, as they stand.
    pub(crate) names: HashSet<String>,
    /// The same in lower case without signs, of those that have signs or capitals within.
    pub(crate) joined: HashSet<Box<str>>,
    /// Whether nothing shows that it is in another language.
    pub(crate) is_english: bool,
    /// Whether it is a whole task: long, with several things to be done.
    pub(crate) has_many_goals: bool,
}

impl Prompt {
    pub(crate) fn read(text: &str) -> Self {
        let text = head(text);
        let (tokens, kinds) = tokens(text);
        let mut units = units(&tokens);
        units.extend(kinds.into_iter().map(|kind| {
            PromptUnit {
                own: kind
                    .split(' ')
                    .map(|word| Stems::new().of(word).into_owned())
                    .collect(),
                alternatives: &[],
                weight: KIND,
                role: Role::Kind,
            }
        }));
        let names = names(text);
        let is_compound =
            |name: &&String| name.contains(['_', '-', '.']) || name.contains(char::is_uppercase);
        Self {
            units,
            mood: mood(text),
            is_english: is_english(&tokens),
            has_many_goals: has_many_goals(&tokens),
            stems: stems_of(&tokens),
            joined: names
                .iter()
                .filter(is_compound)
                .map(|name| joined(name))
                .collect(),
            names,
        }
    }
}

#[derive(Debug)]
struct Token {
    word: String,
    stem: String,
    form: WordForm,
}

impl Token {
    const fn weight(&self) -> f32 {
        if matches!(self.form, WordForm::Value) {
            VALUE
        } else {
            1.0
        }
    }

    /// Whether it says nothing, neither itself nor by another word.
    fn is_silent(&self) -> bool {
        let is_number = self.word.bytes().all(|byte| byte.is_ascii_digit());
        is_number || self.word.len() < 2
    }

    fn role(&self) -> Role {
        match self.form {
            WordForm::Value => Role::Value,
            _ if Aliases::built_in().is_verb(&self.stem) => Role::Verb,
            _ if Aliases::is_everyday(&self.stem) => Role::Everyday,
            WordForm::Proper => Role::Incidental,
            WordForm::Plain if is_incidental(&self.word) || is_stop_word(&self.word) => Role::Incidental,
            WordForm::Plain => Role::Topic,
        }
    }
}

/// The part of a prompt that is read.
fn head(text: &str) -> &str {
    let mut end = text.len().min(MAX_PROMPT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// The words of a prompt, and the kinds of things that ids and addresses in it name.
fn tokens(text: &str) -> (Vec<Token>, Vec<&'static str>) {
    let stems = Stems::new();
    let mut tokens = Vec::new();
    let mut kinds: Vec<&'static str> = Vec::new();
    for (piece, is_quoted) in form::pieces(text) {
        let mut is_first = !is_quoted;
        for written in piece.split_whitespace() {
            let (form, of) = form::of(written, is_first);
            kinds.extend(
                of.iter()
                    .filter(|kind| !kinds.contains(kind))
                    .copied()
                    .collect::<Vec<_>>(),
            );
            is_first = written.ends_with(['.', '!', '?', ':']);
            let form = if is_quoted { WordForm::Value } else { form };
            for word in words::split(written, MAX_WORDS) {
                tokens.push(Token {
                    stem: stems.of(&word).into_owned(),
                    word,
                    form,
                });
            }
        }
    }
    tokens.truncate(MAX_WORDS);
    (tokens, kinds)
}

/// Whether no plain word is of another language, as far as frequent words and letters tell.
fn is_english(tokens: &[Token]) -> bool {
    let plain = tokens.iter().filter(|token| token.form == WordForm::Plain);
    plain
        .map(|token| &token.word)
        .all(|word| word.is_ascii() && !is_of_other_language(word))
}

fn has_many_goals(tokens: &[Token]) -> bool {
    let verbs = tokens.iter().filter(|token| token.role() == Role::Verb);
    let verbs: HashSet<&str> = verbs.map(|token| token.stem.as_str()).collect();
    tokens.len() > LONG && verbs.len() >= MANY_GOALS
}

fn stems_of(tokens: &[Token]) -> Vec<String> {
    let telling = tokens.iter().filter(|token| !is_stop_word(&token.word));
    telling.map(|token| token.stem.clone()).collect()
}

/// Every word that says something, and every phrase that has a meaning of its own.
fn units(tokens: &[Token]) -> Vec<PromptUnit> {
    let mut within = vec![1.0_f32; tokens.len()];
    let mut units = phrases(tokens, &mut within);
    let mut seen: HashSet<&str> = HashSet::new();
    for (token, within) in tokens.iter().zip(within) {
        let meaning = Aliases::built_in().meaning(&token.stem);
        let is_own = !is_stop_word(&token.word);
        if token.is_silent() || !(is_own || meaning.is_some()) || !seen.insert(&token.stem) {
            continue;
        }
        units.push(PromptUnit {
            own: is_own.then(|| token.stem.clone()).into_iter().collect(),
            alternatives: meaning.map(|meaning| &*meaning.alternatives).unwrap_or_default(),
            weight: token.weight() * within,
            role: token.role(),
        });
    }
    units
}

/// Phrases, the longest ones first; what the words within an idiom still count is noted.
fn phrases(tokens: &[Token], within: &mut [f32]) -> Vec<PromptUnit> {
    let mut units = Vec::new();
    for length in (2..=LONGEST).rev() {
        for (at, window) in tokens.windows(length).enumerate() {
            let phrase: Vec<&str> = window.iter().map(|token| token.stem.as_str()).collect();
            let Some(meaning) = Aliases::built_in().meaning(&phrase.join(" ")) else {
                continue;
            };
            if meaning.is_idiom {
                within
                    .iter_mut()
                    .skip(at)
                    .take(length)
                    .for_each(|it| *it = WITHIN_IDIOM);
            }
            units.push(PromptUnit {
                own: Vec::new(),
                alternatives: &meaning.alternatives,
                weight: window.iter().map(Token::weight).fold(1.0, f32::min),
                role: Role::Phrase,
            });
        }
    }
    units
}

/// Words with which a prompt begins that wants to know something.
const ASKING: [&str; 30] = [
    "what", "which", "who", "whose", "when", "where", "why", "how", "is", "are", "was", "did", "does", "do",
    "has", "have", "show", "list", "find", "search", "read", "get", "give me", "tell me", "look", "details",
    "download", "grab", "display", "any",
];

fn mood(text: &str) -> Mood {
    let lower = text.trim().to_lowercase();
    let begins = |start: &str| {
        let rest = lower.strip_prefix(start);
        rest.is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
    };
    match lower.ends_with(['?', '？']) || ASKING.iter().any(|start| begins(start)) {
        true => Mood::Asks,
        false => Mood::Does,
    }
}

/// The words of a prompt that may be names of operations.
fn names(text: &str) -> HashSet<String> {
    let is_part = |it: char| it.is_alphanumeric() || matches!(it, '_' | '-' | '.' | '/');
    let words = text.split(|it: char| !is_part(it));
    words
        .map(|word| word.trim_matches(['.', '/', '-']))
        .filter(|word| !word.is_empty())
        .take(MAX_WORDS)
        .map(ToOwned::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(text: &str) -> Vec<(String, Role)> {
        let units = Prompt::read(text).units;
        units.iter().map(|unit| (unit.own.join(" "), unit.role)).collect()
    }

    #[test]
    fn words_are_things_doings_or_incidental() {
        let roles = roles("Delete the label of Julia tomorrow");
        let expected = [
            ("delet", Role::Verb),
            ("label", Role::Topic),
            ("julia", Role::Incidental),
            ("tomorrow", Role::Incidental),
        ];
        assert_eq!(roles, expected.map(|(word, role)| (word.to_owned(), role)));
    }

    #[test]
    fn quoted_words_are_values() {
        let roles = roles("rename \"annual report\"");
        assert!(roles.contains(&("annual".to_owned(), Role::Value)));
    }

    #[test]
    fn an_idiom_stands_for_its_words() {
        let prompt = Prompt::read("get rid of the branch");
        let idiom = prompt
            .units
            .iter()
            .find(|unit| unit.role == Role::Phrase)
            .expect("a phrase");
        assert!(idiom.alternatives.iter().any(|it| *it.terms == ["delet".into()]));
        let get = prompt
            .units
            .iter()
            .find(|unit| unit.own == ["get"])
            .expect("a word");
        assert!(get.weight < 1.0);
    }

    #[test]
    fn questions_ask_and_orders_do() {
        for asks in ["Which branches are there?", "show me the log", "列出问题？"] {
            assert_eq!(mood(asks), Mood::Asks, "{asks}");
        }
        for does in ["Delete it", "isolate the host", "Close issue 66"] {
            assert_eq!(mood(does), Mood::Does, "{does}");
        }
    }

    #[test]
    fn a_long_prompt_is_read_in_part() {
        let prompt = Prompt::read(&"é word".repeat(100_000));
        assert!(prompt.units.len() <= MAX_WORDS);
        let distinct: String = (0..100_000).map(|at| format!("w{at}x ")).collect();
        assert!(Prompt::read(&distinct).units.len() <= MAX_WORDS);
    }
}
