//! Which account a call uses, and its signature.

use std::sync::atomic::Ordering::Relaxed;
use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::default::{DefaultAccount, default_account};
use super::renewal::{SOON, end_error, renew_within, waiting};
use super::signer::AccountSigner;
use super::{AccountQuery, CredentialManager, GrantError, GrantedAccount, Reason};
use crate::slot::{AccountSlot, SeenRecord};
use crate::vault::{Fault, Kind};
use crate::{cache::OwnerAccounts, connection::Connection, record::EndReason, refresh::RefreshTrigger};
use pleiades_core::signature::Signature;

/// How long a call with a valid token waits for the vault to say whether the account is still there.
const BRIEFLY: Duration = Duration::from_millis(250);
/// How often the state of an account may change while one call waits for it.
const TURNS: u32 = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NoChoice {
    /// None of that name, or none at all.
    None,
    /// Several and no default.
    Several,
}

enum Readiness {
    Serves(Arc<SeenRecord>),
    Ended(EndReason),
    Renew(RefreshTrigger),
    Gone,
}

impl CredentialManager {
    /// The signature of the account that a call means, if it is in memory and valid. No I/O.
    #[must_use]
    pub fn grant_cached(&self, query: &AccountQuery<'_>) -> Option<GrantedAccount> {
        let entry = self.cache.get(&query.owner())?;
        let now = self.clock.monotonic_ms();
        if !entry.is_fresh(now) {
            return None;
        }
        let unix_ms = self.clock.unix_ms();
        let slot = entry.with(|slots| select(slots, query, unix_ms).ok().cloned())?;
        let seen = slot.seen().filter(|seen| seen.serves(unix_ms))?;
        Some(self.granted(&entry, &slot, &seen, query.connection))
    }

    /// The signature of the account that a call means, read and renewed where needed, `within` a bound.
    ///
    /// # Errors
    /// [`GrantError`].
    pub async fn grant(
        &self,
        query: &AccountQuery<'_>,
        within: Duration,
    ) -> Result<GrantedAccount, GrantError> {
        let deadline = Instant::now() + within;
        let entry = self.cache.entry(&query.owner(), self.clock.monotonic_ms());
        let chosen = || entry.with(|slots| select(slots, query, self.clock.unix_ms()).ok().cloned());
        let seen = chosen().and_then(|slot| slot.seen());
        let hurried = seen.map_or(deadline, |seen| seen.hurry(self.clock.unix_ms(), deadline));
        let refused = match self.grant_by(query, &entry, hurried).await {
            Err(refused) if refused.is_passing() => refused,
            done => return done,
        };
        // Nothing newer can be had in time: a token in its last moments still serves.
        match chosen().and_then(|slot| Some((slot.seen()?, slot))) {
            Some((seen, slot))
                if entry.age(self.clock.monotonic_ms()).is_some()
                    && seen.time_left(self.clock.unix_ms()).is_some() =>
            {
                Ok(self.granted(&entry, &slot, &seen, query.connection))
            }
            // The token ended while a newer one was hurried for: now the caller's whole time may be used.
            _ if hurried < deadline => self.grant_by(query, &entry, deadline).await,
            _ => Err(refused),
        }
    }

    async fn grant_by(
        &self,
        query: &AccountQuery<'_>,
        entry: &Arc<OwnerAccounts>,
        deadline: Instant,
    ) -> Result<GrantedAccount, GrantError> {
        let since = entry.readings();
        self.freshen(entry, query, deadline).await?;
        for _ in 0..TURNS {
            let chosen = entry.with(|slots| select(slots, query, self.clock.unix_ms()).cloned());
            let readiness = chosen.as_ref().map(|slot| self.readiness(slot));
            let refused = match (&chosen, readiness) {
                (Ok(slot), Ok(Readiness::Serves(seen))) => {
                    return Ok(self.granted(entry, slot, &seen, query.connection));
                }
                (Ok(slot), Ok(Readiness::Renew(trigger))) => {
                    renew_within(self, slot, query.connection, trigger, deadline).await?;
                    continue;
                }
                (Ok(slot), Ok(Readiness::Ended(ended))) => {
                    self.chosen_by_user(entry, slot, query, end_error(self, entry, slot, ended))
                }
                (Err(reason), _) | (_, Err(reason)) => self.choice_error(entry, *reason, query),
                (Ok(_), Ok(Readiness::Gone)) => self.choice_error(entry, NoChoice::None, query),
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
        query: &AccountQuery<'_>,
        deadline: Instant,
    ) -> Result<(), GrantError> {
        let now = self.clock.monotonic_ms();
        let serves = entry.with(|slots| {
            let unix_ms = self.clock.unix_ms();
            let seen = select(slots, query, unix_ms).ok().and_then(|slot| slot.seen());
            seen.is_some_and(|seen| seen.time_left(unix_ms).is_some())
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
                cause: Some("the credential store did not answer in time".to_owned()),
            }),
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
            // What may have passed is tried again, but not with each call.
            Some(ended) if !seen.may_recover() || slot.backoff_left(self.clock.monotonic_ms()).is_some() => {
                Readiness::Ended(ended)
            }
            _ => Readiness::Renew(seen.trigger()),
        }
    }

    /// Adds to the error for a default that has ended those that work: its user chose it, so none of them is
    /// used in its place, but a call can name one.
    fn chosen_by_user(
        &self,
        entry: &OwnerAccounts,
        slot: &Arc<AccountSlot>,
        query: &AccountQuery<'_>,
        error: GrantError,
    ) -> GrantError {
        let is_unnamed = query.account.is_none() && query.remembered != Some(&*slot.key.account);
        match error {
            GrantError::Expired {
                account,
                reason,
                cause,
                fingerprint,
                ..
            } if is_unnamed => GrantError::Expired {
                account,
                reason,
                cause,
                fingerprint,
                others: working(self.describe(entry)),
            },
            error => error,
        }
    }

    fn choice_error(&self, entry: &OwnerAccounts, reason: NoChoice, query: &AccountQuery<'_>) -> GrantError {
        let accounts = self.describe(entry);
        match reason {
            NoChoice::None => GrantError::NotConnected {
                reason: match entry.has_lost(query.account) {
                    true => Reason::Revoked,
                    false => Reason::NeverConnected,
                },
                wanted: query.account.map(str::to_owned),
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
            let signer = AccountSigner::new(&self.me, slot, connection, seen);
            Signature::renewed(Arc::new(signer), Some(seen.fingerprint))
        };
        GrantedAccount {
            signature: slot.signature_for(seen, connection, make),
            account: Arc::clone(&slot.key.account),
        }
    }
}

fn working(accounts: Vec<super::Account>) -> Vec<super::Account> {
    accounts.into_iter().filter(|it| it.state.works()).collect()
}

/// The one that the call names, else the one that its session used, else the user's default.
fn select<'a>(
    slots: &'a [Arc<AccountSlot>],
    query: &AccountQuery<'_>,
    unix_ms: u64,
) -> Result<&'a Arc<AccountSlot>, NoChoice> {
    let named = |name: &str| slots.iter().find(|slot| *slot.key.account == *name);
    if let Some(name) = query.account {
        return named(name).ok_or(NoChoice::None);
    }
    if let Some(slot) = query.remembered.and_then(named) {
        return Ok(slot);
    }
    match default_account(slots, unix_ms) {
        DefaultAccount::Of(slot) => Ok(slot),
        DefaultAccount::Several => Err(NoChoice::Several),
        DefaultAccount::Missing => Err(NoChoice::None),
    }
}

fn unavailable(fault: &Fault) -> GrantError {
    GrantError::Unavailable {
        store: fault.kind,
        retry_after: fault.retry_after.unwrap_or_else(|| fault.kind.retry_after()),
        cause: Some(fault.in_full()),
    }
}
