//! `pleiades rank`: which operations given prompts find, for measuring. Nothing is sent anywhere.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::catalog_file::{self, CatalogFile};
use super::{exit, ui};
use pleiades_gateway::catalog::OfflineProvider;
use pleiades_gateway::facade::menu::{Menu, MenuEntry};

#[derive(Debug, Args)]
pub(super) struct RankFiles {
    /// The tools that exist: JSON lines `{server, name, description, inputSchema, annotations?}`.
    #[arg(long, value_name = "FILE")]
    catalog: PathBuf,
    /// The prompts, a line each: server, prompt and what is expected, with tabs between them; without a server
    /// all are looked through. What is expected is not read.
    #[arg(long, value_name = "FILE")]
    queries: PathBuf,
}

/// Prints what each prompt finds, a line of JSON each.
pub(super) fn run(files: &RankFiles) -> Result<u8, u8> {
    let providers = catalog_file::read(&files.catalog)?;
    for (number, line) in catalog_file::lines(&catalog_file::text(&files.queries)?) {
        let mut parts = line.split('\t');
        let (Some(server), Some(prompt)) = (parts.next(), parts.next()) else {
            return Err(catalog_file::fault(
                &files.queries,
                number,
                "there is no tab before the prompt",
            ));
        };
        ui::out(found(&providers, server.trim(), prompt));
    }
    Ok(exit::OK)
}

/// Names as the catalogue has them, in one provider and across. Of a server that the catalogue lacks there
/// is nothing to be found.
fn found(providers: &CatalogFile, server: &str, prompt: &str) -> String {
    let menu = match providers.get(server) {
        Some(only) => Menu::of(&only.provider, &only.lists, Some(prompt)),
        None => {
            let all = providers.values().filter(|_| server.is_empty());
            let all: Vec<_> = all
                .map(|OfflineProvider { provider, lists, .. }| (&**provider, &**lists))
                .collect();
            Menu::across(&all, prompt)
        }
    };
    let name = |entry: &MenuEntry<'_>| entry.tool.upstream.clone();
    let line = json!({
        "server": server,
        "prompt": prompt,
        "status": menu.status().as_str(),
        "ranks": menu.entries().iter().map(name).collect::<Vec<_>>(),
        "menu": menu.with_signatures().map(name).collect::<Vec<_>>(),
    });
    line.to_string()
}
