//! `subscriptions/listen` of 2026-07-28: what a client hears of beside its requests, as long as its
//! subscription lasts. Lists, and resources and tasks, each named as it knows them.

use std::{collections::HashMap, sync::Arc};

use serde_json::json;
use tokio::sync::mpsc;

use super::{describe::subscribes, params::optional, subscribe::EVENTS, tasks};
use crate::catalog::Provider;
use crate::exchange::call::{looks_after_tasks, revision_for};
use crate::exchange::session::{BACKLOG, ListKinds, Watch, subscription_meta};
use crate::exchange::{client::UPDATED, reply::Done, request::Request, services::MethodServices};
use pleiades_core::error::Error;
use pleiades_mcp::{DeclaredCapabilities, Id, Raw, RawObject, Revision, message, raw, reserved, task, uris};
use pleiades_upstream::{ProviderEvent, SubscribeOptions, Subscription, Topics};

/// What a provider says of a task; the extension has `notifications/tasks` alone.
const TASKS: &str = "notifications/tasks";

const MAX_WATCHED: usize = 256;

#[derive(Debug)]
struct Watched {
    provider: Arc<Provider>,
    revision: Revision,
    /// By the provider's own names; what the client calls them.
    resources: HashMap<String, String>,
    tasks: HashMap<String, String>,
}

#[derive(Debug, Default)]
struct WatchedProviders(Vec<Watched>);

pub(super) async fn listen(
    services: &MethodServices,
    request: &Request<'_>,
    id: &Id,
    params: &RawObject,
) -> Result<Done, Error> {
    let wanted: RawObject = optional(params, "notifications")?;
    let kinds = ListKinds {
        tools: optional(&wanted, "toolsListChanged")?,
        resources: optional(&wanted, "resourcesListChanged")?,
        prompts: optional(&wanted, "promptsListChanged")?,
    };
    let mut honoured = RawObject::new();
    for (on, key) in [
        (kinds.tools, "toolsListChanged"),
        (kinds.resources, "resourcesListChanged"),
        (kinds.prompts, "promptsListChanged"),
    ] {
        if on {
            honoured.put(key, &true);
        }
    }
    let mut watched = WatchedProviders::default();
    let uris: Vec<String> = optional(&wanted, "resourceSubscriptions")?;
    let heard = watch_resources(services, request, &uris, &mut watched).await;
    if !heard.is_empty() {
        honoured.put("resourceSubscriptions", &heard);
    }
    let ids: Vec<String> = optional(&wanted, "taskIds")?;
    let heard = watch_tasks(services, request, &ids, &mut watched).await;
    if !heard.is_empty() {
        honoured.put("taskIds", &heard);
    }
    let meta = subscription_meta(id);
    let params = raw::raw(&json!({ "notifications": honoured, "_meta": meta }));
    let acknowledged = "notifications/subscriptions/acknowledged";
    let acknowledged = message::notification(acknowledged, Some(&params));
    let updates = if watched.0.is_empty() {
        None
    } else {
        let (sender, updates) = mpsc::channel(BACKLOG);
        let lines = lines(services, request, watched, (&sender, &raw::raw(&meta))).await;
        Some((updates, lines))
    };
    let (sender, receiver) = mpsc::channel(BACKLOG);
    let watch = Watch {
        changes: services.catalog.changes(),
        provider: request.scope().provider.clone(),
        principal: request.principal().clone(),
        kinds,
        subscription: Some(id.clone()),
        updates,
        sender,
        _stream: None,
        closing: services.closing.clone(),
    };
    tokio::spawn(watch.run(vec![acknowledged]));
    Ok(Done::Stream(receiver))
}

async fn watch_resources(
    services: &MethodServices,
    request: &Request<'_>,
    uris: &[String],
    watched: &mut WatchedProviders,
) -> Vec<String> {
    let mut honoured = Vec::new();
    for uri in uris.iter().take(MAX_WATCHED) {
        let Ok((provider, lists, inner)) = services.lists.locate(request, uri).await else {
            continue;
        };
        let Ok(revision) = revision_for(request.revision(), &lists) else {
            continue;
        };
        if subscribes(&lists) {
            honoured.push(uri.clone());
            watched.add(provider, revision, |it| {
                drop(it.resources.insert(inner, uri.clone()))
            });
        }
    }
    honoured
}

async fn watch_tasks(
    services: &MethodServices,
    request: &Request<'_>,
    ids: &[String],
    watched: &mut WatchedProviders,
) -> Vec<String> {
    let mut honoured = Vec::new();
    if !looks_after_tasks(request) {
        return honoured;
    }
    for id in ids.iter().take(MAX_WATCHED) {
        let Ok((provider, lists, inner)) = tasks::locate(services, request, id).await else {
            continue;
        };
        if let Ok(revision) = revision_for(request.revision(), &lists) {
            honoured.push(id.clone());
            watched.add(provider, revision, |it| drop(it.tasks.insert(inner, id.clone())));
        }
    }
    honoured
}

impl WatchedProviders {
    fn add(&mut self, provider: Arc<Provider>, revision: Revision, add: impl FnOnce(&mut Watched)) {
        if let Some(watched) = self.0.iter_mut().find(|it| it.provider.id == provider.id) {
            return add(watched);
        }
        let mut watched = Watched {
            provider,
            revision,
            resources: HashMap::new(),
            tasks: HashMap::new(),
        };
        add(&mut watched);
        self.0.push(watched);
    }
}

async fn lines(
    services: &MethodServices,
    request: &Request<'_>,
    watched: WatchedProviders,
    (updates, meta): (&mpsc::Sender<Vec<u8>>, &Raw),
) -> Vec<Subscription> {
    let mut lines = Vec::with_capacity(watched.0.len());
    for watched in watched.0 {
        let Ok(reached) = services.accounts.reach(request, &watched.provider).await else {
            continue;
        };
        let (sender, events) = mpsc::channel(EVENTS);
        let names = |of: &HashMap<String, String>| of.keys().map(|name| Arc::from(name.as_str())).collect();
        let mut declared = DeclaredCapabilities::default();
        if !watched.tasks.is_empty() {
            declared.verbatim = Some(task::with_extension(&declared.capabilities(watched.revision)));
        }
        let opening = SubscribeOptions {
            streams: None,
            endpoint: Arc::clone(&watched.provider.endpoint),
            identity: reached.identity,
            revision: watched.revision,
            declared,
            events: sender,
            topics: Topics {
                resources: names(&watched.resources),
                tasks: names(&watched.tasks),
            },
        };
        let stream = UpdateStream {
            union: request.is_union(),
            watched,
            updates: updates.clone(),
            meta: meta.clone(),
        };
        tokio::spawn(stream.run(events));
        lines.push(services.upstreams.subscribe(opening));
    }
    lines
}

/// Passes on what is said of watched resources and tasks, tagged for their subscription.
struct UpdateStream {
    watched: Watched,
    union: bool,
    updates: mpsc::Sender<Vec<u8>>,
    meta: Raw,
}

impl UpdateStream {
    async fn run(self, mut events: mpsc::Receiver<ProviderEvent>) {
        while let Some(event) = events.recv().await {
            let ProviderEvent::Notification { method, params } = event else {
                continue;
            };
            let params = params
                .and_then(|params| RawObject::open(&params).ok())
                .unwrap_or_default();
            let named = if method == UPDATED {
                self.resource(&params)
            } else if method.starts_with(TASKS) {
                self.task(params)
            } else {
                None
            };
            let Some(mut params) = named else { continue };
            params.set("_meta", self.meta.clone());
            let message = message::notification(&method, Some(&params.close()));
            if self.updates.send(message).await.is_err() {
                return;
            }
        }
    }

    fn resource(&self, update: &RawObject) -> Option<RawObject> {
        let outer = self.watched.resources.get(&update.read::<String>("uri")?)?;
        let mut params = RawObject::new();
        params.put("uri", outer);
        Some(params)
    }

    fn task(&self, mut params: RawObject) -> Option<RawObject> {
        let outer = self.watched.tasks.get(&params.read::<String>("taskId")?)?;
        reserved::strip_params(&mut params);
        params.put("taskId", outer);
        params.remove("requestState");
        if self.union {
            // Whose URI it is elsewhere is not known here; this form is good in any case.
            let outer = |uri: &str| {
                let web = ["https:", "http:", "data:"]
                    .iter()
                    .any(|web| uri.starts_with(web));
                (!web).then(|| uris::namespaced(&self.watched.provider.id, uri))
            };
            uris::rewrite("tasks/get", &mut params, &outer);
        }
        Some(params)
    }
}
