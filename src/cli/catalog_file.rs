//! A catalogue in a file: JSON lines `{server, name, description, inputSchema, annotations?}`, one a tool.

use std::collections::BTreeMap;
use std::path::Path;

use super::{exit, ui};
use pleiades_core::text::one_line;
use pleiades_gateway::catalog::OfflineProvider;
use pleiades_mcp::{Raw, RawObject};

/// Largest file that is read, in bytes.
const LARGEST: u64 = 256 << 20;

/// Providers by id, whose tools are those of a file.
pub(super) type CatalogFile = BTreeMap<String, OfflineProvider>;

/// Reads a catalogue; a fault is printed, and decides the exit code. What a gateway would leave out of a
/// provider's list is left out here too, and printed.
pub(super) fn read(path: &Path) -> Result<CatalogFile, u8> {
    let mut entries: BTreeMap<String, Vec<Raw>> = BTreeMap::new();
    for (number, line) in lines(&text(path)?) {
        let mut tool = object(path, number, line)?;
        let Some(server) = tool.read::<String>("server") else {
            return Err(fault(path, number, "there is no `server`"));
        };
        tool.remove("server");
        entries.entry(server).or_default().push(tool.close());
    }
    let mut providers = CatalogFile::new();
    for (id, entries) in entries {
        let provider = OfflineProvider::new(&id, &entries);
        for why in &provider.left_out {
            ui::err(format_args!("{}: {why}", one_line(&id, 80)));
        }
        providers.insert(id, provider);
    }
    Ok(providers)
}

/// A file of text.
pub(super) fn text(path: &Path) -> Result<String, u8> {
    let length = std::fs::metadata(path).map(|meta| meta.len());
    let read = match length {
        Ok(length) if length > LARGEST => Err(format!("it is larger than {LARGEST} bytes")),
        _ => std::fs::read_to_string(path).map_err(|cause| cause.to_string()),
    };
    read.map_err(|why| {
        ui::fail(format_args!("{}: {why}", path.display()));
        exit::USAGE
    })
}

/// Its lines that are not blank, by number from 1.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = (1..).zip(text.trim_start_matches('\u{feff}').lines());
    numbered.filter(|(_, line)| !line.trim().is_empty())
}

/// A line as an object.
pub(super) fn object(path: &Path, number: usize, line: &str) -> Result<RawObject, u8> {
    serde_json::from_str(line).map_err(|cause| fault(path, number, &format!("it is no JSON object: {cause}")))
}

/// Prints what is wrong with a line.
pub(super) fn fault(path: &Path, number: usize, why: &str) -> u8 {
    ui::fail(format_args!("{}:{number}: {why}", path.display()));
    exit::USAGE
}
