//! Tasks of the extension for clients of 2026-07-28 that look after them themselves (SEP-2663): in
//! the tool view, under sealed ids that say whose they are.

use std::sync::Arc;

use serde_json::json;

use super::params::optional;
use crate::catalog::Provider;
use crate::exchange::call::{
    CallOutcome, CallTarget, TaskClaims, check_answers, looks_after_tasks, offers_tasks, revision_for,
};
use crate::exchange::{lists::FoundUri, reply::Done, request::Request, services::MethodServices};
use pleiades_core::error::{Code, Error};
use pleiades_core::telemetry::View;
use pleiades_mcp::{RawObject, capabilities::TASKS, translate};

/// Of providers that offer the extension, as far as it is known.
pub(super) fn may_exist(services: &MethodServices, request: &Request<'_>) -> bool {
    let may = |provider: &Arc<Provider>| {
        let known = services.lists.known(request, provider);
        known.is_none_or(|it| it.profile.is_none() || offers_tasks(&it))
    };
    request.view() == View::Tool && request.is_modern() && request.in_scope().any(may)
}

pub(super) async fn task(
    services: &MethodServices,
    request: &Request<'_>,
    mut params: RawObject,
) -> Result<Done, Error> {
    if !looks_after_tasks(request) {
        let required = json!({ "extensions": { TASKS: {} } });
        return Err(Error::new(
            Code::MissingCapability,
            "tasks are for clients that declare the extension",
        )
        .data(json!({ "requiredCapabilities": required })));
    }
    let outer: String = params.read("taskId").ok_or_else(unknown)?;
    if params.get("inputResponses").is_some() {
        check_answers(&optional(&params, "inputResponses")?)?;
    }
    // The account that the task was made with, unless another one is named.
    let made_with = || Some(Arc::from(open(services, request, &outer)?.account?));
    let account = request.named_account().cloned().or_else(made_with);
    let request = &request.clone().with_account(account);
    let (provider, lists, inner) = locate(services, request, &outer).await?;
    params.put("taskId", &inner);
    let method = match request.method() {
        "tasks/get" => "tasks/get",
        "tasks/update" => "tasks/update",
        _ => "tasks/cancel",
    };
    let target = CallTarget::method(Arc::clone(&provider), lists, method);
    let (mut result, from) = match services.calls.call(request, target, params).await? {
        CallOutcome::Result(result, from) => (result, from),
        CallOutcome::Asked(result) => return Ok(Done::asks(result)),
    };
    if result.get("taskId").is_some() {
        result.put("taskId", &outer);
    }
    // The extension knows none, and one that is not sealed would not be ours to take back.
    result.remove("requestState");
    services
        .lists
        .outer_uris(request, (&provider, method), &mut result, None);
    let result = translate::result(method, result, from, request.revision());
    Ok(Done::ok(result.close()))
}

pub(super) async fn locate(
    services: &MethodServices,
    request: &Request<'_>,
    outer: &str,
) -> Result<FoundUri, Error> {
    services.sessions.sealed()?;
    let claims = open(services, request, outer).ok_or_else(unknown)?;
    let only = request.scope().provider.as_deref();
    if only.is_some_and(|only| only != claims.provider) {
        return Err(unknown());
    }
    let provider = request.provider(&claims.provider).ok().ok_or_else(unknown)?;
    let reached = services.accounts.reach(request, &provider).await.ok();
    if reached.map(|it| it.identity.signature.account) != Some(claims.fingerprint) {
        return Err(unknown());
    }
    let lists = services.lists.connected(request, &provider).await?;
    if !revision_for(request.revision(), &lists)?.is_modern() {
        return Err(unknown());
    }
    Ok((provider, lists, claims.id))
}

fn open(services: &MethodServices, request: &Request<'_>, outer: &str) -> Option<TaskClaims> {
    TaskClaims::open(services.sessions.tokens(), &request.holder(), outer)
}

fn unknown() -> Error {
    Error::new(
        Code::InvalidParams,
        "no such task: `taskId` was changed, has expired or belongs to another caller, account or path",
    )
}
