//! A result as it is kept, and as it is written for other replicas.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use pleiades_mcp::{RawObject, Revision};

/// Largest answer that the cache keeps, in bytes.
const MAX_ANSWER: usize = 2 << 20;
/// What a member takes beside its text, in bytes.
const MEMBER: usize = 64;

/// A provider's result, whole and as it came, and what it takes to answer with it.
#[derive(Debug, Clone)]
pub(crate) struct StoredResult {
    /// The name of the operation in the catalogue, then others that rules may go by.
    pub(crate) tools: Vec<Box<str>>,
    /// The tool that the call named through it, where it runs others.
    pub(crate) named: Option<Box<str>>,
    /// The account that made the call; `None` where the provider keeps none.
    pub(crate) account: Option<Arc<str>>,
    /// Fingerprint of that account, or of the key that its caller brought.
    pub(crate) fingerprint: Option<[u8; 32]>,
    /// Tokens of a page, where it was cut: pages are made anew and fit together within one budget alone.
    pub(crate) budget: Option<usize>,
    /// The revision that the call was made in.
    pub(crate) revision: Revision,
    /// The result.
    pub(crate) result: Arc<RawObject>,
}

/// What is written beside a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordTimes {
    /// When it was kept, and until when (Unix, seconds).
    pub(super) at: u64,
    pub(super) until: u64,
}

#[derive(Serialize, Deserialize)]
struct ResultRecord<'a> {
    #[serde(borrow)]
    tools: Vec<Cow<'a, str>>,
    #[serde(borrow, default)]
    named: Option<Cow<'a, str>>,
    #[serde(borrow)]
    account: Option<Cow<'a, str>>,
    fingerprint: Option<[u8; 32]>,
    budget: Option<usize>,
    #[serde(borrow)]
    revision: Cow<'a, str>,
    at: u64,
    until: u64,
    stamp: Vec<u8>,
    result: Cow<'a, RawObject>,
}

impl StoredResult {
    /// Whether a result is small enough for the cache.
    pub(crate) fn may_be_cached(result: &RawObject) -> bool {
        size(result) <= MAX_ANSWER
    }

    /// What it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let result = size(&self.result);
        let tools: usize = self.tools.iter().map(|name| name.len()).sum();
        let named = self.named.as_ref().map_or(0, |name| name.len());
        result + tools + named + self.account.as_ref().map_or(0, |account| account.len())
    }

    /// For other replicas; `stamp`: what its owner's changes were up to.
    pub(super) fn to_bytes(&self, times: RecordTimes, stamp: &[u8]) -> Vec<u8> {
        let record = ResultRecord {
            tools: self.tools.iter().map(|name| Cow::Borrowed(&**name)).collect(),
            named: self.named.as_deref().map(Cow::Borrowed),
            account: self.account.as_deref().map(Cow::Borrowed),
            fingerprint: self.fingerprint,
            budget: self.budget,
            revision: self.revision.as_str().into(),
            at: times.at,
            until: times.until,
            stamp: stamp.to_vec(),
            result: Cow::Borrowed(&self.result),
        };
        serde_json::to_vec(&record).unwrap_or_default()
    }

    /// The result, its times and its stamp; `None` of what another release wrote in another form.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<(Self, RecordTimes, Vec<u8>)> {
        let record: ResultRecord<'_> = serde_json::from_slice(bytes).ok()?;
        let result = Self {
            tools: record.tools.into_iter().map(|name| name.into()).collect(),
            named: record.named.map(|name| name.into()),
            account: record.account.as_deref().map(Arc::from),
            fingerprint: record.fingerprint,
            budget: record.budget,
            revision: Revision::parse(&record.revision)?,
            result: Arc::new(record.result.into_owned()),
        };
        let times = RecordTimes {
            at: record.at,
            until: record.until,
        };
        Some((result, times, record.stamp))
    }
}

fn size(result: &RawObject) -> usize {
    let members = result.iter();
    members
        .map(|(key, value)| key.len() + value.get().len() + MEMBER)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_comes_back_to_the_byte_and_what_is_none_does_not() {
        let result =
            r#"{"content":[ {"type":"text","text":"a\u0062\"\n"} ],"n":1.00,"big":123456789012345678901234}"#;
        let stored = StoredResult {
            tools: vec!["list".into()],
            named: Some("get_a".into()),
            account: Some("ann".into()),
            fingerprint: Some([7; 32]),
            budget: Some(2_000),
            revision: Revision::V2025_11_25,
            result: Arc::new(serde_json::from_str(result).unwrap()),
        };
        let times = RecordTimes { at: 5, until: 65 };
        let bytes = stored.to_bytes(times, b"stamp");
        let (back, read, stamp) = StoredResult::from_bytes(&bytes).unwrap();
        assert_eq!(
            (back.result.close().get(), read, &*stamp),
            (result, times, &b"stamp"[..])
        );
        assert_eq!(
            (&back.tools, &back.account, back.fingerprint, back.revision),
            (
                &stored.tools,
                &stored.account,
                stored.fingerprint,
                stored.revision
            )
        );
        assert_eq!((back.budget, &back.named), (stored.budget, &stored.named));
        assert!(stored.bytes() > result.len() / 2);
        assert!(StoredResult::from_bytes(&bytes[..bytes.len() - 1]).is_none());
        assert!(StoredResult::from_bytes(b"{}").is_none());
    }
}
