//! Where credentials are kept, from outside: what a gateway makes, needs, and does without.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use pleiades_core::secret::Secret;
use pleiades_credential::vault::file::{File, RootKey};
use pleiades_credential::vault::{Path as Entry, Vault, Wrote};

use super::world::{FakeServer, TestClient, World, free_port, http, json as body};

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_keeps_nothing_makes_no_vault() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder().provider("one", &fake).start().await;
    world.until_state("one", "ready").await;
    let data = world.folder.path().join("data/pleiades");
    assert!(data.join("vault.key").is_file() && !data.join("vault").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_cannot_be_written_harms_no_provider_without_accounts() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder()
        .provider("one", &fake)
        // Below a file there is nothing.
        .settings("vault: { file: { path: pleiades.yaml/vault } }\n")
        .start()
        .await;
    world.until_state("one", "ready").await;
    let client = TestClient::connect(&world, "/tools/one", "2025-11-25").await;
    assert!(!client.tools().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_vault_what_needs_none_is_served_and_the_process_is_not_ready() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let away = format!("http://127.0.0.1:{}", free_port());
    let world = World::builder()
        .provider("one", &fake)
        .settings(&format!(
            "vault: {{ hashicorp: {{ address: \"{away}\", auth: {{ token: a-token }} }} }}\n"
        ))
        .launch();
    world
        .until("the gateway to listen", || async {
            let health = world.http.get(format!("{}/health", world.admin)).send().await;
            health.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
    world.until_state("one", "ready").await;
    let ready = world
        .http
        .get(format!("{}/ready", world.admin))
        .send()
        .await
        .unwrap();
    assert_eq!(ready.status(), 503);
    assert!(ready.text().await.unwrap().contains("seal key"));
    let modern = TestClient::connect(&world, "/tools/one", "2026-07-28").await;
    assert!(!modern.tools().await.is_empty());
    let initialize = json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": { "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "t", "version": "0" } },
    });
    let legacy = world
        .http
        .post(format!("{}/tools/one", world.base))
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream");
    let answer = body(legacy.body(initialize.to_string()).send().await.unwrap()).await;
    assert_eq!(answer["error"]["code"], 503, "{answer}");
}

fn migrate(folder: &Path, settings: &str, rest: &[&str]) -> (i32, Value) {
    let file = folder.join("pleiades.yaml");
    std::fs::write(&file, settings).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_pleiades"))
        .current_dir(folder)
        .env("XDG_DATA_HOME", folder.join("data"))
        .args(["--json", "vault", "migrate"])
        .args(rest)
        .output()
        .unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code().unwrap(), report)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_cannot_begin_says_so_by_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let away = format!(
        "vault: {{ hashicorp: {{ address: \"http://127.0.0.1:{}\", auth: {{ token: t }} }} }}\n",
        free_port()
    );
    assert_eq!(migrate(folder.path(), "{}\n", &[]).0, 64, "no `vault.hashicorp`");
    assert_eq!(migrate(folder.path(), &away, &[]).0, 64, "no embedded vault");
    let source = folder.path().join("mine");
    let vault = File::new(Some(source.clone()), RootKey::beside(&source));
    let path = Entry::of(&["c", "acme", "ann", "github", "work"]);
    vault.write(&path, 0, &Secret::new("{}"), None).await.unwrap();
    let from = source.to_str().unwrap();
    let (code, report) = migrate(folder.path(), &away, &["--from", from]);
    assert_eq!((code, &report["complete"]), (75, &json!(false)), "{report}");
    assert!(
        report["error"].as_str().unwrap().contains("uses the vault"),
        "{report}"
    );
    assert!(vault.read(&path).await.unwrap().is_some(), "nothing is removed");
    drop(vault);
    let (code, report) = migrate(folder.path(), &away, &["--from", from]);
    assert_eq!((code, &report["complete"]), (75, &json!(false)), "{report}");
    assert!(
        !report["error"].as_str().unwrap().contains("uses the vault"),
        "{report}"
    );
    let (code, report) = migrate(
        folder.path(),
        &away,
        &["--from", from, "--key-file", "pleiades.yaml"],
    );
    assert_eq!(
        (code, report["error"].is_string()),
        (69, true),
        "a key that is none: {report}"
    );
    std::fs::remove_file(source.with_extension("key")).unwrap();
    let (code, report) = migrate(folder.path(), &away, &["--from", from]);
    let error = report["error"].as_str().unwrap();
    assert!(code == 69 && error.contains("--key-file"), "{report}");
}

const KEYS: [&str; 2] = [
    "the first key, of more than 32 bytes",
    "the other key, of more than 32 bytes",
];
/// A user that owns nothing.
const NOBODY: u32 = 65_534;

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pleiades"));
    command
        .current_dir(folder)
        .env("XDG_DATA_HOME", folder.join("data"))
        .env("XDG_CONFIG_HOME", folder.join("config"))
        .env("RUST_LOG", "warn")
        .args(arguments)
        .stdin(Stdio::null());
    command
}

/// A gateway that writes its log to `log`; ended when it is dropped.
struct Serving(Child, String);

impl Serving {
    async fn start(folder: &Path, settings: &str, run: impl FnOnce(&mut Command)) -> Self {
        let (listen, admin) = (free_port(), free_port());
        let ports = format!("listen: 127.0.0.1:{listen}\nadmin: 127.0.0.1:{admin}\n");
        std::fs::write(folder.join("pleiades.yaml"), ports + settings).unwrap();
        std::fs::create_dir_all(folder.join("providers.d")).unwrap();
        let mut serve = command(folder, &[]);
        serve.stderr(std::fs::File::create(folder.join("log")).unwrap());
        run(&mut serve);
        let serving = Self(serve.spawn().unwrap(), format!("http://127.0.0.1:{admin}"));
        let up = || async { http().get(format!("{}/health", serving.1)).send().await };
        while !up().await.is_ok_and(|answer| answer.status() == 200) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        serving
    }

    async fn metrics(&self) -> String {
        let page = http().get(format!("{}/metrics", self.1)).send().await.unwrap();
        page.text().await.unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn under(path: &Path, key: &str) -> File {
    File::new(Some(path.to_owned()), RootKey::Given(Secret::new(key)))
}

fn account(number: usize) -> Entry {
    Entry::of(&["c", "acme", "ann", "github", &format!("{number}")])
}

/// Accounts that are large enough for a transaction to take a while.
async fn fill(vault: &File, count: usize) {
    for number in 0..count {
        let value = Secret::new(format!("{number} {}", "x".repeat(8_000)));
        let wrote = vault.write(&account(number), 0, &value, None).await.unwrap();
        assert!(matches!(wrote, Wrote::Done(_)));
    }
}

/// Whether a vault opens; then it holds every account.
async fn holds_all(vault: &File, count: usize) -> bool {
    let Ok(names) = vault.list(&Entry::of(&["c", "acme", "ann", "github"])).await else {
        return false;
    };
    assert_eq!(names.len(), count);
    for number in 0..count {
        let kept = vault.read(&account(number)).await.unwrap().unwrap();
        assert!(kept.value.expose().starts_with(&format!("{number} x")));
    }
    true
}

fn rekeyed(folder: &Path, new: &str) -> (i32, Value) {
    let output = command(folder, &["--json", "vault", "rekey"])
        .env("PLEIADES_NEW_KEY", new)
        .output()
        .unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code().unwrap(), report)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rekey_that_is_killed_leaves_every_account_under_the_old_key_or_the_new_one() {
    const COUNT: usize = 60;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    fill(&under(&path, KEYS[0]), COUNT).await;
    let settings = |key: usize| {
        let text = format!("vault: {{ file: {{ path: vault, key: \"{}\" }} }}\n", KEYS[key]);
        std::fs::write(folder.path().join("pleiades.yaml"), text).unwrap();
    };
    let mut now = 0;
    for round in 0..14 {
        settings(now);
        let mut rekey = command(folder.path(), &["vault", "rekey"])
            .env("PLEIADES_NEW_KEY", KEYS[1 - now])
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // A little later each time: wherever that is, the vault is whole.
        std::thread::sleep(Duration::from_millis(round * round * 2));
        rekey.kill().unwrap();
        rekey.wait().unwrap();
        let mut opened = Vec::new();
        for (key, text) in KEYS.iter().enumerate() {
            if holds_all(&under(&path, text), COUNT).await {
                opened.push(key);
            }
        }
        assert_eq!(opened.len(), 1, "round {round}: exactly one key opens it");
        now = opened[0];
    }
    settings(now);
    let (code, report) = rekeyed(folder.path(), KEYS[1 - now]);
    assert_eq!(
        (code, &report["outcome"], &report["entries"]),
        (0, &json!("rekeyed"), &json!(COUNT))
    );
    // Whoever did not hear that, asks again.
    let (code, report) = rekeyed(folder.path(), KEYS[1 - now]);
    assert_eq!((code, &report["outcome"]), (0, &json!("already")));
    assert!(holds_all(&under(&path, KEYS[1 - now]), COUNT).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rekey_of_a_key_file_that_is_killed_leaves_a_vault_that_the_key_file_opens() {
    const COUNT: usize = 60;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    let beside = || File::new(Some(path.clone()), RootKey::beside(&path));
    fill(&beside(), COUNT).await;
    let text = "vault: { file: { path: vault } }\n";
    std::fs::write(folder.path().join("pleiades.yaml"), text).unwrap();
    for round in 0..14 {
        let mut rekey = command(folder.path(), &["vault", "rekey"])
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(round * round * 2));
        rekey.kill().unwrap();
        rekey.wait().unwrap();
        assert!(holds_all(&beside(), COUNT).await, "round {round}");
    }
    let before = std::fs::read_to_string(folder.path().join("vault.key")).unwrap();
    let output = command(folder.path(), &["vault", "rekey"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_ne!(
        std::fs::read_to_string(folder.path().join("vault.key")).unwrap(),
        before
    );
    assert!(holds_all(&beside(), COUNT).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_a_gateway_uses_is_not_put_under_another_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    fill(&under(&path, KEYS[0]), 1).await;
    let settings = format!("vault: {{ file: {{ path: vault, key: \"{}\" }} }}\n", KEYS[0]);
    let serving = Serving::start(folder.path(), &settings, |_| {}).await;
    assert_eq!(rekeyed(folder.path(), KEYS[1]).0, 75);
    let unnamed = command(folder.path(), &["vault", "rekey"]).output().unwrap();
    assert_eq!(
        unnamed.status.code(),
        Some(75),
        "before a new key is asked for: {unnamed:?}"
    );
    drop(serving);
    for wrong in ["tiger", KEYS[0]] {
        let (code, report) = rekeyed(folder.path(), wrong);
        assert!(
            code == 69 || report["outcome"] == "already",
            "{wrong}: {code} {report}"
        );
    }
    let to = folder.path().join("new.key");
    let rekey = ["--json", "vault", "rekey", "--to", to.to_str().unwrap()];
    let output = command(folder.path(), &rekey).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let made = std::fs::read_to_string(&to).unwrap();
    assert!(holds_all(&under(&path, &made), 1).await);
    assert!(String::from_utf8_lossy(&output.stdout).contains("vault.file.key"));
}

/// A provider whose users connect accounts; nobody has.
fn with_accounts(folder: &Path) {
    let providers = folder.join("providers.d");
    std::fs::create_dir_all(&providers).unwrap();
    let descriptor = json!({
        "id": "mail", "upstream": { "url": format!("http://127.0.0.1:{}/mcp", free_port()) },
        "auth": { "oauth": {
            "client_id": "a", "authorization_endpoint": format!("http://127.0.0.1:{}/a", free_port()),
            "token_endpoint": format!("http://127.0.0.1:{}/t", free_port()),
        } },
    });
    std::fs::write(providers.join("mail.yaml"), descriptor.to_string()).unwrap();
}

/// What `/providers` says of the provider above.
async fn state(serving: &Serving) -> Value {
    let report = body(
        http()
            .get(format!("{}/providers", serving.1))
            .send()
            .await
            .unwrap(),
    )
    .await;
    report["providers"][0].clone()
}

/// The line of the log that says that the store does not serve.
fn store_line(folder: &Path, words: &str) -> String {
    let log = std::fs::read_to_string(folder.join("log")).unwrap();
    let line = log
        .lines()
        .find(|line| line.contains(words) && line.to_lowercase().contains("error"));
    line.unwrap_or_else(|| panic!("{words}: {log}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_alerts_watch_is_at_0_in_the_first_scrape_of_a_gateway() {
    let folder = tempfile::tempdir().unwrap();
    with_accounts(folder.path());
    let serving = Serving::start(folder.path(), "{}\n".trim_start_matches("{}"), |_| {}).await;
    let page = serving.metrics().await;
    for series in [
        r#"pleiades_reload_total{outcome="refused"}"#,
        r#"pleiades_vault_requests_total{operation="read",outcome="denied"}"#,
        r#"pleiades_token_refresh_total{outcome="refused",provider="mail"}"#,
        r#"pleiades_token_refresh_total{outcome="interrupted",provider="mail"}"#,
        r#"pleiades_calls_total{outcome="internal",provider="mail",view="meta"}"#,
        r#"pleiades_calls_total{outcome="internal",provider="-",view="meta"}"#,
    ] {
        assert!(page.contains(&format!("{series} 0\n")), "{series} in {page}");
    }
    assert!(!page.contains("pleiades_tools{"), "nobody has listed any: {page}");
    assert_eq!(state(&serving).await["state"], "needs_auth");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_made_is_an_error_at_the_start_and_no_reason_to_connect() {
    let folder = tempfile::tempdir().unwrap();
    with_accounts(folder.path());
    // Below a file there is nothing, for root neither.
    std::fs::write(folder.path().join("blocked"), "").unwrap();
    let settings = format!(
        "vault: {{ file: {{ path: blocked/below/vault, key: \"{}\" }} }}\n",
        KEYS[0]
    );
    let serving = Serving::start(folder.path(), &settings, |_| {}).await;
    let line = store_line(folder.path(), "credential store cannot be");
    assert!(
        line.contains("Not a directory") && line.contains("vault.file.path"),
        "{line}"
    );
    assert!(serving.metrics().await.contains("pleiades_vault_up 0\n"));
    let state = state(&serving).await;
    assert_eq!(state["state"], "degraded", "{state}");
    assert!(
        state["reason"].as_str().unwrap().contains("credential store"),
        "{state}"
    );
    drop(serving);
    let checked = command(folder.path(), &["--json", "check", "--online"])
        .output()
        .unwrap();
    let out = String::from_utf8(checked.stdout).unwrap();
    let faults = out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let fault = faults.into_iter().find(|fault| fault["field"] == "vault");
    let fault = fault.unwrap_or_else(|| panic!("{out}"));
    let (message, cure) = (fault["message"].to_string(), fault["cure"].to_string());
    assert!(message.contains("Not a directory"), "{fault}");
    assert!(
        cure.contains("vault.file.path") && !cure.contains("role"),
        "{fault}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_written_is_said_at_the_start_and_answers_unavailable() {
    let folder = tempfile::tempdir().unwrap();
    with_accounts(folder.path());
    let kept = folder.path().join("kept");
    std::fs::create_dir(&kept).unwrap();
    std::fs::set_permissions(&kept, std::fs::Permissions::from_mode(0o555)).unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let settings = format!(
        "vault: {{ file: {{ path: kept/vault, key: \"{}\" }} }}\n",
        KEYS[0]
    );
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    chown(&data, Some(NOBODY), Some(NOBODY)).ok();
    let is_root = rustix::process::geteuid().is_root();
    let serving = Serving::start(folder.path(), &settings, |serve| {
        if is_root {
            serve.uid(NOBODY).gid(NOBODY);
        }
    })
    .await;
    let line = store_line(folder.path(), "credential store cannot be");
    assert!(
        line.contains("Permission denied") && line.contains("vault.file.path"),
        "{line}"
    );
    assert!(serving.metrics().await.contains("pleiades_vault_up 0\n"));
    let settings = std::fs::read_to_string(folder.path().join("pleiades.yaml")).unwrap();
    let listen = settings.lines().next().unwrap().replace("listen: ", "http://");
    let call = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": { "name": "use_mail", "arguments": { "tool": "send", "arguments": {} }, "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": { "name": "t", "version": "0" },
            "io.modelcontextprotocol/clientCapabilities": {},
        } },
    });
    let asked = http()
        .post(format!("{listen}/mcp"))
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "tools/call")
        .header("mcp-name", "use_mail");
    let answer = asked
        .body(call.to_string())
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(
        answer.contains("credential_store") && !answer.contains("/connect/"),
        "{answer}"
    );
    assert!(
        answer.contains(r#""retry_after":60"#),
        "only the operator can mend it: {answer}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_open_is_mended_as_the_cure_says() {
    let folder = tempfile::tempdir().unwrap();
    with_accounts(folder.path());
    let path = folder.path().join("vault");
    fill(&File::new(Some(path.clone()), RootKey::beside(&path)), 1).await;
    let key = path.with_extension("key");
    let settings = format!("vault: {{ file: {{ path: \"{}\" }} }}\n", path.display());
    std::fs::write(folder.path().join("pleiades.yaml"), &settings).unwrap();
    let cure = || {
        let checked = command(folder.path(), &["--json", "check", "--online"])
            .output()
            .unwrap();
        let out = String::from_utf8(checked.stdout).unwrap();
        let faults: Vec<Value> = out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let fault = faults.iter().find(|fault| fault["field"] == "vault");
        fault.unwrap_or_else(|| panic!("{out}"))["cure"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(cure(), format!("run `chmod 600 {}`", key.display()));
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(&key, folder.path().join("lost")).unwrap();
    assert!(cure().contains(&format!("put the key file {} back", key.display())));
    let serving = Serving::start(folder.path(), &settings, |_| {}).await;
    let line = store_line(folder.path(), "cannot be opened");
    assert!(line.contains("put the key file"), "{line}");
    assert!(
        state(&serving).await["reason"]
            .as_str()
            .unwrap()
            .contains("cannot be opened")
    );
    drop(serving);
    std::fs::rename(folder.path().join("lost"), &key).unwrap();
    // What a newer release has made.
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[60..64].copy_from_slice(&9_u32.to_be_bytes());
    std::fs::write(&path, bytes).unwrap();
    assert!(cure().contains("run the newer release"), "{}", cure());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_said_at_the_start_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    fill(&under(&folder.path().join("vault"), KEYS[0]), 1).await;
    let settings = format!("vault: {{ file: {{ path: vault, key: \"{}\" }} }}\n", KEYS[1]);
    let serving = Serving::start(folder.path(), &settings, |_| {}).await;
    assert!(serving.metrics().await.contains("pleiades_vault_up 0\n"));
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    let printed: Vec<_> = log
        .lines()
        .filter(|line| line.contains("cannot be opened"))
        .collect();
    assert!(
        printed.len() == 1 && printed[0].to_lowercase().contains("error"),
        "{log}"
    );
    assert!(printed[0].contains("made with another key"), "{log}");
    let listed = command(folder.path(), &["accounts", "list"]).output().unwrap();
    assert_eq!(listed.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&listed.stderr).contains("cannot be opened"));
    for (arguments, code) in [(["check"].as_slice(), 0), (&["check", "--online"], 64)] {
        let checked = command(folder.path(), arguments).output().unwrap();
        assert_eq!(checked.status.code(), Some(code), "{checked:?}");
        let printed = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert_eq!(printed.contains("cannot be opened"), code == 64, "{printed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_vault_under_a_short_key_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    for short in [
        "vault: { file: { path: vault, key: tiger } }\n",
        "seal: { keys: [tiger] }\n",
        "signing: { inbound_keys: [\"${SHORT}\"] }\n",
        "scheduler: { webhook: https://a.example.com/, key: \"${file:short}\" }\n",
    ] {
        std::fs::create_dir_all(folder.path().join("providers.d")).unwrap();
        let file = folder.path().join("short");
        std::fs::write(&file, "tiger").unwrap();
        let text = short.replace("file:short", &format!("file:{}", file.display()));
        std::fs::write(folder.path().join("pleiades.yaml"), text).unwrap();
        for (arguments, code) in [(["serve"], 78), (["check"], 64)] {
            let output = command(folder.path(), &arguments)
                .env("SHORT", "tiger")
                .output()
                .unwrap();
            assert_eq!(output.status.code(), Some(code), "{short}");
            let printed = [output.stdout, output.stderr].concat();
            let printed = String::from_utf8_lossy(&printed);
            assert!(
                printed.contains("at least 32 bytes") && printed.contains("openssl"),
                "{printed}"
            );
            assert!(!printed.contains("tiger"), "{printed}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_ended_is_unknown_after_a_restart() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let folder = tempfile::tempdir().unwrap();
    let vault = folder.path().join("vault");
    let settings = format!(
        "vault: {{ file: {{ path: \"{}\", key: \"{}\" }} }}\n",
        vault.display(),
        KEYS[0]
    );
    let start = || {
        World::builder()
            .provider("one", &fake)
            .settings(&settings)
            .start()
    };
    let world = start().await;
    world.until_state("one", "ready").await;
    let (mut ended, mut kept) = (
        TestClient::connect(&world, "/tools/one", "2025-11-25").await,
        TestClient::connect(&world, "/tools/one", "2025-11-25").await,
    );
    assert!(ended.delete().await.status().is_success());
    drop(world);
    let world = start().await;
    world.until_state("one", "ready").await;
    for client in [&mut ended, &mut kept] {
        client.url = format!("{}/tools/one", world.base);
    }
    assert_eq!(ended.send("tools/list", json!({})).await.status(), 404);
    assert!(!kept.tools().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_reads_nothing_of_the_gateways_environment_and_no_core_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let providers = at.join("providers.d");
    std::fs::create_dir(&providers).unwrap();
    let spy = format!(
        "cat /proc/$PPID/environ > {0}/seen 2> {0}/why; touch {0}/done; cat",
        at.display()
    );
    let descriptor =
        json!({ "id": "spy", "upstream": { "command": ["sh", "-c", spy] }, "auth": { "none": {} } });
    std::fs::write(providers.join("spy.yaml"), descriptor.to_string()).unwrap();
    // Root reads everything; whoever else runs the tests is nobody special.
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        std::fs::set_permissions(at, std::fs::Permissions::from_mode(0o755)).unwrap();
        chown(at, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let serving = Serving::start(at, "", |serve| {
        serve.env("OUR_SECRET", "canary");
        if is_root {
            serve.uid(NOBODY).gid(NOBODY);
        }
    })
    .await;
    while !at.join("done").exists() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(std::fs::read(at.join("seen")).unwrap().is_empty());
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", serving.0.id())).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    assert_eq!(core.split_whitespace().nth(5), Some("0"), "{core}");
    let metrics = serving.metrics().await;
    for series in [
        "process_open_fds ",
        "process_resident_memory_bytes ",
        "process_cpu_seconds_total ",
    ] {
        assert!(
            metrics.contains(series),
            "{series} of a process that others cannot look into"
        );
    }
}

/// Of a release that took keys of any length: one account, under the key `tiger`.
fn old_vault(folder: &Path) {
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vault-under-a-short-key");
    let vault = folder.join("vault");
    std::fs::copy(old, &vault).unwrap();
    std::fs::set_permissions(vault, std::fs::Permissions::from_mode(0o600)).unwrap();
}

async fn state_of(serving: &Serving) -> Value {
    let url = format!("{}/v1/accounts/default/local/sentry/ann", serving.1);
    body(http().get(url).send().await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_under_a_short_key_opens_with_one_error_line_that_names_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    old_vault(folder.path());
    let settings = |key: &str| format!("vault: {{ file: {{ path: vault, key: \"{key}\" }} }}\n");
    let log = || std::fs::read_to_string(folder.path().join("log")).unwrap();
    let errors = |log: &str| log.lines().filter(|line| line.contains("\"ERROR\"")).count();
    for _ in 0..2 {
        let serving = Serving::start(folder.path(), &settings("tiger"), |_| {}).await;
        assert_eq!(state_of(&serving).await["state"], "ok");
        let log = log();
        assert_eq!(errors(&log), 1, "{log}");
        assert!(
            log.contains("pleiades vault rekey") && !log.contains("tiger"),
            "{log}"
        );
    }
    let checked = command(folder.path(), &["check"]).output().unwrap();
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    assert!(String::from_utf8_lossy(&checked.stdout).contains("pleiades vault rekey"));
    assert_eq!(rekeyed(folder.path(), KEYS[0]).1["outcome"], "rekeyed");
    let serving = Serving::start(folder.path(), &settings(KEYS[0]), |_| {}).await;
    assert_eq!(
        (state_of(&serving).await["state"].as_str(), errors(&log())),
        (Some("ok"), 0)
    );
}
