//! Builds the vault, the credential manager and the connection broker.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::runtime::Handle;
use url::Url;

use super::Fault;
use pleiades_core::telemetry::Metrics;
use pleiades_credential::access::Access;
use pleiades_credential::broker::{self, Broker};
use pleiades_credential::manager::{self, CredentialManager};
use pleiades_credential::scheduler::{self, SchedulerHook};
use pleiades_credential::vault::file::{File, RootKey};
use pleiades_credential::vault::hashicorp::{self, HashicorpVault};
use pleiades_credential::vault::measured::MeasuredVault;
use pleiades_credential::vault::{self, Vault};
use pleiades_descriptor::settings::{self, FileVault, Settings, VaultAuth};
use pleiades_descriptor::{ReadContext, SecretSource};
use pleiades_gateway::catalog::Catalog;
use pleiades_mcp::seal::Sealer;
use pleiades_upstream::{Outbound, Upstreams};

/// The way to `HashiCorp` Vault, when the settings name one. Logs in beside, waits for nothing.
pub(super) fn hashicorp(settings: &Settings, control: &Handle) -> Result<Option<Arc<HashicorpVault>>, Fault> {
    let settings::VaultSettings::Hashicorp(vault) = &settings.vault else {
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

fn login(auth: &VaultAuth) -> hashicorp::LoginMethod {
    match auth {
        VaultAuth::Token(token) => hashicorp::LoginMethod::Token(token.clone()),
        VaultAuth::TokenFile(file) => hashicorp::LoginMethod::TokenFile(file.clone()),
        VaultAuth::Approle(role) => hashicorp::LoginMethod::AppRole {
            mount: role.mount.clone(),
            role_id: role.role_id.clone(),
            secret_id: role.secret_id.clone(),
        },
        VaultAuth::Kubernetes(account) => hashicorp::LoginMethod::Kubernetes {
            mount: account.mount.clone(),
            role: account.role.clone(),
            token_file: account.token_file.clone(),
        },
        VaultAuth::Jwt(login) => hashicorp::LoginMethod::Jwt {
            mount: login.mount.clone(),
            role: login.role.clone(),
            token: login.token.clone(),
        },
    }
}

/// The read context of these settings, with lookups in Vault.
pub(super) fn world(
    settings: &Settings,
    hashicorp: Option<&Arc<HashicorpVault>>,
    control: &Handle,
) -> ReadContext {
    let mut world = settings::read_context(settings);
    if let (Some(vault), SecretSource::Vault { lookup, .. }) = (hashicorp, &mut world.secrets) {
        let fields = hashicorp::FieldLookup::new(Arc::clone(vault), control.clone());
        *lookup = Some(Arc::new(move |path, key| fields.field(path, key)));
    }
    world
}

/// The store that the settings name, its requests counted. Makes nothing: a gateway that needs no
/// credentials needs no store; one that exists and does not open is logged at once.
pub(super) fn vault(
    settings: &Settings,
    hashicorp: Option<&Arc<HashicorpVault>>,
    metrics: &Arc<Metrics>,
) -> Arc<dyn Vault> {
    let file = || match &settings.vault {
        settings::VaultSettings::File(file) => File::new(vault_file(file), key_of(file)),
        // Not without a way to Vault; a store without a place refuses everything.
        settings::VaultSettings::Hashicorp(_) => File::new(None, RootKey::beside(Path::new(""))),
    };
    if let Some(vault) = hashicorp {
        let vault = Arc::<HashicorpVault>::clone(vault);
        return Arc::new(MeasuredVault::new(vault, Arc::clone(metrics)));
    }
    let file = Arc::new(file());
    let measured = MeasuredVault::new(Arc::<File>::clone(&file), Arc::clone(metrics));
    report_vault(&file, &measured);
    Arc::new(measured)
}

/// Makes the requests that accounts need for a user who does not exist: a wrong mount, namespace or
/// policy is logged at the start.
pub(super) async fn check_vault(vault: Arc<dyn Vault>) {
    let nobody = vault::Path::of(&["c", "_nobody"]);
    // The vault logs and counts its own faults.
    if vault.read(&nobody).await.is_ok() {
        vault.list(&nobody).await.map(drop).unwrap_or_default();
    }
}

/// Why the embedded store of the settings does not open, if it is there and does not.
pub(crate) fn vault_fault(settings: &Settings) -> Option<vault::Fault> {
    let settings::VaultSettings::File(file) = &settings.vault else {
        return None;
    };
    let examined = File::new(vault_file(file), key_of(file)).examine();
    examined.err()
}

/// Logs at the start what the first call that needs the store would fail with.
fn report_vault(file: &File, measured: &MeasuredVault) {
    match file.examine() {
        Ok(false) => {
            if let Err(fault) = file.check_writable() {
                report_fault(&fault, measured, UNWRITABLE);
            }
        }
        Ok(true) => tracing::error!(
            outcome = "short_key",
            "the vault is under a key of fewer than 32 bytes, which whoever has the file can find: \
             put it under another with `pleiades vault rekey`"
        ),
        Err(fault) => report_fault(&fault, measured, UNOPENED),
    }
}

const UNWRITABLE: &str = "the credential store cannot be written: no account can be connected or renewed";
const UNOPENED: &str = "the credential store cannot be opened: no account serves";

fn report_fault(fault: &vault::Fault, measured: &MeasuredVault, what: &str) {
    measured.note(fault);
    tracing::error!(
        outcome = fault.kind.as_str(),
        error = fault as &dyn std::error::Error,
        cure = fault.cure.as_deref(),
        "{what}"
    );
}

/// Path of the embedded store; `None` without a configured path and a home folder.
pub(super) fn vault_file(file: &FileVault) -> Option<PathBuf> {
    match &file.path {
        Some(path) => Some(path.clone()),
        None => Some(settings::data_folder()?.join("vault")),
    }
}

/// The key of the embedded store: the settings', else the key file's beside it.
pub(super) fn key_of(file: &FileVault) -> RootKey {
    match &file.key {
        Some(key) => RootKey::Given(key.clone()),
        None => RootKey::beside(&vault_file(file).unwrap_or_default()),
    }
}

pub(super) fn credential_manager(
    vault: Arc<dyn Vault>,
    upstreams: &Arc<Upstreams>,
    metrics: &Arc<Metrics>,
    control: &Handle,
) -> Arc<CredentialManager> {
    CredentialManager::new(manager::ManagerParts {
        vault,
        web: Arc::new(Outbound::new(Arc::clone(upstreams.resolver()))),
        metrics: Arc::clone(metrics),
        control: control.clone(),
    })
}

#[derive(Debug, Clone, Copy)]
pub(super) struct BrokerContext<'a> {
    pub(super) sealer: &'a Arc<Sealer>,
    pub(super) access: &'a Arc<Access>,
    pub(super) control: &'a Handle,
}

fn login_config(login: &settings::LoginSettings) -> broker::LoginConfig {
    broker::LoginConfig {
        issuer: login.issuer.clone(),
        client_id: login.client_id.clone(),
        client_secret: login.client_secret.clone(),
        tenant: match (&login.tenant_claim, &login.tenant) {
            (Some(claim), _) => broker::Tenant::Claim(claim.clone()),
            (None, Some(tenant)) => broker::Tenant::Named(tenant.clone()),
            (None, None) => broker::Tenant::Named(settings::LocalCaller::default().tenant),
        },
        user_claim: login.user_claim.clone(),
    }
}

/// The broker, once something is loaded; fails when our own address is none.
pub(super) fn broker(
    settings: &Settings,
    manager: &Arc<CredentialManager>,
    catalog: &Arc<Catalog>,
    beside: BrokerContext<'_>,
) -> Result<Arc<Broker>, Fault> {
    let loaded: Arc<Catalog> = Arc::clone(catalog);
    manager.begin(loaded);
    scheduler(settings, manager, beside.control)?;
    let prober: Arc<Catalog> = Arc::clone(catalog);
    let asked: Arc<Catalog> = Arc::clone(catalog);
    manager.probe_through(asked);
    Ok(Broker::new(broker::Config {
        manager: Arc::clone(manager),
        sealer: Arc::clone(beside.sealer),
        prober,
        access: Arc::clone(beside.access),
        login: settings.access.login.as_ref().map(login_config),
        control: beside.control.clone(),
        base: base(settings)?,
        name: settings.name.clone(),
        link_ttl: settings.connect.link_ttl.get(),
        pending_ttl: settings.connect.pending_ttl.get(),
    }))
}

/// Begins to post due times to the scheduler of the settings, if there is one.
fn scheduler(settings: &Settings, manager: &Arc<CredentialManager>, control: &Handle) -> Result<(), Fault> {
    let Some(configured) = &settings.scheduler else {
        return Ok(());
    };
    let webhook = Url::parse(&configured.webhook)
        .map_err(|cause| Fault::Settings(format!("`scheduler.webhook`: {cause}")))?;
    let key = configured.key.clone();
    scheduler::begin(SchedulerHook { webhook, key }, manager, control);
    Ok(())
}

/// Public base URL of the gateway.
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
