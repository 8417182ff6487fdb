//! Bad input at every view and the relay, on raw sockets: a clear error each, never silence, and
//! nothing of what stands behind.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use serde_json::{Value, json};

use super::world::{self, FakeServer, TestClient, World};

mod bodies;
mod heads;
mod random;

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
struct SweepWorld {
    world: World,
    fakes: [FakeServer; 2],
}

impl SweepWorld {
    async fn start() -> Self {
        let fakes = [
            FakeServer::start(&["2025-11-25"]).await,
            FakeServer::start(&["2026-07-28"]).await,
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
    fn send(&self, bytes: &[u8], end: bool) -> RawAnswer {
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
        RawAnswer {
            text: String::from_utf8_lossy(&text).into_owned(),
            silent,
        }
    }
}

/// What came back until the connection was closed.
#[derive(Debug)]
struct RawAnswer {
    text: String,
    /// The connection stayed open.
    silent: bool,
}

impl RawAnswer {
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
    fn leak(&self, place: &SweepWorld) -> Option<String> {
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

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_breaks_the_rules_is_answered_at_every_view() {
    let place = SweepWorld::start().await;
    let mut wrong = Vec::new();
    for path in VIEWS {
        for (name, statuses, bytes) in heads::bad(&place, path) {
            let ends = name.contains("cut short") || name.contains("no number holds");
            let answer = place.send(&bytes, ends);
            let status = answer.status();
            // What Pingora cannot parse it answers itself, with a status alone.
            let is_answered = answer.body().is_empty() && status == 400 || answer.code().is_some();
            let clear = statuses.contains(&status) && is_answered;
            if !clear || answer.silent || answer.leak(&place).is_some() {
                wrong.push(format!("{path}: {name}: {statuses:?}: {answer:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_message_is_refused_as_what_it_is() {
    let place = SweepWorld::start().await;
    let mut wrong = Vec::new();
    for path in VIEWS {
        let relay = path.starts_with("/relay");
        for revision in [
            "",
            "\r\nMcp-Protocol-Version: 2025-03-26",
            "\r\nMcp-Protocol-Version: 2026-07-28",
        ] {
            for (body, code) in bodies::bad() {
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
    let place = SweepWorld::start().await;
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
            let peer = TestClient::connect(&place.world, path, "2025-11-25").await;
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
    let place = SweepWorld::start().await;
    let legacy = TestClient::connect(&place.world, "/tools/new", "2025-11-25").await;
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
        let peer = TestClient::connect(&place.world, path, "2026-07-28").await;
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
            if path.starts_with("/tools") && state.is_string() {
                assert!(text.contains("-32602"), "{path} {state}: {text}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_nobody_sent_resumes_nothing() {
    let place = SweepWorld::start().await;
    for path in ["/mcp", "/tools", "/tools/old", "/tools/new"] {
        let peer = TestClient::connect(&place.world, path, "2025-11-25").await;
        let session = peer.session.clone().unwrap();
        for event in ["", "0", "-1", "../x", &session, &"9".repeat(30_000)] {
            let stream = place
                .world
                .http
                .get(&peer.url)
                .header("accept", "text/event-stream");
            let head = stream
                .header("mcp-session-id", &session)
                .header("last-event-id", event);
            let mut answer = head.send().await.unwrap();
            assert_eq!(answer.status(), 200, "{path}: {event}");
            let first = answer.chunk().await.unwrap().unwrap();
            assert!(first.starts_with(b":"), "{path}: {event}: {first:?}");
        }
        assert_eq!(peer.delete().await.status(), 204);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_used_twice_at_once_gets_both_answers() {
    let place = SweepWorld::start().await;
    for path in ["/tools/old", "/tools/new"] {
        let peer = TestClient::connect(&place.world, path, "2025-11-25").await;
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
