//! Tools that ask in rounds, with and without a state that the client carries.

use rmcp::ErrorData;
use serde_json::{Map, Value, json};

use crate::asking::{elicitation, object, sampling};
use crate::call::{Halt, ToolCall};
use crate::content::text_result;

/// The result of a tool of this module; nothing when `name` is not one.
pub(crate) async fn run(call: &ToolCall<'_>) -> Result<Option<Value>, Halt> {
    let Some(kind) = call.name.strip_prefix("test_input_required_result_") else {
        return Ok(None);
    };
    Ok(Some(match kind {
        "elicitation" => text_result(&format!("Hello, {}!", name(call).await?)),
        "sampling" => {
            let question = sampling("What is the capital of France?", 100);
            let answer = call.ask("capital_question", question, None).await?;
            text_result(answer["content"]["text"].as_str().unwrap_or(""))
        }
        "list_roots" => {
            let answer = call.ask("client_roots", roots(), None).await?;
            text_result(&format!("The roots are {}.", answer["roots"]))
        }
        "request_state" | "tampered_state" => confirmed(call).await?,
        "multiple_inputs" => several(call).await?,
        "multi_round" => two_rounds(call).await?,
        "capabilities" => possible(call).await?,
        _ => return Ok(None),
    }))
}

/// Asks for a name.
pub(crate) async fn name(call: &ToolCall<'_>) -> Result<String, Halt> {
    let answer = call
        .ask("user_name", ask_name("What is your name?"), None)
        .await?;
    Ok(field(&answer, "name"))
}

fn ask_name(message: &str) -> Value {
    elicitation(message, &object(&json!({"name": {"type": "string"}})))
}

fn roots() -> Value {
    json!({"method": "roots/list"})
}

/// A field of the form that the user filled in; `nobody` when they declined.
pub(crate) fn field(answer: &Value, name: &str) -> String {
    answer["content"][name].as_str().unwrap_or("nobody").to_owned()
}

/// A retry without the state of the first round is refused.
async fn confirmed(call: &ToolCall<'_>) -> Result<Value, Halt> {
    let known = call.known()?;
    let question = elicitation("Please confirm", &object(&json!({"ok": {"type": "boolean"}})));
    call.ask("confirm", question, Some(json!({"asked": true})))
        .await?;
    if call.is_modern() && known["asked"] != true {
        return Err(ErrorData::invalid_params("`requestState` is missing", None).into());
    }
    Ok(text_result("state-ok"))
}

async fn several(call: &ToolCall<'_>) -> Result<Value, Halt> {
    call.known()?;
    let questions = json!({
        "user_name": ask_name("What is your name?"),
        "greeting": sampling("Generate a greeting", 50),
        "client_roots": roots(),
    });
    let answers = call.ask_all(&questions, Some(json!({"asked": 3}))).await?;
    Ok(text_result(&Value::from(answers).to_string()))
}

async fn two_rounds(call: &ToolCall<'_>) -> Result<Value, Halt> {
    let known = call.known()?;
    let name = match known["name"].as_str() {
        Some(name) => name.to_owned(),
        None => {
            let question = ask_name("Step 1: What is your name?");
            field(&call.ask("step1", question, Some(json!({}))).await?, "name")
        }
    };
    let colour = object(&json!({"color": {"type": "string"}}));
    let question = elicitation("Step 2: What is your favorite color?", &colour);
    let answer = call.ask("step2", question, Some(json!({"name": name}))).await?;
    Ok(text_result(&format!("{name} likes {}.", field(&answer, "color"))))
}

/// Asks no more than the client declared to answer.
async fn possible(call: &ToolCall<'_>) -> Result<Value, Halt> {
    let questions = [
        ("name", ask_name("What is your name?")),
        ("greeting", sampling("Generate a greeting", 50)),
        ("roots", roots()),
    ];
    let questions: Map<_, _> = questions
        .into_iter()
        .filter(|(_, question)| call.can_answer(question["method"].as_str().unwrap_or_default()))
        .map(|(key, question)| (key.to_owned(), question))
        .collect();
    let answers = call.ask_all(&Value::from(questions), None).await?;
    Ok(text_result(&Value::from(answers).to_string()))
}
