//! What happens to accounts beside requests: whoever waits, listens or was asked hears of it at once.

use std::sync::{Arc, Weak};

use serde_json::json;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::Accounts;
use crate::catalog::{Catalog, Provider};
use crate::exchange::session::{Mailboxes, RememberedSessions};
use pleiades_credential::AccountKey;
use pleiades_credential::manager::{AccountEvent, AccountEventKind, AccountQuery};
use pleiades_mcp::{message, raw};
use pleiades_upstream::Identity;

const COMPLETE: &str = "notifications/elicitation/complete";

/// Who hears of what happens to accounts.
#[derive(Debug)]
pub(crate) struct AccountEventTask {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) remembered: Arc<RememberedSessions>,
    pub(crate) mailboxes: Arc<Mailboxes>,
}

impl AccountEventTask {
    /// Listens to what happens to accounts, until it is dropped.
    pub(crate) fn listen(self: &Arc<Self>) {
        let events = self.accounts.manager.subscribe();
        self.catalog.control().spawn(listen(Arc::downgrade(self), events));
    }

    /// Whoever waits, listens or was asked hears of it.
    fn happened(self: &Arc<Self>, happened: &AccountEvent) {
        let AccountEvent { key, kind, elsewhere } = happened;
        let owner = &key.owner;
        // The same account signs on, or does not: nobody's lists change, but for those that it could not
        // read before.
        if matches!(kind, AccountEventKind::Renewed | AccountEventKind::Ended) {
            if *kind == AccountEventKind::Renewed {
                self.read_again(key);
            }
            return;
        }
        for provider in self.catalog.connected_by(&owner.connection) {
            if *kind == AccountEventKind::Revoked {
                self.catalog.forget_account(&provider, &owner.tenant, &owner.user);
            }
            if *kind == AccountEventKind::Connected && !elsewhere {
                let (events, key, provider) = (Arc::clone(self), key.clone(), Arc::clone(&provider));
                self.catalog
                    .control()
                    .spawn(async move { events.first_lists(&provider, &key).await });
            }
            self.catalog
                .account_changed(&provider, &owner.tenant, &owner.user);
        }
        if *kind == AccountEventKind::Connected {
            self.completed(key);
        }
    }

    /// Tells clients of 2025-11-25 that the address they were asked to open is done with.
    fn completed(&self, key: &AccountKey) {
        for (session, elicitation) in self.remembered.done(&key.owner) {
            if let Some(mailbox) = self.mailboxes.peek(&session) {
                let params = raw::raw(&json!({ "elicitationId": elicitation }));
                mailbox.say(&message::notification(COMPLETE, Some(&params)));
            }
        }
    }

    /// Reads the lists of an account again that could not be read with the tokens it had.
    fn read_again(self: &Arc<Self>, key: &AccountKey) {
        for provider in self.catalog.connected_by(&key.owner.connection) {
            let (events, key) = (Arc::clone(self), key.clone());
            self.catalog.control().spawn(async move {
                if let Some(identity) = events.identity_of(&provider, &key).await {
                    events.catalog.account_renewed(&provider, &identity).await;
                }
            });
        }
    }

    /// Reads the lists of an account that was just connected, so that its first caller finds them.
    async fn first_lists(&self, provider: &Arc<Provider>, key: &AccountKey) {
        let Some(identity) = self.identity_of(provider, key).await else {
            return;
        };
        if let Err(error) = self.catalog.lists(provider, &identity).await {
            tracing::debug!(provider.name = %provider.id, outcome = error.code.as_str(), error = error.in_full(), "the first lists of an account could not be read");
        }
    }

    /// An account as it reaches a provider; `None` when it does not.
    async fn identity_of(&self, provider: &Provider, key: &AccountKey) -> Option<Identity> {
        let connection = provider.need.connection()?;
        let ask = AccountQuery {
            tenant: &key.owner.tenant,
            user: &key.owner.user,
            connection,
            account: Some(&key.account),
            remembered: None,
        };
        let granted = self.accounts.manager.grant(&ask, provider.endpoint.call);
        let granted = granted.await.ok()?;
        Some(Identity {
            session: None,
            tenant: Arc::clone(&key.owner.tenant),
            user: Arc::clone(&key.owner.user),
            signature: granted.signature,
        })
    }
}

async fn listen(events: Weak<AccountEventTask>, mut happened: Receiver<AccountEvent>) {
    loop {
        let received = happened.recv().await;
        let Some(events) = events.upgrade() else {
            return;
        };
        match received {
            Ok(happened) => events.happened(&happened),
            Err(RecvError::Lagged(_)) => events.catalog.everything_changed(),
            Err(RecvError::Closed) => return,
        }
    }
}
