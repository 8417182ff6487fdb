//! Calls that wait for their client: a legacy provider asked in the middle of a call, and a client
//! of 2026-07-28 answers with its next request.
//!
//! A parked call lives in this process alone; its state names the replica, and the retry is handed
//! over when it arrives elsewhere. When the process is gone the call is over: it is never made
//! again by itself, because nobody knows what it has done.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::outcome::CallGuard;
use super::plan::CallPlan;
use super::state::CallKey;
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

/// A call that its provider goes on with.
#[derive(Debug)]
pub(super) struct CallUnderway {
    pub(super) plan: Arc<CallPlan>,
    pub(super) conversation: Conversation,
    pub(super) guard: CallGuard,
}

/// A call and what it waits for.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) holder: Box<str>,
    pub(super) of: CallKey,
    pub(super) call: CallUnderway,
    /// Open questions by the key that the client knows them by.
    pub(super) asks: Vec<(String, ProviderRequest)>,
    /// The same as the client was told.
    pub(super) requests: RawObject,
}

/// Parked calls of this process.
#[derive(Debug, Default)]
pub(super) struct Parking(Arc<Mutex<Lot>>);

#[derive(Debug, Default)]
struct Lot {
    calls: HashMap<u64, Parked>,
    last: u64,
}

impl Parked {
    /// Gives the provider the answers that are there; the others stay open.
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
    /// Parks a call until its client comes back, at most ten minutes.
    ///
    /// # Errors
    /// [`Code::Busy`] when the principal has as many parked as it may; the call ends.
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

    /// Takes a call out to go on with it.
    ///
    /// # Errors
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

/// Questions under the keys that a client of 2026-07-28 knows them by, and as it is told them; those
/// that cannot be put are refused.
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
