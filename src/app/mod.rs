//! The composition root: builds each part from its own settings, binds, drains.

mod accounts;
mod changes;
mod credentials;
mod ended;
mod gateway_client;
mod lifecycle;
mod local;
#[cfg(test)]
#[path = "../../crates/pleiades-credential/src/vault/tests/memory.rs"]
mod memory_vault;
mod migration;
mod private;
mod rekey;
mod runtime_file;
mod seal;
mod start;

use std::{net::TcpListener, path::Path, sync::Arc, time::Duration};

use pingora_core::apps::HttpServerOptions;
use pingora_core::listeners::ListenerConfig;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::protocols::l4::stream::L4BufferSettings;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{RunArgs, Server};
use pingora_core::services::listening::Service;

use pleiades_core::telemetry::{Metrics, RequestIds, log};
use pleiades_credential::access::origins::OriginPolicy;
use pleiades_credential::access::{Access, Grants, Principal};
use pleiades_credential::manager::CredentialManager;
use pleiades_credential::vault::hashicorp::HashicorpVault;
use pleiades_descriptor::settings::{Settings, Structured, ToolNames};
use pleiades_gateway::admin::Admin;
use pleiades_gateway::catalog::{self, Catalog, pins::VaultPins};
use pleiades_gateway::exchange::{Exchange, Names, Sessions, Shown};
use pleiades_gateway::facade::form::{AnswerForm, AnswerForms};
use pleiades_gateway::proxy::api::{ApiConfig, ConnectAllowlist};
use pleiades_gateway::proxy::{Config, Gateway};
use pleiades_gateway::shared_state::{RedisConfig, SharedState};
use pleiades_mcp::seal::Sealer;
use pleiades_upstream::{Upstreams, minimal_environment};

pub(crate) use accounts::put;
pub(crate) use credentials::vault_fault;
pub(crate) use gateway_client::{GatewayClient, REVISION, ToolViewRequest, providers};
pub(crate) use lifecycle::{Lifecycle, termination_signal};
pub(crate) use local::file as local_key_file;
pub(crate) use migration::Migration;
pub(crate) use private::keep_private;
pub(crate) use rekey::{NewKey, RekeyError, rekey};
pub(crate) use runtime_file::{RunningGateway, RuntimeFile};
pub(crate) use start::{log_fault, log_start};

/// Bytes that a connection's socket is read ahead by. Pingora takes 64 KiB by default, for as
/// long as the connection stands; its reader of HTTP/1 has a buffer of its own. Of TLS a whole record.
const PLAIN_READ: usize = 0;
const TLS_READ: usize = 16 * 1024;
/// Connections kept open to one upstream on average; Pingora's pool is one for all of them.
const KEPT_PER_UPSTREAM: usize = 8;
const MIN_POOL: usize = 512;
/// How long the end waits for changes to be published to other replicas.
const ANNOUNCE_WITHIN: Duration = Duration::from_secs(1);

/// The services that a front end (HTTP, stdio, a command) works with.
#[derive(Debug)]
pub struct Services {
    /// Handles messages.
    pub exchange: Arc<Exchange>,
    /// The providers that are loaded.
    pub catalog: Arc<Catalog>,
    /// Metrics of the process.
    pub metrics: Arc<Metrics>,
    /// Authenticates callers.
    pub access: Arc<Access>,
    /// Principal of unauthenticated local callers and of commands.
    pub principal: Principal,
    /// Largest message, in bytes.
    pub max_body: usize,
    /// Ids of requests.
    pub ids: RequestIds,
}

/// A process with everything built and nothing bound.
#[derive(Debug)]
pub struct App {
    settings: Settings,
    services: Arc<Services>,
    upstreams: Arc<Upstreams>,
    shared: Arc<SharedState>,
    sealer: Arc<Sealer>,
    hashicorp: Option<Arc<HashicorpVault>>,
    world: pleiades_descriptor::ReadContext,
    control: tokio::runtime::Runtime,
}

/// Which descriptors a process loads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadScope {
    /// Every one.
    All,
    /// The one of this provider.
    One(String),
    /// Those whose users connect accounts; none of them is reached before somebody uses one.
    Accounts,
    /// Those, and one provider that uses client credentials.
    Login(String),
}

/// Why a process cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The settings ask for what cannot be.
    #[error("{0}")]
    Settings(String),
    /// The machine does not let us.
    #[error("{0}")]
    Machine(String),
}

impl App {
    /// Builds every part. Reads the descriptors, binds nothing, waits for no network but for the entries of
    /// Vault that descriptors name, at most seconds.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn build(settings: Settings, load: LoadScope) -> Result<Self, Fault> {
        let control = control()?;
        let metrics = Metrics::new();
        let hashicorp = credentials::hashicorp(&settings, control.handle())?;
        // Before the seal, which is derived from the key that opens the store.
        let vault = credentials::vault(&settings, hashicorp.as_ref(), &metrics);
        let sealer = seal::sealer(&settings)?;
        let world = credentials::world(&settings, hashicorp.as_ref(), control.handle());
        if !sealer.is_ready() {
            control.spawn(seal::fetch(Arc::clone(&sealer), Arc::clone(&vault)));
        }
        let shared = shared_state(&settings, &sealer, control.handle(), &metrics)?;
        let upstreams = Upstreams::new(
            control.handle().clone(),
            minimal_environment(pleiades_descriptor::settings::variables()),
        );
        let access = Arc::new(access(&settings, &load)?);
        let principal = access.local().clone();
        log::set_local(Arc::clone(&principal.tenant), Arc::clone(&principal.user));
        let manager = credentials::credential_manager(vault, &upstreams, &metrics, control.handle());
        changes::begin(&manager, &shared, control.handle());
        let config = catalog_config(&settings, &world, &principal, &manager);
        let (reader, lister) = (reader(world.clone(), load), Box::new(Arc::clone(&upstreams)));
        let own = control.handle().clone();
        let catalog = Catalog::open_with(config, reader, lister, Arc::clone(&metrics), own);
        let beside = credentials::BrokerContext {
            sealer: &sealer,
            access: &access,
            control: control.handle(),
        };
        let broker = credentials::broker(&settings, &manager, &catalog, beside)?;
        let exchange = Exchange::new(
            (Arc::clone(&catalog), Arc::clone(&upstreams)),
            Arc::clone(&metrics),
            Sessions::new(Arc::clone(&sealer), Arc::clone(&shared)),
            (manager, broker),
            shown(&settings),
        );
        let services = Services {
            exchange,
            catalog,
            metrics,
            access,
            principal,
            max_body: settings.max_body.bytes(),
            ids: RequestIds::default(),
        };
        Ok(Self {
            settings,
            services: Arc::new(services),
            upstreams,
            shared,
            sealer,
            hashicorp,
            world,
            control,
        })
    }

    /// The services for front ends.
    #[must_use]
    pub fn services(&self) -> Arc<Services> {
        Arc::clone(&self.services)
    }

    pub(crate) const fn world(&self) -> &pleiades_descriptor::ReadContext {
        &self.world
    }

    pub(crate) const fn upstreams(&self) -> &Arc<Upstreams> {
        &self.upstreams
    }

    pub(crate) const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The runtime that owns background work.
    #[must_use]
    pub const fn control(&self) -> &tokio::runtime::Runtime {
        &self.control
    }

    /// Ends sessions and child processes.
    pub fn stop(self, within: Duration) {
        self.services.exchange.closing.cancel();
        // Codes and refresh tokens are good for once: what is being redeemed is stored before the end.
        let accounts = &self.services.exchange.accounts;
        let ended = async {
            let redeemed = async { tokio::join!(accounts.manager.shut_down(), accounts.broker.drained()) };
            let settled = tokio::time::timeout(within, redeemed);
            let ended = tokio::join!(settled, self.upstreams.shutdown(within));
            // A command that has changed an account is soon gone.
            self.shared.changes_published(within.min(ANNOUNCE_WITHIN)).await;
            ended
        };
        if self.control.block_on(ended).0.is_err() {
            tracing::error!(
                cure = "their accounts may have to be connected again",
                "new tokens could not be stored before the process ended"
            );
        }
        self.control.shutdown_background();
    }

    /// Whether the seal key is there: one that Vault keeps is read in the background.
    pub(crate) fn is_unsealed(&self) -> bool {
        self.sealer.is_ready()
    }

    /// Binds both listeners and serves until a signal; fails when an address cannot be bound or a
    /// certificate cannot be read.
    ///
    /// Commands of the same settings find it through `note`, from when both listeners accept until they close.
    pub(crate) fn serve(self, note: &RuntimeFile, ready: impl FnOnce(&Self)) -> Result<(), Fault> {
        let (listen, admin) = (self.settings.listen, self.settings.admin);
        check_free(listen, "listen")?;
        check_free(admin, "admin")?;
        let lifecycle = Lifecycle::new(
            &self.settings,
            Arc::clone(&self.services),
            Arc::clone(&self.upstreams),
            Arc::clone(&self.sealer),
        );
        let mut server = Server::new_with_opt_and_conf(None, self.conf());
        let conf = Arc::clone(&server.configuration);
        server.add_service(self.gateway(&conf)?);
        server.add_service(self.admin(&lifecycle));
        lifecycle.watch_listeners(self.control.handle(), [listen, admin], note.clone());
        let store = Arc::clone(self.services.exchange.accounts.manager.vault());
        if self.hashicorp.is_some() {
            self.control.spawn(credentials::check_vault(store));
        } else if self.settings.shared_state.is_none() {
            let begun = ended::begin(store, &self.shared, self.control.handle());
            self.control.block_on(begun);
        }
        ready(&self);
        server.run(RunArgs {
            shutdown_signal: Box::new(lifecycle.signals(note.clone())),
        });
        self.stop(lifecycle.time_left());
        tracing::info!("ended");
        Ok(())
    }

    fn conf(&self) -> ServerConf {
        let providers = self.services.catalog.snapshot().providers.len();
        ServerConf {
            threads: std::thread::available_parallelism().map_or(2, usize::from),
            work_stealing: true,
            upstream_keepalive_pool_size: MIN_POOL.max(providers * KEPT_PER_UPSTREAM),
            // A kept connection that was gone, and a credential that was renewed.
            max_retries: 3,
            grace_period_seconds: Some(0),
            graceful_shutdown_timeout_seconds: Some(1),
            ..ServerConf::default()
        }
    }

    fn gateway(
        &self,
        conf: &Arc<ServerConf>,
    ) -> Result<impl pingora_core::services::ServiceWithDependents + 'static, Fault> {
        let settings = &self.settings;
        let config = Config {
            origins: self.origin_policy(settings.listen),
            access: Arc::clone(&self.services.access),
            max_body: self.services.max_body,
            api: api_config(settings),
        };
        let gateway = Gateway::new(
            config,
            Arc::clone(&self.services.exchange),
            Arc::clone(&self.services.metrics),
            Arc::clone(&self.sealer),
        );
        let mut proxy = pingora_proxy::http_proxy(conf, gateway);
        let mut options = HttpServerOptions::default();
        options.keepalive_request_limit = None;
        proxy.server_options = Some(options);
        let mut service = Service::new("gateway".to_owned(), proxy);
        service.add_listener(match &settings.tls {
            None => listener(settings.listen, PLAIN_READ),
            Some(tls) => {
                let (cert, key) = (path(&tls.cert_file)?, path(&tls.key_file)?);
                let tls = TlsSettings::intermediate(cert, key)
                    .map_err(|cause| Fault::Settings(format!("`tls`: {cause}")))?;
                listener(settings.listen, TLS_READ).tls(tls)
            }
        });
        Ok(service)
    }

    fn admin(&self, lifecycle: &Lifecycle) -> impl pingora_core::services::ServiceWithDependents + 'static {
        let settings = &self.settings;
        let (health, ready, collected) = (lifecycle.clone(), lifecycle.clone(), lifecycle.clone());
        let catalog = Arc::clone(&self.services.catalog);
        let origin_policy = self.origin_policy(settings.admin);
        let origins = origin_policy.clone();
        let admin = Admin {
            metrics: Arc::clone(&self.services.metrics),
            collect: Arc::new(move |metrics| collected.collect(metrics)),
            report: Arc::new(move || catalog.report()),
            health: Arc::new(move || health.health()),
            ready: Arc::new(move || ready.readiness()),
            host_allowed: Arc::new(move |host| origin_policy.host_allowed(host)),
            origin_allowed: Arc::new(move |origin| origins.origin_allowed(origin)),
            access: Arc::clone(&self.services.access),
            accounts: Arc::new(accounts::AdminAccounts {
                manager: Arc::clone(&self.services.exchange.accounts.manager),
                catalog: Arc::clone(&self.services.catalog),
            }),
            ids: Arc::default(),
        };
        let mut service = Service::new("admin".to_owned(), admin);
        service.threads = Some(1);
        service.add_listener(listener(settings.admin, PLAIN_READ));
        service
    }

    fn origin_policy(&self, listen: std::net::SocketAddr) -> OriginPolicy {
        let settings = &self.settings;
        OriginPolicy::new(
            listen,
            settings.tls.is_some(),
            settings.public_url.as_ref(),
            &settings.hosts,
            &settings.origins,
        )
    }
}

/// The runtime of background work, and what all network needs.
fn control() -> Result<tokio::runtime::Runtime, Fault> {
    // One TLS stack with one provider; a second installation would be an error we do not care for.
    rustls::crypto::ring::default_provider().install_default().ok();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(|cause| Fault::Machine(format!("no runtime: {cause}")))
}

/// `None`: by what is known of the client.
const fn answer_form(structured: Structured) -> Option<AnswerForm> {
    match structured {
        Structured::Auto => None,
        Structured::Full => Some(AnswerForm::Full),
        Structured::Meta => Some(AnswerForm::Meta),
        Structured::Off => Some(AnswerForm::Off),
    }
}

fn shown(settings: &Settings) -> Shown {
    Shown {
        name: settings.name.clone(),
        single: settings.facade.single,
        names: match settings.tool_names {
            ToolNames::Safe => Names::Safe,
            ToolNames::Dotted => Names::Dotted,
        },
        forms: AnswerForms::new(
            answer_form(settings.facade.structured),
            settings
                .facade
                .structured_clients
                .iter()
                .map(|(client, structured)| (client.as_str(), answer_form(*structured))),
        ),
    }
}

fn listener(address: std::net::SocketAddr, read: usize) -> ListenerConfig {
    ListenerConfig::tcp(address.to_string()).l4_buffer(L4BufferSettings::default().read(read))
}

/// Checks that an address can be bound: Pingora would panic without saying how to help.
fn check_free(address: std::net::SocketAddr, field: &str) -> Result<(), Fault> {
    TcpListener::bind(address).map(drop).map_err(|cause| {
        Fault::Machine(format!("`{field}`: {address} cannot be bound: {cause}; end what uses it, or choose another with `--{field}`"))
    })
}

fn path(path: &Path) -> Result<&str, Fault> {
    path.to_str()
        .ok_or_else(|| Fault::Settings(format!("`{}` is not UTF-8", path.display())))
}

/// An endpoint that no descriptor names, to be asked once.
pub(crate) fn endpoint_for_probe(
    target: pleiades_upstream::Transport,
    within: Duration,
) -> pleiades_upstream::Endpoint {
    pleiades_upstream::Endpoint {
        provider: Arc::from("add"),
        digest: [0; 32],
        target,
        revision: None,
        share: pleiades_upstream::SessionSharing::User,
        connect: within,
        call: within,
        idle: within,
    }
}

fn api_config(settings: &Settings) -> ApiConfig {
    let signing = settings.signing.as_ref();
    let allow = settings.connect_api.as_ref().map(|api| api.allow.as_slice());
    ApiConfig {
        inbound_keys: signing.map(|it| it.inbound_keys.clone()).unwrap_or_default(),
        allowed: ConnectAllowlist::new(allow.unwrap_or_default()),
    }
}

fn access(settings: &Settings, load: &LoadScope) -> Result<Access, Fault> {
    // Other commands act as the local caller without a request that would have to prove it.
    let local_key = (*load == LoadScope::All)
        .then(|| local::secret(settings))
        .flatten();
    let (declared, local) = (&settings.access, settings.access.local());
    let callers = declared.api_keys.iter();
    let operators = declared.admin_keys.iter();
    let grants = Grants {
        local: Principal::new(local.tenant, local.user),
        local_key,
        callers: callers
            .map(|key| (&*key.name, Principal::new(&*key.tenant, &*key.user), &*key.sha256))
            .collect(),
        operators: operators.map(|key| (&*key.name, &*key.sha256)).collect(),
        is_admin_local: settings.admin.ip().is_loopback(),
    };
    Access::new(grants).map_err(|fault| Fault::Settings(format!("`access`: {fault}")))
}

fn catalog_config(
    settings: &Settings,
    world: &pleiades_descriptor::ReadContext,
    principal: &Principal,
    manager: &Arc<CredentialManager>,
) -> catalog::Config {
    catalog::Config {
        folder: settings.providers.clone(),
        world: world.clone(),
        tenant: Arc::clone(&principal.tenant),
        user: Arc::clone(&principal.user),
        client_credentials: Arc::new(Arc::clone(manager)),
        exposure: settings.facade.exposure,
        pins: Arc::new(VaultPins(Arc::clone(manager.vault()))),
    }
}

fn shared_state(
    settings: &Settings,
    sealer: &Arc<Sealer>,
    control: &tokio::runtime::Handle,
    metrics: &Arc<Metrics>,
) -> Result<Arc<SharedState>, Fault> {
    let Some(shared) = &settings.shared_state else {
        return Ok(SharedState::alone());
    };
    let meeting = RedisConfig {
        url: shared.redis.clone(),
        name: settings.name.clone(),
        sealer: Arc::clone(sealer),
    };
    SharedState::redis(meeting, control, Arc::clone(metrics))
        .map_err(|error| Fault::Settings(error.to_string()))
}

fn has_accounts(descriptor: &pleiades_descriptor::Descriptor) -> bool {
    matches!(descriptor.auth, pleiades_descriptor::Auth::Oauth(_))
}

/// Reads descriptors. What a command is not about is left disabled, so that it reaches and starts
/// nothing else.
fn reader(world: pleiades_descriptor::ReadContext, load: LoadScope) -> catalog::DescriptorReader {
    Arc::new(move |file, text| {
        let mut read = pleiades_descriptor::read(file, text, &world);
        let is_meant = match &load {
            LoadScope::All => return read,
            LoadScope::One(id) => read.id.as_ref() == Some(id),
            LoadScope::Accounts => read.descriptor.as_ref().is_some_and(has_accounts),
            LoadScope::Login(id) => read.descriptor.as_ref().is_some_and(|it| {
                let is_machine = matches!(it.auth, pleiades_descriptor::Auth::ClientCredentials(_));
                has_accounts(it) || (is_machine && it.id == *id)
            }),
        };
        if !is_meant {
            read.enabled = false;
            read.descriptor = None;
            read.faults.clear();
        }
        read
    })
}
