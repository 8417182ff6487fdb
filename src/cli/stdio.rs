//! `pleiades stdio`: the same server over stdin and stdout, one JSON-RPC message a line.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::{Global, exit};
use crate::app::{App, termination_signal};
use pleiades_core::error::{Code, Error};
use pleiades_core::telemetry::events::RequestDone;
use pleiades_core::telemetry::{View, names};
use pleiades_gateway::catalog::Snapshot;
use pleiades_gateway::exchange::{
    Arrived, ConnectCommand, Keys, Outlet, Peer, Record, Reply, Scope, abilities, client_name, negotiated,
    rpc_fault_of,
};
use pleiades_mcp::{ClientCapabilities, Revision, message};

/// Lines that may wait for a slow reader.
const BACKLOG: usize = 256;
/// Grace for running requests after stdin has ended.
const FAREWELL: Duration = Duration::from_millis(700);
/// Grace for answers that are being written after that.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// Grace for child processes; with the one before less than the 2 s after which clients kill.
const STOP: Duration = Duration::from_millis(800);

/// Runs until stdin ends, or a signal comes.
pub(super) fn run(global: &Global) -> Result<u8, u8> {
    let app = super::open(global, &global.overrides(), None)?;
    // Nobody listens here for the page of a link.
    app.services().exchange.accounts.connect_by(ConnectCommand {
        program: super::invocation::from_anywhere(global, app.settings()),
        names_page: true,
    });
    let (server, lines) = StdioServer::new(&app);
    let served = app.control().block_on(server.serve(lines));
    app.stop(STOP);
    served.map(|()| exit::OK).map_err(|cause| {
        super::ui::fail(format_args!("stdin or stdout broke: {cause}"));
        exit::UNAVAILABLE
    })
}

/// What `initialize` said: the revision, what the client can do, and its name as metrics know it.
type SettledClient = (Revision, ClientCapabilities, &'static str);

struct StdioServer {
    app: Arc<crate::app::Services>,
    scope: Scope,
    /// What `initialize` settled; requests of 2026-07-28 speak for themselves.
    settled: Mutex<Option<SettledClient>>,
    keys: pleiades_descriptor::Environment,
    /// Whether list changes are sent; once is enough however often a client says that it is ready.
    is_announcing: AtomicBool,
    lines: mpsc::Sender<Vec<u8>>,
    tasks: TaskTracker,
}

impl StdioServer {
    fn new(app: &App) -> (Arc<Self>, mpsc::Receiver<Vec<u8>>) {
        let (lines, receiver) = mpsc::channel(BACKLOG);
        let server = Arc::new(Self {
            app: app.services(),
            scope: Scope::new(View::Meta, None),
            settled: Mutex::new(None),
            keys: pleiades_descriptor::settings::environment(),
            is_announcing: AtomicBool::new(false),
            lines,
            tasks: TaskTracker::new(),
        });
        (server, receiver)
    }

    async fn serve(self: Arc<Self>, receiver: mpsc::Receiver<Vec<u8>>) -> std::io::Result<()> {
        let writer = tokio::spawn(write(receiver));
        let read = tokio::select! {
            read = self.read() => read,
            () = termination_signal() => Ok(()),
        };
        let exchange = &self.app.exchange;
        exchange.closing.cancel();
        self.tasks.close();
        if timeout(FAREWELL, self.tasks.wait()).await.is_err() {
            exchange.ending.cancel();
            timeout(LAST_WORDS, self.tasks.wait()).await.ok();
        }
        drop(self);
        timeout(LAST_WORDS, writer).await.ok();
        read
    }

    async fn read(self: &Arc<Self>) -> std::io::Result<()> {
        let limit = self.app.max_body;
        let mut stdin = BufReader::new(tokio::io::stdin());
        let mut line = Vec::new();
        loop {
            line.clear();
            match next_line(&mut stdin, &mut line, limit).await? {
                InputLine::End => return Ok(()),
                InputLine::TooLong => {
                    let error = Error::new(
                        Code::TooLarge,
                        format!("a line is longer than {limit} bytes (`max_body`)"),
                    );
                    self.refuse(None, &error, Revision::NEWEST_LEGACY).await;
                }
                InputLine::Whole if line.trim_ascii().is_empty() => {}
                InputLine::Whole => self.arrived(&line).await,
            }
        }
    }

    async fn arrived(self: &Arc<Self>, line: &[u8]) {
        let started = Instant::now();
        let message = match message::decode(line) {
            Ok(message) => message,
            Err(error) => {
                let (error, id) = message::split_id(error);
                return self.refuse(id.as_ref(), &error, Revision::NEWEST_LEGACY).await;
            }
        };
        let message = Arrived::open(message);
        let peer = match self.peer(&message) {
            Ok(peer) => peer,
            Err(error) => return self.refuse(message.id(), &error, Revision::V2026_07_28).await,
        };
        let snapshot = self.app.exchange.snapshot(&self.scope, &peer.principal);
        if message.method == "notifications/initialized" && !self.is_announcing.swap(true, Ordering::Relaxed)
        {
            let changes = self.app.exchange.session_stream(&snapshot, &self.scope, &peer);
            self.tasks.spawn(Arc::clone(self).pump(changes));
        }
        if message.id().is_some() && message.method == "initialize" && !peer.revision.is_modern() {
            let params = &message.params;
            *self.settled.lock() = Some((negotiated(params), abilities(params), client_name(params)));
        }
        let answer = Arc::clone(self).answer(peer, message, (snapshot, started));
        self.tasks.spawn(answer);
    }

    fn peer(&self, message: &Arrived) -> Result<Peer, Error> {
        let stated = message.capabilities();
        let (revision, abilities, client) = if message.version().is_some() {
            if message.id().is_some() {
                message.check_meta()?;
            }
            (
                Revision::V2026_07_28,
                stated.map(ClientCapabilities::of).unwrap_or_default(),
                None,
            )
        } else {
            let unknown = (Revision::V2025_06_18, ClientCapabilities::NONE, names::OTHER);
            let (revision, abilities, client) = self.settled.lock().unwrap_or(unknown);
            (revision, abilities, Some(client))
        };
        let capabilities = stated.filter(|_| revision.is_modern());
        Ok(Peer {
            principal: self.app.principal.clone(),
            revision,
            abilities,
            capabilities: capabilities.map(ToOwned::to_owned),
            session: Some(Arc::from("stdio")),
            client,
            keys: Keys::Environment(Arc::clone(&self.keys)),
            trace: None,
            request_id: self.app.ids.next(),
        })
    }

    async fn answer(
        self: Arc<Self>,
        peer: Peer,
        message: Arrived,
        (snapshot, started): (Arc<Snapshot>, Instant),
    ) {
        let (outlet, mut inlet) = Outlet::open(&message).unzip();
        let exchange = Arc::clone(&self.app.exchange);
        let handled = async {
            let handled = exchange
                .handle(&snapshot, (&self.scope, &peer), message, outlet.as_ref())
                .await;
            drop(outlet);
            handled
        };
        let notices = async {
            while let Some(notice) = match inlet.as_mut() {
                Some(inlet) => inlet.message().await,
                None => None,
            } {
                self.say(notice).await;
            }
        };
        let ((reply, record), ()) = tokio::join!(handled, notices);
        self.done(&peer, record, started);
        match reply {
            Reply::Accepted => {}
            // A cancelled request gets no answer (2025-11-25, "Cancellation"), nor does an answer.
            Reply::Answer {
                code: Some(Code::Cancelled | Code::UnknownQuestion),
                ..
            } => {}
            Reply::Answer { body, .. } => self.say(body).await,
            Reply::Stream(messages) => self.pump(messages).await,
        }
    }

    async fn pump(self: Arc<Self>, mut messages: mpsc::Receiver<Vec<u8>>) {
        while let Some(message) = messages.recv().await {
            self.say(message).await;
        }
    }

    /// Refuses a line that is no message for the exchange.
    async fn refuse(&self, id: Option<&pleiades_mcp::Id>, error: &Error, revision: Revision) {
        let request_id = self.app.ids.next();
        let fault = rpc_fault_of(error, revision, Some(&request_id));
        let mut done = RequestDone::new(request_id, "stdio");
        done.view = Some(self.scope.view);
        done.outcome = error.code.as_str();
        done.cause = Some(error.cause());
        done.emit(&self.app.metrics);
        self.say(message::error(id, &fault)).await;
    }

    async fn say(&self, message: Vec<u8>) {
        // The writer is gone only when stdout is.
        drop(self.lines.send(message).await);
    }

    fn done(&self, peer: &Peer, mut record: Record, started: Instant) {
        let method = std::mem::take(&mut record.method);
        let mut done = RequestDone::new(peer.request_id.clone(), method);
        peer.describe(&mut done);
        record.describe(&mut done);
        done.view = Some(self.scope.view);
        done.duration = started.elapsed();
        done.emit(&self.app.metrics);
    }
}

enum InputLine {
    Whole,
    TooLong,
    End,
}

/// Reads one line; of one that is too long the rest is read away.
async fn next_line(
    from: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
    limit: usize,
) -> std::io::Result<InputLine> {
    let mut long = false;
    loop {
        let chunk = from.fill_buf().await?;
        if chunk.is_empty() && line.is_empty() && !long {
            return Ok(InputLine::End);
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let part = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or_default();
        let used = end.map_or(part.len(), |end| end + 1);
        long |= line.len() + part.len() > limit;
        if !long {
            line.extend_from_slice(part);
        }
        let done = end.is_some() || used == 0;
        from.consume(used);
        if done {
            return Ok(if long {
                InputLine::TooLong
            } else {
                InputLine::Whole
            });
        }
    }
}

/// Writes one message a line.
async fn write(mut lines: mpsc::Receiver<Vec<u8>>) -> std::io::Result<()> {
    let mut stdout = tokio::io::stdout();
    while let Some(mut line) = lines.recv().await {
        // What a provider sent may be set over several lines; outside of strings that is space.
        line.iter_mut()
            .filter(|byte| matches!(byte, b'\n' | b'\r'))
            .for_each(|byte| *byte = b' ');
        line.push(b'\n');
        stdout.write_all(&line).await?;
        stdout.flush().await?;
    }
    Ok(())
}
