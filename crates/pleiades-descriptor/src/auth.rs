//! `auth:` of a descriptor: how requests to a provider are signed.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scalar::Span;
use pleiades_core::secret::Secret;

/// How requests are signed: exactly one kind.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// Not at all; written `none: {}`.
    None(Unsigned),
    /// One key for all callers.
    ApiKey(ApiKey),
    /// The caller brings a key on each request; it is never stored.
    ClientKey(ClientKeyConfig),
    /// Every user connects accounts of their own; `{}` discovers everything.
    Oauth(Box<OAuth>),
    /// Machine to machine: one token for all callers.
    ClientCredentials(Box<ClientCredentials>),
}

/// No credential.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unsigned {}

/// One key for all callers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// Header that carries the key.
    #[serde(default = "authorization")]
    pub header: String,
    /// Put before the key. Default: `Bearer ` when the header is `Authorization`, else nothing.
    #[serde(default)]
    pub prefix: Option<String>,
    /// The key, as a reference.
    pub value: Secret,
}

impl ApiKey {
    /// What is put before the key.
    #[must_use]
    pub fn prefix(&self) -> &str {
        prefix(self.prefix.as_deref(), &self.header)
    }
}

/// A key that the caller brings.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ClientKey")]
pub struct ClientKeyConfig {
    /// Request headers it may come in; the first present wins. At least one. Not allowed: headers
    /// that prove who the caller is (`authorization`, `x-api-key`, `cookie`), hop-by-hop headers,
    /// `host`, `forwarded`, `x-forwarded-*`, `content-*`, `mcp-*`.
    #[schemars(length(min = 1))]
    pub headers: Vec<String>,
    /// Environment variable it comes in with `pleiades stdio`. Default: none.
    #[serde(default)]
    pub env: Option<String>,
    /// Upstream header it goes out in.
    #[serde(default = "authorization")]
    pub forward_as: String,
    /// Put before the key. Default: `Bearer ` when `forward_as` is `Authorization`, else nothing.
    #[serde(default)]
    pub prefix: Option<String>,
    /// Further headers of the caller, each with the name it goes out under. Default: none.
    #[serde(default)]
    pub companions: BTreeMap<String, String>,
    /// Key used when the caller brings none, as a reference. Default: the caller is asked for one.
    #[serde(default)]
    pub fallback: Option<Secret>,
}

impl ClientKeyConfig {
    /// What is put before the key.
    #[must_use]
    pub fn prefix(&self) -> &str {
        prefix(self.prefix.as_deref(), &self.forward_as)
    }
}

fn authorization() -> String {
    "Authorization".to_owned()
}

fn prefix<'a>(given: Option<&'a str>, header: &str) -> &'a str {
    let usual = if header.eq_ignore_ascii_case("authorization") {
        "Bearer "
    } else {
        ""
    };
    given.unwrap_or(usual)
}

/// OAuth for each user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("additionalProperties" = false))]
pub struct OAuth {
    /// What client we are and where tokens come from.
    #[serde(flatten)]
    pub flow: OAuthFlow,
    /// What is asked of people and kept for them.
    #[serde(flatten)]
    pub connect: OAuthConnect,
}

/// OAuth without a person.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("additionalProperties" = false))]
pub struct ClientCredentials {
    /// What client we are and where tokens come from.
    #[serde(flatten)]
    pub flow: OAuthFlow,
    /// Ahead of expiry.
    pub refresh: Refresh,
}

/// What client we are at the provider, and where tokens come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct OAuthFlow {
    /// Client id. An https URL with `token_auth: none` is a Client ID Metadata Document. Default:
    /// the gateway registers itself.
    pub client_id: Option<String>,
    /// Client secret, as a reference. Default: none.
    pub client_secret: Option<Secret>,
    /// Private key for `private_key_jwt`, PEM, PKCS 8, as a reference. Default: none.
    pub private_key: Option<Secret>,
    /// Scopes to ask for; they win over what servers advertise. Default: what servers advertise.
    pub scopes: Option<Vec<String>>,
    /// URL of the authorization server's metadata document, where it is not where the rules say
    /// (RFC 8414, OpenID Connect Discovery); its issuer is then taken as it stands. Default: looked for.
    #[schemars(extend("x-check" = "url"))]
    pub authorization_server_metadata: Option<String>,
    /// Authorization endpoint, for providers that publish no metadata.
    #[schemars(extend("x-check" = "url"))]
    pub authorization_endpoint: Option<String>,
    /// Token endpoint, for providers that publish no metadata.
    #[schemars(extend("x-check" = "url"))]
    pub token_endpoint: Option<String>,
    /// Revocation endpoint, for providers that publish no metadata.
    #[schemars(extend("x-check" = "url"))]
    pub revocation_endpoint: Option<String>,
    /// Issuer whose tokens are asked for, whatever the provider names; what its metadata document says
    /// its issuer is does not matter then. Default: the one that the provider names.
    #[schemars(extend("x-check" = "url"))]
    pub issuer: Option<String>,
    /// How we prove who we are at the token endpoint.
    pub token_auth: TokenAuth,
    /// Audience to ask for. Default: none.
    pub audience: Option<String>,
    /// Resource to ask for (RFC 8707): `auto` is the upstream's, `off` none, else a URL. Default:
    /// `auto`.
    #[schemars(extend("x-check" = "resource"))]
    pub resource: Option<String>,
    /// Further parameters of the authorization request. Default: none.
    pub parameters: BTreeMap<String, String>,
}

/// What is asked of people and kept for them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct OAuthConnect {
    /// Proof key for code exchange: `s256` uses it whatever the server's metadata says, `off` is only for
    /// servers that choke on it. Default: `s256` where the metadata lists it, else nobody connects.
    pub pkce: Option<PkceMode>,
    /// Descriptors that name the same connection share its accounts; their scopes are united.
    /// Default: the id.
    pub connection: Option<String>,
    /// Page of a flow that runs elsewhere and puts tokens in through the admin listener. Default:
    /// the flow runs here.
    #[schemars(extend("x-check" = "url"))]
    pub connect_url: Option<String>,
    /// Ahead of expiry.
    pub refresh: Refresh,
}

/// How a client proves who it is at the token endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenAuth {
    /// As the metadata says.
    #[default]
    Auto,
    /// HTTP basic authentication.
    Basic,
    /// In the body.
    Post,
    /// A public client.
    None,
    /// A signed assertion (RFC 7523).
    PrivateKeyJwt,
}

/// Proof key for code exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Pkce")]
pub enum PkceMode {
    /// SHA-256.
    S256,
    /// None.
    Off,
}

/// How tokens are renewed ahead of expiry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Refresh {
    /// How long before expiry, 1s to 24h; never more than half the token's lifetime.
    #[schemars(extend("x-min" = "1s", "x-max" = "24h"))]
    pub lead: Span,
    /// Attempts for transient faults, 1 to 10.
    #[schemars(range(min = 1, max = 10))]
    pub attempts: u32,
}

impl Default for Refresh {
    fn default() -> Self {
        Self {
            lead: Span::secs(600),
            attempts: 3,
        }
    }
}
