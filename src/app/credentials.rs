//! Where credentials are kept and how they are had: vault, keeper, broker.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::runtime::Handle;
use url::Url;

use super::Fault;
use crate::access::Access;
use crate::catalog::Catalog;
use crate::credential::broker::{self, Broker};
use crate::credential::keeper::{self, Keeper};
use crate::credential::schedule::{self, Scheduler};
use crate::credential::vault::Vault;
use crate::credential::vault::memory::Memory;
use crate::mcp::seal::Sealer;
use crate::settings;
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

/// What the broker needs beside the keeper.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beside<'a> {
    pub(super) sealer: &'a Arc<Sealer>,
    pub(super) access: &'a Arc<Access>,
    pub(super) control: &'a Handle,
}

fn login(login: &settings::Login) -> broker::Login {
    broker::Login {
        issuer: login.issuer.clone(),
        client_id: login.client_id.clone(),
        client_secret: login.client_secret.clone(),
    }
}

/// The broker, once something is loaded.
///
/// # Errors
/// [`Fault`] when our own address is none.
pub(super) fn broker(
    settings: &Settings,
    keeper: &Arc<Keeper>,
    catalog: &Arc<Catalog>,
    beside: Beside<'_>,
) -> Result<Arc<Broker>, Fault> {
    let loaded: Arc<Catalog> = Arc::clone(catalog);
    keeper.begin(loaded);
    scheduler(settings, keeper, beside.control)?;
    let prober: Arc<Catalog> = Arc::clone(catalog);
    Ok(Broker::new(broker::Parts {
        keeper: Arc::clone(keeper),
        sealer: Arc::clone(beside.sealer),
        prober,
        access: Arc::clone(beside.access),
        login: settings.access.login.as_ref().map(login),
        control: beside.control.clone(),
        base: base(settings)?,
        name: settings.name.clone(),
        link_ttl: settings.connect.link_ttl.get(),
        pending_ttl: settings.connect.pending_ttl.get(),
    }))
}

/// Who is told when stored tokens are due, where the settings name somebody.
fn scheduler(settings: &Settings, keeper: &Arc<Keeper>, control: &Handle) -> Result<(), Fault> {
    let Some(said) = &settings.scheduler else {
        return Ok(());
    };
    let webhook = Url::parse(&said.webhook)
        .map_err(|cause| Fault::Settings(format!("`scheduler.webhook`: {cause}")))?;
    let key = said.key.clone();
    schedule::begin(Scheduler { webhook, key }, keeper, control);
    Ok(())
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
