//! The lists of several providers in one answer.

use std::{collections::BTreeMap, sync::Arc};

use super::{claims::Claims, template::matches};
use crate::catalog::{Catalogue, Item, MetaTools, Provider, Tool};
use crate::facade::definition::{self, SingleProvider};
use crate::facade::split::is_split;
use pleiades_mcp::translate::{self, CacheScope, EntryKind};
use pleiades_mcp::{Raw, RawObject, Revision};

#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) provider: Arc<Provider>,
    /// `None`: the caller is not connected to it.
    pub(crate) catalogue: Option<Arc<Catalogue>>,
}

#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) parts: Vec<Part>,
    pub(crate) complete: bool,
}

impl Parts {
    pub(crate) fn one(provider: Arc<Provider>, catalogue: Option<Arc<Catalogue>>) -> Self {
        Self {
            complete: catalogue.as_ref().is_none_or(|it| it.complete),
            parts: vec![Part { provider, catalogue }],
        }
    }

    /// The parts of a union, by what each provider came to; `None`: it is left out.
    pub(crate) fn of(
        answers: impl IntoIterator<Item = (Arc<Provider>, Option<Option<Arc<Catalogue>>>)>,
    ) -> Self {
        let mut merged = Self {
            parts: Vec::new(),
            complete: true,
        };
        for (provider, answer) in answers {
            let Some(catalogue) = answer else {
                merged.complete = false;
                continue;
            };
            merged.complete &= catalogue.as_ref().is_none_or(|it| it.complete);
            merged.parts.push(Part { provider, catalogue });
        }
        merged
    }

    /// How long a modern client may keep the merged list: as long as its shortest-lived part, and
    /// not at all when a part is missing.
    fn ttl_ms(&self) -> u64 {
        let parts = self.parts.iter();
        let shortest = parts
            .map(|part| part.catalogue.as_ref().map_or(0, |it| it.ttl_left_ms()))
            .min();
        if self.complete { shortest.unwrap_or(0) } else { 0 }
    }

    /// The lists of those that the caller is connected to.
    pub(crate) fn catalogues(&self) -> impl Iterator<Item = (&Arc<Provider>, &Arc<Catalogue>)> {
        let parts = self.parts.iter();
        parts.filter_map(|part| Some((&part.provider, part.catalogue.as_ref()?)))
    }

    pub(crate) fn owner(&self, uri: &str) -> Option<(Arc<Provider>, Arc<Catalogue>)> {
        let makes = |lists: &Catalogue| lists.templates.iter().any(|item| matches(&item.key, uri));
        let found = self.catalogues().find(|(_, lists)| lists.has_uri(uri));
        let found = found.or_else(|| self.catalogues().find(|(_, lists)| makes(lists)));
        found.map(|(provider, lists)| (Arc::clone(provider), Arc::clone(lists)))
    }

    fn with_one_tool(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(|part| !part.shows_own_tools())
    }

    /// Whether a provider shows its own tools in the meta view.
    pub(crate) fn has_own_tools(&self) -> bool {
        self.parts.iter().any(Part::shows_own_tools)
    }

    /// The tools of providers that show their own in the meta view, by the names of all tools there are.
    pub(crate) fn own_tools(
        &self,
        names: Vec<Vec<String>>,
        claims: &Claims<'_>,
        revision: Revision,
    ) -> Vec<RawObject> {
        let named = self.parts.iter().zip(names);
        let own = named.filter(|(part, _)| part.shows_own_tools());
        own.flat_map(|(part, names)| part.tools(names, claims, revision))
            .collect()
    }

    /// `among`: all providers that the caller sees.
    /// `saved` learns how many tokens less they take than the definitions they stand for.
    pub(crate) fn meta_tools(
        &self,
        among: &BTreeMap<Arc<str>, Arc<Provider>>,
        saved: &dyn Fn(&Provider, usize),
    ) -> Vec<RawObject> {
        let mut tools = Vec::new();
        for part in self.with_one_tool() {
            let is_split = is_split(&part.provider, among);
            let shown = part.meta_tools(is_split);
            let own = part.catalogue.as_deref().map_or(0, Catalogue::tokens);
            saved(&part.provider, own.saturating_sub(shown.tokens));
            tools.extend(shown.tools.iter().cloned());
        }
        tools
    }

    /// Of the one tool for all each provider is said to take an equal part.
    pub(crate) fn single_tool(&self, name: &str, saved: &dyn Fn(&Provider, usize)) -> Vec<RawObject> {
        let providers = self.with_one_tool().map(|part| SingleProvider {
            provider: &part.provider,
            catalogue: part.catalogue.as_deref(),
            is_split: part.provider.facade.is_split,
        });
        let providers: Vec<SingleProvider<'_>> = providers.collect();
        if providers.is_empty() && !self.parts.is_empty() {
            return Vec::new();
        }
        let tools = definition::single(name, &providers);
        let cost: usize = tools.iter().map(|definition| definition.tokens).sum();
        let part = cost / providers.len().max(1);
        for SingleProvider {
            provider, catalogue, ..
        } in &providers
        {
            saved(
                provider,
                catalogue.map_or(0, Catalogue::tokens).saturating_sub(part),
            );
        }
        tools.into_iter().map(|definition| definition.tool).collect()
    }

    pub(crate) fn tools(
        &self,
        names: Vec<Vec<String>>,
        claims: &Claims<'_>,
        revision: Revision,
    ) -> Vec<RawObject> {
        let named = self.parts.iter().zip(names);
        named
            .flat_map(|(part, names)| part.tools(names, claims, revision))
            .collect()
    }

    pub(crate) fn prompts(&self, names: Vec<Vec<String>>, revision: Revision) -> Vec<RawObject> {
        let mut entries = Vec::new();
        for (part, names) in self.parts.iter().zip(names) {
            let items = part.catalogue.iter().flat_map(|lists| &lists.prompts);
            entries.extend(items.zip(names).map(|(item, name)| prompt(item, &name, revision)));
        }
        entries
    }

    pub(crate) fn located(&self, kind: EntryKind, claims: &Claims<'_>, revision: Revision) -> Vec<RawObject> {
        let mut entries = Vec::new();
        for (provider, lists) in self.catalogues() {
            let items = match kind {
                EntryKind::Template => &lists.templates,
                _ => &lists.resources,
            };
            entries.extend(items.iter().map(|item| {
                let mut entry = translate::entry(kind, item.raw.clone(), revision);
                claims.rename(kind, &provider.id, &mut entry);
                entry
            }));
        }
        entries
    }

    pub(crate) fn page(&self, key: &str, entries: &[RawObject], revision: Revision) -> Raw {
        let mut result = RawObject::new();
        result.put(key, entries);
        let cache = Some((self.ttl_ms(), CacheScope::Private));
        translate::envelope(&mut result, revision, cache);
        result.close()
    }
}

impl Part {
    fn shows_own_tools(&self) -> bool {
        self.provider.shows_own_tools(self.catalogue.as_deref())
    }

    fn meta_tools(&self, is_split: bool) -> Arc<MetaTools> {
        let make = || {
            let made = definition::tools(&self.provider, self.catalogue.as_deref(), is_split);
            MetaTools {
                tokens: made.iter().map(|definition| definition.tokens).sum(),
                tools: made.into_iter().map(|definition| definition.tool).collect(),
            }
        };
        match &self.catalogue {
            Some(lists) => lists.meta_tools.get(&self.provider, is_split, make),
            None => Arc::new(make()),
        }
    }

    fn tools(&self, names: Vec<String>, claims: &Claims<'_>, revision: Revision) -> Vec<RawObject> {
        let provider = &self.provider;
        let Some(catalogue) = &self.catalogue else {
            let connect = |name: &String| definition::connect(name, provider);
            return names.iter().map(connect).collect();
        };
        let named = |(tool, name): (&Arc<Tool>, String)| {
            let mut entry = translate::entry(EntryKind::Tool, tool.raw.clone(), revision);
            claims.rename(EntryKind::Tool, &provider.id, &mut entry);
            if *name != *tool.upstream {
                entry.put("name", &name);
            }
            entry
        };
        catalogue.tools.iter().zip(names).map(named).collect()
    }
}

fn prompt(item: &Item, name: &str, revision: Revision) -> RawObject {
    let mut entry = translate::entry(EntryKind::Prompt, item.raw.clone(), revision);
    if *name != *item.key {
        entry.put("name", name);
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::tests::{LEGACY, MODERN, items, lists, provider, tools};
    use serde_json::{Value, json};
    use std::borrow::Cow;

    fn kept(ttl_ms: u64) -> Option<Arc<Catalogue>> {
        let mut lists = (*tools(&["echo"])).clone();
        lists.ttl_ms = Some(ttl_ms);
        Some(Arc::new(lists))
    }

    fn located(resources: &[&str], templates: &[&str]) -> Option<Arc<Catalogue>> {
        let mut lists = lists(&[LEGACY], &json!({}), &[]);
        (lists.resources, lists.templates) = (items(resources), items(templates));
        Some(Arc::new(lists))
    }

    fn merged(parts: Vec<(&str, Option<Option<Arc<Catalogue>>>)>) -> Parts {
        Parts::of(parts.into_iter().map(|(id, lists)| (provider(id), lists)))
    }

    #[test]
    fn a_merged_list_is_kept_as_long_as_its_shortest_lived_part() {
        assert_eq!(
            merged(vec![("a", Some(kept(900))), ("b", Some(kept(300)))]).ttl_ms(),
            300
        );
        assert_eq!(
            merged(vec![("a", Some(kept(900))), ("b", Some(None))]).ttl_ms(),
            0
        );
        assert_eq!(merged(Vec::new()).ttl_ms(), 0);
    }

    #[test]
    fn a_list_that_lacks_a_part_is_not_kept_at_all() {
        let parts = merged(vec![("a", Some(kept(900))), ("b", None)]);
        assert!(!parts.complete && parts.ttl_ms() == 0);
        assert_eq!(parts.parts.len(), 1, "whoever failed is left out");
    }

    #[test]
    fn a_list_that_was_not_read_to_its_end_makes_the_whole_incomplete() {
        let mut lists = (*tools(&[])).clone();
        lists.complete = false;
        assert!(!Parts::one(provider("a"), Some(Arc::new(lists.clone()))).complete);
        assert!(!merged(vec![("a", Some(Some(Arc::new(lists))))]).complete);
        assert!(Parts::one(provider("a"), None).complete);
    }

    #[test]
    fn a_uri_is_its_listers_before_it_is_that_of_whoever_has_a_template() {
        let parts = merged(vec![
            ("a", Some(located(&[], &["x://{id}"]))),
            ("b", Some(located(&["x://1"], &[]))),
        ]);
        let owner = |uri: &str| parts.owner(uri).map(|(provider, _)| provider.id.to_string());
        assert_eq!(owner("x://1").as_deref(), Some("b"));
        assert_eq!(owner("x://2").as_deref(), Some("a"));
        assert_eq!(owner("y://2"), None);
    }

    #[test]
    fn tools_of_all_parts_are_listed_in_order_under_the_names_they_are_given() {
        let parts = merged(vec![("a", Some(kept(0))), ("b", Some(None))]);
        let names = vec![vec!["a__echo".to_owned()], vec!["b__connect".to_owned()]];
        let claims = Claims::new(None, Vec::new(), true);
        let tools = parts.tools(names, &claims, LEGACY);
        let names: Vec<_> = tools
            .iter()
            .map(|tool| tool.text("name").unwrap().into_owned())
            .collect();
        assert_eq!(names, ["a__echo", "b__connect"]);
    }

    #[test]
    fn what_stands_for_tools_is_made_once_for_a_descriptor_and_anew_for_another() {
        let lists = tools(&["echo"]);
        let one = provider("one");
        let made = |provider: &Arc<Provider>, is_split| {
            let part = Part {
                provider: Arc::clone(provider),
                catalogue: Some(Arc::clone(&lists)),
            };
            part.meta_tools(is_split)
        };
        let first = made(&one, false);
        assert!(Arc::ptr_eq(&first, &made(&one, false)));
        assert!(!Arc::ptr_eq(&first, &made(&one, true)));
        let mut changed = Arc::into_inner(provider("one")).unwrap();
        changed.title = "Another title".to_owned();
        let shown = made(&Arc::new(changed), false);
        let title = shown.tools[0].text("title").map(Cow::into_owned);
        assert_eq!(title.as_deref(), Some("Another title"));
        assert!(!Arc::ptr_eq(&first, &made(&provider("one"), false)));
    }

    #[test]
    fn a_page_says_how_long_it_is_good_to_clients_of_2026_07_28_alone() {
        let parts = merged(vec![("a", Some(kept(900)))]);
        let page = |revision| {
            let page = parts.page("tools", &[], revision);
            serde_json::from_str::<Value>(page.get()).unwrap()
        };
        assert_eq!(page(MODERN)["ttlMs"], 900);
        assert_eq!(page(LEGACY), json!({ "tools": [] }));
    }
}
