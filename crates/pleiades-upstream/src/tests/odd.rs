//! Child processes that write what the transport does not have, and how they end.

use std::path::Path;

use super::*;
use pleiades_core::error::{Code, Error};
use pleiades_core::secret::Secret;

const L: Revision = Revision::V2025_11_25;

struct OddWorld {
    upstreams: Arc<Upstreams>,
    endpoint: Arc<Endpoint>,
    _folder: tempfile::TempDir,
}

fn target(folder: &Path, form: &str) -> Transport {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tests/odd.py");
    Transport::Stdio {
        command: ["python3", program, form].map(str::to_owned).to_vec(),
        env: vec![("TOKEN".to_owned(), Secret::new("a-secret-value"))],
        folder: folder.to_owned(),
    }
}

fn world(form: &str) -> OddWorld {
    let folder = tempfile::tempdir().unwrap();
    OddWorld {
        upstreams: upstreams(),
        endpoint: Arc::new(endpoint(1, target(folder.path(), form))),
        _folder: folder,
    }
}

impl OddWorld {
    async fn act(&self) -> Result<Value, Error> {
        let called = soon(self.upstreams.request(&self.endpoint, &identity(), tool(L))).await?;
        Ok(value(&called))
    }

    async fn act_within(&self, within: Duration) -> Error {
        let call = Call {
            deadline: Instant::now() + within,
            ..tool(L)
        };
        let called = self.upstreams.request(&self.endpoint, &identity(), call).await;
        called.unwrap_err()
    }

    async fn end(self) {
        self.upstreams.shutdown(Duration::from_secs(10)).await;
    }
}

#[tokio::test]
async fn what_means_one_thing_is_taken_although_it_is_written_oddly() {
    for form in ["text-id", "error-null", "array"] {
        let world = world(form);
        assert_eq!(world.act().await.unwrap()["said"], "cafe", "{form}");
        world.end().await;
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_fails_its_request_at_once_and_says_why() {
    for (form, why) in [
        ("latin1", "not UTF-8"),
        ("both", "not both"),
        ("pretty", "over several lines"),
        ("framed", "Content-Length"),
        ("batch", "array"),
    ] {
        let world = world(form);
        let error = world.act().await.unwrap_err();
        assert_eq!(error.code, Code::UpstreamProtocol, "{form}: {error}");
        assert!(error.message.contains(why), "{form}: {error}");
        world.end().await;
    }
}

#[tokio::test]
async fn older_revisions_are_asked_for_over_stdio_too() {
    for (form, settled) in [
        ("strict", Revision::V2025_06_18),
        ("ancient", Revision::V2025_03_26),
    ] {
        let world = world(form);
        let profile = soon(world.upstreams.probe(&world.endpoint, &identity()))
            .await
            .unwrap();
        assert_eq!(profile.revisions, [settled].into_iter().collect(), "{form}");
        world.end().await;
    }
    let world = world("future");
    let error = world.act().await.unwrap_err();
    assert!(error.message.contains("`2199-01-01`"), "{error}");
    world.end().await;
}

#[tokio::test]
async fn a_dead_process_is_reported_with_its_status_and_last_words() {
    let world = world("exits");
    let error = world.act().await.unwrap_err();
    let message = error.message.as_ref();
    assert!(message.contains("exit status: 3"), "{message}");
    assert!(
        !message.contains("npm error"),
        "for the operator alone: {message}"
    );
    let cause = error.cause();
    assert!(cause.contains("npm error 404 Not Found"), "{cause}");
    let all = format!("{} {}", error.in_full(), world.act().await.unwrap_err().in_full());
    assert!(
        !all.contains("a-secret-value") && !all.contains("db.example"),
        "{all}"
    );
    world.end().await;
}

#[tokio::test]
async fn a_process_that_lost_its_handshake_is_replaced_and_the_call_made_once() {
    let world = world("forgets");
    for _ in 0..4 {
        assert_eq!(world.act().await.unwrap()["calls"], 1);
    }
    world.end().await;
}

#[tokio::test]
async fn a_process_that_answers_neither_calls_nor_pings_is_not_kept() {
    let world = world("silent");
    let sessions = || world.upstreams.sessions();
    for _ in 0..2 {
        let error = world.act_within(Duration::from_millis(300)).await;
        assert_eq!(error.code, Code::UpstreamTimeout);
        assert_eq!(sessions(), 1);
    }
    soon(async {
        while sessions() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn a_timeout_says_what_was_printed_in_place_of_an_answer() {
    let world = world("chatty");
    let error = world.act_within(Duration::from_secs(3)).await;
    assert!(error.message.contains("not JSON-RPC"), "{error}");
    assert!(
        error.in_full().contains("thinking about it"),
        "{}",
        error.in_full()
    );
    world.end().await;
}
