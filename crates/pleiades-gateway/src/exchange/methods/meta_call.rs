//! `tools/call` of a meta tool: what it means, and what its answer looks like.

use std::{borrow::Cow, sync::Arc, time::Duration};

use serde_json::value::RawValue;

use super::answer_form::form;
use super::cached_call::age_note;
use super::provider_call::{ProviderCall, inner_params, is_for_the_client, too_many};
use super::result_answer::BroughtResult;
use crate::catalog::{Catalogue, Provider, Tool};
use crate::exchange::account::Reached;
use crate::exchange::call::CallOutcome;
use crate::exchange::request::{Request, parse_account};
use crate::exchange::union::Listed;
use crate::exchange::{reply::Done, services::MethodServices};
use crate::facade::answer::{AnswerStatus, MetaAnswer};
use crate::facade::form::AnswerForm;
use crate::facade::menu::Menu;
use crate::facade::meta_tool::{self, CallContext};
use crate::facade::part::WantedPart;
use crate::facade::plan::{self, MetaPlan};
use crate::facade::split::{self, CalledTool};
use pleiades_core::error::{Code, Error};
use pleiades_core::telemetry::names;
use pleiades_mcp::RawObject;

/// How long a call waits until it was looked into.
const PLANNING: Duration = Duration::from_secs(5);

/// Whose work it is to look through all providers; no id can be so.
const ALL_PROVIDERS: &str = "-";

/// A call of a meta tool: a goal for all providers, or what `use_{provider}` makes of it.
pub(super) async fn meta_call(
    services: &MethodServices,
    request: &Request<'_>,
    name: &str,
    params: &RawObject,
) -> Result<Done, Error> {
    match services.is_single(request).then(|| goal(params)).flatten() {
        Some(prompt) => across(services, request, (prompt, form(services, request, params))).await,
        None => to_provider(services, request, name, params).await,
    }
}

/// `use_{provider}`: the facade decides what the call means.
async fn to_provider(
    services: &MethodServices,
    request: &Request<'_>,
    name: &str,
    params: &RawObject,
) -> Result<Done, Error> {
    let (provider, called, named, arguments) = match meta_provider(services, request, (name, params))? {
        Ok(placed) => placed.into_parts(),
        Err(answer) => return Ok(unplaced(request, *answer, form(services, request, params))),
    };
    request.facts().set_provider(&provider.id);
    // The account that a call's own arguments name goes before all others.
    let named = parse_account(&named.unwrap_or_default())?;
    let named = named.or_else(|| request.named_account().cloned());
    let request = &request.clone().with_account(named);
    let call = ProviderCall {
        services,
        request,
        provider: &provider,
        form: form(services, request, params),
    };
    call.name_tool(&arguments, &provider.live.shared.load());
    if let Some(answer) = call.dry_run((&called, &arguments)).await {
        return Ok(call.answered(None, answer));
    }
    let (reached, lists, ambiguous) = match call.lists().await {
        Ok(lists) => lists,
        Err(error) => return call.failed(None, error, None),
    };
    let account = reached.account.clone().filter(|_| ambiguous.is_none());
    request.facts().set_account(account.as_ref());
    call.name_tool(&arguments, &lists);
    let prompt = arguments.text("prompt").unwrap_or_default().into();
    let (plan, lists) = match call.understood(&reached, lists, (&called, arguments)).await {
        Ok(understood) => understood,
        Err(error) => return call.failed(account, error, None),
    };
    call.follow((&reached, ambiguous), (plan, lists), params, prompt)
        .await
}

/// One operation to run.
struct PlannedRun {
    tool: Arc<Tool>,
    params: RawObject,
    wanted: WantedPart,
    fresh: bool,
    notes: Vec<String>,
}

/// The goal of a call of the one tool for all that says nothing else.
fn goal(params: &RawObject) -> Option<String> {
    let arguments = plan::given(params.get("arguments")).ok()?;
    let is_beside = |key: &str| matches!(key, "prompt" | "accountId" | "options");
    let says_more = |(key, value): (&str, &RawValue)| !is_beside(key) && value.get() != "null";
    let prompt = arguments
        .text("prompt")
        .filter(|prompt| !prompt.trim().is_empty());
    prompt
        .filter(|_| !arguments.iter().any(says_more))
        .map(Cow::into_owned)
}

/// The operations of all providers that this caller sees, as far as they are at hand, for a goal.
async fn across(
    services: &MethodServices,
    request: &Request<'_>,
    (prompt, form): (String, AnswerForm),
) -> Result<Done, Error> {
    let known = services.lists.known_tools(request, None);
    let work = move || {
        let lists: Vec<(&Provider, &Catalogue)> = known
            .iter()
            .map(|(provider, lists)| (&**provider, &**lists))
            .collect();
        Menu::across(&lists, &prompt).answer()
    };
    let holder = request.holder();
    let answer = services
        .workers
        .run((&ALL_PROVIDERS.into(), &holder), PLANNING, work)
        .await;
    Ok(unplaced(request, answer.ok_or_else(too_many)?, form))
}

/// Whom a call of a meta tool is for.
struct PlacedCall {
    provider: Arc<Provider>,
    tool: CalledTool,
    /// The account that it names.
    account: Option<String>,
    /// The tool's own arguments.
    arguments: RawObject,
}

impl PlacedCall {
    fn into_parts(self) -> (Arc<Provider>, CalledTool, Option<String>, RawObject) {
        (self.provider, self.tool, self.account, self.arguments)
    }
}

/// Inside: the answer to a call that cannot be read, or that names no provider where the tool is that of all.
fn meta_provider(
    services: &MethodServices,
    request: &Request<'_>,
    (name, params): (&str, &RawObject),
) -> Result<Result<PlacedCall, Box<MetaAnswer>>, Error> {
    let providers = &request.snapshot().providers;
    let given = plan::given(params.get("arguments"));
    if services.is_single(request) {
        let taken = given.and_then(|mut arguments| {
            let ids: Vec<&str> = request.in_scope().map(|provider| &*provider.id).collect();
            let having = |tool: &str| having(&services.lists.known_tools(request, None), tool);
            let id = meta_tool::take_provider(&mut arguments, &ids, &having)?;
            Ok((id, arguments))
        });
        let (id, arguments) = match taken {
            Ok(taken) => taken,
            Err(answer) => return Ok(Err(answer)),
        };
        let provider = request.provider(&id);
        let explain = |error| services.catalog.explain_absence(error, &id, request.principal());
        let provider = provider.map_err(explain)?;
        let tool = CalledTool::of_single(name, &services.shown.name, &provider);
        return Ok(placed(provider, tool, arguments));
    }
    let only = request.scope().provider.as_deref();
    let found = split::called(name, providers);
    let found = found.filter(|(provider, _)| only.is_none_or(|only| *only == *provider.id));
    let (provider, tool) = found.ok_or_else(|| {
        let id = name.strip_prefix("use_").unwrap_or(name);
        let error = Listed::Tools.unknown(name);
        let catalog = &services.catalog;
        catalog.explain_absence(error, id, request.principal())
    })?;
    Ok(given.and_then(|arguments| placed(Arc::clone(provider), tool, arguments)))
}

fn placed(
    provider: Arc<Provider>,
    tool: CalledTool,
    arguments: RawObject,
) -> Result<PlacedCall, Box<MetaAnswer>> {
    Ok(PlacedCall {
        account: plan::account_of(&arguments)?,
        provider,
        tool,
        arguments,
    })
}

/// The providers of these whose tools include one of such a name.
fn having(known: &[(Arc<Provider>, Arc<Catalogue>)], tool: &str) -> Vec<Arc<str>> {
    let known = known.iter().map(|(provider, lists)| (&**provider, &**lists));
    meta_tool::having(tool, known)
}

/// The answer to a call before it is known whom it is for.
fn unplaced(request: &Request<'_>, mut answer: MetaAnswer, form: AnswerForm) -> Done {
    answer.form = form;
    if let Some(cause) = answer.cause.take() {
        request.facts().set_cause(cause);
    }
    let outcome = answer.outcome();
    Done::Result(
        answer.into_result(request.revision(), &request.peer().request_id),
        outcome,
    )
}

impl ProviderCall<'_> {
    /// Names the operation for the log, as far as these lists know it: a call may fail before it runs.
    fn name_tool(&self, arguments: &RawObject, lists: &Catalogue) {
        if let Some(name) = arguments.text("tool") {
            let known = lists.tool(&name).map_or(names::OTHER, |tool| &tool.name);
            self.request.facts().set_tool(Some(&known.into()));
        }
    }

    /// The answer to a call that is not to run, by the lists that are at hand: nobody outside is asked
    /// and nothing is charged. `None` for any other call, and when no lists are.
    async fn dry_run(&self, (called, arguments): (&CalledTool, &RawObject)) -> Option<MetaAnswer> {
        let options = arguments.get("options")?;
        if !options.get().contains("dryRun") {
            return None;
        }
        let lists = self.services.lists.known(self.request, self.provider)?;
        self.name_tool(arguments, &lists);
        let plan = self
            .plan(&lists, (called, &Arc::new(arguments.clone())))
            .await
            .ok()?;
        if lacks(&plan, &lists) {
            return None;
        }
        match plan {
            MetaPlan::Answer(answer) => Some(answer),
            MetaPlan::Run { .. } | MetaPlan::Read(_) | MetaPlan::Calls(_) => None,
        }
    }

    /// And, where several accounts could make the call, the error for the case that it has to be made.
    async fn lists(&self) -> Result<(Reached, Arc<Catalogue>, Option<Error>), Error> {
        let accounts = &self.services.accounts;
        let (reached, ambiguous) = match accounts.reach(self.request, self.provider).await {
            Ok(reached) => (reached, None),
            Err(error) if error.code == Code::AccountAmbiguous => {
                match accounts.first_of(self.request, self.provider, &error).await {
                    Some(reached) => (reached, Some(error)),
                    None => return Err(error),
                }
            }
            Err(error) => return Err(error),
        };
        let lists = &self.services.lists;
        let lists = lists.lists_as(self.request, self.provider, &reached).await?;
        Ok((reached, lists, ambiguous))
    }

    /// What a call means by the lists of its account. That these lack an operation is said only where
    /// they are known; else they are read again, and what keeps them from being read is the answer.
    async fn understood(
        &self,
        reached: &Reached,
        lists: Arc<Catalogue>,
        (called, arguments): (&CalledTool, RawObject),
    ) -> Result<(MetaPlan, Arc<Catalogue>), Error> {
        let arguments = Arc::new(arguments);
        let plan = self.plan(&lists, (called, &arguments)).await?;
        if !lacks(&plan, &lists) {
            return Ok((plan, lists));
        }
        let MethodServices {
            accounts, catalog, ..
        } = self.services;
        let reading = catalog.reread_if_incomplete(self.provider, &reached.identity);
        let Some(read) = reading.await else {
            return Ok((plan, lists));
        };
        let error = match read {
            Ok(read) => {
                let read = (&reached.identity, read);
                let lists = &self.services.lists;
                let lists = lists.with_older(self.request, self.provider, read).await;
                let plan = self.plan(&lists, (called, &arguments)).await?;
                match lists.tools_error() {
                    Some(error) if lacks(&plan, &lists) => error,
                    _ => return Ok((plan, lists)),
                }
            }
            Err(error) => error,
        };
        let refusal = accounts.explain_refusal(self.request, self.provider, reached, error);
        Err(refusal.await)
    }

    /// What a call means: at once where it is small and as it should be, by a worker where it has to be
    /// looked into. When there is no time for that, the provider judges a call as it should be.
    async fn plan(
        &self,
        lists: &Arc<Catalogue>,
        (called, arguments): (&CalledTool, &Arc<RawObject>),
    ) -> Result<MetaPlan, Error> {
        let of = (&**self.provider, &**lists);
        let within = |plan| plan::within_rules(self.provider, lists, called.checked(of, plan));
        if let Some(plan) = plan::at_once(lists, arguments) {
            return Ok(within(plan));
        }
        let work = {
            let (provider, lists) = (Arc::clone(self.provider), Arc::clone(lists));
            let (arguments, called) = (Arc::clone(arguments), called.clone());
            let others = self.services.lists.known_tools(self.request, Some(&provider.id));
            move || {
                let context = CallContext {
                    called: &called.name,
                    elsewhere: &|tool| having(&others, tool),
                };
                called.plan((&provider, &lists), &arguments, &context)
            }
        };
        let holder = self.request.holder();
        let workers = &self.services.workers;
        if let Some(plan) = workers.run((&self.provider.id, &holder), PLANNING, work).await {
            return Ok(plan);
        }
        let unchecked = plan::without_check(lists, arguments).map(within);
        unchecked.ok_or_else(too_many)
    }

    /// Does what a call means. `ambiguous`: why no operation can run.
    async fn follow(
        &self,
        (reached, ambiguous): (&Reached, Option<Error>),
        (plan, lists): (MetaPlan, Arc<Catalogue>),
        params: &RawObject,
        prompt: Box<str>,
    ) -> Result<Done, Error> {
        let account = reached.account.clone().filter(|_| ambiguous.is_none());
        let (tool, arguments, notes, options) = match plan {
            MetaPlan::Answer(answer) => return Ok(self.not_run(account, params, answer)),
            MetaPlan::Read(reading) => return self.read_result(reached, reading).await,
            MetaPlan::Calls(planned) => {
                if let Some(ambiguous) = ambiguous {
                    return self.failed(account, ambiguous, None);
                }
                return Ok(Box::pin(self.run_plan((reached, lists), &planned, params)).await);
            }
            MetaPlan::Run {
                tool,
                arguments,
                notes,
                repairs,
                options,
            } => {
                self.count_repairs(params, &repairs);
                (tool, arguments, notes, options)
            }
        };
        if let Some(ambiguous) = ambiguous {
            return self.failed(account, ambiguous, Some(&tool));
        }
        let run = PlannedRun {
            params: inner_params(&tool, params, arguments),
            tool,
            wanted: WantedPart {
                select: options.select,
                page: 1,
                full: options.full,
                prompt,
            },
            fresh: options.fresh,
            notes,
        };
        self.carry_out(reached, lists, run).await
    }

    async fn carry_out(
        &self,
        reached: &Reached,
        lists: Arc<Catalogue>,
        run: PlannedRun,
    ) -> Result<Done, Error> {
        let (tool, mut notes) = (run.tool, run.notes);
        let named = self.provider.rules.named_in(&tool, run.params.get("arguments"));
        let done = self.make_or_reuse(reached, (lists, &tool), run.params, run.fresh);
        let done = done.await;
        notes.extend(done.age.map(age_note));
        let account = done.account.or_else(|| reached.account.clone());
        match done.outcome {
            Ok(CallOutcome::Result(result, revision)) => {
                let brought = BroughtResult {
                    reached,
                    account,
                    tool: &tool,
                    named,
                    result,
                    revision,
                };
                Ok(self.answered_result(brought, run.wanted, notes).await)
            }
            Ok(CallOutcome::Asked(result)) => Ok(Done::asks(result)),
            Err(error) if is_for_the_client(&error) => Err(error),
            Err(error) => self.failed(account, error, Some(&tool)),
        }
    }

    /// The answer to a call that was not run; a shorter one to a wrong call that was made before.
    fn not_run(&self, account: Option<Arc<str>>, params: &RawObject, answer: MetaAnswer) -> Done {
        let is_wrong = matches!(
            answer.status,
            AnswerStatus::InvalidArguments | AnswerStatus::UnknownTool
        );
        let call = (&*self.provider.id, params);
        let answer = match is_wrong && self.services.wrong_calls.repeats(self.request, call) {
            true => answer.repeated(),
            false => answer,
        };
        self.answered(account, answer)
    }
}

fn lacks(plan: &MetaPlan, lists: &Catalogue) -> bool {
    match plan {
        MetaPlan::Answer(answer) => match answer.status {
            // Of one that is another tool's operation its name is known.
            AnswerStatus::UnknownTool => answer.tool.as_deref().is_none_or(|tool| tool == names::OTHER),
            AnswerStatus::Menu | AnswerStatus::NoMatch => lists.tools.is_empty(),
            _ => false,
        },
        MetaPlan::Run { .. } | MetaPlan::Read(_) | MetaPlan::Calls(_) => false,
    }
}
