//! The process: its fronts, its end, its commands.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::world::client::until_method;
use super::world::{FakeServer, GUARD, TestClient, World};

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_streams_politely_and_the_process_with_them() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let mut world = World::builder().provider("one", &fake).start().await;
    world.until_state("one", "ready").await;
    let legacy = TestClient::connect(&world, "/mcp", "2025-11-25").await;
    let modern = TestClient::connect(&world, "/mcp", "2026-07-28").await;
    let stream = legacy.stream().await;
    let wanted = json!({ "notifications": { "toolsListChanged": true } });
    let mut listen = modern.send_as(json!("sub"), "subscriptions/listen", wanted).await;
    until_method(&mut listen, "notifications/subscriptions/acknowledged").await;
    world.terminate();
    let rest = listen.text().await.unwrap();
    assert!(
        rest.contains("\"id\":\"sub\"") && rest.contains("result"),
        "{rest}"
    );
    stream.text().await.unwrap();
    let mut process = world.process.take().unwrap();
    let ended = tokio::task::spawn_blocking(move || process.wait());
    let status = tokio::time::timeout(GUARD, ended)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_hangs_is_answered_before_the_grace_period_ends() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let mut world = World::builder().provider("one", &fake).start().await;
    world.until_state("one", "ready").await;
    let client = TestClient::connect(&world, "/tools/one", "2025-11-25").await;
    let call = tokio::spawn(async move {
        client
            .send("tools/call", json!({ "name": "wait", "arguments": {} }))
            .await
            .status()
    });
    world
        .until("the call to wait", || async {
            fake.knobs.waiting.load(Ordering::SeqCst) == 1
        })
        .await;
    world.terminate();
    assert_eq!(call.await.unwrap(), 503);
    assert!(ended(&mut world).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sigterm_waits_for_no_call() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let mut world = World::builder().provider("one", &fake).start().await;
    world.until_state("one", "ready").await;
    let client = TestClient::connect(&world, "/relay/one", "2025-11-25").await;
    let request = client
        .post()
        .body(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"wait"}}"#);
    let call = tokio::spawn(request.send());
    world
        .until("the call to wait", || async {
            fake.knobs.waiting.load(Ordering::SeqCst) == 1
        })
        .await;
    world.terminate();
    world
        .until("readiness to fall", || async {
            world
                .http
                .get(format!("{}/ready", world.admin))
                .send()
                .await
                .is_ok_and(|answer| answer.status() == 503)
        })
        .await;
    world.terminate();
    assert!(ended(&mut world).await.success());
    assert!(call.await.unwrap().is_err());
}

async fn ended(world: &mut World) -> std::process::ExitStatus {
    let mut process = world.process.take().unwrap();
    let ended = tokio::task::spawn_blocking(move || process.wait());
    tokio::time::timeout(GUARD, ended)
        .await
        .unwrap()
        .unwrap()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn health_readiness_and_metrics_tell_of_the_process() {
    let world = World::builder().start().await;
    for url in [
        format!("{}/health", world.base),
        format!("{}/health", world.admin),
        format!("{}/ready", world.admin),
    ] {
        assert_eq!(world.http.get(&url).send().await.unwrap().status(), 200, "{url}");
    }
    let metrics = world.metrics().await;
    for name in [
        "pleiades_build_info",
        "pleiades_reload_generation",
        "process_resident_memory_bytes",
    ] {
        assert!(metrics.contains(name), "{name}");
    }
    let foreign = world
        .http
        .get(format!("{}/providers", world.admin))
        .header("host", "evil.example");
    assert_eq!(foreign.send().await.unwrap().status(), 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn off_loopback_without_access_the_process_refuses_to_start() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_pleiades"))
        .args(["serve", "--listen", "0.0.0.0:0"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(
        output.status.code(),
        Some(78),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn stdio_serves_lines_and_ends_with_its_input() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder().provider("one", &fake).start().await;
    let providers = world.providers();
    let answers = tokio::task::spawn_blocking(move || {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pleiades"))
            .args(["stdio", "--providers"])
            .arg(&providers)
            .current_dir(providers.parent().unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut ask = |message: Value| -> Value {
            writeln!(stdin, "{message}").unwrap();
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("not a message: {line}"))
        };
        let initialize = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "t", "version": "0" } });
        let opened = ask(json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": initialize }));
        let call = json!({ "name": "use_one", "arguments": { "tool": "echo", "arguments": { "text": "hi" } } });
        let called = ask(json!({ "jsonrpc": "2.0", "id": "two", "method": "tools/call", "params": call }));
        drop(stdin);
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        (opened, called, rest, child.wait().unwrap())
    })
    .await
    .unwrap();
    let (opened, called, rest, status) = answers;
    assert_eq!(opened["result"]["protocolVersion"], "2025-06-18");
    assert_eq!(
        called["result"]["structuredContent"]["text"], "echo: hi",
        "{called}"
    );
    assert_eq!(
        (called["id"].as_str(), rest.as_str(), status.code()),
        (Some("two"), "", Some(0))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn stdio_that_is_told_to_end_takes_its_children_along() {
    let folder = tempfile::tempdir().unwrap();
    let providers = folder.path().join("providers.d");
    std::fs::create_dir(&providers).unwrap();
    let descriptor = "id: deaf\nupstream: { command: [sh, deaf.sh] }\nauth: { none: {} }\n";
    std::fs::write(providers.join("deaf.yaml"), descriptor).unwrap();
    std::fs::write(
        providers.join("deaf.sh"),
        "echo $$ > draft; mv draft pid; exec sleep 1000\n",
    )
    .unwrap();
    let mut process = Command::new(env!("CARGO_BIN_EXE_pleiades"))
        .arg("stdio")
        .current_dir(folder.path())
        .env("XDG_DATA_HOME", folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let written = providers.join("pid");
    let started = async {
        while !written.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(GUARD, started).await.unwrap();
    let child: i32 = std::fs::read_to_string(&written).unwrap().trim().parse().unwrap();
    let pid = rustix::process::Pid::from_child(&process);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let status = tokio::task::spawn_blocking(move || process.wait())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.code(), Some(0));
    let child = rustix::process::Pid::from_raw(child).unwrap();
    assert!(
        rustix::process::test_kill_process(child).is_err(),
        "the child is gone"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_and_calls_work_from_a_terminal() {
    let fake = FakeServer::start(&["2026-07-28"]).await;
    let world = World::builder().provider("one", &fake).start().await;
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pleiades"));
        command
            .args(args)
            .current_dir(world.folder.path())
            .env("XDG_DATA_HOME", world.folder.path())
            .stdin(Stdio::null());
        async move {
            tokio::task::spawn_blocking(move || command.output().unwrap())
                .await
                .unwrap()
        }
    };
    let listed = run(&["tools", "one", "--json"]).await;
    let tools: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(tools[0]["name"], "echo");
    let called = run(&["call", "one", "echo", r#"{"text":"hi"}"#]).await;
    assert_eq!(
        (
            called.status.code(),
            String::from_utf8_lossy(&called.stdout).trim()
        ),
        (Some(0), "echo: hi")
    );
    assert_eq!(run(&["call", "one", "echo", "[]"]).await.status.code(), Some(64));
    assert_eq!(run(&["tools", "none"]).await.status.code(), Some(64));
}

#[tokio::test(flavor = "multi_thread")]
async fn add_writes_a_descriptor_that_runs_as_it_is() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder().start().await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_pleiades"));
    command
        .args(["add", &fake.url])
        .current_dir(world.folder.path())
        .env("XDG_DATA_HOME", world.folder.path());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    world.until_state("fake", "ready").await;
    let text = std::fs::read_to_string(world.providers().join("fake.yaml")).unwrap();
    assert!(
        text.contains("title: \"Fake\"") && text.contains("about:") && text.contains("none: {}"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_behind_the_gateway_is_shared_and_ends_with_it() {
    let script = r#"
import json, os, sys
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message: continue
    method, result = message["method"], None
    if method == "initialize":
        result = {"protocolVersion": message["params"]["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": {"name": "py", "version": "0"}}
    elif method == "tools/list":
        result = {"tools": [{"name": "pid", "inputSchema": {"type": "object"}}]}
    elif method == "tools/call":
        result = {"content": [{"type": "text", "text": str(os.getpid())}, {"type": "text", "text": " ".join(sorted(os.environ))}]}
    answer = {"jsonrpc": "2.0", "id": message["id"]}
    if result is None: answer["error"] = {"code": -32601, "message": "no"}
    else: answer["result"] = result
    print(json.dumps(answer), flush=True)
"#;
    let descriptor = "upstream: { command: [python3, server.py], env: { OWN: value } }\nauth: { none: {} }\n";
    let builder = World::builder()
        .descriptor("py", descriptor)
        .env("SECRET_OF_THE_GATEWAY", "x");
    let world = builder.start().await;
    std::fs::write(world.providers().join("server.py"), script).unwrap();
    world.until_state("py", "ready").await;
    let mut pids = Vec::new();
    for path in ["/tools/py", "/relay/py"] {
        let peer = TestClient::connect(&world, path, "2025-11-25").await;
        for _ in 0..3 {
            let result = peer.call("pid", json!({})).await;
            pids.push(result["content"][0]["text"].as_str().unwrap().to_owned());
            let names = result["content"][1]["text"].as_str().unwrap();
            assert!(
                names.contains("OWN") && !names.contains("SECRET_OF_THE_GATEWAY"),
                "{names}"
            );
        }
    }
    pids.dedup();
    assert_eq!(pids.len(), 1, "one process serves all calls of a user");
    drop(world);
    assert!(
        !std::path::Path::new(&format!("/proc/{}", pids[0])).exists(),
        "it is gone with the gateway"
    );
}

/// A `pleiades stdio` before a folder of descriptors, and its output.
fn stdio(world: &World) -> (std::process::Child, BufReader<std::process::ChildStdout>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pleiades"))
        .args(["stdio", "--providers"])
        .arg(world.providers())
        .current_dir(world.folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    (child, stdout)
}

fn line(from: &mut impl BufRead) -> Value {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|_| panic!("not a message: {line}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn stdio_refuses_what_is_no_message_by_its_id_and_goes_on() {
    let world = World::builder().settings("max_body: 1MiB\n").start().await;
    let answers = tokio::task::spawn_blocking(move || {
        let (mut child, mut stdout) = stdio(&world);
        let mut stdin = child.stdin.take().unwrap();
        let long = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"{}\"}}",
            "x".repeat(2 << 20)
        );
        let mut answers = Vec::new();
        for text in [
            "junk",
            r#"{"jsonrpc":"2.0","id":"mine"}"#,
            &long,
            r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#,
        ] {
            writeln!(stdin, "{text}").unwrap();
            let answer = line(&mut stdout);
            answers.push((answer["id"].clone(), answer["error"]["code"].clone()));
        }
        drop(stdin);
        assert_eq!(child.wait().unwrap().code(), Some(0));
        answers
    });
    let expected = [
        (Value::Null, json!(-32700)),
        (json!("mine"), json!(-32600)),
        (Value::Null, json!(413)),
        (json!(2), Value::Null),
    ];
    assert_eq!(answers.await.unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_over_stdio_ends_when_it_is_cancelled() {
    let world = World::builder().start().await;
    let (rest, status) = tokio::task::spawn_blocking(move || {
        let (mut child, mut stdout) = stdio(&world);
        let mut stdin = child.stdin.take().unwrap();
        let meta = json!({ "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {} });
        let listen = json!({ "jsonrpc": "2.0", "id": "sub", "method": "subscriptions/listen", "params": { "notifications": {}, "_meta": meta } });
        writeln!(stdin, "{listen}").unwrap();
        assert_eq!(line(&mut stdout)["method"], "notifications/subscriptions/acknowledged");
        let cancel = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": "sub" } });
        writeln!(stdin, "{cancel}").unwrap();
        // The cancellation is on its way beside this; its answer says that lines are still read.
        writeln!(stdin, r#"{{"jsonrpc":"2.0","id":2,"method":"ping"}}"#).unwrap();
        assert_eq!(line(&mut stdout)["id"], 2);
        drop(stdin);
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        (rest, child.wait().unwrap())
    })
    .await
    .unwrap();
    assert_eq!((rest.as_str(), status.code()), ("", Some(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn stdio_ends_when_told_to_and_its_children_with_it() {
    // A child that ignores the end of its input.
    let script =
        "import os, sys, time\nopen('pid', 'w').write(str(os.getpid()))\nwhile True: time.sleep(1)\n";
    let descriptor = "upstream: { command: [python3, server.py] }\nauth: { none: {} }\n";
    let world = World::builder().start().await;
    let own = world.folder.path().join("own.d");
    std::fs::create_dir(&own).unwrap();
    std::fs::write(own.join("server.py"), script).unwrap();
    std::fs::write(own.join("py.yaml"), format!("id: py\n{descriptor}")).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_pleiades"))
        .args(["stdio", "--providers"])
        .arg(&own)
        .current_dir(world.folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = own.join("pid");
    world
        .until("the child to run", || async {
            std::fs::read_to_string(&pid).is_ok_and(|text| !text.is_empty())
        })
        .await;
    let grandchild = std::fs::read_to_string(&pid).unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&child),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    let status = tokio::task::spawn_blocking(move || child.wait().unwrap())
        .await
        .unwrap();
    assert_eq!(status.code(), Some(0));
    let proc = format!("/proc/{grandchild}");
    world
        .until("the child to be gone", || async {
            !std::path::Path::new(&proc).exists()
        })
        .await;
}

#[test]
fn check_notes_that_people_are_asked_for_their_key_where_they_cannot_log_in() {
    let keys = "access:\n  api_keys:\n    - { name: ann, tenant: acme, user: ann, sha256: DIGEST }\n"
        .replace("DIGEST", &"a1".repeat(32));
    let login = "  login: { issuer: https://login.example.com, client_id: pleiades, tenant: acme }\n";
    let provider = "id: mail\nupstream: { url: https://mail.example.com/mcp }\nauth: { oauth: {} }\n";
    let note = "pleiades.yaml:2:3: access.login: note: people who connect an account of `mail` are asked for their \
                API key on the connect page";
    for (settings, provider, is_noted) in [
        (keys.clone(), provider.to_owned(), true),
        (format!("{keys}{login}"), provider.to_owned(), false),
        (keys.clone(), format!("enabled: false\n{provider}"), false),
        (keys, provider.replace("oauth", "none"), false),
        ("name: alone\n".to_owned(), provider.to_owned(), false),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("providers.d")).unwrap();
        std::fs::write(folder.path().join("pleiades.yaml"), &settings).unwrap();
        std::fs::write(folder.path().join("providers.d/mail.yaml"), &provider).unwrap();
        let done = Command::new(env!("CARGO_BIN_EXE_pleiades"))
            .args(["check", "--strict"])
            .current_dir(folder.path())
            .output()
            .unwrap();
        let text = String::from_utf8(done.stdout).unwrap();
        assert_eq!(text.contains(note), is_noted, "{settings}{provider}{text}");
        assert_eq!(text.contains("docs/PEOPLE.md"), is_noted, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_begins_with_what_runs_ends_alike_for_both_signals_and_warns_of_nothing_in_a_healthy_run() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    for (signal, name) in [
        (rustix::process::Signal::TERM, "SIGTERM"),
        (rustix::process::Signal::INT, "SIGINT"),
    ] {
        let mut world = World::builder().provider("one", &fake).logged().start().await;
        world.until_state("one", "ready").await;
        let client = TestClient::connect(&world, "/tools/one", "2025-11-25").await;
        client.call("echo", json!({ "text": "hi" })).await;
        let first = world.log().remove(0);
        assert_eq!(first["message"], "starting to serve");
        for field in ["version", "listen", "admin", "settings", "providers", "vault"] {
            assert!(first[format!("server.{field}")].is_string(), "{field} in {first}");
        }
        let pid = rustix::process::Pid::from_child(world.process.as_ref().unwrap());
        rustix::process::kill_process(pid, signal).unwrap();
        assert!(ended(&mut world).await.success());
        let lines = world.log();
        let ending = lines.iter().find(|line| line["process.signal"] == name);
        assert_eq!(ending.unwrap()["shutdown.drain"], "0ns");
        assert_eq!(lines.last().unwrap()["message"], "ended");
        let loud: Vec<_> = lines.iter().filter(|line| line["level"] != "INFO").collect();
        assert!(loud.is_empty(), "{loud:#?}");
    }
}
