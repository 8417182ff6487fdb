//! Which account a call uses, and its signature.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::signer::AccountSigner;
use super::{AccountQuery, CredentialManager, GrantError, GrantedAccount, Reason};
use crate::cache::OwnerAccounts;
use crate::connection::Connection;
use crate::record::EndReason;
use crate::refresh::{FinalState, RefreshTrigger};
use crate::slot::{AccountSlot, LAST_MOMENTS, SeenRecord};
use crate::vault::{Fault, Kind};
use pleiades_core::signature::Signature;

/// How long a call with a valid token waits for a store that is asked only whether it still stands.
const BRIEFLY: Duration = Duration::from_millis(250);
/// When a caller may come back, where nobody says.
const SOON: Duration = Duration::from_secs(5);
/// Turns of one grant: the store changes under it no more often than that.
const TURNS: u32 = 8;

/// Why none of the accounts is the one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NoChoice {
    /// None of that name, or none at all.
    None,
    /// Several and no default.
    Several,
}

/// How an account stands.
enum Readiness {
    Serves(Arc<SeenRecord>),
    Ended(EndReason),
    Renew(RefreshTrigger),
    Gone,
}

impl CredentialManager {
    /// The signature of an account when it is in memory and valid: no I/O.
    #[must_use]
    pub fn grant_cached(&self, ask: &AccountQuery<'_>) -> Option<GrantedAccount> {
        let entry = self.cache.get(&ask.owner())?;
        let now = self.clock.monotonic_ms();
        if !entry.is_fresh(now) {
            return None;
        }
        let slot = entry.with(|slots| select(slots, ask).ok().cloned())?;
        let seen = slot.seen().filter(|seen| seen.serves(self.clock.unix_ms()))?;
        Some(self.granted(&entry, &slot, &seen, ask.connection))
    }

    /// The signature of an account, read and renewed where needed, within a bound.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn grant(
        &self,
        ask: &AccountQuery<'_>,
        within: Duration,
    ) -> Result<GrantedAccount, GrantError> {
        let deadline = Instant::now() + within;
        let entry = self.cache.entry(&ask.owner(), self.clock.monotonic_ms());
        let chosen = || entry.with(|slots| select(slots, ask).ok().cloned());
        let seen = chosen().and_then(|slot| slot.seen());
        let hurried = seen.map_or(deadline, |seen| self.hurry_deadline(&seen, deadline));
        let refused = match self.grant_by(ask, &entry, hurried).await {
            Err(refused) if refused.is_passing() => refused,
            done => return done,
        };
        // Nothing newer can be had in time: a token in its last moments is a good one.
        match chosen().and_then(|slot| Some((slot.seen()?, slot))) {
            Some((seen, slot))
                if entry.age(self.clock.monotonic_ms()).is_some() && self.still_holds(&seen) =>
            {
                Ok(self.granted(&entry, &slot, &seen, ask.connection))
            }
            // It ended while it was hurried for: now there is all the time that the caller has.
            _ if hurried < deadline => self.grant_by(ask, &entry, deadline).await,
            _ => Err(refused),
        }
    }

    /// Whether an access token still holds, if only for its last moments.
    pub(super) fn still_holds(&self, seen: &SeenRecord) -> bool {
        seen.time_left(self.clock.unix_ms()).is_some()
    }

    /// A bound for having something newer than a token in its last moments: half of them, so that it
    /// can still be used afterwards.
    pub(super) fn hurry_deadline(&self, seen: &SeenRecord, deadline: Instant) -> Instant {
        match seen.time_left(self.clock.unix_ms()) {
            Some(left) if left < LAST_MOMENTS => {
                deadline.min(Instant::now() + Duration::from_millis(left / 2))
            }
            _ => deadline,
        }
    }

    async fn grant_by(
        &self,
        ask: &AccountQuery<'_>,
        entry: &Arc<OwnerAccounts>,
        deadline: Instant,
    ) -> Result<GrantedAccount, GrantError> {
        let since = entry.readings();
        self.freshen(entry, ask, deadline).await?;
        for _ in 0..TURNS {
            let chosen = entry.with(|slots| select(slots, ask).cloned());
            let readiness = chosen.as_ref().map(|slot| self.readiness(slot));
            let refused = match (&chosen, readiness) {
                (Ok(slot), Ok(Readiness::Serves(seen))) => {
                    return Ok(self.granted(entry, slot, &seen, ask.connection));
                }
                (Ok(slot), Ok(Readiness::Renew(why))) => {
                    self.renew_by(slot, ask.connection, why, deadline).await?;
                    continue;
                }
                (Ok(slot), Ok(Readiness::Ended(ended))) => self.end_error(entry, slot, ended),
                (Err(unclear), _) | (_, Err(unclear)) => self.choice_error(entry, *unclear, ask),
                (Ok(_), Ok(Readiness::Gone)) => self.choice_error(entry, NoChoice::None, ask),
            };
            // Another replica, or the command line, may have connected it a moment ago.
            if entry.is_read_since(since) {
                return Err(refused);
            }
            self.reread_by(entry, since, deadline).await?;
        }
        Err(waiting(SOON, None))
    }

    /// Reads again what is too old. A call that has a valid token waits for that only briefly, and
    /// not at all when the store failed a moment ago.
    async fn freshen(
        &self,
        entry: &Arc<OwnerAccounts>,
        ask: &AccountQuery<'_>,
        deadline: Instant,
    ) -> Result<(), GrantError> {
        let now = self.clock.monotonic_ms();
        let serves = entry.with(|slots| {
            let seen = select(slots, ask).ok().and_then(|slot| slot.seen());
            seen.is_some_and(|seen| self.still_holds(&seen))
        });
        // Never chosen among some only: the default may be one that was not read yet.
        if serves && entry.age(now).is_some() {
            if !entry.is_fresh(now) {
                let until = deadline.min(Instant::now() + BRIEFLY);
                let asked = self.reread(entry, entry.readings());
                if timeout_at(until, asked).await.is_err() {
                    tracing::debug!("the credential store is slow: a token in memory serves meanwhile");
                }
            }
            return Ok(());
        }
        if entry.is_fresh(now) {
            return Ok(());
        }
        self.reread_by(entry, entry.readings(), deadline).await
    }

    async fn reread_by(
        &self,
        entry: &Arc<OwnerAccounts>,
        since: u64,
        deadline: Instant,
    ) -> Result<(), GrantError> {
        match timeout_at(deadline, self.reread(entry, since)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(fault)) => Err(unavailable(&fault)),
            Err(_) => Err(GrantError::Unavailable {
                store: Kind::Unreachable,
                retry_after: SOON,
            }),
        }
    }

    /// Renews an account within the caller's bound.
    pub(super) async fn renew_by(
        &self,
        slot: &Arc<AccountSlot>,
        connection: &Arc<Connection>,
        why: RefreshTrigger,
        deadline: Instant,
    ) -> Result<(), GrantError> {
        if let Some((left, cause)) = self.backoff_left(slot) {
            return Err(waiting(left, cause));
        }
        let outcome = timeout_at(deadline, self.refresh_or_join(slot, connection, why)).await;
        match outcome.unwrap_or(FinalState::Stopped) {
            FinalState::Refreshed
            | FinalState::Newer { .. }
            | FinalState::NotDue
            | FinalState::Gone
            | FinalState::Refused
            | FinalState::Ended(_) => Ok(()),
            FinalState::Failed { after } => {
                let cause = self.backoff_left(slot).and_then(|(_, cause)| cause);
                Err(waiting(after.map_or(SOON, Duration::from_millis), cause))
            }
            FinalState::StoreDown => Err(GrantError::Unavailable {
                store: slot.store_fault.lock().unwrap_or(Kind::Unreachable),
                retry_after: SOON,
            }),
            FinalState::Stopped => Err(waiting(SOON, None)),
        }
    }

    fn readiness(&self, slot: &AccountSlot) -> Readiness {
        let Some(seen) = slot.seen() else {
            return Readiness::Gone;
        };
        let unix_ms = self.clock.unix_ms();
        if seen.serves(unix_ms) {
            return Readiness::Serves(seen);
        }
        match seen.ended(unix_ms) {
            // What may have passed is asked for again, but not with each call.
            Some(ended) if !seen.may_recover() || self.backoff_left(slot).is_some() => {
                Readiness::Ended(ended)
            }
            _ => Readiness::Renew(seen.trigger()),
        }
    }

    /// The refusal for an account that only a person can mend.
    pub(super) fn end_error(
        &self,
        entry: &OwnerAccounts,
        slot: &AccountSlot,
        ended: EndReason,
    ) -> GrantError {
        let connect = |reason| GrantError::NotConnected {
            reason,
            wanted: None,
            accounts: self.describe(entry),
        };
        let seen = slot.seen();
        let unrenewed = seen.as_ref().is_some_and(|seen| seen.may_recover());
        let unix = self.clock.unix();
        let fingerprint = seen.as_ref().map(|seen| seen.fingerprint);
        let unaccepted = seen.as_ref().is_some_and(|seen| seen.is_unaccepted(unix));
        let cause = seen.and_then(|seen| seen.record.refusal.clone());
        let expired = |reason| GrantError::Expired {
            account: Arc::clone(&slot.key.account),
            reason,
            cause: cause.map(|cause| cause.why),
            fingerprint,
        };
        match ended {
            EndReason::Revoked => connect(Reason::Revoked),
            EndReason::Scopes => connect(Reason::Scopes),
            EndReason::Refused if unrenewed => expired(Reason::Unrenewed),
            EndReason::Refused => expired(Reason::Refused),
            EndReason::NoRefresh if unaccepted => expired(Reason::Unaccepted),
            EndReason::NoRefresh => expired(Reason::NoRefresh),
            EndReason::Interrupted => expired(Reason::Interrupted),
        }
    }

    fn choice_error(&self, entry: &OwnerAccounts, unclear: NoChoice, ask: &AccountQuery<'_>) -> GrantError {
        let accounts = self.describe(entry);
        match unclear {
            NoChoice::None => GrantError::NotConnected {
                reason: Reason::NeverConnected,
                wanted: ask.account.map(str::to_owned),
                accounts,
            },
            NoChoice::Several => GrantError::Ambiguous { accounts },
        }
    }

    fn granted(
        &self,
        entry: &OwnerAccounts,
        slot: &Arc<AccountSlot>,
        seen: &SeenRecord,
        connection: &Arc<Connection>,
    ) -> GrantedAccount {
        let now = self.clock.monotonic_ms();
        entry.touch(now);
        slot.used.store(now, Relaxed);
        let make = || {
            let held = AccountSigner::new(&self.me, slot, connection, seen);
            Signature::renewed(Arc::new(held), Some(seen.fingerprint))
        };
        GrantedAccount {
            signature: slot.signature_for(seen, connection, make),
            account: Arc::clone(&slot.key.account),
        }
    }
}

/// The one that the call names, else the one that its session used, else the user's default, else
/// the only one.
fn select<'a>(
    slots: &'a [Arc<AccountSlot>],
    ask: &AccountQuery<'_>,
) -> Result<&'a Arc<AccountSlot>, NoChoice> {
    let named = |name: &str| slots.iter().find(|slot| *slot.key.account == *name);
    if let Some(name) = ask.account {
        return named(name).ok_or(NoChoice::None);
    }
    if let Some(slot) = ask.remembered.and_then(named) {
        return Ok(slot);
    }
    default_account(slots).ok_or(if slots.is_empty() {
        NoChoice::None
    } else {
        NoChoice::Several
    })
}

/// The user's default: the one chosen last, else the only one.
pub(super) fn default_account(slots: &[Arc<AccountSlot>]) -> Option<&Arc<AccountSlot>> {
    if let [only] = slots {
        return Some(only);
    }
    let chosen = |slot: &Arc<AccountSlot>| slot.seen().map_or(0, |seen| seen.record.chosen);
    let (at, slot) = slots
        .iter()
        .map(|slot| (chosen(slot), slot))
        .max_by_key(|(at, _)| *at)?;
    (at > 0).then_some(slot)
}

fn waiting(retry_after: Duration, cause: Option<Arc<str>>) -> GrantError {
    GrantError::Waiting { retry_after, cause }
}

fn unavailable(fault: &Fault) -> GrantError {
    GrantError::Unavailable {
        store: fault.kind,
        retry_after: fault.retry_after.unwrap_or(SOON),
    }
}
