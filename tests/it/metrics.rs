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

use super::world::{Authority, Browser, FakeServer, TestClient, World};

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
struct FakeRedis {
    url: String,
    is_open: Arc<AtomicBool>,
}

impl FakeRedis {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let is_open = Arc::<AtomicBool>::default();
        let open = Arc::clone(&is_open);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if open.load(Ordering::SeqCst) {
                    tokio::spawn(answer(stream));
                }
            }
        });
        Self { url, is_open }
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
    let breaker = "auth: { none: {} }\nlimits: { breaker: { failures: 1, within: 1m, open_for: 1h } }\n";
    let oauth = format!(
        "upstream: {{ url: \"{}\" }}\nauth: {{ oauth: {{}} }}\n",
        authority.resource
    );
    let world = World::builder()
        .provider_with("one", &fake, "auth: { none: {} }\nlimits: { concurrency: 1 }\n")
        .provider_with("frail", &frail, breaker)
        .descriptor("tracker", &oauth)
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
    watch
        .moved([
            names::CALLS,
            names::CALL_DURATION,
            names::TOOL_CALLS,
            names::UPSTREAM_DURATION,
        ])
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
    watch.moved([names::TOOLS]).await;

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
