//! What flows to a client outside of its requests: changes of lists and of watched resources, to
//! those who listen (GET stream of legacy sessions, `subscriptions/listen` of 2026-07-28).

use std::sync::Arc;

use serde_json::json;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use super::forward::optional;
use super::mailbox::Placed;
use super::{Done, Exchange, Scope, Step};
use crate::catalog::CatalogChange;
use pleiades_core::error::Error;
use pleiades_credential::access::Principal;
use pleiades_mcp::{Id, RawObject, message, raw};
use pleiades_upstream::Subscription;

/// Messages a slow reader may lag behind before its stream waits.
pub(super) const BACKLOG: usize = 64;

/// Which lists a stream tells about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kinds {
    tools: bool,
    resources: bool,
    prompts: bool,
}

const ALL: Kinds = Kinds {
    tools: true,
    resources: true,
    prompts: true,
};

impl Exchange {
    /// Tells a session's stream of list changes, and keeps its place for as long as it stands.
    pub(super) fn watch_session(
        &self,
        scope: &Scope,
        principal: &Principal,
        (sender, placed): (mpsc::Sender<Vec<u8>>, Option<Placed>),
    ) {
        let watch = Watch {
            changes: self.catalog.changes(),
            provider: scope.provider.clone(),
            principal: principal.clone(),
            kinds: ALL,
            tag: None,
            updates: None,
            sender,
            _placed: placed,
            closing: self.closing.clone(),
        };
        tokio::spawn(watch.run(Vec::new()));
    }
}

struct Watch {
    changes: broadcast::Receiver<CatalogChange>,
    provider: Option<Arc<str>>,
    principal: Principal,
    kinds: Kinds,
    tag: Option<Id>,
    /// Of watched resources, with the lines they come on.
    updates: Option<(mpsc::Receiver<Vec<u8>>, Vec<Subscription>)>,
    sender: mpsc::Sender<Vec<u8>>,
    /// Among the streams of a legacy session.
    _placed: Option<Placed>,
    closing: CancellationToken,
}

impl Watch {
    async fn run(mut self, first: Vec<Vec<u8>>) {
        for message in first {
            if self.sender.send(message).await.is_err() {
                return;
            }
        }
        loop {
            let update = async {
                match &mut self.updates {
                    Some((updates, _)) => updates.recv().await,
                    None => std::future::pending().await,
                }
            };
            let changed = tokio::select! {
                () = self.closing.cancelled() => return self.part().await,
                () = self.sender.closed() => return,
                update = update => {
                    let Some(update) = update else {
                        self.updates = None;
                        continue;
                    };
                    if self.sender.send(update).await.is_err() {
                        return;
                    }
                    continue;
                }
                changed = self.changes.recv() => changed,
            };
            let kinds = match changed {
                Ok(changed) => self.concerned(&changed),
                // What was missed may have been anything.
                Err(broadcast::error::RecvError::Lagged(_)) => self.kinds,
                Err(broadcast::error::RecvError::Closed) => return self.part().await,
            };
            if !self.tell(kinds).await {
                return;
            }
        }
    }

    fn concerned(&self, changed: &CatalogChange) -> Kinds {
        let mine = match (&self.provider, &changed.provider) {
            (Some(only), Some(provider)) => only == provider,
            _ => true,
        };
        let Principal { tenant, user } = &self.principal;
        let own = |(of, name): &(Arc<str>, Arc<str>)| of == tenant && name == user;
        let mine = mine && changed.user.as_ref().is_none_or(own);
        Kinds {
            tools: mine && changed.tools && self.kinds.tools,
            resources: mine && changed.resources && self.kinds.resources,
            prompts: mine && changed.prompts && self.kinds.prompts,
        }
    }

    async fn tell(&self, kinds: Kinds) -> bool {
        let methods = [
            (kinds.tools, "notifications/tools/list_changed"),
            (kinds.resources, "notifications/resources/list_changed"),
            (kinds.prompts, "notifications/prompts/list_changed"),
        ];
        for (_, method) in methods.iter().filter(|(wanted, _)| *wanted) {
            let params = self
                .tag
                .as_ref()
                .map(|id| raw::raw(&json!({ "_meta": subscription(id) })));
            if self
                .sender
                .send(message::notification(method, params.as_deref()))
                .await
                .is_err()
            {
                return false;
            }
        }
        true
    }

    /// A subscription ends with the result of its own request; a session's stream just ends.
    async fn part(&self) {
        if let Some(id) = &self.tag {
            let result = raw::raw(&json!({ "resultType": "complete", "_meta": subscription(id) }));
            // The client may be gone already; nothing is owed to it then.
            drop(self.sender.send(message::result(id, &result)).await);
        }
    }
}

fn subscription(id: &Id) -> serde_json::Value {
    json!({ "io.modelcontextprotocol/subscriptionId": id.0 })
}

impl Step<'_> {
    /// `subscriptions/listen`: acknowledges what is honoured, then tells of it.
    pub(super) async fn listen(&self, id: &Id, params: &RawObject) -> Result<Done, Error> {
        let wanted: RawObject = optional(params, "notifications")?;
        let kinds = Kinds {
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
        let uris: Vec<String> = optional(&wanted, "resourceSubscriptions")?;
        let (mut watched, heard) = self.resources_wanted(&uris).await;
        if !heard.is_empty() {
            honoured.put("resourceSubscriptions", &heard);
        }
        let ids: Vec<String> = optional(&wanted, "taskIds")?;
        let heard = self.tasks_wanted(&ids, &mut watched).await;
        if !heard.is_empty() {
            honoured.put("taskIds", &heard);
        }
        let params = json!({ "notifications": honoured, "_meta": subscription(id) });
        let ack = message::notification(
            "notifications/subscriptions/acknowledged",
            Some(&raw::raw(&params)),
        );
        let updates = if watched.is_empty() {
            None
        } else {
            let (told, updates) = mpsc::channel(BACKLOG);
            let lines = self.lines(watched, &told, &raw::raw(&subscription(id))).await;
            Some((updates, lines))
        };
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let watch = Watch {
            changes: self.exchange.catalog.changes(),
            provider: self.scope.provider.clone(),
            principal: self.peer.principal.clone(),
            kinds,
            tag: Some(id.clone()),
            updates,
            sender,
            _placed: None,
            closing: self.exchange.closing.clone(),
        };
        tokio::spawn(watch.run(vec![ack]));
        Ok(Done::Stream(receiver))
    }
}
