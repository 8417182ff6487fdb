//! Names of operations as they are spelled in practice: the exact one, a spelling that can mean
//! only one, or the nearest ones to suggest. A typo is suggested, never run.

use std::{collections::HashMap, sync::Arc};

use crate::catalog::{Catalogue, Tool};

/// Longest name that may stand for an operation, with what hosts put before it (bytes).
const LONGEST: usize = 512;
/// Letters of a name that are compared one by one, and names that it is compared with.
const COMPARED: usize = 64;
const CANDIDATES: usize = 512;
/// Operations among which spellings and nearest ones are looked for.
const LOOKED_AT: usize = 4_096;

#[derive(Debug)]
pub(super) enum NameMatch<'a> {
    Operation(&'a Arc<Tool>),
    /// The meta tool itself.
    Own,
    Unknown,
}

/// The operation that a name means: exactly, else the only one that it can be a spelling of.
/// `id` is the provider's.
pub(super) fn find<'a>(name: &str, id: &str, catalogue: &'a Catalogue) -> NameMatch<'a> {
    if let Some(tool) = catalogue.tool(name) {
        return NameMatch::Operation(tool);
    }
    if name.len() > LONGEST {
        return NameMatch::Unknown;
    }
    let bare = without_host(name);
    if is_own(bare, id) {
        return NameMatch::Own;
    }
    match catalogue.tool(bare).or_else(|| spelled(bare, id, catalogue)) {
        Some(tool) => NameMatch::Operation(tool),
        None => NameMatch::Unknown,
    }
}

/// Whether a name is that of the provider or of its meta tool, with whatever a host puts before that.
fn is_own(name: &str, id: &str) -> bool {
    let whole = name.strip_suffix("_write").unwrap_or(name);
    let before = [name, whole]
        .into_iter()
        .find_map(|name| name.strip_suffix(id)?.strip_suffix("use_"));
    let is_host = |host: &str| !host.ends_with(char::is_alphanumeric);
    name.eq_ignore_ascii_case(id) || before.is_some_and(is_host)
}

/// A name without what hosts put before it: `mcp__gateway__use_x` is `use_x`.
pub(super) fn without_host(name: &str) -> &str {
    let name = name.trim();
    let name = ["functions.", "default_api.", "default_api:"]
        .iter()
        .find_map(|host| name.strip_prefix(host))
        .unwrap_or(name);
    let after = |marks: (&str, &str)| Some(name.strip_prefix(marks.0)?.split_once(marks.1)?.1);
    after(("mcp__", "__"))
        .or_else(|| after(("mcp_", "_")))
        .filter(|own| !own.is_empty())
        .unwrap_or(name)
}

/// The one operation with the same letters, the provider's id before it or the prefix that most
/// operations share missing.
fn spelled<'a>(name: &str, id: &str, catalogue: &'a Catalogue) -> Option<&'a Arc<Tool>> {
    if catalogue.tools.len() > LOOKED_AT {
        return None;
    }
    let wanted = words(name);
    let own = words(id).concat();
    let shorter = after(&wanted, &format!("use{own}"))
        .or_else(|| after(&wanted, &own))
        .filter(|rest| !rest.is_empty());
    let names: Vec<(Vec<String>, &Arc<Tool>)> = catalogue
        .tools
        .iter()
        .map(|tool| (words(&tool.name), tool))
        .collect();
    let prefix = common_prefix(&names).unwrap_or_default();
    let only = |letters: String| {
        let mut same = names.iter().filter(|(words, _)| is_spelled(words, &letters));
        same.next()
            .filter(|_| same.next().is_none())
            .map(|(_, tool)| *tool)
    };
    [
        Some(wanted.concat()),
        shorter.map(<[String]>::concat),
        Some(format!("{prefix}{}", wanted.concat())),
        shorter.map(|rest| format!("{prefix}{}", rest.concat())),
    ]
    .into_iter()
    .flatten()
    .filter(|letters| !letters.is_empty())
    .find_map(only)
}

/// What stands behind those of the words that are these letters together: `GitHub.issueRead` begins with
/// `github` as well.
fn after<'a>(words: &'a [String], letters: &str) -> Option<&'a [String]> {
    let mut left = letters;
    for (at, word) in words.iter().enumerate() {
        if left.is_empty() {
            return words.get(at..);
        }
        left = left.strip_prefix(word.as_str())?;
    }
    left.is_empty().then_some(&[])
}

/// Whether these words, one behind the other, are these letters.
fn is_spelled(words: &[String], letters: &str) -> bool {
    let rest = words
        .iter()
        .try_fold(letters, |rest, word| rest.strip_prefix(word.as_str()));
    rest == Some("")
}

/// The first word of more than half of the names (`slack_…`, `browser_…`).
fn common_prefix(names: &[(Vec<String>, &Arc<Tool>)]) -> Option<String> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    let firsts = || names.iter().filter_map(|(words, _)| words.first());
    for first in firsts() {
        *counts.entry(first).or_default() += 1;
    }
    let most = (firsts().count() / 2 + 1).max(2);
    counts
        .into_iter()
        .find(|(_, count)| *count >= most)
        .map(|(first, _)| first.to_owned())
}

/// A name in words: `list_issues`, `list-issues` and `listIssues` are the same ones.
pub(super) fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut after_lower = false;
    for char in name.chars() {
        if !char.is_alphanumeric() || (char.is_uppercase() && after_lower) {
            words.push(String::new());
        }
        after_lower = char.is_lowercase() || char.is_numeric();
        if char.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(char.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The operations whose names share most words with one that does not exist, then those with
/// fewest letters changed; at most `most`.
pub(super) fn nearest<'a>(catalogue: &'a Catalogue, name: &str, most: usize) -> Vec<&'a Arc<Tool>> {
    let name: String = name.chars().take(COMPARED).collect();
    let wanted = words(&name);
    let mut scored: Vec<(usize, usize, &Arc<Tool>)> = catalogue
        .tools
        .iter()
        .take(LOOKED_AT)
        .map(|tool| {
            let shared = words(&tool.name)
                .iter()
                .filter(|word| wanted.contains(word))
                .count();
            (usize::MAX - shared, distance(&name, &tool.name), tool)
        })
        .collect();
    scored.sort_by(|one, other| (one.0, one.1, &one.2.name).cmp(&(other.0, other.1, &other.2.name)));
    scored.into_iter().take(most).map(|(_, _, tool)| tool).collect()
}

/// The candidate that differs from `name` by the fewest letters, if by less than half of them; of the
/// first letters of the first candidates, since both may be somebody's megabyte.
pub(super) fn closest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| {
        let head: String = text.chars().take(COMPARED).collect();
        words(&head).concat()
    };
    let wanted = plain(name);
    let far = name.chars().take(COMPARED).count().div_ceil(2).max(2);
    candidates
        .take(CANDIDATES)
        .map(|candidate| (distance(&wanted, &plain(candidate)), candidate))
        .filter(|(changes, _)| *changes < far)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Letters to add, drop or change to make one text of the other (Levenshtein), of the first ones.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().take(COMPARED).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, character) in one.chars().take(COMPARED).enumerate() {
        let mut diagonal = at;
        let mut left = at + 1;
        for (above, same) in row
            .iter_mut()
            .skip(1)
            .zip(other.iter().map(|other| *other == character))
        {
            let best = (diagonal + usize::from(!same)).min(left + 1).min(*above + 1);
            diagonal = *above;
            *above = best;
            left = best;
        }
        if let Some(first) = row.first_mut() {
            *first = at + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_a_name_have_the_same_words() {
        for name in [
            "list_issues",
            "list-issues",
            "listIssues",
            "List Issues",
            "LIST_ISSUES",
        ] {
            assert_eq!(words(name), ["list", "issues"], "{name}");
        }
    }

    #[test]
    fn distance_counts_changed_letters() {
        assert_eq!(distance("isue_read", "issue_read"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }

    #[test]
    fn only_a_near_name_is_suggested() {
        let names = ["owner", "issue_number"];
        assert_eq!(closest("issueNumber", names.into_iter()), Some("issue_number"));
        assert_eq!(closest("labels", names.into_iter()), None);
    }

    #[test]
    fn long_names_and_long_lists_are_compared_in_part() {
        let long = "x".repeat(1_000_000);
        assert_eq!(distance(&long, &long.replace('x', "y")), COMPARED);
        assert_eq!(distance(&format!("a{long}"), &format!("a{long}z")), 0);
        let many: Vec<String> = (0..100_000).map(|at| format!("{long}{at}")).take(3).collect();
        assert!(closest(&long, many.iter().map(String::as_str)).is_some());
        let far = std::iter::repeat_n("zzzz", CANDIDATES).chain(["issue"]);
        assert_eq!(closest("issue", far), None);
    }
}
