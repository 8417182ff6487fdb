//! Which account a call uses, and its signature.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::held::Held;
use super::{Ask, Granted, Keeper, Reason, Refused};
use crate::credential::cache::Entry;
use crate::credential::connection::Connection;
use crate::credential::record::Ended;
use crate::credential::refresh::{Outcome, Why};
use crate::credential::signature::Signature;
use crate::credential::slot::{LAST_MOMENTS, Seen, Slot};
use crate::credential::vault::{Fault, Kind};

/// How long a call with a valid token waits for a store that is asked only whether it still stands.
const BRIEFLY: Duration = Duration::from_millis(250);
/// When a caller may come back, where nobody says.
const SOON: Duration = Duration::from_secs(5);
/// Turns of one grant: the store changes under it no more often than that.
const TURNS: u32 = 8;

/// Why none of the accounts is the one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unclear {
    /// None of that name, or none at all.
    None,
    /// Several and no default.
    Several,
}

/// How an account stands.
enum Standing {
    Serves(Arc<Seen>),
    Ended(Ended),
    Renew(Why),
    Gone,
}

impl Keeper {
    /// The signature of an account when it is in memory and valid: no I/O.
    #[must_use]
    pub fn at_hand(&self, ask: &Ask<'_>) -> Option<Granted> {
        let entry = self.cache.get(&ask.owner())?;
        let now = self.clock.grown();
        if !entry.is_fresh(now) {
            return None;
        }
        let slot = entry.with(|slots| choose(slots, ask).ok().cloned())?;
        let seen = slot.seen().filter(|seen| seen.serves(self.clock.unix_ms()))?;
        Some(self.granted(&entry, &slot, &seen, ask.connection))
    }

    /// The signature of an account, read and renewed where needed, within a bound.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn grant(&self, ask: &Ask<'_>, within: Duration) -> Result<Granted, Refused> {
        let deadline = Instant::now() + within;
        let entry = self.cache.entry(&ask.owner(), self.clock.grown());
        let chosen = || entry.with(|slots| choose(slots, ask).ok().cloned());
        let seen = chosen().and_then(|slot| slot.seen());
        let hurried = seen.map_or(deadline, |seen| self.hurried(&seen, deadline));
        let refused = match self.granting(ask, &entry, hurried).await {
            Err(refused) if refused.is_passing() => refused,
            done => return done,
        };
        // Nothing newer can be had in time: a token in its last moments is a good one.
        match chosen().and_then(|slot| Some((slot.seen()?, slot))) {
            Some((seen, slot)) if entry.age(self.clock.grown()).is_some() && self.lasts(&seen) => {
                Ok(self.granted(&entry, &slot, &seen, ask.connection))
            }
            // It ended while it was hurried for: now there is all the time that the caller has.
            _ if hurried < deadline => self.granting(ask, &entry, deadline).await,
            _ => Err(refused),
        }
    }

    /// Whether an access token still holds, if only for its last moments.
    pub(super) fn lasts(&self, seen: &Seen) -> bool {
        seen.left(self.clock.unix_ms()).is_some()
    }

    /// A bound for having something newer than a token in its last moments: half of them, so that it
    /// can still be used afterwards.
    pub(super) fn hurried(&self, seen: &Seen, deadline: Instant) -> Instant {
        match seen.left(self.clock.unix_ms()) {
            Some(left) if left < LAST_MOMENTS => {
                deadline.min(Instant::now() + Duration::from_millis(left / 2))
            }
            _ => deadline,
        }
    }

    async fn granting(
        &self,
        ask: &Ask<'_>,
        entry: &Arc<Entry>,
        deadline: Instant,
    ) -> Result<Granted, Refused> {
        let since = entry.readings();
        self.freshen(entry, ask, deadline).await?;
        for _ in 0..TURNS {
            let chosen = entry.with(|slots| choose(slots, ask).cloned());
            let standing = chosen.as_ref().map(|slot| self.standing(slot));
            let refused = match (&chosen, standing) {
                (Ok(slot), Ok(Standing::Serves(seen))) => {
                    return Ok(self.granted(entry, slot, &seen, ask.connection));
                }
                (Ok(slot), Ok(Standing::Renew(why))) => {
                    self.renewed(slot, ask.connection, why, deadline).await?;
                    continue;
                }
                (Ok(slot), Ok(Standing::Ended(ended))) => self.over(entry, slot, ended),
                (Err(unclear), _) | (_, Err(unclear)) => self.unclear(entry, *unclear, ask),
                (Ok(_), Ok(Standing::Gone)) => self.unclear(entry, Unclear::None, ask),
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
    async fn freshen(&self, entry: &Arc<Entry>, ask: &Ask<'_>, deadline: Instant) -> Result<(), Refused> {
        let now = self.clock.grown();
        let serves = entry.with(|slots| {
            let seen = choose(slots, ask).ok().and_then(|slot| slot.seen());
            seen.is_some_and(|seen| self.lasts(&seen))
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

    async fn reread_by(&self, entry: &Arc<Entry>, since: u64, deadline: Instant) -> Result<(), Refused> {
        match timeout_at(deadline, self.reread(entry, since)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(fault)) => Err(unavailable(&fault)),
            Err(_) => Err(Refused::Unavailable {
                store: Kind::Unreachable,
                retry_after: SOON,
            }),
        }
    }

    /// Renews an account within the caller's bound.
    pub(super) async fn renewed(
        &self,
        slot: &Arc<Slot>,
        connection: &Arc<Connection>,
        why: Why,
        deadline: Instant,
    ) -> Result<(), Refused> {
        if let Some((left, said)) = self.setback(slot) {
            return Err(waiting(left, said));
        }
        let outcome = timeout_at(deadline, self.pursue(slot, connection, why)).await;
        match outcome.unwrap_or(Outcome::Stopped) {
            Outcome::Refreshed
            | Outcome::Newer { .. }
            | Outcome::NotDue
            | Outcome::Gone
            | Outcome::Refused
            | Outcome::Ended(_) => Ok(()),
            Outcome::Failed { after } => {
                let said = self.setback(slot).and_then(|(_, said)| said);
                Err(waiting(after.map_or(SOON, Duration::from_millis), said))
            }
            Outcome::StoreDown => Err(Refused::Unavailable {
                store: slot.store.lock().unwrap_or(Kind::Unreachable),
                retry_after: SOON,
            }),
            Outcome::Stopped => Err(waiting(SOON, None)),
        }
    }

    fn standing(&self, slot: &Slot) -> Standing {
        let Some(seen) = slot.seen() else {
            return Standing::Gone;
        };
        let unix_ms = self.clock.unix_ms();
        if seen.serves(unix_ms) {
            return Standing::Serves(seen);
        }
        match seen.ended(unix_ms) {
            // What may have passed is asked for again, but not with each call.
            Some(ended) if !seen.may_mend() || self.setback(slot).is_some() => Standing::Ended(ended),
            _ => Standing::Renew(seen.why()),
        }
    }

    /// The refusal for an account that only a person can mend.
    pub(super) fn over(&self, entry: &Entry, slot: &Slot, ended: Ended) -> Refused {
        let connect = |reason| Refused::NotConnected {
            reason,
            wanted: None,
            accounts: self.told(entry),
        };
        let seen = slot.seen();
        let unrenewed = seen.as_ref().is_some_and(|seen| seen.may_mend());
        let unix = self.clock.unix();
        let fingerprint = seen.as_ref().map(|seen| seen.fingerprint);
        let unaccepted = seen.as_ref().is_some_and(|seen| seen.is_unaccepted(unix));
        let said = seen.and_then(|seen| seen.record.refusal.clone());
        let expired = |reason| Refused::Expired {
            account: Arc::clone(&slot.key.account),
            reason,
            said: said.map(|said| said.why),
            fingerprint,
        };
        match ended {
            Ended::Revoked => connect(Reason::Revoked),
            Ended::Scopes => connect(Reason::Scopes),
            Ended::Refused if unrenewed => expired(Reason::Unrenewed),
            Ended::Refused => expired(Reason::Refused),
            Ended::NoRefresh if unaccepted => expired(Reason::Unaccepted),
            Ended::NoRefresh => expired(Reason::NoRefresh),
            Ended::Interrupted => expired(Reason::Interrupted),
        }
    }

    fn unclear(&self, entry: &Entry, unclear: Unclear, ask: &Ask<'_>) -> Refused {
        let accounts = self.told(entry);
        match unclear {
            Unclear::None => Refused::NotConnected {
                reason: Reason::NeverConnected,
                wanted: ask.account.map(str::to_owned),
                accounts,
            },
            Unclear::Several => Refused::Ambiguous { accounts },
        }
    }

    fn granted(&self, entry: &Entry, slot: &Arc<Slot>, seen: &Seen, connection: &Arc<Connection>) -> Granted {
        let now = self.clock.grown();
        entry.touch(now);
        slot.used.store(now, Relaxed);
        let make = || {
            let held = Held::new(&self.me, slot, connection, seen);
            Signature::held(Arc::new(held), Some(seen.fingerprint))
        };
        Granted {
            signature: slot.hand(seen, connection, make),
            account: Arc::clone(&slot.key.account),
        }
    }
}

/// The one that the call names, else the one that its session used, else the user's default, else
/// the only one.
fn choose<'a>(slots: &'a [Arc<Slot>], ask: &Ask<'_>) -> Result<&'a Arc<Slot>, Unclear> {
    let named = |name: &str| slots.iter().find(|slot| *slot.key.account == *name);
    if let Some(name) = ask.account {
        return named(name).ok_or(Unclear::None);
    }
    if let Some(slot) = ask.remembered.and_then(named) {
        return Ok(slot);
    }
    usual(slots).ok_or(if slots.is_empty() {
        Unclear::None
    } else {
        Unclear::Several
    })
}

/// The user's default: the one chosen last, else the only one.
pub(super) fn usual(slots: &[Arc<Slot>]) -> Option<&Arc<Slot>> {
    if let [only] = slots {
        return Some(only);
    }
    let chosen = |slot: &Arc<Slot>| slot.seen().map_or(0, |seen| seen.record.chosen);
    let (at, slot) = slots
        .iter()
        .map(|slot| (chosen(slot), slot))
        .max_by_key(|(at, _)| *at)?;
    (at > 0).then_some(slot)
}

fn waiting(retry_after: Duration, said: Option<Arc<str>>) -> Refused {
    Refused::Waiting { retry_after, said }
}

fn unavailable(fault: &Fault) -> Refused {
    Refused::Unavailable {
        store: fault.kind,
        retry_after: fault.retry_after.unwrap_or(SOON),
    }
}
