//! Whole requests against providers made here.

mod changes;
mod detection;
mod event_stream;
mod failures;
mod fake;
mod lost;
mod odd;
mod outward;
mod over_http;
mod over_tls;
mod processes;
mod renewal;

use std::time::Instant;

use serde_json::{Value, json};
use url::Url;

use super::*;
use pleiades_core::signature::Signature;
use pleiades_mcp::raw::raw;
use pleiades_mcp::{DeclaredCapabilities, RawObject, Revision};

const LONG: Duration = Duration::from_secs(20);

fn upstreams() -> Arc<Upstreams> {
    // Those of the build: reading the environment is for `settings` alone.
    let base = [("PATH", env!("PATH")), ("HOME", env!("HOME"))];
    let base = base.map(|(name, value)| (name.into(), value.into()));
    Upstreams::new(Handle::current(), base.to_vec())
}

pub(super) fn identity() -> Identity {
    signed_by(Signature::default())
}

fn signed_by(signature: Signature) -> Identity {
    Identity {
        session: None,
        tenant: "acme".into(),
        user: "ann".into(),
        signature: Arc::new(signature),
    }
}

pub(super) fn endpoint(digest: u8, target: Transport) -> Endpoint {
    Endpoint {
        provider: "fake".into(),
        digest: [digest; 32],
        target,
        revision: None,
        share: SessionSharing::User,
        connect: Duration::from_secs(3),
        call: LONG,
        idle: Duration::from_secs(300),
    }
}

pub(super) fn at(url: &Url) -> Transport {
    Transport::Http {
        url: url.clone(),
        headers: Vec::new(),
        tls: None,
        allow_private: false,
        allow_loopback: true,
        sse: false,
    }
}

fn call(method: &'static str, params: &Value, revision: Revision) -> Call {
    Call {
        method,
        params: RawObject::open(&raw(params)).unwrap(),
        revision,
        mirrored: Vec::new(),
        deadline: Instant::now() + LONG,
        idempotent: method != "tools/call",
        declared: DeclaredCapabilities::all(),
        progress: false,
        token: None,
        events: None,
    }
}

fn list(revision: Revision) -> Call {
    call("tools/list", &json!({}), revision)
}

fn tool(revision: Revision) -> Call {
    call("tools/call", &json!({"name": "act", "arguments": {}}), revision)
}

fn value(raw: &Raw) -> Value {
    serde_json::from_str(raw.get()).unwrap()
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, future)
        .await
        .expect("this should have happened long ago")
}

#[test]
fn the_minimal_environment_holds_no_secret() {
    let all = [
        "PATH",
        "HOME",
        "LC_ALL",
        "GITHUB_TOKEN",
        "PLEIADES_KEY",
        "AWS_SECRET_ACCESS_KEY",
    ];
    let all = all.map(|name| (OsString::from(name), OsString::from("x")));
    let kept: Vec<_> = minimal_environment(all)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(kept, ["PATH", "HOME", "LC_ALL"]);
}
