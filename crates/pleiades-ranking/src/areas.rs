//! Areas of work: which of them a provider's operations are about, and which a word of a prompt is of.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::words::Stems;

/// Words of an area in names of operations with which they are about it, or touch it.
const ABOUT: u16 = 3;
const TOUCHED: u16 = 2;

/// The words of all areas, by stem, with the areas that they are of.
#[derive(Debug, Default)]
struct AreaWords {
    areas: HashMap<Box<str>, Vec<usize>>,
    count: usize,
}

impl AreaWords {
    fn built_in() -> &'static Self {
        static BUILT_IN: LazyLock<AreaWords> = LazyLock::new(|| AreaWords::read(include_str!("areas.txt")));
        &BUILT_IN
    }

    fn read(list: &str) -> Self {
        let stems = Stems::new();
        let mut read = Self::default();
        for line in list.lines().filter(|line| !line.starts_with('#')) {
            let continued = line.strip_prefix("+ ");
            read.count += usize::from(continued.is_none());
            for word in continued.unwrap_or(line).split_whitespace() {
                let of = read.areas.entry(stems.of(word).into()).or_default();
                let area = read.count.saturating_sub(1);
                if !of.contains(&area) {
                    of.push(area);
                }
            }
        }
        read
    }
}

/// How a word of a prompt fits what a provider is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AreaMatch {
    /// It is a word of no area.
    Unknown,
    /// Of one that names of operations are not about.
    Missing,
    /// Of one that names touch.
    Touched,
    /// Of one that names are not about, though the word itself stands in one.
    Chance,
    /// Of one that the provider is about.
    About,
}

/// How many words of each area stand in names of operations.
#[derive(Debug, Clone, Default)]
pub(crate) struct Areas(Box<[u16]>);

impl Areas {
    /// Of the stems in names, each once.
    pub(crate) fn of<'a>(named: impl Iterator<Item = &'a str>) -> Self {
        let known = AreaWords::built_in();
        let mut counts = vec![0_u16; known.count];
        for area in named.filter_map(|stem| known.areas.get(stem)).flatten() {
            counts
                .iter_mut()
                .skip(*area)
                .take(1)
                .for_each(|count| *count = count.saturating_add(1));
        }
        Self(counts.into())
    }

    /// Whether they are about any area that is known; else areas say nothing of them.
    pub(crate) fn are_known(&self) -> bool {
        self.0.iter().any(|count| *count >= ABOUT)
    }

    /// `is_named`: the word itself stands in a name.
    pub(crate) fn fit(&self, stem: &str, is_named: bool) -> AreaMatch {
        let Some(areas) = AreaWords::built_in().areas.get(stem) else {
            return AreaMatch::Unknown;
        };
        match areas.iter().filter_map(|area| self.0.get(*area)).max() {
            Some(&most) if most >= ABOUT => AreaMatch::About,
            Some(&TOUCHED) => AreaMatch::Touched,
            _ if is_named => AreaMatch::Chance,
            _ => AreaMatch::Missing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_is_about_an_area_when_several_of_its_words_are_in_names() {
        let music = Areas::of(["play", "song", "playlist", "album", "order"].into_iter());
        assert!(music.are_known());
        assert_eq!(music.fit("track", false), AreaMatch::About);
        assert_eq!(music.fit("invoic", false), AreaMatch::Missing);
        assert_eq!(music.fit("order", true), AreaMatch::Chance);
        assert_eq!(music.fit("xylophon", false), AreaMatch::Unknown);
        assert!(!Areas::of(["weather", "song"].into_iter()).are_known());
    }
}
