//! What callers may do with a provider: tools, arguments, consent, relay.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scalar::{Glob, Globs};

/// Which tools of the provider exist for callers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tools {
    /// Globs over tool names; a tool must match one. `OPERATION:GLOB` is a glob over the names that an
    /// operation of `through` is given.
    pub allow: Globs,
    /// Globs over tool names, as in `allow`; a tool must match none. Wins over `allow`.
    pub deny: Globs,
    /// Globs over names of tools that only read, whatever the provider declares. A tool that no glob
    /// names reads when it declares `readOnlyHint: true`, and writes otherwise.
    pub reads: Globs,
    /// Globs over names of tools that write, whatever the provider declares. Wins over `reads`.
    pub writes: Globs,
    /// Operations that run another tool, each with the argument that names it: `allow` and `deny` hold for
    /// that tool, too. It counts as a rule on tools. Default: none.
    pub through: BTreeMap<String, String>,
    /// Whether definitions of tools (name, description, schemas) are held against those that were seen
    /// first, or approved since.
    pub pin: Pin,
}

impl Tools {
    /// Whether any tool could be hidden.
    #[must_use]
    pub fn is_restrictive(&self) -> bool {
        !self.deny.is_empty()
            || !self.through.is_empty()
            || self.pin == Pin::Enforce
            || !self.allow.iter().any(|glob| glob.0 == "*")
    }
}

impl Default for Tools {
    fn default() -> Self {
        Self {
            allow: vec![Glob("*".to_owned())],
            deny: Vec::new(),
            reads: Vec::new(),
            writes: Vec::new(),
            through: BTreeMap::new(),
            pin: Pin::Off,
        }
    }
}

/// What happens when a tool's definition changes after it was approved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pin {
    /// Nothing.
    #[default]
    Off,
    /// It is logged and counted.
    Warn,
    /// It is logged and counted, and the tool is withheld from lists and calls until the change is
    /// approved. This is a rule on tools.
    Enforce,
}

/// Arguments that the gateway fills in or leaves out. Not built yet.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Arguments {
    /// Values for arguments that a call leaves out, by name. Default: none.
    pub defaults: BTreeMap<String, serde_json::Value>,
    /// Names of arguments that are taken out of schemas and calls. Default: none.
    pub drop: Vec<String>,
}

/// A rule that lets principals use a provider. Not built yet.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Allow {
    /// The tenant.
    pub tenant: String,
    /// Globs over user names. Default: every user.
    #[serde(default = "every")]
    pub users: Globs,
    /// Groups, one of which the user must be in. Default: no group is asked for.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Globs over tool names. Default: every tool.
    #[serde(default = "every")]
    pub tools: Globs,
}

fn every() -> Globs {
    vec![Glob("*".to_owned())]
}

/// Tools that run only after a person agreed. Not built yet.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Consent {
    /// Globs over tool names.
    pub tools: Globs,
    /// How often the person is asked.
    #[serde(default)]
    pub ask: ConsentFrequency,
}

/// How often a person is asked for consent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Ask")]
pub enum ConsentFrequency {
    /// Before every call.
    Always,
    /// Once for each tool.
    #[default]
    Once,
}

/// Whether the relay is offered beside rules on tools, which cannot hold on untouched bodies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Relay")]
pub enum RelayMode {
    /// No relay when there is a rule on tools.
    #[default]
    Checked,
    /// Relay although there are rules on tools: they do not hold there.
    Unchecked,
}

/// What a call costs in credits. Reserved. Not built yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Credits for each call, at least 0.
    #[schemars(range(min = 0))]
    pub per_call: f64,
}
