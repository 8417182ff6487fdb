//! A client's standing line to a provider: what the provider says and asks outside of calls, for
//! as long as the client listens.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::json;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    call::{Call, ProviderEvent},
    endpoint::{Endpoint, Identity},
    hub::ClientSink,
    incoming::is_type,
    incoming_request,
    outgoing::{RequestMeta, encode},
    post::{self, RequestHead},
    remote::ProviderClient,
    response::LARGEST,
    session_stream::StreamState,
    shared::Shared,
    wired::WireClient,
};
use pleiades_core::error::{Code, Error};
use pleiades_mcp::raw::raw;
use pleiades_mcp::{DeclaredCapabilities, Message, RawObject, Revision, message, sse};

/// The first pause before a line is opened again, and the longest.
const FIRST: Duration = Duration::from_secs(1);
const LAST: Duration = Duration::from_secs(60);
/// A stream that is silent for so long is opened anew.
const SILENT: Duration = Duration::from_secs(3600);
/// Resources that one line watches.
const MAX_WATCHED: usize = 256;
/// Longest name of one, in bytes.
const MAX_URI: usize = 8 * 1024;

/// What a line stands for besides being open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topics {
    /// Resources whose updates are wanted.
    pub resources: BTreeSet<Arc<str>>,
    /// Tasks whose state is wanted (2026-07-28 with the tasks extension only).
    pub tasks: BTreeSet<Arc<str>>,
}

/// An open line; closed when dropped.
#[derive(Debug)]
pub struct Subscription {
    topics: watch::Sender<Topics>,
    subscribed: Arc<Mutex<BTreeSet<Arc<str>>>>,
    _end: DropGuard,
}

impl Subscription {
    /// Watches a resource from now on, and again after each reconnection. `told`: the provider was
    /// told already, by a request of the same session.
    ///
    /// # Errors
    /// [`Code::Busy`] when the line watches as many as it may (256); [`Code::InvalidParams`] when the name
    /// is longer than 8 KiB.
    pub fn watch(&self, uri: &str, subscribed: bool) -> Result<(), Error> {
        if uri.len() > MAX_URI {
            let message = "`uri` is longer than 8 KiB, which is not watched";
            return Err(Error::new(Code::InvalidParams, message));
        }
        if self.topics.borrow().resources.len() >= MAX_WATCHED {
            return Err(Error::new(
                Code::Busy,
                "256 resources are watched already; unsubscribe from some",
            ));
        }
        if subscribed {
            self.subscribed.lock().insert(uri.into());
        }
        self.topics
            .send_if_modified(|topics| topics.resources.insert(uri.into()));
        Ok(())
    }

    /// Watches a resource no more; whether it was watched. Telling a legacy provider so is left to
    /// a request of the same session.
    pub fn unwatch(&self, uri: &str) -> bool {
        self.topics
            .send_if_modified(|topics| topics.resources.remove(uri))
    }
}

/// What a line is opened with.
#[derive(Debug)]
pub struct SubscribeOptions {
    /// Where to.
    pub endpoint: Arc<Endpoint>,
    /// For whom.
    pub identity: Identity,
    /// In which revision.
    pub revision: Revision,
    /// What may be asked of the client.
    pub declared: DeclaredCapabilities,
    /// Where it all goes.
    pub events: mpsc::Sender<ProviderEvent>,
    /// How many streams the client has open at the moment; `None`: it hears of its resources alone.
    pub streams: Option<Arc<AtomicUsize>>,
    /// What is wanted from the start.
    pub topics: Topics,
}

/// Opens a line. It reconnects by itself until it is dropped.
pub(crate) fn open(shared: &Arc<Shared>, options: SubscribeOptions) -> Subscription {
    let end = CancellationToken::new();
    let (topics, wanted) = watch::channel(options.topics.clone());
    let task = SubscriptionTask {
        shared: Arc::clone(shared),
        options,
        topics: wanted,
        subscribed: Arc::default(),
    };
    let subscribed = Arc::clone(&task.subscribed);
    let (ended, closing) = (end.clone(), shared.closing.clone());
    shared.control.spawn(async move {
        tokio::select! {
            () = ended.cancelled() => {}
            () = closing.cancelled() => {}
            () = task.run() => {}
        }
    });
    Subscription {
        topics,
        subscribed,
        _end: end.drop_guard(),
    }
}

struct SubscriptionTask {
    shared: Arc<Shared>,
    options: SubscribeOptions,
    topics: watch::Receiver<Topics>,
    /// What the provider was told beside.
    subscribed: Arc<Mutex<BTreeSet<Arc<str>>>>,
}

impl SubscriptionTask {
    async fn run(mut self) {
        let mut pause = FIRST;
        loop {
            let began = Instant::now();
            if let Err(error) = self.run_once().await {
                let provider = &*self.options.endpoint.provider;
                tracing::debug!(provider.name = provider, %error, "no line of a client");
            }
            if self.options.events.is_closed() {
                return;
            }
            if began.elapsed() > LAST {
                pause = FIRST;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LAST);
        }
    }

    async fn run_once(&mut self) -> Result<(), Error> {
        if self.shared.is_wired(&self.options.endpoint) {
            self.run_wire().await
        } else if self.options.revision.is_modern() {
            self.run_modern().await
        } else {
            self.run_session().await
        }
    }

    /// In a legacy session: its stream, and a subscription for each resource.
    async fn run_session(&mut self) -> Result<(), Error> {
        let (shared, endpoint) = (Arc::clone(&self.shared), Arc::clone(&self.options.endpoint));
        let (identity, declared) = (self.options.identity.clone(), self.options.declared.clone());
        let remote = ProviderClient {
            shared: &shared,
            endpoint: &endpoint,
            identity: &identity,
            declared: &declared,
        };
        let deadline = Instant::now() + endpoint.start_timeout();
        let session = remote.session(self.options.revision, deadline).await?;
        let place = shared.hubs.attach(session.key(), self.listener());
        let mut state = session.stream_state();
        let mut current = BTreeSet::new();
        loop {
            let wanted = self.topics.borrow_and_update().resources.clone();
            current.append(&mut self.subscribed.lock());
            for uri in wanted.difference(&current) {
                self.subscribe(remote, "resources/subscribe", uri).await;
            }
            current = wanted;
            tokio::select! {
                over = state.wait_for(|it| *it == StreamState::Over) => {
                    drop(over);
                    drop(place);
                    return Ok(());
                }
                changed = self.topics.changed() => if changed.is_err() {
                    return Ok(());
                },
            }
        }
    }

    fn listener(&self) -> ClientSink {
        ClientSink {
            session: self.options.identity.session.clone(),
            events: self.options.events.clone(),
            streams: self.options.streams.clone(),
        }
    }

    /// The same resource may be subscribed to twice; servers count once.
    async fn subscribe(&self, remote: ProviderClient<'_>, method: &'static str, uri: &str) {
        let subscribed = remote.request(self.call(method, uri)).await;
        if let Err(error) = subscribed {
            tracing::debug!(provider.name = &*self.options.endpoint.provider, %error, method, "not told");
        }
    }

    fn call(&self, method: &'static str, uri: &str) -> Call {
        let mut params = RawObject::new();
        params.put("uri", uri);
        Call {
            method,
            params,
            revision: self.options.revision,
            mirrored: Vec::new(),
            deadline: std::time::Instant::now() + self.options.endpoint.call,
            idempotent: true,
            declared: self.options.declared.clone(),
            progress: false,
            token: None,
            events: None,
        }
    }

    /// Over a wire, in whichever generation it speaks.
    async fn run_wire(&mut self) -> Result<(), Error> {
        let (shared, endpoint) = (Arc::clone(&self.shared), Arc::clone(&self.options.endpoint));
        let (identity, declared) = (self.options.identity.clone(), self.options.declared.clone());
        let wired = WireClient {
            shared: &shared,
            endpoint: &endpoint,
            identity: &identity,
            declared: &declared,
        };
        let wire = wired.wire(Instant::now() + endpoint.start_timeout()).await?;
        let place = shared.hubs.attach(wire.key(), self.listener());
        let over = wire.over();
        let mut current = BTreeSet::new();
        loop {
            let topics = self.topics.borrow_and_update().clone();
            current.append(&mut self.subscribed.lock());
            if self.options.revision.is_modern() {
                if let Some(mut params) = subscription(&topics) {
                    let manner = RequestMeta::without_progress(self.options.revision, &declared);
                    let sent = encode(shared.next_id(), "subscriptions/listen", &mut params, manner);
                    wire.notify(sent.body, Instant::now() + endpoint.call).await?;
                }
            } else {
                for uri in topics.resources.difference(&current) {
                    wired.request(self.call("resources/subscribe", uri)).await?;
                }
            }
            current = topics.resources;
            tokio::select! {
                () = over.cancelled() => {
                    drop(place);
                    return Ok(());
                }
                changed = self.topics.changed() => if changed.is_err() {
                    return Ok(());
                },
            }
        }
    }

    /// `subscriptions/listen` of 2026-07-28, made anew whenever the wishes change.
    async fn run_modern(&mut self) -> Result<(), Error> {
        loop {
            let topics = self.topics.borrow_and_update().clone();
            let Some(params) = subscription(&topics) else {
                if self.topics.changed().await.is_err() {
                    return Ok(());
                }
                continue;
            };
            let mut wanted = self.topics.clone();
            tokio::select! {
                ended = self.listen(params) => return ended,
                changed = wanted.changed() => if changed.is_err() {
                    return Ok(());
                },
            }
        }
    }

    async fn listen(&self, mut params: RawObject) -> Result<(), Error> {
        let SubscribeOptions {
            endpoint,
            identity,
            revision,
            declared,
            ..
        } = &self.options;
        let method = "subscriptions/listen";
        let manner = RequestMeta::without_progress(*revision, declared);
        let body = encode(self.shared.next_id(), method, &mut params, manner).body;
        let head = RequestHead {
            revision: Some(*revision),
            method: Some(method),
            ..RequestHead::default()
        };
        let route = self.shared.clients.route(endpoint)?;
        let deadline = Instant::now() + endpoint.start_timeout();
        let mut response = post::post(&route, &identity.signature, head, body.into(), deadline).await?;
        if !response.status().is_success() || !is_type(response.headers(), "text/event-stream") {
            let message = "the provider refused to be listened to";
            return Err(Error::new(Code::UpstreamProtocol, message));
        }
        let mut parser = sse::Parser::new(LARGEST);
        while let Ok(Ok(Some(bytes))) = timeout(SILENT, response.chunk()).await {
            parser.push(&bytes)?;
            while let Some(frame) = parser.next() {
                if let Ok(Message::Notification { method, params }) = message::decode(frame.data.as_bytes()) {
                    incoming_request::forward(&self.options.events, method, params);
                }
            }
        }
        Ok(())
    }
}

fn subscription(topics: &Topics) -> Option<RawObject> {
    let mut filter = serde_json::Map::new();
    if !topics.resources.is_empty() {
        filter.insert("resourceSubscriptions".to_owned(), json!(topics.resources));
    }
    if !topics.tasks.is_empty() {
        filter.insert("taskIds".to_owned(), json!(topics.tasks));
    }
    if filter.is_empty() {
        return None;
    }
    let mut params = RawObject::new();
    params.set("notifications", raw(&filter));
    Some(params)
}
