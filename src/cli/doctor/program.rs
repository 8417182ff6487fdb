//! Whether the program of a `command` can be started at all.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::step::{StepDetail, StepFailure};
use pleiades_core::error::Code;
use pleiades_core::secret::Secret;

/// Finds a program as the operating system will: a path from the descriptor's folder, a name in PATH.
pub(super) fn find(
    command: &[String],
    env: &[(String, Secret)],
    folder: &Path,
    minimal: &[(OsString, OsString)],
) -> Result<StepDetail, StepFailure> {
    let name = command.first().map(String::as_str).unwrap_or_default();
    if pleiades_upstream::is_own_program(name) {
        return own_program();
    }
    if name.contains('/') {
        let path = folder.join(name);
        return match is_program(&path) {
            true => Ok(path.display().to_string().into()),
            false if path.exists() => Err(StepFailure::new(
                Code::UpstreamUnreachable,
                format!("{}: {}", path.display(), words(Errno::ACCESS)),
                "make it executable: `chmod +x`",
            )),
            false => Err(StepFailure::new(
                Code::UpstreamUnreachable,
                format!("{}: {}", path.display(), words(Errno::NOENT)),
                "correct `upstream.command`; a path is relative to the descriptor's folder",
            )),
        };
    }
    let own = env
        .iter()
        .find(|(name, _)| name == "PATH")
        .map(|(_, value)| OsString::from(value.expose()));
    let inherited = || {
        minimal
            .iter()
            .find(|(name, _)| name == "PATH")
            .map(|(_, value)| value.clone())
    };
    let path = own.or_else(inherited).unwrap_or_default();
    let found = folders(&path)
        .map(|folder| folder.join(name))
        .find(|path| is_program(path));
    found.map(|path| path.display().to_string().into()).ok_or_else(|| {
        let count = folders(&path).count();
        StepFailure::new(
            Code::UpstreamUnreachable,
            format!(
                "`{name}`: {}: it is in none of the {count} folders of PATH",
                words(Errno::NOENT)
            ),
            format!("install `{name}`, write its whole path in `upstream.command`, or set PATH in `upstream.env`"),
        )
    })
}

/// What the system says when a program is started that cannot be: as the log has it.
fn words(errno: Errno) -> std::io::Error {
    errno.into()
}

/// The program that runs; on Linux it starts although its file was replaced since.
fn own_program() -> Result<StepDetail, StepFailure> {
    match pleiades_upstream::own_program() {
        Ok(file) => {
            let file = std::fs::read_link(&file).unwrap_or(file);
            Ok(format!("this very program, {}", file.display()).into())
        }
        Err(cause) => Err(StepFailure::new(
            Code::UpstreamUnreachable,
            format!("where this very program is cannot be found out: {cause}"),
            "write the whole path of `pleiades` in `upstream.command`",
        )),
    }
}

fn folders(path: &OsString) -> impl Iterator<Item = PathBuf> {
    std::env::split_paths(path).filter(|folder| !folder.as_os_str().is_empty())
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o111 != 0)
}
