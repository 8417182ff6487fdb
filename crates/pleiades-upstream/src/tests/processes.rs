use std::path::Path;

use super::*;
use pleiades_core::error::Code;
use pleiades_core::secret::Secret;

const L: Revision = Revision::V2025_11_25;

fn script(folder: &Path, args: &[&str]) -> Transport {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tests/child.py");
    let mut command = vec!["python3".to_owned(), program.to_owned()];
    command.extend(args.iter().map(|arg| (*arg).to_owned()));
    Transport::Stdio {
        command,
        env: vec![("OWN".to_owned(), Secret::new("given"))],
        folder: folder.to_owned(),
    }
}

struct ProcessWorld {
    upstreams: Arc<Upstreams>,
    endpoint: Arc<Endpoint>,
    folder: tempfile::TempDir,
}

fn world(args: &[&str]) -> ProcessWorld {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = Arc::new(endpoint(1, script(folder.path(), args)));
    ProcessWorld {
        upstreams: upstreams(),
        endpoint,
        folder,
    }
}

impl ProcessWorld {
    async fn act(&self, arguments: &Value, revision: Revision) -> Result<Value, Error> {
        let params = json!({"name": "act", "arguments": arguments});
        let call = call("tools/call", &params, revision);
        let result = soon(self.upstreams.request(&self.endpoint, &identity(), call)).await?;
        Ok(value(&result))
    }

    async fn end(self) {
        self.upstreams.shutdown(Duration::from_secs(10)).await;
    }
}

/// Whether any process of a group is left; zombies that nobody reaps do not count.
fn is_running(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .trim_start()
            .starts_with('Z')
    })
}

#[tokio::test]
async fn one_process_answers_many_calls_at_once_out_of_order() {
    let world = world(&["legacy"]);
    let (later, sooner) = (
        json!({"echo": 1, "after": "second"}),
        json!({"echo": 2, "name": "second"}),
    );
    let (later, sooner) = tokio::join!(world.act(&later, L), world.act(&sooner, L));
    let (later, sooner) = (later.unwrap(), sooner.unwrap());
    assert_eq!((&later["echo"], &sooner["echo"]), (&json!(1), &json!(2)));
    assert_eq!(later["pid"], sooner["pid"]);
    assert_eq!(world.upstreams.sessions(), 1);
    world.end().await;
}

#[tokio::test]
async fn a_child_gets_its_folder_and_a_clean_environment() {
    let world = world(&["legacy"]);
    let answer = world.act(&json!({}), L).await.unwrap();
    assert_eq!(answer["env"]["OWN"], "given");
    // Cargo gives it to every test; nothing may hand it on.
    assert_eq!(answer["env"]["CARGO_MANIFEST_DIR"], Value::Null);
    let folder = world.folder.path().canonicalize().unwrap();
    assert_eq!(answer["cwd"].as_str().unwrap(), folder.to_str().unwrap());
    world.end().await;
}

#[tokio::test]
async fn detection_settles_on_one_generation() {
    let cases = [
        ("legacy", L),
        ("modern", Revision::V2026_07_28),
        ("dies", L),
        ("old", Revision::V2024_11_05),
    ];
    for (kind, expected) in cases {
        let world = world(&[kind]);
        let profile = soon(world.upstreams.probe(&world.endpoint, &identity()))
            .await
            .unwrap();
        assert_eq!(profile.revisions, [expected].into_iter().collect(), "{kind}");
        let answer = world.act(&json!({"echo": kind}), expected).await.unwrap();
        assert_eq!(answer["echo"], kind);
        world.end().await;
    }
}

#[tokio::test]
async fn a_child_that_ignores_discovery_is_initialised() {
    let ProcessWorld {
        upstreams,
        endpoint,
        folder,
    } = world(&["deaf"]);
    let Ok(mut endpoint) = Arc::try_unwrap(endpoint) else {
        panic!("the endpoint is shared")
    };
    endpoint.connect = Duration::from_millis(50);
    let world = ProcessWorld {
        upstreams,
        endpoint: Arc::new(endpoint),
        folder,
    };
    assert_eq!(world.act(&json!({"echo": 1}), L).await.unwrap()["echo"], 1);
    world.end().await;
}

#[tokio::test]
async fn the_whole_group_is_gone_after_shutdown_even_when_it_ignores_sigterm() {
    let world = world(&["legacy"]);
    let answer = world.act(&json!({"fork": true}), L).await.unwrap();
    let pids = ["pid", "grandchild"].map(|name| answer[name].as_u64().unwrap());
    assert!(pids.into_iter().all(is_running));
    world.end().await;
    assert!(!pids.into_iter().any(is_running), "{pids:?}");
}

#[tokio::test]
async fn a_retired_process_ends_after_its_call() {
    let world = world(&["legacy"]);
    let first = world.act(&json!({}), L).await.unwrap()["pid"].as_u64().unwrap();
    world.upstreams.retire(&[1; 32]);
    let second = world.act(&json!({}), L).await.unwrap()["pid"].as_u64().unwrap();
    assert_ne!(first, second);
    world.end().await;
    assert!(!is_running(first) && !is_running(second));
}

#[tokio::test]
async fn a_crash_fails_the_call_in_flight_once_and_the_next_one_finds_a_new_process() {
    let world = world(&["legacy"]);
    let first = world.act(&json!({}), L).await.unwrap();
    let crashed = world.act(&json!({"exit": 3}), L).await.unwrap_err();
    assert_eq!((crashed.code, crashed.sent), (Code::UpstreamUnreachable, true));
    let second = world.act(&json!({}), L).await.unwrap();
    assert_ne!(first["pid"], second["pid"]);
    let runs = std::fs::read_to_string(world.folder.path().join("exits")).unwrap();
    assert_eq!(runs.lines().count(), 1);
    world.end().await;
}

#[tokio::test]
async fn an_answer_written_just_before_the_end_is_delivered() {
    let world = world(&["legacy"]);
    let answer = world.act(&json!({"last": true, "echo": 1}), L).await.unwrap();
    assert_eq!(answer["echo"], 1);
    world.end().await;
}

#[tokio::test]
async fn what_escapes_its_group_does_not_keep_the_pipes_of_an_ended_process_open() {
    let world = world(&["legacy"]);
    world.act(&json!({"escape": true}), L).await.unwrap();
    world.upstreams.retire(&[1; 32]);
    let closed = world.folder.path().join("closed");
    soon(async {
        while !closed.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn a_command_that_cannot_start_backs_off_and_says_when_to_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let command = vec!["false".to_owned()];
    let target = Transport::Stdio {
        command,
        env: Vec::new(),
        folder: folder.path().to_owned(),
    };
    let world = ProcessWorld {
        upstreams: upstreams(),
        endpoint: Arc::new(endpoint(1, target)),
        folder,
    };
    let mut waits = Vec::new();
    for _ in 0..6 {
        let error = world.act(&json!({}), L).await.unwrap_err();
        assert_eq!((error.code, error.sent), (Code::UpstreamUnreachable, false));
        waits.push(error.retry_after);
    }
    assert!(waits.last().unwrap().is_some(), "{waits:?}");
    world.end().await;
}

#[tokio::test]
async fn a_deadline_cancels_the_call_and_leaves_the_process_alive() {
    let world = world(&["legacy"]);
    let first = world.act(&json!({}), L).await.unwrap();
    let params = json!({"name": "act", "arguments": {"after": "never"}});
    let deadline = Instant::now() + Duration::from_millis(50);
    let call = Call {
        deadline,
        ..call("tools/call", &params, L)
    };
    let error = world
        .upstreams
        .request(&world.endpoint, &identity(), call)
        .await
        .unwrap_err();
    assert_eq!((error.code, error.sent), (Code::UpstreamTimeout, true));
    let second = world.act(&json!({}), L).await.unwrap();
    assert_eq!(first["pid"], second["pid"]);
    assert_eq!(second["cancelled"].as_array().unwrap().len(), 1);
    world.end().await;
}

#[tokio::test]
async fn progress_and_changes_of_a_process_reach_those_who_wait() {
    for (kind, revision) in [("legacy", L), ("modern", Revision::V2026_07_28)] {
        let world = world(&[kind]);
        let profile = soon(world.upstreams.probe(&world.endpoint, &identity()))
            .await
            .unwrap();
        let mut changes = world
            .upstreams
            .watch_lists(&world.endpoint, &identity(), &profile);
        // Lets the listener take its place.
        tokio::task::yield_now().await;
        let (progress, mut events) = mpsc::channel(8);
        let params = json!({"name": "act", "arguments": {"progress": true, "changed": true}});
        let call = Call {
            progress: true,
            token: None,
            events: Some(progress),
            ..call("tools/call", &params, revision)
        };
        soon(world.upstreams.request(&world.endpoint, &identity(), call))
            .await
            .unwrap();
        let Some(ProviderEvent::Progress(params)) = events.recv().await else {
            panic!("no progress")
        };
        assert_eq!(value(&params.close()), json!({"progress": 1}), "{kind}");
        assert_eq!(soon(changes.recv()).await, Some(ProviderChange::Tools), "{kind}");
        world.end().await;
    }
}
