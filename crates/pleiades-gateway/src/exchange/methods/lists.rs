//! Lists: every provider's part from memory, in one order, whatever became of the others.

use std::borrow::Cow;

use super::params::one_page;
use crate::catalog::Provider;
use crate::exchange::union::{Parts, marked, prompt_names, tool_names};
use crate::exchange::{lists::claims_of, reply::Done, request::Request, services::MethodServices};
use pleiades_core::{error::Error, telemetry::View};
use pleiades_mcp::{RawObject, translate::EntryKind};

pub(super) async fn tools(
    services: &MethodServices,
    request: &Request<'_>,
    params: &RawObject,
) -> Result<Done, Error> {
    one_page(params)?;
    let parts = services.lists.parts(request).await?;
    let tools = match request.view() {
        View::Meta => meta_view(services, request, &parts),
        View::Tool | View::Relay => {
            let names = tool_names(&parts, services.names(request), request.is_union());
            parts.tools(names, &claims_of(request, &parts), request.revision())
        }
    };
    Ok(Done::ok(parts.page("tools", &tools, request.revision())))
}

/// One tool for each provider or for all, then the tools of those that show their own, which are called as
/// in the tool view.
fn meta_view(services: &MethodServices, request: &Request<'_>, parts: &Parts) -> Vec<RawObject> {
    let saved = |provider: &Provider, tokens: usize| {
        if tokens > 0 {
            services.metrics.tokens_saved(&provider.id, tokens);
        }
    };
    let mut tools = match services.is_single(request) {
        true => parts.single_tool(&services.shown.name, &saved),
        false => parts.meta_tools(&request.snapshot().providers, &saved),
    };
    if !parts.has_own_tools() {
        return tools;
    }
    let names = tool_names(parts, services.names(request), request.is_union());
    let own = parts.own_tools(names, &claims_of(request, parts), request.revision());
    let taken: Vec<String> = tools.iter().filter_map(|tool| tool.read("name")).collect();
    tools.extend(own.into_iter().map(|mut tool| {
        let name = tool.text("name").map(Cow::into_owned).unwrap_or_default();
        if taken.contains(&name) {
            tool.put("name", &marked(&name));
        }
        tool
    }));
    tools
}

/// Resources, or templates of them.
pub(super) async fn located(
    services: &MethodServices,
    request: &Request<'_>,
    params: &RawObject,
    (key, kind): (&str, EntryKind),
) -> Result<Done, Error> {
    one_page(params)?;
    let parts = services.lists.parts(request).await?;
    let entries = parts.located(kind, &claims_of(request, &parts), request.revision());
    Ok(Done::ok(parts.page(key, &entries, request.revision())))
}

pub(super) async fn prompts(
    services: &MethodServices,
    request: &Request<'_>,
    params: &RawObject,
) -> Result<Done, Error> {
    one_page(params)?;
    let parts = services.lists.parts(request).await?;
    let names = prompt_names(&parts, services.names(request), request.is_union());
    let entries = parts.prompts(names, request.revision());
    Ok(Done::ok(parts.page("prompts", &entries, request.revision())))
}
