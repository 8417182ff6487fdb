//! How this very program is started again with the same settings, as a shell reads it: the beginning of the
//! commands that people are told to run.

use std::path::Path;

use super::Global;
use pleiades_core::text::shell_word;
use pleiades_descriptor::settings::{self, Settings};

/// Where credentials are kept depends on it.
pub(super) const DATA_HOME: &str = "XDG_DATA_HOME";

/// In the same terminal: as it was typed.
pub(super) fn as_typed(global: &Global) -> String {
    let program = std::env::args_os().next();
    let program = program.map_or_else(|| "pleiades".to_owned(), |it| it.to_string_lossy().into_owned());
    let files = [
        ("--config", global.config.as_deref().map(text)),
        ("--providers", global.providers.as_deref().map(text)),
    ];
    line(&program, files, global)
}

/// From any folder and any terminal of this user: a desktop client has started this process, in a folder and
/// with variables of its own.
pub(super) fn from_anywhere(global: &Global, settings: &Settings) -> String {
    // Of a program that was replaced since it started the system names a file that is not there.
    let program = std::env::current_exe().ok().filter(|file| file.is_file());
    let program = program.map_or_else(|| "pleiades".to_owned(), |file| text(&file));
    let config = settings::file(global.config.as_deref());
    let is_named = global.providers.is_some() || config.is_none();
    let files = [
        ("--config", config.as_deref().map(absolute)),
        ("--providers", is_named.then(|| absolute(&settings.providers))),
    ];
    let line = line(&program, files, global);
    let variables = settings::variables();
    let data = variables
        .iter()
        .find(|(name, value)| name == DATA_HOME && !value.is_empty());
    match data {
        Some((_, folder)) => format!("{DATA_HOME}={} {line}", shell_word(&folder.to_string_lossy())),
        None => line,
    }
}

fn line(program: &str, files: [(&str, Option<String>); 2], global: &Global) -> String {
    let callers = [
        ("--tenant", global.tenant.clone()),
        ("--user", global.user.clone()),
    ];
    let mut line = shell_word(program);
    for (flag, value) in files.into_iter().chain(callers) {
        if let Some(value) = value {
            line = format!("{line} {flag} {}", shell_word(&value));
        }
    }
    line
}

fn absolute(path: &Path) -> String {
    text(&std::path::absolute(path).unwrap_or_else(|_| path.to_owned()))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
