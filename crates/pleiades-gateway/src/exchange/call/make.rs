//! Makes one call: account, limit, and as many attempts as its provider asks for. It asks, its client
//! answers, and the call goes on; or it becomes a task.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;

use super::extension::{ExtensionTask, TaskTurn};
use super::outcome::{CallGuard, CallOutcome, limited, opened, untouched};
use super::plan::{CallPlan, CallTarget, check_accepted, check_answers, hop_meta, take_retry};
use super::state::{CallKey, CallState};
use super::task::{self, TaskClient};
use super::{Calls, TaskClaims, parking::CallUnderway, replicas::Retry, task_mode::TaskMode};
use crate::exchange::client::{ClientChannel, Conversation, Followed, failing, follow, interrogate};
use crate::exchange::{account::Reached, request::Request, workers::LARGE};
use crate::facade::answer::{AnswerStatus, MetaAnswer};
use crate::result_store::{AccountScope, WriteGuard};
use pleiades_core::error::{Code, Error};
use pleiades_core::telemetry::View;
use pleiades_mcp::task::{Task, is_extension_missing};
use pleiades_mcp::{Raw, RawObject};

/// Events of a call that wait for its client.
const EVENTS: usize = 64;
/// How often a provider may ask anew within one call.
const ROUNDS: usize = 16;
/// How long a large result waits to be opened.
const OPENING: Duration = Duration::from_secs(20);
/// A little more than a call itself may take is waited for another replica's answer.
const HAND_OVER: Duration = Duration::from_secs(2);
const ENDLESS: &str = "the provider asks without end";
const MUTE: &str = "the provider asked for something that this client does not offer";

impl Calls {
    pub(crate) async fn call(
        &self,
        request: &Request<'_>,
        target: CallTarget,
        params: RawObject,
    ) -> Result<CallOutcome, Error> {
        self.call_as(request, target, params).await.1
    }

    /// The same, and the account that made it.
    pub(crate) async fn call_as(
        &self,
        request: &Request<'_>,
        target: CallTarget,
        params: RawObject,
    ) -> (Option<Arc<str>>, Result<CallOutcome, Error>) {
        let (request, reached) = match self.reach(request, &target).await {
            Ok(reached) => reached,
            Err(error) => return (None, Err(error)),
        };
        let accounts = &self.accounts;
        let may_turn = accounts.may_use_another(&request, &target.provider);
        let spare = may_turn.then(|| (target.clone(), params.clone()));
        let made = self.make(&request, target, params, &reached).await;
        // It was revoked, here or elsewhere, which was found before anything was sent.
        let is_gone = matches!(&made, Err(error) if error.code == Code::NeedsAuth && !error.sent);
        if let Some((target, params)) = spare.filter(|_| is_gone)
            && let Some(other) = accounts.reach_another(&request, &target.provider, &reached).await
        {
            let made = Box::pin(self.make(&request, target, params, &other)).await;
            return (other.account, made);
        }
        (reached.account, made)
    }

    /// The request becomes one of the call's tool; an error says how to connect where that would help.
    async fn reach<'a>(
        &self,
        request: &Request<'a>,
        target: &CallTarget,
    ) -> Result<(Request<'a>, Reached), Error> {
        let tool = target.tool_name();
        request.facts().set_provider(&target.provider.id);
        request.facts().set_tool(tool.as_ref());
        let request = request.clone().with_tool(tool);
        let reached = self.accounts.reach(&request, &target.provider).await?;
        Ok((request, reached))
    }

    async fn make(
        &self,
        request: &Request<'_>,
        target: CallTarget,
        params: RawObject,
        reached: &Reached,
    ) -> Result<CallOutcome, Error> {
        let endpoint = Arc::clone(&target.provider.endpoint);
        let write = self.begin_write(&target, reached).await;
        let made = self.make_as(request, target, params, reached).await;
        if let Some(write) = write {
            write.end().await;
        }
        match made {
            Ok(CallOutcome::Result(result, revision))
                if request.view() != View::Relay
                    && MetaAnswer::status_of(&result) == AnswerStatus::UpstreamError =>
            {
                let masked = endpoint.mask(&reached.identity).json(&result.close());
                let result = masked
                    .and_then(|masked| RawObject::open(&masked).ok())
                    .unwrap_or(result);
                Ok(CallOutcome::Result(result, revision))
            }
            Err(error) => {
                request.facts().set_signature(&reached.identity.signature);
                Err(error)
            }
            made => made,
        }
    }

    /// What may change something empties the cache of its account, when it begins and when it ends.
    async fn begin_write(&self, target: &CallTarget, reached: &Reached) -> Option<WriteGuard> {
        let provider = &target.provider;
        let is_write = match target.method {
            "tools/call" => provider.empties_cache(target.tool.as_deref()),
            // What a task changes, it changes until it has ended.
            method => method.starts_with("tasks/") && provider.empties_cache(None),
        };
        if !is_write {
            return None;
        }
        let scope = AccountScope::new(&provider.id, reached.identity.signature.account);
        Some(self.cache.begin_write(scope).await)
    }

    async fn make_as(
        &self,
        request: &Request<'_>,
        target: CallTarget,
        params: RawObject,
        reached: &Reached,
    ) -> Result<CallOutcome, Error> {
        let Some(account) = &reached.account else {
            return self.limit(request, target, params, reached).await;
        };
        request.facts().set_account(Some(account));
        let provider = Arc::clone(&target.provider);
        self.accounts.remember(request, &provider);
        match self.limit(request, target, params, reached).await {
            Err(error) => {
                let accounts = &self.accounts;
                Err(accounts.explain_refusal(request, &provider, reached, error).await)
            }
            outcome => {
                self.accounts.succeeded(request, &provider, reached);
                outcome
            }
        }
    }

    async fn limit(
        &self,
        request: &Request<'_>,
        target: CallTarget,
        mut params: RawObject,
        reached: &Reached,
    ) -> Result<CallOutcome, Error> {
        let mut plan = CallPlan::new(request, target, reached, &self.needing)?;
        let mut retry = take_retry(request, plan.target.method, &mut params)?;
        if let Some(responses) = &retry.responses {
            check_answers(responses)?;
        }
        plan.set_key(request, &retry, &params);
        if let (Some(key), Some(token)) = (&plan.key, &retry.state) {
            match CallState::open(&self.tokens, &plan.holder, key, token)? {
                CallState::Parked { replica, slot } => {
                    let responses = retry.responses.unwrap_or_default();
                    let place = (&*replica, slot);
                    return self.resume_parked(request, &plan, place, responses).await;
                }
                CallState::Upstream(state) => params.put("requestState", &state),
                CallState::Task(id) => {
                    let guard = self.enter(request, &plan)?;
                    let responses = retry.responses.take().unwrap_or_default();
                    let (plan, answer) = (Arc::new(plan), (id, responses));
                    return self.resume_task(request, plan, answer, guard).await;
                }
            }
        }
        match retry.responses {
            Some(responses) if plan.revision.is_modern() => params.set("inputResponses", responses.close()),
            Some(responses) => check_accepted(&responses)?,
            None => {}
        }
        let guard = self.enter(request, &plan)?;
        let spare = plan.may_need_tasks(request).then(|| params.clone());
        self.attempt(request, Arc::new(plan), (params, spare), guard)
            .await
    }

    fn enter(&self, request: &Request<'_>, plan: &CallPlan) -> Result<CallGuard, Error> {
        let provider = &plan.target.provider;
        let tool = plan.target.tool.as_deref();
        let entered = provider.gate.enter(
            &plan.holder,
            &request.principal().tenant,
            plan.identity.signature.account.as_ref(),
            tool.map(|tool| &*tool.name),
        );
        let pass = entered.map_err(|refusal| {
            self.metrics.limited(&provider.id, refusal.rule.as_str());
            limited(&provider.title, &refusal)
        })?;
        Ok(CallGuard::new(pass, self.metrics.inflight(&provider.id)))
    }

    async fn resume_parked(
        &self,
        request: &Request<'_>,
        plan: &CallPlan,
        (replica, slot): (&str, u64),
        responses: RawObject,
    ) -> Result<CallOutcome, Error> {
        let retry = Retry {
            holder: plan.holder.clone(),
            of: plan.key.clone().unwrap_or_else(|| plan.key_of(&RawObject::new())),
            slot,
            responses,
            abilities: request.peer().abilities.bits(),
        };
        if replica == self.replicas.own() {
            let channel = ClientChannel {
                abilities: request.peer().abilities,
                session: None,
                logs: false,
                ..self.channel(request, plan)
            };
            return self.resume(&channel, retry).await;
        }
        let endpoint = &plan.target.provider.endpoint;
        let within = match plan.tasks {
            TaskMode::Core => task::longest(endpoint),
            _ => endpoint.call,
        };
        let within = within.saturating_add(HAND_OVER);
        self.replicas.hand_retry(replica, retry, within).await
    }

    fn channel<'c>(&'c self, request: &Request<'c>, plan: &'c CallPlan) -> ClientChannel<'c> {
        ClientChannel {
            questions: &self.questions,
            mailboxes: &self.mailboxes,
            holder: &plan.holder,
            client: request.revision(),
            abilities: plan.declared.abilities,
            outlet: request.outlet(),
            session: request.session(),
            logs: plan.revision.is_modern() == request.is_modern(),
        }
    }

    /// `spare`: the parameters once more, where the call may have to be made again as a task.
    async fn attempt(
        &self,
        request: &Request<'_>,
        plan: Arc<CallPlan>,
        (mut params, spare): (RawObject, Option<RawObject>),
        guard: CallGuard,
    ) -> Result<CallOutcome, Error> {
        let channel = self.channel(request, &plan);
        let provider = &plan.target.provider;
        hop_meta(request, plan.revision, &mut params);
        // Only a legacy client in front of a modern provider needs the parameters again.
        let again = plan.revision.is_modern() && !request.is_modern() && !channel.abilities.is_empty();
        for _ in 0..ROUNDS {
            let given = if again {
                params.clone()
            } else {
                std::mem::take(&mut params)
            };
            let outcome = match self.follow(&channel, &plan, given).await {
                Followed::Done(outcome) => outcome,
                Followed::Asked(asks, conversation) => {
                    let key = plan.key.clone().unwrap_or_else(|| plan.key_of(&RawObject::new()));
                    let holder = plan.holder.clone();
                    let plan = Arc::clone(&plan);
                    let call = CallUnderway {
                        plan,
                        conversation,
                        guard,
                    };
                    return self.park(&holder, key, asks, call);
                }
            };
            let received = match outcome {
                Ok(result) => self.received(request, &plan, result).await,
                Err(error) => Err(error),
            };
            let result = match received {
                Ok(result) => result,
                Err(error) => {
                    return Box::pin(self.failed(request, &plan, (error, spare), guard)).await;
                }
            };
            if request.is_modern() || !plan.asks(request.view(), &result) {
                return self.settle(request, &plan, result, guard).await;
            }
            match interrogate(&channel, &result, &provider.title, (plan.revision, true)).await {
                Ok(responses) => params.set("inputResponses", responses.close()),
                Err(error) => {
                    guard.conclude(&self.catalog, provider, Ok(()));
                    return Err(error);
                }
            }
            match result.get("requestState") {
                Some(state) => params.set("requestState", state.to_owned()),
                None => drop(params.remove("requestState")),
            }
        }
        let error = Error::new(Code::UpstreamProtocol, ENDLESS).sent();
        guard.conclude(&self.catalog, provider, Err(&error));
        Err(error)
    }

    /// Makes one attempt; nothing is kept for one during which nothing can be said.
    async fn follow(&self, channel: &ClientChannel<'_>, plan: &Arc<CallPlan>, params: RawObject) -> Followed {
        let mut call = plan.call(channel.outlet, params);
        let tasks = (plan.tasks != TaskMode::None).then(|| self.tasks(plan));
        let endpoint = &plan.target.provider.endpoint;
        if !plan.converses(channel) {
            return Followed::Done(match tasks {
                Some(tasks) => Box::pin(task::make(tasks, call)).await,
                None => self.upstreams.request(endpoint, &plan.identity, call).await,
            });
        }
        let (sender, events) = mpsc::channel(EVENTS);
        call.events = Some(sender);
        let (upstreams, running) = (Arc::clone(&self.upstreams), Arc::clone(plan));
        let running = Box::pin(async move {
            match tasks {
                Some(tasks) => task::make(tasks, call).await,
                None => {
                    let endpoint = &running.target.provider.endpoint;
                    upstreams.request(endpoint, &running.identity, call).await
                }
            }
        });
        let conversation = Conversation {
            running,
            events,
            from: plan.revision,
        };
        follow(channel, conversation).await
    }

    fn tasks(&self, plan: &Arc<CallPlan>) -> TaskClient {
        TaskClient::new(Arc::clone(&self.upstreams), Arc::clone(plan))
    }

    async fn received(
        &self,
        request: &Request<'_>,
        plan: &CallPlan,
        result: Raw,
    ) -> Result<RawObject, Error> {
        if request.view() == View::Relay {
            return untouched(&result);
        }
        if result.get().len() <= LARGE {
            return opened(result);
        }
        let of = (&plan.target.provider.id, plan.holder.as_str());
        let opening = self.workers.run(of, OPENING, move || opened(result));
        opening.await.unwrap_or_else(|| {
            let message =
                "the answer came, and there was no time to open it; look before you make the call again";
            Err(Error::new(Code::Busy, message).sent())
        })
    }

    /// A call that failed; one that can only be made with tasks is made once more, with them.
    async fn failed(
        &self,
        request: &Request<'_>,
        plan: &CallPlan,
        (error, spare): (Error, Option<RawObject>),
        guard: CallGuard,
    ) -> Result<CallOutcome, Error> {
        let wants_tasks = error.rpc.as_deref().is_some_and(is_extension_missing);
        if let (Some(params), Some(tool), true) = (spare, &plan.target.tool, wants_tasks) {
            self.needing.learn(&plan.target.provider, &tool.name);
            let plan = Arc::new(plan.with_tasks(request));
            return self.attempt(request, plan, (params, None), guard).await;
        }
        let waited = guard.conclude(&self.catalog, &plan.target.provider, Err(&error));
        request.facts().set_upstream(waited);
        self.explain(request, plan, error)
    }

    fn explain(&self, request: &Request<'_>, plan: &CallPlan, error: Error) -> Result<CallOutcome, Error> {
        let of = (plan.target.provider.title.as_str(), plan.target.method);
        let channel = self.channel(request, plan);
        failing(&channel, of, error, plan.revision).map(CallOutcome::Asked)
    }

    /// What came is for the client, unless it is a task that nobody but the gateway looks after.
    async fn settle(
        &self,
        request: &Request<'_>,
        plan: &Arc<CallPlan>,
        mut result: RawObject,
        guard: CallGuard,
    ) -> Result<CallOutcome, Error> {
        let called = plan.target.method == "tools/call" && request.view() != View::Relay;
        let task = (called && plan.revision.is_modern())
            .then(|| Task::created(&result, plan.revision))
            .flatten();
        if let Some(task) = &task
            && plan.tasks != TaskMode::Native
        {
            let task = ExtensionTask::new(self.tasks(plan), task.id.clone(), Some(task.clone()));
            return self.look_after(request, plan, task, guard).await;
        }
        let waited = guard.conclude(&self.catalog, &plan.target.provider, Ok(()));
        request.facts().set_upstream(waited);
        if let Some(task) = task {
            self.tokens.ready()?;
            let claims = TaskClaims {
                provider: plan.target.provider.id.to_string(),
                fingerprint: plan.identity.signature.account,
                account: plan.account.as_deref().map(str::to_owned),
                id: task.id.clone(),
            };
            result.put("taskId", &claims.seal(&self.tokens, &plan.holder, &task));
            result.remove("requestState");
            return Ok(CallOutcome::Result(result, plan.revision));
        }
        match plan.key.clone().filter(|_| plan.asks(request.view(), &result)) {
            Some(key) => {
                self.tokens.ready()?;
                Ok(CallOutcome::Asked(self.seal_upstream(&plan.holder, key, result)))
            }
            None => Ok(CallOutcome::Result(result, plan.revision)),
        }
    }

    fn seal_upstream(&self, holder: &str, key: CallKey, mut result: RawObject) -> Raw {
        match result.read::<String>("requestState") {
            Some(state) => {
                let sealed = CallState::Upstream(state).seal(&self.tokens, holder, key);
                result.put("requestState", &sealed);
            }
            // One that is no text could not be sealed, and nobody would take it back.
            None => drop(result.remove("requestState")),
        }
        result.close()
    }

    async fn resume_task(
        &self,
        request: &Request<'_>,
        plan: Arc<CallPlan>,
        (id, responses): (String, RawObject),
        guard: CallGuard,
    ) -> Result<CallOutcome, Error> {
        let mut task = ExtensionTask::new(self.tasks(&plan), id, None);
        match task.answer(&responses).await {
            Ok(()) => self.look_after(request, &plan, task, guard).await,
            Err(error) => {
                guard.conclude(&self.catalog, &plan.target.provider, Err(&error));
                self.explain(request, &plan, error)
            }
        }
    }

    /// Looks after a task of the extension until it ends, or a client of 2026-07-28 has to be asked.
    async fn look_after(
        &self,
        request: &Request<'_>,
        plan: &CallPlan,
        mut task: ExtensionTask,
        guard: CallGuard,
    ) -> Result<CallOutcome, Error> {
        let channel = self.channel(request, plan);
        let provider = &plan.target.provider;
        let outcome = loop {
            let mut asks = match task.next(request.outlet()).await {
                Ok(TaskTurn::Done(result)) => break Ok(result),
                Ok(TaskTurn::Asks(asks)) => asks,
                Err(error) => break Err(error),
            };
            if request.is_modern() {
                let Some(key) = plan.key.clone() else {
                    break Err(Error::new(Code::UpstreamProtocol, MUTE).sent());
                };
                guard.conclude(&self.catalog, provider, Ok(()));
                self.tokens.ready()?;
                let state = CallState::Task(task.leave()).seal(&self.tokens, &plan.holder, key);
                asks.put("requestState", &state);
                return Ok(CallOutcome::Asked(asks.close()));
            }
            match interrogate(&channel, &asks, &provider.title, (plan.revision, false)).await {
                Ok(responses) => {
                    if let Err(error) = task.answer(&responses).await {
                        break Err(error);
                    }
                }
                Err(error) => {
                    guard.conclude(&self.catalog, provider, Ok(()));
                    return Err(error);
                }
            }
        };
        let waited = guard.conclude(&self.catalog, provider, outcome.as_ref().map(|_| ()));
        request.facts().set_upstream(waited);
        match outcome {
            Ok(result) => Ok(CallOutcome::Result(result, plan.revision)),
            Err(error) => self.explain(request, plan, error),
        }
    }
}
