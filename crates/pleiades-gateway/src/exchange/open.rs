//! Questions that a call has put to its legacy client, and what becomes of them when that client
//! reads the call's stream no more: a disconnect is no cancellation there, so they go to another
//! stream of its session, and only when there is none the provider hears that nobody answers.

use std::future::pending;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::ask::{self, Outcome, PATIENCE_SECS, Question};
use super::talk::Talk;
use pleiades_core::error::{Code, Error};
use pleiades_mcp::{Id, Raw, RawObject, message};

/// How long a client may take to open another stream, and how often that is looked for.
const GRACE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(250);

/// Open questions of one call.
#[derive(Debug, Default)]
pub(super) struct Open {
    asked: Vec<Asked>,
    /// Since when nobody reads the call's own stream.
    left: Option<Instant>,
}

/// A question as it was put.
#[derive(Debug)]
pub(super) struct Asked {
    /// The provider's own id of it.
    id: Option<Id>,
    question: Question,
    message: Vec<u8>,
    /// Whether it went to another stream than the call's own.
    moved: bool,
}

impl Open {
    pub(super) fn push(&mut self, id: Id, mut asked: Asked) {
        asked.id = Some(id);
        self.asked.push(asked);
    }

    /// Takes out the question that a provider gave this id.
    pub(super) fn take(&mut self, id: &Id) -> Option<Asked> {
        let at = self
            .asked
            .iter()
            .position(|asked| asked.id.as_ref() == Some(id))?;
        Some(self.asked.swap_remove(at))
    }

    pub(super) fn drain(&mut self) -> std::vec::Drain<'_, Asked> {
        self.asked.drain(..)
    }

    fn waits_for_a_stream(&self) -> bool {
        self.asked.iter().any(|asked| !asked.moved)
    }
}

impl Asked {
    pub(super) const fn id(&self) -> &Id {
        &self.question.id
    }
}

impl Talk<'_> {
    /// Writes a question to the client: on the call's own stream, else on its standing one.
    ///
    /// # Errors
    /// [`Code::Cancelled`] when it has neither; [`Code::Busy`].
    pub(super) async fn question(
        &self,
        method: &str,
        params: &RawObject,
        answer: oneshot::Sender<Outcome>,
    ) -> Result<Asked, Error> {
        let question = self.exchange.question(self.holder, method, answer)?;
        let message = message::client_request(&question.id, method, params);
        let mut asked = Asked {
            id: None,
            question,
            message,
            moved: false,
        };
        if let Some(outlet) = self.outlet
            && outlet.ask(asked.message.clone()).await
        {
            return Ok(asked);
        }
        if self.moves(&mut asked) {
            return Ok(asked);
        }
        let message = "the client has no stream that a question could reach";
        Err(Error::new(Code::Cancelled, message))
    }

    /// Returns when open questions may have to go elsewhere; never when there are none.
    pub(super) async fn left(&self, open: &Open) {
        match self.outlet {
            Some(outlet) if open.waits_for_a_stream() => match open.left {
                None => outlet.closed().await,
                Some(_) => sleep(LOOK).await,
            },
            _ => pending().await,
        }
    }

    /// Puts questions of a call whose stream nobody reads on another one of the client; those that
    /// cannot go anywhere are closed after a while.
    pub(super) fn turn(&self, open: &mut Open) {
        let since = *open.left.get_or_insert_with(Instant::now);
        open.asked
            .retain_mut(|asked| asked.moved || self.moves(asked) || since.elapsed() < GRACE);
    }

    fn moves(&self, asked: &mut Asked) -> bool {
        let mailbox = self.mailbox();
        asked.moved = mailbox.is_some_and(|mailbox| mailbox.ask(asked.message.clone()));
        asked.moved
    }

    /// Waits for the answer to one question; `None` when nobody gives one.
    pub(super) async fn answer(
        &self,
        asked: Asked,
        mut answered: oneshot::Receiver<Outcome>,
    ) -> Option<Result<Raw, pleiades_core::error::RpcFault>> {
        let mut open = Open::default();
        open.asked.push(asked);
        let waiting = async {
            loop {
                tokio::select! {
                    biased;
                    outcome = &mut answered => return outcome.ok(),
                    () = self.left(&open) => self.turn(&mut open),
                }
            }
        };
        let outcome = timeout(Duration::from_secs(PATIENCE_SECS), waiting).await;
        if let Ok(outcome) = outcome {
            return outcome;
        }
        for asked in open.drain() {
            self.retract(&asked);
        }
        None
    }
}

/// What a provider is told when a question was closed without an answer.
pub(super) fn cancelled(method: &str) -> Outcome {
    if method == "elicitation/create" {
        return Ok(pleiades_mcp::raw::raw(&serde_json::json!({ "action": "cancel" })));
    }
    ask::unasked(method)
}
