//! `access:` of the settings: who may call.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pleiades_core::secret::Secret;

/// Who may call; several sources at once. Callers must be named, in `api_keys` or `jwt`, off loopback, and
/// where `hosts`, `trusted_proxies` or a `public_url` that is not loopback say that others call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Access")]
pub struct AccessSettings {
    /// Who a caller on this machine is, and as whom the command line acts. Default: the user `local` of
    /// the tenant `default`. While `api_keys` and `jwt` are empty such a caller needs no key. Beside them it
    /// is let in where this is written out, by the key in `local.key` of the XDG data folder, a file of mode
    /// 0600 that is made once; whoever deletes it and starts the gateway again has another.
    pub local: Option<LocalCaller>,
    /// Keys of callers, brought as `x-api-key` or `Authorization: Bearer`. Default: none.
    pub api_keys: Vec<CallerKey>,
    /// Issuers of callers' tokens. Default: none. Not built yet.
    pub jwt: Vec<Jwt>,
    /// `OpenID` login of a person who opens a connect link. Default: none.
    pub login: Option<LoginSettings>,
    /// Keys of operators, for the admin listener: once there are some, `/providers` and
    /// `/v1/accounts` want one. Default: none, and then these paths are served on loopback only.
    pub admin_keys: Vec<AdminKey>,
}

impl AccessSettings {
    /// Whether callers are named: `login` and `admin_keys` name none.
    #[must_use]
    pub const fn names_callers(&self) -> bool {
        !self.api_keys.is_empty() || !self.jwt.is_empty()
    }

    /// Who a caller on this machine is, written out or not; the command line acts as it too.
    #[must_use]
    pub fn local(&self) -> LocalCaller {
        self.local.clone().unwrap_or_default()
    }
}

/// Who a caller on this machine is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Local")]
pub struct LocalCaller {
    /// The tenant, at least one character.
    #[schemars(length(min = 1))]
    pub tenant: String,
    /// The user, at least one character.
    #[schemars(length(min = 1))]
    pub user: String,
}

impl Default for LocalCaller {
    fn default() -> Self {
        Self {
            tenant: "default".to_owned(),
            user: "local".to_owned(),
        }
    }
}

/// A key of a caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ApiKey")]
pub struct CallerKey {
    /// Name in logs, at least one character; no other key has it.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Tenant of whoever brings it, at least one character.
    #[schemars(length(min = 1))]
    pub tenant: String,
    /// User whom it stands for, at least one character.
    #[schemars(length(min = 1))]
    pub user: String,
    /// SHA-256 of the key's bytes, 64 lower-case hexadecimal digits; no other key has it.
    #[schemars(extend("pattern" = "^[0-9a-f]{64}$", "x-check" = "sha256"))]
    pub sha256: String,
}

/// An issuer of callers' tokens. Not built yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jwt {
    /// The issuer, as in the claim `iss`.
    #[schemars(extend("x-check" = "url"))]
    pub issuer: String,
    /// Audiences, one of which must be in the claim `aud`.
    #[schemars(length(min = 1))]
    pub audiences: Vec<String>,
    /// The issuer's keys. Default: what its metadata names.
    #[serde(default)]
    #[schemars(extend("x-check" = "url"))]
    pub jwks_url: Option<String>,
    /// Claim that names the tenant. Default: every token is of the tenant `default`.
    #[serde(default)]
    pub tenant_claim: Option<String>,
    /// Claim that names the user.
    #[serde(default = "subject")]
    pub user_claim: String,
    /// Claim that lists groups. Default: none.
    #[serde(default)]
    pub groups_claim: Option<String>,
    /// Scopes a token must have. Default: none.
    #[serde(default)]
    pub scopes: Vec<String>,
}

fn subject() -> String {
    "sub".to_owned()
}

/// `OpenID` login of a person.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Login")]
pub struct LoginSettings {
    /// The issuer.
    #[schemars(extend("x-check" = "url"))]
    pub issuer: String,
    /// Our client id there.
    pub client_id: String,
    /// Our client secret there, as a reference. Default: none.
    #[serde(default)]
    pub client_secret: Option<Secret>,
    /// Tenant whose people log in here; links of other tenants are refused. Default: `default`, where
    /// `tenant_claim` is not given either.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub tenant: Option<String>,
    /// Claim of the ID token that names the tenant, instead of `tenant`; one that begins with `/` is a JSON
    /// pointer. Default: none.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub tenant_claim: Option<String>,
    /// Claim of the ID token that names the user; `email` counts only with `email_verified`. One that begins
    /// with `/` is a JSON pointer.
    #[serde(default = "subject")]
    #[schemars(length(min = 1))]
    pub user_claim: String,
}

/// A key of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdminKey {
    /// Name in logs, at least one character; no other key has it.
    #[schemars(length(min = 1))]
    pub name: String,
    /// SHA-256 of the key's bytes, 64 lower-case hexadecimal digits; no other key has it.
    #[schemars(extend("pattern" = "^[0-9a-f]{64}$", "x-check" = "sha256"))]
    pub sha256: String,
}
