//! Whether a call becomes a task, and who looks after it then.

use crate::catalog::{Catalogue, Provider};
use pleiades_core::bounded::Bounded;
use pleiades_mcp::{Revision, task};

/// Tools that are remembered; one that is forgotten costs a refused call.
const REMEMBERED: usize = 4_096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TaskMode {
    None,
    /// It is asked for as a task of 2025-11-25.
    Core,
    /// It declares the extension although its client does not.
    Declared,
    /// Its client declares the extension and looks after its tasks itself.
    Native,
}

/// Tools that can only be called with the extension, as their calls have shown.
#[derive(Debug)]
pub(super) struct NeedingTasks(Bounded<([u8; 32], Box<str>), ()>);

impl Default for NeedingTasks {
    fn default() -> Self {
        Self(Bounded::new(REMEMBERED))
    }
}

impl NeedingTasks {
    pub(super) fn has(&self, provider: &Provider, tool: &str) -> bool {
        let mut known = self.0.lock();
        !known.is_empty() && known.get(&(provider.endpoint.digest, tool.into())).is_some()
    }

    pub(super) fn learn(&self, provider: &Provider, tool: &str) {
        self.0.insert((provider.endpoint.digest, tool.into()), ());
    }
}

pub(crate) fn offers_tasks(catalogue: &Catalogue) -> bool {
    catalogue.profile.as_ref().is_some_and(|profile| {
        profile.revisions.contains(Revision::V2026_07_28) && task::has_extension(&profile.capabilities)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::exchange::tests::{LEGACY, MODERN, lists, provider};

    #[test]
    fn a_tool_that_needs_tasks_is_remembered_for_its_provider_alone() {
        let (needing, one) = (NeedingTasks::default(), provider("one"));
        assert!(!needing.has(&one, "slow"));
        needing.learn(&one, "slow");
        assert!(needing.has(&one, "slow") && !needing.has(&one, "other"));
    }

    #[test]
    fn no_more_tools_are_remembered_than_allowed() {
        let (needing, one) = (NeedingTasks::default(), provider("one"));
        for at in 0..=REMEMBERED {
            needing.learn(&one, &at.to_string());
        }
        assert!(needing.0.lock().len() <= REMEMBERED);
        assert!(needing.has(&one, &REMEMBERED.to_string()), "the latest stays");
    }

    #[test]
    fn tasks_are_offered_by_whoever_names_the_extension_and_speaks_2026_07_28() {
        let extended = json!({ "extensions": { "io.modelcontextprotocol/tasks": {} } });
        assert!(offers_tasks(&lists(&[MODERN], &extended, &[])));
        assert!(!offers_tasks(&lists(&[LEGACY], &extended, &[])));
        assert!(!offers_tasks(&lists(&[MODERN], &json!({}), &[])));
        assert!(!offers_tasks(&Catalogue::default()));
    }
}
