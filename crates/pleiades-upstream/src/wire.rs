//! A connection that many requests share: the pipes of a child process, or an event stream with
//! messages posted beside it (the transport of 2024-11-05).

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    call::ProviderChange,
    client::{CALL_PASSED, timed_out},
    deadline::Deadline,
    health::SessionHealth,
    incoming::RpcResult,
    outgoing,
    pool::{PoolKey, Pooled},
    post_writer::PostWriter,
    profile::Profile,
    response::charge,
    shared::Shared,
};
use pleiades_core::error::{Code, Error};
use pleiades_core::{limit::load, secret::Secret, signature::Signature};
use pleiades_mcp::Revision;

mod ending;
mod noise;
mod reader;

pub(crate) use ending::ProcessEnd;
use noise::Noise;
pub(crate) use reader::WireReader;

pub(crate) const MAX_IN_FLIGHT: usize = 1024;

pub(crate) struct Wire {
    state: Arc<WireState>,
    writer: WireWriter,
    pub(crate) handshake: OnceLock<Handshake>,
    pub(crate) health: SessionHealth,
}

pub(crate) enum WireWriter {
    /// A line each.
    Pipe(mpsc::Sender<Vec<u8>>),
    /// A POST each.
    Posts(PostWriter),
}

#[derive(Debug)]
pub(crate) struct Handshake {
    pub(crate) revision: Revision,
    pub(crate) profile: Profile,
}

/// What those who write, read and watch one wire share.
pub(crate) struct WireState {
    pub(crate) provider: Arc<str>,
    pub(crate) key: PoolKey,
    pub(crate) shared: Weak<Shared>,
    pub(crate) stop: CancellationToken,
    born: Instant,
    sound: Duration,
    requests: Mutex<HashMap<u64, ReplySender>>,
    /// Nothing more is read: what was read last may still be on its way.
    closed: AtomicBool,
    dead: AtomicBool,
    unreadable: OnceLock<&'static str>,
    noise: Mutex<Noise>,
    pub(crate) ending: ProcessEnd,
    /// Secrets that a child process was given: no line of it that is kept or logged shows any of them.
    pub(crate) secrets: OnceLock<Vec<Secret>>,
}

/// A request without an answer: it gets the other side's, or why there will be none.
type ReplySender = oneshot::Sender<Result<RpcResult, Error>>;

impl Wire {
    pub(crate) const fn new(state: Arc<WireState>, writer: WireWriter) -> Self {
        Self {
            state,
            writer,
            handshake: OnceLock::new(),
            health: SessionHealth::new(),
        }
    }

    pub(crate) fn provider(&self) -> &str {
        &self.state.provider
    }

    pub(crate) async fn request(
        &self,
        id: u64,
        body: Vec<u8>,
        deadline: Instant,
        timer: Option<&Deadline>,
    ) -> Result<RpcResult, Error> {
        let (answer, answered) = oneshot::channel();
        self.state.add(id, answer)?;
        let noise = self.state.noise.lock().lines();
        let mut pending = PendingGuard {
            wire: self,
            id,
            sent: false,
        };
        match &self.writer {
            WireWriter::Pipe(lines) => self.write(lines, body, deadline).await?,
            WireWriter::Posts(posts) => drop(posts.send(Some(id), body, self.revision(), deadline)?),
        }
        pending.sent = true;
        let answered = match timer {
            Some(timer) => timer.run(answered).await,
            None => timeout_at(deadline, answered).await.ok(),
        };
        match answered {
            None => Err(self.state.late(noise)),
            Some(Err(_)) => Err(self.state.end_error().sent()),
            Some(Ok(Ok(Ok(result)))) => {
                charge(result.get().len())?;
                load::yield_if_large().await;
                Ok(Ok(result))
            }
            Some(Ok(answer)) => answer,
        }
    }

    /// A message without an answer; returns once it is on its way, or taken where that shows.
    pub(crate) async fn notify(&self, body: Vec<u8>, deadline: Instant) -> Result<(), Error> {
        match &self.writer {
            WireWriter::Pipe(lines) => self.write(lines, body, deadline).await,
            WireWriter::Posts(posts) => posts
                .send(None, body, self.revision(), deadline)?
                .await
                .unwrap_or_else(|_| Err(self.state.end_error())),
        }
    }

    pub(crate) fn over(&self) -> CancellationToken {
        self.state.stop.clone()
    }

    /// Messages bear this credential from now on.
    pub(crate) fn sign(&self, signature: &Arc<Signature>) {
        if let WireWriter::Posts(posts) = &self.writer {
            posts.sign(signature);
        }
    }

    async fn write(
        &self,
        lines: &mpsc::Sender<Vec<u8>>,
        body: Vec<u8>,
        deadline: Instant,
    ) -> Result<(), Error> {
        match timeout_at(deadline, lines.send(body)).await {
            Err(_) => {
                let message = "the provider's process reads too slowly";
                Err(Error::new(Code::UpstreamTimeout, message).because(CALL_PASSED))
            }
            Ok(sent) => sent.map_err(|_closed| self.state.end_error()),
        }
    }

    fn revision(&self) -> Option<Revision> {
        self.handshake.get().map(|handshake| handshake.revision)
    }

    /// Says without waiting that an answer is not waited for any more; best effort.
    fn cancel(&self, id: u64) {
        let body = outgoing::cancellation(id);
        let sent = match &self.writer {
            WireWriter::Pipe(lines) => lines.try_send(body).is_ok(),
            WireWriter::Posts(posts) => posts
                .send(None, body, self.revision(), Instant::now() + NOTIFY_TIMEOUT)
                .is_ok(),
        };
        tracing::trace!(message.is_sent = sent, "a request was cancelled");
    }
}

/// How long the other side may take to take a message that nobody waits for.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(10);

fn unreadable(why: &str) -> Error {
    let message = format!("the provider's answer cannot be read: {why}");
    Error::new(Code::UpstreamProtocol, message).sent()
}

impl WireState {
    /// `sound`: the lifetime after which an end is no sign of a fault that lasts.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        provider: &Arc<str>,
        key: &PoolKey,
        sound: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            provider: Arc::clone(provider),
            key: key.clone(),
            shared: Arc::downgrade(shared),
            stop: shared.closing.child_token(),
            born: Instant::now(),
            sound,
            requests: Mutex::default(),
            closed: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            unreadable: OnceLock::new(),
            noise: Mutex::default(),
            ending: ProcessEnd::default(),
            secrets: OnceLock::new(),
        })
    }

    fn add(&self, id: u64, pending: ReplySender) -> Result<(), Error> {
        let mut requests = self.requests.lock();
        if let Some(why) = self.unreadable.get() {
            return Err(unreadable(why));
        }
        if self.is_dead() || self.is_closed() {
            return Err(self.end_error());
        }
        if requests.len() >= MAX_IN_FLIGHT {
            let message = "too many requests to the provider's process or stream are under way";
            return Err(Error::new(Code::Busy, message).retry_after(Duration::from_secs(1)));
        }
        requests.insert(id, pending);
        Ok(())
    }

    /// Answers a request; whether anybody waited for it.
    pub(crate) fn answer(&self, id: u64, answer: Result<RpcResult, Error>) -> bool {
        let pending = self.requests.lock().remove(&id);
        pending.is_some_and(|pending| pending.send(answer).is_ok())
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    /// A line of the other side without its secrets; what is shorter than six bytes may be part of any word, and
    /// stays.
    pub(crate) fn redact(&self, line: &str) -> String {
        let shown = |line: String, secret: &Secret| match secret.expose() {
            secret if secret.len() >= 6 => line.replace(secret, "…"),
            _ => line,
        };
        let secrets = self.secrets.get().map_or(&[][..], Vec::as_slice);
        secrets.iter().fold(line.to_owned(), shown)
    }

    /// Nothing more will be read; the reason comes with [`WireState::end`].
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.stop.cancel();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Nothing on this wire can be read: fails all requests, also those to come.
    fn fail_unreadable(&self, why: &'static str) {
        let mut requests = self.requests.lock();
        let why = self.unreadable.get_or_init(|| why);
        for (_, pending) in requests.drain() {
            pending.send(Err(unreadable(why))).ok();
        }
    }

    /// The error of those who waited at its end: of a process its status, and its last line as the cause.
    pub(crate) fn end_error(&self) -> Error {
        let is_closing = |shared: Arc<Shared>| shared.closing.is_cancelled();
        match self.shared.upgrade().is_some_and(is_closing) {
            true => Error::new(Code::ShuttingDown, "the gateway is ending"),
            false => self.ending.error(),
        }
    }

    /// Whether the wire before this one did not begin with the same line: a process may be started again and again.
    fn is_new_noise(&self, first: &str) -> bool {
        let shared = self.shared.upgrade();
        shared.is_none_or(|shared| shared.restarts.note_noise(&self.key, first))
    }

    /// The deadline passed; `before`: how many lines of noise had come when the request was made.
    fn late(&self, before: u64) -> Error {
        let noise = self.noise.lock();
        let lines = noise.lines().saturating_sub(before);
        if lines == 0 {
            return timed_out();
        }
        let message = "the provider did not answer in time, and said what is not JSON-RPC meanwhile";
        let first = noise.first().unwrap_or_default();
        let cause = format!("lines that are not JSON-RPC: {lines}; the first of all: {first}");
        Error::new(Code::UpstreamTimeout, message).because(cause).sent()
    }

    /// Nothing will be answered any more: those who wait see their channel dropped.
    pub(crate) fn drop_requests(&self) {
        let mut requests = self.requests.lock();
        self.dead.store(true, Ordering::Release);
        requests.clear();
    }

    /// Logs that the process ended by itself: as a warning unless its last end was the same, for it is started
    /// again and again.
    pub(crate) fn log_end(&self) {
        let end = self.ending.describe();
        let error = self.end_error();
        let is_known = self.born.elapsed() < self.sound
            && self
                .shared
                .upgrade()
                .is_some_and(|shared| shared.restarts.is_known(&self.key, &error));
        let (tenant, user) = self.key.principal();
        macro_rules! at {
            ($level:ident) => {
                tracing::$level!(
                    provider.name = &*self.provider,
                    principal.tenant = tenant,
                    principal.user = user,
                    outcome = error.code.as_str(),
                    error = end,
                    "the provider's process ended"
                )
            };
        }
        if is_known { at!(debug) } else { at!(warn) }
    }

    /// Ends it; an end that nobody wanted is published, and delays the next start.
    pub(crate) fn end(&self, wanted: bool) {
        let lines = self.noise.lock().lines();
        if lines > 0 {
            let provider = &*self.provider;
            tracing::debug!(
                provider.name = provider,
                process.lines = lines,
                "lines that are not JSON-RPC"
            );
        }
        self.drop_requests();
        self.stop.cancel();
        if let (false, Some(shared)) = (wanted, self.shared.upgrade())
            && !shared.closing.is_cancelled()
        {
            let sound = self.born.elapsed() >= self.sound;
            let restarts = &shared.restarts;
            restarts.record_failure(&self.key, sound, Instant::now(), &self.end_error());
            shared.hubs.publish_change(&self.key, ProviderChange::Lost);
        }
    }
}

/// A request's entry; dropped without an answer it cancels the request.
struct PendingGuard<'a> {
    wire: &'a Wire,
    id: u64,
    sent: bool,
}

impl Drop for PendingGuard<'_> {
    fn drop(&mut self) {
        let unanswered = self.wire.state.requests.lock().remove(&self.id).is_some();
        if unanswered && self.sent && self.wire.handshake.get().is_some() {
            self.wire.cancel(self.id);
        }
    }
}

impl Pooled for Wire {
    fn end(self: &Arc<Self>) {
        self.state.stop.cancel();
    }

    fn is_alive(&self) -> bool {
        !self.state.is_dead() && !self.state.stop.is_cancelled()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.state.stop.cancel();
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("provider", &self.state.provider)
            .field("handshake", &self.handshake)
            .finish_non_exhaustive()
    }
}
