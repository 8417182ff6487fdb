//! What the server lists, as the suite names it.

use serde_json::{Map, Value, json};

/// Tools in the order in which they are listed. The first takes no argument: the suite calls
/// whichever stands first.
pub(crate) fn tools() -> Vec<Value> {
    [plain(), asking(), rounds(), tasks()].concat()
}

/// The tool that comes and goes when `test_trigger_tool_change` is called.
pub(crate) fn dynamic_tool() -> Value {
    tool(
        "test_dynamic_tool",
        "Is listed after every other change of the list.",
        &json!({}),
    )
}

fn plain() -> Vec<Value> {
    vec![
        tool("test_simple_text", "Returns a text.", &json!({})),
        tool("test_image_content", "Returns an image.", &json!({})),
        tool("test_audio_content", "Returns a sound.", &json!({})),
        tool(
            "test_embedded_resource",
            "Returns a resource within its result.",
            &json!({}),
        ),
        tool(
            "test_multiple_content_types",
            "Returns a text, an image and a resource.",
            &json!({}),
        ),
        tool("test_error_handling", "Always fails.", &json!({})),
        tool("test_tool_with_logging", "Logs three times.", &json!({})),
        tool(
            "test_logging_tool",
            "Logs once, when it was asked to.",
            &json!({}),
        ),
        tool(
            "test_tool_with_progress",
            "Reports its progress three times.",
            &json!({}),
        ),
        tool(
            "test_reconnection",
            "Answers on a stream that must be resumed.",
            &json!({}),
        ),
        tool(
            "test_trigger_tool_change",
            "Changes the list of tools.",
            &json!({}),
        ),
        tool(
            "test_trigger_prompt_change",
            "Changes the list of prompts.",
            &json!({}),
        ),
        tool(
            "test_trigger_resource_update",
            "Tells those who watch a resource that it changed.",
            &json!({"uri": {"type": "string"}}),
        ),
        tool(
            "test_region_header",
            "Mirrors its argument into a header.",
            &json!({"region": {"type": "string", "x-mcp-header": "Region"}}),
        ),
        json_schema_2020_12(),
    ]
}

fn asking() -> Vec<Value> {
    vec![
        tool(
            "test_sampling",
            "Asks the client's model.",
            &json!({"prompt": {"type": "string"}}),
        ),
        tool(
            "test_elicitation",
            "Asks the user who they are.",
            &json!({"message": {"type": "string"}}),
        ),
        tool(
            "test_elicitation_sep1034_defaults",
            "Asks with defaults of each type.",
            &json!({}),
        ),
        tool(
            "test_elicitation_sep1330_enums",
            "Asks with choices of each kind.",
            &json!({}),
        ),
        tool(
            "test_missing_capability",
            "Needs a client that can sample.",
            &json!({}),
        ),
        tool(
            "test_streaming_elicitation",
            "Asks the user to confirm.",
            &json!({}),
        ),
    ]
}

fn rounds() -> Vec<Value> {
    [
        ("elicitation", "Asks for a name."),
        ("sampling", "Asks for the capital of France."),
        ("list_roots", "Asks for the roots of the client."),
        (
            "request_state",
            "Asks to confirm, with a state that must come back.",
        ),
        ("multiple_inputs", "Asks three things at once."),
        ("multi_round", "Asks for a name, then for a colour."),
        (
            "tampered_state",
            "Asks to confirm, with a state that must not change.",
        ),
        ("capabilities", "Asks only what the client can answer."),
    ]
    .into_iter()
    .map(|(name, about)| tool(&format!("test_input_required_result_{name}"), about, &json!({})))
    .collect()
}

fn tasks() -> Vec<Value> {
    vec![
        tool("greet", "Says hello.", &json!({"name": {"type": "string"}})),
        optional(
            "slow_compute",
            "Sleeps, then returns.",
            &json!({"seconds": {"type": "number"}, "label": {"type": "string"}}),
        ),
        tool(
            "failing_job",
            "A task that ends with an error of the tool.",
            &json!({}),
        ),
        tool(
            "protocol_error_job",
            "A task that ends with an error of the protocol.",
            &json!({}),
        ),
        tool(
            "confirm_delete",
            "A task that asks to confirm.",
            &json!({"filename": {"type": "string"}}),
        ),
        tool("multi_input", "A task that asks two things at once.", &json!({})),
        tool(
            "test_tool_with_task",
            "Asks for a name, then becomes a task.",
            &json!({}),
        ),
    ]
}

/// A tool whose every argument is required.
fn tool(name: &str, about: &str, properties: &Value) -> Value {
    let required: Vec<_> = properties.as_object().into_iter().flat_map(Map::keys).collect();
    let mut declared = optional(name, about, properties);
    if !required.is_empty() {
        declared["inputSchema"]["required"] = json!(required);
    }
    declared
}

fn optional(name: &str, about: &str, properties: &Value) -> Value {
    json!({"name": name, "description": about, "inputSchema": {"type": "object", "properties": properties}})
}

/// Its schema uses what older readers of schemas like to drop.
fn json_schema_2020_12() -> Value {
    let string = json!({"type": "string"});
    json!({
        "name": "json_schema_2020_12_tool",
        "description": "Has a schema with the vocabulary of 2020-12.",
        "inputSchema": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "$defs": {"address": {
                "$anchor": "addressDef", "type": "object",
                "properties": {"street": string, "city": string},
            }},
            "properties": {
                "name": string, "address": {"$ref": "#/$defs/address"},
                "contactMethod": {"type": "string", "enum": ["phone", "email"]},
                "phone": string, "email": string,
            },
            "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
            "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
            "then": {"required": ["phone"]},
            "else": {"required": ["email"]},
            "additionalProperties": false,
        },
    })
}
