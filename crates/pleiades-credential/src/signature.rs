//! Who signs for connections that are nobody's: client credentials.

use std::sync::Arc;

use pleiades_core::signature::Signature;

use super::{connection::Connection, record::AccountState, vault::Kind};

/// Signs for connections that are nobody's: client credentials.
pub trait ClientCredentialsTokens: Send + Sync + std::fmt::Debug {
    /// The signature of a connection; it has its token when it is first asked to be ready.
    fn signature(&self, connection: &Arc<Connection>) -> Arc<Signature>;

    /// Why the store of accounts did not answer last, where it did not.
    fn store_trouble(&self) -> Option<Kind> {
        None
    }

    /// How the accounts of a connection fare that are in memory: how many are in which state.
    fn accounts(&self, _connection: &str) -> Vec<(AccountState, usize)> {
        Vec::new()
    }
}

/// Signs nothing: for what is only looked at.
#[derive(Debug, Clone, Copy)]
pub struct NoClientCredentials;

impl ClientCredentialsTokens for NoClientCredentials {
    fn signature(&self, _connection: &Arc<Connection>) -> Arc<Signature> {
        Arc::default()
    }
}
