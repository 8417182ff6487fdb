//! Tools of the older revisions that ask back once: a model, or the user.

use serde_json::{Value, json};

use crate::call::{Halt, ToolCall};
use crate::content::text_result;

/// The result of a tool of this module; nothing when `name` is not one.
pub(crate) async fn run(call: &ToolCall<'_>) -> Result<Option<Value>, Halt> {
    Ok(Some(match call.name {
        "test_sampling" => {
            let answer = call
                .ask("answer", sampling(call.text("prompt"), 100), None)
                .await?;
            text_result(&format!(
                "LLM response: {}",
                answer["content"]["text"].as_str().unwrap_or("")
            ))
        }
        "test_elicitation" => {
            let person = object(&json!({
                "username": {"type": "string", "description": "User's response"},
                "email": {"type": "string", "description": "User's email address"},
            }));
            let answer = call
                .ask("person", elicitation(call.text("message"), &person), None)
                .await?;
            text_result(&format!("User response: {}", outcome(&answer)))
        }
        "test_elicitation_sep1034_defaults" => completed(call, "Check the defaults", &defaults()).await?,
        "test_elicitation_sep1330_enums" => completed(call, "Choose", &choices()).await?,
        "test_missing_capability" => {
            call.needs("sampling")?;
            text_result("The client can sample.")
        }
        "test_streaming_elicitation" => {
            let schema = object(&json!({"confirm": {"type": "boolean"}}));
            let answer = call
                .ask("confirm", elicitation("Please confirm", &schema), None)
                .await?;
            text_result(&outcome(&answer))
        }
        _ => return Ok(None),
    }))
}

async fn completed(call: &ToolCall<'_>, message: &str, schema: &Value) -> Result<Value, Halt> {
    let answer = call.ask("form", elicitation(message, schema), None).await?;
    Ok(text_result(&format!(
        "Elicitation completed: {}",
        outcome(&answer)
    )))
}

fn outcome(answer: &Value) -> String {
    format!(
        "action={}, content={}",
        answer["action"].as_str().unwrap_or(""),
        answer["content"]
    )
}

/// A form for the user.
pub(crate) fn elicitation(message: &str, schema: &Value) -> Value {
    json!({
        "method": "elicitation/create",
        "params": {"mode": "form", "message": message, "requestedSchema": schema},
    })
}

/// A question to the client's model.
pub(crate) fn sampling(prompt: &str, tokens: u32) -> Value {
    let message = json!({"role": "user", "content": {"type": "text", "text": prompt}});
    json!({
        "method": "sampling/createMessage",
        "params": {"messages": [message], "maxTokens": tokens},
    })
}

/// A schema whose every property is required.
pub(crate) fn object(properties: &Value) -> Value {
    let required: Vec<_> = properties
        .as_object()
        .into_iter()
        .flat_map(|map| map.keys())
        .collect();
    json!({"type": "object", "properties": properties, "required": required})
}

fn defaults() -> Value {
    json!({"type": "object", "properties": {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": true},
    }})
}

fn choices() -> Value {
    let untitled = json!(["option1", "option2", "option3"]);
    let titled = json!([
        {"const": "value1", "title": "First choice"},
        {"const": "value2", "title": "Second choice"},
        {"const": "value3", "title": "Third choice"},
    ]);
    json!({"type": "object", "properties": {
        "untitledSingle": {"type": "string", "enum": untitled},
        "titledSingle": {"type": "string", "oneOf": titled},
        "legacyEnum": {
            "type": "string", "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": untitled}},
        "titledMulti": {"type": "array", "items": {"anyOf": titled}},
    }})
}
