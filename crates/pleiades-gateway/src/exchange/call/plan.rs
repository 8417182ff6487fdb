//! What a call is before it is made: where it goes, as whom, in which revision, and how it meets tasks.

use std::{borrow::Cow, sync::Arc, time::Instant};

use http::{HeaderName, HeaderValue};
use serde_json::value::RawValue;

use super::state::CallKey;
use super::task_mode::{NeedingTasks, TaskMode, offers_tasks};
use crate::catalog::{Catalogue, Provider, Tool};
use crate::exchange::request::{Outlet, Request};
use crate::exchange::{account::Reached, client::ClientChannel, fault::malformed_answer};
use pleiades_core::error::{Code, Error};
use pleiades_core::telemetry::View;
use pleiades_mcp::{DeclaredCapabilities, Raw, RawObject, Revision, elicit, headers, raw, reserved, task};
use pleiades_upstream::{Call, Identity, Transport};

/// Keys of `_meta` that speak of one hop only.
const HOP_KEYS: [&str; 2] = ["io.modelcontextprotocol/", reserved::PREFIX];
/// The one of them that means the provider, between two peers of 2026-07-28.
const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";

#[derive(Debug, Clone)]
pub(crate) struct CallTarget {
    pub(crate) provider: Arc<Provider>,
    pub(crate) lists: Arc<Catalogue>,
    pub(crate) tool: Option<Arc<Tool>>,
    pub(crate) method: &'static str,
}

/// A call on its way, but for its parameters: the same for all its attempts.
#[derive(Debug, Clone)]
pub(super) struct CallPlan {
    pub(super) target: CallTarget,
    pub(super) identity: Identity,
    /// The account used; `None` where the provider keeps none.
    pub(super) account: Option<Arc<str>>,
    pub(super) revision: Revision,
    pub(super) tasks: TaskMode,
    pub(super) declared: DeclaredCapabilities,
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

    pub(super) fn with_tasks(&self, request: &Request<'_>) -> Self {
        let (revision, tasks) = (Revision::V2026_07_28, TaskMode::Declared);
        Self {
            revision,
            tasks,
            declared: declared_for(request, revision, tasks),
            ..self.clone()
        }
    }

    /// Names the call for what its client brings back to it: parameters without an earlier round's.
    pub(super) fn set_key(&mut self, request: &Request<'_>, retry: &CallRetry, params: &RawObject) {
        let comes_back = retry.state.is_some() || !request.peer().abilities.is_empty();
        if request.is_modern() && comes_back {
            self.key = Some(self.key_of(params));
        }
    }

    pub(super) fn key_of(&self, params: &RawObject) -> CallKey {
        let account = self.identity.signature.account;
        CallKey::new(&self.target.provider.id, account, self.target.method, params)
    }

    pub(super) fn may_need_tasks(&self, request: &Request<'_>) -> bool {
        let target = &self.target;
        self.tasks == TaskMode::None && target.may_need_tasks(request.view(), request.revision())
    }

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

/// The client's own when it is spoken, else the newest; [`Code::UpstreamUnreachable`] when not reached yet.
pub(crate) fn revision_for(client: Revision, lists: &Catalogue) -> Result<Revision, Error> {
    let profile = lists.profile.as_ref();
    profile
        .and_then(|profile| profile.revisions.choose(client))
        .ok_or_else(|| Error::new(Code::UpstreamUnreachable, "the provider was not reached yet"))
}

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
    let state = params.remove("requestState").filter(given);
    let state = state.map(|raw| {
        raw::text(&raw)
            .map(Cow::into_owned)
            .ok_or_else(|| wrong("requestState"))
    });
    let responses = params.remove("inputResponses").filter(given);
    let responses = responses.map(|raw| RawObject::open(&raw).map_err(|_cause| wrong("inputResponses")));
    Ok(CallRetry {
        state: state.transpose()?,
        responses: responses.transpose()?,
    })
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

/// An elicitation is accepted, declined or cancelled. Refused at once: as an answer that is none it would
/// be waited for, or read as agreement.
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

/// [`Code::InputRequired`] unless a person agreed to everything an earlier round asked for.
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::exchange::client::Questions;
    use crate::exchange::session::Mailboxes;
    use crate::exchange::tests::{LEGACY, MODERN, Sent, identity, lists, object, provider, tokens, tools};
    use pleiades_mcp::ClientCapabilities;

    fn extended() -> serde_json::Value {
        json!({ "tools": {}, "extensions": { "io.modelcontextprotocol/tasks": {} } })
    }

    fn target(lists: Catalogue, tool: bool) -> CallTarget {
        CallTarget {
            provider: provider("one"),
            tool: lists.tools.first().cloned().filter(|_| tool),
            lists: Arc::new(lists),
            method: "tools/call",
        }
    }

    fn plan(sent: &Sent, target: CallTarget, needing: &NeedingTasks) -> CallPlan {
        let reached = Reached {
            identity: identity(),
            account: Some("ann@example.com".into()),
        };
        CallPlan::new(&sent.request(), target, &reached, needing).expect("a plan")
    }

    fn echo() -> [serde_json::Value; 1] {
        [json!({ "name": "echo" })]
    }

    #[test]
    fn a_call_is_made_in_its_clients_revision_where_the_provider_speaks_it_else_in_the_newest() {
        let both = lists(&[LEGACY, MODERN], &json!({}), &[]);
        assert_eq!(revision_for(LEGACY, &both).unwrap(), LEGACY);
        assert_eq!(revision_for(MODERN, &both).unwrap(), MODERN);
        let old = lists(&[LEGACY], &json!({}), &[]);
        assert_eq!(revision_for(MODERN, &old).unwrap(), LEGACY);
    }

    #[test]
    fn a_provider_that_was_not_reached_yet_has_no_revision() {
        let error = revision_for(MODERN, &Catalogue::default()).unwrap_err();
        assert_eq!(error.code, Code::UpstreamUnreachable);
    }

    #[test]
    fn a_tool_of_2025_11_25_that_is_only_a_task_is_called_as_one() {
        let capabilities = json!({ "tasks": { "requests": { "tools": { "call": {} } } } });
        let tool = json!({ "name": "slow", "execution": { "taskSupport": "required" } });
        let lists = lists(&[LEGACY], &capabilities, &[tool]);
        let sent = Sent::new(MODERN, ClientCapabilities::NONE);
        let plan = plan(&sent, target(lists.clone(), true), &NeedingTasks::default());
        assert_eq!((plan.tasks, plan.revision), (TaskMode::Core, LEGACY));
        let relayed = {
            let mut sent = Sent::new(LEGACY, ClientCapabilities::NONE);
            sent.scope.view = View::Relay;
            self::plan(&sent, target(lists, true), &NeedingTasks::default())
        };
        assert_eq!(relayed.tasks, TaskMode::None, "the relay leaves it to its client");
    }

    #[test]
    fn a_client_that_declares_the_extension_looks_after_its_tasks_itself() {
        let mut sent = Sent::new(MODERN, ClientCapabilities::NONE);
        sent.peer.capabilities = Some(raw::raw(&extended()));
        let lists = lists(&[MODERN], &extended(), &echo());
        let native = plan(&sent, target(lists.clone(), true), &NeedingTasks::default());
        assert_eq!(native.tasks, TaskMode::Native);
        sent.scope.view = View::Meta;
        let hidden = plan(&sent, target(lists, true), &NeedingTasks::default());
        assert_eq!(
            hidden.tasks,
            TaskMode::None,
            "one tool for a provider hides its tasks"
        );
        assert!(!hidden.declared.capabilities(MODERN).get().contains("tasks"));
    }

    #[test]
    fn a_call_that_was_refused_without_tasks_is_made_with_them_from_then_on() {
        let sent = Sent::new(LEGACY, ClientCapabilities::NONE);
        let needing = NeedingTasks::default();
        let lists = lists(&[LEGACY, MODERN], &extended(), &echo());
        let first = plan(&sent, target(lists.clone(), true), &needing);
        assert_eq!((first.tasks, first.revision), (TaskMode::None, LEGACY));
        assert!(first.may_need_tasks(&sent.request()));
        needing.learn(&first.target.provider, "echo");
        let second = plan(&sent, target(lists, true), &needing);
        assert_eq!((second.tasks, second.revision), (TaskMode::Declared, MODERN));
        assert!(second.declared.capabilities(MODERN).get().contains("tasks"));
        let again = first.with_tasks(&sent.request());
        assert_eq!((again.tasks, again.revision), (TaskMode::Declared, MODERN));
    }

    #[test]
    fn what_belongs_to_an_earlier_round_is_taken_out_of_a_modern_clients_parameters() {
        let sent = Sent::new(MODERN, ClientCapabilities::NONE);
        let mut params = object(&json!({ "name": "t", "requestState": "s", "inputResponses": { "a": {} } }));
        let retry = take_retry(&sent.request(), "tools/call", &mut params).unwrap();
        assert_eq!(retry.state.as_deref(), Some("s"));
        assert!(retry.responses.unwrap().get("a").is_some());
        assert_eq!(params.close().get(), r#"{"name":"t"}"#);
    }

    #[test]
    fn parameters_of_legacy_clients_relays_and_task_methods_stay_as_they_are() {
        let given = json!({ "requestState": 7, "inputResponses": 7 });
        let mut relayed = Sent::new(MODERN, ClientCapabilities::NONE);
        relayed.scope.view = View::Relay;
        for (sent, method) in [
            (Sent::new(LEGACY, ClientCapabilities::NONE), "tools/call"),
            (relayed, "tools/call"),
            (Sent::new(MODERN, ClientCapabilities::NONE), "tasks/update"),
        ] {
            let mut params = object(&given);
            let retry = take_retry(&sent.request(), method, &mut params).unwrap();
            assert!(retry.state.is_none() && retry.responses.is_none());
            assert_eq!(params.len(), 2, "{method}");
        }
    }

    #[test]
    fn an_earlier_round_of_the_wrong_type_is_refused_by_name_and_null_is_none() {
        let sent = Sent::new(MODERN, ClientCapabilities::NONE);
        let taken = |value: serde_json::Value| take_retry(&sent.request(), "tools/call", &mut object(&value));
        for key in ["requestState", "inputResponses"] {
            let error = taken(json!({ key: 7 })).unwrap_err();
            assert_eq!(error.code, Code::InvalidParams);
            assert!(error.message.contains(key), "{}", error.message);
        }
        assert!(
            taken(json!({ "requestState": null, "inputResponses": null }))
                .unwrap()
                .state
                .is_none()
        );
    }

    #[test]
    fn an_answer_that_is_none_is_refused_before_anything_is_asked_of_the_provider() {
        let check = |value: serde_json::Value| check_answers(&object(&json!({ "ask-1": value })));
        assert!(check(json!({ "action": "accept", "content": {} })).is_ok());
        assert!(check(json!({ "action": "decline" })).is_ok());
        assert!(
            check(json!({ "role": "assistant", "content": {} })).is_ok(),
            "of sampling"
        );
        assert!(check(json!({ "roots": [] })).is_ok(), "of roots");
        for none in [
            json!({ "action": "perhaps" }),
            json!({}),
            json!({ "content": {} }),
            json!(7),
        ] {
            assert_eq!(
                check(none.clone()).unwrap_err().code,
                Code::InvalidParams,
                "{none}"
            );
        }
    }

    #[test]
    fn a_call_whose_question_was_declined_is_not_made() {
        let check = |action: &str| check_accepted(&object(&json!({ "a": { "action": action } })));
        assert!(check("accept").is_ok());
        assert_eq!(check("decline").unwrap_err().code, Code::InputRequired);
        assert!(check_accepted(&object(&json!({ "a": { "roots": [] } }))).is_ok());
    }

    #[test]
    fn what_speaks_of_one_hop_ends_there_and_the_callers_own_keys_go_on() {
        let mut sent = Sent::new(LEGACY, ClientCapabilities::NONE);
        sent.peer.trace = Some("00-trace".to_owned());
        let mut params = object(&json!({ "_meta": {
            "io.modelcontextprotocol/protocolVersion": "x", "pleiades/accountId": "ann",
            "progressToken": 7, "own": 1,
        } }));
        hop_meta(&sent.request(), MODERN, &mut params);
        assert_eq!(
            params.close().get(),
            r#"{"_meta":{"own":1,"traceparent":"00-trace"}}"#
        );
        let mut params = object(&json!({ "_meta": { "traceparent": "own" } }));
        hop_meta(&sent.request(), MODERN, &mut params);
        assert_eq!(params.close().get(), r#"{"_meta":{"traceparent":"own"}}"#);
    }

    #[test]
    fn a_log_level_means_the_provider_between_two_peers_of_2026_07_28_alone() {
        let level = json!({ "_meta": { "io.modelcontextprotocol/logLevel": "info" } });
        let passed = |client, revision| {
            let mut params = object(&level);
            let sent = Sent::new(client, ClientCapabilities::NONE);
            hop_meta(&sent.request(), revision, &mut params);
            params.get("_meta").is_some()
        };
        assert!(passed(MODERN, MODERN));
        assert!(!passed(MODERN, LEGACY) && !passed(LEGACY, MODERN));
    }

    #[test]
    fn a_call_is_named_for_a_client_that_can_be_asked_or_comes_back() {
        let keyed = |revision, abilities, state: Option<&str>| {
            let sent = Sent::new(revision, abilities);
            let lists = lists(&[revision], &json!({}), &echo());
            let mut plan = plan(&sent, target(lists, true), &NeedingTasks::default());
            let retry = CallRetry {
                state: state.map(str::to_owned),
                responses: None,
            };
            plan.set_key(&sent.request(), &retry, &RawObject::new());
            plan.key.is_some()
        };
        assert!(keyed(MODERN, ClientCapabilities::FORM, None));
        assert!(keyed(MODERN, ClientCapabilities::NONE, Some("state")));
        assert!(!keyed(MODERN, ClientCapabilities::NONE, None));
        assert!(!keyed(LEGACY, ClientCapabilities::FORM, None));
    }

    #[test]
    fn only_a_modern_providers_result_can_ask() {
        let asks = object(&json!({ "resultType": "input_required" }));
        let sent = Sent::new(MODERN, ClientCapabilities::NONE);
        let plan_for = |revision| {
            let lists = lists(&[revision], &json!({}), &echo());
            plan(&sent, target(lists, true), &NeedingTasks::default())
        };
        assert!(plan_for(MODERN).asks(View::Tool, &asks));
        assert!(!plan_for(MODERN).asks(View::Relay, &asks));
        assert!(!plan_for(MODERN).asks(View::Tool, &RawObject::new()));
        assert!(!plan_for(LEGACY).asks(View::Tool, &asks));
    }

    #[test]
    fn nothing_is_kept_for_a_call_during_which_nothing_can_be_said() {
        let (questions, mailboxes) = (Questions::new(tokens(), "one"), Mailboxes::default());
        let converses = |revision, abilities| {
            let sent = Sent::new(LEGACY, abilities);
            let lists = lists(&[revision], &json!({}), &echo());
            let plan = plan(&sent, target(lists, true), &NeedingTasks::default());
            plan.converses(&ClientChannel {
                questions: &questions,
                mailboxes: &mailboxes,
                holder: "ann",
                client: LEGACY,
                abilities,
                outlet: None,
                session: None,
                logs: true,
            })
        };
        assert!(
            converses(LEGACY, ClientCapabilities::FORM),
            "it may ask in the middle"
        );
        assert!(!converses(LEGACY, ClientCapabilities::NONE));
        assert!(
            !converses(MODERN, ClientCapabilities::FORM),
            "it asks in its result"
        );
    }

    #[test]
    fn a_tool_is_never_called_twice_by_itself_and_a_read_may_be() {
        let sent = Sent::new(LEGACY, ClientCapabilities::NONE);
        let lists = tools(&["echo"]);
        let called = plan(&sent, target((*lists).clone(), true), &NeedingTasks::default());
        assert!(!called.call(None, RawObject::new()).idempotent);
        let target = CallTarget::method(provider("one"), lists, "resources/read");
        let read = plan(&sent, target, &NeedingTasks::default());
        assert!(read.call(None, RawObject::new()).idempotent);
    }

    #[test]
    fn what_a_provider_may_ask_is_what_its_client_can_take() {
        let mut sent = Sent::new(LEGACY, ClientCapabilities::FORM);
        assert!(
            declared(&sent.request(), LEGACY)
                .abilities
                .has(ClientCapabilities::FORM)
        );
        assert!(declared(&sent.request(), LEGACY).verbatim.is_none());
        sent.peer.revision = MODERN;
        sent.peer.capabilities = Some(raw::raw(&json!({ "elicitation": {}, "own": 1 })));
        let own = declared(&sent.request(), MODERN).verbatim.unwrap();
        assert!(own.get().contains("own"), "in its own words between equals");
        assert!(declared(&sent.request(), LEGACY).verbatim.is_none());
    }
}
