//! Requests over a wire, to a child process or over the event stream of 2024-11-05, and the
//! handshake that makes one ready.
//!
//! A wire speaks one generation: the modern one when `server/discover` says so, else whatever
//! `initialize` settles on. So one wire serves callers of every generation.

use std::{sync::Arc, time::Duration};

use futures_util::future::{Either, select};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{
    call::{Call, Profile},
    deadline::Deadline,
    endpoint::{Endpoint, Identity, Transport},
    health::{self, PING},
    incoming::{self, RpcResult},
    lost,
    outgoing::{self, RequestMeta, encode},
    pool::{PoolKey, PoolLease},
    probe,
    process::{self, Program},
    session::{HandshakeError, parse_initialize},
    shared::Shared,
    sse_wire,
    wire::{Handshake as Spoken, Wire},
};
use pleiades_core::error::{Code, Error, RpcFault};
use pleiades_core::signature::Signature;
use pleiades_mcp::raw::raw;
use pleiades_mcp::{DeclaredCapabilities, Raw, RawObject, Revision, Revisions, message};

/// A restart that is due within this time is waited for, a later one refused.
const SOON: Duration = Duration::from_secs(1);

/// One provider behind a wire as one caller sees it.
#[derive(Clone, Copy)]
pub(crate) struct WireClient<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) endpoint: &'a Arc<Endpoint>,
    pub(crate) identity: &'a Identity,
    /// What may be asked of the caller.
    pub(crate) declared: &'a DeclaredCapabilities,
}

impl WireClient<'_> {
    /// One request. It is repeated once when the wire broke and it may run twice, or never ran.
    pub(crate) async fn request(self, mut call: Call) -> Result<Raw, Error> {
        let deadline = Instant::from_std(call.deadline);
        let mut repeated = false;
        loop {
            let wire = self.wire(deadline).await?;
            let error = match self.attempt(&mut call, &wire, deadline).await {
                Ok(Ok(result)) => {
                    wire.health.record_success();
                    return Ok(result);
                }
                Ok(Err(fault)) => {
                    let disowned = Box::pin(self.is_forgotten(&call, &wire, &fault)).await;
                    if !disowned || repeated {
                        return Err(Error::rpc(fault));
                    }
                    repeated = true;
                    continue;
                }
                Err(error) => error,
            };
            if repeated || !may_repeat(&error, call.idempotent) {
                self.drop_if_dead(&wire, &error);
                return Err(error);
            }
            self.discard(&wire);
            repeated = true;
        }
    }

    /// Takes a wire out of the pool; whoever uses it still ends what was begun.
    fn discard(self, wire: &PoolLease<Wire>) {
        self.shared.wires(self.endpoint).discard(&self.key(), wire);
    }

    /// Whether an error says that the handshake is not known any more, as behind a program that starts its own
    /// child again, and `ping` agrees: then the wire is dropped and the request may be made on another. One that
    /// refuses twice alike is dropped too; what a tool answers never counts.
    async fn is_forgotten(self, call: &Call, wire: &PoolLease<Wire>, fault: &RpcFault) -> bool {
        let named = lost::names_lost_session(fault);
        let again =
            call.method != "tools/call" && wire.health.record_failure(health::fault_fingerprint(fault));
        if !(named || again) || answers_ping(self.shared, wire).await {
            return false;
        }
        self.discard(wire);
        named || call.idempotent
    }

    /// Drops a wire that failed twice alike, unless it answers `ping`; the caller has waited long enough.
    fn drop_if_dead(self, wire: &PoolLease<Wire>, error: &Error) {
        let again = health::fingerprint(error).is_some_and(|sign| wire.health.record_failure(sign));
        if !again {
            return;
        }
        let (shared, endpoint) = (Arc::clone(self.shared), Arc::clone(self.endpoint));
        let (wire, key) = (Arc::clone(wire), self.key());
        self.shared.detach(async move {
            if !answers_ping(&shared, &wire).await {
                shared.wires(&endpoint).forget(&key, &wire);
            }
        });
    }

    async fn attempt(
        self,
        call: &mut Call,
        wire: &PoolLease<Wire>,
        deadline: Instant,
    ) -> Result<RpcResult, Error> {
        let revision = wire
            .handshake
            .get()
            .map_or(call.revision, |manner| manner.revision);
        if revision.is_modern() != call.revision.is_modern() {
            let message = "the provider speaks another revision than it did";
            return Err(Error::new(Code::UnsupportedRevision, message));
        }
        let id = self.shared.next_id();
        let token = call.token.unwrap_or(id);
        let manner = RequestMeta {
            revision,
            declared: self.declared,
            progress: call.progress.then_some(token),
        };
        let sent = encode(id, call.method, &mut call.params, manner);
        let Some(events) = &call.events else {
            return wire.request(id, sent.body, deadline, None).await;
        };
        let timer = Deadline::until(deadline);
        let recipient = (self.identity.session.as_ref(), events.clone());
        let _place = self
            .shared
            .hubs
            .register_call(wire.key(), token, recipient, &timer);
        wire.request(id, sent.body, deadline, Some(&timer)).await
    }

    /// The wire of this caller, begun when there is none.
    pub(crate) async fn wire(self, deadline: Instant) -> Result<PoolLease<Wire>, Error> {
        let key = self.key();
        let signature = &self.identity.signature;
        if let Some(lease) = self.shared.wires(self.endpoint).ready(&key) {
            lease.sign(signature);
            return Ok(lease);
        }
        // Starting goes on when the caller goes away: the next one would start from nothing.
        let (shared, endpoint) = (Arc::clone(self.shared), Arc::clone(self.endpoint));
        let (declared, signature) = (self.declared.clone(), Arc::clone(signature));
        let starting = self.shared.control.spawn(async move {
            let starting = WireStart {
                shared: &shared,
                endpoint: &endpoint,
                signature: &signature,
                key: &key,
                declared: &declared,
                deadline: Instant::now() + endpoint.start_timeout(),
            };
            let started = Box::pin(starting.run());
            shared.wires(&endpoint).lease(&key, endpoint.idle, started).await
        });
        match timeout_at(deadline, starting).await {
            Ok(Ok(leased)) => leased,
            Ok(Err(error)) => {
                Err(Error::new(Code::Internal, "starting with the provider broke off").because(error))
            }
            Err(elapsed) => {
                let message = "the provider's process or stream was not ready in time";
                Err(Error::new(Code::UpstreamTimeout, message).because(elapsed))
            }
        }
    }

    pub(crate) fn key(self) -> PoolKey {
        PoolKey::of(self.endpoint, self.identity, None, self.declared.abilities)
    }
}

/// Whether a wire answers `ping`.
async fn answers_ping(shared: &Shared, wire: &Wire) -> bool {
    let id = shared.next_id();
    let body = message::request(id, "ping", &RawObject::new());
    let asked = wire.request(id, body, Instant::now() + PING, None);
    let lives = asked.await.is_ok_and(|outcome| health::is_alive(&outcome));
    if !lives {
        tracing::info!(?wire, "a process or stream that answers no ping is given up");
    }
    lives
}

/// Only a death is cured by another wire.
fn may_repeat(error: &Error, idempotent: bool) -> bool {
    error.code == Code::UpstreamUnreachable && (!error.sent || idempotent)
}

/// The beginning of a wire: a process or stream, and the handshake with it.
#[derive(Clone, Copy)]
struct WireStart<'a> {
    shared: &'a Arc<Shared>,
    endpoint: &'a Arc<Endpoint>,
    signature: &'a Arc<Signature>,
    key: &'a PoolKey,
    declared: &'a DeclaredCapabilities,
    deadline: Instant,
}

/// What the question for the generation brought.
enum Probed {
    Modern(Profile),
    Legacy(RpcResult),
    Unknown,
    Dead,
}

impl WireStart<'_> {
    /// Begins and shakes hands, not sooner than earlier deaths allow.
    async fn run(self) -> Result<Arc<Wire>, Error> {
        let (shared, key) = (self.shared, self.key);
        if shared.closing.is_cancelled() {
            return Err(Error::new(Code::ShuttingDown, "the gateway is ending"));
        }
        let delay = shared.restarts.delay(key, Instant::now());
        if delay > SOON {
            let why = shared.restarts.why(key).unwrap_or_default();
            let message = format!("the provider keeps ending and is started again later: {why}");
            return Err(Error::new(Code::UpstreamUnreachable, message).retry_after(delay));
        }
        sleep(delay).await;
        let started = match self.open().await {
            Ok(wire) => self.handshake(wire).await,
            Err(error) => {
                // Connecting costs little: only programs that cannot start are held back for it.
                if let Transport::Stdio { .. } = self.endpoint.target {
                    let why = error.message.as_ref();
                    shared.restarts.record_failure(key, false, Instant::now(), why);
                }
                return Err(unsent(error));
            }
        };
        started.map_err(|error| {
            // A death is noted by who notices it; a handshake that failed is noted here.
            if !matches!(error.code, Code::UpstreamUnreachable | Code::UpstreamAuth) {
                let why = error.message.as_ref();
                shared.restarts.record_failure(key, false, Instant::now(), why);
            }
            unsent(error)
        })
    }

    async fn open(self) -> Result<Arc<Wire>, Error> {
        let (shared, endpoint, key) = (self.shared, self.endpoint, self.key);
        match &endpoint.target {
            Transport::Stdio { command, env, folder } => {
                process::spawn(shared, &endpoint.provider, key, &Program { command, env, folder })
            }
            Transport::Http { .. } => {
                sse_wire::connect(shared, endpoint, self.signature, key, self.deadline).await
            }
        }
    }

    async fn handshake(self, wire: Arc<Wire>) -> Result<Arc<Wire>, Error> {
        let asked = match self.endpoint.revision {
            Some(revision) if revision.is_modern() => {
                let outcome = self.discover(&wire).await?;
                let profile = modern_profile(&outcome.map_err(Error::rpc)?).ok_or_else(|| {
                    let message = "the provider does not speak the revision pinned by `upstream.protocol`";
                    Error::new(Code::UpstreamProtocol, message)
                })?;
                return self.settle(wire, Revision::V2026_07_28, profile).await;
            }
            Some(revision) => revision,
            // That transport is older than the question.
            None if matches!(self.endpoint.target, Transport::Http { .. }) => Revision::NEWEST_LEGACY,
            None => match self.probe(&wire).await {
                Probed::Modern(profile) => {
                    return self.settle(wire, Revision::V2026_07_28, profile).await;
                }
                Probed::Legacy(outcome) => {
                    return self.greeted(wire, Revision::NEWEST_LEGACY, Ok(outcome)).await;
                }
                Probed::Unknown => Revision::NEWEST_LEGACY,
                Probed::Dead => {
                    // Some older servers end at the first word they do not know.
                    let wire = self.open().await?;
                    let outcome = self.initialize(&wire, Revision::NEWEST_LEGACY).await;
                    return self.greeted(wire, Revision::NEWEST_LEGACY, outcome).await;
                }
            },
        };
        let outcome = self.initialize(&wire, asked).await;
        self.greeted(wire, asked, outcome).await
    }

    /// What came of `initialize`; after a refusal of our newest revision older ones are asked for, unless the
    /// descriptor pins it.
    async fn greeted(
        self,
        wire: Arc<Wire>,
        asked: Revision,
        outcome: Result<RpcResult, Error>,
    ) -> Result<Arc<Wire>, Error> {
        let refusal = match greeting(outcome) {
            Ok((revision, greeting)) => return self.initialized(wire, revision, &greeting).await,
            Err(refusal) => refusal,
        };
        if self.endpoint.revision.is_none() && asked == Revision::NEWEST_LEGACY {
            for older in refusal.older_revisions(asked) {
                if let Ok((revision, greeting)) = greeting(self.initialize(&wire, older).await) {
                    return self.initialized(wire, revision, &greeting).await;
                }
            }
        }
        Err(refusal.into())
    }

    /// Asks for the modern generation; a process that says nothing in `connect` may be slow to
    /// start or deaf to what it does not know, so then both questions stand and the first answer
    /// counts.
    async fn probe(self, wire: &Wire) -> Probed {
        let mut discovering = Box::pin(self.discover(wire));
        match timeout(self.endpoint.connect, &mut discovering).await {
            Ok(Ok(outcome)) => return modern_profile_of(&outcome).map_or(Probed::Unknown, Probed::Modern),
            // An answer that cannot be read is one.
            Ok(Err(error)) if error.code == Code::UpstreamProtocol => return Probed::Unknown,
            Ok(Err(_)) => return Probed::Dead,
            Err(_) => {}
        }
        let initializing = Box::pin(self.initialize(wire, Revision::NEWEST_LEGACY));
        match select(discovering, initializing).await {
            Either::Left((Ok(outcome), initializing)) => match modern_profile_of(&outcome) {
                Some(profile) => Probed::Modern(profile),
                None => initializing.await.map_or(Probed::Dead, Probed::Legacy),
            },
            Either::Left((Err(_), _)) | Either::Right((Err(_), _)) => Probed::Dead,
            Either::Right((Ok(outcome), discovering)) => {
                if outcome.is_ok() {
                    return Probed::Legacy(outcome);
                }
                let discovered = discovering
                    .await
                    .ok()
                    .and_then(|outcome| modern_profile_of(&outcome));
                discovered.map_or(Probed::Legacy(outcome), Probed::Modern)
            }
        }
    }

    async fn discover(self, wire: &Wire) -> Result<RpcResult, Error> {
        let (id, mut params) = (self.shared.next_id(), RawObject::new());
        let manner = RequestMeta::without_progress(Revision::V2026_07_28, self.declared);
        let sent = encode(id, "server/discover", &mut params, manner);
        wire.request(id, sent.body, self.deadline, None).await
    }

    async fn initialize(self, wire: &Wire, revision: Revision) -> Result<RpcResult, Error> {
        let id = self.shared.next_id();
        let body = message::request(
            id,
            "initialize",
            &outgoing::initialize_params(revision, self.declared),
        );
        wire.request(id, body, self.deadline, None).await
    }

    async fn initialized(
        self,
        wire: Arc<Wire>,
        revision: Revision,
        greeting: &RawObject,
    ) -> Result<Arc<Wire>, Error> {
        let profile = probe::initialized_profile(revision, greeting);
        self.settle(wire, revision, profile).await
    }

    async fn settle(self, wire: Arc<Wire>, revision: Revision, profile: Profile) -> Result<Arc<Wire>, Error> {
        if !revision.is_modern() {
            let body = message::notification("notifications/initialized", None);
            wire.notify(body, self.deadline).await?;
        } else if let Some(mut params) = incoming::subscription(&profile.capabilities) {
            // Its answer ends the subscription and means nothing more: nobody waits for it.
            let id = self.shared.next_id();
            let manner = RequestMeta::without_progress(revision, self.declared);
            let sent = encode(id, "subscriptions/listen", &mut params, manner);
            wire.notify(sent.body, self.deadline).await?;
        }
        if wire.handshake.set(Spoken { revision, profile }).is_err() {
            tracing::debug!("a wire shook hands twice");
        }
        Ok(wire)
    }
}

/// What `initialize` settled on.
fn greeting(outcome: Result<RpcResult, Error>) -> Result<(Revision, RawObject), HandshakeError> {
    let result = outcome?.map_err(HandshakeError::Rpc)?;
    parse_initialize(&result)
}

/// Nothing of the caller's request has been sent while a wire began.
fn unsent(mut error: Error) -> Error {
    error.sent = false;
    error
}

fn modern_profile_of(outcome: &RpcResult) -> Option<Profile> {
    match outcome {
        Ok(result) => modern_profile(result),
        Err(_) => None,
    }
}

fn modern_profile(result: &Raw) -> Option<Profile> {
    let mut profile = probe::discovered_profile(result)?;
    profile.revisions.contains(Revision::V2026_07_28).then(|| {
        profile.revisions = Revisions::default().with(Revision::V2026_07_28);
        profile
    })
}

/// The empty capabilities of a provider that names none.
pub(crate) fn no_capabilities() -> Raw {
    raw(&serde_json::json!({}))
}
