//! Definitions of meta tools stay the same bytes: hosts keep what a model has read only up to the first
//! byte that differs, and definitions stand before everything else.

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::world::client::events;
use super::world::provider::tool;
use super::world::{FakeServer, TestClient, World};

/// The oldest generation, and the one without sessions.
const REVISIONS: [&str; 2] = ["2025-06-18", "2026-07-28"];
const PATHS: [&str; 3] = ["/mcp", "/mcp/one", "/mcp/two"];
/// How often each list is asked for.
const CALLS: usize = 1_000;

/// Operations of several kinds; some only read, some names are outside ASCII.
fn tools(count: usize) -> Vec<Value> {
    let verbs = ["list", "get", "create", "delete", "search", "führe"];
    let of = |at: usize| {
        let mut tool = tool(&format!("acme_{}_thing_{at}", verbs[at % verbs.len()]));
        tool["annotations"] = json!({ "readOnlyHint": at.is_multiple_of(2) });
        tool
    };
    (0..count).map(of).collect()
}

/// A world of three providers. The first two are what is looked at.
struct Providers {
    one: FakeServer,
    two: FakeServer,
    other: FakeServer,
}

impl Providers {
    async fn start() -> Self {
        Self {
            one: FakeServer::start_paged(&["2025-06-18"], 7, tools(60)).await,
            two: FakeServer::start_paged(&["2026-07-28"], 50, tools(400)).await,
            other: FakeServer::start(&["2025-11-25"]).await,
        }
    }

    async fn world(&self) -> World {
        let split = "auth: { none: {} }\nabout: things of the second\nfacade: { split: read_write }\n";
        let world = World::builder()
            .provider("one", &self.one)
            .provider_with("two", &self.two, split)
            .provider("other", &self.other)
            .logged()
            .start()
            .await;
        self.until_ready(&world).await;
        world
    }

    async fn until_ready(&self, world: &World) {
        for id in ["one", "two", "other"] {
            world
                .until(&format!("{id} to serve"), || async {
                    ["ready", "degraded"]
                        .map(Value::from)
                        .contains(&world.status(id).await["state"])
                })
                .await;
        }
    }

    /// The providers' own order becomes another.
    fn permute(&self) {
        for fake in [&self.one, &self.two] {
            let mut tools = fake.knobs.tools.lock();
            tools.reverse();
            tools.rotate_left(11);
        }
    }
}

/// The `tools` of a list as they came, byte by byte.
async fn listed(client: &TestClient) -> String {
    let text = client.send("tools/list", json!({})).await.text().await.unwrap();
    assert!(events(&text).is_empty(), "{text}");
    let member = |text: &str, key: &str| {
        let mut object: std::collections::BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(text).unwrap();
        object.remove(key).unwrap().get().to_owned()
    };
    member(&member(&text, "result"), "tools")
}

/// Every list of the meta view, in each revision.
async fn all_listed(world: &World) -> Vec<String> {
    let mut lists = Vec::new();
    for revision in REVISIONS {
        for path in PATHS {
            lists.push(listed(&TestClient::connect(world, path, revision).await).await);
        }
    }
    lists
}

/// The entries of a list without those of another provider.
fn without_other(list: &str) -> Vec<String> {
    let entries: Vec<Box<RawValue>> = serde_json::from_str(list).unwrap();
    let entries = entries.iter().map(|entry| entry.get().to_owned());
    entries.filter(|entry| !entry.contains("use_other")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_the_same_bytes_over_a_thousand_calls() {
    let providers = Providers::start().await;
    let world = providers.world().await;
    let mut asking = Vec::new();
    for revision in REVISIONS {
        for path in ["/mcp", "/mcp/one"] {
            let client = TestClient::connect(&world, path, revision).await;
            asking.push(tokio::spawn(async move {
                let first = listed(&client).await;
                assert!(first.contains("use_one"), "{first}");
                for _ in 1..CALLS {
                    assert_eq!(listed(&client).await, first);
                }
                first
            }));
        }
    }
    let mut lists = Vec::new();
    for asked in asking {
        lists.push(asked.await.unwrap());
    }
    assert_eq!(lists[0], lists[2], "the same in each revision");
    assert_eq!(lists[1], lists[3], "the same in each revision");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_a_replica_and_another_order_upstream_change_no_byte() {
    let providers = Providers::start().await;
    let mut world = providers.world().await;
    let first = all_listed(&world).await;
    assert!(first[0].contains("use_two_write"), "{}", first[0]);
    let replica = providers.world().await;
    assert_eq!(all_listed(&replica).await, first, "a replica");
    super::cures::restart(&mut world, &[]).await;
    providers.until_ready(&world).await;
    assert_eq!(all_listed(&world).await, first, "a restart");
    let before = providers.one.seen("tools/list").len();
    providers.permute();
    providers.one.cry();
    let reread = || async { providers.one.seen("tools/list").len() > before };
    replica.until("the list to be read again", reread).await;
    assert_eq!(all_listed(&replica).await, first, "another order after a change");
    let late = providers.world().await;
    assert_eq!(all_listed(&late).await, first, "another order from the start");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_of_another_provider_changes_no_byte() {
    let providers = Providers::start().await;
    let world = providers.world().await;
    let first = all_listed(&world).await;
    let file = world.providers().join("other.yaml");
    let original = std::fs::read_to_string(&file).unwrap();
    for title in ["Alpha", "Beta", "Gamma"] {
        std::fs::write(&file, format!("{original}title: {title}\n")).unwrap();
        let is_taken = || async { world.status("other").await["title"] == title };
        world.until("the file to be taken", is_taken).await;
        for (now, before) in all_listed(&world).await.iter().zip(&first) {
            assert_eq!(without_other(now), without_other(before), "{title}");
        }
    }
    std::fs::remove_file(&file).unwrap();
    let is_gone = || async { world.status("other").await.is_null() };
    world.until("the file to be gone", is_gone).await;
    for (now, before) in all_listed(&world).await.iter().zip(&first) {
        assert_eq!(without_other(now), without_other(before), "it is gone");
    }
    std::fs::write(&file, original).unwrap();
    world.until_state("other", "ready").await;
    assert_eq!(all_listed(&world).await, first, "all as before");
}
