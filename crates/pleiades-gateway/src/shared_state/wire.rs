//! What travels between replicas, sealed: who reads Redis reads nothing, who writes to it says
//! nothing.
//!
//! A message is one byte of kind and the fields of that kind, big-endian. It is sealed for the one
//! channel it is put on, so that it opens nowhere else.

use pleiades_mcp::seal::Sealer;

/// Largest message or answer that is handed over, in bytes.
pub(super) const MAX_BODY: usize = 1 << 20;
/// Beside a body: the seal, the kind and the fields.
const MAX_SEALED: usize = MAX_BODY + 1024;
/// How far the clocks of replicas may be apart, in seconds.
pub(super) const SKEW_SECS: u64 = 5 * 60;
const PURPOSE: &str = "shared_state";

const ASK: u8 = 1;
const ANSWER: u8 = 2;
const REFUSAL: u8 = 3;
const ENDS: u8 = 4;
const CHANGE: u8 = 5;
const END_LEN: usize = 32 + 8;

/// Digest of a session's id, and when the session would have expired (Unix, seconds).
pub(super) type SessionEnd = ([u8; 32], u64);

/// Why a replica that was reached did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AskRefusal {
    /// It has as much to do as it takes.
    Busy,
    /// Its answer is larger than [`MAX_BODY`].
    TooLarge,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReplicaMessage {
    Ask {
        /// Chosen by the sender.
        id: u64,
        /// How long the sender waits, in milliseconds.
        within_ms: u64,
        /// Replica that the answer goes to.
        from: String,
        body: Vec<u8>,
    },
    Answer {
        id: u64,
        body: Vec<u8>,
    },
    Refusal {
        id: u64,
        why: AskRefusal,
    },
    Ends(Vec<SessionEnd>),
    /// Something that all replicas share has changed.
    Change {
        from: String,
        body: Vec<u8>,
    },
}

impl ReplicaMessage {
    /// Sealed for a channel until `expires_unix` (seconds).
    pub(super) fn seal(&self, sealer: &Sealer, channel: &str, expires_unix: u64) -> Vec<u8> {
        sealer.seal_bytes(PURPOSE, channel, expires_unix, &self.encode())
    }

    /// `None` when it was not sealed for this channel by a replica of ours, or is too old.
    pub(super) fn open(sealer: &Sealer, channel: &str, now_unix: u64, sealed: &[u8]) -> Option<Self> {
        if sealed.len() > MAX_SEALED {
            return None;
        }
        Self::decode(&sealer.open_bytes(PURPOSE, channel, now_unix, sealed)?)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Self::Ask {
                id,
                within_ms,
                from,
                body,
            } => {
                bytes.reserve_exact(32 + from.len() + body.len());
                bytes.push(ASK);
                bytes.extend_from_slice(&id.to_be_bytes());
                bytes.extend_from_slice(&within_ms.to_be_bytes());
                bytes.extend_from_slice(&(from.len() as u64).to_be_bytes());
                bytes.extend_from_slice(from.as_bytes());
                bytes.extend_from_slice(body);
            }
            Self::Answer { id, body } => {
                bytes.reserve_exact(9 + body.len());
                bytes.push(ANSWER);
                bytes.extend_from_slice(&id.to_be_bytes());
                bytes.extend_from_slice(body);
            }
            Self::Refusal { id, why } => {
                bytes.push(REFUSAL);
                bytes.extend_from_slice(&id.to_be_bytes());
                bytes.push(u8::from(*why == AskRefusal::TooLarge));
            }
            Self::Ends(ends) => {
                bytes.reserve_exact(1 + END_LEN * ends.len());
                bytes.push(ENDS);
                for (digest, expires) in ends {
                    bytes.extend_from_slice(digest);
                    bytes.extend_from_slice(&expires.to_be_bytes());
                }
            }
            Self::Change { from, body } => {
                bytes.push(CHANGE);
                bytes.extend_from_slice(&(from.len() as u64).to_be_bytes());
                bytes.extend_from_slice(from.as_bytes());
                bytes.extend_from_slice(body);
            }
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        match *kind {
            ASK => {
                let (id, rest) = number(rest)?;
                let (within_ms, rest) = number(rest)?;
                let (len, rest) = number(rest)?;
                let (from, body) = rest.split_at_checked(usize::try_from(len).ok()?)?;
                Some(Self::Ask {
                    id,
                    within_ms,
                    from: std::str::from_utf8(from).ok()?.to_owned(),
                    body: body.to_vec(),
                })
            }
            CHANGE => {
                let (len, rest) = number(rest)?;
                let (from, body) = rest.split_at_checked(usize::try_from(len).ok()?)?;
                Some(Self::Change {
                    from: std::str::from_utf8(from).ok()?.to_owned(),
                    body: body.to_vec(),
                })
            }
            ANSWER => {
                let (id, body) = number(rest)?;
                Some(Self::Answer {
                    id,
                    body: body.to_vec(),
                })
            }
            REFUSAL => {
                let (id, rest) = number(rest)?;
                let why = match rest {
                    [0] => AskRefusal::Busy,
                    [1] => AskRefusal::TooLarge,
                    _ => return None,
                };
                Some(Self::Refusal { id, why })
            }
            ENDS => {
                let ends = rest.chunks(END_LEN).map(end).collect::<Option<_>>()?;
                Some(Self::Ends(ends))
            }
            _ => None,
        }
    }
}

fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u64::from_be_bytes(*number), rest))
}

fn end(bytes: &[u8]) -> Option<SessionEnd> {
    let (digest, rest) = bytes.split_first_chunk()?;
    let expires = <[u8; 8]>::try_from(rest).ok()?;
    Some((*digest, u64::from_be_bytes(expires)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pleiades_core::secret::Secret;

    fn sealer(key: &str) -> Sealer {
        Sealer::new(&[Secret::new(key)])
    }

    fn samples() -> [ReplicaMessage; 8] {
        [
            ReplicaMessage::Ask {
                id: 7,
                within_ms: 1_500,
                from: "replica".to_owned(),
                body: b"a canary".to_vec(),
            },
            ReplicaMessage::Ask {
                id: u64::MAX,
                within_ms: 0,
                from: String::new(),
                body: Vec::new(),
            },
            ReplicaMessage::Answer {
                id: 7,
                body: b"a canary".to_vec(),
            },
            ReplicaMessage::Refusal {
                id: 7,
                why: AskRefusal::Busy,
            },
            ReplicaMessage::Refusal {
                id: 7,
                why: AskRefusal::TooLarge,
            },
            ReplicaMessage::Change {
                from: "replica".to_owned(),
                body: b"a canary".to_vec(),
            },
            ReplicaMessage::Ends(Vec::new()),
            ReplicaMessage::Ends(vec![([1; 32], 2), ([3; 32], u64::MAX)]),
        ]
    }

    #[test]
    fn every_message_comes_back_as_it_was() {
        let one = sealer("a key");
        for message in samples() {
            let sealed = message.seal(&one, "here", 100);
            assert_eq!(ReplicaMessage::open(&one, "here", 99, &sealed), Some(message));
        }
    }

    #[test]
    fn a_message_opens_on_its_channel_under_its_key_in_its_time() {
        let (one, other) = (sealer("a key"), sealer("another"));
        for message in samples() {
            let sealed = message.seal(&one, "here", 100);
            assert_eq!(ReplicaMessage::open(&one, "there", 99, &sealed), None);
            assert_eq!(ReplicaMessage::open(&one, "here", 100, &sealed), None);
            assert_eq!(ReplicaMessage::open(&other, "here", 99, &sealed), None);
        }
    }

    #[test]
    fn nothing_of_a_message_can_be_read() {
        let sealed = samples()[0].seal(&sealer("a key"), "here", 100);
        for readable in [&b"canary"[..], b"replica"] {
            assert!(!sealed.windows(readable.len()).any(|part| part == readable));
        }
    }

    #[test]
    fn the_largest_body_passes_and_a_larger_message_is_not_looked_at() {
        let one = sealer("a key");
        let of = |len| ReplicaMessage::Ask {
            id: 1,
            within_ms: 1,
            from: "a-replica-of-sixteen-by".to_owned(),
            body: vec![b'x'; len],
        };
        let whole = of(MAX_BODY).seal(&one, "here", 100);
        assert_eq!(ReplicaMessage::open(&one, "here", 1, &whole), Some(of(MAX_BODY)));
        let more = of(MAX_BODY + 1024).seal(&one, "here", 100);
        assert_eq!(ReplicaMessage::open(&one, "here", 1, &more), None);
    }

    #[test]
    fn what_is_cut_short_or_of_an_unknown_kind_is_nothing() {
        for message in samples() {
            let bytes = message.encode();
            for cut in 0..bytes.len() {
                let short = ReplicaMessage::decode(&bytes[..cut]);
                assert_ne!(short.as_ref(), Some(&message), "{cut} of {message:?}");
            }
        }
        assert_eq!(ReplicaMessage::decode(&[ASK, 0, 0]), None);
        assert_eq!(ReplicaMessage::decode(&[9, 0, 0]), None);
        let mut long = vec![ASK; 17];
        long.extend_from_slice(&u64::MAX.to_be_bytes());
        assert_eq!(ReplicaMessage::decode(&long), None);
    }
}
