//! A task of the extension (2026-07-28) that the gateway sees to its end.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time;

use super::task::{RunningTask, TaskClient, foreign, given_up, late};
use crate::exchange::request::Outlet;
use pleiades_core::error::{Error, RpcFault};
use pleiades_mcp::task::{Task, TaskStatus};
use pleiades_mcp::{Raw, RawObject};

/// Looks at a task that still asks what it was told; then it is believed to want it once more.
const REPEATS: u32 = 5;

#[derive(Debug)]
pub(super) struct ExtensionTask {
    task: RunningTask,
    latest: Option<Task>,
    /// What it was told already: it may go on asking for a while.
    answered: HashSet<String>,
    progress: TaskProgress,
}

#[derive(Debug)]
pub(super) enum TaskTurn {
    Done(RawObject),
    Asks(RawObject),
}

impl ExtensionTask {
    /// A task that was just made and said `latest`, or one that a client brought back.
    pub(super) fn new(client: TaskClient, id: String, latest: Option<Task>) -> Self {
        Self {
            task: RunningTask::new(client, id),
            latest,
            answered: HashSet::new(),
            progress: TaskProgress::default(),
        }
    }

    /// `Cancelled` when its provider gave it up, `UpstreamTimeout` when it takes too long.
    pub(super) async fn next(&mut self, outlet: Option<&Outlet>) -> Result<TaskTurn, Error> {
        if time::Instant::now() >= self.task.until {
            return Err(late());
        }
        let (latest, state) = match self.latest.take() {
            Some(latest) if latest.status == TaskStatus::Working => (latest, RawObject::new()),
            // What it wants or came to is not said when it is made.
            _ => self.task.look().await?,
        };
        let (answered, progress) = (&self.answered, &mut self.progress);
        let mut repeats = 0;
        let mut is_idle = |latest: &Task, state: &RawObject| {
            progress.report(outlet, latest);
            match latest.status {
                TaskStatus::Working => true,
                TaskStatus::InputRequired if pending(state, answered).is_empty() => {
                    repeats += 1;
                    repeats < REPEATS
                }
                _ => false,
            }
        };
        let (latest, state) = match is_idle(&latest, &state) {
            true => self.task.watch(latest, is_idle).await?,
            false => (latest, state),
        };
        self.outcome(&latest, state)
    }

    fn outcome(&mut self, latest: &Task, mut state: RawObject) -> Result<TaskTurn, Error> {
        self.task.over = latest.is_over();
        match latest.status {
            TaskStatus::Completed => {
                let mut result: RawObject = state
                    .read("result")
                    .ok_or_else(|| foreign("the provider's task ended without its result"))?;
                if result.get("resultType").is_none() {
                    result.put("resultType", "complete");
                }
                Ok(TaskTurn::Done(result))
            }
            TaskStatus::Failed => Err(failure(&state)),
            TaskStatus::Cancelled => Err(given_up()),
            TaskStatus::Working | TaskStatus::InputRequired => {
                let is_odd = |asked: &RawValue| asked.get() != "null" && !asked.get().starts_with('{');
                if state.get("inputRequests").is_some_and(is_odd) {
                    return Err(foreign("the provider's task asks in a form that is not MCP"));
                }
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
                Ok(TaskTurn::Asks(asks))
            }
        }
    }

    pub(super) async fn answer(&mut self, responses: &RawObject) -> Result<(), Error> {
        if responses.is_empty() {
            return Ok(());
        }
        let mut call = self.task.client.call("tasks/update", &self.task.id);
        call.params.set("inputResponses", responses.close());
        self.task.client.request(call).await?;
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

fn pending(state: &RawObject, answered: &HashSet<String>) -> RawObject {
    let mut requests: RawObject = state.read("inputRequests").unwrap_or_default();
    requests.retain(|key| !answered.contains(key));
    requests
}

/// What a task said of itself, which is its progress: the extension knows no other.
#[derive(Debug, Default)]
struct TaskProgress {
    steps: u64,
    last: Option<String>,
}

impl TaskProgress {
    fn report(&mut self, outlet: Option<&Outlet>, latest: &Task) {
        let (Some(outlet), Some(message)) = (outlet, &latest.message) else {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use pleiades_mcp::raw::raw;

    #[test]
    fn what_a_task_was_told_is_not_asked_again() {
        let state = json!({ "inputRequests": { "one": {}, "two": {} } });
        let state = RawObject::open(&raw(&state)).unwrap();
        let keys = |answered: &[&str]| {
            let answered = answered.iter().map(|key| (*key).to_owned()).collect();
            let asked = pending(&state, &answered);
            asked.iter().map(|(key, _)| key.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(keys(&[]), ["one", "two"]);
        assert_eq!(keys(&["one", "three"]), ["two"]);
        assert!(keys(&["one", "two"]).is_empty());
    }

    #[test]
    fn a_failed_task_ends_with_its_own_error() {
        let of = |state: serde_json::Value| failure(&RawObject::open(&raw(&state)).unwrap());
        let latest = of(json!({ "error": { "code": -32000, "message": "broke", "data": [1.0] } }));
        let fault = latest.rpc.unwrap();
        assert_eq!((fault.code, fault.message.as_str()), (-32000, "broke"));
        assert_eq!(fault.data.unwrap().get(), "[1.0]");
        assert!(of(json!({})).rpc.is_none());
    }
}
