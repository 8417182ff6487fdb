//! Questions that are open towards clients: each with a sealed id, so that an answer finds the
//! process that waits for it, and only its own principal can give it.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::Exchange;
use super::outward::malformed;
use super::session::now;
use pleiades_core::error::{Code, Error, RpcFault};
use pleiades_mcp::{Id, Raw, RawObject, Revision, elicit, raw, reserved, sampling, task};

/// How long an answer is waited for (seconds); a person may have to find a document first.
pub(super) const PATIENCE_SECS: u64 = 600;
/// Questions open at once for one principal, and in all.
const PER_PRINCIPAL: usize = 64;
const IN_ALL: usize = 16_384;
/// Largest question that is put (bytes): it is kept until it is answered.
const LARGEST: usize = 4 * 1024 * 1024;
const PURPOSE: &str = "question";
const ELICITATION: &str = "elicitation/create";

/// What a client says to a question.
pub(super) type Outcome = Result<Raw, RpcFault>;

/// Open questions of this process.
#[derive(Debug, Default)]
pub(super) struct Asking(Arc<Mutex<Slots>>);

#[derive(Debug, Default)]
struct Slots {
    open: HashMap<u64, Slot>,
    held: HashMap<Box<str>, usize>,
    last: u64,
}

#[derive(Debug)]
struct Slot {
    holder: Box<str>,
    answer: oneshot::Sender<Outcome>,
}

/// A question that is open until it is answered or dropped.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) id: Id,
    number: u64,
    slots: Arc<Mutex<Slots>>,
}

/// What the id of a question says.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    replica: String,
    number: u64,
    /// Whether it asks a person, so that what answers it is known.
    #[serde(default)]
    elicits: bool,
}

/// What one replica hands to another: an answer to its question.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answered {
    pub(super) holder: String,
    pub(super) number: u64,
    pub(super) result: Option<Raw>,
    pub(super) error: Option<(i64, String, Option<Raw>)>,
}

impl Slots {
    fn remove(&mut self, number: u64) -> Option<Slot> {
        let slot = self.open.remove(&number)?;
        if let Some(count) = self.held.get_mut(&slot.holder) {
            *count -= 1;
            if *count == 0 {
                self.held.remove(&slot.holder);
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

impl Asking {
    /// Hands an answer to who waits for it; whether somebody did.
    pub(super) fn deliver(&self, holder: &str, number: u64, outcome: Outcome) -> bool {
        let mut slots = self.0.lock();
        if slots.open.get(&number).is_none_or(|slot| &*slot.holder != holder) {
            return false;
        }
        slots
            .remove(number)
            .is_some_and(|slot| slot.answer.send(outcome).is_ok())
    }

    fn enter(&self, holder: &str, answer: oneshot::Sender<Outcome>) -> Result<u64, Error> {
        let mut slots = self.0.lock();
        let held = slots.held.get(holder).copied().unwrap_or_default();
        if held >= PER_PRINCIPAL || slots.open.len() >= IN_ALL {
            let message = "too many questions are open towards this caller; answer some first";
            return Err(Error::new(Code::Busy, message));
        }
        slots.last += 1;
        let number = slots.last;
        *slots.held.entry(holder.into()).or_default() += 1;
        let holder = holder.into();
        slots.open.insert(number, Slot { holder, answer });
        Ok(number)
    }
}

impl Exchange {
    /// Opens a question to a principal.
    ///
    /// # Errors
    /// [`Code::Busy`] when it has as many open as it may; [`Code::CredentialStore`] while nothing can
    /// be sealed.
    pub(super) fn question(
        &self,
        holder: &str,
        method: &str,
        answer: oneshot::Sender<Outcome>,
    ) -> Result<Question, Error> {
        self.sessions.sealed()?;
        let number = self.asking.enter(holder, answer)?;
        let claims = Claims {
            replica: self.shared.replica().to_owned(),
            number,
            elicits: method == ELICITATION,
        };
        let sealed = self.sessions.sealer().seal(
            PURPOSE,
            holder,
            now() + PATIENCE_SECS,
            raw::raw(&claims).get().as_bytes(),
        );
        Ok(Question {
            id: Id(raw::raw(&sealed)),
            number,
            slots: Arc::clone(&self.asking.0),
        })
    }

    /// A client's answer. One that comes too late is taken and means nothing. One that is none ends its
    /// question: who asked hears at once that there is no answer, instead of waiting for it.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] for an answer that is none; [`Code::UnknownQuestion`] for an id that no question
    /// of this principal has, and for one that another replica asked and cannot be reached.
    pub(super) async fn answered(&self, holder: &str, id: &Id, outcome: Outcome) -> Result<(), Error> {
        let claims = self.claims(holder, id).ok_or_else(|| {
            Error::new(
                Code::UnknownQuestion,
                "this answers no question that is open to this caller",
            )
        })?;
        let wrong = match &outcome {
            Ok(result) if claims.elicits => !is_answer(ELICITATION, result),
            _ => false,
        };
        if wrong {
            let error = malformed("elicitation/create");
            let fault = RpcFault {
                code: -32602,
                message: error.message.to_string(),
                data: None,
            };
            self.delivered(holder, claims, Err(fault)).await?;
            // What POSTs a response hears by the status that it was not taken (streamable HTTP, "Sending Messages").
            return Err(Error::new(Code::InvalidRequest, error.message));
        }
        self.delivered(holder, claims, outcome).await
    }

    /// Brings an answer to who waits for it, here or at another replica.
    async fn delivered(&self, holder: &str, claims: Claims, outcome: Outcome) -> Result<(), Error> {
        if claims.replica == self.shared.replica() {
            let heard = self.asking.deliver(holder, claims.number, outcome);
            tracing::debug!(heard, "a question was answered");
            return Ok(());
        }
        let (result, error) = match outcome {
            Ok(result) => (Some(result), None),
            Err(fault) => (None, Some((fault.code, fault.message, fault.data))),
        };
        let answered = Answered {
            holder: holder.to_owned(),
            number: claims.number,
            result,
            error,
        };
        self.hand_answer(&claims.replica, answered).await
    }

    fn claims(&self, holder: &str, id: &Id) -> Option<Claims> {
        let token: String = serde_json::from_str(id.as_str()).ok()?;
        let opened = self.sessions.sealer().open(PURPOSE, holder, now(), &token)?;
        serde_json::from_slice(&opened).ok()
    }
}

impl Answered {
    pub(super) fn outcome(self) -> Outcome {
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

/// A question of a peer of `from` as one of `to` can take it; `None` where it cannot be put.
pub(super) fn put(method: &str, params: Option<Raw>, from: Revision, to: Revision) -> Option<RawObject> {
    let mut params = match params {
        Some(params) if params.get().len() > LARGEST => return None,
        Some(params) => RawObject::open(&params).ok()?,
        None => RawObject::new(),
    };
    if method == ELICITATION && !elicit::is_question(&params) {
        return None;
    }
    reserved::strip_params(&mut params);
    task::strip_related(&mut params);
    match method {
        ELICITATION => elicit::elicitation(params, from, to),
        "sampling/createMessage" => sampling::sampling(params, from, to),
        _ => Some(params),
    }
}

/// The answer of a peer of `from` as one of `to` understands it.
pub(super) fn said(method: &str, result: Raw, from: Revision, to: Revision) -> Raw {
    let Ok(opened) = RawObject::open(&result) else {
        return result;
    };
    match method {
        ELICITATION => elicit::elicited(opened, from, to).close(),
        "sampling/createMessage" => sampling::sampled(opened, from, to).map_or(result, |it| it.close()),
        _ => result,
    }
}

/// Whether what came back answers a question of this method: an elicitation says what a person did.
pub(super) fn is_answer(method: &str, result: &RawValue) -> bool {
    method != ELICITATION || RawObject::open(result).is_ok_and(|result| elicit::is_answer(&result))
}

/// The answer to a question that nobody can be asked.
pub(super) fn unasked(method: &str) -> Outcome {
    if method == ELICITATION {
        return Ok(raw::raw(&serde_json::json!({ "action": "decline" })));
    }
    Err(RpcFault {
        code: -32601,
        message: "this client offers no such method".to_owned(),
        data: None,
    })
}
