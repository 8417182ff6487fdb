//! Lists: every provider's part from memory, in one order, whatever became of the others.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio::time::timeout;

use super::Step;
use super::namespace::Claims;
use crate::catalog::{Catalogue, Item, Provider, State, Tool};
use crate::facade::definition;
use pleiades_core::error::{Code, Error};
use pleiades_core::telemetry::View;
use pleiades_mcp::translate::{self, CacheScope, EntryKind};
use pleiades_mcp::{Raw, RawObject};

/// The longest that a union waits for its providers, all at once: an answer takes a second at most
/// (contracts section 2). What comes later is told by `list_changed`.
const PATIENCE: Duration = Duration::from_millis(800);
/// The same for one that was late before: nobody's list takes longer for it each time.
const BRIEF: Duration = Duration::from_millis(40);

/// One provider's share of a list.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) provider: Arc<Provider>,
    /// `None`: the caller is not connected to it.
    pub(super) catalogue: Option<Arc<Catalogue>>,
}

/// The parts that could be had, and whether they are all.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) parts: Vec<Part>,
    pub(super) complete: bool,
}

impl Parts {
    /// How long a modern client may keep the merged list: as long as its shortest-lived part, and
    /// not at all when a part is missing.
    fn ttl_ms(&self) -> u64 {
        let shortest = self
            .parts
            .iter()
            .map(|part| part.catalogue.as_ref().map_or(0, |it| it.ttl_ms))
            .min();
        if self.complete { shortest.unwrap_or(0) } else { 0 }
    }

    fn catalogues(&self) -> impl Iterator<Item = (&Arc<Provider>, &Arc<Catalogue>)> {
        self.parts
            .iter()
            .filter_map(|part| Some((&part.provider, part.catalogue.as_ref()?)))
    }
}

impl Step<'_> {
    pub(super) async fn tools_list(&self, params: &RawObject) -> Result<Raw, Error> {
        one_page(params)?;
        let parts = self.parts().await?;
        let tools: Vec<RawObject> = match self.scope.view {
            View::Meta if self.exchange.single && self.scope.provider.is_none() => {
                vec![self.single_tool(&parts)]
            }
            View::Meta => parts
                .parts
                .iter()
                .map(|it| definition::tool(&it.provider, it.catalogue.as_deref()))
                .collect(),
            View::Tool | View::Relay => {
                let (claims, names) = (self.claims_of(&parts), self.tool_names(&parts));
                let named = parts.parts.iter().zip(names);
                named
                    .flat_map(|(part, names)| self.real_tools(part, names, &claims))
                    .collect()
            }
        };
        Ok(self.page("tools", &tools, &parts))
    }

    fn single_tool(&self, parts: &Parts) -> RawObject {
        let providers: Vec<_> = parts
            .parts
            .iter()
            .map(|it| (&*it.provider, it.catalogue.as_deref()))
            .collect();
        definition::single(&self.exchange.name, &providers)
    }

    /// A provider's own tools; of an unconnected one the tool that connects it.
    fn real_tools(&self, part: &Part, names: Vec<String>, claims: &Claims<'_>) -> Vec<RawObject> {
        let provider = &part.provider;
        let Some(catalogue) = &part.catalogue else {
            let connect = |name: &String| definition::connect(name, provider);
            return names.iter().map(connect).collect();
        };
        let named = |(tool, name): (&Arc<Tool>, String)| {
            let mut entry = translate::entry(EntryKind::Tool, tool.raw.clone(), self.revision());
            claims.rename(EntryKind::Tool, &provider.id, &mut entry);
            if *name != *tool.upstream {
                entry.put("name", &name);
            }
            entry
        };
        catalogue.tools.iter().zip(names).map(named).collect()
    }

    pub(super) async fn resources_list(&self, params: &RawObject) -> Result<Raw, Error> {
        one_page(params)?;
        let parts = self.parts().await?;
        let entries = self.located(&parts, EntryKind::Resource, |catalogue| &catalogue.resources);
        Ok(self.page("resources", &entries, &parts))
    }

    pub(super) async fn templates_list(&self, params: &RawObject) -> Result<Raw, Error> {
        one_page(params)?;
        let parts = self.parts().await?;
        let entries = self.located(&parts, EntryKind::Template, |catalogue| &catalogue.templates);
        Ok(self.page("resourceTemplates", &entries, &parts))
    }

    pub(super) async fn prompts_list(&self, params: &RawObject) -> Result<Raw, Error> {
        one_page(params)?;
        let parts = self.parts().await?;
        let mut entries = Vec::new();
        for (part, names) in parts.parts.iter().zip(self.prompt_names(&parts)) {
            let items = part.catalogue.iter().flat_map(|lists| &lists.prompts);
            entries.extend(items.zip(names).map(|(item, name)| self.prompt(item, &name)));
        }
        Ok(self.page("prompts", &entries, &parts))
    }

    fn prompt(&self, item: &Item, name: &str) -> RawObject {
        let mut entry = translate::entry(EntryKind::Prompt, item.raw.clone(), self.revision());
        if *name != *item.key {
            entry.put("name", name);
        }
        entry
    }

    /// Entries that are found by URI.
    fn located(&self, parts: &Parts, kind: EntryKind, items: fn(&Catalogue) -> &Vec<Item>) -> Vec<RawObject> {
        let claims = self.claims_of(parts);
        let mut entries = Vec::new();
        for (provider, catalogue) in parts.catalogues() {
            entries.extend(items(catalogue).iter().map(|item| {
                let mut entry = translate::entry(kind, item.raw.clone(), self.revision());
                claims.rename(kind, &provider.id, &mut entry);
                entry
            }));
        }
        entries
    }

    fn page(&self, key: &str, entries: &[RawObject], parts: &Parts) -> Raw {
        let mut result = RawObject::new();
        result.put(key, entries);
        translate::envelope(
            &mut result,
            self.revision(),
            Some((parts.ttl_ms(), CacheScope::Private)),
        );
        result.close()
    }

    /// The lists of every provider in scope. In a union a provider that fails is left out; alone
    /// its failure is the answer, because an empty list is not success.
    pub(super) async fn parts(&self) -> Result<Parts, Error> {
        if let Some(provider) = self.only()? {
            let catalogue = self.part(&provider).await?;
            let complete = catalogue.as_ref().is_none_or(|it| it.complete);
            return Ok(Parts {
                parts: vec![Part { provider, catalogue }],
                complete,
            });
        }
        let asked: Vec<Arc<Provider>> = self.in_scope().cloned().collect();
        let answers = join_all(asked.iter().map(|provider| self.union_part(provider))).await;
        let mut complete = true;
        let mut parts = Vec::with_capacity(asked.len());
        for (provider, answer) in asked.into_iter().zip(answers) {
            let Some(catalogue) = answer else {
                complete = false;
                continue;
            };
            complete &= catalogue.as_ref().is_none_or(|it| it.complete);
            parts.push(Part { provider, catalogue });
        }
        Ok(Parts { parts, complete })
    }

    /// As [`Self::part`], but what one provider does is not everybody's time: nobody waits for one
    /// that is known to be out of reach, nor longer than [`PATIENCE`], nor that long twice.
    /// `None`: it is left out.
    async fn union_part(&self, provider: &Arc<Provider>) -> Option<Option<Arc<Catalogue>>> {
        if provider.state().0 == State::Unreachable && self.known(provider).is_none() {
            return None;
        }
        let (key, late) = (self.late_key(provider), &self.exchange.late);
        let patience = match late.has(&key) {
            true => BRIEF,
            false => PATIENCE,
        };
        let asked = Instant::now();
        match timeout(patience, self.part(provider)).await {
            Ok(Ok(lists)) => {
                late.came(&key);
                Some(lists)
            }
            Ok(Err(error)) => {
                tracing::debug!(provider.name = %provider.id, reason = %error, "left out of a union");
                if asked.elapsed() > BRIEF {
                    late.failed(key);
                }
                None
            }
            Err(_elapsed) => {
                self.wait_beside(provider, key);
                // Its one tool can be shown; which operations there are is not known yet.
                Some(Some(Arc::new(Catalogue::default())))
            }
        }
    }

    /// A provider's lists for this caller; `None` when the caller is not connected.
    pub(super) async fn part(&self, provider: &Arc<Provider>) -> Result<Option<Arc<Catalogue>>, Error> {
        match self.listed(provider).await {
            Ok(lists) => Ok(Some(lists)),
            Err(error) if wants_account(&error) => {
                tracing::debug!(provider.name = %provider.id, reason = %error, "not connected");
                let tenant = &self.peer.principal.tenant;
                Ok(self.exchange.catalog.template(provider, tenant))
            }
            Err(error) => Err(error),
        }
    }

    async fn listed(&self, provider: &Arc<Provider>) -> Result<Arc<Catalogue>, Error> {
        let reached = self.reach_any(provider).await?;
        match self.exchange.catalog.lists(provider, &reached.behalf).await {
            Ok(lists) => Ok(lists),
            Err(error) => Err(self.judged(provider, &reached, error).await),
        }
    }
}

/// Whether there are no lists because the caller has no account that they could be read with.
const fn wants_account(error: &Error) -> bool {
    matches!(
        error.code,
        Code::NeedsAuth | Code::TokenExpired | Code::CapabilityMiss | Code::AccountAmbiguous
    )
}

/// Lists are whole: a cursor can only be one we never gave.
fn one_page(params: &RawObject) -> Result<(), Error> {
    match params.get("cursor") {
        None => Ok(()),
        Some(cursor) if cursor.get() == "null" => Ok(()),
        Some(_) => Err(Error::new(
            Code::InvalidParams,
            "unknown `cursor`: the list comes in one page",
        )),
    }
}
