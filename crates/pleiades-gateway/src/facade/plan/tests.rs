use serde_json::json;

use std::collections::BTreeMap;

use serde::Deserialize;

use pleiades_core::telemetry::names;

use super::*;
use crate::facade::meta_tool;
use crate::facade::tests::{catalogue, provider};

fn weather() -> Catalogue {
    catalogue([
        json!({ "name": "get_forecast", "description": "Says the weather of tomorrow. And more.",
            "inputSchema": { "type": "object", "properties": {
                "city": { "type": "string" }, "days": { "type": "integer", "maximum": 7 } }, "required": ["city"] } }),
        json!({ "name": "set_alarm", "inputSchema": { "type": "object", "properties": { "on": { "type": "boolean" } } } }),
    ])
}

fn planned(catalogue: &Catalogue, call: Value) -> MetaPlan {
    plan(
        &provider("weather"),
        catalogue,
        &RawObject::open(&raw::raw(&call)).expect("an object"),
    )
}

fn ran(call: Value) -> (String, Value, Vec<String>) {
    match planned(&weather(), call) {
        MetaPlan::Run {
            tool,
            arguments,
            notes,
            ..
        } => (
            tool.name.to_string(),
            serde_json::from_str(arguments.get()).expect("JSON"),
            notes,
        ),
        other => panic!("not run: {other:?}"),
    }
}

fn answered(call: Value) -> MetaAnswer {
    match planned(&weather(), call) {
        MetaPlan::Answer(answer) => answer,
        other => panic!("not answered: {other:?}"),
    }
}

#[test]
fn an_operation_is_called_with_its_provider_s_prefix_or_without_and_shown_without() {
    let slack = catalogue([
        json!({ "name": "slack_list", "inputSchema": { "type": "object" } }),
        json!({ "name": "slack_post", "inputSchema": { "type": "object" } }),
    ]);
    for name in ["slack_list", "list"] {
        let call = json!({ "tool": name, "arguments": {} });
        let MetaPlan::Run { tool, notes, .. } = planned(&slack, call) else {
            panic!("{name} was not run");
        };
        assert_eq!(
            (&*tool.upstream, notes.as_slice()),
            ("slack_list", &[][..]),
            "{name}"
        );
    }
    let MetaPlan::Answer(answer) = planned(&slack, json!({ "tool": "slack_list" })) else {
        panic!("not answered");
    };
    assert!(answer.text.contains(" list()"), "{}", answer.text);
}

#[derive(Deserialize)]
struct CallCase {
    id: String,
    tool_called: String,
    /// As it stands in the file: with names that are given twice, and every digit.
    input: Box<RawValue>,
    expect: ExpectedOutcome,
    why: String,
}

#[derive(Deserialize)]
struct ExpectedOutcome {
    outcome: String,
    upstream: Option<ExpectedCall>,
    #[serde(default)]
    must_mention: Vec<String>,
}

#[derive(Deserialize)]
struct ExpectedCall {
    name: String,
    arguments: Box<RawValue>,
}

impl ExpectedCall {
    fn is(&self, tool: &Tool, arguments: &RawValue) -> bool {
        let value = |raw: &RawValue| serde_json::from_str::<Value>(raw.get()).expect("JSON");
        // Values hold 17 digits.
        let texts = self.arguments.get().split(|char: char| !char.is_ascii_digit());
        let mut long = texts.filter(|digits| digits.len() > 17);
        *tool.upstream == *self.name
            && value(arguments) == value(&self.arguments)
            && long.all(|digits| arguments.get().contains(digits))
    }
}

fn catalogues() -> BTreeMap<String, Catalogue> {
    let mut tools: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in include_str!("../../../../../tests/data/meta_tools.jsonl").lines() {
        let tool: Value = serde_json::from_str(line).expect("JSON");
        tools
            .entry(tool["server"].as_str().expect("a server").to_owned())
            .or_default()
            .push(tool);
    }
    tools
        .into_iter()
        .map(|(server, tools)| (server, catalogue(tools)))
        .collect()
}

/// What is wrong with the outcome of a row.
fn fault(row: &CallCase, plan: MetaPlan) -> Option<String> {
    match (plan, &row.expect.upstream) {
        (MetaPlan::Run { tool, arguments, .. }, Some(upstream)) => {
            (!upstream.is(&tool, &arguments)).then(|| format!("ran {} {arguments}", tool.name))
        }
        (MetaPlan::Run { tool, arguments, .. }, None) => Some(format!("ran {} {arguments}", tool.name)),
        (MetaPlan::Calls(calls), _) => Some(format!("planned {calls:?}")),
        (MetaPlan::Read(read), _) => Some(format!("read {read:?}")),
        (MetaPlan::Answer(answer), _) if answer.status.as_str() != row.expect.outcome => {
            Some(format!("{}: {}", answer.status.as_str(), answer.text))
        }
        (MetaPlan::Answer(answer), _) => {
            let silent = row
                .expect
                .must_mention
                .iter()
                .find(|word| !answer.text.contains(word.as_str()))?;
            Some(format!("does not mention {silent}: {}", answer.text))
        }
    }
}

#[test]
fn calls_as_they_arrive_in_practice_become_what_they_should() {
    let catalogues = catalogues();
    let providers: Vec<(Provider, &Catalogue)> = catalogues
        .iter()
        .map(|(server, catalogue)| (provider(server), catalogue))
        .collect();
    let providers: Vec<(&Provider, &Catalogue)> = providers.iter().map(|(it, lists)| (it, *lists)).collect();
    let mut faults = Vec::new();
    let mut rows = 0;
    for line in include_str!("../../../../../tests/data/meta_calls.jsonl").lines() {
        rows += 1;
        let row: CallCase = serde_json::from_str(line).expect("a row");
        let plan = meta_tool::plan_offline(&row.tool_called, Some(&row.input), &providers);
        if let Some(fault) = fault(&row, plan) {
            faults.push(format!(
                "{} ({}): {}",
                row.id,
                row.why,
                fault.chars().take(600).collect::<String>()
            ));
        }
    }
    assert_eq!(rows, 330, "every row is read");
    assert!(faults.is_empty(), "{} rows:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn a_well_formed_call_passes_byte_for_byte_without_notes() {
    let call = RawObject::open(
        &serde_json::value::RawValue::from_string(
            r#"{"tool":"get_forecast","arguments":{ "city" : "Z\u00fcrich","days":2 }}"#.to_owned(),
        )
        .expect("JSON"),
    )
    .expect("an object");
    let MetaPlan::Run { arguments, notes, .. } = plan(&provider("weather"), &weather(), &call) else {
        panic!("not run")
    };
    assert_eq!(
        (arguments.get(), notes.len()),
        (r#"{ "city" : "Z\u00fcrich","days":2 }"#, 0)
    );
}

#[test]
fn every_repair_is_noted() {
    let (name, arguments, notes) =
        ran(json!({ "tool": "getForecast", "city": "Bern", "arguments": "{\"days\":\"3\"}" }));
    assert_eq!(
        (name.as_str(), arguments),
        ("get_forecast", json!({ "days": 3, "city": "Bern" }))
    );
    assert_eq!(notes.len(), 4, "{notes:?}");
}

#[test]
fn each_repair_is_of_a_kind_that_the_metric_names() {
    let city = json!({ "city": "Bern" });
    for (call, kinds) in [
        (
            json!({ "tool": "get_forecast", "arguments": city.to_string() }),
            vec!["arguments_as_text"],
        ),
        (
            json!({ "tool": "get_forecast", "city": "Bern" }),
            vec!["arguments_hoisted"],
        ),
        (
            json!({ "tool": "get_forecast", "arguments": { "city": "Bern", "tool": "get_forecast" } }),
            vec!["envelope"],
        ),
        (
            json!({ "tool_name": "get_forecast", "args": city }),
            vec!["key_alias"],
        ),
        (
            json!({ "arguments": { "tool": "get_forecast", "arguments": city } }),
            vec!["nested"],
        ),
        (
            json!({ "tool": "get_forecast", "arguments": { "city": "Bern", "days": "3" } }),
            vec!["number_as_text"],
        ),
        (
            json!({ "tool": "weather.getForecast", "arguments": city }),
            vec!["tool_prefix"],
        ),
        (
            json!({ "tool": "get_forecast", "arguments": [city] }),
            vec!["unwrapped"],
        ),
        (
            json!({ "tool": "set_alarm", "arguments": { "on": "true" } }),
            vec!["boolean_as_text"],
        ),
        (json!({ "tool": "get_forecast", "arguments": city }), vec![]),
    ] {
        let MetaPlan::Run { repairs, .. } = planned(&weather(), call.clone()) else {
            panic!("not run: {call}")
        };
        let found: Vec<&str> = repairs.iter().map(|repair| repair.as_str()).collect();
        assert_eq!(found, kinds, "{call}");
        assert!(found.iter().all(|kind| names::REPAIRS.contains(kind)));
    }
}

#[test]
fn an_operation_alone_answers_with_its_schema_and_an_example() {
    let answer = answered(json!({ "tool": "get_forecast" }));
    assert_eq!(answer.status, AnswerStatus::Schema);
    let data: Value = serde_json::from_str(answer.data.expect("data").get()).expect("JSON");
    assert_eq!(data["inputSchema"]["required"], json!(["city"]));
    let next: Value = serde_json::from_str(answer.next.expect("next").get()).expect("JSON");
    assert_eq!(
        next,
        json!({ "tool": "get_forecast", "arguments": { "city": "…" } })
    );
}

#[test]
fn a_goal_and_an_empty_call_get_the_menu_and_run_nothing() {
    for call in [
        json!({}),
        json!({ "prompt": "what now" }),
        json!({ "tool": "use_weather" }),
        json!({ "owner": "x" }),
    ] {
        let answer = answered(call);
        assert_eq!(answer.status, AnswerStatus::Menu);
        assert!(
            answer
                .text
                .contains("get_forecast(city: string, days?: integer) — Says the weather of tomorrow.")
        );
    }
}

#[test]
fn an_unknown_operation_is_answered_with_the_nearest_and_never_run() {
    let answer = answered(json!({ "tool": "get_forcast", "arguments": { "city": "Bern" } }));
    assert_eq!(answer.status, AnswerStatus::UnknownTool);
    assert!(
        answer.text.contains("get_forecast(city: string"),
        "{}",
        answer.text
    );
    for part in ["forecast", "get", "alarm"] {
        assert_eq!(
            answered(json!({ "tool": part, "arguments": {} })).status,
            AnswerStatus::UnknownTool,
            "{part}"
        );
    }
}

#[test]
fn the_log_names_operation_and_arguments_and_none_of_their_values() {
    let call = json!({ "tool": "get_forecast", "arguments": { "days": "a secret", "town\u{1b}": "Bern" } });
    let answer = answered(call);
    assert_eq!(answer.tool.as_deref(), Some("get_forecast"));
    let cause = answer.cause.unwrap();
    for part in [
        "arguments.city: missing",
        "arguments.days: does not fit, expected integer",
        "no such parameter",
    ] {
        assert!(cause.contains(part), "{part}: {cause}");
    }
    for hidden in ["secret", "Bern", "\u{1b}"] {
        assert!(!cause.contains(hidden), "{cause}");
    }
    let unknown = answered(json!({ "tool": "get_forcast", "arguments": {} }));
    assert_eq!(unknown.tool.as_deref(), Some("other"));
    let unread = answered(json!({ "tool": "get_forecast", "arguments": "{ a secret" }));
    assert!(!unread.cause.unwrap().contains("secret"));
}

#[test]
fn wrong_arguments_are_listed_by_location() {
    let answer = answered(json!({ "tool": "get_forecast", "arguments": { "days": 9, "town": "Bern" } }));
    assert_eq!(answer.status, AnswerStatus::InvalidArguments);
    for part in [
        "Nothing was run",
        "arguments.city: missing, expected string",
        "arguments.days: got 9",
        "arguments.town: no such parameter",
    ] {
        assert!(answer.text.contains(part), "{part}: {}", answer.text);
    }
}

#[test]
fn a_huge_wrong_value_is_not_repeated() {
    let answer = answered(
        json!({ "tool": "get_forecast", "arguments": { "city": [ "x".repeat(100_000) ], "days": "y".repeat(100_000) } }),
    );
    assert!(answer.text.len() < 2_000, "{}", answer.text.len());
}

#[test]
fn a_schema_that_cannot_be_compiled_leaves_the_judgement_to_the_provider() {
    let odd =
        catalogue([json!({ "name": "odd", "inputSchema": { "$ref": "https://example.com/schema.json" } })]);
    assert!(matches!(
        planned(&odd, json!({ "tool": "odd", "arguments": { "a": 1 } })),
        MetaPlan::Run { .. }
    ));
}

#[test]
fn options_ride_with_the_call_and_a_result_is_read_without_one() {
    let call = json!({ "tool": "get_forecast", "arguments": { "city": "x" }, "options": { "fresh": true } });
    let MetaPlan::Run { options, notes, .. } = planned(&weather(), call) else {
        panic!("not run");
    };
    assert!(options.fresh && !options.full && notes.is_empty());
    for call in [
        json!({ "options": { "result": "r_x", "page": 2 } }),
        json!({ "options": "{\"result\":\"r_x\",\"page\":\"2\"}" }),
        json!({ "result": "r_x", "page": 2 }),
        json!({ "tool": "", "arguments": {}, "prompt": "more", "options": { "result": "r_x", "page": 2 } }),
        json!({ "tool": "use_weather", "arguments": { "options": { "result": "r_x", "page": 2 }, "prompt": "p" } }),
    ] {
        match planned(&weather(), call.clone()) {
            MetaPlan::Read(read) => {
                assert_eq!(
                    (&*read.id, read.page.map(std::num::NonZeroU32::get)),
                    ("r_x", Some(2)),
                    "{call}"
                );
            }
            other => panic!("{call}: {other:?}"),
        }
    }
}

#[test]
fn a_call_whose_options_do_not_fit_runs_nothing() {
    for (options, mention) in [
        (json!({ "fesh": true }), "did you mean `fresh`"),
        (
            json!({ "page": 2 }),
            "options.page is a page of an earlier result",
        ),
        (
            json!({ "result": "r_x" }),
            "options.result reads an earlier result and runs nothing",
        ),
        (json!({ "calls": [{}] }), "options.calls is the whole call"),
        (json!("nonsense"), "options: expected a JSON object"),
        (json!({ "conversation": "c_x" }), "options.conversation continues"),
    ] {
        let arguments = json!({ "city": "x" });
        let answer = answered(json!({ "tool": "get_forecast", "arguments": arguments, "options": options }));
        assert_eq!(answer.status, AnswerStatus::InvalidArguments, "{options}");
        assert!(
            answer.text.starts_with("Nothing was run") && answer.text.contains(mention),
            "{}",
            answer.text
        );
        assert!(answer.cause.is_some(), "{options}");
    }
    let doubled = r#"{"tool":"get_forecast","arguments":{"city":"x"},"options":{"full":true,"full":false}}"#;
    let MetaPlan::Answer(answer) = plan(
        &provider("weather"),
        &weather(),
        &serde_json::from_str(doubled).unwrap(),
    ) else {
        panic!("run");
    };
    assert!(answer.text.contains("given twice"), "{}", answer.text);
}

#[test]
fn a_dry_run_written_beside_the_call_never_becomes_an_argument() {
    let answer = answered(json!({ "tool": "set_alarm", "arguments": { "on": "true" }, "dryRun": true }));
    let data: Value = serde_json::from_str(answer.data.expect("data").get()).expect("JSON");
    assert_eq!(data["calls"][0]["arguments"], json!({ "on": true }));
    let answer = answered(json!({ "tool": "set_alarm", "arguments": { "on": true }, "dry_run": true }));
    assert!(answer.text.contains("did you mean `dryRun`"), "{}", answer.text);
}

#[test]
fn an_account_that_was_not_found_in_its_wrapping_is_not_another_one() {
    let inner = json!({ "tool": "set_alarm", "arguments": {}, "accountId": "work" });
    for call in [
        json!({ "tool": "use_weather", "arguments": inner }),
        json!({ "tool_call": inner }),
        json!({ "arguments": inner }),
        inner.clone(),
    ] {
        let given = RawObject::open(&raw::raw(&call)).expect("an object");
        let account = account_of(&given).expect("read");
        match planned(&weather(), call.clone()) {
            MetaPlan::Run { .. } => assert_eq!(account.as_deref(), Some("work"), "{call}"),
            MetaPlan::Answer(answer) => {
                assert!(
                    account.is_none() && answer.text.contains("`accountId`"),
                    "{call}: {}",
                    answer.text
                );
            }
            other => panic!("{call}: {other:?}"),
        }
    }
}

#[test]
fn numbers_of_a_plan_keep_their_digits_or_it_does_not_run() {
    let lists = catalogue([
        json!({ "name": "list", "annotations": { "readOnlyHint": true }, "inputSchema": { "type": "object" } }),
        json!({ "name": "set", "inputSchema": { "type": "object" } }),
    ]);
    let given = |beside: &str| {
        let call = format!(
            r#"{{"options":{{"calls":[{{"id":"a","tool":"list","arguments":{{}}}},
            {{"id":"b","tool":"set","arguments":{{"n":123456789012345678901234,"m":1.50{beside}}}}}]}}}}"#
        );
        let given: RawObject = serde_json::from_str(&call).expect("an object");
        plan(&provider("weather"), &lists, &given)
    };
    let MetaPlan::Calls(planned) = given("") else {
        panic!("no plan");
    };
    let ready = planned.calls[1].ready(&|_| None).expect("arguments");
    assert!(
        ready.arguments.get().contains("123456789012345678901234"),
        "{ready:?}"
    );
    let MetaPlan::Answer(answer) = given(r#","o":{"$from":"a"}"#) else {
        panic!("another number would be sent");
    };
    assert!(
        answer.text.contains("`b`") && answer.text.contains("digits"),
        "{}",
        answer.text
    );
}
