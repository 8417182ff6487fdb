use axum::{body::Body, response::Response};
use http::StatusCode;

use super::fake::{FakeHttpProvider, RecordedRequest, fault, legacy, modern, result, status};
use super::*;
use pleiades_core::error::Code;

const J: Revision = Revision::V2025_06_18;
const L: Revision = Revision::V2025_11_25;
const M: Revision = Revision::V2026_07_28;

fn tools() -> Value {
    json!({"tools": []})
}

#[tokio::test]
async fn detection_finds_both_revisions_of_a_legacy_provider() {
    let fake =
        FakeHttpProvider::start(|seen, before| legacy(seen, before, |seen| result(seen, &tools()))).await;
    let endpoint = Arc::new(endpoint(1, at(&fake.url)));
    let profile = upstreams().probe(&endpoint, &identity()).await.unwrap();
    assert_eq!(profile.revisions, [J, L].into_iter().collect());
    assert_eq!(
        value(&profile.capabilities),
        json!({"tools": {"listChanged": true}})
    );
    assert_eq!(value(&profile.server_info.unwrap()), json!({"name": "fake"}));
    assert!(!fake.methods().iter().any(|method| method.contains("tools/")));
}

#[tokio::test]
async fn detection_asks_nothing_more_of_a_provider_that_says_what_it_speaks() {
    let fake = FakeHttpProvider::start(|seen, _| modern(seen, |seen| result(seen, &tools()))).await;
    let single = Arc::new(endpoint(1, at(&fake.url)));
    let profile = upstreams().probe(&single, &identity()).await.unwrap();
    assert_eq!(profile.revisions, [M].into_iter().collect());
    assert_eq!(profile.instructions.as_deref(), Some("be kind"));
    assert_eq!(value(&profile.server_info.unwrap()), json!({"name": "fake"}));
    assert_eq!(fake.methods(), ["POST server/discover"]);

    let named = json!({"supportedVersions": [M.as_str(), L.as_str()], "capabilities": {}});
    let fake = FakeHttpProvider::start(move |seen, _| result(seen, &named)).await;
    let both = Arc::new(endpoint(2, at(&fake.url)));
    let profile = upstreams().probe(&both, &identity()).await.unwrap();
    assert_eq!(profile.revisions, [L, M].into_iter().collect());
    assert!(profile.legacy.is_none(), "what it names is believed");
    assert_eq!(fake.methods(), ["POST server/discover"]);
}

/// Names the modern revision alone and speaks the others too.
fn silent_of_its_age(seen: &RecordedRequest, before: usize) -> Response {
    match seen.method() {
        "server/discover" => modern(seen, |_| unreachable!()),
        "initialize" => result(
            seen,
            &json!({
                "protocolVersion": seen.body["params"]["protocolVersion"],
                "capabilities": {"tools": {"older": true}, "logging": {}},
            }),
        ),
        _ => legacy(seen, before, |seen| result(seen, &tools())),
    }
}

#[tokio::test]
async fn an_older_generation_that_is_not_named_is_asked_for_once_by_all_who_want_to_know() {
    let fake = FakeHttpProvider::start(silent_of_its_age).await;
    let (endpoint, upstreams) = (Arc::new(endpoint(1, at(&fake.url))), upstreams());
    let profile = upstreams.probe(&endpoint, &identity()).await.unwrap();
    assert_eq!(profile.revisions, [M].into_iter().collect());
    assert_eq!(profile.settled().map(|it| it.revisions), None);
    assert_eq!(fake.count("initialize"), 0);
    let (identity, copy) = (identity(), profile.clone());
    let (first, second) = tokio::join!(
        upstreams.probe_legacy(&endpoint, &identity, &profile),
        upstreams.probe_legacy(&endpoint, &identity, &copy),
    );
    for settled in [first, second, profile.settled()].map(Option::unwrap) {
        assert_eq!(settled.revisions, [J, L, M].into_iter().collect());
        assert!(settled.legacy.is_none());
        let capabilities = value(&settled.capabilities);
        assert_eq!(capabilities["logging"], json!({}));
        assert_eq!(capabilities["tools"].get("older"), None);
    }
    assert_eq!(fake.count("initialize"), 2, "once in each older revision");
}

#[tokio::test]
async fn a_provider_that_is_modern_only_is_asked_once_until_it_is_probed_anew() {
    let fake = FakeHttpProvider::start(|seen, _| modern(seen, |seen| result(seen, &tools()))).await;
    let (endpoint, upstreams) = (Arc::new(endpoint(1, at(&fake.url))), upstreams());
    let profile = upstreams.probe(&endpoint, &identity()).await.unwrap();
    for _ in 0..3 {
        let settled = upstreams
            .probe_legacy(&endpoint, &identity(), &profile)
            .await
            .unwrap();
        assert_eq!(settled.revisions, [M].into_iter().collect());
        assert!(settled.legacy.is_none(), "there is nothing left to ask");
    }
    assert_eq!(fake.count("initialize"), 1);
    let anew = upstreams.probe(&endpoint, &identity()).await.unwrap();
    upstreams
        .probe_legacy(&endpoint, &identity(), &anew)
        .await
        .unwrap();
    assert_eq!(fake.count("initialize"), 2);
}

#[tokio::test]
async fn what_was_not_answered_is_asked_again_after_a_while() {
    let fake = FakeHttpProvider::start(|seen, before| match seen.method() {
        "initialize" if before == 0 => status(StatusCode::SERVICE_UNAVAILABLE),
        _ => silent_of_its_age(seen, before),
    })
    .await;
    let (endpoint, upstreams) = (Arc::new(endpoint(1, at(&fake.url))), upstreams());
    let profile = upstreams.probe(&endpoint, &identity()).await.unwrap();
    for _ in 0..3 {
        assert!(
            upstreams
                .probe_legacy(&endpoint, &identity(), &profile)
                .await
                .is_none()
        );
    }
    assert_eq!(fake.count("initialize"), 1);
    assert!(!profile.legacy.as_ref().unwrap().is_due());
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    assert!(profile.legacy.as_ref().unwrap().is_due());
    let settled = upstreams
        .probe_legacy(&endpoint, &identity(), &profile)
        .await
        .unwrap();
    assert_eq!(settled.revisions, [J, L, M].into_iter().collect());
}

#[tokio::test]
async fn an_old_provider_is_known_by_what_it_settles_on() {
    let fake = FakeHttpProvider::start(|seen, _| match seen.method() {
        "initialize" => result(
            seen,
            &json!({"protocolVersion": "2025-03-26", "capabilities": {}}),
        ),
        "server/discover" => Response::builder().status(500).body(Body::from("oops")).unwrap(),
        _ => status(StatusCode::ACCEPTED),
    })
    .await;
    let endpoint = Arc::new(endpoint(1, at(&fake.url)));
    let profile = upstreams().probe(&endpoint, &identity()).await.unwrap();
    assert_eq!(profile.revisions, [Revision::V2025_03_26].into_iter().collect());
    assert_eq!(fake.count("initialize"), 1);
}

#[tokio::test]
async fn a_pinned_revision_skips_detection() {
    let fake =
        FakeHttpProvider::start(|seen, before| legacy(seen, before, |seen| result(seen, &tools()))).await;
    let endpoint = Arc::new(Endpoint {
        revision: Some(J),
        ..endpoint(1, at(&fake.url))
    });
    let profile = upstreams().probe(&endpoint, &identity()).await.unwrap();
    assert_eq!(profile.revisions, [J].into_iter().collect());
    assert_eq!(
        fake.methods(),
        ["POST initialize", "POST notifications/initialized", "GET "]
    );
}

#[tokio::test]
async fn a_pinned_revision_is_the_only_one_although_the_provider_names_more() {
    let fake = FakeHttpProvider::start(|seen, _| {
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
    let profile = upstreams().probe(&endpoint, &identity()).await.unwrap();
    assert_eq!(profile.revisions, [M].into_iter().collect());
    assert_eq!(fake.methods(), ["POST server/discover"]);
}

#[tokio::test]
async fn detection_stops_at_a_refused_credential() {
    let fake = FakeHttpProvider::start(|_, _| status(StatusCode::UNAUTHORIZED)).await;
    let endpoint = Arc::new(endpoint(1, at(&fake.url)));
    let error = upstreams().probe(&endpoint, &identity()).await.unwrap_err();
    assert_eq!(error.code, Code::UpstreamAuth);
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test]
async fn a_provider_that_refuses_the_revision_it_names_is_asked_once_more() {
    let refusal = |seen: &RecordedRequest| {
        let data = json!({"supported": [M.as_str()], "requested": M.as_str()});
        fault(seen, 400, -32022, &data)
    };
    for (refused, found) in [(1, true), (usize::MAX, false)] {
        let fake = FakeHttpProvider::start(move |seen, before| {
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
        let profile = upstreams().probe(&endpoint, &identity()).await;
        assert_eq!(profile.is_ok(), found);
        assert_eq!(fake.count("server/discover"), 2);
    }
}

/// Takes `initialize` in one revision, and answers any other with a refusal.
async fn picky(
    takes: Revision,
    refusal: impl Fn(&RecordedRequest) -> Response + Clone + Send + Sync + 'static,
) -> FakeHttpProvider {
    FakeHttpProvider::start(move |seen, before| match seen.method() {
        "initialize" if seen.body["params"]["protocolVersion"] != takes.as_str() => refusal(seen),
        _ => legacy(seen, before, |seen| result(seen, &tools())),
    })
    .await
}

fn plain(status: u16, text: &'static str) -> Response {
    let body = Body::from(text);
    Response::builder().status(status).body(body).unwrap()
}

#[tokio::test]
async fn a_provider_that_refuses_our_revision_is_asked_for_older_ones() {
    const A: Revision = Revision::V2025_03_26;
    const OLD: Revision = Revision::V2024_11_05;
    type RefusalFn = fn(&RecordedRequest) -> Response;
    let cases: [(Revision, usize, RefusalFn); 8] = [
        (J, 2, |seen| {
            fault(
                seen,
                200,
                -32602,
                &json!({"supported": ["2025-06-18", "2025-03-26"]}),
            )
        }),
        (A, 2, |seen| {
            fault(
                seen,
                400,
                -32022,
                &json!({"supported": ["2025-03-26", "2199-01-01"]}),
            )
        }),
        (OLD, 2, |seen| {
            fault(seen, 200, -32000, &json!({"supported": ["2024-11-05"]}))
        }),
        (J, 2, |_| plain(400, "Bad Request: Unsupported protocol version")),
        (A, 3, |_| plain(400, "Bad Request: Unsupported protocol version")),
        (A, 3, |seen| fault(seen, 200, -32603, &Value::Null)),
        (J, 2, |_| plain(500, "Traceback")),
        (OLD, 2, |_| plain(422, "this speaks 2024-11-05 alone")),
    ];
    for (takes, asked, refusal) in cases {
        let fake = picky(takes, refusal).await;
        let endpoint = Arc::new(endpoint(1, at(&fake.url)));
        let upstreams = upstreams();
        let profile = upstreams.probe(&endpoint, &identity()).await.unwrap();
        assert_eq!(profile.revisions, [takes].into_iter().collect());
        assert_eq!(fake.count("initialize"), asked, "{takes}");
        upstreams
            .request(&endpoint, &identity(), list(takes))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_refusal_of_every_revision_is_reported_as_the_first_one() {
    let fake = picky(Revision::V2026_07_28, |seen| {
        fault(seen, 200, -32602, &json!({"requested": 1}))
    })
    .await;
    let endpoint = Arc::new(endpoint(1, at(&fake.url)));
    let error = upstreams().probe(&endpoint, &identity()).await.unwrap_err();
    assert_eq!(error.rpc.unwrap().code, -32602);
    assert_eq!(fake.count("initialize"), 3, "once in each");
}

#[tokio::test]
async fn a_pinned_revision_is_not_bargained_for() {
    let fake = picky(J, |_| plain(400, "no")).await;
    let endpoint = Arc::new(Endpoint {
        revision: Some(L),
        ..endpoint(1, at(&fake.url))
    });
    upstreams().probe(&endpoint, &identity()).await.unwrap_err();
    assert_eq!(fake.count("initialize"), 1);
}

#[tokio::test]
async fn a_revision_that_nobody_knows_is_named() {
    let fake = FakeHttpProvider::start(|seen, before| match seen.method() {
        "initialize" => result(
            seen,
            &json!({"protocolVersion": "2023-01-01", "capabilities": {}}),
        ),
        _ => legacy(seen, before, |seen| result(seen, &tools())),
    })
    .await;
    let endpoint = Arc::new(endpoint(1, at(&fake.url)));
    let error = upstreams().probe(&endpoint, &identity()).await.unwrap_err();
    assert!(error.message.contains("`2023-01-01`"), "{error}");
}
