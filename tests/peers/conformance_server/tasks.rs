//! Tools that become tasks for clients that declared the extension.

use std::time::Duration;

use rmcp::ErrorData;
use rmcp::model::{CallToolResult, ClientCapabilities, CreateTaskResult, TASKS_EXTENSION_ID};
use rmcp::task_manager::{TaskContext, TaskExit, TaskOptions};
use serde_json::{Value, json};

use crate::asking::{elicitation, object};
use crate::call::{Halt, ToolCall};
use crate::content::text_result;
use crate::{rounds, typed};

/// Milliseconds between two questions how a task is doing.
const POLL: u64 = 200;

/// What a tool of this module answered.
#[derive(Debug)]
pub(crate) enum TaskOutcome {
    Complete(Value),
    Task(CreateTaskResult),
}

/// The outcome of a tool of this module; nothing when `name` is not one.
pub(crate) async fn run(call: &ToolCall<'_>) -> Result<Option<TaskOutcome>, Halt> {
    let job = match call.name {
        "greet" => return complete(text_result(&format!("Hello, {}!", call.text("name")))),
        "slow_compute" => {
            let time = Duration::try_from_secs_f64(call.number("seconds")).unwrap_or_default();
            let job = TaskJob::Sleep(time, call.text("label").to_owned());
            if !declares(call) || time.is_zero() {
                tokio::time::sleep(time).await;
                return complete(computed(call.text("label")));
            }
            job
        }
        "failing_job" => TaskJob::Fail,
        "protocol_error_job" => TaskJob::Break,
        "confirm_delete" => TaskJob::Confirm(call.text("filename").to_owned()),
        "multi_input" => TaskJob::TwoQuestions,
        "test_tool_with_task" => {
            needs_tasks(call)?;
            TaskJob::Greet(rounds::name(call).await?)
        }
        _ => return Ok(None),
    };
    needs_tasks(call)?;
    let options = TaskOptions::new().with_poll_interval_ms(POLL);
    let task = call
        .server
        .shared
        .tasks
        .spawn(options, |task| Box::pin(job.run(task)));
    Ok(Some(TaskOutcome::Task(CreateTaskResult::new(task))))
}

fn complete(result: Value) -> Result<Option<TaskOutcome>, Halt> {
    Ok(Some(TaskOutcome::Complete(result)))
}

fn declares(call: &ToolCall<'_>) -> bool {
    call.context
        .client_capabilities()
        .is_some_and(|capabilities| capabilities.supports_tasks())
}

fn needs_tasks(call: &ToolCall<'_>) -> Result<(), Halt> {
    if declares(call) {
        return Ok(());
    }
    let required: ClientCapabilities = typed(json!({"extensions": {TASKS_EXTENSION_ID: {}}}))?;
    Err(ErrorData::missing_required_client_capability(required).into())
}

/// The work of a task.
#[derive(Debug)]
enum TaskJob {
    Sleep(Duration, String),
    /// Ends with an error of the tool.
    Fail,
    /// Ends with an error of the protocol.
    Break,
    Confirm(String),
    TwoQuestions,
    Greet(String),
}

impl TaskJob {
    async fn run(self, task: TaskContext) -> Result<CallToolResult, TaskExit> {
        let result = match self {
            Self::Sleep(time, label) => {
                sleep(&task, time).await?;
                computed(&label)
            }
            Self::Fail => {
                sleep(&task, Duration::from_secs(1)).await?;
                let mut result = text_result("The job failed.");
                result["isError"] = json!(true);
                result
            }
            Self::Break => return Err(ErrorData::internal_error("the job broke", None).into()),
            Self::Confirm(file) => {
                let answer = task
                    .request_input("confirm", confirm(&format!("Delete {file}?"))?)
                    .await?;
                let deleted = answer["content"]["confirm"] == true;
                text_result(&format!(
                    "{file} was {}deleted.",
                    if deleted { "" } else { "not " }
                ))
            }
            Self::TwoQuestions => {
                let (first, second) = (confirm("The first?")?, confirm("The second?")?);
                let asked = (
                    task.request_input("first", first),
                    task.request_input("second", second),
                );
                let (first, second) = tokio::try_join!(asked.0, asked.1)?;
                text_result(&json!([first, second]).to_string())
            }
            Self::Greet(name) => text_result(&format!("Hello, {name}!")),
        };
        Ok(typed(result)?)
    }
}

/// # Errors
///
/// Cancelled, when the client cancels the task meanwhile.
async fn sleep(task: &TaskContext, time: Duration) -> Result<(), TaskExit> {
    tokio::select! {
        () = task.cancelled() => Err(TaskExit::Cancelled),
        () = tokio::time::sleep(time) => Ok(()),
    }
}

fn computed(label: &str) -> Value {
    text_result(&format!("Computed {label}."))
}

fn confirm(message: &str) -> Result<rmcp::model::InputRequest, ErrorData> {
    typed(elicitation(
        message,
        &object(&json!({"confirm": {"type": "boolean"}})),
    ))
}
