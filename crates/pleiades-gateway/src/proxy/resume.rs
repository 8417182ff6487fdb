//! Answers that a client may come back for (2025-11-25, streamable HTTP, "Resumability"): a stream
//! that begins with an id promises that a GET naming it as `Last-Event-ID` gets the answer, should
//! the stream break before. A stream may also be ended on purpose, because the provider ended its own:
//! then the return of the client is what makes the gateway ask the provider for the rest.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep};

use crate::exchange::{Inlet, Word};
use pleiades_upstream::StreamPause;

/// When a client may come back: soon, since the answer is waited for anyway.
pub(super) const RETRY: Duration = Duration::from_millis(500);
/// How long an answer can be fetched, counted from its request.
const KEPT: Duration = Duration::from_secs(10 * 60);
/// How long what is said to a client that was sent away waits for it, beyond the time it was told to
/// stay away. Later there is only the answer, and what is asked goes to its standing stream.
const AWAY: Duration = Duration::from_secs(30);
/// Requests whose answers are kept; the oldest go first.
const MOST: usize = 1024;
/// Bytes of all answers kept; the oldest go first.
const MOST_BYTES: usize = 32 << 20;

/// Answers by the id that their stream began with.
#[derive(Debug, Default)]
pub(super) struct AnswerStore(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    slots: HashMap<Arc<str>, AnswerSlot>,
    /// From the oldest.
    order: VecDeque<(Instant, Arc<str>)>,
    bytes: usize,
}

#[derive(Debug)]
struct AnswerSlot {
    session: Arc<str>,
    answer: watch::Receiver<Option<Arc<[u8]>>>,
    paused: Option<PausedClient>,
    bytes: usize,
}

/// What a client left behind that was sent away.
#[derive(Debug)]
struct PausedClient {
    /// What is said to it before the answer.
    inlet: Inlet,
    /// Takes the word that it is back.
    back: Option<oneshot::Sender<()>>,
}

/// Where the work on a request finds the ticket, should its answer become a stream.
pub(super) type TicketCell = Arc<OnceLock<AnswerTicket>>;

/// The place of one answer. Dropped without one, those who wait for it wait no longer.
#[derive(Debug)]
pub(super) struct AnswerTicket {
    id: Arc<str>,
    store: Arc<Mutex<Inner>>,
    answer: watch::Sender<Option<Arc<[u8]>>>,
}

impl AnswerStore {
    /// A place for the answer of a request of this session, under an id that no other request has.
    pub(super) fn begin(&self, session: &Arc<str>, id: &str) -> AnswerTicket {
        let id: Arc<str> = id.into();
        let (sender, answer) = watch::channel(None);
        let now = Instant::now();
        let mut store = self.0.lock();
        store.slots.insert(
            Arc::clone(&id),
            AnswerSlot {
                session: Arc::clone(session),
                answer,
                paused: None,
                bytes: 0,
            },
        );
        store.order.push_back((now, Arc::clone(&id)));
        store.shrink(now);
        drop(store);
        AnswerTicket {
            id,
            store: Arc::clone(&self.0),
            answer: sender,
        }
    }

    /// The rest of the stream that began with this id: the answer as soon as there is one, and before
    /// it what was said meanwhile to a client that was sent away. `None` when the session has no such
    /// stream.
    pub(super) fn resume(&self, session: &str, id: &str) -> Option<mpsc::Receiver<Vec<u8>>> {
        let (mut answer, left) = {
            let mut store = self.0.lock();
            let slot = store.slots.get_mut(id).filter(|slot| &*slot.session == session)?;
            (slot.answer.clone(), slot.paused.take())
        };
        let (store, id) = (Arc::clone(&self.0), Arc::from(id));
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            if let Some(left) = left
                && let Some(left) = left.notify_return().forward(&sender).await
            {
                leave(&store, &id, left, AWAY);
                return;
            }
            let found = tokio::select! {
                found = answer.wait_for(Option::is_some) => found.ok().and_then(|found| found.clone()),
                () = sender.closed() => None,
            };
            if let Some(found) = found {
                // The client may be gone again; it can still come back.
                drop(sender.send(found.to_vec()).await);
            }
        });
        Some(receiver)
    }
}

impl PausedClient {
    /// Says that the client is back.
    fn notify_return(mut self) -> Self {
        if let Some(back) = self.back.take() {
            // Too late when the provider was asked already.
            back.send(()).ok();
        }
        self
    }

    /// Tells the client what is said until the request is done; what is left when it goes again.
    async fn forward(mut self, client: &mpsc::Sender<Vec<u8>>) -> Option<Self> {
        loop {
            let word = tokio::select! {
                biased;
                () = client.closed() => return Some(self),
                word = self.inlet.next() => word?,
            };
            // It is sent away once; through further recesses of its provider it stays.
            if let Word::Message(message) = word
                && client.send(message).await.is_err()
            {
                return Some(self);
            }
        }
    }
}

/// Keeps for a while what a client left behind.
fn leave(store: &Arc<Mutex<Inner>>, id: &Arc<str>, left: PausedClient, within: Duration) {
    if let Some(slot) = store.lock().slots.get_mut(id) {
        slot.paused = Some(left);
    }
    let (store, id) = (Arc::downgrade(store), Arc::clone(id));
    tokio::spawn(async move {
        sleep(within).await;
        if let Some(store) = store.upgrade()
            && let Some(slot) = store.lock().slots.get_mut(&id)
        {
            slot.paused = None;
        }
    });
}

impl AnswerTicket {
    /// The client is sent away while its provider takes a recess.
    pub(super) fn leave(&self, pause: StreamPause, inlet: Inlet) {
        let StreamPause { retry, resume: back } = pause;
        let back = Some(back);
        leave(
            &self.store,
            &self.id,
            PausedClient { inlet, back },
            retry.saturating_add(AWAY),
        );
    }

    /// Puts the answer where it can be fetched.
    pub(super) fn answer(&self, body: &[u8]) {
        let mut store = self.store.lock();
        let Some(slot) = store.slots.get_mut(&self.id) else {
            return;
        };
        slot.bytes = body.len();
        store.bytes += body.len();
        self.answer.send_replace(Some(body.into()));
        store.shrink(Instant::now());
    }
}

impl Inner {
    fn shrink(&mut self, now: Instant) {
        while let Some((since, _)) = self.order.front() {
            let full = self.order.len() > MOST || self.bytes > MOST_BYTES;
            if !full && now.duration_since(*since) < KEPT {
                return;
            }
            let oldest = self.order.pop_front();
            if let Some(slot) = oldest.and_then(|(_, id)| self.slots.remove(&id)) {
                self.bytes -= slot.bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{Arrived, Outlet};
    use pleiades_mcp::message;

    fn session(name: &str) -> Arc<str> {
        name.into()
    }

    #[tokio::test]
    async fn an_answer_waits_for_its_session_alone() {
        let kept = AnswerStore::default();
        let ticket = kept.begin(&session("mine"), "7");
        assert!(kept.resume("other", "7").is_none());
        assert!(kept.resume("mine", "8").is_none());
        let mut early = kept.resume("mine", "7").unwrap();
        ticket.answer(b"done");
        drop(ticket);
        let mut late = kept.resume("mine", "7").unwrap();
        assert_eq!(early.recv().await.unwrap(), b"done");
        assert_eq!(early.recv().await, None);
        assert_eq!(late.recv().await.unwrap(), b"done");
    }

    #[tokio::test]
    async fn the_return_of_a_client_that_was_sent_away_is_reported_once() {
        let kept = AnswerStore::default();
        let ticket = kept.begin(&session("mine"), "7");
        let call = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"act"}}"#;
        let (outlet, inlet) = Outlet::open(&Arrived::open(message::decode(call).unwrap())).unwrap();
        let (back, returned) = oneshot::channel();
        let retry = Duration::from_secs(5);
        ticket.leave(StreamPause { retry, resume: back }, inlet);
        let gone = kept.resume("mine", "7").unwrap();
        returned.await.unwrap();
        drop(gone);
        let mut again = kept.resume("mine", "7").unwrap();
        ticket.answer(b"done");
        drop((outlet, ticket));
        assert_eq!(again.recv().await.unwrap(), b"done");
        assert_eq!(again.recv().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn messages_do_not_wait_for_ever_for_a_client_that_was_sent_away() {
        let kept = AnswerStore::default();
        let ticket = kept.begin(&session("mine"), "7");
        let call = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"act"}}"#;
        let (_outlet, inlet) = Outlet::open(&Arrived::open(message::decode(call).unwrap())).unwrap();
        let (back, returned) = oneshot::channel();
        let retry = Duration::from_secs(5);
        ticket.leave(StreamPause { retry, resume: back }, inlet);
        let begun = Instant::now();
        returned.await.unwrap_err();
        assert_eq!(begun.elapsed().as_secs(), (retry + AWAY).as_secs());
    }

    #[tokio::test]
    async fn a_request_without_answer_ends_the_wait() {
        let kept = AnswerStore::default();
        let ticket = kept.begin(&session("mine"), "7");
        let mut resumed = kept.resume("mine", "7").unwrap();
        drop(ticket);
        assert_eq!(resumed.recv().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_bounded_in_age_number_and_size() {
        let kept = AnswerStore::default();
        let mine = session("mine");
        kept.begin(&mine, "old").answer(b"old");
        tokio::time::advance(KEPT).await;
        for number in 0..MOST {
            kept.begin(&mine, &number.to_string()).answer(b"small");
        }
        assert!(kept.resume("mine", "old").is_none());
        assert!(kept.resume("mine", "0").is_some());
        kept.begin(&mine, "one more").answer(b"small");
        assert!(kept.resume("mine", "0").is_none());
        kept.begin(&mine, "large").answer(&vec![0; MOST_BYTES]);
        assert!(kept.resume("mine", "one more").is_none());
        assert!(kept.resume("mine", "large").is_some());
        let store = kept.0.lock();
        assert_eq!((store.bytes, store.slots.len()), (MOST_BYTES, 1));
    }
}
