//! Settings of the process: `pleiades.yaml`, the command line's overrides, and the environment,
//! which only this module reads.

mod access;
mod load;
mod meaning;
mod parts;
mod vault;

pub use access::{AccessSettings, AdminKey, CallerKey, Jwt, LocalCaller, LoginSettings};
pub use load::{FILE, admin_key, data_folder, file, load, runtime_folder};
pub use parts::{
    Audit, ConnectApi, ConnectSettings, FacadeSettings, ListenerTls, OnFailure, SchedulerSettings, Seal,
    SharedStateSettings, Shutdown, Signing, Structured, Telemetry, ToolNames,
};
pub use vault::{AppRole, FileVault, HashicorpSettings, JwtLogin, Kubernetes, VaultAuth, VaultSettings};

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    Environment, Exposure, Fault, ReadContext, References, SecretSource, Size,
    schema::{internal, publish},
};

/// Settings of the process. Every text may hold `${NAME}` and `${file:/path}`; `$${` is a literal `${`;
/// paths are relative to this file.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "Pleiades settings")]
pub struct Settings {
    /// Name in `serverInfo`, and of the single tool `use_{name}`: 1 to 63 of `a-z`, `0-9`, `_`, `-`,
    /// beginning with a letter or digit.
    #[schemars(extend("pattern" = "^[a-z0-9][a-z0-9_-]{0,62}$", "x-check" = "name"))]
    pub name: String,
    /// How tools and prompts of several providers are named: `safe`, `{provider}__{tool}` in at most 64 of
    /// `A-Z a-z 0-9 _ -`, which all models take; or `dotted`, `{provider}.{tool}` as the provider spells
    /// it. Calls take both; a URL's `?names=safe` or `?names=dotted` wins.
    pub tool_names: ToolNames,
    /// Address and port of the public listener. Off loopback, `access` must name callers.
    #[schemars(with = "String", extend("x-check" = "address"))]
    pub listen: SocketAddr,
    /// Address and port of the admin listener.
    #[schemars(with = "String", extend("x-check" = "address"))]
    pub admin: SocketAddr,
    /// URL that callers reach the public listener at, when it is not its address; unless that is loopback,
    /// `access` must name callers. Default: none.
    #[serde(deserialize_with = "crate::scalar::url")]
    #[schemars(with = "Option<String>", extend("x-check" = "url"))]
    pub public_url: Option<url::Url>,
    /// Certificate of the public listener. Default: plain HTTP.
    pub tls: Option<ListenerTls>,
    /// Networks of proxies whose `Forwarded` headers are believed; `access` must name callers. Default: none.
    /// Not built yet.
    pub trusted_proxies: Vec<String>,
    /// Host names accepted beside loopback names, IP literals and the host of `public_url`; unless they are
    /// loopback too, `access` must name callers. Default: none.
    pub hosts: Vec<String>,
    /// Origins accepted beside the listener's own and `public_url`'s: scheme, host and port. Default:
    /// none.
    pub origins: Vec<String>,
    /// Folder of the descriptors.
    pub providers: PathBuf,
    /// What `${…}` in descriptors may name.
    pub references: References,
    /// Largest body of a request, 1KiB to 1GiB.
    #[schemars(extend("x-min" = "1KiB", "x-max" = "1GiB"))]
    pub max_body: Size,
    /// Whether descriptors may start processes. Default: true on loopback with the file vault, else
    /// false.
    pub commands: Option<bool>,
    /// How tools are shown.
    pub facade: FacadeSettings,
    /// Where credentials are kept: exactly one kind. Default: an encrypted file.
    pub vault: VaultSettings,
    /// How connecting an account goes.
    pub connect: ConnectSettings,
    /// Keys that seal session ids.
    pub seal: Seal,
    /// Who may call.
    pub access: AccessSettings,
    /// Who may connect servers that no descriptor names. Default: nobody.
    pub connect_api: Option<ConnectApi>,
    /// Keys of signed requests. Default: none.
    pub signing: Option<Signing>,
    /// A scheduler that is told when to refresh. Default: none.
    pub scheduler: Option<SchedulerSettings>,
    /// What replicas share. Default: nothing.
    pub shared_state: Option<SharedStateSettings>,
    /// Where the audit trail goes. Not built yet.
    pub audit: Audit,
    /// Where traces go. Default: nowhere. Not built yet.
    pub telemetry: Option<Telemetry>,
    /// How the process ends.
    pub shutdown: Shutdown,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: "pleiades".to_owned(),
            tool_names: ToolNames::default(),
            listen: SocketAddr::from(([127, 0, 0, 1], 8787)),
            admin: SocketAddr::from(([127, 0, 0, 1], 8788)),
            public_url: None,
            tls: None,
            trusted_proxies: Vec::new(),
            hosts: Vec::new(),
            origins: Vec::new(),
            providers: PathBuf::from("providers.d"),
            references: References::default(),
            max_body: Size(8 << 20),
            commands: None,
            facade: FacadeSettings::default(),
            vault: VaultSettings::default(),
            connect: ConnectSettings::default(),
            seal: Seal::default(),
            access: AccessSettings::default(),
            connect_api: None,
            signing: None,
            scheduler: None,
            shared_state: None,
            audit: Audit::default(),
            telemetry: None,
            shutdown: Shutdown::default(),
        }
    }
}

/// Warning that nobody is named in `access`, at the start and in `check`.
pub const OPEN: &str = "callers are not authenticated: whoever reaches this address from this machine is the local \
                        user, and so is everybody whom a proxy or a tunnel on this machine lets through";

impl Settings {
    /// Whether the public listener is on a loopback address.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.listen.ip().is_loopback()
    }

    /// Whether descriptors may start processes.
    #[must_use]
    pub fn commands(&self) -> bool {
        let usual = self.is_loopback() && matches!(self.vault, VaultSettings::File(_));
        self.commands.unwrap_or(usual)
    }
}

/// Options of the command line, which win over the file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--providers`, relative to the working folder.
    pub providers: Option<PathBuf>,
    /// `--listen`.
    pub listen: Option<SocketAddr>,
    /// `--admin`.
    pub admin: Option<SocketAddr>,
}

/// Settings as they were found.
#[derive(Debug)]
pub struct LoadedSettings {
    /// Defaults stand in for what is faulty; use only when no fault is fatal.
    pub settings: Settings,
    /// The file, when there is one.
    pub file: Option<PathBuf>,
    /// Where the file names the folder of the descriptors: line and column, 1-based, in characters.
    pub providers_at: Option<(usize, usize)>,
    /// Where the file says who may call.
    pub access_at: Option<(usize, usize)>,
    /// Everything there is to say.
    pub faults: Vec<Fault>,
}

/// What descriptors read under these settings may depend on. Vault is not asked: whoever has a way to
/// it adds it.
#[must_use]
pub fn read_context(settings: &Settings) -> ReadContext {
    let secrets = match &settings.vault {
        VaultSettings::File(_) => SecretSource::None,
        VaultSettings::Hashicorp(vault) => SecretSource::Vault {
            mount: vault.mount.trim_matches('/').to_owned(),
            prefix: vault.prefix.trim_matches('/').to_owned(),
            lookup: None,
        },
    };
    ReadContext {
        env: environment(),
        references: settings.references.clone(),
        secrets,
        commands: settings.commands(),
        loopback: settings.is_loopback(),
    }
}

/// The process's environment, as descriptors and `stdio` may look it up.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one reader of the environment"
)]
pub fn environment() -> Environment {
    Arc::new(|name| std::env::var(name).ok())
}

/// The published schema of the settings.
#[must_use]
pub fn schema() -> serde_json::Value {
    publish(&internal::<Settings>(), "settings.json")
}

/// The process's whole environment, for the minimal one that children get.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one reader of the environment"
)]
pub fn variables() -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
    std::env::vars_os().collect()
}
