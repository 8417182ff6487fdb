//! The relay of a provider behind a wire, a child process or the event stream of 2024-11-05: its own
//! answers, untouched, between equal revisions. (Others are relayed by `proxy::relay` without opening
//! bodies.)

use serde_json::json;

use super::subscribe::pass_on;
use crate::catalog::{Provider, RelayAccess};
use crate::exchange::{
    call::CallTarget, fault::printable, reply::Done, request::Request, services::MethodServices,
    session::abilities,
};
use pleiades_core::error::{Code, Error};
use pleiades_core::telemetry::names;
use pleiades_mcp::{RawObject, Revision, Revisions};
use pleiades_upstream::Profile;

/// Characters of an unknown revision that an answer repeats.
const MAX_ECHO: usize = 32;

/// Requests a client may make of a server, over all revisions.
const METHODS: [&str; 18] = [
    "ping",
    "server/discover",
    "tools/list",
    "tools/call",
    "resources/list",
    "resources/templates/list",
    "resources/read",
    "resources/subscribe",
    "resources/unsubscribe",
    "prompts/list",
    "prompts/get",
    "completion/complete",
    "logging/setLevel",
    "tasks/get",
    "tasks/update",
    "tasks/cancel",
    "tasks/result",
    "tasks/list",
];

pub(super) async fn relay(
    services: &MethodServices,
    request: &Request<'_>,
    params: RawObject,
) -> Result<Done, Error> {
    let provider = request.only()?.ok_or_else(|| {
        Error::new(
            Code::UnknownPath,
            "the relay is one provider's: `/relay/{provider}`",
        )
    })?;
    request.facts().set_provider(&provider.id);
    relay_open(&provider)?;
    let lists = services.lists.connected(request, &provider).await?;
    let profile = lists
        .profile
        .as_ref()
        .ok_or_else(|| Error::new(Code::UpstreamUnreachable, "the provider was not reached yet"))?;
    if request.method() == "initialize" {
        return initialize(services, request, (&provider, profile), &params);
    }
    let revision = request.revision();
    equal(profile.revisions, revision, Some(revision.as_str()))?;
    let mut methods = METHODS.into_iter();
    let method = methods.find(|known| *known == request.method()).ok_or_else(|| {
        Error::new(
            Code::MethodNotFound,
            format!("no method `{}` on this relay", printable(request.method())),
        )
    })?;
    let named = params.read::<String>("name").filter(|_| method == "tools/call");
    let tool = named.and_then(|name| lists.tool(&name).cloned());
    let target = CallTarget {
        provider,
        tool,
        method,
        lists,
    };
    pass_on(services, request, target, params).await
}

/// The process was initialised by us; its client learns what it said then.
fn initialize(
    services: &MethodServices,
    request: &Request<'_>,
    (provider, profile): (&Provider, &Profile),
    params: &RawObject,
) -> Result<Done, Error> {
    let named = params.read::<String>("protocolVersion");
    let wanted = named.as_deref().and_then(Revision::parse);
    let legacy = || profile.revisions.iter().filter(|revision| !revision.is_modern());
    let revision = wanted
        .filter(|revision| profile.revisions.contains(*revision))
        .or_else(|| legacy().last())
        .ok_or_else(|| unsupported(profile.revisions, named.as_deref()))?;
    let mut result = RawObject::new();
    result.put("protocolVersion", revision.as_str());
    result.put("capabilities", &profile.capabilities);
    match &profile.server_info {
        Some(info) => result.put("serverInfo", info),
        None => result.put("serverInfo", &json!({ "name": &*provider.id, "version": "" })),
    }
    if let Some(instructions) = &profile.instructions {
        result.put("instructions", instructions);
    }
    let sessions = &services.sessions;
    sessions.sealed()?;
    Ok(Done::Opened {
        result: result.close(),
        session: sessions.open(
            request.principal(),
            request.scope(),
            revision,
            (abilities(params), names::OTHER),
        ),
    })
}

/// [`Code::PolicyDenied`] where a rule on tools could not hold on untouched bodies.
pub(crate) fn relay_open(provider: &Provider) -> Result<(), Error> {
    match provider.relay {
        RelayAccess::Open => Ok(()),
        RelayAccess::Closed => Err(Error::new(
            Code::PolicyDenied,
            format!(
                "`{}` has rules on tools, which the relay cannot hold: use `/tools/{}`",
                provider.id, provider.id
            ),
        )),
    }
}

/// The relay joins equal revisions only. `requested` is what the client stated in its head.
pub(crate) fn equal(upstream: Revisions, client: Revision, requested: Option<&str>) -> Result<(), Error> {
    let joins = if client.is_modern() {
        upstream.contains(client)
    } else {
        upstream.iter().any(|revision| !revision.is_modern())
    };
    joins
        .then_some(())
        .ok_or_else(|| unsupported(upstream, requested))
}

/// The refusal of a revision that the upstream lacks, with those that it speaks and, where it was
/// stated, the one that was asked for (2026-07-28, `UnsupportedProtocolVersionError`).
pub(crate) fn unsupported(upstream: Revisions, requested: Option<&str>) -> Error {
    let supported: Vec<&str> = upstream.iter().map(Revision::as_str).collect();
    let mut data = json!({ "supported": supported });
    if let (Some(requested), Some(data)) = (requested, data.as_object_mut()) {
        let requested: String = requested.chars().take(MAX_ECHO).collect();
        data.insert("requested".to_owned(), requested.into());
    }
    Error::new(
        Code::UnsupportedRevision,
        "the provider does not speak this revision; the relay joins equal ones only",
    )
    .data(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::tests::{LEGACY, MODERN};

    #[test]
    fn the_relay_joins_equal_generations_alone() {
        let old = Revisions::default().with(Revision::V2025_06_18);
        assert!(
            equal(old, LEGACY, None).is_ok(),
            "between legacy revisions nothing is opened"
        );
        assert!(equal(old, MODERN, None).is_err());
        assert!(equal(Revisions::default().with(MODERN), MODERN, None).is_ok());
        assert!(equal(Revisions::default().with(MODERN), LEGACY, None).is_err());
    }

    #[test]
    fn a_refused_revision_is_repeated_cut_beside_those_that_are_spoken() {
        let error = unsupported(Revisions::default().with(LEGACY), Some(&"x".repeat(99)));
        let data = error.data.unwrap();
        assert_eq!(data["supported"], json!(["2025-11-25"]));
        assert_eq!(data["requested"].as_str().unwrap().len(), MAX_ECHO);
        assert!(
            unsupported(Revisions::default(), None)
                .data
                .unwrap()
                .get("requested")
                .is_none()
        );
    }
}
