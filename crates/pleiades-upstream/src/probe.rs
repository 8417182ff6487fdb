//! Finds out which revisions a provider speaks, without running anything on it.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use super::{
    call::{Call, Profile},
    endpoint::Transport,
    incoming::{self, RpcResult},
    legacy_probe::LegacyProbe,
    remote::ProviderClient,
    session::MAX_INITIALIZE,
    wired::{WireClient, no_capabilities},
};
use pleiades_core::error::{Code, Error};
use pleiades_mcp::{Raw, RawObject, Revision, Revisions};

/// How long an event stream may take to open and to say where messages go.
const OPENING: Duration = Duration::from_secs(10);

/// Detects a provider's revisions, or asks in the pinned one.
pub(crate) async fn probe(remote: ProviderClient<'_>) -> Result<Profile, Error> {
    let ProviderClient { shared, endpoint, .. } = remote;
    let deadline = Instant::now() + endpoint.start_timeout();
    if shared.is_wired(endpoint) {
        let found = probe_wire(remote, deadline).await;
        let detected = matches!(endpoint.target, Transport::Http { sse: false, .. });
        match found {
            // It may have learnt another transport since it was detected.
            Err(error) if detected && error.code == Code::UpstreamProtocol => {
                shared.set_event_stream_only(endpoint, false);
            }
            found => return found,
        }
    }
    match endpoint.revision {
        Some(revision) if revision.is_modern() => {
            let mut profile = discover(remote, deadline).await?;
            if profile.revisions.contains(revision) {
                profile.revisions = Revisions::default().with(revision);
            }
            Ok(profile)
        }
        Some(revision) => {
            let session = remote.session(revision, deadline).await?;
            Ok(initialized_profile(session.revision, &session.initialize_result))
        }
        None => match detect(remote, deadline).await {
            Err(error) if matches!(error.code, Code::UpstreamProtocol | Code::UpstreamError) => {
                probe_event_stream(remote, deadline).await.map_err(|_none| error)
            }
            detected => detected,
        },
    }
}

/// A provider that takes no POST may still have an event stream (2025-11-25, "Backwards
/// Compatibility").
async fn probe_event_stream(remote: ProviderClient<'_>, deadline: Instant) -> Result<Profile, Error> {
    let found = probe_wire(remote, deadline.min(Instant::now() + OPENING)).await?;
    remote.shared.set_event_stream_only(remote.endpoint, true);
    Ok(found)
}

/// What was said when the wire began.
async fn probe_wire(remote: ProviderClient<'_>, deadline: Instant) -> Result<Profile, Error> {
    let ProviderClient {
        shared,
        endpoint,
        identity,
        declared,
    } = remote;
    let wired = WireClient {
        shared,
        endpoint,
        identity,
        declared,
    };
    let wire = wired.wire(deadline).await?;
    let profile = wire.handshake.get().map(|manner| manner.profile.clone());
    profile.ok_or_else(|| Error::new(Code::Internal, "a wire without a manner"))
}

/// Modern first, and `initialize` only of those that are not: every provider answers one of them or
/// is none.
async fn detect(remote: ProviderClient<'_>, deadline: Instant) -> Result<Profile, Error> {
    // A deaf provider must leave time for the older question.
    let half = Instant::now() + remote.endpoint.start_timeout() / 2;
    match discover(remote, half).await {
        Ok(mut profile) if profile.revisions.contains(Revision::V2026_07_28) => {
            // Older revisions that it names are believed; whether there are any that it does not name
            // is asked when that matters.
            let modern_only = profile.revisions.iter().all(Revision::is_modern);
            profile.legacy = modern_only.then(LegacyProbe::default);
            Ok(profile)
        }
        Err(error) if is_final(&error) => Err(error),
        Ok(_) | Err(_) => legacy(remote, deadline).await,
    }
}

/// Asks what detection left out, within `connect` and `call` together.
pub(crate) async fn ask_legacy(remote: ProviderClient<'_>, older: &LegacyProbe) {
    let question = async {
        let deadline = Instant::now() + remote.endpoint.start_timeout();
        legacy(remote, deadline).await
    };
    older.ask(Box::pin(question)).await;
}

/// Errors that no other generation of the protocol would cure.
fn is_final(error: &Error) -> bool {
    match error.code {
        code if code.is_of_credentials() => true,
        Code::UpstreamUnreachable | Code::UpstreamTimeout => !error.sent,
        _ => false,
    }
}

/// `server/discover`, asked once more when the refusal names the very revision it was asked in.
async fn discover(remote: ProviderClient<'_>, deadline: Instant) -> Result<Profile, Error> {
    let asked = Revision::V2026_07_28;
    let mut outcome = ask(remote, asked, deadline).await?;
    if let Err(fault) = &outcome
        && incoming::supported(fault).is_some_and(|all| all.iter().any(|text| text == asked.as_str()))
    {
        outcome = ask(remote, asked, deadline).await?;
    }
    let result = outcome.map_err(Error::rpc)?;
    discovered_profile(&result).ok_or_else(|| {
        let message = "the provider's answer to `server/discover` names no revision we speak";
        Error::new(Code::UpstreamProtocol, message).sent()
    })
}

async fn ask(remote: ProviderClient<'_>, revision: Revision, deadline: Instant) -> Result<RpcResult, Error> {
    let call = Call {
        method: "server/discover",
        params: RawObject::new(),
        revision,
        mirrored: Vec::new(),
        deadline: deadline.into_std(),
        idempotent: true,
        declared: remote.declared.clone(),
        progress: false,
        token: None,
        events: None,
    };
    remote.request_once(call).await
}

async fn legacy(remote: ProviderClient<'_>, deadline: Instant) -> Result<Profile, Error> {
    let newest = remote.session(Revision::NEWEST_LEGACY, deadline).await?;
    let mut profile = initialized_profile(newest.revision, &newest.initialize_result);
    if newest.revision == Revision::V2025_11_25 {
        let older = remote.session(Revision::V2025_06_18, deadline).await;
        if older.is_ok_and(|session| session.revision == Revision::V2025_06_18) {
            profile.revisions = profile.revisions.with(Revision::V2025_06_18);
        }
    }
    Ok(profile)
}

/// What the result of `server/discover` says; `None` when it names no revision we know.
pub(crate) fn discovered_profile(result: &Raw) -> Option<Profile> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Discovered {
        supported_versions: Vec<String>,
        capabilities: Option<Raw>,
        instructions: Option<String>,
        #[serde(rename = "_meta")]
        meta: Option<RawObject>,
    }
    if result.get().len() > MAX_INITIALIZE {
        return None;
    }
    let found: Discovered = serde_json::from_str(result.get()).ok()?;
    let revisions = revisions(&found.supported_versions);
    (!revisions.is_empty()).then(|| Profile {
        revisions,
        capabilities: found.capabilities.unwrap_or_else(no_capabilities),
        server_info: found
            .meta
            .and_then(|mut meta| meta.remove("io.modelcontextprotocol/serverInfo")),
        instructions: found.instructions,
        legacy: None,
    })
}

fn revisions(texts: &[String]) -> Revisions {
    texts.iter().filter_map(|text| Revision::parse(text)).collect()
}

/// What the result of `initialize` says.
pub(crate) fn initialized_profile(revision: Revision, greeting: &RawObject) -> Profile {
    Profile {
        revisions: Revisions::default().with(revision),
        capabilities: greeting
            .get("capabilities")
            .map_or_else(no_capabilities, ToOwned::to_owned),
        server_info: greeting.get("serverInfo").map(ToOwned::to_owned),
        instructions: greeting.read("instructions"),
        legacy: None,
    }
}
