//! Occurrences that are both counted and logged: the `emit` of each writes its line and moves its
//! metrics, so that neither is forgotten.

use std::time::Duration;

use tracing::{info, warn};

#[cfg(doc)]
use super::names;
pub use super::request::RequestDone;
use super::{Metrics, redact::without_queries};

/// The folder of descriptors was read.
#[derive(Debug)]
pub struct Reloaded {
    /// One of [`names::RELOADS`].
    pub outcome: &'static str,
    /// The generation that is loaded now.
    pub generation: u64,
    /// How many providers run.
    pub providers: usize,
    /// How many descriptor files there are.
    pub files: usize,
}

impl Reloaded {
    /// Counts the reading; one that changed what is loaded is also written.
    pub fn emit(&self, metrics: &Metrics) {
        metrics.reload(self.outcome, self.generation);
        if matches!(self.outcome, "applied" | "partial") {
            info!(
                generation = self.generation,
                providers = self.providers,
                files = self.files,
                outcome = self.outcome,
                "descriptors loaded"
            );
        }
    }
}

/// A provider was removed.
#[derive(Debug)]
pub struct ProviderRemoved<'a> {
    /// Its id.
    pub provider: &'a str,
}

impl ProviderRemoved<'_> {
    /// Drops its series and writes the line.
    pub fn emit(&self, metrics: &Metrics) {
        metrics.forget(self.provider);
        info!(provider.name = self.provider, "provider removed");
    }
}

/// Somebody's token set was to be renewed.
#[derive(Debug)]
pub struct TokenRefreshed<'a> {
    /// Whose tokens.
    pub provider: &'a str,
    /// One of [`names::REFRESHES`].
    pub outcome: &'static str,
    /// Tenant, user and name of the account; `None` of tokens that are nobody's.
    pub account: Option<[&'a str; 3]>,
    /// Which set is there now.
    pub seq: Option<u64>,
    /// Why not: the server's name for it.
    pub error: Option<&'a str>,
    /// Why not, in a sentence, without any secret.
    pub description: Option<&'a str>,
    /// What to do.
    pub cure: Option<&'a str>,
}

impl TokenRefreshed<'_> {
    /// Counts it and writes it: as a warning when there is no new set.
    pub fn emit(&self, metrics: &Metrics) {
        metrics.refreshed(self.provider, self.outcome);
        let description = self.description.map(without_queries);
        let (error, description, cure) = (self.error, description.as_deref(), self.cure);
        let [tenant, user, account] = self.account.map_or([None; 3], |all| all.map(Some));
        let (provider, outcome, seq) = (self.provider, self.outcome, self.seq);
        if matches!(outcome, "refreshed" | "lost_race") {
            info!(
                provider.name = provider,
                principal.tenant = tenant,
                principal.user = user,
                account.id = account,
                outcome,
                seq,
                "tokens renewed"
            );
        } else {
            warn!(
                provider.name = provider,
                principal.tenant = tenant,
                principal.user = user,
                account.id = account,
                outcome,
                seq,
                error,
                description,
                cure,
                "tokens could not be renewed"
            );
        }
    }
}

pub(super) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
