//! What a legacy session or a process says outside of answers, and who hears it: the catalogue,
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
    call::{Change, Event},
    incoming,
    patience::{Asking, Patience},
    pool::Key,
};
use crate::mcp::Raw;

/// Changes that a slow listener may be behind before it is told [`Change::Lost`].
const BEHIND: usize = 32;
/// Hubs that may remember changes for a listener to come.
const REMEMBERING: usize = 4_096;

#[derive(Debug, Default)]
pub(crate) struct Hubs {
    hubs: Mutex<HashMap<Key, Hub>>,
    numbers: AtomicU64,
}

#[derive(Debug)]
struct Hub {
    changes: broadcast::Sender<Change>,
    /// Announced while nobody listened.
    missed: Vec<Change>,
    /// Lines of clients.
    clients: Vec<Client>,
    /// Calls that take events.
    calls: Vec<Running>,
}

/// A client's line.
#[derive(Debug)]
struct Client {
    number: u64,
    listener: Listener,
}

/// Who hears what belongs to no call.
#[derive(Debug, Clone)]
pub(crate) struct Listener {
    /// The client's session.
    pub(crate) lane: Option<Arc<str>>,
    pub(crate) events: mpsc::Sender<Event>,
    /// How many streams the client has open; `None`: it hears of its resources alone.
    pub(crate) streams: Option<Arc<AtomicUsize>>,
}

/// A call under way.
#[derive(Debug)]
struct Running {
    /// Of its request, and its progress token.
    id: u64,
    lane: Option<Arc<str>>,
    events: mpsc::Sender<Event>,
    patience: Arc<Patience>,
}

/// A place in a hub, given up when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    hubs: Arc<Hubs>,
    key: Key,
    number: u64,
}

/// Who takes a question that came outside of any answer.
#[derive(Debug, Default)]
pub(crate) struct Routed {
    pub(crate) to: Option<mpsc::Sender<Event>>,
    /// Calls whose clock stands still meanwhile: one of them is what asks.
    pub(crate) asking: Vec<Asking>,
}

impl Hubs {
    pub(crate) fn subscribe(&self, key: &Key) -> broadcast::Receiver<Change> {
        let mut hubs = self.hubs.lock();
        hubs.retain(|_, hub| !hub.is_idle());
        let hub = hubs.entry(key.clone()).or_default();
        let receiver = hub.changes.subscribe();
        for change in std::mem::take(&mut hub.missed) {
            hub.changes.send(change).unwrap_or_default();
        }
        receiver
    }

    /// A client's line: it hears what belongs to no call.
    pub(crate) fn attach(self: &Arc<Self>, key: &Key, listener: Listener) -> Place {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let mut hubs = self.hubs.lock();
        hubs.entry(key.clone())
            .or_default()
            .clients
            .push(Client { number, listener });
        drop(hubs);
        self.place(key, number)
    }

    /// A call under way, by its progress token.
    pub(crate) fn call(
        self: &Arc<Self>,
        key: &Key,
        token: u64,
        (lane, events): (Option<&Arc<str>>, mpsc::Sender<Event>),
        patience: &Arc<Patience>,
    ) -> Place {
        let mut hubs = self.hubs.lock();
        let hub = hubs.entry(key.clone()).or_default();
        hub.calls.push(Running {
            id: token,
            lane: lane.cloned(),
            events,
            patience: Arc::clone(patience),
        });
        drop(hubs);
        self.place(key, token)
    }

    fn place(self: &Arc<Self>, key: &Key, number: u64) -> Place {
        Place {
            hubs: Arc::clone(self),
            key: key.clone(),
            number,
        }
    }

    /// A change of lists, or the end of the stream that told of them.
    pub(crate) fn tell(&self, key: &Key, change: Change) {
        let mut hubs = self.hubs.lock();
        let room = hubs.len() < REMEMBERING;
        let Some(hub) = hubs.get_mut(key) else {
            if room && change != Change::Lost {
                let hub = hubs.entry(key.clone()).or_default();
                hub.missed.push(change);
            }
            return;
        };
        if hub.changes.send(change.clone()).is_err() && !hub.missed.contains(&change) {
            hub.missed.push(change);
        }
    }

    /// A notification that belongs to no answer: progress to the call that is named, a change of a
    /// resource to every line, the rest to the client whose call is under way.
    pub(crate) fn notice(&self, key: &Key, method: &str, params: Option<&Raw>) {
        let hubs = self.hubs.lock();
        let Some(hub) = hubs.get(key) else { return };
        if method == "notifications/progress" {
            let token = incoming::token(params);
            let call = hub.calls.iter().find(|call| Some(call.id) == token);
            if let Some(call) = call {
                incoming::notify(Some(&call.events), call.id, method.to_owned(), params.cloned());
            }
            return;
        }
        let hearers = match method {
            "notifications/resources/updated" => hub.lines().collect(),
            // What one user of a shared session does is no other's business.
            _ if key.is_shared() => hub.alone().into_iter().collect(),
            _ => hub.hearers(),
        };
        for events in hearers {
            incoming::notify(Some(events), 0, method.to_owned(), params.cloned());
        }
    }

    /// A question that belongs to no answer: for the stream of the client whose call is under way,
    /// else for that call (contracts section 2, "The views"). Between several clients with calls
    /// nobody can tell.
    pub(crate) fn route(&self, key: &Key) -> Routed {
        let hubs = self.hubs.lock();
        let Some(hub) = hubs.get(key) else {
            return Routed::default();
        };
        let asking = hub.calls.iter().map(|call| call.patience.ask());
        Routed {
            asking: asking.collect(),
            to: if key.is_shared() {
                hub.alone().cloned()
            } else {
                hub.asked().cloned()
            },
        }
    }
}

impl Listener {
    /// Whether a client would read now what it is told.
    fn is_heard(&self) -> bool {
        let streams = self.streams.as_ref();
        streams.is_some_and(|streams| streams.load(Ordering::Relaxed) > 0)
    }
}

impl Hub {
    fn lines(&self) -> impl Iterator<Item = &mpsc::Sender<Event>> {
        self.clients.iter().map(|client| &client.listener.events)
    }

    /// Lines of clients that would read now what they are told.
    fn heard(&self) -> impl DoubleEndedIterator<Item = &Listener> {
        let listeners = self.clients.iter().map(|client| &client.listener);
        listeners.filter(|listener| listener.is_heard())
    }

    /// The stream of one client.
    fn stream_of(&self, lane: Option<&Arc<str>>) -> Option<&mpsc::Sender<Event>> {
        let lane = lane?;
        let mut own = self.heard().rev().filter(|it| it.lane.as_ref() == Some(lane));
        own.next().map(|listener| &listener.events)
    }

    /// Who hears what belongs to no call: those who have calls, else all.
    fn hearers(&self) -> Vec<&mpsc::Sender<Event>> {
        let mut lanes = Vec::new();
        let mut hearers = Vec::new();
        for call in self.calls.iter().rev() {
            if call.lane.is_none() || !lanes.contains(&&call.lane) {
                lanes.push(&call.lane);
                hearers.push(self.stream_of(call.lane.as_ref()).unwrap_or(&call.events));
            }
        }
        if hearers.is_empty() {
            hearers.extend(self.heard().map(|listener| &listener.events));
        }
        hearers
    }

    /// The only one who can be meant in a session that several users share: whose call alone runs.
    fn alone(&self) -> Option<&mpsc::Sender<Event>> {
        match self.calls.as_slice() {
            [only] => Some(&only.events),
            _ => None,
        }
    }

    /// Who is asked what belongs to no call.
    fn asked(&self) -> Option<&mpsc::Sender<Event>> {
        let Some((first, others)) = self.calls.split_first() else {
            return self.heard().next_back().map(|listener| &listener.events);
        };
        let own = self.stream_of(first.lane.as_ref());
        let alone = others.iter().all(|call| call.lane == first.lane);
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

impl Drop for Place {
    fn drop(&mut self) {
        let mut hubs = self.hubs.hubs.lock();
        if let Some(hub) = hubs.get_mut(&self.key) {
            hub.clients.retain(|client| client.number != self.number);
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
    use crate::mcp::Abilities;
    use crate::upstream::tests::{at, behalf, endpoint};

    struct World {
        hubs: Arc<Hubs>,
        key: Key,
        patience: Arc<Patience>,
    }

    fn world() -> World {
        let target = at(&"http://127.0.0.1:1/mcp".parse().unwrap());
        let (endpoint, behalf) = (endpoint(1, target), behalf());
        World {
            hubs: Arc::default(),
            key: Key::of(&endpoint, &behalf, None, Abilities::NONE),
            patience: Patience::until(Instant::now()),
        }
    }

    type Heard = mpsc::Receiver<Event>;

    impl World {
        fn call(&self, id: u64, lane: Option<&str>) -> (Place, Heard) {
            let (events, heard) = mpsc::channel(8);
            let lane = lane.map(Arc::from);
            let place = self
                .hubs
                .call(&self.key, id, (lane.as_ref(), events), &self.patience);
            (place, heard)
        }

        fn line(&self, lane: &str, streams: usize) -> (Place, Heard) {
            let (events, heard) = mpsc::channel(8);
            let listener = Listener {
                lane: Some(lane.into()),
                events,
                streams: Some(Arc::new(AtomicUsize::new(streams))),
            };
            (self.hubs.attach(&self.key, listener), heard)
        }

        /// Which of these is asked.
        fn asked(&self, mut heard: Vec<&mut Heard>) -> Option<usize> {
            let to = self.hubs.route(&self.key).to?;
            incoming::notify(Some(&to), 0, "asked".to_owned(), None);
            heard.iter_mut().position(|heard| heard.try_recv().is_ok())
        }
    }

    #[tokio::test]
    async fn a_question_goes_to_the_client_whose_call_is_under_way() {
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
        let (_line, mut deaf) = world.line("mine", 0);
        assert_eq!(world.asked(vec![&mut deaf]), None);
        let (_call, mut call) = world.call(1, Some("mine"));
        assert_eq!(world.asked(vec![&mut deaf, &mut call]), Some(1));
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
        world.hubs.notice(&world.key, "notifications/message", None);
        assert!(theirs.try_recv().is_err() && first.try_recv().is_err());
        assert!(second.try_recv().is_ok());
        world
            .hubs
            .notice(&world.key, "notifications/resources/updated", None);
        assert!(theirs.try_recv().is_ok() && second.try_recv().is_err());
    }
}
