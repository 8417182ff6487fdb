//! `vault:` of the settings: where credentials are kept.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use pleiades_core::secret::Secret;

/// Where credentials are kept: exactly one kind.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Vault")]
pub enum VaultSettings {
    /// An encrypted file on this machine.
    File(FileVault),
    /// `HashiCorp` Vault.
    Hashicorp(Box<HashicorpSettings>),
}

impl Default for VaultSettings {
    fn default() -> Self {
        Self::File(FileVault::default())
    }
}

/// An encrypted file on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FileVault {
    /// The file. Default: `vault` under the XDG data folder.
    pub path: Option<PathBuf>,
    /// The key it is encrypted with, as a reference, at least 32 bytes; the key that seals session ids
    /// is derived from it. Default: a key file of mode 0600 that is made once beside it.
    pub key: Option<Secret>,
}

/// `HashiCorp` Vault.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Hashicorp")]
pub struct HashicorpSettings {
    /// Its address; `http` only on loopback.
    #[schemars(extend("x-check" = "url"))]
    pub address: String,
    /// Mount of the KV version 2 engine.
    #[serde(default = "mount")]
    pub mount: String,
    /// Path under which everything of ours is kept.
    #[serde(default = "prefix")]
    pub prefix: String,
    /// Namespace. Default: none.
    #[serde(default)]
    pub namespace: Option<String>,
    /// PEM file of certificates that are trusted instead of the system's. Default: the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Key of the transit engine that wraps records. Default: none.
    #[serde(default)]
    pub transit_key: Option<String>,
    /// How we log in: exactly one kind.
    pub auth: VaultAuth,
}

fn mount() -> String {
    "secret".to_owned()
}

fn prefix() -> String {
    "pleiades".to_owned()
}

/// How we log in to Vault: exactly one kind.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VaultAuth {
    /// With the service account of a pod.
    Kubernetes(Kubernetes),
    /// With a role id and a secret id.
    Approle(AppRole),
    /// With a JSON Web Token.
    Jwt(JwtLogin),
    /// With a token, as a reference.
    Token(Secret),
    /// With a token in a file, which is read again when it changes.
    TokenFile(PathBuf),
}

/// Login with the service account of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kubernetes {
    /// Role in Vault.
    pub role: String,
    /// Mount of the login method.
    #[serde(default = "kubernetes")]
    pub mount: String,
    /// File of the service account's token.
    #[serde(default = "service_account")]
    pub token_file: PathBuf,
}

fn kubernetes() -> String {
    "kubernetes".to_owned()
}

fn service_account() -> PathBuf {
    PathBuf::from("/var/run/secrets/kubernetes.io/serviceaccount/token")
}

/// Login with a role id and a secret id.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AppRole {
    /// The role id.
    pub role_id: String,
    /// The secret id, as a reference.
    pub secret_id: Secret,
    /// Mount of the login method.
    #[serde(default = "approle")]
    pub mount: String,
}

fn approle() -> String {
    "approle".to_owned()
}

/// Login with a JSON Web Token.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JwtLogin {
    /// Role in Vault.
    pub role: String,
    /// The token, as a reference.
    pub token: Secret,
    /// Mount of the login method.
    #[serde(default = "jwt")]
    pub mount: String,
}

fn jwt() -> String {
    "jwt".to_owned()
}
