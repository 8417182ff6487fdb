//! `pleiades import` and `pleiades explain`: what is written, what is said, what is never said.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

fn run(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pleiades"))
        .args(args)
        .current_dir(folder)
        .env("XDG_DATA_HOME", folder)
        .env("SET_HERE", "a value of the environment")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Imports a text as a file of this name; what stdout, stderr and the descriptors hold is returned whole.
fn imported(folder: &Path, name: &str, source: &str) -> (Value, String) {
    let file = folder.join(name);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, source).unwrap();
    let output = run(folder, &["import", name, "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}{}", text(&output.stdout), text(&output.stderr)));
    let mut all = text(&output.stdout) + &text(&output.stderr);
    for entry in std::fs::read_dir(folder.join("providers.d"))
        .into_iter()
        .flatten()
    {
        all += &std::fs::read_to_string(entry.unwrap().path()).unwrap();
    }
    (report, all)
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|one| one["id"].as_str().unwrap())
        .collect()
}

fn descriptor(folder: &Path, id: &str) -> String {
    std::fs::read_to_string(folder.join(format!("providers.d/{id}.yaml"))).unwrap()
}

fn assert_checked(folder: &Path) {
    let checked = run(folder, &["check", "providers.d"]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stdout));
}

const DESKTOP: &str = r#"{ "globalShortcut": "", "mcpServers": {
    "filesystem": { "command": "npx", "args": ["-y", "@modelcontextprotocol/server-filesystem", "/srv/notes"] },
    "GitHub": { "command": "docker", "args": ["run", "-i", "-e", "GITHUB_TOKEN"],
                "env": { "GITHUB_TOKEN": "ghp_literal_one", "LOG_LEVEL": "info" } },
    "github two": { "command": "docker", "env": { "GITHUB_TOKEN": "ghp_literal_two" }, "disabled": true },
    "db": { "command": "pg", "args": ["postgres://me:literal-three@host/db", "--api-key", "literal-four",
            "--header=Authorization: Bearer literal-five"] },
    "linear": { "type": "http", "url": "https://mcp.linear.example/mcp", "headers": { "Authorization": "Bearer literal-six",
                "X-Workspace": "acme", "Content-Type": "application/json" } },
    "search": { "url": "https://search.example/mcp?searchApiKey=literal-seven" },
    "keyed": { "url": "https://keyed.example/mcp", "headers": { "X-API-Key": "literal-eight", "X-Other-Token": "literal-nine" } },
    "old": { "type": "sse", "url": "https://old.example/sse" } } }"#;

#[test]
fn every_server_of_a_desktop_client_becomes_a_descriptor_that_check_accepts() {
    let folder = tempfile::tempdir().unwrap();
    let (report, _) = imported(folder.path(), "claude_desktop_config.json", DESKTOP);
    let written = [
        "filesystem",
        "github",
        "github_two",
        "db",
        "linear",
        "search",
        "keyed",
        "old",
    ];
    assert_eq!(ids(&report["written"]), written, "{report}");
    assert_eq!(report["skipped"], json!([]));
    assert_checked(folder.path());
    let filesystem = descriptor(folder.path(), "filesystem");
    assert!(
        filesystem
            .contains(r#"command: ["npx", "-y", "@modelcontextprotocol/server-filesystem", "/srv/notes"]"#)
    );
    assert!(!filesystem.contains("enabled"), "{filesystem}");
    let linear = descriptor(folder.path(), "linear");
    for line in [
        "enabled: false\n",
        "  url: \"https://mcp.linear.example/mcp\"\n",
        "  headers:\n    \"X-Workspace\": \"acme\"\nauth:\n",
        "    header: \"Authorization\"\n    prefix: \"Bearer \"\n    value: \"${LINEAR_TOKEN}\"\n",
    ] {
        assert!(linear.contains(line), "{line} in\n{linear}");
    }
    assert!(descriptor(folder.path(), "old").contains("  protocol: sse\n"));
    assert!(descriptor(folder.path(), "keyed").contains("header: \"X-API-Key\""));
}

#[test]
fn no_literal_secret_is_written_or_printed() {
    let folder = tempfile::tempdir().unwrap();
    let (report, all) = imported(folder.path(), "mcp.json", DESKTOP);
    assert!(!all.contains("literal-") && !all.contains("ghp_"), "{all}");
    let variables: Vec<(&str, bool)> = report["written"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|one| one["variables"].as_array().unwrap())
        .map(|variable| (variable["name"].as_str().unwrap(), variable["literal"] == true))
        .collect();
    let expected = [
        "GITHUB_TOKEN",
        // The same name with another value is another variable.
        "GITHUB_TWO_GITHUB_TOKEN",
        "DB_PASSWORD",
        "DB_API_KEY",
        "DB_AUTHORIZATION",
        "LINEAR_TOKEN",
        "SEARCH_SEARCH_API_KEY",
        "KEYED_API_KEY",
        "X_OTHER_TOKEN",
    ]
    .map(|name| (name, true));
    assert_eq!(variables, expected);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mcp.json"), DESKTOP).unwrap();
    let output = run(folder.path(), &["import", "mcp.json"]);
    let words = text(&output.stdout) + &text(&output.stderr);
    assert!(!words.contains("literal-") && !words.contains("ghp_"), "{words}");
    assert!(
        words.contains("set LINEAR_TOKEN where the gateway starts"),
        "{words}"
    );
    assert!(!words.contains('\u{1b}'), "colour is for terminals");
}

#[test]
fn inputs_comments_and_folders_of_an_editor_are_understood() {
    let folder = tempfile::tempdir().unwrap();
    let source = r#"// written by an editor
{ "inputs": [ { "type": "promptString", "id": "gh-token", "description": "GitHub token", "password": true }, ],
  "servers": { /* two of them */
    "gh": { "type": "http", "url": "https://gh.example/mcp", "headers": { "Authorization": "Bearer ${input:gh-token}" } },
    "local": { "type": "stdio", "command": "${workspaceFolder}/run", "env": { "A": "${env:SET_HERE}", "B": null },
               "envFile": "${workspaceFolder}/.env" },
    "asked": { "command": "${command:pick}" }, } }"#;
    let (report, all) = imported(folder.path(), ".vscode/mcp.json", source);
    assert_eq!(
        (ids(&report["written"]), ids(&report["skipped"])),
        (vec!["gh", "local"], vec!["asked"])
    );
    assert_checked(folder.path());
    assert!(descriptor(folder.path(), "gh").contains("value: \"${GH_TOKEN}\""));
    assert_eq!(report["written"][0]["variables"][0]["for"], "GitHub token");
    let local = descriptor(folder.path(), "local");
    let base = folder.path().canonicalize().unwrap();
    assert!(
        local.contains(&format!("command: [\"{}/run\"]", base.display())),
        "{local}"
    );
    assert!(
        local.contains("\"A\": \"${SET_HERE}\"") && !local.contains("enabled"),
        "{local}"
    );
    assert!(
        all.contains("`envFile` was left out") && !all.contains("a value of the environment"),
        "{all}"
    );
}

#[test]
fn variables_with_defaults_are_taken_where_they_can_be() {
    let folder = tempfile::tempdir().unwrap();
    let source = r#"{ "mcpServers": {
        "a": { "url": "${BASE:-https://a.example}/mcp" },
        "b": { "url": "https://b.example/mcp", "headers": { "X-Org": "${SET_HERE:-other}" } },
        "c": { "command": "c", "env": { "C_TOKEN": "${C_TOKEN:-literal-default}" } } } }"#;
    let (report, all) = imported(folder.path(), ".mcp.json", source);
    assert_eq!(ids(&report["written"]), ["a", "b", "c"]);
    assert_checked(folder.path());
    assert!(descriptor(folder.path(), "a").contains("url: \"https://a.example/mcp\""));
    assert!(descriptor(folder.path(), "b").contains("\"X-Org\": \"${SET_HERE}\""));
    assert!(!all.contains("literal-default"), "{all}");
}

#[test]
fn what_is_there_is_never_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let providers = folder.path().join("providers.d");
    std::fs::create_dir(&providers).unwrap();
    std::fs::write(providers.join("a.yaml"), "mine").unwrap();
    std::fs::write(
        providers.join("other.yaml"),
        "id: b\nupstream: { command: [b] }\nauth: { none: {} }\n",
    )
    .unwrap();
    let source = r#"{ "mcpServers": { "a": { "command": "a" }, "b": { "command": "b" }, "c": { "command": "c" }, "C": { "command": "c" } } }"#;
    let (report, _) = imported(folder.path(), "mcp.json", source);
    assert_eq!(
        (ids(&report["written"]), ids(&report["skipped"])),
        (vec!["c", "c_2"], vec!["a", "b"])
    );
    assert!(
        report["skipped"][0]["reason"]
            .as_str()
            .unwrap()
            .contains("a.yaml is there already")
    );
    assert!(
        report["skipped"][1]["reason"]
            .as_str()
            .unwrap()
            .contains("other.yaml is there already")
    );
    assert_eq!(descriptor(folder.path(), "a"), "mine");
    let again = run(folder.path(), &["import", "mcp.json"]);
    assert_eq!(again.status.code(), Some(64), "nothing was left to write");
    assert_eq!(
        std::fs::read_dir(&providers).unwrap().count(),
        4,
        "no draft is left"
    );
}

#[test]
fn a_malformed_file_is_named_by_place_with_its_cure() {
    let folder = tempfile::tempdir().unwrap();
    for (source, place) in [
        (
            "{ \"mcpServers\": {\n  \"a\": { \"command\": \"x\" \"args\": [] } } }",
            "bad.json:2:24: ",
        ),
        ("{ \"mcpServers\": [] }", "bad.json:1:17: "),
        ("{ \"mcpServers\": {} }", "bad.json:1:1: "),
        ("{ \"other\": 1 }", "bad.json:1:1: "),
        ("[]", "bad.json:1:1: "),
        ("", "bad.json:1:1: "),
        ("{ \"mcpServers\": { \"a\": {}, \"a\": {} } }", "bad.json:1:28: "),
    ] {
        std::fs::write(folder.path().join("bad.json"), source).unwrap();
        let output = run(folder.path(), &["import", "bad.json"]);
        let words = text(&output.stderr);
        assert_eq!(
            (output.status.code(), text(&output.stdout)),
            (Some(64), String::new()),
            "{words}"
        );
        assert!(
            words.contains(place) && words.contains("\n    "),
            "{source}: {words}"
        );
    }
    std::fs::write(folder.path().join("bad.json"), " ".repeat((1 << 20) + 1)).unwrap();
    assert_eq!(
        run(folder.path(), &["import", "bad.json"]).status.code(),
        Some(64)
    );
    assert_eq!(
        run(folder.path(), &["import", "none.json"]).status.code(),
        Some(64)
    );
    assert!(!folder.path().join("providers.d").exists());
}

#[test]
fn too_many_servers_are_refused_before_one_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let servers: serde_json::Map<String, Value> = (0..257)
        .map(|number| (format!("s{number}"), json!({ "command": "x" })))
        .collect();
    std::fs::write(
        folder.path().join("mcp.json"),
        json!({ "mcpServers": servers }).to_string(),
    )
    .unwrap();
    assert_eq!(
        run(folder.path(), &["import", "mcp.json"]).status.code(),
        Some(64)
    );
    assert!(!folder.path().join("providers.d").exists());
}

#[test]
fn a_code_is_explained_by_any_of_its_names_and_an_unknown_one_by_its_neighbours() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["upstream_timeout", "upstream-timeout", "UPSTREAM_TIMEOUT"] {
        let output = run(folder.path(), &["explain", name, "--json"]);
        let page: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (output.status.code(), &page["code"]),
            (Some(0), &json!("upstream_timeout"))
        );
        assert!(
            ["means", "fault", "do", "http"]
                .iter()
                .all(|key| page[*key].is_string()),
            "{page}"
        );
    }
    let number = run(folder.path(), &["explain", "-32602", "--json"]);
    let page: Value = serde_json::from_slice(&number.stdout).unwrap();
    assert_eq!(
        page["codes"],
        json!(["invalid_params", "missing_meta", "resource_not_found"])
    );
    let several = run(folder.path(), &["explain", "refused"]);
    let several = text(&several.stdout);
    for context in [
        "of a page:",
        "of a renewal:",
        "of a reload:",
        "of the credential store:",
        "as a reason:",
    ] {
        assert!(several.contains(context), "{several}");
    }
    let several = run(folder.path(), &["explain", "interrupted", "--json"]);
    let page: Value = serde_json::from_slice(&several.stdout).unwrap();
    assert_eq!(
        (&page["context"], &page["also"][0]["context"]),
        (&json!("of a renewal"), &json!("as a reason"))
    );
    let unknown = run(folder.path(), &["explain", "upstream_timout"]);
    assert_eq!(unknown.status.code(), Some(64));
    assert!(text(&unknown.stderr).contains("`upstream_timeout`"));
    let list = run(folder.path(), &["explain", "--json"]);
    let list: Value = serde_json::from_slice(&list.stdout).unwrap();
    assert!(list.as_array().unwrap().len() > 70);
}

/// What was written as `id`, and the text of its descriptor.
fn written(folder: &Path, report: &Value, id: &str) -> (Value, String) {
    let written = report["written"].as_array().unwrap();
    let one = written.iter().find(|one| one["id"] == id);
    let one = one.unwrap_or_else(|| panic!("{id} is not in {report:#}"));
    (one.clone(), descriptor(folder, id))
}

#[test]
fn the_configuration_of_codex_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let source = r#"
        model = "some"
        [mcp_servers.docs]
        url = "https://mcp.example.com/mcp"
        bearer_token_env_var = "SET_HERE"
        http_headers = { X-Team = "blue" }
        env_http_headers = { "X-Region" = "SET_HERE" }
        enabled_tools = ["search", "read_*"]
        [mcp_servers.local]
        command = "uvx"
        args = ["mcp-server-git"]
        env_vars = ["SET_HERE"]
        startup_timeout_sec = 20
        [mcp_servers.local.env]
        MODE = "fast"
        [mcp_servers.off]
        command = "uvx"
        enabled = false
        [mcp_servers.asks]
        command = "uvx"
        [mcp_servers.asks.tools.drop]
        approval_mode = "prompt"
    "#;
    let (report, _) = imported(folder.path(), "config.toml", source);
    let (one, docs) = written(folder.path(), &report, "docs");
    assert_eq!(one["enabled"], true, "{one}");
    for line in [
        "value: \"${SET_HERE}\"",
        "prefix: \"Bearer \"",
        "\"X-Team\": \"blue\"",
        "\"X-Region\": \"${SET_HERE}\"",
        "allow: [\"search\", \"read_*\"]",
    ] {
        assert!(docs.contains(line), "{line}\n{docs}");
    }
    let (_, local) = written(folder.path(), &report, "local");
    assert!(local.contains("\"SET_HERE\": \"${SET_HERE}\"") && local.contains("\"MODE\": \"fast\""));
    for id in ["off", "asks"] {
        assert_eq!(written(folder.path(), &report, id).0["enabled"], false, "{id}");
    }
    assert_checked(folder.path());
}

#[test]
fn servers_of_every_client_are_found_where_it_keeps_them() {
    let projects = r#"{"mcpServers": {"top": {"command": "x"}}, "projects": {
        "/work/a": {"mcpServers": {"db": {"command": "uvx", "args": ["git"]}, "top": {"command": "x"}},
                    "disabledMcpServers": ["db"]},
        "/work/b": {"mcpServers": {"db": {"command": "uvx", "args": ["other"]}}}}}"#;
    let zed = r#"{"context_servers": {"one": {"source": "custom", "command": {"path": "npx", "args": ["-y"],
        "env": {"MODE": "a"}}}, "two": {"command": "uvx", "args": []}, "ext": {"source": "extension", "settings": {}}}}"#;
    let opencode = r#"{"mcp": {"local": {"type": "local", "command": ["npx", "-y", "x"], "environment": {"MODE": "a"}},
        "far": {"type": "remote", "url": "https://mcp.example.com/mcp", "headers": {"Authorization": "Bearer {env:SET_HERE}"},
                "enabled": true}}, "tools": {"far_delete_*": false, "local*": false}}"#;
    let kept = "name: mine\nversion: 1.0.0\nmcpServers:\n  - name: files\n    command: npx\n    args: [-y, x]\n    \
        env: { SECRET_KEY: \"${{ secrets.SET_HERE }}\" }\n  - name: web\n    type: streamable-http\n    \
        url: https://mcp.example.com/mcp\n    requestOptions: { headers: { X-Team: blue } }\n";
    for (name, source, expected) in [
        (".claude.json", projects, vec!["top", "db", "db_2"]),
        ("settings.json", zed, vec!["one", "two"]),
        ("opencode.json", opencode, vec!["local", "far"]),
        ("config.yaml", kept, vec!["files", "web"]),
        (
            "amp.json",
            r#"{"amp.mcpServers": {"a": {"command": "x"}}}"#,
            vec!["a"],
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (report, all) = imported(folder.path(), name, source);
        assert_eq!(ids(&report["written"]), expected, "{name}: {report:#}");
        assert_checked(folder.path());
        match name {
            ".claude.json" => {
                assert_eq!(written(folder.path(), &report, "db").0["enabled"], false);
                assert_eq!(written(folder.path(), &report, "db_2").0["enabled"], true);
            }
            "settings.json" => assert!(
                report["skipped"][0]["reason"]
                    .as_str()
                    .unwrap()
                    .contains("extension")
            ),
            "opencode.json" => {
                assert!(
                    written(folder.path(), &report, "far")
                        .1
                        .contains("deny: [\"delete_*\"]"),
                    "{all}"
                );
                assert!(
                    written(folder.path(), &report, "local")
                        .1
                        .contains("deny: [\"*\"]"),
                    "{all}"
                );
            }
            "config.yaml" => assert!(all.contains("\"SECRET_KEY\": \"${SET_HERE}\""), "{all}"),
            _ => {}
        }
    }
}

#[test]
fn what_cannot_be_taken_is_named_and_leaves_no_server_more_open() {
    let folder = tempfile::tempdir().unwrap();
    let source = r#"{ "mcpServers": {
        "kept": { "url": "https://mcp.example.com/mcp", "tools": ["get_issue"] },
        "all": { "url": "https://mcp.example.com/mcp", "tools": ["*"] },
        "nothing": { "url": "https://mcp.example.com/mcp", "tools": [] },
        "odd": { "url": "https://mcp.example.com/mcp", "includeTools": ["get issue"] },
        "nested": { "url": "https://mcp.example.com/mcp", "tools": { "deny": ["x"] } },
        "fenced": { "command": "node", "sandboxEnabled": true },
        "number": { "command": "node", "env": 3 },
        "approved": { "command": "node", "alwaysAllow": ["read"] } } }"#;
    let (report, _) = imported(folder.path(), "mcp.json", source);
    let (kept, text) = written(folder.path(), &report, "kept");
    assert!(
        kept["enabled"] == true && text.contains("allow: [\"get_issue\"]"),
        "{text}"
    );
    assert_eq!(written(folder.path(), &report, "all").0["enabled"], true);
    assert!(
        written(folder.path(), &report, "nothing")
            .1
            .contains("deny: [\"*\"]")
    );
    for (id, named) in [
        ("odd", "includeTools"),
        ("nested", "tools"),
        ("fenced", "sandboxEnabled"),
        ("number", "env"),
    ] {
        let (one, _) = written(folder.path(), &report, id);
        assert_eq!(one["enabled"], false, "{id}");
        assert!(one["reason"].as_str().unwrap().contains(named), "{one}");
    }
    let (approved, _) = written(folder.path(), &report, "approved");
    assert_eq!(approved["enabled"], true);
    assert!(approved["notes"][0].as_str().unwrap().contains("alwaysAllow"));
    assert_checked(folder.path());
}

#[test]
fn a_login_of_the_client_becomes_one_of_ours() {
    let folder = tempfile::tempdir().unwrap();
    let source = r#"{ "mcpServers": {
        "linear": { "type": "http", "url": "https://mcp.example.com/mcp",
                    "oauth": { "clientId": "abc", "callbackPort": 8080, "scopes": ["read", "write"] } },
        "cursor": { "url": "https://mcp.example.com/mcp",
                    "auth": { "CLIENT_ID": "abc", "CLIENT_SECRET": "literal-of-a-secret", "scopes": "a b" } },
        "plain": { "url": "https://mcp.example.com/mcp", "oauth": {} },
        "without": { "url": "https://mcp.example.com/mcp", "oauth": false },
        "keyed": { "url": "https://mcp.example.com/mcp", "oauth": {}, "headers": { "Authorization": "Bearer ${SET_HERE}" } } } }"#;
    let (report, all) = imported(folder.path(), "mcp.json", source);
    let (linear, text) = written(folder.path(), &report, "linear");
    assert!(
        text.contains("oauth:\n    client_id: \"abc\"\n    scopes: [\"read\", \"write\"]\n"),
        "{text}"
    );
    assert!(
        linear["notes"][0].as_str().unwrap().contains("callbackPort"),
        "{linear}"
    );
    assert!(
        written(folder.path(), &report, "cursor")
            .1
            .contains("client_secret: \"${CURSOR_CLIENT_SECRET}\"")
    );
    assert!(!all.contains("literal-of-a-secret"));
    assert!(written(folder.path(), &report, "plain").1.contains("oauth: {}"));
    assert!(written(folder.path(), &report, "without").1.contains("none: {}"));
    assert!(written(folder.path(), &report, "keyed").1.contains("api_key:"));
    assert_checked(folder.path());
}

#[test]
fn lists_of_variables_and_headers_are_read_in_every_form() {
    let folder = tempfile::tempdir().unwrap();
    let source = r#"{ "mcpServers": {
        "list": { "command": "node server.js --fast", "env": ["REGION=eu", "LOG=1"] },
        "objects": { "url": "https://mcp.example.com/mcp", "headers": [{ "X-Team": "blue" }, "X-Room: 7"] } } }"#;
    let (report, _) = imported(folder.path(), "mcp.json", source);
    let (list, text) = written(folder.path(), &report, "list");
    assert!(
        text.contains("\"REGION\": \"eu\"") && text.contains("\"LOG\": \"1\""),
        "{text}"
    );
    assert!(
        text.contains("command: [\"node\", \"server.js\", \"--fast\"]"),
        "{text}"
    );
    assert!(list["notes"][0].as_str().unwrap().contains("split"));
    let (_, text) = written(folder.path(), &report, "objects");
    assert!(
        text.contains("\"X-Team\": \"blue\"") && text.contains("\"X-Room\": \"7\""),
        "{text}"
    );
}

#[test]
fn nothing_that_a_file_says_about_a_server_becomes_a_reference() {
    let folder = tempfile::tempdir().unwrap();
    let source = r#"{ "mcpServers": { "a ${SET_HERE}": { "command": "x", "description": "b ${SET_HERE}\n# c\u001b[31m",
        "includeTools": ["${SET_HERE}"] } } }"#;
    let (report, _) = imported(folder.path(), "mcp.json", source);
    let id = ids(&report["written"])[0].to_owned();
    let checked = run(folder.path(), &["check", "providers.d", "--json"]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stdout));
    let doctored = run(folder.path(), &["tools", &id]);
    let printed = text(&doctored.stdout) + &text(&doctored.stderr);
    assert!(!printed.contains("a value of the environment"), "{printed}");
    assert!(!descriptor(folder.path(), &id).contains('\u{1b}'));
}

#[test]
fn a_server_of_the_name_of_a_disabled_example_gets_the_next_id() {
    let folder = tempfile::tempdir().unwrap();
    let providers = folder.path().join("providers.d");
    std::fs::create_dir(&providers).unwrap();
    let example = "# To enable: set `enabled: true`.\nid: github\nenabled: false\nupstream: { url: 'https://mcp.example/mcp' }\nauth: { none: {} }\n";
    std::fs::write(providers.join("github.yaml"), example).unwrap();
    let source = r#"{"mcpServers": {"GitHub": {"url": "https://mcp.example/other"}}}"#;
    let (report, _) = imported(folder.path(), "mcp.json", source);
    assert_eq!(report["written"][0]["id"], "github_2", "{report}");
    assert!(
        report["written"][0]["notes"]
            .to_string()
            .contains("disabled example"),
        "{report}"
    );
    assert_eq!(
        std::fs::read_to_string(providers.join("github.yaml")).unwrap(),
        example
    );
}
