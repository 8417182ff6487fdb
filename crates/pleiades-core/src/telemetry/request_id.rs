//! Ids of requests: in the log, in answers, and in a header of every answer.

use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderName;

/// The header of every answer that carries the id of its request. A caller's own is never taken over.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Ids of requests: unique across processes by their random head, within one by their tail.
#[derive(Debug)]
pub struct RequestIds {
    head: String,
    count: AtomicU64,
}

impl Default for RequestIds {
    fn default() -> Self {
        use std::hash::{BuildHasher, RandomState};
        let head = format!("{:08x}", RandomState::new().hash_one(std::process::id()) >> 32);
        Self {
            head,
            count: AtomicU64::new(1),
        }
    }
}

impl RequestIds {
    /// The next id.
    pub fn next(&self) -> String {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        format!("{}-{number:x}", self.head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_ids_are_alike_in_one_process_or_two() {
        let (one, two) = (RequestIds::default(), RequestIds::default());
        let ids = [one.next(), one.next(), two.next(), two.next()];
        let different: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(different.len(), ids.len(), "{ids:?}");
    }
}
