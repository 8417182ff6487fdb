//! Accounts at the edges: the caller's own, everybody's for operators, refreshes by signature, the
//! stream that connects, and the commands that do the same from a terminal.

use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use reqwest::Method;
use ring::digest::{SHA256, digest};
use ring::hmac;
use serde_json::{Value, json};

use crate::world::{Authority, Browser, FakeServer, GUARD, TestClient, World, json as body};

const REVISION: &str = "2025-11-25";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256(text: &str) -> String {
    hex(digest(&SHA256, text.as_bytes()).as_ref())
}

/// Settings with a key for each of two users, an operator's, and one that signs.
fn settings() -> String {
    let api = [("a", "acme", "ada"), ("b", "other", "ada")]
        .map(|(name, tenant, user)| {
            let digest = sha256(&format!("key-{name}"));
            format!("  - {{ name: {name}, tenant: {tenant}, user: {user}, sha256: {digest} }}\n")
        })
        .concat();
    format!(
        "access:\n  api_keys:\n{api}  admin_keys: [{{ name: ops, sha256: {} }}]\n\
         signing: {{ inbound_keys: [\"first-signing-key-of-enough-bytes\", \"second-signing-key-of-enough-bytes\"] }}\n",
        sha256("key-ops")
    )
}

fn oauth(authority: &Authority) -> String {
    format!(
        "title: Tracker\nupstream: {{ url: \"{}\" }}\nauth: {{ oauth: {{}} }}\n",
        authority.resource
    )
}

/// A provider that takes any token, for accounts that are put in.
async fn world(fake: &FakeServer) -> World {
    World::builder()
        .provider_with("tracker", fake, "title: Tracker\nauth: { oauth: {} }\n")
        .settings(&settings())
        .start()
        .await
}

async fn ask(world: &World, (method, path): (Method, &str), key: &str, sent: Option<&str>) -> (u16, Value) {
    let base = if key == "key-ops" {
        &world.admin
    } else {
        &world.base
    };
    let mut request = world
        .http
        .request(method, format!("{base}{path}"))
        .header("x-api-key", key);
    if let Some(text) = sent {
        request = request
            .header("content-type", "application/json")
            .body(text.to_owned());
    }
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

/// Puts a token in for `acme/ada`.
async fn put(world: &World, account: &str, token: Value) -> (u16, Value) {
    let path = format!("/v1/accounts/acme/ada/tracker/{account}");
    ask(world, (Method::PUT, &path), "key-ops", Some(&token.to_string())).await
}

async fn names(world: &World, key: &str) -> Vec<(String, bool)> {
    let (status, reply) = ask(world, (Method::GET, "/v1/accounts"), key, None).await;
    assert_eq!(status, 200, "{reply}");
    let text = |account: &Value| account["accountId"].as_str().unwrap().to_owned();
    let accounts = reply["accounts"].as_array().unwrap();
    accounts
        .iter()
        .map(|it| (text(it), it["default"] == true))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_puts_a_token_in_and_its_user_alone_has_it() {
    let fake = FakeServer::start(&[REVISION]).await;
    let world = world(&fake).await;
    let (status, reply) = put(
        &world,
        "ada%40x",
        json!({ "access_token": "s3cret-token", "expires_in": 3600 }),
    )
    .await;
    assert_eq!(
        (status, &reply["accountId"], &reply["state"]),
        (200, &json!("ada@x"), &json!("ok")),
        "{reply}"
    );
    assert!(reply["expiresAt"].is_string() && !reply.to_string().contains("s3cret"));
    assert_eq!(names(&world, "key-a").await, [("ada@x".to_owned(), true)]);
    assert!(names(&world, "key-b").await.is_empty(), "another tenant");
    let path = "/v1/accounts/acme/ada/tracker/ada%40x";
    let (status, read) = ask(&world, (Method::GET, path), "key-ops", None).await;
    assert_eq!((status, &read["provider"]), (200, &json!("tracker")));
    assert!(!read.to_string().contains("s3cret"));
    let (status, _) = ask(&world, (Method::DELETE, path), "key-ops", None).await;
    assert_eq!(status, 204);
    let (status, _) = ask(&world, (Method::GET, path), "key-ops", None).await;
    assert_eq!(status, 404);
    assert!(names(&world, "key-a").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_default_is_chosen_by_its_owner_and_unknown_is_as_foreign() {
    let fake = FakeServer::start(&[REVISION]).await;
    let world = world(&fake).await;
    for account in ["one", "two%20%C3%BC", "team/me"] {
        let (status, reply) = put(&world, account, json!({ "access_token": "t" })).await;
        assert_eq!(status, 200, "{reply}");
    }
    let choose = |key: &'static str, account: &'static str| {
        let (world, path) = (&world, format!("/v1/accounts/tracker/{account}"));
        async move { ask(world, (Method::PUT, &path), key, Some(r#"{"default":true}"#)).await }
    };
    let (status, reply) = choose("key-a", "two%20%C3%BC").await;
    assert_eq!((status, &reply["default"]), (200, &json!(true)), "{reply}");
    assert!(names(&world, "key-a").await.contains(&("two ü".to_owned(), true)));
    assert_eq!(choose("key-a", "team/me").await.0, 200);
    assert!(
        names(&world, "key-a")
            .await
            .contains(&("team/me".to_owned(), true))
    );
    let (unknown, foreign) = (choose("key-a", "three").await, choose("key-b", "one").await);
    assert_eq!((unknown.0, &unknown), (404, &foreign));
    let revoke = |key: &'static str| {
        let world = &world;
        async move { ask(world, (Method::DELETE, "/v1/accounts/tracker/one"), key, None).await }
    };
    assert_eq!(revoke("key-b").await.0, 404);
    assert_eq!(revoke("key-a").await.0, 204);
    assert_eq!(revoke("key-a").await.0, 404);
    assert_eq!(choose("wrong-key", "two%20%C3%BC").await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_for_an_account_changes_nothing() {
    let fake = FakeServer::start(&[REVISION]).await;
    let world = world(&fake).await;
    put(&world, "one", json!({ "access_token": "t" })).await;
    let path = "/v1/accounts/tracker/one";
    for (method, path, sent, status) in [
        (Method::POST, "/v1/accounts", Some("{}"), 405),
        (Method::GET, path, None, 405),
        (Method::PUT, path, Some("{}"), 400),
        (Method::PUT, path, Some(r#"{"default":false}"#), 400),
        (
            Method::PUT,
            "/v1/accounts/tracker/%2e%2e",
            Some(r#"{"default":true}"#),
            405,
        ),
        (
            Method::PUT,
            "/v1/accounts/tracker/a%2fb",
            Some(r#"{"default":true}"#),
            400,
        ),
        (
            Method::PUT,
            "/v1/accounts/nobody/one",
            Some(r#"{"default":true}"#),
            404,
        ),
        (
            Method::PUT,
            "/v1/accounts/tracker",
            Some(r#"{"default":true}"#),
            404,
        ),
    ] {
        let (got, reply) = ask(&world, (method.clone(), path), "key-a", sent).await;
        assert_eq!(got, status, "{method} {path} {reply}");
    }
    let plain = world
        .http
        .put(format!("{}{path}", world.base))
        .header("x-api-key", "key-a")
        .body(r#"{"default":true}"#);
    assert_eq!(plain.send().await.unwrap().status(), 415);
    let huge = format!("{{\"default\":true,\"x\":\"{}\"}}", "x".repeat(70_000));
    assert_eq!(
        ask(&world, (Method::PUT, path), "key-a", Some(&huge)).await.0,
        413
    );
    assert_eq!(names(&world, "key-a").await, [("one".to_owned(), true)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_listener_keeps_accounts_from_everybody_but_operators() {
    let fake = FakeServer::start(&[REVISION]).await;
    let world = world(&fake).await;
    let url = format!("{}/v1/accounts/acme/ada/tracker/one", world.admin);
    for key in [None, Some("key-a"), Some("wrong")] {
        let mut request = world.http.put(&url).header("content-type", "application/json");
        if let Some(key) = key {
            request = request.header("x-api-key", key);
        }
        let answer = request.body(r#"{"access_token":"t"}"#).send().await.unwrap();
        assert_eq!(answer.status(), 401, "{key:?}");
    }
    let foreign = world
        .http
        .get(&url)
        .header("x-api-key", "key-ops")
        .header("origin", "http://evil.example");
    assert_eq!(foreign.send().await.unwrap().status(), 403);
    for (token, status) in [
        (json!({ "access_token": "" }), 400),
        (json!({ "access_token": "with space" }), 400),
        (json!({ "refresh_token": "rt" }), 400),
        (
            json!({ "access_token": "t", "token_endpoint": "https://x.example/t" }),
            400,
        ),
    ] {
        let (got, reply) = put(&world, "one", token.clone()).await;
        assert_eq!(got, status, "{token} {reply}");
    }
    let (status, _) = ask(
        &world,
        (Method::PUT, "/v1/accounts/acme/ada/nobody/one"),
        "key-ops",
        Some(r#"{"access_token":"t"}"#),
    )
    .await;
    assert_eq!(status, 404);
    let (status, _) = ask(
        &world,
        (Method::PATCH, "/v1/accounts/acme/ada/tracker/one"),
        "key-ops",
        None,
    )
    .await;
    assert_eq!(status, 405);
}

/// Signs as `docs/ACCOUNTS.md` has it, without our own code.
fn signed(key: &str, at: u64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    let tag = hmac::sign(&key, format!("{at}.{body}").as_bytes());
    format!("t={at},v1={}", hex(tag.as_ref()))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

async fn refresh(world: &World, provider: &str, signature: &str, sent: &str) -> (u16, Value) {
    let request = world
        .http
        .post(format!("{}/oauth/refresh/{provider}", world.base))
        .header("pleiades-signature", signature)
        .body(sent.to_owned());
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), body(answer).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_refresh_is_accepted_once_and_says_when_the_next_is_due() {
    let fake = FakeServer::start(&[REVISION]).await;
    let world = world(&fake).await;
    put(&world, "one", json!({ "access_token": "t", "expires_in": 3600 })).await;
    let owner = r#"{"tenant":"acme","user":"ada","account":"one"}"#;
    let signature = signed("second-signing-key-of-enough-bytes", now(), owner);
    let (status, reply) = refresh(&world, "tracker", &signature, owner).await;
    assert_eq!((status, &reply["outcome"]), (200, &json!("not_due")), "{reply}");
    assert!(reply.get("nextRunAt").is_some());
    assert_eq!(
        refresh(&world, "tracker", &signature, owner).await.0,
        401,
        "a replay"
    );
    assert_eq!(
        refresh(&world, "other", &signature, owner).await.0,
        401,
        "a replay elsewhere"
    );
    let all = r#"{"tenant":"acme","user":"ada"}"#;
    let (status, _) = refresh(
        &world,
        "tracker",
        &signed("first-signing-key-of-enough-bytes", now(), all),
        all,
    )
    .await;
    assert_eq!(status, 200, "all accounts of a user");
    for (provider, owner) in [
        ("tracker", r#"{"tenant":"other","user":"ada"}"#),
        ("tracker", r#"{"tenant":"acme","user":"ada","account":"two"}"#),
        ("tracker", "{}"),
        ("nobody", r#"{"tenant":"acme","user":"ada","n":1}"#),
    ] {
        let signature = signed("first-signing-key-of-enough-bytes", now(), owner);
        assert_eq!(
            refresh(&world, provider, &signature, owner).await.0,
            404,
            "{provider} {owner}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unsigned_stale_and_changed_requests_are_refused_alike() {
    let fake = FakeServer::start(&[REVISION]).await;
    let world = world(&fake).await;
    let owner = r#"{"tenant":"acme","user":"ada"}"#;
    let good = signed("first-signing-key-of-enough-bytes", now(), owner);
    let mut answers = Vec::new();
    for (signature, sent) in [
        (String::new(), owner),
        (signed("wrong-key", now(), owner), owner),
        (
            signed("first-signing-key-of-enough-bytes", now() - 400, owner),
            owner,
        ),
        (
            signed("first-signing-key-of-enough-bytes", now() + 400, owner),
            owner,
        ),
        (good.clone(), r#"{"tenant":"acme","user":"bob"}"#),
        (good.replace("t=", "t=0"), owner),
    ] {
        answers.push(refresh(&world, "tracker", &signature, sent).await);
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(answers[0].0, 401);
    let get = world.http.get(format!("{}/oauth/refresh/tracker", world.base));
    assert_eq!(get.send().await.unwrap().status(), 405);
}

/// The connect stream's answer, as far as it was read.
struct ConnectStream {
    response: reqwest::Response,
    text: String,
}

impl ConnectStream {
    async fn open(world: &World, key: Option<&str>, wanted: &Value) -> (u16, Self) {
        let mut request = world
            .http
            .post(format!("{}/v1/tools/mcp/servers/connect", world.base))
            .header("content-type", "application/json")
            .header("accept", "text/event-stream");
        if let Some(key) = key {
            request = request.bearer_auth(key);
        }
        let response = request.body(wanted.to_string()).send().await.unwrap();
        let status = response.status().as_u16();
        (
            status,
            Self {
                response,
                text: String::new(),
            },
        )
    }

    /// Events so far; reads until one of this kind came or the stream ended.
    async fn until(&mut self, event: &str) -> Vec<Value> {
        let reading = async {
            loop {
                let events = self.events();
                if events.iter().any(|it| it["event"] == event) {
                    return events;
                }
                match self.response.chunk().await.unwrap() {
                    Some(chunk) => self.text.push_str(std::str::from_utf8(&chunk).unwrap()),
                    None => return self.events(),
                }
            }
        };
        tokio::time::timeout(GUARD, reading).await.unwrap()
    }

    /// Everything until we close it.
    async fn whole(&mut self) -> Vec<Value> {
        self.until("no such event").await
    }

    /// Lines as a client reads them that knows nothing of event streams but `data: `.
    fn events(&self) -> Vec<Value> {
        let whole = self.text.rsplit_once('\n').map_or("", |(lines, _)| lines);
        let lines = whole.lines().filter(|line| !line.trim().is_empty());
        lines
            .filter_map(|line| serde_json::from_str(line.strip_prefix("data: ").unwrap_or(line)).ok())
            .collect()
    }
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect()
}

fn wanted(name: &str, url: &str) -> Value {
    json!({ "server_name": name, "type": "streamable_http", "server_url": url })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loaded_server_is_connected_by_its_url_and_the_stream_closes_with_its_tools() {
    let authority = Authority::start(&[REVISION]).await;
    let world = World::builder()
        .descriptor("tracker", &oauth(&authority))
        .start()
        .await;
    let (status, mut stream) = ConnectStream::open(&world, None, &wanted("mine", &authority.resource)).await;
    assert_eq!(status, 200);
    let events = stream.until("waiting_for_auth").await;
    assert_eq!(
        kinds(&events),
        [
            "connection_attempt",
            "oauth_required",
            "authorization_url",
            "waiting_for_auth"
        ]
    );
    assert!(events.iter().all(|event| event["server_name"] == "mine"));
    let id = events[2]["session_id"].as_str().unwrap();
    let state = world
        .http
        .get(format!("{}/v1/connections/{id}", world.base))
        .send();
    assert_eq!(body(state.await.unwrap()).await["state"], "pending");
    let browser = Browser::default();
    let page = browser.connect(events[2]["url"].as_str().unwrap(), &[]).await;
    assert_eq!(page.status, 200, "{}", page.body);
    let events = stream.whole().await;
    assert_eq!(kinds(&events).last(), Some(&"success"), "{events:?}");
    let tools = events.last().unwrap()["tools"].as_array().unwrap();
    assert!(
        tools
            .iter()
            .any(|tool| tool["name"] == "echo" && tool["inputSchema"].is_object()),
        "{tools:?}"
    );
    let (_, mut again) = ConnectStream::open(&world, None, &wanted("mine", &authority.resource)).await;
    assert_eq!(kinds(&again.whole().await), ["connection_attempt", "success"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_who_says_no_ends_the_stream_with_an_error() {
    let authority = Authority::start(&[REVISION]).await;
    authority.knobs.denies.store(true, Ordering::SeqCst);
    let world = World::builder()
        .descriptor("tracker", &oauth(&authority))
        .start()
        .await;
    let (_, mut stream) = ConnectStream::open(&world, None, &wanted("mine", &authority.resource)).await;
    let events = stream.until("waiting_for_auth").await;
    Browser::default()
        .connect(events[2]["url"].as_str().unwrap(), &[])
        .await;
    let events = stream.whole().await;
    let last = events.last().unwrap();
    assert_eq!(last["event"], "error");
    assert!(
        last["message"]
            .as_str()
            .unwrap()
            .contains("nothing was connected"),
        "{last}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn other_servers_need_permission_and_wrong_keys_are_refused() {
    let fake = FakeServer::start(&[REVISION]).await;
    let world = World::builder()
        .provider("one", &fake)
        .settings(&settings())
        .start()
        .await;
    let other = FakeServer::start(&[REVISION]).await;
    let (status, mut stream) = ConnectStream::open(&world, Some("key-a"), &wanted("mine", &other.url)).await;
    assert_eq!(status, 200);
    assert_eq!(kinds(&stream.whole().await), ["connection_attempt", "error"]);
    assert!(other.seen("initialize").is_empty(), "nobody was asked");
    let (_, mut stream) = ConnectStream::open(&world, Some("key-a"), &wanted("mine", &fake.url)).await;
    assert_eq!(kinds(&stream.whole().await), ["connection_attempt", "success"]);
    for key in [None, Some("wrong")] {
        assert_eq!(
            ConnectStream::open(&world, key, &wanted("mine", &fake.url))
                .await
                .0,
            401
        );
    }
    assert_eq!(
        ConnectStream::open(&world, Some("key-a"), &json!({})).await.0,
        400
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_ones_own_is_callable_by_its_caller_alone_with_its_own_credential() {
    let fake = FakeServer::start(&[REVISION]).await;
    let settings = format!(
        "{}connect_api: {{ allow: [\"http://127.0.0.1:*\"] }}\n",
        settings()
    );
    let world = World::builder().settings(&settings).start().await;
    let mut asked = wanted("my-own", &fake.url);
    asked["auth_header"] = json!("Authorization");
    asked["auth_token"] = json!("Bearer s3cret-own");
    asked["custom_headers"] = json!({ "X-Org": "acme" });
    let (_, mut stream) = ConnectStream::open(&world, Some("key-a"), &asked).await;
    let events = stream.whole().await;
    assert_eq!(kinds(&events), ["connection_attempt", "success"], "{events:?}");
    assert!(!stream.text.contains("s3cret"));
    let headers = [("x-api-key", "key-a")];
    let own = TestClient::connect_with(&world, "/mcp/my-own", REVISION, &headers).await;
    let called = own
        .call(
            "use_my-own",
            json!({ "tool": "echo", "arguments": { "text": "hi" } }),
        )
        .await;
    assert_eq!(called["structuredContent"]["status"], "ok", "{called}");
    let seen = fake.seen("tools/call");
    assert_eq!(seen[0].headers["authorization"], "Bearer s3cret-own");
    assert_eq!(seen[0].headers["x-org"], "acme");
    assert!(!seen[0].headers.contains_key("x-api-key"));
    let post = |key: &'static str, path: &'static str| {
        let request = world
            .http
            .post(format!("{}{path}", world.base))
            .header("x-api-key", key)
            .header("content-type", "application/json")
            .body(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
        async move { request.send().await.unwrap().status().as_u16() }
    };
    assert_eq!(post("key-b", "/mcp/my-own").await, 404, "another caller");
    assert_eq!(post("key-a", "/relay/my-own").await, 404, "no relay");
    assert!(
        !world.metrics().await.contains("my-own"),
        "names of callers are no labels"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_ones_own_that_wants_a_login_gets_one() {
    let authority = Authority::start(&[REVISION]).await;
    let world = World::builder()
        .settings("connect_api: { allow: [\"http://127.0.0.1:*\"] }\n")
        .start()
        .await;
    let (_, mut stream) = ConnectStream::open(&world, None, &wanted("own", &authority.resource)).await;
    let events = stream.until("waiting_for_auth").await;
    assert_eq!(
        kinds(&events),
        [
            "connection_attempt",
            "oauth_required",
            "authorization_url",
            "waiting_for_auth"
        ],
        "{events:?}"
    );
    let page = Browser::default()
        .connect(events[2]["url"].as_str().unwrap(), &[])
        .await;
    assert_eq!(page.status, 200, "{}", page.body);
    let events = stream.whole().await;
    assert_eq!(kinds(&events).last(), Some(&"success"), "{events:?}");
    let own = TestClient::connect(&world, "/tools/own", REVISION).await;
    let called = own.call("echo", json!({ "text": "hi" })).await;
    assert_ne!(called["isError"], true, "{called}");
}

/// A command in a world's folder, beside its running server.
pub async fn command(world: &World, args: &[&str], stdin: Option<&str>) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pleiades"));
    command
        .args(args)
        .current_dir(world.folder.path())
        .env("XDG_DATA_HOME", world.folder.path().join("data"))
        .env("XDG_CONFIG_HOME", world.folder.path().join("config"))
        .env("NO_COLOR", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let sent = stdin.unwrap_or_default().to_owned();
    let output = tokio::task::spawn_blocking(move || {
        use std::io::Write;
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(sent.as_bytes()).ok();
        child.wait_with_output().unwrap()
    })
    .await
    .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_work_on_accounts_beside_a_running_server() {
    let fake = FakeServer::start(&[REVISION]).await;
    let world = world(&fake).await;
    let owner = ["--tenant", "acme", "--user", "ada"];
    let run = |args: &'static [&'static str], stdin: Option<&'static str>| {
        let (world, args) = (&world, [&owner[..], args].concat());
        async move { command(world, &args, stdin).await }
    };
    let (code, out, err) = run(
        &["accounts", "set", "tracker", "--account", "one", "--json"],
        Some("s3cret-one\n"),
    )
    .await;
    assert_eq!(code, Some(0), "{out}{err}");
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["accountId"], "one");
    let (code, _, err) = run(
        &["accounts", "set", "tracker", "--account", "two"],
        Some(r#"{"access_token":"s3cret-two","expires_in":3600,"label":"Two"}"#),
    )
    .await;
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(names(&world, "key-a").await.len(), 2, "the server sees them");
    let (code, ..) = run(&["accounts", "default", "tracker", "two"], None).await;
    assert_eq!(code, Some(0));
    let (code, out, _) = run(&["accounts", "list", "--json"], None).await;
    assert_eq!(code, Some(0));
    let listed: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(listed["accounts"][1]["default"], true, "{listed}");
    let (_, table, _) = run(&["accounts"], None).await;
    assert!(
        table.starts_with("PROVIDER") && table.contains("two") && !table.contains('\u{1b}'),
        "{table}"
    );
    assert!(!format!("{out}{table}").contains("s3cret"));
    for (args, stdin) in [
        (&["accounts", "default", "tracker", "three"][..], None),
        (&["accounts", "revoke", "tracker", "three"], None),
        (&["accounts", "set", "nobody"], Some("t")),
        (&["accounts", "set", "tracker"], Some("t")),
        (
            &["accounts", "set", "tracker", "--account", "x"],
            Some("two words"),
        ),
        (&["connect", "nobody"], None),
    ] {
        let (code, _, err) = command(&world, &[&owner[..], args].concat(), stdin).await;
        assert_eq!(code, Some(64), "{args:?} {err}");
    }
    let (code, ..) = run(&["accounts", "revoke", "tracker", "one"], None).await;
    assert_eq!(code, Some(0));
    world
        .until("the server to see that it is gone", || async {
            names(&world, "key-a").await.len() == 1
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_lists_everybodys_accounts_at_the_admin_listener_and_from_a_terminal() {
    let fake = FakeServer::start(&[REVISION]).await;
    let world = world(&fake).await;
    for (tenant, user) in [("acme", "ada"), ("other", "ada"), ("other", "eve")] {
        let path = format!("/v1/accounts/{tenant}/{user}/tracker/work");
        let token = Some(r#"{"access_token":"s3cret-token"}"#);
        assert_eq!(ask(&world, (Method::PUT, &path), "key-ops", token).await.0, 200);
    }
    let get = |query: &'static str| ask(&world, (Method::GET, query), "key-ops", None);
    let (status, first) = get("/v1/accounts?limit=2").await;
    assert_eq!(
        (status, first["accounts"].as_array().unwrap().len()),
        (200, 2),
        "{first}"
    );
    assert_eq!(
        (&first["accounts"][1]["tenant"], &first["accounts"][1]["user"]),
        (&json!("other"), &json!("ada"))
    );
    let path = format!("/v1/accounts?limit=2&after={}", first["next"].as_str().unwrap());
    let (_, last) = ask(&world, (Method::GET, &path), "key-ops", None).await;
    assert_eq!(
        (&last["accounts"][0]["user"], last.get("next")),
        (&json!("eve"), None),
        "{last}"
    );
    for (query, expected) in [
        ("/v1/accounts?limit=0", 400),
        ("/v1/accounts?after=x", 400),
        ("/v1/accounts/", 200),
    ] {
        assert_eq!(get(query).await.0, expected, "{query}");
    }
    assert_eq!(
        ask(&world, (Method::POST, "/v1/accounts"), "key-ops", Some("{}"))
            .await
            .0,
        405
    );
    let unproven = world
        .http
        .get(format!("{}/v1/accounts", world.admin))
        .send()
        .await
        .unwrap();
    assert_eq!(unproven.status(), 401);
    let (code, out, err) = command(&world, &["accounts", "list", "--all", "--json"], None).await;
    assert_eq!(code, Some(0), "{err}");
    let all: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(all["accounts"].as_array().unwrap().len(), 3, "{all}");
    let (_, table, _) = command(&world, &["accounts", "--all"], None).await;
    assert!(table.starts_with("TENANT") && table.contains("eve"), "{table}");
    assert!(!format!("{first}{last}{out}{table}").contains("s3cret"));
    let (code, _, err) = command(&world, &["accounts"], None).await;
    assert!(
        code == Some(0) && err.contains("default/local has no accounts here") && err.contains("--all"),
        "{err}"
    );
    let owner = [
        "--tenant", "acme", "--user", "ada", "accounts", "default", "tracker",
    ];
    let (code, _, err) = command(&world, &[&owner[..], &["--none"]].concat(), None).await;
    assert_eq!(code, Some(64), "one account alone: {err}");
    let path = "/v1/accounts/acme/ada/tracker/home";
    ask(
        &world,
        (Method::PUT, path),
        "key-ops",
        Some(r#"{"access_token":"t"}"#),
    )
    .await;
    let (code, out, err) = command(&world, &[&owner[..], &["--none", "--json"]].concat(), None).await;
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(
        serde_json::from_str::<Value>(&out).unwrap()["accountId"],
        Value::Null
    );
    world
        .until("the gateway to see that none is the default", || async {
            let (_, listed) = get("/v1/accounts").await;
            let mut accounts = listed["accounts"].as_array().unwrap().iter();
            accounts.all(|it| it["tenant"] != "acme" || it["default"] == false)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_ends_on_its_own_port_and_prints_the_account() {
    let authority = Authority::start(&[REVISION]).await;
    let world = World::builder()
        .descriptor("tracker", &oauth(&authority))
        .start()
        .await;
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_pleiades"));
    command
        .args(["connect", "tracker", "--no-browser", "--json"])
        .current_dir(world.folder.path())
        .env("XDG_DATA_HOME", world.folder.path().join("data"))
        .env("XDG_CONFIG_HOME", world.folder.path().join("config"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut stderr = tokio::io::BufReader::new(child.stderr.take().unwrap());
    let url = tokio::time::timeout(GUARD, async {
        use tokio::io::AsyncBufReadExt;
        let mut line = String::new();
        while !line.trim().starts_with("http") {
            line.clear();
            assert_ne!(
                stderr.read_line(&mut line).await.unwrap(),
                0,
                "no address was printed"
            );
        }
        line.trim().to_owned()
    })
    .await
    .unwrap();
    let browser = Browser::default();
    let consented = browser.get(&url).await;
    assert_eq!(consented.status, 302, "{}", consented.body);
    let page = browser.get(&consented.location()).await;
    assert!(
        page.body.contains("Tracker is connected"),
        "{} {}",
        page.status,
        page.body
    );
    assert_eq!(page.url.path(), "/oauth/callback");
    let output = tokio::time::timeout(GUARD, child.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    let reply: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&reply["provider"], &reply["accountId"]),
        (&json!("tracker"), &json!("ada"))
    );
    let own = TestClient::connect(&world, "/tools/tracker", REVISION).await;
    assert_ne!(own.call("echo", json!({ "text": "hi" })).await["isError"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_looks_at_every_step_of_oauth_and_names_the_cure() {
    let authority = Authority::start(&[REVISION]).await;
    let world = World::builder()
        .descriptor("tracker", &oauth(&authority))
        .start()
        .await;
    let state = |report: &Value, name: &str| {
        let steps = report["steps"].as_array().unwrap();
        let step = steps
            .iter()
            .find(|step| step["step"] == name)
            .unwrap_or_else(|| panic!("{name} {report}"));
        (step["state"].as_str().unwrap().to_owned(), step["cure"].clone())
    };
    let doctor = |args: &'static [&'static str]| {
        let world = &world;
        async move {
            let (code, out, err) = command(world, args, None).await;
            (
                code,
                serde_json::from_str::<Value>(&out).unwrap_or_else(|_| panic!("{out}{err}")),
            )
        }
    };
    let (code, report) = doctor(&["doctor", "tracker", "--json"]).await;
    assert_eq!(code, Some(69));
    for step in ["discovery", "registration", "scopes", "vault"] {
        assert_eq!(state(&report, step).0, "ok", "{report}");
    }
    let steps = report["steps"].as_array().unwrap();
    let registration = steps.iter().find(|step| step["step"] == "registration").unwrap();
    let callback = format!("redirect URI: {}/oauth/callback", world.base);
    assert_eq!(registration["lines"], json!([callback]), "{registration}");
    let (credential, cure) = state(&report, "credential");
    assert_eq!(credential, "failed");
    assert!(cure.as_str().unwrap().contains("pleiades connect tracker"));
    let (_, mut stream) = ConnectStream::open(&world, None, &wanted("mine", &authority.resource)).await;
    let events = stream.until("waiting_for_auth").await;
    Browser::default()
        .connect(events[2]["url"].as_str().unwrap(), &[])
        .await;
    stream.whole().await;
    let (code, report) = doctor(&["doctor", "tracker", "--json", "--refresh"]).await;
    assert_eq!(code, Some(0), "{report}");
    for step in ["credential", "refresh", "protocol", "lists"] {
        assert_eq!(state(&report, step).0, "ok", "{step} {report}");
    }
}
