//! Bodies between a sound message and noise.

use serde_json::{Value, json};

use super::{SweepWorld, TestClient, VIEWS};

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
    let place = SweepWorld::start().await;
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
        let peer = TestClient::connect(&place.world, path, revision).await;
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
            let is_rpc = relay || text.is_empty() && status == 202 || text.contains("\"jsonrpc\"");
            assert!(is_rpc, "{path} {at}: {shown}: {status} {text}");
            let leaked = behind
                .iter()
                .find(|url| text.contains(url.trim_start_matches("http://")));
            assert!(
                leaked.is_none() && !text.contains("panicked"),
                "{path} {at}: {shown}: {status} {text}"
            );
        }
    }
    place.world.until_state("old", "ready").await;
    place.world.until_state("new", "ready").await;
}
