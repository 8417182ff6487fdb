//! Prompts, by their names.

use rmcp::ErrorData;
use serde_json::{Value, json};

use crate::asking::{elicitation, object};
use crate::call::{Halt, ToolCall};
use crate::content::{PIXEL, embedded};
use crate::rounds::field;

pub(crate) fn listed() -> Vec<Value> {
    let required = |name: &str, about: &str| json!({"name": name, "description": about, "required": true});
    vec![
        json!({"name": "test_simple_prompt", "description": "Takes no argument."}),
        json!({
            "name": "test_prompt_with_arguments", "description": "Takes two arguments.",
            "arguments": [required("arg1", "The first argument."), required("arg2", "The second argument.")],
        }),
        json!({
            "name": "test_prompt_with_embedded_resource", "description": "Embeds a resource.",
            "arguments": [required("resourceUri", "The URI of the resource.")],
        }),
        json!({"name": "test_prompt_with_image", "description": "Contains an image."}),
        json!({"name": "test_input_required_result_prompt", "description": "Asks for its context."}),
    ]
}

/// The prompt that comes and goes when `test_trigger_prompt_change` is called.
pub(crate) fn dynamic() -> Value {
    json!({"name": "test_dynamic_prompt", "description": "Is listed after every other change of the list."})
}

/// The messages of a prompt.
///
/// # Errors
///
/// Invalid params for an unknown name; a halt as [`Call::ask_all`].
pub(crate) async fn messages(call: &ToolCall<'_>) -> Result<Value, Halt> {
    Ok(match call.name {
        "test_simple_prompt" | "test_dynamic_prompt" => json!([text("This is a simple prompt for testing.")]),
        "test_prompt_with_arguments" => {
            let (first, second) = (call.text("arg1"), call.text("arg2"));
            json!([text(&format!(
                "Prompt with arguments: arg1='{first}', arg2='{second}'"
            ))])
        }
        "test_prompt_with_embedded_resource" => {
            let resource = "Embedded resource content for testing.";
            json!([
                user(&embedded(call.text("resourceUri"), "text/plain", resource)),
                text("Please process the embedded resource above."),
            ])
        }
        "test_prompt_with_image" => json!([
            user(&json!({"type": "image", "data": PIXEL, "mimeType": "image/png"})),
            text("Please analyze the image above."),
        ]),
        "test_input_required_result_prompt" => {
            let schema = object(&json!({"context": {"type": "string"}}));
            let question = elicitation("What context should the prompt use?", &schema);
            let answer = call.ask("user_context", question, None).await?;
            json!([text(&format!("Use this context: {}", field(&answer, "context")))])
        }
        name => return Err(ErrorData::invalid_params(format!("unknown prompt `{name}`"), None).into()),
    })
}

fn text(text: &str) -> Value {
    user(&json!({"type": "text", "text": text}))
}

fn user(content: &Value) -> Value {
    json!({"role": "user", "content": content})
}
