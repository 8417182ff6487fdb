//! What a provider needs from its caller, and the header that comes of it.

use std::{collections::BTreeMap, sync::Arc};

use http::{HeaderName, HeaderValue};

use crate::secret::Secret;

/// How requests to a provider are signed.
#[derive(Debug, Clone)]
pub enum Need {
    /// Not at all.
    None,
    /// One key for all callers.
    ApiKey(Arc<Signature>),
    /// The caller brings a key on each request.
    ClientKey(Arc<ClientKey>),
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

/// What the caller brought: values of the headers (or environment variables) that any loaded
/// `client_key` names, by lower-case header name. Filled by the transport, read by [`Need::sign`].
#[derive(Clone, Default)]
pub struct Brought {
    /// Header name to value.
    pub headers: BTreeMap<HeaderName, Secret>,
    /// Whether the transport is stdio, where keys come in the environment.
    pub environment: BTreeMap<String, Secret>,
}

impl std::fmt::Debug for Brought {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.headers.keys()).finish()
    }
}

/// A signed request's headers, and a fingerprint of them that names the account they stand for.
#[derive(Debug, Clone, Default)]
pub struct Signature {
    /// Headers to put on the upstream request; marked sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// SHA-256 over what the *caller* brought, `None` when every caller is signed alike: part of
    /// the key of sessions and catalogues.
    pub account: Option<[u8; 32]>,
}

/// The caller must bring a key: which header, which variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Header names that are accepted.
    pub headers: Vec<String>,
    /// The environment variable over stdio.
    pub env: Option<String>,
}

// SEAM (to be implemented in this module by the upstream helper):
//
// impl Need {
//     /// The headers for one request; no allocation for `None` and `ApiKey` (a shared Arc is handed out).
//     pub fn sign(&self, brought: &Brought) -> Result<Arc<Signature>, Missing>;
//     /// Whether every caller is signed alike, so that lists are shared.
//     pub fn is_shared(&self) -> bool;
//     /// Header names (lower case) that callers may bring keys in, for the transport to collect.
//     pub fn brings(&self) -> impl Iterator<Item = &HeaderName>;
// }
// impl Signature { pub fn of_header(name: HeaderName, value: &Secret) -> Result<Signature, InvalidHeaderValue>; }
