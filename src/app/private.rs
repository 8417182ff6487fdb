//! Keeps memory and environment from other processes.

use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};

/// Keeps memory and environment from other processes of the same user, and from the disk.
///
/// No core is written, and `/proc/PID/environ`, `mem` and the like are root's (`prctl(2)`,
/// `PR_SET_DUMPABLE`). Children are no less dumpable than they were, but write no core either.
pub(crate) fn keep_private() -> io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}
