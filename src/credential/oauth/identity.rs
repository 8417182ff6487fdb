//! Whose account tokens are: what the ID token and userinfo say (OpenID Connect Core).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderValue, Method, Request, header};
use serde_json::{Map, Value};

use super::{Identity, Issued, Server, Trouble, TroubleKind, fetch};
use crate::credential::connection::Connection;
use crate::credential::web::Web;
use crate::secret::Secret;
use crate::telemetry::time::unix_now;

/// Clocks differ by less, in seconds.
const SKEW: u64 = 300;
/// Longer names are cut, in characters.
const LONGEST: usize = 200;

type Claims = Map<String, Value>;

/// Whose account the tokens are, for the descriptor's client; [`identify_for`] for any other.
///
/// # Errors
/// As [`identify_for`].
pub async fn identify(
    web: &dyn Web,
    connection: &Connection,
    server: &Server,
    issued: &Issued,
) -> Result<Identity, Trouble> {
    // A metadata document may have been passed over for a registered client.
    let client = connection.client_id.as_deref();
    let client = client.filter(|id| !id.starts_with("https://"));
    identify_for(web, connection, server, client, issued).await
}

/// Whose account the tokens are: the ID token's claims and, where the metadata names it, userinfo's. A
/// server that names nobody gives an empty [`Identity`].
///
/// # Errors
/// [`TroubleKind::Metadata`] when the ID token is of another issuer, for another client than `client`
/// or over; [`TroubleKind::Transient`] when userinfo could not be asked and the ID token names nobody.
pub async fn identify_for(
    web: &dyn Web,
    connection: &Connection,
    server: &Server,
    client: Option<&str>,
    issued: &Issued,
) -> Result<Identity, Trouble> {
    let token = issued.id_token.as_ref().and_then(claims_of);
    if let Some(claims) = &token {
        checked(claims, server, client)?;
    }
    let token = token.unwrap_or_default();
    let asked = userinfo(web, connection, server, &issued.access).await;
    let info = match asked {
        Ok(info) => info.filter(|info| same_subject(&token, info)).unwrap_or_default(),
        Err(trouble) if names(&token) => {
            tracing::debug!(%trouble, "userinfo could not be asked");
            Claims::new()
        }
        Err(trouble) => return Err(trouble),
    };
    Ok(identity(&token, &info))
}

/// The payload of a JWT. Its signature is not checked: it came over TLS from the token endpoint itself
/// (OpenID Connect Core section 3.1.3.7 point 6). What cannot be read is none.
fn claims_of(token: &Secret) -> Option<Claims> {
    let mut parts = token.expose().split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&payload).ok()
}

fn checked(claims: &Claims, server: &Server, client: Option<&str>) -> Result<(), Trouble> {
    let wrong = |what: &str| Err(Trouble::metadata(format!("the ID token is {what}")).sent());
    if let Some(issuer) = &server.issuer {
        let said = fetch::text(claims, "iss").unwrap_or_default();
        // Google leaves the scheme out now and then (OpenID Connect Core section 15.6.2 of old).
        let is_same = said == *issuer || issuer.strip_prefix("https://") == Some(said.as_str());
        if !is_same {
            return wrong("another issuer's");
        }
    }
    if let Some(client) = client {
        let audience = fetch::list(claims, "aud").unwrap_or_default();
        if !audience.iter().any(|it| it == client) {
            return wrong("for another client");
        }
    }
    let ends = claims.get("exp").and_then(Value::as_f64);
    #[expect(clippy::cast_precision_loss, reason = "seconds are far below 2^52")]
    let now = unix_now().saturating_sub(SKEW) as f64;
    if ends.is_some_and(|ends| ends < now) {
        return wrong("over already");
    }
    Ok(())
}

/// What userinfo says; `None` where there is none, or it is not for this token.
async fn userinfo(
    web: &dyn Web,
    connection: &Connection,
    server: &Server,
    access: &Secret,
) -> Result<Option<Claims>, Trouble> {
    let Some(url) = server.userinfo_endpoint.as_deref().and_then(fetch::usable) else {
        return Ok(None);
    };
    let mut bearer = HeaderValue::from_str(&format!("Bearer {}", access.expose()))
        .map_err(|_error| Trouble::client("the access token cannot stand in a header"))?;
    bearer.set_sensitive(true);
    let request = Request::builder()
        .method(Method::GET)
        .uri(url.as_str())
        .header(header::AUTHORIZATION, bearer)
        .header(header::ACCEPT, "application/json")
        .body(Vec::new())
        .map_err(|_error| Trouble::metadata("the userinfo endpoint is no address to ask"))?;
    let response = web.send(&fetch::reach(connection, &url), request).await?;
    let status = response.status();
    if fetch::failing(status) {
        let message = format!("userinfo is failing with status {}", status.as_u16());
        let trouble = Trouble::new(TroubleKind::Transient, message).sent();
        return Err(trouble.after(fetch::retry_after(&response)));
    }
    if !status.is_success() {
        return Ok(None);
    }
    let plain = serde_json::from_slice(response.body()).ok();
    // Some sign it, where their client settings say so.
    let signed = || {
        std::str::from_utf8(response.body())
            .ok()
            .map(|it| Secret::new(it.trim()))
    };
    Ok(plain.or_else(|| signed().as_ref().and_then(claims_of)))
}

/// Userinfo of somebody else is not believed (OpenID Connect Core section 5.3.2).
fn same_subject(token: &Claims, info: &Claims) -> bool {
    match (fetch::text(token, "sub"), fetch::text(info, "sub")) {
        (Some(token), Some(info)) => token == info,
        (Some(_), None) => false,
        (None, _) => true,
    }
}

fn names(claims: &Claims) -> bool {
    ["preferred_username", "email", "sub"]
        .iter()
        .any(|key| name(claims, key).is_some())
}

fn identity(token: &Claims, info: &Claims) -> Identity {
    let claim = |key: &str| name(token, key).or_else(|| name(info, key));
    let verified = [token, info].into_iter().find_map(|claims| {
        let email = name(claims, "email")?;
        is_true(claims.get("email_verified")).then_some(email)
    });
    Identity {
        account: claim("preferred_username")
            .or_else(|| claim("email"))
            .or_else(|| claim("sub")),
        label: claim("email").or_else(|| claim("name")),
        subject: fetch::text(token, "sub").or_else(|| fetch::text(info, "sub")),
        verified_email: verified,
        nonce: fetch::text(token, "nonce"),
    }
}

/// A name as people and paths can carry it; numbers are names too, as some have for `sub`.
fn name(claims: &Claims, key: &str) -> Option<String> {
    let text = match claims.get(key)? {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    let clean: String = text.chars().filter(|it| !it.is_control()).take(LONGEST).collect();
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
