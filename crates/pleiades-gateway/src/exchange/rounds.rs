//! The rounds of one call: its provider asks, its client answers, and it goes on; or it becomes a
//! task.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::aside::LARGE;
use super::drive::{self, Tasks, Way};
use super::job::{Job, Next};
use super::outward::{Came, Outgoing, opened, untouched};
use super::state::{Of, State};
use super::talk::{Followed, Held, Talk, Underway};
use super::{Outlet, Step};
use crate::catalog::{Catalogue, Provider, Tool};
use pleiades_core::error::{Code, Error};
use pleiades_core::telemetry::View;
use pleiades_mcp::task::{self, Task};
use pleiades_mcp::{DeclaredCapabilities, Raw, RawObject, Revision, headers};
use pleiades_upstream::{Call, Identity, Transport};

/// Events of a call that wait for its client.
const EVENTS: usize = 64;
/// How often a provider may ask anew within one call.
const ROUNDS: usize = 16;
/// How long a large result waits to be opened.
const OPENING: Duration = Duration::from_secs(20);
/// To a provider that never has enough.
const ENDLESS: &str = "the provider asks without end";
/// To one that asks a client nobody can ask.
const MUTE: &str = "the provider asked for something that this client does not offer";

/// A call on its way: where it goes, and how.
#[derive(Debug)]
pub(super) struct Course<'a> {
    out: Outgoing<'a>,
    behalf: &'a Identity,
    leg: Revision,
    tasks: Tasks,
    of: Option<Of>,
    /// The parameters once more, where it may have to be made again as a task.
    pub(super) spare: Option<RawObject>,
}

impl<'a> Course<'a> {
    pub(super) const fn new(
        out: Outgoing<'a>,
        behalf: &'a Identity,
        leg: Revision,
        tasks: Tasks,
        of: Option<Of>,
    ) -> Self {
        Self {
            out,
            behalf,
            leg,
            tasks,
            of,
            spare: None,
        }
    }
}

/// How the rounds of a call are made.
struct Round<'a> {
    provider: &'a Arc<Provider>,
    catalogue: &'a Catalogue,
    tool: Option<&'a Tool>,
    method: &'static str,
    behalf: &'a Identity,
    leg: Revision,
    tasks: Tasks,
    declared: DeclaredCapabilities,
    holder: &'a str,
    /// Its client's end.
    talk: Talk<'a>,
}

/// Makes a call that may make a task.
async fn made((way, tasks): (Way, Tasks), call: Call) -> Result<Raw, Error> {
    match tasks {
        Tasks::Core => drive::core(way, call).await,
        _ => drive::extended(way, call, tasks).await,
    }
}

/// Whether a provider may have log messages to tell. Looked at with each call, so by the word alone:
/// where it stands by another meaning, nothing is lost but time.
fn may_log(catalogue: &Catalogue) -> bool {
    let profile = catalogue.profile.as_ref();
    profile.is_none_or(|profile| profile.capabilities.get().contains("\"logging\""))
}

impl Step<'_> {
    /// Makes a call, in as many rounds as its provider asks for.
    pub(super) async fn rounds(&mut self, course: Course<'_>, mut held: Held) -> Result<Came, Error> {
        let Course { of, spare, .. } = course;
        let holder = self.peer.principal.binding();
        let (round, mut params) = self.round(course.out, course.behalf, (course.leg, course.tasks), &holder);
        let (provider, leg) = (round.provider, round.leg);
        self.hop_meta(&mut params, leg);
        // Only a legacy client in front of a modern provider needs the parameters again.
        let again = leg.is_modern() && !self.revision().is_modern() && !round.talk.abilities.is_empty();
        for _ in 0..ROUNDS {
            let given = if again {
                params.clone()
            } else {
                std::mem::take(&mut params)
            };
            let (outcome, back) = match self.follow(&round, given, held).await {
                Followed::Done(outcome, held) => (outcome, held),
                Followed::Asked(asks, underway) => {
                    self.record.outcome = "input_required";
                    let of =
                        of.unwrap_or_else(|| Of::new(&provider.id, None, round.method, &RawObject::new()));
                    return self.exchange.parked(&holder, of, asks, *underway);
                }
            };
            held = back;
            let received = match outcome {
                Ok(result) => self.received((&provider.id, &holder), result).await,
                Err(error) => Err(error),
            };
            let result = match received {
                Ok(result) => result,
                Err(error) => return Box::pin(self.broken(&round, error, (spare, of), held)).await,
            };
            if self.revision().is_modern() || !self.asks(&result, leg) {
                return self.settled(&round, result, of, held).await;
            }
            match round.talk.interrogate(&result, provider, leg, true).await {
                Ok(responses) => params.set("inputResponses", responses.close()),
                Err(error) => {
                    held.conclude(self.exchange, provider, Ok(()));
                    return Err(error);
                }
            }
            match result.get("requestState") {
                Some(state) => params.set("requestState", state.to_owned()),
                None => drop(params.remove("requestState")),
            }
        }
        let error = Error::new(Code::UpstreamProtocol, ENDLESS).sent();
        held.conclude(self.exchange, provider, Err(&error));
        Err(error)
    }

    /// A provider's result, opened: aside when it is large.
    async fn received(&self, whose: (&Arc<str>, &str), result: Raw) -> Result<RawObject, Error> {
        if self.scope.view == View::Relay {
            return untouched(&result);
        }
        if result.get().len() <= LARGE {
            return opened(result);
        }
        let opening = self.exchange.aside.run(whose, OPENING, move || opened(result));
        opening.await.unwrap_or_else(|| {
            let message =
                "the answer came, and there was no time to open it; look before you make the call again";
            Err(Error::new(Code::Busy, message).sent())
        })
    }

    /// Whether a result asks for something.
    fn asks(&self, result: &RawObject, leg: Revision) -> bool {
        leg.is_modern()
            && self.scope.view != View::Relay
            && result.text("resultType").as_deref() == Some("input_required")
    }

    /// A call that failed; one that can only be made with tasks is made once more, with them.
    async fn broken(
        &mut self,
        round: &Round<'_>,
        error: Error,
        (spare, of): (Option<RawObject>, Option<Of>),
        held: Held,
    ) -> Result<Came, Error> {
        let wants_tasks = error.rpc.as_deref().is_some_and(task::is_extension_missing);
        if let (Some(params), Some(tool), true) = (spare, round.tool, wants_tasks) {
            self.exchange.needing.learn(round.provider, &tool.name);
            let out = Outgoing {
                provider: round.provider,
                catalogue: round.catalogue,
                tool: round.tool,
                method: round.method,
                params,
            };
            let leg = Revision::V2026_07_28;
            let course = Course::new(out, round.behalf, leg, Tasks::Declared, of);
            return self.rounds(course, held).await;
        }
        let concluded = held.conclude(self.exchange, round.provider, Err(&error));
        self.record.upstream = Some(concluded);
        self.failing(round, error)
    }

    /// An error of the provider as this caller can take it.
    fn failing(&mut self, round: &Round<'_>, error: Error) -> Result<Came, Error> {
        let came = round.talk.failing(round.provider, round.method, error, round.leg);
        if came.is_ok() {
            self.record.outcome = "input_required";
        }
        came
    }

    /// What came is for the client, unless it is a task that nobody but the gateway looks after.
    async fn settled(
        &mut self,
        round: &Round<'_>,
        result: RawObject,
        of: Option<Of>,
        held: Held,
    ) -> Result<Came, Error> {
        let called = round.method == "tools/call" && self.scope.view != View::Relay;
        let told = (called && round.leg.is_modern())
            .then(|| Task::created(&result, round.leg))
            .flatten();
        if let Some(told) = &told
            && round.tasks != Tasks::Native
        {
            let job = Job::new(self.way(round), told.clone());
            return self.work(round, job, of, held).await;
        }
        self.record.upstream = Some(held.conclude(self.exchange, round.provider, Ok(())));
        if let Some(told) = told {
            self.exchange.sessions.sealed()?;
            let account = round.behalf.signature.account;
            let id = self.exchange.seal_task(
                round.holder,
                &round.provider.id,
                (account, self.record.account.as_deref()),
                &told,
            );
            let mut result = result;
            result.put("taskId", &id);
            result.remove("requestState");
            return Ok(Came::Result(result, round.leg));
        }
        Ok(match of.filter(|_| self.asks(&result, round.leg)) {
            Some(of) => {
                self.exchange.sessions.sealed()?;
                Came::Asked(self.wrapped(result, round.holder, of))
            }
            None => Came::Result(result, round.leg),
        })
    }

    /// The way of further requests for a task of a call.
    fn way(&self, round: &Round<'_>) -> Way {
        let mut declared = round.declared.clone();
        if round.leg.is_modern() {
            declared.verbatim = Some(task::with_extension(&declared.capabilities(round.leg)));
        }
        Way {
            upstreams: Arc::clone(&self.exchange.upstreams),
            endpoint: Arc::clone(&round.provider.endpoint),
            behalf: round.behalf.clone(),
            leg: round.leg,
            declared,
        }
    }

    /// Goes on with a task that this client left to answer what it asked.
    pub(super) async fn taken_up(
        &mut self,
        course: Course<'_>,
        id: String,
        responses: RawObject,
        held: Held,
    ) -> Result<Came, Error> {
        let holder = self.peer.principal.binding();
        let (round, _) = self.round(course.out, course.behalf, (course.leg, course.tasks), &holder);
        let mut job = Job::again(self.way(&round), id);
        match job.answer(&responses).await {
            Ok(()) => self.work(&round, job, course.of, held).await,
            Err(error) => {
                held.conclude(self.exchange, round.provider, Err(&error));
                self.failing(&round, error)
            }
        }
    }

    /// Looks after a task of the extension until it ends, or a client of 2026-07-28 has to be asked.
    async fn work(
        &mut self,
        round: &Round<'_>,
        mut job: Job,
        of: Option<Of>,
        held: Held,
    ) -> Result<Came, Error> {
        let (exchange, provider) = (self.exchange, round.provider);
        let outcome = loop {
            let asks = match job.next(self.outlet).await {
                Ok(Next::Done(result)) => break Ok(result),
                Ok(Next::Asks(asks)) => asks,
                Err(error) => break Err(error),
            };
            if self.revision().is_modern() {
                let Some(of) = of else {
                    break Err(Error::new(Code::UpstreamProtocol, MUTE).sent());
                };
                held.conclude(exchange, provider, Ok(()));
                exchange.sessions.sealed()?;
                return Ok(Came::Asked(self.left(asks, job, round.holder, of)));
            }
            match round.talk.interrogate(&asks, provider, round.leg, false).await {
                Ok(responses) => {
                    if let Err(error) = job.answer(&responses).await {
                        break Err(error);
                    }
                }
                Err(error) => {
                    held.conclude(exchange, provider, Ok(()));
                    return Err(error);
                }
            }
        };
        self.record.upstream = Some(held.conclude(exchange, provider, outcome.as_ref().map(|_| ())));
        match outcome {
            Ok(result) => Ok(Came::Result(result, round.leg)),
            Err(error) => self.failing(round, error),
        }
    }

    /// What a task asks, for a client that answers with its next request.
    fn left(&mut self, mut asks: RawObject, job: Job, holder: &str, of: Of) -> Raw {
        self.record.outcome = "input_required";
        let state = self.exchange.seal_state(holder, of, State::Task(job.leave()));
        asks.put("requestState", &state);
        asks.close()
    }

    /// Makes one round of a call; nothing is kept for one during which nothing can be said.
    async fn follow(&self, round: &Round<'_>, params: RawObject, held: Held) -> Followed {
        let upstreams = &self.exchange.upstreams;
        let (provider, leg, method) = (round.provider, round.leg, round.method);
        let way = (round.tasks != Tasks::None).then(|| (self.way(round), round.tasks));
        let mut call = self.call(round, params);
        if !self.converses(round) {
            let outcome = match way {
                Some(way) => Box::pin(made(way, call)).await,
                None => upstreams.request(&provider.endpoint, round.behalf, call).await,
            };
            return Followed::Done(outcome, held);
        }
        let (sender, events) = mpsc::channel(EVENTS);
        call.events = Some(sender);
        let (upstreams, endpoint) = (Arc::clone(upstreams), Arc::clone(&provider.endpoint));
        let behalf = round.behalf.clone();
        let running = Box::pin(async move {
            match way {
                Some(way) => made(way, call).await,
                None => upstreams.request(&endpoint, &behalf, call).await,
            }
        });
        let underway = Underway {
            running,
            events,
            from: leg,
            provider: Arc::clone(provider),
            method,
            held,
        };
        round.talk.follow(underway).await
    }

    /// Whether something may be said or asked during a call; most calls are over sooner without.
    fn converses(&self, round: &Round<'_>) -> bool {
        let Some(outlet) = round.talk.outlet else {
            return !round.leg.is_modern() && !round.talk.abilities.is_empty();
        };
        let asks = !round.leg.is_modern() && !round.talk.abilities.is_empty();
        let modern = self.revision().is_modern();
        outlet.wants_progress() || asks || (round.talk.logs && (modern || may_log(round.catalogue)))
    }

    fn call(&self, round: &Round<'_>, params: RawObject) -> Call {
        let endpoint = &round.provider.endpoint;
        let leg = round.leg;
        let http = matches!(endpoint.target, Transport::Http { .. });
        let mirrored = match round.tool {
            Some(tool) if http && leg.is_modern() && !tool.mirrored.is_empty() => {
                let arguments = params.get("arguments").and_then(|raw| RawObject::open(raw).ok());
                headers::mirrored(&tool.mirrored, &arguments.unwrap_or_default())
            }
            _ => Vec::new(),
        };
        Call {
            method: round.method,
            params,
            revision: leg,
            mirrored,
            deadline: Instant::now() + endpoint.call,
            idempotent: round.method != "tools/call",
            declared: round.declared.clone(),
            progress: self.outlet.is_some_and(Outlet::wants_progress),
            token: None,
            events: None,
        }
    }

    /// A provider's state sealed to its call before a client carries it.
    fn wrapped(&mut self, mut result: RawObject, holder: &str, of: Of) -> Raw {
        self.record.outcome = "input_required";
        match result.read::<String>("requestState") {
            Some(state) => {
                let sealed = self.exchange.seal_state(holder, of, State::Upstream(state));
                result.put("requestState", &sealed);
            }
            // One that is no text could not be sealed, and nobody would take it back.
            None => drop(result.remove("requestState")),
        }
        result.close()
    }
}

impl<'s> Step<'s> {
    fn round<'a>(
        &self,
        out: Outgoing<'a>,
        behalf: &'a Identity,
        (leg, tasks): (Revision, Tasks),
        holder: &'a str,
    ) -> (Round<'a>, RawObject)
    where
        's: 'a,
    {
        let mut declared = self.declared(leg);
        if tasks == Tasks::Declared {
            declared.verbatim = Some(task::with_extension(&declared.capabilities(leg)));
        }
        let round = Round {
            provider: out.provider,
            catalogue: out.catalogue,
            tool: out.tool,
            method: out.method,
            behalf,
            leg,
            tasks,
            talk: self.talk(holder, &declared, leg),
            declared,
            holder,
        };
        (round, out.params)
    }
}
