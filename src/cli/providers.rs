//! `pleiades tools` without a provider: which there are, and how they are.

use serde_json::{Value, json};

use super::ui::{self, BOLD, DIM};
use super::{Global, exit};
use crate::app::{RuntimeFile, providers};
use pleiades_descriptor::DescriptorFile;
use pleiades_descriptor::settings::{self, Settings};

pub(super) fn run(global: &Global) -> Result<u8, u8> {
    let overrides = global.overrides();
    let loaded = super::load(global, &overrides)?;
    let running = RuntimeFile::of(&loaded, &overrides).running();
    let entries = match running.and_then(|gateway| providers(&gateway)) {
        Some(entries) => entries.iter().map(reported).collect(),
        None => read(&loaded.settings).map_err(|cause| {
            let folder = loaded.settings.providers.display();
            ui::fail(format_args!(
                "the folder {folder}: {cause}; name it with `--providers`"
            ));
            exit::USAGE
        })?,
    };
    if global.json {
        ui::out(json!({ "providers": entries }));
        return Ok(exit::OK);
    }
    let text = |entry: &Value, key: &str| {
        entry[key]
            .as_str()
            .map_or_else(String::new, |text| ui::line(text, 120))
    };
    let rows: Vec<Vec<String>> = entries
        .iter()
        .map(|entry| ["id", "state", "title"].map(|key| text(entry, key)).to_vec())
        .collect();
    for line in ui::table(&rows) {
        let (id, rest) = line.split_once(' ').unwrap_or((&line, ""));
        ui::out(format_args!("{BOLD}{id}{BOLD:#} {DIM}{rest}{DIM:#}"));
    }
    if entries.is_empty() {
        let folder = loaded.settings.providers.display();
        ui::err(format_args!(
            "there is none in {folder}: `pleiades add` writes one"
        ));
    }
    Ok(exit::OK)
}

/// Stable: fields are added, never changed.
fn entry(id: &str, state: &str, title: &str) -> Value {
    json!({ "id": id, "state": state, "title": title })
}

/// As the gateway that runs says.
fn reported(line: &Value) -> Value {
    let text = |key: &str| line[key].as_str().unwrap_or_default();
    entry(text("id"), text("state"), text("title"))
}

/// As the files say; no provider is asked, so that nobody knows how it is.
fn read(settings: &Settings) -> std::io::Result<Vec<Value>> {
    let world = settings::read_context(settings);
    let files = pleiades_descriptor::files(&settings.providers)?;
    let mut reads: Vec<DescriptorFile> = files
        .iter()
        .map(|file| pleiades_descriptor::read_file(file, &world))
        .collect();
    pleiades_descriptor::mark_duplicates(&mut reads);
    let listed = reads.iter().map(|read| {
        let stem = read.file.file_stem().unwrap_or_default().to_string_lossy();
        let id = read.id.as_deref().unwrap_or(&stem);
        let state = match &read.descriptor {
            _ if !read.enabled => "disabled",
            None => "broken",
            Some(_) => "enabled",
        };
        let title = read
            .descriptor
            .as_ref()
            .and_then(|descriptor| descriptor.title.as_deref())
            .unwrap_or_default();
        entry(id, state, title)
    });
    let mut listed: Vec<Value> = listed.collect();
    listed.sort_by(|one, other| one["id"].as_str().cmp(&other["id"].as_str()));
    Ok(listed)
}
