//! Credentials: who calls, how requests to a provider are signed, and where tokens are stored and renewed.
//!
//! The call path sees [`ProviderAuth`]; `manager` hands out accounts' signatures from memory and renews
//! them by the rules of `refresh`; `broker` connects accounts; `oauth` speaks to authorization servers;
//! `vault` stores records; `access` knows callers.

#[cfg(test)]
extern crate self as pleiades_credential;

pub mod access;
pub mod all_accounts;
pub mod broker;
mod cache;
mod clock;
pub mod connection;
pub mod imported_token;
mod key;
pub mod manager;
pub mod oauth;
pub mod pinned;
pub mod record;
mod refresh;
pub mod scheduler;
mod signature;
mod slot;
pub mod user_accounts;
pub mod vault;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use http::HeaderName;
use ring::digest::{Context, SHA256};
use zeroize::Zeroizing;

pub use connection::{Connection, Connections};
pub use key::{AccountKey, AccountOwner};
pub use pleiades_core::signature::{CredentialSource, Signature, SignedHeaders};
pub use pleiades_core::web::{AddressPolicy, HttpClient, SendError};
use pleiades_core::{secret::Secret, signature::sensitive};
pub use signature::{ClientCredentialsTokens, NoClientCredentials};

/// How requests to a provider are signed.
#[derive(Debug, Clone)]
pub enum ProviderAuth {
    /// Not at all.
    None,
    /// One credential for all callers, which the descriptor holds.
    ApiKey {
        /// The field of the descriptor that holds it, for whoever has to correct it.
        field: &'static str,
        /// The headers that carry it.
        signature: Arc<Signature>,
    },
    /// The caller brings a key on each request.
    ClientKey(Arc<ClientKey>),
    /// Every user connects accounts of their own; the manager hands out their signatures.
    OAuth(Arc<Connection>),
    /// One token for all callers, which the manager requests and renews.
    ClientCredentials(Arc<Connection>, Arc<Signature>),
}

/// A key that the caller brings; never stored, never logged.
#[derive(Debug, Clone)]
pub struct ClientKey {
    /// Request headers it may come in, the first present wins.
    pub headers: Vec<HeaderName>,
    /// The environment variable it comes in over stdio.
    pub env: Option<String>,
    /// The upstream header it goes out in.
    pub forward_as: HeaderName,
    /// Put before the key.
    pub prefix: String,
    /// Headers of the caller that go out under another name beside the key.
    pub companions: Vec<(HeaderName, HeaderName)>,
    /// Used when the caller brings none.
    pub fallback: Option<Secret>,
}

/// What the caller sent: values of the headers (or environment variables) that any loaded
/// `client_key` names, by lower-case header name. Filled by the transport, read by [`ProviderAuth::sign`].
#[derive(Clone, Default)]
pub struct CallerKeys {
    /// Header name to value.
    pub headers: HashMap<HeaderName, Secret>,
    /// Whether the transport is stdio, where keys come in the environment.
    pub environment: BTreeMap<String, Secret>,
}

impl std::fmt::Debug for CallerKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.headers.keys()).finish()
    }
}

/// The caller must bring a key: which header, which variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingKey {
    /// Header names that are accepted.
    pub headers: Vec<String>,
    /// The environment variable over stdio.
    pub env: Option<String>,
}

impl ProviderAuth {
    /// The headers for one request. `None` and `ApiKey` hand out a shared value.
    ///
    /// # Errors
    /// [`MissingKey`] when the caller must bring a key and brought none that a header can carry, and for
    /// accounts, which the manager signs for.
    pub fn sign(&self, caller_keys: &CallerKeys) -> Result<Arc<Signature>, MissingKey> {
        static UNSIGNED: LazyLock<Arc<Signature>> = LazyLock::new(Arc::default);
        match self {
            Self::None => Ok(Arc::clone(&UNSIGNED)),
            Self::ApiKey { signature, .. } | Self::ClientCredentials(_, signature) => {
                Ok(Arc::clone(signature))
            }
            Self::ClientKey(key) => key.sign(caller_keys).ok_or_else(|| key.missing()),
            Self::OAuth(_) => Err(MissingKey {
                headers: Vec::new(),
                env: None,
            }),
        }
    }

    /// Whether every caller is signed alike, so that lists and sessions can be shared.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        match self {
            Self::None | Self::ApiKey { .. } | Self::ClientCredentials(..) => true,
            Self::ClientKey(_) | Self::OAuth(_) => false,
        }
    }

    /// The connection whose accounts callers use.
    #[must_use]
    pub const fn connection(&self) -> Option<&Arc<Connection>> {
        match self {
            Self::OAuth(connection) => Some(connection),
            Self::None | Self::ApiKey { .. } | Self::ClientKey(_) | Self::ClientCredentials(..) => None,
        }
    }

    /// Names of the headers that callers may bring keys and companions in, for the transport to collect.
    pub fn key_headers(&self) -> impl Iterator<Item = &HeaderName> {
        let key = match self {
            Self::ClientKey(key) => Some(key),
            Self::None | Self::ApiKey { .. } | Self::OAuth(_) | Self::ClientCredentials(..) => None,
        };
        key.into_iter().flat_map(|key| {
            key.headers
                .iter()
                .chain(key.companions.iter().map(|(from, _)| from))
        })
    }
}

impl ClientKey {
    fn sign(&self, caller_keys: &CallerKeys) -> Option<Arc<Signature>> {
        let own = self
            .headers
            .iter()
            .find_map(|name| caller_keys.headers.get(name))
            .or_else(|| caller_keys.environment.get(self.env.as_ref()?));
        let key = own.or(self.fallback.as_ref())?.expose().trim();
        if key.is_empty() {
            return None;
        }
        let mut account = own.map(|_| Context::new(&SHA256));
        let mut headers = Vec::with_capacity(1 + self.companions.len());
        headers.push((self.forward_as.clone(), sensitive(&self.prefixed(key)).ok()?));
        digest(account.as_mut(), key);
        // A companion names whose quota a key is used on: with the fallback it stays behind,
        // or a caller could choose it for a key that is not theirs.
        for (from, to) in self.companions.iter().filter(|_| own.is_some()) {
            let Some(value) = caller_keys.headers.get(from) else {
                continue;
            };
            headers.push((to.clone(), sensitive(value.expose()).ok()?));
            digest(account.as_mut(), to.as_str());
            digest(account.as_mut(), value.expose());
        }
        let account = account.and_then(|context| context.finish().as_ref().try_into().ok());
        Some(Arc::new(Signature::fixed(headers, account)))
    }

    /// Callers may bring the key with the prefix already on it.
    fn prefixed(&self, key: &str) -> Zeroizing<String> {
        let scheme = self.prefix.trim_end();
        let bare = key
            .get(..scheme.len())
            .filter(|head| !scheme.is_empty() && head.eq_ignore_ascii_case(scheme))
            .and_then(|_| key.get(scheme.len()..))
            .filter(|rest| rest.starts_with(' '))
            .map_or(key, str::trim_start);
        Zeroizing::new(format!("{}{bare}", self.prefix))
    }

    fn missing(&self) -> MissingKey {
        MissingKey {
            headers: self.headers.iter().map(|name| name.as_str().to_owned()).collect(),
            env: self.env.clone(),
        }
    }
}

/// Length first, so that two parts never read as one.
fn digest(context: Option<&mut Context>, part: &str) {
    if let Some(context) = context {
        context.update(&part.len().to_le_bytes());
        context.update(part.as_bytes());
    }
}

#[cfg(test)]
mod tests;
