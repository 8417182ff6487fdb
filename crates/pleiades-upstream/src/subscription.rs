//! Notifications and requests of a provider outside of calls, for as long as one client listens.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::AtomicUsize},
};

use parking_lot::Mutex;
use serde_json::json;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    call::{Call, ProviderEvent},
    endpoint::{Endpoint, Identity},
    event_stream::EventStream,
    hub::ClientSink,
    incoming,
    provider_client::{OwnedClient, Source},
    reconnect::{Attempt, Reconnect, StreamState, keep_open},
    shared::Shared,
};
use pleiades_core::error::{Code, Error};
use pleiades_mcp::{DeclaredCapabilities, Message, RawObject, Revision, message, raw::raw};

const MAX_WATCHED: usize = 256;
/// Longest name of one, in bytes.
const MAX_URI: usize = 8 * 1024;

/// What is watched besides messages to the client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topics {
    /// Resources whose updates are wanted.
    pub resources: BTreeSet<Arc<str>>,
    /// Tasks whose state is wanted (2026-07-28 with the tasks extension only).
    pub tasks: BTreeSet<Arc<str>>,
}

impl Topics {
    /// Parameters of `subscriptions/listen`; `None` when nothing is watched.
    fn params(&self) -> Option<RawObject> {
        let mut filter = serde_json::Map::new();
        if !self.resources.is_empty() {
            filter.insert("resourceSubscriptions".to_owned(), json!(self.resources));
        }
        if !self.tasks.is_empty() {
            filter.insert("taskIds".to_owned(), json!(self.tasks));
        }
        if filter.is_empty() {
            return None;
        }
        let mut params = RawObject::new();
        params.set("notifications", raw(&filter));
        Some(params)
    }
}

/// An open subscription; closed when dropped.
#[derive(Debug)]
pub struct Subscription {
    topics: watch::Sender<Topics>,
    subscribed: Arc<Mutex<BTreeSet<Arc<str>>>>,
    _end: DropGuard,
}

impl Subscription {
    /// Watches a resource from now on, and again after each reconnection. `subscribed`: a request of the same
    /// session has subscribed to it already.
    ///
    /// # Errors
    /// [`Code::Busy`] when as many are watched as may be (256); [`Code::InvalidParams`] when the name is
    /// longer than 8 KiB.
    pub fn watch(&self, uri: &str, subscribed: bool) -> Result<(), Error> {
        if uri.len() > MAX_URI {
            let message = "`uri` is longer than 8 KiB, which is not watched";
            return Err(Error::new(Code::InvalidParams, message));
        }
        if self.topics.borrow().resources.len() >= MAX_WATCHED {
            let message = "256 resources are watched already; unsubscribe from some";
            return Err(Error::new(Code::Busy, message));
        }
        if subscribed {
            self.subscribed.lock().insert(uri.into());
        }
        self.topics
            .send_if_modified(|topics| topics.resources.insert(uri.into()));
        Ok(())
    }

    /// Watches a resource no more; whether it was watched. Unsubscribing at a legacy provider is left to
    /// a request of the same session.
    pub fn unwatch(&self, uri: &str) -> bool {
        self.topics
            .send_if_modified(|topics| topics.resources.remove(uri))
    }
}

/// What a subscription is opened with.
#[derive(Debug)]
pub struct SubscribeOptions {
    /// The provider.
    pub endpoint: Arc<Endpoint>,
    /// The client's user and account.
    pub identity: Identity,
    /// The revision to speak.
    pub revision: Revision,
    /// What may be asked of the client.
    pub declared: DeclaredCapabilities,
    /// Receives notifications and requests.
    pub events: mpsc::Sender<ProviderEvent>,
    /// How many streams the client has open at the moment; `None`: it hears of its resources alone.
    pub streams: Option<Arc<AtomicUsize>>,
    /// What is watched from the start.
    pub topics: Topics,
}

/// Opens a subscription. It reconnects by itself until it is dropped.
pub(crate) fn open(shared: &Arc<Shared>, options: SubscribeOptions) -> Subscription {
    let (topics, wanted) = watch::channel(options.topics);
    let subscribed = Arc::default();
    let task = SubscriptionTask {
        sink: ClientSink {
            session: options.identity.session.clone(),
            events: options.events,
            streams: options.streams,
        },
        client: OwnedClient {
            shared: Arc::clone(shared),
            endpoint: options.endpoint,
            identity: options.identity,
            declared: options.declared,
        },
        revision: options.revision,
        topics: wanted,
        subscribed: Arc::clone(&subscribed),
    };
    let end = CancellationToken::new();
    let (ended, closing) = (end.clone(), shared.closing.clone());
    let provider = Arc::clone(&task.client.endpoint.provider);
    shared.control.spawn(async move {
        tokio::select! {
            () = ended.cancelled() => {}
            () = closing.cancelled() => {}
            () = keep_open(task, &provider) => {}
        }
    });
    Subscription {
        topics,
        subscribed,
        _end: end.drop_guard(),
    }
}

struct SubscriptionTask {
    client: OwnedClient,
    revision: Revision,
    sink: ClientSink,
    topics: watch::Receiver<Topics>,
    /// Resources that requests of the session have subscribed to.
    subscribed: Arc<Mutex<BTreeSet<Arc<str>>>>,
}

impl Reconnect for SubscriptionTask {
    async fn run_once(&mut self, attempt: &mut Attempt) -> Result<StreamState, Error> {
        attempt.opened = Some(Instant::now());
        if self.sink.events.is_closed() {
            return Ok(StreamState::Over);
        }
        let deadline = self.client.start_deadline();
        match self.client.borrow().source(self.revision, deadline).await? {
            Some(source) => self.run_attached(source).await,
            None => self.run_modern().await,
        }
    }

    async fn ended(&mut self, _state: StreamState, _opened: bool) {}
}

impl SubscriptionTask {
    /// In a legacy session or over a wire, which the hub hears.
    async fn run_attached(&mut self, mut source: Source) -> Result<StreamState, Error> {
        let _guard = self.client.shared.hubs.attach(source.key(), self.sink.clone());
        let mut current = BTreeSet::new();
        loop {
            let topics = self.topics.borrow_and_update().clone();
            current.append(&mut self.subscribed.lock());
            match &source {
                Source::Wire(wire) if self.revision.is_modern() => {
                    if let Some(params) = topics.params() {
                        let deadline = Instant::now() + self.client.endpoint.call;
                        let client = self.client.borrow();
                        client
                            .subscribe_wire(wire, self.revision, params, deadline)
                            .await?;
                    }
                }
                Source::Wire(_) | Source::Session(..) => {
                    for uri in topics.resources.difference(&current) {
                        self.subscribe(&source, uri).await?;
                    }
                }
            }
            current = topics.resources;
            tokio::select! {
                _ = source.wait_for(&[StreamState::Over]) => return Ok(StreamState::Broken),
                changed = self.topics.changed() => if changed.is_err() {
                    return Ok(StreamState::Over);
                },
            }
        }
    }

    /// `resources/subscribe`; the same resource may be subscribed to twice: servers count once. In a session
    /// a refusal is that resource's alone.
    async fn subscribe(&self, source: &Source, uri: &str) -> Result<(), Error> {
        let mut params = RawObject::new();
        params.put("uri", uri);
        let deadline = std::time::Instant::now() + self.client.endpoint.call;
        let call = Call {
            idempotent: true,
            ..Call::new("resources/subscribe", params, self.revision, deadline)
        };
        match self.client.borrow().request(call).await {
            Err(error) if matches!(source, Source::Session(..)) => {
                let provider = &*self.client.endpoint.provider;
                tracing::debug!(provider.name = provider, %error, resource.uri = uri, "not subscribed to a resource");
                Ok(())
            }
            done => done.map(drop),
        }
    }

    /// `subscriptions/listen` of 2026-07-28, made anew whenever the topics change.
    async fn run_modern(&mut self) -> Result<StreamState, Error> {
        let mut topics = self.topics.clone();
        loop {
            let params = topics.borrow_and_update().params();
            let listening = async {
                match params {
                    Some(params) => self.listen(params).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ended = listening => return ended.map(|()| StreamState::Broken),
                changed = topics.changed() => if changed.is_err() {
                    return Ok(StreamState::Over);
                },
            }
        }
    }

    async fn listen(&self, params: RawObject) -> Result<(), Error> {
        let client = self.client.borrow();
        let response = client.open_subscription(self.revision, params).await?;
        let accepted = EventStream::accept(response, &client.identity.signature)?;
        let mut stream = accepted.map_err(|_refused| {
            Error::new(Code::UpstreamProtocol, "the provider refused to be listened to")
        })?;
        while let Some(frame) = stream.next().await? {
            if let Ok(Message::Notification { method, params }) = message::decode(frame.data.as_bytes()) {
                incoming::forward(&self.sink.events, method, params);
            }
        }
        Ok(())
    }
}
