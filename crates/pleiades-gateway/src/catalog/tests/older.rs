use super::*;
use pleiades_mcp::{Revision, Revisions};

const L: Revision = Revision::V2025_11_25;
const M: Revision = Revision::V2026_07_28;

/// A provider that names 2026-07-28 alone and speaks 2025-11-25 too, listed; `coy`: it does not answer
/// whether it does.
async fn modern(coy: bool) -> Bench {
    let bench = Bench::new().with("one");
    bench.fake.set("one", |one| {
        one.modern = true;
        one.withholds_older.send_replace(coy);
    });
    let bench = bench.open();
    bench.tools("one").await;
    bench
}

fn spoken(catalogue: &Arc<Catalogue>) -> Revisions {
    catalogue.profile.as_ref().expect("it was reached").revisions
}

impl Bench {
    fn asked(&self) -> usize {
        *self.fake.questions.borrow()
    }

    async fn with_older(&self) -> Revisions {
        let (provider, catalogue) = (self.provider("one"), self.provider("one").live.shared.load_full());
        spoken(&self.catalog().with_older(&provider, &anybody(), catalogue).await)
    }
}

#[tokio::test]
async fn an_older_generation_is_asked_for_when_a_client_of_it_comes_and_then_known() {
    let bench = modern(false).await;
    assert_eq!(bench.asked(), 0);
    assert_eq!(bench.line("one")["eras"], serde_json::json!(["2026-07-28"]));
    for _ in 0..2 {
        assert_eq!(bench.with_older().await, [L, M].into_iter().collect());
    }
    assert_eq!(bench.asked(), 1);
    assert_eq!(
        bench.line("one")["eras"],
        serde_json::json!(["2025-11-25", "2026-07-28"])
    );
    assert_eq!(bench.tools("one").await, ["one_tool"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_does_not_wait_long_for_the_answer_and_the_next_has_it() {
    let bench = modern(true).await;
    let began = tokio::time::Instant::now();
    assert_eq!(bench.with_older().await, [M].into_iter().collect());
    assert_eq!(began.elapsed().as_secs(), 2);
    bench.fake.set("one", |one| {
        one.withholds_older.send_replace(false);
    });
    assert_eq!(bench.with_older().await, [L, M].into_iter().collect());
    assert_eq!(bench.asked(), 1, "one question, whoever waits for it");
}

#[tokio::test(start_paused = true)]
async fn the_relay_waits_for_the_answer_as_long_as_for_a_call() {
    let bench = modern(true).await;
    let provider = bench.provider("one");
    let catalogue = provider.live.shared.load_full();
    let limit = provider.endpoint.connect + provider.endpoint.call;
    let began = tokio::time::Instant::now();
    let nobody = anybody();
    let waiting = bench.catalog().shared_with_older(&provider, &nobody, catalogue);
    assert_eq!(spoken(&waiting.await), [M].into_iter().collect());
    assert_eq!(began.elapsed().as_secs(), limit.as_secs());
}

#[tokio::test]
async fn a_probe_anew_asks_at_once_what_spoke_an_older_revision_before() {
    let bench = modern(false).await;
    assert_eq!(bench.with_older().await, [L, M].into_iter().collect());
    let provider = bench.provider("one");
    let mut ended = provider.live.shared.watch();
    let error = pleiades_core::error::Error::new(pleiades_core::error::Code::UpstreamUnreachable, "refused");
    bench.catalog().report_call(&provider, Err(&error));
    soon(ended.changed()).await.expect("an attempt ends");
    assert_eq!(bench.fake.probed("one"), 2);
    let lists = provider.live.shared.load_full();
    assert_eq!(spoken(&lists), [L, M].into_iter().collect(), "asked at once");
    assert_eq!(bench.asked(), 2);
}
