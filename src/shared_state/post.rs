//! Who waits for an answer here, and what is done with what others hand to this replica.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::wire::Refused;
use super::{HandOver, Handler};

/// Messages of other replicas that are handled at once; more are refused.
const MAX_HANDLED: usize = 256;
/// Refusals under way at once; beyond it the sender waits in vain.
const MAX_REFUSED: usize = 256;

type Told = Result<Vec<u8>, HandOver>;

/// Open questions to other replicas, and the handler of theirs.
pub(super) struct Post {
    waiting: Mutex<HashMap<u64, oneshot::Sender<Told>>>,
    next: AtomicU64,
    handler: OnceLock<Handler>,
    handled: Arc<Semaphore>,
    refused: Arc<Semaphore>,
}

/// A place in the table of those who wait; given up when it is dropped.
pub(super) struct Expected<'a> {
    pub(super) id: u64,
    post: &'a Post,
    told: oneshot::Receiver<Told>,
}

impl Post {
    pub(super) fn new() -> Self {
        Self {
            waiting: Mutex::default(),
            next: AtomicU64::new(1),
            handler: OnceLock::new(),
            handled: Arc::new(Semaphore::new(MAX_HANDLED)),
            refused: Arc::new(Semaphore::new(MAX_REFUSED)),
        }
    }

    pub(super) fn expect(&self) -> Expected<'_> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (tell, told) = oneshot::channel();
        self.waiting.lock().insert(id, tell);
        Expected { id, post: self, told }
    }

    /// An answer came; nobody may wait for it any more.
    pub(super) fn tell(&self, id: u64, told: Told) {
        if let Some(waiting) = self.waiting.lock().remove(&id) {
            waiting.send(told).ok();
        }
    }

    /// No answer can come any more: the line to Redis is gone.
    pub(super) fn cut(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        for one in waiting.into_values() {
            one.send(Err(HandOver::Away)).ok();
        }
    }

    pub(super) fn serve(&self, handler: Handler) {
        if self.handler.set(handler).is_err() {
            tracing::error!("the handler of handed-over messages is set twice: the first one stays");
        }
    }

    /// Room to handle one more message.
    pub(super) fn admit(&self) -> Result<OwnedSemaphorePermit, Refused> {
        let room = Arc::clone(&self.handled).try_acquire_owned().ok();
        room.filter(|_| self.handler.get().is_some()).ok_or(Refused::Busy)
    }

    /// The answer to a message that was admitted.
    pub(super) async fn handle(&self, message: Vec<u8>) -> Option<Vec<u8>> {
        Some(self.handler.get()?(message).await)
    }

    /// Room to say no.
    pub(super) fn refuse(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.refused).try_acquire_owned().ok()
    }
}

impl Expected<'_> {
    pub(super) async fn answer(&mut self) -> Told {
        // The sender is in the table for as long as this lives.
        (&mut self.told).await.unwrap_or(Err(HandOver::Away))
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        self.post.waiting.lock().remove(&self.id);
    }
}

impl fmt::Debug for Post {
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
        let post = Post::new();
        let (mut one, mut two) = (post.expect(), post.expect());
        post.tell(two.id, Ok(b"two".to_vec()));
        post.tell(one.id, Err(HandOver::Busy));
        post.tell(99, Ok(b"nobody".to_vec()));
        assert_eq!(one.answer().await, Err(HandOver::Busy));
        assert_eq!(two.answer().await.as_deref(), Ok(&b"two"[..]));
    }

    #[tokio::test]
    async fn who_waits_is_told_when_the_line_is_cut_and_forgotten_when_it_leaves() {
        let post = Post::new();
        let mut one = post.expect();
        post.cut();
        assert_eq!(one.answer().await, Err(HandOver::Away));
        let two = post.expect();
        assert_eq!(post.waiting.lock().len(), 1);
        drop(two);
        assert_eq!(post.waiting.lock().len(), 0);
    }

    #[test]
    fn messages_are_refused_without_a_handler_and_beyond_the_limit() {
        let post = Post::new();
        assert_eq!(post.admit().err(), Some(Refused::Busy));
        post.serve(echo());
        let mut held: Vec<_> = (0..MAX_HANDLED).map(|_| post.admit().unwrap()).collect();
        assert_eq!(post.admit().err(), Some(Refused::Busy));
        held.pop();
        assert!(post.admit().is_ok());
    }
}
