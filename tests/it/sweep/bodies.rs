//! Bodies that are no message.

/// Bodies that are no message, and the JSON-RPC error that says so.
pub(super) fn bad() -> Vec<(Vec<u8>, i64)> {
    const PARSE: i64 = -32_700;
    const INVALID: i64 = -32_600;
    let deep = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{{"a":{}}}}}"#,
        "[".repeat(100_000)
    );
    let texts: Vec<(String, i64)> = [
        ("", PARSE),
        (" \n", PARSE),
        ("{", PARSE),
        ("nonsense", PARSE),
        ("\u{feff}{}", PARSE),
        ("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}{}", PARSE),
        ("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"pi\u{0}ng\"}", PARSE),
        ("{'jsonrpc':'2.0'}", PARSE),
        ("{\"jsonrpc\":\"2.0\",\"id\":NaN,\"method\":\"ping\"}", PARSE),
        ("null", INVALID),
        ("1", INVALID),
        ("\"ping\"", INVALID),
        ("[]", INVALID),
        (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, INVALID),
        (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","method":"notifications/initialized"}]"#, INVALID),
        ("{}", INVALID),
        (r#"{"id":1,"method":"ping"}"#, INVALID),
        (r#"{"jsonrpc":2.0,"id":1,"method":"ping"}"#, INVALID),
        (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, INVALID),
        (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, INVALID),
        (r#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#, INVALID),
        (r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, INVALID),
        (r#"{"jsonrpc":"2.0","id":[1],"method":"ping"}"#, INVALID),
        (r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, INVALID),
        (r#"{"jsonrpc":"2.0","id":1e400,"method":"ping"}"#, INVALID),
        (r#"{"jsonrpc":"2.0","id":1}"#, INVALID),
        (r#"{"jsonrpc":"2.0","id":1,"method":1}"#, INVALID),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}"#, INVALID),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":"x"}"#, INVALID),
        (r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#, INVALID),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping","\u006dethod":"tools/list"}"#, INVALID),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}"#, INVALID),
        (r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":""}}"#, INVALID),
        (r#"{"jsonrpc":"2.0","id":null,"result":{}}"#, INVALID),
        (r#"{"jsonrpc":"2.0","result":{}}"#, INVALID),
        (r#"{"jsonrpc":"2.0","id":1,"error":"no"}"#, INVALID),
    ]
    .map(|(text, code)| (text.to_owned(), code))
    .to_vec();
    let mut bodies: Vec<(Vec<u8>, i64)> = texts
        .into_iter()
        .map(|(text, code)| (text.into_bytes(), code))
        .collect();
    bodies.push((deep.into_bytes(), PARSE));
    bodies.push((
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xc3\x28\"}".to_vec(),
        PARSE,
    ));
    bodies.push((b"\xff\xfe{\0}\0".to_vec(), PARSE));
    bodies.push((b"\x1f\x8b\x08\x00".to_vec(), PARSE));
    bodies
}
