//! Sealed ids: open for whom they were sealed, until they expire, unchanged, and for nobody else.

use std::sync::LazyLock;

use pleiades_core::secret::Secret;
use pleiades_mcp::seal::Sealer;

use super::number;

static OURS: LazyLock<Sealer> = LazyLock::new(|| sealer(&["one", "two"]));
static ROTATED: LazyLock<Sealer> = LazyLock::new(|| sealer(&["three", "one"]));
static FOREIGN: LazyLock<Sealer> = LazyLock::new(|| sealer(&["four"]));
const PURPOSES: [&str; 4] = ["session", "relay", "", "session\0alice"];

fn sealer(keys: &[&str]) -> Sealer {
    Sealer::new(&keys.iter().map(|key| Secret::new(*key)).collect::<Vec<_>>())
}

pub fn holds(data: &[u8]) {
    let mut rest = data;
    let purpose = PURPOSES[number(&mut rest) % PURPOSES.len()];
    let expires = (number(&mut rest) as u64) << (number(&mut rest) % 57);
    let (at, change, cut) = (
        number(&mut rest) * 256 + number(&mut rest),
        number(&mut rest),
        number(&mut rest),
    );
    let text = String::from_utf8_lossy(rest);
    for token in [&*text, text.trim(), &text.repeat(200)] {
        assert_eq!(OURS.open(purpose, &text, 0, token), None, "made up");
    }
    let middle = (0..=cut.min(text.len()))
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0);
    let (binding, payload) = text.split_at(middle);
    let token = OURS.seal(purpose, binding, expires, payload.as_bytes());
    let opened = |now| OURS.open(purpose, binding, now, &token);
    assert_eq!(opened(expires), None, "expired");
    assert_eq!(opened(u64::MAX), None, "expired long ago");
    let Some(before) = expires.checked_sub(1) else {
        return;
    };
    assert_eq!(opened(before).as_deref(), Some(payload.as_bytes()), "its own");
    assert_eq!(
        ROTATED.open(purpose, binding, before, &token).as_deref(),
        Some(payload.as_bytes()),
        "rotated"
    );
    assert_eq!(
        FOREIGN.open(purpose, binding, before, &token),
        None,
        "another key"
    );
    for other in PURPOSES.iter().filter(|other| **other != purpose) {
        assert_eq!(OURS.open(other, binding, before, &token), None, "for {other}");
    }
    for other in [
        "",
        "alice",
        payload,
        &format!("{binding}\0"),
        &format!("{purpose}{binding}"),
    ] {
        assert!(
            other == binding || OURS.open(purpose, other, before, &token).is_none(),
            "by {other}"
        );
    }
    for changed in changes(&token, at, change) {
        assert!(
            changed == token || OURS.open(purpose, binding, before, &changed).is_none(),
            "{changed}"
        );
    }
}

/// One byte changed, left out, put in, and the whole cut.
fn changes(token: &str, at: usize, change: usize) -> Vec<String> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=+/ \n.";
    let at = at % token.len();
    let symbol = char::from(LETTERS[change % LETTERS.len()]);
    let (before, after) = token.split_at(at);
    let rest = &after[1..];
    vec![
        format!("{before}{symbol}{rest}"),
        format!("{before}{symbol}{after}"),
        format!("{before}{rest}"),
        before.to_owned(),
        format!("{token}{symbol}"),
        format!("{token}{token}"),
        format!(" {token}"),
    ]
}

pub fn seeds() -> Vec<Vec<u8>> {
    let sealed = OURS.seal("session", "alice", u64::MAX, b"payload");
    vec![
        b"\x00\x64\x00\x00\x05\x01\x05alicepayload".to_vec(),
        b"\x01\xff\x20\x00\x14\x02\x00payload".to_vec(),
        b"\x02\x01\x38\x00\x00\x03\xff".to_vec(),
        [b"\x00\x64\x00\x00\x05\x01\x05", sealed.as_bytes()].concat(),
        [&b"\x03\x64\x00\x00\x05\x01\x05"[..], &b"x".repeat(7_000)].concat(),
    ]
}
