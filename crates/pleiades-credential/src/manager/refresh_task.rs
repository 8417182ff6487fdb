//! Drives the refresh state machine: one refresh at a time for each account of this process, in tasks
//! of the control runtime, so that no caller that leaves can lose a rotated token.

use std::{sync::Arc, time::Duration};

use pleiades_core::random;
use pleiades_core::telemetry::{events::TokenRefreshed, request_scope};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::{AccountEventKind, CredentialManager, RefreshOutcome, Refreshed, records::within};
use crate::oauth::{self, OAuthError, OAuthErrorKind, TokenResponse};
use crate::record::{AccountRecord, EndReason, MissedRenewal, OAuthClient, TokenRefusal};
use crate::refresh::{
    self, DEADLINE, Effect, FinalState, RecordFacts, RefreshEvent, RefreshTrigger, StateMachine,
    TokenOutcome, back_off,
};
use crate::slot::{AccountSlot, InFlightRefresh, InFlightState, RefreshBackoff};
use crate::vault::{Fault, Kind, Path, Wrote};
use crate::{clock::millis, connection::Connection, key::AccountKey};

/// The pause after a failed refresh that nobody waits for, first and longest, in milliseconds.
const BACKGROUND_PAUSE: (u64, u64) = (15_000, 600_000);
/// The first pause for callers.
const CALLER_PAUSE: u64 = 2_000;
/// The pause after an endpoint that must not be asked, in milliseconds.
const METADATA_PAUSE: u64 = 60_000;
const ON_DEMAND_WITHIN: Duration = Duration::from_secs(90);

impl CredentialManager {
    /// Refreshes now if it is due, or if `force`; `None` when there is no such account.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn refresh(&self, key: &AccountKey, force: bool) -> Result<Option<Refreshed>, Fault> {
        let Some((version, record)) = self.records.read(key).await? else {
            return Ok(None);
        };
        let connection = self.connection_of(&key.owner.connection, &record.provider);
        let slot = self.keep(key, version, record);
        let Some(connection) = connection else {
            return Ok(Some(self.report(&slot, RefreshOutcome::Unhealthy)));
        };
        let trigger = if force {
            RefreshTrigger::Forced
        } else {
            RefreshTrigger::Due
        };
        let refresh = self.refresh_or_join(&slot, &connection, trigger);
        let outcome = timeout(ON_DEMAND_WITHIN, refresh).await;
        let outcome = match outcome.unwrap_or(FinalState::Stopped) {
            FinalState::Refreshed | FinalState::Newer { .. } => RefreshOutcome::Refreshed,
            FinalState::NotDue => RefreshOutcome::NotDue,
            FinalState::Gone => return Ok(None),
            FinalState::Ended(_) | FinalState::Refused => RefreshOutcome::NeedsReauth,
            FinalState::StoreDown => return Err(store_down()),
            FinalState::Failed { .. } | FinalState::Stopped => RefreshOutcome::Unhealthy,
        };
        Ok(Some(self.report(&slot, outcome)))
    }

    fn report(&self, slot: &AccountSlot, outcome: RefreshOutcome) -> Refreshed {
        let next_at = slot
            .seen()
            .filter(|seen| seen.record.ended.is_none())
            .and_then(|seen| {
                let lead = self.lead(&slot.key.owner.connection, &seen.record.provider);
                seen.lifetime().due(lead, 0).map(|due| due / 1000)
            });
        Refreshed { outcome, next_at }
    }

    pub(super) async fn refresh_or_join(
        &self,
        slot: &Arc<AccountSlot>,
        connection: &Arc<Connection>,
        trigger: RefreshTrigger,
    ) -> FinalState {
        if self.only_reports() && !matches!(trigger, RefreshTrigger::Forced) {
            return FinalState::Stopped;
        }
        loop {
            let (mut in_flight, joined) = self.join_or_start(slot, connection, &trigger);
            let outcome = match in_flight.wait_for(|it| *it != InFlightState::On).await.as_deref() {
                Ok(InFlightState::Over(outcome)) => *outcome,
                Ok(InFlightState::Stuck) => FinalState::StoreDown,
                // The task ended without an outcome: it panicked, or the runtime ended.
                Ok(InFlightState::On) | Err(_) => FinalState::Stopped,
            };
            // What was not due for its trigger may be due for ours.
            if !(joined && outcome == FinalState::NotDue) {
                return outcome;
            }
        }
    }

    fn join_or_start(
        &self,
        slot: &Arc<AccountSlot>,
        connection: &Arc<Connection>,
        trigger: &RefreshTrigger,
    ) -> (InFlightRefresh, bool) {
        let mut in_flight = slot.in_flight.lock();
        if let Some(under_way) = &*in_flight
            && !matches!(*under_way.borrow(), InFlightState::Over(_))
            && under_way.has_changed().is_ok()
        {
            return (under_way.clone(), true);
        }
        let (done, receiver) = watch::channel(InFlightState::On);
        let done = Arc::new(done);
        *in_flight = Some(receiver.clone());
        let Some(manager) = self.me.upgrade().filter(|_| !self.closing.is_cancelled()) else {
            done.send_replace(InFlightState::Over(FinalState::Stopped));
            return (receiver, false);
        };
        let task_state = RefreshTask {
            machine: StateMachine::new(trigger.clone(), connection.attempts, nonce().into()),
            slot: Arc::clone(slot),
            connection: Arc::clone(connection),
            record: None,
            issued: None,
            error: None,
            unanswered: false,
            manager,
            waiters: Arc::clone(&done),
        };
        let task = async move {
            let outcome = task_state.run().await;
            done.send_replace(InFlightState::Over(outcome));
        };
        self.work
            .spawn_on(request_scope::inherited(task), &self.parts.control);
        (receiver, false)
    }
}

struct RefreshTask {
    manager: Arc<CredentialManager>,
    slot: Arc<AccountSlot>,
    connection: Arc<Connection>,
    machine: StateMachine,
    record: Option<AccountRecord>,
    /// New tokens, and when they were asked for, in unix seconds.
    issued: Option<(TokenResponse, u64)>,
    error: Option<OAuthError>,
    /// Whether a token request may have been carried out although its answer never arrived.
    unanswered: bool,
    waiters: Arc<watch::Sender<InFlightState>>,
}

impl RefreshTask {
    async fn run(mut self) -> FinalState {
        let mut event = RefreshEvent::Woke;
        loop {
            let now = self.manager.clock.monotonic_ms();
            let effect = self
                .machine
                .advance(event, now, &mut self.slot.lease_watch.lock());
            event = match effect {
                Effect::Done(outcome) => {
                    self.finish(outcome).await;
                    return outcome;
                }
                Effect::Wait(pause) => self.wait(pause).await,
                Effect::Read => self.read().await,
                Effect::Redeem => self.redeem().await,
                Effect::Claim {
                    version,
                    nonce,
                    replay,
                } => {
                    self.write(version, |record| refresh::claimed(record, &nonce, replay))
                        .await
                }
                Effect::Store { version } => self.store(version).await,
                Effect::End { version, ended } => {
                    let cause = self.refusal();
                    self.write(version, |record| refresh::ended(record, ended, cause))
                        .await
                }
                Effect::Fail {
                    version,
                    replay,
                    refused,
                } => {
                    let (lost, cause) = (self.unanswered, refused.then(|| self.refusal()).flatten());
                    let missed = self.missed();
                    let failed = |record: &_| AccountRecord {
                        missed: Some(missed),
                        ..refresh::failed(record, replay, true, lost, cause)
                    };
                    self.write(version, failed).await
                }
                Effect::Release { version, replay } => {
                    let lost = self.unanswered;
                    let failed = |record: &_| refresh::failed(record, replay, false, lost, None);
                    self.write(version, failed).await
                }
            };
        }
    }

    async fn wait(&self, pause: u64) -> RefreshEvent {
        // A little more or less, so that replicas that wait for the same do not come together.
        let pause = Duration::from_millis(pause);
        let pause = random::between(pause, pause + pause / 4);
        if self.machine.is_stopping() || self.machine.is_storing() {
            sleep(pause).await;
            return RefreshEvent::Woke;
        }
        tokio::select! {
            () = sleep(pause) => RefreshEvent::Woke,
            () = self.manager.closing.cancelled() => RefreshEvent::Stop,
        }
    }

    fn refusal(&self) -> Option<TokenRefusal> {
        self.error.as_ref().map(|trouble| TokenRefusal {
            error: trouble.error.clone(),
            why: trouble.message.clone(),
        })
    }

    /// What is kept of a renewal that brought nothing: `doctor` shows it, also while no gateway runs.
    fn missed(&self) -> MissedRenewal {
        let error = self.error.as_ref();
        let at = self.manager.clock.unix();
        let failures = self.record.as_ref().map_or(0, |record| record.failures);
        let after = error.and_then(|error| error.retry_after).map_or(0, millis);
        let pause = back_off(failures, BACKGROUND_PAUSE.0, BACKGROUND_PAUSE.1).max(after);
        MissedRenewal {
            at,
            why: error.map_or_else(String::new, |error| match &error.cause {
                Some(cause) => format!("{error} ({cause})"),
                None => error.to_string(),
            }),
            again: at + pause.min(BACKGROUND_PAUSE.1) / 1000,
        }
    }

    async fn read(&mut self) -> RefreshEvent {
        match self.manager.records.read(&self.slot.key).await {
            Ok(None) => {
                // The record that was read last says where orphaned tokens are revoked.
                self.manager.forget(&self.slot.key);
                RefreshEvent::Read(None)
            }
            Ok(Some((version, record))) => {
                let lead = self.connection.lead.as_secs();
                let mut facts = RecordFacts::of(version, &record, self.manager.clock.unix(), lead);
                let ours = |(issued, _): &(TokenResponse, u64)| issued.access == record.tokens.access;
                facts.ours = self.issued.as_ref().is_some_and(ours);
                self.remember(version, &record);
                self.record = Some(record);
                RefreshEvent::Read(Some(facts))
            }
            Err(fault) => self.store_failed(&fault),
        }
    }

    fn remember(&self, version: u64, record: &AccountRecord) {
        let entry = self.manager.cache.get(&self.slot.key.owner);
        let readings = entry.map_or(0, |entry| entry.readings());
        self.slot.take_written(version, record.clone(), readings);
    }

    async fn write(
        &mut self,
        version: u64,
        edit: impl FnOnce(&AccountRecord) -> AccountRecord,
    ) -> RefreshEvent {
        let Some(record) = self.record.as_ref().map(edit) else {
            return RefreshEvent::Conflict;
        };
        match self.manager.records.write(&self.slot.key, version, &record).await {
            Ok(Wrote::Done(version)) => {
                self.remember(version, &record);
                self.record = Some(record);
                RefreshEvent::Wrote(version)
            }
            Ok(Wrote::Conflict) => RefreshEvent::Conflict,
            Err(fault) => self.store_failed(&fault),
        }
    }

    /// Writes the new token set: only once that stands does anybody use it, even while the store is
    /// away. What was in use serves on meanwhile.
    async fn store(&mut self, version: u64) -> RefreshEvent {
        let Some((issued, asked)) = self.issued.take() else {
            return RefreshEvent::Conflict;
        };
        let renewed = |record: &_| refresh::renewed(record, &issued, asked);
        let event = self.write(version, renewed).await;
        self.issued = Some((issued, asked));
        event
    }

    async fn redeem(&mut self) -> RefreshEvent {
        let Some(record) = &self.record else {
            return RefreshEvent::Answered(TokenOutcome::Transient {
                uncertain: false,
                after: None,
            });
        };
        let Some(token) = &record.tokens.refresh else {
            return RefreshEvent::Answered(TokenOutcome::Refused { uncertain: false });
        };
        let asked = self.manager.clock.unix();
        let scopes = record.granted.as_deref().filter(|scopes| !scopes.is_empty());
        let web = &*self.manager.parts.web;
        let quirks = &self.manager.quirks;
        let answer = quirks.renew(web, &self.connection, (&record.source, token), scopes);
        let answer = timeout(Duration::from_millis(DEADLINE), answer).await;
        self.unanswered |= match &answer {
            Ok(Ok(_)) => false,
            Ok(Err(trouble)) => trouble.unread || (trouble.sent && trouble.kind == OAuthErrorKind::Transient),
            Err(_) => true,
        };
        match answer {
            Ok(Ok(issued)) => {
                self.issued = Some((issued, asked));
                self.error = None;
                RefreshEvent::Answered(TokenOutcome::Issued)
            }
            Ok(Err(mut trouble)) => {
                let client = &record.source.client;
                let forgotten = is_forgotten(client, &trouble);
                if forgotten {
                    self.forget_client(&client.id).await;
                    trouble.cure = Some(oauth::MADE_ANEW.to_owned());
                }
                let answer = if forgotten {
                    TokenOutcome::Terminal
                } else {
                    classify(&trouble)
                };
                self.error = Some(trouble);
                RefreshEvent::Answered(answer)
            }
            Err(_) => {
                let message = format!("the token endpoint did not answer within {} s", DEADLINE / 1000);
                self.error = Some(OAuthError::new(OAuthErrorKind::Transient, message));
                RefreshEvent::Answered(TokenOutcome::Transient {
                    uncertain: true,
                    after: None,
                })
            }
        }
    }

    /// Removes a registration that its server has forgotten: the next connection makes a new one.
    async fn forget_client(&self, id: &str) {
        let folder = Path::gateway(&["clients"]);
        let records = &self.manager.records;
        for name in records.list(&folder).await.unwrap_or_default() {
            let path = folder.child(&name);
            let stored = within(records.vault.read(&path)).await.ok().flatten();
            let registration = stored.and_then(|it| serde_json::from_str(it.value.expose()).ok());
            if registration.is_some_and(|RegisteredClient { client }| client.id == id) {
                records.remove(&path).await.unwrap_or_else(|fault| {
                    tracing::debug!(error = &fault as &dyn std::error::Error, "a registration stays");
                });
            }
        }
    }

    fn store_failed(&self, fault: &Fault) -> RefreshEvent {
        *self.slot.store_fault.lock() = Some(fault.kind);
        if self.machine.is_storing() {
            if self.machine.is_stuck() {
                self.waiters.send_replace(InFlightState::Stuck);
            }
            let owner = &self.slot.key.owner;
            tracing::error!(
                provider.name = &*self.connection.provider,
                principal.tenant = &*owner.tenant,
                principal.user = &*owner.user,
                account.id = &*self.slot.key.account,
                outcome = fault.kind.as_str(),
                error = fault as &dyn std::error::Error,
                "renewed tokens cannot be stored yet: they are kept, and storing is tried until the process ends"
            );
        } else {
            tracing::debug!(
                error = fault as &dyn std::error::Error,
                "the credential store did not answer"
            );
        }
        RefreshEvent::Failed
    }

    async fn finish(&mut self, outcome: FinalState) {
        let slot = Arc::clone(&self.slot);
        let now = self.manager.clock.monotonic_ms();
        let failures = self.record.as_ref().map_or(1, |record| record.failures.max(1));
        let alone = back_off(failures - 1, BACKGROUND_PAUSE.0, BACKGROUND_PAUSE.1);
        let cause = self.error.as_ref().map(|error| error.for_callers().into());
        let was_waiting = slot.backoff.lock().is_some();
        *slot.backoff.lock() = match outcome {
            // Callers hear at once that it is refused; the server is asked again less and less often.
            FinalState::Refused => Some(RefreshBackoff {
                for_callers: now + back_off(failures - 1, CALLER_PAUSE, BACKGROUND_PAUSE.1),
                in_background: now + alone,
                cause,
            }),
            FinalState::Failed { after } => Some(RefreshBackoff {
                for_callers: now + after.unwrap_or(0).clamp(CALLER_PAUSE, BACKGROUND_PAUSE.1),
                in_background: now + alone.max(after.unwrap_or(0)).min(BACKGROUND_PAUSE.1),
                cause,
            }),
            FinalState::StoreDown => Some(RefreshBackoff {
                for_callers: now,
                in_background: now + BACKGROUND_PAUSE.0,
                cause: None,
            }),
            _ => None,
        };
        self.manager.plan_renewal(&slot);
        let events = &self.manager.events;
        match outcome {
            FinalState::Gone => self.revoke_orphans().await,
            FinalState::Refreshed => events.happened_here(&slot.key, AccountEventKind::Renewed),
            FinalState::Refused => events.happened_here(&slot.key, AccountEventKind::Ended),
            FinalState::Ended(_) if self.machine.is_ending() => {
                events.happened_here(&slot.key, AccountEventKind::Ended);
            }
            _ => {}
        }
        if matches!(outcome, FinalState::StoreDown) && !was_waiting {
            self.log_store_down();
        }
        let label = match outcome {
            FinalState::Refreshed => "refreshed",
            FinalState::Newer { raced: true } => "lost_race",
            FinalState::Failed { .. } => "transient",
            // What was sent before may have been carried out: the account says the same.
            FinalState::Refused if self.record.as_ref().is_some_and(|it| it.unanswered) => "interrupted",
            FinalState::Refused => "refused",
            // As it was written: an earlier renewal may have gone unanswered.
            FinalState::Ended(_) if self.machine.is_ending() => {
                match self.record.as_ref().and_then(|record| record.ended) {
                    Some(EndReason::Interrupted) => "interrupted",
                    _ => "refused",
                }
            }
            _ => return,
        };
        self.emit(label, now);
    }

    /// Logs that the store kept an account from being renewed, at the first of several attempts.
    fn log_store_down(&self) {
        let owner = &self.slot.key.owner;
        let kind = self.slot.store_fault.lock().map(Kind::as_str);
        tracing::warn!(
            provider.name = &*self.connection.provider,
            principal.tenant = &*owner.tenant,
            principal.user = &*owner.user,
            account.id = &*self.slot.key.account,
            outcome = kind,
            error = "the credential store did not answer",
            cure = "nothing: it is tried again by itself; the log says what ails the store",
            "tokens could not be renewed"
        );
    }

    /// What to do where the server's answer does not say it.
    fn cure(&self, outcome: &str) -> Option<String> {
        let provider = &self.connection.provider;
        let options = self.slot.key.options();
        let known = self.error.as_ref().and_then(|trouble| trouble.cure.clone());
        let again = "connect the account again";
        known.filter(|cure| cure != again).or_else(|| match outcome {
            "transient" => Some(format!(
                "nothing yet: it is tried again by itself; if it goes on, `pleiades doctor {provider} {options}` says \
                 which step fails"
            )),
            "refused" | "interrupted" => Some(format!(
                "{again}: the next call of its user answers with a link, or run `pleiades connect {provider} \
                 {options}`"
            )),
            _ => None,
        })
    }

    fn emit(&self, outcome: &'static str, now: u64) {
        let owner = &self.slot.key.owner;
        let description = self.error.as_ref().map(ToString::to_string);
        let ended = self.record.as_ref().and_then(|record| record.ended);
        let is_failure = !matches!(outcome, "refreshed" | "lost_race");
        let innermost = self.error.as_ref().map(OAuthError::innermost);
        let innermost = innermost.or_else(|| is_failure.then(|| without_answer(ended).to_owned()));
        let cure = self.cure(outcome);
        let again = self.slot.backoff.lock().as_ref().map(|it| it.in_background);
        let again = again.map(|at| self.manager.clock.unix() + at.saturating_sub(now).div_ceil(1000));
        let event = TokenRefreshed {
            provider: &self.connection.provider,
            outcome,
            account: Some([&owner.tenant, &owner.user, &self.slot.key.account]),
            seq: self.record.as_ref().map(|record| record.seq),
            expires_at: self.record.as_ref().and_then(|record| record.tokens.expires_at),
            retry_at: again,
            is_repeated: self.is_repeated(is_failure.then_some((outcome, innermost.as_deref()))),
            error: innermost.as_deref(),
            description: description.as_deref(),
            cure: cure.as_deref(),
        };
        event.emit(&self.manager.parts.metrics);
    }

    /// Whether the failure before was the same one; remembers this one. One that makes the account unhealthy is
    /// another.
    fn is_repeated(&self, failure: Option<(&str, Option<&str>)>) -> bool {
        let is_unhealthy = self
            .record
            .as_ref()
            .is_some_and(|record| record.failures >= refresh::UNHEALTHY);
        let now =
            failure.map(|(outcome, error)| format!("{outcome} {is_unhealthy} {}", error.unwrap_or_default()));
        let mut last = self.slot.last_failure.lock();
        let is_repeated = now.is_some() && *last == now;
        *last = now;
        is_repeated
    }

    /// Revokes tokens that were issued after their account was removed.
    async fn revoke_orphans(&mut self) {
        let (Some((issued, _)), Some(record)) = (self.issued.take(), self.record.take()) else {
            return;
        };
        for token in issued.refresh.iter().chain([&issued.access]) {
            let web = &*self.manager.parts.web;
            let given = oauth::revoke(web, &self.connection, &record.source, token);
            if !matches!(timeout(Duration::from_millis(DEADLINE), given).await, Ok(Ok(()))) {
                tracing::warn!(
                    provider.name = &*self.connection.provider,
                    principal.tenant = &*self.slot.key.owner.tenant,
                    principal.user = &*self.slot.key.owner.user,
                    account.id = &*self.slot.key.account,
                    "tokens of a revoked account could not be revoked at the provider"
                );
            }
        }
    }
}

#[derive(serde::Deserialize)]
struct RegisteredClient {
    client: OAuthClient,
}

/// Whether the server has forgotten a client that it registered: none of its tokens can be renewed, and
/// only a new connection helps.
fn is_forgotten(client: &OAuthClient, trouble: &OAuthError) -> bool {
    let is_registered = !client.declared && !client.id.starts_with("https://");
    let error = trouble.error.as_deref();
    is_registered && matches!(error, Some("invalid_client" | "unauthorized_client"))
}

/// Why a renewal failed for which no server was asked.
const fn without_answer(ended: Option<EndReason>) -> &'static str {
    match ended {
        Some(EndReason::NoRefresh) => {
            "the access token is not taken or has ended, and there is no refresh token"
        }
        Some(EndReason::Interrupted) => "a renewal and its repetition were interrupted",
        _ => "the token set cannot be renewed",
    }
}

fn classify(trouble: &OAuthError) -> TokenOutcome {
    match trouble.kind {
        OAuthErrorKind::Grant => TokenOutcome::Terminal,
        OAuthErrorKind::Client => TokenOutcome::Refused {
            uncertain: trouble.unread,
        },
        // No server refused anything: the operator has to fix the endpoint.
        OAuthErrorKind::Metadata => TokenOutcome::Transient {
            uncertain: false,
            after: Some(METADATA_PAUSE),
        },
        OAuthErrorKind::Transient => TokenOutcome::Transient {
            uncertain: trouble.sent,
            after: trouble.retry_after.map(millis),
        },
    }
}

/// A name that no other has: 128 bits. Without randomness the machine is not fit for TLS either; a
/// repeated nonce only makes a lease look older than it is.
pub(super) fn nonce() -> String {
    random::token::<16>().unwrap_or_default()
}

fn store_down() -> Fault {
    Fault::new(Kind::Unreachable, "the credential store did not answer")
}
