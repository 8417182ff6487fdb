//! Drives rounds of the state machine: one at a time for each account of this process, in tasks of
//! the control runtime, so that nobody who leaves can lose a rotated token.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::look::{within, written};
use super::{Keeper, RefreshOutcome, Refreshed, What};
use crate::credential::connection::Connection;
use crate::credential::key::Key;
use crate::credential::oauth::{self, Issued, Trouble, TroubleKind};
use crate::credential::record::{Client, Ended, Record, Said};
use crate::credential::refresh::{self, Answer, DEADLINE, Event, Facts, Outcome, Round, Step, Why, back_off};
use crate::credential::slot::{Flight, Flying, Setback, Slot};
use crate::credential::vault::{Fault, Hint, Path, Wrote};
use crate::telemetry::events::TokenRefreshed;

/// The pause after a failed round for whom nobody waits, first and longest, in milliseconds.
const ALONE: (u64, u64) = (15_000, 600_000);
/// The same for callers.
const ASKED: u64 = 2_000;
/// When an endpoint that must not be asked is looked at again, in milliseconds.
const ASIDE: u64 = 60_000;
/// How long somebody who asks for one refresh waits for it.
const PATIENCE: Duration = Duration::from_secs(90);

impl Keeper {
    /// Refreshes now if it is due, or if `force`; `None` when there is no such account.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn refresh(&self, key: &Key, force: bool) -> Result<Option<Refreshed>, Fault> {
        let Some((version, record)) = self.fetch(key).await? else {
            return Ok(None);
        };
        let found = self.connection_of(&key.owner.connection, &record.provider);
        let slot = self.keep(key, version, record);
        let Some(connection) = found else {
            return Ok(Some(self.came(&slot, RefreshOutcome::Unhealthy)));
        };
        let why = if force { Why::Forced } else { Why::Due };
        let outcome = timeout(PATIENCE, self.pursue(&slot, &connection, why)).await;
        let outcome = match outcome.unwrap_or(Outcome::Stopped) {
            Outcome::Refreshed | Outcome::Newer { .. } => RefreshOutcome::Refreshed,
            Outcome::NotDue => RefreshOutcome::NotDue,
            Outcome::Gone => return Ok(None),
            Outcome::Ended(_) | Outcome::Refused => RefreshOutcome::NeedsReauth,
            Outcome::StoreDown => return Err(store_down()),
            Outcome::Failed { .. } | Outcome::Stopped => RefreshOutcome::Unhealthy,
        };
        Ok(Some(self.came(&slot, outcome)))
    }

    fn came(&self, slot: &Slot, outcome: RefreshOutcome) -> Refreshed {
        let next_at = slot
            .seen()
            .filter(|seen| seen.record.ended.is_none())
            .and_then(|seen| {
                let lead = self.lead(&slot.key.owner.connection, &seen.record.provider);
                seen.lives().due(lead, 0).map(|due| due / 1000)
            });
        Refreshed { outcome, next_at }
    }

    /// Puts a record that was read or written alone into memory.
    pub(in crate::credential) fn keep(&self, key: &Key, version: u64, record: Record) -> Arc<Slot> {
        let entry = self.cache.entry(&key.owner, self.clock.grown());
        let slot = entry.put(version, record);
        self.plan(&slot);
        slot
    }

    /// Pursues an account, or joins whoever of this process does so already.
    pub(in crate::credential) async fn pursue(
        &self,
        slot: &Arc<Slot>,
        connection: &Arc<Connection>,
        why: Why,
    ) -> Outcome {
        loop {
            let (mut flight, joined) = self.flight(slot, connection, &why);
            let outcome = match flight.wait_for(|it| *it != Flying::On).await.as_deref() {
                Ok(Flying::Over(outcome)) => *outcome,
                Ok(Flying::Stuck) => Outcome::StoreDown,
                // The task is gone without a word: it panicked, or the runtime ended.
                Ok(Flying::On) | Err(_) => Outcome::Stopped,
            };
            // What the other did not find due may be due for us.
            if !(joined && outcome == Outcome::NotDue) {
                return outcome;
            }
        }
    }

    fn flight(&self, slot: &Arc<Slot>, connection: &Arc<Connection>, why: &Why) -> (Flight, bool) {
        let mut flight = slot.flight.lock();
        if let Some(under_way) = &*flight
            && !matches!(*under_way.borrow(), Flying::Over(_))
            && under_way.has_changed().is_ok()
        {
            return (under_way.clone(), true);
        }
        let (done, receiver) = watch::channel(Flying::On);
        let done = Arc::new(done);
        *flight = Some(receiver.clone());
        let Some(keeper) = self.me.upgrade().filter(|_| !self.closing.is_cancelled()) else {
            done.send_replace(Flying::Over(Outcome::Stopped));
            return (receiver, false);
        };
        let pursuit = Pursuit {
            round: Round::new(why.clone(), connection.attempts, nonce().into()),
            slot: Arc::clone(slot),
            connection: Arc::clone(connection),
            record: None,
            issued: None,
            said: None,
            unanswered: false,
            keeper,
            told: Arc::clone(&done),
        };
        let task = async move {
            let outcome = pursuit.run().await;
            done.send_replace(Flying::Over(outcome));
        };
        self.work.spawn_on(task, &self.parts.control);
        (receiver, false)
    }

    /// How long a caller waits before this account is tried again.
    pub(super) fn setback(&self, slot: &Slot) -> Option<(Duration, Option<Arc<str>>)> {
        let setback = slot.setback.lock();
        let setback = setback.as_ref()?;
        let left = setback.asked.saturating_sub(self.clock.grown());
        (left > 0).then(|| (Duration::from_millis(left), setback.said.clone()))
    }

    /// Writes a record, with what may be known of it without reading.
    pub(super) async fn write(&self, key: &Key, expected: u64, record: &Record) -> Result<Wrote, Fault> {
        let (path, value, hint) = (Path::account(key), written(record)?, hint(record));
        within(self.parts.vault.write(&path, expected, &value, Some(&hint))).await
    }
}

/// One round and what it has in hand.
struct Pursuit {
    keeper: Arc<Keeper>,
    slot: Arc<Slot>,
    connection: Arc<Connection>,
    round: Round,
    record: Option<Record>,
    /// New tokens, and when they were asked for, in unix seconds.
    issued: Option<(Issued, u64)>,
    said: Option<Trouble>,
    /// Whether a redemption of this round may have been carried out without its answer having come.
    unanswered: bool,
    /// Those who wait.
    told: Arc<watch::Sender<Flying>>,
}

impl Pursuit {
    async fn run(mut self) -> Outcome {
        let mut event = Event::Woke;
        loop {
            let now = self.keeper.clock.grown();
            let step = self.round.step(event, now, &mut self.slot.watch.lock());
            event = match step {
                Step::Done(outcome) => {
                    self.over(outcome).await;
                    return outcome;
                }
                Step::Wait(pause) => self.wait(pause).await,
                Step::Read => self.read().await,
                Step::Redeem => self.redeem().await,
                Step::Claim {
                    version,
                    nonce,
                    replay,
                } => {
                    self.write(version, |record| refresh::claimed(record, &nonce, replay))
                        .await
                }
                Step::Store { version } => self.store(version).await,
                Step::End { version, ended } => {
                    let said = self.refusal();
                    self.write(version, |record| refresh::ended(record, ended, said))
                        .await
                }
                Step::Fail {
                    version,
                    replay,
                    refused,
                } => {
                    let (lost, said) = (self.unanswered, refused.then(|| self.refusal()).flatten());
                    self.write(version, |record| {
                        refresh::failed(record, replay, true, lost, said)
                    })
                    .await
                }
                Step::Release { version, replay } => {
                    let lost = self.unanswered;
                    self.write(version, |record| {
                        refresh::failed(record, replay, false, lost, None)
                    })
                    .await
                }
            };
        }
    }

    async fn wait(&self, pause: u64) -> Event {
        // A little more or less, so that replicas that wait for the same do not come together.
        let pause = Duration::from_millis(pause + pause * spread() / 4000);
        if self.round.is_stopping() || self.round.is_storing() {
            sleep(pause).await;
            return Event::Woke;
        }
        tokio::select! {
            () = sleep(pause) => Event::Woke,
            () = self.keeper.closing.cancelled() => Event::Stop,
        }
    }

    /// What the server said to the last request.
    fn refusal(&self) -> Option<Said> {
        self.said.as_ref().map(|trouble| Said {
            error: trouble.error.clone(),
            why: trouble.message.clone(),
        })
    }

    async fn read(&mut self) -> Event {
        match self.keeper.fetch(&self.slot.key).await {
            Ok(None) => {
                // What was read last says where new tokens are given back.
                self.keeper.forget(&self.slot);
                Event::Read(None)
            }
            Ok(Some((version, record))) => {
                let lead = self.connection.lead.as_secs();
                let mut facts = Facts::of(version, &record, self.keeper.clock.unix(), lead);
                let ours = |(issued, _): &(Issued, u64)| issued.access == record.tokens.access;
                facts.ours = self.issued.as_ref().is_some_and(ours);
                self.keeper.seen(&self.slot, version, &record);
                self.record = Some(record);
                Event::Read(Some(facts))
            }
            Err(fault) => self.faulted(&fault),
        }
    }

    /// Writes what the record becomes, and takes it for what is there once it stands.
    async fn write(&mut self, version: u64, edit: impl FnOnce(&Record) -> Record) -> Event {
        let Some(record) = self.record.as_ref().map(edit) else {
            return Event::Conflict;
        };
        match self.keeper.write(&self.slot.key, version, &record).await {
            Ok(Wrote::Done(version)) => {
                self.keeper.seen(&self.slot, version, &record);
                self.record = Some(record);
                Event::Wrote(version)
            }
            Ok(Wrote::Conflict) => Event::Conflict,
            Err(fault) => self.faulted(&fault),
        }
    }

    /// Writes the new token set: only once that stands does anybody use it, even while the store is
    /// away. What was in use serves on meanwhile.
    async fn store(&mut self, version: u64) -> Event {
        let Some((issued, asked)) = self.issued.take() else {
            return Event::Conflict;
        };
        let event = self
            .write(version, |record| refresh::renewed(record, &issued, asked))
            .await;
        self.issued = Some((issued, asked));
        event
    }

    async fn redeem(&mut self) -> Event {
        let Some(record) = &self.record else {
            return Event::Answered(Answer::Transient {
                uncertain: false,
                after: None,
            });
        };
        let Some(token) = &record.tokens.refresh else {
            return Event::Answered(Answer::Refused { uncertain: false });
        };
        let asked = self.keeper.clock.unix();
        let scopes = record.granted.as_deref().filter(|scopes| !scopes.is_empty());
        let web = &*self.keeper.parts.web;
        let habits = &self.keeper.habits;
        let answer = habits.renew(web, &self.connection, (&record.source, token), scopes);
        let answer = timeout(Duration::from_millis(DEADLINE), answer).await;
        self.unanswered |= match &answer {
            Ok(Ok(_)) => false,
            Ok(Err(trouble)) => trouble.unread || (trouble.sent && trouble.kind == TroubleKind::Transient),
            Err(_) => true,
        };
        match answer {
            Ok(Ok(issued)) => {
                self.issued = Some((issued, asked));
                self.said = None;
                Event::Answered(Answer::Issued)
            }
            Ok(Err(mut trouble)) => {
                let client = &record.source.client;
                let forgotten = is_forgotten(client, &trouble);
                if forgotten {
                    self.forget(&client.id).await;
                    trouble.cure = Some(oauth::MADE_ANEW.to_owned());
                }
                let answer = if forgotten {
                    Answer::Terminal
                } else {
                    answer_of(&trouble)
                };
                self.said = Some(trouble);
                Event::Answered(answer)
            }
            Err(_) => Event::Answered(Answer::Transient {
                uncertain: true,
                after: None,
            }),
        }
    }

    /// Removes a registration that its server has forgotten: the next connection makes a new one.
    async fn forget(&self, id: &str) {
        let folder = Path::gateway(&["clients"]);
        let vault = &self.keeper.parts.vault;
        for name in self.keeper.names(&folder).await.unwrap_or_default() {
            let path = folder.child(&name);
            let stored = within(vault.read(&path)).await.ok().flatten();
            let kept = stored.and_then(|it| serde_json::from_str::<Kept>(it.value.expose()).ok());
            if kept.is_some_and(|kept| kept.client.id == id) {
                within(vault.remove(&path)).await.unwrap_or_else(|fault| {
                    tracing::debug!(error = &fault as &dyn std::error::Error, "a registration stays");
                });
            }
        }
    }

    fn faulted(&self, fault: &Fault) -> Event {
        *self.slot.store.lock() = Some(fault.kind);
        if self.round.is_storing() {
            if self.round.is_stuck() {
                self.told.send_replace(Flying::Stuck);
            }
            tracing::error!(
                provider.name = &*self.connection.provider,
                error = fault as &dyn std::error::Error,
                "renewed tokens cannot be stored yet: they are kept, and storing is tried until the process ends"
            );
        } else {
            tracing::debug!(
                error = fault as &dyn std::error::Error,
                "the credential store did not answer"
            );
        }
        Event::Failed
    }

    async fn over(&mut self, outcome: Outcome) {
        let slot = Arc::clone(&self.slot);
        let now = self.keeper.clock.grown();
        let failures = self.record.as_ref().map_or(1, |record| record.failures.max(1));
        let alone = back_off(failures - 1, ALONE.0, ALONE.1);
        let said = self.said.as_ref().map(said);
        *slot.setback.lock() = match outcome {
            // Whoever calls hears at once that it is refused; it is asked again less and less often.
            Outcome::Refused => Some(Setback {
                asked: now + back_off(failures - 1, ASKED, ALONE.1),
                alone: now + alone,
                said,
            }),
            Outcome::Failed { after } => Some(Setback {
                asked: now + after.unwrap_or(0).clamp(ASKED, ALONE.1),
                alone: now + alone.max(after.unwrap_or(0)).min(ALONE.1),
                said,
            }),
            Outcome::StoreDown => Some(Setback {
                asked: now,
                alone: now + ALONE.0,
                said: None,
            }),
            _ => None,
        };
        self.keeper.plan(&slot);
        match outcome {
            Outcome::Gone => self.waste().await,
            Outcome::Refreshed => self.keeper.tell(&slot.key, What::Renewed),
            Outcome::Refused => self.keeper.tell(&slot.key, What::Ended),
            Outcome::Ended(_) if self.round.is_ending() => self.keeper.tell(&slot.key, What::Ended),
            _ => {}
        }
        let label = match outcome {
            Outcome::Refreshed => "refreshed",
            Outcome::Newer { raced: true } => "lost_race",
            Outcome::Failed { .. } => "transient",
            Outcome::Refused => "refused",
            Outcome::Ended(Ended::Interrupted) if self.round.is_ending() => "interrupted",
            Outcome::Ended(_) if self.round.is_ending() => "refused",
            _ => return,
        };
        let description = self.said.as_ref().map(ToString::to_string);
        let event = TokenRefreshed {
            provider: &self.connection.provider,
            outcome: label,
            account: Some([&slot.key.owner.tenant, &slot.key.owner.user, &slot.key.account]),
            seq: self.record.as_ref().map(|record| record.seq),
            error: self.said.as_ref().and_then(|trouble| trouble.error.as_deref()),
            description: description.as_deref(),
            cure: self.said.as_ref().and_then(|trouble| trouble.cure.as_deref()),
        };
        event.emit(&self.keeper.parts.metrics);
    }

    /// Tokens that came after their account was revoked are nobody's: they are given back.
    async fn waste(&mut self) {
        let (Some((issued, _)), Some(record)) = (self.issued.take(), self.record.take()) else {
            return;
        };
        for token in issued.refresh.iter().chain([&issued.access]) {
            let web = &*self.keeper.parts.web;
            let given = oauth::revoke(web, &self.connection, &record.source, token);
            if !matches!(timeout(Duration::from_millis(DEADLINE), given).await, Ok(Ok(()))) {
                tracing::warn!(
                    provider.name = &*self.connection.provider,
                    "tokens of a revoked account could not be revoked at the provider"
                );
            }
        }
    }
}

/// A registered client, as far as it has to be known here.
#[derive(serde::Deserialize)]
struct Kept {
    client: Client,
}

/// Whether a server does not know the client any more that it registered: nothing that it issued to
/// it can be renewed, and only a new connection helps.
fn is_forgotten(client: &Client, trouble: &Trouble) -> bool {
    let is_registered = !client.declared && !client.id.starts_with("https://");
    let says_so = ["invalid_client", "unauthorized_client"];
    is_registered
        && trouble
            .error
            .as_deref()
            .is_some_and(|error| says_so.contains(&error))
}

/// Why a round failed, as callers may read it: whoever did not answer is not named to them.
fn said(trouble: &Trouble) -> Arc<str> {
    trouble.told().into()
}

fn answer_of(trouble: &Trouble) -> Answer {
    match trouble.kind {
        TroubleKind::Grant => Answer::Terminal,
        TroubleKind::Client => Answer::Refused {
            uncertain: trouble.unread,
        },
        // Nobody was asked, and nobody refused: what stands in the way is the operator's to mend.
        TroubleKind::Metadata => Answer::Transient {
            uncertain: false,
            after: Some(ASIDE),
        },
        TroubleKind::Transient => Answer::Transient {
            uncertain: trouble.sent,
            after: trouble
                .retry_after
                .map(|it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX)),
        },
    }
}

/// What may be known of a record without reading it.
pub(super) fn hint(record: &Record) -> Hint {
    let state = match record.ended {
        Some(Ended::Revoked) => "revoked",
        Some(_) => "needs_reauth",
        // Looked at again by whoever sweeps: a refusal that nobody knows may pass.
        None if record.failures >= refresh::UNHEALTHY || record.refusal.is_some() => "unhealthy",
        None => "ok",
    };
    Hint {
        seq: record.seq,
        state: state.to_owned(),
        expiry: record.tokens.expires_at,
    }
}

/// A name that no other has: 128 bits.
pub(in crate::credential) fn nonce() -> String {
    let mut bytes = [0_u8; 16];
    // Without randomness the machine is not fit for TLS either; a repeated nonce only makes a lease
    // look older than it is.
    SystemRandom::new().fill(&mut bytes).unwrap_or_default();
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Something between 0 and 999.
pub(in crate::credential) fn spread() -> u64 {
    let mut bytes = [0_u8; 4];
    SystemRandom::new().fill(&mut bytes).unwrap_or_default();
    u64::from(u32::from_le_bytes(bytes)) % 1000
}

fn store_down() -> Fault {
    use crate::credential::vault::Kind;
    Fault::new(Kind::Unreachable, "the credential store did not answer")
}
