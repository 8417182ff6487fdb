//! The smaller parts of the settings.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Exposure;
use crate::Span;
use pleiades_core::secret::Secret;

/// Certificate of the public listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Tls")]
pub struct ListenerTls {
    /// PEM file of the certificate and its chain.
    pub cert_file: PathBuf,
    /// PEM file of its private key.
    pub key_file: PathBuf,
}

/// How tools are shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Facade")]
pub struct FacadeSettings {
    /// Whether `/mcp` offers one tool for all providers instead of one for each.
    pub single: bool,
    /// What is shown before an account is connected, where the descriptor says nothing.
    pub exposure: Exposure,
    /// How much of an answer of the meta view stands in `structuredContent`. `?structured=` in the address
    /// of a view goes before it.
    pub structured: Structured,
    /// The same for clients by the names they give themselves (`*` and `?`; in any case), of which the longest
    /// that fits counts. Default: none.
    pub structured_clients: BTreeMap<String, Structured>,
}

/// How much of an answer stands in `structuredContent`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Structured {
    /// By what clients are known to show their models: `meta` for those that show `content` and
    /// `structuredContent` (Copilot CLI), `off` for those that show `content` (Kimi), else `full`.
    #[default]
    Auto,
    /// The whole answer.
    Full,
    /// Everything but the text.
    Meta,
    /// Nothing: there is no `structuredContent`.
    Off,
}

/// How tools and prompts of several providers are named.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolNames {
    /// `{provider}__{tool}`, at most 64 of `A-Z a-z 0-9 _ -`.
    #[default]
    Safe,
    /// `{provider}.{tool}`, as the provider spells it.
    Dotted,
}

/// How connecting an account goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Connect")]
pub struct ConnectSettings {
    /// How long a connect link may be opened, 1s to 24h.
    #[schemars(extend("x-min" = "1s", "x-max" = "24h"))]
    pub link_ttl: Span,
    /// How long a started flow is waited for, 1s to 24h.
    #[schemars(extend("x-min" = "1s", "x-max" = "24h"))]
    pub pending_ttl: Span,
}

impl Default for ConnectSettings {
    fn default() -> Self {
        Self {
            link_ttl: Span::secs(900),
            pending_ttl: Span::secs(600),
        }
    }
}

/// Keys that seal session ids.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Seal {
    /// The first seals, all open: as references, at least 32 bytes each; processes with the same
    /// keys serve each other's sessions. Default: derived from the key of `vault.file`.
    pub keys: Vec<Secret>,
}

/// Who may connect servers that no descriptor names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectApi {
    /// Globs over whole URLs; `http` only on loopback. A wildcard of the host does not reach over its end,
    /// and loopback is admitted only where a host says it without a wildcard.
    pub allow: Vec<String>,
}

/// Keys of signed requests.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Signing {
    /// Keys that requests to `/oauth/refresh` may be signed with, as references, at least 32 bytes each.
    pub inbound_keys: Vec<Secret>,
}

/// A scheduler that is told when to refresh.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Scheduler")]
pub struct SchedulerSettings {
    /// URL that `auth/schedule` is posted to.
    #[schemars(extend("x-check" = "url"))]
    pub webhook: String,
    /// Key that the post is signed with, as a reference, at least 32 bytes.
    pub key: Secret,
}

/// What replicas share: answers and retries that arrive at another replica than asked, ended
/// sessions, changed accounts; all sealed with `seal.keys`. Everything else stays each replica's own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SharedState")]
pub struct SharedStateSettings {
    /// URL of a Redis, as a reference: `redis://` or, with TLS and the system's roots, `rediss://`; user,
    /// password and database may stand in it. Replicas of one `name` meet there.
    pub redis: Secret,
}

/// Where the audit trail goes. Not built yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// File of JSON lines. Default: standard output.
    pub file: Option<PathBuf>,
    /// What happens to calls that cannot be written down.
    pub on_failure: OnFailure,
}

/// What happens to calls that cannot be written down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// They run.
    #[default]
    Continue,
    /// They are refused.
    Refuse,
}

/// Where traces go. Not built yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    /// URL of an OpenTelemetry collector.
    #[schemars(extend("x-check" = "url"))]
    pub otlp: String,
}

/// How the process ends after SIGTERM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Shutdown {
    /// How long requests are still accepted while `/ready` says no, 0s to 1h.
    #[schemars(extend("x-min" = "0s", "x-max" = "1h"))]
    pub drain: Span,
    /// How long running requests may finish after that, 0s to 1h.
    #[schemars(extend("x-min" = "0s", "x-max" = "1h"))]
    pub grace: Span,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self {
            drain: Span::secs(10),
            grace: Span::secs(20),
        }
    }
}
