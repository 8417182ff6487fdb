//! What a provider is and what it offers: one attempt to find out. Changes nothing by itself.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{
    Catalogue, Item, Lister, Provider, Tool,
    bounds::{self, ByteBudget, LeftOut},
    cached::Discovery,
    failure::ListFailure,
    lists::{ListKind, ListSet},
    names,
    pages::{ListEntry, ListRequest, Pages},
    tools,
};
use pleiades_core::error::{Code, Error};
use pleiades_core::text::printable;
use pleiades_mcp::{RawObject, Revision};
use pleiades_upstream::{Identity, Profile, Transport};

/// How long a provider that declares nothing may take to say that it has tools.
const UNDECLARED: Duration = Duration::from_secs(5);
/// Longest capabilities, `serverInfo` and instructions that are kept, in bytes.
const ITSELF: usize = 64 * 1024;
/// Of a provider that is there, and has nothing to offer.
const IDLE: &str = "it offers nothing: the server declares neither tools, resources nor prompts, and lists no tools when it is asked";

/// What is known from before: what is not asked for, or fails, stays as it was.
#[derive(Debug)]
pub(super) struct Previous {
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) offered: Arc<[Arc<Tool>]>,
    /// Whether any attempt succeeded before.
    pub(super) listed: bool,
}

/// Detects what a provider is, unless `previous.catalogue` is to be believed, and reads its lists. One that
/// fails is kept as it was, and the catalogue is not `complete`. An error: not reached, or refused.
pub(super) async fn discover(
    lister: &dyn Lister,
    provider: &Provider,
    identity: &Identity,
    previous: &Previous,
    which: Option<ListSet>,
) -> Result<Discovery, Error> {
    let endpoint = &provider.endpoint;
    let (profile, which) = match (&previous.catalogue.profile, which) {
        (Some(profile), Some(which)) => (profile.clone(), which),
        (before, _) => {
            let profile = lister.probe(endpoint, identity).await?;
            let profile = with_older_revision(lister, provider, identity, (before.as_ref(), profile)).await;
            (profile, ListSet::ALL)
        }
    };
    let revision = endpoint
        .revision
        .or_else(|| profile.revisions.newest())
        .unwrap_or(Revision::NEWEST_LEGACY);
    let profile = bounded(profile)?;
    let bounds = provider.live.bounds;
    let room = Arc::new(ByteBudget::new(bounds.lists));
    let asked = ListRequest {
        bounds,
        room: &room,
        lister,
        endpoint,
        identity,
        revision,
    };
    let declares = declares(&profile);
    let offers = ListSet {
        tools: which.tools && declares.tools,
        resources: which.resources && declares.resources,
        prompts: which.prompts && declares.prompts,
    };
    let (tools, resources, templates, prompts) = tokio::join!(
        async {
            match which.tools && !declares.any() {
                true => undeclared_tools(asked).await,
                false => read_if(offers.tools, asked, ListKind::Tools).await,
            }
        },
        read_if(offers.resources, asked, ListKind::Resources),
        read_if(offers.resources, asked, ListKind::Templates),
        read_if(offers.prompts, asked, ListKind::Prompts),
    );
    let read = ReadLists {
        profile,
        tools,
        resources,
        templates,
        prompts,
    };
    assemble((provider, identity), previous, which, read)
}

/// A provider that spoke an older revision before is asked for it at once: clients of that generation
/// must not lose it meanwhile.
async fn with_older_revision(
    lister: &dyn Lister,
    provider: &Provider,
    identity: &Identity,
    (before, now): (Option<&Profile>, Profile),
) -> Profile {
    let spoke = before.is_some_and(|before| !before.revisions.iter().all(Revision::is_modern));
    if !spoke || now.legacy.is_none() {
        return now;
    }
    let asked = lister.older(&provider.endpoint, identity, &now).await;
    asked.unwrap_or(now)
}

struct ReadLists {
    profile: Profile,
    tools: Option<Pages>,
    resources: Option<Pages>,
    templates: Option<Pages>,
    prompts: Option<Pages>,
}

async fn read_if(wanted: bool, asked: ListRequest<'_>, list: ListKind) -> Option<Pages> {
    if wanted { Some(asked.all(list).await) } else { None }
}

/// Asks for tools although nothing is declared: some servers have them and do not say so. Whatever else
/// than a list comes, they have none; but for a credential that fails.
async fn undeclared_tools(asked: ListRequest<'_>) -> Option<Pages> {
    let pages = timeout(UNDECLARED, asked.all(ListKind::Tools)).await.ok()?;
    let failed = pages.failure.as_ref();
    // Without a credential nobody knows what would have come.
    failed
        .is_none_or(|error| error.code.is_of_credentials())
        .then_some(pages)
}

fn declares(profile: &Profile) -> ListSet {
    let capabilities = RawObject::open(&profile.capabilities).unwrap_or_default();
    let has = |name: &str| capabilities.get(name).is_some_and(|value| value.get() != "null");
    ListSet {
        tools: has("tools"),
        resources: has("resources"),
        prompts: has("prompts"),
    }
}

/// What a provider declares of itself, as far as it is kept.
fn bounded(mut profile: Profile) -> Result<Profile, Error> {
    if profile.capabilities.get().len() > ITSELF {
        let message = format!("the provider's capabilities are longer than {ITSELF} bytes");
        return Err(Error::new(Code::UpstreamProtocol, message));
    }
    profile.server_info = profile.server_info.filter(|info| info.get().len() <= ITSELF);
    if let Some(instructions) = &mut profile.instructions
        && instructions.len() > ITSELF
    {
        *instructions = instructions.chars().take(ITSELF / 4).collect();
    }
    Ok(profile)
}

fn tools_failure(pages: Option<&Pages>, identity: &Identity) -> Option<Box<ListFailure>> {
    let error = pages?.failure.as_ref()?;
    Some(Box::new(ListFailure::of(error, identity)))
}

fn assemble(
    (provider, identity): (&Provider, &Identity),
    previous: &Previous,
    which: ListSet,
    read: ReadLists,
) -> Result<Discovery, Error> {
    let declares = declares(&read.profile);
    let mut gathered = ListAssembly {
        listed: previous.listed,
        ..ListAssembly::default()
    };
    let mut catalogue = Catalogue {
        profile: Some(read.profile),
        ..Catalogue::default()
    };
    catalogue.tools_failure = match which.tools {
        true => tools_failure(read.tools.as_ref(), identity),
        false => previous.catalogue.tools_failure.clone(),
    };
    let (offered, cost) = gathered.tools(read.tools, which, (provider, previous));
    catalogue.set_tools(provider.rules.admitted(&offered));
    catalogue.cost.tools = cost;
    let old = &previous.catalogue;
    catalogue.resources = gathered.items(
        read.resources,
        which.resources,
        ListKind::Resources,
        &old.resources,
    );
    catalogue.templates = gathered.items(
        read.templates,
        which.resources,
        ListKind::Templates,
        &old.templates,
    );
    catalogue.prompts = gathered.items(read.prompts, which.prompts, ListKind::Prompts, &old.prompts);
    let others = [&catalogue.resources, &catalogue.templates, &catalogue.prompts];
    catalogue.cost.others = others
        .into_iter()
        .flatten()
        .map(|item| bounds::cost(&item.raw))
        .sum();
    if let Some(fatal) = gathered.fatal {
        return Err(fatal);
    }
    // A partial reading says nothing of the lists it left alone.
    catalogue.complete = gathered.failing.is_none() && (which == ListSet::ALL || old.complete);
    let kept = old.ttl_ms.filter(|_| which != ListSet::ALL);
    catalogue.ttl_ms = kept.into_iter().chain(gathered.ttl_ms).min();
    catalogue.is_private = gathered.is_private || (which != ListSet::ALL && old.is_private);
    let nothing = offered.is_empty() && gathered.left_out.is_empty() && gathered.failing.is_none();
    Ok(Discovery {
        idle: (nothing && !declares.any()).then_some(IDLE),
        catalogue,
        offered,
        left_out: gathered.left_out,
        failing: gathered.failing,
    })
}

#[derive(Default)]
struct ListAssembly {
    listed: bool,
    ttl_ms: Option<u64>,
    is_private: bool,
    failing: Option<(Code, String)>,
    left_out: LeftOut,
    /// A failure that speaks of the provider, not of one list.
    fatal: Option<Error>,
}

impl ListAssembly {
    /// The tools before the descriptor's rules, and what they take.
    fn tools(
        &mut self,
        pages: Option<Pages>,
        which: ListSet,
        (provider, previous): (&Provider, &Previous),
    ) -> (Arc<[Arc<Tool>]>, usize) {
        let Some(pages) = self.entries(pages, which.tools) else {
            return (Arc::clone(&previous.offered), previous.catalogue.cost.tools);
        };
        let mirrors = matches!(provider.endpoint.target, Transport::Http { .. });
        let tools = tools::compile(pages.entries, mirrors, &mut self.left_out);
        (tools.into(), pages.cost)
    }

    fn items(&mut self, pages: Option<Pages>, wanted: bool, list: ListKind, before: &[Item]) -> Vec<Item> {
        match self.entries(pages, wanted) {
            Some(pages) => items(list, pages.entries, &mut self.left_out),
            None => before.to_vec(),
        }
    }

    /// Whether a failure speaks of the provider or of the credential, not of one list. One of a
    /// credential that may pass takes nothing away that was read before.
    const fn is_fatal(&self, code: Code) -> bool {
        match code {
            Code::UpstreamUnreachable | Code::UnsupportedRevision | Code::ShuttingDown => true,
            Code::CredentialStore | Code::CredentialTimeout => !self.listed,
            _ => code.is_of_credentials(),
        }
    }

    /// What to make of a list; `None`: it stays as it was.
    fn entries(&mut self, pages: Option<Pages>, wanted: bool) -> Option<Pages> {
        let Some(mut pages) = pages else {
            // Not offered (any more), or not asked for.
            return wanted.then(Pages::default);
        };
        self.ttl_ms = self.ttl_ms.into_iter().chain(pages.ttl_ms).min();
        self.is_private |= pages.is_private;
        self.left_out.append(std::mem::take(&mut pages.left_out));
        let Some(error) = &pages.failure else {
            return Some(pages);
        };
        self.failing.get_or_insert_with(|| (error.code, error.in_full()));
        if self.is_fatal(error.code) {
            self.fatal = pages.failure;
            return None;
        }
        // Half a list is better than none, but not better than a whole one of before.
        (!self.listed).then_some(pages)
    }
}

fn items(list: ListKind, entries: Vec<ListEntry>, left_out: &mut LeftOut) -> Vec<Item> {
    let (_, key_name) = list.keys();
    let mut seen = HashSet::new();
    let mut items = Vec::with_capacity(entries.len());
    for raw in entries.into_iter().map(|entry| entry.raw) {
        let key = raw.read::<String>(key_name).filter(|key| !names::is_blank(key));
        let Some(key) = key else {
            left_out.add(format!(
                "an entry of `{}` was left out: it has no `{key_name}`",
                list.method()
            ));
            continue;
        };
        if !seen.insert(key.clone()) {
            left_out.add(format!(
                "`{}` was left out: `{}` names it twice, the first is kept",
                printable(&key, names::NAMED),
                list.method()
            ));
            continue;
        }
        items.push(Item { key: key.into(), raw });
    }
    items
}
