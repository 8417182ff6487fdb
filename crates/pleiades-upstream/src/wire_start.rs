//! The beginning of a wire: a process or stream, and the handshake with it.
//!
//! A wire speaks one generation: the modern one when `server/discover` says so, else whatever
//! `initialize` settles on. So one wire serves callers of every generation.

use std::{sync::Arc, time::Duration};

use futures_util::future::{Either, select};
use tokio::time::{Instant, sleep, timeout};

use super::{
    endpoint::Transport,
    incoming::{self, RpcResult},
    outgoing::{self, RequestMeta, encode},
    pool::PoolKey,
    process::{self, Program},
    profile::Profile,
    provider_client::ProviderClient,
    session::{HandshakeError, parse_initialize},
    sse_wire,
    wire::{Handshake, Wire},
};
use pleiades_core::error::{Code, Error};
use pleiades_mcp::{Raw, RawObject, Revision, Revisions, message};

/// A restart that is due within this time is waited for, a later one refused.
const SOON: Duration = Duration::from_secs(1);

/// Opens the wire of a key and shakes hands, not sooner than earlier deaths allow. It has as long as starting may
/// take, however long its first caller waits.
pub(crate) async fn start(client: ProviderClient<'_>, key: &PoolKey) -> Result<Arc<Wire>, Error> {
    let deadline = Instant::now() + client.endpoint.start_timeout();
    let start = WireStart {
        client,
        key,
        deadline,
    };
    // Nothing of the caller's request has been sent meanwhile.
    start.run().await.map_err(|mut error| {
        error.sent = false;
        error
    })
}

#[derive(Clone, Copy)]
struct WireStart<'a> {
    client: ProviderClient<'a>,
    key: &'a PoolKey,
    deadline: Instant,
}

/// What a provider answered when it was asked for its generation.
enum Probed {
    Modern(Handshake),
    Legacy(RpcResult),
    Unknown,
    Dead,
}

impl WireStart<'_> {
    async fn run(self) -> Result<Arc<Wire>, Error> {
        let (shared, key) = (self.client.shared, self.key);
        if shared.closing.is_cancelled() {
            return Err(Error::new(Code::ShuttingDown, "the gateway is ending"));
        }
        let (delay, why) = shared.restarts.delay(key, Instant::now());
        if delay > SOON {
            let message = format!(
                "the provider keeps ending and is started again later: {}",
                why.message
            );
            let error = Error::new(Code::UpstreamUnreachable, message);
            return Err(error.because(why.cause).retry_after(delay));
        }
        sleep(delay).await;
        let is_process = matches!(self.client.endpoint.target, Transport::Stdio { .. });
        let (started, delays_next) = match self.open().await {
            // Connecting costs little: only programs that cannot start are held back for it.
            Err(error) => (Err(error), is_process),
            Ok(wire) => {
                let started = self.handshake(wire).await;
                // A death is noted by who notices it; a handshake that failed is noted here.
                let failed = started.as_ref().err().is_some_and(|error| {
                    !matches!(error.code, Code::UpstreamUnreachable | Code::UpstreamAuth)
                });
                (started, failed)
            }
        };
        if let (Err(error), true) = (&started, delays_next) {
            let restarts = &shared.restarts;
            restarts.record_failure(key, false, Instant::now(), error);
        }
        started
    }

    async fn open(self) -> Result<Arc<Wire>, Error> {
        let ProviderClient {
            shared,
            endpoint,
            identity,
            ..
        } = self.client;
        match &endpoint.target {
            Transport::Stdio { command, env, folder } => {
                let program = Program { command, env, folder };
                process::spawn(shared, &endpoint.provider, self.key, &program)
            }
            Transport::Http { .. } => {
                sse_wire::connect(shared, endpoint, &identity.signature, self.key, self.deadline).await
            }
        }
    }

    async fn handshake(self, wire: Arc<Wire>) -> Result<Arc<Wire>, Error> {
        let newest = Revision::NEWEST_LEGACY;
        let asked = match self.client.endpoint.revision {
            Some(revision) if revision.is_modern() => {
                let outcome = self.discover(&wire).await?;
                let handshake = modern(&outcome.map_err(Error::rpc)?).ok_or_else(|| {
                    let message = "the provider does not speak the revision pinned by `upstream.protocol`";
                    Error::new(Code::UpstreamProtocol, message)
                })?;
                return self.settle(wire, handshake).await;
            }
            Some(revision) => revision,
            // That transport is older than the question.
            None if matches!(self.client.endpoint.target, Transport::Http { .. }) => newest,
            None => match self.probe(&wire).await {
                Probed::Modern(handshake) => return self.settle(wire, handshake).await,
                Probed::Legacy(outcome) => return self.after_initialize(wire, newest, Ok(outcome)).await,
                Probed::Unknown => newest,
                Probed::Dead => {
                    // Some older servers end at the first method they do not know.
                    let wire = self.open().await?;
                    let outcome = self.initialize(&wire, newest).await;
                    return self.after_initialize(wire, newest, outcome).await;
                }
            },
        };
        let outcome = self.initialize(&wire, asked).await;
        self.after_initialize(wire, asked, outcome).await
    }

    /// Takes the answer to `initialize`; after a refusal of our newest revision older ones are asked for, unless the
    /// descriptor pins it.
    async fn after_initialize(
        self,
        wire: Arc<Wire>,
        asked: Revision,
        outcome: Result<RpcResult, Error>,
    ) -> Result<Arc<Wire>, Error> {
        let refusal = match initialized(outcome) {
            Ok(handshake) => return self.settle(wire, handshake).await,
            Err(refusal) => refusal,
        };
        if self.client.endpoint.revision.is_none() && asked == Revision::NEWEST_LEGACY {
            for older in refusal.older_revisions(asked) {
                if let Ok(handshake) = initialized(self.initialize(&wire, older).await) {
                    return self.settle(wire, handshake).await;
                }
            }
        }
        Err(refusal.into())
    }

    /// Asks for the modern generation; a process that says nothing in `connect` may be slow to start or
    /// silent to what it does not know, so then both questions stand and the first answer counts.
    async fn probe(self, wire: &Wire) -> Probed {
        let mut discovering = Box::pin(self.discover(wire));
        match timeout(self.client.endpoint.connect, &mut discovering).await {
            Ok(Ok(outcome)) => {
                let handshake = outcome.as_ref().ok().and_then(modern);
                return handshake.map_or(Probed::Unknown, Probed::Modern);
            }
            // An answer that cannot be read is one.
            Ok(Err(error)) if error.code == Code::UpstreamProtocol => return Probed::Unknown,
            Ok(Err(_)) => return Probed::Dead,
            Err(_) => {}
        }
        let initializing = Box::pin(self.initialize(wire, Revision::NEWEST_LEGACY));
        match select(discovering, initializing).await {
            Either::Left((Ok(outcome), initializing)) => match outcome.as_ref().ok().and_then(modern) {
                Some(handshake) => Probed::Modern(handshake),
                None => initializing.await.map_or(Probed::Dead, Probed::Legacy),
            },
            Either::Left((Err(_), _)) | Either::Right((Err(_), _)) => Probed::Dead,
            Either::Right((Ok(outcome), discovering)) => {
                if outcome.is_ok() {
                    return Probed::Legacy(outcome);
                }
                let late = discovering.await.ok();
                let discovered = late.and_then(|outcome| modern(outcome.as_ref().ok()?));
                discovered.map_or(Probed::Legacy(outcome), Probed::Modern)
            }
        }
    }

    async fn discover(self, wire: &Wire) -> Result<RpcResult, Error> {
        let (id, mut params) = (self.client.shared.next_id(), RawObject::new());
        let meta = RequestMeta::without_progress(Revision::V2026_07_28, self.client.declared);
        let sent = encode(id, "server/discover", &mut params, meta);
        wire.request(id, sent.body, self.deadline, None).await
    }

    async fn initialize(self, wire: &Wire, revision: Revision) -> Result<RpcResult, Error> {
        let id = self.client.shared.next_id();
        let params = outgoing::initialize_params(revision, self.client.declared);
        let body = message::request(id, "initialize", &params);
        wire.request(id, body, self.deadline, None).await
    }

    async fn settle(self, wire: Arc<Wire>, handshake: Handshake) -> Result<Arc<Wire>, Error> {
        let Handshake { revision, profile } = &handshake;
        if !revision.is_modern() {
            let body = message::notification("notifications/initialized", None);
            wire.notify(body, self.deadline).await?;
        } else if let Some(params) = incoming::subscription(&profile.capabilities) {
            let client = self.client;
            client
                .subscribe_wire(&wire, *revision, params, self.deadline)
                .await?;
        }
        if wire.handshake.set(handshake).is_err() {
            tracing::debug!("a wire shook hands twice");
        }
        Ok(wire)
    }
}

fn initialized(outcome: Result<RpcResult, Error>) -> Result<Handshake, HandshakeError> {
    let result = outcome?.map_err(HandshakeError::Rpc)?;
    let (revision, result) = parse_initialize(&result)?;
    let profile = Profile::from_initialize(revision, &result);
    Ok(Handshake { revision, profile })
}

/// The modern revision, when `server/discover` names it.
fn modern(result: &Raw) -> Option<Handshake> {
    let revision = Revision::V2026_07_28;
    let mut profile = Profile::from_discover(result)?;
    if !profile.revisions.contains(revision) {
        return None;
    }
    profile.revisions = Revisions::default().with(revision);
    Some(Handshake { revision, profile })
}
