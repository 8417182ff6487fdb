//! Changes of accounts are published to the other replicas, which read the changed account again.

use std::sync::{Arc, Weak};

use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use pleiades_credential::manager::{AccountEventKind, CredentialManager, Replicas};
use pleiades_credential::{AccountKey, AccountOwner};
use pleiades_gateway::shared_state::SharedState;

/// Accounts that are read again at a time because others changed them.
const AT_ONCE: usize = 16;

/// An account's change, as it travels; sealed.
#[derive(Debug, Serialize)]
struct AccountChange<'a> {
    tenant: &'a str,
    user: &'a str,
    connection: &'a str,
    account: &'a str,
    what: &'a str,
}

#[derive(Debug)]
struct OtherReplicas(Arc<SharedState>);

impl Replicas for OtherReplicas {
    fn notify(&self, key: &AccountKey, what: AccountEventKind) {
        let change = AccountChange {
            tenant: &key.owner.tenant,
            user: &key.owner.user,
            connection: &key.owner.connection,
            account: &key.account,
            what: what.as_str(),
        };
        match serde_json::to_vec(&change) {
            Ok(change) => self.0.publish_change(change),
            Err(error) => tracing::debug!(%error, "an account's change cannot be told"),
        }
    }
}

/// Begins to publish and to listen; ends with the credential manager.
pub(super) fn begin(manager: &Arc<CredentialManager>, shared: &Arc<SharedState>, control: &Handle) {
    manager.notify_through(Arc::new(OtherReplicas(Arc::clone(shared))));
    control.spawn(listen(Arc::downgrade(manager), shared.changes()));
}

async fn listen(manager: Weak<CredentialManager>, mut changes: Receiver<Arc<[u8]>>) {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let change = match changes.recv().await {
            Ok(change) => change,
            Err(RecvError::Lagged(missed)) => {
                tracing::debug!(
                    account.changes = missed,
                    "changes of others are seen when what is known gets old"
                );
                continue;
            }
            Err(RecvError::Closed) => return,
        };
        let Some((key, what)) = read(&change) else {
            tracing::debug!("a replica of another release tells what is not understood here");
            continue;
        };
        let Ok(turn) = Arc::clone(&turns).acquire_owned().await else {
            return;
        };
        let Some(manager) = manager.upgrade() else { return };
        tokio::spawn(async move {
            manager.changed_elsewhere(&key, what).await;
            drop(turn);
        });
    }
}

fn read(change: &[u8]) -> Option<(AccountKey, AccountEventKind)> {
    // A text with an escape in it is not borrowed.
    let change: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(change).ok()?;
    let text = |name: &str| change.get(name)?.as_str();
    let owner = AccountOwner {
        tenant: text("tenant")?.into(),
        user: text("user")?.into(),
        connection: text("connection")?.into(),
    };
    let account = text("account")?.into();
    Some((
        AccountKey { owner, account },
        AccountEventKind::parse(text("what")?)?,
    ))
}
