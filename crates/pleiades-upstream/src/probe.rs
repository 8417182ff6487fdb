//! Finds out which revisions a provider speaks, without running anything on it.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    call::Call,
    endpoint::Transport,
    incoming::{self, RpcResult},
    profile::{LegacyProbe, Profile},
    provider_client::ProviderClient,
};
use pleiades_core::error::{Code, Error};
use pleiades_mcp::{RawObject, Revision, Revisions};

/// How long an event stream may take to open and to say where messages go.
const OPENING: Duration = Duration::from_secs(10);

/// Detects a provider's revisions, or asks in the pinned one.
pub(crate) async fn probe(client: ProviderClient<'_>) -> Result<Profile, Error> {
    let ProviderClient { shared, endpoint, .. } = client;
    let deadline = Instant::now() + endpoint.start_timeout();
    if shared.is_wired(endpoint) {
        let found = probe_wire(client, deadline).await;
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
            let mut profile = discover(client, deadline).await?;
            if profile.revisions.contains(revision) {
                profile.revisions = Revisions::default().with(revision);
            }
            Ok(profile)
        }
        Some(revision) => {
            let session = client.session(revision, deadline).await?;
            let (revision, result) = (session.revision, &session.initialize_result);
            Ok(Profile::from_initialize(revision, result))
        }
        None => match detect(client, deadline).await {
            Err(error) if matches!(error.code, Code::UpstreamProtocol | Code::UpstreamError) => {
                probe_event_stream(client, deadline).await.map_err(|_none| error)
            }
            detected => detected,
        },
    }
}

/// A provider that takes no POST may still have an event stream (2025-11-25, "Backwards Compatibility").
async fn probe_event_stream(client: ProviderClient<'_>, deadline: Instant) -> Result<Profile, Error> {
    let found = probe_wire(client, deadline.min(Instant::now() + OPENING)).await?;
    client.shared.set_event_stream_only(client.endpoint, true);
    Ok(found)
}

async fn probe_wire(client: ProviderClient<'_>, deadline: Instant) -> Result<Profile, Error> {
    let wire = client.wire(deadline).await?;
    let profile = wire.handshake.get().map(|handshake| handshake.profile.clone());
    profile.ok_or_else(|| Error::new(Code::Internal, "a wire without a handshake"))
}

/// Modern first, and `initialize` only of those that are not: every provider answers one of them or is none.
async fn detect(client: ProviderClient<'_>, deadline: Instant) -> Result<Profile, Error> {
    // A provider that does not answer must leave time for the older question.
    let half = Instant::now() + client.endpoint.start_timeout() / 2;
    match discover(client, half).await {
        Ok(mut profile) if profile.revisions.contains(Revision::V2026_07_28) => {
            // Older revisions that it names are believed; whether there are any that it does not name
            // is asked when that matters.
            let modern_only = profile.revisions.iter().all(Revision::is_modern);
            profile.legacy = modern_only.then(LegacyProbe::default);
            Ok(profile)
        }
        Err(error) if is_final(&error) => Err(error),
        Ok(_) | Err(_) => legacy(client, deadline).await,
    }
}

/// Asks what detection left out, within `connect` and `call` together.
pub(crate) async fn ask_legacy(client: ProviderClient<'_>, older: &LegacyProbe) {
    let question = async {
        let deadline = Instant::now() + client.endpoint.start_timeout();
        legacy(client, deadline).await
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
async fn discover(client: ProviderClient<'_>, deadline: Instant) -> Result<Profile, Error> {
    let asked = Revision::V2026_07_28;
    let mut outcome = ask(client, asked, deadline).await?;
    if let Err(fault) = &outcome
        && incoming::supported(fault).is_some_and(|all| all.iter().any(|text| text == asked.as_str()))
    {
        outcome = ask(client, asked, deadline).await?;
    }
    let result = outcome.map_err(Error::rpc)?;
    Profile::from_discover(&result).ok_or_else(|| {
        let message = "the provider's answer to `server/discover` names no revision we speak";
        Error::new(Code::UpstreamProtocol, message).sent()
    })
}

async fn ask(client: ProviderClient<'_>, revision: Revision, deadline: Instant) -> Result<RpcResult, Error> {
    let call = Call {
        idempotent: true,
        ..Call::new("server/discover", RawObject::new(), revision, deadline.into_std())
    };
    client.request_once(call).await
}

async fn legacy(client: ProviderClient<'_>, deadline: Instant) -> Result<Profile, Error> {
    let newest = client.session(Revision::NEWEST_LEGACY, deadline).await?;
    let mut profile = Profile::from_initialize(newest.revision, &newest.initialize_result);
    if newest.revision == Revision::V2025_11_25 {
        let older = client.session(Revision::V2025_06_18, deadline).await;
        if older.is_ok_and(|session| session.revision == Revision::V2025_06_18) {
            profile.revisions = profile.revisions.with(Revision::V2025_06_18);
        }
    }
    Ok(profile)
}
