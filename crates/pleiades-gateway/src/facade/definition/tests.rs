use super::*;
use crate::facade::tests::{catalogue, provider};

mod subsets;

/// The one definition of a provider that is not split.
fn tool(provider: &Provider, catalogue: Option<&Catalogue>) -> RawObject {
    let mut tools = tools(provider, catalogue, false);
    assert_eq!(tools.len(), 1);
    tools.remove(0).tool
}

fn of_single<'a>(provider: &'a Provider, catalogue: Option<&'a Catalogue>) -> SingleProvider<'a> {
    SingleProvider {
        provider,
        catalogue,
        is_split: provider.facade.is_split,
    }
}

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

fn description(tool: &RawObject) -> String {
    tool.text("description").expect("text").into_owned()
}

#[test]
fn the_description_has_about_verbatim_and_bounds_of_its_own() {
    let mut provider = provider("weather");
    provider.about = Some("forecasts, alarms, Föhn".to_owned());
    let text = |provider: &Provider, catalogue: Option<&Catalogue>| description(&tool(provider, catalogue));
    assert!(text(&provider, Some(&weather(false))).contains("forecasts, alarms, Föhn"));
    assert!(text(&provider, None).contains("has to be connected first"));
    provider.about = Some("ö".repeat(400));
    provider.title = "ä".repeat(4_000);
    provider.facade.names = NamesShown::Groups;
    let many =
        catalogue((0..2_000).map(|n| json!({ "name": format!("get_{}_{n}", "subject".repeat(n % 9)) })));
    for catalogue in [None, Some(&weather(false)), Some(&many)] {
        let text = text(&provider, catalogue);
        let groups: usize = text
            .lines()
            .filter(|line| line.starts_with("Operations by subject:"))
            .map(|line| line.len() + 1)
            .sum();
        assert!(
            text.len() <= MAX_DESCRIPTION && groups <= MAX_GROUPS,
            "{} {groups}",
            text.len()
        );
        assert!(
            text.len() - groups - MAX_ABOUT <= MAX_OWN,
            "{}: {text}",
            text.len()
        );
    }
}

#[test]
fn the_calls_there_are_stand_as_literal_json_with_an_operation_that_only_reads() {
    let alarms = catalogue([
        json!({ "name": "delete_alarm" }),
        json!({ "name": "list_alarms", "annotations": { "readOnlyHint": true } }),
    ]);
    let text = description(&tool(&provider("weather"), Some(&alarms)));
    for shape in [
        r#"{"tool":"list_alarms","arguments":{…}}"#,
        r#"{"prompt":"goal"}"#,
        r#"{"tool":"list_alarms"}"#,
    ] {
        assert!(text.contains(shape), "{shape}: {text}");
    }
}

#[test]
fn without_a_catalogue_no_operation_is_named() {
    let tool = shown(&tool(&provider("weather"), None));
    assert!(tool["inputSchema"]["properties"]["tool"].get("enum").is_none());
}

fn many(count: usize) -> Catalogue {
    catalogue((0..count).map(|n| json!({ "name": format!("get_thing{}_{n}", n % 7), "inputSchema": {} })))
}

fn names_of(tool: &RawObject) -> Option<Vec<String>> {
    let names = &shown(tool)["inputSchema"]["properties"]["tool"]["enum"];
    let name = |name: &Value| name.as_str().expect("a name").to_owned();
    names.as_array().map(|names| names.iter().map(name).collect())
}

#[test]
fn names_are_an_enum_while_the_definition_is_small_and_groups_beyond() {
    let one = provider("weather");
    let (few, lots) = (tool(&one, Some(&many(40))), tool(&one, Some(&many(800))));
    assert_eq!(names_of(&few).map(|names| names.len()), Some(40));
    assert!(!description(&few).contains("by subject"));
    assert_eq!(names_of(&lots), None, "an enum is whole or absent");
    let groups = "Operations by subject: thing0(115) thing1(115) thing2(114)";
    assert!(description(&lots).contains(groups), "{}", description(&lots));
    assert!(tokens_of(&lots) <= NAMES_BUDGET);
}

#[test]
fn the_descriptor_says_where_names_stand() {
    let mut one = provider("weather");
    let shows = |one: &Provider, count: usize| {
        let tool = tool(one, Some(&many(count)));
        (
            names_of(&tool).is_some(),
            description(&tool).contains("by subject"),
        )
    };
    one.facade.names = NamesShown::Values;
    assert_eq!(shows(&one, 800), (true, false));
    assert_eq!(
        shows(&one, MAX_NAMES + 1),
        (false, true),
        "no maker of models takes more"
    );
    one.facade.names = NamesShown::Groups;
    assert_eq!(shows(&one, 2), (false, true));
    one.facade.names = NamesShown::Off;
    assert_eq!(shows(&one, 2), (false, false));
    let text = description(&tool(&one, Some(&many(2))));
    assert!(!text.contains("thing0"), "{text}");
}

#[test]
fn a_provider_that_is_split_has_a_tool_for_reads_and_one_for_writes() {
    let (mut one, both) = (provider("weather"), weather(false));
    one.title = "Weather".to_owned();
    let split = |catalogue: Option<&Catalogue>| -> Vec<(Value, Option<Vec<String>>, Value)> {
        let tools = tools(&one, catalogue, true).into_iter();
        tools
            .map(|definition| {
                let tool = shown(&definition.tool);
                let reads = tool["annotations"]["readOnlyHint"].clone();
                (tool["name"].clone(), names_of(&definition.tool), reads)
            })
            .collect()
    };
    let name = |name: &str| Some(vec![name.to_owned()]);
    assert_eq!(
        split(Some(&both)),
        [
            (json!("use_weather"), name("get_forecast"), json!(true)),
            (json!("use_weather_write"), name("set_alarm"), json!(false)),
        ]
    );
    assert_eq!(split(Some(&weather(true))).len(), 1, "nothing writes");
    for unknown in [None, Some(&Catalogue::default())] {
        assert_eq!(split(unknown), [(json!("use_weather"), None, json!(false))]);
    }
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

/// Orders of a list, as an upstream may change them from answer to answer.
#[test]
fn the_provider_s_own_order_changes_no_byte() {
    let names: Vec<String> = (0..60)
        .map(|n| format!("acme_{}_thing{}", ["get", "set", "list"][n % 3], n % 23))
        .collect();
    let listed = |order: &[usize]| {
        let entry = |at: &usize| json!({ "name": format!("{}_{at}", names[*at]), "inputSchema": {} });
        catalogue(order.iter().map(entry).collect::<Vec<_>>())
    };
    let mut one = provider("acme");
    for shown_by in [NamesShown::BySize, NamesShown::Groups, NamesShown::Off] {
        one.facade.names = shown_by;
        let bytes = |order: &[usize]| {
            let catalogue = listed(order);
            let all = tools(&one, Some(&catalogue), true).into_iter();
            let single = single("all", &[of_single(&one, Some(&catalogue))]);
            all.chain(single)
                .map(|it| it.tool.close().get().to_owned())
                .collect::<Vec<_>>()
        };
        let mut order: Vec<usize> = (0..names.len()).collect();
        let first = bytes(&order);
        for step in [1_usize, 7, 11, 13, 29, 59] {
            order.rotate_left(step % names.len());
            order.sort_by_key(|at| (at * step) % 61);
            assert_eq!(bytes(&order), first, "{shown_by:?} {step}");
        }
    }
}

#[test]
fn the_single_tool_asks_for_the_provider_before_the_operation() {
    let (one, other) = (provider("weather"), provider("mail"));
    let reads = weather(true);
    let tools = single(
        "pleiades",
        &[of_single(&one, Some(&reads)), of_single(&other, None)],
    );
    assert_eq!(tools.len(), 1);
    let tool = shown(&tools[0].tool);
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

#[test]
fn the_single_tool_has_one_beside_it_for_the_writes_of_those_that_are_split() {
    let (mut one, other) = (provider("weather"), provider("mail"));
    one.facade.is_split = true;
    let (both, reads) = (weather(false), weather(true));
    let shown_for = |other: SingleProvider<'_>| -> Vec<(Value, Value, Value)> {
        let tools = single("all", &[of_single(&one, Some(&both)), other]).into_iter();
        tools
            .map(|definition| {
                let tool = shown(&definition.tool);
                let providers = tool["inputSchema"]["properties"]["provider"]["enum"].clone();
                (
                    tool["name"].clone(),
                    providers,
                    tool["annotations"]["readOnlyHint"].clone(),
                )
            })
            .collect()
    };
    let of_all = |reads: bool| (json!("use_all"), json!(["weather", "mail"]), json!(reads));
    let of_writes = (json!("use_all_write"), json!(["weather"]), json!(false));
    assert_eq!(
        shown_for(of_single(&other, Some(&reads))),
        [of_all(true), of_writes.clone()]
    );
    assert_eq!(
        shown_for(of_single(&other, Some(&both))),
        [of_all(false), of_writes]
    );
}

#[test]
fn the_single_tool_s_description_stays_small_whoever_is_there() {
    for count in [1, 15, 400] {
        let providers: Vec<Provider> = (0..count)
            .map(|n| {
                let mut provider = provider(&format!("provider-{n}"));
                provider.about = Some("ö".repeat(150));
                provider
            })
            .collect();
        let parts: Vec<SingleProvider<'_>> = providers.iter().map(|it| of_single(it, None)).collect();
        let text = description(&single("all", &parts)[0].tool);
        assert!(text.len() <= MAX_DESCRIPTION, "{}", text.len());
    }
}
