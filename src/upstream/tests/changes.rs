use http::{Method, StatusCode};

use super::fake::{Fake, legacy, modern, status, stream};
use super::*;

fn changed() -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
}

#[tokio::test]
async fn a_legacy_provider_announces_changes_on_the_stream_of_its_session() {
    let fake = Fake::start(|seen, before| {
        legacy(seen, before, |seen| {
            assert_eq!(
                (&seen.verb, seen.header("accept")),
                (&Method::GET, "text/event-stream")
            );
            stream(&[changed()], true)
        })
    })
    .await;
    let (upstreams, endpoint, behalf) = (upstreams(), Arc::new(endpoint(1, at(&fake.url))), behalf());
    let profile = upstreams.probe(&endpoint, &behalf).await.unwrap();
    let mut changes = upstreams.listen(&endpoint, &behalf, &profile);
    assert_eq!(soon(changes.recv()).await, Some(Change::Tools));
}

#[tokio::test]
async fn a_stream_that_ends_is_lost_and_opened_again() {
    let fake = Fake::start(|seen, before| legacy(seen, before, |_| stream(&[changed()], before > 0))).await;
    let (upstreams, endpoint, behalf) = (upstreams(), Arc::new(endpoint(1, at(&fake.url))), behalf());
    let profile = upstreams.probe(&endpoint, &behalf).await.unwrap();
    let mut changes = upstreams.listen(&endpoint, &behalf, &profile);
    for expected in [Change::Tools, Change::Lost, Change::Tools] {
        assert_eq!(soon(changes.recv()).await, Some(expected));
    }
}

#[tokio::test]
async fn a_modern_provider_is_subscribed_to() {
    let fake = Fake::start(|seen, _| {
        modern(seen, |seen| {
            assert_eq!(
                seen.body["params"]["notifications"],
                json!({"toolsListChanged": true})
            );
            stream(&[changed()], true)
        })
    })
    .await;
    let (upstreams, endpoint, behalf) = (upstreams(), Arc::new(endpoint(1, at(&fake.url))), behalf());
    let profile = upstreams.probe(&endpoint, &behalf).await.unwrap();
    let mut changes = upstreams.listen(&endpoint, &behalf, &profile);
    assert_eq!(soon(changes.recv()).await, Some(Change::Tools));
    assert_eq!(fake.count("subscriptions/listen"), 1);
}

#[tokio::test]
async fn a_provider_that_offers_no_stream_closes_the_channel() {
    let fake =
        Fake::start(|seen, before| legacy(seen, before, |_| status(StatusCode::METHOD_NOT_ALLOWED))).await;
    let (upstreams, endpoint, behalf) = (upstreams(), Arc::new(endpoint(1, at(&fake.url))), behalf());
    let mut profile = upstreams.probe(&endpoint, &behalf).await.unwrap();
    let mut changes = upstreams.listen(&endpoint, &behalf, &profile);
    assert_eq!(soon(changes.recv()).await, None);
    profile.capabilities = raw(&json!({"tools": {}}));
    assert_eq!(
        soon(upstreams.listen(&endpoint, &behalf, &profile).recv()).await,
        None
    );
}
