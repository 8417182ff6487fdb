//! What a provider turned out to be: the revisions it speaks, and what it can.
//!
//! A server of 2026-07-28 need not list the revisions that it takes by `initialize`, and SDKs that serve
//! both generations do not. Whether it takes `initialize` is asked when it first matters, and once: a server
//! that is modern only counts the question as a fault.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::Mutex;
use pleiades_core::error::{Code, Error};
use pleiades_mcp::{Raw, RawObject, Revision, Revisions, raw::raw};
use serde::Deserialize;
use tokio::{sync, time::Instant};

/// The least between two questions for an older generation when the first was not answered: the provider
/// hung, was away, or refused the credential.
const AGAIN: Duration = Duration::from_secs(60);
/// The largest answer to `initialize` or `server/discover` that is kept, in bytes.
pub(crate) const MAX_INITIALIZE: usize = 256 * 1024;

/// Revisions, capabilities and self-description of a provider.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Revisions it speaks, as far as is known: see `legacy`.
    pub revisions: Revisions,
    /// Its capabilities object: that of the newest revision, and what only an older one names.
    pub capabilities: Raw,
    /// `serverInfo`.
    pub server_info: Option<Raw>,
    /// `instructions`.
    pub instructions: Option<String>,
    /// It named modern revisions only, and was not asked for others ([`super::Upstreams::probe_legacy`]).
    pub legacy: Option<LegacyProbe>,
}

impl Profile {
    /// The result of `server/discover`; `None` when it names no revision we know.
    pub(crate) fn from_discover(result: &Raw) -> Option<Self> {
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
        let named = found.supported_versions.iter();
        let revisions: Revisions = named.filter_map(|text| Revision::parse(text)).collect();
        (!revisions.is_empty()).then(|| Self {
            revisions,
            capabilities: found.capabilities.unwrap_or_else(no_capabilities),
            server_info: found
                .meta
                .and_then(|mut meta| meta.remove("io.modelcontextprotocol/serverInfo")),
            instructions: found.instructions,
            legacy: None,
        })
    }

    /// The result of `initialize`, and the revision it settled on.
    pub(crate) fn from_initialize(revision: Revision, result: &RawObject) -> Self {
        let capabilities = result.get("capabilities");
        Self {
            revisions: Revisions::default().with(revision),
            capabilities: capabilities.map_or_else(no_capabilities, ToOwned::to_owned),
            server_info: result.get("serverInfo").map(ToOwned::to_owned),
            instructions: result.read("instructions"),
            legacy: None,
        }
    }

    /// The profile once it is known whether the provider speaks an older generation too; `None`
    /// while that is not, and when there was nothing to ask.
    #[must_use]
    pub fn settled(&self) -> Option<Self> {
        let answer = self.legacy.as_ref()?.0.answer.get()?;
        let mut settled = Self {
            legacy: None,
            ..self.clone()
        };
        if let Some(older) = answer {
            settled.revisions = self.revisions.iter().chain(older.revisions.iter()).collect();
            settled.capabilities = merge_capabilities(&self.capabilities, &older.capabilities);
        }
        Some(settled)
    }
}

fn no_capabilities() -> Raw {
    raw(&serde_json::json!({}))
}

/// The capabilities of both generations of a provider: the older one logs, for instance, which the newer has
/// no word for. Where both name a capability the newer one's words hold.
fn merge_capabilities(newer: &Raw, older: &Raw) -> Raw {
    let (Ok(mut all), Ok(older)) = (RawObject::open(newer), RawObject::open(older)) else {
        return newer.clone();
    };
    for (name, capability) in older.iter() {
        if all.get(name).is_none() {
            all.set(name, capability.to_owned());
        }
    }
    all.close()
}

/// The question for an older generation, shared by all copies of the [`Profile`] that it was left out of.
#[derive(Debug, Clone, Default)]
pub struct LegacyProbe(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// What the older generation speaks; `None` when there is none. Never changes again: the next probe
    /// brings a new question.
    answer: OnceLock<Option<LegacyProfile>>,
    /// Locked while it is asked.
    turn: sync::Mutex<()>,
    /// When it was last asked without an answer.
    unanswered: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct LegacyProfile {
    revisions: Revisions,
    capabilities: Raw,
}

impl LegacyProbe {
    /// Whether it is worth waiting for an answer: there is one, or it may be asked for.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.0.answer.get().is_some() || self.0.unanswered.lock().is_none_or(|at| at.elapsed() >= AGAIN)
    }

    /// Asks, unless it was answered, or asked without an answer just now. Whoever else asks waits.
    pub async fn ask(&self, question: impl Future<Output = Result<Profile, Error>>) {
        let _turn = self.0.turn.lock().await;
        if self.0.answer.get().is_some() || !self.is_due() {
            return;
        }
        let answer = match question.await {
            Ok(profile) => Some(LegacyProfile {
                revisions: profile.revisions,
                capabilities: profile.capabilities,
            }),
            // A refused credential says nothing of revisions: it is one caller's.
            Err(error) => match error.code {
                Code::UpstreamError | Code::UpstreamProtocol | Code::UnsupportedRevision => None,
                _ => {
                    tracing::debug!(%error, "whether an older revision is spoken was not answered");
                    *self.0.unanswered.lock() = Some(Instant::now());
                    return;
                }
            },
        };
        // Only the holder of the turn answers.
        self.0.answer.set(answer).unwrap_or_default();
    }
}
