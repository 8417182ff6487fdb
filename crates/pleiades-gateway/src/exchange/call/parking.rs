//! Calls that wait for their client: a legacy provider asked in the middle of a call, and a client
//! of 2026-07-28 answers with its next request.
//!
//! A parked call lives in this process alone; its state names the replica, and the retry is handed
//! over when it arrives elsewhere. When the process is gone the call is over: it is never made
//! again by itself, because nobody knows what it has done.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::{outcome::CallGuard, plan::CallPlan, state::CallKey};
use crate::exchange::client::{ANSWER_SECS, Conversation, answer_for, is_answer, question_for, unanswerable};
use crate::exchange::fault::malformed_answer;
use pleiades_core::error::{Code, Error};
use pleiades_mcp::{RawObject, Revision};
use pleiades_upstream::ProviderRequest;

/// Calls parked at once for one principal, and in all.
const PER_PRINCIPAL: usize = 32;
const IN_ALL: usize = 4_096;
/// What their questions may take for one principal, and in all (bytes).
const BYTES_PER_PRINCIPAL: usize = 8 * 1024 * 1024;
const BYTES_IN_ALL: usize = 64 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct CallUnderway {
    pub(super) plan: Arc<CallPlan>,
    pub(super) conversation: Conversation,
    pub(super) guard: CallGuard,
}

#[derive(Debug)]
pub(super) struct Parked {
    pub(super) holder: Box<str>,
    pub(super) of: CallKey,
    pub(super) call: CallUnderway,
    /// Open questions by the key that the client knows them by.
    pub(super) asks: Vec<(String, ProviderRequest)>,
    pub(super) requests: RawObject,
}

#[derive(Debug, Default)]
pub(super) struct Parking(Arc<Mutex<Lot>>);

#[derive(Debug, Default)]
struct Lot {
    calls: HashMap<u64, Parked>,
    last: u64,
}

impl Parked {
    pub(super) fn deliver(&mut self, responses: &RawObject) {
        let from = self.call.conversation.from;
        for (key, ask) in std::mem::take(&mut self.asks) {
            let Some(response) = responses.get(&key) else {
                self.asks.push((key, ask));
                continue;
            };
            self.requests.remove(&key);
            let answer = answer_for(&ask.method, response.to_owned(), Revision::V2026_07_28, from);
            ask.answer.send(Ok(answer)).ok();
        }
    }
}

fn gone() -> Error {
    Error::new(
        Code::CallGone,
        "the call that asked is over: it was answered already, took too long, or its process ended; \
         it is not made again by itself, look at what it has done before you do",
    )
    .sent()
}

impl Parking {
    /// At most ten minutes; [`Code::Busy`] when the principal has as many parked as it may: the call ends.
    pub(super) fn park(&self, parked: Parked) -> Result<u64, Error> {
        let mut lot = self.0.lock();
        let own = || lot.calls.values().filter(|it| it.holder == parked.holder);
        let bytes = |of: &Parked| -> usize { of.requests.iter().map(|(_, it)| it.get().len()).sum() };
        let full = own().count() >= PER_PRINCIPAL
            || lot.calls.len() >= IN_ALL
            || own().map(bytes).sum::<usize>() + bytes(&parked) > BYTES_PER_PRINCIPAL
            || lot.calls.values().map(bytes).sum::<usize>() + bytes(&parked) > BYTES_IN_ALL;
        if full {
            drop(lot);
            let message = "too many calls of this caller wait for an answer; answer some first";
            return Err(Error::new(Code::Busy, message).sent());
        }
        lot.last += 1;
        let slot = lot.last;
        lot.calls.insert(slot, parked);
        drop(lot);
        let lot = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(ANSWER_SECS)).await;
            // Dropped outside of the lock: it tells the provider that nobody waits any more.
            let expired = lot.upgrade().and_then(|lot| lot.lock().calls.remove(&slot));
            drop(expired);
        });
        Ok(slot)
    }

    /// [`Code::CallGone`] when it is over, or another retry took it; [`Code::InvalidParams`] for answers
    /// that are none: it stays parked, and can be answered once more.
    pub(super) fn take(
        &self,
        slot: u64,
        holder: &str,
        of: &CallKey,
        responses: &RawObject,
    ) -> Result<Parked, Error> {
        let mut lot = self.0.lock();
        let parked = lot.calls.get(&slot).ok_or_else(gone)?;
        if &*parked.holder != holder || parked.of != *of {
            return Err(gone());
        }
        for (key, ask) in &parked.asks {
            if let Some(response) = responses.get(key)
                && !is_answer(&ask.method, response)
            {
                return Err(malformed_answer(key));
            }
        }
        lot.calls.remove(&slot).ok_or_else(gone)
    }
}

/// Under the keys that a client of 2026-07-28 knows them by, and as it is told them; others are refused.
pub(super) fn asked(
    asks: Vec<ProviderRequest>,
    from: Revision,
) -> (Vec<(String, ProviderRequest)>, RawObject) {
    let mut requests = RawObject::new();
    let mut open = Vec::new();
    for (at, mut ask) in asks.into_iter().enumerate() {
        let params = ask.params.take();
        let Some(params) = question_for(&ask.method, params, from, Revision::V2026_07_28) else {
            let refusal = unanswerable(&ask.method);
            ask.answer.send(refusal).ok();
            continue;
        };
        let key = format!("ask-{}", at + 1);
        let mut request = RawObject::new();
        request.put("method", &ask.method);
        request.set("params", params.close());
        requests.set(&key, request.close());
        open.push((key, ask));
    }
    (open, requests)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::sync::{mpsc, oneshot};

    use super::*;
    use crate::exchange::account::Reached;
    use crate::exchange::call::plan::CallTarget;
    use crate::exchange::call::task_mode::NeedingTasks;
    use crate::exchange::tests::{LEGACY, MODERN, Sent, identity, object, provider, tools};
    use pleiades_core::error::RpcFault;
    use pleiades_core::telemetry::Metrics;
    use pleiades_mcp::{ClientCapabilities, Id, Raw, raw};

    type Answered = oneshot::Receiver<Result<Raw, RpcFault>>;

    fn ask(method: &str, params: &serde_json::Value) -> (ProviderRequest, Answered) {
        let (answer, answered) = oneshot::channel();
        let ask = ProviderRequest {
            id: Id(raw::raw(&1)),
            method: method.to_owned(),
            params: Some(raw::raw(params)),
            answer,
        };
        (ask, answered)
    }

    fn elicitation() -> (ProviderRequest, Answered) {
        ask(
            "elicitation/create",
            &json!({ "message": "who?", "requestedSchema": { "type": "object" } }),
        )
    }

    fn key(name: &str) -> CallKey {
        CallKey::new("one", None, "tools/call", &object(&json!({ "name": name })))
    }

    fn parked(holder: &str, asks: Vec<ProviderRequest>) -> Parked {
        let (asks, requests) = asked(asks, LEGACY);
        let sent = Sent::new(MODERN, ClientCapabilities::FORM);
        let target = CallTarget::method(provider("one"), tools(&[]), "tools/call");
        let permit = target
            .provider
            .gate
            .enter(holder, "acme", None, None)
            .expect("let in");
        let guard = CallGuard::new(permit, Metrics::new().inflight(&target.provider.id));
        let reached = Reached {
            identity: identity(),
            account: None,
        };
        let plan =
            CallPlan::new(&sent.request(), target, &reached, &NeedingTasks::default()).expect("a plan");
        let conversation = Conversation {
            running: Box::pin(std::future::pending()),
            events: mpsc::channel(1).1,
            from: LEGACY,
        };
        Parked {
            holder: holder.into(),
            of: key("t"),
            call: CallUnderway {
                plan: Arc::new(plan),
                conversation,
                guard,
            },
            asks,
            requests,
        }
    }

    fn accepts() -> RawObject {
        object(&json!({ "ask-1": { "action": "accept", "content": {} } }))
    }

    #[tokio::test]
    async fn a_parked_call_is_taken_once_by_its_own_principal_and_call() {
        let parking = Parking::default();
        let slot = parking.park(parked("ann", vec![elicitation().0])).unwrap();
        let take = |holder: &str, name: &str| parking.take(slot, holder, &key(name), &accepts());
        assert_eq!(take("bob", "t").unwrap_err().code, Code::CallGone);
        assert_eq!(take("ann", "u").unwrap_err().code, Code::CallGone);
        assert_eq!(take("ann", "t").unwrap().asks.len(), 1);
        assert_eq!(
            take("ann", "t").unwrap_err().code,
            Code::CallGone,
            "another retry took it"
        );
    }

    #[tokio::test]
    async fn an_answer_that_is_none_leaves_the_call_parked_to_be_answered_once_more() {
        let parking = Parking::default();
        let slot = parking.park(parked("ann", vec![elicitation().0])).unwrap();
        let odd = object(&json!({ "ask-1": { "action": "perhaps" } }));
        let error = parking.take(slot, "ann", &key("t"), &odd).unwrap_err();
        assert_eq!(error.code, Code::InvalidParams);
        assert!(parking.take(slot, "ann", &key("t"), &accepts()).is_ok());
    }

    #[tokio::test]
    async fn a_principal_parks_no_more_calls_than_it_may_and_others_still_can() {
        let parking = Parking::default();
        for _ in 0..PER_PRINCIPAL {
            parking.park(parked("ann", Vec::new())).unwrap();
        }
        assert_eq!(
            parking.park(parked("ann", Vec::new())).unwrap_err().code,
            Code::Busy
        );
        assert!(parking.park(parked("bob", Vec::new())).is_ok());
    }

    #[tokio::test]
    async fn the_questions_of_one_principal_take_no_more_bytes_than_they_may() {
        let parking = Parking::default();
        let large = |holder: &str| {
            let mut parked = parked(holder, Vec::new());
            parked.requests.put("ask-1", &"x".repeat(BYTES_PER_PRINCIPAL / 2));
            parking.park(parked)
        };
        assert!(large("ann").is_ok());
        assert_eq!(large("ann").unwrap_err().code, Code::Busy);
        assert!(large("bob").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_whose_client_does_not_come_back_is_over() {
        let parking = Parking::default();
        let (ask, answered) = elicitation();
        let slot = parking.park(parked("ann", vec![ask])).unwrap();
        tokio::time::sleep(Duration::from_secs(ANSWER_SECS + 1)).await;
        assert_eq!(
            parking.take(slot, "ann", &key("t"), &accepts()).unwrap_err().code,
            Code::CallGone
        );
        assert!(answered.await.is_err(), "its provider hears that nobody answers");
    }

    #[tokio::test]
    async fn answers_that_are_there_are_given_and_the_others_stay_open() {
        let ((first, answered), (second, _open)) = (elicitation(), elicitation());
        let mut parked = parked("ann", vec![first, second]);
        parked.deliver(&accepts());
        assert!(answered.await.unwrap().unwrap().get().contains("accept"));
        let keys: Vec<&str> = parked.asks.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["ask-2"]);
        assert!(parked.requests.get("ask-1").is_none() && parked.requests.get("ask-2").is_some());
    }

    #[tokio::test]
    async fn a_question_that_cannot_be_put_is_refused_at_once() {
        let (odd, answered) = ask("elicitation/create", &json!({ "mode": "telepathy" }));
        let (open, requests) = asked(vec![odd], LEGACY);
        assert!(open.is_empty() && requests.is_empty());
        assert!(answered.await.unwrap().unwrap().get().contains("decline"));
    }
}
