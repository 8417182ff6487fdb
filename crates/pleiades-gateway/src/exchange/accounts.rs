//! On whose behalf a request reaches a provider: which account it uses, and what is said when there
//! is none (contracts section 2, "Accounts").

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::broadcast;
use tokio::time::{Instant, sleep, timeout_at};

use super::Step;
use super::outward::needs_auth;
use crate::catalog::{Catalogue, Provider};
use pleiades_core::error::{Code, Error};
use pleiades_credential::manager::{
    Account, AccountEvent, AccountEventKind, AccountQuery, GrantError, GrantedAccount,
};
use pleiades_credential::user_accounts::is_account_name;
use pleiades_credential::{AccountOwner, Connection, ProviderAuth};
use pleiades_mcp::RawObject;
use pleiades_upstream::Identity;

/// The request header that names an account.
pub const HEADER: &str = "pleiades-account";
/// The key of `_meta` that names one, and under which results say which was used.
pub(super) const KEY: &str = "pleiades/accountId";
/// Said of a name that no account can have.
pub(super) const UNNAMABLE: &str = "an account's name is text of at most 512 bytes without control characters, marks of direction or characters of no width: name one as an answer listed it";
/// Between two looks whether somebody connected at another replica.
const LOOK: std::time::Duration = std::time::Duration::from_secs(2);

/// How a provider is reached.
#[derive(Debug)]
pub(super) struct Reached {
    pub(super) behalf: Identity,
    /// The account used; `None` where the provider keeps none.
    pub(super) account: Option<Arc<str>>,
}

/// A client said that it is about to connect: how long that is waited for.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Which provider.
    pub(super) provider: Box<str>,
    /// Until then.
    pub(super) until: Instant,
    /// The account as it was when it did not do: the same once more is not what is waited for.
    pub(super) was: Option<[u8; 32]>,
    /// The scopes that it lacked.
    pub(super) scopes: Vec<String>,
    /// How often it was waited for, this time included.
    pub(super) rounds: u8,
}

/// An account's name as a caller may give it; an empty one is none.
///
/// # Errors
/// [`Code::InvalidParams`] for what can be nobody's name: as if none were named, another account would
/// be used than the one that was meant.
pub(super) fn named(text: &str) -> Result<Option<Arc<str>>, Error> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    is_account_name(text)
        .then(|| Some(text.into()))
        .ok_or_else(|| Error::new(Code::InvalidParams, UNNAMABLE))
}

impl Step<'_> {
    /// On whose behalf this caller reaches a provider.
    pub(super) async fn behalf(&self, provider: &Provider) -> Result<Identity, Error> {
        self.reach(provider).await.map(|reached| reached.behalf)
    }

    /// How this caller reaches a provider: from memory at once, else read and renewed, within the
    /// provider's `connect` and `call` together.
    ///
    /// # Errors
    /// Why it does not, with a way to connect where one would help.
    pub(super) async fn reach(&self, provider: &Provider) -> Result<Reached, Error> {
        let ProviderAuth::OAuth(connection) = &provider.need else {
            return self.signed(provider);
        };
        match self.granted_now(connection, &self.wanted()) {
            Some(granted) if !self.is_awaited(connection, &granted) => Ok(self.reached(granted)),
            _ => Box::pin(self.grant(provider, connection)).await,
        }
    }

    /// The same without any I/O; `None` when it takes some, or cannot be.
    pub(super) fn reach_now(&self, provider: &Provider) -> Option<Reached> {
        match &provider.need {
            ProviderAuth::OAuth(connection) => self
                .granted_now(connection, &self.wanted())
                .map(|granted| self.reached(granted)),
            _ => self.signed(provider).ok(),
        }
    }

    /// As [`Self::reach`], for what is only shown: of several accounts without a default any that
    /// works will do.
    pub(super) async fn reach_any(&self, provider: &Provider) -> Result<Reached, Error> {
        let error = match self.reach(provider).await {
            Err(error) if error.code == Code::AccountAmbiguous => error,
            outcome => return outcome,
        };
        match self.first_of(provider, &error).await {
            Some(reached) => Ok(reached),
            None => Err(error),
        }
    }

    /// The first account that works of those that an error lists.
    pub(super) async fn first_of(&self, provider: &Provider, ambiguous: &Error) -> Option<Reached> {
        let connection = provider.need.connection()?;
        let listed = ambiguous.data.as_ref()?.get("accounts")?.as_array()?;
        for account in listed {
            let name = account.get("accountId").and_then(Value::as_str)?;
            let ask = self.ask(connection, Some(name), None);
            if let Ok(granted) = self
                .exchange
                .accounts
                .manager
                .grant(&ask, provider.endpoint.call)
                .await
            {
                return Some(self.reached(granted));
            }
        }
        None
    }

    /// What is known of a provider for this caller, without any I/O.
    pub(super) fn known(&self, provider: &Provider) -> Option<Arc<Catalogue>> {
        let reached = self.reach_now(provider)?;
        self.exchange.catalog.lists_if_known(provider, &reached.behalf)
    }

    /// The lists by which the gateway says what a provider is: everybody's, else this caller's as far
    /// as they are at hand. Nothing of it is told to who is not connected.
    pub(super) fn lists_of(&self, provider: &Provider) -> Arc<Catalogue> {
        let own = (!provider.need.is_shared())
            .then(|| self.known(provider))
            .flatten();
        own.unwrap_or_else(|| provider.live.shared.load_full())
    }

    /// The accounts of this caller at a provider, where there are several.
    pub(super) fn accounts_of(&self, provider: &Provider) -> Vec<Value> {
        let Some(connection) = provider.need.connection() else {
            return Vec::new();
        };
        let known = self
            .exchange
            .accounts
            .manager
            .cached_accounts(&self.owner(connection));
        if known.len() < 2 {
            return Vec::new();
        }
        known.iter().map(|account| told(connection, account)).collect()
    }

    /// Whose accounts of a connection this caller uses.
    pub(super) fn owner(&self, connection: &Connection) -> AccountOwner {
        let principal = &self.peer.principal;
        AccountOwner {
            tenant: Arc::clone(&principal.tenant),
            user: Arc::clone(&principal.user),
            connection: Arc::clone(&connection.name),
        }
    }

    /// Notes which account a call named, for the rest of its session.
    pub(super) fn remember(&self, provider: &Provider) {
        if let (Some(connection), Some(lane), Some(account)) =
            (provider.need.connection(), &self.peer.lane, self.wanted())
        {
            self.exchange.lanes.choose(lane, &connection.name, &account);
        }
    }

    /// Says in a result which account was used.
    pub(super) fn sign_result(&self, result: &mut RawObject) {
        if let Some(account) = &self.record.account {
            let mut meta: RawObject = result.read("_meta").unwrap_or_default();
            meta.put(KEY, &**account);
            result.set("_meta", meta.close());
        }
    }

    fn signed(&self, provider: &Provider) -> Result<Reached, Error> {
        let signature = provider
            .need
            .sign(&self.peer.keys.brought(&provider.need))
            .map_err(|missing| needs_auth(provider, &missing))?;
        let principal = &self.peer.principal;
        Ok(Reached {
            behalf: Identity {
                session: self.peer.lane.clone(),
                tenant: Arc::clone(&principal.tenant),
                user: Arc::clone(&principal.user),
                signature,
            },
            account: None,
        })
    }

    fn reached(&self, granted: GrantedAccount) -> Reached {
        let principal = &self.peer.principal;
        Reached {
            behalf: Identity {
                session: self.peer.lane.clone(),
                tenant: Arc::clone(&principal.tenant),
                user: Arc::clone(&principal.user),
                signature: granted.signature,
            },
            account: Some(granted.account),
        }
    }

    /// The account that this request names: in its arguments or its `_meta`, else in its head.
    fn wanted(&self) -> Option<Arc<str>> {
        if let Some(wanted) = &self.wanted {
            return Some(Arc::clone(wanted));
        }
        let value = self.peer.keys.headers()?.get(HEADER)?;
        // What is no name was refused with the head.
        named(&String::from_utf8_lossy(value.as_bytes())).ok().flatten()
    }

    fn ask<'a>(
        &'a self,
        connection: &'a Arc<Connection>,
        account: Option<&'a str>,
        remembered: Option<&'a str>,
    ) -> AccountQuery<'a> {
        AccountQuery {
            tenant: &self.peer.principal.tenant,
            user: &self.peer.principal.user,
            connection,
            account,
            remembered,
        }
    }

    /// What the session used last, for a request that names none.
    fn remembered(&self, connection: &Connection, wanted: Option<&Arc<str>>) -> Option<Arc<str>> {
        let lane = self.peer.lane.as_ref().filter(|_| wanted.is_none())?;
        self.exchange.lanes.chosen(lane, &connection.name)
    }

    fn granted_now(&self, connection: &Arc<Connection>, wanted: &Option<Arc<str>>) -> Option<GrantedAccount> {
        let remembered = self.remembered(connection, wanted.as_ref());
        let ask = self.ask(connection, wanted.as_deref(), remembered.as_deref());
        self.exchange.accounts.manager.grant_cached(&ask)
    }

    /// Whether this is the account that did not do, and something newer is waited for.
    fn is_awaited(&self, connection: &Connection, granted: &GrantedAccount) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| {
            *waiting.provider == *connection.provider
                && waiting.was.is_some()
                && waiting.was == granted.signature.account
        })
    }

    async fn grant(&self, provider: &Provider, connection: &Arc<Connection>) -> Result<Reached, Error> {
        let wanted = self.wanted();
        let remembered = self.remembered(connection, wanted.as_ref());
        let ask = self.ask(connection, wanted.as_deref(), remembered.as_deref());
        let manager = &self.exchange.accounts.manager;
        let within = provider.endpoint.connect.saturating_add(provider.endpoint.call);
        let waiting = self
            .waiting
            .as_ref()
            .filter(|waiting| *waiting.provider == *provider.id);
        // Before the first look, so that nothing is missed.
        let mut happened = waiting.map(|_| manager.subscribe());
        loop {
            let granted = manager.grant(&ask, within).await;
            let may_mend = match &granted {
                Ok(granted) => self.is_awaited(connection, granted),
                Err(refused) => mends(refused),
            };
            let goes_on = match (&mut happened, waiting) {
                (Some(happened), Some(waiting)) if may_mend => {
                    let owner = self.owner(connection);
                    timeout_at(waiting.until, connects(happened, &owner))
                        .await
                        .is_ok()
                }
                _ => false,
            };
            match granted {
                _ if goes_on => {}
                Ok(granted) if may_mend => return Err(self.unchanged(connection, &granted)),
                Ok(granted) => return Ok(self.reached(granted)),
                Err(refused) => return Err(self.unconnected(connection, &refused, wanted.as_deref())),
            }
        }
    }
}

/// Whether connecting would mend it.
const fn mends(refused: &GrantError) -> bool {
    matches!(
        refused,
        GrantError::NotConnected { .. } | GrantError::Expired { .. }
    )
}

/// Waits until an account of an owner is connected here, or it is time to look whether it was
/// elsewhere.
async fn connects(happened: &mut broadcast::Receiver<AccountEvent>, owner: &AccountOwner) {
    let here = async {
        loop {
            match happened.recv().await {
                Ok(happened)
                    if happened.kind == AccountEventKind::Connected && happened.key.owner == *owner =>
                {
                    return;
                }
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(_)) => return,
                Err(broadcast::error::RecvError::Closed) => return std::future::pending().await,
            }
        }
    };
    tokio::select! {
        () = here => {}
        () = sleep(LOOK) => {}
    }
}

/// An account as answers list it.
pub(super) fn told(connection: &Connection, account: &Account) -> Value {
    let mut told = account.to_json();
    if let Some(object) = told.as_object_mut() {
        object.insert("provider".to_owned(), Value::from(&*connection.provider));
    }
    told
}
