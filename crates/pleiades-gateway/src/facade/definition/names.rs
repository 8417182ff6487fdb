//! The names of operations in one order, whatever the provider's is.

use crate::catalog::Tool;

/// Operations by the names that they are shown by.
pub(super) fn sorted<'a>(tools: impl Iterator<Item = &'a Tool>) -> Vec<&'a Tool> {
    let mut tools: Vec<&Tool> = tools.collect();
    tools.sort_unstable_by(|one, other| (&one.short, &one.upstream).cmp(&(&other.short, &other.upstream)));
    tools
}
