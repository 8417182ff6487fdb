//! Lists: every provider's part from memory, in one order, whatever became of the others.

use super::params::one_page;
use crate::exchange::union::{prompt_names, tool_names};
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
        View::Meta if services.is_single(request) => parts.single_tool(&services.shown.name),
        View::Meta => parts.meta_tools(&request.snapshot().providers),
        View::Tool | View::Relay => {
            let names = tool_names(&parts, services.names(request), request.is_union());
            parts.tools(names, &claims_of(request, &parts), request.revision())
        }
    };
    Ok(Done::ok(parts.page("tools", &tools, request.revision())))
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
