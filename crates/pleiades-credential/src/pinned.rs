//! Where the secret of a descriptor's client goes, if the descriptor names no issuer.
//!
//! To the one that it was first connected at, and nowhere else. A provider that names another one later, because it was
//! taken over or moved, gets no secret until the operator says so.

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::connection::Connection;
use super::vault::{Fault, Kind, Path, Vault, Wrote};
use pleiades_core::secret::Secret;

/// The issuer that a secret belongs to, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedIssuer {
    /// Issuer, else the token endpoint of a server that names none.
    pub issuer: String,
    /// The descriptor's client id.
    pub client_id: String,
}

/// Whether this connection's secret needs a place that is remembered: it has one, and the descriptor
/// does not say where it goes.
#[must_use]
pub const fn is_needed(connection: &Connection) -> bool {
    connection.client_id.is_some()
        && connection.client_secret.is_some()
        && connection.issuer.is_none()
        && connection.metadata.is_none()
        && connection.token_endpoint.is_none()
}

/// One entry for a connection and its client: another client is another secret.
fn path(connection: &Connection) -> Path {
    let client = connection.client_id.as_deref().unwrap_or_default();
    let text = format!("{}\n{client}", connection.name);
    let hash = digest(&SHA256, text.as_bytes());
    let name = hash.as_ref().iter().take(16).map(|byte| format!("{byte:02x}"));
    Path::gateway(&["clients", &format!("issuer-{}", name.collect::<String>())])
}

/// Where the secret of this connection goes; `None`: nowhere yet, or where the descriptor says.
///
/// # Errors
/// [`Fault`].
pub async fn read(vault: &dyn Vault, connection: &Connection) -> Result<Option<PinnedIssuer>, Fault> {
    if !is_needed(connection) {
        return Ok(None);
    }
    let stored = vault.read(&path(connection)).await?;
    let pinned = stored.map(|stored| serde_json::from_str(stored.value.expose()));
    pinned.transpose().map_err(|cause| {
        let message = "where a client's secret goes is kept in a form that cannot be read";
        Fault::new(Kind::Corrupt, message).because(cause)
    })
}

/// The other issuer that the secret belongs to; `None` when it may be sent to this one.
///
/// # Errors
/// [`Fault`].
pub async fn conflict(
    vault: &dyn Vault,
    connection: &Connection,
    (issuer, token_endpoint): (Option<&str>, &str),
) -> Result<Option<PinnedIssuer>, Fault> {
    let ours = issuer.unwrap_or(token_endpoint);
    let pinned = read(vault, connection).await?;
    Ok(pinned.filter(|pinned| pinned.issuer != ours))
}

/// Keeps where the secret was first taken; whoever was faster is right.
///
/// # Errors
/// [`Fault`].
pub async fn keep(
    vault: &dyn Vault,
    connection: &Connection,
    (issuer, token_endpoint): (Option<&str>, &str),
) -> Result<(), Fault> {
    let Some(client_id) = connection.client_id.clone().filter(|_| is_needed(connection)) else {
        return Ok(());
    };
    if read(vault, connection).await?.is_some() {
        return Ok(());
    }
    let pinned = PinnedIssuer {
        issuer: issuer.unwrap_or(token_endpoint).to_owned(),
        client_id,
    };
    let value = serde_json::to_string(&pinned).map(Secret::new);
    let value =
        value.map_err(|cause| Fault::new(Kind::Corrupt, "an entry cannot be written").because(cause))?;
    let wrote = vault.write(&path(connection), 0, &value, None).await?;
    if wrote == Wrote::Conflict {
        tracing::debug!("where a client's secret goes was kept by somebody else");
    }
    Ok(())
}

/// Forgets where the secret goes; answers where that was.
///
/// # Errors
/// [`Fault`].
pub async fn forget(vault: &dyn Vault, connection: &Connection) -> Result<Option<PinnedIssuer>, Fault> {
    let pinned = read(vault, connection).await;
    if matches!(&pinned, Err(fault) if fault.kind != Kind::Corrupt) || matches!(pinned, Ok(None)) {
        return pinned;
    }
    vault.remove(&path(connection)).await?;
    Ok(pinned.ok().flatten())
}

/// Why the secret is not sent, and what the operator can do: of the form of a trouble's message and cure.
#[must_use]
pub fn refusal(connection: &Connection, pinned: &PinnedIssuer, issuer: &str) -> (String, String) {
    let PinnedIssuer {
        issuer: first,
        client_id,
    } = pinned;
    let message = format!(
        "the secret of the client `{client_id}` goes to `{first}`, where it was first used, and the provider names \
         `{issuer}` now; it is not sent there"
    );
    let provider = &connection.provider;
    let cure = format!(
        "if the provider has moved, run `pleiades accounts forget-client {provider}`, or write `issuer: {issuer}` into \
         the descriptor"
    );
    (message, cure)
}
