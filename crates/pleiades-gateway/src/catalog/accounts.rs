//! Lists of accounts: what happens to them when an account is connected or revoked, and what is shown
//! to who has none.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::{Catalog, Catalogue, Provider, State, lists::ListSet};
use pleiades_credential::ProviderAuth;
use pleiades_credential::record::AccountState;

impl Catalog {
    /// The runtime that owns what outlives a request.
    #[must_use]
    pub fn control(&self) -> &Handle {
        &self.work.control
    }

    /// The running providers whose callers use accounts of a connection.
    #[must_use]
    pub fn connected_by(&self, connection: &str) -> Vec<Arc<Provider>> {
        let snapshot = self.snapshot();
        let of = |it: &&Arc<Provider>| it.need.connection().is_some_and(|own| *own.name == *connection);
        snapshot.providers.values().filter(of).cloned().collect()
    }

    /// Tells a user's listeners that all lists of a provider changed: an account came, went or was
    /// chosen.
    pub fn account_changed(&self, provider: &Arc<Provider>, tenant: &Arc<str>, user: &Arc<str>) {
        let user = (Arc::clone(tenant), Arc::clone(user));
        self.work
            .notify_user(Some(&provider.id), Some(user), ListSet::ALL);
    }

    /// Takes everything as changed: what happened was missed.
    pub fn everything_changed(&self) {
        self.work.notify(None, ListSet::ALL);
    }

    /// Forgets the lists of a user's accounts; those that are still connected are read again.
    pub fn forget_account(&self, provider: &Provider, tenant: &str, user: &str) {
        provider.live.forget(tenant, user);
    }

    /// What is shown to a caller of a tenant who is not connected: with `facade.exposure: soft` the
    /// lists that an account of the same tenant had last; else nothing.
    #[must_use]
    pub fn template(&self, provider: &Provider, tenant: &str) -> Option<Arc<Catalogue>> {
        if !provider.soft || provider.need.is_shared() {
            return None;
        }
        provider.live.template(tenant)
    }

    /// Accounts of a provider by state: those that are in memory.
    pub(super) fn accounts(&self, provider: &Provider) -> Vec<(AccountState, usize)> {
        let connection = match &provider.need {
            ProviderAuth::OAuth(connection) | ProviderAuth::ClientCredentials(connection, _) => connection,
            ProviderAuth::None | ProviderAuth::ApiKey(_) | ProviderAuth::ClientKey(_) => return Vec::new(),
        };
        self.context.client_credentials.accounts(&connection.name)
    }

    /// How a provider fares whose callers use accounts: it needs one that works before all else.
    pub(super) fn with_accounts(
        &self,
        provider: &Provider,
        (state, reason): (State, Option<String>),
    ) -> (State, Option<String>) {
        if !matches!(provider.need, ProviderAuth::OAuth(_))
            || !matches!(state, State::Ready | State::NeedsAuth)
        {
            return (state, reason);
        }
        let accounts = self.accounts(provider);
        let works =
            |state: &AccountState| !matches!(state, AccountState::NeedsReauth | AccountState::Revoked);
        let (mut any, mut good) = (false, false);
        for (state, count) in &accounts {
            any |= *count > 0;
            good |= *count > 0 && works(state);
        }
        match (any, good) {
            (_, true) => (State::Ready, reason.filter(|_| state == State::Ready)),
            (true, false) => {
                let reason = "no connected account works any more: each has to be connected again";
                (State::NeedsAuth, Some(reason.to_owned()))
            }
            (false, false) => (
                State::NeedsAuth,
                Some("nobody has connected an account yet".to_owned()),
            ),
        }
    }
}
