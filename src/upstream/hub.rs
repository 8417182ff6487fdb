//! Who wants to hear of changes that processes announce; outlives each process, so that a
//! listener survives a restart.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::{call::Change, pool::Key};

/// Changes that a slow listener may be behind before it is told [`Change::Lost`].
const BEHIND: usize = 32;

#[derive(Debug, Default)]
pub(crate) struct Hubs(Mutex<HashMap<Key, broadcast::Sender<Change>>>);

impl Hubs {
    pub(crate) fn subscribe(&self, key: &Key) -> broadcast::Receiver<Change> {
        let mut hubs = self.0.lock();
        hubs.retain(|_, hub| hub.receiver_count() > 0);
        hubs.entry(key.clone())
            .or_insert_with(|| broadcast::channel(BEHIND).0)
            .subscribe()
    }

    pub(crate) fn tell(&self, key: &Key, change: Change) {
        let heard = self
            .0
            .lock()
            .get(key)
            .map_or(0, |hub| hub.send(change).unwrap_or(0));
        tracing::trace!(heard, "a process announced a change");
    }
}
