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
    doubt::{self, PING},
    endpoint::{Behalf, Endpoint, Target},
    incoming::{self, Outcome},
    lost,
    outgoing::{self, Manner, outgoing},
    patience::Patience,
    pool::{Key, Lease},
    probe,
    process::{self, Program},
    session::{Refusal, settled},
    shared::Shared,
    sse,
    wire::{Manner as Spoken, Wire},
};
use crate::credential::Signature;
use crate::error::{Code, Error, RpcFault};
use crate::mcp::raw::raw;
use crate::mcp::{Declared, Raw, RawObject, Revision, Revisions, message};

/// A restart that is due within this time is waited for, a later one refused.
const SOON: Duration = Duration::from_secs(1);

/// One provider behind a wire as one caller sees it.
#[derive(Clone, Copy)]
pub(crate) struct Wired<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) endpoint: &'a Arc<Endpoint>,
    pub(crate) behalf: &'a Behalf,
    /// What may be asked of the caller.
    pub(crate) declared: &'a Declared,
}

impl Wired<'_> {
    /// One request. It is repeated once when the wire broke and it may run twice, or never ran.
    pub(crate) async fn request(self, mut call: Call) -> Result<Raw, Error> {
        let deadline = Instant::from_std(call.deadline);
        let mut repeated = false;
        loop {
            let wire = self.wire(deadline).await?;
            let error = match self.attempt(&mut call, &wire, deadline).await {
                Ok(Ok(result)) => {
                    wire.doubt.sound();
                    return Ok(result);
                }
                Ok(Err(fault)) => {
                    let disowned = Box::pin(self.disowned(&call, &wire, &fault)).await;
                    if !disowned || repeated {
                        return Err(Error::rpc(fault));
                    }
                    repeated = true;
                    continue;
                }
                Err(error) => error,
            };
            if repeated || !may_repeat(&error, call.idempotent) {
                self.doubted(&wire, &error);
                return Err(error);
            }
            self.discard(&wire);
            repeated = true;
        }
    }

    /// Takes a wire out of the pool; whoever uses it still ends what was begun.
    fn discard(self, wire: &Lease<Wire>) {
        self.shared.wires(self.endpoint).discard(&self.key(), wire);
    }

    /// Whether an error says that the handshake is not known any more, as behind a program that starts its own
    /// child again, and `ping` agrees: then the wire is dropped and the request may be made on another. One that
    /// refuses twice alike is dropped too; what a tool answers never counts.
    async fn disowned(self, call: &Call, wire: &Lease<Wire>, fault: &RpcFault) -> bool {
        let named = lost::is_named(fault);
        let again = call.method != "tools/call" && wire.doubt.again(doubt::fault_sign(fault));
        if !(named || again) || lives(self.shared, wire).await {
            return false;
        }
        self.discard(wire);
        named || call.idempotent
    }

    /// Drops a wire that failed twice alike, unless it answers `ping`; the caller has waited long enough.
    fn doubted(self, wire: &Lease<Wire>, error: &Error) {
        let again = doubt::sign(error).is_some_and(|sign| wire.doubt.again(sign));
        if !again {
            return;
        }
        let (shared, endpoint) = (Arc::clone(self.shared), Arc::clone(self.endpoint));
        let (wire, key) = (Arc::clone(wire), self.key());
        self.shared.detach(async move {
            if !lives(&shared, &wire).await {
                shared.wires(&endpoint).forget(&key, &wire);
            }
        });
    }

    async fn attempt(self, call: &mut Call, wire: &Lease<Wire>, deadline: Instant) -> Result<Outcome, Error> {
        let revision = wire.manner.get().map_or(call.revision, |manner| manner.revision);
        if revision.is_modern() != call.revision.is_modern() {
            let message = "the provider speaks another revision than it did";
            return Err(Error::new(Code::UnsupportedRevision, message));
        }
        let id = self.shared.next_id();
        let token = call.token.unwrap_or(id);
        let manner = Manner {
            revision,
            declared: self.declared,
            progress: call.progress.then_some(token),
        };
        let sent = outgoing(id, call.method, &mut call.params, manner);
        let Some(events) = &call.events else {
            return wire.request(id, sent.body, deadline, None).await;
        };
        let patience = Patience::until(deadline);
        let whose = (self.behalf.lane.as_ref(), events.clone());
        let _place = self.shared.hubs.call(wire.key(), token, whose, &patience);
        wire.request(id, sent.body, deadline, Some(&patience)).await
    }

    /// The wire of this caller, begun when there is none.
    pub(crate) async fn wire(self, deadline: Instant) -> Result<Lease<Wire>, Error> {
        let key = self.key();
        let signature = &self.behalf.signature;
        if let Some(lease) = self.shared.wires(self.endpoint).ready(&key) {
            lease.sign(signature);
            return Ok(lease);
        }
        // Starting goes on when the caller goes away: the next one would start from nothing.
        let (shared, endpoint) = (Arc::clone(self.shared), Arc::clone(self.endpoint));
        let (declared, signature) = (self.declared.clone(), Arc::clone(signature));
        let starting = self.shared.control.spawn(async move {
            let starting = Starting {
                shared: &shared,
                endpoint: &endpoint,
                signature: &signature,
                key: &key,
                declared: &declared,
                deadline: Instant::now() + endpoint.patience(),
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

    pub(crate) fn key(self) -> Key {
        Key::of(self.endpoint, self.behalf, None, self.declared.abilities)
    }
}

/// Whether a wire answers `ping`.
async fn lives(shared: &Shared, wire: &Wire) -> bool {
    let id = shared.next_id();
    let body = message::request(id, "ping", &RawObject::new());
    let asked = wire.request(id, body, Instant::now() + PING, None);
    let lives = asked.await.is_ok_and(|outcome| doubt::is_alive(&outcome));
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
struct Starting<'a> {
    shared: &'a Arc<Shared>,
    endpoint: &'a Arc<Endpoint>,
    signature: &'a Arc<Signature>,
    key: &'a Key,
    declared: &'a Declared,
    deadline: Instant,
}

/// What the question for the generation brought.
enum Probed {
    Modern(Profile),
    Legacy(Outcome),
    Unknown,
    Dead,
}

impl Starting<'_> {
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
        let started = match self.begin().await {
            Ok(wire) => self.shake(wire).await,
            Err(error) => {
                // Connecting costs little: only programs that cannot start are held back for it.
                if let Target::Stdio { .. } = self.endpoint.target {
                    let why = error.message.as_ref();
                    shared.restarts.died(key, false, Instant::now(), why);
                }
                return Err(unsent(error));
            }
        };
        started.map_err(|error| {
            // A death is noted by who notices it; a handshake that failed is noted here.
            if !matches!(error.code, Code::UpstreamUnreachable | Code::UpstreamAuth) {
                let why = error.message.as_ref();
                shared.restarts.died(key, false, Instant::now(), why);
            }
            unsent(error)
        })
    }

    async fn begin(self) -> Result<Arc<Wire>, Error> {
        let (shared, endpoint, key) = (self.shared, self.endpoint, self.key);
        match &endpoint.target {
            Target::Stdio { command, env, folder } => {
                process::spawn(shared, &endpoint.provider, key, &Program { command, env, folder })
            }
            Target::Http { .. } => sse::connect(shared, endpoint, self.signature, key, self.deadline).await,
        }
    }

    async fn shake(self, wire: Arc<Wire>) -> Result<Arc<Wire>, Error> {
        let asked = match self.endpoint.revision {
            Some(revision) if revision.is_modern() => {
                let outcome = self.discover(&wire).await?;
                let profile = modern(&outcome.map_err(Error::rpc)?).ok_or_else(|| {
                    let message = "the provider does not speak the revision pinned by `upstream.protocol`";
                    Error::new(Code::UpstreamProtocol, message)
                })?;
                return self.settle(wire, Revision::V2026_07_28, profile).await;
            }
            Some(revision) => revision,
            // That transport is older than the question.
            None if matches!(self.endpoint.target, Target::Http { .. }) => Revision::NEWEST_LEGACY,
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
                    let wire = self.begin().await?;
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
        outcome: Result<Outcome, Error>,
    ) -> Result<Arc<Wire>, Error> {
        let refusal = match greeting(outcome) {
            Ok((revision, greeting)) => return self.initialized(wire, revision, &greeting).await,
            Err(refusal) => refusal,
        };
        if self.endpoint.revision.is_none() && asked == Revision::NEWEST_LEGACY {
            for older in refusal.others(asked) {
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
            Ok(Ok(outcome)) => return understood(&outcome).map_or(Probed::Unknown, Probed::Modern),
            // An answer that cannot be read is one.
            Ok(Err(error)) if error.code == Code::UpstreamProtocol => return Probed::Unknown,
            Ok(Err(_)) => return Probed::Dead,
            Err(_) => {}
        }
        let initializing = Box::pin(self.initialize(wire, Revision::NEWEST_LEGACY));
        match select(discovering, initializing).await {
            Either::Left((Ok(outcome), initializing)) => match understood(&outcome) {
                Some(profile) => Probed::Modern(profile),
                None => initializing.await.map_or(Probed::Dead, Probed::Legacy),
            },
            Either::Left((Err(_), _)) | Either::Right((Err(_), _)) => Probed::Dead,
            Either::Right((Ok(outcome), discovering)) => {
                if outcome.is_ok() {
                    return Probed::Legacy(outcome);
                }
                let discovered = discovering.await.ok().and_then(|outcome| understood(&outcome));
                discovered.map_or(Probed::Legacy(outcome), Probed::Modern)
            }
        }
    }

    async fn discover(self, wire: &Wire) -> Result<Outcome, Error> {
        let (id, mut params) = (self.shared.next_id(), RawObject::new());
        let manner = Manner::quiet(Revision::V2026_07_28, self.declared);
        let sent = outgoing(id, "server/discover", &mut params, manner);
        wire.request(id, sent.body, self.deadline, None).await
    }

    async fn initialize(self, wire: &Wire, revision: Revision) -> Result<Outcome, Error> {
        let id = self.shared.next_id();
        let body = message::request(id, "initialize", &outgoing::greeting(revision, self.declared));
        wire.request(id, body, self.deadline, None).await
    }

    async fn initialized(
        self,
        wire: Arc<Wire>,
        revision: Revision,
        greeting: &RawObject,
    ) -> Result<Arc<Wire>, Error> {
        let profile = probe::greeted(revision, greeting);
        self.settle(wire, revision, profile).await
    }

    async fn settle(self, wire: Arc<Wire>, revision: Revision, profile: Profile) -> Result<Arc<Wire>, Error> {
        if !revision.is_modern() {
            let body = message::notification("notifications/initialized", None);
            wire.notify(body, self.deadline).await?;
        } else if let Some(mut params) = incoming::subscription(&profile.capabilities) {
            // Its answer ends the subscription and means nothing more: nobody waits for it.
            let id = self.shared.next_id();
            let manner = Manner::quiet(revision, self.declared);
            let sent = outgoing(id, "subscriptions/listen", &mut params, manner);
            wire.notify(sent.body, self.deadline).await?;
        }
        if wire.manner.set(Spoken { revision, profile }).is_err() {
            tracing::debug!("a wire shook hands twice");
        }
        Ok(wire)
    }
}

/// What `initialize` settled on.
fn greeting(outcome: Result<Outcome, Error>) -> Result<(Revision, RawObject), Refusal> {
    let result = outcome?.map_err(Refusal::Rpc)?;
    settled(&result)
}

/// Nothing of the caller's request has been sent while a wire began.
fn unsent(mut error: Error) -> Error {
    error.sent = false;
    error
}

fn understood(outcome: &Outcome) -> Option<Profile> {
    match outcome {
        Ok(result) => modern(result),
        Err(_) => None,
    }
}

fn modern(result: &Raw) -> Option<Profile> {
    let mut profile = probe::discovered(result)?;
    profile.revisions.contains(Revision::V2026_07_28).then(|| {
        profile.revisions = Revisions::default().with(Revision::V2026_07_28);
        profile
    })
}

/// The empty capabilities of a provider that names none.
pub(crate) fn no_capabilities() -> Raw {
    raw(&serde_json::json!({}))
}
