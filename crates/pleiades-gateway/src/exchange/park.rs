//! Calls that wait for their client: a legacy provider asked in the middle of a call, and a client
//! of 2026-07-28 answers with its next request.
//!
//! A parked call lives in this process alone; its state names the replica, and the retry is handed
//! over when it arrives elsewhere. When the process is gone the call is over: it is never made
//! again by itself, because nobody knows what it has done.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::Exchange;
use super::ask::{self, PATIENCE_SECS};
use super::handover::Retry;
use super::outward::{Came, malformed, opened};
use super::state::{Of, State};
use super::talk::{Followed, Talk, Underway};
use pleiades_core::error::{Code, Error};
use pleiades_mcp::{RawObject, Revision};
use pleiades_upstream::ProviderRequest;

/// Calls parked at once for one principal, and in all.
const PER_PRINCIPAL: usize = 32;
const IN_ALL: usize = 4_096;
/// What their questions may take for one principal, and in all (bytes).
const BYTES_PER_PRINCIPAL: usize = 8 * 1024 * 1024;
const BYTES_IN_ALL: usize = 64 * 1024 * 1024;

/// A call and what it waits for.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) holder: Box<str>,
    pub(super) of: Of,
    pub(super) underway: Underway,
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

impl Exchange {
    /// Parks a call and tells its client what is asked.
    ///
    /// # Errors
    /// [`Code::Busy`].
    pub(super) fn parked(
        &self,
        holder: &str,
        of: Of,
        asks: Vec<ProviderRequest>,
        underway: Underway,
    ) -> Result<Came, Error> {
        let from = underway.from;
        let mut requests = RawObject::new();
        let mut open = Vec::new();
        for (at, mut ask) in asks.into_iter().enumerate() {
            let params = ask.params.take();
            let Some(params) = ask::put(&ask.method, params, from, Revision::V2026_07_28) else {
                let refusal = ask::unasked(&ask.method);
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
        self.park(Parked {
            holder: holder.into(),
            of,
            underway,
            asks: open,
            requests,
        })
    }

    fn park(&self, parked: Parked) -> Result<Came, Error> {
        self.sessions.sealed()?;
        let (holder, of) = (parked.holder.clone(), parked.of.clone());
        let requests = parked.requests.close();
        let slot = self.parking.park(parked)?;
        let replica = self.shared.replica().to_owned();
        let mut result = RawObject::new();
        result.put("resultType", "input_required");
        result.set("inputRequests", requests);
        let state = self.seal_state(&holder, of, State::Parked { replica, slot });
        result.put("requestState", &state);
        Ok(Came::Asked(result.close()))
    }

    /// Goes on with a parked call of this process: its provider gets the answers, and what is
    /// still open is asked again.
    ///
    /// # Errors
    /// [`Code::CallGone`] when the call is over; else what the call comes to.
    pub(super) async fn resume(&self, talk: &Talk<'_>, retry: Retry) -> Result<Came, Error> {
        let Retry {
            holder,
            of,
            slot,
            responses,
            ..
        } = retry;
        let Parked {
            underway,
            asks,
            mut requests,
            ..
        } = self.parking.take(slot, &holder, &of, &responses)?;
        let from = underway.from;
        let mut open = Vec::new();
        for (key, ask) in asks {
            let Some(response) = responses.get(&key) else {
                open.push((key, ask));
                continue;
            };
            requests.remove(&key);
            let said = ask::said(&ask.method, response.to_owned(), Revision::V2026_07_28, from);
            ask.answer.send(Ok(said)).ok();
        }
        if !open.is_empty() {
            return self.park(Parked {
                holder: holder.into(),
                of,
                underway,
                asks: open,
                requests,
            });
        }
        let (provider, method) = (Arc::clone(&underway.provider), underway.method);
        match talk.follow(underway).await {
            Followed::Asked(asks, underway) => self.parked(&holder, of, asks, *underway),
            Followed::Done(outcome, held) => {
                held.conclude(self, &provider, outcome.as_ref().map(|_| ()));
                match outcome {
                    Ok(result) => Ok(Came::Result(opened(result)?, from)),
                    Err(error) => talk.failing(&provider, method, error, from),
                }
            }
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
            tokio::time::sleep(Duration::from_secs(PATIENCE_SECS)).await;
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
        of: &Of,
        responses: &RawObject,
    ) -> Result<Parked, Error> {
        let mut lot = self.0.lock();
        let parked = lot.calls.get(&slot).ok_or_else(gone)?;
        if &*parked.holder != holder || parked.of != *of {
            return Err(gone());
        }
        for (key, ask) in &parked.asks {
            if let Some(response) = responses.get(key)
                && !ask::is_answer(&ask.method, response)
            {
                return Err(malformed(key));
            }
        }
        lot.calls.remove(&slot).ok_or_else(gone)
    }
}
