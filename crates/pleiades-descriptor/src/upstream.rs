//! `upstream:` of a descriptor: where a provider is and how it is reached.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::scalar::{self, Span};
use pleiades_core::secret::Secret;

/// Where a provider is: exactly one of `url`, `command`, `openapi`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["url"]}, {"required": ["command"]}, {"required": ["openapi"]}]))]
pub struct Upstream {
    /// Streamable HTTP endpoint, or event stream of 2024-11-05: an `http` or `https` URL without credentials and fragment.
    /// Connected to directly: variables that name proxies are ignored.
    #[serde(deserialize_with = "scalar::url")]
    #[schemars(with = "Option<String>", extend("x-check" = "url"))]
    pub url: Option<Url>,
    /// A program and its arguments; spoken to over stdin and stdout. Needs `commands` in the
    /// settings. At least one word. A first word `pleiades` is this very program, also where PATH does
    /// not name it and after its file was replaced: `[pleiades, demo]` needs nothing installed.
    #[schemars(length(min = 1))]
    pub command: Option<Vec<String>>,
    /// An `OpenAPI` document to offer as tools: a URL or a path. Not built yet.
    pub openapi: Option<String>,
    /// Environment of a `command`: it gets these variables and a minimal environment, nothing else.
    #[schemars(with = "BTreeMap<String, String>")]
    pub env: BTreeMap<String, Secret>,
    /// Revision of MCP to speak; `auto` detects what the provider speaks. `sse` is the transport of
    /// 2024-11-05 over a `url`, in whichever revision the provider settles on.
    pub protocol: Protocol,
    /// Headers put on every request to a `url`. The views send `User-Agent: pleiades/<version>`, the relay
    /// none; a `user-agent` here takes its place at both. Not allowed: hop-by-hop headers, `host`,
    /// `content-length`, `mcp-*`.
    #[schemars(with = "BTreeMap<String, String>")]
    pub headers: BTreeMap<String, Secret>,
    /// Who may share one upstream session or child process.
    pub share: ShareScope,
    /// Allows private, link-local and loopback addresses. Loopback needs no permission while the
    /// gateway itself listens on loopback.
    pub allow_private: bool,
    /// Certificates for a `https` URL. Default: the system's roots and no client certificate.
    pub tls: UpstreamTls,
    /// Deadlines.
    pub timeouts: Timeouts,
}

/// What `upstream` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamTarget<'a> {
    /// A URL.
    Url(&'a Url),
    /// Program and arguments.
    Command(&'a [String]),
}

impl Upstream {
    /// What is named; `None` only for kinds that are not built yet.
    #[must_use]
    pub fn target(&self) -> Option<UpstreamTarget<'_>> {
        let url = self.url.as_ref().map(UpstreamTarget::Url);
        url.or_else(|| self.command.as_deref().map(UpstreamTarget::Command))
    }
}

/// Revision of MCP that is spoken upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Protocol {
    /// Detects the revisions that the provider speaks.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// 2025-03-26.
    #[serde(rename = "2025-03-26")]
    V2025_03_26,
    /// 2025-06-18.
    #[serde(rename = "2025-06-18")]
    V2025_06_18,
    /// 2025-11-25.
    #[serde(rename = "2025-11-25")]
    V2025_11_25,
    /// 2026-07-28.
    #[serde(rename = "2026-07-28")]
    V2026_07_28,
    /// HTTP with server-sent events, the transport of 2024-11-05.
    #[serde(rename = "sse")]
    Sse,
}

impl Protocol {
    /// The date, `None` for `auto` and `sse`.
    #[must_use]
    pub const fn date(self) -> Option<&'static str> {
        match self {
            Self::Auto | Self::Sse => None,
            Self::V2025_03_26 => Some("2025-03-26"),
            Self::V2025_06_18 => Some("2025-06-18"),
            Self::V2025_11_25 => Some("2025-11-25"),
            Self::V2026_07_28 => Some("2026-07-28"),
        }
    }
}

/// Who may share an upstream session or child process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Share")]
pub enum ShareScope {
    /// Nobody: one for each user.
    #[default]
    User,
    /// The users of one tenant.
    Tenant,
    /// Everybody.
    All,
}

/// Certificates for a provider.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Tls")]
pub struct UpstreamTls {
    /// PEM file of certificates that are trusted instead of the system's. Relative to the
    /// descriptor.
    pub ca_file: Option<PathBuf>,
    /// PEM file of the client certificate and its chain; needs `client_key_file`. Relative to the
    /// descriptor.
    pub client_cert_file: Option<PathBuf>,
    /// PEM file of the client certificate's private key; needs `client_cert_file`. Relative to the
    /// descriptor.
    pub client_key_file: Option<PathBuf>,
}

/// Deadlines of a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// DNS, TCP and TLS of one connection together, or the start of a `command`; 1ms to 24h.
    #[schemars(extend("x-min" = "1ms", "x-max" = "24h"))]
    pub connect: Span,
    /// One call, from its first byte to its last; a call that becomes a task may take an hour; 1ms to 24h.
    #[schemars(extend("x-min" = "1ms", "x-max" = "24h"))]
    pub call: Span,
    /// How long an unused session, connection or process is kept; 1ms to 24h.
    #[schemars(extend("x-min" = "1ms", "x-max" = "24h"))]
    pub idle: Span,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Span::secs(3),
            call: Span::secs(60),
            idle: Span::secs(300),
        }
    }
}
