//! The paths beside the protocol: a caller's own accounts, refreshes that a scheduler asks for, and
//! the stream that connects a server: `docs/ACCOUNTS.md`.

mod accounts;
mod body;
mod events;
mod refresh;
pub(super) mod route;
mod servers;

use std::sync::Arc;

use http::StatusCode;
use pingora_core::Result;
use pingora_proxy::Session;

pub use self::servers::ConnectAllowlist;

use self::route::ApiRoute;
use super::{bridge, context::Context, services::GatewayServices};
use pleiades_core::{error::Error, secret::Secret, telemetry::events::RequestDone};
use pleiades_credential::access::Principal;

/// The settings of these paths.
#[derive(Debug, Default)]
pub struct ApiConfig {
    /// `signing.inbound_keys`.
    pub inbound_keys: Vec<Secret>,
    /// `connect_api.allow`, and what reaching such a server may do.
    pub allowed: ConnectAllowlist,
}

/// Answers one request of these paths. Errors: when the client is gone.
pub(super) async fn serve(
    services: &GatewayServices,
    config: &ApiConfig,
    session: &mut Session,
    (ctx, route): (&Context, ApiRoute),
) -> Result<()> {
    let (response, principal) = if let ApiRoute::Refresh(provider) = &route {
        let keys = &config.inbound_keys;
        (refresh::serve(services, keys, session, provider).await, None)
    } else {
        match identify(services, session) {
            Err(error) => (Err(error), None),
            Ok(principal) => {
                let response = match &route {
                    ApiRoute::Account(provider, account) => {
                        accounts::change(services, session, &principal, (provider, account)).await
                    }
                    ApiRoute::Connect => {
                        let allowed = &config.allowed;
                        match servers::connect(services, allowed, session, (ctx, &principal)).await? {
                            Ok(()) => {
                                report(services, ctx, &route, (Some(&principal), None, StatusCode::OK));
                                return Ok(());
                            }
                            Err(error) => Err(error),
                        }
                    }
                    ApiRoute::Accounts | ApiRoute::Refresh(_) => {
                        accounts::list(services, &session.req_header().method, &principal).await
                    }
                };
                (response, Some(principal))
            }
        }
    };
    let (response, failure) = match response {
        Ok(response) => (response, None),
        Err(error) => (body::refusal(&error, &route), Some(error)),
    };
    report(
        services,
        ctx,
        &route,
        (principal.as_ref(), failure.as_ref(), response.status),
    );
    bridge::respond(session, response, ctx).await
}

fn identify(services: &GatewayServices, session: &Session) -> Result<Principal, Error> {
    let headers = &session.req_header().headers;
    let caller = services.access.identify(headers, bridge::peer_address(session))?;
    Ok(caller.principal)
}

/// Emits the event of a request.
fn report(
    services: &GatewayServices,
    ctx: &Context,
    route: &ApiRoute,
    (principal, failure, status): (Option<&Principal>, Option<&Error>, StatusCode),
) {
    let mut done = RequestDone::new(ctx.request_id.clone(), route.name());
    done.tenant = principal.map(|it| Arc::clone(&it.tenant));
    done.user = principal.map(|it| Arc::clone(&it.user));
    done.peer = ctx.peer;
    if let Some(error) = failure {
        done.outcome = error.code.as_str();
        done.cause = Some(error.cause());
    }
    done.status = status.as_u16();
    done.duration = ctx.started.elapsed();
    if let ApiRoute::Account(provider, _) | ApiRoute::Refresh(provider) = route {
        let snapshot = services.exchange.catalog.snapshot();
        done.provider = snapshot
            .providers
            .contains_key(provider)
            .then(|| Arc::clone(provider));
    }
    done.emit(&services.metrics);
}
