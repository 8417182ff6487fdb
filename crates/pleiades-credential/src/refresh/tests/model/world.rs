//! A store, an authorization server and replicas, with everything that may go wrong with them.

use super::{Scenario, TICK};
use crate::record::EndReason;
use crate::refresh::{
    Effect, FinalState, LeaseFacts, LeaseWatch, RecordFacts, RefreshEvent, RefreshTrigger, StateMachine, TTL,
    TokenOutcome,
};

/// Turns within which everything has to come to an end when nothing goes wrong any more.
const MAX_TURNS: u32 = 400;

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct FaultBudget {
    pub(super) crashes: u8,
    pub(super) stale: u8,
    /// Writes that seem to fail, and do or do not stand.
    pub(super) unsure: u8,
    /// Answers that say: come later.
    pub(super) transient: u8,
    /// Answers that are lost.
    pub(super) lost: u8,
    /// Refusals that say nothing certain of the grant.
    pub(super) refusals: u8,
    pub(super) reconnects: u8,
    /// Grants that the provider ends by itself.
    pub(super) withdrawals: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ModelRecord {
    pub(super) grant: u8,
    pub(super) seq: u8,
    pub(super) token: u8,
    pub(super) lease: Option<LeaseFacts>,
    pub(super) ended: Option<EndReason>,
    /// The last renewal was refused, and nobody knows whether for good.
    pub(super) refused: bool,
}

/// A refresh token at its server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ModelToken {
    pub(super) grant: u8,
    /// `seq` of the token set that it was issued with.
    pub(super) seq: u8,
    pub(super) is_used: bool,
    pub(super) is_revoked: bool,
    pub(super) redeemed: u8,
    pub(super) lost: u8,
    /// Whether a replay of it was claimed.
    pub(super) replayed: bool,
    /// Whether it was refused without saying anything certain.
    pub(super) is_refused: bool,
}

/// An answer, and the token that was issued with it.
pub(super) type ServerAnswer = (TokenOutcome, Option<u8>);

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Replica {
    pub(super) watch: LeaseWatch,
    pub(super) rounds: u8,
    pub(super) crashes: u8,
    pub(super) machine: Option<(StateMachine, Effect)>,
    pub(super) wakes: u64,
    pub(super) read: Option<ModelRecord>,
    /// The token that is on its way, and what was answered.
    pub(super) request: Option<(u8, Option<ServerAnswer>)>,
    pub(super) issued: Option<u8>,
    /// What became of a claim, while its holder sleeps.
    pub(super) unheard: Option<RefreshEvent>,
    /// The token set in use.
    pub(super) uses: Option<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) now: u64,
    pub(super) version: u64,
    pub(super) current: ModelRecord,
    pub(super) before: ModelRecord,
    /// Every token set that was ever stored, as bits.
    pub(super) stored: u32,
    pub(super) tokens: Vec<ModelToken>,
    pub(super) replicas: Vec<Replica>,
    pub(super) may: FaultBudget,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum StoreBehavior {
    Well,
    /// A read that is one write behind.
    Late,
    /// A write that stands and seems to fail.
    Unheard,
    /// A request that the store does not get.
    Away,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum ServerBehavior {
    Well,
    Later,
    Lost,
    /// Refused for no reason that is known.
    Refused,
}

impl State {
    pub(super) fn new(worlds: &Scenario) -> Self {
        let first = ModelRecord {
            grant: 0,
            seq: 1,
            token: 0,
            lease: None,
            ended: None,
            refused: false,
        };
        Self {
            now: 0,
            version: 1,
            current: first.clone(),
            before: first,
            stored: 1,
            tokens: vec![ModelToken::new(0, 1)],
            replicas: vec![Replica::default(); worlds.replicas],
            may: worlds.may.clone(),
        }
    }

    /// A replica's own clock: the second runs a twentieth faster, the third slower.
    pub(super) fn clock(&self, at: usize) -> u64 {
        self.now * [100, 105, 95][at % 3] / 100
    }

    pub(super) fn write(&mut self, expected: u64, new: ModelRecord) -> bool {
        if expected != self.version {
            return false;
        }
        self.version += 1;
        self.stored |= 1 << new.token;
        self.before = std::mem::replace(&mut self.current, new);
        true
    }

    /// Delivers an event to a state machine, and keeps its next effect.
    pub(super) fn deliver(&mut self, at: usize, event: RefreshEvent) {
        let now = self.clock(at);
        let replica = &mut self.replicas[at];
        let Some((mut round, _)) = replica.machine.take() else {
            return;
        };
        let effect = round.advance(event, now, &mut replica.watch);
        match effect {
            Effect::Done(outcome) => {
                if matches!(outcome, FinalState::Refreshed | FinalState::Newer { .. }) {
                    replica.uses = replica.read.as_ref().map(|read| read.token);
                }
                (replica.read, replica.issued) = (None, None);
            }
            effect => {
                match effect {
                    Effect::Wait(pause) => replica.wakes = now + pause,
                    // Looking at the time and sending are one: what sleeps between them sends late.
                    Effect::Redeem => replica.request = replica.read.as_ref().map(|it| (it.token, None)),
                    _ => {}
                }
                replica.machine = Some((round, effect));
            }
        }
    }

    pub(super) fn facts(&self, at: usize, version: u64, record: &ModelRecord) -> RecordFacts {
        RecordFacts {
            version,
            grant: record.grant.to_string().into(),
            seq: record.seq.into(),
            lease: record.lease.clone(),
            redeemable: true,
            ended: record.ended,
            due: record.seq == 1,
            expired: false,
            ours: self.replicas[at].issued == Some(record.token),
        }
    }

    pub(super) fn perform(&mut self, at: usize, how: StoreBehavior) -> Option<()> {
        let (_, effect) = self.replicas[at].machine.clone()?;
        if self.replicas[at].unheard.is_some() {
            return None;
        }
        match effect {
            Effect::Read => return self.read(at, how),
            Effect::Wait(_) => {
                let due = how == StoreBehavior::Well && self.clock(at) >= self.replicas[at].wakes;
                return due.then(|| self.deliver(at, RefreshEvent::Woke));
            }
            Effect::Redeem | Effect::Done(_) => return None,
            _ => {}
        }
        let claims = matches!(effect, Effect::Claim { .. });
        let (version, new) = self.replicas[at].becomes(effect)?;
        let event = self.written(at, how, version, new)?;
        if claims {
            self.replicas[at].unheard = Some(event);
        } else {
            self.deliver(at, event);
        }
        Some(())
    }

    pub(super) fn read(&mut self, at: usize, how: StoreBehavior) -> Option<()> {
        let (version, record) = match how {
            StoreBehavior::Well => (self.version, self.current.clone()),
            StoreBehavior::Late if self.version > 1 => (self.version - 1, self.before.clone()),
            StoreBehavior::Away => {
                self.deliver(at, RefreshEvent::Failed);
                return Some(());
            }
            StoreBehavior::Late | StoreBehavior::Unheard => return None,
        };
        let facts = self.facts(at, version, &record);
        self.replicas[at].read = Some(record);
        self.deliver(at, RefreshEvent::Read(Some(facts)));
        Some(())
    }

    pub(super) fn written(
        &mut self,
        at: usize,
        how: StoreBehavior,
        version: u64,
        new: ModelRecord,
    ) -> Option<RefreshEvent> {
        if matches!(how, StoreBehavior::Late | StoreBehavior::Away) {
            return (how == StoreBehavior::Away).then_some(RefreshEvent::Failed);
        }
        let token = usize::from(new.token);
        let replays = new.lease.as_ref().is_some_and(|lease| lease.replay);
        let stands = self.write(version, new.clone());
        if stands && replays {
            self.tokens[token].replayed = true;
        }
        Some(match (stands, how) {
            (true, StoreBehavior::Well) => {
                self.replicas[at].read = Some(new);
                RefreshEvent::Wrote(self.version)
            }
            (false, StoreBehavior::Well) => RefreshEvent::Conflict,
            _ => RefreshEvent::Failed,
        })
    }

    /// The server's part: rotation, and what it makes of a token that was used before.
    pub(super) fn serve(&mut self, at: usize, served: ServerBehavior, grace: bool) -> Option<()> {
        let (token, answer) = self.replicas[at].request?;
        if answer.is_some() {
            return None;
        }
        let uncertain = served == ServerBehavior::Lost;
        let transient = TokenOutcome::Transient {
            uncertain,
            after: None,
        };
        let answer = if served == ServerBehavior::Later {
            (transient, None)
        } else if served == ServerBehavior::Refused {
            self.tokens[usize::from(token)].is_refused = true;
            (TokenOutcome::Refused { uncertain: false }, None)
        } else {
            let answer = self.redeem(usize::from(token), grace);
            if uncertain {
                self.tokens[usize::from(token)].lost += 1;
                (transient, None)
            } else {
                answer
            }
        };
        self.replicas[at].request = Some((token, Some(answer)));
        Some(())
    }

    pub(super) fn redeem(&mut self, at: usize, grace: bool) -> (TokenOutcome, Option<u8>) {
        let token = &mut self.tokens[at];
        token.redeemed += 1;
        let grant = token.grant;
        if token.is_revoked {
            return (TokenOutcome::Terminal, None);
        }
        if token.is_used && !grace {
            for token in self.tokens.iter_mut().filter(|it| it.grant == grant) {
                token.is_revoked = true;
            }
            return (TokenOutcome::Terminal, None);
        }
        token.is_used = true;
        let next = ModelToken::new(grant, token.seq + 1);
        self.tokens.push(next);
        (TokenOutcome::Issued, u8::try_from(self.tokens.len() - 1).ok())
    }

    pub(super) fn hear(&mut self, at: usize) -> Option<()> {
        if let Some(event) = self.replicas[at].unheard.take() {
            self.deliver(at, event);
            return Some(());
        }
        let (_, answer) = self.replicas[at].request?;
        let (answer, issued) = answer?;
        self.replicas[at].request = None;
        self.replicas[at].issued = issued;
        self.deliver(at, RefreshEvent::Answered(answer));
        Some(())
    }

    pub(super) fn begin(&mut self, at: usize) -> Option<()> {
        let replica = &mut self.replicas[at];
        if replica.machine.is_some() {
            return None;
        }
        replica.rounds += 1;
        let name = format!("{at}.{}", replica.rounds).into();
        replica.machine = Some((StateMachine::new(RefreshTrigger::Due, 2, name), Effect::Read));
        self.deliver(at, RefreshEvent::Woke);
        Some(())
    }

    pub(super) fn crash(&mut self, at: usize) {
        let Replica { rounds, crashes, .. } = self.replicas[at];
        self.replicas[at] = Replica {
            rounds,
            crashes: crashes + 1,
            ..Replica::default()
        };
    }

    pub(super) fn reconnect(&mut self) {
        let grant = self.current.grant + 1;
        self.tokens.push(ModelToken::new(grant, 1));
        let token = u8::try_from(self.tokens.len() - 1).unwrap();
        let new = ModelRecord {
            grant,
            seq: 1,
            token,
            lease: None,
            ended: None,
            refused: false,
        };
        self.write(self.version, new);
    }

    /// Whether a token request is on its way: no time passes before it is served.
    pub(super) fn is_asking(&self) -> bool {
        let asking = |it: &Replica| matches!(it.request, Some((_, None)));
        self.replicas.iter().any(asking)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.replicas.iter().all(|it| it.machine.is_none())
    }

    pub(super) fn is_done(&self) -> bool {
        self.current.seq > 1 || self.current.ended.is_some()
    }

    /// Whether everything comes to an end once nothing goes wrong any more.
    pub(super) fn comes_to_an_end(&self, grace: bool) -> bool {
        let mut state = self.clone();
        for _ in 0..MAX_TURNS {
            if state.is_done() && state.is_idle() {
                return true;
            }
            let mut moved = false;
            for at in 0..state.replicas.len() {
                let begins = !state.is_done() && state.begin(at).is_some();
                moved |= begins
                    || state.perform(at, StoreBehavior::Well).is_some()
                    || state.serve(at, ServerBehavior::Well, grace).is_some()
                    || state.hear(at).is_some();
            }
            if !moved {
                state.now += TICK;
            }
        }
        false
    }
}

impl Replica {
    /// What a step makes of the record that was read.
    pub(super) fn becomes(&self, effect: Effect) -> Option<(u64, ModelRecord)> {
        let read = self.read.clone()?;
        let unleased = ModelRecord {
            lease: None,
            ..read.clone()
        };
        Some(match effect {
            Effect::Claim {
                version,
                nonce,
                replay,
            } => {
                let lease = Some(LeaseFacts {
                    nonce,
                    ttl: TTL,
                    replay,
                });
                (version, ModelRecord { lease, ..read })
            }
            Effect::Store { version } => {
                let (seq, token) = (read.seq + 1, self.issued?);
                (
                    version,
                    ModelRecord {
                        seq,
                        token,
                        ended: None,
                        refused: false,
                        ..unleased
                    },
                )
            }
            Effect::End { version, ended } => (
                version,
                ModelRecord {
                    ended: Some(ended),
                    ..unleased
                },
            ),
            Effect::Fail {
                version,
                replay,
                refused,
            } => (
                version,
                ModelRecord {
                    refused: refused || read.refused,
                    ..given_back(read, replay)
                },
            ),
            Effect::Release { version, replay } => (version, given_back(read, replay)),
            Effect::Read | Effect::Redeem | Effect::Wait(_) | Effect::Done(_) => return None,
        })
    }
}

/// A record whose lease is given back, which remembers a replay.
fn given_back(read: ModelRecord, replay: bool) -> ModelRecord {
    let lease = read.lease.filter(|_| replay);
    ModelRecord {
        lease: lease.map(|lease| LeaseFacts { ttl: 0, ..lease }),
        ..read
    }
}

impl ModelToken {
    pub(super) fn new(grant: u8, seq: u8) -> Self {
        Self {
            grant,
            seq,
            is_used: false,
            is_revoked: false,
            redeemed: 0,
            lost: 0,
            replayed: false,
            is_refused: false,
        }
    }
}
