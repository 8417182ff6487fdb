//! What is loaded, and the tasks that keep it true.

use std::{fmt, path::PathBuf, sync::Arc};

use serde_json::Value;
use tokio::{runtime::Handle, sync::broadcast};
use tokio_util::sync::CancellationToken;

use super::{
    CatalogChange, Catalogue, DescriptorReader, Lister, Provider, Snapshot,
    compile::CompileContext,
    guests::Guests,
    lists::ListSet,
    pins::{self, PinStore},
    reload::{Loader, Reload, ReloadOutcome},
    retire::retire,
    service::DiscoveryService,
    status,
    watch::{self as watcher, FolderWatcher},
};
use pleiades_core::{error::Error, telemetry::Metrics};
use pleiades_credential::{ClientCredentialsTokens, access::Principal};
use pleiades_descriptor::{Exposure, ReadContext};
use pleiades_upstream::Upstreams;

/// Where descriptors are, and the identity of readings that no caller asked for.
#[derive(Debug, Clone)]
pub struct Config {
    /// The folder of descriptors.
    pub folder: PathBuf,
    /// What descriptors may depend on.
    pub world: ReadContext,
    /// Tenant as which shared lists are read.
    pub tenant: Arc<str>,
    /// User as which shared lists are read.
    pub user: Arc<str>,
    /// Tokens of `client_credentials`, and the states of accounts.
    pub client_credentials: Arc<dyn ClientCredentialsTokens>,
    /// `facade.exposure` of the settings.
    pub exposure: Exposure,
    /// Where approved definitions of tools are kept.
    pub pins: Arc<dyn PinStore>,
}

/// What is loaded from the folder of descriptors and what callers connected. One per process.
pub struct Catalog {
    pub(super) work: Arc<DiscoveryService>,
    pub(super) guests: Guests,
    pub(super) loader: Loader,
    pub(super) end: CancellationToken,
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catalog")
            .field("folder", &self.loader.folder)
            .finish_non_exhaustive()
    }
}

impl Drop for Catalog {
    fn drop(&mut self) {
        self.end.cancel();
        for provider in self.work.snapshot.load().providers.values() {
            provider.live.end.cancel();
        }
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

    /// The same with another reader and another upstream side.
    #[must_use]
    pub fn open_with(
        config: Config,
        reader: DescriptorReader,
        lister: Box<dyn Lister>,
        metrics: Arc<Metrics>,
        control: Handle,
    ) -> Arc<Self> {
        let principal = (config.tenant, config.user);
        let work = DiscoveryService::new(lister, metrics, control.clone(), config.pins, principal);
        let work = Arc::new(work);
        let context = CompileContext {
            loopback: config.world.loopback,
            client_credentials: config.client_credentials,
            exposure: config.exposure,
        };
        let catalog = Arc::new(Self {
            loader: Loader::new(Arc::clone(&work), config.folder, reader, context),
            work,
            guests: Guests::default(),
            end: CancellationToken::new(),
        });
        // Watching begins before reading: what is written between the two is an event.
        let watching = FolderWatcher::open(&catalog.loader.folder);
        catalog.reload();
        let weak = Arc::downgrade(&catalog);
        let look = move |watching: &mut FolderWatcher, read| Some(weak.upgrade()?.look(watching, read));
        control.spawn(pins::watch(Arc::downgrade(&catalog.work), catalog.end.clone()));
        control.spawn(watcher::run(watching, catalog.end.clone(), look));
        catalog
    }

    /// Reads the folder if that is due, or if it is another one than before; returns whether it is.
    fn look(&self, watching: &mut FolderWatcher, read: bool) -> bool {
        let moved = watching.point_at(&self.loader.folder);
        if read || moved {
            self.reload();
        } else {
            self.publish();
        }
        moved
    }

    /// Everything loaded, to keep for the whole of a request.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.work.snapshot.load_full()
    }

    /// Everything that a caller (tenant and user) finds loaded: what descriptors name, and beside it the
    /// caller's own; `None`: without that.
    #[must_use]
    pub(crate) fn snapshot_for(&self, caller: Option<(&Arc<str>, &Arc<str>)>) -> Arc<Snapshot> {
        match caller {
            Some((tenant, user)) => {
                let owner = (Arc::clone(tenant), Arc::clone(user));
                self.guests.beside(self.snapshot(), &owner)
            }
            None => self.snapshot(),
        }
    }

    /// Makes a server a provider of this caller alone; one of the same name is replaced.
    pub(crate) fn add_guest(&self, tenant: &Arc<str>, user: &Arc<str>, provider: Arc<Provider>) {
        // Names that callers chose are no labels of metrics.
        if !self.snapshot().providers.contains_key(&provider.id) {
            self.work.metrics.forget(&provider.id);
        }
        let owner = (Arc::clone(tenant), Arc::clone(user));
        let all_gone = self.guests.add(owner.clone(), Arc::clone(&provider));
        self.work.notify_user(None, Some(owner), ListSet::ALL);
        for gone in all_gone {
            if gone.endpoint.digest != provider.endpoint.digest {
                retire(&self.work, &gone);
            }
        }
    }

    /// Adds to the error for a provider that does not run why it does not, for the local caller, whose the
    /// files are. To others it is one that does not exist.
    pub(crate) fn explain_absence(&self, mut error: Error, id: &str, principal: &Principal) -> Error {
        let snapshot = self.snapshot();
        let entry = snapshot.entries.get(id);
        let is_absent = self.work.is_own(principal) && !snapshot.providers.contains_key(id);
        if let Some(entry) = entry.filter(|_| is_absent) {
            let why = match entry.disabled {
                true => "its file says `enabled: false`",
                false => "its file has faults: run `pleiades check`",
            };
            error.message = format!("{}: `{id}` does not run, {why}", error.message).into();
        }
        error
    }

    /// Changes of lists from now on.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<CatalogChange> {
        self.work.changes.subscribe()
    }

    /// Readings of the folder from now on.
    #[cfg(test)]
    pub(crate) fn reloads(&self) -> tokio::sync::watch::Receiver<Reload> {
        self.loader.reloads.subscribe()
    }

    /// Whether every descriptor was read once.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.loader.is_loaded()
    }

    /// Reads the folder and swaps what is different. Blocks on the disk.
    pub fn reload(&self) -> ReloadOutcome {
        let (outcome, generation) = self.loader.reload();
        self.publish();
        self.loader.reloads.send_modify(|last| {
            *last = Reload {
                readings: last.readings + 1,
                generation,
                outcome,
            };
        });
        outcome
    }

    /// `/providers`: generation, every provider that a file names, and why the folder is not
    /// believed when it is not.
    #[must_use]
    pub fn report(&self) -> Value {
        let tokens = &*self.loader.context.client_credentials;
        status::report(&self.snapshot(), tokens, self.loader.refused())
    }

    /// Brings the gauges of providers up to date; also done once a second.
    pub fn publish(&self) {
        let tokens = &*self.loader.context.client_credentials;
        status::publish(&self.snapshot(), tokens, &self.work.metrics);
    }

    /// The runtime that owns what outlives a request.
    #[must_use]
    pub fn control(&self) -> &Handle {
        &self.work.control
    }

    /// The running providers whose callers use accounts of a connection.
    #[must_use]
    pub(crate) fn connected_by(&self, connection: &str) -> Vec<Arc<Provider>> {
        let snapshot = self.snapshot();
        let of = |it: &&Arc<Provider>| it.need.connection().is_some_and(|own| *own.name == *connection);
        snapshot.providers.values().filter(of).cloned().collect()
    }

    /// Tells a user's listeners that all lists of a provider changed: an account came, went or was chosen.
    pub(crate) fn account_changed(&self, provider: &Arc<Provider>, tenant: &Arc<str>, user: &Arc<str>) {
        let user = (Arc::clone(tenant), Arc::clone(user));
        self.work
            .notify_user(Some(&provider.id), Some(user), ListSet::ALL);
    }

    /// Takes everything as changed: what happened was missed.
    pub(crate) fn everything_changed(&self) {
        self.work.notify(None, ListSet::ALL);
    }

    /// Forgets the lists of a user's accounts; those that are still connected are read again.
    pub(crate) fn forget_account(&self, provider: &Provider, tenant: &str, user: &str) {
        provider.live.forget(tenant, user);
    }

    /// What is shown to a caller of a tenant who is not connected: with `facade.exposure: soft` the
    /// lists that an account of the same tenant had last; else nothing.
    #[must_use]
    pub fn template(&self, provider: &Provider, tenant: &str) -> Option<Arc<Catalogue>> {
        if !provider.facade.soft || provider.need.is_shared() {
            return None;
        }
        // What a provider calls one caller's alone is shown to no other.
        provider.live.template(tenant).filter(|lists| !lists.is_private)
    }
}
