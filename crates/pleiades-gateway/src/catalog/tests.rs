//! The catalogue over a real folder and a fake way upstream.

mod challenges;
mod fake;
mod listing;
mod loading;
mod older;
mod watching;

use std::{
    fs,
    future::Future,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use http::{HeaderName, HeaderValue};
use tempfile::TempDir;

use self::fake::FakeLister;
use super::*;
use pleiades_core::telemetry::Metrics;
use pleiades_credential::Signature;
use pleiades_descriptor::{ReadContext, References, read};
use pleiades_upstream::Identity;

/// Only a guard against hanging: nothing is expected to take that long.
const GUARD: Duration = Duration::from_secs(30);

async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(GUARD, future)
        .await
        .expect("it does not hang")
}

/// A folder, a catalogue over it, and what its reader was asked.
struct Bench {
    root: TempDir,
    fake: Arc<FakeLister>,
    reads: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
    catalog: Option<Arc<Catalog>>,
}

impl Bench {
    fn new() -> Self {
        let root = TempDir::new().expect("a folder can be made");
        let bench = Self {
            root,
            fake: Arc::default(),
            reads: Arc::default(),
            metrics: Metrics::new(),
            catalog: None,
        };
        fs::create_dir(bench.folder()).expect("a folder can be made");
        bench
    }

    fn with(self, id: &str) -> Self {
        self.write(id, "");
        self
    }

    fn open(self) -> Self {
        self.open_after(|_| ())
    }

    /// The same; something happens before a file's text is read.
    fn open_after(mut self, before: impl Fn(&Path) + Send + Sync + 'static) -> Self {
        let reads = Arc::clone(&self.reads);
        let world = ReadContext {
            env: Arc::new(|_| None),
            references: References {
                files: vec![format!("{}/*", real(self.root.path()).display())],
                ..References::default()
            },
            secrets: pleiades_descriptor::SecretSource::None,
            commands: true,
            loopback: true,
        };
        let within = world.clone();
        let reader: DescriptorReader = Arc::new(move |file, text| {
            reads.fetch_add(1, SeqCst);
            before(file);
            read(file, text, &within)
        });
        let config = Config {
            exposure: pleiades_descriptor::Exposure::default(),
            pins: Arc::new(super::pins::NoPinStore),
            folder: self.folder(),
            world,
            tenant: "t".into(),
            user: "u".into(),
            client_credentials: Arc::new(pleiades_credential::NoClientCredentials),
        };
        let lister = Box::new(Arc::clone(&self.fake));
        let control = tokio::runtime::Handle::current();
        self.catalog = Some(Catalog::open_with(
            config,
            reader,
            lister,
            Arc::clone(&self.metrics),
            control,
        ));
        self
    }

    fn catalog(&self) -> &Arc<Catalog> {
        self.catalog.as_ref().expect("it was opened")
    }

    fn folder(&self) -> PathBuf {
        self.root.path().join("providers.d")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// Writes `{id}.yaml` with further fields.
    fn write(&self, id: &str, more: &str) {
        fs::write(self.file(&format!("{id}.yaml")), text(id, more)).expect("a file can be written");
    }

    fn spoil(&self, id: &str) {
        fs::write(self.file(&format!("{id}.yaml")), "{ broken").expect("a file can be written");
    }

    fn remove(&self, id: &str) {
        fs::remove_file(self.file(&format!("{id}.yaml"))).expect("a file can be removed");
    }

    fn reload(&self) -> Arc<Snapshot> {
        self.catalog().reload();
        self.catalog().snapshot()
    }

    fn provider(&self, id: &str) -> Arc<Provider> {
        Arc::clone(&self.catalog().snapshot().providers[id])
    }

    async fn lists(&self, id: &str) -> Result<Arc<Catalogue>, pleiades_core::error::Error> {
        soon(self.catalog().lists(&self.provider(id), &anybody())).await
    }

    async fn tools(&self, id: &str) -> Vec<String> {
        names(&self.lists(id).await.expect("it is listed"))
    }

    fn state(&self, id: &str) -> State {
        self.provider(id).state().0
    }

    /// What `/providers` says of one.
    fn line(&self, id: &str) -> serde_json::Value {
        let report = self.catalog().report();
        let lines = report["providers"].as_array().expect("a list");
        lines
            .iter()
            .find(|line| line["id"] == id)
            .expect("it is listed")
            .clone()
    }

    /// Waits until readings of the folder have made something true.
    async fn reloaded(&self, what: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
        let mut reloads = self.catalog().reloads();
        soon(async {
            loop {
                let snapshot = self.catalog().snapshot();
                if what(&snapshot) {
                    return snapshot;
                }
                reloads.changed().await.expect("the catalogue is there");
            }
        })
        .await
    }

    /// Waits until something was retired.
    async fn retired(&self) -> Vec<[u8; 32]> {
        let mut retired = self.fake.retired.subscribe();
        let some = soon(retired.wait_for(|retired| !retired.is_empty())).await;
        some.expect("the fake is there").clone()
    }

    /// Waits for a change of a provider's tools.
    async fn next_change(
        &self,
        changes: &mut tokio::sync::broadcast::Receiver<CatalogChange>,
        id: &str,
    ) -> CatalogChange {
        soon(async {
            loop {
                let changed = changes.recv().await.expect("the catalogue is there");
                if changed.provider.as_deref() == Some(id) {
                    return changed;
                }
            }
        })
        .await
    }
}

fn names(catalogue: &Catalogue) -> Vec<String> {
    catalogue.tools.iter().map(|tool| tool.name.to_string()).collect()
}

fn anybody() -> Identity {
    Identity {
        session: None,
        tenant: "t".into(),
        user: "u".into(),
        signature: Arc::default(),
    }
}

fn bringing(key: &str) -> Identity {
    let headers = vec![(
        HeaderName::from_static("authorization"),
        HeaderValue::from_str(key).expect("a value"),
    )];
    let mut account = [0; 32];
    account[..key.len()].copy_from_slice(key.as_bytes());
    Identity {
        session: None,
        signature: Arc::new(Signature::fixed(headers, Some(account))),
        ..anybody()
    }
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().expect("it is there")
}

/// A descriptor; JSON is YAML too.
fn text(id: &str, more: &str) -> String {
    let auth = if more.contains("\"auth\"") {
        ""
    } else {
        r#", "auth": {"none": {}}"#
    };
    format!(r#"{{"id": "{id}", "upstream": {{"url": "https://{id}.example/mcp"}}{auth}{more}}}"#)
}
