//! Renewing one token set, once, however many replicas want to: a state machine without clock and
//! without I/O.
//!
//! A [`StateMachine`] is one refresh of one account in one process. Its driver carries out each
//! [`Effect`] and reports the [`RefreshEvent`]; `now` is a monotonic clock, in milliseconds. Why it is
//! safe: nothing is redeemed without a lease that was written by check-and-set and has time left; a
//! lease is dead one full ttl after *this* process first saw its nonce; new tokens are stored before
//! anybody uses them, unless the record's grant or `seq` went on.

mod edit;
mod lifetime;
mod state_machine;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use pleiades_core::backoff::doubled;

pub(super) use edit::{claimed, ended, failed, renewed};
pub(super) use lifetime::TokenLifetime;
pub(super) use state_machine::StateMachine;

use super::record::{AccountRecord, EndReason};

/// How long a lease holds, in milliseconds.
pub(super) const TTL: u64 = 60_000;
/// How long one token request may take, in milliseconds.
pub(super) const DEADLINE: u64 = 15_000;
/// What of a lease has to be left when the token request is over, for storing: milliseconds.
const STORING: u64 = 5_000;
/// An account is `unhealthy` after so many failed rounds.
pub(super) const UNHEALTHY: u32 = 3;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum RefreshTrigger {
    /// Its access token ends soon, or has ended.
    Due,
    /// It was asked for.
    Forced,
    /// The upstream answered 401 to this token set.
    Refused { grant: Arc<str>, seq: u64 },
}

/// The part of a record that decides.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct RecordFacts {
    /// Version of the store, good for the next write alone.
    pub(super) version: u64,
    pub(super) grant: Arc<str>,
    pub(super) seq: u64,
    pub(super) lease: Option<LeaseFacts>,
    /// Whether there is a refresh token.
    pub(super) redeemable: bool,
    pub(super) ended: Option<EndReason>,
    pub(super) due: bool,
    pub(super) expired: bool,
    /// Whether its tokens are those that this refresh was issued.
    pub(super) ours: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct LeaseFacts {
    pub(super) nonce: Arc<str>,
    /// Milliseconds; 0 when it was given back.
    pub(super) ttl: u64,
    pub(super) replay: bool,
}

impl RecordFacts {
    pub(super) fn of(version: u64, record: &AccountRecord, unix: u64, lead: u64) -> Self {
        let lives = TokenLifetime::of(&record.tokens);
        Self {
            version,
            grant: record.grant_id.as_str().into(),
            seq: record.seq,
            lease: record.lease.as_ref().map(|lease| LeaseFacts {
                nonce: lease.nonce.as_str().into(),
                ttl: lease.ttl.saturating_mul(1000),
                replay: lease.replay,
            }),
            redeemable: record.tokens.refresh.is_some(),
            ended: record.ended,
            due: lives.is_within_lead(unix, lead),
            expired: lives.is_over(unix),
            ours: false,
        }
    }
}

/// The lease that this process saw last on an account, and since when; outlives a refresh.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct LeaseWatch(Option<(Arc<str>, u64)>);

impl LeaseWatch {
    /// How long this process has known a lease.
    pub(super) fn age(&mut self, nonce: &Arc<str>, now: u64) -> u64 {
        match &self.0 {
            Some((known, since)) if known == nonce => now.saturating_sub(*since),
            _ => {
                self.0 = Some((Arc::clone(nonce), now));
                0
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum RefreshEvent {
    /// The refresh begins, or a wait is over.
    Woke,
    /// The record as it is; `None` when there is none.
    Read(Option<RecordFacts>),
    /// The write stands, under this version.
    Wrote(u64),
    Conflict,
    /// The store did not answer, or refused: whether a write stands is unknown.
    Failed,
    Answered(TokenOutcome),
    Stop,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum TokenOutcome {
    Issued,
    /// The grant is refused for good.
    Terminal,
    /// It is refused for a reason that says nothing certain of the grant: connecting again may help, or
    /// a later refresh.
    Refused {
        /// Whether the token may be used up: an answer that succeeded and could not be read.
        uncertain: bool,
    },
    /// Nothing, or come later.
    Transient {
        uncertain: bool,
        /// When the server wants to be asked again, in milliseconds.
        after: Option<u64>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Effect {
    /// Read the record.
    Read,
    /// Write a lease.
    Claim {
        version: u64,
        nonce: Arc<str>,
        replay: bool,
    },
    /// Redeem the refresh token, within [`DEADLINE`].
    Redeem,
    /// Write the new token set.
    Store { version: u64 },
    /// Write that its user has to connect it again.
    End { version: u64, ended: EndReason },
    /// Write that a refresh failed; the lease is given back, and remembers a replay.
    Fail {
        version: u64,
        replay: bool,
        /// Write down why it was refused, too.
        refused: bool,
    },
    /// Give the lease back: nothing was sent.
    Release { version: u64, replay: bool },
    /// Wait so many milliseconds.
    Wait(u64),
    /// It is over.
    Done(FinalState),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum FinalState {
    Refreshed,
    /// The record has a newer grant or token set; `raced`: this refresh wanted to renew the older one itself.
    Newer {
        raced: bool,
    },
    NotDue,
    Gone,
    /// Its user has to connect it again.
    Ended(EndReason),
    /// It failed for reasons that may pass; the server wants to be asked again `after` milliseconds.
    Failed {
        after: Option<u64>,
    },
    /// It was refused, perhaps not for good.
    Refused,
    StoreDown,
    Stopped,
}

/// Milliseconds before the `n`th repetition, from 0: doubling.
pub(super) fn back_off(n: u32, first: u64, most: u64) -> u64 {
    let pause = doubled(Duration::from_millis(first), Duration::from_millis(most), n);
    u64::try_from(pause.as_millis()).unwrap_or(most)
}
