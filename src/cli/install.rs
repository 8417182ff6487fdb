//! `pleiades install`: this gateway in a client's configuration, and out of it again.
//!
//! All else in the file stays byte for byte, what is to change is shown first, and nothing is written that could
//! not be read back. No key is written: entries name the variable that the client takes it from.

mod client;
mod edit;
mod json;
#[cfg(test)]
mod tests;
mod toml;
mod write;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{BufRead as _, ErrorKind, IsTerminal as _};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use url::Url;

use super::import::document::FileFormat;
use super::import::tree::{self, DocumentNode, Kind, SyntaxFault};
use super::invocation::DATA_HOME;
use super::ui::{self, BOLD, DIM, GREEN, RED};
use super::{Global, exit};
use crate::app::RuntimeFile;
use client::{Client, ClientSystem, EntryTarget, KEY_VARIABLE, is_ours};
use edit::FileChange;
use pleiades_descriptor::reader;
use pleiades_descriptor::settings::{self, Settings};
use write::ClientFile;

const BOM: &str = "\u{feff}";
/// Texts up to this size are read as trees and compared, in bytes.
const COMPARED: usize = 8 << 20;
/// Members of an entry whose values may be shown.
const SHOWN: [&str; 6] = ["type", "url", "serverUrl", "httpUrl", "command", "args"];

/// Which client, and how.
#[derive(Debug, clap::Args)]
pub(super) struct InstallRequest {
    /// The client.
    #[arg(value_enum)]
    client: Client,
    /// Take it back; all else in the file stays byte for byte.
    #[arg(long)]
    remove: bool,
    /// Write without asking.
    #[arg(long)]
    yes: bool,
    /// Lose an entry of the same name that leads elsewhere.
    #[arg(long)]
    force: bool,
    /// The client's file; default: that of this user.
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
}

/// What became of the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InstallOutcome {
    Installed,
    Updated,
    Replaced,
    Already,
    Removed,
    Absent,
}

impl InstallOutcome {
    const fn word(self) -> &'static str {
        match self {
            Self::Installed => "installed",
            Self::Updated => "updated",
            Self::Replaced => "replaced",
            Self::Already => "already",
            Self::Removed => "removed",
            Self::Absent => "absent",
        }
    }

    const fn is_change(self) -> bool {
        !matches!(self, Self::Already | Self::Absent)
    }
}

/// A change that was not made yet.
#[derive(Debug)]
struct InstallPlan {
    outcome: InstallOutcome,
    change: FileChange,
    old: Option<Value>,
    new: Option<Value>,
}

/// Why nothing was written: the exit code, and what is said.
type InstallRefusal = (u8, String);

/// Which entry of which file, and what it is to be.
#[derive(Debug)]
struct ClientInstallation<'a> {
    request: &'a InstallRequest,
    name: &'a str,
    settings: &'a Settings,
    target: EntryTarget,
    file: ClientFile,
}

pub(super) fn run(global: &Global, request: &InstallRequest) -> Result<u8, u8> {
    let overrides = global.overrides();
    let loaded = super::load(global, &overrides)?;
    // `serve --listen` may have given it another address than the settings.
    let running = RuntimeFile::of(&loaded, &overrides).running();
    let mut settings = loaded.settings;
    if let Some(gateway) = running {
        settings.listen = gateway.address;
    }
    let ended = install(global, &settings, request);
    ended.map(|()| exit::OK).map_err(|(code, message)| {
        ui::fail(message);
        code
    })
}

fn install(global: &Global, settings: &Settings, request: &InstallRequest) -> Result<(), InstallRefusal> {
    let path = path(request)?;
    let file = ClientFile::read(&path)
        .map_err(|cause| (exit::UNAVAILABLE, format!("{}: {cause}", path.display())))?;
    let installation = ClientInstallation {
        request,
        name: &settings.name,
        settings,
        target: target(global, settings, request.client)?,
        file,
    };
    let (bom, text) = installation.text()?;
    let plan = installation.plan(&text)?;
    if plan.outcome.is_change() {
        installation.check_folder()?;
        installation.show(&text, &plan);
        confirm(request)?;
        installation.write(bom, &plan)?;
    }
    installation.report(global.json, &plan);
    Ok(())
}

fn path(request: &InstallRequest) -> Result<PathBuf, InstallRefusal> {
    if let Some(file) = &request.file {
        return Ok(file.clone());
    }
    let variables = settings::variables();
    let variable = |name: &str| {
        let found = variables.iter().find(|(known, _)| known == name);
        found
            .map(|(_, value)| PathBuf::from(value))
            .filter(|path| path.is_absolute())
    };
    let title = request.client.title();
    request
        .client
        .file(ClientSystem::here(), variable)
        .ok_or_else(|| {
            let why =
                format!("where {title} keeps its settings is not known here: name the file with `--file`");
            (exit::USAGE, why)
        })
}

fn target(global: &Global, settings: &Settings, client: Client) -> Result<EntryTarget, InstallRefusal> {
    if client.starts_commands_only() {
        return command(global, settings);
    }
    Ok(EntryTarget::Http {
        url: address(settings).map_err(|cause| (exit::CONFIG, format!("no URL of `listen`: {cause}")))?,
        has_key: !settings.access.api_keys.is_empty(),
    })
}

/// The meta view as callers on this machine reach it.
pub(super) fn address(settings: &Settings) -> Result<Url, url::ParseError> {
    let mut url = if let Some(url) = &settings.public_url {
        url.clone()
    } else {
        let mut listen = settings.listen;
        if listen.ip().is_unspecified() {
            listen.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        let scheme = if settings.tls.is_some() { "https" } else { "http" };
        Url::parse(&format!("{scheme}://{listen}/"))?
    };
    let path = format!("{}/mcp", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Ok(url)
}

/// This program with the same settings, from whatever folder the client starts it in.
fn command(global: &Global, settings: &Settings) -> Result<EntryTarget, InstallRefusal> {
    let program = std::env::current_exe().ok().filter(|file| file.is_file());
    let program = program.ok_or_else(|| {
        let why = "the file of this program was replaced or removed since it started: run this again";
        (exit::UNAVAILABLE, why.to_owned())
    })?;
    let text = |path: &Path| {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let text = path.to_str().map(str::to_owned);
        text.ok_or_else(|| {
            (
                exit::USAGE,
                format!("{}: not UTF-8, which JSON is", path.display()),
            )
        })
    };
    let config = settings::file(global.config.as_deref());
    let mut args = Vec::new();
    if let Some(config) = &config {
        args.extend(["--config".to_owned(), text(config)?]);
    }
    if global.providers.is_some() || config.is_none() {
        if !settings.providers.is_dir() {
            let folder = settings.providers.display();
            let why =
                format!("there is no folder {folder} here: name that of the descriptors with `--providers`");
            return Err((exit::USAGE, why));
        }
        args.extend(["--providers".to_owned(), text(&settings.providers)?]);
    }
    args.push("stdio".to_owned());
    Ok(EntryTarget::Stdio {
        command: text(&program)?,
        args,
    })
}

impl ClientInstallation<'_> {
    fn client(&self) -> Client {
        self.request.client
    }

    /// The file's text, and the mark before it.
    fn text(&self) -> Result<(&'static str, String), InstallRefusal> {
        let bytes = self.file.bytes.as_deref().unwrap_or_default();
        let text = tree::text(bytes).map_err(|fault| self.at_fault(&fault))?;
        let bom = if text.len() < bytes.len() { BOM } else { "" };
        Ok((bom, text.to_owned()))
    }

    fn at_fault(&self, fault: &SyntaxFault) -> InstallRefusal {
        let (path, at) = (self.file.path.display(), fault.at);
        let (message, cure) = (&fault.message, fault.cure);
        (
            exit::USAGE,
            format!(
                "{path}:{}:{}: {message}; nothing was written\n    {cure}",
                at.line, at.column
            ),
        )
    }

    fn plan(&self, text: &str) -> Result<InstallPlan, InstallRefusal> {
        let planned = if self.request.remove {
            self.plan_removal(text)?
        } else {
            self.plan_entry(text)?
        };
        self.check(text, &planned)?;
        Ok(planned)
    }

    fn plan_entry(&self, text: &str) -> Result<InstallPlan, InstallRefusal> {
        let wanted = self.client().entry(&self.target);
        let old = self.entry(text)?;
        let (outcome, changed) = match &old {
            None => (InstallOutcome::Installed, self.inserted(text, &wanted)),
            Some(old) if !is_ours(old, &self.target) => {
                self.needs_force()?;
                (InstallOutcome::Replaced, self.replaced(text, &wanted))
            }
            Some(entry) if self.is_current(entry, &wanted) => (InstallOutcome::Already, Ok(text.to_owned())),
            Some(entry) => (InstallOutcome::Updated, self.updated(text, entry, &wanted)),
        };
        let changed = changed.map_err(|fault| self.at_fault(&fault))?;
        Ok(InstallPlan {
            outcome,
            change: FileChange::Text(changed),
            old,
            new: Some(Value::Object(wanted)),
        })
    }

    fn plan_removal(&self, text: &str) -> Result<InstallPlan, InstallRefusal> {
        let old = self.entry(text)?;
        let (outcome, change) = match &old {
            None => (InstallOutcome::Absent, FileChange::Unchanged),
            Some(entry) => {
                if !is_ours(entry, &self.target) {
                    self.needs_force()?;
                }
                let place = self.client().place(self.name);
                let removed = if self.client().is_toml() {
                    toml::remove(text, place)
                } else {
                    json::remove(text, place)
                };
                (
                    InstallOutcome::Removed,
                    removed.map_err(|fault| self.at_fault(&fault))?,
                )
            }
        };
        Ok(InstallPlan {
            outcome,
            change,
            old,
            new: None,
        })
    }

    fn entry(&self, text: &str) -> Result<Option<Value>, InstallRefusal> {
        let place = self.client().place(self.name);
        let entry = if self.client().is_toml() {
            toml::entry(text, place)
        } else {
            json::entry(text, place)
        };
        entry.map_err(|fault| self.at_fault(&fault))
    }

    fn inserted(&self, text: &str, wanted: &Map<String, Value>) -> Result<String, SyntaxFault> {
        let (place, wanted) = (self.client().place(self.name), Value::Object(wanted.clone()));
        match (self.client().is_toml(), self.file.bytes.is_none()) {
            (true, true) => Ok(toml::new_file(place, &wanted)),
            (true, false) => Ok(toml::insert(text, place, &wanted)),
            (false, true) => Ok(json::new_file(place, &wanted)),
            (false, false) => json::insert(text, place, &wanted),
        }
    }

    fn is_current(&self, entry: &Value, wanted: &Map<String, Value>) -> bool {
        let is_same = |(key, value): (&String, &Value)| entry.get(key) == Some(value);
        wanted.iter().all(is_same) && self.client().stale(entry, &self.target).is_none()
    }

    fn updated(&self, text: &str, entry: &Value, wanted: &Map<String, Value>) -> Result<String, SyntaxFault> {
        let place = self.client().place(self.name);
        let is_toml = self.client().is_toml();
        let text = match self.client().stale(entry, &self.target) {
            None => text.to_owned(),
            Some(key) if is_toml => toml::remove_key(text, place, key)?,
            Some(key) => json::remove_key(text, place, key)?,
        };
        if is_toml {
            toml::update(&text, place, wanted)
        } else {
            json::update(&text, place, wanted)
        }
    }

    /// With `--force`: the entry of somebody else is gone.
    fn replaced(&self, text: &str, wanted: &Map<String, Value>) -> Result<String, SyntaxFault> {
        let place = self.client().place(self.name);
        if !self.client().is_toml() {
            return json::overwrite(text, place, &Value::Object(wanted.clone()));
        }
        let rest = match toml::remove(text, place)? {
            FileChange::Text(rest) => rest,
            FileChange::Removed => String::new(),
            FileChange::Unchanged => text.to_owned(),
        };
        Ok(toml::insert(&rest, place, &Value::Object(wanted.clone())))
    }

    fn needs_force(&self) -> Result<(), InstallRefusal> {
        if self.request.force {
            return Ok(());
        }
        let (name, path) = (self.name, self.file.path.display());
        let why = format!(
            "{path} has an entry `{name}` that leads elsewhere; nothing was written\n    \
             choose another `name` in the settings, or give `--force` to lose that entry"
        );
        Err((exit::USAGE, why))
    }

    /// What is to be written can be read, says what it should, and all else as before.
    fn check(&self, old: &str, plan: &InstallPlan) -> Result<(), InstallRefusal> {
        let FileChange::Text(new) = &plan.change else {
            return Ok(());
        };
        let found = self.entry(new);
        let is_right = match (&plan.new, found) {
            (None, Ok(found)) => found.is_none(),
            (Some(Value::Object(wanted)), Ok(Some(found))) => {
                wanted.iter().all(|(key, value)| found.get(key) == Some(value))
            }
            _ => false,
        };
        if is_right && self.is_same_beside(old, new) {
            return Ok(());
        }
        let path = self.file.path.display();
        let why = format!("{path} is set in a way that cannot be changed safely: change it by hand");
        Err((exit::USAGE, why))
    }

    /// Whether two texts say the same beside the entry; of large files the way they are changed has to be enough.
    fn is_same_beside(&self, old: &str, new: &str) -> bool {
        let format = if self.client().is_toml() {
            FileFormat::Toml
        } else {
            FileFormat::Json
        };
        let beside = |text: &str| {
            let mut root = format.read(text.as_bytes()).ok()?;
            take_out(&mut root, self.client().container(), self.name);
            Some(root)
        };
        if new.len() > COMPARED {
            return true;
        }
        match (beside(old), beside(new)) {
            (Some(old), Some(new)) => old == new,
            // A file without a value, or nested deeper than is read so.
            (None, Some(new)) => new.members().is_empty(),
            (old, None) => old.is_none_or(|old| old.members().is_empty()),
        }
    }

    /// The change, without what may be a secret.
    fn show(&self, text: &str, plan: &InstallPlan) {
        let path = self.file.path.display();
        let changed = match &plan.change {
            FileChange::Text(changed) => changed.as_str(),
            FileChange::Removed | FileChange::Unchanged => "",
        };
        let same = text
            .bytes()
            .zip(changed.bytes())
            .take_while(|(old, new)| old == new)
            .count();
        let line = edit::line_of(text, same);
        let heading = match (&plan.change, self.file.bytes.is_some()) {
            (FileChange::Removed, _) => format!("{path}: the file is removed"),
            (_, false) => format!("{path}: a new file"),
            (_, true) => format!("{path}, line {line}"),
        };
        ui::err(format_args!("{BOLD}{heading}{BOLD:#}"));
        if let Some(old) = &plan.old {
            for line in self.lines(old) {
                ui::err(format_args!("{RED}- {line}{RED:#}"));
            }
        }
        if let Some(new) = &plan.new {
            for line in self.lines(new) {
                ui::err(format_args!("{GREEN}+ {line}{GREEN:#}"));
            }
        }
    }

    fn lines(&self, entry: &Value) -> Vec<String> {
        let shown = shown(self.client(), entry, &self.target);
        let name = self.name;
        let text = if self.client().is_toml() {
            toml::new_file(self.client().place(name), &shown)
        } else {
            format!("\"{name}\": {shown:#}")
        };
        text.lines().map(str::to_owned).collect()
    }

    /// A folder that is not there is not made: most often the client is not installed.
    fn check_folder(&self) -> Result<(), InstallRefusal> {
        let folder = self.file.folder();
        if !folder.is_dir() {
            let (title, folder) = (self.client().title(), folder.display());
            let why = format!(
                "there is no folder {folder}: is {title} installed? Start it once, or name the file with `--file`"
            );
            return Err((exit::UNAVAILABLE, why));
        }
        Ok(())
    }

    fn write(&self, bom: &str, plan: &InstallPlan) -> Result<(), InstallRefusal> {
        let written = match &plan.change {
            FileChange::Unchanged => Ok(()),
            FileChange::Text(text) => self.file.write(&format!("{bom}{text}")),
            FileChange::Removed => self.file.remove(),
        };
        written.map_err(|cause| {
            let code = match cause.kind() {
                ErrorKind::ResourceBusy => exit::TEMPORARY,
                _ => exit::UNAVAILABLE,
            };
            (code, format!("{}: {cause}", self.file.path.display()))
        })
    }

    fn report(&self, is_json: bool, plan: &InstallPlan) {
        let next = self.next(plan);
        let (client, path) = (self.client(), self.file.path.display().to_string());
        if is_json {
            ui::out(json!({
                "client": value_name(client), "file": path, "entry": self.name, "outcome": plan.outcome.word(),
                "target": match &self.target {
                    EntryTarget::Http { url, .. } => url.as_str(),
                    EntryTarget::Stdio { command, .. } => command,
                },
                "next": next,
            }));
            return;
        }
        let (name, title) = (self.name, client.title());
        match plan.outcome {
            InstallOutcome::Already => ui::out(format_args!("already: {title} has `{name}` in {path}")),
            InstallOutcome::Absent => ui::out(format_args!("absent: {path} has no `{name}`")),
            outcome => ui::out(format_args!("{}: `{name}` of {title} in {path}", outcome.word())),
        }
        for line in next {
            ui::err(format_args!("{DIM}{line}{DIM:#}"));
        }
    }

    /// What is left to do.
    fn next(&self, plan: &InstallPlan) -> Vec<String> {
        if !plan.outcome.is_change() {
            return Vec::new();
        }
        let title = self.client().title();
        let mut next = Vec::new();
        if plan.new.is_some()
            && let EntryTarget::Http { url, has_key } = &self.target
        {
            if *has_key {
                next.push(format!("set {KEY_VARIABLE} to your key where {title} is started"));
            }
            next.push(format!("{url} answers while `pleiades` serves"));
        }
        if plan.new.is_some() && matches!(self.target, EntryTarget::Stdio { .. }) {
            next.extend(variables(self.settings, title));
        }
        next.push(format!("start {title} again"));
        next
    }
}

/// What the environment of a desktop client lacks: it starts without this shell's variables.
fn variables(settings: &Settings, title: &str) -> Vec<String> {
    let world = settings::read_context(settings);
    let mut names = BTreeSet::new();
    for file in pleiades_descriptor::files(&settings.providers).unwrap_or_default() {
        if pleiades_descriptor::read_file(&file, &world).enabled
            && let Some(root) = reader::resolved_tree(&file, &world)
        {
            collect_variables(&root, &mut names);
        }
    }
    let has_data = |(name, value): &(OsString, OsString)| name == DATA_HOME && !value.is_empty();
    if settings::variables().iter().any(has_data) {
        names.insert(DATA_HOME.to_owned());
    }
    let names: Vec<String> = names.into_iter().collect();
    let line = || {
        let names = names.join(", ");
        format!("{title} starts without this shell's variables: put {names} into `env` of the entry")
    };
    (!names.is_empty()).then(line).into_iter().collect()
}

fn collect_variables(node: &reader::Node, names: &mut BTreeSet<String>) {
    match &node.kind {
        reader::Kind::Text(text) => {
            let referred = reader::reference_names(&text.raw).filter(|name| reader::is_variable(name));
            names.extend(referred.map(str::to_owned));
        }
        reader::Kind::List(items) => items.iter().for_each(|item| collect_variables(item, names)),
        reader::Kind::Map(entries) => {
            entries
                .iter()
                .for_each(|entry| collect_variables(&entry.value, names));
        }
        _ => {}
    }
}

/// What is shown of an entry: of others' only what kind it is, and of ours what this program writes, since
/// somebody may have put a key beside that.
fn shown(client: Client, entry: &Value, target: &EntryTarget) -> Value {
    let Value::Object(members) = entry else {
        return json!("…");
    };
    let is_ours = is_ours(entry, target);
    let members = members.iter().map(|(key, value)| {
        let is_reference = client.is_key_reference(key, value);
        let is_shown = is_ours && (SHOWN.contains(&key.as_str()) || is_reference);
        (key.clone(), if is_shown { disclosed(value) } else { json!("…") })
    });
    Value::Object(members.collect())
}

/// A value without what a URL may carry of a secret: a password, and its query.
fn disclosed(value: &Value) -> Value {
    let Some(mut url) = value.as_str().and_then(|text| Url::parse(text).ok()) else {
        return value.clone();
    };
    let is_plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if is_plain || url.cannot_be_a_base() {
        return value.clone();
    }
    // A URL with a host takes both.
    url.set_username("").ok();
    url.set_password(None).ok();
    url.set_query(None);
    url.set_fragment(None);
    json!(format!("{url}…"))
}

/// Takes an entry out of a tree, and the object that held nothing else.
fn take_out(root: &mut DocumentNode, container: &str, name: &str) {
    let Kind::Map(members) = &mut root.kind else {
        return;
    };
    for member in members.iter_mut().filter(|member| member.key == container) {
        if let Kind::Map(entries) = &mut member.value.kind {
            entries.retain(|entry| entry.key != name);
        }
    }
    members.retain(|member| member.key != container || !member.value.members().is_empty());
}

fn value_name(client: Client) -> String {
    use clap::ValueEnum as _;
    client
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}

/// Somebody at the terminal agrees, or `--yes` did.
fn confirm(request: &InstallRequest) -> Result<(), InstallRefusal> {
    if request.yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        let why = "nothing was written: nobody is there to be asked; `--yes` agrees";
        return Err((exit::USAGE, why.to_owned()));
    }
    ui::ask("write this? [y/N] ");
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).ok();
    if matches!(line.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err((exit::USAGE, "nothing was written".to_owned()))
}
