//! Sealed ids: state that clients carry for us and can neither read nor change.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::RwLock;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Prk, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::SetOnce;

use crate::secret::Secret;

const SALT: &[u8] = b"pleiades seal 1";
const EXPIRY_LEN: usize = 8;
const TICKET_LEN: usize = 24;
/// Purposes whose keys are kept derived; there are about as many as providers.
const MAX_PURPOSES: usize = 4_096;
/// A token is a session id, or carries the state of a provider; anything longer is none of ours.
const MAX_TOKEN: usize = 1 << 20;

/// The keys of one purpose.
type Derived = (Box<str>, Arc<[LessSafeKey]>);

/// Seals and opens tokens under one or more keys: the first seals, all open.
pub struct Sealer {
    roots: SetOnce<Vec<Prk>>,
    derived: RwLock<Vec<Derived>>,
    random: SystemRandom,
}

impl Sealer {
    /// A sealer under these keys, of any length.
    #[must_use]
    pub fn new(keys: &[Secret]) -> Self {
        let sealer = Self::awaiting();
        sealer.arrive(keys);
        sealer
    }

    /// A sealer whose keys are still to come: until then it seals nothing, and nothing opens.
    #[must_use]
    pub fn awaiting() -> Self {
        Self {
            roots: SetOnce::new(),
            derived: RwLock::default(),
            random: SystemRandom::new(),
        }
    }

    /// Gives the keys to a sealer that waits for them; one that has some keeps them.
    pub fn arrive(&self, keys: &[Secret]) {
        let salt = Salt::new(HKDF_SHA256, SALT);
        let roots = keys
            .iter()
            .map(|key| salt.extract(key.expose().as_bytes()))
            .collect();
        self.roots.set(roots).ok();
    }

    /// Whether the keys are there.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.roots.initialized()
    }

    /// Returns once the keys are there.
    pub async fn ready(&self) {
        self.roots.wait().await;
    }

    /// Seals a payload for a purpose, bound to whom it is for; it opens until `expires_unix`
    /// (seconds). The token is visible ASCII.
    #[must_use]
    pub fn seal(&self, purpose: &str, binding: &str, expires_unix: u64, payload: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(self.seal_bytes(purpose, binding, expires_unix, payload))
    }

    /// As [`seal`](Self::seal), for payloads of any size that need not be text.
    #[must_use]
    pub fn seal_bytes(&self, purpose: &str, binding: &str, expires_unix: u64, payload: &[u8]) -> Vec<u8> {
        let keys = self.keys(purpose);
        let mut nonce = [0_u8; NONCE_LEN];
        // Without randomness or a key nothing is sealed; nothing opens for nobody.
        let (Some(key), Ok(())) = (keys.first(), self.random.fill(&mut nonce)) else {
            return Vec::new();
        };
        let expires = expires_unix.to_be_bytes();
        let mut whole = Vec::with_capacity(NONCE_LEN + EXPIRY_LEN + payload.len() + MAX_TAG_LEN);
        whole.extend_from_slice(&nonce);
        whole.extend_from_slice(&expires);
        whole.extend_from_slice(payload);
        let Some(sealed) = whole.get_mut(NONCE_LEN + EXPIRY_LEN..) else {
            return Vec::new();
        };
        let aad = Aad::from(bound(purpose, binding, expires));
        let Ok(tag) = key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad, sealed) else {
            return Vec::new();
        };
        whole.extend_from_slice(tag.as_ref());
        whole
    }

    /// A text that nobody can guess and that means nothing; needs no keys.
    #[must_use]
    pub fn ticket(&self) -> String {
        let mut bytes = [0_u8; TICKET_LEN];
        self.random.fill(&mut bytes).ok();
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Opens a token; `None` when it was tampered with, expired, or sealed for another purpose,
    /// another principal or under another key.
    #[must_use]
    pub fn open(&self, purpose: &str, binding: &str, now_unix: u64, token: &str) -> Option<Vec<u8>> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let whole = URL_SAFE_NO_PAD.decode(token).ok()?;
        self.open_bytes(purpose, binding, now_unix, &whole)
    }

    /// As [`open`](Self::open), for what [`seal_bytes`](Self::seal_bytes) sealed; the size is the
    /// caller's to bound.
    #[must_use]
    pub fn open_bytes(&self, purpose: &str, binding: &str, now_unix: u64, whole: &[u8]) -> Option<Vec<u8>> {
        let (nonce, rest) = whole.split_first_chunk::<NONCE_LEN>()?;
        let (expires, sealed) = rest.split_first_chunk::<EXPIRY_LEN>()?;
        if u64::from_be_bytes(*expires) <= now_unix {
            return None;
        }
        let keys = self.keys(purpose);
        keys.iter().find_map(|key| {
            let mut sealed = sealed.to_vec();
            let aad = Aad::from(bound(purpose, binding, *expires));
            let opened = key
                .open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut sealed)
                .ok()?;
            Some(opened.to_vec())
        })
    }

    /// One key per purpose and root, so that a token of one purpose is noise for another.
    fn keys(&self, purpose: &str) -> Arc<[LessSafeKey]> {
        if let Some((_, keys)) = self.derived.read().iter().find(|(known, _)| **known == *purpose) {
            return Arc::clone(keys);
        }
        let Some(roots) = self.roots.get() else {
            return Arc::default();
        };
        let keys: Arc<[LessSafeKey]> = roots.iter().filter_map(|root| derive(root, purpose)).collect();
        let mut derived = self.derived.write();
        if derived.len() >= MAX_PURPOSES {
            derived.clear();
        }
        derived.push((purpose.into(), Arc::clone(&keys)));
        keys
    }
}

fn derive(root: &Prk, purpose: &str) -> Option<LessSafeKey> {
    let info = [purpose.as_bytes()];
    let mut bytes = [0_u8; 32];
    root.expand(&info, HKDF_SHA256).ok()?.fill(&mut bytes).ok()?;
    UnboundKey::new(&AES_256_GCM, &bytes).ok().map(LessSafeKey::new)
}

/// Associated data: unambiguous for every purpose, principal and expiry.
fn bound(purpose: &str, binding: &str, expires: [u8; EXPIRY_LEN]) -> Vec<u8> {
    let mut data = Vec::with_capacity(16 + purpose.len() + binding.len());
    data.extend_from_slice(&(purpose.len() as u64).to_be_bytes());
    data.extend_from_slice(purpose.as_bytes());
    data.extend_from_slice(&expires);
    data.extend_from_slice(binding.as_bytes());
    data
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer")
            .field("keys", &self.roots.get().map(Vec::len))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(keys: &[&str]) -> Sealer {
        Sealer::new(&keys.iter().map(|key| Secret::new(*key)).collect::<Vec<_>>())
    }

    #[test]
    fn what_was_sealed_opens_for_the_same_purpose_and_principal_until_it_expires() {
        let sealer = sealer(&["one"]);
        let token = sealer.seal("session", "alice", 100, b"payload");
        assert_eq!(
            sealer.open("session", "alice", 99, &token).as_deref(),
            Some(&b"payload"[..])
        );
        assert_eq!(sealer.open("session", "alice", 100, &token), None);
        assert_eq!(sealer.open("session", "bob", 99, &token), None);
        assert_eq!(sealer.open("relay", "alice", 99, &token), None);
        assert!(token.len() < 128 && token.bytes().all(|byte| byte.is_ascii_graphic()));
    }

    #[test]
    fn any_changed_byte_makes_a_token_unknown() {
        let sealer = sealer(&["one"]);
        let token = sealer.seal("session", "alice", 100, b"payload");
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(
                changed == token || sealer.open("session", "alice", 0, &changed).is_none(),
                "byte {at}"
            );
        }
        for junk in ["", "A", "made-up", "session-1", &"A".repeat(10_000)] {
            assert_eq!(sealer.open("session", "alice", 0, junk), None);
        }
    }

    #[test]
    fn what_is_as_large_as_a_providers_state_may_be_opens_again_and_no_more() {
        let sealer = sealer(&["one"]);
        let opens = |bytes: usize| {
            let token = sealer.seal("state", "alice", 100, &vec![b'x'; bytes]);
            sealer.open("state", "alice", 0, &token).is_some()
        };
        assert!(opens(100 << 10) && opens(700 << 10) && !opens(1 << 20));
    }

    #[tokio::test]
    async fn keys_may_come_later_and_come_once() {
        let late = Sealer::awaiting();
        assert!(!late.is_ready() && late.seal("session", "alice", 100, b"x").is_empty());
        let token = sealer(&["one"]).seal("session", "alice", 100, b"x");
        assert_eq!(late.open("session", "alice", 0, &token), None);
        late.arrive(&[Secret::new("one")]);
        late.arrive(&[Secret::new("two")]);
        late.ready().await;
        assert!(late.is_ready() && late.open("session", "alice", 0, &token).is_some());
    }

    #[test]
    fn the_first_key_seals_and_all_open() {
        let old = sealer(&["old"]).seal("session", "alice", 100, b"x");
        let rotated = sealer(&["new", "old"]);
        assert!(rotated.open("session", "alice", 0, &old).is_some());
        let new = rotated.seal("session", "alice", 100, b"x");
        assert!(sealer(&["old"]).open("session", "alice", 0, &new).is_none());
        assert_ne!(new, rotated.seal("session", "alice", 100, b"x"));
    }
}
