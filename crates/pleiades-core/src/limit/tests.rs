use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use super::*;

/// A clock that stands still until it is moved.
#[derive(Clone, Default)]
struct SteppedClock(Arc<AtomicU64>);

impl SteppedClock {
    fn pass(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_nanos()).unwrap(), SeqCst);
    }

    fn clock(&self) -> MonotonicClock {
        let hand = self.clone();
        MonotonicClock::from_fn(move || Duration::from_nanos(hand.0.load(SeqCst)))
    }
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn rate(per: Per, requests: u32, every: Duration, burst: u32) -> Rate {
    let some = |n| NonZeroU32::new(n).unwrap();
    Rate {
        per,
        requests: some(requests),
        every,
        burst: some(burst),
    }
}

fn gate(rules: Rules) -> (Arc<Gate>, SteppedClock) {
    let hand = SteppedClock::default();
    (Arc::new(Gate::with_clock(&rules, hand.clock())), hand)
}

fn rated(rate: Vec<Rate>) -> (Arc<Gate>, SteppedClock) {
    gate(Rules {
        rate,
        ..Rules::default()
    })
}

fn breaking(failures: u32) -> (Arc<Gate>, SteppedClock) {
    let breaker = Some(BreakerRule {
        failures,
        within: secs(30),
        open_for: secs(15),
    });
    gate(Rules {
        breaker,
        ..Rules::default()
    })
}

/// Calls of one caller that are let in before the first refusal.
fn admitted(gate: &Arc<Gate>, caller: &str) -> usize {
    (0..10_000)
        .take_while(|_| gate.enter(caller, "acme", None, Some("search")).is_ok())
        .count()
}

fn refusal(gate: &Arc<Gate>, caller: &str, tool: Option<&str>) -> LimitRefusal {
    gate.enter(caller, "acme", None, tool).expect_err("refused")
}

#[test]
fn no_rules_let_everything_in() {
    let (gate, _) = gate(Rules::default());
    assert_eq!(admitted(&gate, "a"), 10_000);
    assert_eq!(gate.breaker(), BreakerState::Closed);
}

#[test]
fn a_burst_passes_at_once_and_then_one_each_period_share() {
    let (gate, hand) = rated(vec![rate(Per::Caller, 60, secs(60), 10)]);
    assert_eq!(admitted(&gate, "a"), 10);
    hand.pass(Duration::from_millis(999));
    assert_eq!(admitted(&gate, "a"), 0);
    hand.pass(Duration::from_millis(1));
    assert_eq!(admitted(&gate, "a"), 1);
    hand.pass(secs(3600));
    assert_eq!(
        admitted(&gate, "a"),
        10,
        "an idle bucket holds its burst, no more"
    );
}

#[test]
fn over_a_long_time_exactly_the_quota_passes() {
    let (gate, hand) = rated(vec![rate(Per::Provider, 7, secs(60), 7)]);
    let mut passed = admitted(&gate, "a");
    for _ in 0..600 {
        hand.pass(Duration::from_millis(100));
        passed += admitted(&gate, "a");
    }
    assert_eq!(passed, 7 + 7);
}

#[test]
fn retry_after_is_when_the_next_call_passes_and_not_sooner() {
    let (gate, hand) = rated(vec![rate(Per::Caller, 3, secs(60), 1)]);
    assert_eq!(admitted(&gate, "a"), 1);
    hand.pass(secs(5));
    let refused = refusal(&gate, "a", None);
    assert_eq!(
        refused,
        LimitRefusal {
            rule: Rule::RateCaller,
            retry_after: secs(15)
        }
    );
    hand.pass(refused.retry_after - Duration::from_nanos(1));
    assert_eq!(admitted(&gate, "a"), 0);
    hand.pass(Duration::from_nanos(1));
    assert_eq!(admitted(&gate, "a"), 1);
}

#[test]
fn callers_have_their_own_buckets_and_the_provider_one_for_all() {
    let (gate, _) = rated(vec![
        rate(Per::Caller, 60, secs(60), 3),
        rate(Per::Provider, 60, secs(60), 4),
    ]);
    assert_eq!(admitted(&gate, "a"), 3);
    assert_eq!(admitted(&gate, "b"), 1);
    assert_eq!(refusal(&gate, "b", None).rule, Rule::RateProvider);
}

#[test]
fn a_tool_rule_counts_each_tool_and_ignores_calls_of_none() {
    let (gate, _) = rated(vec![rate(Per::Tool, 60, secs(60), 1)]);
    assert!(gate.enter("a", "acme", None, Some("x")).is_ok());
    assert_eq!(refusal(&gate, "b", Some("x")).rule, Rule::RateTool);
    assert!(gate.enter("a", "acme", None, Some("y")).is_ok());
    assert!((0..50).all(|_| gate.enter("a", "acme", None, None).is_ok()));
}

#[test]
fn a_tenant_rule_is_shared_by_its_callers_alone() {
    let (gate, _) = rated(vec![rate(Per::Tenant, 60, secs(60), 1)]);
    assert!(gate.enter("a", "acme", None, None).is_ok());
    assert_eq!(
        gate.enter("b", "acme", None, None).unwrap_err().rule,
        Rule::RateTenant
    );
    assert!(gate.enter("b", "umbrella", None, None).is_ok());
}

#[test]
fn a_refused_call_charges_no_other_rule() {
    let (gate, hand) = rated(vec![
        rate(Per::Provider, 60, secs(60), 5),
        rate(Per::Caller, 1, secs(60), 1),
    ]);
    assert_eq!(admitted(&gate, "a"), 1);
    assert!((0..100).all(|_| refusal(&gate, "a", None).rule == Rule::RateCaller));
    assert_eq!(
        ["b", "c", "d", "e", "f"]
            .iter()
            .filter(|one| gate.enter(one, "acme", None, None).is_ok())
            .count(),
        4
    );
    hand.pass(secs(1));
    assert!(
        gate.enter("f", "acme", None, None).is_ok(),
        "the refused try of f did not empty its bucket"
    );
}

#[test]
fn of_several_refusals_the_longest_wait_counts() {
    let (gate, _) = rated(vec![
        rate(Per::Caller, 1, secs(10), 1),
        rate(Per::Provider, 1, secs(60), 1),
    ]);
    assert_eq!(admitted(&gate, "a"), 1);
    assert_eq!(
        refusal(&gate, "a", None),
        LimitRefusal {
            rule: Rule::RateProvider,
            retry_after: secs(60)
        }
    );
}

#[test]
fn the_largest_rule_a_descriptor_may_state_neither_overflows_nor_refuses() {
    let (gate, _) = rated(vec![
        rate(Per::Provider, u32::MAX, secs(1), u32::MAX),
        rate(Per::Caller, 1, secs(86_400), u32::MAX),
    ]);
    assert_eq!(admitted(&gate, "a"), 10_000);
}

#[test]
fn keys_of_full_buckets_are_forgotten() {
    let (gate, hand) = rated(vec![rate(Per::Caller, 60, secs(60), 1)]);
    for round in 0..20 {
        for caller in 0..1000 {
            assert!(
                gate.enter(&format!("{round}/{caller}"), "acme", None, None)
                    .is_ok()
            );
        }
        hand.pass(secs(10));
    }
    let kept = gate.rates[0].len();
    assert!(kept < 3000, "{kept} keys are remembered");
}

#[test]
fn a_flood_of_keys_stays_bounded_and_limited() {
    let (gate, _) = rated(vec![rate(Per::Caller, 1, secs(86_400), 1)]);
    let passed = (0..400_000)
        .filter(|n| gate.enter(&n.to_string(), "acme", None, None).is_ok())
        .count();
    let kept = gate.rates[0].len();
    assert!(kept <= (1 << 17) + (1 << 14), "{kept} keys are remembered");
    assert_eq!(passed, kept);
}

#[test]
fn concurrency_counts_calls_that_run() {
    let (gate, _) = gate(Rules {
        concurrency: Some(2),
        ..Rules::default()
    });
    let first = gate.enter("a", "acme", None, None).unwrap();
    let second = gate.enter("b", "acme", None, None).unwrap();
    assert_eq!(refusal(&gate, "c", None).rule, Rule::Concurrency);
    drop(first);
    let third = gate.enter("c", "acme", None, None).unwrap();
    assert_eq!(refusal(&gate, "c", None).rule, Rule::Concurrency);
    second.succeeded();
    third.failed();
    assert!(gate.enter("c", "acme", None, None).is_ok());
}

#[test]
fn a_call_refused_for_concurrency_is_not_charged_to_its_rate() {
    let (gate, _) = gate(Rules {
        rate: vec![rate(Per::Caller, 1, secs(60), 2)],
        concurrency: Some(1),
        breaker: None,
    });
    let running = gate.enter("a", "acme", None, None).unwrap();
    assert_eq!(refusal(&gate, "a", None).rule, Rule::Concurrency);
    drop(running);
    assert!(gate.enter("a", "acme", None, None).is_ok());
    assert_eq!(refusal(&gate, "a", None).rule, Rule::RateCaller);
}

#[test]
fn the_breaker_opens_after_its_failures_and_says_how_long() {
    let (gate, hand) = breaking(3);
    for _ in 0..2 {
        gate.enter("a", "acme", None, None).unwrap().failed();
    }
    assert_eq!(gate.breaker(), BreakerState::Closed);
    gate.enter("a", "acme", None, None).unwrap().failed();
    assert_eq!(gate.breaker(), BreakerState::Open);
    hand.pass(secs(4));
    assert_eq!(
        refusal(&gate, "a", None),
        LimitRefusal {
            rule: Rule::Breaker,
            retry_after: secs(11)
        }
    );
}

#[test]
fn failures_older_than_the_window_do_not_count() {
    let (gate, hand) = breaking(3);
    for _ in 0..10 {
        gate.enter("a", "acme", None, None).unwrap().failed();
        hand.pass(secs(16));
    }
    assert_eq!(gate.breaker(), BreakerState::Closed);
}

#[test]
fn after_its_time_exactly_one_probe_passes_and_its_success_closes() {
    let (gate, hand) = breaking(1);
    gate.enter("a", "acme", None, None).unwrap().failed();
    hand.pass(secs(15));
    assert_eq!(gate.breaker(), BreakerState::HalfOpen);
    let probe = gate.enter("a", "acme", None, None).unwrap();
    assert_eq!(refusal(&gate, "b", None).rule, Rule::Breaker);
    assert_eq!(gate.breaker(), BreakerState::HalfOpen);
    probe.succeeded();
    assert_eq!(gate.breaker(), BreakerState::Closed);
    assert_eq!(admitted(&gate, "b"), 10_000);
}

#[test]
fn a_failed_probe_opens_for_the_whole_time_again() {
    let (gate, hand) = breaking(1);
    gate.enter("a", "acme", None, None).unwrap().failed();
    hand.pass(secs(15));
    gate.enter("a", "acme", None, None).unwrap().failed();
    assert_eq!(
        refusal(&gate, "a", None),
        LimitRefusal {
            rule: Rule::Breaker,
            retry_after: secs(15)
        }
    );
}

#[test]
fn a_probe_dropped_without_a_verdict_lets_another_try() {
    let (gate, hand) = breaking(1);
    gate.enter("a", "acme", None, None).unwrap().failed();
    hand.pass(secs(15));
    drop(gate.enter("a", "acme", None, None).unwrap());
    assert_eq!(gate.breaker(), BreakerState::HalfOpen);
    let probe = gate.enter("b", "acme", None, None).unwrap();
    assert_eq!(refusal(&gate, "c", None).rule, Rule::Breaker);
    probe.succeeded();
    assert_eq!(gate.breaker(), BreakerState::Closed);
}

#[test]
fn a_probe_refused_for_concurrency_lets_another_try() {
    let (gate, hand) = gate(Rules {
        rate: Vec::new(),
        concurrency: Some(1),
        breaker: Some(BreakerRule {
            failures: 1,
            within: secs(30),
            open_for: secs(15),
        }),
    });
    gate.enter("a", "acme", None, None).unwrap().failed();
    hand.pass(secs(15));
    gate.running.store(1, SeqCst);
    assert_eq!(refusal(&gate, "a", None).rule, Rule::Concurrency);
    gate.running.store(0, SeqCst);
    gate.enter("a", "acme", None, None).unwrap().succeeded();
    assert_eq!(gate.breaker(), BreakerState::Closed);
}

#[test]
fn calls_from_before_it_opened_decide_nothing_after() {
    let (gate, hand) = breaking(1);
    let [good, bad] = [(); 2].map(|()| gate.enter("a", "acme", None, None).unwrap());
    gate.enter("a", "acme", None, None).unwrap().failed();
    hand.pass(secs(10));
    good.succeeded();
    bad.failed();
    assert_eq!(refusal(&gate, "a", None).retry_after, secs(5));
}

#[test]
fn many_threads_get_exactly_the_burst_and_never_exceed_the_slots() {
    let (gate, _) = rated(vec![rate(Per::Provider, 1, secs(86_400), 500)]);
    let passed = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mine = (0..1000)
                    .filter(|_| gate.enter("a", "acme", None, None).is_ok())
                    .count();
                passed.fetch_add(u32::try_from(mine).unwrap(), SeqCst);
            });
        }
    });
    assert_eq!(passed.load(SeqCst), 500);
}
