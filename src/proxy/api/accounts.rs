//! `/v1/accounts`: what the caller has connected, and what it may do with each (contracts section 2,
//! "Accounts").

use std::sync::Arc;

use http::{Method, StatusCode};
use pingora_proxy::Session;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Place, Response, decoded, no_account, only, told, unavailable};
use crate::access::Principal;
use crate::credential::connection::Grant;
use crate::credential::keeper::{Account, Keeper};
use crate::credential::{Key, Owner};
use crate::error::{Code, Error};
use crate::proxy::gateway::Gateway;

/// The body of a PUT.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    default: bool,
}

impl Gateway {
    /// The caller's accounts of all providers.
    pub(super) async fn accounts_of(
        &self,
        session: &Session,
        principal: &Principal,
    ) -> Result<Response, Error> {
        let method = &session.req_header().method;
        if *method != Method::GET && *method != Method::HEAD {
            return Err(only(method, &Place::Accounts));
        }
        let keeper = &self.exchange.accounts.keeper;
        let all = keeper
            .all(&principal.tenant, &principal.user)
            .await
            .map_err(unavailable)?;
        Ok(told(&json!({ "accounts": listed(keeper, &all) })))
    }

    /// One account of the caller: made the default, or revoked.
    pub(super) async fn account(
        &self,
        session: &mut Session,
        principal: &Principal,
        provider: &Arc<str>,
        account: &str,
    ) -> Result<Response, Error> {
        let method = session.req_header().method.clone();
        if method != Method::PUT && method != Method::DELETE {
            return Err(only(
                &method,
                &Place::Account(Arc::clone(provider), String::new()),
            ));
        }
        if method == Method::PUT {
            let body = super::json(session).await?;
            change(&body)?;
        }
        let query = session.req_header().uri.query();
        let name = named(account, query).ok_or_else(no_account)?;
        let keeper = &self.exchange.accounts.keeper;
        let key = Key {
            owner: owner(keeper, principal, provider),
            account: name.into(),
        };
        let known = if method == Method::PUT {
            keeper.choose(&key).await
        } else {
            keeper.revoke(&key).await
        };
        match known.map_err(unavailable)? {
            true => Ok(Response::empty(StatusCode::NO_CONTENT)),
            false => Err(no_account()),
        }
    }
}

fn change(body: &[u8]) -> Result<(), Error> {
    match serde_json::from_slice::<Change>(body) {
        Ok(Change { default: true }) => Ok(()),
        Ok(Change { default: false }) => Err(Error::new(
            Code::InvalidParams,
            "a default is changed by choosing another: send `{\"default\":true}` to that one",
        )),
        Err(_) => Err(Error::new(Code::InvalidParams, "send `{\"default\":true}`")),
    }
}

/// The account a request is about: the rest of its path, else `account` of its query, for names that
/// no path carries (`..`, or one with a backslash).
fn named(path: &str, query: Option<&str>) -> Option<String> {
    if !path.is_empty() {
        return decoded(path);
    }
    let mut given = query?.split('&').filter_map(|pair| pair.strip_prefix("account="));
    let one = given.next()?;
    given.next().is_none().then(|| decoded(one)).flatten()
}

/// Whose accounts a provider's are: those of its connection. One that is not loaded any more is
/// still reached under the connection's own name.
pub(super) fn owner(keeper: &Keeper, principal: &Principal, provider: &Arc<str>) -> Owner {
    let loaded = keeper.loaded().and_then(|loaded| loaded.provider(provider));
    let connection = loaded.map_or_else(|| Arc::clone(provider), |it| Arc::clone(&it.name));
    Owner {
        tenant: Arc::clone(&principal.tenant),
        user: Arc::clone(&principal.user),
        connection,
    }
}

/// Accounts as they are told: under each provider that uses them, else under the connection's name.
fn listed(keeper: &Keeper, all: &[(Arc<str>, Account)]) -> Vec<Value> {
    let mut told = Vec::new();
    for (connection, account) in all {
        let parts = keeper
            .loaded()
            .map(|loaded| loaded.of(connection))
            .unwrap_or_default();
        let mut providers: Vec<Arc<str>> = parts
            .iter()
            .filter(|part| part.grant == Grant::AuthorizationCode)
            .map(|part| Arc::clone(&part.provider))
            .collect();
        if providers.is_empty() {
            providers.push(Arc::clone(connection));
        }
        for provider in providers {
            let mut one = account.told();
            if let Some(object) = one.as_object_mut() {
                object.insert("provider".to_owned(), json!(&*provider));
            }
            told.push(one);
        }
    }
    let place = |entry: &Value| {
        let text = |key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
        (text("provider"), text("accountId"))
    };
    told.sort_by_key(place);
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_path_carries_come_in_the_query() {
        assert_eq!(named("a%40b", None).as_deref(), Some("a@b"));
        assert_eq!(named("", Some("account=AD%5Cme")).as_deref(), Some("AD\\me"));
        assert_eq!(named("", Some("x=1&account=..")).as_deref(), Some(".."));
        assert_eq!(named("", Some("account=a&account=b")), None);
        assert_eq!(named("", None), None);
        assert_eq!(named("a", Some("account=b")).as_deref(), Some("a"));
    }

    #[test]
    fn a_default_is_chosen_and_never_taken_away() {
        assert!(change(br#"{"default":true}"#).is_ok());
        for body in [
            "",
            "{}",
            "[]",
            r#"{"default":false}"#,
            r#"{"default":1}"#,
            r#"{"default":true,"x":1}"#,
            r#"{"default":true,"default":true}"#,
        ] {
            assert!(change(body.as_bytes()).is_err(), "{body}");
        }
    }
}
