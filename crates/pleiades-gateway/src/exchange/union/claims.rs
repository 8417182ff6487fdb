//! Resources of a union: which URIs stay as their providers wrote them, and which have to name
//! their provider (reference: `mcp-spec.md` section 5.5).
//!
//! A URI stays when reading it here would ask the provider it came from, and nobody else could be
//! meant. In any doubt it is namespaced, which can always be read and always reaches that provider.

use std::cell::{Cell, OnceCell};
use std::collections::{HashMap, HashSet};

use super::template::{example, matches};
use crate::catalog::{Catalogue, MAX_URI};
use pleiades_mcp::uris::{self, denamespaced, namespaced};
use pleiades_mcp::{RawObject, translate::EntryKind};

/// Steps (bytes compared) that templates may cost one answer, some ten milliseconds; beyond them
/// everything is in doubt. How many templates there are and how long is the providers' choice.
const STEPS: usize = 16 << 20;
/// URIs that are looked up in the lists one after the other; for more of them in one answer an index
/// over all lists is made first.
const SINGLE: usize = 16;

#[derive(Debug)]
pub(crate) struct Claims<'a> {
    /// All providers; `None` where one is alone and nothing is namespaced.
    union: Option<HashSet<&'a str>>,
    known: Vec<(&'a str, &'a Catalogue)>,
    /// Whether no other provider could claim anything.
    whole: bool,
    looked_up: Cell<usize>,
    listed: OnceCell<HashMap<&'a str, Owner<'a>>>,
    left: Cell<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner<'a> {
    Nobody,
    One(&'a str),
    Several,
}

impl<'a> Owner<'a> {
    fn and(self, other: &'a str) -> Self {
        match self {
            Self::Nobody => Self::One(other),
            Self::One(one) if one == other => self,
            Self::One(_) | Self::Several => Self::Several,
        }
    }
}

impl<'a> Claims<'a> {
    pub(crate) fn new(
        union: Option<HashSet<&'a str>>,
        known: Vec<(&'a str, &'a Catalogue)>,
        whole: bool,
    ) -> Self {
        Self {
            union,
            known,
            whole,
            looked_up: Cell::new(0),
            listed: OnceCell::new(),
            left: Cell::new(STEPS),
        }
    }

    pub(crate) fn rename(&self, kind: EntryKind, provider: &str, entry: &mut RawObject) {
        if kind == EntryKind::Template {
            uris::entry(kind, entry, &|template| self.outer_template(provider, template));
        } else {
            uris::entry(kind, entry, &|uri| self.outer(provider, uri));
        }
    }

    /// What a provider's URI is called in the union; `None` when it stays.
    pub(crate) fn outer(&self, provider: &str, uri: &str) -> Option<String> {
        let stays = match self.owner(uri)? {
            Owner::One(owner) => self.whole && owner == provider,
            Owner::Several => false,
            // These a client fetches itself, or holds already.
            Owner::Nobody => ["https:", "http:", "data:"]
                .iter()
                .any(|web| uri.starts_with(web)),
        };
        (!stays).then(|| namespaced(provider, uri))
    }

    /// The same for a template: all that it can make has to be this provider's.
    fn outer_template(&self, provider: &str, template: &str) -> Option<String> {
        let alone = self.owner(template)? == Owner::One(provider) && !self.overlaps(provider, template);
        (!alone).then(|| namespaced(provider, template))
    }

    /// Whom the union reads a URI from; one that names a provider could be read two ways. `None`
    /// where there is no union.
    fn owner(&self, uri: &str) -> Option<Owner<'a>> {
        let union = self.union.as_ref()?;
        if denamespaced(uri).is_some_and(|(id, _)| union.contains(id)) {
            return Some(Owner::Several);
        }
        Some(match self.owner_by_list(uri) {
            Owner::Nobody => self.owner_by_template(uri),
            listed => listed,
        })
    }

    fn owner_by_list(&self, uri: &str) -> Owner<'a> {
        let looked_up = self.looked_up.get();
        self.looked_up.set(looked_up + 1);
        if looked_up < SINGLE {
            let listing = self.known.iter().filter(|(_, lists)| lists.has_uri(uri));
            return listing.fold(Owner::Nobody, |owner, (provider, _)| owner.and(provider));
        }
        let listed = self.listed.get_or_init(|| listed(&self.known));
        listed.get(uri).copied().unwrap_or(Owner::Nobody)
    }

    fn owner_by_template(&self, uri: &str) -> Owner<'a> {
        let makes = |lists: &Catalogue| lists.templates.iter().any(|item| self.matches(&item.key, uri));
        let making = self.known.iter().filter(|(_, lists)| makes(lists));
        let owner = making.fold(Owner::Nobody, |owner, (provider, _)| owner.and(provider));
        match self.left.get() {
            0 => Owner::Several,
            _ => owner,
        }
    }

    /// Whether another provider has a resource that this template can make, or a template alike.
    fn overlaps(&self, provider: &str, template: &str) -> bool {
        let made = example(template);
        let mut others = self.known.iter().filter(|(it, _)| *it != provider);
        others.any(|(_, lists)| {
            let mut resources = lists.resources.iter();
            let mut templates = lists.templates.iter();
            resources.any(|item| self.matches(template, &item.key))
                || templates
                    .any(|item| self.matches(&item.key, &made) || self.matches(template, &example(&item.key)))
        })
    }

    /// As [`matches()`], within what an answer may cost; once that is spent everything matches.
    fn matches(&self, template: &str, uri: &str) -> bool {
        let cost = template.len() + uri.len().min(MAX_URI) + 1;
        let left = self.left.get().saturating_sub(cost);
        self.left.set(left);
        left == 0 || matches(template, uri)
    }
}

fn listed<'a>(known: &[(&'a str, &'a Catalogue)]) -> HashMap<&'a str, Owner<'a>> {
    let mut owners = HashMap::new();
    for (provider, lists) in known {
        for item in lists.resources.iter().chain(&lists.templates) {
            let owner = owners.entry(&*item.key).or_insert(Owner::Nobody);
            *owner = owner.and(provider);
        }
    }
    owners
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Item;

    fn lists(resources: &[&str], templates: &[&str]) -> Catalogue {
        let items = |keys: &[&str]| {
            keys.iter()
                .map(|key| Item {
                    key: (*key).into(),
                    raw: RawObject::new(),
                })
                .collect()
        };
        Catalogue {
            resources: items(resources),
            templates: items(templates),
            ..Catalogue::default()
        }
    }

    fn union<'a>(one: &'a Catalogue, two: &'a Catalogue) -> Claims<'a> {
        let ids = ["one", "two", "three"].into_iter().collect();
        Claims::new(Some(ids), vec![("one", one), ("two", two)], true)
    }

    #[test]
    fn a_uri_stays_when_only_its_provider_can_be_meant() {
        let (one, two) = (
            lists(&["a://own", "a://both"], &["t://{id}"]),
            lists(&["a://both", "t://listed"], &["u://{id}"]),
        );
        let claims = union(&one, &two);
        assert_eq!(claims.outer("one", "a://own"), None);
        assert_eq!(claims.outer("one", "t://7"), None);
        assert_eq!(
            claims.outer("two", "t://listed"),
            None,
            "listed wins over a template"
        );
        let named = |provider: &str, uri: &str| Some(namespaced(provider, uri));
        for (provider, uri) in [
            ("one", "a://both"),
            ("two", "a://both"),
            ("two", "a://own"),
            ("two", "t://7"),
            ("one", "t://listed"),
            ("one", "nobody://s"),
            ("one", "pleiades://two/a://both"),
            ("one", "pleiades://one/a://own"),
        ] {
            assert_eq!(
                claims.outer(provider, uri),
                named(provider, uri),
                "{provider} {uri}"
            );
        }
    }

    #[test]
    fn what_a_client_fetches_itself_stays_unless_somebody_lists_it() {
        let (one, two) = (lists(&["https://a.example/"], &[]), lists(&[], &[]));
        let claims = union(&one, &two);
        for uri in ["https://b.example/", "http://c.example/", "data:,x"] {
            assert_eq!(claims.outer("two", uri), None);
        }
        assert!(claims.outer("two", "https://a.example/").is_some());
        assert_eq!(claims.outer("one", "https://a.example/"), None);
    }

    #[test]
    fn a_uri_that_names_no_provider_of_ours_is_an_ordinary_one() {
        let (one, two) = (lists(&["pleiades://else/x"], &[]), lists(&[], &[]));
        assert_eq!(union(&one, &two).outer("one", "pleiades://else/x"), None);
    }

    #[test]
    fn with_a_provider_unknown_everything_is_in_doubt() {
        let one = lists(&["a://own"], &[]);
        let claims = Claims::new(Some(HashSet::new()), vec![("one", &one)], false);
        assert!(claims.outer("one", "a://own").is_some());
    }

    #[test]
    fn one_provider_alone_keeps_its_uris() {
        let one = lists(&[], &[]);
        let claims = Claims::new(None, vec![("one", &one)], true);
        assert_eq!(claims.outer("one", "nobody://s"), None);
        assert_eq!(claims.outer_template("one", "nobody://{x}"), None);
    }

    #[test]
    fn templates_that_can_make_what_another_provider_has_are_namespaced() {
        let (one, two) = (
            lists(&[], &["a://{id}", "b://{kind}/{id}", "c://{id}", "d://{id}"]),
            lists(&["c://1"], &["a://{id}", "b://x/{id}"]),
        );
        let claims = union(&one, &two);
        for template in ["a://{id}", "b://{kind}/{id}", "c://{id}"] {
            assert!(claims.outer_template("one", template).is_some(), "{template}");
        }
        assert_eq!(claims.outer_template("one", "d://{id}"), None);
        assert!(claims.outer_template("two", "b://x/{id}").is_some());
    }

    #[test]
    fn an_answer_costs_no_more_steps_than_allowed() {
        let many: Vec<String> = (0..1_500).map(|at| format!("t{at}://{{id}}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let (one, two) = (lists(&["a://own"], &many), lists(&[], &[]));
        let claims = union(&one, &two);
        assert_eq!(claims.outer("one", "t7://x"), None);
        for _ in 0..1_000 {
            claims.outer("one", "none://x");
        }
        assert_eq!(claims.left.get(), 0);
        assert!(
            claims.outer("one", "t7://x").is_some(),
            "in doubt it is namespaced"
        );
        assert_eq!(
            claims.outer("one", "a://own"),
            None,
            "listed ones need no comparison"
        );
    }

    #[test]
    fn many_uris_in_one_answer_are_found_as_a_few_are() {
        let (one, two) = (lists(&["a://own", "a://both"], &[]), lists(&["a://both"], &[]));
        let claims = union(&one, &two);
        for _ in 0..SINGLE * 2 {
            assert_eq!(claims.outer("one", "a://own"), None);
            assert!(claims.outer("one", "a://both").is_some());
        }
    }

    #[test]
    fn long_uris_and_templates_cost_no_more_steps_than_allowed() {
        let long: Vec<String> = (0..500)
            .map(|at| format!("t://{{x}}{}{at}", "a".repeat(4_000)))
            .collect();
        let long: Vec<&str> = long.iter().map(String::as_str).collect();
        let (one, two) = (lists(&[], &long), lists(&[], &[]));
        let claims = union(&one, &two);
        let uri = format!("t://{}", "a".repeat(8_000));
        for _ in 0..100 {
            claims.outer("two", &uri);
        }
        assert_eq!(claims.left.get(), 0);
    }
}
