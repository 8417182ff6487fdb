//! One process's pursuit of one account.

use std::sync::Arc;

use super::{Answer, Claim, DEADLINE, Event, Facts, Outcome, STORING, Step, TTL, Watch, Why, back_off};
use crate::credential::record::Ended;

/// The first pause before a token request is repeated, and the longest, in milliseconds. Whoever
/// wants to be asked later than that is asked by another round.
const PAUSE: (u64, u64) = (1_000, 10_000);
/// The same for looking at a lease of somebody else again.
const LOOK: (u64, u64) = (250, 2_000);
/// The same for a store that does not answer.
const STORE: (u64, u64) = (200, 5_000);
/// How often a store is asked before a round that has nothing to lose gives up.
const ASKED: u32 = 3;

/// One pursuit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Round {
    why: Why,
    /// Token requests at most.
    attempts: u32,
    name: Arc<str>,
    /// Leases this round asked for, and the nonce of the last.
    claims: u32,
    nonce: Option<Arc<str>>,
    /// When the last was asked for.
    begun: u64,
    replay: bool,
    /// What is to be replaced.
    target: Option<(Arc<str>, u64)>,
    phase: Phase,
    /// The version that our last write made.
    version: u64,
    sent: u32,
    unanswered: u32,
    looked: u32,
    faults: u32,
    stopping: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Phase {
    /// What is there?
    Deciding,
    Claiming,
    /// We hold the lease; a request is under way, or is about to be.
    Redeeming,
    /// We hold the lease and a new token set.
    Storing,
    /// The server refused the set that we sent: is it still the one?
    Refused(Ended),
    Ending(Ended),
    Failing(Outcome),
    Releasing,
}

impl Round {
    /// A pursuit under a name that no other has.
    pub(crate) fn new(why: Why, attempts: u32, name: Arc<str>) -> Self {
        let target = match &why {
            Why::Refused { grant, seq } => Some((Arc::clone(grant), *seq)),
            Why::Due | Why::Forced => None,
        };
        Self {
            why,
            attempts: attempts.max(1),
            name,
            claims: 0,
            nonce: None,
            begun: 0,
            replay: false,
            target,
            phase: Phase::Deciding,
            version: 0,
            sent: 0,
            unanswered: 0,
            looked: 0,
            faults: 0,
            stopping: false,
        }
    }

    /// Whether a new token set is in hand and not stored yet.
    pub(crate) const fn is_storing(&self) -> bool {
        matches!(self.phase, Phase::Storing)
    }

    /// Whether tokens are in hand, and after one fault more nobody is to wait until they are stored.
    pub(crate) const fn is_stuck(&self) -> bool {
        self.is_storing() && self.faults + 1 >= ASKED
    }

    /// Whether it was told that the process ends.
    pub(crate) const fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Whether it is this round that wrote down the end.
    pub(crate) const fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Ending(_))
    }

    /// What to do after what happened.
    pub(crate) fn step(&mut self, event: Event, now: u64, watch: &mut Watch) -> Step {
        // A pause between two faults is no answer.
        if !matches!(event, Event::Failed | Event::Woke) {
            self.faults = 0;
        }
        match (self.phase, event) {
            (_, Event::Stop) => self.stop(),
            (Phase::Redeeming, Event::Woke) => self.redeem(now),
            (_, Event::Woke) => Step::Read,
            (_, Event::Read(None)) => Step::Done(Outcome::Gone),
            (phase, Event::Read(Some(facts))) => self.read(phase, &facts, now, watch),
            (phase, Event::Wrote(version)) => self.wrote(phase, version, now),
            (phase, Event::Conflict) => self.conflict(phase),
            (phase, Event::Failed) => self.failed(phase),
            (_, Event::Answered(answer)) => self.answered(answer),
        }
    }

    fn read(&mut self, phase: Phase, facts: &Facts, now: u64, watch: &mut Watch) -> Step {
        match phase {
            Phase::Storing => self.still_to_store(facts),
            Phase::Refused(ended) | Phase::Ending(ended) => self.still_refused(ended, facts, now, watch),
            Phase::Failing(outcome) => {
                if self.is_ours(facts) && !self.is_past(facts) {
                    return Step::Fail {
                        version: facts.version,
                        replay: self.replay,
                        refused: outcome == Outcome::Refused,
                    };
                }
                Step::Done(outcome)
            }
            Phase::Releasing => Step::Done(Outcome::Stopped),
            Phase::Deciding | Phase::Claiming | Phase::Redeeming => self.decide(facts, now, watch),
        }
    }

    /// What a record means for somebody who has nothing in hand.
    fn decide(&mut self, facts: &Facts, now: u64, watch: &mut Watch) -> Step {
        self.phase = Phase::Deciding;
        if self.is_past(facts) {
            let raced = self.claims > 0 || self.looked > 0;
            return Step::Done(Outcome::Newer { raced });
        }
        if self.target.as_ref().is_some_and(|(_, seq)| facts.seq < *seq) {
            // A store that answers a little behind.
            return self.look_again(u64::MAX);
        }
        self.target = Some((Arc::clone(&facts.grant), facts.seq));
        if let Some(ended) = facts.ended {
            return Step::Done(Outcome::Ended(ended));
        }
        if !facts.redeemable {
            if facts.expired || matches!(self.why, Why::Refused { .. }) {
                return self.end(facts.version, Ended::NoRefresh);
            }
            return Step::Done(Outcome::NotDue);
        }
        if self.why == Why::Due && !facts.due {
            return Step::Done(Outcome::NotDue);
        }
        match &facts.lease {
            None => self.claim(facts.version, false, now),
            Some(lease) => self.decide_under(lease, facts, now, watch),
        }
    }

    fn decide_under(&mut self, lease: &Claim, facts: &Facts, now: u64, watch: &mut Watch) -> Step {
        if self.is_ours(facts) {
            // A claim whose writing seemed to fail. Nothing was redeemed under it.
            self.replay = lease.replay;
            self.version = facts.version;
            return self.redeem(now);
        }
        if lease.ttl == 0 {
            return self.claim(facts.version, lease.replay, now);
        }
        let age = watch.age(&lease.nonce, now);
        if age < lease.ttl {
            return self.look_again(lease.ttl - age);
        }
        if lease.replay {
            // The one replay was interrupted as well.
            return self.end(facts.version, Ended::Interrupted);
        }
        self.claim(facts.version, true, now)
    }

    fn claim(&mut self, version: u64, replay: bool, now: u64) -> Step {
        if self.stopping {
            return Step::Done(Outcome::Stopped);
        }
        self.claims += 1;
        let nonce: Arc<str> = format!("{}-{}", self.name, self.claims).into();
        self.nonce = Some(Arc::clone(&nonce));
        self.begun = now;
        self.replay = replay;
        self.phase = Phase::Claiming;
        Step::Claim {
            version,
            nonce,
            replay,
        }
    }

    /// Sends the token request if the lease has time left for it and for storing; else asks for
    /// another.
    fn redeem(&mut self, now: u64) -> Step {
        if self.stopping {
            return self.release();
        }
        let needed = now.saturating_sub(self.begun) + DEADLINE + STORING;
        if needed > TTL {
            return self.claim(self.version, self.replay, now);
        }
        self.phase = Phase::Redeeming;
        self.sent += 1;
        Step::Redeem
    }

    fn answered(&mut self, answer: Answer) -> Step {
        let (uncertain, after) = match answer {
            Answer::Issued => {
                self.phase = Phase::Storing;
                return Step::Store {
                    version: self.version,
                };
            }
            Answer::Terminal => {
                let interrupted = self.replay || self.unanswered > 0;
                self.phase = Phase::Refused(if interrupted {
                    Ended::Interrupted
                } else {
                    Ended::Refused
                });
                return Step::Read;
            }
            // What could not be read may have been the tokens: asked again at once, as if it were lost.
            Answer::Refused { uncertain } if uncertain && self.sent < self.attempts => (true, None),
            Answer::Refused { uncertain } => {
                self.unanswered += u32::from(uncertain);
                return self.fail(Outcome::Refused);
            }
            Answer::Transient { uncertain, after } => (uncertain, after),
        };
        self.unanswered += u32::from(uncertain);
        let pause = after
            .unwrap_or(0)
            .max(back_off(self.sent.saturating_sub(1), PAUSE.0, PAUSE.1));
        if self.sent >= self.attempts || pause > PAUSE.1 || self.stopping {
            return self.fail(Outcome::Failed { after });
        }
        // A lease that runs out meanwhile is asked for anew when the pause is over.
        Step::Wait(pause)
    }

    /// Whether the tokens in hand are still to be stored: nothing newer is there.
    fn still_to_store(&self, facts: &Facts) -> Step {
        if facts.ours {
            return Step::Done(Outcome::Refreshed);
        }
        if self.is_past(facts) || facts.ended == Some(Ended::Revoked) {
            return Step::Done(Outcome::Newer { raced: true });
        }
        Step::Store {
            version: facts.version,
        }
    }

    /// Whether the refusal is about what is there, and ours to write down.
    fn still_refused(&mut self, ended: Ended, facts: &Facts, now: u64, watch: &mut Watch) -> Step {
        let ours = self.is_ours(facts) || ended == Ended::NoRefresh;
        if self.is_past(facts) || facts.ended.is_some() || !ours {
            // Somebody else redeems it, and may have been the reason for the refusal.
            return self.decide(facts, now, watch);
        }
        self.end(facts.version, ended)
    }

    fn end(&mut self, version: u64, ended: Ended) -> Step {
        self.phase = Phase::Ending(ended);
        Step::End { version, ended }
    }

    fn fail(&mut self, outcome: Outcome) -> Step {
        self.phase = Phase::Failing(outcome);
        Step::Fail {
            version: self.version,
            replay: self.replay,
            refused: outcome == Outcome::Refused,
        }
    }

    fn release(&mut self) -> Step {
        self.phase = Phase::Releasing;
        Step::Release {
            version: self.version,
            replay: self.replay,
        }
    }

    fn wrote(&mut self, phase: Phase, version: u64, now: u64) -> Step {
        self.version = version;
        match phase {
            Phase::Claiming => self.redeem(now),
            Phase::Storing => Step::Done(Outcome::Refreshed),
            Phase::Ending(ended) => Step::Done(Outcome::Ended(ended)),
            Phase::Failing(outcome) => Step::Done(outcome),
            Phase::Releasing => Step::Done(Outcome::Stopped),
            Phase::Deciding | Phase::Redeeming | Phase::Refused(_) => Step::Read,
        }
    }

    fn conflict(&mut self, phase: Phase) -> Step {
        match phase {
            Phase::Releasing => Step::Done(Outcome::Stopped),
            Phase::Claiming => {
                // Not ours, whatever a late read shows.
                self.phase = Phase::Deciding;
                Step::Read
            }
            _ => Step::Read,
        }
    }

    fn failed(&mut self, phase: Phase) -> Step {
        // More are not told apart: the model's states stay few.
        self.faults = (self.faults + 1).min(ASKED);
        let pause = back_off(self.faults - 1, STORE.0, STORE.1);
        match phase {
            // Tokens in hand are never given up.
            Phase::Storing => Step::Wait(pause),
            Phase::Failing(outcome) => Step::Done(outcome),
            Phase::Releasing => Step::Done(Outcome::Stopped),
            _ if self.faults >= ASKED || self.stopping => Step::Done(Outcome::StoreDown),
            _ => Step::Wait(pause),
        }
    }

    fn stop(&mut self) -> Step {
        self.stopping = true;
        match self.phase {
            Phase::Deciding | Phase::Claiming => Step::Done(Outcome::Stopped),
            Phase::Redeeming => self.release(),
            Phase::Storing | Phase::Refused(_) | Phase::Ending(_) => Step::Read,
            Phase::Failing(_) | Phase::Releasing => Step::Done(Outcome::Stopped),
        }
    }

    fn look_again(&mut self, most: u64) -> Step {
        if self.stopping {
            return Step::Done(Outcome::Stopped);
        }
        let pause = back_off(self.looked, LOOK.0, LOOK.1).min(most).max(1);
        self.looked += 1;
        Step::Wait(pause)
    }

    /// Whether the record went on from what is to be replaced: another grant, or a newer set.
    fn is_past(&self, facts: &Facts) -> bool {
        let past = |(grant, seq): &(Arc<str>, u64)| *grant != facts.grant || facts.seq > *seq;
        self.target.as_ref().is_some_and(past)
    }

    fn is_ours(&self, facts: &Facts) -> bool {
        facts
            .lease
            .as_ref()
            .is_some_and(|lease| Some(&lease.nonce) == self.nonce.as_ref())
    }
}
