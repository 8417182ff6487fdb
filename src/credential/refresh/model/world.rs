//! A store, an authorization server and replicas, with everything that may go wrong with them.

use super::{TICK, Worlds};
use crate::credential::record::Ended;
use crate::credential::refresh::{Answer, Claim, Event, Facts, Outcome, Round, Step, TTL, Watch, Why};

/// Turns within which everything has to come to an end when nothing goes wrong any more.
const PATIENCE: u32 = 400;

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Budget {
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
pub(super) struct Stored {
    pub(super) grant: u8,
    pub(super) seq: u8,
    pub(super) token: u8,
    pub(super) lease: Option<Claim>,
    pub(super) ended: Option<Ended>,
    /// The last renewal was refused, and nobody knows whether for good.
    pub(super) refused: bool,
}

/// A refresh token at its server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Token {
    pub(super) grant: u8,
    /// Of the token set that it came with.
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

/// An answer, and the token that came with it.
pub(super) type Came = (Answer, Option<u8>);

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Replica {
    pub(super) watch: Watch,
    pub(super) rounds: u8,
    pub(super) crashes: u8,
    pub(super) round: Option<(Round, Step)>,
    pub(super) wakes: u64,
    pub(super) read: Option<Stored>,
    /// The token that is on its way, and what was answered.
    pub(super) request: Option<(u8, Option<Came>)>,
    pub(super) issued: Option<u8>,
    /// What became of a claim, while its holder sleeps.
    pub(super) unheard: Option<Event>,
    /// The token set in use.
    pub(super) uses: Option<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) now: u64,
    pub(super) version: u64,
    pub(super) current: Stored,
    pub(super) before: Stored,
    /// Every token set that was ever stored, as bits.
    pub(super) stored: u32,
    pub(super) tokens: Vec<Token>,
    pub(super) replicas: Vec<Replica>,
    pub(super) may: Budget,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum How {
    Well,
    /// A read that is one write behind.
    Late,
    /// A write that stands and seems to fail.
    Unheard,
    /// A request that the store does not get.
    Away,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Served {
    Well,
    Later,
    Lost,
    /// Refused for no reason that is known.
    Refused,
}

impl State {
    pub(super) fn new(worlds: &Worlds) -> Self {
        let first = Stored {
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
            tokens: vec![Token::new(0, 1)],
            replicas: vec![Replica::default(); worlds.replicas],
            may: worlds.may.clone(),
        }
    }

    /// A replica's own clock: the second runs a twentieth faster, the third slower.
    pub(super) fn clock(&self, at: usize) -> u64 {
        self.now * [100, 105, 95][at % 3] / 100
    }

    pub(super) fn write(&mut self, expected: u64, new: Stored) -> bool {
        if expected != self.version {
            return false;
        }
        self.version += 1;
        self.stored |= 1 << new.token;
        self.before = std::mem::replace(&mut self.current, new);
        true
    }

    /// Tells a round what happened, and notes what it wants next.
    pub(super) fn tell(&mut self, at: usize, event: Event) {
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

    pub(super) fn facts(&self, at: usize, version: u64, record: &Stored) -> Facts {
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

    pub(super) fn perform(&mut self, at: usize, how: How) -> Option<()> {
        let (_, step) = self.replicas[at].round.clone()?;
        if self.replicas[at].unheard.is_some() {
            return None;
        }
        match step {
            Step::Read => return self.read(at, how),
            Step::Wait(_) => {
                let due = how == How::Well && self.clock(at) >= self.replicas[at].wakes;
                return due.then(|| self.tell(at, Event::Woke));
            }
            Step::Redeem | Step::Done(_) => return None,
            _ => {}
        }
        let claims = matches!(step, Step::Claim { .. });
        let (version, new) = self.replicas[at].becomes(step)?;
        let event = self.written(at, how, version, new)?;
        if claims {
            self.replicas[at].unheard = Some(event);
        } else {
            self.tell(at, event);
        }
        Some(())
    }

    pub(super) fn read(&mut self, at: usize, how: How) -> Option<()> {
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

    pub(super) fn written(&mut self, at: usize, how: How, version: u64, new: Stored) -> Option<Event> {
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
    pub(super) fn serve(&mut self, at: usize, served: Served, grace: bool) -> Option<()> {
        let (token, answer) = self.replicas[at].request?;
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
        } else if served == Served::Refused {
            self.tokens[usize::from(token)].is_refused = true;
            (Answer::Refused { uncertain: false }, None)
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

    pub(super) fn redeem(&mut self, at: usize, grace: bool) -> (Answer, Option<u8>) {
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

    pub(super) fn hear(&mut self, at: usize) -> Option<()> {
        if let Some(event) = self.replicas[at].unheard.take() {
            self.tell(at, event);
            return Some(());
        }
        let (_, answer) = self.replicas[at].request?;
        let (answer, issued) = answer?;
        self.replicas[at].request = None;
        self.replicas[at].issued = issued;
        self.tell(at, Event::Answered(answer));
        Some(())
    }

    pub(super) fn begin(&mut self, at: usize) -> Option<()> {
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
        self.tokens.push(Token::new(grant, 1));
        let token = u8::try_from(self.tokens.len() - 1).unwrap();
        let new = Stored {
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
        self.replicas.iter().all(|it| it.round.is_none())
    }

    pub(super) fn is_done(&self) -> bool {
        self.current.seq > 1 || self.current.ended.is_some()
    }

    /// Whether everything comes to an end once nothing goes wrong any more.
    pub(super) fn comes_to_an_end(&self, grace: bool) -> bool {
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

impl Replica {
    /// What a step makes of the record that was read.
    pub(super) fn becomes(&self, step: Step) -> Option<(u64, Stored)> {
        let read = self.read.clone()?;
        let unleased = Stored {
            lease: None,
            ..read.clone()
        };
        Some(match step {
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
                (version, Stored { lease, ..read })
            }
            Step::Store { version } => {
                let (seq, token) = (read.seq + 1, self.issued?);
                (
                    version,
                    Stored {
                        seq,
                        token,
                        ended: None,
                        refused: false,
                        ..unleased
                    },
                )
            }
            Step::End { version, ended } => (
                version,
                Stored {
                    ended: Some(ended),
                    ..unleased
                },
            ),
            Step::Fail {
                version,
                replay,
                refused,
            } => (
                version,
                Stored {
                    refused: refused || read.refused,
                    ..given_back(read, replay)
                },
            ),
            Step::Release { version, replay } => (version, given_back(read, replay)),
            Step::Read | Step::Redeem | Step::Wait(_) | Step::Done(_) => return None,
        })
    }
}

/// A record whose lease is given back, which remembers a replay.
fn given_back(read: Stored, replay: bool) -> Stored {
    let lease = read.lease.filter(|_| replay);
    Stored {
        lease: lease.map(|lease| Claim { ttl: 0, ..lease }),
        ..read
    }
}

impl Token {
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
