//! Other words for what operations are called: the built-in list, read once.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use crate::words::{self, Stems};

/// Longest phrase that has a meaning of its own (words).
pub(crate) const LONGEST: usize = 4;
/// What another word for the same thing counts, of what the word itself does.
const SAME: f32 = 0.85;
const NEAR: f32 = 0.5;
/// Words of one entry that are read.
const MAX_WORDS: usize = 8;

/// Terms that together may stand for a word.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Alternative {
    pub(crate) terms: Box<[Box<str>]>,
    pub(crate) weight: f32,
}

/// What a word or phrase may mean beside itself.
#[derive(Debug, Default)]
pub(crate) struct Meaning {
    pub(crate) alternatives: Vec<Alternative>,
    /// Whether its words mean something else together than each of them does alone.
    pub(crate) is_idiom: bool,
}

impl Meaning {
    fn may_be(&mut self, terms: &[Box<str>], weight: f32) {
        let known = self.alternatives.iter_mut().find(|it| *it.terms == *terms);
        match known {
            Some(known) => known.weight = known.weight.max(weight),
            None => self.alternatives.push(Alternative {
                terms: terms.into(),
                weight,
            }),
        }
    }
}

/// Meanings by phrase: stems with blanks between them.
#[derive(Debug, Default)]
pub(crate) struct Aliases {
    meanings: HashMap<Box<str>, Meaning>,
    verbs: HashSet<Box<str>>,
    nouns: HashSet<Box<str>>,
}

impl Aliases {
    pub(crate) fn built_in() -> &'static Self {
        static BUILT_IN: LazyLock<Aliases> = LazyLock::new(|| Aliases::read(include_str!("aliases.txt")));
        &BUILT_IN
    }

    fn read(list: &str) -> Self {
        let mut aliases = Self::default();
        let stems = Stems::new();
        for line in list.lines() {
            let mut characters = line.trim().chars();
            let sign = characters.next();
            let rest = characters.as_str();
            let (is_verb, rest) = rest.strip_prefix("v ").map_or((false, rest), |rest| (true, rest));
            let all = |entries: &str| -> Vec<Box<[Box<str>]>> {
                entries.split(',').map(|entry| key_of(entry, &stems)).collect()
            };
            match sign {
                Some('=') => aliases.add_group(&all(rest), SAME, is_verb),
                Some('~') => aliases.add_group(&all(rest), NEAR, is_verb),
                Some('>') => {
                    if let Some((from, to)) = rest.split_once(':') {
                        aliases.add_directed(&all(from), &all(to), is_verb);
                    }
                }
                _ => {}
            }
        }
        aliases
    }

    fn add_group(&mut self, entries: &[Box<[Box<str>]>], weight: f32, is_verb: bool) {
        for entry in entries {
            self.note(entry, is_verb);
            let meaning = self.meanings.entry(entry.join(" ").into()).or_default();
            for other in entries.iter().filter(|other| *other != entry) {
                meaning.may_be(other, weight);
            }
        }
    }

    fn add_directed(&mut self, from: &[Box<[Box<str>]>], to: &[Box<[Box<str>]>], is_verb: bool) {
        for entry in from {
            self.note(entry, is_verb);
            let meaning = self.meanings.entry(entry.join(" ").into()).or_default();
            meaning.is_idiom |= entry.len() > 1;
            for other in to.iter().filter(|other| *other != entry) {
                meaning.may_be(other, NEAR);
            }
        }
    }

    fn note(&mut self, entry: &[Box<str>], is_verb: bool) {
        if let [word] = entry {
            let kind = if is_verb { &mut self.verbs } else { &mut self.nouns };
            kind.insert(word.clone());
        }
    }

    /// What a phrase of stems may mean beside itself.
    pub(crate) fn meaning(&self, phrase: &str) -> Option<&Meaning> {
        self.meanings.get(phrase)
    }

    /// Whether a stem names a thing of everyday life or general knowledge.
    pub(crate) fn is_everyday(stem: &str) -> bool {
        static WORDS: LazyLock<HashSet<Box<str>>> = LazyLock::new(|| {
            let stems = Stems::new();
            let lines = include_str!("everyday.txt")
                .lines()
                .filter(|line| !line.starts_with('#'));
            lines
                .flat_map(str::split_whitespace)
                .map(|word| stems.of(word).into())
                .collect()
        });
        WORDS.contains(stem)
    }

    /// Whether a stem is a word of doing and names no thing.
    pub(crate) fn is_verb(&self, stem: &str) -> bool {
        self.verbs.contains(stem) && !self.nouns.contains(stem)
    }
}

/// The stems of an entry. One that is written without blanks is one term, as prompts have it.
fn key_of(entry: &str, stems: &Stems) -> Box<[Box<str>]> {
    let entry = entry.trim();
    let words = words::split(entry, MAX_WORDS);
    if !entry.is_ascii() && words.iter().any(|word| word == entry) {
        return Box::new([entry.into()]);
    }
    words.iter().map(|word| stems.of(word).into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(phrase: &str) -> Vec<String> {
        let meaning = Aliases::built_in().meaning(phrase);
        let alternatives = meaning
            .map(|meaning| meaning.alternatives.as_slice())
            .unwrap_or_default();
        alternatives.iter().map(|it| it.terms.join(" ")).collect()
    }

    #[test]
    fn a_group_holds_in_all_directions_and_a_directed_line_in_one() {
        assert!(targets("delet").contains(&"remov".to_owned()));
        assert!(targets("remov").contains(&"delet".to_owned()));
        assert!(targets("get rid of").contains(&"delet".to_owned()));
        assert!(!targets("delet").contains(&"get rid of".to_owned()));
    }

    #[test]
    fn every_line_of_the_list_is_read() {
        for line in include_str!("aliases.txt").lines().map(str::trim) {
            let known = ["#", "= ", "~ ", "> ", "~v ", ">v "];
            assert!(
                line.is_empty() || known.iter().any(|start| line.starts_with(start)),
                "{line}"
            );
            let stems = Stems::new();
            for entry in line
                .trim_start_matches(['#', '=', '~', '>', 'v'])
                .split([',', ':'])
            {
                let key = key_of(entry, &stems);
                assert!(
                    line.starts_with('#') || line.is_empty() || !key.is_empty(),
                    "{line}: {entry}"
                );
                assert!(line.starts_with('#') || key.len() <= LONGEST, "{line}: {entry}");
            }
        }
    }

    #[test]
    fn chinese_entries_are_single_terms() {
        assert!(targets("创建").contains(&"creat".to_owned()));
    }

    #[test]
    fn words_of_doing_are_told_from_things() {
        let aliases = Aliases::built_in();
        assert!(aliases.is_verb("delet") && aliases.is_verb("list"));
        assert!(!aliases.is_verb("issu") && !aliases.is_verb("comment"));
    }
}
