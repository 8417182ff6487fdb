//! Sessions that have ended: a bounded memory by digest.

use std::collections::{BTreeSet, HashMap};

use super::wire::SessionEnd;

/// Ended sessions that are remembered; beyond it the ones that would expire first are forgotten.
pub(super) const MAX_ENDED: usize = 65_536;

/// Digests of ended sessions until the sessions would have expired.
#[derive(Debug, Default)]
pub(super) struct EndedDigests {
    until: HashMap<[u8; 32], u64>,
    by_expiry: BTreeSet<(u64, [u8; 32])>,
}

impl EndedDigests {
    /// Whether it was not known before; what has expired is not remembered.
    pub(super) fn insert(&mut self, (digest, expires): SessionEnd, now_unix: u64) -> bool {
        self.forget_expired(now_unix);
        if expires <= now_unix || self.until.contains_key(&digest) {
            return false;
        }
        if self.until.len() >= MAX_ENDED
            && let Some((_, first)) = self.by_expiry.pop_first()
        {
            self.until.remove(&first);
        }
        self.until.insert(digest, expires);
        self.by_expiry.insert((expires, digest));
        true
    }

    pub(super) fn contains(&self, digest: &[u8; 32]) -> bool {
        self.until.contains_key(digest)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = SessionEnd> {
        self.by_expiry.iter().map(|(expires, digest)| (*digest, *expires))
    }

    /// When the last of them expires.
    pub(super) fn last(&self) -> Option<u64> {
        self.by_expiry.last().map(|(expires, _)| *expires)
    }

    fn forget_expired(&mut self, now_unix: u64) {
        while let Some((expires, digest)) = self.by_expiry.first().copied()
            && expires <= now_unix
        {
            self.by_expiry.pop_first();
            self.until.remove(&digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: usize) -> [u8; 32] {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&number.to_be_bytes());
        digest
    }

    #[test]
    fn an_end_is_new_once_and_forgotten_when_it_expires() {
        let mut ended = EndedDigests::default();
        assert!(ended.insert((digest(1), 10), 5));
        assert!(!ended.insert((digest(1), 10), 5));
        assert!(!ended.insert((digest(2), 5), 5), "it has expired");
        assert!(ended.contains(&digest(1)) && !ended.contains(&digest(2)));
        assert!(ended.insert((digest(3), 20), 10));
        assert!(!ended.contains(&digest(1)));
        assert_eq!(ended.iter().collect::<Vec<_>>(), [(digest(3), 20)]);
        assert_eq!(ended.last(), Some(20));
    }

    #[test]
    fn a_full_memory_forgets_what_would_expire_first() {
        let mut ended = EndedDigests::default();
        for number in 0..=MAX_ENDED {
            assert!(ended.insert((digest(number), 1_000 + number as u64), 0));
        }
        assert_eq!(ended.iter().count(), MAX_ENDED);
        assert!(!ended.contains(&digest(0)) && ended.contains(&digest(MAX_ENDED)));
    }
}
