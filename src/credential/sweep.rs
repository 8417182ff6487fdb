//! Looks after what no replica uses: one of them at a time walks the store, unhurried, and renews what
//! is due.

use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::keeper::Keeper;
use super::keeper::look::within;
use super::keeper::renew::{nonce, spread};
use super::key::{Key, Owner};
use super::record::Tokens;
use super::refresh::{Lives, Watch};
use super::vault::{Fault, Hint, Path, Wrote};
use crate::secret::Secret;

/// Between two walks.
const PERIOD: Duration = Duration::from_secs(60);
/// Before the first, plus as much again by chance.
const FIRST: Duration = Duration::from_secs(5);
/// Between two questions to the store.
const PACE: Duration = Duration::from_millis(20);
/// A sweeper that gave no sign for so long is gone, in milliseconds.
const GONE: u64 = 180_000;
/// How often a sweeper gives a sign, in milliseconds.
const BEAT: u64 = 30_000;

/// Who sweeps, and that it is alive: the content of `_gateway/sweep`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Sign {
    nonce: String,
    beat: u64,
}

/// Starts the sweeper of a keeper; it ends with it.
pub(super) fn begin(keeper: &Arc<Keeper>) {
    let sweeper = Sweeper {
        keeper: Arc::downgrade(keeper),
        name: nonce(),
        others: Watch::default(),
        beaten: 0,
    };
    keeper.control().spawn(sweeper.run());
}

#[derive(Debug)]
struct Sweeper {
    keeper: Weak<Keeper>,
    name: String,
    others: Watch,
    /// When it gave a sign last.
    beaten: u64,
}

/// The walk ends early.
#[derive(Debug)]
enum Stop {
    /// Somebody else sweeps, or the process ends.
    Others,
    /// The store does not answer.
    Store(Fault),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Store(fault)
    }
}

impl Sweeper {
    async fn run(mut self) {
        sleep(FIRST + FIRST * part()).await;
        while let Some(keeper) = self.keeper.upgrade().filter(|it| !it.is_closing()) {
            match self.walk(&keeper).await {
                Ok(()) | Err(Stop::Others) => {}
                Err(Stop::Store(fault)) => tracing::debug!(
                    error = &fault as &dyn std::error::Error,
                    "the walk over stored credentials ended early; the next begins in a minute"
                ),
            }
            tokio::select! {
                () = sleep(PERIOD + PERIOD / 10 * part()) => {}
                () = keeper.closed() => return,
            }
        }
    }

    async fn walk(&mut self, keeper: &Arc<Keeper>) -> Result<(), Stop> {
        self.sign(keeper).await?;
        let root = Path::of(&["c"]);
        for tenant in keeper.names(&root).await? {
            let users = root.child(&tenant);
            for user in self.names(keeper, &users).await? {
                for connection in self.names(keeper, &users.child(&user)).await? {
                    let owner = Owner {
                        tenant: tenant.as_str().into(),
                        user: user.as_str().into(),
                        connection: connection.into(),
                    };
                    self.owner(keeper, &owner).await?;
                }
            }
        }
        Ok(())
    }

    async fn owner(&mut self, keeper: &Arc<Keeper>, owner: &Owner) -> Result<(), Stop> {
        let found = keeper.connection_of(&owner.connection, &owner.connection);
        let Some(connection) = found else {
            return Ok(());
        };
        let lead = connection.lead.as_secs();
        for account in self.names(keeper, &Path::accounts(owner)).await? {
            self.pace(keeper).await?;
            let key = Key {
                owner: owner.clone(),
                account: account.into(),
            };
            let hint = within(keeper.vault().hint(&Path::account(&key))).await?;
            if hint.is_some_and(|hint| !may_be_due(&hint, keeper.unix(), lead)) {
                continue;
            }
            // A record that cannot be read is no reason to leave the others alone.
            let Ok(Some((version, record))) = keeper.fetch(&key).await else {
                continue;
            };
            let due = Lives::of(&record.tokens).is_within_lead(keeper.unix(), lead);
            if due && record.ended.is_none() && record.tokens.refresh.is_some() {
                keeper.keep(&key, version, record);
                let keeper = Arc::clone(keeper);
                keeper
                    .control()
                    .clone()
                    .spawn(async move { keeper.renew_alone(&key).await });
            }
        }
        Ok(())
    }

    async fn names(&mut self, keeper: &Arc<Keeper>, folder: &Path) -> Result<Vec<String>, Stop> {
        self.pace(keeper).await?;
        Ok(keeper.names(folder).await?)
    }

    /// Leaves the store time for others, and says now and then that this sweeper is alive.
    async fn pace(&mut self, keeper: &Arc<Keeper>) -> Result<(), Stop> {
        sleep(PACE).await;
        if keeper.is_closing() {
            return Err(Stop::Others);
        }
        if keeper.grown().saturating_sub(self.beaten) >= BEAT {
            self.sign(keeper).await?;
        }
        Ok(())
    }

    /// Says that this process sweeps, if it does: by check-and-set, so that only one does.
    async fn sign(&mut self, keeper: &Arc<Keeper>) -> Result<(), Stop> {
        let path = Path::gateway(&["sweep"]);
        let stored = within(keeper.vault().read(&path)).await?;
        let expected = stored.as_ref().map_or(0, |stored| stored.version);
        let sign = stored.and_then(|stored| serde_json::from_str::<Sign>(stored.value.expose()).ok());
        let now = keeper.grown();
        let Some(next) = turn(&self.name, sign.as_ref(), &mut self.others, now) else {
            return Err(Stop::Others);
        };
        let value = serde_json::to_string(&next)
            .map(Secret::new)
            .unwrap_or_else(|_| Secret::new("{}"));
        match within(keeper.vault().write(&path, expected, &value, None)).await? {
            Wrote::Done(_) => {
                self.beaten = now;
                Ok(())
            }
            Wrote::Conflict => Err(Stop::Others),
        }
    }
}

/// The next sign of the sweeper `name`, if it is its turn: nobody swept, it did itself, or whoever
/// did has given no sign for long.
fn turn(name: &str, sign: Option<&Sign>, others: &mut Watch, now: u64) -> Option<Sign> {
    let next = |beat| Sign {
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
    (others.age(&seen, now) >= GONE).then(|| next(1))
}

/// What a hint says, which may be wrong: only the record decides.
fn may_be_due(hint: &Hint, unix: u64, lead: u64) -> bool {
    let tokens = Tokens {
        access: Secret::new(""),
        refresh: None,
        expires_at: hint.expiry,
        obtained_at: 0,
    };
    let ended = matches!(hint.state.as_str(), "needs_reauth" | "revoked");
    !ended && Lives::of(&tokens).is_within_lead(unix, lead)
}

/// Between 0 and 1, in steps that a duration can be multiplied with.
fn part() -> u32 {
    u32::from(spread() >= 500)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign(nonce: &str, beat: u64) -> Sign {
        Sign {
            nonce: nonce.to_owned(),
            beat,
        }
    }

    #[test]
    fn one_sweeper_at_a_time_and_another_once_it_gave_no_sign_for_long() {
        let mut others = Watch::default();
        assert_eq!(turn("b", None, &mut others, 0), Some(sign("b", 1)));
        let first = sign("a", 7);
        assert_eq!(turn("b", Some(&first), &mut others, 0), None);
        assert_eq!(turn("b", Some(&first), &mut others, GONE - 1), None);
        let alive = sign("a", 8);
        assert_eq!(turn("b", Some(&alive), &mut others, GONE), None);
        assert_eq!(turn("b", Some(&alive), &mut others, 2 * GONE), Some(sign("b", 1)));
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
