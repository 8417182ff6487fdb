//! Requests that carry no caller's key but a signature over their body: what schedulers outside send
//! to us, and what we send to them (`docs/ACCOUNTS.md`).

use ring::{digest, hmac};

use pleiades_core::secret::Secret;

/// The header that carries it: `t=<unix seconds>,v1=<hex HMAC-SHA256 of "t.body">`.
pub const HEADER: &str = "pleiades-signature";
/// How far the clocks of both sides may be apart, in seconds.
pub(crate) const SKEW: u64 = 300;
/// Signatures that one header may hold: its sender may be changing keys.
const MOST: usize = 8;
/// Longest header value, in bytes.
const LONGEST: usize = 1_024;

/// A request whose signature holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The same for the same time and body, whatever the key: what is accepted once.
    pub replay_key: String,
    /// From then on its time alone refuses it, in unix seconds.
    pub until: u64,
}

/// The value of the header for a body.
#[must_use]
pub fn sign(key: &Secret, now: u64, body: &[u8]) -> String {
    let tag = hmac::sign(&hmac_key(key), &signed_message(&now.to_string(), body));
    format!("t={now},v1={}", hex(tag.as_ref()))
}

/// Whether any of the keys signed this body within the skew. Which of time, form, key and body is
/// wrong is not said: whoever may sign knows, nobody else needs to.
#[must_use]
pub fn verify(header: &str, body: &[u8], keys: &[Secret], now: u64) -> Option<Verified> {
    if header.len() > LONGEST {
        return None;
    }
    let mut time = None;
    let mut tags = Vec::new();
    for part in header.split(',') {
        match part.trim().split_once('=')? {
            ("t", value) if time.is_none() => time = Some(value),
            ("t", _) => return None,
            ("v1", value) if tags.len() < MOST => tags.push(unhex(value)?),
            ("v1", _) => return None,
            // Another scheme may come beside ours.
            _ => {}
        }
    }
    let time_text = time?;
    let at: u64 = canonical(time_text)?;
    if at.abs_diff(now) > SKEW {
        return None;
    }
    let message = signed_message(time_text, body);
    // Every key is tried with every tag: how long it takes tells nothing of which fitted.
    let mut holds = false;
    for key in keys.iter().map(hmac_key) {
        for tag in &tags {
            holds |= hmac::verify(&key, &message, tag).is_ok();
        }
    }
    holds.then(|| Verified {
        replay_key: hex(digest::digest(&digest::SHA256, &message).as_ref()),
        until: at.saturating_add(SKEW).saturating_add(1),
    })
}

/// A number in its one spelling, so that one time is not two.
fn canonical(text: &str) -> Option<u64> {
    text.parse()
        .ok()
        .filter(|number: &u64| number.to_string() == text)
}

fn hmac_key(key: &Secret) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, key.expose().as_bytes())
}

fn signed_message(time: &str, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(time.len() + 1 + body.len());
    message.extend_from_slice(time.as_bytes());
    message.push(b'.');
    message.extend_from_slice(body);
    message
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            write!(text, "{byte:02x}").ok();
            text
        })
}

/// 32 bytes of hexadecimal digits.
fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_253_857;

    fn key(text: &str) -> Secret {
        Secret::new(text)
    }

    #[test]
    fn the_tag_is_hmac_sha256_of_time_dot_body_in_hex() {
        let header = sign(&key("secret"), 1_700_000_000, b"{}");
        // Made with `printf '1700000000.{}' | openssl dgst -sha256 -hmac secret`.
        assert_eq!(
            header,
            "t=1700000000,v1=b8569b78799ff9e3cbff0fc2d63a33a2b57f3282abd07c37ae5e8e7d79a5f163"
        );
    }

    #[test]
    fn any_of_the_keys_and_any_of_the_tags_will_do() {
        let header = sign(&key("old"), NOW, b"body");
        let keys = [key("new"), key("old")];
        let verified = verify(&header, b"body", &keys, NOW).unwrap();
        assert_eq!(verified.until, NOW + SKEW + 1);
        let two = format!("{header},v1={}", "0".repeat(64));
        assert_eq!(verify(&two, b"body", &keys, NOW), Some(verified.clone()));
        // The same request under another key is the same request.
        let again = sign(&key("new"), NOW, b"body");
        assert_eq!(verify(&again, b"body", &keys, NOW), Some(verified));
    }

    #[test]
    fn a_time_beyond_the_skew_is_refused_on_both_sides() {
        let header = sign(&key("k"), NOW, b"");
        let keys = [key("k")];
        assert!(verify(&header, b"", &keys, NOW + SKEW).is_some());
        assert!(verify(&header, b"", &keys, NOW - SKEW).is_some());
        assert!(verify(&header, b"", &keys, NOW + SKEW + 1).is_none());
        assert!(verify(&header, b"", &keys, NOW - SKEW - 1).is_none());
    }

    #[test]
    fn another_body_key_time_or_form_is_refused() {
        let header = sign(&key("k"), NOW, b"body");
        let keys = [key("k")];
        assert!(verify(&header, b"bodY", &keys, NOW).is_none());
        assert!(verify(&header, b"body", &[key("q")], NOW).is_none());
        assert!(verify(&header, b"body", &[], NOW).is_none());
        let later = header.replace(&format!("t={NOW}"), &format!("t={}", NOW + 1));
        assert!(verify(&later, b"body", &keys, NOW).is_none());
        let (time, tag) = header.split_once(',').unwrap();
        for form in [
            String::new(),
            time.to_owned(),
            tag.to_owned(),
            format!("{time},{time},{tag}"),
            format!("{time},v1="),
            format!("t=0{NOW},{tag}"),
            format!("t=+{NOW},{tag}"),
            format!("{time},{tag}00"),
            format!("{time},{}", [tag; 9].join(",")),
            "x".repeat(2_000),
        ] {
            assert!(verify(&form, b"body", &keys, NOW).is_none(), "{form}");
        }
    }
}
