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
    answer::crowded,
    call::{Change, Profile},
    doubt::Doubt,
    incoming::Outcome,
    outgoing,
    patience::Patience,
    pool::{Key, Member},
    post::late,
    posts::Posts,
    shared::Shared,
};
use crate::credential::Signature;
use crate::error::{Code, Error};
use crate::limit::load;
use crate::mcp::Revision;
use crate::secret::Secret;

mod ear;
mod ending;
mod junk;

pub(crate) use ear::Ear;
pub(crate) use ending::Ending;
use junk::Junk;

/// Requests under way on one wire.
pub(crate) const UNDER_WAY: usize = 1024;

pub(crate) struct Wire {
    life: Arc<Life>,
    mouth: Mouth,
    /// Settled by the handshake.
    pub(crate) manner: OnceLock<Manner>,
    /// Whether it is still worth keeping.
    pub(crate) doubt: Doubt,
}

/// How messages go out.
pub(crate) enum Mouth {
    /// A line each.
    Pipe(mpsc::Sender<Vec<u8>>),
    /// A POST each.
    Posts(Posts),
}

/// How the other side turned out to speak.
#[derive(Debug)]
pub(crate) struct Manner {
    pub(crate) revision: Revision,
    pub(crate) profile: Profile,
}

/// What those who write, read and watch one wire share.
pub(crate) struct Life {
    pub(crate) provider: Arc<str>,
    pub(crate) key: Key,
    pub(crate) shared: Weak<Shared>,
    /// Cancelled when the wire is at its end.
    pub(crate) stop: CancellationToken,
    born: Instant,
    sound: Duration,
    requests: Mutex<HashMap<u64, Pending>>,
    /// Nothing more is heard: what it said last may still be on its way.
    mute: AtomicBool,
    dead: AtomicBool,
    /// Why nothing that is said can be read.
    spoilt: OnceLock<&'static str>,
    junk: Mutex<Junk>,
    /// How a child process ends.
    pub(crate) ending: Ending,
    /// What a child process was given to keep: no line of it that we keep or log shows any of it.
    pub(crate) secrets: OnceLock<Vec<Secret>>,
}

/// A request without an answer: it gets the other side's, or why there will be none.
type Pending = oneshot::Sender<Result<Outcome, Error>>;

impl Wire {
    pub(crate) const fn new(life: Arc<Life>, mouth: Mouth) -> Self {
        Self {
            life,
            mouth,
            manner: OnceLock::new(),
            doubt: Doubt::new(),
        }
    }

    /// One request and its answer.
    pub(crate) async fn request(
        &self,
        id: u64,
        body: Vec<u8>,
        deadline: Instant,
        patience: Option<&Patience>,
    ) -> Result<Outcome, Error> {
        let (answer, answered) = oneshot::channel();
        self.life.add(id, answer)?;
        let noise = self.life.junk.lock().lines();
        let mut place = Place {
            wire: self,
            id,
            sent: false,
        };
        match &self.mouth {
            Mouth::Pipe(lines) => self.write(lines, body, deadline).await?,
            Mouth::Posts(posts) => drop(posts.send(Some(id), body, self.settled(), deadline)?),
        }
        place.sent = true;
        let answered = match patience {
            Some(patience) => patience.bear(answered).await,
            None => timeout_at(deadline, answered).await.ok(),
        };
        match answered {
            None => Err(self.life.late(noise)),
            Some(Err(_)) => Err(self.life.died().sent()),
            Some(Ok(Ok(Ok(result)))) => {
                load::came(result.get().len()).map_err(|_full| crowded())?;
                load::step_aside().await;
                Ok(Ok(result))
            }
            Some(Ok(answer)) => answer,
        }
    }

    /// A message without an answer; returns once it is on its way, or taken where that shows.
    pub(crate) async fn notify(&self, body: Vec<u8>, deadline: Instant) -> Result<(), Error> {
        match &self.mouth {
            Mouth::Pipe(lines) => self.write(lines, body, deadline).await,
            Mouth::Posts(posts) => posts
                .send(None, body, self.settled(), deadline)?
                .await
                .unwrap_or_else(|_| Err(self.life.died())),
        }
    }

    /// Cancelled when the wire is at its end.
    pub(crate) fn over(&self) -> CancellationToken {
        self.life.stop.clone()
    }

    /// Messages bear this credential from now on.
    pub(crate) fn sign(&self, signature: &Arc<Signature>) {
        if let Mouth::Posts(posts) = &self.mouth {
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
                Err(Error::new(Code::UpstreamTimeout, message))
            }
            Ok(Err(_)) => Err(self.life.died()),
            Ok(Ok(())) => Ok(()),
        }
    }

    fn settled(&self) -> Option<Revision> {
        self.manner.get().map(|manner| manner.revision)
    }

    /// Says without waiting that an answer is not waited for any more.
    fn cancel(&self, id: u64) {
        let body = outgoing::cancelled(id);
        let told = match &self.mouth {
            Mouth::Pipe(lines) => lines.try_send(body).is_ok(),
            Mouth::Posts(posts) => posts
                .send(None, body, self.settled(), Instant::now() + ERRAND)
                .is_ok(),
        };
        tracing::trace!(
            provider.name = &*self.life.provider,
            told,
            "a request was cancelled"
        );
    }
}

/// How long the other side may take to take a message that nobody waits for.
const ERRAND: Duration = Duration::from_secs(10);

/// An answer came, and it is none.
fn unreadable(why: &str) -> Error {
    let message = format!("the provider's answer cannot be read: {why}");
    Error::new(Code::UpstreamProtocol, message).sent()
}

impl Life {
    /// `sound`: the lifetime after which an end is no sign of a fault that lasts.
    pub(crate) fn new(shared: &Arc<Shared>, provider: &Arc<str>, key: &Key, sound: Duration) -> Arc<Self> {
        Arc::new(Self {
            provider: Arc::clone(provider),
            key: key.clone(),
            shared: Arc::downgrade(shared),
            stop: shared.closing.child_token(),
            born: Instant::now(),
            sound,
            requests: Mutex::default(),
            mute: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            spoilt: OnceLock::new(),
            junk: Mutex::default(),
            ending: Ending::default(),
            secrets: OnceLock::new(),
        })
    }

    fn add(&self, id: u64, pending: Pending) -> Result<(), Error> {
        let mut requests = self.requests.lock();
        if let Some(why) = self.spoilt.get() {
            return Err(unreadable(why));
        }
        if self.is_dead() || self.is_mute() {
            return Err(self.died());
        }
        if requests.len() >= UNDER_WAY {
            let message = "too many requests to the provider's process or stream are under way";
            return Err(Error::new(Code::Busy, message).retry_after(Duration::from_secs(1)));
        }
        requests.insert(id, pending);
        Ok(())
    }

    /// Ends the waiting of a request; whether anybody heard it.
    pub(crate) fn answer(&self, id: u64, answer: Result<Outcome, Error>) -> bool {
        let pending = self.requests.lock().remove(&id);
        pending.is_some_and(|pending| pending.send(answer).is_ok())
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    /// A line of the other side without the secrets it was given; one shorter than six bytes is no secret but a
    /// part of words.
    pub(crate) fn veiled(&self, line: &str) -> String {
        let shown = |line: String, secret: &Secret| match secret.expose() {
            secret if secret.len() >= 6 => line.replace(secret, "…"),
            _ => line,
        };
        let secrets = self.secrets.get().map_or(&[][..], Vec::as_slice);
        secrets.iter().fold(line.to_owned(), shown)
    }

    /// Nothing more will be heard; what is known of its end comes with [`Life::end`].
    pub(crate) fn fall_silent(&self) {
        self.mute.store(true, Ordering::Release);
        self.stop.cancel();
    }

    pub(crate) fn is_mute(&self) -> bool {
        self.mute.load(Ordering::Acquire)
    }

    /// Nothing that comes on this wire can be read: all who wait are told, and all who come.
    fn spoil(&self, why: &'static str) {
        let mut requests = self.requests.lock();
        let why = self.spoilt.get_or_init(|| why);
        for (_, pending) in requests.drain() {
            pending.send(Err(unreadable(why))).ok();
        }
    }

    /// The end of a wire as whoever waited is told it: status and last words of a process.
    pub(crate) fn died(&self) -> Error {
        self.ending.error()
    }

    /// The deadline passed; `before`: how much junk had come when the request was made.
    fn late(&self, before: u64) -> Error {
        let junk = self.junk.lock();
        let lines = junk.lines().saturating_sub(before);
        if lines == 0 {
            return late();
        }
        let message = "the provider did not answer in time, and said what is not JSON-RPC meanwhile";
        let first = junk.first().unwrap_or_default();
        Error::new(Code::UpstreamTimeout, message)
            .because(format!(
                "lines that are not JSON-RPC: {lines}; the first of all: {first}"
            ))
            .sent()
    }

    /// Nothing will be answered any more: those who wait are told by their dropped channel.
    pub(crate) fn bury(&self) {
        let mut requests = self.requests.lock();
        self.dead.store(true, Ordering::Release);
        requests.clear();
    }

    /// Buries; an end that nobody wanted is told to listeners and delays the next beginning.
    pub(crate) fn end(&self, wanted: bool) {
        let lines = self.junk.lock().lines();
        if lines > 0 {
            tracing::debug!(
                provider.name = &*self.provider,
                lines,
                "what was said and is not JSON-RPC"
            );
        }
        self.bury();
        self.stop.cancel();
        if let (false, Some(shared)) = (wanted, self.shared.upgrade())
            && !shared.closing.is_cancelled()
        {
            let sound = self.born.elapsed() >= self.sound;
            let why = self.died().message.into_owned();
            shared.restarts.died(&self.key, sound, Instant::now(), &why);
            shared.hubs.tell(&self.key, Change::Lost);
        }
    }
}

/// A request's entry; leaving without an answer tells the other side that nobody waits.
struct Place<'a> {
    wire: &'a Wire,
    id: u64,
    sent: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let unanswered = self.wire.life.requests.lock().remove(&self.id).is_some();
        if unanswered && self.sent && self.wire.manner.get().is_some() {
            self.wire.cancel(self.id);
        }
    }
}

impl Member for Wire {
    fn end(self: &Arc<Self>) {
        self.life.stop.cancel();
    }

    fn is_alive(&self) -> bool {
        !self.life.is_dead() && !self.life.stop.is_cancelled()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.life.stop.cancel();
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("provider", &self.life.provider)
            .field("manner", &self.manner)
            .finish_non_exhaustive()
    }
}
