//! What is said to authorization servers: discovery, registration, authorization, tokens.
//!
//! Nothing here keeps anything; the `broker` and the `keeper` decide when.

use std::collections::BTreeMap;

use url::Url;

use super::connection::Connection;
use super::record::{Client, Source};
use super::web::Web;
use crate::secret::Secret;

/// An authorization server as its metadata describes it (RFC 8414, OpenID Connect Discovery), or as
/// the descriptor does, and the protected resource that named it (RFC 9728).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Server {
    /// Issuer, as its metadata names it; `None` of a provider that publishes nothing.
    pub issuer: Option<String>,
    /// Authorization endpoint.
    pub authorization_endpoint: String,
    /// Token endpoint.
    pub token_endpoint: String,
    /// Registration endpoint (RFC 7591).
    pub registration_endpoint: Option<String>,
    /// Revocation endpoint (RFC 7009).
    pub revocation_endpoint: Option<String>,
    /// Userinfo endpoint (OpenID Connect).
    pub userinfo_endpoint: Option<String>,
    /// `code_challenge_methods_supported`; `None` when it is not said.
    pub challenge_methods: Option<Vec<String>>,
    /// `token_endpoint_auth_methods_supported`; `None` when it is not said.
    pub auth_methods: Option<Vec<String>>,
    /// `scopes_supported` of the server.
    pub scopes: Option<Vec<String>>,
    /// `authorization_response_iss_parameter_supported` (RFC 9207).
    pub iss_supported: bool,
    /// `client_id_metadata_document_supported`.
    pub metadata_documents: bool,
    /// `resource` of the protected resource's metadata.
    pub resource: Option<String>,
    /// `scopes_supported` of the protected resource's metadata.
    pub resource_scopes: Option<Vec<String>>,
}

/// What an upstream said when it refused: `WWW-Authenticate` of a 401 or 403 (RFC 9728 section 5.1,
/// RFC 6750 section 3).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Challenge {
    /// Status of the answer.
    pub status: u16,
    /// `resource_metadata`.
    pub resource_metadata: Option<String>,
    /// `scope`, split.
    pub scopes: Option<Vec<String>>,
    /// `error`.
    pub error: Option<String>,
}

/// Where a person is sent back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirects {
    /// The one of this authorization.
    pub used: String,
    /// All that are registered: `/oauth/callback` and, for issuers without `iss`, the provider's.
    pub registered: Vec<String>,
    /// Our client metadata document, where `public_url` is https.
    pub document: Option<String>,
}

/// Tokens as a token endpoint gave them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// Access token.
    pub access: Secret,
    /// Refresh token; absent means: keep the old one.
    pub refresh: Option<Secret>,
    /// Lifetime of the access token in seconds, when it was said.
    pub expires_in: Option<u64>,
    /// Granted scopes; absent means: as asked for.
    pub scopes: Option<Vec<String>>,
    /// ID token, whose claims name the account; had over TLS from the token endpoint (OpenID Connect
    /// Core section 3.1.3.7 point 6).
    pub id_token: Option<Secret>,
}

/// Whose account it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// `preferred_username`, else `email`, else `sub`.
    pub account: Option<String>,
    /// `email`, else `name`.
    pub label: Option<String>,
    /// `sub`.
    pub subject: Option<String>,
    /// Whether `email` is there and verified.
    pub verified_email: Option<String>,
    /// `nonce` of the ID token.
    pub nonce: Option<String>,
}

/// An authorization to be opened in a browser.
#[derive(Debug)]
pub struct Authorization {
    /// Where to send the person.
    pub url: Url,
    /// `state`: unguessable, single-use.
    pub state: Secret,
    /// PKCE verifier; `None` with `pkce: off`.
    pub verifier: Option<Secret>,
    /// `nonce`, where `openid` is asked for.
    pub nonce: Option<String>,
}

/// Why an authorization server did not give what it was asked for.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Trouble {
    /// What kind: decides whether anybody is asked to connect again.
    pub kind: TroubleKind,
    /// One sentence: lowercase, no full stop, no secret.
    pub message: String,
    /// The cure, for `doctor` and the page.
    pub cure: Option<String>,
    /// `error` as the server said it, where it is a registered word.
    pub error: Option<String>,
    /// Whether the request may have arrived: a refresh token may be used up.
    pub sent: bool,
    /// When trying again may help.
    pub retry_after: Option<std::time::Duration>,
}

/// Kinds of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TroubleKind {
    /// Nothing was reached, it failed, or it asked to come later: trying again may help.
    Transient,
    /// The grant is refused for good: `invalid_grant`, and nothing else.
    Grant,
    /// Our client is refused, or the request is: `invalid_client`, `unauthorized_client`, …; only the
    /// operator can mend it, and the grant may be good.
    Client,
    /// Metadata that must not be used: another issuer, another resource, no PKCE, no endpoint.
    Metadata,
}

/// Finds the server of a connection: descriptor's endpoints, else the protected resource's metadata
/// (of the challenge, at its path, at the root), else the upstream's own origin; then RFC 8414 and
/// OpenID documents in the specification's order; 2025-03-26's fixed paths last.
///
/// # Errors
/// [`Trouble`].
pub async fn discover(
    _web: &dyn Web,
    _connection: &Connection,
    _challenge: Option<&Challenge>,
) -> Result<Server, Trouble> {
    Err(unbuilt())
}

/// Registers a client (RFC 7591).
///
/// # Errors
/// [`Trouble`].
pub async fn register(
    _web: &dyn Web,
    _connection: &Connection,
    _server: &Server,
    _redirects: &Redirects,
) -> Result<Client, Trouble> {
    Err(unbuilt())
}

/// The client that needs no registration: the descriptor's, else our metadata document's; `None`
/// when one has to be registered.
#[must_use]
pub fn known_client(_connection: &Connection, _server: &Server, _redirects: &Redirects) -> Option<Client> {
    None
}

/// An authorization request (RFC 6749 section 4.1.1, RFC 7636, RFC 8707).
///
/// # Errors
/// [`TroubleKind::Metadata`] when the server does not name S256, or its endpoint is no URL to send a
/// person to.
pub fn authorize(
    _connection: &Connection,
    _server: &Server,
    _client: &Client,
    _redirect: &str,
    _scopes: &[String],
) -> Result<Authorization, Trouble> {
    Err(unbuilt())
}

/// Redeems a code.
///
/// # Errors
/// [`Trouble`].
pub async fn exchange(
    _web: &dyn Web,
    _connection: &Connection,
    _source: &Source,
    _code: &Secret,
    _verifier: Option<&Secret>,
    _redirect: &str,
) -> Result<Issued, Trouble> {
    Err(unbuilt())
}

/// Redeems a refresh token.
///
/// # Errors
/// [`Trouble`]; only [`TroubleKind::Grant`] is final.
pub async fn refresh(
    _web: &dyn Web,
    _connection: &Connection,
    _source: &Source,
    _token: &Secret,
    _scopes: Option<&[String]>,
) -> Result<Issued, Trouble> {
    Err(unbuilt())
}

/// A token for the gateway itself (RFC 6749 section 4.4).
///
/// # Errors
/// [`Trouble`].
pub async fn client_credentials(
    _web: &dyn Web,
    _connection: &Connection,
    _server: &Server,
    _scopes: Option<&[String]>,
) -> Result<Issued, Trouble> {
    Err(unbuilt())
}

/// Revokes a token (RFC 7009); a server without an endpoint is `Ok`.
///
/// # Errors
/// [`Trouble`].
pub async fn revoke(
    _web: &dyn Web,
    _connection: &Connection,
    _source: &Source,
    _token: &Secret,
) -> Result<(), Trouble> {
    Err(unbuilt())
}

/// Whose account the tokens are: the ID token's claims and, where the metadata names it, userinfo's.
///
/// # Errors
/// [`Trouble`] when userinfo was asked and the ID token names nobody either.
pub async fn identify(
    _web: &dyn Web,
    _connection: &Connection,
    _server: &Server,
    _issued: &Issued,
) -> Result<Identity, Trouble> {
    Err(unbuilt())
}

/// The document at `/oauth/client-metadata.json`.
#[must_use]
pub fn client_document(
    _document: &str,
    _name: &str,
    _redirects: &[String],
) -> BTreeMap<String, serde_json::Value> {
    BTreeMap::new()
}

/// Reads `WWW-Authenticate`.
#[must_use]
pub fn challenge(status: u16, _header: Option<&str>) -> Challenge {
    Challenge {
        status,
        ..Challenge::default()
    }
}

fn unbuilt() -> Trouble {
    Trouble {
        kind: TroubleKind::Client,
        message: "not built yet".to_owned(),
        cure: None,
        error: None,
        sent: false,
        retry_after: None,
    }
}
