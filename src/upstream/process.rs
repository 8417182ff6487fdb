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

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::{
    io::BufReader,
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    answer::LARGEST,
    call::{Change, Event, Profile},
    incoming::{self, Outcome, number},
    lines::{Line, next_line},
    outgoing,
    pool::{Key, Member},
    post::late,
    shared::Shared,
};
use crate::error::{Code, Error};
use crate::mcp::{Message, Revision, message};
use crate::secret::Secret;

/// Lines waiting to be written.
const QUEUE: usize = 64;
/// Requests under way in one process.
const UNDER_WAY: usize = 1024;
/// The longest line of its log that is kept.
const LOG_LINE: usize = 8 * 1024;
/// Between SIGTERM and SIGKILL, and for SIGKILL to work.
const GRACE: Duration = Duration::from_millis(800);
/// How often a process group is looked at while it ends.
const LOOK: Duration = Duration::from_millis(20);

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

struct Pending {
    answer: oneshot::Sender<Outcome>,
    progress: Option<mpsc::Sender<Event>>,
}

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
        let mut child = command(program, &shared.environment)?
            .spawn()
            .map_err(|error| {
                let message =
                    "the provider's command could not be started; check `upstream.command`";
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
        shared.control.spawn(write(stdin, queue, stop.clone()));
        shared.control.spawn(log(stderr, Arc::clone(provider)));
        shared.control.spawn(reader.run(stdout, stop.clone()));
        let keeper = Keeper {
            provider: Arc::clone(provider),
            waiting: Arc::clone(&process.waiting),
            stop,
            kill: shared.killing.clone(),
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
        progress: Option<mpsc::Sender<Event>>,
    ) -> Result<Outcome, Error> {
        let (answer, answered) = oneshot::channel();
        self.waiting.add(id, Pending { answer, progress })?;
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
        match timeout_at(deadline, answered).await {
            Err(_) => Err(late()),
            Ok(Err(_)) => Err(died().sent()),
            Ok(Ok(outcome)) => Ok(outcome),
        }
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
        return Err(Error::new(
            Code::Internal,
            "the provider's command is empty",
        ));
    };
    let mut command = Command::new(name);
    command
        .args(arguments)
        .env_clear()
        .envs(minimal.iter().map(|(name, value)| (name, value)))
        .envs(
            program
                .env
                .iter()
                .map(|(name, value)| (name, value.expose())),
        )
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
        let unanswered = self
            .process
            .waiting
            .requests
            .lock()
            .remove(&self.id)
            .is_some();
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

async fn write(mut stdin: ChildStdin, mut queue: mpsc::Receiver<Vec<u8>>, stop: CancellationToken) {
    use tokio::io::AsyncWriteExt;
    while let Some(Some(mut line)) = stop.run_until_cancelled(queue.recv()).await {
        line.push(b'\n');
        let written = stop.run_until_cancelled(async {
            stdin.write_all(&line).await?;
            stdin.flush().await
        });
        if !matches!(written.await, Some(Ok(()))) {
            break;
        }
    }
    // Dropping its stdin asks a process to end, as the transport prescribes.
}

async fn log(stderr: ChildStderr, provider: Arc<str>) {
    let mut reader = BufReader::new(stderr);
    let mut buffer = Vec::new();
    loop {
        match next_line(&mut reader, &mut buffer, LOG_LINE).await {
            Ok(Line::Whole | Line::TooLong) => {
                let line = String::from_utf8_lossy(&buffer);
                tracing::debug!(
                    provider.name = &*provider,
                    line = line.trim_end(),
                    "the provider's process says"
                );
            }
            Ok(Line::End) | Err(_) => return,
        }
    }
}

/// Reads what the process answers.
struct Reader {
    provider: Arc<str>,
    waiting: Arc<Waiting>,
    lines: mpsc::WeakSender<Vec<u8>>,
    key: Key,
    shared: std::sync::Weak<Shared>,
}

impl Reader {
    async fn run(self, stdout: ChildStdout, stop: CancellationToken) {
        let mut reader = BufReader::with_capacity(64 * 1024, stdout);
        let mut buffer = Vec::new();
        loop {
            match next_line(&mut reader, &mut buffer, LARGEST).await {
                Ok(Line::Whole) => self.line(&buffer),
                Ok(Line::TooLong) => {
                    tracing::warn!(
                        provider.name = &*self.provider,
                        limit = LARGEST,
                        "a line of the provider's process is too long and was dropped"
                    );
                }
                Ok(Line::End) | Err(_) => break,
            }
            if buffer.capacity() > LARGEST / 32 {
                buffer = Vec::new();
            }
        }
        // Without its stdout a process is of no use, whether it still runs or not.
        self.waiting.bury();
        stop.cancel();
    }

    fn line(&self, line: &[u8]) {
        if line.trim_ascii().is_empty() {
            return;
        }
        match message::decode(line) {
            Ok(Message::Response { id, outcome }) => {
                let pending = number(&id.0).and_then(|id| self.waiting.requests.lock().remove(&id));
                if let Some(pending) = pending {
                    let heard = pending.answer.send(outcome).is_ok();
                    tracing::trace!(provider.name = &*self.provider, heard, "an answer came");
                }
            }
            Ok(Message::Request { id, method, .. }) => {
                let reply = incoming::reply(&id, &method);
                let told = self
                    .lines
                    .upgrade()
                    .is_some_and(|lines| lines.try_send(reply).is_ok());
                tracing::trace!(
                    provider.name = &*self.provider,
                    method,
                    told,
                    "the provider asked"
                );
            }
            Ok(Message::Notification { method, params }) => {
                if let (Some(change), Some(shared)) = (Change::of(&method), self.shared.upgrade()) {
                    shared.hubs.tell(&self.key, change);
                }
                self.notify(method, params);
            }
            Err(error) => match incoming::fault(line) {
                Some((fault, Some(id))) => {
                    let pending = self.waiting.requests.lock().remove(&id);
                    let heard =
                        pending.is_some_and(|pending| pending.answer.send(Err(fault)).is_ok());
                    tracing::trace!(provider.name = &*self.provider, heard, "a refusal came");
                }
                _ => {
                    tracing::debug!(provider.name = &*self.provider, %error, "a line of the provider's process is not JSON-RPC")
                }
            },
        }
    }

    fn notify(&self, method: String, params: Option<crate::mcp::Raw>) {
        let Some(token) = incoming::token(params.as_ref()) else {
            return;
        };
        let progress = self
            .waiting
            .requests
            .lock()
            .get(&token)
            .and_then(|pending| pending.progress.clone());
        incoming::notify(progress.as_ref(), token, method, params);
    }
}

/// Owns the child: notices its death, and ends its group.
struct Keeper {
    provider: Arc<str>,
    waiting: Arc<Waiting>,
    stop: CancellationToken,
    kill: CancellationToken,
    shared: std::sync::Weak<Shared>,
    key: Key,
}

impl Keeper {
    async fn run(self, mut child: Child) {
        let born = Instant::now();
        let group = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        let wanted = tokio::select! {
            biased;
            () = self.stop.cancelled() => !self.waiting.dead.load(Ordering::Acquire),
            status = child.wait() => {
                tracing::warn!(provider.name = &*self.provider, status = status.ok().map(|status| status.to_string()), "the provider's process ended");
                false
            }
        };
        self.waiting.bury();
        self.stop.cancel();
        if let (false, Some(shared)) = (wanted, self.shared.upgrade())
            && !shared.closing.is_cancelled()
        {
            shared
                .restarts
                .died(&self.key, born.elapsed(), Instant::now());
            shared.hubs.tell(&self.key, Change::Lost);
        }
        if let Some(group) = group {
            self.end(group, &mut child).await;
        }
        let reaped = child.wait().await;
        tracing::debug!(
            provider.name = &*self.provider,
            ?reaped,
            "the provider's process is gone"
        );
    }

    /// SIGTERM to the group, SIGKILL to what is left of it.
    async fn end(&self, group: Pid, child: &mut Child) {
        let asked = kill_process_group(group, Signal::TERM);
        tracing::trace!(
            provider.name = &*self.provider,
            ?asked,
            "the process group was asked to end"
        );
        tokio::select! {
            () = emptied(group, child) => return,
            () = sleep(GRACE) => {}
            () = self.kill.cancelled() => {}
        }
        let killed = kill_process_group(group, Signal::KILL);
        tracing::trace!(
            provider.name = &*self.provider,
            ?killed,
            "the process group was killed"
        );
        // Bounded: orphans that nobody reaps stay in their group as zombies.
        if timeout(GRACE, emptied(group, child)).await.is_err() {
            tracing::debug!(
                provider.name = &*self.provider,
                "a process group outlives its end"
            );
        }
    }
}

/// Waits until no process of a group is left.
async fn emptied(group: Pid, child: &mut Child) {
    // Reaps the leader: as a zombie it would keep its group in being.
    while !matches!(child.try_wait(), Ok(Some(_))) || test_kill_process_group(group).is_ok() {
        sleep(LOOK).await;
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
