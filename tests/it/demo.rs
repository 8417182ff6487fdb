//! The demo server, through the shipped folder as it stands: nothing in PATH, no network.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::world::client::{GENERATIONS, events, until_method};
use super::world::{TestClient, World};

/// Each tool, arguments for it, a word of its answer, and whether that is an error.
fn calls() -> Vec<(&'static str, Value, &'static str, bool)> {
    vec![
        ("echo", json!({"message": "hi"}), "hi", false),
        ("add", json!({"a": 2, "b": 3.5}), "5.5", false),
        ("list_stars", json!({}), "Alpha Andromedae", false),
        ("find_star", json!({"name": "Alpha Lyrae"}), "Lyra", false),
        ("find_star", json!({"name": "Alpha Lyre"}), "Alpha Lyrae", true),
        ("greet", json!({"name": "Ada"}), "Hello, Ada!", false),
        ("greet", json!({}), "cannot ask its user", false),
        ("count", json!({"steps": 2, "pause_ms": 0}), "counted to 2", false),
        ("fail", json!({"reason": "on purpose"}), "on purpose", true),
    ]
}

async fn shipped() -> World {
    let world = World::builder().shipped().env("PATH", "").start().await;
    world.until_state("demo", "ready").await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_folder_answers_each_tool_of_the_demo_with_nothing_in_path() {
    let world = shipped().await;
    assert_eq!(world.status("everything").await["state"], "disabled");
    assert_eq!(world.status("demo").await["tools"], 7);
    for revision in GENERATIONS {
        for path in ["/mcp", "/mcp/demo", "/tools", "/tools/demo"] {
            let client = TestClient::connect(&world, path, revision).await;
            for (tool, arguments, word, is_error) in calls() {
                let result = match path {
                    "/tools" => client.call(&format!("demo__{tool}"), arguments.clone()).await,
                    "/tools/demo" => client.call(tool, arguments.clone()).await,
                    _ => {
                        let call = json!({"tool": tool, "arguments": arguments});
                        client.call("use_demo", call).await
                    }
                };
                let text = result["content"][0]["text"].as_str().unwrap_or_default();
                assert!(text.contains(word), "{revision} {path} {tool}: {text}");
                let outcome = result["isError"].as_bool().unwrap_or_default();
                assert_eq!(outcome, is_error, "{revision} {path} {tool}: {text}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_long_list_of_the_demo_loses_no_row_on_the_way() {
    let world = shipped().await;
    let client = TestClient::connect(&world, "/tools/demo", "2025-11-25").await;
    let whole = client.call("list_stars", json!({})).await["structuredContent"].clone();
    assert_eq!(whole["stars"].as_array().unwrap().len(), 384);
    let mut rows = Vec::new();
    let mut offset = json!(0);
    while !offset.is_null() {
        let page = client
            .call("list_stars", json!({"limit": 100, "offset": offset}))
            .await["structuredContent"]
            .clone();
        rows.extend(page["stars"].as_array().unwrap().clone());
        offset = page["next"].clone();
    }
    assert_eq!(json!(rows), whole["stars"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_shows_resource_prompt_and_progress() {
    let world = shipped().await;
    for revision in GENERATIONS {
        for path in ["/mcp/demo", "/tools/demo"] {
            let client = TestClient::connect(&world, path, revision).await;
            let read = client
                .result("resources/read", json!({"uri": "demo://about"}))
                .await;
            let text = read["contents"][0]["text"].as_str().unwrap();
            assert!(text.contains("`list_stars`"), "{text}");
            let params = json!({"name": "describe_star", "arguments": {"star": "Alpha Lyrae"}});
            let prompt = client.result("prompts/get", params).await;
            assert!(prompt.to_string().contains("Alpha Lyrae"), "{prompt}");
            let call = json!({"steps": 3, "pause_ms": 10});
            let mut params = match path {
                "/mcp/demo" => {
                    json!({"name": "use_demo", "arguments": {"tool": "count", "arguments": call}})
                }
                _ => json!({"name": "count", "arguments": call}),
            };
            params["_meta"] = json!({"progressToken": "mine"});
            let messages = client.streamed("tools/call", params).await;
            let steps: Vec<&Value> = messages
                .iter()
                .filter(|message| message["method"] == "notifications/progress")
                .map(|message| &message["params"]["message"])
                .collect();
            assert_eq!(steps, ["1 of 3", "2 of 3", "3 of 3"], "{revision} {path}");
        }
    }
}

/// A client that declares forms.
async fn asking(world: &World, revision: &'static str) -> TestClient {
    let mut client = TestClient::connect(world, "/mcp/demo", revision).await;
    if !client.is_modern() {
        let params = json!({"protocolVersion": revision, "capabilities": {"elicitation": {}},
                            "clientInfo": {"name": "asked", "version": "0"}});
        client.session = None;
        let opened = client.send("initialize", params).await;
        let session = opened.headers()["mcp-session-id"].to_str().unwrap().to_owned();
        client.session = Some(session);
        client.notify("notifications/initialized", json!({})).await;
    }
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_asks_for_a_name_and_says_how_that_ended() {
    let world = shipped().await;
    let answers = [
        (
            json!({"action": "accept", "content": {"name": "Grace"}}),
            "Hello, Grace!",
        ),
        (json!({"action": "decline"}), "the user declined"),
        (json!({"action": "cancel"}), "closed the question"),
    ];
    let greet = json!({"name": "use_demo", "arguments": {"tool": "greet", "arguments": {}}});
    for revision in ["2025-06-18", "2025-11-25"] {
        let client = asking(&world, revision).await;
        for (answer, outcome) in &answers {
            let mut stream = client.send("tools/call", greet.clone()).await;
            let question = until_method(&mut stream, "elicitation/create").await;
            assert_eq!(question["params"]["message"], "Whom shall the demo greet?");
            let body = json!({"jsonrpc": "2.0", "id": question["id"], "result": answer});
            let taken = client.post().body(body.to_string()).send().await.unwrap();
            assert_eq!(taken.status(), 202, "{revision}");
            let rest = events(&stream.text().await.unwrap());
            let text = rest.last().unwrap()["result"]["content"][0]["text"]
                .as_str()
                .unwrap();
            assert!(text.contains(outcome), "{revision}: {text}");
        }
    }
    let client = asking(&world, "2026-07-28").await;
    let call = |more: Value| {
        let mut params = greet.clone();
        params["_meta"] =
            json!({"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}});
        for (key, value) in more.as_object().unwrap() {
            params[key] = value.clone();
        }
        client.result("tools/call", params)
    };
    for (answer, outcome) in &answers {
        let asked = call(json!({})).await;
        let (key, question) = asked["inputRequests"].as_object().unwrap().iter().next().unwrap();
        assert_eq!(question["params"]["message"], "Whom shall the demo greet?");
        let given = json!({"requestState": asked["requestState"], "inputResponses": {key: answer}});
        let result = call(given).await;
        let text = result["content"][0]["text"].as_str().unwrap();
        assert!(text.contains(outcome), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_answers_through_stdio_and_the_command_line_with_nothing_in_path() {
    let folder = tempfile::tempdir().unwrap();
    let providers = std::fs::canonicalize("providers.d").unwrap();
    let command = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pleiades"));
        command
            .arg("--providers")
            .arg(&providers)
            .args(words)
            .current_dir(folder.path())
            .env_clear()
            .env("HOME", folder.path());
        command
    };
    let called = command(&["call", "demo", "echo", r#"{"message": "hi"}"#])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&called.stdout), "hi\n", "{called:?}");
    let doctor = command(&["--json", "doctor", "demo"]).output().unwrap();
    let report: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    assert_eq!(report["ok"], true, "{report}");
    assert!(report.to_string().contains("this very program"), "{report}");
    let mut child = command(&["stdio"])
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
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {},
                        "clientInfo": {"name": "t", "version": "0"}});
    ask(json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}));
    for (tool, arguments, word, is_error) in calls() {
        let params = json!({"name": "use_demo", "arguments": {"tool": tool, "arguments": arguments}});
        let answer = ask(json!({"jsonrpc": "2.0", "id": tool, "method": "tools/call", "params": params}));
        let text = answer["result"]["content"][0]["text"]
            .as_str()
            .unwrap_or_default();
        assert!(text.contains(word), "{tool}: {answer}");
        assert_eq!(
            answer["result"]["isError"].as_bool().unwrap_or_default(),
            is_error,
            "{tool}"
        );
    }
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn the_demo_ends_with_its_input_and_writes_nothing_but_protocol() {
    let run = |input: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pleiades"))
            .arg("demo")
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        let (mut out, mut err) = (String::new(), String::new());
        child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        (out, err, child.wait().unwrap().code())
    };
    assert_eq!(run(""), (String::new(), String::new(), Some(0)));
    let initialize = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"0"}}}"#;
    let slow = r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"count","arguments":{"steps":40,"pause_ms":500}}}"#;
    let (out, err, code) = run(&format!("{initialize}\n{slow}\n"));
    for line in out.lines() {
        let message: Value = serde_json::from_str(line).unwrap();
        assert_eq!(message["jsonrpc"], "2.0");
    }
    assert!(out.starts_with(r#"{"jsonrpc":"2.0","id":1,"#), "{out}");
    assert_eq!((err.as_str(), code), ("", Some(0)));
}

/// An upgrade puts another file in the place of the one that runs.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn the_demo_starts_although_the_file_of_the_program_was_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pleiades");
    std::fs::copy(env!("CARGO_BIN_EXE_pleiades"), &file).unwrap();
    let world = World::builder()
        .shipped()
        .env("PATH", "")
        .program(file.clone())
        .start()
        .await;
    world.until_state("demo", "ready").await;
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, "not a program").unwrap();
    // Lists were read by a process that may ask everything; this client declares nothing.
    let client = TestClient::connect(&world, "/tools/demo", "2025-11-25").await;
    let result = client.call("echo", json!({"message": "still here"})).await;
    assert_eq!(result["content"][0]["text"], "still here");
}
