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
use pleiades_credential::manager::CredentialManager;
use pleiades_credential::{AccountKey, user_accounts};

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

/// Makes one account of the caller the default or no longer the default, or revokes it. Errors: [`Code::MethodNotAllowed`],
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
    let is_default = match method == Method::PUT {
        true => parse_change(&body::read_json(session).await?)?,
        false => false,
    };
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
    if is_default && !manager.choose(&key).await.map_err(unavailable)? {
        return Err(no_account());
    }
    if !is_default {
        take_default(manager, &key).await?;
    }
    let now = user_accounts::account_json(manager, &key, provider)
        .await
        .map_err(unavailable)?;
    now.as_ref().map(respond::private_json).ok_or_else(no_account)
}

/// Takes the default from an account that has it: then each call names one, while several work.
async fn take_default(manager: &CredentialManager, key: &AccountKey) -> Result<(), Error> {
    let accounts = manager.accounts(&key.owner).await.map_err(unavailable)?;
    let account = accounts.iter().find(|it| it.id == key.account);
    let has_it = account.ok_or_else(no_account)?.is_default;
    if has_it && !manager.choose_none(&key.owner).await.map_err(unavailable)? {
        let message = "it is the only account, so calls use it: there is nothing to choose from";
        return Err(Error::new(Code::InvalidParams, message));
    }
    Ok(())
}

fn parse_change(body: &[u8]) -> Result<bool, Error> {
    let message = "send `{\"default\":true}`, or `{\"default\":false}` so that each call names an account";
    serde_json::from_slice::<DefaultChange>(body)
        .map(|change| change.default)
        .map_err(|_malformed| Error::new(Code::InvalidParams, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_is_chosen_or_taken_away_and_nothing_else_is_a_change() {
        assert!(parse_change(br#"{"default":true}"#).unwrap());
        assert!(!parse_change(br#"{"default":false}"#).unwrap());
        for body in [
            "",
            "{}",
            "[]",
            r#"{"default":1}"#,
            r#"{"default":true,"x":1}"#,
            r#"{"default":true,"default":true}"#,
        ] {
            assert!(parse_change(body.as_bytes()).is_err(), "{body}");
        }
    }
}
