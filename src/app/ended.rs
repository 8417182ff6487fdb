//! Ended sessions, beyond this process: in the embedded vault, where no Redis remembers them.
//!
//! One entry holds their digests until the sessions would have expired. Ends that come together are
//! written together.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use serde::{Deserialize, Serialize};
use tokio::{runtime::Handle, sync::mpsc};

use pleiades_core::{secret::Secret, time::unix_now};
use pleiades_credential::vault::{Fault, Kind, Path, Stored, Vault, Wrote};
use pleiades_gateway::shared_state::{Remember, SharedState};

/// Ended sessions that are remembered; beyond it those that would expire first are forgotten.
const MOST: usize = 4_096;
/// Ends that wait to be written.
const WAITING: usize = 1_024;
/// Tries of a write that others get ahead of.
const TRIES: usize = 8;
/// A digest and when the session would have expired (Unix, seconds, big-endian).
const END_LEN: usize = 32 + 8;

#[derive(Serialize, Deserialize)]
struct StoredEnds {
    ended: String,
}

type EndedSessions = BTreeMap<[u8; 32], u64>;

/// Reads which sessions have ended, and remembers those that end from now on.
pub(super) async fn begin(vault: Arc<dyn Vault>, shared: &SharedState, control: &Handle) {
    match read(&*vault).await {
        Ok((_, ends)) => {
            for (digest, expires) in ends {
                shared.announce_end(digest, expires);
            }
        }
        // The reason was logged where it was read.
        Err(fault) => tracing::debug!(
            error = &fault as &dyn std::error::Error,
            "which sessions have ended is not known"
        ),
    }
    let (sender, orders) = mpsc::channel(WAITING);
    shared.remember_through(sender);
    control.spawn(remember(vault, orders));
}

async fn remember(vault: Arc<dyn Vault>, mut orders: mpsc::Receiver<Remember>) {
    while let Some(first) = orders.recv().await {
        let mut some = vec![first];
        while let Ok(next) = orders.try_recv() {
            some.push(next);
        }
        let (ends, waiting): (Vec<_>, Vec<_>) = some.into_iter().unzip();
        if let Err(fault) = write(&*vault, &ends).await {
            tracing::warn!(
                outcome = fault.kind.as_str(),
                error = &fault as &dyn std::error::Error,
                "ended sessions are not remembered beyond this process"
            );
        }
        for one in waiting {
            // Who waited may be gone.
            one.send(()).ok();
        }
    }
}

async fn write(vault: &dyn Vault, new: &[([u8; 32], u64)]) -> Result<(), Fault> {
    for _ in 0..TRIES {
        let (version, mut ends) = read(vault).await?;
        ends.extend(new.iter().copied());
        if vault.write(&path(), version, &encode(ends)?, None).await? != Wrote::Conflict {
            return Ok(());
        }
    }
    Err(Fault::new(
        Kind::Failed,
        "others write the ended sessions all the time",
    ))
}

async fn read(vault: &dyn Vault) -> Result<(u64, EndedSessions), Fault> {
    let Some(stored) = vault.read(&path()).await? else {
        return Ok((0, EndedSessions::new()));
    };
    let ends = decode(&stored).ok_or_else(|| {
        Fault::new(
            Kind::Corrupt,
            "the entry `_gateway/ended` of the credential store cannot be read: remove it",
        )
    })?;
    Ok((stored.version, ends))
}

fn path() -> Path {
    Path::gateway(&["ended"])
}

fn decode(stored: &Stored) -> Option<EndedSessions> {
    let kept: StoredEnds = serde_json::from_str(stored.value.expose()).ok()?;
    let bytes = STANDARD_NO_PAD.decode(kept.ended).ok()?;
    let ends = bytes.chunks(END_LEN).map(|end| {
        let (digest, expires) = end.split_first_chunk::<32>()?;
        Some((*digest, u64::from_be_bytes(expires.try_into().ok()?)))
    });
    ends.collect()
}

/// As it is kept: without what has expired, and of too many those that live longest.
fn encode(ends: EndedSessions) -> Result<Secret, Fault> {
    let now = unix_now();
    let mut ends: Vec<_> = ends.into_iter().filter(|(_, expires)| *expires > now).collect();
    ends.sort_by_key(|(_, expires)| std::cmp::Reverse(*expires));
    ends.truncate(MOST);
    let mut bytes = Vec::with_capacity(ends.len() * END_LEN);
    for (digest, expires) in ends {
        bytes.extend_from_slice(&digest);
        bytes.extend_from_slice(&expires.to_be_bytes());
    }
    let ended = STANDARD_NO_PAD.encode(bytes);
    serde_json::to_string(&StoredEnds { ended })
        .map(Secret::new)
        .map_err(|cause| Fault::new(Kind::Failed, "ended sessions cannot be written").because(cause))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::memory_vault::MemoryVault;

    const LATER: u64 = u64::MAX;

    #[tokio::test]
    async fn a_session_that_was_ended_is_ended_after_a_restart() {
        let vault: Arc<dyn Vault> = Arc::new(MemoryVault::default());
        let control = Handle::current();
        let before = SharedState::alone();
        begin(Arc::clone(&vault), &before, &control).await;
        tokio::join!(
            before.remembered([1; 32], LATER),
            before.remembered([2; 32], LATER)
        );
        let after = SharedState::alone();
        begin(Arc::clone(&vault), &after, &control).await;
        assert!(after.has_ended(&[1; 32]) && after.has_ended(&[2; 32]) && !after.has_ended(&[3; 32]));
    }

    #[tokio::test]
    async fn what_has_expired_or_is_too_much_is_forgotten() {
        let vault = MemoryVault::default();
        write(&vault, &[([1; 32], 1)]).await.unwrap();
        assert!(read(&vault).await.unwrap().1.is_empty());
        let many: Vec<_> = (0..MOST as u64 + 9)
            .map(|number| {
                let mut digest = [0; 32];
                digest[..8].copy_from_slice(&number.to_be_bytes());
                (digest, LATER - number)
            })
            .collect();
        write(&vault, &many).await.unwrap();
        let left = read(&vault).await.unwrap().1;
        assert_eq!(left.len(), MOST);
        assert!(left.contains_key(&many[0].0) && !left.contains_key(&many[MOST].0));
    }

    #[tokio::test]
    async fn an_entry_of_something_else_is_not_written_over() {
        let vault = MemoryVault::default();
        vault.write(&path(), 0, &Secret::new("{}"), None).await.unwrap();
        assert_eq!(
            write(&vault, &[([1; 32], LATER)]).await.unwrap_err().kind,
            Kind::Corrupt
        );
    }
}
