//! The way back to the peer of one running request: notifications and questions, written for it.

use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard, mpsc};

use super::Arrived;
use pleiades_mcp::{Raw, RawObject, message, reserved};
use pleiades_upstream::StreamPause;

/// Messages a slow reader may lag behind before it loses notifications.
const BACKLOG: usize = 64;
/// Requests during which a provider may say or ask something.
const TALKATIVE: [&str; 4] = [
    "tools/call",
    "prompts/get",
    "resources/read",
    "completion/complete",
];

/// Takes what belongs to one running request.
#[derive(Debug)]
pub struct Outlet {
    words: mpsc::Sender<Word>,
    token: Option<Raw>,
    /// Shared by the calls of one plan: a person is asked by one of them at a time.
    turn: Option<Arc<Mutex<()>>>,
}

/// The other end, for whoever writes to the peer.
#[derive(Debug)]
pub struct Inlet(mpsc::Receiver<Word>);

/// What comes out of it.
#[derive(Debug)]
pub enum Word {
    /// To be written to the peer.
    Message(Vec<u8>),
    /// The provider ended its stream before the answer; a peer that can come back may be sent away
    /// as well. Dropped, the provider is asked when it said.
    Pause(StreamPause),
}

impl Outlet {
    /// An outlet for a request during which something may be said: always for a legacy one, whose
    /// client can be asked; for one of 2026-07-28 when it asked for progress or log messages.
    #[must_use]
    pub fn open(message: &Arrived) -> Option<(Self, Inlet)> {
        message.id()?;
        let token = message.progress_token().map(ToOwned::to_owned);
        let talks = token.is_some() || message.wants_log() || message.version().is_none();
        if !talks || !TALKATIVE.contains(&&*message.method) {
            return None;
        }
        let (words, inlet) = mpsc::channel(BACKLOG);
        let outlet = Self {
            words,
            token,
            turn: None,
        };
        Some((outlet, Inlet(inlet)))
    }

    /// The same for the calls that the request leads to. Their progress is not the request's own, and the
    /// end of one of their streams says nothing of the others.
    pub(crate) fn for_parts(&self) -> Self {
        Self {
            words: self.words.clone(),
            token: None,
            turn: Some(Arc::default()),
        }
    }

    /// Waits until no other call of the same plan asks; the question lasts as long as the guard.
    pub(crate) async fn turn(&self) -> Option<OwnedMutexGuard<()>> {
        match &self.turn {
            Some(turn) => Some(Arc::clone(turn).lock_owned().await),
            None => None,
        }
    }

    /// Whether progress was asked for.
    pub(crate) const fn wants_progress(&self) -> bool {
        self.token.is_some()
    }

    /// Progress, under the peer's own token.
    pub(crate) fn progress(&self, mut params: RawObject) {
        let Some(token) = &self.token else { return };
        reserved::strip_params(&mut params);
        params.set("progressToken", token.clone());
        self.say(message::notification(
            "notifications/progress",
            Some(&params.close()),
        ));
    }

    /// A notification; one that reads too slowly loses some, because they must never hold up an
    /// answer.
    pub(crate) fn say(&self, message: Vec<u8>) {
        if self.words.try_send(Word::Message(message)).is_err() {
            tracing::trace!("a notification found no reader");
        }
    }

    /// Whether nobody reads it any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.words.is_closed()
    }

    /// Returns when nobody reads it any more.
    pub(crate) async fn closed(&self) {
        self.words.closed().await;
    }

    /// A question; whether it can reach the peer.
    pub(crate) async fn ask(&self, message: Vec<u8>) -> bool {
        self.words.send(Word::Message(message)).await.is_ok()
    }

    /// The provider's stream ended early. Without a reader it is resumed when the provider said.
    pub(crate) fn pause(&self, pause: StreamPause) {
        if self.turn.is_some() {
            return;
        }
        self.words.try_send(Word::Pause(pause)).ok();
    }
}

impl Inlet {
    /// The next word; `None` when the request is done.
    pub async fn next(&mut self) -> Option<Word> {
        self.0.recv().await
    }

    /// The next message, for a peer that stays; `None` when the request is done.
    pub async fn message(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Word::Message(message) = self.next().await? {
                return Some(message);
            }
        }
    }

    /// A message that is already there.
    pub fn ready(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Word::Message(message) = self.0.try_recv().ok()? {
                return Some(message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn calls_of_one_plan_ask_one_after_the_other_and_single_calls_wait_for_nobody() {
        let (words, _inlet) = mpsc::channel(1);
        let single = Outlet {
            words,
            token: None,
            turn: None,
        };
        assert!(single.turn().await.is_none());
        let part = single.for_parts();
        let first = part.turn().await;
        let mut second = pin!(part.turn());
        assert!((&mut second).now_or_never().is_none());
        drop(first);
        assert!(second.await.is_some());
    }

    #[tokio::test]
    async fn progress_and_pauses_of_a_plans_calls_are_not_those_of_the_request() {
        let (words, mut inlet) = mpsc::channel(4);
        let outlet = Outlet {
            words,
            token: Some(pleiades_mcp::raw::raw(&7)),
            turn: None,
        };
        let part = outlet.for_parts();
        assert!(outlet.wants_progress() && !part.wants_progress());
        part.progress(RawObject::new());
        assert!(inlet.try_recv().is_err());
        outlet.progress(RawObject::new());
        assert!(inlet.try_recv().is_ok());
    }
}
