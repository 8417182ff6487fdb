//! The account that tokens are of, as the ID token and userinfo name it (OpenID Connect Core section 5).

use std::time::Duration;

use http::{HeaderValue, Method, Request, header};
use serde_json::Value;
use tokio::time::timeout;

use super::id_token::{self, ExpectedToken, IdTokenError, TokenClaims};
use super::{AccountProfile, AuthServer, OAuthError, OAuthErrorKind, TokenResponse, fetch};
use crate::connection::Connection;
use pleiades_core::{secret::Secret, text::printable, web::HttpClient};

/// How long userinfo may take, both tries together: a person waits, and the account works without a name.
const TIMEOUT: Duration = Duration::from_secs(6);
/// Longer names are cut, in characters.
const LONGEST: usize = 200;

/// The account that tokens are of, by the ID token's claims and, where the metadata names it, userinfo's. A
/// server that names nobody gives an empty [`AccountProfile`].
///
/// None of it is needed for the access token, which state, cookie and PKCE bind: an ID token that is refused is
/// dropped, a userinfo that fails or takes longer than [`TIMEOUT`] is done without, and the log says so.
pub(crate) async fn identify(
    web: &dyn HttpClient,
    connection: &Connection,
    server: &AuthServer,
    (client, nonce): (&str, Option<&str>),
    issued: &TokenResponse,
) -> AccountProfile {
    let expected = ExpectedToken {
        issuer: server.issuer.as_deref(),
        any_tenant: true,
        client,
        nonce,
    };
    let validated = issued
        .id_token
        .as_ref()
        .map(|token| id_token::validate(token, expected));
    let (claims, is_foreign) = match validated {
        None => (TokenClaims::new(), false),
        Some(Ok(claims)) => (claims, false),
        Some(Err(fault)) => {
            let provider = &*connection.provider;
            tracing::warn!(provider.name = provider, error = %fault, "the ID token is not used; the account is named without it");
            (TokenClaims::new(), fault == IdTokenError::Nonce)
        }
    };
    AccountProfile {
        is_foreign,
        ..profile(web, connection, server, &issued.access, &claims).await
    }
}

/// What claims that were validated, and userinfo of the same subject, say of an account.
pub(crate) async fn profile(
    web: &dyn HttpClient,
    connection: &Connection,
    server: &AuthServer,
    access: &Secret,
    claims: &TokenClaims,
) -> AccountProfile {
    let info = match timeout(TIMEOUT, userinfo_retrying(web, connection, server, access)).await {
        Ok(Ok(info)) => info.filter(|info| same_subject(claims, info)).unwrap_or_default(),
        Ok(Err(trouble)) => {
            let error = trouble.innermost().to_owned();
            log_unnamed(connection, claims, (error, Some(trouble.to_string())));
            TokenClaims::new()
        }
        Err(_elapsed) => {
            let error = format!("no answer within {} s", TIMEOUT.as_secs());
            log_unnamed(connection, claims, (error, None));
            TokenClaims::new()
        }
    };
    merged(claims, &info)
}

/// Logs that userinfo did not help: a warning only where nothing else names the account.
fn log_unnamed(
    connection: &Connection,
    claims: &TokenClaims,
    (error, description): (String, Option<String>),
) {
    macro_rules! at {
        ($level:ident) => {
            tracing::$level!(
                provider.name = &*connection.provider,
                error,
                description,
                "userinfo does not name the account"
            )
        };
    }
    match merged(claims, &TokenClaims::new()).account {
        Some(_) => at!(debug),
        None => at!(warn),
    }
}

/// Userinfo, asked once more where it failed for a passing reason.
async fn userinfo_retrying(
    web: &dyn HttpClient,
    connection: &Connection,
    server: &AuthServer,
    access: &Secret,
) -> Result<Option<TokenClaims>, OAuthError> {
    match userinfo(web, connection, server, access).await {
        Err(trouble) if trouble.kind == OAuthErrorKind::Transient => {
            userinfo(web, connection, server, access).await
        }
        answer => answer,
    }
}

/// What userinfo says; `None` where there is none.
async fn userinfo(
    web: &dyn HttpClient,
    connection: &Connection,
    server: &AuthServer,
    access: &Secret,
) -> Result<Option<TokenClaims>, OAuthError> {
    let Some(url) = server.userinfo_endpoint.as_deref().and_then(fetch::usable) else {
        return Ok(None);
    };
    let mut bearer = HeaderValue::from_str(&format!("Bearer {}", access.expose()))
        .map_err(|_error| OAuthError::client("the access token cannot stand in a header"))?;
    bearer.set_sensitive(true);
    let request = Request::builder()
        .method(Method::GET)
        .uri(url.as_str())
        .header(header::AUTHORIZATION, bearer)
        .header(header::ACCEPT, "application/json")
        .body(Vec::new())
        .map_err(|_error| OAuthError::metadata("the userinfo endpoint is no address to ask"))?;
    let response = web.send(&fetch::reach(connection, &url), request).await?;
    let status = response.status();
    if fetch::failing(status) {
        return Err(OAuthError::failing("userinfo", &response));
    }
    if !status.is_success() {
        let message = format!("userinfo answered {}", status.as_u16());
        return Err(OAuthError::metadata(message).sent());
    }
    let plain = serde_json::from_slice(response.body()).ok();
    // Some sign it, where their client settings say so.
    let signed = || {
        let text = std::str::from_utf8(response.body()).ok()?;
        id_token::unchecked_claims(&Secret::new(text.trim()))
    };
    let unreadable =
        || OAuthError::metadata("userinfo answered neither JSON nor a JWT that can be read").sent();
    plain.or_else(signed).map(Some).ok_or_else(unreadable)
}

/// Userinfo of somebody else is not believed (OpenID Connect Core section 5.3.2).
fn same_subject(token: &TokenClaims, info: &TokenClaims) -> bool {
    match (fetch::text(token, "sub"), fetch::text(info, "sub")) {
        (Some(token), Some(info)) => token == info,
        (Some(_), None) => false,
        (None, _) => true,
    }
}

/// The ID token's word comes before userinfo's.
fn merged(token: &TokenClaims, info: &TokenClaims) -> AccountProfile {
    let claim = |key: &str| name(token, key).or_else(|| name(info, key));
    let verified = [token, info].into_iter().find_map(|claims| {
        let email = name(claims, "email")?;
        is_email_verified(claims).then_some(email)
    });
    AccountProfile {
        account: claim("preferred_username")
            .or_else(|| claim("email"))
            .or_else(|| claim("sub")),
        label: claim("email").or_else(|| claim("name")),
        subject: fetch::text(token, "sub").or_else(|| fetch::text(info, "sub")),
        verified_email: verified,
        is_foreign: false,
    }
}

/// A name as people and paths can carry it; numbers are names too, as some have for `sub`.
fn name(claims: &TokenClaims, key: &str) -> Option<String> {
    let text = match claims.get(key)? {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    let clean = printable(&text, LONGEST);
    let clean = clean.trim();
    (!clean.is_empty()).then(|| clean.to_owned())
}

/// `email_verified`, also as the text that some send.
pub(crate) fn is_email_verified(claims: &TokenClaims) -> bool {
    match claims.get("email_verified") {
        Some(Value::Bool(verified)) => *verified,
        Some(Value::String(verified)) => verified == "true",
        _ => false,
    }
}
