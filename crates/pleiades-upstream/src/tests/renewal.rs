//! Credentials that are renewed: each request goes out with what is valid then, and a 401 is answered
//! once with something newer.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};

use async_trait::async_trait;
use http::{HeaderValue, StatusCode};

use super::fake::{FakeHttpProvider, RecordedRequest, legacy, modern, result, status, stream};
use super::*;
use pleiades_core::error::{Code, Error};
use pleiades_core::signature::{CredentialSource, SignedHeaders};

const L: Revision = Revision::V2025_11_25;
const M: Revision = Revision::V2026_07_28;

/// Hands out `token-{seq}`, and the next one after each refusal, until it has no more.
#[derive(Debug, Default)]
struct Renewing {
    seq: AtomicU64,
    last: u64,
    asked: AtomicUsize,
    refused: parking_lot::Mutex<Vec<u64>>,
}

impl Renewing {
    fn up_to(last: u64) -> Arc<Self> {
        let seq = AtomicU64::new(1);
        Arc::new(Self {
            seq,
            last,
            ..Self::default()
        })
    }

    fn signed(seq: u64) -> Arc<SignedHeaders> {
        let value = HeaderValue::from_str(&format!("Bearer token-{seq}")).unwrap();
        Arc::new(SignedHeaders {
            headers: vec![(http::header::AUTHORIZATION, value)],
            seq,
        })
    }
}

#[async_trait]
impl CredentialSource for Renewing {
    fn now(&self) -> Arc<SignedHeaders> {
        // What is at hand is never what is sent.
        Self::signed(0)
    }
    async fn ready(&self) -> Result<Arc<SignedHeaders>, Error> {
        self.asked.fetch_add(1, SeqCst);
        Ok(Self::signed(self.seq.load(SeqCst)))
    }
    async fn refused(&self, seq: u64) -> Result<Arc<SignedHeaders>, Error> {
        self.refused.lock().push(seq);
        if seq >= self.last {
            return Err(Error::new(Code::TokenExpired, "it has ended"));
        }
        self.seq.fetch_max(seq + 1, SeqCst);
        Ok(Self::signed(self.seq.load(SeqCst)))
    }
}

fn signed_with(holder: &Arc<Renewing>) -> Identity {
    let holder: Arc<dyn CredentialSource> = Arc::<Renewing>::clone(holder);
    signed_by(Signature::renewed(holder, Some([1; 32])))
}

/// Takes this token alone, whatever is asked.
async fn taking(token: u64) -> FakeHttpProvider {
    FakeHttpProvider::start(move |seen, before| {
        if seen.header("authorization") != format!("Bearer token-{token}") {
            let mut refused = status(StatusCode::UNAUTHORIZED);
            let challenge = HeaderValue::from_static("Bearer error=\"invalid_token\"");
            refused.headers_mut().insert("www-authenticate", challenge);
            return refused;
        }
        match seen.header("mcp-protocol-version") {
            "2026-07-28" => modern(seen, |seen| result(seen, &json!({"tools": []}))),
            _ => legacy(seen, before, |seen| result(seen, &json!({"tools": []}))),
        }
    })
    .await
}

#[tokio::test]
async fn a_call_that_is_refused_is_made_once_more_with_a_newer_token() {
    for revision in [L, M] {
        let (fake, holder) = (taking(2).await, Renewing::up_to(9));
        let endpoint = Arc::new(endpoint(1, at(&fake.url)));
        upstreams()
            .request(&endpoint, &signed_with(&holder), tool(revision))
            .await
            .unwrap();
        assert_eq!(*holder.refused.lock(), [1]);
        let first = if revision == M { "tools/call" } else { "initialize" };
        assert_eq!(fake.count(first), 2, "{revision}");
        assert_eq!(fake.count("tools/call"), if revision == M { 2 } else { 1 });
    }
}

#[tokio::test]
async fn what_is_refused_twice_is_not_tried_a_third_time() {
    let (fake, holder) = (taking(9).await, Renewing::up_to(9));
    let endpoint = Arc::new(endpoint(1, at(&fake.url)));
    let error = upstreams()
        .request(&endpoint, &signed_with(&holder), tool(M))
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::UpstreamAuth);
    assert_eq!(error.refusal.unwrap().0, 401);
    assert_eq!((fake.count("tools/call"), holder.refused.lock().len()), (2, 1));
}

#[tokio::test]
async fn a_credential_that_has_ended_says_so_with_the_providers_refusal() {
    let (fake, holder) = (taking(9).await, Renewing::up_to(1));
    let endpoint = Arc::new(endpoint(1, at(&fake.url)));
    for revision in [L, M] {
        let error = upstreams()
            .request(&endpoint, &signed_with(&holder), tool(revision))
            .await
            .unwrap_err();
        assert_eq!(error.code, Code::TokenExpired);
        let (status, challenge) = *error.refusal.unwrap();
        assert_eq!(
            (status, challenge.as_deref()),
            (401, Some("Bearer error=\"invalid_token\""))
        );
    }
    assert_eq!(fake.count("tools/call") + fake.count("initialize"), 2);
}

#[tokio::test]
async fn more_rights_are_not_had_by_renewing() {
    let holder = Renewing::up_to(9);
    let fake = FakeHttpProvider::start(|seen, _| {
        modern(seen, |_| {
            let mut refused = status(StatusCode::FORBIDDEN);
            let challenge = HeaderValue::from_static("Bearer error=\"insufficient_scope\", scope=\"a b\"");
            refused.headers_mut().insert("www-authenticate", challenge);
            refused
        })
    })
    .await;
    let endpoint = Arc::new(endpoint(1, at(&fake.url)));
    let error = upstreams()
        .request(&endpoint, &signed_with(&holder), tool(M))
        .await
        .unwrap_err();
    let (status, challenge) = *error.refusal.unwrap();
    assert_eq!(status, 403);
    assert!(challenge.unwrap().contains("scope=\"a b\""));
    assert!(holder.refused.lock().is_empty());
    assert_eq!(fake.count("tools/call"), 1);
}

#[tokio::test]
async fn every_request_of_a_session_goes_out_with_what_is_valid_then() {
    let holder = Renewing::up_to(9);
    let fake = FakeHttpProvider::start(|seen, before| {
        legacy(seen, before, |seen| match seen.verb {
            http::Method::GET => stream(&[], true),
            _ => result(seen, &json!({"tools": []})),
        })
    })
    .await;
    let (upstreams, endpoint) = (upstreams(), Arc::new(endpoint(1, at(&fake.url))));
    upstreams
        .request(&endpoint, &signed_with(&holder), list(L))
        .await
        .unwrap();
    holder.seq.store(5, SeqCst);
    upstreams
        .request(&endpoint, &signed_with(&holder), list(L))
        .await
        .unwrap();
    upstreams.shutdown(std::time::Duration::from_secs(5)).await;
    let sent = |which: &dyn Fn(&RecordedRequest) -> bool| -> Vec<String> {
        let seen = fake.seen();
        seen.iter()
            .filter(|seen| which(seen))
            .map(|seen| seen.header("authorization").to_owned())
            .collect()
    };
    assert_eq!(
        sent(&|seen| seen.method() == "tools/list"),
        ["Bearer token-1", "Bearer token-5"]
    );
    assert_eq!(
        sent(&|seen| seen.verb == http::Method::DELETE),
        ["Bearer token-5"]
    );
    assert!(
        fake.seen()
            .iter()
            .all(|seen| !seen.header("authorization").ends_with("-0"))
    );
}

#[tokio::test]
async fn a_credential_that_never_comes_is_waited_for_until_the_deadline() {
    #[derive(Debug)]
    struct Never;
    #[async_trait]
    impl CredentialSource for Never {
        fn now(&self) -> Arc<SignedHeaders> {
            Arc::default()
        }
        async fn ready(&self) -> Result<Arc<SignedHeaders>, Error> {
            std::future::pending().await
        }
        async fn refused(&self, _seq: u64) -> Result<Arc<SignedHeaders>, Error> {
            std::future::pending().await
        }
    }
    let fake = taking(1).await;
    let endpoint = Arc::new(endpoint(1, at(&fake.url)));
    let mut call = tool(M);
    call.deadline = std::time::Instant::now();
    let identity = signed_by(Signature::renewed(Arc::new(Never), None));
    let error = upstreams().request(&endpoint, &identity, call).await.unwrap_err();
    assert_eq!((error.code, error.sent), (Code::CredentialTimeout, false));
    assert!(fake.seen().is_empty());
}

#[tokio::test]
async fn a_lost_session_that_is_answered_401_costs_no_token() {
    let holder = Renewing::up_to(9);
    let fake = FakeHttpProvider::start(|seen, before| {
        legacy(seen, before, |seen| match seen.header("mcp-session-id") {
            "s0" if seen.verb != http::Method::GET => axum::response::Response::builder()
                .status(401)
                .body("Unauthorized: Session not found".into())
                .unwrap(),
            _ => result(seen, &json!({"tools": []})),
        })
    })
    .await;
    let endpoint = Arc::new(endpoint(1, at(&fake.url)));
    upstreams()
        .request(&endpoint, &signed_with(&holder), tool(L))
        .await
        .unwrap();
    assert!(holder.refused.lock().is_empty());
    assert_eq!((fake.count("initialize"), fake.count("tools/call")), (2, 2));
}
