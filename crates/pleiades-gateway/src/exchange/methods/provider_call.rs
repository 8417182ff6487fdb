//! A call of one provider's operation, in either view: made, answered, or failed in words.

use std::{sync::Arc, time::Duration};

use super::answer_form::client;
use crate::catalog::{Catalogue, HiddenTarget, Provider, Tool};
use crate::exchange::call::{CallOutcome, CallTarget};
use crate::exchange::fault::{URL_REQUIRED, paced};
use crate::exchange::request::Request;
use crate::exchange::union::Listed;
use crate::exchange::{reply::Done, services::MethodServices};
use crate::facade::answer::{AnswerStatus, MetaAnswer};
use crate::facade::form::AnswerForm;
use crate::facade::repairs::Repair;
use pleiades_core::error::{Code, Error};
use pleiades_core::telemetry::View;
use pleiades_mcp::{Raw, RawObject};

#[derive(Clone, Copy)]
pub(super) struct ProviderCall<'a> {
    pub(super) services: &'a MethodServices,
    pub(super) request: &'a Request<'a>,
    pub(super) provider: &'a Arc<Provider>,
    /// How much of its answers stands in `structuredContent`.
    pub(super) form: AnswerForm,
}

impl ProviderCall<'_> {
    pub(super) async fn make(
        &self,
        lists: Arc<Catalogue>,
        tool: &Arc<Tool>,
        mut params: RawObject,
    ) -> (Option<Arc<str>>, Result<CallOutcome, Error>) {
        if !tool.respelled.is_empty() {
            let restored = params.get("arguments").and_then(|it| tool.respelled.restored(it));
            if let Some(arguments) = restored {
                params.set("arguments", arguments);
            }
        }
        // Whatever made the call: a rule holds for what goes up.
        if let Some(target) = self.provider.rules.refused(tool, params.get("arguments")) {
            return (None, Err(hidden_target(tool, &target)));
        }
        let target = CallTarget {
            provider: Arc::clone(self.provider),
            lists,
            tool: Some(Arc::clone(tool)),
            method: "tools/call",
        };
        self.services.calls.call_as(self.request, target, params).await
    }

    pub(super) fn complete(&self, account: Option<Arc<str>>, answer: &mut MetaAnswer) {
        if answer.accounts.is_empty() {
            answer.accounts = self.services.accounts.accounts_of(self.request, self.provider);
        }
        answer.account = account;
        answer.form = self.form;
    }

    pub(super) fn answered(&self, account: Option<Arc<str>>, mut answer: MetaAnswer) -> Done {
        self.complete(account, &mut answer);
        if self.services.is_single(self.request) {
            answer.name_provider(&self.provider.id);
        }
        let facts = self.request.facts();
        if let Some(tool) = &answer.tool {
            facts.set_tool(Some(tool));
        }
        if let Some(cause) = answer.cause.take() {
            facts.set_cause(cause);
        }
        let outcome = answer.outcome();
        let result = answer.into_result(self.request.revision(), &self.request.peer().request_id);
        Done::Result(result, outcome)
    }

    /// For a client that is asked to connect, or for a model that reads why and can act on it.
    pub(super) fn failed(
        &self,
        account: Option<Arc<str>>,
        error: Error,
        tool: Option<&Tool>,
    ) -> Result<Done, Error> {
        if self.services.accounts.is_asked(self.request, &error) {
            return Err(error);
        }
        let (provider, error) = (self.provider, paced(error));
        self.request.facts().fail(&error);
        let writes = tool.is_none_or(|tool| !provider.is_read(tool));
        let mut answer = MetaAnswer::of_error(&error, (&provider.title, &provider.id), writes);
        answer.is_of_schema = self.request.manner() == View::Tool
            && tool.is_some_and(|tool| tool.raw.get("outputSchema").is_some());
        debug_assert_ne!(answer.status, AnswerStatus::Ok);
        Ok(self.answered(account, answer))
    }

    /// Counts what was repaired in a call, by the client that made it.
    pub(super) fn count_repairs(&self, params: &RawObject, repairs: &[Repair]) {
        if repairs.is_empty() {
            return;
        }
        let client = client(self.services, self.request, params);
        for repair in repairs {
            self.services.metrics.repaired(&client, repair.as_str());
        }
    }
}

/// The parameters of a provider's call: its own arguments, and what rode beside those of the meta tool.
pub(super) fn inner_params(tool: &Tool, outer: &RawObject, arguments: Raw) -> RawObject {
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

/// In the words for a tool that does not exist.
fn hidden_target(tool: &Tool, target: &HiddenTarget) -> Error {
    match target {
        HiddenTarget::Named(name) => Listed::Tools.unknown(name),
        HiddenTarget::Untold(argument) => Error::new(
            Code::InvalidParams,
            format!(
                "nothing was run: `{argument}` of `{}` must be the plain name of one tool",
                tool.name
            ),
        ),
    }
}

/// What a client has to handle, not a model: a state that is none, an address to be opened.
pub(super) fn is_for_the_client(error: &Error) -> bool {
    let url = error.rpc.as_ref().is_some_and(|fault| fault.code == URL_REQUIRED);
    url || error.code == Code::InvalidParams
}

/// No worker was free in time.
pub(super) fn too_many() -> Error {
    Error::new(
        Code::Busy,
        "too many calls have to be looked into at this moment; nothing was run, try again in 1 s",
    )
    .retry_after(Duration::from_secs(1))
}
