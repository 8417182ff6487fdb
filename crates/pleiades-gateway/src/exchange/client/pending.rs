//! Questions that a call has put to its legacy client, and what becomes of them when that client
//! reads the call's stream no more: a disconnect is no cancellation there, so they go to another
//! stream of its session, and only when there is none the provider hears that nobody answers.

use std::future::pending;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::channel::ClientChannel;
use super::convert::Answer;
use super::questions::{ANSWER_SECS, Question};
use pleiades_core::error::{Code, Error};
use pleiades_mcp::{Id, RawObject, message};

/// How long a client may take to open another stream, and how often that is looked for.
const GRACE: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(250);

/// Open questions of one call.
#[derive(Debug, Default)]
pub(super) struct PendingQuestions {
    questions: Vec<PendingQuestion>,
    /// Since when nobody reads the call's own stream.
    left: Option<Instant>,
}

/// A question as it was put.
#[derive(Debug)]
pub(super) struct PendingQuestion {
    /// The provider's own id of it.
    id: Option<Id>,
    question: Question,
    message: Vec<u8>,
    /// Whether it went to another stream than the call's own.
    moved: bool,
}

impl PendingQuestions {
    /// Adds a question that a provider gave this id.
    pub(super) fn push(&mut self, id: Id, mut question: PendingQuestion) {
        question.id = Some(id);
        self.questions.push(question);
    }

    /// Tells the client that the question which a provider gave this id needs no answer any more.
    pub(super) fn retract(&mut self, channel: &ClientChannel<'_>, id: &Id) {
        let mut questions = self.questions.iter();
        if let Some(at) = questions.position(|it| it.id.as_ref() == Some(id)) {
            let question = self.questions.swap_remove(at);
            channel.retract(&question.question.id);
        }
    }

    /// The same of all.
    pub(super) fn retract_all(&mut self, channel: &ClientChannel<'_>) {
        for question in self.questions.drain(..) {
            channel.retract(&question.question.id);
        }
    }

    /// Returns when open questions may have to go elsewhere; never when there are none.
    pub(super) async fn left(&self, channel: &ClientChannel<'_>) {
        let waits = self.questions.iter().any(|question| !question.moved);
        match channel.outlet {
            Some(outlet) if waits => match self.left {
                None => outlet.closed().await,
                Some(_) => sleep(RETRY).await,
            },
            _ => pending().await,
        }
    }

    /// Puts questions of a call whose stream nobody reads on another one of the client; those that
    /// cannot go anywhere are closed after a while.
    pub(super) fn relocate(&mut self, channel: &ClientChannel<'_>) {
        let since = *self.left.get_or_insert_with(Instant::now);
        self.questions
            .retain_mut(|question| question.moved || question.relocate(channel) || since.elapsed() < GRACE);
    }
}

impl PendingQuestion {
    /// Writes a question to the client: on the call's own stream, else on another one of its session.
    ///
    /// # Errors
    /// [`Code::Cancelled`] when it has neither; [`Code::Busy`].
    pub(super) async fn put(
        channel: &ClientChannel<'_>,
        method: &str,
        params: &RawObject,
        answer: oneshot::Sender<Answer>,
    ) -> Result<Self, Error> {
        let question = channel.questions.open(channel.holder, method, answer)?;
        let message = message::client_request(&question.id, method, params);
        let mut put = Self {
            id: None,
            question,
            message,
            moved: false,
        };
        if let Some(outlet) = channel.outlet
            && outlet.ask(put.message.clone()).await
        {
            return Ok(put);
        }
        if put.relocate(channel) {
            return Ok(put);
        }
        let message = "the client has no stream that a question could reach";
        Err(Error::new(Code::Cancelled, message))
    }

    fn relocate(&mut self, channel: &ClientChannel<'_>) -> bool {
        let mailbox = channel.mailbox();
        self.moved = mailbox.is_some_and(|mailbox| mailbox.ask(self.message.clone()));
        self.moved
    }

    /// Waits for the answer to this one question; `None` when nobody gives one.
    pub(super) async fn answer(
        self,
        channel: &ClientChannel<'_>,
        mut answer: oneshot::Receiver<Answer>,
    ) -> Option<Answer> {
        let mut open = PendingQuestions {
            questions: vec![self],
            left: None,
        };
        let waiting = async {
            loop {
                tokio::select! {
                    biased;
                    answer = &mut answer => return answer.ok(),
                    () = open.left(channel) => open.relocate(channel),
                }
            }
        };
        let answer = timeout(Duration::from_secs(ANSWER_SECS), waiting).await;
        if let Ok(answer) = answer {
            return answer;
        }
        open.retract_all(channel);
        None
    }
}
