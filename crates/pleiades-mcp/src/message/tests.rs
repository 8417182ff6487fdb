use super::*;
use crate::raw::raw;

fn refused(text: &str) -> (Code, String, Option<serde_json::Value>) {
    let error = decode(text.as_bytes()).expect_err("refused");
    (error.code, error.message.into_owned(), error.data)
}

fn code(text: &str) -> Code {
    refused(text).0
}

#[test]
fn a_request_keeps_its_id_and_params_byte_for_byte() {
    let text =
        r#" {"params": { "a" : 1.50 },"id": "x\u0041" ,"method":"tools\/call","jsonrpc":"2.0","extra":[1]}"#;
    let Ok(Message::Request { id, method, params }) = decode(text.as_bytes()) else {
        panic!("a request")
    };
    assert_eq!((id.as_str(), method.as_str()), (r#""x\u0041""#, "tools/call"));
    assert_eq!(params.expect("params").get(), r#"{ "a" : 1.50 }"#);
}

#[test]
fn half_a_character_is_replaced_in_what_is_read_and_kept_in_the_id() {
    let text = r#"{"jsonrpc":"2.0","id":"x\ud83d","method":"m","params":{"a\udc00":"b\ud83d"}}"#;
    let Ok(Message::Request { id, params, .. }) = decode(text.as_bytes()) else {
        panic!("a request")
    };
    assert_eq!(id.as_str(), r#""x\ud83d""#);
    assert_eq!(params.expect("params").get(), r#"{"a\ufffd":"b\ufffd"}"#);
}

#[test]
fn a_message_without_id_is_a_notification() {
    let message = decode(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    assert!(
        matches!(message, Ok(Message::Notification { method, params: None }) if method == "notifications/initialized")
    );
}

#[test]
fn responses_carry_a_result_or_an_error() {
    let Ok(Message::Response {
        id,
        outcome: Ok(result),
    }) = decode(br#"{"jsonrpc":"2.0","id":7,"result":{"a":1}}"#)
    else {
        panic!("a result")
    };
    assert_eq!((id.number(), result.get()), (Some(7), r#"{"a":1}"#));
    let text = br#"{"jsonrpc":"2.0","id":7,"error":{"code":-32601,"message":"no","data":[1, 2]}}"#;
    let Ok(Message::Response {
        outcome: Err(fault), ..
    }) = decode(text)
    else {
        panic!("an error")
    };
    assert_eq!(
        (
            fault.code,
            fault.message.as_str(),
            fault.data.expect("data").get()
        ),
        (-32601, "no", "[1, 2]")
    );
}

#[test]
fn ids_are_strings_or_integers_as_written() {
    for id in ["1", "-5", "0", "\"\"", "\"a\"", "123456789012345678901234567890"] {
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);
        let Ok(Message::Request { id: read, .. }) = decode(text.as_bytes()) else {
            panic!("{id}")
        };
        assert_eq!(read.as_str(), id);
    }
    for id in ["null", "true", "1.5", "1.0", "1e3", "[]", "{}", "-1.5"] {
        assert_eq!(
            code(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#)),
            Code::InvalidRequest,
            "{id}"
        );
    }
}

#[test]
fn batches_and_other_values_are_invalid_requests() {
    for text in [
        r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#,
        "[]",
        "1",
        "null",
        "\"x\"",
        "{}",
    ] {
        assert_eq!(code(text), Code::InvalidRequest, "{text}");
    }
}

#[test]
fn what_is_not_json_is_a_parse_error() {
    for text in [
        "",
        "  ",
        "{",
        "[1,",
        "{\"a\":}",
        "{'a':1}",
        "nul",
        "{\"jsonrpc\":\"2.0\"} x",
        "\u{feff}{}",
        "{\"a\":NaN}",
    ] {
        assert_eq!(code(text), Code::Parse, "{text}");
    }
    assert_eq!(
        decode(b"{\"a\":\"\xff\"}").expect_err("not UTF-8").code,
        Code::Parse
    );
}

#[test]
fn an_envelope_key_that_comes_twice_is_refused_even_in_disguise() {
    for text in [
        r#"{"jsonrpc":"2.0","id":1,"method":"a","method":"b"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"a","\u006dethod":"b"}"#,
        r#"{"jsonrpc":"2.0","jsonrpc":"2.0","id":1,"method":"a"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"a","x":1,"x":2}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{},"params":{}}"#,
    ] {
        assert_eq!(code(text), Code::InvalidRequest, "{text}");
    }
    assert_eq!(
        refused(r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"a"}"#).2,
        None,
        "neither id is trusted"
    );
}

#[test]
fn an_invalid_message_names_the_id_it_carried() {
    let id = |text| refused(text).2.map(|data| data["id"].clone());
    assert_eq!(id(r#"{"jsonrpc":"1.0","method":"a","id":"k"}"#), Some("k".into()));
    assert_eq!(id(r#"{"jsonrpc":"2.0","method":5,"id":3}"#), Some(3.into()));
    assert_eq!(
        id(r#"{"jsonrpc":"2.0","method":"a","params":[],"id":3}"#),
        Some(3.into())
    );
    assert_eq!(id(r#"{"jsonrpc":"2.0","method":"a","id":null}"#), None);
}

#[test]
fn params_must_be_an_object() {
    for params in ["[]", "1", "\"x\"", "null", "true"] {
        assert_eq!(
            code(&format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"a","params":{params}}}"#
            )),
            Code::InvalidRequest
        );
    }
}

#[test]
fn a_mix_of_request_and_response_is_refused() {
    for rest in [
        r#""method":"a","result":{}"#,
        r#""result":{},"error":{"code":1,"message":""}"#,
        r#""error":{"message":"no code"}"#,
        r#""error":null"#,
    ] {
        assert_eq!(
            code(&format!(r#"{{"jsonrpc":"2.0","id":1,{rest}}}"#)),
            Code::InvalidRequest,
            "{rest}"
        );
    }
    assert_eq!(code(r#"{"jsonrpc":"2.0","result":{}}"#), Code::InvalidRequest);
}

#[test]
fn nesting_ends_at_128_levels_and_brackets_in_strings_do_not_count() {
    let nested = |levels: usize| {
        let (open, close) = ("[".repeat(levels), "]".repeat(levels));
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"a","params":{{"v":{open}{close}}}}}"#)
    };
    assert!(decode(nested(126).as_bytes()).is_ok());
    assert_eq!(code(&nested(127)), Code::Parse);
    let quoted = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"a","params":{{"v":"\"{}"}}}}"#,
        "[{".repeat(500)
    );
    assert!(decode(quoted.as_bytes()).is_ok());
    let wide = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"a","params":{{"v":[{}1]}}}}"#,
        "[],".repeat(500)
    );
    assert!(decode(wide.as_bytes()).is_ok());
    assert_eq!(code(&"[".repeat(100_000)), Code::Parse);
}

#[test]
fn what_is_written_can_be_read_back() {
    let mut params = RawObject::new();
    params.put("name", "a\"b");
    let Ok(Message::Request { id, method, params }) = decode(&request(9, "tools/call", &params)) else {
        panic!()
    };
    assert_eq!(
        (id.number(), method.as_str(), params.expect("params").get()),
        (Some(9), "tools/call", r#"{"name":"a\"b"}"#)
    );

    let id = Id(raw("k"));
    let written = result(&id, &raw(&serde_json::json!({"a": 1})));
    assert_eq!(
        String::from_utf8_lossy(&written),
        r#"{"jsonrpc":"2.0","id":"k","result":{"a":1}}"#
    );

    let fault = RpcFault {
        code: -32700,
        message: "x".into(),
        data: Some(raw(&1)),
    };
    let written = error(None, &fault);
    assert_eq!(
        String::from_utf8_lossy(&written),
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"x","data":1}}"#
    );

    let written = notification("notifications/cancelled", None);
    assert_eq!(
        String::from_utf8_lossy(&written),
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled"}"#
    );
}

#[test]
fn a_flood_of_envelope_members_is_refused() {
    let many: String = (0..200).map(|n| format!(r#","k{n}":1"#)).collect();
    assert_eq!(
        code(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"a"{many}}}"#)),
        Code::InvalidRequest
    );
}
