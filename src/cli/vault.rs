//! `pleiades vault migrate`: what the embedded vault keeps, copied to the `HashiCorp` Vault of the
//! settings.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::ui::{self, DIM, GREEN, RED, YELLOW};
use super::{Global, exit};
use crate::app::{Fault, Migration};
use crate::credential::vault::migrate::{Became, Moved};
use crate::credential::vault::{self, Kind};
use crate::settings::Overrides;

#[derive(Debug, Subcommand)]
pub(super) enum Vault {
    /// Copy accounts and registered clients from the embedded vault to `vault.hashicorp` of the
    /// settings; repeatable, writes over nothing newer, removes nothing.
    Migrate(#[command(flatten)] Migrate),
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

/// What became of all, for the end.
#[derive(Default)]
struct Tally {
    counts: BTreeMap<&'static str, usize>,
    entries: Vec<Value>,
}

pub(super) fn run(global: &Global, command: &Vault) -> u8 {
    let Vault::Migrate(asked) = command;
    crate::telemetry::log::init(crate::telemetry::log::Format::Auto);
    let overrides = Overrides {
        providers: global.providers.clone(),
        ..Overrides::default()
    };
    let settings = match super::settings(global, &overrides) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    let opened = Migration::open(&settings, asked.from.as_deref(), asked.key_file.as_deref());
    let migration = match opened {
        Ok(migration) => migration,
        Err(fault) => {
            ui::fail(&fault);
            return match fault {
                Fault::Settings(_) => exit::USAGE,
                Fault::Machine(_) => exit::UNAVAILABLE,
            };
        }
    };
    let mut tally = Tally::default();
    let done = migration.run(|moved| {
        *tally.counts.entry(moved.became.as_str()).or_default() += 1;
        if global.json {
            tally.entries.push(entry(moved));
        } else {
            ui::out(line(moved));
        }
    });
    end(global, &migration, tally, done)
}

fn end(global: &Global, migration: &Migration, tally: Tally, done: Option<Result<(), vault::Fault>>) -> u8 {
    let (code, said) = match done {
        None => (
            exit::TEMPORARY,
            Some("interrupted: run it again to go on".to_owned()),
        ),
        Some(Err(fault)) => (
            match fault.kind {
                Kind::Unreachable | Kind::Sealed | Kind::Throttled => exit::TEMPORARY,
                Kind::Failed | Kind::Denied | Kind::Corrupt | Kind::Refused => exit::UNAVAILABLE,
            },
            Some(fault.message),
        ),
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
            "error": said,
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
    if let Some(said) = said {
        ui::fail(said);
    }
    code
}

/// A line for each entry, as it is done.
fn line(moved: &Moved) -> String {
    let style = match moved.became {
        Became::Copied | Became::Updated => GREEN,
        Became::Unchanged => DIM,
        Became::Newer | Became::Another => YELLOW,
        Became::Failed(_) => RED,
    };
    let segments = moved.path.segments().iter();
    // What stands in names is no instruction to a terminal.
    let name: Vec<String> = segments
        .map(|segment| segment.escape_debug().to_string())
        .collect();
    let what = format!("{:<9}", moved.became.as_str());
    let why = match reason(&moved.became) {
        Some(why) => format!("  {DIM}{why}{DIM:#}"),
        None => String::new(),
    };
    format!("{style}{what}{style:#}  {}{why}", name.join("/"))
}

fn reason(became: &Became) -> Option<&str> {
    match became {
        Became::Copied | Became::Updated | Became::Unchanged => None,
        Became::Newer => Some("what is there is as new or newer, and stays"),
        Became::Another => Some("what is there is of another connection, and stays"),
        Became::Failed(why) => Some(why),
    }
}

fn entry(moved: &Moved) -> Value {
    json!({
        "path": moved.path.segments().iter().map(|segment| &**segment).collect::<Vec<_>>(),
        "outcome": moved.became.as_str(),
        "reason": reason(&moved.became),
    })
}
