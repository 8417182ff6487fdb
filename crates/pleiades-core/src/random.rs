//! The one source of randomness: the operating system's, through ring.

use std::{fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::rand::{SecureRandom as _, SystemRandom};

/// The operating system gave no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRandomness;

impl fmt::Display for NoRandomness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the system has no randomness to give")
    }
}

impl std::error::Error for NoRandomness {}

/// Random bytes, good enough for keys and nonces.
///
/// # Errors
/// [`NoRandomness`]; whatever needs a secret must not go on then.
pub fn bytes<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|ring::error::Unspecified| NoRandomness)?;
    Ok(bytes)
}

/// `N` random bytes as base64url without padding: fit for URLs, cookies and names of files.
///
/// # Errors
/// [`NoRandomness`].
pub fn token<const N: usize>() -> Result<String, NoRandomness> {
    bytes::<N>().map(|bytes| URL_SAFE_NO_PAD.encode(bytes))
}

/// A number from 0 up to, but not including, `bound`, to spread things in time. Without randomness it
/// is 0: then they merely happen at once.
#[must_use]
pub fn below(bound: u32) -> u32 {
    let random = bytes().map_or(0, u32::from_le_bytes);
    // The high half of the product: as even as 32 bits allow, and always below the bound.
    let scaled = u64::from(random) * u64::from(bound);
    u32::try_from(scaled >> 32).unwrap_or(0)
}

/// A pause between two bounds, so that many who wait for the same do not act at the same moment.
#[must_use]
pub fn between(least: Duration, most: Duration) -> Duration {
    const PARTS: u32 = 1 << 16;
    least + most.saturating_sub(least) / PARTS * below(PARTS + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_hold_all_their_bytes() {
        let [one, other] = [(); 2].map(|()| token::<32>().unwrap());
        assert_ne!(one, other);
        assert_eq!(URL_SAFE_NO_PAD.decode(one).unwrap().len(), 32);
    }

    #[test]
    fn numbers_stay_below_their_bound_and_pauses_within_theirs() {
        let (least, most) = (Duration::from_secs(3), Duration::from_secs(4));
        for _ in 0..1_000 {
            assert!(below(7) < 7 && below(1) == 0);
            assert!((least..=most).contains(&between(least, most)));
        }
        assert!((0..200).map(|_| below(2)).any(|it| it == 1));
        assert_eq!(between(most, least), most);
    }
}
