//! Whether a prompt is about what operations do, as far as words tell.

use crate::areas::AreaMatch;
use crate::prompt::Role;

/// Weights of a logistic regression; rounded, for each of them to be read.
#[derive(Debug)]
struct EvidenceWeights {
    exact: f32,
    alias: f32,
    missing: f32,
    everyday: f32,
    kinds: f32,
    idioms: f32,
    verb: f32,
    best: f32,
    covered: f32,
    no_topic: f32,
    /// What all of it has to come to; below it less than one of thirty prompts has an operation.
    enough: f32,
}

/// Over 300 prompts of 21 catalogues that have an operation, and 600 that are far from theirs.
const BY_WORDS: EvidenceWeights = EvidenceWeights {
    exact: 0.3,
    alias: 0.2,
    missing: -0.75,
    everyday: -1.7,
    kinds: 2.0,
    idioms: 1.7,
    verb: 1.8,
    best: 1.9,
    covered: 3.0,
    no_topic: 0.7,
    enough: -0.3,
};
/// Beside areas: over the same, and 900 prompts that are meant for another provider.
const BY_AREAS: EvidenceWeights = EvidenceWeights {
    exact: 0.0,
    alias: 0.0,
    missing: -0.3,
    everyday: -1.5,
    kinds: 0.8,
    idioms: 2.4,
    verb: 1.6,
    best: 1.6,
    covered: 1.5,
    no_topic: 0.0,
    enough: -3.9,
};
/// What a word counts of an area that the provider is not about, or only touches.
const FOREIGN: f32 = -2.0;
const TOUCHED: f32 = -2.2;
/// That no word is of an area at all, and that all of them are of foreign ones.
const NO_AREA: f32 = -4.0;
const ALL_FOREIGN: f32 = -3.7;
/// Topics that are missing, things of everyday life, and words of an area, beyond which more say no more.
const MOST_MISSING: f32 = 4.0;
const MOST_EVERYDAY: f32 = 2.0;
const MOST_OF_AREA: f32 = 2.0;

/// What evidence is judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EvidenceBasis {
    /// Words, and what the provider is about.
    Areas,
    /// Words alone: what the provider is about is not known.
    Words,
    /// Words that operations hardly have: all that are missing count as one.
    OtherLanguage,
}

/// What was found of one unit, each of 0 to 1: 1 is the rarest term.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct UnitMatch {
    /// Weight of the best alternative that stands in a text of an operation; 1 is the word itself.
    pub(crate) strength: f32,
    /// How rare what was found is.
    pub(crate) rarity: f32,
    /// The same of what stands in names.
    pub(crate) named: f32,
}

/// What speaks for and against a prompt being about these operations.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Evidence {
    exact: f32,
    alias: f32,
    missing: f32,
    everyday: f32,
    has_kind: bool,
    idioms: f32,
    verb: f32,
    has_topic: bool,
    foreign: f32,
    touched: f32,
    is_about: bool,
}

impl Evidence {
    pub(crate) fn add(&mut self, role: Role, found: UnitMatch) {
        let is_found = found.strength > 0.0;
        match role {
            Role::Verb => self.verb = self.verb.max(found.named),
            Role::Phrase => self.idioms += found.named,
            Role::Kind => self.has_kind |= is_found,
            Role::Incidental if !is_found => {}
            Role::Topic | Role::Everyday | Role::Incidental => {
                self.has_topic = true;
                match found.strength {
                    it if it >= 1.0 => self.exact += found.rarity,
                    it if it > 0.0 => self.alias += found.rarity,
                    _ => self.missing += 1.0,
                }
                if role == Role::Everyday && !is_found {
                    self.everyday += 1.0;
                }
            }
            Role::Value => {}
        }
    }

    /// How a word fits what the provider is about.
    pub(crate) const fn add_area(&mut self, fit: AreaMatch) {
        match fit {
            AreaMatch::About => self.is_about = true,
            AreaMatch::Touched => self.touched += 1.0,
            AreaMatch::Missing => self.foreign += 1.0,
            AreaMatch::Chance | AreaMatch::Unknown => {}
        }
    }

    /// `best`: what topics count in the operation that has most of them; `covered`: how much of its name
    /// the prompt has, of the operation of which it has most; both of 0 to 1.
    pub(crate) fn is_enough(&self, best: f32, covered: f32, basis: EvidenceBasis) -> bool {
        match basis {
            EvidenceBasis::Areas => self.sum(&BY_AREAS, best, covered) + self.areas() >= BY_AREAS.enough,
            EvidenceBasis::Words => self.sum(&BY_WORDS, best, covered) >= BY_WORDS.enough,
            EvidenceBasis::OtherLanguage => {
                let missing = self.missing.min(1.0);
                let once = Self { missing, ..*self };
                once.sum(&BY_WORDS, best, covered) >= BY_WORDS.enough
            }
        }
    }

    fn areas(&self) -> f32 {
        let none = match (self.is_about || self.touched > 0.0, self.foreign > 0.0) {
            (true, _) => 0.0,
            (false, true) => ALL_FOREIGN,
            (false, false) => NO_AREA,
        };
        none + FOREIGN * self.foreign.min(MOST_OF_AREA) + TOUCHED * self.touched.min(MOST_OF_AREA)
    }

    fn sum(&self, weights: &EvidenceWeights, best: f32, covered: f32) -> f32 {
        let when = |is: bool, value: f32| if is { value } else { 0.0 };
        weights.exact * self.exact.min(1.5)
            + weights.alias * self.alias.min(1.0)
            + weights.missing * self.missing.min(MOST_MISSING)
            + weights.everyday * self.everyday.min(MOST_EVERYDAY)
            + weights.kinds * when(self.has_kind, 1.0)
            + weights.idioms * self.idioms
            + weights.verb * self.verb
            + weights.best * best.min(1.5)
            + weights.covered * covered
            + when(!self.has_topic, weights.no_topic)
    }
}
