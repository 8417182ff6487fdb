//! `tools/call` in the meta and the tool view.

use super::{
    meta_call::meta_call,
    provider_call::{ProviderCall, is_for_the_client},
};
use crate::catalog::{Presentation, Provider, Tool};
use crate::exchange::account::sign_result;
use crate::exchange::call::CallOutcome;
use crate::exchange::request::Request;
use crate::exchange::union::{Listed, meant};
use crate::exchange::{reply::Done, services::MethodServices};
use crate::facade::{answer, form::AnswerForm, split};
use pleiades_core::error::{Code, Error};
use pleiades_core::telemetry::View;
use pleiades_mcp::{RawObject, headers, translate};

pub(crate) async fn tools_call(
    services: &MethodServices,
    request: &Request<'_>,
    params: RawObject,
) -> Result<Done, Error> {
    let name: String = params
        .read("name")
        .ok_or_else(|| Error::new(Code::InvalidParams, "`tools/call` needs the tool's `name`"))?;
    match request.view() {
        View::Meta if is_own_tool(services, request, &name) => {
            let request = &request.clone().with_own_tools();
            tool_call(services, request, &name, params).await
        }
        View::Meta => meta_call(services, request, &name, &params).await,
        View::Tool | View::Relay => tool_call(services, request, &name, params).await,
    }
}

/// Whether a name of the meta view is that of a provider's own tool. Names of meta tools go before.
fn is_own_tool(services: &MethodServices, request: &Request<'_>, name: &str) -> bool {
    let providers = &request.snapshot().providers;
    let meta = || split::called(name, providers).map(|(provider, _)| provider);
    if let Some(id) = request.scope().provider.as_deref() {
        let Some(provider) = providers.get(id).filter(|it| may_show_own(it)) else {
            return false;
        };
        let has = || {
            services
                .lists
                .known(request, provider)
                .is_some_and(|lists| lists.tool(name).is_some())
        };
        return meta().is_none_or(|meta| meta.id != provider.id) || has();
    }
    if !providers.values().any(|provider| may_show_own(provider)) {
        return false;
    }
    let is_single = || {
        let own = name.strip_prefix("use_");
        own.is_some_and(|own| own.strip_suffix("_write").unwrap_or(own) == services.shown.name)
    };
    let is_meta = match services.is_single(request) {
        true => is_single(),
        false => meta().is_some(),
    };
    !is_meta
        && meant(providers, name)
            .iter()
            .any(|(provider, _)| may_show_own(provider))
}

fn may_show_own(provider: &Provider) -> bool {
    provider.facade.mode != Presentation::OneTool
}

async fn tool_call(
    services: &MethodServices,
    request: &Request<'_>,
    name: &str,
    mut params: RawObject,
) -> Result<Done, Error> {
    let (provider, inner) = services.lists.named(request, name, Listed::Tools).await?;
    request.facts().set_provider(&provider.id);
    if request.view() == View::Meta && !may_show_own(&provider) {
        return Err(Listed::Tools.unknown(name));
    }
    let call = ProviderCall {
        services,
        request,
        provider: &provider,
        form: AnswerForm::Full,
    };
    let lists = match services.lists.connected(request, &provider).await {
        Ok(lists) => lists,
        Err(error) => return call.failed(None, error, None),
    };
    let finding = services
        .lists
        .find_tool(request, (&provider, lists), (&inner, name));
    let (lists, tool) = match finding.await {
        Ok(found) => found,
        Err(error) if is_for_the_client(&error) => return Err(error),
        Err(error) => return call.failed(None, error, None),
    };
    check_mirrored(request, &tool, &params)?;
    // Whether it becomes a task is for provider and gateway to say.
    params.remove("task");
    if *name != *tool.upstream {
        params.put("name", &*tool.upstream);
    }
    let (account, outcome) = call.make(lists, &tool, params).await;
    match outcome {
        Ok(CallOutcome::Result(mut result, from)) => {
            let of = (&*provider, "tools/call");
            services.lists.outer_uris(request, of, &mut result, None);
            answer::repair_result(&mut result);
            let mut result = translate::result("tools/call", result, from, request.revision());
            sign_result(account.as_ref(), &mut result);
            let result = call.shortened(result).await;
            let outcome = answer::outcome_of(&result);
            Ok(Done::Result(result.close(), outcome))
        }
        Ok(CallOutcome::Asked(result)) => Ok(Done::asks(result)),
        Err(error) if error.code == Code::UpstreamError && error.rpc.is_some() => Err(error),
        Err(error) if is_for_the_client(&error) => Err(error),
        Err(error) => call.failed(account, error, Some(&tool)),
    }
}

/// A modern client must mirror the annotated arguments into headers, and truthfully.
fn check_mirrored(request: &Request<'_>, tool: &Tool, params: &RawObject) -> Result<(), Error> {
    match request.peer().keys.headers() {
        Some(http) if request.is_modern() && !tool.mirrored.is_empty() => {
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
