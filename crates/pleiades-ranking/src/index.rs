//! The operations of one list by their terms. Built once for each list, read by every prompt.

use std::collections::HashMap;

use crate::areas::Areas;
use crate::document::{Document, Field, ToolEffect, terms};
#[cfg(feature = "semantic")]
use crate::semantic::Embedding;
use crate::words::{self, Stems};

/// Operations of a list that are indexed.
const MAX_DOCUMENTS: usize = 8_192;
/// Terms of all operations together; the operation that reaches it is the last whose texts are read.
const MAX_TERMS: usize = 600_000;
/// How fast a term that stands in a document again and again stops to count (`k1` of BM25).
const SATURATION: f32 = 1.2;

/// The operations of one list by their terms.
#[derive(Debug, Default)]
pub struct Index {
    terms: HashMap<Box<str>, u32>,
    postings: Vec<Box<[Posting]>>,
    entries: Vec<Entry>,
    areas: Areas,
    /// Where each operation lies among texts.
    #[cfg(feature = "semantic")]
    embeddings: Vec<Embedding>,
}

/// That a term stands in a document.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Posting {
    pub(crate) document: u32,
    /// What it counts there, before its rarity.
    pub(crate) weight: f32,
    /// The fields that it stands in.
    pub(crate) fields: u8,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: Box<str>,
    /// Its shorter form; empty when it has none.
    pub(crate) short: Box<str>,
    /// The words of both in one, whichever way they were joined.
    pub(crate) joined: Box<str>,
    pub(crate) short_joined: Box<str>,
    pub(crate) effect: Option<ToolEffect>,
    /// Rarity of all words of its name.
    pub(crate) name_mass: f32,
}

impl Index {
    /// An index of these operations, in their order.
    #[must_use]
    pub fn of<'a>(documents: impl IntoIterator<Item = Document<'a>>) -> Self {
        let mut builder = IndexBuilder::default();
        for document in documents {
            builder.add(&document);
        }
        builder.build()
    }

    /// How many operations it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    #[cfg(feature = "semantic")]
    pub(crate) fn embeddings(&self) -> &[Embedding] {
        &self.embeddings
    }

    /// What its operations are about.
    pub(crate) const fn areas(&self) -> &Areas {
        &self.areas
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn term(&self, term: &str) -> Option<u32> {
        self.terms.get(term).copied()
    }

    pub(crate) fn postings(&self, term: u32) -> &[Posting] {
        usize::try_from(term)
            .ok()
            .and_then(|at| self.postings.get(at))
            .map(|postings| &**postings)
            .unwrap_or_default()
    }
}

/// How rare a term is that stands in so many of so many documents.
pub(crate) fn rarity(documents: usize, holding: usize) -> f32 {
    let documents = f32::from(u16::try_from(documents).unwrap_or(u16::MAX));
    let holding = f32::from(u16::try_from(holding).unwrap_or(u16::MAX));
    (1.0 + (documents - holding + 0.5).max(0.5) / (holding + 0.5)).ln()
}

pub(crate) fn saturated(weight: f32) -> f32 {
    weight * (SATURATION + 1.0) / (weight + SATURATION)
}

/// The fields of one document, as ids of terms.
type DocumentFields = [(Field, Vec<u32>); 6];

/// Makes an index of operations that come one at a time.
#[derive(Debug, Default)]
pub struct IndexBuilder {
    terms: HashMap<Box<str>, u32>,
    documents: Vec<DocumentFields>,
    entries: Vec<Entry>,
    read: usize,
    #[cfg(feature = "semantic")]
    embeddings: Vec<Embedding>,
}

impl IndexBuilder {
    /// Adds an operation; one beyond the most that an index holds is left out.
    pub fn add(&mut self, document: &Document<'_>) {
        if self.documents.len() >= MAX_DOCUMENTS {
            return;
        }
        let stems = Stems::new();
        let is_full = self.read >= MAX_TERMS;
        let fields = document.fields().map(|(field, texts)| {
            let is_read = !is_full || field == Field::Name;
            let found = if is_read {
                terms(&texts, field, &stems)
            } else {
                Vec::new()
            };
            self.read += found.len();
            (field, found.into_iter().map(|term| self.id(term)).collect())
        });
        #[cfg(feature = "semantic")]
        self.embeddings.push(Embedding::of(&document.passage()));
        self.documents.push(fields);
        self.entries.push(Entry {
            name: document.name.into(),
            short: document.short.into(),
            joined: joined(document.name),
            short_joined: joined(document.short),
            effect: document.tendency(),
            name_mass: 0.0,
        });
    }

    fn id(&mut self, term: String) -> u32 {
        let next = u32::try_from(self.terms.len()).unwrap_or(u32::MAX);
        *self.terms.entry(term.into_boxed_str()).or_insert(next)
    }

    /// The mean length of each field.
    fn means(&self) -> [f32; 6] {
        let count = self.documents.len().max(1);
        Field::ALL.map(|field| {
            let all = self.documents.iter().flatten().filter(|(it, _)| *it == field);
            let total: usize = all.map(|(_, terms)| terms.len()).sum();
            share(total, count)
        })
    }

    /// The index.
    #[must_use]
    pub fn build(self) -> Index {
        let means = self.means();
        let mut postings: Vec<Vec<Posting>> = vec![Vec::new(); self.terms.len()];
        for (at, fields) in self.documents.iter().enumerate() {
            let document = u32::try_from(at).unwrap_or(u32::MAX);
            let mut weights: HashMap<u32, (f32, u8)> = HashMap::new();
            for ((field, terms), mean) in fields.iter().zip(means) {
                let slope = field.slope();
                let length = 1.0 - slope + slope * share(terms.len(), 1) / mean.max(1e-6);
                for term in terms {
                    let entry = weights.entry(*term).or_default();
                    entry.0 += field.weight() / length;
                    entry.1 |= field.bit();
                }
            }
            for (term, (weight, fields)) in weights {
                let place = usize::try_from(term).ok().and_then(|term| postings.get_mut(term));
                place.into_iter().for_each(|place| {
                    place.push(Posting {
                        document,
                        weight: saturated(weight),
                        fields,
                    });
                });
            }
        }
        self.complete(postings)
    }

    fn complete(mut self, postings: Vec<Vec<Posting>>) -> Index {
        let count = self.documents.len();
        for (entry, fields) in self.entries.iter_mut().zip(&self.documents) {
            let mut names: Vec<u32> = fields
                .iter()
                .take(1)
                .flat_map(|(_, terms)| terms.iter().copied())
                .collect();
            names.sort_unstable();
            names.dedup();
            let holding = names
                .iter()
                .filter_map(|term| postings.get(usize::try_from(*term).ok()?));
            entry.name_mass = holding.map(|postings| rarity(count, postings.len())).sum();
        }
        let is_named = |id: &u32| {
            let postings = usize::try_from(*id).ok().and_then(|at| postings.get(at));
            let mut postings = postings.into_iter().flatten();
            postings.any(|posting| posting.fields & Field::Name.bit() != 0)
        };
        let named = self.terms.iter().filter(|(_, id)| is_named(id));
        let areas = Areas::of(named.map(|(term, _)| &**term));
        Index {
            areas,
            terms: self.terms,
            postings: postings.into_iter().map(Vec::into_boxed_slice).collect(),
            entries: self.entries,
            #[cfg(feature = "semantic")]
            embeddings: self.embeddings,
        }
    }
}

/// A name as its words without what joins them.
pub(crate) fn joined(name: &str) -> Box<str> {
    words::split(name, 64).concat().into()
}

fn share(part: usize, whole: usize) -> f32 {
    let plain = |count: usize| f32::from(u16::try_from(count).unwrap_or(u16::MAX));
    // Sums of lengths are larger than 16 bits: they are divided first.
    let whole = whole.max(1);
    let (full, rest) = (part / whole, part % whole);
    plain(full) + plain(rest) / plain(whole)
}
