//! The account that a relayed request uses, and the headers that sign it.

use std::sync::Arc;

use http::HeaderMap;
use tokio::time::timeout;

use super::session::{RelaySession, unknown_session};
use crate::catalog::Provider;
use crate::exchange::{self, ACCOUNT_HEADER, AccountPurpose, Exchange, Keys, UsedAccount};
use pleiades_core::error::{Code, Error};
use pleiades_core::telemetry::View;
use pleiades_credential::access::Principal;
use pleiades_credential::manager::AccountQuery;
use pleiades_credential::{Connection, ProviderAuth, Signature, SignedHeaders};
use pleiades_upstream::Identity;

/// Longest name of an account that is looked for, in bytes.
const MAX_NAME: usize = 512;
/// The operation of a request whose head does not name its method.
const RELAYED: &str = "relay";

#[derive(Debug, Clone)]
pub(super) struct RelayCredential {
    pub(super) signature: Arc<Signature>,
    /// Valid when the request was let in, or newer since a 401.
    pub(super) signed: Arc<SignedHeaders>,
    /// The account used; `None` where the provider keeps none.
    pub(super) account: Option<Arc<str>>,
}

impl RelayCredential {
    /// The identity under which the upstream is asked before the request itself is let through.
    pub(super) fn identity(&self, principal: &Principal) -> Identity {
        Identity {
            session: None,
            tenant: Arc::clone(&principal.tenant),
            user: Arc::clone(&principal.user),
            signature: Arc::clone(&self.signature),
        }
    }

    /// A session that the upstream opened for this credential.
    pub(super) fn session(&self, id: &str) -> RelaySession {
        RelaySession {
            id: id.to_owned(),
            fingerprint: self.signature.account,
            account: self.account.clone(),
        }
    }

    /// The account as it was used for a method; `None` where there is none.
    pub(super) fn account_use<'a>(&'a self, method: &'a str) -> Option<UsedAccount<'a>> {
        let account = self.account.as_ref()?;
        Some(account_use(account, &self.signature, method))
    }
}

/// Finds the credential of one caller at one provider, within the provider's `connect` and `call` together.
#[derive(Debug, Clone, Copy)]
pub(super) struct CredentialLookup<'a> {
    pub(super) exchange: &'a Exchange,
    pub(super) provider: &'a Provider,
    pub(super) principal: &'a Principal,
}

impl CredentialLookup<'_> {
    /// The credential of a request, by its head and session.
    /// Errors: why there is none, with a link to connect an account where one would help.
    pub(super) async fn find(
        self,
        headers: &HeaderMap,
        session: Option<&RelaySession>,
    ) -> Result<RelayCredential, Error> {
        let (signature, account) = match &self.provider.need {
            ProviderAuth::OAuth(connection) => self.grant_account(connection, headers, session).await?,
            need @ (ProviderAuth::None
            | ProviderAuth::ApiKey { .. }
            | ProviderAuth::ClientKey(_)
            | ProviderAuth::ClientCredentials(..)) => {
                let own = need
                    .key_headers()
                    .filter_map(|name| Some((name.clone(), headers.get(name)?.clone())));
                let keys = Keys::Headers(own.collect());
                let signed = need.sign(&keys.brought(need));
                let signature = signed.map_err(|missing| exchange::needs_auth(self.provider, &missing))?;
                (signature, None)
            }
        };
        if session.is_some_and(|session| session.fingerprint != signature.account) {
            return Err(unknown_session());
        }
        let signed = self.await_signed(&signature, account.as_ref()).await?;
        Ok(RelayCredential {
            signature,
            signed,
            account,
        })
    }

    async fn grant_account(
        self,
        connection: &Arc<Connection>,
        headers: &HeaderMap,
        session: Option<&RelaySession>,
    ) -> Result<(Arc<Signature>, Option<Arc<str>>), Error> {
        let wanted = account_header(headers)?;
        let ask = AccountQuery {
            tenant: &self.principal.tenant,
            user: &self.principal.user,
            connection,
            account: wanted,
            remembered: session.and_then(|session| session.account.as_deref()),
        };
        let accounts = &self.exchange.accounts;
        let granted = match accounts.manager.grant_cached(&ask) {
            Some(granted) => Ok(granted),
            None => accounts.manager.grant(&ask, self.within()).await,
        };
        match granted {
            Ok(granted) => Ok((granted.signature, Some(granted.account))),
            Err(refused) => {
                let purpose = AccountPurpose {
                    wanted,
                    operation: RELAYED,
                    view: View::Relay,
                };
                Err(accounts
                    .unconnected(self.principal, connection, &refused, purpose)
                    .await)
            }
        }
    }

    async fn await_signed(
        self,
        signature: &Signature,
        account: Option<&Arc<str>>,
    ) -> Result<Arc<SignedHeaders>, Error> {
        if let Some(signed) = signature.settled() {
            return Ok(Arc::clone(signed));
        }
        let ready = timeout(self.within(), signature.ready()).await;
        match ready.unwrap_or_else(|_elapsed| Err(renewal_timeout())) {
            Ok(signed) => Ok(signed),
            Err(error) => {
                let used = account.map(|account| account_use(account, signature, RELAYED));
                Err(self.judge_refusal(used, error).await)
            }
        }
    }

    /// The error for an upstream's refusal of the account, or for a renewal that failed.
    pub(super) async fn judge_refusal(self, used: Option<UsedAccount<'_>>, error: Error) -> Error {
        let accounts = &self.exchange.accounts;
        match used {
            Some(used) => accounts.judged(self.principal, self.provider, used, error).await,
            None => error,
        }
    }

    fn within(self) -> std::time::Duration {
        let endpoint = &self.provider.endpoint;
        endpoint.connect.saturating_add(endpoint.call)
    }
}

fn account_use<'a>(account: &'a Arc<str>, signature: &Signature, method: &'a str) -> UsedAccount<'a> {
    UsedAccount {
        account,
        fingerprint: signature.account,
        operation: if method.is_empty() { RELAYED } else { method },
    }
}

/// The account that a head names. Errors: [`Code::InvalidRequest`] when it is no name, or there are two.
fn account_header(headers: &HeaderMap) -> Result<Option<&str>, Error> {
    let mut given = headers.get_all(ACCOUNT_HEADER).iter();
    let Some(first) = given.next() else {
        return Ok(None);
    };
    let name = std::str::from_utf8(first.as_bytes()).ok().map(str::trim);
    match name.filter(|name| name.len() <= MAX_NAME && !name.contains(char::is_control)) {
        Some(name) if given.next().is_none() => Ok(Some(name).filter(|name| !name.is_empty())),
        _ => Err(Error::new(
            Code::InvalidRequest,
            "`Pleiades-Account` names one account, in UTF-8",
        )),
    }
}

pub(super) fn renewal_timeout() -> Error {
    Error::new(
        Code::CredentialTimeout,
        "the credential was not renewed in time; nothing was run",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_account_is_named_at_most() {
        let head = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(
                    ACCOUNT_HEADER,
                    http::HeaderValue::from_bytes(value.as_bytes()).unwrap(),
                );
            }
            account_header(&headers)
                .map(|name| name.map(str::to_owned))
                .map_err(|error| error.code)
        };
        assert_eq!(head(&[]), Ok(None));
        assert_eq!(head(&[""]), Ok(None));
        assert_eq!(head(&["ann"]), Ok(Some("ann".to_owned())));
        assert_eq!(head(&["ännchen"]), Ok(Some("ännchen".to_owned())));
        assert_eq!(head(&["ann", "bob"]), Err(Code::InvalidRequest));
        assert_eq!(head(&[&"x".repeat(600)]), Err(Code::InvalidRequest));
    }
}
