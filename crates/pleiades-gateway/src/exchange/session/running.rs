//! Requests that are under way and may be cancelled by their id.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

type Key = (Arc<str>, Box<str>);

/// Running requests by session (or connection) and JSON-RPC id. As many entries as requests
/// under way: each removes its own.
#[derive(Debug, Default)]
pub(crate) struct RunningRequests(Arc<Mutex<HashMap<Key, CancellationToken>>>);

/// A running request's entry; dropped with it.
#[derive(Debug)]
pub(crate) struct RunningRequest {
    running: Arc<Mutex<HashMap<Key, CancellationToken>>>,
    key: Option<Key>,
    token: CancellationToken,
}

impl RunningRequests {
    /// Enters a request. Without a session (a legacy request without a session) nobody can name it.
    pub(crate) fn enter(&self, session: Option<&Arc<str>>, id: &RawValue) -> RunningRequest {
        let token = CancellationToken::new();
        let key: Option<Key> = session.map(|session| (Arc::clone(session), id.get().into()));
        let key = key.filter(|key| match self.0.lock().entry(key.clone()) {
            Entry::Vacant(free) => {
                free.insert(token.clone());
                true
            }
            // An id that is in use goes on naming the request that had it first.
            Entry::Occupied(_) => false,
        });
        RunningRequest {
            running: Arc::clone(&self.0),
            key,
            token,
        }
    }

    /// Cancels a request of the same session; an unknown one is ignored, as the specification wants.
    pub(crate) fn cancel(&self, session: Option<&Arc<str>>, id: &RawValue) {
        let Some(session) = session else { return };
        if let Some(token) = self.0.lock().get(&(Arc::clone(session), id.get().into())) {
            token.cancel();
        }
    }

    /// Cancels every request of a session: nobody could be given an answer any more.
    pub(crate) fn end(&self, session: &str) {
        let running = self.0.lock();
        let ended = running.iter().filter(|((of, _), _)| **of == *session);
        ended.for_each(|(_, token)| token.cancel());
    }
}

impl RunningRequest {
    /// A stream of this request: it ends when the request is cancelled, and may be until then.
    pub(crate) fn bound(self, mut messages: mpsc::Receiver<Vec<u8>>) -> mpsc::Receiver<Vec<u8>> {
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            loop {
                let message = tokio::select! {
                    () = self.cancelled() => return,
                    () = sender.closed() => return,
                    message = messages.recv() => message,
                };
                let Some(message) = message else { return };
                if sender.send(message).await.is_err() {
                    return;
                }
            }
        });
        receiver
    }

    pub(crate) fn cancelled(&self) -> WaitForCancellationFuture<'_> {
        self.token.cancelled()
    }
}

impl Drop for RunningRequest {
    fn drop(&mut self) {
        if let Some(key) = &self.key {
            self.running.lock().remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pleiades_mcp::raw;

    #[tokio::test]
    async fn a_request_is_cancelled_by_its_id_in_its_own_session_only() {
        let running = RunningRequests::default();
        let (mine, other): (Arc<str>, Arc<str>) = ("mine".into(), "other".into());
        let ticket = running.enter(Some(&mine), &raw::raw(&7));
        running.cancel(Some(&other), &raw::raw(&7));
        running.cancel(Some(&mine), &raw::raw("7"));
        assert!(!ticket.token.is_cancelled());
        running.cancel(Some(&mine), &raw::raw(&7));
        ticket.cancelled().await;
    }

    #[test]
    fn the_end_of_a_session_cancels_its_requests_alone() {
        let running = RunningRequests::default();
        let (mine, other): (Arc<str>, Arc<str>) = ("mine".into(), "other".into());
        let tickets = [&mine, &mine, &other].map(|session| running.enter(Some(session), &raw::raw(&1)));
        let second = running.enter(Some(&mine), &raw::raw(&2));
        running.end("mine");
        assert!(tickets[0].token.is_cancelled() && second.token.is_cancelled());
        assert!(!tickets[2].token.is_cancelled());
    }

    #[test]
    fn an_id_used_twice_at_once_names_the_first_request() {
        let running = RunningRequests::default();
        let session: Arc<str> = "session".into();
        let first = running.enter(Some(&session), &raw::raw(&1));
        drop(running.enter(Some(&session), &raw::raw(&1)));
        running.cancel(Some(&session), &raw::raw(&1));
        assert!(first.token.is_cancelled());
    }

    #[tokio::test]
    async fn a_stream_ends_when_its_request_is_cancelled() {
        let running = RunningRequests::default();
        let session: Arc<str> = "session".into();
        let (sender, messages) = mpsc::channel(1);
        let mut bound = running.enter(Some(&session), &raw::raw(&1)).bound(messages);
        sender.send(b"one".to_vec()).await.unwrap();
        assert_eq!(bound.recv().await.as_deref(), Some(&b"one"[..]));
        running.cancel(Some(&session), &raw::raw(&1));
        assert_eq!(bound.recv().await, None);
    }

    #[test]
    fn a_finished_request_leaves_no_entry() {
        let running = RunningRequests::default();
        let session: Arc<str> = "session".into();
        drop(running.enter(Some(&session), &raw::raw(&1)));
        assert!(running.0.lock().is_empty());
    }
}
