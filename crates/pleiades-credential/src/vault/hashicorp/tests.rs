//! Against a server that answers as it is told: for what a real Vault will not do on demand.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

use super::*;

/// What a request is answered: status line and headers, body. `None`: the connection is closed.
type FakeAnswer = Option<(&'static str, &'static str)>;
type Answers = Arc<dyn Fn(&str, usize) -> FakeAnswer + Send + Sync>;

/// A server of HTTP/1.1, one request a connection.
struct FakeVault {
    address: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl FakeVault {
    /// `answers` is told the first line of a request, and how many began alike before.
    async fn serve(answers: impl Fn(&str, usize) -> FakeAnswer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let (answers, seen): (Answers, _) = (Arc::new(answers), Arc::clone(&heads));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&answers), Arc::clone(&seen)));
            }
        });
        Self { address, heads }
    }

    /// First lines of the requests for entries.
    fn lines(&self) -> Vec<String> {
        let heads = self.heads.lock();
        heads
            .iter()
            .filter_map(|head| head.lines().next().map(str::to_owned))
            .filter(|line| !line.contains("/auth/"))
            .collect()
    }

    fn open(&self) -> Arc<HashicorpVault> {
        self.open_with(LoginMethod::Token(Secret::new("canary-token")))
    }

    fn open_with(&self, auth: LoginMethod) -> Arc<HashicorpVault> {
        let config = Config {
            address: self.address.clone(),
            mount: "secret".to_owned(),
            prefix: "p".to_owned(),
            namespace: Some("team/a".to_owned()),
            ca_file: None,
            transit_key: None,
            auth,
        };
        rustls::crypto::ring::default_provider().install_default().ok();
        open(config, &Handle::current()).unwrap()
    }
}

async fn answer(mut stream: TcpStream, answers: Answers, seen: Arc<Mutex<Vec<String>>>) {
    let mut bytes = Vec::new();
    let head = loop {
        let mut part = [0; 4096];
        let read = stream.read(&mut part).await.unwrap_or_default();
        bytes.extend_from_slice(&part[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-length: ")?
                    .parse()
                    .ok()
            });
            if body.len() >= length.unwrap_or(0) {
                break head.to_owned();
            }
        }
        if read == 0 {
            return;
        }
    };
    let line = head.lines().next().unwrap_or_default().to_owned();
    let before = {
        let mut seen = seen.lock();
        let before = seen
            .iter()
            .filter(|head| head.lines().next() == Some(&*line))
            .count();
        seen.push(head);
        before
    };
    if let Some((status, body)) = answers(&line, before) {
        let length = body.len();
        let text =
            format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
        stream.write_all(text.as_bytes()).await.ok();
    }
}

const LOOKED: FakeAnswer = Some(("200 OK", r#"{"data":{"ttl":0,"renewable":false}}"#));
const ENTRY: FakeAnswer = Some((
    "200 OK",
    r#"{"data":{"data":{"value":"text"},"metadata":{"version":4}}}"#,
));
const WRITTEN: FakeAnswer = Some(("200 OK", r#"{"data":{"version":5}}"#));

fn path() -> Path {
    Path::of(&["c", "a b"])
}

#[tokio::test]
async fn every_request_names_the_namespace_and_carries_the_token() {
    let fake = FakeVault::serve(|line, _| if line.contains("/auth/") { LOOKED } else { ENTRY }).await;
    let stored = fake.open().read(&path()).await.unwrap().unwrap();
    assert_eq!((stored.version, stored.value.expose()), (4, "text"));
    // vaultrs writes the empty query of a request that names no version.
    assert_eq!(fake.lines(), ["GET /v1/secret/data/p/c/a~20b? HTTP/1.1"]);
    for head in fake.heads.lock().iter() {
        assert!(head.contains("\r\nx-vault-namespace: team/a"), "{head}");
        assert!(head.contains("\r\nx-vault-token: canary-token"), "{head}");
    }
}

#[tokio::test]
async fn a_read_with_a_lost_answer_is_asked_again() {
    let fake = FakeVault::serve(|line, before| match before {
        _ if line.contains("/auth/") => LOOKED,
        0 => None,
        1 => Some(("502 Bad Gateway", "<html>")),
        _ => ENTRY,
    })
    .await;
    assert!(fake.open().read(&path()).await.unwrap().is_some());
    assert_eq!(fake.lines().len(), 3);
}

#[tokio::test]
async fn a_write_with_a_lost_answer_is_sent_once() {
    for lost in [
        None,
        Some(("500 Internal Server Error", r#"{"errors":["oops"]}"#)),
    ] {
        let fake = FakeVault::serve(move |line, _| if line.contains("/auth/") { LOOKED } else { lost }).await;
        let wrote = fake.open().write(&path(), 4, &Secret::new("text"), None).await;
        assert!(matches!(
            wrote.unwrap_err().kind,
            Kind::Unreachable | Kind::Failed
        ));
        assert_eq!(fake.lines(), ["POST /v1/secret/data/p/c/a~20b HTTP/1.1"]);
    }
}

#[tokio::test]
async fn a_write_that_vault_has_not_seen_is_sent_again() {
    let fake = FakeVault::serve(|line, before| match before {
        _ if line.contains("/auth/") => LOOKED,
        _ if line.starts_with("PATCH") => Some(("204 No Content", "")),
        0 => Some(("412 Precondition Failed", "{}")),
        _ => WRITTEN,
    })
    .await;
    let wrote = fake.open().write(&path(), 4, &Secret::new("text"), None).await;
    assert_eq!(wrote.unwrap(), Wrote::Done(5));
}

#[tokio::test]
async fn a_write_stands_whatever_becomes_of_its_hint() {
    let fake = FakeVault::serve(|line, _| match line {
        _ if line.contains("/auth/") => LOOKED,
        _ if line.starts_with("PATCH") => Some(("403 Forbidden", "{}")),
        _ => WRITTEN,
    })
    .await;
    let wrote = fake.open().write(&path(), 4, &Secret::new("text"), None).await;
    assert_eq!(wrote.unwrap(), Wrote::Done(5));
}

#[tokio::test]
async fn a_redirect_is_followed_by_nobody() {
    let fake = FakeVault::serve(|line, _| {
        if line.contains("/auth/") {
            LOOKED
        } else {
            Some(("307 Temporary Redirect\r\nlocation: http://127.0.0.1:1/", ""))
        }
    })
    .await;
    assert_eq!(
        fake.open().read(&path()).await.unwrap_err().kind,
        Kind::Redirected
    );
    assert_eq!(fake.lines().len(), 1);
}

#[tokio::test]
async fn who_is_throttled_waits_and_says_how_long() {
    let fake = FakeVault::serve(|line, _| {
        if line.contains("/auth/") {
            LOOKED
        } else {
            Some((
                "429 Too Many Requests\r\nretry-after: 30",
                r#"{"errors":["quota"]}"#,
            ))
        }
    })
    .await;
    let vault = fake.open();
    let first = vault.read(&path()).await.unwrap_err();
    assert_eq!(
        (first.kind, first.retry_after),
        (Kind::Throttled, Some(Duration::from_secs(30)))
    );
    let second = vault.read(&path()).await.unwrap_err();
    assert_eq!(second.kind, Kind::Throttled);
    assert_eq!(fake.lines().len(), 1);
}

#[tokio::test]
async fn an_unreadable_answer_is_reported_without_its_text() {
    let fake = FakeVault::serve(|line, _| {
        if line.contains("/auth/") {
            LOOKED
        } else {
            Some((
                "200 OK",
                r#"{"data":{"data":"canary","metadata":{"version":"canary"}}}"#,
            ))
        }
    })
    .await;
    let fault = fake.open().read(&path()).await.unwrap_err();
    assert_eq!(fault.kind, Kind::Failed);
    assert!(!format!("{fault} {fault:?}").contains("canary"));
}

#[tokio::test]
async fn a_login_that_is_refused_tells_no_secret_and_is_not_hammered() {
    let fake =
        FakeVault::serve(|_, _| Some(("400 Bad Request", r#"{"errors":["canary-secret is wrong"]}"#))).await;
    let vault = fake.open_with(LoginMethod::AppRole {
        mount: "approle".to_owned(),
        role_id: "role".to_owned(),
        secret_id: Secret::new("canary-secret"),
    });
    for _ in 0..20 {
        let fault = vault.read(&path()).await.unwrap_err();
        assert_eq!(fault.kind, Kind::Denied);
        assert!(
            !format!("{fault} {fault:?} {vault:?}").contains("canary"),
            "{fault:?}"
        );
    }
    assert!(fake.heads.lock().len() <= 2);
}

#[tokio::test]
async fn a_refused_token_is_replaced_once_for_all_who_wait() {
    let fake = FakeVault::serve(|line, before| match line {
        _ if line.contains("/login") && before == 0 => Some((
            "200 OK",
            r#"{"auth":{"client_token":"one","lease_duration":3600}}"#,
        )),
        _ if line.contains("/login") => Some((
            "200 OK",
            r#"{"auth":{"client_token":"two","lease_duration":3600}}"#,
        )),
        _ if before < 8 => Some(("403 Forbidden", r#"{"errors":["permission denied"]}"#)),
        _ => ENTRY,
    })
    .await;
    let vault = fake.open_with(LoginMethod::AppRole {
        mount: "approle".to_owned(),
        role_id: "role".to_owned(),
        secret_id: Secret::new("secret"),
    });
    vault.log_in().await.unwrap();
    let path = path();
    let reads = futures_util::future::join_all((0..8).map(|_| vault.read(&path))).await;
    assert!(
        reads
            .into_iter()
            .all(|read| read.is_ok_and(|stored| stored.is_some()))
    );
    let heads = fake.heads.lock();
    assert_eq!(heads.iter().filter(|head| head.contains("/login ")).count(), 2);
    assert_eq!(
        heads
            .iter()
            .filter(|head| head.contains("x-vault-token: one"))
            .count(),
        8
    );
}

#[tokio::test]
async fn nobody_there_is_reported_soon_and_without_asking_again_and_again() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = FakeVault {
        address: format!("http://{}", listener.local_addr().unwrap()),
        heads: Arc::default(),
    };
    drop(listener);
    let vault = gone.open();
    for _ in 0..100 {
        let fault = vault.read(&path()).await.unwrap_err();
        assert_eq!(fault.kind, Kind::Unreachable, "{fault}");
    }
}

#[test]
fn the_policies_of_the_tests_are_those_of_the_docs() {
    let docs = include_str!("../../../../../docs/VAULT.md");
    for policy in [
        include_str!("../../../../../tests/peers/vault/policy.hcl"),
        include_str!("../../../../../tests/peers/vault/transit.hcl"),
        include_str!("../../../../../tests/peers/vault/references.hcl"),
    ] {
        assert!(
            docs.contains(&format!("```hcl\n{policy}```")),
            "docs/VAULT.md lacks:\n{policy}"
        );
    }
}
