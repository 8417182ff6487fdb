//! A provider that is a child process: newline-delimited JSON-RPC, many requests at once.
//!
//! Its tasks live on the control runtime. Whatever ends it ends its whole process group.

use std::{
    collections::HashMap,
    ffi::OsString,
    fmt,
    process::Stdio,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::join;
use parking_lot::Mutex;
use tokio::{
    process::Command,
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    call::Profile,
    incoming::Outcome,
    outgoing,
    patience::Patience,
    pool::{Key, Member},
    post::late,
    shared::Shared,
};
use crate::error::{Code, Error};
use crate::mcp::Revision;
use crate::secret::Secret;

mod keeper;
mod pipes;

use keeper::Keeper;
use pipes::{Reader, log, write};

/// Lines waiting to be written.
const QUEUE: usize = 64;
/// Requests under way in one process.
const UNDER_WAY: usize = 1024;
/// What to start.
#[derive(Debug)]
pub(crate) struct Program<'a> {
    pub(crate) command: &'a [String],
    pub(crate) env: &'a [(String, Secret)],
    pub(crate) folder: &'a std::path::Path,
}

pub(crate) struct Process {
    provider: Arc<str>,
    lines: mpsc::Sender<Vec<u8>>,
    waiting: Arc<Waiting>,
    stop: CancellationToken,
    /// Settled by the handshake.
    pub(crate) manner: OnceLock<Manner>,
}

/// How a process turned out to speak.
#[derive(Debug)]
pub(crate) struct Manner {
    pub(crate) revision: Revision,
    pub(crate) profile: Profile,
}

/// Requests without an answer.
#[derive(Default)]
struct Waiting {
    requests: Mutex<HashMap<u64, Pending>>,
    dead: AtomicBool,
}

type Pending = oneshot::Sender<Outcome>;

impl Process {
    /// Starts a program in a group and an environment of its own.
    pub(crate) fn spawn(
        shared: &Arc<Shared>,
        provider: &Arc<str>,
        key: &Key,
        program: &Program<'_>,
    ) -> Result<Arc<Self>, Error> {
        // The child and its pipes are driven by the runtime that is current here.
        let _control = shared.control.enter();
        let mut child = command(program, &shared.environment)?.spawn().map_err(|error| {
            let message = "the provider's command could not be started; check `upstream.command`";
            Error::new(Code::UpstreamUnreachable, message).because(error)
        })?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(Error::new(Code::Internal, "a child process has no pipes"));
        };
        let (lines, queue) = mpsc::channel(QUEUE);
        let process = Arc::new(Self {
            provider: Arc::clone(provider),
            lines: lines.clone(),
            waiting: Arc::default(),
            stop: shared.closing.child_token(),
            manner: OnceLock::new(),
        });
        let stop = process.stop.clone();
        let reader = Reader {
            provider: Arc::clone(provider),
            waiting: Arc::clone(&process.waiting),
            lines: lines.downgrade(),
            key: key.clone(),
            shared: Arc::downgrade(shared),
        };
        // A descendant in a group of its own keeps the pipes open, for as long as it likes.
        let gone = CancellationToken::new();
        let until_gone = gone.clone();
        let reading = reader.run(stdout, stop.clone());
        let logging = log(stderr, Arc::clone(provider));
        shared.control.spawn(write(stdin, queue, stop.clone()));
        shared
            .control
            .spawn(async move { until_gone.run_until_cancelled(join(reading, logging)).await });
        let keeper = Keeper {
            provider: Arc::clone(provider),
            waiting: Arc::clone(&process.waiting),
            stop,
            kill: shared.killing.clone(),
            gone: gone.drop_guard(),
            shared: Arc::downgrade(shared),
            key: key.clone(),
        };
        shared.children.spawn_on(keeper.run(child), &shared.control);
        Ok(process)
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
        self.waiting.add(id, answer)?;
        let mut place = Place {
            process: self,
            id,
            sent: false,
        };
        match timeout_at(deadline, self.lines.send(body)).await {
            Err(_) => {
                let message = "the provider's process reads too slowly";
                return Err(Error::new(Code::UpstreamTimeout, message));
            }
            Ok(Err(_)) => return Err(died()),
            Ok(Ok(())) => place.sent = true,
        }
        let answered = match patience {
            Some(patience) => patience.bear(answered).await,
            None => timeout_at(deadline, answered).await.ok(),
        };
        match answered {
            None => Err(late()),
            Some(Err(_)) => Err(died().sent()),
            Some(Ok(outcome)) => Ok(outcome),
        }
    }

    /// Cancelled when the process is at its end.
    pub(crate) fn over(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// A message without an answer.
    pub(crate) async fn notify(&self, body: Vec<u8>, deadline: Instant) -> Result<(), Error> {
        match timeout_at(deadline, self.lines.send(body)).await {
            Err(_) => Err(late()),
            Ok(Err(_)) => Err(died()),
            Ok(Ok(())) => Ok(()),
        }
    }
}

fn died() -> Error {
    Error::new(Code::UpstreamUnreachable, "the provider's process ended").because("process ended")
}

fn command(program: &Program<'_>, minimal: &[(OsString, OsString)]) -> Result<Command, Error> {
    let Some((name, arguments)) = program.command.split_first() else {
        return Err(Error::new(Code::Internal, "the provider's command is empty"));
    };
    let mut command = Command::new(name);
    command
        .args(arguments)
        .env_clear()
        .envs(minimal.iter().map(|(name, value)| (name, value)))
        .envs(program.env.iter().map(|(name, value)| (name, value.expose())))
        .current_dir(program.folder)
        .process_group(0)
        .kill_on_drop(true)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Ok(command)
}

impl Waiting {
    fn add(&self, id: u64, pending: Pending) -> Result<(), Error> {
        let mut requests = self.requests.lock();
        if self.dead.load(Ordering::Acquire) {
            return Err(died());
        }
        if requests.len() >= UNDER_WAY {
            let message = "too many requests to the provider's process are under way";
            return Err(Error::new(Code::Busy, message).retry_after(Duration::from_secs(1)));
        }
        requests.insert(id, pending);
        Ok(())
    }

    /// Nothing will be answered any more: those who wait are told by their dropped channel.
    fn bury(&self) {
        let mut requests = self.requests.lock();
        self.dead.store(true, Ordering::Release);
        requests.clear();
    }
}

/// A request's entry; leaving without an answer tells the process that nobody waits.
struct Place<'a> {
    process: &'a Process,
    id: u64,
    sent: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let unanswered = self.process.waiting.requests.lock().remove(&self.id).is_some();
        if unanswered && self.sent && self.process.manner.get().is_some() {
            let told = self.process.lines.try_send(outgoing::cancelled(self.id));
            tracing::trace!(
                provider.name = &*self.process.provider,
                told = told.is_ok(),
                "a request was cancelled"
            );
        }
    }
}

impl Member for Process {
    fn end(self: &Arc<Self>) {
        self.stop.cancel();
    }

    fn is_alive(&self) -> bool {
        !self.waiting.dead.load(Ordering::Acquire) && !self.stop.is_cancelled()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("provider", &self.provider)
            .field("manner", &self.manner)
            .finish_non_exhaustive()
    }
}
