//! The state machine under everything that replicas, stores and authorization servers may do to it.
//!
//! Replicas drive real rounds against a store whose reads may be late and whose writes may seem to
//! fail, and a server that rotates. A suspended holder is one that takes no turn while time passes;
//! clocks run at different speeds. What is assumed: a token request is served within its deadline
//! or never.

use std::time::Duration;

use stateright::{Checker, Model, Property};

use super::{Answer, Claim, Event, Facts, Outcome, Round, Step, TTL, Watch, Why};
use crate::credential::record::Ended;

/// How far time goes on at once, in milliseconds: longer than a token request may take.
const TICK: u64 = 30_000;
/// Turns within which everything has to come to an end when nothing goes wrong any more.
const PATIENCE: u32 = 400;
/// A check that takes longer than that hangs.
const GUARD: Duration = Duration::from_secs(600);

/// One world to look at: how much may go wrong in it.
#[derive(Debug, Clone)]
struct Worlds {
    replicas: usize,
    /// Whether a used refresh token is accepted again, or revokes everything that came of it.
    grace: bool,
    may: Budget,
    until: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Budget {
    crashes: u8,
    stale: u8,
    /// Writes that seem to fail, and do or do not stand.
    unsure: u8,
    /// Answers that say: come later.
    transient: u8,
    /// Answers that are lost.
    lost: u8,
    reconnects: u8,
    /// Grants that the provider ends by itself.
    withdrawals: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Stored {
    grant: u8,
    seq: u8,
    token: u8,
    lease: Option<Claim>,
    ended: Option<Ended>,
}

/// A refresh token at its server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Token {
    grant: u8,
    /// Of the token set that it came with.
    seq: u8,
    is_used: bool,
    is_revoked: bool,
    redeemed: u8,
    lost: u8,
    /// Whether a replay of it was claimed.
    replayed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Replica {
    watch: Watch,
    rounds: u8,
    crashes: u8,
    round: Option<(Round, Step)>,
    wakes: u64,
    read: Option<Stored>,
    /// The token that is on its way, and what was answered.
    request: Option<(u8, Option<(Answer, Option<u8>)>)>,
    issued: Option<u8>,
    /// What became of a claim, while its holder sleeps.
    unheard: Option<Event>,
    /// The token set in use.
    uses: Option<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    now: u64,
    version: u64,
    current: Stored,
    before: Stored,
    /// Every token set that was ever stored, as bits.
    stored: u32,
    tokens: Vec<Token>,
    replicas: Vec<Replica>,
    may: Budget,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum How {
    Well,
    /// A read that is one write behind.
    Late,
    /// A write that stands and seems to fail.
    Unheard,
    /// A request that the store does not get.
    Away,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Served {
    Well,
    Later,
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Action {
    Begin(usize),
    Do(usize, How),
    Serve(usize, Served),
    Hear(usize),
    Crash(usize),
    Reconnect,
    Withdraw,
    Pass,
}

impl State {
    fn new(worlds: &Worlds) -> Self {
        let first = Stored {
            grant: 0,
            seq: 1,
            token: 0,
            lease: None,
            ended: None,
        };
        Self {
            now: 0,
            version: 1,
            current: first.clone(),
            before: first,
            stored: 1,
            tokens: vec![Token::new(0, 1)],
            replicas: vec![Replica::default(); worlds.replicas],
            may: worlds.may.clone(),
        }
    }

    /// A replica's own clock: the second runs a twentieth faster, the third slower.
    fn clock(&self, at: usize) -> u64 {
        self.now * [100, 105, 95][at % 3] / 100
    }

    fn write(&mut self, expected: u64, new: Stored) -> bool {
        if expected != self.version {
            return false;
        }
        self.version += 1;
        self.stored |= 1 << new.token;
        self.before = std::mem::replace(&mut self.current, new);
        true
    }

    /// Tells a round what happened, and notes what it wants next.
    fn tell(&mut self, at: usize, event: Event) {
        let now = self.clock(at);
        let replica = &mut self.replicas[at];
        let Some((mut round, _)) = replica.round.take() else {
            return;
        };
        let step = round.step(event, now, &mut replica.watch);
        match step {
            Step::Done(outcome) => {
                if matches!(outcome, Outcome::Refreshed | Outcome::Newer { .. }) {
                    replica.uses = replica.read.as_ref().map(|read| read.token);
                }
                (replica.read, replica.issued) = (None, None);
            }
            step => {
                match step {
                    Step::Wait(pause) => replica.wakes = now + pause,
                    // Looking at the time and sending are one: what sleeps between them sends late.
                    Step::Redeem => replica.request = replica.read.as_ref().map(|it| (it.token, None)),
                    _ => {}
                }
                replica.round = Some((round, step));
            }
        }
    }

    fn facts(&self, at: usize, version: u64, record: &Stored) -> Facts {
        Facts {
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

    fn perform(&mut self, at: usize, how: How) -> Option<()> {
        let (_, step) = self.replicas[at].round.clone()?;
        if self.replicas[at].unheard.is_some() {
            return None;
        }
        let claims = matches!(step, Step::Claim { .. });
        let read = self.replicas[at].read.clone();
        let (version, new) = match step {
            Step::Read => return self.read(at, how),
            Step::Wait(_) => {
                let due = how == How::Well && self.clock(at) >= self.replicas[at].wakes;
                return due.then(|| self.tell(at, Event::Woke));
            }
            Step::Redeem | Step::Done(_) => return None,
            Step::Claim {
                version,
                nonce,
                replay,
            } => {
                let lease = Some(Claim {
                    nonce,
                    ttl: TTL,
                    replay,
                });
                (version, Stored { lease, ..read? })
            }
            Step::Store { version } => {
                let token = self.replicas[at].issued?;
                let read = read?;
                let seq = read.seq + 1;
                (
                    version,
                    Stored {
                        seq,
                        token,
                        lease: None,
                        ended: None,
                        ..read
                    },
                )
            }
            Step::End { version, ended } => {
                let ended = Some(ended);
                (
                    version,
                    Stored {
                        ended,
                        lease: None,
                        ..read?
                    },
                )
            }
            Step::Fail { version, replay } | Step::Release { version, replay } => {
                let read = read?;
                let given_back = |lease: Claim| Claim { ttl: 0, ..lease };
                let lease = read.lease.clone().filter(|_| replay).map(given_back);
                (version, Stored { lease, ..read })
            }
        };
        let event = self.written(at, how, version, new)?;
        if claims {
            self.replicas[at].unheard = Some(event);
        } else {
            self.tell(at, event);
        }
        Some(())
    }

    fn read(&mut self, at: usize, how: How) -> Option<()> {
        let (version, record) = match how {
            How::Well => (self.version, self.current.clone()),
            How::Late if self.version > 1 => (self.version - 1, self.before.clone()),
            How::Away => {
                self.tell(at, Event::Failed);
                return Some(());
            }
            How::Late | How::Unheard => return None,
        };
        let facts = self.facts(at, version, &record);
        self.replicas[at].read = Some(record);
        self.tell(at, Event::Read(Some(facts)));
        Some(())
    }

    fn written(&mut self, at: usize, how: How, version: u64, new: Stored) -> Option<Event> {
        if matches!(how, How::Late | How::Away) {
            return (how == How::Away).then_some(Event::Failed);
        }
        let token = usize::from(new.token);
        let replays = new.lease.as_ref().is_some_and(|lease| lease.replay);
        let stands = self.write(version, new.clone());
        if stands && replays {
            self.tokens[token].replayed = true;
        }
        Some(match (stands, how) {
            (true, How::Well) => {
                self.replicas[at].read = Some(new);
                Event::Wrote(self.version)
            }
            (false, How::Well) => Event::Conflict,
            _ => Event::Failed,
        })
    }

    /// The server's part: rotation, and what it makes of a token that was used before.
    fn serve(&mut self, at: usize, served: Served, grace: bool) -> Option<()> {
        let (token, answer) = self.replicas[at].request.clone()?;
        if answer.is_some() {
            return None;
        }
        let uncertain = served == Served::Lost;
        let transient = Answer::Transient {
            uncertain,
            after: None,
        };
        let answer = if served == Served::Later {
            (transient, None)
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

    fn redeem(&mut self, at: usize, grace: bool) -> (Answer, Option<u8>) {
        let token = &mut self.tokens[at];
        token.redeemed += 1;
        let grant = token.grant;
        if token.is_revoked {
            return (Answer::Terminal, None);
        }
        if token.is_used && !grace {
            for token in self.tokens.iter_mut().filter(|it| it.grant == grant) {
                token.is_revoked = true;
            }
            return (Answer::Terminal, None);
        }
        token.is_used = true;
        let next = Token::new(grant, token.seq + 1);
        self.tokens.push(next);
        (Answer::Issued, u8::try_from(self.tokens.len() - 1).ok())
    }

    fn hear(&mut self, at: usize) -> Option<()> {
        if let Some(event) = self.replicas[at].unheard.take() {
            self.tell(at, event);
            return Some(());
        }
        let (_, answer) = self.replicas[at].request.clone()?;
        let (answer, issued) = answer?;
        self.replicas[at].request = None;
        self.replicas[at].issued = issued;
        self.tell(at, Event::Answered(answer));
        Some(())
    }

    fn begin(&mut self, at: usize) -> Option<()> {
        let replica = &mut self.replicas[at];
        if replica.round.is_some() {
            return None;
        }
        replica.rounds += 1;
        let name = format!("{at}.{}", replica.rounds).into();
        replica.round = Some((Round::new(Why::Due, 2, name), Step::Read));
        self.tell(at, Event::Woke);
        Some(())
    }

    fn crash(&mut self, at: usize) {
        let Replica { rounds, crashes, .. } = self.replicas[at];
        self.replicas[at] = Replica {
            rounds,
            crashes: crashes + 1,
            ..Replica::default()
        };
    }

    fn reconnect(&mut self) {
        let grant = self.current.grant + 1;
        self.tokens.push(Token::new(grant, 1));
        let token = u8::try_from(self.tokens.len() - 1).unwrap();
        let new = Stored {
            grant,
            seq: 1,
            token,
            lease: None,
            ended: None,
        };
        self.write(self.version, new);
    }

    /// Whether a token request is on its way: no time passes before it is served.
    fn is_asking(&self) -> bool {
        let asking = |it: &Replica| matches!(it.request, Some((_, None)));
        self.replicas.iter().any(asking)
    }

    fn is_idle(&self) -> bool {
        self.replicas.iter().all(|it| it.round.is_none())
    }

    fn is_done(&self) -> bool {
        self.current.seq > 1 || self.current.ended.is_some()
    }

    /// Whether everything comes to an end once nothing goes wrong any more.
    fn comes_to_an_end(&self, grace: bool) -> bool {
        let mut state = self.clone();
        for _ in 0..PATIENCE {
            if state.is_done() && state.is_idle() {
                return true;
            }
            let mut moved = false;
            for at in 0..state.replicas.len() {
                let begins = !state.is_done() && state.begin(at).is_some();
                moved |= begins
                    || state.perform(at, How::Well).is_some()
                    || state.serve(at, Served::Well, grace).is_some()
                    || state.hear(at).is_some();
            }
            if !moved {
                state.now += TICK;
            }
        }
        false
    }
}

impl Token {
    fn new(grant: u8, seq: u8) -> Self {
        Self {
            grant,
            seq,
            is_used: false,
            is_revoked: false,
            redeemed: 0,
            lost: 0,
            replayed: false,
        }
    }
}

fn spend(left: &mut u8) -> Option<()> {
    *left = left.checked_sub(1)?;
    Some(())
}

impl Model for Worlds {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for at in 0..self.replicas {
            actions.push(Action::Begin(at));
            actions.extend([How::Well, How::Late, How::Unheard, How::Away].map(|how| Action::Do(at, how)));
            let served = [Served::Well, Served::Later, Served::Lost];
            actions.extend(served.map(|served| Action::Serve(at, served)));
            actions.extend([Action::Hear(at), Action::Crash(at)]);
        }
        actions.extend([Action::Reconnect, Action::Withdraw]);
        if state.now < self.until {
            actions.push(Action::Pass);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Begin(at) => {
                // One round each; a crash gives another.
                let left = state.replicas[at].rounds <= state.replicas[at].crashes;
                (left && !state.is_done()).then(|| state.begin(at))??;
            }
            Action::Do(at, how) => {
                match how {
                    How::Well => {}
                    How::Late => spend(&mut state.may.stale)?,
                    How::Unheard | How::Away => spend(&mut state.may.unsure)?,
                }
                state.perform(at, how)?;
            }
            Action::Serve(at, served) => {
                match served {
                    Served::Well => {}
                    Served::Later => spend(&mut state.may.transient)?,
                    Served::Lost => spend(&mut state.may.lost)?,
                }
                state.serve(at, served, self.grace)?;
            }
            Action::Hear(at) => state.hear(at)?,
            Action::Crash(at) => {
                state.replicas[at].round.as_ref()?;
                spend(&mut state.may.crashes)?;
                state.crash(at);
            }
            Action::Reconnect => {
                spend(&mut state.may.reconnects)?;
                state.reconnect();
            }
            Action::Withdraw => {
                spend(&mut state.may.withdrawals)?;
                for token in state.tokens.iter_mut().filter(|it| it.grant == 0) {
                    token.is_revoked = true;
                }
            }
            Action::Pass => {
                if state.is_asking() || state.is_idle() {
                    return None;
                }
                state.now += TICK;
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("one redemption, and one replay at most", |_, state: &State| {
                let most = |it: &Token| 1 + u8::from(it.replayed) + it.lost;
                state.tokens.iter().all(|it| it.redeemed <= most(it))
            }),
            Property::always(
                "nothing older is written over something newer",
                |_, state: &State| {
                    let order = |it: &Stored| (it.grant, it.seq);
                    order(&state.before) <= order(&state.current)
                },
            ),
            Property::always("what is stored came of what it replaced", |_, state: &State| {
                let token = &state.tokens[usize::from(state.current.token)];
                (token.grant, token.seq) == (state.current.grant, state.current.seq)
            }),
            Property::always("no token is on its way twice", |_, state: &State| {
                let on_their_way =
                    |it: &Replica| it.request.as_ref().filter(|it| it.1.is_none()).map(|it| it.0);
                let mut all: Vec<u8> = state.replicas.iter().filter_map(on_their_way).collect();
                let count = all.len();
                all.sort_unstable();
                all.dedup();
                all.len() == count
            }),
            Property::always("refused only what the server refuses", |_, state: &State| {
                let token = &state.tokens[usize::from(state.current.token)];
                state.current.ended != Some(Ended::Refused) || token.is_revoked || token.is_used
            }),
            Property::always("a reconnect is never undone", |worlds, state: &State| {
                let made = worlds.may.reconnects - state.may.reconnects;
                state.current.grant == made
            }),
            Property::always("nothing is used before it is stored", |_, state: &State| {
                let mut used = state.replicas.iter().filter_map(|it| it.uses);
                used.all(|token| state.stored & (1 << token) != 0)
            }),
            Property::always("nothing is stuck", |worlds, state: &State| {
                !state.is_idle() || state.comes_to_an_end(worlds.grace)
            }),
            Property::sometimes("it is refreshed", |_, state: &State| state.current.seq > 1),
        ]
    }
}

fn check(worlds: Worlds) {
    let checker = worlds.checker().threads(2).timeout(GUARD).spawn_bfs().join();
    assert!(checker.is_done(), "too many states to look at within {GUARD:?}");
    println!("{} states", checker.unique_state_count());
    checker.assert_properties();
}

#[test]
fn replicas_that_want_the_same_at_once_redeem_once() {
    check(Worlds {
        replicas: 3,
        grace: false,
        may: Budget {
            stale: 1,
            ..Budget::default()
        },
        until: TICK,
    });
}

#[test]
fn a_holder_that_dies_or_sleeps_is_followed_by_one_replay() {
    for grace in [true, false] {
        check(Worlds {
            replicas: 2,
            grace,
            may: Budget {
                crashes: 1,
                ..Budget::default()
            },
            until: 3 * TICK,
        });
    }
}

#[test]
fn two_deaths_end_in_a_state_that_a_person_can_mend() {
    check(Worlds {
        replicas: 1,
        grace: true,
        may: Budget {
            crashes: 2,
            ..Budget::default()
        },
        until: 4 * TICK,
    });
}

#[test]
fn a_store_that_is_late_and_unsure_loses_nothing() {
    check(Worlds {
        replicas: 2,
        grace: false,
        may: Budget {
            stale: 1,
            unsure: 2,
            ..Budget::default()
        },
        until: 2 * TICK,
    });
}

#[test]
fn a_reconnect_wins_whatever_is_on_its_way() {
    check(Worlds {
        replicas: 2,
        grace: false,
        may: Budget {
            reconnects: 1,
            withdrawals: 1,
            stale: 1,
            unsure: 1,
            ..Budget::default()
        },
        until: 0,
    });
}

#[test]
fn answers_that_are_lost_or_late_end_nothing_that_is_good() {
    check(Worlds {
        replicas: 2,
        grace: true,
        may: Budget {
            transient: 2,
            lost: 1,
            ..Budget::default()
        },
        until: 2 * TICK,
    });
}
