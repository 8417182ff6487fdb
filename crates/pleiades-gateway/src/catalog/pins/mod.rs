//! Whether tools are what they were when they were approved: a provider that changes the definition of a tool
//! changes what models do, and nobody has seen it.

pub(super) mod definition;
pub mod difference;
mod record;
mod review;
mod settle;
mod state;
mod store;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::compile::describe_io;
pub use record::{ApprovedDefinition, PinRecord};
pub use review::{ApprovalFault, ChangedTool, PinReview};
pub(super) use settle::watch;
pub(super) use state::Pins;
pub use store::{NoPinStore, PinStore, StoredPins, VaultPins};

/// Largest pins file that is read, in bytes.
const LARGEST: u64 = 16 << 20;

/// What becomes of a tool whose definition is another than the approved ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum PinMode {
    /// Nothing is looked at.
    #[default]
    Off,
    /// It is logged and counted.
    Warn,
    /// It is withheld, too.
    Enforce,
}

/// `tools.pin`, and the approved definitions where a file beside the descriptor holds them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct PinRule {
    pub(super) mode: PinMode,
    pub(super) file: Option<Arc<PinRecord>>,
}

/// Where the approved definitions of a descriptor's provider may be kept beside it.
#[must_use]
pub fn file_beside(descriptor: &Path, id: &str) -> PathBuf {
    descriptor.with_file_name(format!("{id}.pins.json"))
}

/// Whether the pins file beside a descriptor, if there is one, can be read whole.
///
/// # Errors
/// Why not.
pub fn check_file(descriptor: &Path, id: &str) -> Result<(), String> {
    read_file(&file_beside(descriptor, id)).map(drop)
}

/// The approved definitions of a file; `None` when there is no file.
///
/// # Errors
/// Why it cannot be read: never less than all of it is taken.
pub(super) fn read_file(path: &Path) -> Result<Option<PinRecord>, String> {
    let named = |why: String| format!("`{}`: {why}", path.display());
    let text = match fs::metadata(path) {
        Ok(file) if file.len() > LARGEST => Err(format!("it is larger than {} MiB", LARGEST >> 20)),
        Ok(_) => fs::read_to_string(path).map_err(|error| describe_io(&error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => Err(describe_io(&error)),
    };
    let record = text.and_then(|text| PinRecord::read(&text));
    record.map(Some).map_err(named)
}
