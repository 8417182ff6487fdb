//! Which tools of a provider exist for callers.

use std::sync::Arc;

use super::Tool;

/// `tools.allow` and `tools.deny`: globs over tool names; deny wins.
#[derive(Debug, Clone)]
pub struct ToolRules {
    /// At least one must match.
    pub allow: Vec<wildmatch::WildMatch>,
    /// None may match.
    pub deny: Vec<wildmatch::WildMatch>,
}

impl ToolRules {
    /// Whether a tool exists for callers: by its own name or one that it is shown by; a rule that denies
    /// any of them denies it.
    #[must_use]
    pub(crate) fn admits_tool(&self, tool: &Tool) -> bool {
        let names = [&*tool.upstream, &*tool.name, &*tool.alias];
        let fits = |globs: &[wildmatch::WildMatch]| {
            globs
                .iter()
                .any(|glob| names.iter().any(|name| glob.matches(name)))
        };
        fits(&self.allow) && !fits(&self.deny)
    }

    pub(super) fn admitted(&self, tools: &[Arc<Tool>]) -> Vec<Arc<Tool>> {
        tools
            .iter()
            .filter(|tool| self.admits_tool(tool))
            .cloned()
            .collect()
    }
}

impl Default for ToolRules {
    /// Every tool.
    fn default() -> Self {
        Self {
            allow: vec![wildmatch::WildMatch::new("*")],
            deny: Vec::new(),
        }
    }
}

impl PartialEq for ToolRules {
    fn eq(&self, other: &Self) -> bool {
        fn same(a: &[wildmatch::WildMatch], b: &[wildmatch::WildMatch]) -> bool {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.pattern() == b.pattern())
        }
        same(&self.allow, &other.allow) && same(&self.deny, &other.deny)
    }
}
