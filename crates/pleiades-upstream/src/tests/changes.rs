use http::{Method, StatusCode};

use super::fake::{FakeHttpProvider, legacy, modern, status, stream};
use super::*;

fn changed() -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
}

#[tokio::test]
async fn a_legacy_provider_announces_changes_on_the_stream_of_its_session() {
    let fake = FakeHttpProvider::start(|seen, before| {
        legacy(seen, before, |seen| {
            assert_eq!(
                (&seen.verb, seen.header("accept")),
                (&Method::GET, "text/event-stream")
            );
            stream(&[changed()], true)
        })
    })
    .await;
    let (upstreams, endpoint, identity) = (upstreams(), Arc::new(endpoint(1, at(&fake.url))), identity());
    let profile = upstreams.probe(&endpoint, &identity).await.unwrap();
    let mut changes = upstreams.watch_lists(&endpoint, &identity, &profile);
    assert_eq!(soon(changes.recv()).await, Some(ProviderChange::Tools));
}

#[tokio::test]
async fn a_stream_that_ends_is_lost_and_opened_again() {
    let fake =
        FakeHttpProvider::start(|seen, before| legacy(seen, before, |_| stream(&[changed()], before > 0)))
            .await;
    let (upstreams, endpoint, identity) = (upstreams(), Arc::new(endpoint(1, at(&fake.url))), identity());
    let profile = upstreams.probe(&endpoint, &identity).await.unwrap();
    let mut changes = upstreams.watch_lists(&endpoint, &identity, &profile);
    for expected in [ProviderChange::Tools, ProviderChange::Lost, ProviderChange::Tools] {
        assert_eq!(soon(changes.recv()).await, Some(expected));
    }
}

#[tokio::test]
async fn a_modern_provider_is_subscribed_to() {
    let fake = FakeHttpProvider::start(|seen, _| {
        modern(seen, |seen| {
            assert_eq!(
                seen.body["params"]["notifications"],
                json!({"toolsListChanged": true})
            );
            stream(&[changed()], true)
        })
    })
    .await;
    let (upstreams, endpoint, identity) = (upstreams(), Arc::new(endpoint(1, at(&fake.url))), identity());
    let profile = upstreams.probe(&endpoint, &identity).await.unwrap();
    let mut changes = upstreams.watch_lists(&endpoint, &identity, &profile);
    assert_eq!(soon(changes.recv()).await, Some(ProviderChange::Tools));
    assert_eq!(fake.count("subscriptions/listen"), 1);
}

#[tokio::test]
async fn a_provider_that_offers_no_stream_closes_the_channel() {
    let fake = FakeHttpProvider::start(|seen, before| {
        legacy(seen, before, |_| status(StatusCode::METHOD_NOT_ALLOWED))
    })
    .await;
    let (upstreams, endpoint, identity) = (upstreams(), Arc::new(endpoint(1, at(&fake.url))), identity());
    let mut profile = upstreams.probe(&endpoint, &identity).await.unwrap();
    let mut changes = upstreams.watch_lists(&endpoint, &identity, &profile);
    assert_eq!(soon(changes.recv()).await, None);
    profile.capabilities = raw(&json!({"tools": {}}));
    assert_eq!(
        soon(upstreams.watch_lists(&endpoint, &identity, &profile).recv()).await,
        None
    );
}
