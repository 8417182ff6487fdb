//! The meta tool: what runs is what the call says, in its only reading.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use pleiades_gateway::catalog::{Catalogue, Effort, OfflineProvider, Provider, Tool};
use pleiades_gateway::facade::plan::{self, MetaPlan};
use pleiades_mcp::{RawObject, Revision, raw};
use serde_json::{Map, Value};

use super::{json, number, repository};

static PROVIDERS: LazyLock<Vec<(Provider, Catalogue)>> = LazyLock::new(providers);
/// Arguments larger than this are left to the provider to judge.
const MAX_CHECKED: usize = 256 * 1024;

pub fn holds(data: &[u8]) {
    let mut rest = data;
    let (provider, catalogue) = &PROVIDERS[number(&mut rest) % PROVIDERS.len()];
    let Some(call) = std::str::from_utf8(rest)
        .ok()
        .and_then(|text| serde_json::from_str::<RawObject>(text).ok())
    else {
        return;
    };
    match plan::plan(provider, catalogue, &call) {
        MetaPlan::Answer(answer) => {
            assert!(!answer.text.trim().is_empty(), "an answer says something");
            let result = answer.into_result(Revision::NEWEST_LEGACY, "id");
            let result: Value = serde_json::from_str(result.get()).expect("JSON");
            let answer = &result["structuredContent"];
            let is_dry = answer["data"]["dry_run"] == true;
            assert!(answer["status"] != "ok" || is_dry, "something ran: {answer}");
        }
        MetaPlan::Run { tool, arguments, .. } => ran(catalogue, rest, &tool, arguments.get()),
        MetaPlan::Read(_) => {}
        MetaPlan::Calls(planned) => {
            let ids: BTreeSet<&str> = planned.calls.iter().map(|call| &*call.id).collect();
            assert!(
                !ids.is_empty() && ids.len() == planned.calls.len(),
                "each call has an id of its own"
            );
            for (at, call) in planned.calls.iter().enumerate() {
                assert!(
                    call.needs.iter().all(|needed| *needed < at),
                    "only what stands before it is needed"
                );
                assert!(catalogue.tool(&call.tool.name).is_some(), "of this catalogue");
            }
        }
    }
}

fn ran(catalogue: &Catalogue, call: &[u8], tool: &Tool, arguments: &str) {
    let text = std::str::from_utf8(call).expect("text");
    assert!(!json::has_doubles(text), "a name occurs twice");
    assert!(catalogue.tool(&tool.name).is_some(), "of this catalogue");
    let Ok(arguments) = serde_json::from_str::<Value>(arguments) else {
        // Numbers no double holds, texts that are no Unicode: the provider judges them.
        assert!(text.contains(arguments), "passed as it came");
        return;
    };
    if let Some(checks) = tool.checks().filter(|_| text.len() <= MAX_CHECKED) {
        // Where a check is given up the provider judges.
        let fits = checks.fits(&arguments, Effort::AMPLE);
        assert_ne!(fits, Some(false), "not what the schema wants: {arguments}");
    }
    let Ok(Value::Object(call)) = serde_json::from_str::<Value>(text) else {
        return;
    };
    single(catalogue, &call, tool, &arguments);
    let mut words = BTreeSet::new();
    saying(&Value::Object(call), 6, &mut words);
    assert_all_given(&arguments, &words);
}

/// A plain call runs what it names, with nothing said in two ways.
fn single(catalogue: &Catalogue, call: &Map<String, Value>, tool: &Tool, run: &Value) {
    let (Some(named), Some(Value::Object(inner))) =
        (call.get("tool").and_then(Value::as_str), call.get("arguments"))
    else {
        return;
    };
    if inner.contains_key("arguments") || catalogue.tool(named).is_none() {
        return;
    }
    assert_eq!(*tool.name, *named, "another operation than the one named");
    for (name, value) in call
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "tool" | "arguments"))
    {
        let own = ["prompt", "accountId", "options"].contains(&name.as_str());
        let is_ambiguous = !own && inner.get(name).is_some_and(|other| other != value);
        assert!(!is_ambiguous, "`{name}` was said in two ways and ran as {run}");
    }
}

/// A text without a code fence or a byte order mark around it.
fn bare(text: &str) -> &str {
    let text = text.trim().trim_start_matches('\u{feff}').trim();
    match text.starts_with("```") {
        true => text.trim_matches('`').trim_start_matches("json").trim(),
        false => text,
    }
}

/// Every name and plain value of a call, texts that are JSON looked into.
fn saying(value: &Value, depth: usize, words: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                words.insert(name.clone());
                saying(value, depth, words);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| saying(item, depth, words)),
        Value::String(text) => {
            words.insert(text.clone());
            words.insert(text.to_lowercase());
            if let Some(inner) = serde_json::from_str(&raw::repair_surrogates(bare(text)))
                .ok()
                .filter(|_| depth > 0)
            {
                saying(&inner, depth - 1, words);
            }
        }
        plain => {
            words.insert(plain.to_string());
        }
    }
}

fn assert_all_given(value: &Value, words: &BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                assert!(words.contains(name), "`{name}` was not said");
                assert_all_given(value, words);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| assert_all_given(item, words)),
        Value::String(text) => assert!(words.contains(text), "{text:?} was not said"),
        plain => assert!(words.contains(&plain.to_string()), "{plain} was not said"),
    }
}

fn rows(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(repository(file)).expect("the data");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

/// One provider per server of the recorded tools, by name.
fn providers() -> Vec<(Provider, Catalogue)> {
    let mut servers: BTreeMap<String, Vec<Arc<Tool>>> = BTreeMap::new();
    for row in rows("tests/data/meta_tools.jsonl") {
        let entry = RawObject::open(&raw::raw(&row)).expect("an object");
        let name = entry.text("name").expect("a name").into_owned();
        let tool = Tool::new(&name, name.clone(), entry);
        servers
            .entry(row["server"].as_str().expect("a server").to_owned())
            .or_default()
            .push(Arc::new(tool));
    }
    servers
        .into_iter()
        .map(|(id, tools)| (OfflineProvider::bare(&id), Catalogue::of(tools)))
        .collect()
}

pub fn seeds() -> Vec<Vec<u8>> {
    let place = |server: &str| PROVIDERS.iter().position(|(provider, _)| &*provider.id == server);
    let text = std::fs::read_to_string(repository("tests/data/meta_calls.jsonl")).expect("the data");
    text.lines()
        .filter_map(|line| {
            // Kept as text: some hold numbers that no value does.
            let row: RawObject = serde_json::from_str(line).expect("JSON");
            let at = u8::try_from(place(&row.text("server")?)?).ok()?;
            Some([&[at], row.get("input")?.get().as_bytes()].concat())
        })
        .collect()
}
