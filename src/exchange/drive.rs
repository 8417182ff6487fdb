//! Tasks that the gateway sees to their end, for clients that know no such tasks: it looks after
//! them, brings their questions to the client, and gives them up when the client does.
//!
//! A task may take up to an hour, whatever `upstream.timeouts.call` says of one answer: each single
//! request for it keeps to that. It is looked at as often as it says, 100 ms to 30 s.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::{self, sleep};

use super::Outlet;
use super::outward::{is_breakage, opened};
use crate::catalog::{Catalogue, Provider};
use crate::error::{Code, Error, RpcFault};
use crate::mcp::task::{self, Status, Told};
use crate::mcp::{Declared, Raw, RawObject, Revision};
use crate::upstream::{Behalf, Call, Endpoint, Event, Heard, Upstreams};

/// The longest that a task may take in all.
pub(super) const LONGEST: Duration = Duration::from_secs(3_600);
/// Requests for a task that may fail in a row before it is given up.
const FAILURES: u32 = 3;
/// Looks at a task that still asks what it was told; then it is believed to want it once more.
const DEAF: u32 = 5;
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
        !known.is_empty() && known.contains(&(provider.endpoint.identity, tool.into()))
    }

    pub(super) fn learn(&self, provider: &Provider, tool: &str) {
        let mut known = self.0.lock();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert((provider.endpoint.identity, tool.into()));
    }
}

/// Whether a provider offers the extension.
pub(super) fn offers(catalogue: &Catalogue) -> bool {
    catalogue.profile.as_ref().is_some_and(|profile| {
        profile.revisions.contains(Revision::V2026_07_28) && task::are_extended(&profile.capabilities)
    })
}

/// Where requests for a task go.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) upstreams: Arc<Upstreams>,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) behalf: Behalf,
    pub(super) leg: Revision,
    pub(super) declared: Declared,
}

impl Way {
    fn call(&self, method: &'static str, id: &str) -> Call {
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

    async fn request(&self, call: Call) -> Result<Raw, Error> {
        self.upstreams.request(&self.endpoint, &self.behalf, call).await
    }
}

/// A task of a provider; one that has not ended is cancelled when it is dropped.
#[derive(Debug)]
struct Running {
    way: Way,
    id: String,
    until: time::Instant,
    /// Nothing has to be done for it any more.
    over: bool,
}

impl Running {
    fn new(way: Way, id: String) -> Self {
        Self {
            way,
            id,
            until: time::Instant::now() + LONGEST,
            over: false,
        }
    }

    /// Looks after a task until there is something to do for it.
    async fn watch(
        &self,
        mut told: Told,
        mut is_idle: impl FnMut(&Told, &RawObject) -> bool,
    ) -> Result<(Told, RawObject), Error> {
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

    async fn look(&self) -> Result<(Told, RawObject), Error> {
        let state = opened(&self.way.request(self.way.call("tasks/get", &self.id)).await?)?;
        let told = Told::of(&state).ok_or_else(|| foreign("the provider says nothing of its task"))?;
        Ok((told, state))
    }

    /// What a task of 2025-11-25 comes to; its questions come meanwhile.
    async fn result(&self, token: u64, events: Option<mpsc::Sender<Event>>) -> Result<Raw, Error> {
        let mut call = self.way.call("tasks/result", &self.id);
        call.deadline = Instant::now() + self.until.saturating_duration_since(time::Instant::now());
        call.token = Some(token);
        call.events = events;
        let mut result = opened(&self.way.request(call).await?)?;
        task::unrelated(&mut result);
        Ok(result.close())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.over {
            let call = self.way.call("tasks/cancel", &self.id);
            let (endpoint, behalf) = (Arc::clone(&self.way.endpoint), self.way.behalf.clone());
            self.way.upstreams.errand(endpoint, behalf, call);
        }
    }
}

/// Makes a call as a task of 2025-11-25 and brings its result.
pub(super) async fn core(way: Way, mut call: Call) -> Result<Raw, Error> {
    let token = way.upstreams.token();
    let events = call.events.clone();
    let ttl = serde_json::json!({ "ttl": LONGEST.as_millis() as u64 });
    call.params.put("task", &ttl);
    call.token = Some(token);
    let made = way.request(call).await?;
    let Some(mut told) = opened(&made).ok().and_then(|made| Told::made(&made, way.leg)) else {
        // It was done at once.
        return Ok(made);
    };
    let mut task = Running::new(way, told.id.clone());
    let mut failures = 0;
    loop {
        if told.status == Status::Working {
            let _heard = events.as_ref().map(|events| {
                let way = &task.way;
                let heard = Heard {
                    endpoint: &way.endpoint,
                    behalf: &way.behalf,
                    revision: way.leg,
                    declared: &way.declared,
                    token,
                };
                way.upstreams.attend(&heard, events.clone())
            });
            (told, _) = task.watch(told, |told, _| told.status == Status::Working).await?;
        }
        task.over = matches!(
            told.status,
            Status::Completed | Status::Failed | Status::Cancelled
        );
        if told.status == Status::Cancelled {
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
        told.status = Status::Working;
    }
}

/// A task of the extension.
#[derive(Debug)]
pub(super) struct Job {
    task: Running,
    told: Option<Told>,
    /// What it was told already: it may go on asking for a while.
    answered: HashSet<String>,
    said: Said,
}

/// What a task comes to next.
#[derive(Debug)]
pub(super) enum Next {
    /// The result of its call.
    Done(RawObject),
    /// It asks, as a call would.
    Asks(RawObject),
}

impl Job {
    /// A task that was just made.
    pub(super) fn new(way: Way, told: Told) -> Self {
        Self {
            task: Running::new(way, told.id.clone()),
            told: Some(told),
            answered: HashSet::new(),
            said: Said::default(),
        }
    }

    /// A task that a client brought back.
    pub(super) fn again(way: Way, id: String) -> Self {
        Self {
            task: Running::new(way, id),
            told: None,
            answered: HashSet::new(),
            said: Said::default(),
        }
    }

    /// Looks after it until it asks or ends.
    ///
    /// # Errors
    /// Its own error, [`Code::Cancelled`] when its provider gave it up, [`Code::UpstreamTimeout`]
    /// after an hour.
    pub(super) async fn next(&mut self, outlet: Option<&Outlet>) -> Result<Next, Error> {
        if time::Instant::now() >= self.task.until {
            return Err(late());
        }
        let (told, state) = match self.told.take() {
            Some(told) if told.status == Status::Working => (told, RawObject::new()),
            // What it wants or came to is not said when it is made.
            _ => self.task.look().await?,
        };
        let (answered, said) = (&self.answered, &mut self.said);
        let mut deaf = 0;
        let mut is_idle = |told: &Told, state: &RawObject| {
            said.tell(outlet, told);
            match told.status {
                Status::Working => true,
                Status::InputRequired if pending(state, answered).is_empty() => {
                    deaf += 1;
                    deaf < DEAF
                }
                _ => false,
            }
        };
        let (told, state) = match is_idle(&told, &state) {
            true => self.task.watch(told, is_idle).await?,
            false => (told, state),
        };
        self.outcome(&told, state)
    }

    fn outcome(&mut self, told: &Told, mut state: RawObject) -> Result<Next, Error> {
        match told.status {
            Status::Completed => {
                self.task.over = true;
                let mut result: RawObject = state
                    .read("result")
                    .ok_or_else(|| foreign("the provider's task ended without its result"))?;
                if result.get("resultType").is_none() {
                    result.put("resultType", "complete");
                }
                Ok(Next::Done(result))
            }
            Status::Failed => {
                self.task.over = true;
                Err(failure(&state))
            }
            Status::Cancelled => {
                self.task.over = true;
                Err(given_up())
            }
            Status::Working | Status::InputRequired => {
                let mut asked = pending(&state, &self.answered);
                if asked.is_empty() {
                    // It still wants what it was told, so that was not what it wants.
                    self.answered.clear();
                    asked = pending(&state, &self.answered);
                }
                let mut asks = RawObject::new();
                asks.put("resultType", "input_required");
                asks.set("inputRequests", asked.close());
                if let Some(meta) = state.remove("_meta") {
                    asks.set("_meta", meta);
                }
                Ok(Next::Asks(asks))
            }
        }
    }

    /// Tells it what it asked for.
    ///
    /// # Errors
    /// What its provider says to that.
    pub(super) async fn answer(&mut self, responses: &RawObject) -> Result<(), Error> {
        if responses.is_empty() {
            return Ok(());
        }
        let mut call = self.task.way.call("tasks/update", &self.task.id);
        call.params.set("inputResponses", responses.close());
        self.task.way.request(call).await?;
        self.answered
            .extend(responses.iter().map(|(key, _)| key.to_owned()));
        Ok(())
    }

    /// Leaves it to the client that it asks; its provider's name for it.
    pub(super) fn leave(mut self) -> String {
        self.task.over = true;
        std::mem::take(&mut self.task.id)
    }
}

/// What a task asks and was not told yet.
fn pending(state: &RawObject, answered: &HashSet<String>) -> RawObject {
    let mut requests: RawObject = state.read("inputRequests").unwrap_or_default();
    requests.retain(|key| !answered.contains(key));
    requests
}

/// What a task said of itself, which is its progress: the extension knows no other.
#[derive(Debug, Default)]
struct Said {
    steps: u64,
    last: Option<String>,
}

impl Said {
    fn tell(&mut self, outlet: Option<&Outlet>, told: &Told) {
        let (Some(outlet), Some(message)) = (outlet, &told.message) else {
            return;
        };
        if self.last.as_ref() == Some(message) {
            return;
        }
        self.steps += 1;
        self.last = Some(message.clone());
        let mut params = RawObject::new();
        params.put("progress", &self.steps);
        params.put("message", message);
        outlet.progress(params);
    }
}

/// The error that a task of the extension ended with.
fn failure(state: &RawObject) -> Error {
    #[derive(Deserialize)]
    struct Fault {
        code: i64,
        #[serde(default)]
        message: String,
        data: Option<Raw>,
    }
    match state.read::<Fault>("error") {
        Some(Fault { code, message, data }) => Error::rpc(RpcFault { code, message, data }),
        None => foreign("the provider's task failed without saying why"),
    }
}

fn foreign(message: &'static str) -> Error {
    Error::new(Code::UpstreamProtocol, message).sent()
}

fn given_up() -> Error {
    Error::new(Code::Cancelled, "the provider gave its task up").sent()
}

fn late() -> Error {
    Error::new(
        Code::UpstreamTimeout,
        "the provider's task took longer than an hour",
    )
    .sent()
}
