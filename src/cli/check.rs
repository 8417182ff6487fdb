//! `pleiades check`: every fault of settings and descriptors, each at its place with its cure.

mod online;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use anstyle::{AnsiColor, Style};

use serde_json::Value;

use crate::app::{RuntimeFile, providers};
use pleiades_descriptor::settings::{self, Overrides, Settings};
use pleiades_descriptor::{Auth, DescriptorFile, Fault, Pin, Severity};
use pleiades_gateway::catalog::pins::check_file;

/// What to check and how.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Files and folders; empty: the settings and their providers.
    pub paths: Vec<PathBuf>,
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--providers`, `--listen`, `--admin`.
    pub overrides: Overrides,
    /// Ask DNS and connect too.
    pub online: bool,
    /// Warnings are faults, and so is what an installation that several people share must not have.
    pub strict: bool,
    /// One JSON object a line instead of text.
    pub json: bool,
}

/// Faults were found (`EX_USAGE`).
const EXIT_FAULTS: u8 = 64;

#[derive(Debug, Default)]
struct CheckResult {
    faults: Vec<Fault>,
    files: usize,
}

/// Checks and prints faults to `output`, a summary to `summary`; answers the exit code, 0 or 64.
///
/// # Errors
/// When the output cannot be written.
pub fn run(options: &Options, output: &mut dyn Write, summary: &mut dyn Write) -> io::Result<u8> {
    let mut found = check_paths(options);
    beside_gateway(options, &mut found);
    for fault in &mut found.faults {
        if fault.severity == Severity::Private && !fault.file.exists() {
            let cure = fault.cure.take().unwrap_or_default();
            fault.cure = Some(format!("{cure}\nthere is no such file yet: make it for this"));
        }
    }
    if options.strict {
        for fault in &mut found.faults {
            if matches!(fault.severity, Severity::Warning | Severity::Private) {
                fault.severity = Severity::Fault;
            }
        }
    }
    for fault in &found.faults {
        if options.json {
            writeln!(output, "{}", json(fault))?;
        } else {
            print(fault, output)?;
        }
    }
    let count = |severity| {
        found
            .faults
            .iter()
            .filter(|fault| fault.severity == severity)
            .count()
    };
    let (faults, warnings) = (count(Severity::Fault), count(Severity::Warning));
    writeln!(
        summary,
        "{} checked: {}, {}",
        plural(found.files, "file"),
        plural(faults, "fault"),
        plural(warnings, "warning")
    )?;
    Ok(if faults > 0 { EXIT_FAULTS } else { 0 })
}

/// Says of variables that are not set here whether the gateway of the same settings that runs has them.
fn beside_gateway(options: &Options, found: &mut CheckResult) {
    let is_unset = |fault: &&mut Fault| fault.message.ends_with("is not set");
    if !found.faults.iter_mut().any(|fault| is_unset(&fault)) {
        return;
    }
    let loaded = settings::load(options.config.as_deref(), &options.overrides);
    let running = RuntimeFile::of(&loaded, &options.overrides).running();
    let Some(entries) = running.and_then(|gateway| providers(&gateway)) else {
        return;
    };
    let is_of = |entry: &Value, fault: &Fault| {
        let file = entry["file"].as_str().unwrap_or_default();
        identity(Path::new(file)) == identity(&fault.file)
            && entry["faults"].as_array().is_some_and(Vec::is_empty)
    };
    for fault in found.faults.iter_mut().filter(is_unset) {
        if entries.iter().any(|entry| is_of(entry, fault)) {
            let hint = "the gateway that runs has it: to check the same, set it in this shell too";
            let cure = fault.cure.take().unwrap_or_default();
            fault.cure = Some(format!("{cure}\n{hint}"));
        }
    }
}

fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// One line with its cures, the place dimmed and the severity coloured; the output strips colours
/// where none are wanted.
fn print(fault: &Fault, output: &mut dyn Write) -> io::Result<()> {
    let colour = match fault.severity {
        Severity::Fault => AnsiColor::Red,
        Severity::Warning => AnsiColor::Yellow,
        Severity::Private | Severity::Note => AnsiColor::Cyan,
    };
    let (field, cure) = (colour.on_default(), Style::new().dimmed());
    let text = fault.to_string();
    let (head, cures) = text.split_once('\n').unwrap_or((&text, ""));
    let place = format!("{}:{}:{}: ", fault.file.display(), fault.line, fault.column);
    let rest = head
        .strip_prefix(&place)
        .and_then(|rest| rest.strip_prefix(&fault.field))
        .unwrap_or_default();
    writeln!(output, "{place}{field}{}{field:#}{rest}", fault.field)?;
    for line in cures.lines() {
        writeln!(output, "{cure}{line}{cure:#}")?;
    }
    Ok(())
}

/// Stable: fields are added, never changed.
fn json(fault: &Fault) -> serde_json::Value {
    let severity = match fault.severity {
        Severity::Fault => "fault",
        Severity::Warning => "warning",
        Severity::Private | Severity::Note => "note",
    };
    serde_json::json!({
        "file": fault.file.to_string_lossy(),
        "line": fault.line,
        "column": fault.column,
        "field": fault.field,
        "severity": severity,
        "message": fault.message,
        "cure": fault.cure,
    })
}

fn check_paths(options: &Options) -> CheckResult {
    let mut found = CheckResult::default();
    if options.paths.is_empty() {
        installation(options.config.as_deref(), options, &mut found);
        return found;
    }
    let (installations, rest): (Vec<&PathBuf>, Vec<&PathBuf>) = options
        .paths
        .iter()
        .partition(|path| path.join("pleiades.yaml").is_file());
    for folder in installations {
        installation(Some(&folder.join("pleiades.yaml")), options, &mut found);
    }
    if !rest.is_empty() {
        descriptors(&rest, options, &mut found);
    }
    found
}

/// Settings and their providers.
fn installation(config: Option<&Path>, options: &Options, found: &mut CheckResult) {
    let loaded = settings::load(config, &options.overrides);
    found.files += usize::from(loaded.file.is_some());
    let folder = loaded.settings.providers.clone();
    // What does not parse may have named another folder.
    let is_known = options.overrides.providers.is_some() || !loaded.faults.iter().any(is_unparsed);
    found.faults.extend(loaded.faults);
    if options.online
        && let Some(why) = crate::app::vault_fault(&loaded.settings)
    {
        let file = loaded
            .file
            .clone()
            .unwrap_or_else(|| PathBuf::from("pleiades.yaml"));
        insert(found, no_vault(file, &why));
    }
    if let Some(file) = loaded.file.as_ref().filter(|_| options.online) {
        for fault in online::settings(&loaded.settings, file) {
            insert(found, fault);
        }
    }
    match pleiades_descriptor::files(&folder) {
        Ok(files) => {
            let connects = read(&files, &loaded.settings, options, found);
            let access = &loaded.settings.access;
            if let (Some(file), Some(place)) = (loaded.file, loaded.access_at)
                && !access.api_keys.is_empty()
                && access.login.is_none()
                && let Some(provider) = connects
            {
                insert(found, asks_for_keys(file, place, &provider));
            }
        }
        Err(_) if !is_known => {}
        Err(error) => {
            let mut fault = no_folder(&folder, &error);
            if let (Some(file), Some((line, column))) = (loaded.file, loaded.providers_at) {
                (fault.file, fault.line, fault.column) = (file, line, column);
            }
            insert(found, fault);
        }
    }
}

/// Files and folders of descriptors, under the settings as `serve` would find them.
fn descriptors(paths: &[&PathBuf], options: &Options, found: &mut CheckResult) {
    let loaded = settings::load(options.config.as_deref(), &options.overrides);
    // Its faults are not what was asked about, but that it could not be read at all is.
    if options.config.is_some() {
        let unparsed = loaded.faults.into_iter().filter(is_unparsed);
        found.faults.extend(unparsed);
    }
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push((*path).clone());
            continue;
        }
        match pleiades_descriptor::files(path) {
            Ok(inside) => files.extend(inside),
            Err(error) => found.faults.push(no_folder(path, &error)),
        }
    }
    let mut once = std::collections::BTreeSet::new();
    files.retain(|file| once.insert(identity(file)));
    let _connects = read(&files, &loaded.settings, options, found);
}

/// The same for every spelling of a path; links stay apart.
fn identity(file: &Path) -> PathBuf {
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."));
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
    folder.join(file.file_name().unwrap_or_default())
}

/// Answers an enabled provider whose users connect accounts of their own, where there is one.
fn read(
    files: &[PathBuf],
    settings: &Settings,
    options: &Options,
    found: &mut CheckResult,
) -> Option<String> {
    let world = settings::read_context(settings);
    let mut reads: Vec<DescriptorFile> = files
        .iter()
        .map(|file| pleiades_descriptor::read_file(file, &world))
        .collect();
    pleiades_descriptor::mark_duplicates(&mut reads);
    reads.iter_mut().for_each(check_pins);
    if options.online {
        online::check(&mut reads, &world);
    }
    found.files += reads.len();
    let connects = |read: &&DescriptorFile| {
        let auth = read.descriptor.as_ref().map(|descriptor| &descriptor.auth);
        read.enabled && matches!(auth, Some(Auth::Oauth(_)))
    };
    let connects = reads.iter().find(connects).and_then(|read| read.id.clone());
    found
        .faults
        .extend(reads.into_iter().flat_map(|read| read.faults));
    connects
}

/// Adds the fault of a pins file beside a descriptor that uses it.
fn check_pins(read: &mut DescriptorFile) {
    let pinned = read.descriptor.as_ref().filter(|it| it.tools.pin != Pin::Off);
    let Some(Err(message)) = pinned.map(|it| check_file(&read.file, &it.id)) else {
        return;
    };
    let (line, column) = read.id_at;
    read.faults.push(Fault {
        file: read.file.clone(),
        line,
        column,
        field: "tools.pin".to_owned(),
        message,
        cure: Some(
            "correct the file, or remove it to have approved definitions kept in the vault".to_owned(),
        ),
        severity: Severity::Fault,
    });
    read.faults.sort_by_key(|fault| (fault.line, fault.column));
}

/// Adds a fault of the settings before those that follow it in their file.
fn insert(found: &mut CheckResult, fault: Fault) {
    let is_later =
        |other: &Fault| other.file == fault.file && (other.line, other.column) > (fault.line, fault.column);
    let index = found.faults.iter().position(is_later);
    found.faults.insert(index.unwrap_or(found.faults.len()), fault);
}

fn asks_for_keys(file: PathBuf, (line, column): (usize, usize), provider: &str) -> Fault {
    Fault {
        file,
        line,
        column,
        field: "access.login".to_owned(),
        message: format!(
            "people who connect an account of `{provider}` are asked for their API key on the connect page"
        ),
        cure: Some("with `access.login` they log in instead; docs/PEOPLE.md says how".to_owned()),
        severity: Severity::Note,
    }
}

fn is_unparsed(fault: &Fault) -> bool {
    fault.is_fatal() && fault.field == "syntax"
}

fn no_vault(file: PathBuf, why: &pleiades_credential::vault::Fault) -> Fault {
    Fault {
        file,
        line: 1,
        column: 1,
        field: "vault".to_owned(),
        message: why.message.clone(),
        cure: why.cure.clone(),
        severity: Severity::Fault,
    }
}

fn no_folder(folder: &Path, error: &io::Error) -> Fault {
    let why = match error.kind() {
        io::ErrorKind::NotFound => "does not exist",
        io::ErrorKind::NotADirectory => "is not a folder",
        _ => "cannot be read",
    };
    Fault {
        file: folder.to_path_buf(),
        line: 1,
        column: 1,
        field: "providers".to_owned(),
        message: format!("the folder {why}"),
        cure: Some("name the folder of the descriptors with `providers:` or `--providers`".to_owned()),
        severity: Severity::Fault,
    }
}
