//! Results that need nobody: content of each kind, logging, progress and changes of lists.

use std::time::Duration;

use serde_json::{Value, json};

use crate::call::{Halt, ToolCall};
use crate::polling;
use crate::server::ListChange;

/// A PNG of one pixel.
pub(crate) const PIXEL: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==";
/// A WAV file without samples.
const SILENCE: &str = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA=";

const STEP: Duration = Duration::from_millis(50);

/// A result of one text.
pub(crate) fn text_result(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}]})
}

/// The result of a tool of this module; nothing when `name` is not one.
pub(crate) async fn run(call: &ToolCall<'_>) -> Result<Option<Value>, Halt> {
    let image = json!({"type": "image", "data": PIXEL, "mimeType": "image/png"});
    Ok(Some(match call.name {
        "test_simple_text" | "test_dynamic_tool" | "json_schema_2020_12_tool" => {
            text_result("This is a simple text response for testing.")
        }
        "test_image_content" => json!({"content": [image]}),
        "test_audio_content" => {
            json!({"content": [{"type": "audio", "data": SILENCE, "mimeType": "audio/wav"}]})
        }
        "test_embedded_resource" => {
            let text = "This is an embedded resource content.";
            json!({"content": [embedded("test://embedded-resource", "text/plain", text)]})
        }
        "test_multiple_content_types" => json!({"content": [
            {"type": "text", "text": "Multiple content types test:"},
            image,
            embedded("test://mixed-content-resource", "application/json", r#"{"test":"data","value":123}"#),
        ]}),
        "test_error_handling" => json!({
            "content": [{"type": "text", "text": "This tool intentionally returns an error for testing"}],
            "isError": true,
        }),
        "test_region_header" => text_result(&format!("The region is {}.", call.text("region"))),
        polling::TOOL => {
            if let Some(request) = call.context.extensions.get::<http::request::Parts>() {
                call.server.shared.returned.wait(&request.headers).await;
            }
            text_result("You came back for this.")
        }
        _ => return run_notifying(call).await,
    }))
}

/// Tools that tell something beside their result.
async fn run_notifying(call: &ToolCall<'_>) -> Result<Option<Value>, Halt> {
    match call.name {
        "test_tool_with_logging" => {
            for text in [
                "Tool execution started",
                "Tool processing data",
                "Tool execution completed",
            ] {
                call.log("info", text).await?;
                tokio::time::sleep(STEP).await;
            }
        }
        "test_logging_tool" => call.log("info", "It was called.").await?,
        "test_tool_with_progress" => {
            for progress in [0, 50, 100] {
                call.progress(progress, 100).await?;
                tokio::time::sleep(STEP).await;
            }
        }
        "test_trigger_tool_change" => call.server.shared.change(ListChange::Tools),
        "test_trigger_prompt_change" => call.server.shared.change(ListChange::Prompts),
        "test_trigger_resource_update" => {
            call.server
                .shared
                .change(ListChange::Resource(call.text("uri").to_owned()));
        }
        _ => return Ok(None),
    }
    Ok(Some(text_result("Done.")))
}

pub(crate) fn embedded(uri: &str, kind: &str, text: &str) -> Value {
    json!({"type": "resource", "resource": {"uri": uri, "mimeType": kind, "text": text}})
}
