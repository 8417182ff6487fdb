//! What all names of a provider begin with: its own name once more, as `linear_` in `linear_createIssue`.
//! The one tool of the provider leaves it out.

use std::collections::HashSet;

use super::{Tool, names};

/// Words that say what an operation does. A prefix ends before one: `get_` tells a model something that
/// `linear_` does not.
#[rustfmt::skip]
const VERBS: [&str; 66] = [
    "add", "analyse", "analyze", "append", "apply", "archive", "assign", "ask", "build", "calculate", "cancel",
    "change", "check", "clear", "close", "compute", "convert", "copy", "count", "create", "delete", "deploy",
    "describe", "disable", "download", "drop", "edit", "enable", "execute", "export", "extract", "fetch", "fill",
    "find", "generate", "get", "import", "insert", "install", "is", "list", "load", "lookup", "make", "merge",
    "move", "open", "patch", "post", "publish", "purge", "put", "query", "read", "remove", "rename", "run",
    "search", "send", "set", "show", "start", "stop", "update", "upload", "write",
];

/// Gives tools their short names: without the longest prefix that leaves each a legal name which begins
/// with a letter and means no other tool. A name alone has no prefix in common with others.
pub(crate) fn shorten(tools: &mut [Tool]) {
    if let Some(prefix) = common(tools) {
        for tool in tools {
            if let Some(short) = tool.name.get(prefix..) {
                tool.short = short.into();
            }
        }
    }
}

/// Whether a word, in small letters, says what an operation does.
pub(crate) fn is_verb(word: &str) -> bool {
    VERBS.contains(&word)
}

/// How many bytes the prefix has.
fn common(tools: &[Tool]) -> Option<usize> {
    let (first, rest) = tools.split_first().filter(|(_, rest)| !rest.is_empty())?;
    let shared = rest.iter().fold(first.name.len(), |shared, tool| {
        let pairs = first.name.bytes().zip(tool.name.bytes());
        pairs.take(shared).take_while(|(one, other)| one == other).count()
    });
    let ends = ends(first.name.get(..shared)?);
    if ends.is_empty() {
        return None;
    }
    let taken: HashSet<&str> = tools
        .iter()
        .flat_map(|tool| [&*tool.name, &*tool.upstream, &*tool.alias])
        .collect();
    let fits = |end: &usize| {
        tools.iter().all(|tool| {
            tool.name.get(*end..).is_some_and(|short| {
                short.starts_with(|first: char| first.is_ascii_alphabetic())
                    && names::is_legal(short)
                    && !taken.contains(short)
            })
        })
    };
    ends.into_iter().rev().find(fits)
}

/// Where words end in what all names share, before the first verb.
fn ends(shared: &str) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut begin = 0;
    for (at, _) in shared.match_indices(|it: char| !it.is_ascii_alphanumeric()) {
        let word = shared.get(begin..at).unwrap_or_default().to_ascii_lowercase();
        if is_verb(&word) {
            break;
        }
        begin = at + 1;
        ends.push(begin);
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;
    use pleiades_mcp::RawObject;

    fn short(names: &[&str]) -> Vec<String> {
        let tool = |name: &&str| Tool::new(name, name.replace(' ', "_"), RawObject::new());
        let mut tools: Vec<Tool> = names.iter().map(tool).collect();
        shorten(&mut tools);
        tools.iter().map(|tool| tool.short.to_string()).collect()
    }

    #[test]
    fn the_prefix_that_all_names_of_a_provider_share_is_left_out() {
        assert_eq!(short(&["slack_list", "slack_post"]), ["list", "post"]);
        assert_eq!(
            short(&["API-get-user", "API-post-page"]),
            ["get-user", "post-page"]
        );
        assert_eq!(short(&["acme.crm/a", "acme.crm/b"]), ["a", "b"]);
        assert_eq!(short(&["a__x", "a__y"]), ["x", "y"]);
        assert_eq!(
            short(&["slack_list", "slack_post", "ping"]),
            ["slack_list", "slack_post", "ping"]
        );
    }

    #[test]
    fn a_verb_that_all_names_begin_with_stays() {
        assert_eq!(
            short(&["get_forecast", "get_alerts"]),
            ["get_forecast", "get_alerts"]
        );
        assert_eq!(short(&["git_get_log", "git_get_diff"]), ["get_log", "get_diff"]);
    }

    #[test]
    fn what_would_be_no_name_or_anothers_keeps_its_prefix() {
        for names in [
            &["tool_1", "tool_2"][..],
            &["slack_", "slack_post"],
            &["x_a", "x_x_a"],
            &["slack_post"],
            &["slackList", "slackPost"],
            &[],
        ] {
            assert_eq!(short(names), names, "{names:?}");
        }
        assert_eq!(
            short(&["x_y_1", "x_y_b"]),
            ["y_1", "y_b"],
            "the longest that fits"
        );
    }

    #[test]
    fn short_names_depend_on_no_order() {
        let mut names = vec!["linear_getUser", "linear_createIssue", "linear_get"];
        let mut shown = short(&names);
        names.reverse();
        shown.reverse();
        assert_eq!(short(&names), shown);
    }
}
