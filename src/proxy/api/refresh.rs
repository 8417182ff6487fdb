//! `POST /oauth/refresh/{provider}`: refreshes that a scheduler outside asks for, by a signature
//! (contracts section 6).

use std::sync::Arc;

use http::Method;
use pingora_proxy::Session;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Place, Response, answer, no_account, only, unavailable};
use crate::access::Principal;
use crate::access::signed::{self, Verified};
use crate::credential::keeper::{Keeper, RefreshOutcome, Refreshed};
use crate::credential::told;
use crate::credential::vault::{Path, Wrote};
use crate::credential::{Key, Owner};
use crate::error::{Code, Error};
use crate::proxy::gateway::Gateway;
use crate::secret::Secret;
use crate::telemetry::time::{rfc3339, unix_now};

/// Whose account. Further members are ignored: one that differs makes two requests of the same second
/// differ.
#[derive(Debug, Default, Deserialize)]
struct Asked {
    tenant: Option<Arc<str>>,
    user: Option<Arc<str>>,
    account: Option<Arc<str>>,
}

impl Gateway {
    /// One signed request.
    pub(super) async fn refresh_asked(
        &self,
        session: &mut Session,
        provider: &Arc<str>,
    ) -> Result<Response, Error> {
        let method = session.req_header().method.clone();
        if method != Method::POST {
            return Err(only(&Place::Refresh(Arc::clone(provider))));
        }
        let header = signature(session).ok_or_else(unsigned)?;
        let body = super::read(session).await?;
        let keys = &self.desk.inbound_keys;
        let verified = signed::verify(&header, &body, keys, unix_now()).ok_or_else(unsigned)?;
        let asked = asked(&body)?;
        let keeper = &self.exchange.accounts.keeper;
        once(keeper, &verified).await?;
        let local = self.access.local();
        let principal = Principal {
            tenant: asked.tenant.unwrap_or_else(|| Arc::clone(&local.tenant)),
            user: asked.user.unwrap_or_else(|| Arc::clone(&local.user)),
        };
        let owner = told::owner(keeper, &principal, provider);
        let outcome = refreshed(keeper, owner, asked.account).await?;
        Ok(answer(&document(&outcome)))
    }
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

fn asked(body: &[u8]) -> Result<Asked, Error> {
    if body.is_empty() {
        return Ok(Asked::default());
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
async fn once(keeper: &Keeper, verified: &Verified) -> Result<(), Error> {
    let path = Path::gateway(&["pending", &format!("r-{}", verified.once)]);
    let mark = Secret::new(json!({ "until": verified.until }).to_string());
    match keeper.vault().write(&path, 0, &mark, None).await {
        Ok(Wrote::Done(_)) => Ok(()),
        Ok(Wrote::Conflict) => Err(unsigned()),
        Err(fault) => Err(unavailable(fault)),
    }
}

/// Refreshes one account, or all of a user at a connection.
async fn refreshed(keeper: &Keeper, owner: Owner, account: Option<Arc<str>>) -> Result<Refreshed, Error> {
    let accounts = match account {
        Some(account) => vec![account],
        None => {
            let known = keeper.accounts(&owner).await.map_err(unavailable)?;
            known.into_iter().map(|account| account.id).collect()
        }
    };
    let mut all: Option<Refreshed> = None;
    for account in accounts {
        let key = Key {
            owner: owner.clone(),
            account,
        };
        if let Some(one) = keeper.refresh(&key, false).await.map_err(unavailable)? {
            all = Some(match all {
                Some(before) => together(before, one),
                None => one,
            });
        }
    }
    all.ok_or_else(no_account)
}

/// Of several accounts: what somebody has to look at first, and the soonest time.
fn together(a: Refreshed, b: Refreshed) -> Refreshed {
    let weight = |outcome: RefreshOutcome| match outcome {
        RefreshOutcome::NeedsReauth => 3,
        RefreshOutcome::Unhealthy => 2,
        RefreshOutcome::Refreshed => 1,
        RefreshOutcome::NotDue => 0,
    };
    let next_at = match (a.next_at, b.next_at) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    };
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
    fn of_several_accounts_the_worst_is_told_and_the_soonest_time() {
        let both = together(
            one(RefreshOutcome::NeedsReauth, None),
            one(RefreshOutcome::Refreshed, Some(20)),
        );
        assert_eq!(both, one(RefreshOutcome::NeedsReauth, Some(20)));
        let both = together(
            one(RefreshOutcome::NotDue, Some(10)),
            one(RefreshOutcome::Refreshed, Some(20)),
        );
        assert_eq!(both, one(RefreshOutcome::Refreshed, Some(10)));
    }

    #[test]
    fn a_body_names_strings_or_nothing() {
        assert!(asked(b"").is_ok());
        assert!(asked(br#"{"user":"ann","nonce":7}"#).is_ok());
        for body in ["[]", "null", r#"{"user":7}"#, r#"{"user":"a","user":"b"}"#, "{"] {
            assert!(asked(body.as_bytes()).is_err(), "{body}");
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
