//! Accounts as operators reach them through the admin listener.

use std::sync::Arc;

use async_trait::async_trait;

use pleiades_core::web::Prober;
use pleiades_credential::AccountKey;
use pleiades_credential::access::Principal;
use pleiades_credential::all_accounts::{self, Unlisted};
use pleiades_credential::imported_token::{ImportError, ImportedToken};
use pleiades_credential::manager::CredentialManager;
use pleiades_credential::user_accounts;
use pleiades_credential::vault::Fault;
use pleiades_gateway::admin::{AccountOutcome, AccountPath, ListedAccounts};
use pleiades_gateway::catalog::Catalog;

/// Reaches the accounts of everybody.
pub(super) struct AdminAccounts {
    pub(super) manager: Arc<CredentialManager>,
    pub(super) catalog: Arc<Catalog>,
}

#[async_trait]
impl pleiades_gateway::admin::AccountAdmin for AdminAccounts {
    async fn list(&self, wanted: &ListedAccounts) -> AccountOutcome {
        match all_accounts::page(&self.manager, wanted.after.as_deref(), wanted.most).await {
            Ok(page) => AccountOutcome::Account(page.to_json()),
            Err(Unlisted::Position) => {
                AccountOutcome::Wrong("`after` is not `next` of a page of this list".to_owned())
            }
            Err(Unlisted::Store(fault)) => unavailable(fault),
        }
    }

    async fn get(&self, named: &AccountPath) -> AccountOutcome {
        let key = self.key(named);
        match user_accounts::account_json(&self.manager, &key, &named.provider).await {
            Ok(Some(state)) => AccountOutcome::Account(state),
            Ok(None) => AccountOutcome::Unknown,
            Err(fault) => unavailable(fault),
        }
    }

    async fn put(&self, named: &AccountPath, token: &[u8]) -> AccountOutcome {
        let token = match ImportedToken::read(token) {
            Ok(token) => token,
            Err(why) => return import_error(why),
        };
        if !user_accounts::is_account_name(&named.account) {
            return AccountOutcome::Wrong("an account's name has 1 to 512 bytes".to_owned());
        }
        let put = put(
            &self.manager,
            &self.catalog,
            token,
            (&self.key(named), &named.provider),
        )
        .await;
        match put {
            Ok(()) => self.get(named).await,
            Err(why) => import_error(why),
        }
    }

    async fn delete(&self, named: &AccountPath) -> AccountOutcome {
        match self.manager.revoke(&self.key(named)).await {
            Ok(true) => AccountOutcome::Gone,
            Ok(false) => AccountOutcome::Unknown,
            Err(fault) => unavailable(fault),
        }
    }

    async fn reread(&self, named: &AccountPath) -> AccountOutcome {
        let owner = self.key(named).owner;
        match self.manager.changed_in_store(&owner).await {
            Ok(()) => AccountOutcome::Read,
            Err(fault) => unavailable(fault),
        }
    }
}

impl AdminAccounts {
    fn key(&self, named: &AccountPath) -> AccountKey {
        let principal = Principal::new(&*named.tenant, &*named.user);
        user_accounts::key(&self.manager, &principal, &named.provider, &named.account)
    }
}

/// Stores a token obtained elsewhere as an account of a loaded provider.
pub(crate) async fn put(
    manager: &CredentialManager,
    catalog: &Catalog,
    token: ImportedToken,
    (key, provider): (&AccountKey, &str),
) -> Result<(), ImportError> {
    let connection = user_accounts::connection(manager, provider).ok_or(ImportError::UnknownProvider)?;
    // Only what can be renewed has to be known where.
    let challenge = match token.needs_no_discovery(&connection) {
        true => None,
        false => catalog.challenge(provider).await,
    };
    token.store(manager, &connection, challenge.as_ref(), key).await
}

fn import_error(why: ImportError) -> AccountOutcome {
    match why {
        ImportError::Invalid(why) => AccountOutcome::Wrong(why),
        ImportError::UnknownProvider => AccountOutcome::Unknown,
        ImportError::Unreached(why) => AccountOutcome::Unreached(why),
        ImportError::Store(fault) => unavailable(fault),
    }
}

fn unavailable(fault: Fault) -> AccountOutcome {
    tracing::warn!(
        outcome = fault.kind.as_str(),
        error = &fault as &dyn std::error::Error,
        "an operator's request met a store that does not serve"
    );
    AccountOutcome::Unavailable(fault.kind.caller_message(), fault.retry_after)
}
