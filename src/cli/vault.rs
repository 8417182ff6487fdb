//! `pleiades vault`: what the embedded vault keeps, copied to the `HashiCorp` Vault of the settings, or
//! put under another key.

use std::{collections::BTreeMap, path::PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::ui::{self, DIM, GREEN, RED, YELLOW};
use super::{Global, exit};
use crate::app::{self, Fault, Migration, NewKey, RekeyError};
use pleiades_core::secret::Secret;
use pleiades_credential::vault::file::Rekeyed;
use pleiades_credential::vault::migrate::{CopiedEntry, CopyOutcome};
use pleiades_credential::vault::{self, Kind};
use pleiades_descriptor::settings::{self, Settings};

#[derive(Debug, Subcommand)]
pub(super) enum VaultCommand {
    /// Copy accounts and registered clients from the embedded vault to `vault.hashicorp` of the
    /// settings; repeatable, writes over nothing newer, removes nothing.
    Migrate(#[command(flatten)] Migrate),
    /// Put the embedded vault of the settings under a new key; a kill at any moment leaves it under the
    /// old one or the new one. A key file gets a fresh key where none is said.
    Rekey(#[command(flatten)] Rekey),
}

#[derive(Debug, Args)]
pub(super) struct Rekey {
    /// File with the new key, of mode 0600; one is made there when there is no such file. Default: the
    /// variable `PLEIADES_NEW_KEY`.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Migrate {
    /// File of the embedded vault; default: the one under the XDG data folder.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// File with its key, of mode 0600; default: the one beside it, ending in `.key`.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

#[derive(Default)]
struct Tally {
    counts: BTreeMap<&'static str, usize>,
    entries: Vec<Value>,
}

pub(super) fn run(global: &Global, command: &VaultCommand) -> Result<u8, u8> {
    let settings = super::settings(global, &global.overrides())?;
    match command {
        VaultCommand::Migrate(asked) => migrate(global, &settings, asked),
        VaultCommand::Rekey(asked) => rekey(global, &settings, asked),
    }
}

fn rekey(global: &Global, settings: &Settings, asked: &Rekey) -> Result<u8, u8> {
    let given = settings::environment()("PLEIADES_NEW_KEY").map(Secret::new);
    let put = app::rekey(settings, asked.to.as_deref(), given).map_err(|error| match error {
        RekeyError::Usage(message) => {
            ui::fail(message);
            exit::USAGE
        }
        RekeyError::Store(fault) => {
            ui::fail(&fault);
            code(fault.kind)
        }
    })?;
    let (vault, next) = (put.vault.display().to_string(), next(&put.key));
    let (outcome, entries) = match put.outcome {
        Rekeyed::Done(entries) => ("rekeyed", Some(entries)),
        Rekeyed::Already => ("already", None),
    };
    if global.json {
        ui::out(json!({ "vault": vault, "outcome": outcome, "entries": entries, "next": next }));
    } else if let Some(entries) = entries {
        ui::out(format_args!(
            "{GREEN}rekeyed{GREEN:#}  {entries} entries of {vault}: {next}"
        ));
    } else {
        ui::out(format_args!(
            "{DIM}already{DIM:#}  {vault} is under the new key: {next}"
        ));
    }
    Ok(exit::OK)
}

/// The step left before a gateway starts.
fn next(key: &NewKey) -> String {
    match key {
        NewKey::KeyFile(file) => format!("it opens with the key file {}", file.display()),
        NewKey::File(file) => format!("set `vault.file.key` to `${{file:{}}}` now", file.display()),
        NewKey::Environment => "set `vault.file.key` to what `PLEIADES_NEW_KEY` holds now".to_owned(),
    }
}

const fn code(kind: Kind) -> u8 {
    match kind {
        Kind::Unreachable | Kind::Sealed | Kind::Redirected | Kind::Throttled => exit::TEMPORARY,
        Kind::Failed | Kind::Denied | Kind::Unopened | Kind::Corrupt | Kind::Refused => exit::UNAVAILABLE,
    }
}

fn migrate(global: &Global, settings: &Settings, asked: &Migrate) -> Result<u8, u8> {
    let opened = Migration::open(settings, asked.from.as_deref(), asked.key_file.as_deref());
    let migration = opened.map_err(|fault| {
        ui::fail(&fault);
        match fault {
            Fault::Settings(_) => exit::USAGE,
            Fault::Machine(_) => exit::UNAVAILABLE,
        }
    })?;
    let mut tally = Tally::default();
    let done = migration.run(|moved| {
        *tally.counts.entry(moved.outcome.as_str()).or_default() += 1;
        if global.json {
            tally.entries.push(entry(moved));
        } else {
            ui::out(line(moved));
        }
    });
    Ok(end(global, &migration, tally, done))
}

fn end(global: &Global, migration: &Migration, tally: Tally, done: Option<Result<(), vault::Fault>>) -> u8 {
    let (code, message) = match done {
        None => {
            let message = "interrupted: run it again to go on".to_owned();
            (exit::TEMPORARY, Some(message))
        }
        Some(Err(fault)) if fault.kind == Kind::Unopened => {
            let message = format!(
                "{}; `--key-file FILE` names the key: a file of mode 0600, also of a key that came from a variable",
                fault.message
            );
            (code(fault.kind), Some(message))
        }
        Some(Err(fault)) => (code(fault.kind), Some(fault.message)),
        Some(Ok(())) if tally.counts.contains_key("failed") => (exit::UNAVAILABLE, None),
        Some(Ok(())) => (exit::OK, None),
    };
    let source = migration.source().display().to_string();
    if global.json {
        ui::out(json!({
            "from": source,
            "complete": code == exit::OK,
            "counts": tally.counts,
            "entries": tally.entries,
            "error": message,
        }));
    } else {
        let counts: Vec<String> = tally
            .counts
            .iter()
            .map(|(what, count)| format!("{count} {what}"))
            .collect();
        let counts = match &*counts {
            [] => "nothing to copy".to_owned(),
            some => some.join(", "),
        };
        ui::err(format_args!("{counts}; {source} is as it was"));
    }
    if let Some(message) = message {
        ui::fail(message);
    }
    code
}

/// A line for each entry, as it is done.
fn line(moved: &CopiedEntry) -> String {
    let style = match moved.outcome {
        CopyOutcome::Copied | CopyOutcome::Updated => GREEN,
        CopyOutcome::Unchanged => DIM,
        CopyOutcome::Newer | CopyOutcome::Another => YELLOW,
        CopyOutcome::Failed(_) => RED,
    };
    let segments = moved.path.segments().iter();
    // What stands in names is no instruction to a terminal.
    let name: Vec<String> = segments
        .map(|segment| segment.escape_debug().to_string())
        .collect();
    let what = format!("{:<9}", moved.outcome.as_str());
    let why = reason(&moved.outcome).map(|why| format!("  {DIM}{why}{DIM:#}"));
    let why = why.unwrap_or_default();
    format!("{style}{what}{style:#}  {}{why}", name.join("/"))
}

fn reason(became: &CopyOutcome) -> Option<&str> {
    match became {
        CopyOutcome::Copied | CopyOutcome::Updated | CopyOutcome::Unchanged => None,
        CopyOutcome::Newer => Some("what is there is as new or newer, and stays"),
        CopyOutcome::Another => Some("what is there is of another connection, and stays"),
        CopyOutcome::Failed(why) => Some(why),
    }
}

fn entry(moved: &CopiedEntry) -> Value {
    json!({
        "path": moved.path.segments().iter().map(|segment| &**segment).collect::<Vec<_>>(),
        "outcome": moved.outcome.as_str(),
        "reason": reason(&moved.outcome),
    })
}
