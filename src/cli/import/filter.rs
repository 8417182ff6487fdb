//! Which tools of a server a client lets through. What cannot be read is never taken for "all".

use super::tree::{DocumentNode, Kind, shown};
use pleiades_descriptor::Glob;

/// Members that list what may be used.
const ALLOW: [&str; 8] = [
    "includeTools",
    "include_tools",
    "enabledTools",
    "enabled_tools",
    "allowedTools",
    "allowed_tools",
    "availableTools",
    "tools",
];
/// Members that list what may not.
const DENY: [&str; 7] = [
    "excludeTools",
    "exclude_tools",
    "excludedTools",
    "disabledTools",
    "disabled_tools",
    "deniedTools",
    "blockedTools",
];

/// `tools` of a descriptor.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    /// `None`: all.
    pub(super) allow: Option<Vec<String>>,
    pub(super) deny: Vec<String>,
    /// Lists that could not be taken over: the server would be more open than it was.
    pub(super) lost: Vec<String>,
}

/// Whether a member is one of these lists.
pub(super) fn is_known(key: &str) -> bool {
    ALLOW.contains(&key) || DENY.contains(&key)
}

pub(super) fn read(node: &DocumentNode) -> Filter {
    let mut filter = Filter::default();
    for key in ALLOW {
        let Some(value) = node.get(key) else { continue };
        match names(value) {
            Some(NameList::All) => {}
            Some(NameList::Of(names)) => filter.narrow(key, names),
            None => filter.lose(key),
        }
    }
    for key in DENY {
        let Some(value) = node.get(key) else { continue };
        match names(value) {
            Some(NameList::All) => filter.deny.push("*".to_owned()),
            Some(NameList::Of(names)) => filter.refuse(key, names),
            None => filter.lose(key),
        }
    }
    filter
}

impl Filter {
    /// A second list lets through what the first did.
    fn narrow(&mut self, key: &str, names: Vec<String>) {
        let (names, odd): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| is_glob(name));
        self.lose_names(key, &odd);
        self.allow = Some(match self.allow.take() {
            None => names,
            Some(before) => before.into_iter().filter(|name| names.contains(name)).collect(),
        });
    }

    fn refuse(&mut self, key: &str, names: Vec<String>) {
        let (names, odd): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| is_glob(name));
        self.lose_names(key, &odd);
        self.deny.extend(names);
    }

    fn lose(&mut self, key: &str) {
        self.lost
            .push(format!("`{key}` has a form that is not known here"));
    }

    fn lose_names(&mut self, key: &str, names: &[String]) {
        if let Some(name) = names.first() {
            let what = format!("`{key}` names `{}`, which is no name of a tool", shown(name));
            self.lost.push(what);
        }
    }
}

enum NameList {
    All,
    Of(Vec<String>),
}

/// A list of names, one name or several with commas; `*`, true and nothing are all, false is none.
fn names(value: &DocumentNode) -> Option<NameList> {
    let names: Vec<String> = match &value.kind {
        Kind::Null | Kind::Bool(true) => return Some(NameList::All),
        Kind::Bool(false) => Vec::new(),
        Kind::Text(text) => text.split(',').map(|name| name.trim().to_owned()).collect(),
        Kind::List(items) => {
            let texts = items.iter().map(|item| match &item.kind {
                Kind::Text(text) => Some(text.trim().to_owned()),
                _ => None,
            });
            texts.collect::<Option<_>>()?
        }
        Kind::Number(_) | Kind::Map(_) => return None,
    };
    let is_all = names.iter().any(|name| name == "*");
    Some(if is_all {
        NameList::All
    } else {
        NameList::Of(names)
    })
}

fn is_glob(name: &str) -> bool {
    !name.is_empty() && Glob::illegal(name).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::import::json;

    fn filter(text: &str) -> Filter {
        read(&json::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn an_allow_list_of_any_client_stays_one() {
        for text in [
            r#"{"tools": ["a", "b"]}"#,
            r#"{"includeTools": ["a", "b"]}"#,
            r#"{"enabled_tools": "a, b"}"#,
            r#"{"allowedTools": ["a", "b"], "tools": ["*"]}"#,
            r#"{"allowedTools": ["a", "b", "c"], "tools": ["b", "a"]}"#,
        ] {
            let filter = filter(text);
            assert_eq!(filter.allow, Some(vec!["a".to_owned(), "b".to_owned()]), "{text}");
            assert!(filter.lost.is_empty(), "{text}");
        }
        assert_eq!(filter(r#"{"tools": []}"#).allow, Some(Vec::new()));
        assert_eq!(filter(r#"{"tools": ["*"]}"#), Filter::default());
    }

    #[test]
    fn a_list_that_cannot_be_read_is_named() {
        for text in [
            r#"{"tools": {"a": {"approval_mode": "prompt"}}}"#,
            r#"{"includeTools": [{"name": "a"}]}"#,
            r#"{"includeTools": ["a(b)"]}"#,
            r#"{"excludeTools": ["ä"]}"#,
            r#"{"disabledTools": 3}"#,
        ] {
            assert_eq!(filter(text).lost.len(), 1, "{text}");
        }
    }

    #[test]
    fn a_deny_list_stays_one() {
        let filter = filter(r#"{"disabledTools": ["a"], "exclude_tools": "b"}"#);
        assert_eq!(filter.deny, ["b", "a"]);
        assert_eq!(filter.allow, None);
    }
}
