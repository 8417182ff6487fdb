//! Whether a provider that names modern revisions alone speaks an older generation too: asked when it
//! first matters, and once.
//!
//! A server of 2026-07-28 need not list the revisions that it takes by `initialize`, and SDKs that serve
//! both generations do not. One that is modern only counts the question as a fault.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync, time::Instant};

use super::call::Profile;
use pleiades_core::error::{Code, Error};
use pleiades_mcp::{Raw, RawObject, Revisions};

/// The least between two questions when the first was not answered: the provider hung, was away, or
/// refused the credential.
const AGAIN: Duration = Duration::from_secs(60);

/// The question, shared by all copies of the [`Profile`] that it was left out of.
#[derive(Debug, Clone, Default)]
pub struct LegacyProbe(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// What the older generation speaks; `None` when there is none. Never changes again: a probe anew
    /// brings a new question.
    answer: OnceLock<Option<LegacyProfile>>,
    /// Held while it is asked.
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
    /// Whether it is worth anything to wait for an answer: there is one, or it may be asked for.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.0.answer.get().is_some() || self.0.unanswered.lock().is_none_or(|at| at.elapsed() >= AGAIN)
    }

    /// Asks, unless it was answered, or asked in vain just now. Whoever comes meanwhile waits.
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
            Err(error) if is_a_no(&error) => None,
            Err(error) => {
                tracing::debug!(%error, "whether an older revision is spoken was not answered");
                *self.0.unanswered.lock() = Some(Instant::now());
                return;
            }
        };
        // Only the holder of the turn answers.
        self.0.answer.set(answer).unwrap_or_default();
    }

    /// The profile with the answer in it; `None` while there is none.
    pub(super) fn apply(&self, profile: &Profile) -> Option<Profile> {
        let answer = self.0.answer.get()?;
        let mut settled = Profile {
            legacy: None,
            ..profile.clone()
        };
        if let Some(older) = answer {
            settled.revisions = profile.revisions.iter().chain(older.revisions.iter()).collect();
            settled.capabilities = merge_capabilities(&profile.capabilities, &older.capabilities);
        }
        Some(settled)
    }
}

/// Whether a provider said that it speaks no older revision. A refused credential says nothing of that:
/// it is one caller's.
fn is_a_no(error: &Error) -> bool {
    matches!(
        error.code,
        Code::UpstreamError | Code::UpstreamProtocol | Code::UnsupportedRevision
    )
}

/// What either generation of a provider can: the older one logs, for instance, which the newer has
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
