//! What a legacy session or a process says outside of answers, and who hears it: the catalogue,
//! clients with a stream of their own, calls under way. Outlives each session, so that a listener
//! survives a restart.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
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
    /// Streams of clients.
    clients: Vec<(u64, mpsc::Sender<Event>)>,
    /// Calls that take events, by their progress tokens.
    calls: Vec<(u64, mpsc::Sender<Event>, Arc<Patience>)>,
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

    /// A client's stream: it hears what belongs to no call.
    pub(crate) fn attach(self: &Arc<Self>, key: &Key, events: mpsc::Sender<Event>) -> Place {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let mut hubs = self.hubs.lock();
        hubs.entry(key.clone())
            .or_default()
            .clients
            .push((number, events));
        drop(hubs);
        self.place(key, number)
    }

    /// A call under way, by its progress token.
    pub(crate) fn call(
        self: &Arc<Self>,
        key: &Key,
        token: u64,
        events: mpsc::Sender<Event>,
        patience: &Arc<Patience>,
    ) -> Place {
        let mut hubs = self.hubs.lock();
        let hub = hubs.entry(key.clone()).or_default();
        hub.calls.push((token, events, Arc::clone(patience)));
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

    /// A notification that belongs to no answer: progress to the call that is named, the rest to
    /// every client's stream, else to the one call under way.
    pub(crate) fn notice(&self, key: &Key, method: &str, params: Option<&Raw>) {
        let hubs = self.hubs.lock();
        let Some(hub) = hubs.get(key) else { return };
        if method == "notifications/progress" {
            let token = incoming::token(params);
            let call = hub.calls.iter().find(|(id, ..)| Some(*id) == token);
            if let Some((id, events, _)) = call {
                incoming::notify(Some(events), *id, method.to_owned(), params.cloned());
            }
            return;
        }
        let streams = hub.clients.iter().map(|(_, events)| events);
        let only = match hub.calls.as_slice() {
            [(_, events, _)] if hub.clients.is_empty() => Some(events),
            _ => None,
        };
        for events in streams.chain(only) {
            incoming::notify(Some(events), 0, method.to_owned(), params.cloned());
        }
    }

    /// A question that belongs to no answer: for the client's stream, else for the one call under
    /// way (contracts section 2, "The views").
    pub(crate) fn route(&self, key: &Key) -> Routed {
        let hubs = self.hubs.lock();
        let Some(hub) = hubs.get(key) else {
            return Routed::default();
        };
        let to = match (hub.clients.last(), hub.calls.as_slice()) {
            (Some((_, events)), _) | (None, [(_, events, _)]) => Some(events.clone()),
            _ => None,
        };
        let asking = hub.calls.iter().map(|(.., patience)| patience.ask());
        Routed {
            asking: asking.collect(),
            to,
        }
    }
}

impl Hub {
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
            hub.clients.retain(|(number, _)| *number != self.number);
            hub.calls.retain(|(number, ..)| *number != self.number);
            if hub.is_idle() {
                hubs.remove(&self.key);
            }
        }
    }
}
