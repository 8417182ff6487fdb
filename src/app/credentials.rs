//! Where credentials are kept and how they are had: vault, keeper, broker.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::runtime::Handle;
use url::Url;

use super::Fault;
use crate::catalog::Catalog;
use crate::credential::broker::{self, Broker};
use crate::credential::keeper::{self, Keeper};
use crate::credential::vault::Vault;
use crate::credential::vault::memory::Memory;
use crate::mcp::seal::Sealer;
use crate::settings::Settings;
use crate::telemetry::Metrics;
use crate::upstream::{Outbound, Upstreams};

/// The store that the settings name.
///
/// # Errors
/// [`Fault`].
pub(super) fn vault(_settings: &Settings) -> Result<Arc<dyn Vault>, Fault> {
    Ok(Arc::new(Memory::default()))
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
    let asked: Arc<Catalog> = Arc::clone(catalog);
    keeper.ask_through(asked);
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
