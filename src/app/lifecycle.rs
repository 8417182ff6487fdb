//! Health, readiness, and a graceful shutdown.

use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::select_all;
use pingora_core::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, timeout, timeout_at};

use super::Services;
use super::runtime_file::{RuntimeFile, reachable};
use pleiades_core::telemetry::Metrics;
use pleiades_descriptor::settings::Settings;
use pleiades_mcp::seal::Sealer;
use pleiades_upstream::Upstreams;

/// Poll interval for listeners and running calls.
const TICK: Duration = Duration::from_millis(25);
/// The most of the grace period that is kept for children and sessions to end.
const FAREWELL: Duration = Duration::from_secs(2);
/// For answers on their way to be written before connections are cut.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Grace for children after a second signal.
const AT_ONCE: Duration = Duration::from_millis(500);
/// A listener that does not accept by then never will.
const LISTEN_WITHIN: Duration = Duration::from_secs(10);

/// The process's phases. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Lifecycle(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    listening: AtomicBool,
    draining: AtomicBool,
    /// Children and sessions were ended.
    drained: AtomicBool,
    drain: Duration,
    grace: Duration,
    services: Arc<Services>,
    upstreams: Arc<Upstreams>,
    sealer: Arc<Sealer>,
}

impl Lifecycle {
    pub(super) fn new(
        settings: &Settings,
        services: Arc<Services>,
        upstreams: Arc<Upstreams>,
        sealer: Arc<Sealer>,
    ) -> Self {
        Self(Arc::new(Inner {
            listening: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            drained: AtomicBool::new(false),
            drain: settings.shutdown.drain.get(),
            grace: settings.shutdown.grace.get(),
            services,
            upstreams,
            sealer,
        }))
    }

    /// Whether both listeners accept, else why not, in a sentence for the operator.
    pub(crate) fn health(&self) -> Result<(), String> {
        if self.0.listening.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err("the listeners are not open yet".to_owned())
        }
    }

    /// Whether every descriptor and the seal key were read and the process is not about to end, else
    /// why not, in a sentence for the operator.
    pub(crate) fn readiness(&self) -> Result<(), String> {
        self.health()?;
        if self.0.draining.load(Ordering::Relaxed) {
            return Err("the process is about to end".to_owned());
        }
        if !self.0.sealer.is_ready() {
            return Err("the seal key was not read from the credential store yet".to_owned());
        }
        if self.0.services.catalog.is_loaded() {
            Ok(())
        } else {
            Err("the descriptors are not read yet".to_owned())
        }
    }

    /// Sets the gauges that are read rather than counted.
    pub(crate) fn collect(&self, metrics: &Metrics) {
        metrics.sessions(self.0.upstreams.sessions());
        self.0.services.catalog.publish();
        self.0.services.exchange.accounts.manager.publish();
    }

    /// Grace for children and sessions after the server has stopped.
    pub(super) fn time_left(&self) -> Duration {
        if self.0.drained.load(Ordering::Relaxed) {
            Duration::ZERO
        } else {
            AT_ONCE
        }
    }

    /// Finds out when both listeners accept, and notes it for commands; Pingora binds them in its own time.
    pub(super) fn watch_listeners(
        &self,
        control: &tokio::runtime::Handle,
        [listen, admin]: [SocketAddr; 2],
        note: RuntimeFile,
    ) {
        let inner = Arc::clone(&self.0);
        control.spawn(async move {
            let both = async { tokio::join!(accepting(listen), accepting(admin)) };
            let accepted = tokio::time::timeout(LISTEN_WITHIN, both).await.is_ok();
            if accepted && let Err(cause) = note.write(listen, admin) {
                tracing::info!(error = %cause, "commands of these settings will not find this gateway and work by themselves");
            }
            inner.listening.store(accepted, Ordering::Relaxed);
            announce(accepted, [listen, admin]);
        });
    }

    /// `note` is taken back before the listeners close: from then on their ports may be anybody's, and commands
    /// would send their key there.
    pub(super) fn signals(&self, note: RuntimeFile) -> Signals {
        Signals {
            lifecycle: self.clone(),
            note,
        }
    }

    /// Readiness falls at once; those who balance load get `drain` to notice; then streams end, and
    /// running calls get `grace`, but for what children and sessions need of it to end.
    async fn drain(&self, signal: &str) {
        let inner = &self.0;
        inner.draining.store(true, Ordering::Relaxed);
        // Whoever runs it at a terminal waits for nobody's load balancer.
        let drain = match io::stderr().is_terminal() {
            true => Duration::ZERO,
            false => inner.drain,
        };
        tracing::info!(
            process.signal = signal,
            shutdown.drain = ?drain,
            shutdown.grace = ?inner.grace,
            description = "calls are accepted through the drain, then running ones have the grace; a second signal \
                           ends at once",
            "ending: not ready any more"
        );
        tokio::time::sleep(drain).await;
        // The last ticks are for the runtimes.
        let end = Instant::now() + inner.grace.saturating_sub(2 * TICK);
        let farewell = FAREWELL.min(inner.grace / 4);
        inner.services.exchange.closing.cancel();
        // Nothing is redeemed any more, and what was redeemed is stored before the process ends.
        let accounts = &inner.services.exchange.accounts;
        let redeemed = async { tokio::join!(accounts.manager.shut_down(), accounts.broker.drained()) };
        let settled = timeout_at(end, redeemed);
        let (settled, ()) = tokio::join!(settled, self.farewell(end, farewell));
        if settled.is_err() {
            tracing::error!(
                cure =
                    "their accounts may have to be connected again: look for `tokens could not be renewed`",
                "renewed tokens could not be stored before the grace period ended"
            );
        }
        inner.drained.store(true, Ordering::Relaxed);
    }

    /// Lets calls and streams end, then children and sessions.
    async fn farewell(&self, end: Instant, farewell: Duration) {
        let inner = &self.0;
        // Streams need a moment to say goodbye before their connections are cut.
        tokio::time::sleep(TICK).await;
        if timeout_at(end - farewell, self.idle()).await.is_err() {
            tracing::warn!(
                shutdown.calls = inner.services.exchange.busy(),
                "calls were still running when the grace period ended"
            );
            inner.services.exchange.ending.cancel();
            timeout(LAST_WORDS.min(farewell / 2), self.idle())
                .await
                .unwrap_or_default();
            tokio::time::sleep(TICK).await;
        }
        inner
            .upstreams
            .shutdown(end.saturating_duration_since(Instant::now()))
            .await;
    }

    async fn idle(&self) {
        while self.0.services.exchange.busy() > 0 {
            tokio::time::sleep(TICK).await;
        }
    }
}

/// Logs that the process serves, or why not.
fn announce(is_accepting: bool, [listen, admin]: [SocketAddr; 2]) {
    if is_accepting {
        tracing::info!(server.listen = %listen, server.admin = %admin, "serving");
        return;
    }
    tracing::error!(
        server.listen = %listen,
        server.admin = %admin,
        error = format!("nothing accepts there after {} s", LISTEN_WITHIN.as_secs()),
        "the listeners did not open"
    );
}

/// Returns when something accepts there.
async fn accepting(address: SocketAddr) {
    while tokio::net::TcpStream::connect(reachable(address)).await.is_err() {
        tokio::time::sleep(TICK).await;
    }
}

/// Shutdown signals for Pingora, which ends at once: draining is done here.
#[derive(Debug)]
pub(super) struct Signals {
    lifecycle: Lifecycle,
    note: RuntimeFile,
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let (Ok(mut terminate), Ok(mut interrupt)) =
            (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            tracing::error!("signals cannot be received: end this process with SIGKILL");
            return std::future::pending().await;
        };
        let signal = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        let again = tokio::select! {
            () = self.lifecycle.drain(signal) => None,
            _ = interrupt.recv() => Some("SIGINT"),
            _ = terminate.recv() => Some("SIGTERM"),
        };
        if let Some(again) = again {
            tracing::warn!(process.signal = again, "a second signal: ending at once");
        }
        self.note.remove();
        ShutdownSignal::FastShutdown
    }
}

/// Waits for a signal that asks a process at a terminal or of a desktop client to end.
pub(crate) async fn termination_signal() {
    let kinds = [
        SignalKind::terminate(),
        SignalKind::interrupt(),
        SignalKind::hangup(),
    ];
    let signals = kinds.map(|kind| {
        Box::pin(async move {
            match signal(kind) {
                Ok(mut signal) => drop(signal.recv().await),
                Err(error) => {
                    tracing::error!(%error, "a signal cannot be received");
                    std::future::pending().await
                }
            }
        })
    });
    select_all(signals).await;
}
