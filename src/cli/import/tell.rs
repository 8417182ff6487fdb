//! The report of written and skipped servers, as JSON and as a table.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::outcome::{ImportOutcome, ImportedServer};
use crate::cli::ui::{self, BOLD, DIM, GREEN, YELLOW};

/// Stable: fields are added, never changed.
pub(super) fn report(outcomes: &[ImportedServer]) -> Value {
    let (mut written, mut skipped) = (Vec::new(), Vec::new());
    for outcome in outcomes {
        let ImportedServer {
            server,
            id,
            file,
            notes,
            ..
        } = outcome;
        match &outcome.became {
            ImportOutcome::Skipped(reason) => {
                skipped.push(
                    json!({ "server": server, "id": id, "file": file.to_string_lossy(), "reason": reason }),
                );
            }
            ImportOutcome::Ready { waits, .. } => {
                let variables: Vec<Value> = outcome
                    .variables
                    .iter()
                    .map(|variable| {
                        json!({
                            "name": variable.name,
                            "for": variable.what,
                            "set": variable.is_set,
                            "literal": variable.is_literal,
                        })
                    })
                    .collect();
                written.push(json!({
                    "server": server,
                    "id": id,
                    "file": file.to_string_lossy(),
                    "enabled": waits.is_none(),
                    "reason": waits,
                    "variables": variables,
                    "notes": notes,
                }));
            }
        }
    }
    json!({ "written": written, "skipped": skipped })
}

/// The table on stdout, what to do about it on stderr.
pub(super) fn print(outcomes: &[ImportedServer]) {
    let rows: Vec<Vec<String>> = outcomes
        .iter()
        .map(|outcome| {
            let file = outcome.file.display().to_string();
            let (word, file, why) = match &outcome.became {
                ImportOutcome::Ready { waits: None, .. } => ("written", file, String::new()),
                ImportOutcome::Ready { waits: Some(why), .. } => ("disabled", file, why.clone()),
                ImportOutcome::Skipped(why) => ("skipped", "-".to_owned(), why.clone()),
            };
            vec![word.to_owned(), outcome.server.clone(), file, why]
        })
        .collect();
    for (line, outcome) in ui::table(&rows).iter().zip(outcomes) {
        let style = match outcome.became {
            ImportOutcome::Ready { waits: None, .. } => GREEN,
            ImportOutcome::Ready { .. } => YELLOW,
            ImportOutcome::Skipped(_) => DIM,
        };
        ui::out(format_args!("{style}{}{style:#}", line.trim_end()));
    }
    for outcome in outcomes.iter().filter(is_ready) {
        for note in &outcome.notes {
            ui::err(format_args!("{}: {note}", outcome.server));
        }
    }
    hints(outcomes);
}

fn is_ready(outcome: &&ImportedServer) -> bool {
    matches!(outcome.became, ImportOutcome::Ready { .. })
}

/// Each variable once, with what it is for.
fn hints(outcomes: &[ImportedServer]) {
    let mut known = BTreeSet::new();
    for outcome in outcomes.iter().filter(is_ready) {
        for variable in outcome.variables.iter().filter(|variable| !variable.is_set) {
            if !known.insert(&variable.name) {
                continue;
            }
            let literal = variable.is_literal.then_some("; its value was not taken over");
            let why = literal.unwrap_or_default();
            ui::err(format_args!(
                "set {BOLD}{}{BOLD:#} where the gateway starts ({}: {}{why})",
                variable.name, outcome.server, variable.what
            ));
        }
    }
    if !known.is_empty() {
        ui::err("then delete `enabled: false` in the files that wait, and `pleiades check`");
    }
}
