//! Which tools of a provider exist for callers.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use serde_json::value::RawValue;
use wildmatch::WildMatch;

use super::{Tool, names, pins::PinRule};
use pleiades_descriptor::Glob;
use pleiades_mcp::RawObject;

/// `tools.allow`, `tools.deny` and what else decides which tools there are; deny wins.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolRules {
    /// At least one must match.
    pub(super) allow: Vec<NameGlob>,
    /// None may match.
    pub(super) deny: Vec<NameGlob>,
    /// Operations that run another tool, each with the argument that names it.
    pub(super) through: BTreeMap<Box<str>, Box<str>>,
    /// What becomes of tools whose definition changes.
    pub(super) pins: PinRule,
}

/// Why a call through an operation of `tools.through` does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HiddenTarget {
    /// It names a tool that does not exist for callers.
    Named(String),
    /// Which tool it names cannot be told. Holds the argument that should say it.
    Untold(Box<str>),
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
        let denies = |glob: &NameGlob| glob.operation.is_none() && glob.matches_any(names);
        self.allow.iter().any(|glob| glob.admits_operation(names)) && !self.deny.iter().any(denies)
    }

    /// The tools that exist for callers by their names.
    pub(super) fn admitted(&self, tools: &[Arc<Tool>]) -> Vec<Arc<Tool>> {
        tools
            .iter()
            .filter(|tool| self.admits_tool(tool))
            .cloned()
            .collect()
    }

    /// The tool that a call names through an operation of `tools.through`; `None` where the operation is
    /// none of these, or its arguments do not say it in the one way that nobody reads as another name.
    pub(crate) fn named_through<'a>(&self, tool: &Tool, arguments: &'a RawObject) -> Option<Cow<'a, str>> {
        let argument = self.argument_of(tool)?;
        let is_alike = |(key, _): (&str, &RawValue)| key != argument && folded(key) == folded(argument);
        // Some parsers take keys of another case for the same, and the last of two.
        if arguments.doubled().is_some() || arguments.iter().any(is_alike) {
            return None;
        }
        arguments.text(argument).filter(|name| names::is_legal(name))
    }

    /// Whether an operation runs another tool.
    pub(super) fn is_through(&self, tool: &Tool) -> bool {
        self.argument_of(tool).is_some()
    }

    /// Why a call must not reach the tool that it names through its operation. Where the rules hide
    /// something, a call is refused that does not name a tool plainly: its provider could read another name.
    pub(crate) fn refused(&self, tool: &Tool, arguments: Option<&RawValue>) -> Option<HiddenTarget> {
        let argument = self.argument_of(tool)?;
        if !self.hides() {
            return None;
        }
        let untold = || Some(HiddenTarget::Untold(argument.into()));
        let Some(arguments) = arguments.and_then(|raw| RawObject::open(raw).ok()) else {
            return untold();
        };
        let Some(name) = self.named_through(tool, &arguments) else {
            return untold();
        };
        let operation = [&*tool.upstream, &*tool.name, &*tool.alias];
        let is_admitted = self.admits_through(&operation, &name);
        (!is_admitted).then(|| HiddenTarget::Named(name.into_owned()))
    }

    /// The tool that a call names through its operation, to be kept beside its result.
    pub(crate) fn named_in(&self, tool: &Tool, arguments: Option<&RawValue>) -> Option<Box<str>> {
        self.argument_of(tool)?;
        let arguments = RawObject::open(arguments?).ok()?;
        self.named_through(tool, &arguments).map(|name| name.into())
    }

    /// Whether a result that was kept may still be read. `names`: those of its operation, `named`: the tool
    /// that the call named through it.
    pub(crate) fn admits_result(&self, names: &[&str], named: Option<&str>) -> bool {
        let is_through = names.iter().any(|name| self.through.contains_key(*name));
        let is_named = || named.is_some_and(|named| self.admits_through(names, named));
        self.admits(names) && (!is_through || !self.hides() || is_named())
    }

    fn argument_of(&self, tool: &Tool) -> Option<&str> {
        if self.through.is_empty() {
            return None;
        }
        let names = [&tool.upstream, &tool.name, &tool.alias];
        let argument = names.into_iter().find_map(|name| self.through.get(&**name));
        argument.map(|argument| &**argument)
    }

    /// Whether any tool could be hidden by its name.
    fn hides(&self) -> bool {
        let all = |glob: &NameGlob| glob.operation.is_none() && glob.name.pattern() == "*";
        !self.deny.is_empty() || !self.allow.iter().any(all)
    }

    fn admits_through(&self, operation: &[&str], name: &str) -> bool {
        // What is named within would stand where nobody looks.
        if self.through.keys().any(|other| squashed(other) == squashed(name)) {
            return false;
        }
        let allows = |glob: &NameGlob| glob.is_of(operation) && glob.name.matches(name);
        let denies = |glob: &NameGlob| glob.is_of(operation) && glob.denies(name);
        self.allow.iter().any(allows) && !self.deny.iter().any(denies)
    }
}

impl Default for ToolRules {
    /// Every tool.
    fn default() -> Self {
        Self {
            allow: vec![NameGlob::new(&Glob("*".to_owned()))],
            deny: Vec::new(),
            through: BTreeMap::new(),
            pins: PinRule::default(),
        }
    }
}

/// `tools.reads` and `tools.writes`: globs over names of tools that read, or write, whatever they declare.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReadRules {
    /// Tools that only read.
    pub reads: Vec<NameGlob>,
    /// Tools that write; goes before `reads`.
    pub writes: Vec<NameGlob>,
}

impl ReadRules {
    /// Whether a tool only reads: by the globs, else as it declares itself. Whatever is not known to
    /// read writes.
    #[must_use]
    pub fn is_read(&self, tool: &Tool) -> bool {
        !is_named(&self.writes, tool) && (tool.declares_read() || is_named(&self.reads, tool))
    }

    /// Whether the tool that an operation is given is known to only read: by the globs over what it is given,
    /// else as the provider lists that tool.
    pub(super) fn is_read_through(&self, operation: &Tool, name: &str, named: Option<&Tool>) -> bool {
        let operation = [&*operation.upstream, &*operation.name, &*operation.alias];
        let writes = self
            .writes
            .iter()
            .any(|glob| glob.is_of(&operation) && glob.denies(name));
        let reads = || {
            let mut globs = self.reads.iter().filter(|glob| glob.is_of(&operation));
            globs.any(|glob| glob.name.matches(name))
        };
        !writes && (reads() || named.is_some_and(|named| self.is_read(named)))
    }
}

/// Whether a glob fits a tool's own name or one that it is shown by.
pub(super) fn is_named(globs: &[NameGlob], tool: &Tool) -> bool {
    let names = [&*tool.upstream, &*tool.name, &*tool.alias];
    globs
        .iter()
        .any(|glob| glob.operation.is_none() && glob.matches_any(&names))
}

/// A glob over names of tools, or over those that an operation of `tools.through` is given.
#[derive(Debug, Clone)]
pub struct NameGlob {
    operation: Option<WildMatch>,
    name: WildMatch,
    /// The same over names as providers may read them.
    folded: WildMatch,
    /// A name without wildcards, and without what separates its words.
    squashed: Option<String>,
}

impl NameGlob {
    pub(super) fn new(glob: &Glob) -> Self {
        let (operation, name) = match glob.through() {
            Some((operation, name)) => (Some(operation), name),
            None => (None, &*glob.0),
        };
        Self {
            operation: operation.map(WildMatch::new),
            name: WildMatch::new(name),
            folded: WildMatch::new(&spelled(name)),
            squashed: (!name.contains(['*', '?'])).then(|| squashed(name)),
        }
    }

    /// Whether it holds for what an operation of these names is given.
    fn is_of(&self, operation: &[&str]) -> bool {
        let own = self.operation.as_ref();
        own.is_none_or(|own| operation.iter().any(|name| own.matches(name)))
    }

    fn matches_any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.name.matches(name))
    }

    /// Whether an operation of these names is there because of this glob: a rule for what it is given
    /// means that it is.
    fn admits_operation(&self, names: &[&str]) -> bool {
        match &self.operation {
            Some(operation) => names.iter().any(|name| operation.matches(name)),
            None => self.matches_any(names),
        }
    }

    /// Whether a name is denied, in any spelling that a provider may take for one that is: another case,
    /// words joined in another way, with or without what stands before it.
    fn denies(&self, name: &str) -> bool {
        let is_denied = |name: &str| {
            let squashed = || self.squashed.as_ref().is_some_and(|own| *own == squashed(name));
            self.name.matches(name) || self.folded.matches(&spelled(name)) || squashed()
        };
        let after = |separator: &'static str| {
            name.match_indices(separator)
                .filter_map(move |(at, _)| name.get(at + separator.len()..))
        };
        is_denied(name) || ["__", ".", "/"].into_iter().flat_map(after).any(is_denied)
    }
}

impl PartialEq for NameGlob {
    fn eq(&self, other: &Self) -> bool {
        let operation = |it: &Self| it.operation.as_ref().map(WildMatch::pattern);
        operation(self) == operation(other) && self.name.pattern() == other.name.pattern()
    }
}

/// A name in lower case with `_` between its words: `deleteProject` and `Delete-Project` are alike.
fn spelled(name: &str) -> String {
    let mut spelled = String::with_capacity(name.len() + 4);
    let mut was_lower = false;
    for character in name.chars() {
        if character.is_ascii_uppercase() && was_lower {
            spelled.push('_');
        }
        was_lower = character.is_ascii_lowercase() || character.is_ascii_digit();
        match character {
            '-' | '.' | '/' => spelled.push('_'),
            other => spelled.push(other.to_ascii_lowercase()),
        }
    }
    spelled
}

/// Letters and digits of a name alone, in lower case.
fn squashed(name: &str) -> String {
    let kept = name.chars().filter(char::is_ascii_alphanumeric);
    kept.map(|it| it.to_ascii_lowercase()).collect()
}

/// A key as parsers that ignore case compare it (Go folds `ſ` to `s` and the Kelvin sign to `k`).
fn folded(key: &str) -> String {
    let upper = key.trim().chars().flat_map(char::to_uppercase);
    upper.flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use pleiades_mcp::raw;
    use serde_json::{Value, json};

    use super::*;

    fn rules(allow: &[&str], deny: &[&str]) -> ToolRules {
        let globs = |all: &[&str]| {
            all.iter()
                .map(|it| NameGlob::new(&Glob((*it).to_owned())))
                .collect()
        };
        ToolRules {
            allow: globs(allow),
            deny: globs(deny),
            through: BTreeMap::from([("execute_tool".into(), "name".into())]),
            ..ToolRules::default()
        }
    }

    fn tool(name: &str) -> Tool {
        Tool::new(name, name.to_owned(), RawObject::new())
    }

    fn refused(rules: &ToolRules, arguments: &str) -> Option<HiddenTarget> {
        let arguments = RawValue::from_string(arguments.to_owned()).unwrap();
        rules.refused(&tool("execute_tool"), Some(&arguments))
    }

    fn named(rules: &ToolRules, name: &str) -> bool {
        let arguments = serde_json::json!({ "name": name, "arguments": {} }).to_string();
        refused(rules, &arguments).is_none()
    }

    #[test]
    fn a_rule_holds_for_the_tool_that_an_operation_is_given() {
        for deny in [
            "delete_*",
            "execute_tool:delete_*",
            "*:delete_*",
            "delete_project",
        ] {
            let rules = rules(&["*"], &[deny]);
            assert!(!named(&rules, "delete_project"), "{deny}");
            assert!(named(&rules, "get_project"), "{deny}");
            assert!(rules.admits_tool(&tool("execute_tool")), "{deny}");
        }
        let other = rules(&["*"], &["run:delete_*"]);
        assert!(named(&other, "delete_project"), "the rule of another operation");
        assert!(other.admits_tool(&tool("delete_project")));
        let allowed = rules(&["execute_tool:get_*", "echo"], &[]);
        assert!(allowed.admits_tool(&tool("execute_tool")) && allowed.admits_tool(&tool("echo")));
        assert!(
            !allowed.admits_tool(&tool("get_a")),
            "it is there through the operation alone"
        );
        assert!(named(&allowed, "get_a") && !named(&allowed, "delete_a"));
        let plain = rules(&["execute_tool", "get_*"], &[]);
        assert!(named(&plain, "get_a") && !named(&plain, "delete_a"));
        let wide = rules(&["execute_*"], &[]);
        assert!(
            !named(&wide, "delete_a"),
            "a glob over names does not reach over the operation"
        );
    }

    #[test]
    fn a_result_that_was_kept_is_read_only_while_what_was_named_through_its_operation_may_be() {
        let (open, denying) = (rules(&["*"], &[]), rules(&["*"], &["execute_tool:delete_*"]));
        let through = ["execute_tool"];
        assert!(open.admits_result(&through, Some("delete_a")) && open.admits_result(&through, None));
        assert!(denying.admits_result(&through, Some("get_a")));
        assert!(!denying.admits_result(&through, Some("delete_a")) && !denying.admits_result(&through, None));
        assert!(denying.admits_result(&["echo"], None));
        let arguments = RawValue::from_string(r#"{"name":"get_a"}"#.to_owned()).unwrap();
        let named = |name: &str| denying.named_in(&tool(name), Some(&arguments));
        assert_eq!(
            (named("execute_tool").as_deref(), named("echo")),
            (Some("get_a"), None)
        );
    }

    #[test]
    fn a_call_through_an_operation_reads_when_the_tool_is_known_to_read() {
        let (operation, silent) = (tool("execute_tool"), json!({}));
        let listed = annotated("list_all", &json!({ "readOnlyHint": true }));
        let reads = read_rules("execute_tool:get_*", "get_secret");
        let is_read = |name: &str, named| reads.is_read_through(&operation, name, named);
        assert!(is_read("get_a", None) && is_read("list_all", Some(&listed)));
        assert!(!is_read("get_secret", None) && !is_read("getSecret", Some(&listed)));
        assert!(!is_read("list_all", None) && !is_read("set", Some(&annotated("set", &silent))));
        assert!(!reads.is_read(&operation));
        assert!(!read_rules("other:get_*", "x").is_read_through(&operation, "get_a", None));
    }

    #[test]
    fn no_other_spelling_of_a_denied_name_gets_through() {
        let rules = rules(&["*"], &["delete_project", "drop_*"]);
        for name in [
            "Delete_Project",
            "DELETE_PROJECT",
            "delete-project",
            "deleteProject",
            "DeleteProject",
            "deleteproject",
            "sentry.delete_project",
            "sentry__delete_project",
            "sentry/delete_project",
            "dropTable",
            "a.b.drop_x",
            " delete_project",
            "delete_project\n",
            "ｄelete_project",
            "delete_pro\u{200b}ject",
            "",
            "execute_tool",
            "executeTool",
        ] {
            assert!(!named(&rules, name), "{name}");
        }
        assert!(named(&rules, "list_projects") && named(&rules, "undelete"));
    }

    #[test]
    fn a_call_that_does_not_say_plainly_which_tool_it_names_is_refused() {
        let denying = rules(&["*"], &["delete_*"]);
        for arguments in [
            "{}",
            r#"{"name":null}"#,
            r#"{"name":["get_a"]}"#,
            r#"{"name":{"name":"get_a"}}"#,
            r#"{"name":1}"#,
            r#"{"name":"get_a","name":"delete_a"}"#,
            r#"{"name":"get_a","n\u0061me":"delete_a"}"#,
            r#"{"name":"get_a","Name":"delete_a"}"#,
            r#"{"name":"get_a","NAME ":"delete_a"}"#,
            r#"{"name":"\ud800"}"#,
            r#""{\"name\":\"delete_a\"}""#,
            "[]",
            "null",
        ] {
            let answer = refused(&denying, arguments);
            assert_eq!(answer, Some(HiddenTarget::Untold("name".into())), "{arguments}");
        }
        assert!(denying.refused(&tool("execute_tool"), None).is_some());
        assert_eq!(refused(&denying, r#"{"n\u0061me":"get_\u0061"}"#), None);
        let open = rules(&["*"], &[]);
        assert_eq!(refused(&open, r#"{"name":1}"#), None, "nothing is hidden");
        assert_eq!(denying.refused(&tool("other"), None), None);
    }

    fn annotated(name: &str, annotations: &Value) -> Tool {
        let declared = json!({ "name": name, "annotations": annotations });
        let declared = RawObject::open(&raw::raw(&declared)).unwrap();
        Tool::new(name, name.replace('.', "_"), declared)
    }

    fn read_rules(reads: &str, writes: &str) -> ReadRules {
        let globs = |glob: &str| vec![NameGlob::new(&Glob(glob.to_owned()))];
        ReadRules {
            reads: globs(reads),
            writes: globs(writes),
        }
    }

    #[test]
    fn a_tool_reads_when_it_says_so_and_writes_otherwise() {
        let rules = ReadRules::default();
        assert!(rules.is_read(&annotated("a", &json!({ "readOnlyHint": true }))));
        for annotations in [
            json!({}),
            json!(null),
            json!({ "readOnlyHint": false }),
            json!({ "readOnlyHint": "true" }),
            json!({ "destructiveHint": false }),
        ] {
            assert!(!rules.is_read(&annotated("a", &annotations)), "{annotations}");
        }
    }

    #[test]
    fn the_operator_s_globs_go_before_what_a_tool_declares_and_writes_before_reads() {
        let (reading, silent) = (json!({ "readOnlyHint": true }), json!({}));
        assert!(read_rules("get_*", "x").is_read(&annotated("get_issue", &silent)));
        assert!(!read_rules("x", "get_*").is_read(&annotated("get_issue", &reading)));
        assert!(!read_rules("get_*", "get_secret").is_read(&annotated("get_secret", &reading)));
        assert!(!read_rules("get_*", "x").is_read(&annotated("list", &silent)));
    }

    #[test]
    fn globs_fit_a_tool_s_own_name_and_the_one_that_it_is_shown_by() {
        let dotted = annotated("issues.list", &json!({}));
        assert!(read_rules("issues.*", "x").is_read(&dotted) && read_rules("issues_*", "x").is_read(&dotted));
    }
}
