//! Who is calling.

pub mod doors;
mod prove;

use std::sync::Arc;

pub use prove::{Login, Proves};

/// A caller as the rest of the way knows it. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Principal {
    /// The tenant; two tenants never see each other's anything.
    pub tenant: Arc<str>,
    /// The user within the tenant.
    pub user: Arc<str>,
}

impl Principal {
    /// A principal of a tenant.
    pub fn new(tenant: impl Into<Arc<str>>, user: impl Into<Arc<str>>) -> Self {
        Self {
            tenant: tenant.into(),
            user: user.into(),
        }
    }

    /// The bytes that sealed ids are bound to; unambiguous for every pair of names.
    #[must_use]
    pub fn binding(&self) -> String {
        format!("{}:{}/{}", self.tenant.len(), self.tenant, self.user)
    }
}
