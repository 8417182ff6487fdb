//! Servers that no descriptor names: who may connect them, and where they live.

use std::sync::Arc;

use wildmatch::WildMatch;

use super::Caller;
use super::wanted::Wanted;
use crate::catalog::Provider;

/// Which servers may be connected beside the loaded ones.
#[derive(Debug, Default)]
pub struct Allowed {
    /// `connect_api.allow`: globs over whole URLs.
    pub urls: Vec<WildMatch>,
    /// Whether the gateway itself listens on loopback, where loopback servers need no permission.
    pub loopback: bool,
}

/// The server as a provider of this caller's alone.
///
/// # Errors
/// A sentence for the person who connects.
pub(super) async fn invited(
    _caller: &Caller<'_>,
    _wanted: &Wanted,
    _allowed: &Allowed,
) -> Result<Arc<Provider>, String> {
    Err("this URL may not be connected here: the operator allows some with `connect_api.allow`".to_owned())
}
