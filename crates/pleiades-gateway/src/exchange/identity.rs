//! What the gateway says of itself: name, capabilities, instructions.

use serde_json::{Map, Value, json};

use super::Step;
use super::standing::subscribes;
use crate::catalog::{Catalogue, Provider};
use pleiades_core::telemetry::View;
use pleiades_mcp::{RawObject, Revision};

/// What clients show of instructions is cut near 2 KiB.
const MAX_INSTRUCTIONS: usize = 2_000;

impl Step<'_> {
    pub(super) fn server_info(&self) -> Value {
        let title = match &self.scope.provider {
            Some(id) => self
                .snapshot
                .providers
                .get(id)
                .map_or_else(|| id.to_string(), |it| it.title.clone()),
            None => self.exchange.name.clone(),
        };
        json!({ "name": self.exchange.name, "title": title, "version": env!("CARGO_PKG_VERSION") })
    }

    /// What is offered here. Of a provider that was not reached yet everything is promised: its
    /// lists may turn out to be empty, which is harmless, while a missing capability is final.
    pub(super) fn capabilities(&self, client: Revision) -> Value {
        let mut all = Map::new();
        all.insert("tools".to_owned(), json!({ "listChanged": true }));
        for name in ["resources", "prompts", "completions"] {
            if self.in_scope().any(|it| offers(&self.lists_of(it), name)) {
                let says = match name {
                    "completions" => json!({}),
                    "resources" if self.in_scope().any(|it| watches(&self.lists_of(it))) => {
                        json!({ "listChanged": true, "subscribe": true })
                    }
                    _ => json!({ "listChanged": true }),
                };
                all.insert(name.to_owned(), says);
            }
        }
        if let Some(only) = &self.scope.provider
            && !client.is_modern()
            && self.in_scope().any(|it| it.id == *only && self.logs(it, client))
        {
            all.insert("logging".to_owned(), json!({}));
        }
        let extensions = self.extensions(client);
        if !extensions.is_empty() {
            all.insert("extensions".to_owned(), Value::Object(extensions));
        }
        Value::Object(all)
    }

    /// Extensions of the providers behind the tool view, as they announce them to a client of
    /// 2026-07-28. One tool for a whole provider hides what they are about.
    fn extensions(&self, client: Revision) -> Map<String, Value> {
        let mut all = Map::new();
        if self.scope.view != View::Tool || !client.is_modern() {
            return all;
        }
        for provider in self.in_scope() {
            let known = self.known(provider);
            let profile = known.as_ref().and_then(|known| known.profile.as_ref());
            let spoken = profile.filter(|profile| profile.revisions.contains(client));
            let capabilities = spoken.and_then(|profile| RawObject::open(&profile.capabilities).ok());
            let own: Option<Map<String, Value>> = capabilities.and_then(|all| all.read("extensions"));
            for (name, settings) in own.into_iter().flatten() {
                all.entry(name).or_insert(settings);
            }
        }
        all
    }

    /// One provider's own instructions; of a union what each provider is about.
    pub(super) fn instructions(&self) -> Option<String> {
        let text = if self.scope.provider.is_some() {
            let provider = self.in_scope().next()?;
            self.lists_of(provider).profile.as_ref()?.instructions.clone()?
        } else {
            let lines = self.in_scope().map(|provider| match &provider.about {
                Some(about) => format!("{}{}: {about}", prefix(self.scope.view), provider.id),
                None => format!("{}{}: {}", prefix(self.scope.view), provider.id, provider.title),
            });
            lines.collect::<Vec<_>>().join("\n")
        };
        (!text.is_empty()).then(|| text.chars().take(MAX_INSTRUCTIONS).collect())
    }

    pub(super) fn in_scope(&self) -> impl Iterator<Item = &std::sync::Arc<Provider>> {
        let only = self.scope.provider.as_ref();
        self.snapshot
            .providers
            .values()
            .filter(move |it| only.is_none_or(|id| *id == it.id))
    }
}

const fn prefix(view: View) -> &'static str {
    match view {
        View::Meta => "use_",
        View::Tool | View::Relay => "",
    }
}

/// Whether a provider tells of changed resources; of one not reached yet it is hoped.
fn watches(lists: &Catalogue) -> bool {
    lists.profile.is_none() || subscribes(lists)
}

fn offers(lists: &Catalogue, capability: &str) -> bool {
    let Some(profile) = &lists.profile else {
        return true;
    };
    serde_json::from_str::<Map<String, Value>>(profile.capabilities.get())
        .is_ok_and(|capabilities| capabilities.contains_key(capability))
}
