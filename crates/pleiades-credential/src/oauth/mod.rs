//! Requests to authorization servers: discovery, registration, authorization, tokens.
//!
//! Nothing here keeps anything; the `broker` and the `manager` decide when.

mod assertion;
mod authorize;
mod client;
mod client_check;
mod discover;
pub(crate) mod failure;
mod fetch;
mod id_token;
mod issuer;
mod metadata;
mod profile;
mod protected;
mod register;
mod revoke;
mod token;
pub(crate) mod token_response;
mod verdict;

#[cfg(test)]
mod tests;

use url::Url;

pub use authorize::without_s256;
pub(crate) use authorize::{authorize, scopes, source};
pub use client::client_document;
pub(crate) use client::known_client;
pub(crate) use client_check::{ClientCheck, check_client};
pub use discover::{MissingMetadata, discover};
pub(crate) use failure::may_be_unknown_client;
pub use failure::{is_unknown_client, plain};
pub(crate) use id_token::{ExpectedToken, TokenClaims, validate};
pub(crate) use issuer::check_iss;
pub use pleiades_core::www_authenticate::{Challenge, RefusalCause, challenge};
pub(crate) use profile::{identify, is_email_verified, profile};
pub(crate) use register::registration;
pub(crate) use revoke::revoke;
pub(crate) use token::{client_credentials, exchange, refresh};
pub(crate) use verdict::{MADE_ANEW, SentRequest, Verdict, verdict};

use pleiades_core::secret::Secret;

/// An authorization server as its metadata describes it (RFC 8414, OpenID Connect Discovery), or as
/// the descriptor does, and the protected resource that named it (RFC 9728).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthServer {
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
    /// `code_challenge_methods_supported`; `None` when the metadata does not say.
    pub challenge_methods: Option<Vec<String>>,
    /// `token_endpoint_auth_methods_supported`; `None` when the metadata does not say.
    pub auth_methods: Option<Vec<String>>,
    /// `scopes_supported` of the server.
    pub scopes: Option<Vec<String>>,
    /// `authorization_response_iss_parameter_supported` (RFC 9207).
    pub iss_supported: bool,
    /// `client_id_metadata_document_supported`.
    pub metadata_documents: bool,
    /// `resource` of the protected resource's metadata.
    pub resource: Option<String>,
    /// `resource_name` of the protected resource's metadata.
    pub resource_name: Option<String>,
    /// `scopes_supported` of the protected resource's metadata.
    pub resource_scopes: Option<Vec<String>>,
    /// Where nothing is published and the endpoints are guesses: what was at the places instead.
    pub unpublished: Option<MissingMetadata>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Redirects {
    /// The one of this authorization.
    pub used: String,
    /// All that are registered: `/oauth/callback` and, for issuers without `iss`, the provider's.
    pub registered: Vec<String>,
    /// Our client metadata document, where `public_url` is https.
    pub document: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenResponse {
    pub access: Secret,
    /// Refresh token; absent means: keep the old one.
    pub refresh: Option<Secret>,
    /// Lifetime of the access token in seconds, where the answer has one.
    pub expires_in: Option<u64>,
    /// Granted scopes; absent means: as asked for.
    pub scopes: Option<Vec<String>>,
    /// Its claims name the account; it came over TLS (OpenID Connect Core section 3.1.3.7 point 6).
    pub id_token: Option<Secret>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AccountProfile {
    /// `preferred_username`, else `email`, else `sub`.
    pub account: Option<String>,
    /// `email`, else `name`.
    pub label: Option<String>,
    pub subject: Option<String>,
    pub verified_email: Option<String>,
    /// Whether the ID token carried the nonce of another sign-in: nothing of it is used then.
    pub is_foreign: bool,
}

#[derive(Debug)]
pub(crate) struct Authorization {
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
#[error("{}", .full.as_ref().unwrap_or(.message))]
pub struct OAuthError {
    /// What kind: decides whether anybody is asked to connect again.
    pub kind: OAuthErrorKind,
    /// One sentence: lowercase, no full stop, no secret.
    pub message: String,
    /// The same with the addresses of servers, where `message` goes without: for the log, for `doctor` and
    /// for whoever has proven to be a link's principal, and never for callers.
    pub full: Option<String>,
    /// The innermost cause, in the words of the system or of TLS, where nobody answered: for the log.
    pub cause: Option<String>,
    /// The cure, for `doctor` and the page.
    pub cure: Option<String>,
    /// `error` as the server wrote it, where it is a word of RFC 6749's characters.
    pub error: Option<String>,
    /// The server's words beside it, cleaned.
    pub description: Option<String>,
    /// An answer that succeeds and holds no tokens that could be read: those sent may be used up.
    pub unread: bool,
    /// Whether the request may have arrived: a refresh token may be used up.
    pub sent: bool,
    /// When trying again may help.
    pub retry_after: Option<std::time::Duration>,
}

/// Kinds of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OAuthErrorKind {
    /// Nothing was reached, it failed, or it asked to come later: trying again may help.
    Transient,
    /// The grant is refused for good: `invalid_grant`, and nothing else.
    Grant,
    /// Our client is refused, or the request is: `invalid_client`, `unauthorized_client`, and whatever
    /// else is no answer to come back later. The grant may be good all the same.
    Client,
    /// Metadata that must not be used: another issuer, another resource, no PKCE, no endpoint.
    Metadata,
}
