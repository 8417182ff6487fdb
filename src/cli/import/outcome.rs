//! The result for each server of a file.

use std::path::PathBuf;

use super::rewrite::Variable;

#[derive(Debug)]
pub(super) struct ImportedServer {
    /// Its name in the client's configuration.
    pub(super) server: String,
    pub(super) file: PathBuf,
    pub(super) id: String,
    pub(super) became: ImportOutcome,
    pub(super) variables: Vec<Variable>,
    pub(super) notes: Vec<String>,
}

#[derive(Debug)]
pub(super) enum ImportOutcome {
    /// Text to write, and why it is disabled if it is.
    Ready {
        text: String,
        waits: Option<String>,
    },
    Skipped(String),
}
