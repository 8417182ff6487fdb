//! What is loaded: providers compiled from their descriptors, their lists, and how they fare.
//!
//! A request takes one [`Snapshot`] and keeps it, whatever a reload does meanwhile.

mod bounds;
mod build;
mod cached;
mod checks;
mod compile;
mod connections;
mod diff;
mod discover;
mod discovery_task;
mod endpoint_digest;
pub mod examine;
mod failure;
mod fetch;
mod guests;
mod lister;
mod lists;
mod live;
mod load;
mod meta_tools;
pub mod names;
mod offline;
mod pages;
pub mod pins;
pub(crate) mod prefix;
mod provider;
mod reload;
mod repair;
mod retire;
mod rules;
mod sanitize;
mod search;
mod service;
mod status;
mod store;
mod tools;
mod watch;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc, time::SystemTime};

pub use cached::CachedLists;
pub use checks::{ArgumentValidator, Effort, ValidatorSlot};
pub use compile::dry_run;
pub use guests::Guest;
pub use lister::Lister;
pub(crate) use lists::tokens_of;
pub use lists::{Catalogue, Item, Tool};
pub use live::Live;
pub use load::DescriptorReader;
pub(crate) use meta_tools::MetaTools;
pub use offline::OfflineProvider;
pub use provider::{CacheRule, FacadeConfig, NamesShown, Presentation, Provider, RelayAccess, ResultLimits};
pub use reload::{Reload, ReloadOutcome};
pub use repair::MAX_URI;
pub(crate) use rules::HiddenTarget;
pub use rules::{ReadRules, ToolRules};
pub use store::{Catalog, Config};

/// State of a provider as `/providers` shows it.
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

impl State {
    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::NeedsAuth => "needs_auth",
            Self::Degraded => "degraded",
            Self::Unreachable => "unreachable",
            Self::Stale => "stale",
            Self::Disabled => "disabled",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One generation of everything loaded.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Grows with each applied reload.
    pub generation: u64,
    /// Running providers by id.
    pub providers: BTreeMap<Arc<str>, Arc<Provider>>,
    /// Every id a file names, running or not, for `/providers`.
    pub entries: BTreeMap<Arc<str>, Entry>,
}

/// A file's provider as `/providers` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// Lists that changed, as subscribers receive it. One that falls behind takes everything as changed.
#[derive(Debug, Clone)]
pub struct CatalogChange {
    /// The provider of the lists; `None` when providers came or went (all lists).
    pub provider: Option<Arc<str>>,
    /// The one user (tenant and name) whose lists changed; `None` for everybody's.
    pub user: Option<(Arc<str>, Arc<str>)>,
    /// Which lists.
    pub tools: bool,
    /// Resources and templates.
    pub resources: bool,
    /// Prompts.
    pub prompts: bool,
}
