//! Questions that are open towards clients: each with a sealed id, so that an answer finds the
//! process that waits for it, and only its own principal can give it.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::convert::{Answer, ELICITATION, is_answer};
use crate::exchange::fault::malformed_answer;
use crate::exchange::session::Tokens;
use pleiades_core::error::{Code, Error, RpcFault};
use pleiades_mcp::{Id, Raw, raw};

/// How long an answer is waited for (seconds); a person may have to find a document first.
pub(crate) const ANSWER_SECS: u64 = 600;
/// Questions open at once for one principal, and in all.
const PER_PRINCIPAL: usize = 64;
const IN_ALL: usize = 16_384;
const PURPOSE: &str = "question";

/// Open questions of this process.
#[derive(Debug)]
pub(crate) struct Questions {
    slots: Arc<Mutex<Slots>>,
    tokens: Tokens,
    replica: String,
}

#[derive(Debug, Default)]
struct Slots {
    open: HashMap<u64, Slot>,
    per_holder: HashMap<Box<str>, usize>,
    last: u64,
}

#[derive(Debug)]
struct Slot {
    holder: Box<str>,
    answer: oneshot::Sender<Answer>,
}

/// A question that is open until it is answered or dropped.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) id: Id,
    number: u64,
    slots: Arc<Mutex<Slots>>,
}

/// What the id of a question says.
#[derive(Debug, Serialize, Deserialize)]
struct QuestionClaims {
    replica: String,
    number: u64,
    /// Whether it asks a person, so that what answers it is known.
    #[serde(default)]
    elicits: bool,
}

/// What one replica hands to another: an answer to its question.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answered {
    holder: String,
    number: u64,
    result: Option<Raw>,
    error: Option<(i64, String, Option<Raw>)>,
}

/// Where an answer belongs.
#[derive(Debug)]
pub(crate) enum Delivery {
    /// It was given to who waits for it here, if somebody does.
    Done,
    /// Another replica asked.
    Elsewhere { replica: String, answered: Answered },
}

impl Slots {
    fn remove(&mut self, number: u64) -> Option<Slot> {
        let slot = self.open.remove(&number)?;
        if let Some(count) = self.per_holder.get_mut(&slot.holder) {
            *count -= 1;
            if *count == 0 {
                self.per_holder.remove(&slot.holder);
            }
        }
        Some(slot)
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.slots.lock().remove(self.number);
    }
}

impl Questions {
    /// Questions of a replica, under its seal.
    pub(crate) fn new(tokens: Tokens, replica: &str) -> Self {
        Self {
            slots: Arc::default(),
            tokens,
            replica: replica.to_owned(),
        }
    }

    /// Opens a question to a principal.
    ///
    /// # Errors
    /// [`Code::Busy`] when it has as many open as it may; [`Code::CredentialStore`] while nothing can
    /// be sealed.
    pub(crate) fn open(
        &self,
        holder: &str,
        method: &str,
        answer: oneshot::Sender<Answer>,
    ) -> Result<Question, Error> {
        self.tokens.ready()?;
        let number = self.enter(holder, answer)?;
        let claims = QuestionClaims {
            replica: self.replica.clone(),
            number,
            elicits: method == ELICITATION,
        };
        let sealed = self.tokens.seal(PURPOSE, holder, ANSWER_SECS, &claims);
        Ok(Question {
            id: Id(raw::raw(&sealed)),
            number,
            slots: Arc::clone(&self.slots),
        })
    }

    /// Takes a client's answer: one that comes too late is taken and means nothing. One that is none
    /// ends its question: who asked hears at once that there is no answer, instead of waiting for it; the
    /// second result is what its client is told then.
    ///
    /// # Errors
    /// [`Code::UnknownQuestion`] for an id that no question of this principal has.
    pub(crate) fn answer(
        &self,
        holder: &str,
        id: &Id,
        answer: Answer,
    ) -> Result<(Delivery, Result<(), Error>), Error> {
        let claims = serde_json::from_str::<String>(id.as_str()).ok();
        let claims = claims.and_then(|token| self.tokens.open::<QuestionClaims>(PURPOSE, holder, &token));
        let claims = claims.ok_or_else(|| {
            Error::new(
                Code::UnknownQuestion,
                "this answers no question that is open to this caller",
            )
        })?;
        let is_wrong = |result: &Raw| claims.elicits && !is_answer(ELICITATION, result);
        if !answer.as_ref().is_ok_and(is_wrong) {
            return Ok((self.delivery(holder, claims, answer), Ok(())));
        }
        let message = malformed_answer(ELICITATION).message;
        let fault = RpcFault {
            code: -32602,
            message: message.to_string(),
            data: None,
        };
        // What POSTs a response hears by the status that it was not taken (streamable HTTP, "Sending Messages").
        let refusal = Error::new(Code::InvalidRequest, message);
        Ok((self.delivery(holder, claims, Err(fault)), Err(refusal)))
    }

    /// Takes an answer that arrived at another replica.
    pub(crate) fn take(&self, answered: Answered) {
        let (holder, number) = (answered.holder.clone(), answered.number);
        let heard = self.deliver(&holder, number, answered.into_answer());
        tracing::debug!(
            message.is_expected = heard,
            "a question was answered at another replica"
        );
    }

    /// An id that nobody can guess.
    pub(crate) fn ticket(&self) -> String {
        self.tokens.ticket()
    }

    fn delivery(&self, holder: &str, claims: QuestionClaims, answer: Answer) -> Delivery {
        if claims.replica == self.replica {
            let heard = self.deliver(holder, claims.number, answer);
            tracing::debug!(message.is_expected = heard, "a question was answered");
            return Delivery::Done;
        }
        let (result, error) = match answer {
            Ok(result) => (Some(result), None),
            Err(fault) => (None, Some((fault.code, fault.message, fault.data))),
        };
        Delivery::Elsewhere {
            replica: claims.replica,
            answered: Answered {
                holder: holder.to_owned(),
                number: claims.number,
                result,
                error,
            },
        }
    }

    /// Hands an answer to who waits for it; whether somebody did.
    fn deliver(&self, holder: &str, number: u64, answer: Answer) -> bool {
        let mut slots = self.slots.lock();
        if slots.open.get(&number).is_none_or(|slot| &*slot.holder != holder) {
            return false;
        }
        slots
            .remove(number)
            .is_some_and(|slot| slot.answer.send(answer).is_ok())
    }

    fn enter(&self, holder: &str, answer: oneshot::Sender<Answer>) -> Result<u64, Error> {
        let mut slots = self.slots.lock();
        let own = slots.per_holder.get(holder).copied().unwrap_or_default();
        if own >= PER_PRINCIPAL || slots.open.len() >= IN_ALL {
            let message = "too many questions are open towards this caller; answer some first";
            return Err(Error::new(Code::Busy, message));
        }
        slots.last += 1;
        let number = slots.last;
        *slots.per_holder.entry(holder.into()).or_default() += 1;
        let holder = holder.into();
        slots.open.insert(number, Slot { holder, answer });
        Ok(number)
    }
}

impl Answered {
    fn into_answer(self) -> Answer {
        match (self.result, self.error) {
            (Some(result), None) => Ok(result),
            (_, Some((code, message, data))) => Err(RpcFault { code, message, data }),
            (None, None) => Err(RpcFault {
                code: -32603,
                message: "the client gave no answer".to_owned(),
                data: None,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use pleiades_core::secret::Secret;
    use pleiades_mcp::seal::Sealer;

    fn questions(replica: &str) -> Questions {
        let sealer = Sealer::new(&[Secret::new("a key of enough bytes")]);
        Questions::new(Tokens::new(Arc::new(sealer)), replica)
    }

    fn accepted() -> Raw {
        raw::raw(&json!({ "action": "accept", "content": {} }))
    }

    #[tokio::test]
    async fn an_answer_reaches_who_asked() {
        let questions = questions("one");
        let (sender, answered) = oneshot::channel();
        let question = questions.open("ann", ELICITATION, sender).unwrap();
        let (delivery, verdict) = questions.answer("ann", &question.id, Ok(accepted())).unwrap();
        assert!(matches!(delivery, Delivery::Done) && verdict.is_ok());
        assert_eq!(answered.await.unwrap().unwrap().get(), accepted().get());
    }

    #[test]
    fn a_question_is_unknown_to_everybody_but_its_own_principal() {
        let questions = questions("one");
        let (sender, _answered) = oneshot::channel();
        let question = questions.open("ann", ELICITATION, sender).unwrap();
        let error = questions.answer("bob", &question.id, Ok(accepted())).unwrap_err();
        assert_eq!(error.code, Code::UnknownQuestion);
        let error = questions
            .answer("ann", &Id(raw::raw(&7)), Ok(accepted()))
            .unwrap_err();
        assert_eq!(error.code, Code::UnknownQuestion);
    }

    #[tokio::test]
    async fn an_answer_that_is_none_ends_its_question_and_is_refused() {
        let questions = questions("one");
        let (sender, answered) = oneshot::channel();
        let question = questions.open("ann", ELICITATION, sender).unwrap();
        let odd = raw::raw(&json!({ "content": {} }));
        let (_, verdict) = questions.answer("ann", &question.id, Ok(odd)).unwrap();
        assert_eq!(verdict.unwrap_err().code, Code::InvalidRequest);
        assert_eq!(answered.await.unwrap().unwrap_err().code, -32602);
    }

    #[test]
    fn an_answer_that_comes_too_late_is_taken_and_means_nothing() {
        let questions = questions("one");
        let (sender, _answered) = oneshot::channel();
        let question = questions.open("ann", ELICITATION, sender).unwrap();
        let id = question.id.clone();
        drop(question);
        let (delivery, verdict) = questions.answer("ann", &id, Ok(accepted())).unwrap();
        assert!(matches!(delivery, Delivery::Done) && verdict.is_ok());
    }

    #[tokio::test]
    async fn an_answer_to_another_replicas_question_is_handed_over_and_taken_there() {
        let (one, two) = (questions("one"), questions("two"));
        let (sender, answered) = oneshot::channel();
        let question = one.open("ann", ELICITATION, sender).unwrap();
        let (delivery, _) = two.answer("ann", &question.id, Ok(accepted())).unwrap();
        let Delivery::Elsewhere {
            replica,
            answered: delivered,
        } = delivery
        else {
            panic!("it is another replica's");
        };
        assert_eq!(replica, "one");
        let delivered = serde_json::to_string(&delivered).unwrap();
        one.take(serde_json::from_str(&delivered).unwrap());
        assert_eq!(answered.await.unwrap().unwrap().get(), accepted().get());
    }

    #[test]
    fn a_principal_has_no_more_questions_open_than_it_may_and_others_still_can() {
        let questions = questions("one");
        let open = |holder: &str| questions.open(holder, "roots/list", oneshot::channel().0);
        let mut own: Vec<_> = (0..PER_PRINCIPAL).map(|_| open("ann").unwrap()).collect();
        assert_eq!(open("ann").unwrap_err().code, Code::Busy);
        drop(open("bob").unwrap());
        own.pop();
        assert!(open("ann").is_ok());
        drop(own);
        assert!(questions.slots.lock().per_holder.is_empty());
    }
}
