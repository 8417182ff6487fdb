//! Tasks that the gateway sees to their end, for clients that know no such tasks: it looks after
//! them, brings their questions to the client, and gives them up when the client does.
//!
//! A task may take an hour, or `upstream.timeouts.call` where that is longer; each single request for
//! it keeps to the latter. It is looked at as often as it says, 100 ms to 30 s.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{self, sleep, timeout};

use super::outward::{is_breakage, opened, untouched};
use crate::catalog::{Catalogue, Provider};
use pleiades_core::error::{Code, Error};
use pleiades_mcp::task::{self, Task, TaskStatus};
use pleiades_mcp::{DeclaredCapabilities, Raw, RawObject, Revision};
use pleiades_upstream::{Call, Endpoint, EventScope, Identity, ProviderEvent, Upstreams};

/// The longest that a task may take in all, unless one call may take longer.
const LONGEST: Duration = Duration::from_secs(3_600);
/// How long the answer of a call is waited for whose caller has left, and which may have made a task.
const LINGER: Duration = Duration::from_secs(5);
/// Requests for a task that may fail in a row before it is given up.
const FAILURES: u32 = 3;
/// Tools that are remembered; beyond it all are forgotten, which costs each one refused call.
const REMEMBERED: usize = 4_096;

/// How a call meets tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tasks {
    /// It is answered when it is done.
    None,
    /// It is asked for as a task of 2025-11-25.
    Core,
    /// It declares the extension although its client does not.
    Declared,
    /// Its client declares the extension and looks after its tasks itself.
    Native,
}

/// Tools that can only be called with the extension, as their calls have shown.
#[derive(Debug, Default)]
pub(super) struct Needing(Mutex<HashSet<([u8; 32], Box<str>)>>);

impl Needing {
    pub(super) fn has(&self, provider: &Provider, tool: &str) -> bool {
        let known = self.0.lock();
        !known.is_empty() && known.contains(&(provider.endpoint.digest, tool.into()))
    }

    pub(super) fn learn(&self, provider: &Provider, tool: &str) {
        let mut known = self.0.lock();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert((provider.endpoint.digest, tool.into()));
    }
}

/// How long a task of a provider may take.
pub(super) fn within(endpoint: &Endpoint) -> Duration {
    endpoint.call.max(LONGEST)
}

/// Whether a provider offers the extension.
pub(super) fn offers(catalogue: &Catalogue) -> bool {
    catalogue.profile.as_ref().is_some_and(|profile| {
        profile.revisions.contains(Revision::V2026_07_28) && task::has_extension(&profile.capabilities)
    })
}

/// Where requests for a task go.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) upstreams: Arc<Upstreams>,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) behalf: Identity,
    pub(super) leg: Revision,
    pub(super) declared: DeclaredCapabilities,
}

impl Way {
    pub(super) fn call(&self, method: &'static str, id: &str) -> Call {
        let mut params = RawObject::new();
        params.put("taskId", id);
        Call {
            method,
            params,
            revision: self.leg,
            mirrored: Vec::new(),
            deadline: Instant::now() + self.endpoint.call,
            idempotent: true,
            declared: self.declared.clone(),
            progress: false,
            token: None,
            events: None,
        }
    }

    pub(super) async fn request(&self, call: Call) -> Result<Raw, Error> {
        self.upstreams.request(&self.endpoint, &self.behalf, call).await
    }
}

/// A task of a provider; one that has not ended is cancelled when it is dropped.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) way: Way,
    pub(super) id: String,
    pub(super) until: time::Instant,
    /// Nothing has to be done for it any more.
    pub(super) over: bool,
}

impl Running {
    pub(super) fn new(way: Way, id: String) -> Self {
        Self {
            id,
            until: time::Instant::now() + within(&way.endpoint),
            over: false,
            way,
        }
    }

    /// Looks after a task until there is something to do for it.
    pub(super) async fn watch(
        &self,
        mut told: Task,
        mut is_idle: impl FnMut(&Task, &RawObject) -> bool,
    ) -> Result<(Task, RawObject), Error> {
        let mut failures = 0;
        loop {
            if time::Instant::now() + told.poll > self.until {
                return Err(late());
            }
            sleep(told.poll).await;
            match self.look().await {
                Ok((seen, state)) => {
                    failures = 0;
                    if !is_idle(&seen, &state) {
                        return Ok((seen, state));
                    }
                    told = seen;
                }
                Err(error) if is_breakage(&error) && failures < FAILURES => failures += 1,
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) async fn look(&self) -> Result<(Task, RawObject), Error> {
        let state = opened(self.way.request(self.way.call("tasks/get", &self.id)).await?)?;
        let told = Task::read(&state).ok_or_else(|| foreign("the provider says nothing of its task"))?;
        Ok((told, state))
    }

    /// What a task of 2025-11-25 comes to; its questions come meanwhile.
    async fn result(&self, token: u64, events: Option<mpsc::Sender<ProviderEvent>>) -> Result<Raw, Error> {
        let mut call = self.way.call("tasks/result", &self.id);
        call.deadline = Instant::now() + self.until.saturating_duration_since(time::Instant::now());
        call.token = Some(token);
        call.events = events;
        let mut result = opened(self.way.request(call).await?)?;
        task::strip_related(&mut result);
        Ok(result.close())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.over {
            let call = self.way.call("tasks/cancel", &self.id);
            let (endpoint, behalf) = (Arc::clone(&self.way.endpoint), self.way.behalf.clone());
            self.way.upstreams.fire_and_forget(endpoint, behalf, call);
        }
    }
}

/// What came of a call that may make a task: its result, and the task that it made.
type Made = (Raw, Option<(Running, Task)>);

impl Way {
    /// Makes a call that may make a task. Its answer is heard although its caller leaves meanwhile, for as
    /// long as it `lingers`: a task that was made then, and that nobody would know of, is cancelled.
    async fn make(&self, call: Call, lingers: Option<Duration>) -> Result<Made, Error> {
        let (made, heard) = oneshot::channel();
        let way = self.clone();
        self.upstreams
            .detach(async move { way.hear(call, lingers, made).await });
        heard.await.unwrap_or_else(|_ended| {
            let message = "the gateway is ending";
            Err(Error::new(Code::ShuttingDown, message).sent())
        })
    }

    async fn hear(
        &self,
        call: Call,
        lingers: Option<Duration>,
        mut made: oneshot::Sender<Result<Made, Error>>,
    ) {
        let mut request = Box::pin(self.request(call));
        let outcome = tokio::select! {
            biased;
            outcome = &mut request => outcome,
            () = made.closed() => match lingers {
                // Its own deadline bounds it.
                None => request.await,
                Some(bound) => match timeout(bound, request).await {
                    Ok(outcome) => outcome,
                    Err(_) => return,
                },
            },
        };
        let outcome = outcome.map(|raw| {
            let told = untouched(&raw)
                .ok()
                .and_then(|made| Task::created(&made, self.leg));
            let task = told.map(|told| {
                let mut task = Running::new(self.clone(), told.id.clone());
                task.over = told.is_over();
                (task, told)
            });
            (raw, task)
        });
        // Dropped unheard, on either side of the channel, a task is cancelled.
        drop(made.send(outcome));
    }
}

/// Makes a call that may make a task of the extension, which whoever hears of it looks after.
pub(super) async fn extended(way: Way, call: Call, tasks: Tasks) -> Result<Raw, Error> {
    // Where a task is certain its id comes at once. Any other call of a client that looks after tasks
    // itself runs until its stream is closed, which is what cancels it.
    let lingers = (tasks == Tasks::Native).then_some(LINGER);
    let (raw, task) = way.make(call, lingers).await?;
    if let Some((mut task, _)) = task {
        task.over = true;
    }
    Ok(raw)
}

/// Makes a call as a task of 2025-11-25 and brings its result.
pub(super) async fn core(way: Way, mut call: Call) -> Result<Raw, Error> {
    let token = way.upstreams.progress_token();
    let events = call.events.clone();
    let ttl = serde_json::json!({ "ttl": within(&way.endpoint).as_secs() * 1_000 });
    call.params.put("task", &ttl);
    call.token = Some(token);
    let (mut task, mut told) = match way.make(call, None).await? {
        (_, Some(made)) => made,
        // It was done at once.
        (raw, None) => return Ok(raw),
    };
    let mut failures = 0;
    loop {
        if told.status == TaskStatus::Working {
            let _heard = events.as_ref().map(|events| {
                let way = &task.way;
                let heard = EventScope {
                    endpoint: &way.endpoint,
                    identity: &way.behalf,
                    revision: way.leg,
                    declared: &way.declared,
                    token,
                };
                way.upstreams.listen_for(&heard, events.clone())
            });
            (told, _) = task
                .watch(told, |told, _| told.status == TaskStatus::Working)
                .await?;
        }
        task.over = told.is_over();
        if told.status == TaskStatus::Cancelled {
            return Err(given_up());
        }
        match task.result(token, events.clone()).await {
            Ok(result) => {
                task.over = true;
                return Ok(result);
            }
            Err(error) if error.code == Code::UpstreamUnreachable && failures < FAILURES => failures += 1,
            Err(error) => return Err(error),
        }
        // Its stream broke; the task goes on.
        told.status = TaskStatus::Working;
    }
}

pub(super) fn foreign(message: &'static str) -> Error {
    Error::new(Code::UpstreamProtocol, message).sent()
}

pub(super) fn given_up() -> Error {
    Error::new(Code::Cancelled, "the provider gave its task up").sent()
}

pub(super) fn late() -> Error {
    Error::new(
        Code::UpstreamTimeout,
        "the provider's task took too long and was given up",
    )
    .sent()
}
