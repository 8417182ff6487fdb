//! What happens to accounts beside requests: whoever waits, listens or was asked hears of it at once.

use std::sync::{Arc, Weak};

use serde_json::json;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::Exchange;
use crate::catalog::Provider;
use pleiades_credential::AccountKey;
use pleiades_credential::manager::{AccountEvent, AccountEventKind, AccountQuery};
use pleiades_mcp::{message, raw};
use pleiades_upstream::Identity;

const COMPLETE: &str = "notifications/elicitation/complete";

impl Exchange {
    /// Listens to what happens to accounts, for as long as the process runs.
    pub(super) fn witness(self: &Arc<Self>) {
        let happened = self.accounts.manager.subscribe();
        self.catalog
            .control()
            .spawn(listen(Arc::downgrade(self), happened));
    }

    fn happened(self: &Arc<Self>, happened: &AccountEvent) {
        let AccountEvent {
            key,
            kind: what,
            elsewhere,
        } = happened;
        let owner = &key.owner;
        // The same account signs on, or does not: nobody's lists change, but for those that it could not
        // read before.
        if matches!(what, AccountEventKind::Renewed | AccountEventKind::Ended) {
            if *what == AccountEventKind::Renewed {
                self.read_again(key);
            }
            return;
        }
        for provider in self.catalog.connected_by(&owner.connection) {
            if *what == AccountEventKind::Revoked {
                self.catalog.forget_account(&provider, &owner.tenant, &owner.user);
            }
            if *what == AccountEventKind::Connected && !elsewhere {
                let (exchange, key, provider) = (Arc::clone(self), key.clone(), Arc::clone(&provider));
                self.catalog
                    .control()
                    .spawn(async move { exchange.first_lists(&provider, &key).await });
            }
            self.catalog
                .account_changed(&provider, &owner.tenant, &owner.user);
        }
        if *what == AccountEventKind::Connected {
            self.completed(key);
        }
    }

    /// Tells clients of 2025-11-25 that the address they were asked to open is done with.
    fn completed(&self, key: &AccountKey) {
        for (lane, elicitation) in self.lanes.done(&key.owner) {
            if let Some(mailbox) = self.mailboxes.peek(&lane) {
                let params = raw::raw(&json!({ "elicitationId": elicitation }));
                mailbox.say(&message::notification(COMPLETE, Some(&params)));
            }
        }
    }

    /// Reads the lists of an account again that could not be read with the tokens it had.
    fn read_again(self: &Arc<Self>, key: &AccountKey) {
        for provider in self.catalog.connected_by(&key.owner.connection) {
            let (exchange, key) = (Arc::clone(self), key.clone());
            self.catalog.control().spawn(async move {
                if let Some(behalf) = exchange.behalf_of(&provider, &key).await {
                    exchange.catalog.account_renewed(&provider, &behalf).await;
                }
            });
        }
    }

    /// Reads the lists of an account that was just connected, so that its first caller finds them.
    async fn first_lists(&self, provider: &Arc<Provider>, key: &AccountKey) {
        let Some(behalf) = self.behalf_of(provider, key).await else {
            return;
        };
        if let Err(error) = self.catalog.lists(provider, &behalf).await {
            tracing::debug!(provider.name = %provider.id, cause = %error, "the first lists of an account could not be read");
        }
    }

    /// An account as it reaches a provider; `None` when it does not.
    async fn behalf_of(&self, provider: &Provider, key: &AccountKey) -> Option<Identity> {
        let connection = provider.need.connection()?;
        let ask = AccountQuery {
            tenant: &key.owner.tenant,
            user: &key.owner.user,
            connection,
            account: Some(&key.account),
            remembered: None,
        };
        let granted = self
            .accounts
            .manager
            .grant(&ask, provider.endpoint.call)
            .await
            .ok()?;
        Some(Identity {
            session: None,
            tenant: Arc::clone(&key.owner.tenant),
            user: Arc::clone(&key.owner.user),
            signature: granted.signature,
        })
    }
}

async fn listen(exchange: Weak<Exchange>, mut happened: Receiver<AccountEvent>) {
    loop {
        let heard = happened.recv().await;
        let Some(exchange) = exchange.upgrade() else {
            return;
        };
        match heard {
            Ok(happened) => exchange.happened(&happened),
            Err(RecvError::Lagged(_)) => exchange.catalog.everything_changed(),
            Err(RecvError::Closed) => return,
        }
    }
}
