//! Where credentials are kept, from outside: what a gateway makes, needs, and does without.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use pleiades::credential::vault::Vault;
use pleiades::credential::vault::file::{File, Root};
use pleiades::secret::Secret;

use super::world::{Client, Fake, World, free_port, json as body};

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_keeps_nothing_makes_no_vault() {
    let fake = Fake::start(&["2025-11-25"]).await;
    let world = World::builder().provider("one", &fake).start().await;
    world.until_state("one", "ready").await;
    let data = world.folder.path().join("data/pleiades");
    assert!(data.join("vault.key").is_file() && !data.join("vault").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_cannot_be_written_harms_no_provider_without_accounts() {
    let fake = Fake::start(&["2025-11-25"]).await;
    let world = World::builder()
        .provider("one", &fake)
        // Below a file there is nothing.
        .settings("vault: { file: { path: pleiades.yaml/vault } }\n")
        .start()
        .await;
    world.until_state("one", "ready").await;
    let client = Client::connect(&world, "/tools/one", "2025-11-25").await;
    assert!(!client.tools().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_vault_what_needs_none_is_served_and_the_process_is_not_ready() {
    let fake = Fake::start(&["2025-11-25"]).await;
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
    let modern = Client::connect(&world, "/tools/one", "2026-07-28").await;
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
    let told = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code().unwrap(), told)
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
    let vault = File::new(Some(source.clone()), Root::beside(&source));
    let path = pleiades::credential::vault::Path::of(&["c", "acme", "ann", "github", "work"]);
    vault.write(&path, 0, &Secret::new("{}"), None).await.unwrap();
    let from = source.to_str().unwrap();
    let (code, told) = migrate(folder.path(), &away, &["--from", from]);
    assert_eq!((code, &told["complete"]), (75, &json!(false)), "{told}");
    assert!(vault.read(&path).await.unwrap().is_some(), "nothing is removed");
    let (code, told) = migrate(
        folder.path(),
        &away,
        &["--from", from, "--key-file", "pleiades.yaml"],
    );
    assert_eq!(
        (code, told["error"].is_string()),
        (69, true),
        "a key that is none: {told}"
    );
}
