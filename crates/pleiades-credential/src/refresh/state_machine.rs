//! The state machine of one refresh in one process.

use std::sync::Arc;

use super::{
    DEADLINE, Effect, FinalState, LeaseFacts, LeaseWatch, RecordFacts, RefreshEvent, RefreshTrigger, STORING,
    TTL, TokenOutcome, back_off,
};
use crate::record::EndReason;

/// The first pause before a token request is repeated, and the longest, in milliseconds. Whoever
/// wants to be asked later than that is asked by another refresh.
const PAUSE: (u64, u64) = (1_000, 10_000);
/// The same for reading the lease of another replica again.
const LOOK: (u64, u64) = (250, 2_000);
/// The same for a store that does not answer.
const STORE: (u64, u64) = (200, 5_000);
/// How often a store is asked before a refresh without tokens in hand gives up.
const ASKED: u32 = 3;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct StateMachine {
    why: RefreshTrigger,
    /// Token requests at most.
    attempts: u32,
    name: Arc<str>,
    /// Leases that were asked for, and the nonce of the last.
    claims: u32,
    nonce: Option<Arc<str>>,
    /// When the last was asked for.
    claimed_at: u64,
    replay: bool,
    /// Grant and `seq` of the token set to be replaced.
    target: Option<(Arc<str>, u64)>,
    phase: RefreshPhase,
    /// The version that our last write made.
    version: u64,
    sent: u32,
    unanswered: u32,
    lease_checks: u32,
    faults: u32,
    stopping: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum RefreshPhase {
    /// Nothing is in hand: the record decides.
    Deciding,
    Claiming,
    /// We hold the lease; a request is under way, or is about to be.
    Redeeming,
    /// We hold the lease and a new token set.
    Storing,
    /// The server refused our token; the record is read to see whether it still holds it.
    Refused(EndReason),
    Ending(EndReason),
    Failing(FinalState),
    Releasing,
}

impl StateMachine {
    /// A refresh under a name that no other has.
    pub(crate) fn new(why: RefreshTrigger, attempts: u32, name: Arc<str>) -> Self {
        let target = match &why {
            RefreshTrigger::Refused { grant, seq } => Some((Arc::clone(grant), *seq)),
            RefreshTrigger::Due | RefreshTrigger::Forced => None,
        };
        Self {
            why,
            attempts: attempts.max(1),
            name,
            claims: 0,
            nonce: None,
            claimed_at: 0,
            replay: false,
            target,
            phase: RefreshPhase::Deciding,
            version: 0,
            sent: 0,
            unanswered: 0,
            lease_checks: 0,
            faults: 0,
            stopping: false,
        }
    }

    pub(crate) const fn is_storing(&self) -> bool {
        matches!(self.phase, RefreshPhase::Storing)
    }

    /// Whether tokens are in hand, and after one fault more nobody is to wait until they are stored.
    pub(crate) const fn is_stuck(&self) -> bool {
        self.is_storing() && self.faults + 1 >= ASKED
    }

    pub(crate) const fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Whether this refresh wrote the end of the account.
    pub(crate) const fn is_ending(&self) -> bool {
        matches!(self.phase, RefreshPhase::Ending(_))
    }

    pub(crate) fn advance(&mut self, event: RefreshEvent, now: u64, watch: &mut LeaseWatch) -> Effect {
        // A pause between two faults is no answer.
        if !matches!(event, RefreshEvent::Failed | RefreshEvent::Woke) {
            self.faults = 0;
        }
        match (self.phase, event) {
            (_, RefreshEvent::Stop) => self.stop(),
            (RefreshPhase::Redeeming, RefreshEvent::Woke) => self.redeem(now),
            (_, RefreshEvent::Woke) => Effect::Read,
            (_, RefreshEvent::Read(None)) => Effect::Done(FinalState::Gone),
            (phase, RefreshEvent::Read(Some(facts))) => self.read(phase, &facts, now, watch),
            (phase, RefreshEvent::Wrote(version)) => self.wrote(phase, version, now),
            (phase, RefreshEvent::Conflict) => self.conflict(phase),
            (phase, RefreshEvent::Failed) => self.failed(phase),
            (_, RefreshEvent::Answered(answer)) => self.answered(answer),
        }
    }

    fn read(&mut self, phase: RefreshPhase, facts: &RecordFacts, now: u64, watch: &mut LeaseWatch) -> Effect {
        match phase {
            RefreshPhase::Storing => self.decide_storing(facts),
            RefreshPhase::Refused(ended) | RefreshPhase::Ending(ended) => {
                self.decide_refused(ended, facts, now, watch)
            }
            RefreshPhase::Failing(outcome) => {
                if self.is_ours(facts) && !self.is_past(facts) {
                    return Effect::Fail {
                        version: facts.version,
                        replay: self.replay,
                        refused: outcome == FinalState::Refused,
                    };
                }
                Effect::Done(outcome)
            }
            RefreshPhase::Releasing => Effect::Done(FinalState::Stopped),
            RefreshPhase::Deciding | RefreshPhase::Claiming | RefreshPhase::Redeeming => {
                self.decide(facts, now, watch)
            }
        }
    }

    /// Decides what a record means while no tokens are in hand.
    fn decide(&mut self, facts: &RecordFacts, now: u64, watch: &mut LeaseWatch) -> Effect {
        self.phase = RefreshPhase::Deciding;
        if self.is_past(facts) {
            let raced = self.claims > 0 || self.lease_checks > 0;
            return Effect::Done(FinalState::Newer { raced });
        }
        if self.target.as_ref().is_some_and(|(_, seq)| facts.seq < *seq) {
            // A store that answers a little behind.
            return self.wait_for_lease(u64::MAX);
        }
        self.target = Some((Arc::clone(&facts.grant), facts.seq));
        if let Some(ended) = facts.ended {
            return Effect::Done(FinalState::Ended(ended));
        }
        if !facts.redeemable {
            if facts.expired || matches!(self.why, RefreshTrigger::Refused { .. }) {
                return self.end(facts.version, EndReason::NoRefresh);
            }
            return Effect::Done(FinalState::NotDue);
        }
        if self.why == RefreshTrigger::Due && !facts.due {
            return Effect::Done(FinalState::NotDue);
        }
        match &facts.lease {
            None => self.claim(facts.version, false, now),
            Some(lease) => self.decide_leased(lease, facts, now, watch),
        }
    }

    fn decide_leased(
        &mut self,
        lease: &LeaseFacts,
        facts: &RecordFacts,
        now: u64,
        watch: &mut LeaseWatch,
    ) -> Effect {
        if self.is_ours(facts) {
            // Our claim, whose write seemed to fail. Nothing was redeemed under it.
            self.replay = lease.replay;
            self.version = facts.version;
            return self.redeem(now);
        }
        if lease.ttl == 0 {
            return self.claim(facts.version, lease.replay, now);
        }
        let age = watch.age(&lease.nonce, now);
        if age < lease.ttl {
            return self.wait_for_lease(lease.ttl - age);
        }
        if lease.replay {
            // The one replay was interrupted as well.
            return self.end(facts.version, EndReason::Interrupted);
        }
        self.claim(facts.version, true, now)
    }

    fn claim(&mut self, version: u64, replay: bool, now: u64) -> Effect {
        if self.stopping {
            return Effect::Done(FinalState::Stopped);
        }
        self.claims += 1;
        let nonce: Arc<str> = format!("{}-{}", self.name, self.claims).into();
        self.nonce = Some(Arc::clone(&nonce));
        self.claimed_at = now;
        self.replay = replay;
        self.phase = RefreshPhase::Claiming;
        Effect::Claim {
            version,
            nonce,
            replay,
        }
    }

    /// Sends the token request if the lease has time left for it and for storing; else asks for another.
    fn redeem(&mut self, now: u64) -> Effect {
        if self.stopping {
            return self.release();
        }
        let needed = now.saturating_sub(self.claimed_at) + DEADLINE + STORING;
        if needed > TTL {
            return self.claim(self.version, self.replay, now);
        }
        self.phase = RefreshPhase::Redeeming;
        self.sent += 1;
        Effect::Redeem
    }

    fn answered(&mut self, answer: TokenOutcome) -> Effect {
        let (uncertain, after) = match answer {
            TokenOutcome::Issued => {
                self.phase = RefreshPhase::Storing;
                return Effect::Store {
                    version: self.version,
                };
            }
            TokenOutcome::Terminal => {
                let interrupted = self.replay || self.unanswered > 0;
                self.phase = RefreshPhase::Refused(if interrupted {
                    EndReason::Interrupted
                } else {
                    EndReason::Refused
                });
                return Effect::Read;
            }
            // What could not be read may have been the tokens: asked again at once, as if it were lost.
            TokenOutcome::Refused { uncertain } if uncertain && self.sent < self.attempts => (true, None),
            TokenOutcome::Refused { uncertain } => {
                self.unanswered += u32::from(uncertain);
                return self.fail(FinalState::Refused);
            }
            TokenOutcome::Transient { uncertain, after } => (uncertain, after),
        };
        self.unanswered += u32::from(uncertain);
        let pause = after
            .unwrap_or(0)
            .max(back_off(self.sent.saturating_sub(1), PAUSE.0, PAUSE.1));
        if self.sent >= self.attempts || pause > PAUSE.1 || self.stopping {
            return self.fail(FinalState::Failed { after });
        }
        // A lease that runs out meanwhile is asked for anew when the pause is over.
        Effect::Wait(pause)
    }

    /// Stores the tokens in hand, unless the record has newer ones.
    fn decide_storing(&self, facts: &RecordFacts) -> Effect {
        if facts.ours {
            return Effect::Done(FinalState::Refreshed);
        }
        if self.is_past(facts) || facts.ended == Some(EndReason::Revoked) {
            return Effect::Done(FinalState::Newer { raced: true });
        }
        Effect::Store {
            version: facts.version,
        }
    }

    /// The server refused our token: writes that down if the record still holds it under our lease.
    fn decide_refused(
        &mut self,
        ended: EndReason,
        facts: &RecordFacts,
        now: u64,
        watch: &mut LeaseWatch,
    ) -> Effect {
        let ours = self.is_ours(facts) || ended == EndReason::NoRefresh;
        if self.is_past(facts) || facts.ended.is_some() || !ours {
            // Somebody else redeems it, and may have been the reason for the refusal.
            return self.decide(facts, now, watch);
        }
        self.end(facts.version, ended)
    }

    fn end(&mut self, version: u64, ended: EndReason) -> Effect {
        self.phase = RefreshPhase::Ending(ended);
        Effect::End { version, ended }
    }

    fn fail(&mut self, outcome: FinalState) -> Effect {
        self.phase = RefreshPhase::Failing(outcome);
        Effect::Fail {
            version: self.version,
            replay: self.replay,
            refused: outcome == FinalState::Refused,
        }
    }

    fn release(&mut self) -> Effect {
        self.phase = RefreshPhase::Releasing;
        Effect::Release {
            version: self.version,
            replay: self.replay,
        }
    }

    fn wrote(&mut self, phase: RefreshPhase, version: u64, now: u64) -> Effect {
        self.version = version;
        match phase {
            RefreshPhase::Claiming => self.redeem(now),
            RefreshPhase::Storing => Effect::Done(FinalState::Refreshed),
            RefreshPhase::Ending(ended) => Effect::Done(FinalState::Ended(ended)),
            RefreshPhase::Failing(outcome) => Effect::Done(outcome),
            RefreshPhase::Releasing => Effect::Done(FinalState::Stopped),
            RefreshPhase::Deciding | RefreshPhase::Redeeming | RefreshPhase::Refused(_) => Effect::Read,
        }
    }

    fn conflict(&mut self, phase: RefreshPhase) -> Effect {
        match phase {
            RefreshPhase::Releasing => Effect::Done(FinalState::Stopped),
            RefreshPhase::Claiming => {
                // The claim is not ours, whatever a late read shows.
                self.phase = RefreshPhase::Deciding;
                Effect::Read
            }
            _ => Effect::Read,
        }
    }

    fn failed(&mut self, phase: RefreshPhase) -> Effect {
        // A larger count would only give the model more states.
        self.faults = (self.faults + 1).min(ASKED);
        let pause = back_off(self.faults - 1, STORE.0, STORE.1);
        match phase {
            // Tokens in hand are never given up.
            RefreshPhase::Storing => Effect::Wait(pause),
            RefreshPhase::Failing(outcome) => Effect::Done(outcome),
            RefreshPhase::Releasing => Effect::Done(FinalState::Stopped),
            _ if self.faults >= ASKED || self.stopping => Effect::Done(FinalState::StoreDown),
            _ => Effect::Wait(pause),
        }
    }

    fn stop(&mut self) -> Effect {
        self.stopping = true;
        match self.phase {
            RefreshPhase::Deciding | RefreshPhase::Claiming => Effect::Done(FinalState::Stopped),
            RefreshPhase::Redeeming => self.release(),
            RefreshPhase::Storing | RefreshPhase::Refused(_) | RefreshPhase::Ending(_) => Effect::Read,
            RefreshPhase::Failing(_) | RefreshPhase::Releasing => Effect::Done(FinalState::Stopped),
        }
    }

    fn wait_for_lease(&mut self, most: u64) -> Effect {
        if self.stopping {
            return Effect::Done(FinalState::Stopped);
        }
        let pause = back_off(self.lease_checks, LOOK.0, LOOK.1).min(most).max(1);
        self.lease_checks += 1;
        Effect::Wait(pause)
    }

    /// Whether the record holds another grant or a newer token set than the one to be replaced.
    fn is_past(&self, facts: &RecordFacts) -> bool {
        let past = |(grant, seq): &(Arc<str>, u64)| *grant != facts.grant || facts.seq > *seq;
        self.target.as_ref().is_some_and(past)
    }

    fn is_ours(&self, facts: &RecordFacts) -> bool {
        let nonce = facts.lease.as_ref().map(|lease| &lease.nonce);
        nonce.is_some() && nonce == self.nonce.as_ref()
    }
}
