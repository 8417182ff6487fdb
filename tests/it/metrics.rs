//! Every metric that the code registers is moved through the running process: a series that nothing
//! moves is a promise that is not kept.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pleiades_core::telemetry::names::{self, Metric};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::codes::{unconnected, web_server};
use super::result_handles::long;
use super::world::authorization::EndpointFault;
use super::world::{Authority, Browser, FakeServer, TestClient, World, free_port, provider};

/// What the page of metrics says of each, at the beginning, and which have moved since.
struct MetricsWatch<'a> {
    world: &'a World,
    first: BTreeMap<&'static str, Vec<String>>,
    moved: BTreeSet<&'static str>,
}

impl<'a> MetricsWatch<'a> {
    async fn begin(world: &'a World) -> Self {
        let page = world.metrics().await;
        let all = names::ALL.iter();
        Self {
            world,
            first: all.map(|metric| (metric.name, samples(&page, metric))).collect(),
            moved: BTreeSet::new(),
        }
    }

    /// Waits until these say something else than at the beginning.
    async fn moved<const N: usize>(&mut self, metrics: [Metric; N]) {
        for metric in metrics {
            let first = &self.first[metric.name];
            self.world
                .until(metric.name, || async {
                    samples(&self.world.metrics().await, &metric) != *first
                })
                .await;
            self.moved.insert(metric.name);
        }
    }
}

/// The lines of a metric; those of a histogram bear longer names.
fn samples(page: &str, metric: &Metric) -> Vec<String> {
    let is_own = |line: &&str| {
        let name = line.split(['{', ' ']).next().unwrap();
        let rest = name.strip_prefix(metric.name);
        matches!(rest, Some("" | "_bucket" | "_sum" | "_count"))
    };
    page.lines().filter(is_own).map(str::to_owned).collect()
}

/// A Redis that holds nothing and answers as soon as it is open.
pub struct FakeRedis {
    pub url: String,
    pub is_open: Arc<AtomicBool>,
    serving: tokio::task::JoinHandle<()>,
}

impl FakeRedis {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let is_open = Arc::<AtomicBool>::default();
        let open = Arc::clone(&is_open);
        let serving = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                if open.load(Ordering::SeqCst) {
                    connections.spawn(answer(stream));
                }
            }
        });
        Self {
            url,
            is_open,
            serving,
        }
    }

    /// Ends it with all its connections.
    pub fn end(&self) {
        self.serving.abort();
    }
}

async fn answer(stream: TcpStream) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut listens = false;
    loop {
        let command = command(&mut stream).await?;
        let answer = match command[0].to_ascii_uppercase().as_str() {
            "SUBSCRIBE" => {
                listens = true;
                let one = |(at, name): (usize, &String)| {
                    format!(
                        "*3\r\n$9\r\nsubscribe\r\n${}\r\n{name}\r\n:{}\r\n",
                        name.len(),
                        at + 1
                    )
                };
                command[1..].iter().enumerate().map(one).collect()
            }
            "PING" if listens => "*2\r\n$4\r\npong\r\n$0\r\n\r\n".to_owned(),
            "ZRANGEBYSCORE" => "*0\r\n".to_owned(),
            "PUBLISH" => ":0\r\n".to_owned(),
            _ => "+OK\r\n".to_owned(),
        };
        stream.write_all(answer.as_bytes()).await?;
    }
}

/// The words of a command.
async fn command(stream: &mut BufReader<TcpStream>) -> io::Result<Vec<String>> {
    let mut words = Vec::new();
    for _ in 0..number(stream).await? {
        let mut word = vec![0; number(stream).await? + 2];
        stream.read_exact(&mut word).await?;
        words.push(String::from_utf8_lossy(&word).trim_end().to_owned());
    }
    Ok(words)
}

async fn number(stream: &mut BufReader<TcpStream>) -> io::Result<usize> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_start_matches(['*', '$']).trim_end().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_that_is_registered_is_moved_by_what_it_counts() {
    let (fake, frail) = (
        FakeServer::start(&["2025-11-25"]).await,
        FakeServer::start(&["2025-11-25"]).await,
    );
    let authority = Authority::start(&["2025-11-25"]).await;
    let redis = FakeRedis::start().await;
    fake.knobs.tools.lock().push(long("long"));
    let many = (0..60).map(|at| provider::tool(&format!("operation_{at}")));
    fake.knobs.tools.lock().extend(many);
    let cached = "auth: { none: {} }\nlimits: { concurrency: 1 }\nfacade: { cache: { ttl: 1m, tools: [echo] } }\ntools: { pin: warn }\n";
    let breaker = "auth: { none: {} }\nlimits: { breaker: { failures: 1, within: 1m, open_for: 1h } }\n";
    let oauth = format!(
        "upstream: {{ url: \"{}\" }}\nauth: {{ oauth: {{}} }}\n",
        authority.resource
    );
    let world = World::builder()
        .provider_with("one", &fake, cached)
        .provider_with("frail", &frail, breaker)
        .descriptor("tracker", &oauth)
        // In a file, so that the vault is first needed where it is watched.
        .file("providers.d/one.pins.json", "{}")
        .settings("shared_state: { redis: \"${REDIS}\" }\n")
        .env("REDIS", &redis.url)
        .start()
        .await;
    for id in ["one", "frail"] {
        world.until_state(id, "ready").await;
    }
    let mut watch = MetricsWatch::begin(&world).await;
    let build = &watch.first[names::BUILD_INFO.name];
    assert!(build.len() == 1 && build[0].ends_with(" 1"), "{build:?}");
    watch.moved.insert(names::BUILD_INFO.name);

    redis.is_open.store(true, Ordering::SeqCst);
    watch.moved([names::SHARED_STATE_UP]).await;

    let meta = TestClient::connect(&world, "/mcp/one", "2025-11-25").await;
    let result = meta
        .call("use_one", json!({ "tool": "echo", "text": "hi" }))
        .await;
    assert_eq!(result["structuredContent"]["status"], "ok", "{result}");
    watch.moved([names::FACADE_REPAIRS, names::SESSIONS]).await;
    meta.call("use_one", json!({ "prompt": "echo a text" })).await;
    watch.moved([names::MENUS]).await;
    meta.tools().await;
    watch.moved([names::FACADE_TOKENS_SAVED]).await;
    watch
        .moved([
            names::CALLS,
            names::CALL_DURATION,
            names::TOOL_CALLS,
            names::UPSTREAM_DURATION,
        ])
        .await;

    watch.moved([names::CACHE]).await;
    meta.call("use_one", json!({ "tool": "long", "arguments": {} }))
        .await;
    watch
        .moved([names::RESULT_HANDLES, names::RESULT_TOKENS_CUT])
        .await;

    let tools = Arc::new(TestClient::connect(&world, "/tools/one", "2025-11-25").await);
    let caller = Arc::clone(&tools);
    let running = tokio::spawn(async move { caller.call("wait", json!({})).await });
    world
        .until("the call to arrive", || async {
            fake.knobs.waiting.load(Ordering::SeqCst) == 1
        })
        .await;
    watch.moved([names::INFLIGHT]).await;
    let refused = tools.call("echo", json!({ "text": "x" })).await;
    assert_eq!(refused["structuredContent"]["data"]["rule"], "concurrency");
    watch.moved([names::LIMITED]).await;
    fake.knobs.release.notify_waiters();
    running.await.unwrap();

    let stream = tools.stream().await;
    assert_eq!(stream.status(), 200);
    watch.moved([names::STREAMS]).await;
    drop(stream);

    let unlucky = TestClient::connect(&world, "/tools/frail", "2025-11-25").await;
    frail.knobs.fails.store(true, Ordering::Relaxed);
    unlucky.call("echo", json!({ "text": "x" })).await;
    watch.moved([names::BREAKER_STATE]).await;

    fake.grow("more");
    watch.moved([names::TOOLS, names::TOOL_PINS]).await;

    std::fs::write(
        world.providers().join("two.yaml"),
        format!(
            "id: two\nupstream: {{ url: \"{}\" }}\nauth: {{ none: {{}} }}\n",
            fake.url
        ),
    )
    .unwrap();
    watch
        .moved([names::RELOAD, names::RELOAD_GENERATION, names::PROVIDERS])
        .await;

    let tracker = TestClient::connect(&world, "/mcp/tracker", "2025-11-25").await;
    let echo = || json!({ "tool": "echo", "arguments": { "text": "hi" } });
    let invited = tracker.call("use_tracker", echo()).await;
    let link = invited["structuredContent"]["data"]["connect_url"].as_str();
    let page = Browser::default().connect(link.unwrap(), &[]).await;
    assert_eq!(page.status, 200, "{}", page.body);
    tracker.call("use_tracker", echo()).await;
    watch
        .moved([
            names::VAULT_REQUESTS,
            names::VAULT_UP,
            names::CREDENTIAL_STATE,
            names::CREDENTIAL_EXPIRY,
        ])
        .await;
    authority.expire();
    tracker.call("use_tracker", echo()).await;
    watch.moved([names::TOKEN_REFRESH]).await;

    let all: BTreeSet<&str> = names::ALL.iter().map(|metric| metric.name).collect();
    let still: Vec<_> = all.difference(&watch.moved).collect();
    assert!(still.is_empty(), "nothing here moves {still:?}");
}

/// Calls an operation whose arguments stand beside its name, as some clients send them.
fn malformed() -> Value {
    json!({ "name": "use_one", "arguments": { "tool": "echo", "text": "hi" } })
}

#[tokio::test(flavor = "multi_thread")]
async fn repairs_are_counted_for_the_client_that_names_itself_in_any_generation() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder().provider("one", &fake).start().await;
    let mut legacy = TestClient::connect(&world, "/mcp/one", "2025-11-25").await;
    legacy.session = None;
    let params = json!({
        "protocolVersion": "2025-11-25", "capabilities": {},
        "clientInfo": { "name": "Claude-Code", "version": "2.1" }
    });
    let opened = legacy.send("initialize", params).await;
    let session = opened.headers()["mcp-session-id"].to_str().unwrap();
    legacy.session = Some(session.to_owned());
    legacy.result("tools/call", malformed()).await;
    let modern = TestClient::connect(&world, "/mcp/one", "2026-07-28").await;
    let mut params = malformed();
    params["_meta"] =
        json!({ "io.modelcontextprotocol/clientInfo": { "name": "cursor-vscode", "version": "1" } });
    modern.result("tools/call", params).await;
    let nameless = TestClient::connect(&world, "/mcp/one", "2026-07-28").await;
    nameless.result("tools/call", malformed()).await;
    let page = world.metrics().await;
    for client in ["claude-code", "cursor", "other"] {
        let series =
            format!("pleiades_facade_repairs_total{{client=\"{client}\",kind=\"arguments_hoisted\"}} 1");
        assert!(page.contains(&series), "{series}\n{page}");
    }
}

/// Outcomes that nothing here moves, each with the reason.
const UNMOVED: [(&str, &str); 10] = [
    ("confirm_required", "no feature asks for a confirmation yet"),
    ("budget_exceeded", "no feature has a budget yet"),
    ("partial", "no feature answers a part yet"),
    ("unknown_path", "the path names no view: the log alone has it"),
    ("body_too_slow", "it takes 30 s; a test of the listener has it"),
    ("account_ambiguous", "tests of accounts have it"),
    ("call_gone", "tests of parked calls have it"),
    ("shutting_down", "the metrics end with the process"),
    ("internal", "a bug"),
    ("other", "what is outside of the set, of which there is nothing"),
];

/// Makes requests of one world fail, each in its way.
struct FailingRequests<'a> {
    world: &'a World,
}

impl FailingRequests<'_> {
    fn client(&self, path: &str, revision: &'static str) -> TestClient {
        TestClient {
            revision,
            ..unconnected(self.world, path)
        }
    }

    async fn call(&self, path: &str, name: &str, arguments: Value) -> Value {
        let params = json!({ "name": name, "arguments": arguments });
        self.client(path, "2025-11-25")
            .request("tools/call", params)
            .await
    }

    /// Posts a body with headers to a path.
    async fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) {
        let mut request = self.world.http.post(format!("{}{path}", self.world.base));
        let usual = [
            ("content-type", "application/json"),
            ("accept", "application/json"),
        ];
        let given = |name: &str| headers.iter().any(|(given, _)| *given == name);
        for (name, value) in usual.iter().filter(|(name, _)| !given(name)).chain(headers) {
            request = request.header(*name, *value);
        }
        request.body(body.to_owned()).send().await.unwrap();
    }

    /// Requests that are refused by their head or their envelope.
    async fn refused(&self) {
        let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
        let long = format!("/mcp?{}", "x".repeat(9_000));
        let (big, large) = ("x".repeat(70_000), " ".repeat(70_000));
        for (path, headers, body) in [
            ("/mcp", &[][..], "{"),
            ("/mcp", &[], "[]"),
            ("/mcp", &[], r#"{"jsonrpc":"2.0","id":1,"method":"frobnicate"}"#),
            (
                "/mcp",
                &[],
                r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}"#,
            ),
            ("/mcp", &[], r#"{"jsonrpc":"2.0","id":"none","result":{}}"#),
            (
                "/mcp",
                &[("mcp-protocol-version", "2026-07-28")],
                r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#,
            ),
            ("/mcp", &[("mcp-protocol-version", "1999-01-01")], ping),
            ("/mcp", &[("mcp-session-id", "made-up")], ping),
            ("/mcp", &[("accept", "text/html")], ping),
            ("/mcp", &[("content-type", "text/plain")], ping),
            ("/mcp", &[("x-big", &big)], ping),
            ("/mcp", &[("host", "evil.example")], ping),
            ("/mcp", &[("origin", "http://evil.example")], ping),
            ("/mcp", &[], &large),
            ("/mcp/none", &[], ping),
            (&long, &[], ping),
        ] {
            self.post(path, headers, body).await;
        }
        let put = self.world.http.put(format!("{}/mcp", self.world.base));
        put.send().await.unwrap();
        let listener = self.world.base.trim_start_matches("http://");
        let two_lengths = format!(
            "POST /mcp HTTP/1.1\r\nHost: {listener}\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        let mut stream = TcpStream::connect(listener).await.unwrap();
        stream.write_all(two_lengths.as_bytes()).await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
        // Of a provider that nobody reached it is not known whether it has tasks.
        let modern = self.client("/tools/down", "2026-07-28");
        modern.request("tasks/get", json!({ "taskId": "x" })).await;
        let mismatched = self.world.http.post(format!("{}/tools/one", self.world.base));
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": { "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {} } } });
        let mismatched = mismatched
            .header("content-type", "application/json")
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", "tools/call");
        mismatched.body(body.to_string()).send().await.unwrap();
    }

    async fn counted(&self) -> BTreeSet<String> {
        let page = self.world.metrics().await;
        let calls = page
            .lines()
            .filter(|line| line.starts_with("pleiades_calls_total{") && !line.ends_with(" 0"));
        calls
            .map(|line| line.split("outcome=\"").nth(1).unwrap())
            .map(|rest| rest.split('"').next().unwrap().to_owned())
            .collect()
    }
}

async fn cancelled(world: &World, fake: &FakeServer) {
    let client = Arc::new(TestClient::connect(world, "/tools/one", "2025-11-25").await);
    let caller = Arc::clone(&client);
    let params = json!({ "name": "wait", "arguments": {} });
    let running = tokio::spawn(async move { caller.send_as(json!(99), "tools/call", params).await });
    world
        .until("the call to arrive", || async {
            fake.knobs.waiting.load(Ordering::SeqCst) == 1
        })
        .await;
    // One call may run.
    client.call("echo", json!({ "text": "x" })).await;
    client
        .notify("notifications/cancelled", json!({ "requestId": 99 }))
        .await;
    running.await.unwrap();
}

/// What becomes of calls with an account: none, one that may not, one that ended.
async fn with_accounts(world: &World, authority: &Authority) {
    let client = TestClient::connect(world, "/mcp/tracker", "2025-11-25").await;
    let echo = || json!({ "tool": "echo", "arguments": { "text": "hi" } });
    let invited = client.call("use_tracker", echo()).await;
    let link = invited["structuredContent"]["data"]["connect_url"].as_str();
    let page = Browser::default().connect(link.unwrap(), &[]).await;
    assert_eq!(page.status, 200, "{}", page.body);
    client.call("use_tracker", echo()).await;
    let denied = (403, "Bearer error=\"insufficient_scope\", scope=\"admin\"", "");
    *authority.knobs.denies_tools.lock() = [("echo".to_owned(), denied)].into();
    client.call("use_tracker", echo()).await;
    authority.knobs.denies_tools.lock().clear();
    authority.revoke_all();
    let ended = client.call("use_tracker", echo()).await;
    let link = ended["structuredContent"]["data"]["connect_url"].as_str();
    let page = Browser::default().connect(link.unwrap(), &[]).await;
    assert_eq!(page.status, 200, "{}", page.body);
    authority.fail("/token", EndpointFault::Says(503, json!({})), 99);
    authority.expire();
    client.call("use_tracker", echo()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_outcome_of_calls_is_moved_by_what_it_names() {
    let start = || FakeServer::start(&["2025-11-25"]);
    let (fake, frail, keyed, slow) = (start().await, start().await, start().await, start().await);
    let (authority, web) = (Authority::start(&["2025-11-25"]).await, web_server().await);
    let mut asks = provider::tool("asks");
    asks["x-asks"] = json!({ "message": "who", "requestedSchema": { "type": "object", "properties": {} } });
    fake.knobs.tools.lock().push(asks);
    keyed.knobs.refuses.store(true, Ordering::Relaxed);
    slow.knobs.hangs.store(true, Ordering::Relaxed);
    let none = "auth: { none: {} }\n";
    let at =
        |url: &str, rest: &str| format!("upstream: {{ url: \"{url}\", timeouts: {{ call: 1s }} }}\n{rest}");
    let breaker = format!("{none}limits: {{ breaker: {{ failures: 1, within: 1m, open_for: 1h }} }}\n");
    let rate = format!("{none}limits: {{ rate: [{{ per: provider, requests: 1, every: 1h, burst: 1 }}] }}\n");
    let world = World::builder()
        .provider_with("one", &fake, &format!("{none}limits: {{ concurrency: 1 }}\n"))
        .provider_with("free", &fake, none)
        .provider_with("frail", &frail, &breaker)
        .provider_with("spent", &fake, &rate)
        .provider_with("cut", &fake, &format!("{none}tools: {{ deny: [wait] }}\n"))
        .descriptor("slow", &at(&slow.url, none))
        .descriptor("web", &at(&web, none))
        .descriptor("down", &at(&format!("http://127.0.0.1:{}/", free_port()), none))
        .provider_with("keyed", &keyed, "auth: { api_key: { value: a-key-of-ours } }\n")
        .descriptor(
            "tracker",
            &format!(
                "upstream: {{ url: \"{}\" }}\nauth: {{ oauth: {{}} }}\n",
                authority.resource
            ),
        )
        .settings("max_body: 64KiB\n")
        .start()
        .await;
    for id in ["one", "free", "frail", "spent", "cut"] {
        world.until_state(id, "ready").await;
    }
    let failing = FailingRequests { world: &world };
    failing.refused().await;
    for arguments in [
        json!({ "prompt": "anything" }),
        json!({ "prompt": "Which painter made the Mona Lisa, and how is pizza baked?" }),
        json!({ "tool": "echo" }),
        json!({ "tool": "echo", "arguments": {} }),
        json!({ "tool": "frobnicate", "arguments": {} }),
        json!({ "tool": "fail", "arguments": { "text": "x" } }),
    ] {
        failing.call("/mcp/free", "use_free", arguments).await;
    }
    let text = || json!({ "text": "x" });
    for path in [
        "/tools/spent",
        "/tools/spent",
        "/tools/slow",
        "/tools/web",
        "/tools/down",
        "/tools/keyed",
    ] {
        failing.call(path, "echo", text()).await;
    }
    frail.knobs.fails.store(true, Ordering::Relaxed);
    for path in ["/tools/frail", "/tools/frail", "/relay/cut"] {
        failing.call(path, "echo", text()).await;
    }
    let free = failing.client("/tools", "2025-11-25");
    free.request("resources/read", json!({ "uri": "nobodys://x" }))
        .await;
    let free = failing.client("/tools/free", "2025-11-25");
    free.request("resources/read", json!({ "uri": "fake://none" }))
        .await;
    cancelled(&world, &fake).await;
    let asked = failing.client("/tools/free", "2026-07-28");
    let able = json!({ "io.modelcontextprotocol/clientCapabilities": { "elicitation": { "form": {} } } });
    let params = json!({ "name": "asks", "arguments": {}, "_meta": able });
    asked.request("tools/call", params).await;
    with_accounts(&world, &authority).await;
    // A session that the provider does not know, and a provider that fails.
    failing.call("/relay/free", "echo", text()).await;
    fake.knobs.fails.store(true, Ordering::Relaxed);
    failing.call("/relay/free", "echo", text()).await;

    let keys = "access: { api_keys: [{ name: a, tenant: t, user: u, sha256: \
                2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b }] }\n";
    let closed = World::builder().settings(keys).start().await;
    let closed = FailingRequests { world: &closed };
    closed.call("/mcp", "use_none", json!({})).await;
    let away = format!(
        "vault: {{ hashicorp: {{ address: \"http://127.0.0.1:{}\", auth: {{ token: t }} }} }}\n",
        free_port()
    );
    let storeless = World::builder()
        .descriptor(
            "tracker",
            &format!(
                "upstream: {{ url: \"{}\" }}\nauth: {{ oauth: {{}} }}\n",
                authority.resource
            ),
        )
        .settings(&away)
        .launch();
    storeless
        .until("the gateway to listen", || async {
            let health = storeless
                .http
                .get(format!("{}/health", storeless.admin))
                .send()
                .await;
            health.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
    let storeless = FailingRequests { world: &storeless };
    storeless
        .call("/mcp/tracker", "use_tracker", json!({ "tool": "echo" }))
        .await;

    let mut moved = failing.counted().await;
    moved.extend(closed.counted().await);
    moved.extend(storeless.counted().await);
    let excused = |outcome: &str| UNMOVED.iter().any(|(name, _)| *name == outcome);
    let still: Vec<_> = names::OUTCOMES
        .into_iter()
        .filter(|outcome| !moved.contains(*outcome) && !excused(outcome))
        .collect();
    assert!(still.is_empty(), "nothing here moves {still:?}");
    let needless: Vec<_> = UNMOVED.iter().filter(|(name, _)| moved.contains(*name)).collect();
    assert!(needless.is_empty(), "these are moved: {needless:?}");
}
