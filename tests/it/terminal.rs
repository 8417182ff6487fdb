//! Accounts where nobody serves connect pages: over stdin and stdout, and from a terminal. What people are shown
//! to do there works as it is shown.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::world::{Authority, Browser, FakeServer, GUARD, World, free_port};

const REVISION: &str = "2025-11-25";

fn oauth(authority: &Authority) -> String {
    format!(
        "title: Tracker\nupstream: {{ url: \"{}\" }}\nauth: {{ oauth: {{}} }}\n",
        authority.resource
    )
}

/// A folder with settings and one descriptor, which no gateway serves; its name has a blank in it.
struct Installation {
    _root: tempfile::TempDir,
    folder: PathBuf,
    listen: u16,
}

impl Installation {
    fn new(descriptor: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("of ada");
        std::fs::create_dir_all(folder.join("providers.d")).unwrap();
        let text = format!("id: tracker\n{descriptor}");
        std::fs::write(folder.join("providers.d/tracker.yaml"), text).unwrap();
        let listen = free_port();
        let settings = format!("listen: 127.0.0.1:{listen}\nadmin: 127.0.0.1:{}\n", free_port());
        std::fs::write(folder.join("pleiades.yaml"), settings).unwrap();
        Self {
            _root: root,
            folder,
            listen,
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        command(&self.folder, args)
    }
}

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pleiades"));
    command
        .args(args)
        .current_dir(folder)
        .env("XDG_DATA_HOME", folder.join("data"))
        .env("XDG_CONFIG_HOME", folder.join("config"))
        .env("XDG_RUNTIME_DIR", folder.join("run"))
        .env("RUST_LOG", "warn")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

async fn run(mut command: Command) -> (Option<i32>, String, String) {
    let output = timeout(GUARD, command.output()).await.unwrap().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// A desktop client that can be asked to open an address.
struct Desktop {
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Desktop {
    async fn start(mut command: Command, revision: &str) -> Self {
        let mut child = command
            .arg("stdio")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut desktop = Self {
            stdin: child.stdin.take().unwrap(),
            lines: BufReader::new(child.stdout.take().unwrap()).lines(),
            _child: child,
        };
        if revision == REVISION {
            let params = json!({
                "protocolVersion": revision, "capabilities": capabilities(),
                "clientInfo": { "name": "desktop", "version": "0" }
            });
            desktop.ask("initialize", params).await;
        }
        desktop
    }

    async fn ask(&mut self, method: &str, params: Value) -> Value {
        let message = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        self.stdin
            .write_all(format!("{message}\n").as_bytes())
            .await
            .unwrap();
        let line = timeout(GUARD, self.lines.next_line()).await.unwrap().unwrap();
        serde_json::from_str(&line.expect("an answer")).unwrap()
    }

    /// A call of the meta tool.
    async fn call(&mut self, revision: &str) -> Value {
        let arguments = json!({ "tool": "echo", "arguments": { "text": "hi" } });
        let mut params = json!({ "name": "use_tracker", "arguments": arguments });
        if revision != REVISION {
            params["_meta"] = json!({
                "io.modelcontextprotocol/protocolVersion": revision,
                "io.modelcontextprotocol/clientCapabilities": capabilities(),
                "io.modelcontextprotocol/clientInfo": { "name": "desktop", "version": "0" }
            });
        }
        self.ask("tools/call", params).await
    }
}

fn capabilities() -> Value {
    json!({ "elicitation": { "form": {}, "url": {} } })
}

/// The command of an answer that is no link, and asks for none to be opened.
fn commanded(answer: &Value) -> String {
    let shown = &answer["result"]["structuredContent"];
    assert_eq!(shown["status"], "needs_auth", "{answer}");
    let command = shown["data"]["connect_command"].as_str().unwrap();
    let text = shown["text"].as_str().unwrap();
    assert_eq!(text.matches(command).count(), 1, "{text}");
    let whole = answer.to_string();
    assert!(
        !whole.contains("connect_url") && !whole.contains("/oauth/connect/"),
        "{whole}"
    );
    command.to_owned()
}

/// Runs a command that connects, in another terminal, and signs in as its page asks.
async fn connect(line: &str) {
    let mut child = Command::new("sh")
        .args(["-c", &format!("{line} --no-browser --json")])
        .current_dir("/")
        .env_remove("XDG_DATA_HOME")
        .env_remove("XDG_CONFIG_HOME")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut seen = String::new();
    let url = loop {
        let line = timeout(GUARD, lines.next_line()).await.unwrap().unwrap();
        let line = line.unwrap_or_else(|| panic!("no address was printed: {seen}"));
        if line.trim().starts_with("http") {
            break line.trim().to_owned();
        }
        seen.push_str(&line);
    };
    let browser = Browser::default();
    let consented = browser.get(&url).await;
    assert_eq!(consented.status, 302, "{}", consented.body);
    browser.get(&consented.location()).await;
    let output = timeout(GUARD, child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn over_stdio_a_command_that_works_in_any_terminal_stands_for_the_link_that_nobody_serves() {
    for revision in [REVISION, "2026-07-28"] {
        let authority = Authority::start(&[REVISION]).await;
        let installation = Installation::new(&oauth(&authority));
        let mut desktop = Desktop::start(installation.command(&[]), revision).await;
        let command = commanded(&desktop.call(revision).await);
        assert!(command.ends_with(" connect tracker"), "{command}");
        connect(&command).await;
        let called = desktop.call(revision).await;
        assert_eq!(called["result"]["structuredContent"]["status"], "ok", "{called}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_gateway_of_the_same_settings_stdio_answers_with_a_link_that_opens() {
    let authority = Authority::start(&[REVISION]).await;
    let world = World::builder()
        .descriptor("tracker", &oauth(&authority))
        .start()
        .await;
    let mut desktop = Desktop::start(command(world.folder.path(), &[]), REVISION).await;
    let answer = desktop.call(REVISION).await;
    assert_eq!(answer["error"]["code"], -32042, "{answer}");
    let url = answer["error"]["data"]["elicitations"][0]["url"]
        .as_str()
        .unwrap();
    for args in [&["tools", "tracker"][..], &["call", "tracker", "echo"]] {
        let (code, out, err) = run(command(world.folder.path(), args)).await;
        assert_eq!(code, Some(69), "{out}{err}");
        let (_, link) = err
            .split_once("/oauth/connect/")
            .unwrap_or_else(|| panic!("{out}{err}"));
        let link = link.split_whitespace().next().unwrap();
        let page = Browser::default()
            .get(&format!("{}/oauth/connect/{link}", world.base))
            .await;
        assert_eq!(page.status, 200, "{}", page.body);
    }
    let page = Browser::default().connect(url, &[]).await;
    assert_eq!(page.status, 200, "{}", page.body);
    let called = desktop.call(REVISION).await;
    assert_eq!(called["result"]["structuredContent"]["status"], "ok", "{called}");
    drop(world);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_registration_serves_pages_and_commands_beside_a_gateway_and_without_one() {
    let authority = Authority::start(&[REVISION]).await;
    let world = World::builder()
        .descriptor("tracker", &oauth(&authority))
        .start()
        .await;
    let mut desktop = Desktop::start(command(world.folder.path(), &[]), REVISION).await;
    let answer = desktop.call(REVISION).await;
    let url = answer["error"]["data"]["connect_url"].as_str().unwrap();
    Browser::default().connect(url, &[]).await;
    let folder = world.folder.path().display().to_string();
    let command = |account: &str| {
        let program = env!("CARGO_BIN_EXE_pleiades");
        format!("cd {folder} && XDG_DATA_HOME={folder}/data {program} connect tracker --account {account}")
    };
    connect(&command("two")).await;
    let mut world = world;
    world.terminate();
    world.process.take().unwrap().wait().unwrap();
    connect(&command("three")).await;
    assert_eq!(authority.clients(), 1, "one client, with one redirect URI");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_something_else_on_the_gateways_port_is_no_page_of_a_link() {
    let authority = Authority::start(&[REVISION]).await;
    let installation = Installation::new(&oauth(&authority));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", installation.listen))
        .await
        .unwrap();
    let router = axum::Router::new().fallback(|| async { "<html>another program</html>" });
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let mut desktop = Desktop::start(installation.command(&[]), REVISION).await;
    commanded(&desktop.call(REVISION).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_page_would_ask_for_a_key_that_nobody_has_stdio_names_the_command() {
    let fake = FakeServer::start(&[REVISION]).await;
    let digest = "a".repeat(64);
    let keys = format!("api_keys: [{{ name: ci, tenant: acme, user: bot, sha256: {digest} }}]");
    for local in ["", "local: { tenant: acme, user: ada }, "] {
        let world = World::builder()
            .provider_with("tracker", &fake, "auth: { oauth: {} }\n")
            .settings(&format!("access: {{ {local}{keys} }}\n"))
            .start()
            .await;
        let mut desktop = Desktop::start(command(world.folder.path(), &[]), REVISION).await;
        commanded(&desktop.call(REVISION).await);
        drop(world);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_about_a_provider_without_an_account_say_the_command_that_connects_it() {
    let authority = Authority::start(&[REVISION]).await;
    let installation = Installation::new(&oauth(&authority));
    let program = env!("CARGO_BIN_EXE_pleiades");
    for args in [
        &["tools", "tracker"][..],
        &["tools", "tracker", "--json"],
        &["call", "tracker", "echo", r#"{"text":"hi"}"#],
        &["call", "tracker", "no_such_tool"],
    ] {
        let (code, out, err) = run(installation.command(args)).await;
        let shown = format!("{out}{err}");
        assert_eq!(code, Some(69), "{args:?} {shown}");
        assert!(shown.contains(&format!("`{program} connect tracker`")), "{shown}");
        assert!(
            !shown.contains("learn how") && !shown.contains("/oauth/"),
            "{shown}"
        );
    }
    let options = ["--providers", "providers.d", "--user", "bob", "tools", "tracker"];
    let (_, _, err) = run(installation.command(&options)).await;
    let command = format!("`{program} --providers providers.d --user bob connect tracker`");
    assert!(err.contains(&command), "{err}");
    connect(&format!(
        "cd '{0}' && XDG_DATA_HOME='{0}/data' {program} connect tracker",
        installation.folder.display()
    ))
    .await;
    let (code, out, err) = run(installation.command(&["tools", "tracker"])).await;
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("echo"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_that_runs_elsewhere_keeps_its_address() {
    let fake = FakeServer::start(&[REVISION]).await;
    let elsewhere = "https://people.example/connect";
    let descriptor = format!(
        "upstream: {{ url: \"{}\" }}\nauth: {{ oauth: {{ connect_url: \"{elsewhere}\" }} }}\n",
        fake.url
    );
    let installation = Installation::new(&descriptor);
    let (code, out, err) = run(installation.command(&["tools", "tracker"])).await;
    assert_eq!(code, Some(69), "{out}{err}");
    assert!(err.contains(elsewhere), "{out}{err}");
}
