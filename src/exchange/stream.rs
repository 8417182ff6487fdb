//! What flows to a client beside answers: notifications of a running request, and list changes to
//! those who listen (GET stream of legacy sessions, `subscriptions/listen` of 2026-07-28).

use std::sync::Arc;

use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use super::{Arrived, Done, Exchange, Scope, Step};
use crate::catalog::Changed;
use crate::error::Error;
use crate::mcp::{Id, Raw, RawObject, message, raw};
use crate::upstream::Event;

/// Messages a slow reader may lag behind before its stream waits.
const BACKLOG: usize = 64;

/// Takes the notifications of one running request.
#[derive(Debug)]
pub struct Outlet(mpsc::Sender<Event>);

/// The other end: the same notifications, written for the peer that asked for them.
#[derive(Debug)]
pub struct Inlet {
    token: Raw,
    events: mpsc::Receiver<Event>,
}

impl Outlet {
    /// An outlet for a request that asked for progress; `None` when it did not.
    #[must_use]
    pub fn open(message: &Arrived) -> Option<(Self, Inlet)> {
        let token = message
            .progress_token()
            .filter(|_| message.id().is_some())?
            .to_owned();
        let (sender, events) = mpsc::channel(BACKLOG);
        Some((Self(sender), Inlet { token, events }))
    }

    /// Where the upstream's events of this request go.
    pub(super) fn events(&self) -> mpsc::Sender<Event> {
        self.0.clone()
    }
}

impl Inlet {
    /// The next notification; `None` when the request is done.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let event = self.events.recv().await?;
            if let Some(message) = for_peer(event, &self.token) {
                return Some(message);
            }
        }
    }

    /// A notification that is already there.
    pub fn ready(&mut self) -> Option<Vec<u8>> {
        loop {
            let event = self.events.try_recv().ok()?;
            if let Some(message) = for_peer(event, &self.token) {
                return Some(message);
            }
        }
    }
}

/// Progress under the peer's own token. Other notifications of a call (logging) are not bridged.
fn for_peer(event: Event, token: &RawValue) -> Option<Vec<u8>> {
    let Event::Progress(mut params) = event else {
        return None;
    };
    params.set("progressToken", token.to_owned());
    Some(message::notification(
        "notifications/progress",
        Some(&params.close()),
    ))
}

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
    /// The GET stream of a legacy session: list changes in its scope, until the process ends.
    #[must_use]
    pub fn session_stream(&self, scope: &Scope) -> mpsc::Receiver<Vec<u8>> {
        self.watch(scope, ALL, None, Vec::new())
    }

    fn watch(
        &self,
        scope: &Scope,
        kinds: Kinds,
        tag: Option<Id>,
        first: Vec<Vec<u8>>,
    ) -> mpsc::Receiver<Vec<u8>> {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let watch = Watch {
            changes: self.catalog.changes(),
            provider: scope.provider.clone(),
            kinds,
            tag,
            sender,
            closing: self.closing.clone(),
        };
        tokio::spawn(watch.run(first));
        receiver
    }
}

struct Watch {
    changes: broadcast::Receiver<Changed>,
    provider: Option<Arc<str>>,
    kinds: Kinds,
    tag: Option<Id>,
    sender: mpsc::Sender<Vec<u8>>,
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
            let changed = tokio::select! {
                () = self.closing.cancelled() => return self.part().await,
                () = self.sender.closed() => return,
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

    fn concerned(&self, changed: &Changed) -> Kinds {
        let mine = match (&self.provider, &changed.provider) {
            (Some(only), Some(provider)) => only == provider,
            _ => true,
        };
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
    pub(super) fn listen(&self, id: &Id, params: &RawObject) -> Result<Done, Error> {
        let wanted: RawObject = params.read("notifications").unwrap_or_default();
        let wants = |key: &str| wanted.read::<bool>(key).unwrap_or(false);
        let kinds = Kinds {
            tools: wants("toolsListChanged"),
            resources: wants("resourcesListChanged"),
            prompts: wants("promptsListChanged"),
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
        let params = json!({ "notifications": honoured, "_meta": subscription(id) });
        let ack = message::notification(
            "notifications/subscriptions/acknowledged",
            Some(&raw::raw(&params)),
        );
        Ok(Done::Stream(self.exchange.watch(
            self.scope,
            kinds,
            Some(id.clone()),
            vec![ack],
        )))
    }
}
