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
        self.admits(&[&*tool.upstream, &*tool.name, &*tool.alias])
    }

    /// The same of the names of a tool.
    #[must_use]
    pub(crate) fn admits(&self, names: &[&str]) -> bool {
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
        are_same(&self.allow, &other.allow) && are_same(&self.deny, &other.deny)
    }
}

/// `tools.reads` and `tools.writes`: globs over names of tools that read, or write, whatever they declare.
#[derive(Debug, Clone, Default)]
pub struct ReadRules {
    /// Tools that only read.
    pub reads: Vec<wildmatch::WildMatch>,
    /// Tools that write; goes before `reads`.
    pub writes: Vec<wildmatch::WildMatch>,
}

impl ReadRules {
    /// Whether a tool only reads: by the globs, else as it declares itself. Whatever is not known to
    /// read writes.
    #[must_use]
    pub fn is_read(&self, tool: &Tool) -> bool {
        !is_named(&self.writes, tool) && (tool.declares_read() || is_named(&self.reads, tool))
    }
}

impl PartialEq for ReadRules {
    fn eq(&self, other: &Self) -> bool {
        are_same(&self.reads, &other.reads) && are_same(&self.writes, &other.writes)
    }
}

/// Whether a glob fits a tool's own name or one that it is shown by.
pub(super) fn is_named(globs: &[wildmatch::WildMatch], tool: &Tool) -> bool {
    let names = [&*tool.upstream, &*tool.name, &*tool.alias];
    globs
        .iter()
        .any(|glob| names.iter().any(|name| glob.matches(name)))
}

fn are_same(some: &[wildmatch::WildMatch], others: &[wildmatch::WildMatch]) -> bool {
    let patterns = |globs: &[wildmatch::WildMatch]| {
        globs
            .iter()
            .map(wildmatch::WildMatch::pattern)
            .collect::<Vec<_>>()
    };
    patterns(some) == patterns(others)
}

#[cfg(test)]
mod tests {
    use pleiades_mcp::{RawObject, raw};
    use serde_json::{Value, json};
    use wildmatch::WildMatch;

    use super::*;

    fn tool(name: &str, annotations: &Value) -> Tool {
        let declared = json!({ "name": name, "annotations": annotations });
        let declared = RawObject::open(&raw::raw(&declared)).unwrap();
        Tool::new(name, name.replace('.', "_"), declared)
    }

    fn rules(reads: &str, writes: &str) -> ReadRules {
        let globs = |glob: &str| vec![WildMatch::new(glob)];
        ReadRules {
            reads: globs(reads),
            writes: globs(writes),
        }
    }

    #[test]
    fn a_tool_reads_when_it_says_so_and_writes_otherwise() {
        let rules = ReadRules::default();
        assert!(rules.is_read(&tool("a", &json!({ "readOnlyHint": true }))));
        for annotations in [
            json!({}),
            json!(null),
            json!({ "readOnlyHint": false }),
            json!({ "readOnlyHint": "true" }),
            json!({ "destructiveHint": false }),
        ] {
            assert!(!rules.is_read(&tool("a", &annotations)), "{annotations}");
        }
    }

    #[test]
    fn the_operator_s_globs_go_before_what_a_tool_declares_and_writes_before_reads() {
        let (reading, silent) = (json!({ "readOnlyHint": true }), json!({}));
        assert!(rules("get_*", "x").is_read(&tool("get_issue", &silent)));
        assert!(!rules("x", "get_*").is_read(&tool("get_issue", &reading)));
        assert!(!rules("get_*", "get_secret").is_read(&tool("get_secret", &reading)));
        assert!(!rules("get_*", "x").is_read(&tool("list", &silent)));
    }

    #[test]
    fn globs_fit_a_tool_s_own_name_and_the_one_that_it_is_shown_by() {
        let dotted = tool("issues.list", &json!({}));
        assert!(rules("issues.*", "x").is_read(&dotted) && rules("issues_*", "x").is_read(&dotted));
    }
}
