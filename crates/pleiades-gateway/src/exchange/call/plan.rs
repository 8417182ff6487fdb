//! What a call is before it is made: where it goes, as whom, in which revision, and how it meets tasks.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderName, HeaderValue};
use serde_json::value::RawValue;

use super::state::CallKey;
use super::task_mode::{NeedingTasks, TaskMode, offers_tasks};
use crate::catalog::{Catalogue, Provider, Tool};
use crate::exchange::account::Reached;
use crate::exchange::client::ClientChannel;
use crate::exchange::fault::malformed_answer;
use crate::exchange::request::{Outlet, Request};
use pleiades_core::error::{Code, Error};
use pleiades_core::telemetry::View;
use pleiades_mcp::{DeclaredCapabilities, Raw, RawObject, Revision, elicit, headers, raw, reserved, task};
use pleiades_upstream::{Call, Identity, Transport};

/// Keys of `_meta` that speak of one hop only.
const HOP_KEYS: [&str; 2] = ["io.modelcontextprotocol/", reserved::PREFIX];
/// The one of them that means the provider, between two peers of 2026-07-28.
const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";

/// What is called, by the lists of its caller.
#[derive(Debug, Clone)]
pub(crate) struct CallTarget {
    pub(crate) provider: Arc<Provider>,
    pub(crate) lists: Arc<Catalogue>,
    pub(crate) tool: Option<Arc<Tool>>,
    pub(crate) method: &'static str,
}

/// A call on its way, but for its parameters: the same for all its attempts.
#[derive(Debug)]
pub(super) struct CallPlan {
    pub(super) target: CallTarget,
    pub(super) identity: Identity,
    /// The account used; `None` where the provider keeps none.
    pub(super) account: Option<Arc<str>>,
    /// The revision it is made in.
    pub(super) revision: Revision,
    pub(super) tasks: TaskMode,
    /// What its provider may ask the caller.
    pub(super) declared: DeclaredCapabilities,
    /// Whose it is.
    pub(super) holder: String,
    /// What answers to its questions are sealed to, where its client answers with its next request.
    pub(super) key: Option<CallKey>,
}

/// What a client of 2026-07-28 brings back to a call that asked.
#[derive(Debug, Default)]
pub(super) struct CallRetry {
    pub(super) state: Option<String>,
    pub(super) responses: Option<RawObject>,
}

impl CallTarget {
    /// A method of a provider that is no tool's.
    pub(crate) const fn method(provider: Arc<Provider>, lists: Arc<Catalogue>, method: &'static str) -> Self {
        Self {
            provider,
            lists,
            tool: None,
            method,
        }
    }

    /// The name that its tool is counted and limited by.
    pub(super) fn tool_name(&self) -> Option<Arc<str>> {
        self.tool.as_deref().map(|tool| Arc::from(&*tool.name))
    }

    /// Whether the extension is declared for this client where a call cannot be made without it.
    /// One of 2026-07-28 that sees the tool itself decides for itself.
    fn may_need_tasks(&self, view: View, client: Revision) -> bool {
        let hidden = match view {
            View::Meta => true,
            View::Tool => !client.is_modern(),
            View::Relay => false,
        };
        hidden && self.tool.is_some() && offers_tasks(&self.lists)
    }

    /// In which revision a call is made, and how it meets tasks.
    fn mode(&self, request: &Request<'_>, needing: &NeedingTasks) -> Result<(Revision, TaskMode), Error> {
        let revision = revision_for(request.revision(), &self.lists)?;
        let tool = self.tool.as_deref().filter(|_| request.view() != View::Relay);
        let Some((tool, profile)) = tool.zip(self.lists.profile.as_ref()) else {
            return Ok((revision, TaskMode::None));
        };
        if revision.is_modern() && looks_after_tasks(request) {
            return Ok((revision, TaskMode::Native));
        }
        let core = Revision::V2025_11_25;
        if !revision.is_modern()
            && task::is_required(&tool.raw)
            && profile.revisions.contains(core)
            && task::has_core_tasks(&profile.capabilities)
        {
            return Ok((core, TaskMode::Core));
        }
        if self.may_need_tasks(request.view(), request.revision()) && needing.has(&self.provider, &tool.name)
        {
            return Ok((Revision::V2026_07_28, TaskMode::Declared));
        }
        Ok((revision, TaskMode::None))
    }
}

impl CallPlan {
    /// The plan of a call.
    ///
    /// # Errors
    /// [`Code::UpstreamUnreachable`] for a provider that was not reached yet.
    pub(super) fn new(
        request: &Request<'_>,
        target: CallTarget,
        reached: &Reached,
        needing: &NeedingTasks,
    ) -> Result<Self, Error> {
        let (revision, tasks) = target.mode(request, needing)?;
        Ok(Self {
            identity: reached.identity.clone(),
            account: reached.account.clone(),
            revision,
            tasks,
            declared: declared_for(request, revision, tasks),
            holder: request.holder(),
            key: None,
            target,
        })
    }

    /// The same call with the extension for tasks, without which its provider does not make it.
    pub(super) fn with_tasks(&self, request: &Request<'_>) -> Self {
        let (revision, tasks) = (Revision::V2026_07_28, TaskMode::Declared);
        Self {
            target: self.target.clone(),
            identity: self.identity.clone(),
            account: self.account.clone(),
            revision,
            tasks,
            declared: declared_for(request, revision, tasks),
            holder: self.holder.clone(),
            key: self.key.clone(),
        }
    }

    /// Names the call for what its client brings back to it: parameters without an earlier round's.
    pub(super) fn set_key(&mut self, request: &Request<'_>, retry: &CallRetry, params: &RawObject) {
        let comes_back = retry.state.is_some() || !request.peer().abilities.is_empty();
        if request.is_modern() && comes_back {
            self.key = Some(self.key_of(params));
        }
    }

    /// What names this call with these parameters.
    pub(super) fn key_of(&self, params: &RawObject) -> CallKey {
        let account = self.identity.signature.account;
        CallKey::new(&self.target.provider.id, account, self.target.method, params)
    }

    /// Whether it may turn out that it can only be made with tasks.
    pub(super) fn may_need_tasks(&self, request: &Request<'_>) -> bool {
        let target = &self.target;
        self.tasks == TaskMode::None && target.may_need_tasks(request.view(), request.revision())
    }

    /// Whether a result asks for something, so that the call goes on.
    pub(super) fn asks(&self, view: View, result: &RawObject) -> bool {
        self.revision.is_modern()
            && view != View::Relay
            && result.text("resultType").as_deref() == Some("input_required")
    }

    /// Whether something may be said or asked during a call; most calls are over sooner without.
    pub(super) fn converses(&self, channel: &ClientChannel<'_>) -> bool {
        let asks = !self.revision.is_modern() && !channel.abilities.is_empty();
        let Some(outlet) = channel.outlet else {
            return asks;
        };
        let logs = channel.logs && (channel.client.is_modern() || may_log(&self.target.lists));
        outlet.wants_progress() || asks || logs
    }

    /// One attempt.
    pub(super) fn call(&self, outlet: Option<&Outlet>, params: RawObject) -> Call {
        let endpoint = &self.target.provider.endpoint;
        Call {
            method: self.target.method,
            mirrored: self.mirrored(&params),
            params,
            revision: self.revision,
            deadline: Instant::now() + endpoint.call,
            idempotent: self.target.method != "tools/call",
            declared: self.declared.clone(),
            progress: outlet.is_some_and(Outlet::wants_progress),
            token: None,
            events: None,
        }
    }

    /// The headers that repeat annotated arguments for a modern provider.
    fn mirrored(&self, params: &RawObject) -> Vec<(HeaderName, HeaderValue)> {
        let http = matches!(self.target.provider.endpoint.target, Transport::Http { .. });
        match &self.target.tool {
            Some(tool) if http && self.revision.is_modern() && !tool.mirrored.is_empty() => {
                let arguments = params.get("arguments").and_then(|raw| RawObject::open(raw).ok());
                headers::mirrored(&tool.mirrored, &arguments.unwrap_or_default())
            }
            _ => Vec::new(),
        }
    }
}

/// The revision in which a client's calls to a provider are made: its own when the provider speaks it,
/// else the provider's newest.
///
/// # Errors
/// [`Code::UpstreamUnreachable`] for a provider that was not reached yet.
pub(crate) fn revision_for(client: Revision, lists: &Catalogue) -> Result<Revision, Error> {
    let profile = lists.profile.as_ref();
    profile
        .and_then(|profile| profile.revisions.choose(client))
        .ok_or_else(|| Error::new(Code::UpstreamUnreachable, "the provider was not reached yet"))
}

/// What a provider may ask this caller.
pub(crate) fn declared(request: &Request<'_>, revision: Revision) -> DeclaredCapabilities {
    let abilities = request.peer().abilities.between(request.revision(), revision);
    let both = revision.is_modern() && request.is_modern();
    let verbatim = request.peer().capabilities.as_ref().filter(|_| both);
    DeclaredCapabilities {
        abilities,
        verbatim: verbatim.map(|raw| match request.view() {
            View::Meta => task::without_extension(raw),
            View::Tool | View::Relay => raw.clone(),
        }),
    }
}

fn declared_for(request: &Request<'_>, revision: Revision, tasks: TaskMode) -> DeclaredCapabilities {
    let mut declared = declared(request, revision);
    if tasks == TaskMode::Declared {
        declared.verbatim = Some(task::with_extension(&declared.capabilities(revision)));
    }
    declared
}

/// Whether this client looks after tasks of the extension itself.
pub(crate) fn looks_after_tasks(request: &Request<'_>) -> bool {
    let own = request.peer().capabilities.as_deref();
    request.view() == View::Tool && request.is_modern() && own.is_some_and(task::has_extension)
}

/// Whether a provider may have log messages to tell. Looked at with each call, so by the word alone:
/// where it stands by another meaning, nothing is lost but time.
fn may_log(lists: &Catalogue) -> bool {
    let profile = lists.profile.as_ref();
    profile.is_none_or(|profile| profile.capabilities.get().contains("\"logging\""))
}

/// Takes out of a modern client's parameters what belongs to an earlier round.
pub(super) fn take_retry(
    request: &Request<'_>,
    method: &str,
    params: &mut RawObject,
) -> Result<CallRetry, Error> {
    if !request.is_modern() || request.view() == View::Relay || method.starts_with("tasks/") {
        return Ok(CallRetry::default());
    }
    let wrong = |name| Error::new(Code::InvalidParams, format!("`{name}` is of the wrong type"));
    let given = |raw: &Raw| raw.get() != "null";
    let state = params
        .remove("requestState")
        .filter(given)
        .map(|raw| raw::text(&raw).map(Cow::into_owned));
    let responses = params
        .remove("inputResponses")
        .filter(given)
        .map(|raw| RawObject::open(&raw).ok());
    let state = state
        .map(|state| state.ok_or_else(|| wrong("requestState")))
        .transpose()?;
    let responses = responses
        .map(|it| it.ok_or_else(|| wrong("inputResponses")))
        .transpose()?;
    Ok(CallRetry { state, responses })
}

/// Leaves in `_meta` what is meant for the provider: the caller's own keys and the trace.
pub(super) fn hop_meta(request: &Request<'_>, revision: Revision, params: &mut RawObject) {
    let logs = revision.is_modern() && request.is_modern();
    let meta = params.remove("_meta").and_then(|raw| RawObject::open(&raw).ok());
    let mut kept = RawObject::new();
    for (key, value) in meta.iter().flat_map(RawObject::iter) {
        let hop = HOP_KEYS.iter().any(|hop| key.starts_with(hop)) && !(logs && key == LOG_LEVEL);
        if !hop && key != "progressToken" {
            kept.set(key, value.to_owned());
        }
    }
    if let Some(trace) = &request.peer().trace
        && kept.get("traceparent").is_none()
    {
        kept.put("traceparent", trace);
    }
    if !kept.is_empty() {
        params.set("_meta", kept.close());
    }
}

/// Whether each answer to a question is one: an elicitation is accepted, declined or cancelled.
///
/// # Errors
/// [`Code::InvalidParams`], at once: as an answer that is none it would be waited for, or read as
/// agreement.
pub(crate) fn check_answers(responses: &RawObject) -> Result<(), Error> {
    for (key, response) in responses.iter() {
        let opened = RawObject::open(response);
        let is_answer = match &opened {
            Ok(response) if response.get("action").is_some() => elicit::is_answer(response),
            // Of sampling and roots; an answer to an elicitation names its action.
            Ok(response) => {
                !response.is_empty() && (response.get("content").is_none() || response.get("role").is_some())
            }
            Err(_) => false,
        };
        if !is_answer {
            return Err(malformed_answer(key));
        }
    }
    Ok(())
}

/// Whether a person agreed to everything an earlier round asked for.
///
/// # Errors
/// [`Code::InputRequired`] when not.
pub(super) fn check_accepted(responses: &RawObject) -> Result<(), Error> {
    let agrees = |response: &RawValue| {
        let response = RawObject::open(response).unwrap_or_default();
        response.text("action").is_none_or(|action| action == "accept")
    };
    if responses.iter().all(|(_, response)| agrees(response)) {
        return Ok(());
    }
    Err(Error::new(
        Code::InputRequired,
        "what the provider asked for was declined; nothing was run",
    ))
}
