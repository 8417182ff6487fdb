//! `pleiades install`: into seven clients' files and out of them again, all else byte for byte.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::world::{GUARD, free_port, http};

/// Each client, its file below the home folder on Linux, and a pointer to the entry.
const CLIENTS: [(&str, &str, &str); 7] = [
    ("claude-code", ".claude.json", "/mcpServers/pleiades"),
    (
        "claude-desktop",
        ".config/Claude/claude_desktop_config.json",
        "/mcpServers/pleiades",
    ),
    ("cursor", ".cursor/mcp.json", "/mcpServers/pleiades"),
    ("vscode", ".config/Code/User/mcp.json", "/servers/pleiades"),
    (
        "windsurf",
        ".codeium/windsurf/mcp_config.json",
        "/mcpServers/pleiades",
    ),
    ("codex", ".codex/config.toml", "/mcp_servers/pleiades"),
    ("gemini", ".gemini/settings.json", "/mcpServers/pleiades"),
];

struct Home(tempfile::TempDir);

impl Home {
    fn new(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("providers.d")).unwrap();
        std::fs::write(folder.path().join("pleiades.yaml"), settings).unwrap();
        Self(folder)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pleiades"));
        command
            .args(words)
            .current_dir(self.0.path())
            .env_clear()
            .env("HOME", self.0.path())
            .env("XDG_RUNTIME_DIR", self.0.path())
            .stdin(Stdio::null());
        command
    }

    fn install(&self, client: &str, words: &[&str]) -> (i32, Value, String) {
        let output = self
            .command(&[&["--json", "install", client], words].concat())
            .output()
            .unwrap();
        let report = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code().unwrap(), report, text(&output))
    }

    fn file(&self, name: &str) -> PathBuf {
        let file = self.0.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        file
    }

    fn settings(&self, text: &str) {
        std::fs::write(self.0.path().join("pleiades.yaml"), text).unwrap();
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn read(file: &Path) -> Value {
    let text = std::fs::read_to_string(file).unwrap();
    if file.extension().unwrap() != "toml" {
        return serde_json::from_str(&text).unwrap();
    }
    let table = toml::de::DeTable::parse(&text).unwrap().into_inner();
    plain(&toml::de::DeValue::Table(table))
}

fn plain(value: &toml::de::DeValue<'_>) -> Value {
    match value {
        toml::de::DeValue::Table(table) => table
            .iter()
            .map(|(key, value)| (key.get_ref().to_string(), plain(value.get_ref())))
            .collect(),
        other => json!(other.as_str().unwrap()),
    }
}

#[test]
fn each_client_gets_its_entry_once_and_gives_it_back() {
    let home = Home::new("listen: 127.0.0.1:4321\n");
    for (client, name, pointer) in CLIENTS {
        let file = home.file(name);
        let (code, report, _) = home.install(client, &["--yes"]);
        assert_eq!(
            (code, &report["outcome"]),
            (0, &json!("installed")),
            "{client}: {report}"
        );
        assert_eq!(report["file"], file.to_str().unwrap());
        let entry = read(&file).pointer(pointer).cloned().unwrap();
        let url = json!("http://127.0.0.1:4321/mcp");
        let wanted = match client {
            "claude-code" | "vscode" => json!({"type": "http", "url": url}),
            "windsurf" => json!({"serverUrl": url}),
            "gemini" => json!({"httpUrl": url}),
            "claude-desktop" => {
                let settings = home.0.path().join("pleiades.yaml");
                json!({"command": env!("CARGO_BIN_EXE_pleiades"), "args": ["--config", settings, "stdio"]})
            }
            _ => json!({"url": url}),
        };
        assert_eq!(entry, wanted, "{client}");
        let before = std::fs::read(&file).unwrap();
        let (code, report, _) = home.install(client, &[]);
        assert_eq!((code, &report["outcome"]), (0, &json!("already")), "{client}");
        assert_eq!(std::fs::read(&file).unwrap(), before);
        let (code, report, _) = home.install(client, &["--remove", "--yes"]);
        assert_eq!((code, &report["outcome"]), (0, &json!("removed")), "{client}");
        assert!(!file.exists(), "{client}: a file that was made is removed");
        let (code, report, _) = home.install(client, &["--remove"]);
        assert_eq!((code, &report["outcome"]), (0, &json!("absent")), "{client}");
    }
}

#[test]
fn all_else_in_a_file_stays_byte_for_byte() {
    let home = Home::new("{}\n");
    let json = "\u{feff}{\r\n\t// mine\r\n\t\"KEY\": {\r\n\t\t\"gh\": { \"env\": {\"T\": \"ghp_hidden\"} }, /* last */\r\n\t},\r\n\t\"z\": 1, \"a\": 1e2,\r\n}";
    let toml = "model = \"o\" # mine\r\n\r\n[mcp_servers.gh]\r\nenv = { T = \"ghp_hidden\" }";
    for (client, name, pointer) in CLIENTS {
        let key = pointer.split('/').nth(1).unwrap();
        let before = if client == "codex" {
            toml.to_owned()
        } else {
            json.replace("KEY", key)
        };
        let file = home.file(name);
        std::fs::write(&file, &before).unwrap();
        let (code, _, shown) = home.install(client, &["--yes"]);
        assert_eq!(code, 0, "{client}: {shown}");
        assert!(!shown.contains("ghp_hidden"), "{shown}");
        assert_ne!(std::fs::read_to_string(&file).unwrap(), before);
        home.settings("listen: 127.0.0.1:5000\n");
        home.install(client, &["--yes"]);
        let (code, _, shown) = home.install(client, &["--remove", "--yes"]);
        assert_eq!(code, 0, "{client}: {shown}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), before, "{client}");
        home.settings("{}\n");
    }
}

#[test]
fn without_a_terminal_the_change_is_shown_and_not_made() {
    let home = Home::new("{}\n");
    let file = home.file(".cursor/mcp.json");
    let (code, _, shown) = home.install("cursor", &[]);
    assert_eq!(code, 64, "{shown}");
    assert!(
        shown.contains("+   \"url\": \"http://127.0.0.1:8787/mcp\"") && shown.contains("--yes"),
        "{shown}"
    );
    assert!(!file.exists());
}

#[test]
fn a_changed_address_is_updated_and_members_of_others_stay() {
    let home = Home::new("listen: 127.0.0.1:5000\n");
    let file = home.file(".cursor/mcp.json");
    std::fs::write(
        &file,
        "{\"mcpServers\": {\"pleiades\": {\"url\": \"http://localhost:8787/mcp\", \"disabled\": true}}}",
    )
    .unwrap();
    let (code, report, _) = home.install("cursor", &["--yes"]);
    assert_eq!((code, &report["outcome"]), (0, &json!("updated")));
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        "{\"mcpServers\": {\"pleiades\": {\"url\": \"http://127.0.0.1:5000/mcp\", \"disabled\": true}}}"
    );
}

#[test]
fn an_entry_of_the_same_name_that_leads_elsewhere_is_lost_by_force_alone() {
    let home = Home::new("{}\n");
    for (client, text) in [
        (
            "cursor",
            "{\"mcpServers\": {\"pleiades\": {\"url\": \"https://other.example/mcp?key=hidden\"}}}",
        ),
        (
            "codex",
            "[mcp_servers.pleiades]\ncommand = \"npx\"\nargs = [\"--key\", \"hidden\"]\n",
        ),
    ] {
        let name = CLIENTS.iter().find(|(known, ..)| *known == client).unwrap().1;
        let file = home.file(name);
        std::fs::write(&file, text).unwrap();
        for words in [&["--yes"][..], &["--remove", "--yes"]] {
            let (code, _, why) = home.install(client, words);
            assert_eq!(code, 64, "{why}");
            assert!(why.contains("--force") && !why.contains("hidden"), "{why}");
            assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
        }
        let (code, report, shown) = home.install(client, &["--force", "--yes"]);
        assert_eq!((code, &report["outcome"]), (0, &json!("replaced")), "{shown}");
        assert!(!shown.contains("hidden"), "{shown}");
        assert!(
            std::fs::read_to_string(&file)
                .unwrap()
                .contains("127.0.0.1:8787/mcp")
        );
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named_by_line_and_column_and_left_alone() {
    let home = Home::new("{}\n");
    for (client, text, at) in [
        ("cursor", "{\n  \"mcpServers\": {\n", ":3:1: "),
        ("cursor", "{\n  \"mcpServers\": []\n}", ":2:17: "),
        ("codex", "a = 1\n[mcp_servers\n", ":2:13: "),
    ] {
        let name = CLIENTS.iter().find(|(known, ..)| *known == client).unwrap().1;
        let file = home.file(name);
        std::fs::write(&file, text).unwrap();
        let (code, _, why) = home.install(client, &["--yes"]);
        assert_eq!(code, 64, "{why}");
        assert!(why.contains(&format!("{}{at}", file.display())), "{why}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    }
}

#[test]
fn a_client_that_is_not_there_is_missed_and_another_file_can_be_named() {
    let home = Home::new("{}\n");
    let (code, _, why) = home.install("cursor", &["--yes"]);
    assert_eq!(code, 69, "{why}");
    assert!(why.contains("is Cursor installed?"), "{why}");
    let file = home.0.path().join("here.json");
    let (code, report, _) = home.install("cursor", &["--yes", "--file", "here.json"]);
    assert_eq!((code, &report["outcome"]), (0, &json!("installed")));
    assert!(file.exists());
}

#[test]
fn a_key_is_named_and_never_written() {
    let sha256 = "0".repeat(64);
    let settings = format!(
        "public_url: https://mcp.example.com/base\naccess: {{ api_keys: [{{ name: a, tenant: t, user: u, sha256: \"{sha256}\" }}] }}\n"
    );
    let home = Home::new(&settings);
    for (client, wanted) in [
        (
            "claude-code",
            json!({"headers": {"x-api-key": "${PLEIADES_API_KEY}"}}),
        ),
        (
            "vscode",
            json!({"headers": {"x-api-key": "${env:PLEIADES_API_KEY}"}}),
        ),
        (
            "codex",
            json!({"env_http_headers": {"x-api-key": "PLEIADES_API_KEY"}}),
        ),
    ] {
        let (_, name, pointer) = *CLIENTS.iter().find(|(known, ..)| *known == client).unwrap();
        let file = home.file(name);
        let (code, report, why) = home.install(client, &["--yes"]);
        assert_eq!(code, 0, "{why}");
        assert!(
            report["next"].to_string().contains("PLEIADES_API_KEY"),
            "{report}"
        );
        let entry = read(&file).pointer(pointer).cloned().unwrap();
        assert_eq!(entry["url"], "https://mcp.example.com/base/mcp");
        for (key, value) in wanted.as_object().unwrap() {
            assert_eq!(entry[key], *value, "{client}: {entry}");
        }
    }
}

#[test]
fn the_command_that_a_desktop_client_gets_serves() {
    let home = Home::new("vault: { file: { path: data/vault } }\n");
    let descriptor = std::fs::read_to_string("providers.d/demo.yaml").unwrap();
    std::fs::write(home.0.path().join("providers.d/demo.yaml"), descriptor).unwrap();
    let file = home.file(".config/Claude/claude_desktop_config.json");
    home.install("claude-desktop", &["--yes"]);
    let entry = read(&file)["mcpServers"]["pleiades"].clone();
    let args: Vec<&str> = entry["args"]
        .as_array()
        .unwrap()
        .iter()
        .map(|word| word.as_str().unwrap())
        .collect();
    // Desktop clients start commands in a folder of their own.
    let mut child = Command::new(entry["command"].as_str().unwrap())
        .args(args)
        .current_dir("/")
        .env_clear()
        .env("HOME", home.0.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut ask = |id: u8, method: &str, params: Value| -> Value {
        let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        writeln!(stdin, "{message}").unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    };
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {},
                        "clientInfo": {"name": "t", "version": "0"}});
    ask(1, "initialize", params);
    let call = json!({"name": "use_demo", "arguments": {"tool": "echo", "arguments": {"message": "hi"}}});
    let answer = ask(2, "tools/call", call);
    assert_eq!(answer["result"]["content"][0]["text"], "hi", "{answer}");
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_is_that_of_the_gateway_that_runs() {
    let home = Home::new("{}\n");
    let (listen, admin) = (free_port(), free_port());
    let words = [
        "serve",
        "--listen",
        &format!("127.0.0.1:{listen}"),
        "--admin",
        &format!("127.0.0.1:{admin}"),
    ];
    let mut gateway = home.command(&words);
    let mut gateway = gateway
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let ready = format!("http://127.0.0.1:{admin}/ready");
    let (client, started) = (http(), Instant::now());
    while !client
        .get(&ready)
        .send()
        .await
        .is_ok_and(|answer| answer.status() == 200)
    {
        assert!(started.elapsed() < GUARD, "the gateway is not ready");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (code, report, why) = home.install("cursor", &["--yes", "--file", "here.json"]);
    gateway.kill().unwrap();
    gateway.wait().unwrap();
    assert_eq!(code, 0, "{why}");
    assert_eq!(report["target"], format!("http://127.0.0.1:{listen}/mcp"));
}

#[test]
fn what_was_installed_is_not_imported_as_a_provider() {
    let home = Home::new("{}\n");
    for client in ["cursor", "claude-desktop"] {
        home.install(client, &["--yes", "--file", "client.json"]);
        let imported = home
            .command(&["--json", "import", "client.json"])
            .output()
            .unwrap();
        let report: Value = serde_json::from_slice(&imported.stdout).unwrap();
        assert_eq!(report["written"], json!([]), "{report}");
        assert!(report.to_string().contains("leads to this gateway"), "{report}");
        home.install(client, &["--yes", "--remove", "--file", "client.json"]);
    }
}

#[test]
fn a_command_without_descriptors_is_not_written() {
    let home = Home::new("{}\n");
    std::fs::remove_file(home.0.path().join("pleiades.yaml")).unwrap();
    std::fs::remove_dir(home.0.path().join("providers.d")).unwrap();
    let (code, _, why) = home.install("claude-desktop", &["--yes", "--file", "client.json"]);
    assert_eq!(code, 64, "{why}");
    assert!(why.contains("--providers"), "{why}");
}

#[test]
fn a_reference_to_a_key_goes_when_no_key_is_wanted_any_more() {
    let sha256 = "0".repeat(64);
    let named =
        format!("access: {{ api_keys: [{{ name: a, tenant: t, user: u, sha256: \"{sha256}\" }}] }}\n");
    for (client, _, pointer) in CLIENTS
        .into_iter()
        .filter(|(client, ..)| *client != "claude-desktop")
    {
        let home = Home::new("{}\n");
        let name = if client == "codex" { "c.toml" } else { "c.json" };
        let words = ["--yes", "--file", name];
        let file = home.0.path().join(name);
        home.install(client, &words);
        let without = std::fs::read_to_string(&file).unwrap();
        home.settings(&named);
        let (_, report, why) = home.install(client, &words);
        assert_eq!(report["outcome"], "updated", "{client}: {why}");
        assert!(
            read(&file)
                .pointer(pointer)
                .unwrap()
                .to_string()
                .contains("PLEIADES_API_KEY")
        );
        home.settings("{}\n");
        let (_, report, why) = home.install(client, &words);
        assert_eq!(report["outcome"], "updated", "{client}: {why}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), without, "{client}");
    }
}
