//! Revocation of tokens (RFC 7009).

use serde_json::{Map, Value};

use super::{OAuthError, failure, fetch, token::TokenForm};
use crate::{connection::Connection, record::TokenSource};
use pleiades_core::{secret::Secret, web::HttpClient};

/// Revokes a token; `Ok` too of a server without an endpoint, or that does not know the token any more.
/// Errors: [`OAuthError`]; the token may be good still.
pub(crate) async fn revoke(
    web: &dyn HttpClient,
    connection: &Connection,
    source: &TokenSource,
    token: &Secret,
) -> Result<(), OAuthError> {
    let declared = connection.revocation_endpoint.as_ref().map(url::Url::as_str);
    let Some(endpoint) = declared.or(source.revocation_endpoint.as_deref()) else {
        return Ok(());
    };
    let mut form = TokenForm::empty();
    form.secret("token", token);
    let response = form.send(web, connection, source, endpoint).await?;
    let status = response.status();
    if fetch::failing(status) {
        return Err(OAuthError::failing("the revocation endpoint", &response));
    }
    let answer: Map<String, Value> = serde_json::from_slice(response.body()).unwrap_or_default();
    let code = fetch::text(&answer, "error");
    let over = matches!(code.as_deref(), Some("invalid_token" | "invalid_grant"));
    if over || (status.is_success() && code.is_none()) {
        return Ok(());
    }
    let shown = code.as_deref().and_then(|it| failure::code(it, &[token]));
    let shown = shown.unwrap_or_else(|| format!("status {}", status.as_u16()));
    let mut trouble = OAuthError::client(format!("the revocation was refused: {shown}")).sent();
    trouble.error = code.and_then(|it| failure::registered(&it));
    Err(trouble.cure("revoke the connection at the provider by hand"))
}
