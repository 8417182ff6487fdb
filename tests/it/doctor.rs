//! `pleiades doctor`, and commands about one provider: what each step says, what is never said.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::world::client::GENERATIONS;
use super::world::provider::tool;
use super::world::{FakeServer, GUARD, free_port};

/// A folder with one descriptor, `one`.
fn folder(descriptor: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let providers = folder.path().join("providers.d");
    std::fs::create_dir(&providers).unwrap();
    std::fs::write(providers.join("one.yaml"), format!("id: one\n{descriptor}")).unwrap();
    folder
}

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pleiades"));
    command
        .args(args)
        .current_dir(folder)
        .env("XDG_DATA_HOME", folder)
        .stdin(Stdio::null());
    command
}

async fn run(mut command: Command) -> (Option<i32>, String, String) {
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The report of `doctor one --json`, and the exit code.
async fn doctor(command: Command) -> (Option<i32>, Value) {
    let (code, out, err) = run(command).await;
    (
        code,
        serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}")),
    )
}

fn states(report: &Value) -> Vec<(&str, &str)> {
    let steps = report["steps"].as_array().unwrap();
    let text = |step: &'_ Value, key: &str| -> String { step[key].as_str().unwrap().to_owned() };
    assert!(
        steps
            .iter()
            .all(|step| !text(step, "detail").is_empty() && step["duration_ms"].is_u64())
    );
    steps
        .iter()
        .map(|step| (step["step"].as_str().unwrap(), step["state"].as_str().unwrap()))
        .collect()
}

fn step<'a>(report: &'a Value, name: &str) -> &'a Value {
    let mut steps = report["steps"].as_array().unwrap().iter();
    steps.find(|step| step["step"] == name).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn revisions_that_a_provider_does_not_name_are_asked_for() {
    for (speaks, expected) in [
        (&GENERATIONS[..], "speaks 2025-06-18, 2025-11-25, 2026-07-28 "),
        (&GENERATIONS[2..], "speaks 2026-07-28 "),
    ] {
        let fake = FakeServer::start(speaks).await;
        let folder = folder(&format!(
            "upstream: {{ url: '{}' }}\nauth: {{ none: {{}} }}\n",
            fake.url
        ));
        let (_, report) = doctor(command(folder.path(), &["doctor", "one", "--json"])).await;
        let spoken = step(&report, "protocol")["detail"].as_str().unwrap();
        assert!(spoken.contains(expected), "{spoken}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_well_is_well_at_every_step() {
    let mut tools = vec![tool("echo"), tool("hidden"), tool("broken")];
    tools[0]["title"] = json!("Echo");
    tools[2]["inputSchema"] = json!("no schema");
    let fake = FakeServer::start_paged(&["2025-06-18", "2025-11-25"], 2, tools).await;
    let url = fake.url.replace("127.0.0.1", "localhost");
    let folder = folder(&format!(
        "upstream: {{ url: '{url}' }}\nauth: {{ none: {{}} }}\ntools: {{ deny: [hidden] }}\n"
    ));
    let (code, report) = doctor(command(folder.path(), &["doctor", "one", "--json"])).await;
    let expected = [
        ("descriptor", "ok"),
        ("references", "skipped"),
        ("dns", "ok"),
        ("tcp", "ok"),
        ("tls", "skipped"),
        ("http", "ok"),
        ("protocol", "ok"),
        ("capabilities", "ok"),
        ("credential", "ok"),
        ("lists", "ok"),
    ];
    assert_eq!(
        (code, &report["ok"], states(&report)),
        (Some(0), &json!(true), expected.to_vec()),
        "{report}"
    );
    let spoken = step(&report, "protocol")["detail"].as_str().unwrap();
    assert!(
        spoken.starts_with("fake 1 speaks 2025-06-18, 2025-11-25 "),
        "{spoken}"
    );
    let lists = step(&report, "lists");
    assert!(
        lists["detail"]
            .as_str()
            .unwrap()
            .starts_with("1 tool, 1 resource, 1 template, 1 prompt; 2 entries")
    );
    let lines = lists["lines"].to_string();
    assert!(
        lines.contains("`broken`") && lines.contains("`hidden`"),
        "{lines}"
    );
    assert!(fake.seen("tools/call").is_empty(), "nothing was run");
    let (_, text, _) = run(command(folder.path(), &["doctor", "one"])).await;
    assert!(
        text.starts_with("ok       descriptor ") && !text.contains('\u{1b}'),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_key_is_the_fault_of_the_credential_and_never_printed() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let folder = folder(&format!(
        "upstream: {{ url: '{}' }}\nauth: {{ api_key: {{ value: '${{ONE_KEY}}' }} }}\n",
        fake.url
    ));
    let asked = |key: &str, args: &[&str]| {
        let mut command = command(folder.path(), args);
        command.env("ONE_KEY", key);
        command
    };
    let (code, report) = doctor(asked("hunter2-key", &["doctor", "one", "--json"])).await;
    assert_eq!(
        (code, &step(&report, "credential")["state"]),
        (Some(0), &json!("ok")),
        "{report}"
    );
    fake.knobs.refuses.store(true, Ordering::SeqCst);
    let (code, report) = doctor(asked("hunter2-key", &["doctor", "one", "--json"])).await;
    assert_eq!(
        (code, &step(&report, "credential")["state"]),
        (Some(69), &json!("failed")),
        "{report}"
    );
    let refused = step(&report, "credential");
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains("`auth.api_key.value`"), "{detail}");
    assert!(refused["cure"].as_str().unwrap().contains("`auth`"), "{refused}");
    assert!(!report.to_string().contains("hunter2"), "{report}");
    let (code, out, err) = run(command(folder.path(), &["doctor", "one"])).await;
    assert_eq!(code, Some(69), "without the variable");
    assert!(
        out.contains("failed   references") && out.contains("`ONE_KEY` is not set"),
        "{out}{err}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_fails_names_its_cure_and_skips_what_follows() {
    let folder = folder(&format!(
        "upstream: {{ url: 'http://127.0.0.1:{}/mcp' }}\nauth: {{ none: {{}} }}\n",
        free_port()
    ));
    let (code, report) = doctor(command(folder.path(), &["doctor", "one", "--json"])).await;
    assert_eq!((code, &report["ok"]), (Some(69), &json!(false)));
    let expected = [
        ("tcp", "failed"),
        ("tls", "skipped"),
        ("http", "skipped"),
        ("protocol", "skipped"),
        ("capabilities", "skipped"),
        ("credential", "skipped"),
        ("lists", "skipped"),
    ];
    assert_eq!(states(&report)[3..], expected, "{report}");
    let tcp = step(&report, "tcp");
    assert!(tcp["cure"].is_string() && step(&report, "lists")["detail"] == "`tcp` failed");
    assert_eq!(tcp["code"], "upstream_unreachable");
    assert!(
        tcp["detail"]
            .as_str()
            .unwrap()
            .ends_with("Connection refused (os error 111)"),
        "{tcp}"
    );
    assert_eq!(step(&report, "lists")["code"], Value::Null);
    let (_, text, _) = run(command(folder.path(), &["doctor", "one"])).await;
    assert!(text.contains("`pleiades explain upstream_unreachable`"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_none_is_found_out() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    fake.knobs.fails.store(true, Ordering::SeqCst);
    let folder = folder(&format!(
        "upstream: {{ url: '{}' }}\nauth: {{ none: {{}} }}\n",
        fake.url
    ));
    let (code, report) = doctor(command(folder.path(), &["doctor", "one", "--json"])).await;
    assert_eq!(
        (code, &step(&report, "http")["state"]),
        (Some(69), &json!("failed")),
        "{report}"
    );
    let tls = fake.url.replace("http:", "https:");
    let one = folder.path().join("providers.d/one.yaml");
    std::fs::write(
        &one,
        format!("id: one\nupstream: {{ url: '{tls}' }}\nauth: {{ none: {{}} }}\n"),
    )
    .unwrap();
    let (_, report) = doctor(command(folder.path(), &["doctor", "one", "--json"])).await;
    assert!(
        step(&report, "tls")["cure"].as_str().unwrap().contains("http://"),
        "{report}"
    );
    std::fs::write(&one, "id: one\nupstream: { url: 'https://10.0.0.1/mcp' }\n").unwrap();
    let (code, report) = doctor(command(folder.path(), &["doctor", "one", "--json"])).await;
    assert_eq!(
        (code, states(&report)[0]),
        (Some(69), ("descriptor", "failed")),
        "{report}"
    );
    assert_eq!(
        step(&report, "descriptor")["lines"].as_array().unwrap().len(),
        2,
        "every fault of it"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_ends_shows_what_it_said_last_but_no_secret() {
    let descriptor =
        "upstream: { command: [sh, crash.sh], env: { KEY: '${ONE_KEY}' } }\nauth: { none: {} }\n";
    let folder = folder(descriptor);
    let script = "echo \"the key $KEY is wrong\" >&2\nprintf '\\033[31mred\\n' >&2\nexit 3\n";
    std::fs::write(folder.path().join("providers.d/crash.sh"), script).unwrap();
    let mut asked = command(folder.path(), &["doctor", "one", "--json"]);
    asked.env("ONE_KEY", "hunter2-key");
    let (code, report) = doctor(asked).await;
    assert_eq!(
        (code, &step(&report, "start")["state"]),
        (Some(69), &json!("failed")),
        "{report}"
    );
    let lines = step(&report, "start")["lines"].to_string();
    assert!(
        lines.contains("the key … is wrong") && lines.contains("[31mred"),
        "{lines}"
    );
    assert!(
        !report.to_string().contains("hunter2") && !lines.contains("u001b"),
        "{report}"
    );
    let one = folder.path().join("providers.d/one.yaml");
    std::fs::write(
        one,
        "id: one\nupstream: { command: [no-such-program-1] }\nauth: { none: {} }\n",
    )
    .unwrap();
    let (_, report) = doctor(command(folder.path(), &["doctor", "one", "--json"])).await;
    assert_eq!(step(&report, "program")["state"], "failed", "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_callers_bring_is_looked_for_in_the_environment() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let folder = folder(&format!(
        "upstream: {{ url: '{}' }}\nauth: {{ client_key: {{ headers: [x-one], env: CALLERS_KEY }} }}\n",
        fake.url
    ));
    let (code, report) = doctor(command(folder.path(), &["doctor", "one", "--json"])).await;
    let credential = step(&report, "credential");
    assert_eq!(
        (code, &credential["state"]),
        (Some(0), &json!("skipped")),
        "{report}"
    );
    assert!(credential["detail"].as_str().unwrap().contains("`CALLERS_KEY`"));
    assert!(
        fake.seen("initialize").is_empty(),
        "nothing is asked in nobody's name"
    );
    let mut asked = command(folder.path(), &["doctor", "one", "--json"]);
    asked.env("CALLERS_KEY", "hunter2-key");
    let (_, report) = doctor(asked).await;
    assert_eq!(step(&report, "credential")["state"], "ok", "{report}");
    assert_eq!(
        fake.seen("initialize")[0].headers["authorization"],
        "Bearer hunter2-key"
    );
    assert!(!report.to_string().contains("hunter2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_provider_with_a_login_is_looked_at_as_far_as_it_goes() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    fake.knobs.refuses.store(true, Ordering::SeqCst);
    let folder = folder(&format!(
        "enabled: false\nupstream: {{ url: '{}' }}\nauth: {{ oauth: {{}} }}\n",
        fake.url
    ));
    let (code, report) = doctor(command(folder.path(), &["doctor", "one", "--json"])).await;
    // A server without any metadata has its endpoints at fixed paths since 2025-03-26.
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(step(&report, "http")["state"], "ok");
    assert_eq!(
        step(&report, "discovery")["detail"],
        "no metadata is published: its endpoints are guesses, PKCE S256"
    );
    assert_eq!(step(&report, "vault")["state"], "ok");
    assert_eq!(step(&report, "credential")["state"], "skipped");
    assert_eq!(step(&report, "lists")["state"], "skipped");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_provider_is_answered_with_its_neighbours() {
    let folder = folder("upstream: { command: [x] }\nauth: { none: {} }\n");
    let (code, out, err) = run(command(folder.path(), &["doctor", "onn"])).await;
    assert_eq!((code, out.as_str()), (Some(64), ""));
    assert!(err.contains("did you mean `one`"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_about_one_provider_starts_no_other() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let folder = folder(&format!(
        "upstream: {{ url: '{}' }}\nauth: {{ none: {{}} }}\n",
        fake.url
    ));
    let providers = folder.path().join("providers.d");
    let other = "id: other\nupstream: { command: [touch, started] }\nauth: { none: {} }\n";
    std::fs::write(providers.join("other.yaml"), other).unwrap();
    for args in [
        &["tools", "one"][..],
        &["doctor", "one"],
        &["call", "one", "echo", r#"{"text":"hi"}"#],
    ] {
        let (code, out, err) = run(command(folder.path(), args)).await;
        assert_eq!(code, Some(0), "{out}{err}");
    }
    assert!(!providers.join("started").exists());
    let (code, ..) = run(command(folder.path(), &["call", "one", "no_such_tool"])).await;
    assert_eq!(code, Some(64), "a wrong name is a fault of usage");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_told_to_end_takes_its_children_along() {
    let folder = folder("upstream: { command: [sh, deaf.sh] }\nauth: { none: {} }\n");
    let providers = folder.path().join("providers.d");
    let script = "echo $$ > draft; mv draft pid; exec sleep 1000\n";
    std::fs::write(providers.join("deaf.sh"), script).unwrap();
    let written = providers.join("pid");
    for args in [["tools", "one"], ["doctor", "one"]] {
        let mut process = command(folder.path(), &args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = async {
            while !written.exists() {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(GUARD, started).await.unwrap();
        let child: i32 = std::fs::read_to_string(&written).unwrap().trim().parse().unwrap();
        std::fs::remove_file(&written).unwrap();
        let pid = rustix::process::Pid::from_child(&process);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let status = tokio::task::spawn_blocking(move || process.wait())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(status.code(), Some(75), "{args:?}");
        let child = rustix::process::Pid::from_raw(child).unwrap();
        assert!(
            rustix::process::test_kill_process(child).is_err(),
            "{args:?}: the child is gone"
        );
    }
}

/// An HTTP server that answers everything alike.
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

#[tokio::test(flavor = "multi_thread")]
async fn what_was_seen_at_the_server_is_shown() {
    let page = "<html><head><title>Attention Required! | Edge</title></head></html>";
    let location: &[_] = &[("location", "https://elsewhere.example/mcp/?key=hunter2")];
    let html: &[_] = &[("content-type", "text/html")];
    let plain: &[_] = &[("content-type", "text/plain")];
    for (status, headers, body, shown) in [
        (
            308,
            location,
            "",
            &["https://elsewhere.example/mcp/", "redirects are not followed"][..],
        ),
        (403, html, page, &["Attention Required! | Edge", "firewall"]),
        (410, plain, "Gone: use v2", &["410", "Gone: use v2"]),
        (503, plain, "no healthy upstream", &["503", "no healthy upstream"]),
    ] {
        let url = answering(status, headers, body).await;
        let folder = folder(&format!("upstream: {{ url: '{url}' }}\nauth: {{ none: {{}} }}\n"));
        let (code, report) = doctor(command(folder.path(), &["doctor", "one", "--json"])).await;
        let http = step(&report, "http").to_string();
        assert_eq!(code, Some(69), "{report}");
        assert!(shown.iter().all(|word| http.contains(word)), "{http}");
        let (_, _, added) = run(command(folder.path(), &["add", "--id", "two", &url])).await;
        assert!(
            added.contains(shown[0]) && !added.contains("upstream.url"),
            "{added}"
        );
        assert!(!report.to_string().contains("hunter2") && !added.contains("hunter2"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_mcp_servers_answer_a_bare_question_with_is_said_to_be_none() {
    let json: &[_] = &[("content-type", "application/json")];
    let url = answering(400, json, r#"{"error":"Bad Request: Server not initialized"}"#).await;
    let folder = folder(&format!("upstream: {{ url: '{url}' }}\nauth: {{ none: {{}} }}\n"));
    let (_, report) = doctor(command(folder.path(), &["doctor", "one", "--json"])).await;
    let http = step(&report, "http");
    assert_eq!(
        (&http["state"], &http["code"]),
        (&json!("ok"), &Value::Null),
        "{http}"
    );
    let detail = http["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("it answers HTTP/1.1; 400: ") && !detail.contains("Bad Request"),
        "{http}"
    );
    assert!(http["lines"].to_string().contains("not initialized"), "{http}");
}

/// A server that wants a login, and says in its metadata what it is called.
async fn named(name: &'static str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let mut resource = json!({ "resource": format!("{origin}/mcp"), "authorization_servers": [origin] });
    if !name.is_empty() {
        resource["resource_name"] = json!(name);
    }
    let server = json!({
        "issuer": origin, "authorization_endpoint": format!("{origin}/a"), "token_endpoint": format!("{origin}/t"),
        "registration_endpoint": format!("{origin}/r"), "code_challenge_methods_supported": ["S256"]
    });
    let router = axum::Router::new().fallback(move |uri: axum::http::Uri| {
        let (status, body) = match uri.path() {
            "/.well-known/oauth-protected-resource/mcp" => (200, resource.to_string()),
            "/.well-known/oauth-authorization-server" => (200, server.to_string()),
            "/mcp" => (401, String::new()),
            _ => (404, String::new()),
        };
        let answer = axum::response::Response::builder().status(status);
        let answer = answer
            .header("content-type", "application/json")
            .body(axum::body::Body::from(body));
        async move { answer.unwrap() }
    });
    let url = format!("{origin}/mcp");
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn an_added_server_is_called_what_it_calls_itself_else_by_what_was_typed() {
    for (name, args, file, title) in [
        ("Acme Mail", &[][..], "acme_mail", "Acme Mail"),
        ("Acme Mail", &["--id", "post"], "post", "Acme Mail"),
        ("", &[], "server", "Server"),
        ("", &["--id", "google_mail"], "google_mail", "Google Mail"),
    ] {
        let url = named(name).await;
        let folder = folder("upstream: { command: [x] }\nauth: { none: {} }\n");
        let (code, _, err) = run(command(folder.path(), &[&["add", &url], args].concat())).await;
        assert_eq!(code, Some(0), "{err}");
        let text = std::fs::read_to_string(folder.path().join(format!("providers.d/{file}.yaml"))).unwrap();
        assert!(
            text.contains(&format!("id: {file}\ntitle: \"{title}\"")),
            "{text}"
        );
        assert!(err.contains(&format!("{title} wants a credential")), "{err}");
    }
    let folder = folder("upstream: { command: [x] }\nauth: { none: {} }\n");
    let url = named("").await;
    for id in ["../out", "Mail", "s_mail", "é", ""] {
        let (code, _, err) = run(command(folder.path(), &["add", &url, "--id", id])).await;
        assert_eq!(code, Some(64), "{id}: {err}");
        assert!(err.contains("is no id"), "{err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_program_prints_and_how_it_ends_is_shown() {
    let folder = folder("upstream: { command: [sh, odd.sh] }\nauth: { none: {} }\n");
    let script = "printf 'Welcome \\033[1mto the server\\n'\necho 'npm error 404' >&2\nexit 3\n";
    std::fs::write(folder.path().join("providers.d/odd.sh"), script).unwrap();
    let (_, report) = doctor(command(folder.path(), &["doctor", "one", "--json"])).await;
    let start = step(&report, "start").to_string();
    assert!(start.contains("prints what is not JSON-RPC: Welcome"), "{start}");
    assert!(
        start.contains("exit status: 3") && start.contains("npm error 404"),
        "{start}"
    );
    std::fs::write(folder.path().join("odd.sh"), script).unwrap();
    std::fs::write(folder.path().join("pleiades.yaml"), "commands: true\n").unwrap();
    let (code, _, printed) = run(command(folder.path(), &["add", "--", "sh", "odd.sh"])).await;
    assert_eq!(code, Some(69), "{printed}");
    assert!(
        printed.contains("exit status: 3") && printed.contains("npm error 404"),
        "{printed}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_that_are_named_are_said_to_be_ignored_where_a_server_is_not_reached() {
    let port = free_port();
    let folder = folder(&format!(
        "upstream: {{ url: 'http://127.0.0.1:{port}/mcp' }}\nauth: {{ none: {{}} }}\n"
    ));
    let mut asked = command(folder.path(), &["doctor", "one", "--json"]);
    asked.env("HTTPS_PROXY", "http://user:hunter2@proxy.example:3128");
    let (_, report) = doctor(asked).await;
    let tcp = step(&report, "tcp").to_string();
    assert!(tcp.contains("`HTTPS_PROXY` is set and ignored"), "{tcp}");
    assert!(!report.to_string().contains("hunter2"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_not_there_is_a_fault_of_usage_for_every_command() {
    let folder = folder("upstream: { command: [x] }\nauth: { none: {} }\n");
    for args in [
        &["doctor", "nope"][..],
        &["tools", "nope"],
        &["call", "nope", "echo"],
    ] {
        let (code, ..) = run(command(folder.path(), args)).await;
        assert_eq!(code, Some(64), "{args:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_added_address_that_needs_permission_gets_it_and_the_file_says_why() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let folder = tempfile::tempdir().unwrap();
    let settings = format!(
        "listen: 0.0.0.0:8787\naccess: {{ api_keys: [{{ name: ci, tenant: acme, user: bot, sha256: '{}' }}] }}\n",
        "0".repeat(64)
    );
    std::fs::write(folder.path().join("pleiades.yaml"), settings).unwrap();
    std::fs::create_dir(folder.path().join("providers.d")).unwrap();
    let (code, _, err) = run(command(folder.path(), &["add", &fake.url, "--id", "one"])).await;
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("allow_private: true"), "{err}");
    let file = folder.path().join("providers.d/one.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let expected = "  # Its address is none of the public network: without permission the gateway does not connect to it.\n  \
                    allow_private: true\n";
    assert!(text.contains(expected), "{text}");
    let (code, out, _) = run(command(folder.path(), &["check", "providers.d/one.yaml"])).await;
    assert_eq!(code, Some(0), "{out}");
    std::fs::write(&file, text.replace("allow_private: true", "allow_private: false")).unwrap();
    let (code, out, _) = run(command(folder.path(), &["check", "providers.d/one.yaml"])).await;
    assert_eq!(code, Some(64), "{out}");
}

#[test]
fn every_address_that_is_not_connected_to_without_permission_is_a_fault_of_check() {
    use pleiades_descriptor::reader::{LocalAddress, local_ip};
    use pleiades_upstream::Permit;
    let permit = |private| Permit {
        private,
        loopback: private,
    };
    let first = (0..=u16::MAX).flat_map(|head| {
        let [a, b] = head.to_be_bytes();
        let four = [0, 2, 99, 100, 113].map(|third| std::net::Ipv4Addr::new(a, b, third, 7).into());
        let six = [
            [0; 7],
            [0xdb8, 0, 0, 0, 0, 0, 7],
            [0xff9b, 1, 0, 0, 0, 0, 7],
            [1, 2, 3, 4, 5, 6, 7],
        ]
        .map(|rest: [u16; 7]| {
            let [b, c, d, e, f, g, h] = rest;
            std::net::Ipv6Addr::new(head, b, c, d, e, f, g, h).into()
        });
        four.into_iter().chain(six).collect::<Vec<std::net::IpAddr>>()
    });
    for address in first {
        let kind = local_ip(address);
        assert_eq!(
            kind.is_none(),
            permit(false).admits(address),
            "{address}: {kind:?}"
        );
        let is_usable = !matches!(kind, Some(LocalAddress::Unusable(_)));
        assert_eq!(is_usable, permit(true).admits(address), "{address}: {kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_added_server_with_a_published_sign_in_is_enabled_and_the_next_command_is_named() {
    let url = named("Acme Mail").await;
    let folder = folder("upstream: { command: [x] }\nauth: { none: {} }\n");
    let (code, _, err) = run(command(folder.path(), &["add", &url])).await;
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("connect acme_mail"), "{err}");
    let text = std::fs::read_to_string(folder.path().join("providers.d/acme_mail.yaml")).unwrap();
    assert!(text.contains("enabled: true\nauth:\n  oauth: {}\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_without_a_scheme_is_answered_with_the_url_that_is_meant() {
    let folder = folder("upstream: { command: [x] }\nauth: { none: {} }\n");
    for (typed, meant) in [
        ("127.0.0.1:1/mcp", "http://127.0.0.1:1/mcp"),
        ("localhost:1/mcp", "http://localhost:1/mcp"),
        ("mcp.example.com/mcp", "https://mcp.example.com/mcp"),
    ] {
        let (code, _, err) = run(command(folder.path(), &["add", typed])).await;
        assert_eq!(code, Some(64), "{err}");
        assert!(err.contains(&format!("write `{meant}`")), "{err}");
    }
    let (code, _, err) = run(command(
        folder.path(),
        &["add", "--", "sh", "-c", "echo first >&2; echo last >&2; exit 1"],
    ))
    .await;
    assert_eq!(code, Some(69), "{err}");
    assert!(err.contains("stderr: first\nstderr: last\n"), "{err}");
}
