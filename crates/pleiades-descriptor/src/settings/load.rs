//! Finds the settings, reads them, and lets the command line win.

use std::{
    io,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use etcetera::BaseStrategy;
use serde_json::{Map, Value};

use super::{LoadedSettings, Overrides, Settings, VaultSettings, environment, meaning};
use crate::{
    SecretSource,
    read::{bytes, parse, typed},
    reference::{ReferenceResolver, reason},
    report::{Report, say},
    schema::internal,
    shape::ShapeCheck,
    yaml::{Kind, Node, Pos},
};

static SCHEMA: LazyLock<Value> = LazyLock::new(internal::<Settings>);

/// The settings' file name.
pub const FILE: &str = "pleiades.yaml";

/// Finds and reads the settings: `explicit`, else `./pleiades.yaml`, else `pleiades/pleiades.yaml`
/// in the XDG configuration folder, else defaults.
///
/// Paths in the result are absolute or relative to the working folder.
#[must_use]
pub fn load(explicit: Option<&Path>, overrides: &Overrides) -> LoadedSettings {
    let Some(file) = file(explicit) else {
        let mut report = Report::new(Path::new(FILE));
        let mut settings = Settings::default();
        apply_overrides(&mut settings, overrides);
        meaning::check_listeners(&settings, None, overrides, &mut report);
        return LoadedSettings {
            settings,
            file: None,
            providers_at: None,
            access_at: None,
            faults: report.finish(),
        };
    };
    let mut report = Report::new(&file);
    let (settings, root) = read(&file, overrides, &mut report);
    let at = |key| {
        let node = root.as_ref()?.at_path(&[key])?;
        Some((node.at.line, node.at.column))
    };
    LoadedSettings {
        settings,
        providers_at: at("providers").filter(|_| overrides.providers.is_none()),
        access_at: at("access"),
        file: Some(file),
        faults: report.finish(),
    }
}

/// The XDG data folder's `pleiades`, for the vault and its key file; `None` when there is no home.
#[must_use]
pub fn data_folder() -> Option<PathBuf> {
    let base = etcetera::base_strategy::Xdg::new().ok()?;
    Some(base.data_dir().join("pleiades"))
}

/// The settings file: the one that is named, else that of the working directory or of the XDG configuration
/// folder; `None` where the defaults hold.
#[must_use]
pub fn file(explicit: Option<&Path>) -> Option<PathBuf> {
    explicit.map(Path::to_path_buf).or_else(find)
}

/// The folder of what is true only while a process of this user runs: `$XDG_RUNTIME_DIR`, which has to be
/// absolute (XDG Base Directory Specification); `None` where the system gives none.
#[must_use]
pub fn runtime_folder() -> Option<PathBuf> {
    let named = environment()("XDG_RUNTIME_DIR").map(PathBuf::from);
    named.filter(|folder| folder.is_absolute())
}

/// The key by which a command shows a running gateway's admin listener that an operator asks.
#[must_use]
pub fn admin_key() -> Option<pleiades_core::secret::Secret> {
    let key = environment()("PLEIADES_ADMIN_KEY")?;
    (!key.is_empty()).then(|| pleiades_core::secret::Secret::new(key))
}

fn find() -> Option<PathBuf> {
    let here = PathBuf::from(FILE);
    if exists(&here) {
        return Some(here);
    }
    let base = etcetera::base_strategy::Xdg::new().ok()?;
    Some(base.config_dir().join("pleiades").join(FILE)).filter(|file| exists(file))
}

/// A link to nothing counts: reading it says what is wrong.
fn exists(file: &Path) -> bool {
    std::fs::symlink_metadata(file).is_ok()
}

/// The settings, and what they were read from.
fn read(file: &Path, overrides: &Overrides, report: &mut Report) -> (Settings, Option<Node>) {
    let mut settings = Settings::default();
    let root = match bytes(file) {
        Ok(text) => parse(&text, report),
        Err(error) => {
            unreadable(&error, report);
            None
        }
    };
    let folder = file.parent().unwrap_or_else(|| Path::new(""));
    let Some(mut root) = root else {
        relocate(&mut settings, folder);
        apply_overrides(&mut settings, overrides);
        return (settings, None);
    };
    if matches!(root.kind, Kind::Null) {
        root.kind = Kind::Map(Vec::new());
    }
    let env = environment();
    ReferenceResolver {
        env: &env,
        allowed: None,
        secrets: SecretSource::NOWHERE,
    }
    .resolve(&mut root, "", report);
    ShapeCheck::new(&SCHEMA, report).run(&mut root);
    meaning::check(&root, folder, report);
    let mut settings = typed(&root, report).unwrap_or_else(|| salvage(&root));
    relocate(&mut settings, folder);
    apply_overrides(&mut settings, overrides);
    meaning::check_listeners(&settings, Some(&root), overrides, report);
    (settings, Some(root))
}

fn unreadable(error: &io::Error, report: &mut Report) {
    let finding = say(format!("the file {}", reason(error))).cure("name a file that exists and may be read");
    report.fault(Pos::START, "syntax", finding);
}

/// Of faulty settings, what decides how descriptors are checked.
fn salvage(root: &Node) -> Settings {
    let mut settings = Settings::default();
    for key in ["providers", "references", "listen", "admin", "commands"] {
        let Some(node) = root.at_path(&[key]) else {
            continue;
        };
        let alone = Map::from_iter([(key.to_owned(), node.to_json())]);
        let Ok(read) = serde_json::from_value::<Settings>(Value::Object(alone)) else {
            continue;
        };
        match key {
            "providers" => settings.providers = read.providers,
            "references" => settings.references = read.references,
            "listen" => settings.listen = read.listen,
            "admin" => settings.admin = read.admin,
            _ => settings.commands = read.commands,
        }
    }
    settings
}

/// Paths inside the file are relative to it.
fn relocate(settings: &mut Settings, folder: &Path) {
    settings.providers = folder.join(&settings.providers);
    if let Some(tls) = &mut settings.tls {
        tls.cert_file = folder.join(&tls.cert_file);
        tls.key_file = folder.join(&tls.key_file);
    }
    if let VaultSettings::File(vault) = &mut settings.vault
        && let Some(path) = &mut vault.path
    {
        *path = folder.join(&path);
    }
}

fn apply_overrides(settings: &mut Settings, overrides: &Overrides) {
    if let Some(providers) = &overrides.providers {
        settings.providers.clone_from(providers);
    }
    if let Some(listen) = overrides.listen {
        settings.listen = listen;
    }
    if let Some(admin) = overrides.admin {
        settings.admin = admin;
    }
}
