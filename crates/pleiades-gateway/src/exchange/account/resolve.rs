//! Which account a request reaches a provider with, and in what form.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::broadcast;
use tokio::time::{sleep, timeout_at};

use super::Accounts;
use super::attempts::UsedAccount;
use super::invite::{AccountPurpose, ended, incapable, key, needs_auth, spent};
use crate::catalog::Provider;
use crate::exchange::request::{ACCOUNT_KEY, Request};
use pleiades_core::error::{Code, Error};
use pleiades_credential::access::Principal;
use pleiades_credential::manager::{
    Account, AccountEvent, AccountEventKind, AccountQuery, GrantError, GrantedAccount,
};
use pleiades_credential::{AccountOwner, Connection, ProviderAuth, Signature};
use pleiades_mcp::RawObject;
use pleiades_upstream::Identity;

/// How often it is looked whether somebody connected at another replica.
const POLL: Duration = Duration::from_secs(2);

/// How a provider is reached.
#[derive(Debug)]
pub(crate) struct Reached {
    pub(crate) identity: Identity,
    /// The account used; `None` where the provider keeps none.
    pub(crate) account: Option<Arc<str>>,
}

impl Accounts {
    /// How this caller reaches a provider: from memory at once, else read and renewed, within the
    /// provider's `connect` and `call` together.
    ///
    /// # Errors
    /// Why it does not, with a way to connect where one would help.
    pub(crate) async fn reach(&self, request: &Request<'_>, provider: &Provider) -> Result<Reached, Error> {
        let ProviderAuth::OAuth(connection) = &provider.need else {
            return signed(request, provider);
        };
        match self.granted_now(request, connection) {
            Some(granted) if !is_awaited(request, connection, &granted) => Ok(reached(request, granted)),
            _ => Box::pin(self.grant(request, provider, connection)).await,
        }
    }

    /// The same without any I/O; `None` when it takes some, or cannot be.
    pub(crate) fn reach_now(&self, request: &Request<'_>, provider: &Provider) -> Option<Reached> {
        match &provider.need {
            ProviderAuth::OAuth(connection) => self
                .granted_now(request, connection)
                .map(|granted| reached(request, granted)),
            _ => signed(request, provider).ok(),
        }
    }

    /// As [`Self::reach`], for what is only shown: of several accounts without a default any that
    /// works will do.
    pub(crate) async fn reach_any(
        &self,
        request: &Request<'_>,
        provider: &Provider,
    ) -> Result<Reached, Error> {
        let error = match self.reach(request, provider).await {
            Err(error) if error.code == Code::AccountAmbiguous => error,
            outcome => return outcome,
        };
        match self.first_of(request, provider, &error).await {
            Some(reached) => Ok(reached),
            None => Err(error),
        }
    }

    /// The first account that works of those that an error lists.
    pub(crate) async fn first_of(
        &self,
        request: &Request<'_>,
        provider: &Provider,
        ambiguous: &Error,
    ) -> Option<Reached> {
        let connection = provider.need.connection()?;
        let listed = ambiguous.data.as_ref()?.get("accounts")?.as_array()?;
        for account in listed {
            let name = account.get("accountId").and_then(Value::as_str)?;
            let ask = ask(request, connection, (Some(name), None));
            if let Ok(granted) = self.manager.grant(&ask, provider.endpoint.call).await {
                return Some(reached(request, granted));
            }
        }
        None
    }

    /// The accounts of this caller at a provider, where there are several.
    pub(crate) fn accounts_of(&self, request: &Request<'_>, provider: &Provider) -> Vec<Value> {
        let Some(connection) = provider.need.connection() else {
            return Vec::new();
        };
        let accounts = self
            .manager
            .cached_accounts(&owner(request.principal(), connection));
        if accounts.len() < 2 {
            return Vec::new();
        }
        let to_json = |account| account_json(connection, account);
        accounts.iter().map(to_json).collect()
    }

    /// Whether a call may go to another account, should the one that it would use turn out to be gone: it names
    /// none, and there are several.
    pub(crate) fn may_use_another(&self, request: &Request<'_>, provider: &Provider) -> bool {
        let connection = provider.need.connection();
        connection.is_some_and(|connection| {
            request.account().is_none()
                && self
                    .manager
                    .knows_several(&owner(request.principal(), connection))
        })
    }

    /// How a call reaches its provider after the account that it used turned out to be gone: by the one that calls
    /// use now which name none.
    pub(crate) async fn reach_another(
        &self,
        request: &Request<'_>,
        provider: &Provider,
        gone: &Reached,
    ) -> Option<Reached> {
        let now = self.reach(request, provider).await.ok()?;
        (now.account != gone.account).then_some(now)
    }

    /// Notes which account a call named, for the rest of its session.
    pub(crate) fn remember(&self, request: &Request<'_>, provider: &Provider) {
        if let (Some(connection), Some(session), Some(account)) =
            (provider.need.connection(), request.session(), request.account())
        {
            self.remembered.choose(session, &connection.name, &account);
        }
    }

    /// What an account was used for succeeded.
    pub(crate) fn succeeded(&self, request: &Request<'_>, provider: &Provider, reached: &Reached) {
        let Some(account) = reached.account.as_ref() else {
            return;
        };
        // Its lists were read on the way, under the method's name.
        for operation in [request.operation(), request.method()] {
            let used = UsedAccount {
                account,
                fingerprint: reached.identity.signature.account,
                operation,
            };
            self.took(request.principal(), provider, used);
        }
    }

    /// What an upstream's refusal of the account means that a request used.
    pub(crate) async fn explain_refusal(
        &self,
        request: &Request<'_>,
        provider: &Provider,
        reached: &Reached,
        error: Error,
    ) -> Error {
        let auth = matches!(
            error.code,
            Code::UpstreamAuth | Code::NeedsAuth | Code::TokenExpired
        );
        let Some(account) = reached.account.as_ref().filter(|_| auth) else {
            return error;
        };
        let fingerprint = reached.identity.signature.account;
        if let Some(fingerprint) = fingerprint {
            request.facts().set_refused(fingerprint);
        }
        let used = UsedAccount {
            account,
            fingerprint,
            operation: request.operation(),
        };
        self.judged(request.principal(), provider, used, error).await
    }

    /// The account as it is in memory, when it is the one that this request would use.
    fn granted_now(&self, request: &Request<'_>, connection: &Arc<Connection>) -> Option<GrantedAccount> {
        let named = request.account();
        let remembered = self.remembered(request, connection, named.as_ref());
        let ask = ask(request, connection, (named.as_deref(), remembered.as_deref()));
        self.manager.grant_cached(&ask)
    }

    /// What the session used last, for a request that names none.
    fn remembered(
        &self,
        request: &Request<'_>,
        connection: &Connection,
        named: Option<&Arc<str>>,
    ) -> Option<Arc<str>> {
        let session = request.session().filter(|_| named.is_none())?;
        self.remembered.chosen(session, &connection.name)
    }

    async fn grant(
        &self,
        request: &Request<'_>,
        provider: &Provider,
        connection: &Arc<Connection>,
    ) -> Result<Reached, Error> {
        let named = request.account();
        let remembered = self.remembered(request, connection, named.as_ref());
        let ask = ask(request, connection, (named.as_deref(), remembered.as_deref()));
        let within = provider.endpoint.connect.saturating_add(provider.endpoint.call);
        let awaited = request.awaited().filter(|it| *it.provider == *provider.id);
        // Before the first look, so that nothing is missed.
        let mut events = awaited.map(|_| self.manager.subscribe());
        loop {
            let granted = self.manager.grant(&ask, within).await;
            let may_mend = match &granted {
                Ok(granted) => is_awaited(request, connection, granted),
                Err(refused) => mends(refused),
            };
            let goes_on = match (&mut events, awaited) {
                (Some(events), Some(awaited)) if may_mend => {
                    let owner = owner(request.principal(), connection);
                    timeout_at(awaited.until, connected(events, &owner)).await.is_ok()
                }
                _ => false,
            };
            match granted {
                _ if goes_on => {}
                Ok(granted) if may_mend => {
                    return Err(self.unchanged(request, connection, &granted).await);
                }
                Ok(granted) => return Ok(reached(request, granted)),
                Err(refused) => {
                    let purpose = AccountPurpose {
                        wanted: named.as_deref(),
                        operation: request.operation(),
                        view: request.manner(),
                    };
                    let principal = request.principal();
                    return Err(self.unconnected(principal, connection, &refused, purpose).await);
                }
            }
        }
    }

    /// The error for an account that did not do and was not connected again.
    async fn unchanged(
        &self,
        request: &Request<'_>,
        connection: &Connection,
        granted: &GrantedAccount,
    ) -> Error {
        let (principal, account) = (request.principal(), &granted.account);
        if let Some(fingerprint) = granted.signature.account {
            request.facts().set_refused(fingerprint);
        }
        let scopes = request.awaited().map_or(&[][..], |awaited| &awaited.scopes);
        let error = match scopes.is_empty() {
            true => ended(connection, account),
            false => incapable(connection, account, scopes, scopes),
        };
        let key = key(principal, connection, account);
        if self.attempts.is_spent(&key, request.operation()) {
            return spent(error);
        }
        self.invite(principal, connection, error, (Some(account), scopes))
            .await
    }
}

/// Whose accounts of a connection a caller uses.
pub(crate) fn owner(principal: &Principal, connection: &Connection) -> AccountOwner {
    AccountOwner {
        tenant: Arc::clone(&principal.tenant),
        user: Arc::clone(&principal.user),
        connection: Arc::clone(&connection.name),
    }
}

/// As a provider without accounts is reached: unsigned, or with what the caller or the gateway has.
fn signed(request: &Request<'_>, provider: &Provider) -> Result<Reached, Error> {
    let brought = request.peer().keys.brought(&provider.need);
    let signature = provider.need.sign(&brought);
    let signature = signature.map_err(|missing| needs_auth(provider, &missing))?;
    Ok(Reached {
        identity: identity(request, signature),
        account: None,
    })
}

fn reached(request: &Request<'_>, granted: GrantedAccount) -> Reached {
    Reached {
        identity: identity(request, granted.signature),
        account: Some(granted.account),
    }
}

fn identity(request: &Request<'_>, signature: Arc<Signature>) -> Identity {
    let principal = request.principal();
    Identity {
        session: request.session().cloned(),
        tenant: Arc::clone(&principal.tenant),
        user: Arc::clone(&principal.user),
        signature,
    }
}

fn ask<'a>(
    request: &Request<'a>,
    connection: &'a Arc<Connection>,
    (account, remembered): (Option<&'a str>, Option<&'a str>),
) -> AccountQuery<'a> {
    let principal = request.principal();
    AccountQuery {
        tenant: &principal.tenant,
        user: &principal.user,
        connection,
        account,
        remembered,
    }
}

/// Whether this is the account that did not do, and something newer is waited for.
fn is_awaited(request: &Request<'_>, connection: &Connection, granted: &GrantedAccount) -> bool {
    request.awaited().is_some_and(|awaited| {
        *awaited.provider == *connection.provider
            && awaited.was.is_some()
            && awaited.was == granted.signature.account
    })
}

/// Says in a result which account was used.
pub(crate) fn sign_result(account: Option<&Arc<str>>, result: &mut RawObject) {
    if let Some(account) = account {
        let mut meta: RawObject = result.read("_meta").unwrap_or_default();
        meta.put(ACCOUNT_KEY, &**account);
        result.set("_meta", meta.close());
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
async fn connected(events: &mut broadcast::Receiver<AccountEvent>, owner: &AccountOwner) {
    let here = async {
        loop {
            match events.recv().await {
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
        () = sleep(POLL) => {}
    }
}

/// An account as answers list it.
fn account_json(connection: &Connection, account: &Account) -> Value {
    let mut json = account.to_json();
    if let Some(object) = json.as_object_mut() {
        object.insert("provider".to_owned(), Value::from(&*connection.provider));
    }
    json
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::sync::broadcast;
    use tokio::time::Instant;

    use super::*;
    use crate::exchange::request::AwaitedConnection;
    use crate::exchange::tests::{LEGACY, Sent, object, provider};
    use pleiades_credential::manager::Reason;
    use pleiades_credential::{AccountKey, AccountOwner};
    use pleiades_mcp::ClientCapabilities;

    fn owner_of(user: &str) -> AccountOwner {
        AccountOwner {
            tenant: "acme".into(),
            user: user.into(),
            connection: "mail".into(),
        }
    }

    fn event(user: &str, kind: AccountEventKind) -> AccountEvent {
        AccountEvent {
            key: AccountKey {
                owner: owner_of(user),
                account: "a".into(),
            },
            kind,
            elsewhere: false,
        }
    }

    #[test]
    fn a_provider_without_accounts_is_reached_as_the_caller_itself() {
        let mut sent = Sent::new(LEGACY, ClientCapabilities::NONE);
        sent.peer.session = Some("session".into());
        let reached = signed(&sent.request(), &provider("one")).unwrap();
        assert_eq!(reached.account, None);
        assert_eq!(
            (&*reached.identity.tenant, &*reached.identity.user),
            ("acme", "ann")
        );
        assert_eq!(reached.identity.session.as_deref(), Some("session"));
    }

    #[test]
    fn connecting_mends_what_is_not_connected_and_nothing_else() {
        let missing = GrantError::NotConnected {
            reason: Reason::NeverConnected,
            wanted: None,
            accounts: Vec::new(),
        };
        assert!(mends(&missing));
        assert!(!mends(&GrantError::Ambiguous { accounts: Vec::new() }));
    }

    #[test]
    fn a_result_says_which_account_was_used_beside_what_it_said() {
        let mut result = object(&json!({ "_meta": { "own": 1 } }));
        sign_result(Some(&"ann@example.com".into()), &mut result);
        let meta: Value = result.read("_meta").unwrap();
        assert_eq!(meta, json!({ "own": 1, "pleiades/accountId": "ann@example.com" }));
        let mut result = object(&json!({}));
        sign_result(None, &mut result);
        assert!(result.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_a_connection_hears_of_its_own_alone() {
        let (sender, mut events) = broadcast::channel(8);
        for other in [
            event("bob", AccountEventKind::Connected),
            event("ann", AccountEventKind::Revoked),
        ] {
            sender.send(other).unwrap();
        }
        let began = Instant::now();
        connected(&mut events, &owner_of("ann")).await;
        assert!(
            began.elapsed() >= POLL,
            "nothing of its own: it looks again after a while"
        );
        sender.send(event("ann", AccountEventKind::Connected)).unwrap();
        let began = Instant::now();
        connected(&mut events, &owner_of("ann")).await;
        assert!(began.elapsed() < POLL);
    }

    #[test]
    fn an_account_in_the_arguments_goes_before_the_one_in_the_head() {
        let mut sent = Sent::new(LEGACY, ClientCapabilities::NONE);
        let mut headers = http::HeaderMap::new();
        headers.insert("pleiades-account", http::HeaderValue::from_static("head"));
        sent.peer.keys = crate::exchange::request::Keys::Headers(headers);
        assert_eq!(sent.request().account().as_deref(), Some("head"));
        let named = sent.request().with_account(Some("argument".into()));
        assert_eq!(named.account().as_deref(), Some("argument"));
    }

    #[test]
    fn what_an_account_is_used_for_is_its_tool_once_that_is_known() {
        let sent = Sent::new(LEGACY, ClientCapabilities::NONE);
        assert_eq!(sent.request().operation(), "tools/call");
        assert_eq!(sent.request().with_tool(Some("send".into())).operation(), "send");
    }

    #[test]
    fn a_connection_that_is_waited_for_goes_with_the_request_and_changes_no_other() {
        let sent = Sent::new(LEGACY, ClientCapabilities::NONE);
        let awaited = AwaitedConnection {
            provider: "mail".into(),
            until: Instant::now(),
            was: Some([1; 32]),
            scopes: Vec::new(),
            rounds: 1,
        };
        let request = sent.request();
        let waiting = request.clone().with_awaited(Some(&awaited));
        assert!(waiting.awaited().is_some() && request.awaited().is_none());
    }
}
