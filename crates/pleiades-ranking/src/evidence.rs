//! Whether a prompt is about what operations do, as far as words tell.

use crate::prompt::Role;

/// Weights of a logistic regression over 300 prompts of 21 catalogues that have an operation, and 600 that
/// are far from theirs; rounded, for each of them to be read.
const EXACT: f32 = 0.3;
const ALIAS: f32 = 0.2;
const MISSING: f32 = -0.75;
const EVERYDAY: f32 = -1.7;
const KINDS: f32 = 2.0;
const IDIOMS: f32 = 1.7;
const VERB: f32 = 1.8;
const BEST: f32 = 1.9;
const COVERED: f32 = 3.0;
const NO_TOPIC: f32 = 0.7;
/// What all of it has to come to; below it less than one of thirty prompts has an operation.
const ENOUGH: f32 = -0.3;
/// Topics that are missing, and things of everyday life, beyond which more of them say no more.
const MOST_MISSING: f32 = 4.0;
const MOST_EVERYDAY: f32 = 2.0;

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

    /// `best`: what topics count in the operation that has most of them; `covered`: how much of its name
    /// the prompt has, of the operation of which it has most; both of 0 to 1.
    pub(crate) fn is_enough(&self, best: f32, covered: f32) -> bool {
        self.sum(best, covered) >= ENOUGH
    }

    fn sum(&self, best: f32, covered: f32) -> f32 {
        let when = |is: bool, value: f32| if is { value } else { 0.0 };
        EXACT * self.exact.min(1.5)
            + ALIAS * self.alias.min(1.0)
            + MISSING * self.missing.min(MOST_MISSING)
            + EVERYDAY * self.everyday.min(MOST_EVERYDAY)
            + KINDS * when(self.has_kind, 1.0)
            + IDIOMS * self.idioms
            + VERB * self.verb
            + BEST * best.min(1.5)
            + COVERED * covered
            + when(!self.has_topic, NO_TOPIC)
    }
}
