//! What a client of 2026-07-28 watches beside lists: resources and tasks, each named as it knows
//! them, as long as its subscription lasts.

use std::{collections::HashMap, sync::Arc};

use tokio::sync::mpsc;

use super::Step;
use super::standing::{EVENTS, UPDATED, subscribes};
use crate::catalog::Provider;
use pleiades_mcp::{DeclaredCapabilities, Raw, RawObject, Revision, message, reserved, task, uris};
use pleiades_upstream::{ProviderEvent, SubscribeOptions, Subscription, Topics};

/// What a provider says of a task; the extension has `notifications/tasks` alone.
const TASKS: &str = "notifications/tasks";

/// Resources of one subscription.
const MAX_WATCHED: usize = 256;

/// What of one provider is watched.
#[derive(Debug)]
pub(super) struct Watched {
    provider: Arc<Provider>,
    leg: Revision,
    /// By the provider's own names; what the client calls them.
    resources: HashMap<String, String>,
    /// The same of tasks.
    tasks: HashMap<String, String>,
}

impl Step<'_> {
    /// The resources a modern client wants to hear of, by provider, and those that can be heard of.
    pub(super) async fn resources_wanted(&self, uris: &[String]) -> (Vec<Watched>, Vec<String>) {
        let mut watched: Vec<Watched> = Vec::new();
        let mut honoured = Vec::new();
        for uri in uris.iter().take(MAX_WATCHED) {
            let Ok((provider, catalogue, inner)) = self.locate(uri).await else {
                continue;
            };
            let Ok(leg) = self.leg(&catalogue) else { continue };
            if !subscribes(&catalogue) {
                continue;
            }
            honoured.push(uri.clone());
            let known = watched.iter_mut().find(|it| it.provider.id == provider.id);
            match known {
                Some(watched) => {
                    watched.resources.insert(inner, uri.clone());
                }
                None => watched.push(Watched {
                    provider,
                    leg,
                    resources: HashMap::from([(inner, uri.clone())]),
                    tasks: HashMap::new(),
                }),
            }
        }
        (watched, honoured)
    }

    /// Adds the tasks a client wants to hear of to what is watched; those that can be heard of.
    pub(super) async fn tasks_wanted(&self, ids: &[String], watched: &mut Vec<Watched>) -> Vec<String> {
        let mut honoured = Vec::new();
        if !self.tends_tasks() {
            return honoured;
        }
        for id in ids.iter().take(MAX_WATCHED) {
            let Ok((provider, catalogue, inner)) = self.known_task(id).await else {
                continue;
            };
            let Ok(leg) = self.leg(&catalogue) else { continue };
            honoured.push(id.clone());
            let known = watched.iter_mut().find(|it| it.provider.id == provider.id);
            match known {
                Some(watched) => {
                    watched.tasks.insert(inner, id.clone());
                }
                None => watched.push(Watched {
                    provider,
                    leg,
                    resources: HashMap::new(),
                    tasks: HashMap::from([(inner, id.clone())]),
                }),
            }
        }
        honoured
    }

    /// Lines for a subscription of 2026-07-28, as long as it lasts. Updates come named as the
    /// client named them.
    pub(super) async fn lines(
        &self,
        watched: Vec<Watched>,
        updates: &mpsc::Sender<Vec<u8>>,
        tag: &Raw,
    ) -> Vec<Subscription> {
        let mut lines = Vec::with_capacity(watched.len());
        for watched in watched {
            let Ok(behalf) = self.behalf(&watched.provider).await else {
                continue;
            };
            let (sender, events) = mpsc::channel(EVENTS);
            let names =
                |of: &HashMap<String, String>| of.keys().map(|name| Arc::from(name.as_str())).collect();
            let mut declared = DeclaredCapabilities::default();
            if !watched.tasks.is_empty() {
                declared.verbatim = Some(task::with_extension(&declared.capabilities(watched.leg)));
            }
            let opening = SubscribeOptions {
                streams: None,
                endpoint: Arc::clone(&watched.provider.endpoint),
                identity: behalf,
                revision: watched.leg,
                declared,
                events: sender,
                topics: Topics {
                    resources: names(&watched.resources),
                    tasks: names(&watched.tasks),
                },
            };
            let teller = Teller {
                union: self.scope.provider.is_none(),
                watched,
                updates: updates.clone(),
                tag: tag.clone(),
            };
            tokio::spawn(teller.run(events));
            lines.push(self.exchange.upstreams.subscribe(opening));
        }
        lines
    }
}

/// Passes on what is said of watched resources and tasks, tagged for their subscription.
struct Teller {
    watched: Watched,
    union: bool,
    updates: mpsc::Sender<Vec<u8>>,
    tag: Raw,
}

impl Teller {
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
            params.set("_meta", self.tag.clone());
            let message = message::notification(&method, Some(&params.close()));
            if self.updates.send(message).await.is_err() {
                return;
            }
        }
    }

    fn resource(&self, said: &RawObject) -> Option<RawObject> {
        let outer = self.watched.resources.get(&said.read::<String>("uri")?)?;
        let mut params = RawObject::new();
        params.put("uri", outer);
        Some(params)
    }

    fn task(&self, mut said: RawObject) -> Option<RawObject> {
        let outer = self.watched.tasks.get(&said.read::<String>("taskId")?)?;
        reserved::strip_params(&mut said);
        said.put("taskId", outer);
        said.remove("requestState");
        if self.union {
            // Whose URI it is elsewhere is not known here; this form is good in any case.
            let outer = |uri: &str| {
                let web = ["https:", "http:", "data:"]
                    .iter()
                    .any(|web| uri.starts_with(web));
                (!web).then(|| uris::namespaced(&self.watched.provider.id, uri))
            };
            uris::rewrite("tasks/get", &mut said, &outer);
        }
        Some(said)
    }
}
