//! Where credentials are kept and how they are had: vault, keeper, broker.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::runtime::Handle;
use url::Url;

use super::Fault;
use crate::access::Access;
use crate::catalog::Catalog;
use crate::credential::broker::{self, Broker};
use crate::credential::keeper::{self, Keeper};
use crate::credential::scheduler::{self, Scheduler};
use crate::credential::vault::file::{File, Root};
use crate::credential::vault::hashicorp::{self, Hashicorp};
use crate::credential::vault::measured::Measured;
use crate::credential::vault::{self, Vault};
use crate::descriptor::{Secrets, World};
use crate::mcp::seal::Sealer;
use crate::settings::{self, FileVault, Settings, VaultAuth};
use crate::telemetry::Metrics;
use crate::upstream::{Outbound, Upstreams};

/// The way to `HashiCorp` Vault, when the settings name one. Logs in beside, waits for nothing.
///
/// # Errors
/// [`Fault::Settings`].
pub(super) fn hashicorp(settings: &Settings, control: &Handle) -> Result<Option<Arc<Hashicorp>>, Fault> {
    let settings::Vault::Hashicorp(vault) = &settings.vault else {
        return Ok(None);
    };
    let config = hashicorp::Config {
        address: vault.address.clone(),
        mount: vault.mount.clone(),
        prefix: vault.prefix.clone(),
        namespace: vault.namespace.clone(),
        ca_file: vault.ca_file.clone(),
        transit_key: vault.transit_key.clone(),
        auth: login(&vault.auth),
    };
    let vault = hashicorp::open(config, control).map_err(|fault| Fault::Settings(fault.to_string()))?;
    Ok(Some(vault))
}

fn login(auth: &VaultAuth) -> hashicorp::Auth {
    match auth {
        VaultAuth::Token(token) => hashicorp::Auth::Token(token.clone()),
        VaultAuth::TokenFile(file) => hashicorp::Auth::TokenFile(file.clone()),
        VaultAuth::Approle(role) => hashicorp::Auth::AppRole {
            mount: role.mount.clone(),
            role_id: role.role_id.clone(),
            secret_id: role.secret_id.clone(),
        },
        VaultAuth::Kubernetes(account) => hashicorp::Auth::Kubernetes {
            mount: account.mount.clone(),
            role: account.role.clone(),
            token_file: account.token_file.clone(),
        },
        VaultAuth::Jwt(login) => hashicorp::Auth::Jwt {
            mount: login.mount.clone(),
            role: login.role.clone(),
            token: login.token.clone(),
        },
    }
}

/// What descriptors read under these settings may depend on, Vault among it.
pub(super) fn world(settings: &Settings, hashicorp: Option<&Arc<Hashicorp>>, control: &Handle) -> World {
    let mut world = settings::world(settings);
    if let (Some(vault), Secrets::Vault { lookup, .. }) = (hashicorp, &mut world.secrets) {
        let fields = hashicorp::Lookup::new(Arc::clone(vault), control.clone());
        *lookup = Some(Arc::new(move |path, key| fields.field(path, key)));
    }
    world
}

/// The store that the settings name, its requests counted. Makes nothing: a gateway that needs no
/// credentials needs no store; one that is there and does not open is told of at once.
pub(super) fn vault(
    settings: &Settings,
    hashicorp: Option<&Arc<Hashicorp>>,
    metrics: &Arc<Metrics>,
) -> Arc<dyn Vault> {
    let file = || match &settings.vault {
        settings::Vault::File(file) => File::new(vault_file(file), key_of(file)),
        // Not without a way to Vault; a store without a place refuses everything.
        settings::Vault::Hashicorp(_) => File::new(None, Root::beside(Path::new(""))),
    };
    let vault: Arc<dyn Vault> = match hashicorp {
        Some(vault) => Arc::<Hashicorp>::clone(vault),
        None => {
            let file = file();
            examined(&file, metrics);
            Arc::new(file)
        }
    };
    Arc::new(Measured::new(vault, Arc::clone(metrics)))
}

/// Asks Vault for what accounts need, and for nobody's: a mount, namespace or policy that is wrong is
/// told at the start.
pub(super) async fn asked(vault: Arc<dyn Vault>) {
    let nobody = vault::Path::of(&["c", "_nobody"]);
    // Whatever is wrong is told and counted where it is asked.
    if vault.read(&nobody).await.is_ok() {
        vault.list(&nobody).await.map(drop).unwrap_or_default();
    }
}

/// Why the embedded store of the settings does not open, if it is there and does not.
#[must_use]
pub fn unopened(settings: &Settings) -> Option<String> {
    let settings::Vault::File(file) = &settings.vault else {
        return None;
    };
    let examined = File::new(vault_file(file), key_of(file)).examine();
    examined.err().map(|fault| fault.message)
}

/// Says at the start what would else be said with the first call that needs the store.
fn examined(file: &File, metrics: &Metrics) {
    match file.examine() {
        Ok(false) => {}
        Ok(true) => tracing::error!(
            "the vault is under a key of fewer than 32 bytes, which whoever has the file can find: \
             put it under another with `pleiades vault rekey`"
        ),
        Err(fault) => {
            metrics.vault("read", fault.kind.as_str(), fault.kind.is_up());
            tracing::error!(kind = fault.kind.as_str(), "{fault}");
        }
    }
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

/// What the broker needs beside the keeper.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beside<'a> {
    pub(super) sealer: &'a Arc<Sealer>,
    pub(super) access: &'a Arc<Access>,
    pub(super) control: &'a Handle,
}

fn opener(login: &settings::Login) -> broker::Login {
    broker::Login {
        issuer: login.issuer.clone(),
        client_id: login.client_id.clone(),
        client_secret: login.client_secret.clone(),
        tenant: match (&login.tenant_claim, &login.tenant) {
            (Some(claim), _) => broker::Tenant::Claim(claim.clone()),
            (None, Some(tenant)) => broker::Tenant::Named(tenant.clone()),
            (None, None) => broker::Tenant::Named(settings::Local::default().tenant),
        },
        user_claim: login.user_claim.clone(),
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
    let asked: Arc<Catalog> = Arc::clone(catalog);
    keeper.ask_through(asked);
    Ok(Broker::new(broker::Parts {
        keeper: Arc::clone(keeper),
        sealer: Arc::clone(beside.sealer),
        prober,
        access: Arc::clone(beside.access),
        login: settings.access.login.as_ref().map(opener),
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
    scheduler::begin(Scheduler { webhook, key }, keeper, control);
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
