//! Renews accounts that no replica uses: one replica at a time walks the vault, unhurried, and renews
//! what is due.

use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::{CredentialManager, background::spawn_renewal, records::within, refresh_task::nonce};
use crate::key::{AccountKey, AccountOwner};
use crate::record::TokenSet;
use crate::refresh::{LeaseWatch, TokenLifetime};
use crate::vault::{Fault, Hint, Path, Wrote};
use pleiades_core::{random, secret::Secret};

/// Between two walks.
const PERIOD: Duration = Duration::from_secs(60);
/// Before the first, plus as much again by chance.
const FIRST: Duration = Duration::from_secs(5);
/// Between two questions to the store.
const PACE: Duration = Duration::from_millis(20);
/// A sweeper without a beat for so long is dead, in milliseconds.
const LOST_AFTER: u64 = 180_000;
/// The time between two beats, in milliseconds.
const BEAT_EVERY: u64 = 30_000;

/// Who sweeps, and that it is alive: the content of `_gateway/sweep`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SweeperBeat {
    nonce: String,
    beat: u64,
}

/// Starts the sweeper of a manager; it ends with it.
pub(super) fn begin(manager: &Arc<CredentialManager>) {
    let sweeper = Sweeper {
        manager: Arc::downgrade(manager),
        name: nonce(),
        others: LeaseWatch::default(),
        beaten: 0,
    };
    manager.parts.control.spawn(sweeper.run());
}

#[derive(Debug)]
struct Sweeper {
    manager: Weak<CredentialManager>,
    name: String,
    others: LeaseWatch,
    beaten: u64,
}

#[derive(Debug)]
enum WalkEnd {
    /// Somebody else sweeps, or the process ends.
    Others,
    Store(Fault),
}

impl From<Fault> for WalkEnd {
    fn from(fault: Fault) -> Self {
        Self::Store(fault)
    }
}

impl Sweeper {
    async fn run(mut self) {
        sleep(random::between(FIRST, FIRST * 2)).await;
        while let Some(manager) = self.manager.upgrade().filter(|it| !it.closing.is_cancelled()) {
            match self.walk(&manager).await {
                Ok(()) | Err(WalkEnd::Others) => {}
                Err(WalkEnd::Store(fault)) => tracing::debug!(
                    error = &fault as &dyn std::error::Error,
                    "the walk over stored credentials ended early; the next begins in a minute"
                ),
            }
            tokio::select! {
                () = sleep(random::between(PERIOD, PERIOD + PERIOD / 10)) => {}
                () = manager.closing.cancelled() => return,
            }
        }
    }

    async fn walk(&mut self, manager: &Arc<CredentialManager>) -> Result<(), WalkEnd> {
        self.beat(manager).await?;
        let root = Path::of(&["c"]);
        for tenant in manager.records.list(&root).await? {
            let users = root.child(&tenant);
            for user in self.names(manager, &users).await? {
                for connection in self.names(manager, &users.child(&user)).await? {
                    let owner = AccountOwner {
                        tenant: tenant.as_str().into(),
                        user: user.as_str().into(),
                        connection: connection.into(),
                    };
                    self.owner(manager, &owner).await?;
                }
            }
        }
        Ok(())
    }

    async fn owner(&mut self, manager: &Arc<CredentialManager>, owner: &AccountOwner) -> Result<(), WalkEnd> {
        let found = manager.connection_of(&owner.connection, &owner.connection);
        let Some(connection) = found else {
            return Ok(());
        };
        let lead = connection.lead.as_secs();
        for account in self.names(manager, &Path::accounts(owner)).await? {
            self.pace(manager).await?;
            let key = AccountKey {
                owner: owner.clone(),
                account: account.into(),
            };
            let hint = within(manager.vault().hint(&Path::account(&key))).await?;
            if hint.is_some_and(|hint| !may_be_due(&hint, manager.clock.unix(), lead)) {
                continue;
            }
            // A record that cannot be read is no reason to leave the others alone.
            let Ok(Some((version, record))) = manager.records.read(&key).await else {
                continue;
            };
            let due = TokenLifetime::of(&record.tokens).is_within_lead(manager.clock.unix(), lead);
            if due && record.ended.is_none() && record.tokens.refresh.is_some() {
                manager.keep(&key, version, record);
                spawn_renewal(manager, key);
            }
        }
        Ok(())
    }

    async fn names(
        &mut self,
        manager: &Arc<CredentialManager>,
        folder: &Path,
    ) -> Result<Vec<String>, WalkEnd> {
        self.pace(manager).await?;
        Ok(manager.records.list(folder).await?)
    }

    /// Leaves the vault time for others, and writes a beat now and then.
    async fn pace(&mut self, manager: &Arc<CredentialManager>) -> Result<(), WalkEnd> {
        sleep(PACE).await;
        if manager.closing.is_cancelled() {
            return Err(WalkEnd::Others);
        }
        if manager.clock.monotonic_ms().saturating_sub(self.beaten) >= BEAT_EVERY {
            self.beat(manager).await?;
        }
        Ok(())
    }

    /// Writes the next beat, by check-and-set, so that only one replica sweeps.
    async fn beat(&mut self, manager: &Arc<CredentialManager>) -> Result<(), WalkEnd> {
        let path = Path::gateway(&["sweep"]);
        let stored = within(manager.vault().read(&path)).await?;
        let expected = stored.as_ref().map_or(0, |stored| stored.version);
        let sign = stored.and_then(|stored| serde_json::from_str::<SweeperBeat>(stored.value.expose()).ok());
        let now = manager.clock.monotonic_ms();
        let Some(next) = next_beat(&self.name, sign.as_ref(), &mut self.others, now) else {
            return Err(WalkEnd::Others);
        };
        let value = serde_json::to_string(&next)
            .map(Secret::new)
            .unwrap_or_else(|_| Secret::new("{}"));
        match within(manager.vault().write(&path, expected, &value, None)).await? {
            Wrote::Done(_) => {
                self.beaten = now;
                Ok(())
            }
            Wrote::Conflict => Err(WalkEnd::Others),
        }
    }
}

/// The next beat of the sweeper `name`, if it is its turn: nobody swept, it did itself, or the one that
/// did is dead.
fn next_beat(
    name: &str,
    sign: Option<&SweeperBeat>,
    others: &mut LeaseWatch,
    now: u64,
) -> Option<SweeperBeat> {
    let next = |beat| SweeperBeat {
        nonce: name.to_owned(),
        beat,
    };
    let Some(sign) = sign else {
        return Some(next(1));
    };
    if sign.nonce == name {
        return Some(next(sign.beat.wrapping_add(1)));
    }
    let seen = format!("{}/{}", sign.nonce, sign.beat).into();
    (others.age(&seen, now) >= LOST_AFTER).then(|| next(1))
}

/// Whether the record may be due, by its hint, which may be wrong.
fn may_be_due(hint: &Hint, unix: u64, lead: u64) -> bool {
    let tokens = TokenSet {
        access: Secret::new(""),
        refresh: None,
        expires_at: hint.expiry,
        obtained_at: 0,
    };
    let ended = matches!(hint.state.as_str(), "needs_reauth" | "revoked");
    !ended && TokenLifetime::of(&tokens).is_within_lead(unix, lead)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign(nonce: &str, beat: u64) -> SweeperBeat {
        SweeperBeat {
            nonce: nonce.to_owned(),
            beat,
        }
    }

    #[test]
    fn one_sweeper_at_a_time_and_another_once_it_gave_no_sign_for_long() {
        let mut others = LeaseWatch::default();
        assert_eq!(next_beat("b", None, &mut others, 0), Some(sign("b", 1)));
        let first = sign("a", 7);
        assert_eq!(next_beat("b", Some(&first), &mut others, 0), None);
        assert_eq!(next_beat("b", Some(&first), &mut others, LOST_AFTER - 1), None);
        let alive = sign("a", 8);
        assert_eq!(next_beat("b", Some(&alive), &mut others, LOST_AFTER), None);
        assert_eq!(
            next_beat("b", Some(&alive), &mut others, 2 * LOST_AFTER),
            Some(sign("b", 1))
        );
    }

    #[test]
    fn a_hint_never_decides_against_a_record_without_expiry_or_within_its_lead() {
        let hint = |state: &str, expiry| Hint {
            seq: 1,
            state: state.to_owned(),
            expiry,
        };
        assert!(may_be_due(&hint("ok", Some(1_000)), 900, 100));
        assert!(!may_be_due(&hint("ok", Some(1_000)), 800, 100));
        assert!(!may_be_due(&hint("needs_reauth", Some(1_000)), 900, 100));
    }
}
