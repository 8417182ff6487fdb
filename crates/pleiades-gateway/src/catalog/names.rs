//! Names of tools and prompts as clients are shown them: at most 64 of `A-Z a-z 0-9 _ -`, since most models take no others.

use std::collections::{HashMap, HashSet};

use ring::digest::{SHA256, digest};

use pleiades_core::text::is_hidden;

/// Longest name that is shown, in bytes.
pub const LONGEST: usize = 64;
/// What is left of a longer one before its hash.
const CUT: usize = 55;
/// Longest name that is legal in MCP, in bytes (2025-11-25, "Tool Names").
const LEGAL: usize = 128;
/// Characters of a name that a sentence repeats.
pub(super) const NAMED: usize = 80;
/// Between a provider's id and a name of its own.
pub(crate) const SEPARATOR: &str = "__";

/// A name before it is fitted: as people would write it, and in a form that no other one has.
#[derive(Debug, Clone)]
pub struct FullName {
    /// The name.
    pub text: String,
    /// What makes it another than one of the same text.
    pub unique: String,
}

impl FullName {
    /// A provider's own name.
    #[must_use]
    pub fn own(name: &str) -> Self {
        Self {
            text: name.to_owned(),
            unique: name.to_owned(),
        }
    }

    /// A name with its provider before it. (Ids may hold the separator; they never hold a dot.)
    #[must_use]
    pub fn prefixed(provider: &str, name: &str) -> Self {
        Self {
            text: format!("{provider}{SEPARATOR}{name}"),
            unique: format!("{provider}.{name}"),
        }
    }

    /// The name as it is shown when no other name equals it.
    #[must_use]
    pub(crate) fn preferred(&self) -> String {
        let safe = safe(&self.text);
        if safe.len() > LONGEST {
            return cut(&safe, &self.text);
        }
        safe
    }

    /// The name with a hash, for when another one would be shown alike.
    pub(crate) fn with_hash(&self) -> String {
        cut(&safe(&self.text), &self.text)
    }

    /// Whether it may be shown by this name, alone or beside others.
    #[must_use]
    pub(crate) fn is_shown_as(&self, name: &str) -> bool {
        let safe = safe(&self.text);
        if safe == name {
            return true;
        }
        let head: usize = safe.len().min(CUT);
        if name.len() != head + 9 || safe.get(..head) != name.get(..head) {
            return false;
        }
        cut(&safe, &self.text) == name || cut(&safe, &self.unique) == name
    }
}

/// Whether a name is legal in MCP, so that it may be shown as it is where names are not fitted.
#[must_use]
pub fn is_legal(name: &str) -> bool {
    (1..=LEGAL).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'/'))
}

pub(super) fn is_blank(name: &str) -> bool {
    name.chars().all(|it| it.is_whitespace() || is_hidden(it))
}

/// Fits names, each to one that no other has. Which one depends on the names alone, not on their order.
#[must_use]
pub(crate) fn fit_all(names: &[FullName]) -> Vec<String> {
    let mut shown: Vec<String> = names.iter().map(FullName::preferred).collect();
    let mut marked = vec![false; names.len()];
    // Marking one may meet another that is called so by itself: a few rounds settle it.
    for _ in 0..4 {
        let mut count: HashMap<&str, usize> = HashMap::with_capacity(shown.len());
        for name in &shown {
            *count.entry(name).or_default() += 1;
        }
        let shared: Vec<usize> = (0..shown.len())
            .filter(|at| marked.get(*at) == Some(&false))
            .filter(|at| shown.get(*at).and_then(|name| count.get(&**name)) > Some(&1))
            .collect();
        if shared.is_empty() {
            break;
        }
        for at in shared {
            if let (Some(full), Some(name), Some(mark)) =
                (names.get(at), shown.get_mut(at), marked.get_mut(at))
            {
                *name = full.with_hash();
                *mark = true;
            }
        }
    }
    disambiguate(names, &mut shown);
    shown
}

/// Makes equal names differ by a hash of what each is unique by.
fn disambiguate(names: &[FullName], shown: &mut [String]) {
    let mut seen: HashSet<&str> = HashSet::with_capacity(shown.len());
    let twice: HashSet<String> = shown.iter().filter(|name| !seen.insert(name)).cloned().collect();
    if twice.is_empty() {
        return;
    }
    for (full, name) in names.iter().zip(shown.iter_mut()) {
        if twice.contains(name) {
            *name = cut(&safe(&full.text), &full.unique);
        }
    }
}

/// A name with `_` in place of every character that models do not take.
fn safe(name: &str) -> String {
    let fit = |it: char| match it.is_ascii_alphanumeric() || matches!(it, '_' | '-') {
        true => it,
        false => '_',
    };
    name.chars().map(fit).collect()
}

/// The head of a fitted name and a hash of what it stands for.
fn cut(safe: &str, full: &str) -> String {
    let mut name: String = safe.chars().take(CUT).collect();
    name.push('_');
    let hash = digest(&SHA256, full.as_bytes());
    for byte in hash.as_ref().iter().take(4) {
        name.push_str(&format!("{byte:02x}"));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(names: &[&str]) -> Vec<String> {
        fit_all(&names.iter().map(|name| FullName::own(name)).collect::<Vec<_>>())
    }

    fn fits(name: &str) -> bool {
        (1..=LONGEST).contains(&name.len())
            && name
                .bytes()
                .all(|it| it.is_ascii_alphanumeric() || matches!(it, b'_' | b'-'))
    }

    #[test]
    fn names_that_fit_stay_and_other_characters_become_underscores() {
        assert_eq!(
            own(&[
                "echo",
                "issues.list",
                "Create Share",
                "ns:tool",
                "查询天气",
                "a\u{202e}b\n"
            ]),
            ["echo", "issues_list", "Create_Share", "ns_tool", "____", "a_b_"]
        );
    }

    #[test]
    fn a_longer_name_is_cut_and_ends_in_the_hash_of_its_whole() {
        let (just, long) = ("x".repeat(64), "x".repeat(65));
        let shown = own(&[&just, &long]);
        assert_eq!(shown.first(), Some(&just));
        let hash = digest(&SHA256, long.as_bytes());
        let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = format!("{}_{}", "x".repeat(55), hex.get(..8).unwrap());
        assert_eq!(shown.last(), Some(&expected));
    }

    #[test]
    fn names_that_would_be_shared_differ_whatever_their_order() {
        let mut names = vec!["a.b", "a_b", "a b", "c"];
        let shown = own(&names);
        assert_eq!(shown.iter().collect::<HashSet<_>>().len(), 4);
        assert!(shown.iter().all(|name| fits(name)), "{shown:?}");
        assert_eq!(shown.last().map(String::as_str), Some("c"));
        names.reverse();
        let mut again = own(&names);
        again.reverse();
        assert_eq!(shown, again);
    }

    #[test]
    fn a_name_that_looks_like_the_mark_of_another_is_marked_too() {
        let marked = FullName::own("a.b").with_hash();
        let shown = own(&["a.b", "a_b", &marked]);
        assert_eq!(shown.iter().collect::<HashSet<_>>().len(), 3, "{shown:?}");
    }

    #[test]
    fn two_providers_that_spell_one_name_are_shown_by_two() {
        let shown = fit_all(&[
            FullName::prefixed("a", "b__c"),
            FullName::prefixed("a__b", "c"),
            FullName::prefixed("a", "c"),
        ]);
        assert_eq!(shown.iter().collect::<HashSet<_>>().len(), 3, "{shown:?}");
        assert!(shown.iter().all(|name| fits(name)));
        assert_eq!(shown.last().map(String::as_str), Some("a__c"));
        for (at, (provider, name)) in [("a", "b__c"), ("a__b", "c")].into_iter().enumerate() {
            assert!(FullName::prefixed(provider, name).is_shown_as(&shown[at]));
        }
    }

    #[test]
    fn an_id_of_63_characters_still_makes_a_name_that_fits() {
        let id = "x".repeat(63);
        let shown = fit_all(&[FullName::prefixed(&id, "echo"), FullName::prefixed(&id, "other")]);
        assert!(
            shown.iter().all(|name| fits(name)) && shown[0] != shown[1],
            "{shown:?}"
        );
    }
}
