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
    answer::LARGEST,
    asks,
    call::{Call, Event},
    endpoint::{Behalf, Endpoint},
    hub::Listener,
    incoming::is_type,
    outgoing::{Manner, outgoing},
    post::{self, Head},
    remote::Remote,
    shared::Shared,
    stream::Standing,
    wired::Wired,
};
use crate::error::{Code, Error};
use crate::mcp::raw::raw;
use crate::mcp::{Declared, Message, RawObject, Revision, message, sse};

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
pub struct Wishes {
    /// Resources whose updates are wanted.
    pub resources: BTreeSet<Arc<str>>,
    /// Tasks whose state is wanted (2026-07-28 with the tasks extension only).
    pub tasks: BTreeSet<Arc<str>>,
}

/// An open line; closed when dropped.
#[derive(Debug)]
pub struct Line {
    wishes: watch::Sender<Wishes>,
    told: Arc<Mutex<BTreeSet<Arc<str>>>>,
    _end: DropGuard,
}

impl Line {
    /// Watches a resource from now on, and again after each reconnection. `told`: the provider was
    /// told already, by a request of the same session.
    ///
    /// # Errors
    /// [`Code::Busy`] when the line watches as many as it may (256); [`Code::InvalidParams`] when the name
    /// is longer than 8 KiB.
    pub fn watch(&self, uri: &str, told: bool) -> Result<(), Error> {
        if uri.len() > MAX_URI {
            let message = "`uri` is longer than 8 KiB, which is not watched";
            return Err(Error::new(Code::InvalidParams, message));
        }
        if self.wishes.borrow().resources.len() >= MAX_WATCHED {
            return Err(Error::new(
                Code::Busy,
                "256 resources are watched already; unsubscribe from some",
            ));
        }
        if told {
            self.told.lock().insert(uri.into());
        }
        self.wishes
            .send_if_modified(|wishes| wishes.resources.insert(uri.into()));
        Ok(())
    }

    /// Watches a resource no more; whether it was watched. Telling a legacy provider so is left to
    /// a request of the same session.
    pub fn unwatch(&self, uri: &str) -> bool {
        self.wishes
            .send_if_modified(|wishes| wishes.resources.remove(uri))
    }
}

/// What a line is opened with.
#[derive(Debug)]
pub struct Opening {
    /// Where to.
    pub endpoint: Arc<Endpoint>,
    /// For whom.
    pub behalf: Behalf,
    /// In which revision.
    pub revision: Revision,
    /// What may be asked of the client.
    pub declared: Declared,
    /// Where it all goes.
    pub events: mpsc::Sender<Event>,
    /// How many streams the client has open at the moment; `None`: it hears of its resources alone.
    pub streams: Option<Arc<AtomicUsize>>,
    /// What is wanted from the start.
    pub wishes: Wishes,
}

/// Opens a line. It reconnects by itself until it is dropped.
pub(crate) fn open(shared: &Arc<Shared>, opening: Opening) -> Line {
    let end = CancellationToken::new();
    let (wishes, wanted) = watch::channel(opening.wishes.clone());
    let keeper = Keeper {
        shared: Arc::clone(shared),
        opening,
        wanted,
        told: Arc::default(),
    };
    let told = Arc::clone(&keeper.told);
    let (ended, closing) = (end.clone(), shared.closing.clone());
    shared.control.spawn(async move {
        tokio::select! {
            () = ended.cancelled() => {}
            () = closing.cancelled() => {}
            () = keeper.run() => {}
        }
    });
    Line {
        wishes,
        told,
        _end: end.drop_guard(),
    }
}

struct Keeper {
    shared: Arc<Shared>,
    opening: Opening,
    wanted: watch::Receiver<Wishes>,
    /// What the provider was told beside.
    told: Arc<Mutex<BTreeSet<Arc<str>>>>,
}

impl Keeper {
    async fn run(mut self) {
        let mut pause = FIRST;
        loop {
            let began = Instant::now();
            if let Err(error) = self.once().await {
                let provider = &*self.opening.endpoint.provider;
                tracing::debug!(provider.name = provider, %error, "no line of a client");
            }
            if self.opening.events.is_closed() {
                return;
            }
            if began.elapsed() > LAST {
                pause = FIRST;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LAST);
        }
    }

    async fn once(&mut self) -> Result<(), Error> {
        if self.shared.is_wired(&self.opening.endpoint) {
            self.wire().await
        } else if self.opening.revision.is_modern() {
            self.subscription().await
        } else {
            self.session().await
        }
    }

    /// In a legacy session: its stream, and a subscription for each resource.
    async fn session(&mut self) -> Result<(), Error> {
        let (shared, endpoint) = (Arc::clone(&self.shared), Arc::clone(&self.opening.endpoint));
        let (behalf, declared) = (self.opening.behalf.clone(), self.opening.declared.clone());
        let remote = Remote {
            shared: &shared,
            endpoint: &endpoint,
            behalf: &behalf,
            declared: &declared,
        };
        let deadline = Instant::now() + endpoint.patience();
        let session = remote.session(self.opening.revision, deadline).await?;
        let place = shared.hubs.attach(session.key(), self.listener());
        let mut standing = session.standing();
        let mut held = BTreeSet::new();
        loop {
            let wanted = self.wanted.borrow_and_update().resources.clone();
            held.append(&mut self.told.lock());
            for uri in wanted.difference(&held) {
                self.tell(remote, "resources/subscribe", uri).await;
            }
            held = wanted;
            tokio::select! {
                over = standing.wait_for(|it| *it == Standing::Over) => {
                    drop(over);
                    drop(place);
                    return Ok(());
                }
                changed = self.wanted.changed() => if changed.is_err() {
                    return Ok(());
                },
            }
        }
    }

    fn listener(&self) -> Listener {
        Listener {
            lane: self.opening.behalf.lane.clone(),
            events: self.opening.events.clone(),
            streams: self.opening.streams.clone(),
        }
    }

    /// The same resource may be subscribed to twice; servers count once.
    async fn tell(&self, remote: Remote<'_>, method: &'static str, uri: &str) {
        let told = remote.request(self.call(method, uri)).await;
        if let Err(error) = told {
            tracing::debug!(provider.name = &*self.opening.endpoint.provider, %error, method, "not told");
        }
    }

    fn call(&self, method: &'static str, uri: &str) -> Call {
        let mut params = RawObject::new();
        params.put("uri", uri);
        Call {
            method,
            params,
            revision: self.opening.revision,
            mirrored: Vec::new(),
            deadline: std::time::Instant::now() + self.opening.endpoint.call,
            idempotent: true,
            declared: self.opening.declared.clone(),
            progress: false,
            token: None,
            events: None,
        }
    }

    /// Over a wire, in whichever generation it speaks.
    async fn wire(&mut self) -> Result<(), Error> {
        let (shared, endpoint) = (Arc::clone(&self.shared), Arc::clone(&self.opening.endpoint));
        let (behalf, declared) = (self.opening.behalf.clone(), self.opening.declared.clone());
        let wired = Wired {
            shared: &shared,
            endpoint: &endpoint,
            behalf: &behalf,
            declared: &declared,
        };
        let wire = wired.wire(Instant::now() + endpoint.patience()).await?;
        let place = shared.hubs.attach(wire.key(), self.listener());
        let over = wire.over();
        let mut held = BTreeSet::new();
        loop {
            let wishes = self.wanted.borrow_and_update().clone();
            held.append(&mut self.told.lock());
            if self.opening.revision.is_modern() {
                if let Some(mut params) = subscription(&wishes) {
                    let manner = Manner::quiet(self.opening.revision, &declared);
                    let sent = outgoing(shared.next_id(), "subscriptions/listen", &mut params, manner);
                    wire.notify(sent.body, Instant::now() + endpoint.call).await?;
                }
            } else {
                for uri in wishes.resources.difference(&held) {
                    wired.request(self.call("resources/subscribe", uri)).await?;
                }
            }
            held = wishes.resources;
            tokio::select! {
                () = over.cancelled() => {
                    drop(place);
                    return Ok(());
                }
                changed = self.wanted.changed() => if changed.is_err() {
                    return Ok(());
                },
            }
        }
    }

    /// `subscriptions/listen` of 2026-07-28, made anew whenever the wishes change.
    async fn subscription(&mut self) -> Result<(), Error> {
        loop {
            let wishes = self.wanted.borrow_and_update().clone();
            let Some(params) = subscription(&wishes) else {
                if self.wanted.changed().await.is_err() {
                    return Ok(());
                }
                continue;
            };
            let mut wanted = self.wanted.clone();
            tokio::select! {
                ended = self.listen(params) => return ended,
                changed = wanted.changed() => if changed.is_err() {
                    return Ok(());
                },
            }
        }
    }

    async fn listen(&self, mut params: RawObject) -> Result<(), Error> {
        let Opening {
            endpoint,
            behalf,
            revision,
            declared,
            ..
        } = &self.opening;
        let method = "subscriptions/listen";
        let manner = Manner::quiet(*revision, declared);
        let body = outgoing(self.shared.next_id(), method, &mut params, manner).body;
        let head = Head {
            revision: Some(*revision),
            method: Some(method),
            ..Head::default()
        };
        let route = self.shared.clients.route(endpoint)?;
        let deadline = Instant::now() + endpoint.patience();
        let mut response = post::post(&route, &behalf.signature, head, body.into(), deadline).await?;
        if !response.status().is_success() || !is_type(response.headers(), "text/event-stream") {
            let message = "the provider refused to be listened to";
            return Err(Error::new(Code::UpstreamProtocol, message));
        }
        let mut parser = sse::Parser::new(LARGEST);
        while let Ok(Ok(Some(bytes))) = timeout(SILENT, response.chunk()).await {
            parser.push(&bytes)?;
            while let Some(frame) = parser.next() {
                if let Ok(Message::Notification { method, params }) = message::decode(frame.data.as_bytes()) {
                    asks::say(&self.opening.events, method, params);
                }
            }
        }
        Ok(())
    }
}

fn subscription(wishes: &Wishes) -> Option<RawObject> {
    let mut filter = serde_json::Map::new();
    if !wishes.resources.is_empty() {
        filter.insert("resourceSubscriptions".to_owned(), json!(wishes.resources));
    }
    if !wishes.tasks.is_empty() {
        filter.insert("taskIds".to_owned(), json!(wishes.tasks));
    }
    if filter.is_empty() {
        return None;
    }
    let mut params = RawObject::new();
    params.set("notifications", raw(&filter));
    Some(params)
}
