//! Requests to a child process, and the handshake that makes one ready.
//!
//! A process speaks one generation: the modern one when `server/discover` says so, else whatever
//! `initialize` settles on. So one process serves callers of every generation.

use std::{sync::Arc, time::Duration};

use futures_util::future::{Either, select};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{
    call::{Call, Profile},
    endpoint::{Behalf, Endpoint, Target},
    incoming::{self, Outcome},
    outgoing::{self, Manner, outgoing},
    patience::Patience,
    pool::{Key, Lease},
    probe,
    process::{self, Process, Program},
    session::settled,
    shared::Shared,
};
use crate::error::{Code, Error};
use crate::mcp::raw::raw;
use crate::mcp::{Declared, Raw, RawObject, Revision, Revisions, message};

/// A restart that is due within this time is waited for, a later one refused.
const SOON: Duration = Duration::from_secs(1);

/// One process provider as one caller sees it.
#[derive(Clone, Copy)]
pub(crate) struct Local<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) endpoint: &'a Arc<Endpoint>,
    pub(crate) behalf: &'a Behalf,
    /// What may be asked of the caller.
    pub(crate) declared: &'a Declared,
}

impl Local<'_> {
    /// One request. It is repeated once when the process died and it may run twice, or never ran.
    pub(crate) async fn request(self, mut call: Call) -> Result<Raw, Error> {
        let deadline = Instant::from_std(call.deadline);
        let mut repeated = false;
        loop {
            let process = self.process(deadline).await?;
            match self.attempt(&mut call, &process, deadline).await {
                Ok(outcome) => return outcome.map_err(Error::rpc),
                Err(error) if repeated || !may_repeat(&error, call.idempotent) => {
                    return Err(error);
                }
                Err(_) => self.shared.processes.discard(&self.key(), &process),
            }
            repeated = true;
        }
    }

    async fn attempt(
        self,
        call: &mut Call,
        process: &Lease<Process>,
        deadline: Instant,
    ) -> Result<Outcome, Error> {
        let revision = process
            .manner
            .get()
            .map_or(call.revision, |manner| manner.revision);
        if revision.is_modern() != call.revision.is_modern() {
            let message = "the provider's process speaks another revision than it did";
            return Err(Error::new(Code::UnsupportedRevision, message));
        }
        let id = self.shared.next_id();
        let manner = Manner {
            revision,
            declared: self.declared,
            progress: call.progress,
        };
        let sent = outgoing(id, call.method, &mut call.params, manner);
        let Some(events) = &call.events else {
            return process.request(id, sent.body, deadline, None).await;
        };
        let patience = Patience::until(deadline);
        let whose = (self.behalf.lane.as_ref(), events.clone());
        let _place = self
            .shared
            .hubs
            .call(process.key(), id, whose, &patience);
        process.request(id, sent.body, deadline, Some(&patience)).await
    }

    /// The running process of this caller, started when there is none.
    pub(crate) async fn process(self, deadline: Instant) -> Result<Lease<Process>, Error> {
        let key = self.key();
        if let Some(lease) = self.shared.processes.ready(&key) {
            return Ok(lease);
        }
        // Starting goes on when the caller goes away: the next one would start from nothing.
        let (shared, endpoint) = (Arc::clone(self.shared), Arc::clone(self.endpoint));
        let declared = self.declared.clone();
        let starting = self.shared.control.spawn(async move {
            let start = Box::pin(start(&shared, &endpoint, &key, &declared));
            shared.processes.lease(&key, endpoint.idle, start).await
        });
        match timeout_at(deadline, starting).await {
            Ok(Ok(leased)) => leased,
            Ok(Err(error)) => {
                Err(Error::new(Code::Internal, "starting the provider's process broke off").because(error))
            }
            Err(elapsed) => {
                let message = "the provider's process was not ready in time";
                Err(Error::new(Code::UpstreamTimeout, message).because(elapsed))
            }
        }
    }

    pub(crate) fn key(self) -> Key {
        Key::of(self.endpoint, self.behalf, None, self.declared.abilities)
    }
}

/// Only a death is cured by another process.
fn may_repeat(error: &Error, idempotent: bool) -> bool {
    error.code == Code::UpstreamUnreachable && (!error.sent || idempotent)
}

/// Starts a process and shakes hands, not sooner than its earlier deaths allow.
async fn start(
    shared: &Arc<Shared>,
    endpoint: &Arc<Endpoint>,
    key: &Key,
    declared: &Declared,
) -> Result<Arc<Process>, Error> {
    if shared.closing.is_cancelled() {
        return Err(Error::new(Code::ShuttingDown, "the gateway is ending"));
    }
    let delay = shared.restarts.delay(key, Instant::now());
    if delay > SOON {
        let message = "the provider's process keeps ending and is started again later";
        return Err(Error::new(Code::UpstreamUnreachable, message).retry_after(delay));
    }
    sleep(delay).await;
    let born = Instant::now();
    let deadline = born + endpoint.patience();
    let started = match spawn(shared, endpoint, key) {
        Ok(process) => {
            let shaking = Shaking {
                shared,
                endpoint,
                key,
                declared,
                deadline,
            };
            shaking.shake(process).await
        }
        Err(error) => {
            shared.restarts.died(key, Duration::ZERO, Instant::now());
            Err(error)
        }
    };
    started.map_err(|mut error| {
        // A death is noted by who notices it; a handshake that failed is noted here.
        if error.code != Code::UpstreamUnreachable {
            shared.restarts.died(key, born.elapsed(), Instant::now());
        }
        error.sent = false;
        error
    })
}

fn spawn(shared: &Arc<Shared>, endpoint: &Endpoint, key: &Key) -> Result<Arc<Process>, Error> {
    let Target::Stdio { command, env, folder } = &endpoint.target else {
        return Err(Error::new(Code::Internal, "this provider is not a command"));
    };
    Process::spawn(shared, &endpoint.provider, key, &Program { command, env, folder })
}

/// A handshake with a new process.
#[derive(Clone, Copy)]
struct Shaking<'a> {
    shared: &'a Arc<Shared>,
    endpoint: &'a Arc<Endpoint>,
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

impl Shaking<'_> {
    async fn shake(self, process: Arc<Process>) -> Result<Arc<Process>, Error> {
        let asked = match self.endpoint.revision {
            Some(revision) if revision.is_modern() => {
                let outcome = self.discover(&process).await?;
                let profile = modern(&outcome.map_err(Error::rpc)?).ok_or_else(|| {
                    let message = "the provider does not speak the revision pinned by `upstream.protocol`";
                    Error::new(Code::UpstreamProtocol, message)
                })?;
                return self.settle(process, Revision::V2026_07_28, profile).await;
            }
            Some(revision) => revision,
            None => match self.probe(&process).await {
                Probed::Modern(profile) => {
                    return self.settle(process, Revision::V2026_07_28, profile).await;
                }
                Probed::Legacy(outcome) => {
                    return self.initialized(process, &outcome.map_err(Error::rpc)?).await;
                }
                Probed::Unknown => Revision::NEWEST_LEGACY,
                Probed::Dead => {
                    // Some older servers end at the first word they do not know.
                    let process = spawn(self.shared, self.endpoint, self.key)?;
                    let outcome = self.initialize(&process, Revision::NEWEST_LEGACY).await?;
                    return self.initialized(process, &outcome.map_err(Error::rpc)?).await;
                }
            },
        };
        let outcome = self.initialize(&process, asked).await?;
        self.initialized(process, &outcome.map_err(Error::rpc)?).await
    }

    /// Asks for the modern generation; a process that says nothing in `connect` may be slow to
    /// start or deaf to what it does not know, so then both questions stand and the first answer
    /// counts.
    async fn probe(self, process: &Process) -> Probed {
        let mut discovering = Box::pin(self.discover(process));
        match timeout(self.endpoint.connect, &mut discovering).await {
            Ok(Ok(outcome)) => return understood(&outcome).map_or(Probed::Unknown, Probed::Modern),
            Ok(Err(_)) => return Probed::Dead,
            Err(_) => {}
        }
        let initializing = Box::pin(self.initialize(process, Revision::NEWEST_LEGACY));
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

    async fn discover(self, process: &Process) -> Result<Outcome, Error> {
        let (id, mut params) = (self.shared.next_id(), RawObject::new());
        let manner = Manner::quiet(Revision::V2026_07_28, self.declared);
        let sent = outgoing(id, "server/discover", &mut params, manner);
        process.request(id, sent.body, self.deadline, None).await
    }

    async fn initialize(self, process: &Process, revision: Revision) -> Result<Outcome, Error> {
        let id = self.shared.next_id();
        let body = message::request(id, "initialize", &outgoing::greeting(revision, self.declared));
        process.request(id, body, self.deadline, None).await
    }

    async fn initialized(self, process: Arc<Process>, result: &Raw) -> Result<Arc<Process>, Error> {
        let (revision, greeting) = settled(result)?;
        let profile = probe::greeted(revision, &greeting);
        self.settle(process, revision, profile).await
    }

    async fn settle(
        self,
        process: Arc<Process>,
        revision: Revision,
        profile: Profile,
    ) -> Result<Arc<Process>, Error> {
        if !revision.is_modern() {
            let body = message::notification("notifications/initialized", None);
            process.notify(body, self.deadline).await?;
        } else if let Some(mut params) = incoming::subscription(&profile.capabilities) {
            // Its answer ends the subscription and means nothing more: nobody waits for it.
            let id = self.shared.next_id();
            let manner = Manner::quiet(revision, self.declared);
            let sent = outgoing(id, "subscriptions/listen", &mut params, manner);
            process.notify(sent.body, self.deadline).await?;
        }
        if process.manner.set(process::Manner { revision, profile }).is_err() {
            tracing::debug!("a process shook hands twice");
        }
        Ok(process)
    }
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
