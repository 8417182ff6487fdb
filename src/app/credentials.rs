//! Where credentials are kept and how they are had: vault, keeper, broker.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Handle;
use url::Url;

use super::Fault;
use crate::catalog::Catalog;
use crate::credential::broker::{self, Broker};
use crate::credential::keeper::{self, Keeper};
use crate::credential::vault::Vault;
use crate::credential::vault::file::{File, Root};
use crate::credential::vault::measured::Measured;
use crate::mcp::seal::Sealer;
use crate::settings::{self, FileVault, Hashicorp, Settings};
use crate::telemetry::Metrics;
use crate::upstream::{Outbound, Upstreams};

/// The store that the settings name, its requests counted. Opens nothing: a gateway that needs no
/// credentials needs no store.
///
/// # Errors
/// [`Fault::Settings`].
pub(super) fn vault(
    settings: &Settings,
    metrics: &Arc<Metrics>,
    control: &Handle,
) -> Result<Arc<dyn Vault>, Fault> {
    let vault: Arc<dyn Vault> = match &settings.vault {
        settings::Vault::File(file) => Arc::new(File::new(vault_file(file), key_of(file))),
        settings::Vault::Hashicorp(hashicorp) => self::hashicorp(hashicorp, control)?,
    };
    Ok(Arc::new(Measured::new(vault, Arc::clone(metrics))))
}

/// The seam of `credential::vault::hashicorp`.
fn hashicorp(_hashicorp: &Hashicorp, _control: &Handle) -> Result<Arc<dyn Vault>, Fault> {
    Err(Fault::Settings("`vault.hashicorp`: not built yet".to_owned()))
}

/// Where the embedded store's file is; `None` when there is no home folder and no path is said.
pub(super) fn vault_file(file: &FileVault) -> Option<PathBuf> {
    match &file.path {
        Some(path) => Some(path.clone()),
        None => Some(settings::data_folder()?.join("vault")),
    }
}

/// The key of the embedded store: the settings', else the key file's beside it.
pub(super) fn key_of(file: &FileVault) -> Root {
    match &file.key {
        Some(key) => Root::Given(key.clone()),
        None => Root::beside(&vault_file(file).unwrap_or_default()),
    }
}

/// The keeper of accounts.
pub(super) fn keeper(
    vault: Arc<dyn Vault>,
    upstreams: &Arc<Upstreams>,
    metrics: &Arc<Metrics>,
    control: &Handle,
) -> Arc<Keeper> {
    Keeper::new(keeper::Parts {
        vault,
        web: Arc::new(Outbound::new(Arc::clone(upstreams.resolver()))),
        metrics: Arc::clone(metrics),
        control: control.clone(),
    })
}

/// The broker, once something is loaded.
///
/// # Errors
/// [`Fault`] when our own address is none.
pub(super) fn broker(
    settings: &Settings,
    keeper: &Arc<Keeper>,
    catalog: &Arc<Catalog>,
    sealer: &Arc<Sealer>,
) -> Result<Arc<Broker>, Fault> {
    let loaded: Arc<Catalog> = Arc::clone(catalog);
    keeper.begin(loaded);
    let prober: Arc<Catalog> = Arc::clone(catalog);
    Ok(Broker::new(broker::Parts {
        keeper: Arc::clone(keeper),
        sealer: Arc::clone(sealer),
        prober,
        base: base(settings)?,
        name: settings.name.clone(),
        link_ttl: settings.connect.link_ttl.get(),
        pending_ttl: settings.connect.pending_ttl.get(),
    }))
}

/// Where people reach the public listener.
fn base(settings: &Settings) -> Result<Url, Fault> {
    if let Some(url) = &settings.public_url {
        return Ok(url.clone());
    }
    let scheme = if settings.tls.is_some() { "https" } else { "http" };
    let mut listen = settings.listen;
    if listen.ip().is_unspecified() {
        listen = SocketAddr::from(([127, 0, 0, 1], listen.port()));
    }
    Url::parse(&format!("{scheme}://{listen}")).map_err(|cause| Fault::Settings(format!("`listen`: {cause}")))
}
