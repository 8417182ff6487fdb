//! Whatever is done to a valid call: it runs with exactly its arguments, or it is answered.
//!
//! Schemas, arguments and malformations are made from a counter, so that a failure is the same one each time.

use serde_json::{Map, Value, json};

use super::*;
use crate::facade::tests::{catalogue, provider};

/// Numbers that follow from one another (splitmix64): which ones does not matter, that they repeat does.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % (below as u64)).expect("small")
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.next(all.len())]
    }
}

/// Names of parameters, those among them that envelopes use too.
const NAMES: [&str; 16] = [
    "owner",
    "name",
    "input",
    "args",
    "type",
    "id",
    "action",
    "method",
    "provider",
    "tool_name",
    "labels",
    "options",
    "query",
    "content",
    "params",
    "count",
];

/// A schema of a value, and a value that fits it.
fn value(numbers: &mut Numbers, depth: usize) -> (Value, Value) {
    let texts = [
        "x",
        "5",
        "true",
        "[1]",
        "{\"a\":1}",
        "a, b",
        "null",
        "issue_read",
        "use_work",
        "é👩‍👧 ",
        "",
    ];
    match numbers.next(if depth < 2 { 9 } else { 6 }) {
        0 | 1 => (json!({ "type": "string" }), json!(numbers.of(&texts))),
        2 => (
            json!({ "type": "integer" }),
            json!(*numbers.of(&[0_i64, 5, -7, 9_007_199_254_740_993])),
        ),
        3 => (json!({ "type": "boolean" }), json!(numbers.next(2) == 0)),
        4 => (json!({ "type": ["string", "integer"] }), json!("5")),
        5 => (
            json!({ "type": "number" }),
            json!(*numbers.of(&[0.5, -2.25, 1e21, 3.0])),
        ),
        6 => {
            let (schema, item) = value(numbers, depth + 1);
            (json!({ "type": "array", "items": schema }), json!([item]))
        }
        7 => {
            let (schema, member) = value(numbers, depth + 1);
            let name = *numbers.of(&NAMES);
            (
                json!({ "type": "object", "properties": { name: schema } }),
                json!({ name: member }),
            )
        }
        _ => {
            let ((one, item), (other, _)) = (value(numbers, depth + 1), value(numbers, depth + 1));
            (json!({ "anyOf": [one, other] }), item)
        }
    }
}

/// An operation and arguments that fit it.
fn operation(numbers: &mut Numbers) -> (Value, Map<String, Value>) {
    let (mut properties, mut arguments, mut required) = (Map::new(), Map::new(), Vec::new());
    for _ in 0..=numbers.next(4) {
        let name = *numbers.of(&NAMES);
        let (schema, value) = value(numbers, 0);
        properties.insert(name.to_owned(), schema);
        arguments.insert(name.to_owned(), value);
        if numbers.next(2) == 0 && !required.contains(&name) {
            required.push(name);
        }
    }
    let read = numbers.next(2) == 0;
    let tool = json!({ "name": "issue_read", "annotations": { "readOnlyHint": read },
        "inputSchema": { "type": "object", "properties": properties, "required": required } });
    (tool, arguments)
}

/// Values as text, numbers as text, single elements: what hosts do within arguments.
fn softened(numbers: &mut Numbers, value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let softened = members
                .iter()
                .map(|(name, value)| (name.clone(), softened(numbers, value)));
            let softened = Value::Object(softened.collect());
            match numbers.next(4) {
                0 => softened.to_string().into(),
                _ => softened,
            }
        }
        Value::Array(items) => match (items.as_slice(), numbers.next(4)) {
            ([only], 0) => only.clone(),
            (_, 1) => value.to_string().into(),
            (items, _) => items.iter().map(|item| softened(numbers, item)).collect(),
        },
        Value::String(_) | Value::Null => value.clone(),
        plain => match numbers.next(2) {
            0 => plain.to_string().into(),
            _ => plain.clone(),
        },
    }
}

/// A call of these arguments as some host may send it, and the arguments as they stand in it.
fn malformed(numbers: &mut Numbers, arguments: &Map<String, Value>) -> (Value, Value) {
    let inner = match numbers.next(3) {
        0 => softened(numbers, &Value::Object(arguments.clone())),
        _ => Value::Object(arguments.clone()),
    };
    let as_text = |value: &Value| Value::String(value.to_string());
    let name = *numbers.of(&[
        "issue_read",
        "issueRead",
        "work.issue_read",
        "mcp__gw__issue_read",
        "use_work.issue_read",
        "ISSUE-READ",
    ]);
    let mut call = match numbers.next(12) {
        0 => json!({ "tool": name, "arguments": as_text(&inner) }),
        1 => json!({ "tool": name, "arguments": as_text(&as_text(&inner)) }),
        2 => json!({ "tool": name, "arguments": [inner] }),
        3 => json!({ "tool": name, "arguments": { "arguments": inner } }),
        4 => json!({ "tool": name, "arguments": { "tool": name, "args": inner } }),
        5 => json!({ "tool_name": name, "parameters": inner }),
        6 => json!({ "type": "function", "function": { "name": name, "arguments": as_text(&inner) } }),
        7 => json!({ "tool": "use_work", "arguments": { "tool": name, "arguments": inner } }),
        8 => json!({ "method": "tools/call", "params": { "name": name, "arguments": inner } }),
        9 => json!({ "tool": name, "arguments": format!("```json\n{inner}\n```") }),
        10 => return (hoisted(numbers, name, arguments), inner),
        _ => json!({ "tool": name, "arguments": inner }),
    };
    for _ in 0..numbers.next(3) {
        call = match numbers.next(4) {
            0 => json!({ "input": call }),
            1 => json!({ "arguments": as_text(&call) }),
            2 => json!({ "tool": null, "request": call }),
            _ => call,
        };
    }
    (call, inner)
}

/// Whether what was sent is what was meant, or stands in the call as it is: `"5"` for text or number is no
/// malformation.
fn agrees(sent: &Value, meant: &Value, stated: &Value) -> bool {
    let parsed: Option<Value> = stated
        .as_str()
        .and_then(|stated| serde_json::from_str(stated).ok());
    let stated_or_parsed = parsed.as_ref().unwrap_or(stated);
    match (sent, meant, stated_or_parsed) {
        _ if sent == meant || sent == stated => true,
        (Value::Object(sent), Value::Object(meant), Value::Object(stated)) => {
            sent.len() == meant.len()
                && sent.iter().all(|(name, sent)| {
                    let (meant, stated) = (meant.get(name), stated.get(name));
                    meant
                        .zip(stated)
                        .is_some_and(|(meant, stated)| agrees(sent, meant, stated))
                })
        }
        (Value::Array(sent), Value::Array(meant), Value::Array(stated)) => {
            let all = sent.iter().zip(meant).zip(stated);
            sent.len() == meant.len()
                && all
                    .into_iter()
                    .all(|((sent, meant), stated)| agrees(sent, meant, stated))
        }
        (Value::Array(sent), Value::Array(meant), stated) => match (&**sent, &**meant) {
            ([sent], [meant]) => agrees(sent, meant, stated),
            _ => false,
        },
        _ => false,
    }
}

/// Some of the arguments beside `tool`.
fn hoisted(numbers: &mut Numbers, name: &str, arguments: &Map<String, Value>) -> Value {
    let (mut call, mut inside) = (Map::new(), Map::new());
    call.insert("tool".to_owned(), name.into());
    for (name, value) in arguments {
        match numbers.next(3) {
            0 => inside.insert(name.clone(), value.clone()),
            _ => call.insert(name.clone(), value.clone()),
        };
    }
    if !inside.is_empty() || numbers.next(2) == 0 {
        call.insert("arguments".to_owned(), inside.into());
    }
    call.into()
}

#[test]
fn a_malformed_call_runs_with_exactly_its_arguments_or_is_answered() {
    let (mut ran, mut answered) = (0, 0);
    for seed in 0..4_000 {
        let mut numbers = Numbers(seed);
        let (tool, arguments) = operation(&mut numbers);
        let (call, stated) = malformed(&mut numbers, &arguments);
        let catalogue = catalogue([
            tool.clone(),
            json!({ "name": "other", "inputSchema": { "type": "object" } }),
        ]);
        let given = RawObject::open(&raw::raw(&call)).expect("an object");
        match plan(&provider("work"), &catalogue, &given) {
            MetaPlan::Run {
                tool: meant,
                arguments: sent,
                ..
            } => {
                ran += 1;
                let sent: Value = serde_json::from_str(sent.get()).expect("JSON");
                assert_eq!(&*meant.name, "issue_read", "seed {seed}: {call}");
                assert!(
                    agrees(&sent, &Value::Object(arguments), &stated),
                    "seed {seed}: {call}\nof {tool}\nsent {sent}"
                );
            }
            MetaPlan::Answer(answer) => {
                answered += 1;
                assert!(
                    answer.text.starts_with("Nothing was run"),
                    "seed {seed}: {}",
                    answer.text
                );
            }
            other @ (MetaPlan::Read(_) | MetaPlan::Calls(_)) => panic!("seed {seed}: {other:?}"),
        }
    }
    assert!(
        ran > 2_000 && answered > 50,
        "{ran} ran, {answered} were answered"
    );
}

#[test]
fn a_call_cut_at_any_byte_is_never_run_with_less() {
    let tool = json!({ "name": "issue_read", "inputSchema": { "type": "object", "properties": {
        "owner": { "type": "string" }, "labels": { "type": "array", "items": { "type": "string" } } } } });
    let catalogue = catalogue([tool]);
    let whole = json!({ "owner": "octocat", "labels": ["a", "b"] }).to_string();
    for end in 0..whole.len() {
        let call = json!({ "tool": "issue_read", "arguments": whole.get(..end) });
        let given = RawObject::open(&raw::raw(&call)).expect("an object");
        assert!(
            matches!(plan(&provider("work"), &catalogue, &given), MetaPlan::Answer(_)),
            "cut at {end}"
        );
    }
}
