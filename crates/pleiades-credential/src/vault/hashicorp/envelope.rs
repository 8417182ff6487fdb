//! Records that the KV engine alone does not reveal: each is encrypted under a key of its own, which
//! Vault's transit engine makes and alone can open.
//!
//! The record's path is part of what is authenticated, so that no record can stand in for another.
//! The wrapped key names the version of the transit key it was wrapped with; a rotation changes
//! nothing for what is stored, and the next write uses the newest.

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use pleiades_core::{random, secret::Secret};

/// What is authenticated before the path.
const PURPOSE: &str = "pleiades record 1\n";

pub(super) fn seal(key: &Secret, path: &str, text: &Secret) -> Option<String> {
    let key = data_key(key)?;
    let nonce = random::bytes::<NONCE_LEN>().ok()?;
    let mut sealed = text.expose().as_bytes().to_vec();
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad(path), &mut sealed)
        .ok()?;
    let mut whole = nonce.to_vec();
    whole.append(&mut sealed);
    Some(STANDARD.encode(whole))
}

/// Decrypts what [`seal`] made, of this path.
pub(super) fn open(key: &Secret, path: &str, sealed: &str) -> Option<Secret> {
    let key = data_key(key)?;
    let mut whole = Zeroizing::new(STANDARD.decode(sealed).ok()?);
    let (nonce, body) = whole.split_at_mut_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let text = key.open_in_place(nonce, aad(path), body).ok()?;
    Some(Secret::new(std::str::from_utf8(text).ok()?))
}

fn data_key(key: &Secret) -> Option<LessSafeKey> {
    let bytes = Zeroizing::new(STANDARD.decode(key.expose()).ok()?);
    Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &bytes).ok()?))
}

fn aad(path: &str) -> Aad<String> {
    Aad::from(format!("{PURPOSE}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> Secret {
        Secret::new(STANDARD.encode([byte; 32]))
    }

    #[test]
    fn a_record_opens_under_its_key_at_its_path_and_nowhere_else() {
        let text = Secret::new("{\"a\":\"canary\"}");
        let sealed = seal(&key(1), "p/c/a", &text).unwrap();
        assert!(!sealed.contains("canary"));
        assert_eq!(open(&key(1), "p/c/a", &sealed), Some(text.clone()));
        assert_eq!(open(&key(2), "p/c/a", &sealed), None);
        assert_eq!(open(&key(1), "p/c/b", &sealed), None);
        assert_ne!(seal(&key(1), "p/c/a", &text).unwrap(), sealed);
    }

    #[test]
    fn what_was_cut_or_turned_does_not_open() {
        let sealed = seal(&key(1), "p", &Secret::new("text")).unwrap();
        let mut bytes = STANDARD.decode(&sealed).unwrap();
        for length in 0..bytes.len() {
            assert_eq!(open(&key(1), "p", &STANDARD.encode(&bytes[..length])), None);
        }
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            assert_eq!(open(&key(1), "p", &STANDARD.encode(&bytes)), None);
            bytes[at] ^= 1;
        }
        assert_eq!(open(&key(1), "p", "no base64 §"), None);
    }
}
