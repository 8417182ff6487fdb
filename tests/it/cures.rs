//! Faults made on purpose: the answer, the log, `doctor` and `explain` call each by one name, `doctor` and the log say
//! the cause in the same words, and the cure that `doctor` names ends it.

use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::Ordering::SeqCst;

use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

use crate::world::authorization::EndpointFault;
use crate::world::{Authority, Browser, Builder, FakeServer, GUARD, TestClient, World, free_port};

const REVISION: &str = "2025-11-25";
const NONE: &str = "auth: { none: {} }\n";

/// What everybody says of a fault.
struct Expected<'a> {
    code: &'a str,
    /// The first step of `doctor` that fails.
    step: &'a str,
    /// Words that stand in the log's `error` and in that step.
    cause: &'a str,
    /// Words of the step's cure.
    cure: &'a str,
}

async fn run(folder: &Path, args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pleiades"));
    command
        .args(args)
        .current_dir(folder)
        .env("XDG_DATA_HOME", folder.join("data"))
        .env("XDG_CONFIG_HOME", folder.join("config"))
        .env("XDG_RUNTIME_DIR", folder.join("run"))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(GUARD, command.output()).await.unwrap().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

/// The first step of `doctor` that fails; `None` when all is well.
async fn failed_step(world: &World) -> Option<Value> {
    let (code, out) = run(world.folder.path(), &["doctor", "one", "--json"]).await;
    let report: Value =
        serde_json::from_str(out.lines().next().unwrap_or_default()).unwrap_or_else(|_| panic!("{out}"));
    let steps = report["steps"].as_array().unwrap();
    let failed = steps.iter().find(|step| step["state"] == "failed").cloned();
    assert_eq!(code, Some(if failed.is_none() { 0 } else { 69 }), "{report:#}");
    failed
}

async fn call(world: &World) -> Value {
    let client = TestClient::connect(world, "/mcp", REVISION).await;
    let echo = json!({ "tool": "echo", "arguments": { "text": "hi" } });
    client.call("use_one", echo).await["structuredContent"].clone()
}

/// `doctor` and `explain` say of a code what is expected.
async fn is_explained(world: &World, expected: &Expected<'_>) {
    let step = failed_step(world).await.expect("a step that fails");
    assert_eq!(
        (&step["code"], &step["step"]),
        (&json!(expected.code), &json!(expected.step)),
        "{step:#}"
    );
    assert!(step["cure"].as_str().unwrap().contains(expected.cure), "{step:#}");
    assert!(
        format!("{}{}", step["detail"], step["lines"]).contains(expected.cause),
        "`{}` is not in {step:#}",
        expected.cause
    );
    let (code, page) = run(world.folder.path(), &["explain", expected.code]).await;
    assert_eq!(code, Some(0));
    let (_, todo) = page.split_once("Do: ").unwrap_or_else(|| panic!("{page}"));
    let cure = match expected.code {
        "needs_auth" => "open the link, run the command",
        "token_expired" => "connect the account again",
        _ => "`pleiades doctor",
    };
    let todo = todo.lines().next().unwrap_or_default();
    assert!(page.starts_with(expected.code) && todo.contains(cure), "{page}");
}

/// The answer, the log, `doctor` and `explain` say of a call what is expected.
async fn is_named(world: &World, expected: &Expected<'_>) {
    let started = std::time::Instant::now();
    loop {
        let answer = call(world).await;
        let line = world.line(answer["telemetryId"].as_str().unwrap()).await;
        assert_eq!(line["outcome"], answer["data"]["code"], "{line:#}");
        let error = line["error"].as_str().unwrap_or_default();
        if line["outcome"] == expected.code && error.contains(expected.cause) {
            break;
        }
        // What failed before is answered until it is tried again.
        assert!(started.elapsed() < GUARD, "{answer:#} {line:#}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    is_explained(world, expected).await;
}

/// The cure helped: a call succeeds, and every step of `doctor` is well.
async fn is_cured(world: &World) {
    let is_well = || async { call(world).await["status"] == "ok" };
    world.until("a call to succeed", is_well).await;
    let step = failed_step(world).await;
    assert!(step.is_none(), "{step:#?}");
}

async fn one(upstream: &str, rest: &str) -> World {
    world(&format!("upstream: {{ {upstream} }}\n{rest}")).await
}

async fn world(body: &str) -> World {
    World::builder().descriptor("one", body).logged().start().await
}

/// Writes the descriptor anew, as whoever mends it does.
fn mend(world: &World, upstream: &str, rest: &str) {
    let file = world.providers().join("one.yaml");
    std::fs::write(file, format!("id: one\nupstream: {{ {upstream} }}\n{rest}")).unwrap();
}

/// Stops the gateway and starts it again, as whoever changed its settings or variables does.
pub(super) async fn restart(world: &mut World, variables: &[(&str, &str)]) {
    world.terminate();
    let mut process = world.process.take().unwrap();
    tokio::task::spawn_blocking(move || process.wait().unwrap())
        .await
        .unwrap();
    let folder = world.folder.path();
    let log = std::fs::OpenOptions::new()
        .append(true)
        .open(folder.join("log"))
        .unwrap();
    let process = std::process::Command::new(env!("CARGO_BIN_EXE_pleiades"))
        .current_dir(folder)
        .env("XDG_DATA_HOME", folder.join("data"))
        .env("XDG_CONFIG_HOME", folder.join("config"))
        .env("XDG_RUNTIME_DIR", folder.join("run"))
        .env("RUST_LOG", "info")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    world.process = Some(process);
    let ready = || async {
        let ready = world.http.get(format!("{}/ready", world.admin)).send().await;
        ready.is_ok_and(|answer| answer.status() == 200)
    };
    world.until("the gateway to be ready again", ready).await;
}

/// A server that answers everything in the same way.
async fn answering(
    status: u16,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
) -> String {
    let router = axum::Router::new().fallback(move || async move {
        let mut response = axum::response::Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        response.body(axum::body::Body::from(body)).unwrap()
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

/// Starts a server at an address at last: what comes there goes to the fake.
async fn start_at(port: u16, fake: &FakeServer) {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let to: std::net::SocketAddr = fake
        .url
        .trim_start_matches("http://")
        .trim_end_matches("/mcp")
        .parse()
        .unwrap();
    tokio::spawn(async move {
        loop {
            let (mut from, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut to = tokio::net::TcpStream::connect(to).await.unwrap();
                tokio::io::copy_bidirectional(&mut from, &mut to).await.ok();
            });
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_is_cured_by_starting_it() {
    let port = free_port();
    let world = one(&format!("url: 'http://127.0.0.1:{port}/mcp'"), NONE).await;
    let expected = Expected {
        code: "upstream_unreachable",
        step: "tcp",
        cause: "Connection refused (os error 111)",
        cure: "start the server",
    };
    is_named(&world, &expected).await;
    let fake = FakeServer::start(&[REVISION]).await;
    start_at(port, &fake).await;
    is_cured(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_without_an_address_is_cured_by_the_right_one() {
    let world = one("url: 'https://no-such-host.invalid/mcp'", NONE).await;
    let expected = Expected {
        code: "upstream_unreachable",
        step: "dns",
        cause: "no-such-host.invalid",
        cure: "check the name in `upstream.url`",
    };
    is_named(&world, &expected).await;
    let fake = FakeServer::start(&[REVISION]).await;
    mend(&world, &format!("url: '{}'", fake.url), NONE);
    is_cured(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_behind_a_private_authority_is_cured_by_its_file() {
    let fake = FakeServer::start(&[REVISION]).await;
    let tls = "tls: { cert_file: server.pem, key_file: server.key }\n";
    let server = World::builder()
        .provider("inner", &fake)
        .settings(tls)
        .file(
            "server.pem",
            include_str!("../../crates/pleiades-upstream/src/tests/tls/server.pem"),
        )
        .file(
            "server.key",
            include_str!("../../crates/pleiades-upstream/src/tests/tls/server.key"),
        )
        .start()
        .await;
    let at = server.base.replace("http://127.0.0.1", "https://localhost");
    let upstream = format!("url: '{at}/tools/inner'");
    let world = one(&upstream, NONE).await;
    let expected = Expected {
        code: "upstream_unreachable",
        step: "tls",
        cause: "UnknownIssuer",
        cure: "upstream.tls.ca_file",
    };
    is_named(&world, &expected).await;
    let ca = include_str!("../../crates/pleiades-upstream/src/tests/tls/first-ca.pem");
    std::fs::write(world.providers().join("ca.pem"), ca).unwrap();
    mend(&world, &format!("{upstream}, tls: {{ ca_file: ca.pem }}"), NONE);
    is_cured(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_is_cured_by_its_scheme() {
    let fake = FakeServer::start(&[REVISION]).await;
    let world = one(&format!("url: '{}'", fake.url.replace("http:", "https:")), NONE).await;
    let expected = Expected {
        code: "upstream_unreachable",
        step: "tls",
        cause: "received corrupt message of type InvalidContentType",
        cure: "write `http://`",
    };
    is_named(&world, &expected).await;
    mend(&world, &format!("url: '{}'", fake.url), NONE);
    is_cured(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_mcp_server_is_cured_by_the_right_url() {
    let html: &[_] = &[("content-type", "text/html")];
    let plain: &[_] = &[("content-type", "text/plain")];
    let moved: &[_] = &[("location", "https://elsewhere.example/mcp")];
    let page = "<html><title>Welcome to nginx!</title></html>";
    for (status, headers, body, code, step, cause, cure) in [
        (
            200,
            html,
            page,
            "upstream_protocol",
            "protocol",
            "Welcome to nginx!",
            "must be the MCP endpoint",
        ),
        (
            404,
            plain,
            "no such page",
            "upstream_protocol",
            "http",
            "no such page",
            "must be the MCP endpoint",
        ),
        (
            410,
            plain,
            "Gone: use v2",
            "upstream_protocol",
            "http",
            "Gone: use v2",
            "must be the MCP endpoint",
        ),
        (
            308,
            moved,
            "",
            "upstream_protocol",
            "http",
            "https://elsewhere.example/mcp",
            "the final address",
        ),
        (
            403,
            html,
            page,
            "upstream_protocol",
            "http",
            "Welcome to nginx!",
            "let this machine through",
        ),
        (
            503,
            plain,
            "no healthy upstream",
            "upstream_unreachable",
            "http",
            "no healthy upstream",
            "try again later",
        ),
    ] {
        let url = answering(status, headers, body).await;
        let world = one(&format!("url: '{url}'"), NONE).await;
        let expected = Expected {
            code,
            step,
            cause,
            cure,
        };
        is_named(&world, &expected).await;
        let fake = FakeServer::start(&[REVISION]).await;
        mend(&world, &format!("url: '{}'", fake.url), NONE);
        is_cured(&world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_is_cured_when_it_answers() {
    let fake = FakeServer::start(&[REVISION]).await;
    fake.knobs.hangs.store(true, SeqCst);
    let world = one(
        &format!("url: '{}', timeouts: {{ connect: 1s, call: 1s }}", fake.url),
        NONE,
    )
    .await;
    let expected = Expected {
        code: "upstream_timeout",
        step: "http",
        cause: "no answer within `upstream.timeouts.call`",
        cure: "look whether the server hangs",
    };
    is_named(&world, &expected).await;
    fake.knobs.hangs.store(false, SeqCst);
    is_cured(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_refused_is_cured_by_one_that_is_taken() {
    let fake = FakeServer::start(&[REVISION]).await;
    fake.knobs.refuses.store(true, SeqCst);
    let upstream = format!("url: '{}'", fake.url);
    let auth = |key: &str| format!("auth: {{ api_key: {{ header: x-key, value: {key} }} }}\n");
    let world = one(&upstream, &auth("an-old-key")).await;
    let expected = Expected {
        code: "upstream_auth",
        step: "credential",
        cause: "401",
        cure: "put a valid key where the descriptor reads it",
    };
    is_named(&world, &expected).await;
    fake.knobs.refuses.store(false, SeqCst);
    mend(&world, &upstream, &auth("a-new-key"));
    is_cured(&world).await;
    assert_eq!(fake.seen("tools/call")[0].headers["x-key"], "a-new-key");
}

/// A server over stdin and stdout with one tool.
const SERVER: &str = r#"
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message: continue
    method, result = message["method"], None
    if method == "initialize":
        result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "py", "version": "0"}}
    elif method == "tools/list":
        result = {"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]}
    elif method == "tools/call":
        result = {"content": [{"type": "text", "text": "hi"}]}
    answer = {"jsonrpc": "2.0", "id": message["id"]}
    if result is None: answer["error"] = {"code": -32601, "message": "no"}
    else: answer["result"] = result
    print(json.dumps(answer), flush=True)
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_ends_is_cured_by_what_it_asks_for() {
    let world = one("command: [python3, server.py]", NONE).await;
    let asks = "import os, sys\nif 'DATABASE_URL' not in os.environ: sys.exit('no DATABASE_URL')\n";
    std::fs::write(world.providers().join("server.py"), format!("{asks}{SERVER}")).unwrap();
    mend(&world, "command: [python3, server.py], share: all", NONE);
    let expected = Expected {
        code: "upstream_unreachable",
        step: "start",
        cause: "no DATABASE_URL",
        cure: "read what it says",
    };
    is_named(&world, &expected).await;
    mend(
        &world,
        "command: [python3, server.py], env: { DATABASE_URL: x }",
        NONE,
    );
    is_cured(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_not_there_is_cured_by_installing_it() {
    use std::os::unix::fs::PermissionsExt as _;
    for (is_there, cause, cure) in [
        (
            false,
            "No such file or directory (os error 2)",
            "correct `upstream.command`",
        ),
        (true, "Permission denied (os error 13)", "chmod +x"),
    ] {
        let world = one("command: [./server.py]", NONE).await;
        let file = world.providers().join("server.py");
        if is_there {
            std::fs::write(&file, SERVER).unwrap();
        }
        let expected = Expected {
            code: "upstream_unreachable",
            step: "program",
            cause,
            cure,
        };
        is_named(&world, &expected).await;
        std::fs::write(&file, format!("#!/usr/bin/env python3\n{SERVER}")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        is_cured(&world).await;
    }
    let world = one("command: [no-such-program-anywhere]", NONE).await;
    let expected = Expected {
        code: "upstream_unreachable",
        step: "program",
        cause: "No such file or directory (os error 2)",
        cure: "install `no-such-program-anywhere`",
    };
    is_named(&world, &expected).await;
}

/// A provider whose users connect accounts.
fn people(authority: &Authority) -> Builder {
    let body = format!(
        "title: Mail\nupstream: {{ url: '{}' }}\nauth: {{ oauth: {{}} }}\n",
        authority.resource
    );
    World::builder().descriptor("one", &body).logged()
}

/// Does what an answer says: opens its link and signs in.
async fn connect(world: &World) {
    let answer = call(world).await;
    let url = answer["data"]["connect_url"]
        .as_str()
        .unwrap_or_else(|| panic!("{answer:#}"));
    let page = Browser::default().connect(url, &[]).await;
    assert_eq!(page.status, 200, "{}", page.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_without_an_account_is_cured_by_connecting_one() {
    let authority = Authority::start(&[REVISION]).await;
    let world = people(&authority).start().await;
    let expected = Expected {
        code: "needs_auth",
        step: "credential",
        cause: "Mail is not connected",
        cure: "pleiades connect one",
    };
    is_named(&world, &expected).await;
    connect(&world).await;
    is_cured(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_accounts_doctor_looks_at_the_one_that_calls_use_or_at_the_named_one() {
    let authority = Authority::start(&[REVISION]).await;
    let world = people(&authority).start().await;
    connect(&world).await;
    authority.sign_in("u-bob", "bob", "bob@example.com");
    let named = json!({ "tool": "echo", "arguments": { "text": "hi" }, "accountId": "bob" });
    let client = TestClient::connect(&world, "/mcp", REVISION).await;
    let answer = client.call("use_one", named).await;
    let url = answer["structuredContent"]["data"]["connect_url"]
        .as_str()
        .unwrap();
    Browser::default().connect(url, &[]).await;
    let credential = |args: &'static [&'static str]| {
        let folder = world.folder.path();
        async move {
            let (code, out) = run(folder, &[&["doctor", "one", "--json"], args].concat()).await;
            let report: Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
            let steps = report["steps"].as_array().unwrap().clone();
            let step = steps
                .into_iter()
                .find(|step| step["step"] == "credential")
                .unwrap();
            (code, step)
        }
    };
    for (args, account) in [
        (&[][..], "ada"),
        (&["--account", "bob"], "bob"),
        (&["--account", "ada"], "ada"),
    ] {
        let (code, step) = credential(args).await;
        assert_eq!(code, Some(0), "{step:#}");
        assert!(
            step["detail"]
                .as_str()
                .unwrap()
                .starts_with(&format!("`{account}` of ")),
            "{step:#}"
        );
        let lines = step["lines"].to_string();
        assert!(
            lines.contains("`ada`: ok, the default") && lines.contains("`bob`: ok"),
            "{lines}"
        );
    }
    let (code, step) = credential(&["--account", "carol"]).await;
    assert_eq!(
        (code, &step["code"]),
        (Some(69), &json!("needs_auth")),
        "{step:#}"
    );
    let cure = step["cure"].as_str().unwrap();
    assert!(cure.ends_with(" connect one --account carol`"), "{cure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_is_refused_is_cured_by_connecting_again() {
    let authority = Authority::start(&[REVISION]).await;
    let world = people(&authority).start().await;
    connect(&world).await;
    is_cured(&world).await;
    let refusal = json!({ "error": "invalid_grant", "error_description": "the grant was revoked" });
    authority.fail("/token", EndpointFault::Says(400, refusal), 1);
    authority.expire();
    let expected = Expected {
        code: "token_expired",
        step: "refresh",
        cause: "the grant was revoked",
        cure: "pleiades connect one",
    };
    is_named(&world, &expected).await;
    connect(&world).await;
    is_cured(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_fails_at_night_is_explained_in_the_morning_and_ends_with_its_cause() {
    let authority = Authority::start(&[REVISION]).await;
    authority.knobs.lifetime.store(2, SeqCst);
    let world = people(&authority).start().await;
    connect(&world).await;
    authority.fail(
        "/token",
        EndpointFault::Says(503, json!({ "error": "maintenance" })),
        1_000,
    );
    authority.expire();
    let waits = || async { call(&world).await["data"]["code"] == "credential_timeout" };
    world.until("the token to end", waits).await;
    let expected = Expected {
        code: "credential_timeout",
        step: "credential",
        cause: "503",
        cure: "see that the authorization server is reached",
    };
    is_named(&world, &expected).await;
    let (_, report) = run(world.folder.path(), &["doctor", "one", "--json"]).await;
    let report: Value = serde_json::from_str(report.lines().next().unwrap()).unwrap();
    let steps = report["steps"].as_array().unwrap();
    let refresh = steps.iter().find(|step| step["step"] == "refresh").unwrap();
    assert_eq!(
        (&refresh["state"], &refresh["code"]),
        (&json!("failed"), &json!("credential_timeout"))
    );
    let lines = refresh["lines"].to_string();
    for words in ["the access token ended 20", "503", "tries again at 20"] {
        assert!(lines.contains(words), "{refresh:#}");
    }
    authority.knobs.lifetime.store(3_600, SeqCst);
    authority.knobs.faults.lock().clear();
    is_cured(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_its_provider_does_not_take_is_told_from_one_that_ended() {
    let authority = Authority::start(&[REVISION]).await;
    let world = people(&authority).start().await;
    connect(&world).await;
    is_cured(&world).await;
    authority.knobs.takes.store(false, SeqCst);
    let step = failed_step(&world).await.expect("a step that fails");
    let answer = call(&world).await;
    assert_eq!(
        (&answer["data"]["code"], &step["code"]),
        (&json!("token_expired"), &json!("token_expired"))
    );
    assert!(step["cure"].as_str().unwrap().contains("`resource`"), "{step:#}");
    authority.knobs.takes.store(true, SeqCst);
    is_cured(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_key_of_the_vault_is_cured_by_giving_it_back() {
    let authority = Authority::start(&[REVISION]).await;
    let vault = |key: &str| format!("vault: {{ file: {{ path: own-vault, key: \"{key}\" }} }}\n");
    let (first, other) = (
        "the first key, of more than 32 bytes",
        "another key, of more than 32 bytes",
    );
    let mut world = people(&authority).settings(&vault(first)).start().await;
    connect(&world).await;
    is_cured(&world).await;
    let file = world.folder.path().join("pleiades.yaml");
    let settings = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, settings.replace(first, other)).unwrap();
    restart(&mut world, &[]).await;
    let expected = Expected {
        code: "credential_store",
        step: "vault",
        cause: "another key",
        cure: "`vault.file.key`",
    };
    is_named(&world, &expected).await;
    std::fs::write(&file, settings).unwrap();
    restart(&mut world, &[]).await;
    is_cured(&world).await;
}

/// What a caller hears of a provider whose file cannot be used.
async fn is_unknown(world: &World, expected: &Expected<'_>) {
    let asked = world
        .http
        .post(format!("{}/mcp/one", world.base))
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .body(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    let answer = asked.send().await.unwrap();
    assert_eq!(answer.status(), 404);
    let request = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
    let answer = crate::world::json(answer).await;
    assert_eq!(answer["error"]["data"]["code"], expected.code, "{answer}");
    assert_eq!(world.line(&request).await["outcome"], expected.code);
    let lines = world.log();
    let of_file = lines.iter().any(|line| line.to_string().contains(expected.cause));
    assert!(of_file, "`{}` is not in {lines:#?}", expected.cause);
    is_explained(world, expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_a_fault_is_cured_while_the_gateway_runs() {
    let fake = FakeServer::start(&[REVISION]).await;
    let world = one(&format!("ur: '{}'", fake.url), NONE).await;
    let expected = Expected {
        code: "unknown_provider",
        step: "descriptor",
        cause: "`ur`",
        cure: "pleiades check",
    };
    is_unknown(&world, &expected).await;
    mend(&world, &format!("url: '{}'", fake.url), NONE);
    world.until_state("one", "ready").await;
    is_cured(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_variable_that_is_not_set_is_cured_by_setting_it() {
    let fake = FakeServer::start(&[REVISION]).await;
    let mut world = one(
        &format!("url: '{}'", fake.url),
        "auth: { api_key: { header: x-key, value: '${ONE_KEY_OF_THE_TEST}' } }\n",
    )
    .await;
    let expected = Expected {
        code: "unknown_provider",
        step: "references",
        cause: "`ONE_KEY_OF_THE_TEST` is not set",
        cure: "set",
    };
    is_unknown(&world, &expected).await;
    restart(&mut world, &[("ONE_KEY_OF_THE_TEST", "a-key")]).await;
    let is_well = || async { call(&world).await["status"] == "ok" };
    world.until("a call to succeed", is_well).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authorization_server_that_is_down_is_found_whether_discovered_or_declared() {
    let fake = FakeServer::start(&[REVISION]).await;
    for declared in [false, true] {
        let away = format!("http://127.0.0.1:{}", free_port());
        let oauth = match declared {
            false => format!("issuer: '{away}'"),
            true => format!("client_id: us, authorization_endpoint: '{away}/a', token_endpoint: '{away}/t'"),
        };
        let world = World::builder()
            .provider_with("one", &fake, &format!("auth: {{ oauth: {{ {oauth} }} }}\n"))
            .logged()
            .start()
            .await;
        assert_eq!(call(&world).await["data"]["code"], "needs_auth");
        let expected = Expected {
            code: "needs_auth",
            step: "discovery",
            cause: "Connection refused (os error 111)",
            cure: if declared {
                "start it"
            } else {
                "is reached from here"
            },
        };
        is_explained(&world, &expected).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_is_away_is_named_alike_by_answer_log_doctor_and_check() {
    let authority = Authority::start(&[REVISION]).await;
    let address = format!("http://127.0.0.1:{}", free_port());
    let settings = format!("vault: {{ hashicorp: {{ address: \"{address}\", auth: {{ token: t }} }} }}\n");
    let world = people(&authority).settings(&settings).launch();
    let serves = || async {
        world
            .http
            .get(format!("{}/health", world.admin))
            .send()
            .await
            .is_ok()
    };
    world.until("the gateway to listen", serves).await;
    let expected = Expected {
        code: "credential_store",
        step: "vault",
        cause: "cannot be reached",
        cure: "vault.hashicorp.address",
    };
    is_named(&world, &expected).await;
    let (code, text) = run(world.folder.path(), &["check", "--online"]).await;
    assert_eq!(code, Some(64), "{text}");
    assert!(
        text.contains("vault.hashicorp.address: ") && text.contains("Connection refused (os error 111)"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_away_is_found_by_check_in_the_words_of_the_log() {
    let port = free_port();
    let settings = format!("shared_state: {{ redis: \"redis://ada:hunter2@127.0.0.1:{port}/\" }}\n");
    let world = World::builder().settings(&settings).logged().launch();
    let is_logged = || async {
        world.log().iter().any(|line| {
            line["error"]
                .as_str()
                .is_some_and(|it| it.contains("Connection refused"))
        })
    };
    world.until("the log to say so", is_logged).await;
    let (code, text) = run(world.folder.path(), &["check", "--online"]).await;
    assert_eq!(code, Some(64), "{text}");
    assert!(
        text.contains("pleiades.yaml:4:24: shared_state.redis: "),
        "{text}"
    );
    assert!(
        text.contains("Connection refused (os error 111)") && !text.contains("hunter2"),
        "{text}"
    );
    let _redis = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let (_, text) = run(world.folder.path(), &["check", "--online"]).await;
    assert!(!text.contains("shared_state.redis: `"), "{text}");
}

/// The output of `serve` that does not start.
async fn not_served(folder: &Path, args: &[&str]) -> (Option<i32>, String) {
    run(folder, &[&["serve"], args].concat()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_with_a_fault_are_told_alike_by_all_who_read_them() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("providers.d")).unwrap();
    std::fs::write(folder.path().join("pleiades.yaml"), "listn: 127.0.0.1:1\n").unwrap();
    let fault = "pleiades.yaml:1:1: listn: ";
    let (checked, text) = run(folder.path(), &["check"]).await;
    assert_eq!(checked, Some(64), "{text}");
    assert!(
        text.contains(fault) && text.contains("did you mean `listen`"),
        "{text}"
    );
    for args in [
        &["serve"][..],
        &["doctor", "one"],
        &["tools", "one"],
        &["accounts"],
    ] {
        let (code, text) = run(folder.path(), args).await;
        assert_eq!(code, Some(78), "{args:?} {text}");
        assert!(
            text.contains(fault) && text.contains("did you mean `listen`"),
            "{args:?} {text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_names_the_option_that_chooses_another() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("providers.d")).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for option in ["--listen", "--admin"] {
        let other = if option == "--listen" {
            "--admin"
        } else {
            "--listen"
        };
        let free = format!("127.0.0.1:{}", free_port());
        let (code, text) = not_served(folder.path(), &[option, &address, other, &free]).await;
        assert_eq!(code, Some(69), "{text}");
        assert!(
            text.contains(&address) && text.contains("Address already in use (os error 98)"),
            "{text}"
        );
        assert!(text.contains(&format!("`{option}`")), "{text}");
    }
}

/// The lines of renewals that failed, at `warn`.
fn warnings(world: &World) -> Vec<Value> {
    let is_one = |line: &Value| line["message"] == "tokens could not be renewed" && line["level"] == "WARN";
    world.log().into_iter().filter(is_one).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_whose_answer_is_lost_is_interrupted_in_answer_log_and_metric() {
    let authority = Authority::start(&[REVISION]).await;
    let world = people(&authority).start().await;
    connect(&world).await;
    is_cured(&world).await;
    authority.fail("/token", EndpointFault::Loses, 1);
    authority.expire();
    assert_eq!(call(&world).await["data"]["reason"], "interrupted");
    world
        .until("a warning", || async { !warnings(&world).is_empty() })
        .await;
    let lines = warnings(&world);
    assert_eq!(
        (lines.len(), &lines[0]["outcome"]),
        (1, &json!("interrupted")),
        "{lines:#?}"
    );
    let whole = "--tenant default --user local --account ";
    assert!(lines[0]["cure"].as_str().unwrap().contains(whole), "{lines:#?}");
    let metrics = world.metrics().await;
    let series = r#"pleiades_token_refresh_total{outcome="interrupted",provider="one"} 1"#;
    assert!(metrics.contains(series), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_fails_again_for_the_same_cause_is_one_warning() {
    let authority = Authority::start(&[REVISION]).await;
    let world = people(&authority).start().await;
    connect(&world).await;
    is_cured(&world).await;
    authority.fail("/token", EndpointFault::Says(503, json!({})), 1_000);
    authority.expire();
    let rounds = || async {
        call(&world).await;
        let metrics = world.metrics().await;
        let series = r#"pleiades_token_refresh_total{outcome="transient",provider="one"} "#;
        let count = metrics.lines().find_map(|line| line.strip_prefix(series));
        count.is_some_and(|count| count.parse::<u32>().unwrap() >= 2)
    };
    world.until("two rounds", rounds).await;
    let lines = warnings(&world);
    assert_eq!(lines.len(), 1, "{lines:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_of_the_descriptor_that_is_down_is_logged_with_host_and_port() {
    let fake = FakeServer::start(&[REVISION]).await;
    let away = format!("127.0.0.1:{}", free_port());
    let auth = format!("auth: {{ oauth: {{ client_id: us, issuer: \"http://{away}\" }} }}\n");
    let world = World::builder()
        .provider_with("one", &fake, &auth)
        .logged()
        .start()
        .await;
    let answer = call(&world).await;
    let url = answer["data"]["connect_url"].as_str().unwrap();
    Browser::default().begin(url, &[]).await;
    let failed = || {
        world
            .log()
            .into_iter()
            .find(|line| line["message"] == "a connection failed")
    };
    world.until("the line", || async { failed().is_some() }).await;
    let line = failed().unwrap();
    assert_eq!(
        line["error"],
        format!("{away}: Connection refused (os error 111)"),
        "{line}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_client_is_a_warning_in_every_view_with_a_cure_for_a_client() {
    let authority = Authority::start(&[REVISION]).await;
    authority.fail(
        "/token",
        EndpointFault::Says(401, json!({ "error": "invalid_client" })),
        1_000,
    );
    let fake = FakeServer::start(&[REVISION]).await;
    let auth = format!(
        "auth: {{ client_credentials: {{ client_id: us, client_secret: \"${{SECRET}}\", token_endpoint: \"{}/token\" }} }}\n",
        authority.url
    );
    let world = World::builder()
        .provider_with("one", &fake, &auth)
        .env("SECRET", "secret");
    let world = world.logged().start().await;
    for view in ["mcp", "tools", "relay"] {
        let name = if view == "mcp" { "use_one" } else { "echo" };
        let asked = world
            .http
            .post(format!("{}/{view}/one", world.base))
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", REVISION)
            .body(
                json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call",
                        "params": { "name": name, "arguments": { "tool": "echo", "arguments": {} } } })
                .to_string(),
            );
        let answer = asked.send().await.unwrap();
        let request = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
        let line = world.line(&request).await;
        assert_eq!(
            (&line["outcome"], &line["level"]),
            (&json!("upstream_auth"), &json!("WARN")),
            "{line}"
        );
    }
    let lines = warnings(&world);
    assert!(!lines.is_empty());
    for line in lines {
        let cure = line["cure"].as_str().unwrap();
        assert!(
            cure.contains("`client_secret`") && !cure.contains("connecting again"),
            "{line}"
        );
        assert!(
            line["tokens.retry_at"].is_null(),
            "nobody asks again by itself: {line}"
        );
    }
}
