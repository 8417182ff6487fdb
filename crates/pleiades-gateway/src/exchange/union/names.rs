//! What tools and prompts are called, and whom a name means.
//!
//! Names are shown in one form; calls take every form that could be meant: `{provider}__{tool}`,
//! `{provider}.{tool}`, the fitted one, and the provider's own name.

use std::{collections::BTreeMap, sync::Arc};

use super::merge::{Part, Parts};
use crate::catalog::names::{FullName, SEPARATOR, fit_all};
use crate::catalog::{Catalogue, Item, Provider, Tool};
use crate::exchange::{fault::printable, request::Names};
use pleiades_core::error::{Code, Error};
use pleiades_core::text::is_hidden;

/// The tool that an unconnected provider shows in the tool view.
pub(crate) const CONNECT: &str = "connect";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listed {
    Tools,
    Prompts,
}

impl Listed {
    fn own<'a>(self, catalogue: &'a Catalogue) -> Box<dyn Iterator<Item = &'a str> + 'a> {
        match self {
            Self::Tools => Box::new(catalogue.tools.iter().map(|tool| &*tool.upstream)),
            Self::Prompts => Box::new(catalogue.prompts.iter().map(|item| &*item.key)),
        }
    }

    pub(crate) fn unknown(self, name: &str) -> Error {
        let what = match self {
            Self::Tools => "tool",
            Self::Prompts => "prompt",
        };
        Error::new(
            Code::InvalidParams,
            format!("unknown {what} `{}`", printable(name)),
        )
    }
}

/// Whom a name may mean: a provider, and its own name for it where the name says one.
pub(crate) type Meant<'n> = (Arc<Provider>, Option<&'n str>);

pub(crate) fn tool_names(parts: &Parts, names: Names, is_union: bool) -> Vec<Vec<String>> {
    let name = |tool: &Arc<Tool>| match (is_union, names) {
        (_, Names::Dotted) => tool.name.to_string(),
        (true, Names::Safe) => tool.upstream.to_string(),
        (false, Names::Safe) => tool.alias.to_string(),
    };
    let own = parts.parts.iter().map(|part| match &part.catalogue {
        Some(lists) => lists.tools.iter().map(name).collect(),
        None => vec![CONNECT.to_owned()],
    });
    match is_union {
        true => union_names(parts, own, names),
        false => own.collect(),
    }
}

/// The name of a tool where another one has its name.
pub(crate) fn marked(name: &str) -> String {
    FullName::own(name).with_hash()
}

pub(crate) fn prompt_names(parts: &Parts, names: Names, is_union: bool) -> Vec<Vec<String>> {
    let name = |item: &Item| match names {
        Names::Dotted => as_it_is(item),
        Names::Safe => item.key.to_string(),
    };
    let own = parts.parts.iter().map(|part| -> Vec<String> {
        let items = part.catalogue.iter().flat_map(|lists| &lists.prompts);
        items.map(name).collect()
    });
    match (is_union, names) {
        (true, _) => union_names(parts, own, names),
        (false, Names::Dotted) => own.collect(),
        (false, Names::Safe) => own
            .map(|names| fit_all(&names.iter().map(|name| FullName::own(name)).collect::<Vec<_>>()))
            .collect(),
    }
}

fn union_names(parts: &Parts, own: impl Iterator<Item = Vec<String>>, names: Names) -> Vec<Vec<String>> {
    let own: Vec<(&Part, Vec<String>)> = parts.parts.iter().zip(own).collect();
    if names == Names::Dotted {
        let dotted = |(part, names): &(&Part, Vec<String>)| {
            let id = &part.provider.id;
            names.iter().map(|name| format!("{id}.{name}")).collect()
        };
        return own.iter().map(dotted).collect();
    }
    let wholes: Vec<FullName> = own
        .iter()
        .flat_map(|(part, names)| {
            names
                .iter()
                .map(|name| FullName::prefixed(&part.provider.id, name))
        })
        .collect();
    let mut shown = fit_all(&wholes).into_iter();
    own.iter()
        .map(|(_, names)| shown.by_ref().take(names.len()).collect())
        .collect()
}

/// All providers that a name of the union may mean, those with the longest ids first.
pub(crate) fn meant<'n>(providers: &BTreeMap<Arc<str>, Arc<Provider>>, name: &'n str) -> Vec<Meant<'n>> {
    if let Some((id, own)) = name.split_once('.')
        && let Some(provider) = providers.get(id)
    {
        return vec![(Arc::clone(provider), Some(own))];
    }
    let mut meant: Vec<Meant<'n>> = providers
        .values()
        .filter_map(|provider| {
            let rest = name.strip_prefix(&*provider.id)?;
            let own = rest.strip_prefix(SEPARATOR).filter(|own| !own.is_empty())?;
            Some((Arc::clone(provider), Some(own)))
        })
        .collect();
    // Of a cut name the provider's id may be cut as well.
    if let Some(head) = cut_head(name) {
        let begins = |id: &str| format!("{id}{SEPARATOR}").starts_with(head);
        let cut = providers.values().filter(|provider| begins(&provider.id));
        meant.extend(cut.map(|provider| (Arc::clone(provider), None)));
    }
    meant.sort_by_key(|(provider, _)| std::cmp::Reverse(provider.id.len()));
    meant
}

pub(crate) fn names_connect(provider: &Provider, name: &str, listed: Listed) -> bool {
    listed == Listed::Tools && FullName::prefixed(&provider.id, CONNECT).is_shown_as(name)
}

/// Whether it takes a provider's lists to know which of its names is meant: of a cut name, and of
/// prompts, which no index finds.
pub(crate) fn needs_lists(name: &str, listed: Listed) -> bool {
    listed == Listed::Prompts || cut_head(name).is_some()
}

/// Which of a provider's own names is meant: by its own, else by how it is shown, with its provider
/// before it (`prefix`) or without.
pub(crate) fn own_name(
    lists: &Catalogue,
    prefix: Option<&str>,
    (own, name): (Option<&str>, &str),
    listed: Listed,
) -> Option<String> {
    if let Some(own) = own {
        let found = match listed {
            Listed::Tools => lists.tool(own).map(|tool| tool.upstream.to_string()),
            Listed::Prompts => listed.own(lists).find(|it| *it == own).map(str::to_owned),
        };
        if found.is_some() {
            return found;
        }
    }
    // Tools are found by their aliases without a search.
    if prefix.is_none() && listed == Listed::Tools {
        return None;
    }
    let is_shown = |it: &&str| match prefix {
        Some(id) => FullName::prefixed(id, it).is_shown_as(name),
        None => FullName::own(it).is_shown_as(name),
    };
    // A name of which nothing was cut or replaced was found above.
    needs_lists(name, listed)
        .then(|| listed.own(lists).find(is_shown).map(str::to_owned))
        .flatten()
}

/// What stands before the hash of a cut name.
fn cut_head(name: &str) -> Option<&str> {
    let (head, hash) = name.rsplit_once('_')?;
    let is_hash = hash.len() == 8
        && hash
            .bytes()
            .all(|it| it.is_ascii_digit() || (b'a'..=b'f').contains(&it));
    (is_hash && !head.is_empty()).then_some(head)
}

/// A prompt's name where names are not fitted; what cannot be seen never gets through.
fn as_it_is(item: &Item) -> String {
    match item.key.chars().any(is_hidden) {
        true => FullName::own(&item.key).preferred(),
        false => item.key.to_string(),
    }
}

pub(crate) fn shared_name(name: &str) -> Error {
    Error::new(
        Code::InvalidParams,
        format!(
            "`{}` may mean tools of several providers; nothing was run: list them again, or write `provider.tool`",
            printable(name)
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::tests::{provider, tools};

    #[test]
    fn only_a_name_that_ends_in_a_hash_was_cut() {
        assert_eq!(cut_head("one__long_0123abcd"), Some("one__long"));
        for name in [
            "one__echo",
            "_0123abcd",
            "one__long_0123ABCD",
            "one__long_0123abc",
            "12345678",
        ] {
            assert_eq!(cut_head(name), None, "{name}");
        }
    }

    fn parts(lists: &[(&str, Option<&[&str]>)]) -> Parts {
        let part = |(id, names): &(&str, Option<&[&str]>)| Part {
            provider: provider(id),
            catalogue: names.map(tools),
        };
        Parts {
            parts: lists.iter().map(part).collect(),
            complete: true,
        }
    }

    fn providers(ids: &[&str]) -> BTreeMap<Arc<str>, Arc<Provider>> {
        ids.iter().map(|id| (Arc::from(*id), provider(id))).collect()
    }

    fn meant_ids(ids: &[&str], name: &str) -> Vec<(String, Option<String>)> {
        let meant = meant(&providers(ids), name);
        let meant = meant.into_iter();
        meant
            .map(|(it, own)| (it.id.to_string(), own.map(str::to_owned)))
            .collect()
    }

    #[test]
    fn tools_of_a_union_have_their_provider_before_their_names() {
        let parts = parts(&[("one", Some(&["echo"])), ("two", Some(&["echo", "sum"]))]);
        let names = tool_names(&parts, Names::Safe, true);
        assert_eq!(names, [vec!["one__echo"], vec!["two__echo", "two__sum"]]);
        let names = tool_names(&parts, Names::Dotted, true);
        assert_eq!(names, [vec!["one.echo"], vec!["two.echo", "two.sum"]]);
    }

    #[test]
    fn tools_of_a_provider_alone_have_their_own_names() {
        let parts = parts(&[("one", Some(&["echo"]))]);
        assert_eq!(tool_names(&parts, Names::Safe, false), [vec!["echo"]]);
        assert_eq!(tool_names(&parts, Names::Dotted, false), [vec!["echo"]]);
    }

    #[test]
    fn a_provider_that_is_not_connected_shows_the_tool_that_connects_it() {
        let parts = parts(&[("one", None)]);
        assert_eq!(tool_names(&parts, Names::Safe, true), [vec!["one__connect"]]);
        assert_eq!(tool_names(&parts, Names::Dotted, true), [vec!["one.connect"]]);
        assert!(names_connect(&provider("one"), "one__connect", Listed::Tools));
        assert!(!names_connect(&provider("one"), "one__connect", Listed::Prompts));
    }

    #[test]
    fn names_that_would_be_shown_alike_are_told_apart() {
        let parts = parts(&[("a", Some(&["b__c"])), ("a__b", Some(&["c"]))]);
        let names = tool_names(&parts, Names::Safe, true).concat();
        assert_ne!(names[0], names[1]);
    }

    #[test]
    fn a_name_means_the_provider_before_its_dot_and_no_other() {
        assert_eq!(
            meant_ids(&["a", "b"], "a.b__c"),
            [("a".to_owned(), Some("b__c".to_owned()))]
        );
        assert!(meant_ids(&["a"], "x.c").is_empty());
    }

    #[test]
    fn a_name_may_mean_several_providers_the_longest_id_first() {
        let own = |id: &str, own: &str| (id.to_owned(), Some(own.to_owned()));
        assert_eq!(
            meant_ids(&["a", "a__b"], "a__b__c"),
            [own("a__b", "c"), own("a", "b__c")]
        );
        assert!(meant_ids(&["a"], "a__").is_empty(), "a provider alone is no name");
    }

    #[test]
    fn a_cut_name_means_every_provider_whose_id_it_may_begin() {
        let meant = meant_ids(&["oneself", "onetwo", "three"], "one_0123abcd");
        assert_eq!(meant, [("oneself".to_owned(), None), ("onetwo".to_owned(), None)]);
        assert!(needs_lists("one__long_0123abcd", Listed::Tools));
        assert!(!needs_lists("one__echo", Listed::Tools) && needs_lists("one__echo", Listed::Prompts));
    }

    #[test]
    fn a_providers_own_name_goes_before_how_it_is_shown() {
        let lists = tools(&["echo"]);
        let own = |own, name| own_name(&lists, Some("one"), (own, name), Listed::Tools);
        assert_eq!(own(Some("echo"), "one__echo").as_deref(), Some("echo"));
        assert_eq!(own(Some("gone"), "one__gone"), None);
    }
}
