//! What many operations are about, where their names are too many to be shown: `issue(14) pull_request(21)`.

use std::collections::BTreeMap;

use crate::catalog::{Tool, prefix::is_verb};
use crate::facade::name::words;

/// Longest name of a group (bytes).
const MAX_LABEL: usize = 40;
/// What stands for the groups that have no room.
const MORE: &str = " …";

/// A line that names groups and how many operations each has, the largest first, equal ones by name, in at
/// most so many bytes. Empty without operations.
pub(super) fn line(tools: &[&Tool], most: usize) -> String {
    const HEAD: &str = "\nOperations by subject:";
    let mut line = match tools.is_empty() {
        true => String::new(),
        false => HEAD.to_owned(),
    };
    let groups = groups(tools.iter().map(|tool| &*tool.short));
    let last = groups.len();
    for (at, (label, count)) in groups.into_iter().enumerate() {
        let group = format!(" {label}({count})");
        let reserved = if at + 1 == last { 0 } else { MORE.len() };
        if line.len() + group.len() + reserved > most {
            line.push_str(MORE);
            break;
        }
        line.push_str(&group);
    }
    line
}

/// Subjects of names with how many have each. A subject is the first word that is no verb, and each further
/// word that all names with it share.
fn groups<'a>(names: impl Iterator<Item = &'a str>) -> Vec<(String, usize)> {
    let mut by_first: BTreeMap<String, Vec<Vec<String>>> = BTreeMap::new();
    for name in names {
        let subject = subject(name);
        let first = subject.first().cloned().unwrap_or_default();
        by_first.entry(first).or_default().push(subject);
    }
    let mut groups: Vec<(String, usize)> = by_first
        .into_values()
        .map(|members| (label(&members), members.len()))
        .collect();
    groups.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    groups
}

/// The words that all members begin with.
fn label(members: &[Vec<String>]) -> String {
    let Some((first, rest)) = members.split_first() else {
        return String::new();
    };
    let shared = rest.iter().fold(first.len(), |shared, member| {
        let pairs = first.iter().zip(member).take(shared);
        pairs.take_while(|(one, other)| one == other).count()
    });
    let mut label = String::new();
    for word in first.iter().take(shared.max(1)) {
        if !label.is_empty() && label.len() + 1 + word.len() > MAX_LABEL {
            break;
        }
        if !label.is_empty() {
            label.push('_');
        }
        label.extend(word.chars().take(MAX_LABEL));
    }
    label
}

/// The words of a name without the verbs before and behind, in the singular; all where there are only verbs.
fn subject(name: &str) -> Vec<String> {
    let words = words(name);
    let first = words.iter().position(|word| !is_verb(word));
    let last = words.iter().rposition(|word| !is_verb(word));
    let nouns = match (first, last) {
        (Some(first), Some(last)) => words.get(first..=last).unwrap_or_default(),
        _ => &words,
    };
    nouns.iter().map(|word| singular(word)).collect()
}

/// An English plural's singular, near enough to put both into one group.
fn singular(word: &str) -> String {
    const LEAST: usize = 4;
    if word.len() < LEAST
        || ["ss", "us", "is", "news", "series", "kubernetes"]
            .iter()
            .any(|end| word.ends_with(end))
    {
        return word.to_owned();
    }
    if let Some(stem) = word.strip_suffix("ies") {
        return format!("{stem}y");
    }
    let doubled = ["ches", "shes", "xes", "sses", "zes", "uses"];
    let cut = match doubled.iter().any(|end| word.ends_with(end)) {
        true => word.strip_suffix("es"),
        false => word.strip_suffix('s'),
    };
    cut.unwrap_or(word).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> String {
        let groups = groups(names.iter().copied());
        let groups: Vec<String> = groups
            .iter()
            .map(|(label, count)| format!("{label}({count})"))
            .collect();
        groups.join(" ")
    }

    #[test]
    fn operations_are_grouped_by_what_they_are_about_the_largest_first() {
        let names = [
            "list_issues",
            "issue_read",
            "create_issue",
            "add_issue_comment",
            "create_pull_request",
            "list_pull_requests",
            "getBranches",
            "create_branch",
            "search-repositories",
            "get_repository",
        ];
        assert_eq!(of(&names), "issue(4) branch(2) pull_request(2) repository(2)");
        assert_eq!(
            of(&["get_code_scanning_alert", "list_code_scanning_alerts"]),
            "code_scanning_alert(2)"
        );
        assert_eq!(of(&["get", "list_all", "ping"]), "all(1) get(1) ping(1)");
    }

    #[test]
    fn groups_depend_on_no_order() {
        let mut names = vec!["list_a", "get_b", "get_a", "list_b", "c_d", "c_e"];
        let groups = of(&names);
        names.reverse();
        assert_eq!(of(&names), groups);
    }

    #[test]
    fn words_in_both_numbers_are_one_group() {
        for (plural, one) in [
            ("issues", "issue"),
            ("branches", "branch"),
            ("repositories", "repository"),
            ("statuses", "status"),
            ("status", "status"),
            ("access", "access"),
            ("releases", "release"),
            ("dns", "dns"),
        ] {
            assert_eq!(singular(plural), one);
        }
    }
}
