//! One account in memory: its record as it was seen last, and the headers made of it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use http::header::AUTHORIZATION;
use parking_lot::{Mutex, RwLock};
use tokio::{sync::watch, time::Instant};
use zeroize::Zeroizing;

use super::key::{AccountKey, AccountOwner};
use super::record::{AccountRecord, AccountState, EndReason};
use super::refresh::{FinalState, LeaseWatch, RefreshTrigger, TokenLifetime, UNHEALTHY};
use super::{connection::Connection, vault::Kind};
use pleiades_core::signature::{Signature, SignedHeaders, sensitive};

/// A token is not sent in the last moments of its life, in milliseconds: this, or a tenth of its
/// life when that is less.
const LAST_MOMENTS: u64 = 5_000;
/// A token obtained longer ago than this was accepted before, at least elsewhere: seconds.
const FRESH: u64 = 600;
/// Providers that share one account and have a signature of their own at hand.
const MAX_SIGNATURES: usize = 64;

#[derive(Debug)]
pub(super) struct AccountSlot {
    pub(super) key: AccountKey,
    seen: ArcSwapOption<SeenRecord>,
    /// The last reading that had begun when it was written here.
    pub(super) written: AtomicU64,
    signatures: RwLock<Vec<ProviderSignature>>,
    /// When it signed something last, in milliseconds of the monotonic clock.
    pub(super) used: AtomicU64,
    /// Leases of others, and since when they are known here.
    pub(super) lease_watch: Mutex<LeaseWatch>,
    pub(super) in_flight: Mutex<Option<InFlightRefresh>>,
    pub(super) store_fault: Mutex<Option<Kind>>,
    pub(super) backoff: Mutex<Option<RefreshBackoff>>,
    /// The last renewal's failure, as it was logged; `None` after a success.
    pub(super) last_failure: Mutex<Option<String>>,
    /// The token set that was renewed after a 401: grant, `seq`, when. A further 401 to it says nothing
    /// about the token.
    pub(super) renewed_after_401: Mutex<Option<(Arc<str>, u64, u64)>>,
}

pub(super) type InFlightRefresh = watch::Receiver<InFlightState>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InFlightState {
    /// Under way.
    On,
    /// The store is away and does not take the new tokens: storing goes on, and nobody waits for it.
    Stuck,
    Over(FinalState),
}

/// A refresh failed: when the next may begin, in milliseconds of the monotonic clock.
#[derive(Debug, Clone)]
pub(super) struct RefreshBackoff {
    pub(super) for_callers: u64,
    pub(super) in_background: u64,
    pub(super) cause: Option<Arc<str>>,
}

#[derive(Debug)]
struct ProviderSignature {
    connection: Arc<Connection>,
    grant: Arc<str>,
    signature: Arc<Signature>,
}

#[derive(Debug)]
pub(super) struct SeenRecord {
    pub(super) record: AccountRecord,
    pub(super) grant: Arc<str>,
    pub(super) fingerprint: [u8; 32],
    pub(super) signed: Arc<SignedHeaders>,
    /// Until when the access token is sent, in unix milliseconds.
    until: u64,
    /// When it ends, in unix milliseconds; 0 for one that no header carries.
    ends: u64,
    /// The upstream answered 401 to it.
    refused: AtomicBool,
    accepted: AtomicBool,
    version: u64,
}

impl SeenRecord {
    fn new(key: &AccountKey, version: u64, record: AccountRecord) -> Self {
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
            signed: Arc::new(SignedHeaders {
                headers: header.into_iter().map(|value| (AUTHORIZATION, value)).collect(),
                seq: record.seq,
            }),
            until,
            ends,
            refused: AtomicBool::new(false),
            accepted: AtomicBool::new(false),
            version,
            record,
        }
    }

    pub(super) fn serves(&self, unix_ms: u64) -> bool {
        unix_ms < self.until && !self.refused.load(Relaxed) && self.record.ended != Some(EndReason::Revoked)
    }

    /// How long its access token still holds, in milliseconds; `None` when it does not. In its last
    /// moments it is sent where no newer one can be had in time.
    pub(super) fn time_left(&self, unix_ms: u64) -> Option<u64> {
        let is_good = !self.refused.load(Relaxed) && self.record.ended != Some(EndReason::Revoked);
        self.ends.checked_sub(unix_ms).filter(|left| is_good && *left > 0)
    }

    /// A deadline for something newer than a token in its last moments: half of them, so that it can
    /// still be used afterwards.
    pub(super) fn hurry(&self, unix_ms: u64, deadline: Instant) -> Instant {
        match self.time_left(unix_ms) {
            Some(left) if left < LAST_MOMENTS => {
                deadline.min(Instant::now() + Duration::from_millis(left / 2))
            }
            _ => deadline,
        }
    }

    pub(super) fn mark_refused(&self) {
        self.refused.store(true, Relaxed);
    }

    pub(super) fn mark_accepted(&self) {
        // Written once: what is only read stays in every core's cache.
        if !self.accepted.load(Relaxed) {
            self.accepted.store(true, Relaxed);
        }
    }

    /// Whether its access token was refused that had been had a moment ago, and was never taken.
    pub(super) fn is_unaccepted(&self, unix: u64) -> bool {
        let fresh = unix.saturating_sub(self.record.tokens.obtained_at) < FRESH;
        fresh && self.refused.load(Relaxed) && !self.accepted.load(Relaxed)
    }

    /// Why a person is asked; `None` while it can be renewed or serves.
    pub(super) fn ended(&self, unix_ms: u64) -> Option<EndReason> {
        let over = self.record.tokens.refresh.is_none() && !self.serves(unix_ms);
        let refused = match self.record.unanswered {
            true => EndReason::Interrupted,
            false => EndReason::Refused,
        };
        self.record
            .ended
            .or_else(|| over.then_some(EndReason::NoRefresh))
            .or_else(|| self.record.refusal.as_ref().map(|_| refused))
    }

    /// Whether a later renewal may go well although the last one was refused.
    pub(super) const fn may_recover(&self) -> bool {
        self.record.ended.is_none() && self.record.tokens.refresh.is_some()
    }

    /// Its state, with `lead` in seconds.
    pub(super) fn state(&self, unix_ms: u64, lead: u64) -> AccountState {
        match self.ended(unix_ms) {
            Some(EndReason::Revoked) => AccountState::Revoked,
            Some(_) => AccountState::NeedsReauth,
            None if self.record.failures >= UNHEALTHY => AccountState::Unhealthy,
            None if self.lifetime().is_within_lead(unix_ms / 1000, lead) => AccountState::Expiring,
            None => AccountState::Ok,
        }
    }

    pub(super) fn lifetime(&self) -> TokenLifetime {
        TokenLifetime::of(&self.record.tokens)
    }

    pub(super) fn trigger(&self) -> RefreshTrigger {
        if self.refused.load(Relaxed) {
            return RefreshTrigger::Refused {
                grant: Arc::clone(&self.grant),
                seq: self.record.seq,
            };
        }
        RefreshTrigger::Due
    }

    /// Whether `record` is certainly older than this.
    fn is_newer_than(&self, version: u64, record: &AccountRecord) -> bool {
        if *self.grant == *record.grant_id {
            return record.seq < self.record.seq;
        }
        record.connected_at < self.record.connected_at && version < self.version
    }
}

impl AccountSlot {
    pub(super) fn new(owner: &AccountOwner, account: &str) -> Arc<Self> {
        let key = AccountKey {
            owner: owner.clone(),
            account: account.into(),
        };
        Arc::new(Self {
            key,
            seen: ArcSwapOption::empty(),
            written: AtomicU64::new(0),
            signatures: RwLock::default(),
            used: AtomicU64::new(0),
            lease_watch: Mutex::default(),
            in_flight: Mutex::default(),
            store_fault: Mutex::default(),
            backoff: Mutex::default(),
            last_failure: Mutex::default(),
            renewed_after_401: Mutex::default(),
        })
    }

    /// What was seen last; `None` once the account is gone.
    pub(super) fn seen(&self) -> Option<Arc<SeenRecord>> {
        self.seen.load_full()
    }

    /// Takes a record of a reading, unless it was written here since: stores may answer a little behind.
    pub(super) fn take_read(&self, version: u64, record: AccountRecord, reading: u64) {
        let before = self.seen();
        let late = self.written.load(Relaxed) >= reading;
        let stays = |seen: &Arc<SeenRecord>| late || seen.is_newer_than(version, &record);
        if before.as_ref().is_some_and(stays) {
            return;
        }
        self.replace(before.as_deref(), version, record);
    }

    /// Takes a record that was written here, or read alone.
    pub(super) fn take_written(&self, version: u64, record: AccountRecord, readings: u64) {
        let before = self.seen();
        let is_newer = |seen: &Arc<SeenRecord>| seen.is_newer_than(version, &record);
        if before.as_ref().is_some_and(is_newer) {
            return;
        }
        self.written.store(readings, Relaxed);
        self.replace(before.as_deref(), version, record);
    }

    fn replace(&self, before: Option<&SeenRecord>, version: u64, record: AccountRecord) {
        if before.is_some_and(|seen| seen.record == record && seen.version == version) {
            return;
        }
        let seen = SeenRecord::new(&self.key, version, record);
        let same = |it: &&SeenRecord| it.grant == seen.grant && it.record.seq == seen.record.seq;
        if let Some(before) = before.filter(same) {
            seen.refused.store(before.refused.load(Relaxed), Relaxed);
            seen.accepted.store(before.accepted.load(Relaxed), Relaxed);
        }
        self.seen.store(Some(Arc::new(seen)));
    }

    /// How long callers wait before the next refresh, and why.
    pub(super) fn backoff_left(&self, now: u64) -> Option<(Duration, Option<Arc<str>>)> {
        let backoff = self.backoff.lock();
        let backoff = backoff.as_ref()?;
        let left = backoff.for_callers.saturating_sub(now);
        (left > 0).then(|| (Duration::from_millis(left), backoff.cause.clone()))
    }

    /// When a refresh that nobody waits for may begin again, in milliseconds of the monotonic clock.
    pub(super) fn resumes_at(&self) -> u64 {
        self.backoff.lock().as_ref().map_or(0, |it| it.in_background)
    }

    /// The account is removed: signatures of it sign nothing from now on.
    pub(super) fn clear(&self) {
        self.seen.store(None);
        self.signatures.write().clear();
    }

    /// The signature for a provider under the grant that was seen; made once.
    pub(super) fn signature_for(
        &self,
        seen: &SeenRecord,
        connection: &Arc<Connection>,
        make: impl FnOnce() -> Signature,
    ) -> Arc<Signature> {
        let fits =
            |hand: &&ProviderSignature| Arc::ptr_eq(&hand.connection, connection) && hand.grant == seen.grant;
        if let Some(hand) = self.signatures.read().iter().find(fits) {
            return Arc::clone(&hand.signature);
        }
        let made = Arc::new(make());
        let mut hands = self.signatures.write();
        hands.retain(|it| it.connection.provider != connection.provider && it.grant == seen.grant);
        hands.truncate(MAX_SIGNATURES - 1);
        hands.push(ProviderSignature {
            connection: Arc::clone(connection),
            grant: Arc::clone(&seen.grant),
            signature: Arc::clone(&made),
        });
        made
    }
}
