//! `pleiades stdio`: the same server over stdin and stdout, one JSON-RPC message a line.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::{Global, exit};
use crate::app::App;
use crate::error::{Code, Error};
use crate::exchange::{Arrived, Keys, Outlet, Peer, Record, Reply, Scope, negotiated, rpc_fault};
use crate::mcp::{Revision, message};
use crate::settings::Overrides;
use crate::telemetry::View;
use crate::telemetry::events::RequestDone;

/// Lines wait here for a slow reader.
const BACKLOG: usize = 256;
/// What running requests get when stdin has ended.
const FAREWELL: Duration = Duration::from_millis(700);

/// Runs until stdin ends.
pub(super) fn run(global: &Global) -> u8 {
    let overrides = Overrides { providers: global.providers.clone(), ..Overrides::default() };
    let app = match super::open(global, &overrides, None) {
        Ok(app) => app,
        Err(code) => return code,
    };
    let control = app.control();
    let served = control.block_on(Server::new(&app).serve());
    app.stop(Duration::from_secs(1));
    match served {
        Ok(()) => exit::OK,
        Err(cause) => {
            super::ui::fail(format_args!("stdin or stdout broke: {cause}"));
            exit::UNAVAILABLE
        }
    }
}

struct Server {
    app: Arc<crate::app::Parts>,
    scope: Scope,
    /// What `initialize` settled; requests of 2026-07-28 speak for themselves.
    settled: Mutex<Option<Revision>>,
    keys: crate::descriptor::Environment,
    lines: mpsc::Sender<Vec<u8>>,
    writer: Mutex<Option<mpsc::Receiver<Vec<u8>>>>,
    tasks: TaskTracker,
}

impl Server {
    fn new(app: &App) -> Arc<Self> {
        let (lines, writer) = mpsc::channel(BACKLOG);
        Arc::new(Self {
            app: app.parts(),
            scope: Scope { view: View::Meta, provider: None },
            settled: Mutex::new(None),
            keys: crate::settings::environment(),
            lines,
            writer: Mutex::new(Some(writer)),
            tasks: TaskTracker::new(),
        })
    }

    async fn serve(self: Arc<Self>) -> std::io::Result<()> {
        let Some(receiver) = self.writer.lock().take() else { return Ok(()) };
        let writer = tokio::spawn(write(receiver));
        let read = self.read().await;
        self.app.exchange.closing.cancel();
        self.tasks.close();
        tokio::time::timeout(FAREWELL, self.tasks.wait()).await.ok();
        drop(self);
        tokio::time::timeout(FAREWELL, writer).await.ok();
        read
    }

    async fn read(self: &Arc<Self>) -> std::io::Result<()> {
        let limit = self.app.max_body as u64;
        let mut stdin = BufReader::new(tokio::io::stdin());
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut stdin).take(limit + 1).read_until(b'\n', &mut line).await?;
            if read == 0 {
                return Ok(());
            }
            if line.len() as u64 > limit {
                return Err(std::io::Error::other("a line is longer than `max_body`"));
            }
            if !line.trim_ascii().is_empty() {
                self.arrived(&line).await;
            }
        }
    }

    async fn arrived(self: &Arc<Self>, line: &[u8]) {
        let started = Instant::now();
        let message = match message::decode(line) {
            Ok(message) => message,
            Err(error) => return self.refuse(None, &error, Revision::NEWEST_LEGACY).await,
        };
        let message = Arrived::open(message);
        let peer = match self.peer(&message) {
            Ok(peer) => peer,
            Err(error) => return self.refuse(message.id(), &error, Revision::V2026_07_28).await,
        };
        if message.method == "notifications/initialized" {
            let changes = self.app.exchange.session_stream(&self.scope);
            self.tasks.spawn(Arc::clone(self).pump(changes));
        }
        if message.id().is_some() && message.method == "initialize" && !peer.revision.is_modern() {
            *self.settled.lock() = Some(negotiated(&message.params));
        }
        self.tasks.spawn(Arc::clone(self).answer(peer, message, started));
    }

    fn peer(&self, message: &Arrived) -> Result<Peer, Error> {
        let revision = if message.version().is_some() {
            if message.id().is_some() {
                message.check_meta()?;
            }
            Revision::V2026_07_28
        } else {
            self.settled.lock().unwrap_or(Revision::V2025_06_18)
        };
        Ok(Peer {
            principal: self.app.principal.clone(),
            revision,
            lane: Some(Arc::from("stdio")),
            keys: Keys::Environment(Arc::clone(&self.keys)),
            trace: None,
            request_id: self.app.ids.next(),
        })
    }

    async fn answer(self: Arc<Self>, peer: Peer, message: Arrived, started: Instant) {
        let (outlet, mut inlet) = Outlet::open(&message).unzip();
        let exchange = Arc::clone(&self.app.exchange);
        let handled = async {
            let handled = exchange.handle(&self.scope, &peer, message, outlet.as_ref()).await;
            drop(outlet);
            handled
        };
        let notices = async {
            while let Some(notice) = match inlet.as_mut() {
                Some(inlet) => inlet.next().await,
                None => None,
            } {
                self.say(notice).await;
            }
        };
        let ((reply, record), ()) = tokio::join!(handled, notices);
        self.done(&peer, &record, started);
        match reply {
            Reply::Accepted => {}
            // A cancelled request gets no answer (2025-11-25, "Cancellation").
            Reply::Answer { code: Some(Code::Cancelled), .. } => {}
            Reply::Answer { body, .. } => self.say(body).await,
            Reply::Stream(messages) => self.pump(messages).await,
        }
    }

    async fn pump(self: Arc<Self>, mut messages: mpsc::Receiver<Vec<u8>>) {
        while let Some(message) = messages.recv().await {
            self.say(message).await;
        }
    }

    async fn refuse(&self, id: Option<&crate::mcp::Id>, error: &Error, revision: Revision) {
        self.say(message::error(id, &rpc_fault(error, revision))).await;
    }

    async fn say(&self, message: Vec<u8>) {
        // The writer is gone only when stdout is.
        drop(self.lines.send(message).await);
    }

    fn done(&self, peer: &Peer, record: &Record, started: Instant) {
        let mut done = RequestDone::new(peer.request_id.clone(), record.method.clone());
        record.describe(&mut done);
        peer.describe(&mut done);
        done.view = Some(self.scope.view);
        done.duration = started.elapsed();
        done.emit(&self.app.metrics);
    }
}

/// Writes one message a line.
async fn write(mut lines: mpsc::Receiver<Vec<u8>>) -> std::io::Result<()> {
    let mut stdout = tokio::io::stdout();
    while let Some(mut line) = lines.recv().await {
        // What a provider sent may be set over several lines; outside of strings that is space.
        line.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
        line.push(b'\n');
        stdout.write_all(&line).await?;
        stdout.flush().await?;
    }
    Ok(())
}
