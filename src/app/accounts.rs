//! Accounts as operators reach them through the admin listener.

use std::sync::Arc;

use async_trait::async_trait;

use crate::access::Principal;
use crate::admin::{Named, Told};
use crate::catalog::Catalog;
use crate::credential::Key;
use crate::credential::broker::Prober;
use crate::credential::handed::{Handed, Untaken};
use crate::credential::keeper::Keeper;
use crate::credential::told;
use crate::credential::vault::Fault;

/// Reaches the accounts of everybody.
pub(super) struct Accounts {
    pub(super) keeper: Arc<Keeper>,
    pub(super) catalog: Arc<Catalog>,
}

#[async_trait]
impl crate::admin::Accounts for Accounts {
    async fn get(&self, named: &Named) -> Told {
        let key = self.key(named);
        match told::one(&self.keeper, &key, &named.provider).await {
            Ok(Some(state)) => Told::Account(state),
            Ok(None) => Told::Unknown,
            Err(fault) => unavailable(fault),
        }
    }

    async fn put(&self, named: &Named, token: &[u8]) -> Told {
        let handed = match Handed::read(token) {
            Ok(handed) => handed,
            Err(why) => return untaken(why),
        };
        if !told::is_name(&named.account) {
            return Told::Wrong("an account's name has 1 to 512 bytes".to_owned());
        }
        let put = put(
            &self.keeper,
            &self.catalog,
            handed,
            (&self.key(named), &named.provider),
        )
        .await;
        match put {
            Ok(()) => self.get(named).await,
            Err(why) => untaken(why),
        }
    }

    async fn delete(&self, named: &Named) -> Told {
        match self.keeper.revoke(&self.key(named)).await {
            Ok(true) => Told::Gone,
            Ok(false) => Told::Unknown,
            Err(fault) => unavailable(fault),
        }
    }
}

impl Accounts {
    fn key(&self, named: &Named) -> Key {
        let principal = Principal::new(&*named.tenant, &*named.user);
        told::key(&self.keeper, &principal, &named.provider, &named.account)
    }
}

/// Stores a token obtained elsewhere as an account of a loaded provider.
///
/// # Errors
/// [`Untaken`].
pub(crate) async fn put(
    keeper: &Keeper,
    catalog: &Catalog,
    handed: Handed,
    (key, provider): (&Key, &str),
) -> Result<(), Untaken> {
    let connection = told::connection(keeper, provider).ok_or(Untaken::Unknown)?;
    // Only what can be renewed has to be known where.
    let challenge = match handed.asks_nobody(&connection) {
        true => None,
        false => catalog.challenge(provider).await,
    };
    handed.put(keeper, &connection, challenge.as_ref(), key).await
}

fn untaken(why: Untaken) -> Told {
    match why {
        Untaken::Wrong(why) => Told::Wrong(why),
        Untaken::Unknown => Told::Unknown,
        Untaken::Unreached(why) => Told::Unreached(why),
        Untaken::Store(fault) => unavailable(fault),
    }
}

fn unavailable(fault: Fault) -> Told {
    tracing::warn!(%fault, "an operator's request met a store that does not serve");
    Told::Unavailable(fault.kind.told(), fault.retry_after)
}
