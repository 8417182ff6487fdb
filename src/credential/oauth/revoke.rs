//! Revocation of tokens (RFC 7009).

use serde_json::{Map, Value};

use super::token::Form;
use super::{Trouble, fetch, trouble};
use crate::credential::connection::Connection;
use crate::credential::record::Source;
use crate::credential::web::Web;
use crate::secret::Secret;

/// Revokes a token; a server without an endpoint is `Ok`, and so is one that does not know the token
/// any more.
///
/// # Errors
/// [`Trouble`]; the token may be good still.
pub async fn revoke(
    web: &dyn Web,
    connection: &Connection,
    source: &Source,
    token: &Secret,
) -> Result<(), Trouble> {
    let declared = connection.revocation_endpoint.as_ref().map(url::Url::as_str);
    let Some(endpoint) = declared.or(source.revocation_endpoint.as_deref()) else {
        return Ok(());
    };
    let mut form = Form::empty();
    form.secret("token", token);
    let response = form.send(web, connection, source, endpoint).await?;
    let status = response.status();
    if fetch::failing(status) {
        let message = format!(
            "the revocation endpoint is failing with status {}",
            status.as_u16()
        );
        return Err(Trouble::transient(message)
            .after(fetch::retry_after(&response))
            .sent());
    }
    let said: Map<String, Value> = serde_json::from_slice(response.body()).unwrap_or_default();
    let code = fetch::text(&said, "error");
    let over = matches!(code.as_deref(), Some("invalid_token" | "invalid_grant"));
    if over || (status.is_success() && code.is_none()) {
        return Ok(());
    }
    let told = code.as_deref().and_then(|it| trouble::code(it, &[token]));
    let told = told.unwrap_or_else(|| format!("status {}", status.as_u16()));
    let mut trouble = Trouble::client(format!("the revocation was refused: {told}")).sent();
    trouble.error = code.and_then(|it| trouble::registered(&it));
    Err(trouble.cure("revoke the connection at the provider by hand"))
}
