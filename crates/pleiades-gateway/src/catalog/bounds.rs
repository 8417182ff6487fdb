//! How much memory the lists of a provider may take: their length is the provider's choice.

use std::sync::atomic::{AtomicUsize, Ordering};

use pleiades_mcp::RawObject;

/// Largest definition that is kept, in bytes.
pub(super) const ENTRY: usize = 256 * 1024;
/// Largest page that is opened, and what all pages of one list may come to, in bytes.
pub(super) const PAGE: usize = 8 << 20;
pub(super) const READ: usize = 32 << 20;
/// Templates that are kept of one provider: each is compared with what no list names.
pub(super) const TEMPLATES: usize = 1_000;
/// What it takes to hold one member of an entry beside its text, and one entry, in bytes.
const MEMBER: usize = 64;
const HEAD: usize = 320;

/// What is kept of one provider, in bytes of memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct MemoryBounds {
    pub(super) list: usize,
    /// All lists of one reading.
    pub(super) lists: usize,
    /// All lists of all accounts.
    pub(super) accounts: usize,
}

impl MemoryBounds {
    /// Of a provider that a descriptor names: below 64 MiB with what a reading takes beside it.
    pub(super) const NAMED: Self = Self {
        list: 4 << 20,
        lists: 8 << 20,
        accounts: 16 << 20,
    };
    /// Of a server that a caller connected, who may have sixteen.
    pub(super) const GUEST: Self = Self {
        list: 1 << 20,
        lists: 1 << 20,
        accounts: 2 << 20,
    };
}

/// What it takes to keep an entry, in bytes.
pub(super) fn cost(entry: &RawObject) -> usize {
    let members = entry
        .iter()
        .map(|(key, value)| key.len() + value.get().len() + MEMBER);
    // A tool's schema is kept once more by itself.
    let schema = entry.get("inputSchema").map_or(0, |schema| schema.get().len());
    members.sum::<usize>() + schema + HEAD
}

#[derive(Debug)]
pub(super) struct ByteBudget(AtomicUsize);

impl ByteBudget {
    pub(super) const fn new(bytes: usize) -> Self {
        Self(AtomicUsize::new(bytes))
    }

    /// Takes so much; false when it is not there.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let less = |left: usize| left.checked_sub(bytes);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .is_ok()
    }
}

/// What was left out of lists, and why: the first few in words, the rest counted.
#[derive(Debug, Clone, Default)]
pub(super) struct LeftOut {
    reasons: Vec<String>,
    more: usize,
}

impl LeftOut {
    const REASONS: usize = 20;
    /// Longest reason that `/providers` shows, in characters.
    const LONGEST: usize = 400;

    pub(super) fn add(&mut self, why: String) {
        if self.reasons.len() < Self::REASONS && !self.reasons.contains(&why) {
            self.reasons.push(why);
        } else {
            self.more += 1;
        }
    }

    pub(super) fn append(&mut self, other: Self) {
        self.more += other.more;
        for why in other.reasons {
            self.add(why);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.reasons.is_empty()
    }

    pub(super) fn not_in<'a>(&'a self, old: &'a Self) -> impl Iterator<Item = &'a String> {
        self.reasons.iter().filter(|why| !old.reasons.contains(why))
    }

    /// The reason that `/providers` gives; `None` when nothing was left out.
    pub(super) fn reason(&self) -> Option<String> {
        if self.is_empty() {
            return None;
        }
        let mut reason = String::new();
        let mut shown = 0;
        for why in &self.reasons {
            let so_far = reason.chars().count();
            if shown > 0 && so_far + why.chars().count() > Self::LONGEST {
                break;
            }
            reason.push_str(if shown > 0 { "; " } else { "" });
            reason.extend(why.chars().take(Self::LONGEST));
            shown += 1;
        }
        let more = self.reasons.len() - shown + self.more;
        if more > 0 {
            reason.push_str(&format!("; and {more} more"));
        }
        Some(reason)
    }

    /// Each in a sentence, the last one for those that are only counted.
    pub(super) fn into_sentences(self) -> Vec<String> {
        let mut reasons = self.reasons;
        if self.more > 0 {
            reasons.push(format!("{} more entries were left out", self.more));
        }
        reasons
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_out_is_named_shortly_and_counted() {
        let mut left = LeftOut::default();
        assert_eq!(left.reason(), None);
        left.add("one".to_owned());
        left.add("two".to_owned());
        assert_eq!(left.reason().as_deref(), Some("one; two"));
        for at in 0..1_000 {
            left.add(format!("{at}: {}", "x".repeat(100)));
        }
        let reason = left.reason().unwrap();
        assert!(
            reason.chars().count() < 500 && reason.ends_with(" more"),
            "{reason}"
        );
        assert_eq!(left.into_sentences().len(), LeftOut::REASONS + 1);
    }

    #[test]
    fn room_is_taken_once() {
        let room = ByteBudget::new(100);
        assert!(room.take(60) && !room.take(60) && room.take(40) && !room.take(1));
    }
}
