//! The reload that replaces what runs: read, compare, build beside, swap, retire.

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
    sync::Arc,
    time::SystemTime,
};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{
    DescriptorReader, Provider, Snapshot, State,
    build::{self, Duplicate},
    compile::{CompileContext, Draft},
    diff::{self, ReloadPlan},
    discovery_task,
    lists::ListSet,
    load::{self, Parsed},
    retire::retire,
    service::DiscoveryService,
};
use pleiades_core::telemetry::events::{ProviderRemoved, Reloaded};
use pleiades_credential::ProviderAuth;

/// What came of a reading of the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// Everything in it runs.
    Applied,
    /// Swapped, though some files have faults.
    Partial,
    /// The folder is unreadable or suddenly empty; what ran runs.
    Refused,
    /// Nothing is different.
    Unchanged,
}

impl ReloadOutcome {
    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Partial => "partial",
            Self::Refused => "refused",
            Self::Unchanged => "unchanged",
        }
    }
}

/// A reading of the folder, as subscribers receive it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reload {
    /// Counts readings.
    pub readings: u64,
    /// Generation after it.
    pub generation: u64,
    /// What came of it.
    pub outcome: ReloadOutcome,
}

pub(super) struct Loader {
    pub(super) folder: PathBuf,
    pub(super) context: CompileContext,
    work: Arc<DiscoveryService>,
    reader: DescriptorReader,
    /// Held while the disk is read, which may take long.
    last: Mutex<LastReading>,
    /// Held for a moment only: others ask it between two readings.
    status: Mutex<LoadStatus>,
    pub(super) reloads: watch::Sender<Reload>,
}

#[derive(Default)]
struct LastReading {
    files: Vec<Arc<Parsed>>,
    running: BTreeMap<Arc<str>, Arc<Draft>>,
    /// Files whose id another one has, with what was said of them.
    duplicates: BTreeMap<PathBuf, String>,
}

#[derive(Default)]
struct LoadStatus {
    refused: Option<FolderRefusal>,
    loaded: bool,
}

#[derive(Debug, Clone)]
pub(super) struct FolderRefusal {
    pub(super) since: SystemTime,
    pub(super) reason: String,
}

impl Loader {
    pub(super) fn new(
        work: Arc<DiscoveryService>,
        folder: PathBuf,
        reader: DescriptorReader,
        context: CompileContext,
    ) -> Self {
        Self {
            folder,
            context,
            work,
            reader,
            last: Mutex::default(),
            status: Mutex::default(),
            reloads: watch::Sender::new(Reload {
                readings: 0,
                generation: 0,
                outcome: ReloadOutcome::Unchanged,
            }),
        }
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.status.lock().loaded
    }

    pub(super) fn refused(&self) -> Option<FolderRefusal> {
        self.status.lock().refused.clone()
    }

    /// Also gives the generation after it. Blocks on the disk.
    pub(super) fn reload(&self) -> (ReloadOutcome, u64) {
        let mut last = self.last.lock();
        let outcome = match self.read(&last) {
            Ok(files) => self.apply(&mut last, files),
            Err(reason) => self.refuse(&last, reason),
        };
        self.status.lock().loaded = true;
        let files = last.files.len();
        drop(last);
        let snapshot = self.work.snapshot.load();
        let reloaded = Reloaded {
            outcome: outcome.as_str(),
            generation: snapshot.generation,
            providers: snapshot.providers.len(),
            files,
        };
        reloaded.emit(&self.work.metrics);
        (outcome, reloaded.generation)
    }

    fn read(&self, last: &LastReading) -> Result<Vec<Arc<Parsed>>, String> {
        let files = load::folder(&self.folder, &last.files, &self.reader, &self.context)?;
        if files.is_empty() && !last.files.is_empty() {
            return Err(format!(
                "`{}` is suddenly empty; what ran keeps running: put the files back, or restart to run without them",
                self.folder.display()
            ));
        }
        Ok(files)
    }

    fn apply(&self, last: &mut LastReading, files: Vec<Arc<Parsed>>) -> ReloadOutcome {
        let mut status = self.status.lock();
        let is_loaded = status.loaded;
        if status.refused.take().is_some() {
            tracing::info!(providers.folder = %self.folder.display(), "the folder of descriptors can be read again");
        }
        drop(status);
        let same =
            files.len() == last.files.len() && files.iter().zip(&last.files).all(|(a, b)| Arc::ptr_eq(a, b));
        if same && is_loaded {
            return ReloadOutcome::Unchanged;
        }
        if files.is_empty() {
            tracing::warn!(
                providers.folder = %self.folder.display(),
                cure = "put a descriptor into it, or run `pleiades add URL`",
                "the folder of descriptors is empty: nothing is served"
            );
        }
        let plan = diff::plan(&files, &last.running);
        log_news(&files, &last.files, &plan);
        last.duplicates = log_duplicates(&plan, &last.duplicates);
        let old = self.work.snapshot.load_full();
        let new = build::snapshot(&plan, &last.running, &old);
        let outcome = if new.entries.values().all(|entry| entry.faults.is_empty()) {
            ReloadOutcome::Applied
        } else {
            ReloadOutcome::Partial
        };
        self.swap(last, plan, &old, Arc::new(new));
        last.files = files;
        outcome
    }

    fn swap(&self, last: &mut LastReading, plan: ReloadPlan, old: &Arc<Snapshot>, new: Arc<Snapshot>) {
        for (id, provider) in &new.providers {
            let reason = plan.stale.get(id).and_then(|parsed| parsed.reason());
            provider.live.set_stale(reason);
        }
        self.work.snapshot.store(Arc::clone(&new));
        let mut set_changed = false;
        for (id, provider) in &new.providers {
            let before = old.providers.get(id);
            set_changed |= before.is_none();
            if before.is_none_or(|before| !Arc::ptr_eq(&before.live, &provider.live)) {
                self.start(provider);
            }
        }
        for (id, provider) in &old.providers {
            let after = new.providers.get(id);
            if after.is_none() {
                set_changed = true;
                ProviderRemoved { provider: id }.emit(&self.work.metrics);
            }
            if after.is_none_or(|after| !Arc::ptr_eq(&after.live, &provider.live)) {
                provider.live.end.cancel();
            }
            if after.is_none_or(|after| after.endpoint.digest != provider.endpoint.digest) {
                retire(&self.work, provider);
            }
        }
        if set_changed && old.generation > 0 {
            self.work.notify(None, ListSet::ALL);
        } else {
            self.notify_changed(last, &plan, old, &new);
        }
        let stale = plan
            .stale
            .keys()
            .filter_map(|id| Some((Arc::clone(id), Arc::clone(last.running.get(id)?))));
        last.running = stale.chain(plan.run).collect();
    }

    fn notify_changed(&self, last: &LastReading, plan: &ReloadPlan, old: &Snapshot, new: &Snapshot) {
        for (id, draft) in &plan.run {
            let Some(before) = last.running.get(id) else {
                continue;
            };
            let moved =
                |(old, new): (&Arc<Provider>, &Arc<Provider>)| old.endpoint.digest != new.endpoint.digest;
            if old
                .providers
                .get(id)
                .zip(new.providers.get(id))
                .is_some_and(moved)
            {
                self.work.notify(Some(id), ListSet::ALL);
            } else if !draft.is_listed_like(before) {
                let tools = ListSet {
                    tools: true,
                    ..ListSet::default()
                };
                self.work.notify(Some(id), tools);
            }
        }
    }

    fn start(&self, provider: &Arc<Provider>) {
        let metrics = self.work.metrics.provider(&provider.id);
        if matches!(
            provider.need,
            ProviderAuth::OAuth(_) | ProviderAuth::ClientCredentials(..)
        ) {
            metrics.publish_renewals();
        }
        // What nobody has listed yet is no news of what the provider offers.
        let count = provider.live.known_tools();
        if count > 0 || provider.need.is_shared() {
            metrics.tools(count);
        }
        if self.work.identity(&provider.need).is_none() {
            let reason = match &provider.need {
                ProviderAuth::ClientKey(key) => {
                    let headers: Vec<_> = key.headers.iter().map(|name| format!("`{name}`")).collect();
                    format!("each caller brings a key in the header {}", headers.join(" or "))
                }
                ProviderAuth::OAuth(_) => "nobody has connected an account yet".to_owned(),
                ProviderAuth::None | ProviderAuth::ApiKey { .. } | ProviderAuth::ClientCredentials(..) => {
                    "it has no credential".to_owned()
                }
            };
            provider.live.set_health(State::NeedsAuth, Some(reason), None);
        }
        discovery_task::spawn(&self.work, provider);
    }

    fn refuse(&self, last: &LastReading, reason: String) -> ReloadOutcome {
        let mut status = self.status.lock();
        if !status.loaded {
            tracing::error!(
                outcome = ReloadOutcome::Refused.as_str(),
                providers.folder = %self.folder.display(),
                error = reason,
                "the folder of descriptors cannot be read: nothing is served"
            );
            return ReloadOutcome::Refused;
        }
        // Nothing ran that could be lost; a folder that is not there yet is no alarm each time.
        if last.files.is_empty() {
            return ReloadOutcome::Unchanged;
        }
        let before = status.refused.take();
        if before.as_ref().is_none_or(|before| before.reason != reason) {
            tracing::error!(
                outcome = ReloadOutcome::Refused.as_str(),
                providers.folder = %self.folder.display(),
                error = reason,
                "the folder of descriptors was not reloaded: what ran keeps running"
            );
        }
        let since = before.map_or_else(SystemTime::now, |before| before.since);
        status.refused = Some(FolderRefusal { since, reason });
        ReloadOutcome::Refused
    }
}

fn log_news(files: &[Arc<Parsed>], before: &[Arc<Parsed>], plan: &ReloadPlan) {
    let unchanged: HashSet<*const Parsed> = before.iter().map(Arc::as_ptr).collect();
    for parsed in files
        .iter()
        .filter(|parsed| !unchanged.contains(&Arc::as_ptr(parsed)))
    {
        let stale = plan.stale.iter().find(|(_, file)| Arc::ptr_eq(file, parsed));
        // A file that is broken may have no id any more: then it is the provider that it ran as.
        let name = stale.map_or_else(|| parsed.name(), |(id, _)| Arc::clone(id));
        let provider = &*name;
        // What will not run is warned of by `check`; here it would bury what runs.
        for warning in parsed.warnings.iter().filter(|_| parsed.enabled) {
            let (error, cure) = with_cure(warning);
            tracing::warn!(
                provider.name = provider,
                error,
                cure,
                "a descriptor should be changed"
            );
        }
        let consequence = match stale.is_some() {
            true => "its last good version keeps running",
            false => "the provider does not run",
        };
        for fault in &parsed.faults {
            let (error, cure) = with_cure(fault);
            tracing::warn!(
                provider.name = provider,
                outcome = ReloadOutcome::Partial.as_str(),
                error,
                cure,
                "a descriptor is broken: {consequence}"
            );
        }
    }
}

/// Logs of each file that another one takes the id from, once; answers what was said of them.
fn log_duplicates(plan: &ReloadPlan, before: &BTreeMap<PathBuf, String>) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for Duplicate { file, fault, winner } in build::duplicates(plan) {
        let Some(winner) = winner else { continue };
        let fault = fault.to_string();
        if before.get(&file.path) != Some(&fault) {
            let (error, cure) = with_cure(&fault);
            let cure = cure.unwrap_or_default();
            let runs = match winner.draft {
                Some(_) => "runs",
                None => "has it",
            };
            tracing::warn!(
                provider.name = file.id.as_deref(),
                outcome = ReloadOutcome::Partial.as_str(),
                error,
                cure = format!("{cure}; `{}` {runs}", winner.path.display()),
                "a descriptor is broken: the provider does not run"
            );
        }
        found.insert(file.path.clone(), fault);
    }
    found
}

/// A fault as `check` prints it: where and what, and the indented lines below, which say what to do.
fn with_cure(fault: &str) -> (&str, Option<String>) {
    let mut lines = fault.lines();
    let first = lines.next().unwrap_or_default();
    let cures: Vec<&str> = lines.map(str::trim).collect();
    (first, (!cures.is_empty()).then(|| cures.join("; ")))
}
