//! The folder of descriptors changes while clients are connected: what is changed is served, and
//! nobody else is disturbed.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::world::client::{GENERATIONS, until_method};
use super::world::{FakeServer, TestClient, World};

const CHANGED: &str = "notifications/tools/list_changed";

/// A descriptor of a fake, whole.
fn text(id: &str, fake: &FakeServer, rest: &str) -> String {
    format!(
        "id: {id}\nupstream: {{ url: \"{}\" }}\nauth: {{ none: {{}} }}\n{rest}",
        fake.url
    )
}

fn write(world: &World, id: &str, text: &str) {
    fs::write(world.providers().join(format!("{id}.yaml")), text).unwrap();
}

async fn until_title(world: &World, id: &str, title: &str) {
    world
        .until(&format!("{id} to be {title}"), || async {
            world.status(id).await["title"] == title
        })
        .await;
}

async fn until_refused(world: &World, refused: bool) {
    let ask = || async {
        let report = world
            .http
            .get(format!("{}/providers", world.admin))
            .send()
            .await
            .unwrap();
        report.text().await.unwrap().contains("\"refused\"") == refused
    };
    world.until("the folder to be refused, or not", ask).await;
}

async fn echo(client: &TestClient) -> bool {
    let answer = client
        .request(
            "tools/call",
            json!({ "name": "echo", "arguments": { "text": "hi" } }),
        )
        .await;
    answer["result"]["content"][0]["text"] == "echo: hi"
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_of_another_provider_fails_whatever_happens_to_the_folder() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder()
        .provider("calm", &fake)
        .provider("other", &fake)
        .start()
        .await;
    world.until_state("calm", "ready").await;
    let clients = [
        TestClient::connect(&world, "/tools/calm", "2025-11-25").await,
        TestClient::connect(&world, "/tools/calm", "2026-07-28").await,
    ];
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let calls = tokio::spawn(async move {
        let (mut good, mut bad) = (0, 0);
        while !stopped.load(Ordering::Relaxed) {
            for client in &clients {
                if echo(client).await { good += 1 } else { bad += 1 }
            }
        }
        (good, bad)
    });
    let good = text("other", &fake, "");
    write(&world, "other", "id: [");
    world.until_state("other", "stale").await;
    write(&world, "other", &good);
    world.until_state("other", "ready").await;
    fs::remove_file(world.providers().join("other.yaml")).unwrap();
    world
        .until("other to go", || async { world.status("other").await.is_null() })
        .await;
    let (here, elsewhere) = (world.providers(), world.folder.path().join("aside"));
    fs::rename(&here, &elsewhere).unwrap();
    until_refused(&world, true).await;
    fs::create_dir(&here).unwrap();
    fs::write(here.join("calm.yaml"), text("calm", &fake, "title: anew\n")).unwrap();
    until_refused(&world, false).await;
    until_title(&world, "calm", "anew").await;
    stop.store(true, Ordering::Relaxed);
    let (good, bad) = calls.await.unwrap();
    assert!(good > 0 && bad == 0, "{good} good, {bad} bad");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_folder_is_refused_and_said_and_everything_keeps_serving() {
    let fake = FakeServer::start(&["2026-07-28"]).await;
    let world = World::builder().provider("one", &fake).start().await;
    world.until_state("one", "ready").await;
    let file = world.providers().join("one.yaml");
    let elsewhere = world.folder.path().join("one.yaml");
    fs::rename(&file, &elsewhere).unwrap();
    until_refused(&world, true).await;
    assert_eq!(world.status("one").await["state"], "ready");
    assert!(echo(&TestClient::connect(&world, "/tools/one", "2025-06-18").await).await);
    assert!(
        !world
            .metrics()
            .await
            .contains("pleiades_reload_total{outcome=\"refused\"} 0\n")
    );
    fs::rename(&elsewhere, &file).unwrap();
    until_refused(&world, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_leaves_its_last_good_version_and_says_so_until_it_is_mended() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder().provider("one", &fake).start().await;
    world.until_state("one", "ready").await;
    write(&world, "one", &text("one", &fake, "bogus: 1\n"));
    world.until_state("one", "stale").await;
    let status = world.status("one").await;
    assert!(
        status["faults"][0].as_str().unwrap().contains("bogus") && status["since"].is_string(),
        "{status}"
    );
    assert!(
        world
            .metrics()
            .await
            .contains("pleiades_providers{state=\"stale\"} 1")
    );
    assert!(echo(&TestClient::connect(&world, "/tools/one", "2026-07-28").await).await);
    write(&world, "one", &text("one", &fake, ""));
    world.until_state("one", "ready").await;
    assert_eq!(world.status("one").await["faults"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_under_way_outlives_the_removal_of_its_provider_which_is_404_at_once() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder()
        .provider("one", &fake)
        .provider("two", &fake)
        .start()
        .await;
    world.until_state("one", "ready").await;
    let client = Arc::new(TestClient::connect(&world, "/tools/one", "2025-11-25").await);
    let caller = Arc::clone(&client);
    let running = tokio::spawn(async move { caller.call("wait", json!({})).await });
    world
        .until("the call to wait", || async {
            fake.knobs.waiting.load(Ordering::SeqCst) == 1
        })
        .await;
    world.until_state("two", "ready").await;
    let sessions = fake.knobs.sessions.lock().len();
    fs::remove_file(world.providers().join("one.yaml")).unwrap();
    world
        .until("one to go", || async { world.status("one").await.is_null() })
        .await;
    assert_eq!(client.send("tools/list", json!({})).await.status(), 404);
    fake.knobs.release.notify_waiters();
    assert_eq!(running.await.unwrap()["content"][0]["text"], "wait: ");
    world
        .until("its sessions to be closed", || async {
            fake.knobs.sessions.lock().len() * 2 <= sessions
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_goes_when_it_is_disabled_and_comes_back() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder()
        .provider("one", &fake)
        .provider("two", &fake)
        .start()
        .await;
    world.until_state("one", "ready").await;
    let client = TestClient::connect(&world, "/tools", "2026-07-28").await;
    let lists_one = || async { client.tools().await.iter().any(|name| name == "one__echo") };
    assert!(lists_one().await);
    write(&world, "one", &text("one", &fake, "enabled: false\n"));
    world.until_state("one", "disabled").await;
    assert!(!lists_one().await);
    assert_eq!(
        world
            .http
            .get(format!("{}/tools/one", world.base))
            .send()
            .await
            .unwrap()
            .status(),
        404
    );
    write(&world, "one", &text("one", &fake, ""));
    world.until_state("one", "ready").await;
    assert!(lists_one().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_the_title_keeps_session_lists_and_buckets() {
    const RATE: &str = "limits: { rate: [{ per: provider, requests: 1, every: 1h }] }\n";
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder()
        .provider_with("one", &fake, &format!("auth: {{ none: {{}} }}\n{RATE}"))
        .start()
        .await;
    world.until_state("one", "ready").await;
    let client = TestClient::connect(&world, "/tools/one", "2025-11-25").await;
    assert!(echo(&client).await && !echo(&client).await, "one call an hour");
    let asked = |method| fake.seen(method).len();
    let before = [asked("initialize"), asked("tools/list")];
    write(
        &world,
        "one",
        &text("one", &fake, &format!("title: Another\n{RATE}")),
    );
    until_title(&world, "one", "Another").await;
    assert!(!echo(&client).await, "the bucket was not refilled");
    assert_eq!([asked("initialize"), asked("tools/list")], before);
    write(&world, "one", &text("one", &fake, "title: Third\n"));
    until_title(&world, "one", "Third").await;
    assert!(echo(&client).await, "other limits hold at once");
    assert_eq!([asked("initialize"), asked("tools/list")], before);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_endpoint_is_served_and_the_sessions_of_the_old_one_are_closed() {
    let (old, new) = (
        FakeServer::start(&["2025-11-25"]).await,
        FakeServer::start_paged(&["2026-07-28"], 10, vec![super::world::provider::tool("fresh")]).await,
    );
    let world = World::builder().provider("one", &old).start().await;
    world.until_state("one", "ready").await;
    let client = TestClient::connect(&world, "/tools/one", "2025-06-18").await;
    assert!(echo(&client).await);
    write(&world, "one", &text("one", &new, "title: moved\n"));
    until_title(&world, "one", "moved").await;
    assert_eq!(client.tools().await, ["fresh"]);
    world
        .until("the old session to be closed", || async {
            old.knobs.sessions.lock().is_empty()
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_secret_is_sent_upstream_after_the_next_reading() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let secrets = tempfile::tempdir().unwrap();
    let secret = secrets.path().canonicalize().unwrap().join("key");
    fs::write(&secret, "first").unwrap();
    let auth = format!(
        "auth: {{ api_key: {{ header: x-key, value: \"${{file:{}}}\" }} }}\n",
        secret.display()
    );
    let references = format!(
        "references: {{ files: [\"{}/*\"] }}\n",
        secrets.path().canonicalize().unwrap().display()
    );
    let world = World::builder()
        .settings(&references)
        .provider_with("one", &fake, &auth)
        .start()
        .await;
    world.until_state("one", "ready").await;
    let client = TestClient::connect(&world, "/tools/one", "2025-11-25").await;
    let last = || {
        fake.seen("tools/call")
            .last()
            .map(|seen| seen.headers["x-key"].to_str().unwrap().to_owned())
    };
    assert!(echo(&client).await);
    assert_eq!(last().as_deref(), Some("first"));
    fs::write(&secret, "second").unwrap();
    // A reading is due every half minute; any change of the folder brings it about now.
    write(&world, "two", &text("two", &fake, ""));
    world.until_state("two", "ready").await;
    assert!(echo(&client).await);
    assert_eq!(last().as_deref(), Some("second"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_listening_client_hears_of_providers_that_come_and_of_lists_that_change() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder().provider("one", &fake).start().await;
    world.until_state("one", "ready").await;
    world
        .until("the gateway to listen", || async { !fake.seen("GET").is_empty() })
        .await;
    let mut streams = Vec::new();
    for path in ["/mcp", "/tools", "/tools/one", "/mcp/one"] {
        for revision in GENERATIONS {
            let client = TestClient::connect(&world, path, revision).await;
            let wanted = json!({ "notifications": { "toolsListChanged": true } });
            let stream = match client.is_modern() {
                true => client.send("subscriptions/listen", wanted).await,
                false => client.stream().await,
            };
            assert_eq!(stream.status(), 200);
            streams.push((path, stream));
        }
    }
    fake.grow("more");
    for (_, stream) in &mut streams {
        until_method(stream, CHANGED).await;
    }
    write(&world, "two", &text("two", &fake, ""));
    for (_, stream) in streams.iter_mut().filter(|(path, _)| !path.ends_with("/one")) {
        until_method(stream, CHANGED).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_file_is_the_same_provider_and_a_second_claim_is_named_in_both_files() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder().provider("one", &fake).logged().start().await;
    world.until_state("one", "ready").await;
    let lists = fake.seen("tools/list").len();
    let (old, new) = (
        world.providers().join("one.yaml"),
        world.providers().join("renamed.yml"),
    );
    fs::rename(&old, &new).unwrap();
    let file = || async {
        world.status("one").await["file"]
            .as_str()
            .is_some_and(|file| file.ends_with("renamed.yml"))
    };
    world.until("the new name", file).await;
    assert_eq!(fake.seen("tools/list").len(), lists);
    fs::write(&old, text("one", &fake, "title: Intruder\n")).unwrap();
    let both = || async {
        let report: String = world
            .http
            .get(format!("{}/providers", world.admin))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        report.contains("renamed.yml:1:") && report.contains("one.yaml:1:")
    };
    world.until("both files to be named", both).await;
    assert_eq!(world.status("one").await["title"], "one");
    assert!(echo(&TestClient::connect(&world, "/tools/one", "2025-11-25").await).await);
    let lines = world.log();
    let logged: Vec<_> = lines
        .iter()
        .filter(|line| line["provider.name"] == "one" && line["level"] == "WARN")
        .collect();
    let [line] = &logged[..] else {
        panic!("{logged:#?}")
    };
    assert_eq!(
        line["message"],
        "a descriptor is broken: the provider does not run"
    );
    assert!(line["error"].as_str().unwrap().contains("one.yaml:1:"), "{line}");
    assert!(
        line["cure"].as_str().unwrap().contains("renamed.yml` runs"),
        "{line}"
    );
}
