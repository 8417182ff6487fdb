//! Which file a descriptor's command starts.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

/// A command's first word that means this very program, wherever it is and whatever PATH says.
const OWN_NAME: &str = "pleiades";

/// Where Linux keeps the program that runs, also when its file was replaced or removed since it started
/// (proc(5)): a gateway that is being upgraded starts children of its own version.
#[cfg(target_os = "linux")]
const RUNNING: &str = "/proc/self/exe";

/// Whether a command's first word means this very program.
#[must_use]
pub fn is_own_program(word: &str) -> bool {
    word == OWN_NAME
}

/// What is started for a command's first word.
///
/// # Errors
/// It means this very program, and where that is cannot be found out.
pub(crate) fn resolve(word: &str) -> io::Result<Cow<'_, Path>> {
    if is_own_program(word) {
        own_program().map(Cow::Owned)
    } else {
        Ok(Cow::Borrowed(Path::new(word)))
    }
}

/// The file of this very program.
///
/// # Errors
/// It cannot be found out: on Linux `/proc` is not mounted.
#[cfg(target_os = "linux")]
pub fn own_program() -> io::Result<PathBuf> {
    std::fs::metadata(RUNNING).map(|_| PathBuf::from(RUNNING))
}

/// The file of this very program.
///
/// # Errors
/// It cannot be found out.
#[cfg(not(target_os = "linux"))]
pub fn own_program() -> io::Result<PathBuf> {
    std::env::current_exe()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_means_this_program_and_every_other_word_itself() {
        for word in [
            "npx",
            "./pleiades",
            "/usr/bin/pleiades",
            "Pleiades",
            "pleiades ",
            "",
        ] {
            assert_eq!(resolve(word).unwrap(), Path::new(word));
        }
        let own = resolve("pleiades").unwrap();
        assert_eq!(own.canonicalize().unwrap(), std::env::current_exe().unwrap());
    }
}
