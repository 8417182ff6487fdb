//! JSON-RPC messages: what is taken goes back byte for byte, what is refused is refused as what it
//! is.

use pleiades_core::error::Code;
use pleiades_mcp::raw::repair_surrogates;
use pleiades_mcp::{Message, RawObject, message};
use serde::de::IgnoredAny;
use serde_json::Value;

use super::json;

const OWN: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];

pub fn holds(data: &[u8]) {
    match message::decode(data) {
        Ok(taken) => {
            let sent = std::str::from_utf8(data).expect("UTF-8");
            // Half a character is read as U+FFFD, but in an id, which is echoed as it came.
            let read = repair_surrogates(sent);
            let names = json::members(read.as_bytes()).expect("one object");
            assert!(!json::is_doubled(&names), "a member occurs twice");
            assert!(json::depth(data) <= message::MAX_DEPTH, "nested too deep");
            assert_eq!(
                classified(read.as_bytes()),
                None,
                "a message that is none was taken"
            );
            match &taken {
                Message::Request { id, .. } | Message::Response { id, .. }
                    if repair_surrogates(id.as_str()) != id.as_str() =>
                {
                    assert!(sent.contains(id.as_str()), "the id is not as it came");
                }
                _ => goes_back(&taken, &read),
            }
        }
        Err(error) => {
            let (plain, id) = message::split_id(error);
            if let Some(code) = classified(data) {
                assert_eq!(plain.code, code, "{}", plain.message);
            }
            assert!(matches!(plain.code, Code::Parse | Code::InvalidRequest));
            assert!(!is_sound(data), "refused: {}", plain.message);
            let fault = pleiades_core::error::RpcFault {
                code: -32_600,
                message: plain.message.to_string(),
                data: None,
            };
            let answer = message::error(id.as_ref(), &fault);
            let answer = std::str::from_utf8(&answer).expect("UTF-8");
            let read: Value = serde_json::from_str(&repair_surrogates(answer)).expect("an answer is JSON");
            assert_eq!(read["id"].is_null(), id.is_none());
        }
    }
}

/// How a text that is certainly no message has to be refused; `None` when this does not know.
fn classified(data: &[u8]) -> Option<Code> {
    if std::str::from_utf8(data).is_err() || serde_json::from_slice::<IgnoredAny>(data).is_err() {
        return Some(Code::Parse);
    }
    if json::depth(data) > message::MAX_DEPTH {
        return Some(Code::Parse);
    }
    let value: Value = serde_json::from_slice(data).ok()?;
    let object = value.as_object();
    let version = object.and_then(|object| object.get("jsonrpc"));
    let doubled = json::members(data).is_some_and(|names| json::is_doubled(&names));
    let is_id = |id: &Value| id.is_string() || id.is_number();
    let bad_id = object
        .and_then(|object| object.get("id"))
        .is_some_and(|id| !is_id(id));
    (doubled || bad_id || version != Some(&Value::from("2.0"))).then_some(Code::InvalidRequest)
}

/// Whether a text is certainly a request or a notification.
fn is_sound(data: &[u8]) -> bool {
    if classified(data).is_some() {
        return false;
    }
    let Ok(Value::Object(object)) = serde_json::from_slice::<Value>(data) else {
        return false;
    };
    let others = object.keys().filter(|key| !OWN.contains(&key.as_str())).count();
    let id = object
        .get("id")
        .is_none_or(|id| id.is_string() || id.is_i64() || id.is_u64());
    let params = object.get("params").is_none_or(Value::is_object);
    let alone = !object.contains_key("result") && !object.contains_key("error");
    others < 16 && id && params && alone && object.get("method").is_some_and(Value::is_string)
}

/// Writes a message again by hand and reads it back.
fn goes_back(taken: &Message, text: &str) {
    match taken {
        Message::Request { id, method, params } => {
            assert!(text.contains(id.as_str()), "the id is not as it came");
            let method = serde_json::to_string(method).expect("text");
            let params = params.as_ref().map_or("{}", |params| params.get());
            assert!(
                params == "{}" || text.contains(params),
                "the parameters are not as they came"
            );
            let again =
                format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":{method},\"params\":{params}}}");
            let Ok(Message::Request {
                id: other,
                params: Some(others),
                ..
            }) = message::decode(again.as_bytes())
            else {
                panic!("not read back: {again}");
            };
            assert!(other == *id && others.get() == params);
            rebuilt(&others);
            let null = pleiades_mcp::raw::null();
            answered(&message::result(id, &null), id);
        }
        Message::Notification { method, params } => {
            let again = message::notification(method, params.as_deref());
            let Ok(Message::Notification {
                method: other,
                params: others,
            }) = message::decode(&again)
            else {
                panic!("not read back");
            };
            assert_eq!(other, *method);
            assert_eq!(
                others.map(|raw| raw.to_string()),
                params.as_ref().map(|raw| raw.to_string())
            );
        }
        Message::Response { id, outcome } => match outcome {
            Ok(result) => answered(&message::result(id, result), id),
            Err(fault) => answered(&message::error(Some(id), fault), id),
        },
    }
}

/// A request of ours with the same parameters keeps each of their members.
fn rebuilt(params: &pleiades_mcp::Raw) {
    let Ok(object) = RawObject::open(params) else {
        return;
    };
    let Ok(Message::Request {
        params: Some(again), ..
    }) = message::decode(&message::request(7, "m", &object))
    else {
        panic!("our own request is not read back");
    };
    let again = RawObject::open(&again).expect("an object");
    assert!(
        object
            .iter()
            .map(|(name, raw)| (name, raw.get()))
            .eq(again.iter().map(|(name, raw)| (name, raw.get())))
    );
}

fn answered(answer: &[u8], id: &pleiades_mcp::Id) {
    match message::decode(answer) {
        Ok(Message::Response { id: other, .. }) => assert!(other == *id),
        other => panic!("an answer is not read back: {other:?}"),
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let deep = |levels: usize| {
        let (open, close) = ("[".repeat(levels), "]".repeat(levels));
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{{"a":{open}{close}}}}}"#)
    };
    let mut seeds: Vec<String> = [
        r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":"a\u0041","method":"tools/call","params":{"name":"x","arguments":{"a":1.0,"b":[null,true]},"_meta":{"progressToken":3}}}"#,
        r#"{"jsonrpc":"2.0","id":-9007199254740993,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no","data":{"a":1}}}"#,
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"Session not found"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":""}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
        r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#,
        r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","\u0069d":1,"id":2,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1e3,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"\ud800"}"#,
        "\u{feff}{}",
    ]
    .map(str::to_owned)
    .to_vec();
    seeds.extend([deep(125), deep(126), deep(127), deep(100_000)]);
    seeds.into_iter().map(String::into_bytes).collect()
}
