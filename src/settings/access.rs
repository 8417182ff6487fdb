//! `access:` of the settings: who may call.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::secret::Secret;

/// Who may call; several sources at once. Needed off loopback.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Access {
    /// Who an unauthenticated loopback caller is.
    pub local: Local,
    /// Keys of callers. Default: none.
    pub api_keys: Vec<ApiKey>,
    /// Issuers of callers' tokens. Default: none. Not built yet.
    pub jwt: Vec<Jwt>,
    /// `OpenID` login of a person who opens a connect link. Default: none.
    pub login: Option<Login>,
    /// Keys of operators. Default: none.
    pub admin_keys: Vec<AdminKey>,
}

/// Who an unauthenticated loopback caller is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Local {
    /// The tenant, at least one character.
    #[schemars(length(min = 1))]
    pub tenant: String,
    /// The user, at least one character.
    #[schemars(length(min = 1))]
    pub user: String,
}

impl Default for Local {
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
pub struct ApiKey {
    /// Name in logs.
    pub name: String,
    /// Tenant of whoever brings it.
    pub tenant: String,
    /// User whom it stands for.
    pub user: String,
    /// SHA-256 of the key's bytes, 64 lower-case hexadecimal digits.
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
pub struct Login {
    /// The issuer.
    #[schemars(extend("x-check" = "url"))]
    pub issuer: String,
    /// Our client id there.
    pub client_id: String,
    /// Our client secret there, as a reference. Default: none.
    #[serde(default)]
    pub client_secret: Option<Secret>,
}

/// A key of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdminKey {
    /// Name in logs.
    pub name: String,
    /// SHA-256 of the key's bytes, 64 lower-case hexadecimal digits.
    #[schemars(extend("pattern" = "^[0-9a-f]{64}$", "x-check" = "sha256"))]
    pub sha256: String,
}
