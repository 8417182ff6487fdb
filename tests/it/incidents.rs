//! What an operator reads when something goes wrong: each incident of the table in `docs/LOGGING.md` is made
//! with the real binary, and the line that the table promises is looked for in its log.
//!
//! The table is the test's data: a row without an incident here fails, and so does an incident without a row.

use std::sync::atomic::Ordering::SeqCst;

use serde_json::{Value, json};

use crate::metrics::FakeRedis;
use crate::world::authorization::{Authority, EndpointFault};
use crate::world::{Browser, Builder, FakeServer, TestClient, World, free_port};

/// The revision that clients speak here; none of this depends on it.
const REVISION: &str = "2025-11-25";
const HEADING: &str = "## Incidents";

/// A row of the table.
#[derive(Debug)]
pub struct IncidentRow {
    pub incident: String,
    pub level: String,
    pub message: String,
    pub outcome: String,
    /// Text with `{placeholders}`, each of which stands for any text; empty: the line has no such field.
    pub error: String,
}

/// The rows of the page.
pub fn rows() -> Vec<IncidentRow> {
    let page = include_str!("../../docs/LOGGING.md");
    let (_, section) = page.split_once(HEADING).expect("the section of incidents");
    let table = section.lines().skip_while(|line| !line.starts_with("| ---"));
    table
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let line = line.replace("\\|", "\u{1}");
            let cells: Vec<String> = line
                .trim_matches('|')
                .split('|')
                .map(|cell| cell.trim().trim_matches('`').replace('\u{1}', "|"))
                .collect();
            let [incident, level, message, outcome, error] =
                cells.try_into().expect("five columns in each row");
            IncidentRow {
                incident,
                level,
                message,
                outcome,
                error,
            }
        })
        .collect()
}

impl IncidentRow {
    /// Whether a line is the one that the page promises.
    fn is_met_by(&self, line: &Value) -> bool {
        let text = |name: &str| line[name].as_str().unwrap_or_default();
        text("level").eq_ignore_ascii_case(&self.level)
            && fits(&self.message, text("message"))
            && self.outcome == text("outcome")
            && fits(&self.error, text("error"))
    }
}

/// Whether a text is what a pattern says; a placeholder stands for one character at least.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((before, rest)) = pattern.split_once('{') else {
        return pattern == text;
    };
    let after = rest.split_once('}').map_or("", |(_, after)| after);
    let Some(text) = text.strip_prefix(before) else {
        return false;
    };
    (1..=text.len()).any(|at| text.is_char_boundary(at) && fits(after, &text[at..]))
}

/// Waits for the line of an incident.
async fn expect(world: &World, incident: &str) -> Value {
    let rows = rows();
    let row = rows
        .iter()
        .find(|row| row.incident == incident)
        .unwrap_or_else(|| panic!("`{incident}` has no row in docs/LOGGING.md"));
    let started = std::time::Instant::now();
    loop {
        let lines = world.log();
        if let Some(line) = lines.iter().find(|line| row.is_met_by(line)) {
            return line.clone();
        }
        assert!(
            started.elapsed() < crate::world::GUARD,
            "{row:#?}\nis none of\n{}",
            lines.iter().map(|line| format!("{line}\n")).collect::<String>()
        );
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

fn one(url: &str) -> Builder {
    let body = format!("upstream: {{ url: \"{url}\" }}\nauth: {{ none: {{}} }}\n");
    World::builder().descriptor("one", &body).logged()
}

fn process(command: &str) -> Builder {
    let body =
        format!("upstream: {{ command: {command}, timeouts: {{ connect: 2s }} }}\nauth: {{ none: {{}} }}\n");
    World::builder().descriptor("one", &body).logged()
}

/// A provider whose users connect accounts, and one that is connected.
async fn connected(authority: &Authority) -> (World, TestClient) {
    let body = format!(
        "upstream: {{ url: \"{}\" }}\nauth: {{ oauth: {{}} }}\n",
        authority.resource
    );
    let world = World::builder().descriptor("one", &body).logged().start().await;
    let client = TestClient::connect(&world, "/mcp", REVISION).await;
    let url = invitation(&client).await;
    let page = Browser::default().connect(&url, &[]).await;
    assert_eq!(page.status, 200, "{}", page.body);
    (world, client)
}

fn echo() -> Value {
    json!({ "tool": "echo", "arguments": { "text": "hi" } })
}

async fn invitation(client: &TestClient) -> String {
    let called = client.call("use_one", echo()).await;
    let url = &called["structuredContent"]["data"]["connect_url"];
    url.as_str().unwrap_or_else(|| panic!("{called}")).to_owned()
}

/// Makes an incident and gives the world in which it happened.
async fn make(incident: &str) -> World {
    match incident {
        "a provider is down" => {
            one(&format!("http://127.0.0.1:{}/mcp", free_port()))
                .start()
                .await
        }
        "its name is unknown to DNS" => one("https://no-such-host.invalid/mcp").start().await,
        "its certificate is of a private CA" => private_ca().await,
        "a web server that speaks no MCP" => website().await,
        "a process ends with a message" => {
            process(r#"[sh, -c, "echo no DATABASE_URL >&2; exit 3"]"#)
                .start()
                .await
        }
        "a program is not there" => process("[no-such-program-anywhere]").start().await,
        "a provider hangs" => hanging().await,
        "the operator's API key is refused" => refused_key().await,
        "a provider answers with an error of its own" => own_error().await,
        "a tool reports a failure of its own" => demo("fail", json!({})).await,
        "arguments do not fit" => demo("echo", json!({ "mesage": "a secret" })).await,
        "an operation that does not exist" => demo("no_such", json!({})).await,
        "a rate limit" => limited("rate: [{ per: caller, requests: 1, every: 1h }]", 2).await,
        "the concurrency limit" => concurrency().await,
        "the breaker opens" | "the breaker is open" => {
            limited("breaker: { failures: 2, within: 1m, open_for: 10m }", 4).await
        }
        "a caller without an account" => {
            let authority = Authority::start(&[REVISION]).await;
            let body = format!(
                "upstream: {{ url: \"{}\" }}\nauth: {{ oauth: {{}} }}\n",
                authority.resource
            );
            let world = World::builder().descriptor("one", &body).logged().start().await;
            let client = TestClient::connect(&world, "/mcp", REVISION).await;
            invitation(&client).await;
            world
        }
        "a person cancels a connection" => cancelled().await,
        "the authorization server is down" => no_authority().await,
        "a renewal is refused" => renewal(400, json!({ "error": "invalid_grant" })).await,
        "a renewal fails for now" => renewal(503, json!({})).await,
        "the vault has another key" => other_key().await,
        "HashiCorp Vault is away" => {
            let settings = format!(
                "vault: {{ hashicorp: {{ address: \"http://127.0.0.1:{}\", auth: {{ token: t }} }} }}\n",
                free_port()
            );
            World::builder().settings(&settings).logged().launch()
        }
        "HashiCorp Vault is sealed" => hashicorp(503, "Vault is sealed").await,
        "HashiCorp Vault denies" => hashicorp(403, "permission denied").await,
        "a descriptor is broken" => {
            let world = World::builder()
                .descriptor("one", "upstream: { url: nowhere }\n")
                .logged();
            world.start().await
        }
        "a descriptor that ran is broken" => broken_later().await,
        "the folder is emptied" => emptied().await,
        "the folder is empty at the start" => World::builder().logged().start().await,
        "Redis ends while the gateway runs" => ended_redis().await,
        "Redis is away" => {
            let settings = format!(
                "shared_state: {{ redis: \"redis://127.0.0.1:{}/\" }}\n",
                free_port()
            );
            World::builder().settings(&settings).logged().launch()
        }
        "a port is in use" => port_in_use().await,
        other => panic!("nobody makes `{other}`"),
    }
}

async fn ended_redis() -> World {
    let redis = FakeRedis::start().await;
    redis.is_open.store(true, SeqCst);
    let settings = format!("shared_state: {{ redis: \"{}\" }}\n", redis.url);
    let world = World::builder().settings(&settings).logged().start().await;
    let is_up = || async { world.metrics().await.contains("pleiades_shared_state_up 1") };
    world.until("Redis to be reached", is_up).await;
    redis.end();
    world
}

async fn private_ca() -> World {
    let (cert, key) = ("server.pem", "server.key");
    let tls = World::builder().settings(&format!("tls: {{ cert_file: {cert}, key_file: {key} }}\n"));
    let server = tls
        .file(
            cert,
            include_str!("../../crates/pleiades-upstream/src/tests/tls/server.pem"),
        )
        .file(
            key,
            include_str!("../../crates/pleiades-upstream/src/tests/tls/server.key"),
        )
        .start()
        .await;
    let url = server.base.replace("http://127.0.0.1", "https://localhost");
    let world = one(&format!("{url}/mcp")).start().await;
    expect(&world, "its certificate is of a private CA").await;
    world
}

/// A server that answers everything in the same way; it ends with the test's runtime.
async fn answering(status: u16, kind: &'static str, body: &'static str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = move || async move {
        axum::response::Response::builder()
            .status(status)
            .header("content-type", kind)
            .body(axum::body::Body::from(body))
            .unwrap()
    };
    let app = axum::Router::new().fallback(answer);
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}")
}

async fn website() -> World {
    let url = answering(200, "text/html", "<html><title>Welcome to nginx!</title></html>").await;
    one(&format!("{url}/mcp")).start().await
}

async fn hanging() -> World {
    let fake = FakeServer::start(&[REVISION]).await;
    fake.knobs.hangs.store(true, SeqCst);
    let body = format!(
        "upstream: {{ url: \"{}\", timeouts: {{ connect: 1s, call: 1s }} }}\nauth: {{ none: {{}} }}\n",
        fake.url
    );
    World::builder().descriptor("one", &body).logged().start().await
}

async fn refused_key() -> World {
    let fake = FakeServer::start(&[REVISION]).await;
    fake.knobs.refuses.store(true, SeqCst);
    let auth = "auth: { api_key: { header: x-key, value: \"${KEY}\" } }\n";
    let world = World::builder()
        .provider_with("one", &fake, auth)
        .env("KEY", "a-key");
    let world = world.logged().start().await;
    world.until_state("one", "degraded").await;
    let metrics = world.metrics().await;
    assert!(
        metrics.contains("pleiades_providers{state=\"degraded\"} 1"),
        "{metrics}"
    );
    world
}

async fn own_error() -> World {
    // It has listed a tool that it does not know any more when it is called.
    let tools = vec![crate::world::provider::tool("phantom")];
    let fake = FakeServer::start_paged(&[REVISION], 10, tools).await;
    let world = World::builder().provider("one", &fake).logged().start().await;
    world.until_state("one", "ready").await;
    fake.knobs.tools.lock().clear();
    let client = TestClient::connect(&world, "/tools/one", REVISION).await;
    client
        .request("tools/call", json!({ "name": "phantom", "arguments": {} }))
        .await;
    world
}

/// A call of the demo in the meta view.
async fn demo(tool: &str, arguments: Value) -> World {
    let world = process("[pleiades, demo]").start().await;
    world.until_state("one", "ready").await;
    let client = TestClient::connect(&world, "/mcp", REVISION).await;
    client
        .call("use_one", json!({ "tool": tool, "arguments": arguments }))
        .await;
    world
}

/// So many calls of a provider under a limit; where it is the breaker the provider is down meanwhile.
async fn limited(limits: &str, calls: usize) -> World {
    let fake = FakeServer::start(&[REVISION]).await;
    let rest = format!("auth: {{ none: {{}} }}\nlimits: {{ {limits} }}\n");
    let world = World::builder()
        .provider_with("one", &fake, &rest)
        .logged()
        .start()
        .await;
    world.until_state("one", "ready").await;
    let client = TestClient::connect(&world, "/tools/one", REVISION).await;
    fake.knobs.fails.store(limits.contains("breaker"), SeqCst);
    for _ in 0..calls {
        let echo = json!({ "name": "echo", "arguments": { "text": "hi" } });
        client.request("tools/call", echo).await;
    }
    world
}

async fn concurrency() -> World {
    let fake = FakeServer::start(&[REVISION]).await;
    let rest = "auth: { none: {} }\nlimits: { concurrency: 1 }\n";
    let world = World::builder()
        .provider_with("one", &fake, rest)
        .logged()
        .start()
        .await;
    world.until_state("one", "ready").await;
    let waiting = TestClient::connect(&world, "/tools/one", REVISION).await;
    let waits = tokio::spawn(async move {
        let wait = json!({ "name": "wait", "arguments": {} });
        waiting.request("tools/call", wait).await
    });
    let is_waiting = || async { fake.knobs.waiting.load(SeqCst) == 1 };
    world.until("a call to run", is_waiting).await;
    let client = TestClient::connect(&world, "/tools/one", REVISION).await;
    let echo = json!({ "name": "echo", "arguments": { "text": "hi" } });
    client.request("tools/call", echo).await;
    fake.knobs.release.notify_one();
    waits.await.unwrap();
    world
}

async fn cancelled() -> World {
    let authority = Authority::start(&[REVISION]).await;
    authority.knobs.denies.store(true, SeqCst);
    let body = format!(
        "upstream: {{ url: \"{}\" }}\nauth: {{ oauth: {{}} }}\n",
        authority.resource
    );
    let world = World::builder().descriptor("one", &body).logged().start().await;
    let client = TestClient::connect(&world, "/mcp", REVISION).await;
    let url = invitation(&client).await;
    Browser::default().connect(&url, &[]).await;
    world
}

async fn no_authority() -> World {
    let fake = FakeServer::start(&[REVISION]).await;
    let away = format!("http://127.0.0.1:{}", free_port());
    let auth = format!(
        "auth: {{ oauth: {{ client_id: us, authorization_endpoint: \"{away}/authorize\", token_endpoint: \
         \"{away}/token\", token_auth: none }} }}\n"
    );
    // Its own sign-in page is never asked for by the gateway: the code is redeemed with nobody.
    let world = World::builder()
        .provider_with("one", &fake, &auth)
        .logged()
        .start()
        .await;
    let client = TestClient::connect(&world, "/mcp", REVISION).await;
    let url = invitation(&client).await;
    let browser = Browser::default();
    let begun = browser.begin(&url, &[]).await;
    let asked = url::Url::parse(&begun.location()).unwrap();
    let of = |name: &str| {
        let found = asked.query_pairs().find(|(key, _)| key == name);
        found.map(|(_, value)| value.into_owned()).unwrap_or_default()
    };
    browser
        .get(&format!(
            "{}?state={}&code=a-code",
            of("redirect_uri"),
            of("state")
        ))
        .await;
    world
}

/// A call whose token has ended, and whose renewal is answered so.
async fn renewal(status: u16, body: Value) -> World {
    let authority = Authority::start(&[REVISION]).await;
    let (world, client) = connected(&authority).await;
    let called = client.call("use_one", echo()).await;
    assert_eq!(called["structuredContent"]["status"], "ok", "{called}");
    authority.fail("/token", EndpointFault::Says(status, body), 100);
    authority.expire();
    client
        .request("tools/call", json!({ "name": "use_one", "arguments": echo() }))
        .await;
    world
}

async fn other_key() -> World {
    use pleiades_core::secret::Secret;
    use pleiades_credential::vault::file::{File, RootKey};
    use pleiades_credential::vault::{Path, Vault as _};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    let vault = File::new(
        Some(path.clone()),
        RootKey::Given(Secret::new("the first key, of more than 32 bytes")),
    );
    vault
        .write(&Path::of(&["c", "x"]), 0, &Secret::new("{}"), None)
        .await
        .unwrap();
    drop(vault);
    let settings = format!(
        "vault: {{ file: {{ path: \"{}\", key: \"another key, of more than 32 bytes\" }} }}\n",
        path.display()
    );
    let world = World::builder().settings(&settings).logged().start().await;
    assert!(world.metrics().await.contains("pleiades_vault_up 0\n"));
    world
}

async fn hashicorp(status: u16, words: &'static str) -> World {
    let body = match words {
        "permission denied" => r#"{"errors":["permission denied"]}"#,
        _ => r#"{"errors":["Vault is sealed"]}"#,
    };
    let url = answering(status, "application/json", body).await;
    let settings = format!("vault: {{ hashicorp: {{ address: \"{url}\", auth: {{ token: t }} }} }}\n");
    World::builder().settings(&settings).logged().launch()
}

async fn broken_later() -> World {
    let fake = FakeServer::start(&[REVISION]).await;
    let world = World::builder().provider("one", &fake).logged().start().await;
    world.until_state("one", "ready").await;
    std::fs::write(
        world.providers().join("one.yaml"),
        "id: one\nupstream: { url: nowhere }\n",
    )
    .unwrap();
    world.until_state("one", "stale").await;
    world
}

async fn emptied() -> World {
    let fake = FakeServer::start(&[REVISION]).await;
    let world = World::builder().provider("one", &fake).logged().start().await;
    world.until_state("one", "ready").await;
    std::fs::remove_file(world.providers().join("one.yaml")).unwrap();
    world
}

async fn port_in_use() -> World {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let world = World::builder().arguments(&["serve", "--listen", &address.to_string()]);
    let mut world = world.logged().launch();
    let mut process = world.process.take().unwrap();
    let ended = tokio::task::spawn_blocking(move || process.wait());
    assert_eq!(ended.await.unwrap().unwrap().code(), Some(69));
    world
}

async fn proves(incidents: &[&str]) {
    for incident in incidents {
        let world = make(incident).await;
        let line = expect(&world, incident).await;
        is_for_whoever_acts(&line);
    }
}

/// Every line that fails names whom it is about, where it is about anybody.
fn is_for_whoever_acts(line: &Value) {
    if line["target"] == "pleiades::request" {
        assert!(
            line["request.id"].is_string() && line["provider.name"].is_string(),
            "{line}"
        );
        assert!(
            line["principal.tenant"].is_string() && line["principal.user"].is_string(),
            "{line}"
        );
    }
    let message = line["message"].as_str().unwrap_or_default();
    if message.starts_with("a descriptor is broken") {
        assert_eq!(line["provider.name"], "one", "{line}");
    }
    if ["invalid_arguments", "tool_error"].contains(&line["outcome"].as_str().unwrap_or_default()) {
        assert!(
            ["echo", "fail"].contains(&line["tool.name"].as_str().unwrap()),
            "{line}"
        );
    }
    let of_account = ["tokens could not be renewed", "a connection"];
    if of_account
        .iter()
        .any(|it| line["message"].as_str().unwrap().starts_with(it))
    {
        for field in [
            "provider.name",
            "principal.tenant",
            "principal.user",
            "request.id",
        ] {
            assert!(line[field].is_string(), "{field} in {line}");
        }
    }
    if let Some(cure) = line["cure"]
        .as_str()
        .filter(|cure| cure.contains("`pleiades connect "))
        && let Some(account) = line["account.id"].as_str()
    {
        let whole = format!("--tenant default --user local --account {account}`");
        assert!(cure.contains(&whole), "{line}");
    }
    let fields = line.as_object().unwrap().keys();
    let page = include_str!("../../docs/LOGGING.md");
    for field in fields.filter(|key| !["timestamp", "level", "message", "target"].contains(&key.as_str())) {
        assert!(
            page.contains(&format!("`{field}`")),
            "`{field}` is not in docs/LOGGING.md"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn incidents_of_providers_are_explained_by_their_line() {
    proves(&[
        "a provider is down",
        "its name is unknown to DNS",
        "its certificate is of a private CA",
        "a web server that speaks no MCP",
        "a process ends with a message",
        "a program is not there",
        "a provider hangs",
        "the operator's API key is refused",
        "a provider answers with an error of its own",
        "a tool reports a failure of its own",
        "arguments do not fit",
        "an operation that does not exist",
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn incidents_of_limits_are_explained_by_their_line() {
    proves(&[
        "a rate limit",
        "the concurrency limit",
        "the breaker opens",
        "the breaker is open",
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn incidents_of_accounts_are_explained_by_their_line() {
    proves(&[
        "a caller without an account",
        "a person cancels a connection",
        "the authorization server is down",
        "a renewal is refused",
        "a renewal fails for now",
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn incidents_of_the_credential_store_are_explained_by_their_line() {
    proves(&[
        "the vault has another key",
        "HashiCorp Vault is away",
        "HashiCorp Vault is sealed",
        "HashiCorp Vault denies",
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn incidents_of_the_installation_are_explained_by_their_line() {
    proves(&[
        "a descriptor is broken",
        "a descriptor that ran is broken",
        "the folder is emptied",
        "the folder is empty at the start",
        "Redis ends while the gateway runs",
        "Redis is away",
        "a port is in use",
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_whose_id_token_names_the_account_warns_of_nothing() {
    let authority = Authority::start(&[REVISION]).await;
    authority.knobs.openid.store(true, SeqCst);
    authority.fail("/userinfo", EndpointFault::Says(403, json!({})), 9);
    let (world, client) = connected(&authority).await;
    let called = client.call("use_one", echo()).await;
    assert_eq!(called["structuredContent"]["status"], "ok", "{called}");
    let log = world.log();
    assert!(
        log.iter()
            .all(|line| line["level"] != "WARN" && line["level"] != "ERROR"),
        "{log:#?}"
    );
}

/// Which rows the tests above prove, read from this file.
#[test]
fn every_row_of_the_page_is_an_incident_that_is_made() {
    let own = include_str!("incidents.rs");
    let (_, tests) = own.split_once("async fn incidents_of_providers").unwrap();
    let rows = rows();
    assert!(rows.len() >= 20, "{} rows", rows.len());
    for row in &rows {
        assert!(
            tests.contains(&format!("\"{}\"", row.incident)),
            "{row:?} is proved by no test"
        );
    }
}

#[test]
fn a_placeholder_stands_for_some_text_and_the_rest_is_verbatim() {
    assert!(fits(
        "at {address}: {why} (os error 111)",
        "at 127.0.0.1:9: refused (os error 111)"
    ));
    assert!(!fits("at {address}", "at "));
    assert!(!fits("refused", "refused twice"));
}
