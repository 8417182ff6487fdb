//! What the gateway says of itself: name, capabilities, instructions.

use serde_json::{Map, Value, json};

use crate::catalog::{Catalogue, Presentation, Provider};
use crate::exchange::{request::Request, services::MethodServices};
use pleiades_core::telemetry::View;
use pleiades_core::text::{LineBreaks, legible};
use pleiades_mcp::{RawObject, Revision};

/// What clients show of instructions is cut near 2 KiB.
const MAX_INSTRUCTIONS: usize = 2_000;

pub(super) fn server_info(services: &MethodServices, request: &Request<'_>) -> Value {
    let name = &services.shown.name;
    let title = match &request.scope().provider {
        Some(id) => {
            let provider = request.snapshot().providers.get(id);
            provider.map_or_else(|| id.to_string(), |it| it.title.clone())
        }
        None => name.clone(),
    };
    json!({ "name": name, "title": title, "version": env!("CARGO_PKG_VERSION") })
}

/// What is offered to a client of a revision. Of a provider that was not reached yet everything is
/// promised: its lists may turn out to be empty, which is harmless, while a missing capability is final.
pub(super) fn capabilities(services: &MethodServices, request: &Request<'_>, client: Revision) -> Value {
    let any = |has: &dyn Fn(&Catalogue) -> bool| {
        let mut providers = request.in_scope();
        providers.any(|it| has(&services.lists.lists_of(request, it)))
    };
    let mut all = Map::new();
    all.insert("tools".to_owned(), json!({ "listChanged": true }));
    for name in ["resources", "prompts", "completions"] {
        if any(&|lists| offers(lists, name)) {
            let says = match name {
                "completions" => json!({}),
                "resources" if any(&watches) => json!({ "listChanged": true, "subscribe": true }),
                _ => json!({ "listChanged": true }),
            };
            all.insert(name.to_owned(), says);
        }
    }
    if !request.is_union()
        && !client.is_modern()
        && request
            .in_scope()
            .any(|it| passes_logs(services, request, it, client))
    {
        all.insert("logging".to_owned(), json!({}));
    }
    let extensions = extensions(services, request, client);
    if !extensions.is_empty() {
        all.insert("extensions".to_owned(), Value::Object(extensions));
    }
    Value::Object(all)
}

/// As providers announce them; one tool for a whole provider hides what they are about.
fn extensions(services: &MethodServices, request: &Request<'_>, client: Revision) -> Map<String, Value> {
    let mut all = Map::new();
    if request.view() != View::Tool || !client.is_modern() {
        return all;
    }
    for provider in request.in_scope() {
        let known = services.lists.known(request, provider);
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

pub(super) fn instructions(services: &MethodServices, request: &Request<'_>) -> Option<String> {
    let text = if request.is_union() {
        let lines = request.in_scope().map(|provider| {
            let about = provider.about.as_ref().unwrap_or(&provider.title);
            let view = match provider.facade.mode {
                Presentation::OwnTools => View::Tool,
                _ => request.view(),
            };
            format!("{}{}: {about}", prefix(view), provider.id)
        });
        lines.collect::<Vec<_>>().join("\n")
    } else {
        let lists = services.lists.lists_of(request, request.in_scope().next()?);
        lists.profile.as_ref()?.instructions.clone()?
    };
    let text = legible(&text, LineBreaks::Kept);
    (!text.is_empty()).then(|| text.chars().take(MAX_INSTRUCTIONS).collect())
}

/// Whether a provider's log messages reach a client: between equal generations alone.
pub(super) fn passes_logs(
    services: &MethodServices,
    request: &Request<'_>,
    provider: &Provider,
    client: Revision,
) -> bool {
    let lists = services.lists.lists_of(request, provider);
    lists.profile.as_ref().is_some_and(|profile| {
        let revision = profile.revisions.choose(client);
        let capabilities = RawObject::open(&profile.capabilities).unwrap_or_default();
        revision.is_some_and(|revision| revision.is_modern() == client.is_modern())
            && capabilities.get("logging").is_some()
    })
}

const fn prefix(view: View) -> &'static str {
    match view {
        View::Meta => "use_",
        View::Tool | View::Relay => "",
    }
}

pub(super) fn subscribes(lists: &Catalogue) -> bool {
    lists.profile.as_ref().is_some_and(|profile| {
        let capabilities = RawObject::open(&profile.capabilities).unwrap_or_default();
        let resources: RawObject = capabilities.read("resources").unwrap_or_default();
        resources.read("subscribe").unwrap_or(false)
    })
}

/// The same; of one not reached yet it is hoped.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::tests::{LEGACY, lists};

    #[test]
    fn of_a_provider_that_was_not_reached_yet_everything_is_hoped() {
        let unknown = Catalogue::default();
        assert!(offers(&unknown, "prompts") && watches(&unknown) && !subscribes(&unknown));
    }

    #[test]
    fn a_provider_offers_what_its_capabilities_name() {
        let known = lists(
            &[LEGACY],
            &json!({ "prompts": {}, "resources": { "subscribe": true } }),
            &[],
        );
        assert!(offers(&known, "prompts") && !offers(&known, "completions"));
        assert!(subscribes(&known) && watches(&known));
        let quiet = lists(&[LEGACY], &json!({ "resources": {} }), &[]);
        assert!(!subscribes(&quiet) && !watches(&quiet));
    }

    #[test]
    fn providers_are_described_by_the_name_that_their_tools_have() {
        assert_eq!((prefix(View::Meta), prefix(View::Tool)), ("use_", ""));
    }
}
