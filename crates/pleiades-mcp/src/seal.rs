//! Sealed ids: state that clients carry for us and can neither read nor change.

use std::{fmt, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Prk, Salt};
use ring::hmac;
use tokio::sync::SetOnce;
use zeroize::Zeroizing;

use pleiades_core::{bounded::Bounded, random, secret::Secret};

const SALT: &[u8] = b"pleiades seal 1";
/// With a purpose, the HKDF info from which keys are derived.
const SALTED: &[u8] = b"pleiades seal 2 ";
/// The same for the keys that names are made with.
const NAMED: &[u8] = b"pleiades name 1 ";
const EXPIRY_LEN: usize = 8;
const TICKET_LEN: usize = 24;
/// Purposes whose keys are kept derived; there are about as many as providers.
const MAX_PURPOSES: usize = 4_096;
/// A token is a session id, or carries the state of a provider; anything longer is none of ours.
const MAX_TOKEN: usize = 1 << 20;

struct Purpose {
    /// Gives each principal a key for each second that seals end in: with random nonces 2^32 seals may
    /// be made under one key (NIST SP 800-38D section 8.3), and nobody is made so many that end together.
    salted: Prk,
    /// Opens what earlier releases sealed, for all principals and times alike.
    plain: LessSafeKey,
}

/// Seals and opens tokens under one or more keys: the first seals, all open.
pub struct Sealer {
    roots: SetOnce<Vec<Prk>>,
    derived: Bounded<Box<str>, Arc<[Purpose]>>,
}

impl Sealer {
    /// A sealer under these keys; how long they are has been looked at where they come from.
    #[must_use]
    pub fn new(keys: &[Secret]) -> Self {
        let sealer = Self::without_keys();
        sealer.set_keys(keys);
        sealer
    }

    /// A sealer without keys yet: until [`set_keys`](Self::set_keys) it seals nothing, and nothing opens.
    #[must_use]
    pub fn without_keys() -> Self {
        Self {
            roots: SetOnce::new(),
            derived: Bounded::new(MAX_PURPOSES),
        }
    }

    /// Gives the keys to a sealer that waits for them; one that has some keeps them.
    pub fn set_keys(&self, keys: &[Secret]) {
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
        let expires = expires_unix.to_be_bytes();
        let own = keys
            .first()
            .and_then(|it| key(&it.salted, &[&expires, binding.as_bytes()]));
        // Without randomness or a key nothing is sealed; nothing opens for nobody.
        let (Some(key), Ok(nonce)) = (own, random::bytes::<NONCE_LEN>()) else {
            return Vec::new();
        };
        let head = NONCE_LEN + EXPIRY_LEN;
        let mut whole = Vec::with_capacity(head + payload.len() + MAX_TAG_LEN);
        whole.extend_from_slice(&nonce);
        whole.extend_from_slice(&expires);
        whole.extend_from_slice(payload);
        let Some(sealed) = whole.get_mut(head..) else {
            return Vec::new();
        };
        let aad = Aad::from(bound(purpose, binding, expires));
        let Ok(tag) = key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad, sealed) else {
            return Vec::new();
        };
        whole.extend_from_slice(tag.as_ref());
        whole
    }

    /// When a token ends, in unix seconds, as it says itself: to be believed once it opens.
    #[must_use]
    pub fn expiry(token: &str) -> Option<u64> {
        let head = token.get(..(NONCE_LEN + EXPIRY_LEN).div_ceil(3) * 4)?;
        let bytes = URL_SAFE_NO_PAD.decode(head).ok()?;
        let expires = bytes.get(NONCE_LEN..NONCE_LEN + EXPIRY_LEN)?;
        Some(u64::from_be_bytes(expires.try_into().ok()?))
    }

    /// A text that nobody can guess and that means nothing; needs no keys.
    #[must_use]
    pub fn ticket(&self) -> String {
        random::token::<TICKET_LEN>().unwrap_or_default()
    }

    /// What something is called in a store that is not trusted: without the keys nobody can tell what a
    /// name stands for, nor find one. One name for each key, the newest first; none without keys.
    #[must_use]
    pub fn names(&self, purpose: &str, parts: &[&[u8]]) -> Vec<[u8; 32]> {
        let named = |root: &Prk| {
            let key = expanded(root, &[NAMED, purpose.as_bytes()])?;
            let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &*key));
            for part in parts {
                context.update(&(part.len() as u64).to_be_bytes());
                context.update(part);
            }
            context.sign().as_ref().try_into().ok()
        };
        let roots = self.roots.get().into_iter().flatten();
        roots.filter_map(named).collect()
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
        let bound = bound(purpose, binding, *expires);
        let opened = |key: &LessSafeKey| {
            let mut sealed = sealed.to_vec();
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let opened = key.open_in_place(nonce, Aad::from(&bound), &mut sealed).ok()?;
            Some(opened.to_vec())
        };
        let mut own = keys
            .iter()
            .filter_map(|it| key(&it.salted, &[expires, binding.as_bytes()]));
        // What an earlier release sealed is still on its way.
        own.find_map(|key| opened(&key))
            .or_else(|| keys.iter().find_map(|it| opened(&it.plain)))
    }

    /// One key per purpose and root, so that a token of one purpose is noise for another.
    fn keys(&self, purpose: &str) -> Arc<[Purpose]> {
        if let Some(keys) = self.derived.get(purpose) {
            return keys;
        }
        let Some(roots) = self.roots.get() else {
            return Arc::default();
        };
        let keys: Arc<[Purpose]> = roots.iter().filter_map(|root| derive(root, purpose)).collect();
        self.derived.insert(purpose.into(), Arc::clone(&keys));
        keys
    }
}

fn derive(root: &Prk, purpose: &str) -> Option<Purpose> {
    let salted = expanded(root, &[SALTED, purpose.as_bytes()])?;
    Some(Purpose {
        salted: Prk::new_less_safe(HKDF_SHA256, &*salted),
        plain: key(root, &[purpose.as_bytes()])?,
    })
}

fn key(root: &Prk, info: &[&[u8]]) -> Option<LessSafeKey> {
    let bytes = expanded(root, info)?;
    UnboundKey::new(&AES_256_GCM, &*bytes).ok().map(LessSafeKey::new)
}

fn expanded(root: &Prk, info: &[&[u8]]) -> Option<Zeroizing<[u8; 32]>> {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    root.expand(info, HKDF_SHA256).ok()?.fill(&mut *bytes).ok()?;
    Some(bytes)
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
        assert_eq!(Sealer::expiry(&token), Some(100));
        assert_eq!(Sealer::expiry("made-up"), None);
        assert!(token.len() < 128 && token.bytes().all(|byte| byte.is_ascii_graphic()));
    }

    /// As releases before the second form sealed.
    fn sealed_before(root: &str, (purpose, binding): (&str, &str), expires: u64, payload: &[u8]) -> String {
        let root = Salt::new(HKDF_SHA256, SALT).extract(root.as_bytes());
        let key = key(&root, &[purpose.as_bytes()]).unwrap();
        let (nonce, expires) = ([7; NONCE_LEN], expires.to_be_bytes());
        let mut sealed = payload.to_vec();
        let aad = Aad::from(bound(purpose, binding, expires));
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed)
            .unwrap();
        URL_SAFE_NO_PAD.encode([&nonce[..], &expires[..], &sealed[..]].concat())
    }

    #[test]
    fn what_a_release_before_sealed_still_opens_and_nothing_is_sealed_so_any_more() {
        let before = sealed_before("old", ("session", "alice"), 100, b"payload");
        let rotated = sealer(&["new", "old"]);
        let open = |binding, now| rotated.open("session", binding, now, &before);
        assert_eq!(open("alice", 99).as_deref(), Some(&b"payload"[..]));
        assert!(open("alice", 100).is_none() && open("bob", 99).is_none());
    }

    #[test]
    fn each_principal_has_a_key_for_each_second_that_seals_end_in() {
        let root = Salt::new(HKDF_SHA256, SALT).extract(b"one");
        let purpose = derive(&root, "session").unwrap();
        let whole = sealer(&["one"]).seal_bytes("session", "alice", 100, b"x");
        let (nonce, sealed) = (
            whole[..NONCE_LEN].try_into().unwrap(),
            &whole[NONCE_LEN + EXPIRY_LEN..],
        );
        let opens = |key: Option<LessSafeKey>| {
            let aad = Aad::from(bound("session", "alice", 100_u64.to_be_bytes()));
            let nonce = Nonce::assume_unique_for_key(nonce);
            key.unwrap()
                .open_in_place(nonce, aad, &mut sealed.to_vec())
                .is_ok()
        };
        let own =
            |expires: u64, binding: &str| key(&purpose.salted, &[&expires.to_be_bytes(), binding.as_bytes()]);
        assert!(opens(own(100, "alice")));
        assert!(!opens(own(101, "alice")) && !opens(own(100, "bob")) && !opens(Some(purpose.plain.clone())));
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
        let late = Sealer::without_keys();
        assert!(!late.is_ready() && late.seal("session", "alice", 100, b"x").is_empty());
        let token = sealer(&["one"]).seal("session", "alice", 100, b"x");
        assert_eq!(late.open("session", "alice", 0, &token), None);
        late.set_keys(&[Secret::new("one")]);
        late.set_keys(&[Secret::new("two")]);
        late.ready().await;
        assert!(late.is_ready() && late.open("session", "alice", 0, &token).is_some());
    }

    #[test]
    fn a_name_is_of_its_purpose_its_parts_and_each_key() {
        let (old, rotated) = (sealer(&["old"]), sealer(&["new", "old"]));
        let name = |sealer: &Sealer, purpose, parts: &[&[u8]]| sealer.names(purpose, parts);
        let one = name(&old, "result", &[b"ann", b"r_1"]);
        assert_eq!(one.len(), 1);
        assert_eq!(name(&rotated, "result", &[b"ann", b"r_1"])[1..], one);
        for other in [
            name(&old, "cache", &[b"ann", b"r_1"]),
            name(&old, "result", &[b"annr", b"_1"]),
            name(&old, "result", &[b"annr_1"]),
            name(&sealer(&["new"]), "result", &[b"ann", b"r_1"]),
        ] {
            assert!(other.len() == 1 && other != one);
        }
        assert!(Sealer::without_keys().names("result", &[b"ann"]).is_empty());
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
