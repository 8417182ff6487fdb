//! `initialize` of legacy clients and `server/discover` of 2026-07-28.

use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use super::describe::{capabilities, instructions, server_info};
use crate::exchange::request::{Keys, Request};
use crate::exchange::session::{abilities, negotiated, stated_name};
use crate::exchange::{reply::Done, services::MethodServices};
use pleiades_core::error::{Code, Error};
use pleiades_mcp::translate::{self, CacheScope};
use pleiades_mcp::{RawObject, Revision};

/// How long the opening of a session waits for the account it would use.
const GREETING: Duration = Duration::from_secs(2);

/// `initialize`: negotiates with us alone, whatever the upstreams speak.
pub(super) async fn initialize(
    services: &MethodServices,
    request: &Request<'_>,
    params: &RawObject,
) -> Result<Done, Error> {
    if params.read::<String>("protocolVersion").is_none() {
        return Err(Error::new(
            Code::InvalidParams,
            "`initialize` needs `protocolVersion`",
        ));
    }
    // Over stdio the session is the process itself, and its id is told to nobody.
    if matches!(request.peer().keys, Keys::Headers(_)) {
        services.sessions.sealed()?;
    }
    let (revision, abilities) = (negotiated(params), abilities(params));
    request.facts().set_revision(revision);
    greet(services, request).await;
    let mut result = RawObject::new();
    result.put("protocolVersion", revision.as_str());
    result.put("capabilities", &capabilities(services, request, revision));
    result.put("serverInfo", &server_info(services, request));
    if let Some(instructions) = instructions(services, request) {
        result.put("instructions", &instructions);
    }
    let sessions = &services.sessions;
    Ok(Done::Opened {
        result: result.close(),
        session: sessions.open(
            request.principal(),
            request.scope(),
            revision,
            (abilities, &stated_name(params)),
        ),
    })
}

/// Before a client of an older generation is told what its one provider can, the provider is asked
/// whether it speaks that generation: it may log in it. In a union nothing hangs on it yet.
async fn greet(services: &MethodServices, request: &Request<'_>) {
    let Ok(Some(provider)) = request.only() else {
        return;
    };
    // A store of credentials that does not answer keeps nobody from opening a session.
    let reaching = services.accounts.reach(request, &provider);
    let Ok(Ok(reached)) = timeout(GREETING, reaching).await else {
        return;
    };
    if let Some(known) = services.catalog.lists_if_known(&provider, &reached.identity) {
        let known = (&reached.identity, known);
        services.lists.with_older(request, &provider, known).await;
    }
}

pub(super) fn discover(services: &MethodServices, request: &Request<'_>) -> Done {
    let mut result = RawObject::new();
    result.put("supportedVersions", &Revision::SERVED.map(Revision::as_str));
    result.put(
        "capabilities",
        &capabilities(services, request, request.revision()),
    );
    if let Some(instructions) = instructions(services, request) {
        result.put("instructions", &instructions);
    }
    let cache = Some((0, CacheScope::Private));
    translate::envelope(&mut result, request.revision(), cache);
    let info = server_info(services, request);
    result.put("_meta", &json!({ "io.modelcontextprotocol/serverInfo": info }));
    Done::ok(result.close())
}
