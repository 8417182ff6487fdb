//! What runs, and the reload that replaces it: read, compare, build beside, swap, retire.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    path::PathBuf,
    sync::Arc,
    time::SystemTime,
};

use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{broadcast, watch},
};
use tokio_util::sync::CancellationToken;

use super::{
    CatalogChange, DescriptorReader, Lister, Provider, Snapshot, State, build,
    compile::{CompileContext, Draft},
    diff::{self, ReloadPlan},
    discovery_task,
    guests::Guests,
    lists::ListSet,
    load::{self, Parsed},
    retire::retire,
    service::DiscoveryService,
    watch as watcher,
};
use pleiades_core::telemetry::Metrics;
use pleiades_credential::{ClientCredentialsTokens, ProviderAuth};
use pleiades_descriptor::{Exposure, ReadContext};
use pleiades_upstream::Upstreams;

/// Where descriptors are, and who the gateway is when nobody asks.
#[derive(Debug, Clone)]
pub struct Config {
    /// The folder of descriptors.
    pub folder: PathBuf,
    /// What descriptors may depend on.
    pub world: ReadContext,
    /// Tenant on whose behalf shared lists are read.
    pub tenant: Arc<str>,
    /// User on whose behalf shared lists are read.
    pub user: Arc<str>,
    /// Who signs for `client_credentials`, and says how accounts fare.
    pub client_credentials: Arc<dyn ClientCredentialsTokens>,
    /// `facade.exposure` of the settings.
    pub exposure: Exposure,
}

/// What came of a reading of the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// Everything in it runs.
    Applied,
    /// Swapped, though some files have faults.
    Partial,
    /// The folder cannot be believed; what ran runs.
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

/// A reading of the folder, told to whoever watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reload {
    /// Counts readings.
    pub readings: u64,
    /// Generation after it.
    pub generation: u64,
    /// What came of it.
    pub outcome: ReloadOutcome,
}

/// The folder, what is loaded from it, and the tasks that keep both true. One per process.
pub struct Catalog {
    pub(super) work: Arc<DiscoveryService>,
    pub(super) guests: Guests,
    pub(super) folder: PathBuf,
    reader: DescriptorReader,
    pub(super) context: CompileContext,
    /// Held while the disk is read, which may take long: nobody else waits for it.
    last: Mutex<LastReading>,
    status: Mutex<LoadStatus>,
    reloads: watch::Sender<Reload>,
    pub(super) end: CancellationToken,
}

/// What the next reading is compared with.
#[derive(Default)]
struct LastReading {
    files: Vec<Arc<Parsed>>,
    running: BTreeMap<Arc<str>, Arc<Draft>>,
    refused: Option<FolderRefusal>,
    loaded: bool,
}

/// What others may ask between two readings.
#[derive(Default)]
struct LoadStatus {
    refused: Option<FolderRefusal>,
    loaded: bool,
}

/// Why the folder is not believed.
#[derive(Debug, Clone)]
pub(super) struct FolderRefusal {
    pub(super) since: SystemTime,
    pub(super) reason: String,
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catalog")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl Drop for Catalog {
    fn drop(&mut self) {
        self.end.cancel();
        self.work
            .snapshot
            .load()
            .providers
            .values()
            .for_each(|provider| provider.live.end.cancel());
    }
}

impl Catalog {
    /// Reads the folder once (synchronously, no network), then watches it and discovers providers
    /// on `control`.
    #[must_use]
    pub fn open(
        config: Config,
        upstreams: Arc<Upstreams>,
        metrics: Arc<Metrics>,
        control: Handle,
    ) -> Arc<Self> {
        let world = config.world.clone();
        let reader: DescriptorReader =
            Arc::new(move |file, text| pleiades_descriptor::read(file, text, &world));
        Self::open_with(config, reader, Box::new(upstreams), metrics, control)
    }

    /// The same with another reader and another way upstream.
    #[must_use]
    pub fn open_with(
        config: Config,
        reader: DescriptorReader,
        lister: Box<dyn Lister>,
        metrics: Arc<Metrics>,
        control: Handle,
    ) -> Arc<Self> {
        let principal = (config.tenant, config.user);
        let catalog = Arc::new(Self {
            work: Arc::new(DiscoveryService::new(lister, metrics, control.clone(), principal)),
            guests: Guests::default(),
            folder: config.folder,
            reader,
            context: CompileContext {
                loopback: config.world.loopback,
                client_credentials: config.client_credentials,
                exposure: config.exposure,
            },
            last: Mutex::default(),
            status: Mutex::default(),
            reloads: watch::Sender::new(Reload {
                readings: 0,
                generation: 0,
                outcome: ReloadOutcome::Unchanged,
            }),
            end: CancellationToken::new(),
        });
        // Watching begins before reading: what is written between the two is an event.
        let folder_watcher = watcher::FolderWatcher::open(&catalog.folder);
        catalog.reload();
        control.spawn(watcher::run(
            Arc::downgrade(&catalog),
            folder_watcher,
            catalog.end.clone(),
        ));
        catalog
    }

    /// Everything loaded, to keep for the whole of a request.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.work.snapshot.load_full()
    }

    /// Changes of lists from now on.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<CatalogChange> {
        self.work.changes.subscribe()
    }

    /// Readings of the folder from now on.
    #[must_use]
    pub fn reloads(&self) -> watch::Receiver<Reload> {
        self.reloads.subscribe()
    }

    /// Whether every descriptor was read once.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.status.lock().loaded
    }

    pub(super) fn refused(&self) -> Option<FolderRefusal> {
        self.status.lock().refused.clone()
    }

    /// Reads the folder and swaps what is different. Blocks on the disk.
    pub fn reload(&self) -> ReloadOutcome {
        let mut last = self.last.lock();
        let outcome = match self.read(&last) {
            Ok(files) => self.apply(&mut last, files),
            Err(reason) => refuse(&mut last, reason),
        };
        last.loaded = true;
        *self.status.lock() = LoadStatus {
            refused: last.refused.clone(),
            loaded: true,
        };
        drop(last);
        let generation = self.work.snapshot.load().generation;
        self.work.metrics.reload(outcome.as_str(), generation);
        self.publish();
        self.reloads.send_modify(|reload| {
            *reload = Reload {
                readings: reload.readings + 1,
                generation,
                outcome,
            };
        });
        outcome
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
        if last.refused.take().is_some() {
            tracing::info!(folder = %self.folder.display(), "the folder of descriptors can be read again");
        }
        let same =
            files.len() == last.files.len() && files.iter().zip(&last.files).all(|(a, b)| Arc::ptr_eq(a, b));
        if same && last.loaded {
            return ReloadOutcome::Unchanged;
        }
        if files.is_empty() {
            tracing::warn!(folder = %self.folder.display(), "the folder of descriptors is empty");
        }
        log_news(&files, &last.files);
        let plan = diff::plan(&files, &last.running);
        let old = self.work.snapshot.load_full();
        let new = build::snapshot(&plan, &last.running, &old, &self.reader);
        let outcome = if new.entries.values().all(|entry| entry.faults.is_empty()) {
            ReloadOutcome::Applied
        } else {
            ReloadOutcome::Partial
        };
        tracing::info!(
            generation = new.generation,
            providers = new.providers.len(),
            files = files.len(),
            outcome = outcome.as_str(),
            "descriptors loaded"
        );
        self.swap(last, plan, &old, Arc::new(new));
        last.files = files;
        outcome
    }

    fn swap(&self, last: &mut LastReading, plan: ReloadPlan, old: &Arc<Snapshot>, new: Arc<Snapshot>) {
        for (id, provider) in &new.providers {
            let reason = plan.stale.get(id).and_then(|parsed| parsed.reason());
            let is_stale = reason.is_some();
            if provider.live.set_stale(reason) && is_stale {
                tracing::warn!(provider.name = %id, "the last good version of the provider keeps running");
            }
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
                self.work.metrics.forget(id);
                tracing::info!(provider.name = %id, "provider removed");
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
        last.running = stale
            .chain(
                plan.run
                    .iter()
                    .map(|(id, draft)| (Arc::clone(id), Arc::clone(draft))),
            )
            .collect();
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
                self.work.notify(
                    Some(id),
                    ListSet {
                        tools: true,
                        ..ListSet::default()
                    },
                );
            }
        }
    }

    fn start(&self, provider: &Arc<Provider>) {
        self.work.metrics.provider(&provider.id);
        self.work
            .metrics
            .tools(&provider.id, provider.live.shared.load().tools.len());
        if self.work.identity(&provider.need).is_none() {
            let reason = match &provider.need {
                ProviderAuth::ClientKey(key) => {
                    let headers: Vec<_> = key.headers.iter().map(|name| format!("`{name}`")).collect();
                    format!("each caller brings a key in the header {}", headers.join(" or "))
                }
                ProviderAuth::OAuth(_) => "nobody has connected an account yet".to_owned(),
                ProviderAuth::None | ProviderAuth::ApiKey(_) | ProviderAuth::ClientCredentials(..) => {
                    "it has no credential".to_owned()
                }
            };
            provider.live.set_health(State::NeedsAuth, Some(reason));
        }
        discovery_task::spawn(&self.work, provider);
    }
}

fn refuse(last: &mut LastReading, reason: String) -> ReloadOutcome {
    if !last.loaded || last.files.is_empty() {
        // Nothing ran that could be lost; a folder that is not there yet is no alarm each time.
        if !last.loaded {
            tracing::warn!("no descriptors: {reason}");
            return ReloadOutcome::Refused;
        }
        return ReloadOutcome::Unchanged;
    }
    if last
        .refused
        .as_ref()
        .is_none_or(|refused| refused.reason != reason)
    {
        tracing::error!("descriptors were not reloaded: {reason}");
    }
    let since = last
        .refused
        .as_ref()
        .map_or_else(SystemTime::now, |refused| refused.since);
    last.refused = Some(FolderRefusal { since, reason });
    ReloadOutcome::Refused
}

fn log_news(files: &[Arc<Parsed>], before: &[Arc<Parsed>]) {
    let known: HashSet<*const Parsed> = before.iter().map(Arc::as_ptr).collect();
    for parsed in files
        .iter()
        .filter(|parsed| !known.contains(&Arc::as_ptr(parsed)))
    {
        // What will not run is warned of by `check`; here it would bury what runs.
        for warning in parsed.warnings.iter().filter(|_| parsed.enabled) {
            tracing::warn!("{warning}");
        }
        for fault in &parsed.faults {
            tracing::error!("{fault}");
        }
    }
}
