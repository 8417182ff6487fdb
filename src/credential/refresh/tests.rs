//! The rules, one by one.

use std::sync::Arc;

use super::{Answer, Claim, Event, Facts, Outcome, Round, Step, TTL, Watch, Why, renewed};
use crate::credential::oauth::Issued;
use crate::credential::record::{Ended, Record};
use crate::secret::Secret;

const TRANSIENT: Answer = Answer::Transient {
    uncertain: false,
    after: None,
};

/// A round and what it is asked with.
struct Told {
    round: Round,
    watch: Watch,
    now: u64,
}

impl Told {
    fn new(why: Why) -> Self {
        Self {
            round: Round::new(why, 3, "us".into()),
            watch: Watch::default(),
            now: 0,
        }
    }

    fn due() -> Self {
        Self::new(Why::Due)
    }

    fn tell(&mut self, event: Event) -> Step {
        self.round.step(event, self.now, &mut self.watch)
    }

    fn read(&mut self, facts: Facts) -> Step {
        self.tell(Event::Read(Some(facts)))
    }

    /// Up to the lease that is ours.
    fn claimed(mut self) -> Self {
        assert_eq!(self.tell(Event::Woke), Step::Read);
        assert!(matches!(
            self.read(facts()),
            Step::Claim {
                version: 1,
                replay: false,
                ..
            }
        ));
        assert_eq!(self.tell(Event::Wrote(2)), Step::Redeem);
        self
    }
}

fn facts() -> Facts {
    Facts {
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

fn under(nonce: &str, replay: bool) -> Facts {
    let lease = Some(Claim {
        nonce: nonce.into(),
        ttl: TTL,
        replay,
    });
    Facts {
        version: 2,
        lease,
        ..facts()
    }
}

fn at(version: u64, seq: u64) -> Facts {
    Facts {
        version,
        seq,
        ..facts()
    }
}

#[test]
fn nothing_is_redeemed_that_is_not_due() {
    let mut told = Told::due();
    told.tell(Event::Woke);
    let early = Facts {
        due: false,
        ..facts()
    };
    assert_eq!(told.read(early.clone()), Step::Done(Outcome::NotDue));
    let mut forced = Told::new(Why::Forced);
    assert!(matches!(forced.read(early), Step::Claim { .. }));
}

#[test]
fn nothing_is_redeemed_without_a_lease_that_stands() {
    let mut told = Told::due();
    assert!(matches!(told.read(facts()), Step::Claim { .. }));
    assert_eq!(told.tell(Event::Conflict), Step::Read);
    assert!(matches!(told.read(under("them", false)), Step::Wait(_)));
}

#[test]
fn nothing_is_redeemed_without_time_left() {
    let mut told = Told::due();
    assert!(matches!(told.read(facts()), Step::Claim { .. }));
    told.now = TTL;
    let again = told.tell(Event::Wrote(2));
    assert!(
        matches!(
            again,
            Step::Claim {
                version: 2,
                replay: false,
                ..
            }
        ),
        "{again:?}"
    );
    assert_eq!(told.tell(Event::Wrote(3)), Step::Redeem);
}

#[test]
fn losers_wait_and_read_again() {
    let mut told = Told::due();
    let Step::Wait(pause) = told.read(under("them", false)) else {
        panic!("no wait");
    };
    told.now += pause;
    assert_eq!(told.tell(Event::Woke), Step::Read);
    assert_eq!(told.read(at(3, 5)), Step::Done(Outcome::Newer { raced: true }));
}

#[test]
fn a_lease_is_dead_one_full_ttl_after_this_process_first_saw_it() {
    let mut told = Told::due();
    told.now = 7_000_000;
    assert!(matches!(told.read(under("them", false)), Step::Wait(_)));
    told.now += TTL - 1;
    assert!(matches!(told.read(under("them", false)), Step::Wait(1)));
    told.now += 1;
    assert!(matches!(
        told.read(under("them", false)),
        Step::Claim { replay: true, .. }
    ));
}

#[test]
fn a_new_nonce_is_a_new_lease() {
    let mut told = Told::due();
    told.read(under("them", false));
    told.now += TTL;
    assert!(matches!(told.read(under("others", false)), Step::Wait(_)));
}

#[test]
fn new_tokens_are_stored_before_anything_else() {
    let mut told = Told::due().claimed();
    assert_eq!(
        told.tell(Event::Answered(Answer::Issued)),
        Step::Store { version: 2 }
    );
    assert_eq!(told.tell(Event::Wrote(3)), Step::Done(Outcome::Refreshed));
}

#[test]
fn tokens_in_hand_are_stored_however_long_the_store_is_away() {
    let mut told = Told::due().claimed();
    told.tell(Event::Answered(Answer::Issued));
    for _ in 0..100 {
        assert!(matches!(told.tell(Event::Failed), Step::Wait(1..=5_000)));
        told.now += 5_000;
        assert_eq!(told.tell(Event::Woke), Step::Read);
    }
    assert_eq!(
        told.tell(Event::Stop),
        Step::Read,
        "not even the end of the process"
    );
    assert_eq!(told.read(at(9, 4)), Step::Store { version: 9 });
}

#[test]
fn a_write_that_seemed_to_fail_and_stands_is_a_success() {
    let mut told = Told::due().claimed();
    told.tell(Event::Answered(Answer::Issued));
    told.tell(Event::Failed);
    told.tell(Event::Woke);
    let ours = Facts {
        ours: true,
        ..at(3, 5)
    };
    assert_eq!(told.read(ours), Step::Done(Outcome::Refreshed));
}

#[test]
fn after_a_conflict_the_tokens_are_written_unless_seq_or_grant_went_on() {
    let stored = |facts| {
        let mut told = Told::due().claimed();
        told.tell(Event::Answered(Answer::Issued));
        assert_eq!(told.tell(Event::Conflict), Step::Read);
        told.read(facts)
    };
    assert_eq!(stored(at(7, 4)), Step::Store { version: 7 });
    assert_eq!(stored(at(7, 5)), Step::Done(Outcome::Newer { raced: true }));
    let reconnected = Facts {
        grant: "two".into(),
        seq: 1,
        ..facts()
    };
    assert_eq!(stored(reconnected), Step::Done(Outcome::Newer { raced: true }));
    let interrupted = Facts {
        ended: Some(Ended::Interrupted),
        ..at(7, 4)
    };
    assert_eq!(
        stored(interrupted),
        Step::Store { version: 7 },
        "good tokens mend it"
    );
}

#[test]
fn an_account_revoked_meanwhile_stays_revoked() {
    let mut told = Told::due().claimed();
    told.tell(Event::Answered(Answer::Issued));
    told.tell(Event::Conflict);
    assert_eq!(told.tell(Event::Read(None)), Step::Done(Outcome::Gone));
}

#[test]
fn a_reconnect_always_wins() {
    let mut told = Told::due();
    told.read(under("them", false));
    let reconnected = Facts {
        grant: "two".into(),
        seq: 1,
        due: false,
        ..facts()
    };
    assert_eq!(told.read(reconnected), Step::Done(Outcome::Newer { raced: true }));
}

#[test]
fn an_interrupted_redemption_is_replayed_once() {
    let mut told = Told::due();
    told.read(under("them", true));
    told.now += TTL;
    let end = Step::End {
        version: 2,
        ended: Ended::Interrupted,
    };
    assert_eq!(told.read(under("them", true)), end);
    assert_eq!(
        told.tell(Event::Wrote(3)),
        Step::Done(Outcome::Ended(Ended::Interrupted))
    );
}

#[test]
fn a_replay_that_is_refused_was_interrupted() {
    let mut told = Told::due();
    told.read(under("them", false));
    told.now += TTL;
    let Step::Claim {
        nonce, replay: true, ..
    } = told.read(under("them", false))
    else {
        panic!("no replay");
    };
    assert_eq!(told.tell(Event::Wrote(3)), Step::Redeem);
    assert_eq!(told.tell(Event::Answered(Answer::Terminal)), Step::Read);
    let ours = under(&nonce, true);
    let end = Step::End {
        version: 2,
        ended: Ended::Interrupted,
    };
    assert_eq!(told.read(ours), end);
}

#[test]
fn only_a_terminal_error_for_the_set_we_sent_needs_a_person() {
    let refused = |facts| {
        let mut told = Told::due().claimed();
        assert_eq!(told.tell(Event::Answered(Answer::Terminal)), Step::Read);
        told.read(facts)
    };
    let end = Step::End {
        version: 2,
        ended: Ended::Refused,
    };
    assert_eq!(refused(under("us-1", false)), end);
    assert_eq!(refused(at(3, 5)), Step::Done(Outcome::Newer { raced: true }));
    let other = refused(under("them", true));
    assert!(
        matches!(other, Step::Wait(_)),
        "somebody replays it, and may have used it up: {other:?}"
    );
}

#[test]
fn transient_is_not_terminal() {
    let mut told = Told::due().claimed();
    for _ in 0..2 {
        let Step::Wait(pause) = told.tell(Event::Answered(TRANSIENT)) else {
            panic!("no further attempt");
        };
        told.now += pause;
        assert_eq!(told.tell(Event::Woke), Step::Redeem);
    }
    assert_eq!(
        told.tell(Event::Answered(TRANSIENT)),
        Step::Fail {
            version: 2,
            replay: false,
            refused: false,
        }
    );
    let failed = Outcome::Failed { after: None };
    assert_eq!(told.tell(Event::Wrote(3)), Step::Done(failed));
}

#[test]
fn a_refusal_that_nobody_knows_ends_the_round_is_written_down_and_leaves_the_grant() {
    let mut told = Told::due().claimed();
    let refused = |version| Step::Fail {
        version,
        replay: false,
        refused: true,
    };
    let answer = Answer::Refused { uncertain: false };
    assert_eq!(told.tell(Event::Answered(answer)), refused(2));
    assert_eq!(told.tell(Event::Conflict), Step::Read);
    let ours = Facts {
        version: 7,
        ..under("us-1", false)
    };
    assert_eq!(told.read(ours), refused(7));
    assert_eq!(told.tell(Event::Wrote(8)), Step::Done(Outcome::Refused));
}

#[test]
fn a_refusal_is_not_written_over_a_newer_set_a_reconnect_or_somebody_elses_lease() {
    let after = |facts| {
        let mut told = Told::due().claimed();
        told.tell(Event::Answered(Answer::Refused { uncertain: false }));
        told.tell(Event::Conflict);
        told.read(facts)
    };
    let reconnected = Facts {
        grant: "two".into(),
        seq: 1,
        ..facts()
    };
    for facts in [at(3, 5), reconnected, under("them", false)] {
        assert_eq!(after(facts.clone()), Step::Done(Outcome::Refused), "{facts:?}");
    }
}

#[test]
fn an_answer_that_could_not_be_read_is_asked_for_again_before_it_is_a_refusal() {
    let mut told = Told::due().claimed();
    let unread = Event::Answered(Answer::Refused { uncertain: true });
    for _ in 0..2 {
        let Step::Wait(pause) = told.tell(unread.clone()) else {
            panic!("no further attempt");
        };
        told.now += pause;
        assert_eq!(told.tell(Event::Woke), Step::Redeem);
    }
    assert!(matches!(told.tell(unread), Step::Fail { refused: true, .. }));
    // What is refused for good then may have been used up by what was not read.
    let mut told = Told::due().claimed();
    told.tell(Event::Answered(Answer::Refused { uncertain: true }));
    told.now += 1_000;
    assert_eq!(told.tell(Event::Woke), Step::Redeem);
    told.tell(Event::Answered(Answer::Terminal));
    let end = Step::End {
        version: 2,
        ended: Ended::Interrupted,
    };
    assert_eq!(told.read(under("us-1", false)), end);
}

#[test]
fn whoever_wants_to_be_asked_much_later_is_asked_by_another_round() {
    let mut told = Told::due().claimed();
    let later = Answer::Transient {
        uncertain: false,
        after: Some(120_000),
    };
    assert!(matches!(told.tell(Event::Answered(later)), Step::Fail { .. }));
}

#[test]
fn a_lease_that_runs_out_between_attempts_is_asked_for_anew() {
    let mut told = Told::due().claimed();
    told.now += 45_000;
    assert!(matches!(told.tell(Event::Answered(TRANSIENT)), Step::Wait(_)));
    assert!(matches!(told.tell(Event::Woke), Step::Claim { version: 2, .. }));
}

#[test]
fn a_401_is_first_looked_at_in_the_store() {
    let why = Why::Refused {
        grant: "one".into(),
        seq: 4,
    };
    let mut newer = Told::new(why.clone());
    assert_eq!(newer.tell(Event::Woke), Step::Read);
    assert_eq!(newer.read(at(2, 5)), Step::Done(Outcome::Newer { raced: false }));
    let mut equal = Told::new(why);
    let early = Facts {
        due: false,
        ..facts()
    };
    assert!(matches!(equal.read(early), Step::Claim { .. }));
}

#[test]
fn without_a_refresh_token_an_ended_access_token_needs_a_person() {
    let bare = Facts {
        redeemable: false,
        ..facts()
    };
    assert_eq!(Told::due().read(bare.clone()), Step::Done(Outcome::NotDue));
    let expired = Facts {
        expired: true,
        ..bare
    };
    let end = Step::End {
        version: 1,
        ended: Ended::NoRefresh,
    };
    assert_eq!(Told::due().read(expired), end);
}

#[test]
fn a_store_that_does_not_answer_decides_nothing() {
    let mut told = Told::due();
    for _ in 0..2 {
        assert_eq!(told.tell(Event::Woke), Step::Read);
        assert!(matches!(told.tell(Event::Failed), Step::Wait(_)));
    }
    assert_eq!(told.tell(Event::Woke), Step::Read);
    assert_eq!(told.tell(Event::Failed), Step::Done(Outcome::StoreDown));
}

#[test]
fn a_claim_that_seemed_to_fail_and_stands_is_ours() {
    let mut told = Told::due();
    let Step::Claim { nonce, .. } = told.read(facts()) else {
        panic!("no claim");
    };
    told.tell(Event::Failed);
    assert_eq!(told.tell(Event::Woke), Step::Read);
    assert_eq!(told.read(under(&nonce, false)), Step::Redeem);
}

#[test]
fn a_process_that_ends_gives_its_lease_back() {
    let mut told = Told::due().claimed();
    assert!(matches!(told.tell(Event::Answered(TRANSIENT)), Step::Wait(_)));
    assert_eq!(
        told.tell(Event::Stop),
        Step::Release {
            version: 2,
            replay: false
        }
    );
    assert_eq!(told.tell(Event::Wrote(3)), Step::Done(Outcome::Stopped));
}

#[test]
fn an_omitted_refresh_token_scope_and_life_are_carried_over() {
    let before = record();
    let issued = Issued {
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

fn record() -> Record {
    let mut record = crate::credential::keeper::tests::world::record("ann", "refresh", 1_000);
    record.grant_id = "one".to_owned();
    record.failures = 2;
    record.ended = Some(Ended::Interrupted);
    record
}

#[test]
fn a_watch_knows_one_lease_at_a_time() {
    let mut watch = Watch::default();
    let (one, two): (Arc<str>, Arc<str>) = ("one".into(), "two".into());
    assert_eq!(watch.age(&one, 5), 0);
    assert_eq!(watch.age(&one, 9), 4);
    assert_eq!(watch.age(&two, 9), 0);
    assert_eq!(watch.age(&one, 9), 0);
}
