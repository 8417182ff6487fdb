//! The key by which a caller on this machine proves itself beside those who have keys: that it comes from
//! here proves nothing, for so does whatever a proxy on this machine passes on.

use std::path::PathBuf;

use pleiades_core::secret::Secret;
use pleiades_credential::vault::file::key;
use pleiades_descriptor::settings::{self, Settings};

/// Path of the key file; `None` when no local caller needs a key, or there is no home folder.
pub(crate) fn file(settings: &Settings) -> Option<PathBuf> {
    let is_needed = settings.access.local.is_some() && settings.access.names_callers();
    let folder = settings::data_folder().filter(|_| is_needed)?;
    Some(folder.join("local.key"))
}

/// The key, made when there is none; without a usable file local callers are not let in.
pub(super) fn secret(settings: &Settings) -> Option<Secret> {
    let file = file(settings)?;
    match key::read_or_make(&file) {
        Ok(key) => Some(key),
        Err(cause) => {
            tracing::error!(key.file = %file.display(), error = %cause, "the key of `access.local` cannot be used: nobody is let in as the local caller");
            None
        }
    }
}
