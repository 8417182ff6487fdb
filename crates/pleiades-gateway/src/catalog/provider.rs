//! A compiled provider and where it stands.

use std::{path::PathBuf, sync::Arc, time::Duration, time::SystemTime};

use serde_json::value::RawValue;

use super::rules::{NameGlob, is_named};
use super::{Catalogue, Live, ReadRules, State, Tool, ToolRules};
use pleiades_core::limit::{BreakerState, Gate};
use pleiades_credential::ProviderAuth;
use pleiades_mcp::RawObject;
use pleiades_ranking::Phrases;
use pleiades_upstream::Endpoint;

/// A compiled provider: one version of one descriptor. Immutable but for its [`Live`] part.
#[derive(Debug)]
pub struct Provider {
    /// Id.
    pub id: Arc<str>,
    /// Name for people.
    pub title: String,
    /// Nouns for the one tool's description.
    pub about: Option<String>,
    /// Where it is.
    pub endpoint: Arc<Endpoint>,
    /// How requests are signed.
    pub need: ProviderAuth,
    /// Which tools exist for callers.
    pub rules: ToolRules,
    /// Whether the relay is open.
    pub relay: RelayAccess,
    /// How its tools are shown, and what becomes of their results.
    pub facade: FacadeConfig,
    /// Which answers are given again.
    pub cache: Option<CacheRule>,
    /// Rate, concurrency, breaker; kept across a reload that left them and the endpoint as they were.
    pub gate: Arc<Gate>,
    /// Its file.
    pub file: PathBuf,
    /// What is known of it by now; kept across a reload that left the endpoint as it was.
    pub live: Arc<Live>,
}

/// With `facade.mode: auto` a provider of no more tools, or tokens of definitions, shows its own tools: what
/// one tool would save is not worth the turn that it may cost.
const FEW_TOOLS: usize = 10;
const FEW_TOKENS: usize = 1_500;

impl Provider {
    /// Whether it shows its own tools in the meta view, to a caller with these lists.
    #[must_use]
    pub(crate) fn shows_own_tools(&self, lists: Option<&Catalogue>) -> bool {
        let are_few = |lists: &Catalogue| {
            !lists.tools.is_empty() && (lists.tools.len() <= FEW_TOOLS || lists.tokens() <= FEW_TOKENS)
        };
        match self.facade.mode {
            Presentation::OneTool => false,
            Presentation::OwnTools => true,
            Presentation::BySize => lists.is_some_and(are_few),
        }
    }

    /// Whether a tool only reads; whatever is not known to read writes, and so does what runs other tools.
    #[must_use]
    pub fn is_read(&self, tool: &Tool) -> bool {
        !self.rules.is_through(tool) && self.facade.reads.is_read(tool)
    }

    /// Whether a call only reads: one of an operation of `tools.through` where the tool that it names does.
    #[must_use]
    pub fn is_read_call(&self, lists: &Catalogue, tool: &Tool, arguments: &RawValue) -> bool {
        if !self.rules.is_through(tool) {
            return self.is_read(tool);
        }
        let Ok(arguments) = RawObject::open(arguments) else {
            return false;
        };
        let named = self.rules.named_through(tool, &arguments);
        named.is_some_and(|name| {
            let listed = lists.tool(&name);
            self.facade
                .reads
                .is_read_through(tool, &name, listed.map(|tool| &**tool))
        })
    }

    /// Whether answers of a tool are given again, and then for how long.
    pub(crate) fn cached_for(&self, tool: &Tool) -> Option<&CacheRule> {
        let rule = self.cache.as_ref()?;
        let is_covered = match &rule.tools {
            Some(tools) => is_named(tools, tool),
            None => self.is_read(tool),
        };
        is_covered.then_some(rule)
    }

    /// Whether a call may change what answers say that are given again. `tool`: `None` where the tool is
    /// not known.
    pub(crate) fn empties_cache(&self, tool: Option<&Tool>) -> bool {
        let is_read = |tool| self.is_read(tool) || self.cached_for(tool).is_some();
        self.cache.is_some() && !tool.is_some_and(is_read)
    }

    /// Whether there are tools and all only read.
    #[must_use]
    pub fn only_reads(&self, catalogue: &Catalogue) -> bool {
        !catalogue.tools.is_empty() && catalogue.tools.iter().all(|tool| self.is_read(tool))
    }

    /// State, its reason, and since when.
    ///
    /// `stale` goes before all others: the file and what runs differ, whatever the provider does.
    #[must_use]
    pub fn state(&self) -> (State, Option<String>, SystemTime) {
        let mut health = self.live.health();
        if let Some(withheld) = self.live.pins.reason(&self.id, &self.rules.pins) {
            let reasons = match health.state {
                State::Ready => Some(withheld),
                State::Degraded => health.reason.map(|reason| format!("{reason}; {withheld}")),
                _ => health.reason,
            };
            health.reason = reasons;
            if health.state == State::Ready {
                health.state = State::Degraded;
            }
        }
        if let Some(stale) = self.live.stale() {
            let beside = match &health.reason {
                Some(reason) if health.state != State::Ready => {
                    format!("; what runs is {}: {reason}", health.state)
                }
                _ => String::new(),
            };
            return (
                State::Stale,
                Some(format!("{}{beside}", stale.reason)),
                stale.since,
            );
        }
        if health.state == State::Ready && self.gate.breaker() == BreakerState::Open {
            return (
                State::Degraded,
                Some("the breaker is open: too many calls failed".to_owned()),
                health.since,
            );
        }
        (health.state, health.reason, health.since)
    }
}

/// What a descriptor says of the meta tool, compiled. Two that are equal show the same tools.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FacadeConfig {
    /// `facade.exposure: soft`: who is not connected sees what somebody of the same tenant saw last.
    pub soft: bool,
    /// Which tools only read.
    pub reads: ReadRules,
    /// Whose tools are shown: one, or its own.
    pub mode: Presentation,
    /// How its one tool names operations.
    pub names: NamesShown,
    /// What becomes of long results.
    pub results: ResultLimits,
    /// `facade.split: read_write`: what only reads has a tool of its own.
    pub is_split: bool,
    /// `facade.aliases`: what people call its tools.
    pub phrases: Phrases,
}

/// `facade.results`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResultLimits {
    /// Tokens that text and data of an answer may take together; `None`: nothing is cut.
    pub max_tokens: Option<usize>,
    /// How long the whole of a result is kept that was cut.
    pub keep_for: Duration,
    /// Whether the tool view cuts too.
    pub in_tool_view: bool,
}

impl Default for ResultLimits {
    fn default() -> Self {
        Self {
            max_tokens: Some(8_000),
            keep_for: Duration::from_secs(15 * 60),
            in_tool_view: false,
        }
    }
}

/// `facade.mode`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Presentation {
    /// One tool for all operations.
    #[default]
    OneTool,
    /// The provider's own tools.
    OwnTools,
    /// Its own tools while they are few.
    BySize,
}

/// `facade.names`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NamesShown {
    /// As an enum while the definition is small, else in groups.
    #[default]
    BySize,
    /// As an enum.
    Values,
    /// What they are about, in the description.
    Groups,
    /// Nowhere.
    Off,
}

/// `facade.cache`, compiled.
#[derive(Debug, Clone)]
pub struct CacheRule {
    /// How long an answer is given again.
    pub ttl: Duration,
    /// Tools whose answers are; `None`: those that only read.
    pub tools: Option<Vec<NameGlob>>,
    /// Digest of what the descriptor says: under another one nothing is the answer any more.
    pub generation: [u8; 32],
}

/// Whether the relay may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayAccess {
    /// Open: no rule on tools, or `relay: unchecked`.
    Open,
    /// Closed by a rule on tools, which could not hold on untouched bodies.
    Closed,
}
