//! What is loaded: providers compiled from their descriptors, their lists, and how they fare.
//!
//! A request takes one [`Snapshot`] and keeps it, whatever a reload does meanwhile.

use std::{collections::BTreeMap, path::PathBuf, sync::{Arc, OnceLock}, time::SystemTime};

use arc_swap::ArcSwap;

use crate::{credential::Need, mcp::{Raw, RawObject}, upstream::{Endpoint, Profile}};

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
    pub need: Need,
    /// Which tools exist for callers.
    pub rules: ToolRules,
    /// Whether the relay is open.
    pub relay: Relay,
    /// Rate, concurrency, breaker.
    pub gate: Arc<crate::limit::Rules>, // SEAM: becomes Arc<limit::Gate>
    /// Its file.
    pub file: PathBuf,
    /// What is known of it by now; kept across a reload that left the endpoint as it was.
    pub live: Arc<Live>,
}

/// `tools.allow` and `tools.deny`: globs over tool names; deny wins.
#[derive(Debug, Clone)]
pub struct ToolRules {
    /// At least one must match.
    pub allow: Vec<wildmatch::WildMatch>,
    /// None may match.
    pub deny: Vec<wildmatch::WildMatch>,
}

/// Whether the relay may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relay {
    /// Open: no rule on tools, or `relay: unchecked`.
    Open,
    /// Closed by a rule on tools, which could not hold on untouched bodies.
    Closed,
}

/// The changing part of a provider.
#[derive(Debug)]
pub struct Live {
    /// Lists for callers signed alike (`none`, `api_key`); empty before discovery.
    pub shared: ArcSwap<Catalogue>,
    // SEAM: private fields by the implementer: state, reason, since, per-account catalogues (bounded), a
    // tokio::sync::watch that ticks on each change.
}

/// The lists of a provider as its caller sees them upstream, all pages.
#[derive(Debug, Default)]
pub struct Catalogue {
    /// What the provider is; `None` before it was reached.
    pub profile: Option<Profile>,
    /// Tools by position; allow and deny already applied; names as the provider spells them.
    pub tools: Vec<Arc<Tool>>,
    /// Position in `tools` by name.
    pub by_name: BTreeMap<Box<str>, usize>,
    /// Whole resource objects.
    pub resources: Vec<Item>,
    /// Whole template objects.
    pub templates: Vec<Item>,
    /// Whole prompt objects.
    pub prompts: Vec<Item>,
    /// Whether every list the provider offers was read to its last page.
    pub complete: bool,
    /// Smallest `ttlMs` the provider gave, 0 when it gave none.
    pub ttl_ms: u64,
}

/// A list entry and what identifies it: name of a prompt, URI of a resource, template of a template.
#[derive(Debug, Clone)]
pub struct Item {
    /// Identity.
    pub key: Box<str>,
    /// The object as it came.
    pub raw: RawObject,
}

/// A tool.
#[derive(Debug)]
pub struct Tool {
    /// Name upstream.
    pub name: Box<str>,
    /// The object as it came.
    pub raw: RawObject,
    /// Its `inputSchema`.
    pub schema: Raw,
    /// Arguments mirrored into headers (`x-mcp-header`): path of property names, header suffix.
    pub mirrored: Vec<(Vec<Box<str>>, Box<str>)>,
    /// Compiled on first use; `None` when the schema cannot be compiled (then nothing is checked).
    pub validator: OnceLock<Option<jsonschema::Validator>>,
}

/// State of a provider as `/providers` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Not reached yet.
    Starting,
    /// Serving.
    Ready,
    /// Its credential is missing or was refused.
    NeedsAuth,
    /// Breaker open, or a list incomplete.
    Degraded,
    /// Cannot be reached.
    Unreachable,
    /// A newer file is broken, the last good one runs.
    Stale,
    /// `enabled: false`.
    Disabled,
}

/// One generation of everything loaded.
#[derive(Debug)]
pub struct Snapshot {
    /// Grows with each applied reload.
    pub generation: u64,
    /// Running providers by id.
    pub providers: BTreeMap<Arc<str>, Arc<Provider>>,
    /// Every id a file names, running or not, for `/providers`.
    pub entries: BTreeMap<Arc<str>, Entry>,
}

/// A file's provider as `/providers` lists it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Id, or the file's stem when it has none.
    pub id: Arc<str>,
    /// Title.
    pub title: String,
    /// Path as given.
    pub file: PathBuf,
    /// `enabled: false`.
    pub disabled: bool,
    /// Faults of the newest version of the file, as `check` prints them; empty when it runs.
    pub faults: Vec<String>,
    /// Since when it is as it is.
    pub since: SystemTime,
}

/// What became of a list, told to whoever listens.
#[derive(Debug, Clone)]
pub struct Changed {
    /// Whose list; `None` when providers came or went (all lists).
    pub provider: Option<Arc<str>>,
    /// Which lists.
    pub tools: bool,
    /// Resources and templates.
    pub resources: bool,
    /// Prompts.
    pub prompts: bool,
}

// SEAM (to be implemented in this module; signatures fixed):
//
// /// The folder, what is loaded from it, and the tasks that keep both true. One per process.
// pub struct Catalog
// pub struct Config { pub folder: PathBuf, pub read: Arc<dyn Fn() -> LoadResult + ..>, … }   // your choice; built by `app`
// impl Catalog {
//     /// Reads the folder once (synchronously, no network), then watches it and discovers providers on `control`.
//     pub fn open(config: Config, upstreams: Arc<Upstreams>, metrics: Arc<Metrics>, control: tokio::runtime::Handle) -> Arc<Catalog>;
//     pub fn snapshot(&self) -> Arc<Snapshot>;
//     /// The lists of a provider for a caller. Ready: at once, no lock held across await. Starting: waits for discovery, at
//     /// most connect + call of the provider. Stale after ttl: served, refreshed in the background. Error: why there is none.
//     pub async fn lists(&self, provider: &Arc<Provider>, behalf: &Behalf) -> Result<Arc<Catalogue>, Error>;
//     /// The same without waiting.
//     pub fn peek(&self, provider: &Provider, behalf: &Behalf) -> Option<Arc<Catalogue>>;
//     /// Re-read the lists now (upstream said -32020, or a tool is unknown): single flight, rate limited (once per 5 s).
//     pub async fn refresh(&self, provider: &Arc<Provider>, behalf: &Behalf) -> Result<Arc<Catalogue>, Error>;
//     /// Told by callers: how a call went, so that /providers says unreachable, needs_auth, ready.
//     pub fn observed(&self, provider: &Provider, outcome: Result<(), &Error>);
//     pub fn changes(&self) -> tokio::sync::broadcast::Receiver<Changed>;
//     /// `/providers` of contracts 2.
//     pub fn report(&self) -> serde_json::Value;
//     /// Every descriptor was read once.
//     pub fn is_loaded(&self) -> bool;
// }
// impl Provider { pub fn state(&self) -> (State, Option<String>, SystemTime); }
