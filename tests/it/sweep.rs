//! Bad input at every view and the relay, on raw sockets: a clear error each, never silence, and
//! nothing of what stands behind.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use serde_json::{Value, json};

use super::world::{self, Client, Fake, World};

const VIEWS: [&str; 8] = [
    "/mcp",
    "/mcp/old",
    "/mcp/new",
    "/tools",
    "/tools/old",
    "/tools/new",
    "/relay/old",
    "/relay/new",
];
const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

/// A gateway before one provider of each generation, and one that is gone.
struct Place {
    world: World,
    fakes: [Fake; 2],
}

impl Place {
    async fn start() -> Self {
        let fakes = [
            Fake::start(&["2025-11-25"]).await,
            Fake::start(&["2026-07-28"]).await,
        ];
        let world = World::builder()
            .provider("old", &fakes[0])
            .provider("new", &fakes[1])
            .start()
            .await;
        world.until_state("old", "ready").await;
        world.until_state("new", "ready").await;
        Self { world, fakes }
    }

    fn host(&self) -> &str {
        self.world.base.trim_start_matches("http://")
    }

    /// A request with this head behind the request line and `Host`, closed after its answer.
    fn request(&self, line: &str, head: &str, body: &[u8]) -> Vec<u8> {
        let head = format!(
            "{line}\r\nHost: {}\r\nConnection: close\r\n{head}\r\n\r\n",
            self.host()
        );
        [head.as_bytes(), body].concat()
    }

    fn post(&self, path: &str, head: &str, body: &[u8]) -> Vec<u8> {
        let head = format!(
            "Content-Type: application/json\r\nContent-Length: {}{head}",
            body.len()
        );
        self.request(&format!("POST {path} HTTP/1.1"), &head, body)
    }

    /// Sends bytes and reads until the gateway closes.
    fn send(&self, bytes: &[u8], end: bool) -> Answer {
        let mut stream = TcpStream::connect(self.host()).unwrap();
        stream.set_read_timeout(Some(world::GUARD)).unwrap();
        // The gateway may close before all is written.
        stream.write_all(bytes).ok();
        if end {
            stream.shutdown(Shutdown::Write).ok();
        }
        let mut text = Vec::new();
        let silent = stream.read_to_end(&mut text).is_err_and(|error| {
            matches!(
                error.kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
            )
        });
        Answer {
            text: String::from_utf8_lossy(&text).into_owned(),
            silent,
        }
    }
}

/// What came back until the connection was closed.
#[derive(Debug)]
struct Answer {
    text: String,
    /// The connection stayed open.
    silent: bool,
}

impl Answer {
    fn status(&self) -> u16 {
        self.text
            .get(9..12)
            .and_then(|digits| digits.parse().ok())
            .unwrap_or_default()
    }

    fn body(&self) -> &str {
        self.text.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }

    /// The JSON-RPC error code of the body.
    fn code(&self) -> Option<i64> {
        let body: Value = serde_json::from_str(self.body()).ok()?;
        (body["jsonrpc"] == "2.0")
            .then(|| body["error"]["code"].as_i64())
            .flatten()
    }

    /// What of an upstream, or of our own inside, it tells.
    fn leak(&self, place: &Place) -> Option<String> {
        let behind = place
            .fakes
            .iter()
            .map(|fake| fake.url.trim_start_matches("http://").trim_end_matches("/mcp"));
        behind
            .chain(["panicked", ".rs:", "RUST_BACKTRACE", "session-1"])
            .find(|word| self.text.contains(word))
            .map(str::to_owned)
    }
}

/// Heads that break HTTP or its rules, and the statuses that say so.
fn bad_heads(place: &Place, path: &str) -> Vec<(&'static str, &'static [u16], Vec<u8>)> {
    const BAD: &[u16] = &[400];
    let (host, length) = (place.host(), PING.len());
    let typed = "Content-Type: application/json\r\n";
    let line = format!("POST {path} HTTP/1.1");
    let sized = format!("{typed}Content-Length: {length}");
    let body = PING.as_bytes();
    let with = |head: &str| place.request(&line, head, body);
    let to = |line: &str| place.request(line, &sized, body);
    let also = |head: &str| place.post(path, &format!("\r\n{head}"), body);
    let hosted = |host: &[u8]| {
        let head = format!("\r\nConnection: close\r\n{sized}\r\n\r\n{PING}");
        [line.as_bytes(), b"\r\nHost: ", host, head.as_bytes()].concat()
    };
    let chunked = |body: &str| {
        let head = format!("{typed}Transfer-Encoding: chunked");
        place.request(&line, &head, body.as_bytes())
    };
    vec![
        ("HTTP/0.9", BAD, format!("GET {path}\r\n\r\n").into_bytes()),
        (
            "HTTP/1.0 without a host",
            BAD,
            format!("POST {path} HTTP/1.0\r\n{sized}\r\n\r\n{PING}").into_bytes(),
        ),
        (
            "HTTP/1.0 in chunks",
            BAD,
            place.request(
                &format!("POST {path} HTTP/1.0"),
                &format!("{typed}Transfer-Encoding: chunked"),
                b"0\r\n\r\n",
            ),
        ),
        (
            "no host",
            BAD,
            format!("{line}\r\n{sized}\r\n\r\n{PING}").into_bytes(),
        ),
        (
            "a version that is none",
            BAD,
            to(&format!("POST {path} HTTP/3.0")),
        ),
        (
            "the preface of HTTP/2",
            BAD,
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        ),
        ("no HTTP", BAD, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n".to_vec()),
        (
            "no target",
            BAD,
            format!("POST\r\nHost: {host}\r\n\r\n").into_bytes(),
        ),
        (
            "another authority",
            BAD,
            to(&format!("POST http://evil.example{path} HTTP/1.1")),
        ),
        (
            "an authority with a user",
            BAD,
            to(&format!("POST http://a:b@{host}{path} HTTP/1.1")),
        ),
        ("a tunnel", BAD, to("CONNECT evil.example:443 HTTP/1.1")),
        ("a folded header", BAD, with(&format!("X-A: 1\r\n 2\r\n{sized}"))),
        (
            "a folded media type",
            BAD,
            with(&format!(
                "Content-Type: application/json\r\n\t; x=1\r\nContent-Length: {length}"
            )),
        ),
        ("NUL in a value", BAD, also("X-A: a\0b")),
        ("NUL in a name", BAD, also("X\0A: a")),
        ("CR in a value", BAD, also("X-A: a\rX-B: b")),
        (
            "NUL in the target",
            &[400, 404],
            to(&format!("POST {path}\0 HTTP/1.1")),
        ),
        ("encoded NUL", &[404], to(&format!("POST {path}%00 HTTP/1.1"))),
        (
            "encoded slashes",
            BAD,
            to(&format!("POST {path}%2f..%2fx HTTP/1.1")),
        ),
        ("dots", BAD, to(&format!("POST {path}/../x HTTP/1.1"))),
        ("below a view", &[404], to(&format!("POST {path}/x/y HTTP/1.1"))),
        (
            "a long target",
            &[414],
            to(&format!("POST {path}?{} HTTP/1.1", "x".repeat(9_000))),
        ),
        ("no colon", BAD, also("nocolon")),
        ("no name", BAD, also(": x")),
        (
            "space before the colon",
            BAD,
            with(&format!("{typed}Content-Length : {length}")),
        ),
        (
            "the same beside chunks",
            BAD,
            with(&format!(
                "{typed}Content-Length : {length}\r\nTransfer-Encoding: chunked"
            )),
        ),
        (
            "a length and chunks",
            BAD,
            with(&format!("{sized}\r\nTransfer-Encoding: chunked")),
        ),
        (
            "chunks and a length",
            BAD,
            with(&format!(
                "{typed}Transfer-Encoding: chunked\r\nContent-Length:\t {length}"
            )),
        ),
        (
            "a coding alike",
            BAD,
            with(&format!("{typed}Transfer-Encoding: xchunked")),
        ),
        (
            "chunks in chunks",
            BAD,
            with(&format!("{typed}Transfer-Encoding: chunked, chunked")),
        ),
        ("another coding", BAD, also("Transfer-Encoding: identity")),
        (
            "a coding after a control",
            BAD,
            with(&format!("{typed}Transfer-Encoding: \x0bchunked")),
        ),
        ("two lengths", BAD, also(&format!("Content-Length: {length}"))),
        (
            "a list of lengths",
            BAD,
            with(&format!("{typed}Content-Length: {length}, {length}")),
        ),
        (
            "a signed length",
            BAD,
            with(&format!("{typed}Content-Length: +{length}")),
        ),
        (
            "a negative length",
            BAD,
            with(&format!("{typed}Content-Length: -1")),
        ),
        (
            "a hexadecimal length",
            BAD,
            with(&format!("{typed}Content-Length: 0x10")),
        ),
        (
            "a length no number holds",
            BAD,
            with(&format!("{typed}Content-Length: 99999999999999999999999")),
        ),
        (
            "a length of nothing",
            BAD,
            with(&format!("{typed}Content-Length: ")),
        ),
        ("a chunk no number holds", BAD, chunked("FFFFFFFFFFFFFFFFF\r\n{")),
        ("a negative chunk", BAD, chunked("-1\r\n{")),
        (
            "a chunk's name over two lines",
            BAD,
            chunked(&format!("{length:x};a=\"\r\n\"\r\n{PING}\r\n0\r\n\r\n")),
        ),
        (
            "chunks by LF alone",
            BAD,
            chunked(&format!("{length:x}\n{PING}\n0\n\n")),
        ),
        (
            "a body cut short",
            BAD,
            place.request(&line, &format!("{typed}Content-Length: 100"), b"{"),
        ),
        ("chunks cut short", BAD, chunked("5\r\n{")),
        ("two hosts", BAD, also("Host: evil.example")),
        ("a foreign host", &[403], hosted(b"evil.example")),
        ("an empty host", &[400, 403], hosted(b"")),
        ("two words for a host", &[400, 403], hosted(b"a b")),
        ("a host with a path", &[400, 403], hosted(b"127.0.0.1/x")),
        ("a host with a user", &[400, 403], hosted(b"evil@127.0.0.1")),
        ("a host that is no text", BAD, hosted(b"\xff")),
        ("a foreign origin", &[403], also("Origin: http://evil.example")),
        ("the origin null", &[403], also("Origin: null")),
        ("no origin", &[403], also("Origin: ")),
        (
            "an origin at another port",
            &[403],
            also("Origin: http://127.0.0.1:1"),
        ),
        (
            "two origins",
            &[403],
            also(&format!("Origin: http://{host}\r\nOrigin: http://{host}")),
        ),
        (
            "text",
            &[415],
            with(&format!("Content-Type: text/plain\r\nContent-Length: {length}")),
        ),
        (
            "no media type",
            &[415],
            with(&format!("Content-Length: {length}")),
        ),
        (
            "a form",
            &[415],
            with(&format!(
                "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {length}"
            )),
        ),
        (
            "a list of media types",
            &[415],
            with(&format!(
                "Content-Type: text/plain, application/json\r\nContent-Length: {length}"
            )),
        ),
        ("two media types", BAD, also("Content-Type: application/json")),
        ("a coded body", &[415], also("Content-Encoding: gzip")),
        ("nothing acceptable", &[406], also("Accept: text/html")),
        (
            "a large head",
            &[431],
            also(&format!("X-A: {}", "x".repeat(70_000))),
        ),
        (
            "a head of 2 MiB",
            &[400, 431],
            also(&format!("X-A: {}", "x".repeat(2 << 20))),
        ),
        (
            "257 headers",
            &[400, 431],
            also(
                &(0..257)
                    .map(|at| format!("X-{at}: 1\r\n"))
                    .collect::<String>()
                    .trim_end(),
            ),
        ),
        (
            "a lower-case method",
            &[405],
            to(&format!("post {path} HTTP/1.1")),
        ),
        ("an odd method", &[405], to(&format!("BREW {path} HTTP/1.1"))),
        ("TRACE", &[405], to(&format!("TRACE {path} HTTP/1.1"))),
        (
            "a stream of no session",
            &[400, 405],
            place.request(
                &format!("GET {path} HTTP/1.1"),
                "Accept: text/event-stream\r\nLast-Event-ID: ../../x",
                b"",
            ),
        ),
        (
            "the same with a body",
            &[400, 405],
            to(&format!("GET {path} HTTP/1.1")),
        ),
        (
            "an event that is no text",
            BAD,
            place.request(&format!("GET {path} HTTP/1.1"), "Last-Event-ID: \x01\x7f", b""),
        ),
        ("a forged session", &[404], also("Mcp-Session-Id: forged")),
        ("an empty session", &[404], also("Mcp-Session-Id: ")),
        (
            "a session that is no text",
            &[404],
            [
                format!("{line}\r\nHost: {host}\r\nConnection: close\r\nMcp-Session-Id: ").as_bytes(),
                b"\xff\r\n",
                sized.as_bytes(),
                b"\r\n\r\n",
                body,
            ]
            .concat(),
        ),
        (
            "two sessions",
            BAD,
            also("Mcp-Session-Id: a\r\nMcp-Session-Id: b"),
        ),
        (
            "a long session",
            &[404],
            also(&format!("Mcp-Session-Id: {}", "A".repeat(20_000))),
        ),
        (
            "a stream of a forged session",
            &[404],
            place.request(
                &format!("GET {path} HTTP/1.1"),
                "Accept: text/event-stream\r\nMcp-Session-Id: forged\r\nLast-Event-ID: 1",
                b"",
            ),
        ),
        (
            "the end of a forged session",
            &[404],
            place.request(&format!("DELETE {path} HTTP/1.1"), "Mcp-Session-Id: forged", b""),
        ),
        (
            "a revision that nobody speaks",
            BAD,
            also("Mcp-Protocol-Version: junk"),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_breaks_the_rules_is_answered_at_every_view() {
    let place = Place::start().await;
    let mut wrong = Vec::new();
    for path in VIEWS {
        for (name, statuses, bytes) in bad_heads(&place, path) {
            let ends = name.contains("cut short") || name.contains("no number holds");
            let answer = place.send(&bytes, ends);
            let status = answer.status();
            // What Pingora cannot parse it answers itself, with a status alone.
            let said = answer.body().is_empty() && status == 400 || answer.code().is_some();
            let clear = statuses.contains(&status) && said;
            if !clear || answer.silent || answer.leak(&place).is_some() {
                wrong.push(format!("{path}: {name}: {statuses:?}: {answer:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Bodies that are no message, and the JSON-RPC error that says so.
fn bad_bodies() -> Vec<(Vec<u8>, i64)> {
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

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_message_is_refused_as_what_it_is() {
    let place = Place::start().await;
    let mut wrong = Vec::new();
    for path in VIEWS {
        let relay = path.starts_with("/relay");
        for revision in [
            "",
            "\r\nMcp-Protocol-Version: 2025-03-26",
            "\r\nMcp-Protocol-Version: 2026-07-28",
        ] {
            for (body, code) in bad_bodies() {
                let answer = place.send(&place.post(path, revision, &body), false);
                // The relay leaves bodies to the provider, after its own rules on heads.
                let clear = match relay {
                    true => (202..=502).contains(&answer.status()),
                    false => answer.status() == 400 && answer.code() == Some(code),
                };
                if !clear || answer.silent || answer.leak(&place).is_some() {
                    let body = String::from_utf8_lossy(&body)
                        .chars()
                        .take(120)
                        .collect::<String>();
                    wrong.push(format!("{path} {revision:?}: {body}: {code}: {answer:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nobody_asked_for_is_taken_or_refused_and_changes_nothing() {
    let place = Place::start().await;
    let strays = [
        r#"{"jsonrpc":"2.0","id":99999,"result":{"action":"accept","content":{"a":1}}}"#,
        r#"{"jsonrpc":"2.0","id":"made-up","result":{}}"#,
        r#"{"jsonrpc":"2.0","id":-1,"error":{"code":-32000,"message":"no"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":[]}"#,
        r#"{"jsonrpc":"2.0","id":0,"error":{"code":9223372036854775807,"message":"\u0000","data":[[[]]]}}"#,
    ];
    for path in [
        "/mcp",
        "/mcp/old",
        "/mcp/new",
        "/tools",
        "/tools/old",
        "/tools/new",
    ] {
        for session in [false, true] {
            let peer = Client::connect(&place.world, path, "2025-11-25").await;
            let head = match &peer.session {
                Some(id) if session => format!("\r\nMcp-Session-Id: {id}"),
                _ => String::new(),
            };
            for stray in strays {
                let answer = place.send(&place.post(path, &head, stray.as_bytes()), false);
                let clear = answer.status() == 202 || answer.code().is_some();
                assert!(
                    clear && answer.status() < 500 && !answer.silent,
                    "{path}: {stray}: {answer:?}"
                );
                assert_eq!(answer.leak(&place), None);
            }
            assert_eq!(peer.send("ping", json!({})).await.status(), 200, "{path}");
        }
    }
    let seen = place
        .fakes
        .iter()
        .map(|fake| fake.seen("response").len())
        .sum::<usize>();
    assert_eq!(seen, 0, "no provider hears of them");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_was_made_up_or_belongs_elsewhere_opens_nothing() {
    let place = Place::start().await;
    let legacy = Client::connect(&place.world, "/tools/new", "2025-11-25").await;
    let session = legacy.session.clone().unwrap();
    let states = [
        json!(""),
        json!("made up"),
        json!("A".repeat(100_000)),
        json!("\u{0}\u{ffff}"),
        json!(session),
        json!(session.to_uppercase()),
        json!(7),
        json!({ "a": [] }),
        json!(null),
    ];
    for path in ["/tools/new", "/tools/old", "/mcp/new", "/relay/new"] {
        let peer = Client::connect(&place.world, path, "2026-07-28").await;
        for state in &states {
            let name = if path.starts_with("/mcp") {
                "use_new"
            } else {
                "echo"
            };
            let params = json!({ "name": name, "arguments": { "text": "x" }, "requestState": state,
                "inputResponses": { "a": { "action": "accept" } } });
            let answer = peer.send("tools/call", params).await;
            let status = answer.status().as_u16();
            let text = answer.text().await.unwrap();
            assert!(
                status < 500 && text.contains("\"jsonrpc\""),
                "{path} {state}: {status} {text}"
            );
            assert!(!text.contains("panicked"), "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_used_twice_at_once_gets_both_answers() {
    let place = Place::start().await;
    for path in ["/tools/old", "/tools/new"] {
        let peer = Client::connect(&place.world, path, "2025-11-25").await;
        let fake = &place.fakes[usize::from(path.ends_with("new"))];
        let first = peer.send_as(
            json!(7),
            "tools/call",
            json!({ "name": "wait", "arguments": { "text": "first" } }),
        );
        let second = async {
            place
                .world
                .until("the first call to wait", || async {
                    fake.knobs.waiting.load(std::sync::atomic::Ordering::SeqCst) == 1
                })
                .await;
            let again = json!({ "name": "echo", "arguments": { "text": "second" } });
            let answer = world::json(peer.send_as(json!(7), "tools/call", again).await).await;
            fake.knobs.release.notify_one();
            answer
        };
        let (first, second) = tokio::join!(first, second);
        let first = world::json(first).await;
        assert_eq!((&first["id"], &second["id"]), (&json!(7), &json!(7)));
        assert!(first.to_string().contains("wait: first"), "{path}: {first}");
        let own = second.to_string().contains("echo: second") || second.get("error").is_some();
        assert!(own, "{path}: {second}");
    }
}

/// Random numbers that are the same each time (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound.max(1) as u64).unwrap()
    }

    /// A value of every shape, nested a little.
    fn value(&mut self, depth: usize) -> Value {
        const WORDS: [&str; 16] = [
            "name",
            "arguments",
            "_meta",
            "use_old",
            "echo",
            "uri",
            "cursor",
            "tool",
            "prompt",
            "fake://text",
            "progressToken",
            "requestId",
            "level",
            "ref",
            "\u{0}",
            "io.modelcontextprotocol/protocolVersion",
        ];
        match self.below(if depth > 3 { 7 } else { 10 }) {
            0 => Value::Null,
            1 => json!(self.below(2) == 0),
            2 => json!(self.below(1_000)),
            3 => json!(-1.5e300),
            4 => json!("2025-11-25"),
            5 | 6 => json!(WORDS[self.below(WORDS.len())]),
            7 => (0..self.below(4)).map(|_| self.value(depth + 1)).collect(),
            _ => Value::Object(
                (0..self.below(5))
                    .map(|_| (WORDS[self.below(WORDS.len())].to_owned(), self.value(depth + 1)))
                    .collect(),
            ),
        }
    }

    /// A body between a sound message and noise.
    fn body(&mut self) -> Vec<u8> {
        const METHODS: [&str; 18] = [
            "ping",
            "tools/list",
            "tools/call",
            "initialize",
            "server/discover",
            "resources/read",
            "resources/list",
            "prompts/get",
            "prompts/list",
            "completion/complete",
            "logging/setLevel",
            "resources/subscribe",
            "notifications/cancelled",
            "notifications/progress",
            "notifications/initialized",
            "tasks/get",
            "",
            "x/y",
        ];
        let mut message =
            json!({ "jsonrpc": "2.0", "id": self.below(50), "method": METHODS[self.below(METHODS.len())] });
        if self.below(4) > 0 {
            message["params"] = self.value(0);
        }
        if self.below(8) == 0 {
            message["id"] = self.value(0);
        }
        if self.below(6) == 0 {
            message = self.value(0);
        }
        let mut body = message.to_string().into_bytes();
        for _ in 0..self.below(4) {
            let at = self.below(body.len());
            match self.below(4) {
                0 => body.truncate(at),
                1 => body.insert(at, u8::try_from(self.below(256)).unwrap()),
                2 if !body.is_empty() => body[at] ^= 1 << self.below(8),
                _ => {
                    let piece = body[at..].to_vec();
                    body.extend(piece);
                }
            }
        }
        body
    }
}

/// A body that is a message as one of 2026-07-28, so that it is read to its end.
fn modern(request: reqwest::RequestBuilder, body: &mut Vec<u8>) -> reqwest::RequestBuilder {
    let mut request = request.header("mcp-protocol-version", "2026-07-28");
    let Ok(mut message @ Value::Object(_)) = serde_json::from_slice(body) else {
        return request;
    };
    if !message["params"].is_object() {
        message["params"] = json!({});
    }
    message["params"]["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let plain = |value: &Value| {
        value
            .as_str()
            .filter(|text| !text.contains(char::is_control))
            .map(str::to_owned)
    };
    if let Some(method) = plain(&message["method"]) {
        request = request.header("mcp-method", method);
    }
    if let Some(name) = plain(&message["params"]["name"]).or_else(|| plain(&message["params"]["uri"])) {
        request = request.header("mcp-name", name);
    }
    *body = message.to_string().into_bytes();
    request
}

/// Random bodies for each view; `PLEIADES_RANDOM_BODIES` sends more.
fn bodies() -> usize {
    let more = std::env::var("PLEIADES_RANDOM_BODIES").ok();
    more.and_then(|text| text.parse().ok()).unwrap_or(1_250)
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_random_bodies_are_answered_each() {
    let place = Place::start().await;
    let behind: Vec<&str> = place
        .fakes
        .iter()
        .map(|fake| fake.url.trim_end_matches("/mcp"))
        .collect();
    for (seed, path) in VIEWS.into_iter().enumerate() {
        let mut dice = Dice(seed as u64);
        let revision = if path.ends_with("/new") {
            "2026-07-28"
        } else {
            "2025-11-25"
        };
        let peer = Client::connect(&place.world, path, revision).await;
        let url = format!("{}{path}", place.world.base);
        for at in 0..bodies() {
            let mut body = dice.body();
            let mut request = place
                .world
                .http
                .post(&url)
                .header("content-type", "application/json");
            match (dice.below(3), &peer.session) {
                (0, _) => request = modern(request, &mut body),
                (1, Some(session)) => request = request.header("mcp-session-id", session),
                _ => {}
            }
            let shown = String::from_utf8_lossy(&body).into_owned();
            let answer = request.body(body).send().await;
            let answer = answer.unwrap_or_else(|error| panic!("{path} {at}: {shown}: {error:?}"));
            let status = answer.status().as_u16();
            let text = answer.text().await.unwrap();
            let relay = path.starts_with("/relay");
            let clear = status < 500 || relay && status == 502;
            assert!(clear, "{path} {at}: {shown}: {status} {text}");
            let said = relay || text.is_empty() && status == 202 || text.contains("\"jsonrpc\"");
            assert!(said, "{path} {at}: {shown}: {status} {text}");
            let told = behind
                .iter()
                .find(|url| text.contains(url.trim_start_matches("http://")));
            assert!(
                told.is_none() && !text.contains("panicked"),
                "{path} {at}: {shown}: {status} {text}"
            );
        }
    }
    place.world.until_state("old", "ready").await;
    place.world.until_state("new", "ready").await;
}
