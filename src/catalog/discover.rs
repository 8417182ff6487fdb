//! What a provider is and what it offers: one attempt to find out. Changes nothing by itself.

use std::{collections::HashSet, sync::Arc};

use super::{
    Catalogue, Item, Lister, Provider, Tool,
    lists::Which,
    pages::{Asked, List, Pages},
    tools,
};
use crate::error::{Code, Error};
use crate::mcp::{RawObject, Revision};
use crate::upstream::{Behalf, Profile, Target};

/// What an attempt found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) catalogue: Catalogue,
    /// Tools before the descriptor's rules.
    pub(super) offered: Arc<[Arc<Tool>]>,
    /// What was left out, and why.
    pub(super) warnings: Vec<String>,
    /// Why a list is incomplete.
    pub(super) failing: Option<String>,
}

/// What is known from before: what is not asked for, or fails, stays as it was.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) offered: Arc<[Arc<Tool>]>,
    /// Whether any attempt succeeded before.
    pub(super) listed: bool,
}

/// Detects what a provider is, unless `known.catalogue` is to be believed, and reads its lists.
///
/// A list that fails is kept as it was, and the catalogue is not `complete`.
///
/// # Errors
/// When the provider cannot be reached or refuses the credential.
pub(super) async fn discover(
    lister: &dyn Lister,
    provider: &Provider,
    behalf: &Behalf,
    known: &Known,
    which: Option<Which>,
) -> Result<Found, Error> {
    let endpoint = &provider.endpoint;
    let (profile, which) = match (&known.catalogue.profile, which) {
        (Some(profile), Some(which)) => (profile.clone(), which),
        (before, _) => {
            let profile = lister.probe(endpoint, behalf).await?;
            let profile = recalled(lister, provider, behalf, (before.as_ref(), profile)).await;
            (profile, Which::ALL)
        }
    };
    let revision = endpoint
        .revision
        .or_else(|| profile.revisions.newest())
        .unwrap_or(Revision::NEWEST_LEGACY);
    let asked = Asked {
        lister,
        endpoint,
        behalf,
        revision,
    };
    let offers = offers(&profile, which);
    let (tools, resources, templates, prompts) = tokio::join!(
        when(offers.tools, asked, List::Tools),
        when(offers.resources, asked, List::Resources),
        when(offers.resources, asked, List::Templates),
        when(offers.prompts, asked, List::Prompts),
    );
    assemble(
        provider,
        known,
        which,
        Read {
            profile,
            tools,
            resources,
            templates,
            prompts,
        },
    )
}

/// What spoke an older revision before is asked for it at once: its clients of that generation must not
/// lose their way to it meanwhile.
async fn recalled(
    lister: &dyn Lister,
    provider: &Provider,
    behalf: &Behalf,
    (before, now): (Option<&Profile>, Profile),
) -> Profile {
    let spoke = before.is_some_and(|before| !before.revisions.iter().all(Revision::is_modern));
    if !spoke || now.older.is_none() {
        return now;
    }
    let asked = lister.older(&provider.endpoint, behalf, &now).await;
    asked.unwrap_or(now)
}

struct Read {
    profile: Profile,
    tools: Option<Pages>,
    resources: Option<Pages>,
    templates: Option<Pages>,
    prompts: Option<Pages>,
}

async fn when(asked_for: bool, asked: Asked<'_>, list: List) -> Option<Pages> {
    if asked_for {
        Some(asked.all(list).await)
    } else {
        None
    }
}

/// Which of the wanted lists the provider has at all.
fn offers(profile: &Profile, which: Which) -> Which {
    let capabilities = RawObject::open(&profile.capabilities).unwrap_or_default();
    let has = |name: &str| capabilities.get(name).is_some_and(|value| value.get() != "null");
    Which {
        tools: which.tools && has("tools"),
        resources: which.resources && has("resources"),
        prompts: which.prompts && has("prompts"),
    }
}

fn assemble(provider: &Provider, known: &Known, which: Which, read: Read) -> Result<Found, Error> {
    let mut gathered = Gathered::since(known.listed);
    let mut catalogue = Catalogue {
        profile: Some(read.profile),
        ..Catalogue::default()
    };
    let mut warnings = Vec::new();
    let mirrors = matches!(provider.endpoint.target, Target::Http { .. });
    let offered = match gathered.entries(read.tools, which.tools) {
        Entries::Read(raws) => tools::compile(raws, mirrors, &mut warnings).into(),
        Entries::Kept => Arc::clone(&known.offered),
    };
    let admitted = offered.iter().filter(|tool| provider.rules.admits(&tool.name));
    catalogue.set_tools(admitted.cloned().collect());
    let old = &known.catalogue;
    let (with_resources, with_prompts) = (which.resources, which.prompts);
    let lists = [
        (
            read.resources,
            with_resources,
            List::Resources,
            &mut catalogue.resources,
            &old.resources,
        ),
        (
            read.templates,
            with_resources,
            List::Templates,
            &mut catalogue.templates,
            &old.templates,
        ),
        (
            read.prompts,
            with_prompts,
            List::Prompts,
            &mut catalogue.prompts,
            &old.prompts,
        ),
    ];
    for (pages, wanted, list, slot, before) in lists {
        *slot = match gathered.entries(pages, wanted) {
            Entries::Read(raws) => items(list, raws, &mut warnings),
            Entries::Kept => before.clone(),
        };
    }
    if let Some(fatal) = gathered.fatal {
        return Err(fatal);
    }
    // A partial reading says nothing of the lists it left alone.
    catalogue.complete = gathered.failing.is_none() && (which == Which::ALL || old.complete);
    catalogue.ttl_ms = match (which == Which::ALL, gathered.ttl_ms) {
        (true, ttl) => ttl.unwrap_or(0),
        (false, ttl) => old.ttl_ms.min(ttl.unwrap_or(u64::MAX)),
    };
    Ok(Found {
        catalogue,
        offered,
        warnings,
        failing: gathered.failing,
    })
}

/// What to make of a list.
enum Entries {
    Read(Vec<RawObject>),
    Kept,
}

struct Gathered {
    listed: bool,
    ttl_ms: Option<u64>,
    failing: Option<String>,
    /// A failure that speaks of the provider, not of one list.
    fatal: Option<Error>,
}

impl Gathered {
    fn since(listed: bool) -> Self {
        Self {
            listed,
            ttl_ms: None,
            failing: None,
            fatal: None,
        }
    }

    fn entries(&mut self, pages: Option<Pages>, wanted: bool) -> Entries {
        let Some(pages) = pages else {
            // Not offered (any more), or not asked for.
            return if wanted {
                Entries::Read(Vec::new())
            } else {
                Entries::Kept
            };
        };
        if let Some(ttl) = pages.ttl_ms {
            self.ttl_ms = Some(self.ttl_ms.map_or(ttl, |before| before.min(ttl)));
        }
        let Some(error) = pages.failure else {
            return Entries::Read(pages.entries);
        };
        if self.failing.is_none() {
            self.failing = Some(said(&error));
        }
        if matches!(
            error.code,
            Code::UpstreamAuth | Code::NeedsAuth | Code::UpstreamUnreachable | Code::UnsupportedRevision
        ) {
            self.fatal = Some(error);
        }
        // Half a list is better than none, but not better than a whole one of before.
        if self.listed {
            Entries::Kept
        } else {
            Entries::Read(pages.entries)
        }
    }
}

/// The error as `/providers` says it: with the provider's own words and the cause.
pub(super) fn said(error: &Error) -> String {
    error.in_full()
}

fn items(list: List, raws: Vec<RawObject>, warnings: &mut Vec<String>) -> Vec<Item> {
    let (_, identity) = list.keys();
    let mut seen = HashSet::new();
    let mut items = Vec::with_capacity(raws.len());
    for raw in raws {
        let Some(key) = raw.read::<String>(identity) else {
            warnings.push(format!(
                "an entry of `{}` was left out: it has no `{identity}`",
                list.method()
            ));
            continue;
        };
        if !seen.insert(key.clone()) {
            warnings.push(format!(
                "`{key}` was left out: `{}` names it twice, the first is kept",
                list.method()
            ));
            continue;
        }
        items.push(Item { key: key.into(), raw });
    }
    items
}
