//! Occurrences that are both counted and logged: the `emit` of each writes its line and moves its
//! metrics, so that neither is forgotten.

use tracing::{debug, info, warn};

use super::Metrics;
#[cfg(doc)]
use super::names;
pub use super::request::RequestDone;
use crate::time::rfc3339;

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
                outcome = self.outcome,
                reload.generation = self.generation,
                reload.providers = self.providers,
                reload.files = self.files,
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
        info!(provider.name = self.provider, "the provider was removed");
    }
}

/// A provider is in another state, or for another reason.
#[derive(Debug)]
pub struct ProviderChanged<'a> {
    /// Its id.
    pub provider: &'a str,
    /// Its state, as `/providers` names it.
    pub state: &'static str,
    /// Whether it serves as it should.
    pub is_well: bool,
    /// How many tools it offers.
    pub tools: usize,
    /// The code of the failure.
    pub outcome: Option<&'static str>,
    /// Everything that is known of its cause.
    pub error: Option<&'a str>,
    /// What to do.
    pub cure: Option<&'a str>,
}

impl ProviderChanged<'_> {
    /// Writes the line.
    pub fn emit(&self) {
        let (outcome, error) = (self.outcome, self.error);
        let (provider, tools, cure) = (self.provider, self.tools, self.cure);
        let state = self.state.replace('_', " ");
        if self.is_well {
            info!(
                provider.name = provider,
                outcome,
                error,
                provider.tools = tools,
                "the provider is {state}"
            );
        } else {
            warn!(
                provider.name = provider,
                outcome,
                error,
                cure,
                provider.tools = tools,
                "the provider is {state}"
            );
        }
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
    /// Number of the set that is there now.
    pub seq: Option<u64>,
    /// Until when the set that is there now serves, in unix seconds.
    pub expires_at: Option<u64>,
    /// When it is tried again, in unix seconds; `None` after a success, and when only a person can mend it.
    pub retry_at: Option<u64>,
    /// Whether the attempt before failed in the same way: then only `debug` is told.
    pub is_repeated: bool,
    /// Why not: the server's name for it, else the innermost cause.
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
        let [tenant, user, account] = self.account.map_or([None; 3], |all| all.map(Some));
        let (provider, outcome, seq) = (self.provider, self.outcome, self.seq);
        let description = self.description.filter(|text| Some(*text) != self.error);
        let (expires_at, retry_at) = (self.expires_at.map(rfc3339), self.retry_at.map(rfc3339));
        if matches!(outcome, "refreshed" | "lost_race") {
            info!(
                provider.name = provider,
                principal.tenant = tenant,
                principal.user = user,
                account.id = account,
                outcome,
                tokens.seq = seq,
                tokens.expires_at = expires_at,
                "tokens renewed"
            );
            return;
        }
        macro_rules! at {
            ($level:ident) => {
                $level!(
                    provider.name = provider,
                    principal.tenant = tenant,
                    principal.user = user,
                    account.id = account,
                    outcome,
                    error = self.error,
                    description,
                    cure = self.cure,
                    tokens.seq = seq,
                    tokens.expires_at = expires_at,
                    tokens.retry_at = retry_at,
                    "tokens could not be renewed"
                )
            };
        }
        if self.is_repeated {
            at!(debug);
        } else {
            at!(warn);
        }
    }
}
