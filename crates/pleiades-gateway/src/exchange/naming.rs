//! What tools and prompts are called, and whom a name means (contracts section 2, "The views").
//!
//! Names are shown in one form; calls take every form that could be meant: `{provider}__{tool}`,
//! `{provider}.{tool}`, the fitted one, and the provider's own name.

use std::sync::Arc;

use super::call::CONNECT;
use super::list::{Part, Parts};
use super::{Step, printable};
use crate::catalog::names::{FullName, SEPARATOR, fit_all};
use crate::catalog::{Catalogue, Item, Provider, Tool};
use pleiades_core::error::{Code, Error};
use pleiades_core::text::is_hidden;

/// How names of several providers are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Names {
    /// `{provider}__{tool}`, in the letters that all models take.
    #[default]
    Safe,
    /// `{provider}.{tool}`, as the provider spells it.
    Dotted,
}

/// What is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listed {
    Tools,
    Prompts,
}

impl Listed {
    /// The own names of what a provider has.
    fn own<'a>(self, catalogue: &'a Catalogue) -> Box<dyn Iterator<Item = &'a str> + 'a> {
        match self {
            Self::Tools => Box::new(catalogue.tools.iter().map(|tool| &*tool.upstream)),
            Self::Prompts => Box::new(catalogue.prompts.iter().map(|item| &*item.key)),
        }
    }

    fn unknown(self, name: &str) -> Error {
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
type Meant<'n> = (Arc<Provider>, Option<&'n str>);

impl Step<'_> {
    fn naming(&self) -> Names {
        self.scope.names.unwrap_or(self.exchange.names)
    }

    /// What the tools of each part are called here; of an unconnected provider the one that connects it.
    pub(super) fn tool_names(&self, parts: &Parts) -> Vec<Vec<String>> {
        let dotted = self.naming() == Names::Dotted;
        if self.scope.provider.is_some() {
            let name = |tool: &Arc<Tool>| match dotted {
                true => tool.name.to_string(),
                false => tool.alias.to_string(),
            };
            let of = |part: &Part| match &part.catalogue {
                Some(lists) => lists.tools.iter().map(name).collect(),
                None => vec![CONNECT.to_owned()],
            };
            return parts.parts.iter().map(of).collect();
        }
        let own = |part: &Part| -> Vec<String> {
            match &part.catalogue {
                Some(lists) if dotted => lists.tools.iter().map(|tool| tool.name.to_string()).collect(),
                Some(lists) => lists.tools.iter().map(|tool| tool.upstream.to_string()).collect(),
                None => vec![CONNECT.to_owned()],
            }
        };
        self.union_names(parts, &own)
    }

    /// What the prompts of each part are called here.
    pub(super) fn prompt_names(&self, parts: &Parts) -> Vec<Vec<String>> {
        let dotted = self.naming() == Names::Dotted;
        let own = |part: &Part| -> Vec<String> {
            let items = part.catalogue.iter().flat_map(|lists| &lists.prompts);
            match dotted {
                true => items.map(as_it_is).collect(),
                false => items.map(|item| item.key.to_string()).collect(),
            }
        };
        if self.scope.provider.is_none() {
            return self.union_names(parts, &own);
        }
        let own = parts.parts.iter().map(own);
        match dotted {
            true => own.collect(),
            false => own
                .map(|names| fit_all(&names.iter().map(|name| FullName::own(name)).collect::<Vec<_>>()))
                .collect(),
        }
    }

    fn union_names(&self, parts: &Parts, own: &dyn Fn(&Part) -> Vec<String>) -> Vec<Vec<String>> {
        let own: Vec<(&Part, Vec<String>)> = parts.parts.iter().map(|part| (part, own(part))).collect();
        if self.naming() == Names::Dotted {
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

    /// Whom a name of a tool or prompt means, and which of its own names that is.
    ///
    /// # Errors
    /// [`Code::InvalidParams`] when it can mean nobody, or several that have it.
    pub(super) async fn named(&self, name: &str, listed: Listed) -> Result<(Arc<Provider>, String), Error> {
        if let Some(provider) = self.only()? {
            let lists = match listed {
                // Found by every name that they are shown by.
                Listed::Tools => None,
                Listed::Prompts => self.connected(&provider).await.ok(),
            };
            let own = lists.and_then(|lists| own_name(&lists, None, (Some(name), name), listed));
            return Ok((provider, own.unwrap_or_else(|| name.to_owned())));
        }
        let mut meant = self.meant(name);
        if meant.len() > 1 {
            let having: Vec<(Arc<Provider>, String)> = meant
                .iter()
                .filter_map(|it| Some((Arc::clone(&it.0), self.has_known(it, name, listed)?)))
                .collect();
            match having.as_slice() {
                [] => {}
                [one] => return Ok(one.clone()),
                _ => return Err(shared(name)),
            }
            // Nobody who is known has it: whoever is not known yet may.
            meant.retain(|(provider, _)| self.known(provider).is_none());
            for it in &meant {
                if let Ok(lists) = self.connected(&it.0).await
                    && let Some(own) = own_name(&lists, Some(&it.0.id), (it.1, name), listed)
                {
                    return Ok((Arc::clone(&it.0), own));
                }
            }
            meant = self.meant(name);
        }
        let (provider, own) = meant.into_iter().next().ok_or_else(|| listed.unknown(name))?;
        if let (Some(own), Listed::Tools, None) = (own, listed, cut_head(name)) {
            return Ok((provider, own.to_owned()));
        }
        match self.connected(&provider).await {
            Ok(lists) => own_name(&lists, Some(&provider.id), (own, name), listed)
                .or_else(|| own.map(str::to_owned))
                .map(|own| (provider, own))
                .ok_or_else(|| listed.unknown(name)),
            // The call itself says why it cannot be made.
            Err(_) => Ok((provider, own.unwrap_or(CONNECT).to_owned())),
        }
    }

    /// The own name that a known provider has for a name.
    fn has_known(&self, (provider, own): &Meant<'_>, name: &str, listed: Listed) -> Option<String> {
        match self.known(provider) {
            Some(lists) => own_name(&lists, Some(&provider.id), (*own, name), listed),
            None => {
                let connects =
                    listed == Listed::Tools && FullName::prefixed(&provider.id, CONNECT).is_shown_as(name);
                connects.then(|| CONNECT.to_owned())
            }
        }
    }

    /// All providers that a name of the union may mean, those with the longest ids first.
    fn meant<'n>(&self, name: &'n str) -> Vec<Meant<'n>> {
        if let Some((id, own)) = name.split_once('.')
            && let Some(provider) = self.snapshot.providers.get(id)
        {
            return vec![(Arc::clone(provider), Some(own))];
        }
        let mut meant: Vec<Meant<'n>> = self
            .in_scope()
            .filter_map(|provider| {
                let rest = name.strip_prefix(&*provider.id)?;
                let own = rest.strip_prefix(SEPARATOR).filter(|own| !own.is_empty())?;
                Some((Arc::clone(provider), Some(own)))
            })
            .collect();
        // Of a cut name the provider's id may be cut as well.
        if let Some(head) = cut_head(name) {
            let begins = |id: &str| format!("{id}{SEPARATOR}").starts_with(head);
            let cut = self.in_scope().filter(|provider| begins(&provider.id));
            let cut: Vec<Meant<'n>> = cut.map(|provider| (Arc::clone(provider), None)).collect();
            meant.extend(cut);
        }
        meant.sort_by_key(|(provider, _)| std::cmp::Reverse(provider.id.len()));
        meant
    }

    /// The provider that the operation of the single meta tool names before its own name.
    pub(super) fn prefix_of(&self, name: &str) -> Option<Arc<Provider>> {
        self.meant(name).into_iter().next().map(|(provider, _)| provider)
    }
}

/// Which of a provider's own names is meant: by its own, else by how it is shown, with its provider
/// before it (`prefix`) or without.
fn own_name(
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
    (cut_head(name).is_some() || listed == Listed::Prompts)
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

fn shared(name: &str) -> Error {
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
}
