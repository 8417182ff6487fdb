//! Commands that do one thing and end: quiet, the same exit codes for the same trouble, and beside a gateway
//! of the same settings answered by it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::world::{FakeServer, TestClient, World, free_port};

/// A server that notes each of its starts in the file `starts` beside it.
const COUNTED: &str = r#"
import json, os, sys
open("starts", "a").write("x")
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message: continue
    method, result = message["method"], None
    if method == "initialize":
        result = {"protocolVersion": message["params"]["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": {"name": "py", "version": "0"}}
    elif method == "tools/list":
        say = {"type": "object", "properties": {"text": {"type": "string"}, "times": {"type": "integer"}}, "required": ["text"]}
        result = {"tools": [{"name": "say", "description": "Says it.", "inputSchema": say}, {"name": "fail", "inputSchema": {"type": "object"}}]}
    elif method == "tools/call":
        fails = message["params"]["name"] == "fail"
        result = {"content": [{"type": "text", "text": json.dumps(message["params"]["arguments"])}], "isError": fails}
    answer = {"jsonrpc": "2.0", "id": message["id"]}
    if result is None: answer["error"] = {"code": -32601, "message": "no"}
    else: answer["result"] = result
    print(json.dumps(answer), flush=True)
"#;
const PROCESS: &str = "upstream: { command: [python3, server.py] }\nauth: { none: {} }\n";

pub struct CommandOutput {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// A command in a world's folder, with its settings, data and runtime folder.
fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pleiades"));
    command
        .args(args)
        .current_dir(folder)
        .env("XDG_DATA_HOME", folder.join("data"))
        .env("XDG_CONFIG_HOME", folder.join("config"))
        .env("XDG_RUNTIME_DIR", folder.join("run"))
        .env_remove("RUST_LOG")
        .stdin(Stdio::null());
    command
}

async fn ended(mut command: Command) -> CommandOutput {
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    CommandOutput {
        code: output.status.code(),
        out: text(&output.stdout),
        err: text(&output.stderr),
    }
}

pub async fn run(folder: &Path, args: &[&str]) -> CommandOutput {
    ended(command(folder, args)).await
}

/// The same in a runtime folder where nobody runs.
async fn alone(folder: &Path, args: &[&str]) -> CommandOutput {
    let elsewhere = folder.join("elsewhere");
    std::fs::create_dir_all(&elsewhere).unwrap();
    let mut command = command(folder, args);
    command.env("XDG_RUNTIME_DIR", elsewhere);
    ended(command).await
}

fn starts(world: &World) -> usize {
    std::fs::read_to_string(world.providers().join("starts")).map_or(0, |text| text.len())
}

fn notes(folder: &Path) -> Vec<PathBuf> {
    let found = std::fs::read_dir(folder.join("run/pleiades"))
        .into_iter()
        .flatten();
    found.map(|entry| entry.unwrap().path()).collect()
}

async fn counted(settings: &str) -> World {
    let builder = World::builder().settings(settings);
    let world = builder.descriptor("py", PROCESS).start().await;
    std::fs::write(world.providers().join("server.py"), COUNTED).unwrap();
    world.until_state("py", "ready").await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_gateway_commands_start_nothing_and_print_the_same() {
    let world = counted("").await;
    let folder = world.folder.path();
    let before = starts(&world);
    let asked = [
        &["tools", "py"][..],
        &["tools", "py", "--json"],
        &["call", "py", "say", r#"{"text":"hi"}"#],
        &["call", "py", "say", r#"{"text":"hi"}"#, "--json"],
        &["call", "py", "say", r#"{"txt":"hi"}"#],
        &["call", "py", "sai"],
        &["call", "py", "fail"],
        &["tools", "nope"],
    ];
    let mut by_gateway = Vec::new();
    for args in asked {
        by_gateway.push(run(folder, args).await);
    }
    assert_eq!(starts(&world), before, "the gateway's own process answered");
    for (args, other) in asked.into_iter().zip(by_gateway) {
        let own = alone(folder, args).await;
        assert_eq!(
            (own.code, &own.out, &own.err),
            (other.code, &other.out, &other.err),
            "{args:?}"
        );
    }
    assert!(starts(&world) > before, "alone a command starts its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_notes_where_it_runs_and_takes_that_back_at_its_end() {
    let mut world = World::builder().start().await;
    let folder = world.folder.path().to_owned();
    let files = notes(&folder);
    assert_eq!(files.len(), 1, "{files:?}");
    let note: Value = serde_json::from_slice(&std::fs::read(&files[0]).unwrap()).unwrap();
    let address = world.base.trim_start_matches("http://");
    let admin = world.admin.trim_start_matches("http://");
    let pid = world.process.as_ref().unwrap().id();
    assert_eq!(
        (&note["address"], &note["admin"], &note["pid"]),
        (&json!(address), &json!(admin), &json!(pid))
    );
    let mode = |path: &Path| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(
        (mode(&files[0]), mode(files[0].parent().unwrap())),
        (0o600, 0o700)
    );
    world.terminate();
    let mut process = world.process.take().unwrap();
    tokio::task::spawn_blocking(move || process.wait())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(notes(&folder), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_was_killed_is_not_asked() {
    let mut world = counted("").await;
    let before = starts(&world);
    let mut process = world.process.take().unwrap();
    process.kill().unwrap();
    process.wait().unwrap();
    let folder = world.folder.path();
    assert_eq!(notes(folder).len(), 1, "its note is still there");
    let called = run(folder, &["call", "py", "say", r#"{"text":"hi"}"#]).await;
    assert_eq!(
        (called.code, called.out.trim()),
        (Some(0), r#"{"text": "hi"}"#),
        "{}",
        called.err
    );
    assert_eq!(starts(&world), before + 1, "the command's own process answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_keys_a_command_proves_itself_by_the_key_of_the_local_caller() {
    let digest = "0".repeat(64);
    let access = |local: &str| {
        format!("access: {{ {local}api_keys: [{{ name: ci, tenant: t, user: u, sha256: \"{digest}\" }}] }}\n")
    };
    let call = ["call", "py", "say", r#"{"text":"hi"}"#];
    let world = counted(&access("local: { tenant: default, user: ann }, ")).await;
    let before = starts(&world);
    let called = run(world.folder.path(), &call).await;
    assert_eq!(
        (called.code, called.out.trim()),
        (Some(0), r#"{"text": "hi"}"#),
        "{}",
        called.err
    );
    assert_eq!(starts(&world), before);
    let other = run(world.folder.path(), &["--user", "bob", "tools", "py"]).await;
    assert_eq!(other.code, Some(0), "{}", other.err);
    assert_eq!(
        starts(&world),
        before + 1,
        "somebody else is not the gateway's local caller"
    );
    let world = counted(&access("")).await;
    let before = starts(&world);
    let called = run(world.folder.path(), &call).await;
    assert_eq!(
        (called.code, called.out.trim()),
        (Some(0), r#"{"text": "hi"}"#),
        "{}",
        called.err
    );
    assert_eq!(starts(&world), before + 1, "who has no key works alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_run_writes_no_line_and_a_failing_one_says_what_failed() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let dead = format!(
        "upstream: {{ url: 'http://127.0.0.1:{}/mcp' }}\nauth: {{ none: {{}} }}\n",
        free_port()
    );
    let dies = "upstream: { command: [sh, -c, 'echo no DATABASE_URL >&2; exit 3'] }\nauth: { none: {} }\n";
    let builder = World::builder().provider("one", &fake).descriptor("dead", &dead);
    let world = builder.descriptor("dies", dies).start().await;
    let folder = world.folder.path();
    for args in [
        &["tools", "one"][..],
        &["call", "one", "echo", r#"{"text":"hi"}"#],
        &["accounts"],
        &["check"],
        &["explain", "69"],
    ] {
        for ended in [run(folder, args).await, alone(folder, args).await] {
            assert_eq!(ended.code, Some(0), "{args:?}: {}", ended.err);
            let is_word = |line: &str| line.contains(" has no accounts here") || line.contains("warning:");
            let logged: Vec<&str> = ended.err.lines().filter(|line| !is_word(line)).collect();
            assert!(
                !ended.err.contains('{') && !ended.err.contains("degraded"),
                "{args:?}: {}",
                ended.err
            );
            assert!(args[0] == "check" || logged.is_empty(), "{args:?}: {logged:?}");
        }
    }
    let (by_gateway, own) = (
        run(folder, &["tools", "dead"]).await,
        alone(folder, &["tools", "dead"]).await,
    );
    assert_eq!(by_gateway.err, own.err, "with the same cause");
    for (id, cause) in [("dead", "Connection refused"), ("dies", "no DATABASE_URL")] {
        for ended in [
            run(folder, &["tools", id]).await,
            alone(folder, &["tools", id]).await,
        ] {
            assert_eq!((ended.code, ended.out.as_str()), (Some(69), ""), "{}", ended.err);
            assert!(
                ended.err.starts_with("error: ") && ended.err.contains(cause),
                "{}",
                ended.err
            );
            assert!(ended.err.lines().count() <= 2, "{}", ended.err);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_ends_on_purpose_is_not_called_degraded() {
    let world = counted("").await;
    let mut command = command(world.folder.path(), &["tools", "py"]);
    command
        .env("XDG_RUNTIME_DIR", world.folder.path())
        .env("RUST_LOG", "info");
    let ended = ended(command).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.err.contains("provider is ready"), "{}", ended.err);
    assert!(!ended.err.contains("WARN"), "{}", ended.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_that_do_not_fit_are_explained_and_nothing_is_sent() {
    let world = counted("").await;
    let folder = world.folder.path();
    let refused = run(folder, &["call", "py", "say", r#"{"txt":"hi","times":"x"}"#]).await;
    assert_eq!((refused.code, refused.out.as_str()), (Some(64), ""));
    for part in [
        "nothing was run",
        "arguments.text: missing, expected string",
        "arguments.txt: no such parameter, did you mean `text`",
        "arguments.times: got \"x\", expected integer",
        "pleiades call py say '{\"text\":",
    ] {
        assert!(refused.err.contains(part), "{part}: {}", refused.err);
    }
    let unknown = run(folder, &["call", "py", "sai"]).await;
    assert_eq!(unknown.code, Some(64));
    assert!(unknown.err.contains("did you mean `say`"), "{}", unknown.err);
}

/// Descriptors of providers that fail in one way each.
async fn troubled(fake: &FakeServer, login: &FakeServer) -> World {
    login.knobs.refuses.store(true, Ordering::SeqCst);
    let dead = format!(
        "upstream: {{ url: 'http://127.0.0.1:{}/mcp' }}\nauth: {{ none: {{}} }}\n",
        free_port()
    );
    let slow = format!(
        "upstream: {{ url: '{}', timeouts: {{ call: 500ms }} }}\nauth: {{ none: {{}} }}\n",
        fake.url
    );
    let limited = "auth: { none: {} }\nlimits: { rate: [{ requests: 1, every: 1h, per: provider }] }\n";
    World::builder()
        .provider("one", fake)
        .provider_with("off", fake, "enabled: false\nauth: { none: {} }\n")
        .provider_with("limited", fake, limited)
        .provider_with("mail", login, "auth: { oauth: {} }\n")
        .descriptor("slow", &slow)
        .descriptor("dead", &dead)
        .descriptor(
            "broken",
            "upstream: { url: 'http://127.0.0.1:1/mcp', odd: 1 }\nauth: { none: {} }\n",
        )
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_trouble_ends_every_command_with_the_same_exit_code() {
    let (fake, login) = (
        FakeServer::start(&["2025-11-25"]).await,
        FakeServer::start(&["2025-11-25"]).await,
    );
    let world = troubled(&fake, &login).await;
    let folder = world.folder.path();
    let first = run(folder, &["call", "limited", "echo", r#"{"text":"hi"}"#]).await;
    assert_eq!(first.code, Some(0), "{}", first.err);
    let table: &[(&[&str], i32)] = &[
        (&["tools", "nope"], 64),
        (&["call", "nope", "echo"], 64),
        (&["doctor", "nope"], 64),
        (&["connect", "nope", "--no-browser"], 64),
        (&["accounts", "default", "nope", "a"], 64),
        (&["connect", "one", "--no-browser"], 64),
        (&["call", "one", "nope"], 64),
        (&["call", "one", "echo", "[]"], 64),
        (&["tools", "one", "--account", "a\nb"], 64),
        (&["explain", "nope"], 64),
        (&["tools", "off"], 69),
        (&["tools", "broken"], 69),
        (&["tools", "dead"], 69),
        (&["call", "dead", "echo"], 69),
        (&["doctor", "dead"], 69),
        (&["call", "mail", "echo"], 69),
        (&["doctor", "broken"], 69),
        (&["call", "one", "fail"], 69),
        (&["call", "slow", "wait"], 75),
        (&["call", "limited", "echo", r#"{"text":"hi"}"#], 75),
    ];
    let mut wrong = BTreeMap::new();
    for (args, code) in table {
        let by_gateway = run(folder, args).await;
        if by_gateway.code != Some(*code) {
            wrong.insert(
                format!("{args:?} by the gateway"),
                (by_gateway.code, by_gateway.err),
            );
        }
        // Its own count of calls begins anew.
        if args[1] != "limited" {
            let own = alone(folder, args).await;
            if own.code != Some(*code) {
                wrong.insert(format!("{args:?} alone"), (own.code, own.err));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    std::fs::write(folder.join("pleiades.yaml"), "listen: nowhere\n").unwrap();
    for args in [
        &["serve"][..],
        &["tools", "one"],
        &["accounts"],
        &["doctor", "one"],
    ] {
        assert_eq!(run(folder, args).await.code, Some(78), "{args:?}");
    }
    assert_eq!(run(folder, &["check"]).await.code, Some(64));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_made_lets_its_caller_in_by_the_digest_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let made = run(folder.path(), &["key", "--json"]).await;
    let made: Value = serde_json::from_str(&made.out).unwrap();
    let (key, digest) = (made["key"].as_str().unwrap(), made["sha256"].as_str().unwrap());
    assert!(key.starts_with("pleiades_") && key.len() > 43, "{key}");
    let caller = format!("{{ name: ci, tenant: t, user: u, sha256: {digest} }}");
    let settings = format!("access: {{ api_keys: [{caller}] }}\n");
    let world = World::builder().settings(&settings).start().await;
    let ask = |key: Option<&str>| {
        let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" });
        let request = world
            .http
            .post(format!("{}/mcp", world.base))
            .body(list.to_string());
        let request = request.header("content-type", "application/json");
        let request = request.header("accept", "application/json, text/event-stream");
        let request = match key {
            Some(key) => request.header("x-api-key", key),
            None => request,
        };
        async { request.send().await.unwrap().status().as_u16() }
    };
    assert_eq!((ask(None).await, ask(Some(key)).await), (401, 200));
    // With the line's end that a shell puts behind it.
    let file = folder.path().join("key");
    std::fs::write(&file, format!("{key}\n")).unwrap();
    let mut given = command(folder.path(), &["key", "-"]);
    given.stdin(std::fs::File::open(&file).unwrap());
    let given = ended(given).await;
    assert_eq!((given.code, given.out.trim()), (Some(0), digest), "{}", given.err);
    let none = run(folder.path(), &["key", "-"]).await;
    assert_eq!((none.code, none.out.as_str()), (Some(64), ""));
    let shown = run(folder.path(), &["key"]).await;
    let words: Vec<&str> = shown.out.split_whitespace().collect();
    assert!(
        matches!(words.as_slice(), ["key", _, "sha256", _]),
        "{}",
        shown.out
    );
    assert!(
        shown.err.contains("x-api-key") && shown.err.contains("access.api_keys"),
        "{}",
        shown.err
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_named_makes_the_call_by_the_gateway_and_alone() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder()
        .provider_with("mail", &fake, "auth: { oauth: {} }\n")
        .start()
        .await;
    let folder = world.folder.path();
    for account in ["one", "two"] {
        let token = folder.join(account);
        std::fs::write(&token, format!("s3cret-{account}\n")).unwrap();
        let mut set = command(folder, &["accounts", "set", "mail", "--account", account]);
        set.stdin(std::fs::File::open(&token).unwrap());
        let set = ended(set).await;
        assert_eq!(set.code, Some(0), "{}", set.err);
    }
    for account in ["one", "two"] {
        let args = [
            "call",
            "mail",
            "echo",
            r#"{"text":"hi"}"#,
            "--account",
            account,
            "--json",
        ];
        for called in [run(folder, &args).await, alone(folder, &args).await] {
            assert_eq!(called.code, Some(0), "{}", called.err);
            let result: Value = serde_json::from_str(&called.out).unwrap();
            assert_eq!(result["_meta"]["pleiades/accountId"], account, "{result}");
            let seen = fake.knobs.seen.lock();
            let call = seen
                .iter()
                .rfind(|request| request.body["method"] == "tools/call")
                .unwrap();
            let expected = format!("Bearer s3cret-{account}");
            assert_eq!(call.headers["authorization"].to_str().unwrap(), expected);
        }
        let listed = run(folder, &["tools", "mail", "--account", account]).await;
        assert_eq!(listed.code, Some(0), "{}", listed.err);
        let looked = run(folder, &["doctor", "mail", "--account", account, "--json"]).await;
        assert!(
            looked
                .out
                .contains(&format!("`{account}` of default/local is used")),
            "{}",
            looked.out
        );
    }
    for args in [
        &["tools", "mail", "--account", "three"][..],
        &["call", "mail", "echo", r#"{"text":"hi"}"#, "--account", "three"],
    ] {
        for refused in [run(folder, args).await, alone(folder, args).await] {
            assert_eq!(
                (refused.code, refused.out.as_str()),
                (Some(69), ""),
                "{}",
                refused.err
            );
            let hint = "connect mail --account three";
            assert!(refused.err.contains(hint), "{args:?}: {}", refused.err);
        }
    }
}

/// A command that is given a token on stdin.
async fn given(folder: &Path, args: &[&str], token: &str) -> CommandOutput {
    let file = folder.join("token");
    std::fs::write(&file, token).unwrap();
    let mut command = command(folder, args);
    command.stdin(std::fs::File::open(&file).unwrap());
    ended(command).await
}

/// The account that a call by the gateway used, and what was said where none was.
async fn used(client: &TestClient) -> Value {
    let result = client.call("echo", json!({ "text": "hi" })).await;
    let used = result.pointer("/_meta/pleiades~1accountId");
    used.unwrap_or(&result).clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_that_runs_follows_the_commands_that_change_accounts_at_once() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder()
        .provider_with("mail", &fake, "auth: { oauth: {} }\n")
        .logged()
        .start()
        .await;
    let folder = world.folder.path();
    let set = |account: &'static str| async move {
        let set = given(
            folder,
            &["accounts", "set", "mail", "--account", account],
            "s3cret\n",
        )
        .await;
        assert_eq!(
            (set.code, set.err.contains("30 s")),
            (Some(0), false),
            "{}",
            set.err
        );
    };
    set("bob").await;
    let client = TestClient::connect(&world, "/tools/mail", "2025-11-25").await;
    assert_eq!(used(&client).await, "bob");
    set("ivy").await;
    set("cara").await;
    assert_eq!(used(&client).await, "bob");
    for account in ["ivy", "cara"] {
        let chosen = run(folder, &["accounts", "default", "mail", account]).await;
        assert_eq!((chosen.code, chosen.err.as_str()), (Some(0), ""));
        assert_eq!(used(&client).await, account);
    }
    let revoked = run(folder, &["accounts", "revoke", "mail", "cara"]).await;
    assert_eq!(revoked.code, Some(0), "{}", revoked.err);
    assert_eq!(used(&client).await, "ivy", "the choice before");
    let none = run(folder, &["accounts", "default", "mail", "--none"]).await;
    assert_eq!((none.code, none.err.as_str()), (Some(0), ""));
    let refused = used(&client).await;
    assert!(refused.to_string().contains("none is the default"), "{refused}");
    let called = run(folder, &["call", "mail", "echo", r#"{"text":"hi"}"#]).await;
    assert!(
        called.err.contains("--account NAME") && called.err.contains("accounts default mail NAME"),
        "{}",
        called.err
    );
    assert!(!called.err.contains("Pleiades-Account"), "{}", called.err);
    let log = Value::from(world.log()).to_string();
    assert!(
        log.contains("read_again"),
        "what the commands announced is in the log: {log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_of_what_is_unknown_and_tokens_that_do_not_come_are_said() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder()
        .provider_with("mail", &fake, "auth: { oauth: {} }\n")
        .start()
        .await;
    let folder = world.folder.path();
    for args in [
        &["accounts", "default", "nosuch", "ada"][..],
        &["accounts", "default", "nosuch", "--none"],
        &["accounts", "revoke", "nosuch", "ada"],
    ] {
        let refused = run(folder, args).await;
        assert_eq!(refused.code, Some(64), "{}", refused.err);
        assert!(refused.err.contains("has the id `nosuch`"), "{}", refused.err);
    }
    let refused = run(folder, &["accounts", "set", "mail"]).await;
    assert_eq!(refused.code, Some(64), "{}", refused.err);
    assert!(
        refused.err.contains("nothing came in on stdin"),
        "{}",
        refused.err
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_callers_own_key_goes_up_from_the_environment_by_the_gateway_and_alone() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let auth =
        "auth: { client_key: { headers: [x-notes-key], env: NOTES_KEY, forward_as: x-upstream-key } }\n";
    let world = World::builder().provider_with("notes", &fake, auth).start().await;
    let folder = world.folder.path();
    let elsewhere = folder.join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    for runtime in [folder.join("run"), elsewhere] {
        fake.knobs.seen.lock().clear();
        let mut called = command(folder, &["call", "notes", "echo", r#"{"text":"hi"}"#]);
        called
            .env("XDG_RUNTIME_DIR", &runtime)
            .env("NOTES_KEY", "own-key-of-the-caller");
        let called = ended(called).await;
        assert_eq!(called.code, Some(0), "{}", called.err);
        let seen = fake.seen("tools/call");
        let sent: Vec<&str> = seen
            .iter()
            .map(|call| call.headers["x-upstream-key"].to_str().unwrap())
            .collect();
        assert_eq!(sent, ["own-key-of-the-caller"], "{}", runtime.display());
    }
    let refused = run(folder, &["call", "notes", "echo", r#"{"text":"hi"}"#]).await;
    assert_eq!(refused.code, Some(69), "{}", refused.err);
}

/// What a command prints on stdout as JSON.
fn printed(ended: &CommandOutput) -> Value {
    serde_json::from_str(&ended.out).unwrap_or_else(|cause| panic!("{cause}: {} {}", ended.out, ended.err))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_failure_is_one_json_object_on_stdout_with_json() {
    let (fake, login) = (
        FakeServer::start(&["2025-11-25"]).await,
        FakeServer::start(&["2025-11-25"]).await,
    );
    let world = troubled(&fake, &login).await;
    let folder = world.folder.path();
    let table: &[(&[&str], &str)] = &[
        (&["call", "mail", "echo"], "needs_auth"),
        (&["tools", "mail"], "needs_auth"),
        (&["call", "dead", "echo"], "upstream_unreachable"),
        (&["tools", "dead"], "upstream_unreachable"),
        (&["tools", "nope"], "unknown_provider"),
        (&["call", "off", "echo"], "unknown_provider"),
        (&["call", "broken", "echo"], "unknown_provider"),
        (&["call", "one", "echo", "[]"], "invalid_params"),
        (&["call", "one", "echo", r#"{"txt":1}"#], "invalid_arguments"),
        (&["call", "slow", "wait"], "upstream_timeout"),
        (&["tools", "one", "--account", "a\nb"], "invalid_params"),
    ];
    for (args, code) in table {
        let args = [args, &["--json"][..]].concat();
        for ended in [run(folder, &args).await, alone(folder, &args).await] {
            assert_ne!(ended.code, Some(0), "{args:?}");
            let answer = printed(&ended);
            let found = answer.pointer("/error/data/code");
            let found = found.or_else(|| answer.pointer("/structuredContent/data/code"));
            let found = found.or_else(|| answer.pointer("/structuredContent/status"));
            assert_eq!(found, Some(&json!(code)), "{args:?}: {answer}");
            if *code == "needs_auth" {
                let text = answer.to_string();
                assert!(
                    text.contains("connect_command") || text.contains("connect_url"),
                    "{args:?}: {answer}"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cause_that_is_printed_is_of_this_call_else_the_request_is_named() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder().provider("one", &fake).logged().start().await;
    world.until_state("one", "ready").await;
    let folder = world.folder.path();
    fake.knobs.fails.store(true, Ordering::SeqCst);
    let ended = run(folder, &["call", "one", "echo", r#"{"text":"hi"}"#]).await;
    assert_ne!(ended.code, Some(0), "{}", ended.err);
    assert!(!ended.err.contains("cause:"), "{}", ended.err);
    let line = ended
        .err
        .lines()
        .find(|line| line.contains("in the gateway's log says why"));
    let line = line.unwrap_or_else(|| panic!("{}", ended.err));
    let id = line.split_whitespace().nth(1).unwrap();
    let logged = world.line(id).await;
    assert_eq!(logged["request.id"], id, "{logged}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_variable_that_the_running_gateway_has_is_said_to_be_there() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder()
        .provider_with(
            "one",
            &fake,
            "auth: { api_key: { value: '${SERVER_KEY_OF_TEST}' } }\n",
        )
        .env("SERVER_KEY_OF_TEST", "s3cret-value")
        .start()
        .await;
    world.until_state("one", "ready").await;
    let folder = world.folder.path();
    let looked = run(folder, &["doctor", "one", "--json"]).await;
    let report = printed(&looked);
    assert_eq!(looked.code, Some(0), "{report}");
    assert!(
        report.to_string().contains("the gateway that runs has it"),
        "{report}"
    );
    assert!(report.to_string().contains("the provider is ready"), "{report}");
    assert_eq!(alone(folder, &["doctor", "one"]).await.code, Some(69));
    let checked = run(folder, &["check"]).await;
    assert_eq!(checked.code, Some(64));
    assert!(
        checked.out.contains("the gateway that runs has it"),
        "{}",
        checked.out
    );
    let checked = alone(folder, &["check"]).await;
    assert!(!checked.out.contains("the gateway that runs"), "{}", checked.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_broke_under_a_gateway_is_named_with_what_is_served_and_no_code_of_calls() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder().provider("one", &fake).start().await;
    world.until_state("one", "ready").await;
    let file = world.providers().join("one.yaml");
    let sound = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{sound}odd: 1\n")).unwrap();
    world
        .until("the broken file is read", || async {
            world.status("one").await["faults"]
                .as_array()
                .is_some_and(|it| !it.is_empty())
        })
        .await;
    let folder = world.folder.path();
    let report = printed(&run(folder, &["doctor", "one", "--json"]).await);
    let step = &report["steps"][0];
    assert_eq!(
        (&step["step"], &step["state"]),
        (&json!("descriptor"), &json!("failed"))
    );
    assert_eq!(step["code"], Value::Null, "{step}");
    let detail = step["detail"].as_str().unwrap();
    assert!(
        detail.contains("the gateway that runs serves its last good version"),
        "{step}"
    );
    std::fs::write(&file, &sound).unwrap();
    std::fs::write(
        world.providers().join("other.yaml"),
        sound.replace("id: other", "id: one"),
    )
    .unwrap();
    let report = printed(&run(folder, &["doctor", "one", "--json"]).await);
    let step = &report["steps"][0];
    assert!(step["cure"].as_str().unwrap().contains("other.yaml"), "{step}");
    assert!(
        !step["detail"].as_str().unwrap().contains("one.yaml is broken"),
        "{step}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_names_the_redirect_uri_of_the_gateway_that_runs_also_without_a_network() {
    let dead = format!(
        "upstream: {{ url: 'http://127.0.0.1:{}/mcp' }}\nauth: {{ oauth: {{}} }}\n",
        free_port()
    );
    let world = World::builder().descriptor("mail", &dead).start().await;
    let folder = world.folder.path();
    let report = printed(&run(folder, &["doctor", "mail", "--json"]).await);
    let steps = report["steps"].as_array().unwrap();
    let step = steps.iter().find(|step| step["step"] == "registration").unwrap();
    let expected = format!("{}/oauth/callback", world.base);
    assert_eq!(step["state"], "skipped");
    assert!(step["lines"].to_string().contains(&expected), "{step}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_without_a_provider_lists_the_providers_by_the_gateway_and_alone() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder()
        .provider("one", &fake)
        .provider_with("off", &fake, "enabled: false\nauth: { none: {} }\n")
        .start()
        .await;
    world.until_state("one", "ready").await;
    let folder = world.folder.path();
    let states = |ended: &CommandOutput| {
        let entries = printed(ended)["providers"].as_array().unwrap().clone();
        let of = |entry: &Value, key: &str| entry[key].as_str().unwrap().to_owned();
        entries
            .iter()
            .map(|entry| (of(entry, "id"), of(entry, "state")))
            .collect::<BTreeMap<_, _>>()
    };
    let by_gateway = states(&run(folder, &["tools", "--json"]).await);
    assert_eq!((&*by_gateway["one"], &*by_gateway["off"]), ("ready", "disabled"));
    let own = states(&alone(folder, &["tools", "--json"]).await);
    assert_eq!((&*own["one"], &*own["off"]), ("enabled", "disabled"));
    let text = run(folder, &["tools"]).await;
    assert!(
        text.out
            .lines()
            .any(|line| line.starts_with("one ") && line.contains("ready")),
        "{}",
        text.out
    );
}
