//! Who may call: keys in either header, everything of a caller for that caller alone.

use std::process::Command;

use serde_json::{Value, json};

use super::world::{self, FakeServer, TestClient, World};

/// Two keys of one user, one of another user of the tenant, one of another tenant, one of an operator.
const KEYS: &str = "access:
  api_keys:
    - { name: ann, tenant: acme, user: ann, sha256: \"a43e0ad598a444b1933e3535025c95ba2340322d8adb1bf40e03824376e4b7d2\" }
    - { name: twin, tenant: acme, user: ann, sha256: \"62ebc459248456cca8930c0f02eb0a8c9285d4170f820e9cd7a7f13d8f32f7e0\" }
    - { name: bob, tenant: acme, user: bob, sha256: \"08781b8f42b3d48a3db9e503494ab9f634534849e83ef9f845b3faf398fd9952\" }
    - { name: eve, tenant: evil, user: ann, sha256: \"8681a2d1ebd97342390fe9d48e0da71a71d80bcd0e444e00c842e9bf5e3f8a4d\" }
  admin_keys: [{ name: ops, sha256: \"cb85242b9180efcc711d457c83aa77639a56891ac72cf7179c208da97efe7374\" }]
";
const ANN: &str = "ann-key-000000";
const TWIN: &str = "twin-key-00000";
const BOB: &str = "bob-key-000000";
const EVE: &str = "eve-key-000000";
const OPS: &str = "ops-key-000000";
const PATHS: [&str; 5] = ["/mcp", "/mcp/one", "/tools", "/tools/one", "/relay/one"];

async fn world(fake: &FakeServer) -> World {
    World::builder()
        .provider("one", fake)
        .settings(KEYS)
        .start()
        .await
}

fn ask(world: &World, path: &str, headers: &[(&str, &str)]) -> reqwest::RequestBuilder {
    let request = world
        .http
        .post(format!("{}{path}", world.base))
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2025-06-18")
        .body(r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"0"}}}"#);
    headers
        .iter()
        .fold(request, |request, (name, value)| request.header(*name, *value))
}

async fn status(world: &World, path: &str, headers: &[(&str, &str)]) -> u16 {
    ask(world, path, headers).send().await.unwrap().status().as_u16()
}

async fn connect(world: &World, path: &str, revision: &'static str, key: &str) -> TestClient {
    TestClient::connect_with(world, path, revision, &[("x-api-key", key)]).await
}

/// The same client with another key.
fn stolen(client: &TestClient, key: &str) -> TestClient {
    TestClient {
        http: client.http.clone(),
        url: client.url.clone(),
        revision: client.revision,
        session: client.session.clone(),
        headers: vec![("x-api-key".to_owned(), key.to_owned())],
        initialized: Value::Null,
        next: 100.into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_opens_every_door_in_either_header_and_goes_no_further() {
    let fake = FakeServer::start(&["2025-06-18"]).await;
    let world = world(&fake).await;
    for path in PATHS {
        let bearer = format!("Bearer {ANN}");
        assert_eq!(status(&world, path, &[("x-api-key", ANN)]).await, 200, "{path}");
        assert_eq!(
            status(&world, path, &[("authorization", &bearer)]).await,
            200,
            "{path}"
        );
        let both = [("x-api-key", ANN), ("authorization", &*bearer)];
        assert_eq!(status(&world, path, &both).await, 200, "{path}");
    }
    let client = connect(&world, "/tools/one", "2025-06-18", ANN).await;
    client.call("echo", json!({ "text": "hi" })).await;
    for seen in fake.knobs.seen.lock().iter() {
        assert!(!seen.headers.contains_key("x-api-key"), "{}", seen.method);
        assert!(!seen.headers.contains_key("authorization"), "{}", seen.method);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_brings_no_known_key_is_refused_with_401_before_anything_is_told() {
    let fake = FakeServer::start(&["2025-06-18"]).await;
    let world = world(&fake).await;
    let wrong: [&[(&str, &str)]; 8] = [
        &[],
        &[("x-api-key", "wrong")],
        &[("x-api-key", "")],
        &[("x-api-key", OPS)],
        &[("authorization", "Bearer wrong")],
        &[("authorization", "Basic YW5uOmFubg==")],
        &[("x-api-key", ANN), ("authorization", "Bearer bob-key-000000")],
        &[("x-api-key", ANN), ("x-api-key", BOB)],
    ];
    for headers in wrong {
        for path in PATHS.into_iter().chain(["/mcp/nothing", "/relay/nothing"]) {
            let answer = ask(&world, path, headers).send().await.unwrap();
            assert_eq!(answer.status(), 401, "{path} {headers:?}");
            assert_eq!(answer.headers()["www-authenticate"], "Bearer");
            let body = world::json(answer).await;
            assert_eq!(body["error"]["code"], 401, "{body}");
            assert!(!body.to_string().contains("key-0000"), "{body}");
        }
    }
    for verb in [reqwest::Method::GET, reqwest::Method::DELETE] {
        let answer = world
            .http
            .request(verb, format!("{}/mcp", world.base))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 401);
    }
    let get = |path: &str| world.http.get(format!("{}{path}", world.base)).send();
    assert_eq!(get("/health").await.unwrap().status(), 200);
    assert_eq!(get("/nothing").await.unwrap().status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_ours_reads_the_refusal_and_asks_beforehand_without_a_key() {
    let fake = FakeServer::start(&["2025-06-18"]).await;
    let world = world(&fake).await;
    let origin = world.base.clone();
    let refused = ask(&world, "/mcp", &[("origin", &origin)]).send().await.unwrap();
    assert_eq!(refused.status(), 401);
    assert_eq!(refused.headers()["access-control-allow-origin"], *origin);
    let exposed = refused.headers()["access-control-expose-headers"]
        .to_str()
        .unwrap();
    assert!(exposed.contains("WWW-Authenticate"), "{exposed}");
    let preflight = world
        .http
        .request(reqwest::Method::OPTIONS, format!("{}/mcp", world.base))
        .header("origin", &origin)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization")
        .send()
        .await
        .unwrap();
    assert_eq!(preflight.status(), 204);
    let foreign = [("origin", "http://evil.example"), ("x-api-key", ANN)];
    assert_eq!(status(&world, "/mcp", &foreign).await, 403);
}

/// The key of the local caller, as the data folder has it.
fn local_key(world: &World) -> std::path::PathBuf {
    world.folder.path().join("data/pleiades/local.key")
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_keys_a_local_caller_brings_the_one_of_the_data_folder_where_it_is_written_out() {
    use std::os::unix::fs::PermissionsExt;
    let fake = FakeServer::start(&["2025-06-18"]).await;
    let settings = format!("{KEYS}  local: {{ tenant: acme, user: me }}\n");
    let world = World::builder()
        .provider("one", &fake)
        .settings(&settings)
        .start()
        .await;
    let file = local_key(&world);
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let own = std::fs::read_to_string(file).unwrap();
    for path in PATHS {
        assert_eq!(status(&world, path, &[]).await, 401, "{path}");
        assert_eq!(
            status(&world, path, &[("x-api-key", own.trim())]).await,
            200,
            "{path}"
        );
        assert_eq!(status(&world, path, &[("x-api-key", BOB)]).await, 200, "{path}");
        assert_eq!(
            status(&world, path, &[("x-api-key", "wrong")]).await,
            401,
            "{path}"
        );
    }
    let listed = |key: String| {
        let asked = world.http.get(format!("{}/v1/accounts", world.base));
        asked.header("x-api-key", key).send()
    };
    assert_eq!(listed(own.trim().to_owned()).await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_has_a_local_key_where_no_local_caller_is_written_out_or_nobody_else_is_named() {
    let fake = FakeServer::start(&["2025-06-18"]).await;
    for settings in [KEYS, "access: { local: { tenant: acme, user: me } }\n", ""] {
        let world = World::builder()
            .provider("one", &fake)
            .settings(settings)
            .start()
            .await;
        assert!(!local_key(&world).exists(), "{settings}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_access_what_a_proxy_passes_on_is_refused_with_403_and_open_paths_are_not() {
    let fake = FakeServer::start(&["2025-06-18"]).await;
    let world = World::builder().provider("one", &fake).start().await;
    assert_eq!(status(&world, "/mcp", &[]).await, 200);
    let proxies = [
        "x-forwarded-for",
        "forwarded",
        "via",
        "x-forwarded-host",
        "cf-ray",
        "tailscale-user-login",
    ];
    for name in proxies {
        for path in PATHS {
            assert_eq!(status(&world, path, &[(name, "x")]).await, 403, "{path} {name}");
            let brought = [(name, "x"), ("authorization", "Bearer whatever")];
            assert_eq!(status(&world, path, &brought).await, 403, "{path} {name}");
        }
        for path in ["/v1/accounts", "/v1/connections/x"] {
            let asked = world.http.get(format!("{}{path}", world.base));
            assert_eq!(
                asked.header(name, "x").send().await.unwrap().status(),
                403,
                "{path} {name}"
            );
        }
        let asked = world.http.get(format!("{}/health", world.base));
        assert_eq!(asked.header(name, "x").send().await.unwrap().status(), 200);
        let callback = world.http.get(format!("{}/oauth/callback?state=x", world.base));
        let callback = callback.header(name, "x").send().await.unwrap();
        assert!(
            callback.headers()["content-type"]
                .to_str()
                .unwrap()
                .contains("text/html")
        );
        let operator = world.http.get(format!("{}/providers", world.admin));
        assert_eq!(operator.header(name, "x").send().await.unwrap().status(), 403);
    }
    // A sidecar delivers from another address of this machine.
    let other = reqwest::Client::builder()
        .local_address(Some("127.0.0.6".parse().unwrap()))
        .no_proxy()
        .build()
        .unwrap();
    let asked = other
        .get(format!("{}/v1/accounts", world.base))
        .send()
        .await
        .unwrap();
    assert_eq!(asked.status(), 403);
    let asked = other
        .get(format!("{}/providers", world.admin))
        .send()
        .await
        .unwrap();
    assert_eq!(asked.status(), 403);
}

#[test]
fn where_others_call_and_nobody_is_named_the_process_refuses_to_start_and_says_why() {
    let somebody = "access: { api_keys: [{ name: a, tenant: t, user: u, sha256: \
                    a43e0ad598a444b1933e3535025c95ba2340322d8adb1bf40e03824376e4b7d2 }] }";
    let operators = "access: { local: { user: me }, admin_keys: [{ name: ops, sha256: \
                     cb85242b9180efcc711d457c83aa77639a56891ac72cf7179c208da97efe7374 }] }";
    for field in [
        "public_url: https://mcp.example.com",
        "public_url: http://192.168.1.5:8787",
        "public_url: https://127.0.0.1.example.com",
        "hosts: [localhost, mcp.example.com]",
        "listen: 0.0.0.0:8787",
    ] {
        for access in ["", operators, "access: { api_keys: [] }"] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir(folder.path().join("providers.d")).unwrap();
            let text = format!("{field}\n{access}\n");
            std::fs::write(folder.path().join("pleiades.yaml"), text).unwrap();
            for command in ["serve", "check"] {
                let output = pleiades(folder.path(), &[command]);
                let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
                let code = if command == "serve" { 78 } else { 64 };
                assert_eq!(output.status.code(), Some(code), "{field} {access}: {printed}");
                assert!(
                    printed.contains("`access` names nobody who may call"),
                    "{printed}"
                );
                assert!(printed.contains(field.split_once(':').unwrap().0), "{printed}");
            }
            std::fs::write(
                folder.path().join("pleiades.yaml"),
                format!("{field}\n{somebody}\n"),
            )
            .unwrap();
            let output = pleiades(folder.path(), &["check"]);
            assert_eq!(output.status.code(), Some(0), "{field}: {output:?}");
        }
    }
    for field in [
        "public_url: http://localhost:8787",
        "hosts: [localhost, a.localhost]",
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("providers.d")).unwrap();
        std::fs::write(folder.path().join("pleiades.yaml"), format!("{field}\n")).unwrap();
        let output = pleiades(folder.path(), &["check"]);
        assert_eq!(output.status.code(), Some(0), "{field}: {output:?}");
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(
            printed.contains("note: callers are not authenticated"),
            "{printed}"
        );
        // Several people share nothing where everybody on the machine is one of them.
        let output = pleiades(folder.path(), &["check", "--strict"]);
        assert_eq!(output.status.code(), Some(64), "{field}: {output:?}");
    }
}

fn pleiades(folder: &std::path::Path, arguments: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_pleiades"))
        .current_dir(folder)
        .env("XDG_DATA_HOME", folder.join("data"))
        .env("XDG_CONFIG_HOME", folder.join("config"))
        .args(arguments)
        .output()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_for_their_user_alone_whichever_key_it_brings() {
    let fake = FakeServer::start(&["2025-06-18", "2025-11-25"]).await;
    let world = world(&fake).await;
    for path in PATHS {
        let mut own = connect(&world, path, "2025-11-25", ANN).await;
        for key in [BOB, EVE] {
            let thief = stolen(&own, key);
            assert_eq!(
                thief.send("tools/list", json!({})).await.status(),
                404,
                "{path} {key}"
            );
            assert_eq!(thief.stream().await.status(), 404, "{path} {key}");
            assert_eq!(thief.delete().await.status(), 404, "{path} {key}");
        }
        own.headers = vec![("authorization".to_owned(), format!("Bearer {TWIN}"))];
        let listed = own.result("tools/list", json!({})).await;
        assert!(!listed["tools"].as_array().unwrap().is_empty(), "{path}");
        assert!(own.delete().await.status().is_success(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn users_have_upstream_sessions_and_limits_of_their_own() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let limits = "auth: { none: {} }\nlimits: { rate: [{ per: caller, requests: 1, every: 1h }] }\n";
    let world = World::builder()
        .provider_with("one", &fake, limits)
        .settings(KEYS)
        .start()
        .await;
    for key in [ANN, BOB, EVE] {
        let client = connect(&world, "/tools/one", "2025-11-25", key).await;
        client.call("echo", json!({ "text": key })).await;
    }
    let twin = connect(&world, "/tools/one", "2025-11-25", TWIN).await;
    let limited = twin.call("echo", json!({ "text": "again" })).await;
    assert_eq!(limited["isError"], true, "{limited}");
    let seen = fake.seen("tools/call");
    let mut sessions: Vec<&str> = seen
        .iter()
        .map(|seen| seen.headers["mcp-session-id"].to_str().unwrap())
        .collect();
    sessions.sort_unstable();
    sessions.dedup();
    assert_eq!((seen.len(), sessions.len()), (3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_guesses_keys_is_told_to_wait_and_who_has_one_goes_on() {
    let fake = FakeServer::start(&["2025-06-18"]).await;
    let world = world(&fake).await;
    assert_eq!(status(&world, "/mcp", &[("x-api-key", ANN)]).await, 200);
    let mut refused = None;
    for number in 0..1000 {
        let answer = ask(&world, "/mcp", &[("x-api-key", &*format!("guess-{number}"))]);
        let answer = answer.send().await.unwrap();
        if answer.status() == 429 {
            refused = Some(answer);
            break;
        }
        assert_eq!(answer.status(), 401);
    }
    let refused = refused.unwrap();
    assert!(refused.headers().contains_key("retry-after"));
    // Those of people who have not been here, too.
    for key in [ANN, TWIN, BOB, EVE] {
        assert_eq!(status(&world, "/mcp", &[("x-api-key", key)]).await, 200);
    }
    let operator = world.http.get(format!("{}/providers", world.admin));
    let wrong = operator.bearer_auth("guess").send().await.unwrap();
    assert_eq!(wrong.status(), 401, "guesses at one listener count at no other");
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_have_keys_of_their_own() {
    let fake = FakeServer::start(&["2025-06-18"]).await;
    let world = world(&fake).await;
    let get = |path: &str, key: Option<&str>| {
        let request = world.http.get(format!("{}{path}", world.admin));
        key.into_iter()
            .fold(request, |request, key| request.bearer_auth(key))
            .send()
    };
    for path in ["/health", "/ready", "/metrics"] {
        assert_eq!(get(path, None).await.unwrap().status(), 200, "{path}");
    }
    assert_eq!(get("/providers", Some(OPS)).await.unwrap().status(), 200);
    for key in [None, Some("wrong"), Some(ANN)] {
        let answer = get("/providers", key).await.unwrap();
        assert_eq!(answer.status(), 401);
        assert_eq!(answer.headers()["www-authenticate"], "Bearer");
    }
}

#[test]
fn commands_act_as_whom_they_are_told_and_the_server_does_not() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("providers.d")).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pleiades"));
        let data = folder.path().join("data");
        command
            .current_dir(folder.path())
            .env("XDG_DATA_HOME", data)
            .args(arguments);
        command.output().unwrap().status.code()
    };
    let who = ["--tenant", "acme", "--user", "ann"];
    assert_eq!(run(&[&who[..], &["serve"]].concat()), Some(64));
    assert_eq!(run(&["check", "--tenant", "acme"]), Some(0));
    assert_eq!(run(&["check", "--user", ""]), Some(64));
}
