//! One account in memory: its record as it was seen last, and the headers made of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwapOption;
use http::header::AUTHORIZATION;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::connection::Connection;
use super::key::{Key, Owner};
use super::record::{AccountState, Ended, Record};
use super::refresh::{Lives, Outcome, UNHEALTHY, Watch, Why};
use super::signature::{Signature, Signed, sensitive};
use super::vault::Kind;

/// A token is not sent in the last moments of its life, in milliseconds: this, or a tenth of its
/// life when that is less.
pub(super) const LAST_MOMENTS: u64 = 5_000;
/// A token that was had so long ago was taken before, at least elsewhere: seconds.
const FRESH: u64 = 600;
/// Providers that share one account and have a signature of their own at hand.
const HANDS: usize = 64;

/// One account in memory.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) key: Key,
    seen: ArcSwapOption<Seen>,
    /// The last reading that had begun when it was written here.
    pub(super) written: AtomicU64,
    hands: RwLock<Vec<Hand>>,
    /// When it signed something last, in milliseconds of the growing clock.
    pub(super) used: AtomicU64,
    /// Leases of others, and since when they are known here.
    pub(super) watch: Mutex<Watch>,
    /// The pursuit that is under way.
    pub(super) flight: Mutex<Option<Flight>>,
    /// What the store said when it failed last under a round.
    pub(super) store: Mutex<Option<Kind>>,
    /// The last round that failed.
    pub(super) setback: Mutex<Option<Setback>>,
    /// The set that a 401 of an upstream brought about: grant, `seq`, when. A further 401 to it says
    /// nothing about the token.
    pub(super) mended: Mutex<Option<(Arc<str>, u64, u64)>>,
}

/// A pursuit, as whoever waits for it sees it.
pub(super) type Flight = watch::Receiver<Flying>;

/// How far a pursuit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flying {
    /// Under way.
    On,
    /// The store is away, and does not take the tokens in hand: storing is tried on, and nobody is kept
    /// waiting for it.
    Stuck,
    /// What it came to.
    Over(Outcome),
}

/// A round failed: when the next may begin, in milliseconds of the growing clock.
#[derive(Debug, Clone)]
pub(super) struct Setback {
    /// For a caller that waits.
    pub(super) asked: u64,
    /// In the background.
    pub(super) alone: u64,
    /// Why, for callers.
    pub(super) said: Option<Arc<str>>,
}

/// A signature for one provider.
#[derive(Debug)]
struct Hand {
    connection: Arc<Connection>,
    grant: Arc<str>,
    signature: Arc<Signature>,
}

/// A record as it was seen.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) record: Record,
    pub(super) grant: Arc<str>,
    pub(super) fingerprint: [u8; 32],
    pub(super) signed: Arc<Signed>,
    /// Until when the access token is sent, in unix milliseconds.
    until: u64,
    /// When it ends, in unix milliseconds; 0 for one that no header carries.
    ends: u64,
    /// The upstream answered 401 to it.
    refused: AtomicBool,
    /// The upstream took it.
    taken: AtomicBool,
    version: u64,
}

impl Seen {
    fn new(key: &Key, version: u64, record: Record) -> Self {
        let value = Zeroizing::new(format!("Bearer {}", record.tokens.access.expose()));
        let header = sensitive(&value).ok();
        let (until, ends) = match (&header, record.tokens.expires_at) {
            // A token that no header can carry serves nobody.
            (None, _) => (0, 0),
            (_, None) => (u64::MAX, u64::MAX),
            (_, Some(at)) => {
                let life = at.saturating_sub(record.tokens.obtained_at).saturating_mul(1000);
                let ends = at.saturating_mul(1000);
                (ends.saturating_sub(LAST_MOMENTS.min(life / 10)), ends)
            }
        };
        Self {
            grant: record.grant_id.as_str().into(),
            fingerprint: key.fingerprint(&record.grant_id),
            signed: Arc::new(Signed {
                headers: header.into_iter().map(|value| (AUTHORIZATION, value)).collect(),
                seq: record.seq,
            }),
            until,
            ends,
            refused: AtomicBool::new(false),
            taken: AtomicBool::new(false),
            version,
            record,
        }
    }

    /// Whether its access token may be sent.
    pub(super) fn serves(&self, unix_ms: u64) -> bool {
        unix_ms < self.until && !self.refused.load(Relaxed) && self.record.ended != Some(Ended::Revoked)
    }

    /// How long its access token still holds, in milliseconds; `None` when it does not. In its last
    /// moments it is sent where no newer one can be had in time.
    pub(super) fn left(&self, unix_ms: u64) -> Option<u64> {
        let is_good = !self.refused.load(Relaxed) && self.record.ended != Some(Ended::Revoked);
        self.ends.checked_sub(unix_ms).filter(|left| is_good && *left > 0)
    }

    /// The upstream answered 401 to its access token.
    pub(super) fn refuse(&self) {
        self.refused.store(true, Relaxed);
    }

    /// The upstream took its access token.
    pub(super) fn take(&self) {
        // Written once: what is only read stays in every core's cache.
        if !self.taken.load(Relaxed) {
            self.taken.store(true, Relaxed);
        }
    }

    /// Whether its access token was refused that had been had a moment ago, and was never taken.
    pub(super) fn is_unaccepted(&self, unix: u64) -> bool {
        let fresh = unix.saturating_sub(self.record.tokens.obtained_at) < FRESH;
        fresh && self.refused.load(Relaxed) && !self.taken.load(Relaxed)
    }

    /// Why a person is asked; `None` while it can be renewed or serves.
    pub(super) fn ended(&self, unix_ms: u64) -> Option<Ended> {
        let over = self.record.tokens.refresh.is_none() && !self.serves(unix_ms);
        let refused = || {
            let interrupted = self.record.unanswered;
            self.record.refusal.as_ref().map(|_| match interrupted {
                true => Ended::Interrupted,
                false => Ended::Refused,
            })
        };
        self.record
            .ended
            .or_else(|| over.then_some(Ended::NoRefresh))
            .or_else(refused)
    }

    /// Whether a later renewal may go well although the last one was refused.
    pub(super) const fn may_mend(&self) -> bool {
        self.record.ended.is_none() && self.record.tokens.refresh.is_some()
    }

    /// Its state, with `lead` in seconds.
    pub(super) fn state(&self, unix_ms: u64, lead: u64) -> AccountState {
        match self.ended(unix_ms) {
            Some(Ended::Revoked) => AccountState::Revoked,
            Some(_) => AccountState::NeedsReauth,
            None if self.record.failures >= UNHEALTHY => AccountState::Unhealthy,
            None if self.lives().is_within_lead(unix_ms / 1000, lead) => AccountState::Expiring,
            None => AccountState::Ok,
        }
    }

    pub(super) fn lives(&self) -> Lives {
        Lives::of(&self.record.tokens)
    }

    /// Whether `record` is certainly older than this.
    fn is_newer_than(&self, version: u64, record: &Record) -> bool {
        if *self.grant == *record.grant_id {
            return record.seq < self.record.seq;
        }
        record.connected_at < self.record.connected_at && version < self.version
    }
}

impl Slot {
    pub(super) fn new(owner: &Owner, account: &str) -> Arc<Self> {
        let key = Key {
            owner: owner.clone(),
            account: account.into(),
        };
        Arc::new(Self {
            key,
            seen: ArcSwapOption::empty(),
            written: AtomicU64::new(0),
            hands: RwLock::default(),
            used: AtomicU64::new(0),
            watch: Mutex::default(),
            flight: Mutex::default(),
            store: Mutex::default(),
            setback: Mutex::default(),
            mended: Mutex::default(),
        })
    }

    /// What was seen last; `None` once the account is gone.
    pub(super) fn seen(&self) -> Option<Arc<Seen>> {
        self.seen.load_full()
    }

    /// Takes what a reading found, unless it was written here since: stores may answer a little
    /// behind.
    pub(super) fn read(&self, version: u64, record: Record, reading: u64) {
        let before = self.seen();
        let late = self.written.load(Relaxed) >= reading;
        if before
            .as_ref()
            .is_some_and(|seen| late || seen.is_newer_than(version, &record))
        {
            return;
        }
        self.take(before.as_deref(), version, record);
    }

    /// Takes what was written here, or read alone.
    pub(super) fn write(&self, version: u64, record: Record, readings: u64) {
        let before = self.seen();
        if before
            .as_ref()
            .is_some_and(|seen| seen.is_newer_than(version, &record))
        {
            return;
        }
        self.written.store(readings, Relaxed);
        self.take(before.as_deref(), version, record);
    }

    fn take(&self, before: Option<&Seen>, version: u64, record: Record) {
        if before.is_some_and(|seen| seen.record == record && seen.version == version) {
            return;
        }
        let seen = Seen::new(&self.key, version, record);
        let same = |it: &&Seen| it.grant == seen.grant && it.record.seq == seen.record.seq;
        if let Some(before) = before.filter(same) {
            seen.refused.store(before.refused.load(Relaxed), Relaxed);
            seen.taken.store(before.taken.load(Relaxed), Relaxed);
        }
        self.seen.store(Some(Arc::new(seen)));
    }

    /// The account is no more: whoever still holds a signature of it signs nothing.
    pub(super) fn gone(&self) {
        self.seen.store(None);
        self.hands.write().clear();
    }

    /// The signature for a provider under the grant that was seen; made once.
    pub(super) fn hand(
        &self,
        seen: &Seen,
        connection: &Arc<Connection>,
        make: impl FnOnce() -> Signature,
    ) -> Arc<Signature> {
        let fits = |hand: &&Hand| Arc::ptr_eq(&hand.connection, connection) && hand.grant == seen.grant;
        if let Some(hand) = self.hands.read().iter().find(fits) {
            return Arc::clone(&hand.signature);
        }
        let made = Arc::new(make());
        let mut hands = self.hands.write();
        hands.retain(|it| it.connection.provider != connection.provider && it.grant == seen.grant);
        hands.truncate(HANDS - 1);
        hands.push(Hand {
            connection: Arc::clone(connection),
            grant: Arc::clone(&seen.grant),
            signature: Arc::clone(&made),
        });
        made
    }
}

impl Seen {
    /// Why it is renewed, when it does not serve.
    pub(super) fn why(&self) -> Why {
        if self.refused.load(Relaxed) {
            return Why::Refused {
                grant: Arc::clone(&self.grant),
                seq: self.record.seq,
            };
        }
        Why::Due
    }
}
