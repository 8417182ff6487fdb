//! What the tests of the nine cells need beside the tools of the suite: addresses to open, two
//! questions at once, work that can be counted and cancelled, results that older clients do not know.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rmcp::ErrorData;
use rmcp::model::{ErrorCode, ProtocolVersion};
use serde_json::{Value, json};

use crate::asking::{elicitation, object};
use crate::call::{Halt, ToolCall};
use crate::content::text_result;

const STEP: Duration = Duration::from_millis(20);
/// An address has to be opened before the call can be made (2025-11-25 alone).
const URL_REQUIRED: i32 = -32042;

/// What was done, for those who look whether it was done once.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    runs: AtomicUsize,
    cancelled: AtomicUsize,
    /// What was answered to `cell_act`, by its action.
    answers: Mutex<BTreeMap<String, usize>>,
    /// Addresses that were named in an error, as if somebody had opened them since.
    opened: Mutex<BTreeSet<String>>,
}

impl Counts {
    fn shown(&self) -> Value {
        json!({
            "runs": self.runs.load(Ordering::SeqCst),
            "cancelled": self.cancelled.load(Ordering::SeqCst),
            "answers": *self.answers.lock(),
        })
    }
}

/// The tools of this module. `modern`: nobody older than 2026-07-28 is served.
pub(crate) fn listed(modern: bool) -> Vec<Value> {
    let tool = |name: &str, about: &str, properties: Value| {
        json!({"name": name, "description": about,
               "inputSchema": {"type": "object", "properties": properties}})
    };
    let mut values = tool(
        "cell_values",
        "Returns a list and a link with an icon.",
        json!({}),
    );
    values["icons"] = icons();
    if modern {
        values["outputSchema"] = json!({"type": "array", "items": {"type": "integer"}});
    }
    vec![
        values,
        tool(
            "cell_wait",
            "Waits in steps.",
            json!({"steps": {"type": "integer"}}),
        ),
        tool("cell_counts", "Says what was run and cancelled.", json!({})),
        tool(
            "cell_act",
            "Acts, then asks to confirm.",
            json!({"mark": {"type": "string"}}),
        ),
        tool("cell_two", "Asks two things at once.", json!({})),
        tool("cell_open", "Asks to open an address.", json!({})),
        tool(
            "cell_open_first",
            "Fails until an address was opened.",
            json!({"mark": {"type": "string"}}),
        ),
    ]
}

/// Before 2026-07-28 what a tool returns is an object.
pub(crate) fn shown_to_older(tool: &mut Value) {
    if tool["outputSchema"]["type"] == "array"
        && let Some(tool) = tool.as_object_mut()
    {
        tool.remove("outputSchema");
    }
}

/// The result of a tool of this module; nothing when `name` is not one.
pub(crate) async fn run(call: &ToolCall<'_>) -> Result<Option<Value>, Halt> {
    let counts = &call.server.shared.counts;
    Ok(Some(match call.name {
        "cell_values" => json!({
            "content": [
                {"type": "text", "text": "[1,2,3]"},
                {"type": "resource_link", "uri": "test://static-text", "name": "linked", "icons": icons()},
            ],
            "structuredContent": [1, 2, 3],
        }),
        "cell_counts" => json!({"content": [{"type": "text", "text": "Counted."}],
                                "structuredContent": counts.shown()}),
        "cell_wait" => wait(call).await?,
        "cell_act" => {
            counts.runs.fetch_add(1, Ordering::SeqCst);
            let asked = call.ask("confirm", confirm(), None);
            let answer = tokio::select! {
                answer = asked => answer?,
                () = call.context.ct.cancelled() => {
                    counts.cancelled.fetch_add(1, Ordering::SeqCst);
                    return Ok(Some(text_result("cancelled")));
                }
            };
            let action = answer["action"].as_str().unwrap_or("none");
            *counts.answers.lock().entry(action.to_owned()).or_default() += 1;
            text_result(&format!("action={action}"))
        }
        "cell_two" => two(call).await?,
        "cell_open" => {
            let answer = call.ask("open", address(), None).await?;
            text_result(&format!("action={}", answer["action"].as_str().unwrap_or("none")))
        }
        "cell_open_first" => {
            let late = call.context.protocol_version() == Some(ProtocolVersion::V_2025_11_25);
            if late && counts.opened.lock().insert(call.text("mark").to_owned()) {
                let asked = json!({"elicitations": [address()["params"]]});
                let fault = ErrorData::new(ErrorCode(URL_REQUIRED), "open an address first", Some(asked));
                return Err(fault.into());
            }
            text_result("opened")
        }
        _ => return Ok(None),
    }))
}

/// Reports each step, and stops when it is cancelled.
async fn wait(call: &ToolCall<'_>) -> Result<Value, Halt> {
    for step in 1..=1_000_000 {
        if f64::from(step) > call.number("steps") {
            break;
        }
        tokio::select! {
            () = call.context.ct.cancelled() => {
                call.server.shared.counts.cancelled.fetch_add(1, Ordering::SeqCst);
                return Ok(text_result("cancelled"));
            }
            () = tokio::time::sleep(STEP) => {}
        }
        call.progress(step, 1000).await?;
    }
    Ok(text_result("waited"))
}

/// In a session two requests that are open together; else two in one result.
async fn two(call: &ToolCall<'_>) -> Result<Value, Halt> {
    let question = |field: &str| elicitation(field, &object(&json!({field: {"type": "string"}})));
    let answers = if call.is_modern() {
        let asked = json!({"name": question("name"), "colour": question("colour")});
        Value::from(call.ask_all(&asked, None).await?)
    } else {
        let name = call.ask("name", question("name"), None);
        let colour = call.ask("colour", question("colour"), None);
        let (name, colour) = tokio::try_join!(name, colour)?;
        json!({"name": name, "colour": colour})
    };
    Ok(text_result(&format!(
        "{} {}",
        answers["name"]["content"]["name"].as_str().unwrap_or("nobody"),
        answers["colour"]["content"]["colour"].as_str().unwrap_or("none"),
    )))
}

fn confirm() -> Value {
    elicitation(
        "Really?",
        &json!({"type": "object", "properties": {"ok": {"type": "boolean"}}}),
    )
}

/// A question that sends the user to an address. Only 2025-11-25 has the id, but the SDK knows no
/// such question without it.
fn address() -> Value {
    let params = json!({"mode": "url", "message": "Open it.", "url": "https://example.com/open",
                        "elicitationId": "the-address"});
    json!({"method": "elicitation/create", "params": params})
}

fn icons() -> Value {
    json!([{"src": "https://example.com/icon.png", "mimeType": "image/png"}])
}
