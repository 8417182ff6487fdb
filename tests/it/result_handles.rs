//! Results that were cut are read on under a handle: by whoever got it, while it is kept.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::world::authorization::Authority;
use super::world::browser::Browser;
use super::world::client::GENERATIONS;
use super::world::provider::tool;
use super::world::{FakeServer, TestClient, World};

/// Keys of two users of one tenant, and of one of another tenant.
const KEYS: &str = "access:
  api_keys:
    - { name: ann, tenant: acme, user: ann, sha256: \"a43e0ad598a444b1933e3535025c95ba2340322d8adb1bf40e03824376e4b7d2\" }
    - { name: bob, tenant: acme, user: bob, sha256: \"08781b8f42b3d48a3db9e503494ab9f634534849e83ef9f845b3faf398fd9952\" }
    - { name: eve, tenant: evil, user: ann, sha256: \"8681a2d1ebd97342390fe9d48e0da71a71d80bcd0e444e00c842e9bf5e3f8a4d\" }
";
const ANN: &str = "ann-key-000000";
const BOB: &str = "bob-key-000000";
const EVE: &str = "eve-key-000000";
const MADE_UP: &str = "r_AAAAAAAAAAAAAAAAAAAAAA";
const LINES: usize = 3_000;

fn line(at: usize) -> String {
    format!("line number {at} of a long text")
}

/// A tool whose result is a long text.
pub fn long(name: &str) -> Value {
    let text: Vec<String> = (0..LINES).map(line).collect();
    let mut tool = tool(name);
    tool["annotations"] = json!({ "readOnlyHint": true });
    tool["x-raw"] = json!({ "content": [{ "type": "text", "text": text.join("\n") }] })
        .to_string()
        .into();
    tool
}

async fn fake() -> FakeServer {
    FakeServer::start_paged(&GENERATIONS, 1_000, vec![long("list"), tool("echo")]).await
}

async fn call(client: &TestClient, name: &str, arguments: Value) -> Value {
    client.call(name, arguments).await["structuredContent"].clone()
}

/// A cut answer.
async fn cut(client: &TestClient) -> Value {
    let answer = call(client, "use_one", json!({ "tool": "list", "arguments": {} })).await;
    assert_eq!(answer["status"], "ok", "{answer}");
    assert!(answer["resultId"].as_str().unwrap().len() == 24, "{answer}");
    answer
}

/// The answer to reading a handle, but for the id of its request.
async fn read(client: &TestClient, name: &str, handle: &Value) -> Value {
    let mut answer = call(client, name, json!({ "options": { "result": handle } })).await;
    answer.as_object_mut().unwrap().remove("telemetryId");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn following_next_reads_all_of_a_result_and_calls_nobody() {
    for revision in GENERATIONS {
        let fake = fake().await;
        let world = World::builder().provider("one", &fake).start().await;
        let client = TestClient::connect(&world, "/mcp", revision).await;
        let mut answer = cut(&client).await;
        let (total, mut shown, mut lines) = (answer["page"]["total"].clone(), 0, BTreeSet::new());
        loop {
            shown += answer["page"]["shown"].as_u64().unwrap();
            assert_eq!(answer["page"]["total"], total);
            lines.extend(answer["text"].as_str().unwrap().lines().map(str::to_owned));
            let Some(next) = answer.get("next").cloned() else {
                break;
            };
            assert_eq!(answer["page"]["next"], next["options"]["page"]);
            answer = call(&client, "use_one", next).await;
            assert_eq!(answer["status"], "ok", "{answer}");
        }
        assert_eq!(json!(shown), total);
        assert!((0..LINES).all(|at| lines.contains(&line(at))));
        assert_eq!(fake.seen("tools/call").len(), 1);
        assert!(world.metrics().await.contains("pleiades_result_handles 1"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_tool_names_the_provider_of_the_next_page() {
    let fake = fake().await;
    let world = World::builder()
        .provider("one", &fake)
        .settings("facade: { single: true }\n");
    let world = world.start().await;
    let client = TestClient::connect(&world, "/mcp", "2026-07-28").await;
    let arguments = json!({ "provider": "one", "tool": "list", "arguments": {} });
    let answer = call(&client, "use_pleiades", arguments).await;
    let written = answer["next"].to_string();
    assert!(
        answer["text"].as_str().unwrap().contains(&written),
        "the text says the same call"
    );
    let next = call(&client, "use_pleiades", answer["next"].clone()).await;
    assert_eq!(
        (&next["status"], &next["resultId"]),
        (&json!("ok"), &answer["resultId"]),
        "{next}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn full_lifts_the_cut_and_a_page_that_is_not_there_is_named() {
    let fake = fake().await;
    let world = World::builder().provider("one", &fake).start().await;
    let client = TestClient::connect(&world, "/mcp", "2026-07-28").await;
    let arguments = json!({ "tool": "list", "arguments": {}, "options": { "full": true } });
    let whole = call(&client, "use_one", arguments).await;
    assert_eq!(whole["text"].as_str().unwrap().lines().count(), LINES);
    assert!(whole.get("resultId").is_none() && whole.get("page").is_none());
    let handle = cut(&client).await["resultId"].clone();
    let read = json!({ "options": { "result": handle, "full": true } });
    assert_eq!(call(&client, "use_one", read).await["text"], whole["text"]);
    for options in [
        json!({ "result": handle, "page": 4_000 }),
        json!({ "result": handle, "select": "/x" }),
    ] {
        let answer = call(&client, "use_one", json!({ "options": options })).await;
        assert_eq!(answer["status"], "invalid_arguments", "{answer}");
    }
    assert_eq!(fake.seen("tools/call").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handle_of_somebody_else_is_answered_as_one_that_never_was() {
    let fake = fake().await;
    let builder = World::builder().provider("one", &fake).provider("two", &fake);
    let world = builder.settings(KEYS).start().await;
    let as_key =
        async |key: &str| TestClient::connect_with(&world, "/mcp", "2026-07-28", &[("x-api-key", key)]).await;
    let ann = as_key(ANN).await;
    let handle = cut(&ann).await["resultId"].clone();
    let made_up = read(&ann, "use_one", &json!(MADE_UP)).await;
    assert_eq!(made_up["status"], "invalid_arguments");
    for key in [BOB, EVE] {
        assert_eq!(read(&as_key(key).await, "use_one", &handle).await, made_up);
    }
    assert_eq!(read(&ann, "use_two", &handle).await, made_up, "another provider");
    for other in [
        "r_",
        "r_short",
        "r_AAAAAAAAAAAAAAAAAAAAAA.",
        "r_AAAAAAAAAAAAAAAAAAAAAAAA",
    ] {
        assert_eq!(read(&ann, "use_one", &json!(other)).await, made_up, "{other}");
    }
    assert_eq!(read(&ann, "use_one", &handle).await["status"], "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_of_a_tool_that_rules_hide_now_is_hidden_too() {
    let fake = fake().await;
    let world = World::builder().provider("one", &fake).start().await;
    let client = TestClient::connect(&world, "/mcp", "2026-07-28").await;
    let handle = cut(&client).await["resultId"].clone();
    let file = world.providers().join("one.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}tools: {{ deny: [list] }}\n")).unwrap();
    world
        .until("the rule", || async {
            read(&client, "use_one", &handle).await["status"] == "invalid_arguments"
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_kept_ends_with_its_account_and_is_found_by_calls_that_name_none() {
    let authority = Authority::start(&GENERATIONS).await;
    authority.open.knobs.tools.lock().push(long("list"));
    let body = format!(
        "upstream: {{ url: \"{}\" }}\nauth: {{ oauth: {{}} }}\n",
        authority.resource
    );
    let world = World::builder().descriptor("one", &body).start().await;
    let client = TestClient::connect(&world, "/mcp/one", "2026-07-28").await;
    for (subject, account) in [("u-ada", "ada"), ("u-bob", "bob")] {
        authority.sign_in(subject, account, &format!("{account}@example.com"));
        connect(&client, account).await;
    }
    let by_bob = json!({ "tool": "list", "arguments": {}, "accountId": "bob" });
    let answer = call(&client, "use_one", by_bob).await;
    let handle = answer["resultId"].clone();
    let own = read(&client, "use_one", &handle).await;
    assert_eq!(
        (&own["status"], &own["accountId"]),
        (&json!("ok"), &json!("bob")),
        "{own}"
    );
    let by_ada = json!({ "options": { "result": handle }, "accountId": "ada" });
    assert_eq!(
        call(&client, "use_one", by_ada).await["status"],
        "invalid_arguments"
    );
    let url = format!("{}/v1/accounts/one/bob", world.base);
    assert_eq!(world.http.delete(url).send().await.unwrap().status(), 204);
    assert_eq!(
        read(&client, "use_one", &handle).await["status"],
        "invalid_arguments"
    );
    authority.sign_in("u-bob", "bob", "bob@example.com");
    connect(&client, "bob").await;
    let again = read(&client, "use_one", &handle).await;
    assert_eq!(
        again["status"], "invalid_arguments",
        "another grant is another account: {again}"
    );
}

async fn connect(client: &TestClient, account: &str) {
    let arguments = json!({ "tool": "echo", "arguments": { "text": "a" }, "accountId": account });
    let asked = call(client, "use_one", arguments).await;
    let url = asked["data"]["connect_url"]
        .as_str()
        .unwrap_or_else(|| panic!("{asked}"));
    assert_eq!(Browser::default().connect(url, &[]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_on_disk_and_a_restart_forgets_every_handle() {
    let fake = fake().await;
    let mut world = World::builder().provider("one", &fake).logged().start().await;
    let client = TestClient::connect(&world, "/mcp", "2026-07-28").await;
    let handle = cut(&client).await["resultId"].clone();
    for file in files(world.folder.path()) {
        let bytes = std::fs::read(&file).unwrap_or_default();
        let has = |needle: &str| bytes.windows(needle.len()).any(|it| it == needle.as_bytes());
        assert!(
            !has("of a long text") && !has(handle.as_str().unwrap()),
            "{}",
            file.display()
        );
    }
    super::cures::restart(&mut world, &[]).await;
    let answer = read(&client, "use_one", &handle).await;
    assert_eq!(answer, read(&client, "use_one", &json!(MADE_UP)).await);
}

fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_after_a_part_of_a_plan_go_on_where_it_ends() {
    let fake = fake().await;
    let world = World::builder().provider("one", &fake).start().await;
    let client = TestClient::connect(&world, "/mcp", "2026-07-28").await;
    let one = |id: &str| json!({ "id": id, "tool": "list", "arguments": {} });
    let plan = json!({ "options": { "calls": [one("a"), one("b"), one("c")] } });
    let answer = call(&client, "use_one", plan).await;
    for id in ["a", "b", "c"] {
        let part = &answer["data"][id];
        let handle = &part["resultId"];
        let mut lines: BTreeSet<String> = part["text"]
            .as_str()
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect();
        let mut next = json!(2);
        while next.is_number() {
            let arguments = json!({ "options": { "result": handle, "page": next } });
            let page = call(&client, "use_one", arguments).await;
            assert_eq!(page["status"], "ok", "{page}");
            lines.extend(page["text"].as_str().unwrap().lines().map(str::to_owned));
            next = page["page"]["next"].clone();
        }
        assert!((0..LINES).all(|at| lines.contains(&line(at))), "{id}");
    }
}
