//! The order of operations for a prompt: BM25 over weighted fields (Robertson and Zaragoza, "The
//! Probabilistic Relevance Framework", section 3.6), one unit of the prompt at a time, each by the best
//! of its alternatives.

use std::cmp::Ordering;

use crate::document::{Field, ToolEffect};
use crate::evidence::{Evidence, EvidenceBasis, UnitMatch};
use crate::index::{Entry, Index, Posting, rarity, saturated};
use crate::phrases::Phrases;
use crate::prompt::{Mood, Prompt, PromptUnit, Role};
use crate::words::{self, Stems};

/// What agreement of a prompt that asks, or does, with an operation that reads, or writes, counts.
const TENDENCY: f32 = 0.2;
/// What a name counts whose words all occur.
const COVERED_NAME: f32 = 0.8;
/// What a word counts of a provider's own name, where several are looked through.
const PROVIDER: f32 = 1.5;
/// Above all other scores: the prompt holds an operation's name, or a phrase of its descriptor.
const NAMED: f32 = 1e6;
const PHRASED: f32 = 1e3;
/// What most words of such a phrase count.
const PHRASE_IN_PART: f32 = 4.0;
/// Fields that tell what an operation is about.
const TELLING: u8 = Field::Name.bit() | Field::Sentence.bit() | Field::Description.bit() | Field::Value.bit();

/// The operations of one provider, and what it is called.
#[derive(Debug, Clone, Copy)]
pub struct RankScope<'a> {
    /// Its operations.
    pub index: &'a Index,
    /// Its id and title.
    pub name: &'a str,
    /// Other names of its operations.
    pub phrases: &'a Phrases,
}

/// An operation with its place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranked {
    /// Which of the scopes it is of.
    pub scope: usize,
    /// Which document of its index it is.
    pub document: usize,
    /// How well it fits; only to be compared within one ranking.
    pub score: f32,
}

/// Every operation, best first.
#[derive(Debug, Clone)]
pub struct Ranking {
    /// Every operation, best first; equal ones by name.
    pub order: Vec<Ranked>,
    /// Whether the prompt is about what these operations do, as far as words tell.
    pub is_match: bool,
    /// Whether it is a whole task: long, with several things to be done.
    pub has_many_goals: bool,
}

/// The order of all operations of these scopes for a prompt.
#[must_use]
pub fn rank(scopes: &[RankScope<'_>], prompt: &str) -> Ranking {
    let read = Prompt::read(prompt);
    let mut pass = Pass::new(scopes);
    for unit in &read.units {
        pass.add(unit);
    }
    pass.finish(&read, prompt)
}

/// Sums over the units of a prompt; documents of all scopes one behind the other.
#[derive(Debug)]
struct Pass<'a> {
    scopes: &'a [RankScope<'a>],
    /// The stems of each scope's name.
    called: Vec<Vec<String>>,
    /// How rare a term is that stands nowhere.
    rarest: f32,
    documents: usize,
    /// Of all units together.
    total: UnitScores,
    /// What topics count.
    topics: Vec<f32>,
    evidence: Evidence,
}

/// What documents count, as a whole and by the rarity of the words of their names.
#[derive(Debug)]
struct UnitScores {
    scores: Vec<f32>,
    named: Vec<f32>,
}

impl UnitScores {
    fn zero(documents: usize) -> Self {
        Self {
            scores: vec![0.0; documents],
            named: vec![0.0; documents],
        }
    }
}

/// Terms that stand for a unit together, and what they count.
struct TermGroup<'a> {
    terms: &'a mut dyn Iterator<Item = &'a str>,
    weight: f32,
}

impl<'a> Pass<'a> {
    fn new(scopes: &'a [RankScope<'a>]) -> Self {
        let documents = scopes.iter().map(|scope| scope.index.len()).sum();
        let stems = Stems::new();
        let called = |scope: &RankScope<'_>| {
            let words = words::split(scope.name, 16);
            words.iter().map(|word| stems.of(word).into_owned()).collect()
        };
        Self {
            scopes,
            called: scopes.iter().map(called).collect(),
            rarest: rarity(documents, 0),
            documents,
            total: UnitScores::zero(documents),
            topics: vec![0.0; documents],
            evidence: Evidence::default(),
        }
    }

    fn add(&mut self, unit: &PromptUnit) {
        let calls = |called: &Vec<String>| unit.own.iter().any(|own| called.contains(own));
        let is_called = self.called.iter().any(calls);
        if is_called && self.scopes.len() == 1 {
            return;
        }
        let (counts, mut found) = self.read(unit);
        if is_called {
            self.add_provider(unit);
            found.strength = 1.0;
        }
        let add = |sums: &mut [f32], values: &[f32], weight: f32| {
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum += weight * value;
            }
        };
        add(&mut self.total.scores, &counts.scores, unit.weight);
        add(&mut self.total.named, &counts.named, unit.weight);
        if matches!(unit.role, Role::Topic | Role::Everyday | Role::Incidental) {
            add(&mut self.topics, &counts.scores, 1.0 / self.rarest);
        }
        self.evidence.add(unit.role, found);
        self.add_area(unit);
    }

    /// How a word fits what the provider is about, where it is one.
    fn add_area(&mut self, unit: &PromptUnit) {
        let says = !matches!(unit.role, Role::Value | Role::Phrase);
        let ([scope], [.., stem], true) = (self.scopes, &*unit.own, says) else {
            return;
        };
        // That an address, a file or somebody is mentioned says little about the area.
        if unit.role == Role::Kind && matches!(&**stem, "url" | "file" | "email" | "user") {
            return;
        }
        let postings = scope.index.term(stem).map(|id| scope.index.postings(id));
        let mut postings = postings.into_iter().flatten();
        let is_named = postings.any(|posting| posting.fields & Field::Name.bit() != 0);
        self.evidence.add_area(scope.index.areas().fit(stem, is_named));
    }

    fn basis(&self, prompt: &Prompt) -> EvidenceBasis {
        match self.scopes {
            _ if !prompt.is_english => EvidenceBasis::OtherLanguage,
            [scope] if scope.index.areas().are_known() => EvidenceBasis::Areas,
            _ => EvidenceBasis::Words,
        }
    }

    /// What each document counts for a unit: by the best of what the unit may mean.
    fn read(&self, unit: &PromptUnit) -> (UnitScores, UnitMatch) {
        let mut counts = UnitScores::zero(self.documents);
        let mut found = UnitMatch::default();
        let mut own = unit.own.iter().map(String::as_str);
        if !unit.own.is_empty() {
            let reading = TermGroup {
                terms: &mut own,
                weight: 1.0,
            };
            self.read_one(reading, &mut counts, &mut found);
        }
        for alternative in unit.alternatives {
            let mut terms = alternative.terms.iter().map(|term| &**term);
            let reading = TermGroup {
                terms: &mut terms,
                weight: alternative.weight,
            };
            self.read_one(reading, &mut counts, &mut found);
        }
        found.rarity /= self.rarest;
        found.named /= self.rarest;
        (counts, found)
    }

    fn read_one(&self, reading: TermGroup<'_>, counts: &mut UnitScores, found: &mut UnitMatch) {
        let mut sums: Vec<(usize, f32)> = Vec::new();
        let mut has_several = false;
        for (number, term) in reading.terms.enumerate() {
            let lists = self.postings(term);
            let holding = lists.iter().map(|(_, postings)| postings.len()).sum();
            let worth = reading.weight * rarity(self.documents, holding);
            for (offset, posting) in lists
                .iter()
                .flat_map(|(at, list)| list.iter().map(move |it| (at, it)))
            {
                let at = offset + posting.document as usize;
                if posting.fields & TELLING != 0 {
                    found.strength = found.strength.max(reading.weight);
                    found.rarity = found.rarity.max(worth);
                }
                if posting.fields & Field::Name.bit() != 0 {
                    found.named = found.named.max(worth);
                    raise(&mut counts.named, at, worth);
                }
                let value = worth * posting.weight;
                sums.push((at, value));
            }
            has_several = number > 0;
        }
        if has_several {
            sums.sort_by_key(|(at, _)| *at);
            sums.dedup_by(|next, sum| {
                let is_same = next.0 == sum.0;
                sum.1 += if is_same { next.1 } else { 0.0 };
                is_same
            });
        }
        for (at, value) in sums {
            raise(&mut counts.scores, at, value);
        }
    }

    /// The documents that hold a term, by scope, with the place where the scope begins.
    fn postings(&self, term: &str) -> Vec<(usize, &'a [Posting])> {
        let mut offset = 0;
        let mut lists = Vec::new();
        for scope in self.scopes {
            lists.extend(
                scope
                    .index
                    .term(term)
                    .map(|id| (offset, scope.index.postings(id))),
            );
            offset += scope.index.len();
        }
        lists
    }

    /// All documents of the providers that a unit names.
    fn add_provider(&mut self, unit: &PromptUnit) {
        let is_of = |called: &Vec<String>| unit.own.iter().any(|own| called.contains(own));
        let meant: Vec<bool> = self.called.iter().map(is_of).collect();
        let sizes = self.scopes.iter().map(|scope| scope.index.len());
        let holding = sizes
            .clone()
            .zip(&meant)
            .filter(|(_, is)| **is)
            .map(|(size, _)| size)
            .sum();
        let value = unit.weight * rarity(self.documents, holding) * saturated(PROVIDER);
        let mut scores = self.total.scores.iter_mut();
        for (size, is_meant) in sizes.zip(meant) {
            for score in scores.by_ref().take(size) {
                *score += if is_meant { value } else { 0.0 };
            }
        }
    }

    /// The order of all documents; `text` is the whole prompt.
    fn finish(self, prompt: &Prompt, text: &str) -> Ranking {
        let (scores, most_covered) = self.scores(prompt.mood);
        let basis = self.basis(prompt);
        let mut scores = fused(self.scopes, text, scores).into_iter();
        let mut is_named = false;
        let mut order = Vec::with_capacity(self.documents);
        for (number, scope) in self.scopes.iter().enumerate() {
            for (document, entry) in scope.index.entries().iter().enumerate() {
                let bonus = bonus(entry, scope.phrases, prompt);
                is_named |= bonus >= PHRASED;
                let ranked = Ranked {
                    scope: number,
                    document,
                    score: scores.next().unwrap_or_default() + bonus,
                };
                order.push((ranked, &*entry.name));
            }
        }
        order.sort_unstable_by(in_order);
        let best = self.topics.iter().copied().fold(0.0, f32::max);
        Ranking {
            order: order.into_iter().map(|(ranked, _)| ranked).collect(),
            has_many_goals: prompt.has_many_goals,
            is_match: is_named || self.evidence.is_enough(best, most_covered, basis),
        }
    }

    /// What each document counts by its words, and how much of a name the prompt has at most.
    fn scores(&self, mood: Mood) -> (Vec<f32>, f32) {
        let wanted = match mood {
            Mood::Asks => ToolEffect::Read,
            Mood::Does => ToolEffect::Write,
        };
        let mut most_covered = 0.0_f32;
        let entries = self.scopes.iter().flat_map(|scope| scope.index.entries());
        let sums = self.total.scores.iter().zip(&self.total.named);
        let score = |(entry, (score, named)): (&Entry, (&f32, &f32))| {
            let covered = (named / entry.name_mass.max(f32::MIN_POSITIVE)).min(1.0);
            most_covered = most_covered.max(covered);
            score * (1.0 + COVERED_NAME * covered) * agreement(entry.effect, wanted)
        };
        let scores = entries.zip(sums).map(score).collect();
        (scores, most_covered)
    }
}

/// The scores of words alone.
#[cfg(not(feature = "semantic"))]
const fn fused(_: &[RankScope<'_>], _: &str, words: Vec<f32>) -> Vec<f32> {
    words
}

/// The scores of words and of meanings as one.
#[cfg(feature = "semantic")]
fn fused(scopes: &[RankScope<'_>], text: &str, words: Vec<f32>) -> Vec<f32> {
    let asked = crate::semantic::Embedding::of(text);
    let known = scopes.iter().flat_map(|scope| scope.index.embeddings());
    let meanings: Vec<f32> = known.map(|embedding| asked.similarity(embedding)).collect();
    crate::semantic::fuse(&words, &meanings)
}

fn raise(values: &mut [f32], at: usize, value: f32) {
    if let Some(known) = values.get_mut(at) {
        *known = known.max(value);
    }
}

const fn agreement(effect: Option<ToolEffect>, wanted: ToolEffect) -> f32 {
    match (effect, wanted) {
        (None, _) => 1.0,
        (Some(ToolEffect::Read), ToolEffect::Read) | (Some(ToolEffect::Write), ToolEffect::Write) => {
            1.0 + TENDENCY
        }
        _ => 1.0 - TENDENCY,
    }
}

/// Of an operation that the prompt names, or that its descriptor gives a phrase of the prompt.
fn bonus(entry: &Entry, phrases: &Phrases, prompt: &Prompt) -> f32 {
    let is_named_by = |name: &str, joined: &str| {
        let is_compound = name.len() > joined.len() || name.contains(char::is_uppercase);
        prompt.names.contains(name) || (is_compound && prompt.joined.contains(joined))
    };
    if is_named_by(&entry.name, &entry.joined) || is_named_by(&entry.short, &entry.short_joined) {
        return NAMED;
    }
    match phrases.share([&entry.name, &entry.short], &prompt.stems) {
        share if share >= 1.0 => PHRASED,
        share => PHRASE_IN_PART * share,
    }
}

fn in_order(one: &(Ranked, &str), other: &(Ranked, &str)) -> Ordering {
    let by_score = other.0.score.total_cmp(&one.0.score);
    by_score
        .then_with(|| one.1.cmp(other.1))
        .then_with(|| one.0.scope.cmp(&other.0.scope))
        .then_with(|| one.0.document.cmp(&other.0.document))
}
