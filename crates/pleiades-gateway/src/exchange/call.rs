//! `tools/call` in the meta and the tool view.

use std::sync::Arc;
use std::time::Duration;

use super::accounts::{self, Reached};
use super::aside::LARGE;
use super::naming::Listed;
use super::outward::{Came, Outgoing};
use super::talk::URL_REQUIRED;
use super::{Step, printable};
use crate::catalog::{Catalogue, Provider, Tool};
use crate::facade::answer::{self, AnswerStatus, MetaAnswer};
use crate::facade::plan::{self, MetaPlan};
use crate::facade::repairs::Repair;
use pleiades_core::error::{Code, Error};
use pleiades_core::telemetry::View;
use pleiades_core::telemetry::names;
use pleiades_mcp::{Raw, RawObject, headers, translate};
use pleiades_upstream::Identity;

/// How long a call waits until it was looked into.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a large result waits for a place to be taken apart.
const SHAPING: Duration = Duration::from_secs(20);
/// Where a client of 2026-07-28 names itself.
const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
/// The tool that an unconnected provider shows in the tool view.
pub(super) const CONNECT: &str = "connect";

impl Step<'_> {
    pub(super) async fn tools_call(&mut self, params: RawObject) -> Result<Raw, Error> {
        let name: String = params
            .read("name")
            .ok_or_else(|| Error::new(Code::InvalidParams, "`tools/call` needs the tool's `name`"))?;
        match self.scope.view {
            View::Meta => self.meta_call(&name, &params).await,
            View::Tool | View::Relay => self.tool_call(&name, params).await,
        }
    }

    /// `use_{provider}`: the facade decides what the call means.
    async fn meta_call(&mut self, name: &str, params: &RawObject) -> Result<Raw, Error> {
        let mut arguments = plan::given(params.get("arguments"))?;
        let provider = self.meta_provider(name, &mut arguments)?;
        self.record.provider = Some(Arc::clone(&provider.id));
        self.names(plan::account_of(&arguments)?)?;
        let Planned {
            catalogue,
            ambiguous,
            plan,
        } = match self.planned(&provider, arguments).await {
            Ok(planned) => planned,
            Err(error) => return self.failed_call(&provider, error, None),
        };
        match plan {
            MetaPlan::Answer(answer) => Ok(self.answered(&provider, answer)),
            MetaPlan::Run {
                tool,
                arguments,
                notes,
                repairs,
            } => {
                self.count_repairs(params, &repairs);
                if let Some(ambiguous) = ambiguous {
                    return self.failed_call(&provider, ambiguous, Some(&tool));
                }
                let params = inner_params(&tool, params, arguments);
                let out = Outgoing {
                    provider: &provider,
                    catalogue: &catalogue,
                    tool: Some(&tool),
                    method: "tools/call",
                    params,
                };
                match self.outward(out).await {
                    Ok(Came::Result(mut result, from)) => {
                        self.outer_uris(&provider, "tools/call", &mut result, None);
                        translate::blocks("tools/call", &mut result, from, self.revision());
                        Ok(self.shaped(&provider, result, notes).await)
                    }
                    Ok(Came::Asked(result)) => Ok(result),
                    Err(error) if is_the_clients(&error) => Err(error),
                    Err(error) => self.failed_call(&provider, error, Some(&tool)),
                }
            }
        }
    }

    /// What a call means by the lists of its account. That these lack an operation is said only where
    /// they are known; else they are read again, and what keeps them from being read is the answer.
    async fn planned(&mut self, provider: &Arc<Provider>, arguments: RawObject) -> Result<Planned, Error> {
        let (reached, catalogue, ambiguous) = self.planned_by(provider).await?;
        let arguments = Arc::new(arguments);
        let plan = self.plan(provider, &catalogue, &arguments).await?;
        let mut planned = Planned {
            catalogue,
            ambiguous,
            plan,
        };
        if !planned.lacks() {
            return Ok(planned);
        }
        let lists = match self
            .exchange
            .catalog
            .reread_if_incomplete(provider, &reached.behalf)
            .await
        {
            None => return Ok(planned),
            Some(Ok(lists)) => self.met(provider, &reached.behalf, lists).await,
            Some(Err(error)) => return Err(self.judged(provider, &reached, error).await),
        };
        planned.plan = self.plan(provider, &lists, &arguments).await?;
        planned.catalogue = lists;
        match planned.catalogue.tools_error() {
            Some(error) if planned.lacks() => Err(self.judged(provider, &reached, error).await),
            _ => Ok(planned),
        }
    }

    /// What a call means: at once where it is small and as it should be, aside where it has to be
    /// looked into. When there is no time for that, the provider judges a call as it should be.
    async fn plan(
        &self,
        provider: &Arc<Provider>,
        catalogue: &Arc<Catalogue>,
        arguments: &Arc<RawObject>,
    ) -> Result<MetaPlan, Error> {
        if let Some(plan) = plan::at_once(catalogue, arguments) {
            return Ok(plan);
        }
        let work = {
            let (provider, catalogue) = (Arc::clone(provider), Arc::clone(catalogue));
            let arguments = Arc::clone(arguments);
            move || plan::plan(&provider, &catalogue, &arguments)
        };
        let holder = self.peer.principal.binding();
        let aside = &self.exchange.aside;
        if let Some(plan) = aside.run((&provider.id, &holder), PATIENCE, work).await {
            return Ok(plan);
        }
        plan::without_check(catalogue, arguments).ok_or_else(|| {
            Error::new(
                Code::Busy,
                "too many calls have to be looked into at this moment; nothing was run, try again in 1 s",
            )
            .retry_after(Duration::from_secs(1))
        })
    }

    /// Counts what was repaired in a call, for the client that sent it.
    fn count_repairs(&self, params: &RawObject, repairs: &[Repair]) {
        if repairs.is_empty() {
            return;
        }
        let meta: Option<RawObject> = params.read("_meta");
        let info: Option<RawObject> = meta.and_then(|meta| meta.read(CLIENT_INFO));
        let client = match info.and_then(|info| info.read::<String>("name")) {
            Some(name) => names::client(&name),
            None => self.peer.lane.as_deref().map_or(names::OTHER, |session| {
                let sessions = &self.exchange.sessions;
                sessions.client(&self.peer.principal, self.scope, session)
            }),
        };
        for repair in repairs {
            self.exchange.metrics.repaired(client, repair.as_str());
        }
    }

    /// A provider's result as the meta tool's answer; a large one is taken apart aside.
    async fn shaped(&mut self, provider: &Arc<Provider>, result: RawObject, notes: Vec<String>) -> Raw {
        let bytes: usize = result.iter().map(|(_, value)| value.get().len()).sum();
        if bytes <= LARGE {
            return self.answered(provider, MetaAnswer::of_result(&result, notes));
        }
        // Status and accounts are known without its blocks.
        let mut head = MetaAnswer::of_result(&RawObject::new(), notes);
        head.status = MetaAnswer::status_of(&result);
        self.complete_answer(provider, &mut head);
        let (revision, id) = (self.revision(), self.peer.request_id.clone());
        let shared = Arc::new((result, head));
        let shape = move |shared: &(RawObject, MetaAnswer)| {
            let (result, head) = shared;
            head.clone().with_result(result).into_result(revision, &id)
        };
        let work = {
            let (shared, shape) = (Arc::clone(&shared), shape.clone());
            move || shape(&shared)
        };
        // It is there and has to be told, however busy it is here.
        let holder = self.peer.principal.binding();
        let aside = &self.exchange.aside;
        let told = aside.run((&provider.id, &holder), SHAPING, work).await;
        told.unwrap_or_else(|| shape(&shared))
    }

    /// The account that a call's own arguments name goes before all others.
    fn names(&mut self, account: Option<String>) -> Result<(), Error> {
        if let Some(account) = accounts::named(&account.unwrap_or_default())? {
            self.wanted = Some(account);
        }
        Ok(())
    }

    /// How a call reaches its provider, and the lists that it is understood by; and, where several accounts could make it, the error
    /// for the case that it has to be made.
    async fn planned_by(
        &mut self,
        provider: &Arc<Provider>,
    ) -> Result<(Reached, Arc<Catalogue>, Option<Error>), Error> {
        let (reached, ambiguous) = match self.reach(provider).await {
            Ok(reached) => (reached, None),
            Err(error) if error.code == Code::AccountAmbiguous => {
                match self.first_of(provider, &error).await {
                    Some(reached) => (reached, Some(error)),
                    None => return Err(error),
                }
            }
            Err(error) => return Err(error),
        };
        let catalogue = self.lists_as(provider, &reached).await?;
        if ambiguous.is_none() {
            self.record.account.clone_from(&reached.account);
        }
        Ok((reached, catalogue, ambiguous))
    }

    /// Which provider a meta tool's name stands for; the single tool says it in its arguments.
    fn meta_provider(&self, name: &str, arguments: &mut RawObject) -> Result<Arc<Provider>, Error> {
        if self.exchange.single && self.scope.provider.is_none() {
            let given = plan::provider_of(arguments).or_else(|| {
                let provider = self.prefix_of(&arguments.text("tool")?)?;
                Some(provider.id.to_string())
            });
            let id = given.ok_or_else(|| {
                Error::new(
                    Code::InvalidParams,
                    "say which `provider` the operation belongs to",
                )
            })?;
            arguments.remove("provider");
            return self.provider(&id);
        }
        let id = name.strip_prefix("use_").ok_or_else(|| unknown_tool(name))?;
        if self.scope.provider.as_deref().is_some_and(|only| only != id) {
            return Err(unknown_tool(name));
        }
        self.snapshot
            .providers
            .get(id)
            .cloned()
            .ok_or_else(|| unknown_tool(name))
    }

    /// A real tool by its own name.
    async fn tool_call(&mut self, name: &str, mut params: RawObject) -> Result<Raw, Error> {
        let (provider, inner) = self.named(name, Listed::Tools).await?;
        self.record.provider = Some(Arc::clone(&provider.id));
        let catalogue = match self.connected(&provider).await {
            Ok(catalogue) => catalogue,
            Err(error) => return self.failed_call(&provider, error, None),
        };
        let (catalogue, tool) = match self.find(&provider, catalogue, &inner, name).await {
            Ok(found) => found,
            Err(error) if is_the_clients(&error) => return Err(error),
            Err(error) => return self.failed_call(&provider, error, None),
        };
        self.check_mirrored(&tool, &params)?;
        // Whether it becomes a task is for provider and gateway to say.
        params.remove("task");
        if *name != *tool.upstream {
            params.put("name", &*tool.upstream);
        }
        let out = Outgoing {
            provider: &provider,
            catalogue: &catalogue,
            tool: Some(&tool),
            method: "tools/call",
            params,
        };
        match self.outward(out).await {
            Ok(Came::Result(mut result, from)) => {
                self.outer_uris(&provider, "tools/call", &mut result, None);
                answer::repair_result(&mut result);
                let mut result = translate::result("tools/call", result, from, self.revision());
                self.sign_result(&mut result);
                Ok(result.close())
            }
            Ok(Came::Asked(result)) => Ok(result),
            Err(error) if error.code == Code::UpstreamError && error.rpc.is_some() => Err(error),
            Err(error) if is_the_clients(&error) => Err(error),
            Err(error) => self.failed_call(&provider, error, Some(&tool)),
        }
    }

    /// A failed call for a client that is asked to connect, or for a model that reads why.
    fn failed_call(
        &mut self,
        provider: &Arc<Provider>,
        error: Error,
        tool: Option<&Tool>,
    ) -> Result<Raw, Error> {
        if self.is_asked(&error) {
            return Err(error);
        }
        Ok(self.readable(provider, &error, tool))
    }

    /// The provider's lists for this caller, or why it has none.
    pub(super) async fn connected(&self, provider: &Arc<Provider>) -> Result<Arc<Catalogue>, Error> {
        let reached = self.reach(provider).await?;
        self.lists_as(provider, &reached).await
    }

    /// The provider's lists for an account.
    async fn lists_as(&self, provider: &Arc<Provider>, reached: &Reached) -> Result<Arc<Catalogue>, Error> {
        match self
            .exchange
            .catalog
            .lists_for_call(provider, &reached.behalf)
            .await
        {
            Ok(catalogue) => Ok(self.met(provider, &reached.behalf, catalogue).await),
            Err(error) => Err(self.judged(provider, reached, error).await),
        }
    }

    /// What is known of a provider, asked for its older generation before a client of one needs a way
    /// to it: between equal generations more passes than between unequal ones.
    pub(super) async fn met(
        &self,
        provider: &Arc<Provider>,
        behalf: &Identity,
        catalogue: Arc<Catalogue>,
    ) -> Arc<Catalogue> {
        if self.revision().is_modern() {
            return catalogue;
        }
        let catalog = &self.exchange.catalog;
        catalog.with_older(provider, behalf, catalogue).await
    }

    /// A tool by name; one that is not there is looked for once more upstream. That there is none is
    /// said only by lists that could be read.
    async fn find(
        &self,
        provider: &Arc<Provider>,
        catalogue: Arc<Catalogue>,
        inner: &str,
        outer: &str,
    ) -> Result<(Arc<Catalogue>, Arc<Tool>), Error> {
        if let Some(tool) = catalogue.tool(inner) {
            return Ok((Arc::clone(&catalogue), Arc::clone(tool)));
        }
        if inner == CONNECT {
            return Err(Error::new(
                Code::InvalidParams,
                "already connected: list the tools again",
            ));
        }
        let reached = self.reach(provider).await?;
        let catalog = &self.exchange.catalog;
        let fresh = match catalog.reread_if_incomplete(provider, &reached.behalf).await {
            Some(read) => read,
            None => catalog.refresh(provider, &reached.behalf).await,
        };
        let error = match fresh {
            Ok(fresh) => match fresh.tool(inner).cloned() {
                Some(tool) => return Ok((fresh, tool)),
                None => fresh.tools_error().unwrap_or_else(|| unknown_tool(outer)),
            },
            Err(error) => error,
        };
        Err(self.judged(provider, &reached, error).await)
    }

    /// A modern client must mirror the annotated arguments into headers, and truthfully.
    fn check_mirrored(&self, tool: &Tool, params: &RawObject) -> Result<(), Error> {
        match self.peer.keys.headers() {
            Some(http) if self.revision().is_modern() && !tool.mirrored.is_empty() => {
                let arguments = match params.get("arguments").filter(|raw| raw.get() != "null") {
                    Some(arguments) => RawObject::open(arguments).map_err(|cause| {
                        Error::new(Code::InvalidParams, "`arguments` must be an object").because(cause)
                    })?,
                    None => RawObject::new(),
                };
                headers::check_mirrored(&tool.mirrored, http, &arguments)
            }
            _ => Ok(()),
        }
    }

    /// Adds to an answer whose accounts there are, and notes what became of the call.
    fn complete_answer(&mut self, provider: &Provider, answer: &mut MetaAnswer) {
        self.record.outcome = answer.status.as_str();
        if answer.accounts.is_empty() {
            answer.accounts = self.accounts_of(provider);
        }
        answer.account.clone_from(&self.record.account);
    }

    fn answered(&mut self, provider: &Provider, mut answer: MetaAnswer) -> Raw {
        self.complete_answer(provider, &mut answer);
        answer.into_result(self.revision(), &self.peer.request_id)
    }

    /// A failure that the model can read and act on.
    fn readable(&mut self, provider: &Provider, error: &Error, tool: Option<&Tool>) -> Raw {
        if let Some(source) = &error.source {
            tracing::debug!(provider.name = %provider.id, outcome = error.code.as_str(), cause = %source, "call failed");
        }
        let writes = tool.is_none_or(|tool| !tool.is_read_only());
        let answer = MetaAnswer::of_error(error, &provider.title, writes);
        debug_assert_ne!(answer.status, AnswerStatus::Ok);
        self.answered(provider, answer)
    }
}

/// A call that is understood.
struct Planned {
    /// The lists that it is understood by.
    catalogue: Arc<Catalogue>,
    /// Why it cannot be made where it has to be: several accounts could make it.
    ambiguous: Option<Error>,
    plan: MetaPlan,
}

impl Planned {
    /// Whether it wants something that is not in the lists: an operation, or any.
    fn lacks(&self) -> bool {
        match &self.plan {
            MetaPlan::Answer(answer) => match answer.status {
                AnswerStatus::UnknownTool => true,
                AnswerStatus::Menu | AnswerStatus::NoMatch => self.catalogue.tools.is_empty(),
                _ => false,
            },
            MetaPlan::Run { .. } => false,
        }
    }
}

/// The parameters of an operation's own call; what the outer call says beside it goes along.
fn inner_params(tool: &Tool, outer: &RawObject, arguments: Raw) -> RawObject {
    let mut params = RawObject::new();
    params.put("name", &*tool.upstream);
    params.set("arguments", arguments);
    for beside in ["_meta", "requestState", "inputResponses"] {
        if let Some(value) = outer.get(beside) {
            params.set(beside, value.to_owned());
        }
    }
    params
}

/// What a client has to handle, not a model: a state that is none, an address to be opened.
fn is_the_clients(error: &Error) -> bool {
    let url = error.rpc.as_ref().is_some_and(|fault| fault.code == URL_REQUIRED);
    url || error.code == Code::InvalidParams
}

fn unknown_tool(name: &str) -> Error {
    Error::new(Code::InvalidParams, format!("unknown tool `{}`", printable(name)))
}
