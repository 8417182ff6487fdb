//! The rules, one by one; `model` checks them all under everything that may go wrong.

mod model;

use std::sync::Arc;

use super::{
    Effect, FinalState, LeaseFacts, LeaseWatch, RecordFacts, RefreshEvent, RefreshTrigger, StateMachine, TTL,
    TokenOutcome, renewed,
};
use crate::oauth::TokenResponse;
use crate::record::{AccountRecord, EndReason};
use pleiades_core::secret::Secret;

const TRANSIENT: TokenOutcome = TokenOutcome::Transient {
    uncertain: false,
    after: None,
};

/// A state machine, and the clock and leases that it is driven with.
struct TestRun {
    machine: StateMachine,
    watch: LeaseWatch,
    now: u64,
}

impl TestRun {
    fn new(trigger: RefreshTrigger) -> Self {
        Self {
            machine: StateMachine::new(trigger, 3, "us".into()),
            watch: LeaseWatch::default(),
            now: 0,
        }
    }

    fn due() -> Self {
        Self::new(RefreshTrigger::Due)
    }

    fn send(&mut self, event: RefreshEvent) -> Effect {
        self.machine.advance(event, self.now, &mut self.watch)
    }

    fn read(&mut self, facts: RecordFacts) -> Effect {
        self.send(RefreshEvent::Read(Some(facts)))
    }

    /// Up to the lease that is ours.
    fn claimed(mut self) -> Self {
        assert_eq!(self.send(RefreshEvent::Woke), Effect::Read);
        assert!(matches!(
            self.read(facts()),
            Effect::Claim {
                version: 1,
                replay: false,
                ..
            }
        ));
        assert_eq!(self.send(RefreshEvent::Wrote(2)), Effect::Redeem);
        self
    }
}

fn facts() -> RecordFacts {
    RecordFacts {
        version: 1,
        grant: "one".into(),
        seq: 4,
        lease: None,
        redeemable: true,
        ended: None,
        due: true,
        expired: false,
        ours: false,
    }
}

fn under(nonce: &str, replay: bool) -> RecordFacts {
    let lease = Some(LeaseFacts {
        nonce: nonce.into(),
        ttl: TTL,
        replay,
    });
    RecordFacts {
        version: 2,
        lease,
        ..facts()
    }
}

fn at(version: u64, seq: u64) -> RecordFacts {
    RecordFacts {
        version,
        seq,
        ..facts()
    }
}

#[test]
fn nothing_is_redeemed_that_is_not_due() {
    let mut run = TestRun::due();
    run.send(RefreshEvent::Woke);
    let early = RecordFacts {
        due: false,
        ..facts()
    };
    assert_eq!(run.read(early.clone()), Effect::Done(FinalState::NotDue));
    let mut forced = TestRun::new(RefreshTrigger::Forced);
    assert!(matches!(forced.read(early), Effect::Claim { .. }));
}

#[test]
fn nothing_is_redeemed_without_a_lease_that_stands() {
    let mut run = TestRun::due();
    assert!(matches!(run.read(facts()), Effect::Claim { .. }));
    assert_eq!(run.send(RefreshEvent::Conflict), Effect::Read);
    assert!(matches!(run.read(under("them", false)), Effect::Wait(_)));
}

#[test]
fn nothing_is_redeemed_without_time_left() {
    let mut run = TestRun::due();
    assert!(matches!(run.read(facts()), Effect::Claim { .. }));
    run.now = TTL;
    let again = run.send(RefreshEvent::Wrote(2));
    assert!(
        matches!(
            again,
            Effect::Claim {
                version: 2,
                replay: false,
                ..
            }
        ),
        "{again:?}"
    );
    assert_eq!(run.send(RefreshEvent::Wrote(3)), Effect::Redeem);
}

#[test]
fn losers_wait_and_read_again() {
    let mut run = TestRun::due();
    let Effect::Wait(pause) = run.read(under("them", false)) else {
        panic!("no wait");
    };
    run.now += pause;
    assert_eq!(run.send(RefreshEvent::Woke), Effect::Read);
    assert_eq!(
        run.read(at(3, 5)),
        Effect::Done(FinalState::Newer { raced: true })
    );
}

#[test]
fn a_lease_is_dead_one_full_ttl_after_this_process_first_saw_it() {
    let mut run = TestRun::due();
    run.now = 7_000_000;
    assert!(matches!(run.read(under("them", false)), Effect::Wait(_)));
    run.now += TTL - 1;
    assert!(matches!(run.read(under("them", false)), Effect::Wait(1)));
    run.now += 1;
    assert!(matches!(
        run.read(under("them", false)),
        Effect::Claim { replay: true, .. }
    ));
}

#[test]
fn a_new_nonce_is_a_new_lease() {
    let mut run = TestRun::due();
    run.read(under("them", false));
    run.now += TTL;
    assert!(matches!(run.read(under("others", false)), Effect::Wait(_)));
}

#[test]
fn new_tokens_are_stored_before_anything_else() {
    let mut run = TestRun::due().claimed();
    assert_eq!(
        run.send(RefreshEvent::Answered(TokenOutcome::Issued)),
        Effect::Store { version: 2 }
    );
    assert_eq!(
        run.send(RefreshEvent::Wrote(3)),
        Effect::Done(FinalState::Refreshed)
    );
}

#[test]
fn tokens_in_hand_are_stored_however_long_the_store_is_away() {
    let mut run = TestRun::due().claimed();
    run.send(RefreshEvent::Answered(TokenOutcome::Issued));
    for _ in 0..100 {
        assert!(matches!(run.send(RefreshEvent::Failed), Effect::Wait(1..=5_000)));
        run.now += 5_000;
        assert_eq!(run.send(RefreshEvent::Woke), Effect::Read);
    }
    assert_eq!(
        run.send(RefreshEvent::Stop),
        Effect::Read,
        "not even the end of the process"
    );
    assert_eq!(run.read(at(9, 4)), Effect::Store { version: 9 });
}

#[test]
fn a_write_that_seemed_to_fail_and_stands_is_a_success() {
    let mut run = TestRun::due().claimed();
    run.send(RefreshEvent::Answered(TokenOutcome::Issued));
    run.send(RefreshEvent::Failed);
    run.send(RefreshEvent::Woke);
    let ours = RecordFacts {
        ours: true,
        ..at(3, 5)
    };
    assert_eq!(run.read(ours), Effect::Done(FinalState::Refreshed));
}

#[test]
fn after_a_conflict_the_tokens_are_written_unless_seq_or_grant_went_on() {
    let stored = |facts| {
        let mut run = TestRun::due().claimed();
        run.send(RefreshEvent::Answered(TokenOutcome::Issued));
        assert_eq!(run.send(RefreshEvent::Conflict), Effect::Read);
        run.read(facts)
    };
    assert_eq!(stored(at(7, 4)), Effect::Store { version: 7 });
    assert_eq!(stored(at(7, 5)), Effect::Done(FinalState::Newer { raced: true }));
    let reconnected = RecordFacts {
        grant: "two".into(),
        seq: 1,
        ..facts()
    };
    assert_eq!(
        stored(reconnected),
        Effect::Done(FinalState::Newer { raced: true })
    );
    let interrupted = RecordFacts {
        ended: Some(EndReason::Interrupted),
        ..at(7, 4)
    };
    assert_eq!(
        stored(interrupted),
        Effect::Store { version: 7 },
        "good tokens mend it"
    );
}

#[test]
fn an_account_revoked_meanwhile_stays_revoked() {
    let mut run = TestRun::due().claimed();
    run.send(RefreshEvent::Answered(TokenOutcome::Issued));
    run.send(RefreshEvent::Conflict);
    assert_eq!(run.send(RefreshEvent::Read(None)), Effect::Done(FinalState::Gone));
}

#[test]
fn a_reconnect_always_wins() {
    let mut run = TestRun::due();
    run.read(under("them", false));
    let reconnected = RecordFacts {
        grant: "two".into(),
        seq: 1,
        due: false,
        ..facts()
    };
    assert_eq!(
        run.read(reconnected),
        Effect::Done(FinalState::Newer { raced: true })
    );
}

#[test]
fn an_interrupted_redemption_is_replayed_once() {
    let mut run = TestRun::due();
    run.read(under("them", true));
    run.now += TTL;
    let end = Effect::End {
        version: 2,
        ended: EndReason::Interrupted,
    };
    assert_eq!(run.read(under("them", true)), end);
    assert_eq!(
        run.send(RefreshEvent::Wrote(3)),
        Effect::Done(FinalState::Ended(EndReason::Interrupted))
    );
}

#[test]
fn a_replay_that_is_refused_was_interrupted() {
    let mut run = TestRun::due();
    run.read(under("them", false));
    run.now += TTL;
    let Effect::Claim {
        nonce, replay: true, ..
    } = run.read(under("them", false))
    else {
        panic!("no replay");
    };
    assert_eq!(run.send(RefreshEvent::Wrote(3)), Effect::Redeem);
    assert_eq!(
        run.send(RefreshEvent::Answered(TokenOutcome::Terminal)),
        Effect::Read
    );
    let ours = under(&nonce, true);
    let end = Effect::End {
        version: 2,
        ended: EndReason::Interrupted,
    };
    assert_eq!(run.read(ours), end);
}

#[test]
fn only_a_terminal_error_for_the_set_we_sent_needs_a_person() {
    let refused = |facts| {
        let mut run = TestRun::due().claimed();
        assert_eq!(
            run.send(RefreshEvent::Answered(TokenOutcome::Terminal)),
            Effect::Read
        );
        run.read(facts)
    };
    let end = Effect::End {
        version: 2,
        ended: EndReason::Refused,
    };
    assert_eq!(refused(under("us-1", false)), end);
    assert_eq!(refused(at(3, 5)), Effect::Done(FinalState::Newer { raced: true }));
    let other = refused(under("them", true));
    assert!(
        matches!(other, Effect::Wait(_)),
        "somebody replays it, and may have used it up: {other:?}"
    );
}

#[test]
fn transient_is_not_terminal() {
    let mut run = TestRun::due().claimed();
    for _ in 0..2 {
        let Effect::Wait(pause) = run.send(RefreshEvent::Answered(TRANSIENT)) else {
            panic!("no further attempt");
        };
        run.now += pause;
        assert_eq!(run.send(RefreshEvent::Woke), Effect::Redeem);
    }
    assert_eq!(
        run.send(RefreshEvent::Answered(TRANSIENT)),
        Effect::Fail {
            version: 2,
            replay: false,
            refused: false,
        }
    );
    let failed = FinalState::Failed { after: None };
    assert_eq!(run.send(RefreshEvent::Wrote(3)), Effect::Done(failed));
}

#[test]
fn a_refusal_that_nobody_knows_ends_the_round_is_written_down_and_leaves_the_grant() {
    let mut run = TestRun::due().claimed();
    let refused = |version| Effect::Fail {
        version,
        replay: false,
        refused: true,
    };
    let answer = TokenOutcome::Refused { uncertain: false };
    assert_eq!(run.send(RefreshEvent::Answered(answer)), refused(2));
    assert_eq!(run.send(RefreshEvent::Conflict), Effect::Read);
    let ours = RecordFacts {
        version: 7,
        ..under("us-1", false)
    };
    assert_eq!(run.read(ours), refused(7));
    assert_eq!(
        run.send(RefreshEvent::Wrote(8)),
        Effect::Done(FinalState::Refused)
    );
}

#[test]
fn a_refusal_is_not_written_over_a_newer_set_a_reconnect_or_somebody_elses_lease() {
    let after = |facts| {
        let mut run = TestRun::due().claimed();
        run.send(RefreshEvent::Answered(TokenOutcome::Refused { uncertain: false }));
        run.send(RefreshEvent::Conflict);
        run.read(facts)
    };
    let reconnected = RecordFacts {
        grant: "two".into(),
        seq: 1,
        ..facts()
    };
    for facts in [at(3, 5), reconnected, under("them", false)] {
        assert_eq!(
            after(facts.clone()),
            Effect::Done(FinalState::Refused),
            "{facts:?}"
        );
    }
}

#[test]
fn an_answer_that_could_not_be_read_is_asked_for_again_before_it_is_a_refusal() {
    let mut run = TestRun::due().claimed();
    let unread = RefreshEvent::Answered(TokenOutcome::Refused { uncertain: true });
    for _ in 0..2 {
        let Effect::Wait(pause) = run.send(unread.clone()) else {
            panic!("no further attempt");
        };
        run.now += pause;
        assert_eq!(run.send(RefreshEvent::Woke), Effect::Redeem);
    }
    assert!(matches!(run.send(unread), Effect::Fail { refused: true, .. }));
    // What is refused for good then may have been used up by what was not read.
    let mut run = TestRun::due().claimed();
    run.send(RefreshEvent::Answered(TokenOutcome::Refused { uncertain: true }));
    run.now += 1_000;
    assert_eq!(run.send(RefreshEvent::Woke), Effect::Redeem);
    run.send(RefreshEvent::Answered(TokenOutcome::Terminal));
    let end = Effect::End {
        version: 2,
        ended: EndReason::Interrupted,
    };
    assert_eq!(run.read(under("us-1", false)), end);
}

#[test]
fn whoever_wants_to_be_asked_much_later_is_asked_by_another_round() {
    let mut run = TestRun::due().claimed();
    let later = TokenOutcome::Transient {
        uncertain: false,
        after: Some(120_000),
    };
    assert!(matches!(
        run.send(RefreshEvent::Answered(later)),
        Effect::Fail { .. }
    ));
}

#[test]
fn a_lease_that_runs_out_between_attempts_is_asked_for_anew() {
    let mut run = TestRun::due().claimed();
    run.now += 45_000;
    assert!(matches!(
        run.send(RefreshEvent::Answered(TRANSIENT)),
        Effect::Wait(_)
    ));
    assert!(matches!(
        run.send(RefreshEvent::Woke),
        Effect::Claim { version: 2, .. }
    ));
}

#[test]
fn a_401_is_first_looked_at_in_the_store() {
    let why = RefreshTrigger::Refused {
        grant: "one".into(),
        seq: 4,
    };
    let mut newer = TestRun::new(why.clone());
    assert_eq!(newer.send(RefreshEvent::Woke), Effect::Read);
    assert_eq!(
        newer.read(at(2, 5)),
        Effect::Done(FinalState::Newer { raced: false })
    );
    let mut equal = TestRun::new(why);
    let early = RecordFacts {
        due: false,
        ..facts()
    };
    assert!(matches!(equal.read(early), Effect::Claim { .. }));
}

#[test]
fn without_a_refresh_token_an_ended_access_token_needs_a_person() {
    let bare = RecordFacts {
        redeemable: false,
        ..facts()
    };
    assert_eq!(
        TestRun::due().read(bare.clone()),
        Effect::Done(FinalState::NotDue)
    );
    let expired = RecordFacts {
        expired: true,
        ..bare
    };
    let end = Effect::End {
        version: 1,
        ended: EndReason::NoRefresh,
    };
    assert_eq!(TestRun::due().read(expired), end);
}

#[test]
fn a_store_that_does_not_answer_decides_nothing() {
    let mut run = TestRun::due();
    for _ in 0..2 {
        assert_eq!(run.send(RefreshEvent::Woke), Effect::Read);
        assert!(matches!(run.send(RefreshEvent::Failed), Effect::Wait(_)));
    }
    assert_eq!(run.send(RefreshEvent::Woke), Effect::Read);
    assert_eq!(
        run.send(RefreshEvent::Failed),
        Effect::Done(FinalState::StoreDown)
    );
}

#[test]
fn a_claim_that_seemed_to_fail_and_stands_is_ours() {
    let mut run = TestRun::due();
    let Effect::Claim { nonce, .. } = run.read(facts()) else {
        panic!("no claim");
    };
    run.send(RefreshEvent::Failed);
    assert_eq!(run.send(RefreshEvent::Woke), Effect::Read);
    assert_eq!(run.read(under(&nonce, false)), Effect::Redeem);
}

#[test]
fn a_process_that_ends_gives_its_lease_back() {
    let mut run = TestRun::due().claimed();
    assert!(matches!(
        run.send(RefreshEvent::Answered(TRANSIENT)),
        Effect::Wait(_)
    ));
    assert_eq!(
        run.send(RefreshEvent::Stop),
        Effect::Release {
            version: 2,
            replay: false
        }
    );
    assert_eq!(
        run.send(RefreshEvent::Wrote(3)),
        Effect::Done(FinalState::Stopped)
    );
}

#[test]
fn an_omitted_refresh_token_scope_and_life_are_carried_over() {
    let before = record();
    let issued = TokenResponse {
        access: Secret::new("new"),
        refresh: None,
        expires_in: None,
        scopes: None,
        id_token: None,
    };
    let after = renewed(&before, &issued, 5_000);
    assert_eq!(after.seq, before.seq + 1);
    assert_eq!(after.grant_id, before.grant_id);
    assert_eq!(after.granted, before.granted);
    assert_eq!(after.tokens.refresh, before.tokens.refresh);
    assert_eq!(after.tokens.expires_at, Some(5_000 + 3_600));
    assert_eq!((after.failures, after.lease, after.ended), (0, None, None));
}

fn record() -> AccountRecord {
    let mut record = crate::manager::tests::world::record("ann", "refresh", 1_000);
    record.grant_id = "one".to_owned();
    record.failures = 2;
    record.ended = Some(EndReason::Interrupted);
    record
}

#[test]
fn a_watch_knows_one_lease_at_a_time() {
    let mut watch = LeaseWatch::default();
    let (one, two): (Arc<str>, Arc<str>) = ("one".into(), "two".into());
    assert_eq!(watch.age(&one, 5), 0);
    assert_eq!(watch.age(&one, 9), 4);
    assert_eq!(watch.age(&two, 9), 0);
    assert_eq!(watch.age(&one, 9), 0);
}
