//! `/v1/accounts`: what the caller has connected, and what it may do with each (contracts section 2,
//! "Accounts").

use std::sync::Arc;

use http::{Method, StatusCode};
use pingora_proxy::Session;
use serde::Deserialize;
use serde_json::json;

use super::{Place, Response, answer, no_account, only, unavailable};
use crate::access::Principal;
use crate::access::names;
use crate::credential::told;
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
            return Err(only(&Place::Accounts));
        }
        let keeper = &self.exchange.accounts.keeper;
        let all = told::all(keeper, principal).await.map_err(unavailable)?;
        Ok(answer(&json!({ "accounts": all })))
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
            return Err(only(&Place::Account(Arc::clone(provider), String::new())));
        }
        if method == Method::PUT {
            let body = super::json(session).await?;
            change(&body)?;
        }
        let query = session.req_header().uri.query();
        let name = names::last(account, query).ok_or_else(no_account)?;
        let keeper = &self.exchange.accounts.keeper;
        let key = told::key(keeper, principal, provider, &name);
        if method == Method::DELETE {
            return match keeper.revoke(&key).await.map_err(unavailable)? {
                true => Ok(Response::empty(StatusCode::NO_CONTENT)),
                false => Err(no_account()),
            };
        }
        if !keeper.choose(&key).await.map_err(unavailable)? {
            return Err(no_account());
        }
        let now = told::one(keeper, &key, provider).await.map_err(unavailable)?;
        now.as_ref().map(answer).ok_or_else(no_account)
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

#[cfg(test)]
mod tests {
    use super::*;

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
