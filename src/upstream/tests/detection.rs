use axum::{body::Body, response::Response};
use http::StatusCode;

use super::fake::{Fake, Seen, fault, legacy, modern, result, status};
use super::*;
use crate::error::Code;

const J: Revision = Revision::V2025_06_18;
const L: Revision = Revision::V2025_11_25;
const M: Revision = Revision::V2026_07_28;

fn tools() -> Value {
    json!({"tools": []})
}

#[tokio::test]
async fn detection_finds_both_revisions_of_a_legacy_provider() {
    let fake = Fake::start(|seen, before| legacy(seen, before, |seen| result(seen, &tools()))).await;
    let endpoint = Arc::new(endpoint(1, at(&fake.url)));
    let profile = upstreams().probe(&endpoint, &behalf()).await.unwrap();
    assert_eq!(profile.revisions, [J, L].into_iter().collect());
    assert_eq!(
        value(&profile.capabilities),
        json!({"tools": {"listChanged": true}})
    );
    assert_eq!(value(&profile.server_info.unwrap()), json!({"name": "fake"}));
    assert!(!fake.methods().iter().any(|method| method.contains("tools/")));
}

#[tokio::test]
async fn detection_finds_a_modern_provider_and_one_of_both_generations() {
    let fake = Fake::start(|seen, _| modern(seen, |seen| result(seen, &tools()))).await;
    let single = Arc::new(endpoint(1, at(&fake.url)));
    let profile = upstreams().probe(&single, &behalf()).await.unwrap();
    assert_eq!(profile.revisions, [M].into_iter().collect());
    assert_eq!(profile.instructions.as_deref(), Some("be kind"));
    assert_eq!(value(&profile.server_info.unwrap()), json!({"name": "fake"}));

    let fake = Fake::start(|seen, before| match seen.method() {
        "server/discover" => modern(seen, |_| unreachable!()),
        "initialize" => result(
            seen,
            &json!({
                "protocolVersion": seen.body["params"]["protocolVersion"],
                "capabilities": {"tools": {"older": true}, "logging": {}},
            }),
        ),
        _ => legacy(seen, before, |seen| result(seen, &tools())),
    })
    .await;
    let both = Arc::new(endpoint(2, at(&fake.url)));
    let profile = upstreams().probe(&both, &behalf()).await.unwrap();
    assert_eq!(profile.revisions, [J, L, M].into_iter().collect());
    let capabilities = value(&profile.capabilities);
    assert_eq!(capabilities["logging"], json!({}));
    assert_eq!(capabilities["tools"].get("older"), None);
}

#[tokio::test]
async fn an_old_provider_is_known_by_what_it_settles_on() {
    let fake = Fake::start(|seen, _| match seen.method() {
        "initialize" => result(
            seen,
            &json!({"protocolVersion": "2025-03-26", "capabilities": {}}),
        ),
        "server/discover" => Response::builder().status(500).body(Body::from("oops")).unwrap(),
        _ => status(StatusCode::ACCEPTED),
    })
    .await;
    let endpoint = Arc::new(endpoint(1, at(&fake.url)));
    let profile = upstreams().probe(&endpoint, &behalf()).await.unwrap();
    assert_eq!(profile.revisions, [Revision::V2025_03_26].into_iter().collect());
    assert_eq!(fake.count("initialize"), 1);
}

#[tokio::test]
async fn a_pinned_revision_skips_detection() {
    let fake = Fake::start(|seen, before| legacy(seen, before, |seen| result(seen, &tools()))).await;
    let endpoint = Arc::new(Endpoint {
        revision: Some(J),
        ..endpoint(1, at(&fake.url))
    });
    let profile = upstreams().probe(&endpoint, &behalf()).await.unwrap();
    assert_eq!(profile.revisions, [J].into_iter().collect());
    assert_eq!(
        fake.methods(),
        ["POST initialize", "POST notifications/initialized", "GET "]
    );
}

#[tokio::test]
async fn a_pinned_revision_is_the_only_one_although_the_provider_names_more() {
    let fake = Fake::start(|seen, _| {
        let found = json!({
            "resultType": "complete",
            "supportedVersions": [J.as_str(), L.as_str(), M.as_str()],
            "capabilities": {},
        });
        result(seen, &found)
    })
    .await;
    let endpoint = Arc::new(Endpoint {
        revision: Some(M),
        ..endpoint(1, at(&fake.url))
    });
    let profile = upstreams().probe(&endpoint, &behalf()).await.unwrap();
    assert_eq!(profile.revisions, [M].into_iter().collect());
    assert_eq!(fake.methods(), ["POST server/discover"]);
}

#[tokio::test]
async fn detection_stops_at_a_refused_credential() {
    let fake = Fake::start(|_, _| status(StatusCode::UNAUTHORIZED)).await;
    let endpoint = Arc::new(endpoint(1, at(&fake.url)));
    let error = upstreams().probe(&endpoint, &behalf()).await.unwrap_err();
    assert_eq!(error.code, Code::UpstreamAuth);
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test]
async fn a_provider_that_refuses_the_revision_it_names_is_asked_once_more() {
    let refusal = |seen: &Seen| {
        let data = json!({"supported": [M.as_str()], "requested": M.as_str()});
        fault(seen, 400, -32022, &data)
    };
    for (refused, found) in [(1, true), (usize::MAX, false)] {
        let fake = Fake::start(move |seen, before| {
            if before < refused {
                refusal(seen)
            } else {
                modern(seen, |seen| result(seen, &tools()))
            }
        })
        .await;
        let endpoint = Arc::new(Endpoint {
            revision: Some(M),
            ..endpoint(1, at(&fake.url))
        });
        let profile = upstreams().probe(&endpoint, &behalf()).await;
        assert_eq!(profile.is_ok(), found);
        assert_eq!(fake.count("server/discover"), 2);
    }
}
