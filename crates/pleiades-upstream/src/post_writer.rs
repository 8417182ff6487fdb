//! Messages to a provider of 2024-11-05: each is a POST, and the answer comes on the event stream.

use std::{sync::Arc, time::Duration};

use parking_lot::RwLock;
use tokio::{sync::Semaphore, task::JoinHandle, time::Instant};
use url::Url;

use super::{
    endpoint::Endpoint,
    incoming::{LARGEST, is_type},
    post::{self, RequestHead},
    refusal::SessionKind,
    response::{self, CallFailure, Reading},
    shared::Shared,
    wire::{MAX_IN_FLIGHT, WireReader},
};
use pleiades_core::error::{Code, Error};
use pleiades_core::signature::Signature;
use pleiades_mcp::Revision;

/// How long the rest of a response that says nothing is read, so that its connection can be used
/// again, and how much of it.
const LINGER: Duration = Duration::from_secs(1);
const NOTHING: usize = 64 * 1024;

pub(crate) struct PostWriter {
    address: Url,
    endpoint: Arc<Endpoint>,
    signature: RwLock<Arc<Signature>>,
    reader: WireReader,
    /// Bounds messages on their way, those of callers that are gone included.
    room: Arc<Semaphore>,
}

struct OutboundMessage {
    id: Option<u64>,
    body: Vec<u8>,
    revision: Option<Revision>,
    deadline: Instant,
    address: Url,
    endpoint: Arc<Endpoint>,
    signature: Arc<Signature>,
    reader: WireReader,
}

impl PostWriter {
    pub(crate) fn new(
        address: Url,
        endpoint: &Arc<Endpoint>,
        signature: &Arc<Signature>,
        reader: WireReader,
    ) -> Self {
        Self {
            address,
            endpoint: Arc::clone(endpoint),
            signature: RwLock::new(Arc::clone(signature)),
            reader,
            room: Arc::new(Semaphore::new(2 * MAX_IN_FLIGHT)),
        }
    }

    pub(crate) fn sign(&self, signature: &Arc<Signature>) {
        if !Arc::ptr_eq(&self.signature.read(), signature) {
            *self.signature.write() = Arc::clone(signature);
        }
    }

    /// Sends a message; it goes on its way whether or not anybody waits for it. A request that is refused is
    /// answered with the refusal; of a message without an answer the task returns it.
    /// Errors: `Busy` when too many are on their way, `ShuttingDown`.
    pub(crate) fn send(
        &self,
        id: Option<u64>,
        body: Vec<u8>,
        revision: Option<Revision>,
        deadline: Instant,
    ) -> Result<JoinHandle<Result<(), Error>>, Error> {
        let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() else {
            let message = "the provider takes messages too slowly";
            return Err(Error::new(Code::Busy, message).retry_after(Duration::from_secs(1)));
        };
        let shared = Shared::upgrade(&self.reader.state.shared)?;
        let outbound = OutboundMessage {
            id,
            body,
            revision,
            deadline,
            address: self.address.clone(),
            endpoint: Arc::clone(&self.endpoint),
            signature: Arc::clone(&self.signature.read()),
            reader: self.reader.clone(),
        };
        Ok(shared.control.spawn(async move {
            let stop = outbound.reader.state.stop.clone();
            let sent = stop.run_until_cancelled(outbound.send()).await;
            drop(permit);
            sent.unwrap_or(Ok(()))
        }))
    }
}

impl OutboundMessage {
    async fn send(self) -> Result<(), Error> {
        let (id, state) = (self.id, Arc::clone(&self.reader.state));
        let Err(failure) = self.deliver().await else {
            return Ok(());
        };
        let gone = matches!(failure, CallFailure::SessionGone(_));
        let mut error = Error::from(failure);
        if gone {
            // The provider refused before it looked at the message: another stream may do.
            error.code = Code::UpstreamUnreachable;
            error.sent = false;
        }
        let Some(id) = id else {
            return Err(error);
        };
        // A server may keep a POST until the request is done, and the caller has a deadline of its own.
        if error.code != Code::UpstreamTimeout || !error.sent {
            state.answer(id, Err(error));
        }
        if gone {
            state.end(false);
        }
        Ok(())
    }

    async fn deliver(self) -> Result<(), CallFailure> {
        let shared = Shared::upgrade(&self.reader.state.shared)?;
        let route = shared.clients.route(&self.endpoint)?;
        drop(shared);
        let head = RequestHead {
            to: Some(self.address),
            // The header is of 2025-06-18; older servers need not know it.
            revision: self
                .revision
                .filter(|revision| *revision >= Revision::V2025_06_18),
            ..RequestHead::default()
        };
        let response = post::post(&route, &self.signature, head, self.body.into(), self.deadline).await?;
        let status = response.status();
        if !status.is_success() {
            let reading = Reading {
                // The stream is the session.
                session: SessionKind::Named,
                ..Reading::alone(self.id.unwrap_or_default(), self.deadline, &self.signature)
            };
            let refusal = response::read_refusal(response, &reading).await?;
            match (self.id, refusal) {
                (Some(id), refusal) => drop(self.reader.state.answer(id, Ok(refusal))),
                (None, Err(fault)) => return Err(CallFailure::Final(Error::rpc(fault))),
                (None, Ok(_)) => {}
            }
        } else if is_type(response.headers(), "application/json") {
            // Some servers answer here, as later revisions do.
            let body = response::read_whole(response, LARGEST, self.deadline).await?;
            self.reader.receive(&body);
        } else {
            let soon = Instant::now() + LINGER;
            response::read_whole(response, NOTHING, soon).await.ok();
        }
        Ok(())
    }
}
