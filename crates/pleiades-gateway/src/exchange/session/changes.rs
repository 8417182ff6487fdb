//! What flows to a client outside of its requests: changes of lists and of watched resources, to
//! those who listen (GET stream of legacy sessions, `subscriptions/listen` of 2026-07-28).

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use super::mailbox::MailboxStream;
use crate::catalog::CatalogChange;
use pleiades_credential::access::Principal;
use pleiades_mcp::{Id, message, raw};
use pleiades_upstream::Subscription;

/// Messages a slow reader may lag behind before its stream waits.
pub(crate) const BACKLOG: usize = 64;

/// Which lists a stream tells about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ListKinds {
    pub(crate) tools: bool,
    pub(crate) resources: bool,
    pub(crate) prompts: bool,
}

impl ListKinds {
    /// Every list.
    pub(crate) const ALL: Self = Self {
        tools: true,
        resources: true,
        prompts: true,
    };
}

/// One stream, and what is told on it.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) changes: broadcast::Receiver<CatalogChange>,
    /// The one provider whose lists are told of; all of them else.
    pub(crate) provider: Option<Arc<str>>,
    pub(crate) principal: Principal,
    pub(crate) kinds: ListKinds,
    /// The id of a subscription of 2026-07-28; of a legacy session's stream none.
    pub(crate) subscription: Option<Id>,
    /// Of watched resources and tasks, with the lines they come on.
    pub(crate) updates: Option<(mpsc::Receiver<Vec<u8>>, Vec<Subscription>)>,
    pub(crate) sender: mpsc::Sender<Vec<u8>>,
    /// Its place among the streams of a legacy session.
    pub(crate) _stream: Option<MailboxStream>,
    pub(crate) closing: CancellationToken,
}

impl Watch {
    /// Tells what happens until either side ends it, some messages first.
    pub(crate) async fn run(mut self, first: Vec<Vec<u8>>) {
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
                () = self.closing.cancelled() => return self.end().await,
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
                Err(broadcast::error::RecvError::Closed) => return self.end().await,
            };
            if !self.notify(kinds).await {
                return;
            }
        }
    }

    /// Which of the wanted lists a change concerns.
    fn concerned(&self, changed: &CatalogChange) -> ListKinds {
        let mine = match (&self.provider, &changed.provider) {
            (Some(only), Some(provider)) => only == provider,
            _ => true,
        };
        let Principal { tenant, user } = &self.principal;
        let own = |(of, name): &(Arc<str>, Arc<str>)| of == tenant && name == user;
        let mine = mine && changed.user.as_ref().is_none_or(own);
        ListKinds {
            tools: mine && changed.tools && self.kinds.tools,
            resources: mine && changed.resources && self.kinds.resources,
            prompts: mine && changed.prompts && self.kinds.prompts,
        }
    }

    async fn notify(&self, kinds: ListKinds) -> bool {
        let methods = [
            (kinds.tools, "notifications/tools/list_changed"),
            (kinds.resources, "notifications/resources/list_changed"),
            (kinds.prompts, "notifications/prompts/list_changed"),
        ];
        for (_, method) in methods.iter().filter(|(wanted, _)| *wanted) {
            let meta = self.subscription.as_ref().map(subscription_meta);
            let params = meta.map(|meta| raw::raw(&json!({ "_meta": meta })));
            let notification = message::notification(method, params.as_deref());
            if self.sender.send(notification).await.is_err() {
                return false;
            }
        }
        true
    }

    /// A subscription ends with the result of its own request; a session's stream just ends.
    async fn end(&self) {
        if let Some(id) = &self.subscription {
            let result = raw::raw(&json!({ "resultType": "complete", "_meta": subscription_meta(id) }));
            // The client may be gone already; nothing is owed to it then.
            drop(self.sender.send(message::result(id, &result)).await);
        }
    }
}

/// What marks a message as one of a subscription.
pub(crate) fn subscription_meta(id: &Id) -> Value {
    json!({ "io.modelcontextprotocol/subscriptionId": id.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(provider: Option<&str>, kinds: ListKinds) -> (Watch, mpsc::Receiver<Vec<u8>>) {
        let (sender, receiver) = mpsc::channel(8);
        let watch = Watch {
            changes: broadcast::channel(1).1,
            provider: provider.map(Arc::from),
            principal: Principal::new("acme", "ann"),
            kinds,
            subscription: None,
            updates: None,
            sender,
            _stream: None,
            closing: CancellationToken::new(),
        };
        (watch, receiver)
    }

    fn changed(provider: Option<&str>, user: Option<&str>) -> CatalogChange {
        CatalogChange {
            provider: provider.map(Arc::from),
            user: user.map(|user| (Arc::from("acme"), Arc::from(user))),
            tools: true,
            resources: true,
            prompts: false,
        }
    }

    #[test]
    fn a_change_concerns_the_lists_that_changed_and_that_are_wanted() {
        let (all, _) = watch(None, ListKinds::ALL);
        let concerned = all.concerned(&changed(Some("mail"), None));
        assert!(concerned.tools && concerned.resources && !concerned.prompts);
        let kinds = ListKinds {
            tools: false,
            ..ListKinds::ALL
        };
        assert!(!watch(None, kinds).0.concerned(&changed(None, None)).tools);
    }

    #[test]
    fn a_change_of_another_provider_or_user_concerns_nobody_here() {
        let (one, _) = watch(Some("mail"), ListKinds::ALL);
        assert!(one.concerned(&changed(Some("mail"), Some("ann"))).tools);
        assert!(
            one.concerned(&changed(None, None)).tools,
            "of no provider: of all"
        );
        assert!(!one.concerned(&changed(Some("files"), None)).tools);
        assert!(!one.concerned(&changed(Some("mail"), Some("bob"))).tools);
    }

    #[tokio::test]
    async fn a_subscription_marks_what_it_is_told_and_ends_with_its_result() {
        let (mut watch, mut messages) = watch(None, ListKinds::ALL);
        watch.subscription = Some(Id(raw::raw(&7)));
        assert!(
            watch
                .notify(ListKinds {
                    tools: false,
                    ..ListKinds::ALL
                })
                .await
        );
        watch.end().await;
        drop(watch);
        let mut read = Vec::new();
        while let Some(message) = messages.recv().await {
            read.push(serde_json::from_slice::<Value>(&message).unwrap());
        }
        let methods: Vec<_> = read
            .iter()
            .map(|it| it["method"].as_str().unwrap_or("result"))
            .collect();
        let (resources, prompts) = (
            "notifications/resources/list_changed",
            "notifications/prompts/list_changed",
        );
        assert_eq!(methods, [resources, prompts, "result"]);
        let meta = subscription_meta(&Id(raw::raw(&7)));
        assert!(read[..2].iter().all(|it| it["params"]["_meta"] == meta));
        assert_eq!(read[2]["result"]["_meta"], meta);
        assert_eq!(read[2]["id"], 7);
    }

    #[tokio::test]
    async fn a_sessions_stream_ends_without_a_word_when_the_process_closes() {
        let (watch, mut messages) = watch(None, ListKinds::ALL);
        watch.closing.cancel();
        watch.run(vec![b"first".to_vec()]).await;
        assert_eq!(messages.recv().await.as_deref(), Some(&b"first"[..]));
        assert_eq!(messages.recv().await, None);
    }
}
