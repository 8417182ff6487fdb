//! Waits for the renewal of an account, and says what a caller gets when there is none.

use std::sync::{Arc, Weak};
use std::time::Duration;

use pleiades_core::error::{Code, Error};
use tokio::time::{Instant, timeout_at};

use super::{CredentialManager, GrantError, Reason};
use crate::refresh::{FinalState, RefreshTrigger};
use crate::{
    cache::OwnerAccounts, connection::Connection, record::EndReason, slot::AccountSlot, vault::Kind,
};

/// When a caller may come back, where no server says.
pub(super) const SOON: Duration = Duration::from_secs(5);

/// Renews an account, or waits until who renews it already is done, up to the caller's deadline.
pub(super) async fn renew_within(
    manager: &CredentialManager,
    slot: &Arc<AccountSlot>,
    connection: &Arc<Connection>,
    trigger: RefreshTrigger,
    deadline: Instant,
) -> Result<(), GrantError> {
    if let Some((left, cause)) = slot.backoff_left(manager.clock.monotonic_ms()) {
        return Err(waiting(left, cause));
    }
    let outcome = timeout_at(deadline, manager.refresh_or_join(slot, connection, trigger)).await;
    match outcome.unwrap_or(FinalState::Stopped) {
        FinalState::Refreshed
        | FinalState::Newer { .. }
        | FinalState::NotDue
        | FinalState::Gone
        | FinalState::Refused
        | FinalState::Ended(_) => Ok(()),
        FinalState::Failed { after } => {
            let cause = slot
                .backoff_left(manager.clock.monotonic_ms())
                .and_then(|(_, cause)| cause);
            Err(waiting(after.map_or(SOON, Duration::from_millis), cause))
        }
        FinalState::StoreDown => {
            let store = slot.store_fault.lock().unwrap_or(Kind::Unreachable);
            Err(GrantError::Unavailable {
                store,
                retry_after: store.retry_after(),
                cause: None,
            })
        }
        FinalState::Stopped => Err(waiting(SOON, None)),
    }
}

pub(super) fn end_error(
    manager: &CredentialManager,
    entry: &OwnerAccounts,
    slot: &AccountSlot,
    ended: EndReason,
) -> GrantError {
    let connect = |reason| GrantError::NotConnected {
        reason,
        wanted: None,
        accounts: manager.describe(entry),
    };
    let seen = slot.seen();
    let unrenewed = seen.as_ref().is_some_and(|seen| seen.may_recover());
    let unix = manager.clock.unix();
    let fingerprint = seen.as_ref().map(|seen| seen.fingerprint);
    let unaccepted = seen.as_ref().is_some_and(|seen| seen.is_unaccepted(unix));
    let cause = seen.and_then(|seen| seen.record.refusal.clone());
    let expired = |reason| GrantError::Expired {
        account: Arc::clone(&slot.key.account),
        reason,
        cause: cause.map(|cause| cause.why),
        fingerprint,
        others: Vec::new(),
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

pub(super) fn waiting(retry_after: Duration, cause: Option<Arc<str>>) -> GrantError {
    GrantError::Waiting { retry_after, cause }
}

/// The manager of a signature, which may outlive it.
pub(super) fn upgrade(manager: &Weak<CredentialManager>) -> Result<Arc<CredentialManager>, Error> {
    manager
        .upgrade()
        .ok_or_else(|| Error::new(Code::ShuttingDown, "the process is about to end"))
}
