//! The state machine under everything that replicas, stores and authorization servers may do to it.
//!
//! Replicas drive real state machines against a store whose reads may be late and whose writes may seem to
//! fail, and a server that rotates. A suspended holder is one that takes no turn while time passes;
//! clocks run at different speeds. What is assumed: a token request is served within its deadline
//! or never.

mod world;

use std::time::Duration;

use stateright::{Checker, Model, Property};

use crate::record::EndReason;
use world::{FaultBudget, ModelRecord, ModelToken, Replica, ServerBehavior, State, StoreBehavior};

/// How far time goes on at once, in milliseconds: longer than a token request may take.
const TICK: u64 = 30_000;
/// A check that takes longer than that hangs.
const GUARD: Duration = Duration::from_secs(600);

/// One world to look at: how much may go wrong in it.
#[derive(Debug, Clone)]
struct Scenario {
    replicas: usize,
    /// Whether a used refresh token is accepted again, or revokes everything that it led to.
    grace: bool,
    may: FaultBudget,
    until: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Action {
    Begin(usize),
    Do(usize, StoreBehavior),
    Serve(usize, ServerBehavior),
    Hear(usize),
    Crash(usize),
    Reconnect,
    Withdraw,
    Pass,
}

fn spend(left: &mut u8) -> Option<()> {
    *left = left.checked_sub(1)?;
    Some(())
}

impl Model for Scenario {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for at in 0..self.replicas {
            actions.push(Action::Begin(at));
            actions.extend(
                [
                    StoreBehavior::Well,
                    StoreBehavior::Late,
                    StoreBehavior::Unheard,
                    StoreBehavior::Away,
                ]
                .map(|how| Action::Do(at, how)),
            );
            let served = [
                ServerBehavior::Well,
                ServerBehavior::Later,
                ServerBehavior::Lost,
                ServerBehavior::Refused,
            ];
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
                // One refresh each; a crash gives another.
                let left = state.replicas[at].rounds <= state.replicas[at].crashes;
                (left && !state.is_done()).then(|| state.begin(at))??;
            }
            Action::Do(at, how) => {
                match how {
                    StoreBehavior::Well => {}
                    StoreBehavior::Late => spend(&mut state.may.stale)?,
                    StoreBehavior::Unheard | StoreBehavior::Away => spend(&mut state.may.unsure)?,
                }
                state.perform(at, how)?;
            }
            Action::Serve(at, served) => {
                match served {
                    ServerBehavior::Well => {}
                    ServerBehavior::Later => spend(&mut state.may.transient)?,
                    ServerBehavior::Lost => spend(&mut state.may.lost)?,
                    ServerBehavior::Refused => spend(&mut state.may.refusals)?,
                }
                state.serve(at, served, self.grace)?;
            }
            Action::Hear(at) => state.hear(at)?,
            Action::Crash(at) => {
                state.replicas[at].machine.as_ref()?;
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
                let most = |it: &ModelToken| 1 + u8::from(it.replayed) + it.lost;
                state.tokens.iter().all(|it| it.redeemed <= most(it))
            }),
            Property::always(
                "nothing older is written over something newer",
                |_, state: &State| {
                    let order = |it: &ModelRecord| (it.grant, it.seq);
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
                state.current.ended != Some(EndReason::Refused) || token.is_revoked || token.is_used
            }),
            // Beside "refused only what the server refuses": it is no end, and goes with its token set.
            Property::always(
                "a refusal is written down of the token it was about",
                |_, state: &State| {
                    let token = &state.tokens[usize::from(state.current.token)];
                    !state.current.refused || token.is_refused
                },
            ),
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

fn check(worlds: Scenario) {
    let checker = worlds.checker().threads(2).timeout(GUARD).spawn_bfs().join();
    assert!(checker.is_done(), "too many states to look at within {GUARD:?}");
    println!("{} states", checker.unique_state_count());
    checker.assert_properties();
}

#[test]
fn replicas_that_want_the_same_at_once_redeem_once() {
    check(Scenario {
        replicas: 3,
        grace: false,
        may: FaultBudget {
            stale: 1,
            ..FaultBudget::default()
        },
        until: TICK,
    });
}

#[test]
fn a_holder_that_dies_or_sleeps_is_followed_by_one_replay() {
    for grace in [true, false] {
        check(Scenario {
            replicas: 2,
            grace,
            may: FaultBudget {
                crashes: 1,
                ..FaultBudget::default()
            },
            until: 3 * TICK,
        });
    }
}

#[test]
fn two_deaths_end_in_a_state_that_a_person_can_mend() {
    check(Scenario {
        replicas: 1,
        grace: true,
        may: FaultBudget {
            crashes: 2,
            ..FaultBudget::default()
        },
        until: 4 * TICK,
    });
}

#[test]
fn a_store_that_is_late_and_unsure_loses_nothing() {
    check(Scenario {
        replicas: 2,
        grace: false,
        may: FaultBudget {
            stale: 1,
            unsure: 2,
            ..FaultBudget::default()
        },
        until: 2 * TICK,
    });
}

#[test]
fn a_reconnect_wins_whatever_is_on_its_way() {
    check(Scenario {
        replicas: 2,
        grace: false,
        may: FaultBudget {
            reconnects: 1,
            withdrawals: 1,
            stale: 1,
            unsure: 1,
            ..FaultBudget::default()
        },
        until: 0,
    });
}

#[test]
fn answers_that_are_lost_or_late_end_nothing_that_is_good() {
    check(Scenario {
        replicas: 2,
        grace: true,
        may: FaultBudget {
            transient: 2,
            lost: 1,
            ..FaultBudget::default()
        },
        until: 2 * TICK,
    });
}

#[test]
fn a_refusal_that_nobody_knows_is_written_down_ends_nothing_and_a_later_round_mends_it() {
    for (crashes, reconnects) in [(0, 0), (1, 0), (0, 1)] {
        check(Scenario {
            replicas: 2,
            grace: false,
            may: FaultBudget {
                refusals: 2,
                stale: 1,
                unsure: 1,
                crashes,
                reconnects,
                ..FaultBudget::default()
            },
            until: 2 * TICK,
        });
    }
}

#[test]
fn a_refusal_after_a_lost_answer_is_no_end_either() {
    check(Scenario {
        replicas: 2,
        grace: true,
        may: FaultBudget {
            refusals: 1,
            lost: 1,
            ..FaultBudget::default()
        },
        until: 2 * TICK,
    });
}
