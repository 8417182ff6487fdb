//! The rivals' public defects, as tests of ours.

use std::sync::atomic::Ordering;

use serde_json::json;

use super::world::client::GENERATIONS;
use super::world::{FakeServer, TestClient, World};

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_upstream_session_recovers_within_the_call() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder().provider("one", &fake).start().await;
    world.until_state("one", "ready").await;
    for revision in GENERATIONS {
        let peer = TestClient::connect(&world, "/tools/one", revision).await;
        peer.call("echo", json!({ "text": "before" })).await;
        fake.expire_sessions();
        let result = peer.call("echo", json!({ "text": "after" })).await;
        assert_eq!(result["content"][0]["text"], "echo: after", "{revision}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_own_keys_never_reach_an_upstream() {
    let fake = FakeServer::start(&["2025-11-25", "2026-07-28"]).await;
    let known = "access: { api_keys: [{ name: me, tenant: acme, user: me, sha256: \
                 ef463420edc797e78fe3cdfcaddb67f822b4482788cb1009d0467eea8694736f }] }\n";
    let world = World::builder()
        .provider("one", &fake)
        .settings(known)
        .start()
        .await;
    world.until_state("one", "ready").await;
    let secret = [
        ("authorization", "Bearer caller-secret"),
        ("x-api-key", "caller-secret"),
        ("cookie", "session=caller-secret"),
        ("x-openai-key", "caller-secret"),
        ("proxy-authorization", "caller-secret"),
        ("x-forwarded-for", "caller-secret"),
    ];
    for revision in ["2025-11-25", "2026-07-28"] {
        for path in ["/mcp/one", "/tools/one", "/relay/one"] {
            let peer = TestClient::connect_with(&world, path, revision, &secret).await;
            let name = if path.starts_with("/mcp") {
                "use_one"
            } else {
                "echo"
            };
            let arguments = if path.starts_with("/mcp") {
                json!({ "tool": "echo", "arguments": { "text": "x" } })
            } else {
                json!({ "text": "x" })
            };
            peer.call(name, arguments).await;
        }
    }
    let seen = fake.knobs.seen.lock().clone();
    assert!(seen.iter().filter(|seen| seen.method == "tools/call").count() >= 6);
    for seen in seen {
        assert!(
            !format!("{:?}", seen.headers).contains("caller-secret"),
            "{} carried it",
            seen.method
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_broken_descriptor_stops_nothing_and_is_named() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder()
        .provider("good", &fake)
        .descriptor("bad", "upstrem: {}\n")
        .start()
        .await;
    world.until_state("good", "ready").await;
    let peer = TestClient::connect(&world, "/tools", "2025-11-25").await;
    assert!(peer.tools().await.contains(&"good__echo".to_owned()));
    let status = world.status("bad").await;
    assert!(status["faults"].to_string().contains("upstrem"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_whose_new_file_is_broken_keeps_its_last_good_version() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder().provider("one", &fake).start().await;
    world.until_state("one", "ready").await;
    let file = world.providers().join("one.yaml");
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, "id: one\nupstream: [\n").unwrap();
    world.until_state("one", "stale").await;
    let peer = TestClient::connect(&world, "/tools/one", "2025-11-25").await;
    assert_eq!(
        peer.call("echo", json!({ "text": "x" })).await["content"][0]["text"],
        "echo: x"
    );
    std::fs::write(&file, good).unwrap();
    world.until_state("one", "ready").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_with_one_key_serve_one_session_in_turn() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let seal = "seal: { keys: [\"a key that both processes were given\"] }\n";
    let (one, two) = (
        World::builder()
            .provider("one", &fake)
            .settings(seal)
            .start()
            .await,
        World::builder()
            .provider("one", &fake)
            .settings(seal)
            .start()
            .await,
    );
    one.until_state("one", "ready").await;
    two.until_state("one", "ready").await;
    let mut peer = TestClient::connect(&one, "/tools/one", "2025-11-25").await;
    for world in [&one, &two, &one, &two] {
        peer.url = format!("{}/tools/one", world.base);
        assert_eq!(
            peer.call("echo", json!({ "text": "x" })).await["content"][0]["text"],
            "echo: x"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_legacy_disconnect_leaves_the_call_running_and_a_modern_one_ends_it() {
    let fake = FakeServer::start(&["2025-11-25", "2026-07-28"]).await;
    let world = World::builder().provider("one", &fake).start().await;
    world.until_state("one", "ready").await;
    let waiting = || fake.knobs.waiting.load(Ordering::SeqCst);
    for revision in ["2025-11-25", "2026-07-28"] {
        let peer = TestClient::connect(&world, "/tools/one", revision).await;
        let call = tokio::spawn(async move { peer.call("wait", json!({})).await });
        world
            .until("the call to arrive", || async { waiting() == 1 })
            .await;
        call.abort();
        if revision == "2026-07-28" {
            world.until("the call to end", || async { waiting() == 0 }).await;
        } else {
            // Something later proves that the earlier disconnect was seen and ignored.
            TestClient::connect(&world, "/tools/one", revision)
                .await
                .call("echo", json!({ "text": "x" }))
                .await;
            assert_eq!(waiting(), 1);
            fake.knobs.release.notify_waiters();
            world
                .until("the call to finish", || async { waiting() == 0 })
                .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_legacy_call_is_cancelled_upstream() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder().provider("one", &fake).start().await;
    world.until_state("one", "ready").await;
    let peer = std::sync::Arc::new(TestClient::connect(&world, "/tools/one", "2025-11-25").await);
    let caller = std::sync::Arc::clone(&peer);
    let call = tokio::spawn(async move {
        caller
            .send_as(
                json!("mine"),
                "tools/call",
                json!({ "name": "wait", "arguments": {} }),
            )
            .await
    });
    world
        .until("the call to arrive", || async {
            fake.knobs.waiting.load(Ordering::SeqCst) == 1
        })
        .await;
    peer.notify(
        "notifications/cancelled",
        json!({ "requestId": "mine", "reason": "test" }),
    )
    .await;
    call.await.unwrap();
    world
        .until("the upstream to be told", || async {
            fake.knobs.cancelled.load(Ordering::Relaxed) == 1
        })
        .await;
    fake.knobs.release.notify_waiters();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_credential_is_told_and_no_challenge_or_cookie_comes_down() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder().provider("one", &fake).start().await;
    world.until_state("one", "ready").await;
    let relay = TestClient::connect(&world, "/relay/one", "2025-11-25").await;
    let tools = TestClient::connect(&world, "/tools/one", "2025-11-25").await;
    fake.knobs.refuses.store(true, Ordering::Relaxed);
    let answer = relay.send("tools/list", json!({})).await;
    assert_eq!(answer.status(), 403);
    assert!(
        answer.headers().get("www-authenticate").is_none() && answer.headers().get("set-cookie").is_none()
    );
    let result = tools.call("echo", json!({ "text": "x" })).await;
    assert_eq!(result["isError"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_made_as_soon_as_a_known_provider_is_back() {
    let fake = FakeServer::start(&["2025-11-25"]).await;
    let world = World::builder().provider("one", &fake).start().await;
    world.until_state("one", "ready").await;
    let peer = TestClient::connect(&world, "/tools/one", "2025-11-25").await;
    fake.knobs.fails.store(true, Ordering::Relaxed);
    assert_eq!(peer.call("echo", json!({ "text": "x" })).await["isError"], true);
    world.until_state("one", "unreachable").await;
    fake.expire_sessions();
    fake.knobs.fails.store(false, Ordering::Relaxed);
    let result = peer.call("echo", json!({ "text": "back" })).await;
    assert_eq!(result["content"][0]["text"], "echo: back", "{result}");
}
