use super::*;
use crate::facade::tests::{catalogue, provider};

fn weather(read_only: bool) -> Catalogue {
    let tool = |name: &str, reads: bool| json!({ "name": name, "inputSchema": { "type": "object" }, "annotations": { "readOnlyHint": reads } });
    catalogue([tool("get_forecast", true), tool("set_alarm", read_only)])
}

fn shown(tool: &RawObject) -> Value {
    serde_json::to_value(tool).expect("JSON")
}

#[test]
fn the_meta_tool_names_its_operations_and_demands_nothing() {
    let tool = shown(&tool(&provider("weather"), Some(&weather(false))));
    assert_eq!(tool["name"], "use_weather");
    let schema = &tool["inputSchema"];
    assert_eq!(
        schema["properties"]["tool"]["enum"],
        json!(["get_forecast", "set_alarm"])
    );
    let names: Vec<&String> = schema["properties"]
        .as_object()
        .expect("properties")
        .keys()
        .collect();
    assert_eq!(names, ["tool", "arguments", "prompt", "accountId", "options"]);
    assert!(schema.get("required").is_none() && tool.get("outputSchema").is_none());
    assert_eq!(tool["_meta"]["anthropic/alwaysLoad"], true);
}

#[test]
fn annotations_tell_the_worst_that_any_operation_may_do() {
    let hint = |catalogue: Option<&Catalogue>| {
        shown(&tool(&provider("weather"), catalogue))["annotations"]["readOnlyHint"].clone()
    };
    assert_eq!(hint(Some(&weather(false))), false);
    assert_eq!(hint(Some(&weather(true))), true);
    assert_eq!(hint(None), false);
    assert_eq!(hint(Some(&Catalogue::default())), false);
}

#[test]
fn the_description_has_about_verbatim_and_at_most_500_bytes() {
    let mut provider = provider("weather");
    provider.about = Some("forecasts, alarms, Föhn".to_owned());
    let text = |provider: &Provider, catalogue: Option<&Catalogue>| {
        shown(&tool(provider, catalogue))["description"]
            .as_str()
            .expect("text")
            .to_owned()
    };
    assert!(text(&provider, Some(&weather(false))).contains("forecasts, alarms, Föhn"));
    assert!(text(&provider, None).contains("has to be connected first"));
    provider.about = Some("ö".repeat(400));
    assert!(text(&provider, Some(&weather(false))).len() <= MAX_DESCRIPTION);
    assert!(text(&provider, None).len() <= MAX_DESCRIPTION);
}

#[test]
fn without_a_catalogue_no_operation_is_named() {
    let tool = shown(&tool(&provider("weather"), None));
    assert!(tool["inputSchema"]["properties"]["tool"].get("enum").is_none());
}

#[test]
fn an_enum_is_whole_or_absent() {
    let many = catalogue((0..800).map(|n| json!({ "name": format!("operation_{n}"), "inputSchema": {} })));
    let tool = shown(&tool(&provider("weather"), Some(&many)));
    assert!(tool["inputSchema"]["properties"]["tool"].get("enum").is_none());
}

#[test]
fn equal_catalogues_give_equal_bytes() {
    let bytes = || {
        tool(&provider("weather"), Some(&weather(false)))
            .close()
            .get()
            .to_owned()
    };
    assert_eq!(bytes(), bytes());
}

#[test]
fn the_single_tool_asks_for_the_provider_before_the_operation() {
    let (one, other) = (provider("weather"), provider("mail"));
    let tool = shown(&single(
        "pleiades",
        &[(&one, Some(&weather(true))), (&other, None)],
    ));
    assert_eq!(tool["name"], "use_pleiades");
    let properties = tool["inputSchema"]["properties"].as_object().expect("properties");
    let names: Vec<&String> = properties.keys().take(2).collect();
    assert_eq!(names, ["provider", "tool"]);
    assert_eq!(properties["provider"]["enum"], json!(["weather", "mail"]));
    assert!(properties["tool"].get("enum").is_none());
    assert_eq!(
        tool["annotations"]["readOnlyHint"], false,
        "what is not known may write"
    );
}

/// Whole schemas of other hosts' subsets are broken by one of these keywords.
#[test]
fn schemas_use_plain_features_only() {
    let (one, catalogue) = (provider("weather"), weather(false));
    for tool in [
        tool(&one, Some(&catalogue)),
        single("all", &[(&one, None)]),
        connect("connect", &one),
    ] {
        let text = tool.get("inputSchema").expect("a schema").get().to_owned();
        for keyword in [
            "\"required\"",
            "\"oneOf\"",
            "\"anyOf\"",
            "\"$ref\"",
            "\"format\"",
            "\"array\"",
            "\"type\":[",
        ] {
            assert!(!text.contains(keyword), "{keyword}: {text}");
        }
    }
}
