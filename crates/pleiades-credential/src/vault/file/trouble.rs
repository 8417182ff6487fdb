//! What goes wrong with a file, as a store says it.

use std::{path::Path, time::Duration};

use rusqlite::ErrorCode as Code;

use crate::vault::{Fault, Kind};

/// When a store that others hold is worth another try.
const RETRY_AFTER: Duration = Duration::from_secs(1);

pub(super) fn damaged() -> Fault {
    let message =
        "an entry of the vault file was changed or moved by others and does not open: restore a backup";
    Fault::new(Kind::Corrupt, message).cured("restore a backup of the vault file and its key")
}

/// What the database says; its text names no value and no path of an entry.
pub(super) fn fault(cause: rusqlite::Error) -> Fault {
    const DAMAGED: &str = "the vault file is damaged or no vault: restore a backup";
    let (kind, message) = match cause.sqlite_error_code() {
        Some(Code::DatabaseBusy | Code::DatabaseLocked) => return busy().because(cause),
        Some(Code::NotADatabase) => (Kind::Unopened, DAMAGED),
        Some(Code::DatabaseCorrupt) => (Kind::Corrupt, DAMAGED),
        Some(
            Code::ReadOnly
            | Code::PermissionDenied
            | Code::CannotOpen
            | Code::AuthorizationForStatementDenied,
        ) => (
            Kind::Denied,
            "the vault file or its folder cannot be written: let the gateway's user write both",
        ),
        Some(Code::DiskFull) => (Kind::Failed, "the disk of the vault file is full: make room"),
        Some(Code::SystemIoFailure) => (Kind::Failed, "the disk of the vault file fails"),
        // A column that is not of its type was not written by us.
        None => return damaged().because(cause),
        Some(_) => (Kind::Failed, "the vault file cannot be used"),
    };
    let cure = match kind {
        Kind::Denied => WRITABLE,
        Kind::Failed => {
            "look at the disk of the vault file: whether it is full, and what the system's log says"
        }
        _ => "restore a backup of the vault file and its key, or name another file as `vault.file.path`",
    };
    Fault::new(kind, message).cured(cure).because(cause)
}

/// What mends a place that cannot be written.
pub(super) const WRITABLE: &str = "let the user that the gateway runs as write the vault file and its folder, \
                                   or name another file as `vault.file.path`";

/// Others hold the file, in this process or in another.
pub(super) fn busy() -> Fault {
    let message = "the vault file is held by others for longer than 5 seconds";
    let mut fault = Fault::new(Kind::Unreachable, message).cured("end what holds it, or try again");
    fault.retry_after = Some(RETRY_AFTER);
    fault
}

pub(super) fn rekeying() -> Fault {
    let mut fault = Fault::new(Kind::Unreachable, "the vault is being put under another key")
        .cured("try again when `pleiades vault rekey` is done");
    fault.retry_after = Some(RETRY_AFTER);
    fault
}

/// Others use the vault, and would go on under its old key.
pub(super) fn used(path: &Path) -> Fault {
    let message = format!(
        "a gateway or a command uses the vault {}: end it, and run this again; nothing was changed",
        path.display()
    );
    Fault::new(Kind::Unreachable, message)
}
