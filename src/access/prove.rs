//! How a person who opens a page proves who they are.

use std::fmt;

use super::Principal;
use crate::secret::Secret;

/// `OpenID` login of whoever opens a connect link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The issuer, as its metadata names it.
    pub issuer: String,
    /// Our client id there.
    pub client_id: String,
    /// Our client secret there.
    pub client_secret: Option<Secret>,
}

/// Who may be who, as the settings say.
pub trait Proves: Send + Sync + fmt::Debug {
    /// Whose key this is.
    fn by_key(&self, key: &str) -> Option<Principal>;

    /// Whether anybody has a key.
    fn has_keys(&self) -> bool;

    /// Who a loopback peer is without any proof; `None` where everybody has to prove who they are.
    fn on_loopback(&self) -> Option<Principal>;

    /// Where people log in.
    fn login(&self) -> Option<&Login>;
}
