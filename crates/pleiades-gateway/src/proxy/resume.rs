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
/// How long messages for a client that was sent away wait for it, beyond the time that it was asked to
/// stay away. Later there is only the answer, and questions go to the session's stream.
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

/// The messages that wait for a client that was sent away.
#[derive(Debug)]
struct PausedClient {
    /// The messages that precede the answer.
    inlet: Inlet,
    /// Signalled when the client is back.
    resume: Option<oneshot::Sender<()>>,
}

/// Where the work on a request finds the ticket, should its answer become a stream.
pub(super) type TicketCell = Arc<OnceLock<AnswerTicket>>;

/// Delivers one answer. Dropped without one, those who wait for it wait no longer.
#[derive(Debug)]
pub(super) struct AnswerTicket {
    id: Arc<str>,
    store: Arc<Mutex<Inner>>,
    answer: watch::Sender<Option<Arc<[u8]>>>,
}

impl AnswerStore {
    /// Makes room for the answer of a request of this session, under an id that no other request has.
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

    /// The rest of the stream that began with this id: the answer as soon as there is one, and before it the
    /// messages that waited for a client that was sent away. `None` when the session has no such stream.
    pub(super) fn resume(&self, session: &str, id: &str) -> Option<mpsc::Receiver<Vec<u8>>> {
        let (mut answer, paused) = {
            let mut store = self.0.lock();
            let slot = store.slots.get_mut(id).filter(|slot| &*slot.session == session)?;
            (slot.answer.clone(), slot.paused.take())
        };
        let (store, id) = (Arc::clone(&self.0), Arc::from(id));
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            if let Some(paused) = paused
                && let Some(paused) = paused.notify_return().forward(&sender).await
            {
                park(&store, &id, paused, AWAY);
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
    /// Tells the provider's side that the client is back.
    fn notify_return(mut self) -> Self {
        if let Some(resume) = self.resume.take() {
            // Too late when the provider was asked already.
            resume.send(()).ok();
        }
        self
    }

    /// Sends messages to the client until the request is done; `Some` when the client goes again.
    async fn forward(mut self, client: &mpsc::Sender<Vec<u8>>) -> Option<Self> {
        loop {
            let word = tokio::select! {
                biased;
                () = client.closed() => return Some(self),
                word = self.inlet.next() => word?,
            };
            // It is sent away once; through further pauses of its provider it stays.
            if let Word::Message(message) = word
                && client.send(message).await.is_err()
            {
                return Some(self);
            }
        }
    }
}

/// Keeps for a while what waits for a client.
fn park(store: &Arc<Mutex<Inner>>, id: &Arc<str>, paused: PausedClient, within: Duration) {
    if let Some(slot) = store.lock().slots.get_mut(id) {
        slot.paused = Some(paused);
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
    /// Keeps the messages for a client that is sent away while its provider pauses.
    pub(super) fn park(&self, pause: StreamPause, inlet: Inlet) {
        let paused = PausedClient {
            inlet,
            resume: Some(pause.resume),
        };
        park(&self.store, &self.id, paused, pause.retry.saturating_add(AWAY));
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
        let answers = AnswerStore::default();
        let ticket = answers.begin(&session("mine"), "7");
        assert!(answers.resume("other", "7").is_none());
        assert!(answers.resume("mine", "8").is_none());
        let mut early = answers.resume("mine", "7").unwrap();
        ticket.answer(b"done");
        drop(ticket);
        let mut late = answers.resume("mine", "7").unwrap();
        assert_eq!(early.recv().await.unwrap(), b"done");
        assert_eq!(early.recv().await, None);
        assert_eq!(late.recv().await.unwrap(), b"done");
    }

    #[tokio::test]
    async fn the_return_of_a_client_that_was_sent_away_is_reported_once() {
        let answers = AnswerStore::default();
        let ticket = answers.begin(&session("mine"), "7");
        let call = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"act"}}"#;
        let (outlet, inlet) = Outlet::open(&Arrived::open(message::decode(call).unwrap())).unwrap();
        let (resume, returned) = oneshot::channel();
        let retry = Duration::from_secs(5);
        ticket.park(StreamPause { retry, resume }, inlet);
        let gone = answers.resume("mine", "7").unwrap();
        returned.await.unwrap();
        drop(gone);
        let mut again = answers.resume("mine", "7").unwrap();
        ticket.answer(b"done");
        drop((outlet, ticket));
        assert_eq!(again.recv().await.unwrap(), b"done");
        assert_eq!(again.recv().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn messages_do_not_wait_for_ever_for_a_client_that_was_sent_away() {
        let answers = AnswerStore::default();
        let ticket = answers.begin(&session("mine"), "7");
        let call = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"act"}}"#;
        let (_outlet, inlet) = Outlet::open(&Arrived::open(message::decode(call).unwrap())).unwrap();
        let (resume, returned) = oneshot::channel();
        let retry = Duration::from_secs(5);
        ticket.park(StreamPause { retry, resume }, inlet);
        let begun = Instant::now();
        returned.await.unwrap_err();
        assert_eq!(begun.elapsed().as_secs(), (retry + AWAY).as_secs());
    }

    #[tokio::test]
    async fn a_request_without_answer_ends_the_wait() {
        let answers = AnswerStore::default();
        let ticket = answers.begin(&session("mine"), "7");
        let mut resumed = answers.resume("mine", "7").unwrap();
        drop(ticket);
        assert_eq!(resumed.recv().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_bounded_in_age_number_and_size() {
        let answers = AnswerStore::default();
        let mine = session("mine");
        answers.begin(&mine, "old").answer(b"old");
        tokio::time::advance(KEPT).await;
        for number in 0..MOST {
            answers.begin(&mine, &number.to_string()).answer(b"small");
        }
        assert!(answers.resume("mine", "old").is_none());
        assert!(answers.resume("mine", "0").is_some());
        answers.begin(&mine, "one more").answer(b"small");
        assert!(answers.resume("mine", "0").is_none());
        answers.begin(&mine, "large").answer(&vec![0; MOST_BYTES]);
        assert!(answers.resume("mine", "one more").is_none());
        assert!(answers.resume("mine", "large").is_some());
        let store = answers.0.lock();
        assert_eq!((store.bytes, store.slots.len()), (MOST_BYTES, 1));
    }
}
