//! What a provider wants of those who bring nothing.

use super::*;
use pleiades_core::error::Code;
use pleiades_core::web::Prober;
use pleiades_credential::oauth::Challenge;

const HEADER: &str = "Bearer scope=\"read\", resource_metadata=\"https://one.example/prm\"";
const OAUTH: &str = r#", "auth": {"oauth": {}}"#;

async fn challenge(bench: &Bench, id: &str) -> Option<Challenge> {
    soon(Prober::challenge(&**bench.catalog(), id)).await
}

fn bench(wants: Option<(&'static str, &'static str)>) -> Bench {
    let bench = Bench::new();
    bench.write("one", OAUTH);
    bench.fake.set("one", |faked| faked.wants = wants);
    bench.open()
}

#[tokio::test]
async fn a_closed_provider_says_what_it_wants() {
    let bench = bench(Some((HEADER, "server/discover")));
    let expected = Challenge {
        status: 401,
        resource_metadata: Some("https://one.example/prm".to_owned()),
        scopes: Some(vec!["read".to_owned()]),
        error: None,
        description: None,
    };
    assert_eq!(challenge(&bench, "one").await, Some(expected));
}

#[tokio::test]
async fn one_that_lets_anybody_in_may_still_want_it_for_its_tools() {
    let bench = bench(Some((HEADER, "tools/list")));
    let found = challenge(&bench, "one").await.expect("it is refused");
    assert_eq!(found.scopes, Some(vec!["read".to_owned()]));
}

#[tokio::test]
async fn an_open_a_dead_and_an_unknown_provider_say_nothing() {
    let bench = bench(None);
    assert_eq!(challenge(&bench, "one").await, None);
    bench
        .fake
        .set("one", |faked| faked.down = Some(Code::UpstreamUnreachable));
    assert_eq!(challenge(&bench, "one").await, None);
    assert_eq!(challenge(&bench, "two").await, None);
}

#[tokio::test]
async fn asking_changes_nothing_that_is_known() {
    let bench = bench(Some((HEADER, "tools/list")));
    let before = bench.line("one");
    challenge(&bench, "one").await;
    assert_eq!(bench.line("one"), before);
    let provider = bench.provider("one");
    assert!(
        matches!(provider.state().0, State::Starting | State::NeedsAuth),
        "{:?}",
        provider.state()
    );
}
