//! `/v1/accounts`: everybody's, a page at a time. `/v1/accounts/{tenant}/{user}/{provider}/{account}`: a token
//! obtained elsewhere is put in, its state read, the account revoked. Never a secret comes out.

use std::time::Duration;

use async_trait::async_trait;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, Response, StatusCode};
use pingora_core::protocols::http::ServerSession;
use serde_json::Value;
use url::form_urlencoded;

use super::{document, refusal, response};
use pleiades_core::error::Code;
use pleiades_credential::access::{framing, names};
use pleiades_credential::all_accounts;

/// Largest body, in bytes.
pub(super) const MAX_BODY: usize = 64 * 1024;
const PREFIX: &str = "/v1/accounts/";
const ALL: &str = "/v1/accounts";

/// The account that a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountPath {
    /// Tenant.
    pub tenant: String,
    /// User.
    pub user: String,
    /// Provider id.
    pub provider: String,
    /// `accountId`.
    pub account: String,
}

/// Which of everybody's accounts are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedAccounts {
    /// Those that come after a page; `None`: the first.
    pub after: Option<String>,
    /// So many at most.
    pub most: usize,
}

/// What an operation on an account came to.
#[derive(Debug, Clone, PartialEq)]
pub enum AccountOutcome {
    /// Its state, or a page of accounts, without a secret.
    Account(Value),
    /// It was revoked and removed.
    Gone,
    /// It was read again.
    Read,
    /// There is none, or no such provider.
    Unknown,
    /// The token cannot be stored; a sentence with the cure.
    Wrong(String),
    /// An authorization server that has to be asked was not reached; a sentence.
    Unreached(String),
    /// The store does not serve: a sentence, and when to try again.
    Unavailable(&'static str, Option<Duration>),
}

/// Accounts, as operators reach them.
#[async_trait]
pub trait AccountAdmin: Send + Sync {
    /// Some of everybody's accounts.
    async fn list(&self, wanted: &ListedAccounts) -> AccountOutcome;
    /// The state of an account.
    async fn get(&self, named: &AccountPath) -> AccountOutcome;
    /// Puts in a token, as a token endpoint answered it.
    async fn put(&self, named: &AccountPath, token: &[u8]) -> AccountOutcome;
    /// Revokes an account and removes it.
    async fn delete(&self, named: &AccountPath) -> AccountOutcome;
    /// Another process has changed the account in the store: it is read again, and so are its user's others
    /// at the provider.
    async fn reread(&self, named: &AccountPath) -> AccountOutcome;
}

pub(super) fn is_account_path(path: &str) -> bool {
    path.starts_with(PREFIX) || path == ALL
}

/// `limit` and `after` of a list's query, each once.
fn parse_list(query: Option<&str>) -> Result<ListedAccounts, &'static str> {
    let mut wanted = ListedAccounts {
        after: None,
        most: all_accounts::USUAL,
    };
    let (mut limits, mut positions) = (0, 0);
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        if name == "limit" {
            limits += 1;
            wanted.most = value.parse().unwrap_or(0);
        } else if name == "after" {
            positions += 1;
            wanted.after = Some(value.into_owned());
        }
    }
    if limits > 1 || positions > 1 || !(1..=all_accounts::MOST).contains(&wanted.most) {
        return Err(
            "`limit` is a number from 1 to 1000, and `after` is `next` of the page before, each once",
        );
    }
    Ok(wanted)
}

/// Encoded slashes and dot segments are refused; a name that needs them comes as `account` of the query.
pub(super) fn parse_path(path: &str, query: Option<&str>) -> Option<AccountPath> {
    let rest = path.strip_prefix(PREFIX)?;
    let lower = path.to_ascii_lowercase();
    let is_hidden = ["%2f", "%5c", "%2e", "\\", "//"]
        .iter()
        .any(|it| lower.contains(it));
    if is_hidden || rest.split('/').any(|segment| matches!(segment, "." | "..")) {
        return None;
    }
    let mut segments = rest.splitn(4, '/');
    let mut next = || names::decode(segments.next()?);
    Some(AccountPath {
        tenant: next()?,
        user: next()?,
        provider: next()?,
        account: names::account_name(segments.next().unwrap_or_default(), query)?,
    })
}

pub(super) async fn answer(
    accounts: &dyn AccountAdmin,
    session: &mut ServerSession,
    (operator, request_id): (&str, &str),
) -> Response<Vec<u8>> {
    let head = session.req_header();
    let (method, uri) = (head.method.clone(), head.uri.clone());
    if !matches!(
        method,
        Method::GET | Method::HEAD | Method::PUT | Method::POST | Method::DELETE
    ) {
        let message =
            "an account is read with GET, put in with PUT, revoked with DELETE, read again with POST";
        return wrong_method(message, "GET, HEAD, PUT, POST, DELETE");
    }
    if framing::without_final_slash(uri.path()) == ALL {
        if method != Method::GET && method != Method::HEAD {
            return wrong_method("accounts are listed with GET", "GET, HEAD");
        }
        return match parse_list(uri.query()) {
            Ok(wanted) => to_response(accounts.list(&wanted).await),
            Err(why) => refusal(StatusCode::BAD_REQUEST, Code::InvalidParams, why),
        };
    }
    let Some(named) = parse_path(framing::without_final_slash(uri.path()), uri.query()) else {
        return unknown();
    };
    let outcome = if method == Method::PUT {
        if !framing::is_plain(&head.headers, super::JSON) {
            let message = "send `Content-Type: application/json`, without `Content-Encoding`";
            return refusal(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                Code::UnsupportedMedia,
                message,
            );
        }
        match read_body(session).await {
            Ok(token) => accounts.put(&named, &token).await,
            Err(response) => return response,
        }
    } else if method == Method::DELETE {
        accounts.delete(&named).await
    } else if method == Method::POST {
        accounts.reread(&named).await
    } else {
        accounts.get(&named).await
    };
    if method != Method::GET && method != Method::HEAD {
        tracing::info!(
            provider.name = &*named.provider,
            principal.tenant = &*named.tenant,
            principal.user = &*named.user,
            account.id = &*named.account,
            outcome = outcome.name(),
            access.key = operator,
            request.id = request_id,
            http.method = %method,
            "an account was changed by an operator"
        );
    }
    to_response(outcome)
}

impl AccountOutcome {
    const fn name(&self) -> &'static str {
        match self {
            Self::Account(_) => "stored",
            Self::Gone => "revoked",
            Self::Read => "read_again",
            Self::Unknown => "unknown",
            Self::Wrong(_) => "refused",
            Self::Unreached(_) => "unreached",
            Self::Unavailable(..) => "unavailable",
        }
    }
}

fn to_response(outcome: AccountOutcome) -> Response<Vec<u8>> {
    match outcome {
        AccountOutcome::Account(state) => document(StatusCode::OK, &state),
        AccountOutcome::Gone | AccountOutcome::Read => {
            let mut empty = response(StatusCode::NO_CONTENT, super::JSON, Vec::new());
            // RFC 9110 section 8.6: 204 has no length.
            empty.headers_mut().remove(http::header::CONTENT_LENGTH);
            empty.headers_mut().remove(CONTENT_TYPE);
            empty
        }
        AccountOutcome::Unknown => unknown(),
        AccountOutcome::Wrong(why) => refusal(StatusCode::BAD_REQUEST, Code::InvalidParams, &why),
        AccountOutcome::Unreached(why) => refusal(StatusCode::BAD_GATEWAY, Code::UpstreamUnreachable, &why),
        AccountOutcome::Unavailable(why, after) => {
            let message = format!("{why}; nothing was changed");
            let mut response = refusal(StatusCode::SERVICE_UNAVAILABLE, Code::CredentialStore, &message);
            let after = after.unwrap_or(Duration::from_secs(5)).as_secs().max(1);
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from(after));
            response
        }
    }
}

fn wrong_method(message: &str, allowed: &'static str) -> Response<Vec<u8>> {
    let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, Code::MethodNotAllowed, message);
    let allowed = HeaderValue::from_static(allowed);
    response.headers_mut().insert(ALLOW, allowed);
    response
}

fn unknown() -> Response<Vec<u8>> {
    let message = "no such account: the path is /v1/accounts/{tenant}/{user}/{provider}/{account}";
    refusal(StatusCode::NOT_FOUND, Code::UnknownPath, message)
}

async fn read_body(session: &mut ServerSession) -> Result<Vec<u8>, Response<Vec<u8>>> {
    let mut whole = Vec::new();
    loop {
        match session.read_request_body().await {
            Ok(None) => return Ok(whole),
            Ok(Some(chunk)) if whole.len() + chunk.len() <= MAX_BODY => whole.extend_from_slice(&chunk),
            Ok(Some(_)) => {
                let message = format!("the body is larger than {MAX_BODY} bytes");
                return Err(refusal(StatusCode::PAYLOAD_TOO_LARGE, Code::TooLarge, &message));
            }
            Err(_) => {
                let message = "the body is malformed or ended early";
                return Err(refusal(StatusCode::BAD_REQUEST, Code::BadFraming, message));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn four(path: &str, query: Option<&str>) -> Option<[String; 4]> {
        let AccountPath {
            tenant,
            user,
            provider,
            account,
        } = parse_path(path, query)?;
        Some([tenant, user, provider, account])
    }

    #[test]
    fn a_path_names_four_things_each_decoded_by_itself() {
        let four = |path, query| four(path, query).map(|it| it.join("|"));
        assert_eq!(
            four("/v1/accounts/acme/ann%40x/mail/me%20too", None).as_deref(),
            Some("acme|ann@x|mail|me too")
        );
        assert_eq!(four("/v1/accounts/a/b/c/d/e", None).as_deref(), Some("a|b|c|d/e"));
        assert_eq!(
            four("/v1/accounts/a/b/c", Some("account=%2e%2e")).as_deref(),
            Some("a|b|c|..")
        );
        for path in [
            "/v1/accounts/a/b/c",
            "/v1/accounts/a/b/c/",
            "/v1/accounts/a//c/d",
            "/v1/accounts/a/b/c/..",
            "/v1/accounts/a/b%2fc/d/e",
            "/v1/accounts/a/b/c/%2e%2e",
            "/v1/accounts/%ff/b/c/d",
        ] {
            assert_eq!(four(path, None), None, "{path}");
        }
    }

    #[test]
    fn a_list_is_bounded_and_goes_on_where_a_page_ended() {
        let wanted = |query| parse_list(query).map(|it| (it.after, it.most));
        assert_eq!(wanted(None), Ok((None, 100)));
        assert_eq!(
            wanted(Some("limit=1000&after=abc&x=y")),
            Ok((Some("abc".to_owned()), 1000))
        );
        for wrong in [
            "limit=0",
            "limit=1001",
            "limit=x",
            "limit=1&limit=2",
            "after=a&after=b",
        ] {
            assert!(wanted(Some(wrong)).is_err(), "{wrong}");
        }
        assert!(is_account_path("/v1/accounts") && is_account_path("/v1/accounts/a/b/c/d"));
        assert!(!is_account_path("/v1/accountsx"));
    }

    #[test]
    fn an_outcome_has_a_status_and_nothing_else_decides_it() {
        let status = |outcome| to_response(outcome).status().as_u16();
        assert_eq!(status(AccountOutcome::Account(Value::Null)), 200);
        assert_eq!(status(AccountOutcome::Unknown), 404);
        assert_eq!(status(AccountOutcome::Wrong(String::new())), 400);
        assert_eq!(status(AccountOutcome::Unreached(String::new())), 502);
        let away = to_response(AccountOutcome::Unavailable(
            "it is away",
            Some(Duration::from_secs(9)),
        ));
        assert_eq!(
            (
                away.status().as_u16(),
                away.headers()[RETRY_AFTER].to_str().unwrap()
            ),
            (503, "9")
        );
        let gone = to_response(AccountOutcome::Gone);
        assert_eq!(gone.status(), 204);
        assert!(!gone.headers().contains_key("content-length"));
    }
}
