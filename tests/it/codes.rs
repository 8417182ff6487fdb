//! One name for one failure: the answer, the log and the metrics say the same code, in every view. The
//! log says the cause, which no answer shows, and both name the same request.

use std::sync::atomic::Ordering;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use serde_json::{Value, json};

use super::world::authorization::{Authority, EndpointFault};
use super::world::client::GENERATIONS;
use super::world::{Browser, FakeServer, TestClient, World, free_port, json as body};

const REVISION: &str = "2025-11-25";

/// What a request came to: the id on its answer, the answer, and its line of the log.
struct AnsweredRequest {
    id: String,
    answer: Value,
    line: Value,
}

impl AnsweredRequest {
    async fn of(world: &World, response: reqwest::Response) -> Self {
        let id = request_id(&response);
        let answer = body(response).await;
        let line = world.line(&id).await;
        Self { id, answer, line }
    }

    /// The code in the answer: of a result, else of a JSON-RPC error.
    fn code(&self) -> &str {
        let result = &self.answer["result"]["structuredContent"]["data"]["code"];
        let error = &self.answer["error"]["data"]["code"];
        result.as_str().or_else(|| error.as_str()).unwrap_or_default()
    }

    fn text(&self, field: &str) -> &str {
        self.line[field].as_str().unwrap_or_default()
    }

    /// Checks that answer and log say a code, and the log a cause that no answer shows.
    fn says(&self, code: &str, cause: &str) {
        assert_eq!(self.code(), code, "{}\n{}", self.answer, self.line);
        assert_eq!(self.text("outcome"), code, "{}\n{}", self.answer, self.line);
        assert!(self.text("error").contains(cause), "{cause}: {}", self.line);
        let meta = &self.answer["result"]["structuredContent"]["telemetryId"];
        assert!(meta.is_null() || *meta == self.id, "{}", self.answer);
    }
}

fn request_id(response: &reqwest::Response) -> String {
    let ids: Vec<_> = response.headers().get_all("x-request-id").iter().collect();
    assert_eq!(ids.len(), 1, "{} {:?}", response.url(), response.headers());
    ids[0].to_str().unwrap().to_owned()
}

/// Calls `echo` of a provider: in the meta view, in the tool view, on the relay.
async fn everywhere(world: &World, id: &str) -> Vec<(&'static str, AnsweredRequest)> {
    let mut all = Vec::new();
    let arguments = json!({ "text": "hi" });
    for (view, path, params) in [
        (
            "meta",
            format!("/mcp/{id}"),
            json!({ "name": format!("use_{id}"), "arguments": { "tool": "echo", "arguments": arguments } }),
        ),
        (
            "tool",
            format!("/tools/{id}"),
            json!({ "name": "echo", "arguments": arguments }),
        ),
        (
            "relay",
            format!("/relay/{id}"),
            json!({ "name": "echo", "arguments": arguments }),
        ),
    ] {
        let client = unconnected(world, &path);
        let response = client.send("tools/call", params).await;
        all.push((view, AnsweredRequest::of(world, response).await));
    }
    all
}

/// A client that said nothing yet.
pub fn unconnected(world: &World, path: &str) -> TestClient {
    TestClient {
        http: super::world::http(),
        url: format!("{}{path}", world.base),
        revision: REVISION,
        session: None,
        headers: Vec::new(),
        initialized: Value::Null,
        next: 1.into(),
    }
}

/// Whether a series of calls is there.
async fn is_counted(world: &World, id: &str, view: &str, outcome: &str) -> bool {
    let labels = [
        format!("provider=\"{id}\""),
        format!("view=\"{view}\""),
        format!("outcome=\"{outcome}\""),
    ];
    let page = world.metrics().await;
    page.lines().any(|line| {
        line.starts_with("pleiades_calls_total{")
            && !line.ends_with(" 0")
            && labels.iter().all(|label| line.contains(label))
    })
}

/// A web server that is no MCP server.
pub async fn web_server() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let page = || async { ([(CONTENT_TYPE, "text/html")], "<title>Welcome to nginx</title>") };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(page)).await });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_provider_has_one_code_everywhere_and_its_cause_in_the_log_alone() {
    let none = "auth: { none: {} }\n";
    let (keyed, hanging) = (
        FakeServer::start(&[REVISION]).await,
        FakeServer::start(&[REVISION]).await,
    );
    keyed.knobs.refuses.store(true, Ordering::Relaxed);
    hanging.knobs.hangs.store(true, Ordering::Relaxed);
    let (port, web) = (free_port(), web_server().await);
    let own_key = "auth: { api_key: { header: X-Key, value: \"${THE_KEY}\" } }\n";
    let slow = "upstream: { url: \"URL\", timeouts: { call: 1s } }\n".replace("URL", &hanging.url);
    let world = World::builder()
        .descriptor(
            "down",
            &format!("upstream: {{ url: \"http://127.0.0.1:{port}/mcp\" }}\n{none}"),
        )
        .descriptor(
            "lost",
            &format!("upstream: {{ url: \"http://no-such-host.invalid/mcp\" }}\n{none}"),
        )
        .descriptor(
            "gone",
            &format!("upstream: {{ command: [sh, -c, \"echo no DATABASE_URL >&2; exit 3\"] }}\n{none}"),
        )
        .descriptor(
            "missing",
            &format!("upstream: {{ command: [no-such-program-1] }}\n{none}"),
        )
        .descriptor("web", &format!("upstream: {{ url: \"{web}\" }}\n{none}"))
        .descriptor("slow", &format!("{slow}{none}"))
        .provider_with("keyed", &keyed, own_key)
        .env("THE_KEY", "a-key-of-ours")
        .logged()
        .start()
        .await;
    let refused = format!("127.0.0.1:{port}: Connection refused (os error 111)");
    for (id, code, cause, level) in [
        ("down", "upstream_unreachable", refused.as_str(), "INFO"),
        ("lost", "upstream_unreachable", "no-such-host.invalid: ", "INFO"),
        (
            "gone",
            "upstream_unreachable",
            "exit status: 3: no DATABASE_URL",
            "INFO",
        ),
        (
            "missing",
            "upstream_unreachable",
            "no-such-program-1: No such file",
            "INFO",
        ),
        ("web", "upstream_protocol", "status 200, text/html", "INFO"),
        ("slow", "upstream_timeout", "`upstream.timeouts.call`", "INFO"),
        ("keyed", "upstream_auth", "status 401", "WARN"),
    ] {
        for (view, ended) in everywhere(&world, id).await {
            // The relay passes on what a web server answers; its body is nobody's to look into.
            if (id, view) == ("web", "relay") {
                continue;
            }
            ended.says(code, cause);
            assert_eq!(ended.text("level"), level, "{}", ended.line);
            assert_eq!(ended.text("provider.name"), id, "{}", ended.line);
            assert!(is_counted(&world, id, view, code).await, "{id} {view}");
            let answer = ended.answer.to_string();
            for hidden in [
                "127.0.0.1",
                ".invalid",
                "os error",
                "nginx",
                "DATABASE_URL",
                "a-key-of-ours",
            ] {
                assert!(!answer.contains(hidden), "{hidden}: {answer}");
            }
        }
    }
    let log = format!("{:?}", world.log());
    assert!(log.contains("no DATABASE_URL") && log.contains("Welcome to nginx"));
    assert!(!log.contains("a-key-of-ours"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_has_its_own_code_everywhere_and_the_log_says_the_rule() {
    let (one, frail) = (
        FakeServer::start(&[REVISION]).await,
        FakeServer::start(&[REVISION]).await,
    );
    let none = "auth: { none: {} }\n";
    let breaker = format!("{none}limits: {{ breaker: {{ failures: 1, within: 1m, open_for: 1h }} }}\n");
    let rate = format!("{none}limits: {{ rate: [{{ per: provider, requests: 1, every: 1h, burst: 1 }}] }}\n");
    let world = World::builder()
        .provider_with("full", &one, &format!("{none}limits: {{ concurrency: 1 }}\n"))
        .provider_with("frail", &frail, &breaker)
        .provider_with("spent", &one, &rate)
        .logged()
        .start()
        .await;
    for id in ["full", "frail", "spent"] {
        world.until_state(id, "ready").await;
    }
    let running = {
        let client = TestClient::connect(&world, "/tools/full", REVISION).await;
        tokio::spawn(async move { client.call("wait", json!({})).await })
    };
    world
        .until("the call to arrive", || async {
            one.knobs.waiting.load(Ordering::SeqCst) == 1
        })
        .await;
    let spent = TestClient::connect(&world, "/tools/spent", REVISION).await;
    spent.call("echo", json!({ "text": "x" })).await;
    let unlucky = TestClient::connect(&world, "/tools/frail", REVISION).await;
    frail.knobs.fails.store(true, Ordering::Relaxed);
    unlucky.call("echo", json!({ "text": "x" })).await;
    for (id, code, rule) in [
        ("full", "busy", "concurrency"),
        ("frail", "breaker_open", "breaker"),
        ("spent", "rate_limited", "rate_provider"),
    ] {
        for (view, ended) in everywhere(&world, id).await {
            ended.says(code, &format!("rule {rule}"));
            if view == "meta" {
                let answer = &ended.answer["result"]["structuredContent"];
                assert_eq!(answer["status"], "rate_limited", "{answer}");
            }
        }
    }
    one.knobs.release.notify_waiters();
    running.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_down_and_a_renewal_that_fails_are_told_apart() {
    let authority = Authority::start(&GENERATIONS).await;
    let tracker = format!(
        "upstream: {{ url: \"{}\", timeouts: {{ call: 3s }} }}\nauth: {{ oauth: {{}} }}\n",
        authority.resource
    );
    let port = free_port();
    let world = World::builder()
        .descriptor("tracker", &tracker)
        .settings(&format!(
            "vault: {{ hashicorp: {{ address: \"http://127.0.0.1:{port}\", auth: {{ token: a-token }} }} }}\n"
        ))
        .logged()
        .launch();
    world
        .until("the gateway to listen", || async {
            let health = world.http.get(format!("{}/health", world.admin)).send().await;
            health.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
    for (_, ended) in everywhere(&world, "tracker").await {
        ended.says("credential_store", "");
        assert_eq!(ended.text("level"), "WARN", "{}", ended.line);
        assert!(!ended.text("error").is_empty(), "{}", ended.line);
        let answer = ended.answer.to_string();
        assert!(
            !answer.contains("127.0.0.1") && !answer.contains("vault"),
            "{answer}"
        );
    }

    let world = World::builder()
        .descriptor("tracker", &tracker)
        .logged()
        .start()
        .await;
    let client = TestClient::connect(&world, "/mcp/tracker", REVISION).await;
    let call =
        json!({ "name": "use_tracker", "arguments": { "tool": "echo", "arguments": { "text": "x" } } });
    let invited = client.result("tools/call", call.clone()).await;
    assert_eq!(
        invited["structuredContent"]["data"]["code"], "needs_auth",
        "{invited}"
    );
    let link = invited["structuredContent"]["data"]["connect_url"]
        .as_str()
        .unwrap();
    assert_eq!(Browser::default().connect(link, &[]).await.status, 200);
    assert_eq!(
        client.result("tools/call", call.clone()).await["structuredContent"]["status"],
        "ok"
    );
    authority.fail("/token", EndpointFault::Says(503, json!({})), 99);
    authority.expire();
    let ended = AnsweredRequest::of(&world, client.send("tools/call", call).await).await;
    ended.says("credential_timeout", "");
    assert!(!ended.text("error").is_empty(), "{}", ended.line);
    assert_eq!(ended.answer["result"]["structuredContent"]["status"], "timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_providers_own_error_stands_beside_our_code_and_its_words_are_logged_without_its_key() {
    let fake = FakeServer::start(&[REVISION]).await;
    let own_key = "auth: { api_key: { header: X-Key, value: \"${THE_KEY}\" } }\n";
    let world = World::builder()
        .provider_with("one", &fake, own_key)
        .env("THE_KEY", "hunter2hunter2")
        .logged()
        .start()
        .await;
    world.until_state("one", "ready").await;
    // The fake answers an unknown tool with an error that repeats its name.
    fake.knobs.tools.lock().retain(|tool| tool["name"] != "wait");
    let meta = TestClient::connect(&world, "/mcp/one", REVISION).await;
    let failing = json!({ "name": "use_one", "arguments": { "tool": "fail", "arguments": { "text": "x" } } });
    let ended = AnsweredRequest::of(&world, meta.send("tools/call", failing).await).await;
    ended.says("tool_error", "a failure of its own");
    assert_eq!(ended.text("level"), "INFO");

    let tools = TestClient::connect(&world, "/tools/one", REVISION).await;
    let failing = json!({ "name": "fail", "arguments": { "text": "x" } });
    let ended = AnsweredRequest::of(&world, tools.send("tools/call", failing).await).await;
    assert_eq!(ended.text("outcome"), "tool_error", "{}", ended.line);
    assert_eq!(ended.answer["result"]["content"][0]["text"], "fail: x");
    assert!(is_counted(&world, "one", "tool", "tool_error").await);

    let unread = json!({ "uri": "fake://none" });
    let ended = AnsweredRequest::of(&world, tools.send("resources/read", unread).await).await;
    assert_eq!(
        ended.answer["error"],
        json!({ "code": -32002, "message": "Resource not found" })
    );
    assert_eq!(ended.text("outcome"), "upstream_error");
    assert_eq!(ended.text("error"), "-32002: Resource not found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_provider_that_repeats_its_credential_shows_it_to_no_caller() {
    let tools = ["fail", "echo", "key-hunter2hunter2"].map(super::world::provider::tool);
    let fake = FakeServer::start_paged(&[REVISION], 10, tools.to_vec()).await;
    let own_key = "auth: { api_key: { header: X-Key, value: \"${THE_KEY}\" } }\n";
    let world = World::builder()
        .provider_with("one", &fake, own_key)
        .env("THE_KEY", "hunter2hunter2")
        .logged()
        .start()
        .await;
    world.until_state("one", "ready").await;
    // The fake repeats a text in the result of `fail`, and the name of a tool that it does not know any more.
    fake.knobs
        .tools
        .lock()
        .retain(|tool| tool["name"] != "key-hunter2hunter2");
    let given = json!({ "text": "hunter2hunter2" });
    for (name, shown) in [("fail", "fail: …"), ("key-hunter2hunter2", "Unknown tool: key-…")] {
        for view in ["meta", "tool"] {
            let (path, params) = match view {
                "meta" => (
                    "/mcp/one",
                    json!({ "name": "use_one", "arguments": { "tool": name, "arguments": given } }),
                ),
                _ => ("/tools/one", json!({ "name": name, "arguments": given })),
            };
            let client = TestClient::connect(&world, path, REVISION).await;
            let ended = AnsweredRequest::of(&world, client.send("tools/call", params).await).await;
            let answer = ended.answer.to_string();
            assert!(
                answer.contains(shown) && !answer.contains("hunter2hunter2"),
                "{view}: {answer}"
            );
        }
    }
    // What succeeds is passed on as it came.
    let client = TestClient::connect(&world, "/tools/one", REVISION).await;
    assert_eq!(
        client.call("echo", given).await["content"][0]["text"],
        "echo: hunter2hunter2"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_not_there_is_named_also_while_its_start_is_put_off() {
    let body = "upstream: { command: [no-such-program-1] }\nauth: { none: {} }\n";
    let world = World::builder().descriptor("gone", body).logged().start().await;
    world.until_state("gone", "unreachable").await;
    let call = || unconnected(&world, "/tools/gone");
    let mut is_put_off = false;
    for _ in 0..40 {
        let sent = call()
            .send("tools/call", json!({ "name": "echo", "arguments": {} }))
            .await;
        let ended = AnsweredRequest::of(&world, sent).await;
        ended.says("upstream_unreachable", "no-such-program-1: No such file");
        is_put_off |= ended.answer.to_string().contains("started again later");
        if is_put_off {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
    assert!(is_put_off);
    let is_warning = |line: &Value| line["level"] == "WARN" && line["provider.name"] == "gone";
    let warnings: Vec<_> = world.log().into_iter().filter(is_warning).collect();
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_of_both_listeners_names_its_request_and_takes_no_name_over() {
    let fake = FakeServer::start(&[REVISION]).await;
    let world = World::builder().provider("one", &fake).logged().start().await;
    world.until_state("one", "ready").await;
    let ours = world.base.clone();
    let mut seen = Vec::new();
    let mut ids = |response: &reqwest::Response| {
        let id = request_id(response);
        assert_ne!(id, "theirs");
        assert!(!seen.contains(&id), "{id} twice");
        seen.push(id.clone());
        id
    };
    for path in [
        "/health",
        "/nowhere",
        "/mcp",
        "/mcp/one",
        "/mcp/none",
        "/tools/one",
        "/relay/one",
        "/relay/none",
        "/oauth/connect/x",
        "/oauth/callback",
        "/oauth/client-metadata.json",
        "/v1/accounts",
        "/v1/connections/x",
        "/mcp/../x",
    ] {
        for method in [http::Method::GET, http::Method::POST, http::Method::OPTIONS] {
            let request = world.http.request(method, format!("{ours}{path}"));
            let response = request.header("x-request-id", "theirs").send().await.unwrap();
            ids(&response);
        }
    }
    for (name, value) in [("host", "evil.example"), ("origin", "http://evil.example")] {
        let request = world.http.get(format!("{ours}/mcp")).header(name, value);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 403);
        let line = world.line(&ids(&response)).await;
        assert_eq!(line["outcome"], format!("{name}_refused"), "{line}");
        assert!(line["error"].as_str().unwrap().contains("evil.example"), "{line}");
    }
    let preflight = world.http.request(http::Method::OPTIONS, format!("{ours}/mcp"));
    let preflight = preflight
        .header("origin", &ours)
        .header("access-control-request-method", "POST");
    let response = preflight.send().await.unwrap();
    let exposed = response.headers()["access-control-expose-headers"]
        .to_str()
        .unwrap();
    assert!(exposed.contains("X-Request-Id"), "{exposed}");
    ids(&response);
    for path in [
        "/metrics",
        "/health",
        "/ready",
        "/providers",
        "/nowhere",
        "/v1/accounts/a/b/c/d",
    ] {
        let request = world.http.get(format!("{}{path}", world.admin));
        let response = request.header("x-request-id", "theirs").send().await.unwrap();
        let (status, id) = (response.status(), ids(&response));
        if status.is_client_error() {
            let line = world.line(&id).await;
            assert_eq!(
                (&line["method"], &line["outcome"]),
                (&json!("admin"), &json!("unknown_path"))
            );
        }
    }
    let tools = TestClient::connect(&world, "/tools/one", REVISION).await;
    let stream = tools.stream().await;
    assert_eq!(stream.status(), 200);
    ids(&stream);
    let progress =
        json!({ "name": "progress", "arguments": { "text": "x" }, "_meta": { "progressToken": 1 } });
    let streamed = tools.send("tools/call", progress).await;
    assert_eq!(streamed.headers()["content-type"], "text/event-stream");
    let line = world.line(&ids(&streamed)).await;
    assert_eq!(line["outcome"], "ok", "{line}");
    assert!(line.get("error").is_none(), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_relay_the_id_is_ours_and_a_status_that_passes_has_its_class_for_a_name() {
    let fake = FakeServer::start(&[REVISION]).await;
    let world = World::builder().provider("one", &fake).logged().start().await;
    world.until_state("one", "ready").await;
    let relay = TestClient::connect(&world, "/relay/one", REVISION).await;
    let params = json!({ "name": "echo", "arguments": { "text": "x" } });
    let ended = AnsweredRequest::of(&world, relay.send("tools/call", params.clone()).await).await;
    assert_eq!(ended.text("outcome"), "ok", "{}", ended.line);
    fake.expire_sessions();
    let ended = AnsweredRequest::of(&world, relay.send("tools/call", params.clone()).await).await;
    assert_eq!(ended.text("outcome"), "http_4xx", "{}", ended.line);
    assert_eq!(ended.text("error"), "status 404, application/json");
    fake.knobs.fails.store(true, Ordering::Relaxed);
    let ended = AnsweredRequest::of(&world, relay.send("tools/call", params).await).await;
    assert_eq!(ended.text("outcome"), "http_5xx", "{}", ended.line);
    assert!(ended.text("error").starts_with("status 500"), "{}", ended.line);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_says_what_was_wrong_with_it_and_counts_in_its_view() {
    let fake = FakeServer::start(&[REVISION]).await;
    let world = World::builder().provider("one", &fake).logged().start().await;
    world.until_state("one", "ready").await;
    let client = TestClient::connect(&world, "/mcp/one", REVISION).await;
    let ended = AnsweredRequest::of(&world, client.post().body("{").send().await.unwrap()).await;
    ended.says("parse", "");
    assert!(!ended.text("error").is_empty(), "{}", ended.line);
    assert!(is_counted(&world, "one", "meta", "parse").await);
    let call = json!({ "name": "use_one", "arguments": { "tool": "echo", "arguments": { "txt": [] } } });
    let ended = AnsweredRequest::of(&world, client.send("tools/call", call).await).await;
    ended.says("invalid_arguments", "arguments.");
    let call = json!({ "name": "use_one", "arguments": { "tool": "frobnicate", "arguments": {} } });
    let ended = AnsweredRequest::of(&world, client.send("tools/call", call).await).await;
    ended.says("unknown_tool", "no operation of this name");
    let wrong = unconnected(&world, "/wrong/way").send("ping", json!({})).await;
    AnsweredRequest::of(&world, wrong)
        .await
        .says("unknown_path", "`/wrong/way`");
    let none = unconnected(&world, "/mcp/none").send("ping", json!({})).await;
    AnsweredRequest::of(&world, none)
        .await
        .says("unknown_provider", "`none`");
    let old = unconnected(&world, "/mcp/one");
    let params = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "x", "version": "0" } });
    let opened = AnsweredRequest::of(&world, old.send("initialize", params).await).await;
    assert_eq!(opened.text("mcp.revision"), "2025-06-18", "{}", opened.line);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_local_caller_is_told_why_a_provider_does_not_run_and_nobody_else_is() {
    let broken = |world: World| {
        let folder = world.providers();
        std::fs::write(folder.join("torn.yaml"), "id: torn\nupstream: {}\n").unwrap();
        std::fs::write(
            folder.join("off.yaml"),
            "id: off\nenabled: false\nupstream: { url: \"https://a.example/mcp\" }\nauth: { none: {} }\n",
        )
        .unwrap();
        world
    };
    let asked = async |world: &World, headers: &[(&str, &str)]| {
        let mut words = Vec::new();
        for id in ["torn", "off"] {
            let client = TestClient {
                headers: headers
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                    .collect(),
                ..unconnected(world, &format!("/mcp/{id}"))
            };
            let answer = client.request("ping", json!({})).await;
            assert_eq!(answer["error"]["data"]["code"], "unknown_provider", "{answer}");
            words.push(answer["error"]["message"].as_str().unwrap().to_owned());
            for (path, name) in [("/mcp", format!("use_{id}")), ("/tools", format!("{id}__echo"))] {
                let client = TestClient {
                    url: format!("{}{path}", world.base),
                    headers: client.headers.clone(),
                    ..unconnected(world, path)
                };
                let answer = client
                    .request("tools/call", json!({ "name": name, "arguments": {} }))
                    .await;
                words.push(answer["error"]["message"].as_str().unwrap().to_owned());
            }
        }
        words
    };
    let world = broken(World::builder().start().await);
    world.until_state("torn", "unreachable").await;
    world.until_state("off", "disabled").await;
    let local = asked(&world, &[]).await;
    assert!(
        local[..3].iter().all(|it| it.contains("`pleiades check`")),
        "{local:?}"
    );
    assert!(
        local[3..].iter().all(|it| it.contains("`enabled: false`")),
        "{local:?}"
    );

    let key = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
    let access = format!("access: {{ api_keys: [{{ name: a, tenant: t, user: u, sha256: {key} }}] }}\n");
    let world = broken(World::builder().settings(&access).start().await);
    world.until_state("torn", "unreachable").await;
    world.until_state("off", "disabled").await;
    let other = asked(&world, &[("x-api-key", "secret")]).await;
    let leaks = |it: &String| it.contains("check") || it.contains("enabled") || it.contains("run");
    assert!(!other.iter().any(leaks), "{other:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_down_is_worth_another_try_later_and_somebody_has_to_act() {
    let down = format!(
        "upstream: {{ url: \"http://127.0.0.1:{}/mcp\" }}\nauth: {{ none: {{}} }}\n",
        free_port()
    );
    let world = World::builder().descriptor("down", &down).start().await;
    for path in ["/mcp/down", "/tools/down", "/relay/down"] {
        let name = if path == "/mcp/down" { "use_down" } else { "echo" };
        let arguments = json!({ "tool": "echo", "arguments": { "text": "x" } });
        let call = json!({ "name": name, "arguments": arguments });
        let answer = unconnected(&world, path).request("tools/call", call).await;
        let data = match answer.get("result") {
            Some(result) => {
                let text = result["content"][0]["text"].as_str().unwrap();
                assert!(text.contains("`pleiades doctor down`"), "{text}");
                assert!(!text.contains("may be made again"), "{text}");
                &result["structuredContent"]["data"]
            }
            None => &answer["error"]["data"],
        };
        assert!(data["retry_after"].as_u64().unwrap() >= 1, "{path}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_last_account_is_revoked_that_is_said_and_not_that_there_was_none() {
    let authority = Authority::start(&GENERATIONS).await;
    let tracker = format!(
        "upstream: {{ url: \"{}\" }}\nauth: {{ oauth: {{}} }}\n",
        authority.resource
    );
    let world = World::builder().descriptor("tracker", &tracker).start().await;
    let client = TestClient::connect(&world, "/mcp/tracker", REVISION).await;
    let call = || json!({ "tool": "echo", "arguments": { "text": "x" } });
    let invited = client.call("use_tracker", call()).await;
    let link = invited["structuredContent"]["data"]["connect_url"]
        .as_str()
        .unwrap();
    assert_eq!(Browser::default().connect(link, &[]).await.status, 200);
    let listed = world
        .http
        .get(format!("{}/v1/accounts", world.base))
        .send()
        .await
        .unwrap();
    let account = body(listed).await["accounts"][0]["accountId"]
        .as_str()
        .unwrap()
        .to_owned();
    let revoked = world
        .http
        .delete(format!("{}/v1/accounts/tracker/{account}", world.base));
    assert_eq!(revoked.send().await.unwrap().status(), 204);
    let invited = client.call("use_tracker", call()).await;
    let text = invited["content"][0]["text"].as_str().unwrap();
    assert!(
        !text.contains("never") && text.contains("the connection was revoked"),
        "{text}"
    );
}
