//! The command line: `docs/COMMANDS.md`.

pub mod check;
pub mod explain;
pub mod schema;

mod accounts;
mod add;
mod approve;
mod call;
mod catalog_file;
mod connect;
mod demo;
mod doctor;
mod exit;
mod facade;
mod file;
mod import;
mod install;
mod invocation;
mod key;
mod provider_access;
mod providers;
mod rank;
mod serve;
mod stdio;
mod ui;
mod vault;

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, builder::NonEmptyStringValueParser};

use crate::app::{self, App, LoadScope, RunningGateway, RuntimeFile};
use pleiades_core::telemetry::{self, tail::Tail};
use pleiades_core::text::printable;
use pleiades_descriptor::reader::near;
use pleiades_descriptor::settings::{self, LoadedSettings, Overrides, Settings};
use pleiades_descriptor::{Fault, Severity};
use provider_access::ProviderChoice;

/// One endpoint in front of many MCP servers.
#[derive(Debug, Parser)]
#[command(name = "pleiades", version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(flatten)]
    addresses: Addresses,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Valid for every subcommand.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Settings file; default `./pleiades.yaml`, else the XDG configuration folder, else defaults.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Folder of the descriptors; default `providers.d`.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) providers: Option<PathBuf>,
    /// Tenant that a command acts for; default: that of `access.local`.
    #[arg(long, global = true, value_name = "TENANT", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) tenant: Option<String>,
    /// User that a command acts as; default: that of `access.local`.
    #[arg(long, global = true, value_name = "USER", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) user: Option<String>,
    /// Stable machine-readable output.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// Addresses of `serve`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Addresses {
    /// Public listener, for example `127.0.0.1:8787`.
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// Admin listener, for example `127.0.0.1:8788`.
    #[arg(long, value_name = "ADDR")]
    pub(crate) admin: Option<SocketAddr>,
}

/// What `check` looks at, and how.
#[derive(Debug, Args)]
struct Checking {
    /// Installations, folders or files; default: the settings and their providers.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Ask the network too: names, connections.
    #[arg(long)]
    online: bool,
    /// Warnings are faults, and so is what an installation that several people share must not have.
    #[arg(long)]
    strict: bool,
}

impl Global {
    /// What these options say in place of the settings.
    fn overrides(&self) -> Overrides {
        Overrides {
            providers: self.providers.clone(),
            ..Overrides::default()
        }
    }

    /// Lets a command act as somebody else than `access.local`.
    fn act(&self, settings: &mut Settings) {
        if self.tenant.is_none() && self.user.is_none() {
            return;
        }
        let mut local = settings.access.local();
        if let Some(tenant) = &self.tenant {
            local.tenant.clone_from(tenant);
        }
        if let Some(user) = &self.user {
            local.user.clone_from(user);
        }
        settings.access.local = Some(local);
    }
}

impl Global {
    /// Whether a command acts as the local caller of these settings.
    fn is_local(&self, settings: &Settings) -> bool {
        let local = settings.access.local();
        let is = |given: &Option<String>, known: &str| given.as_deref().is_none_or(|given| given == known);
        is(&self.tenant, &local.tenant) && is(&self.user, &local.user)
    }
}

impl Addresses {
    /// These, and those given before the subcommand where these say nothing.
    fn or(&self, outer: &Self) -> Self {
        Self {
            listen: self.listen.or(outer.listen),
            admin: self.admin.or(outer.admin),
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the providers over HTTP (the default).
    Serve(#[command(flatten)] Addresses),
    /// Report every fault of settings and descriptors, each with its place and cure.
    Check(#[command(flatten)] Checking),
    /// Print the JSON Schemas of descriptors and settings, or write them to a folder.
    Schema {
        /// Folder to write `provider.json` and `settings.json` to.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Serve over stdin and stdout, for desktop clients.
    Stdio,
    /// A small MCP server over stdin and stdout, for a first call; needs nothing but this program.
    Demo,
    /// List a provider's tools, or the providers.
    Tools {
        /// The provider's id; without one the providers are listed.
        provider: Option<String>,
        /// The account to use; default: the default account.
        #[arg(long, value_name = "NAME", requires = "provider")]
        account: Option<String>,
        /// Show how definitions differ from the approved ones (`tools.pin`), and approve them.
        #[arg(long, requires = "provider")]
        approve: bool,
    },
    /// Call a provider's tool.
    Call {
        #[command(flatten)]
        choice: ProviderChoice,
        /// The tool's name.
        tool: String,
        /// Its arguments as a JSON object; `-` reads them from stdin.
        #[arg(value_name = "JSON")]
        arguments: Option<String>,
    },
    /// Connect an account of a provider: opens the browser, waits, prints the account.
    Connect(#[command(flatten)] connect::ConnectRequest),
    /// List accounts, choose the default, store or revoke one.
    #[command(args_conflicts_with_subcommands = true)]
    Accounts {
        /// List everybody's, as `list --all` does.
        #[arg(long)]
        all: bool,
        #[command(subcommand)]
        command: Option<accounts::AccountsCommand>,
    },
    /// Say what an error code, status, JSON-RPC number or exit code means, and what to do.
    Explain {
        /// The code, for example `upstream_timeout` or `-32602`; without one all are listed.
        #[arg(allow_negative_numbers = true)]
        code: Option<String>,
    },
    /// Look at every step on the way to a provider, each with its cure.
    Doctor {
        #[command(flatten)]
        choice: ProviderChoice,
        /// Renew the account's token, instead of only looking how that stands.
        #[arg(long)]
        refresh: bool,
    },
    /// Write a descriptor for each server of a client's configuration.
    Import {
        /// `mcp.json`, `claude_desktop_config.json`, `.vscode/mcp.json` or a relative of them.
        file: PathBuf,
    },
    /// Write this gateway into a client's configuration; shows the change first.
    Install(#[command(flatten)] install::InstallRequest),
    /// Make a key for a caller or an operator, and the digest of it that the settings name.
    Key {
        /// Read a key from stdin instead, and print its digest.
        #[arg(value_name = "-", value_parser = ["-"])]
        given: Option<String>,
    },
    /// Work on where credentials are kept.
    #[command(subcommand)]
    Vault(vault::VaultCommand),
    /// Ask a server what it is and write its descriptor.
    Add(#[command(flatten)] add::AddRequest),
    /// Say what the meta tool makes of given calls; nothing is sent.
    #[command(hide = true)]
    Facade(#[command(flatten)] facade::FacadeFiles),
    /// Say which operations given prompts find; nothing is sent.
    #[command(hide = true)]
    Rank(#[command(flatten)] rank::RankFiles),
}

/// Runs the program.
#[must_use]
pub fn run() -> ExitCode {
    restrict();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not faults.
            let code = if error.use_stderr() { exit::USAGE } else { exit::OK };
            error.print().ok();
            return ExitCode::from(code);
        }
    };
    begin_log(cli.command.as_ref());
    let Cli {
        global,
        addresses,
        command,
    } = cli;
    // What is left of the command is not used any more.
    let work = AssertUnwindSafe(|| dispatch(&global, &addresses, command));
    let code = catch_unwind(work).unwrap_or(Err(exit::SOFTWARE));
    telemetry::log::flush();
    ExitCode::from(code.unwrap_or_else(|code| code))
}

fn dispatch(global: &Global, addresses: &Addresses, command: Option<Command>) -> Result<u8, u8> {
    match command {
        None => serve::run(global, addresses),
        Some(Command::Serve(own)) => serve::run(global, &own.or(addresses)),
        Some(Command::Check(checking)) => Ok(checked(global, checking)),
        Some(Command::Schema { out }) => Ok(written(schema::run(out.as_deref(), &mut anstream::stdout()))),
        Some(Command::Stdio) => stdio::run(global),
        Some(Command::Demo) => demo::run(),
        Some(Command::Tools {
            provider: Some(provider),
            account,
            approve,
        }) => {
            let choice = ProviderChoice { provider, account };
            match approve {
                true => approve::run(global, &choice),
                false => call::tools(global, &choice),
            }
        }
        Some(Command::Tools { provider: None, .. }) => providers::run(global),
        Some(Command::Call {
            choice,
            tool,
            arguments,
        }) => call::call(global, &choice, (&tool, arguments.as_deref())),
        Some(Command::Connect(request)) => connect::run(global, &request),
        Some(Command::Accounts { all, command }) => {
            let list = accounts::AccountsCommand::List { all };
            accounts::run(global, command.unwrap_or(list))
        }
        Some(Command::Doctor { choice, refresh }) => doctor::run(global, &choice, refresh),
        Some(Command::Import { file }) => import::run(global, &file),
        Some(Command::Install(request)) => install::run(global, &request),
        Some(Command::Key { given }) => key::run(global, given.is_some()),
        Some(Command::Vault(command)) => vault::run(global, &command),
        Some(Command::Explain { code }) => Ok(explain::run(global.json, code.as_deref())),
        Some(Command::Add(request)) => add::run(global, &request),
        Some(Command::Facade(files)) => facade::run(&files),
        Some(Command::Rank(files)) => rank::run(&files),
    }
}

/// Servers log what happens; other commands say themselves what they did, and log for `RUST_LOG` alone.
fn begin_log(command: Option<&Command>) {
    match command {
        None | Some(Command::Serve(_) | Command::Stdio) => {
            telemetry::log::init(telemetry::log::LogFormat::Auto);
        }
        // It shows the last lines that a child process wrote.
        Some(Command::Doctor { .. } | Command::Add(_)) => {}
        Some(_) => telemetry::log::init_quiet(Tail::default()),
    }
}

/// Before anything that is a secret is read.
fn restrict() {
    if let Err(cause) = app::keep_private() {
        ui::err(format_args!(
            "what other processes may see of this one could not be restricted: {cause}"
        ));
    }
}

/// Loads the settings, for whom the command acts; faults are printed, and decide the exit code.
pub(crate) fn settings(global: &Global, overrides: &Overrides) -> Result<Settings, u8> {
    let mut settings = load(global, overrides)?.settings;
    global.act(&mut settings);
    Ok(settings)
}

/// Loads the settings as they are, with the file that they are from.
pub(crate) fn load(global: &Global, overrides: &Overrides) -> Result<LoadedSettings, u8> {
    let loaded = settings::load(global.config.as_deref(), overrides);
    // Notes are for `check`: every command would say them.
    let is_note = |fault: &&Fault| matches!(fault.severity, Severity::Private | Severity::Note);
    for fault in loaded.faults.iter().filter(|fault| !is_note(fault)) {
        ui::err(fault);
    }
    if loaded.faults.iter().any(Fault::is_fatal) {
        ui::fail("the settings are broken; `pleiades check` tells the same");
        return Err(exit::CONFIG);
    }
    Ok(loaded)
}

/// Loads the settings and builds the services; faults are printed, and decide the exit code.
pub(crate) fn open(global: &Global, overrides: &Overrides, only: Option<&str>) -> Result<App, u8> {
    let load = only.map_or(LoadScope::All, |id| LoadScope::One(id.to_owned()));
    build(settings(global, overrides)?, load)
}

/// The settings for a command that names the gateway's addresses, with those of the gateway of the same settings
/// that runs, which may have been given others.
pub(crate) fn beside_gateway(global: &Global) -> Result<(Settings, Option<RunningGateway>), u8> {
    let overrides = global.overrides();
    let loaded = load(global, &overrides)?;
    let running = RuntimeFile::of(&loaded, &overrides).running();
    let mut settings = loaded.settings;
    if let Some(gateway) = &running {
        // It listens on this address of loopback as on others, where it listens on all.
        match settings.listen.ip().is_unspecified() {
            true => settings.listen.set_port(gateway.address.port()),
            false => settings.listen = gateway.address,
        }
    }
    global.act(&mut settings);
    Ok((settings, running))
}

pub(crate) fn build(settings: Settings, load: LoadScope) -> Result<App, u8> {
    App::build(settings, load).map_err(failed)
}

fn failed(fault: app::Fault) -> u8 {
    ui::fail(&fault);
    exit_code(&fault)
}

const fn exit_code(fault: &app::Fault) -> u8 {
    match fault {
        app::Fault::Settings(_) => exit::CONFIG,
        app::Fault::Machine(_) => exit::UNAVAILABLE,
    }
}

/// Why a provider is not known, and which ones may have been meant.
fn unknown_provider<'a>(folder: &Path, asked: &str, ids: impl Iterator<Item = &'a str>) -> String {
    let near: Vec<String> = near(asked, ids).iter().map(|name| format!("`{name}`")).collect();
    let hint = match near.as_slice() {
        [] => "`pleiades tools` lists what is there".to_owned(),
        near => format!("did you mean {}", near.join(" or ")),
    };
    let (asked, folder) = (printable(asked, 64), folder.display());
    format!("no descriptor in {folder} has the id `{asked}`; {hint}")
}

/// Runs work of a command; `None` when a signal arrived first. Child processes end with [`App::stop`].
pub(crate) fn until_signal<T>(app: &App, work: impl Future<Output = T>) -> Option<T> {
    until_signal_on(app.control(), work)
}

/// The same on any runtime.
fn until_signal_on<T>(runtime: &tokio::runtime::Runtime, work: impl Future<Output = T>) -> Option<T> {
    runtime.block_on(async {
        tokio::select! {
            // Signals first: the work may start a process, which has to be ended then.
            biased;
            () = app::termination_signal() => None,
            done = work => Some(done),
        }
    })
}

fn checked(global: &Global, checking: Checking) -> u8 {
    let options = check::Options {
        paths: checking.paths,
        online: checking.online,
        strict: checking.strict,
        json: global.json,
        config: global.config.clone(),
        overrides: global.overrides(),
    };
    check::run(&options, &mut anstream::stdout(), &mut anstream::stderr())
        .unwrap_or_else(|cause| written(Err(cause)))
}

/// A reader that went away is no fault of ours.
fn written(outcome: std::io::Result<()>) -> u8 {
    match outcome {
        Ok(()) => exit::OK,
        Err(cause) if cause.kind() == std::io::ErrorKind::BrokenPipe => exit::OK,
        Err(cause) => {
            ui::fail(cause);
            exit::UNAVAILABLE
        }
    }
}
