//! The whole of a descriptor, and its `facade:`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    auth::Auth,
    limits::Limits,
    policy::{Allow, Arguments, Consent, Price, RelayMode, Tools},
    scalar::{Globs, Span, TokenLimit},
    upstream::Upstream,
};

/// A provider: an upstream MCP server, how requests to it are signed, and what callers may do.
///
/// One YAML file in the providers' folder. Every text may hold `${NAME}`, `${file:/path}` and
/// `${vault:path#key}`, but `title` and `about`; `$${` is a literal `${`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Pleiades provider")]
pub struct Descriptor {
    /// The provider's name in paths, tool names and metrics: 1 to 63 of `a-z`, `0-9`, `_`, `-`,
    /// beginning with a letter or digit and not with `s_`. Unique among all files.
    #[schemars(extend("pattern" = "^(?!s_)[a-z0-9][a-z0-9_-]{0,62}$", "x-check" = "id"))]
    pub id: String,
    /// Whether the provider runs.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Name for people. Nothing in it is a reference. Default: the id.
    #[serde(default)]
    pub title: Option<String>,
    /// Nouns that say what the provider is for, at most 300 bytes; they stand verbatim in the description
    /// of its one tool. Nothing in it is a reference. Default: none.
    #[serde(default)]
    pub about: Option<String>,
    /// Where the provider is.
    pub upstream: Upstream,
    /// How requests to it are signed: exactly one kind.
    pub auth: Auth,
    /// How its tools are shown.
    #[serde(default)]
    pub facade: Facade,
    /// Which of its tools exist for callers.
    #[serde(default)]
    pub tools: Tools,
    /// Arguments that are filled in or left out. Not built yet.
    #[serde(default)]
    pub arguments: Arguments,
    /// Rate, concurrency and breaker.
    #[serde(default)]
    pub limits: Limits,
    /// Who may use it. Default: every principal of every tenant. Not built yet.
    #[serde(default)]
    pub allow: Option<Vec<Allow>>,
    /// Tools that run only after a person agreed. Default: none. Not built yet.
    #[serde(default)]
    pub consent: Option<Consent>,
    /// Whether the relay is offered beside rules on tools.
    #[serde(default)]
    pub relay: RelayMode,
    /// What a call costs. Default: nothing. Reserved. Not built yet.
    #[serde(default)]
    pub price: Option<Price>,
}

fn yes() -> bool {
    true
}

impl Descriptor {
    /// The title, else the id.
    #[must_use]
    pub fn title(&self) -> &str {
        self.title.as_deref().unwrap_or(&self.id)
    }

    /// Whether a rule exists that the relay could not hold: on tools, or by what only a message says.
    #[must_use]
    pub fn has_tool_rules(&self) -> bool {
        self.tools.is_restrictive()
            || self.consent.is_some()
            || self.arguments != Arguments::default()
            || self.limits.rate.iter().any(|rate| !rate.per.is_known_to_relay())
    }
}

/// How a provider's tools are shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Facade {
    /// One tool for the provider in the meta view, or its own.
    pub mode: Mode,
    /// What is shown before an account is connected. Default: what `facade.exposure` of the settings
    /// says.
    pub exposure: Option<Exposure>,
    /// How the one tool names its operations.
    pub names: OperationNames,
    /// Whether operations that only read have a tool of their own, so that hosts can let it run unasked.
    pub split: Split,
    /// Other words for operations, by tool name: a prompt that has such a phrase is about that operation.
    /// Of a phrase the first 16 words count. Default: none.
    pub aliases: BTreeMap<String, Vec<String>>,
    /// What becomes of results that are long. Default: the meta view cuts them as `results: {}` does, the tool
    /// view does not.
    pub results: Option<Results>,
    /// Which answers of reads are given again for a while. Default: none.
    pub cache: Option<CacheConfig>,
}

/// One tool for the provider, or its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// One tool.
    #[default]
    Meta,
    /// The provider's own tools, as in the tool view.
    Direct,
    /// `direct` for at most 10 tools, or 1,500 tokens of definitions, else `meta`.
    Auto,
}

/// How the one tool names its operations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OperationNames {
    /// `enum` while the whole definition takes at most 1,300 tokens, else `groups`.
    #[default]
    Auto,
    /// Every name, as the values that `tool` may have; more than 1,000 names, or 32 KiB of them, as `groups`.
    Enum,
    /// What the operations are about and how many there are of each, in the description.
    Groups,
    /// Not at all: a prompt finds them.
    Off,
}

/// Whether operations that only read have a tool of their own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// One tool for all.
    #[default]
    Off,
    /// `use_{id}` for what only reads, `use_{id}_write` for the rest; as `off` beside a provider that is
    /// called `{id}_write`. With `facade.single` of the settings: `use_{name}` and `use_{name}_write`.
    ReadWrite,
}

/// What is shown before an account is connected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Exposure {
    /// Tools appear when an account is connected.
    #[default]
    Strict,
    /// The tools that somebody of the tenant saw last are visible, and answer `needs_auth`; none where the
    /// provider says that its lists are one caller's alone (`cacheScope: private`).
    Soft,
}

/// What becomes of results that are long. Where it is written the tool view cuts them too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Results {
    /// Tokens that text and data of an answer may take together, 100 to 4294967295: what takes more is cut
    /// into pages. `off`: nothing is cut.
    pub max_tokens: TokenLimit,
    /// How long the whole of a result that was cut can be read on, 1s to 24h.
    #[schemars(extend("x-min" = "1s", "x-max" = "24h"))]
    pub keep_for: Span,
}

impl Default for Results {
    fn default() -> Self {
        Self {
            max_tokens: TokenLimit(Some(8_000)),
            keep_for: Span::secs(15 * 60),
        }
    }
}

/// Which answers of reads are given again, to the same caller by the same account for the same arguments,
/// in the meta view. A write through the gateway empties them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Cache")]
pub struct CacheConfig {
    /// How long an answer is given again, 1s to 24h.
    #[schemars(extend("x-min" = "1s", "x-max" = "24h"))]
    pub ttl: Span,
    /// Globs over names of tools whose answers are given again; a tool named here counts as one that only
    /// reads. Default: every tool that only reads.
    #[serde(default)]
    pub tools: Option<Globs>,
}
