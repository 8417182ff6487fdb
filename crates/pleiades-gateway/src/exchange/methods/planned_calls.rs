//! The calls of a plan made: each as a single call is, in the order that the plan's schedule allows.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::cached_call::age_note;
use super::inner_call::InnerCallEvent;
use super::provider_call::{ProviderCall, inner_params};
use super::result_answer::{BroughtResult, size};
use crate::catalog::{Catalogue, Tool};
use crate::exchange::account::Reached;
use crate::exchange::call::CallOutcome;
use crate::exchange::fault::paced;
use crate::exchange::reply::Done;
use crate::exchange::request::Outlet;
use crate::exchange::workers::LARGE;
use crate::facade::answer::{AnswerStatus, MetaAnswer};
use crate::facade::calls::{PlannedCall, PlannedCalls, ReadyArguments};
use crate::facade::part::WantedPart;
use crate::facade::plan_answer::{self, CallReport};
use crate::facade::schedule::{CallSchedule, MAX_AT_ONCE};
use pleiades_core::error::{Code, Error};
use pleiades_core::limit::load::run_sized;
use pleiades_mcp::{Raw, RawObject, raw};

/// No call of a plan starts later than this after the first one.
const STARTS_WITHIN: Duration = Duration::from_secs(300);
/// How long work on large arguments or results waits for a worker.
const WORKING: Duration = Duration::from_secs(20);
/// Bytes of results that a plan holds until it is answered; what comes over them is left out.
const MAX_RESULTS: usize = 16 * 1024 * 1024;

/// Results that a call refers to, by the ids of their calls.
type Sources = Vec<(Box<str>, Arc<Raw>)>;

/// A call that was started, with its position.
type StartedCall<'a> = BoxFuture<'a, (usize, PlannedResult)>;

/// What one call of a plan came to.
struct PlannedResult {
    answer: MetaAnswer,
    /// What references of later calls read.
    readable: Option<Arc<Raw>>,
    account: Option<Arc<str>>,
    /// Whether the provider may have seen the call.
    sent: bool,
}

/// What the calls of a plan came to so far.
struct PlanResults<'a> {
    planned: &'a PlannedCalls,
    results: Vec<Option<PlannedResult>>,
    bytes: usize,
}

impl ProviderCall<'_> {
    /// Makes the calls of a plan and answers. `outer`: the parameters of the meta tool's call.
    pub(super) async fn run_plan(
        &self,
        (reached, lists): (&Reached, Arc<Catalogue>),
        planned: &PlannedCalls,
        outer: &RawObject,
    ) -> Done {
        self.count_repairs(outer, &planned.repairs);
        let outlet = self.request.outlet().map(Outlet::for_parts);
        let parts = PlanContext {
            call: *self,
            reached,
            lists: &lists,
            outer,
            fresh: planned.options.fresh,
            share: self.share(planned.calls.len(), planned.options.full),
            outlet: outlet.as_ref(),
        };
        let concurrency = self.provider.gate.concurrency();
        let at_once = concurrency
            .and_then(|most| usize::try_from(most).ok())
            .map_or(MAX_AT_ONCE, |most| most.min(MAX_AT_ONCE));
        let mut schedule = CallSchedule::new(planned.calls.iter().map(PlannedCall::order), at_once);
        let mut results = PlanResults::new(planned);
        let mut running = FuturesUnordered::new();
        let until = Instant::now() + STARTS_WITHIN;
        loop {
            if Instant::now() >= until {
                schedule.close();
            }
            let starting = std::iter::from_fn(|| schedule.start());
            running.extend(
                starting.filter_map(|at| parts.begin(at, planned.calls.get(at)?, results.sources(at))),
            );
            let Some((at, result)) = running.next().await else {
                break;
            };
            schedule.finish(at, result.answer.status == AnswerStatus::Ok);
            results.keep(at, result);
            self.tell_progress(&results);
        }
        let (account, answer) = results.answered(schedule.failed());
        self.answered(account.or_else(|| reached.account.clone()), answer)
    }

    /// One step for each call that is over.
    fn tell_progress(&self, results: &PlanResults<'_>) {
        let Some(outlet) = self.request.outlet() else {
            return;
        };
        let mut params = RawObject::new();
        params.put("progress", &results.results.iter().flatten().count());
        params.put("total", &results.results.len());
        outlet.progress(params);
    }
}

impl<'a> PlanResults<'a> {
    fn new(planned: &'a PlannedCalls) -> Self {
        Self {
            planned,
            results: planned.calls.iter().map(|_| None).collect(),
            bytes: 0,
        }
    }

    /// What the call at this position refers to.
    fn sources(&self, at: usize) -> Sources {
        let of = |at: &usize| {
            let result = self.results.get(*at)?.as_ref()?;
            let id = self.planned.calls.get(*at)?.id.clone();
            Some((id, Arc::clone(result.readable.as_ref()?)))
        };
        let needs = self.planned.calls.get(at).map(|call| call.needs.as_slice());
        needs.unwrap_or_default().iter().filter_map(of).collect()
    }

    /// Keeps a result, as far as there is room for it.
    fn keep(&mut self, at: usize, mut result: PlannedResult) {
        if !self.planned.calls.iter().any(|call| call.needs.contains(&at)) {
            result.readable = None;
        }
        let bytes = result.answer.bytes() + result.readable.as_ref().map_or(0, |raw| raw.get().len());
        if self.bytes + bytes > MAX_RESULTS {
            let text = format!(
                "It ran. Its result of {bytes} bytes is left out: a plan holds at most {MAX_RESULTS} bytes of \
                 results. Make such a call alone."
            );
            result.answer = MetaAnswer::new(result.answer.status, text);
            result.readable = None;
        } else {
            self.bytes += bytes;
        }
        if let Some(slot) = self.results.get_mut(at) {
            *slot = Some(result);
        }
    }

    fn answered(self, failed: Option<usize>) -> (Option<Arc<str>>, MetaAnswer) {
        let mut used = self.results.iter().flatten();
        let account = used.find_map(|result| result.account.clone());
        let calls = self.planned.calls.iter().zip(self.results);
        let reports = calls.map(|(call, result)| CallReport {
            id: call.id.clone(),
            tool: Arc::clone(&call.tool),
            writes: call.writes,
            sent: result.as_ref().is_some_and(|result| result.sent),
            answer: result.map(|result| result.answer),
        });
        let mut answer = plan_answer::of_calls(reports.collect(), failed);
        let notes = std::mem::take(&mut answer.notes);
        answer.notes.clone_from(&self.planned.notes);
        answer.notes.extend(notes);
        (account, answer)
    }
}

/// What all calls of a plan share.
#[derive(Clone, Copy)]
struct PlanContext<'a> {
    call: ProviderCall<'a>,
    reached: &'a Reached,
    lists: &'a Arc<Catalogue>,
    outer: &'a RawObject,
    fresh: bool,
    /// Tokens that text and data of one of them may take; `None`: all of it.
    share: Option<usize>,
    outlet: Option<&'a Outlet>,
}

impl<'a> PlanContext<'a> {
    fn begin(self, at: usize, call: &'a PlannedCall, sources: Sources) -> Option<StartedCall<'a>> {
        Some(Box::pin(async move { (at, self.make(call, sources).await) }))
    }

    /// Makes one call, whose event tells of it however it ends.
    async fn make(self, call: &PlannedCall, sources: Sources) -> PlannedResult {
        let event = InnerCallEvent::begin(
            self.call.services,
            self.call.request,
            self.call.provider,
            &call.id,
        );
        let result = {
            let request = self
                .call
                .request
                .clone()
                .with_facts(event.facts())
                .with_outlet(self.outlet);
            request.facts().set_provider(&self.call.provider.id);
            request.facts().set_tool(Some(&(&*call.tool.name).into()));
            let inner = ProviderCall {
                request: &request,
                ..self.call
            };
            inner.part(self, call, sources).await
        };
        event.end(result.answer.outcome());
        result
    }
}

impl ProviderCall<'_> {
    async fn part(&self, parts: PlanContext<'_>, call: &PlannedCall, sources: Sources) -> PlannedResult {
        let ready = match self.ready(call, sources).await {
            Ok(ready) => ready,
            Err(mut answer) => {
                if let Some(cause) = answer.cause.take() {
                    self.request.facts().set_cause(cause);
                }
                return PlannedResult::not_sent(*answer);
            }
        };
        self.count_repairs(parts.outer, &ready.repairs);
        let mut params = inner_params(&call.tool, parts.outer, ready.arguments);
        // Those are of the request, whatever call of its plan they were about.
        params.remove("requestState");
        params.remove("inputResponses");
        let again = params.clone();
        let named = self.provider.rules.named_in(&call.tool, params.get("arguments"));
        let to = (Arc::clone(parts.lists), &call.tool);
        let done = self.make_or_reuse(parts.reached, to, params, parts.fresh).await;
        let mut notes = ready.notes;
        notes.extend(done.age.map(age_note));
        match done.outcome {
            Ok(CallOutcome::Result(result, revision)) => {
                let brought = BroughtResult {
                    reached: parts.reached,
                    account: done.account,
                    tool: &call.tool,
                    named,
                    result,
                    revision,
                };
                self.result_of(brought, parts, notes).await
            }
            Ok(CallOutcome::Asked(asked)) => self.declined(parts, &call.tool, (again, asked)).await,
            Err(error) => self.part_failed(done.account, error, &call.tool),
        }
    }

    /// The arguments to send; large ones are put together by a worker.
    async fn ready(&self, call: &PlannedCall, sources: Sources) -> Result<ReadyArguments, Box<MetaAnswer>> {
        let bytes: usize = sources.iter().map(|(_, source)| source.get().len()).sum();
        let resolve = |call: &PlannedCall, sources: &Sources| {
            let result_of = |id: &str| {
                sources
                    .iter()
                    .find(|(own, _)| **own == *id)
                    .map(|(_, raw)| &***raw)
            };
            call.ready(&result_of)
        };
        if bytes <= LARGE {
            return resolve(call, &sources);
        }
        let owned = call.clone();
        let work = move || resolve(&owned, &sources);
        let holder = self.request.holder();
        let workers = &self.services.workers;
        let done = workers.run((&self.provider.id, &holder), WORKING, work).await;
        done.unwrap_or_else(|| {
            let text =
                "Nothing of it was sent: too much has to be looked into at this moment. Make the plan again.";
            Err(Box::new(MetaAnswer::new(AnswerStatus::RateLimited, text)))
        })
    }

    /// A provider's result as it is answered, within its share of the tokens, and as references read it.
    async fn result_of(
        &self,
        brought: BroughtResult<'_>,
        parts: PlanContext<'_>,
        notes: Vec<String>,
    ) -> PlannedResult {
        let account = brought.account.clone();
        let readable = self.readable(&brought.result).await;
        let is_ok = MetaAnswer::status_of(&brought.result) == AnswerStatus::Ok;
        // Without data of its own a result stands in `data` by its text once more.
        let has_data = brought.result.get("structuredContent").is_some();
        let budget = parts.share.map(|share| if has_data { share } else { share / 2 });
        let answer = match is_ok && Self::is_long(&brought.result, budget) {
            true => {
                self.cut_answer(brought, WantedPart::default(), budget, notes)
                    .await
            }
            false => {
                let result = self.translated(brought.result, brought.revision);
                run_sized(size(&result), || MetaAnswer::of_result(&result, notes))
            }
        };
        PlannedResult {
            answer,
            readable: Some(Arc::new(readable)),
            account,
            sent: true,
        }
    }

    /// What references read of a result; a large one is taken apart by a worker.
    async fn readable(&self, result: &RawObject) -> Raw {
        if size(result) <= LARGE {
            return plan_answer::readable(result);
        }
        let owned = result.clone();
        let holder = self.request.holder();
        let workers = &self.services.workers;
        let work = move || plan_answer::readable(&owned);
        let done = workers.run((&self.provider.id, &holder), WORKING, work).await;
        done.unwrap_or_else(|| run_sized(size(result), || plan_answer::readable(result)))
    }

    fn part_failed(&self, account: Option<Arc<str>>, error: Error, tool: &Tool) -> PlannedResult {
        let (provider, error) = (self.provider, paced(error));
        self.request.facts().fail(&error);
        let writes = !provider.is_read(tool);
        PlannedResult {
            answer: MetaAnswer::of_error(&error, (&provider.title, &provider.id), writes),
            readable: None,
            account,
            sent: error.sent,
        }
    }

    /// A client of 2026-07-28 answers questions with its next request, and a plan has no second one: what
    /// the provider asks is declined, and the call fails.
    async fn declined(
        &self,
        parts: PlanContext<'_>,
        tool: &Arc<Tool>,
        (mut params, asked): (RawObject, Raw),
    ) -> PlannedResult {
        let asked = RawObject::open(&asked).unwrap_or_default();
        if let Some(state) = asked.get("requestState") {
            let asked: Map<String, Value> = asked.read("inputRequests").unwrap_or_default();
            let cancel = |(key, _): (&String, &Value)| (key.clone(), json!({ "action": "cancel" }));
            let responses: Map<String, Value> = asked.iter().map(cancel).collect();
            params.set("requestState", state.to_owned());
            params.set("inputResponses", raw::raw(&responses));
            // Whatever it answers: that nobody answered is what the call came to.
            drop(self.make(Arc::clone(parts.lists), tool, params).await);
        }
        let error = Error::new(
            Code::InputRequired,
            "the provider asks a person something before it goes on, which it cannot within a plan; \
             the question was declined. Make this call alone",
        );
        self.part_failed(None, error.sent(), tool)
    }
}

impl PlannedResult {
    const fn not_sent(answer: MetaAnswer) -> Self {
        Self {
            answer,
            readable: None,
            account: None,
            sent: false,
        }
    }
}
