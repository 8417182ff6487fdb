//! What all requests of the process share: clients, pools, the runtime that outlives them.

use std::{
    collections::HashSet,
    ffi::OsString,
    future::Future,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::RwLock;
use tokio::{runtime::Handle, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    client::HttpClients,
    endpoint::{Endpoint, Transport},
    hub::{Hubs, QuestionRoute},
    incoming_request::IncomingRequest,
    pool::{Pool, PoolLimits, Pooled},
    resolve::Resolver,
    restarts::Restarts,
    session::HttpSession,
    wire::Wire,
};
use pleiades_core::error::{Code, Error};

/// Sessions kept; one costs about a kibibyte.
const SESSIONS: PoolLimits = PoolLimits {
    total: 20_000,
    holder: 64,
};
/// Event streams of 2024-11-05 kept; one costs a connection.
const STREAMS: PoolLimits = PoolLimits {
    total: 4_096,
    holder: 32,
};
/// Processes kept; one costs whatever its program does.
const PROCESSES: PoolLimits = PoolLimits {
    total: 256,
    holder: 8,
};
/// Endpoints remembered by what they turned out to be.
const REMEMBERED: usize = 16_384;
const REAP: Duration = Duration::from_secs(5);

pub(crate) struct Shared {
    pub(crate) control: Handle,
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) clients: HttpClients,
    pub(crate) sessions: Pool<HttpSession>,
    pub(crate) processes: Pool<Wire>,
    pub(crate) streams: Pool<Wire>,
    event_stream_only: RwLock<HashSet<[u8; 32]>>,
    pub(crate) hubs: Arc<Hubs>,
    pub(crate) restarts: Arc<Restarts>,
    pub(crate) environment: Vec<(OsString, OsString)>,
    pub(crate) closing: CancellationToken,
    pub(crate) killing: CancellationToken,
    /// Supervisors of child processes: when it is empty, no process group is left.
    pub(crate) children: TaskTracker,
    /// Work that nobody waits for but the end: farewells, cancellations.
    detached: TaskTracker,
    ids: AtomicU64,
}

impl Shared {
    pub(crate) fn new(control: Handle, environment: Vec<(OsString, OsString)>) -> Arc<Self> {
        let resolver = Arc::new(Resolver::new(control.clone()));
        let shared = Arc::new(Self {
            clients: HttpClients::new(Arc::clone(&resolver), &control),
            resolver,
            sessions: Pool::new(SESSIONS),
            processes: Pool::new(PROCESSES),
            streams: Pool::new(STREAMS),
            event_stream_only: RwLock::default(),
            hubs: Arc::default(),
            restarts: Arc::default(),
            environment,
            closing: CancellationToken::new(),
            killing: CancellationToken::new(),
            children: TaskTracker::new(),
            detached: TaskTracker::new(),
            ids: AtomicU64::new(1),
            control,
        });
        let reaping = reap(Arc::downgrade(&shared), shared.closing.clone());
        shared.control.spawn(reaping);
        shared
    }

    /// Errors: `ShuttingDown` when there is none any more.
    pub(crate) fn upgrade(shared: &Weak<Self>) -> Result<Arc<Self>, Error> {
        let shared = shared.upgrade();
        shared.ok_or_else(|| Error::new(Code::ShuttingDown, "the gateway is ending"))
    }

    /// Whether an endpoint is spoken to over one connection for many requests: a process, or the
    /// transport of 2024-11-05.
    pub(crate) fn is_wired(&self, endpoint: &Endpoint) -> bool {
        match endpoint.target {
            Transport::Stdio { .. } => true,
            Transport::Http { sse, .. } => sse || self.event_stream_only.read().contains(&endpoint.digest),
        }
    }

    pub(crate) fn set_event_stream_only(&self, endpoint: &Endpoint, old: bool) {
        let mut found = self.event_stream_only.write();
        if old && found.len() < REMEMBERED {
            found.insert(endpoint.digest);
        } else {
            found.remove(&endpoint.digest);
        }
    }

    pub(crate) const fn wires(&self, endpoint: &Endpoint) -> &Pool<Wire> {
        match endpoint.target {
            Transport::Stdio { .. } => &self.processes,
            Transport::Http { .. } => &self.streams,
        }
    }

    /// Ends sessions and connections of an endpoint once their calls are done.
    pub(crate) fn retire(&self, digest: &[u8; 32]) {
        self.sessions.retire(digest);
        self.processes.retire(digest);
        self.streams.retire(digest);
        self.clients.forget(digest);
        self.event_stream_only.write().remove(digest);
    }

    /// Unique in this process, which is more than any peer asks of ids and progress tokens.
    pub(crate) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Runs something that nobody waits for and that bounds itself.
    pub(crate) fn detach(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.detached.spawn_on(work, &self.control);
    }

    /// Puts a request of a provider to whoever takes it, and sends the answer, unless the end of its session
    /// (`over`) or of everything comes first.
    pub(crate) fn answer<F>(
        &self,
        request: IncomingRequest,
        route: QuestionRoute,
        over: CancellationToken,
        send: impl FnOnce(Vec<u8>) -> F + Send + 'static,
    ) where
        F: Future<Output = Result<(), Error>> + Send,
    {
        let reply = request.reply(route.to.as_ref());
        let closing = self.closing.clone();
        self.detach(async move {
            let replied = async {
                let body = reply.await;
                drop(route.asking);
                send(body).await
            };
            let sent = tokio::select! {
                sent = replied => sent,
                () = closing.cancelled() => return,
                () = over.cancelled() => return,
            };
            if let Err(error) = sent {
                tracing::debug!(%error, "an answer was not delivered");
            }
        });
    }

    /// Ends everything within a time; process groups that do not end by themselves are killed.
    pub(crate) async fn shutdown(&self, within: Duration) {
        let start = Instant::now();
        self.closing.cancel();
        for session in self.sessions.drain() {
            session.end();
        }
        drop((self.processes.drain(), self.streams.drain()));
        self.children.close();
        self.detached.close();
        if tokio::time::timeout_at(start + within.mul_f32(0.7), self.children.wait())
            .await
            .is_err()
        {
            self.killing.cancel();
        }
        let rest = async {
            self.children.wait().await;
            self.detached.wait().await;
        };
        if tokio::time::timeout_at(start + within, rest).await.is_err() {
            tracing::debug!("some sessions were not closed in time");
        }
    }
}

async fn reap(shared: Weak<Shared>, closing: CancellationToken) {
    let mut ticks = tokio::time::interval(REAP);
    while closing.run_until_cancelled(ticks.tick()).await.is_some()
        && let Some(shared) = shared.upgrade()
    {
        let now = Instant::now();
        shared.sessions.reap(now);
        shared.processes.reap(now);
        shared.streams.reap(now);
    }
}
