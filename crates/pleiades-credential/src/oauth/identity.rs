//! Whose account tokens are: what the ID token and userinfo say (OpenID Connect Core).

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderValue, Method, Request, header};
use serde_json::{Map, Value};
use tokio::time::timeout;

use super::{AccountProfile, AuthServer, OAuthError, OAuthErrorKind, TokenResponse, failure, fetch};
use crate::connection::Connection;
use pleiades_core::secret::Secret;
use pleiades_core::text::is_hidden;
use pleiades_core::time::unix_now;
use pleiades_core::web::HttpClient;

/// Clocks differ by less, in seconds.
const SKEW: u64 = 300;
/// How long userinfo may take, both tries together: a person waits, and the account works without a name.
const NAMED: Duration = Duration::from_secs(6);
/// Longer names are cut, in characters.
const LONGEST: usize = 200;

type TokenClaims = Map<String, Value>;

/// Whose account the tokens are, for the descriptor's client; [`identify_for`] for any other.
pub async fn identify(
    web: &dyn HttpClient,
    connection: &Connection,
    server: &AuthServer,
    issued: &TokenResponse,
) -> AccountProfile {
    // A metadata document may have been passed over for a registered client.
    let client = connection.client_id.as_deref();
    let client = client.filter(|id| !id.starts_with("https://"));
    let expected = ExpectedToken { client, nonce: None };
    identify_for(web, connection, server, expected, issued).await
}

/// What an ID token has to say to be believed.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExpectedToken<'a> {
    /// Our client id, for its audience.
    pub client: Option<&'a str>,
    /// The nonce of the authorization request.
    pub nonce: Option<&'a str>,
}

/// Whose account the tokens are: the ID token's claims and, where the metadata names it, userinfo's. A
/// server that names nobody gives an empty [`Identity`].
///
/// None of it is needed for the access token, which state, cookie and PKCE bind: an ID token that fails
/// its check (`OpenID` Connect Core section 3.1.3.7) is dropped, a userinfo that fails or takes longer than
/// [`NAMED`] is done without, and the log says so.
pub async fn identify_for(
    web: &dyn HttpClient,
    connection: &Connection,
    server: &AuthServer,
    expected: ExpectedToken<'_>,
    issued: &TokenResponse,
) -> AccountProfile {
    let provider = &*connection.provider;
    let checked = issued
        .id_token
        .as_ref()
        .map(|token| believed(token, server, expected));
    let (token, is_foreign) = match checked {
        None => (TokenClaims::new(), false),
        Some(Ok(claims)) => (claims, false),
        Some(Err(fault)) => {
            tracing::warn!(provider, %fault, "the ID token is not used; the account is named without it");
            (TokenClaims::new(), fault == IdTokenError::Nonce)
        }
    };
    let info = match timeout(NAMED, asked(web, connection, server, &issued.access)).await {
        Ok(Ok(info)) => info.filter(|info| same_subject(&token, info)).unwrap_or_default(),
        Ok(Err(trouble)) => {
            tracing::warn!(provider, %trouble, "userinfo does not name the account");
            TokenClaims::new()
        }
        Err(_elapsed) => {
            tracing::warn!(
                provider,
                seconds = NAMED.as_secs(),
                "userinfo did not answer in time"
            );
            TokenClaims::new()
        }
    };
    AccountProfile {
        is_foreign,
        ..identity(&token, &info)
    }
}

/// Userinfo, once more where it failed for a passing reason.
async fn asked(
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

/// Why an ID token is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum IdTokenError {
    #[error("it is encrypted, and no key for it was agreed on")]
    Encrypted,
    #[error("it is no JWT that can be read")]
    Unreadable,
    #[error("it is of the issuer {said}, and {expected} was asked")]
    Issuer { said: String, expected: String },
    #[error("it is for the audience {0}, and not for our client")]
    Audience(String),
    #[error("it expired at {0} (unix seconds)")]
    Expired(i64),
    #[error("it carries no nonce, though one was sent")]
    NoNonce,
    #[error("it carries the nonce of another sign-in")]
    Nonce,
}

/// The claims of an ID token, once it is checked.
fn believed(
    token: &Secret,
    server: &AuthServer,
    expected: ExpectedToken<'_>,
) -> Result<TokenClaims, IdTokenError> {
    // A JWE has five parts (RFC 7516 section 3.1).
    if token.expose().split('.').count() == 5 {
        return Err(IdTokenError::Encrypted);
    }
    let claims = claims_of(token).ok_or(IdTokenError::Unreadable)?;
    checked(&claims, server, expected.client)?;
    match (expected.nonce, fetch::text(&claims, "nonce")) {
        (Some(_), None) => Err(IdTokenError::NoNonce),
        (Some(sent), Some(said)) if sent != said => Err(IdTokenError::Nonce),
        _ => Ok(claims),
    }
}

/// The payload of a JWT. Its signature is not checked: it came over TLS from the token endpoint itself
/// (OpenID Connect Core section 3.1.3.7 point 6). What cannot be read is none.
fn claims_of(token: &Secret) -> Option<TokenClaims> {
    let mut parts = token.expose().split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&payload).ok()
}

fn checked(claims: &TokenClaims, server: &AuthServer, client: Option<&str>) -> Result<(), IdTokenError> {
    if let Some(issuer) = &server.issuer {
        let said = fetch::text(claims, "iss").unwrap_or_default();
        // Entra's document for every tenant has a place for the tenant, which the token names.
        let tenant = fetch::text(claims, "tid")
            .filter(|it| it.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'));
        let ours = tenant.map_or_else(|| issuer.clone(), |tenant| issuer.replace("{tenantid}", &tenant));
        // Google leaves the scheme out now and then (OpenID Connect Core section 15.6.2 of old).
        let is_same = said == ours || ours.strip_prefix("https://") == Some(said.as_str());
        if !is_same {
            return Err(IdTokenError::Issuer {
                said: failure::quoted(&said),
                expected: failure::quoted(issuer),
            });
        }
    }
    if let Some(client) = client {
        let audience = fetch::list(claims, "aud").unwrap_or_default();
        if !audience.iter().any(|it| it == client) {
            return Err(IdTokenError::Audience(failure::quoted(&audience.join(" "))));
        }
    }
    let ends = claims.get("exp").and_then(Value::as_f64);
    #[expect(clippy::cast_precision_loss, reason = "seconds are far below 2^52")]
    let now = unix_now().saturating_sub(SKEW) as f64;
    match ends {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "for the log, and cut at the ends of the type"
        )]
        Some(ends) if ends < now => Err(IdTokenError::Expired(ends as i64)),
        _ => Ok(()),
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
        let message = format!("userinfo is failing with status {}", status.as_u16());
        let trouble = OAuthError::new(OAuthErrorKind::Transient, message).sent();
        return Err(trouble.after(fetch::retry_after(&response)));
    }
    if !status.is_success() {
        let message = format!("userinfo answered {}", status.as_u16());
        return Err(OAuthError::metadata(message).sent());
    }
    let plain = serde_json::from_slice(response.body()).ok();
    // Some sign it, where their client settings say so.
    let signed = || {
        std::str::from_utf8(response.body())
            .ok()
            .map(|it| Secret::new(it.trim()))
    };
    let claims = plain.or_else(|| signed().as_ref().and_then(claims_of));
    let unreadable =
        || OAuthError::metadata("userinfo answered neither JSON nor a JWT that can be read").sent();
    claims.map(Some).ok_or_else(unreadable)
}

/// Userinfo of somebody else is not believed (OpenID Connect Core section 5.3.2).
fn same_subject(token: &TokenClaims, info: &TokenClaims) -> bool {
    match (fetch::text(token, "sub"), fetch::text(info, "sub")) {
        (Some(token), Some(info)) => token == info,
        (Some(_), None) => false,
        (None, _) => true,
    }
}

fn identity(token: &TokenClaims, info: &TokenClaims) -> AccountProfile {
    let claim = |key: &str| name(token, key).or_else(|| name(info, key));
    let verified = [token, info].into_iter().find_map(|claims| {
        let email = name(claims, "email")?;
        is_true(claims.get("email_verified")).then_some(email)
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
    let clean: String = text.chars().filter(|it| !is_hidden(*it)).take(LONGEST).collect();
    let clean = clean.trim();
    (!clean.is_empty()).then(|| clean.to_owned())
}

/// A switch, also as the text that some send.
fn is_true(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Bool(switch)) => *switch,
        Some(Value::String(text)) => text == "true",
        _ => false,
    }
}
