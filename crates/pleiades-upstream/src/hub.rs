//! Routes what a legacy session or a process sends outside of answers: to the catalogue,
//! clients with a stream of their own, calls under way. Outlives each session, so that a listener
//! survives a restart.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::{broadcast, mpsc};

use super::{
    call::{ProviderChange, ProviderEvent},
    deadline::{Deadline, OpenQuestion},
    incoming,
    pool::PoolKey,
};
use pleiades_mcp::Raw;

/// Changes that a slow listener may be behind before it gets [`ProviderChange::Lost`].
const BEHIND: usize = 32;
/// Hubs that may remember changes for a listener to come.
const REMEMBERING: usize = 4_096;

#[derive(Debug, Default)]
pub(crate) struct Hubs {
    hubs: Mutex<HashMap<PoolKey, Hub>>,
    numbers: AtomicU64,
}

#[derive(Debug)]
struct Hub {
    changes: broadcast::Sender<ProviderChange>,
    /// Announced while nobody listened.
    missed: Vec<ProviderChange>,
    clients: Vec<(u64, ClientSink)>,
    calls: Vec<ActiveCall>,
}

#[derive(Debug, Clone)]
pub(crate) struct ClientSink {
    pub(crate) session: Option<Arc<str>>,
    pub(crate) events: mpsc::Sender<ProviderEvent>,
    /// How many streams the client has open; `None`: it gets updates of its resources alone.
    pub(crate) streams: Option<Arc<AtomicUsize>>,
}

#[derive(Debug)]
struct ActiveCall {
    /// Of its request, and its progress token.
    id: u64,
    session: Option<Arc<str>>,
    events: mpsc::Sender<ProviderEvent>,
    timer: Arc<Deadline>,
}

/// An entry of a hub, removed when dropped.
#[derive(Debug)]
pub(crate) struct HubGuard {
    hubs: Arc<Hubs>,
    key: PoolKey,
    number: u64,
}

/// Who takes a request that a provider made outside of any answer.
#[derive(Debug, Default)]
pub(crate) struct QuestionRoute {
    pub(crate) to: Option<mpsc::Sender<ProviderEvent>>,
    /// Calls whose deadline stands still meanwhile: one of them is the reason of the request.
    pub(crate) asking: Vec<OpenQuestion>,
}

impl Hubs {
    pub(crate) fn subscribe(&self, key: &PoolKey) -> broadcast::Receiver<ProviderChange> {
        let mut hubs = self.hubs.lock();
        hubs.retain(|_, hub| !hub.is_idle());
        let hub = hubs.entry(key.clone()).or_default();
        let receiver = hub.changes.subscribe();
        for change in std::mem::take(&mut hub.missed) {
            hub.changes.send(change).unwrap_or_default();
        }
        receiver
    }

    pub(crate) fn attach(self: &Arc<Self>, key: &PoolKey, sink: ClientSink) -> HubGuard {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let mut hubs = self.hubs.lock();
        hubs.entry(key.clone()).or_default().clients.push((number, sink));
        drop(hubs);
        self.guard(key, number)
    }

    pub(crate) fn register_call(
        self: &Arc<Self>,
        key: &PoolKey,
        token: u64,
        (session, events): (Option<&Arc<str>>, mpsc::Sender<ProviderEvent>),
        timer: &Arc<Deadline>,
    ) -> HubGuard {
        let mut hubs = self.hubs.lock();
        let hub = hubs.entry(key.clone()).or_default();
        hub.calls.push(ActiveCall {
            id: token,
            session: session.cloned(),
            events,
            timer: Arc::clone(timer),
        });
        drop(hubs);
        self.guard(key, token)
    }

    fn guard(self: &Arc<Self>, key: &PoolKey, number: u64) -> HubGuard {
        HubGuard {
            hubs: Arc::clone(self),
            key: key.clone(),
            number,
        }
    }

    pub(crate) fn publish_change(&self, key: &PoolKey, change: ProviderChange) {
        let mut hubs = self.hubs.lock();
        let room = hubs.len() < REMEMBERING;
        let Some(hub) = hubs.get_mut(key) else {
            if room && change != ProviderChange::Lost {
                hubs.entry(key.clone()).or_default().missed.push(change);
            }
            return;
        };
        if hub.changes.send(change.clone()).is_err() && !hub.missed.contains(&change) {
            hub.missed.push(change);
        }
    }

    /// A notification that belongs to no answer: a change of lists to those who watch them, progress to the call
    /// that is named, a change of a resource to every client that listens, the rest to the client whose call is under way.
    pub(crate) fn publish(&self, key: &PoolKey, method: &str, params: Option<&Raw>) {
        if let Some(change) = ProviderChange::from_method(method) {
            return self.publish_change(key, change);
        }
        let hubs = self.hubs.lock();
        let Some(hub) = hubs.get(key) else { return };
        if method == "notifications/progress" {
            let token = incoming::token(params);
            if let Some(call) = hub.calls.iter().find(|call| Some(call.id) == token) {
                incoming::notify(Some(&call.events), call.id, method.to_owned(), params.cloned());
            }
            return;
        }
        let recipients = match method {
            "notifications/resources/updated" => hub.sinks().collect(),
            // What one user of a shared session does is no other's business.
            _ if key.is_shared() => hub.only_call().into_iter().collect(),
            _ => hub.recipients(),
        };
        for events in recipients {
            incoming::notify(Some(events), 0, method.to_owned(), params.cloned());
        }
    }

    /// A request that belongs to no answer: for the stream of the client that has a call in flight, else for
    /// that call. Between several clients with calls nobody can tell.
    pub(crate) fn route_question(&self, key: &PoolKey) -> QuestionRoute {
        let hubs = self.hubs.lock();
        let Some(hub) = hubs.get(key) else {
            return QuestionRoute::default();
        };
        let asking = hub.calls.iter().map(|call| call.timer.pause());
        QuestionRoute {
            asking: asking.collect(),
            to: if key.is_shared() {
                hub.only_call().cloned()
            } else {
                hub.question_recipient().cloned()
            },
        }
    }
}

impl ClientSink {
    fn is_listening(&self) -> bool {
        let streams = self.streams.as_ref();
        streams.is_some_and(|streams| streams.load(Ordering::Relaxed) > 0)
    }
}

impl Hub {
    fn sinks(&self) -> impl Iterator<Item = &mpsc::Sender<ProviderEvent>> {
        self.clients.iter().map(|(_, sink)| &sink.events)
    }

    fn listening(&self) -> impl DoubleEndedIterator<Item = &ClientSink> {
        let sinks = self.clients.iter().map(|(_, sink)| sink);
        sinks.filter(|sink| sink.is_listening())
    }

    fn stream_of(&self, session: Option<&Arc<str>>) -> Option<&mpsc::Sender<ProviderEvent>> {
        let session = session?;
        let mut listening = self.listening().rev();
        let own = listening.find(|it| it.session.as_ref() == Some(session));
        own.map(|sink| &sink.events)
    }

    /// Who gets what belongs to no call: clients with calls, else all that listen.
    fn recipients(&self) -> Vec<&mpsc::Sender<ProviderEvent>> {
        let mut sessions = Vec::new();
        let mut recipients = Vec::new();
        for call in self.calls.iter().rev() {
            if call.session.is_none() || !sessions.contains(&&call.session) {
                sessions.push(&call.session);
                recipients.push(self.stream_of(call.session.as_ref()).unwrap_or(&call.events));
            }
        }
        if recipients.is_empty() {
            recipients.extend(self.listening().map(|sink| &sink.events));
        }
        recipients
    }

    /// The only call in flight: nobody else can be meant in a session that several users share.
    fn only_call(&self) -> Option<&mpsc::Sender<ProviderEvent>> {
        match self.calls.as_slice() {
            [only] => Some(&only.events),
            _ => None,
        }
    }

    fn question_recipient(&self) -> Option<&mpsc::Sender<ProviderEvent>> {
        let Some((first, others)) = self.calls.split_first() else {
            return self.listening().next_back().map(|sink| &sink.events);
        };
        let own = self.stream_of(first.session.as_ref());
        let alone = others.iter().all(|call| call.session == first.session);
        match own {
            Some(stream) if alone => Some(stream),
            _ => others.is_empty().then_some(&first.events),
        }
    }

    fn is_idle(&self) -> bool {
        self.changes.receiver_count() == 0
            && self.clients.is_empty()
            && self.calls.is_empty()
            && self.missed.is_empty()
    }
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            changes: broadcast::channel(BEHIND).0,
            missed: Vec::new(),
            clients: Vec::new(),
            calls: Vec::new(),
        }
    }
}

impl Drop for HubGuard {
    fn drop(&mut self) {
        let mut hubs = self.hubs.hubs.lock();
        if let Some(hub) = hubs.get_mut(&self.key) {
            hub.clients.retain(|(number, _)| *number != self.number);
            hub.calls.retain(|call| call.id != self.number);
            if hub.is_idle() {
                hubs.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::tests::{at, endpoint, identity};
    use pleiades_mcp::ClientCapabilities;

    struct HubWorld {
        hubs: Arc<Hubs>,
        key: PoolKey,
        timer: Arc<Deadline>,
    }

    fn world() -> HubWorld {
        let target = at(&"http://127.0.0.1:1/mcp".parse().unwrap());
        let (endpoint, identity) = (endpoint(1, target), identity());
        HubWorld {
            hubs: Arc::default(),
            key: PoolKey::of(&endpoint, &identity, None, ClientCapabilities::NONE),
            timer: Deadline::until(Instant::now()),
        }
    }

    type Events = mpsc::Receiver<ProviderEvent>;

    impl HubWorld {
        fn call(&self, id: u64, session: Option<&str>) -> (HubGuard, Events) {
            let (events, heard) = mpsc::channel(8);
            let session = session.map(Arc::from);
            let guard = self
                .hubs
                .register_call(&self.key, id, (session.as_ref(), events), &self.timer);
            (guard, heard)
        }

        fn line(&self, session: &str, streams: usize) -> (HubGuard, Events) {
            let (events, heard) = mpsc::channel(8);
            let listener = ClientSink {
                session: Some(session.into()),
                events,
                streams: Some(Arc::new(AtomicUsize::new(streams))),
            };
            (self.hubs.attach(&self.key, listener), heard)
        }

        /// Which of these is asked.
        fn asked(&self, mut heard: Vec<&mut Events>) -> Option<usize> {
            let to = self.hubs.route_question(&self.key).to?;
            incoming::notify(Some(&to), 0, "asked".to_owned(), None);
            heard.iter_mut().position(|heard| heard.try_recv().is_ok())
        }
    }

    #[tokio::test]
    async fn a_question_goes_to_the_client_with_a_call_in_flight() {
        let world = world();
        let (_line, mut theirs) = world.line("theirs", 1);
        assert_eq!(world.asked(vec![&mut theirs]), Some(0));
        let (_call, mut mine) = world.call(1, Some("mine"));
        assert_eq!(world.asked(vec![&mut theirs, &mut mine]), Some(1));
        let (_line, mut own) = world.line("mine", 1);
        assert_eq!(world.asked(vec![&mut theirs, &mut mine, &mut own]), Some(2));
    }

    #[tokio::test]
    async fn a_line_whose_client_has_no_stream_is_not_asked() {
        let world = world();
        let (_line, mut silent) = world.line("mine", 0);
        assert_eq!(world.asked(vec![&mut silent]), None);
        let (_call, mut call) = world.call(1, Some("mine"));
        assert_eq!(world.asked(vec![&mut silent, &mut call]), Some(1));
    }

    #[tokio::test]
    async fn between_calls_of_several_clients_nobody_is_asked() {
        let world = world();
        let (_one, mut one) = world.call(1, Some("one"));
        let (_two, mut two) = world.call(2, Some("two"));
        assert_eq!(world.asked(vec![&mut one, &mut two]), None);
        let (_line, mut line) = world.line("one", 1);
        assert_eq!(world.asked(vec![&mut one, &mut two, &mut line]), None);
        drop(_two);
        assert_eq!(world.asked(vec![&mut one, &mut line]), Some(1));
    }

    #[tokio::test]
    async fn a_log_message_reaches_each_client_with_calls_once_and_an_update_every_line() {
        let world = world();
        let (_line, mut theirs) = world.line("theirs", 1);
        let (_first, mut first) = world.call(1, Some("mine"));
        let (_second, mut second) = world.call(2, Some("mine"));
        world.hubs.publish(&world.key, "notifications/message", None);
        assert!(theirs.try_recv().is_err() && first.try_recv().is_err());
        assert!(second.try_recv().is_ok());
        world
            .hubs
            .publish(&world.key, "notifications/resources/updated", None);
        assert!(theirs.try_recv().is_ok() && second.try_recv().is_err());
    }
}
