//! Requests over a wire: to a child process, or over the event stream of 2024-11-05.

use std::sync::Arc;

use http::StatusCode;
use tokio::time::{Instant, timeout_at};

use super::{
    call::Call,
    health::{self, PING},
    incoming::RpcResult,
    outgoing::{RequestMeta, encode},
    pool::PoolLease,
    provider_client::ProviderClient,
    shared::Shared,
    summary::ResponseSummary,
    wire::Wire,
    wire_start,
};
use pleiades_core::error::{Code, Error, RpcFault};
use pleiades_mcp::{Raw, RawObject, message};

impl ProviderClient<'_> {
    /// One request. It is repeated once when the wire broke and it may run twice, or never ran.
    pub(super) async fn request_wired(self, mut call: Call) -> Result<Raw, Error> {
        let deadline = Instant::from_std(call.deadline);
        let mut repeated = false;
        loop {
            let wire = self.wire(deadline).await?;
            let error = match self.attempt_wired(&mut call, &wire, deadline).await {
                Ok(Ok(result)) => {
                    wire.health.record_success();
                    return Ok(result);
                }
                Ok(Err(fault)) => {
                    let forgotten = Box::pin(self.is_forgotten(&call, &wire, &fault)).await;
                    if !forgotten || repeated {
                        return Err(Error::rpc(fault));
                    }
                    repeated = true;
                    continue;
                }
                Err(error) => error,
            };
            if repeated || !may_repeat(&error, call.idempotent) {
                self.check_wire(&wire, &error);
                return Err(error);
            }
            self.discard_wire(&wire);
            repeated = true;
        }
    }

    /// Takes a wire out of the pool; whoever uses it still ends what was begun.
    fn discard_wire(self, wire: &PoolLease<Wire>) {
        self.shared.wires(self.endpoint).discard(wire.key(), wire);
    }

    /// Whether an error says that the handshake is not known any more, as behind a program that starts its own
    /// child again, and `ping` agrees: then the wire is dropped and the request may be made on another. One that
    /// refuses twice alike is dropped too; what a tool answers never counts.
    async fn is_forgotten(self, call: &Call, wire: &PoolLease<Wire>, fault: &RpcFault) -> bool {
        let Some(may_repeat) = wire.health.record_fault(call, fault) else {
            return false;
        };
        if answers_ping(self.shared, wire).await {
            return false;
        }
        self.discard_wire(wire);
        may_repeat
    }

    /// Drops a wire that failed twice alike, unless it answers `ping`; its caller has waited long enough.
    fn check_wire(self, wire: &PoolLease<Wire>, error: &Error) {
        if !wire.health.record_error(error) {
            return;
        }
        let (shared, endpoint) = (Arc::clone(self.shared), Arc::clone(self.endpoint));
        let (wire, key) = (Arc::clone(wire), self.key(None));
        self.shared.detach(async move {
            if !answers_ping(&shared, &wire).await {
                shared.wires(&endpoint).discard(&key, &wire);
            }
        });
    }

    async fn attempt_wired(
        self,
        call: &mut Call,
        wire: &PoolLease<Wire>,
        deadline: Instant,
    ) -> Result<RpcResult, Error> {
        let handshake = wire.handshake.get();
        let revision = handshake.map_or(call.revision, |handshake| handshake.revision);
        if revision.is_modern() != call.revision.is_modern() {
            let message = "the provider speaks another revision than it did";
            return Err(Error::new(Code::UnsupportedRevision, message));
        }
        let id = self.shared.next_id();
        let token = call.token.unwrap_or(id);
        let meta = RequestMeta {
            revision,
            declared: self.declared,
            progress: call.progress.then_some(token),
        };
        let sent = encode(id, call.method, &mut call.params, meta);
        let registered = self.register(call, wire.key(), token, deadline);
        let timer = registered.as_ref().map(|(timer, _)| &**timer);
        wire.request(id, sent.body, deadline, timer).await
    }

    /// The wire of this caller, begun when there is none.
    pub(crate) async fn wire(self, deadline: Instant) -> Result<PoolLease<Wire>, Error> {
        let key = self.key(None);
        let signature = &self.identity.signature;
        if let Some(lease) = self.shared.wires(self.endpoint).ready(&key) {
            lease.sign(signature);
            return Ok(lease);
        }
        // Starting goes on when the caller goes away: the next one would start from nothing.
        let client = self.into_owned();
        let starting = self.shared.control.spawn(async move {
            let started = Box::pin(wire_start::start(client.borrow(), &key));
            let wires = client.shared.wires(&client.endpoint);
            wires.lease(&key, client.endpoint.idle, started).await
        });
        match timeout_at(deadline, starting).await {
            Ok(Ok(leased)) => leased,
            Ok(Err(error)) => {
                Err(Error::new(Code::Internal, "starting with the provider broke off").because(error))
            }
            Err(_elapsed) => {
                let message = "the provider's process or stream was not ready in time";
                let cause = "not ready within `upstream.timeouts`: `connect` and `call`";
                Err(Error::new(Code::UpstreamTimeout, message).because(cause))
            }
        }
    }
}

async fn answers_ping(shared: &Shared, wire: &Wire) -> bool {
    let id = shared.next_id();
    let body = message::request(id, "ping", &RawObject::new());
    let asked = wire.request(id, body, Instant::now() + PING, None);
    let lives = asked.await.is_ok_and(|outcome| health::is_alive(&outcome));
    if !lives {
        tracing::info!(
            provider.name = wire.provider(),
            "a process or stream that answers no ping is given up"
        );
    }
    lives
}

/// Only a death is cured by another wire; a limit of the provider is not.
fn may_repeat(error: &Error, idempotent: bool) -> bool {
    let is_limit = ResponseSummary::status(error) == Some(StatusCode::TOO_MANY_REQUESTS);
    !is_limit && error.code == Code::UpstreamUnreachable && (!error.sent || idempotent)
}
