//! `POST /oauth/refresh/{provider}`: refreshes that a scheduler outside asks for, by a signature
//! (`docs/ACCOUNTS.md`, "Refreshes from outside").

use std::sync::Arc;

use http::Method;
use pingora_proxy::Session;
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::{self, no_account, unavailable};
use super::route::ApiRoute;
use crate::proxy::respond::{self, Response};
use crate::proxy::services::GatewayServices;
use pleiades_core::error::{Code, Error};
use pleiades_core::secret::Secret;
use pleiades_core::time::{rfc3339, unix_now};
use pleiades_credential::access::Principal;
use pleiades_credential::access::signed::{self, Verified};
use pleiades_credential::manager::{CredentialManager, RefreshOutcome, Refreshed};
use pleiades_credential::vault::{Path, Wrote};
use pleiades_credential::{AccountKey, AccountOwner, user_accounts};

/// Which account. Further members are ignored: one that differs makes two requests of the same second differ.
#[derive(Debug, Default, Deserialize)]
struct RefreshBody {
    tenant: Option<Arc<str>>,
    user: Option<Arc<str>>,
    account: Option<Arc<str>>,
}

/// Answers one signed request. Errors: [`Code::Unauthenticated`] whatever is wrong with the signature;
/// [`Code::InvalidParams`], [`Code::UnknownPath`], [`Code::CredentialStore`].
pub(super) async fn serve(
    services: &GatewayServices,
    keys: &[Secret],
    session: &mut Session,
    provider: &Arc<str>,
) -> Result<Response, Error> {
    if session.req_header().method != Method::POST {
        return Err(ApiRoute::Refresh(Arc::clone(provider)).wrong_method());
    }
    let header = signature(session).ok_or_else(unsigned)?;
    let body = body::read(session).await?;
    let verified = signed::verify(&header, &body, keys, unix_now()).ok_or_else(unsigned)?;
    let wanted = parse_body(&body)?;
    let manager = &services.exchange.accounts.manager;
    accept_once(manager, &verified).await?;
    let local = services.access.local();
    let principal = Principal {
        tenant: wanted.tenant.unwrap_or_else(|| Arc::clone(&local.tenant)),
        user: wanted.user.unwrap_or_else(|| Arc::clone(&local.user)),
    };
    let owner = user_accounts::owner(manager, &principal, provider);
    let outcome = refresh_accounts(manager, owner, wanted.account).await?;
    Ok(respond::private_json(&document(&outcome)))
}

/// The one signature of a request.
fn signature(session: &Session) -> Option<String> {
    let mut given = session.req_header().headers.get_all(signed::HEADER).iter();
    let one = given.next()?.to_str().ok()?.to_owned();
    given.next().is_none().then_some(one)
}

/// One sentence for everything that is wrong with a signature, no configured key included.
fn unsigned() -> Error {
    Error::new(
        Code::Unauthenticated,
        "`Pleiades-Signature` is missing, wrong, older than five minutes or was accepted before",
    )
}

fn parse_body(body: &[u8]) -> Result<RefreshBody, Error> {
    if body.is_empty() {
        return Ok(RefreshBody::default());
    }
    serde_json::from_slice(body).map_err(|cause| {
        Error::new(
            Code::InvalidParams,
            "the body is an object with `tenant`, `user` and `account`, each a string or absent",
        )
        .because(cause)
    })
}

/// Accepts a request once, whichever replica it comes to: who writes its mark first has it. Only what
/// was signed gets here, so nobody else can fill the store.
async fn accept_once(manager: &CredentialManager, verified: &Verified) -> Result<(), Error> {
    let path = Path::gateway(&["pending", &format!("r-{}", verified.replay_key)]);
    let mark = Secret::new(json!({ "until": verified.until }).to_string());
    match manager.vault().write(&path, 0, &mark, None).await {
        Ok(Wrote::Done(_)) => Ok(()),
        Ok(Wrote::Conflict) => Err(unsigned()),
        Err(fault) => Err(unavailable(fault)),
    }
}

/// Refreshes one account, or all of a user at a connection.
async fn refresh_accounts(
    manager: &CredentialManager,
    owner: AccountOwner,
    account: Option<Arc<str>>,
) -> Result<Refreshed, Error> {
    let accounts = match account {
        Some(account) => vec![account],
        None => {
            let known = manager.accounts(&owner).await.map_err(unavailable)?;
            known.into_iter().map(|account| account.id).collect()
        }
    };
    let mut all: Option<Refreshed> = None;
    for account in accounts {
        let key = AccountKey {
            owner: owner.clone(),
            account,
        };
        if let Some(one) = manager.refresh(&key, false).await.map_err(unavailable)? {
            all = Some(match all {
                Some(before) => combine(before, one),
                None => one,
            });
        }
    }
    all.ok_or_else(no_account)
}

/// Of several accounts: what somebody has to look at first, and the soonest time.
fn combine(a: Refreshed, b: Refreshed) -> Refreshed {
    let weight = |outcome: RefreshOutcome| match outcome {
        RefreshOutcome::NeedsReauth => 3,
        RefreshOutcome::Unhealthy => 2,
        RefreshOutcome::Refreshed => 1,
        RefreshOutcome::NotDue => 0,
    };
    let next_at = a.next_at.into_iter().chain(b.next_at).min();
    let outcome = if weight(b.outcome) > weight(a.outcome) {
        b.outcome
    } else {
        a.outcome
    };
    Refreshed { outcome, next_at }
}

fn document(refreshed: &Refreshed) -> Value {
    let outcome = match refreshed.outcome {
        RefreshOutcome::Refreshed => "refreshed",
        RefreshOutcome::NotDue => "not_due",
        RefreshOutcome::NeedsReauth => "needs_reauth",
        RefreshOutcome::Unhealthy => "unhealthy",
    };
    json!({ "outcome": outcome, "nextRunAt": refreshed.next_at.map(rfc3339) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(outcome: RefreshOutcome, next_at: Option<u64>) -> Refreshed {
        Refreshed { outcome, next_at }
    }

    #[test]
    fn of_several_accounts_the_worst_and_the_soonest_time_count() {
        let both = combine(
            one(RefreshOutcome::NeedsReauth, None),
            one(RefreshOutcome::Refreshed, Some(20)),
        );
        assert_eq!(both, one(RefreshOutcome::NeedsReauth, Some(20)));
        let both = combine(
            one(RefreshOutcome::NotDue, Some(10)),
            one(RefreshOutcome::Refreshed, Some(20)),
        );
        assert_eq!(both, one(RefreshOutcome::Refreshed, Some(10)));
    }

    #[test]
    fn a_body_names_strings_or_nothing() {
        assert!(parse_body(b"").is_ok());
        assert!(parse_body(br#"{"user":"ann","nonce":7}"#).is_ok());
        for body in ["[]", "null", r#"{"user":7}"#, r#"{"user":"a","user":"b"}"#, "{"] {
            assert!(parse_body(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn an_account_without_an_end_has_no_next_time() {
        assert_eq!(
            document(&one(RefreshOutcome::NotDue, None)),
            json!({ "outcome": "not_due", "nextRunAt": null })
        );
    }
}
