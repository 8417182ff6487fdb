//! `/v1/accounts`: what the caller has connected, and what it may do with each
//! (`docs/ACCOUNTS.md`).

use std::sync::Arc;

use http::{Method, StatusCode};
use pingora_proxy::Session;
use serde::Deserialize;
use serde_json::json;

use super::body::{self, no_account, unavailable};
use super::route::ApiRoute;
use crate::proxy::respond::{self, Response};
use crate::proxy::services::GatewayServices;
use pleiades_core::error::{Code, Error};
use pleiades_credential::access::{Principal, names};
use pleiades_credential::user_accounts;

/// The body of a PUT.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DefaultChange {
    default: bool,
}

/// Lists the caller's accounts of all providers.
/// Errors: [`Code::MethodNotAllowed`], [`Code::CredentialStore`].
pub(super) async fn list(
    services: &GatewayServices,
    method: &Method,
    principal: &Principal,
) -> Result<Response, Error> {
    if *method != Method::GET && *method != Method::HEAD {
        return Err(ApiRoute::Accounts.wrong_method());
    }
    let manager = &services.exchange.accounts.manager;
    let all = user_accounts::accounts_json(manager, principal)
        .await
        .map_err(unavailable)?;
    Ok(respond::private_json(&json!({ "accounts": all })))
}

/// Makes one account of the caller the default, or revokes it. Errors: [`Code::MethodNotAllowed`],
/// [`Code::UnknownPath`], [`Code::InvalidParams`], [`Code::CredentialStore`].
pub(super) async fn change(
    services: &GatewayServices,
    session: &mut Session,
    principal: &Principal,
    (provider, account): (&Arc<str>, &str),
) -> Result<Response, Error> {
    let method = session.req_header().method.clone();
    if method != Method::PUT && method != Method::DELETE {
        return Err(ApiRoute::Account(Arc::clone(provider), String::new()).wrong_method());
    }
    if method == Method::PUT {
        let body = body::read_json(session).await?;
        parse_change(&body)?;
    }
    let query = session.req_header().uri.query();
    let name = names::account_name(account, query).ok_or_else(no_account)?;
    let manager = &services.exchange.accounts.manager;
    let key = user_accounts::key(manager, principal, provider, &name);
    if method == Method::DELETE {
        return match manager.revoke(&key).await.map_err(unavailable)? {
            true => Ok(Response::empty(StatusCode::NO_CONTENT)),
            false => Err(no_account()),
        };
    }
    if !manager.choose(&key).await.map_err(unavailable)? {
        return Err(no_account());
    }
    let now = user_accounts::account_json(manager, &key, provider)
        .await
        .map_err(unavailable)?;
    now.as_ref().map(respond::private_json).ok_or_else(no_account)
}

fn parse_change(body: &[u8]) -> Result<(), Error> {
    match serde_json::from_slice::<DefaultChange>(body) {
        Ok(DefaultChange { default: true }) => Ok(()),
        Ok(DefaultChange { default: false }) => Err(Error::new(
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
        assert!(parse_change(br#"{"default":true}"#).is_ok());
        for body in [
            "",
            "{}",
            "[]",
            r#"{"default":false}"#,
            r#"{"default":1}"#,
            r#"{"default":true,"x":1}"#,
            r#"{"default":true,"default":true}"#,
        ] {
            assert!(parse_change(body.as_bytes()).is_err(), "{body}");
        }
    }
}
