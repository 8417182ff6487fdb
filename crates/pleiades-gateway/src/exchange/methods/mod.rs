//! The methods of MCP, one function each: a request and its parameters in, what it came to out.

mod answer_form;
mod cached_call;
mod describe;
mod forward;
mod initialize;
mod inner_call;
mod listen;
mod lists;
mod meta_call;
mod params;
mod planned_calls;
mod provider_call;
mod relay;
mod result_answer;
mod subscribe;
mod tasks;
mod tools_call;

use super::{fault::printable, reply::Done, request::Request, services::MethodServices};
use pleiades_core::error::{Code, Error};
use pleiades_core::telemetry::View;
use pleiades_mcp::{Id, RawObject, translate::EntryKind};

pub(crate) use relay::{equal, relay_open, unsupported as unequal};
pub(crate) use subscribe::{open_line, roots_changed};

pub(crate) async fn dispatch(
    services: &MethodServices,
    request: &Request<'_>,
    id: &Id,
    params: RawObject,
) -> Result<Done, Error> {
    let method = request.method();
    if request.view() == View::Relay {
        return relay::relay(services, request, params).await;
    }
    let modern = request.is_modern();
    match method {
        "initialize" if !modern => initialize::initialize(services, request, &params).await,
        "ping" if !modern => Ok(Done::ok(RawObject::new().close())),
        "server/discover" if modern => Ok(initialize::discover(services, request)),
        "subscriptions/listen" if modern => listen::listen(services, request, id, &params).await,
        "resources/subscribe" if !modern => subscribe::subscribe(services, request, params).await,
        "resources/unsubscribe" if !modern => subscribe::unsubscribe(services, request, params).await,
        "logging/setLevel" if !modern => subscribe::set_level(services, request, params).await,
        "tools/list" => lists::tools(services, request, &params).await,
        "resources/list" => {
            lists::located(services, request, &params, ("resources", EntryKind::Resource)).await
        }
        "resources/templates/list" => {
            let listed = ("resourceTemplates", EntryKind::Template);
            lists::located(services, request, &params, listed).await
        }
        "prompts/list" => lists::prompts(services, request, &params).await,
        "tools/call" => tools_call::tools_call(services, request, params).await,
        "resources/read" => forward::read_resource(services, request, params).await,
        "prompts/get" => forward::get_prompt(services, request, params).await,
        "completion/complete" => forward::complete(services, request, params).await,
        "tasks/get" | "tasks/update" | "tasks/cancel" if tasks::may_exist(services, request) => {
            tasks::task(services, request, params).await
        }
        _ => Err(Error::new(
            Code::MethodNotFound,
            format!("no method `{}` in {}", printable(method), request.revision()),
        )),
    }
}
