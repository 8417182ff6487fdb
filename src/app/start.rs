//! What the log says of the start of a gateway: what it runs with, or why it cannot.

use std::path::Path;

use super::Fault;
use pleiades_descriptor::settings::{Settings, VaultSettings};

/// The first line: release, addresses, files, and where credentials are kept.
pub(crate) fn log_start(settings: &Settings, file: Option<&Path>) {
    let vault = match &settings.vault {
        VaultSettings::File(_) => "file",
        VaultSettings::Hashicorp(_) => "hashicorp",
    };
    let whole = |path: &Path| std::path::absolute(path).unwrap_or_else(|_unknown| path.to_owned());
    let providers = whole(&settings.providers);
    tracing::info!(
        server.version = env!("CARGO_PKG_VERSION"),
        server.listen = %settings.listen,
        server.admin = %settings.admin,
        server.settings = file.map(|file| tracing::field::display(whole(file).display().to_string())),
        server.providers = %providers.display(),
        server.vault = vault,
        "starting to serve"
    );
}

/// Why it cannot start.
pub(crate) fn log_fault(fault: &Fault) {
    tracing::error!(
        error = fault as &dyn std::error::Error,
        "the gateway cannot start"
    );
}
