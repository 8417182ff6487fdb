//! Asks of this replica that wait for their answers, and the handler of what others ask.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::{collections::HashMap, fmt};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{HandOverError, Handler, wire::AskRefusal};

/// Messages of other replicas that are handled at once; more are refused.
const MAX_HANDLED: usize = 256;
/// Refusals under way at once; beyond it the sender waits in vain.
const MAX_REFUSED: usize = 256;

type HandOverResult = Result<Vec<u8>, HandOverError>;

pub(super) struct PendingAsks {
    waiting: Mutex<HashMap<u64, oneshot::Sender<HandOverResult>>>,
    next: AtomicU64,
    handler: OnceLock<Handler>,
    handled: Arc<Semaphore>,
    refused: Arc<Semaphore>,
}

/// An ask whose answer is waited for; taken from the table when it is dropped.
pub(super) struct PendingAnswer<'a> {
    pub(super) id: u64,
    post: &'a PendingAsks,
    answer: oneshot::Receiver<HandOverResult>,
}

impl PendingAsks {
    pub(super) fn new() -> Self {
        Self {
            waiting: Mutex::default(),
            next: AtomicU64::new(1),
            handler: OnceLock::new(),
            handled: Arc::new(Semaphore::new(MAX_HANDLED)),
            refused: Arc::new(Semaphore::new(MAX_REFUSED)),
        }
    }

    pub(super) fn expect(&self) -> PendingAnswer<'_> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (tell, answer) = oneshot::channel();
        self.waiting.lock().insert(id, tell);
        PendingAnswer {
            id,
            post: self,
            answer,
        }
    }

    /// Delivers an answer; nobody may wait for it any more.
    pub(super) fn deliver(&self, id: u64, answer: HandOverResult) {
        if let Some(waiting) = self.waiting.lock().remove(&id) {
            waiting.send(answer).ok();
        }
    }

    /// Fails all that wait: the connection to Redis is gone.
    pub(super) fn fail_all(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        for one in waiting.into_values() {
            one.send(Err(HandOverError::Away)).ok();
        }
    }

    pub(super) fn serve(&self, handler: Handler) {
        if self.handler.set(handler).is_err() {
            tracing::error!("the handler of handed-over messages is set twice: the first one stays");
        }
    }

    pub(super) fn admit(&self) -> Result<OwnedSemaphorePermit, AskRefusal> {
        let room = Arc::clone(&self.handled).try_acquire_owned().ok();
        room.filter(|_| self.handler.get().is_some())
            .ok_or(AskRefusal::Busy)
    }

    pub(super) async fn handle(&self, message: Vec<u8>) -> Option<Vec<u8>> {
        Some(self.handler.get()?(message).await)
    }

    pub(super) fn refuse(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.refused).try_acquire_owned().ok()
    }
}

impl PendingAnswer<'_> {
    pub(super) async fn answer(&mut self) -> HandOverResult {
        // The sender is in the table for as long as this lives.
        (&mut self.answer).await.unwrap_or(Err(HandOverError::Away))
    }
}

impl Drop for PendingAnswer<'_> {
    fn drop(&mut self) {
        self.post.waiting.lock().remove(&self.id);
    }
}

impl fmt::Debug for PendingAsks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Post")
            .field("waiting", &self.waiting.lock().len())
            .field("serves", &self.handler.get().is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo() -> Handler {
        Box::new(|message| Box::pin(async move { message }))
    }

    #[tokio::test]
    async fn an_answer_finds_who_waits_and_nobody_else() {
        let post = PendingAsks::new();
        let (mut one, mut two) = (post.expect(), post.expect());
        post.deliver(two.id, Ok(b"two".to_vec()));
        post.deliver(one.id, Err(HandOverError::Busy));
        post.deliver(99, Ok(b"nobody".to_vec()));
        assert_eq!(one.answer().await, Err(HandOverError::Busy));
        assert_eq!(two.answer().await.as_deref(), Ok(&b"two"[..]));
    }

    #[tokio::test]
    async fn who_waits_is_answered_when_the_line_is_cut_and_forgotten_when_it_leaves() {
        let post = PendingAsks::new();
        let mut one = post.expect();
        post.fail_all();
        assert_eq!(one.answer().await, Err(HandOverError::Away));
        let two = post.expect();
        assert_eq!(post.waiting.lock().len(), 1);
        drop(two);
        assert_eq!(post.waiting.lock().len(), 0);
    }

    #[test]
    fn messages_are_refused_without_a_handler_and_beyond_the_limit() {
        let post = PendingAsks::new();
        assert_eq!(post.admit().err(), Some(AskRefusal::Busy));
        post.serve(echo());
        let mut permits: Vec<_> = (0..MAX_HANDLED).map(|_| post.admit().unwrap()).collect();
        assert_eq!(post.admit().err(), Some(AskRefusal::Busy));
        permits.pop();
        assert!(post.admit().is_ok());
    }
}
