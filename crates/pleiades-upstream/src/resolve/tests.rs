use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

const SOON: Duration = Duration::from_secs(10);
const HOST: Host<&str> = Host::Domain("provider.test");

/// Answers the n-th look-up with the n-th list, `None` being a failure; the last one repeats.
fn resolver(answers: Vec<Option<Vec<&'static str>>>) -> (Resolver, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let resolver = Resolver::with_lookup(Handle::current(), move |_| {
        let at = counted.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
        let answer = answers[at].clone();
        Box::pin(async move {
            let found = answer.ok_or_else(|| io::Error::other("no such name"))?;
            Ok(found.iter().map(|text| text.parse().unwrap()).collect())
        })
    });
    (resolver, asked)
}

async fn ask(resolver: &Resolver, permit: Permit, at: Instant) -> Result<String, Code> {
    let found = resolver.resolve_at((&HOST, 443), permit, SOON, at).await;
    found
        .map(|found| format!("{found:?}"))
        .map_err(|error| error.code)
}

#[tokio::test]
async fn a_name_that_turns_private_after_it_was_public_is_refused() {
    let (resolver, _) = resolver(vec![Some(vec!["1.1.1.1"]), Some(vec!["10.0.0.1"])]);
    let start = Instant::now();
    assert_eq!(
        ask(&resolver, Permit::default(), start).await.unwrap(),
        "[1.1.1.1:443]"
    );
    let later = start + STALE;
    let refused = ask(&resolver, Permit::default(), later).await;
    assert_eq!(refused, Err(Code::UpstreamUnreachable));
    let permit = Permit {
        private: true,
        loopback: false,
    };
    assert_eq!(ask(&resolver, permit, later).await.unwrap(), "[10.0.0.1:443]");
}

#[tokio::test]
async fn of_mixed_addresses_only_the_permitted_ones_are_returned() {
    let (resolver, _) = resolver(vec![Some(vec!["10.0.0.1", "1.1.1.1", "::1"])]);
    let now = Instant::now();
    assert_eq!(
        ask(&resolver, Permit::default(), now).await.unwrap(),
        "[1.1.1.1:443]"
    );
    let permit = Permit {
        private: false,
        loopback: true,
    };
    assert_eq!(
        ask(&resolver, permit, now).await.unwrap(),
        "[1.1.1.1:443, [::1]:443]"
    );
}

#[tokio::test]
async fn a_fresh_answer_is_not_asked_for_again() {
    let (resolver, asked) = resolver(vec![Some(vec!["1.1.1.1"])]);
    let now = Instant::now();
    for _ in 0..5 {
        ask(&resolver, Permit::default(), now).await.unwrap();
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn many_who_ask_at_once_share_one_look_up() {
    let (resolver, asked) = resolver(vec![Some(vec!["1.1.1.1"])]);
    let now = Instant::now();
    let all = (0..20).map(|_| ask(&resolver, Permit::default(), now));
    assert!(
        futures_util::future::join_all(all)
            .await
            .iter()
            .all(Result::is_ok)
    );
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_last_good_answer_serves_while_dns_fails() {
    let (resolver, _) = resolver(vec![Some(vec!["1.1.1.1"]), None]);
    let start = Instant::now();
    ask(&resolver, Permit::default(), start).await.unwrap();
    let later = start + STALE * 10;
    assert_eq!(
        ask(&resolver, Permit::default(), later).await.unwrap(),
        "[1.1.1.1:443]"
    );
    assert_eq!(
        ask(&resolver, Permit::default(), later).await.unwrap(),
        "[1.1.1.1:443]"
    );
}

#[tokio::test]
async fn a_dead_name_is_not_asked_for_at_request_rate() {
    let (resolver, asked) = resolver(vec![None]);
    let now = Instant::now();
    for _ in 0..5 {
        assert_eq!(
            ask(&resolver, Permit::default(), now).await,
            Err(Code::UpstreamUnreachable)
        );
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert!(ask(&resolver, Permit::default(), now + FAILED).await.is_err());
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_resolver_that_hangs_holds_nobody_longer_than_asked() {
    let resolver = Resolver::with_lookup(Handle::current(), |_| Box::pin(std::future::pending()));
    let found = resolver
        .resolve(&HOST, 443, Permit::default(), Duration::ZERO)
        .await;
    assert_eq!(found.unwrap_err().code, Code::UpstreamTimeout);
}

#[tokio::test]
async fn literals_are_checked_without_a_look_up() {
    let (resolver, asked) = resolver(vec![None]);
    let metadata = Host::Ipv4("169.254.169.254".parse().unwrap());
    let refused = resolver
        .resolve(&metadata, 80, Permit::default(), SOON)
        .await
        .unwrap_err();
    assert!(!refused.message.contains("169"), "{}", refused.message);
    let public = Host::Ipv4("1.1.1.1".parse().unwrap());
    assert!(
        resolver
            .resolve(&public, 80, Permit::default(), SOON)
            .await
            .is_ok()
    );
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn the_cache_is_bounded() {
    let (resolver, _) = resolver(vec![None]);
    let now = Instant::now();
    for port in 0..u16::try_from(NAMES + 10).unwrap() {
        drop(
            resolver
                .inner
                .cached("provider.test", port, now + Duration::from_millis(port.into())),
        );
    }
    assert!(resolver.inner.names.lock().len() <= NAMES);
}
