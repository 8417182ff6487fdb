//! Keys by their digests: none is kept, none is printed, and looking one up takes equally long
//! whichever it is.

use http::{HeaderMap, HeaderName, header};
use ring::digest::SHA256;
use subtle::{ConditionallySelectable, ConstantTimeEq};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const SCHEME: &[u8] = b"bearer";

pub(super) struct KeyTable<T>(Vec<KeyEntry<T>>);

struct KeyEntry<T> {
    digest: [u8; 32],
    owner: T,
}

impl<T> Default for KeyTable<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> KeyTable<T> {
    pub(super) fn add(&mut self, digest: [u8; 32], owner: T) {
        self.0.push(KeyEntry { digest, owner });
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn owners(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|entry| &entry.owner)
    }

    /// The owner of a key. Compares with every one, in time that tells nothing of where they differ.
    pub(super) fn find(&self, key: &[u8]) -> Option<&T> {
        let digest = ring::digest::digest(&SHA256, key);
        let mut found = 0_u64;
        for (number, known) in (1_u64..).zip(&self.0) {
            found.conditional_assign(&number, known.digest.as_slice().ct_eq(digest.as_ref()));
        }
        let index = usize::try_from(found.checked_sub(1)?).ok()?;
        let found = self.0.get(index).filter(|_| !key.is_empty())?;
        Some(&found.owner)
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Presented<'a> {
    Nothing,
    Key(&'a [u8]),
    /// Something that is no key, or several.
    Unusable(&'static str),
}

/// The key of a request: `x-api-key`, or the bearer token of `Authorization` (RFC 6750 section 2.1).
/// The same key in both is one.
pub(super) fn presented_key(headers: &HeaderMap) -> Presented<'_> {
    let own = headers
        .get_all(API_KEY)
        .iter()
        .map(|value| Some(value.as_bytes()));
    let tokens = headers.get_all(header::AUTHORIZATION);
    let tokens = tokens.iter().map(|value| bearer(value.as_bytes()));
    let mut found: Option<&[u8]> = None;
    for key in own.chain(tokens) {
        match key.filter(|key| !key.is_empty()) {
            None => return Presented::Unusable("send a key as `x-api-key` or `Authorization: Bearer`"),
            Some(key) if found.is_some_and(|other| other != key) => {
                return Presented::Unusable("the request brings two different keys: send one");
            }
            Some(key) => found = Some(key),
        }
    }
    found.map_or(Presented::Nothing, Presented::Key)
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(SCHEME.len())?;
    let is_bearer = scheme.eq_ignore_ascii_case(SCHEME) && rest.first().is_none_or(|byte| *byte == b' ');
    is_bearer.then(|| rest.trim_ascii())
}

pub(super) fn digest_key(key: &str) -> Option<[u8; 32]> {
    ring::digest::digest(&SHA256, key.as_bytes())
        .as_ref()
        .try_into()
        .ok()
}

/// The digest that 64 hexadecimal digits write.
pub(super) fn parse_digest(text: &str) -> Option<[u8; 32]> {
    let nibble = |byte: u8| char::from(byte).to_digit(16).and_then(|it| u8::try_from(it).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes: Option<Vec<u8>> = pairs
        .iter()
        .map(|[high, low]| Some(nibble(*high)? << 4 | nibble(*low)?))
        .collect();
    bytes.filter(|_| rest.is_empty())?.try_into().ok()
}
