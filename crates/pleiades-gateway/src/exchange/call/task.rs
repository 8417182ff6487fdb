//! Tasks that the gateway sees to their end, for clients that know no such tasks: it looks after
//! them, brings their questions to the client, and gives them up when the client does.
//!
//! A task may take an hour, or `upstream.timeouts.call` where that is longer; each single request for
//! it keeps to the latter. It is looked at as often as it says, 100 ms to 30 s.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::time::{self, sleep, timeout};

use super::outcome::{is_breakage, opened, untouched};
use super::{plan::CallPlan, task_mode::TaskMode};
use pleiades_core::error::{Code, Error};
use pleiades_mcp::task::{self, Task, TaskStatus};
use pleiades_mcp::{DeclaredCapabilities, Raw, RawObject};
use pleiades_upstream::{Call, Endpoint, EventScope, ProviderEvent, Upstreams};

/// The longest that a task may take in all, unless one call may take longer.
const LONGEST: Duration = Duration::from_secs(3_600);
/// How long the answer of a call is waited for whose caller has left, and which may have made a task.
const LINGER: Duration = Duration::from_secs(5);
/// Requests for a task that may fail in a row before it is given up.
const FAILURES: u32 = 3;

pub(super) fn longest(endpoint: &Endpoint) -> Duration {
    endpoint.call.max(LONGEST)
}

#[derive(Debug, Clone)]
pub(super) struct TaskClient {
    upstreams: Arc<Upstreams>,
    plan: Arc<CallPlan>,
    declared: DeclaredCapabilities,
}

impl TaskClient {
    pub(super) fn new(upstreams: Arc<Upstreams>, plan: Arc<CallPlan>) -> Self {
        let mut declared = plan.declared.clone();
        if plan.revision.is_modern() {
            declared.verbatim = Some(task::with_extension(&declared.capabilities(plan.revision)));
        }
        Self {
            upstreams,
            plan,
            declared,
        }
    }

    pub(super) fn call(&self, method: &'static str, id: &str) -> Call {
        let mut params = RawObject::new();
        params.put("taskId", id);
        Call {
            method,
            params,
            revision: self.plan.revision,
            mirrored: Vec::new(),
            deadline: Instant::now() + self.endpoint().call,
            idempotent: true,
            declared: self.declared.clone(),
            progress: false,
            token: None,
            events: None,
        }
    }

    pub(super) async fn request(&self, call: Call) -> Result<Raw, Error> {
        self.upstreams
            .request(self.endpoint(), &self.plan.identity, call)
            .await
    }

    fn endpoint(&self) -> &Arc<Endpoint> {
        &self.plan.target.provider.endpoint
    }
}

/// A task of a provider; one that has not ended is cancelled when it is dropped.
#[derive(Debug)]
pub(super) struct RunningTask {
    pub(super) client: TaskClient,
    pub(super) id: String,
    pub(super) until: time::Instant,
    /// Nothing has to be done for it any more.
    pub(super) over: bool,
}

impl RunningTask {
    pub(super) fn new(client: TaskClient, id: String) -> Self {
        Self {
            id,
            until: time::Instant::now() + longest(client.endpoint()),
            over: false,
            client,
        }
    }

    pub(super) async fn watch(
        &self,
        mut latest: Task,
        mut is_idle: impl FnMut(&Task, &RawObject) -> bool,
    ) -> Result<(Task, RawObject), Error> {
        let mut failures = 0;
        loop {
            if time::Instant::now() + latest.poll > self.until {
                return Err(late());
            }
            sleep(latest.poll).await;
            match self.look().await {
                Ok((seen, state)) => {
                    failures = 0;
                    if !is_idle(&seen, &state) {
                        return Ok((seen, state));
                    }
                    latest = seen;
                }
                Err(error) if is_breakage(&error) && failures < FAILURES => failures += 1,
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) async fn look(&self) -> Result<(Task, RawObject), Error> {
        let call = self.client.call("tasks/get", &self.id);
        let state = opened(self.client.request(call).await?)?;
        let latest = Task::read(&state).ok_or_else(|| foreign("the provider says nothing of its task"))?;
        Ok((latest, state))
    }

    /// What a task of 2025-11-25 comes to; its questions come meanwhile.
    async fn result(&self, token: u64, events: Option<mpsc::Sender<ProviderEvent>>) -> Result<Raw, Error> {
        let mut call = self.client.call("tasks/result", &self.id);
        call.deadline = Instant::now() + self.until.saturating_duration_since(time::Instant::now());
        call.token = Some(token);
        call.events = events;
        let mut result = opened(self.client.request(call).await?)?;
        task::strip_related(&mut result);
        Ok(result.close())
    }
}

impl Drop for RunningTask {
    fn drop(&mut self) {
        if !self.over {
            let call = self.client.call("tasks/cancel", &self.id);
            let client = &self.client;
            let (endpoint, identity) = (Arc::clone(client.endpoint()), client.plan.identity.clone());
            client.upstreams.fire_and_forget(endpoint, identity, call);
        }
    }
}

type Made = (Raw, Option<(RunningTask, Task)>);

impl TaskClient {
    /// Makes a call that may make a task. Its answer is heard although its caller leaves meanwhile, for as
    /// long as it `lingers`: a task that was made then, and that nobody would know of, is cancelled.
    async fn make(&self, call: Call, lingers: Option<Duration>) -> Result<Made, Error> {
        let (made, heard) = oneshot::channel();
        let client = self.clone();
        self.upstreams
            .detach(async move { client.hear(call, lingers, made).await });
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
            let revision = self.plan.revision;
            let latest = untouched(&raw)
                .ok()
                .and_then(|made| Task::created(&made, revision));
            let task = latest.map(|latest| {
                let mut task = RunningTask::new(self.clone(), latest.id.clone());
                task.over = latest.is_over();
                (task, latest)
            });
            (raw, task)
        });
        // Dropped unheard, on either side of the channel, a task is cancelled.
        drop(made.send(outcome));
    }
}

pub(super) async fn make(client: TaskClient, call: Call) -> Result<Raw, Error> {
    let mode = client.plan.tasks;
    if mode == TaskMode::Core {
        return core(client, call).await;
    }
    // A task of the extension is looked after by whoever hears of it.
    // Where a task is certain its id comes at once. Any other call of a client that looks after tasks
    // itself runs until its stream is closed, which is what cancels it.
    let lingers = (mode == TaskMode::Native).then_some(LINGER);
    let (raw, task) = client.make(call, lingers).await?;
    if let Some((mut task, _)) = task {
        task.over = true;
    }
    Ok(raw)
}

async fn core(client: TaskClient, mut call: Call) -> Result<Raw, Error> {
    let token = client.upstreams.progress_token();
    let events = call.events.clone();
    let ttl = serde_json::json!({ "ttl": longest(client.endpoint()).as_secs() * 1_000 });
    call.params.put("task", &ttl);
    call.token = Some(token);
    let (mut task, mut latest) = match client.make(call, None).await? {
        (_, Some(made)) => made,
        // It was done at once.
        (raw, None) => return Ok(raw),
    };
    let mut failures = 0;
    loop {
        if latest.status == TaskStatus::Working {
            let _heard = events.as_ref().map(|events| {
                let client = &task.client;
                let heard = EventScope {
                    endpoint: client.endpoint(),
                    identity: &client.plan.identity,
                    revision: client.plan.revision,
                    declared: &client.declared,
                    token,
                };
                client.upstreams.listen_for(&heard, events.clone())
            });
            (latest, _) = task
                .watch(latest, |latest, _| latest.status == TaskStatus::Working)
                .await?;
        }
        task.over = latest.is_over();
        if latest.status == TaskStatus::Cancelled {
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
        latest.status = TaskStatus::Working;
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
