//! What a reading of the folder makes of what ran before.

use super::*;

#[tokio::test]
async fn each_descriptor_runs_and_is_discovered() {
    let bench = Bench::new().with("one").with("two").open();
    assert!(bench.catalog().is_loaded());
    assert_eq!(bench.catalog().snapshot().generation, 1);
    assert_eq!(bench.tools("one").await, ["one_tool"]);
    assert_eq!(bench.tools("two").await, ["two_tool"]);
    let line = bench.line("one");
    assert_eq!(line["state"], "ready");
    assert_eq!(line["tools"], 1);
    assert_eq!(line["eras"], serde_json::json!(["2025-11-25"]));
    assert_eq!(line["breaker"], "closed");
    assert!(line.get("reason").is_none());
}

#[tokio::test]
async fn others_are_untouched_by_files_added_changed_and_removed() {
    let bench = Bench::new().with("one").with("two").open();
    let one = bench.provider("one");

    bench.write("three", "");
    assert_eq!(bench.reload().providers.len(), 3);
    assert_eq!(bench.tools("three").await, ["three_tool"]);

    bench.write("two", r#", "title": "Two""#);
    assert_eq!(bench.reload().providers["two"].title, "Two");

    bench.remove("two");
    let snapshot = bench.reload();
    assert!(!snapshot.providers.contains_key("two") && !snapshot.entries.contains_key("two"));
    assert!(Arc::ptr_eq(&one, &snapshot.providers["one"]));
}

#[tokio::test]
async fn a_broken_file_leaves_its_last_good_version_running_until_it_is_repaired() {
    let bench = Bench::new().with("one").with("two").open();
    bench.tools("one").await;
    let before = bench.provider("one");
    bench.spoil("one");
    let snapshot = bench.reload();
    assert!(Arc::ptr_eq(&before, &snapshot.providers["one"]));
    assert_eq!(bench.tools("one").await, ["one_tool"]);
    let line = bench.line("one");
    assert_eq!(line["state"], "stale");
    assert_eq!(line["title"], "one");
    assert!(
        line["reason"]
            .as_str()
            .expect("a reason")
            .contains("one.yaml:1:1: syntax: "),
        "{line}"
    );
    assert_eq!(line["faults"].as_array().map(Vec::len), Some(1));
    assert_eq!(bench.line("two")["faults"], serde_json::json!([]));
    assert!(
        bench
            .metrics
            .render()
            .contains(r#"pleiades_providers{state="stale"} 1"#)
    );

    bench.write("one", r#", "title": "One""#);
    let snapshot = bench.reload();
    assert!(Arc::ptr_eq(&before.live, &snapshot.providers["one"].live));
    let line = bench.line("one");
    assert_eq!((&line["state"], &line["title"]), (&"ready".into(), &"One".into()));
}

#[tokio::test]
async fn a_file_that_never_was_good_does_not_run_and_says_why() {
    let bench = Bench::new().with("one");
    bench.spoil("bad");
    let bench = bench.open();
    assert!(!bench.catalog().snapshot().providers.contains_key("bad"));
    let line = bench.line("bad");
    assert_eq!(line["state"], "unreachable");
    assert_eq!(line["faults"].as_array().map(Vec::len), Some(1));
    assert_eq!(bench.tools("one").await, ["one_tool"]);
}

#[tokio::test]
async fn a_disabled_provider_is_named_and_does_not_run() {
    let bench = Bench::new().with("one").with("two").open();
    bench.write("two", r#", "enabled": false"#);
    let snapshot = bench.reload();
    assert!(!snapshot.providers.contains_key("two"));
    assert_eq!(bench.line("two")["state"], "disabled");
}

#[tokio::test]
async fn an_emptied_folder_is_refused_until_files_are_back() {
    let bench = Bench::new().with("one").open();
    bench.remove("one");
    assert_eq!(bench.catalog().reload(), ReloadOutcome::Refused);
    assert_eq!(bench.tools("one").await, ["one_tool"]);
    let report = bench.catalog().report();
    assert!(
        report["refused"]["reason"]
            .as_str()
            .expect("a reason")
            .contains("suddenly empty"),
        "{report}"
    );
    assert!(report["refused"]["since"].is_string());
    assert!(
        bench
            .metrics
            .render()
            .contains("pleiades_reload_total{outcome=\"refused\"} 1\n")
    );

    fs::remove_dir(bench.folder()).expect("it is empty");
    assert_eq!(bench.catalog().reload(), ReloadOutcome::Refused);
    assert_eq!(bench.catalog().snapshot().providers.len(), 1);

    fs::create_dir(bench.folder()).expect("it was removed");
    bench.write("one", "");
    bench.reload();
    assert!(bench.catalog().report().get("refused").is_none());
    assert_eq!(bench.catalog().snapshot().generation, 1);
}

#[tokio::test]
async fn a_folder_that_is_missing_at_start_is_taken_when_it_appears() {
    let bench = Bench::new();
    fs::remove_dir(bench.folder()).expect("it is empty");
    let bench = bench.open();
    assert!(bench.catalog().is_loaded());
    assert!(bench.catalog().report().get("refused").is_none());
    fs::create_dir(bench.folder()).expect("it was removed");
    bench.write("one", "");
    bench
        .reloaded(|snapshot| snapshot.providers.contains_key("one"))
        .await;
}

#[tokio::test]
async fn a_renamed_file_keeps_its_provider() {
    let bench = Bench::new().with("one").with("two").open();
    let before = bench.provider("one");
    fs::rename(bench.file("one.yaml"), bench.file("renamed.yml")).expect("it can be renamed");
    let after = Arc::clone(&bench.reload().providers["one"]);
    assert!(Arc::ptr_eq(&before.live, &after.live) && Arc::ptr_eq(&before.gate, &after.gate));
    assert_eq!(after.file, bench.file("renamed.yml"));
}

#[tokio::test]
async fn of_two_files_with_one_id_the_one_loaded_first_runs() {
    let bench = Bench::new().with("one").open();
    fs::write(bench.file("a.yaml"), text("one", r#", "title": "Usurper""#)).expect("it can be written");
    let snapshot = bench.reload();
    assert_eq!(snapshot.providers["one"].title, "one");
    assert_eq!(snapshot.providers.len(), 1);
    assert_eq!(bench.line("a")["faults"].as_array().map(Vec::len), Some(1));
    assert_eq!(bench.line("one")["faults"].as_array().map(Vec::len), Some(1));

    // Another process has no memory: there the first by name runs.
    let later = Bench {
        catalog: None,
        ..bench
    }
    .open();
    assert_eq!(later.provider("one").title, "Usurper");
}

#[tokio::test]
async fn an_unchanged_folder_changes_nothing() {
    let bench = Bench::new().with("one").open();
    let before = bench.catalog().snapshot();
    let reads = bench.reads.load(SeqCst);
    assert_eq!(bench.catalog().reload(), ReloadOutcome::Unchanged);
    assert!(Arc::ptr_eq(&before, &bench.catalog().snapshot()));
    assert_eq!(bench.reads.load(SeqCst), reads);
}

#[tokio::test]
async fn what_is_known_outlives_a_change_of_limits() {
    let bench = Bench::new().with("one").open();
    bench.tools("one").await;
    let before = bench.provider("one");
    bench.write("one", r#", "limits": {"concurrency": 3}"#);
    let changed = Arc::clone(&bench.reload().providers["one"]);
    assert!(Arc::ptr_eq(&before.live, &changed.live));
    assert!(!Arc::ptr_eq(&before.gate, &changed.gate));
    bench.write("one", r#", "title": "One", "limits": {"concurrency": 3}"#);
    assert!(Arc::ptr_eq(&changed.gate, &bench.reload().providers["one"].gate));
    assert_eq!(bench.fake.probed("one"), 1);
}

#[tokio::test]
async fn a_changed_secret_file_makes_another_endpoint_and_retires_the_old() {
    let bench = Bench::new();
    let secret = bench.root.path().join("key");
    fs::write(&secret, "first").expect("it can be written");
    let auth = format!(
        r#", "auth": {{"api_key": {{"value": "${{file:{}}}"}}}}"#,
        secret.display()
    );
    bench.write("one", &auth);
    let bench = bench.open();
    let before = bench.provider("one").endpoint.digest;
    assert_eq!(bench.catalog().reload(), ReloadOutcome::Unchanged);

    fs::write(&secret, "second").expect("it can be written");
    assert_eq!(bench.catalog().reload(), ReloadOutcome::Applied);
    assert_ne!(bench.provider("one").endpoint.digest, before);
    assert_eq!(bench.retired().await, [before]);
}

#[tokio::test]
async fn sessions_are_not_retired_while_a_request_holds_the_old_provider() {
    let bench = Bench::new().with("one").with("two").open();
    bench.tools("one").await;
    let old = bench.provider("one");
    bench.remove("one");
    bench.reload();
    // The old lists still serve the request that took them.
    assert_eq!(names(&old.live.shared.load()), ["one_tool"]);
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    assert!(bench.fake.retired.borrow().is_empty());
    let digest = old.endpoint.digest;
    drop(old);
    assert_eq!(bench.retired().await, [digest]);
}

#[tokio::test]
async fn of_a_thousand_descriptors_only_the_changed_one_is_read_again() {
    let bench = Bench::new();
    for at in 0..1000 {
        bench.write(&format!("p{at}"), "");
    }
    let bench = bench.open();
    let before = bench.catalog().snapshot();
    assert_eq!((before.providers.len(), bench.reads.load(SeqCst)), (1000, 1000));
    bench.write("p500", r#", "title": "changed""#);
    let after = bench.reload();
    assert_eq!(bench.reads.load(SeqCst), 1001);
    let same = after
        .providers
        .iter()
        .filter(|(id, provider)| Arc::ptr_eq(provider, &before.providers[*id]));
    assert_eq!(same.count(), 999);
    assert_eq!(after.providers["p500"].title, "changed");
    assert_eq!(bench.tools("p999").await, ["p999_tool"]);
}

#[tokio::test]
async fn coming_and_going_is_announced() {
    let bench = Bench::new().with("one").open();
    bench.tools("one").await;
    let mut changes = bench.catalog().changes();
    bench.write("two", "");
    bench.reload();
    let changed = soon(changes.recv()).await.expect("the catalogue is there");
    assert!(changed.provider.is_none() && changed.tools && changed.resources && changed.prompts);
    bench.write("one", r#", "about": "things""#);
    bench.reload();
    assert!(bench.next_change(&mut changes, "one").await.tools);
}

#[tokio::test]
async fn a_pipe_among_the_files_is_a_fault_that_nobody_waits_for() {
    let bench = Bench::new().with("one").open();
    let made = std::process::Command::new("mkfifo")
        .arg(bench.file("pipe.yaml"))
        .status();
    assert!(made.expect("mkfifo runs").success());
    let snapshot = bench.reload();
    assert!(snapshot.providers.contains_key("one"));
    let fault = bench.line("pipe")["reason"].to_string();
    assert!(fault.contains("the file is not a regular file"), "{fault}");
}

#[test]
fn certificates_beside_a_descriptor_are_found_when_the_folder_is_relative() {
    let world = ReadContext {
        env: Arc::new(|_| None),
        references: References::default(),
        secrets: pleiades_descriptor::SecretSource::None,
        commands: true,
        loopback: true,
    };
    // Tests run in the package's folder.
    let file = Path::new("../../tests/golden/beside.yaml");
    let text = "id: a\nupstream: { url: https://mcp.example.com/, tls: { ca_file: tls/cert.pem } }\nauth: { none: {} }\n";
    let descriptor = read(file, text.as_bytes(), &world).descriptor.expect("no fault");
    assert_eq!(
        compile::sources(file, &descriptor),
        [Path::new("../../tests/golden/tls/cert.pem")]
    );
    compile::compile(file, &descriptor, &compile::CompileContext::for_inspection(true))
        .expect("the certificate is found");
}

#[tokio::test]
async fn a_reading_that_takes_long_keeps_nobody_else_waiting() {
    let gate = Arc::new(std::sync::Barrier::new(2));
    let inner = Arc::clone(&gate);
    let bench = Bench::new().with("one").open_after(move |file| {
        if file.ends_with("slow.yaml") {
            inner.wait();
            inner.wait();
        }
    });
    bench.write("slow", "");
    let catalog = Arc::clone(bench.catalog());
    let reading = tokio::task::spawn_blocking(move || catalog.reload());
    gate.wait();
    let catalog = Arc::clone(bench.catalog());
    let asked = tokio::task::spawn_blocking(move || (catalog.is_loaded(), catalog.report()));
    let (is_loaded, report) = soon(asked).await.expect("it does not panic");
    assert!(is_loaded && report.get("refused").is_none());
    gate.wait();
    soon(reading).await.expect("it does not panic");
    assert!(bench.catalog().snapshot().providers.contains_key("slow"));
}
