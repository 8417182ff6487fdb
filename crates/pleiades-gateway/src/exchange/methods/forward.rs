//! Resources, prompts and completion: found by URI or name, asked of their provider.

use std::sync::Arc;

use super::params::required;
use crate::exchange::call::{CallOutcome, CallTarget};
use crate::exchange::{reply::Done, request::Request, services::MethodServices, union::Listed};
use pleiades_core::error::Error;
use pleiades_mcp::{RawObject, translate};

pub(super) async fn read_resource(
    services: &MethodServices,
    request: &Request<'_>,
    mut params: RawObject,
) -> Result<Done, Error> {
    let uri: String = required(&params, "uri")?;
    let (provider, lists, inner) = services.lists.locate(request, &uri).await?;
    params.put("uri", &inner);
    let target = CallTarget::method(provider, lists, "resources/read");
    forward(services, request, (target, params), Some((&inner, &uri))).await
}

pub(super) async fn get_prompt(
    services: &MethodServices,
    request: &Request<'_>,
    mut params: RawObject,
) -> Result<Done, Error> {
    let name: String = required(&params, "name")?;
    let (provider, inner) = services.lists.named(request, &name, Listed::Prompts).await?;
    let lists = services.lists.connected(request, &provider).await?;
    params.put("name", &inner);
    let target = CallTarget::method(provider, lists, "prompts/get");
    forward(services, request, (target, params), None).await
}

pub(super) async fn complete(
    services: &MethodServices,
    request: &Request<'_>,
    mut params: RawObject,
) -> Result<Done, Error> {
    let mut reference: RawObject = required(&params, "ref")?;
    let (provider, lists) = if let Some(uri) = reference.read::<String>("uri") {
        let (provider, lists, inner) = services.lists.locate(request, &uri).await?;
        reference.put("uri", &inner);
        (provider, lists)
    } else {
        let name: String = required(&reference, "name")?;
        let (provider, inner) = services.lists.named(request, &name, Listed::Prompts).await?;
        reference.put("name", &inner);
        let lists = services.lists.connected(request, &provider).await?;
        (provider, lists)
    };
    params.set("ref", reference.close());
    let target = CallTarget::method(provider, lists, "completion/complete");
    forward(services, request, (target, params), None).await
}

/// `asked`: a URI as the provider and as the client know it.
async fn forward(
    services: &MethodServices,
    request: &Request<'_>,
    (target, params): (CallTarget, RawObject),
    asked: Option<(&str, &str)>,
) -> Result<Done, Error> {
    let (provider, method) = (Arc::clone(&target.provider), target.method);
    match services.calls.call(request, target, params).await? {
        CallOutcome::Result(mut result, from) => {
            let of = (&*provider, method);
            services.lists.outer_uris(request, of, &mut result, asked);
            let mut result = translate::result(method, result, from, request.revision());
            // It was read as somebody, whatever the provider gives to others.
            if result.get("cacheScope").is_some() {
                result.put("cacheScope", "private");
            }
            Ok(Done::ok(result.close()))
        }
        CallOutcome::Asked(result) => Ok(Done::asks(result)),
    }
}
