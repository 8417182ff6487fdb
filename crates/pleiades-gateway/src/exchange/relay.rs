//! The relay of a provider behind a wire, a child process or the event stream of 2024-11-05: its own
//! answers, untouched, between equal revisions. (Others are relayed by `proxy::relay` without opening
//! bodies.)

use std::sync::Arc;

use serde_json::json;

use super::outward::{Came, Outgoing};
use super::session;
use super::{Done, Step, printable};
use crate::catalog::{Provider, RelayAccess};
use pleiades_core::error::{Code, Error};
use pleiades_mcp::{RawObject, Revision, Revisions};

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

impl Step<'_> {
    pub(super) async fn relayed(&mut self, method: &str, params: RawObject) -> Result<Done, Error> {
        let provider = self.only()?.ok_or_else(|| {
            Error::new(
                Code::UnknownPath,
                "the relay is one provider's: `/relay/{provider}`",
            )
        })?;
        self.record.provider = Some(Arc::clone(&provider.id));
        relay_open(&provider)?;
        let catalogue = self.connected(&provider).await?;
        let profile = catalogue
            .profile
            .as_ref()
            .ok_or_else(|| Error::new(Code::UpstreamUnreachable, "the provider was not reached yet"))?;
        if method == "initialize" {
            return self.opened(&provider, profile, &params);
        }
        let revision = self.revision();
        equal(profile.revisions, revision, Some(revision.as_str()))?;
        let method = METHODS
            .into_iter()
            .find(|known| *known == method)
            .ok_or_else(|| {
                Error::new(
                    Code::MethodNotFound,
                    format!("no method `{}` on this relay", printable(method)),
                )
            })?;
        let tool = params
            .read::<String>("name")
            .and_then(|name| catalogue.tool(&name).cloned());
        let tool = tool.as_deref().filter(|_| method == "tools/call");
        let out = Outgoing {
            provider: &provider,
            catalogue: &catalogue,
            tool,
            method,
            params,
        };
        Ok(Done::Result(match self.outward(out).await? {
            Came::Result(result, _) => result.close(),
            Came::Asked(result) => result,
        }))
    }

    /// The process was initialised by us; its client learns what it said then.
    fn opened(
        &self,
        provider: &Provider,
        profile: &pleiades_upstream::Profile,
        params: &RawObject,
    ) -> Result<Done, Error> {
        let wanted = params
            .read::<String>("protocolVersion")
            .and_then(|text| Revision::parse(&text));
        let revision = wanted
            .filter(|revision| profile.revisions.contains(*revision))
            .or_else(|| {
                profile
                    .revisions
                    .iter()
                    .filter(|revision| !revision.is_modern())
                    .last()
            })
            .ok_or_else(|| {
                unsupported(
                    profile.revisions,
                    params.read::<String>("protocolVersion").as_deref(),
                )
            })?;
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
        self.exchange.sessions.sealed()?;
        let session = self.exchange.sessions.open(
            &self.peer.principal,
            self.scope,
            revision,
            (session::abilities(params), pleiades_core::telemetry::names::OTHER),
        );
        Ok(Done::Opened {
            result: result.close(),
            session,
        })
    }
}

/// Whether the relay of a provider may be used at all.
///
/// # Errors
/// [`Code::PolicyDenied`] when a rule on tools could not hold on untouched bodies.
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
///
/// # Errors
/// [`Code::UnsupportedRevision`] with the upstream's revisions.
pub(crate) fn equal(upstream: Revisions, client: Revision, requested: Option<&str>) -> Result<(), Error> {
    let joins = if client.is_modern() {
        upstream.contains(client)
    } else {
        upstream.iter().any(|revision| !revision.is_modern())
    };
    if joins {
        Ok(())
    } else {
        Err(unsupported(upstream, requested))
    }
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
