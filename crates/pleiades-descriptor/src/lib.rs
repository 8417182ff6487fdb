//! What a provider's YAML file says: its types, its schema, and the reader that finds every fault
//! of it at once. Plain data: `catalog::compile` alone turns a [`Descriptor`] into what runs.

mod address;
mod auth;
mod fault;
mod header;
mod limits;
mod meaning;
mod pem;
mod policy;
mod provider;
mod read;
mod reference;
mod report;
mod scalar;
mod schema;
pub mod settings;
mod shape;
mod suggest;
mod upstream;
mod yaml;

pub use auth::{
    ApiKey, Auth, ClientCredentials, ClientKeyConfig, OAuth, OAuthConnect, OAuthFlow, PkceMode, Refresh,
    TokenAuth, Unsigned,
};
pub use fault::{Fault, Severity};
pub use limits::{BreakerConfig, Limits, RateConfig, RateScope};
pub use policy::{Allow, Arguments, Consent, ConsentFrequency, Pin, Price, RelayMode, Tools};
pub use provider::{CacheConfig, Descriptor, Exposure, Facade, Mode, OperationNames, Results, Split};
pub use read::{duplicate_fault, files, mark_duplicates, read, read_file, unreadable};
pub use scalar::{Glob, Globs, References, Size, Span, TokenLimit};
pub use schema::published as schema;
/// What others read and check beside whole files.
pub mod reader {
    pub use super::{
        address::{LocalAddress, local_ip},
        header::{forbidden_outward, is_secret as is_secret_header},
        read::{bytes, resolved_tree},
        reference::{is_variable, reason, reference_names},
        suggest::near,
        yaml::{Kind, Node, Pos, parse as tree},
    };
}

pub use upstream::{Protocol, ShareScope, Timeouts, Upstream, UpstreamTarget, UpstreamTls};

use std::{path::PathBuf, sync::Arc};

use pleiades_core::secret::Secret;

/// Looks a variable of the environment up.
pub type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Where `${vault:path#key}` is looked up.
#[derive(Clone, Default)]
pub enum SecretSource {
    /// Nowhere: credentials are not kept in HashiCorp Vault.
    #[default]
    None,
    /// In the KV engine that our own entries are kept in.
    Vault {
        /// Its mount. A path may begin with it, as commands of Vault take it.
        mount: String,
        /// Where our own entries are, which no descriptor reads.
        prefix: String,
        /// Answers a path within the mount and a key with the text of the field, or with why there is
        /// none; it may block. `None`: nobody is asked, and a sound reference is no fault.
        lookup: Option<VaultLookup>,
    },
}

/// Looks a field of an entry up: path within the mount, key.
pub type VaultLookup = Arc<dyn Fn(&str, &str) -> Result<Secret, String> + Send + Sync>;

impl std::fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Vault { .. } => "Vault(…)",
        })
    }
}

impl SecretSource {
    pub(crate) const NOWHERE: &'static Self = &Self::None;
}

/// Everything beside the file that the meaning of a descriptor depends on.
#[derive(Clone)]
pub struct ReadContext {
    /// The environment.
    pub env: Environment,
    /// Which variables and files references may name.
    pub references: References,
    /// Where references to Vault are looked up.
    pub secrets: SecretSource,
    /// Whether descriptors may start processes.
    pub commands: bool,
    /// Whether the gateway itself listens on a loopback address only.
    pub loopback: bool,
}

impl std::fmt::Debug for ReadContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadContext")
            .field("references", &self.references)
            .field("commands", &self.commands)
            .field("loopback", &self.loopback)
            .finish_non_exhaustive()
    }
}

/// One descriptor file as it was read.
#[derive(Debug)]
pub struct DescriptorFile {
    /// Path as given.
    pub file: PathBuf,
    /// The id, when the file has a legal one.
    pub id: Option<String>,
    /// Where the id stands: line and column, 1-based, in characters.
    pub id_at: (usize, usize),
    /// Where `upstream.url` stands, for faults of the network.
    pub url_at: (usize, usize),
    /// The title, else the id, else the file's stem.
    pub title: String,
    /// `enabled`; true when it is absent or unreadable.
    pub enabled: bool,
    /// Defaults applied, references resolved; `Some` only when no fault is of [`Severity::Fault`].
    pub descriptor: Option<Descriptor>,
    /// Everything there is to say, by position.
    pub faults: Vec<Fault>,
}
