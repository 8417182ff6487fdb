//! Whether a call becomes a task, and who looks after it then.

use std::collections::HashSet;

use parking_lot::Mutex;

use crate::catalog::{Catalogue, Provider};
use pleiades_mcp::{Revision, task};

/// Tools that are remembered; beyond it all are forgotten, which costs each one refused call.
const REMEMBERED: usize = 4_096;

/// How a call meets tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TaskMode {
    /// It is answered when it is done.
    None,
    /// It is asked for as a task of 2025-11-25.
    Core,
    /// It declares the extension although its client does not.
    DeclaredCapabilities,
    /// Its client declares the extension and looks after its tasks itself.
    Native,
}

/// Tools that can only be called with the extension, as their calls have shown.
#[derive(Debug, Default)]
pub(super) struct NeedingTasks(Mutex<HashSet<([u8; 32], Box<str>)>>);

impl NeedingTasks {
    pub(super) fn has(&self, provider: &Provider, tool: &str) -> bool {
        let known = self.0.lock();
        !known.is_empty() && known.contains(&(provider.endpoint.digest, tool.into()))
    }

    pub(super) fn learn(&self, provider: &Provider, tool: &str) {
        let mut known = self.0.lock();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert((provider.endpoint.digest, tool.into()));
    }
}

/// Whether a provider offers the extension.
pub(crate) fn offers_tasks(catalogue: &Catalogue) -> bool {
    catalogue.profile.as_ref().is_some_and(|profile| {
        profile.revisions.contains(Revision::V2026_07_28) && task::has_extension(&profile.capabilities)
    })
}
