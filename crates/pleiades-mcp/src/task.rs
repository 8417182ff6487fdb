//! Tasks as providers describe them: the experimental ones of 2025-11-25, which a client asks for,
//! and those of the extension of 2026-07-28 (SEP-2663), which a provider makes by itself.
//!
//! | | 2025-11-25 | 2026-07-28 |
//! |---|---|---|
//! | asked for by | `task` among the parameters | the capability alone |
//! | made | `{"task": {…}}` | `resultType: "task"`, flat |
//! | its time | `ttl`, `pollInterval` | `ttlMs`, `pollIntervalMs` |
//! | its end | `tasks/result` | within `tasks/get` |

use std::time::Duration;

use serde_json::value::RawValue;

use super::{Raw, RawObject, Revision, capabilities::TASKS, edit};
use pleiades_core::error::RpcFault;

/// Key of `_meta` that says which task of 2025-11-25 a message belongs to.
pub const RELATED: &str = "io.modelcontextprotocol/related-task";

/// How often a task that names no interval is looked at, and the bounds for those that do.
const POLL: Duration = Duration::from_secs(1);
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);
/// JSON-RPC: a capability is missing.
const MISSING: i64 = -32021;

/// State of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskStatus {
    /// It runs; unknown states are read as this one.
    Working,
    /// It waits for its client.
    InputRequired,
    /// There is a result.
    Completed,
    /// There is an error.
    Failed,
    /// It was cancelled.
    Cancelled,
}

/// A task as its provider describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its id at the provider.
    pub id: String,
    /// Its state.
    pub status: TaskStatus,
    /// When to look again: 100 ms to 30 s.
    pub poll: Duration,
    /// How long the provider keeps it (milliseconds); `None`: unknown, or for ever.
    pub ttl_ms: Option<u64>,
    /// A status message for people.
    pub message: Option<String>,
}

impl Task {
    /// The task that the result of a call names instead of an answer.
    #[must_use]
    pub fn created(result: &RawObject, from: Revision) -> Option<Self> {
        if from.is_modern() {
            let is_task = result.text("resultType").as_deref() == Some("task");
            return is_task.then(|| Self::read(result)).flatten();
        }
        Self::read(&result.read("task")?)
    }

    /// Whether it has ended.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(
            self.status,
            TaskStatus::Completed | TaskStatus::Failed | TaskStatus::Cancelled
        )
    }

    /// Reads a task; `None` without an id.
    #[must_use]
    pub fn read(task: &RawObject) -> Option<Self> {
        let status = match task.text("status").as_deref() {
            Some("input_required") => TaskStatus::InputRequired,
            Some("completed") => TaskStatus::Completed,
            Some("failed") => TaskStatus::Failed,
            Some("cancelled") => TaskStatus::Cancelled,
            _ => TaskStatus::Working,
        };
        let millis = |new: &str, old: &str| task.read::<u64>(new).or_else(|| task.read(old));
        let poll = millis("pollIntervalMs", "pollInterval").map_or(POLL, Duration::from_millis);
        Some(Self {
            id: task.read("taskId")?,
            status,
            poll: poll.clamp(SHORTEST, LONGEST),
            ttl_ms: millis("ttlMs", "ttl"),
            message: task.read("statusMessage"),
        })
    }
}

/// Whether a tool of 2025-11-25 can only be called as a task.
#[must_use]
pub fn is_required(tool: &RawObject) -> bool {
    let execution: Option<RawObject> = tool.read("execution");
    execution.is_some_and(|it| it.text("taskSupport").as_deref() == Some("required"))
}

/// Whether these capabilities of a provider of 2025-11-25 allow calls of tools as tasks.
#[must_use]
pub fn has_core_tasks(capabilities: &RawValue) -> bool {
    let part = |of: &RawObject, key: &str| of.read::<RawObject>(key);
    RawObject::open(capabilities)
        .ok()
        .and_then(|all| part(&part(&part(&all, "tasks")?, "requests")?, "tools"))
        .is_some_and(|tools| tools.get("call").is_some())
}

/// Whether capabilities of 2026-07-28, of either side, name the extension.
#[must_use]
pub fn has_extension(capabilities: &RawValue) -> bool {
    // Few know it, and a search is cheaper than a walk.
    capabilities.get().contains(TASKS)
        && RawObject::open(capabilities)
            .ok()
            .and_then(|all| all.read::<RawObject>("extensions"))
            .is_some_and(|extensions| extensions.get(TASKS).is_some())
}

/// Whether a provider says that the call can only be made with the extension.
#[must_use]
pub fn is_extension_missing(fault: &RpcFault) -> bool {
    let data = fault.data.as_deref().filter(|_| fault.code == MISSING);
    data.and_then(|data| RawObject::open(data).ok())
        .and_then(|data| data.get("requiredCapabilities").map(has_extension))
        .unwrap_or(false)
}

/// A client's capabilities with the extension.
#[must_use]
pub fn with_extension(capabilities: &RawValue) -> Raw {
    let mut all = RawObject::open(capabilities).unwrap_or_default();
    let mut extensions: RawObject = all.read("extensions").unwrap_or_default();
    extensions.put(TASKS, &RawObject::new());
    all.set("extensions", extensions.close());
    all.close()
}

/// A client's capabilities without the extension.
#[must_use]
pub fn without_extension(capabilities: &RawValue) -> Raw {
    let Ok(mut all) = RawObject::open(capabilities) else {
        return capabilities.to_owned();
    };
    if let Some(mut extensions) = all.read::<RawObject>("extensions")
        && extensions.remove(TASKS).is_some()
    {
        all.set("extensions", extensions.close());
    }
    all.close()
}

/// Takes from a message of a task which one it belongs to: its receiver knows of none.
pub fn strip_related(of: &mut RawObject) {
    let mut empty = false;
    let changed = edit::member(of, "_meta", |meta| {
        let removed = meta.remove(RELATED).is_some();
        empty = meta.is_empty();
        removed
    });
    if changed && empty {
        of.remove("_meta");
    }
}

/// Which task a message of a provider belongs to, as its answer has to say.
#[must_use]
pub fn related_task(params: &RawValue) -> Option<Raw> {
    let params = RawObject::open(params).ok()?;
    let meta: RawObject = params.read("_meta")?;
    meta.get(RELATED).map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::raw::raw;

    const L: Revision = Revision::V2025_11_25;
    const M: Revision = Revision::V2026_07_28;

    fn object(value: &Value) -> RawObject {
        RawObject::open(&raw(value)).unwrap()
    }

    #[test]
    fn a_task_is_read_in_the_words_of_each_generation() {
        let old =
            json!({ "task": { "taskId": "a", "status": "working", "ttl": 60_000, "pollInterval": 5_000 } });
        let new = json!({ "resultType": "task", "taskId": "a", "status": "working", "ttlMs": 60_000, "pollIntervalMs": 5_000 });
        let (old, new) = (object(&old), object(&new));
        assert_eq!(Task::created(&old, L), Task::created(&new, M));
        assert_eq!(Task::created(&old, M), None);
        assert_eq!(Task::created(&new, L), None);
        let task = Task::created(&new, M).unwrap();
        assert_eq!((task.ttl_ms, task.poll), (Some(60_000), Duration::from_secs(5)));
    }

    #[test]
    fn no_task_is_looked_at_too_often_or_never() {
        let poll = |millis: Value| {
            Task::read(&object(&json!({ "taskId": "a", "pollInterval": millis }))).map(|it| it.poll)
        };
        assert_eq!(poll(json!(1)), Some(Duration::from_millis(100)));
        assert_eq!(poll(json!(3_600_000)), Some(Duration::from_secs(30)));
        assert_eq!(poll(json!("soon")), Some(Duration::from_secs(1)));
        assert_eq!(Task::read(&object(&json!({ "status": "working" }))), None);
    }

    #[test]
    fn what_a_provider_demands_and_offers_is_recognised() {
        assert!(is_required(&object(
            &json!({ "execution": { "taskSupport": "required" } })
        )));
        assert!(!is_required(&object(
            &json!({ "execution": { "taskSupport": "optional" } })
        )));
        assert!(has_core_tasks(&raw(
            &json!({ "tasks": { "requests": { "tools": { "call": {} } } } })
        )));
        assert!(!has_core_tasks(&raw(&json!({ "tasks": { "list": {} } }))));
        let fault = |code: i64, required: Value| RpcFault {
            code,
            message: String::new(),
            data: Some(raw(&json!({ "requiredCapabilities": required }))),
        };
        let tasks = json!({ "extensions": { TASKS: {} } });
        assert!(is_extension_missing(&fault(MISSING, tasks.clone())));
        assert!(!is_extension_missing(&fault(-32020, tasks)));
        assert!(!is_extension_missing(&fault(
            MISSING,
            json!({ "elicitation": { "x": TASKS } })
        )));
    }

    #[test]
    fn the_extension_is_declared_and_taken_back_beside_others() {
        let own = json!({ "elicitation": {}, "extensions": { "a/b": { "c": 1 } } });
        let with = with_extension(&raw(&own));
        assert!(has_extension(&with));
        let without: Value = serde_json::from_str(without_extension(&with).get()).unwrap();
        assert_eq!(without, own);
        assert!(has_extension(&with_extension(&raw(&json!({})))));
    }

    #[test]
    fn a_message_of_a_task_loses_its_mark_and_nothing_else() {
        let mut params =
            object(&json!({ "message": "m", "_meta": { RELATED: { "taskId": "a" }, "own": 1 } }));
        assert_eq!(related_task(&params.close()).unwrap().get(), r#"{"taskId":"a"}"#);
        strip_related(&mut params);
        assert_eq!(params.close().get(), r#"{"message":"m","_meta":{"own":1}}"#);
        let mut alone = object(&json!({ "_meta": { RELATED: { "taskId": "a" } } }));
        strip_related(&mut alone);
        assert_eq!(alone.close().get(), "{}");
    }
}
