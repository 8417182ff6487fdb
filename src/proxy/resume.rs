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
use crate::upstream::Recess;

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
pub(super) struct Kept(Arc<Mutex<Shelf>>);

#[derive(Debug, Default)]
struct Shelf {
    slots: HashMap<Arc<str>, Slot>,
    /// From the oldest.
    order: VecDeque<(Instant, Arc<str>)>,
    bytes: usize,
}

#[derive(Debug)]
struct Slot {
    session: Arc<str>,
    answer: watch::Receiver<Option<Arc<[u8]>>>,
    left: Option<Left>,
    bytes: usize,
}

/// What a client left behind that was sent away.
#[derive(Debug)]
struct Left {
    /// What is said to it before the answer.
    inlet: Inlet,
    /// Takes the word that it is back.
    back: Option<oneshot::Sender<()>>,
}

/// Where the work on a request finds the ticket, should its answer become a stream.
pub(super) type Place = Arc<OnceLock<Ticket>>;

/// The place of one answer. Dropped without one, those who wait for it wait no longer.
#[derive(Debug)]
pub(super) struct Ticket {
    id: Arc<str>,
    shelf: Arc<Mutex<Shelf>>,
    answer: watch::Sender<Option<Arc<[u8]>>>,
}

impl Kept {
    /// A place for the answer of a request of this session, under an id that no other request has.
    pub(super) fn begin(&self, session: &Arc<str>, id: &str) -> Ticket {
        let id: Arc<str> = id.into();
        let (sender, answer) = watch::channel(None);
        let now = Instant::now();
        let mut shelf = self.0.lock();
        shelf.slots.insert(
            Arc::clone(&id),
            Slot {
                session: Arc::clone(session),
                answer,
                left: None,
                bytes: 0,
            },
        );
        shelf.order.push_back((now, Arc::clone(&id)));
        shelf.shrink(now);
        drop(shelf);
        Ticket {
            id,
            shelf: Arc::clone(&self.0),
            answer: sender,
        }
    }

    /// The rest of the stream that began with this id: the answer as soon as there is one, and before
    /// it what was said meanwhile to a client that was sent away. `None` when the session has no such
    /// stream.
    pub(super) fn resume(&self, session: &str, id: &str) -> Option<mpsc::Receiver<Vec<u8>>> {
        let (mut answer, left) = {
            let mut shelf = self.0.lock();
            let slot = shelf.slots.get_mut(id).filter(|slot| &*slot.session == session)?;
            (slot.answer.clone(), slot.left.take())
        };
        let (shelf, id) = (Arc::clone(&self.0), Arc::from(id));
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            if let Some(left) = left
                && let Some(left) = left.returned().tell(&sender).await
            {
                leave(&shelf, &id, left, AWAY);
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

impl Left {
    /// Says that the client is back.
    fn returned(mut self) -> Self {
        if let Some(back) = self.back.take() {
            // Too late when the provider was asked already.
            back.send(()).ok();
        }
        self
    }

    /// Tells the client what is said until the request is done; what is left when it goes again.
    async fn tell(mut self, client: &mpsc::Sender<Vec<u8>>) -> Option<Self> {
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
fn leave(shelf: &Arc<Mutex<Shelf>>, id: &Arc<str>, left: Left, within: Duration) {
    if let Some(slot) = shelf.lock().slots.get_mut(id) {
        slot.left = Some(left);
    }
    let (shelf, id) = (Arc::downgrade(shelf), Arc::clone(id));
    tokio::spawn(async move {
        sleep(within).await;
        if let Some(shelf) = shelf.upgrade()
            && let Some(slot) = shelf.lock().slots.get_mut(&id)
        {
            slot.left = None;
        }
    });
}

impl Ticket {
    /// The client is sent away while its provider takes a recess.
    pub(super) fn leave(&self, recess: Recess, inlet: Inlet) {
        let Recess { retry, back } = recess;
        let back = Some(back);
        leave(
            &self.shelf,
            &self.id,
            Left { inlet, back },
            retry.saturating_add(AWAY),
        );
    }

    /// Puts the answer where it can be fetched.
    pub(super) fn answer(&self, body: &[u8]) {
        let mut shelf = self.shelf.lock();
        let Some(slot) = shelf.slots.get_mut(&self.id) else {
            return;
        };
        slot.bytes = body.len();
        shelf.bytes += body.len();
        self.answer.send_replace(Some(body.into()));
        shelf.shrink(Instant::now());
    }
}

impl Shelf {
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
    use crate::mcp::message;

    fn session(name: &str) -> Arc<str> {
        name.into()
    }

    #[tokio::test]
    async fn an_answer_waits_for_its_session_alone() {
        let kept = Kept::default();
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
    async fn the_return_of_a_client_that_was_sent_away_is_told_once() {
        let kept = Kept::default();
        let ticket = kept.begin(&session("mine"), "7");
        let call = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"act"}}"#;
        let (outlet, inlet) = Outlet::open(&Arrived::open(message::decode(call).unwrap())).unwrap();
        let (back, returned) = oneshot::channel();
        let retry = Duration::from_secs(5);
        ticket.leave(Recess { retry, back }, inlet);
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
    async fn what_is_said_does_not_wait_for_ever_for_a_client_that_was_sent_away() {
        let kept = Kept::default();
        let ticket = kept.begin(&session("mine"), "7");
        let call = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"act"}}"#;
        let (_outlet, inlet) = Outlet::open(&Arrived::open(message::decode(call).unwrap())).unwrap();
        let (back, returned) = oneshot::channel();
        let retry = Duration::from_secs(5);
        ticket.leave(Recess { retry, back }, inlet);
        let begun = Instant::now();
        returned.await.unwrap_err();
        assert_eq!(begun.elapsed().as_secs(), (retry + AWAY).as_secs());
    }

    #[tokio::test]
    async fn a_request_without_answer_ends_the_wait() {
        let kept = Kept::default();
        let ticket = kept.begin(&session("mine"), "7");
        let mut resumed = kept.resume("mine", "7").unwrap();
        drop(ticket);
        assert_eq!(resumed.recv().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_bounded_in_age_number_and_size() {
        let kept = Kept::default();
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
        let shelf = kept.0.lock();
        assert_eq!((shelf.bytes, shelf.slots.len()), (MOST_BYTES, 1));
    }
}
